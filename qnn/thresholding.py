"""The exact activation: which integer accumulator gives which code, decided without any rounding.

A quantised layer ends in batch norm and an activation quantiser (Brevitas rounds half to even):

    y = gamma * (acc * scale - mean) / sqrt(variance + epsilon) + beta
    q = clip(round(y / step), lowest, highest)

Over the integers that is a staircase, and FINN builds it as such (Umuroglu and Jahre, "Streamlined deployment for
quantized neural networks", arXiv:1709.04060): q = lowest + the number of thresholds that are not above acc. This
module finds those thresholds with every parameter taken as the rational number that its float stands for, and
says, of other thresholds or codes, which differences float32 arithmetic explains.

With t = (k - 1/2) * step the boundary below code k, ``q >= k`` means y >= t where k is even and y > t where k is
odd (a tie goes to the even code). In exact arithmetic y crosses t at

    tau = ((t - beta) * sqrt(variance + epsilon) / gamma + mean) / scale

Where gamma < 0 the staircase descends; FINN then flips the sign of that channel's weights (FactorOutMulSignMagnitude),
and so does this module: `signs` says where, and all accumulators, thresholds and taus are those after the flip.

The bound. FINN computes the same tau in a few float32 operations, each with a relative error of at most 2^-24, on
terms no larger than |t|, |beta| and |gamma mean / sigma|. With

    U = 2^-24 (|t| + |beta| + |gamma mean / sigma|) * sigma / (|gamma| * scale)

a float32 threshold may be on the wrong side of an accumulator only if that accumulator lies within 8 U of tau.
Ties, where an accumulator lies on the boundary itself, are told apart: FINN compares with >= whatever the parity of k.
A model that computes the matrix product in float32 too judges the sum that it arrived at instead of the accumulator;
where it tells that sum, its code has to be the sum's, and only tau's 8 U are float32's (`compare_codes`).

Knows the standard library and numpy only.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qnn.errors import EquivalenceError, ParametersError

__all__ = [
    "FLOAT32_BOUND_UNITS",
    "Activation",
    "CodeComparison",
    "Difference",
    "ExactThresholds",
    "ThresholdComparison",
    "Verdict",
    "code_range",
    "compare_codes",
    "compare_thresholds",
    "count_thresholds",
    "exact_thresholds",
]

FLOAT32_BOUND_UNITS = 8
"""A float32 difference is explained within so many U of tau. Trials never needed more than 3.7."""
_UNIT_ROUNDOFF = 2.0**-24
_GUARD_BITS = 64
"""Extra bits of the integer square root, so that tau is good to float64 even where its denominator is small."""
_SHOWN = 5


def code_range(bits: int, *, signed: bool, narrow: bool = False) -> tuple[int, int]:
    """Lowest and highest code of a quantiser; a narrow one has one code less, as QONNX's Quant defines it."""
    if signed:
        return -(2 ** (bits - 1)) + int(narrow), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1 - int(narrow)


@dataclass(frozen=True, kw_only=True, eq=False)
class Activation:
    """What follows the accumulators of one layer, per channel; see the module's formula.

    Arrays are float64 [channels] and are taken exactly. float32 values fit, and so does the product of two
    (scale = weight scale * input scale), since 24 + 24 <= 53 bits.
    """

    scale: NDArray[np.float64]
    """Value of one accumulator step, positive."""
    gamma: NDArray[np.float64]
    beta: NDArray[np.float64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    epsilon: float
    """The float32 value that the ONNX attribute carries; variance + epsilon is positive."""
    step: float
    """Value of one step of the output code, positive."""
    lowest: int
    highest: int

    def __post_init__(self) -> None:
        names = ("scale", "gamma", "beta", "mean", "variance")
        for name in names:
            object.__setattr__(self, name, np.atleast_1d(np.asarray(getattr(self, name), dtype=np.float64)))
            values = getattr(self, name)
            if values.shape != (self.channels,):
                raise ParametersError(
                    f"{name} has shape {values.shape}: expected one value for each of {self.channels}"
                )
            wrong = np.flatnonzero(~np.isfinite(values))
            if len(wrong):
                raise ParametersError(f"{name} of channel {wrong[0]} is {values[wrong[0]]}: it has to be finite")
        wrong = np.flatnonzero(self.scale <= 0)
        if len(wrong):
            raise ParametersError(f"scale of channel {wrong[0]} is {self.scale[wrong[0]]}: it has to be positive")
        wrong = np.flatnonzero((self.variance < 0) | (self.variance + self.epsilon <= 0))
        if len(wrong):
            raise ParametersError(
                f"variance of channel {wrong[0]} is {self.variance[wrong[0]]} and epsilon {self.epsilon}: "
                "variance has to be 0 or more and their sum positive"
            )
        if not (math.isfinite(self.step) and self.step > 0):
            raise ParametersError(f"the activation's step is {self.step}: it has to be positive and finite")
        if self.lowest >= self.highest:
            raise ParametersError(f"codes {self.lowest} to {self.highest} are no range")

    @property
    def channels(self) -> int:
        return len(self.scale)

    @property
    def steps(self) -> int:
        """Number of thresholds of a channel."""
        return self.highest - self.lowest

    @property
    def signs(self) -> NDArray[np.int64]:
        """-1 where the weights' sign is flipped (gamma < 0), else 1; [channels]."""
        return np.where(self.gamma < 0, -1, 1).astype(np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class ExactThresholds:
    """Integer thresholds of an activation over the accumulators minimum..maximum (after the sign flip).

    Arrays of shape [channels, steps], steps ascending: step i separates the codes lowest + i and lowest + i + 1.
    """

    thresholds: NDArray[np.int64]
    """Smallest accumulator whose code is above the step, clipped to [minimum, maximum + 1]; ascending."""
    tau: NDArray[np.float64]
    """Where y crosses the boundary, as a float64 (the exact number where `tie`, else its last digits may be off);
    -inf or inf where gamma is 0 and y is above or below it."""
    unit: NDArray[np.float64]
    """U of the module's bound. Where gamma is 0: inf if beta is within 8 * 2^-24 * (|t| + |beta|) of t, else 0."""
    tie: NDArray[np.bool_]
    """Whether tau is an integer exactly (gamma = 0: beta lies on the boundary)."""
    minimum: NDArray[np.int64]
    """[channels]"""
    maximum: NDArray[np.int64]
    """[channels]"""
    signs: NDArray[np.int64]
    """[channels], see Activation.signs."""
    lowest: int

    def codes(self, accumulators: NDArray[np.int64]) -> NDArray[np.int64]:
        """Codes of accumulators [samples, channels] (after the sign flip)."""
        return self.lowest + count_thresholds(accumulators, self.thresholds)


def count_thresholds(
    accumulators: NDArray[np.int64], thresholds: NDArray[np.int64] | NDArray[np.float64]
) -> NDArray[np.int64]:
    """How many of a channel's thresholds are not above the accumulator.

    `accumulators` is [samples, channels] of any integers (of up to 2^53 where thresholds are none), `thresholds`
    [channels, steps] or [1, steps] ascending.
    """
    if len(thresholds) == 1:
        return np.searchsorted(thresholds[0], accumulators, side="right").astype(np.int64)
    counts = np.empty(accumulators.shape, dtype=np.int64)
    for channel, steps in enumerate(thresholds):
        counts[:, channel] = np.searchsorted(steps, accumulators[:, channel], side="right")
    return counts


def exact_thresholds(activation: Activation, minimum: ArrayLike, maximum: ArrayLike) -> ExactThresholds:
    """The thresholds that reproduce `activation` on every accumulator from `minimum` to `maximum`.

    tau is computed in float64 with a bound on its error. Where no integer lies within the bound, as nearly always,
    that decides the threshold; the others are decided in integer arithmetic.
    Both are integers or [channels], of the accumulator after the sign flip. Raises ParametersError if the range
    is empty.
    """
    low = np.broadcast_to(np.asarray(minimum, dtype=np.int64), activation.channels).copy()
    high = np.broadcast_to(np.asarray(maximum, dtype=np.int64), activation.channels).copy()
    if (low > high).any():
        channel = int(np.flatnonzero(low > high)[0])
        raise ParametersError(f"accumulators {low[channel]} to {high[channel]} of channel {channel} are no range")
    tau, error = _tau(activation)
    with np.errstate(invalid="ignore"):  # inf and NaN are left to the integers
        below = np.floor(tau - error)
        decided = (below == np.floor(tau + error)) & (np.abs(below) < _DECIDABLE)
    thresholds = np.clip(np.where(decided, below + 1, 0).astype(np.int64), low[:, None], high[:, None] + 1)
    tie = np.zeros(tau.shape, dtype=np.bool_)
    for channel in np.flatnonzero(~decided.all(axis=1)).tolist():
        steps = np.flatnonzero(~decided[channel]).tolist()
        codes = (step + activation.lowest + 1 for step in steps)
        for step, crossing in zip(steps, _crossings(activation, channel, codes), strict=True):
            thresholds[channel, step] = min(max(crossing.first, int(low[channel])), int(high[channel]) + 1)
            tau[channel, step], tie[channel, step] = crossing.tau, crossing.tie
    return ExactThresholds(
        thresholds=thresholds,
        tau=tau,
        unit=_units(activation),
        tie=tie,
        minimum=low,
        maximum=high,
        signs=activation.signs,
        lowest=activation.lowest,
    )


def _tau(activation: Activation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where y crosses the boundaries [channels, steps], in float64, with a bound on the error; not finite at gamma 0.

    Eight operations, each with a relative error of at most u = 2^-53 on its result, and each result no larger than
    the terms' magnitudes: the error is below 8 u ((|t| + |beta|) sigma / |gamma| + |mean|) / scale and some u^2. The
    bound is twice that, which also covers the rounding of the bound and of its sum with tau.
    """
    boundary = (np.arange(activation.lowest + 1, activation.highest + 1) - 0.5) * activation.step
    beta, scale = activation.beta[:, None], activation.scale[:, None]
    sigma, gamma = np.sqrt(activation.variance + activation.epsilon)[:, None], np.abs(activation.gamma)[:, None]
    mean = (activation.signs * activation.mean)[:, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        tau = ((boundary - beta) * sigma / gamma + mean) / scale
        size = ((np.abs(boundary) + np.abs(beta)) * sigma / gamma + np.abs(mean)) / scale
    return tau, 16 * 2.0**-53 * size


@dataclass(frozen=True, slots=True)
class _Crossing:
    """Where one channel reaches one code: at `tau`, and so from accumulator `first` on."""

    first: int
    tau: float
    tie: bool


_ALWAYS, _NEVER = -(2**62), 2**62
"""Thresholds of a boundary that every accumulator, or none, is above."""
_DECIDABLE = 2.0**52
"""Below it float64 has halves, so that what lies between two integers can be told."""


def _crossings(activation: Activation, channel: int, codes: Iterable[int]) -> Iterator[_Crossing]:
    """Where one channel reaches each of `codes`, in integer arithmetic throughout.

    With tau = (D sqrt(v) + M) / G for rationals D (of the step), v, M and G > 0, and all brought to integers,
    floor(tau) = (floor(D sqrt(v)) + M) // G, and floor(D sqrt(v)) is an integer square root.
    """
    step = Fraction(activation.step)
    beta = Fraction(activation.beta[channel])
    gamma = Fraction(activation.gamma[channel])
    # Distance from beta to the boundary below code k is D = (k - 1/2) step - beta; E D is an integer.
    e = math.lcm((step / 2).denominator, beta.denominator)
    e_half_step, e_beta = int(e * step / 2), int(e * beta)
    if gamma == 0:
        for k in codes:
            distance = (2 * k - 1) * e_half_step - e_beta
            reached = distance <= 0 if k % 2 == 0 else distance < 0
            yield _Crossing(_ALWAYS if reached else _NEVER, -math.inf if reached else math.inf, distance == 0)
        return
    variance = Fraction(activation.variance[channel]) + Fraction(activation.epsilon)
    radicand = variance.numerator * variance.denominator  # sqrt(v) = sqrt(radicand) / v.denominator
    sign = 1 if gamma > 0 else -1
    e *= variance.denominator
    g = abs(gamma) * Fraction(activation.scale[channel]) * e
    m = sign * Fraction(activation.mean[channel]) * abs(gamma) * e
    common = math.lcm(g.denominator, m.denominator) << _GUARD_BITS
    g_int, m_int, square = int(g * common), int(m * common), radicand * common**2
    for k in codes:
        distance = (2 * k - 1) * e_half_step - e_beta
        squared = distance * distance * square
        root = math.isqrt(squared)
        exact = root * root == squared
        if distance < 0:
            root = -root if exact else -root - 1  # floor of the negative root
        numerator = root + m_int
        floor, rest = divmod(numerator, g_int)
        tie = exact and rest == 0
        yield _Crossing(floor if tie and k % 2 == 0 else floor + 1, numerator / g_int, tie)


def _units(activation: Activation) -> NDArray[np.float64]:
    """U for every step [channels, steps]; float64 is exact enough, since U needs no more than its magnitude."""
    codes = np.arange(activation.lowest + 1, activation.highest + 1)
    boundary = (codes - 0.5) * activation.step
    beta, gamma = activation.beta[:, None], np.abs(activation.gamma)[:, None]
    sigma = np.sqrt(activation.variance + activation.epsilon)[:, None]
    offset = gamma * np.abs(activation.mean)[:, None] / sigma
    size = _UNIT_ROUNDOFF * (np.abs(boundary) + np.abs(beta) + offset)
    with np.errstate(divide="ignore"):
        units = size * (sigma / (gamma * activation.scale[:, None]))
    near = np.abs(boundary - beta) <= FLOAT32_BOUND_UNITS * size
    return np.where(gamma > 0, units, np.where(near, np.inf, 0.0))


class Verdict(IntEnum):
    """What a threshold or code is against the exact one; the worst is the largest."""

    EQUAL = 0
    TIE = 1
    """They differ only on an accumulator that lies on the boundary itself."""
    FLOAT32 = 2
    """They differ only on accumulators within 8 U of tau, or whose sum in floating point is there or beyond it."""
    UNEXPLAINED = 3


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One threshold or code that is not the exact one."""

    channel: int
    step: int
    """Index of the threshold: it separates the codes lowest + step and lowest + step + 1."""
    tau: float
    unit: float
    exact: int
    other: int
    verdict: Verdict
    accumulator: int | None = None
    """The accumulator whose codes are compared; None where thresholds are."""
    sum: float | None = None
    """The accumulator as the other model had it in floating point, where it tells."""

    def __str__(self) -> str:
        what = "threshold" if self.accumulator is None else f"accumulator {self.accumulator}: code"
        if self.sum is not None:
            what = f"accumulator {self.accumulator} (summed up to {self.sum:.9g}): code"
        return (
            f"channel {self.channel}, step {self.step}, {what} {self.other} instead of {self.exact}, "
            f"tau = {self.tau:.9g}, U = {self.unit:.3g}: {self.verdict.name.lower()}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Comparison:
    """Verdicts on many thresholds or codes."""

    exact: ExactThresholds
    verdicts: NDArray[np.uint8]

    def count(self, verdict: Verdict) -> int:
        return int(np.count_nonzero(self.verdicts == verdict))

    @property
    def counts(self) -> dict[Verdict, int]:
        return {verdict: self.count(verdict) for verdict in Verdict}

    def differences(self, worst: Verdict | None = None) -> Iterator[Difference]:
        """Every difference, or those of one verdict, one after another."""
        chosen = self.verdicts > Verdict.EQUAL if worst is None else self.verdicts == worst
        for row, column in np.argwhere(chosen):
            yield self._difference(int(row), int(column))

    def _difference(self, row: int, column: int) -> Difference:
        raise NotImplementedError

    def require_explained(self, name: str) -> None:
        """Raise EquivalenceError, with the first few cases, if a difference is neither a tie nor float32's."""
        count = self.count(Verdict.UNEXPLAINED)
        if count:
            shown = [str(case) for case, _ in zip(self.differences(Verdict.UNEXPLAINED), range(_SHOWN), strict=False)]
            raise EquivalenceError(
                f"{name}: {count} of {self.verdicts.size} differ from the exact activation by more than float32 "
                f"explains ({FLOAT32_BOUND_UNITS} U):\n  " + "\n  ".join(shown)
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class ThresholdComparison(_Comparison):
    """Verdicts [channels, steps] on another model's thresholds."""

    other: NDArray[np.int64]
    """The other thresholds, rounded up and clipped as the exact ones are."""

    @property
    def differing_accumulators(self) -> int:
        """How many (channel, accumulator) pairs lie between two thresholds that differ."""
        return int(np.abs(self.other - self.exact.thresholds).sum())

    @property
    def worst_units(self) -> float:
        """How many U the furthest accumulator of a FLOAT32 difference is from tau: 0 without one, never above 8."""
        chosen = (self.verdicts == Verdict.FLOAT32) & (self.exact.unit < np.inf)
        ours, theirs = self.exact.thresholds[chosen], self.other[chosen]
        ends = np.stack([np.minimum(ours, theirs), np.maximum(ours, theirs) - 1])
        return float((np.abs(ends - self.exact.tau[chosen]) / self.exact.unit[chosen]).max(initial=0.0))

    def _difference(self, row: int, column: int) -> Difference:
        return Difference(
            channel=row,
            step=column,
            tau=float(self.exact.tau[row, column]),
            unit=float(self.exact.unit[row, column]),
            exact=int(self.exact.thresholds[row, column]),
            other=int(self.other[row, column]),
            verdict=Verdict(self.verdicts[row, column]),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class CodeComparison(_Comparison):
    """Verdicts [samples, channels] on another model's codes for given accumulators."""

    accumulators: NDArray[np.int64]
    codes: NDArray[np.int64]
    """The exact codes."""
    other: NDArray[np.int64]
    sums: NDArray[np.float64] | None = None
    """What the other model's accumulators came to in floating point, where it tells them."""

    def _difference(self, row: int, column: int) -> Difference:
        exact, other = int(self.codes[row, column]), int(self.other[row, column])
        step = min(exact, other) - self.exact.lowest
        known = 0 <= step < self.exact.tau.shape[1]
        return Difference(
            channel=column,
            step=step,
            tau=float(self.exact.tau[column, step]) if known else math.nan,
            unit=float(self.exact.unit[column, step]) if known else math.nan,
            exact=exact,
            other=other,
            verdict=Verdict(self.verdicts[row, column]),
            accumulator=int(self.accumulators[row, column]),
            sum=None if self.sums is None else float(self.sums[row, column]),
        )


def compare_thresholds(exact: ExactThresholds, other: ArrayLike) -> ThresholdComparison:
    """Judge another model's thresholds, [channels, steps] or [1, steps], integers or floats, after the sign flip.

    FINN rounds thresholds up to integers (RoundAndClipThresholds), which changes nothing for integer accumulators;
    so does this, and it clips to the accumulators that occur. Raises ParametersError on NaN and on a wrong shape.
    """
    given = np.asarray(other)
    if given.ndim != 2 or given.shape[0] not in (1, len(exact.thresholds)) or given.shape[1:] != exact.tau.shape[1:]:
        raise ParametersError(f"thresholds of shape {given.shape} do not fit {exact.thresholds.shape}")
    if np.isnan(given).any():
        row, column = np.argwhere(np.isnan(given))[0]
        raise ParametersError(f"the threshold of channel {row}, step {column} is NaN")
    low, high = exact.minimum[:, None], exact.maximum[:, None] + 1
    clipped = np.clip(np.ceil(given), low, high).astype(np.int64)
    first, last = np.minimum(clipped, exact.thresholds), np.maximum(clipped, exact.thresholds) - 1
    # The accumulator furthest from tau is one of the two ends.
    near = _within(exact.tau, exact.unit, first) & _within(exact.tau, exact.unit, last)
    constant = np.isinf(exact.tau)
    tie = exact.tie & (constant | ((first == last) & (first == exact.tau)))
    verdicts = np.where(first > last, Verdict.EQUAL, _judge(tie, near)).astype(np.uint8)
    return ThresholdComparison(exact=exact, verdicts=verdicts, other=clipped)


def compare_codes(
    exact: ExactThresholds, accumulators: ArrayLike, other: ArrayLike, sums: ArrayLike | None = None
) -> CodeComparison:
    """Judge another model's codes [samples, channels] on `accumulators` of the same shape (after the sign flip).

    A code that is several steps off is explained only if every boundary in between is.

    `sums`, of the same shape, is what the other model's accumulators came to where it summed products in floating
    point: real numbers, in accumulator steps, after the sign flip. Its activation knew nothing but these, so a
    boundary between the two codes is explained where the sum lies on the other code's side of tau, or on the exact
    code's within 8 U of it. That is never more than |accumulator - tau| <= 8 U + |sum - accumulator|. How far a sum may
    be from the accumulator is for the caller to judge (``qnn.equivalence``); the default is no distance at all.
    """
    values, given = np.asarray(accumulators, dtype=np.int64), np.asarray(other, dtype=np.int64)
    reached = values if sums is None else np.asarray(sums, dtype=np.float64)
    if values.ndim != 2 or not values.shape == given.shape == reached.shape or values.shape[1] != len(exact.thresholds):
        raise ParametersError(
            f"accumulators {values.shape}, codes {given.shape}, sums {reached.shape} and {len(exact.thresholds)} "
            "channels do not fit together"
        )
    codes = exact.codes(values)
    verdicts = np.zeros(values.shape, dtype=np.uint8)
    samples, channels = np.nonzero(codes != given)
    ours, theirs = codes[samples, channels], given[samples, channels]
    first, last = np.minimum(ours, theirs) - exact.lowest, np.maximum(ours, theirs) - exact.lowest - 1
    known = (first >= 0) & (last < exact.tau.shape[1])
    worst = np.where(known, Verdict.EQUAL, Verdict.UNEXPLAINED).astype(np.uint8)  # no code of this activation at all
    for distance in range(int((last - first)[known].max(initial=-1)) + 1):
        crossed = np.flatnonzero(known & (first + distance <= last))
        channel, step = channels[crossed], first[crossed] + distance
        tau, unit = exact.tau[channel, step], exact.unit[channel, step]
        tie = exact.tie[channel, step] & (np.isinf(tau) | (tau == values[samples[crossed], channel]))
        ahead = np.sign(theirs - ours)[crossed]  # 1 where the other model takes the boundary for crossed
        near = ahead * (tau - reached[samples[crossed], channel]) <= FLOAT32_BOUND_UNITS * unit
        worst[crossed] = np.maximum(worst[crossed], _judge(tie, near))
    verdicts[samples, channels] = worst
    return CodeComparison(
        exact=exact,
        verdicts=verdicts,
        accumulators=values,
        codes=codes,
        other=given,
        sums=None if sums is None else reached.astype(np.float64),
    )


def _within(tau: NDArray[np.float64], unit: NDArray[np.float64], accumulators: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.abs(accumulators - tau) <= FLOAT32_BOUND_UNITS * unit


def _judge(tie: NDArray[np.bool_], near: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The verdict on differences. An accumulator on the boundary is near it, unless its sum went the other way."""
    return np.where(near, np.where(tie, Verdict.TIE, Verdict.FLOAT32), Verdict.UNEXPLAINED).astype(np.uint8)
