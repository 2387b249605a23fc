"""Top-1 accuracy on the 10,000 test images: the trained network, and the integers that it stands for.

Where the two differ, float32 did it, and each case is shown: the image holds a code that lies next to the boundary of
its activation (``qnn.thresholding``), or its codes are all equal and its logits are no further from the exact ones than
float32 sums can be. That is asserted of every image, whether or not its top-1 changes.
"""

import numpy as np
from numpy.typing import NDArray

from fixtures.recording import Record
from qnn import equivalence, integer, paper, reference
from qnn.cell import Cell
from qnn.datasets import Images
from qnn.evaluation import Evaluation
from qnn.integer import GoldenNetwork
from qnn.results import Evidence, Metric


def _top1_percent(logits: NDArray[np.float32] | NDArray[np.float64], images: Images) -> float:
    return 100 * float(np.mean(logits.argmax(axis=1) == images.labels))


def test_brevitas_network_reaches_its_floor(
    trained_cell: Cell, evaluation: Evaluation, images: Images, record: Record
) -> None:
    top1_percent = _top1_percent(evaluation.logits, images)
    floor_percent = reference.accuracy_floor_percent(trained_cell)
    paper_percent = paper.accuracy_percent(trained_cell)
    record(
        Evidence.PYTHON,
        brevitas_top1_percent=top1_percent,
        floor_percent=floor_percent,
        paper_best_top1_percent=paper_percent,
    )
    assert top1_percent >= floor_percent


def test_integer_network_reaches_the_floor(
    trained_cell: Cell, golden: GoldenNetwork, evaluation: Evaluation, images: Images, record: Record
) -> None:
    top1_percent = _top1_percent(_golden_logits(golden, evaluation), images)
    floor_percent = reference.accuracy_floor_percent(trained_cell)
    record(Evidence.PYTHON, golden_top1_percent=top1_percent, floor_percent=floor_percent)
    assert top1_percent >= floor_percent


def test_they_differ_on_float32_boundary_cases_alone(
    golden: GoldenNetwork, evaluation: Evaluation, brevitas_counts: dict[str, Metric], record: Record
) -> None:
    exact, comparison = _golden_logits(golden, evaluation), evaluation.comparison
    other_top1 = exact.argmax(axis=1) != evaluation.logits.argmax(axis=1)
    record(Evidence.PYTHON, images_with_other_top1=int(other_top1.sum()), **brevitas_counts)
    comparison.require_explained("Brevitas")
    # On Brevitas' own codes; these are the golden ones but where a boundary code was just explained.
    equivalence.require_close_logits(golden, comparison.last_accumulators, evaluation.logits, "Brevitas")


def _golden_logits(golden: GoldenNetwork, evaluation: Evaluation) -> NDArray[np.float64]:
    return integer.logits(golden.parameters, evaluation.golden_accumulators)
