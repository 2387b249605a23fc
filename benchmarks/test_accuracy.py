"""Top-1 accuracy on the 10,000 test images: the trained network, and the integers that it stands for."""

import numpy as np

from fixtures.recording import Record
from qnn import integer, reference
from qnn.cell import Cell
from qnn.datasets import Images
from qnn.integer import GoldenNetwork
from qnn.pipeline import BrevitasRun
from qnn.results import Evidence


def test_brevitas_network_reaches_its_floor(
    trained_cell: Cell, brevitas_run: BrevitasRun, images: Images, record: Record
) -> None:
    top1_percent = 100 * float(np.mean(brevitas_run.logits.argmax(axis=1) == images.labels))
    floor_percent = reference.accuracy_floor_percent(trained_cell)
    record(Evidence.PYTHON, brevitas_top1_percent=top1_percent, floor_percent=floor_percent)
    assert top1_percent >= floor_percent


def test_integer_network_reaches_the_floor(
    trained_cell: Cell, golden: GoldenNetwork, images: Images, record: Record
) -> None:
    logits = integer.logits(golden.parameters, golden.evaluate(images.pixels))
    top1_percent = 100 * float(np.mean(logits.argmax(axis=1) == images.labels))
    floor_percent = reference.accuracy_floor_percent(trained_cell)
    record(Evidence.PYTHON, golden_top1_percent=top1_percent, floor_percent=floor_percent)
    assert top1_percent >= floor_percent
