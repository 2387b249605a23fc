"""What circuits of AND gates are made into, by evaluating every state and input of small ones."""

import itertools
from collections.abc import Mapping
from random import Random

import pytest

from fixtures.aiger import FAULT, Circuit, changing, differing, read

EXAMPLE = f"""aag 8 3 2 2 3
2
4
6
8 9
10 12
14
16
12 2 8
14 10 2
16 6 12
i0 enable
i1 {FAULT}[0]
i2 {FAULT}[1]
o0 late
o1 seen
"""


def _values(
    circuit: Circuit, inputs: Mapping[str, int], state: tuple[int, ...]
) -> tuple[dict[str, int], tuple[int, ...]]:
    """Outputs and next state."""
    known = {0: 0} | {circuit.inputs[name]: value for name, value in inputs.items()}
    known |= {literal: value for (literal, _), value in zip(circuit.registers, state, strict=True)}

    def of(literal: int) -> int:
        return known[literal & ~1] ^ (literal & 1)

    for gate, one, other in circuit.gates:
        known[gate] = of(one) & of(other)
    outputs = {name: of(literal) for name, literal in circuit.outputs.items()}
    return outputs, tuple(of(literal) for _, literal in circuit.registers)


def _random_circuit(seed: int) -> Circuit:
    """Two inputs, two faults, three registers, twenty gates; a fault is another input of some gates."""
    random = Random(seed)
    inputs = {name: 2 * k for k, name in enumerate(("a", "b", f"{FAULT}[0]", f"{FAULT}[1]"), start=1)}
    registers, literals = [10, 12, 14], [*range(2, 16)]
    gates = []
    for gate in range(16, 56, 2):
        gates.append((gate, random.choice(literals), random.choice(literals)))
        literals += [gate, gate + 1]
    following = tuple((register, random.choice(literals)) for register in registers)
    return Circuit(
        inputs=inputs,
        registers=following,
        gates=tuple(gates),
        outputs={name: random.choice(literals[-20:]) for name in ("x", "y")},
    )


def _cases(count: int) -> list[tuple[int, ...]]:
    return list(itertools.product((0, 1), repeat=count))


def _with_fault(number: int) -> dict[str, int]:
    return {f"{FAULT}[0]": number & 1, f"{FAULT}[1]": number >> 1}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("fault", [1, 2, 3])
def test_changing_says_whether_a_fault_changes_an_output_or_the_next_state(seed: int, fault: int) -> None:
    circuit = _random_circuit(seed)
    made = changing(circuit, fault)
    for (a, b), state in itertools.product(_cases(2), _cases(3)):
        right = _values(circuit, {"a": a, "b": b, **_with_fault(0)}, state)
        wrong = _values(circuit, {"a": a, "b": b, **_with_fault(fault)}, state)
        given, following = _values(made, {"a": a, "b": b}, state)
        assert given["property"] == (right != wrong)
        assert following == right[1]


@pytest.mark.parametrize("seed", range(20))
def test_differing_runs_both_circuits_and_compares_their_outputs(seed: int) -> None:
    right, wrong = _random_circuit(seed), _random_circuit(seed + 100)
    made = differing(right, wrong, 2)
    for (a, b), one, other in itertools.product(_cases(2), _cases(3), _cases(3)):
        own = _values(right, {"a": a, "b": b, **_with_fault(0)}, one)
        others = _values(wrong, {"a": a, "b": b, **_with_fault(2)}, other)
        given, following = _values(made, {"a": a, "b": b}, one + other)
        assert given["property"] == (own[0] != others[0])
        assert following == own[1] + others[1]


def test_a_circuit_that_is_compared_with_itself_has_no_gates_left_that_tell() -> None:
    circuit = _random_circuit(3)
    assert changing(circuit, 0).outputs == {"property": 0}


def test_ascii_is_read() -> None:
    circuit = read(EXAMPLE)
    assert circuit.inputs == {"enable": 2, f"{FAULT}[0]": 4, f"{FAULT}[1]": 6}
    assert circuit.registers == ((8, 9), (10, 12))
    assert circuit.gates == ((12, 2, 8), (14, 10, 2), (16, 6, 12))
    with pytest.raises(ValueError, match="no ASCII AIGER"):
        read("aig 1 0 0 1 0\n")


def test_binary_has_the_header_the_literals_and_the_gates_differences() -> None:
    circuit = Circuit(
        inputs={"a": 2, "b": 4}, registers=((6, 9),), gates=((8, 2, 7), (10, 8, 3)), outputs={"property": 10}
    )
    assert circuit.written == b"aig 5 2 1 1 2\n9\n10\n" + bytes([8 - 7, 7 - 2, 10 - 8, 8 - 3])


def test_large_differences_take_more_bytes() -> None:
    circuit = Circuit(inputs={"a": 2}, registers=(), gates=((402, 2, 2),), outputs={"property": 402})
    assert circuit.written.endswith(bytes([400 % 128 + 128, 400 // 128, 0]))
