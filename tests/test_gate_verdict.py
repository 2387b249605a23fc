"""What the gate says of each kind of change, and that it says nothing where nothing changed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qnn.errors import GateError
from qnn.gate.expected import ExpectedChange, accept, read
from qnn.gate.measurement import Measurement, Selection, load, save
from qnn.gate.verdict import Change, Verdict, compare, rule_for
from qnn.reference import FOLDER
from qnn.results import Evidence, Metric, Row, Status

CELL = "tfc-fashion_mnist-A3W3-PE8-SIMD8"
TEST = f"benchmarks/test_resources.py::test_accelerator_fits_the_part[{CELL}]"


def row(metrics: dict[str, Metric], **others: Any) -> Row:
    fields: dict[str, Any] = {"test": TEST, "hop": "resources", "status": Status.PASSED, "cell": CELL}
    return Row(**{**fields, "evidence": Evidence.SYNTHESIS, "metrics": metrics, **others})


def measured(*rows: Row, finn: str = "1.6.1") -> Measurement:
    selection = Selection(expression="A3W3", options=(), benchmarks=("resources",))
    return Measurement(finn=finn, suite="0.1.0", tools={"finn": finn}, selection=selection, rows=rows)


def judged(old: dict[str, Metric], new: dict[str, Metric]) -> list[tuple[str, Verdict]]:
    return [(change.metric, change.verdict) for change in compare(measured(row(old)), measured(row(new)))]


# ------------------------------------------------------------------------------------------------------ one metric


def test_the_same_figures_are_no_change() -> None:
    same: dict[str, Metric] = {"lut": 8693, "fits": True, "host_synthesise_s": 532.8}
    assert judged(same, {**same, "host_synthesise_s": 1.0}) == []
    assert judged({"throughput_images_per_s": 0.1 + 0.2}, {"throughput_images_per_s": 0.3}) == []


@pytest.mark.parametrize(
    ("metric", "old", "new", "verdict"),
    [
        # not at all
        ("images_equal", 10_000, 9_999, Verdict.REGRESSED),
        ("rtl_top1_percent", 88.04, 88.03, Verdict.REGRESSED),
        ("rtl_top1_percent", 88.04, 88.05, Verdict.IMPROVED),
        ("thresholds_off", 0, 1, Verdict.REGRESSED),
        ("images", 10_000, 1_000, Verdict.REGRESSED),
        # exactly
        ("initiation_interval_cycles", 1024, 1025, Verdict.REGRESSED),
        ("initiation_interval_cycles", 1024, 1023, Verdict.IMPROVED),
        ("latency_cycles", 1248, 1249, Verdict.REGRESSED),
        ("throughput_images_per_s", 97654.1, 97653.9, Verdict.REGRESSED),
        # with a tolerance, in one direction
        ("lut", 10_000, 10_200, Verdict.WITHIN),
        ("lut", 10_000, 10_201, Verdict.REGRESSED),
        ("lut", 10_000, 9_000, Verdict.IMPROVED),
        ("lut", 10, 14, Verdict.WITHIN),
        ("lut", 10, 15, Verdict.REGRESSED),
        ("dsp", 64, 65, Verdict.REGRESSED),
        ("longest_path_ns", 3.0, 3.14, Verdict.WITHIN),
        ("longest_path_ns", 3.0, 3.16, Verdict.REGRESSED),
        ("fits", True, False, Verdict.REGRESSED),
        ("fits", False, True, Verdict.IMPROVED),
        # of another kind, or gone
        ("applied_foldings", "8x8 8x8", "8x8 4x8", Verdict.REGRESSED),
        ("lut", 8693, None, Verdict.REGRESSED),
        ("latency_cycles", None, 1248, Verdict.TOLD),
        # not judged
        ("finn_estimate_lut", 3664.0, 9000.0, Verdict.TOLD),
        ("edited_files", "a.sv", "a.sv, b.sv", Verdict.TOLD),
        ("weight_type", "INT20", "INT17", Verdict.TOLD),
        ("a_metric_that_nobody_knows", 1, 2, Verdict.UNJUDGED),
    ],
)
def test_a_metric_is_judged_by_its_rule(metric: str, old: Metric, new: Metric, verdict: Verdict) -> None:
    assert judged({metric: old}, {metric: new}) == [(metric, verdict)]


def test_every_metric_of_the_shipped_baseline_has_a_rule() -> None:
    baseline = load(next((FOLDER.parent / "baselines").glob("*.json")))
    names = {
        name for one in baseline.rows for name in [*one.metrics, *(name for layer in one.layers for name in layer)]
    }
    assert len(names) > 50
    assert [name for name in sorted(names) if rule_for(name) is None] == []


# ------------------------------------------------------------------------------------------------ tests and nodes


def one_change(old: Sequence[Row], new: Sequence[Row]) -> Change:
    (change,) = compare(measured(*old), measured(*new))
    return change


LAYERS = (
    {"name": "Thresholding_rtl_0", "op_type": "Thresholding_rtl", "lut": 960},
    {"name": "MVAU_rtl_0", "op_type": "MVAU_rtl", "lut": 2000},
    {"name": "MVAU_rtl_1", "op_type": "MVAU_rtl", "lut": 700},
)


def with_layers(lut: int, *layers: dict[str, Any]) -> Row:
    return row({"lut": lut}, layers=layers)


def test_a_test_that_newly_fails_is_a_regression_with_its_message() -> None:
    failed = row({}, status=Status.FAILED, reason="EquivalenceError: RTL: 3 of 10000 images differ")
    change = one_change([row({"images_equal": 10_000})], [failed])
    assert (change.metric, change.old, change.new) == ("status", "passed", "failed")
    assert change.verdict is Verdict.REGRESSED
    assert change.why == "EquivalenceError: RTL: 3 of 10000 images differ"


def test_a_file_that_an_open_tool_newly_refuses_is_a_tool_gap() -> None:
    refused = row({}, status=Status.ERROR, reason="qnn.errors.ToolGap: yosys refuses rtllib/mvu/mvu.sv of finn-plus 9")
    change = one_change([row({})], [refused])
    assert change.verdict is Verdict.TOOL_GAP
    assert change.verdict.fails


def test_a_test_that_no_longer_fails_is_an_improvement() -> None:
    now = with_layers(3660, *LAYERS)
    assert one_change([row({}, status=Status.ERROR)], [now]).verdict is Verdict.IMPROVED


def test_a_test_that_is_no_longer_there_or_skipped_is_a_regression() -> None:
    other = row({}, test="benchmarks/test_timing.py::test_it[A3W3]")
    assert one_change([row({}), other], [row({})]).verdict is Verdict.REGRESSED
    assert one_change([row({})], [row({}, status=Status.SKIPPED, reason="no Yosys")]).verdict is Verdict.REGRESSED
    assert one_change([row({})], [row({}), other]).verdict is Verdict.TOLD


def test_the_first_node_that_changed_is_named() -> None:
    first, second, third = LAYERS
    changed = with_layers(4360, first, {**second, "lut": 2500}, {**third, "lut": 900})
    change = one_change([with_layers(3660, *LAYERS)], [changed])
    assert (change.metric, change.node, change.verdict) == ("lut", "MVAU_rtl_0", Verdict.REGRESSED)
    assert change.change == "+19.1 %"


def test_a_regression_of_the_whole_accelerator_has_the_first_node_of_which_something_changed() -> None:
    latency = {"test": "benchmarks/test_throughput.py::test_throughput[A3W3]", "hop": "throughput"}
    first, *others = LAYERS
    before = [row({"latency_cycles": 1239}, **latency), with_layers(3660, *LAYERS)]
    after = [row({"latency_cycles": 1248}, **latency), with_layers(3650, {**first, "lut": 950}, *others)]
    slower, smaller = compare(measured(*before), measured(*after))
    assert (slower.metric, slower.node, slower.verdict) == ("latency_cycles", "Thresholding_rtl_0", Verdict.REGRESSED)
    assert smaller.verdict is Verdict.IMPROVED


def test_a_node_of_another_implementation_style_is_named() -> None:
    first, second, third = LAYERS
    other = with_layers(3660, first, {**second, "op_type": "MVAU_hls"}, third)
    change = one_change([with_layers(3660, *LAYERS)], [other])
    assert (change.metric, change.old, change.new) == ("op_type", "MVAU_rtl", "MVAU_hls")
    assert (change.node, change.verdict) == ("MVAU_rtl_0", Verdict.REGRESSED)


def test_a_node_that_vanished_is_named() -> None:
    change = one_change([with_layers(3660, *LAYERS)], [with_layers(3660, LAYERS[0], LAYERS[2])])
    assert (change.old, change.new, change.verdict) == ("MVAU_rtl_0", "MVAU_rtl_1", Verdict.REGRESSED)
    change = one_change([with_layers(3660, *LAYERS)], [with_layers(3660, *LAYERS[:2])])
    assert (change.old, change.new) == ("MVAU_rtl_1", "nothing more")


# ----------------------------------------------------------------------------------------------- accepted changes

ENTRY = ExpectedChange(release="1.6.1", metric="lut", cell="A3W3", reason="a register more")


def regressions(*metrics: str) -> list[Change]:
    return compare(measured(row(dict.fromkeys(metrics, 1000))), measured(row(dict.fromkeys(metrics, 2000))))


def accepted(
    entries: list[ExpectedChange], old: str = "1.5.0", new: str = "1.6.1"
) -> tuple[list[Verdict], list[ExpectedChange]]:
    changes, stale = accept(regressions("lut", "dsp"), entries, old=old, new=new, cells=[CELL])
    return [change.verdict for change in changes], stale


def test_an_accepted_regression_no_longer_fails_and_others_do() -> None:
    assert accepted([ENTRY]) == ([Verdict.ACCEPTED, Verdict.REGRESSED], [])


def test_a_change_that_came_on_the_way_and_one_of_a_checkout_are_accepted() -> None:
    mixed = [Verdict.ACCEPTED, Verdict.REGRESSED]
    assert accepted([replace(ENTRY, release="1.6.0")]) == (mixed, [])
    assert accepted([replace(ENTRY, release="0+0123456789ab")], new="0+0123456789ab") == (mixed, [])


def test_an_entry_that_fits_nothing_is_stale() -> None:
    gone = replace(ENTRY, metric="ff")
    assert accepted([ENTRY, gone]) == ([Verdict.ACCEPTED, Verdict.REGRESSED], [gone])


def test_entries_of_other_releases_and_of_cells_that_were_not_measured_are_left_alone() -> None:
    both = [Verdict.REGRESSED, Verdict.REGRESSED]
    assert accepted([ENTRY], new="1.6.0") == (both, [])
    assert accepted([ENTRY], old="1.6.1", new="1.7.0") == (both, [])
    assert accepted([ENTRY], old="1.6.1", new="0+0123456789ab") == (both, [])
    assert accepted([replace(ENTRY, cell="A8W8")]) == (both, [])


def test_the_file_of_accepted_changes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "expected-changes.toml"
    assert read(path) == ()
    path.write_text('[[change]]\nrelease = "1.6.1"\nmetric = "lut"\ncell = "A3W3"\nreason = "a register more"\n')
    assert read(path) == (ENTRY,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[change", "is no TOML"),
        ('[[change]]\nrelease = "1.6.1"\nmetric = "lut"\n', "change 1: it takes release, metric, reason and cell"),
        ('[[change]]\nrelease = "1.6.1"\nmetric = "lut"\nreason = ""\n', "change 1: every field is a text"),
        ('[[change]]\nrelease = 1.6\nmetric = "lut"\nreason = "x"\n', "change 1: every field is a text"),
    ],
)
def test_a_damaged_file_of_accepted_changes_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "expected-changes.toml"
    path.write_text(text)
    with pytest.raises(GateError, match=message):
        read(path)


# ------------------------------------------------------------------------------------------------------ baselines


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> Measurement:
    monkeypatch.setattr("qnn.gate.measurement.suite_version", lambda: "0.1.0")
    return measured(row({"lut": 1000, "host_synthesise_s": 5.0}, host_s=6.0, layers=LAYERS))


def test_a_baseline_is_read_as_it_was_written_but_for_what_the_host_did(whole: Measurement, tmp_path: Path) -> None:
    save(whole, tmp_path / "baseline.json")
    again = load(tmp_path / "baseline.json")
    assert compare(whole, again) == compare(again, whole) == []
    assert again.rows[0].metrics == {"lut": 1000}
    assert again.rows[0].host_s is None
    assert again.selection == whole.selection


def test_a_baseline_of_another_suite_is_refused(whole: Measurement, tmp_path: Path) -> None:
    save(replace(whole, suite="0.0.9"), tmp_path / "baseline.json")
    with pytest.raises(GateError, match=r"version 0\.0\.9 of the suite .* this is 0\.1\.0"):
        load(tmp_path / "baseline.json")


def test_a_baseline_that_is_missing_none_or_damaged_is_told(whole: Measurement, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    with pytest.raises(GateError, match="cannot be read: No such file"):
        load(path)
    for text in ("{", "[]", "{}"):
        path.write_text(text)
        with pytest.raises(GateError, match="is no baseline"):
            load(path)
    save(whole, path)
    path.write_text(path.read_text().replace('"passed"', '"perhaps"'))
    with pytest.raises(GateError, match=r"is a damaged baseline \('perhaps' is not a valid Status"):
        load(path)
