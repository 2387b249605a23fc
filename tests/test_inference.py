"""One forward pass of the Brevitas network tells its logits and every code and product on the way."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from qnn import datasets, inference, reference
from qnn.cell import Cell, Quantization
from qnn.checkpoints import load
from qnn.integer import ForwardPass
from qnn.networks import Chain, read_parameters

IMAGES = 2300
"""Two chunks and a part of one."""


@pytest.fixture(scope="module")
def network() -> Chain:
    return load(reference.shipped_checkpoint(Cell(quantization=Quantization.parse("A3W3")))).network


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return datasets.load("fashion-mnist", "test").pixels[:IMAGES]


@pytest.fixture(scope="module")
def told(network: Chain, pixels: np.ndarray) -> ForwardPass:
    return inference.run(network, pixels)


def test_logits_are_the_networks_own(network: Chain, pixels: np.ndarray, told: ForwardPass) -> None:
    with torch.no_grad():
        # Another number of images at once, or of threads, may sum in another order.
        assert np.allclose(network(torch.tensor(pixels).float()).numpy(), told.logits, rtol=1e-4, atol=1e-4)
    assert told.logits.shape == (IMAGES, 10)


def test_codes_and_products_lead_from_layer_to_layer(network: Chain, told: ForwardPass) -> None:
    parameters = read_parameters(network)
    assert [codes.shape for codes in told.codes] == [(IMAGES, 1024), (IMAGES, 64), (IMAGES, 64), (IMAGES, 64)]
    assert all(codes.dtype == np.int16 for codes in told.codes)
    scale = parameters.input_scale
    for k, layer in enumerate(parameters.layers):
        weights = layer.codes.astype(np.float64) * layer.weight_scales[:, None]
        inputs = told.codes[k].astype(np.float64) * float(scale)
        bound = 1030 * 2.0**-24 * (np.abs(inputs) @ np.abs(weights).T)  # of 1,024 products or fewer in float32
        assert (np.abs(told.products[k] - inputs @ weights.T) <= bound).all()
        z = (told.products[k] - layer.mean) / np.sqrt(layer.variance + layer.epsilon) * layer.gamma + layer.beta
        if layer.activation_scale is None:
            assert np.allclose(told.logits, z, rtol=1e-4, atol=1e-4)
            continue
        scale = layer.activation_scale
        assert np.mean(np.clip(np.rint(z / scale), -4, 3) == told.codes[k + 1]) > 0.9999


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_it_runs_on_one_thread_and_leaves_network_and_torch_as_they_were(network: Chain) -> None:
    seen: list[int] = []
    with network.register_forward_hook(lambda *_: seen.append(torch.get_num_threads())):
        inference.run(network, np.zeros((5, 1024), dtype=np.uint8))
    with pytest.raises(RuntimeError):
        inference.run(network, np.zeros((5, 3), dtype=np.uint8))
    assert seen == [1]
    assert torch.get_num_threads() == 2
    assert not [name for name, module in network.named_modules() if module._forward_hooks]


def test_no_images_give_nothing(network: Chain) -> None:
    told = inference.run(network, np.empty((0, 1024), dtype=np.uint8))
    assert told.logits.shape == (0, 10)
    assert told.codes[0].shape == (0, 1024)
