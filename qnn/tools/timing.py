"""Static timing of a synthesised accelerator by Yosys' `sta`: delays of cells alone, since nothing is placed or routed.

What comes out is a lower bound on the clock period: routing only adds to it. Delays are those of Yosys' library
(``cells_sim.v``, from Project X-Ray's measurements of an Artix-7, the fabric of a Zynq Z-7020). Three kinds of cells
have none there and get those of the same silicon (_SAME_SILICON). Cells that still have none are counted, not
passed over: a path ends at them. Paths inside a cell, as between a DSP48E1's own registers, are not seen either.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from qnn.errors import ToolFailed
from qnn.hdl import TOP, HardwareDesign
from qnn.tools import yosys

__all__ = ["Stage", "Timing", "analyse", "parse"]

_DELAYS = re.compile(r"^\s*specify\b(.*?)\bendspecify\b", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class _Donor:
    cell: str
    drop: str
    """Statements with this are left out."""
    outputs: Mapping[str, tuple[str, ...]]
    """{output of the donor: outputs that have its delays}."""


_SAME_SILICON = {
    # A LUT with its second output; that one does not see I5.
    "LUT6_2": _Donor(cell="LUT6", drop="(?!)", outputs={"O": ("O6", "O5")}),
    # Half of the memory with two ports.
    "RAM32X1S": _Donor(cell="RAM32X1D", drop=r"\bDP", outputs={"SPO": ("O",)}),
    "RAM64X1S": _Donor(cell="RAM64X1D", drop=r"\bDP", outputs={"SPO": ("O",)}),
}


def _delays(library: Mapping[str, str], donor: _Donor) -> str:
    block = _DELAYS.search(library[donor.cell])
    if block is None:
        raise ToolFailed(f"Yosys' library has no delays for {donor.cell}")
    statements = []
    for statement in re.sub(r"//.*", "", block[1]).split(";"):
        if not statement.strip() or re.search(donor.drop, statement):
            continue
        named = [output for output in donor.outputs if re.search(rf"\b{output}\b", statement)]
        for output in named:
            for own in donor.outputs[output]:
                if not (own == "O5" and "I5" in statement):
                    statements.append(re.sub(rf"\b{output}\b", own, statement) + ";")
        if not named:
            statements.append(statement + ";")
    return "".join(["specify", *statements, "\nendspecify\n"])


def _cells() -> str:
    """Yosys' models of cells, with delays for those of _SAME_SILICON that have none of their own."""
    library = yosys.parse_modules(yosys.cell_models())
    for name, donor in _SAME_SILICON.items():
        if not _DELAYS.search(library[name]):
            body, end, _ = library[name].rpartition("endmodule")
            library[name] = f"{body}{_delays(library, donor)}{end}"
    return "\n".join(library.values())


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A cell on a path: the signal leaves it after `arrival_ps`, or has to be there by then where the path ends."""

    arrival_ps: int
    cell: str
    """Name of the instance, from the node's on; of a signal, where a path begins or ends at no cell with delays."""
    kind: str | None
    """Type of the cell; None for a signal."""
    pins: str
    """``CLK->Q`` as the signal goes; one pin at the end of a path."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The longest path of a netlist."""

    stages: tuple[Stage, ...]
    """From the register or port where it starts to the one where it ends."""
    untimed: Mapping[str, int]
    """Cells without delays: {type: how many}."""

    @property
    def longest_path_ps(self) -> int:
        """Clock to output, logic and setup: a lower bound on the clock period."""
        return self.stages[-1].arrival_ps

    def to_json(self) -> str:
        """What from_json() reads."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Timing":
        """The timing that to_json() wrote."""
        fields = json.loads(text)
        return cls(stages=tuple(Stage(**stage) for stage in fields["stages"]), untimed=fields["untimed"])

    def nodes(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of the nodes' `names` that the path goes through, in its order."""
        known = set(names)
        passed = (re.split(r"[.\s]", stage.cell)[0] for stage in self.stages)
        return tuple(dict.fromkeys(name for name in passed if name in known))


_CLOCK = "ap_clk"
_LONGEST = re.compile(r"^Latest arrival time in '.*' is (\d+):$", re.MULTILINE)
_STAGE = re.compile(r"^ +(?P<arrival>\d+) +(?P<cell>.*?) ?\((?P<kind>[^\s()]+?)\.(?P<pins>[^()]+)\)$")
# An end that is no pin is "unknown" to sta also where it is a port under another name.
_PORT = re.compile(r"^ +(?P<arrival>\d+) +(?P<cell>.*?) ?\(<(?:primary input|primary output|unknown)>\)$")
_SIGNAL = re.compile(r"^ {11}(\S.*)$")
_UNTIMED = re.compile(r"^Warning: (?:Module '(\S+)' has no timing arcs!|Cell type '(\S+)' )", re.MULTILINE)


def _plain(name: str) -> str:
    return name.strip().removeprefix("\\")


def parse(text: str) -> tuple[tuple[Stage, ...], frozenset[str]]:
    """(the longest path from its start to its end, the types of cells without delays), from what `sta` prints.

    Raises ToolFailed where there is no path, or one that cannot be read.
    """
    longest = _LONGEST.search(text)
    if longest is None:
        raise ToolFailed(f"Yosys' sta found no path; its report ends: {text[-200:]!r}")
    stages: list[Stage] = []
    for line in text[longest.end() :].lstrip("\n").split("\n\n")[0].splitlines():
        if match := _STAGE.match(line):
            kind, pins = match["kind"], match["pins"]
        elif match := _PORT.match(line):
            kind, pins = None, ""
        elif (match := _SIGNAL.match(line)) and stages and not stages[-1].cell:
            stages[-1] = replace(stages[-1], cell=_plain(match[1]))
            continue
        else:
            continue
        stages.append(Stage(arrival_ps=int(match["arrival"]), cell=_plain(match["cell"]), kind=kind, pins=pins))
    if len(stages) < 2 or stages[0].arrival_ps != int(longest[1]):
        raise ToolFailed(f"the path that Yosys' sta found cannot be read: {text[longest.start() :][:400]!r}")
    if stages[-1].cell == _CLOCK:
        del stages[-1]  # for sta, a path from a register begins at the clock's port
    return tuple(stages[::-1]), frozenset(module or cell for module, cell in _UNTIMED.findall(text))


def analyse(design: HardwareDesign, netlists: Mapping[str, str], *, log: Path, timeout_s: float) -> Timing:
    """The longest path of the linked netlist, also where it crosses nodes: {node name: netlist}.

    The accelerator's inputs arrive with the clock edge. Raises DesignError, ToolMissing, ToolFailed, ToolTimeout.
    """
    linked = yosys.linked_netlist(design, netlists)
    commands = [
        "read_verilog -lib -specify cells.v",
        "read_verilog -sv linked.v",
        f"hierarchy -check -top {TOP}",
        "flatten -noscopeinfo",
        "sta",
    ]
    text = yosys.report(commands, {"cells.v": _cells(), "linked.v": linked}, log=log, timeout_s=timeout_s)
    stages, untimed = parse(text)
    counts = {kind: len(re.findall(rf"^ *{re.escape(kind)}\b", linked, re.MULTILINE)) for kind in sorted(untimed)}
    return Timing(stages=stages, untimed=counts)
