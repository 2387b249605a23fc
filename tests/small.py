"""A network of two layers that FINN compiles in seconds, in place of the study's."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qnn import export
from qnn.cell import Cell, Folding, Quantization
from qnn.datasets import Images
from qnn.hdl import HardwareDesign
from qnn.networks import Chain, build_from_parameters
from qnn.parameters import LayerParameters, NetworkParameters
from qnn.pipeline import Pipeline
from qnn.tools import verilator

WIDTHS = (16, 8, 4)
IMAGES = 12
CELL = Cell(quantization=Quantization.parse("A3W3"), folding=Folding(pe=2, simd=4))


def _layer(random: np.random.Generator, inputs: int, outputs: int, *, last: bool) -> LayerParameters:
    return LayerParameters(
        codes=random.integers(-3, 4, (outputs, inputs)).astype(np.int8),
        weight_bits=3,
        weight_scales=np.full(outputs, 0.125, np.float32),
        weight_scale_per_channel=not last,
        gamma=random.uniform(0.5, 2, outputs).astype(np.float32),
        beta=random.uniform(-1, 1, outputs).astype(np.float32),
        mean=random.uniform(-1, 1, outputs).astype(np.float32),
        variance=random.uniform(0.5, 2, outputs).astype(np.float32),
        epsilon=1e-5,
        activation_scale=None if last else np.float32(0.25),
        activation_bits=None if last else 3,
    )


def small_parameters() -> NetworkParameters:
    """A3W3, random."""
    random = np.random.default_rng(0)
    layers = (_layer(random, *WIDTHS[:2], last=False), _layer(random, *WIDTHS[1:], last=True))
    return NetworkParameters(input_scale=np.float32(0.25), input_bits=3, layers=layers)


def small_pixels() -> NDArray[np.uint8]:
    """[IMAGES, inputs], random."""
    return np.random.default_rng(1).integers(0, 256, (IMAGES, WIDTHS[0]), dtype=np.uint8)


@dataclass(frozen=True, kw_only=True)
class SmallPipeline(Pipeline):
    """The pipeline on this network, whatever cell it is asked for."""

    def network(self, cell: Cell) -> Chain:
        return build_from_parameters(self.parameters(cell))

    def parameters(self, cell: Cell) -> NetworkParameters:
        return small_parameters()

    def images(self, cell: Cell) -> Images:
        return Images(pixels=small_pixels(), labels=np.zeros(IMAGES, np.uint8))

    def qonnx(self, cell: Cell) -> Path:
        folder = self.store.get_or_build(
            "qonnx", "small", lambda folder: export.export(self.network(cell), folder / "model.onnx")
        )
        return folder / "model.onnx"


@dataclass(frozen=True, kw_only=True)
class WrongRtl(SmallPipeline):
    """The same with the lowest bit of one weight flipped in the RTL: of the first one that a matrix unit reads."""

    wrong: str
    """Its name."""

    def simulated_design(self, cell: Cell) -> HardwareDesign:
        design, file = super().simulated_design(cell), f"{self.wrong}/memblock.dat"
        first, *others = design.files[file].splitlines()
        flipped = f"{int(first, 16) ^ 1:0{len(first)}x}"
        return design.replace_files({file: "\n".join([flipped, *others, ""])})

    def simulator(self, cell: Cell) -> verilator.Simulator:
        def build(folder: Path) -> None:
            verilator.build(self.simulated_design(cell), folder, brief=True, library=self.verilator_library())

        return verilator.Simulator.open(self.store.get_or_build("simulator", f"wrong-{self.wrong}", build))


def run_reproducer(folder: Path, *, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """As its reader would: from elsewhere, without the suite on the path. `path` is another search path."""
    return subprocess.run(
        [sys.executable, "-P", "-W", "ignore", folder / "reproduce.py"],
        cwd=folder.parent,
        env=os.environ if path is None else {**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
