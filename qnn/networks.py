"""The networks, quantised and float, and the one policy by which they are quantised.

TFC, of the study's own repository: 1024-64-64-64-10, each fully connected layer without bias and followed by batch
norm, a quantised HardTanh in front of each dropout::

    pixels 0..255 -> [-1, 1] -> HardTanh (input_bits) -> Dropout -> FC -> BatchNorm
                             -> HardTanh (A bits) -> Dropout -> FC -> BatchNorm  (three times) -> logits
"""

import itertools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from brevitas.nn import QuantHardTanh, QuantLinear
from brevitas.quant import Int8ActPerTensorFloatMinMaxInit, Int8WeightPerChannelFloat, Int8WeightPerTensorFloat
from torch import Tensor, nn

from qnn.cell import INPUT_BITS, Quantization
from qnn.errors import CellError
from qnn.parameters import PIXEL_OFFSET, PIXEL_SCALE, WIDTHS, LayerParameters, NetworkParameters

__all__ = [
    "Network",
    "StoredScale",
    "build_from_parameters",
    "copy_state",
    "read_parameters",
    "torch_threads",
]

with warnings.catch_warnings():
    # Torch says once in a process that named tensors are experimental, and Brevitas meets them in every layer.
    warnings.simplefilter("ignore")
    torch.empty(0).rename(None)  # type: ignore[no-untyped-call]

DROPOUT = 0.2

# torch.compile does not follow NumPy's scalars.
_PIXEL_SCALE, _PIXEL_OFFSET = float(PIXEL_SCALE), float(PIXEL_OFFSET)


# Brevitas carries no types, and nn.ModuleList forgets those of its members: such modules are Any below.


def _hardtanh(bits: int | None) -> Any:
    """Activation quantiser: signed, full range -2^(n-1)..2^(n-1)-1, one learned scale that starts at 1 / 2^(n-1)."""
    if bits is None:
        return nn.Hardtanh()
    return QuantHardTanh(act_quant=Int8ActPerTensorFloatMinMaxInit, bit_width=bits, min_val=-1.0, max_val=1.0)


def _linear(inputs: int, outputs: int, bits: int | None, *, per_channel: bool) -> Any:
    """Weight quantiser: signed, narrow range (FINN's RTL MVAU takes no other), scale = max |w| / (2^(n-1) - 1)."""
    if bits is None:
        return nn.Linear(inputs, outputs, bias=False)
    quantizer = Int8WeightPerChannelFloat if per_channel else Int8WeightPerTensorFloat
    return QuantLinear(inputs, outputs, bias=False, weight_quant=quantizer, weight_bit_width=bits)


class Network(nn.Module):
    """TFC: float32 pixels 0..255 [N, 1024] to logits [N, 10].

    Weights are scaled per output channel, on the last layer per tensor. Random numbers (initial weights, dropout)
    come from torch's default generator.
    """

    def __init__(self, quantization: Quantization, *, input_bits: int = INPUT_BITS) -> None:
        super().__init__()
        self.quantization = quantization
        bits = (None if quantization.is_float else input_bits, *[quantization.activation_bits] * (len(WIDTHS) - 2))
        shapes = list(itertools.pairwise(WIDTHS))
        self.activations = nn.ModuleList(_hardtanh(b) for b in bits)
        self.dropouts = nn.ModuleList(nn.Dropout(DROPOUT) for _ in shapes)
        self.linears = nn.ModuleList(
            _linear(inputs, outputs, quantization.weight_bits, per_channel=outputs != WIDTHS[-1])
            for inputs, outputs in shapes
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(outputs) for _, outputs in shapes)

    @staticmethod
    def normalise(pixels: Tensor) -> Tensor:
        """Pixels 0..255 to [-1, 1], in float32."""
        return pixels * _PIXEL_SCALE + _PIXEL_OFFSET

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.normalise(pixels)
        layers = zip(self.activations, self.dropouts, self.linears, self.norms, strict=True)
        for activation, dropout, linear, norm in layers:
            x = norm(linear(dropout(activation(x))))
        return x


class StoredScale(nn.Module):
    """A weight quantiser's scale as it was stored: taken as it is, never computed from the weights."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, weights: Tensor, threshold: Tensor | None = None) -> Tensor:
        """Brevitas asks with the weights and the largest code; neither matters here."""
        return self.get_buffer("scale")


def copy_state(network: Network, tensors: Mapping[str, Tensor]) -> None:
    """Copy what `tensors` has of the network's state, in place.

    Loading a state dict would make Brevitas build its quantisers anew, and an optimiser go on with the old ones'.
    """
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name in tensors:
                tensor.copy_(tensors[name])


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads for torch; as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _float32(tensor: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array(tensor.detach().numpy(), dtype=np.float32)


def _scale_and_bits(activation: Any) -> tuple[np.float32, int]:
    return np.float32(activation.act_quant.scale().item()), int(activation.act_quant.bit_width().item())


def read_parameters(network: Network) -> NetworkParameters:
    """The exact parameters of a quantised network, bit for bit as its forward pass in eval mode uses them.

    Raises CellError for the float network, which has no integer codes.
    """
    if network.quantization.is_float:
        raise CellError("the float network has no integer parameters: choose a cell from A2W2 to A8W8")
    input_scale, input_bits = _scale_and_bits(network.activations[0])
    layers = []
    behind = [*network.activations[1:], None]
    linear: Any
    norm: Any
    for linear, norm, activation in zip(network.linears, network.norms, behind, strict=True):
        weight = linear.quant_weight()
        scale, bits = (None, None) if activation is None else _scale_and_bits(activation)
        layers.append(
            LayerParameters(
                codes=weight.int().detach().numpy().astype(np.int8),
                weight_bits=int(weight.bit_width.item()),
                weight_scales=_float32(weight.scale.reshape(-1).expand(linear.out_features)),
                weight_scale_per_channel=weight.scale.numel() > 1,
                gamma=_float32(norm.weight),
                beta=_float32(norm.bias),
                mean=_float32(norm.running_mean),
                variance=_float32(norm.running_var),
                epsilon=norm.eps,
                activation_scale=scale,
                activation_bits=bits,
            )
        )
    return NetworkParameters(input_scale=input_scale, input_bits=input_bits, layers=tuple(layers))


def _set_activation(activation: Any, scale: np.float32 | None, bits: int | None) -> None:
    """Brevitas computes the scale as |value| / 2^(n-1): exact in both directions, since it only moves the exponent."""
    if scale is None or bits is None:
        raise CellError("only the last layer may come without an activation")
    value = activation.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl.value
    value.copy_(torch.tensor(scale * np.float32(2 ** (bits - 1))))


def _set_layer(linear: Any, norm: Any, layer: LayerParameters) -> None:
    scale = torch.tensor(layer.weight_scales).reshape(-1, 1)
    linear.weight.copy_(torch.tensor(layer.codes, dtype=torch.float32) * scale)
    linear.weight_quant.tensor_quant.scaling_impl = StoredScale(
        scale if layer.weight_scale_per_channel else scale[0, 0]
    )
    norm.eps = layer.epsilon
    norm.weight.copy_(torch.tensor(layer.gamma))
    norm.bias.copy_(torch.tensor(layer.beta))
    norm.running_mean.copy_(torch.tensor(layer.mean))
    norm.running_var.copy_(torch.tensor(layer.variance))


def build_from_parameters(parameters: NetworkParameters) -> Network:
    """A network in eval mode with exactly these parameters: the inverse of read_parameters.

    Its weight scales are constants, since Brevitas would derive them from the weights anew; so it is for evaluation
    and export, not for further training.
    """
    first = parameters.layers[0]
    quantization = Quantization(activation_bits=first.activation_bits, weight_bits=first.weight_bits)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network = Network(quantization, input_bits=parameters.input_bits)
        _set_activation(network.activations[0], parameters.input_scale, parameters.input_bits)
        for activation, layer in zip(network.activations[1:], parameters.layers, strict=False):
            _set_activation(activation, layer.activation_scale, layer.activation_bits)
        for linear, norm, layer in zip(network.linears, network.norms, parameters.layers, strict=True):
            _set_layer(linear, norm, layer)
    return network.eval().requires_grad_(False)
