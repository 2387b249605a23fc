"""Result rows as the table that a person reads at the end of a session."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import StringIO

import pandas as pd
from rich.console import Console
from rich.table import Table

from qnn.cell import Quantization, Thresholds
from qnn.results import OWN_HOP, Evidence, Metric, Row, Status

__all__ = ["own_table", "summary"]

_NOT_KNOWN = "-"
_LEAST_WIDTH = 160
"""Columns that the tables need; a narrower terminal wraps their lines rather than losing figures."""
_EXACT = f"-{Thresholds.EXACT}"
"""End of the folding of a design with exact thresholds."""
_LAYERED = 2
"""Designs that are shown layer by layer, at most: of more, the rows and the report page have the layers."""


def _frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One line a cell and folding; the metrics of all its tests beside each other, later tests winning."""
    merged: dict[tuple[str, str], dict[str, Metric]] = {}
    found: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        if row.cell is None or "-" not in row.cell or row.hop.startswith(OWN_HOP):
            continue
        trained, _, folding = row.cell.partition("-PE")
        key = (trained, f"PE{folding}" if folding else "")
        merged.setdefault(key, {}).update(row.metrics)
        if row.evidence and row.status is Status.PASSED:
            found.setdefault(key, {})[str(row.evidence)] = None
    for key, line in merged.items():
        evidence = found.get(key, {})
        line["evidence"] = ", ".join(name for name in evidence if name != Evidence.PYTHON or len(evidence) == 1)
    index = pd.MultiIndex.from_tuples(merged, names=["trained", "folding"])
    return pd.DataFrame(list(merged.values()), index=index, dtype=object)


def _known(lines: pd.DataFrame) -> dict[str, Metric]:
    """Every metric of a trained cell, from the last of its lines that has it."""
    return {name: value for _, line in lines.iterrows() for name, value in line.dropna().items()}


def _number(value: object, form: str = ",.0f") -> str:
    return _NOT_KNOWN if value is None or pd.isna(value) else format(value, form)


def _heading(trained: str, known: Mapping[str, Metric]) -> str:
    network, dataset, quantization = trained.split("-")
    parts = [f"[bold]{quantization}[/bold] {network} {dataset.replace('_', '-')}"]
    for label, name in (("Brevitas", "brevitas_top1_percent"), ("exact integers", "golden_top1_percent")):
        if name in known:
            parts.append(f"{label} {_number(known[name], '.2f')} %")
    return "   ".join(parts)


def _float32(known: Mapping[str, Metric]) -> str | None:
    """How far float32 shows: what Brevitas, QONNX and FINN have on the other side of a boundary, each case proved."""
    parts = []
    if "brevitas_codes_off" in known:
        changed = known.get("images_with_other_top1")
        effect = "" if changed is None else f", which change the top-1 of {changed:,} images"
        parts.append(f"{known['brevitas_codes_off']:,} of {known['codes_compared']:,} Brevitas codes{effect}")
    if "qonnx_codes_off" in known:
        parts.append(f"{known['qonnx_codes_off']:,} QONNX codes")
    if "thresholds_off" in known:
        parts.append(
            f"{known['thresholds_off']:,} of {known['thresholds']:,} FINN thresholds, which change "
            f"{known['finn_images_with_other_accumulators']:,} images and the top-1 of "
            f"{known['finn_images_with_other_top1']:,}"
        )
    return f"off by float32 alone: {'; '.join(parts)}" if parts else None


def _replaced(metrics: Mapping[str, Metric]) -> str | None:
    """What exact thresholds in place of FINN's changed."""
    if "thresholds_replaced" not in metrics:
        return None
    return (
        f"{metrics['thresholds_replaced']:,} of FINN's thresholds replaced by exact ones, which changed "
        f"{metrics['images_with_other_accumulators_before']:,} images and the top-1 of "
        f"{metrics['images_with_other_top1_before']:,}; now {metrics['thresholds_off']:,} thresholds and "
        f"{metrics['finn_images_with_other_accumulators']:,} images differ from the exact integers"
    )


Cells = Mapping[Quantization, Mapping[str, Metric]]
"""What is known of the cells of one network and data set."""


def _several(known: Mapping[str, Mapping[str, Metric]]) -> dict[str, Cells]:
    """The quantised cells of every network and data set of which more than one was judged as trained."""
    grouped: dict[str, dict[Quantization, Mapping[str, Metric]]] = {}
    for trained, metrics in known.items():
        name, _, cell = trained.rpartition("-")
        quantization = Quantization.parse(cell)
        if metrics.keys() & {"brevitas_top1_percent", "brevitas_codes_off"} and not quantization.is_float:
            grouped.setdefault(name, {})[quantization] = metrics
    return {name: cells for name, cells in grouped.items() if len(cells) > 1}


def _is_below_floor(metrics: Mapping[str, Metric]) -> bool:
    floor, *reached = (metrics.get(f"{name}_percent") for name in ("floor", "brevitas_top1", "golden_top1"))
    return floor is not None and any(top1 is not None and float(top1) < float(floor) for top1 in reached)


def _grid(name: str, cells: Cells) -> Iterator[str | Table]:
    """Top-1, or else how many codes are off: a row for each activation bit width, a column for each of the weights."""
    network, dataset = name.split("-")
    shown, form, title = "brevitas_top1_percent", ".2f", "top-1 in %"
    if not any(shown in metrics for metrics in cells.values()):
        shown, form, title = "brevitas_codes_off", ",.0f", "Brevitas codes off by float32 alone"
    yield f"[bold]{network} {dataset.replace('_', '-')}[/]   {title}"
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("", style="dim")
    columns = sorted({cell.weight_bits or 0 for cell in cells})
    for weight_bits in columns:
        table.add_column(f"W{weight_bits}", justify="right", no_wrap=True)
    for activation_bits in sorted({cell.activation_bits or 0 for cell in cells}):
        row = [Quantization(activation_bits=activation_bits, weight_bits=weight_bits) for weight_bits in columns]
        found = [cells.get(cell, {}) for cell in row]
        styles = ["red" if _is_below_floor(metrics) else "none" for metrics in found]
        entries = [_number(metrics.get(shown), form) for metrics in found]
        table.add_row(f"A{activation_bits}", *(f"[{s}]{e}[/]" for s, e in zip(styles, entries, strict=True)))
    yield table


def _notes(cells: Cells) -> Iterator[str]:
    """What holds of all cells together."""
    frame = pd.DataFrame(list(cells.values()), index=[str(cell) for cell in cells])
    if "brevitas_top1_percent" in frame:
        top1 = frame["brevitas_top1_percent"].astype(float)
        note = f"best {top1.max():.2f} %: {', '.join(top1.index[top1 == top1.max()])}"
        if "paper_best_top1_percent" in frame and frame["paper_best_top1_percent"].notna().any():
            note += f"; the paper's best {frame['paper_best_top1_percent'].max():.0f} %"
        yield note
    if low := [str(cell) for cell, metrics in cells.items() if _is_below_floor(metrics)]:
        yield f"[red]below the floor: {', '.join(low)}[/]"
    if "brevitas_codes_off" in frame:
        off, codes, boundary, images = (
            int(frame[name].sum())
            for name in ("brevitas_codes_off", "codes_compared", "images_with_boundary_codes", "images_compared")
        )
        note = f"off by float32 alone: {off:,} of {codes:,} Brevitas codes, in {boundary:,} of {images:,} images"
        if "images_with_other_top1" in frame:
            note += f"; {int(frame['images_with_other_top1'].sum()):,} are classified otherwise than by exact integers"
        yield note


def _share(line: Mapping[str, Metric], name: str, form: str = ",.0f") -> str:
    share = line.get(f"{name}_percent")
    return _NOT_KNOWN if share is None or pd.isna(share) else f"{_number(line.get(name), form)} ({_number(share)} %)"


def _top1(line: Mapping[str, Metric]) -> str:
    """Both on the images that the RTL was simulated with."""
    rtl, brevitas = line.get("rtl_top1_percent"), line.get("brevitas_top1_of_these_percent")
    return _NOT_KNOWN if rtl is None else f"{_number(rtl, '.2f')} ({_number(brevitas, '.2f')})"


def _path(line: Mapping[str, Metric]) -> str:
    """The longest path of the netlist, cells alone."""
    share = line.get("share_of_period_percent")
    return _NOT_KNOWN if share is None else f"{_number(line.get('longest_path_ns'), '.2f')} ns ({_number(share)} %)"


def _evidence(line: Mapping[str, Metric]) -> str:
    """What the figures rest on, with the number of images that the netlist was simulated with."""
    evidence = str(line.get("evidence") or _NOT_KNOWN)
    images = line.get("netlist_images")
    return evidence if images is None else evidence.replace(Evidence.NETLIST, f"{Evidence.NETLIST} ({images:,})")


def _fits(line: Mapping[str, Metric]) -> str:
    """Beside FINN's shell; alone: only with the whole part for itself."""
    alone, beside = line.get("fits"), line.get("fits_beside_shell")
    if alone is None:
        return _NOT_KNOWN
    return "[red]no[/]" if not alone else "[yellow]alone[/]" if beside is False else "[green]yes[/]"


def _left(line: Mapping[str, Metric]) -> str:
    """Of the resource that is tightest, beside FINN's shell."""
    share = line.get("tightest_left_percent")
    return _NOT_KNOWN if share is None else f"{_number(share)} % {line.get('tightest_resource')}"


def _hls(line: Mapping[str, Metric]) -> str:
    """FINN's estimate of the HLS variant without the input's quantiser, red where it would not fit."""
    fits = line.get("finn_hls_estimate_fits_beside_shell", line.get("finn_hls_estimate_fits"))
    return f"[{'red' if fits is False else 'none'}]{_number(line.get('finn_hls_estimate_without_input_lut'))}[/]"


def _equal(line: Mapping[str, Metric]) -> str:
    equal, total = line.get("images_equal"), line.get("images")
    return _NOT_KNOWN if total is None else f"[{'green' if equal == total else 'red'}]{equal:,}/{total:,}[/]"


def _images_per_s(line: Mapping[str, Metric]) -> str:
    return _number(line.get("throughput_images_per_s")) + ("*" if line.get("extrapolated") else "")


Columns = Mapping[str, Callable[[Mapping[str, Metric]], str]]
"""What is made of a folding's figures, by the column's name."""

_SIMULATED: Columns = {
    "equal": _equal,
    "top-1 (Brevitas)": _top1,
    "II cycles": lambda line: _number(line.get("initiation_interval_cycles")),
    "latency": lambda line: _number(line.get("latency_cycles")),
    "images/s": _images_per_s,
    "paper": lambda line: _number(line.get("paper_images_per_s")),
    "ratio": lambda line: _number(line.get("ratio_to_paper"), ".4f"),
    "evidence": _evidence,
}
_SYNTHESISED: Columns = {
    "LUT": lambda line: _share(line, "lut"),
    "FF": lambda line: _share(line, "ff"),
    "BRAM36": lambda line: _share(line, "bram36", ",.1f"),
    "DSP": lambda line: _share(line, "dsp"),
    "fits": _fits,
    "left": _left,
    "HLS: LUT": _hls,
    "cells' path": _path,
}


def _tables(foldings: pd.DataFrame) -> Iterator[Table]:
    """A line for each folding: what it does, and what it takes where that is known."""
    lines = {
        str(folding): {str(name): None if pd.isna(value) else value for name, value in values.items()}
        for folding, values in foldings.iterrows()
    }
    known = {name for line in lines.values() for name, value in line.items() if value is not None}
    synthesised = known & {"lut", "fits", "longest_path_ns"}
    for columns in (_SIMULATED, _SYNTHESISED) if synthesised else (_SIMULATED,):
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("folding", no_wrap=True)
        for name in columns:
            table.add_column(name, justify="left" if name in ("fits", "evidence") else "right", no_wrap=True)
        for folding, line in lines.items():
            table.add_row(folding, *(column(line) for column in columns.values()))
        yield table


_LAYER_COLUMNS = {
    "LUT": "lut",
    "as memory": "lut_memory",
    "FF": "ff",
    "BRAM18": "bram18",
    "BRAM36": "bram36_blocks",
    "DSP": "dsp",
    "FINN: LUT": "finn_estimate_lut",
    "BRAM18 ": "finn_estimate_bram18",
    "DSP ": "finn_estimate_dsp",
    "FINN, HLS: LUT": "finn_hls_estimate_lut",
    "BRAM18  ": "finn_hls_estimate_bram18",
}


def _folding_of(layer: Mapping[str, Metric]) -> str:
    pe, simd, asked = layer["pe"], layer["simd"], layer["asked"]
    if pe is None:
        return ""
    applied = f"PE{pe}" if simd is None else f"PE{pe}-SIMD{simd}"
    return applied if asked in (None, applied) else f"{applied} (asked {asked})"


def _layer_table(row: Row) -> Table:
    """What each node takes after synthesis, the FIFOs in one line, with FINN's estimate beside it."""
    frame = pd.DataFrame(row.layers)
    frame["folding"] = [_folding_of(layer) for layer in row.layers]
    fifos = frame["name"].str.startswith("StreamingFIFO")
    table = Table(box=None, pad_edge=False, header_style="dim", title_justify="left", title_style="dim")
    folding = (row.cell or "").partition("-PE")[2]
    table.title = f"PE{folding}, layer by layer (synthesis | FINN's estimate of it, and of its HLS variant)"
    table.add_column("node")
    table.add_column("folding")
    for column in _LAYER_COLUMNS:
        table.add_column(column.strip(), justify="right")
    columns = list(_LAYER_COLUMNS.values())

    def add(name: str, folding: str, figures: pd.Series) -> None:
        table.add_row(name, folding, *(_number(figures[column]) for column in columns))

    for _, layer in frame[~fifos].iterrows():
        add(layer["name"], layer["folding"], layer[columns])
    add(f"{fifos.sum()} FIFOs", "", frame.loc[fifos, columns].sum(min_count=1))
    add("total", "", frame[columns].sum(min_count=1))
    return table


_OWN_FIGURES: Mapping[str, tuple[str, str]] = {
    "images_equal": ("equal images", ",.0f"),
    "images": ("images", ",.0f"),
    "codes_off_by_float32": ("codes off by float32", ",.0f"),
    "codes_off_by_ties": ("by ties", ",.0f"),
    "qonnx_top1_percent": ("top-1 %", ".2f"),
    "rtl_top1_percent": ("top-1 %", ".2f"),
    "nodes": ("nodes", ",.0f"),
    "lut": ("LUT", ",.0f"),
    "ff": ("FF", ",.0f"),
    "bram36": ("BRAM36", ",.1f"),
    "dsp": ("DSP", ",.0f"),
    "tightest_left_percent": ("% left of the tightest", ".0f"),
    "initiation_interval_cycles": ("II cycles", ",.0f"),
    "latency_cycles": ("latency cycles", ",.0f"),
    "throughput_images_per_s": ("images/s", ",.0f"),
}
_OWN_ESTIMATES: Mapping[str, tuple[str, str]] = {
    "finn_hls_estimate_lut": ("LUT", ",.0f"),
    "finn_hls_estimate_without_input_lut": ("without Thresholding nodes", ",.0f"),
    "finn_hls_estimate_bram18": ("BRAM18", ",.0f"),
    "finn_hls_estimate_dsp": ("DSP", ",.0f"),
    "finn_estimate_interval_cycles": ("II cycles", ",.0f"),
    "finn_estimate_images_per_s": ("images/s", ",.0f"),
}
_VERDICTS = {"equal": "green", "differs": "red", "not run": "yellow"}
_VERDICT_OF = {Status.PASSED: "equal", Status.SKIPPED: "not run", Status.XFAILED: "not run"}


def own_table(lines: Iterable[tuple[str, str, Evidence | None, Mapping[str, Metric]]]) -> Table:
    """A model from outside: a line for each (hop, verdict, evidence, figures)."""
    table = Table("hop", "verdict", "evidence", "figures", box=None, pad_edge=False, header_style="dim")
    for hop, verdict, evidence, figures in lines:
        told = _OWN_ESTIMATES if evidence is Evidence.ESTIMATE else _OWN_FIGURES
        known = {name: figures[name] for name in told if figures.get(name) is not None}
        shown = [f"{told[name][0]} {_number(value, told[name][1])}" for name, value in known.items()]
        if "images" in known and "images_equal" in known:
            shown = [f"equal in {_number(known['images_equal'])} of {_number(known['images'])} images", *shown[2:]]
        style = _VERDICTS.get(verdict, "none")
        table.add_row(hop, f"[{style}]{verdict}[/]", evidence or _NOT_KNOWN, ", ".join(shown))
    return table


def _own_tables(rows: Sequence[Row]) -> Iterator[str | Table]:
    """Each model from outside with its folding, hop by hop."""
    own = [row for row in rows if row.hop.startswith(OWN_HOP)]
    for cell in dict.fromkeys(row.cell for row in own):
        yield f"[bold]{cell}[/]"
        yield own_table(
            (row.hop.removeprefix(OWN_HOP), _VERDICT_OF.get(row.status, "differs"), row.evidence, row.metrics)
            for row in own
            if row.cell == cell
        )
        yield ""


def summary(rows: Iterable[Row], *, width: int, color: bool) -> str:
    """The session's results as text: a heading per trained cell, a line per folding, then what was not obtained."""
    rows = list(rows)
    console = Console(
        file=StringIO(),
        width=max(width, _LEAST_WIDTH),
        force_terminal=color,
        color_system="standard" if color else None,
    )
    for part in _own_tables(rows):
        console.print(part, highlight=False)
    frame = _frame(rows)
    names, exact = (frame.index.get_level_values(level) for level in ("trained", "folding"))
    exact = exact.str.endswith(_EXACT)
    known = {str(trained): _known(frame[(names == trained) & ~exact]) for trained in dict.fromkeys(names)}
    several = _several(known)
    for name, cells in several.items():
        console.print(*_grid(name, cells), *_notes(cells), "", sep="\n", highlight=False)
    for trained, metrics in known.items():
        lines = frame.loc[trained]
        foldings = lines[lines.index != ""]
        if trained.rpartition("-")[0] in several and not len(foldings) and "qonnx_codes_off" not in metrics:
            continue  # the grid says it all
        console.print(_heading(trained, metrics), highlight=False)
        if float32 := _float32(metrics):
            console.print(float32, highlight=False)
        for folding in [name for name in foldings.index if name.endswith(_EXACT)]:
            if replaced := _replaced(foldings.loc[folding].dropna()):
                console.print(f"{folding}: {replaced}", highlight=False)
        if len(foldings):
            console.print(*_tables(foldings), highlight=False, sep="")
        layered = [row for row in rows if row.hop == "resources" and row.layers]
        if len(layered) <= _LAYERED:
            for row in layered:
                if str(row.cell).startswith(f"{trained}-"):
                    console.print(_layer_table(row), highlight=False)
        console.print()
    if "extrapolated" in frame and frame["extrapolated"].eq(True).any():
        console.print(
            "* a batch of 10,000: the first images as simulated in one stream, continued by measured intervals",
            highlight=False,
        )
    if "fits" in frame and frame["fits"].notna().any():
        parts = ", ".join(str(part) for part in frame["part"].dropna().unique()) if "part" in frame else ""
        console.print(
            f"fits, left: FINN's RTL, which multiplies in DSP slices, on {parts} beside FINN's shell "
            "(alone: only without it); HLS: FINN's estimate of the variant that multiplies in LUTs, as the study's "
            "did, without the input's quantiser",
            highlight=False,
        )
    for status, style in (
        (Status.SKIPPED, "yellow"),
        (Status.XFAILED, "yellow"),
        (Status.FAILED, "red"),
        (Status.ERROR, "red"),
    ):
        reasons: dict[str, int] = {}
        for row in rows:
            if row.status is status:
                text = f"{row.hop}: {(row.reason or 'no reason given').splitlines()[0]}"
                reasons[text] = reasons.get(text, 0) + 1
        for text, count in reasons.items():
            console.print(f"[{style}]{status}[/] {text}" + (f" ({count} tests)" if count > 1 else ""), highlight=False)
    return str(console.file.getvalue()).rstrip()  # type: ignore[attr-defined]
