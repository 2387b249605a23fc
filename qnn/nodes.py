"""What each node of FINN's folded graph gave, and what it has to give by the hardware integer model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qnn.errors import EquivalenceError
from qnn.integer import IntegerNetwork

__all__ = ["NodeOutput", "expected_outputs", "require_equal_nodes"]


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeOutput:
    """One node's output for some images."""

    name: str
    op_type: str
    values: NDArray[np.int64]
    """[images, channels]"""
    cycles: int | None
    """Clock cycles of the last image through this node alone; None where FINN does not simulate the node."""


def expected_outputs(
    op_types: Sequence[str], network: IntegerNetwork, pixels: NDArray[np.uint8]
) -> list[NDArray[np.int64]]:
    """[images, channels] behind each node of a chain, by its operator type.

    A Thresholding gives the next layer's codes, an MVAU its accumulators; anything else, a FIFO or a converter, what it
    was given.
    """
    layers = iter(network.trace(pixels))
    values, outputs, codes = pixels.astype(np.int64), [], next(layers).codes
    for op_type in op_types:
        if op_type.startswith("Thresholding") and codes is not None:
            values = codes.astype(np.int64)
        elif op_type.startswith("MVAU"):
            layer = next(layers)
            assert layer.accumulators is not None
            values, codes = layer.accumulators, layer.codes
        outputs.append(values)
    return outputs


def require_equal_nodes(expected: Sequence[NDArray[np.int64]], nodes: Sequence[NodeOutput], name: str) -> None:
    """Raise EquivalenceError, naming the first node that differs, image and channel, unless all outputs are equal."""
    for values, node in zip(expected, nodes, strict=True):
        if values.shape != node.values.shape:
            raise EquivalenceError(f"{name}, {node.name}: {node.values.shape} integers instead of {values.shape}")
        wrong = np.argwhere(values != node.values)
        if len(wrong):
            image, channel = map(int, wrong[0])
            raise EquivalenceError(
                f"{name}: the first node that differs is {node.name} ({node.op_type}), in {len(wrong):,} of "
                f"{values.size:,} integers; first image {image}, channel {channel}: expected {values[image, channel]}, "
                f"got {node.values[image, channel]}"
            )
