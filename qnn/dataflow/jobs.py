"""FINN's jobs, one after another, in this process.

A request is a file, {"environment": that of this process, "jobs": [...]}, where a job is {"kind": ..., "folder": an
existing empty folder for its outputs, ...}:

compile   qonnx, folding, policy, part, clock_period_ns, fifo_depths {name: depth} where they are not FINN's default,
          thresholds (.npz) where they are not FINN's own
          -> finn.onnx, streamlined.onnx, hardware.onnx, folded.onnx, integers.npz, dataflow.json, rtl.json, and where
          thresholds are given finn_integers.npz, those before
own       qonnx, input_type (or null), scale, shift, folding, policy, part, clock_period_ns, fifo_depths: a model from
          outside, as far as FINN takes it (qnn.dataflow.own)
          -> prepared.onnx (with integers as its input), finn.onnx, whole.onnx (streamlined), streamlined.onnx (the
          accelerator's part of it), host.onnx (what lies behind, if anything), host_activation.npz (its first node,
          where that is an activation), own.json {input_type, assumed, shape, reshapes, host, part, refused {stage:
          why}}, and of the stages that are not refused: integers.npz ("integers"), hardware.onnx ("hardware"),
          folded.onnx, dataflow.json, rtl.json ("rtl"), or without these estimate.json ("estimate"); "cppsim" may be
          refused too, which is a job of its own
rtlsim    model (folded.onnx), inputs (.npy [N, ...]), part, clock_period_ns, simulator (verilator or vivado), cache (a
          folder for simulator libraries) -> nodes.npz, rtlsim.json: see qnn.dataflow.rtlsim
step      library (of a stitched design), inputs (.npy [N, bytes]), input_bytes, output_beats
          -> step.json: see qnn.dataflow.stepping
trace     model (.onnx), inputs (.npy [N, ...]) -> trace.npz
nodes     model (hardware.onnx), inputs (.npy [N, ...]) -> nodes.npz: see qnn.dataflow.execution.trace_nodes
cost      model (streamlined.onnx) -> cost.json: see qnn.dataflow.cost
cppsim    model (streamlined.onnx), inputs (.npy [N, ...]), images a batch, folding, policy, part, clock_period_ns,
          standalone_thresholds, top1 (whether the accelerator labels), finn_hlslib (its folder, or null)
          -> hls.onnx; cppsim.npz: the output of each node; cpp.zip, and input_shapes: see cppsim.save_sources;
          cppsim.json: {op_types {node: its kind}, input_shapes, build_s, run_s}
thresholding, activations
          one activation alone: see qnn.dataflow.thresholding

A job that is done leaves the empty file ``done``; one that fails leaves error.json, {"error": ..., "step": ...}, and
the others go on. FINN_BUILD_DIR in the environment names a scratch folder, which the caller makes and removes.
"""

import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from qonnx.core.modelwrapper import ModelWrapper

from qnn.cell import Folding, Policy
from qnn.dataflow.session import has_finn_nodes, open_session

__all__ = ["run"]

Job = dict[str, Any]
Progress = Callable[[str], None]


def compile_job(job: Job, folder: Path, progress: Progress) -> None:
    """QONNX -> every file that the module's docstring lists."""
    # FINN's settings have to be there before its steps are imported.
    from qnn.dataflow import folded, graph, integers

    config = graph.build_config(str(folder), job["clock_period_ns"], job["part"])
    progress("convert to FINN-ONNX")
    converted = graph.convert(job["qonnx"], config)
    converted.save(str(folder / "finn.onnx"))
    progress("streamline")
    streamlined = model = graph.streamline(converted, config)
    if job["thresholds"] is not None:
        progress("replace thresholds")
        np.savez(folder / "finn_integers.npz", **integers.read_integers(model))  # type: ignore[arg-type]
        with np.load(job["thresholds"]) as thresholds:
            integers.replace_thresholds(model, [thresholds[name] for name in thresholds])
    model.save(str(folder / "streamlined.onnx"))
    np.savez(folder / "integers.npz", **integers.read_integers(model))  # type: ignore[arg-type]
    progress("convert to hardware")
    model = graph.to_hardware(model, config)
    model.save(str(folder / "hardware.onnx"))
    folded.write(model, streamlined, job, folder, config, progress)


def own_job(job: Job, folder: Path, progress: Progress) -> None:
    """A model from outside -> every file that the module's docstring lists."""
    from qnn.dataflow import own

    own.compile_own(job, folder, progress)


def trace_job(job: Job, folder: Path, progress: Progress) -> None:
    """A graph's activations and outputs for a batch."""
    from qnn.dataflow import execution

    progress("execute")
    arrays = execution.trace(ModelWrapper(job["model"]), np.load(job["inputs"]))
    np.savez(folder / "trace.npz", **arrays)  # type: ignore[arg-type]


def nodes_job(job: Job, folder: Path, progress: Progress) -> None:
    """What every node of a hardware graph gives, in Python."""
    from qnn.dataflow import execution

    progress("execute node by node")
    model = ModelWrapper(job["model"])
    if has_finn_nodes(model):
        open_session()
    arrays = execution.trace_nodes(model, np.load(job["inputs"]))
    np.savez(folder / "nodes.npz", **arrays)  # type: ignore[arg-type]


def cost_job(job: Job, folder: Path, progress: Progress) -> None:
    """QONNX's inference cost of a graph."""
    from qnn.dataflow import cost

    progress("count the inference cost")
    (folder / "cost.json").write_text(json.dumps(cost.inference_cost(ModelWrapper(job["model"]))))


def rtlsim_job(job: Job, folder: Path, progress: Progress) -> None:
    """FINN's node-by-node RTL simulation."""
    from qnn.dataflow import rtlsim, xsi

    xsi.install(xsi.Simulator(job["simulator"]), cache=Path(job["cache"]))
    progress("simulate RTL node by node")
    images = np.load(job["inputs"])
    rtlsim.write(ModelWrapper(job["model"]), images, job["part"], job["clock_period_ns"], folder)


def step_job(job: Job, folder: Path, progress: Progress) -> None:
    """FINN's simulation engine on a stitched design."""
    from qnn.dataflow import stepping

    progress("step the design")
    frames = np.load(job["inputs"])
    stepping.write(Path(job["library"]), frames, job["input_bytes"], job["output_beats"], folder)


def cppsim_job(job: Job, folder: Path, progress: Progress) -> None:
    """A streamlined graph's HLS nodes, compiled and executed on a batch."""
    from qnn.dataflow import cppsim, graph

    model = ModelWrapper(job["model"])
    cppsim.require_annotated_input(model)
    fused = {"standalone_thresholds": job["standalone_thresholds"]}
    config = graph.build_config(str(folder), job["clock_period_ns"], job["part"], **fused)
    progress("make HLS nodes")
    if job["top1"]:
        model = cppsim.with_top1(model)
    model = graph.hls_nodes(model, Folding.parse(job["folding"]), Policy.parse(job["policy"]), config)
    model.save(str(folder / "hls.onnx"))
    progress("compile the nodes' C++")
    start = monotonic()
    images = cppsim.batch_images(model, job["images"])
    model = cppsim.compile_nodes(model, images, job["finn_hlslib"])
    built = monotonic()
    shapes = cppsim.save_sources(model, folder / "cpp.zip")
    progress("execute the nodes")
    outputs = cppsim.run(model, np.load(job["inputs"]), images)
    np.savez_compressed(folder / "cppsim.npz", **outputs)  # type: ignore[arg-type]
    record = {
        "op_types": {node.name: node.op_type for node in model.graph.node},
        "input_shapes": shapes,
        "build_s": built - start,
        "run_s": monotonic() - built,
    }
    (folder / "cppsim.json").write_text(json.dumps(record))


def thresholding_job(job: Job, folder: Path, progress: Progress) -> None:
    """HDL of stand-alone Thresholding nodes."""
    from qnn.dataflow import thresholding

    progress("generate HDL of Thresholding nodes")
    thresholding.write_hdl(job, folder)


def activations_job(job: Job, folder: Path, progress: Progress) -> None:
    """Thresholds of activations alone, as streamlining computes them."""
    from qnn.dataflow import thresholding

    progress("streamline activations")
    thresholding.write_thresholds(job, folder)


JOBS: dict[str, Callable[[Job, Path, Progress], None]] = {
    "compile": compile_job,
    "own": own_job,
    "trace": trace_job,
    "nodes": nodes_job,
    "rtlsim": rtlsim_job,
    "step": step_job,
    "cost": cost_job,
    "cppsim": cppsim_job,
    "thresholding": thresholding_job,
    "activations": activations_job,
}


_BY_QONNX = ("trace", "nodes", "cost")
"""Jobs that QONNX does, at most on nodes of FINN's."""


def run(request: Path) -> None:
    """Run every job of a request, in its environment."""
    given = json.loads(request.read_text())
    os.environ.clear()
    os.environ.update(given["environment"])
    for job in given["jobs"]:
        if job["kind"] not in _BY_QONNX:
            open_session()
        folder, steps = Path(job["folder"]), ["start"]

        def progress(step: str, steps: list[str] = steps) -> None:
            steps.append(step)
            print(f"qnn.dataflow: {step}", flush=True)

        try:
            JOBS[job["kind"]](job, folder, progress)
            (folder / "done").touch()
        except Exception as error:  # noqa: BLE001 - whatever FINN raises is this job's result, told to the caller
            traceback.print_exc()
            last = traceback.extract_tb(error.__traceback__)[-1]  # FINN's asserts often carry no message
            where = f"{Path(last.filename).name}:{last.lineno}, {last.line}"
            report = {"error": f"{type(error).__name__}: {error} ({where})", "step": steps[-1]}
            (folder / "error.json").write_text(json.dumps(report))
