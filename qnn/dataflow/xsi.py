"""Verilator behind ``finn.xsi``: FINN's RTL simulation of single nodes, without Vivado.

FINN simulates RTL with Vivado's XSI. Its steps look eight names up on the module ``finn.xsi``; install() sets them, and
FINN's unmodified PrepareRTLSim, SetExecMode("rtlsim"), execute_onnx and node-by-node verification run on Verilator::

    from qnn.dataflow import xsi
    xsi.install()    # after FINN's settings are there (finn.util.settings.initialize_dummy_settings())
    model = model.transform(PrepareRTLSim()).transform(SetExecMode("rtlsim"))

A node is simulated alone, as FINN does it: the engine drives its clocks (``ap_clk2x`` too), reset and streams (an
MVAU's weights are the stream in1_V), and holds every other input at 0 (Thresholding's in1_V and AXI-lite). Where
Verilator refuses one of FINN's files, the proved edit of qnn/edits.py is made on a copy.

A stitched IP cannot be had: Vivado's IP integrator makes it. What needs one is refused with this reason.

FINN's multiprocessing has to start its workers by fork, the default of a script on Linux: a worker that is spawned
(``FINN_MP_START_METHOD``) does not know what was installed; PrepareRTLSim(num_workers=1) needs no worker.
"""

import fcntl
import hashlib
import inspect
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from functools import partial, wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from qnn import edits
from qnn.dataflow import compat, verilated
from qnn.errors import DataflowError, SimulationError, ToolGap, ToolMissing
from qnn.hdl import HardwareDesign, HardwareNode
from qnn.tools import gxx, library, verilator
from qnn.tools.library import Stream

__all__ = ["Simulator", "compile_sim_obj", "install", "load_sim_obj", "rtlsim_multi_io"]

_NO_STITCHED_IP = (
    "a stitched IP is made by Vivado's IP integrator, and Verilator simulates FINN's RTL alone: "
    'simulate node by node (PrepareRTLSim, SetExecMode("rtlsim")), or leave out the steps that need a stitched IP '
    "(step_create_stitched_ip, step_measure_rtlsim_performance, step_set_fifo_depths with simulation)"
)
_NODE = "node"
_STITCHED_TOP = "finn_design"
"""FINN's name of the stitched design; its wrapper's name begins with it (create_stitched_ip.py)."""


class Simulator(StrEnum):
    """Who simulates RTL for FINN."""

    VERILATOR = "verilator"
    VIVADO = "vivado"
    """FINN's own way, XSI."""


def _sources(top: str, source_list: list[str]) -> tuple[dict[str, str], list[str], str]:
    """{relative name: text} of all files that a node's RTL needs, its sources' names in their order, and its module.

    finn-rtllib's lie in ``rtllib/``, the node's own in ``node/``, and the texts name them so. The module is called
    ``node`` where it has a name of FINN's kind: nodes that differ in name and folder alone are the same here. Memories
    that no source names are left out: an MVAU's weights are streamed into it, so its library does not depend on them.
    """
    # Paths are resolved: the environment may be reached by a symbolic link.
    rtllib = compat.rtllib()
    paths = [Path(source).resolve() for source in source_list]
    foreign = [path.name for path in paths if path.suffix not in (".v", ".sv")]
    if foreign:
        raise ToolGap(f"{top}: Verilator reads Verilog and SystemVerilog only, not {', '.join(foreign)}")
    own = {path.parent for path in paths if not path.is_relative_to(rtllib)}
    if len(own) > 1:
        raise DataflowError(f"{top}: its files lie in several folders: {', '.join(map(str, own))}")
    named_by_finn = re.fullmatch(r"[A-Z]\w*_\d+", top)  # what else has such a name in FINN's templates is the module's
    module = _NODE if named_by_finn else top

    def renamed(text: str) -> str:
        return re.sub(rf"\b{re.escape(top)}(?![0-9A-Za-z])", module, text)

    files, names = {}, []
    for path in paths:
        text = path.read_text()
        if path.is_relative_to(rtllib):
            name = f"rtllib/{path.relative_to(rtllib)}"
        else:
            name = f"{_NODE}/{renamed(path.name)}"
            text = renamed(text.replace(f'"{path.parent}/', f'"{_NODE}/').replace('"./', f'"{_NODE}/'))
        files[name] = text
        names.append(name)
    for folder in own:
        named = {found for text in files.values() for found in re.findall(rf'"{_NODE}/([^"]+)"', text)}
        for path in sorted(folder.glob("*.dat")):
            if renamed(path.name).startswith(tuple(named)):
                files[f"{_NODE}/{renamed(path.name)}"] = path.read_text()
    return files, list(dict.fromkeys(names)), module


def _design(top: str, source_list: list[str]) -> HardwareDesign:
    files, names, module = _sources(top, source_list)
    # One module of unknown streams: nothing here asks for their widths.
    node = HardwareNode(name=module, op_type="", module=module, sources=tuple(names), input_bits=0, output_bits=0)
    return HardwareDesign(files=files, nodes=(node,), finn_version=version("finn-plus"))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _key(*contents: object) -> str:
    own = [hashlib.sha256(Path(str(source)).read_bytes()).hexdigest() for source in (library.__file__, library.DRIVER)]
    made = [verilator.version(), gxx.version(), *own, *contents]
    return hashlib.sha256(json.dumps(made).encode()).hexdigest()


def _runtime(cache: Path) -> Path:
    """Verilator's own library, compiled once."""
    folder = cache / f"runtime-{_key()}"
    with _locked(cache / f"{folder.name}.lock"):
        if not folder.is_dir():
            building = folder.with_name(f"{folder.name}.{os.getpid()}")
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            library.build_runtime(building)
            building.rename(folder)
    return folder


def compile_sim_obj(
    top_module_name: str,
    source_list: list[str],
    sim_out_dir: Path,
    debug: bool = False,
    behav: bool = False,
    fifosim: bool = False,
    *,
    cache: Path | None = None,
) -> tuple[Path, Path]:
    """FINN's compile_sim_obj: the node's library, as (`sim_out_dir`, ``xsim.dir/<top>/xsimk.so``).

    `cache` keeps libraries by content; by default it is ``verilator`` in FINN's build folder. `behav` defines
    FINN_SIMULATION, FINN's behavioural models. `debug` asks for waveforms, which there are none of.

    Raises ToolGap where Verilator cannot take a file, ToolMissing, ToolFailed, and DataflowError for a stitched IP.
    """
    if fifosim or top_module_name.startswith(_STITCHED_TOP):
        raise DataflowError(f"{top_module_name} cannot be simulated: {_NO_STITCHED_IP}")
    if debug:
        raise SimulationError(f"no waveforms of {top_module_name} on Verilator: empty the attribute rtlsim_trace")
    folder = cache or Path(os.environ["FINN_BUILD_DIR"]) / "verilator"
    design = _design(top_module_name, source_list)
    macros = ("FINN_SIMULATION",) if behav else ()
    kept = folder / f"{_key(design.digest, macros)}.so"
    with _locked(folder / f"{kept.name}.lock"):
        if not kept.is_file():
            module = design.nodes[0].module
            accepted = edits.accept(design, "verilator", partial(verilator.check, top=module)).design
            building = kept.with_suffix(f".{os.getpid()}")
            library.build(accepted, building, top=module, runtime=_runtime(folder), macros=macros)
            building.rename(kept)
    relative = Path("xsim.dir") / top_module_name / "xsimk.so"
    target = Path(sim_out_dir) / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(kept, target)
    return Path(sim_out_dir), relative


def load_sim_obj(
    sim_out_dir: Path, out_so_relative_path: Path, tracefile: str | None = None, simkernel_so: str | None = None
) -> Any:
    """FINN's load_sim_obj: FINN's own SimEngine on a library of compile_sim_obj().

    Raises SimulationError where the library is not one, or was built by another Verilator.
    """
    return compat.import_xsi().SimEngine("verilator", str(Path(sim_out_dir) / out_so_relative_path), None, tracefile)


def rtlsim_multi_io(
    sim: Any,
    io_dict: dict[str, dict[str, list[int]]],
    num_out_values: int | Mapping[str, int],
    sname: str = "_V_V",
    liveness_threshold: int = 10000,
    liveness_estimate: float | None = None,
) -> int:
    """FINN's rtlsim_multi_io: all streams of `io_dict` through the node, (in cycles) as FINN's SimEngine does it.

    The loop is the library's, in C++: the same, cycle by cycle, as FINN's in Python. Where a hook has given the engine
    tasks or watchdogs of its own, FINN's runs. Raises DeadlockError where no output comes for `liveness_threshold`
    cycles.
    """
    from finn_xsi import adapter

    if sim.tasks or sim.watchdogs:
        return int(adapter.rtlsim_multi_io(sim, io_dict, num_out_values, sname, liveness_threshold, liveness_estimate))
    counts = (
        num_out_values if isinstance(num_out_values, Mapping) else dict.fromkeys(io_dict["outputs"], num_out_values)
    )

    def stream(name: str, beats: int) -> Stream:
        ports = [sim.get_bus_port(name + sname, part).name() for part in ("TVALID", "TREADY", "TDATA")]
        return Stream(valid=ports[0], ready=ports[1], data=ports[2], beats=beats)

    model = sim.top.model
    widths = {port.name: port.bytes for port in model.library.ports}
    inputs = {}
    for name, values in io_dict["inputs"].items():
        into = stream(name, len(values))
        inputs[into] = b"".join(value.to_bytes(widths[into.data], "little") for value in values)
    outputs = [stream(name, int(counts[name])) for name in io_dict["outputs"]]
    clock2x = "ap_clk2x" if "ap_clk2x" in widths else None
    cycles: int
    cycles, contents = model.stream(inputs, outputs, clock2x=clock2x, patience_cycles=liveness_threshold)
    sim.ticks += cycles
    for name, out, content in zip(io_dict["outputs"], outputs, contents, strict=True):
        size = widths[out.data]
        io_dict["outputs"][name] = [
            int.from_bytes(content[k : k + size], "little") for k in range(0, len(content), size)
        ]
    for driven in (*inputs, *outputs):  # the engine's tasks decide by their ports' buffers
        for name in (driven.valid, driven.ready, driven.data):
            sim.top.getPort(name).read()
    return cycles


def _get_simkernel_so() -> NoReturn:
    raise DataflowError(f"Verilator has no simulation kernel: {_NO_STITCHED_IP}")


def _refusing(apply: Callable[..., Any]) -> Callable[..., NoReturn]:
    @wraps(apply)  # by which _own() finds FINN's
    def refuse(*_arguments: object) -> NoReturn:
        raise DataflowError(f"Vivado is not installed; {_NO_STITCHED_IP}")

    return refuse


def _own(apply: Callable[..., Any]) -> Callable[..., Any]:
    """FINN's CreateStitchedIP.apply, refused or not."""
    own: Callable[..., Any] = inspect.unwrap(apply)
    return own


def _forget_simulator() -> None:
    """FINN's modules of RTL simulation are imported anew: they keep the simulator that they were imported with."""
    for name in [name for name in sys.modules if name == "xsi" or name.split(".")[0] == "finn_xsi"]:
        del sys.modules[name]


def _install_vivado() -> None:
    """FINN's own names back, on Vivado."""
    from finn.transformation.fpgadataflow.create_stitched_ip import CreateStitchedIP

    xsi = compat.import_xsi()
    CreateStitchedIP.apply = _own(CreateStitchedIP.apply)
    if sys.modules.get("xsi") is verilated:
        _forget_simulator()
        for name in xsi._LAZY_NAMES:
            vars(xsi).pop(name, None)
        xsi._adapter_module = xsi._sim_engine_module = None  # else FINN takes its names for set
    if not os.environ.get("XILINX_VIVADO"):
        raise ToolMissing(
            "RTL simulation by Vivado was asked for, but XILINX_VIVADO is not set: source Vivado's settings64.sh, "
            "or simulate with Verilator"
        )
    try:
        xsi.ensure_available()
    except Exception as error:  # noqa: BLE001 - whatever FINN finds wrong with the installation
        raise ToolMissing(
            f"RTL simulation by Vivado was asked for, but FINN cannot build its XSI module ({error}): "
            "mend the installation, or simulate with Verilator"
        ) from None


def install(simulator: Simulator = Simulator.VERILATOR, *, cache: Path | None = None) -> None:
    """Let FINN simulate RTL with `simulator`, in this process and the workers that it forks from now on.

    `cache` is compile_sim_obj()'s. Verilator and g++ are looked for when a node is compiled. Raises ToolMissing where
    Vivado is asked for and is not there.
    """
    from finn.transformation.fpgadataflow.create_stitched_ip import CreateStitchedIP

    if simulator is Simulator.VIVADO:
        _install_vivado()
        return
    xsi = compat.import_xsi()
    if sys.modules.get("xsi") is not verilated:
        _forget_simulator()
        sys.modules["xsi"] = verilated  # finn_xsi.sim_engine imports it by this name
    from finn_xsi import adapter, sim_engine

    xsi.SimEngine = sim_engine.SimEngine
    xsi.compile_sim_obj = partial(compile_sim_obj, cache=cache)
    xsi.load_sim_obj = load_sim_obj
    xsi.reset_rtlsim = adapter.reset_rtlsim
    xsi.rtlsim_multi_io = rtlsim_multi_io
    xsi.close_rtlsim = adapter.close_rtlsim
    xsi.get_simkernel_so = _get_simkernel_so
    xsi.locate_glbl = adapter.locate_glbl
    apply = _own(CreateStitchedIP.apply)
    CreateStitchedIP.apply = apply if shutil.which("vivado") else _refusing(apply)
