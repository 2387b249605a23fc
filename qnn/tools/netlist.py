"""A synthesised accelerator as a design that a simulator takes: what was counted is what is simulated.

The nodes' netlists, the stitched top, and a model of each cell that occurs: Yosys' own (``cells_sim.v``), and for block
RAMs, which have no behaviour there, the suite's. A netlist holds its memories' contents: no other file is read.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from qnn.errors import DesignError
from qnn.hdl import TOP, HardwareDesign
from qnn.tools import block_ram, yosys

__all__ = ["netlist_design"]

_MODELS = "cells.v"
_SPECIFY = re.compile(r"^\s*specify\b.*?\bendspecify\b", re.DOTALL | re.MULTILINE)


def _models() -> str:
    """Every cell that can occur in a netlist; unused ones cost nothing."""
    modules = yosys.parse_modules(yosys.cell_models())
    # Delays are the timing analysis' business.
    texts = {name: _SPECIFY.sub("", text) for name, text in modules.items()}
    texts |= {name: block_ram.model(ram) for name, ram in block_ram.BLOCK_RAMS.items()}
    return "\n".join(["`timescale 1ps/1ps", *texts.values(), ""])


def netlist_design(design: HardwareDesign, netlists: Mapping[str, str]) -> HardwareDesign:
    """`design` with each node's source replaced by its netlist: {node name: netlist, under its neutral name}.

    Raises DesignError where a node has no netlist, or a block RAM is in a mode that has no model.
    """
    missing = [node.name for node in design.nodes if node.name not in netlists]
    if missing:
        raise DesignError(f"these nodes are not synthesised: {', '.join(missing)}")
    for node in design.nodes:
        try:
            block_ram.check(netlists[node.name])
        except DesignError as error:
            raise DesignError(f"{node.name}: {error}") from None
    files = {f"{node.name}/netlist.v": yosys.netlist_of(node, netlists[node.name]) for node in design.nodes}
    return HardwareDesign(
        files={_MODELS: _models(), **files, f"{TOP}.sv": design.files[f"{TOP}.sv"]},
        nodes=tuple(replace(node, sources=(_MODELS, f"{node.name}/netlist.v")) for node in design.nodes),
        finn_version=design.finn_version,
    )
