"""The first node of a chain that does not give the integers that it has to give, with what lies around the place.

All hops below FINN's streamlined graph are a chain of the same stages: pixels, codes, accumulators, codes, ...,
accumulators, top-1. A matrix unit goes from codes to accumulators, or to the next codes where it holds its activation
itself, a thresholding from accumulators (or pixels) to codes, a LabelSelect from accumulators to top-1, and a FIFO or
width converter leaves what it is given as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qnn.integer import IntegerNetwork
from qnn.tools import verilator
from qnn.tools.finn import LayerGeometry, NodeValues

__all__ = ["Divergence", "Unlike", "explaining_weights", "first_divergence", "first_unlike", "read_taps", "stages"]

_MATRIX = ("MVAU", "MatMul")
_ACTIVATION = ("Thresholding", "MultiThreshold")
_SHOWN = 4
"""Thresholds or weights that are shown to either side."""


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """Where a hop leaves the integers that the hop before it gives."""

    hop: str
    node: str
    op_type: str
    image: int
    """Number in the data set."""
    channel: int | None
    """None where the node gave nothing for the image, and so `expected` and `got`."""
    expected: int | None
    got: int | None
    wrong_images: int
    """Of those that were compared."""
    images: int
    around: str
    """Thresholds or weights around the place."""
    takes: int
    """The stage that the node takes, and the one that it gives: see stages()."""
    gives: int

    def __str__(self) -> str:
        if self.channel is None:
            what = f"stopped before image {self.image} was whole"
        else:
            what = f"image {self.image}, channel {self.channel}: expected {self.expected}, got {self.got}"
        return (
            f"{self.hop}: the first wrong node is {self.node} ({self.op_type}), in {self.wrong_images} of "
            f"{self.images} images; {what}; {self.around}"
        )


def read_taps(layers: Sequence[LayerGeometry], streams: Sequence[NDArray[np.uint8]]) -> list[NodeValues]:
    """What ``verilator.taps`` gives, as each node's integers [images, elements]."""
    nodes = []
    for layer, beats in zip(layers, streams[1:], strict=True):
        bits, lanes, elements = layer.output_bits, layer.output_lanes, layer.output_elements
        values = verilator.unpack(beats, lane_bits=bits, lanes=lanes, signed=layer.output_signed).reshape(-1)
        whole = values[: len(values) // elements * elements].reshape(-1, elements)
        nodes.append(NodeValues(name=layer.name, op_type=layer.op_type, values=whole))
    return nodes


def stages(network: IntegerNetwork, pixels: NDArray[Any]) -> list[NDArray[np.int64]]:
    """[images, channels] of every stage; top-1 is the first of the largest accumulators, one channel."""
    found = [pixels.astype(np.int64)]
    for layer in network.trace(pixels):
        found += [np.asarray(part, np.int64) for part in (layer.accumulators, layer.codes) if part is not None]
    return [*found, found[-1].argmax(axis=1)[:, None]]


def _stages_on(node: NodeValues, following: NodeValues | None) -> int:
    """By how many stages a node goes on."""
    if node.op_type.startswith(_MATRIX):
        fused = following is not None and following.op_type.startswith(_MATRIX)
        return 2 if fused else 1
    return int(node.op_type.startswith((*_ACTIVATION, "LabelSelect")))


def first_divergence(
    hop: str,
    network: IntegerNetwork,
    pixels: NDArray[Any],
    nodes: Sequence[NodeValues],
    images: Sequence[int] | None = None,
) -> Divergence | None:
    """The first of `nodes`, in the order of the stream, that differs from `network` on `pixels`; None without one.

    `images` are the numbers of `pixels` in the data set, 0 and up by default.
    """
    numbers = range(len(pixels)) if images is None else images
    taken = len(pixels)
    stopped: Divergence | None = None
    kinds = [node for node in nodes if node.op_type.startswith((*_MATRIX, *_ACTIVATION, "LabelSelect"))]
    # Where the input goes into a matrix unit as it is, pixels are the codes.
    expected, stage = stages(network, pixels), int(bool(kinds) and kinds[0].op_type.startswith(_MATRIX))
    following = dict(zip((node.name for node in kinds), kinds[1:], strict=False))
    for node in nodes:
        before = stage
        stage += _stages_on(node, following.get(node.name))
        wanted = expected[stage]
        given = node.values[: len(wanted)]
        wrong = (given != wanted[: len(given)]).any(axis=1)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            channel = int(np.flatnonzero(given[row] != wanted[row])[0])
            return Divergence(
                hop=hop,
                node=node.name,
                op_type=node.op_type,
                image=numbers[row],
                channel=channel,
                expected=int(wanted[row, channel]),
                got=int(given[row, channel]),
                wrong_images=int(wrong.sum()),
                images=len(wanted),
                around=_around(network, expected, before, stage, given, row, channel),
                takes=before,
                gives=stage,
            )
        # In a standstill the nodes before the one at fault are held up, and those behind it have nothing to take: it is
        # the last that has taken an image for which it has given nothing.
        if len(given) < taken:
            stopped = Divergence(
                hop=hop,
                node=node.name,
                op_type=node.op_type,
                image=numbers[len(given)],
                channel=None,
                expected=None,
                got=None,
                wrong_images=len(wanted) - len(given),
                images=len(wanted),
                around=f"it took {taken} images, and all {len(given)} that it gave are right",
                takes=before,
                gives=stage,
            )
        taken = len(given)
    return stopped


_KINDS = {
    "MultiThreshold": "activation",
    "Thresholding": "activation",
    "MatMul": "product",
    "XnorPopcountMatMul": "product",
    "MVAU": "product",
    "VVAU": "product",
    "Im2Col": "window",
    "ConvolutionInputGenerator": "window",
    "MaxPoolNHWC": "pool",
    "Pool": "pool",
}
"""What is the same in a streamlined graph, a hardware graph and its HLS and RTL variants."""


def _kind(node: NodeValues) -> str | None:
    return _KINDS.get(node.op_type.removesuffix("_hls").removesuffix("_rtl"))


def _by_kind(nodes: Sequence[NodeValues]) -> dict[tuple[str, int], NodeValues | None]:
    """{(kind, how many of the kind came before)}; nodes of other kinds are left out, and so are windows of pools.

    A streamlined graph has no such windows. None stands for the windows of a depthwise convolution: their elements
    come in an order that depends on how many channels go side by side.
    """
    found: dict[tuple[str, int], NodeValues | None] = {}
    known = [(kind, node) for node in nodes if (kind := _kind(node)) is not None]
    for (kind, node), (following, after) in zip(known, [*known[1:], (None, None)], strict=True):
        if (kind, following) != ("window", "pool"):
            depthwise = kind == "window" and after is not None and after.op_type.startswith("VVAU")
            found[kind, sum(key[0] == kind for key in found)] = None if depthwise else node
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Unlike:
    """A node that does not give what its counterpart in another graph gives."""

    place: int
    """Which one it is of the nodes that were compared."""
    expected: NDArray[np.int64]
    """[images, elements] that the counterpart gives."""
    text: str

    def __str__(self) -> str:
        return self.text


def first_unlike(
    hop: str, reference: Sequence[NodeValues], nodes: Sequence[NodeValues], images: Sequence[int]
) -> Unlike | None:
    """The first of `nodes` that does not give what its counterpart in another graph, `reference`, gives.

    For graphs that are no chain of an IntegerNetwork. Counterparts are of the same kind and number, and the last
    nodes are counterparts anyway. Values are [images, elements]; None where all are equal.
    """
    expected = _by_kind(reference)
    if any(node.op_type == "Transpose" for node in reference):  # activations may be on either side of one
        expected = {key: node for key, node in expected.items() if key[0] != "activation"}
    pairs = [(node, expected.get(key)) for key, node in _by_kind(nodes).items() if node is not None]
    for node, other in [*pairs, (nodes[-1], reference[-1])]:
        if other is None:
            continue
        if node.values.shape != other.values.shape:
            text = (
                f"{hop}: {node.name} ({node.op_type}) gives {list(node.values.shape)} values and {other.name} "
                f"({other.op_type}) {list(other.values.shape)}"
            )
            return Unlike(place=nodes.index(node), expected=other.values, text=text)
        wrong = np.argwhere(node.values != other.values)
        if len(wrong):
            row, element = map(int, wrong[0])
            text = (
                f"{hop}: the first wrong node is {node.name} ({node.op_type}), in {len(np.unique(wrong[:, 0]))} of "
                f"{len(images)} images; image {images[row]}, element {element}: expected "
                f"{other.values[row, element]} of {other.name}, got {node.values[row, element]}"
            )
            return Unlike(place=nodes.index(node), expected=other.values, text=text)
    return None


def _around(
    network: IntegerNetwork,
    expected: Sequence[NDArray[np.int64]],
    before: int,
    stage: int,
    given: NDArray[np.int64],
    row: int,
    channel: int,
) -> str:
    if stage == before:
        return "it has to give what it is given"
    if stage == len(expected) - 1:
        return f"its input is {_listed(expected[before][row])}"
    if stage - before > 1:  # around its activation
        before += 1
    layer = network.layers[stage // 2]
    if stage % 2:
        assert layer.thresholds is not None
        steps = layer.thresholds[channel % len(layer.thresholds)]
        accumulator = int(expected[before][row, channel])
        place = int(np.searchsorted(steps, accumulator, side="right"))
        below, above = steps[max(0, place - _SHOWN) : place], steps[place : place + _SHOWN]
        return (
            f"its input is {accumulator}; thresholds not above it {_listed(below)}, above it {_listed(above)} "
            f"(steps {max(0, place - _SHOWN)} to {min(len(steps), place + _SHOWN) - 1} of {len(steps)})"
        )
    assert layer.weights is not None
    inputs = expected[before][: len(given)]
    off = (given - expected[stage][: len(given)])[:, channel]
    return f"{_single_weight(inputs, off)}weights of the channel {_listed(layer.weights[channel, : 2 * _SHOWN])} ..."


def _listed(values: NDArray[np.int64]) -> str:
    return ", ".join(map(str, values.tolist())) if len(values) else "none"


def _single_weight(inputs: NDArray[np.int64], off: NDArray[np.int64]) -> str:
    """Which one weight, off by how much, explains a channel's differences; nothing where it could be several."""
    found = explaining_weights(inputs, off)
    return "".join(f"as if the weight of input {k} were off by {by}; " for k, by in found.items() if len(found) == 1)


def explaining_weights(inputs: NDArray[np.int64], off: NDArray[np.int64]) -> dict[int, int]:
    """{input: by how much its weight is off} of each single weight that explains a channel's sums.

    `off` [vectors] is what the sums are too large by on `inputs` [vectors, inputs], not 0 throughout.
    """
    first = np.flatnonzero(off)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.where(inputs[first] != 0, off[first] // inputs[first], 0)
    candidates = np.flatnonzero((inputs * change == off[:, None]).all(axis=0) & (change != 0))
    return {int(k): int(change[k]) for k in candidates}
