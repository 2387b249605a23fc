"""Edits are applied where a tool refuses a file and nowhere else, and none changes what FINN's module does.

An edit for Yosys is proved in Verilator: the C++ that Verilator generates from the original and from the edited
module is the same, character by character. An edit for Verilator is proved in Yosys: slang elaborates both modules to
the same netlist. Both hold for every input and for all time, for each set of parameters that is tried. Where a tool
refuses the original for a second reason as well, that edit is applied to both sides; add_multi, which both tools
refuse, is compared with the original in which the value of the constant function is written in by hand.
"""

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from qnn import process
from qnn.edits import EDITS, Edit, accept, sha256
from qnn.errors import DesignError, ToolGap
from qnn.hdl import TOP, HardwareDesign, HardwareNode, stitched_top
from qnn.tools import verilator, yosys

Files = Mapping[str, str]
Parameters = Mapping[str, int]

PKG, ADD_MULTI, MVU = "rtllib/mvu/mvu_pkg.sv", "rtllib/mvu/add_multi.sv", "rtllib/mvu/mvu.sv"
FIFO, THRESHOLDING = "rtllib/fifo/hdl/fifo.sv", "rtllib/thresholding/hdl/thresholding.sv"
VPC = "rtllib/dwc/hdl/vpc.sv"


def finn_file(name: str) -> str:
    """A file of the installed finn-rtllib, as FINN ships it."""
    specification = find_spec("finn")
    assert specification is not None
    assert specification.submodule_search_locations
    package = Path(next(iter(specification.submodule_search_locations)))
    return (package / "finn-rtllib" / name.removeprefix("rtllib/")).read_text()


def edit_for(tool: str, file: str) -> Edit:
    digest = sha256(finn_file(file))
    (edit,) = [edit for edit in EDITS if (edit.tool, edit.file, edit.sha256) == (tool, file, digest)]
    return edit


def edited(file: str, *tools: str) -> str:
    """FINN's file with the edits of these tools."""
    text = finn_file(file)
    for tool in tools:
        text = edit_for(tool, file).apply(text)
    return text


# ------------------------------------------------------------------------------------------------ the two comparisons


def verilated(sources: Files, top: str, parameters: Parameters, folder: Path) -> dict[str, str]:
    """The C++ that Verilator makes of `top`: {file name: text}."""
    folder.mkdir(parents=True)
    for name, text in sources.items():
        (folder / Path(name).name).write_text(text)
    verilator.run_verilator(
        [
            *("--cc", "--no-timing", "--no-assert", "-Wno-fatal", "-Wno-lint", "-Wno-style", "--prefix", "Vtop"),
            *("--top-module", top, "--Mdir", "generated", *(f"-G{key}={value}" for key, value in parameters.items())),
            *(Path(name).name for name in sources),
        ],
        cwd=folder,
        log=folder / "log",
        timeout_s=60,
    )
    return {path.name: path.read_text() for path in (folder / "generated").iterdir() if path.suffix in (".cpp", ".h")}


def same_in_verilator(one: Files, other: Files, top: str, sets: Sequence[Parameters], folder: Path) -> list[bool]:
    """For each set of parameters whether both make the same C++."""
    return [
        verilated(one, top, parameters, folder / f"one{k}") == verilated(other, top, parameters, folder / f"other{k}")
        for k, parameters in enumerate(sets)
    ]


_YOSYS = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for command in open(sys.argv[1]):
    libyosys.run_pass(command.strip(), design)
"""


def elaborated(sources: Sequence[Files], top: str, sets: Sequence[Parameters], folder: Path) -> list[str]:
    """Yosys' netlist of `top` for each set of parameters, without remarks on where things stand in the sources.

    `sources` has one entry for each set. One process does them all.
    """
    folder.mkdir(parents=True)
    commands = []
    for k, (files, parameters) in enumerate(zip(sources, sets, strict=True)):
        names = [f"{k}_{Path(name).name}" for name in files]
        for name, text in zip(names, files.values(), strict=True):
            (folder / name).write_text(text)
        generics = " ".join(f"-G{key}={value}" for key, value in parameters.items())
        commands += [
            "design -reset",
            f"read_slang --ignore-assertions --allow-use-before-declare --top {top} {generics} {' '.join(names)}",
            *("hierarchy -check", "proc", "flatten", "opt -full", "setattr -unset src", "setattr -mod -unset src"),
            f"write_rtlil {k}.il",
        ]
    (folder / "script.ys").write_text("\n".join(commands))
    argv = [sys.executable, "-c", _YOSYS, "script.ys"]
    process.run(argv, timeout_s=120, log=folder / "log", cwd=folder)
    return [(folder / f"{k}.il").read_text() for k in range(len(sets))]


def same_in_yosys(
    one: Sequence[Files], other: Sequence[Files], top: str, sets: Sequence[Parameters], folder: Path
) -> list[bool]:
    """For each set of parameters whether both elaborate to the same netlist."""
    pairs = zip(elaborated(one, top, sets, folder / "one"), elaborated(other, top, sets, folder / "other"), strict=True)
    return [left == right for left, right in pairs]


# --------------------------------------------------------------------------------------------------------- the proofs

FIFO_DEPTHS = [2, 4, 5, 33, 34, 64, 65, 257, 258, 511, 512, 513, 514, 515, 700, 768, 769, 770, 1024, 1025, 1026, 1027]
FIFO_DEPTHS += [1281, 1282, 2028, 2029, 2049, 4112, 4113, 4114, 6000, 8208, 8209, 8210]
FIFO_SETS = [{"DEPTH": depth, "DATA_WIDTH": width} for depth in FIFO_DEPTHS for width in (3, 12)]
"""Shift registers to 33, distributed memory to 257, block RAM to 2028 in one or two parts, then UltraRAM; at 16 more
than a power of two and around the boundaries of the split."""

VPC_SETS = [
    {"W": width, "N": n, "PI": wide, "PO": narrow}
    for width, n, wide, narrow in [
        *((1, 288, 48, 6), (1, 288, 6, 48), (1, 216, 24, 9), (1, 216, 9, 24), (1, 64, 8, 8)),
        *((3, 4, 4, 1), (3, 4, 1, 4), (2, 10, 4, 3)),
    ]
]
"""Wide to narrow, narrow to wide, neither a multiple of the other, equal; vectors that fit one beat, and a last beat
that is not full."""

_MVU_NAMES = ("PE", "SIMD", "WEIGHT_WIDTH", "ACTIVATION_WIDTH", "ACCU_WIDTH", "SIGNED_ACTIVATIONS", "NARROW_WEIGHTS")
_MVU_VALUES = [
    *((8, 8, 3, 8, 18, 1, 1), (8, 8, 3, 3, 9, 1, 1), (5, 8, 3, 3, 9, 1, 1)),
    *((2, 2, 2, 2, 8, 0, 0), (1, 1, 8, 8, 24, 0, 1), (3, 5, 4, 4, 16, 1, 0)),
]
MVU_SETS = [dict(zip(_MVU_NAMES, values, strict=True)) for values in _MVU_VALUES]

THRESHOLDING_SETS = [
    {"K": bits, "N": steps, "C": channels, "PE": pe, "SIGNED": signed, "SETS": sets, "USE_CONFIG": config}
    for bits, steps, channels, pe, signed, sets, config in [
        *((9, steps, 4, 2, 1, 1, 1) for steps in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 63, 255)),
        *((18, 7, 64, 8, 1, 1, 0), (8, 255, 1, 1, 0, 1, 1), (8, 6, 3, 3, 0, 1, 0), (8, 5, 6, 2, 1, 3, 1)),
    ]
]

ADD_MULTI_SETS: list[dict[str, int]] = [
    {"N": n, "DEPTH": depth, "ARG_WIDTH": 2, "ARG_LO": low, "ARG_HI": -low, "RESET_ZERO": -low}
    for n in (1, 2, 3, 4, 5, 7, 8, 9, 16)
    for depth in (0, 1, 2, 3, 5)
    for low in (0, -1)
]


def leaf_loads(n: int) -> list[int]:
    """Leaves below each node of a binary tree with `n` leaves, root first: what the constant function counts."""
    return [1 if node >= n - 1 else sum(leaf_loads_below(n, node)) for node in range(2 * n - 1)]


def leaf_loads_below(n: int, node: int) -> list[int]:
    return [1 if child >= n - 1 else sum(leaf_loads_below(n, child)) for child in (2 * node + 1, 2 * node + 2)]


def with_written_value(text: str, n: int) -> str:
    """add_multi with the call of its constant function replaced by the value."""
    call, value = "= init_leaf_loads();", f"= '{{{', '.join(map(str, leaf_loads(n)))}}};"
    assert text.count(call) == 1
    return text.replace(call, value)


def test_verilators_and_yosys_add_multi_is_the_original_with_the_functions_value_written_in(tmp_path: Path) -> None:
    for tool in ("verilator", "yosys"):
        assert Counter(edited(ADD_MULTI, tool).splitlines()) == Counter(finn_file(ADD_MULTI).splitlines())
    original = [
        {PKG: finn_file(PKG), ADD_MULTI: with_written_value(finn_file(ADD_MULTI), s["N"])} for s in ADD_MULTI_SETS
    ]
    changed = [{PKG: finn_file(PKG), ADD_MULTI: edited(ADD_MULTI, "yosys")}] * len(ADD_MULTI_SETS)
    assert edited(ADD_MULTI, "verilator") == edited(ADD_MULTI, "yosys")
    assert all(same_in_yosys(original, changed, "add_multi", ADD_MULTI_SETS, tmp_path / "right"))
    wrong_text = edited(ADD_MULTI, "yosys").replace("res[i] = 1;", "res[i] = 2;")
    wrong = [{PKG: finn_file(PKG), ADD_MULTI: wrong_text}] * len(ADD_MULTI_SETS)
    same = same_in_yosys(original, wrong, "add_multi", ADD_MULTI_SETS, tmp_path / "wrong")
    assert [parameters["N"] for parameters, equal in zip(ADD_MULTI_SETS, same, strict=True) if equal] == [1] * 10


def test_verilators_fifo_is_the_original(tmp_path: Path) -> None:
    original = [{FIFO: edited(FIFO, "yosys")}] * len(FIFO_SETS)
    changed = [{FIFO: edited(FIFO, "yosys", "verilator")}] * len(FIFO_SETS)
    assert all(same_in_yosys(original, changed, "fifo", FIFO_SETS, tmp_path / "right"))
    wrong_text = edited(FIFO, "yosys", "verilator").replace("\t\tint unsigned  hi;", "\t\tbit [2:0]  hi;")
    wrong = [{FIFO: wrong_text}] * len(FIFO_SETS)
    same = same_in_yosys(original, wrong, "fifo", FIFO_SETS, tmp_path / "wrong")
    different = {parameters["DEPTH"] for parameters, equal in zip(FIFO_SETS, same, strict=True) if not equal}
    assert {700, 768, 769, 1281} <= different
    assert not {2, 512, 513, 514, 515} & different


def test_yosys_fifo_is_the_original(tmp_path: Path) -> None:
    sets = FIFO_SETS[::5]
    original = {FIFO: edited(FIFO, "verilator")}
    assert all(same_in_verilator(original, {FIFO: edited(FIFO, "verilator", "yosys")}, "fifo", sets, tmp_path / "r"))
    wrong = {FIFO: edited(FIFO, "verilator", "yosys").replace("DEPTH <= 33?", "DEPTH <= 34?", 1)}
    same = same_in_verilator(original, wrong, "fifo", [{"DEPTH": 34, "DATA_WIDTH": 12}], tmp_path / "w")
    assert same == [False]


def test_yosys_width_converter_is_the_original(tmp_path: Path) -> None:
    original, changed = {VPC: finn_file(VPC)}, {VPC: edited(VPC, "yosys")}
    assert all(same_in_verilator(original, changed, "vpc", VPC_SETS, tmp_path / "right"))
    wrong = {VPC: changed[VPC].replace("NO_OTR_OFS = (PI0 >= 2)", "NO_OTR_OFS = (PI0 >= 4)")}
    same = same_in_verilator(original, wrong, "vpc", VPC_SETS, tmp_path / "wrong")
    assert [(s["PI"], s["PO"]) for s, equal in zip(VPC_SETS, same, strict=True) if not equal] == [(9, 24)]


def test_yosys_mvu_is_the_original_since_the_watchdog_drives_nothing(tmp_path: Path) -> None:
    others = {PKG: finn_file(PKG), ADD_MULTI: edited(ADD_MULTI, "verilator")}
    original, changed = {**others, MVU: finn_file(MVU)}, {**others, MVU: edited(MVU, "yosys")}
    assert all(same_in_verilator(original, changed, "mvu", MVU_SETS, tmp_path / "right"))
    wrong = {**others, MVU: edited(MVU, "yosys").replace("M2 + (L[3]? 0 : P3)", "M2 + (L[2]? 0 : P3)")}
    assert same_in_verilator(original, wrong, "mvu", MVU_SETS[:2], tmp_path / "wrong") == [False, False]


def test_yosys_thresholding_is_the_original(tmp_path: Path) -> None:
    original, changed = {THRESHOLDING: finn_file(THRESHOLDING)}, {THRESHOLDING: edited(THRESHOLDING, "yosys")}
    assert all(same_in_verilator(original, changed, "thresholding", THRESHOLDING_SETS, tmp_path / "right"))
    wrong = {THRESHOLDING: changed[THRESHOLDING].replace("SN+(stage != 0)", "SN+(stage > 1)")}
    same = same_in_verilator(original, wrong, "thresholding", THRESHOLDING_SETS, tmp_path / "wrong")
    # Only stages after the first, with steps left out of the binary search, compare the slice at all.
    different = {parameters["N"] for parameters, equal in zip(THRESHOLDING_SETS, same, strict=True) if not equal}
    assert different
    assert not {1, 3, 7, 15, 63, 255} & different


# ----------------------------------------------------------------------------------------- the tools and FINN's files

_PORTS = """(input ap_clk, input ap_rst_n, input [7:0] in0_V_tdata, input in0_V_tvalid, output in0_V_tready,
    output [7:0] out0_V_tdata, output out0_V_tvalid, input out0_V_tready);
"""
_NODES = {
    "queue": (
        (FIFO,),
        """    fifo #(.DEPTH(64), .DATA_WIDTH(8)) fifo (.clk(ap_clk), .rst(!ap_rst_n), .count(), .maxcount(),
        .idat(in0_V_tdata), .ivld(in0_V_tvalid), .irdy(in0_V_tready),
        .odat(out0_V_tdata), .ovld(out0_V_tvalid), .ordy(out0_V_tready));
""",
    ),
    "converter": (
        (VPC,),
        """    vpc #(.W(1), .N(24), .PI(8), .PO(8)) core (.clk(ap_clk), .rst(!ap_rst_n),
        .idat(in0_V_tdata), .ivld(in0_V_tvalid), .irdy(in0_V_tready),
        .odat(out0_V_tdata), .ovld(out0_V_tvalid), .ordy(out0_V_tready));
""",
    ),
    "activation": (
        (THRESHOLDING,),
        """    assign out0_V_tdata[7:3] = 0;
    thresholding #(.K(8), .N(6), .C(1), .PE(1)) core (.clk(ap_clk), .rst(!ap_rst_n), .cfg_en(1'b0), .cfg_we(1'b0),
        .cfg_a(3'd0), .cfg_d(8'd0), .cfg_rack(), .cfg_q(), .iset(1'b0),
        .idat(in0_V_tdata), .ivld(in0_V_tvalid), .irdy(in0_V_tready),
        .odat(out0_V_tdata[2:0]), .ovld(out0_V_tvalid), .ordy(out0_V_tready));
""",
    ),
    "product": (
        (PKG, MVU, ADD_MULTI),
        """    assign in0_V_tready = 1;
    mvu #(.PE(1), .SIMD(2), .WEIGHT_WIDTH(2), .ACTIVATION_WIDTH(2), .ACCU_WIDTH(8)) core (.clk(ap_clk),
        .rst(!ap_rst_n), .en(1'b1), .last(1'b1), .zero(!in0_V_tvalid), .w(in0_V_tdata[7:4]), .a(in0_V_tdata[3:0]),
        .vld(out0_V_tvalid), .p(out0_V_tdata));
""",
    ),
}


@pytest.fixture(scope="module")
def design() -> HardwareDesign:
    """A chain that uses every file with an edit, as FINN ships it."""
    files: dict[str, str] = {}
    nodes = []
    for name, (sources, body) in _NODES.items():
        files |= {source: finn_file(source) for source in sources}
        own = f"{name}/node.sv"
        node = HardwareNode(
            name=name, op_type="Test", module=name, sources=(*sources, own), input_bits=8, output_bits=8
        )
        files[own] = f"module {node.top} {_PORTS}{body}endmodule\n"
        nodes.append(node)
    files[f"{TOP}.sv"] = stitched_top(tuple(nodes))
    return HardwareDesign(files=files, nodes=tuple(nodes), finn_version="1.6.1")


def test_verilator_takes_finns_files_with_exactly_the_edits_it_needs(design: HardwareDesign) -> None:
    assert verilator.check(design).keys() == {FIFO, ADD_MULTI}
    accepted = accept(design, "verilator", verilator.check)
    assert {edit.file for edit in accepted.edits} == {FIFO, ADD_MULTI}
    assert verilator.check(accepted.design) == {}
    same = {name for name, text in design.files.items() if accepted.design.files[name] == text}
    assert design.files.keys() - same == {FIFO, ADD_MULTI}


def test_yosys_takes_finns_files_with_exactly_the_edits_it_needs(design: HardwareDesign, tmp_path: Path) -> None:
    accepted = accept(design, "yosys", lambda d: yosys.check(d, log=tmp_path / "log", timeout_s=60))
    assert {edit.file for edit in accepted.edits} == {FIFO, VPC, ADD_MULTI, MVU, THRESHOLDING}


def test_a_changed_file_that_verilator_refuses_is_a_gap(design: HardwareDesign) -> None:
    changed = design.replace_files({ADD_MULTI: design.files[ADD_MULTI] + "// FINN 9.9\n"})
    with pytest.raises(ToolGap, match=r"verilator refuses rtllib/mvu/add_multi\.sv of finn-plus 1\.6\.1: line \d+: .*"):
        accept(changed, "verilator", verilator.check)


CURRENT = [edit for edit in EDITS if version("finn-plus") in edit.finn_versions]


@pytest.mark.parametrize("edit", CURRENT, ids=lambda edit: f"{edit.tool}-{Path(edit.file).stem}")
def test_edits_are_made_for_the_installed_files(edit: Edit) -> None:
    assert sha256(finn_file(edit.file)) == edit.sha256
    assert edit.apply(finn_file(edit.file)) != finn_file(edit.file)


# ------------------------------------------------------------------------------------------ which edits are applied


def small_design(**files: str) -> HardwareDesign:
    named = {f"{name}.sv": text for name, text in files.items()}
    node = HardwareNode(name="n", op_type="T", module="n", sources=tuple(named), input_bits=8, output_bits=8)
    return HardwareDesign(files=named, nodes=(node,), finn_version="7.8.9")


def small_edit(file: str, original: str, old: str, new: str) -> Edit:
    return Edit(
        tool="verilator",
        file=f"{file}.sv",
        sha256=sha256(original),
        finn_versions=("7.8.8",),
        reason=f"{old} is not taken",
        replacements=((old, new),),
    )


class Tool:
    """Refuses every file that holds one of the words, and remembers what it was given."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self.given: list[HardwareDesign] = []

    def __call__(self, design: HardwareDesign) -> dict[str, str]:
        self.given.append(design)
        return {
            file: f"line 1: {word}"
            for file, text in design.files.items()
            for word in self.words
            if re.search(rf"\b{word}\b", text)
        }


def test_a_design_that_is_taken_stays_unedited() -> None:
    design, tool = small_design(a="good", b="bad"), Tool()
    accepted = accept(design, "verilator", tool, edits=[small_edit("b", "bad", "bad", "good")])
    assert accepted.design is design
    assert accepted.edits == ()
    assert tool.given == [design]


def test_only_refused_files_are_edited_and_the_unedited_design_comes_first() -> None:
    design, tool = small_design(a="odd", b="bad"), Tool("bad")
    edits = [small_edit("a", "odd", "odd", "even"), small_edit("b", "bad", "bad", "good")]
    accepted = accept(design, "verilator", tool, edits=edits)
    assert dict(accepted.design.files) == {"a.sv": "odd", "b.sv": "good"}
    assert accepted.edits == (edits[1],)
    assert tool.given[0] is design


def test_a_file_that_is_refused_again_gets_its_next_edit_on_top() -> None:
    text = "bad worse"
    edits = [small_edit("a", text, "bad", "good"), small_edit("a", text, "worse", "better")]
    accepted = accept(small_design(a=text), "verilator", Tool("bad", "worse"), edits=edits)
    assert accepted.design.files["a.sv"] == "good better"
    assert accepted.edits == tuple(edits)


def test_another_tools_edit_is_not_applied() -> None:
    with pytest.raises(ToolGap, match="there is no edit for it"):
        accept(small_design(a="bad"), "yosys", Tool("bad"), edits=[small_edit("a", "bad", "bad", "good")])


def test_a_gap_names_tool_file_release_and_message() -> None:
    with pytest.raises(ToolGap, match=r"verilator refuses a\.sv of finn-plus 7\.8\.9: line 1: bad; there is no edit"):
        accept(small_design(a="bad"), "verilator", Tool("bad"), edits=[])


def test_a_file_that_changed_is_a_gap_that_says_so() -> None:
    edits = [small_edit("a", "bad as it was", "bad", "good")]
    with pytest.raises(ToolGap, match=r"the file changed since its edit was proved \(on finn-plus 7\.8\.8\)"):
        accept(small_design(a="bad as it is"), "verilator", Tool("bad"), edits=edits)


def test_an_edit_that_does_not_help_is_a_gap() -> None:
    with pytest.raises(ToolGap, match=r"the known edit is already applied \(bad is not taken\)"):
        accept(small_design(a="bad"), "verilator", Tool("bad"), edits=[small_edit("a", "bad", "bad", "bad still")])


def test_a_refusal_of_no_file_of_the_design_is_an_error() -> None:
    with pytest.raises(DesignError, match=r"elsewhere\.sv, which is no file of the design"):
        accept(small_design(a="bad"), "verilator", lambda _: {"elsewhere.sv": "line 1: no"})


@pytest.mark.parametrize(("text", "count"), [("good", 0), ("bad bad", 2)])
def test_an_old_text_has_to_be_there_exactly_once(text: str, count: int) -> None:
    with pytest.raises(DesignError, match=f"finds it {count} times"):
        small_edit("a", text, "bad", "good").apply(text)
