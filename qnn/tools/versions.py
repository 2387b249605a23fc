"""Versions of the tools that results depend on: of packages, and of a Verilator that is installed beside them."""

from qnn import versions
from qnn.errors import ToolError
from qnn.tools import verilator

__all__ = ["tool_versions"]


def tool_versions() -> dict[str, str]:
    """{tool: version}; "not installed as a package", and of Verilator "not found", where there is none."""
    try:
        release = verilator.version()
    except ToolError:
        release = "not found"
    return {**versions.tool_versions(), "verilator": release}
