"""Many cells of one network as one computation: every tensor of ``qnn.networks.Network`` with a leading cell axis.

All cells see the same images and the same dropout masks. What Brevitas computes module by module is written out here
in plain tensor operations, so that torch.compile can fuse them; ``tests/test_sweep.py`` proves the mathematics equal,
gradients included.

Each cell learns a scale of its own for its input, so the quantised images differ from cell to cell and the first layer
is a batched product like the others. Its input has to be differentiated too, for that scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qnn.networks import DROPOUT, WIDTHS, Network

__all__ = ["BatchedNetwork", "Step", "draw_masks", "forward", "stack", "train_forward"]

LAYERS = len(WIDTHS) - 1
SMALLEST_SCALE = 1e-10
"""Brevitas' `scaling_min_val` of weights: a channel of zeros still has a scale."""


def _activation_name(layer: int) -> str:
    return f"activations.{layer}.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl.value"


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchedNetwork:
    """G networks of one shape."""

    tensors: dict[str, Tensor]
    """By the names of Network's state, each [G, ...]; parameters require gradients, statistics do not."""
    activation_limits: list[Tensor]
    """2^(n-1) of the quantiser in front of each layer, [G, 1, 1]: codes go from -limit to limit - 1."""
    weight_limits: list[Tensor]
    """2^(n-1) - 1 of each layer's weights, [G, 1, 1]: codes go from -limit to limit."""

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.tensors.items() if tensor.requires_grad}

    def write_to(self, cell: int, network: Network) -> None:
        """Copy one cell into a network of its bit widths, in place: loading a state dict rebuilds its quantisers."""
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                tensor.copy_(self.tensors[name][cell])


def stack(networks: Sequence[Network], *, device: torch.device | None = None) -> BatchedNetwork:
    """Copies of quantised networks, in this order, as one."""
    states = [network.state_dict() for network in networks]
    learned = {name for name, _ in networks[0].named_parameters()}
    tensors = {
        name: torch.stack([state[name].detach() for state in states]).to(device).requires_grad_(name in learned)
        for name in states[0]
    }

    def limits(modules: Sequence[Any]) -> Tensor:
        """2^(n-1) of what a module of each network quantises to."""
        bits = torch.stack([module.bit_width() for module in modules])
        return (2.0 ** (bits - 1)).to(tensors["linears.0.weight"].detach()).view(-1, 1, 1)

    any_networks: Sequence[Any] = networks  # nn.ModuleList forgets the types of its members
    return BatchedNetwork(
        tensors=tensors,
        activation_limits=[
            limits([network.activations[k].act_quant for network in any_networks]) for k in range(LAYERS)
        ],
        weight_limits=[
            limits([network.linears[k].weight_quant for network in any_networks]) - 1 for k in range(LAYERS)
        ],
    )


class _Round(torch.autograd.Function):
    """Round half to even; the gradient passes straight through."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


def _round(x: Tensor) -> Tensor:
    rounded: Tensor = _Round.apply(x)  # type: ignore[no-untyped-call]
    return rounded


class _QuantizeActivations(torch.autograd.Function):
    """With the backward pass written out: it computes the codes anew, autograd would keep two masks of their size."""

    @staticmethod
    def forward(ctx, x: Tensor, value: Tensor, limit: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, value, limit)
        scale = value.abs() / limit
        return torch.minimum(torch.maximum(torch.round(x / scale), -limit), limit - 1) * scale

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:  # type: ignore[no-untyped-def]
        x, value, limit = ctx.saved_tensors
        scale = value.abs() / limit
        ratio = x / scale
        rounded = torch.round(ratio)
        codes = torch.minimum(torch.maximum(rounded, -limit), limit - 1)
        inside = codes == rounded
        of_scale = (gradient * (codes - torch.where(inside, ratio, 0))).sum(dim=(1, 2), keepdim=True)
        of_x = torch.where(inside, gradient, 0) if ctx.needs_input_grad[0] else None
        return of_x, of_scale / limit * value.sign(), None


def quantize_activations(x: Tensor, value: Tensor, limit: Tensor) -> Tensor:
    """Signed full range with a learned scale |value| / limit; x [G or 1, N, inputs], value and limit [G, 1, 1].

    Rounded first and clamped after, as Brevitas does: what rounds to the largest code still passes its gradient, what
    is clamped passes none to x, and its code to the scale.
    """
    quantized: Tensor = _QuantizeActivations.apply(x, value, limit)  # type: ignore[no-untyped-call]
    return quantized


class _QuantizeWeights(torch.autograd.Function):
    """The sum over rows of the scale's gradient, and its way back to the one largest weight, written out.

    Autograd would spread each row's gradient over a tensor as large as the weights.
    """

    @staticmethod
    def forward(ctx, weight: Tensor, limit: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        largest = weight.abs().amax(dim=2, keepdim=True)
        scale = largest.clamp_min(SMALLEST_SCALE) / limit
        ctx.save_for_backward(weight, limit, largest, scale)
        return torch.round(weight / scale) * scale

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        weight, limit, largest, scale = ctx.saved_tensors
        ratio = weight / scale
        of_scale = (gradient * (torch.round(ratio) - ratio)).sum(dim=2, keepdim=True)
        # The first of equal ones, as torch.max with a dim has it; looked for this way because it vectorises.
        places = torch.arange(weight.shape[2], dtype=torch.int32, device=weight.device)
        first = torch.where(weight.abs() == largest, places, weight.shape[2]).amin(dim=2, keepdim=True)
        return gradient + torch.where(places == first, of_scale / limit * weight.sign(), 0), None


def quantize_weights(weight: Tensor, limit: Tensor, *, per_channel: bool) -> Tensor:
    """Symmetric narrow range, scale = largest |weight| / limit; weight [G, outputs, inputs], limit [G, 1, 1].

    The scale is a function of the weights: its gradient reaches the largest weight of each row, or, per tensor, the
    largest of all (shared between equal ones, as torch.max does). Brevitas' clamp of the codes is left out: no
    weight is larger than the largest, so none is ever beyond the limit.
    """
    if per_channel:
        quantized: Tensor = _QuantizeWeights.apply(weight, limit)  # type: ignore[no-untyped-call]
        return quantized
    largest = weight.abs().amax(dim=(1, 2), keepdim=True)
    # Brevitas' clamp passes the gradient of a scale below the smallest too.
    largest = largest + (largest.clamp_min(SMALLEST_SCALE) - largest).detach()
    scale = largest / limit
    return _round(weight / scale) * scale


def _quantized_weights(network: BatchedNetwork) -> list[Tensor]:
    return [
        quantize_weights(network.tensors[f"linears.{k}.weight"], network.weight_limits[k], per_channel=k < LAYERS - 1)
        for k in range(LAYERS)
    ]


def _quantized_input(network: BatchedNetwork, layer: int, x: Tensor) -> Tensor:
    value = network.tensors[_activation_name(layer)].view(-1, 1, 1)
    return quantize_activations(x, value, network.activation_limits[layer])


def draw_masks(images: int) -> list[Tensor]:
    """Dropout masks of one batch, [N, inputs] of each layer: 0 or 1 / (1 - p).

    Drawn as nn.Dropout draws them on the CPU, so that one cell alone in Network sees the same from the same seed.
    """
    keep = 1 - DROPOUT
    return [torch.empty(images, inputs).bernoulli_(keep).div_(keep) for inputs in WIDTHS[:-1]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """What a forward pass in training mode tells of each cell, [G]."""

    losses: Tensor
    """Mean cross entropy of the batch."""
    wrong: Tensor
    """Images whose largest logit is not their label's."""


EPSILON = 1e-5
MOMENTUM = 0.1
"""nn.BatchNorm1d's own."""


def train_forward(network: BatchedNetwork, x: Tensor, labels: Tensor, masks: Sequence[Tensor]) -> Step:
    """Training mode: batch statistics, which also move the running ones; x in [-1, 1] [N, 1024], labels [N]."""
    x = x.unsqueeze(0)
    for k, weight in enumerate(_quantized_weights(network)):
        z = torch.bmm(_quantized_input(network, k, x) * masks[k], weight.transpose(1, 2))
        variance, mean = torch.var_mean(z, dim=1, keepdim=True, correction=0)
        with torch.no_grad():
            count = z.shape[1]
            for name, found in (("mean", mean), ("var", variance * (count / (count - 1)))):
                running = network.tensors[f"norms.{k}.running_{name}"]
                running.mul_(1 - MOMENTUM).add_(found.detach().squeeze(1), alpha=MOMENTUM)
            network.tensors[f"norms.{k}.num_batches_tracked"].add_(1)
        gamma = network.tensors[f"norms.{k}.weight"].unsqueeze(1)
        x = (z - mean) * torch.rsqrt(variance + EPSILON) * gamma + network.tensors[f"norms.{k}.bias"].unsqueeze(1)
    cells, count, classes = x.shape
    losses = nn.functional.cross_entropy(x.reshape(-1, classes), labels.repeat(cells), reduction="none").view(
        cells, count
    )
    return Step(losses=losses.mean(1), wrong=(x.detach().argmax(2) != labels).sum(1))


def forward(network: BatchedNetwork, x: Tensor) -> Tensor:
    """Eval mode: logits [G, N, 10] of x in [-1, 1] [N, 1024]."""
    x = x.unsqueeze(0)
    for k, weight in enumerate(_quantized_weights(network)):
        z = torch.bmm(_quantized_input(network, k, x), weight.transpose(1, 2))
        tensors = {
            name: network.tensors[f"norms.{k}.{name}"].unsqueeze(1)
            for name in ("weight", "bias", "running_mean", "running_var")
        }
        x = (z - tensors["running_mean"]) * torch.rsqrt(tensors["running_var"] + EPSILON)
        x = x * tensors["weight"] + tensors["bias"]
    return x
