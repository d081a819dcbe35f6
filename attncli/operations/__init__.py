"""What can be run, by name: each operation with its inputs, results, gradients and engines."""

from collections.abc import Mapping

from attncli import layers
from attncli.operations.execution import ENGINES, Engine, Execution
from attncli.operations.operation import Operation, Pass
from attncli.operations.whole import ScaledDotProduct, SingleStep, WholeAttention

__all__ = [
    "ENGINES",
    "OPERATIONS",
    "Engine",
    "Execution",
    "Operation",
    "Pass",
    "ScaledDotProduct",
    "SingleStep",
    "WholeAttention",
]

_ROW = ("N", "T_enc")
_GRID = ("N", "T_dec", "T_enc")

OPERATIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("softmax", ("scores",), "weights", _GRID, _GRID, layers.Softmax),
        Operation("weight-sum", ("hs", "a"), "out", ("N", "H"), (), layers.WeightSum),
        Operation("attention-weight", ("hs", "h"), "a", _ROW, _ROW, layers.AttentionWeight),
        SingleStep("attention", ("hs", "h"), "out", ("N", "H"), _ROW, layers.Attention),
        WholeAttention(
            "time-attention",
            ("hs_enc", "hs_dec"),
            "out",
            ("N", "T_dec", "H"),
            _GRID,
            layers.TimeAttention,
        ),
        ScaledDotProduct(
            "scaled-dot-product", ("query", "key", "value"), "out", ("N", "T_dec", "H_v"), _GRID
        ),
    )
}
"""Every operation by its name, from the innermost layer to the outermost."""
