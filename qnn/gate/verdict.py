"""What changed between two measurements, and whether that is a regression.

Each metric has a rule: which direction is worse, and by how much it may be. A metric without a rule is shown as such,
never passed over. Tests are compared by pytest's node id, their rows metric by metric and node by node.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from qnn.gate.measurement import Measurement, is_of_the_host
from qnn.results import Metric, Row, Status

__all__ = ["BAD", "RULES", "Change", "Rule", "Sense", "Verdict", "compare", "rule_for"]


class Sense(StrEnum):
    """Which changes of a metric are bad."""

    MORE_IS_WORSE = "more is worse"
    LESS_IS_WORSE = "less is worse"
    ANY_IS_WORSE = "any change is worse"
    TOLD = "told, not judged"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a metric is judged."""

    metrics: str
    """A regular expression that a metric's whole name fits."""
    sense: Sense
    tolerance_percent: float = 0.0
    """A worsening of at most this share of the old figure is none."""
    tolerance: float = 0.0
    """Nor is one of at most this much, in the metric's unit: the step of synthesis for what is counted in few."""

    @property
    def allows(self) -> str:
        """The tolerance, for a person."""
        parts = [f"{self.tolerance_percent:g} %"] if self.tolerance_percent else []
        parts += [f"{self.tolerance:g}"] if self.tolerance else []
        return " or ".join(parts) or "0"


RULES = (
    Rule(metrics=r"host_.*|.*_per_host_s", sense=Sense.TOLD),
    # What is right stays right: equivalence and accuracy.
    Rule(metrics=r"(\w+_)?images_equal|\w+_images_in_the_same_cycle", sense=Sense.LESS_IS_WORSE),
    Rule(metrics=r"\w*top1_percent", sense=Sense.LESS_IS_WORSE),
    Rule(metrics=r"\w+_codes_off|thresholds_off|thresholds_on_ties|accumulator_values_off", sense=Sense.MORE_IS_WORSE),
    Rule(metrics=r"largest_step|largest_sum_error_steps|\w*images_with_\w+", sense=Sense.MORE_IS_WORSE),
    Rule(metrics=r"images_whose_top1_is_not_the_largest_accumulator|top1_computed", sense=Sense.TOLD),
    # How much was checked: less evidence is worse.
    Rule(
        metrics=r"images|\w+_images|\w+_compared|thresholds|\w+_nodes|nodes_\w+|codes|networks",
        sense=Sense.LESS_IS_WORSE,
    ),
    Rule(metrics=r"nodes", sense=Sense.ANY_IS_WORSE),
    # Time on the device is exact.
    Rule(
        metrics=r"\w*interval_cycles|\w*latency_(cycles|us)|\w*rtlsim_cycles|expected_cycles", sense=Sense.MORE_IS_WORSE
    ),
    Rule(metrics=r"throughput_images_per_s|dram_in_megabytes_per_s", sense=Sense.LESS_IS_WORSE),
    Rule(metrics=r"applied_foldings|policy|part|variant|simulated_images|extrapolated", sense=Sense.ANY_IS_WORSE),
    # What is synthesised: a percent is what another name of a net changes.
    Rule(metrics=r"lut|ff", sense=Sense.MORE_IS_WORSE, tolerance_percent=2, tolerance=4),
    Rule(metrics=r"lut_memory", sense=Sense.MORE_IS_WORSE, tolerance_percent=2, tolerance=8),
    Rule(metrics=r"bram18|bram36|bram36_blocks|dsp|computed_dsp", sense=Sense.MORE_IS_WORSE),
    Rule(metrics=r"fits(_beside_shell)?", sense=Sense.LESS_IS_WORSE),
    Rule(metrics=r"longest_path_ns", sense=Sense.MORE_IS_WORSE, tolerance_percent=5),
    Rule(metrics=r"cells_without_delays", sense=Sense.MORE_IS_WORSE),
    Rule(metrics=r"fifo_depth|needed_fifo_depth|held_beats|fifos_that_fill_up", sense=Sense.MORE_IS_WORSE),
    Rule(metrics=r"holds_all_that_comes|sized_is_delivered", sense=Sense.LESS_IS_WORSE),
    # A node's kind and place are what FINN chose: an RTL node that became HLS is another accelerator.
    Rule(metrics=r"name|op_type|pe|simd|asked|producer|consumer", sense=Sense.ANY_IS_WORSE),
    # Follows from the figures above, or is FINN's own estimate.
    Rule(
        metrics=r"\w+_percent|\w+_left|tightest_\w+|longest_path_\w+|multipliers|edited_files|kinds_without_delays"
        r"|(input|weight|output)_type|\w*finn_\w*estimate\w*|\w+_per_estimate|ratio_\w+|paper_\w+|\w*fitted_\w+|finn_\w+_images_with_\w+",
        sense=Sense.TOLD,
    ),
)
"""The first rule that fits is a metric's."""


def rule_for(metric: str) -> Rule | None:
    """The rule of a metric; None where nobody has thought of one."""
    return next((rule for rule in RULES if re.fullmatch(rule.metrics, metric)), None)


class Verdict(StrEnum):
    """What a change is."""

    REGRESSED = "regressed"
    TOOL_GAP = "tool-gap"
    """An open tool newly refuses a file of FINN: the suite has to learn it before the cell can be judged."""
    ACCEPTED = "accepted"
    """A regression that ``expected-changes.toml`` knows."""
    UNJUDGED = "unjudged"
    """A metric without a rule."""
    IMPROVED = "improved"
    WITHIN = "within tolerance"
    TOLD = "told"

    @property
    def fails(self) -> bool:
        """Whether the gate stays shut."""
        return self in (Verdict.REGRESSED, Verdict.TOOL_GAP, Verdict.UNJUDGED)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One metric of one test that is not what it was."""

    cell: str
    """The cell's id, or ``-``."""
    test: str
    """pytest's node id."""
    metric: str
    """Or ``status``: how the test ended."""
    old: Metric
    new: Metric
    verdict: Verdict
    tolerance: str = "0"
    node: str | None = None
    """The first node of the accelerator that changed."""
    why: str | None = None
    """What the failing test says; who accepted it and why."""

    @property
    def change(self) -> str:
        """Such as ``+3.1 %``."""
        numbers = isinstance(self.old, int | float) and isinstance(self.new, int | float)
        if not numbers or isinstance(self.old, bool) or isinstance(self.new, bool):
            return ""
        assert isinstance(self.old, int | float)
        assert isinstance(self.new, int | float)
        difference = self.new - self.old
        return f"{difference:+.4g}" if not self.old else f"{100 * difference / abs(self.old):+.3g} %"


def _worsening(rule: Rule, old: Metric, new: Metric) -> float | None:
    """By how much `new` is worse, negative where it is better; None where that is no question of more or less."""
    if rule.sense not in (Sense.MORE_IS_WORSE, Sense.LESS_IS_WORSE):
        return None
    if not isinstance(old, int | float) or not isinstance(new, int | float):
        return None
    return float(new - old) if rule.sense is Sense.MORE_IS_WORSE else float(old - new)


def _judge(metric: str, old: Metric, new: Metric) -> tuple[Verdict, str]:
    """Verdict and tolerance of a metric that changed."""
    rule = rule_for(metric)
    if rule is None:
        return Verdict.UNJUDGED, "no rule"
    if rule.sense is Sense.TOLD:
        return Verdict.TOLD, "any"
    worse = _worsening(rule, old, new)
    if worse is None:
        # A figure that appeared is more evidence; one that is gone, or changed in kind, is a loss.
        return (Verdict.TOLD if old is None else Verdict.REGRESSED), rule.allows
    if worse < 0:
        return Verdict.IMPROVED, rule.allows
    assert isinstance(old, int | float)
    within = worse <= max(rule.tolerance, rule.tolerance_percent / 100 * abs(old))
    return (Verdict.WITHIN if within else Verdict.REGRESSED), rule.allows


FLOAT_NOISE = 1e-12
"""Share by which a figure that is computed in float64 may differ with the release of NumPy."""


def _same(old: Metric, new: Metric) -> bool:
    if isinstance(old, float) and isinstance(new, float):
        return math.isclose(old, new, rel_tol=FLOAT_NOISE)
    return old == new


def _differences(old: Mapping[str, Metric], new: Mapping[str, Metric]) -> Iterator[tuple[str, Metric, Metric]]:
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name), new.get(name)
        if not _same(before, after) and not is_of_the_host(name):
            yield name, before, after


def _first_changed_node(old: Row, new: Row, metric: str | None = None) -> str | None:
    """The first node of two rows with other figures, or of which one figure is another."""
    for before, after in zip(old.layers, new.layers, strict=False):
        changed = [name for name, *_ in _differences(before, after)]
        if metric in changed or (metric is None and changed):
            return str(before.get("name"))
    return None


def _of_nodes(old: Row, new: Row) -> Iterator[tuple[str, Metric, Metric, str | None]]:
    """The first change of each metric of single nodes; another number of nodes is told as what vanished or came."""
    names = [[str(layer.get("name")) for layer in row.layers] for row in (old, new)]
    if names[0] != names[1]:
        at = next((k for k, (a, b) in enumerate(zip(*names, strict=False)) if a != b), min(map(len, names)))
        before, after = (" ".join(side[at : at + 1]) or "nothing more" for side in names)
        yield "name", before, after, before
        return
    seen = set()
    for before_layer, after_layer in zip(old.layers, new.layers, strict=True):
        for metric, before_value, after_value in _differences(before_layer, after_layer):
            if metric not in seen and metric not in old.metrics:
                seen.add(metric)
                yield metric, before_value, after_value, str(before_layer.get("name"))


BAD = (Status.FAILED, Status.ERROR, Status.XPASSED)
"""A test that ended so did not hold."""


def _of_status(old: Row, new: Row) -> tuple[Verdict, str | None] | None:
    """The verdict of a test that ended otherwise, and what it says."""
    if old.status == new.status:
        return None
    if new.status in BAD and old.status not in BAD:
        gap = "ToolGap" in (new.reason or "")
        return (Verdict.TOOL_GAP if gap else Verdict.REGRESSED), new.reason
    if old.status in BAD:
        return Verdict.IMPROVED, old.reason
    return (Verdict.REGRESSED if new.status is Status.SKIPPED else Verdict.TOLD), new.reason


def _of_rows(old: Row, new: Row) -> Iterator[Change]:
    cell, test = old.cell or "-", old.test
    ended = _of_status(old, new)
    if ended is not None:
        verdict, why = ended
        node = _first_changed_node(old, new)
        fields = {"cell": cell, "test": test, "old": str(old.status), "new": str(new.status), "node": node}
        yield Change(**fields, metric="status", verdict=verdict, why=why)  # type: ignore[arg-type]
        if verdict.fails or old.status in BAD:
            return  # the figures of one side are those of a test that broke off
    of_test = ((*found, _first_changed_node(old, new, found[0])) for found in _differences(old.metrics, new.metrics))
    for metric, before, after, node in (*of_test, *_of_nodes(old, new)):
        verdict, tolerance = _judge(metric, before, after)
        yield Change(
            cell=cell,
            test=test,
            metric=metric,
            old=before,
            new=after,
            verdict=verdict,
            tolerance=tolerance,
            node=node,
        )


def compare(old: Measurement, new: Measurement) -> list[Change]:
    """Every change, in the order of the tests; a test that only one side ran is one too."""
    before, after, changes = old.by_test, new.by_test, list[Change]()
    for test in dict.fromkeys([*before, *after]):
        first, second = before.get(test), after.get(test)
        if first is not None and second is not None:
            changes += _of_rows(first, second)
            continue
        row = first or second
        assert row is not None
        sides: dict[str, str | None] = {
            "old": str(first.status) if first else None,
            "new": str(second.status) if second else None,
        }
        gone = Verdict.REGRESSED if first is not None else Verdict.TOLD
        changes.append(Change(cell=row.cell or "-", test=test, metric="test", verdict=gone, **sides))  # type: ignore[arg-type]
    return _with_nodes(changes)


def _with_nodes(changes: list[Change]) -> list[Change]:
    """Regressions of figures of a whole accelerator get the first node of it of which any other figure changed."""
    first: dict[str, str] = {}
    for change in changes:
        if change.node is not None:
            first.setdefault(change.cell, change.node)
    return [
        replace(change, node=first.get(change.cell)) if change.verdict.fails and change.node is None else change
        for change in changes
    ]
