"""FINN as a tool: starts ``python -m qnn.dataflow`` in an interpreter that has FINN and reads what it wrote."""

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qnn.cell import Folding
from qnn.errors import DataflowError
from qnn.hdl import TOP, HardwareDesign, HardwareNode, node_module, stitched_top
from qnn.integer import IntegerLayer, IntegerNetwork
from qnn.process import run

__all__ = [
    "DataflowModel",
    "HardwareModel",
    "LayerGeometry",
    "compile_network",
    "execute",
    "finn_version",
    "read_dataflow",
    "read_design",
    "read_hardware_model",
]

DISTRIBUTION = "finn-plus"
TIME_LIMIT_S = 900.0
PIXEL_MAXIMUM = 255
_ROOT = Path(__file__).parents[2]


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
    cycles: int
    """FINN's expected cycles for one frame."""
    estimate: Mapping[str, float]
    """FINN's analytical estimate of the node's resources: LUT, DSP, BRAM_18K, URAM, ..."""
    inputs: int | None = None
    outputs: int | None = None
    asked_pe: int | None = None
    asked_simd: int | None = None

    @property
    def is_matrix_unit(self) -> bool:
        return self.inputs is not None

    @property
    def clamped(self) -> bool:
        """Whether the folding that was asked for was not legal for this layer."""
        return self.is_matrix_unit and (self.pe, self.simd) != (self.asked_pe, self.asked_simd)


@dataclass(frozen=True, kw_only=True)
class DataflowModel:
    """FINN's folded graph of one cell: its nodes in the order of the stream."""

    finn_version: str
    layers: tuple[LayerGeometry, ...]

    @property
    def matrix_units(self) -> tuple[LayerGeometry, ...]:
        return tuple(layer for layer in self.layers if layer.is_matrix_unit)


@dataclass(frozen=True, kw_only=True, eq=False)
class HardwareModel:
    """The integers that FINN's streamlined graph computes, and the float tail that stays on the host."""

    network: IntegerNetwork
    """Weights with FINN's signs, thresholds rounded up to integers and clipped to the accumulators that occur."""
    thresholds: tuple[NDArray[np.float32], ...]
    """FINN's thresholds as it computed them [channels or 1, steps], the input layer first."""
    tail_scale: NDArray[np.float32]
    tail_bias: NDArray[np.float32]

    def logits(self, accumulators: NDArray[np.int64]) -> NDArray[np.float32]:
        """Accumulators [images, classes] to logits, with the float32 operations of the graph's Mul and Add."""
        logits: NDArray[np.float32] = accumulators.astype(np.float32) * self.tail_scale + self.tail_bias
        return logits


def finn_version() -> str:
    """The installed release of FINN. Raises DataflowError where there is none."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        raise DataflowError(f"FINN is not installed: pip install {DISTRIBUTION}") from None


def _run_job(job: Mapping[str, Any], folder: Path, *, log: Path, timeout_s: float) -> None:
    """One job in one process of FINN; its outputs are in `folder`. Raises DataflowError, ToolFailed, ToolTimeout."""
    with tempfile.TemporaryDirectory(prefix="finn-") as scratch:
        request, build = Path(scratch) / "request.json", Path(scratch) / "build"
        build.mkdir()
        request.write_text(json.dumps([{**job, "folder": str(folder)}]))
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        run(
            [sys.executable, "-W", "ignore", "-m", "qnn.dataflow", request],
            timeout_s=timeout_s,
            log=log,
            environment={"FINN_BUILD_DIR": str(build), "PYTHONPATH": path},
        )
    failure = folder / "error.json"
    if failure.exists():
        report = json.loads(failure.read_text())
        raise DataflowError(f"FINN {finn_version()} failed at the step {report['step']!r}: {report['error']}")


def compile_network(
    qonnx: Path, folding: Folding, part: str, clock_period_ns: float, folder: Path, *, timeout_s: float = TIME_LIMIT_S
) -> None:
    """QONNX -> `folder`: streamlined.onnx, hardware.onnx, integers.npz, dataflow.json, rtl.json, finn.log.

    Raises DataflowError naming FINN's step, or ToolTimeout.
    """
    job = {
        "kind": "compile",
        "qonnx": str(qonnx),
        "pe": folding.pe,
        "simd": folding.simd,
        "part": part,
        "clock_period_ns": clock_period_ns,
    }
    _run_job(job, folder, log=folder / "finn.log", timeout_s=timeout_s)


def execute(model: Path, inputs: NDArray[Any], folder: Path, *, timeout_s: float = TIME_LIMIT_S) -> NDArray[np.float32]:
    """The output of an ONNX file with QONNX or FINN nodes for a batch of `inputs`, executed in Python by QONNX."""
    np.save(folder / "inputs.npy", inputs)
    job = {"kind": "execute", "model": str(model), "inputs": str(folder / "inputs.npy")}
    _run_job(job, folder, log=folder / "finn.log", timeout_s=timeout_s)
    outputs: NDArray[np.float32] = np.load(folder / "outputs.npy")
    return outputs


def read_dataflow(folder: Path) -> DataflowModel:
    """What compile_network() found out about the folded graph."""
    record = json.loads((folder / "dataflow.json").read_text())
    layers = tuple(LayerGeometry(**layer) for layer in record["layers"])
    return DataflowModel(finn_version=record["finn_version"], layers=layers)


def read_hardware_model(folder: Path) -> HardwareModel:
    """The hardware integer model that compile_network() read from FINN's streamlined graph.

    A step counts where accumulator >= threshold, and accumulators are integers: rounding thresholds up changes
    nothing, nor does clipping them to [minimum, maximum + 1] of the accumulators that can occur.
    """
    with np.load(folder / "integers.npz") as arrays:
        depth = sum(name.startswith("weights_") for name in arrays)
        thresholds = tuple(arrays[f"thresholds_{k}"] for k in range(depth))
        weights = [None, *(arrays[f"weights_{k}"] for k in range(depth))]
        lowest_codes = [int(arrays[f"lowest_code_{k}"]) for k in range(depth)]
        tail_scale, tail_bias = arrays["tail_scale"], arrays["tail_bias"]
    layers, low, high = [], 0, PIXEL_MAXIMUM
    for matrix, steps, lowest in zip(weights, thresholds, lowest_codes, strict=False):
        product = IntegerLayer(weights=matrix, thresholds=None) if matrix is not None else None
        minimum, maximum = product.accumulator_range(low, high) if product else (np.array([low]), np.array([high]))
        clipped = np.clip(np.ceil(steps.astype(np.float64)), minimum[:, None], maximum[:, None] + 1)
        layers.append(IntegerLayer(weights=matrix, thresholds=clipped.astype(np.int64), lowest=lowest))
        low, high = lowest, layers[-1].highest
    layers.append(IntegerLayer(weights=weights[-1], thresholds=None))
    network = IntegerNetwork(layers=tuple(layers))
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
