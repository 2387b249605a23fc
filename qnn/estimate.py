"""The throughput law: cycles per layer, initiation interval, images a second, input bandwidth. Pure functions."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from qnn.cell import LayerFolding

__all__ = [
    "BOARD_BOUNDS",
    "batch_images_per_s",
    "board_bound",
    "fit_overhead_cycles",
    "initiation_interval_cycles",
    "megabytes_per_s",
    "spread",
    "throughput_images_per_s",
]

BOARD_BOUNDS: Mapping[int, float] = {256: 0.05, 1_024: 0.015, 16_384: 0.003}
"""{initiation interval in cycles: share by which the simulated throughput may differ from the paper's board}.

Of the network at PE16-SIMD16, PE8-SIMD8 and PE2-SIMD2. Stated beforehand, not fitted.
"""


def initiation_interval_cycles(layers: Iterable[LayerFolding]) -> int:
    """Cycles between two images in a full pipeline: those of the slowest layer."""
    return max(layer.cycles for layer in layers)


def throughput_images_per_s(interval_cycles: float, clock_period_ns: float) -> float:
    """Images a second at one image an interval."""
    return 1e9 / (interval_cycles * clock_period_ns)


def batch_images_per_s(completions_cycles: ArrayLike, clock_period_ns: float) -> float:
    """Images a second of a whole batch, from its start in cycle 0 to the last of its `completions_cycles` [images]."""
    completions = np.asarray(completions_cycles)
    return float(len(completions) * 1e9 / (completions[-1] * clock_period_ns))


def megabytes_per_s(images_per_s: float, bytes_per_image: int) -> float:
    """Input bandwidth in MB/s (10^6 bytes), the paper's "DRAM In"."""
    return images_per_s * bytes_per_image / 1e6


def board_bound(interval_cycles: float) -> float:
    """Share by which a simulated throughput may differ from the paper's board, with nothing fitted in between.

    BOARD_BOUNDS at its three intervals; between two of them the straight line on logarithmic axes, which is how a cost
    of so many cycles a frame would show (a share of cost / interval); outside them the nearest one.
    """
    intervals, bounds = np.array(sorted(BOARD_BOUNDS.items())).T
    return float(np.exp(np.interp(np.log(interval_cycles), np.log(intervals), np.log(bounds))))


def fit_overhead_cycles(measured: Sequence[tuple[float, float]], clock_period_ns: float) -> float:
    """The constant h for which interval + h comes closest to the cycles a frame that were measured.

    `measured` holds (ideal interval in cycles, images/s). With P = 1e9 / (images/s * clock period) the cycles a frame,
    h is where the sum of the squared relative errors ((interval + h) / P - 1)^2 is least.
    """
    intervals, images_per_s = np.array(measured, dtype=np.float64).T
    weights = images_per_s * clock_period_ns / 1e9  # 1 / P
    return float(np.sum(weights * (1 - intervals * weights)) / np.sum(weights**2))


def spread(values: Collection[float]) -> float:
    """How much the largest is above the smallest, as a share of the smallest."""
    return max(values) / min(values) - 1
