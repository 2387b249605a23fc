"""A model from outside, hop by hop: equal, different with the first wrong node, or not run with the reason.

qonnx        the model as QONNX executes it = FINN's streamlined graph, float32's own differences counted
golden       streamlined graph = the integers it stands for, in NumPy, every node
hardware     FINN's hardware graph = these integers, every node
cppsim       FINN's HLS nodes as C++ programs = these integers, every node
rtl          FINN's RTL in Verilator = these integers; top-1 of labelled samples
resources    FINN's RTL after synthesis fits the part
throughput   simulated initiation interval = the one that the folding gives

Where the graph is no chain of fully connected layers the suite has no integers of its own: FINN's streamlined graph,
executed by QONNX, takes their place, node by node.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qnn import diff, equivalence, estimate, reference
from qnn.ahead import Step, Task
from qnn.divergence import Unlike, first_unlike
from qnn.errors import DataflowError, EquivalenceError, QnnError, SimulationError
from qnn.integer import IntegerNetwork
from qnn.own_model import OwnModel
from qnn.own_pipeline import PYTHON_IMAGES, OwnPipeline
from qnn.reproducer import Cpp, NodeCase
from qnn.resource_figures import hls_estimates, layer_figures, resource_figures
from qnn.resources import overflows, total
from qnn.results import Evidence, Metric
from qnn.tools.finn import FinnActivation, HardwareModel, LayerGeometry, NodeValues

__all__ = ["HOPS", "Hop", "Verdict", "ahead", "run_hop"]

_UNIT_ROUNDOFF = 2.0**-24
_AFFINE = ("Mul", "Add", "Sub", "Div", "BatchNormalization")
_SHARE_WITHOUT_BOUND = 2.0**-14
"""Share of the largest output by which outputs may differ in float32 where the host's part has no proved bound."""


class Verdict(StrEnum):
    """How a hop ended."""

    EQUAL = "equal"
    DIFFERS = "differs"
    NOT_RUN = "not run"


@dataclass(frozen=True, kw_only=True)
class Hop:
    """What was found at one hop."""

    name: str
    verdict: Verdict
    evidence: Evidence | None = None
    figures: Mapping[str, Metric] = field(default_factory=dict)
    layers: Sequence[Mapping[str, Metric]] = ()
    detail: str | None = None
    """What differs, first, or why the hop did not run."""


class _Findings:
    """What a hop notes while it runs: kept also where it ends in an error."""

    def __init__(self, reproducers: Path) -> None:
        self.evidence: Evidence | None = None
        self.figures: dict[str, Metric] = {}
        self.layers: Sequence[Mapping[str, Metric]] = ()
        self.reproducers = reproducers

    def note(self, evidence: Evidence, **figures: Metric) -> None:
        self.evidence = evidence
        self.figures |= figures


def _golden(pipeline: OwnPipeline, model: OwnModel) -> HardwareModel | None:
    """The integers of the accelerator's part; None where the suite has no model of such a graph."""
    return None if "integers" in pipeline.compilation(model).refused else pipeline.hardware_model(model)


# QONNX ----------------------------------------------------------------------------------------------------------------


def _require_near_thresholds(
    network: IntegerNetwork,
    activation: FinnActivation,
    k: int,
    places: NDArray[np.int64],
    given: NDArray[Any],
    expected: NDArray[Any],
    fed: Any,
) -> int:
    """How many codes of activation k differ by a tie, an accumulator on a threshold: QONNX rounds it to even, FINN up.

    Raises EquivalenceError unless each of the others that differ lies where float32 may decide otherwise.

    With an exact accumulator a, a sum of n products in float32 is off by at most gamma(n) A, A = sum |weight| |code|
    (``equivalence.sum_bounds``), and a threshold T by a few roundings of the terms that it is computed from, which its
    row spans. So a code may be counted on the other side of T where

        |a - T| <= 2^-24 ((n + 3) A + 8 (max |T| + range of T))
    """
    ties = 0
    for image, channel in places.tolist():
        row = activation.thresholds[channel % len(activation.thresholds)]
        if k:
            codes = fed[image : image + 1]
            accumulator = int(network.accumulators(k, codes)[0, channel])
            size = float(network.magnitudes(k, codes)[0, channel]) * (codes.shape[1] + 3)
        else:
            accumulator = int(fed[image, channel])
            size = float(abs(accumulator)) * 4
        finite = row[np.isfinite(row)]
        size += 8 * (np.abs(finite).max(initial=0) + np.ptp(finite) if len(finite) else 0)
        low, high = sorted((int(given[image, channel]), int(expected[image, channel])))
        if not activation.lowest <= low <= high <= activation.highest:
            raise EquivalenceError(
                f"QONNX: activation {k}, image {image}, channel {channel}: code {given[image, channel]}, and FINN's "
                f"graph has codes from {activation.lowest} to {activation.highest} there"
            )
        crossed = row[low - activation.lowest : high - activation.lowest]
        if not (np.abs(crossed - accumulator) <= _UNIT_ROUNDOFF * size).all():
            raise EquivalenceError(
                f"QONNX: activation {k}, image {image}, channel {channel}: code {given[image, channel]} instead of "
                f"{expected[image, channel]} at accumulator {accumulator}, and the thresholds between, "
                f"{', '.join(f'{step:.9g}' for step in crossed[:4])}, are further away than float32 explains "
                f"({_UNIT_ROUNDOFF * size:.3g})"
            )
        ties += bool((crossed == accumulator).all())
    return ties


def _compare_codes(
    network: IntegerNetwork,
    activations: Sequence[FinnActivation],
    inputs: NDArray[Any],
    codes: Sequence[NDArray[np.int16]],
) -> tuple[int, int, NDArray[np.bool_]]:
    """How many of QONNX's codes differ by float32 and how many by ties, and which images have none of them.

    Each layer is fed with QONNX's own codes.
    """
    off, ties, codes = 0, 0, list(codes)
    same = np.ones(len(inputs), np.bool_)
    # A graph that starts with a matrix product has no activation of its input.
    first = len(activations) - len(codes)
    for k, given in enumerate(codes, start=first):
        activation = activations[k]
        fed = inputs if k == 0 else (codes[k - 1 - first] if k > first else inputs.astype(np.int16))
        expected = activation.codes(inputs.astype(np.int64) if k == 0 else network.accumulators(k, fed))
        if (activation.lowest, activation.highest) == (0, 1) and given.min(initial=1) < 0:
            codes[k - first] = given = (given + 1) // 2  # FINN has bits where QONNX has -1 and 1
        places = np.argwhere(given != expected)
        ties += _require_near_thresholds(network, activation, k, places, given, expected, fed)
        off += len(places)
        same &= (given == expected).all(axis=1)
    return off - ties, ties, same


def _output_bounds(
    pipeline: OwnPipeline, cell: OwnModel, model: HardwareModel, codes: NDArray[np.int16]
) -> NDArray[np.float64] | None:
    """[images, outputs]: how far two float32 computations of the outputs may be apart; None without a proved bound.

    The host's part is affine in each channel, out = g a + b. With A = sum |weight| |code| in place of the accumulator
    it gives at most |g| A + |b|, and every rounding is relative to no more than that.
    """
    host = pipeline.compilation(cell).host
    if any(not name.endswith(tuple(f"({op_type})" for op_type in _AFFINE)) for name in host):
        return None
    last = len(model.network.layers) - 1
    magnitudes = model.network.magnitudes(last, codes)
    reach, offset = (
        np.abs(pipeline.host_outputs(cell, values).astype(np.float64)) for values in (magnitudes, 0 * magnitudes)
    )
    bounds: NDArray[np.float64] = 2 * _UNIT_ROUNDOFF * (codes.shape[1] + 16) * (reach + 2 * offset)
    return bounds


def _top1_percent(outputs: NDArray[Any], labels: NDArray[np.int64] | None) -> float | None:
    """Of outputs [images, classes], or [images, 1] where they are labels themselves."""
    if labels is None:
        return None
    flat = outputs.reshape(len(outputs), -1)
    guessed = flat[:, 0] if flat.shape[1] == 1 else flat.argmax(axis=1)
    return 100 * float(np.mean(guessed == labels))


def _qonnx(pipeline: OwnPipeline, cell: OwnModel, findings: _Findings) -> None:
    given, whole = pipeline.qonnx_run(cell), pipeline.whole_run(cell)
    samples, golden = pipeline.samples(cell), _golden(pipeline, cell)
    compilation = pipeline.compilation(cell)
    ours, theirs = equivalence.codes_of(given), equivalence.codes_of(whole)
    outputs, expected = (run["output"].reshape(len(samples), -1).astype(np.float64) for run in (given, whole))
    findings.note(
        Evidence.PYTHON,
        samples=samples.source,
        images=len(samples),
        input_type=compilation.input_type.lower() + (" (assumed)" if compilation.assumed else ""),
        host=", ".join((*compilation.reshapes, *compilation.host)) or None,
        qonnx_top1_percent=_top1_percent(given["output"], samples.y),
    )
    if outputs.shape != expected.shape:
        raise EquivalenceError(f"QONNX gives outputs {list(outputs.shape)}, FINN's graph {list(expected.shape)}")
    same, bounds = np.ones(len(samples), np.bool_), None
    if golden is not None:
        # The graph may start with a matrix product, and so without an activation.
        inside = sum(described.endswith("(MultiThreshold)") for described in compilation.part)
        activations = pipeline.activations(cell)
        count = inside + len(activations) - len(golden.thresholds)
        if len(ours) < count:
            raise DataflowError(
                f"QONNX has {len(ours)} quantised activations that the suite knows, and FINN's graph {count}"
            )
        ours, theirs = ours[:count], theirs[:count]
        shapes = [[*codes.shape[1:]] for codes in (*ours, *theirs)]
        if shapes[:count] != shapes[count:]:
            raise DataflowError(
                f"QONNX has activations of {shapes[:count]} and FINN's graph of {shapes[count:]}, so their "
                "codes cannot be told to be the same ones; take quantisers out that only repeat another one"
            )
        off, ties, same = _compare_codes(golden.network, activations, pipeline.inputs(cell), ours)
        counts = {"codes": sum(map(np.size, ours)), "codes_off_by_float32": off, "codes_off_by_ties": ties or None}
        findings.figures |= counts
        codes = theirs[inside - 1] if inside else pipeline.inputs(cell).astype(np.int16)
        bounds = _output_bounds(pipeline, cell, golden, codes)
    elif len(ours) == len(theirs):
        off = 0
        for own, other in zip(ours, theirs, strict=True):
            differs = (own != other).reshape(len(samples), -1)
            off += int(differs.sum())
            same &= ~differs.any(axis=1)
        findings.figures |= {"codes": sum(map(np.size, ours)), "codes_off": off}
        if off:
            raise EquivalenceError(
                f"QONNX: {off} codes differ from FINN's streamlined graph, first in image {np.flatnonzero(~same)[0]}; "
                "the suite has no integers of this graph to tell whether float32 explains them"
            )
    if bounds is None:
        bounds = np.full(outputs.shape, _SHARE_WITHOUT_BOUND * np.abs(expected).max(initial=0))
    errors = np.abs(outputs - expected)
    findings.figures |= {
        "largest_output_difference": float(errors[same].max(initial=0)),
        "images_equal": int(same.sum()),
    }
    wrong = np.argwhere(~(errors <= bounds) & same[:, None])
    if len(wrong):
        image, channel = map(int, wrong[0])
        raise EquivalenceError(
            f"QONNX: the outputs of {len(np.unique(wrong[:, 0]))} of {len(samples)} images differ by more than float32 "
            f"explains; first image {image}, output {channel}: {outputs[image, channel]:.9g} instead of "
            f"{expected[image, channel]:.9g}, give or take {bounds[image, channel]:.3g}"
        )


# Below FINN's graph ---------------------------------------------------------------------------------------------------


def _differs(found: object, write: Callable[[], Path]) -> EquivalenceError:
    """The difference, and the folder that shows it; a reproducer that fails hides no difference."""
    try:
        return EquivalenceError(f"{found}\nreproducer: {write()}")
    except QnnError as error:
        return EquivalenceError(f"{found}\nno reproducer: {error}")


def _case(unlike: Unlike, nodes: Sequence[NodeValues], taken: NDArray[np.int64], model: Path) -> NodeCase:
    """The node that differs from its counterpart in the streamlined graph; `taken` is what the accelerator took."""
    node, place = nodes[unlike.place], unlike.place
    inputs = nodes[place - 1].values if place else taken
    return NodeCase(
        name=node.name,
        op_type=node.op_type,
        model=model,
        inputs=inputs.reshape(len(inputs), -1).astype(np.int64),
        expected=unlike.expected[: len(inputs)],
        story=f"{unlike}\nIts inputs are what {nodes[place - 1].name if place else 'the accelerator'} was seen to "
        f"{'give' if place else 'take'}; what is expected is of FINN's streamlined graph, executed by QONNX.",
    )


def _require_nodes(
    name: str,
    pipeline: OwnPipeline,
    cell: OwnModel,
    images: Sequence[int],
    nodes: Sequence[NodeValues],
    model: Path,
    reproducers: Path,
    cpp: Cpp | None = None,
) -> str:
    """What the nodes, which `model` has, were held against.

    Raises EquivalenceError naming the first wrong one, and a folder below `reproducers` that shows it.
    """
    if _golden(pipeline, cell) is None:
        unlike = first_unlike(name, pipeline.part_nodes(cell, images), nodes, images)
        if unlike is not None:
            case = _case(unlike, nodes, pipeline.accelerator_inputs(cell)[list(images)], model)
            raise _differs(unlike, lambda: diff.write_case(name, pipeline, cell, case, reproducers, cpp=cpp))
        return "FINN's streamlined graph, executed by QONNX"
    found = diff.first_wrong(name, pipeline, cell, images, nodes)
    if found is not None:
        raise _differs(found, lambda: diff.write_reproducer(pipeline, cell, found, model, images, reproducers, cpp=cpp))
    return "exact integers"


def _golden_hop(pipeline: OwnPipeline, cell: OwnModel, findings: _Findings) -> None:
    compilation = pipeline.compilation(cell)
    compilation.require("integers")
    # The product of two bipolar tensors is a node of another kind, and so of another name.
    names = [described.partition(" ")[0] for described in compilation.part]
    found = diff.streamlined_nodes(pipeline.graph_run(cell))
    nodes = [replace(node, name=name) for node, name in zip(found, names, strict=True)]
    images, model = range(len(pipeline.samples(cell))), pipeline.graph(cell, "streamlined")
    findings.note(Evidence.PYTHON, images=len(images), nodes=len(nodes))
    _require_nodes("streamlined graph", pipeline, cell, images, nodes, model, findings.reproducers)
    findings.figures["images_equal"] = len(images)


def _hardware(pipeline: OwnPipeline, cell: OwnModel, findings: _Findings) -> None:
    pipeline.compilation(cell).require("hardware")
    images = range(min(PYTHON_IMAGES, len(pipeline.samples(cell))))
    nodes = pipeline.graph_nodes(cell, images)
    findings.note(Evidence.PYTHON, images=len(images), nodes=len(nodes))
    model = pipeline.graph(cell, "hardware")
    findings.figures["held_against"] = _require_nodes(
        "hardware graph", pipeline, cell, images, nodes, model, findings.reproducers
    )
    findings.figures["images_equal"] = len(images)


def _cppsim(pipeline: OwnPipeline, cell: OwnModel, findings: _Findings) -> None:
    pipeline.compilation(cell).require("cppsim")
    images = pipeline.cppsim_images(cell)
    run, headers = pipeline.cppsim_run(cell, standalone_thresholds=True)
    findings.note(headers.evidence, images=len(images), nodes=len(run.nodes), host_build_s=run.build_s)
    findings.figures["held_against"] = _require_nodes(
        "cppsim", pipeline, cell, images, run.nodes, run.model, findings.reproducers, Cpp(run=run, headers=headers)
    )
    findings.figures["images_equal"] = len(images)


def _rtl(pipeline: OwnPipeline, cell: OwnModel, findings: _Findings) -> None:
    samples, golden = pipeline.samples(cell), _golden(pipeline, cell)

    def require(images: Sequence[int], nodes: Sequence[NodeValues], model: Path) -> None:
        _require_nodes("RTL", pipeline, cell, images, nodes, model, findings.reproducers)

    with diff.standstill_located(pipeline, cell, require):
        run = pipeline.device_run(cell)
    if golden is not None:
        expected = golden.network.evaluate(pipeline.inputs(cell))
        what = "exact integers"
    else:
        expected = pipeline.part_nodes(cell, range(len(samples)))[-1].values
        what = "FINN's streamlined graph, executed by QONNX"
    equal = (run.accumulators == expected).all(axis=1)
    findings.note(
        Evidence.RTLSIM,
        images=len(samples),
        images_equal=int(equal.sum()),
        held_against=what,
        rtl_top1_percent=_top1_percent(pipeline.host_outputs(cell, run.accumulators), samples.y),
        edited_files=", ".join(run.edited_files),
        host_simulate_s=run.host_s,
    )
    if golden is not None:
        diff.require_equal_rtl(pipeline, cell, expected, run.accumulators, findings.reproducers)
    elif not equal.all():
        images = np.flatnonzero(~equal)[:PYTHON_IMAGES].tolist()
        seen = f"RTL: {int((~equal).sum())} of {len(equal)} images differ, first image {images[0]}"
        nodes, model = pipeline.rtl_nodes(cell, images), pipeline.graph(cell, "folded")
        try:
            _require_nodes("RTL", pipeline, cell, images, nodes, model, findings.reproducers)
        except EquivalenceError as located:
            raise EquivalenceError(f"{seen}\n{located}") from None
        raise EquivalenceError(f"{seen}; every node is right when these images are streamed alone")


def _estimated(pipeline: OwnPipeline, cell: OwnModel) -> Sequence[LayerGeometry] | None:
    """The HLS variant of a model that has no RTL, as far as FINN can estimate it; None of one that has."""
    refused = pipeline.compilation(cell).refused
    return pipeline.hls_estimate(cell) if "rtl" in refused and "estimate" not in refused else None


def _resources(pipeline: OwnPipeline, cell: OwnModel, findings: _Findings) -> None:
    part = reference.part(pipeline.part)
    findings.figures["part"] = part.name
    if layers := _estimated(pipeline, cell):
        findings.note(Evidence.ESTIMATE, **hls_estimates(layers, part))
    synthesis, dataflow = pipeline.synthesis(cell), pipeline.dataflow(cell)
    findings.note(Evidence.SYNTHESIS, **resource_figures(synthesis, dataflow, cell.policy, part))
    findings.layers = layer_figures(synthesis, dataflow)
    over = overflows(total(node.resources for node in synthesis), part.budget)
    if over:
        beside = " beside FINN's shell" if part.beside_shell else ""
        raise EquivalenceError(f"does not fit {part.name}{beside} by {', '.join(over)}: ask a smaller folding or part")


def _throughput(pipeline: OwnPipeline, cell: OwnModel, findings: _Findings) -> None:
    if layers := _estimated(pipeline, cell):
        interval = max(layer.cycles for layer in layers)
        findings.note(
            Evidence.ESTIMATE,
            finn_estimate_interval_cycles=interval,
            finn_estimate_images_per_s=estimate.throughput_images_per_s(interval, pipeline.clock_period_ns),
        )
    run, dataflow = pipeline.device_run(cell), pipeline.dataflow(cell)
    if len(run.completions_cycles) < 2:
        raise DataflowError("an interval lies between two images, and there is but one sample: give more")
    images_per_s = estimate.throughput_images_per_s(run.interval_cycles, pipeline.clock_period_ns)
    findings.note(
        Evidence.RTLSIM,
        initiation_interval_cycles=run.interval_cycles,
        expected_interval_cycles=dataflow.interval_cycles,
        latency_cycles=run.latency_cycles,
        latency_us=run.latency_cycles * pipeline.clock_period_ns / 1e3,
        throughput_images_per_s=images_per_s,
        dram_in_megabytes_per_s=estimate.megabytes_per_s(images_per_s, run.image_bytes),
        simulated_images=len(run.completions_cycles),
    )
    if run.interval_cycles != dataflow.interval_cycles:
        shallow = ", ".join(map(str, pipeline.shallow_fifos(cell)))
        cause = f"too shallow: {shallow}" if shallow else "no FIFO is too shallow"
        raise EquivalenceError(
            f"the simulated interval is {run.interval_cycles} cycles, and the folding gives "
            f"{dataflow.interval_cycles}; {cause}; --policy balanced deepens FIFOs"
        )


_INSTEAD = {
    "golden": "the suite's integers are of chains of activations and matrix products; the hops below are held against "
    "FINN's streamlined graph, executed by QONNX",
    "hardware": "FINN maps integer layers of known kinds: see docs/own-models.md for what to change in the model",
    "cppsim": "see docs/own-models.md for what the suite's HLS headers know; finn-hlslib knows more (FINN_DEPS)",
    "rtl": "cppsim executes HLS variants; RTL needs weights of both signs, of two bits or more, and FINN has none of "
    "pools and depthwise convolutions",
    "resources": "only RTL is synthesised here; figures, if any, are FINN's estimate of the HLS variant",
    "throughput": "only RTL has cycles here; figures, if any, are FINN's estimate of the HLS variant",
}
"""What is there instead, or to do, where a hop does not run."""


HOPS: Mapping[str, Callable[[OwnPipeline, OwnModel, _Findings], None]] = {
    "qonnx": _qonnx,
    "golden": _golden_hop,
    "hardware": _hardware,
    "cppsim": _cppsim,
    "rtl": _rtl,
    "resources": _resources,
    "throughput": _throughput,
}


_AHEAD = {
    "rtl": Step.DEVICE_RUN,
    "throughput": Step.DEVICE_RUN,
    "cppsim": Step.OWN_CPPSIM,
    "resources": Step.SYNTHESIS,
}
"""What takes long of what a hop asks for, in the order in which it is started."""


def ahead(model: OwnModel, hops: Iterable[str] = HOPS) -> Task:
    """What these hops of a model will ask for, to be built ahead."""
    asked = set(hops)
    steps = dict.fromkeys(step for hop, step in _AHEAD.items() if hop in asked)
    return Task(step=Step.OWN_MODEL, cell=model, then=tuple(steps))


def run_hop(name: str, pipeline: OwnPipeline, model: OwnModel, *, reproducers: Path) -> Hop:
    """One hop of a model.

    Raises ModelError where the model or its samples cannot be taken, and DataflowError where FINN takes it nowhere:
    these are no hop's own.
    """
    pipeline.samples(model)
    findings, verdict, detail = _Findings(reproducers), Verdict.EQUAL, None
    try:
        HOPS[name](pipeline, model, findings)
    except (EquivalenceError, SimulationError) as error:  # a standstill of the RTL is one of its own
        verdict, detail = Verdict.DIFFERS, str(error)
    except QnnError as error:
        verdict, detail = Verdict.NOT_RUN, "; ".join(filter(None, [str(error), _INSTEAD.get(name)]))
    return Hop(
        name=name,
        verdict=verdict,
        evidence=findings.evidence,
        figures=findings.figures,
        layers=findings.layers,
        detail=detail,
    )
