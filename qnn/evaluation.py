"""A trained network on the test set, held against the integers that it stands for: a file that is judged when read.

Brevitas takes a while for 10,000 images, and so does holding every code and sum of its forward pass against the exact
ones. What is kept is all that can be asked about it later, not the verdict: both models' results, and of each code
that is not the exact one its accumulator and sum. Reading the file judges these codes by the golden model at hand.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qnn.equivalence import CodesComparison, SumsComparison, compare_forward_pass
from qnn.integer import GoldenNetwork
from qnn.thresholding import CodeComparison, compare_codes

if TYPE_CHECKING:
    from qnn.networks import Network

__all__ = ["Evaluation", "evaluate", "load", "save"]

Arrays = dict[str, NDArray[Any]]

_SUMS = [field.name for field in fields(SumsComparison)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What a trained Brevitas network and its integers make of the same images."""

    logits: NDArray[np.float32]
    """[images, classes], Brevitas'."""
    golden_accumulators: NDArray[np.int64]
    """[images, classes] of the exact integers' last layer."""
    comparison: CodesComparison
    """Of every code and sum of Brevitas' forward pass."""


def evaluate(network: "Network", golden: GoldenNetwork, pixels: NDArray[np.uint8]) -> Evaluation:
    """Run both on `pixels` [images, inputs] and compare them layer by layer."""
    from qnn import inference  # torch takes seconds, which reading a file does not need

    trace, given = golden.trace(pixels), inference.run(network, pixels)
    accumulators = trace[-1].accumulators
    assert accumulators is not None
    return Evaluation(
        logits=given.logits,
        golden_accumulators=accumulators,
        comparison=compare_forward_pass(golden, trace, given.codes, pixels, given.products),
    )


def save(evaluation: Evaluation, path: Path) -> None:
    """Write it to an .npz file, less than a megabyte for 10,000 images."""
    comparison = evaluation.comparison
    arrays: Arrays = {
        "logits": evaluation.logits,
        "golden_accumulators": evaluation.golden_accumulators,
        "last_accumulators": comparison.last_accumulators,
        "equal_images": comparison.equal_images,
        "compared": np.array(comparison.compared),
    }
    for k, activation in enumerate(comparison.activations):
        arrays |= {f"accumulators_{k}": activation.accumulators, f"codes_{k}": activation.other}
        arrays[f"images_{k}"] = comparison.images[k]
        if activation.sums is not None:
            arrays[f"sums_{k}"] = activation.sums
    for k, layer in enumerate(comparison.sums):
        arrays |= {f"layer_{k}_{name}": np.asarray(getattr(layer, name)) for name in _SUMS}
    np.savez_compressed(path, allow_pickle=False, **arrays)


def load(path: Path, golden: GoldenNetwork) -> Evaluation:
    """Read what save() wrote of the network that `golden` is, and judge its codes."""
    with np.load(path) as file:
        arrays = dict(file)
    comparison = CodesComparison(
        activations=tuple(_activations(arrays, golden)),
        images=tuple(arrays[f"images_{k}"] for k in range(len(golden.exact))),
        compared=int(arrays["compared"]),
        equal_images=arrays["equal_images"],
        sums=tuple(_layers(arrays)),
        last_accumulators=arrays["last_accumulators"],
    )
    return Evaluation(logits=arrays["logits"], golden_accumulators=arrays["golden_accumulators"], comparison=comparison)


def _activations(arrays: Arrays, golden: GoldenNetwork) -> Iterator[CodeComparison]:
    for k, exact in enumerate(golden.exact):
        yield compare_codes(exact, arrays[f"accumulators_{k}"], arrays[f"codes_{k}"], arrays.get(f"sums_{k}"))


def _layers(arrays: Arrays) -> Iterator[SumsComparison]:
    k = 0
    while f"layer_{k}_compared" in arrays:
        of_layer = {name: arrays[f"layer_{k}_{name}"] for name in _SUMS}
        yield SumsComparison(
            **{name: array if array.ndim else array.item() for name, array in of_layer.items()}  # type: ignore[arg-type]
        )
        k += 1
