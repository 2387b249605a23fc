"""The throughput law, against the study's own figures."""

import pytest

from qnn import estimate
from qnn.cell import Folding, uniform_folding

TFC = [(1024, 64), (64, 64), (64, 64), (64, 10)]


@pytest.mark.parametrize(("folding", "cycles"), [("2x2", 16_384), ("8x8", 1_024), ("16x16", 256), ("2x8", 4_096)])
def test_the_first_layer_sets_the_initiation_interval(folding: str, cycles: int) -> None:
    layers = uniform_folding(Folding.parse(folding), TFC)
    assert estimate.initiation_interval_cycles(layers) == cycles == layers[0].cycles


def test_the_slowest_layer_counts_wherever_it_is() -> None:
    layers = uniform_folding(Folding(pe=4, simd=4), [(8, 8), (64, 8), (8, 8)])
    assert estimate.initiation_interval_cycles(layers) == 16 * 2


def test_images_a_second_at_100_mhz() -> None:
    assert estimate.throughput_images_per_s(1_024, 10.0) == pytest.approx(97_656.25)


def test_input_bandwidth_is_the_papers_dram_in() -> None:
    assert estimate.megabytes_per_s(96_533, 1024) == pytest.approx(98.85, abs=0.005)  # Table II, A3W3 8/8
