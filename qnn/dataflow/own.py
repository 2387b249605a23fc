"""A model from outside: its input prepared, and as far towards hardware as FINN takes it.

The host keeps what the accelerator does not do: reshapes in front of everything, and what lies behind the last product
of integers (scale, bias, batch norm, top-1). What lies between is the *accelerator's part*.

Each stage that FINN refuses says why; the stages that do not need it go on.
"""

import copy
import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.qcdq_to_qonnx import QCDQToQuant
from qonnx.util.cleanup import cleanup_model

from qnn.dataflow import folded, graph, integers
from qnn.errors import DataflowError

__all__ = ["compile_own", "prepare", "split"]

_FLOAT_PRODUCTS = (*integers.PRODUCTS, "Gemm", "Conv", "ConvTranspose")
_ELEMENTWISE = ("Identity", "Cast", "Mul", "Add", "Sub", "Div", "Quant", "IntQuant", "BipolarQuant", "Relu", "Clip")
"""Nodes in front of which a reshape may be taken, as long as their parameters are scalars."""
_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
_DEFAULT_TYPE = "UINT8"


# Preparing the input --------------------------------------------------------------------------------------------------


def _has_scalars_alone(model: ModelWrapper, node: NodeProto) -> bool:
    values = [model.get_initializer(name) for name in node.input[1:] if name]
    return all(value is not None and value.size == 1 for value in values)


def _take_reshapes_to_the_host(model: ModelWrapper) -> list[str]:
    """Remove reshapes that only elementwise nodes come before; names of those removed, the first one first.

    The host gives its images in the last one's shape then. The order of elements is the same: ONNX's is C's.
    """
    removed = []
    tensor = model.graph.input[0].name
    while True:
        consumers = model.find_consumers(tensor) or []
        if len(consumers) != 1 or consumers[0].input[0] != tensor:
            break
        node = consumers[0]
        if node.op_type in _RESHAPES:
            shape = model.get_tensor_shape(node.output[0])
            if not shape or shape[0] != 1:
                break
            removed.append(node.name)
            before, after = node.input[0], node.output[0]
            for consumer in model.find_consumers(after) or []:
                for k, name in enumerate(consumer.input):
                    if name == after:
                        consumer.input[k] = before
            model.graph.node.remove(node)
            model.set_tensor_shape(model.graph.input[0].name, shape)
            continue
        if node.op_type not in _ELEMENTWISE or not _has_scalars_alone(model, node):
            break
        tensor = node.output[0]
    if removed:
        del model.graph.value_info[:]
        model = model.transform(InferShapes())
    return removed


_DEFAULTS = {"dilations": [1, 1], "strides": [1, 1], "pads": [0, 0, 0, 0]}


def _complete_windows(model: ModelWrapper) -> None:
    """Write attributes of convolutions and pools down where they have ONNX's default: FINN asks for them."""
    for node in model.graph.node:
        if node.op_type in ("Conv", "MaxPool") and len(model.get_tensor_shape(node.input[0])) == 4:
            known = {attribute.name for attribute in node.attribute}
            wanted = {**_DEFAULTS, **({"group": 1} if node.op_type == "Conv" else {"ceil_mode": 0})}
            if "auto_pad" not in known:
                node.attribute.extend(helper.make_attribute(k, v) for k, v in wanted.items() if k not in known)


def _affine(model: ModelWrapper, scale: float, shift: float) -> None:
    """Put x * scale + shift in front of the graph, in float32; nothing where that is x."""
    name = model.graph.input[0].name
    shape = model.get_tensor_shape(name)
    for op_type, value, neutral in (("Add", shift, 0.0), ("Mul", scale, 1.0)):  # from the back to the front
        if value == neutral:
            continue
        parameter, inner = f"own_{op_type.lower()}", model.make_new_valueinfo_name()
        model.graph.value_info.append(helper.make_tensor_value_info(inner, TensorProto.FLOAT, shape))
        for node in model.find_consumers(name) or []:
            for k, given in enumerate(node.input):
                if given == name:
                    node.input[k] = inner
        model.set_initializer(parameter, np.array(value, np.float32))
        model.graph.node.insert(0, helper.make_node(op_type, [name, parameter], [inner], name=f"own_{op_type}"))


def prepare(path: str, input_type: str | None, scale: float, shift: float) -> tuple[ModelWrapper, dict[str, Any]]:
    """The model with integers as its input: shapes known, leading reshapes gone, x * scale + shift in front.

    `input_type` is a QONNX data type; without one it is the type that the graph's input is annotated with, or UINT8.
    Beside the model {input_type, assumed (whether nothing says it), shape, reshapes (taken to the host)}.
    """
    model = ModelWrapper(path)
    if model.get_nodes_by_op_type("DequantizeLinear"):
        model = model.transform(QCDQToQuant())
    model = cleanup_model(model)
    name = model.graph.input[0].name
    reshapes = _take_reshapes_to_the_host(model)
    _complete_windows(model)
    annotated = model.get_tensor_datatype(name)
    known = annotated.is_integer() and annotated.name != "FLOAT32"
    chosen = input_type or (annotated.name if known else _DEFAULT_TYPE)
    _affine(model, scale, shift)
    model.set_tensor_datatype(name, DataType[chosen])
    model = model.transform(InferShapes())
    record = {
        "input_type": chosen,
        "assumed": input_type is None and not known,
        "shape": list(model.get_tensor_shape(name)),
        "reshapes": reshapes,
    }
    return model, record


# What the accelerator does --------------------------------------------------------------------------------------------


def _is_product_of_integers(model: ModelWrapper, node: NodeProto) -> bool:
    return node.op_type in integers.PRODUCTS and all(
        model.get_tensor_datatype(name).is_integer() for name in node.input
    )


def _joins(model: ModelWrapper, node: NodeProto) -> bool:
    """Whether the node takes the outputs of several others."""
    return sum(model.find_producer(name) is not None for name in node.input) > 1


def _refuse_float_layers(model: ModelWrapper) -> None:
    """Raise DataflowError naming the layers that compute in float32 still: FINN maps integers."""
    wrong = []
    for node in model.graph.node:
        if node.op_type in _FLOAT_PRODUCTS and not _is_product_of_integers(model, node):
            types = [model.get_tensor_datatype(name).name for name in node.input[:2]]
            wrong.append(f"{node.name or node.output[0]} ({node.op_type} of {' and '.join(types)})")
    if wrong:
        joins = [f"{node.name or node.output[0]} ({node.op_type})" for node in model.graph.node if _joins(model, node)]
        hint = (
            f". FINN's default streamlining moves no scales over a join of branches: {', '.join(joins)}"
            if joins
            else ""
        )
        raise DataflowError(
            f"float layers, which FINN cannot map: {', '.join(wrong)}. Quantise their weights and the activation "
            "before them (QuantLinear, QuantIdentity or QuantReLU of Brevitas; QDense, QActivation of QKeras), or, "
            f"where an input is scaled, say so with --input, --scale and --shift{hint}"
        )


def split(whole: ModelWrapper) -> tuple[ModelWrapper, ModelWrapper | None]:
    """The accelerator's part of a streamlined graph, and what the host does behind it; None where that is nothing.

    Raises DataflowError where there is nothing for an accelerator, or where the two cannot be told apart.
    """
    products = [k for k, node in enumerate(whole.graph.node) if _is_product_of_integers(whole, node)]
    if not products:
        raise DataflowError("the model has no matrix product of integers, so FINN has nothing to make hardware of")
    part = graph.cut_behind(ModelWrapper(copy.deepcopy(whole.model)), products[-1])
    if products[-1] == len(whole.graph.node) - 1:
        return part, None
    host = ModelWrapper(copy.deepcopy(whole.model))
    name = host.graph.node[products[-1]].output[0]
    shape, datatype = host.get_tensor_shape(name), host.get_tensor_datatype(name)
    for node in list(host.graph.node)[: products[-1] + 1]:
        host.graph.node.remove(node)
    known = {name, *(tensor.name for tensor in host.graph.initializer)}
    for node in host.graph.node:
        foreign = [tensor for tensor in node.input if tensor and tensor not in known]
        if foreign:
            raise DataflowError(
                f"{node.name} ({node.op_type}) behind the last matrix product takes {foreign[0]} from before it: "
                "the host can only go on with what the accelerator gives"
            )
        known |= set(node.output)
    del host.graph.input[:]
    host.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    for value in [value for value in host.graph.value_info if value.name == name]:
        host.graph.value_info.remove(value)
    host.set_tensor_datatype(name, datatype)
    return part, host


def _write_first_activation(host: ModelWrapper, path: Path) -> None:
    """Thresholds and lowest code of an activation that is the host's first node; no file where there is none."""
    node = host.graph.node[0]
    if node.op_type != "MultiThreshold" or getCustomOp(node).get_nodeattr("out_scale") != 1.0:
        return
    lowest = int(getCustomOp(node).get_nodeattr("out_bias"))
    np.savez(path, thresholds=host.get_initializer(node.input[1]), lowest=lowest)


def describe(model: ModelWrapper | None) -> list[str]:
    """Its nodes, such as ``Mul_0 (Mul)``."""
    return [] if model is None else [f"{node.name} ({node.op_type})" for node in model.graph.node]


def compile_own(job: dict[str, Any], folder: Path, progress: Callable[[str], None]) -> None:
    """The job ``own``: see ``qnn.dataflow.jobs``."""
    config = graph.build_config(str(folder), job["clock_period_ns"], job["part"])
    progress("prepare the input")
    model, record = prepare(job["qonnx"], job["input_type"], job["scale"], job["shift"])
    model.save(str(folder / "prepared.onnx"))
    progress("convert to FINN-ONNX")
    converted = graph.convert(str(folder / "prepared.onnx"), config, record["input_type"])
    converted.save(str(folder / "finn.onnx"))
    progress("streamline")
    whole = graph.streamline(converted, config)
    _refuse_float_layers(whole)
    whole.save(str(folder / "whole.onnx"))
    part, host = split(whole)
    part.save(str(folder / "streamlined.onnx"))
    if host is not None:
        host.save(str(folder / "host.onnx"))
        _write_first_activation(host, folder / "host_activation.npz")
    refused: dict[str, str] = {}

    def attempt(stage: str, step: str, work: Callable[[], None]) -> bool:
        """Whether `work` was done; where FINN refused it, `refused` says why."""
        progress(step)
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever FINN raises is what this stage is told to have met
            traceback.print_exc()
            refused[stage] = f"{type(error).__name__}: {error}".rstrip(": ") if str(error) else repr(error)
        return stage not in refused

    def read() -> None:
        np.savez(folder / "integers.npz", **integers.read_integers(part))  # type: ignore[arg-type]

    made: list[ModelWrapper] = []

    def to_hardware() -> None:
        # FINN changes the graph that it is given.
        hardware = graph.to_hardware(ModelWrapper(copy.deepcopy(part.model)), config)
        hardware.save(str(folder / "hardware.onnx"))
        made.append(hardware)

    def estimate() -> None:
        (folder / "estimate.json").write_text(json.dumps(folded.hls_layers(part, job, folder), indent=1))

    attempt("integers", "read the integers", read)
    channels_last = False
    if attempt("hardware", "convert to hardware", to_hardware):
        accelerator, channels_last = graph.without_transpose(made[0])
        if not attempt("rtl", "make RTL", lambda: folded.write(accelerator, part, job, folder, config, progress)):
            attempt("estimate", "estimate the HLS variant", estimate)
    else:
        refused["cppsim"] = refused["rtl"] = refused["estimate"] = refused["hardware"]
    record |= {"host": describe(host), "part": describe(part), "channels_last": channels_last, "refused": refused}
    (folder / "own.json").write_text(json.dumps(record, indent=1))
