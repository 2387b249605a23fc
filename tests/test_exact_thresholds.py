"""Exact thresholds in FINN's graph: those of rational arithmetic at every accumulator value, at every bit width."""

import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from qnn import export, integer, process
from qnn.cell import BIT_WIDTHS
from qnn.errors import DataflowError
from qnn.integer import GoldenNetwork
from qnn.networks import build_from_parameters
from qnn.parameters import LayerParameters, NetworkParameters
from qnn.thresholding import Activation, count_thresholds

if TYPE_CHECKING:
    from qonnx.core.modelwrapper import ModelWrapper

INPUTS, OUTPUTS, CLASSES = 4, 6, 2

REPLACE = """
import sys
from pathlib import Path
import numpy as np
from qnn.dataflow.session import open_session
open_session()
from qnn.dataflow import graph, integers

for folder in map(Path, sys.argv[1:]):
    config = graph.build_config(str(folder), 10.0, "xc7z020clg400-1")
    model = graph.streamline(graph.convert(str(folder / "model.onnx"), config), config)
    np.savez(folder / "before.npz", **integers.read_integers(model))
    with np.load(folder / "exact.npz") as exact:
        integers.replace_thresholds(model, [exact[name] for name in exact])
    np.savez(folder / "after.npz", **integers.read_integers(model))
"""


def _layer(random: np.random.Generator, bits: int, inputs: int, outputs: int, step: float | None) -> LayerParameters:
    """Variances are 1, so that every boundary is rational; of the first channels it falls on integers."""
    limit = 2 ** (bits - 1) - 1
    codes = random.integers(-limit, limit, (outputs, inputs), endpoint=True)
    codes[:, 0] = limit
    return LayerParameters(
        codes=codes.astype(np.int8),
        weight_bits=bits,
        weight_scales=np.full(outputs, 0.125, np.float32),
        weight_scale_per_channel=False,
        gamma=np.resize([1, -1, 0.5, 2, 1.1, -0.7], outputs).astype(np.float32),
        beta=np.resize([0, 0, 0.25, -0.5, 0.3, 0.1], outputs).astype(np.float32),
        mean=np.resize([0, 0, 0, 0.25, 0.7, -0.1], outputs).astype(np.float32),
        variance=np.ones(outputs, np.float32),
        epsilon=0.0,
        activation_scale=None if step is None else np.float32(step),
        activation_bits=None if step is None else bits,
    )


def _parameters(bits: int) -> NetworkParameters:
    """One layer with an activation, a step of which is 2^bits accumulators, and a last one."""
    random = np.random.default_rng(bits)
    input_scale = 2.0 ** (1 - bits)
    layers = (
        _layer(random, bits, INPUTS, OUTPUTS, 0.125 * input_scale * 2**bits),
        _layer(random, bits, OUTPUTS, CLASSES, None),
    )
    return NetworkParameters(input_scale=np.float32(input_scale), input_bits=bits, layers=layers)


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """What read_integers() gives of FINN's graph, and the golden model."""

    golden: GoldenNetwork
    before: dict[str, NDArray[np.int64]]
    after: dict[str, NDArray[np.int64]]


@pytest.fixture(scope="module")
def replaced(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Replaced]:
    """{bits: the network of these weights and activations}; FINN takes longer to be imported than to make them all."""
    root = tmp_path_factory.mktemp("networks")
    golden = {bits: integer.golden(_parameters(bits)) for bits in BIT_WIDTHS}
    for bits, network in golden.items():
        folder = root / str(bits)
        folder.mkdir()
        export.export(build_from_parameters(network.parameters), folder / "model.onnx")
        np.savez(folder / "exact.npz", *(exact.thresholds for exact in network.exact))
    environment = {"FINN_BUILD_DIR": str(root), "PYTHONPATH": str(Path(__file__).parents[1])}
    process.run(
        [sys.executable, "-W", "ignore", "-c", REPLACE, *(root / str(bits) for bits in golden)],
        timeout_s=300,
        log=root / "log",
        environment=environment,
    )
    return {
        bits: Replaced(
            golden=network,
            **{name: dict(np.load(root / str(bits) / f"{name}.npz")) for name in ("before", "after")},
        )
        for bits, network in golden.items()
    }


def _code(activation: Activation, channel: int, accumulator: int) -> int:
    """The activation word for word, in rational numbers; Python rounds fractions half to even. Sigma is 1."""
    scale, mean, gamma, beta = (
        Fraction(float(getattr(activation, name)[channel])) for name in ("scale", "mean", "gamma", "beta")
    )
    y = gamma * (accumulator * scale - mean) + beta
    return min(max(round(y / Fraction(activation.step)), activation.lowest), activation.highest)


def _wrong(golden: GoldenNetwork, k: int, thresholds: NDArray[np.int64]) -> int:
    """Accumulators of activation k at which FINN's `thresholds` do not give the code of rational arithmetic.

    Looked at are both ends, and those next to each threshold: both staircases ascend, so where they agree there they
    agree everywhere.
    """
    parameters, exact = golden.parameters, golden.exact[k]
    first = integer.input_activation(parameters)
    activation = integer.layer_activation(parameters.layers[k - 1], parameters.input_scale) if k else first
    wrong = 0
    for channel in range(activation.channels):
        low, high, sign = exact.minimum[channel], exact.maximum[channel], int(exact.signs[channel])
        steps = np.broadcast_to(thresholds, exact.thresholds.shape)[channel]
        points = np.unique(np.clip([low, high, *steps, *(steps - 1)], low, high))
        codes = activation.lowest + count_thresholds(points[:, None], steps[None])[:, 0]
        expected = [_code(activation, channel, sign * int(point)) for point in points]
        wrong += int(np.count_nonzero(codes != expected))
    return wrong


def _thresholds(arrays: dict[str, NDArray[np.int64]], k: int) -> NDArray[np.int64]:
    return np.ceil(arrays[f"thresholds_{k}"].astype(np.float64)).astype(np.int64)


@pytest.mark.parametrize("bits", BIT_WIDTHS)
def test_replaced_thresholds_are_those_of_rational_arithmetic_at_every_accumulator(
    bits: int, replaced: dict[int, Replaced]
) -> None:
    found = replaced[bits]
    for k in range(2):
        assert found.after[f"thresholds_{k}"].dtype == np.float32
        assert _wrong(found.golden, k, _thresholds(found.after, k)) == 0


@pytest.mark.parametrize("bits", BIT_WIDTHS)
def test_finns_own_thresholds_differ_where_a_boundary_is_an_integer(bits: int, replaced: dict[int, Replaced]) -> None:
    found = replaced[bits]
    assert _wrong(found.golden, 1, _thresholds(found.before, 1)) > 0


@pytest.mark.parametrize("bits", BIT_WIDTHS)
def test_nothing_but_thresholds_is_replaced(bits: int, replaced: dict[int, Replaced]) -> None:
    found = replaced[bits]
    assert found.before.keys() == found.after.keys()
    for name in found.before.keys() - {"thresholds_0", "thresholds_1"}:
        np.testing.assert_array_equal(found.before[name], found.after[name])
    np.testing.assert_array_equal(found.after["weights_0"], found.golden.layers[1].weights)


# -------------------------------------------------------------------------------------------------------- refusals


def _model(thresholds: NDArray[np.float32]) -> "ModelWrapper":
    """A MultiThreshold on 3 channels."""
    from onnx import helper
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.util.basic import qonnx_make_model

    value = helper.make_tensor_value_info
    node = helper.make_node(
        "MultiThreshold", ["x", "t"], ["y"], "MultiThreshold_0", domain="qonnx.custom_op.general", out_dtype="UINT2"
    )
    graph = helper.make_graph([node], "one", [value("x", 1, [1, 3])], [value("y", 1, [1, 3])])
    model = ModelWrapper(qonnx_make_model(graph))
    model.set_initializer("t", thresholds)
    return model


FINNS = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8]], np.float32)


@pytest.mark.parametrize("shape", [(3, 2), (3, 4), (2, 3), (4, 3)])
def test_thresholds_that_do_not_fit_the_node_are_refused(shape: tuple[int, int]) -> None:
    from qnn.dataflow.integers import replace_thresholds

    with pytest.raises(
        DataflowError, match=rf"MultiThreshold_0 has thresholds \[3, 3\], which \[{shape[0]}, {shape[1]}\]"
    ):
        replace_thresholds(_model(FINNS), [np.zeros(shape, np.int64)])


def test_a_threshold_that_float32_does_not_hold_is_refused() -> None:
    from qnn.dataflow.integers import replace_thresholds

    model = _model(FINNS)
    replace_thresholds(model, [np.full((3, 3), 2**24)])
    with pytest.raises(DataflowError, match="MultiThreshold_0: the threshold 16777217 is no float32 number"):
        replace_thresholds(model, [np.full((3, 3), 2**24 + 1)])
    np.testing.assert_array_equal(model.get_initializer("t"), np.full((3, 3), 2**24))


def test_thresholds_of_another_number_of_nodes_are_refused() -> None:
    from qnn.dataflow.integers import replace_thresholds

    with pytest.raises(DataflowError, match="2 thresholds for 1 MultiThreshold nodes"):
        replace_thresholds(_model(FINNS), 2 * [np.zeros((3, 3), np.int64)])


@pytest.mark.parametrize("rows", [1, 3])
def test_thresholds_that_all_channels_share_are_taken_by_each(rows: int) -> None:
    from qnn.dataflow.integers import replace_thresholds

    model = _model(FINNS[:rows])
    replace_thresholds(model, [np.array([[-1, 0, 9]])])
    np.testing.assert_array_equal(model.get_initializer("t"), rows * [[-1, 0, 9]])
