"""Published and expected figures are read as they were printed."""

import pytest

from qnn import reference
from qnn.cell import DATASETS, PART, Cell, Folding, Quantization
from qnn.errors import CellError


def _cell(quantization: str, folding: str | None = None) -> Cell:
    return Cell(
        quantization=Quantization.parse(quantization), folding=Folding.parse(folding) if folding is not None else None
    )


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
    assert reference.paper_throughput_images_per_s(_cell(quantization, folding)) == images_per_s


def test_the_paper_has_no_figure_for_a_cell_without_folding() -> None:
    assert reference.paper_throughput_images_per_s(_cell("A3W3")) is None


def test_every_shipped_checkpoint_has_a_floor() -> None:
    cells = reference.shipped_cells(DATASETS)
    assert len(cells) >= 2
    for cell in cells:
        assert 80 < reference.accuracy_floor_percent(cell) < 100


def test_a_cell_without_floor_is_named() -> None:
    with pytest.raises(CellError, match="no accuracy floor for tfc-fashion_mnist-float"):
        reference.accuracy_floor_percent(_cell("float"))


def test_the_papers_accuracy_is_of_fashion_mnist() -> None:
    assert reference.paper_accuracy_percent(_cell("A2W2")) == 88
    assert reference.paper_accuracy_percent(Cell(dataset="mnist", quantization=Quantization.parse("A2W2"))) is None


def test_the_z7020_is_known_and_an_unknown_part_is_named() -> None:
    assert reference.part(PART).dsp == 220
    with pytest.raises(CellError, match="unknown part 'xc7z999'"):
        reference.part("xc7z999")
