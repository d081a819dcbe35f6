"""What can be run, by name: operations as data, and the one place that runs them."""

from attncli.operations.execution import ENGINES, Execution
from attncli.operations.operation import OPERATIONS, WITH_WEIGHTS, Operation, computable
from attncli.operations.running import Pass, reference_function, run

__all__ = [
    "ENGINES",
    "OPERATIONS",
    "WITH_WEIGHTS",
    "Execution",
    "Operation",
    "Pass",
    "computable",
    "reference_function",
    "run",
]
