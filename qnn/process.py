"""The one function that starts other programs: an argv list, a time limit, a log."""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qnn.errors import ToolFailed, ToolMissing, ToolTimeout

__all__ = ["Finished", "failed", "run", "tail", "timed_out"]

LOG_LINES_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A program that ended with status 0."""

    log: Path
    """Standard output and standard error, as they came."""
    seconds: float


def tail(log: Path, lines: int = LOG_LINES_SHOWN) -> str:
    """The last `lines` lines of a log, for an error message."""
    with log.open(errors="replace") as stream:
        return "".join(deque(stream, maxlen=lines)).rstrip()


def timed_out(name: str, timeout_s: float, log: Path) -> ToolTimeout:
    """The error of a program that was killed at its time limit."""
    return ToolTimeout(f"{name} did not end within {timeout_s:g} s and was killed; its log ends:\n{tail(log)}")


def failed(name: str, status: int | None, log: Path) -> ToolFailed:
    """The error of a program that ended with a status other than 0: of the signal if negative, None if not known."""
    if status is None:
        how = "died"
    else:
        how = f"was killed by signal {-status}" if status < 0 else f"failed with exit status {status}"
    return ToolFailed(f"{name} {how}; its log ends:\n{tail(log)}", status)


def run(
    argv: Sequence[str | Path],
    *,
    timeout_s: float,
    log: Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Run `argv` to its end, with both output streams in `log`.

    `environment` is added to this process' own. The program gets a process group of its own, and the whole group
    is killed when `timeout_s` has passed or when this function is left by an exception (Ctrl-C among them), so that
    no grandchild goes on. The message of a failure carries the end of the log, since the log itself may lie in a
    folder that is taken away on failure.

    Raises ToolMissing, ToolFailed, ToolTimeout.
    """
    name = Path(argv[0]).name
    start = time.monotonic()
    with log.open("wb") as stream:
        try:
            process = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        except (FileNotFoundError, PermissionError) as error:
            raise ToolMissing(f"{argv[0]} cannot be started: {error.strerror}") from None
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise timed_out(name, timeout_s, log) from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status != 0:
        raise failed(name, status, log)
    return Finished(log=log, seconds=time.monotonic() - start)
