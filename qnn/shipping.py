"""Make the checkpoints of a finished run those that come with the repository, each with its floor."""

import tomllib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from qnn import checkpoints, reference
from qnn.cell import DATASETS, Cell
from qnn.errors import CheckpointError
from qnn.files import write_atomically

__all__ = ["ship"]

TOLERANCE_PERCENT = Decimal("0.05")
FLOORS_HEADER = f"""\
# Lowest top-1 accuracy, in per cent of the 10,000 test images, that a shipped checkpoint may have. Floor = the
# accuracy that was measured when the checkpoint was trained, less {TOLERANCE_PERCENT} (5 images of 10,000: another
# machine's float32 sums may move images that lie on a boundary). The paper reached 88 % on Fashion-MNIST with its best
# cells. Written by `python -m qnn ship`.
tolerance_percent = {TOLERANCE_PERCENT}
"""


def _floor(test_accuracy: float) -> Decimal:
    """Hundredths of a per cent are whole images."""
    return (Decimal(repr(test_accuracy)) * 100).quantize(Decimal("0.01")) - TOLERANCE_PERCENT


def _floors(found: dict[str, dict[str, Decimal]]) -> str:
    lines = [FLOORS_HEADER]
    for dataset in [name for name in DATASETS if name in found]:
        lines.append(f"[{dataset}]")
        lines += [
            f"{name} = {floor}"
            for name, floor in sorted(found[dataset].items(), key=lambda item: (item[0] == "float", item[0]))
        ]
        lines.append("")
    return "\n".join(lines)


def ship(folder: Path, *, checkpoints_folder: Path, floors_path: Path) -> Sequence[Cell]:
    """Copy every checkpoint in `folder`, and write its floor beside those that are there; gives the cells.

    Floors come first: a copy that is interrupted leaves checkpoints that fail their floors, never ones without.
    Raises CheckpointError where there is none, or one is damaged.
    """
    loaded = {path: checkpoints.load(path) for path in sorted(folder.glob("*.safetensors"))}
    if not loaded:
        raise CheckpointError(f"there is no checkpoint in {folder}: finish the training first")
    floors = tomllib.loads(floors_path.read_text(), parse_float=Decimal) if floors_path.exists() else {}
    floors = {name: table for name, table in floors.items() if name in DATASETS}
    for checkpoint in loaded.values():
        cell = checkpoint.cell
        floors.setdefault(cell.dataset, {})[str(cell.quantization)] = _floor(checkpoint.test_accuracy)
    write_atomically(floors_path, _floors(floors).encode())
    for path, checkpoint in loaded.items():
        write_atomically(reference.shipped_checkpoint(checkpoint.cell, checkpoints_folder), path.read_bytes())
    return [checkpoint.cell for checkpoint in loaded.values()]
