"""Shipping a run: the checkpoints byte by byte, and a floor for each."""

import tomllib
from pathlib import Path

import pytest

from qnn import checkpoints, reference, shipping
from qnn.cell import Cell, Quantization
from qnn.cli import main
from qnn.errors import CheckpointError

A3W3 = Cell(quantization=Quantization.parse("A3W3"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / f"{A3W3}.safetensors").write_bytes(reference.shipped_checkpoint(A3W3).read_bytes())
    return folder


def test_checkpoints_are_copied_and_floors_are_the_accuracy_less_the_tolerance(run: Path, tmp_path: Path) -> None:
    floors = tmp_path / "floors.toml"
    floors.write_text("tolerance_percent = 0.05\n[fashion-mnist]\nA8W8 = 80.1\nA3W3 = 99.00\n[mnist]\nA3W3 = 97.83\n")
    cells = shipping.ship(run, checkpoints_folder=tmp_path / "checkpoints", floors_path=floors)
    assert cells == [A3W3]
    shipped = reference.shipped_checkpoint(A3W3, tmp_path / "checkpoints")
    assert shipped.read_bytes() == (run / f"{A3W3}.safetensors").read_bytes()
    found = tomllib.loads(floors.read_text())
    accuracy = checkpoints.load(shipped).test_accuracy
    assert found["fashion-mnist"] == {"A3W3": pytest.approx(100 * accuracy - 0.05, abs=1e-9), "A8W8": 80.1}
    assert found["mnist"] == {"A3W3": 97.83}
    assert found["tolerance_percent"] == 0.05


def test_a_folder_without_checkpoints_or_with_a_damaged_one_ships_nothing(run: Path, tmp_path: Path) -> None:
    target, floors = tmp_path / "checkpoints", tmp_path / "floors.toml"
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        shipping.ship(tmp_path / "empty", checkpoints_folder=target, floors_path=floors)
    (run / "tfc-fashion_mnist-A4W4.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="A4W4"):
        shipping.ship(run, checkpoints_folder=target, floors_path=floors)
    assert not target.exists()
    assert not floors.exists()


def test_the_command_names_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ship", str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.startswith("error: there is no checkpoint in ")
