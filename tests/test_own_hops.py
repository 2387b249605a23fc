"""Models from outside through every hop: equal where they are, and each hop sees a fault of its own."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from fixtures.example_models import (
    binary_model,
    convolutional_model,
    depthwise_model,
    float_model,
    image_model,
    model_of_codes,
    residual_model,
    save,
)
from qnn.ahead import Step
from qnn.ahead import _do as build_ahead
from qnn.cell import Folding
from qnn.cli import main
from qnn.errors import DataflowError, DeadlockError, DesignError, ModelError
from qnn.own_hops import HOPS, Hop, Verdict, ahead, run_hop
from qnn.own_model import OwnModel, Preprocessing
from qnn.own_pipeline import OwnPipeline
from qnn.pipeline import DeviceRun
from qnn.reference import part
from qnn.report import summary
from qnn.resources import Budget
from qnn.results import Evidence, Row, Status
from qnn.store import Store
from qnn.tools.finn import CppRun, NodeValues
from qnn.tools.hls_headers import HlsHeaders

FOLDING = Folding(pe=2, simd=2)
UNIT = Preprocessing.parse("uint8", "1/255", "0")
SYMMETRIC = Preprocessing.parse("uint8", "2/255", "-1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def model(folder: Path) -> OwnModel:
    """Images with labels that are right for half of them."""
    path = save(image_model(), folder / "image.onnx")
    x = np.random.default_rng(2).integers(0, 256, (20, 1, 4, 4))
    np.savez(folder / "in.npz", x=x, y=np.zeros(20, np.int64))
    return OwnModel(path=path, folding=FOLDING, preprocessing=UNIT, samples=folder / "in.npz")


def hops(pipeline: OwnPipeline, model: OwnModel, folder: Path, *names: str) -> dict[str, Hop]:
    return {name: run_hop(name, pipeline, model, reproducers=folder / "reproducers") for name in names}


def test_every_hop_of_a_model_of_images_is_equal(shared_store: Store, model: OwnModel, folder: Path) -> None:
    found = hops(OwnPipeline(store=shared_store), model, folder, *HOPS)
    assert {name: (hop.verdict, hop.detail) for name, hop in found.items()} == dict.fromkeys(
        HOPS, (Verdict.EQUAL, None)
    )
    assert [hop.evidence for hop in found.values()] == [
        *[Evidence.PYTHON] * 3,
        found["cppsim"].evidence,
        Evidence.RTLSIM,
        Evidence.SYNTHESIS,
        Evidence.RTLSIM,
    ]
    assert found["qonnx"].figures["host"] == "Flatten_0, Mul_0 (Mul), Add_0 (Add)"
    assert found["rtl"].figures["images_equal"] == found["rtl"].figures["images"] == 20
    assert found["rtl"].figures["rtl_top1_percent"] == found["qonnx"].figures["qonnx_top1_percent"]
    assert found["throughput"].figures["initiation_interval_cycles"] == 24
    assert found["resources"].layers


@pytest.mark.parametrize(
    ("refused", "steps"),
    [((), [Step.DEVICE_RUN, Step.OWN_CPPSIM]), (("rtl",), [Step.OWN_CPPSIM]), (("cppsim", "rtl"), [])],
    ids=["nothing refused", "no RTL", "no hardware"],
)
def test_what_the_chosen_hops_ask_for_is_built_ahead_as_far_as_finn_takes_the_model(
    refused: Sequence[str], steps: list[Step], model: OwnModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pipeline = OwnPipeline(store=Store(tmp_path))
    compiled = SimpleNamespace(refused=dict.fromkeys(refused, "why"))
    monkeypatch.setattr(OwnPipeline, "compilation", lambda self, model: compiled)
    following = build_ahead(pipeline, ahead(model, ["qonnx", "cppsim", "rtl", "throughput"]))
    assert [(task.step, task.cell) for task in following] == [(step, model) for step in steps]


@dataclass(frozen=True, kw_only=True)
class _Faulty(OwnPipeline):
    """The pipeline with one wrong number at the hop of a name."""

    wrong: str
    place: int = 2
    """Of the node, where a hop has nodes."""

    def _spoilt(self, hop: str, values: NDArray[Any]) -> NDArray[Any]:
        if hop != self.wrong:
            return values
        spoilt = values.copy()
        spoilt.reshape(-1)[0] += 1
        return spoilt

    def _spoilt_run(self, hop: str, run: Mapping[str, NDArray[Any]], name: str) -> dict[str, NDArray[Any]]:
        return {key: self._spoilt(hop, values) if key == name else values for key, values in run.items()}

    def _spoilt_nodes(self, hop: str, nodes: Sequence[NodeValues]) -> list[NodeValues]:
        return [
            replace(node, values=self._spoilt(hop, node.values)) if k == self.place else node
            for k, node in enumerate(nodes)
        ]

    def qonnx_run(self, cell: OwnModel) -> dict[str, NDArray[Any]]:
        return self._spoilt_run("qonnx", super().qonnx_run(cell), "codes_1")

    def whole_run(self, cell: OwnModel) -> dict[str, NDArray[Any]]:
        return self._spoilt_run("outputs", super().whole_run(cell), "output")

    def graph_run(self, cell: OwnModel) -> dict[str, NDArray[Any]]:
        return self._spoilt_run("golden", super().graph_run(cell), "products_0")

    def graph_nodes(self, cell: OwnModel, images: Sequence[int]) -> list[NodeValues]:
        return self._spoilt_nodes("hardware", super().graph_nodes(cell, images))

    def cppsim_run(self, cell: OwnModel, **options: Any) -> tuple[CppRun, HlsHeaders]:
        run, headers = super().cppsim_run(cell, **options)
        return replace(run, nodes=tuple(self._spoilt_nodes("cppsim", run.nodes))), headers

    def device_run(self, cell: OwnModel) -> DeviceRun:
        run = super().device_run(cell)
        if self.wrong == "throughput":
            run = replace(run, completions_cycles=run.completions_cycles * 2)
        return replace(run, accumulators=self._spoilt("rtl", run.accumulators))

    def rtl_nodes(self, cell: OwnModel, images: Sequence[int], **options: Any) -> list[NodeValues]:
        return self._spoilt_nodes("rtl", super().rtl_nodes(cell, images, **options))


@pytest.mark.parametrize(
    ("wrong", "hop", "message"),
    [
        ("qonnx", "qonnx", r"QONNX: activation 1, image 0, channel 0: code .* further away than float32 explains"),
        ("outputs", "qonnx", r"QONNX: the outputs of 1 of 20 images differ .* first image 0, output 0"),
        ("golden", "golden", r"the first wrong node is MatMul_0 \(MatMul\), in 1 of 20 images; image 0, channel 0"),
        ("hardware", "hardware", r"the first wrong node is Thresholding_1 \(Thresholding\), in 1 of 16 images"),
        ("cppsim", "cppsim", r"the first wrong node is Thresholding_hls_1 \(Thresholding_hls\), in 1 of 20 images"),
        ("rtl", "rtl", r"RTL: 1 of 20 images differ[\s\S]*the first wrong node is .*_rtl"),
        ("throughput", "throughput", r"the simulated interval is 48 cycles, and the folding gives 24"),
    ],
)
def test_a_fault_is_seen_at_its_hop_and_names_the_place(
    wrong: str, hop: str, message: str, shared_store: Store, model: OwnModel, folder: Path
) -> None:
    found = hops(_Faulty(store=shared_store, wrong=wrong), model, folder, hop)[hop]
    assert found.verdict is Verdict.DIFFERS
    assert re.search(message, str(found.detail)), found.detail
    if hop in ("golden", "hardware", "cppsim", "rtl"):
        require_reproducer(found)


@pytest.mark.parametrize("code", [-1, 8])
def test_a_code_that_finn_does_not_have_is_no_matter_of_float32(
    code: int, shared_store: Store, model: OwnModel, folder: Path
) -> None:
    """Of 3 bits without a sign; what lies next to it may well be on a threshold."""

    class Other(OwnPipeline):
        def qonnx_run(self, cell: OwnModel) -> dict[str, NDArray[Any]]:
            run = super().qonnx_run(cell)
            codes = run["codes_1"].copy()
            codes[2, 3] = code
            return {**run, "codes_1": codes}

    found = hops(Other(store=shared_store), model, folder, "qonnx")["qonnx"]
    assert found.verdict is Verdict.DIFFERS
    assert f"image 2, channel 3: code {code}, and FINN's graph has codes from 0 to 7 there" in str(found.detail)


def require_reproducer(hop: Hop) -> None:
    """A folder with the one node that the difference names."""
    named = re.search(r"the first wrong node is (\S+)", str(hop.detail))
    where = re.search(r"reproducer: (.*)", str(hop.detail))
    assert named is not None
    assert where is not None, hop.detail
    folder = Path(where[1])
    assert [node.name for node in onnx.load(str(folder / "node.onnx")).graph.node] == [named[1]]
    assert len(np.load(folder / "inputs.npy")) == len(np.load(folder / "expected.npy")) > 0
    assert (folder / "rtl").is_dir() == named[1].partition("_")[2].startswith("rtl")
    assert str(hop.detail).splitlines()[-2].strip() in (folder / "README.txt").read_text()


def test_a_standstill_names_the_node_that_stopped(shared_store: Store, model: OwnModel, folder: Path) -> None:
    class Standing(OwnPipeline):
        def device_run(self, cell: OwnModel) -> DeviceRun:
            raise DeadlockError("the accelerator stands still")

        def rtl_nodes(self, cell: OwnModel, images: Sequence[int], **options: Any) -> list[NodeValues]:
            nodes = super().rtl_nodes(cell, images, **options)
            place = next(k for k, node in enumerate(nodes) if node.op_type == "MVAU_rtl")
            return [replace(node, values=node.values[:3]) if k >= place else node for k, node in enumerate(nodes)]

    found = hops(Standing(store=shared_store), model, folder, "rtl")["rtl"]
    assert found.verdict is Verdict.DIFFERS
    assert str(found.detail).startswith("the accelerator stands still\nRTL: the first wrong node is MVAU_rtl_0")
    assert "stopped before image 3 was whole" in str(found.detail)
    require_reproducer(found)


def test_a_reproducer_that_cannot_be_written_hides_no_difference(
    shared_store: Store, model: OwnModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **_named: Any) -> Path:
        raise DesignError("the model has no such node")

    monkeypatch.setattr("qnn.diff.write_reproducer", refuse)
    found = hops(_Faulty(store=shared_store, wrong="hardware"), model, folder, "hardware")["hardware"]
    assert found.verdict is Verdict.DIFFERS
    assert str(found.detail).endswith("\nno reproducer: the model has no such node")


def test_an_accelerator_that_does_not_fit_is_told(
    shared_store: Store, model: OwnModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = part("xc7z020clg400-1")
    budget = Budget(**{**vars(whole.alone), "lut": 10})
    monkeypatch.setattr("qnn.reference.part", lambda name: replace(whole, alone=budget, beside_shell=budget))
    found = hops(OwnPipeline(store=shared_store), model, folder, "resources")["resources"]
    assert found.verdict is Verdict.DIFFERS
    assert str(found.detail).startswith("does not fit xc7z020clg400-1 beside FINN's shell by lut")
    assert found.figures["lut"]


@pytest.mark.parametrize("bipolar_activations", [pytest.param(True, marks=pytest.mark.slow), False])
def test_binary_weights_go_through_cppsim_and_what_needs_rtl_says_why_it_did_not_run(
    bipolar_activations: bool, shared_store: Store, folder: Path
) -> None:
    path = save(binary_model(bipolar_activations=bipolar_activations), folder / f"binary_{bipolar_activations}.onnx")
    model = OwnModel(path=path, folding=FOLDING, preprocessing=SYMMETRIC)
    found = hops(OwnPipeline(store=shared_store), model, folder, *HOPS)
    verdicts = {name: hop.verdict for name, hop in found.items()}
    without_rtl = ("rtl", "resources", "throughput")
    assert verdicts == {name: Verdict.NOT_RUN if name in without_rtl else Verdict.EQUAL for name in HOPS}
    for name in without_rtl:
        assert "FINN has no RTL variant for MVAU_hls_0" in str(found[name].detail)
    assert (found["resources"].evidence, found["throughput"].evidence) == (Evidence.ESTIMATE, Evidence.ESTIMATE)
    assert found["throughput"].figures["finn_estimate_interval_cycles"] == 8 * 6 / (2 * 2)
    assert int(found["resources"].figures["finn_hls_estimate_lut"] or 0) > 0
    assert found["cppsim"].figures["held_against"] == "exact integers"
    product = "XnorPopcountMatMul_0" if bipolar_activations else "MatMul_0"
    for name, node in (("golden", product), ("cppsim", "Thresholding_hls_1")):
        wrong = hops(_Faulty(store=shared_store, wrong=name), model, folder, name)[name]
        assert f"the first wrong node is {node}" in str(wrong.detail)
        require_reproducer(wrong)


@pytest.mark.parametrize("pool", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_convolutional_network_goes_through_all_hops_that_its_nodes_have(
    pool: bool, shared_store: Store, folder: Path
) -> None:
    path = save(convolutional_model(pool=pool), folder / f"conv_{pool}.onnx")
    model = OwnModel(path=path, folding=FOLDING, preprocessing=UNIT)
    found = hops(
        OwnPipeline(store=shared_store), model, folder, *(name for name in HOPS if pool or name != "resources")
    )
    without_rtl = {"rtl", "resources", "throughput"} if pool else set()
    details = {name: hop.detail for name, hop in found.items() if hop.verdict is not Verdict.EQUAL}
    assert details.keys() == {"golden"} | without_rtl, details
    assert "stayed in the streamlined graph" in str(details["golden"])
    for name in without_rtl:
        assert found[name].verdict is Verdict.NOT_RUN
        assert "FINN has no RTL variant for Pool_hls_0" in str(details[name])
    wrong = hops(_Faulty(store=shared_store, wrong="outputs"), model, folder, "qonnx")["qonnx"]
    assert wrong.verdict is Verdict.DIFFERS
    # FIFO, activation, FIFO, padding, FIFO, windows, FIFO, product; in cppsim without FIFOs.
    for name, place, node in [("cppsim", 3, "MVAU_hls_0")] + [("rtl", 7, "MVAU_rtl_0")] * (not pool):
        wrong = hops(_Faulty(store=shared_store, wrong=name, place=place), model, folder, name)[name]
        assert wrong.verdict is Verdict.DIFFERS
        assert f"the first wrong node is {node}" in str(wrong.detail)
        require_reproducer(wrong)


def test_a_depthwise_convolution_goes_as_far_as_finn_has_hardware_of_it(shared_store: Store, folder: Path) -> None:
    path = save(depthwise_model(), folder / "depthwise.onnx")
    model = OwnModel(path=path, folding=FOLDING, preprocessing=UNIT)
    found = hops(OwnPipeline(store=shared_store), model, folder, "qonnx", "hardware", "cppsim", "rtl")
    assert [hop.verdict for hop in found.values()] == [*[Verdict.EQUAL] * 3, Verdict.NOT_RUN]
    assert "FINN has no RTL variant for VVAU_hls_0 (VVAU_hls), VVAU_hls_1 (VVAU_hls)" in str(found["rtl"].detail)
    # Activation, padding, windows, product of each channel apart.
    wrong = hops(_Faulty(store=shared_store, wrong="cppsim", place=3), model, folder, "cppsim")["cppsim"]
    assert wrong.verdict is Verdict.DIFFERS
    assert "the first wrong node is VVAU_hls_0" in str(wrong.detail)
    require_reproducer(wrong)


@pytest.mark.slow
def test_a_convolutional_network_fits_and_every_node_of_it_is_counted(shared_store: Store, folder: Path) -> None:
    path = save(convolutional_model(pool=False), folder / "conv_False.onnx")
    model = OwnModel(path=path, folding=FOLDING, preprocessing=UNIT)
    found = hops(OwnPipeline(store=shared_store), model, folder, "resources")["resources"]
    assert found.verdict is Verdict.EQUAL
    kinds = {str(layer["name"]).partition("_")[0] for layer in found.layers}
    assert kinds == {"FMPadding", "ConvolutionInputGenerator", "MVAU", "Thresholding", "StreamingFIFO"}


@pytest.mark.parametrize(("last_step", "ties"), [(0.4, False), (0.1875, True)])
def test_a_network_may_start_with_a_product_and_end_with_an_activation(
    last_step: float, ties: bool, shared_store: Store, folder: Path
) -> None:
    """A tie of the last activation, the host's, QONNX rounds to the even code and FINN up."""
    path = save(model_of_codes(last_step=last_step), folder / f"codes_{ties}.onnx")
    model = OwnModel(path=path, folding=FOLDING, preprocessing=Preprocessing.parse("uint1", "1", "0"))
    found = hops(OwnPipeline(store=shared_store), model, folder, "qonnx", "golden", "hardware")
    details = {name: (hop.verdict, hop.detail) for name, hop in found.items()}
    assert details == dict.fromkeys(found, (Verdict.EQUAL, None))
    figures = found["qonnx"].figures
    assert figures["host"] == "MultiThreshold_1 (MultiThreshold), Mul_0 (Mul)"
    assert figures["codes"] == 64 * (6 + 4)
    assert figures["codes_off_by_float32"] == 0
    assert (figures["codes_off_by_ties"] is not None) is ties
    assert (int(figures["images_equal"] or 0) < 64) is ties
    for name in ("qonnx", "outputs"):
        wrong = hops(_Faulty(store=shared_store, wrong=name), model, folder, "qonnx")["qonnx"]
        assert wrong.verdict is Verdict.DIFFERS


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (float_model, r"FINN cannot map: MatMul_1 \(MatMul of UINT3 and FLOAT32\). Quantise their .* --shift \("),
        (
            residual_model,
            r"MatMul_1 \(MatMul of FLOAT32 and INT3\).* moves no scales over a join of branches: Add_0 \(",
        ),
    ],
)
def test_float_layers_are_named_and_branches_that_leave_them_so(
    network: Callable[[], Any], message: str, shared_store: Store, folder: Path
) -> None:
    model = OwnModel(path=save(network(), folder / "float.onnx"), folding=FOLDING, preprocessing=UNIT)
    with pytest.raises(DataflowError, match=message):
        hops(OwnPipeline(store=shared_store), model, folder, "qonnx")


def test_samples_of_another_shape_end_every_hop(shared_store: Store, model: OwnModel, folder: Path) -> None:
    np.savez(folder / "other.npz", x=np.zeros((2, 9)))
    with pytest.raises(ModelError, match="the model takes"):
        hops(OwnPipeline(store=shared_store), replace(model, samples=folder / "other.npz"), folder, "qonnx")


def test_check_prints_a_line_a_hop_and_ends_with_the_verdict(
    shared_store: Store,
    model: OwnModel,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ["--input", "uint8", "--folding", "2x2", "--store", str(shared_store.root), "--results", str(folder)]
    command = ["check", str(model.path), *options, "--samples", str(model.samples), "--scale", "1/255"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    lines = {line.split()[0]: line for line in printed.splitlines() if line.split()[:1]}
    for name in HOPS:
        assert " equal " in lines[name]
    assert "equal in 20 of 20 images" in lines["rtl"]
    assert "top-1 %" in lines["rtl"]
    with monkeypatch.context() as patch:
        patch.setattr("qnn.own_pipeline.OwnPipeline", lambda **options: _Faulty(**options, wrong="golden"))
        assert main(command) == 1
    assert "golden: streamlined graph: the first wrong node is MatMul_0" in capsys.readouterr().out
    binary = save(binary_model(bipolar_activations=True), folder / "binary_True.onnx")
    assert main(["check", str(binary), *options, "--scale", "2/255", "--shift=-1"]) == 2
    assert "rtl: DataflowError: FINN has no RTL variant" in capsys.readouterr().out


def test_rows_of_own_models_have_a_table_of_their_own() -> None:
    rows = [
        Row(
            test="a",
            hop="own: rtl",
            cell="net-PE2-SIMD2",
            status=Status.PASSED,
            metrics={"images": 3, "images_equal": 3},
        ),
        Row(test="b", hop="own: resources", cell="net-PE2-SIMD2", status=Status.SKIPPED, reason="no RTL"),
        Row(test="c", hop="own: golden", cell="net-PE2-SIMD2", status=Status.FAILED, reason="differs"),
    ]
    lines = summary(rows, width=160, color=False).splitlines()
    assert lines[0] == "net-PE2-SIMD2"
    assert [line.split() for line in lines[2:5]] == [
        ["rtl", "equal", "-", "equal", "in", "3", "of", "3", "images"],
        ["resources", "not", "run", "-"],
        ["golden", "differs", "-"],
    ]
    assert "skipped own: resources: no RTL" in lines
