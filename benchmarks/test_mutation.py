"""Whether the suite's checks can fail: faults, one at a time, in real artifacts, put before the checks that cover them.

Random faults are drawn by a fixed seed over weights, thresholds, constants of the generated HDL and LUTs of netlists.
None that an input is known to show may be missed. A fault that is proved to be equivalent is counted apart, and so is
one that is neither caught nor proved to be: there may be few of them. Named faults, one of each kind that hardware
builds have had, have to be caught at the right node too: alone, and in the whole accelerator on a few images.
"""

import shutil
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fixtures.chosen import CHOICE, content
from fixtures.faults import (
    Kind,
    WeightWords,
    edited,
    losing_a_beat,
    lut_bits,
    with_initializer,
    with_lut_faults,
    with_narrow_accumulators,
    without_node,
)
from fixtures.mutation import (
    CELLS,
    Node,
    Outcome,
    Score,
    Tell,
    Verdict,
    injected,
    nodes_of,
    shares,
    threshold_words,
    weight_bits,
)
from fixtures.recording import Record
from qnn import diff, equivalence, fifos
from qnn.cell import Cell
from qnn.divergence import Divergence
from qnn.errors import DeadlockError, DesignError, EquivalenceError, SimulationError
from qnn.hdl import HardwareDesign
from qnn.nodes import check_node
from qnn.pipeline import Pipeline
from qnn.results import Evidence
from qnn.store import digest_of
from qnn.tools import gxx, netlist, verilator
from qnn.tools.yosys import NEUTRAL

_SEED = 5
_UNDECIDED_PERCENT = 5


def _random_faults(kind: Kind, pipeline: Pipeline, config: pytest.Config) -> list[Verdict]:
    return injected(pipeline, kind, shares(config.getoption("--mutation"))[kind], [_SEED, list(Kind).index(kind)])


@pytest.mark.rtlsim
@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.replace(" ", "-"))
def test_no_random_fault_that_an_input_shows_is_missed(
    kind: Kind, pipeline: Pipeline, pytestconfig: pytest.Config, tell_verdicts: Tell, record: Record
) -> None:
    verdicts = _random_faults(kind, pipeline, pytestconfig)
    tell_verdicts(verdicts)
    result = Score(verdicts=tuple(verdicts))
    record(
        Evidence.NETLIST if kind is Kind.LUT else Evidence.RTLSIM,
        faults_injected=len(verdicts),
        faults_equivalent=result.count(outcome=Outcome.EQUIVALENT),
        faults_undecided=result.count(outcome=Outcome.UNDECIDED),
        faults_caught=result.count(outcome=Outcome.CAUGHT),
        faults_missed=result.count(outcome=Outcome.MISSED),
        mutation_score_percent=result.percent,
        layers=[
            {"name": v.fault.node, "fault": v.fault.what, "outcome": str(v.outcome), "why": v.why} for v in verdicts
        ],
    )
    missed = [f"{v.fault.node}, {v.fault.what}: {v.why}" for v in verdicts if v.outcome is Outcome.MISSED]
    assert not missed, "\n".join(missed)


@pytest.mark.rtlsim
def test_nearly_all_random_faults_are_caught_or_proved_equivalent(
    pipeline: Pipeline, pytestconfig: pytest.Config
) -> None:
    verdicts = [verdict for kind in Kind for verdict in _random_faults(kind, pipeline, pytestconfig)]
    undecided = [f"{v.fault.node}, {v.fault.what}: {v.why}" for v in verdicts if v.outcome is Outcome.UNDECIDED]
    assert Score(verdicts=tuple(verdicts)).undecided_percent <= _UNDECIDED_PERCENT, "\n".join(undecided)


# ----------------------------------------------------------------------------------------------------- named faults

Change = Callable[[NDArray[np.int64], int, int], NDArray[np.int64]]
"""Weights [outputs, inputs], PE and SIMD to faulty ones."""


def _one_more(weights: NDArray[np.int64], pe: int, simd: int) -> NDArray[np.int64]:
    faulty = weights.copy()
    faulty[7, 5] += 1 if faulty[7, 5] < 3 else -1
    return faulty


def _pes_swapped(weights: NDArray[np.int64], pe: int, simd: int) -> NDArray[np.int64]:
    faulty = weights.copy()
    faulty[[0, 1]] = faulty[[1, 0]]  # of the first neuron fold: outputs 0 and 1 are PEs 0 and 1
    return faulty


def _lanes_reversed(weights: NDArray[np.int64], pe: int, simd: int) -> NDArray[np.int64]:
    return weights.reshape(len(weights), -1, simd)[:, :, ::-1].reshape(weights.shape)


@pytest.fixture(params=CELLS, ids=lambda cell: str(cell.folding), scope="module")
def faulty_cell(request: pytest.FixtureRequest) -> Cell:
    """A cell that faults are put into."""
    cell: Cell = request.param
    return cell


def _with_weights(node: Node, change: Change) -> dict[str, str]:
    """The memories of a matrix unit with faulty weights."""
    words, file = WeightWords.of(node.function, weight_bits(node)), f"{NEUTRAL}/memblock.dat"
    weights = words.read(node.design.files[file])
    faulty = change(weights, words.pe, words.simd)
    assert (faulty != weights).any()
    return {**node.design.memories, file: words.write(faulty)}


@pytest.mark.rtlsim
@pytest.mark.parametrize(
    ("change", "located"),
    [(_one_more, "channel 7: .*weight 5"), (_pes_swapped, r"in channels \[0, 1\]"), (_lanes_reversed, "channel 0")],
    ids=["weight-off-by-one", "PEs-swapped", "SIMD-lanes-reversed"],
)
def test_a_fault_in_the_weights_is_caught_at_its_node(
    faulty_cell: Cell, change: Change, located: str, pipeline: Pipeline
) -> None:
    node = nodes_of(pipeline, faulty_cell)["MVAU_rtl_1"]
    with pytest.raises(EquivalenceError, match=f"^MVAU_rtl_1, .*{located}"):
        check_node(node.function, pipeline.node_simulator(node.design), _with_weights(node, change))


@pytest.mark.rtlsim
def test_a_threshold_off_by_one_is_caught_at_its_node(faulty_cell: Cell, pipeline: Pipeline) -> None:
    node = nodes_of(pipeline, faulty_cell)["Thresholding_rtl_1"]
    words, files = threshold_words(node), node.design.files
    assert node.function.thresholds is not None
    steps = node.function.thresholds.shape[1]
    old = words.read(files, 9, 2, steps)
    contents = {**node.design.memories, **words.write(files, 9, 2, steps, old + 1)}
    with pytest.raises(
        EquivalenceError, match=rf"^Thresholding_rtl_1, .*channel 9: .*its input is {old}, .*T2 = {old}"
    ):
        check_node(node.function, pipeline.node_simulator(node.design), contents)


# ------------------------------------------------------------------------------- the same, in the whole accelerator

_IMAGES = range(64)


def _with_memories(simulator: verilator.Simulator, memories: Mapping[str, str], folder: Path) -> verilator.Simulator:
    """A copy of the program, in `folder`, with other contents of some memories."""
    shutil.copytree(simulator.folder, folder)
    for file, content_ in memories.items():
        assert (folder / file).is_file()
        (folder / file).write_text(content_)
    return verilator.Simulator.open(folder)


def _first_wrong(pipeline: Pipeline, cell: Cell, simulator: verilator.Simulator) -> Divergence:
    """By what goes over each stream: the way of test_rtl_equals_hardware_integers where the accumulators differ."""
    found = diff.first_wrong("RTL", pipeline, cell, _IMAGES, pipeline.rtl_nodes(cell, _IMAGES, simulator=simulator))
    assert found is not None
    return found


def _require_equal_accumulators(pipeline: Pipeline, cell: Cell, simulator: verilator.Simulator) -> None:
    """As test_rtl_equals_hardware_integers does for all images."""
    pixels, dataflow = pipeline.images(cell).pixels[: len(_IMAGES)], pipeline.dataflow(cell)
    run, layer = verilator.simulate(simulator, pixels, output_beats=dataflow.output_beats), dataflow.layers[-1]
    got = verilator.unpack(run.output, lane_bits=layer.output_bits, lanes=layer.output_lanes, signed=True)
    expected = pipeline.hardware_model(cell).network.evaluate(pixels)
    equivalence.require_equal(expected, got.reshape(expected.shape), "RTL")


@pytest.mark.rtlsim
@pytest.mark.parametrize(
    ("change", "channels"),
    [(_one_more, {7}), (_pes_swapped, {0, 1}), (_lanes_reversed, range(64))],
    ids=["weight-off-by-one", "PEs-swapped", "SIMD-lanes-reversed"],
)
def test_a_fault_in_the_weights_of_the_whole_accelerator_is_located_at_its_node(
    faulty_cell: Cell, change: Change, channels: Container[int], pipeline: Pipeline, tmp_path: Path
) -> None:
    name = "MVAU_rtl_1"
    memory = _with_weights(nodes_of(pipeline, faulty_cell)[name], change)[f"{NEUTRAL}/memblock.dat"]
    faulty = _with_memories(pipeline.simulator(faulty_cell), {f"{name}/memblock.dat": memory}, tmp_path / "simulator")
    with pytest.raises(EquivalenceError, match="RTL: "):
        _require_equal_accumulators(pipeline, faulty_cell, faulty)
    found = _first_wrong(pipeline, faulty_cell, faulty)
    assert found.node == name
    assert found.channel in channels


@pytest.mark.rtlsim
def test_a_threshold_of_the_whole_accelerator_off_by_one_is_located_at_its_node(
    faulty_cell: Cell, pipeline: Pipeline, tmp_path: Path
) -> None:
    """A threshold that an accumulator of one of the images is equal to."""
    name, layer = "Thresholding_rtl_2", 2
    network = pipeline.hardware_model(faulty_cell).network
    accumulators = network.trace(pipeline.images(faulty_cell).pixels[: len(_IMAGES)])[layer].accumulators
    thresholds = network.layers[layer].thresholds
    assert accumulators is not None
    assert thresholds is not None
    _, channel, step = map(int, np.argwhere(accumulators[:, :, None] == thresholds)[0])
    node = nodes_of(pipeline, faulty_cell)[name]
    words, steps = threshold_words(node), thresholds.shape[1]
    old = words.read(node.design.files, channel, step, steps)
    changed = words.write(node.design.files, channel, step, steps, old + 1)
    memories = {file.replace(NEUTRAL, name): text for file, text in changed.items()}
    faulty = _with_memories(pipeline.simulator(faulty_cell), memories, tmp_path / "simulator")
    with pytest.raises(EquivalenceError, match="RTL: "):
        _require_equal_accumulators(pipeline, faulty_cell, faulty)
    found = _first_wrong(pipeline, faulty_cell, faulty)
    assert (found.node, found.channel) == (name, channel)
    assert f"its input is {old}; " in found.around


def _built(pipeline: Pipeline, design: HardwareDesign) -> verilator.Simulator:
    """A whole accelerator with a fault in its HDL."""

    def build(folder: Path) -> None:
        verilator.build(design, folder, brief=True, library=pipeline.verilator_library())

    key = digest_of([design.digest, verilator.version(), gxx.version()])
    return verilator.Simulator.open(pipeline.store.get_or_build("faulty-simulator", key, build))


@pytest.mark.rtlsim
def test_accumulators_of_the_whole_accelerator_too_narrow_for_the_images_are_located_at_their_node(
    pipeline: Pipeline,
) -> None:
    """By one bit too narrow for the first images: a bit less than FINN's, which is for every input, shows in none."""
    cell, name, layer = CELLS[0], "MVAU_rtl_1", 2
    network = pipeline.hardware_model(cell).network
    accumulators = network.trace(pipeline.images(cell).pixels[: len(_IMAGES)])[layer].accumulators
    assert accumulators is not None
    narrow = int(max(accumulators.max(), -accumulators.min() - 1)).bit_length()
    output = nodes_of(pipeline, cell)[name].function.output
    design = with_narrow_accumulators(
        pipeline.simulated_design(cell), name, lanes=output.lanes, bits=output.bits, narrow_bits=narrow
    )
    faulty = _built(pipeline, design)
    with pytest.raises(EquivalenceError, match="RTL: "):
        _require_equal_accumulators(pipeline, cell, faulty)
    found = _first_wrong(pipeline, cell, faulty)
    assert found.node == name
    assert found.expected is not None
    assert found.got is not None
    assert abs(found.expected - found.got) == 2**narrow


@pytest.mark.rtlsim
def test_a_lost_beat_of_the_whole_accelerator_is_located_at_its_node(pipeline: Pipeline) -> None:
    cell, name = CELLS[0], "StreamingFIFO_rtl_4"
    faulty = _built(pipeline, losing_a_beat(pipeline.simulated_design(cell), name, 100))
    with pytest.raises(DeadlockError):
        _require_equal_accumulators(pipeline, cell, faulty)
    found = _first_wrong(pipeline, cell, faulty)
    assert (found.node, found.image) == (name, 3)


# ----------------------------------------------------------------------------------------------- other named faults


@pytest.mark.rtlsim
def test_an_accumulator_one_bit_too_narrow_is_caught_at_its_node(pipeline: Pipeline) -> None:
    """As if FINN had found a bit less to be enough, in its graph as in its RTL."""
    node = nodes_of(pipeline, CELLS[0])["MVAU_rtl_1"]
    bits = node.function.output.bits
    file = f"{NEUTRAL}/{NEUTRAL}_wrapper.v"
    narrow = edited(node.design, file, f"ACCU_WIDTH = {bits},", f"ACCU_WIDTH = {bits - 1},")
    function = replace(node.function, output=replace(node.function.output, bits=bits - 1))
    with pytest.raises(EquivalenceError, match=r"^MVAU_rtl_1, "):
        check_node(function, pipeline.node_simulator(narrow), narrow.memories)


def test_a_dropped_fifo_is_caught_by_its_name(faulty_cell: Cell, pipeline: Pipeline) -> None:
    """No integer and no interval tells: each node keeps one beat or more of its own (test_fifos looks into the HDL)."""
    names = [layer.name for layer in pipeline.dataflow(faulty_cell).layers]
    dropped = without_node(pipeline.design(faulty_cell), "StreamingFIFO_rtl_4")
    with pytest.raises(DesignError, match="StreamingFIFO_rtl_4 of the graph is not in the RTL"):
        fifos.require_delivered(dropped, names)


def test_a_fifo_of_depth_0_is_caught_by_its_name(faulty_cell: Cell, pipeline: Pipeline) -> None:
    design, name = pipeline.design(faulty_cell), "StreamingFIFO_rtl_4"
    shallow = edited(design, f"{name}/{name}.v", ".DEPTH(2)", ".DEPTH(0)")
    with pytest.raises(DesignError, match=f"{name} is of depth 2 in the graph"):
        fifos.require_delivered(shallow, [layer.name for layer in pipeline.dataflow(faulty_cell).layers])


@pytest.mark.rtlsim
def test_a_fifo_of_depth_0_is_caught_at_its_node(pipeline: Pipeline) -> None:
    node = nodes_of(pipeline, CELLS[0])["StreamingFIFO_rtl_4"]
    shallow = edited(node.design, f"{NEUTRAL}/{NEUTRAL}.v", ".DEPTH(2)", ".DEPTH(0)")
    with pytest.raises(SimulationError, match=r"^StreamingFIFO_rtl_4, .*DEPTH of 0 must be 2 or above"):
        check_node(node.function, pipeline.node_simulator(shallow), {})


@pytest.mark.rtlsim
def test_a_lost_beat_is_caught_at_its_node(pipeline: Pipeline) -> None:
    node = nodes_of(pipeline, CELLS[0])["StreamingFIFO_rtl_4"]
    with pytest.raises(SimulationError, match=r"^StreamingFIFO_rtl_4, .*stands still"):
        check_node(node.function, pipeline.node_simulator(losing_a_beat(node.design, NEUTRAL, 100)), {})


def _negated(values: NDArray[Any]) -> NDArray[Any]:
    values[3] = -values[3]
    return values


def _a_hundredth_more(values: NDArray[Any]) -> NDArray[Any]:
    return (values * np.float32(1.01)).astype(values.dtype)


def _one_channel_more(values: NDArray[Any]) -> NDArray[Any]:
    values[3] *= np.float32(1.01)
    return values


@pytest.mark.parametrize(
    ("kind", "number", "place", "change", "located"),
    [
        ("BatchNormalization", 1, 2, _negated, r"(?s)activation 2, .*channel 3"),
        ("Quant of a weight", 1, 1, _one_channel_more, "layer 1: .*channel 3"),
        ("Quant of an activation", 2, 1, _a_hundredth_more, "activation 2|layer 3"),
    ],
    ids=["batch-norm-bias-sign", "weight-scale", "activation-scale"],
)
def test_a_fault_of_the_export_is_caught_at_its_layer(
    kind: str, number: int, place: int, change: Any, located: str, pipeline: Pipeline, tmp_path: Path
) -> None:
    cell = CELLS[0]
    target = tmp_path / "faulty.onnx"
    with_initializer(pipeline.qonnx(cell), target, kind, number, place, change)
    pixels, run = pipeline.images(cell).pixels, pipeline.executed(target, cell)
    codes, products = equivalence.codes_of(run), equivalence.products_of(run)
    golden = pipeline.golden(cell)
    comparison = equivalence.compare_forward_pass(golden, golden.trace(pixels), codes, pixels, products)
    with pytest.raises(EquivalenceError, match=located):
        comparison.require_explained("QONNX")


@pytest.mark.netlist
def test_a_wrong_netlist_lut_bit_is_caught_at_its_node(pipeline: Pipeline) -> None:
    """Of the first LUT that takes in0_V_tvalid: where its inputs are all 1, or all but the last one."""
    name = "MVAU_rtl_3"
    node, text = nodes_of(pipeline, CELLS[0])[name], pipeline.node_synthesis(CELLS[0], name).netlist.read_text()
    first = next(bit.lut for bit in lut_bits(text) if "in0_V_tvalid" in bit.pins.values())
    bits = [bit for bit in lut_bits(text) if bit.lut == first]
    faulty = netlist.netlist_design(node.design, {NEUTRAL: with_lut_faults(text, bits)})
    simulator = pipeline.node_simulator(faulty)
    check_node(node.function, simulator, {CHOICE: content(0)})
    for number in (len(bits), len(bits) // 2):
        with pytest.raises((EquivalenceError, SimulationError), match=f"^{name}, "):
            check_node(node.function, simulator, {CHOICE: content(number)})
