"""Figures of the hardware study, drawn from the tables of ``qnn.hardware`` in the style of ``qnn.figures``.

One is of one data set. What is not known is not drawn, never drawn as 0.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from qnn import hardware
from qnn.cell import BIT_WIDTHS
from qnn.figures import (
    BIT_COLOURS,
    COLUMN_INCHES,
    DASHES,
    DOTS,
    GREY,
    STYLE,
    error_colour,
    label_ends,
    readable_on,
)

__all__ = [
    "COMPARED",
    "accuracy_against_throughput",
    "budgets",
    "confusions",
    "estimate_against_synthesis",
    "growth_with_bits",
    "has_estimates",
    "has_growth",
    "has_thresholds",
    "simulation_speed",
    "thresholds_off",
]

PAGE_INCHES = 7.2
"""Width of two columns."""
COMPARED = "PE8-SIMD8"
"""The folding of the study's Figure 7."""
OVER = "#c0392b"
"""Of what is more than there is."""
BLUE, ORANGE, GREEN = "#1f4e9c", "#d95f02", "#2a7f62"
RESOURCES = {"lut": "LUT", "lut_memory": "LUT as memory", "ff": "flip-flops", "bram36": "BRAM36", "dsp": "DSP"}
MARKERS = {"uniform": "o", "balanced": "D"}
_HALO = [withStroke(linewidth=1.4, foreground="1")]
_THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.0f}")


def _bits_axis(axes: Axes, title: str) -> None:
    axes.set_xlabel(title)
    axes.xaxis.set_major_locator(FixedLocator(BIT_WIDTHS))
    axes.set_xlim(BIT_WIDTHS[0] - 0.3, BIT_WIDTHS[-1] + 0.3)
    axes.grid(visible=False, axis="x")


# --- growth with the bit widths --------------------------------------------------------------------------------------


def _diagonal(designs: pd.DataFrame) -> pd.DataFrame:
    """The cells of equal bit widths at the folding of Figure 7, uniform, by bit width."""
    chosen = designs[
        designs["folding"].eq(COMPARED)
        & designs["policy"].eq("uniform")
        & designs["activation_bits"].eq(designs["weight_bits"])
    ]
    return chosen.set_index("activation_bits").sort_index()


def has_growth(designs: pd.DataFrame) -> bool:
    """Whether at least two synthesised designs of Figure 7 are there."""
    return int(_diagonal(designs)["lut"].notna().sum()) > 1


def _lines(axes: Axes, drawn: Mapping[str, tuple[pd.Series, Any, Mapping[str, Any]]]) -> None:
    """Each {label: (figures by bits, colour, style)}, named at its right end."""
    known = {label: (series.dropna(), colour, style) for label, (series, colour, style) in drawn.items()}
    known = {label: found for label, found in known.items() if len(found[0])}
    for series, colour, style in known.values():
        axes.plot(series.index, series, color=colour, **style)
    label_ends(axes, [(float(s.iloc[-1]), label, colour) for label, (s, colour, _) in known.items()], gap=0.07)


_MEASURED: dict[str, Any] = {"linewidth": 1.3, "marker": "o", "markersize": 2.6}
_ESTIMATED: dict[str, Any] = {"linewidth": 0.6, "marker": ".", "markersize": 1.8}
_HLS: dict[str, Any] = {**_ESTIMATED, "linestyle": DASHES}


def growth_with_bits(designs: pd.DataFrame, nodes: pd.DataFrame, lut_of_part: int) -> Figure:
    """Counterpart of Figure 7 at PE8-SIMD8, uniform, against the bits: logic, block RAM, thresholds, and LUTs again.

    Thick: synthesis. Thin: FINN's estimates of the RTL and, dashed, of the HLS variant. The estimates of block RAM and
    of the HLS variant's LUTs are without the input's quantiser, for which FINN counts a row of thresholds for each
    pixel though all rows are the same. (d) has the LUTs on a logarithmic axis, with those of the part.
    """
    figures = _diagonal(designs)
    own = nodes[nodes["cell"].isin(figures["cell"])]
    others = own[own["hidden"] | own["kind"].ne("activation")].groupby("activation_bits")
    stored = (
        own[own["hidden"]].groupby("activation_bits")[["lut", "ff", "bram18", "finn_estimate_lut"]].sum(min_count=1)
    )
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(PAGE_INCHES, 4.3))
        logic, memory, thresholds, variants = figure.subplots(2, 2).flat
        figure.subplots_adjust(left=0.065, right=0.86, top=0.955, bottom=0.085, wspace=0.6, hspace=0.36)
        for axes, title in zip(
            (logic, memory, thresholds, variants),
            ("(a) Logic", "(b) Block RAM", "(c) Nodes of the hidden activations", "(d) LUT of both variants"),
            strict=True,
        ):
            axes.set_title(title)
            _bits_axis(axes, "activation and weight bits")
        drawn: dict[Axes, dict[str, tuple[pd.Series, Any, Mapping[str, Any]]]] = {
            logic: {
                "FF": (figures["ff"], ORANGE, _MEASURED),
                "LUT": (figures["lut"], BLUE, _MEASURED),
                "LUT, FINN": (figures["finn_estimate_lut"], BLUE, _ESTIMATED),
            },
            memory: {
                "BRAM18 in all": (figures["bram18"] + 2 * figures["bram36_blocks"], BLUE, _MEASURED),
                "in activations": (stored["bram18"], BLUE, {**_MEASURED, "linewidth": 0.9, "linestyle": DOTS}),
                "RAMB36": (figures["bram36_blocks"], GREEN, _MEASURED),
                "RAMB18": (figures["bram18"], ORANGE, _MEASURED),
                "FINN: RTL": (others["finn_estimate_bram18"].sum(min_count=1), BLUE, _ESTIMATED),
                "FINN: HLS": (figures["finn_hls_estimate_bram18"], GREY, _HLS),
            },
            thresholds: {
                "LUT": (stored["lut"], BLUE, _MEASURED),
                "FF": (stored["ff"], ORANGE, _MEASURED),
                "LUT, FINN": (stored["finn_estimate_lut"], BLUE, _ESTIMATED),
            },
        }
        for axes, lines in drawn.items():
            most = max((float(s.max()) for s, _, _ in lines.values() if s.notna().any()), default=1.0)
            axes.set_ylim(0, 1.08 * max(most, 1.0))
            axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.yaxis.set_major_formatter(_THOUSANDS)
            _lines(axes, lines)
        _variants(variants, figures, lut_of_part)
    return figure


def _variants(axes: Axes, figures: pd.DataFrame, lut_of_part: int) -> None:
    """LUTs of the RTL and of the HLS variant, and what the part has."""
    lines: dict[str, tuple[pd.Series, Any, Mapping[str, Any]]] = {
        "FINN: HLS": (figures["finn_hls_estimate_without_input_lut"], GREY, _HLS),
        "RTL, synthesis": (figures["lut"], BLUE, _MEASURED),
        "FINN: RTL": (figures["finn_estimate_lut"], BLUE, _ESTIMATED),
        "Z-7020": (pd.Series(float(lut_of_part), index=BIT_WIDTHS), OVER, {"linewidth": 0.7, "linestyle": DOTS}),
    }
    known = pd.concat([series for series, _, _ in lines.values()])
    axes.set_yscale("log")
    axes.set_ylim(0.7 * float(known[known > 0].min()), 1.4 * float(known.max()))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(_THOUSANDS)
    axes.yaxis.set_minor_locator(NullLocator())
    _lines(axes, lines)


# --- budgets ---------------------------------------------------------------------------------------------------------


def _name(line: Mapping[str, Any]) -> str:
    """Short name of a design."""
    return f"{line['bits']} {line['pe']}x{line['simd']}" + ("" if line["policy"] == "uniform" else " balanced")


def budgets(designs: pd.DataFrame) -> Figure:
    """The share of each resource that each design takes: bars of the whole part, ticks of what the shell leaves.

    A tick, and the figure beside it, is red where the design takes more than there is.
    """
    shown = designs[designs[[f"{name}_share" for name in RESOURCES]].notna().any(axis=1)].iloc[::-1]
    places = range(len(shown))
    height = 0.55 + 0.135 * len(shown)
    with mpl.rc_context({**STYLE, "axes.spines.left": False}):
        figure = Figure(figsize=(PAGE_INCHES, height))
        panels = figure.subplots(1, len(RESOURCES), sharey=True)
        figure.subplots_adjust(left=0.135, right=0.985, top=1 - 0.24 / height, bottom=0.29 / height, wspace=0.13)
        for (name, title), axes in zip(RESOURCES.items(), panels, strict=True):
            alone, beside = 100 * shown[f"{name}_share"], 100 * shown[f"{name}_share_beside_shell"]
            judged = beside.fillna(alone)
            axes.set_title(title)
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
            axes.set_ylim(-0.7, len(shown) - 0.3)
            most = max(120.0, 1.05 * float(judged.max()) if judged.notna().any() else 0.0)
            axes.set_xlim(0, 1.24 * most)
            axes.xaxis.set_major_locator(FixedLocator([*range(0, int(most) + 1, 50 if most < 260 else 100)]))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
            colours = [OVER if value > 100 else BLUE for value in judged]
            axes.barh(places, alone.fillna(0), height=0.5, color=colours, alpha=0.35, linewidth=0)
            axes.plot(beside, places, linestyle="", marker="|", markersize=5, markeredgewidth=1.0, color=BLUE)
            over = judged > 100
            axes.plot(beside[over], [k for k, is_over in zip(places, over, strict=True) if is_over], "|", color=OVER)
            axes.axvline(100, color="0", linewidth=0.6, linestyle=DOTS)
            for place, value in zip(places, judged, strict=True):
                text = "not known" if math.isnan(value) else f"{value:.0f}" if value >= 9.5 else f"{value:.1f}"
                start = 0.0 if math.isnan(value) else value
                axes.annotate(
                    text,
                    (start, place),
                    xytext=(3, 0),
                    textcoords="offset points",
                    va="center_baseline",
                    fontsize=5,
                    color=OVER if value > 100 else "0.25",
                    fontweight="bold" if value > 100 else "normal",
                    path_effects=_HALO,
                )
        panels[0].set_yticks(places, [_name(line) for line in shown.to_dict("records")])
        panels[0].tick_params(axis="y", labelsize=5.5)
    return figure


# --- estimate against synthesis --------------------------------------------------------------------------------------

_KIND_LOOKS = {
    "matrix unit": (BLUE, "o"),
    "activation": (ORANGE, "s"),
    "FIFO": (GREY, "x"),
    "width converter": (GREEN, "^"),
    "other": ("0", "+"),
}
_COMPARED_FIGURES = {"lut": "LUT", "bram18": "BRAM18", "dsp": "DSP"}
_ZERO = 0.35
"""Where 0 is drawn on a logarithmic axis: left of and below its break."""


def has_estimates(nodes: pd.DataFrame) -> bool:
    """Whether a node has both a figure and FINN's estimate of it."""
    return any(nodes[[name, f"finn_estimate_{name}"]].notna().all(axis=1).any() for name in _COMPARED_FIGURES)


def estimate_against_synthesis(nodes: pd.DataFrame) -> Figure:
    """FINN's estimate of the RTL (across) against synthesis (up) of every node, logarithmic; 0 stands apart."""
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(PAGE_INCHES, 2.75))
        panels = figure.subplots(1, len(_COMPARED_FIGURES))
        figure.subplots_adjust(left=0.08, right=0.985, top=0.92, bottom=0.235, wspace=0.24)
        for k, (name, title) in enumerate(_COMPARED_FIGURES.items()):
            axes = panels[k]
            found = nodes.dropna(subset=[name, f"finn_estimate_{name}"])
            most = 2 * max(
                10.0, *(float(found[column].max()) for column in (name, f"finn_estimate_{name}") if len(found))
            )
            axes.set_title(f"({'abc'[k]}) {title}")
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlim(0.22, most)
            axes.set_ylim(0.22, most)
            powers = [float(10**power) for power in range(math.ceil(math.log10(most)))]
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(FixedLocator([_ZERO, *powers]))
                axis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value < 1 else f"{value:,.0f}"))
                axis.set_minor_locator(NullLocator())
            axes.axvline(0.6, color="0.75", linewidth=0.5, linestyle=DOTS)
            axes.axhline(0.6, color="0.75", linewidth=0.5, linestyle=DOTS)
            axes.plot([0.6, most], [0.6, most], color="0", linewidth=0.6, linestyle=DASHES)
            axes.set_xlabel("FINN's estimate of the RTL")
            for kind, (colour, marker) in _KIND_LOOKS.items():
                of_kind = found[found["kind"].eq(kind)]
                if of_kind.empty:
                    continue
                axes.plot(
                    of_kind[f"finn_estimate_{name}"].clip(lower=_ZERO),
                    of_kind[name].clip(lower=_ZERO),
                    linestyle="",
                    marker=marker,
                    markersize=2.8,
                    markeredgewidth=0.6,
                    markerfacecolor="none",
                    color=colour,
                    alpha=0.75,
                )
        panels[0].set_ylabel("synthesis")
        kinds = [kind for kind in _KIND_LOOKS if nodes["kind"].eq(kind).any()]
        handles = [
            Line2D(
                [],
                [],
                linestyle="",
                marker=_KIND_LOOKS[kind][1],
                color=_KIND_LOOKS[kind][0],
                markersize=2.8,
                markeredgewidth=0.6,
                markerfacecolor="none",
            )
            for kind in kinds
        ]
        figure.legend(handles, kinds, loc="lower center", ncols=len(kinds), fontsize=6)
    return figure


# --- thresholds off by float32 ---------------------------------------------------------------------------------------


def has_thresholds(designs: pd.DataFrame) -> bool:
    """Whether thresholds were compared in any cell."""
    return bool(designs["thresholds_off"].notna().any())


def thresholds_off(designs: pd.DataFrame) -> Figure:
    """Thresholds that float32 puts one off (a), test images with other accumulators or top-1 (b), by activation bits.

    A marker is a trained cell: foldings change nothing. Counts from 0, linear up to 1 and logarithmic above.
    """
    cells = designs.dropna(subset=["thresholds_off"]).drop_duplicates("bits")
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(COLUMN_INCHES, 2.5))
        panels = figure.subplots(1, 2)
        figure.subplots_adjust(left=0.12, right=0.985, top=0.925, bottom=0.135, wspace=0.3)
        drawn = (
            (panels[0], "thresholds", "all", GREY, "x"),
            (panels[0], "thresholds_off", "off by float32", BLUE, "o"),
            (panels[1], "finn_images_with_other_accumulators", "other accumulators", BLUE, "o"),
            (panels[1], "finn_images_with_other_top1", "other top-1", OVER, "x"),
        )
        for axes in panels:
            _bits_axis(axes, "activation bits")
            axes.set_yscale("symlog", linthresh=1)
        for axes, name, label, colour, marker in drawn:
            known = cells.dropna(subset=[name])
            means = known.groupby("activation_bits")[name].mean()
            axes.plot(means, color=colour, linewidth=0.8)
            axes.plot(
                known["activation_bits"],
                known[name],
                linestyle="",
                marker=marker,
                markersize=3,
                markeredgewidth=0.7,
                markerfacecolor="1",
                color=colour,
                clip_on=False,
                zorder=3,
                label=label,
            )
        for axes, name in zip(panels, ("thresholds", "finn_images_with_other_accumulators"), strict=True):
            most = float(cells[name].max()) if cells[name].notna().any() else 1.0
            powers = range(math.floor(math.log10(max(most, 10))) + 1)
            axes.yaxis.set_major_locator(FixedLocator([0, *(10**power for power in powers)]))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(_THOUSANDS)
            axes.set_ylim(0, 20 * max(most, 10))
            axes.legend(loc="upper left", fontsize=6, handlelength=1, borderaxespad=0.1)
        panels[0].set_title("(a) Thresholds")
        panels[1].set_title("(b) Images of 10,000")
    return figure


# --- speed of simulation ---------------------------------------------------------------------------------------------


def simulation_speed(designs: pd.DataFrame) -> Figure:
    """Simulated cycles in a second of one core against PE x SIMD, both logarithmic, coloured by activation bits."""
    known = designs.dropna(subset=["simulated_cycles_per_host_s"])
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(COLUMN_INCHES, 2.3))
        axes = figure.subplots()
        figure.subplots_adjust(left=0.13, right=0.985, top=0.925, bottom=0.145)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_title("Simulated cycles in a second of one core")
        axes.set_xlabel("PE × SIMD of the first layer")
        axes.xaxis.set_major_locator(FixedLocator(sorted(known["products"].unique())))
        axes.xaxis.set_major_formatter(_THOUSANDS)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(_THOUSANDS)
        axes.yaxis.set_minor_locator(NullLocator())
        speeds = known["simulated_cycles_per_host_s"]
        axes.set_ylim(speeds.min() / 1.4, speeds.max() * 1.4)
        for policy, marker in MARKERS.items():
            of_policy = known[known["policy"].eq(policy)]
            axes.scatter(
                of_policy["products"],
                of_policy["simulated_cycles_per_host_s"],
                c=[BIT_COLOURS[bits] for bits in of_policy["activation_bits"]],
                marker=marker,
                s=14,
                linewidths=0.4,
                edgecolors="0.2",
                zorder=3,
            )
        bits = sorted(known["activation_bits"].unique())
        handles = [Line2D([], [], linestyle="", marker="o", markersize=3.5, color=BIT_COLOURS[width]) for width in bits]
        names = [f"{width} bits" for width in bits]
        axes.legend(handles, names, loc="upper right", fontsize=6, handlelength=1, borderaxespad=0.1)
    return figure


# --- the study's conclusion ------------------------------------------------------------------------------------------

_SHARE_COLOURS = mpl.colormaps["Blues"]


def _dodged(points: pd.DataFrame, factor: float) -> NDArray[np.float64]:
    """Images/s of each design, those that lie on one another spread by steps of `factor` around their common place."""
    places: NDArray[np.float64] = np.array(points["images_per_s"], dtype=np.float64)
    keys = list(zip(points["top1_percent"], points["images_per_s"].map(lambda value: f"{value:.2g}"), strict=True))
    for key in dict.fromkeys(keys):
        own = [k for k, other in enumerate(keys) if other == key]
        for position, k in enumerate(own):
            places[k] *= factor ** (position - (len(own) - 1) / 2)
    return places


def accuracy_against_throughput(designs: pd.DataFrame) -> Figure:
    """Top-1 against images/s of every design; colour: worst resource share; rings: the Pareto front of all three.

    Crosses: designs that do not fit beside the shell. Plus signs: resources not known. Designs on one another stand
    side by side.
    """
    points = designs.assign(
        images_per_s=designs["throughput_images_per_s"].fillna(designs["expected_images_per_s"])
    ).dropna(subset=["images_per_s", "top1_percent"])
    best = hardware.front(designs)
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(PAGE_INCHES, 3.3))
        axes = figure.subplots()
        figure.subplots_adjust(left=0.065, right=0.82, top=0.885, bottom=0.11)
        axes.set_xscale("log")
        axes.set_xlabel("images/s of the simulated accelerator at 100 MHz")
        axes.set_title("Top-1 of the hardware on 10,000 images, images/s and worst share of a resource", pad=15)
        low, high = points["images_per_s"].min(), points["images_per_s"].max()
        axes.set_xlim(low / 1.5, high * 1.5)
        spread = max(float(points["top1_percent"].max() - points["top1_percent"].min()), 0.2)
        axes.set_ylim(points["top1_percent"].min() - 0.08 * spread, points["top1_percent"].max() + 0.08 * spread)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(_THOUSANDS)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1f} %"))
        for line, place in zip(points.to_dict("records"), _dodged(points, 1.11), strict=True):
            share = line["worst_share"]
            known, over = not math.isnan(share), share > 1
            colour = _SHARE_COLOURS(0.12 + 0.8 * share) if known and not over else "1"
            marker = MARKERS[line["policy"]]
            if line["cell"] in best:
                axes.plot(place, line["top1_percent"], "o", markersize=8, fillstyle="none", color=ORANGE, zorder=4)
            axes.plot(
                place,
                line["top1_percent"],
                "X" if over else marker if known else "+",
                markersize=4.5,
                markerfacecolor=OVER if over else colour,
                markeredgecolor=OVER if over else "0.25",
                markeredgewidth=0.4 if known else 0.9,
            )
        for _, group in points.groupby(points["images_per_s"].map(lambda value: f"{value:.2g}")):
            names = dict.fromkeys(group["folding"].map(lambda name: name.replace("PE", "").replace("-SIMD", "x")))
            listed = list(names)
            text = "\n".join(listed[-3:]) if len(listed) < 4 else "\n".join([*listed[:2], "…"])
            axes.annotate(
                text,
                (float(group["images_per_s"].median()), 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=5,
                linespacing=1.0,
                color=GREY,
            )
        ends = [
            (float(group["top1_percent"].iloc[0]), str(bits), BIT_COLOURS[int(group["activation_bits"].iloc[0])])
            for bits, group in points.groupby("bits")
        ]
        # label_ends measures in widths of its axes: these are narrow ones at the right end of the figure's own.
        edge = figure.add_axes((0.74, 0.11, 0.08, 0.775), sharey=axes, facecolor="none")
        edge.set_axis_off()
        label_ends(edge, ends, gap=0.05)
        _share_key(figure)
    return figure


def _share_key(figure: Figure) -> None:
    """The scale of the worst share, and what the markers mean, right of the axes' labels."""
    key = figure.add_axes((0.925, 0.36, 0.012, 0.4))
    # Bars and no image, which the page's security policy would not show.
    steps = 50
    colours = [_SHARE_COLOURS(0.12 + 0.8 * step / (steps - 1)) for step in range(steps)]
    lower = 100 / steps * np.arange(steps)
    key.barh(lower, 1, 100 / steps, align="edge", color=colours, edgecolor=colours, linewidth=0.3)
    key.set_xlim(0, 1)
    key.set_ylim(0, 100)
    key.grid(visible=False)
    key.set_xticks([])
    key.yaxis.tick_right()
    key.yaxis.set_major_locator(FixedLocator([0, 50, 100]))
    key.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    key.set_title("worst share", fontsize=5.5, loc="center")
    looks = (
        ("X", OVER, OVER, "does not fit"),
        ("P", "0.25", "0.25", "not known"),
        ("o", "none", ORANGE, "Pareto front"),
    )
    for k, (marker, face, edge, text) in enumerate(looks):
        height = 0.19 - 0.05 * k
        key.plot(
            0.9,
            height,
            marker,
            transform=figure.transFigure,
            markersize=4.5 if edge != ORANGE else 6,
            markerfacecolor=face,
            markeredgecolor=edge,
            markeredgewidth=0.5 if edge != ORANGE else 1.0,
            clip_on=False,
        )
        figure.text(0.912, height, text, fontsize=5.5, va="center_baseline")


# --- confusion -------------------------------------------------------------------------------------------------------


def confusions(matrices: Mapping[str, NDArray[np.int64]], classes: Sequence[str]) -> Figure:
    """Per cent of each true class (rows) taken for each one (columns), a panel for each {title: [true, predicted]}."""
    count = len(matrices)
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(0.62 + 2.2 * count, 2.6))
        panels = figure.subplots(1, count, squeeze=False, sharey=True)[0]
        width = 0.62 + 2.2 * count
        figure.subplots_adjust(left=0.56 / width, right=1 - 0.03 / width, top=0.925, bottom=0.155, wspace=0.05)
        for axes, (title, matrix) in zip(panels, matrices.items(), strict=True):
            totals = matrix.sum(axis=1, keepdims=True)
            percent = np.where(totals > 0, 100 * matrix / np.maximum(totals, 1), np.nan)
            axes.set_title(title)
            for (row, column), value in np.ndenumerate(percent):
                if math.isnan(value):
                    continue
                off = row != column
                colour = error_colour(min(value, 20.0), 0, 20) if off else (0.93, 0.93, 0.93)
                axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="1", linewidth=0.4))
                if round(value) == 0:
                    continue
                axes.text(
                    column + 0.5,
                    row + 0.5,
                    f"{value:.0f}",
                    ha="center",
                    va="center",
                    fontsize=5,
                    color=readable_on(colour),
                )
            axes.set_xlim(0, len(matrix))
            axes.set_ylim(len(matrix), 0)
            middles = [k + 0.5 for k in range(len(matrix))]
            axes.set_xticks(middles, classes, rotation=90, fontsize=5)
            axes.set_yticks(middles, classes, fontsize=5)
            axes.tick_params(length=0, pad=1)
            axes.spines[:].set_visible(False)
    return figure
