"""What was counted is what was proved: the synthesised netlist itself, simulated, does what its RTL does.

DSP48E1s compute as such, which the RTL's simulation replaces by behavioural code; LUTs, shift registers and block RAMs
are those that test_resources counts.
"""

from pathlib import Path

import pytest

from fixtures.recording import Record
from qnn import diff
from qnn.cell import Cell
from qnn.pipeline import DeviceRun, Pipeline
from qnn.results import Evidence


@pytest.mark.netlist
def test_netlist_equals_rtl(
    netlist_cell: Cell, pipeline: Pipeline, netlist_run: DeviceRun, reproducers: Path, record: Record
) -> None:
    rtl, count = pipeline.device_run(netlist_cell), len(netlist_run.accumulators)
    expected, cycles = rtl.accumulators[:count], rtl.completions_cycles[:count]
    record(
        Evidence.NETLIST,
        netlist_images=count,
        netlist_images_equal=int((netlist_run.accumulators == expected).all(axis=1).sum()),
        netlist_images_in_the_same_cycle=int((netlist_run.completions_cycles == cycles).sum()),
        netlist_cycles_per_host_s=float(netlist_run.completions_cycles[-1]) / netlist_run.host_s,
        host_build_netlist_s=netlist_run.build_s,
        host_simulate_netlist_s=netlist_run.host_s,
    )
    diff.require_equal_netlist(pipeline, netlist_cell, rtl, netlist_run, reproducers)
