"""FINN's global state, set up for work without vendor tools."""

from qnn.dataflow import compat, xsi

__all__ = ["open_session"]


def open_session() -> None:
    """Open FINN's settings (FINN_BUILD_DIR names its build folder), and put its RTL simulation on Verilator."""
    compat.open_settings()
    xsi.install()
