"""The hardware integer model in FINN's streamlined graph: thresholds, integer weights and the float tail."""

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp

from qnn.errors import DataflowError

__all__ = ["PRODUCTS", "read_integers", "replace_thresholds"]

PRODUCTS = ("MatMul", "XnorPopcountMatMul")
"""Matrix products of a streamlined graph."""


def read_integers(model: ModelWrapper) -> dict[str, np.ndarray]:
    """Arrays of a chain MultiThreshold, MatMul, MultiThreshold, MatMul, ... and a tail of Mul and Add.

    Where the chain starts with a MatMul, thresholds that leave the inputs as they are come before it.

    ``input_range``       int64 [2], lowest and highest input
    ``thresholds_<k>``    float32 [channels or 1, steps], as FINN computed them: a step counts where input >= threshold
    ``lowest_code_<k>``   int64 scalar, the code where no step counts
    ``weights_<k>``       int64 [outputs, inputs]
    ``offsets_<k>``       int64 [outputs], what is added to the product, only of an XnorPopcountMatMul: of bits w and a,
                          w == a is 1 - w + (2 w - 1) a, so its weights are 2 w - 1
    ``tail_scale``, ``tail_bias``  float32 [outputs or 1]: logits = accumulators * scale + bias

    Raises DataflowError on any other graph, naming the node.
    """
    arrays: dict[str, np.ndarray] = {}
    thresholdings = products = 0
    last_product = max((k for k, node in enumerate(model.graph.node) if node.op_type in PRODUCTS), default=-1)
    tail = {"Mul": "tail_scale", "Add": "tail_bias"}
    tensor = model.graph.input[0].name
    datatype = model.get_tensor_datatype(tensor)
    low, high = (int(datatype.min()), int(datatype.max())) if datatype.is_integer() else (0, 255)
    arrays["input_range"] = np.array([low, high], np.int64)
    if model.graph.node and model.graph.node[0].op_type == "MatMul":
        arrays |= {"thresholds_0": np.arange(low + 1, high + 1, dtype=np.float32)[None], "lowest_code_0": np.array(low)}
        thresholdings = 1
    for place, node in enumerate(model.graph.node):
        if node.input[0] != tensor:
            raise DataflowError(f"{node.name}: the streamlined graph is not a chain")
        values = model.get_initializer(node.input[1]) if len(node.input) == 2 else None
        if values is None:
            raise DataflowError(f"{node.name} ({node.op_type}) stayed in the streamlined graph")
        if node.op_type == "MultiThreshold":
            unit = getCustomOp(node)
            if unit.get_nodeattr("out_scale") != 1.0:
                raise DataflowError(f"{node.name}: its output is scaled, so streamlining did not reach it")
            arrays[f"thresholds_{thresholdings}"] = values.astype(np.float32)
            arrays[f"lowest_code_{thresholdings}"] = np.array(unit.get_nodeattr("out_bias"), np.int64)
            thresholdings += 1
        elif node.op_type == "MatMul":
            if not model.get_tensor_datatype(node.input[1]).is_integer():
                raise DataflowError(f"{node.name}: its weights are not integers")
            arrays[f"weights_{products}"] = values.T.astype(np.int64)
            products += 1
        elif node.op_type == "XnorPopcountMatMul":
            bits = values.T.astype(np.int64)
            arrays[f"weights_{products}"] = 2 * bits - 1
            arrays[f"offsets_{products}"] = (1 - bits).sum(axis=1)
            products += 1
        elif node.op_type in tail and place > last_product:
            values, name = values.reshape(-1).astype(np.float32), tail[node.op_type]
            # Absorb1BitMulIntoMatMul leaves signs in front of the scale where a weight has no opposite of its type.
            given = arrays.get(name, np.ones(1, np.float32))
            if "tail_bias" in arrays or not np.isin(given, (-1, 0, 1)).all():
                raise DataflowError(f"{node.name} is one {node.op_type} too many behind the last matrix product")
            arrays[name] = values * given
        else:
            raise DataflowError(f"{node.name} ({node.op_type}) stayed in the streamlined graph")
        tensor = node.output[0]
    if not products or products != thresholdings:
        raise DataflowError(f"{products} matrix products and {thresholdings} thresholdings: not a chain of pairs")
    channels = len(arrays[f"weights_{products - 1}"])
    arrays.setdefault("tail_scale", np.ones(channels, np.float32))  # FINN drops what is an identity
    arrays.setdefault("tail_bias", np.zeros(channels, np.float32))
    return arrays


def replace_thresholds(model: ModelWrapper, thresholds: Sequence[np.ndarray]) -> None:
    """Put `thresholds`, integers [channels or 1, steps] of each MultiThreshold in order, in place of FINN's.

    They are those of the channels as FINN has them, after its sign flips. FINN's graphs hold float32, so integers from
    -2^24 to 2^24 can be put there. Raises DataflowError where they do not fit the graph or float32.
    """
    nodes = [node for node in model.graph.node if node.op_type == "MultiThreshold"]
    if len(nodes) != len(thresholds):
        raise DataflowError(f"{len(thresholds)} thresholds for {len(nodes)} MultiThreshold nodes")
    for node, values in zip(nodes, thresholds, strict=True):
        _replace(model, node, values)


def _replace(model: ModelWrapper, node: NodeProto, values: np.ndarray) -> None:
    own = model.get_initializer(node.input[1])
    channels = {1, len(own), model.get_tensor_shape(node.input[0])[-1]}
    if values.shape[1] != own.shape[1] or len(values) not in channels:
        raise DataflowError(f"{node.name} has thresholds {list(own.shape)}, which {list(values.shape)} do not fit")
    exact = values.astype(np.float32)
    if (exact != values).any():
        raise DataflowError(
            f"{node.name}: the threshold {values[exact != values][0]} is no float32 number, as FINN's graphs hold them"
        )
    model.set_initializer(node.input[1], np.broadcast_to(exact, (max(len(exact), len(own)), exact.shape[1])).copy())
