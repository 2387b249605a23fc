"""What a maintainer needs to see a wrong node, without this suite: a folder with the node and a script.

    node.onnx inputs.npy expected.npy node.json README.txt reproduce.py, and of rtl/ cpp/ layer.npz what there is

``qnn/reproduce.py`` is the script; it imports nothing of the suite, and says what the files are.
"""

import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from qnn import reproduce
from qnn.errors import DesignError
from qnn.hdl import TOP, HardwareDesign, stitched_top
from qnn.tools import hls_headers, node_simulation, verilator
from qnn.tools.finn import CppRun
from qnn.tools.hls_headers import HlsHeaders

__all__ = ["Cpp", "NodeCase", "Rtl", "Streams", "between", "folder_of", "only_node", "part_of", "write"]


@dataclass(frozen=True, kw_only=True)
class Streams:
    """How elements lie in the beats of a node's streams."""

    input_bits: int
    input_lanes: int
    output_bits: int
    output_lanes: int
    output_signed: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Rtl:
    """HDL that is at fault, with two streams."""

    design: HardwareDesign
    streams: Streams
    kind: str = "RTL"
    """What it is called."""
    stalls: Sequence[int] = (0,)
    """Mean cycles between stalls of each run; 0 is without."""
    interval_cycles: int | None = None
    """What a vector has to take without stalls, or"""
    completions_cycles: Sequence[int] | None = None
    """when each vector has to be done; None where that is not judged."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cpp:
    """A run of cppsim, one of whose nodes is at fault."""

    run: CppRun
    headers: HlsHeaders


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeCase:
    """One node, what it is given and what it has to give; both [vectors, elements]."""

    name: str
    op_type: str
    model: Path | None
    """An ONNX file that has the node; None where it is no node of a graph."""
    nodes: Sequence[str] = ()
    """Nodes of `model` that are one here, where that is not `name` alone."""
    inputs: NDArray[Any]
    expected: NDArray[Any]
    tolerance: NDArray[np.float64] | None = None
    """How far off a result may be, of a shape that fits `expected`; None where it has to be equal."""
    story: str
    """What was seen, for the reader."""
    rtl: Rtl | None = None
    cpp: Cpp | None = None
    layer: Mapping[str, Any] | None = None
    """Parameters of the same in Brevitas; see in_brevitas() of the script."""


def between(graph: onnx.GraphProto, source: str, target: str) -> tuple[str, ...]:
    """Names of the nodes that make tensor `target` of tensor `source`, in order."""
    wanted, found = {target}, []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            found.append(node.name)
            wanted |= set(node.input) - {source}
    return tuple(reversed(found))


def part_of(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A model of these nodes, with initialisers, shapes and QONNX data types. Raises DesignError where one is missing.

    They have one input that is no constant, and the last one's output is that of the model.
    """
    graph = model.graph
    nodes = [node for node in graph.node if node.name in names]
    if missing := set(names) - {node.name for node in nodes}:
        there = ", ".join(node.name for node in graph.node)
        raise DesignError(f"the model has no node {', '.join(sorted(missing))}: there are {there}")
    made = {tensor for node in nodes for tensor in node.output}
    tensors = made | {tensor for node in nodes for tensor in node.input}
    constants = [tensor for tensor in graph.initializer if tensor.name in tensors]
    given = {tensor.name for tensor in constants}
    shapes = {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}
    inputs, outputs = dict.fromkeys(t for n in nodes for t in n.input if t not in made | given), [*nodes[-1].output][:1]
    small = onnx.helper.make_graph(
        nodes,
        nodes[-1].name,
        [shapes[tensor] for tensor in inputs],
        [shapes[tensor] for tensor in outputs],
        constants,
        value_info=[shapes[tensor] for tensor in sorted(tensors - {*inputs, *outputs}) if tensor in shapes],
    )
    small.quantization_annotation.extend(note for note in graph.quantization_annotation if note.tensor_name in tensors)
    return onnx.helper.make_model(small, opset_imports=model.opset_import, ir_version=model.ir_version)


def only_node(design: HardwareDesign, name: str) -> HardwareDesign:
    """The design of one node of `design` by itself. Raises DesignError where there is none of that name."""
    node = design.node(name)
    files = {file: text for file, text in design.files.items() if file in node.sources or file.startswith(f"{name}/")}
    files[f"{TOP}.sv"] = stitched_top((node,))
    return HardwareDesign(files=files, nodes=(node,), finn_version=design.finn_version)


def folder_of(reproducers: Path, cell: object, hop: str, node: str) -> Path:
    """Of its own for each node at each hop of a cell."""
    return reproducers / f"{cell}-{re.sub(r'[^A-Za-z0-9]+', '-', hop.replace(chr(39), ''))}-{node}"


def write(folder: Path, case: NodeCase) -> Path:
    """Write the reproducer of `case` to `folder`, whole or not at all, in place of an older one; returns the folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".reproducer-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        if case.model is not None:
            onnx.save(part_of(onnx.load(str(case.model)), case.nodes or [case.name]), str(made / "node.onnx"))
        np.save(made / "inputs.npy", _small(case.inputs))
        np.save(made / "expected.npy", _small(case.expected))
        if case.tolerance is not None:
            np.save(made / "tolerance.npy", case.tolerance)
        shutil.copy(reproduce.__file__, made / "reproduce.py")
        (made / "README.txt").write_text(f"{case.story}\n\nRun: python reproduce.py\n\n{reproduce.__doc__}")
        record: dict[str, Any] = {"name": case.name, "op_type": case.op_type}
        if case.rtl is not None:
            record |= _write_rtl(made / "rtl", case.rtl)
        if case.cpp is not None:
            record |= _write_cpp(made / "cpp", case.cpp, case.name)
        if case.layer is not None:
            np.savez(made / "layer.npz", **case.layer)
        (made / "node.json").write_text(json.dumps(record, indent=1) + "\n")
        if folder.exists():
            folder.rename(Path(scratch) / "old")
        made.rename(folder)
    return folder


def _small(values: NDArray[Any]) -> NDArray[Any]:
    """Integers in the smallest type that holds them."""
    if values.dtype.kind == "f" or not values.size:
        return values
    return values.astype(np.result_type(np.min_scalar_type(int(values.min())), np.min_scalar_type(int(values.max()))))


def _write_rtl(folder: Path, rtl: Rtl) -> Mapping[str, Any]:
    design = rtl.design
    design.write(folder)
    shutil.copy(node_simulation.DRIVER, folder / "driver.cpp")
    return {
        "kind": rtl.kind,
        "top": TOP,
        "sources": list(design.sources),
        "verilator_options": list(verilator.LANGUAGE),
        "input_bytes": design.input_bits // 8,
        "output_bytes": design.output_bits // 8,
        **asdict(rtl.streams),
        "stalls": list(rtl.stalls),
        "interval_cycles": rtl.interval_cycles,
        "completions_cycles": None if rtl.completions_cycles is None else list(rtl.completions_cycles),
    }


def _write_cpp(folder: Path, cpp: Cpp, name: str) -> Mapping[str, Any]:
    """The node's C++; and the headers, where they are the suite's own: others are for their owners to give."""
    with zipfile.ZipFile(cpp.run.sources) as archive, tempfile.TemporaryDirectory() as scratch:
        archive.extractall(scratch, [file for file in archive.namelist() if file.startswith(f"{name}/")])
        shutil.copytree(Path(scratch) / name, folder)
    shutil.copytree(hls_headers.npy_source().parent, folder, dirs_exist_ok=True)
    if cpp.headers.finn_deps is None:
        for include in cpp.headers.include:
            shutil.copytree(include, folder / "include", dirs_exist_ok=True)
    return {"cpp_input_shape": list(cpp.run.input_shapes[name])}
