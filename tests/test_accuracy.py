"""Accuracies from histories: the last epoch of the long schedule, seed by seed."""

import pandas as pd
import pytest

from qnn import accuracy
from qnn.cell import Quantization

A2W2, A3W3 = CELLS = tuple(Quantization(activation_bits=n, weight_bits=n) for n in (2, 3))


def table(*lines: tuple[int, int, str, int | None, int, float]) -> pd.DataFrame:
    columns = ["epochs", "seed", "cell", "input_bits", "epoch", "test_error"]
    return pd.DataFrame(list(lines), columns=columns).astype({"input_bits": "Int64"})


HISTORIES = table(
    (100, 1, "A2W2", 8, 100, 0.13),
    (100, 1, "A3W3", 8, 100, 0.12),
    (100, 0, "A3W3", 8, 99, 0.50),
    (100, 0, "A3W3", 8, 100, 0.11),
    (100, 0, "A3W3", 4, 100, 0.90),
    (40, 0, "A3W3", 8, 40, 0.70),
    (100, 0, "A2W2", 8, 100, 0.14),
    (100, 2, "A2W2", 8, 100, 0.20),
    (100, 0, "float", None, 99, 0.30),
    (100, 0, "float", None, 100, 0.10),
    (40, 0, "float", None, 40, 0.60),
)


def test_errors_are_those_after_the_last_of_100_epochs_with_the_studys_input() -> None:
    assert accuracy.errors_points(HISTORIES, CELLS).tolist() == pytest.approx(
        [pytest.approx([14, 11]), pytest.approx([13, 12])]
    )


def test_seeds_that_lack_a_cell_are_left_out_and_none_may_be_left() -> None:
    a4w4 = Quantization.parse("A4W4")
    assert accuracy.errors_points(HISTORIES, [A2W2]).shape == (3, 1)
    assert accuracy.errors_points(HISTORIES, [A2W2, a4w4]).shape == (0, 2)


def test_the_float_networks_accuracy_is_that_of_the_shipped_seed() -> None:
    assert accuracy.float_top1_percent(HISTORIES) == pytest.approx(90.0)
    assert accuracy.float_top1_percent(HISTORIES, seed=1) is None
