"""Train many cells of the network at once: same images, same settings, one log and one network a cell.

From a seed every cell gets the initial weights, the order of images and the dropout masks that ``qnn.training`` gives
it alone, so a sweep is that training, up to the rounding of float sums.

The state is written after each epoch. Going on from it is bit-identical with the same versions; the number of
processes and whether the step was compiled are part of its identity, since both decide the order of sums.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from shutil import which

import torch

from qnn import preflight
from qnn.cell import BIT_WIDTHS, INPUT_BITS, Cell, Quantization
from qnn.datasets import Images
from qnn.errors import CellError, TrainingError
from qnn.files import write_atomically
from qnn.networks import Network, copy_state
from qnn.shard import EpochOutcome, Job, State, run_epochs
from qnn.training import (
    STATE_FORMAT,
    Epoch,
    Settings,
    Trained,
    evaluate,
    isolated,
    log_lines,
    pack_state,
    plain,
    unpack_state,
)

__all__ = ["ALL", "Sweep", "can_compile", "default_threads", "sweep"]

ALL = tuple(Quantization(activation_bits=a, weight_bits=w) for a in BIT_WIDTHS for w in BIT_WIDTHS)
"""The 49 cells of the study."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sweep:
    """A finished sweep."""

    trained: tuple[Trained, ...]
    """In the order asked for; the last test error is the Brevitas network's own."""
    stopped: Mapping[str, int]
    """Cells whose loss or weights were no longer finite, with the epoch in which that happened."""


def can_compile() -> bool:
    """Whether torch.compile has what it needs here: a C++ compiler and Python's headers (or a CUDA device)."""
    if torch.cuda.is_available():
        return True
    return which("g++") is not None and preflight.has_python_headers()


def default_threads() -> int:
    """What torch takes of itself here: one for each core."""
    return torch.get_num_threads()


def _check(cells: Sequence[Cell], settings: Settings, input_bits: int) -> None:
    if not cells:
        raise CellError("the set of cells is empty: name at least one, from A2W2 to A8W8")
    names = [str(cell.quantization) for cell in cells]
    if any(cell.quantization.is_float for cell in cells):
        raise CellError("a sweep trains quantised cells, from A2W2 to A8W8; train float by itself")
    if len(set(names)) < len(names):
        raise CellError(f"cells are named twice: {', '.join(sorted({n for n in names if names.count(n) > 1}))}")
    if len({(cell.network, cell.dataset) for cell in cells}) > 1:
        raise CellError("the cells of a sweep share one network and one data set")
    if input_bits not in BIT_WIDTHS:
        raise CellError(f"input_bits is {input_bits}: it has to be from {BIT_WIDTHS[0]} to {BIT_WIDTHS[-1]}")
    if settings.validation:
        raise TrainingError("a sweep holds no validation images out: set validation to 0")


class _Run:
    """A sweep in progress: its logs, and what is saved of it."""

    def __init__(
        self, cells: Sequence[Cell], settings: Settings, train: Images, *, compiled: bool, input_bits: int
    ) -> None:
        self.cells, self.settings = [cell.trained for cell in cells], settings
        # All that has to be the same for a resumed sweep to be bit-identical.
        self.identity = plain(
            {
                "format": STATE_FORMAT,
                "cells": " ".join(str(cell) for cell in self.cells),
                "training images": train.digest,
                **asdict(settings),
                "input_bits": input_bits,
                "torch version": torch.__version__,
                "brevitas version": version("brevitas"),
                "device": "cuda" if torch.cuda.is_available() else "cpu",
                "compiled": compiled,
            }
        )
        self.logs: list[list[Epoch]] = [[] for _ in self.cells]
        self.stopped: dict[str, int] = {}
        self.epochs_done = 0
        self.state: State | None = None

    def pack(self) -> bytes:
        assert self.state is not None
        state = {field.name: getattr(self.state, field.name) for field in fields(State)}
        state["arrays"] = {name: torch.from_numpy(array) for name, array in state["arrays"].items()}
        return pack_state(
            {
                "identity": self.identity,
                **state,
                "order": torch.from_numpy(state["order"]),
                "masks": torch.from_numpy(state["masks"]),
                "logs": [[asdict(row) for row in log] for log in self.logs],
                "stopped": self.stopped,
                "epochs done": self.epochs_done,
            }
        )

    def restore(self, path: Path) -> None:
        """Go on from a state. Raises CheckpointError where it is damaged or of another sweep."""
        saved = unpack_state(path, self.identity)
        self.state = State(
            arrays={name: tensor.numpy() for name, tensor in saved["arrays"].items()},
            steps=saved["steps"],
            order=saved["order"].numpy(),
            masks=saved["masks"].numpy(),
        )
        self.logs = [[Epoch(**row) for row in log] for log in saved["logs"]]
        self.stopped, self.epochs_done = saved["stopped"], saved["epochs done"]

    def log(self, outcome: EpochOutcome, images: int) -> None:
        """`images` were trained on, by each cell."""
        self.state = outcome.state
        self.epochs_done += 1
        for k, cell in enumerate(self.cells):
            # A stopped cell's numbers go on being computed (fewer cells would be compiled anew) and are ignored.
            if str(cell) in self.stopped:
                continue
            if not outcome.finite[k]:
                self.stopped[str(cell)] = self.epochs_done
                continue
            self.logs[k].append(
                Epoch(
                    epoch=self.epochs_done,
                    loss=float(outcome.losses[k]),
                    train_error=float(outcome.train_errors[k]),
                    test_error=float(outcome.test_errors[k]),
                    validation_error=None,
                    learning_rate=self.settings.learning_rate_in(self.epochs_done),
                    images_per_s=images / outcome.seconds,
                )
            )

    def rows(self, epoch: int) -> dict[str, Epoch]:
        """Of one epoch, by cell."""
        return {str(cell): log[epoch - 1] for cell, log in zip(self.cells, self.logs, strict=True) if len(log) >= epoch}

    def finished(self, test: Images, input_bits: int) -> Iterator[Trained]:
        """The cells that were not stopped, as Brevitas networks."""
        assert self.state is not None
        for k, (cell, log) in enumerate(zip(self.cells, self.logs, strict=True)):
            if str(cell) in self.stopped:
                continue
            network = Network(cell.quantization, input_bits=input_bits)
            copy_state(network, {name: torch.from_numpy(array)[k] for name, array in self.state.arrays.items()})
            network.eval().requires_grad_(False)
            last = replace(log[-1], test_error=evaluate(network, test))
            yield Trained(cell=cell, settings=self.settings, network=network, log=(*log[:-1], last))


def sweep(
    cells: Sequence[Cell],
    settings: Settings,
    *,
    train: Images,
    test: Images,
    folder: Path,
    input_bits: int = INPUT_BITS,
    compiled: bool | None = None,
    on_epoch: Callable[[int, Mapping[str, Epoch], Mapping[str, int]], None] = lambda epoch, rows, stopped: None,
    on_images: Callable[[int], None] = lambda count: None,
) -> Sweep:
    """Train `cells` on `train`, going on from the state in `folder` where there is one.

    `settings.threads` is the number of processes. Writes ``sweep-<network>-<dataset>.state`` and ``<cell>.jsonl`` after
    each epoch. `compiled` None compiles the step where that is possible and warns once where not. `on_epoch` is told of
    each epoch's rows by cell, and of the cells stopped so far; `on_images` of images times cells.

    Raises CellError where the set of cells is empty, names one twice, the float network or several data sets, or
    `input_bits` is not one of BIT_WIDTHS; CheckpointError where the state is damaged or of other cells, settings or
    images; TrainingError when no cell is left with a finite loss, or a process ended early; OSError where `folder`
    cannot be written.
    """
    _check(cells, settings, input_bits)
    if compiled is None:
        compiled = can_compile()
        if not compiled:
            _logger.warning("no g++ or no Python headers: the sweep runs uncompiled, several times slower")
    first = cells[0]
    path = folder / f"sweep-{first.network}-{first.dataset.replace('-', '_')}.state"
    # Found out now, not after the first epoch.
    write_atomically(folder / ".writable", b"")
    (folder / ".writable").unlink()
    run = _Run(cells, settings, train, compiled=compiled, input_bits=input_bits)

    def write_logs() -> None:
        for cell, log in zip(run.cells, run.logs, strict=True):
            write_atomically(folder / f"{cell}.jsonl", log_lines(tuple(log)).encode())

    def all_stopped() -> bool:
        return len(run.stopped) == len(run.cells)

    if path.exists():
        run.restore(path)
        write_logs()
        for number in range(1, run.epochs_done + 1):
            on_epoch(number, run.rows(number), run.stopped)
    if run.epochs_done < settings.epochs and not all_stopped():
        job = Job(
            quantizations=[cell.quantization for cell in run.cells],
            settings=settings,
            input_bits=input_bits,
            train=train,
            test=test,
            compiled=compiled,
            epochs_done=run.epochs_done,
            start=run.state,
        )
        images = len(train) // settings.batch_size * settings.batch_size
        with run_epochs(job, processes=settings.threads) as train_epoch:
            while run.epochs_done < settings.epochs and not all_stopped():
                run.log(train_epoch(on_images), images)
                write_atomically(path, run.pack())
                write_logs()
                on_epoch(run.epochs_done, run.rows(run.epochs_done), run.stopped)
    if all_stopped():
        raise TrainingError(
            f"no cell has a finite loss after epoch {run.epochs_done}: lower the learning rate "
            f"(it is {settings.learning_rate:g}) and delete {path}"
        )
    with isolated(1):
        return Sweep(trained=tuple(run.finished(test, input_bits)), stopped=dict(run.stopped))
