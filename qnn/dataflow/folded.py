"""A hardware graph folded, described and made into RTL: what the jobs ``compile`` and ``own`` leave of it."""

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finn.builder.build_dataflow_config import DataflowBuildConfig
from qonnx.core.modelwrapper import ModelWrapper

from qnn.cell import Folding, Policy
from qnn.dataflow import fifos, graph, rtl

__all__ = ["hls_layers", "write"]


def hls_layers(streamlined: ModelWrapper, job: dict[str, Any], folder: Path) -> list[graph.NodeRecord]:
    """The nodes of the HLS variant with the job's folding, for their estimates; `streamlined` stays as it is."""
    asked, policy = Folding.parse(job["folding"]), Policy.parse(job["policy"])
    fused = graph.build_config(str(folder), job["clock_period_ns"], job["part"], standalone_thresholds=False)
    return graph.geometry(*graph.fold_as_hls(streamlined, asked, policy, fused), job["part"])


def write(
    hardware: ModelWrapper,
    streamlined: ModelWrapper,
    job: dict[str, Any],
    folder: Path,
    config: DataflowBuildConfig,
    progress: Callable[[str], None],
) -> None:
    """-> folded.onnx, dataflow.json, rtl.json; `hardware` is changed, and `streamlined` is what it was made of."""
    progress("fold")
    asked, policy = Folding.parse(job["folding"]), Policy.parse(job["policy"])
    model, foldings = graph.fold(hardware, asked, policy, config)
    fifos.set_depths(model, job["fifo_depths"])
    model.save(str(folder / "folded.onnx"))
    layers = graph.geometry(model, foldings, job["part"])
    progress("estimate the HLS variant")
    estimated = hls_layers(streamlined, job, folder)
    progress("generate HDL")
    hdl = rtl.generate_rtl(model, job["part"], job["clock_period_ns"])
    finn_version = version("finn-plus")
    record = {"finn_version": finn_version, "layers": layers, "hls_layers": estimated}
    (folder / "dataflow.json").write_text(json.dumps(record, indent=1))
    (folder / "rtl.json").write_text(json.dumps({"finn_version": finn_version, **hdl}))
