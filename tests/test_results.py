"""Rows of results are written and read whole, and the summary shows what they say."""

from dataclasses import replace
from pathlib import Path

import pytest

from qnn.errors import QnnError
from qnn.report import summary
from qnn.results import Evidence, Metric, Row, Status, append_row, read_rows

CELL = "tfc-fashion_mnist-A3W3"


def _row(hop: str, folding: str = "", *, status: Status = Status.PASSED, reason: str = "", **metrics: Metric) -> Row:
    cell = f"{CELL}-{folding}" if folding else CELL
    return Row(
        test=f"benchmarks/test_{hop}.py::test[{cell}]",
        hop=hop,
        cell=cell,
        evidence=Evidence.RTLSIM if folding else Evidence.PYTHON,
        status=status,
        reason=reason or None,
        metrics=metrics,
    )


def _show(*rows: Row) -> str:
    return summary(rows, width=200, color=False)


def test_rows_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [_row("accuracy", brevitas_top1_percent=88.1), _row("throughput", "PE8-SIMD8", status=Status.FAILED, x=None)]
    for row in rows:
        append_row(tmp_path / "new" / "rows.jsonl", row)
    assert list(read_rows(tmp_path / "new" / "rows.jsonl")) == rows


@pytest.mark.parametrize("line", ["{", "{}", '{"test": "t", "hop": "h", "status": "so-so", "evidence": null}'])
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    append_row(path, _row("accuracy"))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(QnnError, match=r"rows\.jsonl, line 2"):
        list(read_rows(path))


def test_the_summary_joins_a_cells_tests_in_one_line_per_folding() -> None:
    text = _show(
        _row("accuracy", brevitas_top1_percent=88.1),
        _row("equivalence", "PE8-SIMD8", images=10_000, images_equal=10_000, rtl_top1_percent=88.1),
        _row("equivalence", brevitas_codes_off=2, codes_compared=12_160_000),
        _row("throughput", "PE8-SIMD8", initiation_interval_cycles=1_024, throughput_images_per_s=97_654.0),
        _row("throughput", "PE2-SIMD2", initiation_interval_cycles=16_384),
    )
    assert "A3W3 tfc fashion-mnist" in text
    assert "Brevitas 88.10 %" in text
    assert "off by float32 alone: 2 of 12,160,000 Brevitas codes" in text
    (line,) = [line for line in text.splitlines() if line.startswith("PE8-SIMD8")]
    assert "10,000/10,000" in line
    assert "1,024" in line
    assert "97,654" in line
    assert line.split()[-1] == "rtlsim"
    assert any(line.startswith("PE2-SIMD2") and "16,384" in line for line in text.splitlines())


def test_what_is_not_known_is_a_dash_and_never_a_zero() -> None:
    (line,) = [line for line in _show(_row("throughput", "PE8-SIMD8")).splitlines() if line.startswith("PE8")]
    assert set(line.split()[1:-1]) == {"-"}


def _accuracy(cell: str, top1_percent: float, **metrics: Metric) -> Row:
    counts: dict[str, Metric] = {
        "brevitas_codes_off": 5,
        "codes_compared": 12_160_000,
        "images_with_boundary_codes": 4,
        "images_compared": 10_000,
        "images_with_other_top1": 1,
    }
    known = {"brevitas_top1_percent": top1_percent, "golden_top1_percent": top1_percent, "floor_percent": 87.0}
    return Row(
        test="t",
        hop="accuracy",
        status=Status.PASSED,
        cell=cell,
        evidence=Evidence.PYTHON,
        metrics={**known, **counts, **metrics},
    )


def test_the_accuracy_of_many_cells_is_a_grid_for_each_data_set() -> None:
    rows = [
        _accuracy(f"tfc-fashion_mnist-A{a}W{w}", 88 + a / 10 + w / 100, paper_best_top1_percent=88.0)
        for a in range(2, 9)
        for w in range(2, 9)
        if (a, w) != (5, 5)
    ]
    rows += [_accuracy("tfc-mnist-A3W3", 97.9), _accuracy("tfc-mnist-A4W2", 97.5)]
    text = _show(*rows)
    lines = {line.split("  ")[0]: line.split() for line in text.partition("tfc mnist")[0].splitlines()}
    assert text.splitlines()[1].split() == [f"W{bits}" for bits in range(2, 9)]
    assert lines["A5"] == ["A5", "88.52", "88.53", "88.54", "-", "88.56", "88.57", "88.58"]
    assert "best 88.88 %: A8W8; the paper's best 88 %" in text
    assert "240 of 583,680,000 Brevitas codes, in 192 of 480,000 images; 48 are classified otherwise" in text
    mnist = text.partition("tfc mnist")[2]
    assert "A4  97.50      -" in mnist
    assert "best 97.90 %: A3W3\n" in mnist
    assert "Brevitas 88" not in text, "a cell that is in the grid needs no lines of its own"
    assert len(text.splitlines()) < 20


def test_without_accuracies_the_grid_counts_the_codes_that_are_off() -> None:
    counts = {"codes_compared": 12_160_000, "images_with_boundary_codes": 4, "images_compared": 10_000}
    text = _show(
        *(
            Row(
                test="t",
                hop="equivalence",
                status=Status.PASSED,
                cell=f"tfc-mnist-A3W{bits}",
                metrics={"brevitas_codes_off": bits, **counts},
            )
            for bits in (2, 4)
        )
    )
    assert "tfc mnist   Brevitas codes off by float32 alone" in text
    assert "A3   2   4" in text
    assert "6 of 24,320,000 Brevitas codes, in 8 of 20,000 images" in text


def test_a_cell_below_its_floor_is_named_under_the_grid() -> None:
    text = _show(_accuracy(CELL, 86.99), _accuracy("tfc-fashion_mnist-A2W2", 87.0), _accuracy("tfc-mnist-A2W2", 97.0))
    assert "below the floor: A3W3" in text
    integers = _show(_accuracy(CELL, 87.0), _accuracy("tfc-fashion_mnist-A2W2", 87.0, golden_top1_percent=86.0))
    assert "below the floor: A2W2" in integers
    assert "below" not in _show(_accuracy(CELL, 87.0), _accuracy("tfc-fashion_mnist-A2W2", 87.0))


def test_hardware_keeps_its_lines_beside_the_grid() -> None:
    text = _show(
        _accuracy(CELL, 88.1),
        _accuracy("tfc-fashion_mnist-A2W2", 87.0),
        _row("throughput", "PE8-SIMD8", initiation_interval_cycles=1_024),
    )
    assert "A3W3 tfc fashion-mnist   Brevitas 88.10 %" in text
    assert "A2W2 tfc" not in text


def test_a_single_cell_says_what_float32_changes() -> None:
    text = _show(_accuracy(CELL, 88.1))
    assert "5 of 12,160,000 Brevitas codes, which change the top-1 of 1 images" in text
    assert "W3" not in text.replace("A3W3", "")


def test_exact_thresholds_say_what_they_changed_and_do_not_stand_for_finns_own() -> None:
    finns: dict[str, Metric] = {"finn_images_with_other_accumulators": 8, "finn_images_with_other_top1": 1}
    before: dict[str, Metric] = {"images_with_other_accumulators_before": 8, "images_with_other_top1_before": 1}
    left: dict[str, Metric] = {"thresholds_off": 0, "finn_images_with_other_accumulators": 0}
    text = _show(
        replace(_row("equivalence", "PE8-SIMD8"), metrics={"thresholds_off": 290, "thresholds": 1_599, **finns}),
        replace(_row("equivalence", "PE8-SIMD8-exact"), metrics={"thresholds_replaced": 290, **before, **left}),
    )
    assert "290 of 1,599 FINN thresholds, which change 8 images and the top-1 of 1" in text
    assert (
        "PE8-SIMD8-exact: 290 of FINN's thresholds replaced by exact ones, which changed 8 images and the top-1 of 1; "
        "now 0 thresholds and 0 images differ from the exact integers"
    ) in text
    assert "PE8-SIMD8-exact" in _show(_row("equivalence", "PE8-SIMD8-exact", images=10, images_equal=10))


def test_an_extrapolated_figure_is_marked_and_explained() -> None:
    text = _show(_row("throughput", "PE2-SIMD2", throughput_images_per_s=6_103.0, extrapolated=True))
    assert "6,103*" in text
    assert "* a batch of 10,000" in text


def test_failures_and_skips_are_listed_with_their_reasons() -> None:
    text = _show(
        _row("throughput", status=Status.SKIPPED, reason="no --board given"),
        _row("throughput", status=Status.SKIPPED, reason="no --board given"),
        _row("equivalence", status=Status.FAILED, reason="RTL: 1 of 10 images differ\nmore"),
    )
    assert "skipped throughput: no --board given (2 tests)" in text
    assert "failed equivalence: RTL: 1 of 10 images differ" in text
    assert "more" not in text


def test_evidence_of_a_failed_test_does_not_count() -> None:
    (line,) = [
        line
        for line in _show(
            _row("equivalence", "PE8-SIMD8", status=Status.FAILED, images=10, images_equal=9)
        ).splitlines()
        if line.startswith("PE8")
    ]
    assert "9/10" in line
    assert "rtlsim" not in line


def test_a_simulated_netlist_and_its_longest_path_are_shown() -> None:
    timed = _row("timing", "PE8-SIMD8", longest_path_ns=3.096, share_of_period_percent=30.96)
    simulated = Row(
        test="t",
        hop="netlist",
        status=Status.PASSED,
        cell=f"{CELL}-PE8-SIMD8",
        evidence=Evidence.NETLIST,
        metrics={"netlist_images": 50},
    )
    does, takes = [line for line in _show(timed, simulated).splitlines() if line.startswith("PE8")]
    assert takes.rstrip().endswith("3.10 ns (31 %)")
    assert does.rstrip().endswith("netlist (50)")
    assert "netlist (50)" not in _show(timed, replace(simulated, status=Status.FAILED))


@pytest.mark.parametrize(
    ("alone", "beside_shell", "shown"),
    [(True, True, "yes"), (True, False, "alone"), (False, False, "no"), (True, None, "yes")],
)
def test_a_fit_is_beside_the_shell_unless_it_says_otherwise(alone: bool, beside_shell: bool | None, shown: str) -> None:
    text = _show(
        _row(
            "resources",
            "PE8-SIMD8",
            fits=alone,
            fits_beside_shell=beside_shell,
            tightest_resource="dsp",
            tightest_left_percent=-38.2,
            finn_hls_estimate_without_input_lut=50_404,
            part="xc7z020clg400-1",
        )
    )
    assert "FINN's RTL, which multiplies in DSP slices, on xc7z020clg400-1 beside FINN's shell" in text
    _, line = [line for line in text.splitlines() if line.startswith("PE8")]
    assert f" {shown} " in line
    assert "-38 % dsp" in line
    assert " 50,404 " in line


def test_layers_are_shown_with_fifos_in_one_line_and_a_total() -> None:
    figures = dict.fromkeys(("lut", "lut_memory", "ff", "bram18", "bram36_blocks", "dsp"), 10)
    estimate = dict.fromkeys(("finn_estimate_lut", "finn_estimate_bram18", "finn_estimate_dsp"), 1.0)
    names = {"MVAU_rtl_0": "PE8-SIMD8", "StreamingFIFO_rtl_0": None, "StreamingFIFO_rtl_1": None}
    layers = [
        {
            "name": name,
            "pe": 5 if asked else None,
            "simd": 8 if asked else None,
            "asked": asked,
            **figures,
            **estimate,
            "finn_hls_estimate_lut": 777 if asked else None,
            "finn_hls_estimate_bram18": None,
        }
        for name, asked in names.items()
    ]
    text = _show(Row(test="t", hop="resources", status=Status.PASSED, cell=f"{CELL}-PE8-SIMD8", layers=layers))
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert "PE5-SIMD8 (asked PE8-SIMD8)" in lines["MVAU_rtl_0"]
    assert "20" in lines["2 FIFOs"]
    assert "30" in lines["total"]
    assert lines["2 FIFOs"].split()[-2:] == ["-", "-"]
    assert lines["total"].split()[-2:] == ["777", "-"]
