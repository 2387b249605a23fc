"""One node of FINN's RTL alone in Verilator: any frames, with and without stalls, any contents of its memories.

A node's weights and thresholds are read when the program starts. So one program serves all nodes that differ in them
alone, and those with a fault in them: run() lays the memories beside it.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qnn import process
from qnn.errors import DeadlockError, SimulationError
from qnn.hdl import TOP, HardwareDesign, HardwareNode, stitched_top
from qnn.tools import verilator, yosys

__all__ = ["DRIVER", "SCOPE", "NodeRun", "alone", "build", "pack", "run", "translated", "without_memories"]

DRIVER = Path(__file__).with_name("node.cpp")
SCOPE = f"TOP.{TOP}."
"""What the names of all instances begin with, in messages."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeRun:
    """What a node gave for some frames."""

    output: NDArray[np.uint8]
    """[frames, output beats, bytes of a beat], byte 0 first."""
    completions_cycles: NDArray[np.int64]
    """[frames], ascending: the end of the cycle that handed over the frame's last beat."""


def alone(design: HardwareDesign, name: str) -> HardwareDesign:
    """The node `name` of a design as a design of its own, under a neutral name.

    Nodes that differ in their place alone become equal.
    """
    node = design.node(name)
    neutral = yosys.neutral_files(design, node)
    renamed = HardwareNode(
        name=yosys.NEUTRAL,
        op_type=node.op_type,
        module=yosys.neutral_text(node.module, name),
        sources=neutral.sources,
        input_bits=node.input_bits,
        output_bits=node.output_bits,
        weights_module=node.weights_module and yosys.neutral_text(node.weights_module, name),
        weight_bits=node.weight_bits,
        fifo_depth=node.fifo_depth,
    )
    files = {**neutral.files, f"{TOP}.sv": stitched_top((renamed,))}
    return HardwareDesign(files=files, nodes=(renamed,), finn_version=design.finn_version)


def without_memories(design: HardwareDesign) -> HardwareDesign:
    """The design that is compiled: its HDL alone."""
    return replace(design, files={name: text for name, text in design.files.items() if name not in design.memories})


def build(design: HardwareDesign, folder: Path, *, library: Path | None = None) -> verilator.Simulator:
    """Build a design of a single node, as alone() makes it, into the simulator `folder`; see verilator.build().

    Briefly: a node gets some ten thousand cycles. Raises ToolMissing, ToolFailed, ToolTimeout.
    """
    return verilator.build(without_memories(design), folder, driver=DRIVER, brief=True, library=library)


def translated(design: HardwareDesign, *, timeout_s: float = 300) -> dict[str, str]:
    """Verilator's C++ of a design of a single node: {file: text}. Where it is the same, so is all that a node gives.

    Raises ToolMissing, ToolTimeout, and ToolFailed where Verilator refuses the design.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        design.write(folder)
        arguments = ["--cc", *verilator.LANGUAGE, "--top-module", TOP, "--prefix", "Vtop", "--Mdir", "generated"]
        verilator.run_verilator([*arguments, *design.sources], cwd=folder, log=folder / "log", timeout_s=timeout_s)
        generated = sorted((folder / "generated").iterdir())
        return {path.name: path.read_text() for path in generated if path.suffix in (".h", ".cpp")}


def pack(values: NDArray[np.int64], *, lane_bits: int, lanes: int, beat_bytes: int) -> NDArray[np.uint8]:
    """Values [frames, n] as frames of whole beats [frames, bytes]; the inverse of verilator.unpack().

    Beat k holds values k * lanes and up, lane j in bits j * lane_bits and up; what is left above them is 0.
    """
    frames, count = values.shape
    if count % lanes or lanes * lane_bits > 8 * beat_bytes:
        raise SimulationError(f"{count} values do not fit beats of {lanes} lanes and {beat_bytes} bytes")
    bits = (values.reshape(-1, lanes, 1) >> np.arange(lane_bits)).astype(np.uint8) & 1
    beats = np.zeros((len(bits), 8 * beat_bytes), np.uint8)
    beats[:, : lanes * lane_bits] = bits.reshape(len(bits), -1)
    return np.packbits(beats, axis=1, bitorder="little").reshape(frames, -1)


def run(
    simulator: verilator.Simulator,
    contents: Mapping[str, str],
    frames: NDArray[np.uint8],
    *,
    output_beats: int,
    stalls: int = 0,
    scope: str = SCOPE,
    timeout_s: float = 600,
) -> NodeRun:
    """Frames uint8 [frames, bytes] through a node whose memories have these `contents`, from reset.

    `stalls` is the mean number of cycles after which source and sink stop or go on, at random; 0 for none. An error
    that the HDL reports (``$error``) counts where it comes from below `scope`, by default from anywhere.

    Raises DeadlockError where the node gives less than `output_beats` a frame, SimulationError where it gives more,
    reports an error or breaks the rule of AXI4-Stream that an offered beat stays until it is taken; ToolFailed,
    ToolTimeout.
    """
    count = len(frames)
    input_beats = frames.shape[1] // simulator.input_bytes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in contents.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(content)
        frames.tofile(folder / "input")
        numbers = [str(simulator.output_bytes), str(output_beats), str(count), str(stalls)]
        process.run(
            [simulator.program, "input", str(simulator.input_bytes), str(input_beats), "output", *numbers, "run.json"],
            timeout_s=timeout_s,
            log=folder / "log",
            cwd=folder,
        )
        record = json.loads((folder / "run.json").read_text())
        output = np.fromfile(folder / "output", np.uint8)
        errors = [line for line in (folder / "log").read_text().splitlines() if "%Error" in line and scope in line]
    if errors:
        raise SimulationError(f"the node reports an error: {errors[0]}")
    given, due = record["beats_given"], count * output_beats
    if record["deadlock"]:
        raise DeadlockError(
            f"the node stands still: it took {record['beats_taken']:,} of {count * input_beats:,} beats and gave "
            f"{given:,} of {due:,}"
        )
    if given != due:
        raise SimulationError(f"the node gave {given:,} beats where {due:,} were due")
    if record["broken_handshakes"]:
        raise SimulationError(
            f"the node withdrew or changed {record['broken_handshakes']:,} beats that it had offered and that were "
            "not taken yet"
        )
    return NodeRun(
        output=output.reshape(count, output_beats, simulator.output_bytes),
        completions_cycles=np.array(record["completions_cycles"], np.int64),
    )
