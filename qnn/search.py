"""The fastest balanced folding of a cell that fits a part.

Candidates are all legal (PE, SIMD) of the first layer; the others follow by the balanced policy, and the first layer's
cycles are the interval. They are tried fastest first, so that the first that fits is the answer. Two things rule one
out, and both are proofs:

- its DSP slices, which ``qnn.dsp`` counts exactly, are more than there are;
- the nodes of it that are synthesised so far, the most parallel first, already take more than there is. The rest is
  never built.

What is synthesised has the FIFOs that keep the interval: FINN's gauge is asked before (``qnn.pipeline``).
FINN's estimates rule nothing out. A candidate on which Yosys runs out of time stays undecided, and the answer says so.
Halving the list was not worth it: DSP slices leave two or three intervals to try, and whether a folding fits is not
monotonic, since the DSP slices of PE x SIMD and SIMD x PE differ.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from qnn import estimate, reference
from qnn.cell import Cell, Folding, LayerFolding, LayerShape, Policy, balanced_folding, legal_foldings
from qnn.errors import EquivalenceError, ToolTimeout
from qnn.pipeline import Pipeline
from qnn.resources import FAMILIES, Budget, Resources, overflows
from qnn.results import Evidence, Metric, Row, Status
from qnn.tools.finn import DataflowModel

__all__ = ["Candidate", "Outcome", "Search", "Trial", "candidates", "describe", "fastest", "row"]

COMPILED = Folding(pe=8, simd=8)
"""Of the graph that the bit widths are read from: they are the same in every folding."""


class Outcome(StrEnum):
    """What became of a candidate."""

    FITS = "fits"
    TOO_MANY_DSP = "too many DSP slices, counted"
    OVERFLOWS = "overflows, synthesised"
    UNDECIDED = "undecided, Yosys ran out of time"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A balanced folding, and what is known of it without building it."""

    cell: Cell
    foldings: tuple[LayerFolding, ...]
    interval_cycles: int
    dsp: int
    """Exact."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A candidate and what was found."""

    candidate: Candidate
    outcome: Outcome
    over: tuple[str, ...] = ()
    """The resources of which it takes more than there is."""
    nodes: int = 0
    """Synthesised nodes."""
    resources: Resources | None = None
    """Of those: of the whole accelerator where it fits, at least so much where it overflows."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """Every candidate that was looked at, fastest first; the last is the answer if it fits."""

    cell: Cell
    part: str
    beside_shell: bool
    """Whether the budget is what the shell leaves of the part."""
    trials: tuple[Trial, ...]

    @property
    def fastest(self) -> Trial | None:
        """The answer; None where nothing fits."""
        return next((trial for trial in self.trials if trial.outcome is Outcome.FITS), None)

    def count(self, outcome: Outcome) -> int:
        """How many candidates came to this."""
        return sum(trial.outcome is outcome for trial in self.trials)


def candidates(cell: Cell, dataflow: DataflowModel, multiplier_bits: int) -> list[Candidate]:
    """Every legal balanced folding of the first layer, fastest first, then fewest DSP slices, then largest PE.

    `dataflow` is that of any folding of the cell.
    """
    shapes = [LayerShape(folding.inputs, folding.outputs) for folding in dataflow.foldings]
    found = []
    for asked in legal_foldings(shapes[0]):
        foldings = balanced_folding(asked, shapes)
        found.append(
            Candidate(
                cell=replace(cell, folding=asked, policy=Policy.BALANCED),
                foldings=tuple(foldings),
                interval_cycles=estimate.initiation_interval_cycles(foldings),
                dsp=dataflow.dsp_slices(foldings, multiplier_bits),
            )
        )
    return sorted(found, key=lambda one: (one.interval_cycles, one.dsp, -one.foldings[0].applied.pe))


def _try(pipeline: Pipeline, candidate: Candidate, budget: Budget) -> Trial:
    """Synthesise node by node until all are done or the sum is more than there is."""
    if candidate.dsp > budget.dsp:
        return Trial(candidate=candidate, outcome=Outcome.TOO_MANY_DSP, over=("dsp",))
    taken, done = Resources(), 0
    for name in pipeline.nodes(candidate.cell):
        try:
            taken += pipeline.node_synthesis(candidate.cell, name).resources
        except ToolTimeout:
            return Trial(candidate=candidate, outcome=Outcome.UNDECIDED, nodes=done, resources=taken)
        done += 1
        if over := overflows(taken, budget):
            return Trial(candidate=candidate, outcome=Outcome.OVERFLOWS, over=over, nodes=done, resources=taken)
    if taken.dsp != candidate.dsp:
        raise EquivalenceError(
            f"{candidate.cell} takes {taken.dsp} DSP slices, and qnn.dsp counts {candidate.dsp}: "
            "FINN's matrix-vector unit is no longer what that module says"
        )
    return Trial(candidate=candidate, outcome=Outcome.FITS, nodes=done, resources=taken)


def fastest(
    pipeline: Pipeline,
    cell: Cell,
    *,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    on_start: Callable[[Candidate], None] = lambda candidate: None,
) -> Search:
    """The fastest balanced folding of `cell` (its own folding does not matter) that fits the pipeline's part.

    The budget is what the shell leaves of the part, or the whole part where no shell of its family is known. `on_start`
    is told of each candidate that is going to be synthesised, `on_trial` of each that is done.
    """
    part = reference.part(pipeline.part)
    bits = FAMILIES[part.family].dsp_multiplier_bits
    dataflow = pipeline.dataflow(replace(cell, folding=COMPILED, policy=Policy.BALANCED))
    trials: list[Trial] = []
    for candidate in candidates(cell, dataflow, bits):
        if candidate.dsp <= part.budget.dsp:
            on_start(candidate)
        trials.append(_try(pipeline, candidate, part.budget))
        on_trial(trials[-1])
        if trials[-1].outcome is Outcome.FITS:
            break
    return Search(cell=cell.trained, part=part.name, beside_shell=part.beside_shell is not None, trials=tuple(trials))


def describe(trial: Trial, clock_period_ns: float) -> str:
    """One candidate in one line."""
    candidate = trial.candidate
    images_per_s = estimate.throughput_images_per_s(candidate.interval_cycles, clock_period_ns)
    applied = " ".join(f"{layer.applied.pe}x{layer.applied.simd}" for layer in candidate.foldings)
    over = f" ({', '.join(trial.over)})" if trial.over else ""
    text = (
        f"{candidate.cell.folding} ({applied}), {candidate.interval_cycles:,} cycles, {images_per_s:,.0f} images/s, "
        f"{candidate.dsp} DSP: {trial.outcome}{over}"
    )
    if (taken := trial.resources) is not None:
        text += f"; {taken.lut:,} LUT, {taken.ff:,} FF, {taken.bram36_equivalent:g} BRAM36 in {trial.nodes} nodes"
    return text


def row(search: Search, clock_period_ns: float) -> Row:
    """The answer as a row of results, under the cell that was found; without an answer under the trained one."""
    found = search.fastest
    metrics: dict[str, Metric] = {
        "part": search.part,
        "beside_shell": search.beside_shell,
        "candidates_too_many_dsp": search.count(Outcome.TOO_MANY_DSP),
        "candidates_that_overflow": search.count(Outcome.OVERFLOWS),
        "candidates_undecided": search.count(Outcome.UNDECIDED),
    }
    if found is None or found.resources is None:
        return Row(
            test=f"python -m qnn search {search.cell.quantization}",
            hop="search",
            status=Status.FAILED,
            cell=str(search.cell),
            evidence=Evidence.SYNTHESIS,
            reason=f"no balanced folding of {search.cell} fits {search.part}",
            metrics=metrics,
        )
    candidate, taken = found.candidate, found.resources
    images_per_s = estimate.throughput_images_per_s(candidate.interval_cycles, clock_period_ns)
    return Row(
        test=f"python -m qnn search {search.cell.quantization}",
        hop="search",
        status=Status.PASSED,
        cell=str(candidate.cell),
        evidence=Evidence.SYNTHESIS,
        metrics={
            **metrics,
            "fastest_folding": str(candidate.cell.folding),
            "applied_foldings": " ".join(f"{one.applied.pe}x{one.applied.simd}" for one in candidate.foldings),
            "expected_interval_cycles": candidate.interval_cycles,
            "expected_images_per_s": images_per_s,
            # A byte a pixel; a 64-bit port of the Z-7020 gives 800 MB/s at 100 MHz.
            "expected_dram_in_megabytes_per_s": estimate.megabytes_per_s(images_per_s, candidate.foldings[0].inputs),
            "lut": taken.lut,
            "lut_memory": taken.lut_memory,
            "ff": taken.ff,
            "bram36": taken.bram36_equivalent,
            "dsp": taken.dsp,
        },
    )
