"""The report: figures and tables of the accuracy and hardware studies in one HTML page that opens without a network.

The page depends on the tables of histories and the rows of results alone (and on the versions that drew it), so that
the same ones give the same bytes. The figures lie beside it as SVG and PNG.
"""

import hashlib
import html
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from qnn import claims, figures, hardware, hardware_page, histories, markup
from qnn.cell import BIT_WIDTHS, DATASETS, INPUT_BITS
from qnn.errors import HistoryError
from qnn.files import write_atomically
from qnn.histories import LONG, SHORT
from qnn.markup import TITLES, missing

__all__ = ["INDEX", "TITLES", "write_report"]

INDEX = "index.html"
CELLS = len(BIT_WIDTHS) ** 2

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 76rem; margin: 2rem auto;
       padding: 0 1rem; }
h1, h2, h3 { line-height: 1.25; }
h2 { margin-top: 2.5rem; border-top: 1px solid #ddd; padding-top: 1rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); gap: 1.5rem 2.5rem; }
figure { margin: 0; }
figure svg { width: 100%; height: auto; display: block; }
figcaption, .note, footer { font-size: 0.875rem; color: #444; }
.missing { padding: 1rem; border: 1px dashed #999; color: #444; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
th { font-weight: 600; text-align: left; padding: 0.25rem 0.6rem; }
td { padding: 0.25rem 0.6rem; }
.cells { text-align: center; }
.cells td, .cells th { text-align: center; border: 2px solid #fff; padding: 0.2rem 0.5rem; }
.cells small { display: block; opacity: 0.85; }
.plain td, .plain th { border-bottom: 1px solid #ddd; }
.wide td { white-space: nowrap; }
@media print { h2 { break-after: avoid; } figure, table { break-inside: avoid; } }
"""


def _list(values: Iterable[object]) -> str:
    """``1``, ``1 and 2``, ``1, 2 and 3``."""
    *first, last = map(str, values)
    return f"{', '.join(first)} and {last}" if first else last


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {_list(seeds)}"


def _of_seeds(seeds: Sequence[int]) -> str:
    return ("mean over " if len(seeds) > 1 else "") + _seeds(seeds)


def _whole_seeds(table: pd.DataFrame, epochs: int) -> list[int]:
    return [seed for seed, count in figures.cells_of_seeds(table, epochs).items() if count == CELLS]


def _float_seeds(table: pd.DataFrame, epochs: int) -> list[int]:
    return sorted({int(seed) for seed in table.query("epochs == @epochs and cell == 'float'")["seed"]})


def _schedule(epochs: int) -> str:
    rate, decay = histories.STUDY["learning_rate"], histories.STUDY["decay"]
    milestones = _list(histories.SCHEDULES[epochs])
    return f"{epochs} epochs, learning rate {rate:g}, multiplied by {decay:g} after epochs {milestones}"


def _gaps(table: pd.DataFrame) -> list[str]:
    """What the table lacks, a sentence each."""
    sentences = []
    for epochs in (LONG, SHORT):
        seeds = figures.cells_of_seeds(table, epochs)
        if not seeds:
            sentences.append(f"The table has no trainings of {epochs} epochs.")
        for seed, count in seeds.items():
            if count < CELLS:
                sentences.append(f"Of seed {seed}, {epochs} epochs, {count} of {CELLS} cells are there: left out.")
    if not _float_seeds(table, LONG):
        sentences.append(f"The float network has not been trained for {LONG} epochs: there is no accuracy drop.")
    return sentences


# --- figures ---------------------------------------------------------------------------------------------------------


def _over_epochs_caption(table: pd.DataFrame) -> str:
    seeds, floats = _whole_seeds(table, LONG), _float_seeds(table, LONG)
    dashed = f" Dashed: the float network, {_seeds(floats)}." if floats else ""
    return (
        f"Test error (10,000 images, logarithmic axis) over the epochs, {_seeds(seeds)}, {_schedule(LONG)}. Each curve "
        f"is the mean over the {len(BIT_WIDTHS)} widths of the other kind and all seeds, "
        f"{len(BIT_WIDTHS) * len(seeds)} networks. Left of the gap: each epoch (thin) and its centred running mean "
        f"over {figures.SMOOTHED_EPOCHS} epochs (thick). Right of the gap, where the learning rate falls: each epoch, "
        f"not smoothed.{dashed}"
    )


def _against_bits_caption(table: pd.DataFrame) -> str:
    parts = []
    for epochs in (LONG, SHORT):
        if seeds := _whole_seeds(table, epochs):
            networks = len(BIT_WIDTHS) * len(seeds)
            parts.append(f"{_schedule(epochs)}: {_seeds(seeds)}, {networks} networks behind each mean")
        else:
            parts.append(f"{epochs} epochs: not in the table, not drawn")
    crosses = (
        f" Crosses: epoch {SHORT} of the {LONG}, at the full learning rate still, which is how the paper's text reads."
        if _whole_seeds(table, LONG)
        else ""
    )
    dotted = f" Dotted: the float network after {LONG} epochs." if _float_seeds(table, LONG) else ""
    return (
        f"Test error after the last epoch against the bit widths ({'; '.join(parts)}). Markers: mean over the widths "
        "of the other kind and all seeds; bars: 95 % interval of that mean (Student's t over the networks, after "
        "taking out what networks of the same seed and other width have in common: Cousineau-Morey). Dots: the "
        f"networks, from left to right by the other width.{crosses}{dotted}"
    )


def _map_caption(table: pd.DataFrame) -> str:
    return (
        f"Test error in per cent of the {CELLS} cells after {LONG} epochs, "
        f"{_of_seeds(_whole_seeds(table, LONG))}, with the means of rows and columns; darker is worse."
    )


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """One kind of figure, drawn for each data set."""

    heading: str
    schedules: tuple[int, ...]
    """Lengths in epochs, of which one has to be there."""
    draw: Callable[[pd.DataFrame], Figure]
    caption: Callable[[pd.DataFrame], str]


KINDS = {
    "error-over-epochs": _Kind(
        heading="Error over the epochs (counterpart of the paper's Figure 5)",
        schedules=(LONG,),
        draw=figures.error_over_epochs,
        caption=_over_epochs_caption,
    ),
    "error-against-bits": _Kind(
        heading="Error against bit widths (counterpart of the paper's Figure 6)",
        schedules=(LONG, SHORT),
        draw=figures.error_against_bits,
        caption=_against_bits_caption,
    ),
    "error-map": _Kind(heading="Error of every cell", schedules=(LONG,), draw=figures.error_map, caption=_map_caption),
}
"""By file name."""


def _figure_section(
    name: str, tables: Mapping[str, pd.DataFrame | None], drawings: Mapping[str, figures.Drawing]
) -> str:
    kind = KINDS[name]
    parts = []
    for dataset, table in tables.items():
        file = f"{dataset}-{name}"
        parts.append(f"<div><h3>{TITLES[dataset]}</h3>")
        if table is None:
            parts.append(missing(f"There is no table of {TITLES[dataset]}'s histories."))
        elif file not in drawings:
            needed = " or ".join(map(str, kind.schedules))
            parts.append(missing(f"The table has no seed with all {CELLS} cells of {needed} epochs."))
        else:
            title, caption = f"{kind.heading}, {TITLES[dataset]}", f"{TITLES[dataset]}. {kind.caption(table)}"
            parts.append(markup.figure(drawings[file].svg, file, title, caption))
        parts.append("</div>")
    return f'<h2>{html.escape(kind.heading)}</h2><div class="pair">{"".join(parts)}</div>'


# --- tables ----------------------------------------------------------------------------------------------------------


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _accuracies(table: pd.DataFrame) -> str:
    """All cells of a data set: accuracy, and below it the difference from the float network."""
    errors = figures.final_error_percent(table, LONG)
    if errors.empty:
        return missing(f"The table has no seed with all {CELLS} cells of {LONG} epochs.")
    floats = figures.float_error_percent(table, LONG)
    least, most = errors.min(axis=None), errors.max(axis=None)

    def square(error: float) -> str:
        colour = figures.error_colour(error, least, most)
        code = "".join(f"{round(255 * part):02x}" for part in colour)
        below = f"<small>{_signed(floats.iloc[-1] - error)}</small>" if len(floats) else ""
        return f'<td style="background:#{code};color:{figures.readable_on(colour)}">{100 - error:.2f}{below}</td>'

    heads = "".join(f"<th>W{bits}</th>" for bits in BIT_WIDTHS)
    rows = [
        f"<tr><th>A{a}</th>{''.join(square(errors.loc[a, w]) for w in BIT_WIDTHS)}{square(errors.loc[a].mean())}</tr>"
        for a in BIT_WIDTHS
    ]
    means = "".join(square(errors[w].mean()) for w in BIT_WIDTHS)
    rows.append(f"<tr><th>mean</th>{means}{square(errors.mean(axis=None))}</tr>")
    return (
        f'<p>{_summary(table, errors)}</p><div class="scroll"><table class="cells"><thead><tr><th></th>{heads}'
        f"<th>mean</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _summary(table: pd.DataFrame, errors: pd.DataFrame) -> str:
    """What the accuracies are of, and the figures that are asked for first."""
    seeds, floats = _whole_seeds(table, LONG), figures.float_error_percent(table, LONG)
    best_activation, best_weight = errors.stack().idxmin()
    sentences = [
        f"Top-1 accuracy in per cent of the 10,000 test images after {LONG} epochs, {_of_seeds(seeds)}.",
        f"Highest: A{best_activation}W{best_weight}, {100 - errors.min(axis=None):.2f} %; "
        f"A3W3: {100 - errors.loc[3, 3]:.2f} %; A2W2: {100 - errors.loc[2, 2]:.2f} %.",
    ]
    if len(floats):
        sentences.append(
            f"Float network: {100 - floats.iloc[-1]:.2f} % ({_seeds(_float_seeds(table, LONG))}); below each accuracy "
            "its difference from that, in percentage points."
        )
    if len(seeds) > 1:
        cells = figures.whole_cells(table, LONG).query("epoch == @LONG", local_dict={"LONG": LONG})
        spread = cells.groupby("cell")["test_percent"].var().mean() ** 0.5
        sentences.append(
            f"Standard deviation of one cell from seed to seed: {spread:.2f} percentage points (pooled over the cells)."
        )
    return " ".join(sentences)


def _input_bits(table: pd.DataFrame) -> str:
    """Cells that were trained with several widths of the first quantiser."""
    last = table[table["epoch"].eq(table["epochs"]) & table["epochs"].eq(LONG) & table["input_bits"].notna()]
    others = last.loc[last["input_bits"].ne(INPUT_BITS), "cell"].unique()
    if not len(others):
        return missing(f"The table has only trainings with {INPUT_BITS} input bits.")
    rows = [
        f"<tr><td>{cell}</td><td>{bits}</td><td>{100 - 100 * group['test_error'].mean():.2f}</td>"
        f"<td>{_list(sorted(group['seed']))}</td></tr>"
        for (cell, bits), group in last[last["cell"].isin(others)].groupby(["cell", "input_bits"])
    ]
    return (
        '<table class="plain"><thead><tr><th>cell</th><th>input bits</th><th>accuracy, %</th><th>seeds</th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _pair(tables: Mapping[str, pd.DataFrame | None], draw: Callable[[pd.DataFrame], str]) -> str:
    parts = [
        f"<div><h3>{TITLES[dataset]}</h3>"
        + (missing(f"There is no table of {TITLES[dataset]}'s histories.") if table is None else draw(table))
        + "</div>"
        for dataset, table in tables.items()
    ]
    return f'<div class="pair">{"".join(parts)}</div>'


def _results_digest(results: Path | None) -> str:
    """The files of rows that were read, with one checksum of all."""
    files = sorted(results.glob("*.jsonl")) if results else []
    if not files:
        return ""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    span = files[0].name if len(files) == 1 else f"{files[0].name} to {files[-1].name}, {len(files)} files"
    return f"<li>rows of results: {html.escape(span)}, SHA-256 in this order <code>{digest}</code></li>"


def _provenance(tables: Mapping[str, pd.DataFrame | None], folder: Path, results: Path | None) -> str:
    """Which trainings, when and with what, which tables and rows, and what drew the page."""
    columns = ["networks", "epochs", "seed", "input bits", "trained (last of them)", "torch", "Brevitas", "Python"]
    heads = "".join(f"<th>{column}</th>" for column in ("data set", *columns))
    rows, digests = [], []
    for dataset in [name for name, table in tables.items() if table is not None]:
        trainings = histories.read_trainings(dataset, folder)
        alike = ["epochs", "seed", "input_bits", "torch", "brevitas", "python"]
        for (epochs, seed, bits, torch, brevitas, python), group in trainings.groupby(alike, dropna=False, sort=False):
            names = ", ".join(group["cell"]) if len(group) <= 3 else f"{len(group)} cells"
            fields = [names, epochs, seed, "none" if pd.isna(bits) else bits, group["trained_at"].max()]
            cells = [TITLES[dataset], *fields, torch, brevitas, python]
            rows.append(f"<tr>{''.join(f'<td>{html.escape(str(field))}</td>' for field in cells)}</tr>")
        path = histories.table_path(dataset, folder)
        digests.append(
            f"<li>{path.name}: complete up to {trainings['trained_at'].max()}, SHA-256 "
            f"<code>{hashlib.sha256(path.read_bytes()).hexdigest()}</code></li>"
        )
    digests.append(_results_digest(results))
    drawn = ", ".join([f"Python {platform.python_version()}", *(f"{n} {version(n)}" for n in ("matplotlib", "pandas"))])
    return (
        f'<h2>Provenance</h2><div class="scroll"><table class="plain"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div><p>Tables:</p><ul>{''.join(digests)}</ul>"
        f"<footer>Drawn with {drawn}.</footer>"
    )


# --- the study's claims -----------------------------------------------------------------------------------------------


def _claim_row(name: str, dataset: str, table: pd.DataFrame) -> str:
    function, _ = claims.CLAIMS[name]
    try:
        claim = function(table, dataset)
    except HistoryError:
        return (
            f'<tr><td>{TITLES[dataset]}</td><td>{name}</td><td colspan="4">not judged: the table lacks trainings; '
            "<code>pytest benchmarks/test_claims.py</code> names them</td></tr>"
        )
    side = "above" if claim.claims_more else "below"
    return (
        f"<tr><td>{TITLES[dataset]}</td><td>\u201c{html.escape(claim.sentence)}\u201d</td>"
        f"<td>{html.escape(claim.statistic)}</td>"
        f"<td>{claim.estimate_points:.2f} [{claim.low_points:.2f}, {claim.high_points:.2f}]</td>"
        f"<td>{side} {claim.threshold_points:g}</td><td><b>{claim.verdict}</b></td></tr>"
    )


def _claims(tables: Mapping[str, pd.DataFrame | None]) -> str:
    rows = [
        _claim_row(name, dataset, table)
        for dataset, table in tables.items()
        if table is not None
        for name, (_, datasets) in claims.CLAIMS.items()
        if dataset in datasets
    ]
    return (
        "<h2>The study's claims on accuracy</h2><p>Each claim as a statistic in percentage points of test error, with "
        "its 95 % interval over seeds, and what is claimed. The verdict is <i>borne out</i> or <i>refuted</i> where "
        "the whole interval lies on one side, else <i>undecided</i>; <code>qnn/claims.py</code> says how.</p>"
        '<div class="scroll"><table class="plain"><thead><tr><th>data set</th><th>claim</th><th>statistic</th>'
        "<th>points</th><th>claimed</th><th>verdict</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


# --- the page --------------------------------------------------------------------------------------------------------


def _page(
    tables: Mapping[str, pd.DataFrame | None],
    drawings: Mapping[str, figures.Drawing],
    folder: Path,
    of_hardware: str,
    results: Path | None,
) -> str:
    study = histories.STUDY
    notes = "".join(
        f"<li>{TITLES[dataset]}: {html.escape(sentence)}</li>"
        for dataset, table in tables.items()
        for sentence in (["There is no table of its histories."] if table is None else _gaps(table))
    )
    return "".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            # Nothing is to be fetched from anywhere: said to the browser too.
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{CELLS} quantised networks: accuracy and hardware</title><style>{STYLE}</style></head><body>",
            f"<h1>{CELLS} quantised networks: accuracy and hardware</h1>",
            "<p>A multilayer perceptron (1024, 64, 64, 64, 10) with activations and weights of "
            f"{BIT_WIDTHS[0]} to {BIT_WIDTHS[-1]} bits each and inputs of {INPUT_BITS} bits, trained as in "
            "Table I of “Benchmarking Quantized Neural Networks on FPGAs with FINN” (Ducasse, Cotret, Lagadec, "
            f"Stewart; DATE Friday Workshop 2021): Adam, batches of {study['batch_size']}, all 60,000 training "
            "images; the last epoch is the result. A3W2 has 3-bit activations and 2-bit weights.</p>",
            f'<ul class="note">{notes}</ul>' if notes else "",
            *(_figure_section(name, tables, drawings) for name in KINDS),
            f"<h2>Accuracy of every cell</h2>{_pair(tables, _accuracies)}",
            f"<h2>Accuracy and input bits</h2>{_pair(tables, _input_bits)}",
            _claims(tables),
            of_hardware,
            _provenance(tables, folder, results),
            "</body></html>\n",
        ]
    )


def write_report(folder: Path, *, tables: Path = histories.FOLDER, results: Path | None = None) -> Path:
    """Draw all figures from the histories in `tables` and the rows in `results`; write them and the page into `folder`.

    Gives the page's path; it is written last, so that what it links to is there. What a table lacks is said on the
    page, and so is a folder of results that is not there.

    Raises HistoryError where there is no table at all or one is damaged, QnnError where a line of the results is no
    row, OSError where `folder` cannot be written.
    """
    read = {
        name: histories.read(name, tables) if histories.table_path(name, tables).exists() else None for name in DATASETS
    }
    if not any(table is not None for table in read.values()):
        raise HistoryError(f"there is no table of histories in {tables}: {histories.REMEDY}")
    drawings = {
        f"{dataset}-{name}": figures.draw(kind.draw(table), f"{dataset}-{name}")
        for dataset, table in read.items()
        if table is not None
        for name, kind in KINDS.items()
        if any(_whole_seeds(table, epochs) for epochs in kind.schedules)
    }
    of_hardware = hardware_page.section(hardware.read_folder(results) if results else [])
    drawings.update(of_hardware.drawings)
    page = _page(read, drawings, tables, of_hardware.html, results)
    for name, drawing in drawings.items():
        write_atomically(folder / f"{name}.svg", drawing.svg)
        write_atomically(folder / f"{name}.png", drawing.png)
    write_atomically(folder / INDEX, page.encode())
    return folder / INDEX
