"""FINN in its own process: what it makes of the shipped A3W3 network, and how its failures are told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from qnn import checkpoints, export, reference
from qnn.cell import PART, Cell, Folding, Policy, Quantization
from qnn.errors import DataflowError, ToolTimeout
from qnn.networks import build_from_parameters
from qnn.tools import finn

A3W3 = Cell(quantization=Quantization.parse("A3W3"))
FOLDING = Folding(pe=8, simd=8)


@pytest.fixture(scope="module")
def qonnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("qonnx") / "model.onnx"
    export.export(checkpoints.load(reference.shipped_checkpoint(A3W3)).network, path)
    return path


@pytest.fixture(scope="module")
def compiled(qonnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled")
    finn.compile_network(qonnx, FOLDING, Policy.UNIFORM, PART, 10.0, folder)
    return folder


def test_the_same_network_gives_the_same_digest_wherever_it_is_compiled(
    qonnx: Path, compiled: Path, tmp_path: Path
) -> None:
    finn.compile_network(qonnx, FOLDING, Policy.UNIFORM, PART, 10.0, tmp_path)
    assert finn.read_design(tmp_path).digest == finn.read_design(compiled).digest


def test_no_file_of_the_design_holds_an_absolute_path(compiled: Path) -> None:
    design = finn.read_design(compiled)
    for name, text in design.files.items():
        if not name.startswith("rtllib/"):
            assert '"/' not in text, name


def test_asked_and_applied_folding_are_both_kept(compiled: Path) -> None:
    foldings = finn.read_dataflow(compiled).foldings
    assert [str(layer.asked) for layer in foldings] == ["PE8-SIMD8"] * 4
    assert [str(layer.applied) for layer in foldings] == ["PE8-SIMD8"] * 3 + ["PE5-SIMD8"]
    assert finn.read_dataflow(compiled).interval_cycles == 1024


def test_every_node_is_rtl_and_has_an_estimate(compiled: Path) -> None:
    layers = finn.read_dataflow(compiled).layers
    assert {layer.op_type for layer in layers} == {"StreamingFIFO_rtl", "Thresholding_rtl", "MVAU_rtl"}
    assert all({"LUT", "DSP", "BRAM_18K"} <= layer.estimate.keys() for layer in layers)


def test_the_hls_variant_is_the_studys_with_activations_in_the_matrix_units_and_no_dsp(compiled: Path) -> None:
    layers = finn.read_dataflow(compiled).hls_layers
    names = [layer.op_type for layer in layers if not layer.op_type.startswith("StreamingFIFO")]
    assert names == ["Thresholding_hls", *["MVAU_hls"] * 4]
    units = [layer for layer in layers if layer.op_type == "MVAU_hls"]
    assert [layer.output_type for layer in units] == ["INT3", "INT3", "INT3", "INT16"]
    assert [str(layer.folding.applied) for layer in units if layer.folding] == ["PE8-SIMD8"] * 3 + ["PE5-SIMD8"]
    assert all(layer.estimate["DSP"] == 0 < layer.estimate["LUT"] for layer in units)


def test_finns_lut_estimate_of_an_hls_matrix_unit_is_its_published_formula(compiled: Path) -> None:
    """FINN, MVAU_hls.lut_estimation: multipliers, adder tree, accumulator, and thresholds with their comparators."""
    unit = [layer for layer in finn.read_dataflow(compiled).hls_layers if layer.op_type == "MVAU_hls"][1]
    pe = simd = 8
    weight_bits = activation_bits = 3
    steps, accumulator_bits = 2**activation_bits - 1, 10
    bits = weight_bits + activation_bits
    multipliers = simd * (2 * -(-bits // 6) - 1) * bits
    adders = bits * (2 * simd - 1)
    thresholds = comparators = steps * accumulator_bits
    luts = 300 + 1.1 * pe * (multipliers + adders + accumulator_bits + thresholds + comparators)
    assert unit.estimate["LUT"] == int(luts)


def test_weights_that_leave_the_lowest_value_out_are_known(compiled: Path) -> None:
    """Brevitas' weights are symmetric, so that FINN's lowest value, -4 of INT3, never occurs."""
    for layer in finn.read_dataflow(compiled).layers:
        assert layer.narrow_weights is (True if layer.op_type == "MVAU_rtl" else None)


def test_finns_weights_are_the_trained_ones(compiled: Path) -> None:
    network = finn.read_hardware_model(compiled).network
    parameters = checkpoints.load(reference.shipped_checkpoint(A3W3)).parameters
    assert parameters is not None
    for layer, trained in zip(network.layers[1:], parameters.layers, strict=True):
        weights = layer.weights
        assert weights is not None
        signs = np.where(trained.gamma < 0, -1, 1)
        np.testing.assert_array_equal(weights, signs[:, None] * trained.codes)


def test_a_model_that_finn_cannot_take_is_an_error_that_names_the_step(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Sin", ["x"], ["y"])],
        "float",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
    )
    model, folder = tmp_path / "sin.onnx", tmp_path / "out"
    folder.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), model)
    with pytest.raises(DataflowError, match=r"failed at the step 'streamline'.*Sin_0 \(Sin\) stayed"):
        finn.compile_network(model, FOLDING, Policy.UNIFORM, PART, 10.0, folder)


def test_thresholds_that_are_not_numbers_are_refused_before_finn_loops_on_them(tmp_path: Path) -> None:
    """Gamma = 0 with beta on a boundary makes 0 / 0; FINN's minimise step would never end."""
    parameters = checkpoints.load(reference.shipped_checkpoint(A3W3)).parameters
    assert parameters is not None
    first = parameters.layers[0]
    assert first.activation_scale is not None
    gamma, beta = first.gamma.copy(), first.beta.copy()
    gamma[5] = 0
    beta[5] = np.float32(0.5) * first.activation_scale
    broken = replace(parameters, layers=(replace(first, gamma=gamma, beta=beta), *parameters.layers[1:]))
    model, folder = tmp_path / "model.onnx", tmp_path / "out"
    folder.mkdir()
    export.export(build_from_parameters(broken), model)
    with pytest.raises(DataflowError, match=r"channels \[5\] are not numbers"):
        finn.compile_network(model, FOLDING, Policy.UNIFORM, PART, 10.0, folder)


def test_a_hanging_finn_is_ended(qonnx: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolTimeout, match=r"did not end within 0\.5 s"):
        finn.compile_network(qonnx, FOLDING, Policy.UNIFORM, PART, 10.0, tmp_path, timeout_s=0.5)
