"""Throughput and latency on the accelerator's own clock, a batch of 10,000 images as in the study.

pytest-benchmark's OPS is mean images a second of the simulated board. The paper's figure for the cell is put beside
it as it was printed: the raw ratio, nothing fitted in between.
"""

from typing import Any

import numpy as np
import pytest

from fixtures.clock import DeviceClock
from fixtures.recording import Record
from qnn import estimate, reference
from qnn.cell import Cell
from qnn.pipeline import BATCH_IMAGES, DeviceRun, Pipeline
from qnn.results import Evidence, Metric
from qnn.tools.finn import DataflowModel


@pytest.mark.rtlsim
def test_simulated_interval_is_the_one_the_folding_gives(
    dataflow: DataflowModel, device_run: DeviceRun, record: Record
) -> None:
    expected = estimate.initiation_interval_cycles(dataflow.foldings)
    record(
        Evidence.RTLSIM,
        initiation_interval_cycles=device_run.interval_cycles,
        expected_interval_cycles=expected,
        finn_interval_cycles=dataflow.interval_cycles,
    )
    assert device_run.interval_cycles == expected == dataflow.interval_cycles


@pytest.mark.rtlsim
def test_throughput(
    cell: Cell,
    pipeline: Pipeline,
    device_run: DeviceRun,
    device_clock: DeviceClock,
    benchmark: Any,
    record: Record,
) -> None:
    completions = device_run.batch_completions_cycles(BATCH_IMAGES)
    frame_times_s = np.diff(completions, prepend=0) * pipeline.clock_period_ns / 1e9
    device_clock.measure(benchmark, frame_times_s.tolist())
    images_per_s = BATCH_IMAGES / float(frame_times_s.sum())
    paper = reference.paper_throughput_images_per_s(cell)
    metrics: dict[str, Metric] = {
        "throughput_images_per_s": images_per_s,
        "latency_cycles": device_run.latency_cycles,
        "latency_us": device_run.latency_cycles * pipeline.clock_period_ns / 1e3,
        "initiation_interval_cycles": device_run.interval_cycles,
        "dram_in_megabytes_per_s": estimate.megabytes_per_s(images_per_s, bytes_per_image=device_run.image_bytes),
        "simulated_images": len(device_run.completions_cycles),
        "extrapolated": len(device_run.completions_cycles) < BATCH_IMAGES,
        "paper_images_per_s": paper,
        "ratio_to_paper": None if paper is None else images_per_s / paper,
        "host_simulate_s": device_run.host_s,
        "host_build_simulator_s": device_run.build_s,
    }
    benchmark.extra_info.update(metrics)
    record(Evidence.RTLSIM, **metrics)
    ideal = estimate.throughput_images_per_s(device_run.interval_cycles, pipeline.clock_period_ns)
    assert 0.99 * ideal < images_per_s < ideal
