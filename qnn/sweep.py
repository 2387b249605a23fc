"""Train many cells of the network at once: same images, same settings, one log and one network a cell.

From a seed every cell gets the initial weights, the order of images and the dropout masks that ``qnn.training`` gives
it alone, so a sweep is that training, up to the rounding of float sums.

Cells are computed in groups whose weights and optimiser fit the processor's cache, each group a whole epoch's stretch
of batches before the next. The state is written after each epoch. Going on from it is bit-identical with the same
versions and thread count where the step is not compiled; whether it was is part of the state's identity.
"""

import logging
import math
import sysconfig
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from shutil import which
from typing import Any

import torch
from torch import Tensor

from qnn import batched
from qnn.batched import BatchedNetwork
from qnn.cell import BIT_WIDTHS, Cell, Quantization
from qnn.datasets import Images
from qnn.errors import CellError, TrainingError
from qnn.files import write_atomically
from qnn.networks import Network
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
    tensors,
    unpack_state,
)

__all__ = ["ALL", "Sweep", "can_compile", "default_threads", "sweep"]

ALL = tuple(Quantization(activation_bits=a, weight_bits=w) for a in BIT_WIDTHS for w in BIT_WIDTHS)
"""The 49 cells of the study."""

GROUP = 7
"""Cells computed as one: weights, gradients and optimiser of a group take 8 MB."""
STRETCH = 20
"""Batches for which a group is trained before the next one is."""
EVALUATION_BATCH = 100

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
    return which("g++") is not None and (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file()


def default_threads() -> int:
    """What torch takes of itself here: one for each core."""
    return torch.get_num_threads()


def _check(cells: Sequence[Cell], settings: Settings) -> None:
    if not cells:
        raise CellError("the set of cells is empty: name at least one, from A2W2 to A8W8")
    names = [str(cell.quantization) for cell in cells]
    if any(cell.quantization.is_float for cell in cells):
        raise CellError("a sweep trains quantised cells, from A2W2 to A8W8; train float by itself")
    if len(set(names)) < len(names):
        raise CellError(f"cells are named twice: {', '.join(sorted({n for n in names if names.count(n) > 1}))}")
    if len({(cell.network, cell.dataset) for cell in cells}) > 1:
        raise CellError("the cells of a sweep share one network and one data set")
    if settings.validation:
        raise TrainingError("a sweep holds no validation images out: set validation to 0")


class _Group:
    """Cells computed as one, and their optimiser."""

    def __init__(self, networks: Sequence[Network], settings: Settings, device: torch.device) -> None:
        self.network: BatchedNetwork = batched.stack(networks, device=device)
        self.optimizer = torch.optim.Adam(
            self.network.parameters.values(),
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            fused=True,
        )
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(
            self.optimizer, milestones=list(settings.milestones), gamma=settings.decay
        )

    def finite(self) -> Tensor:
        """[G]: whether all parameters of a cell are finite."""
        return torch.stack(
            [
                tensor.detach().isfinite().flatten(1).all(1)
                for tensor in map(_at_least_2d, self.network.parameters.values())
            ]
        ).all(0)

    def state(self) -> dict[str, Any]:
        return {
            "network": {name: tensor.detach() for name, tensor in self.network.tensors.items()},
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for name, tensor in self.network.tensors.items():
                tensor.copy_(state["network"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])


def _at_least_2d(tensor: Tensor) -> Tensor:
    return tensor.unsqueeze(1) if tensor.dim() == 1 else tensor


class _Run:
    """A sweep in progress: all that an epoch reads and changes."""

    def __init__(
        self, cells: Sequence[Cell], settings: Settings, train: Images, test: Images, *, compiled: bool
    ) -> None:
        self.cells, self.settings = [cell.trained for cell in cells], settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.identity = plain(
            {
                "format": STATE_FORMAT,
                "cells": " ".join(str(cell) for cell in self.cells),
                "training images": train.digest,
                **asdict(settings),
                "torch version": torch.__version__,
                "brevitas version": version("brevitas"),
                "device": self.device.type,
                "compiled": compiled,
            }
        )
        self.pixels, self.labels = (tensor.to(self.device) for tensor in tensors(train))
        self.test_pixels, self.test_labels = (tensor.to(self.device) for tensor in tensors(test))
        networks = []
        for cell in self.cells:
            torch.manual_seed(settings.seed)
            networks.append(Network(cell.quantization))
        # As equal as they can be: another number of cells in a group is compiled anew.
        size = math.ceil(len(networks) / math.ceil(len(networks) / GROUP))
        self.groups = [
            _Group(networks[start : start + size], settings, self.device) for start in range(0, len(networks), size)
        ]
        self.order = torch.Generator().manual_seed(settings.seed)
        self.logs: list[list[Epoch]] = [[] for _ in self.cells]
        self.stopped: dict[str, int] = {}
        self.epochs_done = 0
        self._step = torch.compile(batched.train_forward, dynamic=False) if compiled else batched.train_forward
        self._forward = torch.compile(batched.forward, dynamic=False) if compiled else batched.forward

    def state(self) -> bytes:
        return pack_state(
            {
                "identity": self.identity,
                "groups": [group.state() for group in self.groups],
                "order": self.order.get_state(),
                "random": torch.get_rng_state(),
                "logs": [[asdict(row) for row in log] for log in self.logs],
                "stopped": self.stopped,
                "epochs done": self.epochs_done,
            }
        )

    def restore(self, path: Path) -> None:
        """Go on from a state. Raises CheckpointError where it is damaged or of another sweep."""
        state = unpack_state(path, self.identity)
        for group, saved in zip(self.groups, state["groups"], strict=True):
            group.restore(saved)
        self.order.set_state(state["order"])
        torch.set_rng_state(state["random"])
        self.logs = [[Epoch(**row) for row in log] for log in state["logs"]]
        self.stopped, self.epochs_done = state["stopped"], state["epochs done"]

    def _train(self, group: _Group, batches: Sequence[tuple[Tensor, Tensor, list[Tensor]]]) -> Tensor:
        """A stretch of batches; sums of losses and of wrong images, [2, G]."""
        sums = torch.zeros(2, len(group.network.weight_limits[0]), device=self.device)
        for x, labels, masks in batches:
            step = self._step(group.network, x, labels, masks)
            group.optimizer.zero_grad(set_to_none=True)
            # Cells share no parameter: the sum's gradient is each cell's own.
            step.losses.sum().backward()  # type: ignore[no-untyped-call]
            group.optimizer.step()
            sums += torch.stack([step.losses.detach(), step.wrong.to(sums.dtype)])
        return sums

    def _test_errors(self) -> list[float]:
        wrong = []
        with torch.no_grad():
            for group in self.groups:
                count = torch.zeros(len(group.network.weight_limits[0]), dtype=torch.int64, device=self.device)
                for start in range(0, len(self.test_labels), EVALUATION_BATCH):
                    batch = slice(start, start + EVALUATION_BATCH)
                    pixels, labels = self.test_pixels[batch], self.test_labels[batch]
                    logits = self._forward(group.network, Network.normalise(pixels.float()))
                    count += (logits.argmax(2) != labels).sum(1)
                wrong += count.tolist()
        return [count / len(self.test_labels) for count in wrong]

    def _batches(self, chosen: Tensor) -> Iterator[tuple[Tensor, Tensor, list[Tensor]]]:
        for batch in chosen:
            masks = [mask.to(self.device) for mask in batched.draw_masks(len(batch))]
            yield Network.normalise(self.pixels[batch].float()), self.labels[batch], masks

    def epoch(self, on_images: Callable[[int], None]) -> None:
        size, start_s = self.settings.batch_size, time.monotonic()
        learning_rate = self.groups[0].optimizer.param_groups[0]["lr"]
        order = torch.randperm(len(self.labels), generator=self.order)
        count = len(order) // size
        sums = torch.zeros(2, len(self.cells), dtype=torch.float64)
        for chosen in order[: count * size].view(count, size).split(STRETCH):  # type: ignore[no-untyped-call]
            batches = list(self._batches(chosen.to(self.device)))
            sums += torch.cat([self._train(group, batches) for group in self.groups], dim=1).cpu()
            on_images(len(chosen) * size * len(self.cells))
        images_per_s = count * size / (time.monotonic() - start_s)
        finite = torch.cat([group.finite() for group in self.groups]).cpu() & sums[0].isfinite()
        for group in self.groups:
            group.scheduler.step()
        self.epochs_done += 1
        for k, (cell, test_error) in enumerate(zip(self.cells, self._test_errors(), strict=True)):
            # A stopped cell's numbers go on being computed (fewer cells would be compiled anew) and are ignored.
            if str(cell) in self.stopped:
                continue
            if not finite[k]:
                self.stopped[str(cell)] = self.epochs_done
                continue
            self.logs[k].append(
                Epoch(
                    epoch=self.epochs_done,
                    loss=sums[0, k].item() / count,
                    train_error=sums[1, k].item() / (count * size),
                    test_error=test_error,
                    validation_error=None,
                    learning_rate=learning_rate,
                    images_per_s=images_per_s,
                )
            )

    def finished(self, test: Images) -> Iterator[Trained]:
        """The cells that were not stopped, as Brevitas networks."""
        networks = ((group.network, k) for group in self.groups for k in range(len(group.network.weight_limits[0])))
        for cell, log, (stacked, k) in zip(self.cells, self.logs, networks, strict=True):
            if str(cell) not in self.stopped:
                network = Network(cell.quantization)
                stacked.write_to(k, network)
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
    compiled: bool | None = None,
    on_epoch: Callable[[int, Mapping[str, Epoch], Mapping[str, int]], None] = lambda epoch, rows, stopped: None,
    on_images: Callable[[int], None] = lambda count: None,
) -> Sweep:
    """Train `cells` on `train`, going on from the state in `folder` where there is one.

    Writes ``sweep-<network>-<dataset>.state`` and ``<cell>.jsonl`` after each epoch. `compiled` None compiles the
    step where that is possible and warns once where not. `on_epoch` is told of each epoch's rows by cell, and of the
    cells stopped so far; `on_images` of images times cells.

    Raises CellError where the set of cells is empty, names one twice, the float network, or several data sets;
    CheckpointError where the state is damaged or of other cells, settings or images; TrainingError when no cell is
    left with a finite loss; OSError where `folder` cannot be written.
    """
    _check(cells, settings)
    if compiled is None:
        compiled = can_compile()
        if not compiled:
            _logger.warning("no g++ or no Python headers: the sweep runs uncompiled, several times slower")
    first = cells[0]
    state = folder / f"sweep-{first.network}-{first.dataset.replace('-', '_')}.state"
    # Found out now, not after the first epoch.
    write_atomically(folder / ".writable", b"")
    (folder / ".writable").unlink()

    def write_logs() -> None:
        for cell, log in zip(run.cells, run.logs, strict=True):
            write_atomically(folder / f"{cell}.jsonl", log_lines(tuple(log)).encode())

    with isolated(settings.threads), warnings.catch_warnings():
        # Brevitas and torch.compile say what is no business of a sweep's user.
        for category in (UserWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", category=category, module="torch")
        run = _Run(cells, settings, train, test, compiled=compiled)
        torch.manual_seed(settings.seed)
        Network(first.quantization)  # a network alone draws its weights before the first mask
        if state.exists():
            run.restore(state)
            write_logs()
            for number in range(1, run.epochs_done + 1):
                on_epoch(number, _rows(run, number), run.stopped)
        while run.epochs_done < settings.epochs and len(run.stopped) < len(run.cells):
            run.epoch(on_images)
            write_atomically(state, run.state())
            write_logs()
            on_epoch(run.epochs_done, _rows(run, run.epochs_done), run.stopped)
        if len(run.stopped) == len(run.cells):
            raise TrainingError(
                f"no cell has a finite loss after epoch {run.epochs_done}: lower the learning rate "
                f"(it is {settings.learning_rate:g}) and delete {state}"
            )
        return Sweep(trained=tuple(run.finished(test)), stopped=dict(run.stopped))


def _rows(run: _Run, epoch: int) -> dict[str, Epoch]:
    return {str(cell): log[epoch - 1] for cell, log in zip(run.cells, run.logs, strict=True) if len(log) >= epoch}
