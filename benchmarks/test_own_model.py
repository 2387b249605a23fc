"""A QONNX model from outside (``--model``) through every hop: what each states, ``qnn.own_hops`` says.

A hop that cannot run is skipped with the reason and what to do; it never counts as passed.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.recording import Record
from qnn.own_hops import Verdict, run_hop
from qnn.own_model import OwnModel
from qnn.own_pipeline import OwnPipeline


@pytest.fixture
def require_hop(
    request: pytest.FixtureRequest, own_model: OwnModel, own_pipeline: OwnPipeline, reproducers: Path, record: Record
) -> Callable[[], None]:
    """Runs the hop that the test's marker names; it has to be equal."""
    name = request.node.get_closest_marker("own_hop").args[0]

    def require() -> None:
        hop = run_hop(name, own_pipeline, own_model, reproducers=reproducers)
        record(hop.evidence, layers=hop.layers, **hop.figures)
        if hop.verdict is Verdict.NOT_RUN:
            pytest.skip(str(hop.detail))
        assert hop.verdict is Verdict.EQUAL, hop.detail

    return require


@pytest.mark.own_hop("qonnx")
def test_qonnx_equals_streamlined_graph(require_hop: Callable[[], None]) -> None:
    require_hop()


@pytest.mark.own_hop("golden")
def test_golden_integers_equal_streamlined_graph(require_hop: Callable[[], None]) -> None:
    require_hop()


@pytest.mark.own_hop("hardware")
def test_hardware_graph_equals_exact_integers(require_hop: Callable[[], None]) -> None:
    require_hop()


@pytest.mark.cppsim
@pytest.mark.own_hop("cppsim")
def test_cppsim_equals_exact_integers(require_hop: Callable[[], None]) -> None:
    require_hop()


@pytest.mark.rtlsim
@pytest.mark.own_hop("rtl")
def test_rtl_equals_exact_integers(require_hop: Callable[[], None]) -> None:
    require_hop()


@pytest.mark.synthesis
@pytest.mark.own_hop("resources")
def test_resources_fit_the_part(require_hop: Callable[[], None]) -> None:
    require_hop()


@pytest.mark.rtlsim
@pytest.mark.own_hop("throughput")
def test_throughput_is_the_one_the_folding_gives(require_hop: Callable[[], None]) -> None:
    require_hop()
