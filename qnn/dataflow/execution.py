"""Graphs executed in Python: QONNX's and streamlined ones on whole batches, FINN's hardware nodes image by image.

It is QONNX that executes graphs, in FINN too; FINN itself, which takes seconds to import, is needed for its own nodes.
"""

import copy

import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.infer_shapes import InferShapes

from qnn.dataflow.integers import PRODUCTS
from qnn.errors import DataflowError

__all__ = ["trace", "trace_nodes"]

_PRODUCTS = ("Gemm", *PRODUCTS)


def _activation_scales(model: ModelWrapper) -> dict[str, np.ndarray]:
    """{output tensor: value of one code} of every activation that is quantised, in the order of the graph.

    In QONNX that is a Quant node on something that is no constant. In FINN's graphs it is a MultiThreshold, which gives
    the codes themselves once streamlined; before, it counts from 0, and an Add of the lowest code follows it.
    """
    consumers = {node.input[0]: node for node in model.graph.node}
    scales = {}
    for node in model.graph.node:
        if node.op_type in ("Quant", "IntQuant", "BipolarQuant") and model.get_initializer(node.input[0]) is None:
            scales[node.output[0]] = model.get_initializer(node.input[1])
        elif node.op_type == "MultiThreshold":
            after = consumers.get(node.output[0])
            codes = after.output[0] if after is not None and after.op_type == "Add" else node.output[0]
            scales[codes] = np.float32(1)
    return scales


def trace(model: ModelWrapper, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Run the model on `inputs` [N, ...]: what it gives, as ``output``, and what it came by.

    ``codes_<k>`` int16 [N, ...] of each quantised activation, of images [N, channels, height, width] as in QONNX (FINN
    has the channels last), and ``products_<k>`` of each matrix product that is one in the graph (in FINN's it is of
    integers), as it was summed up.

    The graph was made for batch 1; its input's first dimension is set to N and all shapes are inferred anew. One of
    images [N, channels, height, width] is run image by image, since its reshapes and pools hold the batch.
    """
    if inputs.ndim > 2 and len(inputs) > 1:
        single = [trace(ModelWrapper(copy.deepcopy(model.model)), image[None]) for image in inputs]
        return {key: np.concatenate([arrays[key] for arrays in single]) for key in single[0]}
    name = model.graph.input[0].name
    output = model.graph.output[0]
    if len(inputs) > 1:
        model.set_tensor_shape(name, list(inputs.shape))
        del model.graph.value_info[:]
        output.type.tensor_type.shape.dim[0].dim_value = len(inputs)
        model = model.transform(InferShapes())
    tensors = execute_onnx(model, {name: inputs.astype(np.float32)}, return_full_exec_context=True)
    arrays = {"output": np.asarray(tensors[output.name])}
    channels_last = {
        node.output[0]
        for node in model.get_nodes_by_op_type("MultiThreshold")
        if getCustomOp(node).get_nodeattr("data_layout") == "NHWC"
    }
    for k, (tensor, scale) in enumerate(_activation_scales(model).items()):
        codes = np.rint(tensors[tensor] / scale).astype(np.int16)
        arrays[f"codes_{k}"] = np.moveaxis(codes, -1, 1) if tensor in channels_last else codes
    products = [node.output[0] for node in model.graph.node if node.op_type in _PRODUCTS]
    return arrays | {f"products_{k}": tensors[tensor] for k, tensor in enumerate(products)}


def trace_nodes(model: ModelWrapper, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """What every node gives for `inputs` [N, ...], run one after another: FINN's hardware nodes are made for batch 1.

    By their execution mode they run in Python or in a simulator.

    ``node_<k>`` int64 [N, elements] of the k-th node, and ``names`` and ``op_types`` of all. Raises DataflowError where
    a node gives a number that is not whole.
    """
    name, nodes = model.graph.input[0].name, list(model.graph.node)
    found: list[list[np.ndarray]] = [[] for _ in nodes]
    for image in inputs:
        tensors = execute_onnx(model, {name: image[None].astype(np.float32)}, return_full_exec_context=True)
        for node, values in zip(nodes, found, strict=True):
            values.append(np.asarray(tensors[node.output[0]]).reshape(-1))
    arrays = {"names": np.array([node.name for node in nodes]), "op_types": np.array([node.op_type for node in nodes])}
    for k, values in enumerate(found):
        given = np.array(values)
        arrays[f"node_{k}"] = given.astype(np.int64)
        if (arrays[f"node_{k}"] != given).any():
            raise DataflowError(f"{nodes[k].name} gives numbers that are not whole")
    return arrays
