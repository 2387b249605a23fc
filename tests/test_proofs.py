"""What is proved of small netlists and designs, and that a tool that fails proves and leaves open nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from fixtures import aiger, proofs
from fixtures.faults import lut_bits
from fixtures.proofs import Answer, Ports
from qnn.errors import ToolFailed, ToolTimeout
from qnn.hdl import TOP, HardwareDesign

PORTS = Ports(input_bits=8, output_bits=8, used_bits=1)

NETLIST = """module unit_node(ap_clk, ap_rst_n, in0_V_tdata, in0_V_tvalid, in0_V_tready, out0_V_tdata, out0_V_tvalid,
  out0_V_tready);
  input ap_clk;
  input ap_rst_n;
  input [7:0] in0_V_tdata;
  input in0_V_tvalid;
  output in0_V_tready;
  output [7:0] out0_V_tdata;
  output out0_V_tvalid;
  input out0_V_tready;
  wire shown;
  wire masked;
  wire twice;
  wire state;
  assign in0_V_tready = out0_V_tready;
  assign out0_V_tvalid = in0_V_tvalid;
  assign out0_V_tdata = { 6'h00, masked, shown };
  LUT2 #(
    .INIT(4'h8)
  ) seen (
    .I0(in0_V_tdata[0]),
    .I1(in0_V_tdata[1]),
    .O(shown)
  );
  LUT2 #(
    .INIT(4'h8)
  ) padding (
    .I0(in0_V_tdata[0]),
    .I1(in0_V_tdata[1]),
    .O(masked)
  );
  LUT2 #(
    .INIT(4'h8)
  ) register (
    .I0(in0_V_tdata[0]),
    .I1(state),
    .O(twice)
  );
  FDRE toggle (
    .C(ap_clk),
    .CE(1'h1),
    .D(twice),
    .Q(state),
    .R(1'h0)
  );
endmodule
"""
"""One LUT gives the only bit of a beat that is used, one a bit above it, and one a register that stays 0."""


def _findings(lut: str) -> list[proofs.Finding]:
    bits = [bit for bit in lut_bits(NETLIST) if bit.lut == lut]
    circuit = proofs.of_netlist(proofs.with_chosen_fault(NETLIST, bits), PORTS)
    return [proofs.judge(circuit, number) for number in range(1, len(bits) + 1)]


def test_a_bit_that_an_input_addresses_is_not_proved() -> None:
    for finding in _findings("seen"):
        assert not finding.proved
        assert finding.why.startswith("some inputs change a stream")


def test_a_bit_of_what_no_beat_uses_changes_nothing() -> None:
    assert [finding.why for finding in _findings("padding")] == 4 * [
        "proved by ABC: it never changes an output or a state"
    ]


def test_a_bit_that_changes_a_state_which_no_output_needs_leaves_the_streams_as_they_are() -> None:
    """Its second input is always 0: the bits for 1 are never addressed; the others make the register a 1."""
    whys = [finding.why for finding in _findings("register")]
    assert all(why.startswith("proved by ABC") for why in whys)


def _design(text: str) -> HardwareDesign:
    head = f"module {TOP}(input ap_clk, ap_rst_n, input [7:0] in0_V_tdata, input in0_V_tvalid, output in0_V_tready,"
    head += " output [7:0] out0_V_tdata, output out0_V_tvalid, input out0_V_tready);\n"
    tail = "assign in0_V_tready = out0_V_tready;\nassign out0_V_tvalid = in0_V_tvalid;\nendmodule\n"
    return HardwareDesign(files={f"{TOP}.sv": head + text + tail}, nodes=(), finn_version="0")


PARITY = _design("assign out0_V_tdata = {7'b0, ^in0_V_tdata};\n")


@pytest.mark.parametrize(
    ("text", "used_bits", "proved"),
    [
        ("wire a = ^in0_V_tdata[7:4], b = ^in0_V_tdata[3:0];\nassign out0_V_tdata = {7'b0, a != b};\n", 8, True),
        ("assign out0_V_tdata = {7'b1, ^in0_V_tdata};\n", 1, True),
        ("assign out0_V_tdata = {7'b1, ^in0_V_tdata};\n", 2, False),
        ("reg r = 0; always @(posedge ap_clk) r <= ^in0_V_tdata; assign out0_V_tdata = {7'b0, r};\n", 8, False),
    ],
    ids=["the-same-otherwise", "bits-that-are-not-used", "bits-that-are-used", "a-cycle-later"],
)
def test_two_designs_are_the_same_where_their_streams_are(text: str, used_bits: int, proved: bool) -> None:
    ports = replace(PORTS, used_bits=used_bits)
    right, wrong = (proofs.of_design(design, ports) for design in (PARITY, _design(text)))
    assert proofs.compare(right, wrong).proved is proved


def test_the_reset_does_not_come_again() -> None:
    text = "reg ran = 0; always @(posedge ap_clk) ran <= ap_rst_n;\nassign out0_V_tdata = {{7'b0, {}}};\n"
    zero, again, ended = (
        proofs.of_design(_design(text.format(bit)), PORTS) for bit in ("1'b0", "ran && !ap_rst_n", "ran")
    )
    assert proofs.compare(zero, again).proved
    assert not proofs.compare(zero, ended).proved


def test_hdl_that_yosys_refuses_is_an_error() -> None:
    with pytest.raises(ToolFailed):
        proofs.of_design(_design("assign nonsuch = ;\n"), PORTS)


PROPERTY = aiger.Circuit(inputs={"a": 2, "b": 4}, registers=(), gates=((6, 2, 4),), outputs={"property": 6}).written


def _saying(text: str, monkeypatch: pytest.MonkeyPatch) -> Answer:
    monkeypatch.setattr(proofs, "_abc", lambda script, folder, timeout_s: text)
    return proofs.never(PROPERTY, "pdr", 1)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Property proved.\nStatus = 1  Frames = 14", Answer.NEVER),
        ("Output 0 of miter was asserted in frame 4.\nStatus = 0  Frames = 3", Answer.SOMETIMES),
        ("Reached timeout (5 seconds).\nStatus = -1  Frames = 3", Answer.UNKNOWN),
        ("BDDs blew up during image computation.\nStatus = -1  Frames = 3", Answer.UNKNOWN),
    ],
)
def test_what_abc_says_is_read(text: str, answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _saying(text, monkeypatch) is answer


@pytest.mark.parametrize(
    "text",
    ["", "Cannot open input file.\nThere is no current network.\nStatus = -1  Frames = -1", "** cmd error: unknown"],
)
def test_an_abc_that_does_not_say_what_it_found_is_an_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ToolFailed, match="pdr does not say what it found"):
        _saying(text, monkeypatch)


@pytest.mark.parametrize("error", [ToolFailed("ABC was killed by signal 11", -11), ToolTimeout("too long")])
def test_an_abc_that_crashes_is_an_error_and_one_that_takes_too_long_is_not(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(script: str, folder: Path, timeout_s: float) -> str:
        raise error

    monkeypatch.setattr(proofs, "_abc", fail)
    if isinstance(error, ToolTimeout):
        assert proofs.never(PROPERTY, "pdr", 1) is Answer.UNKNOWN
        assert proofs._reduced(PROPERTY) == PROPERTY
    else:
        for ask in (lambda: proofs.never(PROPERTY, "pdr", 1), lambda: proofs._reduced(PROPERTY)):
            with pytest.raises(ToolFailed, match="signal 11"):
                ask()


def test_a_circuit_that_abc_does_not_write_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "_abc", lambda script, folder, timeout_s: "")
    with pytest.raises(ToolFailed, match="scorr gives no circuit"):
        proofs._reduced(PROPERTY)


@pytest.mark.parametrize(("literal", "answer"), [(0, Answer.NEVER), (1, Answer.SOMETIMES)])
def test_a_constant_property_needs_no_engine(literal: int, answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    constant = aiger.Circuit(inputs={"a": 2}, registers=((4, 2),), gates=(), outputs={"property": literal})
    monkeypatch.setattr(proofs, "_abc", lambda *arguments: pytest.fail("ABC was asked"))
    assert proofs.never(constant.written, "pdr", 1) is answer
