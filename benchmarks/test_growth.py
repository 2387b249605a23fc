"""The study's claims on growth with the bit width (Figure 7), judged by the seven cells A2W2 to A8W8 at PE8-SIMD8.

Like the claims on accuracy: one that the figures do not bear out is a strict xfail whose reason says what was measured.
They are collected only where all seven cells are among the hardware cells, as in ``--matrix paper``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pytest

from fixtures.measured import BORNE_OUT, expected, require_as_measured
from fixtures.recording import Record
from qnn import paper
from qnn.cell import Cell, Folding, Policy, Quantization
from qnn.growth import BITS, Growth, jumps_above, linear_then_faster
from qnn.pipeline import Pipeline
from qnn.resources import total
from qnn.results import Evidence

MEASURED: dict[str, str] = {
    "lut": (
        "6,769, 8,693, 10,341, 12,969, 18,572, 20,897, 22,997 at 2 to 8 bits; off a straight line through 2 "
        "to 6 by at most 13.0 % (linear: 5 % or less), above it at 7 and 8 by 5.1 % and 1.6 % (faster: more "
        "than that)"
    ),
    "ff": BORNE_OUT,
    "hls_lut": (
        "8,894, 13,376, 24,605, 43,753, 79,225, 158,753, 312,691 at 2 to 8 bits; "
        "off a straight line through 2 to 6 by at most 102.7 % (linear: 5 % or less), "
        "above it at 7 and 8 by 46.3 % and 67.3 % (faster: more than that)"
    ),
    "bram18": (
        "10, 13, 17, 20, 24, 51, 103 at 2 to 8 bits; the step from 7 to 8 is 52, the largest before it 27 (a "
        "jump: 2 times that or more)"
    ),
    "threshold_lut": (
        "986, 1,693, 2,447, 4,679, 9,047, 10,374, 11,860 at 2 to 8 bits; the step from 7 to 8 is 1,486, the "
        "largest before it 4,368 (a jump: 2 times that or more)"
    ),
}
"""BORNE_OUT, or what was measured otherwise, as the failing test prints it."""


def _whole(pipeline: Pipeline, cell: Cell, name: str) -> float:
    resources = total(node.resources for node in pipeline.synthesis(cell))
    return {"lut": resources.lut, "ff": resources.ff, "bram18": 2 * resources.bram36_equivalent}[name]


def _lut(pipeline: Pipeline, cell: Cell) -> float:
    return _whole(pipeline, cell, "lut")


def _ff(pipeline: Pipeline, cell: Cell) -> float:
    return _whole(pipeline, cell, "ff")


def _bram18(pipeline: Pipeline, cell: Cell) -> float:
    return _whole(pipeline, cell, "bram18")


def _threshold_lut(pipeline: Pipeline, cell: Cell) -> float:
    """LUTs of the hidden activations, whose thresholds FINN's RTL may also keep there; the input has 8 bits always."""
    nodes = [node for node in pipeline.synthesis(cell) if node.name.startswith("Thresholding")]
    return total(node.resources for node in nodes[1:]).lut


def _hls_lut(pipeline: Pipeline, cell: Cell) -> float:
    """FINN's estimate of the matrix units with fused activations that the study's FINN built."""
    layers = pipeline.dataflow(cell).hls_layers
    return sum(layer.estimate["LUT"] for layer in layers if layer.op_type.startswith("MVAU"))


class Claim(NamedTuple):
    """What the study says, of which figure, by which statistic."""

    sentence: str
    figure: Callable[[Pipeline, Cell], float]
    statistic: Callable[[Mapping[int, float]], Growth]
    evidence: Evidence = Evidence.SYNTHESIS


_LOGIC, _BRAM = (
    "LUT and FF grow linearly with the bit width up to 6 bits, faster above",
    "RAMB18 use jumps above 7 bits: k-bit activations need 2^k - 1 thresholds",
)
CLAIMS = {
    "lut": Claim(_LOGIC, _lut, linear_then_faster),
    "ff": Claim(_LOGIC, _ff, linear_then_faster),
    "hls_lut": Claim(_LOGIC, _hls_lut, linear_then_faster, Evidence.ESTIMATE),
    "bram18": Claim(_BRAM, _bram18, jumps_above),
    "threshold_lut": Claim(_BRAM, _threshold_lut, jumps_above),
}


def diagonal(cells: Sequence[Cell]) -> dict[str, tuple[Cell, ...]]:
    """The study's seven cells, where all of them are among `cells`."""
    wanted = [
        Cell(
            dataset=paper.DATASET,
            quantization=Quantization(activation_bits=bits, weight_bits=bits),
            folding=Folding(pe=8, simd=8),
            policy=Policy.UNIFORM,
        )
        for bits in BITS
    ]
    return {"diagonal": tuple(wanted)} if set(wanted) <= set(cells) else {}


@pytest.mark.synthesis
@pytest.mark.cells(grouped=diagonal)
@pytest.mark.parametrize("name", [pytest.param(name, marks=expected(text)) for name, text in MEASURED.items()])
def test_growth_with_the_bit_width_is_what_the_study_says(
    name: str, cells: tuple[Cell, ...], pipeline: Pipeline, record: Record
) -> None:
    claim = CLAIMS[name]
    figures = {bits: claim.figure(pipeline, cell) for bits, cell in zip(BITS, cells, strict=True)}
    growth = claim.statistic(figures)
    record(
        claim.evidence,
        claim=name,
        sentence=claim.sentence,
        measured=growth.measured,
        borne_out=growth.holds,
        **{f"at_{bits}_bits": value for bits, value in figures.items()},
    )
    require_as_measured(name, MEASURED[name], growth.measured)
    assert growth.holds, growth.measured
