"""A model from outside and its samples: what is read, and one clear error for what cannot be."""

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fixtures.example_models import float_model, image_model, save
from qnn.cell import Folding, Policy
from qnn.cli import main
from qnn.errors import ModelError, SimulationError
from qnn.own_hops import HOPS
from qnn.own_model import InputType, OwnModel, Preprocessing, random_samples, read_samples
from qnn.own_pipeline import pack
from qnn.tools import verilator

FOLDING = Folding(pe=2, simd=2)
SHAPE = (1, 1, 4, 4)
UINT8 = InputType.parse("uint8")


def own(path: Path) -> OwnModel:
    return OwnModel(path=path, folding=FOLDING)


def test_a_model_says_the_shape_of_an_image_and_has_an_id(tmp_path: Path) -> None:
    model = own(save(image_model(), tmp_path / "my net.onnx"))
    assert model.require_readable() == SHAPE
    assert str(model) == "my_net-PE2-SIMD2"
    assert str(replace(model, policy=Policy.BALANCED)) == "my_net-PE2-SIMD2-balanced"


def _dynamic() -> Any:
    model = image_model()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    return model


def _batch(count: int) -> Any:
    model = image_model()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = count
    return model


def _without_quantisation() -> Any:
    model = float_model()
    del model.graph.node[:]
    model.graph.node.append(onnx.helper.make_node("Relu", ["x"], [model.graph.output[0].name]))
    return model


def _of_one_node(op_type: str, domain: str) -> Any:
    model = _without_quantisation()
    node = model.graph.node[0]
    node.op_type, node.domain = op_type, domain
    return model


def _two_inputs() -> Any:
    model = image_model()
    model.graph.input.append(onnx.helper.make_tensor_value_info("other", 1, [1, 2]))
    return model


def _of_integers() -> Any:
    model = image_model()
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT8
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_dynamic, r"shape \['N', 1, 4, 4\], of which N is not fixed.*batch 1"),
        (lambda: _batch(4), r"input x has batch 4: export the model for one image"),
        (_without_quantisation, r"has no quantisation: its nodes are Relu.*train with Brevitas or QKeras"),
        (
            lambda: _of_one_node("MVAU_hls", "finn.custom_op.fpgadataflow.hls"),
            r"is a graph of FINN's hardware nodes already \(MVAU_hls\)",
        ),
        (
            lambda: _of_one_node("FloatQuant", "qonnx.custom_op.general"),
            r"small floats \(FloatQuant\), which FINN",
        ),
        (_two_inputs, r"has 2 inputs \(x, other\)"),
        (_of_integers, r"the input x is not of type float"),
        (onnx.ModelProto, r"is not an ONNX model: it has 0 nodes"),
    ],
)
def test_a_model_that_cannot_be_taken_is_refused_in_one_sentence(make: Any, message: str, tmp_path: Path) -> None:
    path = save(make(), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=message) as told:
        own(path).require_readable()
    assert str(path) in str(told.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"these bytes are no model", "is not an ONNX model: no ONNX reader can parse it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer: fetch the file itself"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_is_no_onnx_is_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        own(path).require_readable()


def test_preprocessing_takes_fractions() -> None:
    parsed = Preprocessing.parse("uint8", "1/255", "-0.5")
    assert parsed == Preprocessing(input_type=UINT8, scale=Fraction(1, 255), shift=Fraction(-1, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("uint8", "one", "0"), r"--scale 'one' is no number.*such as 1/255"),
        (("uint8", "1/0", "0"), r"--scale '1/0' is no number"),
        (("uint8", "1", "half"), r"--shift 'half' is no number"),
        (("uint8", "0", "0"), "the scale is 0"),
        (("uint8", "1e60", "0"), "is no normal float32 number"),
        (("float32", "1", "0"), "unknown input type 'float32'"),
        (("uint16", "1", "0"), "unknown input type 'uint16'"),
        (("int1", "1", "0"), "unknown input type 'int1'"),
        (("bipolar", "1", "0"), "inputs of -1 and 1 are uint1 with --scale 2 --shift=-1"),
    ],
)
def test_preprocessing_that_cannot_be_read_is_refused(options: tuple[str, str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Preprocessing.parse(*options)


@pytest.mark.parametrize(
    ("name", "ends"), [("uint1", (0, 1)), ("uint8", (0, 255)), ("int2", (-2, 1)), ("INT8", (-128, 127))]
)
def test_input_types_have_their_range(name: str, ends: tuple[int, int]) -> None:
    parsed = InputType.parse(name)
    assert (parsed.lowest, parsed.highest) == ends
    assert str(parsed) == name.lower()


def test_random_samples_are_the_same_each_time_and_reach_both_ends() -> None:
    first, again = random_samples(SHAPE, UINT8), random_samples(SHAPE, UINT8)
    assert (first.x == again.x).all()
    assert first.x.shape == (64, 16)
    assert (first.x[0] == 0).all()
    assert (first.x[1] == 255).all()
    assert first.y is None


def test_samples_may_be_flat_or_shaped_and_have_labels(tmp_path: Path) -> None:
    x, y = np.arange(48).reshape(3, *SHAPE[1:]), np.array([2, 0, 1])
    forms: list[Any] = [x, x.reshape(3, -1), x.astype(np.float32)]
    for k, given in enumerate(forms):
        np.savez(tmp_path / f"{k}.npz", x=given, y=y)
        read = read_samples(tmp_path / f"{k}.npz", SHAPE, UINT8)
        np.testing.assert_array_equal(read.x, x.reshape(3, -1))
        np.testing.assert_array_equal(read.y, y)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((2, 16))}, r"holds images: samples are x"),
        ({"x": np.zeros((2, 16)), "labels": np.zeros(2, int)}, r"holds labels, x"),
        ({"x": np.zeros((2, 15))}, r"x is \[2, 15\], and the model takes \[1, 4, 4\] for an image, 16 elements"),
        ({"x": np.zeros((0, 16))}, r"x is \[0, 16\]"),
        ({"x": np.full((2, 16), 0.5)}, r"x goes from 0.5 to 0.5, .* whole numbers from 0 to 255 .*--scale"),
        ({"x": np.full((2, 16), 256)}, r"x goes from 256 to 256"),
        ({"x": np.full((2, 16), np.nan)}, r"x goes from nan to nan"),
        ({"x": np.full((2, 16), "a")}, r"x is of type <U1"),
        ({"x": np.zeros((2, 16)), "y": np.zeros(3, int)}, r"y is int64 \[3\]; labels are whole numbers \[2\]"),
        ({"x": np.zeros((2, 16)), "y": np.zeros(2)}, r"y is float64 \[2\]"),
    ],
)
def test_samples_that_do_not_fit_are_refused(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", **arrays)
    with pytest.raises(ModelError, match=message):
        read_samples(tmp_path / "in.npz", SHAPE, UINT8)


def test_files_that_hold_no_samples_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.zeros((2, 16)))
    (tmp_path / "text.npz").write_text("no array")
    for name, message in (("in.npy", "a single array"), ("text.npz", "not an .npz"), ("none.npz", "No such file")):
        with pytest.raises(ModelError, match=message):
            read_samples(tmp_path / name, SHAPE, UINT8)


@pytest.mark.parametrize(
    ("bits", "lanes", "signed"), [(8, 4, False), (8, 2, True), (3, 4, True), (1, 12, False), (5, 1, False)]
)
def test_packed_inputs_are_those_that_are_unpacked(bits: int, lanes: int, signed: bool) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    values = np.random.default_rng(0).integers(low, high, (5, 12))
    packed = pack(values, lane_bits=bits, lanes=lanes)
    beats = packed.reshape(5, 12 // lanes, -1)
    assert beats.shape[-1] == (bits * lanes + 7) // 8
    unpacked = verilator.unpack(beats, lane_bits=bits, lanes=lanes, signed=signed)
    assert (unpacked.reshape(5, 12) == values).all()


def test_elements_that_make_no_whole_beats_are_refused() -> None:
    with pytest.raises(SimulationError, match=r"elements \[1, 5\] do not make whole beats of 2"):
        pack(np.zeros((1, 5), np.int64), lane_bits=8, lanes=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "is not an ONNX model"),
        (["--scale", "one"], "--scale 'one' is no number"),
        (["--folding", "8"], "unknown folding '8'"),
        (["--policy", "even"], "unknown policy 'even'"),
        (["--part", "none"], "unknown part 'none'"),
    ],
)
def test_check_ends_with_2_where_nothing_could_be_checked(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.onnx").write_text("no model")
    assert main(["check", str(tmp_path / "model.onnx"), "--store", str(tmp_path), *arguments]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert message in told


def _collect(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "benchmarks", "--collect-only", "-q", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])


def test_with_a_model_its_benchmarks_alone_are_selected_and_else_none_of_them(tmp_path: Path) -> None:
    path = save(image_model(), tmp_path / "my_net.onnx")
    given = _collect("--model", str(path), "--foldings", "2x2,4x4", "--policy", "uniform,balanced")
    names = [line.partition("::")[2] for line in given.stdout.splitlines() if "::" in line]
    assert len(names) == 7 * 2 * 2
    assert all("[my_net-PE" in name for name in names)
    assert "test_rtl_equals_exact_integers[my_net-PE4-SIMD4-balanced]" in names
    chosen = _collect("--model", str(path), "-k", "cppsim").stdout
    assert chosen.count("::") == 1
    assert "[my_net-PE8-SIMD8]" in chosen
    for hop in HOPS:
        assert f"::test_{hop}_" in given.stdout
    assert "test_own_model" not in _collect().stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "{}/none.onnx"], "none.onnx cannot be read: No such file"),
        (["--model", "{}/net.onnx", "--scale", "one"], "--scale 'one' is no number"),
        (["--model", "{}/net.onnx", "--model", "{}/net.onnx"], "several models are called net-PE8-SIMD8"),
        (["--scale", "1/255"], "--scale: there is no model that this is about"),
        (["--model", "{}/net.onnx", "--policy", "even"], "unknown policy 'even'"),
        (["--model", "{}/net.onnx", "--part", "none"], "--part: unknown part 'none'"),
        (["--model", "{}/net.onnx", "--thresholds", "exact"], "--thresholds: this is about the suite's own cells"),
        (["--model", "{}/net.onnx", "--cells", "A3W3", "--dataset", "mnist"], "--dataset, --cells: this is about"),
    ],
)
def test_pytest_refuses_what_cannot_be_taken_before_it_collects(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    save(image_model(), tmp_path / "net.onnx")
    ended = _collect(*(argument.format(tmp_path) for argument in arguments))
    assert ended.returncode == 4
    assert message in ended.stderr
