"""The benchmark suite's options and header; the fixtures are in ``fixtures/``."""

import os
from pathlib import Path

import pytest

from qnn.cell import PART

pytest_plugins = [
    "fixtures.telling",
    "fixtures.models",
    "fixtures.designs",
    "fixtures.netlists",
    "fixtures.cppsim",
    "fixtures.activations",
    "fixtures.random_runs",
    "fixtures.own_models",
    "fixtures.recording",
    "fixtures.clock",
    "fixtures.mutation",
    "fixtures.ahead",
    "fixtures.shared",
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
        "--matrix",
        choices=("default", "paper"),
        default="default",
        help="hardware cells: the default ones, at PE2-SIMD2 and PE8-SIMD8, or every design of the study",
    )
    group.addoption("--cells", metavar="A3W3,A5W2", help="these cells instead, A2W2 to A8W8")
    group.addoption("--foldings", metavar="8x8,4x32", help="these foldings (PE x SIMD) instead")
    group.addoption(
        "--policy",
        default="uniform",
        metavar="NAME",
        help="uniform, balanced, or both with a comma: what becomes of the folding in the layers behind the first",
    )
    group.addoption(
        "--thresholds",
        default="finn",
        metavar="NAME",
        help="finn, exact, or both with a comma: FINN's own thresholds, of float32, or exact ones in their place",
    )
    group.addoption("--part", default=PART, metavar="NAME", help=f"FPGA whose budget counts (default: {PART})")
    group.addoption(
        "--all-images",
        action="store_true",
        help="simulate all 10,000 test images, of the slow foldings and in cppsim too",
    )
    group.addoption(
        "--finn-rtlsim",
        choices=("verilator", "vivado"),
        default="verilator",
        help="what FINN's own node-by-node RTL simulation runs on (default: verilator)",
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
    group.addoption("--slow", action="store_true", help="also run the tests of the suite itself that take longest")
