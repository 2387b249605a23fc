"""What a checkout of FINN asks for, in the words of pip, of PEP 621 and of Poetry."""

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from qnn.errors import FinnUnavailable
from qnn.gate.pins import read_pins

POETRY = """
[project]
name = "finn-plus"
dynamic = ["version"]

[tool.poetry.dependencies]
python = ">=3.10,<3.12"
bitstring = "~4.3.1"
numpy = "1.26.4"  # an exact one
onnxscript = ">=0.5.0"
mip = "~1.13.0"
termcolor = "^2.5.0"
onnxoptimizer = "^0.3.13"
pydantic = ">2.0"
mashumaro = { extras = ["yaml"], version = "^3.15" }
finn-plus-tests = { version = "*", optional = true }

[tool.poetry.group.dev.dependencies]
pre-commit = "~4.2.0"

[tool.poetry.extras]
tests = ["finn-plus-tests"]
"""
"""Of finn-plus 1.4.0, shortened."""

RELEASED = """
bitstring (>=4.3.1,<4.4.0)
numpy (==1.26.4)
onnxscript (>=0.5.0)
mip (>=1.13.0,<1.14.0)
termcolor (>=2.5.0,<3.0.0)
onnxoptimizer (>=0.3.13,<0.4.0)
pydantic (>2.0)
mashumaro[yaml] (>=3.15,<4.0)
"""
"""What Poetry made of them in the release's metadata; `finn-plus-tests` is asked for by an extra alone."""


def versions(specifier: SpecifierSet) -> set[tuple[str, tuple[int, ...]]]:
    """``<4`` and ``<4.0.0`` are one."""
    found = set()
    for one in specifier:
        numbers = [int(number) for number in one.version.split(".")]
        while numbers and not numbers[-1]:
            numbers.pop()
        found.add((one.operator, tuple(numbers)))
    return found


def test_what_poetry_states_is_what_the_release_says(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(POETRY)
    pins = read_pins(tmp_path)
    released = [Requirement(line) for line in RELEASED.split("\n") if line]
    assert [(one.name, one.extras, versions(one.specifier)) for one in pins.requirements] == [
        (one.name, one.extras, versions(one.specifier)) for one in released
    ]
    assert versions(pins.python) == {(">=", (3, 10)), ("<", (3, 12))}


@pytest.mark.parametrize(
    ("poetry", "inside", "outside"),
    [
        ("^1.2.3", ["1.2.3", "1.9"], ["1.2.2", "2.0"]),
        ("^0.2.3", ["0.2.3", "0.2.9"], ["0.3", "1.0"]),
        ("^0.0.3", ["0.0.3"], ["0.0.4", "0.1"]),
        ("^0.0", ["0.0.9"], ["0.1"]),
        ("^0", ["0.9"], ["1.0"]),
        ("~1.2.3", ["1.2.3", "1.2.9"], ["1.3"]),
        ("~1.2", ["1.2", "1.2.9"], ["1.3"]),
        ("~1", ["1.9"], ["2.0"]),
        ("~ 3.66.0", ["3.66.1"], ["3.67"]),
        ("~=1.2", ["1.9"], ["2.0"]),
        ("1.2.*", ["1.2.9"], ["1.3"]),
        ("*", ["0.1", "99"], []),
        (">= 1.0, != 1.3, <2", ["1.2"], ["1.3", "2.0"]),
    ],
)
def test_poetrys_constraints(poetry: str, inside: list[str], outside: list[str], tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(f'[tool.poetry.dependencies]\nnumpy = "{poetry}"\n')
    (numpy,) = read_pins(tmp_path).requirements
    assert [one for one in [*inside, *outside] if one in numpy.specifier] == inside


def test_poetrys_markers_and_what_names_no_version_of_the_index(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("""
[tool.poetry.dependencies]
numpy = [{ version = "1.26.4", python = "<3.12" }, { version = "^2.0", python = "^3.12" }]
od = { version = "2.0", markers = "sys_platform == 'win32' or sys_platform == 'linux'" }
qonnx = { git = "https://example.org/qonnx.git", rev = "main" }
brevitas = { path = "../brevitas" }
""")
    first, second, od = read_pins(tmp_path).requirements

    def holds(one: Requirement, python: str, platform: str = "linux") -> bool:
        assert one.marker is not None
        return one.marker.evaluate({"python_full_version": python, "sys_platform": platform})

    assert [holds(first, python) for python in ("3.11.7", "3.12.1")] == [True, False]
    assert [holds(second, python) for python in ("3.11.7", "3.12.1", "4.0.0")] == [False, True, False]
    assert [holds(od, "3.11.7", platform) for platform in ("win32", "linux", "darwin")] == [True, True, False]


def test_pep_621_comes_before_poetry_and_beside_requirements_txt(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("numpy==1.24.1\n# a comment\n--no-binary x\n")
    (tmp_path / "pyproject.toml").write_text("""
[project]
requires-python = ">=3.11"
dependencies = ["onnx>=1.17; python_version > '3'"]
[tool.poetry.dependencies]
onnx = "0.1"
""")
    pins = read_pins(tmp_path)
    assert list(map(str, pins.requirements)) == ["numpy==1.24.1", 'onnx>=1.17; python_version > "3"']
    assert str(pins.python) == ">=3.11"


def test_a_checkout_that_states_nothing_has_no_pins(tmp_path: Path) -> None:
    assert read_pins(tmp_path).requirements == ()
    (tmp_path / "pyproject.toml").write_text("[build-system]\n")
    assert read_pins(tmp_path).requirements == ()


@pytest.mark.parametrize(
    "text", ["no toml", '[tool.poetry.dependencies]\nnumpy = "^1 || ^2"', "[project]\ndependencies = [1]"]
)
def test_pins_that_cannot_be_read_are_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(FinnUnavailable, match=r"pyproject\.toml states no pins that can be read: "):
        read_pins(tmp_path)
