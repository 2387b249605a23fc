"""What changed between two measurements, and whether that is a regression.

Each metric has a rule: which direction is worse, and by how much it may be. A metric without a rule is shown as such,
never passed over. Tests are compared by pytest's node id, their rows metric by metric and node by node. FINN numbers
the nodes of each kind (MVAU_rtl_0, MVAU_hls_0), so nodes are paired by kind, in the order of the stream.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from enum import StrEnum
from functools import cache

from qnn.gate.measurement import Measurement, is_of_the_host
from qnn.results import Metric, Row, Status

__all__ = [
    *("BAD", "RULES", "STRUCTURE", "Change", "Rule", "Sense", "Verdict"),
    *("compare", "figures", "held", "is_worse", "rule_for"),
]

STRUCTURE = ("implementation_style", "vanished_node", "new_node")
"""Metrics of which nodes there are: RTL that became HLS, a node that only one side has."""


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
        if self.sense is Sense.TOLD:
            return "any"
        parts = [f"{self.tolerance_percent:g} %"] if self.tolerance_percent else []
        parts += [f"{self.tolerance:g}"] if self.tolerance else []
        return " or ".join(parts) or "0"


RULES = (
    Rule(metrics=r"host_.*|.*_per_host_s", sense=Sense.TOLD),
    # Their names are like those of figures below.
    Rule(metrics=r"paper_\w+|longest_path_(nodes|cells|start|end)", sense=Sense.TOLD),
    # What is right stays right: equivalence and accuracy.
    Rule(metrics=r"(\w+_)?images_equal|\w+_images_in_the_same_cycle", sense=Sense.LESS_IS_WORSE),
    Rule(metrics=r"\w*top1(_of_these)?_percent", sense=Sense.LESS_IS_WORSE),
    Rule(metrics=r"\w+_codes_off|thresholds_(off|on_ties|replaced)|accumulator_values_off", sense=Sense.MORE_IS_WORSE),
    Rule(metrics=r"largest_step|largest_sum_error_steps|\w*images_with_\w+", sense=Sense.MORE_IS_WORSE),
    Rule(metrics=r"images_whose_top1_is_not_the_largest_accumulator|top1_computed", sense=Sense.TOLD),
    # How much was checked: less evidence is worse.
    Rule(
        metrics=r"images|\w+_images|\w+_compared|thresholds|hardware_graph_nodes|nodes_\w+|codes|networks",
        sense=Sense.LESS_IS_WORSE,
    ),
    Rule(metrics=r"nodes", sense=Sense.ANY_IS_WORSE),
    # Time on the device is exact.
    Rule(
        metrics=r"\w*interval_cycles|\w*latency_(cycles|us)|\w*rtlsim_cycles|expected_cycles", sense=Sense.MORE_IS_WORSE
    ),
    Rule(metrics=r"(throughput|lowest|highest)_images_per_s|dram_in_megabytes_per_s", sense=Sense.LESS_IS_WORSE),
    Rule(metrics=r"initiation_intervals_cycles", sense=Sense.ANY_IS_WORSE),
    Rule(metrics=r"applied_foldings|policy|part|variant|extrapolated|cells", sense=Sense.ANY_IS_WORSE),
    # What is synthesised: a percent is what another name of a net changes.
    Rule(metrics=r"lut|ff", sense=Sense.MORE_IS_WORSE, tolerance_percent=2, tolerance=4),
    Rule(metrics=r"lut_memory", sense=Sense.MORE_IS_WORSE, tolerance_percent=2, tolerance=8),
    Rule(metrics=r"bram18|bram36|bram36_blocks|dsp|computed_dsp", sense=Sense.MORE_IS_WORSE),
    Rule(metrics=r"fits(_beside_shell)?", sense=Sense.LESS_IS_WORSE),
    Rule(metrics=r"longest_path_ns", sense=Sense.MORE_IS_WORSE, tolerance_percent=5),
    Rule(metrics=r"cells_without_delays|synthesis_timed_out", sense=Sense.MORE_IS_WORSE),
    Rule(metrics=r"fifo_depth|needed_fifo_depth|held_beats|fifos_that_fill_up", sense=Sense.MORE_IS_WORSE),
    Rule(metrics=r"holds_all_that_comes|sized_is_delivered", sense=Sense.LESS_IS_WORSE),
    # A node's kind and place are what FINN chose: an RTL node that became HLS is another accelerator. Its number
    # follows from the nodes in front of it.
    Rule(metrics="|".join(STRUCTURE), sense=Sense.ANY_IS_WORSE),
    Rule(metrics=r"op_type|pe|simd|asked|producer|consumer", sense=Sense.ANY_IS_WORSE),
    Rule(metrics=r"name", sense=Sense.TOLD),
    # Follows from the figures above, or is FINN's own estimate.
    Rule(
        metrics=r"\w+_percent|\w+_left|tightest_\w+|multipliers|edited_files|kinds_without_delays|synthesis_limit_s"
        r"|(input|weight|output)_type|\w*finn_\w*estimate\w*|\w+_per_estimate|ratio_\w+|\w*fitted_\w+|overhead_cause",
        sense=Sense.TOLD,
    ),
)
"""The first rule that fits is a metric's."""


@cache
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
    UNCHANGED = "unchanged"

    @property
    def fails(self) -> bool:
        """Whether the gate stays shut."""
        return self in (Verdict.REGRESSED, Verdict.TOOL_GAP, Verdict.UNJUDGED)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One metric of one test, as a rule one that is not what it was."""

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
    also: tuple[tuple[str | None, Metric, Metric], ...] = ()
    """Further nodes of which the metric has this verdict: name, old, new."""
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


FLOAT_NOISE = 1e-12
"""Share by which a figure that is computed in float64 may differ with the release of NumPy."""


def _same(old: Metric, new: Metric) -> bool:
    if isinstance(old, float) and isinstance(new, float):
        return math.isclose(old, new, rel_tol=FLOAT_NOISE)
    return old == new


def _verdict(rule: Rule | None, old: Metric, new: Metric) -> Verdict:
    if _same(old, new):
        return Verdict.UNCHANGED
    if rule is None:
        return Verdict.UNJUDGED
    if rule.sense is Sense.TOLD:
        return Verdict.TOLD
    worse = _worsening(rule, old, new)
    if worse is None:
        # A figure that appeared is more evidence; one that is gone, or changed in kind, is a loss.
        return Verdict.TOLD if old is None else Verdict.REGRESSED
    if worse < 0:
        return Verdict.IMPROVED
    assert isinstance(old, int | float)
    within = worse <= max(rule.tolerance, rule.tolerance_percent / 100 * abs(old))
    return Verdict.WITHIN if within else Verdict.REGRESSED


SHOWN = 5e-6
"""Share by which a figure may be off that a person copied from the gate's tables: they show six digits."""


def is_worse(metric: str, accepted: Metric, new: Metric) -> bool:
    """Whether `new` is worse than a figure that was accepted, or another one where there is no more or less."""
    rule = rule_for(metric)
    worse = _worsening(rule, accepted, new) if rule else None
    if worse is None or not isinstance(accepted, float):
        return accepted != new if worse is None else worse > 0
    return worse > SHOWN * abs(accepted)


def _figures(
    row: Row, old: Mapping[str, Metric], new: Mapping[str, Metric], node: str | None = None
) -> Iterator[Change]:
    """Every figure of a test, or of one node of it, the unchanged ones too."""
    for metric in dict.fromkeys([*old, *new]):
        before, after = old.get(metric), new.get(metric)
        if is_of_the_host(metric) and None in (before, after):
            continue  # a baseline has none of this computer
        rule = rule_for(metric)
        yield Change(
            cell=row.cell or "-",
            test=row.test,
            metric=metric,
            old=before,
            new=after,
            verdict=_verdict(rule, before, after),
            tolerance=rule.allows if rule else "no rule",
            node=node,
        )


_NAME = re.compile(r"(?P<kind>.+?)(_(?P<style>rtl|hls))?(_\d+)?")


def _kind_and_style(layer: Mapping[str, Metric]) -> tuple[str, str | None]:
    """``MVAU`` and ``rtl`` of the node MVAU_rtl_0."""
    match = _NAME.fullmatch(str(layer.get("name")))
    return (match["kind"], match["style"]) if match else ("", None)


def _of_nodes(old: Row, new: Row) -> list[Change]:
    """What changed of each node, in the order of the stream."""
    changes = list[Change]()

    def add(before: Mapping[str, Metric], after: Mapping[str, Metric], node: str) -> None:
        found = _figures(new, before, after, node)
        changes.extend(c for c in found if c.verdict is not Verdict.UNCHANGED and not is_of_the_host(c.metric))

    first, second = ([_kind_and_style(layer)[0] for layer in row.layers] for row in (old, new))
    for tag, a, a_end, b, b_end in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if tag != "equal":
            for name in (str(layer.get("name")) for layer in old.layers[a:a_end]):
                add({"vanished_node": name}, {"vanished_node": "nothing"}, name)
            for name in (str(layer.get("name")) for layer in new.layers[b:b_end]):
                add({"new_node": "nothing"}, {"new_node": name}, name)
            continue
        for before, after in zip(old.layers[a:a_end], new.layers[b:b_end], strict=True):
            if _kind_and_style(before) != _kind_and_style(after):  # op_type would say it again
                before, after = (
                    {k: v for k, v in layer.items() if k != "op_type"} | {"implementation_style": layer.get("name")}
                    for layer in (before, after)
                )
            add(before, after, str(before.get("name")))
    return changes


_SEVERITY = list(Verdict).index


def _grouped(of_nodes: Iterable[Change]) -> Iterator[Change]:
    """One change for each metric and verdict, at its first node; an improvement hides no other node's regression."""
    groups = dict[tuple[str, Verdict], list[Change]]()
    for change in of_nodes:
        groups.setdefault((change.metric, change.verdict), []).append(change)
    for first, *others in groups.values():
        yield replace(first, also=tuple((other.node, other.old, other.new) for other in others))


BAD = (Status.FAILED, Status.ERROR, Status.XPASSED)
"""A test that ended so did not hold."""
HOLDS = (Status.PASSED, Status.XFAILED)
"""One that ended so did; of a skipped one nothing is known."""


def _of_status(old: Row, new: Row) -> tuple[Verdict, str | None] | None:
    """The verdict of a test that ended otherwise, and what it says."""
    if old.status == new.status:
        return None
    if new.status in BAD and old.status not in BAD:
        gap = "ToolGap" in (new.reason or "")
        return (Verdict.TOOL_GAP if gap else Verdict.REGRESSED), new.reason
    if old.status in BAD:
        if new.status in HOLDS:
            return Verdict.IMPROVED, old.reason
        return Verdict.TOLD, new.reason
    return (Verdict.REGRESSED if new.status is Status.SKIPPED else Verdict.TOLD), new.reason


def held(old: Row, new: Row) -> bool:
    """Whether a test held with both sides: figures of one that broke off or was skipped are no evidence."""
    return old.status in HOLDS and new.status in HOLDS


def figures(old: Row, new: Row) -> list[Change]:
    """Each figure of a whole test that both sides have, the unchanged ones too; not those of this computer."""
    if not held(old, new):
        return []
    found = _figures(new, old.metrics, new.metrics)
    return [figure for figure in found if None not in (figure.old, figure.new) and not is_of_the_host(figure.metric)]


def _of_rows(old: Row, new: Row) -> Iterator[Change]:
    ended = _of_status(old, new)
    if ended is not None:
        verdict, why = ended
        nodes = _of_nodes(old, new) if old.layers and new.layers else []
        node = nodes[0].node if nodes else None
        sides = {"old": str(old.status), "new": str(new.status), "cell": new.cell or "-", "test": new.test}
        yield Change(**sides, metric="status", verdict=verdict, node=node, why=why)  # type: ignore[arg-type]
        if verdict.fails or old.status in BAD:
            # The figures of one side are those of a test that broke off; what became of its nodes is why.
            yield from _grouped(change for change in nodes if verdict.fails and change.metric in STRUCTURE)
            return
    nodes = _of_nodes(old, new)
    before, after = ({**row.metrics, "host_s": row.host_s} for row in (old, new))
    changed = [change for change in _figures(new, before, after) if change.verdict is not Verdict.UNCHANGED]
    for change in changed:
        alike = (node for node in nodes if node.metric == change.metric)
        # The first node that changed so, else the worst: many that are within tolerance add up.
        at = min(alike, key=lambda node: (node.verdict is not change.verdict, _SEVERITY(node.verdict)), default=None)
        yield replace(change, node=at.node if at else None)
    # What is judged of the whole is not judged again of its parts.
    rest = [change for change in nodes if all(change.metric != other.metric for other in changed)]
    yield from _grouped(replace(c, verdict=Verdict.TOLD) if c.metric in before else c for c in rest)


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
