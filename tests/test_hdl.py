"""A hardware design is a value: whole, with relative names, and with one digest wherever it was made."""

from pathlib import Path

import pytest

from qnn.errors import DesignError
from qnn.hdl import TOP, HardwareDesign, HardwareNode, node_module, stitched_top


def _node(name: str, **changes: object) -> HardwareNode:
    fields = {
        "name": name,
        "op_type": "StreamingFIFO_rtl",
        "module": name,
        "sources": (f"{name}/{name}.v",),
        "input_bits": 8,
        "output_bits": 8,
    }
    return HardwareNode(**{**fields, **changes})  # type: ignore[arg-type]


def _design(**files: str) -> HardwareDesign:
    nodes = (_node("a"), _node("b"))
    content = {"a/a.v": "module a; endmodule", "b/b.v": "module b; endmodule", f"{TOP}.sv": stitched_top(nodes)}
    return HardwareDesign(files={**content, **files}, nodes=nodes, finn_version="1")


def test_the_digest_is_of_names_and_contents_and_not_of_their_order() -> None:
    design = _design()
    reversed_files = dict(reversed(list(design.files.items())))
    assert HardwareDesign(files=reversed_files, nodes=design.nodes, finn_version="1").digest == design.digest
    assert design.replace_files({"a/a.v": "changed"}).digest != design.digest


def test_a_design_is_written_below_one_folder(tmp_path: Path) -> None:
    design = _design()
    design.write(tmp_path)
    written = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == dict(design.files)


def test_sources_are_named_once_packages_first_and_the_top_last() -> None:
    nodes = (_node("a", sources=("lib/x.sv", "a/a.v")), _node("b", sources=("lib/p_pkg.sv", "lib/x.sv", "b/b.v")))
    files = dict.fromkeys(("lib/x.sv", "a/a.v", "lib/p_pkg.sv", "b/b.v", f"{TOP}.sv"), "")
    design = HardwareDesign(files=files, nodes=nodes, finn_version="1")
    assert design.sources == ("lib/p_pkg.sv", "lib/x.sv", "a/a.v", "b/b.v", f"{TOP}.sv")


def test_a_node_without_its_files_is_refused() -> None:
    with pytest.raises(DesignError, match=r"a names files that the design does not hold: a/a.v"):
        HardwareDesign(files={}, nodes=(_node("a"),), finn_version="1")


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside.v"])
def test_a_file_outside_the_design_is_refused(name: str) -> None:
    with pytest.raises(DesignError, match="relative"):
        _design(**{name: ""})


def test_only_files_that_are_there_can_be_replaced() -> None:
    with pytest.raises(DesignError, match=r"no such file in the design: c\.v"):
        _design().replace_files({"c.v": ""})


def test_neighbours_of_different_width_are_refused_by_name() -> None:
    with pytest.raises(DesignError, match=r"a gives 16 bits and b takes 8"):
        stitched_top((_node("a", output_bits=16), _node("b")))


def test_an_mvau_gets_its_weights_from_the_memory_beside_it() -> None:
    text = node_module(_node("m", op_type="MVAU_rtl", weights_module="m_memstream_wrapper", weight_bits=24))
    assert "m_memstream_wrapper weights (" in text
    assert "wire [24-1:0] weights_tdata;" in text
    assert ".in1_V_TDATA(weights_tdata)" in text
    assert ".ap_clk2x(ap_clk)" in text
