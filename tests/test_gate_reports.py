"""What the reports say of each outcome, and that CI's readers can read them."""

import json
from dataclasses import replace
from io import StringIO
from typing import Any
from xml.etree import ElementTree

import pytest
from measured import CELL, TEST, measured, row
from rich.console import Console

from qnn.gate.reports import Outcome, Report, as_json, as_junit, as_markdown, print_report
from qnn.gate.verdict import Verdict, compare
from qnn.results import Metric, Row, Status


def report_of(old: tuple[Row, ...], new: tuple[Row, ...]) -> Report:
    before, after = measured(*old, finn="1.5.0"), measured(*new)
    return Report(old=before, new=after, changes=tuple(compare(before, after)), stale=())


def printed(report: Report) -> str:
    stream = StringIO()
    print_report(report, Console(width=200, file=stream))
    return stream.getvalue()


def junit(report: Report) -> ElementTree.Element:
    return ElementTree.fromstring(as_junit(report))


def counts(suite: ElementTree.Element) -> dict[str, str | None]:
    return {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}


def other(name: str, **others: Any) -> Row:
    return row({}, test=f"benchmarks/test_timing.py::test_{name}[{CELL}]", **others)


def test_the_json_holds_every_figure_that_was_compared() -> None:
    old: dict[str, Metric] = {"lut": 1000, "dsp": 64, "host_synthesise_s": 9.0}
    report = report_of((row(old),), (row({**old, "lut": 1100, "host_synthesise_s": 5.0}),))
    record = json.loads(as_json(report))
    assert [(one["metric"], one["verdict"]) for one in record["changes"]] == [
        ("lut", "regressed"),
        ("host_synthesise_s", "told"),
    ]
    assert [
        (one["metric"], one["old"], one["new"], one["verdict"], one["tolerance"]) for one in record["unchanged"]
    ] == [("dsp", 64, 64, "unchanged", "0")]
    assert record["figures_compared"] == 2
    assert "unchanged" not in as_markdown(report)


def test_seconds_of_the_host_are_one_line_and_no_change() -> None:
    report = report_of((row({"lut": 1}, host_s=812.25),), (row({"lut": 1}, host_s=640.0),))
    for text in (printed(report), as_markdown(report)):
        assert "seconds of this computer, less what the store held: 812.2 -> 640.0" in text
        assert "clean. 1 figures of 1 tests compared; nothing changed." in text
    assert "seconds" not in as_markdown(report_of((row({"lut": 1}),), (row({"lut": 1}, host_s=640.0),)))


def test_a_metric_that_changed_at_several_nodes_is_one_line() -> None:
    def fifos(*depths: int) -> Row:
        return row({}, layers=[{"name": f"StreamingFIFO_rtl_{k}", "fifo_depth": d} for k, d in enumerate(depths)])

    markdown = as_markdown(report_of((fifos(4, 4, 4),), (fifos(2, 64, 64),)))
    assert "| fifo_depth at StreamingFIFO_rtl_1 (and 1 more) | 4 | 64 | +1.5e+03 % | 0 | regressed |" in markdown
    assert "| fifo_depth at StreamingFIFO_rtl_0 | 4 | 2 | -50 % | 0 | improved |" in markdown


@pytest.mark.parametrize("status", [Status.FAILED, Status.SKIPPED])
def test_where_no_figure_was_compared_every_report_says_that_nothing_is_known(status: Status) -> None:
    alone = row({"lut": 1000}, status=status, reason="StoreError: the disk is full")
    report = report_of((alone,), (alone,))
    assert report.outcome is Outcome.UNKNOWN
    assert "FINN 1.5.0 -> 1.6.1: NOTHING KNOWN. 0 figures of 1 tests compared" in printed(report)
    assert as_markdown(report).startswith("### FINN 1.5.0 → 1.6.1: nothing known\n")
    record = json.loads(as_json(report))
    assert (record["outcome"], record["regressed"]) == ("nothing known", False)
    suite = junit(report)
    assert counts(suite) == {"tests": "2", "failures": "0", "errors": "1", "skipped": "1"}
    error = suite.find("testcase/error")
    assert error is not None
    assert error.get("message") == "no figure was compared, so nothing is known"


def test_junit_shows_a_test_without_evidence_as_skipped_with_the_reason() -> None:
    failed = other("fails", status=Status.FAILED, reason="ToolGap: yosys refuses mvu.sv")
    skipped = other("skips", status=Status.SKIPPED, reason="no Yosys")
    new = other("new", status=Status.ERROR, reason="StoreError")
    holds = row({"lut": 1000})
    report = report_of((holds, failed, skipped), (holds, failed, skipped, new))
    assert report.outcome is Outcome.CLEAN
    suite = junit(report)
    assert counts(suite) == {"tests": "4", "failures": "0", "errors": "0", "skipped": "3"}
    assert [one.get("message") for one in suite.iterfind("testcase/skipped")] == [
        "fails with both: ToolGap: yosys refuses mvu.sv",
        "no Yosys",
        "fails, and the old side did not run it: StoreError",
    ]


def test_junit_shows_an_accepted_regression_as_passed_and_a_test_that_no_longer_holds_as_skipped() -> None:
    other_lut, gone, fails = row({"lut": 1000}), other("gone"), other("fails")
    found = report_of((other_lut, gone, fails), (row({"lut": 2000}), replace(fails, status=Status.FAILED)))
    accepted = [replace(change, verdict=Verdict.ACCEPTED, why="known") for change in found.changes]
    suite = junit(replace(found, changes=tuple(accepted)))
    assert counts(suite) == {"tests": "3", "failures": "0", "errors": "0", "skipped": "2"}
    assert {one.get("message") for one in suite.iterfind("testcase/skipped")} == {"accepted: known"}


def test_messages_with_colours_and_control_characters_are_read_again() -> None:
    reason = "\x1b[1;31mError\x1b[0m: a\x00b\x08c \ud800 <node> & \U0001f600\n\ttail"
    report = report_of((row({"lut": 1}),), (row({}, status=Status.FAILED, reason=reason),))
    suite = junit(report)
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.text == "Error: abc  <node> & \U0001f600\n\ttail"
    assert "\nError: abc  <node> & \U0001f600\n\ttail\n" in as_markdown(report)
    assert suite.find("testcase[@classname='benchmarks.test_resources']") is not None
    assert suite.get("name") == "FINN 1.5.0 to 1.6.1"
    assert TEST.endswith(str(suite[0].get("name")))
