"""Static timing: what is read from Yosys' report, and paths whose length anyone can add up from cells_sim.v."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from qnn.errors import DesignError, ToolFailed
from qnn.hdl import TOP, HardwareDesign, HardwareNode, stitched_top
from qnn.tools import timing, yosys
from qnn.tools.timing import Timing, parse

TIMEOUT_S = 120.0

# Yosys 0.70 on A2W2 PE2-SIMD2 with the library's own delays; the histogram is shortened.
REPORT = r"""
5. Executing STA pass (static timing analysis).
Warning: Cell type '$scopeinfo' not recognised! Ignoring.
Warning: Module 'LUT6_2' has no timing arcs!
Warning: Module 'RAM64X1S' has no timing arcs!
Warning: Module 'RAM64X1S' has no timing arcs!
Latest arrival time in 'finn_design' is 2778:
    2778 MVAU_rtl_0.node.inst.blkDsp.genSoftVec.core.genPipes[0].genSIMD[1].genDSP.genblk1.dsp (DSP48E1.B)
           \MVAU_rtl_0.node.inst.activation_replay.genblk4.ODat [8]
    2454 MVAU_rtl_0.node.inst.activation_replay.genblk4.Mem.0.0 (RAMB18E1.CLKBWRCLK->DOPBDOP)
       0   \ap_clk (<primary input>)

Arrival histogram:
 legend: * represents 11 endpoint(s)
         + represents [1,11) endpoint(s)
(  2793,   2662] |**+
(   304,    173] |************************************************************ 
"""  # noqa: W291
# The same of a module that is wires and one LUT.
FROM_PORT_TO_PORT = r"""
3. Executing STA pass (static timing analysis).
Latest arrival time in 'finn_design' is 642:
     642 (<primary output>)
           \out0_V_tvalid
     642 node_0.$abc$123$lut$y[0] (LUT6.I0->O)
       0   \in0_V_tdata [3] (<primary input>)
"""


def test_the_path_is_read_from_its_start_to_its_end() -> None:
    stages, untimed = parse(REPORT)
    memory, product = stages
    assert memory.cell == "MVAU_rtl_0.node.inst.activation_replay.genblk4.Mem.0.0"
    assert (memory.arrival_ps, memory.kind, memory.pins) == (2454, "RAMB18E1", "CLKBWRCLK->DOPBDOP")
    assert re.fullmatch(r"MVAU_rtl_0\.node\.inst\.blkDsp.*\.dsp", product.cell)
    assert (product.arrival_ps, product.kind, product.pins) == (2778, "DSP48E1", "B")
    assert untimed == {"$scopeinfo", "LUT6_2", "RAM64X1S"}


def test_a_path_may_begin_and_end_at_ports() -> None:
    stages, untimed = parse(FROM_PORT_TO_PORT)
    assert [(stage.arrival_ps, stage.kind) for stage in stages] == [(0, None), (642, "LUT6"), (642, None)]
    assert (stages[0].cell, stages[-1].cell) == ("in0_V_tdata [3]", "out0_V_tvalid")
    assert not untimed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n5. Executing STA pass.\nNo timing paths found.\n", "found no path"),
        ("", "found no path"),
        (REPORT.replace("    2778 MVAU", "    2777 MVAU"), "cannot be read"),
        (REPORT.partition("    2778 MVAU")[0], "cannot be read"),
    ],
)
def test_a_report_without_a_whole_path_is_refused(text: str, message: str) -> None:
    with pytest.raises(ToolFailed, match=message):
        parse(text)


def test_a_timing_names_its_nodes_and_survives_being_written() -> None:
    stages, _ = parse(REPORT)
    found = Timing(stages=stages, untimed={"LUT6_2": 3})
    assert found.longest_path_ps == 2778
    assert found.nodes(["MVAU_rtl", "MVAU_rtl_0", "MVAU_rtl_1"]) == ("MVAU_rtl_0",)
    assert Timing.from_json(found.to_json()) == found


# ------------------------------------------------------------------------------------------ paths that can be added up

CLOCK_TO_Q, LUT6_I0, LUT6_I5, RAM64_A0 = 303, 642, 127, 642
"""Picoseconds in cells_sim.v; a flip-flop's D needs no time before the edge there."""

PORTS = """
    input ap_clk, input ap_rst_n,
    input [7:0] in0_V_tdata, input in0_V_tvalid, output in0_V_tready,
    output [7:0] out0_V_tdata, output out0_V_tvalid, input out0_V_tready
"""
SENDER = """
  FDRE sender ( .C(ap_clk), .CE(1'h1), .R(1'h0), .D(in0_V_tdata[0]), .Q(out0_V_tdata[0]) );
"""


def receiver(cell: str) -> str:
    return f"  wire y;\n  {cell}\n  FDRE receiver ( .C(ap_clk), .CE(1'h1), .R(1'h0), .D(y), .Q(out0_V_tdata[0]) );\n"


def analysed(folder: Path, *bodies: str) -> Timing:
    """Nodes a, b, ... of these netlists in a row."""
    nodes = tuple(
        HardwareNode(name=name, op_type="Test", module=name, sources=(), input_bits=8, output_bits=8)
        for name, _ in zip("abc", bodies, strict=False)
    )
    netlists: Mapping[str, str] = {
        node.name: f"module {yosys.NETLIST_MODULE} ({PORTS});\n{body}\nendmodule\n"
        for node, body in zip(nodes, bodies, strict=True)
    }
    design = HardwareDesign(files={f"{TOP}.sv": stitched_top(nodes)}, nodes=nodes, finn_version="none")
    return timing.analyse(design, netlists, log=folder / "yosys.log", timeout_s=TIMEOUT_S)


@pytest.mark.parametrize(
    ("cell", "delay_ps"),
    [
        ("LUT6 #(.INIT(64'h1)) lut ( .I0(in0_V_tdata[0]), .I1(1'h0), .I5(1'h0), .O(y) );", LUT6_I0),
        ("LUT6 #(.INIT(64'h1)) lut ( .I0(1'h0), .I1(1'h0), .I5(in0_V_tdata[0]), .O(y) );", LUT6_I5),
        # Delays of the same silicon, which the library leaves out.
        ("LUT6_2 #(.INIT(64'h1)) lut ( .I0(in0_V_tdata[0]), .I5(1'h0), .O5(y) );", LUT6_I0),
        ("LUT6_2 #(.INIT(64'h1)) lut ( .I0(1'h0), .I5(in0_V_tdata[0]), .O6(y) );", LUT6_I5),
        ("RAM64X1S #(.INIT(64'h1)) ram ( .A0(in0_V_tdata[0]), .WCLK(ap_clk), .WE(1'h0), .D(1'h0), .O(y) );", RAM64_A0),
    ],
)
def test_a_path_between_two_nodes_is_the_sum_of_its_cells(tmp_path: Path, cell: str, delay_ps: int) -> None:
    found = analysed(tmp_path, SENDER, receiver(cell))
    if cell.startswith("RAM"):  # written at the clock, too: its output changes later than its address arrives
        assert found.longest_path_ps == 1153
    else:
        assert found.longest_path_ps == CLOCK_TO_Q + delay_ps
        assert found.nodes("ab") == ("a", "b")
        assert [stage.cell for stage in found.stages] == ["a.sender", "b.lut", "b.receiver"]
    assert not found.untimed


def test_cells_without_delays_are_counted_by_type(tmp_path: Path) -> None:
    rams = "".join(
        f"RAM256X1S ram_{k} ( .A({{8{{in0_V_tdata[0]}}}}), .WCLK(ap_clk), .WE(1'h0), .D(1'h0), .O({out}) );\n  "
        for k, out in enumerate(("y", "other"))
    )
    found = analysed(tmp_path, SENDER, "  wire other;\n" + receiver(rams))
    assert found.untimed == {"RAM256X1S": 2}
    # The path ends at them: what is left is a flip-flop's way to its own output.
    assert found.longest_path_ps == CLOCK_TO_Q


def test_a_cell_that_yosys_does_not_know_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="NAND7"):
        analysed(tmp_path, SENDER, receiver("NAND7 gate ( .A(in0_V_tdata[0]), .Y(y) );"))


def test_every_node_needs_a_netlist(tmp_path: Path) -> None:
    node = HardwareNode(name="a", op_type="Test", module="a", sources=(), input_bits=8, output_bits=8)
    design = HardwareDesign(files={f"{TOP}.sv": stitched_top((node,))}, nodes=(node,), finn_version="none")
    with pytest.raises(DesignError, match="not synthesised: a"):
        timing.analyse(design, {}, log=tmp_path / "yosys.log", timeout_s=TIMEOUT_S)


def test_borrowed_delays_leave_out_what_the_cell_does_not_have() -> None:
    library = yosys.parse_modules(timing._cells())
    assert "(I5 => O6)" in library["LUT6_2"]
    assert "(I5 => O5)" not in library["LUT6_2"]
    assert not re.search("DPO|SPO|DPRA", library["RAM64X1S"])
    assert library["LUT6"] == yosys.parse_modules(yosys.cell_models())["LUT6"]
