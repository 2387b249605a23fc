"""Where a hop above FINN's integers leaves the exact ones: the nodes there, and what shows them without this suite.

These hops compute in float32: Brevitas, QONNX and FINN-ONNX before streamlining. In the graph of each, activation k is
what lies between two matrix products (or the pixels and the first), and layer k is its matrix product. Both are
judged by what the hop itself fed them with, so both can be run alone. FINN's thresholds and weights are those of its
streamlined graph, node by node.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from qnn import equivalence, integer, reproducer
from qnn.cell import Cell, Thresholds
from qnn.equivalence import Codes, CodesComparison, Products
from qnn.errors import EquivalenceError
from qnn.integer import GoldenNetwork
from qnn.parameters import PIXEL_OFFSET, PIXEL_SCALE, LayerParameters, NetworkParameters
from qnn.pipeline import Pipeline
from qnn.reproducer import NodeCase
from qnn.thresholding import Verdict, compare_thresholds
from qnn.tools.finn import HardwareModel

__all__ = ["BREVITAS", "FINN_ONNX", "QONNX", "FloatHop", "FloatRun", "require_explained", "thresholds_located"]

_SHOWN_IMAGES = 16
_SHOWN_WEIGHTS = 8
_SHOWN_STEPS = 2
"""Thresholds to either side."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatRun:
    """What a hop gave for some images."""

    codes: Codes
    products: Products
    """With the weights' scales, as equivalence.compare_forward_pass() takes them."""
    raw: Sequence[NDArray[np.float32]]
    """As the graph's own matrix products have them."""


@dataclass(frozen=True, kw_only=True)
class FloatHop:
    """A hop of float32."""

    name: str
    run: Callable[[Pipeline, Cell, Sequence[int]], FloatRun]
    """For images of the test set by their numbers."""
    model: Callable[[Pipeline, Cell], Path]
    """The graph that is nearest to it."""
    integer_weights: bool = False
    """Whether the weights' scales are multiplied by behind the graph's matrix products."""


def _brevitas(pipeline: Pipeline, cell: Cell, images: Sequence[int]) -> FloatRun:
    from qnn import inference  # torch takes seconds

    given = inference.run(pipeline.network(cell), pipeline.images(cell).pixels[list(images)])
    return FloatRun(codes=given.codes, products=given.products, raw=given.products)


def _of(images: Sequence[int], run: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Rows of some images out of what was executed on the whole test set."""
    return {name: array[list(images)] for name, array in run.items()}


def _qonnx(pipeline: Pipeline, cell: Cell, images: Sequence[int]) -> FloatRun:
    run = _of(images, pipeline.qonnx_run(cell))
    products = equivalence.products_of(run)
    return FloatRun(codes=equivalence.codes_of(run), products=products, raw=products)


def _finn_onnx(pipeline: Pipeline, cell: Cell, images: Sequence[int]) -> FloatRun:
    run = _of(images, pipeline.converted_run(cell))
    scaled = equivalence.scaled_products_of(run, pipeline.golden(cell))
    return FloatRun(codes=equivalence.codes_of(run), products=scaled, raw=equivalence.products_of(run))


def _qonnx_model(pipeline: Pipeline, cell: Cell) -> Path:
    return pipeline.qonnx(cell)


def _finn_model(pipeline: Pipeline, cell: Cell) -> Path:
    return pipeline.graph(cell, "finn")


BREVITAS = FloatHop(name="Brevitas", run=_brevitas, model=_qonnx_model)
QONNX = FloatHop(name="QONNX", run=_qonnx, model=_qonnx_model)
FINN_ONNX = FloatHop(name="FINN-ONNX", run=_finn_onnx, model=_finn_model, integer_weights=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Place:
    """The first part of a hop that differs by more than float32 explains."""

    part: str
    """``activation``, ``layer`` or ``logits``."""
    k: int
    images: NDArray[np.int64]
    channel: int | None = None
    """The first one; None where the message of the comparison has its boundary."""


def require_explained(
    hop: FloatHop,
    pipeline: Pipeline,
    cell: Cell,
    comparison: CodesComparison,
    reproducers: Path,
    logits: NDArray[np.float32] | None = None,
) -> None:
    """Raise EquivalenceError unless float32 explains all of `comparison`, and all of `logits` [images, classes].

    `comparison` is of the whole test set, or has its images' numbers. The error names the first wrong nodes, and a
    folder below `reproducers` that shows them without this suite.
    """
    golden, place = pipeline.golden(cell), _first_place(comparison)
    try:
        comparison.require_explained(hop.name)
        if logits is not None:
            exact = integer.logits(golden.parameters, comparison.last_accumulators)
            wrong = np.argwhere(~(np.abs(logits - exact) <= equivalence.logit_bound(golden)))
            place = _at("logits", len(golden.exact) - 1, wrong)
            equivalence.require_close_logits(golden, comparison.last_accumulators, logits, hop.name)
    except EquivalenceError as error:
        assert place is not None  # since something was found to differ
        case = _case(hop, pipeline, cell, place, str(error))
        folder = reproducer.folder_of(reproducers, cell, hop.name, case.name)
        raise EquivalenceError(f"{case.story}\nreproducer: {reproducer.write(folder, case)}") from None


def _at(part: str, k: int, places: NDArray[np.int64]) -> _Place | None:
    """Of `places` [wrong, 2], image and channel."""
    if not len(places):
        return None
    return _Place(part=part, k=k, images=np.unique(places[:, 0]), channel=int(places[0, 1]))


def _first_place(comparison: CodesComparison) -> _Place | None:
    """In the order of the network."""
    for k, (_, layer) in enumerate(zip_longest(comparison.activations, comparison.sums)):
        if len(images := comparison.unexplained_images(k)):
            return _Place(part="activation", k=k, images=images)
        if layer is not None and (place := _at("layer", k, layer.places)) is not None:
            return place
    return None


def _case(hop: FloatHop, pipeline: Pipeline, cell: Cell, place: _Place, told: str) -> NodeCase:
    k, images = place.k, place.images[:_SHOWN_IMAGES].tolist()
    golden, run, path = pipeline.golden(cell), hop.run(pipeline, cell, images), hop.model(pipeline, cell)
    parameters, model = golden.parameters, onnx.load(str(path))
    products = [node for node in model.graph.node if node.op_type in ("Gemm", "MatMul")]
    steps = np.array(
        [parameters.input_scale, *(layer.activation_scale for layer in parameters.layers[:-1])], np.float32
    )
    inputs: NDArray[Any]
    source, target = products[k].input[0], products[k].output[0]
    if place.part == "activation":
        source, target = products[k - 1].output[0] if k else model.graph.input[0].name, source
        pixels = pipeline.images(cell).pixels[images]
        inputs, tolerance = run.raw[k - 1] if k else pixels, np.array(steps[k] / 2, np.float64)
        expected = _explained_codes(golden, run, pixels, k) * steps[k].astype(np.float64)
    else:
        inputs, accumulators = run.codes[k].astype(np.float32) * steps[k], golden.accumulators(k + 1, run.codes[k])
        if place.part == "layer":
            unit = integer.accumulator_scales(parameters)[k] * (golden.exact[k + 1].signs if k + 1 < len(steps) else 1)
            unit = unit / parameters.layers[k].weight_scales if hop.integer_weights else unit
            expected, bounds = accumulators * unit, equivalence.sum_bounds(golden, k + 1, run.codes[k])
            tolerance = bounds * np.abs(unit)
        else:
            target = model.graph.output[0].name
            expected, tolerance = integer.logits(parameters, accumulators), equivalence.logit_bound(golden)
    nodes = reproducer.between(model.graph, source, target)
    kinds = {node.name: node.op_type for node in model.graph.node}
    story = [told, f"{place.part} {k} is {', '.join(f'{name} ({kinds[name]})' for name in nodes)} in {path.name}"]
    if place.channel is not None:
        weights = parameters.layers[k].codes[place.channel, :_SHOWN_WEIGHTS].tolist()
        story.append(f"weights of the channel {', '.join(map(str, weights))} ...")
    return NodeCase(
        name=nodes[-1],
        op_type=kinds[nodes[-1]],
        model=path,
        nodes=nodes,
        inputs=inputs,
        expected=expected,
        tolerance=tolerance,
        story="; ".join(story),
        layer=None if hop.integer_weights else _brevitas_layer(parameters, place),
    )


def _explained_codes(golden: GoldenNetwork, run: FloatRun, pixels: NDArray[np.uint8], k: int) -> NDArray[np.int64]:
    """The codes [images, channels] that activation k has to give: the exact one where float32 does not explain it."""
    comparison = equivalence.compare_forward_pass(golden, golden.trace(pixels), run.codes, pixels, run.products)
    found, codes = comparison.activations[k], run.codes[k].astype(np.int64)
    shape = (len(comparison.images[k]), codes.shape[1])
    codes[comparison.images[k]] = np.where(found.verdicts == Verdict.UNEXPLAINED, found.codes, found.other).reshape(
        shape
    )
    return codes


def _brevitas_layer(parameters: NetworkParameters, place: _Place) -> dict[str, Any]:
    """What the script makes Brevitas' modules of: a linear layer, a batch norm, an activation, each if it is there."""
    k, found = place.k, dict[str, Any]()
    if place.part != "activation":
        layer = parameters.layers[k]
        found |= {"codes": layer.codes, "weight_scales": layer.weight_scales, "weight_bits": layer.weight_bits}
        found |= {"per_channel": layer.weight_scale_per_channel, "narrow": layer.narrow_weights}
        return found | (_norm(layer) if place.part == "logits" else {})
    if k == 0:
        found |= {"pixel_scale": PIXEL_SCALE, "pixel_offset": PIXEL_OFFSET}
        return found | {"step": parameters.input_scale, "bits": parameters.input_bits, "signed": True}
    layer = parameters.layers[k - 1]
    activation = {"step": layer.activation_scale, "bits": layer.activation_bits, "signed": layer.activation_signed}
    return _norm(layer) | activation


def _norm(layer: LayerParameters) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in ("gamma", "beta", "mean", "variance", "epsilon")}


# FINN's weights and thresholds ----------------------------------------------------------------------------------------


@contextmanager
def thresholds_located(pipeline: Pipeline, cell: Cell, reproducers: Path) -> Iterator[None]:
    """An EquivalenceError of FINN's weights and thresholds, with the first wrong node of its streamlined graph.

    That is one off by more than float32 explains, or off at all where exact thresholds took the place of FINN's own.
    A folder below `reproducers` shows it.
    """
    try:
        yield
    except EquivalenceError as error:
        case = _threshold_case(pipeline, cell, cell.thresholds is Thresholds.EXACT, str(error))
        if case is None:  # the graphs differ in their structure
            raise
        folder = reproducer.folder_of(reproducers, cell, "FINN's thresholds", case.name)
        raise EquivalenceError(f"{case.story}\nreproducer: {reproducer.write(folder, case)}") from None


def _threshold_case(pipeline: Pipeline, cell: Cell, exactly: bool, told: str) -> NodeCase | None:
    """The first node of the streamlined graph whose integers are wrong."""
    golden, hardware = pipeline.golden(cell), pipeline.hardware_model(cell)
    for k, (given, due) in enumerate(zip(hardware.network.layers, golden.layers, strict=False)):
        if given.weights is not None and due.weights is not None:
            if given.weights.shape != due.weights.shape:
                return None
            gamma = golden.parameters.layers[k - 1].gamma
            wrong = (given.weights != due.weights).any(axis=1) & (gamma != 0)
            if due.thresholds is None:  # the last layer, whose channels FINN may flip
                wrong &= (given.weights != -due.weights).any(axis=1)
            if wrong.any():
                channel = int(np.flatnonzero(wrong)[0])
                rows = (weights[channel, :_SHOWN_WEIGHTS].tolist() for weights in (given.weights, due.weights))
                around = "channel {}: weights {} ... instead of {} ...".format(channel, *rows)
                expected = np.where(wrong[:, None], due.weights, given.weights).T
                unit = np.eye(given.weights.shape[1], dtype=np.int64)
                return _streamlined_case(pipeline, cell, f"MatMul_{k - 1}", unit, expected, f"{told}; {around}")
        found = None if due.thresholds is None else _wrong_codes(golden, hardware, k, exactly)
        if found is not None:
            inputs, expected, around = found
            return _streamlined_case(pipeline, cell, f"MultiThreshold_{k}", inputs, expected, f"{told}; {around}")
    return None


def _wrong_codes(
    golden: GoldenNetwork, hardware: HardwareModel, k: int, exactly: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], str] | None:
    """Accumulators [vectors, channels] where activation k gives wrong codes, the right ones, and what lies around.

    Each vector is the smallest accumulators, but for that of one wrong threshold. None where all are right.
    """
    exact, given = golden.exact[k], hardware.network.layers[k]
    comparison = compare_thresholds(exact, hardware.thresholds[k])
    wrong = np.argwhere(comparison.verdicts > (Verdict.EQUAL if exactly else Verdict.FLOAT32))[:_SHOWN_IMAGES]
    width = golden.inputs if k == 0 else len(exact.thresholds)
    inputs = np.tile(np.broadcast_to(exact.minimum, width), (max(len(wrong), 1), 1))
    if given.lowest != exact.lowest:
        return inputs, exact.codes(inputs), f"the lowest code is {given.lowest} instead of {exact.lowest}"
    if not len(wrong):
        return None
    rows, (channels, steps) = np.arange(len(wrong)), wrong.T
    inputs[rows, channels] = np.minimum(exact.thresholds, comparison.other)[channels, steps]
    expected = given.codes(inputs).astype(np.int64)
    expected[rows, channels] = exact.codes(inputs)[rows, channels]
    channel, step = map(int, wrong[0])
    near = slice(max(0, step - _SHOWN_STEPS), step + _SHOWN_STEPS + 1)
    shown = (", ".join(map(str, part[channel, near].tolist())) for part in (comparison.other, exact.thresholds))
    return inputs, expected, "channel {}: thresholds around step {} are {} instead of {}".format(channel, step, *shown)


def _streamlined_case(
    pipeline: Pipeline, cell: Cell, name: str, inputs: NDArray[np.int64], expected: NDArray[np.int64], told: str
) -> NodeCase:
    return NodeCase(
        name=name,
        op_type=name.partition("_")[0],
        model=pipeline.graph(cell, "streamlined"),
        inputs=inputs,
        expected=expected,
        story=f"{told}; node {name} of the streamlined graph",
    )
