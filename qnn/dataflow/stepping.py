"""FINN's simulation engine on a stitched design: how many cycles a second it simulates from Python."""

import json
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from finn_xsi import adapter

from qnn.dataflow import xsi

__all__ = ["write"]

PATIENCE_CYCLES = 1_000_000


def _run(
    library: Path, beats: list[int], output_beats: int, multi_io: Callable[..., int]
) -> tuple[list[int], int, float]:
    """(output beats, cycles, seconds of the processor) of one run from reset."""
    streams: dict[str, dict[str, list[int]]] = {"inputs": {"in0": beats}, "outputs": {"out0": []}}
    sim: Any = xsi.load_sim_obj(library.parent, Path(library.name))
    adapter.reset_rtlsim(sim)
    start = process_time()
    cycles = multi_io(sim, streams, output_beats, sname="_V", liveness_threshold=PATIENCE_CYCLES)
    seconds = process_time() - start
    adapter.close_rtlsim(sim)
    return streams["outputs"]["out0"], cycles, seconds


def write(library: Path, frames: np.ndarray, input_bytes: int, output_beats: int, folder: Path) -> None:
    """The job ``step``: all `frames` uint8 [N, bytes] through the design, twice -> step.json.

    ``engine`` is FINN's rtlsim_multi_io on its SimEngine, in Python; ``loop`` the library's own loop, which simulates
    FINN's nodes here: each {cycles, host_s, output: the beats in hexadecimal}.
    """
    beats = [int.from_bytes(beat.tobytes(), "little") for beat in frames.reshape(-1, input_bytes)]
    record = {}
    for name, multi_io in (("engine", adapter.rtlsim_multi_io), ("loop", xsi.rtlsim_multi_io)):
        output, cycles, seconds = _run(library, beats, output_beats * len(frames), multi_io)
        record[name] = {"cycles": cycles, "host_s": seconds, "output": [f"{beat:x}" for beat in output]}
    (folder / "step.json").write_text(json.dumps(record))
