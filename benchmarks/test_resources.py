"""What FINN's RTL takes of a part: Yosys synthesis out of context, layer by layer and in total.

The verdicts are on FINN's RTL variant, which multiplies in DSP slices. FINN's analytical estimates of it and of the HLS
variant, which multiplies in LUTs as the study's accelerators did, stand in columns of their own. Nothing here is placed
or routed. What does not fit is data (``fixtures/reference/misfits.toml``), held strictly both ways.
"""

from collections.abc import Iterable, Mapping

import pytest

from fixtures.recording import Record
from qnn import estimate, reference
from qnn.cell import Cell
from qnn.errors import ToolTimeout
from qnn.pipeline import NodeSynthesis, Pipeline
from qnn.reference import Misfit
from qnn.resources import FAMILIES, Part, Resources, margins, overflows, shares, total
from qnn.results import Evidence, Metric
from qnn.tools.finn import DataflowModel, LayerGeometry

_ESTIMATED = {"lut": "LUT", "bram18": "BRAM_18K", "dsp": "DSP"}
"""FINN's names of what it estimates; it has no estimate of flip-flops."""


@pytest.fixture
def synthesis(pipeline: Pipeline, cell: Cell, record: Record) -> tuple[NodeSynthesis, ...]:
    """FINN's RTL synthesised by Yosys, node by node; a node that runs out of time leaves a row that says so."""
    try:
        return pipeline.synthesis(cell)
    except ToolTimeout:
        record(Evidence.SYNTHESIS, synthesis_timed_out=True, synthesis_limit_s=pipeline.synthesis_limit_s)
        raise


def _estimates(layers: Iterable[LayerGeometry], prefix: str) -> dict[str, Metric]:
    layers = list(layers)
    return {f"{prefix}_{name}": sum(layer.estimate[key] for layer in layers) for name, key in _ESTIMATED.items()}


def _estimate_error(resources: Resources, estimates: Mapping[str, Metric]) -> dict[str, Metric]:
    """Synthesised figures as multiples of FINN's estimate of the same RTL; None where it estimates nothing."""
    taken = {"lut": resources.lut, "bram18": 2 * resources.bram36_equivalent, "dsp": resources.dsp}
    expected = {name: float(estimates[f"finn_estimate_{name}"] or 0) for name in taken}
    return {f"{name}_per_estimate": taken[name] / expected[name] if expected[name] else None for name in taken}


def _hls_twins(dataflow: DataflowModel) -> dict[str, LayerGeometry]:
    """The HLS node of each RTL node that has one: matrix units, which hold the next activation, and the first one."""

    def of(layers: Iterable[LayerGeometry], kind: str) -> list[LayerGeometry]:
        return [layer for layer in layers if layer.op_type.startswith(kind)]

    units = zip(of(dataflow.layers, "MVAU"), of(dataflow.hls_layers, "MVAU"), strict=True)
    inputs = zip(of(dataflow.layers, "Thresholding"), of(dataflow.hls_layers, "Thresholding"), strict=False)
    return {rtl.name: hls for rtl, hls in (*units, *inputs)}


def _layer(node: NodeSynthesis, geometry: LayerGeometry, hls: LayerGeometry | None) -> dict[str, Metric]:
    asked = geometry.folding.asked if geometry.folding else None
    estimates = _estimates([geometry], "finn_estimate")
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
        **estimates,
        **_estimate_error(node.resources, estimates),
        **{f"finn_hls_estimate_{name}": None for name in _ESTIMATED},
        **(_estimates([hls], "finn_hls_estimate") if hls else {}),
    }


def _fits(resources: Resources, part: Part) -> dict[str, Metric]:
    beside_shell = part.beside_shell
    return {
        "fits": not overflows(resources, part.alone),
        "fits_beside_shell": None if beside_shell is None else not overflows(resources, beside_shell),
    }


def _verdicts(resources: Resources, part: Part) -> dict[str, Metric]:
    """Shares of the whole part; what is left, and of which resource least, beside the shell where one is known."""
    used = shares(resources, part.alone)
    left_percent = {name: 100 * (1 - share) for name, share in shares(resources, part.budget).items()}
    tightest = min(left_percent, key=left_percent.__getitem__)
    return {
        **{f"{name}_percent": 100 * share for name, share in used.items()},
        **{f"{name}_left": left for name, left in margins(resources, part.budget).items()},
        "tightest_resource": tightest,
        "tightest_left_percent": left_percent[tightest],
        **_fits(resources, part),
    }


def _hls_verdicts(dataflow: DataflowModel, part: Part) -> dict[str, Metric]:
    """What FINN estimates of the HLS variant, and whether that would fit as far as it goes: it has no flip-flops.

    The verdict leaves the quantiser of the input out. FINN counts 36,720 LUTs for its thresholds at every PE, a row
    of 255 for each of 1,024 pixels though all rows are the same; synthesis of the RTL takes a few hundred.
    """
    others = [layer for layer in dataflow.hls_layers if not layer.op_type.startswith("Thresholding")]
    sums = {name: sum(layer.estimate[key] for layer in others) for name, key in _ESTIMATED.items()}
    estimated = Resources(lut=int(sums["lut"]), bram18=int(sums["bram18"]), dsp=int(sums["dsp"]))
    return {
        **_estimates(dataflow.hls_layers, "finn_hls_estimate"),
        "finn_hls_estimate_without_input_lut": sums["lut"],
        **{f"finn_hls_estimate_{name}": verdict for name, verdict in _fits(estimated, part).items()},
    }


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
    estimates, twins = _estimates(dataflow.layers, "finn_estimate"), _hls_twins(dataflow)
    record(
        Evidence.SYNTHESIS,
        part=part.name,
        variant="RTL, multiplies in DSP slices",
        policy=str(cell.policy),
        applied_foldings=" ".join(f"{layer.applied.pe}x{layer.applied.simd}" for layer in dataflow.foldings),
        multipliers=sum(layer.applied.pe * layer.applied.simd for layer in dataflow.foldings),
        expected_interval_cycles=estimate.initiation_interval_cycles(dataflow.foldings),
        lut=resources.lut,
        lut_memory=resources.lut_memory,
        ff=resources.ff,
        bram18=resources.bram18,
        bram36_blocks=resources.bram36,
        bram36=resources.bram36_equivalent,
        dsp=resources.dsp,
        **_verdicts(resources, part),
        **estimates,
        **_estimate_error(resources, estimates),
        **_hls_verdicts(dataflow, part),
        host_synthesise_s=sum(node.host_s for node in synthesis),
        layers=[
            _layer(node, layer, twins.get(node.name)) for node, layer in zip(synthesis, dataflow.layers, strict=True)
        ],
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
