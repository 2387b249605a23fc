"""The benchmark suite's options and header; the fixtures are in ``fixtures/``."""

import os
from pathlib import Path

import pytest

pytest_plugins = [
    "fixtures.models",
    "fixtures.designs",
    "fixtures.activations",
    "fixtures.recording",
    "fixtures.clock",
    "fixtures.ahead",
]

_ROOT = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """The suite's own options."""
    group = parser.getgroup("qnn", "quantised neural networks on FPGAs")
    group.addoption(
        "--dataset",
        action="append",
        metavar="NAME",
        help="data set of the hardware cells: fashion-mnist (the default) or mnist; may be given twice",
    )
    group.addoption(
        "--store",
        type=Path,
        default=Path(os.environ.get("QNN_STORE", _ROOT / ".store")),
        help="folder of built artifacts (default: $QNN_STORE or .store); they are reused by later runs",
    )
    group.addoption(
        "--results", type=Path, default=_ROOT / "results", help="folder for the rows of results (default: results)"
    )
    group.addoption("--speed", action="store_true", help="also run the benchmarks of this computer's own speed")
