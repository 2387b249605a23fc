"""DSP slices are counted as finn-rtllib's matrix-vector unit instantiates them."""

import json
import sys
from pathlib import Path

import pytest
from test_edits import finn_file

from qnn.dsp import dsp_slices, lanes
from qnn.edits import EDITS, sha256
from qnn.process import run
from qnn.tools import yosys

DSP48E1_BITS = 25


@pytest.mark.parametrize(
    ("weight_bits", "activation_bits", "narrow", "expected"),
    [
        (3, 8, True, 3),  # 3 + 10 + 10 = 23 of 25 bits
        (3, 3, True, 5),  # 3 + 4 * 5 = 23
        (4, 8, True, 2),  # 4 + 11 = 15; a third needs 26
        (4, 8, False, 2),
        (2, 2, True, 8),  # 2 + 7 * 3 = 23
        (5, 6, True, 3),  # 5 + 10 + 10 = 25: exactly full ...
        (5, 6, False, 2),  # ... and one bit short where the lowest value occurs
        (8, 8, True, 2),
        (25, 8, True, 1),
    ],
)
def test_lanes_lie_side_by_side_on_the_multipliers_wide_input(
    weight_bits: int, activation_bits: int, narrow: bool, expected: int
) -> None:
    found = lanes(
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        narrow_weights=narrow,
        multiplier_bits=DSP48E1_BITS,
    )
    assert found == expected


def test_channels_that_fill_no_whole_slice_take_one_and_every_input_channel_takes_its_own() -> None:
    assert dsp_slices(pe=8, simd=8, weight_bits=3, activation_bits=8, narrow_weights=True, multiplier_bits=25) == 3 * 8
    assert dsp_slices(pe=5, simd=8, weight_bits=3, activation_bits=3, narrow_weights=True, multiplier_bits=25) == 8


UNITS = [
    # PE, SIMD, weight bits, activation bits, narrow
    (8, 8, 3, 8, 1),
    (16, 4, 2, 2, 1),
    (7, 3, 4, 8, 0),
    (5, 2, 5, 6, 1),
    (5, 2, 5, 6, 0),
    (9, 1, 8, 8, 1),
    (1, 5, 6, 3, 0),
]

_YOSYS = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for command in open(sys.argv[1]):
    libyosys.run_pass(command.strip(), design)
"""


@pytest.fixture(scope="module")
def instantiated(tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    """DSP48E1 instances of FINN's ``mvu.sv`` for each of UNITS, as Yosys' slang elaborates them."""
    folder = tmp_path_factory.mktemp("mvu")
    sources = ["rtllib/mvu/mvu_pkg.sv", "rtllib/mvu/add_multi.sv", "rtllib/mvu/mvu.sv"]
    for name in sources:
        text = finn_file(name)
        for edit in [edit for edit in EDITS if (edit.tool, edit.file, edit.sha256) == ("yosys", name, sha256(text))]:
            text = edit.apply(text)
        (folder / Path(name).name).write_text(text)
    library = yosys.parse_modules(yosys.cell_models())
    boxes = ("DSP48E1", "LUT6_2")
    (folder / "boxes.sv").write_text("".join(yosys.stub(library[name]) for name in boxes))
    files = " ".join(["boxes.sv", *(Path(name).name for name in sources)])
    boxed = " ".join(f"--blackboxed-module {name}" for name in boxes)
    commands = []
    for k, (pe, simd, weight_bits, activation_bits, narrow) in enumerate(UNITS):
        parameters = {
            "VERSION": 1,
            "PE": pe,
            "SIMD": simd,
            "WEIGHT_WIDTH": weight_bits,
            "ACTIVATION_WIDTH": activation_bits,
            "ACCU_WIDTH": 24,
            "NARROW_WEIGHTS": narrow,
            "SIGNED_ACTIVATIONS": 1,
        }
        generics = " ".join(f"-G{name}={value}" for name, value in parameters.items())
        commands += [
            "design -reset",
            f"read_slang --ignore-assertions --allow-use-before-declare {boxed} --top mvu {generics} {files}",
            "flatten",
            f"tee -q -o {k}.json stat -json",
        ]
    (folder / "script.ys").write_text("\n".join(commands))
    (folder / "yosys.py").write_text(_YOSYS)
    run([sys.executable, "yosys.py", "script.ys"], timeout_s=120, log=folder / "log", cwd=folder)
    return [
        json.loads((folder / f"{k}.json").read_text())["design"]["num_cells_by_type"]["DSP48E1"]
        for k in range(len(UNITS))
    ]


def test_the_count_is_that_of_the_instances_in_finns_own_unit(instantiated: list[int]) -> None:
    computed = [
        dsp_slices(
            pe=pe,
            simd=simd,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            narrow_weights=bool(narrow),
            multiplier_bits=DSP48E1_BITS,
        )
        for pe, simd, weight_bits, activation_bits, narrow in UNITS
    ]
    assert instantiated == computed
