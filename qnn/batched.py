"""Many cells of one network as one computation: every tensor of ``qnn.networks.Network`` with a leading cell axis.

All cells see the same images and the same dropout masks. What Brevitas computes module by module is written out here
in plain tensor operations, so that torch.compile can fuse them; ``tests/test_sweep.py`` proves the mathematics equal,
gradients included.

Each cell learns a scale of its own for its input, so the quantised images differ from cell to cell and the first layer
is a batched product like the others. Its input has to be differentiated too, for that scale.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qnn.networks import DROPOUT, WIDTHS, Network

__all__ = ["BatchedNetwork", "Step", "draw_masks", "forward", "products", "stack", "train_forward"]

LAYERS = len(WIDTHS) - 1
SMALLEST_SCALE = 1e-10
"""Brevitas' `scaling_min_val` of weights: a channel of zeros still has a scale."""


def _activation_name(layer: int) -> str:
    return f"activations.{layer}.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl.value"


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchedNetwork:
    """G networks of one shape."""

    parameters: Tensor
    """All that is learned, one after another: one gradient, one tensor for the optimiser."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of each parameter in there, by the names of Network's state, [G, ...]."""
    statistics: Mapping[str, Tensor]
    """Running means and variances of batch norm by the same names, [G, outputs]."""
    activation_limits: Sequence[Tensor]
    """2^(n-1) of the quantiser in front of each layer, [G, 1, 1]: codes go from -limit to limit - 1."""
    weight_limits: Sequence[Tensor]
    """2^(n-1) - 1 of each layer's weights, [G, 1, 1]: codes go from -limit to limit."""

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of what is laid out as the parameters are (they, their gradient) by name."""
        parts = flat.split([math.prod(shape) for shape in self.shapes.values()])  # type: ignore[no-untyped-call]
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def write_to(self, cell: int, network: Network) -> None:
        """Copy one cell into a network of its bit widths, in place: loading a state dict rebuilds its quantisers."""
        with torch.no_grad():
            found = {**self.named(self.parameters), **self.statistics}
            for name, tensor in network.state_dict().items():
                if name in found:
                    tensor.copy_(found[name][cell])


def stack(networks: Sequence[Network], *, device: torch.device | None = None) -> BatchedNetwork:
    """Copies of quantised networks, in this order, as one."""

    def stacked(named: Callable[[Network], Iterable[tuple[str, Tensor]]]) -> dict[str, Tensor]:
        states = [dict(named(network)) for network in networks]
        return {name: torch.stack([state[name].detach() for state in states]).to(device) for name in states[0]}

    # The largest first: each begins at a whole vector then.
    learned = dict(sorted(stacked(Network.named_parameters).items(), key=lambda item: -item[1].numel()))
    statistics = stacked(lambda network: network.norms.named_buffers("norms"))

    def limits(modules: Sequence[Any]) -> Tensor:
        """2^(n-1) of what a module of each network quantises to."""
        bits = torch.stack([module.bit_width() for module in modules])
        return (2.0 ** (bits - 1)).to(learned["linears.0.weight"]).view(-1, 1, 1)

    any_networks: Sequence[Any] = networks  # nn.ModuleList forgets the types of its members
    return BatchedNetwork(
        parameters=torch.cat([tensor.flatten() for tensor in learned.values()]).requires_grad_(),
        shapes={name: tuple(tensor.shape) for name, tensor in learned.items()},
        statistics={name: tensor for name, tensor in statistics.items() if tensor.is_floating_point()},
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


@torch.library.custom_op("qnn::products", mutates_args=())
def products(a: Tensor, b: Tensor) -> Tensor:
    """a[g] b[g]^T for each g; a [G, M, K], b [G, N, K], of any strides."""
    if a.device.type != "cpu" or a.dtype != torch.float32 or not torch.backends.mkldnn.enabled:
        return torch.bmm(a, b.transpose(1, 2))
    # What torch.compile itself takes for the linear layers of a frozen network: oneDNN. Products of ATen go to MKL,
    # which computes at half the width on processors that are not Intel's (95 against 190 GFLOP/s on a Zen 5 core).
    linear = torch.ops.mkldnn._linear_pointwise
    return torch.stack([linear(x, y, None, "none", [], "") for x, y in zip(a, b, strict=True)])


@products.register_fake
def _(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(a.shape[0], a.shape[1], b.shape[1])


def _codes(x: Tensor, scale: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Codes of x, and their gradient with respect to the scale, in units of codes.

    Rounded first and clamped after, as Brevitas does: what rounds to the largest code still passes its gradient, what
    is clamped passes none to x, and its code to the scale.
    """
    ratio = x / scale
    rounded = torch.round(ratio)
    codes = torch.minimum(torch.maximum(rounded, -limit), limit - 1)
    return codes, codes - torch.where(codes == rounded, ratio, 0)


class _InputLayer(torch.autograd.Function):
    """Quantised and dropped input times quantised weights; differentiated to the input's scale and the weights.

    The scale's gradient, sum(dz . (slopes W^T)), is found with a product of the slopes in the forward pass: the
    gradient of every input, [G, N, inputs], is never there.
    """

    @staticmethod
    def forward(ctx, x: Tensor, mask: Tensor, value: Tensor, limit: Tensor, weight: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        scale = value.abs() / limit
        codes, slopes = _codes(x, scale, limit)
        both = torch.cat([drop(codes * scale, mask), drop(slopes, mask)], dim=1)
        both_products: Tensor = products(both, weight)
        z, of_scale = both_products.chunk(2, dim=1)
        ctx.save_for_backward(both, of_scale, value, limit)
        return z

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[None, None, Tensor, None, Tensor]:  # type: ignore[no-untyped-def]
        both, of_scale, value, limit = ctx.saved_tensors
        dropped = both[:, : gradient.shape[1]]
        of_value = (gradient * of_scale).sum(dim=(1, 2), keepdim=True) / limit * value.sign()
        return None, None, of_value, None, products(gradient.transpose(1, 2), dropped.transpose(1, 2))


class _QuantizeActivations(torch.autograd.Function):
    """With the backward pass written out: it computes the codes anew, autograd would keep two masks of their size."""

    @staticmethod
    def forward(ctx, x: Tensor, value: Tensor, limit: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, value, limit)
        scale = value.abs() / limit
        codes, _ = _codes(x, scale, limit)
        return codes * scale

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[no-untyped-def]
        x, value, limit = ctx.saved_tensors
        scale = value.abs() / limit
        codes, slopes = _codes(x, scale, limit)
        of_scale = (gradient * slopes).sum(dim=(1, 2), keepdim=True)
        inside = codes == torch.round(x / scale)
        return torch.where(inside, gradient, 0), of_scale / limit * value.sign(), None


def quantize_activations(x: Tensor, value: Tensor, limit: Tensor) -> Tensor:
    """Signed full range with a learned scale |value| / limit; x [G or 1, N, inputs], value and limit [G, 1, 1]."""
    quantized: Tensor = _QuantizeActivations.apply(x, value, limit)  # type: ignore[no-untyped-call]
    return quantized


class _QuantizeRows(torch.autograd.Function):
    """Each row with a scale of its own; weight [rows, inputs], limit [rows, 1].

    The sum over rows of the scale's gradient, and its way back to the one largest weight, are written out: autograd
    would spread each row's gradient over a tensor as large as the weights.
    """

    @staticmethod
    def forward(ctx, weight: Tensor, limit: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(weight, limit)
        scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(SMALLEST_SCALE) / limit
        return torch.round(weight / scale) * scale

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        weight, limit = ctx.saved_tensors
        largest = weight.abs().amax(dim=1, keepdim=True)
        ratio = weight / (largest.clamp_min(SMALLEST_SCALE) / limit)
        of_largest = (gradient * (torch.round(ratio) - ratio)).sum(dim=1, keepdim=True) / limit
        # The first of equal ones, as torch.max with a dim has it; looked for this way because it vectorises.
        places = torch.arange(weight.shape[1], dtype=torch.int32, device=weight.device)
        first = torch.where(weight.abs() == largest, places, weight.shape[1]).amin(dim=1, keepdim=True)
        return gradient + torch.where(places == first, of_largest * weight.sign(), 0), None


def quantize_weights(weight: Tensor, limit: Tensor, *, per_channel: bool) -> Tensor:
    """Symmetric narrow range, scale = largest |weight| / limit; weight [G, outputs, inputs], limit [G, 1, 1].

    The scale is a function of the weights: its gradient reaches the largest weight of each row, or, per tensor, the
    largest of all (shared between equal ones, as torch.max does). Brevitas' clamp of the codes is left out: no
    weight is larger than the largest, so none is ever beyond the limit.
    """
    if per_channel:
        cells, outputs, inputs = weight.shape
        # All rows in one dimension: torch.compile then makes one loop over rows of it.
        rows = (cells * outputs, inputs), limit.expand(cells, outputs, 1).reshape(-1, 1)
        quantized: Tensor = _QuantizeRows.apply(weight.view(rows[0]), rows[1])  # type: ignore[no-untyped-call]
        return quantized.view_as(weight)
    largest = weight.abs().amax(dim=(1, 2), keepdim=True)
    # Brevitas' clamp passes the gradient of a scale below the smallest too.
    largest = largest + (largest.clamp_min(SMALLEST_SCALE) - largest).detach()
    scale = largest / limit
    return _round(weight / scale) * scale


def _quantized_weight(network: BatchedNetwork, tensors: Mapping[str, Tensor], layer: int) -> Tensor:
    return quantize_weights(
        tensors[f"linears.{layer}.weight"], network.weight_limits[layer], per_channel=layer < LAYERS - 1
    )


KEEP = 1 - DROPOUT


def draw_masks(images: int) -> list[Tensor]:
    """What dropout keeps of one batch, bool [N, inputs] of each layer.

    Drawn as nn.Dropout draws them on the CPU, so that one cell alone in Network sees the same from the same seed.
    """
    return [torch.empty(images, inputs, dtype=torch.bool).bernoulli_(KEEP) for inputs in WIDTHS[:-1]]


def drop(x: Tensor, mask: Tensor) -> Tensor:
    """What is kept grows, so that the mean stays."""
    return torch.where(mask, x * (1 / KEEP), 0)


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


def train_forward(network: BatchedNetwork, pixels: Tensor, labels: Tensor, masks: Sequence[Tensor]) -> Step:
    """Training mode: batch statistics, which also move the running ones; pixels 0..255 [N, 1024], labels [N]."""
    tensors = network.named(network.parameters)
    x = Network.normalise(pixels.to(network.parameters.dtype)).unsqueeze(0)
    for k in range(LAYERS):
        value, limit = tensors[_activation_name(k)].view(-1, 1, 1), network.activation_limits[k]
        weight = _quantized_weight(network, tensors, k)
        z: Tensor
        if k == 0:
            z = _InputLayer.apply(x, masks[k], value, limit, weight)  # type: ignore[no-untyped-call]
        else:
            z = torch.bmm(drop(quantize_activations(x, value, limit), masks[k]), weight.transpose(1, 2))
        variance, mean = torch.var_mean(z, dim=1, keepdim=True, correction=0)
        with torch.no_grad():
            count = z.shape[1]
            for name, found in (("mean", mean), ("var", variance * (count / (count - 1)))):
                running = network.statistics[f"norms.{k}.running_{name}"]
                running.mul_(1 - MOMENTUM).add_(found.detach().squeeze(1), alpha=MOMENTUM)
        gamma, beta = tensors[f"norms.{k}.weight"].unsqueeze(1), tensors[f"norms.{k}.bias"].unsqueeze(1)
        x = (z - mean) * torch.rsqrt(variance + EPSILON) * gamma + beta
    cells, count, classes = x.shape
    losses = nn.functional.cross_entropy(x.reshape(-1, classes), labels.repeat(cells), reduction="none").view(
        cells, count
    )
    return Step(losses=losses.mean(1), wrong=(x.detach().argmax(2) != labels).sum(1))


def forward(network: BatchedNetwork, pixels: Tensor) -> Tensor:
    """Eval mode: logits [G, N, 10] of pixels 0..255 [N, 1024]."""
    tensors = network.named(network.parameters)
    x = Network.normalise(pixels.to(network.parameters.dtype)).unsqueeze(0)
    for k in range(LAYERS):
        value, limit = tensors[_activation_name(k)].view(-1, 1, 1), network.activation_limits[k]
        z = products(quantize_activations(x, value, limit), _quantized_weight(network, tensors, k))
        mean, variance = (network.statistics[f"norms.{k}.running_{name}"].unsqueeze(1) for name in ("mean", "var"))
        gamma, beta = tensors[f"norms.{k}.weight"].unsqueeze(1), tensors[f"norms.{k}.bias"].unsqueeze(1)
        x = (z - mean) * torch.rsqrt(variance + EPSILON) * gamma + beta
    return x
