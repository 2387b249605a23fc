"""FINN in a process that imports it once and forks for each request: importing takes longer than most jobs do.

A request is run as ``qnn.process.run`` runs a program: in a process group of its own, with a time limit and a log.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from qnn.errors import ToolFailed
from qnn.process import failed, timed_out

__all__ = ["FinnServer", "finn_server"]

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class _Connection:
    """A server that runs, and the socket on which it takes requests."""

    process: subprocess.Popen[bytes]
    control: socket.socket

    @classmethod
    def start(cls, python_path: str) -> "_Connection":
        control, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", "-m", "qnn.dataflow", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": python_path},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        return cls(process=process, control=control)

    def hand_over(self, request: Path, report: socket.socket, log: int, timeout_s: float) -> bool:
        """Whether the server lives and has forked. Raises TimeoutError."""
        self.control.settimeout(timeout_s)
        try:
            socket.send_fds(self.control, [os.fsencode(request)], [report.fileno(), log])
            return bool(self.control.recv(1))
        except (BrokenPipeError, ConnectionResetError):
            return False

    def end(self) -> None:
        """Its forks go on."""
        self.control.close()
        self.process.kill()
        self.process.wait()


def _line(report: socket.socket) -> bytes:
    """Up to the end of the line, or of the socket. Raises TimeoutError."""
    line = b""
    while not line.endswith(b"\n") and (byte := report.recv(1)):
        line += byte
    return line


def _follow(report: socket.socket, timeout_s: float) -> int | None:
    """The exit status of a fork, None where it did not live to tell. All that it has started has ended then.

    Raises TimeoutError.
    """
    report.settimeout(timeout_s)
    group = int(_line(report) or 0)
    try:
        status = _line(report)
    finally:
        if group:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
            report.settimeout(None)
            while report.recv(64):
                pass
    return int(status) if status else None


def _at_its_step(log: Path) -> str:
    """FINN, with the step of a job that it told last: a process that died tells no more."""
    told = re.findall(r"^qnn\.dataflow: (.*)$", log.read_text(errors="replace"), re.MULTILINE)
    return f"FINN, at the step {told[-1]!r}," if told else "FINN"


class FinnServer:
    """The way to the process, which is started by the first request, and anew where it died; it ends with this one.

    The folder `suite`, which holds qnn, is in front of `python_path` in its PYTHONPATH. Several threads may use it at
    once.
    """

    def __init__(self, python_path: str = "", *, suite: Path = _ROOT) -> None:
        self._python_path = os.pathsep.join(filter(None, [str(suite), python_path]))
        self._lock = threading.Lock()
        self._connection: _Connection | None = None

    def _hand_over(self, request: Path, report: socket.socket, log: int, timeout_s: float) -> None:
        """Raises TimeoutError, and ToolFailed where the server ends before it has forked."""
        with self._lock:
            if self._connection is None:
                self._connection = _Connection.start(self._python_path)
                weakref.finalize(self, self._connection.end)
            forked = False
            try:
                forked = self._connection.hand_over(request, report, log, timeout_s)
            finally:
                if not forked:  # a late answer would be taken for the next one's
                    self._connection.end()
                    self._connection = None
        if not forked:
            raise ToolFailed("the process that imports FINN ended")

    def run(
        self, jobs: Sequence[Mapping[str, Any]], *, log: Path, timeout_s: float, environment: Mapping[str, str]
    ) -> None:
        """Let FINN do `jobs` (``qnn.dataflow.jobs``), with its output in `log`.

        `environment` is added to this process' own. When `timeout_s` has passed, and when this function is left by an
        exception, all that the jobs have started is killed.

        Raises ToolFailed where the process does not live to their end, and ToolTimeout.
        """
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="finn-") as scratch:
            request, build = Path(scratch) / "request.json", Path(scratch) / "build"
            build.mkdir()
            given = {**os.environ, "PYTHONPATH": self._python_path, "FINN_BUILD_DIR": str(build), **environment}
            request.write_text(json.dumps({"environment": given, "jobs": list(jobs)}))
            report, theirs = socket.socketpair()
            try:
                with report:
                    with theirs, log.open("wb") as stream:
                        self._hand_over(request, theirs, stream.fileno(), timeout_s)
                    status = _follow(report, max(0.1, timeout_s - (time.monotonic() - start)))
            except TimeoutError:
                raise timed_out(_at_its_step(log), timeout_s, log) from None
        if status != 0:
            raise failed(_at_its_step(log), status, log)


@cache
def finn_server(python_path: str) -> FinnServer:
    """The server of FINN as PYTHONPATH has it, one for the whole process."""
    return FinnServer(python_path)
