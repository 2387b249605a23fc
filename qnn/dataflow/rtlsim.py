"""FINN's own node-by-node RTL simulation of a folded graph."""

import json
from pathlib import Path
from time import monotonic

import numpy as np
from finn.core.onnx_exec import execute_onnx
from finn.transformation.fpgadataflow.prepare_ip import PrepareIP
from finn.transformation.fpgadataflow.prepare_rtlsim import PrepareRTLSim
from finn.transformation.fpgadataflow.set_exec_mode import SetExecMode
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp

from qnn.tools import gxx

__all__ = ["prepare", "run"]


def prepare(model: ModelWrapper, part: str, clock_period_ns: float) -> ModelWrapper:
    """A graph whose RTL nodes execute_onnx simulates, by what qnn.dataflow.xsi installed; nodes are built in parallel.

    A StreamingFIFO is compiled, but FINN passes its input on in Python (StreamingFIFO_rtl.execute_node).
    """
    model = model.transform(PrepareIP(part, clock_period_ns))
    return model.transform(PrepareRTLSim(num_workers=gxx.cores())).transform(SetExecMode("rtlsim"))


def run(model: ModelWrapper, images: np.ndarray) -> list[np.ndarray]:
    """What each node of a prepared graph gives for `images` [N, ...]: int64 [N, ...], in the graph's order.

    The graph is of batch 1, so the images go through it one after another.
    """
    source = model.graph.input[0].name
    shape = tuple(model.get_tensor_shape(source))
    outputs: list[list[np.ndarray]] = [[] for _ in model.graph.node]
    for image in images:
        tensors = execute_onnx(model, {source: image.reshape(shape).astype(np.float32)}, return_full_exec_context=True)
        for node, values in zip(model.graph.node, outputs, strict=True):
            values.append(tensors[node.output[0]][0])
    return [np.stack(values).astype(np.int64) for values in outputs]


def write(model: ModelWrapper, images: np.ndarray, part: str, clock_period_ns: float, folder: Path) -> None:
    """The job ``rtlsim``: prepare() and run() -> node_<k> in rtlsim.npz, names, types and cycles in rtlsim.json."""
    start = monotonic()
    model = prepare(model, part, clock_period_ns)
    prepared = monotonic()
    outputs = run(model, images)
    done = monotonic()
    np.savez(folder / "rtlsim.npz", **{f"node_{k}": values for k, values in enumerate(outputs)})  # type: ignore[arg-type]
    nodes = [
        # FINN leaves the attribute 0 where it simulates nothing.
        {"name": node.name, "op_type": node.op_type, "cycles": getCustomOp(node).get_nodeattr("cycles_rtlsim") or None}
        for node in model.graph.node
    ]
    record = {"nodes": nodes, "build_s": prepared - start, "simulate_s": done - prepared}
    (folder / "rtlsim.json").write_text(json.dumps(record, indent=1))
