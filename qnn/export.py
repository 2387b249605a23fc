"""A trained network as QONNX: what FINN and QONNX's own tools read."""

import warnings
from pathlib import Path

import torch
from onnx import GraphProto, ModelProto

from qnn.files import write_atomically
from qnn.networks import Chain

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Brevitas warns here of an optional package that export does not use
    from brevitas.export import export_qonnx

__all__ = ["INPUT_NAME", "OUTPUT_NAME", "export", "qonnx_bytes"]

INPUT_NAME = "pixels"
OUTPUT_NAME = "logits"


def _strip(graph: GraphProto) -> None:
    """Take away what says where and how the graph was made: stack traces with paths of this machine among it."""
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""


def qonnx_bytes(network: Chain) -> bytes:
    """`network` as a QONNX model: float32 pixels 0..255 [1, inputs] in, logits [1, outputs] out, initialisers inside.

    The same network gives the same bytes on every export, on any machine (with the same torch and Brevitas).
    The network is left in the mode it was in.
    """
    model: ModelProto = export_qonnx(
        network,
        args=torch.zeros(1, network.inputs),
        dynamo=True,
        verbose=False,
        external_data=False,
        keep_initializers_as_inputs=False,
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
    )
    _strip(model.graph)
    del model.metadata_props[:]
    model.doc_string = ""
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def export(network: Chain, path: Path) -> None:
    """Write qonnx_bytes() to `path`, whole or not at all."""
    write_atomically(path, qonnx_bytes(network))
