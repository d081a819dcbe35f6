"""What a target gives in a case, and what the chain predicts for it."""

from dataclasses import dataclass, field

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.rounding import rounded_to
from attncli.checking.derivatives.jacobians import complex_columns
from attncli.checking.diagnosing.cases import Case
from attncli.checking.targets.target import (
    Layer,
    Target,
    as_gradients,
    how_many,
    kind_of,
    real_array,
)
from attncli.errors import TargetError
from attncli.operations.steps import FORWARD, QKV, STEPS, Calculation, Steps, by_products
from attncli.translation import Sentence

# A result with so many times as many elements as there should be is not looked into.
_MANY = 1 << 10
# Of numbers that are rounded once, so many are those nearest to what is right.
_ROUNDED_ONCE = 0.95


@dataclass
class Observation:
    """What came out of a target in one case.

    Attributes
    ----------
    case : Case
    dout : ndarray
        What backward was given.
    out : ndarray or None
        None where forward gave no usable array.
    weights : ndarray or None
        As ``attention_weight`` and the like hold them, brought to (N, T_dec, T_enc).
    gradients : list of ndarray or None
        None where backward gave no usable arrays.
    misshapen : list of ndarray or None
        What backward gave where that has other shapes than the inputs.
    forward_fault, backward_fault : str
        Why there is nothing, or not what there should be, in a sentence.
    error : TargetError or None
        What was raised.
    logsumexp : ndarray or None
        What is given for every row beside out.
    is_called_that : bool
        Whether a name says that it is the log-sum-exp.
    changed : tuple of int
        Which inputs are not as they were given.
    """

    case: Case
    dout: Array
    out: Array | None = None
    weights: Array | None = None
    gradients: list[Array] | None = None
    misshapen: list[Array] | None = None
    forward_fault: str = ""
    backward_fault: str = ""
    error: TargetError | None = None
    changed: tuple[int, ...] = ()
    logsumexp: Array | None = None
    is_called_that: bool = False
    layer: Layer | None = field(default=None, repr=False)

    @property
    def not_taken(self) -> bool:
        """Whether it raised where it may."""
        return bool(self.forward_fault) and self.case.optional and self.error is not None


def observe(target: Target, case: Case, names: tuple[str, ...]) -> Observation:
    """Run a target forward and backward in a case."""
    if case.one and target.calls.again != "one":
        with target.calls.under(again="one"):
            return observe(target, case, names)
    expected, gradients = case.truth.results, case.truth.gradients
    seen = Observation(case, case.dout)
    try:
        seen.layer = target.start(case.sizes)
        result = seen.layer.forward(*case.inputs, **case.options)
    except TargetError as error:
        seen.error, seen.forward_fault = error, _fault(error, target)
        return seen
    if not case.one:  # which of them it is written to by, nobody could tell
        seen.changed = seen.layer.facts.changed
    out = real_array(result)
    if out is None:
        asked = ": is there a return?" if result is None else ""
        seen.forward_fault = Sentence(
            "forward returns {kind_of}, expected one array{asked}",
            kind_of=kind_of(result),
            asked=asked,
        )
        return seen
    seen.out = out
    if out.shape != expected["out"].shape:
        if out.size > _MANY * case.dout.size:  # it may say so without holding as many
            seen.out = None
        seen.forward_fault = Sentence(
            "forward returns {shape}, expected {expected}",
            shape=out.shape,
            expected=expected["out"].shape,
        )
        seen.backward_fault = "not checked: the shape of forward's result is wrong"
        return seen
    seen.out = np.array(out)  # backward may use the same memory
    seen.weights = kept_weights(seen.layer, expected.get("weights"))
    if case.layer == QKV:
        seen.logsumexp, seen.is_called_that = seen.layer.logsumexp(out.shape[:-1])
    if target.has_backward:
        _observe_backward(seen, names, [gradient.shape for gradient in gradients])
    return seen


def _observe_backward(
    seen: Observation, names: tuple[str, ...], shapes: list[tuple[int, ...]]
) -> None:
    assert seen.layer is not None
    try:
        result = seen.layer.backward(seen.dout)
    except TargetError as error:
        seen.error, seen.backward_fault = error, _fault(error, seen.layer.target)
        return
    expected = ", ".join(f"d{name}" for name in names)
    if result is None:
        seen.backward_fault = Sentence(
            "backward returns None, expected {expected}: is there a return?", expected=expected
        )
        return
    given = as_gradients(result, len(names))
    arrays = [real_array(gradient) for gradient in given]
    if len(given) != len(names):
        seen.backward_fault = Sentence(
            "backward returns {how_many}, expected {count}: {expected}",
            how_many=how_many(given),
            count=len(names),
            expected=expected,
        )
        return
    found = [None if array is None else array.shape for array in arrays]
    if None in found:
        missing = names[found.index(None)]
        seen.backward_fault = Sentence(
            "d{missing} is {kind_of}, expected an array",
            missing=missing,
            kind_of=kind_of(given[found.index(None)]),
        )
        return
    if found != shapes:
        seen.misshapen = [np.array(array) for array in arrays]
        if sorted(map(str, found)) == sorted(map(str, shapes)):
            seen.backward_fault = Sentence(
                "backward returns its gradients in the wrong order, expected {expected}",
                expected=expected,
            )
        else:
            wrong = next(i for i, shape in enumerate(shapes) if found[i] != shape)
            seen.backward_fault = Sentence(
                "d{names} is {found}, expected {shapes} as the input is",
                names=names[wrong],
                found=found[wrong],
                shapes=shapes[wrong],
            )
        return
    seen.gradients = [np.array(array) for array in arrays]


def rounded_at_the_end(seen: Observation) -> bool:
    """Whether what came out is what is right and then rounded, as of code that computes wider."""
    right = rounded_to(seen.case.truth.results["out"], seen.case.precision)
    return seen.out is not None and float(np.mean(seen.out == right)) > _ROUNDED_ONCE


def predict(
    layer: str, case: Case, dout: Array, steps: Steps, *, backward: str = ""
) -> tuple[Array, Array | None, list[Array] | None] | None:
    """Say what the chain with these steps gives, or None where it cannot be computed.

    Parameters
    ----------
    layer, case, dout, steps
        What is computed.
    backward : {"", "formulas", "usual", "consistent"}
        Not at all; by the chain's own steps; by the reference's steps where forward's are
        replaced; or as the exact derivative of its forward.
    """
    # In single precision what overflows does so earlier.
    dtype = np.float32 if case.precision == "float32" else np.float64
    inputs = [array.astype(dtype) for array in case.inputs]
    steps = by_products(steps)
    gradients: list[Array] | None = None
    try:
        chain = Calculation(layer, inputs, case.claims, case.mask, steps, extras=case.placed)
        results = chain.forward()
        if backward == "usual":
            chain.steps = {**STEPS, **{n: s for n, s in steps.items() if n not in FORWARD}}
        if backward in ("formulas", "usual"):
            gradients = chain.backward(dout.astype(np.float64))
        elif backward == "consistent":
            gradients = _derivatives(layer, case, inputs, dout, steps)
    except (ValueError, IndexError):  # shapes that do not fit, as in their code
        return None
    return results["out"], results.get("weights"), gradients


def kept_weights(layer: Layer, expected: Array | None) -> Array | None:
    """Find the weights that a layer keeps, in the shape in which the reference has them."""
    if expected is None:
        return None
    for name in ("attention_weights", "attention_weight", "weights"):
        held = layer.held(name)
        array = real_array(held) if held is not None else None
        if array is None:
            continue
        if array.ndim == 3 and name == "attention_weights":
            # The book's list: one (N, T_enc) for every decoder step; or an array of either order.
            steps_first = array.swapaxes(0, 1)
            if isinstance(held, (list, tuple)) or array.shape != expected.shape:
                array = steps_first
            elif array.shape == steps_first.shape:
                continue  # nothing says which
        if array.shape == expected.shape:
            return np.array(array)
    return None


def _derivatives(
    layer: str, case: Case, inputs: list[Array], dout: Array, steps: Steps
) -> list[Array]:
    """Differentiate the chain's forward by complex step."""
    moved = [array.astype(np.complex128) for array in inputs]

    def evaluate() -> Array:
        return Calculation(
            layer, moved, case.claims, case.mask, steps, extras=case.placed
        ).forward()["out"]

    def reduce(column: Array) -> Array:
        return np.asarray(np.vdot(dout, column) if column.shape == dout.shape else 0.0)

    gradients = []
    for point in moved:
        gradients.append(complex_columns(evaluate, point, reduce).reshape(point.shape))
    return gradients


def _fault(error: TargetError, target: Target) -> str:
    """The message without the target's name, which stands above it, and what it means."""
    text = str(error).removeprefix(f"{target.where}: ")
    return text if error.hint is None else f"{text}: {error.hint}"
