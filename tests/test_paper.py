"""The study's throughput figures, and what follows from them alone."""

import itertools
from dataclasses import replace

import pytest

from qnn import paper
from qnn.cell import Cell, Folding, Policy, Quantization
from qnn.estimate import board_bound, megabytes_per_s, spread, throughput_images_per_s
from qnn.paper import BoardThroughput


def _cell(quantization: str, folding: str | None = None) -> Cell:
    return Cell(
        quantization=Quantization.parse(quantization), folding=Folding.parse(folding) if folding is not None else None
    )


TABLE_2, TABLE_3 = ([entry for entry in paper.board_throughputs() if entry.table == table] for table in (2, 3))


def test_every_readable_entry_is_there() -> None:
    assert len(TABLE_2) == 8  # A4W4 at 16/16 did not fit
    assert len(TABLE_3) == 8  # PE16-SIMD2 is not readable
    assert {str(entry.quantization) for entry in TABLE_3} == {"A3W3"}


@pytest.mark.parametrize("entry", TABLE_2, ids=lambda entry: f"{entry.quantization}-{entry.folding}")
def test_an_entry_is_the_figure_of_its_cell(entry: BoardThroughput) -> None:
    cell = Cell(quantization=entry.quantization, folding=entry.folding)
    # Table III prints 6,098 where Table II has 6,099.
    assert paper.throughput_images_per_s(cell) == pytest.approx(entry.images_per_s, abs=1)


@pytest.mark.parametrize("entry", TABLE_2, ids=lambda entry: f"{entry.quantization}-{entry.folding}")
def test_dram_in_is_1024_bytes_an_image(entry: BoardThroughput) -> None:
    expected = megabytes_per_s(entry.images_per_s, bytes_per_image=1024)
    assert entry.dram_in_megabytes_per_s == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("entry", TABLE_3, ids=lambda entry: str(entry.folding))
def test_the_ideal_throughput_is_within_the_stated_bound(entry: BoardThroughput) -> None:
    ideal = throughput_images_per_s(entry.ideal_interval_cycles, paper.clock_period_ns())
    assert 1 < ideal / entry.images_per_s < 1 + board_bound(entry.ideal_interval_cycles)


@pytest.mark.parametrize("entry", TABLE_3, ids=lambda entry: str(entry.folding))
def test_the_overhead_fitted_on_table_2_predicts_table_3(entry: BoardThroughput) -> None:
    """Within 0.07 %; with the ideal interval alone 16/16 is off by 4.8 %."""
    interval = entry.ideal_interval_cycles + paper.fitted_overhead_cycles()
    predicted = throughput_images_per_s(interval, paper.clock_period_ns())
    assert predicted == pytest.approx(entry.images_per_s, rel=0.0007)


def test_bit_widths_move_the_papers_throughput_by_less_than_a_thousandth() -> None:
    by_folding = {entry.folding: [e.images_per_s for e in TABLE_2 if e.folding == entry.folding] for entry in TABLE_2}
    spreads = {str(folding): 100 * spread(figures) for folding, figures in by_folding.items()}
    assert spreads == pytest.approx({"PE2-SIMD2": 0.016, "PE8-SIMD8": 0.022, "PE16-SIMD16": 0.063}, abs=5e-4)
    assert 100 * paper.bit_width_spread() == max(spreads.values())


def test_swapping_pe_and_simd_moves_the_papers_throughput_by_less_than_a_thousandth() -> None:
    spreads = {
        str(one.folding): 100 * spread((one.images_per_s, other.images_per_s))
        for one, other in itertools.combinations(TABLE_3, 2)
        if (one.folding.pe, one.folding.simd) == (other.folding.simd, other.folding.pe)
    }
    assert spreads == pytest.approx({"PE2-SIMD8": 0.016, "PE8-SIMD16": 0.035}, abs=5e-4)
    assert 100 * paper.mirror_spread() == max(spreads.values())


def test_table_2_alone_has_the_bandwidth_and_only_of_the_studys_folding() -> None:
    cell = Cell(quantization=TABLE_2[1].quantization, folding=TABLE_2[1].folding)
    assert paper.dram_in_megabytes_per_s(cell) == 98.85
    assert paper.dram_in_megabytes_per_s(replace(cell, policy=Policy.BALANCED)) is None
    assert paper.dram_in_megabytes_per_s(replace(cell, folding=Folding(pe=8, simd=2))) is None


@pytest.mark.parametrize(
    ("quantization", "folding", "images_per_s"),
    [
        ("A2W2", "2x2", 6_100),  # Table II
        ("A3W3", "8x8", 96_533),  # Tables II and III
        ("A3W3", "2x16", 48_569),  # Table III
        ("A3W3", "16x2", None),  # not readable in print
        ("A4W4", "16x16", None),  # did not fit the board
        ("A5W5", "8x8", None),  # not in the paper
    ],
)
def test_the_papers_throughput(quantization: str, folding: str, images_per_s: float | None) -> None:
    assert paper.throughput_images_per_s(_cell(quantization, folding)) == images_per_s


def test_the_paper_has_no_figure_for_a_cell_without_folding() -> None:
    assert paper.throughput_images_per_s(_cell("A3W3")) is None


def test_the_papers_accuracy_is_of_fashion_mnist() -> None:
    assert paper.accuracy_percent(_cell("A2W2")) == 88
    assert paper.accuracy_percent(Cell(dataset="mnist", quantization=Quantization.parse("A2W2"))) is None
