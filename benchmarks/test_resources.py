"""What FINN's RTL takes of the Z-7020: Yosys synthesis out of context, layer by layer and in total.

FINN's own analytical estimate stands in columns of its own. Nothing here is placed or routed.
"""

import pytest

from fixtures.recording import Record
from qnn import reference
from qnn.cell import Cell
from qnn.pipeline import NodeSynthesis, Pipeline
from qnn.resources import shares, total
from qnn.results import Evidence, Metric
from qnn.tools.finn import DataflowModel, LayerGeometry


def _layer(node: NodeSynthesis, geometry: LayerGeometry) -> dict[str, Metric]:
    asked = geometry.folding.asked if geometry.folding else None
    return {
        "name": node.name,
        "pe": geometry.pe,
        "simd": geometry.simd,
        "asked": str(asked) if asked else None,
        "lut": node.resources.lut,
        "lut_memory": node.resources.lut_memory,
        "ff": node.resources.ff,
        "bram18": node.resources.bram18,
        "bram36_blocks": node.resources.bram36,
        "dsp": node.resources.dsp,
        "finn_estimate_lut": geometry.estimate["LUT"],
        "finn_estimate_bram18": geometry.estimate["BRAM_18K"],
        "finn_estimate_dsp": geometry.estimate["DSP"],
    }


@pytest.mark.synthesis
def test_accelerator_fits_the_part(
    cell: Cell,
    pipeline: Pipeline,
    dataflow: DataflowModel,
    synthesis: tuple[NodeSynthesis, ...],
    record: Record,
) -> None:
    resources = total(node.resources for node in synthesis)
    used = shares(resources, reference.part(pipeline.part))
    fits = all(share <= 1 for share in used.values())
    record(
        Evidence.SYNTHESIS,
        lut=resources.lut,
        lut_memory=resources.lut_memory,
        ff=resources.ff,
        bram18=resources.bram18,
        bram36_blocks=resources.bram36,
        bram36=resources.bram36_equivalent,
        dsp=resources.dsp,
        **{f"{name}_percent": 100 * share for name, share in used.items()},
        fits=fits,
        host_synthesise_s=sum(node.host_s for node in synthesis),
        finn_estimate_lut=sum(layer.estimate["LUT"] for layer in dataflow.layers),
        finn_estimate_bram18=sum(layer.estimate["BRAM_18K"] for layer in dataflow.layers),
        finn_estimate_dsp=sum(layer.estimate["DSP"] for layer in dataflow.layers),
        layers=[_layer(node, layer) for node, layer in zip(synthesis, dataflow.layers, strict=True)],
    )
    assert fits, f"{cell} does not fit {pipeline.part}: {used}"
