"""The exact numbers of a trained network, as arrays: what the golden integer model and the checkpoints are made from.

This module knows numpy only. ``qnn.networks.read_parameters`` fills these classes from a Brevitas network, and
``qnn.networks.build_from_parameters`` goes the other way.

A network computes, for pixels p in 0..255 (float32 throughout, rounding half to even):

    x    = p * PIXEL_SCALE + PIXEL_OFFSET
    q[0] = clip(round(x / input_scale), -2^(input_bits-1), 2^(input_bits-1) - 1)
    layer k:  s = codes @ q[k]                                      integer accumulators
              z = (s * weight_scales * scale of q[k] - mean) / sqrt(variance + epsilon) * gamma + beta
              q[k+1] = clip(round(z / activation_scale), -2^(activation_bits-1), 2^(activation_bits-1) - 1)
                       or, unsigned, clip(..., 0, 2^activation_bits - 1); narrow range leaves out the lowest code of a
                       signed activation and the highest of an unsigned one
    the last layer has no activation: its z are the logits.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PIXEL_OFFSET", "PIXEL_SCALE", "WIDTHS", "LayerParameters", "NetworkParameters"]

WIDTHS = (1024, 64, 64, 64, 10)
"""Inputs of each layer, and the outputs of the last: TFC, of the study's own repository."""

PIXEL_SCALE = np.float32(2 / 255)
"""Pixels 0..255 are mapped to [-1, 1] before the input quantiser."""
PIXEL_OFFSET = np.float32(-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerParameters:
    """One fully connected layer with its batch norm and the activation behind it."""

    codes: NDArray[np.int8]
    """Integer weights [outputs, inputs], from -(2^(weight_bits-1) - 1) to 2^(weight_bits-1) - 1 (narrow range); all
    networks of the study are so. One with a weight of -2^(weight_bits-1) has the full range."""
    weight_bits: int
    weight_scales: NDArray[np.float32]
    """[outputs], positive; a per-tensor scale is repeated for every output."""
    weight_scale_per_channel: bool
    gamma: NDArray[np.float32]
    """Batch norm's weight [outputs], any sign."""
    beta: NDArray[np.float32]
    """Batch norm's bias [outputs]."""
    mean: NDArray[np.float32]
    """Batch norm's running mean [outputs]."""
    variance: NDArray[np.float32]
    """Batch norm's running variance [outputs], not negative."""
    epsilon: float
    activation_scale: np.float32 | None
    """One step of the activation behind this layer, positive; None behind the last layer."""
    activation_bits: int | None
    activation_signed: bool = True
    """Whether it has negative codes too; means nothing behind the last layer."""
    activation_narrow: bool = False
    """Whether it has the narrow range; means nothing behind the last layer."""

    @property
    def narrow_weights(self) -> bool:
        """Whether no weight is the lowest value that weight_bits hold."""
        return bool(self.codes.min() > -(2 ** (self.weight_bits - 1)))

    @property
    def inputs(self) -> int:
        return int(self.codes.shape[1])

    @property
    def outputs(self) -> int:
        return int(self.codes.shape[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkParameters:
    """A quantised network, whole: with it and the formula above every prediction can be computed."""

    input_scale: np.float32
    """One step of the input quantiser, positive."""
    input_bits: int
    layers: tuple[LayerParameters, ...]
