"""QONNX export: the same network, the same bytes, and a model that computes what the network computes."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from qnn import checkpoints, reference
from qnn.cell import Cell, Quantization
from qnn.datasets import load
from qnn.export import INPUT_NAME, OUTPUT_NAME, export, qonnx_bytes
from qnn.networks import Chain

CELL = Cell(quantization=Quantization.parse("A3W3"))


@pytest.fixture(scope="module")
def network() -> Chain:
    return checkpoints.load(reference.shipped_checkpoint(CELL)).network


@pytest.fixture(scope="module")
def model(network: Chain) -> bytes:
    return qonnx_bytes(network)


def test_a_model_has_one_input_of_pixels_one_output_of_logits_and_all_weights_inside(model: bytes) -> None:
    graph = onnx.ModelProto.FromString(model).graph

    def shapes(values: list[onnx.ValueInfoProto]) -> dict[str, list[int]]:
        return {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in values}

    assert shapes(list(graph.input)) == {INPUT_NAME: [1, 1024]}
    assert shapes(list(graph.output)) == {OUTPUT_NAME: [1, 10]}
    assert not [tensor.name for tensor in graph.initializer if tensor.external_data]
    operations = [node.op_type for node in graph.node]
    assert operations.count("Quant") == 8
    assert operations.count("Gemm") + operations.count("MatMul") == 4
    assert "Dropout" not in operations


def test_qonnx_computes_what_the_network_computes(model: bytes, network: Chain) -> None:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.util.cleanup import cleanup_model

    wrapper = cleanup_model(ModelWrapper(onnx.ModelProto.FromString(model)))
    images = load(CELL.dataset, "test").pixels[:20].astype(np.float32)
    expected = network(torch.tensor(images)).numpy()
    for image, logits in zip(images, expected, strict=True):
        found = execute_onnx(wrapper, {wrapper.graph.input[0].name: image[None]})
        assert np.allclose(found[wrapper.graph.output[0].name], logits, atol=1e-4)


def test_the_bytes_are_the_same_on_every_export_also_in_another_process_and_folder(
    model: bytes, network: Chain, tmp_path: Path
) -> None:
    assert qonnx_bytes(network) == model
    script = (
        "import sys; from pathlib import Path; from qnn import checkpoints, export;"
        "export.export(checkpoints.load(Path(sys.argv[1])).network, Path('model.onnx'))"
    )
    root = Path(__file__).resolve().parents[1]
    path = reference.shipped_checkpoint(CELL)
    subprocess.run(
        [sys.executable, "-c", script, path],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "1"},
        check=True,
    )
    assert list(tmp_path.iterdir()) == [tmp_path / "model.onnx"]
    assert hashlib.sha256((tmp_path / "model.onnx").read_bytes()).digest() == hashlib.sha256(model).digest()
    assert str(root).encode() not in model
    assert b"site-packages" not in model


def test_another_network_gives_other_bytes(model: bytes) -> None:
    other = reference.shipped_checkpoint(Cell(dataset="mnist", quantization=CELL.quantization))
    assert qonnx_bytes(checkpoints.load(other).network) != model


def test_exporting_prints_nothing_and_leaves_the_network_as_it_was(
    network: Chain, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pixels = torch.rand(10, 1024) * 255
    before = network(pixels)
    export(network, tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")
    assert not network.training
    assert torch.equal(network(pixels), before)
