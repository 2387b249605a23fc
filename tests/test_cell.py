"""Cells, bit widths and foldings: their ids, what is refused, and how foldings are clamped."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qnn.cell import (
    Cell,
    Folding,
    LayerFolding,
    LayerShape,
    Policy,
    Quantization,
    Thresholds,
    balanced_folding,
    dataset_name,
    fold_layers,
    uniform_folding,
)
from qnn.errors import CellError

TFC = [LayerShape(1024, 64), LayerShape(64, 64), LayerShape(64, 64), LayerShape(64, 10)]


@given(st.integers(2, 8), st.integers(2, 8))
def test_a_quantization_is_read_back_from_its_id(activation_bits: int, weight_bits: int) -> None:
    quantization = Quantization(activation_bits=activation_bits, weight_bits=weight_bits)
    assert str(quantization) == f"A{activation_bits}W{weight_bits}"
    assert Quantization.parse(str(quantization).lower()) == quantization


def test_the_float_network_has_no_bit_widths() -> None:
    assert Quantization.parse("float") == Quantization(activation_bits=None, weight_bits=None)
    assert Quantization.parse("float").is_float


@pytest.mark.parametrize("text", ["A9W3", "A3W9", "A1W3", "W3A3", "A3", "", "A03W3x"])
def test_an_unknown_cell_is_refused_by_name(text: str) -> None:
    with pytest.raises(CellError, match="unknown cell"):
        Quantization.parse(text)


def test_a_bit_width_out_of_range_names_the_field_and_the_range() -> None:
    with pytest.raises(CellError, match=r"weight_bits is 9.*from 2 to 8"):
        Quantization(activation_bits=3, weight_bits=9)
    with pytest.raises(CellError, match="both None"):
        Quantization(activation_bits=3, weight_bits=None)


@pytest.mark.parametrize("text", ["PE8-SIMD16", "8x16", "pe8-simd16"])
def test_a_folding_is_read_in_both_spellings(text: str) -> None:
    assert Folding.parse(text) == Folding(pe=8, simd=16)
    assert str(Folding.parse(text)) == "PE8-SIMD16"


@pytest.mark.parametrize(
    ("text", "message"), [("8", "unknown folding"), ("0x8", "pe is 0"), ("8x2048", "simd is 2048")]
)
def test_a_folding_that_is_no_folding_is_refused(text: str, message: str) -> None:
    with pytest.raises(CellError, match=message):
        Folding.parse(text)


def test_a_folding_that_does_not_divide_is_clamped_and_both_are_kept() -> None:
    last = uniform_folding(Folding(pe=8, simd=8), TFC)[-1]
    assert (str(last.asked), str(last.applied)) == ("PE8-SIMD8", "PE5-SIMD8")
    assert last.clamped
    assert not uniform_folding(Folding(pe=8, simd=8), TFC)[0].clamped


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 1024), st.integers(1, 1024))
def test_the_applied_folding_is_the_largest_legal_one_not_above_the_asked(
    inputs: int, outputs: int, pe: int, simd: int
) -> None:
    (layer,) = uniform_folding(Folding(pe=pe, simd=simd), [LayerShape(inputs, outputs)])
    legal_pe = [n for n in range(1, pe + 1) if outputs % n == 0]
    legal_simd = [n for n in range(1, simd + 1) if inputs % n == 0]
    assert (layer.applied.pe, layer.applied.simd) == (legal_pe[-1], legal_simd[-1])


def multipliers(layers: list[LayerFolding]) -> int:
    return sum(layer.applied.pe * layer.applied.simd for layer in layers)


@given(st.integers(1, 64), st.integers(1, 64))
def test_balanced_layers_keep_up_with_the_first_one_on_the_fewest_multipliers(pe: int, simd: int) -> None:
    asked = Folding(pe=pe, simd=simd)
    uniform, balanced = uniform_folding(asked, TFC), balanced_folding(asked, TFC)
    assert balanced[0] == uniform[0]
    for layer in balanced[1:]:
        assert layer.cycles <= balanced[0].cycles
        used = layer.applied.pe * layer.applied.simd
        slower = [
            LayerFolding(inputs=layer.inputs, outputs=layer.outputs, asked=asked, applied=Folding(pe=p, simd=s))
            for p in range(1, used)
            for s in range(1, used)
            if p * s < used and layer.outputs % p == 0 and layer.inputs % s == 0
        ]
        assert all(other.cycles > balanced[0].cycles for other in slower)


def test_balancing_takes_a_fraction_of_the_multipliers_at_the_same_interval() -> None:
    uniform, balanced = (fold_layers(Folding(pe=8, simd=8), policy, TFC) for policy in Policy)
    assert [str(layer.applied) for layer in balanced] == ["PE8-SIMD8", "PE4-SIMD1", "PE4-SIMD1", "PE1-SIMD1"]
    assert max(layer.cycles for layer in uniform) == max(layer.cycles for layer in balanced) == 1024
    assert (multipliers(uniform), multipliers(balanced)) == (3 * 64 + 40, 64 + 4 + 4 + 1)


def test_an_unknown_policy_is_refused_by_name() -> None:
    assert Policy.parse("Balanced") is Policy.BALANCED
    with pytest.raises(CellError, match="unknown policy 'auto': there are uniform, balanced"):
        Policy.parse("auto")


def test_unknown_thresholds_are_refused_by_name() -> None:
    assert Thresholds.parse("Exact") is Thresholds.EXACT
    with pytest.raises(CellError, match="unknown thresholds 'float': there are finn, exact"):
        Thresholds.parse("float")


def test_the_id_of_a_cell_selects_with_k() -> None:
    cell = Cell(quantization=Quantization.parse("A3W3"), folding=Folding(pe=8, simd=8))
    assert str(cell) == "tfc-fashion_mnist-A3W3-PE8-SIMD8"
    assert str(cell.trained) == "tfc-fashion_mnist-A3W3"
    balanced = replace(cell, policy=Policy.BALANCED)
    assert str(balanced) == "tfc-fashion_mnist-A3W3-PE8-SIMD8-balanced"
    assert str(replace(cell, thresholds=Thresholds.EXACT)) == "tfc-fashion_mnist-A3W3-PE8-SIMD8-exact"
    assert str(replace(balanced, thresholds=Thresholds.EXACT)) == "tfc-fashion_mnist-A3W3-PE8-SIMD8-balanced-exact"


@pytest.mark.parametrize("text", ["fashion-mnist", "fashion_mnist", "Fashion-MNIST"])
def test_a_data_set_may_be_written_either_way(text: str) -> None:
    assert dataset_name(text) == "fashion-mnist"


def test_an_unknown_data_set_or_network_is_refused() -> None:
    with pytest.raises(CellError, match=r"unknown data set 'cifar10'.*fashion-mnist, mnist"):
        dataset_name("cifar10")
    with pytest.raises(CellError, match="unknown network 'cnv'"):
        Cell(network="cnv", quantization=Quantization.parse("A3W3"))


def test_simd_divides_the_channels_of_a_convolution_and_every_place_takes_its_cycles() -> None:
    window = LayerShape(inputs=9 * 6, outputs=8, vectors=16, channels=6)
    (layer,) = uniform_folding(Folding(pe=4, simd=9), [window])
    assert layer.applied == Folding(pe=4, simd=6)  # 9 divides the inputs, but not the channels
    assert layer.cycles == 16 * (54 // 6) * (8 // 4)


def test_a_convolution_that_cannot_keep_up_is_as_fast_as_it_can_be() -> None:
    window = LayerShape(inputs=9 * 6, outputs=8, vectors=100, channels=6)
    first, second = balanced_folding(Folding(pe=8, simd=8), [LayerShape(8, 8), window])
    assert first.cycles == 1
    assert second.applied == Folding(pe=8, simd=6)
    assert second.cycles == 100 * 9
