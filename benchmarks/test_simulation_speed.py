"""How fast this computer builds and runs the simulation, and how that falls as more is computed in each cycle.

A simulator does all the work of a cycle one after another, so a design that computes more products at once (PE x SIMD)
is simulated at fewer cycles a second. Each design runs on one core; the table at the end holds all selected cells.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from fixtures.recording import Record
from qnn.cell import Cell
from qnn.pipeline import BATCH_IMAGES, Pipeline
from qnn.results import Evidence
from qnn.tools import verilator
from qnn.tools.finn import DataflowModel

CYCLES_A_RUN = 400_000
"""Length of a run: half a second or so, and every design fills its pipeline in less than a tenth of it."""
RUNS = 5

Rows = dict[Cell, dict[str, float]]


def table(rows: Rows) -> str:
    """The designs in the order of their PE x SIMD; the last column: the whole test set on one core, build included."""
    lines = [f"\n{'design':32} PE x SIMD  cycles/s of one core  clocked  build s  10,000 images s"]
    for cell, row in sorted(rows.items(), key=lambda item: (item[1]["products"], str(item[0]))):
        whole_s = row["build_s"] + row["cycles"] / row["cycles_per_s"]
        lines.append(
            f"{cell!s:32} {row['products']:9.0f} {row['cycles_per_s']:21,.0f} {row['clocked_share']:7.0%} "
            f"{row['build_s']:8.1f} {whole_s:16.1f}"
        )
    return "\n".join(lines)


@pytest.fixture(scope="module")
def rows(request: pytest.FixtureRequest) -> Iterator[Rows]:
    """A row for each cell; printed as one table behind the last."""
    measured: Rows = {}
    yield measured
    capture = request.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        print(table(measured))


@pytest.mark.rtlsim
@pytest.mark.speed
def test_simulation_speed(
    cell: Cell,
    pipeline: Pipeline,
    dataflow: DataflowModel,
    benchmark: Any,
    record: Record,
    rows: Rows,
) -> None:
    simulator = pipeline.simulator(cell)
    frames = pipeline.images(cell).pixels[: max(2, CYCLES_A_RUN // dataflow.interval_cycles)]
    runs: list[verilator.Simulation] = []

    def run() -> None:
        runs.append(verilator.simulate(simulator, frames, output_beats=dataflow.output_beats))

    benchmark.pedantic(run, rounds=RUNS)
    assert cell.folding is not None
    metrics = {
        # The best run: whatever else the computer does can only slow it down.
        "simulated_cycles_per_host_s": max(run.cycles_per_host_s for run in runs),
        "products_per_cycle_asked": cell.folding.pe * cell.folding.simd,
        "clocked_share": runs[0].clocked_share,
        "host_verilate_s": simulator.verilate_s,
        "host_compile_s": simulator.compile_s,
    }
    benchmark.extra_info.update(metrics)
    record(Evidence.RTLSIM, **metrics)
    rows[cell] = {
        "products": metrics["products_per_cycle_asked"],
        "cycles_per_s": metrics["simulated_cycles_per_host_s"],
        "clocked_share": metrics["clocked_share"],
        "build_s": simulator.verilate_s + simulator.compile_s,
        "cycles": BATCH_IMAGES * dataflow.interval_cycles,
    }
    assert len(runs) == RUNS
    assert len({run.output.tobytes() for run in runs}) == 1
