"""The gate at work: measure two FINNs, compare them, tell a person and write the reports.

Exit status: 0 where nothing regressed, 1 where something did, 2 where it could not be run.
"""

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path

from rich.console import Console

from qnn.errors import FinnUnavailable, GateError, QnnError
from qnn.files import write_atomically
from qnn.gate import environments, expected, measurement, reports, verdict
from qnn.gate.bisect import first_bad
from qnn.gate.commands import BENCHMARKS, EXPRESSION, FOLDINGS
from qnn.gate.environments import FinnEnvironment
from qnn.gate.expected import ExpectedChange
from qnn.gate.measurement import Measurement, Selection
from qnn.gate.reports import Outcome, Report
from qnn.gate.verdict import Change
from qnn.results import Row, Status
from qnn.store import Store
from qnn.tools.versions import tool_versions

__all__ = ["baseline", "gate"]

CLEAN, REGRESSED, COULD_NOT_RUN = 0, 1, 2
LOG_WIDTH = 160
NAMED = 3
"""Tests named in an error; more are counted."""


def _selection(options: argparse.Namespace, stored: Selection | None = None) -> Selection:
    """What is asked for; what is not stays as it was when the baseline was written."""
    default = stored or Selection(expression=EXPRESSION, options=("--foldings", FOLDINGS), benchmarks=BENCHMARKS)
    kept = _with_foldings(default.options, options.foldings) if options.foldings else default.options
    return Selection(
        expression=options.expression or default.expression,
        options=(*kept, *options.further),
        benchmarks=tuple(options.benchmarks.split(",")) if options.benchmarks else default.benchmarks,
    )


def _with_foldings(options: tuple[str, ...], foldings: str) -> tuple[str, ...]:
    """Options of pytest with these foldings in place of theirs."""
    at = options.index("--foldings") if "--foldings" in options else len(options)
    return (*options[:at], "--foldings", foldings, *options[at + 2 :])


def _installed() -> str:
    return tool_versions()["finn"]


class _Runs:
    """Measurements of one command: where their logs go, and what a person sees of them."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self.store = Store(options.store)
        self.folder = options.results / f"{datetime.now():%Y-%m-%dT%H%M%S}-gate"
        self.console = console
        self.runs = 0

    def environment(self, spec: str) -> FinnEnvironment:
        made = environments.environment(spec, self.store)
        if made.packages:
            laid = ", ".join(f"{name} {version}" for name, version in made.packages.items())
            self.console.print(f"FINN {made}: {made.size_bytes / 1e6:,.0f} MB laid over: {laid}", highlight=False)
        return made

    def measure(self, environment: FinnEnvironment, selection: Selection) -> Measurement:
        """One run of the benchmarks; a line is shown while it goes on and one when it has ended."""
        self.runs += 1
        folder = self.folder / f"{self.runs}-{environment.version}"
        folder.mkdir(parents=True, exist_ok=True)
        start, done, failed = time.monotonic(), 0, 0
        with self.console.status(f"FINN {environment}: starting") as status:

            def on_row(row: Row) -> None:
                nonlocal done, failed
                done, failed = done + 1, failed + (row.status in (Status.FAILED, Status.ERROR))
                last = row.test.rpartition("::")[2]
                status.update(f"FINN {environment}: {done} tests, {failed} failed, {last}")
                if not self.console.is_terminal and done % 10 == 0:
                    self.console.print(f"FINN {environment}: {done} tests, {failed} failed", highlight=False)

            found = measurement.measure(environment, selection, store=self.store.root, folder=folder, on_row=on_row)
        seconds = time.monotonic() - start
        self.console.print(
            f"FINN {environment}: {len(found.rows)} tests, {failed} failed, in {seconds:,.0f} s; log: "
            f"{folder / 'pytest.log'}",
            highlight=False,
            soft_wrap=True,
        )
        return found


def _part_that_ran(stored: Measurement, new: Measurement, console: Console) -> Measurement:
    """The baseline without what was not asked for; a test that its own selection no longer has is a regression.

    Raises GateError where it lacks tests that are judged.
    """
    lacking = [test for test in new.by_test if test not in stored.by_test]
    if lacking:
        named = ", ".join(lacking[:NAMED]) + (f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else "")
        raise GateError(
            f"the baseline has no figures of {len(lacking)} of {len(new.rows)} tests, {named}: write it anew with "
            f"`python -m qnn baseline` and this selection, or select what it has: {stored.selection}"
        )
    if new.selection == stored.selection:
        return stored
    rows = tuple(row for row in stored.rows if row.test in new.by_test)
    if left_out := len(stored.rows) - len(rows):
        console.print(f"{left_out} tests of the baseline are left out: they were not selected", highlight=False)
    return replace(stored, rows=rows)


def _write(path: Path | None, content: str) -> None:
    if path is not None:
        write_atomically(path, content.encode())


def _write_reports(options: argparse.Namespace, report: Report) -> None:
    _write(options.junit, reports.as_junit(report))
    _write(options.markdown, reports.as_markdown(report))
    _write(options.json, reports.as_json(report))


def _report(old: Measurement, new: Measurement, accepted: Sequence[ExpectedChange]) -> Report:
    changes, stale = expected.accept(verdict.compare(old, new), accepted, old, new)
    return Report(old=old, new=new, changes=tuple(changes), stale=tuple(stale))


def _compared(options: argparse.Namespace, runs: _Runs) -> Report:
    accepted = expected.read(options.expected_changes)  # a damaged file is told before the long work
    if options.baseline is not None:
        old = measurement.load(options.baseline)
        selection = _selection(options, old.selection)
    else:
        selection = _selection(options)
        trusted = runs.environment(options.old)
    judged = runs.environment(options.new or _installed())
    if options.baseline is None:
        old = runs.measure(trusted, selection)
    new = runs.measure(judged, selection)
    if options.baseline is not None:
        old = _part_that_ran(old, new, runs.console)
    return _report(old, new, accepted)


def _bisect(options: argparse.Namespace, runs: _Runs) -> int:
    accepted = expected.read(options.expected_changes)
    good, bad = options.bisect
    if options.metric and measurement.is_of_the_host(options.metric):
        raise GateError(f"{options.metric} is this computer's, whatever the FINN: name another metric to bisect")
    selection = _selection(options)
    with tempfile.TemporaryDirectory(prefix="gate-") as scratch:
        candidates = environments.releases_between(good, bad, Path(scratch))
    runs.console.print(f"{len(candidates)} candidates, {candidates[0]} to {candidates[-1]}", highlight=False)

    @cache
    def measured(spec: str) -> Measurement:
        return runs.measure(runs.environment(spec), selection)

    first = measured(candidates[0])
    if options.metric and not _measures(first, options.metric):
        raise GateError(f"{selection} measures no {options.metric} with {candidates[0]}: rows are in {runs.folder}")

    def changed(spec: str) -> list[Change] | None:
        try:
            found = measured(spec)
        except (FinnUnavailable, GateError) as error:
            runs.console.print(f"{spec}: {error}", highlight=False, markup=False)
            return None
        if options.metric and not _measures(found, options.metric):
            return None
        changes = _report(first, found, accepted).changes
        return [c for c in changes if (c.metric == options.metric if options.metric else c.verdict.fails)]

    def on_step(spec: str, changes: list[Change] | None) -> None:
        said = "cannot tell, passed over" if changes is None else "changed" if changes else "as before"
        runs.console.print(f"{spec}: {said}", highlight=False)

    found = first_bad(candidates, changed, on_step=on_step)
    # Whether an accepted change still applies is told by the gate, which judges both ends alone.
    after = measured(found.candidate if found else candidates[-1])
    report = Report(old=first, new=after, changes=tuple(found.changes) if found else (), stale=())
    if found is None:
        said = f"{options.metric} is the same" if options.metric else "nothing that fails the gate changed"
        runs.console.print(f"{said} from {candidates[0]} to {candidates[-1]}", highlight=False)
    else:
        reports.print_report(report, runs.console)
        runs.console.print(f"the first one: {found.candidate}", style="bold", highlight=False)
        if found.passed_over:
            others = ", ".join(found.passed_over)
            runs.console.print(f"or one before it that cannot tell: {others}", highlight=False, soft_wrap=True)
    _write_reports(options, report)
    return REGRESSED if found else CLEAN


def _measures(found: Measurement, metric: str) -> bool:
    """Whether any test has found this metric."""
    return any(metric in part for row in found.rows for part in (row.metrics, *row.layers))


def _console() -> Console:
    """As wide as the terminal; a log of CI is read with long lines."""
    console = Console()
    return console if console.is_terminal else Console(width=LOG_WIDTH)


def _guarded(work: Callable[[], int]) -> int:
    try:
        return work()
    except (QnnError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
    except Exception:  # noqa: BLE001 - a fault of the suite is no regression of FINN, which status 1 would say
        traceback.print_exc()
    return COULD_NOT_RUN


def gate(options: argparse.Namespace) -> int:
    """Compare, or bisect; the exit status."""
    console = _console()

    def work() -> int:
        runs = _Runs(options, console)
        if options.bisect:
            return _bisect(options, runs)
        report = _compared(options, runs)
        reports.print_report(report, console)
        _write_reports(options, report)
        if report.outcome is Outcome.UNKNOWN:
            raise GateError(f"{reports.NOTHING_KNOWN}: see the logs in {runs.folder}")
        return REGRESSED if report.outcome is Outcome.REGRESSED else CLEAN

    return _guarded(work)


def baseline(options: argparse.Namespace) -> int:
    """Measure, and write the baseline; the exit status."""

    def work() -> int:
        runs = _Runs(options, _console())
        found = runs.measure(runs.environment(options.new or _installed()), _selection(options))
        broken = [row.test for row in found.rows if row.status in (Status.FAILED, Status.ERROR)]
        measurement.save(found, options.file)
        runs.console.print(f"{len(found.rows)} rows of {', '.join(found.cells)} in {options.file}", highlight=False)
        if broken:
            runs.console.print(f"{len(broken)} tests failed and stand in it as failed: {', '.join(broken)}")
        return CLEAN

    return _guarded(work)
