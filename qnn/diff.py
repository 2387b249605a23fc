"""A few images of a cell through every hop: where they are equal, and the first node that is not.

Brevitas, QONNX, FINN-ONNX           against the exact integers: float32's own differences are counted
FINN's thresholds                    against the exact ones, by the same rule
streamlined graph, hardware graph,   against FINN's integers: every node, exactly
cppsim, RTL
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from qnn import equivalence, float_hops, reproducer
from qnn.cell import Cell
from qnn.divergence import Divergence, first_divergence, stages
from qnn.errors import CellError, DeadlockError, EquivalenceError, QnnError, SimulationError
from qnn.float_hops import FloatHop
from qnn.hdl import HardwareDesign
from qnn.nodes import STALLS, NodeFunction, check_node, node_functions
from qnn.pipeline import CPPSIM_IMAGES, DeviceRun, HardwarePipeline, Pipeline, S
from qnn.reproducer import Cpp, NodeCase, Rtl, Streams
from qnn.tools.finn import NodeValues, finn_version

__all__ = [
    "Hop",
    "first_wrong",
    "hops",
    "require_equal_graph",
    "require_equal_netlist",
    "require_equal_nodes",
    "require_equal_rtl",
    "require_nodes_alone",
    "run_on_device",
    "standstill_located",
    "streamlined_nodes",
    "write_case",
    "write_reproducer",
]

T = TypeVar("T")

_BYTE_BITS = 8
_LOCATED = 16
"""Images with which a wrong node is looked for, at most; a reproducer has so many to either side of the first one."""


@dataclass(frozen=True, kw_only=True)
class Hop:
    """What was found at one hop."""

    name: str
    compared: int
    """Integers."""
    float32: int
    """Of these, how many differ as float32 explains; 0 where that is no excuse."""
    difference: str | None
    """The first one that nothing explains, with what shows it without this suite; None where there is none."""
    not_run: str | None = None
    """Why the hop could not run."""


def hops(pipeline: Pipeline, cell: Cell, images: Sequence[int], reproducers: Path) -> Iterator[Hop]:
    """Every hop of a cell with a folding, on images of the test set by their numbers, in order.

    Where one differs it leaves a folder below `reproducers` that shows it without this suite. A hop that cannot run
    says why, and the others go on. Raises CellError where the data set has no such image.
    """
    count = len(pipeline.images(cell))
    images = sorted(set(images))
    wrong = [image for image in images if not 0 <= image < count]
    if wrong or not images:
        raise CellError(f"{cell.dataset} has the test images 0 to {count - 1}, not {wrong or 'none'}")
    runs: dict[str, Callable[[Pipeline, Cell, Sequence[int], Path], Hop]] = {
        **{
            hop.name: partial(_against_exact, hop)
            for hop in (float_hops.BREVITAS, float_hops.QONNX, float_hops.FINN_ONNX)
        },
        "FINN's thresholds": _thresholds,
        "streamlined graph": _streamlined,
        "hardware graph": _hardware_graph,
        "cppsim": _cppsim,
        "cppsim, fused": partial(_cppsim, fused=True),
        "RTL": _rtl,
    }
    for name, run in runs.items():
        try:
            yield run(pipeline, cell, images, reproducers)
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
        if expected.shape != got.shape:
            raise
        images = np.flatnonzero((expected != got).any(axis=1))[:_LOCATED].tolist()
        nodes, model = pipeline.rtl_nodes(cell, images), pipeline.graph(cell, "folded")
        try:
            require_equal_nodes("RTL", pipeline, cell, images, nodes, model, reproducers)
        except EquivalenceError as located:
            raise EquivalenceError(f"{error}\n{located}") from None
        told = f"{error}; every node is right when these images are streamed alone"
        design = pipeline.simulated_design(cell)
        where = _write_whole(pipeline, cell, expected[: images[-1] + 1], told, design, "RTL", reproducers)
        raise EquivalenceError(f"{told}\nreproducer: {where}") from None


@contextmanager
def standstill_located(
    pipeline: HardwarePipeline[S], cell: S, require: Callable[[Sequence[int], Sequence[NodeValues], Path], object]
) -> Iterator[None]:
    """Has a DeadlockError of the accelerator name the first wrong node, where the first images come to it.

    `require` is asked of these images, of what the nodes of the RTL gave for them, and of their graph: its
    EquivalenceError is what is added.
    """
    try:
        yield
    except DeadlockError as error:
        images = range(min(_LOCATED, len(pipeline.inputs(cell))))
        try:
            require(images, pipeline.rtl_nodes(cell, images), pipeline.graph(cell, "folded"))
        except EquivalenceError as located:
            raise DeadlockError(f"{error}\n{located}") from None
        raise


def run_on_device(pipeline: HardwarePipeline[S], cell: S, reproducers: Path) -> DeviceRun:
    """The pipeline's device_run(), with the node named that a standstill begins at, and a folder that shows it."""

    def require(images: Sequence[int], nodes: Sequence[NodeValues], model: Path) -> None:
        require_equal_nodes("RTL", pipeline, cell, images, nodes, model, reproducers)

    with standstill_located(pipeline, cell, require):
        return pipeline.device_run(cell)


def require_equal_nodes(
    name: str,
    pipeline: HardwarePipeline[S],
    cell: S,
    images: Sequence[int],
    nodes: Sequence[NodeValues],
    model: Path,
    reproducers: Path,
    *,
    cpp: Cpp | None = None,
    netlist: HardwareDesign | None = None,
) -> None:
    """Raise EquivalenceError unless a hop's `nodes`, which `model` has, give FINN's integers for these images.

    It names the first wrong node, and a folder below `reproducers` that shows it without this suite. `cpp` is the run
    that the nodes are from, where it was of C++, and `netlist` the accelerator's, where it was that.
    """
    found = first_wrong(name, pipeline, cell, images, nodes)
    if found is not None:
        where = write_reproducer(pipeline, cell, found, model, images, reproducers, cpp=cpp, netlist=netlist)
        raise EquivalenceError(f"{found}\nreproducer: {where}")


def require_equal_graph(
    pipeline: HardwarePipeline[S], cell: S, images: Sequence[int], run: Mapping[str, NDArray[Any]], reproducers: Path
) -> None:
    """The same of the streamlined graph, as graph_run() has it for these images, and of what is left to the host."""
    name, model, hardware = "streamlined graph", pipeline.graph(cell, "streamlined"), pipeline.hardware_model(cell)
    nodes = streamlined_nodes(run)
    require_equal_nodes(name, pipeline, cell, images, nodes, model, reproducers)
    accumulators = nodes[-1].values
    expected, got = hardware.logits(accumulators), run["output"]
    wrong = np.argwhere(~(got == expected))  # what is not a number is not equal
    if len(wrong):
        row, channel = map(int, wrong[0])
        graph = onnx.load(str(model)).graph
        last = [node for node in graph.node if node.op_type == "MatMul"][-1]
        tail = reproducer.between(graph, last.output[0], graph.output[0].name)
        shown = slice(max(0, row - _LOCATED), row + _LOCATED)
        told = (
            f"{name}: the first wrong nodes are {', '.join(tail)}, in {len(np.unique(wrong[:, 0]))} of {len(images)} "
            f"images; image {images[row]}, channel {channel}: expected {expected[row, channel]:.9g}, got "
            f"{got[row, channel]:.9g}; the accumulator is {accumulators[row, channel]}, the factor "
            f"{np.broadcast_to(hardware.tail_scale, got.shape)[row, channel]:.9g}, the offset "
            f"{np.broadcast_to(hardware.tail_bias, got.shape)[row, channel]:.9g}"
        )
        case = NodeCase(
            name=tail[-1],
            op_type=tail[-1].partition("_")[0],
            model=model,
            nodes=tail,
            inputs=accumulators[shown],
            expected=expected[shown],
            story=_story(cell, told),
        )
        where = reproducer.write(reproducer.folder_of(reproducers, cell, name, case.name), case)
        raise EquivalenceError(f"{told}\nreproducer: {where}")


def require_equal_netlist(
    pipeline: HardwarePipeline[S], cell: S, rtl: DeviceRun, run: DeviceRun, reproducers: Path
) -> None:
    """Raise EquivalenceError unless a netlist gives what its RTL gives for the first images, in the same cycles.

    It names the first wrong node, and a folder below `reproducers` with its netlist, or with the whole accelerator's
    where only that shows it.
    """
    count = len(run.accumulators)
    expected, cycles = rtl.accumulators[:count], rtl.completions_cycles[:count]
    try:
        equivalence.require_equal(expected, run.accumulators, "netlist")
        equivalence.require_equal(cycles[:, None], run.completions_cycles[:, None], "cycles of the netlist")
    except EquivalenceError as error:
        told = str(error)
    else:
        return
    netlist = pipeline.netlist_design(cell)
    images = np.flatnonzero((expected != run.accumulators).any(axis=1))[:_LOCATED].tolist()
    if images:
        nodes = pipeline.rtl_nodes(cell, images, simulator=pipeline.netlist_simulator(cell))
        try:
            model = pipeline.graph(cell, "folded")
            require_equal_nodes("netlist", pipeline, cell, images, nodes, model, reproducers, netlist=netlist)
        except EquivalenceError as located:
            raise EquivalenceError(f"{told}\n{located}") from None
    where = _write_whole(pipeline, cell, expected, told, netlist, "netlist", reproducers, cycles)
    raise EquivalenceError(f"{told}; no node alone is wrong\nreproducer: {where}")


def _write_whole(
    pipeline: HardwarePipeline[S],
    cell: S,
    expected: NDArray[np.int64],
    told: str,
    design: HardwareDesign,
    kind: str,
    reproducers: Path,
    cycles: NDArray[np.int64] | None = None,
) -> Path:
    """A folder with the whole accelerator and the first images, for what no node shows alone."""
    dataflow = pipeline.dataflow(cell)
    streams = Streams(
        input_bits=_BYTE_BITS,
        input_lanes=design.input_bits // _BYTE_BITS,
        output_bits=dataflow.output_bits,
        output_lanes=dataflow.output_lanes,
        output_signed=dataflow.output_signed,
    )
    completions = None if cycles is None else [int(cycle) for cycle in cycles]
    case = NodeCase(
        name=kind,
        op_type="the whole accelerator",
        model=None,
        inputs=pipeline.frames(cell, slice(len(expected))),
        expected=expected,
        story=_story(cell, told),
        rtl=Rtl(design=design, kind=kind, streams=streams, completions_cycles=completions),
    )
    return reproducer.write(reproducer.folder_of(reproducers, cell, kind, "whole"), case)


def require_nodes_alone(
    checks: Callable[[], T], pipeline: HardwarePipeline[S], cell: S, reproducers: Path, *, netlist: bool = False
) -> T:
    """What node_checks(), or netlist_node_checks() where `netlist`, gives; its errors with a reproducer of the node.

    Raises EquivalenceError.
    """
    try:
        return checks()
    except (EquivalenceError, SimulationError):
        alone = pipeline.netlist_alone if netlist else pipeline.node_alone
        for name, function in node_functions(pipeline.dataflow(cell), pipeline.hardware_model(cell)).items():
            node = alone(cell, name)
            try:
                check_node(function, pipeline.node_simulator(node), node.memories)
            except (EquivalenceError, SimulationError) as error:
                kind = "netlist" if netlist else "RTL"
                design = pipeline.netlist_design(cell) if netlist else pipeline.simulated_design(cell)
                case = NodeCase(
                    name=name,
                    op_type=design.node(name).op_type,
                    model=pipeline.graph(cell, "folded"),
                    inputs=function.directed_vectors(),
                    expected=function.evaluate(function.directed_vectors()),
                    story=_story(cell, f"{kind} of a node alone: {error}"),
                    rtl=_rtl_alone(reproducer.only_node(design, name), kind, function),
                )
                where = reproducer.write(reproducer.folder_of(reproducers, cell, f"{kind} alone", name), case)
                raise EquivalenceError(f"{error}\nreproducer: {where}") from None
        raise


def _rtl_alone(design: HardwareDesign, kind: str, function: NodeFunction) -> Rtl:
    """What check_node() asks of a node's design."""
    streams = Streams(
        input_bits=function.input.bits,
        input_lanes=function.input.lanes,
        output_bits=function.output.bits,
        output_lanes=function.output.lanes,
        output_signed=function.output.signed,
    )
    return Rtl(design=design, kind=kind, streams=streams, stalls=STALLS, interval_cycles=function.interval_cycles)


def _story(cell: object, told: str) -> str:
    return f"{cell}, FINN {finn_version()}\n{told}"


def write_reproducer(
    pipeline: HardwarePipeline[S],
    cell: S,
    divergence: Divergence,
    model: Path,
    images: Sequence[int],
    folder: Path,
    *,
    cpp: Cpp | None = None,
    netlist: HardwareDesign | None = None,
) -> Path:
    """A folder below `folder` with the one wrong node of `model`, what it has to give for `images`, and a script.

    It has the images around the first wrong one. `cpp` and `netlist` as for require_equal_nodes().
    """
    place = list(images).index(divergence.image)
    images = images[max(0, place - _LOCATED) : place + _LOCATED]
    values = stages(pipeline.hardware_model(cell).network, pipeline.inputs(cell)[list(images)])
    case = NodeCase(
        name=divergence.node,
        op_type=divergence.op_type,
        model=model,
        inputs=values[divergence.takes],
        expected=values[divergence.gives],
        story=str(divergence),
    )
    return write_case(divergence.hop, pipeline, cell, case, folder, cpp=cpp, netlist=netlist)


def write_case(
    hop: str,
    pipeline: HardwarePipeline[S],
    cell: S,
    case: NodeCase,
    folder: Path,
    *,
    cpp: Cpp | None = None,
    netlist: HardwareDesign | None = None,
) -> Path:
    """A folder below `folder` with the node of `case`, one of `cell`, with its RTL or C++ where it is a node of such.

    `cpp` and `netlist` as for require_equal_nodes().
    """
    case = replace(
        case,
        story=_story(cell, case.story),
        # What gathers windows is of RTL alone, and is executed in Python among nodes of C++.
        rtl=_node_rtl(pipeline, cell, case.name, netlist) if case.op_type.endswith("_rtl") and cpp is None else None,
        cpp=cpp if case.op_type.endswith("_hls") else None,
    )
    return reproducer.write(reproducer.folder_of(folder, cell, hop, case.name), case)


def _node_rtl(pipeline: HardwarePipeline[S], cell: S, name: str, netlist: HardwareDesign | None) -> Rtl:
    layers = pipeline.dataflow(cell).layers
    place = next(k for k, layer in enumerate(layers) if layer.name == name)
    before, own = layers[place - 1], layers[place]
    return Rtl(
        design=reproducer.only_node(netlist or pipeline.simulated_design(cell), name),
        kind="netlist" if netlist else "RTL",
        streams=Streams(
            input_bits=own.input_bits,
            input_lanes=before.output_lanes if place else own.output_lanes,
            output_bits=own.output_bits,
            output_lanes=own.output_lanes,
            output_signed=own.output_signed,
        ),
    )


def first_wrong(
    name: str, pipeline: HardwarePipeline[S], cell: S, images: Sequence[int], nodes: Sequence[NodeValues]
) -> Divergence | None:
    """The first of a hop's `nodes` that does not give FINN's integers for these images."""
    pixels = pipeline.inputs(cell)[list(images)]
    return first_divergence(name, pipeline.hardware_model(cell).network, pixels, nodes, images)


def _judged(name: str, compared: int, float32: int, require: Callable[[], object]) -> Hop:
    difference = None
    try:
        require()
    except EquivalenceError as error:
        difference = str(error)
    return Hop(name=name, compared=compared, float32=float32, difference=difference)


def _against_exact(hop: FloatHop, pipeline: Pipeline, cell: Cell, images: Sequence[int], reproducers: Path) -> Hop:
    golden, pixels = pipeline.golden(cell), pipeline.images(cell).pixels[list(images)]
    run = hop.run(pipeline, cell, images)
    found = equivalence.compare_forward_pass(golden, golden.trace(pixels), run.codes, pixels, run.products)
    require = partial(float_hops.require_explained, hop, pipeline, cell, found.of_images(images), reproducers)
    return _judged(hop.name, found.compared, found.float32 + found.ties, require)


def _thresholds(pipeline: Pipeline, cell: Cell, images: Sequence[int], reproducers: Path) -> Hop:
    del images  # of all images
    name, count = "FINN's thresholds", sum(map(np.size, pipeline.hardware_model(cell).thresholds))
    try:
        with float_hops.thresholds_located(pipeline, cell, reproducers):
            found = equivalence.compare_models(pipeline.golden(cell), pipeline.hardware_model(cell))
            found.require_explained()
    except EquivalenceError as error:
        return Hop(name=name, compared=count, float32=0, difference=str(error))
    return Hop(name=name, compared=count, float32=found.float32 + found.ties, difference=None)


def _streamlined(pipeline: Pipeline, cell: Cell, images: Sequence[int], reproducers: Path) -> Hop:
    run = {name: array[list(images)] for name, array in pipeline.graph_run(cell).items()}
    compared = sum(node.values.size for node in streamlined_nodes(run))
    require = partial(require_equal_graph, pipeline, cell, images, run, reproducers)
    return _judged("streamlined graph", compared, 0, require)


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


def _exactly(
    name: str,
    pipeline: Pipeline,
    cell: Cell,
    images: Sequence[int],
    nodes: Sequence[NodeValues],
    model: Path,
    reproducers: Path,
    cpp: Cpp | None = None,
) -> Hop:
    require = partial(require_equal_nodes, name, pipeline, cell, images, nodes, model, reproducers, cpp=cpp)
    return _judged(name, sum(node.values.size for node in nodes), 0, require)


def _hardware_graph(pipeline: Pipeline, cell: Cell, images: Sequence[int], reproducers: Path) -> Hop:
    nodes, model = pipeline.graph_nodes(cell, images), pipeline.graph(cell, "hardware")
    return _exactly("hardware graph", pipeline, cell, images, nodes, model, reproducers)


def _cppsim(pipeline: Pipeline, cell: Cell, images: Sequence[int], reproducers: Path, *, fused: bool = False) -> Hop:
    """`fused`: with the activations in the matrix units."""
    known = max(images) < CPPSIM_IMAGES
    run, headers = pipeline.cppsim_run(cell, standalone_thresholds=not fused, images=None if known else images)
    nodes = [replace(node, values=node.values[list(images)]) if known else node for node in run.nodes]
    name, cpp = "cppsim, fused" if fused else "cppsim", Cpp(run=run, headers=headers)
    return _exactly(name, pipeline, cell, images, nodes, run.model, reproducers, cpp)


def _rtl(pipeline: Pipeline, cell: Cell, images: Sequence[int], reproducers: Path) -> Hop:
    nodes, model = pipeline.rtl_nodes(cell, images), pipeline.graph(cell, "folded")
    return _exactly("RTL", pipeline, cell, images, nodes, model, reproducers)
