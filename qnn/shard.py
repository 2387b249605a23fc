"""The cells of a sweep, shared out to processes of one thread each.

One process with many threads would wait for its slowest thread at the end of every small operation. Cells have nothing
to tell each other, so each process trains its own from the first batch to the last.
"""

import multiprocessing
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qnn import batched
from qnn.batched import BatchedNetwork
from qnn.cell import Quantization
from qnn.datasets import Images
from qnn.errors import TrainingError
from qnn.networks import Network
from qnn.training import Settings, isolated, tensors

__all__ = ["EpochOutcome", "Job", "State", "run_epochs"]

GROUP = 4
"""Cells computed as one, at most: with more, what one step touches no longer stays in a core's cache."""
STRETCH = 20
"""Batches for which a group is trained before the next one is."""
EVALUATION_BATCH = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """All that the rest of a training depends on, as it stands after an epoch."""

    arrays: Mapping[str, NDArray[np.float32]]
    """[cells, ...] by the names of Network's state; those of Adam's moments with its prefix ``exp_avg.`` before."""
    steps: int
    """Optimiser steps made."""
    order: NDArray[np.uint8]
    """The generator that shuffles the images."""
    masks: NDArray[np.uint8]
    """Torch's default generator, which draws the dropout masks."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EpochOutcome:
    """What one epoch did to each cell, in their order."""

    losses: NDArray[np.float64]
    """Mean over the batches."""
    train_errors: NDArray[np.float64]
    test_errors: NDArray[np.float64]
    finite: NDArray[np.bool_]
    """Whether the loss and all parameters are finite numbers."""
    seconds: float
    """Of training, without evaluation."""
    state: State


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """What a shard needs to start."""

    quantizations: Sequence[Quantization]
    settings: Settings
    input_bits: int
    train: Images
    test: Images
    compiled: bool
    epochs_done: int
    start: State | None
    """None begins from the seed."""


class _Group:
    """Cells computed as one, and their optimiser."""

    def __init__(self, networks: Sequence[Network], settings: Settings, device: torch.device) -> None:
        self.network: BatchedNetwork = batched.stack(networks, device=device)
        self.size = len(networks)
        self.adam = batched.Adam(
            exp_avg=torch.zeros_like(self.network.parameters),
            exp_avg_sq=torch.zeros_like(self.network.parameters),
            beta1=settings.beta1,
            beta2=settings.beta2,
        )

    def arrays(self) -> dict[str, Tensor]:
        """Views of all that training changes, [size, ...], by the names of State."""
        found = {**self.network.named(self.network.parameters), **self.network.statistics}
        for kind in ("exp_avg", "exp_avg_sq"):
            moments = self.network.named(getattr(self.adam, kind))
            found |= {f"{kind}.{name}": moment for name, moment in moments.items()}
        return found

    def finite(self) -> Tensor:
        """[size]: whether all parameters of a cell are finite."""
        named = self.network.named(self.network.parameters)
        return torch.stack([tensor.isfinite().reshape(self.size, -1).all(1) for tensor in named.values()]).all(0)


def _equal_parts(items: Sequence[Any], count: int) -> list[Sequence[Any]]:
    return [items[len(items) * k // count : len(items) * (k + 1) // count] for k in range(count)]


class _Shard:
    """Cells trained by one process: all that an epoch of them reads and changes."""

    def __init__(self, job: Job) -> None:
        settings = self.settings = job.settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.pixels, self.labels = (tensor.to(self.device) for tensor in tensors(job.train))
        self.test_pixels, self.test_labels = (tensor.to(self.device) for tensor in tensors(job.test))
        networks = []
        for quantization in job.quantizations:
            torch.manual_seed(settings.seed)
            # A network alone draws its weights before the first mask, and so do these.
            networks.append(Network(quantization, input_bits=job.input_bits))
        groups = 1 if self.device.type == "cuda" else -(-len(networks) // GROUP)
        self.groups = [_Group(part, settings, self.device) for part in _equal_parts(networks, groups)]
        self.order = torch.Generator().manual_seed(settings.seed)
        self.epochs_done = job.epochs_done
        self.steps = 0
        if job.start is not None:
            self._restore(job.start)
        self._step, self._forward = batched.train_step, batched.forward
        if job.compiled:
            self._step = torch.compile(self._step, dynamic=False, fullgraph=True)
            self._forward = torch.compile(self._forward, dynamic=False, fullgraph=True)

    def _restore(self, state: State) -> None:
        first = 0
        for group in self.groups:
            part = slice(first, first + group.size)
            for name, tensor in group.arrays().items():
                tensor.copy_(torch.from_numpy(state.arrays[name])[part])
            first += group.size
        self.steps = state.steps
        self.order.set_state(torch.from_numpy(state.order))
        torch.set_rng_state(torch.from_numpy(state.masks))

    def _state(self) -> State:
        groups = [group.arrays() for group in self.groups]
        return State(
            arrays={name: torch.cat([group[name] for group in groups]).cpu().numpy() for name in groups[0]},
            steps=self.steps,
            order=self.order.get_state().numpy(),
            masks=torch.get_rng_state().numpy(),
        )

    def _train(self, group: _Group, batches: Sequence[tuple[Tensor, Tensor, list[Tensor]]]) -> Tensor:
        """A stretch of batches; sums of losses and of wrong images, [2, size]."""
        sums = torch.zeros(2, group.size, device=self.device)
        learning_rate = self.settings.learning_rate_in(self.epochs_done + 1)
        for number, (pixels, labels, masks) in enumerate(batches, start=self.steps + 1):
            rates = group.adam.rates(learning_rate, number)
            step = self._step(group.network, group.adam, rates, pixels, labels, masks)
            sums += torch.stack([step.losses, step.wrong.to(sums.dtype)])
        return sums

    def _test_errors(self) -> NDArray[np.float64]:
        wrong = []
        for group in self.groups:
            count = torch.zeros(group.size, dtype=torch.int64, device=self.device)
            for start in range(0, len(self.test_labels), EVALUATION_BATCH):
                batch = slice(start, start + EVALUATION_BATCH)
                logits = self._forward(group.network, self.test_pixels[batch])
                count += (logits.argmax(2) != self.test_labels[batch]).sum(1)
            wrong += count.tolist()
        return np.array(wrong) / len(self.test_labels)

    def _batches(self, chosen: Tensor) -> Iterator[tuple[Tensor, Tensor, list[Tensor]]]:
        for batch in chosen:
            masks = [mask.to(self.device) for mask in batched.draw_masks(len(batch))]
            yield self.pixels[batch], self.labels[batch], masks

    def epoch(self) -> Iterator[int | EpochOutcome]:
        """Images times cells as they are trained, and at last the outcome."""
        size, start_s = self.settings.batch_size, time.monotonic()
        order = torch.randperm(len(self.labels), generator=self.order)
        count = len(order) // size
        cells = sum(group.size for group in self.groups)
        sums = torch.zeros(2, cells, dtype=torch.float64)
        for chosen in order[: count * size].view(count, size).split(STRETCH):  # type: ignore[no-untyped-call]
            batches = list(self._batches(chosen.to(self.device)))
            sums += torch.cat([self._train(group, batches) for group in self.groups], dim=1).cpu()
            self.steps += len(chosen)
            yield len(chosen) * size * cells
        seconds = time.monotonic() - start_s
        self.epochs_done += 1
        finite = torch.cat([group.finite() for group in self.groups]).cpu() & sums[0].isfinite()
        yield EpochOutcome(
            losses=sums[0].numpy() / count,
            train_errors=sums[1].numpy() / (count * size),
            test_errors=self._test_errors(),
            finite=finite.numpy(),
            seconds=seconds,
            state=self._state(),
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Brevitas and torch.compile say what is no business of a sweep's user."""
    with warnings.catch_warnings():
        for category in (UserWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", category=category, module="torch")
        yield


def _serve(connection: Connection, job: Job) -> None:
    """A process of its own: an epoch for each message, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this process
    torch.set_num_threads(1)
    try:
        with _quiet(), torch.no_grad():
            shard = _Shard(job)
            while connection.recv():
                for message in shard.epoch():
                    connection.send(message)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone


def _merge(outcomes: Sequence[EpochOutcome]) -> EpochOutcome:
    states = [outcome.state for outcome in outcomes]
    return EpochOutcome(
        **{
            name: np.concatenate([getattr(outcome, name) for outcome in outcomes])
            for name in ("losses", "train_errors", "test_errors", "finite")
        },
        seconds=max(outcome.seconds for outcome in outcomes),
        state=replace(
            states[0],
            arrays={name: np.concatenate([state.arrays[name] for state in states]) for name in states[0].arrays},
        ),
    )


def _collect(connections: Sequence[Connection], on_images: Callable[[int], None]) -> EpochOutcome:
    outcomes: dict[Connection, EpochOutcome] = {}
    for connection in connections:
        connection.send(True)
    while len(outcomes) < len(connections):
        for ready in wait([c for c in connections if c not in outcomes]):
            assert isinstance(ready, Connection)
            try:
                message = ready.recv()
            except (EOFError, ConnectionResetError):
                raise TrainingError(
                    "a process of the sweep has ended; what it said stands above, or it was killed (is memory short?). "
                    "The same command goes on after the last whole epoch"
                ) from None
            if isinstance(message, int):
                on_images(message)
            else:
                outcomes[ready] = message
    return _merge([outcomes[connection] for connection in connections])


def _cells(job: Job, part: slice) -> Job:
    start = job.start
    if start is not None:
        start = replace(start, arrays={name: array[part] for name, array in start.arrays.items()})
    return replace(job, quantizations=job.quantizations[part], start=start)


@contextmanager
def run_epochs(job: Job, *, processes: int) -> Iterator[Callable[[Callable[[int], None]], EpochOutcome]]:
    """Give a function that trains all cells for one more epoch; it is told what to call with images times cells.

    One process is this one; more are started. Raises TrainingError where one of them ends early.
    """
    count = min(processes, len(job.quantizations))
    if count == 1 or torch.cuda.is_available():
        with isolated(1), _quiet(), torch.no_grad():
            shard = _Shard(job)

            def here(on_images: Callable[[int], None]) -> EpochOutcome:
                for message in shard.epoch():
                    if isinstance(message, EpochOutcome):
                        return message
                    on_images(message)
                raise AssertionError("an epoch ends with its outcome")

            yield here
        return
    # Forking would copy torch's threads half-way through what they do.
    context = multiprocessing.get_context("spawn")
    connections, children = [], []
    try:
        for part in _equal_parts(range(len(job.quantizations)), count):
            near, far = context.Pipe()
            child = context.Process(
                target=_serve, args=(far, _cells(job, slice(part[0], part[-1] + 1))), daemon=True, name="sweep"
            )
            child.start()
            far.close()
            connections.append(near)
            children.append(child)
        yield lambda on_images: _collect(connections, on_images)
    finally:
        for connection in connections:
            connection.close()
        for child in children:
            child.terminate()
            child.join()
