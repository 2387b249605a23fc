"""How fast this computer builds and runs the simulation: host seconds and simulated cycles per second on one core."""

from pathlib import Path
from typing import Any

import pytest

from fixtures.recording import Record
from qnn.cell import Cell
from qnn.edits import accept
from qnn.hdl import HardwareDesign
from qnn.pipeline import Pipeline
from qnn.results import Evidence
from qnn.tools import verilator
from qnn.tools.finn import DataflowModel

CYCLES_A_RUN = 400_000
"""Length of a run: a second or so, and every design fills its pipeline in less than a hundredth of it."""
RUNS = 10


@pytest.mark.rtlsim
@pytest.mark.speed
def test_simulation_speed(
    cell: Cell,
    pipeline: Pipeline,
    design: HardwareDesign,
    dataflow: DataflowModel,
    tmp_path: Path,
    benchmark: Any,
    record: Record,
    capsys: pytest.CaptureFixture[str],
) -> None:
    accepted = accept(design, "verilator", verilator.check)
    simulator = verilator.build(accepted.design, tmp_path / "simulator")
    frames = pipeline.images(cell).pixels[: max(1, CYCLES_A_RUN // dataflow.interval_cycles)]
    speeds: list[float] = []

    def run() -> None:
        simulation = verilator.simulate(simulator, frames, output_beats=dataflow.output_beats)
        speeds.append(simulation.cycles_per_host_s)

    benchmark.pedantic(run, rounds=RUNS)
    metrics = {
        # The best run: whatever else the computer does can only slow it down.
        "simulated_cycles_per_host_s": max(speeds),
        "host_verilate_s": simulator.verilate_s,
        "host_compile_s": simulator.compile_s,
    }
    benchmark.extra_info.update(metrics)
    record(Evidence.RTLSIM, **metrics)
    with capsys.disabled():
        print(
            f"\n{max(speeds):,.0f} simulated cycles a second on one core; "
            f"Verilator {simulator.verilate_s:.1f} s, g++ {simulator.compile_s:.1f} s"
        )
    assert len(speeds) == RUNS
