"""Growth with the bit width is judged by the stated statistic, and by nothing less than all seven bit widths."""

from dataclasses import replace

import pytest

from benchmarks.test_growth import CLAIMS, MEASURED, diagonal
from qnn.cell import Cell, Folding, Policy, Quantization
from qnn.errors import QnnError
from qnn.growth import BITS, jumps_above, linear_then_faster

LINE = {bits: 1_000.0 * bits + 500 for bits in BITS}


def test_a_line_that_bends_upwards_above_6_bits_is_what_the_study_says() -> None:
    growth = linear_then_faster({**LINE, 7: 8_500, 8: 11_000})
    assert growth.holds is True  # a plain bool, which a row of results can hold
    assert "2,500, 3,500, 4,500, 5,500, 6,500, 8,500, 11,000 at 2 to 8 bits" in str(growth)
    assert "at most 0.0 %" in str(growth)
    assert "11.8 % and 22.7 %" in str(growth)


def test_a_line_that_goes_straight_on_is_not_faster() -> None:
    assert not linear_then_faster({**LINE, 7: LINE[7], 8: LINE[8] - 1}).holds


def test_a_curve_is_not_linear() -> None:
    assert not linear_then_faster({bits: 100.0 * 2**bits for bits in BITS}).holds


def test_a_point_that_is_further_off_the_line_than_the_last_ones_is_no_growth() -> None:
    assert not linear_then_faster({**LINE, 4: 4_650, 7: 7_600, 8: 8_600}).holds


def test_a_step_of_twice_the_largest_before_it_is_a_jump_and_one_less_is_none() -> None:
    figures = {2: 1, 3: 2, 4: 5, 5: 5, 6: 8, 7: 8, 8: 14}
    growth = jumps_above(figures)
    assert growth.holds
    assert "the step from 7 to 8 is 6, the largest before it 3" in str(growth)
    assert not jumps_above({**figures, 8: 13}).holds


def test_nothing_that_stays_or_falls_jumps() -> None:
    assert not jumps_above(dict.fromkeys(BITS, 7)).holds
    assert not jumps_above({bits: -bits for bits in BITS}).holds


@pytest.mark.parametrize("statistic", [linear_then_faster, jumps_above])
def test_a_bit_width_that_is_missing_is_an_error(statistic: object) -> None:
    assert callable(statistic)
    with pytest.raises(QnnError, match=r"figures are there for \[2, 3, 4, 5, 6, 7\]"):
        statistic({bits: value for bits, value in LINE.items() if bits < 8})


CELLS = [
    Cell(quantization=Quantization(activation_bits=bits, weight_bits=bits), folding=Folding(pe=8, simd=8))
    for bits in BITS
]


def test_the_claims_are_judged_by_the_whole_diagonal_and_not_without_it() -> None:
    others = [replace(CELLS[1], folding=Folding(pe=2, simd=8)), replace(CELLS[1], policy=Policy.BALANCED)]
    assert diagonal([*others, *reversed(CELLS)]) == {"diagonal": tuple(CELLS)}
    for missing in range(len(CELLS)):
        assert diagonal([*others, *CELLS[:missing], *CELLS[missing + 1 :]]) == {}


def test_another_data_set_is_no_diagonal() -> None:
    assert diagonal([replace(cell, dataset="mnist") for cell in CELLS]) == {}


def test_every_claim_has_a_known_result() -> None:
    assert MEASURED.keys() == CLAIMS.keys()
