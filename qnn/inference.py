"""The trained Brevitas network run on images: its logits, and each of its layers on given codes."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qnn.integer import LayerTrace
from qnn.networks import Network

__all__ = ["layer_codes", "run"]

_CHUNK_IMAGES = 1000


@torch.no_grad()
def run(network: Network, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits float32 [images, classes] for pixels uint8 [images, inputs]."""
    chunks = (pixels[start : start + _CHUNK_IMAGES] for start in range(0, len(pixels), _CHUNK_IMAGES))
    logits: NDArray[np.float32] = torch.cat([network(torch.tensor(chunk).float()) for chunk in chunks]).numpy()
    return logits


def _codes(activation: Any, values: Tensor) -> NDArray[np.int16]:
    """The integer codes behind a quantised activation's outputs: every output is a code times the scale."""
    codes: NDArray[np.int16] = (activation(values) / activation.act_quant.scale()).round().to(torch.int16).numpy()
    return codes


@torch.no_grad()
def layer_codes(network: Network, pixels: NDArray[np.uint8], golden: tuple[LayerTrace, ...]) -> list[NDArray[np.int16]]:
    """Brevitas' codes [images, channels] of every activation, each layer fed with the *golden* codes before it.

    So a difference in one layer is that layer's own. The first entry is the input quantiser's, of the pixels.
    """
    activations: list[Any] = list(network.activations)
    codes = [_codes(activations[0], network.normalise(torch.tensor(pixels).float()))]
    layers = zip(activations, network.linears, network.norms, activations[1:], strict=False)
    for trace, (before, linear, norm, behind) in zip(golden, layers, strict=False):
        inputs = torch.tensor(trace.codes, dtype=torch.float32) * before.act_quant.scale()
        codes.append(_codes(behind, norm(linear(inputs))))
    return codes
