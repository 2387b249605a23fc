"""What FINN's RTL takes of a part: Yosys synthesis out of context, layer by layer and in total.

The verdicts are on FINN's RTL variant, which multiplies in DSP slices. FINN's analytical estimates of it and of the HLS
variant, which multiplies in LUTs as the study's accelerators did, stand in columns of their own. Nothing here is placed
or routed. What does not fit is data (``fixtures/reference/misfits.toml``), held strictly both ways.
"""

import pytest

from fixtures.recording import Record
from qnn import reference
from qnn.cell import Cell
from qnn.errors import ToolTimeout
from qnn.pipeline import NodeSynthesis, Pipeline
from qnn.reference import Misfit
from qnn.resource_figures import layer_figures, resource_figures
from qnn.resources import FAMILIES, overflows, total
from qnn.results import Evidence
from qnn.tools.finn import DataflowModel


@pytest.fixture
def synthesis(pipeline: Pipeline, cell: Cell, record: Record) -> tuple[NodeSynthesis, ...]:
    """FINN's RTL synthesised by Yosys, node by node; a node that runs out of time leaves a row that says so."""
    try:
        return pipeline.synthesis(cell)
    except ToolTimeout:
        record(Evidence.SYNTHESIS, synthesis_timed_out=True, synthesis_limit_s=pipeline.synthesis_limit_s)
        raise


def _disagreement(cell: Cell, part: str, found: Misfit, expected: Misfit) -> str:
    parts = []
    for name in ("alone", "beside_shell"):
        has, should = getattr(found, name), getattr(expected, name)
        if new := sorted(has - should):
            parts.append(f"{name}: does not fit by {', '.join(new)}, which misfits.toml does not say")
        if gone := sorted(should - has):
            parts.append(f"{name}: fits by {', '.join(gone)}, and misfits.toml says that it does not")
    return f"{cell} on {part}: {'; '.join(parts)}"


@pytest.mark.synthesis
def test_accelerator_fits_the_part(
    cell: Cell,
    pipeline: Pipeline,
    dataflow: DataflowModel,
    synthesis: tuple[NodeSynthesis, ...],
    record: Record,
) -> None:
    resources = total(node.resources for node in synthesis)
    part = reference.part(pipeline.part)
    record(
        Evidence.SYNTHESIS,
        **resource_figures(synthesis, dataflow, cell.policy, part),
        layers=layer_figures(synthesis, dataflow),
    )
    found = Misfit(
        alone=frozenset(overflows(resources, part.alone)),
        beside_shell=frozenset(overflows(resources, part.beside_shell) if part.beside_shell else ()),
    )
    expected = reference.expected_misfit(cell, part.name)
    assert found == expected, _disagreement(cell, part.name, found, expected)


@pytest.mark.synthesis
def test_dsp_slices_are_those_that_bit_widths_and_folding_give(
    pipeline: Pipeline, dataflow: DataflowModel, synthesis: tuple[NodeSynthesis, ...], record: Record
) -> None:
    bits = FAMILIES[reference.part(pipeline.part).family].dsp_multiplier_bits
    counted = {node.name: node.resources.dsp for node in synthesis if node.resources.dsp}
    computed = {layer.name: layer.dsp_slices(layer.folding.applied, bits) for layer in dataflow.layers if layer.folding}
    record(Evidence.SYNTHESIS, computed_dsp=sum(computed.values()))
    assert counted == computed
