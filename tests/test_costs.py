"""Costs of a network, against counting every multiplication and reading every weight."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qnn import costs
from qnn.costs import MatrixProduct
from qnn.parameters import LayerParameters, NetworkParameters

WIDTHS = (6, 5, 4, 3)


def network(activation_bits: int, weight_bits: int, seed: int = 0, input_bits: int = 8) -> NetworkParameters:
    """Layers of random weights of the whole narrow range."""
    random, limit = np.random.default_rng(seed), 2 ** (weight_bits - 1) - 1
    layers = []
    for k, (inputs, outputs) in enumerate(itertools.pairwise(WIDTHS)):
        ones, last = np.ones(outputs, dtype=np.float32), k == len(WIDTHS) - 2
        layers.append(
            LayerParameters(
                codes=random.integers(-limit, limit + 1, size=(outputs, inputs)).astype(np.int8),
                weight_bits=weight_bits,
                weight_scales=ones,
                weight_scale_per_channel=True,
                gamma=ones,
                beta=ones,
                mean=ones,
                variance=ones,
                epsilon=1e-5,
                activation_scale=None if last else np.float32(1),
                activation_bits=None if last else activation_bits,
            )
        )
    return NetworkParameters(input_scale=np.float32(1), input_bits=input_bits, layers=tuple(layers))


@given(st.integers(2, 8), st.integers(2, 8))
def test_counts_are_those_of_going_through_every_weight(activation_bits: int, weight_bits: int) -> None:
    parameters = network(activation_bits, weight_bits)
    macs = bit_operations = bits = 0
    for k, layer in enumerate(parameters.layers):
        for _ in layer.codes.flat:
            macs += 1
            bit_operations += weight_bits * (8 if k == 0 else activation_bits)
            bits += weight_bits
    found = costs.count(costs.matrix_products(parameters))
    assert (found.macs, found.bit_operations, found.weight_bits) == (macs, bit_operations, bits)


@given(st.integers(2, 4), st.integers(2, 4), st.integers(0, 50))
def test_accumulators_have_the_fewest_bits_that_hold_every_sum(activation: int, weight: int, seed: int) -> None:
    parameters = network(activation, weight, seed, input_bits=2)
    input_bits = [2, activation, activation]
    for layer, bits, product in zip(parameters.layers, input_bits, costs.matrix_products(parameters), strict=True):
        codes = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        sums = [np.dot(row, inputs) for row in layer.codes for inputs in itertools.product(codes, repeat=layer.inputs)]

        def holds(width: int, sums: list[int] = sums) -> bool:
            return bool(-(2 ** (width - 1)) <= min(sums) and max(sums) < 2 ** (width - 1))

        assert holds(product.accumulator_bits)
        assert not holds(product.accumulator_bits - 1) or product.accumulator_bits == 1


def test_the_printed_costs_are_those_of_figure_1() -> None:
    assert [costs.addition_pj(bits) for bits in (8, 16, 32)] == pytest.approx([0.03, 0.05, 0.1])
    assert costs.multiplication_pj(8, 8) == pytest.approx(0.2)
    assert costs.multiplication_pj(32, 32) == pytest.approx(3.1, rel=0.05)  # the rule's own check


@given(st.integers(1, 40), st.integers(1, 40))
def test_fewer_bits_never_cost_more(bits: int, other: int) -> None:
    assert costs.addition_pj(bits) < costs.addition_pj(bits + 1)
    assert costs.multiplication_pj(bits, other) < costs.multiplication_pj(bits + 1, other)
    assert costs.multiplication_pj(bits, other) == costs.multiplication_pj(other, bits)


def test_energy_is_that_of_each_operation_added_up() -> None:
    products = [
        MatrixProduct(inputs=16, outputs=4, input_bits=8, weight_bits=4, accumulator_bits=16),
        MatrixProduct(inputs=4, outputs=2, input_bits=2, weight_bits=4, accumulator_bits=8),
    ]
    energy = costs.modelled_energy(products, image_bytes=16)
    assert energy.multiplications_nj == pytest.approx((64 * 0.2 / 2 + 8 * 0.2 / 8) / 1000)
    assert energy.additions_nj == pytest.approx((64 * 0.05 + 8 * 0.03) / 1000)
    assert energy.weights_nj == pytest.approx(72 * 4 / 32 * 5 / 1000)
    assert energy.image_nj == pytest.approx(4 * 640 / 1000)
    assert energy.total_nj == pytest.approx(energy.on_chip_nj + energy.image_nj)


def test_float32_has_the_figures_own_costs() -> None:
    product = MatrixProduct(inputs=10, outputs=10, input_bits=8, weight_bits=8, accumulator_bits=20)
    energy = costs.modelled_float_energy([product], image_bytes=32)
    assert energy.multiplications_nj == pytest.approx(0.37)
    assert energy.additions_nj == pytest.approx(0.09)
    assert energy.weights_nj == pytest.approx(100 * 5 / 1000)
    assert energy.image_nj == costs.modelled_energy([product], image_bytes=32).image_nj


def test_what_is_not_used_or_not_known_has_no_ratio() -> None:
    assert costs.per_resource(97_000, 64) == pytest.approx(1515.6, abs=0.1)
    assert costs.per_resource(97_000, 0) is None
    assert costs.drop_points(89.0, 88.5) == pytest.approx(0.5)
    assert costs.drop_points(None, 88.5) is None
