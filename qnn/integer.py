"""Integer networks: matrix products of codes, and thresholds. What hardware computes, without hardware or float.

The same IntegerNetwork is built twice. `golden` makes it from the trained parameters, with thresholds in exact
rational arithmetic (``qnn.thresholding``) and no FINN. The *hardware model* is made from FINN's streamlined graph.
Below FINN's graph everything equals the hardware model; `channel_signs` lines the two models up.

    input layer   codes = lowest + number of thresholds not above the pixel
    layer         acc = weights @ codes of the layer before; codes = lowest + number of thresholds not above acc
    last layer    acc alone; `logits` applies its batch norm in float64, as the host does

Products are computed by a floating-point matrix product, which is exact in whatever order it sums while every partial
sum is a whole number that the type holds: up to 2^24 in float32, else up to 2^53 in float64. That is decided for each
layer, and checked when a network is built, from sum |weight| * max |code|.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qnn.errors import EquivalenceError, ParametersError
from qnn.parameters import PIXEL_OFFSET, PIXEL_SCALE, LayerParameters, NetworkParameters
from qnn.thresholding import Activation, ExactThresholds, code_range, count_thresholds, exact_thresholds

__all__ = [
    "ForwardPass",
    "GoldenNetwork",
    "IntegerLayer",
    "IntegerNetwork",
    "LayerTrace",
    "accumulator_scales",
    "channel_signs",
    "golden",
    "input_activation",
    "layer_activation",
    "logits",
    "with_input_scales",
]

_EXACT_LIMIT = 2**53
_EXACT_LIMIT_FLOAT32 = 2**24
_CHUNK_IMAGES = 1000
_PIXELS = (0, 255)


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegerLayer:
    """One layer: a matrix product, thresholds, or both."""

    weights: NDArray[np.int64] | None
    """[outputs, inputs]; None for the input layer, whose accumulators are the pixels."""
    thresholds: NDArray[np.int64] | None
    """[outputs, steps], or [1, steps] for all channels alike, ascending; None for the last layer."""
    lowest: int = 0
    """The code below all thresholds."""
    offsets: NDArray[np.int64] | None = None
    """[outputs] that are added to the product; None is 0. A product of single bits by XNOR is one with offsets."""

    def __post_init__(self) -> None:
        if self.weights is None and self.thresholds is None:
            raise ParametersError("a layer needs weights, thresholds or both")
        for name in ("weights", "thresholds"):
            array = getattr(self, name)
            if array is None:
                continue
            whole = np.asarray(array).astype(np.int64)
            if whole.ndim != 2 or not np.array_equal(whole, array):
                raise ParametersError(f"{name} have to be a matrix of whole numbers")
            object.__setattr__(self, name, whole)
        if self.thresholds is not None:
            if (np.diff(self.thresholds, axis=1) < 0).any():
                channel = int(np.argwhere(np.diff(self.thresholds, axis=1) < 0)[0, 0])
                raise ParametersError(f"the thresholds of channel {channel} do not ascend")
            if self.weights is not None and len(self.thresholds) not in (1, len(self.weights)):
                raise ParametersError(
                    f"{len(self.thresholds)} channels of thresholds do not fit {len(self.weights)} channels of weights"
                )

    @property
    def highest(self) -> int:
        """The code above all thresholds."""
        if self.thresholds is None:
            raise ParametersError("a layer without thresholds has no codes")
        return self.lowest + int(self.thresholds.shape[1])

    def accumulator_range(self, lowest: int, highest: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Smallest and largest accumulator of each output, for inputs from `lowest` to `highest`."""
        if self.weights is None:
            return np.array([lowest]), np.array([highest])
        low, high, offsets = self.weights * lowest, self.weights * highest, self._offsets
        return np.minimum(low, high).sum(axis=1) + offsets, np.maximum(low, high).sum(axis=1) + offsets

    @property
    def _offsets(self) -> NDArray[np.int64] | int:
        return 0 if self.offsets is None else self.offsets

    def codes(self, accumulators: NDArray[np.int64]) -> NDArray[np.int16]:
        """Codes [images, outputs] of accumulators of the same shape."""
        if self.thresholds is None:
            raise ParametersError("a layer without thresholds has no codes")
        return (self.lowest + count_thresholds(accumulators, self.thresholds)).astype(np.int16)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerTrace:
    """What one layer gave for some images."""

    accumulators: NDArray[np.int64] | None
    """[images, outputs]; None for the input layer."""
    codes: NDArray[np.int16] | None
    """[images, outputs]; None for the last layer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ForwardPass:
    """What another model of a network, one that computes in float32, made of some images."""

    logits: NDArray[np.float32]
    """[images, classes]"""
    codes: tuple[NDArray[np.int16], ...]
    """[images, channels] of every activation, the input quantiser's first."""
    products: tuple[NDArray[np.float32], ...]
    """[images, outputs] of every layer: the matrix product as the model summed it up, before batch norm."""


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegerNetwork:
    """A chain of layers: the input layer (thresholds on pixels), then layers with weights."""

    layers: tuple[IntegerLayer, ...]
    input_range: tuple[int, int] = _PIXELS
    """Lowest and highest pixel: those of uint8, where a model from outside does not say otherwise."""

    def __post_init__(self) -> None:
        if len(self.layers) < 2 or self.layers[0].weights is not None or self.layers[-1].thresholds is not None:
            raise ParametersError(
                "a network is an input layer without weights, layers, and a last one without thresholds"
            )
        for index, (before, layer) in enumerate(zip(self.layers, self.layers[1:], strict=False), start=1):
            if layer.weights is None:
                raise ParametersError(f"layer {index} has no weights: only the input layer may be without")
            if before.weights is not None and len(before.weights) != layer.weights.shape[1]:
                raise ParametersError(
                    f"layer {index} takes {layer.weights.shape[1]} inputs, the one before gives {len(before.weights)}"
                )
            largest = self._largest(index)
            if largest >= _EXACT_LIMIT:
                raise ParametersError(f"accumulators of layer {index} may reach {largest}: float64 is exact below 2^53")

    @property
    def inputs(self) -> int:
        """Pixels of an image."""
        weights = self.layers[1].weights
        assert weights is not None
        return int(weights.shape[1])

    @property
    def classes(self) -> int:
        """Accumulators of the last layer."""
        weights = self.layers[-1].weights
        assert weights is not None
        return len(weights)

    def _largest(self, k: int) -> int:
        """What no partial sum of layer k is above."""
        before, weights = self.layers[k - 1], self.layers[k].weights
        assert weights is not None
        return int(np.abs(weights).sum(axis=1).max()) * max(abs(before.lowest), abs(before.highest))

    @cached_property
    def _float_weights(self) -> tuple[NDArray[Any], ...]:
        """Transposed weights of layer k at k - 1, in a type in which its products are exact."""
        weights = []
        for k, layer in enumerate(self.layers[1:], start=1):
            dtype = np.float32 if self._largest(k) <= _EXACT_LIMIT_FLOAT32 else np.float64
            weights.append(np.asarray(layer.weights).T.astype(dtype))
        return tuple(weights)

    def accumulators(self, k: int, codes: NDArray[np.int16]) -> NDArray[np.int64]:
        """Accumulators [images, outputs] of layer k (from 1) on codes [images, inputs] of the activation before it."""
        return _product(codes, self._float_weights[k - 1]) + self.layers[k]._offsets

    def magnitudes(self, k: int, codes: NDArray[np.int16]) -> NDArray[np.int64]:
        """What the same accumulators would be if all weights and codes were positive: sum |weight| |code|."""
        return _product(np.abs(codes), np.abs(self._float_weights[k - 1]))

    @cached_property
    def _pixel_codes(self) -> NDArray[np.int16]:
        """Codes of every pixel value from the lowest on, [values, 1] or [values, inputs]."""
        thresholds, (low, high) = self.layers[0].thresholds, self.input_range
        assert thresholds is not None
        return self.layers[0].codes(np.repeat(np.arange(low, high + 1)[:, None], len(thresholds), axis=1))

    def _require_pixels(self, pixels: NDArray[Any]) -> None:
        low, high = self.input_range
        kind = "uint8" if self.input_range == _PIXELS else f"whole numbers of {low} to {high}"
        fit = pixels.dtype == np.uint8
        if self.input_range != _PIXELS:
            fit = (
                np.issubdtype(pixels.dtype, np.integer)
                and low <= pixels.min(initial=low)
                and pixels.max(initial=high) <= high
            )
        if not fit or pixels.ndim != 2 or pixels.shape[1] != self.inputs:
            raise ParametersError(
                f"pixels have to be {kind} [images, {self.inputs}], not {pixels.dtype} {list(pixels.shape)}"
            )

    def trace(self, pixels: NDArray[Any]) -> tuple[LayerTrace, ...]:
        """Accumulators and codes of every layer, the input layer first, for pixels [images, inputs]."""
        self._require_pixels(pixels)
        table, low = self._pixel_codes, self.input_range[0]
        places = pixels.astype(np.int64) - low if low else pixels
        codes = table[:, 0][places] if table.shape[1] == 1 else table[places, np.arange(table.shape[1])]
        traces = [LayerTrace(accumulators=None, codes=codes)]
        for k, layer in enumerate(self.layers[1:], start=1):
            accumulators = self.accumulators(k, codes)
            if layer.thresholds is None:
                traces.append(LayerTrace(accumulators=accumulators, codes=None))
            else:
                codes = layer.codes(accumulators)
                traces.append(LayerTrace(accumulators=accumulators, codes=codes))
        return tuple(traces)

    def evaluate(self, pixels: NDArray[Any]) -> NDArray[np.int64]:
        """Accumulators [images, classes] of the last layer for pixels [images, inputs]."""
        chunks = [self._last(pixels[start : start + _CHUNK_IMAGES]) for start in range(0, len(pixels), _CHUNK_IMAGES)]
        return np.concatenate(chunks) if chunks else self._last(pixels)

    def _last(self, pixels: NDArray[Any]) -> NDArray[np.int64]:
        accumulators = self.trace(pixels)[-1].accumulators
        assert accumulators is not None
        return accumulators


def _product(codes: NDArray[np.int16], weights: NDArray[Any]) -> NDArray[np.int64]:
    """Codes @ weights in the type of the weights, in chunks that stay in the processor's cache."""
    product = np.empty((len(codes), weights.shape[1]), dtype=np.int64)
    for start in range(0, len(codes), _CHUNK_IMAGES):
        chunk = slice(start, start + _CHUNK_IMAGES)
        product[chunk] = codes[chunk].astype(weights.dtype) @ weights
    return product


@dataclass(frozen=True, kw_only=True, eq=False)
class GoldenNetwork(IntegerNetwork):
    """The integer network of trained parameters, with what its thresholds were made from."""

    parameters: NetworkParameters
    exact: tuple[ExactThresholds, ...]
    """Exact thresholds of every layer but the last, the input layer first."""


def input_activation(parameters: NetworkParameters) -> Activation:
    """The input quantiser, as an activation of one channel whose accumulator is the pixel."""
    lowest, highest = code_range(parameters.input_bits, signed=True)
    one, zero = np.ones(1), np.zeros(1)
    return Activation(
        scale=np.array([PIXEL_SCALE], dtype=np.float64),
        gamma=one,
        beta=np.array([PIXEL_OFFSET], dtype=np.float64),
        mean=zero,
        variance=one,
        epsilon=0.0,
        step=float(parameters.input_scale),
        lowest=lowest,
        highest=highest,
    )


def layer_activation(layer: LayerParameters, input_scale: np.float32) -> Activation:
    """The batch norm and activation behind `layer`, whose inputs are codes of step `input_scale`."""
    if layer.activation_scale is None or layer.activation_bits is None:
        raise ParametersError("the last layer has no activation")
    lowest, highest = code_range(layer.activation_bits, signed=layer.activation_signed, narrow=layer.activation_narrow)
    return Activation(
        scale=_accumulator_scale(layer, input_scale),
        gamma=layer.gamma.astype(np.float64),
        beta=layer.beta.astype(np.float64),
        mean=layer.mean.astype(np.float64),
        variance=layer.variance.astype(np.float64),
        epsilon=float(np.float32(layer.epsilon)),  # ONNX carries it as a float32 attribute
        step=float(layer.activation_scale),
        lowest=lowest,
        highest=highest,
    )


def _accumulator_scale(layer: LayerParameters, input_scale: np.float32) -> NDArray[np.float64]:
    """Value of one accumulator step [outputs]: the exact product of two float32 values."""
    return layer.weight_scales.astype(np.float64) * float(input_scale)


def accumulator_scales(parameters: NetworkParameters) -> tuple[NDArray[np.float64], ...]:
    """Value of one accumulator step [outputs] of every layer with weights."""
    return tuple(_accumulator_scale(layer, input_scale) for layer, input_scale in with_input_scales(parameters))


def with_input_scales(parameters: NetworkParameters) -> Iterator[tuple[LayerParameters, np.float32]]:
    """Each layer with the step of the codes that it takes. ParametersError where one but the last has no activation."""
    scale = parameters.input_scale
    for index, layer in enumerate(parameters.layers):
        yield layer, scale
        if index < len(parameters.layers) - 1:
            if layer.activation_scale is None:
                raise ParametersError(f"layer {index} has no activation: only the last one may be without")
            scale = layer.activation_scale


def golden(parameters: NetworkParameters) -> GoldenNetwork:
    """The integer network that the trained parameters stand for, exactly.

    Weights of channels with gamma < 0 have their sign flipped (not in the last layer), so that all thresholds
    ascend; thresholds are clipped to [minimum, maximum + 1] of the accumulators that can occur in their channel.
    """
    thresholds = exact_thresholds(input_activation(parameters), 0, 255)
    exact = [thresholds]
    layers = [IntegerLayer(weights=None, thresholds=thresholds.thresholds, lowest=thresholds.lowest)]
    for layer, input_scale in with_input_scales(parameters):
        weights = layer.codes.astype(np.int64)
        if layer.activation_scale is None:
            layers.append(IntegerLayer(weights=weights, thresholds=None))
            continue
        activation = layer_activation(layer, input_scale)
        product = IntegerLayer(weights=weights * activation.signs[:, None], thresholds=None)
        minimum, maximum = product.accumulator_range(layers[-1].lowest, layers[-1].highest)
        thresholds = exact_thresholds(activation, minimum, maximum)
        exact.append(thresholds)
        layers.append(IntegerLayer(weights=product.weights, thresholds=thresholds.thresholds, lowest=thresholds.lowest))
    return GoldenNetwork(layers=tuple(layers), parameters=parameters, exact=tuple(exact))


def logits(parameters: NetworkParameters, accumulators: NDArray[np.int64]) -> NDArray[np.float64]:
    """What the host makes of the last layer's accumulators [images, classes]: its batch norm, in float64.

    `accumulators` are those of the trained weights, before any sign flip. Top-1 is ``logits(...).argmax(axis=1)``,
    which takes the first of equals.
    """
    layer, scale = parameters.layers[-1], accumulator_scales(parameters)[-1]
    sigma = np.sqrt(layer.variance.astype(np.float64) + float(np.float32(layer.epsilon)))
    centred = accumulators * scale - layer.mean.astype(np.float64)
    return layer.gamma.astype(np.float64) * centred / sigma + layer.beta.astype(np.float64)


def channel_signs(hardware: IntegerLayer, reference: IntegerLayer) -> NDArray[np.int64]:
    """What each channel's weights in `reference` were multiplied by to give those in `hardware`: 1, -1 or 0.

    FINN flips channels with gamma < 0, in the last layer too, and where it flips any it multiplies those with
    gamma = 0 by sign(0) = 0 (FactorOutMulSignMagnitude). ``hardware accumulators == signs * reference's``.
    A channel of zeros alone counts as 1. Raises EquivalenceError, with the first channel that is none of these.
    """
    if hardware.weights is None or reference.weights is None or hardware.weights.shape != reference.weights.shape:
        raise EquivalenceError("the two layers' weights differ in shape")
    ours, theirs = reference.weights, hardware.weights
    signs = np.where((theirs == ours).all(axis=1), 1, np.where((theirs == -ours).all(axis=1), -1, 0)).astype(np.int64)
    wrong = np.flatnonzero((theirs != signs[:, None] * ours).any(axis=1))
    if len(wrong):
        raise EquivalenceError(
            f"the weights of output channel {wrong[0]} (and {len(wrong) - 1} more) are neither the trained ones, "
            "nor these negated, nor zero"
        )
    return signs
