"""The report's section on hardware: tables and figures made of rows of results (``qnn.results``).

What no row says is shown as a dash or said in a sentence, never as 0.
"""

import html
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from qnn import figures, hardware, hardware_figures, markup, paper, reference
from qnn.cell import DATASETS, PART, Folding, Policy, Quantization
from qnn.confusion import matrix_of
from qnn.markup import TITLES
from qnn.results import Metric, Row, Status

__all__ = ["COMMAND", "Section", "section"]

COMMAND = "pytest benchmarks --matrix paper"
"""What makes the rows."""
DASH = "–"
CLASSES = {
    "fashion-mnist": ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"),
    "mnist": tuple("0123456789"),
}
"""Classes in the order of their labels; of Fashion-MNIST as its authors name them."""
_POLICIES = [str(policy) for policy in Policy]


@dataclass(frozen=True, kw_only=True)
class Section:
    """The section and the figures in it."""

    html: str
    drawings: Mapping[str, figures.Drawing] = field(default_factory=dict)
    """By file name without ending."""


# --- numbers as texts ------------------------------------------------------------------------------------------------


def _number(value: object, form: str = ",.0f") -> str:
    """A dash where it is not known."""
    if value is None or isinstance(value, str) or math.isnan(value):  # type: ignore[arg-type]
        return DASH
    return format(value, form).replace("-", "−")


def _percent(share: float) -> str:
    return DASH if math.isnan(share) else f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.1f} %"


def _of(value: float, share: float, form: str = ",.0f") -> str:
    return _number(value, form) if math.isnan(share) else f"{_number(value, form)} ({_percent(share)})"


def _ratio(ours: float, theirs: float | None) -> str:
    return DASH if theirs is None or math.isnan(ours) else f"{ours / theirs:.4f}"


# --- Tables II and III -----------------------------------------------------------------------------------------------


def _found(designs: pd.DataFrame, bits: Quantization, folding: Folding, policy: str) -> pd.Series | None:
    chosen = designs[designs["bits"].eq(str(bits)) & designs["folding"].eq(str(folding)) & designs["policy"].eq(policy)]
    return None if chosen.empty else chosen.iloc[0]


def _policies(designs: pd.DataFrame) -> list[str]:
    return [policy for policy in _POLICIES if designs["policy"].eq(policy).any()]


def _table_2(designs: pd.DataFrame) -> str:
    """The study's Table II, a line for each cell, folding and policy."""
    printed = {(e.quantization, e.folding): e for e in paper.board_throughputs() if e.table == 2}
    names = dict.fromkeys(quantization for quantization, _ in printed)
    lines = []
    for bits in names:
        for folding in dict.fromkeys(folding for _, folding in printed):
            entry = printed.get((bits, folding))
            board = entry.images_per_s if entry else None
            board_in = entry.dram_in_megabytes_per_s if entry else None
            for policy in _policies(designs):
                found = _found(designs, bits, folding, policy)
                if found is None:
                    continue
                ours, ours_in = found["throughput_images_per_s"], found["dram_in_megabytes_per_s"]
                fitted = found["with_fitted_overhead_images_per_s"]
                lines.append(
                    [
                        str(bits),
                        str(folding),
                        policy,
                        _number(board),
                        _number(ours),
                        _ratio(ours, board),
                        _ratio(fitted, board),
                        _number(board_in, ",.2f"),
                        _number(ours_in, ",.2f"),
                        _ratio(ours_in, board_in),
                    ]
                )
    if not lines:
        return markup.missing(f"No row is of a cell of Table II: {COMMAND} makes them.")
    heads = ["cell", "folding", "policy", "paper: images/s", "here", "ratio", "with fitted overhead: ratio"]
    return markup.table([*heads, "paper: DRAM-in MB/s", "here", "ratio"], lines)


def _table_3(designs: pd.DataFrame, policy: str) -> str:
    """The study's Table III as a grid: here, the paper's figure and the ratio in each square."""
    printed = {e.folding: e.images_per_s for e in paper.board_throughputs() if e.table == 3}
    sides = sorted({folding.pe for folding in printed})
    rows = []
    for simd in sides:
        squares = []
        for pe in sides:
            folding = Folding(pe=pe, simd=simd)
            found = _found(designs, Quantization.parse("A3W3"), folding, policy)
            ours = math.nan if found is None else float(found["throughput_images_per_s"])
            board = printed.get(folding)
            told = "not readable" if board is None else _number(board)
            squares.append(f"<td>{_number(ours)}<small>{told}</small><small>{_ratio(ours, board)}</small></td>")
        rows.append(f"<tr><th>SIMD{simd}</th>{''.join(squares)}</tr>")
    heads = "".join(f"<th>PE{pe}</th>" for pe in sides)
    return (
        f'<div class="scroll"><table class="cells"><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _tables_3(designs: pd.DataFrame) -> str:
    a3w3 = designs[designs["bits"].eq("A3W3") & designs["throughput_images_per_s"].notna()]
    parts = [f"<div><h5>{policy}</h5>{_table_3(designs, policy)}</div>" for policy in _policies(a3w3)]
    if not parts:
        return markup.missing(f"No row is of A3W3's throughput: {COMMAND} -k A3W3 makes them.")
    return f'<div class="pair">{"".join(parts)}</div>'


_RULES = {
    "test_bit_widths_change_nothing": "bit widths change nothing",
    "test_pe_and_simd_are_interchangeable": "PE and SIMD are interchangeable",
}


def _rules(rows: Sequence[Row], dataset: str) -> str:
    """What was found between cells, and the fit of Table II on Table III."""
    lines = []
    for row in rows:
        name = row.test.rpartition("::")[2].partition("[")[0]
        if name in _RULES and f"-{dataset.replace('-', '_')}-" in str(row.metrics.get("cells")):
            lines.append(
                [
                    _RULES[name],
                    str(row.metrics["cells"]),
                    str(row.metrics.get("initiation_intervals_cycles", DASH)),
                    _number(row.metrics.get("spread_percent"), ".4f"),
                    _number(row.metrics.get("paper_spread_percent"), ".2f"),
                    str(row.status),
                ]
            )
    heads = ["rule", "cells", "intervals, cycles", "spread of images/s, %", "the paper's own, %", "test"]
    parts = [markup.table(heads, lines)] if lines else []
    for row in rows:
        cycles = row.metrics.get("fitted_overhead_cycles")
        if row.metrics.get("fitted_on") and cycles is not None:
            errors = [
                f"{name.removeprefix('error_at_').removesuffix('_percent')} {_number(value, '+.3f')} %"
                for name, value in row.metrics.items()
                if name.startswith("error_at_")
            ]
            parts.append(
                f"<p>Fitted on {html.escape(str(row.metrics['fitted_on']))} alone, the board takes "
                f"{_number(cycles, '.2f')} cycles a frame beyond the folding's interval, cause "
                f"{html.escape(str(row.metrics.get('overhead_cause', DASH)))}. What that predicts of Table III is off "
                f"by: {html.escape(', '.join(errors))}.</p>"
            )
    return "".join(parts)


# --- all cells -------------------------------------------------------------------------------------------------------


def _fit(line: Mapping[str, float | str | bool | None]) -> str:
    if line["synthesis_timed_out"]:
        return "not known: synthesis ran out of time"
    if line["fits"] is None:
        return DASH
    over = [
        title
        for name, title in hardware_figures.RESOURCES.items()
        if (float(line[f"{name}_share_beside_shell"] or 0) > 1 or float(line[f"{name}_share"] or 0) > 1)
    ]
    reason = f" ({', '.join(over)})" if over else ""
    if not line["fits"]:
        return f"no{reason}"
    if line["fits_beside_shell"] is None:
        return "alone; no shell known"
    return "yes" if line["fits_beside_shell"] else f"alone only{reason}"


def _hls(line: Mapping[str, float | str | bool | None]) -> str:
    """The estimate of the HLS variant and whether that would fit."""
    fits = line["finn_hls_estimate_fits_beside_shell"]
    if fits is None:
        fits = line["finn_hls_estimate_fits"]
    lut = _number(line["finn_hls_estimate_without_input_lut"])
    return lut if fits is None else f"{lut} ({'yes' if fits else 'no'})"


def _rests_on(line: Mapping[str, float | str | bool | None]) -> str:
    """The strongest evidence of the design's figures, weakest first."""
    evidence, images = str(line["evidence"]) or DASH, line["netlist_images"]
    if isinstance(images, float) and not math.isnan(images):
        evidence = evidence.replace("netlist", f"netlist ({images:,.0f} images)")
    return evidence + (f"; failed: {line['failed']}" if line["failed"] else "")


def _fifos(line: Mapping[str, float | str | bool | None]) -> str:
    """Whether the delivered depths keep the interval that unbounded FIFOs have."""
    unbounded, own, full = (
        float(line[name] or 0)
        for name in ("unbounded_interval_cycles", "initiation_interval_cycles", "fifos_that_fill_up")
    )
    if math.isnan(unbounded) or math.isnan(own):
        return DASH
    verdict = "yes" if unbounded == own else f"no: {own:,.0f} cycles for {unbounded:,.0f}"
    return verdict if math.isnan(full) or not full else f"{verdict}; {full:.0f} fill up"


def _equal(line: Mapping[str, float | str | bool | None]) -> str:
    equal, images = line["images_equal"], line["images"]
    return DASH if _number(images) == DASH else f"{_number(equal)} of {_number(images)}"


def _margin(line: Mapping[str, float | str | bool | None]) -> str:
    left = _number(line["tightest_left_percent"], ".0f")
    return left if left == DASH else f"{left} % {line['tightest_resource'] or ''}".rstrip()


def _images_per_s(line: Mapping[str, float | str | bool | None]) -> str:
    """Simulated; marked where it is but what the folding gives."""
    if (simulated := _number(line["throughput_images_per_s"])) != DASH:
        return simulated + ("*" if line["extrapolated"] else "")
    expected = _number(line["expected_images_per_s"])
    return expected if expected == DASH else f"{expected} (computed)"


_Line = Mapping[str, float | str | bool | None]


def _metric(name: str, form: str = ",.0f") -> Callable[[_Line], str]:
    return lambda line: _number(line[name], form)


def _resource(name: str, form: str = ",.0f") -> Callable[[_Line], str]:
    return lambda line: _of(float(line[name] or 0), float(line[f"{name}_share"] or 0), form)


COLUMNS: Mapping[str, Callable[[_Line], str]] = {
    "cell": lambda line: str(line["bits"]),
    "folding": lambda line: str(line["folding"]),
    "policy": lambda line: str(line["policy"]),
    "RTL = integers, images": _equal,
    "top-1 of the RTL, %": _metric("rtl_top1_percent", ".2f"),
    "Brevitas on the same images, %": _metric("brevitas_top1_of_these_percent", ".2f"),
    "top-1 of all 10,000, %": _metric("top1_percent", ".2f"),
    "drop from float, points": _metric("accuracy_drop_points", ".2f"),
    "bit operations": _metric("bit_operations"),
    "weight bits": _metric("weight_bits_total"),
    "images/s": _images_per_s,
    "latency, µs": _metric("latency_us", ",.2f"),
    "images/s a LUT": _metric("images_per_s_per_lut", ",.2f"),
    "images/s a DSP": _metric("images_per_s_per_dsp", ",.0f"),
    "energy modelled, nJ an image": _metric("modelled_energy_nj", ",.0f"),
    "LUT": _resource("lut"),
    "FF": _resource("ff"),
    "BRAM36": _resource("bram36", ",.1f"),
    "DSP": _resource("dsp"),
    "fits": _fit,
    "tightest: left": _margin,
    "variant": lambda line: str(line["variant"] or DASH).partition(",")[0],
    "HLS, estimated: LUT (fits)": _hls,
    "cells' longest path, ns": _metric("longest_path_ns", ".2f"),
    "FIFO depths suffice": _fifos,
    "evidence": _rests_on,
}
"""Of the table of all cells: how each is told from a line of ``hardware.designs``."""


def _all_cells(designs: pd.DataFrame) -> str:
    # None instead of pandas' NaN in the columns of text and truth.
    lines = designs.astype(dict.fromkeys(hardware.OTHERS, object))
    lines = lines.where(lines.notna() | ~lines.columns.isin(hardware.OTHERS), None)
    rows = [[tell(line) for tell in COLUMNS.values()] for line in lines.to_dict("records")]
    return markup.table(list(COLUMNS), rows, wide=True)


# --- what was concluded ----------------------------------------------------------------------------------------------


def _conclusions(rows: Sequence[Row], dataset: str) -> str:
    """The verdicts of the study's conclusion, one for each policy that was judged."""
    parts = []
    for row in hardware.claims_on(rows, "tradeoff"):
        found = row.metrics
        if found.get("dataset") != dataset:
            continue
        reasons = [
            f"<li>{label}: {html.escape(str(found[name]))}</li>"
            for label, name in (
                ("against it", "against"),
                ("undecided whether", "undecided"),
                ("accurate representations", "accurate"),
                ("Pareto front", "pareto_front"),
                ("not synthesised in time", "synthesis_timed_out"),
            )
            if found.get(name)
        ]
        parts.append(
            f"<p>“A3W3 seems to be the best compromise”, policy {html.escape(str(found.get('policy', DASH)))}: "
            f"<b>{html.escape(str(found.get('verdict', DASH)))}</b> (test: {row.status}).</p>"
            f"<ul>{''.join(reasons)}</ul>"
        )
    return "".join(parts) or markup.missing(
        f"The study's conclusion was not judged: it takes all designs of the study in one run, {COMMAND}."
    )


def _growth(rows: Sequence[Row]) -> str:
    lines = []
    for row in hardware.claims_on(rows, "growth"):
        found = row.metrics
        holds = found.get("borne_out")
        verdict = DASH if holds is None else "borne out" if holds else "not borne out"
        texts = [found.get("sentence"), found.get("claim"), found.get("measured")]
        lines.append([*(str(text or DASH) for text in texts), str(row.evidence or DASH), verdict])
    if not lines:
        return markup.missing(f"The claims on growth were not judged: they take A2W2 to A8W8 at PE8-SIMD8, {COMMAND}.")
    return markup.table(["claim", "figure", "measured", "evidence", "verdict"], lines)


def _searches(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        if row.hop != "search":
            continue
        found: Mapping[str, Metric] = row.metrics
        lines.append(
            [
                str(row.cell),
                str(found.get("fastest_folding") or row.reason or DASH),
                str(found.get("applied_foldings") or DASH),
                _number(found.get("expected_interval_cycles")),
                _number(found.get("expected_images_per_s")),
                _number(found.get("expected_dram_in_megabytes_per_s")),
                *(_number(found.get(name)) for name in ("lut", "ff")),
                _number(found.get("bram36"), ",.1f"),
                _number(found.get("dsp")),
                str(found.get("part") or DASH),
            ]
        )
    if not lines:
        return markup.missing("No search was made: python -m qnn search A2W2 A3W3 A4W4 makes the rows.")
    heads = ["cell", "fastest folding that fits", "layers", "interval, cycles", "images/s (computed)", "DRAM-in MB/s"]
    return markup.table([*heads, "LUT", "FF", "BRAM36", "DSP", "part"], lines)


_HARDWARE_HOPS = (
    *("equivalence", "throughput", "resources", "fifos", "netlist", "timing", "tradeoff", "growth"),
    *("simulation_speed", "search"),
)


def _evidence(rows: Sequence[Row]) -> str:
    """What each verdict rests on: the tests behind it, the kind of evidence, and how they ended."""
    found = hardware.evidence(row for row in rows if row.hop in _HARDWARE_HOPS)
    endings = [name for name in map(str, Status) if name in found and found[name].any()]
    lines = [
        [line["hop"], line["test"].replace("_", " ").removeprefix("test "), line["evidence"] or DASH]
        + [str(line[name]) for name in endings]
        for line in found.to_dict("records")
    ]
    return markup.table(["kind", "what is tested", "evidence", *endings], lines)


def _not_passed(rows: Sequence[Row]) -> str:
    found = hardware.not_passed(rows)
    if found.empty:
        return "<p>Every test of these rows passed.</p>"
    columns = ["status", "hop", "count", "reason", "cells"]
    return markup.table(
        ["status", "kind of test", "tests", "reason", "cells"],
        [[str(line[name]) for name in columns] for line in found.to_dict("records")],
    )


# --- figures ---------------------------------------------------------------------------------------------------------


def _confusion_of(line: pd.Series) -> tuple[str, NDArray[np.int64]] | None:
    """Title and matrix of a design: of the RTL where it saw all images, else of the exact integers."""
    for name, source in (("rtl_confusion_images", "RTL"), ("golden_confusion_images", "exact integers")):
        text = line[name]
        if isinstance(text, str):
            matrix = matrix_of(text)
            if matrix.sum() == hardware.BATCH_IMAGES:
                return f"{line['bits']}, {source}", matrix
    return None


def _confusions(designs: pd.DataFrame) -> dict[str, NDArray[np.int64]]:
    """Of A2W2, of the study's choice and of the most accurate cell, as far as they are there."""
    choices = ["A2W2", str(paper.best_compromise())]
    known = designs.dropna(subset=["top1_percent"])
    if not known.empty:
        choices.append(str(known.loc[known["top1_percent"].idxmax(), "bits"]))
    found: dict[str, NDArray[np.int64]] = {}
    for bits in dict.fromkeys(choices):
        matrices = [_confusion_of(line) for _, line in designs[designs["bits"].eq(bits)].iterrows()]
        # One that the RTL gave comes first.
        for title, matrix in sorted((one for one in matrices if one), key=lambda one: "RTL" not in one[0])[:1]:
            found[title] = matrix
    return found


def _growth_caption(nodes: pd.DataFrame) -> str:
    inputs = nodes[
        nodes["kind"].eq("activation")
        & ~nodes["hidden"]
        & nodes["folding"].eq(hardware_figures.COMPARED)
        & nodes["policy"].eq("uniform")
    ]
    estimate, synthesis = inputs["finn_estimate_bram18"].max(), inputs["bram18"].max()
    remark = (
        f" (up to {estimate:,.0f} BRAM18 by FINN's estimate of the RTL, {synthesis:,.0f} after synthesis)"
        if not math.isnan(estimate) and not math.isnan(synthesis)
        else ""
    )
    return (
        f"Cells of equal bit widths at {hardware_figures.COMPARED}, uniform. Thick: FINN's RTL synthesised by Yosys, "
        "out of context. Thin: FINN's estimates of the RTL and, dashed, of the HLS variant, which multiplies in LUTs "
        "as the study's did. Its LUTs, and the estimates of block RAM, are without the quantiser of the input"
        f"{remark}: FINN counts its row of thresholds once for each pixel. FINN estimates no flip-flops. BRAM18 in "
        "all: a RAMB36 counts as two; dotted: those of the hidden activations' nodes. (c) Logic of these nodes, which "
        "hold the thresholds; those of the input do not depend on the bit widths. (d) On a logarithmic axis, with the "
        "LUTs that the Z-7020 has."
    )


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """A figure of one data set, or why there is none."""

    heading: str
    caption: str
    lacking: str
    draw: Callable[[], Figure] | None
    """None where the rows do not have what it takes."""


def _pictures(designs: pd.DataFrame, nodes: pd.DataFrame, dataset: str) -> dict[str, _Picture]:
    """By file name, in the order of the page."""
    matrices = _confusions(designs)
    shares = designs[[f"{name}_share" for name in hardware_figures.RESOURCES]].notna().any(axis=None)
    placed = designs["top1_percent"].notna() & (
        designs["throughput_images_per_s"].notna() | designs["expected_images_per_s"].notna()
    )
    one = hardware_figures
    return {
        "hardware-growth": _Picture(
            heading="Growth with the bit widths (counterpart of the paper's Figure 7)",
            caption=_growth_caption(nodes),
            lacking=f"Fewer than two designs A2W2 ... A8W8 at {one.COMPARED} are synthesised: {COMMAND}.",
            draw=(lambda: one.growth_with_bits(designs, nodes, reference.part(PART).alone.lut))
            if one.has_growth(designs)
            else None,
        ),
        "hardware-budgets": _Picture(
            heading="What each design takes of the Z-7020",
            caption=(
                "Shares of each resource after synthesis, before placement: bars of the whole part, ticks and figures "
                "of what FINN's shell leaves of it. Red: more than there is. Names: cell, PE x SIMD as asked."
            ),
            lacking=f"No design is synthesised: {COMMAND}.",
            draw=(lambda: one.budgets(designs)) if shares else None,
        ),
        "hardware-estimates": _Picture(
            heading="FINN's estimate against synthesis, node by node",
            caption=(
                "A marker is a node of a design. On the dashed line estimate and synthesis are equal. Left of and "
                "below the dotted lines: 0. FINN estimates no LUTs of a matrix unit that multiplies in DSP slices."
            ),
            lacking=f"No row has figures of nodes: {COMMAND}.",
            draw=(lambda: one.estimate_against_synthesis(nodes)) if one.has_estimates(nodes) else None,
        ),
        "hardware-thresholds": _Picture(
            heading="Thresholds that float32 puts one off",
            caption=(
                "FINN's thresholds against the exact ones, and the test images whose accumulators or top-1 they "
                "change; each case lies within the proved bound of float32. A marker is a trained cell, a line the "
                "mean of its activation bits. Linear from 0 to 1, logarithmic above."
            ),
            lacking=f"No row compares FINN's thresholds: {COMMAND} -k thresholds makes them.",
            draw=(lambda: one.thresholds_off(designs)) if one.has_thresholds(designs) else None,
        ),
        "hardware-compromise": _Picture(
            heading="The study's conclusion: accuracy, images/s and the worst resource",
            caption=(
                "Every design: circles uniform, diamonds balanced; darker takes a larger share of its worst resource, "
                "beside the shell. Designs that lie on one another stand side by side; foldings (PE x SIMD) above. "
                "Rings: designs that no other one beats in one of the three without losing in another."
            ),
            lacking=f"No row has both accuracy and throughput: {COMMAND}.",
            draw=(lambda: one.accuracy_against_throughput(designs)) if placed.any() else None,
        ),
        "hardware-confusion": _Picture(
            heading="Which classes are taken for which",
            caption=(
                "Per cent of the 1,000 test images of each class (rows) that were taken for each class (columns); "
                "below 0.5 not written. Colours are those of the errors, to 20 %."
            ),
            lacking=f"No row has a confusion of all 10,000 images: {COMMAND}.",
            draw=(lambda: one.confusions(matrices, CLASSES[dataset])) if matrices else None,
        ),
        "hardware-simulation": _Picture(
            heading="Speed of simulation",
            caption=(
                "Cycles that Verilator simulates in a second of one core, the best of five runs; circles uniform, "
                "diamonds balanced."
            ),
            lacking="The speed of simulation was not measured: pytest benchmarks --speed -k simulation_speed.",
            draw=(lambda: one.simulation_speed(designs))
            if designs["simulated_cycles_per_host_s"].notna().any()
            else None,
        ),
    }


# --- the section -----------------------------------------------------------------------------------------------------


def _of_dataset(
    rows: Sequence[Row], dataset: str, designs: pd.DataFrame, nodes: pd.DataFrame
) -> Iterator[tuple[str, dict[str, figures.Drawing]]]:
    """Pieces of HTML, each with the figures in it."""
    pictures = _pictures(designs, nodes, dataset)

    def picture(name: str) -> tuple[str, dict[str, figures.Drawing]]:
        found, file = pictures[name], f"{dataset}-{name}"
        heading = f"<h4>{html.escape(found.heading)}</h4>"
        if found.draw is None:
            return heading + markup.missing(found.lacking), {}
        drawing = figures.draw(found.draw(), file)
        title = f"{found.heading}, {TITLES[dataset]}"
        return heading + markup.figure(drawing.svg, file, title, found.caption), {file: drawing}

    yield f"<h3>{TITLES[dataset]}</h3>", {}
    yield (
        "<h4>Table II beside the paper's</h4><p>Batch of 10,000 images on the simulated accelerator's own clock, "
        "100 MHz; the paper's figures are its board's. Raw ratios; in a column of its own the one with the overhead a "
        "frame that was fitted on Table II. The paper prints DRAM-in to 0.01 MB/s; where it prints nothing, A4W4 at "
        "PE16-SIMD16, its design did not fit. It folds all layers alike (uniform); balanced designs of the same first "
        f"layer stand beside the same figure.</p>{_table_2(designs)}",
        {},
    )
    yield (
        f"<h4>Table III beside the paper's: A3W3, images/s</h4><p>Here; below it the paper's, and the ratio.</p>"
        f"{_tables_3(designs)}{_rules(rows, dataset)}",
        {},
    )
    yield picture("hardware-growth")
    if dataset == DATASETS[0]:  # of which alone growth is judged
        yield _growth(rows), {}
    yield picture("hardware-budgets")
    yield picture("hardware-estimates")
    yield picture("hardware-thresholds")
    yield picture("hardware-compromise")
    yield _conclusions(rows, dataset), {}
    yield (
        "<h4>All cells</h4><p>Shares are of the whole Z-7020. <i>fits</i>: of the variant named, beside FINN's shell; "
        "<i>alone only</i>: only with the whole part for itself. <i>tightest: left</i>: of what the shell leaves, the "
        "resource of which least is left. The HLS variant is FINN's estimate without the input's quantiser, never "
        "synthesised here. The energy is modelled from the paper's Figure 1, not measured. The longest path counts "
        "delays of cells alone, without routing: a lower bound on the clock period. * a batch of 10,000: the "
        "first images as simulated in one stream, continued by measured intervals. Evidence, "
        "weakest first: <i>estimate</i> computed, "
        "<i>python</i> FINN's graph or exact integers, <i>rtlsim</i> the RTL simulated cycle by cycle, "
        "<i>synthesis</i> counted in Yosys' netlist before placement, <i>netlist</i> that netlist simulated too. "
        "No figure is from a board, but "
        f"the paper's.</p>{_all_cells(designs)}",
        {},
    )
    yield picture("hardware-confusion")
    yield picture("hardware-simulation")


def section(rows: Sequence[Row]) -> Section:
    """The section on hardware of `rows`; where there are none, the command that makes them."""
    heading = "<h2>Hardware</h2>"
    designs, nodes = hardware.designs(rows), hardware.nodes(rows)
    if designs.empty:
        return Section(html=heading + markup.missing(f"There are no rows of results of designs: {COMMAND} makes them."))
    parts: list[str] = [
        heading,
        f"<p>FINN's RTL (matrix units multiply in DSP slices) of {len(designs)} designs on {PART}, from {len(rows)} "
        "rows of results. Nothing was placed, routed or run on a board.</p>",
    ]
    drawings: dict[str, figures.Drawing] = {}
    for dataset in TITLES:
        own = designs[designs["dataset"].eq(dataset)].reset_index(drop=True)
        if own.empty:
            continue
        for text, drawn in _of_dataset(rows, dataset, own, nodes[nodes["dataset"].eq(dataset)]):
            parts.append(text)
            drawings.update(drawn)
    others = sorted({str(row.metrics["part"]) for row in rows if row.metrics.get("part") not in (None, PART)})
    note = f"<p>Rows on {html.escape(', '.join(others))} are left out of all this.</p>" if others else ""
    parts.append(f"<h3>Fastest balanced folding that fits</h3>{_searches(rows)}")
    parts.append(f"<h3>What each verdict rests on</h3>{_evidence(rows)}")
    parts.append(f"<h3>What did not pass, and why</h3>{_not_passed(rows)}{note}")
    return Section(html="".join(parts), drawings=drawings)
