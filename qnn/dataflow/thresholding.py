"""FINN on one activation alone: its RTL Thresholding of any shape, and the thresholds that streamlining computes."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from finn.transformation.fpgadataflow.specialize_layers import SpecializeLayers
from finn.transformation.qonnx.convert_qonnx_to_finn import ConvertQONNXtoFINN
from finn.transformation.streamline import Streamline
from finn.transformation.streamline.round_thresholds import RoundAndClipThresholds
from onnx import TensorProto, helper
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.util.basic import qonnx_make_model
from qonnx.util.cleanup import cleanup_model

from qnn.dataflow.rtl import generate_rtl
from qnn.errors import DataflowError

__all__ = ["generate_all", "streamline", "write_hdl", "write_thresholds"]

_QONNX = "qonnx.custom_op.general"


def _integer_type(bits: int, *, signed: bool) -> DataType:
    return DataType[f"{'INT' if signed else 'UINT'}{bits}"]


def _smallest_type(low: int, high: int) -> DataType:
    """The narrowest type that holds low..high."""
    return DataType.get_smallest_possible(high if low >= 0 else min(low, -high - 1))


def generate(
    *,
    name: str,
    channels: int,
    pe: int,
    input_bits: int,
    signed: bool,
    threshold_bits: int,
    thresholds: np.ndarray,
    bias: int,
    part: str,
    clock_period_ns: float,
) -> dict[str, Any]:
    """HDL of one Thresholding_rtl node whose thresholds can be written through AXI-lite; see rtl.generate_rtl.

    `name` becomes the module's. `thresholds` [channels, steps] are those it holds at the start, ascending, within
    the threshold type.
    """
    input_type, output_type = _integer_type(input_bits, signed=signed), _smallest_type(bias, bias + thresholds.shape[1])
    threshold_type = _integer_type(threshold_bits, signed=signed)
    node = helper.make_node(
        "Thresholding",
        ["values", "thresholds"],
        ["codes"],
        domain="finn.custom_op.fpgadataflow",
        backend="fpgadataflow",
        NumChannels=channels,
        PE=pe,
        numSteps=thresholds.shape[1],
        inputDataType=input_type.name,
        weightDataType=threshold_type.name,
        outputDataType=output_type.name,
        ActVal=bias,
        runtime_writeable_weights=1,
        preferred_impl_style="rtl",
    )
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels]) for name in ("values", "codes")]
    model = ModelWrapper(qonnx_make_model(helper.make_graph([node], "thresholding", ends[:1], ends[1:])))
    model.set_initializer("thresholds", thresholds.astype(np.float32))
    for tensor, datatype in (("values", input_type), ("thresholds", threshold_type), ("codes", output_type)):
        model.set_tensor_datatype(tensor, datatype)
    model = model.transform(SpecializeLayers(part))
    model.graph.node[0].name = name  # FINN names the module and its files after it
    if model.graph.node[0].op_type != "Thresholding_rtl":
        raise DataflowError(f"FINN made {model.graph.node[0].op_type} of the node, not Thresholding_rtl")
    return generate_rtl(model, part, clock_period_ns)


def generate_all(shapes: Sequence[Mapping[str, Any]], part: str, clock_period_ns: float) -> dict[str, object]:
    """generate() for many shapes, in one design; each is the arguments of generate() but part and clock."""
    files: dict[str, str] = {}
    nodes: list[object] = []
    for shape in shapes:
        made = generate(**shape, part=part, clock_period_ns=clock_period_ns)
        files |= made["files"]
        nodes += made["nodes"]
    return {"files": files, "nodes": nodes}


def streamline(
    *,
    bits: int,
    signed: bool,
    accumulator_bits: int,
    epsilon: float,
    arrays: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """FINN's thresholds of one layer of many independent channels.

    `arrays` holds float32 [channels]: input_scale, weight_scale, gamma, beta, mean, variance, step. The layer is the
    exported network's: MatMul (the identity, so that accumulators are inputs), the two scales, batch norm, Quant.

    Returns ``thresholds`` float32 [channels, steps], rounded up to integers and clipped by FINN; ``signs`` int64
    [channels], what FINN multiplied each channel's weights by; ``lowest`` int64, the code below all thresholds. Where
    FINN's streamlining gives NaN (0 / 0), so does this: its rounding would not end on it and is given 0 there.
    """
    channels = len(arrays["gamma"])
    constants = {name: array.astype(np.float32) for name, array in arrays.items()}
    for name in ("input_scale", "weight_scale", "step"):
        constants[name] = constants[name].reshape(1, channels)
    constants["weights"] = np.eye(channels, dtype=np.float32)
    constants |= {"zero_point": np.array(0, np.float32), "bits": np.array(bits, np.float32)}
    nodes = [
        helper.make_node("MatMul", ["accumulators", "weights"], ["product"]),
        helper.make_node("Mul", ["product", "input_scale"], ["partly"]),
        helper.make_node("Mul", ["partly", "weight_scale"], ["scaled"]),
        helper.make_node(
            "BatchNormalization", ["scaled", "gamma", "beta", "mean", "variance"], ["y"], epsilon=float(epsilon)
        ),
        helper.make_node(
            "Quant",
            ["y", "step", "zero_point", "bits"],
            ["quantised"],
            domain=_QONNX,
            signed=int(signed),
            narrow=0,
            rounding_mode="ROUND",
        ),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels]) for name in ("accumulators", "quantised")
    ]
    model = ModelWrapper(qonnx_make_model(helper.make_graph(nodes, "activation", ends[:1], ends[1:])))
    for name, constant in constants.items():
        model.set_initializer(name, constant)
    model.set_tensor_datatype("accumulators", _integer_type(accumulator_bits, signed=True))
    model.set_tensor_datatype("weights", DataType["INT2"])
    model = cleanup_model(model).transform(ConvertQONNXtoFINN()).transform(Streamline())
    operators = [node.op_type for node in model.graph.node]
    if operators[:2] != ["MatMul", "MultiThreshold"] or set(operators[2:]) - {"Mul", "Add"}:
        raise DataflowError(f"FINN streamlined the activation to {operators}, not to MatMul, MultiThreshold, scales")
    product, thresholding = model.graph.node[0], model.graph.node[1]
    signs = np.diag(model.get_initializer(product.input[1])).astype(np.int64)
    thresholds = np.broadcast_to(model.get_initializer(thresholding.input[1]), (channels, 2**bits - 1))
    undefined = np.isnan(thresholds)
    model.set_initializer(thresholding.input[1], np.where(undefined, np.float32(0), thresholds))
    model.set_tensor_datatype(thresholding.input[0], _integer_type(accumulator_bits, signed=True))
    model = model.transform(RoundAndClipThresholds())
    rounded = model.get_initializer(model.graph.node[1].input[1])
    return {
        "thresholds": np.where(undefined, np.float32(np.nan), rounded).astype(np.float32),
        "signs": signs,
        "lowest": np.array(-(2 ** (bits - 1)) if signed else 0),
    }


def write_hdl(job: Mapping[str, Any], folder: Path) -> None:
    """The job ``thresholding``: shapes (see generate; thresholds as lists), part, clock_period_ns -> rtl.json."""
    shapes = [{**shape, "thresholds": np.array(shape["thresholds"])} for shape in job["shapes"]]
    hdl = generate_all(shapes, job["part"], job["clock_period_ns"])
    (folder / "rtl.json").write_text(json.dumps({"finn_version": version("finn-plus"), **hdl}))


def write_thresholds(job: Mapping[str, Any], folder: Path) -> None:
    """The job ``activations``: layers (see streamline) -> <k>.npz with what streamline returns.

    A layer's ``arrays`` is the path of an .npz file with the parameters.
    """
    for k, layer in enumerate(job["layers"]):
        with np.load(layer["arrays"]) as arrays:
            np.savez(folder / f"{k}.npz", **streamline(**{**layer, "arrays": dict(arrays)}))  # type: ignore[arg-type]
