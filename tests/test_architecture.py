"""The layout shows the architecture: who may import whom, and that the library stands without pytest."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "qnn"

LAYERS = [
    ["errors", "files", "versions", "preflight", "markup"],
    ["process", "cell", "parameters", "hdl", "results", "resources", "dsp", "growth", "pareto", "confusion"],
    ["reference", "estimate", "thresholding", "store", "edits", "fifos", "report"],
    ["datasets", "integer", "paper", "costs"],
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
    ["dataflow"],
    ["tools"],
    ["equivalence"],
    ["evaluation"],
    ["pipeline"],
    ["ahead", "search"],
    ["cli"],
    ["__main__"],
]
"""Modules of qnn/, lowest first: each imports only from rows above it, or from its own package."""

CONFINED = {
    "finn": {"dataflow"},
    "qonnx": {"dataflow"},
    "brevitas": {"networks", "export"},
    "torch": {"networks", "training", "checkpoints", "export", "inference", "batched", "shard", "sweep"},
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
    "subprocess": {"process", "preflight", "tools", "dataflow"},
}
"""Where a package may be imported.

subprocess, in tools: a simulator that answers requests has to stay running; in dataflow: the error of FINN's own
processes is caught.
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


def test_dataflow_runs_in_any_finns_environment() -> None:
    """The standard library, numpy, onnx, qonnx and finn, and modules of the suite that need no more."""
    allowed = {*sys.stdlib_module_names, "numpy", "onnx", "qonnx", "finn"}
    for path in (PACKAGE / "dataflow").glob("*.py"):
        for name in _imports(path):
            parts = name.split(".")
            assert parts[0] in allowed or parts[:2] in (["qnn", "cell"], ["qnn", "errors"], ["qnn", "dataflow"]), name
