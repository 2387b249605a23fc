"""A QONNX model from outside (``--model``) through every hop: what each states, ``qnn.own_hops`` says.

A hop that cannot run is skipped with the reason and what to do; it never counts as passed.
"""

from pathlib import Path

import pytest

from fixtures.recording import Record
from qnn.own_hops import Verdict, run_hop
from qnn.own_model import OwnModel
from qnn.own_pipeline import OwnPipeline


def _require(name: str, model: OwnModel, pipeline: OwnPipeline, reproducers: Path, record: Record) -> None:
    hop = run_hop(name, pipeline, model, reproducers=reproducers)
    record(hop.evidence, layers=hop.layers, **hop.figures)
    if hop.verdict is Verdict.NOT_RUN:
        pytest.skip(str(hop.detail))
    assert hop.verdict is Verdict.EQUAL, hop.detail


@pytest.mark.own_hop("qonnx")
def test_qonnx_equals_streamlined_graph(
    own_model: OwnModel, own_pipeline: OwnPipeline, reproducers: Path, record: Record
) -> None:
    _require("qonnx", own_model, own_pipeline, reproducers, record)


@pytest.mark.own_hop("golden")
def test_streamlined_graph_equals_exact_integers(
    own_model: OwnModel, own_pipeline: OwnPipeline, reproducers: Path, record: Record
) -> None:
    _require("golden", own_model, own_pipeline, reproducers, record)


@pytest.mark.own_hop("hardware")
def test_hardware_graph_equals_exact_integers(
    own_model: OwnModel, own_pipeline: OwnPipeline, reproducers: Path, record: Record
) -> None:
    _require("hardware", own_model, own_pipeline, reproducers, record)


@pytest.mark.cppsim
@pytest.mark.own_hop("cppsim")
def test_cppsim_equals_exact_integers(
    own_model: OwnModel, own_pipeline: OwnPipeline, reproducers: Path, record: Record
) -> None:
    _require("cppsim", own_model, own_pipeline, reproducers, record)


@pytest.mark.rtlsim
@pytest.mark.own_hop("rtl")
def test_rtl_equals_exact_integers(
    own_model: OwnModel, own_pipeline: OwnPipeline, reproducers: Path, record: Record
) -> None:
    _require("rtl", own_model, own_pipeline, reproducers, record)


@pytest.mark.synthesis
@pytest.mark.own_hop("resources")
def test_accelerator_fits_the_part(
    own_model: OwnModel, own_pipeline: OwnPipeline, reproducers: Path, record: Record
) -> None:
    _require("resources", own_model, own_pipeline, reproducers, record)


@pytest.mark.rtlsim
@pytest.mark.own_hop("throughput")
def test_simulated_interval_is_the_one_the_folding_gives(
    own_model: OwnModel, own_pipeline: OwnPipeline, reproducers: Path, record: Record
) -> None:
    _require("throughput", own_model, own_pipeline, reproducers, record)
