"""How many images are simulated, what a slice of a batch says about the whole, and which FIFOs are delivered."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from qnn.cell import Cell, Folding, Policy, Quantization
from qnn.fifos import FifoDepth
from qnn.pipeline import DeviceRun, Pipeline, images_to_simulate
from qnn.store import Store
from qnn.tools import finn


@pytest.mark.parametrize(
    ("interval_cycles", "images"),
    [(256, 10_000), (16_384, 10_000), (32_768, 10_000), (65_536, 1_000)],
    ids=["PE16-SIMD16", "PE2-SIMD2", "PE1-SIMD2", "PE1-SIMD1"],
)
def test_all_images_are_simulated_where_that_takes_two_minutes_at_most(interval_cycles: int, images: int) -> None:
    assert images_to_simulate(interval_cycles) == images
    assert images_to_simulate(interval_cycles, all_images=True) == 10_000


def test_a_batch_is_continued_from_its_first_slice_by_the_measured_interval() -> None:
    run = DeviceRun(
        accumulators=np.zeros((6, 10), np.int64),
        completions_cycles=np.array([50, 60, 70]),
        image_bytes=1,
        host_s=0.0,
        build_s=0.0,
        edited_files=(),
    )
    assert (run.latency_cycles, run.interval_cycles) == (50, 10)
    assert run.batch_completions_cycles(6).tolist() == [50, 60, 70, 80, 90, 100]
    assert run.batch_completions_cycles(2).tolist() == [50, 60]


@pytest.mark.parametrize(
    ("policy", "shallow", "depths"),
    [
        (Policy.BALANCED, {"StreamingFIFO_rtl_6": 62}, {"StreamingFIFO_rtl_6": 63}),
        (Policy.BALANCED, {}, None),
        (Policy.UNIFORM, {"StreamingFIFO_rtl_6": 62}, None),
    ],
    ids=["a FIFO slows it down", "none does", "uniform"],
)
def test_a_balanced_design_has_those_fifos_deeper_that_would_slow_it_down(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    policy: Policy,
    shallow: Mapping[str, int],
    depths: Mapping[str, int] | None,
) -> None:
    """FINN's default depth of 2 does where the gauge held so many beats, or it does not."""
    found = tuple(
        FifoDepth(name=name, producer=None, consumer=None, configured_depth=2, held_beats=beats)
        for name, beats in shallow.items()
    )
    asked: list[Mapping[str, int] | None] = []
    monkeypatch.setattr(Pipeline, "_shallow_by_default", lambda self, cell: found)

    def compile_with(self: Pipeline, cell: Cell, depths: Mapping[str, int] | None = None) -> Path:
        asked.append(depths)
        return tmp_path

    monkeypatch.setattr(Pipeline, "_dataflow", compile_with)
    monkeypatch.setattr(finn, "read_dataflow", lambda folder: folder)
    cell = Cell(quantization=Quantization.parse("A3W3"), folding=Folding(pe=8, simd=2), policy=policy)
    Pipeline(store=Store(tmp_path)).dataflow(cell)
    assert asked == [depths]
