"""Histories of trainings: one compact table a data set, one line an epoch of every network that was trained.

``<dataset>.csv`` has the columns ``epochs,seed,cell,input_bits,epoch,loss,train_error,test_error``: the first four name
the training (``epochs`` is the length of its schedule; ``input_bits`` is empty for the float network, which does not
quantise its input), errors are fractions of 1. Every training is whole: all its epochs are there. Beside it,
``<dataset>.trainings.csv`` says of each training when it ended, with which versions, and its checkpoint's checksum.

All trainings follow Table I of the study but for their length: the learning rate falls to a tenth after 90 % and after
95 % of the epochs.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from qnn.cell import DATASETS, Quantization
from qnn.checkpoints import read_header
from qnn.errors import CellError, HistoryError
from qnn.files import write_atomically

__all__ = ["FOLDER", "LONG", "REMEDY", "SCHEDULES", "SHORT", "STUDY", "collect", "read", "read_trainings", "table_path"]

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "histories"

LONG, SHORT = 100, 40
SCHEDULES = {LONG: (90, 95), SHORT: (36, 38)}
"""{epochs: milestones} of the trainings that the tables hold: the column ``epochs`` alone names the schedule."""

STUDY = {"batch_size": 100, "learning_rate": 0.01, "beta1": 0.9, "beta2": 0.999, "decay": 0.1, "validation": 0}
"""What every training has in common (Table I)."""

TRAINING = ["epochs", "seed", "cell", "input_bits"]
"""The columns that name a training."""
DIGITS = {"loss": 5, "train_error": 6, "test_error": 4}
COLUMNS = [*TRAINING, "epoch", *DIGITS]
PROVENANCE = [*TRAINING, "trained_at", "torch", "brevitas", "python", "threads", "checksum"]
_BITS = ("activation_bits", "weight_bits")
BOUNDARY_SHARE = 0.0005
"""Share of the test images in which a log and its checkpoint may differ. A sweep logs its own evaluation, a checkpoint
holds that of the Brevitas network: their float32 sums differ, and an image on a boundary may go either way."""
REMEDY = "train with `python -m qnn sweep`, then take the run in with `python -m qnn report --collect FOLDER`"


def table_path(dataset: str, folder: Path = FOLDER) -> Path:
    """Where the histories of a data set lie."""
    return folder / f"{dataset}.csv"


def _trainings_path(dataset: str, folder: Path) -> Path:
    return folder / f"{dataset}.trainings.csv"


def _strings(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The file's fields as they are written."""
    if not path.is_file():
        raise HistoryError(f"there is no table {path}: {REMEDY}")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise HistoryError(f"{path} is not text ({error})") from None
    if not lines or lines[0] != ",".join(columns):
        raise HistoryError(f"{path}, line 1: the columns have to be {','.join(columns)}")
    fields = [line.split(",") for line in lines[1:]]
    for number, line in enumerate(fields, start=2):
        if len(line) != len(columns):
            raise HistoryError(f"{path}, line {number}: {len(line)} fields where {len(columns)} belong")
    return pd.DataFrame(fields, columns=list(columns), dtype=str)


def _refuse(path: Path, bad: pd.Series, values: pd.Series, rule: str) -> None:
    """Raise for the first line of `path` where `bad` holds."""
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise HistoryError(f"{path}, line {row + 2}, column {values.name}: {values.iloc[row]!r} is not {rule}")


def _whole_numbers(path: Path, values: pd.Series, *, least: int, empty: bool = False) -> pd.Series:
    bad = ~values.str.fullmatch(r"\d{1,9}") & ~(values.eq("") & empty)
    _refuse(path, bad, values, f"a whole number from {least}")
    numbers = values.mask(values.eq("")).astype("Int64")
    _refuse(path, numbers.lt(least).fillna(False), values, f"a whole number from {least}")
    return numbers if empty else numbers.astype(int)


def _numbers(path: Path, values: pd.Series, *, most: float) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce")
    rule = "a number from 0" if most == math.inf else f"a number from 0 to {most:g}"
    _refuse(path, ~numbers.between(0, most) | numbers.eq(math.inf), values, rule)
    return numbers


def _bits(path: Path, cells: pd.Series) -> pd.DataFrame:
    """activation_bits and weight_bits of each line's cell, NA for float."""
    found: dict[str, Quantization | None] = {}
    for name in cells.unique():
        try:
            found[name] = Quantization.parse(name)
        except CellError:
            found[name] = None
    _refuse(path, cells.map(lambda name: str(found[name]) != name), cells, "a cell, A2W2 to A8W8 or float")
    return pd.DataFrame(
        {bits: cells.map({name: getattr(q, bits) for name, q in found.items()}) for bits in _BITS}, dtype="Int64"
    )


def _training_columns(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    bits = _bits(path, table["cell"])
    _refuse(
        path,
        ~table["epochs"].isin([str(epochs) for epochs in SCHEDULES]),
        table["epochs"],
        " or ".join(map(str, SCHEDULES)),
    )
    converted = table.assign(
        epochs=table["epochs"].astype(int),
        seed=_whole_numbers(path, table["seed"], least=0),
        input_bits=_whole_numbers(path, table["input_bits"], least=1, empty=True),
        **bits,
    )
    is_float = bits["weight_bits"].isna()
    _refuse(path, is_float & ~table["input_bits"].eq(""), table["input_bits"], "empty, as float has it")
    _refuse(path, ~is_float & table["input_bits"].eq(""), table["input_bits"], "a whole number from 1")
    return converted


def read(dataset: str, folder: Path = FOLDER) -> pd.DataFrame:
    """The histories of a data set: the file's columns and the cell's activation_bits and weight_bits, float's NA.

    Raises HistoryError where the file is missing or damaged, naming line and column, or where a training is not whole.
    """
    path = table_path(dataset, folder)
    text = _strings(path, COLUMNS)
    table = _training_columns(path, text).assign(
        epoch=_whole_numbers(path, text["epoch"], least=1),
        loss=_numbers(path, text["loss"], most=math.inf),
        train_error=_numbers(path, text["train_error"], most=1),
        test_error=_numbers(path, text["test_error"], most=1),
    )
    for (epochs, seed, cell, input_bits), training in table.groupby(TRAINING, dropna=False, sort=False):
        if list(training["epoch"]) != list(range(1, epochs + 1)):
            wrong = next(
                (k for k, epoch in enumerate(training["epoch"], start=1) if epoch != k or k > epochs), len(training)
            )
            raise HistoryError(
                f"{path}, line {training.index[wrong - 1] + 2}: {cell} (seed {seed}, input bits {input_bits}) has to "
                f"have the epochs 1 to {epochs} in order, once each"
            )
    return table


def read_trainings(dataset: str, folder: Path = FOLDER) -> pd.DataFrame:
    """When and with what each training was done: one line a training, the text of the file but for its bit widths.

    Raises HistoryError where the file is missing or damaged.
    """
    path = _trainings_path(dataset, folder)
    table = _training_columns(path, _strings(path, PROVENANCE))
    _refuse(path, table.duplicated(TRAINING), table["cell"], "there once for its epochs, seed and input bits")
    return table


def _log(path: Path) -> list[Mapping[str, Any]]:
    """The lines of a training's log."""
    if not path.is_file():
        raise HistoryError(f"there is no log {path} beside its checkpoint")
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            row = json.loads(line)
            complete = row["epoch"] == number and all(0 <= row[name] < math.inf for name in DIGITS)
        except (ValueError, KeyError, TypeError):
            complete = False
        if not complete:
            raise HistoryError(f"{path}, line {number}: not the log of epoch {number}")
        rows.append(row)
    return rows


def _run(path: Path) -> tuple[str, list[dict[str, str]], dict[str, str]]:
    """Data set, lines of the histories' table and line of the trainings' table of one finished training."""
    header = read_header(path)
    log = _log(path.with_suffix(".jsonl"))
    try:
        settings, versions = header["settings"], header["versions"]
        dataset, epochs, accuracy = header["dataset"], settings["epochs"], header["test_accuracy"]
        different = [name for name, value in STUDY.items() if settings[name] != value]
        if list(SCHEDULES.get(epochs, ())) != settings["milestones"]:
            different += ["epochs", "milestones"]
        training = {
            "epochs": str(epochs),
            "seed": str(settings["seed"]),
            "cell": header["quantization"],
            "input_bits": str(header.get("input_bits", "")),
        }
        provenance = {
            **training,
            "trained_at": header["trained_at"],
            **{name: versions[name] for name in ("torch", "brevitas", "python")},
            "threads": str(settings["threads"]),
            "checksum": header["checksum"],
        }
    except (KeyError, TypeError) as error:
        raise HistoryError(f"{path}: its header does not say how it was trained ({error!r})") from None
    if dataset not in DATASETS:
        raise HistoryError(f"{path}: its data set {dataset!r} is none of {', '.join(DATASETS)}")
    if different:
        found = ", ".join(f"{name} {settings[name]}" for name in different)
        raise HistoryError(f"{path} is not trained as the study's networks are, but with {found}")
    if len(log) != epochs:
        raise HistoryError(f"{path.with_suffix('.jsonl')} has {len(log)} epochs, its checkpoint {epochs}")
    if abs(1 - log[-1]["test_error"] - accuracy) > BOUNDARY_SHARE:
        raise HistoryError(
            f"{path} has a test accuracy of {accuracy}, the last line of its log a test error of "
            f"{log[-1]['test_error']}: they are of two trainings"
        )
    rows = [
        {**training, "epoch": str(row["epoch"])} | {name: f"{row[name]:.{digits}f}" for name, digits in DIGITS.items()}
        for row in log
    ]
    return dataset, rows, provenance


def _merged(path: Path, columns: Sequence[str], rows: list[dict[str, str]]) -> bytes:
    """The table at `path`, if there is one, with `rows` in place of those of the same training and epoch, sorted."""
    key = [name for name in columns if name in (*TRAINING, "epoch")]
    table = pd.DataFrame(rows, columns=list(columns), dtype=str)
    if path.exists():
        table = pd.concat([_strings(path, columns), table]).drop_duplicates(key, keep="last", ignore_index=True)
    numbers = _training_columns(path, table)
    if "epoch" in key:
        numbers = numbers.astype({"epoch": int})
    by = ["epochs", "seed", "input_bits", *_BITS, "epoch"]
    order = numbers.sort_values([name for name in by if name in numbers], na_position="last").index
    return str(table.loc[order].to_csv(index=False, lineterminator="\n")).encode()


def collect(run_folders: Iterable[Path], *, folder: Path = FOLDER) -> list[str]:
    """Take the finished trainings in `run_folders` into the tables of `folder`; gives the data sets that changed.

    A training is a checkpoint with its log beside it (``<cell>.safetensors``, ``<cell>.jsonl``). It replaces one of the
    same epochs, seed, cell and input bits; all others stay. Everything is read before anything is written.

    Raises HistoryError where a folder has no checkpoint, a log is shorter than its schedule or of another training
    than its checkpoint, settings are not the study's, or two folders hold the same training; CheckpointError where a
    checkpoint is damaged.
    """
    found: dict[tuple[str, ...], Path] = {}
    histories: dict[str, list[dict[str, str]]] = {}
    trainings: dict[str, list[dict[str, str]]] = {}
    for run_folder in run_folders:
        paths = sorted(run_folder.glob("*.safetensors"))
        if not paths:
            raise HistoryError(f"there is no checkpoint in {run_folder}: finish the training first")
        for path in paths:
            dataset, rows, provenance = _run(path)
            name = (dataset, *(provenance[column] for column in TRAINING))
            if name in found:
                raise HistoryError(f"{found[name]} and {path} are the same training: {' '.join(name)}")
            found[name] = path
            histories.setdefault(dataset, []).extend(rows)
            trainings.setdefault(dataset, []).append(provenance)
    contents: dict[Path, bytes] = {}
    for dataset in histories:
        path, provenance_path = table_path(dataset, folder), _trainings_path(dataset, folder)
        if path.exists():
            read(dataset, folder)  # a damaged table is refused as it is, not sorted into another shape
        contents[provenance_path] = _merged(provenance_path, PROVENANCE, trainings[dataset])
        contents[path] = _merged(path, COLUMNS, histories[dataset])
    for path, content in contents.items():
        write_atomically(path, content)
    return list(histories)
