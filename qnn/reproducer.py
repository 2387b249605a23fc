"""What a maintainer of FINN needs to see a wrong node, without this suite: a folder with one node and a script.

    node.onnx inputs.npy expected.npy node.json rtl/ reproduce.py README.txt

``qnn/reproduce.py`` is the script; it imports nothing of the suite.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from qnn import reproduce
from qnn.errors import DesignError
from qnn.hdl import TOP, HardwareDesign, stitched_top
from qnn.tools import verilator

__all__ = ["NodeCase", "Streams", "one_node", "only_node", "write"]


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeCase:
    """One node, what it is given and what it has to give; both [vectors, elements]."""

    name: str
    op_type: str
    model: Path
    """An ONNX file that has the node."""
    inputs: NDArray[np.int64]
    expected: NDArray[np.int64]
    story: str
    """What was seen, for the reader."""
    in_cpp: bool = False
    """Whether it is the node's C++ that is at fault."""


@dataclass(frozen=True, kw_only=True)
class Streams:
    """How elements lie in the beats of a node's streams."""

    input_bits: int
    input_lanes: int
    output_bits: int
    output_lanes: int
    output_signed: bool


def one_node(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A model of the one node, with its initialisers, shapes and QONNX data types. Raises DesignError without it."""
    node = next((node for node in model.graph.node if node.name == name), None)
    if node is None:
        raise DesignError(f"the model has no node {name}: there are {', '.join(n.name for n in model.graph.node)}")
    graph, tensors = model.graph, {*node.input, *node.output}
    constants = [tensor for tensor in graph.initializer if tensor.name in tensors]
    given = {tensor.name for tensor in constants}
    shapes = {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}
    small = onnx.helper.make_graph(
        [node],
        name,
        [shapes[tensor] for tensor in node.input if tensor not in given],
        [shapes[tensor] for tensor in node.output],
        constants,
        value_info=[shapes[tensor] for tensor in node.input if tensor in given and tensor in shapes],
    )
    small.quantization_annotation.extend(note for note in graph.quantization_annotation if note.tensor_name in tensors)
    return onnx.helper.make_model(small, opset_imports=model.opset_import, ir_version=model.ir_version)


def only_node(design: HardwareDesign, name: str) -> HardwareDesign:
    """The design of one node of `design` by itself. Raises DesignError where there is none of that name."""
    node = design.node(name)
    files = {file: text for file, text in design.files.items() if file in node.sources or file.startswith(f"{name}/")}
    files[f"{TOP}.sv"] = stitched_top((node,))
    return HardwareDesign(files=files, nodes=(node,), finn_version=design.finn_version)


def write(folder: Path, case: NodeCase, design: HardwareDesign | None = None, streams: Streams | None = None) -> Path:
    """Write the reproducer of `case` to `folder`, whole or not at all, in place of an older one; returns the folder.

    `design` is that of the node alone and `streams` its streams, for a case of RTL; else the case is one of Python.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".reproducer-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        onnx.save(one_node(onnx.load(str(case.model)), case.name), str(made / "node.onnx"))
        np.save(made / "inputs.npy", case.inputs)
        np.save(made / "expected.npy", case.expected)
        shutil.copy(reproduce.__file__, made / "reproduce.py")
        (made / "README.txt").write_text(f"{case.story}\n\nRun: python reproduce.py\n\n{reproduce.__doc__}")
        record: dict[str, Any] = {"name": case.name, "op_type": case.op_type, "in_cpp": case.in_cpp}
        if design is not None and streams is not None:
            record |= _write_rtl(made / "rtl", design, streams)
        (made / "node.json").write_text(json.dumps(record, indent=1) + "\n")
        if folder.exists():
            folder.rename(Path(scratch) / "old")
        made.rename(folder)
    return folder


def _write_rtl(folder: Path, design: HardwareDesign, streams: Streams) -> Mapping[str, Any]:
    design.write(folder)
    shutil.copy(verilator.STREAM_DRIVER, folder / "simulate.cpp")
    (folder / "nodes.h").write_text(verilator.no_nodes_header())
    return {
        "top": TOP,
        "sources": list(design.sources),
        "verilator_options": list(verilator.LANGUAGE),
        "input_bytes": design.input_bits // 8,
        "output_bytes": design.output_bits // 8,
        **asdict(streams),
    }
