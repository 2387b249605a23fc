"""Yosys' synthesis of single nodes: what it counts, what it refuses, and when two nodes are the same.

Small modules whose resources anyone can work out on paper, written as the 7 series' own cells work.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

from qnn import edits
from qnn.errors import DesignError, ToolFailed, ToolMissing, ToolTimeout
from qnn.hdl import TOP, HardwareDesign, HardwareNode, node_module, stitched_top
from qnn.resources import Resources, total
from qnn.tools import yosys

TIMEOUT_S = 120.0

STREAM_PORTS = """
    input ap_clk, input ap_rst_n,
    input [7:0] in0_V_tdata, input in0_V_tvalid, output in0_V_tready,
    output [7:0] out0_V_tdata, output out0_V_tvalid, input out0_V_tready
"""


def stream_node(name: str, body: str) -> tuple[HardwareNode, dict[str, str]]:
    """A node of 8-bit streams: `body` is what its module holds."""
    source = f"{name}/{name}.sv"
    node = HardwareNode(name=name, op_type="Test", module=name, sources=(source,), input_bits=8, output_bits=8)
    return node, {source: f"module {node.top} ({STREAM_PORTS});\n{body}\nendmodule\n"}


def chain(*bodies: str, names: tuple[str, ...] | None = None, data: Mapping[str, str] | None = None) -> HardwareDesign:
    """The design that joins one stream_node a body."""
    names = names or tuple(f"node_{index}" for index in range(len(bodies)))
    made = [stream_node(name, body) for name, body in zip(names, bodies, strict=True)]
    nodes = tuple(node for node, _ in made)
    files = {name: text for _, sources in made for name, text in sources.items()} | dict(data or {})
    return HardwareDesign(files={**files, f"{TOP}.sv": stitched_top(nodes)}, nodes=nodes, finn_version="none")


def synthesised(design: HardwareDesign, folder: Path, index: int = 0) -> yosys.NodeSynthesis:
    return yosys.synthesise(design, design.nodes[index], log=folder / "yosys.log", timeout_s=TIMEOUT_S)


THROUGH = "assign in0_V_tready = out0_V_tready; assign out0_V_tvalid = in0_V_tvalid;"
REGISTER = f"""{THROUGH}
reg [7:0] q; assign out0_V_tdata = q;
always @(posedge ap_clk) if (in0_V_tvalid) q <= in0_V_tdata;"""
SHIFT = f"""{THROUGH}
reg [31:0] s; assign out0_V_tdata = s[31];
always @(posedge ap_clk) s <= {{s[30:0], in0_V_tdata[0]}};"""
MULTIPLIER = f"""{THROUGH}
reg signed [15:0] p; reg signed [7:0] last; assign out0_V_tdata = p[15:8];
always @(posedge ap_clk) begin last <= in0_V_tdata; p <= last * $signed(in0_V_tdata); end"""
XOR = f"{THROUGH}\nassign out0_V_tdata = ^in0_V_tdata[5:0];"
ADDER = f"""{THROUGH}
reg [7:0] q; assign out0_V_tdata = q;
always @(posedge ap_clk) q <= q + in0_V_tdata;"""


def rom(file: str, words: int) -> str:
    """8-bit words read on the clock from `file`, at an address that is counted."""
    return f"""{THROUGH}
reg [7:0] m [{words}]; reg [{words.bit_length() - 2}:0] a; reg [7:0] q; assign out0_V_tdata = q;
initial $readmemh("{file}", m);
always @(posedge ap_clk) begin a <= a + 1; q <= m[a]; end"""


def ram(words: int) -> str:
    """A memory written and read on the clock, at addresses that are counted."""
    return f"""{THROUGH}
reg [7:0] m [{words}]; reg [{words.bit_length() - 2}:0] w, r; reg [7:0] q; assign out0_V_tdata = q;
always @(posedge ap_clk) begin
    if (in0_V_tvalid) begin m[w] <= in0_V_tdata; w <= w + 1; end
    if (out0_V_tready) begin q <= m[r]; r <= r + 1; end
end"""


# ------------------------------------------------------------------------------------------------------- what counts


def test_a_register_with_enable_is_its_flip_flops_and_nothing_else(tmp_path: Path) -> None:
    assert synthesised(chain(REGISTER), tmp_path).resources == Resources(ff=8)


def test_a_shift_register_32_deep_is_one_lut_of_a_slicem(tmp_path: Path) -> None:
    result = synthesised(chain(SHIFT), tmp_path)
    assert result.cells == {"SRLC32E": 1}
    assert result.resources == Resources(lut=1, lut_memory=1)


def test_a_multiplier_is_one_dsp(tmp_path: Path) -> None:
    resources = synthesised(chain(MULTIPLIER), tmp_path).resources
    assert resources.dsp == 1
    assert resources.lut == 0


def test_parity_of_six_bits_is_one_lut(tmp_path: Path) -> None:
    assert synthesised(chain(XOR), tmp_path).resources == Resources(lut=1)


def test_a_memory_of_2048_bytes_is_half_a_block_ram(tmp_path: Path) -> None:
    resources = synthesised(chain(ram(2048)), tmp_path).resources
    assert (resources.bram18, resources.bram36, resources.bram36_equivalent) == (1, 0, 0.5)
    assert resources.lut_memory == 0


def test_a_memory_of_32_bytes_is_distributed(tmp_path: Path) -> None:
    result = synthesised(chain(ram(32)), tmp_path)
    # A RAM32M holds 32 words of six bits beside its write port's.
    assert result.cells["RAM32M"] == 2
    assert (result.resources.bram36_equivalent, result.resources.lut_memory) == (0, 8)


def test_what_a_rom_holds_comes_from_its_file(tmp_path: Path) -> None:
    body = rom("node_0/rom.dat", 64)
    zeros = synthesised(chain(body, data={"node_0/rom.dat": "00\n" * 64}), tmp_path)
    varied = synthesised(
        chain(body, data={"node_0/rom.dat": "".join(f"{37 * i % 251:02x}\n" for i in range(64))}), tmp_path
    )
    assert zeros.resources == Resources()
    assert varied.resources.lut > 0


def test_the_run_says_what_it_cost(tmp_path: Path) -> None:
    result = synthesised(chain(REGISTER), tmp_path)
    assert 0 < sum(seconds for _, seconds in result.step_seconds) < result.seconds
    assert result.cpu_seconds > 0
    assert 10e6 < result.peak_memory_bytes < 2e9


def test_a_latch_is_refused_by_name(tmp_path: Path) -> None:
    latch = f"{THROUGH}\nreg [7:0] q; assign out0_V_tdata = q;\nalways_latch if (in0_V_tvalid) q = in0_V_tdata;"
    with pytest.raises(DesignError, match=r"LD[CP]E \(8\)"):
        synthesised(chain(latch), tmp_path)


def output_queue(memory: str = "") -> str:
    """A shift register that is read at a pointer, as at the output of FINN's Thresholding."""
    return f"""{THROUGH}
logic [7:0] stages [12]; logic [3:0] at; logic [7:0] q; assign out0_V_tdata = q;
always_ff @(posedge ap_clk) if (in0_V_tvalid) begin
    stages[0] <= in0_V_tdata;
    for (int unsigned i = 1; i < 12; i++) stages[i] <= stages[i-1];
end
always_ff @(posedge ap_clk) begin at <= at + in0_V_tdata[0]; q <= stages[at]; end
{memory}"""


def test_a_shift_register_read_at_a_pointer_is_a_lut_for_each_bit(tmp_path: Path) -> None:
    result = synthesised(chain(output_queue()), tmp_path)
    assert result.cells["SRL16E"] == result.resources.lut_memory == 8
    assert result.resources.ff == 8 + 4


def test_a_large_rom_beside_a_shift_register_is_a_block_ram(tmp_path: Path) -> None:
    body = output_queue(rom("node_0/rom.dat", 2048).split("\n", 1)[1].replace("assign out0_V_tdata = q;", ""))
    body = body.replace("reg [7:0] q;", "reg [7:0] r;").replace("q <= m[a]", "r <= m[a]").replace("[at]", "[at] ^ r")
    words = "".join(f"{37 * i % 251:02x}\n" for i in range(2048))
    result = synthesised(chain(body, data={"node_0/rom.dat": words}), tmp_path)
    assert result.resources.bram36_equivalent == 0.5
    assert result.cells["SRL16E"] == 8


def test_a_memory_beside_a_shift_register_stays_a_memory(tmp_path: Path) -> None:
    memory = """logic [7:0] m [2048]; logic [10:0] w; logic [7:0] r;
always_ff @(posedge ap_clk) begin w <= w + 1; r <= m[~w]; if (in0_V_tvalid) m[w] <= in0_V_tdata ^ r; end"""
    resources = synthesised(
        chain(output_queue(memory).replace("q <= stages[at]", "q <= stages[at] ^ r")), tmp_path
    ).resources
    assert resources.bram36_equivalent == 0.5


# ---------------------------------------------------------------------------------------------------- a whole design


def flat(design: HardwareDesign) -> HardwareDesign:
    """The same accelerator as one node, so that nothing is synthesised apart."""
    whole = HardwareNode(
        name="whole",
        op_type="Test",
        module="whole",
        sources=(*design.sources, "whole/node.sv"),
        input_bits=8,
        output_bits=8,
    )
    ports = re.findall(r"\b(ap_\w+|(?:in|out)0_V_\w+)", STREAM_PORTS)
    joined = ", ".join(f".{port}" for port in ports)
    text = f"module {whole.top} ({STREAM_PORTS});\n{TOP} top ({joined});\nendmodule\n"
    return HardwareDesign(files={**design.files, "whole/node.sv": text}, nodes=(whole,), finn_version="none")


@pytest.mark.parametrize(
    ("bodies", "saved_by_flat_synthesis"),
    [
        # Registers between the nodes' logic: nothing to share or to move.
        ((REGISTER, ADDER, MULTIPLIER), Resources()),
        # A parity's parity is itself, which shows only across the border.
        ((XOR, XOR), Resources(lut=1)),
    ],
)
def test_nodes_synthesised_apart_and_linked_take_exactly_their_sum(
    tmp_path: Path, bodies: tuple[str, ...], saved_by_flat_synthesis: Resources
) -> None:
    design = chain(*bodies)
    parts = {node.name: synthesised(design, tmp_path, index) for index, node in enumerate(design.nodes)}
    apart = total(part.resources for part in parts.values())
    linked = yosys.linked_netlist(design, {name: part.netlist for name, part in parts.items()})
    assert yosys.count_linked(linked, TOP, log=tmp_path / "link.log", timeout_s=TIMEOUT_S) == apart

    together = synthesised(flat(design), tmp_path).resources
    assert together + saved_by_flat_synthesis == apart


def test_linking_needs_every_node(tmp_path: Path) -> None:
    design = chain(REGISTER, XOR)
    with pytest.raises(DesignError, match="not synthesised: node_1"):
        yosys.linked_netlist(design, {"node_0": synthesised(design, tmp_path).netlist})


# ------------------------------------------------------------------------------------------------------ equal nodes


def keys(design: HardwareDesign) -> list[str]:
    return [yosys.node_key(design, node) for node in design.nodes]


def test_nodes_that_differ_in_their_number_alone_have_one_key_and_one_netlist(tmp_path: Path) -> None:
    design = chain(ADDER, ADDER, names=("fifo_1", "fifo_10"))
    first, second = keys(design)
    assert first == second
    results = [synthesised(design, tmp_path, index) for index in (0, 1)]
    assert results[0].netlist == results[1].netlist
    netlists = [yosys.netlist_of(node, result.netlist) for node, result in zip(design.nodes, results, strict=True)]
    assert ["module fifo_1_node(" in text for text in netlists] == [True, False]
    assert ["module fifo_10_node(" in text for text in netlists] == [False, True]


def test_a_key_does_not_depend_on_other_nodes() -> None:
    assert keys(chain(REGISTER, XOR))[0] == keys(chain(REGISTER, ADDER, SHIFT))[0]


def test_a_key_depends_on_sources_data_files_and_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    body = rom("node_0/rom.dat", 4)
    one = chain(body, data={"node_0/rom.dat": "01\n02\n03\n04\n"})
    made = [
        one,
        chain(body, data={"node_0/rom.dat": "01\n02\n03\n05\n"}),
        chain(body + " ", data={"node_0/rom.dat": "01\n02\n03\n04\n"}),
    ]
    found = [keys(design)[0] for design in made]
    monkeypatch.setattr(yosys, "version", lambda: "pyosys 99")
    found.append(keys(one)[0])
    assert len(set(found)) == len(found)


def test_the_order_of_sources_is_part_of_the_key() -> None:
    design = chain(REGISTER)
    node = dataclasses.replace(design.nodes[0], sources=("a.sv", *design.nodes[0].sources))
    files = {**design.files, "a.sv": "package p; endpackage\n"}
    turned = dataclasses.replace(node, sources=node.sources[::-1])
    orders = [HardwareDesign(files=files, nodes=(n,), finn_version="none") for n in (node, turned)]
    assert keys(orders[0]) != keys(orders[1])


def test_a_node_sees_no_file_of_another_node(tmp_path: Path) -> None:
    """So a key that leaves those files out is right."""
    design = chain(rom("node_1/rom.dat", 4), REGISTER, data={"node_1/rom.dat": "01\n02\n03\n04\n"})
    with pytest.raises(ToolFailed, match=r"failed to open file 'node_1/rom.dat'"):
        synthesised(design, tmp_path)


# ------------------------------------------------------------------------------------------- refusals and bad endings


def test_refusals_are_read_from_the_log() -> None:
    log = """
-- Running command `read_slang a.sv' --
rtllib/fifo/hdl/fifo.sv:56: ERROR: directive is not allowed inside a design element
`default_nettype none
^~~~~~~~~~~~~~~~
rtllib/mvu/mvu.sv:265: ERROR: parameter 'INIT' does not exist in 'LUT6_2' [-Wundefined-param-override]
a.sv:3: WARNING: unused
ERROR: unsynthesizable feature
ERROR: too many errors emitted, stopping now [--error-limit=]
ERROR: Design elaboration failed; see full log for details
"""
    assert yosys.parse_refusals(log) == (
        yosys.Refusal(file=None, line=None, message="unsynthesizable feature"),
        yosys.Refusal(
            file="rtllib/fifo/hdl/fifo.sv", line=56, message="directive is not allowed inside a design element"
        ),
        yosys.Refusal(
            file="rtllib/mvu/mvu.sv",
            line=265,
            message="parameter 'INIT' does not exist in 'LUT6_2' [-Wundefined-param-override]",
        ),
    )
    assert yosys.parse_refusals("all is well\n") == ()


def refused(design: HardwareDesign, folder: Path) -> dict[str, str]:
    return yosys.check(design, log=folder / "check.log", timeout_s=TIMEOUT_S)


def test_a_design_that_is_taken_has_no_refusals(tmp_path: Path) -> None:
    assert refused(chain(REGISTER, XOR), tmp_path) == {}


def test_each_refused_file_is_named_with_its_line(tmp_path: Path) -> None:
    design = chain(REGISTER, "assign nowhere_ = 1;", XOR + "\nbroken")
    found = refused(design, tmp_path)
    assert found.keys() == {"node_1/node_1.sv", "node_2/node_2.sv"} or found.keys() == {"node_2/node_2.sv"}
    assert re.match(r"line \d+: ", found["node_2/node_2.sv"])


REVERSED_SLICE = """
module inner #(parameter int M = 2, parameter int S = 2) (input ap_clk, input [7:0] a, output logic q);
    typedef struct packed { logic [1:0] op; logic [M-1:0] ptr; } p_t;
    uwire p_t p = a;
    always_ff @(posedge ap_clk) q <= (S == 2)? 1 : p.ptr[M-1:S] < 2;
endmodule
"""


def test_a_refusal_without_a_place_is_traced_to_its_file(tmp_path: Path) -> None:
    """Of a reversed slice, as in FINN's thresholding, slang says "unsynthesizable feature" and not where."""
    design = chain(REGISTER, THROUGH + "\nwrapper i (.ap_clk, .a(in0_V_tdata), .q(out0_V_tdata[0]));")
    wrapper = "module wrapper (input ap_clk, input [7:0] a, output q);\ninner i (.*);\nendmodule\n"
    node = dataclasses.replace(design.nodes[1], sources=("wrapper.sv", "inner.sv", *design.nodes[1].sources))
    design = HardwareDesign(
        files={**design.files, "wrapper.sv": wrapper, "inner.sv": REVERSED_SLICE},
        nodes=(design.nodes[0], node),
        finn_version="none",
    )
    found = refused(design, tmp_path)
    assert found.keys() == {"inner.sv"}
    assert found["inner.sv"].startswith("unsynthesizable feature")


def test_a_broken_source_fails_with_the_end_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match=r"unit/unit\.sv:\d+: ERROR"):
        synthesised(chain(REGISTER + "\nbroken"), tmp_path)


def test_a_run_that_hangs_is_ended(tmp_path: Path) -> None:
    design = chain(REGISTER)
    with pytest.raises(ToolTimeout, match=r"within 0\.05 s"):
        yosys.synthesise(design, design.nodes[0], log=tmp_path / "yosys.log", timeout_s=0.05)


def test_a_missing_yosys_says_how_to_mend_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yosys, "find_spec", lambda name: None)
    assert not yosys.available()
    for call in (yosys.version, lambda: synthesised(chain(REGISTER), tmp_path)):
        with pytest.raises(ToolMissing, match="pip install pyosys"):
            call()


def test_the_version_is_the_packages() -> None:
    assert yosys.available()
    assert re.fullmatch(r"pyosys \d+\.\d+.*", yosys.version())


def test_a_file_name_with_a_space_is_refused(tmp_path: Path) -> None:
    design = chain(REGISTER)
    node = dataclasses.replace(design.nodes[0], sources=("a b.sv",))
    spaced = HardwareDesign(files={**design.files, "a b.sv": ""}, nodes=(node,), finn_version="none")
    with pytest.raises(DesignError, match=r"'a b\.sv'"):
        synthesised(spaced, tmp_path)


# ------------------------------------------------------------------------------------------------------ pure parsers


def test_statistics_count_submodules_as_often_as_they_are_used() -> None:
    modules = {
        "\\top": {"num_cells_by_type": {"half": 2, "LUT2": 1}},
        "\\half": {"num_cells_by_type": {"LUT2": 3, "FDRE": 4}},
        "\\FDRE": {"num_cells_by_type": {"$dff": 1}},
    }
    assert yosys.parse_statistics(json.dumps({"modules": modules}), "top") == {"LUT2": 7, "FDRE": 8}


@pytest.mark.parametrize(
    ("text", "message"), [("no json", "no json"), ("{}", "{}"), ('{"modules": {}}', "no module top")]
)
def test_other_text_is_not_taken_for_statistics(text: str, message: str) -> None:
    with pytest.raises(ToolFailed, match=message):
        yosys.parse_statistics(text, "top")


def test_a_stub_keeps_ports_and_parameters_alone() -> None:
    library = """
(* keep *)
module A (output O, input I);
    parameter [3:0] INIT = 0;
    parameter MODE = "X";
    assign O = I;
endmodule
module AB (input I);
endmodule
"""
    modules = yosys.parse_modules(library)
    assert modules.keys() == {"A", "AB"}
    assert modules["A"].startswith("(* keep *)\nmodule A ")
    made = yosys.stub(modules["A"])
    assert "assign" not in made
    assert all(part in made for part in ("output O, input I);", "parameter [3:0] INIT = 0;", 'parameter MODE = "X";'))


# ------------------------------------------------------------------------------------------------- FINN's own modules


def finn_fifo(bits: int) -> HardwareDesign:
    """FINN's StreamingFIFO of depth 2, its file as FINN ships it."""
    spec = find_spec("finn")
    assert spec is not None
    assert spec.submodule_search_locations
    library = Path(spec.submodule_search_locations[0]) / "finn-rtllib"
    fifo = "rtllib/fifo/hdl/fifo.sv"
    node = HardwareNode(
        name="fifo_0",
        op_type="StreamingFIFO_rtl",
        module="fifo_0",
        sources=(fifo, "fifo_0/fifo_0.v", "fifo_0/node.sv"),
        input_bits=bits,
        output_bits=bits,
    )
    streams = {"in0": ("input", "output", "i"), "out0": ("output", "input", "o")}
    ports = ", ".join(
        f"{forth} [{bits - 1}:0] {name}_V_TDATA, {forth} {name}_V_TVALID, {back} {name}_V_TREADY"
        for name, (forth, back, _) in streams.items()
    )
    joined = ", ".join(
        f".{short}dat({name}_V_TDATA), .{short}vld({name}_V_TVALID), .{short}rdy({name}_V_TREADY)"
        for name, (_, _, short) in streams.items()
    )
    wrapper = (
        f"module fifo_0 (input ap_clk, input ap_rst_n, {ports});\n"
        f"fifo #(.DEPTH(2), .DATA_WIDTH({bits})) core (.clk(ap_clk), .rst(!ap_rst_n), {joined},\n"
        " .count(), .maxcount());\n"
        "endmodule\n"
    )
    return HardwareDesign(
        files={
            fifo: (library / fifo.removeprefix("rtllib/")).read_text(),
            "fifo_0/fifo_0.v": wrapper,
            "fifo_0/node.sv": node_module(node),
            f"{TOP}.sv": stitched_top((node,)),
        },
        nodes=(node,),
        finn_version="1.6.1",
    )


def test_finns_fifo_is_refused_unedited_and_taken_with_its_edit(tmp_path: Path) -> None:
    design = finn_fifo(8)
    assert refused(design, tmp_path).keys() == {"rtllib/fifo/hdl/fifo.sv"}
    accepted = edits.accept(design, "yosys", lambda candidate: refused(candidate, tmp_path))
    assert [edit.file for edit in accepted.edits] == ["rtllib/fifo/hdl/fifo.sv"]


@pytest.mark.parametrize("bits", [8, 24])
def test_finns_fifo_of_depth_2_takes_what_its_author_says(tmp_path: Path, bits: int) -> None:
    """A LUT for each bit of its four stages and an output register (fifo.sv, genSRL); a pointer and two flags."""
    design = edits.accept(finn_fifo(bits), "yosys", lambda candidate: refused(candidate, tmp_path)).design
    result = synthesised(design, tmp_path)
    assert result.cells["SRL16E"] == result.resources.lut_memory == bits
    assert result.resources.ff == bits + 5
    assert (result.resources.dsp, result.resources.bram36_equivalent) == (0, 0)


def proved(tmp_path: Path, files: Mapping[str, str], *commands: str) -> None:
    """Run Yosys commands in a folder that holds `files`; a proof that fails is a ToolFailed."""
    steps = [yosys._Step(command=command) for command in commands]
    yosys._run(steps, files, tmp_path, log=tmp_path / "proof.log", timeout_s=TIMEOUT_S)


MITER = "miter -equiv -flatten -make_outputs gold gate miter"


def test_the_netlist_of_finns_fifo_does_what_its_source_does(tmp_path: Path) -> None:
    """For every input of 12 cycles, of them two of reset; data is compared where it is valid.

    A bounded proof, 2 bits wide: four stages and the output register are filled and emptied.
    """
    design = edits.accept(finn_fifo(2), "yosys", lambda candidate: refused(candidate, tmp_path)).design
    node, result = design.nodes[0], synthesised(design, tmp_path)
    assert result.cells["SRL16E"] == 2
    models = yosys.parse_modules(yosys.cell_models())
    ports = STREAM_PORTS.replace("[7:0]", "[1:0]")
    names = re.findall(r"\b(ap_\w+|(?:in|out)0_V_\w+)", ports)
    joined = ", ".join(f".{name}({'data' if name == 'out0_V_tdata' else name})" for name in names)
    valid = "wire [1:0] data; assign out0_V_tdata = out0_V_tvalid ? data : 2'd0;"
    files = {
        **design.files,
        "cells.v": "\n".join(["`timescale 1ps/1ps", *(models[name] for name in result.cells)]),
        "netlist.v": yosys.netlist_of(node, result.netlist),
        "valid.v": f"module valid ({ports});\n{valid}\n{node.top} node ({joined});\nendmodule\n",
    }
    flat = ["read_verilog -sv valid.v", "hierarchy -check -top valid", "proc", "flatten", "memory", "opt -fast"]
    source = f"read_slang --ignore-assertions --top {node.top} {' '.join(node.sources)}"
    commands = [
        *(source, *flat, "rename valid gold", "design -stash gold"),
        *("read_verilog cells.v", "read_verilog netlist.v", *flat, "rename valid gate", "design -stash gate"),
        *("design -copy-from gold gold", "design -copy-from gate gate", MITER),
        "sat -verify -seq 12 -set-init-zero -set-at 1 in_ap_rst_n 0 -set-at 2 in_ap_rst_n 0 -prove trigger 0 miter",
    ]
    proved(tmp_path, files, *commands)

    # The proof can fail: with shift registers that ignore an address bit it does.
    wrong = {**files, "netlist.v": re.sub(r"\.A0\(.*?\)", ".A0(1'h0)", files["netlist.v"])}
    assert wrong != files
    with pytest.raises(ToolFailed, match="proof did fail"):
        proved(tmp_path, wrong, *commands)


@pytest.mark.parametrize("words", [3, 4, 5, 16])
def test_the_map_of_shift_registers_changes_no_function(tmp_path: Path, words: int) -> None:
    index = (words - 1).bit_length()
    body = f"module gold (input [3:0] a [{words}], input [{index - 1}:0] s, output [3:0] y); assign y = a[s]; endmodule"
    map_file = tmp_path / "map.v"
    map_file.write_text(yosys.SHIFT_REGISTER_MAP)
    copy = ["read_slang gold.sv", "select -assert-any t:$bmux", "copy gold gate", "techmap -map map.v gate"]
    proved(
        tmp_path,
        {"gold.sv": body},
        *copy,
        "select -assert-none gate/t:$bmux",
        MITER,
        "sat -verify -prove trigger 0 miter",
    )
