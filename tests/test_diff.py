"""A few images through every hop: all equal where nothing is wrong, and the first wrong node where something is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from small import CELL, IMAGES, SmallPipeline, WrongRtl

from fixtures.faults import losing_a_beat
from qnn import cli, diff
from qnn.cell import Cell
from qnn.errors import CellError, DeadlockError, EquivalenceError, ToolMissing
from qnn.hdl import HardwareDesign
from qnn.pipeline import Pipeline
from qnn.store import Store
from qnn.tools.finn import NodeValues

WRONG = "MVAU_rtl_0"


def without_cppsim(*_arguments: object, **_options: object) -> None:
    """It takes g++ a minute; tests/test_diff_cppsim.py is about it."""
    raise ToolMissing("no compiler")


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pipeline, "cppsim_run", without_cppsim)


@pytest.mark.slow
def test_a_right_network_is_equal_at_every_hop_that_can_run(shared_store: Store, tmp_path: Path) -> None:
    found = list(diff.hops(SmallPipeline(store=shared_store), CELL, [3, 7], tmp_path))
    assert [hop.name for hop in found if hop.not_run is None] == [
        "Brevitas",
        "QONNX",
        "FINN-ONNX",
        "FINN's thresholds",
        "streamlined graph",
        "hardware graph",
        "RTL",
    ]
    assert {hop.name: hop.not_run for hop in found if hop.not_run} == {
        "cppsim": "no compiler",
        "cppsim, fused": "no compiler",
    }
    assert [hop.difference for hop in found] == [None] * 9
    assert {hop.name: hop.compared for hop in found}["streamlined graph"] == 2 * (16 + 8 + 8 + 4)


def test_the_first_wrong_hop_and_node_are_named_with_the_image_of_the_data_set(
    shared_store: Store, tmp_path: Path
) -> None:
    found = {hop.name: hop for hop in diff.hops(WrongRtl(store=shared_store, wrong=WRONG), CELL, [3, 7], tmp_path)}
    assert [name for name, hop in found.items() if hop.difference] == ["RTL"]
    assert f"the first wrong node is {WRONG} (MVAU_rtl)" in str(found["RTL"].difference)
    assert "; image 3, channel 0: expected" in str(found["RTL"].difference)


def test_a_wrong_node_of_a_graph_is_named_too(
    shared_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = Pipeline.graph_nodes

    def wrong(self: Pipeline, cell: Cell, images: Sequence[int]) -> list[NodeValues]:
        nodes = right(self, cell, images)
        return [*nodes[:2], replace(nodes[2], values=nodes[2].values + 1), *nodes[3:]]

    monkeypatch.setattr(Pipeline, "graph_nodes", wrong)
    found = {hop.name: hop for hop in diff.hops(SmallPipeline(store=shared_store), CELL, [5], tmp_path)}
    assert "the first wrong node is Thresholding_1 (Thresholding)" in str(found["hardware graph"].difference)
    assert found["RTL"].difference is None


def test_a_wrong_code_of_qonnx_is_named_with_its_image(
    shared_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = Pipeline.qonnx_run

    def wrong(self: Pipeline, cell: Cell) -> dict[str, np.ndarray]:
        run = right(self, cell)
        codes = run["codes_1"].copy()
        codes[7, 2] = -codes[7, 2] - 1
        return {**run, "codes_1": codes}

    monkeypatch.setattr(Pipeline, "qonnx_run", wrong)
    found = {hop.name: hop for hop in diff.hops(SmallPipeline(store=shared_store), CELL, [3, 7], tmp_path)}
    assert "QONNX, activation 1, first image 7: " in str(found["QONNX"].difference)


def test_wrong_accumulators_of_the_rtl_are_told_with_the_node_and_a_reproducer(
    shared_store: Store, tmp_path: Path
) -> None:
    pipeline = WrongRtl(store=shared_store, wrong=WRONG)
    expected = pipeline.hardware_model(CELL).network.evaluate(pipeline.images(CELL).pixels)
    got = pipeline.rtl_nodes(CELL, range(IMAGES))[-1].values
    assert (got != expected).any()
    with pytest.raises(EquivalenceError) as told:
        diff.require_equal_rtl(pipeline, CELL, expected, got, tmp_path)
    folder = tmp_path / f"{CELL}-RTL-{WRONG}"
    assert f"the first wrong node is {WRONG} (MVAU_rtl)" in str(told.value)
    assert str(told.value).endswith(f"reproducer: {folder}")
    assert (folder / "rtl" / WRONG / "memblock.dat").exists()
    diff.require_equal_rtl(pipeline, CELL, expected, expected.copy(), tmp_path)


@dataclass(frozen=True, kw_only=True)
class LosingABeat(SmallPipeline):
    """A FIFO of its RTL takes the last beat of image 1 and gives it to nobody."""

    def design(self, cell: Cell) -> HardwareDesign:
        beats = self.dataflow(cell).layers[2].output_elements // self.dataflow(cell).layers[2].output_lanes
        return losing_a_beat(super().design(cell), "StreamingFIFO_rtl_1", 2 * beats - 1)


def test_a_standstill_is_told_with_the_node_that_stopped_and_a_reproducer(shared_store: Store, tmp_path: Path) -> None:
    pipeline = LosingABeat(store=shared_store)
    with pytest.raises(DeadlockError) as told:
        diff.run_on_device(pipeline, CELL, tmp_path)
    first, located, folder = str(told.value).split("\n")
    assert "no FIFO is too shallow" in first
    assert "the first wrong node is StreamingFIFO_rtl_1 " in located
    assert folder == f"reproducer: {tmp_path / f'{CELL}-RTL-StreamingFIFO_rtl_1'}"


def test_images_that_are_wrong_in_the_batch_alone_are_told_so(shared_store: Store, tmp_path: Path) -> None:
    pipeline = SmallPipeline(store=shared_store)
    expected = pipeline.hardware_model(CELL).network.evaluate(pipeline.images(CELL).pixels)
    got = expected.copy()
    got[5, 1] += 1
    with pytest.raises(EquivalenceError, match="every node is right when these images are streamed alone") as told:
        diff.require_equal_rtl(pipeline, CELL, expected, got, tmp_path)
    assert str(told.value).endswith(f"reproducer: {tmp_path / f'{CELL}-RTL-whole'}")
    assert len(np.load(tmp_path / f"{CELL}-RTL-whole" / "inputs.npy")) == 6


@pytest.mark.parametrize(("images", "told"), [([IMAGES], r"\[12\]"), ([-1, 3], r"\[-1\]"), ([], "none")])
def test_an_image_that_the_data_set_has_not_is_refused(shared_store: Store, images: list[int], told: str) -> None:
    with pytest.raises(CellError, match=rf"fashion-mnist has the test images 0 to 11, not {told}"):
        list(diff.hops(SmallPipeline(store=shared_store), CELL, images, Path()))


def test_the_command_prints_every_hop_and_fails_where_one_differs(
    shared_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["diff", "A3W3", "--image", "3", "--folding", "2x4", "--results", str(tmp_path)]
    monkeypatch.setattr("qnn.pipeline.Pipeline", lambda store: SmallPipeline(store=store))
    assert cli.main([*arguments, "--store", str(shared_store.root)]) == 0
    assert "streamlined graph" in capsys.readouterr().out
    monkeypatch.setattr("qnn.pipeline.Pipeline", lambda store: WrongRtl(store=store, wrong=WRONG))
    assert cli.main([*arguments, "--store", str(shared_store.root)]) == 1
    out, error = capsys.readouterr()
    assert f"the first wrong node is {WRONG}" in out
    assert f"reproducer: {tmp_path / 'reproducers'}" in out
    assert error == f"error: {CELL} differs at: RTL\n"
