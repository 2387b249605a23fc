"""A fault above FINN's integers is located at the nodes of its graph, and the folder that is left shows it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from small import CELL, IMAGES, SmallPipeline, run_reproducer, small_parameters

from qnn import diff, equivalence, float_hops
from qnn.cell import Cell
from qnn.errors import EquivalenceError
from qnn.float_hops import FINN_ONNX, QONNX, FloatHop
from qnn.networks import Chain, build_from_parameters
from qnn.store import Store
from qnn.tools.finn import HardwareModel


@dataclass(frozen=True, kw_only=True)
class WrongGraph(SmallPipeline):
    """The same with a constant of one graph changed: that of the node's `place`-th input, by `change` at its first."""

    folder: Path
    graph_name: str
    """``qonnx``, or one of FINN's."""
    op_type: str
    number: int
    """Which of the nodes of this kind."""
    place: int
    change: float

    def _changed(self, path: Path) -> Path:
        model = onnx.load(str(path))
        node = [node for node in model.graph.node if node.op_type == self.op_type][self.number]
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[self.place])
        values = numpy_helper.to_array(tensor).copy()
        values.reshape(-1)[0] += self.change
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        changed = self.folder / f"{self.graph_name}.onnx"
        onnx.save(model, str(changed))
        return changed

    def qonnx(self, cell: Cell) -> Path:
        # FINN's graphs are made from the right one, which the store has already.
        right = super().qonnx(cell)
        return self._changed(right) if self.graph_name == "qonnx" else right

    def graph(self, cell: Cell, name: str) -> Path:
        right = super().graph(cell, name)
        return self._changed(right) if name == self.graph_name else right


def located(pipeline: SmallPipeline, hop: FloatHop, folder: Path, *, with_logits: bool = False) -> str:
    """The error of a hop; empty without one."""
    golden, pixels = pipeline.golden(CELL), pipeline.images(CELL).pixels
    run = hop.run(pipeline, CELL, range(IMAGES))
    comparison = equivalence.compare_forward_pass(golden, golden.trace(pixels), run.codes, pixels, run.products)
    whole = pipeline.qonnx_run(CELL) if hop is QONNX else pipeline.converted_run(CELL)
    logits = whole["output"] if with_logits else None
    try:
        float_hops.require_explained(hop, pipeline, CELL, comparison, folder, logits)
    except EquivalenceError as error:
        return str(error)
    return ""


def reproduced(told: str) -> tuple[int, str]:
    """Exit status and output of the script in the folder that an error names."""
    done = run_reproducer(Path(told.rpartition("reproducer: ")[2]))
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("hop", [QONNX, FINN_ONNX], ids=lambda hop: hop.name)
def test_right_hops_are_explained_to_the_end(shared_store: Store, tmp_path: Path, hop: FloatHop) -> None:
    assert located(SmallPipeline(store=shared_store), hop, tmp_path, with_logits=True) == ""
    assert not list(tmp_path.iterdir())


FAULTS = [
    # The batch norm's mean: only the codes behind it are wrong.
    pytest.param(QONNX, "qonnx", "BatchNormalization", 0, 3, 2.0, "activation 1 is", "Quant", id="QONNX, a batch norm"),
    # A weight of the second layer: its sums are.
    pytest.param(QONNX, "qonnx", "Quant", 3, 0, 0.25, "layer 1 is", "Gemm", id="QONNX, a weight"),
    # The batch norm behind the last layer: only the logits are.
    pytest.param(
        QONNX, "qonnx", "BatchNormalization", 1, 2, 0.5, "logits 1 is", "BatchNormalization", id="QONNX, its tail"
    ),
    pytest.param(FINN_ONNX, "finn", "MultiThreshold", 1, 1, 9.0, "activation 1 is", "Mul", id="FINN-ONNX, a threshold"),
    pytest.param(FINN_ONNX, "finn", "MatMul", 1, 1, 1.0, "layer 1 is", "MatMul", id="FINN-ONNX, a weight"),
]


@pytest.mark.parametrize(("hop", "graph", "op_type", "number", "place", "change", "part", "last"), FAULTS)
def test_a_fault_is_located_at_its_nodes_and_shown_by_the_script(
    shared_store: Store,
    tmp_path: Path,
    hop: FloatHop,
    graph: str,
    op_type: str,
    number: int,
    place: int,
    change: float,
    part: str,
    last: str,
) -> None:
    fault = {"graph_name": graph, "op_type": op_type, "number": number, "place": place, "change": change}
    pipeline = WrongGraph(store=shared_store, folder=tmp_path, **fault)  # type: ignore[arg-type]
    told = located(pipeline, hop, tmp_path / "reproducers", with_logits=True)
    assert told.startswith(f"{hop.name}")
    assert part in told
    assert f"({last}) in " in told
    status, output = reproduced(told)
    assert status == 1, output
    assert "in Python: differs" in output
    assert ("in Brevitas: equal" in output) == (hop is QONNX)


@dataclass(frozen=True, kw_only=True)
class WrongBrevitas(SmallPipeline):
    """A network whose first batch norm is not that of its parameters."""

    def network(self, cell: Cell) -> Chain:
        right = small_parameters()
        first = replace(right.layers[0], mean=right.layers[0].mean + np.float32(2))
        return build_from_parameters(replace(right, layers=(first, *right.layers[1:])))


def test_a_fault_of_brevitas_leaves_its_layer_and_the_same_of_qonnx(shared_store: Store, tmp_path: Path) -> None:
    """The script takes the parameters that the network says it has: what is wrong here is not Brevitas itself."""
    pipeline = WrongBrevitas(store=shared_store)
    found = next(hop for hop in diff.hops(pipeline, CELL, [3, 7], tmp_path) if hop.name == "Brevitas")
    told = str(found.difference)
    assert "Brevitas, activation 1, first image " in told
    status, output = reproduced(told)
    assert status == 0, output
    assert "in Brevitas: equal" in output
    layer = Path(told.rpartition("reproducer: ")[2]) / "layer.npz"
    with np.load(layer) as file:
        np.savez(layer, **{**file, "mean": file["mean"] + np.float32(2)})  # as the network had it
    status, output = reproduced(told)
    assert status == 1, output
    assert "in Brevitas: differs" in output


def test_a_wrong_weight_and_constant_of_the_streamlined_graph_are_named_with_a_reproducer(
    shared_store: Store, tmp_path: Path
) -> None:
    faults: Sequence[tuple[str, int, float, str]] = [
        ("MatMul", 1, 1.0, "the first wrong node is MatMul_1 (MatMul)"),
        ("MultiThreshold", 1, 9.0, "the first wrong node is MultiThreshold_1 (MultiThreshold)"),
        ("Add", 0, 1.0, "the first wrong nodes are Mul_0, Add_0, in 12 of 12 images; image 0, channel 0: expected "),
    ]
    for op_type, number, change, named in faults:
        fault = {"graph_name": "streamlined", "op_type": op_type, "number": number, "place": 1, "change": change}
        pipeline = WrongGraph(store=shared_store, folder=tmp_path, **fault)  # type: ignore[arg-type]
        with pytest.raises(EquivalenceError) as told:
            diff.require_equal_graph(pipeline, CELL, range(IMAGES), pipeline.graph_run(CELL), tmp_path / "shown")
        assert str(told.value).startswith(f"streamlined graph: {named}")
        status, output = reproduced(str(told.value))
        assert status == 1, output
    assert len(list((tmp_path / "shown").iterdir())) == len(faults)
    right = SmallPipeline(store=shared_store)
    diff.require_equal_graph(right, CELL, range(IMAGES), right.graph_run(CELL), tmp_path)


@dataclass(frozen=True, kw_only=True)
class WrongIntegers(WrongGraph):
    """FINN's integers as the changed graph has them."""

    def hardware_model(self, cell: Cell) -> HardwareModel:
        right = super().hardware_model(cell)
        k, layers = self.number + (self.op_type == "MatMul"), list(right.network.layers)
        if self.op_type == "MatMul":
            assert layers[k].weights is not None
            weights = np.array(layers[k].weights)
            weights[0, 0] += int(self.change)
            layers[k] = replace(layers[k], weights=weights)
            return replace(right, network=replace(right.network, layers=tuple(layers)))
        thresholds = [steps.copy() for steps in right.thresholds]
        thresholds[k][0, 0] += np.float32(self.change)
        whole = np.array(layers[k].thresholds)
        whole[0, 0] += int(self.change)
        layers[k] = replace(layers[k], thresholds=whole)
        network = replace(right.network, layers=tuple(layers))
        return replace(right, network=network, thresholds=tuple(thresholds))


@pytest.mark.parametrize(
    ("op_type", "change", "named"),
    [
        ("MultiThreshold", -2.0, "channel 0: thresholds around step 0 are "),
        ("MatMul", 1.0, "channel 0: weights "),
    ],
)
def test_thresholds_and_weights_that_finn_got_wrong_are_named_with_their_node(
    shared_store: Store, tmp_path: Path, op_type: str, change: float, named: str
) -> None:
    fault = {"graph_name": "streamlined", "op_type": op_type, "number": 1, "place": 1, "change": change}
    pipeline = WrongIntegers(store=shared_store, folder=tmp_path, **fault)  # type: ignore[arg-type]
    found = {hop.name: hop for hop in diff.hops(pipeline, CELL, [3], tmp_path / "shown")}["FINN's thresholds"]
    assert f"; {named}" in str(found.difference)
    assert f"; node {op_type}_1 of the streamlined graph\nreproducer: " in str(found.difference)
    status, output = reproduced(str(found.difference))
    assert status == 1, output
    assert "in Python: differs" in output
