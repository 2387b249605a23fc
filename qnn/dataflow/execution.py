"""Graphs executed in Python by QONNX, on whole batches."""

import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

__all__ = ["trace"]


def _activation_scales(model: ModelWrapper) -> dict[str, np.ndarray]:
    """{output tensor: value of one code} of every activation that is quantised, in the order of the graph.

    In QONNX that is a Quant node on something that is no constant; in FINN's graphs a MultiThreshold, whose output
    holds the codes themselves.
    """
    scales = {}
    for node in model.graph.node:
        if node.op_type == "Quant" and model.get_initializer(node.input[0]) is None:
            scales[node.output[0]] = model.get_initializer(node.input[1])
        elif node.op_type == "MultiThreshold":
            scales[node.output[0]] = np.float32(1)
    return scales


def trace(model: ModelWrapper, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Run the model on `inputs` [N, ...]: what it gives, as ``output``, and what it came by.

    ``codes_<k>`` int16 [N, ...] of each quantised activation, and ``products_<k>`` of each matrix product that is one
    in the graph (in FINN's it is of integers), as it was summed up.

    The graph was made for batch 1; its input's first dimension is set to N and all shapes are inferred anew.
    """
    name = model.graph.input[0].name
    model.set_tensor_shape(name, list(inputs.shape))
    del model.graph.value_info[:]
    output = model.graph.output[0]
    output.type.tensor_type.shape.dim[0].dim_value = len(inputs)
    model = model.transform(InferShapes())
    tensors = execute_onnx(model, {name: inputs.astype(np.float32)}, return_full_exec_context=True)
    arrays = {"output": np.asarray(tensors[output.name])}
    for k, (tensor, scale) in enumerate(_activation_scales(model).items()):
        arrays[f"codes_{k}"] = np.rint(tensors[tensor] / scale).astype(np.int16)
    products = [node.output[0] for node in model.graph.node if node.op_type in ("Gemm", "MatMul")]
    return arrays | {f"products_{k}": tensors[tensor] for k, tensor in enumerate(products)}
