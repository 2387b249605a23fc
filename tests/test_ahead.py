"""Building ahead does every task and what follows from it, and ends when it is told to."""

import time
from dataclasses import dataclass
from pathlib import Path

from qnn.ahead import BuildAhead, Done, Step, Task
from qnn.cell import Cell, Quantization
from qnn.errors import ToolFailed

CELL = Cell(quantization=Quantization.parse("A3W3"))


@dataclass(frozen=True)
class _Pipeline:
    """Leaves a file for each step that was done."""

    folder: Path

    def dataflow(self, cell: Cell) -> None:
        (self.folder / f"dataflow {cell}").touch()

    def nodes(self, cell: Cell) -> tuple[str, ...]:
        return ("a", "b")

    def node_synthesis(self, cell: Cell, name: str) -> None:
        (self.folder / f"node {name}").touch()

    def graph_run(self, cell: Cell) -> None:
        raise ToolFailed("broken")

    def device_run(self, cell: Cell) -> None:
        (self.folder / "started").touch()
        time.sleep(600)


def _wait_for(folder: Path, *names: str) -> None:
    deadline = time.monotonic() + 60
    while not all((folder / name).exists() for name in names):
        assert time.monotonic() < deadline, f"not there after a minute: {names}"
        time.sleep(0.05)


def test_tasks_and_their_followers_are_done_and_a_failure_stops_nothing(tmp_path: Path) -> None:
    tasks = [Task(step=step, cell=CELL) for step in (Step.GRAPH_RUN, Step.SYNTHESIS, Step.DATAFLOW)]
    ended: list[Done] = []
    with BuildAhead(_Pipeline(tmp_path), tasks, workers=1, on_done=ended.append):  # type: ignore[arg-type]
        _wait_for(tmp_path, f"dataflow {CELL}", "node a", "node b")
    assert [str(done.task) for done in ended if done.failed] == ["graph run of tfc-fashion_mnist-A3W3"]
    assert "node synthesis of a in tfc-fashion_mnist-A3W3" in {str(done.task) for done in ended}


def test_leaving_ends_what_is_still_running(tmp_path: Path) -> None:
    with BuildAhead(_Pipeline(tmp_path), [Task(step=Step.DEVICE_RUN, cell=CELL)], workers=1):  # type: ignore[arg-type]
        _wait_for(tmp_path, "started")
        start = time.monotonic()
    assert time.monotonic() - start < 30
