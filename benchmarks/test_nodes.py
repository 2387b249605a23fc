"""Each node of the accelerator alone, in Verilator: FINN's Thresholding and matrix unit against the hardware integers.

Directed vectors: next to every threshold, at the ends of every accumulator, and such that every single weight counts.
10,000 images reach few of these values.
"""

from collections.abc import Callable, Mapping

import pytest

from fixtures.recording import Record
from qnn.nodes import NodeCheck
from qnn.results import Evidence, Metric


@pytest.mark.rtlsim
@pytest.mark.one_folding_a_cell
def test_every_node_alone_equals_hardware_integers_on_directed_vectors(
    node_checks: Callable[[], Mapping[str, NodeCheck]], record: Record
) -> None:
    rows: list[dict[str, Metric]] = [
        {"name": name, "directed_vectors": check.vectors, "values_compared": check.values}
        for name, check in node_checks().items()
    ]
    assert rows
    record(Evidence.RTLSIM, nodes_checked_alone=len(rows), layers=rows)
