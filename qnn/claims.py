"""The study's claims on accuracy, each as a statistic of the training histories with a 95 % interval and a verdict.

Unit of every figure: percentage points of error on the 10,000 test images after a schedule's last epoch, the study's
own result. The cells and the test images are the study's own too, so they are not samples of anything: what another run
of the study would change is the seed. An interval therefore says where the statistic would lie for other seeds.

**What varies, and what is assumed independent.** Within a seed all cells share initial weights, order of images and
dropout masks, so their errors move together. With few seeds one cell alone says little about that (a t interval over 3
seeds is 4.3 standard errors wide each way), so the cells are pooled. Write the error of activation bits a, weight bits
w and seed s as::

    y[s, a, w] = m[a, w] + p[s] + q[s, a] + r[s, w] + e[s, a, w]

with m any table of cells, and p, q, r and e random, independent and each of one variance: what a seed does to all
cells, to those of the same activation bits, to those of the same weight bits, and to one cell. Split each seed's table
y[s] - mean over s into the four orthogonal parts of a two-way layout: its mean, its main effects and the rest. Each has
a mean square with 1, 6, 6 and 36 degrees of freedom a seed (less one seed). A statistic sum c[a, w] y[a, w] then has
the variance (|c_mean|^2 MS_mean + |c_a|^2 MS_a + |c_w|^2 MS_w + |c_rest|^2 MS_rest) / seeds, with c split alike, and
Satterthwaite's degrees of freedom: the analysis of a repeated-measures layout.

With **one seed** nothing tells what seeds do. There the rest of the additive two-way layout, 36 degrees of freedom,
stands for the noise of a cell. It holds the interaction of activation and weight bits too, which widens the interval;
q and r are taken to be none, which several seeds would have to show.

Verdict: *borne out* where the whole interval is on the claim's side of the threshold, *refuted* where all of it is on
the other side, else *undecided*.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t  # type: ignore[import-untyped]

from qnn.cell import BIT_WIDTHS, INPUT_BITS, Quantization
from qnn.errors import HistoryError
from qnn.histories import LONG, SHORT

__all__ = [
    "CLAIMS",
    "IMPORTANT_POINTS",
    "SEEDS",
    "Claim",
    "Verdict",
    "accuracy_reached",
    "beyond_3_bits",
    "beyond_3_bits_any_cell",
    "epochs_trade_for_bits",
    "input_bits_above_2",
    "input_bits_above_4",
    "weight_bits_dominate",
]

SEEDS = {"fashion-mnist": (0, 1, 2), "mnist": (0,)}
"""Seeds with which all 49 cells are trained for 100 epochs."""
SHORT_SEEDS = (0,)
"""Seeds with which they are trained for 40."""
LEAST_INPUT_SEEDS = (0, 1, 2)
"""Seeds with which A3W3 is trained with other input bits, at least."""

PAPER_ERROR_POINTS = 12.0
"""88 % of accuracy ([paper.claims] accuracy_reached)."""

IMPORTANT_POINTS = {"fashion-mnist": 0.5, "mnist": 0.25}
"""The smallest difference of error that counts as important, set before the trainings had ended.

Fashion-MNIST: the study gives its accuracy in whole per cent (88 %); half of one is what such a figure cannot show. It
is also within what 10,000 images tell of one network (95 % interval at 12 % error: 0.64 each way). MNIST: the same
interval at its errors, about 2 %, is 0.27 each way.
"""

TEST_IMAGES = 10_000
_CONFIDENCE = 0.95
_CELLS = [(a, w) for a in BIT_WIDTHS for w in BIT_WIDTHS]

Errors = NDArray[np.float64]
"""Shape (seeds, activation bits, weight bits), percentage points."""
Contrast = NDArray[np.float64]
"""Factors of the cells' errors in a statistic, shape (activation bits, weight bits)."""


class Verdict(StrEnum):
    """What the interval says of a claim."""

    BORNE_OUT = "borne out"
    REFUTED = "refuted"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of the study and what the trainings say of it. Figures are percentage points of test error."""

    name: str
    dataset: str
    sentence: str
    """The study's words."""
    statistic: str
    """What is estimated, and on which side of the threshold the claim stands."""
    estimate_points: float
    low_points: float
    high_points: float
    """The 95 % interval's ends."""
    threshold_points: float
    claims_more: bool
    """Whether the claim is that the statistic is above the threshold; otherwise below."""
    n: int
    """Trainings that the statistic and its interval rest on."""
    remarks: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        above, below = self.low_points > self.threshold_points, self.high_points < self.threshold_points
        if not above and not below:
            return Verdict.UNDECIDED
        return Verdict.BORNE_OUT if above == self.claims_more else Verdict.REFUTED

    def __str__(self) -> str:
        side = "above" if self.claims_more else "below"
        interval = f"{self.estimate_points:.2f} [{self.low_points:.2f}, {self.high_points:.2f}]"
        return (
            f"{self.name} on {self.dataset} is {self.verdict}: {self.statistic} {interval} points, "
            f"claimed {side} {self.threshold_points:g}"
        )


# Errors of trainings --------------------------------------------------------------------------------------------------


def _command(dataset: str, *, epochs: int, seed: int, input_bits: int, cells: Sequence[str]) -> str:
    words = ["python -m qnn sweep --dataset", dataset, "--seed", str(seed)]
    if len(cells) < len(_CELLS):
        words += ["--cells", ",".join(cells)]
    if epochs == SHORT:
        words += ["--epochs 40 --milestones 36 38"]
    if input_bits != INPUT_BITS:
        words += ["--input-bits", str(input_bits)]
    return " ".join(words)


def _errors(
    histories: pd.DataFrame,
    dataset: str,
    *,
    seeds: Collection[int],
    cells: Sequence[tuple[int, int]] = _CELLS,
    epochs: int = LONG,
    epoch: int | None = None,
    input_bits: int = INPUT_BITS,
) -> NDArray[np.float64]:
    """Test error in percentage points, shape (seeds, cells), after `epoch` (the last) of a schedule of `epochs`.

    Raises HistoryError naming the trainings that are missing and how to get them.
    """
    at = epochs if epoch is None else epoch
    rows = histories[
        (histories["epochs"] == epochs)
        & (histories["epoch"] == at)
        & (histories["input_bits"] == input_bits).fillna(False)
        & histories["weight_bits"].notna()
    ]
    found = {
        (int(seed), int(a), int(w)): 100 * float(error)
        for seed, a, w, error in zip(
            rows["seed"], rows["activation_bits"], rows["weight_bits"], rows["test_error"], strict=True
        )
    }
    missing = []
    for seed in seeds:
        names = [str(Quantization(activation_bits=a, weight_bits=w)) for a, w in cells if (seed, a, w) not in found]
        if names:
            which = ", ".join(names) if len(names) < 4 else f"{names[0]} to {names[-1]} ({len(names)} cells)"
            command = _command(dataset, epochs=epochs, seed=seed, input_bits=input_bits, cells=names)
            missing.append(
                f"{which}, epoch {at} of {epochs}, seed {seed}, input bits {input_bits} (train with `{command}`)"
            )
    if missing:
        raise HistoryError(
            f"the histories of {dataset} lack {'; '.join(missing)}; then take the runs in with "
            "`python -m qnn report --collect FOLDER`"
        )
    return np.array([[found[seed, a, w] for a, w in cells] for seed in seeds])


def _sweep_errors(
    histories: pd.DataFrame, dataset: str, *, seeds: Collection[int], epochs: int = LONG, epoch: int | None = None
) -> Errors:
    """Of all 49 cells, shape (seeds, activation bits, weight bits). Raises HistoryError where two seeds are copies."""
    errors = _errors(histories, dataset, seeds=seeds, epochs=epochs, epoch=epoch)
    if len(np.unique(errors, axis=0)) < len(errors):
        raise HistoryError(
            f"two of the seeds {', '.join(map(str, seeds))} of {dataset} have the same error in every cell: they are "
            "copies of one training, and tell nothing of how seeds differ"
        )
    return errors.reshape(len(errors), len(BIT_WIDTHS), len(BIT_WIDTHS))


# Variances ------------------------------------------------------------------------------------------------------------

_MEAN, _ACTIVATION, _WEIGHT, _REST = range(4)


def _squares(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of squares of a two-way table's four orthogonal parts, over the leading axes too; they add up to |y|^2."""
    mean = tables.mean(axis=(-2, -1), keepdims=True)
    activation = tables.mean(axis=-1, keepdims=True) - mean
    weight = tables.mean(axis=-2, keepdims=True) - mean
    parts = (mean, activation, weight, tables - mean - activation - weight)
    return np.array([np.square(np.broadcast_to(part, tables.shape)).sum() for part in parts])


@dataclass(frozen=True, kw_only=True)
class _Noise:
    """What seeds do to the four parts of a table of cells (`_MEAN`...): mean squares of one training."""

    mean_squares: NDArray[np.float64]
    freedom: NDArray[np.float64]
    """Degrees of freedom of each."""
    shared: bool
    """Whether one mean square stands for all parts but the mean, which is then not known."""

    @classmethod
    def of(cls, errors: Errors) -> "_Noise":
        seeds, n, _ = errors.shape
        freedom = np.array([1.0, n - 1, n - 1, (n - 1) ** 2])
        if seeds == 1:
            rest = _squares(errors)[_REST] / freedom[_REST]
            return cls(
                mean_squares=np.array([math.nan, rest, rest, rest]),
                freedom=np.full(4, freedom[_REST]),
                shared=True,
            )
        freedom = freedom * (seeds - 1)
        return cls(
            mean_squares=_squares(errors - errors.mean(axis=0)) / freedom,
            freedom=freedom,
            shared=False,
        )

    def terms(self, contrast: Contrast) -> list[tuple[float, float]]:
        """(variance, degrees of freedom) of the independent terms of a contrast's variance in one seed."""
        squares = _squares(contrast)
        if not self.shared:
            return [(float(v), float(f)) for v, f in zip(squares * self.mean_squares, self.freedom, strict=True)]
        if not math.isclose(squares[_MEAN], 0, abs_tol=1e-12):
            raise ValueError("one seed does not tell how an error that is not compared with another varies")
        return [(float(squares.sum() * self.mean_squares[_REST]), float(self.freedom[_REST]))]


def _scaled(terms: Iterable[tuple[float, float]], factor: float) -> list[tuple[float, float]]:
    return [(variance * factor, freedom) for variance, freedom in terms]


def _half_width(terms: Sequence[tuple[float, float]], *, tail: float = (1 - _CONFIDENCE) / 2) -> float:
    """Of the t interval that leaves `tail` on each side, with Satterthwaite's degrees of freedom."""
    variance = sum(v for v, _ in terms)
    if variance == 0:
        return 0.0
    freedom = variance**2 / sum(v**2 / f for v, f in terms)
    return float(t.ppf(1 - tail, freedom)) * math.sqrt(variance)


def _spread(noise: _Noise) -> tuple[str, ...]:
    """The remark on how much a single network's error varies over seeds, where that is known."""
    if noise.shared:
        return ()
    one = np.zeros((len(BIT_WIDTHS), len(BIT_WIDTHS)))
    one[0, 0] = 1
    deviation = math.sqrt(sum(v for v, _ in noise.terms(one)))
    return (f"one network varies over seeds by a standard deviation of {deviation:.2f}",)


def _at(activation_bits: int, weight_bits: int) -> tuple[int, int]:
    return BIT_WIDTHS.index(activation_bits), BIT_WIDTHS.index(weight_bits)


def _interval(center: float, half_width: float) -> str:
    return f"{center:.2f} [{center - half_width:.2f}, {center + half_width:.2f}]"


# Claims ---------------------------------------------------------------------------------------------------------------


def accuracy_reached(histories: pd.DataFrame, dataset: str = "fashion-mnist") -> Claim:
    """The best cell reaches 88 % of accuracy.

    "The difference becomes less and less important over time and finally reaches 88%, a state-of-the-art result for
    this type of network." (III-C.1)

    Statistic: error of the best cell, claimed below 12. The best of 49 measured errors is too good by chance, so the
    cell is chosen and judged on different seeds: mean over s of y[s, best cell of the mean over the other seeds]. That
    never flatters: the chosen cell is at most as good as the best one (which is why a refutal says no more than that a
    cell chosen so does not reach it). The variance is that of one cell, with what a seed does to all of them.

    The claim is on the published 10,000 test images, the same for everybody, so they are no source of variation. What
    images like them would give (their binomial variance added) is in the remarks.
    """
    errors = _sweep_errors(histories, dataset, seeds=SEEDS[dataset])
    seeds = len(errors)
    if seeds < 2:
        raise HistoryError(f"accuracy_reached chooses a cell and judges it on different seeds; {dataset} has one")
    chosen = [int(np.delete(errors, s, axis=0).mean(axis=0).argmin()) for s in range(seeds)]
    estimate = float(np.mean([errors[s].flat[cell] for s, cell in enumerate(chosen)]))
    noise = _Noise.of(errors)
    one = np.zeros(errors.shape[1:])
    one[0, 0] = 1
    terms = _scaled(noise.terms(one), 1 / seeds)
    half = _half_width(terms)
    images = (estimate * (100 - estimate) / TEST_IMAGES, math.inf)
    names = [str(Quantization(activation_bits=_CELLS[cell][0], weight_bits=_CELLS[cell][1])) for cell in chosen]
    cells = errors.mean(axis=0)
    return Claim(
        name="accuracy_reached",
        dataset=dataset,
        sentence="The difference becomes less and less important over time and finally reaches 88%",
        statistic="error of the best cell, chosen on the other seeds",
        estimate_points=estimate,
        low_points=estimate - half,
        high_points=estimate + half,
        threshold_points=PAPER_ERROR_POINTS,
        claims_more=False,
        n=errors.size,
        remarks=(
            f"chosen: {', '.join(names)} (judged on seeds {', '.join(map(str, SEEDS[dataset]))})",
            f"{int((cells <= PAPER_ERROR_POINTS).sum())} of {cells.size} cells have a mean error of 12 or less",
            *_spread(noise),
            f"over other images too: {_interval(estimate, _half_width([*terms, images]))}",
        ),
    )


def _effect(errors: Errors, noise: _Noise, part: int) -> tuple[float, list[tuple[float, float]]]:
    """Variance of a factor's true main effects, without bias, with the terms of the estimate's own variance.

    The 7 mean errors by the factor's bits have the variance tau^2 + E, E = MS / (7 seeds) being their noise. Of normal
    errors that sum of squares is a noncentral chi-square of 6 degrees of freedom: its variance is
    (4 tau^2 E + 2 E^2) / 6. E's own is 2 E^2 / its degrees of freedom.
    """
    seeds, n, _ = errors.shape
    free = float(noise.freedom[part])
    noise_of_means = float(noise.mean_squares[part]) / (n * seeds)
    effect = float(_squares(errors.mean(axis=0))[part]) / (n * (n - 1)) - noise_of_means
    variance = (4 * max(effect, 0.0) * noise_of_means + 2 * noise_of_means**2) / (n - 1) + 2 * noise_of_means**2 / free
    return effect, [(variance, free)]


def _root(value: float) -> float:
    return math.copysign(math.sqrt(abs(value)), value)


def _dominance(errors: Errors) -> tuple[float, float, float, float, float]:
    """Signed root of the difference of two effects' variances, its interval, and the two effects' deviations."""
    noise = _Noise.of(errors)
    weight, weight_terms = _effect(errors, noise, _WEIGHT)
    activation, activation_terms = _effect(errors, noise, _ACTIVATION)
    half = _half_width([*weight_terms, *activation_terms])
    difference = weight - activation
    return (
        _root(difference),
        _root(difference - half),
        _root(difference + half),
        math.sqrt(max(weight, 0.0)),
        math.sqrt(max(activation, 0.0)),
    )


def weight_bits_dominate(histories: pd.DataFrame, dataset: str = "fashion-mnist") -> Claim:
    """Weight bits move the error more than activation bits do.

    "First, the weight bit-width seems to be much more impactful on the overall performance than the activation
    bit-width." (III-C.1; also "a tendency for the weight bit-width to dictate the performance while the activation
    bit-width presents no consistent variations".)

    Statistic: D = tau_w^2 - tau_a^2, claimed above 0, with tau_w the standard deviation of the 7 true mean errors by
    weight bits (over all activation bits) and tau_a that by activation bits: main effects, whatever their direction
    and shape. In the square layout each is estimated from means of equally many networks; what noise adds to each is
    subtracted. Shown as sign(D) sqrt|D|, in percentage points: the root keeps order, so D's interval gives its ends.
    The t interval of D takes the noncentral chi-square's variance (`_effect`), which is near normal enough for a
    coverage of 94 % and more in simulations. Beside it, the same without the 2-bit rows and columns.
    """
    errors = _sweep_errors(histories, dataset, seeds=SEEDS[dataset])
    estimate, low, high, weight, activation = _dominance(errors)
    rest = _dominance(errors[:, 1:, 1:])
    by_weight, by_activation = errors.mean(axis=(0, 1)), errors.mean(axis=(0, 2))
    return Claim(
        name="weight_bits_dominate",
        dataset=dataset,
        sentence="the weight bit-width seems to be much more impactful on the overall performance than the activation "
        "bit-width",
        statistic="signed root of: variance of the mean errors by weight bits less that by activation bits",
        estimate_points=estimate,
        low_points=low,
        high_points=high,
        threshold_points=0.0,
        claims_more=True,
        n=errors.size,
        remarks=(
            f"standard deviation by weight bits {weight:.2f}, by activation bits {activation:.2f}",
            f"range of the mean errors by weight bits {np.ptp(by_weight):.2f}, by activation bits "
            f"{np.ptp(by_activation):.2f}",
            f"from 3 bits on: {rest[0]:.2f} [{rest[1]:.2f}, {rest[2]:.2f}]; {rest[3]:.2f} and {rest[4]:.2f}",
        ),
    )


def epochs_trade_for_bits(histories: pd.DataFrame, dataset: str = "fashion-mnist") -> Claim:
    """2-bit weights reach in 100 epochs what 8-bit weights reach in 40.

    "The 2-bit representation obtains the same error rate after 100 epochs than the 8-bit representation after 40
    epochs." (III-C.1; III-D: "the 2-bit weights implementations trained on Fashion-MNIST reach the same accuracy after
    100 epochs than their 8-bit counterparts after 40 epochs".)

    Statistic: mean error over all activation bits of 2-bit weights after 100 epochs, less that of 8-bit weights after
    40, claimed to be 0 or below (reached). Both come from whole schedules, whose learning rate falls at 90 % and 95 %;
    the 40th of 100 epochs, at the full learning rate, is no trained network's error, but it is what the study's
    figures show, so it stands in the remarks.

    The 40 epochs were trained with one seed: their variance is taken to be that of the 100-epoch networks, and the two
    to be independent. If a seed moves both alike, the interval is too wide. Beside it, seed 0 alone: the t interval
    over the 7 differences, paired by activation bits.
    """
    long = _sweep_errors(histories, dataset, seeds=SEEDS[dataset])
    short = _sweep_errors(histories, dataset, seeds=SHORT_SEEDS, epochs=SHORT)
    middle = _sweep_errors(histories, dataset, seeds=SEEDS[dataset], epoch=SHORT)
    two, eight = BIT_WIDTHS.index(2), BIT_WIDTHS.index(8)
    column = np.zeros(long.shape[1:])
    column[:, two] = 1 / len(column)
    terms = _Noise.of(long).terms(column)
    estimate = float(long[:, :, two].mean() - short[:, :, eight].mean())
    half = _half_width(_scaled(terms, 1 / len(long) + 1 / len(short)))
    drawn = float(long[:, :, two].mean() - middle[:, :, eight].mean())
    drawn_half = _half_width(_scaled([*terms, *_Noise.of(middle).terms(column)], 1 / len(long)))
    paired = long[SEEDS[dataset].index(SHORT_SEEDS[0]), :, two] - short[0, :, eight]
    paired_half = _half_width([(float(paired.var(ddof=1)) / len(paired), len(paired) - 1)])
    return Claim(
        name="epochs_trade_for_bits",
        dataset=dataset,
        sentence="The 2-bit representation obtains the same error rate after 100 epochs than the 8-bit representation "
        "after 40 epochs",
        statistic="mean error of W2 after 100 epochs less that of W8 after 40",
        estimate_points=estimate,
        low_points=estimate - half,
        high_points=estimate + half,
        threshold_points=0.0,
        claims_more=False,
        n=long.size + short[:, :, eight].size,
        remarks=(
            f"W2 after 100 epochs {long[:, :, two].mean():.2f}, W8 after 40 {short[:, :, eight].mean():.2f}, "
            f"W8 after 100 {long[:, :, eight].mean():.2f}",
            f"against epoch 40 of 100, before the learning rate falls: {_interval(drawn, drawn_half)}",
            f"seed {SHORT_SEEDS[0]} alone, paired by activation bits: {_interval(float(paired.mean()), paired_half)}",
        ),
    )


def _above_3_bits() -> list[tuple[int, int]]:
    return [(a, w) for a, w in _CELLS if a > 3 and w > 3]


def beyond_3_bits(histories: pd.DataFrame, dataset: str = "fashion-mnist") -> Claim:
    """More than 3 bits improve the error by nothing important, on average.

    "No important improvement is made in accuracy using beyond 3-bit representations." (III-D)

    Statistic: error of A3W3 less the mean error of the 25 cells with 4 bits or more of both kinds, claimed below
    `IMPORTANT_POINTS`: a test of equivalence, in which an interval that reaches the threshold leaves the claim open.
    """
    errors = _sweep_errors(histories, dataset, seeds=SEEDS[dataset])
    cells = _above_3_bits()
    contrast = np.zeros(errors.shape[1:])
    contrast[_at(3, 3)] = 1
    for cell in cells:
        contrast[_at(*cell)] = -1 / len(cells)
    estimate = float((errors.mean(axis=0) * contrast).sum())
    noise = _Noise.of(errors)
    half = _half_width(_scaled(noise.terms(contrast), 1 / len(errors)))
    return Claim(
        name="beyond_3_bits",
        dataset=dataset,
        sentence="no important improvement is made in accuracy using beyond 3-bit representations",
        statistic="error of A3W3 less the mean error of the cells with 4 or more bits of both kinds",
        estimate_points=estimate,
        low_points=estimate - half,
        high_points=estimate + half,
        threshold_points=IMPORTANT_POINTS[dataset],
        claims_more=False,
        n=errors.size,
        remarks=(f"A3W3 {errors.mean(axis=0)[_at(3, 3)]:.2f}", *_spread(noise)),
    )


def beyond_3_bits_any_cell(histories: pd.DataFrame, dataset: str = "fashion-mnist") -> Claim:
    """No single cell above 3 bits improves the error by anything important.

    The same sentence as `beyond_3_bits`, read of every cell.

    Statistic: the largest of the improvements d_k from A3W3 to each of the 25 cells with 4 bits or more of both kinds,
    claimed below `IMPORTANT_POINTS`. Upper end: the largest upper end of the 25 intervals, which needs no correction,
    since the claim has to hold of every cell (intersection-union test). Lower end: the largest of 25 lower ends with
    Bonferroni's correction. The estimate, a largest of 25, is too large by chance; the interval allows for that.
    """
    errors = _sweep_errors(histories, dataset, seeds=SEEDS[dataset])
    means, noise = errors.mean(axis=0), _Noise.of(errors)
    cells = _above_3_bits()
    tail = (1 - _CONFIDENCE) / 2
    improvements, lows, highs = [], [], []
    for cell in cells:
        contrast = np.zeros(means.shape)
        contrast[_at(3, 3)], contrast[_at(*cell)] = 1, -1
        terms = _scaled(noise.terms(contrast), 1 / len(errors))
        improvement = float((means * contrast).sum())
        improvements.append(improvement)
        lows.append(improvement - _half_width(terms, tail=tail / len(cells)))
        highs.append(improvement + _half_width(terms, tail=tail))
    best = cells[int(np.argmax(improvements))]
    over = sum(improvement >= IMPORTANT_POINTS[dataset] for improvement in improvements)
    return Claim(
        name="beyond_3_bits_any_cell",
        dataset=dataset,
        sentence="no important improvement is made in accuracy using beyond 3-bit representations",
        statistic="error of A3W3 less that of the best cell with 4 or more bits of both kinds",
        estimate_points=max(improvements),
        low_points=max(lows),
        high_points=max(highs),
        threshold_points=IMPORTANT_POINTS[dataset],
        claims_more=False,
        n=errors.size,
        remarks=(
            f"best: {Quantization(activation_bits=best[0], weight_bits=best[1])}",
            f"{over} of {len(cells)} cells were measured to be better by {IMPORTANT_POINTS[dataset]:g} or more",
        ),
    )


def _input_bits(histories: pd.DataFrame, dataset: str, fewer: int) -> Claim:
    other = histories[(histories["input_bits"] == fewer).fillna(False)]
    seeds = sorted({*LEAST_INPUT_SEEDS, *(int(seed) for seed in other["seed"])})
    cell = [(3, 3)]
    many = _errors(histories, dataset, seeds=seeds, cells=cell)[:, 0]
    few = _errors(histories, dataset, seeds=seeds, cells=cell, input_bits=fewer)[:, 0]
    gains = few - many
    noise = _Noise.of(_sweep_errors(histories, dataset, seeds=SEEDS[dataset]))
    pair = np.zeros((len(BIT_WIDTHS), len(BIT_WIDTHS)))
    pair[0, 0], pair[1, 1] = 1, -1
    half = _half_width(_scaled(noise.terms(pair), 1 / len(seeds)))
    estimate = float(gains.mean())
    own_half = _half_width([(float(gains.var(ddof=1)) / len(gains), len(gains) - 1)])
    return Claim(
        name=f"input_bits_above_{fewer}",
        dataset=dataset,
        sentence="using higher inputs precisions over the other quantizations will improve the end accuracy at very "
        "little cost",
        statistic=f"error of A3W3 with {fewer} input bits less that with {INPUT_BITS}",
        estimate_points=estimate,
        low_points=estimate - half,
        high_points=estimate + half,
        threshold_points=0.0,
        claims_more=True,
        n=2 * len(seeds),
        remarks=(
            f"{fewer} input bits {few.mean():.2f}, {INPUT_BITS} input bits {many.mean():.2f}",
            f"from these {len(gains)} seeds alone: {_interval(estimate, own_half)}",
            "what the input's bits cost in hardware is not measured here",
        ),
    )


def input_bits_above_4(histories: pd.DataFrame, dataset: str = "fashion-mnist") -> Claim:
    """Inputs of 8 bits improve the accuracy over inputs of 4.

    "Inputs layers are always quantized to 8 bits: using higher inputs precisions over the other quantizations will
    improve the end accuracy at very little cost." (III-B.2)

    Statistic: error of A3W3 with 4 input bits less that with 8, claimed above 0; the mean over seeds of the paired
    difference. A few differences tell their own variance badly, so that of two cells of the sweep which share no bit
    width is taken: what a seed does to all networks cancels. The t interval of these differences alone is beside it.

    The sentence's cost is hardware; no history can show it.
    """
    return _input_bits(histories, dataset, 4)


def input_bits_above_2(histories: pd.DataFrame, dataset: str = "fashion-mnist") -> Claim:
    """Inputs of 8 bits improve the accuracy over inputs of 2: otherwise as `input_bits_above_4`."""
    return _input_bits(histories, dataset, 2)


CLAIMS: Mapping[str, tuple[Callable[[pd.DataFrame, str], Claim], tuple[str, ...]]] = {
    "accuracy_reached": (accuracy_reached, ("fashion-mnist",)),
    "weight_bits_dominate": (weight_bits_dominate, ("fashion-mnist", "mnist")),
    "epochs_trade_for_bits": (epochs_trade_for_bits, ("fashion-mnist",)),
    "beyond_3_bits": (beyond_3_bits, ("fashion-mnist", "mnist")),
    "beyond_3_bits_any_cell": (beyond_3_bits_any_cell, ("fashion-mnist", "mnist")),
    "input_bits_above_4": (input_bits_above_4, ("fashion-mnist",)),
    "input_bits_above_2": (input_bits_above_2, ("fashion-mnist",)),
}
"""Each claim and the data sets that it is made on and that have the trainings for it."""
