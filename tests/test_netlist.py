"""A synthesised netlist simulates as its source does, and one wrong bit in it is found.

The design is two nodes that any netlist of the study could hold: a delay line and a ROM in block RAM, LUTs, a carry
chain, a shift register and a DSP48E1.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from qnn.errors import DesignError
from qnn.hdl import TOP, HardwareDesign, HardwareNode, stitched_top
from qnn.tools import verilator, yosys
from qnn.tools.netlist import netlist_design

PORTS = """
    input ap_clk, input ap_rst_n,
    input [7:0] in0_V_tdata, input in0_V_tvalid, output in0_V_tready,
    output [7:0] out0_V_tdata, output reg out0_V_tvalid, input out0_V_tready
"""
MEMORIES = """
    assign in0_V_tready = 1;
    reg [7:0] ring [0:2047]; reg [10:0] at; reg [7:0] old;
    reg [7:0] rom [0:2047]; reg [7:0] known;
    initial $readmemh("memories/rom.dat", rom);
    always @(posedge ap_clk) begin
        out0_V_tvalid <= in0_V_tvalid && ap_rst_n;
        if (in0_V_tvalid) ring[at] <= in0_V_tdata;
        old <= ring[at - 11'd700];
        known <= rom[{in0_V_tdata, at[2:0]}];
        at <= !ap_rst_n ? 0 : in0_V_tvalid ? at + 1 : at;
    end
    assign out0_V_tdata = old + known;
"""
PRODUCT = """
    assign in0_V_tready = 1;
    reg signed [15:0] product; reg signed [7:0] last; reg [18:0] valid; reg [15:0] line [0:7];
    always @(posedge ap_clk) begin
        valid <= {valid[17:0], in0_V_tvalid} & {19{ap_rst_n}};
        out0_V_tvalid <= valid[8];
        last <= in0_V_tdata; product <= last * $signed(in0_V_tdata);
        line[0] <= product;
        for (int i = 1; i < 8; i++) line[i] <= line[i-1];
    end
    assign out0_V_tdata = line[7][15:8] ^ line[7][7:0];
"""
"""A product of two neighbouring values, eight cycles later."""


def node(name: str) -> HardwareNode:
    return HardwareNode(
        name=name, op_type="Test", module=name, sources=(f"{name}/{name}.sv",), input_bits=8, output_bits=8
    )


@pytest.fixture(scope="module")
def design() -> HardwareDesign:
    nodes = (node("memories"), node("product"))
    words = np.random.default_rng(0).integers(0, 256, 2048)
    files = {
        f"{n.name}/{n.name}.sv": f"module {n.top} ({PORTS});\n{body}\nendmodule\n"
        for n, body in zip(nodes, (MEMORIES, PRODUCT), strict=True)
    }
    files |= {"memories/rom.dat": "".join(f"{word:02x}\n" for word in words), f"{TOP}.sv": stitched_top(nodes)}
    return HardwareDesign(files=files, nodes=nodes, finn_version="none")


@pytest.fixture(scope="module")
def syntheses(design: HardwareDesign, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, yosys.NodeSynthesis]:
    log = tmp_path_factory.mktemp("yosys") / "log"
    return {n.name: yosys.synthesise(design, n, log=log, timeout_s=120) for n in design.nodes}


@pytest.fixture(scope="module")
def netlists(syntheses: Mapping[str, yosys.NodeSynthesis]) -> dict[str, str]:
    return {name: synthesis.netlist for name, synthesis in syntheses.items()}


def simulated(design: HardwareDesign, folder: Path, library: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Output and completions of three frames, long enough that the ring is read where it was written."""
    frames = np.random.default_rng(1).integers(0, 256, (3, 2000)).astype(np.uint8)
    simulator = verilator.build(design, folder / "simulator", brief=True, library=library)
    result = verilator.simulate(simulator, frames, output_beats=2000)
    return result.output, result.completions_cycles


@pytest.fixture(scope="module")
def source_run(
    design: HardwareDesign, verilator_library: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    return simulated(design, tmp_path_factory.mktemp("source"), verilator_library)


def test_the_netlist_holds_what_is_to_be_proved(syntheses: Mapping[str, yosys.NodeSynthesis]) -> None:
    assert syntheses["memories"].resources.bram18 == 2
    assert {"CARRY4", "FDRE", "LUT2"} <= syntheses["memories"].cells.keys()
    assert {"DSP48E1", "SRL16E"} <= syntheses["product"].cells.keys()


def test_a_netlist_gives_what_its_source_gives_in_the_same_cycles(
    design: HardwareDesign,
    netlists: Mapping[str, str],
    source_run: tuple[NDArray[np.uint8], NDArray[np.int64]],
    verilator_library: Path,
    tmp_path: Path,
) -> None:
    made = netlist_design(design, netlists)
    assert not [name for name in made.files if name.endswith(".dat")]
    output, completions = simulated(made, tmp_path, verilator_library)
    np.testing.assert_array_equal(output, source_run[0])
    np.testing.assert_array_equal(completions, source_run[1])
    assert len(np.unique(output)) > 200


def flipped(netlist: str, pattern: str) -> str:
    """`netlist` with the last bit of the first constant that `pattern` finds changed."""
    return re.sub(pattern, lambda match: f"{match[1]}{int(match[2], 16) ^ 1:x}", netlist, count=1, flags=re.DOTALL)


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(r"(  LUT2 #\(\n *\.INIT\(4'h)([0-9a-f])", id="a LUT's function"),
        pytest.param(r"(\.INIT_2A\(256'h[0-9a-f]{62})([0-9a-f])", id="a word of the ROM"),
    ],
)
def test_one_wrong_bit_in_a_netlist_is_found(
    design: HardwareDesign,
    netlists: Mapping[str, str],
    source_run: tuple[NDArray[np.uint8], NDArray[np.int64]],
    verilator_library: Path,
    tmp_path: Path,
    pattern: str,
) -> None:
    wrong = flipped(netlists["memories"], pattern)
    assert sum(a != b for a, b in zip(wrong, netlists["memories"], strict=True)) == 1
    output, _ = simulated(netlist_design(design, {**netlists, "memories": wrong}), tmp_path, verilator_library)
    assert (output != source_run[0]).any()


def test_every_node_needs_a_netlist(design: HardwareDesign, netlists: Mapping[str, str]) -> None:
    with pytest.raises(DesignError, match="not synthesised: product"):
        netlist_design(design, {"memories": netlists["memories"]})


def test_a_block_ram_that_has_no_model_is_refused_with_its_node(
    design: HardwareDesign, netlists: Mapping[str, str]
) -> None:
    wrong = netlists["memories"].replace(".DOA_REG(32'sd0)", ".DOA_REG(32'sd1)")
    with pytest.raises(DesignError, match=r"^memories: RAMB18E1 \S+: DOA_REG is 32'sd1"):
        netlist_design(design, {**netlists, "memories": wrong})
