"""Shipped checkpoints: integer weights, scales and batch norm in a safetensors file, exact to reload.

Tensors, for layer k from 0: ``k.codes`` (int8), ``k.weight_scales``, ``k.gamma``, ``k.beta``, ``k.mean``,
``k.variance``, ``k.activation_scale``, and ``input_scale`` (float32); the float network keeps torch's own names. The
header's entry ``qnn`` is JSON: what was trained, how, with which versions, how well, and a checksum over that and all
tensors. Torch, which takes many seconds to import, is imported where a network is built or saved, not to read numbers.
"""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

from qnn.cell import Cell, Quantization
from qnn.errors import CellError, CheckpointError, TrainingError
from qnn.files import write_atomically
from qnn.parameters import WIDTHS, LayerParameters, NetworkParameters

if TYPE_CHECKING:
    from qnn.networks import Chain
    from qnn.training import Settings, Trained

__all__ = ["Checkpoint", "load", "load_parameters", "read_header", "save"]

FORMAT = 1
HEADER = "qnn"
_LAYER_ARRAYS = ("codes", "weight_scales", "gamma", "beta", "mean", "variance")

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A trained network as it is stored."""

    cell: Cell
    settings: "Settings"
    network: "Chain"
    """In eval mode, with the stored scales; for evaluation and export, not for further training."""
    parameters: NetworkParameters | None
    """None for the float network."""
    test_accuracy: float
    """Fraction of the 10,000 test images, of the network when its training ended."""
    train_error: float
    """Of the last epoch, in training mode."""
    versions: Mapping[str, str]
    trained_at: str
    """ISO 8601, UTC."""
    checksum: str
    """SHA-256 over header and tensors."""


def _checksum(header: Mapping[str, Any], tensors: Tensors) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(json.dumps([name, str(array.dtype), array.shape]).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _pack(parameters: NetworkParameters) -> tuple[dict[str, Any], Tensors]:
    tensors: Tensors = {"input_scale": np.array(parameters.input_scale)}
    layers = []
    for k, layer in enumerate(parameters.layers):
        tensors |= {f"{k}.{name}": getattr(layer, name) for name in _LAYER_ARRAYS}
        if layer.activation_scale is not None:
            tensors[f"{k}.activation_scale"] = np.array(layer.activation_scale)
        layers.append(
            {
                "weight_bits": layer.weight_bits,
                "weight_scale_per_channel": layer.weight_scale_per_channel,
                "activation_bits": layer.activation_bits,
                "epsilon": layer.epsilon,
            }
        )
    return {"input_bits": parameters.input_bits, "layers": layers}, tensors


def _unpack(header: Mapping[str, Any], tensors: Tensors) -> NetworkParameters:
    layers = []
    for k, layer in enumerate(header["layers"]):
        scale = tensors.get(f"{k}.activation_scale")
        layers.append(
            LayerParameters(
                codes=tensors[f"{k}.codes"],
                weight_bits=layer["weight_bits"],
                weight_scales=tensors[f"{k}.weight_scales"],
                weight_scale_per_channel=layer["weight_scale_per_channel"],
                gamma=tensors[f"{k}.gamma"],
                beta=tensors[f"{k}.beta"],
                mean=tensors[f"{k}.mean"],
                variance=tensors[f"{k}.variance"],
                epsilon=layer["epsilon"],
                activation_scale=None if scale is None else np.float32(scale),
                activation_bits=layer["activation_bits"],
            )
        )
    return NetworkParameters(
        input_scale=np.float32(tensors["input_scale"]), input_bits=header["input_bits"], layers=tuple(layers)
    )


def save(path: Path, trained: "Trained") -> None:
    """Write the checkpoint of a finished training, whole or not at all."""
    import torch

    from qnn.networks import read_parameters

    network = trained.network
    last = trained.log[-1]
    header: dict[str, Any] = {
        "format": FORMAT,
        "network": trained.cell.network,
        "dataset": trained.cell.dataset,
        "quantization": str(trained.cell.quantization),
        "settings": asdict(trained.settings),
        "test_accuracy": 1 - last.test_error,
        "train_error": last.train_error,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "brevitas": version("brevitas"),
        },
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if network.quantization.is_float:
        tensors = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    else:
        described, tensors = _pack(read_parameters(network))
        header |= described
    header = json.loads(json.dumps(header))  # as it will be read
    header["checksum"] = _checksum(header, tensors)
    write_atomically(path, serialize(tensors, metadata={HEADER: json.dumps(header)}))


def _read(path: Path) -> tuple[dict[str, Any], Tensors]:
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}: train one with `python -m qnn train`")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file ({error})") from None
    if HEADER not in metadata:
        raise CheckpointError(f"{path} is a safetensors file, but not of this project: its header has no {HEADER!r}")
    try:
        header = json.loads(metadata[HEADER])
        stored, found = header.pop("checksum"), header["format"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: its header cannot be read ({error!r})") from None
    if found != FORMAT:
        raise CheckpointError(f"{path} has format {found!r}, this version reads format {FORMAT}")
    if stored != _checksum(header, tensors):
        raise CheckpointError(f"{path} is corrupt: its content does not match its checksum; restore or retrain it")
    return {**header, "checksum": stored}, tensors


def read_header(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself, its checksum verified; no network is built.

    Raises CheckpointError where the file is missing, damaged, of another project or format.
    """
    return _read(path)[0]


def _check_shapes(path: Path, parameters: NetworkParameters) -> None:
    widths = tuple([layer.inputs for layer in parameters.layers] + [parameters.layers[-1].outputs])
    if widths != WIDTHS:
        raise CheckpointError(f"{path} holds a network of widths {widths}, expected {WIDTHS}")
    for k, layer in enumerate(parameters.layers):
        limit = 2 ** (layer.weight_bits - 1) - 1
        if layer.codes.dtype != np.int8 or int(np.abs(layer.codes.astype(np.int16)).max()) > limit:
            raise CheckpointError(f"{path}: layer {k} holds weights beyond int8 codes of -{limit} to {limit}")
        for name in _LAYER_ARRAYS[1:]:
            array = getattr(layer, name)
            if array.dtype != np.float32 or array.shape != (layer.outputs,) or not np.isfinite(array).all():
                raise CheckpointError(f"{path}: layer {k}: {name} is not {layer.outputs} finite float32 numbers")


@contextmanager
def _described_by(path: Path) -> Iterator[None]:
    """Whatever goes wrong with what a whole file holds is the file's fault."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError, CellError, TrainingError) as error:
        raise CheckpointError(f"{path} does not describe a network of this project ({error!r})") from None


def _parameters(path: Path, header: Mapping[str, Any], tensors: Tensors) -> NetworkParameters | None:
    if Quantization.parse(header["quantization"]).is_float:
        return None
    parameters = _unpack(header, tensors)
    _check_shapes(path, parameters)
    return parameters


def load_parameters(path: Path) -> NetworkParameters | None:
    """The exact numbers of a checkpoint, None for the float network; no network is built.

    Raises CheckpointError where the file is missing, damaged, of another project or format, or not this network.
    """
    header, tensors = _read(path)
    with _described_by(path):
        return _parameters(path, header, tensors)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint and build its network with the stored codes and scales, bit for bit.

    Raises CheckpointError where the file is missing, damaged, of another project or format, or not this network.
    """
    from qnn.networks import build_from_parameters
    from qnn.training import Settings

    header, tensors = _read(path)
    with _described_by(path):
        quantization = Quantization.parse(header["quantization"])
        cell = Cell(network=header["network"], dataset=header["dataset"], quantization=quantization)
        settings = dict(header["settings"])
        settings["milestones"] = tuple(settings["milestones"])
        parameters = _parameters(path, header, tensors)
        network = _float_network(tensors) if parameters is None else build_from_parameters(parameters)
        # What is left of the header bears the names of Checkpoint's fields.
        names = {field.name for field in fields(Checkpoint)} & header.keys() - {"settings", "network"}
        return Checkpoint(
            cell=cell,
            settings=Settings(**settings),
            network=network,
            parameters=parameters,
            **{name: header[name] for name in names},
        )


def _float_network(tensors: Tensors) -> "Chain":
    import torch

    from qnn.networks import Network

    with torch.random.fork_rng(devices=[]):
        network = Network(Quantization(activation_bits=None, weight_bits=None))
    network.load_state_dict({name: torch.tensor(array) for name, array in tensors.items()})
    return network.eval().requires_grad_(False)
