"""The study's claims on how an accelerator grows with its bit widths, as statistics of synthesised figures. Pure.

The study (III-C, Figure 7) looks at cells of equal activation and weight bits at one folding: "LUT and FF grow linearly
with the bit width up to 6 bits, faster above", and "RAMB18 use jumps above 7 bits". Synthesis is deterministic: there
is nothing to draw an interval from, so each claim is a plain comparison with a stated bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qnn.errors import QnnError

__all__ = ["BITS", "Growth", "jumps_above", "linear_then_faster"]

BITS = range(2, 9)
"""Of activations and weights alike: the study's diagonal."""
LINEAR_UP_TO = 6
LINEAR_WITHIN_PERCENT = 5.0
"""Of the figure itself: how far a point may lie off the straight line."""
JUMP_ABOVE = 7
JUMP_TIMES = 2.0
"""How many times the largest step before a jump has to be."""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """A claim on a figure that was obtained for every one of BITS."""

    holds: bool
    measured: str
    """The statistic and its bound, in one line."""

    def __str__(self) -> str:
        return self.measured


def _checked(figures: Mapping[int, float]) -> None:
    if sorted(figures) != list(BITS):
        raise QnnError(f"the claim is on {BITS[0]} to {BITS[-1]} bits, and figures are there for {sorted(figures)}")


def linear_then_faster(figures: Mapping[int, float]) -> Growth:
    """Linear up to 6 bits, faster above.

    A straight line is fitted (least squares) to 2..6 bits. It has to meet each of these within 5 % of the figure, and
    at 7 and at 8 bits the figures have to lie above it by more than the worst of them is off, in per cent of each.
    """
    _checked(figures)
    low = [bits for bits in BITS if bits <= LINEAR_UP_TO]
    slope, offset = map(float, np.polyfit(low, [figures[bits] for bits in low], 1))
    off_percent = {bits: 100 * (figures[bits] - (slope * bits + offset)) / figures[bits] for bits in BITS}
    worst = max(abs(off_percent[bits]) for bits in low)
    above = [off_percent[bits] for bits in BITS if bits > LINEAR_UP_TO]
    shown = ", ".join(f"{figures[bits]:,.0f}" for bits in BITS)
    return Growth(
        holds=worst <= LINEAR_WITHIN_PERCENT and all(percent > worst for percent in above),
        measured=(
            f"{shown} at 2 to 8 bits; off a straight line through 2 to 6 by at most {worst:.1f} % "
            f"(linear: {LINEAR_WITHIN_PERCENT:.0f} % or less), above it at 7 and 8 by "
            f"{' and '.join(f'{percent:.1f} %' for percent in above)} (faster: more than that)"
        ),
    )


def jumps_above(figures: Mapping[int, float]) -> Growth:
    """A jump above 7 bits: the step from 7 to 8 bits is at least twice the largest step before it, and upwards."""
    _checked(figures)
    steps = {bits: figures[bits + 1] - figures[bits] for bits in BITS[:-1]}
    last, before = steps[JUMP_ABOVE], max(step for bits, step in steps.items() if bits < JUMP_ABOVE)
    shown = ", ".join(f"{figures[bits]:,.0f}" for bits in BITS)
    return Growth(
        holds=last > 0 and last >= JUMP_TIMES * before,
        measured=(
            f"{shown} at 2 to 8 bits; the step from 7 to 8 is {last:,.0f}, the largest before it {before:,.0f} "
            f"(a jump: {JUMP_TIMES:.0f} times that or more)"
        ),
    )
