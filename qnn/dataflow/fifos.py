"""Depths of FIFOs in a folded graph, where they are to be others than FINN's default."""

from collections.abc import Mapping

from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp

from qnn.errors import DataflowError

__all__ = ["set_depths"]

MINIMUM_DEPTH = 2
"""FINN's fifo.sv elaborates no less."""


def set_depths(model: ModelWrapper, depths: Mapping[str, int]) -> None:
    """Give FIFOs of fold() a depth by their name.

    The others keep theirs, the greater of their neighbours' ``outFIFODepths`` and ``inFIFODepths``, 2 by default
    (FINN, InsertFIFO).

    Raises DataflowError for a name that no FIFO has, or a depth below 2.
    """
    nodes = {node.name: node for node in model.graph.node if node.op_type.startswith("StreamingFIFO")}
    unknown = sorted(depths.keys() - nodes.keys())
    if unknown:
        raise DataflowError(f"no FIFO is named {', '.join(unknown)}: there are {', '.join(nodes)}")
    for name, depth in depths.items():
        if depth < MINIMUM_DEPTH:
            raise DataflowError(f"{name} cannot have depth {depth}: FINN's FIFO has {MINIMUM_DEPTH} or more")
        getCustomOp(nodes[name]).set_nodeattr("depth", depth)
