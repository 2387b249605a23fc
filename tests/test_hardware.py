"""The report's hardware section: its tables and figures show the numbers of the rows, and say what is not there."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout import require_apart
from matplotlib.figure import Figure

from qnn import figures, hardware, hardware_figures, hardware_page, paper
from qnn.cell import PART, Cell, Policy, Thresholds
from qnn.cli import main
from qnn.errors import QnnError
from qnn.hardware_page import Section, section
from qnn.results import Evidence, Metric, Row, Status, append_row

CELLS = [
    Cell(quantization=quantization, folding=folding, policy=policy)
    for policy in Policy
    for quantization, folding in paper.study_designs()
]
"""The study's designs under both policies."""
HOPS = {
    "equivalence": "test_rtl_equals_hardware_integers",
    "throughput": "test_throughput",
    "resources": "test_accelerator_fits_the_part",
    "tradeoff": "test_efficiency",
    "timing": "test_cells_leave_half_of_the_period_to_routing",
    "fifos": "test_delivered_fifos_keep_the_interval_of_unbounded_ones",
    "netlist": "test_netlist_equals_rtl",
    "accuracy": "test_brevitas_network_reaches_its_floor",
}


def row(hop: str, cell: Cell | None, evidence: Evidence, **metrics: Metric) -> Row:
    name = f"benchmarks/test_{hop}.py::{HOPS[hop]}[{cell}]"
    return Row(
        test=name,
        hop=hop,
        status=Status.PASSED,
        cell=None if cell is None else str(cell),
        evidence=evidence,
        metrics=metrics,
    )


def made_up(cell: Cell) -> list[Row]:
    """What the benchmarks say of a design: figures of a real one, A3W3, bent by bit widths and folding."""
    folding = cell.folding
    assert folding is not None
    bits = cell.quantization.activation_bits or 0
    products = folding.pe * folding.simd
    share = 1.0 if cell.policy is Policy.UNIFORM else 0.4
    interval = 65_536 // products
    images_per_s = 1e8 / interval * 0.9999
    lut = int(600 * bits + 45 * products * bits * share)
    dsp = int(products * share * 4 / (6 - bits // 2))
    fits, top1 = dsp <= 220, 86.9 + math.log(bits)
    layers: list[dict[str, Metric]] = [
        {
            "name": name,
            "lut": lut // part,
            "ff": lut // part + 40,
            "dsp": dsp // 4 if name.startswith("MVAU") else 0,
            "bram18": 1,
            "bram36_blocks": 2**bits // 64,
            "finn_estimate_lut": 0.0 if name.startswith("MVAU") else lut / part * 1.2,
            "finn_estimate_bram18": 8.0,
            "finn_estimate_dsp": dsp // 4 if name.startswith("MVAU") else 0.0,
        }
        for name, part in (
            ("StreamingFIFO_rtl_0", 100),
            ("Thresholding_rtl_0", 20),
            ("MVAU_rtl_0", 3),
            ("Thresholding_rtl_1", 10),
            ("StreamingDataWidthConverter_rtl_0", 50),
            ("MVAU_rtl_1", 5),
            ("Thresholding_rtl_2", 12),
        )
    ]
    confusion = np.full((10, 10), 10) + np.diag([900] * 10)
    text = "; ".join(" ".join(map(str, line)) for line in confusion)
    return [
        row("accuracy", cell.trained, Evidence.PYTHON, brevitas_top1_percent=top1 + 0.01),
        row(
            "equivalence",
            cell,
            Evidence.RTLSIM,
            images=1_000 if products == 4 else 10_000,
            images_equal=1_000 if products == 4 else 10_000,
            rtl_top1_percent=top1,
            brevitas_top1_of_these_percent=top1 + 0.01,
            thresholds=200 * 2**bits,
            thresholds_off=2 ** max(bits - 3, 0) - 1,
            finn_images_with_other_accumulators=4 ** max(bits - 3, 0) - 1,
            finn_images_with_other_top1=bits // 5,
            golden_confusion_images=text,
        ),
        row(
            "throughput",
            cell,
            Evidence.RTLSIM,
            throughput_images_per_s=images_per_s,
            latency_us=interval / 80,
            initiation_interval_cycles=interval,
            dram_in_megabytes_per_s=images_per_s * 1024 / 1e6,
            with_fitted_overhead_images_per_s=1e8 / (interval + 12),
            extrapolated=products == 4,
        ),
        replace(
            row(
                "resources",
                cell,
                Evidence.SYNTHESIS,
                part=PART,
                variant="RTL, multiplies in DSP slices",
                lut=lut,
                lut_memory=lut // 5,
                ff=int(1.3 * lut),
                bram18=7,
                bram36_blocks=4 + 2**bits // 16,
                bram36=7.5 + 2**bits // 16,
                dsp=dsp,
                fits=fits,
                fits_beside_shell=fits,
                tightest_resource="dsp",
                tightest_left_percent=100 - 100 * dsp / 220,
                finn_estimate_lut=0.5 * lut,
                finn_estimate_bram18=20.0 + bits,
                finn_hls_estimate_without_input_lut=2_000.0 * 2**bits,
                finn_hls_estimate_bram18=11.0,
                finn_hls_estimate_fits=bits < 6,
                finn_hls_estimate_fits_beside_shell=bits < 5,
            ),
            layers=tuple(layers),
        ),
        row(
            "tradeoff",
            cell,
            Evidence.SYNTHESIS,
            hardware_top1_percent=top1,
            accuracy_drop_points=89.0 - top1,
            images_per_s_per_lut=images_per_s / lut,
            images_per_s_per_dsp=images_per_s / dsp if dsp else None,
            bit_operations=74_368 * bits**2,
            weight_bits=74_368 * bits,
            modelled_energy_nj=200.0 + bits,
        ),
        row("timing", cell, Evidence.SYNTHESIS, longest_path_ns=3.0 + bits / 10, share_of_period_percent=35.0),
        row("fifos", cell, Evidence.RTLSIM, unbounded_interval_cycles=interval, fifos_that_fill_up=0),
    ]


CONCLUSION = Row(
    test="benchmarks/test_tradeoff.py::test_the_studys_choice_is_the_best_compromise[fashion-mnist-uniform]",
    hop="tradeoff",
    status=Status.XFAILED,
    evidence=Evidence.SYNTHESIS,
    reason="A3W3 as the best compromise is undecided",
    metrics={
        "claim": "best_compromise",
        "dataset": "fashion-mnist",
        "policy": "uniform",
        "part": PART,
        "verdict": "undecided",
        "against": "",
        "undecided": "A3W3 is not accurate <at all>",
        "pareto_front": "tfc-fashion_mnist-A2W2-PE16-SIMD16",
    },
)
SKIPPED = Row(
    test="benchmarks/test_netlist.py::test_netlist_equals_rtl[tfc-fashion_mnist-A8W8-PE8-SIMD8]",
    hop="netlist",
    status=Status.SKIPPED,
    cell="tfc-fashion_mnist-A8W8-PE8-SIMD8",
    reason="its netlist is not simulated",
)
GROWTH = Row(
    test="benchmarks/test_growth.py::test_growth_with_the_bit_width_is_what_the_study_says[diagonal-lut]",
    hop="growth",
    status=Status.PASSED,
    evidence=Evidence.SYNTHESIS,
    metrics={"claim": "lut", "sentence": "LUT grow", "measured": "1, 2, 3 at 2 to 8 bits", "borne_out": True},
)
SEARCH = Row(
    test="python -m qnn search A3W3",
    hop="search",
    status=Status.PASSED,
    cell="tfc-fashion_mnist-A3W3-PE64-SIMD8-balanced",
    evidence=Evidence.SYNTHESIS,
    metrics={
        "part": PART,
        "fastest_folding": "PE64-SIMD8",
        "applied_foldings": "64x8 32x1 32x1 5x1",
        "expected_interval_cycles": 128,
        "expected_images_per_s": 781_250.0,
        "lut": 28_897,
        "lut_memory": 7_025,
        "ff": 34_959,
        "bram36": 21.5,
        "dsp": 191,
    },
)


def speed(cell: Cell) -> Row:
    assert cell.folding is not None
    cycles = 1e6 / (cell.folding.pe * cell.folding.simd) ** 0.5
    name = f"benchmarks/test_simulation_speed.py::test_simulation_speed[{cell}]"
    return Row(
        test=name,
        hop="simulation_speed",
        status=Status.PASSED,
        cell=str(cell),
        evidence=Evidence.RTLSIM,
        metrics={"simulated_cycles_per_host_s": cycles},
    )


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """A whole matrix under both policies, with all that the benchmarks say of it."""
    designs = [found for cell in CELLS for found in [*made_up(cell), speed(cell)]]
    return [*designs, CONCLUSION, SKIPPED, GROWTH, SEARCH]


@pytest.fixture(scope="module")
def whole(rows: list[Row]) -> Section:
    return section(rows)


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made, but not rendered."""
    monkeypatch.setattr(figures, "draw", lambda figure, name: figures.Drawing(svg=b"<svg></svg>", png=b""))


def named(rows: Sequence[Row], cell: str) -> Mapping[str, Any]:
    found = hardware.designs(rows)
    line: Mapping[str, Any] = found[found["cell"].eq(cell)].iloc[0].to_dict()
    return line


# --- rows ------------------------------------------------------------------------------------------------------------


def test_the_newest_row_of_each_test_and_cell_counts(tmp_path: Path) -> None:
    cell = CELLS[0]
    old, new = (row("throughput", cell, Evidence.RTLSIM, throughput_images_per_s=figure) for figure in (1.0, 2.0))
    other = row("throughput", CELLS[1], Evidence.RTLSIM, throughput_images_per_s=3.0)
    append_row(tmp_path / "2026-01-02T000000.jsonl", new)
    append_row(tmp_path / "2026-01-01T000000.jsonl", old)
    append_row(tmp_path / "2026-01-01T000000.jsonl", other)
    found = {one.cell: one.metrics["throughput_images_per_s"] for one in hardware.read_folder(tmp_path)}
    assert found == {str(cell): 2.0, str(CELLS[1]): 3.0}


def test_a_newer_search_replaces_the_older_one_though_it_found_another_folding(tmp_path: Path) -> None:
    append_row(tmp_path / "1.jsonl", replace(SEARCH, cell="tfc-fashion_mnist-A3W3-PE1-SIMD1-balanced"))
    append_row(tmp_path / "2.jsonl", SEARCH)
    assert hardware.read_folder(tmp_path) == [SEARCH]


def test_no_folder_is_no_rows_and_a_damaged_line_is_told(tmp_path: Path) -> None:
    assert hardware.read_folder(tmp_path / "nowhere") == []
    (tmp_path / "a.jsonl").write_text("{\n")
    with pytest.raises(QnnError, match=r"a\.jsonl, line 1 is not a result row"):
        hardware.read_folder(tmp_path)


EXACT = [replace(CELLS[0], policy=policy, thresholds=Thresholds.EXACT) for policy in Policy]


@pytest.mark.parametrize("cell", [*CELLS, CELLS[0].trained, *EXACT], ids=str)
def test_ids_of_cells_are_read(cell: Cell) -> None:
    assert hardware.parse_cell(str(cell)) == cell


@pytest.mark.parametrize("text", [None, "", "A3W3", "tfc-nothing-A3W3", "tfc-mnist-A9W9", "tfc-mnist-A3W3-PE8-SIMDx"])
def test_what_is_no_trained_cell_is_none(text: str | None) -> None:
    assert hardware.parse_cell(text) is None


# --- designs ---------------------------------------------------------------------------------------------------------


def test_a_design_has_the_figures_of_all_its_tests_and_of_its_trained_cell(rows: list[Row]) -> None:
    line = named(rows, "tfc-fashion_mnist-A3W3-PE8-SIMD8")
    assert line["throughput_images_per_s"] == pytest.approx(1e8 / 1024 * 0.9999)
    assert line["brevitas_top1_percent"] == pytest.approx(86.91 + math.log(3))
    assert line["weight_bits"] == 3
    assert line["weight_bits_total"] == 74_368 * 3
    assert line["lut_share"] == pytest.approx(line["lut"] / 53_200)
    assert line["lut_share_beside_shell"] == pytest.approx(line["lut"] / (53_200 - 6_425))
    assert line["worst_share"] == max(line[f"{name}_share_beside_shell"] for name in hardware_figures.RESOURCES)
    assert line["evidence"] == "rtlsim, synthesis"


def test_designs_with_exact_thresholds_are_not_the_studys(rows: list[Row]) -> None:
    more = [*rows, *(row("throughput", cell, Evidence.RTLSIM, throughput_images_per_s=1.0) for cell in EXACT)]
    assert hardware.designs(more).equals(hardware.designs(rows))


def test_what_no_row_says_is_not_known(rows: list[Row]) -> None:
    cell = CELLS[0]
    for drawn in ([Row(test="t", hop="equivalence", status=Status.FAILED, cell=str(cell), reason="died")], []):
        found = hardware.designs(drawn)
        assert len(found) == len(drawn)
        assert set(hardware.designs(rows).columns) == set(found.columns)
        assert found[[*hardware.NUMBERS, "worst_share", "top1_percent"]].isna().all(axis=None)
        assert list(found["failed"]) == ["equivalence"] * len(drawn)


@pytest.mark.usefixtures("quickly")
def test_rows_on_other_parts_are_left_out(rows: list[Row]) -> None:
    cell = "tfc-fashion_mnist-A3W3-PE8-SIMD8"
    other = [
        replace(one, metrics={**one.metrics, "part": "xc7z045ffg900-2", "lut": 1})
        for one in rows
        if one.hop == "resources"
    ]
    assert named([*rows, *other], cell)["lut"] == named(rows, cell)["lut"]
    assert "Rows on xc7z045ffg900-2 are left out" in section([*rows, *other]).html


def test_accuracy_of_a_part_of_the_images_is_not_that_of_the_test_set(rows: list[Row]) -> None:
    without = [one for one in rows if one.hop != "tradeoff"]
    assert math.isnan(named(without, "tfc-fashion_mnist-A3W3-PE2-SIMD2")["top1_percent"])
    whole = named(without, "tfc-fashion_mnist-A3W3-PE8-SIMD8")["top1_percent"]
    assert whole == pytest.approx(86.9 + math.log(3))


def naive_front(lines: list[dict[str, Any]]) -> set[str]:
    def beats(one: dict[str, Any], other: dict[str, Any]) -> bool:
        pairs = [
            (one["top1_percent"], other["top1_percent"]),
            (-one["initiation_interval_cycles"], -other["initiation_interval_cycles"]),
            (-one["worst_share"], -other["worst_share"]),
        ]
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)

    fitting = [
        line for line in lines if line["worst_share"] <= 1 and not math.isnan(line["initiation_interval_cycles"])
    ]
    return {line["cell"] for line in fitting if not any(beats(other, line) for other in fitting)}


def test_the_front_is_of_accuracy_interval_and_worst_share_among_all_policies(rows: list[Row]) -> None:
    found = hardware.designs(rows)
    expected = naive_front(found.to_dict("records"))
    assert hardware.front(found) == expected
    assert 2 < len(expected) < len(found)


def test_a_fit_that_no_row_judges_is_judged_by_the_shares(rows: list[Row]) -> None:
    cell = "tfc-fashion_mnist-A3W3-PE64-SIMD8-balanced"
    for lut, alone, beside in ((28_897, True, True), (50_000, True, False), (53_201, False, False)):
        line = named([replace(SEARCH, metrics={**SEARCH.metrics, "lut": lut})], cell)
        assert (line["fits"], line["fits_beside_shell"]) == (alone, beside)
    lacking = {name: value for name, value in SEARCH.metrics.items() if name != "dsp"}
    assert named([replace(SEARCH, metrics=lacking)], cell)["fits"] is None


def test_what_verdicts_rest_on_is_counted_by_test_and_ending(rows: list[Row]) -> None:
    found = hardware.evidence([*rows, replace(rows[2], status=Status.FAILED)]).set_index("test")
    assert found.loc["test_throughput", "evidence"] == "rtlsim"
    assert (found.loc["test_throughput", "passed"], found.loc["test_throughput", "failed"]) == (len(CELLS), 1)
    assert found.loc["test_netlist_equals_rtl", "skipped"] == 1


def test_nodes_have_block_ram_in_halves_and_tell_hidden_activations(rows: list[Row]) -> None:
    found = hardware.nodes(rows)
    own = found[found["cell"].eq("tfc-fashion_mnist-A8W8-PE8-SIMD8")].set_index("name")
    assert own.loc["MVAU_rtl_0", "bram18"] == 1 + 2 * 4
    assert list(own.index[own["hidden"]]) == ["Thresholding_rtl_1", "Thresholding_rtl_2"]
    assert own.loc["StreamingDataWidthConverter_rtl_0", "kind"] == "width converter"


def test_what_did_not_pass_is_grouped_by_its_reason() -> None:
    rows = [replace(SKIPPED, cell=name) for name in ("a", "b")]
    found = hardware.not_passed([CONCLUSION, *rows, GROWTH])
    assert list(found["status"]) == ["xfailed", "skipped"]
    assert list(found["count"]) == [1, 2]
    assert found["cells"].iloc[1] == "a, b"


# --- figures ---------------------------------------------------------------------------------------------------------


def pictures(rows: Sequence[Row]) -> dict[str, Figure]:
    designs, nodes = hardware.designs(rows), hardware.nodes(rows)
    found = hardware_page._pictures(designs, nodes, "fashion-mnist")
    return {name: picture.draw() for name, picture in found.items() if picture.draw is not None}


@pytest.fixture(scope="module")
def drawn(rows: list[Row]) -> dict[str, Figure]:
    return pictures(rows)


KINDS = ("growth", "budgets", "estimates", "thresholds", "compromise", "confusion", "simulation")


@pytest.mark.parametrize("policies", [list(Policy), [Policy.UNIFORM]], ids=["both", "uniform"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_text_meets_another_or_leaves_the_figure(kind: str, policies: list[Policy]) -> None:
    rows = [one for cell in CELLS if cell.policy in policies for one in [*made_up(cell), speed(cell)]]
    figure = pictures(rows)[f"hardware-{kind}"]
    require_apart(figure, height=0.85)


def test_growth_shows_synthesis_and_estimates_at_each_bit_width(rows: list[Row], drawn: Mapping[str, Figure]) -> None:
    logic, memory, stored, variants = drawn["hardware-growth"].axes
    thick = [line for line in logic.lines if line.get_linewidth() > 1]
    luts = [named(rows, f"tfc-fashion_mnist-A{b}W{b}-PE8-SIMD8")["lut"] for b in range(2, 9)]
    assert [list(np.asarray(line.get_ydata())) for line in thick][1] == luts
    assert {"FF", "LUT", "LUT, FINN"} == {text.get_text() for text in logic.texts}
    assert list(np.asarray(variants.lines[0].get_ydata())) == [2_000 * 2**b for b in range(2, 9)]
    assert set(np.asarray(variants.lines[3].get_ydata())) == {53_200}
    in_all = np.asarray(memory.lines[0].get_ydata())
    assert list(in_all) == [7 + 2 * (4 + 2**b // 16) for b in range(2, 9)]
    assert list(np.asarray(memory.lines[1].get_ydata())) == [2 * (1 + 2 * (2**b // 64)) for b in range(2, 9)]
    without_input = next(line for line in memory.lines if line.get_linewidth() == 0.6 and line.get_marker() == ".")
    assert list(np.asarray(without_input.get_ydata())) == [6 * 8.0] * 7
    hidden = np.asarray(stored.lines[0].get_ydata())
    assert list(hidden) == [luts[b - 2] // 10 + luts[b - 2] // 12 for b in range(2, 9)]


def test_what_is_more_than_there_is_stands_out_among_the_shares(rows: list[Row], drawn: Mapping[str, Figure]) -> None:
    designs = hardware.designs(rows)
    panel = drawn["hardware-budgets"].axes[4]
    found = [text for text in panel.texts if text.get_color() == hardware_figures.OVER]
    over = designs["dsp_share_beside_shell"] > 1
    assert len(found) == over.sum() > 0
    assert {text.get_text() for text in found} == {
        f"{100 * v:.0f}" for v in designs.loc[over, "dsp_share_beside_shell"]
    }


def test_a_share_that_is_not_known_is_said_and_not_drawn_as_nothing(rows: list[Row]) -> None:
    lacking = [
        replace(one, metrics={k: v for k, v in one.metrics.items() if k != "dsp"}) if one.hop == "resources" else one
        for one in rows
        if one.hop != "search"
    ]
    panel = pictures(lacking)["hardware-budgets"].axes[4]
    assert {text.get_text() for text in panel.texts} == {"not known"}


def test_designs_on_the_front_have_a_ring_and_those_that_do_not_fit_a_cross(
    rows: list[Row], drawn: Mapping[str, Figure]
) -> None:
    designs = hardware.designs(rows)
    axes = drawn["hardware-compromise"].axes[0]
    rings = [line for line in axes.lines if line.get_markersize() == 8]
    assert len(rings) == len(hardware.front(designs))
    crosses = [line for line in axes.lines if line.get_marker() == "X"]
    placed = designs["top1_percent"].notna()
    assert len(crosses) == (placed & (designs["worst_share"] > 1)).sum() > 0


# --- the section -----------------------------------------------------------------------------------------------------


class Outline(HTMLParser):
    """Elements that are open, and how many lines a table has of which length."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def is_well_formed(text: str) -> bool:
    outline = Outline()
    outline.feed(text)
    outline.close()
    return not outline.open


def table_lines(text: str, after: str) -> list[list[str]]:
    """Cells of the first table behind a heading, line by line."""
    body = text[text.index(after) :]
    body = body[body.index("<tbody>") : body.index("</tbody>")]
    return [re.findall(r"<td>(.*?)</td>", line) for line in body.split("<tr>")[1:]]


def test_no_rows_are_one_sentence_with_the_command_that_makes_them() -> None:
    found = section([])
    assert "pytest benchmarks --matrix paper" in found.html
    assert not found.drawings
    assert is_well_formed(found.html)


def test_rows_that_lack_everything_make_a_section(rows: list[Row]) -> None:
    bare = [Row(test=one.test, hop=one.hop, status=Status.SKIPPED, cell=one.cell) for one in rows]
    found = section(bare)
    assert is_well_formed(found.html)
    assert not found.drawings
    cells = [text for line in table_lines(found.html, "All cells") for text in line[3:]]
    assert set(cells) == {"–"}
    assert set(hardware.designs(bare)["worst_share"].isna()) == {True}


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("hop", [*HOPS, "search", "growth", "simulation_speed"])
def test_every_kind_of_row_may_be_missing(hop: str, rows: list[Row]) -> None:
    few = [one for one in rows if one.hop != hop and (one.cell is None or "A3W3-PE8" in one.cell)]
    assert is_well_formed(section(few).html)


@pytest.mark.usefixtures("quickly")
def test_every_metric_may_be_missing(rows: list[Row]) -> None:
    few = [one for one in rows if one.cell and "A2W2-PE8-SIMD8" in one.cell]
    for name in sorted({name for one in few for name in one.metrics}):
        lacking = [replace(one, metrics={k: v for k, v in one.metrics.items() if k != name}) for one in few]
        designs = hardware.designs(lacking)
        assert is_well_formed(hardware_page._all_cells(designs)), name
        assert is_well_formed(hardware_page._table_2(designs)), name
        assert hardware_page._pictures(designs, hardware.nodes(lacking), "fashion-mnist")


def test_tables_2_and_3_stand_beside_the_papers_with_ratios(whole: Section) -> None:
    lines = table_lines(whole.html, "Table II beside")
    ours = 1e8 / 1024 * 0.9999
    found = next(line for line in lines if line[:3] == ["A3W3", "PE8-SIMD8", "uniform"])
    assert found[3:6] == ["96,533", f"{ours:,.0f}", f"{ours / 96_533:.4f}"]
    assert found[7:] == ["98.85", f"{ours * 1024 / 1e6:,.2f}", f"{ours * 1024 / 1e6 / 98.85:.4f}"]
    balanced = next(line for line in lines if line[:3] == ["A4W4", "PE16-SIMD16", "balanced"])
    assert balanced[3] == "–"
    assert balanced[5] == "–"
    grid = whole.html[whole.html.index("Table III beside") :]
    assert f"<td>{ours:,.0f}<small>96,533</small><small>{ours / 96_533:.4f}</small></td>" in grid
    assert "not readable" in grid


def test_the_table_of_all_cells_has_every_design_with_its_figures(rows: list[Row], whole: Section) -> None:
    lines = table_lines(whole.html, "All cells")
    names = list(hardware_page.COLUMNS)
    assert len(lines) == len(CELLS) + 1  # and the one that was searched
    found = dict(zip(names, next(one for one in lines if one[:3] == ["A3W3", "PE8-SIMD8", "uniform"]), strict=True))
    line = named(rows, "tfc-fashion_mnist-A3W3-PE8-SIMD8")
    assert found["RTL = integers, images"] == "10,000 of 10,000"
    assert found["top-1 of the RTL, %"] == f"{86.9 + math.log(3):.2f}"
    assert found["bit operations"] == f"{74_368 * 9:,}"
    assert found["weight bits"] == f"{74_368 * 3:,}"
    assert found["LUT"] == f"{line['lut']:,.0f} ({100 * line['lut_share']:.0f} %)"
    assert found["fits"] == "yes"
    assert found["FIFO depths suffice"] == "yes"
    assert found["evidence"] == "rtlsim, synthesis"
    over = dict(zip(names, next(one for one in lines if one[:3] == ["A4W4", "PE16-SIMD16", "uniform"]), strict=True))
    assert over["fits"] == "no (LUT, DSP)"
    searched = next(one for one in lines if one[1] == "PE64-SIMD8")
    assert searched[names.index("images/s")] == "781,250 (computed)"
    assert searched[names.index("fits")] == "yes"


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ({"synthesis_timed_out": True}, "not known: synthesis ran out of time"),
        ({"fits": True, "fits_beside_shell": False, "dsp": 10, "lut": 50_000}, "alone only (LUT)"),
        ({"fits": True}, "alone; no shell known"),
        ({}, "–"),
    ],
)
def test_each_verdict_on_the_fit_is_told(metrics: dict[str, Metric], told: str) -> None:
    text = section([row("resources", CELLS[0], Evidence.SYNTHESIS, **metrics)]).html
    found = table_lines(text, "All cells")[0]
    assert found[list(hardware_page.COLUMNS).index("fits")] == told


def test_fifos_that_are_too_shallow_are_told() -> None:
    metrics = {"initiation_interval_cycles": 1_100, "unbounded_interval_cycles": 1_024, "fifos_that_fill_up": 2}
    text = section([row("fifos", CELLS[0], Evidence.RTLSIM, **metrics)]).html
    assert "no: 1,100 cycles for 1,024; 2 fill up" in text


def test_a_netlist_that_was_simulated_is_evidence_with_its_images(rows: list[Row]) -> None:
    cell = CELLS[0]
    netlist = row("netlist", cell, Evidence.NETLIST, netlist_images=50, netlist_images_equal=50)
    line = table_lines(section([*made_up(cell), netlist]).html, "All cells")[0]
    assert line[-1] == "rtlsim, synthesis, netlist (50 images)"


def test_a_test_that_failed_is_no_evidence_and_is_named() -> None:
    failed = replace(row("netlist", CELLS[0], Evidence.NETLIST, netlist_images=50), status=Status.FAILED)
    line = table_lines(section([*made_up(CELLS[0]), failed]).html, "All cells")[0]
    assert line[-1] == "rtlsim, synthesis; failed: netlist"


def test_verdicts_and_what_did_not_pass_stand_in_the_section(whole: Section) -> None:
    assert "<b>undecided</b> (test: xfailed)" in whole.html
    assert "A3W3 is not accurate &lt;at all&gt;" in whole.html
    assert ["LUT grow", "lut", "1, 2, 3 at 2 to 8 bits", "synthesis", "borne out"] in [
        re.findall(r"<td>(.*?)</td>", line) for line in whole.html.split("<tr>")
    ]
    told = [line[:4] for line in table_lines(whole.html, "What did not pass")]
    assert told == [
        ["xfailed", "tradeoff", "1", "A3W3 as the best compromise is undecided"],
        ["skipped", "netlist", "1", "its netlist is not simulated"],
    ]


def test_confusion_is_of_the_rtl_only_where_it_saw_all_images() -> None:
    full, few = (np.diag([count] * 10) for count in (1_000, 100))
    texts = {name: "; ".join(" ".join(map(str, one)) for one in matrix) for name, matrix in (("f", full), ("p", few))}
    for rtl, title in (("f", "A2W2, RTL"), ("p", "A2W2, exact integers")):
        designs = hardware.designs(
            [
                row(
                    "tradeoff",
                    CELLS[0],
                    Evidence.RTLSIM,
                    rtl_confusion_images=texts[rtl],
                    golden_confusion_images=texts["f"],
                )
            ]
        )
        assert list(hardware_page._confusions(designs)) == [title]


def test_no_figure_holds_an_image_which_the_pages_policy_does_not_show(whole: Section) -> None:
    assert whole.drawings
    assert [name for name, drawing in whole.drawings.items() if b"<image" in drawing.svg] == []


def test_a_figure_is_no_wider_in_the_page_than_its_letters_allow(whole: Section) -> None:
    widths = re.findall(r'<svg [^>]*style="max-width: (\d+)px"[^>]* width="([\d.]+)pt"', whole.html)
    assert len(widths) == len(whole.drawings)
    assert {round(int(pixels) / float(points), 2) for pixels, points in widths} == {2.35}


def test_the_same_rows_give_the_same_bytes(rows: list[Row], whole: Section) -> None:
    again = section(rows)
    assert again.html == whole.html
    assert {name: one.png for name, one in again.drawings.items()} == {
        name: one.png for name, one in whole.drawings.items()
    }


def test_the_command_draws_the_rows_of_a_folder(rows: list[Row], tmp_path: Path) -> None:
    for one in rows:
        if one.cell is None or "A3W3-PE8-SIMD8" in one.cell:
            append_row(tmp_path / "results" / "a.jsonl", one)
    assert main(["report", "--folder", str(tmp_path / "report"), "--results", str(tmp_path / "results")]) == 0
    text = (tmp_path / "report" / "index.html").read_text()
    assert "Table II beside the paper" in text
    assert "rows of results: a.jsonl, SHA-256" in text
    linked = set(re.findall(r'href="(fashion-mnist-hardware-[\w.-]+)"', text))
    assert linked
    assert linked <= {path.name for path in (tmp_path / "report").iterdir()}
