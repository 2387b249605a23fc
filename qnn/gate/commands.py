"""``python -m qnn gate`` and ``python -m qnn baseline``: their options.

Only the standard library is imported here, as `doctor` has to run where packages are missing.
"""

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any

__all__ = ["BENCHMARKS", "EXPRESSION", "FOLDINGS", "add_commands"]

BENCHMARKS = ("accuracy", "equivalence", "cppsim", "fifos", "throughput", "resources", "timing")
"""What FINN can change: the others measure the suite's own checks, claims of the study, or this computer."""
EXPRESSION = "A3W3 or A4W4"
FOLDINGS = "8x8"


def _gate(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.bisect and options.new:
        parser.error("--bisect names both ends: --to does not go with it")
    if options.metric and not options.bisect:
        parser.error("--metric goes with --bisect")
    from qnn.gate import running

    return running.gate(options)


def _baseline(options: argparse.Namespace) -> int:
    from qnn.gate import running

    return running.baseline(options)


def add_commands(commands: Any) -> None:
    """Add both commands to the subparsers of ``python -m qnn``."""
    gate = commands.add_parser(
        "gate",
        help="two releases of FINN against each other: what changed, and what got worse",
        description="Run benchmarks with two FINNs and compare them. A FINN is a finn-plus release (1.5.0), a checkout "
        "(path/to/finn) or a commit of one (path/to/finn@REF). Exit status: 0 clean, 1 regressed, 2 could not run.",
        epilog="Further options of pytest follow after --, for example: -- --policy balanced",
    )
    old = gate.add_mutually_exclusive_group(required=True)
    old.add_argument("--from", dest="old", metavar="FINN", help="the FINN that is trusted")
    old.add_argument("--baseline", type=Path, metavar="FILE", help="what `python -m qnn baseline` wrote of it")
    old.add_argument(
        "--bisect", nargs=2, metavar=("GOOD", "BAD"), help="name the first release or commit at which a metric changed"
    )
    gate.add_argument("--to", dest="new", metavar="FINN", help="the FINN that is judged (the installed release)")
    gate.add_argument("--metric", help="with --bisect: the metric to look for (anything that fails the gate)")
    gate.add_argument(
        "--expected-changes",
        type=Path,
        metavar="FILE",
        help="regressions that were accepted (expected-changes.toml, where there is one)",
    )
    gate.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    gate.add_argument("--markdown", type=Path, metavar="FILE", help="write a summary for a pull request")
    gate.add_argument("--json", type=Path, metavar="FILE", help="write every change")
    gate.set_defaults(run=partial(_gate, gate))
    baseline = commands.add_parser(
        "baseline",
        help="write what a FINN gives to a file, for the gate",
        description="Run benchmarks with a FINN and write what they find, to compare with by `gate --baseline`.",
    )
    baseline.add_argument("file", type=Path, help="for example fixtures/baselines/finn-plus-1.6.1.json")
    baseline.add_argument("--finn", dest="new", metavar="FINN", help="as in the gate (the installed release)")
    baseline.set_defaults(run=_baseline)
    for command in (gate, baseline):
        command.add_argument("-k", dest="expression", metavar="EXPRESSION", help=f"pytest's -k ({EXPRESSION})")
        command.add_argument("--foldings", metavar="8x8,2x2", help=f"PE x SIMD ({FOLDINGS})")
        command.add_argument(
            "--benchmarks",
            metavar="NAMES",
            help=f"modules of benchmarks/, without test_ ({','.join(BENCHMARKS)})",
        )
        command.add_argument(
            "--store",
            type=Path,
            default=Path(os.environ.get("QNN_STORE", ".store")),
            help="folder of built artifacts and of FINN releases ($QNN_STORE or .store)",
        )
        command.add_argument("--results", type=Path, default=Path("results"), help="for logs and rows (%(default)s)")
        command.set_defaults(further=[])
