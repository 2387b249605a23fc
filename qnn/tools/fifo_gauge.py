"""FINN's FIFO gauge in Verilator: how many beats each FIFO holds, and how fast a design is with other depths.

One program serves both. The gauge is unbounded unless a run gives it a capacity, so that depths can be tried without
building anything anew. A bounded gauge is a model of FINN's FIFO, one cycle faster than it; what a sized design really
does is told by simulating that design. The program is compiled without optimisation, since its runs are short: flow
control does not depend on the data, and it is periodic after a few frames.
"""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qnn import fifos
from qnn.errors import SimulationError
from qnn.hdl import HardwareDesign
from qnn.process import run
from qnn.tools import verilator
from qnn.tools.verilator import Simulator

__all__ = ["DRIVER", "Gauge", "GaugeRun", "build", "check", "parse_run"]

DRIVER = Path(__file__).with_name("fifo_gauge.cpp")

FIRST_FRAMES = 4
LAST_FRAMES = 64
"""Frames after which a design that is still not periodic is given up."""
TRIED_FRAMES = 16
"""Frames that tell how fast a design with bounded FIFOs is."""
_STALL_INTERVALS = 20
_STALL_CYCLES = 1000


@dataclass(frozen=True, kw_only=True)
class GaugeRun:
    """What a run of the gauged design told."""

    completions_cycles: tuple[int, ...]
    """As in verilator.Simulation; in a deadlock, of the frames that were done."""
    held_beats: Mapping[str, int]
    """{FIFO: the most beats that it held}."""
    refusing: tuple[str, ...]
    """FIFOs that were full at the end while a beat waited in front of them, in the order of the stream."""
    deadlock: bool

    @property
    def interval_cycles(self) -> float | None:
        """Mean distance of the completions in the last half of the run; None in a deadlock or for too few frames."""
        if self.deadlock or len(self.completions_cycles) < 4:
            return None
        last = self.completions_cycles[len(self.completions_cycles) // 2 :]
        return (last[-1] - last[0]) / (len(last) - 1)


def check(design: HardwareDesign) -> dict[str, str]:
    """Whether Verilator takes a gauged design: see verilator.check()."""
    return verilator.check(design, macros=(fifos.FINN_SIMULATION,))


def build(
    design: HardwareDesign,
    folder: Path,
    *,
    library: Path | None = None,
    jobs: int | None = None,
    timeout_s: float = 1200,
) -> Simulator:
    """The program of a `design` that fifos.gauged() made, which Verilator has to take as it is, in an empty `folder`.

    The other arguments are those of verilator.build(), and so is what is raised.
    """
    return verilator.build(
        design,
        folder,
        driver=DRIVER,
        macros=(fifos.FINN_SIMULATION,),
        brief=True,
        library=library,
        jobs=jobs,
        timeout_s=timeout_s,
    )


def parse_run(text: str) -> GaugeRun:
    """What fifo_gauge.cpp and the FIFOs printed. Raises SimulationError where it is not whole."""
    told = re.findall(r"^fifo (\w+) held (\d+) refuses ([01])$", text, re.MULTILINE)
    last = re.search(r"^run (\{.*\})$", text, re.MULTILINE)
    if last is None or not told:
        raise SimulationError(f"the FIFO gauge's output is not whole; it ends: {text[-200:]!r}")
    record = json.loads(last[1])
    return GaugeRun(
        completions_cycles=tuple(record["completions_cycles"]),
        held_beats={name: int(held) for name, held, _ in told},
        refusing=tuple(sorted((name for name, _, refuses in told if refuses == "1"), key=_number)),
        deadlock=record["deadlock"],
    )


def _number(name: str) -> int:
    """FINN numbers its FIFOs in the order of the stream: StreamingFIFO_rtl_<number>."""
    return int(re.findall(r"\d+", name)[-1])


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """A design that build() made into a program, the shape of its frames, and the interval that it is meant to keep."""

    simulator: Simulator
    input_beats: int
    """Of one frame."""
    output_beats: int
    """Of one frame."""
    interval_cycles: int

    def run(
        self,
        frames: int,
        *,
        offered_each_cycles: int,
        capacities_beats: Mapping[str, int] | None = None,
        timeout_s: float = 600,
    ) -> GaugeRun:
        """Stream `frames` of noise, one offered each `offered_each_cycles` (0: as fast as they are taken).

        FIFOs that are not named in `capacities_beats` are unbounded. A deadlock is a result here; it is found after
        twenty intervals without a beat. Raises ToolFailed, ToolTimeout, SimulationError.
        """
        stall_limit_cycles = _STALL_INTERVALS * max(self.interval_cycles, offered_each_cycles) + _STALL_CYCLES
        numbers = (self.input_beats, self.output_beats, frames, offered_each_cycles, stall_limit_cycles)
        capacities = [f"+{name}={beats}" for name, beats in (capacities_beats or {}).items()]
        with tempfile.TemporaryDirectory(prefix="gauge-") as folder:
            log = Path(folder) / "log"
            argv: list[str | Path] = [self.simulator.program, *map(str, numbers), *capacities]
            run(argv, timeout_s=timeout_s, log=log, cwd=self.simulator.folder)
            return parse_run(log.read_text())

    def measure(self) -> GaugeRun:
        """Unbounded, a frame offered each interval, until nothing changes any more.

        The number of frames is doubled until that leaves every maximum as it was and the last half of all frames are
        done an interval apart. Raises SimulationError where it never does, naming what piles up: then the design does
        not keep the interval, whatever its FIFOs hold.
        """
        before, growing = None, list[str]()
        frames = FIRST_FRAMES
        while frames <= LAST_FRAMES:
            now = self.run(frames, offered_each_cycles=self.interval_cycles)
            steady = set(np.diff(now.completions_cycles[frames // 2 :])) == {self.interval_cycles}
            if before is not None:
                growing = [name for name in now.held_beats if now.held_beats[name] > before.held_beats[name]]
                if steady and not growing:
                    return now
            frames, before = 2 * frames, now
        raise SimulationError(
            f"with a frame every {self.interval_cycles:,} cycles the accelerator is not periodic after {LAST_FRAMES} "
            f"frames; beats pile up in {', '.join(growing) or 'no FIFO'}"
        )

    def keeps_up(self, depths: Mapping[str, int]) -> bool:
        """Whether FIFOs of these `depths` keep the interval when input is offered as fast as it is taken."""
        capacities = {name: fifos.capacity_beats(depth) for name, depth in depths.items()}
        interval = self.run(TRIED_FRAMES, offered_each_cycles=0, capacities_beats=capacities).interval_cycles
        return interval is not None and interval <= self.interval_cycles
