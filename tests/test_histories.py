"""Histories: what runs logged is what the table holds, other trainings stay, and damaged input is refused by name."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from qnn import checkpoints, histories
from qnn.cell import DATASETS, Cell, Quantization
from qnn.errors import CheckpointError, HistoryError
from qnn.histories import collect, read, read_trainings
from qnn.networks import Network
from qnn.training import Epoch, Settings, Trained, log_lines

HEADER = "epochs,seed,cell,input_bits,epoch,loss,train_error,test_error\n"
FORTY = Settings(epochs=40, milestones=(36, 38))
Write = Callable[..., Path]


def log(epochs: int, first: float = 0.5) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(
            epoch=k,
            loss=2 / k + 0.000004,
            train_error=first / k + 0.0000004,
            test_error=round(first / k, 4),
            validation_error=None,
            learning_rate=0.01,
            images_per_s=1.0,
        )
        for k in range(1, epochs + 1)
    )


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a finished run of one network (untrained, with a log that is made up); gives its folder."""

    def write(
        run: str,
        cell: str = "A3W3",
        settings: Settings = FORTY,
        *,
        input_bits: int = 8,
        first: float = 0.5,
        dataset: str = "mnist",
    ) -> Path:
        folder = tmp_path / run
        folder.mkdir(exist_ok=True)
        quantization = Quantization.parse(cell)
        rows = log(settings.epochs, first)
        network = Network(quantization, input_bits=input_bits).eval().requires_grad_(False)
        trained = Trained(
            cell=Cell(dataset=dataset, quantization=quantization), settings=settings, network=network, log=rows
        )
        checkpoints.save(folder / f"{trained.cell}.safetensors", trained)
        (folder / f"{trained.cell}.jsonl").write_text(log_lines(rows))
        return folder

    return write


def names(table: pd.DataFrame) -> list[tuple[object, ...]]:
    trainings = table[["epochs", "seed", "cell", "input_bits"]].drop_duplicates()
    return [tuple(None if pd.isna(value) else value for value in row) for row in trainings.to_numpy()]


def test_a_run_is_read_back_as_it_was_logged(write: Write, tmp_path: Path) -> None:
    assert collect([write("run")], folder=tmp_path / "tables") == ["mnist"]
    lines = (tmp_path / "tables" / "mnist.csv").read_text().splitlines()
    assert lines[:2] == [HEADER.strip(), "40,0,A3W3,8,1,2.00000,0.500000,0.5000"]
    assert lines[40] == "40,0,A3W3,8,40,0.05000,0.012500,0.0125"
    table = read("mnist", tmp_path / "tables")
    assert list(table["epoch"]) == list(range(1, 41))
    assert list(table["test_error"]) == [row.test_error for row in log(40)]
    assert set(table["activation_bits"]) == set(table["weight_bits"]) == {3}


def test_the_table_of_trainings_says_when_and_with_what(write: Write, tmp_path: Path) -> None:
    run = write("run")
    collect([run], folder=tmp_path)
    (row,) = read_trainings("mnist", tmp_path).to_dict("records")
    header = checkpoints.read_header(run / "tfc-mnist-A3W3.safetensors")
    assert {name: row[name] for name in ("checksum", "trained_at")} == {
        name: header[name] for name in ("checksum", "trained_at")
    }
    assert {name: row[name] for name in ("torch", "brevitas", "python")} == header["versions"]
    assert (row["epochs"], row["seed"], row["cell"], row["input_bits"]) == (40, 0, "A3W3", 8)


def test_tables_are_sorted_by_schedule_seed_input_bits_and_bit_widths_with_float_last(
    write: Write, tmp_path: Path
) -> None:
    first = write("first", "float")
    for cell in ("A3W2", "A2W8", "A2W3"):
        write("first", cell)
    second = write("second", "A3W3", replace(FORTY, seed=1))
    third = write("third", "A3W3", input_bits=2)
    expected = [
        (40, 0, "A3W3", 2),
        (40, 0, "A2W3", 8),
        (40, 0, "A2W8", 8),
        (40, 0, "A3W2", 8),
        (40, 0, "float", None),
        (40, 1, "A3W3", 8),
    ]
    collect([second, first, third], folder=tmp_path / "at once")
    for run in (first, second, third):
        collect([run], folder=tmp_path / "one by one")
    assert names(read("mnist", tmp_path / "at once")) == expected
    assert names(read_trainings("mnist", tmp_path / "at once")) == expected
    for name in ("mnist.csv", "mnist.trainings.csv"):
        assert (tmp_path / "at once" / name).read_text() == (tmp_path / "one by one" / name).read_text()
    is_float = read("mnist", tmp_path / "at once").query("cell == 'float'")
    assert is_float[["activation_bits", "weight_bits", "input_bits"]].isna().all(axis=None)


def test_the_same_training_is_replaced_and_every_other_stays(write: Write, tmp_path: Path) -> None:
    run = write("run", "A3W3", first=0.5)
    for cell in ("A4W4", "float"):
        write("run", cell, first=0.5)
    collect([run], folder=tmp_path)
    again = write("again", "A3W3", first=0.25)
    write("again", "float", first=0.25)
    collect([again], folder=tmp_path)
    first = read("mnist", tmp_path).query("epoch == 1").set_index("cell")["test_error"]
    assert dict(first) == {"A3W3": 0.25, "A4W4": 0.5, "float": 0.25}
    assert len(read("mnist", tmp_path)) == 120
    assert len(read_trainings("mnist", tmp_path)) == 3


def test_each_data_set_has_a_table_of_its_own(write: Write, tmp_path: Path) -> None:
    run = write("run", dataset="mnist")
    write("run", dataset="fashion-mnist", first=0.75)
    assert set(collect([run], folder=tmp_path)) == set(DATASETS)
    assert read("mnist", tmp_path)["test_error"].max() == 0.5
    assert read("fashion-mnist", tmp_path)["test_error"].max() == 0.75


def cut(folder: Path) -> None:
    path = folder / "tfc-mnist-A3W3.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def other_last_line(folder: Path) -> None:
    path = folder / "tfc-mnist-A3W3.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], json.dumps({**json.loads(lines[-1]), "test_error": 0.0135})]))


def lost_line(folder: Path) -> None:
    path = folder / "tfc-mnist-A3W3.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:7] + lines[8:]))


def nan(folder: Path) -> None:
    path = folder / "tfc-mnist-A3W3.jsonl"
    path.write_text(path.read_text().replace("0.0125,", "NaN,"))


def no_log(folder: Path) -> None:
    (folder / "tfc-mnist-A3W3.jsonl").unlink()


def damaged(folder: Path) -> None:
    path = folder / "tfc-mnist-A3W3.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, r"A3W3\.jsonl has 39 epochs, its checkpoint 40"),
        (other_last_line, r"A3W3\.safetensors has a test accuracy of 0\.9875, .* 0\.0135: they are of two trainings"),
        (lost_line, r"A3W3\.jsonl, line 8: not the log of epoch 8"),
        (nan, r"A3W3\.jsonl, line 40: not the log of epoch 40"),
        (no_log, r"no log .*A3W3\.jsonl"),
        (damaged, r"A3W3\.safetensors is (damaged|corrupt)"),
    ],
)
def test_an_unfinished_or_damaged_run_is_refused_and_nothing_is_written(
    write: Write, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    whole, bad = write("whole", "A2W2"), write("bad")
    spoil(bad)
    with pytest.raises((HistoryError, CheckpointError), match=message):
        collect([whole, bad], folder=tmp_path / "tables")
    assert not (tmp_path / "tables").exists()


def test_a_log_and_its_checkpoint_may_differ_in_images_on_a_float32_boundary(write: Write, tmp_path: Path) -> None:
    run = write("run")
    path = run / "tfc-mnist-A3W3.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], json.dumps({**json.loads(lines[-1]), "test_error": 0.0126})]))
    assert collect([run], folder=tmp_path / "tables")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (replace(FORTY, milestones=(90, 95)), "epochs 40, milestones"),
        (Settings(epochs=50, milestones=(36, 38)), "epochs 50, milestones"),
        (replace(FORTY, learning_rate=0.001), r"with learning_rate 0\.001$"),
        (replace(FORTY, validation=100), "with validation 100$"),
    ],
)
def test_a_run_with_other_settings_than_the_studys_is_refused(
    write: Write, tmp_path: Path, settings: Settings, message: str
) -> None:
    with pytest.raises(HistoryError, match=message):
        collect([write("run", settings=settings)], folder=tmp_path)


def test_folders_without_a_run_and_with_the_same_run_twice_are_refused(write: Write, tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match=r"no checkpoint in .*empty"):
        collect([tmp_path / "empty"], folder=tmp_path)
    with pytest.raises(HistoryError, match=r"one.* and .*two.* are the same training: mnist 40 0 A3W3 8"):
        collect([write("one"), write("two")], folder=tmp_path)


def test_a_damaged_table_is_not_merged_into(write: Write, tmp_path: Path) -> None:
    (tmp_path / "mnist.csv").write_text(HEADER + "40,0,A2W2,8,1,2.0,0.5,0.5\n")
    with pytest.raises(HistoryError, match="line 2"):
        collect([write("run")], folder=tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.csv")) == ["mnist.csv"]


GOOD = [f"40,0,A2W2,8,{epoch},2.0,0.5,0.5" for epoch in range(1, 41)]


def with_line(number: int, line: str) -> str:
    lines = list(GOOD)
    lines[number - 2] = line
    return HEADER + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the columns have to be epochs,seed"),
        ("epochs,seed\n", "line 1: the columns have to be epochs,seed"),
        (with_line(3, "40,0,A2W2,8,2,2.0,0.5"), "line 3: 7 fields where 8 belong"),
        (with_line(3, "40,0,A2W9,8,2,2.0,0.5,0.5"), "line 3, column cell: 'A2W9'"),
        (with_line(3, "40,0,a2w2,8,2,2.0,0.5,0.5"), "line 3, column cell: 'a2w2'"),
        (with_line(3, "50,0,A2W2,8,2,2.0,0.5,0.5"), "line 3, column epochs: '50' is not 100 or 40"),
        (with_line(3, "40,-1,A2W2,8,2,2.0,0.5,0.5"), "line 3, column seed: '-1'"),
        (with_line(3, "40,0,A2W2,,2,2.0,0.5,0.5"), "line 3, column input_bits: ''"),
        (with_line(3, "40,0,float,8,2,2.0,0.5,0.5"), "line 3, column input_bits: '8'"),
        (with_line(3, "40,0,A2W2,8,0,2.0,0.5,0.5"), "line 3, column epoch: '0'"),
        (with_line(3, "40,0,A2W2,8,two,2.0,0.5,0.5"), "line 3, column epoch: 'two'"),
        (with_line(41, "40,0,A2W2,8,40,nan,0.5,0.5"), "line 41, column loss: 'nan'"),
        (with_line(41, "40,0,A2W2,8,40,inf,0.5,0.5"), "line 41, column loss: 'inf'"),
        (with_line(41, "40,0,A2W2,8,40,2.0,1.5,0.5"), "line 41, column train_error: '1.5' is not a number from 0 to 1"),
        (with_line(41, "40,0,A2W2,8,40,2.0,0.5,12%"), "line 41, column test_error: '12%'"),
        (with_line(3, "40,0,A2W2,8,3,2.0,0.5,0.5"), r"line 3: A2W2 \(seed 0, input bits 8\) has to have"),
        (HEADER + "\n".join(GOOD[:-1]), "line 40: A2W2"),
        (HEADER + "\n".join([*GOOD, GOOD[-1]]), "line 42: A2W2"),
    ],
)
def test_a_damaged_table_is_refused_with_its_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mnist.csv").write_text(text)
    with pytest.raises(HistoryError, match=message):
        read("mnist", tmp_path)


def test_a_whole_table_is_read(tmp_path: Path) -> None:
    (tmp_path / "mnist.csv").write_text(HEADER + "\n".join(GOOD) + "\n")
    assert len(read("mnist", tmp_path)) == 40


def test_a_missing_table_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match=r"no table .*mnist\.csv: .*python -m qnn report --collect"):
        read("mnist", tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mnist.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(HistoryError, match="is not text"):
        read("mnist", tmp_path)


@pytest.mark.parametrize("dataset", [name for name in DATASETS if histories.table_path(name).exists()])
def test_the_shipped_tables_are_whole_and_every_training_says_where_it_is_from(dataset: str) -> None:
    assert names(read(dataset)) == names(read_trainings(dataset))
