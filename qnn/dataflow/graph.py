"""From QONNX to FINN's folded graph of RTL nodes, with FINN's own build steps.

convert()       QONNX -> FINN-ONNX: MultiThreshold and MatMul nodes in float32, each as its quantiser has it
streamline()    FINN-ONNX -> MultiThreshold and MatMul on integers; what scales the last accumulators stays a float tail
to_hardware()   streamlined -> Thresholding and MVAU nodes; the float tail is cut off to the host
fold()          PE and SIMD of every node, RTL variants, minimal bit widths, width converters and FIFOs
hls_nodes()     the same network as HLS nodes, activations fused or not, folded: what cppsim executes
fold_as_hls()   the same network as the study built it, HLS nodes with fused activations: for its estimate alone
"""

import copy
import math

from finn.analysis.fpgadataflow.exp_cycles_per_layer import exp_cycles_per_layer
from finn.analysis.fpgadataflow.res_estimation import res_estimation
from finn.builder import build_dataflow_steps as steps
from finn.builder.build_dataflow_config import DataflowBuildConfig, ShellFlowType
from finn.transformation.fpgadataflow.insert_dwc import InsertDWC
from finn.transformation.fpgadataflow.insert_fifo import InsertFIFO
from finn.transformation.streamline.round_thresholds import RoundAndClipThresholds
from onnx import NodeProto, TensorProto, helper
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.general import GiveReadableTensorNames, GiveUniqueNodeNames
from qonnx.transformation.infer_datatypes import InferDataTypes
from qonnx.util.cleanup import cleanup_model

from qnn.cell import Folding, LayerFolding, LayerShape, Policy, fold_layers
from qnn.dataflow import compat
from qnn.errors import DataflowError

__all__ = [
    "NodeRecord",
    "build_config",
    "convert",
    "cut_behind",
    "fold",
    "fold_as_hls",
    "geometry",
    "hls_nodes",
    "streamline",
    "to_hardware",
    "without_transpose",
]

_WINDOWS = ("FMPadding", "ConvolutionInputGenerator")
"""Nodes that gather a convolution's windows; they compute nothing. FINN has RTL alone of them."""
_MAPPED = ("MVAU", "VVAU", "Thresholding", "LabelSelect", "Pool", *_WINDOWS)
"""Hardware nodes that the suite folds and joins; a Transpose in front of all is the host's."""

NodeRecord = dict[str, object]
"""What geometry() says of one node: see there."""


def build_config(
    folder: str, clock_period_ns: float, part: str, *, standalone_thresholds: bool = True
) -> DataflowBuildConfig:
    """FINN's build settings: stand-alone thresholds, since the RTL MVAU has no fused activation."""
    return DataflowBuildConfig(
        output_dir=folder,
        synth_clk_period_ns=clock_period_ns,
        fpga_part=part,
        shell_flow_type=ShellFlowType.VIVADO_ZYNQ,
        standalone_thresholds=standalone_thresholds,
        generate_outputs=[],
    )


def convert(qonnx_path: str, config: DataflowBuildConfig, input_type: str = "UINT8") -> ModelWrapper:
    """The network in FINN-ONNX, its input annotated with a QONNX data type, by default as 8-bit pixels."""
    model = compat.with_gemm_biases(cleanup_model(ModelWrapper(qonnx_path)))
    model.set_tensor_datatype(model.graph.input[0].name, DataType[input_type])
    for step in (steps.step_qonnx_to_finn, steps.step_tidy_up):
        model = step(model, config)
    return model


def streamline(converted: ModelWrapper, config: DataflowBuildConfig) -> ModelWrapper:
    """The network as MultiThreshold and MatMul nodes on integers.

    Raises DataflowError where a threshold is NaN: FINN's later minimise step would never end on it.
    """
    model = steps.step_streamline(converted, config)
    for node in model.graph.node:
        if node.op_type == "MultiThreshold" and (thresholds := model.get_initializer(node.input[1])) is not None:
            bad = sorted({int(row) for row in (thresholds != thresholds).nonzero()[0]})
            if bad:
                raise DataflowError(
                    f"{node.name}: the thresholds of channels {bad} are not numbers; "
                    "a batch-norm gamma of 0 with beta on an activation's boundary does this"
                )
    return model


def to_hardware(model: ModelWrapper, config: DataflowBuildConfig) -> ModelWrapper:
    """Hardware nodes alone, behind at most a Transpose: the graph ends with the last MVAU's accumulators.

    A LabelSelect right behind that MVAU stays.
    """
    model = steps.step_convert_to_hw(model, config)
    nodes = list(model.graph.node)
    last = max((k for k, node in enumerate(nodes) if node.op_type == "MVAU"), default=None)
    if last is None:
        raise DataflowError("FINN made no matrix-vector unit of this network")
    if [node.op_type for node in nodes[last + 1 :][:1]] == ["LabelSelect"]:
        last += 1
    foreign = [
        f"{node.name} ({node.op_type})"
        for k, node in enumerate(nodes[: last + 1])
        if node.op_type not in _MAPPED and not (k == 0 and node.op_type == "Transpose")
    ]
    if foreign:
        raise DataflowError(
            "nodes with neither an RTL nor an HLS variant that the suite joins lie before the last matrix-vector unit: "
            f"{', '.join(foreign)}"
        )
    return cut_behind(model, last)


def without_transpose(hardware: ModelWrapper) -> tuple[ModelWrapper, bool]:
    """The graph behind a Transpose in front of it, and whether there is one; `hardware` is changed.

    FINN's nodes take images with the channels last, and the host gives them so.
    """
    model, first = hardware, hardware.graph.node[0]
    if first.op_type != "Transpose":
        return model, False
    before, after = first.input[0], first.output[0]
    shape, datatype = model.get_tensor_shape(after), model.get_tensor_datatype(before)
    model.graph.node.remove(first)
    for value in [value for value in model.graph.value_info if value.name == after]:
        model.graph.value_info.remove(value)
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info(after, TensorProto.FLOAT, shape))
    model.set_tensor_datatype(after, datatype)
    return model, True


def cut_behind(model: ModelWrapper, last: int) -> ModelWrapper:
    """The graph up to the node in place `last`, whose output becomes the graph's; it is changed."""
    nodes = list(model.graph.node)
    for node in nodes[last + 1 :]:
        model.graph.node.remove(node)
    name = nodes[last].output[0]
    shape, datatype = model.get_tensor_shape(name), model.get_tensor_datatype(name)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    for value in [value for value in model.graph.value_info if value.name == name]:
        model.graph.value_info.remove(value)
    model.set_tensor_datatype(name, datatype)
    return model


def _matrix_units(model: ModelWrapper) -> list[NodeProto]:
    return [node for node in model.graph.node if node.op_type.startswith("MVAU")]


def _accelerator(streamlined: ModelWrapper, config: DataflowBuildConfig) -> ModelWrapper:
    """What FINN makes of a streamlined graph, which stays as it is, without what is the host's."""
    return without_transpose(to_hardware(ModelWrapper(copy.deepcopy(streamlined.model)), config))[0]


def _shape(model: ModelWrapper, node: NodeProto) -> LayerShape:
    """Of a matrix unit."""
    unit, before = getCustomOp(node), model.find_producer(node.input[0])
    windows = before is not None and before.op_type.startswith("ConvolutionInputGenerator")
    return LayerShape(
        inputs=unit.get_nodeattr("MW"),
        outputs=unit.get_nodeattr("MH"),
        vectors=math.prod(unit.get_nodeattr("numInputVectors")),
        channels=getCustomOp(before).get_nodeattr("IFMChannels") if windows else None,
    )


def apply_folding(model: ModelWrapper, asked: Folding, policy: Policy) -> list[LayerFolding]:
    """Set PE and SIMD of every node by a policy; nodes that are no matrix unit take a neighbour's lanes.

    What gathers the windows of a matrix unit takes its SIMD; everything else what comes before it gives, hence the PE
    of the unit before, or in front of all units the SIMD of the first. Each is a divisor of its channels then. So it is
    with the unit of a depthwise convolution, VVAU, which takes one place of its window a cycle (its SIMD stays 1).
    """
    nodes, units = list(model.graph.node), _matrix_units(model)
    foldings = fold_layers(asked, policy, [_shape(model, unit) for unit in units])
    applied = {unit.name: layer.applied for unit, layer in zip(units, foldings, strict=True)}
    lanes = foldings[0].applied.simd
    for k, node in enumerate(nodes):
        custom_op = getCustomOp(node)
        if node.name in applied:
            lanes = applied[node.name].pe
            custom_op.set_nodeattr("SIMD", applied[node.name].simd)
        if node.op_type.startswith(_WINDOWS):
            fed = next(other for other in nodes[k:] if not other.op_type.startswith(_WINDOWS))
            custom_op.set_nodeattr("SIMD", applied[fed.name].simd if fed.name in applied else lanes)
        else:
            custom_op.set_nodeattr("PE", lanes)
    return foldings


def refuse_zero_weights(model: ModelWrapper) -> None:
    """Raise DataflowError where all weights of a unit are 0: FINN would give its accumulators a type of no bits."""
    for node in _matrix_units(model):
        weights = model.get_initializer(node.input[1])
        if weights is not None and not weights.any():
            raise DataflowError(
                f"{node.name}: all its weights are 0, for which FINN has no type of accumulators; leave the layer out"
            )


def refuse_unsigned_weights(model: ModelWrapper) -> None:
    """Raise DataflowError where an RTL unit has weights of a type that it does not read.

    finn-rtllib's mvu.sv reads signed numbers of two bits or more. FINN's minimise step chooses by the values alone:
    UINTn where none is negative, BIPOLAR where there are but -1 and 0. The most significant bit would then count as a
    sign that it is not. FINN's own order of steps minimises before it specialises too, and so makes HLS of such a unit
    (``_mvu_rtl_possible``; tests/test_finn_faults.py).
    """
    for node in _matrix_units(model):
        datatype = getCustomOp(node).get_input_datatype(1)
        if node.op_type == "MVAU_rtl" and not (datatype.signed() and datatype.bitwidth() >= 2):
            raise DataflowError(
                f"{node.name}: its weights are {datatype.name} once minimised, and the RTL unit takes signed ones of "
                "two bits or more; a layer needs weights of both signs, or one below -1"
            )


def widen_accumulators(model: ModelWrapper) -> ModelWrapper:
    """Give RTL units accumulators that hold any product, as finn-rtllib's mvu.sv insists on at its start.

    That is weight bits + activation bits, less one where activations have a sign. FINN's minimise step gives as many
    bits as the sums take that can occur, which are fewer where few weights are not 0 (tests/test_finn_faults.py).
    """
    for node in _matrix_units(model):
        unit = getCustomOp(node)
        inputs, weights, sums = unit.get_input_datatype(0), unit.get_input_datatype(1), unit.get_output_datatype()
        bits = weights.bitwidth() + inputs.bitwidth() - int(inputs.signed())
        if sums.bitwidth() < bits:
            for attribute in ("accDataType", "outputDataType"):
                unit.set_nodeattr(attribute, f"INT{bits}")
            model.set_tensor_datatype(node.output[0], DataType[f"INT{bits}"])
    return model.transform(InferDataTypes())


def _fold_nodes(
    model: ModelWrapper, style: str, asked: Folding, policy: Policy, config: DataflowBuildConfig
) -> tuple[ModelWrapper, list[LayerFolding]]:
    """Nodes of a `style`, "rtl" or "hls", where FINN has one, folded."""
    refuse_zero_weights(model)
    for node in model.graph.node:
        getCustomOp(node).set_nodeattr("preferred_impl_style", style)
    model = steps.step_specialize_layers(model, config)
    foldings = apply_folding(model, asked, policy)
    # FINN's minimise step rounds and clips thresholds itself, but only after it has asserted that those on an unsigned
    # input are not negative; a learned input scale puts some below 0 (tests/test_finn_faults.py).
    model = model.transform(RoundAndClipThresholds())
    model = steps.step_minimize_bit_width(model, config)
    if style == "rtl":
        refuse_unsigned_weights(model)
        model = widen_accumulators(model)
    return model.transform(GiveUniqueNodeNames()).transform(GiveReadableTensorNames()), foldings


def _fold(
    model: ModelWrapper, style: str, asked: Folding, policy: Policy, config: DataflowBuildConfig
) -> tuple[ModelWrapper, list[LayerFolding]]:
    """_fold_nodes() with converters and FIFOs between them."""
    model, foldings = _fold_nodes(model, style, asked, policy, config)
    model = model.transform(InsertDWC()).transform(InsertFIFO(create_shallow_fifos=True))
    model = model.transform(GiveUniqueNodeNames()).transform(GiveReadableTensorNames())
    return steps.step_specialize_layers(model, config).transform(GiveUniqueNodeNames()), foldings


def fold(
    model: ModelWrapper, asked: Folding, policy: Policy, config: DataflowBuildConfig
) -> tuple[ModelWrapper, list[LayerFolding]]:
    """RTL nodes with the folding applied, minimal bit widths, width converters and FIFOs between them."""
    model, foldings = _fold(model, "rtl", asked, policy, config)
    without_rtl = [f"{node.name} ({node.op_type})" for node in model.graph.node if not node.op_type.endswith("_rtl")]
    if without_rtl:
        raise DataflowError(f"FINN has no RTL variant for {', '.join(without_rtl)}")
    return model, foldings


def fold_as_hls(
    streamlined: ModelWrapper, asked: Folding, policy: Policy, config: DataflowBuildConfig
) -> tuple[ModelWrapper, list[LayerFolding]]:
    """The accelerator as the study's FINN of 2020 built it, for its analytical estimate; `streamlined` stays as it is.

    `config` has no stand-alone thresholds: each hidden MVAU_hls holds the activation that follows it, as that FINN's
    StreamingFCLayer_Batch did. Its multipliers are LUTs (resType "lut", the default of MVAU_hls; "auto" counts the
    same), and its thresholds are in LUTs (ram_style_thresholds "distributed"), which alone lets FINN count them and
    their comparators; weights stream from a memory beside it (internal_decoupled), as those of the RTL do.
    """
    model = _accelerator(streamlined, config)
    for node in _matrix_units(model):
        unit = getCustomOp(node)
        unit.set_nodeattr("resType", "lut")
        unit.set_nodeattr("ram_style_thresholds", "distributed")
    return _fold(model, "hls", asked, policy, config)


def hls_nodes(streamlined: ModelWrapper, asked: Folding, policy: Policy, config: DataflowBuildConfig) -> ModelWrapper:
    """HLS nodes with the folding applied and minimal bit widths; `streamlined` stays as it is.

    With stand-alone thresholds Thresholding_hls and MVAU_hls nodes; without, each hidden MVAU_hls holds the activation
    that follows it. There are no width converters and FIFOs: in cppsim FINN passes tensors from node to node and never
    runs their code.

    Raises DataflowError naming the nodes that FINN has no HLS variant for.
    """
    model = _accelerator(streamlined, config)
    return require_hls(_fold_nodes(model, "hls", asked, policy, config)[0])


def require_hls(model: ModelWrapper) -> ModelWrapper:
    """The model; DataflowError naming the nodes that are not HLS nodes.

    What gathers windows is not asked for: FINN has RTL alone of it, which its cppsim executes in Python.
    """
    nodes = [node for node in model.graph.node if not node.op_type.startswith(_WINDOWS)]
    others = [f"{node.name} ({node.op_type})" for node in nodes if not node.op_type.endswith("_hls")]
    if others:
        raise DataflowError(f"FINN has no HLS variant for {', '.join(others)}")
    return model


def _is_narrow(model: ModelWrapper, node: NodeProto) -> bool:
    """Whether no weight is the lowest value of its type: more fit into a DSP then (FINN, MVAU_rtl.generate_hdl)."""
    weights, datatype = model.get_initializer(node.input[1]), getCustomOp(node).get_input_datatype(1)
    return bool(weights is not None and weights.min() != datatype.min())


def geometry(model: ModelWrapper, foldings: list[LayerFolding], part: str) -> list[NodeRecord]:
    """One record a node, in the order of the stream, as plain JSON values.

    name, op_type; pe, simd (None where the node has none); inputs, outputs, vectors (matrix products of one image) and
    asked_pe, asked_simd for matrix units; input_type, weight_type, output_type (QONNX data types); output_lanes,
    elements of one output beat; output_elements, of one image; narrow_weights, whether no weight is the lowest value of
    its type, None without weights; cycles, FINN's expected cycles a frame; estimate, FINN's analytical resources {LUT,
    DSP, BRAM_18K, ...}.
    """
    cycles = model.analysis(exp_cycles_per_layer)
    resources = res_estimation(model, part)
    upcoming = iter(foldings)
    records: list[NodeRecord] = []
    for node in model.graph.node:
        unit = getCustomOp(node)
        attributes = unit.get_nodeattr_types()
        record: NodeRecord = {
            "name": node.name,
            "op_type": node.op_type,
            "pe": unit.get_nodeattr("PE") if "PE" in attributes else None,
            "simd": unit.get_nodeattr("SIMD") if "SIMD" in attributes else None,
            "input_type": unit.get_input_datatype().name,
            "weight_type": unit.get_nodeattr("weightDataType") if "weightDataType" in attributes else None,
            "output_type": unit.get_output_datatype().name,
            "narrow_weights": _is_narrow(model, node) if node.op_type.startswith("MVAU") else None,
            "output_lanes": int(unit.get_folded_output_shape()[-1]),
            "output_elements": math.prod(map(int, unit.get_normal_output_shape())),
            "cycles": int(cycles[node.name]),
            "estimate": {name: float(value) for name, value in resources[node.name].items()},
        }
        if node.op_type.startswith("MVAU"):
            layer = next(upcoming)
            record |= {"inputs": layer.inputs, "outputs": layer.outputs, "vectors": layer.vectors}
            record |= {"asked_pe": layer.asked.pe, "asked_simd": layer.asked.simd}
        records.append(record)
    return records
