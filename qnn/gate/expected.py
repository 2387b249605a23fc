"""``expected-changes.toml``: regressions that somebody has accepted, each with its reason and release.

    [[change]]
    release = "1.6.1"                  # the FINN in which it came
    cell = "A3W3-PE8-SIMD8"            # a part of the cell's id; left out: any
    test = "fits_the_part"             # a part of pytest's node id; left out: any
    metric = "lut"
    new = 9100                         # the figure that is accepted, and better ones; left out: any
    reason = "the weights' memory stream has a register more"

An entry whose release lies behind the old FINN, up to the one that is judged, has to fit a regression; one that fits
none fails, so that the file says what is so. Entries of other releases are left alone, and so are those of what was not
measured on both sides. A checkout is a release of its own.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.version import InvalidVersion, Version

from qnn.errors import GateError
from qnn.gate.measurement import Measurement
from qnn.gate.verdict import STRUCTURE, Change, Verdict, held, is_worse
from qnn.results import Metric, Row

__all__ = ["ExpectedChange", "accept", "read"]

DEFAULT = Path("expected-changes.toml")


@dataclass(frozen=True, kw_only=True)
class ExpectedChange:
    """One accepted regression."""

    release: str
    metric: str
    reason: str
    cell: str = ""
    """A part of the cell's id; empty for any."""
    test: str = ""
    """A part of pytest's node id; empty for any."""
    new: Metric = None
    """The worst figure that is accepted; None for any."""

    def fits(self, change: Change) -> bool:
        """Whether it is about this change, however large."""
        return change.metric == self.metric and self.cell in change.cell and self.test in change.test

    def covers(self, change: Change) -> bool:
        """Whether no figure of the change is worse than what was accepted."""
        figures = (change.new, *(new for _node, _old, new in change.also))
        return self.new is None or not any(is_worse(self.metric, self.new, figure) for figure in figures)

    def was_measured(self, old: Row, new: Row) -> bool:
        """Whether a test that both sides ran shows that it no longer applies."""
        if self.cell not in (new.cell or "-") or self.test not in new.test:
            return False
        if self.metric in ("status", "test"):
            return True
        if self.metric in STRUCTURE:
            return bool(old.layers and new.layers)
        parts = [(row.metrics, *row.layers) for row in (old, new)]
        return held(old, new) and all(any(self.metric in part for part in of_row) for of_row in parts)

    def __str__(self) -> str:
        where = " of ".join(filter(None, (self.test, self.cell or "any cell")))
        return f"{self.metric} of {where} in FINN {self.release} ({self.reason})"


def _entry(entry: object, place: str) -> ExpectedChange:
    if not isinstance(entry, dict):
        raise GateError(f"{place} is no table: each accepted change begins with [[change]]")
    try:
        found = ExpectedChange(**entry)
    except TypeError:
        raise GateError(
            f"{place}: it takes release, metric, reason, cell, test and new, and the first three have to be there; it "
            f"has {', '.join(entry)}"
        ) from None
    texts = {name: value for name, value in entry.items() if name != "new"}
    if not all(isinstance(value, str) and (value or name in ("cell", "test")) for name, value in texts.items()):
        raise GateError(f"{place}: every field but new is a text that is not empty")
    if not isinstance(found.new, float | int | str | None):
        raise GateError(f"{place}: new is a figure or a text, not {found.new}")
    return found


def read(path: Path | None) -> tuple[ExpectedChange, ...]:
    """The entries of a file; of expected-changes.toml in the current folder, if it is there, where none is named.

    Raises GateError naming what is wrong, and the entry that is none.
    """
    if path is None and not DEFAULT.exists():
        return ()
    path = path or DEFAULT
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise GateError(f"{path}, the accepted changes, cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise GateError(f"{path} is no TOML: {error}") from None
    entries = content.pop("change", [])
    if content or not isinstance(entries, list):
        unknown = ", ".join(content) or "change"
        raise GateError(f"{path} has {unknown} where each accepted change begins with [[change]]")
    return tuple(_entry(entry, f"{path}, change {number}") for number, entry in enumerate(entries, start=1))


def _came_between(release: str, old: str, new: str) -> bool:
    """Whether something that came with `release` is a change from `old` to `new`."""
    if any("+" in one for one in (release, old, new)):  # the digest of a checkout has no order
        return release == new
    try:
        return Version(old) < Version(release) <= Version(new)
    except InvalidVersion:
        return release == new


def accept(
    changes: Sequence[Change], expected: Sequence[ExpectedChange], old: Measurement, new: Measurement
) -> tuple[list[Change], list[ExpectedChange]]:
    """The changes from `old` to `new` with those accepted that an entry covers, and the entries that fit none."""
    current = [entry for entry in expected if _came_between(entry.release, old.finn, new.finn)]
    judged, used = [], set()
    for change in changes:
        fitting = [entry for entry in current if change.verdict.fails and entry.fits(change)]
        used.update(fitting)
        covering = next((entry for entry in fitting if entry.covers(change)), None)
        if covering is not None:
            change = replace(change, verdict=Verdict.ACCEPTED, why=covering.reason)
        elif fitting:
            accepted = f"worse than {fitting[0].new}, which is accepted ({fitting[0].reason})"
            change = replace(change, why="\n".join(filter(None, (accepted, change.why))))
        judged.append(change)
    after = new.by_test
    pairs = [(row, after[row.test]) for row in old.rows if row.test in after]
    unused = [entry for entry in current if entry not in used]
    return judged, [entry for entry in unused if any(entry.was_measured(*pair) for pair in pairs)]
