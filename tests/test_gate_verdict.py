"""What the gate says of each kind of change, and that it says nothing where nothing changed."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from measured import measured, row

from qnn.errors import GateError
from qnn.gate.commands import BENCHMARKS
from qnn.gate.measurement import Measurement, load, save
from qnn.gate.verdict import Change, Sense, Verdict, compare, figures, is_worse, rule_for
from qnn.reference import FOLDER
from qnn.results import Metric, Row, Status


def judged(old: dict[str, Metric], new: dict[str, Metric]) -> list[tuple[str, Verdict]]:
    return [(change.metric, change.verdict) for change in compare(measured(row(old)), measured(row(new)))]


# ------------------------------------------------------------------------------------------------------ one metric


def test_the_same_figures_are_no_change() -> None:
    same: dict[str, Metric] = {"lut": 8693, "fits": True}
    assert judged(same, dict(same)) == []
    assert judged({"throughput_images_per_s": 0.1 + 0.2}, {"throughput_images_per_s": 0.3}) == []


def test_seconds_of_the_host_are_told_where_both_sides_have_them_and_nothing_else() -> None:
    old = row({"host_synthesise_s": 532.8, "lut": 8693}, host_s=540.0)
    new = row({"host_synthesise_s": 1.0, "lut": 8693}, host_s=2.0)
    (inside, whole) = compare(measured(old), measured(new))
    assert (inside.metric, inside.verdict) == ("host_synthesise_s", Verdict.TOLD)
    assert (whole.metric, whole.old, whole.new, whole.verdict) == ("host_s", 540.0, 2.0, Verdict.TOLD)
    assert compare(measured(row({"lut": 8693})), measured(new)) == [], "a baseline has none"
    assert [figure.metric for figure in figures(old, new)] == ["lut"]


def test_every_figure_of_both_sides_has_a_verdict_the_unchanged_ones_too() -> None:
    found = figures(row({"lut": 1000, "dsp": 64, "asked": None}), row({"lut": 1100, "dsp": 64, "asked": None, "ff": 9}))
    assert [(one.metric, one.verdict, one.tolerance) for one in found] == [
        ("lut", Verdict.REGRESSED, "2 % or 4"),
        ("dsp", Verdict.UNCHANGED, "0"),
    ]


def test_a_test_that_broke_off_on_a_side_has_no_compared_figures() -> None:
    assert figures(row({"lut": 1000}), row({"lut": 1000}, status=Status.FAILED)) == []


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
        ("longest_path_nodes", "MVAU_rtl_0", "MVAU_rtl_1", Verdict.TOLD),
        ("paper_best_top1_percent", 88.0, 87.0, Verdict.TOLD),
        ("edited_files", "a.sv", "a.sv, b.sv", Verdict.TOLD),
        ("weight_type", "INT20", "INT17", Verdict.TOLD),
        ("a_metric_that_nobody_knows", 1, 2, Verdict.UNJUDGED),
    ],
)
def test_a_metric_is_judged_by_its_rule(metric: str, old: Metric, new: Metric, verdict: Verdict) -> None:
    assert judged({metric: old}, {metric: new}) == [(metric, verdict)]


def baseline_values() -> Iterator[tuple[str, Metric]]:
    baseline = load(next((FOLDER.parent / "baselines").glob("*.json")))
    for one in baseline.rows:
        for part in (one.metrics, *one.layers):
            yield from part.items()


def test_every_metric_of_the_shipped_baseline_has_a_rule_that_fits_its_values() -> None:
    values = list(baseline_values())
    assert len(dict(values)) > 50
    assert [name for name in sorted(dict(values)) if rule_for(name) is None] == []
    ordered = {name for name, value in values if isinstance(value, str)}
    assert [name for name in sorted(ordered) if not told_or_any(name)] == [], "a text is neither more nor less"


def told_or_any(metric: str) -> bool:
    rule = rule_for(metric)
    return rule is not None and rule.sense in (Sense.TOLD, Sense.ANY_IS_WORSE)


def test_every_metric_that_the_gates_benchmarks_record_by_name_has_a_rule() -> None:
    folder = Path(__file__).parents[1] / "benchmarks"
    trees = [ast.parse((folder / f"test_{name}.py").read_text()) for name in BENCHMARKS]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    recorded = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "record"]
    names = {keyword.arg for call in recorded for keyword in call.keywords if keyword.arg} - {"layers"}
    assert len(names) > 50
    assert [name for name in sorted(names) if rule_for(name) is None] == []


@pytest.mark.parametrize(
    ("metric", "accepted", "new", "worse"),
    [
        ("lut", 1100, 1100, False),
        ("lut", 1100, 1101, True),
        ("images_equal", 9_999, 9_998, True),
        ("throughput_images_per_s", 97654.1, 97654.05659833814, False),  # as the tables show it
        ("throughput_images_per_s", 97654.1, 97650.0, True),
        ("status", "failed", "failed", False),
        ("status", "failed", "error", True),
        ("op_type", "MVAU_hls", "MVAU_rtl", True),
    ],
)
def test_a_figure_is_worse_than_an_accepted_one(metric: str, accepted: Metric, new: Metric, worse: bool) -> None:
    assert is_worse(metric, accepted, new) is worse


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


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (Status.FAILED, Status.PASSED, Verdict.IMPROVED),
        (Status.ERROR, Status.XFAILED, Verdict.IMPROVED),
        (Status.FAILED, Status.ERROR, Verdict.TOLD),
        (Status.FAILED, Status.SKIPPED, Verdict.TOLD),
        (Status.ERROR, Status.XPASSED, Verdict.TOLD),
        (Status.SKIPPED, Status.FAILED, Verdict.REGRESSED),
    ],
)
def test_only_a_test_that_holds_now_is_better_than_a_failed_one(old: Status, new: Status, verdict: Verdict) -> None:
    assert one_change([row({}, status=old)], [row({}, status=new)]).verdict is verdict


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


FIFOS = tuple({"name": f"StreamingFIFO_rtl_{k}", "fifo_depth": 4} for k in range(5))


def test_a_nodes_improvement_hides_no_other_nodes_regression() -> None:
    depths = (2, 64, 4, 2, 128)
    after = tuple({**fifo, "fifo_depth": depth} for fifo, depth in zip(FIFOS, depths, strict=True))
    better, worse = compare(measured(row({}, layers=FIFOS)), measured(row({}, layers=after)))
    assert (better.node, better.old, better.new, better.verdict) == ("StreamingFIFO_rtl_0", 4, 2, Verdict.IMPROVED)
    assert better.also == (("StreamingFIFO_rtl_3", 4, 2),)
    assert (worse.node, worse.old, worse.new, worse.verdict) == ("StreamingFIFO_rtl_1", 4, 64, Verdict.REGRESSED)
    assert worse.also == (("StreamingFIFO_rtl_4", 4, 128),)


def test_a_regression_of_the_whole_names_a_node_that_got_worse() -> None:
    first, second, third = LAYERS
    changed = with_layers(4000, {**first, "lut": 900}, {**second, "lut": 2400}, third)
    change = one_change([with_layers(3660, *LAYERS)], [changed])
    assert (change.node, change.verdict) == ("MVAU_rtl_0", Verdict.REGRESSED)


def test_an_improvement_of_the_whole_names_a_node_that_got_better() -> None:
    first, second, third = LAYERS
    changed = with_layers(3300, {**first, "lut": 1100}, {**second, "lut": 1500}, third)
    change = one_change([with_layers(3660, *LAYERS)], [changed])
    assert (change.node, change.verdict) == ("MVAU_rtl_0", Verdict.IMPROVED)


def test_figures_of_nodes_are_told_where_the_sum_is_the_same() -> None:
    first, second, third = LAYERS
    changed = with_layers(3660, first, {**second, "lut": 1300}, {**third, "lut": 1400})
    change = one_change([with_layers(3660, *LAYERS)], [changed])
    assert (change.metric, change.node, change.verdict) == ("lut", "MVAU_rtl_0", Verdict.TOLD)
    assert change.also == (("MVAU_rtl_1", 700, 1400),)


def stream(*op_types: str) -> tuple[dict[str, Metric], ...]:
    """Nodes named as FINN does: counted by kind and style."""
    return tuple(
        {"name": f"{op_type}_{op_types[:k].count(op_type)}", "op_type": op_type} for k, op_type in enumerate(op_types)
    )


FIFO, THRESHOLDING, MVAU = "StreamingFIFO_rtl", "Thresholding_rtl", "MVAU_rtl"
NODES = (FIFO, THRESHOLDING, FIFO, MVAU, FIFO, THRESHOLDING, FIFO, MVAU, FIFO)


def of_nodes(*op_types: str, **others: Any) -> list[Change]:
    """What changes from NODES, beside the numbers in the nodes' names, which are told."""
    new = row({}, layers=stream(*op_types), **others)
    changes = compare(measured(row({}, layers=stream(*NODES))), measured(new))
    assert all(change.verdict is Verdict.TOLD for change in changes if change.metric == "name")
    return [change for change in changes if change.metric != "name"]


def test_a_node_of_another_implementation_style_is_named_as_such() -> None:
    (change,) = of_nodes(*NODES[:3], "MVAU_hls", *NODES[4:])
    assert (change.metric, change.old, change.new) == ("implementation_style", "MVAU_rtl_0", "MVAU_hls_0")
    assert (change.node, change.also, change.verdict) == ("MVAU_rtl_0", (), Verdict.REGRESSED)


def test_an_implementation_style_that_breaks_the_test_is_named_too() -> None:
    failed, style = of_nodes(*NODES[:3], "MVAU_hls", *NODES[4:], status=Status.FAILED, reason="no RTL")
    assert (failed.metric, failed.why, failed.node) == ("status", "no RTL", "MVAU_rtl_0")
    assert (style.metric, style.verdict) == ("implementation_style", Verdict.REGRESSED)


def test_a_node_that_vanished_or_came_is_named() -> None:
    (change,) = of_nodes(FIFO, *NODES[2:])
    assert (change.metric, change.old, change.new) == ("vanished_node", "Thresholding_rtl_0", "nothing")
    assert (change.node, change.verdict) == ("Thresholding_rtl_0", Verdict.REGRESSED)
    (change,) = of_nodes(*NODES[:-1])
    assert (change.metric, change.old) == ("vanished_node", "StreamingFIFO_rtl_4")
    (change,) = of_nodes(*NODES[:2], "StreamingDataWidthConverter_rtl", *NODES[2:])
    assert (change.metric, change.new) == ("new_node", "StreamingDataWidthConverter_rtl_0")
    assert change.verdict is Verdict.REGRESSED


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
