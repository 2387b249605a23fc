"""FINN's global state, set up for work without vendor tools.

``finn.builder.build_dataflow_steps`` looks simulation functions up in ``finn.xsi``, which raises when Vivado is not
there. They are never called on the way to HDL, so placeholders that say so stand in for them.
"""

import finn.xsi
from finn.util.settings import initialize_dummy_settings

__all__ = ["open_session"]

_XSI_NAMES = (
    "SimEngine",
    "close_rtlsim",
    "compile_sim_obj",
    "get_simkernel_so",
    "load_sim_obj",
    "locate_glbl",
    "reset_rtlsim",
    "rtlsim_multi_io",
)


def _needs_vivado(*_arguments: object, **_options: object) -> None:
    raise RuntimeError("this step of FINN simulates with Vivado, which this session has not")


def open_session() -> None:
    """Initialise FINN's settings (FINN_BUILD_DIR names its build folder) and its simulation placeholders."""
    initialize_dummy_settings()
    for name in _XSI_NAMES:
        setattr(finn.xsi, name, _needs_vivado)
