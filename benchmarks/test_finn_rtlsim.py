"""FINN's own RTL simulation, node by node, on Verilator: every node gives the integers of the hardware model.

FINN's unmodified PrepareIP, PrepareRTLSim, SetExecMode("rtlsim") and execute_onnx run on the folded graph; the suite
puts Verilator behind ``finn.xsi`` (``qnn.dataflow.xsi``), and nothing else. A node is fed what the node before it gave.
FINN simulates no StreamingFIFO: it passes the FIFO's input on in Python, and so counts no cycles there.
"""

from pathlib import Path

import pytest

from fixtures.recording import Record
from qnn import diff
from qnn.cell import Cell
from qnn.pipeline import Pipeline
from qnn.results import Evidence
from qnn.tools.finn import NodeSimulation


@pytest.mark.rtlsim
@pytest.mark.one_folding_a_cell
def test_finns_rtlsim_equals_hardware_integers_at_every_node(
    cell: Cell, pipeline: Pipeline, node_simulation: NodeSimulation, reproducers: Path, record: Record
) -> None:
    simulated = [node for node in node_simulation.nodes if node.cycles is not None]
    count = len(node_simulation.nodes[-1].values)
    record(
        Evidence.RTLSIM,
        node_images=count,
        nodes=len(node_simulation.nodes),
        nodes_simulated=len(simulated),
        host_build_nodes_s=node_simulation.build_s,
        host_simulate_nodes_s=node_simulation.simulate_s,
        layers=[{"name": node.name, "rtlsim_cycles": node.cycles} for node in node_simulation.nodes],
    )
    images, model = range(count), pipeline.graph(cell, "folded")
    diff.require_equal_nodes("FINN's rtlsim", pipeline, cell, images, node_simulation.nodes, model, reproducers)
    assert {node.op_type for node in simulated} >= {"MVAU_rtl", "Thresholding_rtl"}
