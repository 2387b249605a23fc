"""A few images of a cell through every hop: where they are equal, and the first node that is not.

Brevitas, QONNX, FINN-ONNX           against the exact integers: float32's own differences are counted
FINN's thresholds                    against the exact ones, by the same rule
streamlined graph, hardware graph,   against FINN's integers: every node, exactly
cppsim, RTL
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qnn import equivalence, reproducer
from qnn.cell import Cell
from qnn.divergence import Divergence, first_divergence, stages
from qnn.equivalence import Codes, Products
from qnn.errors import CellError, EquivalenceError, QnnError
from qnn.pipeline import CPPSIM_IMAGES, HardwarePipeline, Pipeline, S
from qnn.tools.finn import NodeValues, finn_version

__all__ = [
    "Hop",
    "first_wrong",
    "hops",
    "require_equal_nodes",
    "require_equal_rtl",
    "streamlined_nodes",
    "write_case",
    "write_reproducer",
]


_PIXEL_BITS = 8
_LOCATED = 16
"""Images with which a wrong node is looked for, at most."""


@dataclass(frozen=True, kw_only=True)
class Hop:
    """What was found at one hop."""

    name: str
    compared: int
    """Integers."""
    float32: int
    """Of these, how many differ as float32 explains; 0 where that is no excuse."""
    difference: str | None
    """The first one that nothing explains; None where there is none."""
    divergence: Divergence | None = None
    """The same where a node of FINN's is at fault."""
    model: Path | None = None
    """An ONNX file that has that node."""
    not_run: str | None = None
    """Why the hop could not run."""


def hops(pipeline: Pipeline, cell: Cell, images: Sequence[int]) -> Iterator[Hop]:
    """Every hop of a cell with a folding, on images of the test set by their numbers, in order.

    A hop that cannot run says why, and the others go on. Raises CellError where the data set has no such image.
    """
    count = len(pipeline.images(cell))
    wrong = [image for image in images if not 0 <= image < count]
    if wrong or not images:
        raise CellError(f"{cell.dataset} has the test images 0 to {count - 1}, not {wrong or 'none'}")
    runs: dict[str, Callable[[Pipeline, Cell, Sequence[int]], Hop]] = {
        "Brevitas": _brevitas,
        "QONNX": _qonnx,
        "FINN-ONNX": _converted,
        "FINN's thresholds": _thresholds,
        "streamlined graph": _streamlined,
        "hardware graph": _hardware_graph,
        "cppsim": _cppsim,
        "cppsim, fused": _fused_cppsim,
        "RTL": _rtl,
    }
    for name, run in runs.items():
        try:
            yield run(pipeline, cell, images)
        except QnnError as error:
            yield Hop(name=name, compared=0, float32=0, difference=None, not_run=str(error))


def require_equal_rtl(
    pipeline: HardwarePipeline[S], cell: S, expected: NDArray[np.int64], got: NDArray[np.int64], reproducers: Path
) -> None:
    """Raise EquivalenceError unless the RTL's accumulators [images, classes] of the first images are the expected ones.

    It names the first wrong node, and a folder below `reproducers` that shows it without this suite.
    """
    try:
        equivalence.require_equal(expected, got, "RTL")
    except EquivalenceError as error:
        images = np.flatnonzero((expected != got).any(axis=1))[:_LOCATED].tolist()
        nodes, model = pipeline.rtl_nodes(cell, images), pipeline.graph(cell, "folded")
        try:
            require_equal_nodes("RTL", pipeline, cell, images, nodes, model, reproducers)
        except EquivalenceError as located:
            raise EquivalenceError(f"{error}\n{located}") from None
        raise EquivalenceError(f"{error}; every node is right when these images are streamed alone") from None


def require_equal_nodes(
    name: str,
    pipeline: HardwarePipeline[S],
    cell: S,
    images: Sequence[int],
    nodes: Sequence[NodeValues],
    model: Path,
    reproducers: Path,
) -> None:
    """Raise EquivalenceError unless a hop's `nodes`, which `model` has, give FINN's integers for these images.

    It names the first wrong node, and a folder below `reproducers` that shows it without this suite.
    """
    found = first_wrong(name, pipeline, cell, images, nodes)
    if found is not None:
        where = write_reproducer(pipeline, cell, found, model, images, reproducers)
        raise EquivalenceError(f"{found}\nreproducer: {where}")


def write_reproducer(
    pipeline: HardwarePipeline[S], cell: S, divergence: Divergence, model: Path, images: Sequence[int], folder: Path
) -> Path:
    """A folder below `folder` with the one wrong node of `model`, what it has to give for `images`, and a script."""
    values = stages(pipeline.hardware_model(cell).network, pipeline.inputs(cell)[list(images)])
    case = reproducer.NodeCase(
        name=divergence.node,
        op_type=divergence.op_type,
        model=model,
        inputs=values[divergence.takes],
        expected=values[divergence.gives],
        story=str(divergence),
    )
    return write_case(pipeline, cell, case, folder)


def write_case(pipeline: HardwarePipeline[S], cell: S, case: reproducer.NodeCase, folder: Path) -> Path:
    """A folder below `folder` with the node of `case`, one of `cell`, and its RTL where it is a node of RTL."""
    story = f"{cell}, FINN {finn_version()}\n{case.story}"
    case = replace(case, story=story, in_cpp=case.op_type.endswith("_hls"))
    target = folder / f"{cell}-{case.name}"
    if not case.op_type.endswith("_rtl"):
        return reproducer.write(target, case)
    layers = pipeline.dataflow(cell).layers
    place = next(k for k, layer in enumerate(layers) if layer.name == case.name)
    before, own = layers[place - 1], layers[place]
    streams = reproducer.Streams(
        input_bits=before.output_bits if place else _PIXEL_BITS,
        input_lanes=before.output_lanes if place else own.output_lanes,
        output_bits=own.output_bits,
        output_lanes=own.output_lanes,
        output_signed=own.output_signed,
    )
    design = reproducer.only_node(pipeline.simulated_design(cell), case.name)
    return reproducer.write(target, case, design, streams)


def first_wrong(
    name: str, pipeline: HardwarePipeline[S], cell: S, images: Sequence[int], nodes: Sequence[NodeValues]
) -> Divergence | None:
    """The first of a hop's `nodes` that does not give FINN's integers for these images."""
    pixels = pipeline.inputs(cell)[list(images)]
    return first_divergence(name, pipeline.hardware_model(cell).network, pixels, nodes, images)


def _against_exact(
    name: str, pipeline: Pipeline, cell: Cell, images: Sequence[int], codes: Codes, products: Products
) -> Hop:
    golden, pixels = pipeline.golden(cell), pipeline.images(cell).pixels[list(images)]
    found = equivalence.compare_forward_pass(golden, golden.trace(pixels), codes, pixels, products)
    found = replace(found, images=tuple(np.asarray(images)[rows] for rows in found.images))
    return _judged(name, found.compared, found.float32 + found.ties, lambda: found.require_explained(name))


def _judged(name: str, compared: int, float32: int, require: Callable[[], None]) -> Hop:
    difference = None
    try:
        require()
    except EquivalenceError as error:
        difference = str(error)
    return Hop(name=name, compared=compared, float32=float32, difference=difference)


def _brevitas(pipeline: Pipeline, cell: Cell, images: Sequence[int]) -> Hop:
    from qnn import inference  # torch takes seconds

    given = inference.run(pipeline.network(cell), pipeline.images(cell).pixels[list(images)])
    return _against_exact("Brevitas", pipeline, cell, images, given.codes, given.products)


def _of(images: Sequence[int], run: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Rows of some images out of what was executed on the whole test set."""
    return {name: array[list(images)] for name, array in run.items()}


def _qonnx(pipeline: Pipeline, cell: Cell, images: Sequence[int]) -> Hop:
    run = _of(images, pipeline.qonnx_run(cell))
    codes, products = equivalence.codes_of(run), equivalence.products_of(run)
    return _against_exact("QONNX", pipeline, cell, images, codes, products)


def _converted(pipeline: Pipeline, cell: Cell, images: Sequence[int]) -> Hop:
    run = _of(images, pipeline.converted_run(cell))
    products = equivalence.scaled_products_of(run, pipeline.golden(cell))
    return _against_exact("FINN-ONNX", pipeline, cell, images, equivalence.codes_of(run), products)


def _thresholds(pipeline: Pipeline, cell: Cell, images: Sequence[int]) -> Hop:
    del images  # of all images
    found = equivalence.compare_models(pipeline.golden(cell), pipeline.hardware_model(cell))
    return _judged("FINN's thresholds", found.thresholds, found.float32 + found.ties, found.require_explained)


def _exactly(
    name: str, pipeline: Pipeline, cell: Cell, images: Sequence[int], nodes: Sequence[NodeValues], model: Path
) -> Hop:
    found = first_wrong(name, pipeline, cell, images, nodes)
    compared = sum(node.values.size for node in nodes)
    difference = None if found is None else str(found)
    return Hop(name=name, compared=compared, float32=0, difference=difference, divergence=found, model=model)


def _streamlined(pipeline: Pipeline, cell: Cell, images: Sequence[int]) -> Hop:
    nodes = streamlined_nodes(_of(images, pipeline.graph_run(cell)))
    return _exactly("streamlined graph", pipeline, cell, images, nodes, pipeline.graph(cell, "streamlined"))


def streamlined_nodes(run: Mapping[str, NDArray[Any]]) -> list[NodeValues]:
    """What ``HardwarePipeline.graph_run`` gives, node by node: FINN numbers both kinds of nodes in stream order.

    The input goes into an activation first, or, where there is one less of them, into a matrix product.
    """
    codes, products = equivalence.codes_of(run), equivalence.products_of(run)
    kinds: list[tuple[str, Sequence[NDArray[Any]]]] = [("MultiThreshold", codes), ("MatMul", products)]
    if len(products) > len(codes):
        kinds.reverse()
    return [
        NodeValues(name=f"{op_type}_{k}", op_type=op_type, values=values[k].astype(np.int64))
        for k in range(max(len(codes), len(products)))
        for op_type, values in kinds
        if k < len(values)
    ]


def _hardware_graph(pipeline: Pipeline, cell: Cell, images: Sequence[int]) -> Hop:
    nodes = pipeline.graph_nodes(cell, images)
    return _exactly("hardware graph", pipeline, cell, images, nodes, pipeline.graph(cell, "hardware"))


def _cppsim(pipeline: Pipeline, cell: Cell, images: Sequence[int], *, fused: bool = False) -> Hop:
    known = max(images) < CPPSIM_IMAGES
    run, _ = pipeline.cppsim_run(cell, standalone_thresholds=not fused, images=None if known else images)
    nodes = [replace(node, values=node.values[list(images)]) if known else node for node in run.nodes]
    return _exactly("cppsim, fused" if fused else "cppsim", pipeline, cell, images, nodes, run.model)


def _fused_cppsim(pipeline: Pipeline, cell: Cell, images: Sequence[int]) -> Hop:
    """With the activations in the matrix units."""
    return _cppsim(pipeline, cell, images, fused=True)


def _rtl(pipeline: Pipeline, cell: Cell, images: Sequence[int]) -> Hop:
    nodes = pipeline.rtl_nodes(cell, images)
    return _exactly("RTL", pipeline, cell, images, nodes, pipeline.graph(cell, "folded"))
