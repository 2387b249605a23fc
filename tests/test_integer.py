"""The integer network equals the trained network computed slowly, in fractions."""

import dataclasses
import itertools
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from qnn.errors import EquivalenceError, ParametersError
from qnn.integer import (
    GoldenNetwork,
    IntegerLayer,
    IntegerNetwork,
    channel_signs,
    golden,
    input_activation,
    layer_activation,
    logits,
)
from qnn.parameters import PIXEL_OFFSET, PIXEL_SCALE, LayerParameters, NetworkParameters
from qnn.thresholding import code_range


def network(
    seed: int, *, bits: int = 3, widths: tuple[int, ...] = (12, 6, 5, 4), input_bits: int = 8
) -> NetworkParameters:
    """Random parameters whose sigma is rational: variance + epsilon is a square."""
    rng = np.random.default_rng(seed)
    limit = 2 ** (bits - 1) - 1
    layers = []
    for index, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        last = index == len(widths) - 2
        gamma = rng.choice([1.5, -0.75, 0.3125, -2.0, 1.0], outputs)
        if outputs > 4:
            gamma[1] = 0.0
        layers.append(
            LayerParameters(
                codes=rng.integers(-limit, limit + 1, (outputs, inputs)).astype(np.int8),
                weight_bits=bits,
                weight_scales=rng.uniform(0.02, 0.3, outputs).astype(np.float32),
                weight_scale_per_channel=True,
                gamma=gamma.astype(np.float32),
                beta=rng.normal(0, 0.5, outputs).astype(np.float32),
                mean=rng.normal(0, 0.5, outputs).astype(np.float32),
                variance=rng.choice([0.25, 1.0, 2.25], outputs).astype(np.float32),
                epsilon=0.0,
                activation_scale=None if last else np.float32(rng.uniform(0.05, 0.3)),
                activation_bits=None if last else bits,
            )
        )
    return NetworkParameters(input_scale=np.float32(0.0079), input_bits=input_bits, layers=tuple(layers))


def naive(parameters: NetworkParameters, image: list[int]) -> tuple[list[list[int]], list[Fraction]]:
    """Accumulators of every layer (no sign flipped) and logits of one image: the formulas of qnn.parameters."""

    def quantise(value: Fraction, step: np.float32, bits: int) -> int:
        rounded: int = round(value / Fraction(float(step)))
        low, high = code_range(bits, signed=True)
        return min(max(rounded, low), high)

    codes = [
        quantise(p * Fraction(float(PIXEL_SCALE)) + Fraction(float(PIXEL_OFFSET)), parameters.input_scale,
                 parameters.input_bits)
        for p in image
    ]  # fmt: skip
    scale = Fraction(float(parameters.input_scale))
    trace: list[list[int]] = []
    values: list[Fraction] = []
    for layer in parameters.layers:
        sums = [sum(int(w) * q for w, q in zip(row, codes, strict=True)) for row in layer.codes]
        trace.append(sums)
        values = []
        for channel, total in enumerate(sums):
            number = {
                name: Fraction(float(getattr(layer, name)[channel]))
                for name in ("weight_scales", "gamma", "beta", "mean", "variance")
            }
            sigma = {Fraction(1, 4): Fraction(1, 2), Fraction(1): Fraction(1), Fraction(9, 4): Fraction(3, 2)}
            centred = total * number["weight_scales"] * scale - number["mean"]
            values.append(number["gamma"] * centred / sigma[number["variance"]] + number["beta"])
        if layer.activation_scale is not None and layer.activation_bits is not None:
            codes = [quantise(z, layer.activation_scale, layer.activation_bits) for z in values]
            scale = Fraction(float(layer.activation_scale))
    return trace, values


def images(count: int, inputs: int = 12, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, inputs)).astype(np.uint8)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_every_accumulator_and_logit_is_the_naive_models(bits: int) -> None:
    parameters = network(bits, bits=bits)
    model, pixels = golden(parameters), images(25)
    traces = model.trace(pixels)
    values = logits(parameters, model.evaluate(pixels))
    for row, image in enumerate(pixels.tolist()):
        sums, outputs = naive(parameters, image)
        for trace, layer, expected in zip(traces[1:], parameters.layers, sums, strict=True):
            assert trace.accumulators is not None
            flipped = np.where(layer.gamma < 0, -1, 1) if layer.activation_scale is not None else 1
            assert (trace.accumulators[row] * flipped).tolist() == expected
        assert values[row] == pytest.approx([float(z) for z in outputs], rel=1e-12, abs=1e-12)


def test_a_wrong_threshold_changes_the_accumulators() -> None:
    parameters = network(3)
    model, pixels = golden(parameters), images(200)
    layer = model.layers[1]
    assert layer.thresholds is not None
    broken = dataclasses.replace(layer, thresholds=layer.thresholds + 1)
    other = IntegerNetwork(layers=(model.layers[0], broken, *model.layers[2:]))
    assert (other.evaluate(pixels) != model.evaluate(pixels)).any()


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_input_layer_quantises_every_pixel(bits: int) -> None:
    parameters = network(0, input_bits=bits, widths=(256, 2))
    codes = golden(parameters).trace(np.arange(256, dtype=np.uint8)[None])[0].codes
    assert codes is not None
    low, high = code_range(bits, signed=True)
    for pixel, code in enumerate(codes[0].tolist()):
        x = pixel * Fraction(float(PIXEL_SCALE)) + Fraction(float(PIXEL_OFFSET))
        assert code == min(max(round(x / Fraction(float(parameters.input_scale))), low), high)


def test_thresholds_are_clipped_to_what_the_accumulators_reach() -> None:
    model = golden(network(5))
    for before, layer, exact in zip(model.layers, model.layers[1:-1], model.exact[1:], strict=False):
        assert layer.weights is not None
        assert layer.thresholds is not None
        for channel, row in enumerate(layer.weights.tolist()):
            low = sum(min(w * before.lowest, w * before.highest) for w in row)
            high = sum(max(w * before.lowest, w * before.highest) for w in row)
            assert (exact.minimum[channel], exact.maximum[channel]) == (low, high)
            assert layer.thresholds[channel].min() >= low
            assert layer.thresholds[channel].max() <= high + 1


def test_images_in_chunks_give_what_they_give_alone() -> None:
    model, pixels = golden(network(1)), images(2345)
    whole = model.evaluate(pixels)
    assert whole.shape == (2345, 4)
    assert (
        whole[[0, 999, 1000, 2344]] == np.concatenate([model.evaluate(pixels[[i]]) for i in (0, 999, 1000, 2344)])
    ).all()
    assert model.evaluate(pixels[:0]).shape == (0, 4)


def test_input_thresholds_may_be_given_for_every_pixel() -> None:
    model, pixels = golden(network(1)), images(20)
    row = model.layers[0].thresholds
    assert row is not None
    each = dataclasses.replace(model.layers[0], thresholds=np.repeat(row, 12, axis=0))
    shifted = dataclasses.replace(each, thresholds=np.concatenate([row + 40, np.repeat(row, 11, axis=0)]))
    assert (IntegerNetwork(layers=(each, *model.layers[1:])).evaluate(pixels) == model.evaluate(pixels)).all()
    assert (IntegerNetwork(layers=(shifted, *model.layers[1:])).evaluate(pixels) != model.evaluate(pixels)).any()


def flipped_as_finn_does(model: GoldenNetwork) -> IntegerLayer:
    """The first layer with the weights of gamma = 0 channels zeroed."""
    weights = model.layers[1].weights
    assert weights is not None
    zeroed = weights.copy()
    zeroed[1] = 0
    return dataclasses.replace(model.layers[1], weights=zeroed)


def test_signs_line_finns_weights_up_with_the_trained_ones() -> None:
    parameters = network(2)
    model = golden(parameters)
    trained = IntegerLayer(weights=parameters.layers[0].codes.astype(np.int64), thresholds=None)
    signs = channel_signs(flipped_as_finn_does(model), trained)
    assert signs.tolist() == np.sign(parameters.layers[0].gamma).astype(int).tolist()
    assert channel_signs(trained, trained).tolist() == [1] * 6


def test_weights_that_are_not_the_trained_ones_are_named() -> None:
    model = golden(network(2))
    weights = model.layers[1].weights
    assert weights is not None
    wrong = weights.copy()
    wrong[4, 2] += 1
    with pytest.raises(EquivalenceError, match="output channel 4 "):
        channel_signs(dataclasses.replace(model.layers[1], weights=wrong), model.layers[1])


def test_an_activation_says_what_it_was_made_from() -> None:
    parameters = network(2)
    assert input_activation(parameters).channels == 1
    layer = parameters.layers[0]
    made = layer_activation(layer, parameters.input_scale)
    exact = Fraction(float(layer.weight_scales[3])) * Fraction(float(parameters.input_scale))
    assert Fraction(float(made.scale[3])) == exact
    with pytest.raises(ParametersError, match="no activation"):
        layer_activation(parameters.layers[-1], parameters.input_scale)


@pytest.mark.parametrize(
    ("inputs", "dtype"),
    [(1024, np.float32), (1032, np.float32), (1033, np.float64)],  # 128 * 127 * 1032 is just below 2^24
)
def test_products_are_exact_at_the_largest_codes_there_are(inputs: int, dtype: type) -> None:
    """In float32 up to 2^24, beyond it in float64; an odd sum is what a type that is too narrow loses."""
    weights = np.full((2, inputs), 127)
    weights[1, 1::2] = -127
    first = IntegerLayer(weights=None, thresholds=np.arange(255)[None] + 1, lowest=-128)
    network = IntegerNetwork(layers=(first, IntegerLayer(weights=weights, thresholds=None)))
    codes = np.full((3, inputs), -128, dtype=np.int16)
    codes[1, 0] = -127
    codes[2, ::3] = 77
    expected = codes.astype(np.int64) @ weights.T
    assert network._float_weights[0].dtype == dtype
    assert (network.accumulators(1, codes) == expected).all()
    assert (network.magnitudes(1, codes) == np.abs(codes).astype(np.int64) @ np.abs(weights).T).all()


def test_a_type_that_is_too_narrow_would_be_noticed() -> None:
    codes, weights = np.full((1, 1101), 127), np.full((1101, 1), 127)
    narrow = codes.astype(np.float32) @ weights.astype(np.float32)
    assert int(narrow[0, 0]) != int((codes @ weights)[0, 0])


def test_sums_that_float64_cannot_hold_are_refused() -> None:
    first = IntegerLayer(weights=None, thresholds=np.arange(255)[None] + 1, lowest=-128)
    with pytest.raises(ParametersError, match=r"float64 is exact below 2\^53"):
        IntegerNetwork(layers=(first, IntegerLayer(weights=np.full((1, 2), 2**45), thresholds=None)))


@pytest.mark.parametrize(
    ("weights", "thresholds", "message"),
    [
        (None, None, "needs weights, thresholds or both"),
        (np.ones((2, 2)) / 2, None, "weights have to be a matrix of whole numbers"),
        (np.ones((2, 2)), np.array([[2, 1], [1, 2]]), "thresholds of channel 0 do not ascend"),
        (np.ones((2, 2)), np.zeros((3, 1)), "3 channels of thresholds do not fit 2"),
        (None, np.array([[np.nan]]), "thresholds have to be a matrix of whole numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_arrays_that_make_no_layer_are_refused(
    weights: NDArray[np.int64] | None, thresholds: NDArray[np.int64] | None, message: str
) -> None:
    with pytest.raises(ParametersError, match=message):
        IntegerLayer(weights=weights, thresholds=thresholds)


def test_layers_that_do_not_chain_are_refused() -> None:
    first = IntegerLayer(weights=None, thresholds=np.array([[1]]))
    middle = IntegerLayer(weights=np.ones((3, 2), np.int64), thresholds=np.array([[1]]))
    with pytest.raises(ParametersError, match="layer 2 takes 2 inputs, the one before gives 3"):
        IntegerNetwork(layers=(first, middle, IntegerLayer(weights=np.ones((2, 2), np.int64), thresholds=None)))
    with pytest.raises(ParametersError, match="a network is"):
        IntegerNetwork(layers=(first, middle))


@pytest.mark.parametrize("pixels", [np.zeros((1, 11), np.uint8), np.zeros((1, 12), np.int64), np.zeros(12, np.uint8)])
def test_pixels_of_another_shape_or_type_are_refused(pixels: NDArray[np.uint8]) -> None:
    with pytest.raises(ParametersError, match=r"uint8 \[images, 12\]"):
        golden(network(0)).evaluate(pixels)
