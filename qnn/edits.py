"""Edits that open tools need in FINN's files, each with its reason, applied only where a tool refuses the file.

A tool gets every file as FINN ships it. Where it refuses one, the edit for exactly that text (its SHA-256) is applied
and the tool is asked again; a refusal that no edit answers is a ToolGap. So a FINN release that rewrites a file is
judged by the new file, never by an edit made for the old one. tests/test_edits.py proves each edit: the original and
the edited module agree in the tool that takes both. This module runs no tool itself.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from qnn.errors import DesignError, ToolGap
from qnn.hdl import HardwareDesign

__all__ = ["EDITS", "Accepted", "Check", "Edit", "accept", "sha256"]

Check = Callable[[HardwareDesign], Mapping[str, str]]
"""Gives a design to a tool: {refused file: the tool's message}, empty where it takes every file."""


def sha256(text: str) -> str:
    """The digest that an edit is keyed by."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A change of one file of finn-rtllib for one tool."""

    tool: str
    """``verilator`` or ``yosys``."""
    file: str
    """Its name in a HardwareDesign."""
    sha256: str
    """Of the file as FINN ships it."""
    finn_versions: tuple[str, ...]
    """finn-plus releases on which the edit was proved."""
    reason: str
    replacements: tuple[tuple[str, str], ...]
    """(old text, new text); each old text occurs exactly once in the file."""

    def apply(self, text: str) -> str:
        """`text` with every replacement made. Raises DesignError where an old text is not there exactly once."""
        for old, new in self.replacements:
            if text.count(old) != 1:
                raise DesignError(
                    f"the edit of {self.file} for {self.tool} expects this text once but finds it {text.count(old)} "
                    f"times:\n{old}"
                )
            text = text.replace(old, new)
        return text


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A design that a tool takes, and the edits it took for that, in the order they were applied."""

    design: HardwareDesign
    edits: tuple[Edit, ...]


def _gap(tool: str, file: str, message: str, design: HardwareDesign, digest: str, known: Sequence[Edit]) -> ToolGap:
    """Why no edit answers `tool`'s refusal of `file`; `known` are the edits for this tool and file."""
    current = [edit for edit in known if edit.sha256 == digest]
    if current:
        why = f"the known edit is already applied ({'; '.join(edit.reason for edit in current)})"
    elif known:
        releases = ", ".join(sorted({release for edit in known for release in edit.finn_versions}))
        why = (
            f"the file changed since its edit was proved (on finn-plus {releases}): "
            "look whether the edit is still needed, make it anew and prove it in tests/test_edits.py"
        )
    else:
        why = "there is no edit for it: add one to qnn/edits.py with its proof in tests/test_edits.py"
    return ToolGap(f"{tool} refuses {file} of finn-plus {design.finn_version}: {message}; {why}")


def accept(design: HardwareDesign, tool: str, check: Check, *, edits: Sequence[Edit] | None = None) -> Accepted:
    """`design` with the fewest edits with which `tool` takes it: none to begin with, then for refused files alone.

    `check` asks the tool. A file that is refused again gets the next edit for it, on top of the ones before; edits
    are found by the digest of the file in the `design` given. `edits` are EDITS unless told otherwise.

    Raises ToolGap, naming file, message and FINN release, where a refused file has no edit (left), and whatever
    `check` raises.
    """
    known = [edit for edit in (EDITS if edits is None else edits) if edit.tool == tool]
    edited, applied = design, list[Edit]()
    while refusals := check(edited):
        changes = {}
        for file, message in sorted(refusals.items()):
            if file not in design.files:
                raise DesignError(f"{tool} refuses {file}, which is no file of the design: {message}")
            digest = sha256(design.files[file])
            for_file = [edit for edit in known if edit.file == file]
            fitting = [edit for edit in for_file if edit.sha256 == digest and edit not in applied]
            if not fitting:
                raise _gap(tool, file, message, design, digest, for_file)
            changes[file] = fitting[0].apply(edited.files[file])
            applied.append(fitting[0])
        edited = edited.replace_files(changes)
    return Accepted(design=edited, edits=tuple(applied))


_ADD_MULTI_LOADS = """\
		typedef int unsigned  leaf_load_t[2*N-1];
		function leaf_load_t init_leaf_loads();
			automatic leaf_load_t  res;
			for(int unsigned  i = 2*N-1; i-- > N-1;)  res[i] = 1;
			for(int unsigned  i =   N-1; i-- >   0;)  res[i] = res[2*i+1] + res[2*i+2];
			return  res;
		endfunction : init_leaf_loads
"""
_ADD_MULTI_LEVELS = "	localparam int unsigned  L = $clog2(N);  // Number of levels with reductions\n"
_MVU_WATCHDOG = """\
	if(1) begin : blkRecoveryWatch
		logic  Dirty = 1;
		initial begin
			#100ns;
			Dirty <= 0;
		end

		always_ff @(posedge clk) begin
			assert(!Dirty || rst || !en || zero) else begin
				$warning("%m: Feeding input during DSP startup recovery. Expect functional errors.");
			end
		end
	end : blkRecoveryWatch
"""

_ADD_MULTI = "245c88f80677355afd487f9cb69d71b85c4873eceae5bb828b1dcac43ca71f94"
_FIFO = "88ad786a5885c7994c7e2d26e1ef2ffdf688310e941feaa0651332da49ec58c4"
_MVU = "4c6c11482fe3e8b569b6249469a302f9cb9bf89978d007ff1d0153511762b068"
_MVU_150 = "f76859aea15c36e4d4bef2a21669a70a9f644924699103e36e643e3fb490fdf3"
"""1.4.0 and 1.5.0: other checks of its parameters, the same watchdog."""
_FIFO_GAUGE_150 = "0ebca1c5bf3b06c873bcfba04cc17190760fd93b05d9164114c9bfe7e0d8c9fd"
_VPC = "b0b2b20405d897212723e77067d7507778d8be0ecbe29836259e3b95daef626b"
_THRESHOLDING = "706ca3232e5daab15374b9645f4a3696bd39787e6578f2905aa697f059f57772"


def _add_multi(tool: str) -> Edit:
    return Edit(
        tool=tool,
        file="rtllib/mvu/add_multi.sv",
        sha256=_ADD_MULTI,
        finn_versions=("1.6.1",),
        reason="a constant function has to be declared at module scope, not inside a generate block "
        "(IEEE 1800-2023, 13.4.3), which both tools insist on: the function and its type move up, unchanged",
        replacements=((_ADD_MULTI_LOADS, ""), (_ADD_MULTI_LEVELS, _ADD_MULTI_LOADS + _ADD_MULTI_LEVELS)),
    )


def _without_nettype(file: str, digest: str) -> Edit:
    return Edit(
        tool="yosys",
        file=file,
        sha256=digest,
        finn_versions=("1.6.1",),
        reason="slang refuses `default_nettype inside a module; it only forbids undeclared names, "
        "of which a tool that takes the original has found none",
        replacements=(("`default_nettype none", ""), ("`default_nettype wire", "")),
    )


def _without_watchdog(digest: str, release: str) -> Edit:
    return Edit(
        tool="yosys",
        file="rtllib/mvu/mvu.sv",
        sha256=digest,
        finn_versions=(release,),
        reason="the watchdog of the start-up recovery holds a delay (#100ns), which slang refuses in synthesis; "
        "it warns in simulation and drives nothing",
        replacements=((_MVU_WATCHDOG, ""),),
    )


EDITS: tuple[Edit, ...] = (
    _add_multi("verilator"),
    _add_multi("yosys"),
    Edit(
        tool="verilator",
        file="rtllib/fifo/hdl/fifo.sv",
        sha256=_FIFO,
        finn_versions=("1.6.1",),
        reason="Verilator cannot evaluate a constant function that returns an unpacked struct: "
        "the struct of two 32-bit numbers is packed, which changes no member",
        replacements=(
            (
                "	typedef struct {\n		int unsigned  lo;\n",
                "	typedef struct packed {\n		int unsigned  lo;\n",
            ),
        ),
    ),
    _without_nettype("rtllib/fifo/hdl/fifo.sv", _FIFO),
    _without_nettype("rtllib/dwc/hdl/vpc.sv", _VPC),
    _without_watchdog(_MVU, "1.6.1"),
    _without_watchdog(_MVU_150, "1.5.0"),
    Edit(
        tool="verilator",
        file="rtllib/fifo/hdl/fifo_gauge.sv",
        sha256=_FIFO_GAUGE_150,
        finn_versions=("1.5.0",),
        reason="Verilator takes no non-blocking assignment of an empty queue: it becomes a blocking one, as FINN "
        "itself has it from 1.6.0 on; it is made in reset, when nothing reads the queue",
        replacements=(("			Q        <= {};", "			Q         = {};"),),
    ),
    Edit(
        tool="yosys",
        file="rtllib/thresholding/hdl/thresholding.sv",
        sha256=_THRESHOLDING,
        finn_versions=("1.6.1",),
        reason="p.ptr[M-1:SN+1] is a reversed slice in stage 0, in a branch that is not taken there, and slang "
        "refuses it still; the edited slice has one bit in stage 0 and is the same one in every other stage",
        replacements=(("p.ptr[M-1:SN+1] < 2**stage", "p.ptr[M-1:SN+(stage != 0)] < 2**stage"),),
    ),
)
"""Every edit. Those for one tool and file are applied in this order."""
