"""``pytest benchmarks --model`` and ``python -m qnn check`` run as a user runs them, on a trained model too."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fixtures.example_models import binary_model, image_model, save
from qnn import datasets, integer
from qnn.cell import Cell, Folding, Quantization
from qnn.own_hops import HOPS
from qnn.own_model import OwnModel, Preprocessing
from qnn.own_pipeline import OwnPipeline
from qnn.pipeline import Pipeline
from qnn.results import Evidence, Row, Status, read_rows
from qnn.store import Store

ROOT = Path(__file__).parents[1]
DOCUMENTATION = ROOT / "docs" / "own-models.md"
SCALED = ("--input", "uint8", "--scale", "1/255")
IMAGES = 300
"""As many as the documentation's example takes."""


def _run(arguments: list[str | Path], folder: Path, store: Store) -> subprocess.CompletedProcess[str]:
    """A command of Python's modules, with the store of the tests."""
    environment = {**os.environ, "QNN_STORE": str(store.root), "COLUMNS": "200"}
    argv = [sys.executable, *map(str, arguments)]
    return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@dataclass(frozen=True, kw_only=True)
class Session:
    """How ``pytest benchmarks --model`` ended."""

    status: int
    output: str
    rows: dict[tuple[str, str], Row]
    """{(model with its folding, hop): its row}."""

    def verdicts(self, name: str) -> dict[str, Status]:
        return {hop: row.status for (cell, hop), row in self.rows.items() if cell == name}


def _session(folder: Path, store: Store, *arguments: str | Path) -> Session:
    command: list[str | Path] = ["-m", "pytest", "benchmarks", "-p", "no:cacheprovider", "--results", folder / "rows"]
    ended = _run([*command, *arguments], ROOT, store)
    rows = [row for path in (folder / "rows").glob("*.jsonl") for row in read_rows(path)]
    assert rows, ended.stdout + ended.stderr
    found = {(str(row.cell), row.hop.removeprefix("own: ")): row for row in rows}
    return Session(status=ended.returncode, output=ended.stdout, rows=found)


def test_hops_that_run_pass_and_the_others_are_skipped_with_the_reason(shared_store: Store, tmp_path: Path) -> None:
    image, binary = save(image_model(), tmp_path / "image.onnx"), tmp_path / "binary.onnx"
    save(binary_model(bipolar_activations=False), binary)
    chosen = ("--foldings", "2x2", "-k", "golden or hardware or rtl")
    session = _session(tmp_path, shared_store, "--model", image, "--model", binary, *SCALED, *chosen)
    assert session.status == pytest.ExitCode.OK, session.output
    hops = ("golden", "hardware", "rtl", "throughput")  # whose marker is rtlsim
    assert session.verdicts("image-PE2-SIMD2") == dict.fromkeys(hops, Status.PASSED)
    with_rtl = {hop: Status.SKIPPED if hop in ("rtl", "throughput") else Status.PASSED for hop in hops}
    assert session.verdicts("binary-PE2-SIMD2") == with_rtl
    skipped = session.rows["binary-PE2-SIMD2", "rtl"]
    assert str(skipped.reason).startswith("DataflowError: FINN has no RTL variant for MVAU_hls_0 (MVAU_hls)")
    assert "RTL needs weights of both signs" in str(skipped.reason)
    assert session.rows["binary-PE2-SIMD2", "throughput"].evidence is Evidence.ESTIMATE
    run = session.rows["image-PE2-SIMD2", "rtl"]
    assert run.evidence is Evidence.RTLSIM
    assert run.metrics["images_equal"] == run.metrics["images"] == 64
    assert re.search(r"SKIPPED .*FINN has no RTL variant", session.output)


def test_a_wrong_weight_fails_its_hop_with_the_first_wrong_node_and_a_reproducer(
    shared_store: Store, tmp_path: Path
) -> None:
    """One weight of the hardware graph is off by one, in a store where nothing else is."""
    path = save(image_model(), tmp_path / "image.onnx")
    model = OwnModel(path=path, folding=Folding(pe=2, simd=2), preprocessing=Preprocessing.parse("uint8", "1/255", "0"))
    made = OwnPipeline(store=shared_store).graph(model, "hardware").parent
    faulty = Store(tmp_path / "store")
    spoilt = faulty.path(made.parent.name, made.name)
    shutil.copytree(made, spoilt)
    graph = onnx.load(str(spoilt / "hardware.onnx"))
    unit = next(node for node in graph.graph.node if node.name == "MVAU_0")
    weights = next(tensor for tensor in graph.graph.initializer if tensor.name == unit.input[1])
    values = numpy_helper.to_array(weights).copy()
    values[0, 0] += 1 if values[0, 0] < 0 else -1
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    onnx.save(graph, str(spoilt / "hardware.onnx"))

    chosen = ("--foldings", "2x2", "-k", "golden or hardware")
    session = _session(tmp_path, faulty, "--model", path, *SCALED, *chosen)
    assert session.status == pytest.ExitCode.TESTS_FAILED
    assert session.verdicts("image-PE2-SIMD2") == {"golden": Status.PASSED, "hardware": Status.FAILED}
    reason = str(session.rows["image-PE2-SIMD2", "hardware"].reason)
    assert "hardware graph: the first wrong node is MVAU_0 (MVAU)" in reason
    assert "as if the weight of input 0 were off by" in reason
    folder = tmp_path / "rows" / "reproducers" / "image-PE2-SIMD2-hardware-graph-MVAU_0"
    assert f"reproducer: {folder}" in reason
    shown = _run(["-P", "-W", "ignore", folder / "reproduce.py"], tmp_path, faulty)
    assert shown.returncode == 1, shown.stderr
    assert "in Python: differs, 16 vectors of 6 elements" in shown.stdout


@pytest.mark.slow
def test_a_balanced_model_keeps_its_interval_with_fewer_lanes_on_the_part_that_is_asked(
    shared_store: Store, tmp_path: Path
) -> None:
    path = save(image_model(), tmp_path / "image.onnx")
    options = ("--foldings", "2x2", "--policy", "balanced", "--part", "xc7z010clg400-1")
    session = _session(tmp_path, shared_store, "--model", path, *SCALED, *options, "-k", "throughput or resources")
    assert session.status == pytest.ExitCode.OK, session.output
    name = "image-PE2-SIMD2-balanced"
    assert set(session.verdicts(name)) == {"resources", "throughput"}
    assert session.rows[name, "throughput"].metrics["initiation_interval_cycles"] == 16 * 6 // (2 * 2)
    resources = session.rows[name, "resources"]
    assert resources.metrics["part"] == "xc7z010clg400-1"
    lanes = {str(layer["name"]): (layer["pe"], layer["simd"]) for layer in resources.layers}
    assert (lanes["MVAU_rtl_0"], lanes["MVAU_rtl_1"]) == ((2, 2), (1, 1))


def _example() -> list[list[str]]:
    """The commands of the documentation's example, as words behind ``python``."""
    import shlex

    text = DOCUMENTATION.read_text().partition("## An example")[2]
    lines = text.split("```")[1].strip().splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    assert all(line[0] == "python" for line in words)
    return [line[1:] for line in words]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, shared_store: Store) -> Path:
    """A folder where the example was followed up to its last command: model.onnx and in.npz are there."""
    folder = tmp_path_factory.mktemp("trained")
    for command in _example()[:-1]:
        ended = _run(list(command), folder, shared_store)
        assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture(scope="module")
def exact_top1_percent(shared_store: Store) -> float:
    """What the exact integers of the shipped network give on the example's images."""
    cell = Cell(dataset="fashion-mnist", quantization=Quantization.parse("A3W3"))
    golden, test = Pipeline(store=shared_store).golden(cell), datasets.load(cell.dataset, "test")
    logits = integer.logits(golden.parameters, golden.evaluate(test.pixels[:IMAGES]))
    return 100 * float(np.mean(logits.argmax(axis=1) == test.labels[:IMAGES]))


def test_the_documentation_tells_the_accuracy_that_the_example_has(exact_top1_percent: float) -> None:
    assert f"{exact_top1_percent:.2f} % of these {IMAGES} images" in DOCUMENTATION.read_text()


def test_a_model_trained_by_this_suite_has_its_accuracy_in_rtl(
    trained: Path, exact_top1_percent: float, shared_store: Store, tmp_path: Path
) -> None:
    samples = ("--input", "uint8", "--samples", trained / "in.npz", "--foldings", "2x2")
    session = _session(tmp_path, shared_store, "--model", trained / "model.onnx", *samples, "-k", "qonnx or rtl")
    assert session.status == pytest.ExitCode.OK, session.output
    assert session.verdicts("model-PE2-SIMD2") == dict.fromkeys(("qonnx", "rtl", "throughput"), Status.PASSED)
    run = session.rows["model-PE2-SIMD2", "rtl"].metrics
    assert run["images_equal"] == run["images"] == IMAGES
    assert run["rtl_top1_percent"] == pytest.approx(exact_top1_percent)
    assert session.rows["model-PE2-SIMD2", "qonnx"].metrics["qonnx_top1_percent"] == pytest.approx(exact_top1_percent)
    assert re.search(rf"rtl +equal +rtlsim .*top-1 % {exact_top1_percent:.2f}", session.output)


@pytest.mark.slow
def test_the_documentations_example_goes_through_every_hop(
    trained: Path, exact_top1_percent: float, shared_store: Store
) -> None:
    ended = _run(list(_example()[-1]), trained, shared_store)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = {line.split()[0]: line for line in ended.stdout.splitlines() if line.strip()}
    for hop in HOPS:
        assert f"{hop} equal" in " ".join(lines[hop].split())
    assert f"equal in {IMAGES} of {IMAGES} images, top-1 % {exact_top1_percent:.2f}" in lines["rtl"]
    assert f"top-1 % {exact_top1_percent:.2f}" in lines["qonnx"]
