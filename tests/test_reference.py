"""Published and expected figures are read as they were printed."""

import pytest

from qnn import reference
from qnn.cell import DATASETS, PART, Cell, Folding, Policy, Quantization
from qnn.errors import CellError, DesignError


def _cell(quantization: str, folding: str | None = None) -> Cell:
    return Cell(
        quantization=Quantization.parse(quantization), folding=Folding.parse(folding) if folding is not None else None
    )


def test_every_shipped_checkpoint_has_a_floor() -> None:
    cells = reference.shipped_cells(DATASETS)
    assert len(cells) >= 2
    for cell in cells:
        assert 80 < reference.accuracy_floor_percent(cell) < 100


def test_a_cell_without_floor_is_named() -> None:
    with pytest.raises(CellError, match="no accuracy floor for tfc-fashion_mnist-float"):
        reference.accuracy_floor_percent(_cell("float"))


def test_the_z7020_is_known_and_an_unknown_part_is_named() -> None:
    assert reference.part(PART).alone.dsp == 220
    with pytest.raises(CellError, match="unknown part 'xc7z999'"):
        reference.part("xc7z999")


MISFIT = f"""
[[misfit]]
part = "{PART}"
cell = "A4W4"
folding = "PE16-SIMD16"
policy = "uniform"
evidence = "made up"
alone = ["dsp"]
beside_shell = ["dsp", "lut"]
"""


def test_a_cell_that_does_not_fit_is_data() -> None:
    (key, misfit), *others = reference.parse_misfits(MISFIT).items()
    assert (key, others) == ((PART, "A4W4", "PE16-SIMD16", "uniform"), [])
    assert misfit == reference.Misfit(alone=frozenset({"dsp"}), beside_shell=frozenset({"dsp", "lut"}))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("evidence", "because", "misfit 1 .*: because, evidence"),
        ('"dsp", "lut"', '"dps"', "no resource dps"),
        ('"dsp"', "", "no resource"),
        ("A4W4", "A9W4", "unknown cell 'A9W4'"),
        ("PE16-SIMD16", "16", "unknown folding '16'"),
        ("uniform", "square", "unknown policy 'square'"),
        (PART, "xc7z999", "unknown part 'xc7z999'"),
        ("[[misfit]]", "[misfit", "not TOML"),
        ("[[misfit]]", MISFIT + "[[misfit]]", "misfit 2 .* is there twice"),
    ],
)
def test_a_wrong_entry_of_a_misfit_is_named(old: str, new: str, message: str) -> None:
    text = MISFIT.replace(old, new, 1) if new else MISFIT.replace('["dsp"]', "[]").replace('["dsp", "lut"]', "[]")
    with pytest.raises(DesignError, match=message):
        reference.parse_misfits(text)


def test_a_cell_without_entry_is_expected_to_fit() -> None:
    cell = Cell(quantization=Quantization.parse("A2W2"), folding=Folding(pe=2, simd=2), policy=Policy.BALANCED)
    assert reference.expected_misfit(cell, PART) == reference.Misfit()


def test_the_designs_that_take_more_dsp_slices_than_there_are_are_expected_not_to_fit() -> None:
    for name in ("A3W3", "A4W4"):
        expected = reference.expected_misfit(_cell(name, "16x16"), PART)
        assert expected == reference.Misfit(alone=frozenset({"dsp"}), beside_shell=frozenset({"dsp"}))
