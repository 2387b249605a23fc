"""How fast this computer builds and runs the simulation, and how that falls as more is computed in each cycle.

A simulator does all the work of a cycle one after another, so a design that computes more products at once (PE x SIMD)
is simulated at fewer cycles a second. Each design runs on one core; the table at the end holds all selected cells.

FINN steps its simulations from Python, by its SimEngine: the same design is stepped so too, for comparison.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.recording import Record
from qnn.cell import Cell
from qnn.pipeline import BATCH_IMAGES, Pipeline
from qnn.results import Evidence
from qnn.tools import finn, verilator
from qnn.tools.finn import DataflowModel

CYCLES_A_RUN = 400_000
"""Length of a run: half a second or so, and every design fills its pipeline in less than a tenth of it."""
RUNS = 5
STEPPED_CYCLES = 20_000
"""Length of a run that is stepped from Python."""

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


def engine_table(rows: Rows) -> str:
    """Cycles a second of one core: FINN's engine in Python, the same streams by the library's loop, the suite's own."""
    lines = [f"\n{'design':32} FINN's SimEngine  its streams in C++  the suite's loop  ratio"]
    for cell, row in sorted(rows.items(), key=lambda item: str(item[0])):
        lines.append(
            f"{cell!s:32} {row['engine']:16,.0f} {row['loop']:19,.0f} {row['own']:17,.0f} "
            f"{row['own'] / row['engine']:6.0f}"
        )
    return "\n".join(lines)


def _show(request: pytest.FixtureRequest, text: str) -> None:
    capture = request.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        print(text)


@pytest.fixture(scope="module")
def rows(request: pytest.FixtureRequest) -> Iterator[Rows]:
    """A row for each cell; printed as one table behind the last."""
    measured: Rows = {}
    yield measured
    _show(request, table(measured))


@pytest.fixture(scope="module")
def engine_rows(request: pytest.FixtureRequest) -> Iterator[Rows]:
    """The same for FINN's engine."""
    measured: Rows = {}
    yield measured
    _show(request, engine_table(measured))


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


@pytest.mark.rtlsim
@pytest.mark.speed
def test_finns_engine_gives_the_same_at_its_own_speed(
    cell: Cell, pipeline: Pipeline, dataflow: DataflowModel, record: Record, engine_rows: Rows, tmp_path: Path
) -> None:
    simulator, interval = pipeline.simulator(cell), dataflow.interval_cycles
    frames = pipeline.images(cell).pixels[: max(2, CYCLES_A_RUN // interval)]
    stepped = frames[: max(2, STEPPED_CYCLES // interval)]
    own = verilator.simulate(simulator, frames, output_beats=dataflow.output_beats)
    engine, loop = finn.step(
        pipeline.stepped_library(cell),
        stepped,
        input_bytes=simulator.input_bytes,
        output_beats=dataflow.output_beats,
        folder=tmp_path,
    )
    metrics = {
        "engine_cycles_per_host_s": engine.cycles_per_host_s,
        "library_cycles_per_host_s": loop.cycles_per_host_s,
        "simulated_cycles_per_host_s": own.cycles_per_host_s,
    }
    record(Evidence.RTLSIM, **metrics)
    engine_rows[cell] = dict(zip(("engine", "loop", "own"), metrics.values(), strict=True))
    expected = [int.from_bytes(beat.tobytes(), "little") for frame in own.output[: len(stepped)] for beat in frame]
    assert list(engine.output) == expected
    assert list(loop.output) == expected
    assert engine.cycles == loop.cycles
