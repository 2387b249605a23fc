"""What the benchmarks found with one FINN: gathered by running them, kept in a file as a baseline."""

import json
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from qnn.errors import GateError, QnnError, ToolFailed
from qnn.files import write_atomically
from qnn.gate.environments import DISTRIBUTION, FinnEnvironment
from qnn.process import run, tail
from qnn.results import Row, read_rows, row_of
from qnn.tools.versions import tool_versions

__all__ = ["Measurement", "Selection", "is_of_the_host", "load", "measure", "save", "suite_version"]

FORMAT = 1
"""Of a baseline's file."""
LIMIT_S = 4 * 3600.0
POLL_S = 1.0
_ROOT = Path(__file__).parents[2]
_TESTS_FAILED = 1
_NOTHING_COLLECTED = 5


def suite_version() -> str:
    """The version of this suite: figures of another one may mean something else."""
    return version("finn-qnn-benchmarks")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which benchmarks are run."""

    expression: str
    """pytest's -k."""
    options: tuple[str, ...]
    """Further ones of pytest, such as ``--foldings 8x8``."""
    benchmarks: tuple[str, ...]
    """Modules of ``benchmarks/``, without test_."""

    def __str__(self) -> str:
        return " ".join([f'-k "{self.expression}"', *self.options])


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The rows of one run."""

    finn: str
    """Release or digest of the FINN that was measured."""
    suite: str
    tools: Mapping[str, str]
    """{tool: version}, FINN among them."""
    selection: Selection
    rows: tuple[Row, ...]

    @property
    def by_test(self) -> dict[str, Row]:
        """{pytest's node id: row}."""
        return {row.test: row for row in self.rows}

    @property
    def cells(self) -> list[str]:
        """Ids of the cells, in the order of the rows."""
        return list(dict.fromkeys(row.cell for row in self.rows if row.cell is not None))


def is_of_the_host(metric: str) -> bool:
    """Whether a metric is about the computer that measures, not about what FINN made."""
    return metric.startswith("host_") or "_per_host_s" in metric


def _follow(running: Future[int], results: Path, on_row: Callable[[Row], None]) -> list[Row]:
    """The rows that a run has written when it has ended; `on_row` is told of each as it comes."""
    told = 0
    while True:
        ended = running.done()
        rows: list[Row] = []
        try:
            rows = [row for path in sorted(results.glob("*.jsonl")) for row in read_rows(path)]
        except QnnError:
            if ended:
                raise
            # A line that is being written: the next look sees it whole.
        for row in rows[told:]:
            on_row(row)
        told = max(told, len(rows))
        if ended:
            return rows
        wait([running], timeout=POLL_S)


def measure(
    environment: FinnEnvironment,
    selection: Selection,
    *,
    store: Path,
    folder: Path,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Measurement:
    """Run the benchmarks with a FINN. Their log and rows are kept in the empty `folder`; `on_row` is told of each row.

    Tests that fail are part of what is measured. Raises GateError where there is nothing to measure, or where pytest
    itself failed.
    """
    log, results = folder / "pytest.log", folder.absolute() / "rows"
    modules = [_ROOT / "benchmarks" / f"test_{name}.py" for name in selection.benchmarks]
    missing = [module for module in modules if not module.exists()]
    if missing:
        raise GateError(f"there is no {missing[0]}: the gate runs the benchmarks of a clone of the suite")
    argv: list[str | Path] = [
        sys.executable,
        "-m",
        "pytest",
        *modules,
        "-k",
        selection.expression,
        *selection.options,
        "-q",
    ]
    argv += ["--rootdir", _ROOT, "-c", _ROOT / "pytest.ini", "--store", store.absolute(), "--results", results]

    def start() -> int:
        try:
            run(argv, timeout_s=LIMIT_S, log=log, cwd=_ROOT, environment=environment.variables)
        except ToolFailed as error:
            if error.status is None:
                raise
            return error.status
        return 0

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(start)
        rows = _follow(running, results, on_row)
        status = running.result()
    if status == _NOTHING_COLLECTED:
        raise GateError(f"{selection} selects no benchmark; the log ends:\n{tail(log)}")
    if status not in (0, _TESTS_FAILED) or not rows:
        raise GateError(f"pytest ended with status {status}, with FINN {environment}; its log ends:\n{tail(log)}")
    others = {name: release for name, release in environment.packages.items() if name not in ("finn", DISTRIBUTION)}
    return Measurement(
        finn=environment.version,
        suite=suite_version(),
        tools={**tool_versions(), **others, "finn": environment.version},
        selection=selection,
        rows=tuple(rows),
    )


# Baselines ------------------------------------------------------------------------------------------------------------


def save(measurement: Measurement, path: Path) -> None:
    """Write a baseline: all that is not about the computer. Raises OSError where it cannot be written."""
    rows = []
    for row in measurement.rows:
        metrics = {name: value for name, value in row.metrics.items() if not is_of_the_host(name)}
        rows.append({**asdict(row), "metrics": metrics, "host_s": None})
    record = {**asdict(measurement), "rows": rows, "format": FORMAT}
    write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())


def load(path: Path) -> Measurement:
    """A baseline. Raises GateError where it is none, or one of another suite."""
    try:
        record = json.loads(path.read_text())
        written, suite = record.pop("format"), record["suite"]
    except OSError as error:
        raise GateError(f"the baseline {path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise GateError(f"{path} is no baseline: write one with `python -m qnn baseline {path}`") from None
    if (written, suite) != (FORMAT, suite_version()):
        raise GateError(
            f"{path} was written by version {suite} of the suite (format {written}), and this is {suite_version()} "
            f"(format {FORMAT}), whose figures may mean something else: write it anew with `python -m qnn baseline`"
        )
    try:
        chosen = record["selection"]
        selection = Selection(
            expression=chosen["expression"],
            options=tuple(chosen["options"]),
            benchmarks=tuple(chosen["benchmarks"]),
        )
        rows = tuple(map(row_of, record["rows"]))
        return Measurement(**{**record, "selection": selection, "rows": rows})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GateError(
            f"{path} is a damaged baseline ({error}): write it anew with `python -m qnn baseline`"
        ) from None
