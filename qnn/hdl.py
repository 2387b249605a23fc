"""Hardware as a value: FINN's RTL as {file: content}, the modules that join it, and a digest. Runs no tool.

Names are relative to one folder, where a tool that is given the design has to be started: FINN's ``$readmemh``
paths (weights, thresholds) are relative to it as well. So the same network gives the same digest on any machine.

File layout::

    rtllib/mvu/mvu.sv                        finn-rtllib, as FINN ships it
    MVAU_rtl_0/MVAU_rtl_0_wrapper.v          what FINN generated for a node
    MVAU_rtl_0/memblock.dat                  its weights
    MVAU_rtl_0/node.sv                       the suite's: one node with its weight memory, streams in0_V and out0_V
    finn_design.sv                           the suite's: the chain of all nodes
"""

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from qnn.errors import DesignError

__all__ = ["TOP", "HardwareDesign", "HardwareNode", "node_module", "stitched_top"]

TOP = "finn_design"
_HDL_SUFFIXES = (".v", ".sv", ".vh", ".svh")


@dataclass(frozen=True, kw_only=True)
class HardwareNode:
    """One node of FINN's dataflow graph as a hardware module.

    `module` is FINN's wrapper; `weights_module`, for an MVAU, is the memory beside it that streams the weights.
    Stream widths are those of the ports: whole bytes.
    """

    name: str
    op_type: str
    module: str
    sources: tuple[str, ...]
    """Verilog and SystemVerilog files in compile order, packages first."""
    input_bits: int
    output_bits: int
    weights_module: str | None = None
    weight_bits: int | None = None
    fifo_depth: int | None = None
    """DEPTH of a FIFO; None for other nodes."""

    @property
    def top(self) -> str:
        """The module that node_module() writes."""
        return f"{self.name}_node"


@dataclass(frozen=True, kw_only=True)
class HardwareDesign:
    """All that a simulator or a synthesiser needs of one accelerator: streams in0_V and out0_V, ap_clk, ap_rst_n."""

    files: Mapping[str, str]
    nodes: tuple[HardwareNode, ...]
    finn_version: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))
        for node in self.nodes:
            missing = [name for name in node.sources if name not in self.files]
            if missing:
                raise DesignError(f"{node.name} names files that the design does not hold: {', '.join(missing)}")
        absolute = [name for name in self.files if name.startswith("/") or ".." in Path(name).parts]
        if absolute:
            raise DesignError(f"file names have to be relative and inside the design: {', '.join(absolute)}")

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and contents, in the order of names."""
        digest = hashlib.sha256()
        for name in sorted(self.files):
            digest.update(json.dumps([name, self.files[name]]).encode())
        return digest.hexdigest()

    @property
    def memories(self) -> dict[str, str]:
        """{name: content} of the files that HDL reads when a simulation starts: all that is no HDL."""
        return {name: text for name, text in self.files.items() if PurePosixPath(name).suffix not in _HDL_SUFFIXES}

    def node(self, name: str) -> HardwareNode:
        """The node of this name. Raises DesignError, with the names that there are."""
        found = next((node for node in self.nodes if node.name == name), None)
        if found is None:
            raise DesignError(f"the design has no node {name}: there are {', '.join(node.name for node in self.nodes)}")
        return found

    @property
    def input_bits(self) -> int:
        return self.nodes[0].input_bits

    @property
    def output_bits(self) -> int:
        return self.nodes[-1].output_bits

    @property
    def sources(self) -> tuple[str, ...]:
        """Every file to compile, once, packages first, the top last."""
        names = dict.fromkeys(name for node in self.nodes for name in node.sources)
        return (*sorted(names, key=lambda name: not name.endswith("_pkg.sv")), f"{TOP}.sv")

    def replace_files(self, files: Mapping[str, str]) -> "HardwareDesign":
        """The same design with some files' contents replaced."""
        unknown = files.keys() - self.files.keys()
        if unknown:
            raise DesignError(f"no such file in the design: {', '.join(sorted(unknown))}")
        return HardwareDesign(files={**self.files, **files}, nodes=self.nodes, finn_version=self.finn_version)

    def write(self, folder: Path) -> None:
        """Write every file below `folder`."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)


_AXILITE_INPUTS = ("AWVALID", "AWADDR", "WVALID", "WDATA", "WSTRB", "BREADY", "ARVALID", "ARADDR", "RREADY")
_PORTS = """    input  ap_clk,
    input  ap_rst_n,
    input  [{input_bits}-1:0] in0_V_tdata,
    input  in0_V_tvalid,
    output in0_V_tready,
    output [{output_bits}-1:0] out0_V_tdata,
    output out0_V_tvalid,
    input  out0_V_tready
"""


def _instance(module: str, name: str, ports: Mapping[str, str]) -> str:
    body = ",\n".join(f"        .{port}({signal})" for port, signal in ports.items())
    return f"    {module} {name} (\n{body}\n    );\n"


def _stream(port: str, signal: str) -> dict[str, str]:
    return {f"{port}_{part}": f"{signal}_{part.lower()}" for part in ("TDATA", "TVALID", "TREADY")}


def node_module(node: HardwareNode) -> str:
    """SystemVerilog of `node.top`: FINN's wrapper with its weight memory, unused ports tied off, two streams left.

    Ports as FINN's templates have them (``finn/custom_op/fpgadataflow/rtl``): a Thresholding has an AXI-lite port
    and a set-selection stream in1_V; an FMPadding has an AXI-lite port; an MVAU takes its weights as stream in1_V and a
    second clock, which is unused unless it is pumped.
    """
    ports = {"ap_clk": "ap_clk", "ap_rst_n": "ap_rst_n", **_stream("in0_V", "in0_V"), **_stream("out0_V", "out0_V")}
    body = ""
    if node.weights_module is not None:
        body += f"    wire [{node.weight_bits}-1:0] weights_tdata;\n    wire weights_tvalid, weights_tready;\n"
        memory = {"ap_clk": "ap_clk", "ap_clk2x": "ap_clk", "ap_rst_n": "ap_rst_n"}
        memory |= {f"s_axilite_{name}": "'0" for name in (*_AXILITE_INPUTS, "AWPROT", "ARPROT")}
        memory |= {"s_axis_0_tvalid": "1'b0", "s_axis_0_tdata": "'0"}
        memory |= {f"m_axis_0_{part}": f"weights_{part}" for part in ("tdata", "tvalid", "tready")}
        body += _instance(node.weights_module, "weights", memory)
        ports |= {"ap_clk2x": "ap_clk", **_stream("in1_V", "weights")}
    elif node.op_type.startswith(("Thresholding", "FMPadding")):
        ports |= {f"s_axilite_{name}": "'0" for name in _AXILITE_INPUTS}
        if node.op_type.startswith("Thresholding"):
            ports |= {"in1_V_TVALID": "1'b0", "in1_V_TDATA": "'0"}
    body += _instance(node.module, "node", ports)
    head = _PORTS.format(input_bits=node.input_bits, output_bits=node.output_bits)
    return f"module {node.top} (\n{head});\n{body}endmodule\n"


def stitched_top(nodes: tuple[HardwareNode, ...]) -> str:
    """SystemVerilog of the chain of `nodes`: each output stream is the next one's input. Wires alone, no logic.

    Raises DesignError where two neighbours' widths differ, naming them.
    """
    for left, right in itertools.pairwise(nodes):
        if left.output_bits != right.input_bits:
            raise DesignError(
                f"{left.name} gives {left.output_bits} bits and {right.name} takes {right.input_bits}: "
                "a data-width converter is missing between them"
            )
    widths = [nodes[0].input_bits, *(node.output_bits for node in nodes)]
    body = "".join(
        f"    wire [{width}-1:0] s{k}_tdata;\n    wire s{k}_tvalid, s{k}_tready;\n" for k, width in enumerate(widths)
    )
    for k, node in enumerate(nodes):
        ports = {"ap_clk": "ap_clk", "ap_rst_n": "ap_rst_n"}
        for part in ("tdata", "tvalid", "tready"):
            ports |= {f"in0_V_{part}": f"s{k}_{part}", f"out0_V_{part}": f"s{k + 1}_{part}"}
        body += _instance(node.top, node.name, ports)
    last = f"s{len(nodes)}"
    body += "    assign s0_tdata = in0_V_tdata;\n    assign s0_tvalid = in0_V_tvalid;\n"
    body += "    assign in0_V_tready = s0_tready;\n"
    body += f"    assign out0_V_tdata = {last}_tdata;\n    assign out0_V_tvalid = {last}_tvalid;\n"
    body += f"    assign {last}_tready = out0_V_tready;\n"
    head = _PORTS.format(input_bits=widths[0], output_bits=widths[-1])
    return f"module {TOP} (\n{head});\n{body}endmodule\n"
