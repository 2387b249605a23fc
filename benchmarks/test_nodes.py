"""Each node of the accelerator alone in Verilator: FINN's RTL, and its netlist, against the hardware integers.

Directed vectors: next to every threshold, at the ends of every accumulator, and such that every single weight counts.
10,000 images reach few of these values.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from fixtures.recording import Record
from qnn import diff
from qnn.cell import Cell
from qnn.nodes import NodeCheck
from qnn.pipeline import Pipeline
from qnn.results import Evidence, Metric


def _compared(checks: Mapping[str, NodeCheck]) -> list[dict[str, Metric]]:
    """A row for each node."""
    assert checks
    return [
        {"name": name, "directed_vectors": check.vectors, "values_compared": check.values}
        for name, check in checks.items()
    ]


@pytest.mark.rtlsim
@pytest.mark.one_folding_a_cell
def test_every_node_alone_equals_hardware_integers_on_directed_vectors(
    cell: Cell,
    pipeline: Pipeline,
    node_checks: Callable[[], Mapping[str, NodeCheck]],
    reproducers: Path,
    record: Record,
) -> None:
    rows = _compared(diff.require_nodes_alone(node_checks, pipeline, cell, reproducers))
    record(Evidence.RTLSIM, nodes_checked_alone=len(rows), layers=rows)


@pytest.mark.netlist
def test_every_netlist_alone_equals_hardware_integers_on_directed_vectors(
    netlist_cell: Cell,
    pipeline: Pipeline,
    netlist_node_checks: Callable[[], Mapping[str, NodeCheck]],
    reproducers: Path,
    record: Record,
) -> None:
    rows = _compared(diff.require_nodes_alone(netlist_node_checks, pipeline, netlist_cell, reproducers, netlist=True))
    record(Evidence.NETLIST, nodes_checked_as_netlists=len(rows), layers=rows)
