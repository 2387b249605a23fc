"""Data drawn by Hypothesis: always the same, whatever else is imported."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import strategies as st

from fixtures.activations import draw_layers
from fixtures.drawing import examples, in_fresh_process
from fixtures.random_networks import draw_networks


def draw_numbers() -> list[float]:
    return examples(st.floats(0, 10), 300)


def networks_drawn() -> object:
    return [network.to_json() for network in draw_networks(3, with_seed=None)]


def layers_drawn() -> object:
    return [repr(layer) for layer in draw_layers(3)]


def numbers_drawn() -> object:
    return in_fresh_process(draw_numbers)


def import_constants(name: str, parts: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hypothesis mixes constants of imported modules into its draws: 5 % of the numbers would be these."""
    (folder / f"{name}.py").write_text("NUMBERS = " + str([n / parts for n in range(300)]))
    monkeypatch.syspath_prepend(folder)
    importlib.import_module(name)


@pytest.mark.parametrize("drawn", [networks_drawn, layers_drawn, numbers_drawn])
def test_what_is_imported_changes_no_draw(
    drawn: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = drawn()
    import_constants(f"constants_for_{drawn.__name__}", 64, tmp_path, monkeypatch)
    assert drawn() == before


def test_it_would_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = draw_numbers()
    import_constants("further_constants", 80, tmp_path, monkeypatch)
    assert draw_numbers() != before
