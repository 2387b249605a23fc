"""A netlist that is wrong is named by its node, or is there whole where only the whole shows it.

The small network's RTL takes the place of a netlist: tests/test_netlist.py is about real ones.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from small import CELL, IMAGES, SmallPipeline, WrongRtl, run_reproducer

from qnn import diff
from qnn.cell import Cell
from qnn.errors import EquivalenceError
from qnn.hdl import HardwareDesign
from qnn.pipeline import DeviceRun
from qnn.store import Store
from qnn.tools import verilator

WRONG = "MVAU_rtl_0"


@dataclass(frozen=True, kw_only=True)
class WithNetlist(SmallPipeline):
    """The RTL of another pipeline is its netlist."""

    other: SmallPipeline

    def images_to_simulate(self, cell: Cell) -> int:
        return IMAGES

    def netlist_design(self, cell: Cell) -> HardwareDesign:
        return self.other.simulated_design(cell)

    def netlist_simulator(self, cell: Cell) -> verilator.Simulator:
        return self.other.simulator(cell)

    def netlist_alone(self, cell: Cell, name: str) -> HardwareDesign:
        return self.other.node_alone(cell, name)


def test_a_wrong_node_of_a_netlist_is_named_and_shown(shared_store: Store, tmp_path: Path) -> None:
    pipeline = WithNetlist(store=shared_store, other=WrongRtl(store=shared_store, wrong=WRONG))
    rtl = pipeline.device_run(CELL)
    got = pipeline.other.rtl_nodes(CELL, range(IMAGES))[-1].values
    with pytest.raises(EquivalenceError) as told:
        diff.require_equal_netlist(pipeline, CELL, rtl, replace(rtl, accumulators=got), tmp_path)
    folder = tmp_path / f"{CELL}-netlist-{WRONG}"
    assert f"netlist: the first wrong node is {WRONG} (MVAU_rtl)" in str(told.value)
    assert str(told.value).endswith(f"reproducer: {folder}")
    done = run_reproducer(folder)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "netlist in Verilator: differs" in done.stdout


@pytest.mark.slow
def test_a_netlist_whose_cycles_alone_are_wrong_is_there_whole(
    shared_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qnn.pipeline.SIMULATION_SLICES", 1)  # so that the cycles of all images are told
    right = SmallPipeline(store=shared_store)
    pipeline = WithNetlist(store=shared_store, other=right)
    rtl = pipeline.device_run(CELL)
    diff.require_equal_netlist(pipeline, CELL, rtl, rtl, tmp_path)
    later: DeviceRun = replace(rtl, completions_cycles=rtl.completions_cycles + (np.arange(IMAGES) >= 5))
    for due, run, status in ((later, rtl, 1), (rtl, later, 0)):  # the netlist is late, or only said to be
        with pytest.raises(
            EquivalenceError, match="cycles of the netlist: 7 of 12 images differ; first image 5"
        ) as told:
            diff.require_equal_netlist(pipeline, CELL, due, run, tmp_path)
        folder = tmp_path / f"{CELL}-netlist-whole"
        assert str(told.value).endswith(f"reproducer: {folder}")
        done = run_reproducer(folder)
        assert done.returncode == status, done.stdout + done.stderr
        assert ("is done with vector 5 in cycle " in done.stdout) == (status == 1)


def test_a_wrong_netlist_of_a_node_alone_is_shown(shared_store: Store, tmp_path: Path) -> None:
    pipeline = WithNetlist(store=shared_store, other=WrongRtl(store=shared_store, wrong=WRONG))
    with pytest.raises(EquivalenceError, match=f"^{WRONG}, mean run between stalls 2: "):
        diff.require_nodes_alone(lambda: pipeline.other.node_checks(CELL), pipeline, CELL, tmp_path, netlist=True)
    assert (tmp_path / f"{CELL}-netlist-alone-{WRONG}" / "rtl" / WRONG).is_dir()
