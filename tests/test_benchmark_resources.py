"""The verdicts of ``benchmarks/test_resources.py`` fail where they have to, and one cell's failure stops no other."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from test_yosys import REGISTER, chain

from benchmarks.test_resources import test_accelerator_fits_the_part as judge
from qnn import reference
from qnn.cell import PART, Cell, Folding, LayerFolding, Quantization
from qnn.errors import ToolGap, ToolTimeout
from qnn.pipeline import NodeSynthesis, Pipeline
from qnn.reference import Misfit
from qnn.resources import Resources
from qnn.results import Metric
from qnn.store import Store
from qnn.tools.finn import DataflowModel, LayerGeometry

ROOT = Path(__file__).parents[1]
CELL = Cell(quantization=Quantization.parse("A3W3"), folding=Folding(pe=2, simd=2))


def _geometry(name: str, op_type: str, **estimate: float) -> LayerGeometry:
    folding = Folding(pe=2, simd=2)
    return LayerGeometry(
        name=name,
        op_type=op_type,
        pe=2,
        simd=2,
        input_type="INT8",
        weight_type="INT3" if op_type.startswith("MVAU") else None,
        output_type="INT16",
        output_lanes=1,
        output_elements=1,
        narrow_weights=True if op_type.startswith("MVAU") else None,
        cycles=8,
        estimate={"LUT": 0.0, "BRAM_18K": 0.0, "DSP": 0.0, **estimate},
        folding=LayerFolding(inputs=4, outputs=8, asked=folding, applied=folding)
        if op_type.startswith("MVAU")
        else None,
    )


DATAFLOW = DataflowModel(
    finn_version="none",
    layers=(
        _geometry("Thresholding_rtl_0", "Thresholding_rtl", LUT=50),
        _geometry("MVAU_rtl_0", "MVAU_rtl", DSP=2, BRAM_18K=4),
        _geometry("Thresholding_rtl_1", "Thresholding_rtl"),
    ),
    hls_layers=(
        _geometry("Thresholding_hls_0", "Thresholding_hls", LUT=1_000),
        _geometry("MVAU_hls_0", "MVAU_hls", LUT=400, BRAM_18K=5),
    ),
)


@dataclass
class _Pipeline:
    part: str = PART
    synthesis_limit_s: float = 1.0


class _Record:
    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {}
        self.layers: list[dict[str, Metric]] = []

    def __call__(self, *_evidence: object, layers: Any = (), **metrics: Metric) -> None:
        self.metrics |= metrics
        self.layers = list(layers)


def _judge(monkeypatch: pytest.MonkeyPatch, expected: Misfit, *, dsp: int = 2, lut: int = 75) -> _Record:
    record = _Record()
    monkeypatch.setattr(reference, "expected_misfit", lambda cell, part: expected)
    taken = [Resources(lut=lut), Resources(dsp=dsp, bram36=1, bram18=1), Resources(ff=3)]
    nodes = tuple(
        NodeSynthesis(name=layer.name, resources=resources, host_s=0.0, netlist=Path())
        for layer, resources in zip(DATAFLOW.layers, taken, strict=True)
    )
    judge(CELL, _Pipeline(), DATAFLOW, nodes, record)  # type: ignore[arg-type]
    return record


def test_what_fits_passes_and_its_row_says_how_much_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = _judge(monkeypatch, Misfit()).metrics
    assert metrics["fits"] is metrics["fits_beside_shell"] is True
    assert (metrics["lut"], metrics["lut_left"]) == (75, 53_200 - 6_425 - 75)
    assert metrics["bram36_left"] == 140 - 1 - 1.5
    assert (metrics["tightest_resource"], metrics["tightest_left_percent"]) == ("bram36", 100 * (1 - 1.5 / 139))
    assert (metrics["multipliers"], metrics["applied_foldings"], metrics["policy"]) == (4, "2x2", "uniform")


def test_the_estimates_of_both_variants_stand_beside_the_synthesis_with_their_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = _judge(monkeypatch, Misfit())
    expected = {
        "finn_estimate_lut": 50,
        "lut_per_estimate": 1.5,
        "finn_estimate_bram18": 4,
        "bram18_per_estimate": 3 / 4,
        "dsp_per_estimate": 1,
        "finn_hls_estimate_lut": 1_400,
        "finn_hls_estimate_without_input_lut": 400,
        "finn_hls_estimate_bram18": 5,
        "finn_hls_estimate_fits": True,
    }
    assert {name: record.metrics[name] for name in expected} == expected
    assert [layer["finn_hls_estimate_lut"] for layer in record.layers] == [1_000, 400, None]
    assert [layer["lut_per_estimate"] for layer in record.layers] == [1.5, None, None]


def test_a_cell_that_does_not_fit_and_is_not_in_the_data_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match=r"alone: does not fit by dsp, which misfits\.toml does not say"):
        _judge(monkeypatch, Misfit(), dsp=221)


def test_a_cell_that_does_not_fit_beside_the_shell_alone_fails_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError) as failure:
        _judge(monkeypatch, Misfit(), lut=50_000)
    assert "beside_shell: does not fit by lut" in str(failure.value)
    assert "alone:" not in str(failure.value)


def test_a_cell_that_is_expected_not_to_fit_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    misfit = Misfit(alone=frozenset({"dsp"}), beside_shell=frozenset({"dsp"}))
    metrics = _judge(monkeypatch, misfit, dsp=304).metrics
    assert metrics["fits"] is metrics["fits_beside_shell"] is False
    assert (metrics["tightest_resource"], metrics["dsp_left"]) == ("dsp", -84)


def test_a_cell_that_starts_to_fit_fails_until_the_data_is_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    misfit = Misfit(alone=frozenset({"dsp"}), beside_shell=frozenset({"dsp"}))
    with pytest.raises(AssertionError, match=r"alone: fits by dsp, and misfits\.toml says that it does not"):
        _judge(monkeypatch, misfit)


# ----------------------------------------------------------------------------------------------- what is not obtained


def _pipeline_of_one_register(monkeypatch: pytest.MonkeyPatch, store: Path, **options: Any) -> Pipeline:
    """A pipeline whose every accelerator is two registers."""
    monkeypatch.setattr(Pipeline, "_accepted", lambda *_: (chain(REGISTER, REGISTER + "\n// other"), []))
    return Pipeline(store=Store(store), **options)


def test_a_node_that_yosys_does_not_finish_is_named_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hasty = _pipeline_of_one_register(monkeypatch, tmp_path, synthesis_limit_s=0.05)
    with pytest.raises(ToolTimeout, match=rf"synthesis of node_0 in {CELL}: .* did not end within 0\.05 s"):
        hasty.node_synthesis(CELL, "node_0")
    patient = _pipeline_of_one_register(monkeypatch, tmp_path)
    assert patient.node_synthesis(CELL, "node_0").resources == Resources(ff=8)


def test_a_family_without_synthesis_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pipeline = _pipeline_of_one_register(monkeypatch, tmp_path, part="xczu3eg-sbva484-1-e")
    with pytest.raises(ToolGap, match=r"no synthesis for xczu3eg.*zynq-ultrascale-plus: .*ABITS 16"):
        pipeline.node_synthesis(CELL, "node_0")


FAKES = """
import sys
import pytest
sys.path[:0] = [{root!r}, {tests!r}]
from pathlib import Path
from test_benchmark_resources import DATAFLOW, _Pipeline
from qnn.errors import ToolTimeout
from qnn.pipeline import NodeSynthesis
from qnn.resources import Resources

class Half(_Pipeline):
    def synthesis(self, cell):
        if str(cell.quantization) == "A2W2":
            raise ToolTimeout("synthesis of MVAU_rtl_0: yosys did not end within 1 s and was killed")
        return tuple(NodeSynthesis(name=layer.name, resources=Resources(dsp=2 if "MVAU" in layer.name else 0),
                                   host_s=0.0, netlist=Path()) for layer in DATAFLOW.layers)

@pytest.fixture(scope="session")
def pipeline():
    return Half()

@pytest.fixture(scope="session")
def dataflow():
    return DATAFLOW
"""


def test_a_cell_on_which_yosys_runs_out_of_time_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "test_resources.py").write_text((ROOT / "benchmarks" / "test_resources.py").read_text())
    (folder / "conftest.py").write_text(FAKES.format(root=str(ROOT), tests=str(ROOT / "tests")))
    (tmp_path / "conftest.py").write_text((ROOT / "conftest.py").read_text().replace('"fixtures.ahead",', ""))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    synthesis\n    cells(grouped)\n")
    options = ["--cells", "A2W2,A3W3", "--foldings", "2x2", "--results", "rows", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "benchmarks", *options, "-k", "fits_the_part"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    (path,) = (tmp_path / "rows").glob("*.jsonl")
    rows = {row["cell"]: row for row in map(json.loads, path.read_text().splitlines())}
    late, other = rows["tfc-fashion_mnist-A2W2-PE2-SIMD2"], rows["tfc-fashion_mnist-A3W3-PE2-SIMD2"]
    assert late["status"] == "error", result.stdout
    assert "did not end within 1 s" in late["reason"]
    assert late["metrics"] == {"synthesis_timed_out": True, "synthesis_limit_s": 1.0}
    assert other["status"] == "passed"
    assert "error resources: qnn.errors.ToolTimeout: synthesis of MVAU_rtl_0" in result.stdout
