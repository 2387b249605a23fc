"""The Pareto front against its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qnn import pareto

POINTS = st.integers(1, 4).flatmap(
    lambda criteria: st.lists(st.tuples(*[st.integers(-3, 3)] * criteria), min_size=1, max_size=12)
)


def naive_front(points: list[tuple[int, ...]]) -> list[bool]:
    kept = []
    for point in points:
        beaten = False
        for other in points:
            never_worse = all(theirs >= mine for theirs, mine in zip(other, point, strict=True))
            once_better = any(theirs > mine for theirs, mine in zip(other, point, strict=True))
            beaten = beaten or (never_worse and once_better)
        kept.append(not beaten)
    return kept


@given(POINTS)
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, ...]]) -> None:
    assert pareto.front(points).tolist() == naive_front(points)


@given(POINTS)
def test_some_point_is_always_on_the_front(points: list[tuple[int, ...]]) -> None:
    assert pareto.front(points).any()


def test_cheap_and_slow_stands_beside_dear_and_fast() -> None:
    accuracy_speed_cost = np.array([(88.0, 10, 30), (88.0, 10, 40), (87.0, 20, 40), (86.0, 5, 50)])
    assert pareto.front(accuracy_speed_cost * (1, 1, -1)).tolist() == [True, False, True, False]


def test_equal_points_stand_together() -> None:
    assert pareto.front([(1, 2), (1, 2)]).tolist() == [True, True]


def test_no_points_have_no_front() -> None:
    assert pareto.front([]).tolist() == []


@pytest.mark.parametrize("points", [[[1.0, float("nan")]], [1.0, 2.0]])
def test_a_figure_that_was_not_obtained_is_refused(points: list[float]) -> None:
    with pytest.raises(ValueError, match="leave out"):
        pareto.front(points)
