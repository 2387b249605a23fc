"""The search tries the fastest foldings first, and passes over none that might fit."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from qnn import cli, reference, search
from qnn.cell import PART, Cell, Folding, LayerFolding, LayerShape, Quantization, balanced_folding, uniform_folding
from qnn.dsp import dsp_slices
from qnn.errors import EquivalenceError, ToolTimeout
from qnn.pipeline import NodeSynthesis
from qnn.resources import Resources
from qnn.results import Status, read_rows
from qnn.search import Outcome
from qnn.tools.finn import DataflowModel, LayerGeometry

CELL = Cell(quantization=Quantization.parse("A3W3"))
SHAPES = [LayerShape(1024, 64), LayerShape(64, 64), LayerShape(64, 64), LayerShape(64, 10)]
DSP_BITS = 25


def _unit(number: int, folding: LayerFolding, activation_bits: int) -> LayerGeometry:
    return LayerGeometry(
        name=f"MVAU_rtl_{number}",
        op_type="MVAU_rtl",
        pe=folding.applied.pe,
        simd=folding.applied.simd,
        input_type=f"INT{activation_bits}",
        weight_type="INT3",
        output_type="INT16",
        output_lanes=1,
        output_elements=1,
        narrow_weights=True,
        cycles=folding.cycles,
        estimate={},
        folding=folding,
    )


def _dataflow() -> DataflowModel:
    foldings = uniform_folding(Folding(pe=8, simd=8), SHAPES)
    units = [_unit(number, folding, 8 if number == 0 else 3) for number, folding in enumerate(foldings)]
    return DataflowModel(finn_version="none", layers=tuple(units), hls_layers=())


@dataclass
class _Pipeline:
    """Four matrix units; each multiplier takes `lut` LUTs, and DSP slices as they are counted."""

    lut: int = 1
    times_out: tuple[Folding, ...] = ()
    more_dsp: int = 0
    part: str = PART
    built: list[tuple[str, str]] = field(default_factory=list)

    def dataflow(self, cell: Cell) -> DataflowModel:
        return _dataflow()

    def _foldings(self, cell: Cell) -> dict[str, LayerFolding]:
        assert cell.folding is not None
        return {f"MVAU_rtl_{number}": one for number, one in enumerate(balanced_folding(cell.folding, SHAPES))}

    def nodes(self, cell: Cell) -> tuple[str, ...]:
        return tuple(self._foldings(cell))

    def node_synthesis(self, cell: Cell, name: str) -> NodeSynthesis:
        self.built.append((str(cell.folding), name))
        if cell.folding in self.times_out:
            raise ToolTimeout("out of time")
        applied = self._foldings(cell)[name].applied
        dsp = dsp_slices(
            pe=applied.pe,
            simd=applied.simd,
            weight_bits=3,
            activation_bits=8 if name == "MVAU_rtl_0" else 3,
            narrow_weights=True,
            multiplier_bits=DSP_BITS,
        )
        resources = Resources(lut=self.lut * applied.pe * applied.simd, dsp=dsp + self.more_dsp)
        return NodeSynthesis(name=name, resources=resources, host_s=0.0, netlist=Path())


class _CommandsPipeline(_Pipeline):
    clock_period_ns = 10.0


def _search(pipeline: _Pipeline) -> search.Search:
    return search.fastest(pipeline, CELL)  # type: ignore[arg-type]


def test_candidates_are_all_legal_foldings_of_the_first_layer_fastest_first() -> None:
    found = search.candidates(CELL, _dataflow(), DSP_BITS)
    assert len(found) == len({one.cell.folding for one in found}) == 7 * 11
    intervals = [one.interval_cycles for one in found]
    assert intervals == sorted(intervals)
    assert (intervals[0], intervals[-1]) == (1, 1024 * 64)
    for one in found:
        first = one.foldings[0]
        assert first.applied == one.cell.folding
        assert one.interval_cycles == first.cycles == 1024 * 64 // (first.applied.pe * first.applied.simd)


def test_the_fastest_that_the_dsp_slices_allow_is_found_and_nothing_faster_is_built() -> None:
    """Three channels of 3-bit weights on 8-bit pixels share a slice: 64 PE and 8 SIMD take 176 of 220."""
    pipeline = _Pipeline()
    found = _search(pipeline)
    assert found.fastest is not None
    candidate = found.fastest.candidate
    assert candidate.cell.folding == Folding(pe=64, simd=8)
    assert candidate.interval_cycles == 128
    assert {folding for folding, _ in pipeline.built} == {"PE64-SIMD8"}
    faster = [trial for trial in found.trials if trial is not found.fastest]
    assert all(trial.outcome is Outcome.TOO_MANY_DSP for trial in faster)
    assert all(trial.candidate.dsp > reference.part(PART).alone.dsp for trial in faster)


def test_a_folding_whose_first_nodes_are_too_large_is_left_without_building_the_rest() -> None:
    pipeline = _Pipeline(lut=120)
    found = _search(pipeline)
    assert found.fastest is not None
    assert found.fastest.candidate.interval_cycles == 256
    over = [trial for trial in found.trials if trial.outcome is Outcome.OVERFLOWS]
    assert over
    assert {trial.candidate.interval_cycles for trial in over} == {128}
    assert all(trial.over == ("lut",) and trial.nodes == 1 for trial in over)
    assert [name for folding, name in pipeline.built if folding == "PE64-SIMD8"] == ["MVAU_rtl_0"]


def test_the_shells_reserve_counts() -> None:
    """51,200 LUTs of the first layer would fit the part, not what the shell leaves of it."""
    alone, beside = reference.part(PART).alone, reference.part(PART).beside_shell
    assert beside is not None
    assert beside.lut < 512 * 100 < alone.lut
    found = _search(_Pipeline(lut=100))
    assert found.beside_shell
    assert found.fastest is not None
    assert found.fastest.candidate.interval_cycles == 256


def test_a_candidate_that_yosys_does_not_finish_is_undecided_and_the_search_goes_on() -> None:
    found = _search(_Pipeline(times_out=(Folding(pe=64, simd=8),)))
    assert found.count(Outcome.UNDECIDED) == 1
    assert found.fastest is not None
    assert found.fastest.candidate.cell.folding == Folding(pe=32, simd=16)
    assert search.row(found, 10.0).metrics["candidates_undecided"] == 1


def test_where_nothing_fits_every_candidate_was_tried() -> None:
    found = _search(_Pipeline(lut=1_000_000))
    assert found.fastest is None
    assert len(found.trials) == 7 * 11
    row = search.row(found, 10.0)
    assert (row.status, row.cell) == (Status.FAILED, str(CELL))
    assert row.reason == f"no balanced folding of {CELL} fits {PART}"


def test_slices_that_are_not_those_counted_are_an_error() -> None:
    with pytest.raises(EquivalenceError, match=r"takes \d+ DSP slices, and qnn\.dsp counts \d+"):
        _search(_Pipeline(more_dsp=1))


def test_the_answer_is_a_row_of_results() -> None:
    row = search.row(_search(_Pipeline()), 10.0)
    expected: dict[str, Any] = {
        "fastest_folding": "PE64-SIMD8",
        "expected_interval_cycles": 128,
        "expected_images_per_s": 781_250,
        "expected_dram_in_megabytes_per_s": 800,
        "beside_shell": True,
    }
    assert row.cell == "tfc-fashion_mnist-A3W3-PE64-SIMD8-balanced"
    assert {name: row.metrics[name] for name in expected} == expected


def test_a_trial_is_told_in_one_line() -> None:
    found = _search(_Pipeline())
    assert found.fastest is not None
    line = search.describe(found.fastest, 10.0)
    assert line.startswith("PE64-SIMD8 (64x8 ")
    assert "128 cycles, 781,250 images/s" in line
    assert line.endswith("in 4 nodes")


def test_the_command_tells_what_it_tries_and_leaves_a_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("qnn.pipeline.Pipeline", lambda **_: _CommandsPipeline())
    options = ["--store", str(tmp_path / "store"), "--results", str(tmp_path / "rows")]
    assert cli.main(["search", "A3W3", *options]) == 0
    told = capsys.readouterr().out
    assert "PE64-SIMD8, 128 cycles ..." in told
    assert "the fastest that fits is PE64-SIMD8 beside FINN's shell; " in told
    (path,) = (tmp_path / "rows").glob("*-search.jsonl")
    assert [row.cell for row in read_rows(path)] == ["tfc-fashion_mnist-A3W3-PE64-SIMD8-balanced"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["A3W9"], "unknown cell 'A3W9'"),
        (["A3W3", "--part", "xc7z099"], "unknown part 'xc7z099': there are xc7z020clg400-1"),
        (["A3W3", "--dataset", "cifar"], "unknown data set 'cifar'"),
        (["float"], "the float network has no hardware"),
    ],
)
def test_what_cannot_be_searched_is_told_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["search", *arguments, "--store", str(tmp_path), "--results", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
