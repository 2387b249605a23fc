"""FINN's global state, set up for work without vendor tools, where it is needed."""

from qonnx.core.modelwrapper import ModelWrapper

from qnn.dataflow import compat, xsi

__all__ = ["has_finn_nodes", "open_session"]


def has_finn_nodes(model: ModelWrapper) -> bool:
    """Whether a graph has nodes that QONNX cannot execute without FINN."""
    return any(node.domain.startswith("finn") for node in model.graph.node)


def open_session() -> None:
    """Open FINN's settings as the environment is now (FINN_BUILD_DIR), and put its RTL simulation on Verilator."""
    compat.open_settings()
    xsi.install()
