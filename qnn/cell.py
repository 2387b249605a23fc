"""A cell of the benchmark matrix: network, data set, bit widths and folding, with their ids and rules.

Ids are what people select with ``pytest -k``: ``A3W3``, ``PE8-SIMD8``, ``tfc-fashion_mnist-A3W3-PE8-SIMD8``, and
``tfc-fashion_mnist-A3W3-PE8-SIMD8-balanced`` where the policy is not the study's, with ``-exact`` at the end where the
thresholds are not FINN's own.
This module knows the standard library only, so that it can be imported while tests are collected and inside
the environment of any FINN release.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self

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
    "LayerShape",
    "Policy",
    "Quantization",
    "Thresholds",
    "balanced_folding",
    "dataset_name",
    "fold_layers",
    "legal_foldings",
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


class _Choice(StrEnum):
    """One of a few names."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a name in any case. Raises CellError."""
        try:
            return cls(text.strip().lower())
        except ValueError:
            raise CellError(f"unknown {cls.__name__.lower()} {text!r}: there are {', '.join(cls)}") from None


class Policy(_Choice):
    """How the folding that is asked for becomes one of each layer."""

    UNIFORM = "uniform"
    """The same for all layers, as in the study."""
    BALANCED = "balanced"
    """As asked for the first layer; each other one the cheapest that is not slower."""


class Thresholds(_Choice):
    """Where the accelerator's thresholds come from."""

    FINN = "finn"
    """Computed by FINN in float32."""
    EXACT = "exact"
    """Computed from the trained parameters in rational arithmetic, in place of FINN's."""


class LayerShape(NamedTuple):
    """A matrix of weights, and how often one image goes through it."""

    inputs: int
    outputs: int
    vectors: int = 1
    """Products with the matrix for one image: the places of a convolution's window, 1 in a fully connected layer."""
    channels: int | None = None
    """What SIMD has to divide where that is not `inputs`: a convolution's input channels, of which a window is made."""


@dataclass(frozen=True, kw_only=True)
class LayerFolding:
    """Asked and applied folding of one layer of `inputs` x `outputs` weights."""

    inputs: int
    outputs: int
    asked: Folding
    applied: Folding
    vectors: int = 1
    """As in LayerShape."""

    @property
    def clamped(self) -> bool:
        return self.asked != self.applied

    @property
    def cycles(self) -> int:
        """Of one image: (inputs / SIMD) * (outputs / PE) * vectors. FINN, MVAU.get_exp_cycles."""
        return (self.inputs // self.applied.simd) * (self.outputs // self.applied.pe) * self.vectors


def _divisors(value: int) -> list[int]:
    return [d for d in range(1, value + 1) if value % d == 0]


def legal_foldings(layer: LayerShape) -> list[Folding]:
    """FINN asserts outputs % PE == 0 and inputs % SIMD == 0 (``matrixvectoractivation.py``).

    Of what generates a convolution's windows it asserts channels % SIMD == 0 (``convolutioninputgenerator.py``).
    """
    lanes = _divisors(layer.channels or layer.inputs)
    return [Folding(pe=pe, simd=simd) for pe in _divisors(layer.outputs) for simd in lanes]


def _folded(layer: LayerShape, asked: Folding, applied: Folding) -> LayerFolding:
    return LayerFolding(inputs=layer.inputs, outputs=layer.outputs, vectors=layer.vectors, asked=asked, applied=applied)


def _clamp(asked: Folding, layer: LayerShape) -> LayerFolding:
    """What is legal: each number becomes the largest divisor that is not above the one asked for."""
    limits = ((layer.outputs, asked.pe), (layer.channels or layer.inputs, asked.simd))
    pe, simd = (max(d for d in _divisors(number) if d <= limit) for number, limit in limits)
    return _folded(layer, asked, Folding(pe=pe, simd=simd))


def uniform_folding(asked: Folding, layers: Sequence[LayerShape]) -> list[LayerFolding]:
    """The study's policy."""
    return [_clamp(asked, layer) for layer in layers]


def balanced_folding(asked: Folding, layers: Sequence[LayerShape]) -> list[LayerFolding]:
    """The first layer as uniform_folding() has it; each other one with the fewest multipliers that keep up with it.

    Where several have as few, the one of the largest PE: FINN's RTL unit lets several PEs share a DSP, but not several
    input channels (finn-rtllib, ``mvu.sv``).
    """
    first = _clamp(asked, layers[0])
    found = [first]
    for layer in layers[1:]:
        candidates = [_folded(layer, folding, folding) for folding in legal_foldings(layer)]
        # A fully connected layer can do with a single cycle; a convolution with many places may keep up in no folding.
        keeping_up = [one for one in candidates if one.cycles <= first.cycles]
        fastest = min(one.cycles for one in candidates)
        able = keeping_up or [one for one in candidates if one.cycles == fastest]
        found.append(min(able, key=lambda one: (one.applied.pe * one.applied.simd, -one.applied.pe)))
    return found


def fold_layers(asked: Folding, policy: Policy, layers: Sequence[LayerShape]) -> list[LayerFolding]:
    """The folding of each of `layers` by a policy."""
    return {Policy.UNIFORM: uniform_folding, Policy.BALANCED: balanced_folding}[policy](asked, layers)


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
    policy: Policy = Policy.UNIFORM
    """Of the folding; means nothing where there is none, and so does `thresholds`."""
    thresholds: Thresholds = Thresholds.FINN

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise CellError(f"unknown network {self.network!r}: there are {', '.join(NETWORKS)}")
        if self.dataset not in DATASETS:
            raise CellError(f"unknown data set {self.dataset!r}: there are {', '.join(DATASETS)}")

    @property
    def variant(self) -> str:
        """Policy and thresholds: ``uniform``, ``balanced``, ``uniform-exact`` or ``balanced-exact``."""
        return f"{self.policy}-{self.thresholds}" if self.thresholds is not Thresholds.FINN else str(self.policy)

    @property
    def trained(self) -> "Cell":
        """The same cell without its folding: all that a training depends on."""
        return Cell(network=self.network, dataset=self.dataset, quantization=self.quantization)

    def __str__(self) -> str:
        parts = [self.network, self.dataset.replace("-", "_"), str(self.quantization)]
        if self.folding is not None:
            parts.append(str(self.folding))
            parts += [str(self.policy)] if self.policy is not Policy.UNIFORM else []
            parts += [str(self.thresholds)] if self.thresholds is not Thresholds.FINN else []
        return "-".join(parts)
