"""The benchmark of the study's conclusion itself: what it makes of a matrix, and that it can fail."""

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import test_tradeoff as benchmark
from qnn import paper
from qnn.cell import PART, Cell, Policy, Quantization
from qnn.datasets import Images
from qnn.resources import Resources

CELLS = tuple(Cell(quantization=quantization, folding=folding) for quantization, folding in paper.study_designs())
INTERVALS = {str(cell): 65_536 // (cell.folding.pe * cell.folding.simd) for cell in CELLS if cell.folding}
IMAGES = Images(pixels=np.zeros((4, 1), dtype=np.uint8), labels=np.array([0, 1, 2, 3], dtype=np.uint8))
KEY = ("fashion-mnist", str(Policy.UNIFORM))
ERRORS = {
    Quantization.parse(name): error
    for name, error in {
        "A2W2": 13.0,
        "A3W3": 12.0,
        "A4W4": 11.95,
        "A5W5": 11.95,
        "A6W6": 11.95,
        "A7W7": 11.95,
        "A8W8": 11.95,
    }.items()
}


def trainings() -> pd.DataFrame:
    """Three seeds that differ in all cells alike, and a hundredth of a point in each."""
    lines = [
        (100, seed, str(cell), 8, 100, (error + 0.3 * seed + 0.01 * (-1) ** (seed * k)) / 100)
        for seed in range(3)
        for k, (cell, error) in enumerate(ERRORS.items())
    ]
    return pd.DataFrame(lines, columns=["epochs", "seed", "cell", "input_bits", "epoch", "test_error"])


class Model:
    """A network that says class 0 of every image."""

    network = SimpleNamespace(evaluate=lambda pixels: np.zeros((len(pixels), 10)))

    def logits(self, accumulators: Any) -> Any:
        return accumulators


class Conclusion:
    """The benchmark, run on designs that take so many DSPs by their bit widths; None: not synthesised."""

    def __init__(
        self,
        dsp: Mapping[str, int | None],
        part: str = PART,
        dataset: str = paper.DATASET,
    ) -> None:
        self.cells = tuple(replace(cell, dataset=dataset) for cell in CELLS)
        self.recorded: dict[str, Any] = {}
        self.marks: list[Any] = []
        self.syntheses: Any = {}
        for cell in self.cells:
            taken = dsp[str(cell.quantization)]
            assert cell.folding is not None
            if taken is not None:
                taken = taken * cell.folding.pe * cell.folding.simd // 64
            self.syntheses[cell] = None if taken is None else (SimpleNamespace(resources=Resources(dsp=taken)),)
        self.pipeline: Any = SimpleNamespace(part=part, hardware_model=lambda cell: Model(), images=lambda cell: IMAGES)

    def draw(self, measured: str = "") -> None:
        runs: Any = {
            cell: SimpleNamespace(interval_cycles=INTERVALS[str(replace(cell, dataset=paper.DATASET))])
            for cell in self.cells
        }
        request: Any = SimpleNamespace(applymarker=self.marks.append)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(benchmark.MEASURED, KEY, measured)
            benchmark.test_the_studys_choice_is_the_best_compromise(
                self.cells, runs, self.syntheses, self.pipeline, lambda dataset: trainings(), self._record, request
            )

    def _record(self, *_: object, **metrics: object) -> None:
        self.recorded.update(metrics)


RISING = {f"A{n}W{n}": 10 * n for n in range(2, 9)}


def test_the_conclusion_is_borne_out_where_more_bits_cost_more() -> None:
    conclusion = Conclusion(RISING)
    conclusion.draw()
    assert conclusion.recorded["verdict"] == "borne out"
    assert not conclusion.marks
    front = conclusion.recorded["pareto_front"].split(", ")
    assert "tfc-fashion_mnist-A2W2-PE2-SIMD2" in front  # this network is wrong alike with any bits: the cheapest wins
    assert "tfc-fashion_mnist-A3W3-PE8-SIMD8" not in front


def test_the_conclusion_fails_where_more_bits_cost_less() -> None:
    with pytest.raises(AssertionError, match="A4W4 is accurate and costs less"):
        Conclusion({**RISING, "A4W4": 29}).draw()


def test_what_was_measured_otherwise_is_a_strict_xfail() -> None:
    conclusion = Conclusion({**RISING, "A4W4": 29})
    with pytest.raises(AssertionError) as failure:
        conclusion.draw()
    measured = str(failure.value).splitlines()[0]
    with pytest.raises(AssertionError, match="is refuted"):
        conclusion.draw(measured)
    assert [mark.kwargs for mark in conclusion.marks] == [
        {"raises": AssertionError, "strict": True, "reason": measured}
    ]


def test_a_measurement_that_is_no_longer_true_fails() -> None:
    with pytest.raises(pytest.fail.Exception, match="but measured is"):
        Conclusion(RISING).draw("A3W3 as the best compromise is refuted; by something else")


def test_a_synthesis_that_ran_out_of_time_is_named_and_leaves_it_open() -> None:
    conclusion = Conclusion({**RISING, "A8W8": None})
    with pytest.raises(AssertionError, match="undecided whether A8W8 is accurate and costs less"):
        conclusion.draw()
    assert conclusion.recorded["synthesis_timed_out"] == "tfc-fashion_mnist-A8W8-PE8-SIMD8"


@pytest.mark.parametrize(("part", "dataset"), [("xc7z010clg400-1", "fashion-mnist"), (PART, "mnist")])
def test_on_another_part_or_data_set_the_row_alone_is_made(part: str, dataset: str) -> None:
    conclusion = Conclusion(RISING, part=part, dataset=dataset)
    with pytest.raises(pytest.skip.Exception, match=f"what {dataset} on {part} gives is in the row"):
        conclusion.draw()
    assert conclusion.recorded["verdict"]
