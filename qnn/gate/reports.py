"""What the gate found: a table for people, JUnit XML and Markdown for CI, JSON for machines."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Column, Table

from qnn.gate.expected import ExpectedChange
from qnn.gate.measurement import Measurement
from qnn.gate.verdict import BAD, Change, Verdict
from qnn.results import Metric, Row

__all__ = ["Report", "as_json", "as_junit", "as_markdown", "print_report"]

_STYLES = {
    Verdict.REGRESSED: "bold red",
    Verdict.TOOL_GAP: "bold magenta",
    Verdict.UNJUDGED: "bold yellow",
    Verdict.ACCEPTED: "yellow",
    Verdict.IMPROVED: "green",
}
WHY_SHOWN = 300
"""Characters of a failing test's message in the tables; the JSON holds it whole."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Two measurements and what changed."""

    old: Measurement
    new: Measurement
    changes: tuple[Change, ...]
    stale: tuple[ExpectedChange, ...]
    """Accepted changes that are no longer there."""

    @property
    def regressed(self) -> bool:
        """Whether the gate stays shut."""
        return bool(self.stale) or any(change.verdict.fails for change in self.changes)

    @property
    def judged(self) -> list[Change]:
        """The changes that are more than told, the failing ones first."""
        told = (Verdict.TOLD, Verdict.WITHIN)
        order = list(Verdict)
        return sorted((c for c in self.changes if c.verdict not in told), key=lambda c: order.index(c.verdict))

    @property
    def _pairs(self) -> list[tuple[Row, Row]]:
        after = self.new.by_test
        return [(row, after[row.test]) for row in self.old.rows if row.test in after]

    @property
    def compared(self) -> int:
        """Metrics that both sides have."""
        return sum(len(set(old.metrics) & set(new.metrics)) for old, new in self._pairs)

    @property
    def broken(self) -> list[Row]:
        """The tests that hold with neither side, as the new one has them: no change, and no evidence."""
        return [new for old, new in self._pairs if old.status in BAD and new.status in BAD]

    @property
    def summary(self) -> str:
        """One sentence."""
        counts = Counter(change.verdict for change in self.changes)
        counted = ", ".join(f"{count} {verdict}" for verdict in Verdict if (count := counts[verdict]))
        stale = f"; {len(self.stale)} accepted changes no longer apply" if self.stale else ""
        broken = f"; {len(self.broken)} tests fail with both" if self.broken else ""
        return (
            f"FINN {self.old.finn} -> {self.new.finn}: {'REGRESSED' if self.regressed else 'clean'}. {self.compared:,} "
            f"figures of {len(self.new.rows)} tests compared; {counted or 'nothing changed'}{broken}{stale}."
        )

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
    node = f" at {change.node}" if change.node else ""
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
    for name, (old, new) in report.tools.items():
        console.print(f"{name}: {old} -> {new}", highlight=False)
    console.print(report.summary, style="bold red" if report.regressed else "bold green", highlight=False, markup=False)


def as_markdown(report: Report) -> str:
    """A summary for a pull request."""
    lines = [f"### FINN {report.old.finn} → {report.new.finn}: {'regressed' if report.regressed else 'clean'}", ""]
    lines += [report.summary, ""]
    if report.judged:
        lines += [f"| {' | '.join(_HEADER)} |", f"|{'---|' * len(_HEADER)}"]
        for change in report.judged:
            cells = [text.replace("|", "\\|").replace("\n", " ") for text in _columns(change)]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    lines += [f"- fails with both: `{row.test}`" for row in report.broken]
    lines += [f"- accepted, but no longer so: {entry}" for entry in report.stale]
    lines += [f"- {name}: {old} → {new}" for name, (old, new) in report.tools.items()]
    for change in report.judged:
        if change.why:
            summary = f"{change.cell}, {_short(change)}"
            text = f"<details><summary>{summary}</summary>\n\n```\n{change.why[:4000]}\n```\n</details>"
            lines += ["", text]
    return "\n".join(lines) + "\n"


def as_json(report: Report) -> str:
    """Everything, changes that are told alone too."""
    record = {
        "regressed": report.regressed,
        "summary": report.summary,
        "old": {"finn": report.old.finn, "tools": dict(report.old.tools)},
        "new": {"finn": report.new.finn, "tools": dict(report.new.tools)},
        "selection": str(report.new.selection),
        "figures_compared": report.compared,
        "broken": [row.test for row in report.broken],
        "changes": [{**asdict(change), "change": change.change} for change in report.changes],
        "stale": [asdict(entry) for entry in report.stale],
    }
    return json.dumps(record, indent=1) + "\n"


def as_junit(report: Report) -> str:
    """JUnit XML: a test case for each test of the benchmarks, failed where one of its changes is a regression."""
    by_test: dict[str, list[Change]] = {}
    for change in report.changes:
        by_test.setdefault(change.test, []).append(change)
    rows = {**report.old.by_test, **report.new.by_test}
    cases, failures = [], 0
    for test in rows:
        module, _, name = test.partition("::")
        case = ElementTree.Element("testcase", classname=module.removesuffix(".py").replace("/", "."), name=name)
        bad = [change for change in by_test.get(test, ()) if change.verdict.fails]
        if bad:
            failures += 1
            first = "; ".join(" ".join(filter(None, _columns(change)[2:])) for change in bad)
            failure = ElementTree.SubElement(case, "failure", message=first, type=str(bad[0].verdict))
            failure.text = "\n".join(change.why for change in bad if change.why)
        cases.append(case)
    for entry in report.stale:
        failures += 1
        case = ElementTree.Element("testcase", classname="expected-changes", name=str(entry))
        ElementTree.SubElement(case, "failure", message="it no longer applies", type="stale")
        cases.append(case)
    name = f"FINN {report.old.finn} to {report.new.finn}"
    suite = ElementTree.Element("testsuite", name=name, tests=str(len(cases)), failures=str(failures), errors="0")
    suite.extend(cases)
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
