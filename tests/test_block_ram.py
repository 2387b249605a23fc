"""The models of block RAMs do what an array does, in every width; modes that they do not cover are refused by name.

The oracle is a list of bits; words, bytes and parity are slices of it. All cells of SETUPS are in one program, and get
the same operation in every cycle.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qnn.errors import DesignError
from qnn.hdl import TOP, HardwareDesign, HardwareNode
from qnn.tools import verilator
from qnn.tools.block_ram import BLOCK_RAMS, BlockRam, check, instances, model
from qnn.tools.verilator import Simulator

SMALL, LARGE = BLOCK_RAMS["RAMB18E1"], BLOCK_RAMS["RAMB36E1"]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A cell and the widths of its ports. `wrong` names an entry of WRONG: a model with that fault."""

    ram: BlockRam
    read_a: int = 0
    read_b: int = 0
    write_a: int = 0
    write_b: int = 0
    simple: bool = False
    wrong: str | None = None


SETUPS = (
    # As they occur in the study's netlists: ROMs, one port each way, simple dual port at its widest.
    Setup(ram=SMALL, read_a=18, write_a=18),
    Setup(ram=LARGE, read_a=2, write_a=2),
    Setup(ram=SMALL, write_a=18, read_b=18),
    Setup(ram=LARGE, read_a=72, write_b=72, simple=True),
    Setup(ram=SMALL, read_a=36, write_b=36, simple=True),
    # Every width on every port of both cells, mixed.
    Setup(ram=SMALL, read_a=1, read_b=9, write_a=18, write_b=2),
    Setup(ram=SMALL, read_a=4, read_b=1, write_a=9, write_b=18),
    Setup(ram=SMALL, read_a=9, read_b=18, write_a=1, write_b=4),
    Setup(ram=SMALL, read_a=2, read_b=4, write_a=4, write_b=9),
    Setup(ram=SMALL, read_a=18, read_b=2, write_a=2, write_b=1),
    Setup(ram=LARGE, read_a=36, read_b=1, write_a=9, write_b=36),
    Setup(ram=LARGE, read_a=1, read_b=36, write_a=36, write_b=2),
    Setup(ram=LARGE, read_a=9, read_b=18, write_a=4, write_b=1),
    Setup(ram=LARGE, read_a=18, read_b=4, write_a=1, write_b=9),
    Setup(ram=LARGE, read_a=4, read_b=9, write_a=2, write_b=18),
    Setup(ram=LARGE, read_a=2, read_b=2, write_a=18, write_b=4),
    Setup(ram=SMALL, read_a=9, write_b=18, simple=True),
    Setup(ram=SMALL, read_a=36, write_b=4, simple=True),
    Setup(ram=LARGE, read_a=1, write_b=72, simple=True),
    Setup(ram=LARGE, read_a=72, write_b=9, simple=True),
    Setup(ram=LARGE, read_a=36, write_b=36, simple=True),
)

WRONG = {
    "reads without enable": (r"if \(ENARDEN\)", "if (1'b1)"),
    "writes all bytes": (r"if \(WEBWE\[k\]\)", "if (WEBWE[0])"),
    "takes an address for a byte's": (r"ADDRARDADDR\[14:3\]", "ADDRARDADDR[11:0]"),
    "gives what is being written": (r"(bytes\[ADDRARDADDR.*\]) <= DIADI", r"\1 = DIADI"),
    "forgets the parity": (r"\{write_parity_b\[k\]", "{1'b0"),
    "turns words about": (r"\| k\];", r"| (READ_WIDTH_A/9 - 1 - k)];"),
}
"""{fault: (what of the model is replaced, by what)}, each in a cell that shows it."""
WRONG_SETUPS = (
    Setup(ram=LARGE, read_a=36, write_b=36, simple=True, wrong="reads without enable"),
    Setup(ram=LARGE, read_a=72, write_b=72, simple=True, wrong="writes all bytes"),
    Setup(ram=LARGE, read_a=9, write_b=9, wrong="takes an address for a byte's"),
    Setup(ram=LARGE, read_a=4, write_a=4, wrong="gives what is being written"),
    Setup(ram=LARGE, read_a=72, write_b=72, simple=True, wrong="forgets the parity"),
    Setup(ram=LARGE, read_a=72, write_b=72, simple=True, wrong="turns words about"),
)
ALL_SETUPS = (*SETUPS, *WRONG_SETUPS)

OPERATION = np.dtype(
    [
        ("data_a", "<u4"),
        ("data_b", "<u4"),
        ("address_a", "<u2"),
        ("address_b", "<u2"),
        ("parity", "u1"),
        ("write_a", "u1"),
        ("write_b", "u1"),
        ("enable", "u1"),
    ]
)
"""All pins of a cell in one cycle, 16 bytes: port A in the lower bits of `parity` (of four) and `enable` (of one)."""
RESULT_BITS = 80
"""Of a cell's output: 32 bits of DOADO, 32 of DOBDO, 4 of DOPADOP, 4 of DOPBDOP, and 8 of padding."""


def contents(setup: Setup) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Bits of data and of parity that a cell starts with."""
    random = np.random.default_rng(ALL_SETUPS.index(setup))
    return random.integers(0, 2, 8 * setup.ram.bytes, np.uint8), random.integers(0, 2, setup.ram.bytes, np.uint8)


def strings(prefix: str, bits: NDArray[np.uint8]) -> list[str]:
    """``.INIT_00(256'h...)`` and so on."""
    words = np.packbits(bits.reshape(-1, 256)[:, ::-1], axis=1)
    return [f".{prefix}_{k:02X}(256'h{word.tobytes().hex()})" for k, word in enumerate(words)]


def instance(setup: Setup, index: int) -> str:
    """Verilog of one cell, its pins joined to the operation and its outputs to its part of `result`."""
    data, parity = contents(setup)
    small = setup.ram is SMALL
    bits, address = setup.ram.data_bits, setup.ram.address_bits - 1
    parameters = [
        f'.RAM_MODE("{"SDP" if setup.simple else "TDP"}")',
        f".READ_WIDTH_A({setup.read_a}), .READ_WIDTH_B({setup.read_b})",
        f".WRITE_WIDTH_A({setup.write_a}), .WRITE_WIDTH_B({setup.write_b})",
        *strings("INIT", data),
        *strings("INITP", parity),
    ]
    # In simple dual port Yosys joins narrow words to the pins of both ports, and a wide one's lower half to A's.
    wide = setup.simple and setup.write_b > bits + bits // 8
    data_b, parity_b = ("data_a", "parity[3:0]") if setup.simple and not wide else ("data_b", "parity[7:4]")
    return f"""
    RAMB{"18" if small else "36"}E1{f"_wrong_{index}" if setup.wrong else ""} #({", ".join(parameters)}) cell_{index} (
        .CLKARDCLK(ap_clk), .CLKBWRCLK(ap_clk), .ENARDEN(valid && enable[0]), .ENBWREN(valid && enable[1]),
        .ADDRARDADDR(address_a[{address}:0]), .ADDRBWRADDR(address_b[{address}:0]),
        .DIADI(data_a[{bits - 1}:0]), .DIBDI({data_b}[{bits - 1}:0]),
        .DIPADIP(parity[{bits // 8 - 1}:0]), .DIPBDIP({parity_b}),
        .WEA(write_a[{bits // 8 - 1}:0]), .WEBWE(write_b[{bits // 4 - 1}:0]),
        .DOADO(result[{RESULT_BITS * index} +: {bits}]), .DOBDO(result[{RESULT_BITS * index + 32} +: {bits}]),
        .DOPADOP(result[{RESULT_BITS * index + 64} +: {bits // 8}]),
        .DOPBDOP(result[{RESULT_BITS * index + 68} +: {bits // 8}])
    );"""


def wrong_model(setup: Setup, index: int) -> str:
    assert setup.wrong is not None
    text = re.sub(rf"^module {setup.ram.name}", rf"\g<0>_wrong_{index}", model(setup.ram))
    changed = re.sub(WRONG[setup.wrong][0], WRONG[setup.wrong][1], text)
    assert changed != text
    return changed


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory, verilator_library: Path) -> Simulator:
    """Every cell of ALL_SETUPS, one operation an input beat, the outputs of all in an output beat a cycle later."""
    bits = RESULT_BITS * len(ALL_SETUPS)
    body = "".join(instance(setup, index) for index, setup in enumerate(ALL_SETUPS))
    top = f"""module {TOP} (
    input ap_clk, ap_rst_n, in0_V_tvalid, out0_V_tready, output in0_V_tready,
    input [127:0] in0_V_tdata, output [{bits - 1}:0] out0_V_tdata, output reg out0_V_tvalid
);
    wire [{bits - 1}:0] result;
    wire [31:0] data_a, data_b;
    wire [15:0] address_a, address_b;
    wire [7:0] parity, write_a, write_b, enable;
    assign {{enable, write_b, write_a, parity, address_b, address_a, data_b, data_a}} = in0_V_tdata;
    wire valid = in0_V_tvalid && ap_rst_n;
    assign in0_V_tready = 1, out0_V_tdata = result;
    always @(posedge ap_clk) out0_V_tvalid <= valid;
{body}
endmodule
"""
    models = [model(ram) for ram in BLOCK_RAMS.values()]
    models += [wrong_model(setup, index) for index, setup in enumerate(ALL_SETUPS) if setup.wrong]
    node = HardwareNode(
        name="cells", op_type="Test", module=TOP, sources=("models.v",), input_bits=128, output_bits=bits
    )
    files = {"models.v": "\n".join(models), f"{TOP}.sv": top}
    design = HardwareDesign(files=files, nodes=(node,), finn_version="none")
    return verilator.build(design, tmp_path_factory.mktemp("cells") / "simulator", library=verilator_library)


def bits_of(word: int, count: int) -> list[int]:
    return [(word >> k) & 1 for k in range(count)]


class Array:
    """A block RAM as a list of bits; an address counts bits of data, and a word begins at a multiple of its size."""

    def __init__(self, setup: Setup) -> None:
        self.data, self.parity = (bits.tolist() for bits in contents(setup))

    def place(self, address: int, width: int) -> tuple[slice, slice]:
        """Where a word lies among the bits of data and of parity."""
        size = width // 9 * 8 or width
        start = address % len(self.data) // size * size
        return slice(start, start + size), slice(start // 8, start // 8 + width // 9)

    def read(self, address: int, width: int) -> tuple[list[int], list[int]]:
        data, parity = self.place(address, width)
        return self.data[data], self.parity[parity]

    def write(self, address: int, width: int, enables: int, data: int, parity: int) -> None:
        into_data, into_parity = self.place(address, width)
        if not width // 9 and enables & 1:
            self.data[into_data] = bits_of(data, width)
        for k in range(width // 9):
            if enables >> k & 1:
                first = into_data.start + 8 * k
                self.data[first : first + 8] = bits_of(data >> 8 * k, 8)
                self.parity[into_parity.start + k] = parity >> k & 1


Words = list[tuple[list[int], list[int]]]


def expected(setup: Setup, operations: NDArray[np.void]) -> tuple[Words, Words]:
    """What ports A and B show after each operation, from each port's first read on."""
    array, shown_a, shown_b = Array(setup), [], []
    for operation in operations:
        o = {name: int(operation[name]) for name in OPERATION.names or ()}
        enable_a, enable_b = o["enable"] & 1, o["enable"] >> 1 & 1
        # All reads come before all writes.
        shown_a.append(array.read(o["address_a"], setup.read_a) if setup.read_a and enable_a else None)
        shown_b.append(array.read(o["address_b"], setup.read_b) if setup.read_b and enable_b else None)
        data_b, parity_b = o["data_b"], o["parity"] >> 4
        if setup.simple:
            size = setup.ram.data_bits
            low, low_parity = o["data_a"] % 2**size, o["parity"] % 2 ** (size // 8)
            data_b, parity_b = low | data_b << size, low_parity | parity_b << size // 8
        if setup.write_a and enable_a:
            array.write(o["address_a"], setup.write_a, o["write_a"], o["data_a"], o["parity"])
        if setup.write_b and enable_b:
            array.write(o["address_b"], setup.write_b, o["write_b"], data_b, parity_b)
    return held(shown_a), held(shown_b)


def held(shown: list[tuple[list[int], list[int]] | None]) -> Words:
    """A port shows what it read last; before the first read nothing is known of it."""
    found: Words = []
    for word in shown:
        if word is not None or found:
            found.append(word if word is not None else found[-1])
    return found


def simulated(setup: Setup, result: NDArray[np.uint8]) -> tuple[Words, Words]:
    """The same from the program's output: [operations, bits]."""
    size = setup.ram.data_bits
    a, b = result[:, :size], result[:, 32 : 32 + size]
    parity_a, parity_b = result[:, 64 : 64 + size // 8], result[:, 68 : 68 + size // 8]
    if setup.simple:
        a, parity_a = np.hstack([a, b]), np.hstack([parity_a, parity_b])

    def words(width: int, data: NDArray[np.uint8], parity: NDArray[np.uint8]) -> Words:
        count = width // 9 * 8 or width
        return [(d[:count].tolist(), p[: width // 9].tolist()) for d, p in zip(data, parity, strict=True)]

    return words(setup.read_a, a, parity_a), words(setup.read_b, b, parity_b)


def differing(cells: Simulator, operations: NDArray[np.void]) -> set[Setup]:
    """The cells whose outputs are not what the array gives."""
    frames = operations.view(np.uint8).reshape(1, -1)
    output = verilator.simulate(cells, frames, output_beats=len(operations)).output[0]
    results = np.unpackbits(output, axis=1, bitorder="little").reshape(len(operations), -1, RESULT_BITS)
    found = set()
    for index, setup in enumerate(ALL_SETUPS):
        wanted = expected(setup, operations)
        given = simulated(setup, results[:, index])
        if any(given[port][len(operations) - len(wanted[port]) :] != wanted[port] for port in (0, 1)):
            found.add(setup)
    return found


@st.composite
def operation_lists(draw: st.DrawFn) -> NDArray[np.void]:
    """Reads and writes of both ports, close together or all over the cell. What both write in a cycle is apart, since
    UG473 leaves open what becomes of it.
    """
    count = draw(st.integers(1, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    operations = random.integers(0, 256, (count, OPERATION.itemsize), np.uint8).view(OPERATION).reshape(count)
    spread = draw(st.sampled_from([2**4, 2**8, 2**16]))
    base = draw(st.integers(0, 2**16 - 1))
    for name in ("address_a", "address_b"):
        operations[name] = (base + random.integers(0, spread, count)) % 2**16
    written = draw(st.sampled_from([0.0, 0.3, 0.9]))
    for name in ("write_a", "write_b"):
        operations[name] *= random.random(count) < written
    both = (operations["write_a"] > 0) & (operations["write_b"] > 0)
    apart = operations["address_a"] ^ (1 << 12)
    operations["address_b"] = np.where(both, apart, operations["address_b"])
    return operations


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(operations=operation_lists())
def test_every_cell_does_what_an_array_does(cells: Simulator, operations: NDArray[np.void]) -> None:
    assert not differing(cells, operations) & set(SETUPS)


@pytest.mark.parametrize("setup", WRONG_SETUPS, ids=lambda setup: setup.wrong)
def test_a_wrong_model_is_found(busy: set[Setup], setup: Setup) -> None:
    assert setup in busy


@pytest.fixture(scope="module")
def busy(cells: Simulator) -> set[Setup]:
    """The cells that differ over 300 operations within 64 bytes."""
    random = np.random.default_rng(0)
    operations = random.integers(0, 256, (300, OPERATION.itemsize), np.uint8).view(OPERATION).reshape(-1)
    operations["address_a"] %= 2**9
    operations["address_b"] = operations["address_a"] ^ 1 << 12
    either = random.random(300) < 0.5
    operations["address_b"][either] = operations["address_a"][either]
    operations["write_a"][either] = 0
    return differing(cells, operations)


def test_the_busy_operations_find_nothing_in_the_right_models(busy: set[Setup]) -> None:
    assert busy == set(WRONG_SETUPS)


# --------------------------------------------------------------------------------------------- what is refused

NETLIST = """\
module unit_node (ap_clk);
  wire [7:0] \\mem.0.0.DO ;
  RAMB36E1 #(
    .DOA_REG(32'sd0),
    .INIT_00(256'h0000000000000000000000000000000000000000000000000000000000000001),
    .INIT_A(72'h000000000xxxxxxxxx),
    .RAM_EXTENSION_A("NONE"),
    .RAM_MODE("SDP"),
    .READ_WIDTH_A(32'd72),
    .READ_WIDTH_B(32'sd0),
    .SRVAL_A(72'h000000000xxxxxxxxx),
    .WRITE_MODE_A("READ_FIRST"),
    .WRITE_MODE_B("READ_FIRST"),
    .WRITE_WIDTH_A(32'sd0),
    .WRITE_WIDTH_B(32'd72)
  ) \\node.mem.0.0  (
    .ADDRARDADDR({ 3'h0, \\node.RP [6:0], 6'h00 }),
    .CLKARDCLK(ap_clk),
    .RSTRAMARSTRAM(1'h0),
    .WEA(4'h0)
  );
  RAMB18E1 #(
    .RAM_MODE("TDP"),
    .READ_WIDTH_A(32'd18),
    .WRITE_MODE_A("READ_FIRST"),
    .WRITE_MODE_B("READ_FIRST")
  ) plain (
    .CLKARDCLK(ap_clk)
  );
endmodule
"""


def test_block_rams_are_read_from_a_netlist() -> None:
    first, second = instances(NETLIST)
    assert (first.ram, first.name, second.ram, second.name) == (LARGE, "node.mem.0.0", SMALL, "plain")
    assert first.parameters["READ_WIDTH_A"] == "32'd72"
    assert first.pins["ADDRARDADDR"] == r"{ 3'h0, \node.RP [6:0], 6'h00 }"
    check(NETLIST)


@pytest.mark.parametrize(
    ("what", "by", "named"),
    [
        (".DOA_REG(32'sd0)", ".DOA_REG(32'sd1)", "RAMB36E1 node.mem.0.0: DOA_REG is 32'sd1"),
        ('.RAM_EXTENSION_A("NONE")', '.RAM_EXTENSION_A("LOWER")', 'RAM_EXTENSION_A is "LOWER"'),
        ('.RAM_MODE("SDP")', '.RAM_MODE("TDP")', "READ_WIDTH_A is 32'd72"),
        ('.RAM_MODE("SDP")', '.RAM_MODE("FIFO")', "RAM_MODE is FIFO"),
        (".WRITE_WIDTH_A(32'sd0)", ".WRITE_WIDTH_A(32'sd36)", "WRITE_WIDTH_A is 32'sd36"),
        (".READ_WIDTH_A(32'd18)", ".READ_WIDTH_A(32'd36)", "RAMB18E1 plain: READ_WIDTH_A is 32'd36"),
        ('.WRITE_MODE_B("READ_FIRST")', '.WRITE_MODE_B("NO_CHANGE")', "WRITE_MODE_B is NO_CHANGE"),
        ('    .WRITE_MODE_A("READ_FIRST"),\n', "", "WRITE_MODE_A is WRITE_FIRST"),
        (".INIT_A(72'h000000000xxxxxxxxx)", ".INIT_A(72'h000000000xxxxxxxx1)", "INIT_A is 72'h000000000xxxxxxxx1"),
        (".DOA_REG(32'sd0)", '.EN_ECC_READ("TRUE")', 'EN_ECC_READ is "TRUE"'),
        (".DOA_REG(32'sd0)", ".IS_ENARDEN_INVERTED(1'h1)", "IS_ENARDEN_INVERTED is 1'h1"),
        (".DOA_REG(32'sd0)", ".DOA_REG(32'hxxxxxxxx)", "DOA_REG is 32'hxxxxxxxx"),
        (".DOA_REG(32'sd0)", ".INIT_80(256'h0)", "INIT_80 is 256'h0"),
        (".DOA_REG(32'sd0)", ".SLEEP_ASYNC(1'h0)", "SLEEP_ASYNC is 1'h0"),
        (".RSTRAMARSTRAM(1'h0)", ".RSTRAMARSTRAM(\\node.reset )", r"pin RSTRAMARSTRAM is \node.reset"),
    ],
)
def test_a_mode_without_a_model_is_refused_by_cell_parameter_and_value(what: str, by: str, named: str) -> None:
    assert what in NETLIST
    with pytest.raises(DesignError, match=re.escape(named)):
        check(NETLIST.replace(what, by))


def test_a_netlist_of_another_layout_is_refused() -> None:
    with pytest.raises(DesignError, match="2 block RAMs, of which 1 can be read"):
        check(NETLIST.replace(") plain (\n", ") plain ( "))
