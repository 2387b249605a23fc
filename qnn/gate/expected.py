"""``expected-changes.toml``: regressions that somebody has accepted, each with its reason and release.

    [[change]]
    release = "1.6.1"                  # the FINN in which it came
    cell = "A3W3-PE8-SIMD8"            # a part of the cell's id; left out: any
    metric = "lut"
    reason = "the weights' memory stream has a register more"

An entry whose release lies behind the old FINN, up to the one that is judged, has to fit a regression; one that fits
none fails, so that the file says what is so. Entries of other releases are left alone, and so are those of cells that
were not measured. A checkout is a release of its own.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.version import InvalidVersion, Version

from qnn.errors import GateError
from qnn.gate.verdict import Change, Verdict

__all__ = ["ExpectedChange", "accept", "read"]


@dataclass(frozen=True, kw_only=True)
class ExpectedChange:
    """One accepted regression."""

    release: str
    metric: str
    reason: str
    cell: str = ""
    """A part of the cell's id; empty for any."""

    def fits(self, change: Change) -> bool:
        """Whether it is this change, in the release that is judged."""
        return change.metric == self.metric and self.cell in change.cell

    def __str__(self) -> str:
        return f"{self.metric} of {self.cell or 'any cell'} in FINN {self.release} ({self.reason})"


def read(path: Path) -> tuple[ExpectedChange, ...]:
    """The entries of a file; none where there is no file. Raises GateError naming the entry that is none."""
    if not path.exists():
        return ()
    try:
        entries = tomllib.loads(path.read_text()).get("change", [])
    except tomllib.TOMLDecodeError as error:
        raise GateError(f"{path} is no TOML: {error}") from None
    found = []
    for number, entry in enumerate(entries, start=1):
        try:
            found.append(ExpectedChange(**entry))
        except TypeError:
            raise GateError(
                f"{path}, change {number}: it takes release, metric, reason and cell, and the first three have to be "
                f"there; it has {', '.join(entry)}"
            ) from None
        if not all(isinstance(value, str) and (value or name == "cell") for name, value in entry.items()):
            raise GateError(f"{path}, change {number}: every field is a text that is not empty")
    return tuple(found)


def _came_between(release: str, old: str, new: str) -> bool:
    """Whether something that came with `release` is a change from `old` to `new`."""
    if any("+" in one for one in (release, old, new)):  # the digest of a checkout has no order
        return release == new
    try:
        return Version(old) < Version(release) <= Version(new)
    except InvalidVersion:
        return release == new


def accept(
    changes: Sequence[Change], expected: Sequence[ExpectedChange], *, old: str, new: str, cells: Sequence[str]
) -> tuple[list[Change], list[ExpectedChange]]:
    """The changes from `old` to `new` with those accepted that an entry fits, and the entries that fit none."""
    current = [
        entry
        for entry in expected
        if _came_between(entry.release, old, new) and any(entry.cell in cell for cell in cells)
    ]
    judged, used = [], set()
    for change in changes:
        entry = next((entry for entry in current if change.verdict.fails and entry.fits(change)), None)
        if entry is not None:
            used.add(entry)
            change = replace(change, verdict=Verdict.ACCEPTED, why=entry.reason)
        judged.append(change)
    return judged, [entry for entry in current if entry not in used]
