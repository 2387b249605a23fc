"""Figures of the accuracy study: the counterparts of the paper's Figures 5 and 6, and a map of all cells.

Each is one column of a paper wide (89 mm) and drawn from one data set's table of histories (``qnn.histories``).
The 49 cells of a seed are compared with one another, so a seed whose cells are not all there is left out.
Colours are viridis, from 2 bits (dark) to 8 (light): an order that is kept in grey and for every colour vision.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from scipy.special import stdtrit  # type: ignore[import-untyped]

from qnn.cell import BIT_WIDTHS, INPUT_BITS
from qnn.histories import LONG, SCHEDULES, SHORT

__all__ = [
    "BIT_COLOURS",
    "COLUMN_INCHES",
    "DASHES",
    "DOTS",
    "GREY",
    "SMOOTHED_EPOCHS",
    "STYLE",
    "Drawing",
    "cells_of_seeds",
    "draw",
    "error_against_bits",
    "error_colour",
    "error_map",
    "error_over_epochs",
    "final_error_percent",
    "float_error_percent",
    "label_ends",
    "means_with_intervals",
    "readable_on",
    "smoothed",
    "whole_cells",
]

COLUMN_INCHES = 3.5
FACTORS = {"weight_bits": "weight bits", "activation_bits": "activation bits"}
SMOOTHED_EPOCHS = 9
"""Window of the running mean in `error_over_epochs`."""
CONFIDENCE = 0.95

STYLE: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 6.5,
    "axes.titlesize": 7,
    "axes.titlelocation": "left",
    "axes.labelsize": 6.5,
    "axes.linewidth": 0.5,
    "axes.edgecolor": "0.3",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.4,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "legend.frameon": False,
    "svg.fonttype": "path",  # looks the same without the font
}
GREY = "0.45"
BIT_COLOURS = dict(zip(BIT_WIDTHS, mpl.colormaps["viridis"](np.linspace(0, 0.92, len(BIT_WIDTHS))), strict=True))


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure in both its forms."""

    svg: bytes
    png: bytes
    """At 300 dots an inch."""


# --- numbers ---------------------------------------------------------------------------------------------------------


def _studied(table: pd.DataFrame, epochs: int) -> pd.DataFrame:
    """The quantised networks of one schedule that have the study's input bits."""
    return table[table["epochs"].eq(epochs) & table["input_bits"].eq(INPUT_BITS).fillna(False)]


def cells_of_seeds(table: pd.DataFrame, epochs: int) -> dict[int, int]:
    """{seed: how many of its 49 cells are there} of one schedule, for every seed that has any."""
    return {int(seed): int(count) for seed, count in _studied(table, epochs).groupby("seed")["cell"].nunique().items()}


def whole_cells(table: pd.DataFrame, epochs: int) -> pd.DataFrame:
    """Every epoch of the 49 cells of one schedule, of the seeds that have them all; test_percent is the test error."""
    whole = [seed for seed, count in cells_of_seeds(table, epochs).items() if count == len(BIT_WIDTHS) ** 2]
    cells = _studied(table, epochs)
    return cells[cells["seed"].isin(whole)].assign(test_percent=100 * cells["test_error"])


def final_error_percent(table: pd.DataFrame, epochs: int) -> pd.DataFrame:
    """Test error after the last epoch in per cent, mean over the seeds; empty where no seed has all cells.

    A row for each width of activations, a column for each width of weights.
    """
    cells = whole_cells(table, epochs)
    return cells[cells["epoch"].eq(epochs)].pivot_table(
        index="activation_bits", columns="weight_bits", values="test_percent"
    )


def float_error_percent(table: pd.DataFrame, epochs: int) -> pd.Series:
    """Test error of the float network, in per cent, at each epoch of a schedule, mean over its seeds; may be empty."""
    rows = table[table["epochs"].eq(epochs) & table["cell"].eq("float")]
    return 100 * rows.groupby("epoch")["test_error"].mean()


def smoothed(curve: pd.Series) -> pd.Series:
    """Centred running mean over SMOOTHED_EPOCHS epochs, where they are all there."""
    return curve.rolling(SMOOTHED_EPOCHS, center=True).mean().dropna()


def means_with_intervals(last: pd.DataFrame, factor: str) -> pd.DataFrame:
    """Mean and half of its 95 % interval (per cent) for each width of `factor`, from the cells' last epochs.

    The cells are a complete block design: for each seed and each width of the other factor, every width of `factor`
    once. What a block has in common is no uncertainty of the comparison: it is taken out before the spread is
    measured (Cousineau 2005, with the correction of Morey 2008), then Student's t over the blocks.
    """
    blocks = last.pivot_table(
        index=["seed", next(name for name in FACTORS if name != factor)], columns=factor, values="test_percent"
    )
    widths = len(blocks.columns)
    compared = blocks.sub(blocks.mean(axis=1), axis=0)
    error = compared.std() * np.sqrt(widths / (widths - 1) / len(blocks))
    return pd.DataFrame({"mean": blocks.mean(), "half": error * stdtrit(len(blocks) - 1, (1 + CONFIDENCE) / 2)})


# --- parts of a figure -----------------------------------------------------------------------------------------------


def _spread(places: Sequence[float], gap: float) -> list[float]:
    """`places` moved as little as lets each be `gap` or more from the next and `gap` / 2 or more above 0, in order."""
    order = sorted(range(len(places)), key=places.__getitem__)
    asked = {k: max(places[k], gap * (position + 0.5)) for position, k in enumerate(order)}
    groups: list[list[int]] = []

    def middle(group: list[int]) -> float:
        return sum(asked[k] for k in group) / len(group)

    for k in order:
        groups.append([k])
        while len(groups) > 1 and middle(groups[-1]) - middle(groups[-2]) < gap * len(groups[-2] + groups[-1]) / 2:
            groups[-2:] = [groups[-2] + groups[-1]]
    moved = {
        k: middle(group) + gap * (position - (len(group) - 1) / 2)
        for group in groups
        for position, k in enumerate(group)
    }
    return [moved[k] for k in range(len(places))]


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, Any]], *, gap: float) -> None:
    """Write each (value, text, colour) to the right of the axes, `gap` (of the axes' height) apart, a line to each."""
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [float(to_axes.transform((axes.get_xlim()[1], value))[1]) for value, _, _ in ends]
    outside: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    for height, place, (_, text, colour) in zip(heights, _spread(heights, gap), ends, strict=True):
        axes.plot([1.01, 1.09, 1.14], [height, place, place], color=colour, linewidth=0.6, **outside)
        axes.text(1.17, place, text, va="center_baseline", color="0.15", fontsize=6, **outside)


def _log_percent(axes: Axes, lowest: float, highest: float) -> None:
    """A logarithmic axis of error rates in per cent, with ticks at equal steps."""
    axes.set_yscale("log")
    axes.set_ylim(lowest, highest)
    step = next(step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if highest - lowest < 9 * step)
    ticks = [step * k for k in range(math.ceil(lowest / step), math.floor(highest / step) + 1)]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PERCENT)


PERCENT = FuncFormatter(lambda value, _: f"{value:g} %")
DASHES = (0, (3, 1.5))
DOTS = (0, (1, 1.5))


def error_colour(value: float, least: float, most: float) -> tuple[float, ...]:
    """Of an error rate on the way from `least` (light) to `most` (dark), red, green and blue from 0 to 1."""
    share = (value - least) / (most - least) if most > least else 0.0
    return tuple(mpl.colormaps["Blues"](0.08 + 0.77 * share)[:3])


def readable_on(colour: tuple[float, ...]) -> str:
    """Black or white, whichever has the higher contrast with `colour` (WCAG 2: contrast of relative luminances)."""
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"


# --- figures ---------------------------------------------------------------------------------------------------------


def error_over_epochs(table: pd.DataFrame, epochs: int = 100) -> Figure:
    """Counterpart of Figure 5: test error over the epochs, by weight bits (a) and by activation bits (b).

    A curve is the mean over all seeds and widths of the other kind. Left of the gap, while the learning rate is
    constant, the thick line is a running mean and each epoch's value stands thin behind it; right of the gap, from the
    last epoch before the rate falls, each epoch's value is drawn.
    """
    cells, milestones = whole_cells(table, epochs), SCHEDULES[epochs]
    is_float = float_error_percent(table, epochs)
    curves = {factor: cells.groupby([factor, "epoch"])["test_percent"].mean().unstack(factor) for factor in FACTORS}
    drawn = pd.concat([*curves.values(), is_float], axis=1)
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(COLUMN_INCHES, 4.4))
        grid = figure.subplots(2, 2, sharey=True, sharex="col", width_ratios=(2.5, 1))
        figure.subplots_adjust(left=0.115, right=0.87, top=0.955, bottom=0.08, wspace=0.06, hspace=0.2)
        # The first epoch of every curve is above the frame: what follows could not be told apart otherwise.
        _log_percent(grid[0][0], 0.97 * drawn.min(axis=None), 1.01 * drawn.iloc[1].max())
        for letter, (factor, title), (constant, falling) in zip("ab", FACTORS.items(), grid, strict=True):
            constant.set_title(f"({letter}) Test error by {title}")
            constant.set_xlim(0, milestones[0])
            falling.set_xlim(milestones[0] - 0.4, epochs + 0.4)
            falling.spines["left"].set_visible(False)
            falling.tick_params(axis="y", length=0)
            for k, milestone in enumerate(milestones, start=1):
                falling.axvline(milestone, color=GREY, linewidth=0.5, linestyle=DOTS)
                falling.annotate(
                    f"rate × {0.1**k:g}",
                    (milestone, 1),
                    xycoords=("data", "axes fraction"),
                    xytext=(1.5, -1),
                    textcoords="offset points",
                    rotation=90,
                    va="top",
                    fontsize=5.5,
                    color=GREY,
                )
            ends = []
            for bits, curve in curves[factor].items():
                colour, before, after = BIT_COLOURS[bits], curve.loc[: milestones[0]], curve.loc[milestones[0] :]
                constant.plot(before, color=colour, linewidth=0.4, alpha=0.4)
                constant.plot(smoothed(before), color=colour, linewidth=1.1)
                falling.plot(after, color=colour, linewidth=0.9, marker=".", markersize=2.2)
                ends.append((curve.iloc[-1], f"{bits} bits" if bits in (2, 8) else f"{bits}", colour))
            if len(is_float):
                before = is_float.loc[: milestones[0]]
                constant.plot(before, color="0", linewidth=0.4, alpha=0.25)
                constant.plot(smoothed(before), color="0", linewidth=0.8, linestyle=DASHES)
                falling.plot(is_float.loc[milestones[0] :], color="0", linewidth=0.8, linestyle=DASHES)
                ends.append((is_float.iloc[-1], "float", "0"))
            label_ends(falling, ends, gap=0.056)
        grid[1][0].set_xlabel("epoch")
        grid[1][0].xaxis.set_major_locator(FixedLocator(range(0, milestones[0], 20)))
        grid[1][1].xaxis.set_major_locator(FixedLocator([*milestones, epochs]))
    return figure


SERIES = (
    # schedule, epoch, label, colour, marker
    (LONG, SHORT, f"epoch {SHORT} of {LONG}", GREY, "x"),
    (SHORT, SHORT, f"{SHORT} epochs", "#d95f02", "s"),
    (LONG, LONG, f"{LONG} epochs", "#1f4e9c", "o"),
)
"""Of `error_against_bits`, from the highest error to the lowest."""


def error_against_bits(table: pd.DataFrame) -> Figure:
    """Counterpart of Figure 6: test error after 40 and after 100 epochs, against weight bits (a), activation bits (b).

    A marker is the mean over all seeds and widths of the other kind, its bar the 95 % interval of
    `means_with_intervals`; the dots behind are the networks, from left to right by the other width. Both schedules
    lower the learning rate at their ends; crosses are the 40th epoch of the long one, at the full rate still.
    """
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(COLUMN_INCHES, 2.6))
        panels = figure.subplots(1, 2, sharey=True)
        figure.subplots_adjust(left=0.125, right=0.99, top=0.925, bottom=0.13, wspace=0.06)
        is_float = float_error_percent(table, LONG)
        for (factor, title), axes in zip(FACTORS.items(), panels, strict=True):
            axes.set_xlabel(title)
            axes.xaxis.set_major_locator(FixedLocator(BIT_WIDTHS))
            axes.set_xlim(BIT_WIDTHS[0] - 0.6, BIT_WIDTHS[-1] + 0.6)
            axes.grid(visible=False, axis="x")
            axes.yaxis.set_major_formatter(PERCENT)
            other = next(name for name in FACTORS if name != factor)
            for epochs, epoch, label, colour, marker in SERIES:
                cells = whole_cells(table, epochs)
                last = cells[cells["epoch"].eq(epoch)]
                if last.empty:
                    continue
                # The 7 dots of one seed side by side, 0.06 apart.
                axes.plot(
                    last[factor] + (last[other] - 5) * 0.06,
                    last["test_percent"],
                    linestyle="",
                    marker=".",
                    color=colour,
                    markersize=2.2,
                    markeredgewidth=0,
                    alpha=0.4,
                )
                found = means_with_intervals(last, factor)
                axes.errorbar(
                    found.index,
                    found["mean"],
                    found["half"],
                    color=colour,
                    marker=marker,
                    markersize=3,
                    linewidth=0.9,
                    linestyle="-" if epochs == epoch else DASHES,
                    elinewidth=0.7,
                    capsize=1.8,
                    capthick=0.7,
                    label=label,
                    zorder=3,
                )
            if len(is_float):
                axes.axhline(is_float.iloc[-1], color="0", linewidth=0.8, linestyle=DOTS, label=f"float, {LONG} epochs")
        panels[0].set_title("(a) Test error by weight bits")
        panels[1].set_title("(b) by activation bits")
        panels[0].tick_params(axis="y", length=0)
        panels[1].tick_params(axis="y", length=0)
        panels[1].spines["left"].set_visible(False)
        # Errors fall with the weight bits: this corner is free.
        handles, labels = panels[0].get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda k: labels[k].startswith("float"))  # the lowest line comes last
        panels[0].legend(
            [handles[k] for k in order],
            [labels[k] for k in order],
            loc="upper right",
            fontsize=6,
            handlelength=2.4,
            borderaxespad=0.2,
        )
    return figure


def error_map(table: pd.DataFrame, epochs: int = 100) -> Figure:
    """Test error of all 49 cells after their last epoch, mean over the seeds, with the means of rows and columns."""
    percent = final_error_percent(table, epochs)
    least, most = percent.min(axis=None), percent.max(axis=None)
    ends = len(BIT_WIDTHS) + 0.25  # the means stand a quarter of a cell apart
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(COLUMN_INCHES, 3.1))
        axes = figure.subplots()
        figure.subplots_adjust(left=0.1, right=0.99, top=0.925, bottom=0.11)
        cells = [*enumerate(BIT_WIDTHS)]
        squares: list[tuple[float, float, float]] = [
            *((column, row, percent.loc[a, w]) for row, a in cells for column, w in cells),
            *((ends, row, percent.loc[a].mean()) for row, a in cells),
            *((column, ends, percent[w].mean()) for column, w in cells),
        ]
        for column, row, value in squares:
            colour = error_colour(value, least, most)
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="1", linewidth=0.8))
            axes.text(
                column + 0.5,
                row + 0.48,
                f"{value:.2f}",
                ha="center",
                va="center",
                fontsize=6,
                color=readable_on(colour),
                fontstyle="italic" if ends in (column, row) else "normal",
            )
        middles = [k + 0.5 for k in (*range(len(BIT_WIDTHS)), ends)]
        axes.set_xlim(0, ends + 1)
        axes.set_ylim(0, ends + 1)
        axes.set_xticks(middles, [*map(str, BIT_WIDTHS), "mean"])
        axes.set_yticks(middles, [*map(str, BIT_WIDTHS), "mean"], rotation=90, va="center")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("weight bits")
        axes.set_ylabel("activation bits")
        axes.set_title("Test error in %")
    return figure


def draw(figure: Figure, name: str) -> Drawing:
    """Render a figure: the same bytes for the same numbers (`name` keeps ids of several figures in a page apart)."""
    svg, png = io.BytesIO(), io.BytesIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        figure.savefig(png, format="png", dpi=300, metadata={"Software": None})
    return Drawing(svg=svg.getvalue(), png=png.getvalue())
