"""The study's own figures and designs: throughput entry by entry, with what it is to be compared with.

Read from ``fixtures/reference/paper.toml``; the source is named there.
"""

import itertools
import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from qnn import estimate
from qnn.cell import Cell, Folding, LayerShape, Policy, Quantization, uniform_folding
from qnn.reference import FOLDER

__all__ = [
    "DATASET",
    "BoardThroughput",
    "accuracy_percent",
    "best_compromise",
    "bit_width_spread",
    "board_throughputs",
    "clock_period_ns",
    "dram_in_megabytes_per_s",
    "fitted_overhead_cycles",
    "mirror_spread",
    "network_layers",
    "study_designs",
    "throughput_images_per_s",
]

DATASET = "fashion-mnist"
"""What all of the study's figures were measured with."""


@cache
def _paper() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((FOLDER / "paper.toml").read_text())["paper"]
    return table


def network_layers() -> list[LayerShape]:
    """The fully connected layers of the study's network."""
    widths = _paper()["network"]["layers"]
    return [LayerShape(inputs, outputs) for inputs, outputs in itertools.pairwise(widths)]


def best_compromise() -> Quantization:
    """The representation that the study concludes with."""
    return Quantization.parse(_paper()["claims"]["best_compromise"])


def clock_period_ns() -> float:
    """Of the study's board."""
    return 1e3 / float(_paper()["board"]["clock_mhz"])


@dataclass(frozen=True, kw_only=True)
class BoardThroughput:
    """One entry of Table II or III: what the board reached with a batch of 10,000 images."""

    table: int
    quantization: Quantization
    folding: Folding
    images_per_s: float
    dram_in_megabytes_per_s: float | None
    """Table II alone has it; printed to 0.01."""

    @property
    def ideal_interval_cycles(self) -> int:
        """What the folding gives, the same for all layers as in the study."""
        return estimate.initiation_interval_cycles(uniform_folding(self.folding, network_layers()))


@cache
def board_throughputs() -> tuple[BoardThroughput, ...]:
    """Every readable entry of Tables II and III; those at 8/8 and 16/16 of A3W3 stand in both."""
    found = []
    for name, rows in _paper()["table2"].items():
        for pe, simd, images_per_s, megabytes_per_s in rows:
            found.append(
                BoardThroughput(
                    table=2,
                    quantization=Quantization.parse(name),
                    folding=Folding(pe=pe, simd=simd),
                    images_per_s=float(images_per_s),
                    dram_in_megabytes_per_s=float(megabytes_per_s),
                )
            )
    for pe, columns in _paper()["table3"].items():
        for simd, images_per_s in columns.items():
            found.append(
                BoardThroughput(
                    table=3,
                    quantization=Quantization.parse("A3W3"),
                    folding=Folding.parse(f"{pe}-{simd}"),
                    images_per_s=float(images_per_s),
                    dram_in_megabytes_per_s=None,
                )
            )
    return tuple(found)


def _entry(cell: Cell) -> BoardThroughput | None:
    """The cell's entry, that of Table II where both tables have one; the study folds all layers alike.

    It measured one data set; throughput does not depend on what is in the images.
    """
    if cell.policy is not Policy.UNIFORM:
        return None
    own = (cell.quantization, cell.folding)
    return next((entry for entry in board_throughputs() if (entry.quantization, entry.folding) == own), None)


def throughput_images_per_s(cell: Cell) -> float | None:
    """What the board reached for the cell (Tables II and III), or None where the study has no such cell."""
    entry = _entry(cell)
    return None if entry is None else entry.images_per_s


def study_designs() -> list[tuple[Quantization, Folding]]:
    """Bit widths and foldings of Tables II and III and of Figure 7, those among them that did not fit too."""
    figure7 = [(name, 8, 8) for name in _paper()["deployed"]["diagonal"]]
    foldings = (2, 8, 16)
    table2 = [(name, n, n) for name in _paper()["table2"] for n in foldings]
    table3 = [("A3W3", pe, simd) for pe in foldings for simd in foldings]
    names = dict.fromkeys([*table2, *table3, *figure7])
    return [(Quantization.parse(name), Folding(pe=pe, simd=simd)) for name, pe, simd in sorted(names)]


def accuracy_percent(cell: Cell) -> float | None:
    """What the study's best networks reached, in per cent of the test set; None for MNIST, of which it says nothing."""
    if cell.dataset != DATASET:
        return None
    return 100 * float(_paper()["claims"]["accuracy_reached"])


def fitted_overhead_cycles() -> float:
    """Cycles a frame that the board took beyond the ideal interval: fitted on Table II alone, cause unknown.

    One batch size does not tell cycles of every frame from the start-up of a whole run ([paper.overhead]).
    """
    table2 = [entry for entry in board_throughputs() if entry.table == 2]
    return estimate.fit_overhead_cycles(
        [(entry.ideal_interval_cycles, entry.images_per_s) for entry in table2], clock_period_ns()
    )


def dram_in_megabytes_per_s(cell: Cell) -> float | None:
    """What the board took in for the cell (Table II), or None where the table has no such cell."""
    entry = _entry(cell)
    return None if entry is None else entry.dram_in_megabytes_per_s


def bit_width_spread() -> float:
    """The most by which bit widths move the board's throughput at one folding, as a share (Table II)."""
    figures: dict[Folding, list[float]] = {}
    for entry in board_throughputs():
        if entry.table == 2:
            figures.setdefault(entry.folding, []).append(entry.images_per_s)
    return max(map(estimate.spread, figures.values()))


def mirror_spread() -> float:
    """The most by which swapping PE and SIMD moves the board's throughput, as a share (Table III)."""
    figures = {(e.folding.pe, e.folding.simd): e.images_per_s for e in board_throughputs() if e.table == 3}
    return max(estimate.spread((figures[pe, simd], figures[simd, pe])) for pe, simd in figures if (simd, pe) in figures)
