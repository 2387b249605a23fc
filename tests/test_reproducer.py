"""A wrong node of real RTL is named by its taps, and the folder that is left shows it without this suite."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from small import IMAGES, WIDTHS, small_parameters, small_pixels

from qnn import edits, export, reproducer
from qnn.cell import PART, Folding, Policy
from qnn.divergence import Divergence, first_divergence, read_taps, stages
from qnn.errors import DesignError
from qnn.hdl import HardwareDesign
from qnn.integer import IntegerNetwork
from qnn.networks import build_from_parameters
from qnn.tools import finn, verilator

WRONG = "MVAU_rtl_1"


@dataclass(frozen=True)
class Compiled:
    folder: Path
    design: HardwareDesign
    """As Verilator takes it."""

    @property
    def network(self) -> IntegerNetwork:
        return finn.read_hardware_model(self.folder).network


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    folder = tmp_path_factory.mktemp("compiled")
    model = tmp_path_factory.mktemp("qonnx") / "model.onnx"
    export.export(build_from_parameters(small_parameters()), model)
    finn.compile_network(model, Folding(pe=2, simd=4), Policy.UNIFORM, PART, 10.0, folder)
    return Compiled(folder, edits.accept(finn.read_design(folder), "verilator", verilator.check).design)


@pytest.fixture(scope="module")
def wrong(compiled: Compiled) -> HardwareDesign:
    """The second matrix unit's first word of weights has its lowest bit flipped."""
    file = f"{WRONG}/memblock.dat"
    first, *others = compiled.design.files[file].splitlines()
    flipped = f"{int(first, 16) ^ 1:0{len(first)}x}"
    return compiled.design.replace_files({file: "\n".join([flipped, *others, ""])})


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return small_pixels()


def _diverges(compiled: Compiled, design: HardwareDesign, pixels: NDArray[np.uint8], folder: Path) -> Divergence | None:
    dataflow = finn.read_dataflow(compiled.folder)
    simulator = verilator.build(design, folder, brief=True)
    streams = verilator.taps(simulator, pixels, output_beats=dataflow.output_beats)
    nodes = read_taps(dataflow.layers, streams, WIDTHS[0])
    assert all(len(node.values) == IMAGES for node in nodes)
    return first_divergence("RTL", compiled.network, pixels, nodes)


@pytest.fixture(scope="module")
def divergence(
    compiled: Compiled, wrong: HardwareDesign, pixels: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> Divergence:
    found = _diverges(compiled, wrong, pixels, tmp_path_factory.mktemp("wrong") / "simulator")
    assert found is not None
    return found


def _case(compiled: Compiled, divergence: Divergence, pixels: NDArray[np.uint8]) -> reproducer.NodeCase:
    values = stages(compiled.network, pixels)
    return reproducer.NodeCase(
        name=divergence.node,
        op_type=divergence.op_type,
        model=compiled.folder / "folded.onnx",
        inputs=values[divergence.takes],
        expected=values[divergence.gives],
        story=str(divergence),
    )


def _streams(compiled: Compiled, name: str) -> reproducer.Streams:
    layers = finn.read_dataflow(compiled.folder).layers
    place = next(k for k, layer in enumerate(layers) if layer.name == name)
    return reproducer.Streams(
        input_bits=layers[place - 1].output_bits,
        input_lanes=layers[place - 1].output_lanes,
        output_bits=layers[place].output_bits,
        output_lanes=layers[place].output_lanes,
        output_signed=layers[place].output_signed,
    )


def _run(folder: Path) -> subprocess.CompletedProcess[str]:
    """As its reader would: from elsewhere, without the suite on the path."""
    return subprocess.run(
        [sys.executable, "-P", "-W", "ignore", folder / "reproduce.py"],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_right_rtl_does_not_diverge(compiled: Compiled, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    assert _diverges(compiled, compiled.design, pixels, tmp_path / "simulator") is None


def test_a_flipped_bit_of_a_weight_is_found_at_its_node_and_input(divergence: Divergence) -> None:
    assert (divergence.node, divergence.op_type) == (WRONG, "MVAU_rtl")
    assert "as if the weight of input 0 were off by" in divergence.around


def test_the_folder_shows_the_wrong_rtl_and_that_finns_python_is_right(
    compiled: Compiled, divergence: Divergence, wrong: HardwareDesign, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    alone = reproducer.only_node(wrong, WRONG)
    folder = reproducer.write(tmp_path / "case", _case(compiled, divergence, pixels), alone, _streams(compiled, WRONG))
    assert str(divergence) in (folder / "README.txt").read_text()
    assert "qnn" not in (folder / "reproduce.py").read_text().replace("qnn/reproduce.py", "")
    done = _run(folder)
    assert done.returncode == 1, done.stderr
    assert f"{WRONG} (MVAU_rtl)\n" in done.stdout
    assert f"in Python: equal, {IMAGES} vectors of 4 elements" in done.stdout
    assert "RTL in Verilator: differs" in done.stdout
    assert f"first at vector {divergence.image}, element {divergence.channel}: expected" in done.stdout


def test_the_folder_of_a_right_node_says_so(
    compiled: Compiled, divergence: Divergence, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    alone = reproducer.only_node(compiled.design, WRONG)
    done = _run(
        reproducer.write(tmp_path / "case", _case(compiled, divergence, pixels), alone, _streams(compiled, WRONG))
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "RTL in Verilator: equal" in done.stdout


def test_a_newer_folder_takes_the_place_of_an_older_one_whole(
    compiled: Compiled, divergence: Divergence, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    case = _case(compiled, divergence, pixels)
    folder = reproducer.write(
        tmp_path / "case", case, reproducer.only_node(compiled.design, WRONG), _streams(compiled, WRONG)
    )
    assert (folder / "rtl").is_dir()
    assert reproducer.write(tmp_path / "case", case) == folder
    assert not (folder / "rtl").exists()
    assert json.loads((folder / "node.json").read_text()) == {"name": WRONG, "op_type": "MVAU_rtl", "in_cpp": False}
    assert [path.name for path in tmp_path.iterdir()] == ["case"]


def test_one_node_is_a_valid_model_with_its_data_types(compiled: Compiled) -> None:
    model = onnx.load(str(compiled.folder / "streamlined.onnx"))
    small = reproducer.one_node(model, "MatMul_1")
    assert [node.op_type for node in small.graph.node] == ["MatMul"]
    assert [len(part) for part in (small.graph.input, small.graph.initializer, small.graph.output)] == [1, 1, 1]
    assert {note.tensor_name for note in small.graph.quantization_annotation} >= {small.graph.input[0].name}


def test_a_node_that_is_not_there_is_refused_with_those_that_are(compiled: Compiled) -> None:
    model = onnx.load(str(compiled.folder / "streamlined.onnx"))
    with pytest.raises(DesignError, match=r"the model has no node nowhere: there are .*MatMul_0"):
        reproducer.one_node(model, "nowhere")
    with pytest.raises(DesignError, match=r"the design has no node nowhere: there are .*MVAU_rtl_0"):
        reproducer.only_node(compiled.design, "nowhere")
