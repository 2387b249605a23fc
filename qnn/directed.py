"""Directed vectors: inputs of a single node at which a wrong weight, threshold or bit width shows.

Images reach few of a node's values: of the accumulators of a layer, say, those around 0. Pure NumPy.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["matrix_vectors", "stream_vectors", "threshold_vectors"]

_RANDOM_VECTORS = 16
_RANDOM_SUMS = 4096
"""Accumulators, at the least, that random vectors of the whole range give: a matrix unit packs several into a DSP, and
a carry from one to the next that a wrong LUT spoils may show in one sum of a thousand (test_mutation)."""
_WHOLE_RANGE = 1024
"""A range of at most as many values is gone through as a whole."""


def threshold_vectors(thresholds: NDArray[np.int64], lowest: int, highest: int) -> NDArray[np.int64]:
    """Values [vectors, channels] next to each threshold [channels, steps], and the ends of the input's range.

    The whole range where it has at most 1,024 values. Else every channel gets T - 1, T and T + 1 of each of its
    thresholds; T and T - 1 with each single bit inverted, which a comparator made of gates has to tell from T; both
    ends; all clipped to `lowest`..`highest`. Neighbouring channels get theirs in another order, so that a swap of lanes
    shows.
    """
    channels = len(thresholds)
    if highest - lowest < _WHOLE_RANGE:
        values = np.repeat(np.arange(lowest, highest + 1)[:, None], channels, axis=1)
    else:
        ends = np.repeat([[lowest], [highest]], channels, axis=1)
        inverted = [(thresholds.T - offset) ^ (1 << bit) for offset in (0, 1) for bit in range(highest.bit_length())]
        values = np.concatenate([*(thresholds.T + offset for offset in (-1, 0, 1)), *inverted, ends])
        values = np.clip(values, lowest, highest)
    turns = np.arange(len(values))[:, None] + np.arange(channels)
    return np.take_along_axis(values, turns % len(values), axis=0)


def matrix_vectors(weights: NDArray[np.int64], lowest: int, highest: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Inputs [vectors, inputs] for weights [outputs, inputs] and inputs from `lowest` to `highest`.

    First random ones without a zero: every weight counts, so a change of any single one shows. Then random ones of the
    whole range. Then, for each output, the two at which its accumulator is smallest and largest.
    """
    random = np.random.default_rng(seed)
    values = np.arange(lowest, highest + 1)
    without_zero = random.choice(values[values != 0], (_RANDOM_VECTORS, weights.shape[1]))
    anywhere = random.choice(values, (max(_RANDOM_VECTORS, -(-_RANDOM_SUMS // len(weights))), weights.shape[1]))
    other = highest if highest else lowest
    largest = np.where(weights > 0, highest, np.where(weights < 0, lowest, other))
    smallest = np.where(weights > 0, lowest, np.where(weights < 0, highest, other))
    return np.concatenate([without_zero, anywhere, smallest, largest]).astype(np.int64)


def stream_vectors(values: int, lowest: int, highest: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Vectors [vectors, values] for a node that passes them on: both ends of the range, and random ones."""
    ends = np.repeat([[lowest], [highest]], values, axis=1)
    anywhere = np.random.default_rng(seed).integers(lowest, highest, (_RANDOM_VECTORS, values), endpoint=True)
    return np.concatenate([anywhere, ends]).astype(np.int64)
