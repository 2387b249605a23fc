"""From a model from outside to each of its artifacts, through the store: ``qnn.pipeline`` below FINN's graph.

FINN is taken as far as it goes (``qnn.dataflow.own``). An artifact of a stage that it refuses raises DataflowError with
FINN's reason; all others are there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qnn.errors import SimulationError
from qnn.hdl import HardwareDesign
from qnn.own_model import InputType, OwnModel, Samples, random_samples, read_samples
from qnn.pipeline import CPPSIM_IMAGES, HardwarePipeline
from qnn.store import digest_of, digest_of_files
from qnn.tools import finn
from qnn.tools.finn import DataflowModel, FinnActivation, HardwareModel, LayerGeometry, NodeValues, OwnCompilation
from qnn.versions import tool_versions

__all__ = ["PYTHON_IMAGES", "OwnPipeline", "pack"]

PYTHON_IMAGES = 16
"""Images that FINN's Python executes node by node, which takes one at a time."""

_SOURCE = Path(__file__).parent


def pack(values: NDArray[np.int64], *, lane_bits: int, lanes: int) -> NDArray[np.uint8]:
    """What ``verilator.unpack`` takes apart: integers [frames, elements] -> uint8 [frames, bytes].

    A beat holds `lanes` elements, the first one in its lowest bits, and is filled up to whole bytes. Raises
    SimulationError where the lanes do not divide the elements.
    """
    if values.ndim != 2 or lanes < 1 or values.shape[1] % lanes:
        raise SimulationError(f"elements {list(values.shape)} do not make whole beats of {lanes}")
    beats = values.astype(np.int64).reshape(len(values), -1, lanes)
    bits = (beats[..., None] >> np.arange(lane_bits)) & 1  # two's complement: the sign is the last of the bits
    packed = np.packbits(bits.astype(np.uint8).reshape(*beats.shape[:2], -1), axis=-1, bitorder="little")
    return packed.reshape(len(values), -1)


@dataclass(frozen=True, kw_only=True)
class OwnPipeline(HardwarePipeline[OwnModel]):
    """Every artifact of a model from outside. Methods may be called from several threads and processes at once."""

    def qonnx(self, cell: OwnModel) -> Path:
        """The model with integers as its input: see ``qnn.dataflow.own.prepare``."""
        return self._dataflow(cell) / "prepared.onnx"

    def _dataflow(self, cell: OwnModel, fifo_depths: Mapping[str, int] | None = None) -> Path:
        cell.require_readable()
        preprocessing = cell.preprocessing
        given = preprocessing.input_type
        input_type = None if given is None else str(given).upper()
        scale, shift = (float(np.float32(float(value))) for value in (preprocessing.scale, preprocessing.shift))
        key = {
            "model": cell.digest,
            "input": [input_type, scale, shift],
            "folding": str(cell.folding),
            "policy": str(cell.policy),
            "part": self.part,
            "clock_period_ns": self.clock_period_ns,
            "fifo_depths": fifo_depths,
            "source": digest_of_files(_SOURCE / "dataflow", _SOURCE / "cell.py"),
            "versions": {tool: tool_versions()[tool] for tool in ("finn", "qonnx")},
        }

        def build(folder: Path) -> None:
            options = (cell.folding, cell.policy, self.part, self.clock_period_ns)
            (folder / "own.onnx").write_bytes(cell.content)
            finn.compile_own(
                folder / "own.onnx",
                *(*options, folder),
                input_type=input_type,
                scale=scale,
                shift=shift,
                fifo_depths=fifo_depths,
            )

        return self.store.get_or_build("own", digest_of(key), build)

    def compilation(self, cell: OwnModel) -> OwnCompilation:
        """How far FINN took the model."""
        return finn.read_own(self._dataflow(cell))

    def dataflow(self, cell: OwnModel) -> DataflowModel:
        self.compilation(cell).require("rtl")
        return super().dataflow(cell)

    def design(self, cell: OwnModel) -> HardwareDesign:
        self.compilation(cell).require("rtl")
        return super().design(cell)

    def _delivered(self, cell: OwnModel) -> Path:
        self.compilation(cell).require("rtl")
        return super()._delivered(cell)

    def hls_estimate(self, cell: OwnModel) -> tuple[LayerGeometry, ...]:
        """The nodes of the HLS variant, with FINN's estimates, of a model without RTL."""
        self.compilation(cell).require("estimate")
        return finn.read_own_estimate(self._dataflow(cell))

    def hardware_model(self, cell: OwnModel) -> HardwareModel:
        """The integers of the accelerator's part, its tail an identity: the host's nodes are not in it."""
        self.compilation(cell).require("integers")
        return super().hardware_model(cell)

    def activations(self, cell: OwnModel) -> list[FinnActivation]:
        """FINN's, in order: those of the accelerator's part, and one right behind it, of the host, if there is one."""
        model = self.hardware_model(cell)
        inside = [
            FinnActivation(thresholds=thresholds.astype(np.float64), lowest=layer.lowest)
            for thresholds, layer in zip(model.thresholds, model.network.layers, strict=False)
        ]
        behind = finn.read_own_activation(self._dataflow(cell))
        return inside if behind is None else [*inside, behind]

    def samples(self, cell: OwnModel) -> Samples:
        """The given samples, or random ones."""
        compilation = self.compilation(cell)
        shape = cell.require_readable()
        input_type = InputType.parse(compilation.input_type)
        if cell.samples is None:
            return random_samples(shape, input_type)
        return read_samples(cell.samples, shape, input_type)

    def inputs(self, cell: OwnModel) -> NDArray[Any]:
        """[N, ...] of the prepared model's shape: uint8 where that is the type, else int64."""
        compilation, samples = self.compilation(cell), self.samples(cell)
        x = samples.x.reshape(len(samples), *compilation.shape[1:])
        return x.astype(np.uint8) if compilation.input_type == "UINT8" else x

    def accelerator_inputs(self, cell: OwnModel) -> NDArray[Any]:
        x = self.inputs(cell)
        return np.moveaxis(x, 1, -1) if self.compilation(cell).channels_last else x

    def inputs_key(self, cell: OwnModel) -> object:
        return self.samples(cell).digest

    def frames(self, cell: OwnModel, images: Sequence[int] | slice = slice(None)) -> NDArray[np.uint8]:
        chosen = super().frames(cell, images).astype(np.int64)
        self.compilation(cell).require("rtl")
        # Not of dataflow(): which FIFOs are delivered is measured with these frames, and their depths change no lanes.
        first = finn.read_dataflow(self._dataflow(cell)).layers[0]
        lanes = first.simd or first.output_lanes
        bits = InputType.parse(self.compilation(cell).input_type).bits
        return pack(chosen.reshape(len(chosen), -1), lane_bits=bits, lanes=lanes)

    def images_to_simulate(self, cell: OwnModel) -> int:
        """All of them."""
        return len(self.samples(cell))

    def cppsim_images(self, cell: OwnModel) -> range:
        """Fewer where they are held against FINN's Python, which executes its nodes image by image."""
        most = PYTHON_IMAGES if "integers" in self.compilation(cell).refused else CPPSIM_IMAGES
        return range(min(most, len(self.samples(cell))))

    def whole_run(self, cell: OwnModel) -> dict[str, NDArray[Any]]:
        """FINN's streamlined graph with what the host does behind it, on all samples: as qonnx_run()."""
        return self.executed(self._dataflow(cell) / "whole.onnx", cell)

    def part_nodes(self, cell: OwnModel, images: Sequence[int]) -> list[NodeValues]:
        """What every node of the accelerator's part gives, executed by QONNX image by image."""
        return self._graph_nodes(cell, "streamlined", images)

    def host_outputs(self, cell: OwnModel, accumulators: NDArray[np.int64]) -> NDArray[Any]:
        """What the host makes of the accelerator's outputs [images, elements]."""
        model = self._dataflow(cell) / "host.onnx"
        if not model.exists():
            return accumulators
        key = {
            "model": digest_of_files(model),
            "accumulators": digest_of([list(accumulators.shape), accumulators.tobytes().hex()]),
            "source": digest_of_files(_SOURCE / "dataflow"),
            "versions": {tool: tool_versions()[tool] for tool in ("finn", "qonnx")},
        }

        def build(folder: Path) -> None:
            finn.trace(model, accumulators, folder)

        with np.load(self.store.get_or_build("host", digest_of(key), build) / "trace.npz") as arrays:
            return np.asarray(arrays["output"])
