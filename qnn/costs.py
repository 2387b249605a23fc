"""What a network and an image cost beside accuracy: operations, weight bits, modelled energy, images a second a LUT.

Counts are of the whole network for one image; nothing is saved on weights that are zero, since FINN's matrix units
multiply them like others. Energies are modelled, not measured: see `modelled_energy`.
"""

import itertools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from qnn.parameters import NetworkParameters
from qnn.reference import FOLDER

__all__ = [
    "InferenceCost",
    "MatrixProduct",
    "ModelledEnergy",
    "addition_pj",
    "count",
    "drop_points",
    "matrix_products",
    "modelled_energy",
    "modelled_float_energy",
    "multiplication_pj",
    "per_resource",
]

_PJ_PER_NJ = 1000
_READ_BITS = 32
"""Bits of one memory access in Figure 1."""


@dataclass(frozen=True, kw_only=True)
class MatrixProduct:
    """The product of one fully connected layer."""

    inputs: int
    outputs: int
    input_bits: int
    weight_bits: int
    accumulator_bits: int
    """Of the two's complement that holds every accumulator that the layer's weights allow."""

    @property
    def macs(self) -> int:
        """Multiplications, each with an addition; also the number of weights."""
        return self.inputs * self.outputs


@dataclass(frozen=True, kw_only=True)
class InferenceCost:
    """What one image takes, as QONNX counts it (``qonnx.analysis.inference_cost``)."""

    macs: int
    bit_operations: int
    """Each multiplication counts input bits times weight bits."""
    weight_bits: int


def matrix_products(parameters: NetworkParameters) -> tuple[MatrixProduct, ...]:
    """The products of a trained network, the first layer first."""
    products, input_bits = [], parameters.input_bits
    for layer in parameters.layers:
        codes = layer.codes.astype(np.int64)
        lowest, highest = -(2 ** (input_bits - 1)), 2 ** (input_bits - 1) - 1
        smallest = int(np.minimum(codes * lowest, codes * highest).sum(axis=1).min())
        largest = int(np.maximum(codes * lowest, codes * highest).sum(axis=1).max())
        products.append(
            MatrixProduct(
                inputs=layer.inputs,
                outputs=layer.outputs,
                input_bits=input_bits,
                weight_bits=layer.weight_bits,
                accumulator_bits=1 + max(largest.bit_length(), (-smallest - 1).bit_length()),
            )
        )
        input_bits = layer.activation_bits or input_bits
    return tuple(products)


def count(products: Iterable[MatrixProduct]) -> InferenceCost:
    """The same counts as QONNX makes, from the shapes alone."""
    products = list(products)
    return InferenceCost(
        macs=sum(p.macs for p in products),
        bit_operations=sum(p.macs * p.input_bits * p.weight_bits for p in products),
        weight_bits=sum(p.macs * p.weight_bits for p in products),
    )


# Energy ---------------------------------------------------------------------------------------------------------------


@cache
def _figure1() -> Mapping[str, Mapping[str, float]]:
    return tomllib.loads((FOLDER / "energy.toml").read_text())


def addition_pj(bits: int) -> float:
    """Energy of an integer addition.

    Straight lines between Figure 1's 8, 16 and 32 bits and 0 bits, which cost nothing: an adder is a chain of equal
    stages. Above 32 bits the last line goes on.
    """
    known = sorted((int(b), pj) for b, pj in _figure1()["add_pj"].items())
    points = [(0, 0.0), *known]
    (low, low_pj), (high, high_pj) = next(
        (pair for pair in itertools.pairwise(points) if bits <= pair[1][0]), (points[-2], points[-1])
    )
    return low_pj + (high_pj - low_pj) * (bits - low) / (high - low)


def multiplication_pj(bits: int, other_bits: int) -> float:
    """Energy of an integer multiplication of factors of these widths.

    Figure 1's 8-bit one times bits * other_bits / 64, since an array multiplier has a cell for every pair of bits. The
    rule gives 3.2 pJ for 32 bits, where Figure 1 has 3.1.
    """
    return float(_figure1()["multiply_pj"]["8"]) * (bits * other_bits) / 64


@dataclass(frozen=True, kw_only=True)
class ModelledEnergy:
    """Of one image, in nJ."""

    multiplications_nj: float
    additions_nj: float
    weights_nj: float
    """Every weight read once."""
    image_nj: float
    """The image read once from DRAM."""

    @property
    def on_chip_nj(self) -> float:
        """All but the image's way in, which is the same for all bit widths."""
        return self.multiplications_nj + self.additions_nj + self.weights_nj

    @property
    def total_nj(self) -> float:
        return self.on_chip_nj + self.image_nj


def _read_nj(memory: str, bits: float) -> float:
    return bits / _READ_BITS * _figure1()["read_pj"][memory] / _PJ_PER_NJ


def modelled_energy(products: Iterable[MatrixProduct], *, image_bytes: int) -> ModelledEnergy:
    """What the operations of one image would take at the costs of the study's Figure 1.

    Each multiplication at the widths of input and weight, each addition at the accumulator's, each weight bit read
    once from an 8 kB SRAM, the image once from DRAM. It is the energy of the arithmetic in a 45 nm chip: an FPGA's
    routing, clock and leakage, FIFOs and thresholds are not in it. It compares bit widths; it predicts no board.
    """
    products = list(products)
    return ModelledEnergy(
        multiplications_nj=sum(p.macs * multiplication_pj(p.input_bits, p.weight_bits) for p in products) / _PJ_PER_NJ,
        additions_nj=sum(p.macs * addition_pj(p.accumulator_bits) for p in products) / _PJ_PER_NJ,
        weights_nj=_read_nj("sram", count(products).weight_bits),
        image_nj=_read_nj("dram", 8 * image_bytes),
    )


def modelled_float_energy(products: Iterable[MatrixProduct], *, image_bytes: int) -> ModelledEnergy:
    """The same products in float32, by the same rules."""
    macs = sum(p.macs for p in products)
    float32 = _figure1()["float32_pj"]
    return ModelledEnergy(
        multiplications_nj=macs * float32["multiply"] / _PJ_PER_NJ,
        additions_nj=macs * float32["add"] / _PJ_PER_NJ,
        weights_nj=_read_nj("sram", 32 * macs),
        image_nj=_read_nj("dram", 8 * image_bytes),
    )


# Ratios ---------------------------------------------------------------------------------------------------------------


def per_resource(images_per_s: float, used: float) -> float | None:
    """Images a second for each LUT or DSP that a design takes; None where it takes none."""
    return images_per_s / used if used else None


def drop_points(float_top1_percent: float | None, top1_percent: float) -> float | None:
    """Percentage points of accuracy below the float network, negative where above; None without a float network."""
    return None if float_top1_percent is None else float_top1_percent - top1_percent
