"""Cells are counted as the 7 series builds them, and a part's budget is divided by what it has."""

import pytest

from qnn.errors import DesignError
from qnn.reference import FOLDER
from qnn.resources import (
    CELLS,
    FAMILIES,
    Budget,
    Part,
    Resources,
    count_cells,
    margins,
    overflows,
    parse_parts,
    shares,
    total,
)

SMALL = Budget(lut=100, lut_memory=40, ff=200, bram36=4, dsp=10)


def test_counts_logic_and_memory_luts_together_and_memory_apart() -> None:
    counted = count_cells({"LUT2": 3, "LUT6": 4, "INV": 1, "RAM32M": 2, "SRL16E": 5})
    assert counted == Resources(lut=3 + 4 + 1 + 2 * 4 + 5, lut_memory=2 * 4 + 5)


def test_counts_each_other_kind_of_cell_in_its_own_column() -> None:
    cells = {"FDRE": 2, "FDSE": 3, "CARRY4": 4, "MUXF7": 5, "MUXF8": 6, "DSP48E1": 7, "RAMB18E1": 8, "RAMB36E1": 9}
    assert count_cells(cells) == Resources(ff=5, carry4=4, muxf7=5, muxf8=6, dsp=7, bram18=8, bram36=9)


def test_every_known_cell_costs_something() -> None:
    assert [name for name, cost in CELLS.items() if cost == Resources()] == []


@pytest.mark.parametrize("ports", [1, 2])
def test_a_distributed_memory_costs_a_lut_per_port_and_64_words(ports: int) -> None:
    letter = {1: "S", 2: "D"}[ports]
    for words in (64, 128):
        assert CELLS[f"RAM{words}X1{letter}"].lut == ports * words // 64


def test_an_unknown_cell_is_an_error_that_names_it() -> None:
    with pytest.raises(DesignError, match=r"BUFG \(2\), FANCY \(1\)"):
        count_cells({"LUT2": 1, "FANCY": 1, "BUFG": 2})


def test_two_half_blocks_are_one_block_ram() -> None:
    assert Resources(bram36=1, bram18=2).bram36_equivalent == 2.0
    assert Resources(bram36=1, bram18=3).bram36_equivalent == 2.5


def test_a_total_is_the_sum_of_each_column() -> None:
    assert total([]) == Resources()
    assert total([Resources(lut=1, ff=2), Resources(lut=10, dsp=3)]) == Resources(lut=11, ff=2, dsp=3)


def test_shares_are_of_the_parts_budget_and_may_exceed_it() -> None:
    taken = Resources(lut=25, lut_memory=10, ff=20, bram18=1, bram36=1, dsp=11)
    assert shares(taken, SMALL) == {"lut": 0.25, "lut_memory": 0.25, "ff": 0.1, "bram36": 0.375, "dsp": 1.1}


def test_what_is_left_is_negative_where_it_does_not_fit() -> None:
    taken = Resources(lut=25, lut_memory=10, ff=20, bram18=1, bram36=1, dsp=11)
    assert margins(taken, SMALL) == {"lut": 75, "lut_memory": 30, "ff": 180, "bram36": 2.5, "dsp": -1}
    assert overflows(taken, SMALL) == ("dsp",)


def test_a_part_that_is_full_fits_and_one_more_does_not() -> None:
    full = Resources(lut=100, lut_memory=40, ff=200, bram18=2, bram36=3, dsp=10)
    assert overflows(full, SMALL) == ()
    assert overflows(full + Resources(bram18=1, ff=1), SMALL) == ("ff", "bram36")


def test_the_z7020_has_what_its_data_sheet_says_and_finns_shell_takes_some() -> None:
    parts = parse_parts((FOLDER / "parts.toml").read_text())
    assert parts["xc7z020clg400-1"] == Part(
        name="xc7z020clg400-1",
        family="zynq-7000",
        alone=Budget(lut=53200, lut_memory=17400, ff=106400, bram36=140, dsp=220),
        beside_shell=Budget(lut=46775, lut_memory=16429, ff=98066, bram36=139, dsp=220),
    )


def test_every_shipped_part_has_the_proportions_of_its_family() -> None:
    """Two flip-flops a LUT (UG474, UG574), and some LUTs, but not all, in slices that hold memory."""
    parts = parse_parts((FOLDER / "parts.toml").read_text())
    assert len(parts) >= 3
    for part in parts.values():
        assert part.family in FAMILIES
        assert part.alone.ff == 2 * part.alone.lut
        assert 0.25 < part.alone.lut_memory / part.alone.lut < 0.5


NUMBERS = "lut = 9\nlut_memory = 9\nff = 9\nbram36 = 9\ndsp = 9"
FAMILY = 'family = "zynq-7000"'


def test_without_a_shell_of_its_family_a_part_is_known_alone() -> None:
    assert parse_parts(f"[part.p]\n{FAMILY}\n{NUMBERS}")["p"].beside_shell is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"[part.p]\n{FAMILY}\nlut = 1\nff = 1\nbram36 = 1\ndsp = 1", "part p: .*: lut_memory"),
        (f"[part.p]\n{FAMILY}\n{NUMBERS}\nuram = 1", "uram"),
        (f"[part.p]\n{FAMILY}\n{NUMBERS}".replace("bram36 = 9", "bram36 = 0"), "bram36 is 0"),
        (f"[part.p]\n{FAMILY}\n{NUMBERS}".replace("lut = 9", "lut = 1.5"), r"lut is 1\.5"),
        (f"[part.p]\n{NUMBERS}", "family is None, there are zynq-7000"),
        (f'[part.p]\nfamily = "virtex"\n{NUMBERS}', "family is 'virtex'"),
        (f"[shell.virtex]\n{NUMBERS}", "shell virtex"),
        (f"[shell.zynq-7000]\n{NUMBERS}\n[part.p]\n{FAMILY}\n{NUMBERS}".replace("dsp = 9", "dsp = 10", 1), "of dsp"),
        ("part = 3", "not part = 3"),
        ("part.p = 3", "not part = "),
        ("[p]\nlut = 1", "not p = "),
        ("[p", "not TOML"),
    ],
)
def test_a_wrong_budget_is_refused(text: str, message: str) -> None:
    with pytest.raises(DesignError, match=message):
        parse_parts(text)
