"""Rows of results: what a test found out about a cell, as JSON lines.

Every test of the benchmarks leaves one row, the failed and the skipped ones too. A metric that was not obtained is
None or absent, never 0; units stand in the names (``initiation_interval_cycles``, ``throughput_images_per_s``).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from qnn.errors import QnnError

__all__ = ["OWN_HOP", "Evidence", "Metric", "Row", "Status", "append_row", "read_rows", "row_of"]

Metric = float | int | str | bool | None
OWN_HOP = "own: "
"""What the hop of a row begins with that is about a model from outside."""


class Evidence(StrEnum):
    """How close to the board a figure was obtained, weakest first."""

    ESTIMATE = "estimate"
    PYTHON = "python"
    CPPSIM_SUITE = "cppsim (suite headers)"
    CPPSIM_HLSLIB = "cppsim (finn-hlslib)"
    CPPSIM_VITIS = "cppsim (Vitis HLS)"
    RTLSIM = "rtlsim"
    SYNTHESIS = "synthesis"
    NETLIST = "netlist"
    BOARD = "board"


class Status(StrEnum):
    """How a test ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    XFAILED = "xfailed"
    XPASSED = "xpassed"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One test's result. `hop` is what was checked: accuracy, thresholding, equivalence, resources, throughput."""

    test: str
    """pytest's node id."""
    hop: str
    status: Status
    cell: str | None = None
    """The cell's id, with its folding where it has one; the bit widths alone (``A3W3``) where no data set matters."""
    evidence: Evidence | None = None
    reason: str | None = None
    """Why it failed or was skipped."""
    host_s: float | None = None
    """Seconds of this computer, set-up included."""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    layers: Sequence[Mapping[str, Metric]] = ()
    """Figures of single nodes of the accelerator, in the order of the stream, where the test has them."""


def append_row(path: Path, row: Row) -> None:
    """Add one line to a results file; the line is written with one call, so a killed run leaves whole lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        stream.write(json.dumps(asdict(row)) + "\n")


def row_of(fields: Mapping[str, Any]) -> Row:
    """The row whose fields, as JSON knows them, these are. Raises ValueError, KeyError or TypeError on others."""
    evidence = fields["evidence"]
    parsed = {
        "status": Status(fields["status"]),
        "evidence": Evidence(evidence) if evidence else None,
        "layers": tuple(fields["layers"]),
    }
    return Row(**{**fields, **parsed})


def read_rows(path: Path) -> Iterable[Row]:
    """The rows of a results file. Raises QnnError naming the first line that is not one."""
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            yield row_of(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise QnnError(f"{path}, line {number} is not a result row: {error}") from None
