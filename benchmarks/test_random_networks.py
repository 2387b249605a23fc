"""Random small networks: whatever FINN accepts is integer-equal through every hop, and what it refuses has a reason.

The hops are Brevitas, QONNX, FINN-ONNX, FINN's thresholds, its streamlined graph, its hardware graph in its Python,
cppsim in both variants, and RTL. A network that FINN refuses goes as far as FINN comes with it: one without RTL through
cppsim. Of those with RTL only some go through cppsim, for its time's sake, and none through FINN's own node-by-node
rtlsim, which would build a simulator a node.

What is drawn, and the named boundary cases, are in ``fixtures/random_networks.py``; how they go through the hops is in
``fixtures/random_runs.py``. ``--random-networks nightly`` draws more, and other ones each time. All networks are drawn
first and judged afterwards; of those that fail the first is made smaller, as long as it fails in the same way, and is
printed with all its numbers and with the command that draws it again.
"""

import collections
from typing import Any

import numpy as np
import pytest

from fixtures.random_networks import qonnx_model
from fixtures.random_runs import RandomRuns, Run
from fixtures.recording import Record
from fixtures.telling import telling
from qnn.equivalence import CodesComparison
from qnn.parameters import NetworkParameters
from qnn.results import Evidence
from qnn.tools import hls_headers

EXPORTED = 3
"""Networks that Brevitas exports itself, which takes seconds each."""


def test_finn_refuses_for_known_reasons_alone(random_runs: RandomRuns, record: Record) -> None:
    refused = [run for run in random_runs.runs if not run.accepted]
    reasons = collections.Counter(run.reason or "unknown" for run in refused)
    record(
        Evidence.PYTHON,
        networks=len(random_runs.runs),
        networks_refused=len(refused),
        refusals="; ".join(f"{reason}: {count}" for reason, count in sorted(reasons.items())) or None,
        reproduce=random_runs.reproduce,
    )
    assert [f"{run.network}: {run.refusal}" for run in refused if run.reason is None] == []
    assert len(random_runs.accepted) > len(refused), "most of what is drawn has to be about more than refusals"


def test_foldings_legal_or_not_become_the_documented_ones(random_runs: RandomRuns, record: Record) -> None:
    foldings = random_runs.require(Run.foldings_as_documented, random_runs.accepted)
    layers = [layer for network in foldings for layer in network]
    clamped = sum(layer.clamped for layer in layers)
    record(Evidence.PYTHON, layers_folded=len(layers), layers_clamped=clamped)
    assert 0 < clamped < len(layers), "foldings have to be drawn that are legal, and others"


def record_codes(compared: list[CodesComparison], record: Record) -> None:
    record(
        Evidence.PYTHON,
        networks=len(compared),
        codes=sum(one.compared for one in compared),
        float32_differences=sum(one.float32 for one in compared),
        ties=sum(one.ties for one in compared),
    )


def test_brevitas_equals_exact_integers(random_runs: RandomRuns, record: Record) -> None:
    record_codes(random_runs.require(Run.brevitas_against_golden, random_runs.runs), record)


def test_qonnx_equals_exact_integers(random_runs: RandomRuns, record: Record) -> None:
    record_codes(random_runs.require(Run.qonnx_against_golden, random_runs.runs), record)


def test_finn_onnx_equals_exact_integers(random_runs: RandomRuns, record: Record) -> None:
    """Before streamlining, of all networks: what FINN refuses it refuses later."""
    record_codes(random_runs.require(Run.finn_onnx_against_golden, random_runs.runs), record)


def described(model: Any) -> list[tuple[object, ...]]:
    """The nodes in order: operator, options that are not ONNX's defaults, and the constants among the inputs."""
    from onnx import helper, numpy_helper

    defaults = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    found: list[tuple[object, ...]] = []
    for node in model.graph.node:
        options = {
            one.name: helper.get_attribute_value(one) for one in sorted(node.attribute, key=lambda one: one.name)
        }
        options = {name: value for name, value in options.items() if defaults.get(name) != value and name != "momentum"}
        inputs = [constants[name].tolist() for name in node.input if name in constants]
        found.append((node.op_type, options, inputs))
    return sorted(found, key=str)


def has_distinct_weights(parameters: NetworkParameters) -> bool:
    """Of weights that are the same in two layers torch's exporter makes one Quant."""
    return len({layer.codes.tobytes() for layer in parameters.layers}) == len(parameters.layers)


def test_the_drawn_qonnx_is_what_brevitas_exports(random_runs: RandomRuns, record: Record) -> None:
    import onnx

    networks = [run.network.parameters for run in random_runs.runs if has_distinct_weights(run.network.parameters)]
    narrow = [one for one in networks if any(layer.activation_narrow for layer in one.layers)]
    unsigned = [one for one in networks if not all(layer.activation_signed for layer in one.layers)]
    for parameters in (narrow[0], *unsigned[1 - EXPORTED :]):
        exported = onnx.load_from_string(random_runs.exported(parameters))
        assert described(qonnx_model(parameters)) == described(exported)
    record(Evidence.PYTHON, networks=EXPORTED)


def test_finn_thresholds_are_exact_or_off_by_float32(random_runs: RandomRuns, record: Record) -> None:
    found = random_runs.require(Run.finn_against_golden, [run for run in random_runs.runs if run.has_integers])
    faults: collections.Counter[str] = collections.Counter()
    for _, known in found:
        faults.update(known)
    record(
        Evidence.PYTHON,
        networks=len(found),
        thresholds=sum(one.thresholds for one, _ in found),
        thresholds_off=sum(one.float32 for one, _ in found),
        thresholds_on_ties=sum(one.ties for one, _ in found),
        channels_with_known_faults="; ".join(f"{name}: {count}" for name, count in sorted(faults.items())),
    )
    assert sum(one.ties for one, _ in found) > 0, "ties have to be drawn"
    assert faults["dropped Add"] > 0, "the boundary cases hold a dropped Add"


def test_finn_graph_equals_its_integers(random_runs: RandomRuns, record: Record) -> None:
    compared = random_runs.require(Run.graph_against_hardware, [run for run in random_runs.runs if run.has_integers])
    record(Evidence.PYTHON, networks=len(compared), integers=sum(compared))


def test_finn_graph_that_is_not_mapped_equals_exact_integers(random_runs: RandomRuns, record: Record) -> None:
    """FINN leaves factors in it, so that it has no integers of its own."""
    left = [run for run in random_runs.runs if "streamlined graph" in run.executed and not run.is_mapped]
    compared = random_runs.require(Run.graph_against_golden, left)
    record(Evidence.PYTHON, networks=len(compared), codes=sum(compared))
    assert left, "the boundary cases hold weights that cannot change their sign"


def test_finn_hardware_graph_equals_its_integers(random_runs: RandomRuns, record: Record) -> None:
    """In FINN's Python, node by node."""
    mapped = [run for run in random_runs.runs if run.is_mapped]
    compared = random_runs.require(Run.hardware_graph_against_hardware, mapped)
    record(Evidence.PYTHON, networks=len(compared), integers=sum(compared))
    assert len(mapped) > len(random_runs.accepted), (
        "the boundary cases hold networks that have hardware nodes but no RTL"
    )


@pytest.mark.cppsim
def test_cppsim_equals_hardware_integers(random_runs: RandomRuns, record: Record, pytestconfig: pytest.Config) -> None:
    """Both variants, thresholds apart and embedded, node by node."""
    chosen = random_runs.in_cppsim()
    compared = random_runs.require(Run.cppsim_against_hardware, chosen)
    without_rtl = sum(not run.accepted for run in chosen)
    possible = sum(run.has_cppsim for run in random_runs.runs)
    telling(pytestconfig)(
        f"cppsim: {len(chosen)} of {possible} random networks, all {without_rtl} without RTL among them"
    )
    record(
        hls_headers.find().evidence,
        networks=possible,
        networks_in_cppsim=len(chosen),
        networks_in_cppsim_without_rtl=without_rtl,
        integers=sum(compared),
    )
    assert 0 < without_rtl < len(chosen)


@pytest.mark.rtlsim
def test_rtl_equals_hardware_integers(random_runs: RandomRuns, record: Record) -> None:
    compared = random_runs.require(Run.rtl_against_hardware, random_runs.accepted)
    distinct = [len(np.unique(run.rtl)) for run in random_runs.accepted if not isinstance(run.rtl, str | None)]
    lost = sum(run.loses_outputs for run in random_runs.accepted)
    record(
        Evidence.RTLSIM,
        networks=len(compared),
        accumulators=sum(compared),
        distinct_accumulators=sum(distinct),
        networks_with_a_short_output_queue=lost,
    )
    assert lost > 0, "the boundary cases hold output queues that are too short"
    assert np.median(distinct) > 2, "networks have to tell their images apart"
