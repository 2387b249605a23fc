"""What is kept of an evaluation answers all that the evaluation itself does, and is judged anew when it is read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qnn import datasets, evaluation, integer, reference
from qnn.cell import Cell, Quantization
from qnn.checkpoints import load
from qnn.equivalence import SumsComparison
from qnn.errors import EquivalenceError
from qnn.evaluation import Evaluation
from qnn.integer import GoldenNetwork
from qnn.thresholding import compare_codes

# Float32 puts a few codes of this network on the other side of a boundary.
CELL = Cell(quantization=Quantization.parse("A8W8"))


@pytest.fixture(scope="module")
def golden() -> GoldenNetwork:
    parameters = load(reference.shipped_checkpoint(CELL)).parameters
    assert parameters is not None
    return integer.golden(parameters)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return datasets.load(CELL.dataset, "test").pixels


@pytest.fixture(scope="module")
def made(golden: GoldenNetwork, pixels: np.ndarray) -> Evaluation:
    return evaluation.evaluate(load(reference.shipped_checkpoint(CELL)).network, golden, pixels)


def stored(made: Evaluation, golden: GoldenNetwork, folder: Path) -> Evaluation:
    evaluation.save(made, folder / "evaluation.npz")
    return evaluation.load(folder / "evaluation.npz", golden)


def test_it_is_of_both_models(made: Evaluation, golden: GoldenNetwork, pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(made.golden_accumulators, golden.evaluate(pixels))
    assert made.logits.shape == (len(pixels), 10)
    assert made.comparison.compared == len(pixels) * (1024 + 3 * 64)


def test_what_is_read_is_what_was_made(made: Evaluation, golden: GoldenNetwork, tmp_path: Path) -> None:
    read = stored(made, golden, tmp_path)
    np.testing.assert_array_equal(read.logits, made.logits)
    np.testing.assert_array_equal(read.golden_accumulators, made.golden_accumulators)
    ours, theirs = made.comparison, read.comparison
    assert ours.float32 + ours.ties > 0, "the example has to have codes that are not the exact ones"
    assert (theirs.compared, theirs.float32, theirs.ties) == (ours.compared, ours.float32, ours.ties)
    assert theirs.largest_sum_error == ours.largest_sum_error
    np.testing.assert_array_equal(theirs.equal_images, ours.equal_images)
    np.testing.assert_array_equal(theirs.last_accumulators, ours.last_accumulators)
    differences = [[list(map(str, activation.differences())) for activation in of.activations] for of in (ours, theirs)]
    assert differences[0] == differences[1]
    theirs.require_explained("Brevitas")


def test_a_wrong_code_is_still_named_after_reading(made: Evaluation, golden: GoldenNetwork, tmp_path: Path) -> None:
    exact = golden.exact[2]
    accumulators = exact.minimum[None, :]
    codes = exact.codes(accumulators)
    codes[0, 5] += 1
    wrong = compare_codes(exact, accumulators, codes, accumulators.astype(np.float64))
    activations = (*made.comparison.activations[:2], wrong, *made.comparison.activations[3:])
    images = (*made.comparison.images[:2], np.array([4711]), *made.comparison.images[3:])
    comparison = replace(made.comparison, activations=activations, images=images)
    read = stored(replace(made, comparison=comparison), golden, tmp_path)
    with pytest.raises(EquivalenceError, match=r"Brevitas, activation 2, first image 4711: 1 of .*\n  channel 5"):
        read.comparison.require_explained("Brevitas")


def test_a_wrong_sum_is_still_named_after_reading(made: Evaluation, golden: GoldenNetwork, tmp_path: Path) -> None:
    layer = SumsComparison.of(np.array([[1.0, 7.5]]), np.array([[1, 7]]), np.array([[0.1, 0.1]]))
    sums = (*made.comparison.sums[:-1], layer)
    read = stored(replace(made, comparison=replace(made.comparison, sums=sums)), golden, tmp_path)
    with pytest.raises(EquivalenceError, match=r"layer 3: 1 of 2 sums .*image 0, channel 1: 7.5 instead of 7, "):
        read.comparison.require_explained("Brevitas")
