"""The sweep: cell by cell the same mathematics as the Brevitas network, and a run that can be interrupted."""

import io
import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qnn import batched, checkpoints, cli, datasets, equivalence, inference, integer, shard, training
from qnn import sweep as sweep_module
from qnn.batched import BatchedNetwork
from qnn.cell import Cell, Quantization
from qnn.cli import main
from qnn.datasets import Images, load
from qnn.errors import CellError, CheckpointError, TrainingError
from qnn.integer import ForwardPass
from qnn.networks import Network, copy_state, read_parameters, torch_threads
from qnn.shard import EpochOutcome
from qnn.sweep import ALL, Sweep, sweep
from qnn.training import Epoch, Settings

FEW = tuple(Cell(quantization=Quantization.parse(name)) for name in ("A2W2", "A3W4", "A8W8"))
SETTINGS = Settings(epochs=3, milestones=(2,))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Other tests run beside; more threads lose much then."""
    with torch_threads(1):
        yield


@pytest.fixture(scope="module")
def images() -> tuple[Images, Images]:
    whole = load("fashion-mnist", "test")
    return (
        Images(pixels=whole.pixels[:1000], labels=whole.labels[:1000]),
        Images(pixels=whole.pixels[2000:2500], labels=whole.labels[2000:2500]),
    )


# --- the mathematics -------------------------------------------------------------------------------------------------


class Masked(nn.Module):
    """In place of a dropout: the mask it is given."""

    mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask / 0.8


def brevitas(quantization: Quantization, dtype: torch.dtype) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = Network(quantization)
    network.dropouts = nn.ModuleList(Masked() for _ in network.dropouts)
    return network.to(dtype)


def batches(count: int, size: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor, list[Tensor]]]:
    """Pixels, labels and masks; Fashion-MNIST test images."""
    whole = load("fashion-mnist", "test")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return [
            (
                torch.tensor(whole.pixels[k * size : (k + 1) * size]).to(dtype),
                torch.tensor(whole.labels[k * size : (k + 1) * size], dtype=torch.int64),
                batched.draw_masks(size),
            )
            for k in range(count)
        ]


def brevitas_loss(network: Network, batch: tuple[Tensor, Tensor, list[Tensor]]) -> Tensor:
    pixels, labels, masks = batch
    for dropout, mask in zip(network.dropouts, masks, strict=True):
        dropout.mask = mask
    return nn.functional.cross_entropy(network(pixels), labels)


def gradient_differences(quantizations: tuple[Quantization, ...], dtype: torch.dtype) -> dict[str, float]:
    """Of one step from the initial weights: largest relative difference of each cell's loss and gradients."""
    networks = [brevitas(quantization, dtype) for quantization in quantizations]
    stacked = batched.stack(networks)
    (batch,) = batches(1, 100, dtype)
    step, flat = batched.loss_and_gradient(stacked, *batch)
    gradients = stacked.named(flat)
    found = {}
    for k, network in enumerate(networks):
        loss = brevitas_loss(network, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        worst = abs(step.losses[k].item() / loss.item() - 1)
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None
            assert parameter.grad.norm() > 0
            worst = max(worst, float((gradients[name][k] - parameter.grad).norm() / parameter.grad.norm()))
        buffers = dict(network.named_buffers())
        for name, statistic in stacked.statistics.items():
            worst = max(worst, float((statistic[k] - buffers[name]).abs().max()))
        found[str(network.quantization)] = worst
    return found


FLOAT64 = 1e-11
"""No activation is that near a boundary."""
FLOAT32 = 1e-3
"""Where all codes are equal. An activation scale's gradient is a sum of 6,400 terms that nearly cancel."""
ROUNDING = 1024**0.5 * 2.0**-24
"""What float32 sums in another order make of a ratio, as a fraction of the range of codes: 1,024 terms are rounded,
each time by 2^-24 of the sum at most, independently. The order is the processor's."""


def test_loss_and_gradients_of_one_step_are_brevitas_for_all_49_cells() -> None:
    assert max(gradient_differences(ALL, torch.float64).values()) < FLOAT64


def ratios_of_one_step(quantizations: tuple[Quantization, ...]) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Of each cell in float32: x / scale in front of every activation's rounding, here and in Brevitas."""
    networks = [brevitas(quantization, torch.float32) for quantization in quantizations]
    (batch,) = batches(1, 100, torch.float32)
    here: list[Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        original = batched.quantize_activations

        def spy(x: Tensor, value: Tensor, limit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            here.append((x / (value.abs() / limit)).expand(len(quantizations), -1, -1))
            return original(x, value, limit)

        patch.setattr(batched, "quantize_activations", spy)
        batched.loss_and_gradient(batched.stack(networks), *batch)
    found = []
    for k, network in enumerate(networks):
        there: list[Tensor] = []
        for activation in network.activations:
            activation.register_forward_hook(
                lambda module, inputs, output, there=there: there.append(inputs[0] / module.act_quant.scale())
            )
        with torch.no_grad():
            brevitas_loss(network, batch)
        found.append(([ratios[k] for ratios in here], there))
    return found


def test_in_float32_codes_differ_only_on_a_boundary_and_gradients_only_where_codes_do() -> None:
    """In float32 a sum's order moves a value by rounding; one that lies on a boundary of codes gets the other code.

    Each such activation is shown to lie on one; what follows from it in later layers is not compared.
    """
    differences, equal = gradient_differences(ALL, torch.float32), 0
    for quantization, (here, there) in zip(ALL, ratios_of_one_step(ALL), strict=True):
        for ours, theirs in zip(here, there, strict=True):
            limit = 2.0 ** (8 if ours is here[0] else quantization.activation_bits or 0) / 2
            ours_codes, their_codes = (ratio.round().clamp(-limit, limit - 1) for ratio in (ours, theirs))
            differ = ours_codes != their_codes
            if differ.any():
                furthest = float((ours - theirs)[differ].abs().max())
                assert furthest <= 2 * limit * ROUNDING
                break
        else:
            equal += 1
            assert differences[str(quantization)] < FLOAT32
    assert equal > 20


def train_both(quantizations: tuple[Quantization, ...], steps: int) -> tuple[float, list[Network], BatchedNetwork]:
    """float64: the largest difference of any parameter or statistic (of one above 1, relative) after `steps` steps."""
    networks = [brevitas(quantization, torch.float64) for quantization in quantizations]
    stacked = batched.stack(networks)
    moments = torch.zeros_like(stacked.parameters), torch.zeros_like(stacked.parameters)
    adam = batched.Adam(exp_avg=moments[0], exp_avg_sq=moments[1], beta1=0.9, beta2=0.999)
    for number, batch in enumerate(batches(steps, 50, torch.float64), start=1):
        batched.train_step(stacked, adam, adam.rates(0.01, number), *batch)
    worst = 0.0
    for k, network in enumerate(networks):
        alone = torch.optim.Adam(network.parameters(), lr=0.01, fused=True)
        for batch in batches(steps, 50, torch.float64):
            alone.zero_grad()
            brevitas_loss(network, batch).backward()  # type: ignore[no-untyped-call]
            alone.step()
        found = {**stacked.named(stacked.parameters), **stacked.statistics}
        for name, tensor in [(name, tensor) for name, tensor in network.state_dict().items() if name in found]:
            difference = (found[name][k] - tensor).abs() / tensor.abs().clamp_min(1)
            worst = max(worst, float(difference.max()))
    return worst, networks, stacked


@pytest.mark.parametrize("cells", [ALL[::8], pytest.param(ALL, marks=pytest.mark.slow)], ids=["diagonal", "all 49"])
def test_after_50_steps_in_float64_cells_are_brevitas_and_codes_are_equal(
    cells: tuple[Quantization, ...],
) -> None:
    worst, networks, stacked = train_both(cells, 50)
    assert worst < 1e-10
    one: Any
    other: Any
    for k, network in enumerate(networks):
        copy = brevitas(network.quantization, torch.float64)
        copy_state(copy, {name: tensor[k] for name, tensor in stacked.named(stacked.parameters).items()})
        for one, other in zip(network.linears, copy.linears, strict=True):
            assert torch.equal(one.quant_weight().int(), other.quant_weight().int())


def half_steps(limit: int) -> Tensor:
    """[1, 4, n]: multiples of half a step from beyond one end of the range to beyond the other."""
    return (torch.arange(-2 * limit - 5, 2 * limit + 6, dtype=torch.float64) / 2).repeat(1, 4, 1)


def activation_difference(bits: int) -> float:
    """Values, and gradients to input and scale, of the quantiser in Brevitas and here, ties and ends included."""
    network = brevitas(Quantization(activation_bits=bits, weight_bits=2), torch.float64)
    quantizer = network.activations[1]
    value = dict(quantizer.named_parameters())["act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl.value"]
    limit = 2 ** (bits - 1)
    x = (half_steps(limit) / limit).requires_grad_()
    weights = torch.linspace(-1, 2, x.numel(), dtype=torch.float64).view_as(x)
    expected = quantizer(x)
    gradients = torch.autograd.grad((expected * weights).sum(), (x, value))
    limits = torch.tensor(float(limit), dtype=torch.float64).view(1, 1, 1)
    found, slopes, inside = batched.quantize_activations(x.detach(), value.detach().view(1, 1, 1), limits)
    others = weights * inside, (weights * slopes).sum() / limit
    return max(
        float((expected - found).detach().abs().max()),
        *(float((a.view(-1) - b.view(-1)).abs().max()) for a, b in zip(gradients, others, strict=True)),
    )


def weight_difference(bits: int, *, per_channel: bool) -> float:
    """The same of the weights; the largest is there twice, with both signs, and steps are whole numbers."""
    limit = 2 ** (bits - 1) - 1
    row = torch.arange(-2 * limit, 2 * limit + 1, dtype=torch.float64) / 2
    network = brevitas(Quantization(activation_bits=2, weight_bits=bits), torch.float64)
    layer: Any = network.linears[0 if per_channel else 3]
    weight = torch.zeros_like(layer.weight)
    pattern = row.repeat(weight.numel() // len(row) + 1)[: weight.numel()].view_as(weight)
    weight.copy_(pattern)
    with torch.no_grad():
        layer.weight.copy_(weight)
    weights = torch.linspace(-1, 2, weight.numel(), dtype=torch.float64).view_as(weight)
    expected = layer.quant_weight().value
    (gradient,) = torch.autograd.grad((expected * weights).sum(), (layer.weight,))
    here, limits = weight.unsqueeze(0), torch.tensor(float(limit), dtype=torch.float64).view(1, 1, 1)
    found = batched.quantize_weights(here, limits, per_channel=per_channel)
    other = batched.weights_gradient(here, limits, weights.unsqueeze(0), per_channel=per_channel)
    return max(float((expected - found[0]).detach().abs().max()), float((gradient - other[0]).abs().max()))


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_quantisers_are_brevitas_at_ties_and_at_the_ends_of_the_range(bits: int) -> None:
    assert activation_difference(bits) < 1e-9
    assert weight_difference(bits, per_channel=True) < 1e-9
    assert weight_difference(bits, per_channel=False) < 1e-9


def plain_activations(x: Tensor, value: Tensor, limit: Tensor, *, fault: str) -> tuple[Tensor, Tensor, Tensor]:
    """The activation quantiser and its derivatives by autograd, right or with a fault."""
    scale = (value.abs() / limit + 0 * x.detach()).requires_grad_()
    x = x.expand_as(scale).clone().requires_grad_()
    ratio = x / (scale.detach() if fault == "detached activation scale" else scale)
    rounded = torch.floor(ratio + 0.5) if fault == "half up" else torch.round(ratio)
    codes = ratio + (rounded - ratio).detach()
    if fault == "narrow activations":
        codes = torch.where(codes.abs() > limit - 1, (limit - 1) * codes.sign(), codes)
    elif fault == "minimum":  # halves the gradient of what just reaches the largest code
        codes = torch.minimum(torch.maximum(codes, -limit), limit - 1)
    else:
        codes = torch.where(codes > limit - 1, limit - 1, codes)
        codes = torch.where(codes < -limit, -limit, codes)
    values = codes * (scale.detach() if fault == "detached activation scale" else scale)
    slopes, inside = torch.autograd.grad(values.sum(), (scale, x), allow_unused=True)
    return values.detach(), torch.zeros_like(values) if slopes is None else slopes, inside


def plain_weights(weight: Tensor, limit: Tensor, *, per_channel: bool, fault: str) -> Tensor:
    if fault == "full range":
        limit = limit + 1
    if per_channel or fault == "per channel everywhere":
        largest = weight.abs().max(dim=2, keepdim=True).values
    else:
        largest = weight.abs().amax((1, 2), keepdim=True)
    if fault == "detached weight scale":
        largest = largest.detach()
    scale = largest / limit
    ratio = weight / scale
    return (ratio + (torch.round(ratio) - ratio).detach()) * scale


def plain_weights_gradient(weight: Tensor, limit: Tensor, gradient: Tensor, *, per_channel: bool, fault: str) -> Tensor:
    weight = weight.detach().requires_grad_()
    values = plain_weights(weight, limit, per_channel=per_channel, fault=fault)
    (found,) = torch.autograd.grad((values * gradient).sum(), weight)
    return found


FAULTS = [
    "half up", "narrow activations", "minimum", "detached activation scale", "full range", "per channel everywhere",
    "detached weight scale",
]  # fmt: skip


@pytest.mark.parametrize("fault", ["", *FAULTS])
def test_a_quantiser_that_is_slightly_wrong_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a fault the plain quantisers pass, so it is the fault that is found."""
    monkeypatch.setattr(batched, "quantize_activations", partial(plain_activations, fault=fault))
    monkeypatch.setattr(batched, "quantize_weights", partial(plain_weights, fault=fault))
    monkeypatch.setattr(batched, "weights_gradient", partial(plain_weights_gradient, fault=fault))
    alone = max(
        activation_difference(3), weight_difference(3, per_channel=True), weight_difference(3, per_channel=False)
    )
    step = gradient_differences((Quantization.parse("A3W3"),), torch.float64)["A3W3"]
    assert (alone > 1e-3) == bool(fault)
    # No value of a real batch lies exactly on a tie; a derivative of one half there counts as passing.
    if fault not in ("half up", "minimum"):
        assert (step > 1e-3) == bool(fault)
        assert (step < FLOAT64) != bool(fault)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile about itself
@pytest.mark.skipif(not sweep_module.can_compile(), reason="no g++ or no Python headers")
def test_the_compiled_step_is_the_same_mathematics(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = torch.compile(batched.loss_and_gradient, dynamic=False, fullgraph=True)
    monkeypatch.setattr(batched, "loss_and_gradient", compiled)
    assert max(gradient_differences(ALL[:7], torch.float64).values()) < FLOAT64


# --- the run ---------------------------------------------------------------------------------------------------------


def run(folder: Path, images: tuple[Images, Images], settings: Settings = SETTINGS, **options: Any) -> Sweep:
    cells = options.pop("cells", FEW)
    options = {"compiled": False, **options}
    return sweep(cells, settings, train=images[0], test=images[1], folder=folder, **options)


def results(log: tuple[Epoch, ...]) -> list[dict[str, object]]:
    return [{name: value for name, value in asdict(row).items() if name != "images_per_s"} for row in log]


@pytest.fixture(scope="module")
def whole(images: tuple[Images, Images], tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, Path]:
    folder = tmp_path_factory.mktemp("sweep")
    return run(folder, images), folder


def test_each_cell_trains_as_it_would_alone(
    whole: tuple[Sweep, Path], images: tuple[Images, Images], tmp_path: Path
) -> None:
    """Same initial weights, order and dropout: the first epoch differs by rounding alone."""
    for trained in whole[0].trained:
        alone = training.train(
            trained.cell, replace(SETTINGS, epochs=1), train=images[0], test=images[1], folder=tmp_path
        )
        assert trained.log[0].loss == pytest.approx(alone.log[0].loss, rel=0.02)
        assert trained.log[0].train_error == pytest.approx(alone.log[0].train_error, abs=0.03)


def test_logs_and_checkpoints_are_those_of_single_trainings(
    whole: tuple[Sweep, Path], images: tuple[Images, Images], tmp_path: Path
) -> None:
    assert not whole[0].stopped
    for trained in whole[0].trained:
        lines = (whole[1] / f"{trained.cell}.jsonl").read_text().splitlines()
        assert len(lines) == len(trained.log) == 3
        assert [row.learning_rate for row in trained.log] == pytest.approx([0.01, 0.01, 0.001])
        assert trained.log[-1].test_error < 0.6
        checkpoints.save(tmp_path / "c.safetensors", trained)
        loaded = checkpoints.load(tmp_path / "c.safetensors")
        assert loaded.test_accuracy == 1 - training.evaluate(loaded.network, images[1])


def saved(folder: Path) -> dict[str, Any]:
    """A sweep's state."""
    (path,) = folder.glob("sweep-*.state")
    content = io.BytesIO(path.read_bytes()[training.CHECKSUM_BYTES :])
    state: dict[str, Any] = torch.load(content, weights_only=True)
    return state


def forward_passes(stacked: BatchedNetwork, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> list[ForwardPass]:
    """The sweep's own forward pass in eval mode, of each cell, with its codes and matrix products."""
    codes: list[list[Tensor]] = []
    products: list[list[Tensor]] = []
    original, multiply = batched.quantize_activations, batched.products

    def spy_codes(x: Tensor, value: Tensor, limit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        given = original(x, value, limit)
        codes[-1].append((given[0] / (value.abs() / limit)).round().to(torch.int16))
        return given

    def spy_products(a: Tensor, b: Tensor) -> Tensor:
        products[-1].append(multiply(a, b))
        return products[-1][-1]

    logits = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batched, "quantize_activations", spy_codes)
        patch.setattr(batched, "products", spy_products)
        for part in torch.tensor(pixels).split(1000):  # type: ignore[no-untyped-call]
            codes.append([])
            products.append([])
            logits.append(batched.forward(stacked, part))
    whole = torch.cat(logits, dim=1)
    return [
        ForwardPass(
            logits=whole[k].numpy(),
            codes=tuple(torch.cat(layer, dim=1)[k].numpy() for layer in zip(*codes, strict=True)),
            products=tuple(torch.cat(layer, dim=1)[k].numpy() for layer in zip(*products, strict=True)),
        )
        for k in range(len(whole))
    ]


def test_a_checkpoint_has_the_integer_weights_scales_and_predictions_of_the_sweep(
    whole: tuple[Sweep, Path], tmp_path: Path
) -> None:
    """Predictions on all 10,000 test images, by the rule of ``qnn.equivalence`` for whatever computes in float32."""
    found, folder = whole
    arrays = saved(folder)["arrays"]
    stacked = batched.stack([trained.network for trained in found.trained])
    for name, tensor in {**stacked.named(stacked.parameters), **stacked.statistics}.items():
        assert torch.equal(tensor, arrays[name])
    pixels = load("fashion-mnist", "test").pixels
    passes = forward_passes(stacked, pixels)
    for k, trained in enumerate(found.trained):
        checkpoints.save(tmp_path / "c.safetensors", trained)
        checkpoint = checkpoints.load(tmp_path / "c.safetensors")
        assert checkpoint.parameters is not None
        for j, layer in enumerate(checkpoint.parameters.layers):
            weight = arrays[f"linears.{j}.weight"][k]
            largest = weight.abs().amax(1) if layer.weight_scale_per_channel else weight.abs().max().expand(10)
            scales = largest / (2 ** (layer.weight_bits - 1) - 1)
            assert np.array_equal(layer.weight_scales, scales.numpy())
            assert np.array_equal(layer.codes, (weight / scales.unsqueeze(1)).round().numpy())
        golden = integer.golden(checkpoint.parameters)
        trace = golden.trace(pixels)
        for name, float32 in (("sweep", passes[k]), ("Brevitas", inference.run(checkpoint.network, pixels))):
            comparison = equivalence.compare_forward_pass(golden, trace, float32.codes, pixels, float32.products)
            comparison.require_explained(name)
            exact = integer.logits(golden.parameters, comparison.last_accumulators)
            assert (np.abs(float32.logits - exact) <= equivalence.logit_bound(golden)).all()


class Interrupted(Exception):
    pass


def interrupted_after_an_epoch(
    folder: Path, images: tuple[Images, Images], settings: Settings, **options: Any
) -> Sweep:
    def interrupt(count: int) -> None:
        if list(folder.glob("*.state")):
            raise Interrupted

    with pytest.raises(Interrupted):
        run(folder, images, settings, on_images=interrupt, **options)
    assert saved(folder)["epochs done"] == 1
    return run(folder, images, settings, **options)


def assert_bit_equal(one: Sweep, other: Sweep) -> None:
    for a, b in zip(one.trained, other.trained, strict=True):
        assert results(a.log) == results(b.log)
        for mine, theirs in zip(a.network.state_dict().values(), b.network.state_dict().values(), strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("calls", [0, 1, 2], ids=["in epoch 1", "in epoch 2", "in epoch 3"])
def test_an_interrupted_sweep_ends_bit_equal(
    whole: tuple[Sweep, Path], images: tuple[Images, Images], tmp_path: Path, calls: int
) -> None:
    seen = 0

    def interrupt(count: int) -> None:
        nonlocal seen
        if seen == calls:
            raise Interrupted
        seen += 1

    with pytest.raises(Interrupted):
        run(tmp_path, images, on_images=interrupt)
    assert len(list(tmp_path.glob("*.state"))) == (calls > 0)
    torch.rand(3)
    assert_bit_equal(run(tmp_path, images), whole[0])


@pytest.mark.slow
def test_in_processes_each_cell_trains_as_in_one_and_goes_on_bit_equal(
    whole: tuple[Sweep, Path], images: tuple[Images, Images], tmp_path: Path
) -> None:
    """How many cells are computed together decides the order of some sums, so against one process it is rounding."""
    several = replace(SETTINGS, threads=2)
    found = run(tmp_path / "whole", images, several)
    for one, other in zip(found.trained, whole[0].trained, strict=True):
        assert one.log[0].loss == pytest.approx(other.log[0].loss, rel=0.02)

    again = interrupted_after_an_epoch(tmp_path / "parts", images, several)
    assert_bit_equal(again, found)


@pytest.mark.slow
@pytest.mark.skipif(not sweep_module.can_compile(), reason="no g++ or no Python headers")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile about itself
def test_a_compiled_sweep_goes_on_bit_equal(images: tuple[Images, Images], tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=2)
    found = run(tmp_path / "whole", images, settings, cells=FEW[:2], compiled=True)
    again = interrupted_after_an_epoch(tmp_path / "parts", images, settings, cells=FEW[:2], compiled=True)
    assert_bit_equal(again, found)


def test_a_process_that_is_killed_ends_the_sweep_with_an_error_and_the_rest_goes_on_from_there(
    images: tuple[Images, Images], tmp_path: Path
) -> None:
    def kill(number: int, rows: object, stopped: object) -> None:
        for child in multiprocessing.active_children()[:1] if number == 1 else []:
            os.kill(child.pid or 0, signal.SIGKILL)

    with pytest.raises(TrainingError, match="a process of the sweep has ended"):
        run(tmp_path, images, replace(SETTINGS, threads=2), on_epoch=kill)
    assert not multiprocessing.active_children()
    assert saved(tmp_path)["epochs done"] == 1
    assert len(run(tmp_path, images, replace(SETTINGS, threads=2)).trained) == len(FEW)


def test_input_bits_are_those_of_the_first_quantiser(images: tuple[Images, Images], tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=1)
    (trained,) = run(tmp_path, images, settings, cells=FEW[:1], input_bits=2).trained
    assert read_parameters(trained.network).input_bits == 2
    with pytest.raises(CheckpointError, match="input_bits is 2 there and 4 here"):
        run(tmp_path, images, settings, cells=FEW[:1], input_bits=4)


def test_a_loss_that_is_no_number_stops_its_cell_and_keeps_the_others(
    whole: tuple[Sweep, Path], images: tuple[Images, Images], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = shard._Shard.epoch

    def poisoned(this: shard._Shard) -> Iterator[int | EpochOutcome]:
        if this.epochs_done == 1:
            network = this.groups[0].network
            network.named(network.parameters)["linears.2.weight"][1, 5, 5] = torch.nan
        return original(this)

    told: list[dict[str, int]] = []
    with monkeypatch.context() as patch:
        patch.setattr(shard._Shard, "epoch", poisoned)
        found = run(tmp_path, images, on_epoch=lambda number, rows, stopped: told.append(dict(stopped)))
    assert found.stopped == {"tfc-fashion_mnist-A3W4": 2}
    assert told == [{}, found.stopped, found.stopped]
    assert len((tmp_path / "tfc-fashion_mnist-A3W4.jsonl").read_text().splitlines()) == 1
    assert [str(t.cell.quantization) for t in found.trained] == ["A2W2", "A8W8"]
    for one, other in zip(found.trained, whole[0].trained[::2], strict=True):
        assert results(one.log) == results(other.log)
    assert run(tmp_path, images).stopped == found.stopped


def test_a_sweep_without_a_finite_cell_ends_with_an_error(images: tuple[Images, Images], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no cell has a finite loss after epoch 1"):
        run(tmp_path, images, replace(SETTINGS, learning_rate=1e38))


def test_many_cells_share_a_line_an_epoch() -> None:
    row = Epoch(
        epoch=7, loss=1, train_error=0.2, test_error=0.1, validation_error=None, learning_rate=0.01, images_per_s=1000
    )
    rows = {f"tfc-mnist-A2W{bits}": replace(row, test_error=bits / 100) for bits in range(2, 9)}
    assert cli._describe_all(rows) == [
        "epoch   7  test error  2.00% (A2W2) to  8.00% (A2W8), median  5.00%  rate 0.01  7,000 network-images/s"
    ]
    few = dict(list(rows.items())[:2])
    assert [line.split()[0] for line in cli._describe_all(few)] == list(few)


def test_wrong_sets_of_cells_are_refused(images: tuple[Images, Images], tmp_path: Path) -> None:
    for cells, message in (
        ((), "empty"),
        ((FEW[0], FEW[0]), "A2W2"),
        ((FEW[0], Cell(quantization=Quantization.parse("float"))), "float"),
        ((FEW[0], Cell(dataset="mnist", quantization=Quantization.parse("A3W3"))), "one data set"),
    ):
        with pytest.raises(CellError, match=message):
            run(tmp_path, images, cells=cells)
    with pytest.raises(TrainingError, match="validation"):
        run(tmp_path, images, replace(SETTINGS, validation=10))
    assert not list(tmp_path.iterdir())


def test_going_on_with_other_settings_cells_or_images_is_refused(images: tuple[Images, Images], tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=1)
    run(tmp_path, images, settings)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match=r"seed is 0 there and 7 here"):
        run(tmp_path, images, replace(settings, seed=7))
    with pytest.raises(CheckpointError, match=r"threads is 1 there and 2 here"):
        run(tmp_path, images, replace(settings, threads=2))
    with pytest.raises(CheckpointError, match=r"cells is .*A8W8' there and 'tfc-fashion_mnist-A2W2' here"):
        run(tmp_path, images, settings, cells=FEW[:1])
    with pytest.raises(CheckpointError, match=r"training images is"):
        run(tmp_path, (images[1], images[1]), settings)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    next(tmp_path.glob("*.state")).write_bytes(b"hello")
    with pytest.raises(CheckpointError, match="damaged"):
        run(tmp_path, images, settings)


def test_a_folder_that_cannot_be_written_is_told_before_the_training(images: tuple[Images, Images]) -> None:
    with pytest.raises(OSError, match="/dev/null"):
        run(Path("/dev/null/folder"), images, on_images=lambda count: pytest.fail("trained"))


def test_without_a_compiler_it_runs_uncompiled_and_says_so_once(
    images: tuple[Images, Images], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sweep_module, "which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level(logging.WARNING):
        sweep(FEW[:1], replace(SETTINGS, epochs=1), train=images[0], test=images[1], folder=tmp_path)
    assert [record.message for record in caplog.records] == [
        "no g++ or no Python headers: the sweep runs uncompiled, several times slower"
    ]


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_trains_logs_and_saves(
    images: tuple[Images, Images],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(datasets, "load", lambda dataset, split: images[split == "test"])
    monkeypatch.setattr(sweep_module, "can_compile", lambda: False)
    command = ["sweep", "--dataset", "mnist", "--cells", "A3W3,a4w4", "--epochs", "2", "--folder", str(tmp_path)]
    assert main(command) == 0
    names = ("tfc-mnist-A3W3", "tfc-mnist-A4W4")
    expected = {f"{name}.{kind}" for name in names for kind in ("jsonl", "safetensors")}
    assert {path.name for path in tmp_path.iterdir()} == expected | {"sweep-tfc-mnist.state"}
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in printed[:4]] == [[n, "epoch", e] for e in ("1", "2") for n in names]
    assert printed[-1].startswith("tfc-mnist-A4W4: test accuracy ")
    assert main([*command, "--seed", "5"]) == 1
    assert "seed is 0 there and 5 here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cells", "A3W3,A9W9"], "unknown cell 'A9W9'"),
        (["--cells", ""], "empty"),
        (["--cells", ","], "empty"),
        (["--dataset", "cifar"], "unknown data set 'cifar'"),
        (["--epochs", "0"], "epochs"),
        (["--input-bits", "9"], "input_bits is 9"),
    ],
)
def test_bad_input_gives_one_error(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
