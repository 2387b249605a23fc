"""A module as a shared library: ports, streams, memories and what is refused, on hand-written Verilog."""

from pathlib import Path

import pytest

from qnn.errors import DeadlockError, SimulationError
from qnn.hdl import HardwareDesign, HardwareNode
from qnn.tools import library, verilator
from qnn.tools.library import Library, PortShape, Stream, parse_ports

pytestmark = pytest.mark.skipif(not verilator.available(), reason="Verilator is not installed: see README")

TABLE = """
module node (
    input  ap_clk, input ap_rst_n,
    input  [7:0] in0_V_TDATA, input in0_V_TVALID, output in0_V_TREADY,
    output reg [71:0] out0_V_TDATA, output reg out0_V_TVALID, input out0_V_TREADY
);
    // Each beat is looked up: two nibbles of address, eight words of 9 bits; the answer comes one cycle later.
    reg [71:0] words [0:3];
    initial $readmemh("node/words.dat", words);
    assign in0_V_TREADY = !out0_V_TVALID || out0_V_TREADY;
    always @(posedge ap_clk) begin
        if (!ap_rst_n) out0_V_TVALID <= 0;
        else if (in0_V_TREADY) begin
            out0_V_TVALID <= in0_V_TVALID;
            out0_V_TDATA <= words[in0_V_TDATA[1:0]];
        end
    end
endmodule
"""
WORDS = [0x0123456789ABCDEF01, 0x2, 0xFF0000000000000003, 0x4]
INPUT = Stream(valid="in0_V_TVALID", ready="in0_V_TREADY", data="in0_V_TDATA", beats=3)
OUTPUT = Stream(valid="out0_V_TVALID", ready="out0_V_TREADY", data="out0_V_TDATA", beats=3)


def _design(*, with_words: bool) -> HardwareDesign:
    files = {"node/node.v": TABLE}
    if with_words:
        files["node/words.dat"] = "\n".join(f"{word:018x}" for word in WORDS)
    node = HardwareNode(name="node", op_type="", module="node", sources=("node/node.v",), input_bits=8, output_bits=72)
    return HardwareDesign(files=files, nodes=(node,), finn_version="none")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runtime")
    library.build_runtime(folder)
    return folder


@pytest.fixture(scope="module")
def table(runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Library:
    path = tmp_path_factory.mktemp("library") / "table.so"
    library.build(_design(with_words=True), path, top="node", runtime=runtime)
    return Library(path.rename(path.with_name("moved.so")))


def test_ports_are_read_from_verilators_header() -> None:
    header = "VL_IN8(&ap_clk,0,0);\n  VL_OUTW(&out0_V_TDATA,71,0,3);\n  VL_IN64(&wide,47,0);\n  int other;"
    assert parse_ports(header) == (
        PortShape(name="ap_clk", bits=1, is_input=True),
        PortShape(name="out0_V_TDATA", bits=72, is_input=False),
        PortShape(name="wide", bits=48, is_input=True),
    )


def test_a_moved_library_streams_the_words_of_its_memory(table: Library) -> None:
    model = table.open()
    model.put(table.numbers["ap_rst_n"], 1)
    cycles, (output,) = model.stream({INPUT: bytes([2, 0, 3])}, [OUTPUT], patience_cycles=10)
    model.close()
    assert [int.from_bytes(output[k : k + 9], "little") for k in (0, 9, 18)] == [WORDS[2], WORDS[0], WORDS[3]]
    assert cycles == 1 + 1 + 3 + 1  # valid rises, the first answer comes a cycle later, three beats, nothing is left


def test_models_of_one_library_do_not_share_their_state(table: Library) -> None:
    first, second = table.open(), table.open()
    first.put(table.numbers["ap_rst_n"], 1)
    assert second.get(table.numbers["ap_rst_n"]) == 0
    first.close()
    with pytest.raises(SimulationError, match=r"moved\.so is closed"):
        first.eval()
    second.eval()
    second.close()


def test_a_stream_that_stops_is_told_with_its_beats(table: Library) -> None:
    model = table.open()
    model.put(table.numbers["ap_rst_n"], 1)
    longer = Stream(valid=OUTPUT.valid, ready=OUTPUT.ready, data=OUTPUT.data, beats=4)
    with pytest.raises(DeadlockError, match=r"no beat for 10 cycles.*in0_V_TDATA 3 of 3, out0_V_TDATA 3 of 4"):
        model.stream({INPUT: bytes([2, 0, 3])}, [longer], patience_cycles=10)
    model.close()


def test_a_memory_without_contents_is_refused_not_read_as_zeros(runtime: Path, tmp_path: Path) -> None:
    path = tmp_path / "empty.so"
    library.build(_design(with_words=False), path, top="node", runtime=runtime)
    with pytest.raises(SimulationError, match=r"the design reads node/words\.dat, which it does not hold"):
        Library(path).open()


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.so"
    path.write_text("other")
    with pytest.raises(SimulationError, match=r"other\.so is no simulator library of this suite"):
        Library(path)
