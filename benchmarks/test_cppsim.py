"""FINN's HLS nodes, as C++ programs, equal the hardware integer model: every output of every node.

Once with thresholds as nodes of their own, once embedded in the matrix units, which FINN's RTL cannot do. The evidence
says which headers the programs were compiled with.
"""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fixtures.recording import Record
from qnn import diff
from qnn.cell import Cell
from qnn.pipeline import Pipeline
from qnn.reproducer import Cpp
from qnn.results import Evidence
from qnn.tools.finn import CppRun, HardwareModel
from qnn.tools.hls_headers import HlsHeaders


@pytest.mark.cppsim
@pytest.mark.one_folding_a_cell
@pytest.mark.parametrize("variant", ["standalone", "embedded"], scope="session")
def test_cppsim_equals_hardware_integers(
    cell: Cell,
    variant: str,
    pipeline: Pipeline,
    hardware_model: HardwareModel,
    cppsim_run: tuple[CppRun, HlsHeaders],
    reproducers: Path,
    record: Record,
) -> None:
    run, headers = cppsim_run
    pixels = pipeline.images(cell).pixels[: len(run.accumulators)]
    equal = (run.accumulators == hardware_model.network.evaluate(pixels)).all(axis=1)
    record(
        headers.evidence,
        **{
            f"cppsim_{variant}_images": len(equal),
            f"cppsim_{variant}_images_equal": int(equal.sum()),
            f"host_build_cppsim_{variant}_s": run.build_s,
            f"host_run_cppsim_{variant}_s": run.run_s,
        },
    )
    name, images = f"cppsim, {variant} thresholds", range(len(equal))
    cpp = Cpp(run=run, headers=headers)
    diff.require_equal_nodes(name, pipeline, cell, images, run.nodes, run.model, reproducers, cpp=cpp)


@pytest.mark.one_folding_a_cell
def test_top1_stays_on_the_host_where_classes_have_factors_of_their_own(
    hardware_model: HardwareModel, hardware_accumulators: NDArray[np.int64], record: Record
) -> None:
    """Behind a batch norm of each class the largest accumulator need not be the largest logit."""
    on_host = hardware_model.why_top1_is_on_the_host
    logits = hardware_model.logits(hardware_accumulators)
    differ = int(np.count_nonzero(logits.argmax(axis=1) != hardware_accumulators.argmax(axis=1)))
    assert on_host, "one factor serves all classes, as in no cell of the study: top-1 could be in the accelerator"
    where = f"on the host: {on_host}"
    record(Evidence.PYTHON, top1_computed=where, images_whose_top1_is_not_the_largest_accumulator=differ)
