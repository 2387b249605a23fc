"""Expected numbers: accuracy floors, parts and what does not fit them, read from ``fixtures/reference``."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from qnn.cell import NETWORKS, Cell, Folding, Policy, Quantization
from qnn.errors import CellError, DesignError
from qnn.resources import BUDGETED, Part, parse_parts

__all__ = [
    "CHECKPOINTS",
    "FOLDER",
    "Misfit",
    "accuracy_floor_percent",
    "expected_misfit",
    "parse_misfits",
    "part",
    "shipped_cells",
    "shipped_checkpoint",
]

_FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
FOLDER = _FIXTURES / "reference"
CHECKPOINTS = _FIXTURES / "checkpoints"
"""One folder a data set, one file a network and bit widths."""


@cache
def _table(name: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / name).read_text())


def accuracy_floor_percent(cell: Cell) -> float:
    """Lowest top-1 accuracy that the cell's shipped checkpoint may have, in per cent of the test set."""
    floors = _table("floors.toml")[cell.dataset]
    try:
        return float(floors[str(cell.quantization)])
    except KeyError:
        raise CellError(f"no accuracy floor for {cell.trained}: add it to {FOLDER / 'floors.toml'}") from None


def shipped_checkpoint(cell: Cell, folder: Path = CHECKPOINTS) -> Path:
    """Where the checkpoint of a cell that comes with the repository lies."""
    return folder / cell.dataset / f"{cell.network}-{cell.quantization}.safetensors"


def shipped_cells(datasets: Iterable[str], folder: Path = CHECKPOINTS) -> list[Cell]:
    """Cells (without folding) of `datasets` whose checkpoints are there, in order of network and bit widths."""
    cells = []
    for dataset in datasets:
        for network in NETWORKS:
            names = sorted(path.stem for path in (folder / dataset).glob(f"{network}-*.safetensors"))
            for name in names:
                quantization = Quantization.parse(name.removeprefix(f"{network}-"))
                cells.append(Cell(network=network, dataset=dataset, quantization=quantization))
    return cells


def part(name: str) -> Part:
    """What an FPGA part offers. Raises CellError for one that the table has not."""
    parts = parse_parts((FOLDER / "parts.toml").read_text())
    if name not in parts:
        raise CellError(f"unknown part {name!r}: there are {', '.join(parts)} (fixtures/reference/parts.toml)")
    return parts[name]


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """The resources of which an accelerator is expected to take more than there is."""

    alone: frozenset[str] = frozenset()
    """With the whole part for itself; names of ``qnn.resources.BUDGETED``."""
    beside_shell: frozenset[str] = frozenset()
    """With what the shell leaves of it."""


MisfitKey = tuple[str, str, str, str]
"""Part, bit widths, folding and policy: whether a cell fits does not depend on what it was trained on."""


def _misfit(number: int, entry: dict[str, Any]) -> tuple[MisfitKey, Misfit]:
    where = f"misfit {number} of misfits.toml"
    wanted = {"part", "cell", "folding", "policy", "evidence", "alone", "beside_shell"}
    if entry.keys() != wanted:
        raise DesignError(f"{where}: missing or not known: {', '.join(sorted(entry.keys() ^ wanted))}")
    unknown = sorted({*entry["alone"], *entry["beside_shell"]} - set(BUDGETED))
    if unknown:
        raise DesignError(f"{where}: there is no resource {', '.join(unknown)}; there are {', '.join(BUDGETED)}")
    if not entry["alone"] and not entry["beside_shell"]:
        raise DesignError(f"{where} names no resource")
    try:
        folding, policy = Folding.parse(entry["folding"]), Policy.parse(entry["policy"])
        key = part(entry["part"]).name, str(Quantization.parse(entry["cell"])), str(folding), str(policy)
    except CellError as error:
        raise DesignError(f"{where}: {error}") from None
    return key, Misfit(alone=frozenset(entry["alone"]), beside_shell=frozenset(entry["beside_shell"]))


def parse_misfits(text: str) -> dict[MisfitKey, Misfit]:
    """The cells that are expected not to fit, from TOML; raises DesignError that says which entry is wrong."""
    try:
        entries = tomllib.loads(text).get("misfit", [])
    except tomllib.TOMLDecodeError as error:
        raise DesignError(f"misfits.toml is not TOML: {error}") from None
    misfits: dict[MisfitKey, Misfit] = {}
    for number, entry in enumerate(entries, start=1):
        key, misfit = _misfit(number, entry)
        if key in misfits:
            raise DesignError(f"misfit {number} of misfits.toml: {' '.join(key)} is there twice")
        misfits[key] = misfit
    return misfits


def expected_misfit(cell: Cell, part_name: str) -> Misfit:
    """What of a part the cell's RTL is expected to overflow; nothing where it is expected to fit."""
    key = part_name, str(cell.quantization), str(cell.folding), str(cell.policy)
    return parse_misfits((FOLDER / "misfits.toml").read_text()).get(key, Misfit())
