"""The Pareto front: what nothing else is at least as good as in everything and better in something."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["dominates", "front"]


def dominates(one: ArrayLike, others: ArrayLike) -> NDArray[np.bool_]:
    """Whether `one` [criteria] dominates each of `others` [..., criteria]: never worse, better at least once.

    More is better in every criterion; negate what should be little.
    """
    mine, theirs = np.asarray(one, dtype=np.float64), np.asarray(others, dtype=np.float64)
    return np.asarray((mine >= theirs).all(axis=-1) & (mine > theirs).any(axis=-1))


def front(points: ArrayLike) -> NDArray[np.bool_]:
    """Which of `points` [points, criteria] no other one dominates, [points]. Equal points stand or fall together."""
    table = np.asarray(points, dtype=np.float64)
    if table.size == 0:
        return np.zeros(len(table), dtype=np.bool_)
    if table.ndim != 2 or np.isnan(table).any():
        raise ValueError("points have to be numbers [points, criteria]; leave out what was not obtained")
    dominated = np.zeros(len(table), dtype=np.bool_)
    for point in table:
        dominated |= dominates(point, table)
    return ~dominated
