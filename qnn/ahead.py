"""Artifacts built ahead, on every core, by worker processes, while someone else uses them one after another.

A step that is asked for twice, here and by the user, is built once: the store's locks let the second wait. What fails
here is not reported here; whoever needs the artifact builds it again and gets the error.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from types import FrameType, TracebackType
from typing import Any

from qnn.errors import QnnError
from qnn.own_model import OwnModel
from qnn.own_pipeline import OwnPipeline
from qnn.pipeline import HardwarePipeline, Source

__all__ = ["BuildAhead", "Done", "Step", "Task"]


class Step(StrEnum):
    """What can be built ahead of a cell or a model from outside."""

    OWN_MODEL = "compilation"
    """How far FINN takes a model from outside."""
    OWN_CPPSIM = "cppsim, thresholds apart"
    QONNX_RUN = "qonnx run"
    DATAFLOW = "dataflow"
    GRAPH_RUN = "graph run"
    DEVICE_RUN = "device run"
    CPPSIM = "cppsim"
    """Both HLS variants."""
    SYNTHESIS = "synthesis"
    NODE_SYNTHESIS = "node synthesis"
    FIFO_SIZING = "FIFO sizing"
    SIZED_RUN = "sized run"
    NODE_SIMULATION = "node simulation"
    NODE_CHECKS = "nodes alone"
    NETLIST_RUN = "netlist run"
    NETLIST_NODE_CHECKS = "netlists alone"
    NETLIST_TIMING = "netlist timing"


_STAGES = {Step.DEVICE_RUN: "rtl", Step.OWN_CPPSIM: "cppsim", Step.SYNTHESIS: "rtl"}
"""What a model from outside has to be taken to by FINN."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One step of one cell or model; `node` for NODE_SYNTHESIS."""

    step: Step
    cell: Source
    node: str | None = None
    then: tuple[Step, ...] = ()
    """What follows SYNTHESIS, once all nodes are begun; and OWN_MODEL, as far as FINN takes the model."""

    def __str__(self) -> str:
        return f"{self.step} of {self.node or ''}{' in ' if self.node else ''}{self.cell}"


@dataclass(frozen=True, kw_only=True)
class Done:
    """A task that a worker has ended with."""

    task: Task
    seconds: float
    """Close to 0 where the store had the artifact."""
    failed: bool
    following: tuple[Task, ...]
    """What can be done next."""


def _run(pipeline: HardwarePipeline[Any], task: Task) -> Done:
    """Do `task` in a worker. A QnnError ends the branch: whoever needs the artifact will get it too.

    While it runs SIGTERM unwinds it, so that what it has started is killed and what it has half built is removed.
    """
    signal.signal(signal.SIGTERM, _leave)
    start = time.monotonic()
    try:
        following, failed = _do(pipeline, task), False
    except QnnError:
        following, failed = [], True
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return Done(task=task, seconds=time.monotonic() - start, failed=failed, following=tuple(following))


def _do(pipeline: HardwarePipeline[Any], task: Task) -> list[Task]:
    cell = task.cell
    match task.step:
        case Step.OWN_MODEL:
            assert isinstance(pipeline, OwnPipeline)
            assert isinstance(cell, OwnModel)
            refused = pipeline.compilation(cell).refused
            return [Task(step=step, cell=cell) for step in task.then if _STAGES[step] not in refused]
        case Step.OWN_CPPSIM:
            pipeline.cppsim_run(cell, standalone_thresholds=True)
        case Step.QONNX_RUN:
            pipeline.qonnx_run(cell)
        case Step.DATAFLOW:
            pipeline.dataflow(cell)
        case Step.GRAPH_RUN:
            pipeline.graph_run(cell)
        case Step.DEVICE_RUN:
            pipeline.device_run(cell)
        case Step.CPPSIM:
            for standalone in (True, False):
                pipeline.cppsim_run(cell, standalone_thresholds=standalone)
        case Step.SYNTHESIS:
            nodes = [Task(step=Step.NODE_SYNTHESIS, cell=cell, node=name) for name in pipeline.nodes(cell)]
            return [*nodes, *(Task(step=step, cell=cell) for step in task.then)]
        case Step.FIFO_SIZING:
            pipeline.fifo_sizing(cell)
            return [Task(step=Step.SIZED_RUN, cell=cell)]
        case Step.SIZED_RUN:
            pipeline.sized_run(cell)
        case Step.NODE_SIMULATION:
            pipeline.node_simulation(cell)
        case Step.NODE_CHECKS:
            pipeline.node_checks(cell)
        case Step.NETLIST_NODE_CHECKS:
            pipeline.netlist_node_checks(cell)
        case Step.NETLIST_RUN:
            pipeline.netlist_run(cell)
        case Step.NETLIST_TIMING:
            pipeline.timing(cell)
        case Step.NODE_SYNTHESIS:
            assert task.node is not None
            pipeline.node_synthesis(cell, task.node)
    return []


def _leave(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: the way out must not be interrupted
    raise SystemExit(1)


def _prepare_worker() -> None:
    """End the worker, with what it has started, when its parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which then stops the workers
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


class BuildAhead:
    """A pool of worker processes on a list of tasks: ``with BuildAhead(pipeline, tasks, workers=2): ...``.

    `on_done` is told of each task that has ended, in another thread. Leaving the block ends the workers and all that
    they have started.
    """

    def __init__(
        self,
        pipeline: HardwarePipeline[Any],
        tasks: Iterable[Task],
        *,
        workers: int,
        on_done: Callable[[Done], None] = lambda done: None,
    ) -> None:
        self._pipeline = pipeline
        self._on_done = on_done
        self._tasks = list(dict.fromkeys(tasks))
        self._workers = workers

    def __enter__(self) -> "BuildAhead":
        context = multiprocessing.get_context("spawn")
        self._pool = context.Pool(self._workers, _prepare_worker)
        self._submit(self._tasks)
        return self

    def _submit(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            self._pool.apply_async(_run, (self._pipeline, task), callback=self._done)

    def _done(self, done: Done) -> None:
        """Called in a thread of the pool."""
        self._submit(done.following)
        self._on_done(done)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.terminate()
        self._pool.join()
