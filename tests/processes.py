"""Whether a process that should have ended has."""

import time
from pathlib import Path

LIMIT_S = 10


def _alive(pid: int) -> bool:
    """Whether it runs: a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid: int) -> bool:
    """Whether it ends within the limit."""
    end = time.monotonic() + LIMIT_S
    while _alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not _alive(pid)
