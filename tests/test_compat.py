"""What the installed FINN does not need is done for others: without settings, with an older xsi, without Gemm's C."""

import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx

from qnn.dataflow import compat
from qnn.errors import DataflowError


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment of its own, in which FINN has no settings."""
    variables: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", variables)
    monkeypatch.setattr(compat, "find_spec", lambda name: None)
    return variables


def test_without_settings_finn_root_names_the_checkout(environment: dict[str, str], tmp_path: Path) -> None:
    environment["FINN_ROOT"] = str(tmp_path)
    compat.open_settings()
    assert compat.rtllib() == tmp_path.resolve() / "finn-rtllib"
    assert environment["FINN_RTLLIB"] == str(tmp_path.resolve() / "finn-rtllib")


def test_without_settings_and_finn_root_the_library_cannot_be_found(environment: dict[str, str]) -> None:
    with pytest.raises(DataflowError, match="has no settings, and FINN_ROOT does not name its checkout"):
        compat.open_settings()


def test_a_finn_that_reads_finn_xsi_on_import_finds_no_simulator_there(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment["FINN_BUILD_DIR"] = str(tmp_path)
    (tmp_path / "finn").mkdir()
    (tmp_path / "finn" / "__init__.py").touch()
    (tmp_path / "finn" / "xsi.py").write_text("import os\nFOLDER = os.environ['FINN_XSI']\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "finn"]:
        monkeypatch.delitem(sys.modules, name)
    try:
        folder = Path(compat.import_xsi().FOLDER)
    finally:
        for name in ("finn", "finn.xsi"):
            sys.modules.pop(name, None)
    assert folder.is_relative_to(tmp_path)
    assert not folder.exists()


WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3)
IMAGE = np.array([[1, -2]], np.float32)


def gemm(transposed: bool) -> ModelWrapper:
    """IMAGE by WEIGHTS, without C."""
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=int(transposed))
    weights = numpy_helper.from_array(np.ascontiguousarray(WEIGHTS.T) if transposed else WEIGHTS, "w")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [1, 2]), ("y", [1, 3]))
    ]
    graph = helper.make_graph([node], "gemm", ends[:1], ends[1:], [weights])
    return ModelWrapper(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]))


def conversion(monkeypatch: pytest.MonkeyPatch, **content: object) -> None:
    """FINN's own module of the conversion, which holds `content`."""
    module = ModuleType("finn.transformation.qonnx.convert_qonnx_to_finn")
    vars(module).update(content)
    parents = ("finn", "finn.transformation", "finn.transformation.qonnx")
    for name in parents:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    vars(sys.modules[parents[-1]])["convert_qonnx_to_finn"] = module
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_gemm_gets_a_c_of_zeros_where_finn_adds_none(transposed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    conversion(monkeypatch)
    model = compat.with_gemm_biases(gemm(transposed))
    (node,) = model.graph.node
    assert model.get_initializer(node.input[2]).tolist() == [0, 0, 0]
    assert np.array_equal(execute_onnx(model, {"x": IMAGE})["y"], IMAGE @ WEIGHTS)


def test_a_gemm_is_left_to_a_finn_that_adds_its_c(monkeypatch: pytest.MonkeyPatch) -> None:
    conversion(monkeypatch, InferMissingGemmBias=object)
    (node,) = compat.with_gemm_biases(gemm(False)).graph.node
    assert list(node.input) == ["x", "w"]
