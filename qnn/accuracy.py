"""What the trainings of the study's schedule reached, taken from their histories."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qnn.cell import INPUT_BITS, Quantization
from qnn.histories import LONG

__all__ = ["SHIPPED_SEED", "errors_points", "float_top1_percent"]

SHIPPED_SEED = 0
"""Of the trainings whose checkpoints come with the repository."""


def _last_epochs(histories: pd.DataFrame) -> pd.DataFrame:
    """The result of each training of 100 epochs with the study's input bits, float included."""
    last = histories[(histories["epochs"] == LONG) & (histories["epoch"] == LONG)]
    return last[last["input_bits"].isna() | (last["input_bits"] == INPUT_BITS).fillna(False)]


def errors_points(histories: pd.DataFrame, cells: Sequence[Quantization]) -> NDArray[np.float64]:
    """Test error in percentage points, [seeds, cells], of the seeds that have all cells, in their order."""
    names = [str(cell) for cell in cells]
    rows = _last_epochs(histories)
    rows = rows[rows["cell"].isin(names)]
    table = rows.pivot_table(index="seed", columns="cell", values="test_error").reindex(columns=names).dropna()
    return np.asarray(100 * table.to_numpy(dtype=np.float64).reshape(-1, len(names)))


def float_top1_percent(histories: pd.DataFrame, seed: int = SHIPPED_SEED) -> float | None:
    """Top-1 of the float network trained with `seed`, in per cent of the test set; None where it was not trained.

    Networks of one seed share initial weights, order of images and dropout, so a drop is taken within a seed.
    """
    rows = _last_epochs(histories)
    errors = rows[(rows["cell"] == "float") & (rows["seed"] == seed)]["test_error"]
    return None if errors.empty else 100 * (1 - float(errors.iloc[0]))
