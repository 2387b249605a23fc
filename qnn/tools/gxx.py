"""g++: finds it and compiles several C++ files, in parallel, into one program."""

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from qnn.errors import ToolFailed, ToolMissing
from qnn.process import run

__all__ = ["Unit", "available", "build", "compile_units", "cores", "find", "parse_version", "version"]

STANDARD = "-std=c++20"
"""Verilator's generated code asks for C++20 in its newest releases."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One C++ file and the options it is compiled with; a header (``.h``) is precompiled.

    With ``-include header`` a unit of the same flags need not parse the header. A unit with other flags must not
    include it: g++ 12 takes what was made for -O1 with -O2 too, and breaks down.
    """

    source: Path
    flags: tuple[str, ...] = ()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find(path: str | None = None) -> Path:
    """The g++ on `path` (a search path; by default the environment's PATH). Raises ToolMissing."""
    search = os.environ.get("PATH", os.defpath) if path is None else path
    found = shutil.which("g++", path=search)
    if found is None:
        raise ToolMissing(
            f"g++ was not found on the search path ({search or 'which is empty'}): install a C++ compiler, "
            "for example with `apt install g++` or `dnf install gcc-c++`"
        )
    return Path(found)


def available() -> bool:
    """Whether a g++ is installed."""
    try:
        find()
    except ToolMissing:
        return False
    return True


def parse_version(text: str) -> str:
    """The release number in what ``g++ --version`` prints. Raises ToolFailed when there is none.

    The vendor's text in parentheses may hold numbers too, so the last one of the first line counts.
    """
    first = text.strip().partition("\n")[0]
    numbers = re.findall(r"\d+\.\d+(?:\.\d+)?", re.sub(r"\([^()]*\)", "", first))
    if not numbers:
        raise ToolFailed(f"g++ --version does not start with a release number but with {first!r}")
    return str(numbers[-1])


@cache
def _version(compiler: Path, timeout_s: float) -> str:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        return parse_version(run([compiler, "--version"], timeout_s=timeout_s, log=log).log.read_text())


def version(*, timeout_s: float = 30) -> str:
    """The release of the installed g++, such as ``12.2.0``. Raises ToolMissing, ToolFailed, ToolTimeout."""
    return _version(find(), timeout_s)


def compile_units(
    units: Sequence[Unit],
    folder: Path,
    *,
    include: Sequence[Path] = (),
    jobs: int | None = None,
    timeout_s: float = 600,
) -> list[Path]:
    """Compile `units` in their order, `jobs` at a time (by default one for each core): the object files.

    They and logs are put in `folder` under the units' names; a precompiled header is found where its header lies there
    too. `timeout_s` holds for each call of g++. At the first
    file that fails no further one is begun. Raises ToolMissing, ToolFailed, ToolTimeout.
    """
    compiler = find()
    # Without the second, __FILE__ would put the build folder's path into the program.
    paths = [*(f"-I{path}" for path in include), f"-ffile-prefix-map={folder}=."]

    def compile_unit(unit: Unit) -> Path:
        header = unit.source.suffix == ".h"
        kind, suffix = (("-x", "c++-header"), ".h.gch") if header else (("-c",), ".o")
        target = folder / f"{unit.source.stem}{suffix}"
        run(
            [compiler, STANDARD, *unit.flags, *paths, *kind, str(unit.source), "-o", str(target)],
            timeout_s=timeout_s,
            log=folder / f"{unit.source.stem}.log",
        )
        return target

    with ThreadPoolExecutor(jobs or cores()) as pool:
        pending = [pool.submit(compile_unit, unit) for unit in units]
        try:
            for future in as_completed(pending):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in pending]


def build(
    units: Sequence[Unit],
    program: Path,
    *,
    objects: Sequence[Path] = (),
    include: Sequence[Path] = (),
    link_flags: Sequence[str] = (),
    jobs: int | None = None,
    timeout_s: float = 600,
) -> None:
    """Compile `units` as compile_units() does, in `program`'s folder, and link them and `objects` into `program`."""
    compiled = compile_units(units, program.parent, include=include, jobs=jobs, timeout_s=timeout_s)
    run(
        [find(), *compiled, *objects, *link_flags, "-o", program, "-pthread", "-latomic"],
        timeout_s=timeout_s,
        log=program.parent / f"{program.name}.link.log",
    )
