"""The situations in which a layer is compared with the reference, meant to expose mistakes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import Tolerance
from attncli.checking.targets.target import shape_in_the_book
from attncli.core.semantics import Semantics
from attncli.operations import OPERATIONS
from attncli.operations.steps import QKV
from attncli.tensors import default_axes, random_tensor

# Beside the largest element; what that is measured against is at least this: below, it is rounding.
_SMALLEST_SCALE = 1e-3


def beside_largest(relative: float) -> Tolerance:
    """How far what was observed may be from what is right; NaN agrees with NaN alone."""
    return Tolerance.of_largest(relative, least=_SMALLEST_SCALE)


_FLOAT64 = beside_largest(1e-9)
_FLOAT32 = beside_largest(1e-4)
# Scores of some thousands have errors of some ten-thousandths in float32, and so have their exp.
_FLOAT32_LARGE = beside_largest(1e-2)
_PRIMES = {"N": 2, "T_dec": 3, "T_enc": 5, "H": 7}
_EQUAL = {"N": 4, "T_dec": 4, "T_enc": 4, "H": 4}
# So large that exp overflows unless the maximum is subtracted.
_LARGE = 30.0

MASK_NAMES = ("mask", "attn_mask", "attention_mask")
"""What a mask of (…, T_dec, T_enc) may be called."""
PADDING_NAMES = ("enc_mask", "src_mask", "key_mask", "padding_mask", "key_padding_mask")
"""What a mask of (N, T_enc) may be called."""
_OPTION_NAMES = {
    "scale": ("scale", "scaling"),
    "causal": ("causal", "is_causal"),
    "softcap": ("softcap", "logit_cap"),
    "align": ("align",),
    "window": ("window", "window_size"),
}


@dataclass(frozen=True)
class Case:
    """One situation.

    Attributes
    ----------
    name : str
    inputs : list of ndarray
        What forward is called with.
    claims : Semantics
    mask : ndarray or None
        The mask as the reference takes it, (…, T_dec, T_enc).
    options : dict of str to object
        What the target's forward is given beside.
    tolerance : Tolerance
        What is no difference.
    probe : bool
        Whether a diagnosis may be built on it.
    optional : bool
        Whether it is no fault if the target does not take it.
    lenient : bool
        Whether a difference is worth a note only.
    sizes : dict of str to int
        For the constructor.
    """

    name: str
    inputs: list[Array]
    claims: Semantics
    mask: Array | None = None
    options: dict[str, Any] = field(default_factory=dict)
    tolerance: Tolerance = _FLOAT64
    probe: bool = True
    optional: bool = False
    lenient: bool = False
    sizes: dict[str, int] = field(default_factory=dict)


class Suite:
    """The cases for one layer.

    Parameters
    ----------
    layer : str
        A key of `attncli.operations.OPERATIONS`.
    claims : Semantics
        What the target claims to be.
    parameters : mapping of str to object
        The optional arguments of its forward, and their defaults.
    axes : int
        How many axes query, key and value have: 4 with heads.
    narrow : bool
        Whether everything is in float32, for a target that takes nothing else.
    """

    def __init__(
        self,
        layer: str,
        claims: Semantics,
        parameters: Mapping[str, Any],
        axes: int = 3,
        *,
        narrow: bool = False,
    ) -> None:
        self.layer, self.claims, self.parameters, self.axes = layer, claims, parameters, axes
        self.narrow = narrow

    def ordinary(self) -> Case:
        """The first case: different prime sizes."""
        return self._taken(self._case("different prime sizes", _PRIMES))

    def square(self) -> Case:
        """All sizes equal: some mistakes raise in every other case, and give numbers here."""
        return self._taken(self._case("all sizes equal", _EQUAL))

    def sized(self, name: str, sizes: Mapping[str, int]) -> Case:
        """Make a case of other sizes."""
        return self._taken(self._case(name, sizes))

    def cases(self) -> Iterator[Case]:
        """Every case, the most telling first."""
        for case in self._cases():
            yield self._taken(case)

    def _taken(self, case: Case) -> Case:
        """The case in the dtype that the target takes."""
        if not self.narrow or case.inputs[0].dtype.kind != "f":
            return case
        tolerance = _FLOAT32_LARGE if case.name.startswith("large") else _FLOAT32
        options = {
            name: value.astype(np.float32)
            if isinstance(value, np.ndarray) and value.dtype.kind == "f"
            else value
            for name, value in case.options.items()
        }
        inputs = [array.astype(np.float32) for array in case.inputs]
        return replace(case, inputs=inputs, options=options, tolerance=tolerance)

    def _cases(self) -> Iterator[Case]:
        yield self.ordinary()
        if self._has("T_dec"):
            yield self._case("more decoder steps than encoder steps", {**_PRIMES, "T_dec": 11})
        yield self.square()
        yield self._case("one item: N = 1", {**_PRIMES, "N": 1}, probe=False)
        yield self._case("one step: T = 1", {**_PRIMES, "T_dec": 1, "T_enc": 1}, probe=False)
        if self._has("H"):
            yield self._case("one unit: H = 1", {**_PRIMES, "H": 1}, probe=False)
        large = "large values" if self.layer == "weight-sum" else "large scores"
        yield self._scaled(large, _LARGE * (_LARGE if self.layer == "softmax" else 1))
        yield replace(self._scaled("tiny scores", 1e-8), probe=False)
        yield self._equal()
        yield from self._dtypes()
        apart = [np.repeat(array, 2, axis=-1)[..., ::2] for array in self.ordinary().inputs]
        yield replace(self.ordinary(), name="non-contiguous inputs", inputs=apart, probe=False)
        if self.layer == QKV:
            yield from self._general()
        yield from self._masks()
        yield from self._options()

    def _general(self) -> Iterator[Case]:
        """What only query, key and value have."""
        if self.axes == 4:
            grouped = self._case("grouped heads: 6 queries, 2 keys", _PRIMES)
            query, key, value = grouped.inputs
            query = random_tensor("query", (2, 6, *query.shape[-2:]), seed=1)
            grouped = replace(grouped, inputs=[query, key[:, :2], value[:, :2]], optional=True)
            yield grouped
        wider = self.ordinary()
        query, key, value = wider.inputs
        value = np.concatenate([value, value[..., :4] + 1], axis=-1)
        yield replace(
            wider,
            name="values wider than keys",
            inputs=[query, key, value],
            probe=False,
            optional=True,
        )

    def _dtypes(self) -> Iterator[Case]:
        ordinary = self.ordinary()
        narrow = [array.astype(np.float32) for array in ordinary.inputs]
        yield replace(ordinary, name="float32", inputs=narrow, tolerance=_FLOAT32, probe=False)
        whole = [np.rint(2 * array).astype(np.int64) for array in ordinary.inputs]
        yield replace(
            ordinary, name="whole numbers (int64)", inputs=whole, probe=False, lenient=True,
            optional=True,
        )  # fmt: skip

    def _masks(self) -> Iterator[Case]:
        rng = np.random.RandomState(7)
        for name in (*MASK_NAMES, *PADDING_NAMES):
            if name not in self.parameters or not self._has("scores"):
                continue
            for label, sizes in (
                ("boolean mask", _PRIMES),
                ("boolean mask, equal sizes", _EQUAL),
            ):
                base = self._case(label, sizes)
                mask = rng.random_sample(self._mask_shape(name, sizes)) < 0.6
                mask[..., 0] = True
                mask[..., -1] = False
                yield self._masked(base, name, mask)
            base = self._case("row with every key masked", _PRIMES)
            mask = np.ones(self._mask_shape(name, _PRIMES), bool)
            mask[0] = False
            yield self._masked(base, name, mask)
            if name in MASK_NAMES:
                base = self._case("floating mask", _PRIMES)
                bias = rng.standard_normal(self._mask_shape(name, _PRIMES))
                yield replace(self._masked(base, name, bias), optional=True)

    def _masked(self, case: Case, name: str, mask: Array) -> Case:
        ours = mask
        if self.layer in ("attention", "attention-weight"):
            ours = mask[:, None, :]
        elif name in PADDING_NAMES:
            ours = mask[:, None, :] if self.axes < 4 else mask[:, None, None, :]
        return replace(case, mask=ours, options={**case.options, name: mask})

    def _mask_shape(self, name: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
        N, T_dec, T_enc = sizes["N"], sizes["T_dec"], sizes["T_enc"]
        if name in PADDING_NAMES or self.layer in ("attention", "attention-weight"):
            return (N, T_enc)
        return {2: (T_dec, T_enc), 3: (N, T_dec, T_enc), 4: (N, 1, T_dec, T_enc)}[self.axes]

    def _options(self) -> Iterator[Case]:
        """What forward can be asked for, whatever it claims to be by itself."""
        if not self._has("scores"):
            return
        for claim, value, label in (
            ("scale", 0.3, "scale 0.3"),
            ("causal", "upper_left", "causal"),
            ("softcap", 1.5, "softcap 1.5"),
            ("window", 1, "window 1"),
            ("window", (2, 1), "window 2,1"),
        ):
            name = self._parameter(claim)
            if name is None or getattr(self.claims, claim) is not None:
                continue
            # Of a window that is one number both sides are the same.
            if not isinstance(value, tuple) or isinstance(self.parameters[name], tuple):
                changed: dict[str, Any] = {claim: value}
                claims = replace(self.claims, **changed)
                for more, sizes in (("", _PRIMES), (", more queries", {**_PRIMES, "T_dec": 11})):
                    yield self._case(label + more, sizes, claims=claims)

    def _case(
        self, name: str, sizes: Mapping[str, int], claims: Semantics | None = None, **more: Any
    ) -> Case:
        claims = self.claims if claims is None else claims
        inputs = [random_tensor(x, self._shape(x, sizes)) for x in OPERATIONS[self.layer].inputs]
        options = {}
        for claim in _OPTION_NAMES:
            parameter, value = self._parameter(claim), getattr(claims, claim)
            if parameter is not None and value is not None:
                flag = parameter == "is_causal" or isinstance(self.parameters[parameter], bool)
                options[parameter] = True if claim == "causal" and flag else value
                if claim == "window" and isinstance(self.parameters[parameter], tuple):
                    options[parameter] = value if isinstance(value, tuple) else (value, value)
        return Case(name, inputs, claims, options=options, sizes=dict(sizes), **more)

    def _shape(self, name: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
        shape = shape_in_the_book(name, sizes)
        if self.layer == QKV:
            heads = {4: (sizes["N"], 3), 3: (sizes["N"],), 2: ()}[self.axes]
            return (*heads, *shape[-2:])
        return shape

    def _scaled(self, name: str, factor: float) -> Case:
        case = self.ordinary()
        inputs = [factor * array for array in case.inputs]
        return replace(case, name=name, inputs=inputs)

    def _equal(self) -> Case:
        """Queries (or scores) of zeros, so that every key gets the same weight."""
        case = self._case("equal scores", _PRIMES, probe=False)
        which = 0 if self.layer in ("softmax", QKV) else 1
        value = 1 / _PRIMES["T_enc"] if self.layer == "weight-sum" else 0.0
        inputs = case.inputs.copy()
        inputs[which] = np.full_like(inputs[which], value)
        return replace(case, inputs=inputs)

    def _parameter(self, claim: str) -> str | None:
        return next((name for name in _OPTION_NAMES[claim] if name in self.parameters), None)

    def _has(self, what: str) -> bool:
        if what == "scores":
            return self.layer not in ("softmax", "weight-sum")
        axes = {axis for name in OPERATIONS[self.layer].inputs for axis in default_axes(name)}
        return what in axes and not (self.layer == "softmax" and what == "T_dec")
