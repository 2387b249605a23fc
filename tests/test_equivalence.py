"""Comparisons of whole networks pass what is equal or proved, and fail on everything else, naming it."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from qnn import datasets, equivalence, integer, reference
from qnn.cell import Cell, Quantization
from qnn.checkpoints import load
from qnn.equivalence import ModelComparison
from qnn.errors import EquivalenceError
from qnn.inference import run
from qnn.integer import ForwardPass, GoldenNetwork, IntegerLayer, IntegerNetwork
from qnn.networks import Chain, build_from_parameters
from qnn.parameters import WIDTHS, LayerParameters, NetworkParameters
from qnn.tools.finn import HardwareModel

A3W3 = Cell(quantization=Quantization.parse("A3W3"))


@pytest.fixture(scope="module")
def network() -> Chain:
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


def _with_lower_threshold(golden: GoldenNetwork, k: int, by: int) -> tuple[ModelComparison, int, int]:
    """Of a model with one threshold of activation k lower by `by`; its channel and step."""
    model = _hardware(golden)
    thresholds = [array.copy() for array in model.thresholds]
    exact = golden.exact[k]
    channel, step = map(int, np.argwhere(exact.thresholds > exact.minimum[:, None] + by)[0])
    thresholds[k][channel, step] -= by
    return equivalence.compare_models(golden, replace(model, thresholds=tuple(thresholds))), channel, step


def test_a_threshold_off_by_two_is_named(golden: GoldenNetwork) -> None:
    comparison, channel, step = _with_lower_threshold(golden, 2, 2)
    with pytest.raises(EquivalenceError, match=rf"activation 2.*\n  channel {channel}, step {step}"):
        comparison.require_explained()


def test_a_threshold_that_is_not_exact_is_named_where_it_has_to_be(golden: GoldenNetwork) -> None:
    equivalence.compare_models(golden, _hardware(golden)).require_exact()
    comparison, channel, step = _with_lower_threshold(golden, 1, 1)
    with pytest.raises(EquivalenceError, match=rf"exact thresholds of activation 1: channel {channel}, step {step}"):
        comparison.require_exact()


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
    accumulators = golden.evaluate(pixels)
    same = equivalence.images_that_differ(golden, exact, accumulators, exact.network.evaluate(pixels))
    assert (same.accumulators, same.top1) == (0, 0)
    shifted = replace(golden.layers[3], thresholds=np.asarray(golden.layers[3].thresholds) + 5)
    wrong = _with_layer(exact, 3, shifted)
    other = equivalence.images_that_differ(golden, wrong, accumulators, wrong.network.evaluate(pixels))
    assert other.accumulators > 0


def _tail(golden: GoldenNetwork) -> tuple[np.ndarray, np.ndarray]:
    zero = integer.logits(golden.parameters, np.zeros((1, 10), dtype=np.int64))[0]
    one = integer.logits(golden.parameters, np.ones((1, 10), dtype=np.int64))[0]
    return (one - zero).astype(np.float32), zero.astype(np.float32)


def _off_by_one(codes: np.ndarray) -> np.ndarray:
    return np.where(codes > 0, codes - 1, codes + 1)


def test_layers_behind_a_difference_are_judged_by_the_codes_that_they_were_fed_with(
    golden: GoldenNetwork, pixels: np.ndarray
) -> None:
    trace = golden.trace(pixels)
    codes = [np.array(layer.codes) for layer in trace[:-1]]
    codes[1][3] = _off_by_one(codes[1][3])
    for k in (2, 3):  # what the golden model makes of them
        codes[k][3] = golden.layers[k].codes(golden.accumulators(k, codes[k - 1][[3]]))
        assert (codes[k][3] != np.asarray(trace[k].codes)[3]).any(), "the example has to change the layers behind"
    comparison = equivalence.compare_forward_pass(golden, trace, codes, pixels)
    assert np.flatnonzero(~comparison.equal_images).tolist() == [3]
    assert [len(activation.codes) for activation in comparison.activations] == [0, 1, 0, 0]
    codes[3][3] = np.asarray(trace[3].codes)[3]  # golden codes, of inputs that are not the golden ones
    assert len(equivalence.compare_forward_pass(golden, trace, codes, pixels).activations[3].codes) == 1


@pytest.fixture(scope="module")
def forward_pass(network: Chain, pixels: np.ndarray) -> ForwardPass:
    return run(network, pixels)


def _compare(golden: GoldenNetwork, given: ForwardPass, pixels: np.ndarray) -> equivalence.CodesComparison:
    trace = golden.trace(pixels)
    return equivalence.compare_forward_pass(golden, trace, given.codes, pixels, given.products)


def test_a_forward_pass_of_brevitas_is_explained_and_its_sums_are_near_the_accumulators(
    golden: GoldenNetwork, forward_pass: ForwardPass, pixels: np.ndarray
) -> None:
    comparison = _compare(golden, forward_pass, pixels)
    comparison.require_explained("Brevitas")
    assert comparison.compared == len(pixels) * (1024 + 3 * 64)
    assert len(comparison.sums) == 4
    assert comparison.largest_sum_error is not None
    assert 0 < comparison.largest_sum_error < 0.5
    equivalence.require_close_logits(golden, comparison.last_accumulators, forward_pass.logits, "Brevitas")


@pytest.mark.parametrize("change", [0.01, np.nan])
def test_logits_that_float32_does_not_explain_are_named(
    golden: GoldenNetwork, forward_pass: ForwardPass, pixels: np.ndarray, change: float
) -> None:
    accumulators = _compare(golden, forward_pass, pixels).last_accumulators
    logits = forward_pass.logits.copy()
    logits[42, 7] += np.float32(change)
    with pytest.raises(EquivalenceError, match=r"logits of 1 of 200 images .* first image 42, class 7: "):
        equivalence.require_close_logits(golden, accumulators, logits, "Brevitas")


def test_a_wrong_code_is_named_whether_or_not_sums_are_told(
    golden: GoldenNetwork, forward_pass: ForwardPass, pixels: np.ndarray
) -> None:
    codes = [array.copy() for array in forward_pass.codes]
    codes[2][11, 5] = 3 if codes[2][11, 5] < 0 else -4
    for products in (None, forward_pass.products):
        wrong = equivalence.compare_forward_pass(golden, golden.trace(pixels), codes, pixels, products)
        assert not wrong.equal_images[11]
        with pytest.raises(EquivalenceError, match=r"Brevitas, activation 2, first image 11: 1 of .*\n  channel 5"):
            wrong.require_explained("Brevitas")


def test_a_code_that_its_own_sum_contradicts_is_named(
    golden: GoldenNetwork, forward_pass: ForwardPass, pixels: np.ndarray
) -> None:
    codes = [array.copy() for array in forward_pass.codes]
    codes[3][11, 5] = _off_by_one(codes[3][11, 5])
    wrong = _compare(golden, replace(forward_pass, codes=tuple(codes)), pixels)
    with pytest.raises(
        EquivalenceError, match=r"activation 3, first image 11: 1 of .*\n  channel 5, .*\(summed up to "
    ):
        wrong.require_explained("Brevitas")


@pytest.mark.parametrize("layer", range(4))
@pytest.mark.parametrize("change", [1.01, np.nan])
def test_a_sum_that_no_order_of_float32_gives_is_named_in_every_layer(
    golden: GoldenNetwork, forward_pass: ForwardPass, pixels: np.ndarray, layer: int, change: float
) -> None:
    """However the code behind it stands: a sum is judged by itself."""
    products = [array.copy() for array in forward_pass.products]
    products[layer][11, 5] *= np.float32(change)
    wrong = _compare(golden, replace(forward_pass, products=tuple(products)), pixels)
    with pytest.raises(EquivalenceError, match=rf"layer {layer}: 1 of .*first image 11, channel 5: "):
        wrong.require_explained("Brevitas")


def test_images_are_named_by_their_numbers_in_the_data_set(
    golden: GoldenNetwork, forward_pass: ForwardPass, pixels: np.ndarray
) -> None:
    images = [3, 11, 40]
    codes = [array[images] for array in forward_pass.codes]
    products = [array[images] for array in forward_pass.products]
    trace = golden.trace(pixels[images])
    products[0][1, 5] = np.nan
    wrong = equivalence.compare_forward_pass(golden, trace, codes, pixels[images], products).of_images(images)
    with pytest.raises(EquivalenceError, match=r"layer 0: 1 of .*first image 11, channel 5: "):
        replace(wrong, activations=wrong.activations[:1]).require_explained("QONNX")
    codes[0][2, 7] += 1
    wrong = equivalence.compare_forward_pass(golden, trace, codes, pixels[images]).of_images(images)
    assert wrong.unexplained_images(0).tolist() == [40]
    with pytest.raises(EquivalenceError, match="QONNX, activation 0, first image 40: "):
        wrong.require_explained("QONNX")


def test_a_sums_bound_holds_for_any_order_and_is_sharp_to_its_order_of_magnitude(golden: GoldenNetwork) -> None:
    """Products of one sign, added one after another, each time rounded in float32: the worst order there is."""
    first, parameters = golden.layers[1], golden.parameters
    assert first.weights is not None
    codes = (np.sign(first.weights[[7]]) * 127).astype(np.int16)
    scales = parameters.layers[0].weight_scales[7], parameters.input_scale
    terms = (first.weights[7].astype(np.float32) * scales[0]) * (codes[0].astype(np.float32) * scales[1])
    total = np.float32(0)
    for term in np.sort(terms)[::-1]:
        total += term
    error = abs(float(total) / (float(scales[0]) * float(scales[1])) - golden.accumulators(1, codes)[0, 7])
    bound = equivalence.sum_bounds(golden, 1, codes)[0, 7]
    assert bound / 1000 < error <= bound


def deep(seed: int) -> NetworkParameters:
    """Random parameters of eight bits throughout, whose activations use their whole range."""
    rng, layers = np.random.default_rng(seed), []
    input_scale = np.float32(1 / 127)
    for inputs, outputs in itertools.pairwise(WIDTHS):
        last = outputs == WIDTHS[-1]
        weight_scales = rng.uniform(0.001, 0.01, outputs).astype(np.float32)
        deviation = weight_scales * 73 * float(input_scale) * 60 * np.sqrt(inputs)
        layers.append(
            LayerParameters(
                codes=rng.integers(-127, 128, (outputs, inputs)).astype(np.int8),
                weight_bits=8,
                weight_scales=weight_scales if not last else np.full(outputs, weight_scales[0]),
                weight_scale_per_channel=not last,
                gamma=(rng.choice([-1, 1], outputs) * rng.uniform(0.5, 1.5, outputs)).astype(np.float32),
                beta=rng.normal(0, 0.3, outputs).astype(np.float32),
                mean=(rng.normal(0, 0.3, outputs) * deviation).astype(np.float32),
                variance=(deviation**2).astype(np.float32),
                epsilon=1e-5,
                activation_scale=None if last else np.float32(2 / 127),
                activation_bits=None if last else 8,
            )
        )
        input_scale = np.float32(2 / 127)
    return NetworkParameters(input_scale=np.float32(1 / 127), input_bits=8, layers=tuple(layers))


def test_eight_bits_throughout_are_explained_by_their_sums() -> None:
    """Accumulators reach a million there, so that float32 cannot hold their sums, and many codes differ."""
    parameters = deep(0)
    golden, network = integer.golden(parameters), build_from_parameters(parameters)
    pixels = datasets.load("fashion-mnist", "test").pixels[:4000]
    comparison = _compare(golden, run(network, pixels), pixels)
    comparison.require_explained("Brevitas")
    assert comparison.float32 > 0
    assert comparison.largest_sum_error is not None
    assert comparison.largest_sum_error > 0.05


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
