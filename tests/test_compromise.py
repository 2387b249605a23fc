"""The best compromise: synthetic matrices in which it is one, is none, or cannot be told."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from qnn import compromise
from qnn.cell import Cell, Folding, Quantization
from qnn.claims import Verdict
from qnn.compromise import Design, Differences

A2W2, A3W3, A4W4, A8W8 = (Quantization(activation_bits=n, weight_bits=n) for n in (2, 3, 4, 8))
MIDDLE, FAST = Folding(pe=8, simd=8), Folding(pe=16, simd=16)
INTERVALS = {MIDDLE: 1_024, FAST: 256}
ERRORS = {A2W2: 13.0, A3W3: 12.0, A4W4: 11.9, A8W8: 11.8}
SHARES: Mapping[tuple[Quantization, Folding], float | None] = {
    (A2W2, MIDDLE): 0.2,
    (A3W3, MIDDLE): 0.3,
    (A4W4, MIDDLE): 0.4,
    (A8W8, MIDDLE): 0.9,
    (A2W2, FAST): 0.8,
    (A3W3, FAST): 0.95,
    (A4W4, FAST): 1.4,
}
"""A matrix in which A3W3 is the best compromise: A2W2 is not accurate, A4W4 does not fit where A3W3 is fastest."""


def histories(errors: Mapping[Quantization, float], seeds: int = 3, deviation: float = 0.05) -> pd.DataFrame:
    random = np.random.default_rng(0)
    lines: list[tuple[object, ...]] = []
    for seed in range(seeds):
        of_all = random.normal()
        for cell, error in errors.items():
            noisy = error + of_all + deviation * random.normal()
            lines.append((100, seed, str(cell), 8, 99, 0.5))
            lines.append((100, seed, str(cell), 8, 100, noisy / 100))
            lines.append((100, seed, str(cell), 4, 100, 0.9))
        lines.append((100, seed, "float", None, 100, 0.1))
    columns = ["epochs", "seed", "cell", "input_bits", "epoch", "test_error"]
    return pd.DataFrame(lines, columns=columns).astype({"input_bits": "Int64"})


def designs(shares: Mapping[tuple[Quantization, Folding], float | None]) -> list[Design]:
    return [
        Design(
            cell=Cell(quantization=cell, folding=folding),
            top1_percent=100 - ERRORS[cell],
            interval_cycles=INTERVALS[folding],
            worst_share=share,
        )
        for (cell, folding), share in shares.items()
    ]


def judge(
    errors: Mapping[Quantization, float] = ERRORS,
    shares: Mapping[tuple[Quantization, Folding], float | None] = SHARES,
    seeds: int = 3,
    deviation: float = 0.05,
) -> compromise.Compromise:
    table = histories(errors, seeds, deviation)
    return compromise.judge(A3W3, designs(shares), table, folding=MIDDLE, margin_points=0.5)


def test_it_is_borne_out_where_all_four_hold() -> None:
    found = judge()
    assert found.verdict is Verdict.BORNE_OUT
    assert found.accurate == {A2W2: False, A3W3: True, A4W4: True, A8W8: True}
    assert str(found) == "A3W3 as the best compromise is borne out"


@pytest.mark.parametrize(
    ("errors", "shares", "reason"),
    [
        ({A3W3: 12.8}, {}, "A3W3 is not accurate, its error"),
        ({A2W2: 12.0}, {}, "A2W2 is accurate and costs less"),
        ({}, {(A4W4, MIDDLE): 0.29}, "A4W4 is accurate and costs less, 29.0 % against 30.0 % at PE8-SIMD8"),
        (
            {A4W4: 11.6},
            {(A4W4, MIDDLE): 0.3},
            "A4W4 has a smaller error and costs no more, 30.0 % against 30.0 % at PE8-SIMD8",
        ),
        ({}, {(A4W4, FAST): 0.99, (A3W3, FAST): 1.01}, "A4W4 is accurate and has a faster design that fits"),
    ],
)
def test_each_of_the_four_can_refute_it(
    errors: Mapping[Quantization, float], shares: Mapping[tuple[Quantization, Folding], float], reason: str
) -> None:
    found = judge({**ERRORS, **errors}, {**SHARES, **shares})
    assert found.verdict is Verdict.REFUTED
    assert any(text.startswith(reason) for text in found.against)
    assert reason in str(found)


@pytest.mark.parametrize(
    "shares", [{(A4W4, MIDDLE): 0.3}, {(A4W4, FAST): 1.0}], ids=["equal cost and error", "equally fast"]
)
def test_a_tie_does_not_refute_it(shares: Mapping[tuple[Quantization, Folding], float]) -> None:
    assert judge({**ERRORS, A4W4: 12.1}, {**SHARES, **shares}, deviation=0.01).verdict is Verdict.BORNE_OUT


@pytest.mark.parametrize("seeds", [0, 1])
def test_without_two_seeds_nothing_can_be_told(seeds: int) -> None:
    found = judge(seeds=seeds)
    assert found.verdict is Verdict.UNDECIDED
    assert set(found.accurate.values()) == {None}


def test_seeds_that_differ_much_leave_it_open() -> None:
    assert judge(deviation=2.0).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize("unknown", [(A4W4, MIDDLE), (A3W3, MIDDLE)])
def test_resources_that_are_not_known_leave_it_open(unknown: tuple[Quantization, Folding]) -> None:
    assert judge(shares={**SHARES, unknown: None}).verdict is Verdict.UNDECIDED


def test_a_fastest_design_that_is_not_known_leaves_it_open_where_the_other_fits() -> None:
    assert judge(shares={**SHARES, (A3W3, FAST): None, (A4W4, FAST): 0.9}).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize("cell", [A2W2, A4W4], ids=["not accurate", "no faster anyway"])
def test_resources_that_cannot_matter_need_not_be_known(cell: Quantization) -> None:
    assert judge(shares={**SHARES, (cell, FAST): None}).verdict is Verdict.BORNE_OUT


def test_a_representation_that_was_not_built_like_the_others_is_refused() -> None:
    with pytest.raises(ValueError, match="A8W8 has to be built once at PE8-SIMD8"):
        judge(shares={**{key: share for key, share in SHARES.items() if key[0] != A8W8}, (A8W8, FAST): 0.9})


def test_the_front_leaves_out_what_does_not_fit_or_is_not_known() -> None:
    matrix = designs({**SHARES, (A2W2, FAST): None})
    kept = [(design.cell.quantization, design.cell.folding) for design in compromise.front(matrix)]
    assert kept == [(A2W2, MIDDLE), (A3W3, MIDDLE), (A4W4, MIDDLE), (A8W8, MIDDLE), (A3W3, FAST)]
    better = [replace(design, top1_percent=89.0) if design.cell.quantization == A2W2 else design for design in matrix]
    kept = [(design.cell.quantization, design.cell.folding) for design in compromise.front(better)]
    assert kept == [(A2W2, MIDDLE), (A3W3, FAST)]


def test_an_interval_holds_the_true_difference_as_often_as_it_says() -> None:
    random, held = np.random.default_rng(1), []
    for _ in range(2_000):
        errors = np.array([12.0, 11.5, 11.0]) + random.normal(size=(3, 1)) + 0.2 * random.normal(size=(3, 3))
        found = Differences.of(errors)
        held.append(abs(found.means[0] - found.means[1] - 0.5) < found.half_width())
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)
