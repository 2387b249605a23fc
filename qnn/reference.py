"""Published and expected numbers: the paper's tables and the accuracy floors, read from ``fixtures/reference``."""

import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from qnn.cell import NETWORKS, Cell, Quantization
from qnn.errors import CellError
from qnn.resources import Part, parse_parts

__all__ = [
    "CHECKPOINTS",
    "FOLDER",
    "accuracy_floor_percent",
    "paper_accuracy_percent",
    "paper_throughput_images_per_s",
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


def paper_throughput_images_per_s(cell: Cell) -> float | None:
    """What the paper's board reached for the cell (Tables II and III), or None where the paper has no such cell.

    The paper measured one data set; throughput does not depend on what is in the images.
    """
    if cell.folding is None:
        return None
    paper = _table("paper.toml")["paper"]
    for pe, simd, images_per_s, _megabytes in paper["table2"].get(str(cell.quantization), []):
        if (pe, simd) == (cell.folding.pe, cell.folding.simd):
            return float(images_per_s)
    if str(cell.quantization) == "A3W3":
        value = paper["table3"].get(f"PE{cell.folding.pe}", {}).get(f"SIMD{cell.folding.simd}")
        return None if value is None else float(value)
    return None


def accuracy_floor_percent(cell: Cell) -> float:
    """Lowest top-1 accuracy that the cell's shipped checkpoint may have, in per cent of the test set."""
    floors = _table("floors.toml")[cell.dataset]
    try:
        return float(floors[str(cell.quantization)])
    except KeyError:
        raise CellError(f"no accuracy floor for {cell.trained}: add it to {FOLDER / 'floors.toml'}") from None


def paper_accuracy_percent(cell: Cell) -> float | None:
    """What the paper's best networks reached, in per cent of the test set; None for MNIST, of which it says nothing."""
    if cell.dataset != "fashion-mnist":
        return None
    return 100 * float(_table("paper.toml")["paper"]["claims"]["accuracy_reached"])


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
