"""FINN's cppsim of HLS nodes: its PrepareCppSim, CompileCppSim and execute_onnx, with many images a process.

Each node is a program; FINN writes its inputs to .npy files, runs it, and reads its outputs. All of these hold float32.
Which headers the programs are compiled with is up to the environment (XILINX_HLS, FINN_DEPS, FINN_CUSTOM_HLS): see
``qnn.tools.hls_headers``.
"""

import os
import re
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from subprocess import CalledProcessError

import numpy as np
from finn.core.onnx_exec import execute_onnx
from finn.transformation.fpgadataflow.compile_cppsim import CompileCppSim
from finn.transformation.fpgadataflow.prepare_cppsim import PrepareCppSim
from finn.transformation.fpgadataflow.set_exec_mode import SetExecMode
from finn.transformation.streamline.absorb import AbsorbScalarMulAddIntoTopK
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.general import GiveUniqueNodeNames
from qonnx.transformation.infer_datatypes import InferDataTypes
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.insert_topk import InsertTopK

from qnn.errors import DataflowError

__all__ = ["batch_images", "compile_nodes", "require_annotated_input", "run", "save_sources", "with_top1"]

_FLOAT32_EXACT = 2**24
"""Integers up to here are exact in FINN's .npy files."""


def require_annotated_input(model: ModelWrapper) -> None:
    """Raise DataflowError unless the graph's input has an integer data type."""
    name = model.graph.input[0].name
    datatype = model.get_tensor_datatype(name)
    if not datatype.is_integer():
        raise DataflowError(
            f"the model's input {name} is not annotated with an integer data type (it is {datatype.name}): "
            "say which with ModelWrapper.set_tensor_datatype, for example UINT8 for pixels"
        )


def with_top1(streamlined: ModelWrapper) -> ModelWrapper:
    """The streamlined graph with top-1 at its end, which FINN makes a LabelSelect of; `streamlined` is changed.

    That selects from accumulators. A positive scalar factor and a scalar offset behind them change no order, so FINN
    drops them. Raises DataflowError where anything else is left: top-1 has to stay on the host then.
    """
    model = streamlined.transform(InsertTopK(k=1))
    # FINN's transformation takes one node off at a time, and repeats itself.
    model = model.transform(AbsorbScalarMulAddIntoTopK()).transform(InferShapes()).transform(InferDataTypes())
    top1 = model.graph.node[-1]
    before = model.find_producer(top1.input[0])
    if before is None or before.op_type != "MatMul":
        what = "nothing" if before is None else f"{before.name or before.op_type} ({before.op_type})"
        raise DataflowError(
            f"top-1 stays on the host: {what} lies between the last accumulators and top-1. LabelSelect compares the "
            "accumulators themselves, and factors or offsets of each class, or a negative factor, change their order"
        )
    return model.transform(GiveUniqueNodeNames())


def batch_images(model: ModelWrapper, asked: int) -> int:
    """Images that one process of a node may take: one where windows are gathered, which FINN does in Python."""
    return 1 if any(node.op_type.startswith("ConvolutionInputGenerator") for node in model.graph.node) else asked


def _set_batch(model: ModelWrapper, images: int) -> None:
    """Make the graph, whose nodes were made for one image, one for a batch."""
    if images == 1:
        return
    for node in model.graph.node:
        getCustomOp(node).set_nodeattr("numInputVectors", [images])
        for tensor in (node.input[0], node.output[0]):
            model.set_tensor_shape(tensor, [images, *model.get_tensor_shape(tensor)[1:]])


def _label_all_images(model: ModelWrapper, images: int) -> None:
    """Make the C++ of LabelSelect_hls label `images`.

    FINN writes 1, a literal that no attribute of the node changes (labelselect_hls.py, docompute). Raises DataflowError
    where it writes another call.
    """
    call = re.compile(rf"(LabelSelect_Batch<[^;]*> \(in0_V, out0_V), (?:1|{images})\);")
    for node in model.graph.node:
        if node.op_type != "LabelSelect_hls":
            continue
        path = Path(getCustomOp(node).get_nodeattr("code_gen_dir_cppsim")) / f"execute_{node.op_type}.cpp"
        code, count = call.subn(rf"\1, {images});", path.read_text())
        if count != 1:
            raise DataflowError(f"{node.name}: how FINN's C++ calls LabelSelect_Batch is not known")
        path.write_text(code)


def _why_not_compiled(compiler_output: str, finn_hlslib: str | None) -> str:
    lines = compiler_output.splitlines()
    first = next((line for line in lines if "error: " in line), lines[-1] if lines else "nothing")
    said = f"g++ says: {re.sub(r'^[^ ]*/', '', first)}"
    if finn_hlslib is None:
        return f"FINN's C++ does not compile against the suite's own library, qnn/hls/include; {said}"
    return (
        f"FINN's C++ does not compile against the finn-hlslib in {finn_hlslib}, most likely since it is not of the "
        f"commit that finn-plus {version('finn-plus')} names in finn/interface/external_dependencies.yaml: fetch that "
        f"(`finn deps update` does, where Vivado is), or take FINN_DEPS away for the suite's headers to be used; {said}"
    )


def compile_nodes(model: ModelWrapper, images: int, finn_hlslib: str | None) -> ModelWrapper:
    """Generate and compile the C++ of every node, for `images` at once, several nodes in parallel.

    `finn_hlslib` is its folder, or None for the suite's own library: for the message of the DataflowError that is
    raised where the compiler fails.
    """
    _set_batch(model, images)
    workers = len(os.sched_getaffinity(0))
    model = model.transform(PrepareCppSim(num_workers=workers))
    _label_all_images(model, images)
    try:
        model = model.transform(CompileCppSim(num_workers=workers))
    except CalledProcessError as error:
        raise DataflowError(_why_not_compiled(error.stderr or "", finn_hlslib)) from None
    return model.transform(SetExecMode("cppsim"))


def save_sources(model: ModelWrapper, path: Path) -> dict[str, list[int]]:
    """Zip the C++ that compile_nodes() made, <node>/..., and tell the shape of the input array of each node's program.

    What a program reads and writes is in the folder where it is run: input_0.npy, output_0.npy, and its weights.
    """
    shapes = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for node in model.graph.node:
            if not node.op_type.endswith("_hls"):
                continue
            unit = getCustomOp(node)
            folder = Path(unit.get_nodeattr("code_gen_dir_cppsim"))
            shapes[node.name] = [int(size) for size in unit.get_folded_input_shape()]
            for file in sorted(folder.iterdir()):
                if file.suffix in (".cpp", ".h", ".hpp"):
                    archive.writestr(f"{node.name}/{file.name}", file.read_text().replace(f"{folder}/", ""))
                elif file.suffix == ".npy":
                    archive.write(file, f"{node.name}/{file.name}")
    return shapes


def _run_batch(model: ModelWrapper, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Of one batch: {node: its output}."""
    feed = {model.graph.input[0].name: inputs.astype(np.float32)}
    tensors = execute_onnx(model, feed, return_full_exec_context=True)
    return {node.name: tensors[node.output[0]] for node in model.graph.node}


def _batches(inputs: np.ndarray, images: int) -> Iterator[tuple[np.ndarray, int]]:
    """Batches of exactly `images`, the last one filled up with its own last image, and how many of them count."""
    for start in range(0, len(inputs), images):
        batch = inputs[start : start + images]
        filled = np.concatenate([batch, np.repeat(batch[-1:], images - len(batch), axis=0)])
        yield filled, len(batch)


def run(model: ModelWrapper, inputs: np.ndarray, images: int) -> dict[str, np.ndarray]:
    """{node: its output, int32 [N, ...]} in the order of the stream, for `inputs` [N, ...] in batches of `images`.

    Raises DataflowError where an output is too large for FINN's float32 files.
    """
    found: dict[str, list[np.ndarray]] = {node.name: [] for node in model.graph.node}
    for batch, count in _batches(inputs, images):
        for name, output in _run_batch(model, batch).items():
            if np.abs(output).max() >= _FLOAT32_EXACT:
                raise DataflowError(f"{name} gives values of 2^24 or more, which FINN's float32 files do not hold")
            found[name].append(output[:count].astype(np.int32))
    return {name: np.concatenate(outputs) for name, outputs in found.items()}
