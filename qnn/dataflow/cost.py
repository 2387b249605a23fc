"""QONNX's inference cost of a streamlined graph: what one image takes, whatever the folding."""

from qonnx.analysis.inference_cost import inference_cost as analyse
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper

from qnn.errors import DataflowError

__all__ = ["inference_cost"]


def inference_cost(model: ModelWrapper) -> dict[str, int]:
    """macs, bit_operations (of each multiplication its factors' widths multiplied) and weight_bits of all MatMuls.

    Weights that are zero count like others: FINN's matrix units multiply them too. MultiThreshold nodes, which QONNX
    cannot count, are left out. Raises DataflowError where it cannot count anything else.
    """
    total = model.analysis(lambda graph: analyse(graph, discount_sparsity=False))["total_cost"]
    unknown = total["unsupported"] - {"MultiThreshold"}
    if unknown:
        raise DataflowError(f"QONNX does not know the cost of {', '.join(sorted(unknown))}")
    cost = {"macs": 0, "bit_operations": 0, "weight_bits": 0}
    for name, amount in total.items():
        kind, _, types = name.partition("_")
        if kind == "op":  # op_mac_<input type>_<weight type>
            _, inputs, weights = types.split("_")
            cost["macs"] += int(amount)
            cost["bit_operations"] += int(amount) * DataType[inputs].bitwidth() * DataType[weights].bitwidth()
        elif kind == "mem" and types.startswith("w_"):  # mem_w_<weight type>
            cost["weight_bits"] += int(amount) * DataType[types.removeprefix("w_")].bitwidth()
    return cost
