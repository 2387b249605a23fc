"""Train one network: seeded, logged, and resumable at any epoch, bit-identical to a run that was not interrupted.

The training state, written whole after each epoch, holds the float weights, the optimiser, the scheduler, the random
generators and the log so far; the log file is written from it. All randomness (initial weights, order of images,
dropout) comes from the state, and the number of threads is one of the settings, since it decides the order of sums.
"""

import hashlib
import io
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qnn.cell import Cell
from qnn.datasets import Images
from qnn.errors import CheckpointError, TrainingError
from qnn.files import write_atomically
from qnn.networks import Network, copy_state, torch_threads

__all__ = ["Epoch", "Settings", "Trained", "evaluate", "train"]

STATE_FORMAT = 1
CHECKSUM_BYTES = hashlib.sha256().digest_size
EVALUATION_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Hyper-parameters; the defaults are Table I of the study. Adam's betas are its momentum, 0.9, and 0.999."""

    epochs: int = 100
    batch_size: int = 100
    learning_rate: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    milestones: tuple[int, ...] = (90, 95)
    """Epochs after which the learning rate is multiplied by `decay`."""
    decay: float = 0.1
    seed: int = 0
    validation: int = 0
    """Training images held out, chosen by the seed, whose error is logged; 0 trains on all, as in the study."""
    threads: int = 1
    """Threads of one training: part of the settings, since float sums depend on it. Two networks gain more from two
    cores than one does."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or self.threads < 1:
            raise TrainingError("epochs and threads have to be 1 or more, batch_size 2 or more (batch norm needs two)")
        if self.validation < 0 or not self.learning_rate > 0:
            raise TrainingError("validation must not be negative and learning_rate has to be above 0")

    def learning_rate_in(self, epoch: int) -> float:
        """Of an epoch, counted from 1."""
        passed = sum(milestone < epoch for milestone in self.milestones)
        return math.prod([self.decay] * passed, start=self.learning_rate)


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One line of the log. Error rates are fractions of 1."""

    epoch: int
    """From 1."""
    loss: float
    """Mean cross entropy over the epoch's batches, in training mode."""
    train_error: float
    """Over the epoch's batches as they were trained on, dropout included."""
    test_error: float
    validation_error: float | None
    """None where no images are held out."""
    learning_rate: float
    images_per_s: float
    """Training speed on this host; the only number that differs from run to run."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A finished training: the network in eval mode as the last epoch left it, and its log."""

    cell: Cell
    settings: Settings
    network: Network
    log: tuple[Epoch, ...]


@contextmanager
def isolated(threads: int) -> Iterator[None]:
    """Torch's default generator and thread count for our own use, given back as they were."""
    with torch.random.fork_rng(devices=[]), torch_threads(threads):
        yield


def tensors(images: Images) -> tuple[Tensor, Tensor]:
    return torch.tensor(images.pixels), torch.tensor(images.labels, dtype=torch.int64)


def _error_rate(network: nn.Module, pixels: Tensor, labels: Tensor) -> float:
    training = network.training
    network.eval()
    wrong = 0
    with torch.no_grad():
        for start in range(0, len(labels), EVALUATION_BATCH):
            batch = slice(start, start + EVALUATION_BATCH)
            wrong += int((network(pixels[batch].float()).argmax(1) != labels[batch]).sum())
    network.train(training)
    return wrong / len(labels)


def evaluate(network: nn.Module, images: Images) -> float:
    """Fraction of images whose largest logit is not their label's, in eval mode; the network keeps its own mode."""
    return _error_rate(network, *tensors(images))


def plain(value: Any) -> Any:
    """`value` as JSON gives it back (tuples become lists), so that what was saved compares equal."""
    return json.loads(json.dumps(value))


def pack_state(state: dict[str, Any]) -> bytes:
    """A training state behind the SHA-256 of what follows: torch itself does not notice a changed byte."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue()


def unpack_state(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Read a state. Raises CheckpointError where it is damaged or its ``identity`` is not `identity`."""
    content = path.read_bytes()
    checksum, content = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
    if hashlib.sha256(content).digest() != checksum:
        raise CheckpointError(f"{path} is damaged or not a training state: delete it to start again")
    state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
    found = state["identity"]
    differences = [
        f"{name} is {found.get(name)!r} there and {identity.get(name)!r} here"
        for name in {**identity, **found}
        if found.get(name) != identity.get(name)
    ]
    if differences:
        raise CheckpointError(
            f"{path} is of another training: {'; '.join(differences)}. Ask for the same settings to go on, "
            "or delete it (or choose another folder) to start again"
        )
    return state


class _Run:
    """A training in progress: all that an epoch reads and changes."""

    def __init__(self, cell: Cell, settings: Settings, train: Images, test: Images) -> None:
        if settings.validation > len(train) - settings.batch_size:
            raise TrainingError(
                f"validation is {settings.validation}, but there are {len(train)} training images and at least one "
                f"batch of {settings.batch_size} has to be left"
            )
        self.settings = settings
        # All that has to be the same for a resumed run to be bit-identical.
        self.identity = plain(
            {
                "format": STATE_FORMAT,
                "cell": str(cell.trained),
                "training images": train.digest,
                **asdict(settings),
                "torch version": torch.__version__,
                "brevitas version": version("brevitas"),
            }
        )
        self.pixels, self.labels = tensors(train)
        self.test_pixels, self.test_labels = tensors(test)
        torch.manual_seed(settings.seed)
        self.network = Network(cell.quantization)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=settings.learning_rate, betas=(settings.beta1, settings.beta2), fused=True
        )
        self.order = torch.Generator().manual_seed(settings.seed)
        # A generator of its own: the same images are held out however far the training has come.
        chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(settings.seed))
        self.held_out, self.used = chosen[: settings.validation], chosen[settings.validation :].sort().values
        self.log: list[Epoch] = []

    def state(self) -> bytes:
        return pack_state(
            {
                "identity": self.identity,
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "order": self.order.get_state(),
                "random": torch.get_rng_state(),
                "log": [asdict(row) for row in self.log],
            }
        )

    def restore(self, path: Path) -> None:
        """Go on from a state. Raises CheckpointError where it is damaged or of another training."""
        state = unpack_state(path, self.identity)
        copy_state(self.network, state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.order.set_state(state["order"])
        torch.set_rng_state(state["random"])
        self.log = [Epoch(**row) for row in state["log"]]

    def epoch(self, on_images: Callable[[int], None]) -> None:
        number, size = len(self.log) + 1, self.settings.batch_size
        learning_rate = self.settings.learning_rate_in(number)
        self.optimizer.param_groups[0]["lr"] = learning_rate
        self.network.train()
        order = self.used[torch.randperm(len(self.used), generator=self.order)]
        batches = len(order) // size
        loss_sum, wrong, start_s = 0.0, 0, time.monotonic()
        # A last batch that is not full is left out; every epoch has another order.
        for batch in order[: batches * size].view(batches, size):
            labels = self.labels[batch]
            logits = self.network(self.pixels[batch].float())
            loss = nn.functional.cross_entropy(logits, labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            loss_sum += loss.item()
            wrong += int((logits.argmax(1) != labels).sum())
            on_images(size)
        images_per_s = batches * size / (time.monotonic() - start_s)
        if not all(bool(parameter.isfinite().all()) for parameter in self.network.parameters()):
            loss_sum = float("nan")
        if not abs(loss_sum) < float("inf"):
            raise TrainingError(
                f"the loss or a weight is no longer a finite number in epoch {number}: lower the learning rate "
                f"(it is {learning_rate:g}); the state holds epoch {number - 1}"
            )
        held_out = (self.pixels[self.held_out], self.labels[self.held_out])
        self.log.append(
            Epoch(
                epoch=number,
                loss=loss_sum / batches,
                train_error=wrong / (batches * size),
                test_error=_error_rate(self.network, self.test_pixels, self.test_labels),
                validation_error=_error_rate(self.network, *held_out) if self.settings.validation else None,
                learning_rate=learning_rate,
                images_per_s=images_per_s,
            )
        )


def log_lines(log: tuple[Epoch, ...]) -> str:
    """The log as JSON lines, one an epoch."""
    return "".join(json.dumps(asdict(row)) + "\n" for row in log)


def train(
    cell: Cell,
    settings: Settings,
    *,
    train: Images,
    test: Images,
    folder: Path,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_images: Callable[[int], None] = lambda count: None,
) -> Trained:
    """Train `cell` on `train`, going on from the state in `folder` where there is one.

    Writes ``<cell>.state`` and ``<cell>.jsonl`` after each epoch: a run that is killed loses the epoch it was in.
    `on_epoch` is told of each epoch once it is saved (of those in the state at once), `on_images` of the images of
    each batch. The test error is logged and nothing else is done with it.

    Raises CheckpointError where the state is damaged or of other settings or images, TrainingError where the loss is
    no longer finite, OSError where `folder` cannot be written.
    """
    state, log = folder / f"{cell.trained}.state", folder / f"{cell.trained}.jsonl"
    with isolated(settings.threads):
        run = _Run(cell, settings, train, test)
        if state.exists():
            run.restore(state)
            write_atomically(log, log_lines(tuple(run.log)).encode())
            for row in run.log:
                on_epoch(row)
        while len(run.log) < settings.epochs:
            run.epoch(on_images)
            write_atomically(state, run.state())
            write_atomically(log, log_lines(tuple(run.log)).encode())
            on_epoch(run.log[-1])
    return Trained(
        cell=cell.trained, settings=settings, network=run.network.eval().requires_grad_(False), log=tuple(run.log)
    )
