"""The first node that does not give its integers is named, with image, channel, both numbers, and what lies around."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from qnn.divergence import first_divergence, stages
from qnn.integer import IntegerLayer, IntegerNetwork
from qnn.tools.finn import NodeValues

KINDS = {
    "fifo_0": "StreamingFIFO_rtl",
    "thresholding_0": "Thresholding_rtl",
    "mvau_0": "MVAU_rtl",
    "dwc_0": "StreamingDataWidthConverter_rtl",
    "thresholding_1": "Thresholding_rtl",
    "fifo_1": "StreamingFIFO_rtl",
    "mvau_1": "MVAU_rtl",
}
STAGES = (0, 1, 2, 2, 3, 3, 4)
"""What each gives, in the numbering of stages()."""


@pytest.fixture(scope="module")
def network() -> IntegerNetwork:
    random = np.random.default_rng(0)
    thresholds = np.sort(random.integers(-20, 20, (5, 3)), axis=1)
    return IntegerNetwork(
        layers=(
            IntegerLayer(weights=None, thresholds=np.array([[50, 100, 200]]), lowest=-2),
            IntegerLayer(weights=random.integers(-3, 4, (5, 8)), thresholds=thresholds, lowest=-2),
            IntegerLayer(weights=random.integers(-3, 4, (4, 5)), thresholds=None),
        )
    )


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (6, 8), dtype=np.uint8)


def right(network: IntegerNetwork, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.int64]]:
    values = stages(network, pixels)
    return {name: values[stage].copy() for name, stage in zip(KINDS, STAGES, strict=True)}


def nodes(values: dict[str, NDArray[np.int64]]) -> list[NodeValues]:
    return [NodeValues(name=name, op_type=KINDS[name], values=array) for name, array in values.items()]


def message(
    network: IntegerNetwork,
    pixels: NDArray[np.uint8],
    values: dict[str, NDArray[np.int64]],
    images: Sequence[int] | None = None,
) -> str:
    return str(first_divergence("RTL", network, pixels, nodes(values), images))


def test_right_nodes_do_not_diverge(network: IntegerNetwork, pixels: NDArray[np.uint8]) -> None:
    assert first_divergence("RTL", network, pixels, nodes(right(network, pixels))) is None


def test_a_wrong_code_is_named_with_the_thresholds_around_its_accumulator(
    network: IntegerNetwork, pixels: NDArray[np.uint8]
) -> None:
    values = right(network, pixels)
    values["thresholding_1"][3, 2] += 1
    steps, accumulator = np.asarray(network.layers[1].thresholds)[2], int(values["mvau_0"][3, 2])
    below = ", ".join(str(step) for step in steps if step <= accumulator) or "none"
    above = ", ".join(str(step) for step in steps if step > accumulator) or "none"
    expected = int(stages(network, pixels)[3][3, 2])
    assert message(network, pixels, values, images=[9, 8, 7, 17, 6, 5]) == (
        "RTL: the first wrong node is thresholding_1 (Thresholding_rtl), in 1 of 6 images; image 17, channel 2: "
        f"expected {expected}, got {expected + 1}; its input is {accumulator}; thresholds not above it {below}, "
        f"above it {above} (steps 0 to 2 of 3)"
    )


def test_a_wrong_weight_is_told_with_its_input_and_by_how_much(
    network: IntegerNetwork, pixels: NDArray[np.uint8]
) -> None:
    values = right(network, pixels)
    values["mvau_0"][:, 4] += -2 * values["thresholding_0"][:, 5]
    assert "mvau_0 (MVAU_rtl)" in message(network, pixels, values)
    assert "as if the weight of input 5 were off by -2; weights of the channel" in message(network, pixels, values)


def test_accumulators_that_no_single_weight_explains_have_no_such_guess(
    network: IntegerNetwork, pixels: NDArray[np.uint8]
) -> None:
    values = right(network, pixels)
    values["mvau_1"][:, 0] += np.arange(6) % 2 * 1000 + 1
    found = message(network, pixels, values)
    assert "the first wrong node is mvau_1" in found
    assert "as if" not in found


@pytest.mark.parametrize("name", ["fifo_0", "dwc_0", "fifo_1"])
def test_a_node_that_has_to_leave_the_stream_as_it_is_is_named(
    network: IntegerNetwork, pixels: NDArray[np.uint8], name: str
) -> None:
    values = right(network, pixels)
    values[name][2, 1] += 1
    assert f"the first wrong node is {name}" in message(network, pixels, values)
    assert message(network, pixels, values).endswith("it has to give what it is given")


def test_of_several_wrong_nodes_the_first_in_the_stream_counts(
    network: IntegerNetwork, pixels: NDArray[np.uint8]
) -> None:
    values = right(network, pixels)
    for name in ("mvau_1", "thresholding_1"):
        values[name][5, 0] += 1
    values["dwc_0"][5, 0] -= 1
    assert "the first wrong node is dwc_0" in message(network, pixels, values)


def test_in_a_standstill_the_node_is_named_that_took_an_image_and_gave_none(
    network: IntegerNetwork, pixels: NDArray[np.uint8]
) -> None:
    values = right(network, pixels)
    given = {"fifo_0": 5, "thresholding_0": 4, "mvau_0": 3, "dwc_0": 3, "thresholding_1": 2, "fifo_1": 2, "mvau_1": 2}
    stopped = {name: array[: given[name]] for name, array in values.items()}
    assert message(network, pixels, stopped) == (
        "RTL: the first wrong node is thresholding_1 (Thresholding_rtl), in 4 of 6 images; stopped before image 2 was "
        "whole; it took 3 images, and all 2 that it gave are right"
    )


def test_a_wrong_integer_goes_before_a_standstill(network: IntegerNetwork, pixels: NDArray[np.uint8]) -> None:
    values = {name: array[:3] for name, array in right(network, pixels).items()}
    values["mvau_0"][1, 1] += 1
    assert "the first wrong node is mvau_0 (MVAU_rtl), in 1 of 6 images; image 1, channel 1" in message(
        network, pixels, values
    )


def test_a_matrix_unit_that_holds_its_activation_gives_the_next_codes(
    network: IntegerNetwork, pixels: NDArray[np.uint8]
) -> None:
    values = stages(network, pixels)
    fused = [
        NodeValues(name=name, op_type=name.rstrip("_0123456789"), values=values[stage].copy())
        for name, stage in (("Thresholding_hls_0", 1), ("MVAU_hls_0", 3), ("MVAU_hls_1", 4), ("LabelSelect_hls_0", 5))
    ]
    assert first_divergence("cppsim", network, pixels, fused) is None
    fused[1].values[3, 2] += 1
    found = str(first_divergence("cppsim", network, pixels, fused))
    assert f"MVAU_hls_0 (MVAU_hls), in 1 of 6 images; image 3, channel 2: expected {values[3][3, 2]}" in found
    assert f"its input is {values[2][3, 2]}; thresholds not above it" in found


def test_top1_is_the_first_of_equal_accumulators(pixels: NDArray[np.uint8]) -> None:
    same = IntegerLayer(weights=np.array([[0] * 8, [1] * 8, [1] * 8]), thresholds=None)
    network = IntegerNetwork(layers=(IntegerLayer(weights=None, thresholds=np.array([[1]]), lowest=0), same))
    values = stages(network, pixels)
    assert values[-1].ravel().tolist() == [1] * 6
    last = values[-1].copy()
    last[4] = 2
    nodes_of = [
        NodeValues(name="Thresholding_hls_0", op_type="Thresholding_hls", values=values[1]),
        NodeValues(name="MVAU_hls_0", op_type="MVAU_hls", values=values[2]),
        NodeValues(name="LabelSelect_hls_0", op_type="LabelSelect_hls", values=last),
    ]
    found = str(first_divergence("cppsim", network, pixels, nodes_of))
    assert "LabelSelect_hls_0 (LabelSelect_hls), in 1 of 6 images; image 4, channel 0: expected 1, got 2" in found
    assert found.endswith(f"its input is {', '.join(map(str, values[2][4]))}")
