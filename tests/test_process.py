"""Programs are run with a time limit and a log, and nothing that they started outlives them."""

import os
import sys
from pathlib import Path

import pytest
from processes import gone

from qnn.errors import ToolFailed, ToolMissing, ToolTimeout
from qnn.process import run, tail


def test_both_output_streams_are_in_the_log(tmp_path: Path) -> None:
    script = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
    finished = run([sys.executable, "-c", script], timeout_s=60, log=tmp_path / "log")
    assert finished.log.read_text().split() == ["out", "err"]
    assert finished.seconds > 0


def test_a_failure_carries_the_end_of_the_log(tmp_path: Path) -> None:
    script = "for n in range(99): print('line', n)\nraise SystemExit(3)"
    with pytest.raises(ToolFailed, match=r"exit status 3.*\n(line \d+\n)*line 98$"):
        run([sys.executable, "-c", script], timeout_s=60, log=tmp_path / "log")


def test_a_program_killed_by_a_signal_says_so(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="killed by signal 9"):
        run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], timeout_s=60, log=tmp_path / "log")


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match="no-such-program"):
        run(["no-such-program"], timeout_s=60, log=tmp_path / "log")


def test_a_hanging_program_is_killed_with_its_children(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(ToolTimeout, match="did not end within 2 s"):
        run([sys.executable, "-c", script], timeout_s=2, log=tmp_path / "log")
    assert gone(int((tmp_path / "child").read_text()))


def test_the_environment_is_added_for_the_child_alone(tmp_path: Path) -> None:
    script = "import os; print(os.environ['QNN_TEST'], 'PATH' in os.environ)"
    run([sys.executable, "-c", script], timeout_s=60, log=tmp_path / "log", environment={"QNN_TEST": "yes"})
    assert (tmp_path / "log").read_text().split() == ["yes", "True"]
    assert "QNN_TEST" not in os.environ


def test_tail_gives_the_last_lines(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a\nb\nc\n")
    assert tail(tmp_path / "log", 2) == "b\nc"
