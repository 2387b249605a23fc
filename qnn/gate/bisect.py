"""The first release, or commit, at which something changed."""

from collections.abc import Callable, Sequence

from qnn.gate.verdict import Change

__all__ = ["first_bad"]


def first_bad(
    candidates: Sequence[str], changed: Callable[[str], list[Change]], *, on_step: Callable[[str, bool], None]
) -> tuple[str, list[Change]] | None:
    """The first of `candidates` at which `changed`, against the first of them, gives any change; and which ones.

    The last is asked first: None where nothing changed there. The others are halved, as a change that came is taken
    to stay. `on_step` is told of each that was asked.
    """
    good, bad = 0, len(candidates) - 1
    found = changed(candidates[bad])
    on_step(candidates[bad], bool(found))
    if not found:
        return None
    while bad - good > 1:
        middle = (good + bad) // 2
        changes = changed(candidates[middle])
        on_step(candidates[middle], bool(changes))
        if changes:
            bad, found = middle, changes
        else:
            good = middle
    return candidates[bad], found
