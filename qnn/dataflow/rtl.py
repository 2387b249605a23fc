"""FINN's HDL of every node, as files whose names and contents are relative to one folder.

FINN writes absolute paths into what it generates (weights, thresholds) and gives its folders random names. Here
every file of a node lies in ``<node name>/``, every file of finn-rtllib in ``rtllib/``, and paths inside the
files say so too.
"""

from pathlib import Path

from finn.transformation.fpgadataflow.prepare_ip import PrepareIP
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp

from qnn.dataflow import compat
from qnn.errors import DataflowError

__all__ = ["generate_rtl"]

_MEMSTREAM = ("memstream/hdl/memstream_axi.sv", "memstream/hdl/memstream.sv", "axi/hdl/axilite.sv")


def _whole_bytes(bits: int) -> int:
    return (bits + 7) // 8 * 8


def _node_files(name: str, generated: Path) -> dict[str, str]:
    """What FINN generated for one node, with its folder's path replaced by the node's name."""
    files = {}
    for path in sorted(generated.iterdir()):
        if path.suffix in (".v", ".sv", ".dat"):
            text = path.read_text()
            if path.suffix != ".dat":
                text = text.replace(f"{generated}/", f"{name}/").replace('"./', f'"{name}/')
                if str(generated) in text:
                    raise DataflowError(f"{name}: {path.name} still names {generated}")
            files[f"{name}/{path.name}"] = text
    return files


def _describe(node: NodeProto, files: dict[str, str]) -> dict[str, object]:
    """Fields of qnn.hdl.HardwareNode; the files it needs are added to `files`."""
    unit, name = getCustomOp(node), node.name
    # Paths are resolved: the environment may be reached by a symbolic link.
    rtllib, generated = compat.rtllib(), Path(unit.get_nodeattr("code_gen_dir_ipgen"))
    files |= _node_files(name, generated)
    paths = [Path(path).resolve() for path in unit.get_rtl_file_list(abspath=True)]
    record: dict[str, object] = {
        "name": name,
        "op_type": node.op_type,
        "module": unit.get_verilog_top_module_name(),
        "input_bits": _whole_bytes(unit.get_instream_width()),
        "output_bits": _whole_bytes(unit.get_outstream_width()),
        "weights_module": None,
        "weight_bits": None,
        "fifo_depth": unit.get_nodeattr("depth") if node.op_type.startswith("StreamingFIFO") else None,
    }
    if node.op_type.startswith("MVAU"):
        record["weights_module"] = f"{name}_memstream_wrapper"
        record["weight_bits"] = _whole_bytes(unit.get_instream_width(1))
        paths += [rtllib / source for source in _MEMSTREAM]
        paths.append(generated / f"{name}_memstream_wrapper.v")
    sources = []
    for path in paths:
        if path.is_relative_to(rtllib):
            source = f"rtllib/{path.relative_to(rtllib)}"
            files[source] = path.read_text()
        else:
            source = f"{name}/{path.name}"
        sources.append(source)
    record["sources"] = list(dict.fromkeys(sources))
    return record


def generate_rtl(model: ModelWrapper, part: str, clock_period_ns: float) -> dict[str, object]:
    """{"files": {name: content}, "nodes": [fields of HardwareNode]} of a folded graph.

    FINN's PrepareIP renders the templates; it needs no vendor tool for RTL nodes.
    """
    model = model.transform(PrepareIP(part, clock_period_ns))
    files: dict[str, str] = {}
    nodes = [_describe(node, files) for node in model.graph.node]
    return {"files": files, "nodes": nodes}
