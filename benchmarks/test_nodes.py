"""Each node of the accelerator alone, in Verilator: FINN's Thresholding and matrix unit against the hardware integers.

Directed vectors: next to every threshold, at the ends of every accumulator, and such that every single weight counts.
10,000 images reach few of these values.
"""

import pytest

from fixtures.recording import Record
from qnn.cell import Cell
from qnn.nodes import check_node, node_functions
from qnn.pipeline import Pipeline
from qnn.results import Evidence, Metric
from qnn.tools.finn import DataflowModel, HardwareModel


@pytest.mark.rtlsim
@pytest.mark.one_folding_a_cell
def test_every_node_alone_equals_hardware_integers_on_directed_vectors(
    cell: Cell, pipeline: Pipeline, dataflow: DataflowModel, hardware_model: HardwareModel, record: Record
) -> None:
    rows: list[dict[str, Metric]] = []
    for name, function in node_functions(dataflow, hardware_model).items():
        node = pipeline.node_alone(cell, name)
        check = check_node(function, pipeline.node_simulator(node), node.memories)
        rows.append({"name": name, "directed_vectors": check.vectors, "values_compared": check.values})
    record(Evidence.RTLSIM, nodes_checked_alone=len(rows), layers=rows)
