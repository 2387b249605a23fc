"""The gate as a person and as CI run it: exit statuses, reports, accepted changes, baselines, bisecting.

The measurements are made up but for the last tests, which run benchmarks with a FINN that has a planted fault.
"""

import json
import re
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest

from qnn.cli import main
from qnn.errors import FinnUnavailable
from qnn.gate.environments import FinnEnvironment
from qnn.gate.measurement import Measurement, Selection, load, suite_version
from qnn.process import run
from qnn.results import Metric, Row, Status

ROOT = Path(__file__).parents[1]
CELL = "tfc-fashion_mnist-A3W3-PE8-SIMD8"
INSTALLED = version("finn-plus")
Figures = dict[str, dict[str, Metric]]


def rows_of(metrics: dict[str, Metric]) -> tuple[Row, ...]:
    """A test that passes, or without metrics fails."""
    test = f"benchmarks/test_resources.py::test_accelerator_fits_the_part[{CELL}]"
    row = Row(test=test, hop="resources", status=Status.PASSED, cell=CELL, metrics=metrics)
    return (row if metrics else replace(row, status=Status.FAILED, reason="StoreError: the disk is full"),)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """``gate(figures, *arguments)``: `figures` {FINN: metrics} are what each FINN is found to give."""

    def run(figures: Figures, *arguments: str, command: str = "gate") -> int:
        def environment(spec: str, store: object) -> FinnEnvironment:
            if spec not in figures:
                raise FinnUnavailable(f"finn-plus=={spec} does not exist")
            laid = {"finn-plus": spec, "numpy": "1.26.4"} if spec == "1.4.0" else {}
            return FinnEnvironment(name=spec, version=spec, packages=laid, size_bytes=140_351_943 if laid else 0)

        def measure(made: FinnEnvironment, selection: Selection, **_others: object) -> Measurement:
            return Measurement(
                finn=made.version,
                suite=suite_version(),
                tools={"finn": made.version, "yosys": "0.70"},
                selection=selection,
                rows=rows_of(figures[made.version]),
            )

        monkeypatch.setattr("qnn.gate.environments.environment", environment)
        monkeypatch.setattr("qnn.gate.measurement.measure", measure)
        monkeypatch.chdir(tmp_path)
        return main([command, *arguments])

    return run


Gate = Callable[..., int]
WORSE: Figures = {"1.5.0": {"lut": 1000, "dsp": 64, "ff": 900}, "1.6.1": {"lut": 1100, "dsp": 64, "ff": 800}}
SAME: Figures = dict.fromkeys(WORSE, WORSE["1.5.0"])


def test_nothing_changed_is_clean(gate: Gate, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(SAME, "--from", "1.5.0", "--to", "1.6.1") == 0
    assert "FINN 1.5.0 -> 1.6.1: clean. 3 figures of 1 tests compared; nothing changed." in capsys.readouterr().out


def test_a_regression_is_named_with_cell_metric_and_tolerance_and_so_is_an_improvement(
    gate: Gate, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert gate(WORSE, "--from", "1.5.0", "--to", "1.6.1") == 1
    lines = [" ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()]
    assert f"{CELL} accelerator fits the part lut 1,000 1,100 +10 % 2 % or 4 regressed" in lines
    assert f"{CELL} accelerator fits the part ff 900 800 -11.1 % 2 % or 4 improved" in lines


def test_reports_are_written_for_ci(gate: Gate, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("gate.xml", "gate.md", "gate.json")]
    options = [word for pair in zip(("--junit", "--markdown", "--json"), map(str, files), strict=True) for word in pair]
    assert gate(WORSE, "--from", "1.5.0", "--to", "1.6.1", *options) == 1
    suite = ElementTree.fromstring(files[0].read_text())
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "lut 1,000 1,100 +10 % 2 % or 4 regressed"
    markdown = files[1].read_text()
    assert markdown.startswith("### FINN 1.5.0 → 1.6.1: regressed\n")
    assert f"| {CELL} | accelerator fits the part | lut | 1,000 | 1,100 | +10 % | 2 % or 4 | regressed |" in markdown
    record = json.loads(files[2].read_text())
    assert record["regressed"]
    assert [(change["metric"], change["verdict"]) for change in record["changes"]] == [
        ("lut", "regressed"),
        ("ff", "improved"),
    ]


def test_a_clean_run_has_no_failure_in_junit(gate: Gate, tmp_path: Path) -> None:
    assert gate(SAME, "--from", "1.5.0", "--to", "1.6.1", "--junit", str(tmp_path / "gate.xml")) == 0
    suite = ElementTree.fromstring((tmp_path / "gate.xml").read_text())
    assert (suite.get("tests"), suite.get("failures")) == ("1", "0")


def accepting(folder: Path, metric: str) -> None:
    entry = f'[[change]]\nrelease = "1.6.1"\nmetric = "{metric}"\nreason = "a register more"\n'
    (folder / "expected-changes.toml").write_text(entry)


def test_an_accepted_regression_is_clean_and_told(
    gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accepting(tmp_path, "lut")
    assert gate(WORSE, "--from", "1.5.0", "--to", "1.6.1") == 0
    assert "a register more" in capsys.readouterr().out


def test_an_accepted_regression_that_is_no_longer_there_fails(
    gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accepting(tmp_path, "lut")
    assert gate(SAME, "--from", "1.5.0", "--to", "1.6.1") == 1
    assert "take it out of expected-changes.toml: lut of any cell in FINN 1.6.1" in capsys.readouterr().out


def test_a_test_that_fails_with_both_is_told_and_where_that_leaves_nothing_to_compare_it_is_status_2(
    gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate({"1.5.0": {}, "1.6.1": {}}, "--from", "1.5.0", "--to", "1.6.1") == 2
    told = capsys.readouterr()
    assert "test_accelerator_fits_the_part" in told.out
    assert "StoreError: the disk is full" in told.out
    assert "0 figures of 1 tests compared; nothing changed; 1 tests fail with both." in told.out
    assert "error: no figure was compared, so nothing is known: see the logs in results/" in told.err


def test_what_is_laid_over_is_told_with_its_size(gate: Gate, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate({"1.4.0": {"lut": 1}, "1.6.1": {"lut": 1}}, "--from", "1.4.0", "--to", "1.6.1") == 0
    told = capsys.readouterr().out
    assert "FINN 1.4.0: 140 MB laid over: finn-plus 1.4.0, numpy 1.26.4\n" in told
    assert told.count("laid over") == 1, "the other is the installed one"


def test_a_finn_that_cannot_be_had_is_status_2(gate: Gate, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(SAME, "--from", "9.9.9", "--to", "1.6.1") == 2
    assert "error: finn-plus==9.9.9 does not exist" in capsys.readouterr().err


def test_accepted_changes_that_are_named_and_are_not_there_are_status_2(
    gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(WORSE, "--from", "1.5.0", "--to", "1.6.1", "--expected-changes", "nonesuch.toml") == 2
    assert "error: nonesuch.toml, the accepted changes, cannot be read: No such file" in capsys.readouterr().err


def test_a_fault_of_the_gate_itself_is_status_2_with_its_traceback(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("qnn.gate.verdict.compare", lambda *_: 1 / 0)
    assert gate(SAME, "--from", "1.5.0", "--to", "1.6.1") == 2
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert told.endswith("ZeroDivisionError: division by zero\n")


# ------------------------------------------------------------------------------------------- baselines and bisecting


def test_a_baseline_takes_the_place_of_the_old_side(gate: Gate, tmp_path: Path) -> None:
    path = str(tmp_path / "baseline.json")
    assert gate(WORSE, path, "--finn", "1.5.0", "-k", "A3W3", command="baseline") == 0
    assert json.loads(Path(path).read_text())["selection"]["expression"] == "A3W3"
    assert gate(WORSE, "--baseline", path, "--to", "1.6.1") == 1
    assert gate(SAME, "--baseline", path, "--to", "1.5.0") == 0


@pytest.fixture
def stored(gate: Gate, tmp_path: Path) -> Path:
    """A baseline of FINN 1.5.0 in which a test of A4W4 stands beside that of A3W3, which is all that is run later."""
    path = tmp_path / "baseline.json"
    assert gate(SAME, str(path), "--finn", "1.5.0", command="baseline") == 0
    record = json.loads(path.read_text())
    (row,) = record["rows"]
    record["rows"].append(
        {name: value.replace("A3W3", "A4W4") if isinstance(value, str) else value for name, value in row.items()}
    )
    path.write_text(json.dumps(record))
    return path


def test_a_test_that_the_baselines_own_selection_no_longer_has_is_a_regression(
    gate: Gate, stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(SAME, "--baseline", str(stored), "--to", "1.6.1") == 1
    assert "1 regressed" in capsys.readouterr().out


@pytest.mark.parametrize("narrowed", [("-k", "A3W3"), ("--benchmarks", "resources"), ("--foldings", "8x8,2x2")])
def test_of_a_baseline_only_what_was_selected_is_compared(
    narrowed: tuple[str, str], gate: Gate, stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(SAME, "--baseline", str(stored), "--to", "1.6.1", *narrowed) == 0
    told = capsys.readouterr().out
    assert "1 tests of the baseline are left out: they were not selected" in told
    assert "3 figures of 1 tests compared; nothing changed." in told


def test_a_baseline_without_a_test_that_is_judged_is_status_2(
    gate: Gate, stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the same cell there may be figures of another test."""
    stored.write_text(stored.read_text().replace("fits_the_part", "fits_another_part"))
    assert gate(SAME, "--baseline", str(stored), "--to", "1.6.1") == 2
    told = capsys.readouterr().err
    assert (
        "the baseline has no figures of 1 of 1 tests, benchmarks/test_resources.py::test_accelerator_fits_the" in told
    )
    assert "write it anew with `python -m qnn baseline` and this selection, or select what it has: -k" in told


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ((), ["--foldings", "8x8"]),
        (("--", "--policy", "balanced"), ["--foldings", "8x8", "--policy", "balanced"]),
        (("--foldings", "2x2", "--", "--policy", "balanced"), ["--foldings", "2x2", "--policy", "balanced"]),
    ],
)
def test_further_options_come_on_top_of_the_foldings(
    asked: tuple[str, ...], options: list[str], gate: Gate, tmp_path: Path
) -> None:
    assert gate(SAME, "baseline.json", *asked, command="baseline") == 0
    assert json.loads((tmp_path / "baseline.json").read_text())["selection"]["options"] == options


def test_further_options_come_on_top_of_those_of_the_baseline(gate: Gate, tmp_path: Path) -> None:
    assert gate(SAME, "baseline.json", "--", "--policy", "balanced", command="baseline") == 0
    more = ("--json", "gate.json", "--foldings", "2x2", "--", "--part", "xc7z010clg400-1")
    assert gate(SAME, "--baseline", "baseline.json", "--to", "1.6.1", *more) == 0
    selection = json.loads((tmp_path / "gate.json").read_text())["selection"]
    assert selection == '-k "A3W3 or A4W4" --foldings 2x2 --policy balanced --part xc7z010clg400-1'


def test_the_stored_baseline_is_of_the_pinned_finn_and_has_every_test_of_its_selection(tmp_path: Path) -> None:
    (pin,) = re.findall(r"^finn-plus==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    (path,) = (ROOT / "fixtures" / "baselines").iterdir()
    stored = load(path)
    assert (path.name, stored.finn) == (f"finn-plus-{pin}.json", pin)
    chosen = stored.selection
    modules = [f"benchmarks/test_{name}.py" for name in chosen.benchmarks]
    argv = [sys.executable, "-m", "pytest", *modules, "-k", chosen.expression, *chosen.options, "--collect-only", "-q"]
    log = run([*argv, "-p", "no:cacheprovider"], timeout_s=300, log=tmp_path / "log", cwd=ROOT).log.read_text()
    assert [line for line in log.splitlines() if "::" in line] == [row.test for row in stored.rows]


def test_bisecting_names_the_first_release_that_changed(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    releases = [f"1.{n}.0" for n in range(9)]
    monkeypatch.setattr("qnn.gate.environments.releases_between", lambda *_: releases)
    figures: Figures = {name: {"lut": 1000 if n < 5 else 1500, "ff": n} for n, name in enumerate(releases)}
    assert gate(figures, "--bisect", "1.0.0", "1.8.0") == 1
    out = capsys.readouterr().out
    assert "the first one: 1.5.0" in out
    assert sum(f"FINN {name}: 1 tests" in out for name in releases) < 6, "halved, and each is measured once"
    assert gate(figures, "--bisect", "1.0.0", "1.8.0", "--metric", "ff") == 1
    assert "the first one: 1.1.0" in capsys.readouterr().out
    assert gate({name: {"lut": 1} for name in releases}, "--bisect", "1.0.0", "1.8.0") == 0
    assert "nothing that fails the gate changed from 1.0.0 to 1.8.0" in capsys.readouterr().out
    assert gate({name: {"lut": 1} for name in releases}, "--bisect", "1.0.0", "1.8.0", "--metric", "lut") == 0
    assert "lut is the same from 1.0.0 to 1.8.0" in capsys.readouterr().out


def test_bisecting_passes_over_what_does_not_run_and_says_where_that_leaves_a_doubt(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    releases = [f"1.{n}.0" for n in range(9)]
    monkeypatch.setattr("qnn.gate.environments.releases_between", lambda *_: releases)
    figures: Figures = {name: {"lut": 1000 if n < 5 else 1500} for n, name in enumerate(releases)}
    figures["1.4.0"] = {}  # its test fails
    del figures["1.3.0"]  # cannot be installed
    assert gate(figures, "--bisect", "1.0.0", "1.8.0", "--metric", "lut") == 1
    out = capsys.readouterr().out
    assert "1.3.0: finn-plus==1.3.0 does not exist" in out
    assert "1.4.0: cannot tell, passed over" in out
    assert "the first one: 1.5.0\nor one before it that cannot tell: 1.3.0, 1.4.0" in out


def test_what_bisecting_found_is_reported_without_what_was_accepted(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    releases = ["1.5.0", "1.6.0", "1.6.1"]
    monkeypatch.setattr("qnn.gate.environments.releases_between", lambda *_: releases)
    figures: Figures = {
        "1.5.0": {"lut": 1000, "dsp": 1},
        "1.6.0": {"lut": 1500, "dsp": 1},
        "1.6.1": {"lut": 1500, "dsp": 2},
    }
    reports = ("--junit", "gate.xml", "--markdown", "gate.md", "--json", "gate.json")

    def found(status: int) -> list[tuple[str, str]]:
        assert gate(figures, "--bisect", "1.5.0", "1.6.1", *reports) == status
        assert ElementTree.fromstring((tmp_path / "gate.xml").read_text()).get("failures") == str(status)
        record = json.loads((tmp_path / "gate.json").read_text())
        assert (tmp_path / "gate.md").read_text().startswith(f"### FINN 1.5.0 → {record['new']['finn']}: ")
        return [
            (record["new"]["finn"], change["metric"])
            for change in record["changes"]
            if change["verdict"] == "regressed"
        ]

    assert found(1) == [("1.6.0", "lut")]
    entry = '[[change]]\nrelease = "1.6.0"\nmetric = "lut"\nreason = "a register more"\n'
    (tmp_path / "expected-changes.toml").write_text(entry)
    assert found(1) == [("1.6.1", "dsp")]
    (tmp_path / "expected-changes.toml").write_text(entry + entry.replace("lut", "dsp").replace("1.6.0", "1.6.1"))
    assert found(0) == []
    assert "nothing that fails the gate changed from 1.5.0 to 1.6.1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [("--bisect", "1.5.0", "1.6.1", "--to", "1.6.0"), ("--from", "1.5.0", "--metric", "lut")]
)
def test_an_option_that_would_be_ignored_is_an_error(
    words: tuple[str, ...], gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        gate(SAME, *words)
    assert "--bisect" in capsys.readouterr().err.splitlines()[-1]


def test_bisecting_a_metric_that_an_end_does_not_have_is_status_2(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("qnn.gate.environments.releases_between", lambda *_: ["1.5.0", "1.6.1"])
    assert gate(WORSE, "--bisect", "1.5.0", "1.6.1", "--metric", "lutz") == 2
    assert "measures no lutz with 1.5.0" in capsys.readouterr().err
    assert gate(WORSE, "--bisect", "1.5.0", "1.6.1", "--metric", "host_simulate_s") == 2
    assert "host_simulate_s is this computer's, whatever the FINN" in capsys.readouterr().err
    assert gate({**WORSE, "1.6.1": {}}, "--bisect", "1.5.0", "1.6.1", "--metric", "lut") == 2
    assert "nothing can be told of 1.6.1: take an earlier one that runs" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------- real benchmarks


@pytest.fixture(scope="module")
def finn_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout that holds the installed FINN."""
    spec = find_spec("finn")
    assert spec is not None
    assert spec.origin is not None
    installed, folder = Path(spec.origin).parent, tmp_path_factory.mktemp("finn")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(installed, folder / "src" / "finn", ignore=ignored)
    shutil.copytree(installed.parent / "finn_xsi", folder / "finn_xsi", ignore=ignored)
    return folder


def planted(source: Path, folder: Path, file: str, old: str, new: str) -> None:
    """A fault in the checkout in `folder`, a copy of `source`: one text of a file replaced."""
    if not folder.exists():
        shutil.copytree(source, folder)
    path = folder / "src" / "finn" / file
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))


def test_a_checkout_of_the_installed_finn_is_clean_and_each_of_its_faults_is_named(
    finn_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One step crashes for PE 8 alone; Yosys refuses a file; FIFOs are deeper. The gate is run from another folder."""
    faulty = tmp_path / "faulty"
    unit = "    def generate_hdl(self, model, fpgapart, clk):\n"
    crash = (
        f"{unit}        import os\n        self.get_nodeattr('PE') == 8 and os.kill(os.getpid(), {signal.SIGSEGV:d})\n"
    )
    planted(finn_source, faulty, "custom_op/fpgadataflow/rtl/matrixvectoractivation_rtl.py", unit, crash)
    depth = "fifo_depth = max(n0_depth, n1_depth)"
    planted(finn_source, faulty, "transformation/fpgadataflow/insert_fifo.py", depth, depth.replace(")", ", 8)"))
    planted(finn_source, faulty, "finn-rtllib/fifo/hdl/fifo.sv", "\nmodule fifo #(", "\nplanted;\nmodule fifo #(")
    monkeypatch.chdir(tmp_path)
    select = ["-k", "A2W2 and (holds_the_nodes or (PE2 and fits_the_part))", "--foldings", "2x2,8x8"]
    options = [*select, "--benchmarks", "fifos,resources", "--store", "store", "--json", "gate.json"]

    assert main(["baseline", "baseline.json", *options[:-2]]) == 0
    assert main(["gate", "--baseline", "baseline.json", "--to", str(finn_source), *options]) == 0
    record = json.loads(Path("gate.json").read_text())
    assert record["figures_compared"] > 10
    assert record["changes"] == []

    assert main(["gate", "--baseline", "baseline.json", "--to", str(faulty), *options]) == 1
    changes = json.loads(Path("gate.json").read_text())["changes"]
    found = {(change["cell"].rpartition("A2W2-")[2], change["metric"]): change for change in changes}
    assert {key: change["verdict"] for key, change in found.items() if change["verdict"] != "told"} == {
        ("PE8-SIMD8", "status"): "regressed",
        ("PE2-SIMD2", "status"): "tool-gap",
        ("PE2-SIMD2", "fifo_depth"): "regressed",
    }
    assert "FINN, at the step 'generate HDL', died; its log ends:\n" in found["PE8-SIMD8", "status"]["why"]
    assert "yosys refuses rtllib/fifo/hdl/fifo.sv" in found["PE2-SIMD2", "status"]["why"]
    depths = found["PE2-SIMD2", "fifo_depth"]
    assert (depths["old"], depths["new"], depths["node"]) == (2, 8, "StreamingFIFO_rtl_1")
    assert "REGRESSED" in capsys.readouterr().out


def test_an_expression_that_selects_nothing_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = ["--store", str(tmp_path / "store"), "--results", str(tmp_path / "results")]
    select = ["-k", "nonesuch", "--benchmarks", "timing"]
    assert main(["gate", "--from", INSTALLED, "--to", INSTALLED, *select, *folders]) == 2
    assert 'error: -k "nonesuch" --foldings 8x8 selects no benchmark' in capsys.readouterr().err
    assert main(["gate", "--from", INSTALLED, "--to", INSTALLED, *folders, "--benchmarks", "nonesuch"]) == 2
    assert "there is no" in capsys.readouterr().err
