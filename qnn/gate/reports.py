"""What the gate found: a table for people, JUnit XML and Markdown for CI, JSON for machines."""

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass
from enum import StrEnum
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Column, Table

from qnn.gate.expected import ExpectedChange
from qnn.gate.measurement import Measurement, is_of_the_host
from qnn.gate.verdict import BAD, Change, Verdict, figures
from qnn.results import Metric, Row, Status

__all__ = ["Outcome", "Report", "as_json", "as_junit", "as_markdown", "print_report"]

_STYLES = {
    Verdict.REGRESSED: "bold red",
    Verdict.TOOL_GAP: "bold magenta",
    Verdict.UNJUDGED: "bold yellow",
    Verdict.ACCEPTED: "yellow",
    Verdict.IMPROVED: "green",
}
WHY_SHOWN = 300
"""Characters of a failing test's message in the tables; the JSON holds it whole."""
NOTHING_KNOWN = "no figure was compared, so nothing is known"


class Outcome(StrEnum):
    """What a gate comes to."""

    CLEAN = "clean"
    REGRESSED = "regressed"
    UNKNOWN = "nothing known"
    """No figure was compared: every test failed with both, or was skipped."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Two measurements and what changed."""

    old: Measurement
    new: Measurement
    changes: tuple[Change, ...]
    stale: tuple[ExpectedChange, ...]
    """Accepted changes that are no longer there."""

    @property
    def outcome(self) -> Outcome:
        """Whether the gate opens, stays shut, or cannot tell."""
        if self.stale or any(change.verdict.fails for change in self.changes):
            return Outcome.REGRESSED
        return Outcome.CLEAN if self.figures else Outcome.UNKNOWN

    @property
    def judged(self) -> list[Change]:
        """The changes that are more than told, the failing ones first."""
        told = (Verdict.TOLD, Verdict.WITHIN, Verdict.UNCHANGED)
        order = list(Verdict)
        return sorted((c for c in self.changes if c.verdict not in told), key=lambda c: order.index(c.verdict))

    @property
    def _pairs(self) -> list[tuple[Row, Row]]:
        after = self.new.by_test
        return [(row, after[row.test]) for row in self.old.rows if row.test in after]

    @property
    def figures(self) -> list[Change]:
        """Each figure of a whole test that was compared, the unchanged ones too."""
        return [figure for old, new in self._pairs for figure in figures(old, new)]

    @property
    def host_s(self) -> tuple[float, float] | None:
        """Seconds of this computer, old and new, of the tests that both sides ran here."""
        pairs = [(o.host_s, n.host_s) for o, n in self._pairs if o.host_s is not None and n.host_s is not None]
        return (sum(old for old, _ in pairs), sum(new for _, new in pairs)) if pairs else None

    @property
    def broken(self) -> list[Row]:
        """The tests that hold with neither side, as the new one has them: no change, and no evidence."""
        return [new for old, new in self._pairs if old.status in BAD and new.status in BAD]

    @property
    def summary(self) -> str:
        """One sentence."""
        counts = Counter(change.verdict for change in self.changes if not is_of_the_host(change.metric))
        counted = ", ".join(f"{count} {verdict}" for verdict in Verdict if (count := counts[verdict]))
        stale = f"; {len(self.stale)} accepted changes no longer apply" if self.stale else ""
        broken = f"; {len(self.broken)} tests fail with both" if self.broken else ""
        return (
            f"FINN {self.old.finn} -> {self.new.finn}: {self._outcome}. {len(self.figures):,} "
            f"figures of {len(self.new.rows)} tests compared; {counted or 'nothing changed'}{broken}{stale}."
        )

    @property
    def _outcome(self) -> str:
        return str(self.outcome) if self.outcome is Outcome.CLEAN else self.outcome.upper()

    @property
    def remarks(self) -> list[str]:
        """What informs alone: versions that differ, seconds of this computer."""
        lines = [f"{name}: {old} -> {new}" for name, (old, new) in self.tools.items()]
        if self.host_s is not None:
            lines.append("seconds of this computer, less what the store held: {:,.1f} -> {:,.1f}".format(*self.host_s))
        return lines

    @property
    def tools(self) -> dict[str, tuple[str, str]]:
        """{tool: (old version, new version)} of those that differ."""
        names = dict.fromkeys([*self.old.tools, *self.new.tools])
        pairs = {name: (self.old.tools.get(name, "-"), self.new.tools.get(name, "-")) for name in names}
        # A side that lays nothing over the environment says nothing of that package's version.
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and "-" not in pair}


def _figure(value: Metric) -> str:
    if isinstance(value, float):
        return f"{value:,.6g}"
    return "-" if value is None else f"{value:,}" if type(value) is int else str(value)


def _short(change: Change) -> str:
    """The test's name in words, with what parameters it has beside the cell."""
    name, _, parameters = change.test.split("::", 1)[-1].removesuffix("]").partition("[")
    others = parameters.replace(change.cell, "").strip("-")
    return name.removeprefix("test_").replace("_", " ") + (f" ({others})" if others else "")


def _columns(change: Change) -> list[str]:
    more = f" (and {len(change.also)} more)" if change.also else ""
    node = f" at {change.node}{more}" if change.node else ""
    return [
        change.cell,
        _short(change),
        f"{change.metric}{node}",
        _figure(change.old),
        _figure(change.new),
        change.change,
        change.tolerance,
        str(change.verdict),
    ]


_HEADER = ("cell", "test", "metric", "old", "new", "change", "tolerance", "verdict")


def print_report(report: Report, console: Console) -> None:
    """The changes that count, and a sentence; what is told alone stands in the JSON."""
    if report.judged:
        columns = [Column(name, overflow="fold") for name in _HEADER]
        table = Table(*columns, title=f"FINN {report.old.finn} -> {report.new.finn}")
        for change in report.judged:
            table.add_row(*_columns(change), style=_STYLES.get(change.verdict))
        console.print(table)
    for change in report.judged:
        if change.why:
            console.print(f"{change.cell}, {_short(change)}: {change.why[:WHY_SHOWN]}", highlight=False, markup=False)
    for row in report.broken:
        console.print(f"fails with both: {row.test}: {(row.reason or '')[:WHY_SHOWN]}", highlight=False, markup=False)
    for entry in report.stale:
        console.print(f"no longer so, take it out of expected-changes.toml: {entry}", style="bold red", markup=False)
    for remark in report.remarks:
        console.print(remark, highlight=False, markup=False)
    style = {Outcome.CLEAN: "bold green", Outcome.REGRESSED: "bold red"}.get(report.outcome, "bold yellow")
    console.print(report.summary, style=style, highlight=False, markup=False)


_COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_NO_TEXT = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _plain(text: str) -> str:
    """Without a terminal's colours and without what no XML may hold: messages of tools have both."""
    return _NO_TEXT.sub("", _COLOURS.sub("", text))


def as_markdown(report: Report) -> str:
    """A summary for a pull request."""
    lines = [f"### FINN {report.old.finn} → {report.new.finn}: {report.outcome}", ""]
    lines += [report.summary, ""]
    if report.judged:
        lines += [f"| {' | '.join(_HEADER)} |", f"|{'---|' * len(_HEADER)}"]
        for change in report.judged:
            cells = [text.replace("|", "\\|").replace("\n", " ") for text in _columns(change)]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    lines += [f"- fails with both: `{row.test}`" for row in report.broken]
    lines += [f"- accepted, but no longer so: {entry}" for entry in report.stale]
    lines += [f"- {remark}" for remark in report.remarks]
    for change in report.judged:
        if change.why:
            summary = f"{change.cell}, {_short(change)}"
            text = f"<details><summary>{summary}</summary>\n\n```\n{change.why[:4000]}\n```\n</details>"
            lines += ["", text]
    return _plain("\n".join(lines) + "\n")


def as_json(report: Report) -> str:
    """Everything: changes that are told alone too, and the figures that did not change."""
    same = [figure for figure in report.figures if figure.verdict is Verdict.UNCHANGED]
    record = {
        "outcome": str(report.outcome),
        "regressed": report.outcome is Outcome.REGRESSED,
        "summary": report.summary,
        "old": {"finn": report.old.finn, "tools": dict(report.old.tools)},
        "new": {"finn": report.new.finn, "tools": dict(report.new.tools)},
        "selection": str(report.new.selection),
        "figures_compared": len(report.figures),
        "broken": [row.test for row in report.broken],
        "changes": [{**asdict(change), "change": change.change} for change in report.changes],
        "unchanged": [{**asdict(figure), "change": figure.change} for figure in same],
        "stale": [asdict(entry) for entry in report.stale],
    }
    return json.dumps(record, indent=1) + "\n"


def _no_evidence(report: Report, row: Row, changes: list[Change]) -> str | None:
    """Why a test that fails nothing shows nothing either."""
    if row.status is Status.SKIPPED:
        return row.reason or "skipped"
    if row.status not in BAD and row.test in report.new.by_test:
        return None
    accepted = [f"accepted: {change.why}" for change in changes if change.verdict is Verdict.ACCEPTED]
    both = "fails with both" if row.test in report.old.by_test else "fails, and the old side did not run it"
    return (accepted or [f"{both}: {row.reason or row.status}"])[0]


def as_junit(report: Report) -> str:
    """JUnit XML: a test case for each test of the benchmarks, failed where one of its changes is a regression.

    One that shows nothing, being skipped or failing with both, is skipped, with the reason. Where nothing was compared
    at all, that is an error.
    """
    by_test: dict[str, list[Change]] = {}
    for change in report.changes:
        by_test.setdefault(change.test, []).append(change)
    name = f"FINN {report.old.finn} to {report.new.finn}"
    suite = ElementTree.Element("testsuite", name=name)

    def case(classname: str, name: str, outcome: str | None = None, **attributes: str) -> ElementTree.Element:
        element = ElementTree.SubElement(suite, "testcase", classname=classname, name=name)
        return element if outcome is None else ElementTree.SubElement(element, outcome, attributes)

    for test, row in {**report.old.by_test, **report.new.by_test}.items():
        module, _, name = test.partition("::")
        place = (module.removesuffix(".py").replace("/", "."), name)
        changes = by_test.get(test, [])
        bad = [change for change in changes if change.verdict.fails]
        if bad:
            first = "; ".join(" ".join(filter(None, _columns(change)[2:])) for change in bad)
            failure = case(*place, "failure", message=first, type=str(bad[0].verdict))
            failure.text = "\n".join(change.why for change in bad if change.why)
        elif reason := _no_evidence(report, row, changes):
            case(*place, "skipped", message=reason)
        else:
            case(*place)
    for entry in report.stale:
        case("expected-changes", str(entry), "failure", message="it no longer applies", type="stale")
    if report.outcome is Outcome.UNKNOWN:
        case("gate", "figures are compared", "error", message=NOTHING_KNOWN, type=str(report.outcome))
    counted = {"tests": "testcase", "failures": "*/failure", "errors": "*/error", "skipped": "*/skipped"}
    suite.attrib |= {name: str(len(suite.findall(path))) for name, path in counted.items()}
    ElementTree.indent(suite)
    return _plain(ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n")
