"""Training: seeded, logged, and after an interruption bit-identical to a run that had none."""

import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from qnn import training
from qnn.cell import Cell, Quantization
from qnn.datasets import Images, load
from qnn.errors import CheckpointError, TrainingError
from qnn.training import Epoch, Settings, Trained, evaluate, train

CELL = Cell(quantization=Quantization.parse("A3W3"))
SETTINGS = Settings(epochs=4, milestones=(2, 3))


@pytest.fixture(scope="module")
def images() -> tuple[Images, Images]:
    """2,000 images to train on and 1,000 to test with, of the shipped test set."""
    whole = load("fashion-mnist", "test")
    return (
        Images(pixels=whole.pixels[:2000], labels=whole.labels[:2000]),
        Images(pixels=whole.pixels[2000:3000], labels=whole.labels[2000:3000]),
    )


@pytest.fixture(scope="module")
def uninterrupted(images: tuple[Images, Images], tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return train(CELL, SETTINGS, train=images[0], test=images[1], folder=folder), folder


def results(log: tuple[Epoch, ...]) -> list[dict[str, object]]:
    """The log without the one number that is a measurement of this host."""
    return [{name: value for name, value in asdict(row).items() if name != "images_per_s"} for row in log]


def read_state(path: Path) -> dict[str, object]:
    """What is behind the checksum."""
    state: dict[str, object] = torch.load(io.BytesIO(path.read_bytes()[32:]), weights_only=True)
    return state


def assert_bit_equal(one: Path, other: Path) -> None:
    """Two training states agree in every tensor and number: weights, optimiser, scheduler, random generators."""

    def flat(value: object, name: str = "") -> dict[str, object]:
        if isinstance(value, dict):
            return {k: v for key, item in value.items() for k, v in flat(item, f"{name}/{key}").items()}
        if isinstance(value, list | tuple):
            return {k: v for i, item in enumerate(value) for k, v in flat(item, f"{name}/{i}").items()}
        return {name: value}

    a, b = (flat(read_state(next(folder.glob("*.state")))) for folder in (one, other))
    assert a.keys() == b.keys()
    assert len([value for value in a.values() if isinstance(value, torch.Tensor)]) > 60
    for name, value in a.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, b[name]), name  # type: ignore[arg-type]
        elif not name.endswith("images_per_s"):
            assert value == b[name], name


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("after_images", [500, 2500, 4000], ids=["in epoch 1", "in epoch 2", "after epoch 2"])
def test_a_run_that_was_interrupted_ends_bit_equal_to_one_that_was_not(
    images: tuple[Images, Images], uninterrupted: tuple[Trained, Path], tmp_path: Path, after_images: int
) -> None:
    seen = 0

    def interrupt(count: int) -> None:
        nonlocal seen
        seen += count
        if seen > after_images:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(CELL, SETTINGS, train=images[0], test=images[1], folder=tmp_path, on_images=interrupt)
    assert len(list(tmp_path.glob("*.state"))) == (after_images >= 2000)
    torch.rand(7)  # whatever happens to torch's own generator in between
    trained = train(CELL, SETTINGS, train=images[0], test=images[1], folder=tmp_path)
    assert results(trained.log) == results(uninterrupted[0].log)
    assert_bit_equal(tmp_path, uninterrupted[1])


KILLED = """
import os, signal, sys
from pathlib import Path
from qnn.cell import Cell, Quantization
from qnn.datasets import Images, load
from qnn.training import Settings, train
whole = load("fashion-mnist", "test")
part = lambda a, b: Images(pixels=whole.pixels[a:b], labels=whole.labels[a:b])
seen = 0
def kill(count):
    global seen
    seen += count
    if seen > 5000:
        os.kill(os.getpid(), signal.SIGKILL)
train(Cell(quantization=Quantization.parse("A3W3")), Settings(epochs=4, milestones=(2, 3)),
      train=part(0, 2000), test=part(2000, 3000), folder=Path(sys.argv[1]), on_images=kill)
"""


def test_a_run_that_was_killed_loses_only_the_epoch_it_was_in(
    images: tuple[Images, Images], uninterrupted: tuple[Trained, Path], tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False, env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert len((tmp_path / f"{CELL}.jsonl").read_text().splitlines()) == 2
    train(CELL, SETTINGS, train=images[0], test=images[1], folder=tmp_path)
    assert_bit_equal(tmp_path, uninterrupted[1])


def test_another_seed_gives_another_network(
    images: tuple[Images, Images], uninterrupted: tuple[Trained, Path], tmp_path: Path
) -> None:
    train(CELL, replace(SETTINGS, seed=1), train=images[0], test=images[1], folder=tmp_path)
    with pytest.raises(AssertionError):
        assert_bit_equal(tmp_path, uninterrupted[1])


def test_the_log_has_a_line_for_each_epoch(images: tuple[Images, Images], uninterrupted: tuple[Trained, Path]) -> None:
    trained, folder = uninterrupted
    rows = [Epoch(**json.loads(line)) for line in (folder / f"{CELL}.jsonl").read_text().splitlines()]
    assert tuple(rows) == trained.log
    assert [row.epoch for row in rows] == [1, 2, 3, 4]
    assert [row.learning_rate for row in rows] == pytest.approx([0.01, 0.01, 0.001, 0.0001])
    assert [row.validation_error for row in rows] == [None] * 4
    assert rows[-1].loss < rows[0].loss
    assert rows[-1].test_error < 0.4  # chance is 0.9
    assert evaluate(trained.network, images[1]) == rows[-1].test_error
    assert all(row.images_per_s > 0 for row in rows)


def test_learned_scales_go_on_being_learned_after_an_interruption(
    images: tuple[Images, Images], tmp_path: Path
) -> None:
    """Brevitas replaces a quantiser's parameters when a state is loaded the usual way; the optimiser must have them."""
    run = training._Run(CELL, SETTINGS, *images)
    (tmp_path / "state").write_bytes(run.state())
    run.restore(tmp_path / "state")
    in_optimizer = {id(parameter) for group in run.optimizer.param_groups for parameter in group["params"]}
    assert {id(parameter) for parameter in run.network.parameters()} == in_optimizer


def test_the_defaults_are_the_studys_table_1() -> None:
    assert asdict(Settings()) == {
        "epochs": 100,
        "batch_size": 100,
        "learning_rate": 0.01,
        "beta1": 0.9,
        "beta2": 0.999,
        "milestones": (90, 95),
        "decay": 0.1,
        "seed": 0,
        "validation": 0,
        "threads": 1,
    }


def test_validation_images_are_held_out(images: tuple[Images, Images], tmp_path: Path) -> None:
    """The network is the same whatever the held-out images hold, and their error is logged."""
    settings = Settings(epochs=1, validation=500)
    whole = images[0]
    held_out = torch.randperm(2000, generator=torch.Generator().manual_seed(settings.seed))[:500].numpy()
    pixels = whole.pixels.copy()
    pixels[held_out] = 0
    blank = Images(pixels=pixels, labels=whole.labels)
    one, other = (
        train(CELL, settings, train=part, test=images[1], folder=tmp_path / name)
        for name, part in {"whole": whole, "blank": blank}.items()
    )
    assert one.log[0].loss == other.log[0].loss
    assert one.log[0].test_error == other.log[0].test_error
    assert one.log[0].validation_error == evaluate(
        one.network, Images(pixels=whole.pixels[held_out], labels=whole.labels[held_out])
    )
    assert one.log[0].validation_error != other.log[0].validation_error


def test_a_loss_that_is_no_number_stops_the_training_and_names_the_epoch(
    images: tuple[Images, Images], tmp_path: Path
) -> None:
    settings = Settings(epochs=2, learning_rate=1e38)
    with pytest.raises(TrainingError, match=r"epoch 1: lower the learning rate"):
        train(CELL, settings, train=images[0], test=images[1], folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_going_on_with_other_settings_or_images_is_refused_and_the_difference_named(
    images: tuple[Images, Images], tmp_path: Path
) -> None:
    settings = Settings(epochs=1)
    train(CELL, settings, train=images[0], test=images[1], folder=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match=r"seed is 0 there and 7 here"):
        train(CELL, replace(settings, seed=7), train=images[0], test=images[1], folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"milestones is \[90, 95\] there and \[1\] here; threads is 1"):
        train(CELL, replace(settings, milestones=(1,), threads=2), train=images[0], test=images[1], folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"training images is '[0-9a-f]+' there"):
        train(CELL, settings, train=images[1], test=images[1], folder=tmp_path)
    other = Cell(quantization=Quantization.parse("A2W2"))
    next(tmp_path.glob("*.state")).rename(tmp_path / f"{other}.state")
    with pytest.raises(CheckpointError, match="cell is 'tfc-fashion_mnist-A3W3' there"):
        train(other, settings, train=images[0], test=images[1], folder=tmp_path)
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == sorted(before.values())


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "one bit", "of another program"])
def test_a_damaged_state_is_refused(
    images: tuple[Images, Images], uninterrupted: tuple[Trained, Path], tmp_path: Path, damage: str
) -> None:
    state = tmp_path / f"{CELL}.state"
    whole = (uninterrupted[1] / state.name).read_bytes()
    middle = len(whole) // 2
    if damage == "of another program":
        torch.save({"weights": torch.zeros(3)}, state)
    elif damage == "one bit":
        state.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    else:
        state.write_bytes({"truncated": whole[:5000], "text": b"hello", "empty": b""}[damage])
    with pytest.raises(CheckpointError, match="not a training state"):
        train(CELL, SETTINGS, train=images[0], test=images[1], folder=tmp_path)


def test_settings_that_make_no_sense_are_refused(images: tuple[Images, Images], tmp_path: Path) -> None:
    for wrong in ({"epochs": 0}, {"batch_size": 1}, {"learning_rate": 0.0}, {"validation": -1}, {"threads": 0}):
        with pytest.raises(TrainingError):
            Settings(**wrong)
    with pytest.raises(TrainingError, match="validation is 1950, but there are 2000"):
        train(CELL, Settings(validation=1950), train=images[0], test=images[1], folder=tmp_path)


def test_training_leaves_torchs_generator_and_threads_alone(images: tuple[Images, Images], tmp_path: Path) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(CELL, Settings(epochs=1, threads=threads + 1), train=images[0], test=images[1], folder=tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_the_float_network_trains_too(images: tuple[Images, Images], tmp_path: Path) -> None:
    cell = Cell(quantization=Quantization.parse("float"))
    trained = train(cell, Settings(epochs=2), train=images[0], test=images[1], folder=tmp_path)
    assert np.isfinite(trained.log[-1].loss)
    assert trained.log[-1].test_error < 0.5
