"""Many cells of one network as one computation: every tensor of ``qnn.networks.Network`` with a leading cell axis.

All cells see the same images and the same dropout masks. What Brevitas and torch's autograd and Adam compute module by
module is written out here in plain tensor operations, gradients included, so that a whole training step is one graph
for torch.compile; ``tests/test_sweep.py`` proves the mathematics equal.

Each cell learns a scale of its own for its input, so the quantised images differ from cell to cell and the first layer
is a batched product like the others.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qnn.networks import DROPOUT, Network
from qnn.parameters import WIDTHS

__all__ = [
    "Adam",
    "BatchedNetwork",
    "Step",
    "draw_masks",
    "forward",
    "loss_and_gradient",
    "products",
    "stack",
    "train_step",
]

LAYERS = len(WIDTHS) - 1
KEEP = 1 - DROPOUT
SMALLEST_SCALE = 1e-10
"""Brevitas' `scaling_min_val` of weights: a channel of zeros still has a scale."""
NORM_EPSILON = 1e-5
NORM_MOMENTUM = 0.1
"""nn.BatchNorm1d's own."""
ADAM_EPSILON = 1e-8
"""torch.optim.Adam's own."""


def _activation_name(layer: int) -> str:
    return f"activations.{layer}.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl.value"


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchedNetwork:
    """G networks of one shape."""

    parameters: Tensor
    """All that is learned, one after another; so is its gradient."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of each parameter in there, by the names of Network's state, [G, ...]."""
    statistics: Mapping[str, Tensor]
    """Running means and variances of batch norm by the same names, [G, outputs]."""
    activation_limits: Sequence[Tensor]
    """2^(n-1) of the quantiser in front of each layer, [G, 1, 1]: codes go from -limit to limit - 1."""
    weight_limits: Sequence[Tensor]
    """2^(n-1) - 1 of each layer's weights, [G, 1, 1]: codes go from -limit to limit."""

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of what is laid out as the parameters are (they, their gradient, Adam's moments) by name."""
        parts = flat.split([math.prod(shape) for shape in self.shapes.values()])  # type: ignore[no-untyped-call]
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}


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
        parameters=torch.cat([tensor.flatten() for tensor in learned.values()]),
        shapes={name: tuple(tensor.shape) for name, tensor in learned.items()},
        statistics={name: tensor for name, tensor in statistics.items() if tensor.is_floating_point()},
        activation_limits=[
            limits([network.activations[k].act_quant for network in any_networks]) for k in range(LAYERS)
        ],
        weight_limits=[
            limits([network.linears[k].weight_quant for network in any_networks]) - 1 for k in range(LAYERS)
        ],
    )


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


def quantize_activations(x: Tensor, value: Tensor, limit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Signed full range with a learned scale |value| / limit; x [G or 1, N, inputs], value and limit [G, 1, 1].

    Gives codes times scale, their derivative with respect to the scale, and whether a gradient passes to x. Rounded
    first and clamped after, as Brevitas does: what rounds to the largest code still passes its gradient, what is
    clamped passes none to x, and its code to the scale.
    """
    scale = value.abs() / limit
    ratio = x / scale
    rounded = torch.round(ratio)
    codes = torch.minimum(torch.maximum(rounded, -limit), limit - 1)
    inside = codes == rounded
    return codes * scale, codes - torch.where(inside, ratio, 0), inside


def _rows(weight: Tensor, limit: Tensor, *, per_channel: bool) -> tuple[Tensor, Tensor]:
    """The weights that share a scale as a row [rows, n], and each row's limit [rows, 1].

    All rows in one dimension: torch.compile then makes one loop over rows of it.
    """
    cells, outputs, inputs = weight.shape
    if per_channel:
        return weight.reshape(cells * outputs, inputs), limit.expand(cells, outputs, 1).reshape(-1, 1)
    return weight.reshape(cells, outputs * inputs), limit.view(cells, 1)


def quantize_weights(weight: Tensor, limit: Tensor, *, per_channel: bool) -> Tensor:
    """Symmetric narrow range, scale = largest |weight| / limit; weight [G, outputs, inputs], limit [G, 1, 1].

    Brevitas' clamp of the codes is left out: no weight is larger than the largest, so none is ever beyond the limit.
    """
    rows, limits = _rows(weight, limit, per_channel=per_channel)
    scale = rows.abs().amax(dim=1, keepdim=True).clamp_min(SMALLEST_SCALE) / limits
    return (torch.round(rows / scale) * scale).view_as(weight)


def weights_gradient(weight: Tensor, limit: Tensor, gradient: Tensor, *, per_channel: bool) -> Tensor:
    """The weights' gradient from that of their quantised values, of the same shape.

    The scale is a function of the weights: its gradient reaches the largest weight. Of several largest, the first
    gets it where there is a scale for each channel, and all share it where there is one for the tensor, as torch.max
    has it with and without a dimension. (Brevitas' lower limit of the scale passes the gradient.)
    """
    rows, limits = _rows(weight, limit, per_channel=per_channel)
    gradients = gradient.reshape(rows.shape)
    largest = rows.abs().amax(dim=1, keepdim=True)
    ratio = rows / (largest.clamp_min(SMALLEST_SCALE) / limits)
    of_largest = (gradients * (torch.round(ratio) - ratio)).sum(dim=1, keepdim=True) / limits
    if per_channel:
        # Looked for this way because it vectorises.
        places = torch.arange(rows.shape[1], dtype=torch.int32, device=rows.device)
        first = torch.where(rows.abs() == largest, places, rows.shape[1]).amin(dim=1, keepdim=True)
        share = torch.where(places == first, of_largest, 0)
    else:
        found = rows.abs() == largest
        share = torch.where(found, of_largest / found.sum(dim=1, keepdim=True), 0)
    return (gradients + share * rows.sign()).view_as(weight)


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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Layer:
    """What a layer's backward pass needs of its forward pass."""

    dropped: Tensor
    """The layer's input, [G, N, inputs]."""
    weight: Tensor
    """Quantised, [G, outputs, inputs]."""
    slopes: Tensor
    """Derivative of the input with respect to its scale, [G, N, inputs]; behind the first layer's weights already,
    [G, N, outputs]: the gradient of every pixel, [G, N, 1024], is then never computed."""
    inside: Tensor
    """Whether a gradient passes the activation, [G, N, inputs]."""
    normal: Tensor
    """[G, N, outputs], of mean 0 and variance 1."""
    inverse: Tensor
    """One over the deviation that was divided by, [G, 1, outputs]."""


def _layer_parameters(network: BatchedNetwork, named: Mapping[str, Tensor], k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Layer k's activation value [G, 1, 1], and batch norm's gamma and beta [G, 1, outputs]."""
    gamma, beta = (named[f"norms.{k}.{name}"].unsqueeze(1) for name in ("weight", "bias"))
    return named[_activation_name(k)].view(-1, 1, 1), gamma, beta


def loss_and_gradient(
    network: BatchedNetwork, pixels: Tensor, labels: Tensor, masks: Sequence[Tensor]
) -> tuple[Step, Tensor]:
    """Training mode; also the gradient of each cell's own loss, laid out as the parameters are.

    Batch statistics are normalised with, and move the running ones. pixels 0..255 [N, 1024], labels [N].
    """
    named, count = network.named(network.parameters), len(labels)
    x = Network.normalise(pixels.to(network.parameters.dtype)).unsqueeze(0)
    layers = []
    for k in range(LAYERS):
        value, gamma, beta = _layer_parameters(network, named, k)
        weight = quantize_weights(named[f"linears.{k}.weight"], network.weight_limits[k], per_channel=k < LAYERS - 1)
        quantized, slopes, inside = quantize_activations(x, value, network.activation_limits[k])
        dropped = drop(quantized, masks[k])
        if k == 0:
            both = torch.cat([dropped, drop(slopes, masks[k])], dim=1)
            z, slopes = products(both, weight).chunk(2, dim=1)
            dropped = both[:, :count]
        else:
            z = torch.bmm(dropped, weight.transpose(1, 2))
        variance, mean = torch.var_mean(z, dim=1, keepdim=True, correction=0)
        for name, found in (("mean", mean), ("var", variance * (count / (count - 1)))):
            running = network.statistics[f"norms.{k}.running_{name}"]
            running.mul_(1 - NORM_MOMENTUM).add_(found.squeeze(1), alpha=NORM_MOMENTUM)
        inverse = torch.rsqrt(variance + NORM_EPSILON)
        normal = (z - mean) * inverse
        layers.append(
            _Layer(dropped=dropped, weight=weight, slopes=slopes, inside=inside, normal=normal, inverse=inverse)
        )
        x = normal * gamma + beta
    log_likelihood = torch.log_softmax(x, dim=2)
    right = nn.functional.one_hot(labels, WIDTHS[-1])
    step = Step(losses=-torch.where(right == 1, log_likelihood, 0).sum(2).mean(1), wrong=(x.argmax(2) != labels).sum(1))

    gradient = (log_likelihood.exp() - right) / count
    found_gradients: dict[str, Tensor] = {}
    for k, layer in reversed(list(enumerate(layers))):
        value, gamma, _ = _layer_parameters(network, named, k)
        of_beta = gradient.sum(dim=1, keepdim=True)
        of_gamma = (gradient * layer.normal).sum(dim=1, keepdim=True)
        of_z = gamma * layer.inverse * (gradient - (of_beta + layer.normal * of_gamma) / count)
        if k == 0:
            of_weight = products(of_z.transpose(1, 2), layer.dropped.transpose(1, 2))
            of_scale = (of_z * layer.slopes).sum(dim=(1, 2))
        else:
            of_weight = torch.bmm(of_z.transpose(1, 2), layer.dropped)
            of_quantized = drop(torch.bmm(of_z, layer.weight), masks[k])
            of_scale = (of_quantized * layer.slopes).sum(dim=(1, 2))
            gradient = of_quantized * layer.inside
        found_gradients |= {
            f"norms.{k}.weight": of_gamma,
            f"norms.{k}.bias": of_beta,
            f"linears.{k}.weight": weights_gradient(
                named[f"linears.{k}.weight"], network.weight_limits[k], of_weight, per_channel=k < LAYERS - 1
            ),
            _activation_name(k): of_scale / network.activation_limits[k].flatten() * value.sign().flatten(),
        }
    return step, torch.cat([found_gradients[name].flatten() for name in network.shapes])


@dataclass(frozen=True, kw_only=True, eq=False)
class Adam:
    """torch.optim.Adam's state, laid out as the parameters are."""

    exp_avg: Tensor
    exp_avg_sq: Tensor
    beta1: float
    beta2: float

    def rates(self, learning_rate: float, step: int) -> Tensor:
        """What depends on the number of the step, from 1: the step's size, and what the deviation is divided by."""
        size = learning_rate / (1 - self.beta1**step)
        return self.exp_avg.new_tensor([size, math.sqrt(1 - self.beta2**step)])


def train_step(
    network: BatchedNetwork, adam: Adam, rates: Tensor, pixels: Tensor, labels: Tensor, masks: Sequence[Tensor]
) -> Step:
    """One step of Adam, in place."""
    step, gradient = loss_and_gradient(network, pixels, labels, masks)
    adam.exp_avg.lerp_(gradient, 1 - adam.beta1)
    adam.exp_avg_sq.mul_(adam.beta2).addcmul_(gradient, gradient, value=1 - adam.beta2)
    size, root = rates.unbind()
    network.parameters.sub_(size * adam.exp_avg / (adam.exp_avg_sq.sqrt() / root + ADAM_EPSILON))
    return step


def forward(network: BatchedNetwork, pixels: Tensor) -> Tensor:
    """Eval mode: logits [G, N, 10] of pixels 0..255 [N, 1024]."""
    named = network.named(network.parameters)
    x = Network.normalise(pixels.to(network.parameters.dtype)).unsqueeze(0)
    for k in range(LAYERS):
        value, gamma, beta = _layer_parameters(network, named, k)
        weight = quantize_weights(named[f"linears.{k}.weight"], network.weight_limits[k], per_channel=k < LAYERS - 1)
        z = products(quantize_activations(x, value, network.activation_limits[k])[0], weight)
        mean, variance = (network.statistics[f"norms.{k}.running_{name}"].unsqueeze(1) for name in ("mean", "var"))
        x = (z - mean) * torch.rsqrt(variance + NORM_EPSILON) * gamma + beta
    return x
