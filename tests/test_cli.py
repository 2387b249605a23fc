"""The command line: each command does its work, and bad input gives one line and a status that is not 0."""

import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from qnn import datasets, reference, training
from qnn.cli import main
from qnn.datasets import Images


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 images in place of every split, so that a training takes a moment."""
    whole = datasets.load("mnist", "test")
    few = Images(pixels=whole.pixels[:500], labels=whole.labels[:500])
    monkeypatch.setattr(datasets, "load", lambda dataset, split: few)


@pytest.mark.usefixtures("few_images")
def test_train_writes_state_log_and_checkpoint_and_evaluate_and_export_take_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "a2w2", "--dataset", "MNIST", "--epochs", "2", "--milestones", "1", "--folder", str(tmp_path)]
    assert main(train) == 0
    name = "tfc-mnist-A2W2"
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{kind}" for kind in ("state", "jsonl", "safetensors")
    }
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in printed if line.startswith("epoch")] == [["epoch", "1"], ["epoch", "2"]]
    assert "rate 0.001 " in printed[1]
    assert printed[-1].startswith(f"{name}: test accuracy ")

    checkpoint = str(tmp_path / f"{name}.safetensors")
    assert main(["evaluate", checkpoint]) == 0
    accuracy = printed[-1].split()[3].rstrip(",")
    assert f"of 500 test images right, {accuracy} ({accuracy} when trained)" in capsys.readouterr().out

    assert main(["export", checkpoint, str(tmp_path / "model.onnx")]) == 0
    assert onnx.load(tmp_path / "model.onnx").graph.input[0].name == "pixels"

    assert main([*train, "--seed", "5"]) == 1
    assert "seed is 0 there and 5 here" in capsys.readouterr().err
    assert main(["evaluate", checkpoint, "--dataset", "fashion-mnist"]) == 1
    assert "was trained on mnist, not on fashion-mnist" in capsys.readouterr().err


@pytest.mark.usefixtures("few_images")
def test_ctrl_c_ends_with_status_130_and_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = training._Run.epoch

    def interrupted(run: training._Run, on_images: object) -> None:
        if len(run.log) == 1:
            raise KeyboardInterrupt
        whole(run, lambda count: None)

    command = ["train", "A3W3", "--dataset", "mnist", "--epochs", "2", "--folder", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(training._Run, "epoch", interrupted)
        assert main(command) == 130
    assert "goes on" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.safetensors"))
    assert main(command) == 0
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_evaluate_takes_a_shipped_cell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "A3W3", "--dataset", "fashion_mnist"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("tfc-fashion_mnist-A3W3: 8,")
    assert "of 10,000 test images right" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "A9W3"], "unknown cell 'A9W3'"),
        (["train", "resnet"], "unknown cell 'resnet'"),
        (["train", "A3W3", "--dataset", "cifar"], "unknown data set 'cifar'"),
        (["train", "A3W3", "--network", "cnv"], "unknown network 'cnv'"),
        (["train", "A3W3", "--epochs", "0"], "epochs"),
        (["evaluate", "W3A3"], "unknown cell 'W3A3'"),
        (["evaluate", "none.safetensors"], "there is no checkpoint none.safetensors"),
        (["export", __file__, "model.onnx"], "not a safetensors file"),
        (["export", "A3W3", "/dev/null/model.onnx"], "/dev/null"),
    ],
)
def test_bad_input_gives_one_error(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_a_cell_that_is_not_shipped_has_no_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "shipped_checkpoint", lambda cell: tmp_path / f"{cell}.safetensors")
    assert main(["evaluate", "A8W2"]) == 1
    assert capsys.readouterr().err.startswith("error: there is no checkpoint ")


def test_a_wrong_name_is_told_without_importing_torch() -> None:
    script = "from qnn.cli import main; main(['train', 'A9W3']); import sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, stderr=subprocess.DEVNULL).returncode == 0
