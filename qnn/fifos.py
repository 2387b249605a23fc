"""FIFO depths: what each FIFO of an accelerator needs, what it is given, and which one slows a design down.

FINN's ``fifo_gauge`` (finn-rtllib/fifo/hdl/fifo_gauge.sv) stands in for the FIFO under the macro FINN_SIMULATION: it is
unbounded and records the most beats that it has held. With one frame offered an initiation interval, no node is ever
held up, and those maxima are depths with which none will be. (Offered as fast as it is taken, input would pile up
without bound in front of the slowest node.) gauged() makes the design that is simulated so; this module runs no tool.

An accelerator with FIFOs of that depth keeps the interval: the gauged run is a schedule that they admit, and nodes that
fire as soon as they can are never slower than a schedule that they could keep to (Baccelli et al., "Synchronization
and Linearity", 1992, on timed event graphs). They need not be that deep for it: a node that is made to wait may have
the time, and neighbouring FIFOs share what waits. FINN's own sizing tries less, one FIFO after another.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from qnn.errors import DesignError
from qnn.hdl import TOP, HardwareDesign, HardwareNode

__all__ = [
    "FINN_SIMULATION",
    "MINIMUM_DEPTH",
    "FifoDepth",
    "FifoSizing",
    "capacity_beats",
    "depth_for",
    "fifo_depths",
    "gauged",
    "require_delivered",
    "too_shallow",
]

FINN_SIMULATION = "FINN_SIMULATION"
"""The macro under which FINN's FIFO is the gauge (finn-rtllib/fifo/hdl/fifo_template.v)."""

MINIMUM_DEPTH = 2
"""The least DEPTH that FINN's fifo.sv elaborates; also what FINN gives unless it is told otherwise."""

_LEAST_CAPACITY_BEATS = 5
_EXTRA_LATENCY_CYCLES = 1


def capacity_beats(depth: int) -> int:
    """Beats that FINN's FIFO of this DEPTH holds, at the least, before it takes no more.

    A shallow one has four stages of shift register and an output register in any case; one in block RAM holds some
    beats more than its DEPTH (``DEPTH_ACTUAL`` in finn-rtllib/fifo/hdl/fifo.sv).
    """
    return max(depth, _LEAST_CAPACITY_BEATS)


def depth_for(held_beats: int) -> int:
    """The least DEPTH of FINN's FIFO that stands in for a gauge that held so many beats, without ever refusing one.

    FINN's FIFO hands a beat on two cycles after it took it, the gauge one cycle after, and so it holds one beat more.
    (In block RAM it is a cycle later still, and the FIFO holds at least a beat more than its DEPTH.)
    """
    needed = held_beats + _EXTRA_LATENCY_CYCLES
    return MINIMUM_DEPTH if needed <= capacity_beats(MINIMUM_DEPTH) else needed


@dataclass(frozen=True, kw_only=True)
class FifoDepth:
    """One FIFO: the depth that it has and what the gauge found."""

    name: str
    producer: str | None
    """The node in front of it; None for the accelerator's input."""
    consumer: str | None
    """The node behind it; None for the accelerator's output."""
    configured_depth: int
    """DEPTH of the FIFO as it is in the design."""
    held_beats: int
    """The most beats that the gauge held at a time."""

    @property
    def needed_depth(self) -> int:
        """DEPTH with which it holds up nothing."""
        return depth_for(self.held_beats)

    @property
    def suffices(self) -> bool:
        """Whether the configured FIFO holds all that comes."""
        return capacity_beats(self.configured_depth) >= capacity_beats(self.needed_depth)

    def __str__(self) -> str:
        between = f"between {self.producer or 'the input'} and {self.consumer or 'the output'}"
        return f"{self.name} ({between}; depth {self.configured_depth}, needs {self.needed_depth})"


def fifo_depths(nodes: tuple[HardwareNode, ...], held_beats: Mapping[str, int]) -> tuple[FifoDepth, ...]:
    """Every FIFO of a chain of nodes, in the order of the stream, with its neighbours."""
    names = [None, *(node.name for node in nodes), None]
    return tuple(
        FifoDepth(
            name=node.name,
            producer=names[k],
            consumer=names[k + 2],
            configured_depth=node.fifo_depth,
            held_beats=held_beats[node.name],
        )
        for k, node in enumerate(nodes)
        if node.fifo_depth is not None
    )


@dataclass(frozen=True, kw_only=True)
class FifoSizing:
    """What the gauge found out about one design."""

    fifos: tuple[FifoDepth, ...]
    """In the order of the stream."""
    interval_cycles: int
    """Initiation interval with unbounded FIFOs."""
    latency_cycles: int
    """From the first input beat offered to the last output beat of a frame, with unbounded FIFOs."""
    build_s: float
    """Wall-clock seconds that the simulator with the gauges took to build."""
    host_s: float
    """Wall-clock seconds of the gauge's runs."""

    @property
    def configured_depths(self) -> dict[str, int]:
        return {fifo.name: fifo.configured_depth for fifo in self.fifos}

    @property
    def needed_depths(self) -> dict[str, int]:
        return {fifo.name: fifo.needed_depth for fifo in self.fifos}


_GAUGE = """module {top} (
    input  ap_clk,
    input  ap_rst_n,
    input  [{input_bits}-1:0] in0_V_tdata,
    input  in0_V_tvalid,
    output in0_V_tready,
    output [{output_bits}-1:0] out0_V_tdata,
    output out0_V_tvalid,
    input  out0_V_tready
);
    // The gauge takes every beat. A capacity that is given at the start of a run (+{name}=<beats>) bounds it.
    int unsigned capacity = '1;
    initial void'($value$plusargs("{name}=%d", capacity));
    wire [31:0] count, maxcount;
    wire room = count < capacity;
    wire ready;
    assign in0_V_tready = ready && room;
    {module} node (
        .ap_clk(ap_clk), .ap_rst_n(ap_rst_n), .count(count), .maxcount(maxcount),
        .in0_V_TDATA(in0_V_tdata), .in0_V_TVALID(in0_V_tvalid && room), .in0_V_TREADY(ready),
        .out0_V_TDATA(out0_V_tdata), .out0_V_TVALID(out0_V_tvalid), .out0_V_TREADY(out0_V_tready)
    );
    final $display("fifo {name} held %0d refuses %0d", maxcount, in0_V_tvalid && !in0_V_tready);
endmodule
"""


def gauged(design: HardwareDesign) -> HardwareDesign:
    """The same design for a simulation under FINN_SIMULATION in which each FIFO tells the most beats that it held.

    When the simulation ends a FIFO prints ``fifo <name> held <beats> refuses <0 or 1>``, the latter where a beat waits
    in front of it. FINN's files stay as they are: the suite's own module around each FIFO is another one.

    Raises DesignError where the design has no FIFO.
    """
    fifos = [node for node in design.nodes if node.fifo_depth is not None]
    if not fifos:
        raise DesignError("the design has no FIFO whose depth could be gauged")
    return design.replace_files(
        {
            f"{node.name}/node.sv": _GAUGE.format(
                name=node.name,
                top=node.top,
                module=node.module,
                input_bits=node.input_bits,
                output_bits=node.output_bits,
            )
            for node in fifos
        }
    )


def too_shallow(
    configured: Mapping[str, int],
    needed: Mapping[str, int],
    keeps_up: Callable[[Mapping[str, int]], bool],
) -> tuple[str, ...]:
    """The FIFOs that are the cause where a design with the `configured` depths does not keep up.

    `keeps_up` tries depths {name: depth}. Starting from all that are `needed`, one FIFO after another gets its
    configured depth back, and keeps it where the design still keeps up. So deepening exactly the FIFOs that are
    returned mends the design, and leaving out any one of them does not. Empty where the configured design keeps up.

    Raises DesignError where not even the needed depths keep up: then no FIFO is the cause.
    """
    lesser = [name for name in configured if configured[name] < needed[name]]
    depths = {name: max(configured[name], needed[name]) for name in configured}
    if keeps_up(configured):
        return ()
    if not keeps_up(depths):
        raise DesignError("the design does not keep up with FIFOs of any depth: the cause is not a FIFO")
    causes = []
    for name in lesser:
        tried = {**depths, name: configured[name]}
        if keeps_up(tried):
            depths = tried
        else:
            causes.append(name)
    return tuple(causes)


_INSTANCE = re.compile(r"^    (\w+)_node (\w+) \($", re.MULTILINE)
_DEPTH = re.compile(r"\b(?:fifo #\(\.DEPTH|Q_srl #\(\.depth)\((\d+)\)")
"""FINN's FIFO, and that of 1.5.0 and before."""


def require_delivered(design: HardwareDesign, nodes: Sequence[str]) -> None:
    """Raise DesignError unless the HDL holds the `nodes` of the graph, in its order, and FIFOs of the graph's depths.

    Read from the HDL itself: a FIFO that is left out, or is of another depth, may change no integer and no cycle.
    """
    found = [name for _, name in _INSTANCE.findall(design.files[f"{TOP}.sv"])]
    for name in nodes:
        if name not in found:
            raise DesignError(f"{name} of the graph is not in the RTL")
    if found != list(nodes):
        wrong = next(name for name, due in zip_longest(found, nodes) if name != due)
        raise DesignError(f"the RTL has other nodes than the graph, or in another order, from {wrong} on")
    for node in design.nodes:
        if node.fifo_depth is None:
            continue
        depths = [int(depth) for name in node.sources for depth in _DEPTH.findall(design.files[name])]
        if depths != [node.fifo_depth]:
            raise DesignError(f"{node.name} is of depth {node.fifo_depth} in the graph and of {depths} in the RTL")
        if node.fifo_depth < MINIMUM_DEPTH:
            raise DesignError(f"{node.name} is of depth {node.fifo_depth}: fifo.sv takes {MINIMUM_DEPTH} or more")
