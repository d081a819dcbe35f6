"""Parts of the score matrix: some queries and some keys, computed apart and put together.

A part is computed from its own rows of the arrays and from where these stand in the whole, so
whoever computes it, another process or another machine, never holds the whole.  Parts with the
same queries merge in any order and any split; the gradients of parts add up.  Those in which
nothing is seen may be left out, as long as one is left, and the one with the first keys if there
are sinks: each row's sum has its sink from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from attncli.arrays import Array
from attncli.core import tiled
from attncli.core.cache import Cache
from attncli.core.extras import Extras, Placed
from attncli.core.functions import attention_backward
from attncli.core.moderate import of_sums
from attncli.core.operands import Operands, Shape, dtypes_of, fit, fitting_mask, prepare, usable
from attncli.core.semantics import Semantics
from attncli.core.tiles import TILE
from attncli.core.visibility import Visibility, read_mask
from attncli.errors import ParameterError

Slices = tuple[slice, ...]


class Shaped(Protocol):
    """Anything with a shape and a dtype: an array, or what says where one lies."""

    @property
    def shape(self) -> Shape: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102


class Part(NamedTuple):
    """Where a part stands in the whole; every slice has a start and a stop."""

    lead: Slices  # on each of the whole's leading axes
    rows: slice
    keys: slice


class Partial(NamedTuple):
    """What a part's queries attend to: the result if its keys were all there are."""

    out: Array
    logsumexp: Array
    blind: Array  # which queries see none of the keys: a sink's weight is not theirs


class PartGradients(NamedTuple):
    """What a part contributes to the gradients of its own rows, in the compute dtype."""

    dquery: Array
    dkey: Array
    dvalue: Array
    dmask: Array | None  # this and the next: where there is such a thing,
    dsinks: Array | None  # and the sinks' of parts with the first keys alone
    dalibi: Array | None


@dataclass(frozen=True)
class Whole:
    """A calculation without its large arrays: what has to be known of it to compute a part.

    Attributes
    ----------
    shapes : dict of str to tuple of int
        Of the arrays there are, as they were given: query, key, value, mask, keep, segments_dec,
        segments_enc, sinks, alibi; and of out and logsumexp.
    lead : tuple of int
        The leading axes of the result.
    compute, dtype : dtype
        What is computed in; what the results are in the end.
    semantics : Semantics
    extras : Placed
        Sinks, slopes, lengths and sequences.

    Examples
    --------
    >>> x = np.eye(4)
    >>> whole = Whole.of(x, x, x, semantics=Semantics(scale=1.0))
    >>> partials = []
    >>> for keys in (slice(0, 3), slice(3, 4)):
    ...     part = Part((), slice(0, 2), keys)
    ...     where = whole.regions(part)
    ...     arrays = {name: x[where[name]] for name in ("query", "key", "value")}
    ...     partials.append(forward_part(whole.operands(part, arrays)))
    >>> np.exp(merge_parts(*partials).logsumexp - 1)
    array([2.10363832, 2.10363832])
    """

    shapes: Mapping[str, Shape]
    lead: Shape
    compute: np.dtype[Any]
    dtype: np.dtype[Any]
    semantics: Semantics
    extras: Placed

    @classmethod
    def of(
        cls,
        query: Shaped,
        key: Shaped,
        value: Shaped,
        *,
        mask: Shaped | None = None,
        extras: Extras = Extras(),  # noqa: B008 (it is frozen)
        semantics: Semantics = Semantics(),  # noqa: B008 (it is frozen)
    ) -> Whole:
        """Check what is given, of which the large arrays need not be at hand.

        Parameters
        ----------
        query, key, value, mask : Shaped
        extras : Extras
            Keep and segments may be `Shaped` as well; the others are arrays.
        semantics : Semantics

        Raises
        ------
        ShapeError, DtypeError, ParameterError
            As `attncli.attention` says.
        """
        shapes = {"query": query.shape, "key": key.shape, "value": value.shape}
        lead, _ = fit(*shapes.values())
        T_dec, T_enc = query.shape[-2], key.shape[-2]
        compute, dtype = dtypes_of(query.dtype, key.dtype, value.dtype)
        if mask is not None:
            fitting_mask(_stand_in(mask, np.dtype(bool)), (*lead, T_dec, T_enc), compute)
            shapes["mask"] = mask.shape
        if extras.keep is not None:
            extras = extras._replace(keep=_stand_in(extras.keep))
        if extras.segments is not None:
            given = extras.segments
            ids = tuple(map(_stand_in, given)) if isinstance(given, tuple) else _stand_in(given)
            extras = extras._replace(segments=ids)
            both = ids if isinstance(ids, tuple) else (ids, ids)
            shapes |= zip(("segments_dec", "segments_enc"), (x.shape for x in both), strict=False)
        placed = extras.placed(lead, T_dec, T_enc)
        if semantics.keep_prob is not None and extras.keep is None:
            raise ParameterError(
                f"keep_prob is {semantics.keep_prob}, and there is no keep to go with it"
            )
        for name in ("sinks", "alibi", "keep"):
            if (given := getattr(extras, name)) is not None:
                shapes[name] = np.shape(given)
        shapes |= {"out": (*lead, T_dec, value.shape[-1]), "logsumexp": (*lead, T_dec)}
        kept = placed._replace(ids_dec=None, ids_enc=None, keep=None)
        return cls(shapes, lead, compute, dtype, semantics, kept)

    @property
    def sizes(self) -> tuple[int, int]:
        """T_dec and T_enc."""
        return self.shapes["query"][-2], self.shapes["key"][-2]

    def regions(self, part: Part) -> dict[str, Slices]:
        """Return which region of each array belongs to a part, and of their gradients.

        Raises
        ------
        ParameterError
            If it divides a group of query heads and holds another as well.

        Examples
        --------
        >>> query, key = np.empty((2, 6, 7, 3)), np.empty((2, 3, 5, 3))
        >>> part = Part((slice(1, 2), slice(4, 6)), slice(0, 7), slice(0, 5))
        >>> Whole.of(query, key, key).regions(part)["key"]
        (slice(1, 2, None), slice(2, 3, None), slice(0, 5, None), slice(0, 3, None))
        """
        lead, rows, keys = part
        # The axes behind the leading ones.
        own: dict[str, Slices] = dict.fromkeys(("key", "value"), (keys,))
        own |= dict.fromkeys(("query", "out"), (rows,))
        own |= dict.fromkeys(("mask", "keep"), (rows, keys))
        own |= {"logsumexp": (rows,), "segments_dec": (rows,), "segments_enc": (keys,)}
        regions = {}
        for name, shape in self.shapes.items():
            behind = own.get(name, ())
            if name in ("query", "key", "value", "out"):
                behind = (*behind, slice(0, shape[-1]))
            behind = behind[max(0, len(behind) - len(shape)) :]
            outer = shape[: len(shape) - len(behind)]
            # What is shared out by item alone stands on the first leading axis.
            by_item = name.startswith("segments") and len(outer) == 1
            axes = (0,) if by_item else range(len(self.lead) - len(outer), len(self.lead))
            regions[name] = (
                *(self._cut(lead, at, size) for at, size in zip(axes, outer, strict=True)),
                *(
                    slice(0, 1) if size == 1 else one
                    for size, one in zip(shape[len(outer) :], behind, strict=True)
                ),
            )
        return regions

    def _cut(self, lead: Slices, at: int, size: int) -> slice:
        """Return the part of an axis of `size` that belongs to that of the whole's."""
        if size == 1 or not self.lead:
            return slice(0, 1)
        one, group = lead[at], max(self.lead[at], 1) // max(size, 1)
        cut = slice(one.start // group, -(-one.stop // group))
        if cut.stop - cut.start > 1 and (one.start % group or one.stop % group):
            raise ParameterError(
                f"a part holds the query heads {one.start} to {one.stop}, "
                f"expected some of one group of {group}, or whole ones"
            )
        return cut

    def operands(self, part: Part, arrays: Mapping[str, Array]) -> Operands:
        """Return a part ready to compute.

        Parameters
        ----------
        part : Part
        arrays : mapping of str to ndarray
            Its `regions` of query, key, value, and of mask, keep and segments where they are.
        """
        lead = tuple(one.stop - one.start for one in part.lead)
        T_dec, T_enc = part.rows.stop - part.rows.start, part.keys.stop - part.keys.start
        segments = tuple(
            arrays[f"segments_{x}"] for x in ("dec", "enc") if f"segments_{x}" in arrays
        )
        own = Extras(segments=segments or None, keep=arrays.get("keep")).placed(lead, T_dec, T_enc)
        if (mask := arrays.get("mask")) is not None:
            name = "mask of integers" if mask.dtype.kind in "iu" else "mask"
            mask = read_mask(name, mask)
        regions = self.regions(part)
        operands = prepare(
            arrays["query"], arrays["key"], arrays["value"],
            mask=mask, extras=self._beside(part, own), semantics=self.semantics,
            sizes=self.sizes, part=part[1:],
        )  # fmt: skip
        operands.given_shapes.update(
            {
                name: tuple(one.stop - one.start for one in regions[name])
                for name in ("sinks", "alibi")
                if name in regions
            }
        )
        return operands._replace(dtype=self.compute)  # what is still to be added up

    def _beside(self, part: Part, own: Placed) -> Placed:
        """Return the extras of a part."""
        sinks, alibi, _, _, _, lengths, sequences = self.extras
        if part.keys.start:
            sinks = None  # each stands in its sum once
        if sequences is None:
            lengths = self._of_lead(part, lengths)
        return own._replace(
            sinks=self._of_lead(part, sinks),
            alibi=self._of_lead(part, alibi),
            lengths=lengths,
            sequences=sequences,
        )

    def _of_lead(self, part: Part, array: Array | None) -> Array | None:
        if array is None:
            return None
        cuts = (self._cut(part.lead, at, size) for at, size in enumerate(array.shape[:-2]))
        return array[tuple(cuts)]

    def visibility(self, segments: Any = None) -> Visibility:
        """Return what each query sees, but for a mask, which `areas` goes by.

        Parameters
        ----------
        segments : array_like or tuple of two, optional
            As `attncli.attention` takes them, where there are any.
        """
        ids = Extras(segments=segments).placed(self.lead, *self.sizes)
        extras = self.extras._replace(ids_dec=ids.ids_dec, ids_enc=ids.ids_enc, alibi=None)
        return Visibility.of(self.semantics, *self.sizes, None, extras)


def _stand_in(given: Any, dtype: np.dtype[Any] | None = None) -> Array:
    """Return an array of this shape that takes no room, to be checked in its place."""
    array = given if hasattr(given, "shape") and hasattr(given, "dtype") else np.asarray(given)
    return np.broadcast_to(np.zeros((), dtype or array.dtype), array.shape)


def forward_part(operands: Operands, threads: int = 1) -> Partial:
    """Return what the queries of a part attend to among its keys.

    All arrays are whole pieces of memory of their own.
    """
    out = np.empty((*operands.lead, operands.query.shape[-2], operands.value.shape[-1]),
                   operands.query.dtype)  # fmt: skip
    with np.errstate(invalid="ignore", over="ignore"):  # infinities that come to nothing
        _, cache = tiled.forward(operands, threads, out=out)
        logsumexp = cache.logsumexp
    out = out.reshape(*operands.public_lead, *out.shape[-2:])
    # Scores that are all −∞ weigh nothing beside those of another part.
    nothing = np.isneginf(cache.shift).reshape(logsumexp.shape) & np.isnan(logsumexp)
    out[nothing], logsumexp[nothing] = 0, -np.inf
    return Partial(out, logsumexp, cache.blind.copy())


def merge_parts(*partials: Partial, more: bool = False) -> Partial:
    """Return what some queries attend to among the keys of several parts.

    Parameters
    ----------
    *partials : Partial
    more : bool
        Whether there are others beside these, which what comes of them is merged with.

    Examples
    --------
    >>> few, many = (Partial(np.array([[x]]), np.log([x]), np.array([False])) for x in (1.0, 3.0))
    >>> merge_parts(few, many)
    Partial(out=array([[2.5]]), logsumexp=array([1.38629436]), blind=array([False]))
    """
    sums = np.stack([partial.logsumexp for partial in partials])
    top = np.maximum.reduce(sums)
    top[top == -np.inf] = 0  # nothing was seen, and exp(−inf − 0) is the 0 that is meant
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        sums -= top
        np.exp(sums, out=sums)
        total = np.add.reduce(sums)
        logsumexp = top + np.log(total)
        sums /= np.where(total == 0, 1, total)
        out = partials[0].out * sums[0][..., None]
        room = np.empty_like(out)
        for partial, share in zip(partials[1:], sums[1:], strict=True):
            out += np.multiply(partial.out, share[..., None], out=room)
    blind = np.logical_and.reduce([partial.blind for partial in partials])
    if not more:  # 0/0, as it is of all keys at once
        out[np.isneginf(logsumexp) & ~blind] = logsumexp[np.isneginf(logsumexp) & ~blind] = np.nan
    return Partial(out, logsumexp, blind)


def backward_part(
    dout: Array,
    out: Array,
    logsumexp: Array,
    operands: Operands,
    dlogsumexp: Array | None = None,
    threads: int = 1,
) -> PartGradients:
    """Return what a part contributes to the gradients.

    Parameters
    ----------
    dout, out, logsumexp, dlogsumexp : ndarray
        Of the part's queries, over all keys: what `merge_parts` gave of them.
    operands : Operands
    threads : int
    """
    compute, rows = operands.query.dtype, (*operands.lead, operands.query.shape[-2])
    logsumexp = logsumexp.astype(compute, copy=False)
    blind = logsumexp == -np.inf  # these see no key and have no sink
    moderate = of_sums(logsumexp)
    one = compute.type(1)
    cache = Cache(
        operands,
        engine="tiled",
        threads=threads,
        shift=np.where(moderate | blind, 0 * one, logsumexp).reshape(rows),
        total=np.exp(logsumexp, where=moderate, out=np.full_like(logsumexp, one)).reshape(rows),
        out=usable(out, compute).reshape(*rows, out.shape[-1]),
        tile=TILE,
        moderate=(moderate | blind).reshape(rows),
    )
    with np.errstate(invalid="ignore", over="ignore"):
        gradients = attention_backward(dout, cache, dlogsumexp)
    # They are views of one piece of memory, which each would keep, and take along when pickled.
    dquery, dkey, dvalue = map(np.array, gradients)
    return PartGradients(dquery, dkey, dvalue, cache.dmask, cache.dsinks, cache.dalibi)
