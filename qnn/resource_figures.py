"""Figures of what FINN's RTL takes of a part after synthesis, beside FINN's own estimates, layer by layer and in total.

Those of FINN's RTL variant, which multiplies in DSP slices, are synthesised; of the HLS variant, which multiplies in
LUTs as the study's accelerators did, there is FINN's analytical estimate. Nothing here is placed or routed.
"""

from collections.abc import Iterable, Mapping, Sequence

from qnn import estimate
from qnn.cell import Policy
from qnn.pipeline import NodeSynthesis
from qnn.resources import Part, Resources, margins, overflows, shares, total
from qnn.results import Metric
from qnn.tools.finn import DataflowModel, LayerGeometry

__all__ = ["hls_estimates", "layer_figures", "resource_figures"]

_ESTIMATED = {"lut": "LUT", "bram18": "BRAM_18K", "dsp": "DSP"}
"""FINN's names of what it estimates; it has no estimate of flip-flops."""


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


def hls_estimates(layers: Sequence[LayerGeometry], part: Part) -> dict[str, Metric]:
    """What FINN estimates of the HLS variant's `layers`, and whether that would fit as far as it goes: no flip-flops.

    The verdict leaves the quantiser of the input out. FINN counts 36,720 LUTs for its thresholds at every PE, a row
    of 255 for each of 1,024 pixels though all rows are the same; synthesis of the RTL takes a few hundred.
    """
    others = [layer for layer in layers if not layer.op_type.startswith("Thresholding")]
    sums = {name: sum(layer.estimate[key] for layer in others) for name, key in _ESTIMATED.items()}
    estimated = Resources(lut=int(sums["lut"]), bram18=int(sums["bram18"]), dsp=int(sums["dsp"]))
    return {
        **_estimates(layers, "finn_hls_estimate"),
        "finn_hls_estimate_without_input_lut": sums["lut"],
        **{f"finn_hls_estimate_{name}": verdict for name, verdict in _fits(estimated, part).items()},
    }


def resource_figures(
    synthesis: Sequence[NodeSynthesis], dataflow: DataflowModel, policy: Policy, part: Part
) -> dict[str, Metric]:
    """Of the whole accelerator: what it takes, shares and verdicts on `part`, and FINN's estimates beside it."""
    resources = total(node.resources for node in synthesis)
    estimates = _estimates(dataflow.layers, "finn_estimate")
    return {
        "part": part.name,
        "variant": "RTL, multiplies in DSP slices",
        "policy": str(policy),
        "applied_foldings": " ".join(f"{layer.applied.pe}x{layer.applied.simd}" for layer in dataflow.foldings),
        "multipliers": sum(layer.applied.pe * layer.applied.simd for layer in dataflow.foldings),
        "expected_interval_cycles": estimate.initiation_interval_cycles(dataflow.foldings),
        "lut": resources.lut,
        "lut_memory": resources.lut_memory,
        "ff": resources.ff,
        "bram18": resources.bram18,
        "bram36_blocks": resources.bram36,
        "bram36": resources.bram36_equivalent,
        "dsp": resources.dsp,
        **_verdicts(resources, part),
        **estimates,
        **_estimate_error(resources, estimates),
        **hls_estimates(dataflow.hls_layers, part),
        "host_synthesise_s": sum(node.host_s for node in synthesis),
    }


def layer_figures(synthesis: Sequence[NodeSynthesis], dataflow: DataflowModel) -> list[dict[str, Metric]]:
    """The same of each node, in the order of the stream."""
    twins = _hls_twins(dataflow)
    return [_layer(node, layer, twins.get(node.name)) for node, layer in zip(synthesis, dataflow.layers, strict=True)]
