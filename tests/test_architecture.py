"""The layout shows the architecture: who may import whom, and that the library stands without pytest."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "qnn"

LAYERS = [
    ["errors", "files", "versions", "preflight", "markup", "reproduce"],
    ["process", "cell", "parameters", "hdl", "results", "resources", "dsp", "growth", "pareto", "confusion"],
    ["directed"],
    ["reference", "estimate", "thresholding", "store", "edits", "fifos", "report"],
    ["datasets", "integer", "paper", "costs", "own_model"],
    ["networks"],
    ["training", "export", "inference", "batched"],
    ["checkpoints", "shard"],
    ["sweep", "shipping", "histories"],
    ["figures", "claims", "accuracy"],
    ["compromise"],
    ["hardware"],
    ["hardware_figures"],
    ["hardware_page"],
    ["page"],
    ["tools"],
    ["dataflow"],
    ["equivalence", "divergence"],
    ["nodes"],
    ["evaluation"],
    ["pipeline"],
    ["reproducer", "own_pipeline", "resource_figures"],
    ["ahead", "search", "float_hops", "doctor"],
    ["diff"],
    ["own_hops", "gate"],
    ["cli"],
    ["__main__"],
]
"""Modules of qnn/, lowest first: each imports only from rows above it, or from its own package."""

CONFINED = {
    "finn": {"dataflow", "reproduce"},
    "finn_xsi": {"dataflow"},
    "qonnx": {"dataflow", "reproduce"},
    "brevitas": {"networks", "export", "reproduce"},
    "torch": {"networks", "training", "checkpoints", "export", "inference", "batched", "shard", "sweep", "reproduce"},
    "torchvision": {"datasets"},
    "pooch": {"datasets"},
    "safetensors": {"checkpoints"},
    "pyosys": {"tools"},
    "pandas": {
        *("report", "histories", "claims", "accuracy", "compromise", "figures", "page"),
        *("hardware", "hardware_figures", "hardware_page"),
    },
    "matplotlib": {"figures", "page", "hardware_figures", "hardware_page"},
    "scipy": {"claims", "compromise", "figures"},
    "filelock": {"store"},
    "pytest": set(),
    "subprocess": {"process", "preflight", "tools", "dataflow", "reproduce"},
}
"""Where a package may be imported.

subprocess, in tools: a simulator that answers requests has to stay running, and so has the process that imports FINN;
in dataflow: the error of FINN's own processes is caught; reproduce is a script that stands alone.
"""


def _modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        if relative.name != "__init__.py" or len(relative.parts) > 1:
            yield relative.with_suffix("").parts[0], path


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _row(module: str) -> int:
    return next(k for k, row in enumerate(LAYERS) if module in row)


def test_every_module_has_its_place() -> None:
    assert {module for module, _ in _modules()} == {module for row in LAYERS for module in row}


@pytest.mark.parametrize(("module", "path"), [pytest.param(m, p, id=str(p.relative_to(ROOT))) for m, p in _modules()])
def test_a_module_imports_only_from_rows_above_it(module: str, path: Path) -> None:
    known = {name for row in LAYERS for name in row}
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "qnn" and len(parts) > 1 and parts[1] in known and parts[1] != module:
            assert _row(parts[1]) < _row(module), f"{path.name} imports {name}"


@pytest.mark.parametrize("package", CONFINED)
def test_a_package_is_imported_only_where_it_belongs(package: str) -> None:
    found = {module for module, path in _modules() for name in _imports(path) if name.split(".")[0] == package}
    assert found <= CONFINED[package]


SHARED = {
    *("errors", "cell", "process", "hdl", "edits"),
    *("tools.verilator", "tools.gxx", "tools.library"),
}
"""Modules that qnn.dataflow may import: they need the standard library and numpy alone."""


def test_dataflow_runs_in_any_finns_environment() -> None:
    """The standard library, numpy, onnx, qonnx and finn, and modules of the suite that need no more."""
    allowed = {*sys.stdlib_module_names, "numpy", "onnx", "qonnx", "finn", "finn_xsi"}
    for path in (PACKAGE / "dataflow").glob("*.py"):
        assert not _strangers(path, allowed, {"dataflow", *SHARED}), path.name


def test_what_dataflow_shares_needs_the_standard_library_and_numpy_alone() -> None:
    for module in SHARED:
        path = PACKAGE / f"{module.replace('.', '/')}.py"
        assert not _strangers(path, {*sys.stdlib_module_names, "numpy"}, SHARED), path.name


def test_a_foreign_import_of_a_shared_module_is_seen() -> None:
    assert _strangers(PACKAGE / "tools" / "finn.py", {*sys.stdlib_module_names, "numpy"}, SHARED) >= {"qnn.costs"}


def _strangers(path: Path, packages: set[str], modules: set[str]) -> set[str]:
    """What a file imports beside `packages` and `modules` of qnn."""
    strangers = set()
    for name in _imports(path):
        if name.partition(".")[0] in packages or name in ("qnn", "qnn.tools"):
            continue
        if not any(f"{name}.".startswith(f"qnn.{module}.") for module in modules):
            strangers.add(name)
    return strangers
