"""Whether the suite's checks can fail: faults, one at a time, in real artifacts, put before the checks that cover them.

Random faults are drawn by a fixed seed over weights, thresholds, constants of the generated HDL and LUTs of netlists. A
fault that no input can show is equivalent, is proved to be so and is counted apart; every other one has to be caught.
"""

from collections.abc import Callable

import numpy as np
import pytest

from fixtures.faults import Kind
from fixtures.mutation import Outcome, Score, Verdict, constant_faults, lut_faults, memory_faults, shares
from fixtures.recording import Record
from qnn.pipeline import Pipeline
from qnn.results import Evidence

_SEED = 5

Inject = Callable[[Pipeline, int, np.random.Generator], list[Verdict]]

_INJECT: dict[Kind, Inject] = {
    Kind.WEIGHT: lambda pipeline, count, random: memory_faults(pipeline, Kind.WEIGHT, count, random),
    Kind.THRESHOLD: lambda pipeline, count, random: memory_faults(pipeline, Kind.THRESHOLD, count, random),
    Kind.CONSTANT: constant_faults,
    Kind.LUT: lut_faults,
}


@pytest.mark.rtlsim
@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.replace(" ", "-"))
def test_every_random_fault_is_caught_or_proved_equivalent(
    kind: Kind, pipeline: Pipeline, pytestconfig: pytest.Config, score: list[Verdict], record: Record
) -> None:
    count = shares(pytestconfig.getoption("--mutation"))[kind]
    verdicts = _INJECT[kind](pipeline, count, np.random.default_rng([_SEED, list(Kind).index(kind)]))
    score += verdicts
    result = Score(verdicts=tuple(verdicts))
    record(
        Evidence.NETLIST if kind is Kind.LUT else Evidence.RTLSIM,
        faults_injected=len(verdicts),
        faults_equivalent=result.count(outcome=Outcome.EQUIVALENT),
        faults_caught=result.count(outcome=Outcome.CAUGHT),
        faults_missed=result.count(outcome=Outcome.MISSED),
        mutation_score_percent=result.percent,
        layers=[
            {"name": v.fault.node, "fault": v.fault.what, "outcome": str(v.outcome), "why": v.why} for v in verdicts
        ],
    )
    missed = [f"{v.fault.node}, {v.fault.what}: {v.why}" for v in verdicts if v.outcome is Outcome.MISSED]
    assert not missed, "\n".join(missed)
