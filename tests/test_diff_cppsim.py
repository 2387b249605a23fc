"""The C++ hops of the comparison: real programs, right and wrong, and the folder that shows a wrong one."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from small import CELL, SmallPipeline, run_reproducer

from qnn import diff
from qnn.cell import Cell
from qnn.store import Store
from qnn.tools import hls_headers
from qnn.tools.finn import CppRun
from qnn.tools.hls_headers import SUITE_INCLUDE, HlsHeaders

SUITE = hls_headers.suite_headers()
HOPS = ("cppsim", "cppsim, fused")


@dataclass(frozen=True, kw_only=True)
class WithHeaders(SmallPipeline):
    """cppsim with these headers."""

    used: HlsHeaders

    def cppsim_run(
        self,
        cell: Cell,
        *,
        standalone_thresholds: bool,
        headers: HlsHeaders | None = None,
        images: Sequence[int] | None = None,
    ) -> tuple[CppRun, HlsHeaders]:
        return super().cppsim_run(
            cell, standalone_thresholds=standalone_thresholds, headers=headers or self.used, images=images
        )


@pytest.fixture
def wrong(shared_store: Store, tmp_path: Path) -> WithHeaders:
    """A comparison that leaves equality out."""
    library = tmp_path / "library"
    shutil.copytree(SUITE_INCLUDE, library)
    header = library / "activations.hpp"
    header.write_text(header.read_text().replace("(pe * NumSteps + n)) <= value", "(pe * NumSteps + n)) < value"))
    headers = replace(SUITE, include=(library,))
    assert headers.digest != SUITE.digest
    return WithHeaders(store=shared_store, used=headers)


def cpp_hops(pipeline: SmallPipeline, images: Sequence[int], folder: Path) -> dict[str, diff.Hop]:
    found = {hop.name: hop for hop in diff.hops(pipeline, CELL, images, folder)}
    return {name: found[name] for name in HOPS}


def test_right_programs_are_equal_in_the_first_images_and_in_others(
    shared_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first images are taken from the run that a benchmark makes; for others the programs are run anew."""
    pipeline = WithHeaders(store=shared_store, used=SUITE)
    elements = {"cppsim": 16 + 8 + 8 + 4, "cppsim, fused": 16 + 8 + 4}
    for images in ([3, 7], [9]):
        monkeypatch.setattr(diff, "CPPSIM_IMAGES", 8)
        found = cpp_hops(pipeline, images, tmp_path)
        assert {hop.not_run or hop.difference for hop in found.values()} == {None}
        assert {name: hop.compared for name, hop in found.items()} == {
            name: len(images) * count for name, count in elements.items()
        }
    assert not list(tmp_path.iterdir())


def test_a_wrong_program_is_named_and_its_folder_compiles_it_without_this_suite(
    wrong: WithHeaders, tmp_path: Path
) -> None:
    steps = wrong.hardware_model(CELL).network.layers[0].thresholds
    assert steps is not None
    image = int(np.flatnonzero(np.isin(wrong.inputs(CELL), steps).any(axis=1))[0])
    found = cpp_hops(wrong, [image], tmp_path / "reproducers")
    told = [str(hop.difference) for hop in found.values()]
    folders = [tmp_path / "reproducers" / f"{CELL}-{name}-Thresholding_hls_0" for name in ("cppsim", "cppsim-fused")]
    for message, folder in zip(told, folders, strict=True):
        assert (
            f"the first wrong node is Thresholding_hls_0 (Thresholding_hls), in 1 of 1 images; image {image}, "
            in message
        )
        assert "thresholds not above it" in message
        assert message.endswith(f"reproducer: {folder}")
    assert sorted(path.name for path in folders[0].parent.iterdir()) == sorted(path.name for path in folders)
    folder = folders[0]
    assert "qnn" not in (folder / "cpp" / "execute_Thresholding_hls.cpp").read_text()
    assert "/tmp" not in (folder / "cpp" / "execute_Thresholding_hls.cpp").read_text()
    done = run_reproducer(folder)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "in Python: equal, 1 vectors of 16 elements" in done.stdout
    assert "in C++: differs, 1 vectors of 16 elements" in done.stdout
    shutil.copy(SUITE_INCLUDE / "activations.hpp", folder / "cpp" / "include")
    mended = run_reproducer(folder)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert "in C++: equal" in mended.stdout


def test_without_the_headers_that_were_used_nothing_is_called_equal(
    wrong: WithHeaders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where they were Vitis HLS' and finn-hlslib's, which are not written beside the node."""
    monkeypatch.delenv("XILINX_HLS", raising=False)
    monkeypatch.delenv("FINN_DEPS", raising=False)
    cpp_hops(wrong, range(12), tmp_path / "reproducers")
    folder = tmp_path / "reproducers" / f"{CELL}-cppsim-Thresholding_hls_0"
    shutil.rmtree(folder / "cpp" / "include")
    done = run_reproducer(folder)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "in C++: not run, since FINN's cppsim needs XILINX_HLS and FINN_DEPS in the environment" in done.stdout
