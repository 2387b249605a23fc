"""Graphs executed in Python by QONNX, on whole batches."""

import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

__all__ = ["execute"]


def execute(model: ModelWrapper, inputs: np.ndarray) -> np.ndarray:
    """The model's output for `inputs` [N, ...]; both are what the graph's float container holds.

    The graph was made for batch 1; its input's first dimension is set to N and all shapes are inferred anew.
    """
    name = model.graph.input[0].name
    model.set_tensor_shape(name, list(inputs.shape))
    del model.graph.value_info[:]
    output = model.graph.output[0]
    output.type.tensor_type.shape.dim[0].dim_value = len(inputs)
    model = model.transform(InferShapes())
    outputs = execute_onnx(model, {name: inputs.astype(np.float32)})
    return np.asarray(outputs[output.name])
