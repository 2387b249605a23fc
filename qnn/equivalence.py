"""Two models of one network held against each other: every integer equal, or each difference explained.

The golden model is exact. A model that computed in float32 (Brevitas, QONNX, FINN's thresholds) may differ from it
only as ``qnn.thresholding`` allows; a model below FINN's graph may not differ at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qnn.errors import EquivalenceError
from qnn.integer import GoldenNetwork, LayerTrace, accumulator_scales, channel_signs, logits, with_input_scales
from qnn.thresholding import CodeComparison, ThresholdComparison, Verdict, compare_codes, compare_thresholds
from qnn.tools.finn import HardwareModel

__all__ = [
    "CodesComparison",
    "ImagesThatDiffer",
    "ModelComparison",
    "SumsComparison",
    "codes_of",
    "compare_forward_pass",
    "compare_models",
    "images_that_differ",
    "logit_bound",
    "products_of",
    "require_close_logits",
    "require_equal",
    "scaled_products_of",
    "sum_bounds",
]

Codes = Sequence[NDArray[np.int16]]
"""[images, channels] of every activation, the input quantiser's first."""
Products = Sequence[NDArray[np.float32]] | Sequence[NDArray[np.float64]]
"""[images, outputs] of every layer: the matrix product as float32 summed it up, before batch norm."""

_UNIT_ROUNDOFF = 2.0**-24
_SMALLEST = 2.0**-149
"""The step of float32's subnormal numbers."""


def codes_of(executed: Mapping[str, NDArray[Any]]) -> list[NDArray[np.int16]]:
    """The activations' codes out of what ``Pipeline.qonnx_run`` gives."""
    return _numbered("codes", executed)


def products_of(executed: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
    """The layers' matrix products out of the same."""
    return _numbered("products", executed)


def scaled_products_of(executed: Mapping[str, NDArray[Any]], golden: GoldenNetwork) -> list[NDArray[np.float64]]:
    """Those of FINN-ONNX before streamlining, which multiplies by the weights' scales behind the matrix product."""
    layers = golden.parameters.layers
    return [
        products.astype(np.float64) * layer.weight_scales
        for products, layer in zip(products_of(executed), layers, strict=True)
    ]


def _numbered(name: str, executed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    return [executed[f"{name}_{k}"] for k in range(sum(key.startswith(f"{name}_") for key in executed))]


@dataclass(frozen=True, kw_only=True, eq=False)
class SumsComparison:
    """float32 sums of one layer against the exact accumulators, in accumulator steps."""

    compared: int
    """How many sums were compared."""
    largest_error: float
    """How far any of them is from its accumulator."""
    places: NDArray[np.int64]
    """[wrong, 2]: image and channel of each sum that is further off than its bound, see `sum_bounds`."""
    sums: NDArray[np.float64]
    """[wrong], and so the next two: of these places alone."""
    accumulators: NDArray[np.int64]
    bounds: NDArray[np.float64]

    @classmethod
    def of(
        cls, sums: NDArray[np.float64], accumulators: NDArray[np.int64], bounds: NDArray[np.float64]
    ) -> "SumsComparison":
        """From all sums, accumulators and bounds of the layer, [images, outputs]."""
        errors = np.abs(sums - accumulators)
        wrong = ~(errors <= bounds)  # what is not a number is not within the bound
        return cls(
            compared=sums.size,
            largest_error=float(errors.max(initial=0.0)),
            places=np.argwhere(wrong),
            sums=sums[wrong],
            accumulators=accumulators[wrong],
            bounds=bounds[wrong],
        )

    def require_explained(self, name: str) -> None:
        """Raise EquivalenceError, naming image and channel, where a sum is further off than any order of sums is."""
        if len(self.places):
            image, channel = map(int, self.places[0])
            raise EquivalenceError(
                f"{name}: {len(self.places)} of {self.compared} sums are further from the exact accumulator than a sum "
                f"in float32 can be; first image {image}, channel {channel}: {self.sums[0]:.9g} instead of "
                f"{self.accumulators[0]}, give or take {self.bounds[0]:.3g}"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class CodesComparison:
    """Another model's codes, and what else it tells, against what is exact on the inputs that each layer had."""

    activations: tuple[CodeComparison, ...]
    """Of the images in which the activation has any code that is not the exact one."""
    images: tuple[NDArray[np.int64], ...]
    """Which images these are, of each activation."""
    compared: int
    """How many codes were compared."""
    equal_images: NDArray[np.bool_]
    """[images]: whether every code that was compared is the exact one."""
    sums: tuple[SumsComparison, ...]
    """Of every layer, where the other model tells its products."""
    last_accumulators: NDArray[np.int64]
    """[images, classes]: exact, on the codes that the other model fed its last layer with."""

    def _count(self, verdict: Verdict) -> int:
        return sum(activation.count(verdict) for activation in self.activations)

    @property
    def float32(self) -> int:
        """Codes that float32 arithmetic put on the other side of a boundary."""
        return self._count(Verdict.FLOAT32)

    @property
    def ties(self) -> int:
        """Codes that differ on an accumulator that lies on a boundary exactly."""
        return self._count(Verdict.TIE)

    @property
    def largest_sum_error(self) -> float | None:
        """How far any float32 sum is from its accumulator, in accumulator steps; None where sums are not told."""
        return max((layer.largest_error for layer in self.sums), default=None)

    def require_explained(self, name: str) -> None:
        """Raise EquivalenceError, naming layer, channel and accumulator, where a code or sum has no explanation.

        The first image is named too. In the order of the network, since all that follows a fault may come from it.
        """
        for k, (activation, layer) in enumerate(zip_longest(self.activations, self.sums)):
            activation.require_explained(f"{name}, activation {k}{self._first_image(k)}")
            if layer is not None:
                layer.require_explained(f"{name}, layer {k}")

    def unexplained_images(self, k: int) -> NDArray[np.int64]:
        """Images, ascending, in which a code of activation k has no explanation."""
        activation, images = self.activations[k], self.images[k]
        rows = np.flatnonzero((activation.verdicts == Verdict.UNEXPLAINED).any(axis=1))
        # The input quantiser is one channel, which every pixel of an image goes through.
        return np.unique(images[rows * len(images) // max(len(activation.verdicts), 1)])

    def _first_image(self, k: int) -> str:
        """The image of activation k's first code without an explanation, for a message; nothing where there is none."""
        images = self.unexplained_images(k)
        return f", first image {images[0]}" if len(images) else ""

    def of_images(self, numbers: Sequence[int]) -> "CodesComparison":
        """The same where the images that were compared have these numbers in the data set, ascending."""
        known = np.asarray(numbers)
        places = [np.column_stack([known[layer.places[:, 0]], layer.places[:, 1]]) for layer in self.sums]
        return replace(
            self,
            images=tuple(known[rows] for rows in self.images),
            sums=tuple(replace(layer, places=own) for layer, own in zip(self.sums, places, strict=True)),
        )


def compare_forward_pass(
    golden: GoldenNetwork,
    trace: Sequence[LayerTrace],
    codes: Codes,
    pixels: NDArray[np.uint8],
    products: Products | None = None,
) -> CodesComparison:
    """Codes, and products, of one forward pass: each layer is judged by the codes that the pass itself fed it with.

    So a difference is that layer's own, and all layers of all images are compared, those behind a difference too.
    `trace` is the golden model's on `pixels`.
    """
    expected = _fed_with(golden, trace, codes)
    real = _sums(golden, codes, products) if products is not None else None
    activations, images, equal = [], [], np.ones(len(pixels), dtype=np.bool_)
    for k, given in enumerate(codes):
        accumulators = pixels if k == 0 else expected[k].accumulators
        assert accumulators is not None
        differs = (given != expected[k].codes).any(axis=1)
        own_sums = real[k - 1][differs] if real is not None and k > 0 else None
        activations.append(_compare_activation(golden, k, accumulators[differs], given[differs], own_sums))
        images.append(np.flatnonzero(differs))
        equal &= ~differs
    last = expected[-1].accumulators
    assert last is not None
    return CodesComparison(
        activations=tuple(activations),
        images=tuple(images),
        compared=sum(given.size for given in codes),
        equal_images=equal,
        sums=_compare_sums(golden, expected, codes, real) if real is not None else (),
        last_accumulators=last,
    )


def _fed_with(golden: GoldenNetwork, trace: Sequence[LayerTrace], codes: Codes) -> list[LayerTrace]:
    """What each layer gives, exactly, on another model's `codes`: new only where these are not the golden ones."""
    fed = [trace[0]]
    for k, (inputs, own, layer) in enumerate(zip(codes, trace[1:], golden.layers[1:], strict=True), start=1):
        assert own.accumulators is not None
        other = (inputs != trace[k - 1].codes).any(axis=1)
        accumulators, outputs = own.accumulators.copy(), None
        accumulators[other] = golden.accumulators(k, inputs[other])
        if own.codes is not None:
            outputs = own.codes.copy()
            outputs[other] = layer.codes(accumulators[other])
        fed.append(LayerTrace(accumulators=accumulators, codes=outputs))
    return fed


def _compare_activation(
    golden: GoldenNetwork,
    k: int,
    accumulators: NDArray[Any],
    codes: NDArray[np.int16],
    sums: NDArray[np.float64] | None,
) -> CodeComparison:
    """Activation k on [images, channels]; the input quantiser is one channel, which every pixel goes through."""
    shape = (-1, len(golden.exact[k].thresholds))
    return compare_codes(golden.exact[k], accumulators.reshape(shape), codes.reshape(shape), sums)


def _sums(golden: GoldenNetwork, codes: Codes, products: Products) -> list[NDArray[np.float64]]:
    """The products of every layer [images, outputs] in accumulator steps, with the signs of the golden weights."""
    signs = [*(exact.signs for exact in golden.exact[1:]), np.ones(1, np.int64)]  # the last layer's stay unflipped
    scales = accumulator_scales(golden.parameters)
    return [product / (scale * sign) for _, product, scale, sign in zip(codes, products, scales, signs, strict=True)]


def _compare_sums(
    golden: GoldenNetwork, expected: Sequence[LayerTrace], codes: Codes, sums: Sequence[NDArray[np.float64]]
) -> tuple[SumsComparison, ...]:
    compared = []
    for k, (fed, real) in enumerate(zip(codes, sums, strict=True), start=1):
        accumulators = expected[k].accumulators
        assert accumulators is not None
        compared.append(SumsComparison.of(real, accumulators, sum_bounds(golden, k, fed)))
    return tuple(compared)


def sum_bounds(golden: GoldenNetwork, k: int, codes: NDArray[np.int16]) -> NDArray[np.float64]:
    """How many steps float32 sums of layer k (from 1) on `codes` [images, inputs] may be from the accumulators.

    Each weight and each input is a code times a scale, rounded once; a sum of n products in any order is off by at most
    gamma(n) times the sum of magnitudes, gamma(n) = n u / (1 - n u), u = 2^-24 (Higham, "Accuracy and Stability of
    Numerical Algorithms", 3.1). So, with one more u for the division by the scale, which is done in float64:

        |sum - accumulator| <= gamma(n + 3) sum |weight code| |input code|
    """
    error = (codes.shape[1] + 3) * _UNIT_ROUNDOFF
    bounds: NDArray[np.float64] = error / (1 - error) * golden.magnitudes(k, codes)
    return bounds


def logit_bound(golden: GoldenNetwork) -> NDArray[np.float64]:
    """How far float32 logits may be from the exact ones [classes], whatever the order of the sums.

    A sum of n products has a relative error of at most about n 2^-24 of the sum of magnitudes (Higham, "Accuracy and
    Stability of Numerical Algorithms", 3.1); the batch norm adds a few more operations. Where a weight, a product or
    the batch norm's gain is below float32's normal numbers, its error is at most 2^-149 instead, whatever its size
    (2.1 there); sums have no such error. So it is with the product of any of the scales, by which FINN multiplies the
    accumulator: each step of that is off by 2^-149 times the scales that are still to come.
    """
    *_, (layer, input_scale) = with_input_scales(golden.parameters)
    before, weight_scales = golden.layers[-2], layer.weight_scales.astype(np.float64)
    largest_code = max(abs(before.lowest), abs(before.highest))
    accumulator = np.abs(layer.codes.astype(np.int64)).sum(axis=1) * largest_code
    magnitude = accumulator * accumulator_scales(golden.parameters)[-1]
    gain = np.abs(layer.gamma) / np.sqrt(layer.variance.astype(np.float64) + layer.epsilon)
    reach, operations = magnitude + np.abs(layer.mean), layer.inputs + 8
    relative = operations * _UNIT_ROUNDOFF * (gain * reach + np.abs(layer.beta))
    of_scales = accumulator * (1 + weight_scales) * (1 + input_scale) * (1 + gain)
    of_inputs = operations * (1 + gain * (1 + largest_code * input_scale))
    absolute = _SMALLEST * (of_inputs + reach + of_scales)
    bound: NDArray[np.float64] = relative + absolute
    return bound


def require_close_logits(
    golden: GoldenNetwork, accumulators: NDArray[np.int64], given: NDArray[np.float32], name: str
) -> None:
    """Raise EquivalenceError unless `given` logits are within float32's bound of those of the last accumulators.

    Both are [images, classes]; the accumulators are exact, on the codes that the other model fed its last layer with.
    """
    exact, bound = logits(golden.parameters, accumulators), logit_bound(golden)
    wrong = np.argwhere(~(np.abs(given - exact) <= bound))  # NaN is wrong too
    if len(wrong):
        image, channel = map(int, wrong[0])
        raise EquivalenceError(
            f"{name}: logits of {len(np.unique(wrong[:, 0]))} of {len(given)} images are further from the exact ones "
            f"than float32 explains; first image {image}, class {channel}: {given[image, channel]:.9g} instead of "
            f"{exact[image, channel]:.9g}, give or take {bound[channel]:.3g}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelComparison:
    """FINN's thresholds against the exact ones, activation by activation; the weights were found equal."""

    activations: tuple[ThresholdComparison, ...]
    last_signs: NDArray[np.int64]
    """[classes]: the signs by which FINN multiplied the last layer's weights."""

    @property
    def thresholds(self) -> int:
        """How many thresholds there are."""
        return sum(activation.verdicts.size for activation in self.activations)

    @property
    def float32(self) -> int:
        """Thresholds that float32 arithmetic put on the other side of an accumulator."""
        return sum(activation.count(Verdict.FLOAT32) for activation in self.activations)

    @property
    def ties(self) -> int:
        """Thresholds that differ on an accumulator that lies on the boundary exactly."""
        return sum(activation.count(Verdict.TIE) for activation in self.activations)

    @property
    def differing_accumulators(self) -> int:
        """How many (channel, accumulator) pairs get another code."""
        return sum(activation.differing_accumulators for activation in self.activations)

    @property
    def largest_step(self) -> int:
        """By how many accumulator values the worst threshold is off."""
        return max(int(np.abs(a.other - a.exact.thresholds).max()) for a in self.activations)

    def require_explained(self) -> None:
        """Raise EquivalenceError, naming activation, channel and step, where a threshold has no explanation."""
        for k, activation in enumerate(self.activations):
            activation.require_explained(f"FINN's thresholds of activation {k}")

    def require_exact(self) -> None:
        """Raise EquivalenceError, naming activation, channel and step, where a threshold is not the exact one."""
        for k, activation in enumerate(self.activations):
            for first in activation.differences():
                raise EquivalenceError(f"exact thresholds of activation {k}: {first}")


def compare_models(golden: GoldenNetwork, hardware: HardwareModel) -> ModelComparison:
    """FINN's integers against the exact ones. Raises EquivalenceError where the weights are not the trained ones."""
    ours, theirs = golden.layers, hardware.network.layers
    if len(ours) != len(theirs):
        raise EquivalenceError(f"FINN's graph has {len(theirs)} layers and the trained network {len(ours)}")
    for k, (layer, reference) in enumerate(zip(theirs[:-1], ours[:-1], strict=True)):
        if layer.lowest != reference.lowest:
            raise EquivalenceError(f"activation {k}: FINN's lowest code is {layer.lowest}, not {reference.lowest}")
        if k > 0:
            gamma = golden.parameters.layers[k - 1].gamma
            wrong = np.flatnonzero((channel_signs(layer, reference) != 1) & (gamma != 0))
            if len(wrong):
                raise EquivalenceError(f"layer {k}: FINN flipped the weights of channel {wrong[0]} against its gamma")
    activations = tuple(
        compare_thresholds(exact, given) for exact, given in zip(golden.exact, hardware.thresholds, strict=True)
    )
    return ModelComparison(activations=activations, last_signs=channel_signs(theirs[-1], ours[-1]))


@dataclass(frozen=True, kw_only=True)
class ImagesThatDiffer:
    """How many images the float32 thresholds touch."""

    accumulators: int
    """Images of which any accumulator of the last layer differs."""
    top1: int
    """Images that are classified differently."""


def images_that_differ(
    golden: GoldenNetwork, hardware: HardwareModel, exact: NDArray[np.int64], given: NDArray[np.int64]
) -> ImagesThatDiffer:
    """The effect of all differing thresholds together on some images.

    `exact` and `given` are the accumulators [images, classes] of the golden model and of the hardware model.
    """
    signs = channel_signs(hardware.network.layers[-1], golden.layers[-1])
    exact_top1 = logits(golden.parameters, exact).argmax(axis=1)
    return ImagesThatDiffer(
        accumulators=int((exact * signs != given).any(axis=1).sum()),
        top1=int(np.count_nonzero(exact_top1 != hardware.logits(given).argmax(axis=1))),
    )


def require_equal(expected: NDArray[np.int64], got: NDArray[np.int64], name: str) -> None:
    """Raise EquivalenceError, naming the first image and channel, unless both [images, channels] are equal."""
    if expected.shape != got.shape:
        raise EquivalenceError(f"{name}: {got.shape} accumulators instead of {expected.shape}")
    wrong = np.argwhere(expected != got)
    if len(wrong):
        image, channel = map(int, wrong[0])
        raise EquivalenceError(
            f"{name}: {len(np.unique(wrong[:, 0]))} of {len(expected)} images differ; first image {image}, channel "
            f"{channel}: expected {expected[image, channel]}, got {got[image, channel]}"
        )
