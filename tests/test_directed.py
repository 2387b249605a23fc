"""Directed vectors hold what they promise, and every single fault shows on them: by naive models."""

import numpy as np
import pytest

from qnn.directed import matrix_vectors, stream_vectors, threshold_vectors


def test_a_small_range_is_gone_through_as_a_whole_in_every_channel() -> None:
    vectors = threshold_vectors(np.array([[-3, 0], [1, 5], [2, 2]]), -512, 511)
    for channel in range(3):
        assert sorted(vectors[:, channel]) == list(range(-512, 512))


def test_a_large_range_is_covered_next_to_each_threshold_and_at_its_ends() -> None:
    thresholds = np.array([[-70_000, 0, 5], [-1, 131_071, 131_071]])
    vectors = threshold_vectors(thresholds, -131_072, 131_071)
    for channel, row in enumerate(thresholds):
        got = set(vectors[:, channel].tolist())
        assert {-131_072, 131_071} <= got
        for threshold in row.tolist():
            for value in (
                threshold - 1,
                threshold,
                min(threshold + 1, 131_071),
                threshold ^ 64,
                (threshold - 1) ^ 1024,
            ):
                assert value in got
    assert vectors.min() == -131_072
    assert vectors.max() == 131_071


def test_neighbouring_channels_get_values_in_another_order() -> None:
    vectors = threshold_vectors(np.zeros((4, 1), np.int64), 0, 255)
    assert all((vectors[:, k] != vectors[:, k + 1]).all() for k in range(3))


@pytest.mark.parametrize(("lowest", "highest"), [(-4, 3), (0, 7), (-128, 127), (1, 8)])
def test_every_accumulator_reaches_both_of_its_ends(lowest: int, highest: int) -> None:
    weights = np.random.default_rng(1).integers(-3, 4, (6, 20))
    vectors = matrix_vectors(weights, lowest, highest)
    assert vectors.min() >= lowest
    assert vectors.max() <= highest
    sums = vectors @ weights.T
    for output, row in enumerate(weights):
        ends = [[w * lowest, w * highest] for w in row.tolist()]
        assert sums[:, output].min() == sum(map(min, ends))
        assert sums[:, output].max() == sum(map(max, ends))


def test_every_single_changed_weight_shows_on_the_first_vector() -> None:
    weights = np.random.default_rng(2).integers(-3, 4, (3, 10))
    first = matrix_vectors(weights, -4, 3)[0]
    for place in np.ndindex(*weights.shape):
        for change in (-1, 1):
            faulty = weights.copy()
            faulty[place] += change
            assert (faulty @ first != weights @ first).any()


def test_stream_vectors_hold_both_ends() -> None:
    vectors = stream_vectors(5, -8, 7)
    assert {-8, 7} <= set(vectors.ravel().tolist())
    assert (vectors[-2:] == [[-8] * 5, [7] * 5]).all()
