"""The networks, quantised and float, and the one policy by which they are quantised.

TFC, of the study's own repository: 1024-64-64-64-10, each fully connected layer without bias and followed by batch
norm, a quantised HardTanh in front of each dropout::

    pixels 0..255 -> [-1, 1] -> HardTanh (input_bits) -> Dropout -> FC -> BatchNorm
                             -> HardTanh (A bits) -> Dropout -> FC -> BatchNorm  (three times) -> logits
"""

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from brevitas.nn import QuantHardTanh, QuantIdentity, QuantLinear, QuantReLU
from brevitas.quant import (
    Int8ActPerTensorFloatMinMaxInit,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFloat,
    Uint8ActPerTensorFloatMaxInit,
)
from torch import Tensor, nn

from qnn.cell import INPUT_BITS, Quantization
from qnn.errors import CellError
from qnn.parameters import PIXEL_OFFSET, PIXEL_SCALE, WIDTHS, LayerParameters, NetworkParameters

__all__ = [
    "Chain",
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


def _hardtanh(bits: int | None, *, narrow: bool = False) -> Any:
    """Activation quantiser: signed, full range -2^(n-1)..2^(n-1)-1, one learned scale that starts at 1 / 2^(n-1)."""
    if bits is None:
        return nn.Hardtanh()
    ends = {"min_val": -1.0, "max_val": 1.0}
    return QuantHardTanh(act_quant=Int8ActPerTensorFloatMinMaxInit, bit_width=bits, narrow_range=narrow, **ends)


def _relu(bits: int, *, narrow: bool = False) -> Any:
    """Activation quantiser: unsigned, full range 0..2^n-1, one learned scale.

    A narrow one, 0..2^n-2, has no ReLU in front, which would change nothing: FINN refuses it there.
    """
    kind = QuantIdentity if narrow else QuantReLU
    return kind(act_quant=Uint8ActPerTensorFloatMaxInit, bit_width=bits, max_val=1.0, narrow_range=narrow)


def _linear(inputs: int, outputs: int, bits: int | None, *, per_channel: bool, narrow: bool = True) -> Any:
    """Weight quantiser: signed, narrow range (FINN's RTL MVAU takes no other), scale = max |w| / (2^(n-1) - 1)."""
    if bits is None:
        return nn.Linear(inputs, outputs, bias=False)
    quantizer = Int8WeightPerChannelFloat if per_channel else Int8WeightPerTensorFloat
    return QuantLinear(
        inputs, outputs, bias=False, weight_quant=quantizer, weight_bit_width=bits, weight_narrow_range=narrow
    )


class Chain(nn.Module):
    """Fully connected layers of any widths and bit widths: float32 pixels 0..255 [N, inputs] to logits [N, outputs].

    Each layer is an activation, dropout, a linear layer without bias and batch norm, in this order.
    """

    def __init__(self, activations: Sequence[Any], linears: Sequence[Any]) -> None:
        super().__init__()
        self.activations = nn.ModuleList(activations)
        self.dropouts = nn.ModuleList(nn.Dropout(DROPOUT) for _ in linears)
        self.linears = nn.ModuleList(linears)
        self.norms = nn.ModuleList(nn.BatchNorm1d(linear.out_features) for linear in linears)

    @property
    def inputs(self) -> int:
        """Pixels of an image."""
        first: Any = self.linears[0]
        return int(first.in_features)

    @property
    def is_float(self) -> bool:
        """Whether nothing is quantised."""
        return not isinstance(self.linears[0], QuantLinear)

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


class Network(Chain):
    """TFC: float32 pixels 0..255 [N, 1024] to logits [N, 10].

    Weights are scaled per output channel, on the last layer per tensor. Random numbers (initial weights, dropout)
    come from torch's default generator.
    """

    def __init__(self, quantization: Quantization, *, input_bits: int = INPUT_BITS) -> None:
        bits = (None if quantization.is_float else input_bits, *[quantization.activation_bits] * (len(WIDTHS) - 2))
        super().__init__(
            [_hardtanh(b) for b in bits],
            [
                _linear(inputs, outputs, quantization.weight_bits, per_channel=outputs != WIDTHS[-1])
                for inputs, outputs in itertools.pairwise(WIDTHS)
            ],
        )
        self.quantization = quantization


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


def _is_signed(activation: Any) -> bool:
    return bool(activation.act_quant.is_signed)


def _is_narrow(activation: Any) -> bool:
    return bool(activation.act_quant.is_narrow_range)


def read_parameters(network: Chain) -> NetworkParameters:
    """The exact parameters of a quantised network, bit for bit as its forward pass in eval mode uses them.

    Raises CellError for the float network, which has no integer codes.
    """
    if network.is_float:
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
                activation_signed=activation is None or _is_signed(activation),
                activation_narrow=activation is not None and _is_narrow(activation),
            )
        )
    return NetworkParameters(input_scale=input_scale, input_bits=input_bits, layers=tuple(layers))


def _set_activation(activation: Any, scale: np.float32, bits: int) -> None:
    """Brevitas computes the scale as |value| / 2^(n-1): exact in both directions, since it only moves the exponent.

    Where the activation is unsigned or narrow it divides by another number, which rounds; so the scale becomes a
    constant.
    """
    quantizer = activation.act_quant.fused_activation_quant_proxy.tensor_quant
    if _is_signed(activation) and not _is_narrow(activation):
        quantizer.scaling_impl.value.copy_(torch.tensor(scale * np.float32(2 ** (bits - 1))))
    else:
        quantizer.scaling_impl = StoredScale(torch.tensor(scale))


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


def build_from_parameters(parameters: NetworkParameters) -> Chain:
    """A network in eval mode with exactly these parameters: the inverse of read_parameters.

    Its weight scales are constants, since Brevitas would derive them from the weights anew; so it is for evaluation
    and export, not for further training.
    """
    quantisers = [(parameters.input_scale, parameters.input_bits, True, False)]
    for layer in parameters.layers[:-1]:
        if layer.activation_scale is None or layer.activation_bits is None:
            raise CellError("only the last layer may come without an activation")
        shape = (layer.activation_bits, layer.activation_signed, layer.activation_narrow)
        quantisers.append((layer.activation_scale, *shape))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network = Chain(
            [(_hardtanh if signed else _relu)(bits, narrow=narrow) for _, bits, signed, narrow in quantisers],
            [
                _linear(
                    layer.inputs,
                    layer.outputs,
                    layer.weight_bits,
                    per_channel=layer.weight_scale_per_channel,
                    narrow=layer.narrow_weights,
                )
                for layer in parameters.layers
            ],
        )
        for activation, (scale, bits, *_) in zip(network.activations, quantisers, strict=True):
            _set_activation(activation, scale, bits)
        for linear, norm, layer in zip(network.linears, network.norms, parameters.layers, strict=True):
            _set_layer(linear, norm, layer)
    return network.eval().requires_grad_(False)
