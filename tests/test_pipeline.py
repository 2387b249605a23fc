"""How many images are simulated, and what a slice of a batch says about the whole."""

import numpy as np
import pytest

from qnn.pipeline import DeviceRun, images_to_simulate


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
