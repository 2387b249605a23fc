"""FINN as a tool: gives ``qnn.dataflow`` its jobs and reads what it wrote."""

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qnn.cell import Folding, LayerFolding, Policy
from qnn.costs import InferenceCost
from qnn.dsp import dsp_slices
from qnn.errors import DataflowError
from qnn.hdl import TOP, HardwareDesign, HardwareNode, node_module, stitched_top
from qnn.integer import IntegerLayer, IntegerNetwork
from qnn.process import tail
from qnn.thresholding import count_thresholds
from qnn.tools import hls_headers
from qnn.tools.finn_server import finn_server
from qnn.tools.hls_headers import HlsHeaders

__all__ = [
    "CppRun",
    "DataflowModel",
    "HardwareModel",
    "Job",
    "LayerGeometry",
    "NodeSimulation",
    "NodeValues",
    "OwnCompilation",
    "SteppedRun",
    "compile_job",
    "compile_network",
    "compile_own",
    "count_inference_cost",
    "finn_version",
    "generate_thresholdings",
    "read_cpp_run",
    "read_dataflow",
    "read_design",
    "read_failure",
    "read_hardware_model",
    "read_inference_cost",
    "read_node_simulation",
    "read_nodes",
    "read_own",
    "read_own_estimate",
    "run_jobs",
    "simulate_cpp",
    "simulate_nodes",
    "step",
    "streamline_activations",
    "trace",
    "trace_job",
    "trace_nodes",
]

Job = Mapping[str, Any]
"""One job of a request (``qnn.dataflow``): its kind, the folder for its outputs, and what the kind asks for."""

DISTRIBUTION = "finn-plus"
TIME_LIMIT_S = 900.0
CPPSIM_LIMIT_S_AN_IMAGE = 10.0
"""finn-hlslib on the open ap_types is slow: a second an image and more; the suite's library takes milliseconds."""


def _integer_bits(datatype: str, what: str) -> int:
    match = re.fullmatch(r"U?INT(\d+)", datatype)
    if match is None:
        raise DataflowError(f"{what} {datatype}, not integers")
    return int(match[1])


@dataclass(frozen=True, kw_only=True)
class LayerGeometry:
    """One node of the folded graph, as ``qnn.dataflow.graph.geometry`` describes it."""

    name: str
    op_type: str
    pe: int | None
    simd: int | None
    input_type: str
    weight_type: str | None
    output_type: str
    output_lanes: int
    """Elements of one output beat."""
    output_elements: int
    """Of one image."""
    narrow_weights: bool | None
    """Whether no weight is the lowest value of its type; None for a node without weights."""
    cycles: int
    """FINN's expected cycles for one frame."""
    estimate: Mapping[str, float]
    """FINN's analytical estimate of the node's resources: LUT, DSP, BRAM_18K, URAM, ..."""
    folding: LayerFolding | None
    """Shape, asked and applied folding of a matrix unit; None for other nodes."""

    @property
    def output_signed(self) -> bool:
        """Whether the output lanes are in two's complement."""
        return not self.output_type.startswith("U")

    @property
    def output_bits(self) -> int:
        """Bits of one output lane. Raises DataflowError where the data type is no integer."""
        return _integer_bits(self.output_type, f"{self.name} gives")

    @property
    def input_bits(self) -> int:
        """Bits of one input lane. Raises DataflowError where the data type is no integer."""
        return _integer_bits(self.input_type, f"{self.name} takes")

    def dsp_slices(self, folding: Folding, multiplier_bits: int) -> int:
        """DSP slices of the RTL node at any folding, exact; `multiplier_bits` as in ``qnn.resources.Family``.

        Bit widths do not depend on the folding, so one compiled graph tells of all. Only matrix units take any.
        """
        if self.weight_type is None or self.narrow_weights is None:
            return 0
        return dsp_slices(
            pe=folding.pe,
            simd=folding.simd,
            weight_bits=_integer_bits(self.weight_type, f"{self.name} has weights of"),
            activation_bits=self.input_bits,
            narrow_weights=self.narrow_weights,
            multiplier_bits=multiplier_bits,
        )


@dataclass(frozen=True, kw_only=True)
class DataflowModel:
    """FINN's folded graph of one cell: its nodes in the order of the stream."""

    finn_version: str
    layers: tuple[LayerGeometry, ...]
    hls_layers: tuple[LayerGeometry, ...]
    """The nodes of the HLS variant with the same folding, of which FINN's estimate alone is used.

    It is what ``qnn.dataflow.graph.fold_as_hls`` says: activations fused into the matrix units, multipliers and
    thresholds in LUTs. So it has fewer nodes than `layers`.
    """

    @property
    def foldings(self) -> tuple[LayerFolding, ...]:
        """Of the matrix units, in the order of the stream."""
        return tuple(layer.folding for layer in self.layers if layer.folding is not None)

    @property
    def output_lanes(self) -> int:
        """Accumulators in one output beat."""
        return self.layers[-1].output_lanes

    @property
    def output_beats(self) -> int:
        """Output beats of one image."""
        return self.layers[-1].output_elements // self.output_lanes

    @property
    def output_bits(self) -> int:
        """Bits of one accumulator of the last layer."""
        return self.layers[-1].output_bits

    @property
    def output_signed(self) -> bool:
        """Whether the last layer's accumulators have a sign: FINN's type has none where they cannot be below 0."""
        return self.layers[-1].output_signed

    def dsp_slices(self, foldings: Sequence[LayerFolding], multiplier_bits: int) -> int:
        """DSP slices of the whole accelerator in RTL with these foldings of its matrix units, exact."""
        units = [layer for layer in self.layers if layer.folding is not None]
        return sum(
            unit.dsp_slices(folding.applied, multiplier_bits) for unit, folding in zip(units, foldings, strict=True)
        )

    @property
    def interval_cycles(self) -> int:
        """FINN's expected initiation interval: the cycles of the slowest node."""
        return max(layer.cycles for layer in self.layers)


@dataclass(frozen=True, kw_only=True, eq=False)
class HardwareModel:
    """The integers that FINN's streamlined graph computes, and the float tail that stays on the host."""

    network: IntegerNetwork
    """Weights with FINN's signs, thresholds rounded up to integers and clipped to the accumulators that occur."""
    thresholds: tuple[NDArray[np.float32], ...]
    """FINN's thresholds as it computed them [channels or 1, steps], the input layer first."""
    tail_scale: NDArray[np.float32]
    tail_bias: NDArray[np.float32]

    @property
    def why_top1_is_on_the_host(self) -> str | None:
        """Why the accelerator cannot compute top-1, or None where it can (LabelSelect, on the accumulators alone)."""
        scales, biases = np.unique(self.tail_scale), np.unique(self.tail_bias)
        if len(scales) == len(biases) == 1 and scales[0] > 0:
            return None
        return (
            f"the batch norm behind the last accumulators has {len(scales)} factors and {len(biases)} offsets for "
            f"{self.network.classes} classes, and FINN's LabelSelect compares accumulators without them"
        )

    def logits(self, accumulators: NDArray[np.int64]) -> NDArray[np.float32]:
        """Accumulators [images, classes] to logits, with the float32 operations of the graph's Mul and Add."""
        logits: NDArray[np.float32] = accumulators.astype(np.float32) * self.tail_scale + self.tail_bias
        return logits


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeValues:
    """What one node gave for some images."""

    name: str
    op_type: str
    values: NDArray[np.int64]
    """[images, channels]; fewer images than were asked for where the node stopped before."""
    cycles: int | None = None
    """Clock cycles of the last image through this node alone; None where that is not told."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeSimulation:
    """FINN's own RTL simulation of a folded graph, node by node."""

    nodes: tuple[NodeValues, ...]
    """In the order of the stream."""
    build_s: float
    """Wall-clock seconds of making every node's RTL and simulator."""
    simulate_s: float


@dataclass(frozen=True, kw_only=True)
class SteppedRun:
    """A stitched design's run by another program that drives its clock."""

    cycles: int
    host_s: float
    """Seconds of the processor."""
    output: tuple[int, ...]
    """Output beats as unsigned numbers."""

    @property
    def cycles_per_host_s(self) -> float:
        return self.cycles / max(self.host_s, 1e-6)


@dataclass(frozen=True, kw_only=True, eq=False)
class CppRun:
    """What FINN's cppsim made of some images."""

    nodes: tuple[NodeValues, ...]
    """Thresholding_hls, MVAU_hls and LabelSelect_hls, in the order of the stream."""
    model: Path
    """The graph of these nodes, for one image."""
    sources: Path
    """The C++ of these nodes, a .zip: see ``qnn.dataflow.cppsim.save_sources``."""
    input_shapes: Mapping[str, Sequence[int]]
    """{node: the shape of the array that its program takes}."""
    build_s: float
    """Wall-clock seconds that FINN and g++ took for the nodes' programs."""
    run_s: float

    @property
    def accumulators(self) -> NDArray[np.int64]:
        """[images, classes] of the last matrix unit."""
        return [node.values for node in self.nodes if node.op_type == "MVAU_hls"][-1]


def read_cpp_run(folder: Path) -> CppRun:
    """What simulate_cpp() left."""
    record = json.loads((folder / "cppsim.json").read_text())
    with np.load(folder / "cppsim.npz") as arrays:
        nodes = tuple(
            NodeValues(name=name, op_type=op_type, values=arrays[name].astype(np.int64).reshape(len(arrays[name]), -1))
            for name, op_type in record.pop("op_types").items()
        )
    return CppRun(nodes=nodes, model=folder / "hls.onnx", sources=folder / "cpp.zip", **record)


def finn_version() -> str:
    """The installed release of FINN. Raises DataflowError where there is none."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        raise DataflowError(f"FINN is not installed: pip install {DISTRIBUTION}") from None


def run_jobs(
    jobs: Sequence[Job],
    *,
    log: Path,
    timeout_s: float = TIME_LIMIT_S,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Jobs, one after another, in one process of FINN; each has its own folder, where read_failure() tells how it went.

    Raises ToolFailed or ToolTimeout where the process does not live to its end.
    """
    server = finn_server(os.environ.get("PYTHONPATH", ""))
    server.run(jobs, log=log, timeout_s=timeout_s, environment=environment or {})


def read_failure(folder: Path, *, log: Path) -> DataflowError | None:
    """What went wrong with the job whose outputs are in `folder`, None where it was done; `log` is its process'."""
    failure = folder / "error.json"
    if failure.exists():
        report = json.loads(failure.read_text())
        message = f"FINN {finn_version()} failed at the step {report['step']!r}: {report['error']}"
        # What the suite refuses in FINN's place is one sentence; what FINN itself raises often says little.
        refused = report["error"].startswith(DataflowError.__name__)
        return DataflowError(message if refused else f"{message}; its log ends:\n{tail(log)}")
    if not (folder / "done").exists():
        return DataflowError(f"FINN {finn_version()} ended before its job was done; its log ends:\n{tail(log)}")
    return None


def _run_job(job: Job, folder: Path, *, timeout_s: float, environment: Mapping[str, str] | None = None) -> None:
    """One job in a process of its own, its log in `folder` too. Raises DataflowError, ToolFailed, ToolTimeout."""
    log = folder / "finn.log"
    run_jobs([{**job, "folder": str(folder)}], log=log, timeout_s=timeout_s, environment=environment)
    failure = read_failure(folder, log=log)
    if failure is not None:
        raise failure


def compile_job(
    qonnx: Path,
    folding: Folding,
    policy: Policy,
    part: str,
    clock_period_ns: float,
    folder: Path,
    *,
    fifo_depths: Mapping[str, int] | None = None,
    thresholds: Sequence[NDArray[np.int64]] | None = None,
) -> Job:
    """The job of compile_network(); `folder` has to exist and be empty."""
    given = None if thresholds is None else folder / "thresholds.npz"
    if given is not None:
        np.savez(given, *(thresholds or ()))
    return {
        "kind": "compile",
        "folder": str(folder),
        "qonnx": str(qonnx),
        "folding": str(folding),
        "policy": str(policy),
        "part": part,
        "clock_period_ns": clock_period_ns,
        "fifo_depths": dict(fifo_depths or {}),
        "thresholds": None if given is None else str(given),
    }


def compile_own(
    qonnx: Path,
    folding: Folding,
    policy: Policy,
    part: str,
    clock_period_ns: float,
    folder: Path,
    *,
    input_type: str | None,
    scale: float,
    shift: float,
    fifo_depths: Mapping[str, int] | None = None,
    timeout_s: float = TIME_LIMIT_S,
) -> None:
    """A QONNX model from outside -> `folder`: the files that ``qnn.dataflow.jobs`` lists of the job ``own``.

    The accelerator's inputs are integers of `input_type` (a QONNX data type; None: as the model says, else UINT8),
    of which the model gets x * scale + shift.

    Raises DataflowError naming FINN's step where nothing can be compared; a later stage that FINN refuses is told by
    read_own().
    """
    job = compile_job(qonnx, folding, policy, part, clock_period_ns, folder, fifo_depths=fifo_depths)
    job = {**job, "kind": "own", "input_type": input_type, "scale": scale, "shift": shift}
    _run_job(job, folder, timeout_s=timeout_s)


@dataclass(frozen=True, kw_only=True)
class OwnCompilation:
    """How far FINN took a model from outside."""

    input_type: str
    """QONNX data type of the accelerator's inputs."""
    assumed: bool
    """Whether neither the model nor the caller says so."""
    shape: tuple[int, ...]
    """Of one image, with the batch's 1."""
    reshapes: tuple[str, ...]
    """Nodes in front that the host does."""
    host: tuple[str, ...]
    """Nodes behind the accelerator's part, which the host does."""
    part: tuple[str, ...]
    """Nodes of the accelerator's part, streamlined."""
    channels_last: bool
    """Whether the accelerator takes an image's channels last, of a model that takes them first."""
    refused: Mapping[str, str]
    """{stage: why}, of ``integers``, ``hardware``, ``cppsim``, ``rtl`` and, without RTL, ``estimate``."""

    def require(self, stage: str) -> None:
        """Raise DataflowError, with the reason, where there is no such stage."""
        if stage in self.refused:
            raise DataflowError(self.refused[stage])


def read_own(folder: Path) -> OwnCompilation:
    """What compile_own() found out."""
    record = json.loads((folder / "own.json").read_text())
    for name in ("shape", "reshapes", "host", "part"):
        record[name] = tuple(record[name])
    return OwnCompilation(**record)


@dataclass(frozen=True, kw_only=True, eq=False)
class FinnActivation:
    """An activation as FINN's graph has it: the lowest code, and one more for each threshold that is reached."""

    thresholds: NDArray[np.float64]
    """[channels or 1, steps], ascending."""
    lowest: int

    @property
    def highest(self) -> int:
        """The highest code."""
        return self.lowest + int(self.thresholds.shape[1])

    def codes(self, accumulators: NDArray[np.int64]) -> NDArray[np.int64]:
        """Codes of accumulators [images, channels]."""
        return self.lowest + count_thresholds(accumulators, self.thresholds)


def read_own_activation(folder: Path) -> FinnActivation | None:
    """The activation right behind the accelerator's part, which the host does; None without one."""
    if not (folder / "host_activation.npz").exists():
        return None
    with np.load(folder / "host_activation.npz") as arrays:
        return FinnActivation(thresholds=arrays["thresholds"].astype(np.float64), lowest=int(arrays["lowest"]))


def read_own_estimate(folder: Path) -> tuple[LayerGeometry, ...]:
    """The nodes of the HLS variant of a model that has no RTL."""
    return tuple(map(_layer, json.loads((folder / "estimate.json").read_text())))


def trace_job(model: Path, inputs: Path, folder: Path) -> Job:
    """The job of trace(), its inputs in a .npy file; `folder` has to exist and be empty."""
    return {"kind": "trace", "folder": str(folder), "model": str(model), "inputs": str(inputs)}


def _run_job_on(inputs: NDArray[Any], job: Mapping[str, Any], folder: Path, *, timeout_s: float) -> None:
    """_run_job() of a job that takes an array."""
    with tempfile.TemporaryDirectory(prefix="finn-") as scratch:
        path = Path(scratch) / "inputs.npy"
        np.save(path, inputs)
        _run_job({**job, "inputs": str(path)}, folder, timeout_s=timeout_s)


def compile_network(
    qonnx: Path,
    folding: Folding,
    policy: Policy,
    part: str,
    clock_period_ns: float,
    folder: Path,
    *,
    fifo_depths: Mapping[str, int] | None = None,
    thresholds: Sequence[NDArray[np.int64]] | None = None,
    timeout_s: float = TIME_LIMIT_S,
) -> None:
    """QONNX -> `folder`: the files that ``qnn.dataflow.jobs`` lists, and finn.log.

    FIFOs that `fifo_depths` does not name have FINN's default depth. `thresholds` [channels or 1, steps] of each
    activation, after FINN's sign flips, are put in place of FINN's own.

    Raises DataflowError naming FINN's step, or ToolTimeout.
    """
    job = compile_job(
        qonnx, folding, policy, part, clock_period_ns, folder, fifo_depths=fifo_depths, thresholds=thresholds
    )
    _run_job(job, folder, timeout_s=timeout_s)


def trace(model: Path, inputs: NDArray[Any], folder: Path, *, timeout_s: float = TIME_LIMIT_S) -> None:
    """Let QONNX execute an ONNX file with QONNX or FINN nodes on a batch -> `folder`: trace.npz, finn.log.

    trace.npz holds ``codes_<k>`` int16 [N, ...], the integer codes of the k-th quantised activation, and ``output``.
    """
    _run_job_on(inputs, {"kind": "trace", "model": str(model)}, folder, timeout_s=timeout_s)


def trace_nodes(model: Path, inputs: NDArray[Any], folder: Path, *, timeout_s: float = TIME_LIMIT_S) -> None:
    """Let FINN execute an ONNX file of hardware nodes in Python, image by image -> `folder`: nodes.npz, finn.log.

    nodes.npz holds ``node_<k>`` int64 [N, elements], what the k-th node gives, ``names`` and ``op_types``.
    """
    _run_job_on(inputs, {"kind": "nodes", "model": str(model)}, folder, timeout_s=timeout_s)


def simulate_nodes(
    model: Path,
    images: NDArray[np.uint8],
    part: str,
    clock_period_ns: float,
    folder: Path,
    *,
    simulator: str,
    cache: Path,
    timeout_s: float = TIME_LIMIT_S,
) -> None:
    """FINN's node-by-node RTL simulation of a folded graph -> `folder`: nodes.npz, rtlsim.json, finn.log.

    `simulator` is ``verilator`` or ``vivado``; `cache` keeps Verilator's libraries of nodes by their content.
    """
    job = {"kind": "rtlsim", "model": str(model), "part": part, "clock_period_ns": clock_period_ns}
    _run_job_on(images, {**job, "simulator": simulator, "cache": str(cache)}, folder, timeout_s=timeout_s)


def read_nodes(folder: Path) -> tuple[NodeValues, ...]:
    """What trace_nodes() or simulate_nodes() left, in the order of the graph."""
    with np.load(folder / "nodes.npz") as arrays:
        return tuple(
            NodeValues(name=str(name), op_type=str(op_type), values=arrays[f"node_{k}"])
            for k, (name, op_type) in enumerate(zip(arrays["names"], arrays["op_types"], strict=True))
        )


def read_node_simulation(folder: Path) -> NodeSimulation:
    """What simulate_nodes() found."""
    record = json.loads((folder / "rtlsim.json").read_text())
    timed = zip(read_nodes(folder), record.pop("cycles"), strict=True)
    return NodeSimulation(nodes=tuple(replace(node, cycles=cycles) for node, cycles in timed), **record)


def step(
    library: Path,
    frames: NDArray[np.uint8],
    *,
    input_bytes: int,
    output_beats: int,
    folder: Path,
    timeout_s: float = TIME_LIMIT_S,
) -> tuple[SteppedRun, SteppedRun]:
    """`frames` [N, bytes] through a stitched design's library: by FINN's SimEngine in Python, and by its own loop.

    `output_beats` are those of one frame; `folder` gets step.json and finn.log.
    """
    job = {"kind": "step", "library": str(library), "input_bytes": input_bytes, "output_beats": output_beats}
    _run_job_on(frames, job, folder, timeout_s=timeout_s)
    record = json.loads((folder / "step.json").read_text())
    engine, loop = (
        SteppedRun(**{**record[name], "output": tuple(int(beat, 16) for beat in record[name]["output"])})
        for name in ("engine", "loop")
    )
    return engine, loop


def count_inference_cost(model: Path, folder: Path, *, timeout_s: float = TIME_LIMIT_S) -> None:
    """QONNX's inference cost of a streamlined graph -> `folder`: cost.json, finn.log."""
    _run_job({"kind": "cost", "model": str(model)}, folder, timeout_s=timeout_s)


def simulate_cpp(
    streamlined: Path,
    inputs: NDArray[Any],
    folding: Folding,
    policy: Policy,
    part: str,
    clock_period_ns: float,
    folder: Path,
    *,
    headers: HlsHeaders,
    npy_library: Path,
    standalone_thresholds: bool,
    top1: bool = False,
    batch_images: int = 200,
    timeout_s: float | None = None,
) -> None:
    """A streamlined graph as HLS nodes, compiled and run by FINN on `inputs` [N, ...] -> `folder`: see read_cpp_run().

    `top1` adds top-1 to the accelerator. One process of each node takes `batch_images` images. `npy_library` is what
    hls_headers.build_npy_library() made. The time limit is by default that of any job and some seconds an image.

    Raises DataflowError naming FINN's step, or ToolTimeout.
    """
    with tempfile.TemporaryDirectory(prefix="cppsim-") as scratch:
        path, place = Path(scratch) / "inputs.npy", Path(scratch) / "headers"
        np.save(path, inputs)
        place.mkdir()
        job = {
            "kind": "cppsim",
            "model": str(streamlined),
            "inputs": str(path),
            "images": min(batch_images, len(inputs)),
            "folding": str(folding),
            "policy": str(policy),
            "part": part,
            "clock_period_ns": clock_period_ns,
            "standalone_thresholds": standalone_thresholds,
            "top1": top1,
            "finn_hlslib": str(headers.finn_deps / "finn-hlslib") if headers.finn_deps else None,
        }
        environment = hls_headers.environment(headers, npy_library, place)
        limit_s = timeout_s or TIME_LIMIT_S + CPPSIM_LIMIT_S_AN_IMAGE * len(inputs)
        _run_job(job, folder, timeout_s=limit_s, environment=environment)


def generate_thresholdings(
    shapes: Sequence[Mapping[str, Any]],
    part: str,
    clock_period_ns: float,
    folder: Path,
    *,
    timeout_s: float = TIME_LIMIT_S,
) -> None:
    """HDL of stand-alone Thresholding nodes -> `folder`: rtl.json, finn.log.

    A shape holds the arguments of ``qnn.dataflow.thresholding.generate``, its thresholds as lists.
    """
    job = {"kind": "thresholding", "shapes": list(shapes), "part": part, "clock_period_ns": clock_period_ns}
    _run_job(job, folder, timeout_s=timeout_s)


def streamline_activations(
    layers: Sequence[Mapping[str, Any]], folder: Path, *, timeout_s: float = TIME_LIMIT_S
) -> None:
    """FINN's thresholds of activations alone -> `folder`: <k>.npz of each layer, finn.log.

    A layer holds the arguments of ``qnn.dataflow.thresholding.streamline``, which says what the files hold.
    """
    with tempfile.TemporaryDirectory(prefix="finn-") as scratch:
        records = []
        for k, layer in enumerate(layers):
            path = Path(scratch) / f"{k}.npz"
            np.savez(path, **layer["arrays"])
            records.append({**layer, "arrays": str(path)})
        _run_job({"kind": "activations", "layers": records}, folder, timeout_s=timeout_s)


def _layer(fields: dict[str, Any]) -> LayerGeometry:
    folding = None
    if "inputs" in fields:
        folding = LayerFolding(
            inputs=fields.pop("inputs"),
            outputs=fields.pop("outputs"),
            vectors=fields.pop("vectors"),
            asked=Folding(pe=fields.pop("asked_pe"), simd=fields.pop("asked_simd")),
            applied=Folding(pe=fields["pe"], simd=fields["simd"]),
        )
    return LayerGeometry(**fields, folding=folding)


def read_dataflow(folder: Path) -> DataflowModel:
    """What compile_network() found out about the folded graph."""
    record = json.loads((folder / "dataflow.json").read_text())
    layers, hls_layers = (tuple(map(_layer, record[name])) for name in ("layers", "hls_layers"))
    return DataflowModel(finn_version=record["finn_version"], layers=layers, hls_layers=hls_layers)


def read_inference_cost(folder: Path) -> InferenceCost:
    """What count_inference_cost() found."""
    return InferenceCost(**json.loads((folder / "cost.json").read_text()))


def read_hardware_model(folder: Path, *, as_finn_made_it: bool = False) -> HardwareModel:
    """The hardware integer model that compile_network() read from FINN's streamlined graph.

    With `as_finn_made_it` that is before thresholds were replaced, where they were.

    A step counts where accumulator >= threshold, and accumulators are integers: rounding thresholds up changes
    nothing, nor does clipping them to [minimum, maximum + 1] of the accumulators that can occur.
    """
    before = folder / "finn_integers.npz"
    with np.load(before if as_finn_made_it and before.exists() else folder / "integers.npz") as arrays:
        depth = sum(name.startswith("weights_") for name in arrays)
        thresholds = tuple(arrays[f"thresholds_{k}"] for k in range(depth))
        weights = [None, *(arrays[f"weights_{k}"] for k in range(depth))]
        offsets = [arrays.get(f"offsets_{k}") for k in range(-1, depth)]
        lowest_codes = [int(arrays[f"lowest_code_{k}"]) for k in range(depth)]
        tail_scale, tail_bias = arrays["tail_scale"], arrays["tail_bias"]
        first, last = map(int, arrays["input_range"])
    layers, low, high = [], first, last
    for matrix, offset, steps, lowest in zip(weights, offsets, thresholds, lowest_codes, strict=False):
        product = IntegerLayer(weights=matrix, thresholds=None, offsets=offset) if matrix is not None else None
        minimum, maximum = product.accumulator_range(low, high) if product else (np.array([low]), np.array([high]))
        clipped = np.clip(np.ceil(steps.astype(np.float64)), minimum[:, None], maximum[:, None] + 1)
        whole = clipped.astype(np.int64)
        layers.append(IntegerLayer(weights=matrix, thresholds=whole, lowest=lowest, offsets=offset))
        low, high = lowest, layers[-1].highest
    layers.append(IntegerLayer(weights=weights[-1], thresholds=None, offsets=offsets[-1]))
    network = IntegerNetwork(layers=tuple(layers), input_range=(first, last))
    return HardwareModel(network=network, thresholds=thresholds, tail_scale=tail_scale, tail_bias=tail_bias)


def read_design(folder: Path) -> HardwareDesign:
    """FINN's RTL as compile_network() left it, unedited, with the suite's own modules that join the nodes."""
    record = json.loads((folder / "rtl.json").read_text())
    files: dict[str, str] = dict(record["files"])
    nodes = []
    for fields in record["nodes"]:
        joined = f"{fields['name']}/node.sv"
        node = HardwareNode(**{**fields, "sources": (*fields["sources"], joined)})
        files[joined] = node_module(node)
        nodes.append(node)
    files[f"{TOP}.sv"] = stitched_top(tuple(nodes))
    return HardwareDesign(files=files, nodes=tuple(nodes), finn_version=record["finn_version"])
