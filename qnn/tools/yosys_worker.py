"""A process of its own that runs a list of Yosys commands: the only place that imports pyosys.

Started as a script by qnn.tools.yosys: ``python -P yosys_worker.py REQUEST RESULT``. REQUEST is JSON, a list of
steps: ``{"command": ..., "condition": null or a name of CONDITIONS}``; a step whose condition does not hold is skipped.
RESULT is JSON with the seconds of each step and the peak memory. Yosys ends the process with status 1 on an
error, which is why nothing else lives in it.
"""

import json
import resource
import sys
import time
from collections import Counter
from pathlib import Path

from pyosys import libyosys as ys


def _cells(design: ys.Design, prefix: str) -> list[ys.Cell]:
    return [
        cell
        for module in design.modules_.values()
        if not module.get_blackbox_attribute()
        for cell in module.cells_.values()
        if cell.type.str().startswith(prefix)
    ]


def has_memories(design: ys.Design) -> bool:
    """Whether the design has a memory, in any of Yosys' forms."""
    return bool(_cells(design, "$mem"))


def writes_register_files_alone(design: ys.Design) -> bool:
    """Whether the design writes memories, and each with more ports than any RAM of the 7 series has (two)."""
    name = ys.IdString("\\MEMID")
    ports = Counter(cell.getParam(name).decode_string() for cell in _cells(design, "$memwr"))
    return bool(ports) and min(ports.values()) > 2


CONDITIONS = {"has_memories": has_memories, "writes_register_files_alone": writes_register_files_alone}


def main(request: Path, result: Path) -> None:
    """Run the steps of `request` in order and write `result`."""
    design = ys.Design()
    seconds = []
    for step in json.loads(request.read_text()):
        start = time.monotonic()
        if step["condition"] is None or CONDITIONS[step["condition"]](design):
            ys.run_pass(step["command"], design)
        seconds.append([step["command"], time.monotonic() - start])
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    result.write_text(
        json.dumps(
            {
                "step_seconds": seconds,
                "cpu_seconds": sum(u.ru_utime + u.ru_stime for u in usage),
                # ru_maxrss is in KiB on Linux.
                "peak_memory_bytes": 1024 * max(u.ru_maxrss for u in usage),
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
