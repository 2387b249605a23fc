"""``python -m qnn.dataflow FD``: FINN, imported once; a fork of this process does each request.

FINN takes seven seconds of a core to be imported, longer than most jobs take. FD is a Unix socket. A message on it is
the path of a request (``qnn.dataflow.jobs``), with two descriptors: a socket, on which the fork tells its process group
and at its end its exit status, a line each; and its log. One byte answers a message, and the end of the socket ends
the server. See ``qnn.tools.finn_server``.
"""

import os
import signal
import socket
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path

from qnn.dataflow import jobs
from qnn.dataflow.session import open_session

_PATH_BYTES = 1 << 16


def _import_finn() -> None:
    """What a fork will need. What cannot be imported here is tried again by each job, and is that one's error."""
    with tempfile.TemporaryDirectory() as folder, suppress(Exception):
        os.environ["FINN_BUILD_DIR"] = folder  # FINN's settings have to be there before its steps are imported
        open_session()
        from qnn.dataflow import cppsim, own, rtlsim, thresholding  # noqa: F401


def _do(request: Path, report: socket.socket, log: int) -> int:
    """A request, in the fork: its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    report.sendall(f"{os.getpid()}\n".encode())
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())
    status = 1
    try:
        jobs.run(request)
        status = 0
    except BaseException:  # noqa: BLE001 - told by log and status
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def serve(control: socket.socket) -> None:
    """Fork for each message until the other side closes the socket."""
    _import_finn()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks need not be waited for: they tell their status themselves
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, _PATH_BYTES, 2)
        if not message:
            return
        report, log = socket.socket(fileno=descriptors[0]), descriptors[1]
        if os.fork() == 0:
            control.close()
            # Nothing of the server's may go on in a fork; a client that has gone is no matter.
            try:
                with suppress(OSError):
                    report.sendall(f"{_do(Path(os.fsdecode(message)), report, log)}\n".encode())
            finally:
                os._exit(0)
        report.close()
        os.close(log)
        control.sendall(b".")


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
