"""A cell of the benchmark matrix: network, data set, bit widths and folding, with their ids and rules.

Ids are what people select with ``pytest -k``: ``A3W3``, ``PE8-SIMD8``, ``tfc-fashion_mnist-A3W3-PE8-SIMD8``.
This module knows the standard library only, so that it can be imported while tests are collected and inside
the environment of any FINN release.
"""

import re
from dataclasses import dataclass

from qnn.errors import CellError

__all__ = [
    "BIT_WIDTHS",
    "DATASETS",
    "INPUT_BITS",
    "NETWORKS",
    "PART",
    "Cell",
    "Folding",
    "LayerFolding",
    "Quantization",
    "dataset_name",
    "uniform_folding",
]

BIT_WIDTHS = range(2, 9)
"""Bit widths of weights and of activations that the study trains (paper, III-B)."""

INPUT_BITS = 8
"""Of the quantiser that the images go through first, in all cells of the study."""

NETWORKS = ("tfc",)
DATASETS = ("fashion-mnist", "mnist")
PART = "xc7z020clg400-1"
"""The Zynq Z-7020 of a Pynq-Z1."""


@dataclass(frozen=True, kw_only=True, order=True)
class Quantization:
    """Bit widths of activations and weights, 2 to 8; both None is the float network."""

    activation_bits: int | None
    weight_bits: int | None

    def __post_init__(self) -> None:
        for name in ("activation_bits", "weight_bits"):
            bits = getattr(self, name)
            if bits is not None and (isinstance(bits, bool) or bits not in BIT_WIDTHS):
                raise CellError(
                    f"{name} is {bits!r}: it has to be a whole number from {BIT_WIDTHS[0]} to {BIT_WIDTHS[-1]}, "
                    "or None for the float network"
                )
        if (self.activation_bits is None) != (self.weight_bits is None):
            raise CellError("activation_bits and weight_bits have to be both numbers, or both None for float")

    @classmethod
    def parse(cls, text: str) -> "Quantization":
        """Read ``A3W3`` or ``float`` (any case)."""
        if text.strip().lower() == "float":
            return cls(activation_bits=None, weight_bits=None)
        match = re.fullmatch(r"A(\d+)W(\d+)", text.strip(), re.IGNORECASE)
        if match is None:
            raise CellError(
                f"unknown cell {text!r}: cells are named A<activation bits>W<weight bits>, from A2W2 to A8W8, or float"
            )
        try:
            return cls(activation_bits=int(match[1]), weight_bits=int(match[2]))
        except CellError as error:
            raise CellError(f"unknown cell {text!r}: {error}") from None

    @property
    def is_float(self) -> bool:
        return self.weight_bits is None

    def __str__(self) -> str:
        return "float" if self.is_float else f"A{self.activation_bits}W{self.weight_bits}"


@dataclass(frozen=True, kw_only=True, order=True)
class Folding:
    """The parallelism that is asked for: output channels (PE) and input channels (SIMD) computed each cycle."""

    pe: int
    simd: int

    def __post_init__(self) -> None:
        for name in ("pe", "simd"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1024:
                raise CellError(f"folding {name} is {value!r}: it has to be a whole number from 1 to 1024")

    @classmethod
    def parse(cls, text: str) -> "Folding":
        """Read ``PE8-SIMD8`` or ``8x8`` (any case)."""
        match = re.fullmatch(r"(?:PE)?(\d+)(?:-SIMD|x)(\d+)", text.strip(), re.IGNORECASE)
        if match is None:
            raise CellError(f"unknown folding {text!r}: write PE8-SIMD8 or 8x8")
        return cls(pe=int(match[1]), simd=int(match[2]))

    def __str__(self) -> str:
        return f"PE{self.pe}-SIMD{self.simd}"


@dataclass(frozen=True, kw_only=True)
class LayerFolding:
    """Asked and applied folding of one layer of `inputs` x `outputs` weights."""

    inputs: int
    outputs: int
    asked: Folding
    applied: Folding

    @property
    def clamped(self) -> bool:
        return self.asked != self.applied


def _largest_divisor(value: int, limit: int) -> int:
    return max(d for d in range(1, min(value, limit) + 1) if value % d == 0)


def uniform_folding(asked: Folding, layers: list[tuple[int, int]]) -> list[LayerFolding]:
    """The study's policy: the same folding for every layer, clamped to what is legal there.

    `layers` holds (inputs, outputs) of each fully connected layer. FINN asserts outputs % PE == 0 and
    inputs % SIMD == 0 (``matrixvectoractivation.py``); each number becomes the largest divisor that is not above
    the one asked for.
    """
    return [
        LayerFolding(
            inputs=inputs,
            outputs=outputs,
            asked=asked,
            applied=Folding(pe=_largest_divisor(outputs, asked.pe), simd=_largest_divisor(inputs, asked.simd)),
        )
        for inputs, outputs in layers
    ]


def dataset_name(text: str) -> str:
    """The data set's own name for `text`, which may be written with ``_`` or ``-``, in any case."""
    name = text.strip().lower().replace("_", "-")
    if name not in DATASETS:
        raise CellError(f"unknown data set {text!r}: there are {', '.join(DATASETS)}")
    return name


@dataclass(frozen=True, kw_only=True, order=True)
class Cell:
    """One entry of the matrix. Without a folding it names the trained network alone."""

    network: str = "tfc"
    dataset: str = "fashion-mnist"
    quantization: Quantization
    folding: Folding | None = None

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise CellError(f"unknown network {self.network!r}: there are {', '.join(NETWORKS)}")
        if self.dataset not in DATASETS:
            raise CellError(f"unknown data set {self.dataset!r}: there are {', '.join(DATASETS)}")

    @property
    def trained(self) -> "Cell":
        """The same cell without its folding: all that a training depends on."""
        return Cell(network=self.network, dataset=self.dataset, quantization=self.quantization)

    def __str__(self) -> str:
        parts = [self.network, self.dataset.replace("-", "_"), str(self.quantization)]
        return "-".join(parts + ([str(self.folding)] if self.folding else []))
