"""The throughput benchmarks' own rules: which cells are compared, and that a difference fails."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import test_throughput as benchmark
from benchmarks import test_tradeoff as tradeoff
from qnn import paper
from qnn.cell import Cell, Folding, Policy, Quantization
from qnn.pipeline import DeviceRun, Pipeline
from qnn.store import Store

STUDY = [Cell(quantization=quantization, folding=folding) for quantization, folding in paper.study_designs()]


def cells(*names: str) -> list[Cell]:
    found = []
    for name in names:
        quantization, _, folding = name.partition(" ")
        found.append(Cell(quantization=Quantization.parse(quantization), folding=Folding.parse(folding)))
    return found


def run(interval: int, latency: int, images: int = 1_000) -> DeviceRun:
    return DeviceRun(
        accumulators=np.zeros((images, 10), dtype=np.int64),
        completions_cycles=latency + interval * np.arange(images),
        image_bytes=1024,
        host_s=1.0,
        build_s=1.0,
        edited_files=(),
    )


def test_cells_that_differ_in_bit_widths_alone_are_compared() -> None:
    sizes = {name: len(group) for name, group in benchmark.equally_folded(STUDY).items()}
    assert sizes == {
        "tfc-fashion_mnist-PE2-SIMD2": 3,
        "tfc-fashion_mnist-PE8-SIMD8": 7,
        "tfc-fashion_mnist-PE16-SIMD16": 3,
    }


def test_cells_whose_pe_and_simd_are_swapped_are_compared() -> None:
    groups = benchmark.mirrored(STUDY)
    assert {frozenset(str(cell.folding) for cell in group) for group in groups.values()} == {
        frozenset({"PE2-SIMD8", "PE8-SIMD2"}),
        frozenset({"PE2-SIMD16", "PE16-SIMD2"}),
        frozenset({"PE8-SIMD16", "PE16-SIMD8"}),
    }
    assert all({str(cell.quantization) for cell in group} == {"A3W3"} for group in groups.values())


def test_other_data_sets_policies_and_bit_widths_are_no_comparison() -> None:
    one, other = cells("A3W3 8x8", "A4W4 8x8")
    assert benchmark.equally_folded([one, replace(other, dataset="mnist")]) == {}
    assert benchmark.equally_folded([one, replace(other, policy=Policy.BALANCED)]) == {}
    assert benchmark.mirrored(cells("A3W3 2x8", "A4W4 8x2")) == {}
    assert benchmark.mirrored(cells("A3W3 2x8", "A3W3 8x8")) == {}


def test_the_conclusion_is_drawn_from_the_whole_matrix_alone() -> None:
    balanced = [replace(cell, policy=Policy.BALANCED) for cell in STUDY]
    assert tradeoff.whole_matrix(STUDY) == {"fashion-mnist-uniform": tuple(STUDY)}
    assert tradeoff.whole_matrix([*STUDY, *balanced[1:]]) == {"fashion-mnist-uniform": tuple(STUDY)}
    assert tradeoff.whole_matrix(STUDY[:-1]) == {}


@pytest.mark.parametrize(
    ("interval", "latency", "fails"),
    [(1_024, 5_000, False), (1_024, 5_100, False), (1_025, 5_000, True), (1_024, 105_000, True)],
    ids=["the same", "a longer latency", "another interval", "a latency that shows in the batch"],
)
def test_a_difference_beyond_the_papers_spread_fails(interval: int, latency: int, fails: bool, tmp_path: Path) -> None:
    one, other = cells("A2W2 8x8", "A3W3 8x8")
    pipeline = Pipeline(store=Store(tmp_path))
    recorded: dict[str, object] = {}

    def compare() -> None:
        runs = {one: run(1_024, 5_000), other: run(interval, latency)}
        benchmark._require_equal_throughput(
            (one, other), runs, pipeline, paper.bit_width_spread(), lambda *_, **metrics: recorded.update(metrics)
        )

    if fails:
        with pytest.raises(AssertionError):
            compare()
    else:
        compare()
    assert recorded["initiation_intervals_cycles"] == f"1024, {interval}"
