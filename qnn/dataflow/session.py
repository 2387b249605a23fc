"""FINN's global state, set up for work without vendor tools."""

from finn.util.settings import initialize_dummy_settings

from qnn.dataflow import xsi

__all__ = ["open_session"]


def open_session() -> None:
    """Initialise FINN's settings (FINN_BUILD_DIR names its build folder), and its RTL simulation on Verilator."""
    initialize_dummy_settings()
    xsi.install()
