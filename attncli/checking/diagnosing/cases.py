"""The situations in which a layer is compared with the reference, meant to expose mistakes."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import Tolerance
from attncli.checking.comparing.budget import allowances
from attncli.checking.comparing.rounding import HALF, Rounding, rounded_to, rounding
from attncli.checking.derivatives.boundaries import HEADED, LARGE, Sizes, work
from attncli.checking.diagnosing.senses import TAKES_PART, TIMES, Sense
from attncli.checking.targets.arguments import as_options, beside, windows
from attncli.checking.targets.target import shape_in_the_book
from attncli.checking.targets.wire import dtype_named
from attncli.core.extras import Extras, Placed, standard_slopes
from attncli.core.semantics import Semantics
from attncli.operations import OPERATIONS
from attncli.operations.steps import PRODUCTS, QKV, Calculation
from attncli.tensors import default_axes, random_tensor

# Beside the largest element; what that is measured against is at least this: below, it is rounding.
_SMALLEST_SCALE = 1e-3


def beside_largest(relative: float) -> Tolerance:
    """How far what was observed may be from what is right; NaN agrees with NaN alone."""
    return Tolerance.of_largest(relative, least=_SMALLEST_SCALE)


# What is allowed beside what rounding makes of a calculation: constants are written with nine
# digits or, where float32 is meant, with six; and what underflows is nothing.
_TOLERANCES = {
    "float64": beside_largest(1e-9),
    "float32": beside_largest(1e-6),
    **dict.fromkeys(HALF, beside_largest(0.0)),
}
_PRIMES = {"N": 2, "T_dec": 3, "T_enc": 5, "H": 7}
_EQUAL = {"N": 4, "T_dec": 4, "T_enc": 4, "H": 4}
_HEADS = 3
# What dropout drops of the weights where it is given what to keep.
_DROPPED = 0.25
# Across the tiles that kernels work in.
_LARGE_SIZES: tuple[Sizes, ...] = (
    *LARGE,
    # Whole tiles, and nothing behind them; one query or key beside many.
    {"N": 1, "T_dec": 128, "T_enc": 128, "H": 64}, {"N": 1, "T_dec": 32, "T_enc": 128, "H": 128},
    {"N": 1, "T_dec": 1, "T_enc": 257}, {"N": 1, "T_dec": 35, "T_enc": 1},
    *HEADED[:-1],
)  # fmt: skip
_THOROUGH_SIZES: tuple[Sizes, ...] = (
    {"H": 257}, {"T_enc": 1025}, {"T_dec": 1025}, {"N": 1, "T_dec": 259, "T_enc": 517, "H": 137},
    {"N": 1, "heads": 40, "T_dec": 67, "T_enc": 131, "H": 71},
)  # fmt: skip
# Where a band crosses tiles of queries and keys.
_ACROSS = ({"N": 1, "T_dec": 131, "T_enc": 257}, {"N": 1, "T_dec": 257, "T_enc": 131})
_THOROUGH_ACROSS = ({"N": 1, "T_dec": 513, "T_enc": 1025}, {"N": 1, "T_dec": 1025, "T_enc": 513})
# So large that exp overflows unless the maximum is subtracted.
_LARGE = 30.0
# So far below 0 that exp gives 0, and further than a maximum that begins at −5e4.
_BELOW, _FAR_BELOW = 3_000.0, 60_000.0
# What float16 holds before it is scaled, and in base 2.
_HELD = 30_000.0

# The arrays beside query, key and value, which are the only layer's that have any.
_EXTRAS = ("sinks", "alibi", "segments", "keep")


_HOLDING = {
    "float64": ("float64",),
    "float32": ("float32", "float64"),
    "float16": ("float16", "float32", "float64"),
    "bfloat16": ("bfloat16", "float32", "float64"),
}


def dtypes_for(precision: str) -> Iterator[tuple[str, Any]]:
    """Give what to compute in, and the dtype of the arrays: as asked, then as it may be taken.

    Examples
    --------
    >>> [(precision, str(dtype)) for precision, dtype in dtypes_for("float32")][:3]
    [('float32', 'float32'), ('float32', 'float64'), ('float64', 'float64')]
    """
    asked = [(precision, dtype) for dtype in _HOLDING[precision]]
    for computed_in, name in [
        *asked,
        *((other, other) for other in _HOLDING if other != precision),
    ]:
        with contextlib.suppress(ImportError):  # NumPy has no bfloat16 of its own
            yield computed_in, dtype_named(name)


FLOATING_MASK = "floating mask"
"""A case that is looked at apart: not everybody adds it."""


@dataclass(frozen=True)
class Case:
    """One situation.

    Attributes
    ----------
    name : str
    layer : str
    inputs : list of ndarray
        What forward is called with.
    claims : Semantics
    mask : ndarray or None
        The mask as the reference takes it, (…, T_dec, T_enc).
    extras : Extras
        Sinks, slopes, lengths, segments and dropout, as the reference takes them.
    options : dict of str to object
        What the target's forward is given beside.
    precision : str
        The dtype that is computed in.
    tolerance : Tolerance
        What is no difference, beside rounding.
    probe : bool
        Whether a diagnosis may be built on it.
    optional : bool
        Whether it is no fault if the target does not take it.
    lenient : bool
        Whether a difference is worth a note only.
    alike : bool
        Whether its scores are the same for every key, whatever rounding does.
    one : bool
        Whether what is equal among its inputs is one array object.
    dout_of : callable
        Makes what backward is given of what is drawn for it.
    sizes : dict of str to int
        For the constructor.
    resized : callable or None
        Makes the same case of other sizes, where they are what it is about.
    """

    name: str
    layer: str
    inputs: list[Array]
    claims: Semantics
    mask: Array | None = None
    extras: Extras = Extras()  # noqa: RUF009 (it is immutable)
    options: dict[str, Any] = field(default_factory=dict)
    precision: str = "float64"
    tolerance: Tolerance = _TOLERANCES["float64"]
    probe: bool = True
    optional: bool = False
    lenient: bool = False
    alike: bool = False
    one: bool = False
    dout_of: Callable[[Array], Array] = np.asarray
    sizes: dict[str, int] = field(default_factory=dict)
    resized: "Callable[[Mapping[str, int]], Case] | None" = None

    @cached_property
    def truth(self) -> "Truth":
        """What is right."""
        wide = [array.astype(np.float64) for array in self.inputs]
        chain = Calculation(self.layer, wide, self.claims, self.mask, PRODUCTS, extras=self.placed)
        results = chain.forward()
        dout = self.dout_of(random_tensor("dout", results["out"].shape))
        dout = rounded_to(dout, self.precision).astype(np.float64)
        gradients = chain.backward(dout)
        if self.precision in HALF and OPERATIONS[self.layer].is_whole:
            return Truth(results, gradients, dout, self._budget(wide, dout))
        return Truth(results, gradients, dout, rounding(chain, dout, self.precision))

    def _budget(self, inputs: list[Array], dout: Array) -> Rounding:
        """What half precision is allowed, by head and row."""
        operation, mask = OPERATIONS[self.layer], self.mask
        given = {**dict(zip(operation.inputs, inputs, strict=True)), "dout": dout}
        if operation.one_step and mask is not None:
            mask = mask[:, 0]
        found = allowances(
            operation, given, self.precision, self.claims, mask=mask, extras=self.extras
        )
        gradients = [found[name].allowed for name in operation.gradients]
        if self.alike:  # how far below 0 they are bears on no weight
            which = 0 if self.layer == QKV else 1
            inputs = [x * (i != which) for i, x in enumerate(inputs)]
            found = allowances(
                operation, dict(zip(operation.inputs, inputs, strict=True)), self.precision,
                self.claims, mask=mask, extras=self.extras,
            )  # fmt: skip
        results = {"out": operation.result, "weights": operation.weights}
        return Rounding(
            {ours: found[name].allowed for ours, name in results.items() if name in found},
            gradients,
        )

    @property
    def placed(self) -> Placed:
        """The extras, with the axes of the scores."""
        if not self.extras:
            return Placed()
        *lead, T_dec, _ = self.inputs[0].shape
        return self.extras.placed(tuple(lead), T_dec, self.inputs[1].shape[-2])

    @property
    def dout(self) -> Array:
        """What backward is given."""
        dtype = self.inputs[0].dtype
        dout = self.truth.dout.astype(np.float64 if dtype.kind == "i" else dtype)
        return dout if self.inputs[0].flags.c_contiguous else _lying_like(self.inputs[0], dout)

    def tolerance_of(self, name: str, right: Array) -> Tolerance:
        """What is no difference of a result or a gradient, beside rounding.

        Where a gradient is nothing, since what it is made of cancels out, it is measured against
        that: what is added to a sum in the denominator is left over there.
        """
        small = np.abs(right[np.isfinite(right)]).max(initial=0) < _SMALLEST_SCALE
        if not name.startswith("d") or not small or self.precision in HALF:
            return self.tolerance
        least = max(_SMALLEST_SCALE, self._cancelling())
        return Tolerance.of_largest(self.tolerance.relative, least=least)

    def _cancelling(self) -> float:
        """The size of what the gradients of query and key are made of."""
        if self.layer not in (QKV, "attention", "time-attention"):
            return 0.0
        hs, h = self.inputs[0], self.inputs[1]
        query, key, value = self.inputs if self.layer == QKV else (h, hs, hs)
        dout = self.truth.dout[..., None, :] if self.layer == "attention" else self.truth.dout
        if query.ndim > 3:
            value = value.repeat(query.shape[-3] // value.shape[-3], axis=-3)
        dweights = np.abs(dout @ value.astype(np.float64).swapaxes(-1, -2)).max()
        scale = OPERATIONS[self.layer].scale(self.claims, query.shape[-1])
        largest = max(float(np.abs(x).max()) for x in (query, key))
        return float(2 * abs(scale) * dweights * largest)

    @property
    def work(self) -> int:
        """How many products there are to be added up."""
        return work(self.sizes)


def _apart(array: Array) -> Array:
    """The same numbers with gaps between them."""
    return np.repeat(array, 2, axis=-1)[..., ::2]


def _turned(array: Array) -> Array:
    """The same numbers with the axes in memory the other way round."""
    return np.asarray(array, order="F")


def _lying_like(other: Array, array: Array) -> Array:
    return _turned(array) if other.flags.f_contiguous else _apart(array)


def _with_zeros(dout: Array) -> Array:
    """Without the first item, and every other row."""
    kept = dout.copy()
    kept[0] = 0
    kept[..., ::2, :] = 0
    return kept


@dataclass(frozen=True)
class Truth:
    """What is right in a case, and how far off rounding may be.

    Attributes
    ----------
    results : dict of str to ndarray
        As forward gives them.
    gradients : list of ndarray
    dout : ndarray
        What they belong to.
    rounding : Rounding
    """

    results: dict[str, Array]
    gradients: list[Array]
    dout: Array
    rounding: Rounding


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
    precision : str
        What is computed in.
    dtype : dtype, optional
        What arrays have that hold such numbers; default: the same.
    throughout : bool
        Whether scores are held in this precision too, which limits their size.
    said : mapping of str to int
        Sizes that are the same in every case.
    blocks : mapping of str to int
        Of what sizes are multiples.
    alike : bool
        Whether there are as many queries as keys.
    framework : bool
        Whether it may take no more than one dtype of floating-point numbers.
    is_taken, refusal : bool, str
        Whether forward has been found to take it, and why it does not take what was tried before.
    senses : dict of str to Sense
        In which sense it takes a mask, by its name, where that is not ours.
    """

    throughout = False
    framework = False
    is_taken = False
    refusal = ""

    def __init__(
        self,
        layer: str,
        claims: Semantics,
        parameters: Mapping[str, Any],
        axes: int = 3,
        *,
        precision: str = "float64",
        dtype: Any = None,
        said: Mapping[str, int] = MappingProxyType({}),
        blocks: Mapping[str, int] = MappingProxyType({}),
        alike: bool = False,
    ) -> None:
        self.layer, self.claims, self.parameters, self.axes = layer, claims, parameters, axes
        self.precision, self.dtype = precision, np.dtype(dtype or precision)
        self.said, self.blocks, self.alike = said, blocks, alike
        self.primes, self.equal = (self._whole({**x, **said}) for x in (_PRIMES, _EQUAL))
        self.senses: dict[str, Sense] = {}
        # Where queries stand where nobody says it, and code has causal order or windows to choose.
        self.align = "upper_left"

    def _whole(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """The sizes, as they are in whole blocks, and where queries are as many as keys."""
        if self.alike and {"T_dec", "T_enc"} <= sizes.keys():
            sizes = {
                **sizes,
                **dict.fromkeys(("T_dec", "T_enc"), max(sizes["T_dec"], sizes["T_enc"])),
            }
        blocks = {axis: self.blocks.get(axis, 1) for axis in sizes}
        return {axis: -(-size // blocks[axis]) * blocks[axis] for axis, size in sizes.items()}

    def ordinary(self) -> Case:
        """The first case: different prime sizes."""
        return self._taken(self._case("different prime sizes", self.primes))

    def square(self) -> Case:
        """All sizes equal: some mistakes raise in every other case, and give numbers here."""
        return self._taken(self._case("all sizes equal", self.equal))

    def large(self, *, thorough: bool = False, grouped: bool = True) -> list[Case]:
        """Cases of sizes that cross tiles, those with the least to do first."""
        cases = [
            self._large(sizes)
            for sizes in _LARGE_SIZES + (_THOROUGH_SIZES if thorough else ())
            if all(map(self._has, sizes))
        ]
        across = _ACROSS + (_THOROUGH_ACROSS if thorough else ())
        if self._has("scores") and self._has("T_dec"):
            if self.layer == QKV or (self.claims.causal, self.claims.window) != (None, None):
                cases += [self._large(sizes) for sizes in across]
            for label, claims in self._claimed():
                if claims.causal != self.claims.causal or claims.window != self.claims.window:
                    every = (self._more_queries(sizes, claims) for sizes in across)
                    cases += [self._large(sizes, label, claims) for sizes in every]
            if mask := self._parameter("mask"):
                cases.append(self._large(across[0], "boolean mask", masked=mask))
            if (lengths := self._parameter("kv_lengths")) and self._is_unplaced:
                cases.append(self._large({"N": 5, **across[0]}, "lengths of keys", masked=lengths))
        if grouped and self._has("heads"):
            cases.append(self._large(HEADED[-1], "groups"))
        return sorted(filter(self._is_said, cases), key=lambda case: case.work)

    def _large(
        self, changed: Mapping[str, int], label: str = "", claims: Semantics | None = None, *,
        masked: str = "",
    ) -> Case:  # fmt: skip
        """A case of some sizes that are not the usual ones, which it is named by."""
        changed = self._whole(changed)
        sizes = {**self.primes, **changed}
        named = [
            f"{axis} = {size}"
            for axis, size in changed.items()
            if size > self.primes.get(axis, _HEADS)
        ]
        name = ", ".join([label, *named] if label else named)
        case = self._case(name, sizes, claims, probe=False)
        if beside(masked) == "kv_lengths":
            case = replace(self._ending(name, masked, sizes), probe=False)
        self._let_the_last_key_matter(case.inputs)
        if beside(masked) == "mask":
            mask = np.random.RandomState(7).random_sample(self._mask_shape(masked, sizes)) < 0.6
            case = self._masked(case, masked, mask)
        again = partial(self._large, label=label, claims=claims, masked=masked)
        optional = "kv_heads" in sizes or not self.blocks.keys().isdisjoint({"H"} & {*changed})
        return self._taken(replace(case, optional=optional, resized=again))

    def _let_the_last_key_matter(self, inputs: list[Array]) -> None:
        """Let the last query look at it, so that no sum is right without it."""
        if self.layer == "softmax":
            inputs[0][..., -1] = 2 * np.sqrt(inputs[0].shape[-1])
        elif self.layer != "weight-sum":
            (keys, query) = (1, inputs[0]) if self.layer == QKV else (0, inputs[1])
            last = query if query.ndim == 2 and inputs[0].ndim == 3 else query[..., -1, :]
            if self.axes == 4 and self.layer == QKV:
                last = last[:, :: last.shape[1] // inputs[1].shape[1]]
            inputs[keys][..., -1, :] = 2 * last

    @property
    def usual(self) -> dict[str, int]:
        """The sizes of the first case."""
        return self.ordinary().sizes

    def sized(self, name: str, sizes: Mapping[str, int]) -> Case:
        """Make a case of other sizes."""
        return self._taken(self._case(name, sizes))

    def cases(self) -> Iterator[Case]:
        """Every case, the most telling first."""
        for case in filter(self._is_said, self._cases()):
            yield self._taken(case)

    def _is_said(self, case: Case) -> bool:
        alone = case.name.startswith("one ") and any(
            size > 1 and case.sizes.get(axis) == size for axis, size in self.blocks.items()
        )
        return not alone and all(case.sizes[axis] == size for axis, size in self.said.items())

    def _taken(self, case: Case) -> Case:
        """The case in the precision that is asked for, and in the dtype that the target takes."""
        if self.dtype == np.float64 and self.precision == "float64":
            return case

        def taken(value: Any) -> Any:
            if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
                return value
            return rounded_to(value, self.precision).astype(self.dtype)

        options = {name: taken(value) for name, value in case.options.items()}
        mask = taken(case.mask)
        inputs = [taken(array) for array in case.inputs]
        case = replace(case, inputs=inputs, options=options, mask=mask)
        return as_precise_as(case, self.precision)

    def _cases(self) -> Iterator[Case]:
        yield self.ordinary()
        if self._has("T_dec"):
            yield self._case("more decoder steps than encoder steps", {**self.primes, "T_dec": 11})
        yield self.square()
        yield self._case(
            "one item: N = 1",
            {**self.primes, "N": 1, "T_dec": self.primes["T_enc"] - 1},
            probe=False,
        )
        yield self._case("one step: T = 1", {**self.primes, "T_dec": 1, "T_enc": 1}, probe=False)
        if self._has("T_dec"):
            yield self._case("one query: T_dec = 1", {**self.primes, "T_dec": 1}, probe=False)
            yield self._case("one key: T_enc = 1", {**self.primes, "T_enc": 1}, probe=False)
            alone = {**self.primes, "N": 1, "T_dec": 1}
            yield self._case("one item, one query", alone, probe=False)
        if self._has("H"):
            yield self._case("one unit: H = 1", {**self.primes, "H": 1}, probe=False)
        large = "large values" if self.layer == "weight-sum" else "large scores"
        yield self._scaled(large, _LARGE * (_LARGE if self.layer == "softmax" else 1))
        if self.layer != "weight-sum":
            yield self._below("large negative scores", _FAR_BELOW)
            yield self._below("negative scores", _BELOW)
        yield replace(self._scaled("tiny scores", 1e-8), probe=False)
        yield self._equal()
        yield from self._dtypes()
        usual = replace(self.ordinary(), probe=False)
        for name, lying in (("non-contiguous inputs", _apart), ("Fortran order", _turned)):
            yield replace(usual, name=name, inputs=list(map(lying, usual.inputs)))
        yield replace(usual, name="zeros in dout", dout_of=_with_zeros)
        yield replace(usual, name="dout all zero", dout_of=np.zeros_like)
        square = self.square()
        if len({array.shape for array in square.inputs}) == 1 < len(square.inputs):
            same = square.inputs[:1] * len(square.inputs)
            yield replace(square, name="one array for all inputs", inputs=same, one=True)
        if self.layer == QKV:
            yield from self._general()
        yield from self._masks()
        yield from self._options()

    def _general(self) -> Iterator[Case]:
        """What only query, key and value have."""
        if self.axes == 4:
            alone = {**self.primes, "T_dec": self.primes["T_enc"] + 1, "heads": 1}
            yield self._case("one head", alone, probe=False)
            sizes = {**self.primes, "heads": 6, "kv_heads": 2}
            grouped = self._case("grouped heads: 6 queries, 2 keys", sizes, optional=True)
            yield grouped
        wider = self.ordinary()
        query, key, value = wider.inputs
        value = np.concatenate([value, value[..., :4] + 1], axis=-1)
        yield replace(
            wider,
            name="values wider than keys",
            inputs=[query, key, value],
            optional=True,
        )

    def _dtypes(self) -> Iterator[Case]:
        ordinary = self._case("different prime sizes", self.primes)
        if self.precision == "float64":
            narrow = [array.astype(np.float32) for array in ordinary.inputs]
            narrowed = replace(ordinary, name="float32", inputs=narrow, probe=False)
            narrowed = replace(narrowed, optional=self.framework)
            yield as_precise_as(narrowed, "float32")
        if self.framework:
            return
        whole = [np.rint(2 * array).astype(np.int64) for array in ordinary.inputs]
        yield replace(
            ordinary, name="whole numbers (int64)", inputs=whole, probe=False, lenient=True,
            optional=True,
        )  # fmt: skip

    def _masks(self) -> Iterator[Case]:
        rng = np.random.RandomState(7)
        for name in self.parameters if self._has("scores") else ():
            if beside(name) == "bias":
                yield self._biased(name, "bias")
            if beside(name) not in ("mask", "padding"):
                continue
            for label, sizes in (
                ("boolean mask", self.primes),
                ("boolean mask, equal sizes", self.equal),
            ):
                base = self._case(label, sizes)
                mask = rng.random_sample(self._mask_shape(name, sizes)) < 0.6
                mask[..., 0] = True
                mask[..., -1] = False
                yield self._masked(base, name, mask)
            base = self._case("row with every key masked", self.primes)
            mask = np.ones(self._mask_shape(name, self.primes), bool)
            mask[0] = False
            # Where 1 hides a key, no number that it is multiplied by hides all.
            lenient = self.senses.get(name) is TIMES
            yield replace(self._masked(base, name, mask), lenient=lenient)
            factor = self.senses.get(name, TAKES_PART).turned is not None
            if beside(name) == "mask" and self._parameter("bias") is None and not factor:
                yield replace(self._biased(name, FLOATING_MASK), optional=True)

    @property
    def masks(self) -> tuple[str, ...]:
        """The masks that forward takes."""
        is_mask = [name for name in self.parameters if beside(name) in ("mask", "padding")]
        return tuple(is_mask) if self._has("scores") else ()

    def hidden(self, name: str, sense: Sense) -> Iterator[tuple[Case, Case]]:
        """Pairs of cases between which values differ that are hidden by a mask in this sense."""
        seen = np.ones(self._mask_shape(name, self.primes), bool)
        seen[..., -2:] = False
        given = [(seen, sense.of(seen))]
        if sense.turned is not None:
            given.append((~seen, sense.turned(seen)))
        for shown, mask in given:
            case = self._case("mask", self.primes)
            case = self._taken(replace(case, options={**case.options, name: mask}))
            values = 2 if self.layer == QKV else 0
            inputs = [array.copy() for array in case.inputs]
            inputs[values][..., ~shown.reshape(-1, shown.shape[-1])[0], :] += 1
            yield case, replace(case, inputs=inputs)

    def _biased(self, name: str, label: str) -> Case:
        bias = np.random.RandomState(11).standard_normal(self._mask_shape(name, self.primes))
        return self._masked(self._case(label, self.primes), name, bias)

    def _masked(self, case: Case, name: str, mask: Array) -> Case:
        ours = mask
        if self.layer in ("attention", "attention-weight"):
            ours = mask[:, None, :]
        elif beside(name) == "padding":
            ours = mask[:, None, :] if self.axes < 4 else mask[:, None, None, :]
        given = self.senses.get(name, TAKES_PART).of(mask) if mask.dtype == bool else mask
        return replace(case, mask=ours, options={**case.options, name: given})

    def _mask_shape(self, name: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
        sizes = self._whole(sizes)
        N, T_dec, T_enc = sizes["N"], sizes["T_dec"], sizes["T_enc"]
        if beside(name) == "padding" or self.layer in ("attention", "attention-weight"):
            return (N, T_enc)
        return {2: (T_dec, T_enc), 3: (N, T_dec, T_enc), 4: (N, 1, T_dec, T_enc)}[self.axes]

    def _options(self) -> Iterator[Case]:
        """What forward can be asked for, whatever it claims to be by itself."""
        for label, claims in self._claimed():
            more = self._more_queries({**self.primes, "T_dec": 11}, claims)
            for said, sizes in (("", self.primes), (", more queries", more)):
                yield self._case(label + said, sizes, claims)
            if claims.causal != self.claims.causal and (masked := self._parameter("mask")):
                base = self._case(f"boolean mask, {label}", self.primes, claims)
                rng = np.random.RandomState(5)
                seen = rng.random_sample(self._mask_shape(masked, self.primes)) < 0.6
                both = self._masked(base, masked, seen)
                yield replace(both, optional=True, probe=False)
        if self.layer == QKV and self.axes > 2:
            for name in _EXTRAS:
                if parameter := self._parameter(name):
                    yield self._with_extra(name, parameter)
                    share = self._parameter("dropout") if name == "keep" else None
                    if share is not None:
                        case = self._with_extra(name, parameter)
                        claims = replace(case.claims, keep_prob=1 - _DROPPED)
                        options = {**case.options, share: _DROPPED}
                        yield replace(case, name="keep, scaled", claims=claims, options=options)
        if not self._has("scores") or self.axes < 3:
            return
        if parameter := self._parameter("kv_lengths"):
            yield from self._with_lengths(parameter)
        if (parameter := self._parameter("hidden_queries")) and self._has("T_dec"):
            case = self._case("hidden queries", self.primes)
            N, T_dec = case.sizes["N"], case.sizes["T_dec"]
            there = np.arange(T_dec) < 1 + np.arange(N)[::-1, None] % T_dec
            seen = there[..., None] if self.axes < 4 else there[:, None, :, None]
            mask = np.broadcast_to(seen, (*seen.shape[:-1], case.sizes["T_enc"]))
            options = {**case.options, parameter: there}
            yield replace(case, mask=mask, options=options, optional=True)

    def _more_queries(self, sizes: Mapping[str, int], claims: Semantics) -> Mapping[str, int]:
        """Where a window is tried that nobody asked for, no more than let each query see a key.

        What is given where there is none to see, published code has several opinions about.
        """
        if claims.window == self.claims.window:
            return sizes
        return {**sizes, "T_dec": min(sizes["T_dec"], sizes["T_enc"] + 1)}

    def banded(self) -> list[Case]:
        """The cases with causal order or a window that the code has to choose."""
        band = self.claims.causal, self.claims.window
        cases = (case for case in self._options() if not case.extras)
        return [self._taken(x) for x in cases if (x.claims.causal, x.claims.window) != band]

    def _with_extra(self, name: str, parameter: str) -> Case:
        """A case in which one of the arrays beside query, key and value is given."""
        case = self._case(name.replace("_", " "), {**self.primes, "T_dec": self.primes["T_enc"]})
        N, T_dec, T_enc = case.sizes["N"], case.sizes["T_dec"], case.sizes["T_enc"]
        heads = case.sizes.get("heads", 1)
        keep = np.random.RandomState(7).random_sample((*case.inputs[0].shape[:-1], T_enc)) < 0.7
        given = {
            "sinks": np.linspace(-0.5, 1.5, heads),
            "alibi": standard_slopes(heads),
            "kv_lengths": np.arange(T_enc - N + 1, T_enc + 1),
            "segments": np.arange(T_dec) // 2,
            "keep": keep,
        }[name]
        extras = Extras(**{name: given})
        return replace(
            case, extras=extras, options={**case.options, parameter: given}, optional=True
        )

    def _with_lengths(self, parameter: str) -> Iterator[Case]:
        """Cases in which keys end sooner: for each item, or for each query of it.

        Where queries stand at the end, nobody says it of a query beyond its item's keys.
        """
        if self.layer == QKV:
            yield self._with_extra("kv_lengths", parameter)
        if self._is_unplaced:
            yield self._ending("lengths of keys", parameter, self.primes)
            if self._has("T_dec"):
                sizes = {**self.primes, "T_dec": self.primes["T_dec"] + 1}  # not as many as heads
                yield self._ending("lengths of keys by query", parameter, sizes, each=True)

    @property
    def _is_unplaced(self) -> bool:
        """Whether nothing says where queries stand beside keys."""
        return (self.claims.causal, self.claims.align, self.claims.window) == (None, None, None)

    def _ending(
        self, name: str, parameter: str, sizes: Mapping[str, int], *, each: bool = False
    ) -> Case:
        """A case in which some keys are behind the last, which there always is."""
        case = self._case(name, sizes)
        N, T_dec, T_enc = (case.sizes[axis] for axis in ("N", "T_dec", "T_enc"))
        shape = (N, T_dec) if each else (N,)
        lengths = np.linspace(1, T_enc, N * T_dec if each else N).astype(np.int64).reshape(shape)
        options = {**case.options, parameter: lengths}
        case = replace(case, options=options, optional=True, probe=not each)
        if self.layer == QKV and not each:
            return replace(case, extras=Extras(kv_lengths=lengths))
        seen = np.arange(T_enc) < lengths.reshape(N, -1, 1)
        return replace(case, mask=seen if self.axes < 4 else seen[:, None])

    def _claimed(self) -> Iterator[tuple[str, Semantics]]:
        """One claim more for every option that forward has."""
        if not self._has("scores"):
            return
        for claim, value, label in (
            ("scale", 0.3, "scale 0.3"),
            ("causal", self.align, "causal"),
            ("softcap", 1.5, "softcap 1.5"),
            ("window", 1, "window 1"),
            ("window", (2, 1), "window 2,1"),
        ):
            name = self._parameter(claim)
            if name is None or getattr(self.claims, claim) is not None:
                continue
            changed: dict[str, Any] = {claim: value}
            if claim == "window":
                means = windows(name, self.parameters[name])
                if means != "each" and isinstance(value, tuple):
                    continue  # of a window that is one number both sides are the same
                causal = self.claims.causal or (self.align if means == "own" else None)
                changed |= {"causal": causal, "align": causal or self.claims.align or self.align}
            yield label, replace(self.claims, **changed)

    def _case(
        self, name: str, sizes: Mapping[str, int], claims: Semantics | None = None, **more: Any
    ) -> Case:
        claims = self.claims if claims is None else claims
        sizes = self._whole(sizes)
        inputs = [random_tensor(x, self._shape(x, sizes)) for x in OPERATIONS[self.layer].inputs]
        options = as_options(self.parameters, claims.given())
        for mask, sense in self.senses.items():
            if self.parameters[mask] is ...:
                options[mask] = sense.of(np.ones(self._mask_shape(mask, sizes), bool))
        if (scale := self._parameter("scale")) and self.parameters[scale] is ...:
            options.setdefault(scale, OPERATIONS[self.layer].scale(claims, sizes["H"]))
        if "kv_heads" in sizes and (grouped := self._parameter("grouped")):
            options[grouped] = True
        sizes = {"heads": _HEADS, **sizes} if self._has("heads") else dict(sizes)
        return Case(name, self.layer, inputs, claims, options=options, sizes=sizes, **more)

    def _shape(self, name: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
        shape = shape_in_the_book(name, sizes)
        if self.layer == QKV:
            heads = sizes.get("heads", _HEADS)
            heads = heads if name == "query" else sizes.get("kv_heads", heads)
            return (*{4: (sizes["N"], heads), 3: (sizes["N"],), 2: ()}[self.axes], *shape[-2:])
        return shape

    def _scaled(self, name: str, factor: float) -> Case:
        case = self.ordinary()
        inputs = [factor * array for array in case.inputs]
        return replace(case, name=name, inputs=inputs)

    def _below(self, name: str, below: float) -> Case:
        """Scores that are all very negative and as far apart as ever: exp gives 0 for each.

        So far from 0 half precision tells no two of them apart: there they are the same.
        """
        case = self.ordinary()
        inputs = [array.copy() for array in case.inputs]
        if self.layer == "softmax":
            inputs[0] -= below
        else:
            # One component of every query meets one of every key.
            scale = OPERATIONS[self.layer].scale(case.claims, inputs[0].shape[-1])
            if self.throughout and self.precision == "float16":
                below = min(below, _HELD * min(1.0, abs(scale)))
            for array, sign in zip(inputs, (1, -1), strict=False):
                array[..., 1:] *= self.precision not in HALF
                array[..., 0] = sign * (below / scale) ** 0.5
        alike = self.precision in HALF and self.layer != "softmax"
        return replace(case, name=name, inputs=inputs, alike=alike)

    def _equal(self) -> Case:
        """Queries (or scores) of zeros, so that every key gets the same weight."""
        case = self._case("equal scores", self.primes, probe=False)
        which = 0 if self.layer in ("softmax", QKV) else 1
        value = 1 / self.primes["T_enc"] if self.layer == "weight-sum" else 0.0
        inputs = case.inputs.copy()
        inputs[which] = np.full_like(inputs[which], value)
        return replace(case, inputs=inputs)

    def _parameter(self, claim: str) -> str | None:
        return next((name for name in self.parameters if beside(name) == claim), None)

    def _has(self, what: str) -> bool:
        if what == "scores":
            return self.layer not in ("softmax", "weight-sum")
        if what == "heads":
            return self.layer == QKV and self.axes == 4
        axes = {axis for name in OPERATIONS[self.layer].inputs for axis in default_axes(name)}
        return what in axes and not (self.layer == "softmax" and what == "T_dec")


def as_precise_as(case: Case, precision: str) -> Case:
    """Give the case for what computes in a precision."""
    return replace(case, precision=precision, tolerance=_TOLERANCES[precision])
