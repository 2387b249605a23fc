"""The networks: their quantisers are what the policy says, and their exact parameters go out and in again."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qnn.cell import Quantization
from qnn.errors import CellError
from qnn.networks import Network, build_from_parameters, read_parameters, torch_threads
from qnn.parameters import PIXEL_OFFSET, PIXEL_SCALE, WIDTHS, NetworkParameters

CELLS = ("A2W2", "A3W3", "A8W8", "A2W8", "A8W2")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small gain nothing from more, and lose much where other tests run beside."""
    with torch_threads(1):
        yield


def pixels(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 1024), generator=torch.Generator().manual_seed(seed)).float()


def trained(cell: str, steps: int = 4) -> Network:
    """A few steps on random images: no scale, statistic or weight is at its initial value."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = Network(Quantization.parse(cell))
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for step in range(steps):
            loss = nn.functional.cross_entropy(network(pixels(50, step)), torch.randint(0, 10, (50,)))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.eval()


def plain_forward(parameters: NetworkParameters, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """The formula of qnn.parameters, one operation after another."""

    def quantize(x: NDArray[np.float32], scale: np.float32, bits: int) -> NDArray[np.float32]:
        return np.clip(np.round(x / scale), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    scale = parameters.input_scale
    codes = quantize(images * PIXEL_SCALE + PIXEL_OFFSET, scale, parameters.input_bits)
    for layer in parameters.layers:
        sums = codes @ layer.codes.T.astype(np.float32)
        z = sums * layer.weight_scales * scale
        z = (z - layer.mean) / np.sqrt(layer.variance + np.float32(layer.epsilon)) * layer.gamma + layer.beta
        if layer.activation_scale is not None and layer.activation_bits is not None:
            scale = layer.activation_scale
            codes = quantize(z, scale, layer.activation_bits)
    return z


@pytest.mark.parametrize("quantization", CELLS)
def test_a_network_built_from_its_parameters_is_bit_equal(quantization: str) -> None:
    network = trained(quantization)
    parameters = read_parameters(network)
    built = build_from_parameters(parameters)
    again = read_parameters(built)
    for one, other in zip(parameters.layers, again.layers, strict=True):
        for field in dataclasses.fields(one):
            assert np.array_equal(getattr(one, field.name), getattr(other, field.name)), field.name
    assert parameters.input_scale == again.input_scale
    assert parameters.input_bits == again.input_bits
    assert torch.equal(built(pixels(200)), network(pixels(200)))


def test_a_built_network_takes_the_stored_scale_even_where_the_weights_would_give_another() -> None:
    """Brevitas derives a scale from the largest weight; here no weight has the largest code."""
    parameters = read_parameters(trained("A3W3"))
    layers = tuple(dataclasses.replace(layer, codes=np.clip(layer.codes, -1, 2)) for layer in parameters.layers)
    again = read_parameters(build_from_parameters(dataclasses.replace(parameters, layers=layers)))
    for stored, found in zip(layers, again.layers, strict=True):
        assert np.array_equal(found.weight_scales, stored.weight_scales)
        assert np.array_equal(found.codes, stored.codes)


@pytest.mark.parametrize("quantization", CELLS)
def test_the_parameters_say_all_that_a_network_computes(quantization: str) -> None:
    network = trained(quantization)
    images = pixels(300)
    expected = network(images).detach().numpy()
    found = plain_forward(read_parameters(network), images.numpy())
    # Float32 may round an activation to the other side in a few images; all others agree closely.
    agree = np.isclose(found, expected, rtol=1e-4, atol=1e-4).all(axis=1)
    assert agree.mean() > 0.98


@pytest.mark.parametrize("quantization", CELLS)
def test_weights_are_symmetric_and_narrow_per_channel_but_per_tensor_on_the_last_layer(quantization: str) -> None:
    parameters = read_parameters(trained(quantization))
    bits = Quantization.parse(quantization).weight_bits
    assert bits is not None
    assert tuple(layer.inputs for layer in parameters.layers) == WIDTHS[:-1]
    for layer in parameters.layers:
        assert layer.weight_bits == bits
        assert np.abs(layer.codes.astype(int)).max() == 2 ** (bits - 1) - 1
    assert [layer.weight_scale_per_channel for layer in parameters.layers] == [True, True, True, False]
    assert [len(np.unique(layer.weight_scales)) > 1 for layer in parameters.layers] == [True, True, True, False]


@pytest.mark.parametrize("bits", range(2, 9))
def test_activations_start_at_minus_1_to_1_and_take_every_code_of_the_full_range(bits: int) -> None:
    network = Network(Quantization(activation_bits=bits, weight_bits=4), input_bits=8).eval()
    parameters = read_parameters(network)
    assert parameters.input_scale == 1 / 128
    for activation, layer in zip(network.activations[1:], parameters.layers, strict=False):
        assert layer.activation_scale == 1 / 2 ** (bits - 1)
        assert layer.activation_bits == bits
        values = activation(torch.linspace(-2, 2, 4001)).detach().numpy()
        codes = np.unique(values * 2 ** (bits - 1))
        assert codes.tolist() == list(range(-(2 ** (bits - 1)), 2 ** (bits - 1)))
    assert parameters.layers[-1].activation_scale is None


def test_activation_scales_are_learned() -> None:
    parameters = read_parameters(trained("A3W3"))
    assert parameters.input_scale != 1 / 128
    assert all(layer.activation_scale != 1 / 4 for layer in parameters.layers)


def test_the_input_quantiser_takes_other_bit_widths() -> None:
    network = Network(Quantization.parse("A3W3"), input_bits=4).eval()
    parameters = read_parameters(network)
    assert parameters.input_bits == 4
    assert parameters.input_scale == 1 / 8
    assert torch.equal(build_from_parameters(parameters)(pixels(50)), network(pixels(50)))


def test_the_float_network_holds_no_quantiser_and_has_no_integer_parameters() -> None:
    network = Network(Quantization.parse("float"))
    assert not [module for module in network.modules() if type(module).__module__.startswith("brevitas")]
    assert network(pixels(3)).shape == (3, 10)
    with pytest.raises(CellError, match="float"):
        read_parameters(network)


def test_building_leaves_torchs_random_numbers_alone() -> None:
    parameters = read_parameters(trained("A2W2"))
    before = torch.get_rng_state()
    build_from_parameters(parameters)
    assert torch.equal(torch.get_rng_state(), before)
