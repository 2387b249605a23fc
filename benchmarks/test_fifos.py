"""Depths of the FIFOs between nodes: what FINN's gauge asks for, what is delivered, and that both keep the interval.

An unbounded FIFO holds up nothing. One that is too shallow makes the node in front of it wait; where that costs
throughput, the FIFOs that are the cause are named, found by deepening them one at a time.
"""

import pytest

from fixtures.recording import Record
from qnn import equivalence, fifos
from qnn.cell import Cell
from qnn.fifos import FifoDepth, FifoSizing
from qnn.hdl import HardwareDesign
from qnn.pipeline import DeviceRun, Pipeline
from qnn.results import Evidence, Metric
from qnn.tools.finn import DataflowModel, HardwareModel


def _row(fifo: FifoDepth) -> dict[str, Metric]:
    return {
        "name": fifo.name,
        "producer": fifo.producer,
        "consumer": fifo.consumer,
        "fifo_depth": fifo.configured_depth,
        "held_beats": fifo.held_beats,
        "needed_fifo_depth": fifo.needed_depth,
        "holds_all_that_comes": fifo.suffices,
    }


def test_the_rtl_holds_the_nodes_of_the_graph_and_fifos_of_its_depths(
    dataflow: DataflowModel, design: HardwareDesign, record: Record
) -> None:
    depths = {node.name: node.fifo_depth for node in design.nodes}
    layers = [
        {
            "name": layer.name,
            "op_type": layer.op_type,
            "pe": layer.pe,
            "simd": layer.simd,
            "fifo_depth": depths.get(layer.name),
            "input_type": layer.input_type,
            "weight_type": layer.weight_type,
            "output_type": layer.output_type,
            "expected_cycles": layer.cycles,
        }
        for layer in dataflow.layers
    ]
    record(Evidence.PYTHON, nodes=len(design.nodes), layers=layers)
    fifos.require_delivered(design, [layer.name for layer in dataflow.layers])


@pytest.mark.rtlsim
def test_delivered_fifos_keep_the_interval_of_unbounded_ones(
    cell: Cell, pipeline: Pipeline, fifo_sizing: FifoSizing, device_run: DeviceRun, record: Record
) -> None:
    record(
        Evidence.RTLSIM,
        initiation_interval_cycles=device_run.interval_cycles,
        unbounded_interval_cycles=fifo_sizing.interval_cycles,
        unbounded_latency_cycles=fifo_sizing.latency_cycles,
        fifos_that_fill_up=sum(not fifo.suffices for fifo in fifo_sizing.fifos),
        host_build_gauge_s=fifo_sizing.build_s,
        host_gauge_s=fifo_sizing.host_s,
        layers=[_row(fifo) for fifo in fifo_sizing.fifos],
    )
    if device_run.interval_cycles != fifo_sizing.interval_cycles:
        shallow = ", ".join(map(str, pipeline.shallow_fifos(cell))) or "none by the model of bounded gauges"
        pytest.fail(
            f"a frame takes {device_run.interval_cycles:,} cycles, with unbounded FIFOs "
            f"{fifo_sizing.interval_cycles:,}; too shallow: {shallow}"
        )


@pytest.mark.rtlsim
def test_sized_fifos_keep_the_interval_and_the_integers(
    cell: Cell,
    pipeline: Pipeline,
    fifo_sizing: FifoSizing,
    sized_run: DeviceRun,
    hardware_model: HardwareModel,
    record: Record,
) -> None:
    count = len(sized_run.accumulators)
    record(
        Evidence.RTLSIM,
        sized_images=count,
        sized_interval_cycles=sized_run.interval_cycles,
        sized_is_delivered=fifo_sizing.needed_depths == fifo_sizing.configured_depths,
    )
    expected = hardware_model.network.evaluate(pipeline.images(cell).pixels[:count])
    equivalence.require_equal(expected, sized_run.accumulators, "RTL with sized FIFOs")
    assert sized_run.interval_cycles == fifo_sizing.interval_cycles
