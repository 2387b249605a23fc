"""Each hop against the hop before it: Brevitas, QONNX, exact integers, FINN's graphs, FINN's RTL.

From FINN's graph down every integer is equal. Above it float32 shows: a code or threshold may differ from the exact
one only where the accumulator lies within the bound of ``qnn.thresholding``; each case is proved, counted and put
in the results. Anything else fails, naming layer, channel, accumulator, expected and got.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fixtures.recording import Record
from qnn import diff, equivalence, float_hops, integer
from qnn.cell import Cell, Thresholds
from qnn.datasets import Images
from qnn.evaluation import Evaluation
from qnn.integer import GoldenNetwork
from qnn.pipeline import DeviceRun, Pipeline
from qnn.results import Evidence, Metric
from qnn.tools.finn import HardwareModel

HARDWARE_GRAPH_IMAGES = 10


def test_brevitas_layers_equal_exact_integers(
    trained_cell: Cell,
    pipeline: Pipeline,
    evaluation: Evaluation,
    brevitas_counts: dict[str, Metric],
    reproducers: Path,
    record: Record,
) -> None:
    record(Evidence.PYTHON, **brevitas_counts)
    float_hops.require_explained(float_hops.BREVITAS, pipeline, trained_cell, evaluation.comparison, reproducers)


def test_qonnx_equals_exact_integers(
    trained_cell: Cell,
    pipeline: Pipeline,
    golden: GoldenNetwork,
    evaluation: Evaluation,
    qonnx_run: dict[str, NDArray[Any]],
    images: Images,
    reproducers: Path,
    record: Record,
) -> None:
    trace = golden.trace(images.pixels)
    codes, products = equivalence.codes_of(qonnx_run), equivalence.products_of(qonnx_run)
    comparison = equivalence.compare_forward_pass(golden, trace, codes, images.pixels, products)
    exact = integer.logits(golden.parameters, evaluation.golden_accumulators)
    equal = comparison.equal_images
    record(
        Evidence.PYTHON,
        qonnx_images=len(equal),
        qonnx_images_equal=int(equal.sum()),
        qonnx_codes_off=comparison.float32 + comparison.ties,
        qonnx_images_with_other_top1=int(np.count_nonzero(exact.argmax(axis=1) != qonnx_run["output"].argmax(axis=1))),
    )
    logits = qonnx_run["output"]
    float_hops.require_explained(float_hops.QONNX, pipeline, trained_cell, comparison, reproducers, logits)


@pytest.mark.one_folding_a_cell
def test_finn_onnx_equals_exact_integers(
    cell: Cell, pipeline: Pipeline, golden_accumulators: NDArray[np.int64], reproducers: Path, record: Record
) -> None:
    """Of what QONNX is made into before any node is moved or merged."""
    golden, pixels, run = pipeline.golden(cell), pipeline.images(cell).pixels, pipeline.converted_run(cell)
    codes, products = equivalence.codes_of(run), equivalence.scaled_products_of(run, golden)
    comparison = equivalence.compare_forward_pass(golden, golden.trace(pixels), codes, pixels, products)
    exact = integer.logits(golden.parameters, golden_accumulators)
    record(
        Evidence.PYTHON,
        finn_onnx_codes_off=comparison.float32 + comparison.ties,
        finn_onnx_images_with_other_top1=int(np.count_nonzero(exact.argmax(axis=1) != run["output"].argmax(axis=1))),
    )
    float_hops.require_explained(float_hops.FINN_ONNX, pipeline, cell, comparison, reproducers, run["output"])


def test_finn_thresholds_are_exact_or_off_by_float32(
    cell: Cell,
    pipeline: Pipeline,
    hardware_model: HardwareModel,
    golden_accumulators: NDArray[np.int64],
    hardware_accumulators: NDArray[np.int64],
    reproducers: Path,
    record: Record,
) -> None:
    golden = pipeline.golden(cell)
    with float_hops.thresholds_located(pipeline, cell, reproducers):
        comparison = equivalence.compare_models(golden, hardware_model)
    differing = equivalence.images_that_differ(golden, hardware_model, golden_accumulators, hardware_accumulators)
    record(
        Evidence.PYTHON,
        thresholds=comparison.thresholds,
        thresholds_off=comparison.float32,
        thresholds_on_ties=comparison.ties,
        accumulator_values_off=comparison.differing_accumulators,
        largest_step=comparison.largest_step,
        finn_images_with_other_accumulators=differing.accumulators,
        finn_images_with_other_top1=differing.top1,
    )
    with float_hops.thresholds_located(pipeline, cell, reproducers):
        comparison.require_explained()


def with_exact_thresholds(cells: Sequence[Cell]) -> dict[str, tuple[Cell, ...]]:
    """Each cell by itself whose thresholds are not FINN's own."""
    return {str(cell): (cell,) for cell in cells if cell.thresholds is Thresholds.EXACT}


@pytest.mark.cells(grouped=with_exact_thresholds)
def test_exact_thresholds_leave_no_difference(
    cells: tuple[Cell, ...], pipeline: Pipeline, reproducers: Path, record: Record
) -> None:
    (cell,) = cells
    golden, pixels = pipeline.golden(cell), pipeline.images(cell).pixels
    accumulators = pipeline.evaluation(cell).golden_accumulators
    before, after = pipeline.finns_own_model(cell), pipeline.hardware_model(cell)
    off, left = equivalence.compare_models(golden, before), equivalence.compare_models(golden, after)
    changed, still = (
        equivalence.images_that_differ(golden, model, accumulators, model.network.evaluate(pixels))
        for model in (before, after)
    )
    record(
        Evidence.PYTHON,
        thresholds_replaced=off.float32 + off.ties,
        images_with_other_accumulators_before=changed.accumulators,
        images_with_other_top1_before=changed.top1,
        thresholds_off=left.float32 + left.ties,
        finn_images_with_other_accumulators=still.accumulators,
        finn_images_with_other_top1=still.top1,
    )
    with float_hops.thresholds_located(pipeline, cell, reproducers):
        left.require_exact()
    assert (still.accumulators, still.top1) == (0, 0)


def test_finn_graph_equals_its_integers(
    cell: Cell,
    pipeline: Pipeline,
    hardware_model: HardwareModel,
    hardware_accumulators: NDArray[np.int64],
    graph_run: dict[str, NDArray[Any]],
    reproducers: Path,
    record: Record,
) -> None:
    """Node by node, with the factors and offsets that are left to the host."""
    logits = hardware_model.logits(hardware_accumulators)
    equal = (graph_run["output"] == logits).all(axis=1)
    record(Evidence.PYTHON, graph_images=len(equal), graph_images_equal=int(equal.sum()))
    diff.require_equal_graph(pipeline, cell, range(len(equal)), graph_run, reproducers)


@pytest.mark.one_folding_a_cell
def test_hardware_graph_equals_its_integers(cell: Cell, pipeline: Pipeline, reproducers: Path, record: Record) -> None:
    """Node by node; FINN's Python of its hardware nodes takes one image at a time."""
    images = range(HARDWARE_GRAPH_IMAGES)
    nodes, model = pipeline.graph_nodes(cell, images), pipeline.graph(cell, "hardware")
    record(Evidence.PYTHON, hardware_graph_images=len(images), hardware_graph_nodes=len(nodes))
    diff.require_equal_nodes("hardware graph", pipeline, cell, images, nodes, model, reproducers)


@pytest.mark.rtlsim
def test_rtl_equals_hardware_integers(
    cell: Cell,
    pipeline: Pipeline,
    hardware_model: HardwareModel,
    hardware_accumulators: NDArray[np.int64],
    device_run: DeviceRun,
    reproducers: Path,
    record: Record,
) -> None:
    count = len(device_run.accumulators)
    expected = hardware_accumulators[:count]
    equal = (device_run.accumulators == expected).all(axis=1)
    labels = pipeline.images(cell).labels[:count]
    top1 = hardware_model.logits(device_run.accumulators).argmax(axis=1)
    brevitas_top1 = pipeline.evaluation(cell).logits[:count].argmax(axis=1)
    record(
        Evidence.RTLSIM,
        images=count,
        images_equal=int(equal.sum()),
        rtl_top1_percent=100 * float(np.mean(top1 == labels)),
        brevitas_top1_of_these_percent=100 * float(np.mean(brevitas_top1 == labels)),
        edited_files=", ".join(device_run.edited_files),
        host_simulate_s=device_run.host_s,
    )
    diff.require_equal_rtl(pipeline, cell, expected, device_run.accumulators, reproducers)
