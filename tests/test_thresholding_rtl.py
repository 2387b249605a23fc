"""Shapes, addresses and packed beats of FINN's RTL Thresholding, and a simulation that goes wrong.

That the RTL itself agrees with these is what benchmarks/test_thresholding.py shows.
"""

import json
import stat
from pathlib import Path

import numpy as np
import pytest

from qnn.errors import DesignError, SimulationError
from qnn.hdl import TOP, HardwareNode
from qnn.tools.thresholding_rtl import Shape, ThresholdingSimulation, axilite_writes, pack, selection_top

SHAPE = Shape(channels=4, pe=2, steps=3, input_bits=5, threshold_bits=6, bias=-2)


def test_a_threshold_is_written_to_finns_address() -> None:
    shape = Shape(channels=6, pe=3, steps=5, input_bits=12, threshold_bits=13)
    thresholds = np.arange(30).reshape(6, 5)
    expected = [
        (4 * (((channel // 3) * 4 + channel % 3) * 8 + step), 5 * channel + step)
        for channel in range(6)
        for step in range(5)
    ]
    assert axilite_writes(thresholds, shape) == expected


def test_a_negative_threshold_is_written_in_twos_complement() -> None:
    shape = Shape(channels=1, pe=1, steps=1, input_bits=8, threshold_bits=9)
    assert axilite_writes(np.array([[-3]]), shape) == [(0, 2**32 - 3)]


def test_a_threshold_above_32_bits_takes_two_words_the_lower_one_first() -> None:
    shape = Shape(channels=1, pe=1, steps=2, input_bits=36, threshold_bits=37)
    assert axilite_writes(np.array([[5, 2**33 + 7]]), shape) == [(0, 5), (4, 0), (8, 7), (12, 2)]


def test_values_are_packed_lane_by_lane_from_bit_0() -> None:
    beats = pack(np.array([[1, -1, 3, 0]]), SHAPE)
    assert beats.shape == (2, 2)
    words = [int.from_bytes(beat.tobytes(), "little") for beat in beats]
    assert words == [1 | 31 << 5, 3]


@pytest.mark.parametrize(
    ("steps", "bias", "bits"), [(3, -2, 2), (3, 0, 2), (255, -128, 8), (255, 0, 8), (3, -4, 3), (8, 0, 4), (1, 0, 1)]
)
def test_output_bits_hold_every_code(steps: int, bias: int, bits: int) -> None:
    assert Shape(channels=1, pe=1, steps=steps, input_bits=8, threshold_bits=9, bias=bias).output_bits == bits


def test_a_narrow_signed_threshold_type_leaves_its_minimum_free() -> None:
    assert Shape(channels=1, pe=1, steps=1, input_bits=8, threshold_bits=4).threshold_range == (-7, 7)
    assert Shape(channels=1, pe=1, steps=1, input_bits=4, threshold_bits=4).threshold_range == (-8, 7)
    assert Shape(channels=1, pe=1, steps=1, input_bits=8, threshold_bits=4, signed=False).threshold_range == (0, 15)


@pytest.mark.parametrize(
    ("channels", "pe", "input_bits", "message"),
    [(4, 3, 8, "PE has to divide the channels"), (4, 2, 0, "has to be 1 or more"), (4, 2, 63, "above 62 bits")],
)
def test_a_shape_that_cannot_be_is_refused(channels: int, pe: int, input_bits: int, message: str) -> None:
    with pytest.raises(DesignError, match=message):
        Shape(channels=channels, pe=pe, steps=3, input_bits=input_bits, threshold_bits=8)


def test_the_top_runs_the_clock_of_one_shape_alone() -> None:
    nodes = [
        HardwareNode(
            name=f"n{k}", op_type="Thresholding_rtl", module=f"n{k}", sources=(), input_bits=8 * (k + 1), output_bits=8
        )
        for k in range(2)
    ]
    text = selection_top(nodes)
    assert text.startswith(f"module {TOP} (")
    for k in range(2):
        assert f".ap_clk(ap_clk && shape == {k})" in text
    assert "in0_V_tdata[16-1:0]" in text


def program(folder: Path, script: str) -> Path:
    """A simulator folder whose program is a shell script."""
    file = folder / "simulator"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    description = {"input_bytes": 2, "output_bytes": 1, "verilate_s": 0.0, "compile_s": 0.0}
    (folder / "simulator.json").write_text(json.dumps(description))
    return folder


THRESHOLDS = np.array([[-1, 0, 1]] * 4)


def test_a_program_that_ends_is_told_with_its_status_and_its_words(tmp_path: Path) -> None:
    folder = program(tmp_path, "head -c 16 >/dev/null; echo the streams stand still >&2; exit 3")
    with (
        ThresholdingSimulation(folder, SHAPE, 0) as simulation,
        pytest.raises(SimulationError, match="ended with status 3: the streams stand still"),
    ):
        simulation.write(THRESHOLDS)


def test_a_program_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qnn.tools.thresholding_rtl._ANSWER_LIMIT_S", 0.2)
    with ThresholdingSimulation(program(tmp_path, "exec sleep 600"), SHAPE, 0) as simulation:
        process, _ = simulation._running()
        with pytest.raises(SimulationError, match=r"gave no answer in 0\.2 s"):
            simulation.write(THRESHOLDS)
    assert process.poll() is not None


def test_a_simulation_is_used_inside_its_with_statement(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="outside its `with` statement"):
        ThresholdingSimulation(tmp_path, SHAPE, 0).write(THRESHOLDS)


@pytest.mark.parametrize("wrong", [np.array([[-1, 0, 32]] * 4), np.zeros((4, 2), np.int64)])
def test_thresholds_that_do_not_fit_are_refused(tmp_path: Path, wrong: np.ndarray) -> None:
    with (
        ThresholdingSimulation(program(tmp_path, "exec sleep 600"), SHAPE, 0) as simulation,
        pytest.raises(SimulationError, match=r"C4-PE2-N3-int5-t6"),
    ):
        simulation.write(wrong)


@pytest.mark.parametrize("wrong", [np.full((2, 4), 16), np.zeros((2, 3), np.int64)])
def test_values_that_do_not_fit_are_refused(tmp_path: Path, wrong: np.ndarray) -> None:
    with (
        ThresholdingSimulation(program(tmp_path, "exec sleep 600"), SHAPE, 0) as simulation,
        pytest.raises(SimulationError, match=r"C4-PE2-N3-int5-t6"),
    ):
        simulation.run(wrong)
