"""The check before installation names what is missing and how to mend it."""

import importlib.util
import platform
import shutil
import sys
from collections.abc import Callable
from typing import Any

import pytest

from qnn import preflight


def _without(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, missing: str) -> None:
    original: Callable[..., Any] = getattr(module, name)
    monkeypatch.setattr(module, name, lambda what, *rest: None if what == missing else original(what, *rest))


def test_a_whole_machine_has_no_problem() -> None:
    assert preflight.problems() == []


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, shutil, "which", "g++")
    (problem,) = preflight.problems()
    assert "g++ is missing" in problem


def test_a_missing_venv_module_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, importlib.util, "find_spec", "venv")
    (problem,) = preflight.problems()
    assert "python3-venv" in problem


def test_an_old_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 0))
    assert "too old" in preflight.problems()[0]


def test_another_machine_needs_a_system_verilator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    _without(monkeypatch, shutil, "which", "verilator")
    (problem,) = preflight.problems()
    assert "install your system's Verilator, release 5 or newer" in problem


@pytest.mark.parametrize(("text", "major"), [("Verilator 5.020 2024-01-01", 5), ("Verilator 4.228", 4), ("", 0)])
def test_the_release_of_a_system_verilator_is_read(text: str, major: int) -> None:
    assert preflight.verilator_major(text) == major


def test_the_exit_status_tells_make(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert preflight.main() == 0
    _without(monkeypatch, shutil, "which", "g++")
    assert preflight.main() == 1
    assert "preflight: g++ is missing" in capsys.readouterr().err
