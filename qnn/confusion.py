"""Confusion by class: how many images of each class were taken for which."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qnn.errors import DataError

__all__ = ["confusion_matrix", "matrix_of", "recalls_percent", "text_of"]


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Images [true class, predicted class] of `labels` and `predictions` [images], both from 0 to classes - 1.

    Raises DataError where the two differ in length or a class is out of range.
    """
    true, predicted = np.asarray(labels, dtype=np.int64), np.asarray(predictions, dtype=np.int64)
    if true.ndim != 1 or true.shape != predicted.shape:
        raise DataError(f"labels {list(true.shape)} and predictions {list(predicted.shape)} do not belong together")
    for name, values in (("label", true), ("prediction", predicted)):
        wrong = values[(values < 0) | (values >= classes)]
        if len(wrong):
            raise DataError(f"the {name} {wrong[0]} is no class: there are 0 to {classes - 1}")
    return np.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes)


def recalls_percent(matrix: NDArray[np.int64]) -> list[float | None]:
    """Share of each class' images that were recognised; None for a class without images."""
    return [100 * float(row[k] / row.sum()) if row.sum() else None for k, row in enumerate(matrix)]


def text_of(matrix: NDArray[np.int64]) -> str:
    """One line for a row of results: a row a true class, split by ``;``, its numbers by blanks."""
    return "; ".join(" ".join(map(str, row)) for row in matrix)


def matrix_of(text: str) -> NDArray[np.int64]:
    """What text_of() wrote. Raises DataError where it is no square of whole numbers."""
    rows = [row.split() for row in text.split(";")]
    if any(len(row) != len(rows) or not all(number.isdecimal() for number in row) for row in rows):
        raise DataError(f"no confusion matrix: {text!r}")
    return np.array(rows, dtype=np.int64)
