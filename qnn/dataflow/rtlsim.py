"""FINN's own node-by-node RTL simulation of a folded graph."""

import json
from pathlib import Path
from time import monotonic

import numpy as np
from finn.transformation.fpgadataflow.prepare_ip import PrepareIP
from finn.transformation.fpgadataflow.prepare_rtlsim import PrepareRTLSim
from finn.transformation.fpgadataflow.set_exec_mode import SetExecMode
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp

from qnn.dataflow import execution
from qnn.tools import gxx

__all__ = ["write"]


def _prepare(model: ModelWrapper, part: str, clock_period_ns: float) -> ModelWrapper:
    """A graph whose RTL nodes execute_onnx simulates, by what qnn.dataflow.xsi installed; nodes are built in parallel.

    A StreamingFIFO is compiled, but FINN passes its input on in Python (StreamingFIFO_rtl.execute_node).
    """
    model = model.transform(PrepareIP(part, clock_period_ns))
    return model.transform(PrepareRTLSim(num_workers=gxx.cores())).transform(SetExecMode("rtlsim"))


def write(model: ModelWrapper, images: np.ndarray, part: str, clock_period_ns: float, folder: Path) -> None:
    """The job ``rtlsim``: what execution.trace_nodes() gives -> nodes.npz; cycles of nodes, seconds -> rtlsim.json."""
    start = monotonic()
    model = _prepare(model, part, clock_period_ns)
    prepared = monotonic()
    arrays = execution.trace_nodes(model, images)
    done = monotonic()
    np.savez(folder / "nodes.npz", **arrays)  # type: ignore[arg-type]
    # FINN leaves the attribute 0 where it simulates nothing.
    cycles = [getCustomOp(node).get_nodeattr("cycles_rtlsim") or None for node in model.graph.node]
    record = {"cycles": cycles, "build_s": prepared - start, "simulate_s": done - prepared}
    (folder / "rtlsim.json").write_text(json.dumps(record, indent=1))
