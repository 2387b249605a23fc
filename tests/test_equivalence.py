"""Comparisons of whole networks pass what is equal or proved, and fail on everything else, naming it."""

from dataclasses import replace

import numpy as np
import pytest

from qnn import datasets, equivalence, integer, reference
from qnn.cell import Cell, Quantization
from qnn.checkpoints import load
from qnn.errors import EquivalenceError
from qnn.inference import layer_codes
from qnn.integer import GoldenNetwork, IntegerLayer, IntegerNetwork
from qnn.networks import Network
from qnn.tools.finn import HardwareModel

A3W3 = Cell(quantization=Quantization.parse("A3W3"))


@pytest.fixture(scope="module")
def network() -> Network:
    return load(reference.shipped_checkpoint(A3W3)).network


@pytest.fixture(scope="module")
def golden() -> GoldenNetwork:
    parameters = load(reference.shipped_checkpoint(A3W3)).parameters
    assert parameters is not None
    return integer.golden(parameters)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return datasets.load("fashion-mnist", "test").pixels[:200]


def _hardware(golden: GoldenNetwork) -> HardwareModel:
    """A hardware model as an exact FINN would make it."""
    return HardwareModel(
        network=IntegerNetwork(layers=golden.layers),
        thresholds=tuple(exact.thresholds.astype(np.float32) for exact in golden.exact),
        tail_scale=np.ones(10, dtype=np.float32),
        tail_bias=np.zeros(10, dtype=np.float32),
    )


def _with_layer(model: HardwareModel, k: int, layer: IntegerLayer) -> HardwareModel:
    layers = list(model.network.layers)
    layers[k] = layer
    return replace(model, network=IntegerNetwork(layers=tuple(layers)))


def test_exact_thresholds_are_equal(golden: GoldenNetwork) -> None:
    comparison = equivalence.compare_models(golden, _hardware(golden))
    comparison.require_explained()
    assert comparison.float32 == comparison.ties == comparison.differing_accumulators == comparison.largest_step == 0
    assert comparison.thresholds == 255 + 3 * 64 * 7


def test_a_threshold_off_by_two_is_named(golden: GoldenNetwork) -> None:
    model = _hardware(golden)
    thresholds = [array.copy() for array in model.thresholds]
    exact = golden.exact[2]
    channel, step = np.argwhere(exact.thresholds > exact.minimum[:, None] + 2)[0]
    thresholds[2][channel, step] -= 2
    comparison = equivalence.compare_models(golden, replace(model, thresholds=tuple(thresholds)))
    with pytest.raises(EquivalenceError, match=rf"activation 2.*\n  channel {channel}, step {step}"):
        comparison.require_explained()


def test_a_weight_off_by_one_is_named(golden: GoldenNetwork) -> None:
    model = _hardware(golden)
    layer = golden.layers[2]
    assert layer.weights is not None
    weights = layer.weights.copy()
    weights[7, 3] += 1
    with pytest.raises(EquivalenceError, match="output channel 7"):
        equivalence.compare_models(golden, _with_layer(model, 2, replace(layer, weights=weights)))


def test_weights_flipped_against_gamma_are_named(golden: GoldenNetwork) -> None:
    layer = golden.layers[1]
    assert layer.weights is not None
    weights = layer.weights.copy()
    weights[4] *= -1
    with pytest.raises(EquivalenceError, match="channel 4 against its gamma"):
        equivalence.compare_models(golden, _with_layer(_hardware(golden), 1, replace(layer, weights=weights)))


def test_another_lowest_code_is_named(golden: GoldenNetwork) -> None:
    layer = replace(golden.layers[1], lowest=-3)
    with pytest.raises(EquivalenceError, match="activation 1: FINN's lowest code is -3, not -4"):
        equivalence.compare_models(golden, _with_layer(_hardware(golden), 1, layer))


def test_images_that_differ_are_counted(golden: GoldenNetwork, pixels: np.ndarray) -> None:
    exact = replace(_hardware(golden), tail_scale=_tail(golden)[0], tail_bias=_tail(golden)[1])
    same = equivalence.images_that_differ(golden, exact, pixels)
    assert (same.accumulators, same.top1) == (0, 0)
    shifted = replace(golden.layers[3], thresholds=np.asarray(golden.layers[3].thresholds) + 5)
    other = equivalence.images_that_differ(golden, _with_layer(exact, 3, shifted), pixels)
    assert other.accumulators > 0


def _tail(golden: GoldenNetwork) -> tuple[np.ndarray, np.ndarray]:
    zero = integer.logits(golden.parameters, np.zeros((1, 10), dtype=np.int64))[0]
    one = integer.logits(golden.parameters, np.ones((1, 10), dtype=np.int64))[0]
    return (one - zero).astype(np.float32), zero.astype(np.float32)


def test_brevitas_layers_are_explained_and_a_wrong_code_is_named(
    golden: GoldenNetwork, network: Network, pixels: np.ndarray
) -> None:
    trace = golden.trace(pixels)
    codes = layer_codes(network, pixels, trace)
    comparison = equivalence.compare_layers(golden, trace, codes, pixels)
    comparison.require_explained("Brevitas")
    assert comparison.compared == len(pixels) * (1024 + 3 * 64)
    codes[2][11, 5] = 3 if codes[2][11, 5] < 0 else -4
    wrong = equivalence.compare_layers(golden, trace, codes, pixels)
    assert not wrong.equal_images[11]
    with pytest.raises(EquivalenceError, match=r"Brevitas, activation 2: 1 of .*\n  channel 5"):
        wrong.require_explained("Brevitas")


def test_behind_the_first_difference_a_forward_pass_is_not_compared(golden: GoldenNetwork, pixels: np.ndarray) -> None:
    trace = golden.trace(pixels)
    codes = [np.array(layer.codes) for layer in trace[:-1]]
    codes[1][3] = np.where(codes[1][3] > 0, codes[1][3] - 1, codes[1][3] + 1)
    codes[2][3] = 0  # a consequence: another input gives another output
    comparison = equivalence.compare_forward_pass(golden, trace, codes, pixels)
    assert not comparison.equal_images[3]
    assert comparison.equal_images.sum() == len(pixels) - 1
    assert comparison.activations[2].verdicts.shape[0] == len(pixels) - 1


def test_unequal_accumulators_name_the_first_image_and_channel() -> None:
    expected = np.arange(20).reshape(4, 5)
    equivalence.require_equal(expected, expected.copy(), "RTL")
    got = expected.copy()
    got[2, 1] = 99
    with pytest.raises(
        EquivalenceError, match="RTL: 1 of 4 images differ; first image 2, channel 1: expected 11, got 99"
    ):
        equivalence.require_equal(expected, got, "RTL")


def test_a_missing_image_is_not_equal() -> None:
    with pytest.raises(EquivalenceError, match="instead of"):
        equivalence.require_equal(np.zeros((4, 5), dtype=np.int64), np.zeros((3, 5), dtype=np.int64), "RTL")
