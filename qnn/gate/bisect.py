"""The first release, or commit, at which something changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qnn.errors import GateError
from qnn.gate.verdict import Change

__all__ = ["FirstBad", "first_bad"]


@dataclass(frozen=True, kw_only=True)
class FirstBad:
    """Where something changed."""

    candidate: str
    changes: Sequence[Change]
    passed_over: tuple[str, ...]
    """Those right before it that could not tell: the change may have come with one of them."""


def first_bad(
    candidates: Sequence[str],
    changed: Callable[[str], list[Change] | None],
    *,
    on_step: Callable[[str, list[Change] | None], None],
) -> FirstBad | None:
    """The first of `candidates` at which `changed`, against the first of them, gives any change; and which ones.

    The last is asked first: None where nothing changed there. The others are halved, as a change that came is taken
    to stay. `changed` gives None for a candidate that cannot tell: one next to it is asked in its place. `on_step` is
    told of each that was asked.

    Raises GateError where the last candidate cannot tell.
    """
    good, bad = 0, len(candidates) - 1
    found = changed(candidates[bad])
    on_step(candidates[bad], found)
    if found is None:
        raise GateError(f"nothing can be told of {candidates[bad]}: take an earlier one that runs")
    if not found:
        return None
    mute: set[int] = set()
    while between := [k for k in range(good + 1, bad) if k not in mute]:
        middle = min(between, key=lambda k: abs(2 * k - good - bad))
        changes = changed(candidates[middle])
        on_step(candidates[middle], changes)
        if changes is None:
            mute.add(middle)
        elif changes:
            bad, found = middle, changes
        else:
            good = middle
    return FirstBad(candidate=candidates[bad], changes=found, passed_over=tuple(candidates[good + 1 : bad]))
