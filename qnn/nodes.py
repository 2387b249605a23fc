"""What each node of an accelerator has to compute, from FINN's integers, and the check of a node alone against it.

The node is simulated by itself (qnn.tools.node_simulation) on directed vectors (qnn.directed): a fault in it shows
there, though no image reaches the values where it does, and a failure names the node.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qnn.directed import matrix_vectors, stream_vectors, threshold_vectors
from qnn.divergence import explaining_weights
from qnn.errors import DataflowError, EquivalenceError, SimulationError
from qnn.thresholding import count_thresholds
from qnn.tools import node_simulation, verilator
from qnn.tools.finn import DataflowModel, HardwareModel, LayerGeometry
from qnn.tools.node_simulation import NodeRun

__all__ = ["STALLS", "NodeCheck", "NodeFunction", "Stream", "check_node", "check_vectors", "node_functions"]

STALLS = (2, 16, 0)
"""Mean cycles between stalls of the runs of a check; 0 is without."""
STALLED_VECTORS = 16
"""Vectors of the runs with stalls: the handshakes do not depend on the data. They are first, being short."""
_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Stream:
    """How a vector of integers is carried: lane k of beat b is value b * lanes + k."""

    values: int
    lanes: int
    bits: int
    signed: bool

    @property
    def beats(self) -> int:
        """Beats of one vector."""
        return self.values // self.lanes

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest value of the data type."""
        return (-(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1) if self.signed else (0, 2**self.bits - 1)


def _stream(values: int, lanes: int, datatype: str) -> Stream:
    match = re.fullmatch(r"(U?)INT(\d+)", datatype)
    if match is None:
        raise DataflowError(f"a stream of {datatype}, not of integers")
    return Stream(values=values, lanes=lanes, bits=int(match[2]), signed=not match[1])


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeFunction:
    """A Thresholding, a matrix unit or, without thresholds and weights, a FIFO."""

    name: str
    input: Stream
    output: Stream
    cycles: int
    """FINN's expected cycles of one vector."""
    weights: NDArray[np.int64] | None = None
    """[outputs, inputs]"""
    thresholds: NDArray[np.int64] | None = None
    """[channels, steps], ascending, for every value of the input's type: not clipped to what occurs."""
    lowest: int = 0
    """The code below all thresholds."""

    @property
    def interval_cycles(self) -> int:
        """What a vector takes without stalls: FINN's expected cycles, or its beats where these are more."""
        return max(self.cycles, self.input.beats, self.output.beats)

    def evaluate(self, vectors: NDArray[np.int64]) -> NDArray[np.int64]:
        """Outputs [vectors, outputs] of vectors [vectors, inputs]."""
        if self.weights is not None:
            products: NDArray[np.int64] = vectors @ self.weights.T
            return products
        if self.thresholds is None:
            return vectors
        return self.lowest + count_thresholds(vectors, self.thresholds)

    def directed_vectors(self) -> NDArray[np.int64]:
        """[vectors, inputs], see qnn.directed; over the whole range of the input's type."""
        if self.weights is not None:
            return matrix_vectors(self.weights, *self.input.range)
        if self.thresholds is None:
            return stream_vectors(self.input.values, *self.input.range)
        return threshold_vectors(self.thresholds, *self.input.range)


def _function(layer: LayerGeometry, hardware: HardwareModel, k: int) -> NodeFunction:
    """Of the k-th Thresholding or the k-th matrix unit."""
    if layer.folding is not None:
        weights, applied = hardware.network.layers[k + 1].weights, layer.folding.applied
        return NodeFunction(
            name=layer.name,
            input=_stream(layer.folding.inputs, applied.simd, layer.input_type),
            output=_stream(layer.folding.outputs, applied.pe, layer.output_type),
            cycles=layer.cycles,
            weights=weights,
        )
    lanes = layer.pe or 1
    channels = layer.cycles * lanes
    thresholds = np.ceil(hardware.thresholds[k].astype(np.float64)).astype(np.int64)
    return NodeFunction(
        name=layer.name,
        input=_stream(channels, lanes, layer.input_type),
        output=_stream(channels, lanes, layer.output_type),
        cycles=layer.cycles,
        thresholds=np.broadcast_to(thresholds, (channels, thresholds.shape[1])),
        lowest=hardware.network.layers[k].lowest,
    )


def _fifo(name: str, carried: Stream) -> NodeFunction:
    return NodeFunction(name=name, input=carried, output=carried, cycles=carried.beats)


def node_functions(dataflow: DataflowModel, hardware: HardwareModel) -> dict[str, NodeFunction]:
    """{node name: what it has to compute} of every Thresholding, matrix unit and FIFO, in the order of the stream."""
    found: dict[str, NodeFunction] = {}
    for kind in ("Thresholding", "MVAU"):
        layers = [layer for layer in dataflow.layers if layer.op_type.startswith(kind)]
        found |= {layer.name: _function(layer, hardware, k) for k, layer in enumerate(layers)}
    upcoming = [layer.name for layer in dataflow.layers if layer.name in found]
    carried = found[upcoming[0]].input
    for layer in dataflow.layers:
        if layer.op_type.startswith("StreamingFIFO"):
            found[layer.name] = _fifo(layer.name, carried)
        elif layer.name in found:
            carried = found[upcoming.pop(0)].output
        elif upcoming:  # a converter of data widths
            carried = found[upcoming[0]].input
    return {layer.name: found[layer.name] for layer in dataflow.layers if layer.name in found}


@dataclass(frozen=True, kw_only=True)
class NodeCheck:
    """A check that was passed."""

    vectors: int
    values: int
    """Outputs that were compared."""
    cycles: int
    """Simulated, without the runs with stalls."""


def _around(function: NodeFunction, vectors: NDArray[np.int64], got: NDArray[np.int64], channel: int) -> str:
    """The thresholds next to the first wrong value, or the weight that explains every wrong sum of the channel."""
    expected = function.evaluate(vectors)[:, channel]
    wrong = np.flatnonzero(expected != got[:, channel])
    vector = int(wrong[0])
    if function.thresholds is not None:
        row = function.thresholds[channel]
        step = int(min(expected[vector], got[vector, channel])) - function.lowest
        first = max(0, min(step - 1, len(row) - 1))
        shown = ", ".join(f"T{k} = {row[k]}" for k in range(first, min(first + _SHOWN // 2, len(row))))
        return f"its input is {vectors[vector, channel]}, its thresholds there are {shown}"
    if function.weights is None:
        return f"it was given {vectors[vector, channel]}"
    row = function.weights[channel]
    for i, change in explaining_weights(vectors, got[:, channel] - expected).items():
        return f"every sum of the channel is explained by weight {i}: {row[i] + change} instead of {row[i]}"
    return f"no single weight explains it; the first weights of the channel are {row[:_SHOWN].tolist()}"


def _require_equal(function: NodeFunction, vectors: NDArray[np.int64], got: NDArray[np.int64], how: str) -> None:
    expected = function.evaluate(vectors)
    wrong = np.argwhere(expected != got)
    if len(wrong):
        vector, channel = map(int, wrong[0])
        raise EquivalenceError(
            f"{function.name}, {how}: {len(wrong)} of {expected.size} outputs differ, in channels "
            f"{np.unique(wrong[:, 1])[:_SHOWN].tolist()}; first vector {vector}, channel {channel}: expected "
            f"{expected[vector, channel]}, got {got[vector, channel]}; {_around(function, vectors, got, channel)}"
        )


def check_node(
    function: NodeFunction,
    simulator: verilator.Simulator,
    contents: Mapping[str, str],
    *,
    scope: str = node_simulation.SCOPE,
) -> NodeCheck:
    """Let a node compute the directed vectors, with and without stalls, and hold it against `function`.

    `simulator` is the node's program (qnn.tools.node_simulation.build), and `contents` those of its memories; `scope`
    as for node_simulation.run(). Without stalls a vector takes `function.interval_cycles`.

    Raises EquivalenceError, naming node, channel, vector, expected, got and the thresholds or the weight; and, naming
    the node, what node_simulation.run() raises where it stands still or breaks a handshake.
    """
    vectors = function.directed_vectors()
    for stalls in STALLS:
        run = check_vectors(
            function, simulator, contents, vectors[:STALLED_VECTORS] if stalls else vectors, stalls, scope=scope
        )
    intervals, counts = np.unique(np.diff(run.completions_cycles), return_counts=True)
    interval, due = int(intervals[counts.argmax()]), function.interval_cycles
    if interval != due:
        raise EquivalenceError(f"{function.name}: a vector takes {interval:,} cycles instead of {due:,}")
    return NodeCheck(
        vectors=len(vectors), values=len(vectors) * function.output.values, cycles=int(run.completions_cycles[-1])
    )


def check_vectors(
    function: NodeFunction,
    simulator: verilator.Simulator,
    contents: Mapping[str, str],
    vectors: NDArray[np.int64],
    stalls: int,
    *,
    scope: str = node_simulation.SCOPE,
) -> NodeRun:
    """Let a node compute `vectors` [vectors, inputs] in one run. Arguments and errors as for check_node()."""
    given, taken = function.input, function.output
    how = f"mean run between stalls {stalls}" if stalls else "without stalls"
    frames = node_simulation.pack(vectors, lane_bits=given.bits, lanes=given.lanes, beat_bytes=simulator.input_bytes)
    try:
        run = node_simulation.run(simulator, contents, frames, output_beats=taken.beats, stalls=stalls, scope=scope)
    except SimulationError as error:
        raise type(error)(f"{function.name}, {how}: {error}") from None
    lanes = verilator.unpack(run.output, lane_bits=taken.bits, lanes=taken.lanes, signed=taken.signed)
    _require_equal(function, vectors, lanes.reshape(len(vectors), -1), how)
    return run
