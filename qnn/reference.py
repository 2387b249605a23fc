"""Published and expected numbers: the paper's tables and the accuracy floors, read from ``fixtures/reference``."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from qnn.cell import Cell
from qnn.errors import CellError

__all__ = ["FOLDER", "accuracy_floor_percent", "paper_throughput_images_per_s"]

FOLDER = Path(__file__).parents[1] / "fixtures" / "reference"


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
