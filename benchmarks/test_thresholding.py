"""Thresholding, by Hypothesis: RTL = MultiThreshold, always; MultiThreshold and Brevitas = the exact activation.

What is drawn is any activation of 2 to 8 bits, signed or not, with any scale and batch norm, negative, tiny and zero
gammas among them; the cell's own bit width comes most often. Accumulators are above all those at and next to each
threshold.

FINN streamlines all drawn layers in one process, as channels of one layer for each type of code. So they are drawn
first and judged afterwards; a failure needs no shrinking, since it names the channel and the threshold.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fixtures.recording import Record
from qnn.cell import DATASETS, PART, Quantization
from qnn.hdl import HardwareDesign
from qnn.pipeline import CLOCK_PERIOD_NS, Pipeline
from qnn.reference import shipped_cells
from qnn.results import Evidence
from qnn.store import digest_of, digest_of_files
from qnn.thresholding import (
    Activation,
    ExactThresholds,
    Verdict,
    code_range,
    compare_codes,
    compare_thresholds,
    exact_thresholds,
)
from qnn.tools import finn, gxx, verilator
from qnn.tools.thresholding_rtl import ALWAYS, DRIVER, Shape, ThresholdingSimulation, build, read_design
from qnn.versions import tool_versions

_SOURCE = Path(finn.__file__).parents[1]

SHAPES = (
    # every bit width's number of steps; thresholds one bit wider than the input, as FINN's rounding makes them
    Shape(channels=2, pe=1, steps=3, input_bits=12, threshold_bits=13, bias=-2),
    Shape(channels=8, pe=4, steps=7, input_bits=20, threshold_bits=21, bias=-4),
    Shape(channels=6, pe=3, steps=15, input_bits=12, threshold_bits=13),
    Shape(channels=3, pe=3, steps=31, input_bits=16, threshold_bits=17, bias=-16),
    Shape(channels=2, pe=2, steps=63, input_bits=18, threshold_bits=19, bias=-32),
    Shape(channels=3, pe=1, steps=127, input_bits=18, threshold_bits=19, bias=-64),
    Shape(channels=8, pe=2, steps=255, input_bits=24, threshold_bits=25, bias=-128),
    # thresholds as wide as the input, and narrower
    Shape(channels=1, pe=1, steps=3, input_bits=8, threshold_bits=8, bias=-2),
    Shape(channels=4, pe=2, steps=7, input_bits=10, threshold_bits=10, signed=False),
    Shape(channels=6, pe=3, steps=15, input_bits=12, threshold_bits=9),
    Shape(channels=5, pe=1, steps=6, input_bits=10, threshold_bits=6, signed=False),
    # other numbers of steps than 2^n - 1, unsigned input, a single step, the widest that one AXI-lite word holds
    Shape(channels=4, pe=4, steps=5, input_bits=8, threshold_bits=9, signed=False),
    Shape(channels=4, pe=2, steps=8, input_bits=14, threshold_bits=15),
    Shape(channels=6, pe=2, steps=100, input_bits=16, threshold_bits=17, bias=-50),
    Shape(channels=3, pe=3, steps=1, input_bits=10, threshold_bits=11),
    Shape(channels=1, pe=1, steps=1, input_bits=10, threshold_bits=11),
    Shape(channels=4, pe=2, steps=7, input_bits=31, threshold_bits=32, bias=-4),
)
WIDE = Shape(channels=4, pe=2, steps=7, input_bits=36, threshold_bits=37)
"""Thresholds of two AXI-lite words."""
BIASED = Shape(channels=2, pe=1, steps=3, input_bits=8, threshold_bits=9, bias=-4)
"""Codes -4 to -1: a wider type than three steps need."""
ALL_SHAPES = (*SHAPES, BIASED, WIDE)
WIDENED = len(ALL_SHAPES)
"""Index of WIDE once more, with the address port of FINN's wrapper one bit wider."""
_ADDRESS_PORT = "$clog2(N) + 1:0]  s_axilite_AWADDR"

ACCUMULATOR_BITS = 24
WINDOW = np.arange(-(2**9), 2**9)
"""Accumulators that are tried without exception, besides those next to the thresholds."""
EPSILON = float(np.float32(1e-5))
LAYERS_DRAWN = 80


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Once for each quantisation that a checkpoint is shipped of: thresholding knows no data set."""
    if "quantization" in metafunc.fixturenames:
        drawn = dict.fromkeys(cell.quantization for cell in shipped_cells(DATASETS) if not cell.quantization.is_float)
        metafunc.parametrize("quantization", list(drawn), ids=str, scope="session")


# FINN's RTL against FINN's MultiThreshold -----------------------------------------------------------------------------

MultiThreshold = Callable[[NDArray[np.int64], NDArray[np.int64], int], NDArray[np.int64]]


@pytest.fixture(scope="session")
def multithreshold() -> MultiThreshold:
    """FINN's MultiThreshold: values [vectors, channels], thresholds [channels, steps], bias -> codes.

    FINN's own function, given float64 instead of its float32 container, so that no accumulator is rounded.
    """
    from qonnx.custom_op.general.multithreshold import multithreshold as function

    def codes(values: NDArray[np.int64], thresholds: NDArray[np.int64], bias: int) -> NDArray[np.int64]:
        result = function(values.astype(np.float64), thresholds.astype(np.float64), out_bias=bias, channels_last=True)
        return np.asarray(result).astype(np.int64)

    return codes


def first_thresholds(shape: Shape) -> NDArray[np.int64]:
    """What a node holds before anything is written: small numbers, since FINN keeps thresholds in float32."""
    low = max(shape.threshold_range[0], -20)
    steps = np.minimum(low + np.arange(shape.steps), shape.threshold_range[1])
    return np.minimum(steps + np.arange(shape.channels)[:, None] % 2, shape.threshold_range[1])


def _widened(design: HardwareDesign) -> HardwareDesign:
    node = design.nodes[WIDENED]
    file = f"{node.name}/{node.module}.v"
    text = design.files[file]
    assert text.count(_ADDRESS_PORT) == 1
    return design.replace_files({file: text.replace(_ADDRESS_PORT, _ADDRESS_PORT.replace("+ 1:0", "+ 2:0"))})


@pytest.fixture(scope="session")
def thresholdings(pipeline: Pipeline) -> Path:
    """The program with every shape, built through the store: FINN's HDL of each, Verilator."""
    shapes = []
    for k, shape in enumerate((*ALL_SHAPES, WIDE)):
        fields = dataclasses.asdict(shape)
        del fields["steps"]
        shapes.append({**fields, "name": f"thresholding_{k}", "thresholds": first_thresholds(shape).tolist()})
    versions = tool_versions()
    key = {
        "shapes": shapes,
        "source": digest_of_files(_SOURCE / "dataflow"),
        "versions": [versions[tool] for tool in ("finn", "qonnx")],
    }
    hdl = pipeline.store.get_or_build(
        "thresholding",
        digest_of(key),
        lambda folder: finn.generate_thresholdings(shapes, PART, CLOCK_PERIOD_NS, folder),
    )
    design = _widened(read_design(hdl / "rtl.json"))
    sources = [_SOURCE / name for name in ("edits.py", "tools/verilator.py", "tools/gxx.py")]
    key = {
        "design": design.digest,
        "source": digest_of_files(*sources, DRIVER),
        "versions": [verilator.version(), gxx.version()],
    }
    return pipeline.store.get_or_build("thresholding-simulator", digest_of(key), lambda folder: build(design, folder))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """Thresholds [channels, steps] and values [vectors, channels] for one shape, and when the streams stall."""

    thresholds: NDArray[np.int64]
    values: NDArray[np.int64]
    valid: int
    ready: int


@st.composite
def questions(draw: st.DrawFn, shape: Shape) -> Question:
    """Thresholds spread over all or little of their range, some at its ends; values at and next to each of them."""
    low, high = shape.threshold_range
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = []
    for _ in range(shape.channels):
        centre = draw(st.integers(low, high))
        spread = draw(st.integers(0, (high - low).bit_length()).map(lambda bits: 2**bits))
        row = random.integers(centre - spread, centre + spread, shape.steps, endpoint=True)
        below, above = draw(st.integers(0, shape.steps)), draw(st.integers(0, shape.steps))
        row[:below] = low
        row[shape.steps - min(above, shape.steps - below) :] = high
        rows.append(np.sort(np.clip(row, low, high)))
    thresholds = np.array(rows)
    first, last = shape.input_range
    next_to = np.concatenate([thresholds.T + offset for offset in (-1, 0, 1)])
    anywhere = random.integers(first, last, (20, shape.channels), endpoint=True)
    ends = np.repeat([[first], [last]], shape.channels, axis=1)
    stalls = st.one_of(st.just(ALWAYS), st.integers(1, ALWAYS))
    return Question(
        thresholds=thresholds,
        values=np.clip(np.concatenate([next_to, anywhere, ends]), first, last),
        valid=draw(stalls),
        ready=draw(stalls),
    )


def ask_many(
    simulation: ThresholdingSimulation,
    shape: Shape,
    multithreshold: MultiThreshold,
    record: Record | None = None,
    phases: Sequence[Phase] = tuple(Phase),
) -> None:
    """Draw questions and compare every code of the RTL with MultiThreshold's."""
    counts = {"examples": 0, "codes": 0}

    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    @given(questions(shape))
    def check(question: Question) -> None:
        simulation.write(question.thresholds)
        codes = simulation.run(question.values, valid=question.valid, ready=question.ready)
        expected = multithreshold(question.values, question.thresholds, shape.bias)
        counts["examples"] += 1
        counts["codes"] += codes.size
        np.testing.assert_array_equal(codes, expected)

    check()
    if record:
        record(Evidence.RTLSIM, **counts)


@pytest.mark.rtlsim
@pytest.mark.parametrize("shape", [*SHAPES, BIASED], ids=str)
def test_rtl_is_multithreshold(
    quantization: Quantization, shape: Shape, thresholdings: Path, multithreshold: MultiThreshold, record: Record
) -> None:
    with ThresholdingSimulation(thresholdings, shape, ALL_SHAPES.index(shape)) as simulation:
        ask_many(simulation, shape, multithreshold, record)


def compare_first_thresholds(shape: Shape, thresholdings: Path, multithreshold: MultiThreshold) -> None:
    """Compare the codes with those of the thresholds that FINN put into the node's files."""
    first = first_thresholds(shape)
    low, high = shape.input_range
    values = np.arange(max(low, -25), min(high, first.max() + 5))[:, None].repeat(shape.channels, axis=1)
    with ThresholdingSimulation(thresholdings, shape, ALL_SHAPES.index(shape)) as simulation:
        np.testing.assert_array_equal(simulation.run(values), multithreshold(values, first, shape.bias))


@pytest.mark.rtlsim
def test_rtl_starts_with_the_thresholds_of_its_files(
    quantization: Quantization, thresholdings: Path, multithreshold: MultiThreshold, record: Record
) -> None:
    for shape in (*SHAPES, WIDE):
        compare_first_thresholds(shape, thresholdings, multithreshold)
    record(Evidence.RTLSIM, shapes=len(SHAPES) + 1)


@pytest.mark.rtlsim
@pytest.mark.xfail(
    raises=AssertionError,
    reason="FINN (Thresholding_rtl.make_weight_file) arranges the .dat files by the bits of the output type, the RTL "
    "reads them by ceil(log2(steps + 1)): they disagree where a bias makes the output type wider",
)
def test_rtl_starts_with_the_thresholds_of_its_files_with_a_bias_that_widens_the_output(
    quantization: Quantization, thresholdings: Path, multithreshold: MultiThreshold
) -> None:
    compare_first_thresholds(BIASED, thresholdings, multithreshold)


@pytest.mark.rtlsim
@pytest.mark.xfail(
    raises=AssertionError,
    reason="FINN's wrapper (thresholding_template_wrapper.v) gives s_axilite_AWADDR one bit too few where a threshold "
    "takes two words: writes to the upper half fall on the lower one",
)
def test_rtl_with_thresholds_above_32_bits(
    quantization: Quantization, thresholdings: Path, multithreshold: MultiThreshold
) -> None:
    with ThresholdingSimulation(thresholdings, WIDE, ALL_SHAPES.index(WIDE)) as simulation:
        ask_many(simulation, WIDE, multithreshold, phases=[Phase.generate])


@pytest.mark.rtlsim
def test_the_same_with_the_address_port_widened(
    quantization: Quantization, thresholdings: Path, multithreshold: MultiThreshold, record: Record
) -> None:
    with ThresholdingSimulation(thresholdings, WIDE, WIDENED) as simulation:
        ask_many(simulation, WIDE, multithreshold, record)


@pytest.mark.rtlsim
def test_a_comparison_with_greater_for_greater_or_equal_is_noticed(
    quantization: Quantization, thresholdings: Path, multithreshold: MultiThreshold
) -> None:
    def wrong(values: NDArray[np.int64], thresholds: NDArray[np.int64], bias: int) -> NDArray[np.int64]:
        return multithreshold(values, thresholds + 1, bias)

    with ThresholdingSimulation(thresholdings, SHAPES[0], 0) as simulation, pytest.raises(AssertionError):
        ask_many(simulation, SHAPES[0], wrong, phases=[Phase.generate])


# FINN's streamlining and Brevitas against the exact activation --------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A drawn activation: float32 values, and the exact thresholds over 24-bit accumulators."""

    bits: int
    signed: bool
    input_scale: np.float32
    weight_scale: NDArray[np.float32]
    gamma: NDArray[np.float32]
    beta: NDArray[np.float32]
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    step: np.float32
    exact: ExactThresholds

    @property
    def channels(self) -> int:
        return len(self.gamma)


def _exponents(low: int, high: int) -> st.SearchStrategy[float]:
    """Float32 values 2^low to 2^high, of any mantissa, small and large ones equally likely."""
    return st.builds(
        lambda exponent, mantissa: float(np.float32(math.ldexp(mantissa, exponent))),
        st.integers(low, high - 1),
        st.one_of(st.just(1.0), st.floats(1, 2, width=32)),
    )


GAMMAS = st.one_of(
    st.builds(lambda sign, size: sign * size, st.sampled_from([-1.0, 1.0]), _exponents(-6, 4)),
    st.builds(lambda sign, size: sign * size, st.sampled_from([-1.0, 1.0]), _exponents(-126, -6)),
    st.sampled_from([0.0, 1.0, -1.0, float(np.float32(1e-42)), float(np.float32(-1e-42))]),
)


@st.composite
def layers(draw: st.DrawFn, bits_of_the_cell: int) -> Layer:
    """Four channels whose boundaries mostly fall among 24-bit accumulators, some exactly on one."""
    bits = draw(st.sampled_from([*[bits_of_the_cell] * 4, *range(2, 9)]))
    signed = draw(st.booleans())
    lowest, highest = code_range(bits, signed=signed)
    step, input_scale = np.float32(draw(_exponents(-20, 10))), np.float32(draw(_exponents(-12, 2)))
    boundary = st.integers(lowest, highest).map(lambda k: (k + 0.5) * float(step))
    value = st.floats(-(2**bits), 2**bits, width=32).map(lambda codes: codes * float(step))
    drawn: dict[str, list[float]] = {name: [] for name in ("weight_scale", "gamma", "beta", "mean", "variance")}
    for _ in range(4):
        drawn["weight_scale"].append(float(step) * draw(_exponents(-20, 2)) / float(input_scale))
        drawn["gamma"].append(draw(GAMMAS))
        drawn["beta"].append(draw(st.one_of(st.just(0.0), boundary, value)))
        drawn["mean"].append(draw(st.one_of(st.just(0.0), value)))
        drawn["variance"].append(draw(st.one_of(st.sampled_from([0.0, 1.0]), _exponents(-20, 10))))
    arrays = {name: np.array(values, np.float32) for name, values in drawn.items()}
    activation = Activation(
        scale=arrays["weight_scale"].astype(np.float64) * float(input_scale),
        gamma=arrays["gamma"].astype(np.float64),
        beta=arrays["beta"].astype(np.float64),
        mean=arrays["mean"].astype(np.float64),
        variance=arrays["variance"].astype(np.float64),
        epsilon=EPSILON,
        step=float(step),
        lowest=lowest,
        highest=highest,
    )
    limit = 2 ** (ACCUMULATOR_BITS - 1)
    exact = exact_thresholds(activation, -limit, limit - 1)
    return Layer(bits=bits, signed=signed, input_scale=input_scale, step=step, exact=exact, **arrays)


@pytest.fixture(scope="session")
def drawn_layers(quantization: Quantization) -> list[Layer]:
    """Hypothesis' layers for one cell."""
    found: list[Layer] = []
    bits = quantization.activation_bits
    assert bits is not None

    @settings(
        max_examples=LAYERS_DRAWN,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(layers(bits))
    def collect(layer: Layer) -> None:
        found.append(layer)

    collect()
    return found


def next_to_thresholds(layer: Layer, *others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Accumulators [samples, channels] at and next to each threshold, and a window around 0; before the sign flip."""
    limit = 2 ** (ACCUMULATOR_BITS - 1)
    parts = [WINDOW[:, None].repeat(layer.channels, axis=1)]
    for thresholds in (layer.exact.thresholds, *others):
        parts += [thresholds.T + offset for offset in (-2, -1, 0, 1)]
    return np.clip(np.concatenate(parts), -limit, limit - 1) * layer.exact.signs


FinnLayer = dict[str, NDArray[Any]]


@pytest.fixture(scope="session")
def finn_layers(drawn_layers: list[Layer], pipeline: Pipeline) -> list[FinnLayer]:
    """FINN's streamlining of every drawn layer: thresholds [channels, steps] and signs [channels]."""
    groups: dict[tuple[int, bool], list[int]] = {}
    for k, layer in enumerate(drawn_layers):
        groups.setdefault((layer.bits, layer.signed), []).append(k)
    requests: list[dict[str, Any]] = []
    for (bits, signed), members in groups.items():
        chosen = [drawn_layers[k] for k in members]
        arrays = {
            name: np.concatenate([np.broadcast_to(getattr(layer, name), layer.channels) for layer in chosen])
            for name in ("input_scale", "weight_scale", "gamma", "beta", "mean", "variance", "step")
        }
        request = {"bits": bits, "signed": signed, "accumulator_bits": ACCUMULATOR_BITS, "epsilon": EPSILON}
        requests.append({**request, "arrays": arrays})
    versions = tool_versions()
    key = {
        "layers": [
            {**request, "arrays": {name: values.tobytes().hex() for name, values in request["arrays"].items()}}
            for request in requests
        ],
        "source": digest_of_files(_SOURCE / "dataflow"),
        "versions": [versions[tool] for tool in ("finn", "qonnx")],
    }
    folder = pipeline.store.get_or_build(
        "activations", digest_of(key), lambda folder: finn.streamline_activations(requests, folder)
    )
    found: list[FinnLayer] = [{} for _ in drawn_layers]
    for g, members in enumerate(groups.values()):
        with np.load(folder / f"{g}.npz") as arrays:
            thresholds, signs, lowest = arrays["thresholds"], arrays["signs"], arrays["lowest"]
        start = 0
        for k in members:
            rows = slice(start, start + drawn_layers[k].channels)
            found[k] = {"thresholds": thresholds[rows], "signs": signs[rows], "lowest": lowest}
            start = rows.stop
    return found


def test_finns_thresholds_are_the_exact_ones_within_float32(
    quantization: Quantization, drawn_layers: list[Layer], finn_layers: list[FinnLayer], record: Record
) -> None:
    total, undefined, worst = dict.fromkeys(Verdict, 0), 0, 0.0
    for k, (layer, streamlined) in enumerate(zip(drawn_layers, finn_layers, strict=True)):
        nan = np.isnan(streamlined["thresholds"])
        undefined += int(nan.sum())
        for filling in (-np.inf, np.inf) if nan.any() else (0.0,):
            # 0 / 0: either side has to be explained, which is so only for a constant on a boundary
            filled = np.where(nan, filling, streamlined["thresholds"])
            comparison = compare_thresholds(layer.exact, filled)
            comparison.require_explained(f"layer {k} of {layer.bits} bits")
        worst = max(worst, comparison.worst_units)
        for verdict, count in comparison.counts.items():
            total[verdict] += count
        flipped = streamlined["signs"] != layer.exact.signs
        ends = (comparison.other == layer.exact.minimum[:, None]) | (
            comparison.other == layer.exact.maximum[:, None] + 1
        )
        assert (ends.all(axis=1) | ~flipped).all(), f"layer {k}: a channel that is not constant has another sign"
        assert streamlined["lowest"] == layer.exact.lowest
    record(
        Evidence.PYTHON,
        thresholds=sum(total.values()),
        float32_differences=total[Verdict.FLOAT32],
        ties=total[Verdict.TIE],
        undefined=undefined,
        worst_units=round(worst, 3),
    )
    assert total[Verdict.EQUAL] > 0
    assert total[Verdict.TIE] > 0, "the drawn layers have to hold ties"


def test_multithreshold_gives_the_exact_codes_within_float32(
    quantization: Quantization,
    drawn_layers: list[Layer],
    finn_layers: list[FinnLayer],
    multithreshold: MultiThreshold,
    record: Record,
) -> None:
    total = dict.fromkeys(Verdict, 0)
    for k, (layer, streamlined) in enumerate(zip(drawn_layers, finn_layers, strict=True)):
        if np.isnan(streamlined["thresholds"]).any():
            continue
        thresholds = streamlined["thresholds"].astype(np.int64)
        accumulators = next_to_thresholds(layer, thresholds)
        codes = multithreshold(accumulators * streamlined["signs"], thresholds, int(streamlined["lowest"]))
        comparison = compare_codes(layer.exact, accumulators * layer.exact.signs, codes)
        comparison.require_explained(f"layer {k} of {layer.bits} bits")
        for verdict, count in comparison.counts.items():
            total[verdict] += count
    record(Evidence.PYTHON, codes=sum(total.values()), float32_differences=total[Verdict.FLOAT32])
    assert total[Verdict.EQUAL] > 0


@pytest.fixture(scope="session")
def brevitas_codes() -> Callable[[Layer, NDArray[np.int64]], NDArray[np.int64]]:
    """Brevitas' own forward pass of BatchNorm1d and QuantHardTanh: accumulators [samples, channels] -> codes."""
    import torch
    from brevitas.nn import QuantHardTanh
    from brevitas.quant import Int8ActPerTensorFloatMinMaxInit, Uint8ActPerTensorFloatMaxInit

    from qnn.networks import StoredScale

    @functools.cache  # making one takes longer than running it
    def hardtanh(bits: int, signed: bool) -> Any:
        quantizer, ends = Int8ActPerTensorFloatMinMaxInit, {"min_val": -1.0, "max_val": 1.0}
        if not signed:
            quantizer, ends = Uint8ActPerTensorFloatMaxInit, {"max_val": 1.0}
        return QuantHardTanh(act_quant=quantizer, bit_width=bits, **ends).eval()

    @torch.no_grad()
    def codes(layer: Layer, accumulators: NDArray[np.int64]) -> NDArray[np.int64]:
        norm = torch.nn.BatchNorm1d(layer.channels, eps=EPSILON).eval()
        names = {"weight": layer.gamma, "bias": layer.beta, "running_mean": layer.mean, "running_var": layer.variance}
        for name, values in names.items():
            getattr(norm, name).copy_(torch.tensor(values))
        activation = hardtanh(layer.bits, layer.signed)
        step = torch.tensor(layer.step)
        activation.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl = StoredScale(step)
        inputs = torch.tensor(accumulators.astype(np.float32)) * torch.tensor(layer.weight_scale * layer.input_scale)
        outputs: NDArray[np.float32] = (activation(norm(inputs)) / step).round().numpy()
        return outputs.astype(np.int64)

    return codes


def test_brevitas_gives_the_exact_codes_within_float32(
    quantization: Quantization,
    drawn_layers: list[Layer],
    brevitas_codes: Callable[[Layer, NDArray[np.int64]], NDArray[np.int64]],
    record: Record,
) -> None:
    total = dict.fromkeys(Verdict, 0)
    for k, layer in enumerate(drawn_layers):
        accumulators = next_to_thresholds(layer)
        codes = brevitas_codes(layer, accumulators)
        comparison = compare_codes(layer.exact, accumulators * layer.exact.signs, codes)
        comparison.require_explained(f"layer {k} of {layer.bits} bits")
        for verdict, count in comparison.counts.items():
            total[verdict] += count
    record(
        Evidence.PYTHON,
        codes=sum(total.values()),
        float32_differences=total[Verdict.FLOAT32],
        ties=total[Verdict.TIE],
    )
    assert total[Verdict.EQUAL] > 0
