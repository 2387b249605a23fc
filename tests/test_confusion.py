"""The confusion matrix against counting one image after another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qnn import confusion
from qnn.errors import DataError

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30)


@given(PAIRS)
def test_every_image_is_counted_where_it_belongs(pairs: list[tuple[int, int]]) -> None:
    expected = [[0] * 4 for _ in range(4)]
    for label, prediction in pairs:
        expected[label][prediction] += 1
    found = confusion.confusion_matrix([label for label, _ in pairs], [prediction for _, prediction in pairs], 4)
    assert found.tolist() == expected


def test_recall_is_the_diagonals_share_of_its_row() -> None:
    matrix = np.array([[3, 1, 0], [0, 0, 0], [2, 0, 2]])
    assert confusion.recalls_percent(matrix) == [75.0, None, 50.0]


@given(PAIRS)
def test_the_text_gives_the_matrix_back(pairs: list[tuple[int, int]]) -> None:
    matrix = confusion.confusion_matrix([label for label, _ in pairs], [prediction for _, prediction in pairs], 4)
    assert confusion.matrix_of(confusion.text_of(matrix)).tolist() == matrix.tolist()


@pytest.mark.parametrize("text", ["", "1 2", "1 2; 3", "1 x; 2 3", "1 -2; 3 4"])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="no confusion matrix"):
        confusion.matrix_of(text)


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [([0, 1], [0], "do not belong"), ([0, 4], [0, 0], "label 4"), ([0, 1], [0, -1], "prediction -1")],
)
def test_what_is_no_class_is_refused(labels: list[int], predictions: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        confusion.confusion_matrix(labels, predictions, 4)
