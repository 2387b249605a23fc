"""FINN's RTL Thresholding alone, simulated by Verilator: thresholds written through its AXI-lite port, values streamed.

Thresholdings of many shapes are built into one program, since most of a small program's building time is Verilator's
own runtime. The program is asked again and again through pipes: a question costs microseconds and a start costs
milliseconds. It is therefore the one program that qnn.process.run cannot run; it ends with the ``with`` statement that
started it, and every answer has a time limit.
"""

import json
import selectors
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from qnn import edits
from qnn.errors import DesignError, SimulationError
from qnn.hdl import TOP, HardwareDesign, HardwareNode
from qnn.tools import verilator

__all__ = [
    "DRIVER",
    "Shape",
    "ThresholdingSimulation",
    "axilite_writes",
    "build",
    "pack",
    "read_design",
    "selection_top",
]

DRIVER = Path(__file__).with_name("thresholding.cpp")
ALWAYS = 0xFFFFFFFF
"""Source and sink without stalls."""
_ANSWER_LIMIT_S = 60.0
_WORD_BITS = 32


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A Thresholding's geometry; input and thresholds are both signed or both not."""

    channels: int
    pe: int
    steps: int
    input_bits: int
    threshold_bits: int
    signed: bool = True
    bias: int = 0
    """The code below all thresholds."""

    def __post_init__(self) -> None:
        if min(asdict(self)[name] for name in ("channels", "pe", "steps", "input_bits", "threshold_bits")) < 1:
            raise DesignError(f"{self}: every number of a shape has to be 1 or more")
        if self.channels % self.pe:
            raise DesignError(f"{self}: PE has to divide the channels")
        if max(self.input_bits, self.threshold_bits) > 62:
            raise DesignError(f"{self}: widths above 62 bits are not supported")

    def __str__(self) -> str:
        """Such as ``C8-PE4-N7-int20-t21``."""
        kind = "int" if self.signed else "uint"
        return f"C{self.channels}-PE{self.pe}-N{self.steps}-{kind}{self.input_bits}-t{self.threshold_bits}"

    @property
    def input_range(self) -> tuple[int, int]:
        return _range(self.input_bits, signed=self.signed)

    @property
    def threshold_range(self) -> tuple[int, int]:
        """What a threshold may be.

        A threshold type narrower than the input's cannot tell its minimum from what lies below (the RTL saturates
        the input), so there FINN keeps one value free at the bottom (Thresholding_rtl.minimize_weight_bit_width).
        """
        low, high = _range(self.threshold_bits, signed=self.signed)
        return (low + 1 if self.signed and self.threshold_bits < self.input_bits else low), high

    @property
    def output_bits(self) -> int:
        """O_BITS of the RTL (thresholding_axi.sv)."""
        above = self.steps + self.bias + 1
        return (above - 1).bit_length() if self.bias >= 0 else 1 + (max(-self.bias, above) - 1).bit_length()

    @property
    def beats(self) -> int:
        """Beats of one vector of channels."""
        return self.channels // self.pe

    @property
    def input_bytes(self) -> int:
        return (self.pe * self.input_bits + 7) // 8

    @property
    def output_bytes(self) -> int:
        return (self.pe * self.output_bits + 7) // 8


def _range(bits: int, *, signed: bool) -> tuple[int, int]:
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


_TOP_HEAD = """module {top} (
    input  ap_clk,
    input  ap_rst_n,
    input  [31:0] shape,
    input  AWVALID, WVALID, BREADY,
    input  [31:0] AWADDR, WDATA,
    output AWREADY, WREADY, BVALID,
    input  [{input_bits}-1:0] in0_V_tdata,
    input  in0_V_tvalid, out0_V_tready,
    output [{output_bits}-1:0] out0_V_tdata,
    output in0_V_tready, out0_V_tvalid
);
    wire [{count}-1:0] awready, wready, bvalid, in_ready, out_valid;
    wire [{output_bits}-1:0] out_data [{count}];
    assign AWREADY = awready[shape];
    assign WREADY = wready[shape];
    assign BVALID = bvalid[shape];
    assign in0_V_tready = in_ready[shape];
    assign out0_V_tvalid = out_valid[shape];
    assign out0_V_tdata = out_data[shape];
"""
_INSTANCE = """    wire [{output_bits}-1:0] data{k};
    assign out_data[{k}] = data{k};
    {module} shape{k} (
        .ap_clk(ap_clk && shape == {k}), .ap_rst_n(ap_rst_n),
        .s_axilite_AWVALID(AWVALID), .s_axilite_AWREADY(awready[{k}]), .s_axilite_AWADDR(AWADDR),
        .s_axilite_WVALID(WVALID), .s_axilite_WREADY(wready[{k}]), .s_axilite_WDATA(WDATA), .s_axilite_WSTRB(4'hf),
        .s_axilite_BVALID(bvalid[{k}]), .s_axilite_BREADY(BREADY), .s_axilite_BRESP(),
        .s_axilite_ARVALID(1'b0), .s_axilite_ARREADY(), .s_axilite_ARADDR('0),
        .s_axilite_RVALID(), .s_axilite_RREADY(1'b0), .s_axilite_RDATA(), .s_axilite_RRESP(),
        .in1_V_TREADY(), .in1_V_TVALID(1'b0), .in1_V_TDATA('0),
        .in0_V_TREADY(in_ready[{k}]), .in0_V_TVALID(in0_V_tvalid), .in0_V_TDATA(in0_V_tdata[{input_bits}-1:0]),
        .out0_V_TREADY(out0_V_tready), .out0_V_TVALID(out_valid[{k}]), .out0_V_TDATA(data{k})
    );
"""


def selection_top(nodes: Sequence[HardwareNode]) -> str:
    """SystemVerilog of a top with every node in it, of which the input `shape` chooses one: only its clock runs."""
    widths = {"input_bits": max(n.input_bits for n in nodes), "output_bits": max(n.output_bits for n in nodes)}
    text = _TOP_HEAD.format(top=TOP, count=len(nodes), **widths)
    for k, node in enumerate(nodes):
        text += _INSTANCE.format(k=k, module=node.module, input_bits=node.input_bits, output_bits=node.output_bits)
    return text + "endmodule\n"


def read_design(path: Path) -> HardwareDesign:
    """The design of all shapes, from the rtl.json that qnn.tools.finn.generate_thresholdings() wrote."""
    record = json.loads(path.read_text())
    nodes = tuple(HardwareNode(**{**fields, "sources": tuple(fields["sources"])}) for fields in record["nodes"])
    files = {**record["files"], f"{TOP}.sv": selection_top(nodes)}
    return HardwareDesign(files=files, nodes=nodes, finn_version=record["finn_version"])


def build(design: HardwareDesign, folder: Path) -> None:
    """Verilate the design of all shapes into the program `folder`, which must be empty.

    Raises ToolMissing, ToolFailed, ToolTimeout, ToolGap.
    """
    accepted = edits.accept(design, "verilator", verilator.check)
    verilator.build(accepted.design, folder, driver=DRIVER)


def pack(values: NDArray[np.int64], shape: Shape) -> NDArray[np.uint8]:
    """Values [vectors, channels] as beats [vectors * beats, bytes]: lane k is bits k * input_bits and up."""
    lanes = values.reshape(-1, shape.pe, 1)
    bits = (lanes >> np.arange(shape.input_bits)).astype(np.uint8) & 1
    return np.packbits(bits.reshape(len(lanes), -1), axis=1, bitorder="little")


def axilite_writes(thresholds: NDArray[np.int64], shape: Shape) -> list[tuple[int, int]]:
    """(byte address, 32-bit word) of every threshold [channels, steps], in the order of addresses.

    Threshold i of channel c is word ((c / PE) * 2^ceil(log2 PE) + c % PE) * 2^ceil(log2 N) + i (thresholding.sv);
    one that is wider than 32 bits takes two words, the lower one first (axilite.sv).
    """
    words = (shape.threshold_bits + _WORD_BITS - 1) // _WORD_BITS
    pe_slots, step_slots = (1 << (count - 1).bit_length() for count in (shape.pe, shape.steps))
    writes = []
    for channel, row in enumerate(thresholds.tolist()):
        base = (channel // shape.pe * pe_slots + channel % shape.pe) * step_slots
        for step, value in enumerate(row):
            for part in range(words):
                address = 4 * ((base + step) * words + part)
                writes.append((address, value >> _WORD_BITS * part & 0xFFFFFFFF))
    return writes


class ThresholdingSimulation:
    """One shape in a running program that build() made; a context manager.

    `index` is the shape's place among the design's nodes.
    """

    def __init__(self, folder: Path, shape: Shape, index: int) -> None:
        self.folder, self.shape, self.index = folder, shape, index
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    def __enter__(self) -> Self:
        program = verilator.Simulator.open(self.folder).program
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [str(program), *map(str, (self.index, self.shape.input_bytes, self.shape.output_bytes))],
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, errors = self._running()
        process.kill()
        process.communicate()
        errors.close()
        self._process = self._errors = None

    def _running(self) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
        if self._process is None or self._errors is None:
            raise SimulationError(f"the simulation of {self.shape} is used outside its `with` statement")
        return self._process, self._errors

    def write(self, thresholds: NDArray[np.int64]) -> None:
        """Write thresholds [channels, steps], ascending. Raises SimulationError where one does not fit its type."""
        low, high = self.shape.threshold_range
        if thresholds.shape != (self.shape.channels, self.shape.steps):
            raise SimulationError(f"thresholds {thresholds.shape} do not fit {self.shape}")
        if thresholds.min() < low or thresholds.max() > high:
            raise SimulationError(f"thresholds of {self.shape} have to be from {low} to {high}")
        writes = axilite_writes(thresholds, self.shape)
        words = np.array(writes, dtype=np.uint32)
        (count,) = struct.unpack("=I", self._ask(b"W", len(writes), words.tobytes(), 4))
        if count != len(writes):
            raise SimulationError(f"{count} of {len(writes)} thresholds of {self.shape} were written")

    def run(self, values: NDArray[np.int64], *, valid: int = ALWAYS, ready: int = ALWAYS) -> NDArray[np.int64]:
        """Codes [vectors, channels] of values of the same shape.

        Bit cycle % 32 of `valid` and `ready` says whether the source offers a beat and the sink takes one.
        """
        low, high = self.shape.input_range
        if values.ndim != 2 or values.shape[1] != self.shape.channels:
            raise SimulationError(f"values {values.shape} do not fit {self.shape}")
        if values.size and (values.min() < low or values.max() > high):
            raise SimulationError(f"values of {self.shape} have to be from {low} to {high}")
        beats = pack(values, self.shape)
        size = len(beats) * self.shape.output_bytes
        raw = np.frombuffer(self._ask(b"S", len(beats), beats.tobytes(), size, valid, ready), np.uint8)
        codes = verilator.unpack(
            raw.reshape(len(beats), -1),
            lane_bits=self.shape.output_bits,
            lanes=self.shape.pe,
            signed=self.shape.bias < 0,
        )
        return codes.reshape(values.shape)

    def _ask(
        self, command: bytes, count: int, body: bytes, size: int, valid: int = ALWAYS, ready: int = ALWAYS
    ) -> bytes:
        """Send one question and read its answer of `size` bytes."""
        process, errors = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        question = memoryview(struct.pack("=IIII", command[0], count, valid, ready) + body)
        try:
            while question:  # a pipe without a buffer may take less than it is given
                question = question[process.stdin.write(question) or 0 :]
        except BrokenPipeError:
            raise self._ended(process, errors) from None
        answer = bytearray()
        deadline = time.monotonic() + _ANSWER_LIMIT_S
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while len(answer) < size:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise SimulationError(f"the simulation of {self.shape} gave no answer in {_ANSWER_LIMIT_S:g} s")
                part = process.stdout.read(size - len(answer))
                if not part:
                    raise self._ended(process, errors)
                answer += part
        return bytes(answer)

    def _ended(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> SimulationError:
        status = process.wait(_ANSWER_LIMIT_S)
        errors.seek(0)
        message = errors.read().decode(errors="replace").strip() or "without a word"
        return SimulationError(f"the simulation of {self.shape} ended with status {status}: {message}")
