"""Thresholding, by Hypothesis: RTL = MultiThreshold, always; MultiThreshold and Brevitas = the exact activation.

What is drawn, and the shapes of FINN's RTL, are in ``fixtures/activations.py``.
What is asked of the RTL does not depend on the cell, so it is asked once: of the selected cells, under the one that has
as many steps. FINN streamlines all drawn layers in one process, as channels of one layer for each type of code. So they
are drawn first and judged afterwards; a failure needs no shrinking, since it names the channel and the threshold.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from numpy.typing import NDArray

from fixtures.activations import (
    ALL_SHAPES,
    BIASED,
    SHAPES,
    WIDE,
    WIDENED,
    BrevitasLayer,
    FinnLayer,
    Layer,
    MultiThreshold,
    Question,
    first_thresholds,
    next_to_thresholds,
    questions,
)
from fixtures.recording import Record
from qnn.cell import Quantization
from qnn.results import Evidence
from qnn.thresholding import (
    Verdict,
    compare_codes,
    compare_thresholds,
)
from qnn.tools.thresholding_rtl import Shape, ThresholdingSimulation

# FINN's RTL against FINN's MultiThreshold -----------------------------------------------------------------------------


def ask_many(
    simulation: ThresholdingSimulation,
    shape: Shape,
    multithreshold: MultiThreshold,
    record: Record | None = None,
    phases: Sequence[Phase] = tuple(Phase),
) -> None:
    """Draw questions and compare every code of the RTL with MultiThreshold's."""
    counts = {"examples": 0, "codes": 0}

    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    @given(questions(shape))
    def check(question: Question) -> None:
        simulation.write(question.thresholds)
        codes = simulation.run(question.values, valid=question.valid, ready=question.ready)
        expected = multithreshold(question.values, question.thresholds, shape.bias)
        counts["examples"] += 1
        counts["codes"] += codes.size
        np.testing.assert_array_equal(codes, expected)

    check()
    if record:
        record(Evidence.RTLSIM, **counts)


@pytest.mark.rtlsim
@pytest.mark.same_for_all_cells
@pytest.mark.parametrize("shape", [*SHAPES, BIASED], ids=str)
def test_rtl_is_multithreshold(
    quantization: Quantization, shape: Shape, thresholdings: Path, multithreshold: MultiThreshold, record: Record
) -> None:
    with ThresholdingSimulation(thresholdings, shape, ALL_SHAPES.index(shape)) as simulation:
        ask_many(simulation, shape, multithreshold, record)


def compare_first_thresholds(shape: Shape, thresholdings: Path, multithreshold: MultiThreshold) -> None:
    """Compare the codes with those of the thresholds that FINN put into the node's files."""
    first = first_thresholds(shape)
    low, high = shape.input_range
    values = np.arange(max(low, -25), min(high, first.max() + 5))[:, None].repeat(shape.channels, axis=1)
    with ThresholdingSimulation(thresholdings, shape, ALL_SHAPES.index(shape)) as simulation:
        np.testing.assert_array_equal(simulation.run(values), multithreshold(values, first, shape.bias))


@pytest.mark.rtlsim
@pytest.mark.same_for_all_cells
def test_rtl_starts_with_the_thresholds_of_its_files(
    quantization: Quantization, thresholdings: Path, multithreshold: MultiThreshold, record: Record
) -> None:
    for shape in (*SHAPES, WIDE):
        compare_first_thresholds(shape, thresholdings, multithreshold)
    record(Evidence.RTLSIM, shapes=len(SHAPES) + 1)


@pytest.mark.rtlsim
@pytest.mark.same_for_all_cells
@pytest.mark.xfail(
    raises=AssertionError,
    reason="FINN (Thresholding_rtl.make_weight_file) arranges the .dat files by the bits of the output type, the RTL "
    "reads them by ceil(log2(steps + 1)): they disagree where a bias makes the output type wider",
)
def test_rtl_starts_with_the_thresholds_of_its_files_with_a_bias_that_widens_the_output(
    quantization: Quantization, thresholdings: Path, multithreshold: MultiThreshold
) -> None:
    compare_first_thresholds(BIASED, thresholdings, multithreshold)


@pytest.mark.rtlsim
@pytest.mark.same_for_all_cells
@pytest.mark.xfail(
    raises=AssertionError,
    reason="FINN's wrapper (thresholding_template_wrapper.v) gives s_axilite_AWADDR one bit too few where a threshold "
    "takes two words: writes to the upper half fall on the lower one",
)
def test_rtl_with_thresholds_above_32_bits(
    quantization: Quantization, thresholdings: Path, multithreshold: MultiThreshold
) -> None:
    with ThresholdingSimulation(thresholdings, WIDE, ALL_SHAPES.index(WIDE)) as simulation:
        ask_many(simulation, WIDE, multithreshold, phases=[Phase.generate])


@pytest.mark.rtlsim
@pytest.mark.same_for_all_cells
def test_the_same_with_the_address_port_widened(
    quantization: Quantization, thresholdings: Path, multithreshold: MultiThreshold, record: Record
) -> None:
    with ThresholdingSimulation(thresholdings, WIDE, WIDENED) as simulation:
        ask_many(simulation, WIDE, multithreshold, record)


@pytest.mark.rtlsim
@pytest.mark.same_for_all_cells
def test_a_comparison_with_greater_for_greater_or_equal_is_noticed(
    quantization: Quantization, thresholdings: Path, multithreshold: MultiThreshold
) -> None:
    def wrong(values: NDArray[np.int64], thresholds: NDArray[np.int64], bias: int) -> NDArray[np.int64]:
        return multithreshold(values, thresholds + 1, bias)

    with ThresholdingSimulation(thresholdings, SHAPES[0], 0) as simulation, pytest.raises(AssertionError):
        ask_many(simulation, SHAPES[0], wrong, phases=[Phase.generate])


# FINN's streamlining and Brevitas against the exact activation --------------------------------------------------------


def test_finns_thresholds_are_the_exact_ones_within_float32(
    quantization: Quantization, drawn_layers: list[Layer], finn_layers: list[FinnLayer], record: Record
) -> None:
    total, undefined, left_out, worst = dict.fromkeys(Verdict, 0), 0, 0, 0.0
    for k, (layer, streamlined) in enumerate(zip(drawn_layers, finn_layers, strict=True)):
        nan = np.isnan(streamlined["thresholds"])
        undefined += int(nan.sum())
        left_out += int(layer.loses_its_sign.sum())
        for filling in (-np.inf, np.inf) if nan.any() else (0.0,):
            # 0 / 0: either side has to be explained, which is so only for a constant on a boundary
            filled = np.where(nan, filling, streamlined["thresholds"])
            filled[layer.loses_its_sign] = layer.exact.thresholds[layer.loses_its_sign]
            comparison = compare_thresholds(layer.exact, filled)
            comparison.require_explained(f"layer {k} of {layer.bits} bits")
        worst = max(worst, comparison.worst_units)
        for verdict, count in comparison.counts.items():
            total[verdict] += count
        flipped = (streamlined["signs"] != layer.exact.signs) & ~layer.loses_its_sign
        ends = (comparison.other == layer.exact.minimum[:, None]) | (
            comparison.other == layer.exact.maximum[:, None] + 1
        )
        assert (ends.all(axis=1) | ~flipped).all(), f"layer {k}: a channel that is not constant has another sign"
        assert streamlined["lowest"] == layer.exact.lowest
    record(
        Evidence.PYTHON,
        thresholds=sum(total.values()),
        float32_differences=total[Verdict.FLOAT32],
        ties=total[Verdict.TIE],
        undefined=undefined,
        channels_left_out=left_out,
        worst_units=round(worst, 3),
    )
    assert total[Verdict.EQUAL] > 0
    assert total[Verdict.TIE] > 0, "the drawn layers have to hold ties"


def test_multithreshold_gives_the_exact_codes_within_float32(
    quantization: Quantization,
    drawn_layers: list[Layer],
    finn_layers: list[FinnLayer],
    multithreshold: MultiThreshold,
    record: Record,
) -> None:
    total = dict.fromkeys(Verdict, 0)
    for k, (layer, streamlined) in enumerate(zip(drawn_layers, finn_layers, strict=True)):
        if np.isnan(streamlined["thresholds"]).any():
            continue
        lost = layer.loses_its_sign
        signs = np.where(lost, layer.exact.signs, streamlined["signs"])
        thresholds = np.where(lost[:, None], layer.exact.thresholds, streamlined["thresholds"]).astype(np.int64)
        accumulators = next_to_thresholds(layer, thresholds)
        codes = multithreshold(accumulators * signs, thresholds, int(streamlined["lowest"]))
        comparison = compare_codes(layer.exact, accumulators * layer.exact.signs, codes)
        comparison.require_explained(f"layer {k} of {layer.bits} bits")
        for verdict, count in comparison.counts.items():
            total[verdict] += count
    record(Evidence.PYTHON, codes=sum(total.values()), float32_differences=total[Verdict.FLOAT32])
    assert total[Verdict.EQUAL] > 0


def test_brevitas_gives_the_exact_codes_within_float32(
    quantization: Quantization,
    drawn_layers: list[Layer],
    brevitas_layers: list[BrevitasLayer],
    record: Record,
) -> None:
    total = dict.fromkeys(Verdict, 0)
    for k, (layer, brevitas) in enumerate(zip(drawn_layers, brevitas_layers, strict=True)):
        comparison = compare_codes(layer.exact, brevitas.accumulators * layer.exact.signs, brevitas.codes)
        comparison.require_explained(f"layer {k} of {layer.bits} bits")
        for verdict, count in comparison.counts.items():
            total[verdict] += count
    record(
        Evidence.PYTHON,
        codes=sum(total.values()),
        float32_differences=total[Verdict.FLOAT32],
        ties=total[Verdict.TIE],
    )
    assert total[Verdict.EQUAL] > 0
