"""How long the netlist's longest path is by Yosys' static timing: a lower bound on the clock period.

Delays of cells alone: nothing is placed or routed. So that a router has something left to work with, cells may take no
more than half of the period. That is a stated bound, not a proof that the accelerator runs at 100 MHz.
"""

import pytest

from fixtures.recording import Record
from qnn.cell import Cell
from qnn.pipeline import Pipeline
from qnn.results import Evidence
from qnn.tools.finn import DataflowModel
from qnn.tools.timing import Timing

LARGEST_SHARE_PERCENT = 50.0


@pytest.mark.synthesis
def test_cells_leave_half_of_the_period_to_routing(
    cell: Cell, pipeline: Pipeline, dataflow: DataflowModel, timing: Timing, record: Record
) -> None:
    share = 100 * timing.longest_path_ps / 1e3 / pipeline.clock_period_ns
    start, end = timing.stages[0], timing.stages[-1]
    record(
        Evidence.SYNTHESIS,
        longest_path_ns=timing.longest_path_ps / 1e3,
        longest_path_nodes=" -> ".join(timing.nodes(layer.name for layer in dataflow.layers)),
        longest_path_start=f"{start.cell} ({start.kind or 'port'})",
        longest_path_end=f"{end.cell} ({end.kind or 'port'})",
        longest_path_cells=len(timing.stages),
        share_of_period_percent=share,
        cells_without_delays=sum(timing.untimed.values()),
        kinds_without_delays=", ".join(f"{count} {kind}" for kind, count in timing.untimed.items()),
    )
    assert share <= LARGEST_SHARE_PERCENT
