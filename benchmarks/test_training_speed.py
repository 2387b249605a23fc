"""How fast this computer trains: the sweep against one network after another, and against its matrix products alone.

All are measured in turn, several times, in one run: what else the computer does slows all of them down, and the
ratios stay. An image trained by one network counts as one; the images are the 10,000 test images.
"""

import gzip
import itertools
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixtures.recording import Record
from qnn import datasets
from qnn.cell import Cell, Quantization
from qnn.datasets import Images
from qnn.results import Evidence

ROUNDS = 3
A3W3 = Quantization.parse("A3W3")
ALONE_BATCHES = 40
"""Of one network alone: a second or so."""
PRODUCTS_STEPS = 1_000
"""Of a group's matrix products: a second or two."""

Speed = Callable[[], float]
"""One measurement, in images a second."""


def sweep_speed(stack: ExitStack, images: Images) -> Speed:
    """All 49 cells on all cores; the first epoch, which compiles, is over when this returns."""
    from qnn import shard, sweep, training

    settings = training.Settings(threads=sweep.default_threads())
    job = shard.Job(
        quantizations=sweep.ALL,
        settings=settings,
        input_bits=8,
        train=images,
        test=replace(images, pixels=images.pixels[:100], labels=images.labels[:100]),
        compiled=sweep.can_compile(),
        epochs_done=0,
        start=None,
    )
    epoch = stack.enter_context(shard.run_epochs(job, processes=settings.threads))
    epoch(lambda count: None)
    return lambda: len(sweep.ALL) * len(images) / epoch(lambda count: None).seconds


def brevitas_speed(images: Images, folder: Path, threads: int) -> float:
    """One Brevitas network over images in memory, as `python -m qnn train` trains it."""
    from qnn import training

    settings = training.Settings(epochs=1, threads=threads)
    some = replace(images, pixels=images.pixels[: 100 * ALONE_BATCHES], labels=images.labels[: 100 * ALONE_BATCHES])
    few = replace(images, pixels=images.pixels[:100], labels=images.labels[:100])
    trained = training.train(
        Cell(quantization=A3W3), settings, train=some, test=few, folder=folder / f"{time.monotonic_ns()}"
    )
    return trained.log[0].images_per_s


def loader_batches(folder: Path) -> Iterator[Any]:
    """As the paper's trainer reads them: torchvision's data set, PIL's resize for each image, a DataLoader."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import FashionMNIST

    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for split in datasets.SPLITS:
        # torchvision wants all four files before it reads two of them.
        for file, source in zip(
            datasets.FILES["fashion-mnist", split], datasets.FILES["fashion-mnist", "test"], strict=True
        ):
            packed = datasets.TEST_DATA / "fashion-mnist" / f"{source.name}.gz"
            (raw / file.name).write_bytes(gzip.decompress(packed.read_bytes()))
    transform = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    yield from DataLoader(FashionMNIST(folder, train=False, transform=transform), batch_size=100, shuffle=True)


def loop_speed(folder: Path, threads: int) -> float:
    """One Brevitas network in a plain loop over such batches."""
    import torch

    from qnn.networks import Network

    torch.set_num_threads(threads)
    network = Network(A3W3)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    start_s, count = 0.0, 0
    for number, (pixels, labels) in enumerate(loader_batches(folder)):
        if number == 1:  # what is done once is over
            start_s = time.monotonic()
        loss = torch.nn.functional.cross_entropy(network(255 * pixels.flatten(1)), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()
        if number == ALONE_BATCHES:
            break
        count += len(labels) if number else 0
    return count / (time.monotonic() - start_s)


def products_of_one_core(steps: int) -> float:
    """Images a second of one thread that computes a group's matrix products, and nothing else."""
    import torch

    from qnn import batched, shard
    from qnn.parameters import WIDTHS

    cells, images = shard.GROUP, 100
    torch.set_num_threads(1)
    inputs = [torch.rand(cells, images, width) for width in WIDTHS]
    weights = [torch.rand(cells, outputs, width) for width, outputs in itertools.pairwise(WIDTHS)]
    gradients = [torch.rand(cells, images, width) for width in WIDTHS[1:]]
    both = torch.rand(cells, 2 * images, WIDTHS[0])
    start_s = time.monotonic()
    for _ in range(steps):
        batched.products(both, weights[0])
        batched.products(gradients[0].transpose(1, 2), inputs[0].transpose(1, 2))
        for x, weight, gradient in list(zip(inputs, weights, gradients, strict=False))[1:]:
            torch.bmm(x, weight.transpose(1, 2))
            torch.bmm(gradient.transpose(1, 2), x)
            torch.bmm(gradient, weight)
    return steps * cells * images / (time.monotonic() - start_s)


def products_speed(stack: ExitStack, cores: int) -> Speed:
    """The sweep's matrix products alone, a process a core: what it would reach if all else took no time."""
    pool = stack.enter_context(ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")))

    def speed() -> float:
        return sum(pool.map(products_of_one_core, [PRODUCTS_STEPS] * cores))

    speed()  # the processes have started, and what is done once is over, when this returns
    return speed


@pytest.mark.speed
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile about itself
def test_training_speed(tmp_path: Path, benchmark: Any, record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    from qnn.sweep import default_threads

    cores = default_threads()
    images = datasets.load("fashion-mnist", "test")
    with ExitStack() as stack:
        speeds: dict[str, Speed] = {
            "sweep": sweep_speed(stack, images),
            "Brevitas, data in memory": lambda: max(brevitas_speed(images, tmp_path, n) for n in {1, cores}),
            "Brevitas, torchvision's loader": lambda: max(loop_speed(tmp_path / "loader", n) for n in {1, cores}),
            "matrix products alone": products_speed(stack, cores),
        }
        found: dict[str, list[float]] = {name: [] for name in speeds}

        def measure() -> None:
            for name, speed in speeds.items():
                found[name].append(speed())

        benchmark.pedantic(measure, rounds=ROUNDS)
    median = {name: statistics.median(values) for name, values in found.items()}
    ratios = {
        name: statistics.median(a / b for a, b in zip(found["sweep"], values, strict=True))
        for name, values in found.items()
        if name != "sweep"
    }
    metrics = {
        "sweep_network_images_per_s": median["sweep"],
        "times_brevitas_in_memory": ratios["Brevitas, data in memory"],
        "times_brevitas_loader": ratios["Brevitas, torchvision's loader"],
        "part_of_matrix_products": ratios["matrix products alone"],
    }
    benchmark.extra_info.update(metrics)
    record(Evidence.PYTHON, **metrics)
    with capsys.disabled():
        print(f"\ntraining, {cores} cores, network-images/s (median of {ROUNDS})")
        for name, value in median.items():
            print(f"  {name:32}{value:12,.0f}" + (f"   sweep / this = {ratios[name]:.2f}" if name in ratios else ""))
    assert all(len(values) == ROUNDS for values in found.values())
