"""What pytest shows and writes when the suite's fixtures are loaded."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures import models
from fixtures.clock import DeviceClock
from qnn import reference
from qnn.cell import BIT_WIDTHS, DATASETS, Cell, Quantization
from qnn.results import read_rows

ROOT = Path(__file__).parents[1]


def _pytest(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def _collected(*arguments: str) -> list[str]:
    return [
        line for line in _pytest("benchmarks", "--collect-only", "-q", *arguments).stdout.splitlines() if "::" in line
    ]


def test_collecting_imports_neither_torch_nor_finn_nor_yosys() -> None:
    script = (
        "import sys, pytest\n"
        "status = pytest.main(['benchmarks', '--collect-only', '-q', '-p', 'no:cacheprovider'])\n"
        "heavy = sorted({'torch', 'brevitas', 'finn', 'qonnx', 'pyosys', 'pandas', 'torchvision'} & set(sys.modules))\n"
        "print('HEAVY', int(status), heavy)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "HEAVY 0 []" in result.stdout


def test_k_selects_a_cell_in_every_benchmark() -> None:
    modules = {line.partition("::")[0] for line in _collected("-k", "A3W3")}
    wanted = {
        "accuracy",
        "cppsim",
        "equivalence",
        "fifos",
        "finn_rtlsim",
        "netlist",
        "nodes",
        "resources",
        "thresholding",
        "throughput",
        "timing",
        "tradeoff",
    }
    assert modules == {f"benchmarks/test_{name}.py" for name in wanted}


def test_a_folding_can_be_selected() -> None:
    lines = _collected("-k", "A3W3 and PE8-SIMD8")
    assert lines
    assert all("tfc-fashion_mnist-A3W3-PE8-SIMD8" in line for line in lines)


def test_what_measures_this_computer_runs_only_when_asked_for() -> None:
    assert not [line for line in _collected() if "speed" in line]
    assert [line for line in _collected("--speed") if "speed" in line]


@pytest.mark.parametrize("spelling", ["mnist", "MNIST"])
def test_the_data_set_of_the_hardware_cells_can_be_chosen(spelling: str) -> None:
    lines = _collected("-k", "resources", "--dataset", spelling)
    assert lines
    assert all("tfc-mnist-A3W3-PE" in line for line in lines)


def test_an_unknown_data_set_is_a_usage_error() -> None:
    result = _pytest("benchmarks", "--collect-only", "--dataset", "cifar10")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--dataset: unknown data set 'cifar10': there are fashion-mnist, mnist" in result.stderr


@pytest.mark.parametrize("name", ["A9W3", "W3A3"])
def test_an_unknown_cell_is_a_usage_error(name: str) -> None:
    result = _pytest("benchmarks", "--collect-only", "-k", name)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"-k: unknown cell '{name}'" in result.stderr


def _cells(*names: str) -> list[Cell]:
    """Of the first data set."""
    return [Cell(quantization=Quantization.parse(name)) for name in names]


def _session(keyword: str, **options: str) -> Any:
    """A session in which -k selected nothing."""
    given = {"--matrix": "default", "--policy": "uniform", **{f"--{name}": value for name, value in options.items()}}
    return SimpleNamespace(
        config=SimpleNamespace(option=SimpleNamespace(keyword=keyword), getoption=given.get), items=[]
    )


def test_a_cell_without_checkpoint_selects_nothing_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "shipped_cells", lambda datasets: _cells("A3W3", "A4W4", "float"))
    with pytest.raises(pytest.UsageError, match="selects no test; checkpoints are there for A3W3, A4W4, not for A8W2"):
        models.pytest_collection_finish(_session("A8W2 and accuracy"))
    models.pytest_collection_finish(_session("A4W4 and nonsense"))  # it has one; pytest says that no test ran


def test_hardware_is_built_for_the_default_cells_and_those_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    every = [f"A{activation}W{weight}" for activation in BIT_WIDTHS for weight in BIT_WIDTHS]
    monkeypatch.setattr(models, "shipped_cells", lambda datasets: _cells("float", *every))

    def chosen(keyword: str) -> list[str]:
        return [str(cell.quantization) for cell in models._hardware(_session(keyword).config, DATASETS)]

    assert chosen("") == chosen("thresholding") == ["A3W3"]
    assert chosen("a8w2 and PE8-SIMD8") == ["A3W3", "A8W2"]
    assert chosen("A4W4 or A2W7") == ["A2W7", "A3W3", "A4W4"]
    assert len(models._shipped(DATASETS)) == 49


def _hardware(*arguments: str) -> set[str]:
    """Cells of the hardware tests."""
    lines = _collected("-k", "test_throughput and not interval", *arguments)
    return {line.partition("fashion_mnist-")[2].rstrip("]") for line in lines if "test_throughput[" in line}


def test_the_papers_matrix_is_its_two_tables_and_figure_7() -> None:
    square = {f"{name}-PE{n}-SIMD{n}" for name in ("A2W2", "A3W3", "A4W4") for n in (2, 8, 16)}
    table3 = {f"A3W3-PE{pe}-SIMD{simd}" for pe in (2, 8, 16) for simd in (2, 8, 16)}
    figure7 = {f"A{n}W{n}-PE8-SIMD8" for n in range(2, 9)}
    assert _hardware("--matrix", "paper") == square | table3 | figure7


def test_what_one_folding_of_a_cell_is_enough_for_runs_for_one_that_is_selected() -> None:
    """PE8-SIMD8 where that is among them, else the first."""

    def designs(*arguments: str) -> list[str]:
        lines = _collected("-k", "finns_rtlsim_equals and fashion", *arguments)
        return [line.partition("fashion_mnist-")[2].rstrip("]") for line in lines]

    assert designs("--matrix", "paper") == [f"A{n}W{n}-PE8-SIMD8" for n in range(2, 9)]
    others = ("--cells", "A3W3", "--foldings", "2x2,16x2,4x4", "--policy", "balanced,uniform")
    assert designs(*others) == ["A3W3-PE2-SIMD2"]
    both = ("--cells", "A3W3", "--foldings", "2x2,8x8", "--thresholds", "finn,exact")
    assert designs(*both) == ["A3W3-PE8-SIMD8", "A3W3-PE8-SIMD8-exact"]
    assert len(_collected("-k", "finns_rtlsim_equals and A3W3 and PE2-SIMD2")) == 1


def test_any_cell_at_any_folding_by_any_policy_can_be_asked_for() -> None:
    options = ("--cells", "A2W5,a5w2", "--foldings", "4x32,PE16-SIMD4", "--policy", "uniform,balanced")
    foldings = {f"{folding}{policy}" for folding in ("PE4-SIMD32", "PE16-SIMD4") for policy in ("", "-balanced")}
    assert _hardware(*options) == {f"{cell}-{folding}" for cell in ("A2W5", "A5W2") for folding in foldings}
    assert {line.partition("mnist-")[2][:4] for line in _collected(*options[:2]) if "test_accuracy" in line} == {
        "A2W5",
        "A5W2",
    }


def test_a_design_can_be_asked_for_with_finns_thresholds_and_with_exact_ones() -> None:
    options = ("--cells", "A8W8", "--foldings", "8x8", "--thresholds", "finn,exact")
    assert _hardware(*options) == {"A8W8-PE8-SIMD8", "A8W8-PE8-SIMD8-exact"}
    replaced = [line for line in _collected(*options) if "test_exact_thresholds_leave_no_difference" in line]
    assert [line.partition("[")[2] for line in replaced] == ["tfc-fashion_mnist-A8W8-PE8-SIMD8-exact]"]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--part", "xc7z099", "--part: unknown part 'xc7z099': there are xc7z020clg400-1"),
        ("--foldings", "8x8,3", "--foldings: unknown folding '3': write PE8-SIMD8 or 8x8"),
        ("--cells", "A3W9", "--cells: unknown cell 'A3W9'"),
        ("--cells", "float", "--cells: the float network has no integers and no hardware"),
        ("--policy", "fast", "--policy: unknown policy 'fast': there are uniform, balanced"),
        ("--thresholds", "true", "--thresholds: unknown thresholds 'true': there are finn, exact"),
        ("--matrix=paper", "--cells=A3W3", "--matrix paper is a list of designs; select from it with -k"),
    ],
)
def test_an_option_that_means_nothing_is_a_usage_error(option: str, value: str, message: str) -> None:
    result = _pytest("benchmarks", "--collect-only", option, value)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr


def test_accuracy_runs_for_every_checkpoint_and_hardware_for_few() -> None:
    lines = _collected()
    accuracy = [line for line in lines if "test_brevitas_network_reaches_its_floor" in line]
    quantised = [cell for cell in reference.shipped_cells(DATASETS) if not cell.quantization.is_float]
    assert len(accuracy) == len(quantised)
    assert len([line for line in lines if "test_throughput[" in line]) == 2
    of_a_cell = [line for line in lines if "test_random_networks" not in line and "test_mutation" not in line]
    few = [line for line in of_a_cell if "qonnx" in line or "test_thresholding" in line or "PE8" in line]
    assert few
    assert all("A3W3" in line for line in few)


def test_what_does_not_depend_on_the_cell_is_asked_of_the_rtl_once() -> None:
    matrix = _collected("-k", "test_rtl_is_multithreshold", "--matrix", "paper")
    shapes = {line.partition("-")[2] for line in matrix}
    assert len(shapes) == len(matrix) > 7
    assert {line.partition("[")[2][:4] for line in matrix} == {f"A{bits}W{bits}" for bits in BIT_WIDTHS}
    for options in ([], ["--matrix", "paper"]):  # all of it under one cell, where that one is selected
        alone = _collected("-k", "test_rtl_is_multithreshold and A3W3", *options)
        assert {line.partition("-")[2] for line in alone} == shapes


def test_two_sessions_at_once_on_one_empty_store_are_both_right_and_build_once(tmp_path: Path) -> None:
    store = tmp_path / "store"

    def session(results: Path) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "benchmarks/test_equivalence.py"]
        argv += ["-k", "finn_thresholds", "--cells", "A2W2", "--foldings", "2x2"]
        argv += [f"--store={store}", f"--results={results}"]
        return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    folders = [tmp_path / name for name in ("one", "other")]
    sessions = [session(folder) for folder in folders]
    said = [running.communicate(timeout=300)[0] for running in sessions]
    assert [running.returncode for running in sessions] == [0, 0], said
    (one,), (other,) = ([row for path in folder.iterdir() for row in read_rows(path)] for folder in folders)
    assert one.metrics == other.metrics
    assert one.metrics["thresholds"] == 255 + 3 * 64 * 3
    assert len(list((store / "dataflow").glob("*/dataflow.json"))) == 1
    assert not any((store / "building").iterdir())


@pytest.mark.parametrize("option", ["--benchmark-compare", "--benchmark-compare-fail=mean:1%", "--benchmark-save=x"])
def test_comparing_under_xdist_would_compare_nothing_and_is_refused(option: str) -> None:
    result = _pytest("benchmarks", "--collect-only", "-n", "2", option)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "under pytest-xdist nothing is measured" in result.stderr


BENCHMARKS = """
import pytest
from fixtures.faults import Fault, Kind
from fixtures.mutation import Outcome, Tell, Verdict
from fixtures.recording import Record
from qnn.results import Evidence

def test_good(record: Record) -> None:
    record(Evidence.RTLSIM, images=10, images_equal=10)

def test_bad(record: Record) -> None:
    record(images=10, images_equal=9)
    raise ValueError("nine of ten")

def test_skipped() -> None:
    pytest.skip("no board")

@pytest.mark.xfail(reason="a fault of FINN", strict=True)
def test_faulty() -> None:
    raise AssertionError

@pytest.fixture
def broken() -> None:
    raise OSError("no such design")

def test_set_up(broken: None) -> None:
    pass

def test_time(device_clock, benchmark) -> None:
    device_clock.measure(benchmark, [0.5, 0.25, 0.25])

def test_wrong_order(benchmark, device_clock) -> None:
    device_clock.measure(benchmark, [1.0])

@pytest.mark.parametrize("kind", Kind)
def test_faults(kind: Kind, tell_verdicts: Tell) -> None:
    fault = Fault(kind=kind, node="node", what="a bit")
    tell_verdicts([Verdict(fault=fault, outcome=Outcome.CAUGHT, why="it shows")])
"""


def _small_suite(folder: Path, text: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """Benchmarks of this `text` run in `folder` with the real plugins."""
    (folder / "benchmarks").mkdir(exist_ok=True)
    (folder / "benchmarks" / "test_small.py").write_text(text)
    (folder / "conftest.py").write_text((ROOT / "conftest.py").read_text())
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    rtlsim\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "benchmarks", "--results", "rows", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "COLUMNS": "160"},
    )


@pytest.fixture(scope="module", params=[[], ["-n", "2"]], ids=["one process", "xdist"])
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, bool]:
    """The output and results of a small suite run with the real plugins."""
    folder = tmp_path_factory.mktemp("session")
    options = request.param or ["--benchmark-json", "times.json"]
    result = _small_suite(folder, BENCHMARKS, *options)
    return result.stdout, folder, bool(request.param)


def _rows(folder: Path) -> dict[str, dict[str, object]]:
    (path,) = (folder / "rows").glob("*.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {row["test"].partition("::")[2]: row for row in rows}


def test_every_test_leaves_a_row_whatever_became_of_it(session: tuple[str, Path, bool]) -> None:
    rows = _rows(session[1])
    statuses = {name: row["status"] for name, row in rows.items()}
    assert statuses["test_good"] == "passed"
    assert statuses["test_bad"] == "failed"
    assert statuses["test_skipped"] == "skipped"
    assert statuses["test_faulty"] == "xfailed"
    assert statuses["test_set_up"] == "error"
    assert rows["test_good"]["metrics"] == {"images": 10, "images_equal": 10}
    assert rows["test_bad"]["reason"] == "ValueError: nine of ten"
    assert rows["test_skipped"]["reason"] == "no board"
    assert rows["test_faulty"]["reason"] == "a fault of FINN"


def test_the_session_ends_with_what_failed_and_was_skipped(session: tuple[str, Path, bool]) -> None:
    assert "failed small: ValueError: nine of ten" in session[0]
    assert "skipped small: no board" in session[0]


def test_the_session_ends_with_the_faults_of_all_processes(session: tuple[str, Path, bool]) -> None:
    lines = session[0].partition("injected faults")[2].splitlines()
    assert any(re.fullmatch(r"weight code +1 +0 +0 +1 +0", line) for line in lines)
    assert any(re.fullmatch(r"all +4 +0 +0 +4 +0", line) for line in lines)
    assert "score: 100.0 % (caught, of caught and missed); 0.0 % undecided, of all" in lines


def test_pytest_benchmark_measures_the_devices_clock(session: tuple[str, Path, bool]) -> None:
    output, folder, parallel = session
    if parallel:
        assert _rows(folder)["test_time"]["status"] == "passed"  # nothing is measured, the row is there all the same
        return
    (benchmark,) = json.loads((folder / "times.json").read_text())["benchmarks"]
    assert benchmark["stats"]["mean"] == pytest.approx(1 / 3)
    assert benchmark["stats"]["ops"] == pytest.approx(3.0)
    tools = json.loads((folder / "times.json").read_text())["machine_info"]["tools"]
    assert tools.keys() >= {"finn", "brevitas", "qonnx", "verilator", "yosys"}
    assert output


TIME = """
def test_time(device_clock, benchmark) -> None:
    device_clock.measure(benchmark, [{seconds}])
"""


def test_another_finn_in_the_stored_run_is_shown_and_a_slower_accelerator_fails(tmp_path: Path) -> None:
    """The stored runs lie beside the folder of the suite, where pytest-benchmark's own comparison would break off."""
    (tmp_path / "suite").mkdir()
    stored = f"--benchmark-storage={tmp_path / 'stored'}"

    def run(seconds: float, *options: str) -> "subprocess.CompletedProcess[str]":
        return _small_suite(tmp_path / "suite", TIME.format(seconds=seconds), stored, *options)

    run(1.0, "--benchmark-save=before")
    (path,) = (tmp_path / "stored").rglob("*.json")
    record = json.loads(path.read_text())
    record["machine_info"]["tools"]["finn"] = "1.2.3"
    path.write_text(json.dumps(record))
    compare = ("--benchmark-compare", "--benchmark-compare-fail=mean:1%")
    same = run(1.005, *compare)
    assert same.returncode == 0
    assert f"tools that differ from those of the stored run: finn 1.2.3 -> {version('finn-plus')}" in same.stderr
    slower = run(1.02, *compare)
    assert slower.returncode == 1
    assert "Performance has regressed" in slower.stderr


def test_a_comparison_with_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "suite").mkdir()
    stored = f"--benchmark-storage={tmp_path / 'stored'}"
    _small_suite(tmp_path / "suite", TIME.format(seconds=1.0), stored, "--benchmark-save=before")
    other = TIME.format(seconds=1.0).replace("test_time", "test_another_time")
    result = _small_suite(tmp_path / "suite", other, stored, "--benchmark-compare")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--benchmark-compare: the stored run has no benchmark in common with this one" in result.stderr


def test_a_clock_that_came_too_late_is_refused(session: tuple[str, Path, bool]) -> None:
    row = _rows(session[1])["test_wrong_order"]
    assert row["status"] == "failed"
    assert "`device_clock` before `benchmark`" in str(row["reason"])


def test_time_passes_only_when_it_is_let() -> None:
    clock = DeviceClock()
    assert clock() == clock() == 0.0
