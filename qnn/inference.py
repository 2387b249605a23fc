"""The trained Brevitas network run on images: its logits, and the codes and matrix products on the way to them."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qnn.integer import ForwardPass
from qnn.networks import Chain, torch_threads

__all__ = ["run"]

_CHUNK_IMAGES = 1000
"""A chunk's tensors stay in the processor's cache; smaller ones cost more in Brevitas' Python."""


@contextmanager
def _outputs(modules: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """What the modules give from now on, in the order in which they do."""
    seen: list[Tensor] = []

    def note(module: nn.Module, inputs: object, output: Tensor) -> None:
        seen.append(output)

    with ExitStack() as hooks:
        for module in modules:
            hooks.enter_context(module.register_forward_hook(note))
        yield seen


def _codes(activation: Any, outputs: Tensor) -> NDArray[np.int16]:
    """The integer codes behind a quantised activation's outputs: every output is a code times the scale."""
    codes: NDArray[np.int16] = (outputs / activation.act_quant.scale()).round_().to(torch.int16).numpy()
    return codes


@torch.no_grad()
def run(network: Chain, pixels: NDArray[np.uint8]) -> ForwardPass:
    """One forward pass of a quantised network in eval mode, for pixels [images, inputs]; nothing is computed twice."""
    starts = range(0, max(len(pixels), 1), _CHUNK_IMAGES)
    # One thread: its sums are then the same on any number of cores. Nothing is lost: such small tensors gain little
    # from a second one, and where other programs keep the cores busy, threads that wait for each other take twenty
    # times as long.
    with torch_threads(1):
        chunks = [_run(network, torch.tensor(pixels[start : start + _CHUNK_IMAGES])) for start in starts]
    return ForwardPass(
        logits=np.concatenate([chunk.logits for chunk in chunks]),
        codes=tuple(np.concatenate(parts) for parts in zip(*(chunk.codes for chunk in chunks), strict=True)),
        products=tuple(np.concatenate(parts) for parts in zip(*(chunk.products for chunk in chunks), strict=True)),
    )


def _run(network: Chain, pixels: Tensor) -> ForwardPass:
    with _outputs(network.activations) as activated, _outputs(network.linears) as summed:
        logits = network(pixels.float())
    return ForwardPass(
        logits=logits.numpy(),
        codes=tuple(_codes(*pair) for pair in zip(network.activations, activated, strict=True)),
        products=tuple(outputs.numpy() for outputs in summed),
    )
