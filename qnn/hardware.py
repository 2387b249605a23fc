"""The hardware study's tables, made of rows of results: designs, their nodes, what was concluded, what is not there.

Every function is a pure one of the rows. What no row says is NaN (numbers) or None (all else), never 0.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from qnn import compromise, reference
from qnn.cell import DATASETS, PART, Cell, Folding, Policy, Quantization, Thresholds, dataset_name
from qnn.errors import CellError
from qnn.resources import BUDGETED
from qnn.results import Evidence, Metric, Row, Status, read_rows

__all__ = [
    "BATCH_IMAGES",
    "NUMBERS",
    "OTHERS",
    "claims_on",
    "designs",
    "evidence",
    "front",
    "nodes",
    "not_passed",
    "parse_cell",
    "read_folder",
]

BATCH_IMAGES = 10_000
"""The whole test set."""

NUMBERS = (
    "images",
    "images_equal",
    "rtl_top1_percent",
    "brevitas_top1_of_these_percent",
    "brevitas_top1_percent",
    "hardware_top1_percent",
    "float_top1_percent",
    "accuracy_drop_points",
    "bit_operations",
    "weight_bits_total",
    "modelled_energy_nj",
    "throughput_images_per_s",
    "expected_images_per_s",
    "latency_us",
    "latency_cycles",
    "initiation_interval_cycles",
    "expected_interval_cycles",
    "unbounded_interval_cycles",
    "sized_interval_cycles",
    "fifos_that_fill_up",
    "dram_in_megabytes_per_s",
    "paper_images_per_s",
    "paper_dram_in_megabytes_per_s",
    "ratio_to_paper",
    "with_fitted_overhead_images_per_s",
    "with_fitted_overhead_ratio_to_paper",
    "images_per_s_per_lut",
    "images_per_s_per_dsp",
    "lut",
    "lut_memory",
    "ff",
    "bram18",
    "bram36_blocks",
    "bram36",
    "dsp",
    "tightest_left_percent",
    "finn_estimate_lut",
    "finn_estimate_bram18",
    "finn_estimate_dsp",
    "finn_hls_estimate_lut",
    "finn_hls_estimate_without_input_lut",
    "finn_hls_estimate_bram18",
    "longest_path_ns",
    "share_of_period_percent",
    "netlist_images",
    "netlist_images_equal",
    "thresholds",
    "thresholds_off",
    "finn_images_with_other_accumulators",
    "finn_images_with_other_top1",
    "simulated_cycles_per_host_s",
)
"""Columns of `designs` with numbers of the rows; `weight_bits_total` is the rows' `weight_bits`."""

OTHERS = (
    "part",
    "variant",
    "fits",
    "fits_beside_shell",
    "finn_hls_estimate_fits",
    "finn_hls_estimate_fits_beside_shell",
    "tightest_resource",
    "applied_foldings",
    "extrapolated",
    "synthesis_timed_out",
    "golden_confusion_images",
    "rtl_confusion_images",
)
"""Columns of `designs` with text or truth."""


# --- rows ------------------------------------------------------------------------------------------------------------


def read_folder(folder: Path) -> list[Row]:
    """The newest row of each test, cell and part in the ``*.jsonl`` files of `folder`; none where it is not there.

    The files' names start with the time of their run, so the last in their order counts. Raises QnnError for a line
    that is not a row.
    """
    newest: dict[tuple[str, str | None, Metric], Row] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for row in read_rows(path):
            cell = parse_cell(row.cell)
            # A search has one answer for a trained cell; its row stands under the folding that was found.
            name = str(cell.trained) if cell and row.hop == "search" else row.cell
            newest[row.test, name, row.metrics.get("part")] = row
    return list(newest.values())


def parse_cell(text: str | None) -> Cell | None:
    """Read a row's cell, such as ``tfc-fashion_mnist-A3W3-PE8-SIMD8-balanced``; None for what is not a trained cell."""
    parts = (text or "").split("-")
    kind = Thresholds.EXACT if parts[-1] == Thresholds.EXACT else Thresholds.FINN
    parts = parts[:-1] if kind is Thresholds.EXACT else parts
    if len(parts) not in (3, 5, 6):
        return None
    try:
        return Cell(
            network=parts[0],
            dataset=dataset_name(parts[1]),
            quantization=Quantization.parse(parts[2]),
            folding=Folding.parse("-".join(parts[3:5])) if len(parts) > 3 else None,
            policy=Policy.parse(parts[5]) if len(parts) > 5 else Policy.UNIFORM,
            thresholds=kind,
        )
    except CellError:
        return None


def _of_part(rows: Iterable[Row], part: str) -> list[Row]:
    return [row for row in rows if row.metrics.get("part") in (None, part)]


# --- designs ---------------------------------------------------------------------------------------------------------


def _number(value: object) -> float:
    return math.nan if value is None or isinstance(value, str) else float(value)  # type: ignore[arg-type]


def _shares(metrics: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Of the whole part, and of what the shell leaves of it; and the worst of the latter (else of the former)."""
    budgets = reference.part(part)
    taken = {name: _number(metrics.get(name)) for name in BUDGETED}
    alone = {name: taken[name] / getattr(budgets.alone, name) for name in BUDGETED}
    beside = {
        name: taken[name] / getattr(budgets.beside_shell, name) if budgets.beside_shell else math.nan
        for name in BUDGETED
    }
    judged = beside if budgets.beside_shell else alone
    whole = not any(map(math.isnan, judged.values()))
    worst = max(judged, key=judged.__getitem__) if whole else None
    return {
        **{f"{name}_share": share for name, share in alone.items()},
        **{f"{name}_share_beside_shell": share for name, share in beside.items()},
        "worst_resource": worst,
        "worst_share": judged[worst] if worst else math.nan,
        # Of what a search found there is no other verdict.
        "fits": max(alone.values()) <= 1 if whole else None,
        "fits_beside_shell": max(beside.values()) <= 1 if whole and budgets.beside_shell else None,
    }


def _line(cell: Cell, metrics: Mapping[str, Any], rows: Sequence[Row], part: str) -> dict[str, Any]:
    assert cell.folding is not None
    evidence = dict.fromkeys(str(row.evidence) for row in rows if row.evidence and row.status is Status.PASSED)
    order = [name for name in Evidence if name in evidence]
    # The shipped network on the whole test set: what the matrix' accuracy is judged by.
    whole = metrics.get("rtl_top1_percent") if metrics.get("images") == BATCH_IMAGES else None
    top1, judged = metrics.get("hardware_top1_percent"), _shares(metrics, part)
    return {
        "cell": str(cell),
        "dataset": cell.dataset,
        "bits": str(cell.quantization),
        "activation_bits": cell.quantization.activation_bits,
        "weight_bits": cell.quantization.weight_bits,
        "folding": str(cell.folding),
        "pe": cell.folding.pe,
        "simd": cell.folding.simd,
        "products": cell.folding.pe * cell.folding.simd,
        "policy": str(cell.policy),
        **{name: _number(metrics.get(name)) for name in NUMBERS},
        **judged,
        **{name: metrics[name] if name in metrics else judged.get(name) for name in OTHERS},
        "weight_bits_total": _number(metrics.get("weight_bits")),
        "top1_percent": _number(whole if top1 is None else top1),
        "evidence": ", ".join(map(str, order)),
        "failed": ", ".join(dict.fromkeys(row.hop for row in rows if row.status in (Status.FAILED, Status.ERROR))),
    }


def designs(rows: Iterable[Row], part: str = PART) -> pd.DataFrame:
    """A line for each cell with a folding, in order of data set, policy, bit widths and folding.

    Columns: cell (the id), dataset, bits (``A3W3``), activation_bits, weight_bits, folding, pe, simd, products (PE x
    SIMD as asked), policy; NUMBERS and OTHERS as the rows have them; top1_percent (of the whole test set, of the
    hardware's integers); RESOURCE_share of the whole part and RESOURCE_share_beside_shell of what the shell leaves, 1
    is all of it; worst_resource and worst_share of the latter; evidence (of the tests that passed, weakest first);
    failed (kinds of tests that did not). Rows on other parts are left out, and so are designs with exact thresholds.
    """
    merged: dict[Cell, dict[str, Any]] = {}
    rows_of: dict[Cell, list[Row]] = {}
    for row in _of_part(rows, part):
        cell = parse_cell(row.cell)
        if cell is None or cell.quantization.is_float or cell.thresholds is Thresholds.EXACT:
            continue
        known = {name: value for name, value in row.metrics.items() if value is not None}
        merged.setdefault(cell, {}).update(known)
        rows_of.setdefault(cell, []).append(row)
    lines = [
        _line(cell, {**merged.get(cell.trained, {}), **metrics}, rows_of[cell], part)
        for cell, metrics in merged.items()
        if cell.folding is not None
    ]
    if not lines:
        empty = Cell(quantization=Quantization.parse("A2W2"), folding=Folding(pe=1, simd=1))
        return pd.DataFrame([_line(empty, {}, [], part)]).iloc[:0]
    frame = pd.DataFrame(lines)
    order = {name: k for k, name in enumerate([*DATASETS, *Policy])}
    keys = ["dataset", "policy", "activation_bits", "weight_bits", "products", "pe"]
    return frame.sort_values(
        keys, key=lambda column: column.map(order) if column.name in ("dataset", "policy") else column
    ).reset_index(drop=True)


def front(designs: pd.DataFrame) -> set[str]:
    """Ids of the designs of one data set that no other dominates in accuracy, interval and worst resource share.

    Designs that do not fit, or of which one of the three is not known, are left out.
    """
    known = designs.dropna(subset=["top1_percent", "initiation_interval_cycles", "worst_share"])
    compared = []
    for line in known.to_dict("records"):
        cell = parse_cell(line["cell"])
        assert cell is not None
        compared.append(
            compromise.Design(
                cell=cell,
                top1_percent=line["top1_percent"],
                interval_cycles=int(line["initiation_interval_cycles"]),
                worst_share=line["worst_share"],
            )
        )
    return {str(design.cell) for design in compromise.front(compared)}


# --- nodes -----------------------------------------------------------------------------------------------------------

_KINDS = {
    "MVAU": "matrix unit",
    "Thresholding": "activation",
    "StreamingFIFO": "FIFO",
    "StreamingDataWidthConverter": "width converter",
}


def _kind(name: str) -> str:
    return next((kind for prefix, kind in _KINDS.items() if name.startswith(prefix)), "other")


def nodes(rows: Iterable[Row], part: str = PART) -> pd.DataFrame:
    """A line for each node of each synthesised design.

    Columns: cell, dataset, bits, activation_bits, folding, policy, name, kind, hidden (an activation behind the first
    one, which quantises the input), lut, ff, bram18 (halves of 36 Kb blocks in all), dsp, and FINN's estimates of the
    RTL as finn_estimate_lut, _bram18 and _dsp.
    """
    figures = ("lut", "ff", "dsp", "finn_estimate_lut", "finn_estimate_bram18", "finn_estimate_dsp")
    lines = []
    for row in _of_part(rows, part):
        cell = parse_cell(row.cell)
        if row.hop != "resources" or not row.layers or cell is None:
            continue
        activations = 0
        for layer in row.layers:
            name = str(layer.get("name"))
            kind = _kind(name)
            activations += kind == "activation"
            lines.append(
                {
                    "cell": str(cell),
                    "dataset": cell.dataset,
                    "bits": str(cell.quantization),
                    "activation_bits": cell.quantization.activation_bits,
                    "folding": str(cell.folding),
                    "policy": str(cell.policy),
                    "name": name,
                    "kind": kind,
                    "hidden": kind == "activation" and activations > 1,
                    **{figure: _number(layer.get(figure)) for figure in figures},
                    "bram18": _number(layer.get("bram18")) + 2 * _number(layer.get("bram36_blocks")),
                }
            )
    columns = ["cell", "dataset", "bits", "activation_bits", "folding", "policy", "name", "kind", "hidden"]
    return pd.DataFrame(lines, columns=[*columns, *figures, "bram18"])


# --- conclusions -----------------------------------------------------------------------------------------------------


def claims_on(rows: Iterable[Row], hop: str, part: str = PART) -> list[Row]:
    """The rows of a kind of test that judge a sentence of the study: those with a metric `claim`."""
    return [row for row in _of_part(rows, part) if row.hop == hop and row.metrics.get("claim") is not None]


def evidence(rows: Iterable[Row]) -> pd.DataFrame:
    """A line for each test that is made for many cells: hop, test (its function), evidence, and how many ended how."""
    counted: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        counted.setdefault((row.hop, row.test.rpartition("::")[2].partition("[")[0]), []).append(row)
    lines = []
    for (hop, test), found in counted.items():
        kinds = {str(row.evidence) for row in found if row.evidence}
        endings = {str(status): sum(row.status is status for row in found) for status in Status}
        lines.append({"hop": hop, "test": test, "evidence": ", ".join(k for k in Evidence if k in kinds), **endings})
    columns = ["hop", "test", "evidence", *map(str, Status)]
    return pd.DataFrame(lines, columns=columns)


def not_passed(rows: Sequence[Row]) -> pd.DataFrame:
    """Tests that did not pass, grouped: status, hop, reason (its first line), count and the cells, in order."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    order = [Status.FAILED, Status.ERROR, Status.XPASSED, Status.XFAILED, Status.SKIPPED]
    for status in order:
        for row in rows:
            if row.status is status:
                reason = ((row.reason or "").strip().splitlines() or ["no reason given"])[0]
                grouped.setdefault((str(status), row.hop, reason), []).append(row.cell or row.test.rpartition("::")[2])
    lines = [(*key, len(cells), ", ".join(dict.fromkeys(cells))) for key, cells in grouped.items()]
    return pd.DataFrame(lines, columns=["status", "hop", "reason", "count", "cells"])
