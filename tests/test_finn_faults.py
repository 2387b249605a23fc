"""Faults of FINN that the suite works around: each is shown, strictly, so that a release that mends it is noticed."""

import sys
from pathlib import Path

import pytest

from qnn.errors import ToolFailed
from qnn.process import run

NEGATIVE_THRESHOLD = """
import numpy as np
from qnn.dataflow.session import open_session
open_session()
from finn.transformation.fpgadataflow.minimize_weight_bit_width import MinimizeWeightBitWidth
from finn.transformation.streamline.round_thresholds import RoundAndClipThresholds
from onnx import TensorProto, helper
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.util.basic import qonnx_make_model

node = helper.make_node("Thresholding_rtl", ["x", "t"], ["y"], name="Thresholding_rtl_0",
    domain="finn.custom_op.fpgadataflow.rtl", backend="fpgadataflow", NumChannels=1, PE=1, numSteps=3,
    inputDataType="UINT8", weightDataType="FLOAT32", outputDataType="UINT2", ActVal=0, numInputVectors=[1])
info = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
graph = helper.make_graph([node], "one", [info("x", [1, 1])], [info("y", [1, 1])], value_info=[info("t", [1, 3])])
model = ModelWrapper(qonnx_make_model(graph))
model.set_tensor_datatype("x", DataType["UINT8"])
model.set_initializer("t", np.array([[-0.5, 10.0, 20.0]], dtype=np.float32))
if CLIP_FIRST:
    model = model.transform(RoundAndClipThresholds())
model.transform(MinimizeWeightBitWidth())
"""


def _run_in_finn(script: str, folder: Path) -> None:
    environment = {"FINN_BUILD_DIR": str(folder), "PYTHONPATH": str(Path(__file__).parents[1])}
    argv = [sys.executable, "-W", "ignore", "-c", script]
    run(argv, timeout_s=120, log=folder / "log", environment=environment)


@pytest.mark.xfail(
    raises=ToolFailed,
    strict=True,
    reason="FINN's MinimizeWeightBitWidth asserts that thresholds on an unsigned input are not negative before "
    "RoundAndClipThresholds, the step behind it, would clip them (thresholding.py, get_hw_compatible_threshold_tensor)",
)
def test_minimise_takes_a_negative_threshold_on_an_unsigned_input(tmp_path: Path) -> None:
    _run_in_finn(f"CLIP_FIRST = False\n{NEGATIVE_THRESHOLD}", tmp_path)


def test_minimise_takes_it_after_clipping(tmp_path: Path) -> None:
    _run_in_finn(f"CLIP_FIRST = True\n{NEGATIVE_THRESHOLD}", tmp_path)
