"""What each node of a folded graph has to give, on a network that can be worked out by hand."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from qnn.errors import EquivalenceError
from qnn.integer import IntegerLayer, IntegerNetwork
from qnn.nodes import NodeOutput, expected_outputs, require_equal_nodes

NETWORK = IntegerNetwork(
    layers=(
        IntegerLayer(weights=None, thresholds=np.array([[100]]), lowest=0),
        IntegerLayer(weights=np.array([[1, -1], [1, 1]]), thresholds=np.array([[0], [2]]), lowest=-1),
        IntegerLayer(weights=np.array([[3, 1]]), thresholds=None),
    )
)
PIXELS = np.array([[99, 100], [200, 255]], dtype=np.uint8)
TYPES = ["StreamingFIFO_rtl", "Thresholding_rtl", "MVAU_rtl", "StreamingFIFO_rtl", "Thresholding_rtl", "MVAU_rtl"]


def _nodes(outputs: Sequence[np.ndarray]) -> list[NodeOutput]:
    return [
        NodeOutput(name=f"{op_type}_{k}", op_type=op_type, values=values, cycles=None)
        for k, (op_type, values) in enumerate(zip(TYPES, outputs, strict=True))
    ]


def test_a_chain_gives_pixels_codes_accumulators_codes_and_accumulators() -> None:
    pixels, codes, products, behind_fifo, signs, last = expected_outputs(TYPES, NETWORK, PIXELS)
    assert pixels.tolist() == [[99, 100], [200, 255]]
    assert codes.tolist() == [[0, 1], [1, 1]]
    assert products.tolist() == behind_fifo.tolist() == [[-1, 1], [0, 2]]
    assert signs.tolist() == [[-1, -1], [0, 0]]
    assert last.tolist() == [[-4], [0]]


def test_equal_nodes_pass() -> None:
    expected = expected_outputs(TYPES, NETWORK, PIXELS)
    require_equal_nodes(expected, _nodes(expected), "rtlsim")


def test_the_first_node_that_differs_is_named_with_image_and_channel() -> None:
    expected = expected_outputs(TYPES, NETWORK, PIXELS)
    nodes = _nodes(expected)
    for k in (4, 5):
        wrong = nodes[k].values.copy()
        wrong[1, 0] += 7
        nodes[k] = replace(nodes[k], values=wrong)
    with pytest.raises(EquivalenceError, match=r"Thresholding_rtl_4 .* image 1, channel 0: expected 0, got 7"):
        require_equal_nodes(expected, nodes, "rtlsim")


def test_another_shape_is_told() -> None:
    expected = expected_outputs(TYPES, NETWORK, PIXELS)
    nodes = _nodes(expected)
    nodes[2] = replace(nodes[2], values=nodes[2].values[:, :1])
    with pytest.raises(EquivalenceError, match=r"MVAU_rtl_2: \(2, 1\) integers instead of \(2, 2\)"):
        require_equal_nodes(expected, nodes, "rtlsim")
