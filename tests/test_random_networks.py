"""Random networks are what they are said to be, are made smaller while they fail, and each hop's check can fail."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fixtures.random_networks import Drawn, boundary_cases, draw_networks, qonnx_model, reduced, smaller
from fixtures.random_runs import (
    EMBEDDED,
    GRAPHS,
    Compiled,
    Run,
    joined,
    lost_scales,
    lost_signs,
    simulate,
    with_long_queues,
    without_known_faults,
)
from qnn import equivalence, integer
from qnn.cell import PART
from qnn.errors import DataflowError, EquivalenceError
from qnn.hdl import HardwareDesign
from qnn.integer import ForwardPass
from qnn.store import Store
from qnn.thresholding import code_range
from qnn.tools import finn

CASES = {network.name: network for network in boundary_cases()}
NEVER = ForwardPass(logits=np.zeros((0, 0), np.float32), codes=(), products=())

# ---------------------------------------------------------------------------------------------------- what is drawn


def test_the_same_seed_draws_the_same_networks_and_another_one_others() -> None:
    first, again, other = ([one.to_json() for one in draw_networks(3, with_seed=seed)] for seed in (1, 1, 2))
    assert first == again
    assert len(first) == 3
    assert first != other


def test_what_is_drawn_varies() -> None:
    drawn = draw_networks(24, with_seed=None)
    layers = [layer for network in drawn for layer in network.parameters.layers]
    hidden = [layer for network in drawn for layer in network.parameters.layers[:-1]]
    assert len(drawn) == 24
    assert {len(network.parameters.layers) for network in drawn} == {2, 3, 4}
    assert {layer.weight_bits for layer in layers} == {layer.activation_bits for layer in hidden} == set(range(2, 9))
    assert (
        {layer.activation_signed for layer in hidden}
        == {layer.weight_scale_per_channel for layer in layers}
        == {layer.activation_narrow for layer in hidden}
        == {*(True, False)}
    )
    gammas = np.concatenate([layer.gamma for layer in layers])
    assert (gammas < 0).any()
    assert (gammas == 0).any()
    assert ((np.abs(gammas) < 2.0**-20) & (gammas != 0)).any()


def reached(network: Drawn, k: int) -> NDArray[np.int64]:
    accumulators = network.golden.trace(network.images)[k].accumulators
    assert accumulators is not None
    return accumulators


def test_float32_logits_below_its_normal_numbers_are_within_their_bound() -> None:
    network = CASES["tiny gamma"]
    layer, accumulators = network.parameters.layers[-1], reached(network, 2)
    assert 0 < layer.gamma[0] < np.finfo(np.float32).tiny
    sums = accumulators.astype(np.float32) * np.float32(integer.accumulator_scales(network.parameters)[-1])
    logits = sums * layer.gamma
    assert (logits != integer.logits(network.parameters, accumulators))[:, 0].any()
    equivalence.require_close_logits(network.golden, accumulators, logits, "float32")
    logits[3, 0] += np.float32(2.0**-135)
    with pytest.raises(EquivalenceError, match="first image 3, class 0"):
        equivalence.require_close_logits(network.golden, accumulators, logits, "float32")


def test_float32_scales_whose_product_is_below_its_normal_numbers_are_within_the_bound_too() -> None:
    """As FINN multiplies an accumulator: by one number, that is less exact the smaller it is."""
    network = CASES["full-range weights, negative gamma"]
    layer, accumulators = network.parameters.layers[-1], reached(network, 2)
    sums = np.float32(integer.accumulator_scales(network.parameters)[-1])
    logits = accumulators.astype(np.float32) * (sums * layer.gamma)
    bound = equivalence.logit_bound(network.golden)[0]
    assert (np.abs(logits - integer.logits(network.parameters, accumulators)) > bound / 16).any()
    equivalence.require_close_logits(network.golden, accumulators, logits, "float32")
    logits[3, 0] += np.float32(2 * bound)
    with pytest.raises(EquivalenceError, match="first image 3, class 0"):
        equivalence.require_close_logits(network.golden, accumulators, logits, "float32")


def test_the_bound_on_logits_of_a_layer_alone_is_that_of_its_input_scale() -> None:
    """A network that fails is made as small as that."""
    whole = CASES["ties"]
    first = dataclasses.replace(whole.parameters.layers[0], activation_scale=None, activation_bits=None)
    alone = dataclasses.replace(whole, parameters=dataclasses.replace(whole.parameters, layers=(first,)))
    sums = np.abs(first.codes.astype(np.int64)).sum(axis=1) * 128 * integer.accumulator_scales(alone.parameters)[0]
    bound = equivalence.logit_bound(alone.golden)
    assert (bound > 2.0**-24 * sums).all()
    assert (bound < 2.0**-24 * 20 * (sums * np.abs(first.gamma) + np.abs(first.beta) + 1)).all()


def test_the_images_reach_the_ends_of_the_first_accumulators() -> None:
    for network in CASES.values():
        exact, first = network.golden.exact[1], reached(network, 1)
        assert (first.min(axis=0) == exact.minimum).all(), network
        # The code of a white pixel, 127, is not the negative of a black one's, -128.
        assert (first.max(axis=0) == exact.maximum).all(), network


def test_ties_are_met_below_even_codes_and_below_odd_ones() -> None:
    network = CASES["ties"]
    for k in (1, 2):
        exact, met = network.golden.exact[k], reached(network, k)
        channels, steps = np.nonzero(exact.tie)
        parities = {
            (exact.lowest + int(step) + 1) % 2
            for channel, step in zip(channels, steps, strict=True)
            if (met[:, channel] == exact.tau[channel, step]).any()
        }
        assert parities == {0, 1}


def test_thresholds_coincide_are_clipped_and_lie_at_the_ends() -> None:
    exact = CASES["coinciding thresholds"].golden.exact[1]
    assert exact.thresholds.shape == (2, 255)
    assert all(len(np.unique(row)) < 10 for row in exact.thresholds)
    clipped = CASES["clipped"].golden.exact[1]
    assert (clipped.thresholds[0] == clipped.minimum[0]).all()
    assert (clipped.thresholds[1] == clipped.maximum[1] + 1).all()
    assert len(np.unique(clipped.thresholds[2])) == 7
    extreme = CASES["accumulator extremes"].golden.exact[1]
    assert (extreme.thresholds == extreme.maximum[:, None] + 1).any()
    assert (extreme.thresholds == extreme.minimum[:, None]).any()


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("narrow", [True, False])
def test_the_codes_of_an_activation_are_those_of_qonnx(bits: int, signed: bool, narrow: bool) -> None:
    from qonnx.custom_op.general.intquant import max_int, min_int

    ends = [one(signed, narrow, bits) for one in (min_int, max_int)]
    assert list(code_range(bits, signed=signed, narrow=narrow)) == ends


@pytest.mark.parametrize(
    ("name", "ranges"),
    [("narrow range", [(-3, 3), (0, 14)]), ("two thresholds", [(-1, 1), (0, 2)])],
)
def test_narrow_activations_reach_their_ends_and_no_further(name: str, ranges: list[tuple[int, int]]) -> None:
    network = CASES[name]
    for k, (low, high) in enumerate(ranges, start=1):
        codes = network.golden.trace(network.images)[k].codes
        assert codes is not None
        assert (codes.min(), codes.max()) == (low, high)
        assert network.golden.exact[k].thresholds.shape[1] == high - low


def test_a_brevitas_network_of_narrow_activations_is_bit_equal() -> None:
    from qnn.networks import build_from_parameters, read_parameters

    for name in ("narrow range", "two thresholds"):
        parameters = CASES[name].parameters
        again = read_parameters(build_from_parameters(parameters))
        for one, other in zip(parameters.layers[:-1], again.layers, strict=False):
            for field in dataclasses.fields(one):
                assert np.array_equal(getattr(one, field.name), getattr(other, field.name)), field.name


# ------------------------------------------------------------------------------------------------ made smaller


def reduce_while(network: Drawn, fails: Any) -> Drawn:
    return reduced(network, lambda candidates: [fails(one) for one in candidates], limit_s=60)


def test_a_network_is_made_as_small_as_the_fault_allows() -> None:
    network = next(one for one in draw_networks(20, with_seed=None) if len(one.parameters.layers) == 4)
    layers = list(network.parameters.layers)
    gamma = layers[2].gamma.copy()
    gamma[0] = -3
    layers[2] = dataclasses.replace(layers[2], gamma=gamma)
    network = dataclasses.replace(network, parameters=dataclasses.replace(network.parameters, layers=tuple(layers)))
    small = reduce_while(network, lambda one: any((layer.gamma == -3).any() for layer in one.parameters.layers))
    assert small.shape == "1-1-1-1"
    assert str(small.folding) == "PE1-SIMD1"
    assert [layer.gamma.tolist() for layer in small.parameters.layers] == [[1], [1], [-3]]


def test_a_network_whose_smaller_ones_all_pass_stays() -> None:
    network = CASES["ties"]
    assert reduce_while(network, lambda one: False) is network


def test_every_smaller_network_is_one() -> None:
    for network in CASES.values():
        for one in smaller(network):
            outputs = one.golden.evaluate(one.images)
            assert outputs.shape[1] == one.parameters.layers[-1].outputs


# --------------------------------------------------------------------------------------- each hop's check can fail

QUEUES = ("short output queue", "late lock")
NAMES = ("ties", "negative gamma", "dropped Add", *QUEUES)
ONE_BIT = ("weights of -1 and 0", "weights of 0 and 1")
WITHOUT_RTL = (*ONE_BIT, "full-range weights, negative gamma")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    root, jobs, runs = tmp_path_factory.mktemp("random"), [], {}
    for k, name in enumerate((*NAMES, *WITHOUT_RTL)):
        network, folder = CASES[name], root / str(k)
        folder.mkdir()
        (root / f"{k}.onnx").write_bytes(qonnx_model(network.parameters).SerializeToString())
        options = (network.folding, network.policy, PART, 10.0)
        jobs.append(finn.compile_job(root / f"{k}.onnx", *options, folder))
        runs[name] = Run(
            network=network,
            brevitas=NEVER,
            refusal=None,
            compiled=Compiled(store=Store(root / "store"), folder=folder),
            executed={},
            rtl=None,
            mended=None,
        )
    finn.run_jobs(jobs, log=root / "log")
    failures = {name: finn.read_failure(run.folder, log=root / "log") for name, run in runs.items()}
    assert {name for name, failure in failures.items() if failure is not None} == set(WITHOUT_RTL)
    return runs


@pytest.fixture(scope="module")
def executed(compiled: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The network "ties" and its graphs as Python executes them."""
    run, root = compiled["ties"], tmp_path_factory.mktemp("executed")
    np.save(root / "images.npy", run.network.images)
    jobs, folders = [], dict[str, Path | str]()
    for name, (kind, path) in GRAPHS.items():
        folders[name] = folder = root / name
        folder.mkdir()
        model = run.folder.parent / path.format(run.folder.name)
        jobs.append({**finn.trace_job(model, root / "images.npy", folder), "kind": kind})
    finn.run_jobs(jobs, log=root / "log")
    return dataclasses.replace(run, executed=folders)


def with_changed(executed: Run, graph: str, name: str, file: str, folder: Path) -> Run:
    """As if `graph` had given one more for the fifth image and second channel of the array `name`."""
    source = executed.executed[graph]
    assert isinstance(source, Path)
    with np.load(source / file) as arrays:
        given = dict(arrays)
    given[name][4, 1] += 1
    np.savez(folder / file, allow_pickle=False, **given)
    return dataclasses.replace(executed, executed={**executed.executed, graph: folder})


def test_a_wrong_code_of_finn_onnx_is_named(executed: Run, tmp_path: Path) -> None:
    assert executed.finn_onnx_against_golden().compared == 48 * (2 + 3 + 2)
    changed = with_changed(executed, "FINN-ONNX", "codes_1", "trace.npz", tmp_path)
    with pytest.raises(EquivalenceError, match=r"(?s)FINN-ONNX, activation 1, first image 4.*channel 1"):
        changed.finn_onnx_against_golden()


def test_a_wrong_node_of_the_hardware_graph_is_named(executed: Run, tmp_path: Path) -> None:
    assert executed.hardware_graph_against_hardware() == 48 * (2 + 3 + 3 + 2 + 2 + 1)
    changed = with_changed(executed, "hardware graph", "node_2", "nodes.npz", tmp_path)
    with pytest.raises(
        EquivalenceError, match=r"hardware graph: the first wrong node is Thresholding_1 .* image 4, chan"
    ):
        changed.hardware_graph_against_hardware()


def test_a_wrong_code_of_a_graph_without_integers_is_named(executed: Run, tmp_path: Path) -> None:
    assert executed.graph_against_golden() == 48 * (2 + 3 + 2)
    changed = with_changed(executed, "streamlined graph", "codes_1", "trace.npz", tmp_path)
    with pytest.raises(EquivalenceError, match=r"(?s)FINN's graph, activation 1, first image 4.*channel 1"):
        changed.graph_against_golden()


def test_a_graph_that_python_cannot_execute_is_told(executed: Run) -> None:
    failed = dataclasses.replace(executed, executed={"FINN-ONNX": "no", "hardware graph": "neither"})
    with pytest.raises(EquivalenceError, match="FINN-ONNX: no"):
        failed.finn_onnx_against_golden()
    with pytest.raises(EquivalenceError, match="hardware graph: neither"):
        failed.hardware_graph_against_hardware()


@pytest.mark.cppsim
def test_each_variant_of_cppsim_is_held_against_finns_integers(executed: Run) -> None:
    """Against those of a network of which one weight is another, every variant is found to be wrong."""
    executed.cppsim_against_hardware()
    weights = np.asarray(executed.hardware.network.layers[2].weights).copy()
    weights[1, 2] += 1
    layers = list(executed.hardware.network.layers)
    layers[2] = dataclasses.replace(layers[2], weights=weights)
    other = dataclasses.replace(executed.hardware.network, layers=tuple(layers))
    for variant in EMBEDDED:
        run = dataclasses.replace(executed)
        run.__dict__["hardware"] = dataclasses.replace(executed.hardware, network=other)
        with pytest.raises(EquivalenceError, match=f"^{variant}: the first wrong node is MVAU_hls_1 .*channel 1"):
            run._nodes_against_hardware(variant, executed.cpp_run(variant).nodes)


@pytest.mark.cppsim
@pytest.mark.xfail(
    raises=DataflowError,
    strict=True,
    reason="FINN's MinimizeWeightBitWidth takes the smallest type that holds the lowest weight, or the highest where "
    "none is negative (matrixvectoractivation.py). Of -1 and 0 alone that is BIPOLAR, which has no 0, so that code "
    "generation of the HLS unit ends in an assertion; of 0 and 1 it is BINARY, which the HLS unit refuses (True binary "
    "(non-bipolar) inputs not yet supported)",
)
@pytest.mark.parametrize("variant", EMBEDDED)
@pytest.mark.parametrize("name", ONE_BIT)
def test_finn_makes_cpp_of_weights_of_one_bit(name: str, variant: str, compiled: dict[str, Run]) -> None:
    compiled[name].cpp_run(variant)


def test_networks_go_as_far_as_finn_comes_with_them(executed: Run, compiled: dict[str, Run]) -> None:
    assert executed.is_mapped
    assert executed.has_integers
    assert executed.has_cppsim
    left = dataclasses.replace(compiled["full-range weights, negative gamma"], executed={"streamlined graph": Path()})
    assert not left.is_mapped
    assert not left.has_integers
    assert not left.has_cppsim
    for name in ONE_BIT:
        one_bit = dataclasses.replace(compiled[name], executed={"hardware graph": Path()})
        assert one_bit.has_integers
        assert not one_bit.has_cppsim


def test_finn_refuses_a_narrow_activation_behind_a_relu(tmp_path: Path) -> None:
    from onnx import helper

    model = qonnx_model(CASES["two thresholds"].parameters)
    (quant,) = [node for node in model.graph.node if node.output[0] == "codes_1"]
    relu = helper.make_node("Relu", [quant.input[0]], ["relu"])
    quant.input[0] = "relu"
    model.graph.node.insert(list(model.graph.node).index(quant), relu)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    network, folder = CASES["two thresholds"], tmp_path / "made"
    folder.mkdir()
    finn.run_jobs(
        [finn.compile_job(tmp_path / "model.onnx", network.folding, network.policy, PART, 10.0, folder)],
        log=tmp_path / "log",
    )
    failure = str(finn.read_failure(folder, log=tmp_path / "log"))
    assert "FINN only supports unsigned and non-narrow Quant nodes for Relu activations" in failure


def changed(network: Drawn, k: int, **arrays: Any) -> Drawn:
    layers = list(network.parameters.layers)
    layers[k] = dataclasses.replace(layers[k], **arrays)
    return dataclasses.replace(network, parameters=dataclasses.replace(network.parameters, layers=tuple(layers)))


def test_a_weight_and_a_beta_that_are_not_the_trained_ones_are_named(compiled: dict[str, Run]) -> None:
    run = compiled["negative gamma"]
    run.finn_against_golden()
    first, second = run.network.parameters.layers[:2]
    codes, beta = second.codes.copy(), first.beta.copy()
    codes[1, 2] += 1
    beta[1] += float(first.activation_scale or 0)
    with pytest.raises(EquivalenceError, match="output channel 1 "):
        dataclasses.replace(run, network=changed(run.network, 1, codes=codes)).finn_against_golden()
    with pytest.raises(EquivalenceError, match=r"(?s)activation 1\D.*channel 1\D"):
        dataclasses.replace(run, network=changed(run.network, 0, beta=beta)).finn_against_golden()


def test_a_known_fault_is_counted_apart_and_hides_no_other(compiled: dict[str, Run]) -> None:
    run = compiled["dropped Add"]
    assert run.finn_against_golden()[1] == {"lost sign": 0, "dropped Add": 3}
    wrong = run.hardware.thresholds[1] + 5
    broken = dataclasses.replace(run.hardware, thresholds=(run.hardware.thresholds[0], wrong))
    found, faults = without_known_faults(run.network, broken)
    assert faults["dropped Add"] == 0
    assert (found.thresholds[1] == wrong).all()


def test_a_refusal_has_a_reason_only_where_the_network_is_of_that_kind(compiled: dict[str, Run]) -> None:
    message = "FINN 1.6.1 failed at the step 'fold': DataflowError: FINN has no RTL variant for MVAU_hls_0 (MVAU_hls)"
    refused = dataclasses.replace(compiled["ties"], refusal=message)
    assert refused.reason is None
    full = dataclasses.replace(refused, network=CASES["full-range weights"])
    assert full.reason == "no RTL for full-range weights"
    assert dataclasses.replace(full, refusal="FINN 1.6.1 failed at the step 'fold': AssertionError: ").reason is None


def test_weights_that_cannot_change_their_sign_are_a_reason_of_their_own(compiled: dict[str, Run]) -> None:
    left = "DataflowError: Mul_1 (Mul) stayed in the streamlined graph"
    refusal = f"FINN 1.6.1 failed at the step 'streamline': {left}"
    run = dataclasses.replace(compiled["ties"], refusal=refusal)
    reason = "full-range weights, negative gamma"
    assert dataclasses.replace(run, network=CASES[reason]).reason == reason
    for other in ("full-range weights", "negative gamma"):
        assert dataclasses.replace(run, network=CASES[other]).reason is None


def test_lost_signs_are_negative_scales_that_underflow() -> None:
    assert lost_signs(CASES["lost sign"], 0).tolist() == [False, True, False]
    assert not lost_signs(CASES["tiny gamma"], 0).any()
    assert lost_scales(CASES["undefined thresholds, tiny gamma"], 0).tolist() == [False, True, False]


def with_another_digit(design: HardwareDesign, file: str) -> HardwareDesign:
    """The last digit of the file's first word, a weight's or a threshold's, with its lowest bit flipped."""
    first, *rest = design.files[file].splitlines()
    return design.replace_files({file: "\n".join([f"{first[:-1]}{int(first[-1], 16) ^ 1:x}", *rest]) + "\n"})


def judge(run: Run, rtl: NDArray[np.int64] | str) -> int:
    return dataclasses.replace(run, rtl=rtl).rtl_against_hardware()


@pytest.mark.rtlsim
def test_one_bit_of_a_weight_or_threshold_in_the_rtl_is_caught(compiled: dict[str, Run], tmp_path: Path) -> None:
    """All designs in one simulator: the two that are whole are equal to FINN's integers, the broken ones are not."""
    run, other = compiled["ties"], compiled["negative gamma"]
    design, memories = finn.read_design(run.folder), ("MVAU_rtl_0/memblock.dat", "Thresholding_rtl_1/")
    weights, thresholds = (
        next(file for file in sorted(design.files) if file.startswith(name) and file.endswith(".dat"))
        for name in memories
    )
    designs = [
        design,
        with_another_digit(design, weights),
        finn.read_design(other.folder),
        with_another_digit(design, thresholds),
    ]
    runs = [run, run, other, run]
    results = simulate(
        designs, [one.folder for one in runs], [one.network.images for one in runs], tmp_path / "simulator"
    )
    assert judge(run, results[0]) == judge(other, results[2]) // 2 == 48
    for broken in (results[1], results[3]):
        with pytest.raises(EquivalenceError, match=r"RTL: \d+ of 48 images differ; first image \d+, channel 0"):
            judge(run, broken)


@pytest.mark.rtlsim
@pytest.mark.xfail(
    raises=EquivalenceError,
    strict=True,
    reason="the output queue of FINN's mvu_vvu_axi.sv has room for one output less than may still come once it locks "
    "its input, a cycle late, and for two less where SIMD is no power of 2: where SIMD is all inputs, so that a unit "
    "may give an output each cycle, and a slower one follows, outputs are lost or others take their place",
)
@pytest.mark.parametrize("name", QUEUES)
def test_no_output_is_lost_in_front_of_a_slower_layer(name: str, compiled: dict[str, Run], tmp_path: Path) -> None:
    run = compiled[name]
    design = finn.read_design(run.folder)
    judge(run, simulate([design], [run.folder], [run.network.images], tmp_path / "simulator")[0])


@pytest.mark.rtlsim
@pytest.mark.parametrize("name", QUEUES)
def test_none_is_once_the_output_queue_is_mended(name: str, compiled: dict[str, Run], tmp_path: Path) -> None:
    run = compiled[name]
    design = with_long_queues(finn.read_design(run.folder))
    assert judge(run, simulate([design], [run.folder], [run.network.images], tmp_path / "simulator")[0]) == 48 * 5


def test_designs_are_joined_under_names_of_their_own(compiled: dict[str, Run]) -> None:
    designs: Sequence[HardwareDesign] = [finn.read_design(compiled["ties"].folder)] * 2
    both = joined(designs)
    assert {node.name for node in both.nodes} == {
        f"d{k}_{node.name}" for k, design in enumerate(designs) for node in design.nodes
    }
    assert both.sources[-1] == "finn_design.sv"
    assert {"d0_finn_design.sv", "d1_finn_design.sv"} <= set(both.sources)
