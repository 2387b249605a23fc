"""Made-up measurements for the tests of the gate."""

from typing import Any

from qnn.gate.measurement import Measurement, Selection
from qnn.results import Evidence, Metric, Row, Status

CELL = "tfc-fashion_mnist-A3W3-PE8-SIMD8"
TEST = f"benchmarks/test_resources.py::test_accelerator_fits_the_part[{CELL}]"


def row(metrics: dict[str, Metric], **others: Any) -> Row:
    """The row of a test that passed, but for what is said."""
    fields: dict[str, Any] = {"test": TEST, "hop": "resources", "status": Status.PASSED, "cell": CELL}
    return Row(**{**fields, "evidence": Evidence.SYNTHESIS, "metrics": metrics, **others})


def measured(*rows: Row, finn: str = "1.6.1") -> Measurement:
    """What one FINN gave."""
    selection = Selection(expression="A3W3", options=(), benchmarks=("resources",))
    return Measurement(finn=finn, suite="0.1.0", tools={"finn": finn}, selection=selection, rows=rows)
