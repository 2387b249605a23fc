"""FINN is imported once; what a request meets is its own, and nothing that it started outlives it."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from processes import gone

from qnn.errors import ToolFailed, ToolTimeout
from qnn.tools.finn_server import FinnServer

PLANTED = """
import json, os, signal, subprocess, sys, time
from pathlib import Path

def run(request):
    given = json.loads(request.read_text())
    os.environ.update(given["environment"])
    for job in given["jobs"]:
        exec(job["script"])
"""
"""Jobs that are Python, in place of FINN's."""

Run = Callable[..., str]


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A folder in which `qnn.dataflow` is the real server, with planted jobs and nothing that takes long to import."""
    package = tmp_path / "planted" / "qnn" / "dataflow"
    package.mkdir(parents=True)
    source = Path(__file__).parents[1] / "qnn" / "dataflow" / "__main__.py"
    (package / "__main__.py").write_text(source.read_text())
    for name in ("__init__", "cppsim", "own", "rtlsim", "thresholding", "../__init__"):
        (package / f"{name}.py").touch()
    (package / "jobs.py").write_text(PLANTED)
    (package / "session.py").write_text("def open_session(): pass\n")
    return tmp_path / "planted"


@pytest.fixture
def server(planted: Path) -> FinnServer:
    return FinnServer(suite=planted)


@pytest.fixture
def run(server: FinnServer, tmp_path: Path) -> Run:
    """Runs scripts as the jobs of one request, and gives the log."""

    def run(*scripts: str, timeout_s: float = 30, **environment: str) -> str:
        jobs, log = [{"script": script} for script in scripts], tmp_path / "log"
        server.run(jobs, log=log, timeout_s=timeout_s, environment=environment)
        return log.read_text()

    return run


def test_requests_are_forks_of_one_process_with_logs_of_their_own(run: Run) -> None:
    script = "print(os.getppid(), os.getpid())"
    (parent, first), (same, second) = run(script).split(), run(script).split()
    assert parent == same
    assert first != second


def test_a_request_has_its_own_environment_and_scratch_folder(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "print(os.environ.get('PLANTED'), os.environ['FINN_BUILD_DIR'], os.path.isdir(os.environ['FINN_BUILD_DIR']))"
    )
    first, second = run(script, PLANTED="given").split(), run(script).split()
    monkeypatch.setenv("PLANTED", "later")
    third = run(script).split()
    assert [first[0], second[0], third[0]] == ["given", "None", "later"]
    assert len({first[1], second[1], third[1]}) == 3
    assert first[2] == "True"
    assert not Path(first[1]).exists()


def test_an_exception_fails_the_request_with_the_end_of_its_log_and_not_the_next_one(run: Run) -> None:
    with pytest.raises(ToolFailed, match=r"FINN failed with exit status 1; its log ends:[\s\S]*RuntimeError: planted"):
        run("raise RuntimeError('planted')")
    assert run("print('next')") == "next\n"


def test_a_request_that_is_killed_fails_and_not_the_next_one(run: Run) -> None:
    with pytest.raises(ToolFailed, match=r"FINN died; its log ends:\nbegun"):
        run("print('begun', flush=True); os.kill(os.getpid(), 9)")
    assert run("print('next')") == "next\n"


def test_a_process_that_dies_or_overruns_is_told_with_its_step(run: Run) -> None:
    """As ``qnn.dataflow.jobs`` tells its steps."""
    steps = "print('qnn.dataflow: fold', flush=True); print('qnn.dataflow: generate HDL', flush=True); "
    with pytest.raises(ToolFailed, match=r"FINN, at the step 'generate HDL', died; its log ends:\n"):
        run(f"{steps}os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(ToolTimeout, match=r"FINN, at the step 'generate HDL', did not end within 2 s and was killed"):
        run(f"{steps}time.sleep(60)", timeout_s=2)


def test_programs_of_a_request_are_waited_for_as_usual(run: Run) -> None:
    assert run("print(subprocess.run(['sh', '-c', 'exit 3']).returncode)") == "3\n"


def test_at_the_time_limit_all_that_a_request_started_is_killed(run: Run, tmp_path: Path) -> None:
    script = f"Path({str(tmp_path / 'pid')!r}).write_text(str(subprocess.Popen(['sleep', '60']).pid)); time.sleep(60)"
    with pytest.raises(ToolTimeout, match=r"FINN did not end within 2 s and was killed"):
        run(script, timeout_s=2)
    assert gone(int((tmp_path / "pid").read_text()))
    assert run("print('next')") == "next\n"


def test_what_a_request_left_running_is_killed_at_its_end(run: Run) -> None:
    assert gone(int(run("print(subprocess.Popen(['sleep', '60']).pid)")))


def test_a_server_that_was_killed_is_started_anew(run: Run) -> None:
    parent = int(run("print(os.getppid())"))
    os.kill(parent, 9)
    assert gone(parent)
    with suppress(ToolFailed):  # a request may meet its end
        run("pass")
    assert int(run("print(os.getppid())")) != parent


def test_a_time_limit_while_finn_is_imported_holds(run: Run, planted: Path) -> None:
    session = planted / "qnn" / "dataflow" / "session.py"
    session.write_text("import time\ndef open_session(): time.sleep(60)\n")
    with pytest.raises(ToolTimeout, match=r"within 0\.5 s"):
        run("pass", timeout_s=0.5)
    session.write_text("def open_session(): pass\n")
    assert run("print('next')") == "next\n"


def test_a_finn_that_cannot_be_imported_is_the_error_of_the_request_that_needs_it(run: Run, planted: Path) -> None:
    (planted / "qnn" / "dataflow" / "session.py").write_text("def open_session(): raise ImportError('no torch')\n")
    assert run("print('needs none')") == "needs none\n"
    with pytest.raises(ToolFailed, match="ImportError: no torch"):
        run("from qnn.dataflow.session import open_session; open_session()")


def test_a_server_ends_with_its_owner(planted: Path, tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from qnn.tools.finn_server import FinnServer
job = {{"script": "print(os.getppid())"}}
FinnServer(suite=Path({str(planted)!r})).run([job], log=Path("log"), timeout_s=30, environment={{}})
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True, timeout=60)
    assert gone(int((tmp_path / "log").read_text()))
