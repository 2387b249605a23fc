"""Yosys (the ``pyosys`` package, with the slang front end): synthesis of single nodes for the 7 series, out of context.

Each node is synthesised apart, under a neutral name and in a folder that holds its own files alone. So the result
depends on nothing but those files, node_key() can name it, and nodes that differ in their number only are synthesised
once. The stitched top is wires alone: the linked netlist is the nodes' netlists and that top, and its resources are the
nodes' sum. Synthesising many nodes in one run was tried: slower, and a node's LUTs then depend on its companions.
"""

import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qnn import process
from qnn.errors import DesignError, ToolFailed, ToolMissing
from qnn.hdl import TOP, HardwareDesign, HardwareNode
from qnn.resources import CELLS, Resources, count_cells
from qnn.versions import tool_versions

__all__ = [
    "NEUTRAL",
    "Neutral",
    "NodeSynthesis",
    "Refusal",
    "abc",
    "available",
    "check",
    "count_linked",
    "linked_netlist",
    "netlist_of",
    "neutral_files",
    "neutral_text",
    "node_key",
    "parse_refusals",
    "parse_statistics",
    "read_command",
    "report",
    "synthesise",
    "version",
]

NEUTRAL = "unit"
"""What a node is called while it is synthesised."""
NETLIST_MODULE = f"{NEUTRAL}_node"

_STUBS = "qnn_stubs.sv"
_CELLS = "qnn_cells.v"
_SHIFT_REGISTERS = "qnn_shift_registers.v"
_NETLIST = "qnn_netlist.v"
_STATISTICS = "qnn_statistics.json"
_REPORT = "qnn_report.txt"

_BLACK_BOXES = ("DSP48E1", "LUT6_2")
"""Cells that finn-rtllib instantiates; slang does not take their models in cells_sim.v."""
_LABELS = ("prepare", "map_dsp", "coarse", "map_memory", "map_ffram", "fine", "map_cells", "map_ffs", "map_luts")
"""The parts of synth_xilinx that are run, as its help names them; what follows only prints and writes."""
SHIFT_REGISTER_MAP = """\
(* techmap_celltype = "$bmux" *)
module qnn_shift_register_read (A, S, Y);
    parameter WIDTH = 1;
    parameter S_WIDTH = 1;
    localparam WORDS = 1 << S_WIDTH;
    input [WIDTH*WORDS-1:0] A;
    input [S_WIDTH-1:0] S;
    output [WIDTH-1:0] Y;
    genvar b, w;
    generate
        for (b = 0; b < WIDTH; b = b + 1) begin : bits
            wire [WORDS-1:0] words;
            for (w = 0; w < WORDS; w = w + 1) begin : word
                assign words[WORDS-1-w] = A[WIDTH*w + b];
            end
            \\$shiftx #(.A_SIGNED(0), .B_SIGNED(0), .A_WIDTH(WORDS), .B_WIDTH(S_WIDTH), .Y_WIDTH(1))
                read (.A(words), .B(~S), .Y(Y[b]));
        end
    endgenerate
endmodule
"""
"""Makes the read of a shift register known to Yosys as one.

finn-rtllib's FIFOs and output queues shift words through an unpacked array ``A[0:N-1]`` and read it at a pointer, to be
placed in SRL16E or SRLC32E: a LUT for each bit. slang writes the read as a $bmux over whole words with A[0] leftmost;
xilinx_srl looks for a $shiftx for each bit whose last input is the last stage. Without this map every stage is a
flip-flop (2,704 in place of 1,224 in a small MVAU).
"""

_SYNTHESIS = "synth_xilinx -family xc7 -flatten -noiopad -noclkbuf"
# One thread: the caller decides how many nodes are synthesised at a time.
_ENVIRONMENT = {"YOSYS_MAX_THREADS": "1"}


@dataclass(frozen=True, kw_only=True)
class NodeSynthesis:
    """One node's netlist and what it takes."""

    netlist: str
    """Verilog of one flat module, NETLIST_MODULE; netlist_of() gives it the node's name."""
    cells: Mapping[str, int]
    """{cell type: how many}."""
    resources: Resources
    seconds: float
    """Host time of the run, process start included."""
    cpu_seconds: float
    peak_memory_bytes: int
    step_seconds: tuple[tuple[str, float], ...]
    """(Yosys command, host time) in order."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An error that the front end reports. `file` and `line` are None where it does not say where."""

    file: str | None
    line: int | None
    message: str


# ---------------------------------------------------------------------------------------------------------- the tool


def _package() -> Path:
    spec = find_spec("pyosys")
    if spec is None or not spec.submodule_search_locations:
        raise ToolMissing(
            f"Yosys is missing: {sys.executable} has no package pyosys; install it there with `pip install pyosys`"
        )
    return Path(spec.submodule_search_locations[0])


def abc() -> Path:
    """The program ABC that comes with Yosys. Raises ToolMissing."""
    return _package() / "yosys-abc"


def available() -> bool:
    """Whether pyosys is installed; it is not imported to find out."""
    return find_spec("pyosys") is not None


def version() -> str:
    """The installed package's version, such as ``pyosys 0.70``. Raises ToolMissing."""
    _package()
    return f"pyosys {tool_versions()['yosys']}"


# ------------------------------------------------------------------------------------------------------ its libraries


def parse_modules(text: str) -> dict[str, str]:
    """{name: text} of the modules in a Verilog library, each with the attributes in front of it."""
    pattern = re.compile(r"^(?:\(\*[^\n]*\*\)\s*?\n)*module (\w+).*?^endmodule", re.DOTALL | re.MULTILINE)
    return {match[1]: match[0] for match in pattern.finditer(text)}


def stub(module: str) -> str:
    """Ports and parameters of a library module without its body: what slang needs to know of an instance."""
    ports_end = module.index(");") + 2
    parameters = re.findall(r"^\s*parameter\b.*?;", module, re.DOTALL | re.MULTILINE)
    return "\n".join([module[:ports_end], *parameters, "endmodule", ""])


@cache
def _library(share: Path) -> tuple[str, str]:
    """(stubs for slang, models of the cells that CELLS knows), from Yosys' own files below `share`.

    Yosys would read more than a thousand modules, transceivers among them, which later passes copy again and again:
    with the known cells alone a node is synthesised in two thirds of the time, small ones in half, to the same netlist.
    """
    modules = parse_modules((share / "xilinx" / "cells_xtra.v").read_text())
    modules |= parse_modules((share / "xilinx" / "cells_sim.v").read_text())
    missing = sorted(CELLS.keys() - modules.keys())
    if missing:
        raise ToolFailed(f"Yosys' library of the 7 series ({share}) has no {', '.join(missing)}")
    stubs = "".join(stub(modules[name]) for name in _BLACK_BOXES)
    return stubs, "\n".join(["`timescale 1ps/1ps", *(modules[name] for name in CELLS), ""])


def cell_models() -> str:
    """Verilog models, as Yosys has them, of every cell that can occur in a netlist; block RAMs are empty."""
    return _library(_package() / "share")[1]


# -------------------------------------------------------------------------------------------- one node, made neutral


def neutral_text(text: str, name: str) -> str:
    """`text` with a node's name replaced, also as part of a longer identifier, but not ``..._1`` within ``..._10``."""
    if name not in text:  # as in megabytes of weights
        return text
    return re.sub(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![0-9])", NEUTRAL, text)


@dataclass(frozen=True, kw_only=True)
class Neutral:
    """A node's files under neutral names: all that its synthesis sees."""

    files: Mapping[str, str]
    sources: tuple[str, ...]
    names: Mapping[str, str]
    """{neutral file name: its name in the design}."""


def neutral_files(design: HardwareDesign, node: HardwareNode) -> Neutral:
    """The node's sources and what else lies in its folder (weights, thresholds).

    Should a source read a file from elsewhere, slang reports that it cannot be opened.
    """
    wanted = dict.fromkeys([*node.sources, *sorted(f for f in design.files if f.startswith(f"{node.name}/"))])
    names = {neutral_text(name, node.name): name for name in wanted}
    files = {neutral: neutral_text(design.files[name], node.name) for neutral, name in names.items()}
    return Neutral(files=files, sources=tuple(neutral_text(name, node.name) for name in node.sources), names=names)


def _file_arguments(names: Sequence[str]) -> str:
    spaced = [name for name in names if re.search(r"\s", name)]
    if spaced:
        raise DesignError(f"Yosys takes no file name with white space in it: {', '.join(map(repr, spaced))}")
    return " ".join(names)


def read_command(sources: Sequence[str], top: str, *, leave_out: str | None = None, options: str = "") -> str:
    """The command that reads a design's HDL with slang, in a folder where report() runs it."""
    boxes = [*_BLACK_BOXES, leave_out] if leave_out else _BLACK_BOXES
    return (
        f"read_slang {options} --ignore-assertions --allow-use-before-declare -Wno-unconnected-output-port "
        f"{' '.join(f'--blackboxed-module {name}' for name in boxes)} --top {top} {_file_arguments([_STUBS, *sources])}"
    )


@dataclass(frozen=True, kw_only=True)
class _Step:
    command: str
    condition: str | None = None
    """A name of yosys_worker.CONDITIONS."""


def _script(sources: Sequence[str]) -> list[_Step]:
    synthesis = [
        _Step(
            command=f"{_SYNTHESIS} -run {label}:{following}",
            # Mapping of memories reads its rules for a second, also where there is no memory.
            condition="has_memories" if label == "map_memory" else None,
        )
        for label, following in zip(_LABELS, (*_LABELS[1:], "finalize"), strict=True)
    ]
    fine = _LABELS.index("fine")
    return [
        _Step(command=read_command(sources, NETLIST_MODULE)),
        # slang takes the shift register at a Thresholding's output for a memory with a write port for each stage, and
        # Yosys then builds every stage of flip-flops. Read again as a variable, it is found to be a shift register;
        # the thresholds are still mapped as the ROMs they are (memory_bmux2rom).
        _Step(
            command=f"design -reset; {read_command(sources, NETLIST_MODULE, options='--no-implicit-memories')}",
            condition="writes_register_files_alone",
        ),
        # In place of synth_xilinx' own "begin", which reads every cell there is.
        _Step(command=f"read_verilog -lib -specify {_CELLS}"),
        _Step(command=f"hierarchy -check -top {NETLIST_MODULE}"),
        *synthesis[:fine],
        # "fine" begins with the search for shift registers.
        _Step(command=f"techmap -map {_SHIFT_REGISTERS}"),
        *synthesis[fine:],
        _Step(command="clean"),
        _Step(command=f"tee -q -o {_STATISTICS} stat -json"),
        _Step(command=f"write_verilog -noattr -norename {_NETLIST}"),
    ]


def node_key(design: HardwareDesign, node: HardwareNode) -> str:
    """SHA-256 of all that synthesise() depends on: equal keys, equal netlists.

    That is the contents and order of the node's files with its own name made neutral, the script, the costs of
    cells, and the tool's version. Other nodes and the node's place in the design do not matter.
    """
    neutral = neutral_files(design, node)
    script = [[step.command, step.condition] for step in _script(neutral.sources)]
    costs = {name: repr(cost) for name, cost in CELLS.items()}
    content = [version(), script, SHIFT_REGISTER_MAP, costs, sorted(neutral.files.items())]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


# ---------------------------------------------------------------------------------------------------------- the runs


def _run(
    steps: Sequence[_Step], files: Mapping[str, str], folder: Path, *, log: Path, timeout_s: float
) -> tuple[process.Finished, Any]:
    """Run `steps` in a process of their own in `folder`, which gets `files` and Yosys' libraries."""
    stubs, cells = _library(_package() / "share")
    for name, content in {**files, _STUBS: stubs, _CELLS: cells, _SHIFT_REGISTERS: SHIFT_REGISTER_MAP}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    request, result = folder / "qnn_request.json", folder / "qnn_result.json"
    request.write_text(json.dumps([{"command": s.command, "condition": s.condition} for s in steps]))
    worker = Path(__file__).with_name("yosys_worker.py")
    # -P: the folder of the script, where other tools' modules lie, is not put on the search path.
    argv: list[str | Path] = [sys.executable, "-P", worker, request.name, result.name]
    finished = process.run(argv, timeout_s=timeout_s, log=log, cwd=folder, environment=_ENVIRONMENT)
    return finished, json.loads(result.read_text())


def synthesise(design: HardwareDesign, node: HardwareNode, *, log: Path, timeout_s: float) -> NodeSynthesis:
    """Synthesise one node for the 7 series, out of context: no pads, no clock buffer.

    `log` gets all that Yosys prints. Raises ToolMissing, ToolFailed (a refused file among them) and ToolTimeout, each
    with the end of the log, and DesignError for a cell whose cost is not known.
    """
    neutral = neutral_files(design, node)
    with tempfile.TemporaryDirectory(prefix="qnn-yosys-") as name:
        folder = Path(name)
        finished, result = _run(
            _script(neutral.sources), neutral.files, folder, log=log.absolute(), timeout_s=timeout_s
        )
        netlist = (folder / _NETLIST).read_text()
        cells = parse_statistics((folder / _STATISTICS).read_text(), NETLIST_MODULE)
    return NodeSynthesis(
        netlist=netlist,
        cells=cells,
        resources=count_cells(cells),
        seconds=finished.seconds,
        cpu_seconds=result["cpu_seconds"],
        peak_memory_bytes=result["peak_memory_bytes"],
        step_seconds=tuple((command, seconds) for command, seconds in result["step_seconds"]),
    )


def parse_statistics(text: str, top: str) -> dict[str, int]:
    """{cell type: how many} below module `top`, submodules counted as often as they are instantiated.

    `text` is the output of ``stat -json``. Raises ToolFailed where it is not, or has no such module.
    """
    try:
        modules = {
            name.removeprefix("\\"): module["num_cells_by_type"] for name, module in json.loads(text)["modules"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ToolFailed(f"this is not the JSON that Yosys' `stat -json` writes: {text[:200]!r}") from None
    if top not in modules:
        raise ToolFailed(f"Yosys' statistics have no module {top}; there are: {', '.join(sorted(modules))}")

    def count(name: str) -> dict[str, int]:
        counted: dict[str, int] = {}
        for cell, number in modules[name].items():
            # A library cell may be listed as a module too; what CELLS knows is not looked into.
            inside = count(cell) if cell in modules and cell not in CELLS else {cell: 1}
            for kind, times in inside.items():
                counted[kind] = counted.get(kind, 0) + number * times
        return counted

    return count(top)


# -------------------------------------------------------------------------------------------------------- refusals

_ERROR = re.compile(r"^(?:(?P<file>[^\s:][^:\n]*):(?P<line>\d+): )?ERROR: (?P<message>.*)$", re.MULTILINE)
_NOT_CAUSES = ("Design elaboration failed", "too many errors emitted")


def parse_refusals(log: str) -> tuple[Refusal, ...]:
    """The front end's errors in the order of the log; its closing remarks are left out."""
    found = {
        Refusal(file=match["file"], line=int(match["line"]) if match["line"] else None, message=match["message"])
        for match in _ERROR.finditer(log)
        if not match["message"].startswith(_NOT_CAUSES)
    }
    return tuple(sorted(found, key=lambda refusal: (refusal.file or "", refusal.line or 0, refusal.message)))


def _refusals(
    design: HardwareDesign,
    sources: Sequence[str],
    top: str,
    *,
    log: Path,
    timeout_s: float,
    leave_out: str | None = None,
) -> tuple[Refusal, ...]:
    """What the front end says of `sources`; raises ToolFailed if it fails and says nothing that can be read."""
    with tempfile.TemporaryDirectory(prefix="qnn-yosys-") as name:
        steps = [_Step(command=read_command(sources, top, leave_out=leave_out))]
        try:
            _run(steps, design.files, Path(name), log=log.absolute(), timeout_s=timeout_s)
        except ToolFailed:
            refusals = parse_refusals(log.read_text(errors="replace"))
            if not refusals:
                raise
            return refusals
    return ()


def _guilty_file(design: HardwareDesign, *, log: Path, timeout_s: float) -> tuple[str, str] | None:
    """(file, module) of a refusal that names no file: the innermost module without which its node is taken."""
    for node in design.nodes:
        if not _refusals(design, node.sources, node.top, log=log, timeout_s=timeout_s):
            continue
        defined = {
            module: file for file in node.sources for module in re.findall(r"^module (\w+)", design.files[file], re.M)
        }
        guilty = [
            module
            for module in defined
            if module != node.top
            and not _refusals(design, node.sources, node.top, log=log, timeout_s=timeout_s, leave_out=module)
        ]
        inner = [
            module
            for module in guilty
            if not any(
                other != module and re.search(rf"^\s*{other}\b", design.files[defined[module]], re.M)
                for other in guilty
            )
        ]
        if inner:
            return defined[inner[0]], inner[0]
    return None


def check(design: HardwareDesign, *, log: Path, timeout_s: float) -> dict[str, str]:
    """{refused file: the front end's message} of the whole design, empty where it is taken.

    slang refuses some constructs without saying where; then the module is searched without which it is taken.
    Raises ToolFailed where no file can be named, ToolMissing, ToolTimeout.
    """
    refusals = _refusals(design, design.sources, TOP, log=log, timeout_s=timeout_s)
    refused: dict[str, str] = {}
    for refusal in refusals:
        if refusal.file is not None:
            refused.setdefault(refusal.file, f"line {refusal.line}: {refusal.message}")
    if refusals and not refused:
        found = _guilty_file(design, log=log, timeout_s=timeout_s)
        if found is None:
            messages = "; ".join(refusal.message for refusal in refusals)
            raise ToolFailed(f"Yosys refuses the design and names no file: {messages}")
        file, module = found
        refused[file] = f"{refusals[0].message} (it is taken without the content of module {module})"
    return refused


def report(commands: Sequence[str], files: Mapping[str, str], *, log: Path, timeout_s: float) -> str:
    """What the last of `commands` prints, warnings included, run in order in a folder that holds `files`.

    Raises ToolMissing, ToolFailed and ToolTimeout.
    """
    *before, last = commands
    with tempfile.TemporaryDirectory(prefix="qnn-yosys-") as name:
        folder = Path(name)
        steps = [_Step(command=command) for command in (*before, f"tee -q -o {_REPORT} {last}")]
        _run(steps, files, folder, log=log.absolute(), timeout_s=timeout_s)
        return (folder / _REPORT).read_text()


# ---------------------------------------------------------------------------------------------------------- linking


def netlist_of(node: HardwareNode, netlist: str) -> str:
    """`netlist`, as NodeSynthesis has it, with its module named `node.top`."""
    renamed, found = re.subn(rf"^module {NETLIST_MODULE}\b", f"module {node.top}", netlist, flags=re.M)
    if found != 1:
        raise DesignError(f"the netlist of {node.name} holds module {NETLIST_MODULE} {found} times, not once")
    return renamed


def linked_netlist(design: HardwareDesign, netlists: Mapping[str, str]) -> str:
    """Verilog of the whole accelerator: the netlist of each node (`netlists`, by node name) and the stitched top."""
    missing = [node.name for node in design.nodes if node.name not in netlists]
    if missing:
        raise DesignError(f"these nodes are not synthesised: {', '.join(missing)}")
    return "\n".join([*(netlist_of(node, netlists[node.name]) for node in design.nodes), design.files[f"{TOP}.sv"]])


def count_linked(netlist: str, top: str, *, log: Path, timeout_s: float) -> Resources:
    """Resources below `top` of a linked netlist, counted by Yosys in the netlist's hierarchy as it stands."""
    steps = [
        _Step(command=f"read_verilog -lib -specify {_CELLS}"),
        _Step(command="read_verilog -sv linked.v"),
        _Step(command=f"hierarchy -check -top {top}"),
        _Step(command=f"tee -q -o {_STATISTICS} stat -json"),
    ]
    with tempfile.TemporaryDirectory(prefix="qnn-yosys-") as name:
        folder = Path(name)
        _run(steps, {"linked.v": netlist}, folder, log=log.absolute(), timeout_s=timeout_s)
        return count_cells(parse_statistics((folder / _STATISTICS).read_text(), top))
