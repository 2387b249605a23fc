"""FIFO depths: what the gauge finds, the depths that follow, and that FIFOs which are too shallow are named.

A small network of FINN's own nodes shows it: two layers of 32 x 32 weights with one multiplier each take 1,024 cycles a
frame both. The second takes a frame's 32 inputs while it repeats them for the last time, and needs the next 32 soon
after, but the first gives one in 32 cycles: nearly all of a frame has to wait in between. FINN's default FIFOs hold
five each.
"""

import itertools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qnn import edits, export, fifos, networks
from qnn.cell import PART, Folding, Policy, Quantization
from qnn.errors import DeadlockError, DesignError, SimulationError
from qnn.hdl import TOP, HardwareDesign, HardwareNode
from qnn.process import run
from qnn.tools import fifo_gauge, finn, verilator
from qnn.tools.fifo_gauge import Gauge, GaugeRun

WIDTHS = (32, 32, 32, 8)
INTERVAL_CYCLES = 32 * 32
FRAMES = 8
CULPRIT = "StreamingFIFO_rtl_3"
"""In front of the second layer."""

# ----------------------------------------------------------------------------------------------------------- pure rules


@given(st.integers(1, 5000))
def test_a_depth_holds_what_the_gauge_held_and_one_more(held_beats: int) -> None:
    depth = fifos.depth_for(held_beats)
    assert depth >= fifos.MINIMUM_DEPTH
    assert fifos.capacity_beats(depth) >= held_beats + 1
    assert depth == fifos.MINIMUM_DEPTH or fifos.capacity_beats(depth - 1) < held_beats + 1


@given(st.dictionaries(st.sampled_from("abcdef"), st.tuples(*[st.integers(2, 9)] * 2), min_size=1))
def test_the_cause_is_exactly_the_fifos_below_what_the_design_takes(depths: dict[str, tuple[int, int]]) -> None:
    configured = {name: depth for name, (depth, _) in depths.items()}
    taken = {name: depth for name, (_, depth) in depths.items()}
    needed = {name: depth + 1 for name, depth in taken.items()}  # the gauge may ask for more than it takes

    def keeps_up(tried: Mapping[str, int]) -> bool:
        return all(tried[name] >= taken[name] for name in taken)

    causes = fifos.too_shallow(configured, needed, keeps_up)
    assert causes == tuple(name for name in configured if configured[name] < taken[name])


def test_of_two_fifos_that_can_stand_in_for_each_other_one_is_named() -> None:
    def keeps_up(tried: Mapping[str, int]) -> bool:
        return tried["a"] + tried["b"] >= 10

    assert fifos.too_shallow({"a": 2, "b": 2}, {"a": 9, "b": 9}, keeps_up) == ("b",)


def test_where_no_depth_mends_a_design_no_fifo_is_blamed() -> None:
    with pytest.raises(DesignError, match="the cause is not a FIFO"):
        fifos.too_shallow({"a": 2}, {"a": 9}, lambda depths: False)


def test_a_design_without_fifos_cannot_be_gauged() -> None:
    with pytest.raises(DesignError, match="no FIFO"):
        fifos.gauged(HardwareDesign(files={}, nodes=(), finn_version="none"))


@pytest.mark.parametrize("text", ["", "run {}\n", "fifo a_0 held 3 refuses 0\n"])
def test_output_that_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises(SimulationError, match="not whole"):
        fifo_gauge.parse_run(text)


# ------------------------------------------------------------------------------------------------ FINN's FIFO by itself

CAPACITIES = """
module {top} (input ap_clk, input ap_rst_n, input [7:0] in0_V_tdata, input in0_V_tvalid, output in0_V_tready,
    output [7:0] out0_V_tdata, output out0_V_tvalid, input out0_V_tready);
    assign in0_V_tready = 1;
    assign out0_V_tvalid = 1;
    assign out0_V_tdata = 0;
{instances}endmodule
"""
CAPACITY = """
    wire [31:0] count{depth};
    fifo #(.DEPTH({depth}), .DATA_WIDTH(8)) fifo{depth} (.clk(ap_clk), .rst(!ap_rst_n), .idat(in0_V_tdata), .ivld(1'b1),
        .irdy(), .odat(), .ovld(), .ordy(1'b0), .count(count{depth}), .maxcount());
    final $display("fifo depth_{depth} held %0d refuses 0", count{depth});
"""
DEPTHS = (2, 3, 4, 5, 6, 33, 34, 64, 257, 300)


@dataclass(frozen=True)
class Small:
    """The small network as FINN compiled it with some depths."""

    folder: Path
    design: HardwareDesign
    """As Verilator takes it."""

    def run(self, folder: Path, library: Path) -> tuple[verilator.Simulation, NDArray[np.int64], NDArray[np.int64]]:
        """Simulation of FRAMES, its accumulators, and those of the hardware integer model."""
        frames = np.random.default_rng(0).integers(0, 256, (FRAMES, WIDTHS[0]), dtype=np.uint8)
        dataflow = finn.read_dataflow(self.folder)
        simulator = verilator.build(self.design, folder, brief=True, library=library)
        simulation = verilator.simulate(simulator, frames, output_beats=dataflow.output_beats)
        accumulators = verilator.unpack(simulation.output, lane_bits=dataflow.output_bits, lanes=1, signed=True)
        expected = finn.read_hardware_model(self.folder).network.evaluate(frames)
        return simulation, accumulators.reshape(FRAMES, -1), expected


Compile = Callable[[Mapping[str, int]], Small]


@pytest.fixture(scope="module")
def compile_small(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    root = tmp_path_factory.mktemp("small")
    qonnx, number = root / "model.onnx", itertools.count()
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.setattr(networks, "WIDTHS", WIDTHS)
        torch.manual_seed(0)
        network = networks.Network(Quantization.parse("A2W2")).eval().requires_grad_(False)
        norm: Any
        for norm in network.norms:
            norm.bias.uniform_(-1, 1)
            norm.running_mean.uniform_(-1, 1)
        export.export(network, qonnx)

    def compile_with(depths: Mapping[str, int]) -> Small:
        folder = root / str(next(number))
        folder.mkdir()
        options = (Folding(pe=1, simd=1), Policy.UNIFORM, PART, 10.0)
        finn.compile_network(qonnx, *options, folder, fifo_depths=depths)
        return Small(folder, edits.accept(finn.read_design(folder), "verilator", verilator.check).design)

    return compile_with


@pytest.fixture(scope="module")
def delivered(compile_small: Compile) -> Small:
    return compile_small({})


def test_finns_fifo_holds_as_much_as_is_counted_on(delivered: Small, verilator_library: Path, tmp_path: Path) -> None:
    instances = "".join(CAPACITY.format(depth=depth) for depth in DEPTHS)
    top = CAPACITIES.format(top=TOP, instances=instances)
    source = "rtllib/fifo/hdl/fifo.sv"
    node = HardwareNode(
        name="fifo", op_type="Test", module="fifo", sources=(source,), input_bits=8, output_bits=8, fifo_depth=None
    )
    files = {source: delivered.design.files[source], f"{TOP}.sv": top}
    design = HardwareDesign(files=files, nodes=(node,), finn_version="none")
    folder, driver = tmp_path / "simulator", fifo_gauge.DRIVER
    simulator = verilator.build(design, folder, driver=driver, brief=True, library=verilator_library)
    gauge = Gauge(simulator=simulator, input_beats=1, output_beats=1, interval_cycles=1)
    held = gauge.run(2000, offered_each_cycles=0).held_beats
    for depth in DEPTHS:
        capacity = held[f"depth_{depth}"]
        assert capacity == fifos.capacity_beats(depth) if depth <= 257 else capacity > depth


# ---------------------------------------------------------------------------------------------- a chain of FINN's nodes


@pytest.fixture(scope="module")
def gauge(delivered: Small, verilator_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Gauge:
    folder = tmp_path_factory.mktemp("gauge") / "simulator"
    simulator = fifo_gauge.build(fifos.gauged(delivered.design), folder, library=verilator_library)
    output_beats = finn.read_dataflow(delivered.folder).output_beats
    return Gauge(simulator=simulator, input_beats=WIDTHS[0], output_beats=output_beats, interval_cycles=INTERVAL_CYCLES)


@pytest.fixture(scope="module")
def measured(gauge: Gauge) -> GaugeRun:
    return gauge.measure()


def depths_of(small: Small, measured: GaugeRun) -> dict[str, fifos.FifoDepth]:
    return {fifo.name: fifo for fifo in fifos.fifo_depths(small.design.nodes, measured.held_beats)}


def test_the_gauge_holds_nearly_a_frame_in_front_of_the_second_layer(delivered: Small, measured: GaugeRun) -> None:
    assert measured.interval_cycles == INTERVAL_CYCLES
    depths = depths_of(delivered, measured)
    assert len(depths) == 7
    assert all(fifo.configured_depth == fifos.MINIMUM_DEPTH for fifo in depths.values())
    assert WIDTHS[1] - 4 <= depths[CULPRIT].held_beats <= WIDTHS[1]
    assert not depths[CULPRIT].suffices
    assert str(depths[CULPRIT]).startswith(f"{CULPRIT} (between Thresholding_rtl_1 and MVAU_rtl_1; depth 2, needs 3")
    assert depths["StreamingFIFO_rtl_0"].producer is None
    assert depths["StreamingFIFO_rtl_6"].consumer is None


def test_a_rate_that_the_design_cannot_keep_is_refused_naming_where_beats_pile_up(gauge: Gauge) -> None:
    with pytest.raises(SimulationError, match=r"every 1,000 cycles .* pile up in .*StreamingFIFO_rtl_1\b"):
        replace(gauge, interval_cycles=1000).measure()


@pytest.mark.slow
def test_the_sized_design_keeps_the_interval_and_one_fifo_too_shallow_is_named(
    compile_small: Compile,
    gauge: Gauge,
    delivered: Small,
    measured: GaugeRun,
    verilator_library: Path,
    tmp_path: Path,
) -> None:
    needed = {name: fifo.needed_depth for name, fifo in depths_of(delivered, measured).items()}
    sized = compile_small(needed)
    assert {name: fifo.configured_depth for name, fifo in depths_of(sized, measured).items()} == needed
    simulation, accumulators, expected = sized.run(tmp_path / "sized", verilator_library)
    assert simulation.initiation_interval_cycles == INTERVAL_CYCLES
    np.testing.assert_array_equal(accumulators, expected)
    # FINN's default in one place: slower, still right, and the one that was made too shallow is the one that is named.
    starved = {**needed, CULPRIT: fifos.MINIMUM_DEPTH}
    simulation, accumulators, _ = compile_small(starved).run(tmp_path / "starved", verilator_library)
    assert simulation.intervals_cycles.min() > 1.1 * INTERVAL_CYCLES
    np.testing.assert_array_equal(accumulators, expected)
    assert fifos.too_shallow(starved, needed, gauge.keeps_up) == (CULPRIT,)
    # The bounded gauge, a cycle faster, foretells the interval to a percent.
    capacities = {name: fifos.capacity_beats(depth) for name, depth in starved.items()}
    tried = gauge.run(FRAMES, offered_each_cycles=0, capacities_beats=capacities).interval_cycles
    assert tried == pytest.approx(simulation.intervals_cycles[-1], rel=0.01)


REFUSED = """
from onnx import TensorProto, helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.util.basic import qonnx_make_model
from qnn.dataflow.fifos import set_depths
from qnn.errors import DataflowError

ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
node = helper.make_node("StreamingFIFO_rtl", ["x"], ["y"], name="StreamingFIFO_rtl_0", depth=2,
    domain="finn.custom_op.fpgadataflow.rtl", folded_shape=[1, 4], normal_shape=[1, 4], dataType="INT8")
model = ModelWrapper(qonnx_make_model(helper.make_graph([node], "fifo", ends[:1], ends[1:])))
for depths in ({"StreamingFIFO_rtl_9": 4}, {"StreamingFIFO_rtl_0": 1}):
    try:
        set_depths(model, depths)
    except DataflowError as error:
        print(error)
set_depths(model, {"StreamingFIFO_rtl_0": 7})
print({a.name: a.i for a in model.graph.node[0].attribute}["depth"])
"""


def test_depths_that_cannot_be_are_refused(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(Path(__file__).parents[1])}
    argv = [sys.executable, "-W", "ignore", "-c", REFUSED]
    told = run(argv, timeout_s=300, log=tmp_path / "log", environment=environment).log.read_text().splitlines()
    assert told[-3:] == [
        "no FIFO is named StreamingFIFO_rtl_9: there are StreamingFIFO_rtl_0",
        "StreamingFIFO_rtl_0 cannot have depth 1: FINN's FIFO has 2 or more",
        "7",
    ]


# ------------------------------------------------------------------------------------------------------------- deadlock

FORK = """
module {top} (input ap_clk, input ap_rst_n, input [7:0] in0_V_tdata, input in0_V_tvalid, output in0_V_tready,
    output [7:0] out0_V_tdata, output out0_V_tvalid, input out0_V_tready);
    // Of each beat one copy goes through the FIFO; the other waits until a whole frame is there. Both are added.
    reg [7:0] frame[8];
    reg [3:0] filled = 0;
    reg draining = 0;
    wire fifo_ready, fifo_valid;
    wire [7:0] fifo_data;
    wire forks = in0_V_tvalid && fifo_ready && !draining;
    wire joins = draining && fifo_valid && out0_V_tready;
    assign in0_V_tready = fifo_ready && !draining;
    assign out0_V_tvalid = draining && fifo_valid;
    assign out0_V_tdata = fifo_data + frame[8 - filled];
    always @(posedge ap_clk)
        if(!ap_rst_n) begin filled <= 0; draining <= 0; end
        else if(forks) begin
            frame[filled] <= in0_V_tdata;
            filled <= filled + 1;
            draining <= filled == 7;
        end
        else if(joins) begin
            filled <= filled - 1;
            draining <= filled != 1;
        end
    {fifo} bypass (.ap_clk(ap_clk), .ap_rst_n(ap_rst_n),
        .in0_V_tdata(in0_V_tdata), .in0_V_tvalid(in0_V_tvalid && !draining), .in0_V_tready(fifo_ready),
        .out0_V_tdata(fifo_data), .out0_V_tvalid(fifo_valid), .out0_V_tready(draining && out0_V_tready));
endmodule
"""


def fork_and_join(fifo: HardwareNode, files: Mapping[str, str]) -> HardwareDesign:
    """Two ways that meet again: the FIFO in one of them has to hold the eight beats that the other waits for."""
    files = {name: files[name] for name in fifo.sources} | {f"{TOP}.sv": FORK.format(top=TOP, fifo=fifo.top)}
    return HardwareDesign(files=files, nodes=(fifo,), finn_version="none")


def test_a_deadlock_is_found_and_the_fifo_named(delivered: Small, verilator_library: Path, tmp_path: Path) -> None:
    first = next(node for node in delivered.design.nodes if node.fifo_depth is not None)
    assert (first.input_bits, first.fifo_depth) == (8, 2)
    design = fork_and_join(first, delivered.design.files)
    frames = np.arange(3 * 8, dtype=np.uint8).reshape(3, 8)
    stuck = verilator.build(design, tmp_path / "stuck", brief=True, library=verilator_library)
    with pytest.raises(DeadlockError, match="A FIFO may be too shallow"):
        verilator.simulate(stuck, frames, output_beats=8, stall_limit_cycles=1000)

    simulator = fifo_gauge.build(fifos.gauged(design), tmp_path / "gauge", library=verilator_library)
    gauge = Gauge(simulator=simulator, input_beats=8, output_beats=8, interval_cycles=20)
    bounded = gauge.run(3, offered_each_cycles=0, capacities_beats={first.name: fifos.capacity_beats(2)})
    assert bounded.deadlock
    assert bounded.refusing == (first.name,)
    needed = {name: fifos.depth_for(held) for name, held in gauge.measure().held_beats.items()}
    assert needed == {first.name: 9}
    assert fifos.too_shallow({first.name: 2}, needed, gauge.keeps_up) == (first.name,)

    wrapper = f"{first.name}/{first.module}.v"
    deeper = design.replace_files({wrapper: design.files[wrapper].replace(".DEPTH(2)", ".DEPTH(9)")})
    assert deeper.digest != design.digest
    program = verilator.build(deeper, tmp_path / "mended", brief=True, library=verilator_library)
    mended = verilator.simulate(program, frames, output_beats=8)
    np.testing.assert_array_equal(mended.output.reshape(3, 8), 2 * frames)
