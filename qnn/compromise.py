"""Whether one representation is the best compromise between accuracy, speed and resources, as the study concludes.

"A3W3 seems to be the best compromise between the different representations." (IV) "A3W3 still comes out as a good
compromise since it allows parallelization factors up to 16 for both PE and SIMD simultaneously and therefore gets the
highest output possible with a correct accuracy". (III-C.3)

The criterion was stated before the resources were synthesised. A representation (bit widths) is *accurate* if its error
is less than a margin above the lowest error of all representations; the margin is that of the claims on accuracy
(``qnn.claims.IMPORTANT_POINTS``). The cost of a design is its worst resource: the largest of its shares of the part's
budget; it fits if that is 1 or less. The candidate is the best compromise if

accurate    it is accurate;
cheapest    of one folding, in which all representations are built, no accurate one costs less;
on front    of that folding, where all are equally fast, none that costs no more has a smaller error;
fastest     of all foldings that were built, no accurate one has a faster design that fits.

Resources and intervals are exact. Errors differ from seed to seed: the seeds are the blocks of a randomised block
design, y[s, c] = m[c] + p[s] + e[s, c], with one residual variance of (seeds - 1)(cells - 1) degrees of freedom. That
suits cells which share no bit width, such as the diagonal A2W2, A3W3 ... (see ``qnn.claims`` for the others).
*Accurate* is yes where the upper ends of the 95 % intervals of all differences to other cells are below the margin
(intersection-union test), no where a lower end with Bonferroni's correction is above it, else undecided. *A smaller
error* is decided by the 95 % interval of the difference of the two.

Verdict: *refuted* where one of the four does not hold for certain, *borne out* where all hold for certain, else
*undecided*: an interval that holds the margin, fewer than two seeds, a design whose resources are not known.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t  # type: ignore[import-untyped]

from qnn import pareto
from qnn.accuracy import errors_points
from qnn.cell import Cell, Folding, Quantization
from qnn.claims import Verdict

__all__ = ["Compromise", "Design", "Differences", "front", "judge"]

_TAIL = 0.025
"""On each side of a 95 % interval."""

Answer = bool | None
"""None: cannot be told."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """One cell with a folding, and what it reaches."""

    cell: Cell
    top1_percent: float
    """Of the network that was built."""
    interval_cycles: int
    """Measured initiation interval: equal where designs are equally fast, which images/s of a batch are not quite."""
    worst_share: float | None
    """The largest of its shares of the part's budget; None where its resources were not obtained."""

    @property
    def fits(self) -> Answer:
        return None if self.worst_share is None else self.worst_share <= 1


def front(designs: Sequence[Design]) -> list[Design]:
    """Those that no other one dominates in accuracy, speed and worst resource share, as measured.

    A design that does not fit, or of which that is not known, is left out.
    """
    known = [design for design in designs if design.worst_share is not None and design.fits]
    points = [(design.top1_percent, -design.interval_cycles, -(design.worst_share or 0.0)) for design in known]
    return [design for design, kept in zip(known, pareto.front(points), strict=True) if kept]


# Errors ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Differences:
    """Differences of cells' errors over seeds, with their intervals."""

    means: NDArray[np.float64]
    """[cells], percentage points."""
    deviation: float | None
    """Standard deviation of the difference of two means; None where seeds are too few to tell."""
    freedom: int

    @classmethod
    def of(cls, errors: NDArray[np.float64]) -> "Differences":
        """From errors [seeds, cells] in percentage points."""
        seeds, cells = errors.shape
        freedom = (seeds - 1) * (cells - 1)
        means = errors.mean(axis=0) if seeds else np.full(cells, math.nan)
        if freedom < 1:
            return cls(means=means, deviation=None, freedom=0)
        residuals = errors - means - errors.mean(axis=1, keepdims=True) + errors.mean()
        deviation = math.sqrt(2 * float(np.square(residuals).sum()) / freedom / seeds)
        return cls(means=means, deviation=deviation, freedom=freedom)

    def half_width(self, tail: float = _TAIL) -> float:
        """Of an interval that leaves `tail` on each side; infinite where seeds are too few."""
        if self.deviation is None:
            return math.inf
        return float(t.ppf(1 - tail, self.freedom)) * self.deviation

    def excess(self, cell: int) -> tuple[float, float, float]:
        """Of a cell's error above the lowest of the others: estimate, lower and upper end; nan where none is known."""
        excess = self.means[cell] - np.delete(self.means, cell)
        if not len(excess) or np.isnan(excess).any():
            return math.nan, math.nan, math.nan
        estimate = float(excess.max())
        return estimate, estimate - self.half_width(_TAIL / len(excess)), estimate + self.half_width()

    def is_accurate(self, cell: int, margin_points: float) -> Answer:
        """Whether a cell's error is less than the margin above that of every other one."""
        _, low, high = self.excess(cell)
        return True if high < margin_points else False if low > margin_points else None

    def is_better(self, cell: int, other: int) -> Answer:
        """Whether a cell's error is smaller than that of another one."""
        difference = float(self.means[cell] - self.means[other])
        return None if not abs(difference) > self.half_width() else difference < 0

    def said(self, cell: int) -> str:
        """The excess with its interval, for a person."""
        estimate, low, high = self.excess(cell)
        return f"{estimate:.2f} [{low:.2f}, {high:.2f}] points above the lowest"


# Verdict --------------------------------------------------------------------------------------------------------------


def _both(one: Answer, other: Answer) -> Answer:
    if one is False or other is False:
        return False
    return None if one is None or other is None else True


def _compare(one: Design, other: Design) -> tuple[Answer, Answer]:
    """Whether `one` costs less than `other`, and whether it costs no more."""
    if one.worst_share is None or other.worst_share is None:
        return None, None
    return one.worst_share < other.worst_share, one.worst_share <= other.worst_share


def _percent(design: Design) -> str:
    return "not known" if design.worst_share is None else f"{100 * design.worst_share:.1f} %"


def _is_faster(ones: Sequence[Design], others: Sequence[Design]) -> Answer:
    """Whether the fastest of the designs that fit is faster than the fastest of the others that do."""

    def fastest(designs: Sequence[Design], *answers: Answer) -> float:
        return min((design.interval_cycles for design in designs if design.fits in answers), default=math.inf)

    if fastest(ones, True) < fastest(others, True, None):
        return True
    return None if fastest(ones, True, None) < fastest(others, True) else False


@dataclass(frozen=True, kw_only=True)
class Compromise:
    """What the figures say of a candidate."""

    candidate: Quantization
    verdict: Verdict
    against: tuple[str, ...]
    """What speaks against it for certain."""
    open: tuple[str, ...]
    """What cannot be told."""
    accurate: Mapping[Quantization, Answer]
    margin_points: float

    def __str__(self) -> str:
        reasons = [*self.against, *(f"undecided whether {reason}" for reason in self.open)]
        return f"{self.candidate} as the best compromise is {self.verdict}" + "".join(f"; {r}" for r in reasons)


def judge(
    candidate: Quantization,
    designs: Sequence[Design],
    histories: pd.DataFrame,
    *,
    folding: Folding,
    margin_points: float,
) -> Compromise:
    """Judge a candidate among the representations of `designs`, which are of one data set and policy.

    `folding` is the one in which they are compared as the study compares them. Raises ValueError where a representation
    is not built in it once, or the candidate is not among them.
    """
    cells = sorted({design.cell.quantization for design in designs})
    equal = {q: [d for d in designs if d.cell.quantization == q and d.cell.folding == folding] for q in cells}
    wrong = [str(q) for q, found in equal.items() if len(found) != 1]
    if wrong or candidate not in cells:
        raise ValueError(f"{', '.join(wrong) or candidate} has to be built once at {folding}")
    differences = Differences.of(errors_points(histories, cells))
    accurate = {q: differences.is_accurate(k, margin_points) for k, q in enumerate(cells)}
    own = [design for design in designs if design.cell.quantization == candidate]
    statements: list[tuple[Answer, str]] = []
    statements.append(
        (
            None if accurate[candidate] is None else not accurate[candidate],
            f"{candidate} is not accurate, its error {differences.said(cells.index(candidate))}, "
            f"where {margin_points:g} was allowed",
        )
    )
    for k, other in enumerate(cells):
        if other == candidate:
            continue
        less, no_more = _compare(equal[other][0], equal[candidate][0])
        cost = f"{_percent(equal[other][0])} against {_percent(equal[candidate][0])} at {folding}"
        faster = _is_faster([design for design in designs if design.cell.quantization == other], own)
        better = differences.is_better(k, cells.index(candidate))
        statements += [
            (_both(accurate[other], less), f"{other} is accurate and costs less, {cost}"),
            (_both(better, no_more), f"{other} has a smaller error and costs no more, {cost}"),
            (_both(accurate[other], faster), f"{other} is accurate and has a faster design that fits"),
        ]
    against = tuple(text for answer, text in statements if answer)
    unknown = tuple(text for answer, text in statements if answer is None)
    return Compromise(
        candidate=candidate,
        verdict=Verdict.REFUTED if against else Verdict.UNDECIDED if unknown else Verdict.BORNE_OUT,
        against=against,
        open=unknown,
        accurate=accurate,
        margin_points=margin_points,
    )
