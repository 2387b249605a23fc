"""What differs between releases of FINN, and how each is met; nothing else in the suite asks for a release.

======================  ==============================================================================================
finn-plus 1.5.0, later  what the suite is written for
finn-plus 1.4.0         ``finn.xsi`` reads FINN_XSI when it is imported, and looks for Vivado's simulator there;
                        finn-rtllib is found by FINN_RTLLIB alone;
                        QONNX's GemmToMatMul expects an input C, which Brevitas no longer exports
Xilinx/finn             the same, but that it has no settings: FINN_ROOT names its checkout
======================  ==============================================================================================

What FINN makes is never changed here: a difference of that kind is what the gate is there to find.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper

from qnn.errors import DataflowError

__all__ = ["import_xsi", "open_settings", "rtllib", "with_gemm_biases"]


def _has_settings() -> bool:
    return find_spec("finn.util.settings") is not None


def rtllib() -> Path:
    """FINN's folder finn-rtllib, without symbolic links."""
    if _has_settings():
        from finn.util.settings import get_settings

        return Path(get_settings().finn_rtllib).resolve()
    if "FINN_ROOT" not in os.environ:
        raise DataflowError("this FINN has no settings, and FINN_ROOT does not name its checkout")
    return (Path(os.environ["FINN_ROOT"]) / "finn-rtllib").resolve()


def open_settings() -> None:
    """Make FINN ready for work without vendor tools; FINN_BUILD_DIR in the environment names its build folder."""
    if _has_settings():
        from finn.util.settings import initialize_dummy_settings

        initialize_dummy_settings()
    os.environ.setdefault("FINN_RTLLIB", str(rtllib()))
    os.environ.setdefault("NUM_DEFAULT_WORKERS", "1")


def import_xsi() -> Any:
    """The module ``finn.xsi``, where the names of an RTL simulator are put."""
    # A folder that does not exist: whoever looks for Vivado's simulator there finds none.
    os.environ.setdefault("FINN_XSI", str(Path(os.environ.get("FINN_BUILD_DIR", "")) / "no-xsi"))
    import finn.xsi

    return finn.xsi


def _outputs(model: ModelWrapper, gemm: NodeProto) -> int:
    transposed = any(attribute.name == "transB" and attribute.i for attribute in gemm.attribute)
    return int(model.get_tensor_shape(gemm.input[1])[0 if transposed else 1])


def with_gemm_biases(model: ModelWrapper) -> ModelWrapper:
    """The QONNX graph with a C of zeros at every Gemm that has none, unless FINN's own conversion adds it."""
    from finn.transformation.qonnx import convert_qonnx_to_finn

    if not hasattr(convert_qonnx_to_finn, "InferMissingGemmBias"):
        for gemm in [node for node in model.graph.node if node.op_type == "Gemm" and len(node.input) < 3]:
            name = model.make_new_valueinfo_name()
            model.set_initializer(name, np.zeros(_outputs(model, gemm), np.float32))
            gemm.input.append(name)
    return model
