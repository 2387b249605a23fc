"""Which netlists are simulated: those of the selected hardware cells that the suite can afford, and no skipped test."""

import subprocess
import sys
from pathlib import Path

import pytest

from qnn.ahead import Step, Task, _do
from qnn.cell import Cell, Folding, Quantization
from qnn.pipeline import Pipeline

ROOT = Path(__file__).parents[1]


def collected(*options: str, tests: str = "benchmarks/test_netlist.py") -> list[str]:
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", tests, "--collect-only"]
    output = subprocess.run([*argv, "-q", *options], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return [line.partition("fashion_mnist-")[2].rstrip("]") for line in output.splitlines() if "::" in line]


@pytest.mark.parametrize(
    ("options", "cells"),
    [
        ((), ["A3W3-PE2-SIMD2", "A3W3-PE8-SIMD8"]),
        (("-k", "A2W2"), ["A2W2-PE2-SIMD2", "A2W2-PE8-SIMD8"]),
        (("--cells", "A4W4,A5W2", "--foldings", "8x8,16x16"), ["A4W4-PE8-SIMD8"]),
        (("--matrix", "paper", "-k", "A4W4"), ["A4W4-PE2-SIMD2", "A4W4-PE8-SIMD8"]),
        (("--cells", "A5W2"), []),
    ],
)
def test_netlists_of_the_selected_cells_are_simulated(options: tuple[str, ...], cells: list[str]) -> None:
    assert sorted(collected(*options)) == cells


def test_the_netlist_of_each_node_is_simulated_alone_at_the_smallest_folding() -> None:
    tests = "benchmarks/test_nodes.py::test_every_netlist_alone_equals_hardware_integers_on_directed_vectors"
    assert collected("--matrix", "paper", "-k", "A4W4", tests=tests) == ["A4W4-PE2-SIMD2"]


def test_a_netlist_is_simulated_and_timed_ahead_after_its_nodes_are_synthesised(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell(quantization=Quantization.parse("A3W3"), folding=Folding(pe=8, simd=8))
    monkeypatch.setattr(Pipeline, "nodes", lambda self, cell: ("a", "b"))
    for last in (Step.NETLIST_RUN, Step.NETLIST_NODE_CHECKS, Step.NETLIST_TIMING):
        following = _do(pipeline, Task(step=Step.SYNTHESIS, cell=cell, then=(last,)))
        assert [(task.step, task.node) for task in following] == [
            (Step.NODE_SYNTHESIS, "a"),
            (Step.NODE_SYNTHESIS, "b"),
            (last, None),
        ]
