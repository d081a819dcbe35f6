"""A target on random inputs: what it gives, and whether it gives the same every time."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import Tolerance, near
from attncli.checking.derivatives.judging import Moved
from attncli.checking.derivatives.precision import coarser, precision_of
from attncli.checking.targets.given import Shapes
from attncli.checking.targets.target import (
    Layer,
    Target,
    as_gradients,
    how_many,
    kind_of,
    real_array,
    same,
)
from attncli.checking.targets.unfilled import describe_unfilled
from attncli.errors import CodeError, NoLayerError, TargetError
from attncli.tensors import random_tensor
from attncli.translation import Sentence

_DOUBLED = Tolerance.of_largest(1e-3, least=1e-12)
# Of a larger result, backward is not run for each unit vector.
_JACOBIAN_ROWS = 128


def no_backward(target: Target, why: str = "") -> TargetError:
    """Say that there is none, and what can be had instead."""
    return NoLayerError(
        Sentence(
            "{where}: has no backward that could be proved{why}",
            where=target.where,
            why=why and f": {why}",
        ),
        hint=Sentence("attn check {where} judges forward alone", where=target.where),
    )


class Trial:
    """One target on random inputs.

    Parameters
    ----------
    target : Target
    sizes : mapping of str to int
    given : mapping of str to tuple of int
        Shapes that names do not say.
    seed : int
    dtype : str
        Of the inputs.
    filled : bool, default False
        Whether parameters that begin with zeros are given other numbers, so that they matter.

    Attributes
    ----------
    inputs, parameters, started : list of ndarray
        What it is started with, which may be what it is not left with, comes last.
    parameter_names : tuple of str
    out, dout : ndarray
    gradients : list of (ndarray or None)
        Of each input; None where backward gave no array of its shape.
    parameter_gradients : list of ndarray
    problems, notes : list of str
        What is wrong beside numbers, and what should be known.

    Raises
    ------
    TargetError
        If it cannot be started or run.
    """

    def __init__(
        self, target: Target, sizes: Mapping[str, int], given: Shapes, seed: int, dtype: str,
        *, filled: bool = False,
    ) -> None:  # fmt: skip
        self.target, self.given, self.seed = target, given, seed
        self.sizes: Mapping[str, int] = target.fitted(sizes)
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.dtype = dtype
        self.inputs = target.draw(target.shapes(sizes, given), seed, dtype)
        self.layer = self._start()
        self.started = [parameter.copy() for parameter in self.layer.parameters]
        for number, parameter in enumerate(self.layer.parameters if filled else ()):
            if not parameter.any() and parameter.dtype.kind == "f" and parameter.flags.writeable:
                drawn = random_tensor(f"parameter {number}", parameter.shape, seed=seed)
                self.layer.assign(number, drawn.astype(parameter.dtype) / 2)
        self.parameters = [parameter.copy() for parameter in self.layer.parameters]
        self.parameter_names = self.layer.parameter_names
        self.out = self._output(self._first_forward())
        if alone := self.layer.facts.alone:
            raise no_backward(target, alone)
        self.dout = random_tensor("dout", self.out.shape, seed=seed, dtype=self.out.dtype)
        self.gradients = self._gradients(self.layer.backward(self.dout.copy()))
        self.parameter_gradients = [gradient.copy() for gradient in self.layer.gradients]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of what there is to differentiate with respect to."""
        return [array.shape for array in (*self.inputs, *self.parameters)]

    @property
    def elements(self) -> int:
        """How many elements there are to differentiate with respect to."""
        return sum(array.size for array in (*self.inputs, *self.parameters))

    def fresh(self) -> Layer:
        """Another instance, with the first one's parameters: a constructor may draw them."""
        layer = self._start()
        for number, (theirs, ours) in enumerate(
            zip(layer.parameters, self.parameters, strict=False)
        ):
            if theirs.shape == ours.shape and theirs.flags.writeable:
                layer.assign(number, ours)
        return layer

    def forward(self, layer: Layer, inputs: Sequence[Array], **options: Any) -> Any:
        """Run forward, always with the same random numbers (dropout), if it takes any."""
        with self.target.calls.under(seed=self.seed % 2**32):
            return layer.forward(*inputs, **options)

    def moved(self, which: int, precision: str) -> Moved:
        """Forward as a function of one of its inputs, by real numbers."""
        inputs = self.moving(precision)
        layer = self.fresh()
        return Moved(lambda: self.forward(layer, inputs), inputs[which], precision)

    def moved_analytically(self, which: int) -> Moved:
        """The same by complex numbers."""
        inputs = [array.astype(np.complex128) for array in self.inputs]
        layer = self.fresh()
        return Moved(lambda: self.forward(layer, inputs), inputs[which], "float64")

    def moving(self, precision: str) -> list[Array]:
        """Inputs to move: what is computed more coarsely than float32 need not round them too."""
        dtype = "float64" if precision == "float64" else "float32"
        return [array.astype(dtype) for array in self.inputs]

    def precision(self) -> str:
        """The precision that the target computes in, with inputs as precise as it takes."""
        if self.target.trusted:
            return self.dtype
        found = precision_of(self._output(self.forward(self.fresh(), self.inputs)))
        return coarser(found, self.dtype)

    def backward_rows(self) -> list[Array | None]:
        """What backward makes of each unit vector, for every input: (out elements, elements).

        None where that is no array, out is large, or the target ours: a random dout says as much
        of a backward pass that is known to be linear.
        """
        number = len(self.inputs)
        if self.target.trusted or self.out.size > _JACOBIAN_ROWS:
            return [None] * number
        rows: list[list[Array]] = [[] for _ in range(number)]
        layer = self.fresh()
        for index in np.ndindex(self.out.shape):
            unit = np.zeros_like(self.out)
            unit[index] = 1
            self.forward(layer, self.inputs)
            result = as_gradients(layer.backward(unit), number)
            for row, gradient in zip(rows, result, strict=False):
                array = real_array(gradient)
                if array is not None:
                    row.append(np.array(array, np.float64).ravel())
        return [
            np.array(row) if len(row) == self.out.size and len({x.size for x in row}) == 1 else None
            for row in rows
        ]

    def call_again(self) -> None:
        """Call it again in several ways that must make no difference; report those that do."""
        number = len(self.inputs)

        def run() -> list[Any]:
            layer = self.fresh()
            held = np.array(self.forward(layer, self.inputs))
            return [held, *as_gradients(layer.backward(self.dout.copy()), number)]

        names = ["out", *(f"d{name}" for name in self.target.inputs)]
        # Replacing np.empty in every module takes time that our own code need not be given.
        unfilled = "" if self.target.trusted else describe_unfilled(self.target.calls, run, names)
        if unfilled:
            self.problems.append(unfilled)
            return
        fresh = self.fresh()
        plain = self._output(fresh.forward(*self.inputs))  # without a seed: shows what is random
        changed = fresh.facts.changed
        if not same(plain, self.out) or not same(self.fresh().forward(*self.inputs), plain):
            self.problems.append(
                "forward is not deterministic: the same input gives different results "
                "(dropout left on?); gradients are checked with NumPy's random seed fixed"
            )
            return
        fresh.backward(self.dout)
        dout_changed, again = bool(fresh.facts.changed), self._backward_again(fresh)
        for which in changed:
            self.problems.append(
                Sentence("the input {inputs} is changed in place", inputs=self.target.inputs[which])
            )
        if dout_changed:
            self.problems.append("dout is changed in place")
        self.forward(self.layer, self.inputs)
        dagain = as_gradients(self.layer.backward(self.dout.copy()), number)
        pairs = zip(self.gradients, dagain, strict=False)
        if any(before is not None and not same(before, after) for before, after in pairs):
            self.problems.append("a second forward and backward of the same instance gives others")
        elif adds_up(self.gradients, again):
            self.problems.append("a second backward after one forward adds to the gradients")
        elif not same(self.parameter_gradients, self.layer.gradients):
            self.problems.append(
                "grads are not the same after a second forward and backward: are they added to "
                "(+=)? self.grads[0][...] = dW begins anew"
            )

    def _backward_again(self, layer: Layer) -> list[Array | None]:
        """What a second backward gives; nothing where what forward kept is used up."""
        try:
            return list(map(real_array, as_gradients(layer.backward(self.dout), len(self.inputs))))
        except TargetError:
            return []

    def fits(self, name: str, gradient: Array, shape: tuple[int, ...]) -> bool:
        """Whether a gradient has the shape of its input or parameter; else that is reported."""
        if gradient.shape == shape:
            return True
        self.problems.append(
            Sentence(
                "{name} is {shape}, expected {expected} as the input is",
                name=name,
                shape=gradient.shape,
                expected=shape,
            )
        )
        return False

    # What the target gives.

    def _start(self) -> Layer:
        return self.target.start(self.sizes, self.given, self.seed)

    def _first_forward(self) -> Any:
        """Run forward; where it refuses float64, everything goes on in float32."""
        try:
            return self.forward(self.layer, self.inputs)
        except TargetError as refused:
            if self.dtype != "float64":
                raise
            narrow = [array.astype(np.float32) for array in self.inputs]
            self.layer = self.fresh()
            try:
                result = self.forward(self.layer, narrow)
            except TargetError:
                raise refused from None
            self.dtype, self.inputs = "float32", narrow
            self.notes.append(
                "the code does not take float64: inputs are float32, and derivatives are "
                "differences of float32 numbers"
            )
            return result

    def _output(self, result: Any) -> Array:
        out = real_array(result)
        if out is None:
            raise CodeError(
                Sentence(
                    "{where}: forward returns {kind_of}, expected one array",
                    where=self.target.where,
                    kind_of=kind_of(result),
                ),
                hint="is there a return?" if result is None else None,
            )
        # A copy: backward may use the same memory.
        return out.astype(np.float64) if out.dtype.kind in "biu" else np.array(out)

    def _gradients(self, result: Any) -> list[Array | None]:
        number = len(self.inputs)
        given = as_gradients(result, number)
        names = ", ".join(f"d{name}" for name in self.target.inputs)
        if result is None:
            self.problems.append(Sentence("backward returns None, expected {names}", names=names))
            return [None] * number
        if len(given) != number:
            self.problems.append(
                Sentence(
                    "backward returns {how_many}, expected {number}: {names}",
                    how_many=how_many(given),
                    number=number,
                    names=names,
                )
            )
        found: list[Array | None] = [None] * number
        for which, (name, value) in enumerate(zip(self.target.inputs, given, strict=False)):
            array = real_array(value)
            if array is None:
                self.problems.append(
                    Sentence(
                        "d{name} is {kind_of}, expected an array", name=name, kind_of=kind_of(value)
                    )
                )
            elif self.fits(f"d{name}", array, self.inputs[which].shape):
                found[which] = np.array(array)
        return found


def adds_up(once: Sequence[Array | None], again: Sequence[Array | None]) -> bool:
    """Whether a gradient of a second backward, after the same forward, is that and the first's."""
    return any(
        a is not None and b is not None and a.any() and near(b, 2 * a, _DOUBLED).agrees
        for a, b in zip(once, again, strict=False)
    )
