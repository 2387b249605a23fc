"""Two models of one network held against each other: every integer equal, or each difference explained.

The golden model is exact. A model that computed in float32 (Brevitas, QONNX, FINN's thresholds) may differ from it
only as ``qnn.thresholding`` allows; a model below FINN's graph may not differ at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qnn.errors import EquivalenceError
from qnn.integer import GoldenNetwork, LayerTrace, channel_signs, logits
from qnn.thresholding import CodeComparison, ThresholdComparison, Verdict, compare_codes, compare_thresholds
from qnn.tools.finn import HardwareModel

__all__ = [
    "CodesComparison",
    "ImagesThatDiffer",
    "ModelComparison",
    "codes_of",
    "compare_forward_pass",
    "compare_layers",
    "compare_models",
    "images_that_differ",
    "logit_bound",
    "require_equal",
]

Codes = Sequence[NDArray[np.int16]]
"""[images, channels] of every activation, the input quantiser's first."""


def codes_of(executed: Mapping[str, NDArray[Any]]) -> list[NDArray[np.int16]]:
    """The activations' codes out of what ``Pipeline.trace`` gives."""
    return [executed[f"codes_{k}"] for k in range(sum(name.startswith("codes_") for name in executed))]


@dataclass(frozen=True, kw_only=True, eq=False)
class CodesComparison:
    """Another model's codes against the exact ones, activation by activation."""

    activations: tuple[CodeComparison, ...]
    equal_images: NDArray[np.bool_]
    """[images]: whether every code that was compared is the exact one."""

    def _count(self, verdict: Verdict) -> int:
        return sum(activation.count(verdict) for activation in self.activations)

    @property
    def compared(self) -> int:
        """How many codes were compared."""
        return sum(activation.verdicts.size for activation in self.activations)

    @property
    def float32(self) -> int:
        """Codes that float32 arithmetic put on the other side of a boundary."""
        return self._count(Verdict.FLOAT32)

    @property
    def ties(self) -> int:
        """Codes that differ on an accumulator that lies on a boundary exactly."""
        return self._count(Verdict.TIE)

    def require_explained(self, name: str) -> None:
        """Raise EquivalenceError, naming activation, channel and accumulator, where a code has no explanation."""
        for k, activation in enumerate(self.activations):
            activation.require_explained(f"{name}, activation {k}")


def _compare_activation(
    golden: GoldenNetwork, k: int, accumulators: NDArray[Any], codes: NDArray[np.int16]
) -> CodeComparison:
    """Activation k on [images, channels]; the input quantiser is one channel, which every pixel goes through."""
    shape = (-1, len(golden.exact[k].thresholds))
    return compare_codes(golden.exact[k], accumulators.reshape(shape), codes.reshape(shape))


def _accumulators(trace: LayerTrace, pixels: NDArray[np.uint8]) -> NDArray[Any]:
    return pixels if trace.accumulators is None else trace.accumulators


def compare_layers(
    golden: GoldenNetwork, trace: Sequence[LayerTrace], codes: Codes, pixels: NDArray[np.uint8]
) -> CodesComparison:
    """Codes of layers that were each fed with the golden codes of the layer before: all of them are compared."""
    activations, equal = [], np.ones(len(pixels), dtype=np.bool_)
    for k, given in enumerate(codes):
        activations.append(_compare_activation(golden, k, _accumulators(trace[k], pixels), given))
        equal &= (given == trace[k].codes).all(axis=1)
    return CodesComparison(activations=tuple(activations), equal_images=equal)


def compare_forward_pass(
    golden: GoldenNetwork, trace: Sequence[LayerTrace], codes: Codes, pixels: NDArray[np.uint8]
) -> CodesComparison:
    """Codes of one forward pass: an image is compared up to the first activation in which it differs.

    Up to there both models saw the same integers, so a difference is that activation's own; behind it they no
    longer compute the same thing.
    """
    activations, equal = [], np.ones(len(pixels), dtype=np.bool_)
    for k, given in enumerate(codes):
        accumulators = _accumulators(trace[k], pixels)
        activations.append(_compare_activation(golden, k, accumulators[equal], given[equal]))
        equal &= (given == trace[k].codes).all(axis=1)
    return CodesComparison(activations=tuple(activations), equal_images=equal)


def logit_bound(golden: GoldenNetwork) -> NDArray[np.float64]:
    """How far float32 logits may be from the exact ones [classes], whatever the order of the sums.

    A sum of n products has a relative error of at most about n 2^-24 of the sum of magnitudes (Higham, "Accuracy and
    Stability of Numerical Algorithms", 3.1); the batch norm adds a few more operations.
    """
    parameters, before = golden.parameters, golden.layers[-2]
    layer = parameters.layers[-1]
    largest_code = max(abs(before.lowest), abs(before.highest))
    scale = layer.weight_scales.astype(np.float64) * float(parameters.layers[-2].activation_scale or 0)
    magnitude = np.abs(layer.codes.astype(np.int64)).sum(axis=1) * largest_code * scale
    gain = np.abs(layer.gamma) / np.sqrt(layer.variance.astype(np.float64) + layer.epsilon)
    operations = layer.inputs + 8
    bound: NDArray[np.float64] = operations * 2.0**-24 * (gain * (magnitude + np.abs(layer.mean)) + np.abs(layer.beta))
    return bound


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


def images_that_differ(golden: GoldenNetwork, hardware: HardwareModel, pixels: NDArray[np.uint8]) -> ImagesThatDiffer:
    """The effect of all differing thresholds together on `pixels` [images, inputs]."""
    signs = channel_signs(hardware.network.layers[-1], golden.layers[-1])
    exact, given = golden.evaluate(pixels), hardware.network.evaluate(pixels)
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
