"""The throughput law, against the study's own figures."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qnn import estimate
from qnn.cell import Folding, LayerShape, uniform_folding
from qnn.estimate import BOARD_BOUNDS

TFC = [LayerShape(1024, 64), LayerShape(64, 64), LayerShape(64, 64), LayerShape(64, 10)]


@pytest.mark.parametrize(("folding", "cycles"), [("2x2", 16_384), ("8x8", 1_024), ("16x16", 256), ("2x8", 4_096)])
def test_the_first_layer_sets_the_initiation_interval(folding: str, cycles: int) -> None:
    layers = uniform_folding(Folding.parse(folding), TFC)
    assert estimate.initiation_interval_cycles(layers) == cycles == layers[0].cycles


def test_the_slowest_layer_counts_wherever_it_is() -> None:
    layers = uniform_folding(Folding(pe=4, simd=4), [LayerShape(8, 8), LayerShape(64, 8), LayerShape(8, 8)])
    assert estimate.initiation_interval_cycles(layers) == 16 * 2


def test_images_a_second_at_100_mhz() -> None:
    assert estimate.throughput_images_per_s(1_024, 10.0) == pytest.approx(97_656.25)


def test_input_bandwidth_is_the_papers_dram_in() -> None:
    assert estimate.megabytes_per_s(96_533, 1024) == pytest.approx(98.85, abs=0.005)  # Table II, A3W3 8/8


def test_a_batch_lasts_until_its_last_image_is_done() -> None:
    assert estimate.batch_images_per_s([3_000, 4_000, 5_000], 10.0) == pytest.approx(3 / 50e-6)


@pytest.mark.parametrize(("folding", "bound"), [("2x2", 0.003), ("8x8", 0.015), ("16x16", 0.05)])
def test_the_boards_stated_bounds(folding: str, bound: float) -> None:
    interval = estimate.initiation_interval_cycles(uniform_folding(Folding.parse(folding), TFC))
    assert estimate.board_bound(interval) == pytest.approx(bound)


@pytest.mark.parametrize(
    ("folding", "bound"),
    [("2x8", 0.0067), ("2x16", 0.0100), ("8x16", 0.0274)],  # 1.5 % * 5^-1/2, 1.5 % * 5^-1/4, sqrt(5 % * 1.5 %)
)
def test_the_boards_other_bounds_lie_on_the_line_between(folding: str, bound: float) -> None:
    interval = estimate.initiation_interval_cycles(uniform_folding(Folding.parse(folding), TFC))
    assert estimate.board_bound(interval) == pytest.approx(bound, abs=5e-5)


@given(st.integers(1, 100_000), st.integers(1, 100_000))
def test_a_longer_interval_never_has_a_wider_bound(one: int, other: int) -> None:
    short, long = sorted((one, other))
    assert estimate.board_bound(long) <= estimate.board_bound(short) * (1 + 1e-12)
    assert min(BOARD_BOUNDS.values()) * 0.999 < estimate.board_bound(one) < max(BOARD_BOUNDS.values()) * 1.001


@given(
    st.floats(0, 1_000),
    st.lists(st.integers(64, 100_000), min_size=1, max_size=8),
    st.floats(1, 100),
)
def test_an_overhead_that_is_constant_is_found(overhead: float, intervals: list[int], clock_ns: float) -> None:
    measured = [(interval, 1e9 / ((interval + overhead) * clock_ns)) for interval in intervals]
    assert estimate.fit_overhead_cycles(measured, clock_ns) == pytest.approx(overhead, abs=1e-6)


@given(st.lists(st.tuples(st.integers(64, 4_096), st.floats(0, 40)), min_size=1, max_size=8))
def test_no_other_constant_has_a_smaller_squared_relative_error(frames: list[tuple[int, float]]) -> None:
    measured = [(interval, 1e8 / (interval + extra)) for interval, extra in frames]

    def squared_error(overhead: float) -> float:
        return sum(((interval + overhead) / (interval + extra) - 1) ** 2 for interval, extra in frames)

    found = estimate.fit_overhead_cycles(measured, 10.0)
    assert all(squared_error(found) <= squared_error(found + step) + 1e-12 for step in (-5, -0.1, 0.1, 5))


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=6))
def test_the_spread_is_the_largest_difference_of_two(values: list[float]) -> None:
    assert estimate.spread(values) == pytest.approx(
        max(a / b - 1 for a, b in itertools.product(values, repeat=2)), abs=1e-12
    )
