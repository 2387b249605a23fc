"""The fault injector changes exactly what it says it changes."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from fixtures import mutation
from fixtures.faults import (
    Fault,
    Kind,
    ThresholdWords,
    WeightWords,
    changed_constant,
    constants,
    edited,
    losing_a_beat,
    lut_bits,
    side_by_side,
    with_initializer,
    with_lut_faults,
    with_narrow_accumulators,
    without_node,
)
from fixtures.mutation import Outcome, Score, Verdict, shares
from fixtures.proofs import Finding
from qnn.errors import DeadlockError, DesignError, EquivalenceError, SimulationError, ToolFailed, ToolTimeout
from qnn.hdl import TOP, HardwareDesign, HardwareNode, node_module, stitched_top


def _fifo(name: str) -> HardwareNode:
    return HardwareNode(
        name=name,
        op_type="StreamingFIFO_rtl",
        module=name,
        sources=("rtllib/fifo.sv", f"{name}/{name}.v", f"{name}/node.sv"),
        input_bits=8,
        output_bits=8,
        fifo_depth=2,
    )


def _design(*names: str) -> HardwareDesign:
    nodes = tuple(map(_fifo, names))
    files = {"rtllib/fifo.sv": "// 12 of the library\n", f"{TOP}.sv": stitched_top(nodes)}
    for node in nodes:
        files[f"{node.name}/{node.name}.v"] = (
            f'module {node.name} #(parameter W = 8, parameter S = "x 7")();\n'
            "// 3 in a comment\n(* KEEP = 1 *) wire a = 1'b0;\nfifo #(.DEPTH(2), .LEN(3.0)) fifo ();\nendmodule\n"
        )
        files[f"{node.name}/node.sv"] = node_module(node)
    return HardwareDesign(files=files, nodes=nodes, finn_version="0")


def test_weights_are_read_and_written_as_finn_lays_them_out() -> None:
    """Two outputs on two PEs, four inputs by two: word s holds (pe 0: inputs 2s, 2s + 1), then (pe 1: the same)."""
    words = WeightWords(outputs=2, inputs=4, pe=2, simd=2, bits=4)
    weights = np.array([[1, 2, 3, -4], [5, -6, 7, -8]])
    text = words.write(weights)
    assert text == "a521\n87c3\n"
    np.testing.assert_array_equal(words.read(text), weights)


def test_one_changed_weight_changes_one_digit() -> None:
    words = WeightWords(outputs=2, inputs=4, pe=2, simd=2, bits=4)
    weights = np.array([[1, 2, 3, -4], [5, -6, 7, -8]])
    faulty = weights.copy()
    faulty[1, 2] -= 1
    before, after = words.write(weights), words.write(faulty)
    assert [(a, b) for a, b in zip(before, after, strict=True) if a != b] == [("7", "6")]


def _threshold_files(words: ThresholdWords, rows: list[list[int]]) -> dict[str, str]:
    """Four channels on two PEs with three steps each: stage 0 has step 1, stage 1 steps 0 and 2."""
    code = 2**words.bits - 1
    return {
        f"unit/unit_threshs_{pe}_{stage}.dat": "".join(
            f"{row[step] & code:02x}\n" for row in rows[pe :: words.pe] for step in steps
        )
        for pe in range(words.pe)
        for stage, steps in enumerate(((1,), (0, 2)))
    }


def test_a_threshold_is_found_where_the_binary_search_has_it() -> None:
    words = ThresholdWords(name="unit", pe=2, bits=8, signed=True)
    rows = [[-9, 0, 9], [-8, 1, 8], [-7, 2, 7], [-6, 3, 6]]
    files = _threshold_files(words, rows)
    for channel, row in enumerate(rows):
        assert [words.read(files, channel, step, 3) for step in range(3)] == row
    changed = words.write(files, 2, 0, 3, -5)
    rows[2][0] = -5
    assert {**files, **changed} == _threshold_files(words, rows)
    assert len(changed) == 1


@pytest.mark.parametrize("row", [[-9, 0, 9], [3, 3, 3], [-128, 0, 127], [-2, -1, 0, 1, 2], [1, 2, 3, 4, 5, 6, 7]])
def test_the_search_of_an_ascending_row_counts_thresholds(row: list[int]) -> None:
    words = ThresholdWords(name="unit", pe=1, bits=8, signed=True)
    values = np.arange(-128, 128)
    expected = [sum(threshold <= value for threshold in row) for value in values]
    assert words.codes(row, values).tolist() == expected


def test_the_search_saturates_inputs_that_no_threshold_can_reach() -> None:
    words = ThresholdWords(name="unit", pe=1, bits=4, signed=True)
    assert words.codes([-7, 0, 7], np.array([-100, 100])).tolist() == [0, 3]


def test_constants_are_numbers_of_generated_code_alone() -> None:
    found = constants(_design("unit"))
    assert [c.text for c in found if c.file == "unit/unit.v"] == ["8", "1'b0", "2", "3.0"]
    assert {c.file for c in found} == {"unit/unit.v", "unit/node.sv", f"{TOP}.sv"}


def test_a_changed_constant_is_another_number() -> None:
    random = np.random.default_rng(0)
    for constant in constants(_design("unit")):
        assert changed_constant(constant, random) != constant.text


def test_variants_lie_side_by_side_under_names_of_their_own() -> None:
    design = _design("unit")
    other = edited(design, "unit/unit.v", ".DEPTH(2)", ".DEPTH(3)")
    both = side_by_side([design, other])
    assert both.files["unit1/unit1.v"] == design.files["unit/unit.v"].replace("unit", "unit1").replace("(2)", "(3)")
    assert both.files["unit0/unit0.v"] == design.files["unit/unit.v"].replace("unit", "unit0")
    assert both.files["rtllib/fifo.sv"] == design.files["rtllib/fifo.sv"]
    assert both.files["unit1/finn_design.sv"].startswith(f"module {TOP}1 (")
    assert "unit1_node unit1 (" in both.files["unit1/finn_design.sv"]


def test_a_node_that_is_left_out_joins_its_neighbours() -> None:
    dropped = without_node(_design("a", "b", "c"), "b")
    assert [node.name for node in dropped.nodes] == ["a", "c"]
    assert dropped.files[f"{TOP}.sv"] == stitched_top(tuple(map(_fifo, "ac")))


def test_an_edit_of_what_is_not_there_once_is_refused() -> None:
    with pytest.raises(DesignError, match=r"unit/unit.v holds 'absent' 0 times"):
        edited(_design("unit"), "unit/unit.v", "absent", "x")


def test_a_lost_beat_and_narrow_accumulators_are_of_one_node_of_many() -> None:
    nodes = (_fifo("a"), replace(_fifo("b"), op_type="MVAU_rtl", weights_module="w", weight_bits=8))
    wrapper = "mvu #(\n .ACCU_WIDTH = 4,\n) m();"
    files = {"rtllib/fifo.sv": "", f"{TOP}.sv": "", "b/b_wrapper.v": wrapper.replace(".ACCU", "parameter ACCU")}
    files |= {f"{node.name}/{node.name}.v": "" for node in nodes}
    files |= {f"{node.name}/node.sv": node_module(node) for node in nodes}
    design = HardwareDesign(files=files, nodes=nodes, finn_version="0")
    lost = losing_a_beat(design, "a", 4)
    narrow = with_narrow_accumulators(design, "b", lanes=2, bits=4, narrow_bits=3)
    assert {name for name in files if files[name] != lost.files[name]} == {"a/node.sv"}
    assert {name for name in files if files[name] != narrow.files[name]} == {"b/node.sv", "b/b_wrapper.v"}
    assert "ACCU_WIDTH = 3," in narrow.files["b/b_wrapper.v"]
    text = narrow.files["b/node.sv"]
    assert text.index("wire [6-1:0] narrow;") < text.index(".out0_V_TDATA(narrow)")
    assert "assign out0_V_tdata = {{1{narrow[5]}}, narrow[5:3], {1{narrow[2]}}, narrow[2:0]};" in text


def test_losing_a_beat_changes_the_joining_module_alone() -> None:
    design = _design("unit")
    lost = losing_a_beat(design, "unit", 4)
    assert {name for name in design.files if design.files[name] != lost.files[name]} == {"unit/node.sv"}


_NETLIST = """module unit_node(a, b, y, z);
  input a;
  input b;
  output y;
  output z;
  wire \\n$1 ;
  LUT2 #(
    .INIT(4'h8)
  ) \\lut$7  (
    .I0(a),
    .I1(b),
    .O(\\n$1 )
  );
  LUT1 #(
    .INIT(2'h1)
  ) inverter (
    .I0(\\n$1 ),
    .O(y)
  );
endmodule
"""


def test_every_bit_of_every_lut_is_found() -> None:
    bits = list(lut_bits(_NETLIST))
    assert [(bit.lut, bit.bit) for bit in bits] == [("lut$7", k) for k in range(4)] + [
        ("inverter", k) for k in range(2)
    ]
    assert bits[2].address == "{b, a}"


def test_a_lut_fault_inverts_the_output_where_the_bit_is_addressed() -> None:
    bits = list(lut_bits(_NETLIST))
    text = with_lut_faults(_NETLIST, [bits[2], bits[5], bits[3]])
    gates = re.findall(r"^  assign (.*);$", text, re.MULTILINE)
    assert gates == [
        "y = qnn_raw_2 ^ ((qnn_fault[0] == 2 && {\\n$1 } == 1))",
        "\\n$1  = qnn_raw_1 ^ ((qnn_fault[0] == 1 && {b, a} == 2) || (qnn_fault[0] == 3 && {b, a} == 3))",
    ]
    assert ".O(qnn_raw_1)" in text
    assert ".O(qnn_raw_2)" in text
    assert "INIT(4'h8)" in text


def test_one_constant_of_an_onnx_file_is_changed(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Mul", ["x", "k"], ["y"]), helper.make_node("Mul", ["y", "m"], ["z"])]
    tensors = [numpy_helper.from_array(np.array([2.0, 3.0], np.float32), name) for name in ("k", "m")]
    ends = [[value(name, TensorProto.FLOAT, [2])] for name in ("x", "z")]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", *ends, tensors)), tmp_path / "a.onnx")
    with_initializer(tmp_path / "a.onnx", tmp_path / "b.onnx", "Mul", 1, 1, lambda values: -values)
    found = {t.name: numpy_helper.to_array(t).tolist() for t in onnx.load(tmp_path / "b.onnx").graph.initializer}
    assert found == {"k": [2.0, 3.0], "m": [-2.0, -3.0]}


def _verdict(outcome: Outcome) -> Verdict:
    return Verdict(fault=Fault(kind=Kind.LUT, node="n", what="w"), outcome=outcome, why="because")


def test_the_score_is_of_what_is_caught_and_missed() -> None:
    outcomes = [Outcome.CAUGHT] * 3 + [Outcome.MISSED, Outcome.EQUIVALENT, Outcome.UNDECIDED]
    score = Score(verdicts=tuple(map(_verdict, outcomes)))
    assert score.percent == 75
    assert "score: 75.0 % (caught, of caught and missed); 16.7 % undecided, of all" in score.table()
    assert "equivalent: 1 netlist LUT bit: because" in score.table()
    assert Score(verdicts=()).percent is None


def test_200_faults_are_shared_out() -> None:
    assert sum(shares(200).values()) == 200


@pytest.mark.parametrize("outcome", Outcome)
def test_a_verdict_is_the_same_after_json(outcome: Outcome) -> None:
    verdict = _verdict(outcome)
    assert Verdict.of_plain(json.loads(json.dumps(verdict.plain))) == verdict


def _complaint_of(error: Exception, monkeypatch: pytest.MonkeyPatch) -> str | None:
    def check_node(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(mutation, "check_node", check_node)
    run = mutation._Run(function=cast(Any, None), simulator=cast(Any, None), contents={})
    return run.complaint()


def test_what_verilator_says_of_the_design_catches_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    says = "simulator was killed by signal 6; its log ends:\n%Error: node.sv:1: Active region did not converge"
    assert _complaint_of(ToolFailed(says, -6), monkeypatch) == says


@pytest.mark.parametrize("kind", [EquivalenceError, SimulationError, DeadlockError])
def test_what_the_check_says_of_the_node_catches_a_fault(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _complaint_of(kind("wrong"), monkeypatch) == "wrong"


@pytest.mark.parametrize(
    "error", [ToolFailed("killed", -9), ToolFailed("out of memory", -6), ToolTimeout("not done"), OSError("disk full")]
)
def test_a_simulator_that_fails_catches_nothing(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(type(error)):
        _complaint_of(error, monkeypatch)


def test_a_refused_file_catches_a_fault_and_a_tool_that_fails_does_not() -> None:
    error = ToolFailed("killed by signal 9", -9)
    assert mutation._refusal("Yosys", {"unit.v": "line 1: no"}, error) == "Yosys refuses it: unit.v, line 1: no"
    with pytest.raises(ToolFailed, match="signal 9"):
        mutation._refusal("Yosys", {}, error)


_UNSEEN = Verdict.of_plain({"kind": Kind.LUT, "node": "n", "what": "w", "outcome": Outcome.MISSED, "why": ""}).fault


@pytest.mark.parametrize(
    ("proved", "shown", "outcome"),
    [(True, False, Outcome.EQUIVALENT), (False, True, Outcome.MISSED), (False, False, Outcome.UNDECIDED)],
)
def test_only_what_is_proved_counts_as_equivalent(
    proved: bool, shown: bool, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutation._Run, "shown_by_random_vectors", lambda self: shown)
    run = mutation._Run(function=cast(Any, None), simulator=cast(Any, None), contents={})
    assert mutation._judged(_UNSEEN, Finding(proved=proved, why="because"), run).outcome is outcome
