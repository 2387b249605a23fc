"""FINN's own RTL simulation of single nodes on Verilator, against NumPy, and what is refused.

FINN runs in a process of its own, one for all tests here: `finn` executes a script there, after PRELUDE, and returns
what the script leaves as `found`, or raises what it raised.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qnn.errors import DataflowError, DeadlockError, SimulationError, ToolMissing

Finn = Callable[..., Any]

PRELUDE = '''
import os
from pathlib import Path
import numpy as np
from finn.util.settings import initialize_dummy_settings
initialize_dummy_settings()
from qnn.dataflow import xsi
xsi.install(cache=Path(cache))
import finn.xsi
from finn.core.onnx_exec import execute_onnx
from finn.transformation.fpgadataflow.prepare_ip import PrepareIP
from finn.transformation.fpgadataflow.prepare_rtlsim import PrepareRTLSim
from finn.transformation.fpgadataflow.set_exec_mode import SetExecMode
from onnx import TensorProto, helper
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp
from qonnx.util.basic import qonnx_make_model

def model_of(op_type, channels_in, channels_out, types, parameters, **attributes):
    """A graph of one node, x -> y, with its parameters p, or none."""
    inputs = ["x"] if parameters is None else ["x", "p"]
    node = helper.make_node(op_type, inputs, ["y"], name=f"{op_type}_0", backend="fpgadataflow",
        domain="finn.custom_op.fpgadataflow.rtl", **attributes)
    info = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    known = [] if parameters is None else [info("p", list(parameters.shape))]
    ends = [info("x", [1, channels_in])], [info("y", [1, channels_out])]
    model = ModelWrapper(qonnx_make_model(helper.make_graph([node], "one", *ends, value_info=known)))
    if parameters is not None:
        model.set_initializer("p", parameters.astype(np.float32))
    for tensor, name in zip(["x", "y", "p"], types):
        model.set_tensor_datatype(tensor, DataType[name])
    return model

def mvau(weights, **attributes):
    outputs, inputs = weights.shape
    types = {"inputDataType": "INT3", "weightDataType": "INT3", "outputDataType": "INT10", "accDataType": "INT10"}
    shape = {"MW": inputs, "MH": outputs, "PE": 2, "SIMD": 4, "numInputVectors": [1]}
    return model_of("MVAU_rtl", inputs, outputs, ["INT3", "INT10", "INT3"], weights.T, **types, **shape,
        noActivation=1, mem_mode="internal_decoupled", resType="dsp", **attributes)

def thresholding(thresholds):
    channels, steps = thresholds.shape
    types = {"inputDataType": "INT10", "weightDataType": "INT11", "outputDataType": "INT3"}
    return model_of("Thresholding_rtl", channels, channels, ["INT10", "INT3", "INT11"], thresholds, **types,
        NumChannels=channels, PE=2, numSteps=steps, ActVal=-4, numInputVectors=[1])

def prepared(model, **options):
    model = model.transform(PrepareIP("xc7z020clg400-1", 10.0))
    return model.transform(PrepareRTLSim(num_workers=1, **options)).transform(SetExecMode("rtlsim"))

def execute(model, x):
    return execute_onnx(model, {"x": x.astype(np.float32)})["y"].astype(int)

def attribute(model, name):
    return getCustomOp(model.graph.node[0]).get_nodeattr(name)

random = np.random.default_rng(7)
weights = random.integers(-3, 4, (6, 16))
x = random.integers(-4, 4, (1, 16))
'''


def _open(folder: Path) -> None:
    """In FINN's process: its build folder, and no Vivado."""
    os.environ["FINN_BUILD_DIR"] = str(folder)
    os.environ.pop("XILINX_VIVADO", None)
    places = os.environ["PATH"].split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(place for place in places if shutil.which("vivado", path=place) is None)


def _execute(script: str, values: dict[str, Any]) -> Any:
    names = dict(values)
    exec(PRELUDE, names)
    exec(script, names)
    return names["found"]


@pytest.fixture(scope="module")
def finn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finn]:
    """``finn(script, **values)``; the keyword `cache` names another folder for libraries than the common one."""
    folder = tmp_path_factory.mktemp("finn")
    with ProcessPoolExecutor(1, get_context("spawn"), _open, (folder,)) as pool:

        def execute(script: str, *, cache: Path = folder / "libraries", **values: Any) -> Any:
            return pool.submit(_execute, script, {"cache": cache, **values}).result(timeout=300)

        yield execute


def test_an_mvau_equals_the_matrix_product_and_its_cycles_are_those_of_finns_engine(
    finn: Finn,
) -> None:
    script = """
model = prepared(mvau(weights))
got, cycles = execute(model, x), attribute(model, "cycles_rtlsim")
from finn_xsi import adapter
finn.xsi.rtlsim_multi_io = adapter.rtlsim_multi_io    # FINN's loop in Python, over Kernel, Design and Port
found = [x.tolist(), weights.tolist(), got.tolist(), cycles,
    execute(model, x).tolist(), attribute(model, "cycles_rtlsim")]
"""
    x, weights, got, cycles, by_engine, engine_cycles = finn(script)
    np.testing.assert_array_equal(got, np.array(x) @ np.array(weights).T)
    assert by_engine == got
    assert engine_cycles == cycles >= 16 * 6 / (2 * 4)


def test_a_double_pumped_mvau_equals_the_matrix_product(finn: Finn) -> None:
    script = """
model = prepared(mvau(weights, pumpedCompute=1))
found = [(x @ weights.T).tolist(), execute(model, x).tolist()]
"""
    expected, got = finn(script)
    assert got == expected


def test_a_wrong_weight_is_seen(finn: Finn) -> None:
    script = """
wrong = weights.copy()
wrong[4, 9] += 1 if wrong[4, 9] < 3 else -1
x[0, 9] = 3
found = (execute(prepared(mvau(wrong)), x) - x @ weights.T)[0].tolist()
"""
    difference = np.array(finn(script))
    assert abs(difference[4]) == 3
    assert np.flatnonzero(difference).tolist() == [4]


def test_a_thresholding_equals_counted_thresholds_at_their_edges(finn: Finn) -> None:
    script = """
thresholds = np.sort(random.integers(-200, 200, (4, 7)), axis=1)
model = prepared(thresholding(thresholds))
inputs = np.concatenate([thresholds.T, thresholds.T - 1])
got = [execute(model, row[None])[0].tolist() for row in inputs]
found = [thresholds.tolist(), inputs.tolist(), got]
"""
    thresholds, inputs, got = map(np.array, finn(script))
    expected = (inputs[:, :, None] >= thresholds[None]).sum(axis=2) - 4
    np.testing.assert_array_equal(got, expected)
    assert expected.min() == -4
    assert expected.max() == 3


def test_a_width_converter_gives_what_it_takes(finn: Finn) -> None:
    script = """
model = prepared(model_of("StreamingDataWidthConverter_rtl", 16, 16, ["INT3", "INT3"], None,
    inShape=[1, 16], outShape=[1, 16], inWidth=12, outWidth=6, dataType="INT3"))
found = [x.tolist(), execute(model, x).tolist(), attribute(model, "cycles_rtlsim")]
"""
    x, got, cycles = finn(script)
    assert got == x
    assert cycles >= 8


def test_a_fifo_gives_what_it_takes_though_finn_does_not_simulate_it(finn: Finn) -> None:
    """FINN compiles a StreamingFIFO and then passes its input on in Python; its RTL runs all the same."""
    script = """
model = prepared(model_of("StreamingFIFO_rtl", 16, 16, ["INT3", "INT3"], None,
    depth=4, folded_shape=[1, 8, 2], normal_shape=[1, 16], dataType="INT3"))
execute(model, x)
node = getCustomOp(model.graph.node[0])
streams = {"inputs": {"in0": list(range(8))}, "outputs": {"out0": []}}
sim = node.get_rtlsim()
node.reset_rtlsim(sim)
cycles = finn.xsi.rtlsim_multi_io(sim, streams, 8, sname="_V")
node.close_rtlsim(sim)
found = [node.get_nodeattr("cycles_rtlsim"), cycles, streams["outputs"]["out0"]]
"""
    by_finn, cycles, out = finn(script)
    assert (by_finn, out) == (0, list(range(8)))
    assert cycles > 8


def test_nodes_that_differ_in_their_weights_or_their_folder_alone_share_a_library(finn: Finn, tmp_path: Path) -> None:
    script = """
for matrix in (weights, -weights):
    prepared(mvau(matrix))
found = len([path for path in cache.iterdir() if path.suffix == ".so"])
"""
    assert finn(script, cache=tmp_path) == 1


def test_finns_node_by_node_verification_runs_and_tells_a_wrong_output(finn: Finn, tmp_path: Path) -> None:
    """FINN's build steps import, and step_hw_ipgen verifies by rtlsim in the parent graph."""
    script = """
from finn.builder import build_dataflow_steps as steps
from finn.builder.build_dataflow_config import DataflowBuildConfig, VerificationStepType
np.save(folder / "in.npy", x.astype(np.float32))
np.save(folder / "right.npy", (x @ weights.T).astype(np.float32))
np.save(folder / "wrong.npy", (x @ weights.T + 1).astype(np.float32))
found = []
for expected in ("right", "wrong"):
    config = DataflowBuildConfig(output_dir=str(folder / expected), fpga_part="xc7z020clg400-1",
        synth_clk_period_ns=10.0, generate_outputs=[], save_intermediate_models=True,
        verify_steps=[VerificationStepType.NODE_BY_NODE_RTLSIM], verify_input_npy=str(folder / "in.npy"),
        verify_expected_output_npy=str(folder / f"{expected}.npy"))
    model = steps.step_create_dataflow_partition(mvau(weights), config)
    steps.step_hw_ipgen(steps.step_hw_codegen(model, config), config)
    written = folder / expected / "verification_output"
    found.append(sorted(path.name for path in written.iterdir() if path.suffix == ".npy"))
"""
    right, wrong = finn(script, folder=tmp_path)
    assert [name.rsplit("_", 1)[-1] for name in right] == ["SUCCESS.npy"]
    assert [name.rsplit("_", 1)[-1] for name in wrong] == ["FAIL.npy"]


STITCHED = {
    "its making": """
from finn.transformation.fpgadataflow.create_stitched_ip import CreateStitchedIP
mvau(weights).transform(CreateStitchedIP("xc7z020clg400-1", 10.0))
""",
    "its simulation": 'finn.xsi.compile_sim_obj("finn_design_wrapper", [], cache)',
    "its FIFO sizing": 'finn.xsi.compile_sim_obj("top", [], cache, fifosim=True)',
    "its simulation kernel": "finn.xsi.get_simkernel_so()",
}


@pytest.mark.parametrize("script", STITCHED.values(), ids=STITCHED)
def test_what_needs_a_stitched_ip_is_refused_with_the_reason(script: str, finn: Finn) -> None:
    with pytest.raises(DataflowError, match="a stitched IP is made by Vivado's IP integrator"):
        finn(script)


@pytest.mark.parametrize("step", ["step_create_stitched_ip", "step_measure_rtlsim_performance", "step_set_fifo_depths"])
def test_finns_build_steps_that_need_a_stitched_ip_are_refused_with_the_reason(
    step: str, finn: Finn, tmp_path: Path
) -> None:
    script = """
from finn.builder import build_dataflow_steps as steps
from finn.builder.build_dataflow_config import AutoFIFOSizingMethod, DataflowBuildConfig, DataflowOutputType
outputs = [DataflowOutputType.STITCHED_IP, DataflowOutputType.RTLSIM_PERFORMANCE]
config = DataflowBuildConfig(output_dir=str(folder), fpga_part="xc7z020clg400-1", synth_clk_period_ns=10.0,
    generate_outputs=outputs, auto_fifo_strategy=AutoFIFOSizingMethod.DISTRIBUTED_SIMULATION)
getattr(steps, step)(mvau(weights), config)
"""
    with pytest.raises(DataflowError, match="a stitched IP is made by Vivado's IP integrator"):
        finn(script, step=step, folder=tmp_path)


def test_a_library_of_another_verilator_is_refused(finn: Finn) -> None:
    script = """
from qnn.tools import verilator
model = prepared(mvau(weights))
library = Path(attribute(model, "rtlsim_so"))
ours = verilator.version().encode()
library.write_bytes(library.read_bytes().replace(b'"' + ours + b'"', b'"' + b"0" * len(ours) + b'"'))
execute(model, x)
"""
    with pytest.raises(
        SimulationError, match=r"was built by Verilator 0+, but \S+ is installed: prepare the simulation"
    ):
        finn(script)


def test_a_library_of_another_simulator_is_refused(finn: Finn) -> None:
    script = """
model = prepared(mvau(weights))
Path(attribute(model, "rtlsim_so")).write_bytes(b"not a library")
execute(model, x)
"""
    with pytest.raises(SimulationError, match=r"xsimk\.so is no simulator library of this suite"):
        finn(script)


def test_a_waveform_is_refused(finn: Finn) -> None:
    script = """
model = mvau(weights)
getCustomOp(model.graph.node[0]).set_nodeattr("rtlsim_trace", "default")
prepared(model)
"""
    with pytest.raises(SimulationError, match="no waveforms of MVAU_rtl_0"):
        finn(script)


def test_a_node_that_gives_too_little_stands_still(finn: Finn) -> None:
    script = """
node = getCustomOp(prepared(mvau(weights)).graph.node[0])
sim = node.get_rtlsim()
node.reset_rtlsim(sim)
streams = {"inputs": {"in0": [0] * 4, "in1": [0] * 11}, "outputs": {"out0": []}}
finn.xsi.rtlsim_multi_io(sim, streams, 3, sname="_V", liveness_threshold=500)
"""
    with pytest.raises(DeadlockError, match=r"no beat for 500 cycles.* in1_V_TDATA 11 of 11, out0_V_TDATA 2 of 3"):
        finn(script)


def test_vivado_on_request_where_it_is_not_there_is_refused(finn: Finn) -> None:
    with pytest.raises(ToolMissing, match="by Vivado was asked for, but XILINX_VIVADO is not set"):
        finn("xsi.install(xsi.Simulator.VIVADO)")


def test_a_vivado_that_is_not_whole_is_refused(finn: Finn) -> None:
    script = """
os.environ["XILINX_VIVADO"] = "/nowhere/2024.2"
try:
    xsi.install(xsi.Simulator.VIVADO)
finally:
    del os.environ["XILINX_VIVADO"]
"""
    with pytest.raises(ToolMissing, match="FINN cannot build its XSI module"):
        finn(script)


VIVADO = '''
from finn.transformation.fpgadataflow.create_stitched_ip import CreateStitchedIP
from finn.util.settings import get_settings
(vivado / "xsi").mkdir(parents=True)    # what FINN builds around XSI: here a package, and a library that nobody loads
(vivado / "xsi" / "__init__.py").write_text("Kernel = Design = Port = object")
(vivado / "xsi.so").touch()
(vivado / "VERSION").write_text("Vivado 2024.2")
os.environ["XILINX_VIVADO"] = str(vivado / "2024.2")
get_settings().finn_xsi = vivado

def simulator():
    """Who simulates, by the module that FINN's engine steps, and whether a stitched IP is refused."""
    from finn_xsi import sim_engine
    assert finn.xsi.SimEngine is sim_engine.SimEngine
    try:
        mvau(weights).transform(CreateStitchedIP("xc7z020clg400-1", 10.0))
    except DataflowError:
        return sim_engine.xsi.__name__, "refused"
    except Exception as error:    # FINN's own, without a Vivado that runs
        return sim_engine.xsi.__name__, "tried"

from qnn.errors import DataflowError
try:
    found = [simulator()]
    for asked in order:
        xsi.install(xsi.Simulator(asked), cache=cache)
        found.append(simulator())
    found.append((execute(prepared(mvau(weights)), x) == x @ weights.T).all().item())
finally:
    del os.environ["XILINX_VIVADO"]
'''


def test_finns_own_way_comes_back_whole_and_verilator_after_it(finn: Finn, tmp_path: Path) -> None:
    """FINN binds its names once, and keeps its modules; asked for a second time, Vivado is still there."""
    order = ["vivado", "vivado", "verilator", "vivado", "verilator"]
    *found, equal = finn(VIVADO, vivado=tmp_path, order=order)
    verilator, vivado = ("qnn.dataflow.verilated", "refused"), ("xsi", "tried")
    assert found == [verilator, *(vivado if asked == "vivado" else verilator for asked in order)]
    assert equal
