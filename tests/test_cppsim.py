"""cppsim on small networks: equal to naive NumPy, with top-1 inside, and its faults told in one sentence.

The suite's functional library is held against NumPy piece by piece, and one that is wrong is caught.
"""

import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from qnn.cell import PART, Folding, Policy
from qnn.divergence import first_divergence
from qnn.errors import DataflowError, EquivalenceError
from qnn.integer import IntegerLayer, IntegerNetwork
from qnn.pipeline import Pipeline
from qnn.process import run as run_program
from qnn.results import Evidence
from qnn.tools import finn, gxx, hls_headers
from qnn.tools.hls_headers import SUITE_INCLUDE, HlsHeaders

Integers = NDArray[np.int64]
INPUTS, HIDDEN, CLASSES, LOWEST = 12, 8, 4, -4
FOLDING = Folding(pe=2, simd=3)
SUITE = hls_headers.suite_headers()
VARIANTS = {"standalone": True, "embedded": False}


def draw_network(seed: int = 0) -> IntegerNetwork:
    """8-bit pixels -> 3-bit codes -> hidden layer of 3-bit codes -> accumulators of CLASSES classes."""
    random = np.random.default_rng(seed)

    def steps(channels: int, low: int, high: int) -> Integers:
        return np.sort(random.integers(low, high, (channels, 7)), axis=1)

    def weights(*shape: int) -> Integers:
        return random.integers(-3, 4, shape)

    return IntegerNetwork(
        layers=(
            IntegerLayer(weights=None, thresholds=steps(INPUTS, 0, 256), lowest=LOWEST),
            IntegerLayer(weights=weights(HIDDEN, INPUTS), thresholds=steps(HIDDEN, -20, 20), lowest=LOWEST),
            IntegerLayer(weights=weights(CLASSES, HIDDEN), thresholds=None),
        )
    )


def draw_tying_network() -> IntegerNetwork:
    """Classes 1 and 2 have the same weights, so that they tie on every image."""
    network = draw_network(seed=4)
    last = network.layers[-1].weights
    assert last is not None
    last[1] = last[2]
    return network


def draw_pixels(images: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (images, INPUTS), dtype=np.uint8)


def naive(network: IntegerNetwork, pixels: NDArray[np.uint8]) -> list[Integers]:
    """Codes of the pixels, codes of the hidden layer, accumulators of the last: the definition, written out."""
    values, found = pixels.astype(np.int64), []
    for layer in network.layers:
        if layer.weights is not None:
            values = values @ layer.weights.T
        if layer.thresholds is not None:
            values = layer.lowest + (values[:, :, None] >= layer.thresholds[None]).sum(axis=2)
        found.append(values)
    return found


def write_model(
    path: Path, network: IntegerNetwork, *, factors: Sequence[float] = (0.5,), annotated: bool = True, foreign: str = ""
) -> Path:
    """The streamlined graph: MultiThreshold and MatMul nodes, the factors of the last accumulators.

    `foreign` is an operation that is put behind the input's activation.
    """
    from onnx import TensorProto, helper
    from qonnx.core.datatype import DataType
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.util.basic import qonnx_make_model

    nodes, constants, types, tensor = [], {}, {}, "pixels"
    shapes, width = {"pixels": INPUTS}, INPUTS
    for k, layer in enumerate(network.layers):
        if layer.weights is not None:
            constants[f"weights{k}"], types[f"weights{k}"] = layer.weights.T, "INT3"
            nodes.append(helper.make_node("MatMul", [tensor, f"weights{k}"], [f"sums{k}"]))
            tensor, width = f"sums{k}", len(layer.weights)
            types[tensor], shapes[tensor] = "INT32", width
        if layer.thresholds is not None:
            constants[f"steps{k}"] = layer.thresholds
            options = {"domain": "qonnx.custom_op.general", "out_dtype": "INT3", "out_bias": float(LOWEST)}
            nodes.append(helper.make_node("MultiThreshold", [tensor, f"steps{k}"], [f"codes{k}"], **options))
            tensor = f"codes{k}"
            types[tensor], shapes[tensor] = "INT3", width
            if foreign and k == 0:
                nodes.append(helper.make_node(foreign, [tensor], ["foreign"]))
                tensor = "foreign"
                types[tensor], shapes[tensor] = "INT3", width
    constants["factors"] = np.array([factors])
    nodes.append(helper.make_node("Mul", [tensor, "factors"], ["logits"]))

    def value(name: str, channels: int) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels])

    inner = [value(name, channels) for name, channels in shapes.items() if name != "pixels"]
    ends = [value("pixels", INPUTS)], [value("logits", CLASSES)]
    model = ModelWrapper(qonnx_make_model(helper.make_graph(nodes, "small", *ends, value_info=inner)))
    for name, array in constants.items():
        model.set_initializer(name, np.asarray(array, dtype=np.float32))
    for name, datatype in {**types, **({"pixels": "UINT8"} if annotated else {})}.items():
        model.set_tensor_datatype(name, DataType[datatype])
    model.save(str(path))
    return path


def simulate(
    model: Path,
    pixels: NDArray[np.uint8],
    pipeline: Pipeline,
    folder: Path,
    *,
    headers: HlsHeaders = SUITE,
    standalone_thresholds: bool = True,
    top1: bool = False,
) -> finn.CppRun:
    folder.mkdir()
    finn.simulate_cpp(
        model,
        pixels,
        *(FOLDING, Policy.UNIFORM, PART, 10.0, folder),
        headers=headers,
        npy_library=pipeline.npy_library(),
        standalone_thresholds=standalone_thresholds,
        top1=top1,
        batch_images=16,
    )
    return finn.read_cpp_run(folder)


def require_equal_nodes(network: IntegerNetwork, pixels: NDArray[np.uint8], run: finn.CppRun) -> None:
    """Raise EquivalenceError naming the first node that does not give the network's integers."""
    found = first_divergence("cppsim", network, pixels, run.nodes)
    if found is not None:
        raise EquivalenceError(str(found))


@pytest.fixture(scope="module", params=VARIANTS)
def run(request: pytest.FixtureRequest, pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> finn.CppRun:
    """37 images, in batches of 16, of which the last is not full."""
    folder = tmp_path_factory.mktemp("small")
    model = write_model(folder / "model.onnx", draw_network())
    standalone = VARIANTS[request.param]
    return simulate(model, draw_pixels(37), pipeline, folder / "run", standalone_thresholds=standalone)


def test_every_node_gives_what_naive_numpy_gives(run: finn.CppRun) -> None:
    codes, hidden, accumulators = naive(draw_network(), draw_pixels(37))
    outputs = {node.name: node.values for node in run.nodes}
    np.testing.assert_array_equal(outputs["Thresholding_hls_0"], codes)
    np.testing.assert_array_equal(outputs.get("Thresholding_hls_1", outputs["MVAU_hls_0"]), hidden)
    np.testing.assert_array_equal(run.accumulators, accumulators)
    require_equal_nodes(draw_network(), draw_pixels(37), run)


def test_a_wrong_weight_is_found_in_its_node(run: finn.CppRun) -> None:
    network = draw_network()
    wrong = network.layers[1].weights
    assert wrong is not None
    wrong[3, 5] += 1
    with pytest.raises(EquivalenceError, match=r"the first wrong node is MVAU_hls_0 .*channel 3"):
        require_equal_nodes(network, draw_pixels(37), run)


def test_a_wrong_library_is_found_in_the_node_that_calls_it(pipeline: Pipeline, tmp_path: Path) -> None:
    """A comparison that leaves equality out, as an earlier finn-hlslib had it by default."""
    library = tmp_path / "include"
    shutil.copytree(SUITE_INCLUDE, library)
    header = library / "activations.hpp"
    header.write_text(header.read_text().replace("(pe * NumSteps + n)) <= value", "(pe * NumSteps + n)) < value"))
    wrong = replace(SUITE, include=(library,))
    assert wrong.digest != SUITE.digest
    model, pixels = write_model(tmp_path / "model.onnx", draw_network()), draw_pixels(64)
    run = simulate(model, pixels, pipeline, tmp_path / "run", headers=wrong)
    with pytest.raises(EquivalenceError, match="the first wrong node is Thresholding_hls_0"):
        require_equal_nodes(draw_network(), pixels, run)


def test_top1_in_the_accelerator_is_the_first_largest_accumulator(pipeline: Pipeline, tmp_path: Path) -> None:
    network = draw_tying_network()
    model, pixels = write_model(tmp_path / "model.onnx", network), draw_pixels(48)
    run = simulate(model, pixels, pipeline, tmp_path / "run", top1=True)
    accumulators = naive(network, pixels)[-1]
    largest = accumulators == accumulators.max(axis=1, keepdims=True)
    first = [list(row).index(True) for row in largest]
    assert largest[:, 1].sum() == largest[:, 2].sum() > 20
    assert len(set(first)) > 2
    assert run.nodes[-1].name == "LabelSelect_hls_0"
    np.testing.assert_array_equal(run.nodes[-1].values[:, 0], first)
    require_equal_nodes(network, pixels, run)


@pytest.mark.parametrize("factors", [(1.0, 2.0, 0.5, 1.0), (-0.5,)], ids=["a factor a class", "a negative factor"])
def test_top1_stays_on_the_host_where_factors_change_the_order(
    factors: Sequence[float], pipeline: Pipeline, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "model.onnx", draw_network(), factors=factors)
    with pytest.raises(DataflowError, match=r"top-1 stays on the host: .*\(Mul\) lies between"):
        simulate(model, draw_pixels(1), pipeline, tmp_path / "run", top1=True)


OTHER_RELEASES = {
    "a name that it does not have": ("flatten.hpp", "unflatten", "to_lanes", "unflatten"),
    "another template signature": (
        *("activations.hpp", "int ActVal, typename TT,", "typename TT, int ActVal,"),
        "no matching function for call to .Thresholding_Stream_Batch",
    ),
    "a header that it does not have": ("bnn-library.h", "ap_int.h", "ap_fixed.h", "ap_fixed.h: No such file"),
}
"""What differs: the header, the text there, what stands in its place, and what g++ names."""


@pytest.mark.parametrize(("header", "text", "other", "named"), OTHER_RELEASES.values(), ids=OTHER_RELEASES)
def test_a_finn_hlslib_of_another_release_is_told_in_one_sentence(
    header: str, text: str, other: str, named: str, pipeline: Pipeline, tmp_path: Path
) -> None:
    library = tmp_path / "finn-hlslib"
    shutil.copytree(SUITE_INCLUDE, library)
    path = library / header
    assert text in path.read_text()
    path.write_text(path.read_text().replace(text, other))
    old = HlsHeaders(evidence=Evidence.CPPSIM_HLSLIB, finn_deps=tmp_path, xilinx_hls=None, include=(library,))
    model = write_model(tmp_path / "model.onnx", draw_network())
    with pytest.raises(DataflowError) as told:
        simulate(model, draw_pixels(1), pipeline, tmp_path / "run", headers=old)
    assert re.search(
        rf"the finn-hlslib in {library}, most likely .* not of the commit .* says: .*{named}", str(told.value)
    )
    assert "\n" not in str(told.value)


def test_a_call_that_the_suites_library_does_not_have_is_not_blamed_on_a_finn_hlslib(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    library = tmp_path / "include"
    shutil.copytree(SUITE_INCLUDE, library)
    (library / "mvau.hpp").write_text("")
    model = write_model(tmp_path / "model.onnx", draw_network())
    with pytest.raises(DataflowError, match=r"against the suite's own library, qnn/hls/include; g\+\+ says: .*error: "):
        simulate(model, draw_pixels(1), pipeline, tmp_path / "run", headers=replace(SUITE, include=(library,)))


def test_a_node_without_any_hardware_variant_is_named(pipeline: Pipeline, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx", draw_network(), foreign="Sin")
    with pytest.raises(DataflowError, match=r"neither an RTL nor an HLS variant .*: Sin"):
        simulate(model, draw_pixels(1), pipeline, tmp_path / "run")


def test_an_input_that_is_not_annotated_is_told(pipeline: Pipeline, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx", draw_network(), annotated=False)
    with pytest.raises(DataflowError, match=r"input pixels is not annotated .*FLOAT32.*for example UINT8"):
        simulate(model, draw_pixels(1), pipeline, tmp_path / "run")


def test_finn_hlslib_gives_what_the_suites_library_gives(pipeline: Pipeline, tmp_path: Path) -> None:
    """Two classes tie on every image. Runs where FINN's folder has a finn-hlslib, and hls4ml or Vitis HLS is there."""
    headers = hls_headers.find()
    if headers.evidence is Evidence.CPPSIM_SUITE:
        pytest.skip("no finn-hlslib with Vitis HLS or hls4ml: `finn deps update`, `pip install --no-deps hls4ml`")
    model, pixels = write_model(tmp_path / "model.onnx", draw_tying_network()), draw_pixels(64)
    for name, standalone in VARIANTS.items():
        theirs, ours = (
            simulate(
                *(model, pixels, pipeline, tmp_path / f"{name}-{used.evidence}"),
                headers=used,
                standalone_thresholds=standalone,
                top1=True,
            )
            for used in (headers, SUITE)
        )
        for their, our in zip(theirs.nodes, ours.nodes, strict=True):
            assert (their.name, their.op_type) == (our.name, our.op_type)
            np.testing.assert_array_equal(their.values, our.values, err_msg=f"{name}: {our.name}")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """{package: its folder}, in place of what this machine has: FINN and hls4ml, with a HOME of their own."""
    packages = {name: tmp_path / "site-packages" / name for name in ("finn", "hls4ml")}
    packages["finn"].mkdir(parents=True)
    (packages["hls4ml"] / "templates" / "vivado" / "ap_types").mkdir(parents=True)
    monkeypatch.setattr(hls_headers, "_package_folder", packages.get)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return packages


def place(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_headers_are_taken_in_their_order(installed: dict[str, Path], tmp_path: Path) -> None:
    place(tmp_path / "deps" / "finn-hlslib" / "bnn-library.h")
    place(tmp_path / "vitis" / "include" / "ap_int.h")
    deps, vitis = {"FINN_DEPS": str(tmp_path / "deps")}, {"XILINX_HLS": str(tmp_path / "vitis")}
    assert hls_headers.find({**deps, **vitis}).evidence is Evidence.CPPSIM_VITIS
    assert hls_headers.find(deps).evidence is Evidence.CPPSIM_HLSLIB
    assert installed["hls4ml"] in hls_headers.find(deps).include[-1].parents
    # Each needs its other half: neither Vitis HLS nor hls4ml has the kernels, and finn-hlslib has no integers.
    assert hls_headers.find(vitis).evidence is hls_headers.find({}).evidence is Evidence.CPPSIM_SUITE
    del installed["hls4ml"]
    assert hls_headers.find(deps).evidence is Evidence.CPPSIM_SUITE


@pytest.mark.parametrize("package", ["site-packages/finn", "checkout/src/finn"], ids=["installed", "editable"])
def test_a_finn_hlslib_is_found_in_finns_default_folder(
    package: str, installed: dict[str, Path], tmp_path: Path
) -> None:
    installed["finn"] = tmp_path / package
    root = tmp_path / package.removesuffix("/src/finn")
    assert hls_headers.find({}).evidence is Evidence.CPPSIM_SUITE
    place(root / "finn_deps" / "finn-hlslib" / "bnn-library.h")
    assert hls_headers.find_finn_deps({}) == root / "finn_deps"
    assert hls_headers.find({}).evidence is Evidence.CPPSIM_HLSLIB


FINNS_FOLDERS = """
import json, os, sys
from pathlib import Path
from finn.interface.settings import FINNSettings
folders = []
for environ in json.loads(sys.argv[1]):
    for name in ("FINN_DEPS", "FINN_SETTINGS", "HOME"):
        os.environ.pop(name, None)
    os.environ.update(environ)
    folders.append(str(FINNSettings.init(flow_config=Path("x"), auto_set_environment_vars=False).finn_deps))
Path(sys.argv[2]).write_text(json.dumps(folders))
"""


def test_the_folder_is_the_one_that_finn_itself_takes(tmp_path: Path) -> None:
    """By FINN's own settings, of the installed release."""
    home, named = tmp_path / "home" / ".finn" / "settings.yaml", tmp_path / "named.yaml"
    home.parent.mkdir(parents=True)
    home.write_text(f"automatic_dependency_updates: false\nfinn_deps: {tmp_path}/of home\nnum_default_workers: 2\n")
    named.write_text("FINN_DEPS: 'below FINN'\n")
    bare, at_home = {"HOME": str(tmp_path / "bare")}, {"HOME": str(tmp_path / "home")}
    (tmp_path / "bare").mkdir()
    by_name, absolute, relative = {"FINN_SETTINGS": str(named)}, {"FINN_DEPS": str(tmp_path)}, {"FINN_DEPS": "a/b"}
    environs = [bare, at_home, {**at_home, **by_name}, {**at_home, **absolute}, {**bare, **by_name, **relative}]
    script = [sys.executable, "-c", FINNS_FOLDERS, json.dumps(environs), str(tmp_path / "folders")]
    run_program(script, timeout_s=120, log=tmp_path / "log")
    finns = json.loads((tmp_path / "folders").read_text())
    assert len(set(finns)) == len(environs)
    assert [str(hls_headers.finn_deps_folder(environ)) for environ in environs] == finns


PIECES = """
#include <iostream>
#include "ap_int.h"
#include "flatten.hpp"
#include "hls_stream.h"
#include "maxpool.h"
#include "pool.hpp"
#include "streamtools.h"

int main() {
    // Numbers wrap around to their width.
    for (int value : {-9, -8, -1, 7, 8, 255}) std::cout << ap_int<4>(value) << " " << ap_uint<4>(value) << " ";
    std::cout << "\\n";
    // 11 lanes of 13 bits lie across the 64-bit words; they come back, and lane by lane out of another width.
    ap_int<13> lanes[11], back[11];
    for (int i = 0; i < 11; i++) lanes[i] = (i - 5) * 800;
    auto const word = flatten(lanes);
    unflatten(back, word);
    for (auto lane : back) std::cout << lane << " ";
    std::cout << "\\n";
    hls::stream<ap_uint<143>> wide("wide"), again("again");
    hls::stream<ap_uint<11>> narrow("narrow");
    wide.write(word);
    StreamingDataWidthConverter_Batch<143, 11, 1>(wide, narrow, 1);
    hls::stream<ap_uint<11>> copy("copy");
    for (int i = 0; i < 13; i++) { auto const beat = narrow.read(); std::cout << beat << " "; copy.write(beat); }
    std::cout << "\\n";
    StreamingDataWidthConverter_Batch<11, 143, 13>(copy, again, 1);
    unflatten(back, again.read());
    for (auto lane : back) std::cout << lane << " ";
    std::cout << "\\n";
    // Top-3 of three images of six classes, two a beat, ties and lowest values among them.
    hls::stream<ap_uint<8>> values("values"), labels("labels");
    for (auto [a, b] : {std::pair{-8, 3}, {3, -1}, {7, 3}, {-8, -8}, {-8, -8}, {-8, -8}, {-8, -8}, {-8, 2}, {-8, 2}}) {
        ap_int<4> const pair[2] = {a, b};
        values.write(flatten(pair));
    }
    LabelSelect_Batch<6, 2, 3, ap_int<4>, ap_uint<8>>(values, labels, 3);
    while (!labels.empty()) std::cout << labels.read() << " ";
    std::cout << "\\n";
    // The largest, the sum, and half of the sum, of windows of three words of two lanes.
    using Lanes = hls::vector<ap_int<4>, 2>;
    using Sums = hls::vector<ap_int<8>, 2>;
    hls::stream<Lanes> in("in");
    hls::stream<Sums> out("out");
    auto const pool = [&](auto const &function) {
        for (auto [a, b] : {std::pair{-8, 3}, {-3, -1}, {-7, 7}, {1, 2}, {0, 2}, {4, -8}}) {
            Lanes word;
            word[0] = a;
            word[1] = b;
            in.write(word);
        }
        Pool_batch<6, 3>(in, out, function);
        while (!out.empty()) {
            auto const word = out.read();
            std::cout << word[0] << " " << word[1] << " ";
        }
    };
    pool(MaxPoolFunction<Sums>());
    pool(AccPoolFunction<Sums>());
    pool(QuantAvgPoolFunction<Sums, Sums, 1>());
    std::cout << "\\n";
    try { labels.read(); } catch (std::exception const &error) { std::cout << error.what() << "\\n"; }
}
"""


def test_the_librarys_pieces_are_what_plain_integers_say(tmp_path: Path) -> None:
    source = tmp_path / "pieces.cpp"
    source.write_text(PIECES)
    gxx.build([gxx.Unit(source=source, flags=("-O1", "-Wall", "-Werror"))], tmp_path / "run", include=[SUITE_INCLUDE])
    log = run_program([tmp_path / "run"], timeout_s=60, log=tmp_path / "output").log
    wrapped, lanes, beats, again, labels, pools, empty = log.read_text().splitlines()
    numbers = [-9, -8, -1, 7, 8, 255]
    assert list(map(int, wrapped.split())) == [n for v in numbers for n in ((v + 8) % 16 - 8, v % 16)]
    expected = [(i - 5) * 800 for i in range(11)]
    assert list(map(int, lanes.split())) == list(map(int, again.split())) == expected
    word = sum((lane % 2**13) << (13 * i) for i, lane in enumerate(expected))
    assert list(map(int, beats.split())) == [(word >> (11 * i)) % 2**11 for i in range(13)]
    # As finn-hlslib does it (maxpool.h), unlike a sort: a class of the type's lowest value takes no place, and label 0
    # is what stands there.
    assert labels.split() == ["4", "1", "2", "0", "0", "0", "3", "5", "0"]
    largest, sums = [-3, 7, 4, 2], [-18, 9, 5, -4]
    assert list(map(int, pools.split())) == [*largest, *sums, *(total // 2 for total in sums)]
    assert empty == "read from the empty stream labels"
