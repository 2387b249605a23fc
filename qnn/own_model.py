"""A QONNX model from outside (Brevitas, QKeras, the QONNX model zoo): what it is, what it expects, samples for it.

Knows onnx and numpy alone. What can be told without FINN is told here, at once and in one sentence: a file that is no
ONNX, shapes that are not fixed, a network without quantisation, samples that do not fit.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from qnn.cell import Folding, Policy
from qnn.errors import ModelError

__all__ = ["InputType", "OwnModel", "Preprocessing", "Samples", "parse_number", "random_samples", "read_samples"]

_QUANTISERS = ("Quant", "IntQuant", "BipolarQuant", "BinaryQuant", "Trunc", "MultiThreshold", "QuantizeLinear")
_FINNS_OWN = "finn.custom_op.fpgadataflow"
"""Domain of FINN's hardware nodes, and what the domains of their variants begin with."""
_MOST_BITS = 8
_LARGEST = Fraction(2**126)
RANDOM_SAMPLES = 64
"""Random inputs where no samples are given."""
_RANDOM_SEED = 0


@dataclass(frozen=True, kw_only=True)
class InputType:
    """Integers that an accelerator takes: ``uint8``, ``int4`` and so on, 1 to 8 bits."""

    bits: int
    signed: bool

    @classmethod
    def parse(cls, text: str) -> "InputType":
        """Read ``uint8`` or, as QONNX writes it, ``INT4`` or ``BINARY``. Raises ModelError."""
        match = re.fullmatch(r"(u?)int(\d+)", text.strip().lower().replace("binary", "uint1"))
        signed, bits = (match[1] == "", int(match[2])) if match else (False, 0)
        if not 1 + signed <= bits <= _MOST_BITS:
            raise ModelError(
                f"unknown input type {text!r}: it is uint1 to uint{_MOST_BITS} or int2 to int{_MOST_BITS}, the whole "
                "numbers that the accelerator's input stream carries (uint8 for pixels; inputs of -1 and 1 are uint1 "
                "with --scale 2 --shift=-1)"
            )
        return cls(bits=bits, signed=signed)

    @property
    def lowest(self) -> int:
        return -(2 ** (self.bits - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        return int(2 ** (self.bits - self.signed)) - 1

    def __str__(self) -> str:
        return f"{'' if self.signed else 'u'}int{self.bits}"


def parse_number(text: str, what: str) -> Fraction:
    """A decimal number or a fraction such as ``1/255``. Raises ModelError that names `what` it is of."""
    try:
        return Fraction(text.strip().replace(" ", ""))
    except (ValueError, ZeroDivisionError):
        raise ModelError(
            f"{what} {text!r} is no number: write a decimal or a fraction, such as 1/255 or -0.5"
        ) from None


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What lies between the integers of the accelerator's input and what the model expects: scale * x + shift."""

    input_type: InputType | None = None
    """None: what the model's input is annotated with, or else uint8."""
    scale: Fraction = Fraction(1)
    shift: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        if not self.scale:
            raise ModelError("the scale is 0: every input would be the same; write what one step is worth, say 1/255")
        for name in ("scale", "shift"):
            value = abs(getattr(self, name))
            if value > _LARGEST or 0 < value < 1 / _LARGEST:
                raise ModelError(f"the {name} {float(getattr(self, name)):g} is no normal float32 number")

    @classmethod
    def parse(cls, input_type: str | None, scale: str, shift: str) -> "Preprocessing":
        """From the texts of the options --input, --scale and --shift. Raises ModelError."""
        return cls(
            input_type=None if input_type is None else InputType.parse(input_type),
            scale=parse_number(scale, "--scale"),
            shift=parse_number(shift, "--shift"),
        )


def _dimensions(value: Any) -> list[int | str]:
    return [dim.dim_value or dim.dim_param or "?" for dim in value.type.tensor_type.shape.dim]


def _require_fixed(value: Any, path: Path) -> None:
    shape = _dimensions(value)
    loose = [str(dim) for dim in shape if not isinstance(dim, int)]
    if loose or not shape:
        raise ModelError(
            f"{path}: the input {value.name} has the shape {shape}, of which {', '.join(loose) or 'nothing'} is "
            f"{'not fixed' if loose else 'known'}; hardware has fixed shapes: export the model for one image (batch 1, "
            "no dynamic_axes or dynamic_shapes)"
        )
    if shape[0] != 1:
        raise ModelError(
            f"{path}: the input {value.name} has batch {shape[0]}: export the model for one image, batch 1"
        )


def _require_whole(model: Any, path: Path) -> None:
    """Raise ModelError unless the ONNX model is one network of fixed shapes with quantisers."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if not graph.node or not inputs or not graph.output:
        raise ModelError(f"{path} is not an ONNX model: it has {len(graph.node)} nodes and {len(inputs)} inputs")
    for ends, what in ((inputs, "input"), (list(graph.output), "output")):
        if len(ends) != 1:
            raise ModelError(
                f"{path} has {len(ends)} {what}s ({', '.join(value.name for value in ends)}): the suite takes models "
                "with one of each; cut the others off"
            )
    _require_fixed(inputs[0], path)
    if inputs[0].type.tensor_type.elem_type != 1:
        raise ModelError(
            f"{path}: the input {inputs[0].name} is not of type float: QONNX models take float tensors that hold the "
            "integers; export without a cast in front"
        )
    if not any(node.op_type in _QUANTISERS for node in graph.node):
        kinds = ", ".join(sorted({node.op_type for node in graph.node}))
        if any(node.domain.startswith(_FINNS_OWN) for node in graph.node):
            raise ModelError(
                f"{path} is a graph of FINN's hardware nodes already ({kinds}): give the QONNX model it was made of"
            )
        if "FloatQuant" in kinds:
            raise ModelError(
                f"{path} is quantised to small floats (FloatQuant), which FINN does not map: quantise to integers"
            )
        raise ModelError(
            f"{path} has no quantisation: its nodes are {kinds}, and none of {', '.join(_QUANTISERS)}. FINN maps "
            "quantised networks: train with Brevitas or QKeras and export QONNX"
        )


@dataclass(frozen=True, kw_only=True)
class OwnModel:
    """A model from outside, with what is asked of its hardware and of its input."""

    path: Path
    folding: Folding
    policy: Policy = Policy.UNIFORM
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    samples: Path | None = None
    """.npz with x [N, ...] and, if there are labels, y [N]; None: seeded random inputs."""

    @property
    def name(self) -> str:
        """The file's, of letters, digits and underscores."""
        return re.sub(r"\W+", "_", self.path.stem).strip("_") or "model"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def content(self) -> bytes:
        """The file's bytes. Raises ModelError where there are none."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise ModelError(f"{self.path} cannot be read: {error.strerror or error}") from None

    def require_readable(self) -> tuple[int, ...]:
        """The shape of its input, for one image; ModelError where the file is nothing that FINN could start with."""
        import onnx  # half a second; a wrong option is told without it

        try:
            model = onnx.load_from_string(self.content)
        except Exception:  # noqa: BLE001 - protobuf's DecodeError has no public name in onnx
            pointer = " (it is a Git LFS pointer: fetch the file itself)" if b"git-lfs" in self.content[:64] else ""
            raise ModelError(f"{self.path} is not an ONNX model: no ONNX reader can parse it{pointer}") from None
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
            raise ModelError(f"{self.path} keeps its weights in another file: save it as one, without external data")
        _require_whole(model, self.path)
        constants = {tensor.name for tensor in model.graph.initializer}
        first = next(value for value in model.graph.input if value.name not in constants)
        return tuple(int(dim) for dim in _dimensions(first))

    def __str__(self) -> str:
        policy = f"-{self.policy}" if self.policy is not Policy.UNIFORM else ""
        return f"{self.name}-{self.folding}{policy}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Images for a model."""

    x: NDArray[np.int64]
    """[N, elements], in the range of the accelerator's inputs."""
    y: NDArray[np.int64] | None
    """[N] labels."""
    source: str
    """Where they are from, for a person."""

    def __len__(self) -> int:
        return len(self.x)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.x.tobytes()).hexdigest()


def random_samples(shape: Sequence[int], input_type: InputType, count: int = RANDOM_SAMPLES) -> Samples:
    """The same ones each time: the lowest and the highest input throughout, then random ones.

    `shape` is one image's, with the batch's 1.
    """
    elements = math.prod(shape[1:])
    low, high = input_type.lowest, input_type.highest
    drawn = np.random.default_rng(_RANDOM_SEED).integers(low, high, (count - 2, elements), endpoint=True)
    ends = np.array([[low], [high]]).repeat(elements, axis=1)
    return Samples(x=np.concatenate([ends, drawn]).astype(np.int64), y=None, source=f"{count} random inputs, seeded")


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    how = "save samples with np.savez(path, x=images, y=labels)"
    try:
        file = np.load(path, allow_pickle=False)
        arrays = dict(file) if isinstance(file, np.lib.npyio.NpzFile) else None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, BadZipFile) as error:
        raise ModelError(f"{path} is not an .npz of plain arrays ({error}): {how}") from None
    if arrays is None:
        raise ModelError(f"{path} is a single array: {how}")
    return arrays


def read_samples(path: Path, shape: Sequence[int], input_type: InputType) -> Samples:
    """Samples of an .npz, for a model that takes one image of `shape` (with the batch's 1).

    ``x`` is [N, ...] with as many elements an image as the model takes, in C order; ``y``, if it is there, whole labels
    [N]. Raises ModelError that says what does not fit.
    """
    arrays = _read_arrays(path)
    if "x" not in arrays or arrays.keys() - {"x", "y"}:
        raise ModelError(
            f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}: samples are x [N, ...] and, if they have labels, "
            "y [N]; save them with np.savez(path, x=images, y=labels)"
        )
    x, y = arrays["x"], arrays.get("y")
    elements = math.prod(shape[1:])
    if x.ndim < 2 or not len(x) or x[0].size != elements:
        raise ModelError(
            f"{path}: x is {list(x.shape)}, and the model takes {list(shape[1:])} for an image, {elements} elements: "
            f"x has to be [N, {', '.join(map(str, shape[1:]))}] or [N, {elements}]"
        )
    if not np.issubdtype(x.dtype, np.number) or np.issubdtype(x.dtype, np.complexfloating):
        raise ModelError(f"{path}: x is of type {x.dtype}; it has to hold numbers")
    whole = np.rint(x).astype(np.int64) if np.isfinite(x).all() else np.full(x.shape, input_type.highest + 1)
    if (whole != x).any() or whole.min() < input_type.lowest or whole.max() > input_type.highest:
        raise ModelError(
            f"{path}: x goes from {x.min():g} to {x.max():g}, and the accelerator takes whole numbers from "
            f"{input_type.lowest} to {input_type.highest} ({input_type}). Give the integers before scaling, and say "
            "with --input, --scale and --shift what the model gets of them"
        )
    if y is not None and (y.shape != (len(x),) or not np.issubdtype(y.dtype, np.integer)):
        raise ModelError(f"{path}: y is {y.dtype} {list(y.shape)}; labels are whole numbers [{len(x)}], one an image")
    labels = None if y is None else y.astype(np.int64)
    labelled = "labelled " if y is not None else ""
    source = f"{len(x):,} {labelled}samples of {path.name}"
    return Samples(x=whole.reshape(len(x), -1), y=labels, source=source)
