"""A FINN release, or a checkout of FINN, laid over the environment that this runs in.

An overlay is a folder of packages that goes in front of the installed ones (PYTHONPATH): FINN itself, and what it pins
that the environment has in another version. All that is heavy (PyTorch, Verilator, Yosys) is shared. A further release
with the same pins costs the 5 MB of FINN.

    1.5.0              a finn-plus release
    path/to/finn       a checkout, of finn-plus or of Xilinx/finn, as its files are now
    path/to/finn@REF   the same at a commit, branch or tag, which need not be checked out
"""

import json
import platform
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from qnn.errors import FinnUnavailable, ToolFailed
from qnn.gate.pins import FILES, read_pins
from qnn.process import run, tail
from qnn.store import Store, digest_of, digest_of_files, digest_of_tree

__all__ = ["DISTRIBUTION", "FinnEnvironment", "environment", "releases_between"]

DISTRIBUTION = "finn-plus"
PIP_LIMIT_S = 900.0
GIT_LIMIT_S = 60.0
SHARED = {
    "brevitas": "it exports the networks, and both sides are to compile the same",
    "mip": "120 MB for FINN's partitioning over several FPGAs, which the suite never does",
    **dict.fromkeys(
        ("gspread", "ipython", "pre-commit", "pyscaffold", "setupext-janitor", "wget", "pybind11", "pytest-forked"),
        "a tool of FINN's own development",
    ),
}
"""Pins of FINN that are not followed, and why."""
INSTEAD = {"numpy==1.24.1": "numpy==1.26.4"}
"""Pins that another version is taken for: NumPy 1.24 has no numpy.exceptions, which the onnx-ir that FINN's own pin of
onnxscript brings reads on import; 1.26 is the last NumPy 1."""
_RELEASE = re.compile(r"\d+(\.\d+)+\w*")
_SOURCES = ("src/finn", "finn-rtllib", "finn_xsi", "custom_hls")
"""Of a checkout: what FINN runs from."""
_INSIDE = ("finn-rtllib", "custom_hls")
"""Of these: what finn-plus packs into its package, and finds there."""


@dataclass(frozen=True, kw_only=True)
class FinnEnvironment:
    """One FINN that can be run: `variables` in the environment of Python bring it in place of the installed one."""

    name: str
    """As it was asked for: ``1.5.0``, ``path/to/finn@main``."""
    version: str
    """What ``importlib.metadata`` says of finn-plus there; of a checkout ``0+`` and the digest of its files."""
    variables: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    """{distribution: version} that are laid over; empty for the installed FINN."""
    size_bytes: int = 0

    def __str__(self) -> str:
        return self.name if self.name == self.version else f"{self.name} ({self.version})"


def _pip(arguments: Sequence[str | Path], log: Path) -> None:
    run([sys.executable, "-m", "pip", *arguments, "--disable-pip-version-check"], timeout_s=PIP_LIMIT_S, log=log)


def _python() -> str:
    return ".".join(map(str, sys.version_info[:2]))


def _other_python(wanted: str, needed: object) -> str:
    return (
        f"{wanted} needs Python {needed} and this is Python {_python()}: make the suite's environment with such a one"
    )


def _why_pip_failed(wanted: str, log: Path) -> str:
    """One sentence of what pip wrote."""
    text = log.read_text(errors="replace")
    python = re.search(r"different python version: [^\n]*?Requires-Python ([^\s;]+)", text)
    python = python or re.search(r"requires a different Python: \S+ not in '([^']*)'", text)
    known = re.search(r"\(from versions: ([^)]*)\)", text)
    if python and (not known or known[1] == "none" or wanted.partition("==")[2] not in known[1].split(", ")):
        return _other_python(wanted, python[1])
    if known:
        return f"{wanted} does not exist; known versions: {known[1]}"
    return f"pip cannot install {wanted}; its log ends:\n{tail(log)}"


@dataclass(frozen=True)
class _Package:
    name: str
    version: str
    requires: tuple[Requirement, ...]


def _metadata(wanted: Iterable[str], folder: Path) -> list[_Package]:
    """What pip would install for these requirements alone. Raises FinnUnavailable where it would not."""
    report, log, names = folder / "report.json", folder / "pip.log", list(wanted)
    command: list[str | Path] = [
        "install",
        "--dry-run",
        "--quiet",
        "--ignore-installed",
        "--no-deps",
        "--report",
        report,
        *names,
    ]
    try:
        _pip(command, log)
    except ToolFailed:
        raise FinnUnavailable(_why_pip_failed(" ".join(names), log)) from None
    found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    return [
        _Package(
            name=canonicalize_name(item["name"]),
            version=item["version"],
            requires=tuple(map(Requirement, item.get("requires_dist", ()))),
        )
        for item in found
    ]


def _is_there(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


def _missing(requirements: Iterable[Requirement]) -> dict[str, str]:
    """{name: requirement} of those that the environment does not fulfil."""
    requirements = [Requirement(INSTEAD.get(str(one), str(one))) for one in requirements]
    return {
        canonicalize_name(one.name): f"{one.name}{one.specifier}"
        for one in requirements
        if (one.marker is None or one.marker.evaluate({"extra": ""}))
        and canonicalize_name(one.name) not in SHARED
        and not _is_there(one)
    }


def _resolve(wanted: Mapping[str, str], folder: Path) -> dict[str, str]:
    """{distribution: version} of `wanted` {name: requirement} and all they need that the environment does not have."""
    chosen: dict[str, str] = {}
    while new := {name: text for name, text in wanted.items() if name not in chosen}:
        packages = _metadata(new.values(), folder)
        chosen |= {package.name: package.version for package in packages}
        wanted = _missing(need for package in packages for need in package.requires)
    return chosen


def _install(packages: Mapping[str, str], folder: Path, log: Path) -> None:
    pins = [f"{name}=={version}" for name, version in packages.items()]
    try:
        _pip(["install", "--quiet", "--no-deps", "--no-compile", "--target", folder, *pins], log)
    except ToolFailed:
        raise FinnUnavailable(_why_pip_failed(" ".join(pins), log)) from None


def _digest(*content: object) -> str:
    """The key of an overlay: what it is made of, and what decides what is laid over: all that lies below."""
    below = sorted({f"{one['Name']}=={one['Version']}" for one in (found.metadata for found in distributions())})
    return digest_of([content, _python(), below, sorted(SHARED), INSTEAD])


def _built(folder: Path, name: str, **variables: str) -> FinnEnvironment:
    """The environment that lies in an artifact's `folder`."""
    record = json.loads((folder / "overlay.json").read_text())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return FinnEnvironment(
        name=name,
        version=record["version"],
        packages=record["packages"],
        size_bytes=size,
        variables={"PYTHONPATH": str(folder / "packages"), **variables},
    )


def _release(release: str, store: Store) -> FinnEnvironment:
    if version(DISTRIBUTION) == release:
        return FinnEnvironment(name=release, version=release)

    def build(folder: Path) -> None:
        packages = _resolve({DISTRIBUTION: f"{DISTRIBUTION}=={release}"}, folder)
        _install(packages, folder / "packages", folder / "pip.log")
        (folder / "overlay.json").write_text(json.dumps({"version": release, "packages": packages}))

    return _built(store.get_or_build("finn", _digest(release), build), release)


def _git(checkout: Path, *arguments: str | Path) -> str:
    """What git prints. Raises FinnUnavailable with what it says where it fails."""
    with tempfile.TemporaryDirectory(prefix="git-") as scratch:
        log = Path(scratch) / "log"
        try:
            run(["git", "-C", checkout, *arguments], timeout_s=GIT_LIMIT_S, log=log)
        except ToolFailed:
            command = " ".join(map(str, arguments))
            raise FinnUnavailable(f"git {command} failed in {checkout}: {tail(log)}") from None
        return log.read_text()


def _copy_sources(checkout: Path, reference: str, folder: Path) -> None:
    """The checkout's FINN -> `folder`: of a commit where `reference` names one, else as the files are."""
    if not reference:
        for name in (*_SOURCES, *FILES):
            source = checkout / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.is_file():
                shutil.copy(source, folder / name)
        return
    tree = _git(checkout, "ls-tree", "--name-only", reference).split()
    names = [name for name in (*_SOURCES, *FILES) if name.split("/")[0] in tree]
    packed = folder / "checkout.tar"
    _git(checkout, "archive", "--output", packed, reference, *names)
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    packed.unlink()


def _checkout(spec: str, store: Store) -> FinnEnvironment:
    place, _, reference = spec.rpartition("@") if "@" in spec else (spec, "", "")
    checkout = Path(place).expanduser().resolve()
    if not (checkout / ".git").exists() and not (checkout / "src" / "finn").is_dir() and not reference:
        raise FinnUnavailable(f"{place} is no checkout of FINN: there is no src/finn in it")
    if reference:
        content = _git(checkout, "rev-parse", f"{reference}^{{commit}}").strip()
    else:
        stated = [digest_of_files(checkout / name) for name in FILES if (checkout / name).is_file()]
        sources = digest_of_tree(*(checkout / name for name in _SOURCES if (checkout / name).is_dir()))
        content = digest_of([sources, stated])
    own = f"0+{content[:12]}"

    def build(folder: Path) -> None:
        copy, packages = folder / "checkout", folder / "packages"
        copy.mkdir()
        _copy_sources(checkout, reference, copy)
        if not (copy / "src" / "finn").is_dir():
            raise FinnUnavailable(f"{spec} is no checkout of FINN: there is no src/finn in it")
        pins = read_pins(copy)
        if not pins.python.contains(platform.python_version(), prereleases=True):
            raise FinnUnavailable(_other_python(spec, pins.python))
        laid = _resolve(_missing(pins.requirements), folder)
        packages.mkdir()
        if laid:
            _install(laid, packages, folder / "pip.log")
        shutil.move(copy / "src" / "finn", packages / "finn")
        # A package without __init__.py would come after the installed one that has it.
        (packages / "finn" / "__init__.py").touch()
        for name in _INSIDE:
            if (copy / name).is_dir():
                (packages / "finn" / name).symlink_to(Path("..", "..", "checkout", name))
        if (copy / "finn_xsi").is_dir():
            inner = copy / "finn_xsi" / "finn_xsi"
            shutil.copytree(inner if inner.is_dir() else copy / "finn_xsi", packages / "finn_xsi")
        told = packages / f"finn_plus-{own}.dist-info"
        told.mkdir()
        (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {own}\n")
        record = {"version": own, "packages": {"finn": own, **laid}}
        (folder / "overlay.json").write_text(json.dumps(record))

    folder = store.get_or_build("finn", _digest(content), build)
    return _built(folder, spec, FINN_ROOT=str(folder / "checkout"))


def environment(spec: str, store: Store) -> FinnEnvironment:
    """The FINN that `spec` names (see the module), made where it is not there yet; overlays are kept in the store.

    Raises FinnUnavailable where it does not exist or cannot be installed here.
    """
    return _release(spec, store) if _RELEASE.fullmatch(spec) else _checkout(spec, store)


def releases_between(good: str, bad: str, folder: Path) -> list[str]:
    """FINN's releases, or the commits of one checkout, from `good` to `bad`, both included, the oldest first.

    Raises FinnUnavailable where they are not of one kind or not in this order. pip's log is written into `folder`.
    """
    if _RELEASE.fullmatch(good) and _RELEASE.fullmatch(bad):
        log = folder / "pip.log"
        _pip(["index", "versions", DISTRIBUTION], log)
        found = re.search(r"Available versions: (.*)", log.read_text())
        known = sorted((found[1].split(", ") if found else []), key=Version)
        for one in (good, bad):
            if one not in known:
                raise FinnUnavailable(f"{DISTRIBUTION} {one} does not exist; known releases: {', '.join(known)}")
        between = [one for one in known if Version(good) <= Version(one) <= Version(bad)]
    else:
        (place, _, first), (other, _, last) = good.rpartition("@"), bad.rpartition("@")
        if not place or place != other:
            raise FinnUnavailable("bisecting takes two releases, or two commits of one checkout: PATH@GOOD PATH@BAD")
        checkout = Path(place).expanduser()
        commits = _git(checkout, "rev-list", "--first-parent", "--reverse", f"{first}..{last}").split()
        start = _git(checkout, "rev-parse", first).strip()
        between = [f"{place}@{commit}" for commit in (start, *commits)]
    if len(between) < 2:
        raise FinnUnavailable(f"{good} does not come before {bad}")
    return between
