"""Exact thresholds reproduce the activation on every accumulator, and only float32's differences are explained."""

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qnn import thresholding
from qnn.errors import EquivalenceError, ParametersError
from qnn.thresholding import (
    Activation,
    ExactThresholds,
    Verdict,
    code_range,
    compare_codes,
    compare_thresholds,
    exact_thresholds,
)


def activation(
    gamma: float = 1.0,
    beta: float = 0.0,
    mean: float = 0.0,
    variance: float = 1.0,
    *,
    scale: float = 0.25,
    step: float = 0.5,
    bits: int = 3,
    signed: bool = True,
    epsilon: float = 0.0,
) -> Activation:
    """An activation of one channel."""
    lowest, highest = code_range(bits, signed=signed)
    arrays = {"scale": scale, "gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
    return Activation(
        **{name: np.array([value]) for name, value in arrays.items()},
        epsilon=epsilon,
        step=step,
        lowest=lowest,
        highest=highest,
    )


def naive_code(given: Activation, acc: int, channel: int = 0) -> int:
    """The activation, word for word: a boundary is reached where y >= t (k even) or y > t (k odd).

    gamma * (acc * scale - mean) is compared with (t - beta) * sqrt(variance + epsilon) by signs, then by squares.
    """
    rational = {
        name: Fraction(float(getattr(given, name)[channel])) for name in ("scale", "gamma", "beta", "mean", "variance")
    }
    left = rational["gamma"] * (acc * rational["scale"] - rational["mean"])
    variance = rational["variance"] + Fraction(given.epsilon)
    code = given.lowest
    for k in range(given.lowest + 1, given.highest + 1):
        right = Fraction(2 * k - 1, 2) * Fraction(given.step) - rational["beta"]
        signs = (left > 0) - (left < 0), (right > 0) - (right < 0)
        if signs[0] != signs[1]:
            order = signs[0] - signs[1]
        else:
            squares = left**2 - right**2 * variance
            order = signs[0] * ((squares > 0) - (squares < 0))
        if order > 0 or (order == 0 and k % 2 == 0):
            code = k
    return code


def rounded_code(given: Activation, acc: int, rounding: Callable[[Fraction], int] = round) -> int:
    """The activation where sigma is rational, with Python's own rounding of fractions, which is half to even."""
    sigma = math.isqrt(int(given.variance[0]))
    assert sigma**2 == given.variance[0]
    assert given.epsilon == 0
    centred = acc * Fraction(given.scale[0]) - Fraction(given.mean[0])
    y = Fraction(given.gamma[0]) * centred / sigma + Fraction(given.beta[0])
    return min(max(rounding(y / Fraction(given.step)), given.lowest), given.highest)


def half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def half_down(value: Fraction) -> int:
    return math.ceil(value - Fraction(1, 2))


def codes(given: Activation, low: int, high: int, exact: ExactThresholds | None = None) -> list[int]:
    """Codes of the accumulators low..high (before the sign flip), by thresholds."""
    sign = int(given.signs[0])
    exact = exact or exact_thresholds(given, min(sign * low, sign * high), max(sign * low, sign * high))
    result: list[int] = exact.codes(sign * np.arange(low, high + 1)[:, None])[:, 0].tolist()
    return result


TIES = [
    activation(),
    activation(-1.0),
    activation(-1.0, 0.25, signed=False, bits=2),
    activation(2.0, 0.5, -0.75, 4.0),
    activation(-0.5, -0.125, 0.5, 9.0, bits=4),
    activation(0.5, 0.25, signed=False),
]


@pytest.mark.parametrize("given", TIES)
def test_thresholds_round_half_to_even_like_python_does(given: Activation) -> None:
    accumulators = range(-60, 61)
    assert codes(given, -60, 60) == [rounded_code(given, acc) for acc in accumulators]
    assert exact_thresholds(given, -60, 60).tie.any(), "the example has to hold ties"


@pytest.mark.parametrize("rounding", [half_up, half_down])
@pytest.mark.parametrize("given", TIES)
def test_another_rule_for_ties_would_be_noticed(given: Activation, rounding: Callable[[Fraction], int]) -> None:
    assert codes(given, -60, 60) != [rounded_code(given, acc, rounding) for acc in range(-60, 61)]


@pytest.mark.parametrize("given", TIES)
def test_less_for_less_or_equal_would_be_noticed(given: Activation) -> None:
    exact = exact_thresholds(given, -60, 60)
    strict = dataclasses.replace(exact, thresholds=exact.thresholds + 1)
    assert codes(given, -60, 60, strict) != [rounded_code(given, acc) for acc in range(-60, 61)]


def float32s(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(float(np.float32(low)), float(np.float32(high)), width=32)


GAMMAS = st.one_of(
    float32s(-4, 4),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, float(np.float32(1e-30)), float(np.float32(-1e-42))]),
)


@st.composite
def activations(draw: st.DrawFn) -> Activation:
    step = draw(st.one_of(st.just(0.25), float32s(1e-3, 2)))
    on_boundary = st.integers(-8, 8).map(lambda k: (k + 0.5) * step)
    return activation(
        draw(GAMMAS),
        draw(st.one_of(on_boundary, float32s(-3, 3))),
        draw(float32s(-3, 3)),
        draw(st.one_of(st.sampled_from([0.0, 1.0, 2.0]), float32s(0, 8))),
        scale=draw(float32s(1e-3, 1)) * draw(st.sampled_from([1.0, 0.5, float(np.float32(0.013))])),
        step=step,
        bits=draw(st.integers(2, 8)),
        signed=draw(st.booleans()),
        epsilon=float(np.float32(1e-5)),
    )


@settings(max_examples=150, deadline=None, derandomize=True)
@given(activations())
def test_every_accumulator_gets_the_exact_code(given: Activation) -> None:
    assert codes(given, -40, 40) == [naive_code(given, acc) for acc in range(-40, 41)]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(activations())
def test_thresholds_ascend_within_the_accumulator_and_stand_next_to_tau(given: Activation) -> None:
    exact = exact_thresholds(given, -40, 40)
    assert (np.diff(exact.thresholds) >= 0).all()
    assert given.gamma[0] == 0 or (np.diff(exact.tau) >= 0).all()
    assert exact.thresholds.min() >= -40
    assert exact.thresholds.max() <= 41
    inside = (exact.thresholds > -40) & (exact.thresholds < 41)
    gap = exact.thresholds[inside] - exact.tau[inside]
    assert (gap >= -1e-9).all()
    assert (gap <= 1 + 1e-9).all()


@pytest.mark.parametrize("beside", [-(2.0**-60), 0.0, 2.0**-60])
def test_a_boundary_that_float64_cannot_tell_from_an_accumulator_is_decided_all_the_same(beside: float) -> None:
    """At accumulator 1 it is a tie, which goes to the even code 0, or not, by 2^-60."""
    given = activation(beta=beside)  # y = acc / 4 + beside; the boundary below code 1 is 1 / 4
    assert 0.25 - beside == 0.25, "float64 has to be at a loss"
    assert codes(given, 0, 2) == [naive_code(given, acc) for acc in range(3)] == [0, int(beside > 0), 1]


def by_integers_alone(given: Activation, monkeypatch: pytest.MonkeyPatch) -> ExactThresholds:
    with monkeypatch.context() as patch:
        patch.setattr(thresholding, "_DECIDABLE", -1.0)  # float64 decides nothing
        return exact_thresholds(given, -(10**6), 10**6)


@pytest.mark.parametrize("seed", range(3))
def test_float64_decides_as_integers_do(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = many_channels(seed, 40)
    quick, slow = exact_thresholds(given, -(10**6), 10**6), by_integers_alone(given, monkeypatch)
    assert (quick.thresholds == slow.thresholds).all()
    assert (quick.tie == slow.tie).all()
    tau, error = thresholding._tau(given)
    assert (np.abs(tau - slow.tau) <= error + np.spacing(np.abs(slow.tau))).all()


def test_a_float64_bound_of_nothing_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = thresholding._tau
    given = activation(beta=2.0**-60)
    right = exact_thresholds(given, -60, 60).thresholds
    monkeypatch.setattr(thresholding, "_tau", lambda a: (whole(a)[0], np.zeros(whole(a)[1].shape)))
    assert (exact_thresholds(given, -60, 60).thresholds != right).any()


@pytest.mark.parametrize("bits", range(2, 9))
def test_each_boundary_is_found_among_accumulators_beyond_float32(bits: int) -> None:
    given = activation(0.37, 0.11, 3.3, 1.7, scale=2.0**-20, bits=bits, epsilon=float(np.float32(1e-5)))
    exact = exact_thresholds(given, -(2**40), 2**40)
    for first in exact.thresholds[0].tolist():
        assert naive_code(given, first - 1) + 1 == naive_code(given, first)


def test_a_constant_channel_has_its_thresholds_at_the_ends() -> None:
    exact = exact_thresholds(activation(0.0, 0.6), -5, 5)  # y = 0.6 is code 1
    assert exact.thresholds.tolist() == [[-5, -5, -5, -5, -5, 6, 6]]


def test_a_constant_on_a_boundary_goes_to_the_even_code() -> None:
    assert codes(activation(0.0, 0.25), -1, 1) == [0, 0, 0]
    assert codes(activation(0.0, 0.75), -1, 1) == [2, 2, 2]


def float32_thresholds(given: Activation) -> NDArray[np.float64]:
    """Thresholds as float32 arithmetic has them: (t - B) / |A| with y = A acc + B, rounded after each operation."""
    values = {name: getattr(given, name).astype(np.float32) for name in ("scale", "gamma", "beta", "mean", "variance")}
    slope = values["gamma"] / np.sqrt(np.float32(given.epsilon) + values["variance"])
    offset = values["beta"] - slope * values["mean"]
    slope = slope * values["scale"]
    boundary = ((np.arange(given.lowest + 1, given.highest + 1) - 0.5) * given.step).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        taus = (boundary[None] - offset[:, None]) / slope[:, None] * given.signs[:, None].astype(np.float32)
    return np.asarray(taus, dtype=np.float64)


def many_channels(seed: int, channels: int = 400, bits: int = 8) -> Activation:
    rng = np.random.default_rng(seed)
    lowest, highest = code_range(bits, signed=True)

    def draw(low: float, high: float) -> NDArray[np.float64]:
        return rng.uniform(low, high, channels).astype(np.float32).astype(np.float64)

    return Activation(
        scale=draw(1e-7, 1e-5),
        gamma=draw(-2, 2),
        beta=draw(-2, 2),
        mean=draw(-1, 1),
        variance=draw(0.01, 2),
        epsilon=float(np.float32(1e-5)),
        step=float(np.float32(1.1 / 128)),
        lowest=lowest,
        highest=highest,
    )


def test_float32_thresholds_differ_and_every_difference_is_explained() -> None:
    given = many_channels(0)
    exact = exact_thresholds(given, -(10**6), 10**6)
    result = compare_thresholds(exact, float32_thresholds(given))
    assert result.count(Verdict.FLOAT32) > 100, "the example has to hold differences"
    assert result.count(Verdict.UNEXPLAINED) == 0
    assert result.differing_accumulators >= result.count(Verdict.FLOAT32)
    assert sum(result.counts.values()) == exact.thresholds.size
    assert 0.1 < result.worst_units < 4
    result.require_explained("layer 1")


def test_a_threshold_further_off_than_float32_explains_is_named() -> None:
    given = many_channels(1)
    exact = exact_thresholds(given, -(10**6), 10**6)
    wrong = exact.thresholds.copy()
    inside = (wrong > -(10**6) + 50) & (wrong < 10**6 - 50)
    channel, step = (int(index) for index in np.argwhere(inside)[17])
    wrong[channel, step] += math.ceil(8 * exact.unit[channel, step]) + 1
    result = compare_thresholds(exact, wrong)
    assert [(d.channel, d.step) for d in result.differences(Verdict.UNEXPLAINED)] == [(channel, step)]
    with pytest.raises(EquivalenceError, match=rf"layer 2: 1 of .*\n  channel {channel}, step {step}, threshold"):
        result.require_explained("layer 2")


def test_a_missing_eps_is_not_explained_by_float32() -> None:
    given = many_channels(2)
    exact = exact_thresholds(given, -(10**6), 10**6)
    forgotten = float32_thresholds(dataclasses.replace(given, epsilon=0.0))
    assert compare_thresholds(exact, forgotten).count(Verdict.UNEXPLAINED) > 1000


def test_ties_are_counted_apart() -> None:
    given = activation()  # tau of step i is 2 (i - 4) + 1: each on an accumulator
    exact = exact_thresholds(given, -60, 60)
    result = compare_thresholds(exact, np.ceil(exact.tau))  # FINN's >= for every parity
    assert result.count(Verdict.TIE) == 4  # the odd codes -3, -1, 1, 3
    assert result.count(Verdict.UNEXPLAINED) == result.count(Verdict.FLOAT32) == 0
    off = compare_thresholds(exact, np.ceil(exact.tau) - 1)
    assert off.count(Verdict.TIE) == 0
    assert off.count(Verdict.UNEXPLAINED) == 7


def test_thresholds_beyond_the_accumulator_do_not_count() -> None:
    exact = exact_thresholds(activation(), -2, 2)
    assert compare_thresholds(exact, [[-1e30, -50, -2, -1, 2, 3, math.inf]]).count(Verdict.UNEXPLAINED) == 0


def test_one_row_of_thresholds_stands_for_all_channels() -> None:
    one = activation()
    two = dataclasses.replace(
        one,
        scale=one.scale.repeat(2),
        gamma=one.gamma.repeat(2),
        beta=one.beta.repeat(2),
        mean=one.mean.repeat(2),
        variance=one.variance.repeat(2),
    )
    exact = exact_thresholds(two, -20, 20)
    assert compare_thresholds(exact, exact.thresholds[:1]).verdicts.shape == (2, 7)


def test_a_nan_threshold_is_refused() -> None:
    exact = exact_thresholds(activation(), -2, 2)
    with pytest.raises(ParametersError, match="channel 0, step 3 is NaN"):
        compare_thresholds(exact, [[1, 2, 3, math.nan, 5, 6, 7]])


def test_a_constant_channel_is_explained_only_next_to_a_boundary() -> None:
    near = exact_thresholds(activation(0.0, 0.25 + 2.0**-25), -5, 5)
    far = exact_thresholds(activation(0.0, 0.26), -5, 5)
    below = [[-5, -5, -5, -5, 6, 6, 6]]  # code 0 instead of 1
    assert [d.verdict for d in compare_thresholds(near, below).differences()] == [Verdict.FLOAT32]
    assert [d.verdict for d in compare_thresholds(far, below).differences()] == [Verdict.UNEXPLAINED]


def test_codes_are_judged_by_every_boundary_between() -> None:
    given = activation(0.9, 0.1, scale=2.0**-26, bits=4, epsilon=float(np.float32(1e-5)))
    exact = exact_thresholds(given, -(2**29), 2**29)
    edge = int(exact.thresholds[0, 8])
    inside = np.array([[edge], [edge - 1], [edge]])
    right = exact.codes(inside)
    result = compare_codes(exact, inside, right + np.array([[-1], [1], [-2]]))
    assert result.verdicts[:, 0].tolist() == [Verdict.FLOAT32, Verdict.FLOAT32, Verdict.UNEXPLAINED]
    assert "accumulator" in str(next(result.differences(Verdict.UNEXPLAINED)))
    assert compare_codes(exact, inside, right).counts[Verdict.EQUAL] == 3


def test_a_code_that_the_activation_does_not_have_is_unexplained() -> None:
    exact = exact_thresholds(activation(), -60, 60)
    result = compare_codes(exact, [[60], [-60]], [[4], [-5]])
    assert result.count(Verdict.UNEXPLAINED) == 2
    with pytest.raises(EquivalenceError):
        result.require_explained("x")


def test_a_tie_in_codes_is_told_apart() -> None:
    exact = exact_thresholds(activation(), -60, 60)  # acc 1 is 0.25 = half a step: code 0
    assert compare_codes(exact, [[1]], [[1]]).count(Verdict.TIE) == 1


def test_a_code_is_explained_by_the_sum_that_it_was_made_from() -> None:
    """Float32 cannot hold sums of millions: the boundary lies between the accumulator and its sum, or 8 U from that."""
    given = activation(0.9, 0.1, scale=2.0**-20, epsilon=float(np.float32(1e-5)))
    exact = exact_thresholds(given, -(2**29), 2**29)
    tau, unit = float(exact.tau[0, 5]), float(exact.unit[0, 5])
    acc = math.floor(tau - 8 * unit) - 3
    assert acc + 8 * unit < tau, "the accumulator alone has to explain nothing"

    def verdict(accumulator: int, step: int, total: float | None) -> Verdict:
        code = exact.codes(np.array([[accumulator]])) + step
        result = compare_codes(exact, [[accumulator]], code, None if total is None else [[total]])
        return Verdict(result.verdicts[0, 0])

    below, above = acc, math.ceil(tau + 8 * unit) + 3
    assert verdict(below, 1, None) == verdict(above, -1, None) == Verdict.UNEXPLAINED
    for total in (tau + 1, tau, tau - 7.9 * unit):
        assert verdict(below, 1, total) == Verdict.FLOAT32
    for total in (tau - 1, tau, tau + 7.9 * unit):
        assert verdict(above, -1, total) == Verdict.FLOAT32
    for total in (tau - 8.1 * unit, below, below - 100.0, math.nan):
        assert verdict(below, 1, total) == Verdict.UNEXPLAINED
    for total in (tau + 8.1 * unit, above, above + 100.0, math.nan):
        assert verdict(above, -1, total) == Verdict.UNEXPLAINED
    assert verdict(below, 2, tau + 1) == Verdict.UNEXPLAINED  # the next boundary is far away
    assert verdict(below, 0, tau + 1) == Verdict.EQUAL


def test_a_tie_is_none_where_the_sum_went_the_other_way() -> None:
    exact = exact_thresholds(activation(), -60, 60)  # acc 1 is 0.25 = half a step: code 0
    assert compare_codes(exact, [[1]], [[1]], [[1.0]]).count(Verdict.TIE) == 1
    assert compare_codes(exact, [[1]], [[1]], [[0.9]]).count(Verdict.UNEXPLAINED) == 1


def test_sums_of_another_shape_are_refused() -> None:
    exact = exact_thresholds(activation(), -60, 60)
    with pytest.raises(ParametersError, match=r"sums \(1, 2\)"):
        compare_codes(exact, [[1]], [[1]], [[1.0, 2.0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": np.array([0.0])}, "scale of channel 0 is 0.0: it has to be positive"),
        ({"gamma": np.array([math.nan])}, "gamma of channel 0 is nan"),
        ({"variance": np.array([-1.0])}, "variance of channel 0"),
        ({"variance": np.array([0.0])}, "variance of channel 0"),
        ({"beta": np.array([0.0, 1.0])}, "beta has shape"),
        ({"step": 0.0}, "step is 0.0"),
        ({"highest": -4}, "are no range"),
    ],
)
def test_numbers_that_make_no_activation_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ParametersError, match=message):
        dataclasses.replace(activation(), **change)  # type: ignore[arg-type]


def test_an_empty_accumulator_range_is_refused() -> None:
    with pytest.raises(ParametersError, match="are no range"):
        exact_thresholds(activation(), 1, 0)
