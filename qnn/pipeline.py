"""From a cell to each of its artifacts, through the store: nothing is built twice, and nothing that is not asked for.

    checkpoint -> qonnx -> dataflow (FINN: graphs, integers, RTL) -> simulator -> simulation
                                                                  -> cppsim (HLS variants)
                                                                  -> synthesis of each node

The policy `uniform` has FINN's default FIFOs, as the study has. Layers of a `balanced` design all take about the whole
interval, and such FIFOs may make them wait for each other: of it those are deepened that would (`_delivered`).

An artifact's key is the content that it is made from, the versions of the tools that make it, and the suite's own
source that drives them. torch is imported by the steps that need it, not with this module.
"""

import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from qnn import datasets, edits, evaluation, fifos, integer, reference
from qnn.cell import PART, Cell, Folding, Policy, Thresholds
from qnn.costs import InferenceCost
from qnn.divergence import read_taps
from qnn.errors import CellError, CheckpointError, DeadlockError, ToolGap, ToolTimeout
from qnn.evaluation import Evaluation
from qnn.fifos import FifoDepth, FifoSizing
from qnn.hdl import TOP, HardwareDesign
from qnn.integer import GoldenNetwork
from qnn.nodes import NodeCheck, check_node, node_functions
from qnn.parameters import NetworkParameters
from qnn.resources import FAMILIES, Resources, count_cells
from qnn.store import Store, digest_of, digest_of_files
from qnn.tools import fifo_gauge, finn, gxx, hls_headers, library, netlist, node_simulation, timing, verilator, yosys
from qnn.tools.finn import CppRun, DataflowModel, HardwareModel, NodeSimulation, NodeValues
from qnn.tools.hls_headers import HlsHeaders
from qnn.tools.timing import Timing
from qnn.versions import tool_versions

if TYPE_CHECKING:
    from qnn.networks import Chain

__all__ = ["DeviceRun", "HardwarePipeline", "NodeSynthesis", "Pipeline", "S", "Source", "images_to_simulate"]

CLOCK_PERIOD_NS = 10.0
"""100 MHz, as in the study."""
BATCH_IMAGES = 10_000
"""The study's throughput test; also the whole test set."""
PARTIAL_IMAGES = 1_000
SIMULATION_LIMIT_CYCLES = 400_000_000
"""A whole batch is simulated where it takes no more cycles than this: about two minutes of one core, since designs with
so long an interval are the smallest. The rule does not depend on the computer: it decides what the results hold."""
SIMULATION_SLICES = 4
"""Parts of a batch that are simulated at once, as far as there are cores: their number would depend on the computer."""
SYNTHESIS_LIMIT_S = 1800.0
"""Time limit of one run of Yosys."""
NETLIST_IMAGES = 50
"""Images that are simulated through a netlist, which is slower than the RTL by a factor of five to ten."""

NODE_IMAGES = 2
"""Images of FINN's own RTL simulation, which executes the graph once for each."""
CPPSIM_IMAGES = 200
"""Images that FINN's cppsim executes, and how many one process of a node takes."""

SIZED_IMAGES = 16
"""Images that are simulated through a design whose FIFOs are not the delivered one's."""

_SOURCE = Path(__file__).parent


def images_to_simulate(interval_cycles: int, *, all_images: bool = False) -> int:
    """The whole batch where `all_images`, or where it takes two minutes at most; else the test set's first images."""
    whole = all_images or interval_cycles * BATCH_IMAGES <= SIMULATION_LIMIT_CYCLES
    return BATCH_IMAGES if whole else PARTIAL_IMAGES


@cache
def _test_images(dataset: str) -> datasets.Images:
    """Read once in a process: 10 MB, which nothing may change."""
    images = datasets.load(dataset, "test")
    images.pixels.flags.writeable = images.labels.flags.writeable = False
    return images


# What many tests of one cell ask for is kept for as long as they are about the next few cells.


@lru_cache(maxsize=8)
def _parameters(checkpoint: Path, digest: str) -> NetworkParameters | None:
    """Of a checkpoint whose content has the digest."""
    from qnn import checkpoints

    return checkpoints.load_parameters(checkpoint)


@lru_cache(maxsize=8)
def _golden(parameters: NetworkParameters) -> GoldenNetwork:
    return integer.golden(parameters)


@lru_cache(maxsize=4)
def _read_design(folder: Path) -> HardwareDesign:
    """Of an artifact, which never changes."""
    return finn.read_design(folder)


def _versions(*tools: str) -> dict[str, str]:
    known = tool_versions()
    return {tool: known[tool] for tool in tools}


@dataclass(frozen=True, kw_only=True, eq=False)
class DeviceRun:
    """A batch of images through the simulated accelerator."""

    accumulators: NDArray[np.int64]
    """[images, classes] of the last layer."""
    completions_cycles: NDArray[np.int64]
    """When each image's last output beat was handed over, for the images that were simulated as one stream.

    That is all of them, or the first slice of a batch whose slices were simulated each from reset. Every slice has then
    had the very same completions: the timing does not depend on the images.
    """
    image_bytes: int
    """Bytes of one image on the accelerator's input stream."""
    host_s: float
    """Wall-clock seconds of the simulation."""
    build_s: float
    """Wall-clock seconds that Verilator and the C++ compiler took for the simulator."""
    edited_files: tuple[str, ...]
    """Files of FINN that the simulator takes only with an edit."""

    @property
    def latency_cycles(self) -> int:
        """From the first input beat offered to the last output beat of the first image."""
        return int(self.completions_cycles[0])

    @property
    def interval_cycles(self) -> int:
        """Initiation interval: the most frequent distance between two images' completions."""
        intervals, counts = np.unique(np.diff(self.completions_cycles), return_counts=True)
        return int(intervals[counts.argmax()])

    def batch_completions_cycles(self, images: int) -> NDArray[np.int64]:
        """Completions of a batch of `images`: as simulated, or else the first latency and then measured intervals."""
        simulated = self.completions_cycles[:images]
        further = simulated[-1] + self.interval_cycles * np.arange(1, images - len(simulated) + 1)
        return np.concatenate([simulated, further])


@dataclass(frozen=True, kw_only=True)
class NodeSynthesis:
    """One node of the accelerator after synthesis."""

    name: str
    resources: Resources
    host_s: float
    """Seconds that Yosys took, when it was synthesised."""
    netlist: Path
    """Verilog of the netlist, under a neutral name (see ``qnn.tools.yosys.netlist_of``)."""


class Source(Protocol):
    """What hardware is made of: a network with its folding. Its text is its id."""

    @property
    def folding(self) -> Folding | None: ...

    @property
    def policy(self) -> Policy: ...


S = TypeVar("S", bound=Source)


def _yosys_check(design: HardwareDesign) -> Mapping[str, str]:
    with tempfile.TemporaryDirectory(prefix="yosys-") as folder:
        return yosys.check(design, log=Path(folder) / "log", timeout_s=SYNTHESIS_LIMIT_S)


@dataclass(frozen=True, kw_only=True)
class HardwarePipeline(ABC, Generic[S]):
    """All that is made of FINN's dataflow graph, whatever that was made from: see Source.

    Methods may be called from several threads and processes at once.
    """

    store: Store
    part: str = PART
    clock_period_ns: float = CLOCK_PERIOD_NS
    synthesis_limit_s: float = SYNTHESIS_LIMIT_S
    """Of one node."""
    all_images: bool = False
    """Simulate the whole test set, however long that takes."""
    finn_simulator: str = "verilator"
    """What FINN's own RTL simulation runs on: ``verilator``, or ``vivado`` where that is installed."""

    @abstractmethod
    def qonnx(self, cell: S) -> Path:
        """The network as the QONNX file that FINN reads."""

    @abstractmethod
    def inputs(self, cell: S) -> NDArray[Any]:
        """[N, ...]: the integers that the accelerator takes, image by image."""

    def accelerator_inputs(self, cell: S) -> NDArray[Any]:
        """inputs() in the order of the accelerator's input stream."""
        return self.inputs(cell)

    @abstractmethod
    def inputs_key(self, cell: S) -> object:
        """What tells these inputs from any others, as JSON."""

    @abstractmethod
    def _dataflow(self, cell: S, fifo_depths: Mapping[str, int] | None = None) -> Path:
        """What FINN makes of it; FIFOs that are not named have its default depth."""

    def frames(self, cell: S, images: Sequence[int] | slice = slice(None)) -> NDArray[np.uint8]:
        """[images, bytes]: some of the inputs as they go over the accelerator's input stream, 8 bits an element."""
        pixels: NDArray[np.uint8] = self.accelerator_inputs(cell)[images if isinstance(images, slice) else list(images)]
        return pixels

    def images_to_simulate(self, cell: S) -> int:
        """How many of the inputs go through the RTL."""
        return images_to_simulate(self.dataflow(cell).interval_cycles, all_images=self.all_images)

    def _delivered(self, cell: S) -> Path:
        """What FINN makes of a cell with the FIFOs that are delivered."""
        if cell.policy is Policy.UNIFORM:
            return self._dataflow(cell)
        depths = {fifo.name: fifo.needed_depth for fifo in self._shallow_by_default(cell)}
        return self._dataflow(cell, depths or None)

    def dataflow(self, cell: S) -> DataflowModel:
        """FINN's folded graph: its nodes with geometry, expected cycles and estimates."""
        return finn.read_dataflow(self._delivered(cell))

    def graph(self, cell: S, name: str) -> Path:
        """One of FINN's graphs of the cell: ``finn``, ``streamlined``, ``hardware`` or, as delivered, ``folded``."""
        made = self._delivered(cell) if name == "folded" else self._dataflow(cell)
        return made / f"{name}.onnx"

    def hardware_model(self, cell: S) -> HardwareModel:
        """The hardware integer model: what FINN's streamlined graph computes."""
        return finn.read_hardware_model(self._dataflow(cell))

    def finns_own_model(self, cell: S) -> HardwareModel:
        """The same with the thresholds that FINN computed, also where exact ones took their place."""
        return finn.read_hardware_model(self._dataflow(cell), as_finn_made_it=True)

    def design(self, cell: S) -> HardwareDesign:
        """FINN's RTL, unedited."""
        return _read_design(self._delivered(cell))

    def executed(self, model: Path, cell: S) -> dict[str, NDArray[Any]]:
        """QONNX's own execution of a QONNX or FINN-ONNX file on the whole test set: as qonnx_run()."""
        key = {
            "model": digest_of_files(model),
            "dataset": self.inputs_key(cell),
            "source": digest_of_files(_SOURCE / "dataflow", _SOURCE / "datasets.py"),
            "versions": _versions("finn", "qonnx"),
        }

        def build(folder: Path) -> None:
            finn.trace(model, self.inputs(cell), folder)

        with np.load(self.store.get_or_build("execution", digest_of(key), build) / "trace.npz") as arrays:
            return dict(arrays)

    def qonnx_run(self, cell: S) -> dict[str, NDArray[Any]]:
        """The exported QONNX executed on the test set: ``codes_<k>`` of each activation, and ``output``."""
        return self.executed(self.qonnx(cell), cell)

    def converted_run(self, cell: S) -> dict[str, NDArray[Any]]:
        """FINN-ONNX before streamlining executed on the test set: as qonnx_run(), but ``products_<k>`` of codes."""
        return self.executed(self.graph(cell, "finn"), cell)

    def graph_run(self, cell: S) -> dict[str, NDArray[Any]]:
        """FINN's streamlined graph executed on the test set: ``codes_<k>`` of each activation, and ``output``."""
        return self.executed(self.graph(cell, "streamlined"), cell)

    def cppsim_images(self, cell: S) -> range:
        """The images that go through the HLS variants: the first ones, or all."""
        first = BATCH_IMAGES if self.all_images else CPPSIM_IMAGES
        return range(min(first, len(self.inputs(cell))))

    def cppsim_run(
        self,
        cell: S,
        *,
        standalone_thresholds: bool,
        headers: HlsHeaders | None = None,
        images: Sequence[int] | None = None,
    ) -> tuple[CppRun, HlsHeaders]:
        """Images of the test set through the HLS variant in FINN's cppsim, and with which headers.

        They are the `images` of these numbers, by default cppsim_images(). Activations are nodes of their own where
        `standalone_thresholds`, else fused into the matrix units.
        """
        if cell.folding is None:
            raise CellError(f"{cell} names no folding: hardware needs one, such as PE8-SIMD8")
        used = headers or hls_headers.find()
        folding, policy = cell.folding, cell.policy
        numbers = list(images or self.cppsim_images(cell))
        model = self.graph(cell, "streamlined")
        sources = ("dataflow", "cell.py", "datasets.py", "tools/finn.py", "tools/hls_headers.py")
        key = {
            "model": digest_of_files(model),
            "folding": [str(folding), str(policy)],
            "standalone_thresholds": standalone_thresholds,
            "images": [self.inputs_key(cell), numbers, CPPSIM_IMAGES],
            "part": [self.part, self.clock_period_ns],
            "headers": used.digest,
            "source": digest_of_files(*(_SOURCE / name for name in sources)),
            "versions": {**_versions("finn", "qonnx"), "g++": gxx.version()},
        }

        def build(folder: Path) -> None:
            finn.simulate_cpp(
                model,
                self.accelerator_inputs(cell)[numbers],
                *(folding, policy, self.part, self.clock_period_ns, folder),
                headers=used,
                npy_library=self.npy_library(),
                standalone_thresholds=standalone_thresholds,
                batch_images=CPPSIM_IMAGES,
            )

        return finn.read_cpp_run(self.store.get_or_build("cppsim", digest_of(key), build)), used

    def npy_library(self) -> Path:
        """FINN's reader of .npy files, compiled once for the programs of all nodes of cppsim."""
        key = {
            "npy": digest_of_files(hls_headers.npy_source()),
            "source": digest_of_files(_SOURCE / "tools" / "hls_headers.py", _SOURCE / "tools" / "gxx.py"),
            "g++": gxx.version(),
        }

        def build(folder: Path) -> None:
            hls_headers.build_npy_library(folder)

        return self.store.get_or_build("npy-library", digest_of(key), build) / "cnpy.o"

    def inference_cost(self, cell: S) -> InferenceCost:
        """What one image takes, as QONNX counts it on FINN's streamlined graph."""
        model = self.graph(cell, "streamlined")
        key = {
            "model": digest_of_files(model),
            "source": digest_of_files(_SOURCE / "dataflow"),
            "versions": _versions("qonnx"),
        }

        def build(folder: Path) -> None:
            finn.count_inference_cost(model, folder)

        return finn.read_inference_cost(self.store.get_or_build("cost", digest_of(key), build))

    def _accepted(
        self, design: HardwareDesign, tool: str, version: str, check: edits.Check
    ) -> tuple[HardwareDesign, list[str]]:
        """The design with the fewest edits with which `tool` takes it, and the files that were edited."""
        sources = [_SOURCE / name for name in ("edits.py", "hdl.py", f"tools/{tool}.py")]
        key = digest_of([tool, version, design.digest, digest_of_files(*sources)])

        def build(folder: Path) -> None:
            accepted = edits.accept(design, tool, check)
            files = {edit.file: accepted.design.files[edit.file] for edit in accepted.edits}
            (folder / "edited.json").write_text(json.dumps(files))

        folder = self.store.get_or_build("accepted", key, build)
        edited = json.loads((folder / "edited.json").read_text())
        return design.replace_files(edited), sorted(edited)

    def _accepted_by_verilator(self, design: HardwareDesign) -> tuple[HardwareDesign, list[str]]:
        return self._accepted(design, "verilator", verilator.version(), verilator.check)

    def _simulator(self, cell: S) -> tuple[Path, str, list[str]]:
        """The simulator's folder and key, and the files that were edited for it."""
        design, edited = self._accepted_by_verilator(self.design(cell))
        return *self._verilated("simulator", design), edited

    def _verilated(self, kind: str, design: HardwareDesign, *, brief: bool = False) -> tuple[Path, str]:
        """The simulator's folder and key; `brief` is verilator.build()'s."""
        sources = [_SOURCE / "tools" / name for name in ("verilator.py", "gxx.py")]
        versions = [verilator.version(), gxx.version()]
        key = digest_of([design.digest, brief, versions, digest_of_files(*sources, verilator.STREAM_DRIVER)])

        library = self.verilator_library()

        def build(folder: Path) -> None:
            verilator.build(design, folder, brief=brief, library=library)

        return self.store.get_or_build(kind, key, build), key

    def verilator_library(self) -> Path:
        """Verilator's own library, compiled."""
        sources = [_SOURCE / "tools" / name for name in ("verilator.py", "gxx.py")]
        key = digest_of([[verilator.version(), gxx.version()], digest_of_files(*sources)])
        return self.store.get_or_build("verilator-library", key, verilator.build_library)

    def node_alone(self, cell: S, name: str) -> HardwareDesign:
        """One node of FINN's RTL as Verilator takes it, as a design of its own."""
        return node_simulation.alone(self.simulated_design(cell), name)

    def node_simulator(self, design: HardwareDesign) -> verilator.Simulator:
        """A design of a single node as a program; it is the same for all that differ in their memories alone."""
        compiled = node_simulation.without_memories(design)
        sources = [_SOURCE / "tools" / name for name in ("node_simulation.py", "verilator.py", "gxx.py")]
        versions = [verilator.version(), gxx.version()]
        key = digest_of([compiled.digest, versions, digest_of_files(*sources, node_simulation.DRIVER)])
        library = self.verilator_library()

        def build(folder: Path) -> None:
            node_simulation.build(compiled, folder, library=library)

        return verilator.Simulator.open(self.store.get_or_build("node-simulator", key, build))

    def node_checks(self, cell: S) -> dict[str, NodeCheck]:
        """{node: what was compared} of every node of the RTL, alone on its directed vectors, each of them right.

        Raises what qnn.nodes.check_node() raises; a check that was not passed is not kept.
        """
        return self._checks(cell, self.simulated_design(cell).digest, lambda name: self.node_alone(cell, name))

    def netlist_node_checks(self, cell: S) -> dict[str, NodeCheck]:
        """The same of every node's synthesised netlist."""
        return self._checks(cell, self.netlist_design(cell).digest, lambda name: self.netlist_alone(cell, name))

    def netlist_alone(self, cell: S, name: str) -> HardwareDesign:
        """One node's synthesised netlist as a design of its own."""
        text = self.node_synthesis(cell, name).netlist.read_text()
        return netlist.netlist_design(self.node_alone(cell, name), {yosys.NEUTRAL: text})

    def _checks(self, cell: S, digest: str, alone: Callable[[str], HardwareDesign]) -> dict[str, NodeCheck]:
        """`digest` is of the whole design that the nodes are taken from."""
        drivers = [f"tools/{name}" for name in ("node_simulation.py", node_simulation.DRIVER.name, "verilator.py")]
        sources = ["nodes.py", "directed.py", "integer.py", "thresholding.py", *drivers]
        key = {
            "dataflow": [self._dataflow(cell).name, self._delivered(cell).name],
            "design": digest,
            "source": digest_of_files(*(_SOURCE / name for name in sources)),
            "versions": [verilator.version(), gxx.version()],
        }

        def build(folder: Path) -> None:
            checks = {}
            for name, function in node_functions(self.dataflow(cell), self.hardware_model(cell)).items():
                node = alone(name)
                checks[name] = asdict(check_node(function, self.node_simulator(node), node.memories))
            (folder / "checks.json").write_text(json.dumps(checks))

        folder = self.store.get_or_build("node-checks", digest_of(key), build)
        checks = json.loads((folder / "checks.json").read_text())
        return {name: NodeCheck(**check) for name, check in checks.items()}

    def simulator(self, cell: S) -> verilator.Simulator:
        """FINN's RTL as a program that simulates it."""
        return verilator.Simulator.open(self._simulator(cell)[0])

    def device_run(self, cell: S) -> DeviceRun:
        """The test set, or its first images where the whole takes too long, through the RTL in Verilator.

        Raises DeadlockError where the accelerator stands still, naming the FIFOs that are too shallow.
        """
        folder, simulator_key, edited = self._simulator(cell)
        count = self.images_to_simulate(cell)
        try:
            return self._simulated(cell, folder, simulator_key, count, edited, slices=SIMULATION_SLICES)
        except DeadlockError as error:
            shallow = ", ".join(map(str, self.shallow_fifos(cell)))
            verdict = f"too shallow: {shallow}" if shallow else "no FIFO is too shallow"
            raise DeadlockError(f"{error}; {verdict}") from None

    def rtl_nodes(
        self, cell: S, images: Sequence[int], *, simulator: verilator.Simulator | None = None
    ) -> list[NodeValues]:
        """What every node of the RTL gives for some images of the test set, by their numbers.

        `simulator` is another program of the same nodes in place of the cell's own.
        Where the accelerator stands still, what the nodes gave before.
        """
        # A convolution that skips the end of an image gives its last output before all of the image has gone through
        # the nodes in front of it, and there the simulation ends: one more image pushes that through.
        dataflow, frames = self.dataflow(cell), self.frames(cell, [*images, images[-1]])
        streams = verilator.taps(simulator or self.simulator(cell), frames, output_beats=dataflow.output_beats)
        nodes = read_taps(dataflow.layers, streams)
        return [replace(node, values=node.values[: len(images)]) for node in nodes]

    def graph_nodes(self, cell: S, images: Sequence[int]) -> list[NodeValues]:
        """What every node of FINN's hardware graph gives for the same, executed by FINN in Python."""
        return self._graph_nodes(cell, "hardware", images)

    def _graph_nodes(self, cell: S, name: str, images: Sequence[int]) -> list[NodeValues]:
        model = self.graph(cell, name)
        key = {
            "model": digest_of_files(model),
            "images": [self.inputs_key(cell), *images],
            "source": digest_of_files(_SOURCE / "dataflow", _SOURCE / "datasets.py"),
            "versions": _versions("finn", "qonnx"),
        }

        def build(folder: Path) -> None:
            finn.trace_nodes(model, self.inputs(cell)[list(images)], folder)

        return list(finn.read_nodes(self.store.get_or_build("execution", digest_of(key), build)))

    def simulated_design(self, cell: S) -> HardwareDesign:
        """FINN's RTL with the edits that the simulator needs."""
        return self._accepted_by_verilator(self.design(cell))[0]

    def node_simulation(self, cell: S) -> NodeSimulation:
        """The first images of the test set through FINN's own RTL simulation of the folded graph, node by node."""
        model = self.graph(cell, "folded")
        sources = ["dataflow", "process.py", "hdl.py", "edits.py", "datasets.py"]
        sources += [f"tools/{name}" for name in ("library.py", library.DRIVER.name, "verilator.py", "gxx.py")]
        key = {
            "model": digest_of_files(model),
            "dataset": self.inputs_key(cell),
            "images": NODE_IMAGES,
            "part": self.part,
            "clock_period_ns": self.clock_period_ns,
            "simulator": self.finn_simulator,
            "source": digest_of_files(*(_SOURCE / name for name in sources)),
            "versions": [_versions("finn", "qonnx"), verilator.version(), gxx.version()],
        }

        def build(folder: Path) -> None:
            # Nodes' libraries are kept by their content, under names that say so: layers of other cells share them.
            cache = self.store.root / "node-libraries"
            options = (self.part, self.clock_period_ns, folder)
            pixels = self.inputs(cell)[:NODE_IMAGES]
            finn.simulate_nodes(model, pixels, *options, simulator=self.finn_simulator, cache=cache)

        return finn.read_node_simulation(self.store.get_or_build("node-simulation", digest_of(key), build))

    def stepped_library(self, cell: S) -> Path:
        """FINN's RTL as a library that another program steps (``qnn.tools.library``), for speed."""
        design, _ = self._accepted_by_verilator(self.design(cell))
        sources = [_SOURCE / "tools" / name for name in ("library.py", "verilator.py", "gxx.py")]
        versions = [verilator.version(), gxx.version()]
        key = digest_of([design.digest, versions, digest_of_files(*sources, library.DRIVER)])

        def build(folder: Path) -> None:
            with tempfile.TemporaryDirectory(prefix="library-") as runtime:
                library.build_runtime(Path(runtime))
                library.build(design, folder / "design.so", top=TOP, runtime=Path(runtime), optimise=True)

        return self.store.get_or_build("stepped-library", key, build) / "design.so"

    def netlist_design(self, cell: S) -> HardwareDesign:
        """The whole accelerator with each node's netlist, and the models of all cells that occur."""
        return netlist.netlist_design(self.design(cell), self._netlists(cell))

    def netlist_run(self, cell: S) -> DeviceRun:
        """The first images of the test set through the synthesised netlist in Verilator.

        DSP48E1s, block RAMs and shift registers are simulated as the netlist has them (``qnn.tools.netlist``).
        """
        folder, key = self._netlist_simulator(cell)
        return self._simulated(cell, folder, key, NETLIST_IMAGES, [])

    def netlist_simulator(self, cell: S) -> verilator.Simulator:
        """The synthesised netlist as a program that simulates it."""
        return verilator.Simulator.open(self._netlist_simulator(cell)[0])

    def _netlist_simulator(self, cell: S) -> tuple[Path, str]:
        # So few images take seconds either way; the compiler takes longer than they do.
        return self._verilated("netlist-simulator", self.netlist_design(cell), brief=True)

    def _simulated(
        self, cell: S, folder: Path, simulator_key: str, count: int, edited: list[str], *, slices: int = 1
    ) -> DeviceRun:
        """The first `count` images of the test set through the simulator in `folder`, in `slices` at once.

        Where the slices differ in their timing, all images are simulated once more, as one stream.
        """
        dataflow = self.dataflow(cell)
        key = digest_of([simulator_key, self.inputs_key(cell), count, slices, digest_of_files(_SOURCE / "datasets.py")])

        def build(target: Path) -> None:
            simulator = verilator.Simulator.open(folder)
            frames = self.frames(cell, slice(count))
            simulation = verilator.simulate(simulator, frames, output_beats=dataflow.output_beats, processes=slices)
            if not simulation.slices_timed_alike:
                simulation = verilator.simulate(simulator, frames, output_beats=dataflow.output_beats)
            bits, lanes, signed = dataflow.output_bits, dataflow.output_lanes, dataflow.output_signed
            accumulators = verilator.unpack(simulation.output, lane_bits=bits, lanes=lanes, signed=signed)
            np.savez(
                target / "run.npz",
                accumulators=accumulators.reshape(len(frames), -1),
                completions_cycles=simulation.completions_cycles,
                image_bytes=frames.shape[1],
                host_s=simulation.host_s,
                build_s=simulator.verilate_s + simulator.compile_s,
            )

        target = self.store.get_or_build("simulation", key, build)
        with np.load(target / "run.npz") as run:
            return DeviceRun(
                accumulators=run["accumulators"],
                completions_cycles=run["completions_cycles"],
                image_bytes=int(run["image_bytes"]),
                host_s=float(run["host_s"]),
                build_s=float(run["build_s"]),
                edited_files=tuple(edited),
            )

    def _gauge(self, cell: S) -> Path:
        """The design with FINN's FIFO gauges as a simulator, and what it gave: gauge.json.

        A gauge has no depth, so it is the same for any depths of the cell's FIFOs.
        """
        made = self._dataflow(cell)
        gauged = fifos.gauged(_read_design(made))
        design, _ = self._accepted(gauged, "verilator", verilator.version(), fifo_gauge.check)
        dataflow = finn.read_dataflow(made)
        sources = [_SOURCE / name for name in ("fifos.py", "tools/fifo_gauge.py", "tools/verilator.py", "tools/gxx.py")]
        versions = [verilator.version(), gxx.version()]
        key = [design.digest, dataflow.interval_cycles, versions, digest_of_files(*sources, fifo_gauge.DRIVER)]
        library = self.verilator_library()

        def build(folder: Path) -> None:
            simulator = fifo_gauge.build(design, folder / "simulator", library=library)
            start = monotonic()
            run = self._opened_gauge(cell, folder).measure()
            record = {
                "held_beats": dict(run.held_beats),
                "latency_cycles": run.completions_cycles[0],
                "build_s": simulator.verilate_s + simulator.compile_s,
                "host_s": monotonic() - start,
            }
            (folder / "gauge.json").write_text(json.dumps(record))

        return self.store.get_or_build("fifo-gauge", digest_of(key), build)

    def _opened_gauge(self, cell: S, folder: Path) -> fifo_gauge.Gauge:
        simulator = verilator.Simulator.open(folder / "simulator")
        dataflow = finn.read_dataflow(self._dataflow(cell))
        return fifo_gauge.Gauge(
            simulator=simulator,
            input_beats=self.frames(cell, [0]).shape[1] // simulator.input_bytes,
            output_beats=dataflow.output_beats,
            interval_cycles=dataflow.interval_cycles,
        )

    def fifo_sizing(self, cell: S) -> FifoSizing:
        """What each FIFO of the accelerator has to hold, by FINN's FIFO gauge.

        Raises SimulationError where the accelerator does not keep its interval with FIFOs of any depth.
        """
        return self._sizing(cell, self._delivered(cell))

    def _sizing(self, cell: S, made: Path) -> FifoSizing:
        """The FIFOs of what FINN made of the cell, by the gauge."""
        record = json.loads((self._gauge(cell) / "gauge.json").read_text())
        return FifoSizing(
            fifos=fifos.fifo_depths(_read_design(made).nodes, record.pop("held_beats")),
            interval_cycles=finn.read_dataflow(made).interval_cycles,
            **record,
        )

    def shallow_fifos(self, cell: S) -> tuple[FifoDepth, ...]:
        """The FIFOs that keep the delivered accelerator from its interval; empty where it keeps it.

        Deepening these, and no others, mends it, by the simulator with bounded gauges (see fifos.too_shallow()).
        """
        return self._too_shallow(cell, self.fifo_sizing(cell))

    def _shallow_by_default(self, cell: S) -> tuple[FifoDepth, ...]:
        """The same where all FIFOs have FINN's default depth."""
        return self._too_shallow(cell, self._sizing(cell, self._dataflow(cell)))

    def _too_shallow(self, cell: S, sizing: FifoSizing) -> tuple[FifoDepth, ...]:
        gauge = self._gauge(cell)
        depths = {"configured": sizing.configured_depths, "needed": sizing.needed_depths}

        def build(folder: Path) -> None:
            keeps_up = self._opened_gauge(cell, gauge).keeps_up
            causes = fifos.too_shallow(**depths, keeps_up=keeps_up)
            (folder / "causes.json").write_text(json.dumps(causes))

        # The gauge's own key holds the sources of all that is done here.
        folder = self.store.get_or_build("shallow-fifos", digest_of([gauge.name, depths]), build)
        causes = json.loads((folder / "causes.json").read_text())
        return tuple(fifo for fifo in sizing.fifos if fifo.name in causes)

    def sized_run(self, cell: S) -> DeviceRun:
        """Images through FINN's RTL with every FIFO of the depth that the gauge asks for.

        Where that is what is delivered, it is device_run(); else FINN makes the RTL anew, and SIZED_IMAGES are run.
        """
        sizing = self.fifo_sizing(cell)
        if sizing.needed_depths == sizing.configured_depths:
            return self.device_run(cell)
        sized = _read_design(self._dataflow(cell, sizing.needed_depths))
        design, edited = self._accepted_by_verilator(sized)
        folder, key = self._verilated("sized-simulator", design, brief=True)
        return self._simulated(cell, folder, key, SIZED_IMAGES, edited)

    def nodes(self, cell: S) -> tuple[str, ...]:
        """Names of the nodes that are synthesised apart, the most parallel first, since they take longest."""
        parallelism = {layer.name: (layer.pe or 0) * (layer.simd or 1) for layer in self.dataflow(cell).layers}
        return tuple(sorted(parallelism, key=lambda name: -parallelism[name]))

    def node_synthesis(self, cell: S, name: str) -> NodeSynthesis:
        """One node of the accelerator synthesised by Yosys, out of context. Raises as synthesis() does."""
        return self._synthesised(cell, self.synthesised_design(cell), name)

    def synthesised_design(self, cell: S) -> HardwareDesign:
        """FINN's RTL with the edits that Yosys needs. Raises ToolGap where it has no netlists for the part's family."""
        family = reference.part(self.part).family
        if reason := FAMILIES[family].no_synthesis:
            raise ToolGap(f"no synthesis for {self.part}, family {family}: {reason}; take a part of another family")
        return self._accepted(self.design(cell), "yosys", yosys.version(), _yosys_check)[0]

    def _synthesised(self, cell: S, design: HardwareDesign, name: str) -> NodeSynthesis:
        node = design.node(name)
        key = digest_of([yosys.node_key(design, node), digest_of_files(_SOURCE / "tools" / "yosys_worker.py")])

        def build(folder: Path) -> None:
            try:
                made = yosys.synthesise(design, node, log=folder / "yosys.log", timeout_s=self.synthesis_limit_s)
            except ToolTimeout as error:
                raise ToolTimeout(f"synthesis of {name} in {cell}: {error}") from None
            (folder / "netlist.v").write_text(made.netlist)
            record = {"cells": dict(made.cells), "seconds": made.seconds}
            (folder / "synthesis.json").write_text(json.dumps(record))

        folder = self.store.get_or_build("synthesis", key, build)
        record = json.loads((folder / "synthesis.json").read_text())
        return NodeSynthesis(
            name=name,
            resources=count_cells(record["cells"]),
            host_s=record["seconds"],
            netlist=folder / "netlist.v",
        )

    def synthesis(self, cell: S) -> tuple[NodeSynthesis, ...]:
        """Every node of the accelerator, in the order of the stream.

        The stitched top is wires alone, so the linked netlist's resources are the nodes' sum.

        Raises ToolGap where Yosys has no netlists for the family of the part, ToolTimeout naming the node.
        """
        design = self.synthesised_design(cell)
        return tuple(self._synthesised(cell, design, layer.name) for layer in self.dataflow(cell).layers)

    def _netlists(self, cell: S) -> dict[str, str]:
        """{node: its netlist}."""
        return {node.name: node.netlist.read_text() for node in self.synthesis(cell)}

    def timing(self, cell: S) -> Timing:
        """The longest path of the synthesised netlist by static timing, delays of cells alone."""
        design, netlists = self.design(cell), self._netlists(cell)
        sources = [_SOURCE / "tools" / name for name in ("timing.py", "yosys.py", "yosys_worker.py")]
        key = digest_of([design.digest, sorted(netlists.items()), yosys.version(), digest_of_files(*sources)])

        def build(folder: Path) -> None:
            found = timing.analyse(design, netlists, log=folder / "yosys.log", timeout_s=SYNTHESIS_LIMIT_S)
            (folder / "timing.json").write_text(found.to_json())

        return Timing.from_json((self.store.get_or_build("timing", key, build) / "timing.json").read_text())


@dataclass(frozen=True, kw_only=True)
class Pipeline(HardwarePipeline[Cell]):
    """Every artifact of a cell. Methods may be called from several threads and processes at once."""

    checkpoints: Path = reference.CHECKPOINTS

    def checkpoint(self, cell: Cell) -> Path:
        """The shipped checkpoint. Raises CheckpointError where the repository has none for the cell."""
        path = reference.shipped_checkpoint(cell, self.checkpoints)
        if not path.exists():
            raise CheckpointError(
                f"no checkpoint for {cell.trained} ({path} does not exist): "
                f"train it with `python -m qnn train {cell.quantization} --dataset {cell.dataset}`"
            )
        return path

    def network(self, cell: Cell) -> "Chain":
        """The trained Brevitas network, in eval mode, with the stored scales."""
        from qnn import checkpoints

        return checkpoints.load(self.checkpoint(cell)).network

    def parameters(self, cell: Cell) -> NetworkParameters:
        """The trained network's exact numbers."""
        checkpoint = self.checkpoint(cell)
        parameters = _parameters(checkpoint, digest_of_files(checkpoint))
        if parameters is None:
            raise CellError(f"{cell.trained} is the float network: it has no integers and no hardware")
        return parameters

    def images(self, cell: Cell) -> datasets.Images:
        """The test set."""
        return _test_images(cell.dataset)

    def qonnx(self, cell: Cell) -> Path:
        """The trained network as a QONNX file."""

        def build(folder: Path) -> None:
            from qnn import export

            export.export(self.network(cell), folder / "model.onnx")

        key = {
            "checkpoint": digest_of_files(self.checkpoint(cell)),
            "source": digest_of_files(_SOURCE / "networks.py", _SOURCE / "export.py"),
            "versions": _versions("torch", "brevitas", "qonnx"),
        }
        return self.store.get_or_build("qonnx", digest_of(key), build) / "model.onnx"

    def golden(self, cell: Cell) -> GoldenNetwork:
        """The integer network that the trained parameters stand for, with exact thresholds."""
        return _golden(self.parameters(cell))

    def evaluation(self, cell: Cell) -> Evaluation:
        """The Brevitas network on the whole test set, held against the exact integers."""
        golden = self.golden(cell)
        sources = ("networks", "inference", "checkpoints", "parameters", "datasets", "integer", "thresholding")
        key = {
            "checkpoint": digest_of_files(self.checkpoint(cell)),
            "dataset": cell.dataset,
            "source": digest_of_files(*(_SOURCE / f"{name}.py" for name in (*sources, "equivalence", "evaluation"))),
            "versions": _versions("torch", "brevitas"),
        }

        def build(folder: Path) -> None:
            made = evaluation.evaluate(self.network(cell), golden, self.images(cell).pixels)
            evaluation.save(made, folder / "evaluation.npz")

        return evaluation.load(self.store.get_or_build("evaluation", digest_of(key), build) / "evaluation.npz", golden)

    def inputs(self, cell: Cell) -> NDArray[np.uint8]:
        """Pixels of the test set."""
        return self.images(cell).pixels

    def inputs_key(self, cell: Cell) -> object:
        return cell.dataset

    def _dataflow(self, cell: Cell, fifo_depths: Mapping[str, int] | None = None) -> Path:
        """What FINN makes of a cell; FIFOs that are not named have its default depth."""
        if cell.folding is None:
            raise CellError(f"{cell} names no folding: hardware needs one, such as PE8-SIMD8")
        folding, qonnx, thresholds = cell.folding, self.qonnx(cell), None
        if cell.thresholds is Thresholds.EXACT:
            thresholds = [exact.thresholds for exact in self.golden(cell).exact]
        key = {
            "qonnx": digest_of_files(qonnx),
            "folding": str(folding),
            "policy": str(cell.policy),
            "part": self.part,
            "clock_period_ns": self.clock_period_ns,
            "fifo_depths": fifo_depths,
            "thresholds": None if thresholds is None else [sha256(steps.tobytes()).hexdigest() for steps in thresholds],
            "source": digest_of_files(_SOURCE / "dataflow", _SOURCE / "cell.py"),
            "versions": _versions("finn", "qonnx"),
        }

        def build(folder: Path) -> None:
            options = (folding, cell.policy, self.part, self.clock_period_ns)
            finn.compile_network(qonnx, *options, folder, fifo_depths=fifo_depths, thresholds=thresholds)

        return self.store.get_or_build("dataflow", digest_of(key), build)
