"""What a file says beside its tensors, read in every way: each way is a `Setting`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.checking.conventions.arrangements import Arrangement
from attncli.checking.conventions.rows import HIDDEN, Rows
from attncli.core.rotary import rotary
from attncli.errors import ShapeError

BASES = (10000.0, 500000.0, 1000000.0, 100000.0, 1000.0, 100.0)


class Places(NamedTuple):
    """Where queries stand among the keys: each (N, T_dec).

    Attributes
    ----------
    own, start, stop : ndarray of int
        A query's own key, and the keys of its sequence.
    """

    own: Array
    start: Array
    stop: Array


@dataclass(frozen=True)
class Setting:
    """One way of reading a file, but for what is fitted.

    Attributes
    ----------
    arrangement : Arrangement
    align : {"upper_left", "lower_right"}
    places : Places
    align_is_moot : bool
        Whether the other alignment is the same.
    says : dict of str to str
        What was chosen, in words, by what it was chosen for.
    group : ndarray of int
        The key head of each query head.
    masks : tuple of ndarray
        Boolean (what is seen) or added, broadcastable to (N, heads, T_dec, T_enc).
    slopes : ndarray (heads,) or None
        Times what `slanted` makes of the distance, added to the scores.
    slanted : str
        ``"distance"`` is |key − own|, ``"offset"`` key − own.
    sinks : ndarray (heads,) or None
    rotation : (str, float, int or None), or None
        Style, base and width of rotary positions.
    unusual : tuple of str
        What ``attn forward`` would not do by itself.
    """

    arrangement: Arrangement
    align: str
    places: Places
    align_is_moot: bool = False
    says: Mapping[str, str] = field(default_factory=dict)
    group: Array | None = None
    masks: tuple[Array, ...] = ()
    slopes: Array | None = None
    slanted: str = "distance"
    sinks: Array | None = None
    rotation: tuple[str, float, int | None] | None = None
    unusual: tuple[str, ...] = ()

    def chosen(self, what: str, words: str, *, usual: bool = True, **changes: object) -> Setting:
        """Return the setting with one more choice."""
        unusual = self.unusual if usual else (*self.unusual, what)
        says = {**self.says, what: words} if words else self.says
        return replace(self, says=says, unusual=unusual, **changes)  # type: ignore[arg-type]

    @property
    def by_step(self) -> bool:
        """Whether something beside a band goes by where queries stand."""
        return self.slopes is not None or self.rotation is not None

    def served(self, heads: Array) -> Array:
        """The key heads of query heads."""
        assert self.group is not None
        return np.asarray(self.group[heads])

    def rotated(self) -> tuple[Array, Array]:
        """Query and key as the scores are made of them."""
        query, key = self.arrangement.query, self.arrangement.key
        if self.rotation is None:
            return query, key
        style, base, width = self.rotation
        steps = np.arange(key.shape[2])[None] - np.zeros((len(key), 1), int)
        if len(self.places.start) == 1 and self.places.start.any():  # packed: from each start
            at = np.unique(self.places.start)
            steps = steps - at[np.searchsorted(at, steps, side="right") - 1]
        own = self.places.own - self.places.start
        own = np.broadcast_to(own, (len(query), own.shape[1]))
        return (
            rotary(query, own, style=style, base=base, width=width),
            rotary(key, steps, style=style, base=base, width=width),
        )

    def rows(self, pairs: Array, steps: Array, turned: tuple[Array, Array]) -> Rows:
        """Return the rows `steps` of the `pairs` (item, head).

        Parameters
        ----------
        pairs : ndarray (P, 2)
        steps : ndarray (R,)
        turned : pair of ndarray
            What `rotated` gives.
        """
        query, key = turned
        items, heads = pairs.T
        served = self.served(heads)
        products = query[items, heads][:, steps] @ key[items, served].swapaxes(-1, -2)
        with np.errstate(invalid="ignore"):
            bias = self.bias(items, heads, steps)
        out = self.arrangement.output
        H_v = self.arrangement.value.shape[-1]
        wanted = (
            out[items, heads][:, steps] if out is not None else np.zeros((*products.shape[:2], H_v))
        )
        own, start, stop = (x[items % len(x)][:, steps] for x in self.places)
        return Rows(
            products=products,
            value=self.arrangement.value[items, served],
            output=wanted,
            bias=bias,
            own=own,
            start=start,
            stop=stop,
            heads=heads,
        )

    def bias(self, items: Array, heads: Array, steps: Array) -> Array:
        """What is added to the scores of some rows, −inf where a key is hidden."""
        T_enc = self.arrangement.key.shape[2]
        keys = np.arange(T_enc)
        own, start, stop = (x[items % len(x)][:, steps, None] for x in self.places)
        bias = np.where((keys >= start) & (keys < stop), 0.0, HIDDEN)
        for mask in self.masks:
            part = mask[items if mask.shape[0] > 1 else 0 * items]
            part = part[np.arange(len(items)), heads if mask.shape[1] > 1 else 0 * heads]
            part = part[:, steps if mask.shape[2] > 1 else 0 * steps]
            bias = np.where(part, bias, HIDDEN) if part.dtype == bool else bias + part
        if self.slopes is not None:
            offset = keys - own
            far = np.abs(offset) if self.slanted == "distance" else offset
            bias = bias + self.slopes[heads][:, None, None] * far
        return bias


def settings(arrangement: Arrangement, held: Mapping[str, Array]) -> list[Setting]:
    """Read what is beside the tensors in every way that fits their sizes.

    Parameters
    ----------
    arrangement : Arrangement
    held : mapping of str to ndarray
        By our names.
    """
    _, heads, kv_heads, _, _ = arrangement.sizes
    found = list[Setting]()
    for packing, lengths in product(_packings(arrangement, held), _lengths(arrangement, held)):
        if packing is not None and lengths is not None:
            continue
        sides = ("upper_left", "lower_right")
        places = {side: _places(arrangement, packing, lengths, side) for side in sides}
        moot = np.array_equal(places[sides[0]].own, places[sides[1]].own)
        for side in sides[: 1 if moot else 2]:
            one = Setting(arrangement, side, places[side], moot)
            if "cu_seqlens" in held:
                word = "cu_seqlens" if packing is not None else "cu_seqlens ignored"
                one = one.chosen("packing", word, usual=packing is not None)
            if "kv_lengths" in held:
                word = "cache_seqlens" if lengths is not None else "cache_seqlens ignored"
                one = one.chosen("lengths", word, usual=lengths is not None)
            found.append(one)
    ways = [_groups(heads, kv_heads)]
    ways += [list(_masks(name, held[name], arrangement)) for name in _MASKS if name in held]
    if "segments" in held or "segments_dec" in held:
        ways.append(list(_segments(arrangement, held)))
    if "alibi" in held:
        ways.append(list(_slopes(held["alibi"], heads)))
    if "sinks" in held:
        ways.append(list(_sinks(held["sinks"], heads)))
    return [_together(one, choices) for one in found for choices in product(*ways)]


_MASKS = ("mask", "enc_mask")


class _Choice(NamedTuple):
    what: str
    words: str
    changes: Mapping[str, object]
    usual: bool = True


def _together(one: Setting, choices: tuple[_Choice, ...]) -> Setting:
    for choice in choices:
        changes = dict(choice.changes)
        if "mask" in changes:
            changes["masks"] = (*one.masks, changes.pop("mask"))
        one = one.chosen(choice.what, choice.words, usual=choice.usual, **changes)
    return one


def _groups(heads: int, kv_heads: int) -> list[_Choice]:
    repeated = np.arange(heads) // (heads // kv_heads)
    if heads == kv_heads:
        return [_Choice("groups", "", {"group": repeated})]
    ways = [_Choice("groups", "groups repeated", {"group": repeated})]
    if kv_heads > 1:
        ways.append(
            _Choice("groups", "groups tiled", {"group": np.arange(heads) % kv_heads}, usual=False)
        )
    return ways


def _masks(name: str, mask: Array, arrangement: Arrangement) -> Iterator[_Choice]:
    N, heads, _, T_dec, T_enc = arrangement.sizes
    shape = (N, heads, T_dec, T_enc)
    binary = mask.dtype == bool or bool(np.isin(mask, (0, 1)).all())
    read: list[Array] = []
    for turned, words in ((mask, name), (_transposed(mask), f"{name} transposed")):
        if turned is None:
            continue
        for spread in _broadcasts(turned, shape, per_item=name == "enc_mask"):
            if any(spread.shape == x.shape and np.array_equal(spread, x) for x in read):
                continue
            read.append(spread)
            plain = words == name
            if binary:
                on = "True" if mask.dtype == bool else "1"
                seen = spread.astype(bool)
                boolean = plain and mask.dtype.kind != "f"
                yield _Choice(name, f"{words} {on} = takes part", {"mask": seen}, boolean)
                yield _Choice(name, f"{words} {on} = hidden", {"mask": ~seen}, usual=False)
            if mask.dtype != bool and name != "enc_mask":
                added = spread.astype(np.float64)
                usual = plain and mask.dtype.kind == "f"
                yield _Choice(name, f"{words} added", {"mask": added}, usual)
    yield _Choice(name, f"{name} ignored", {}, usual=False)


def _transposed(mask: Array) -> Array | None:
    return mask.swapaxes(-1, -2) if mask.ndim > 1 else None


def _broadcasts(
    mask: Array, shape: tuple[int, int, int, int], *, per_item: bool
) -> Iterator[Array]:
    """Give a mask four axes in every way in which it fits."""
    N, _, _, T_enc = shape
    ways = []
    if mask.ndim == 2 and mask.shape == (N, T_enc):
        ways.append(mask[:, None, None, :])
    if mask.ndim <= 2 and not (per_item and ways):
        ways.append(mask.reshape((1,) * (4 - mask.ndim) + mask.shape))
    if mask.ndim == 3:
        ways += [mask[:, None], mask[None]]
    if mask.ndim == 4:
        ways.append(mask)
    for way in ways:
        if all(size in (1, whole) for size, whole in zip(way.shape, shape, strict=True)):
            yield way


def _segments(arrangement: Arrangement, held: Mapping[str, Array]) -> Iterator[_Choice]:
    N, _, _, T_dec, T_enc = arrangement.sizes
    ids = [np.atleast_2d(held.get(name, held.get("segments", np.zeros(0))))
           for name in ("segments_dec", "segments_enc")]  # fmt: skip
    if all(x.shape[0] in (1, N) for x in ids) and (ids[0].shape[1], ids[1].shape[1]) == (
        T_dec,
        T_enc,
    ):
        seen = ids[0][:, None, :, None] == ids[1][:, None, None, :]
        yield _Choice("segments", "segments", {"mask": seen})
    yield _Choice("segments", "segments ignored", {}, usual=False)


def _slopes(slopes: Array, heads: int) -> Iterator[_Choice]:
    if slopes.size == heads:
        own = slopes.reshape(-1).astype(np.float64)
        yield _Choice("alibi", "ALiBi", {"slopes": -own})
        reverse = {"slopes": own}
        yield _Choice("alibi", "ALiBi with the sign reversed", reverse, usual=False)
        for sign, words in ((1, "key − query"), (-1, "query − key")):
            changes = {"slopes": sign * own, "slanted": "offset"}
            yield _Choice("alibi", f"ALiBi of {words}, with its sign", changes, usual=False)
    yield _Choice("alibi", "ALiBi ignored", {}, usual=False)


def _sinks(sinks: Array, heads: int) -> Iterator[_Choice]:
    if sinks.size in (1, heads):
        own = np.broadcast_to(sinks.reshape(-1), (heads,)).astype(np.float64)
        yield _Choice("sinks", "sinks", {"sinks": own}, usual=sinks.size == heads)
    yield _Choice("sinks", "sinks ignored", {}, usual=False)


def _packings(
    arrangement: Arrangement, held: Mapping[str, Array]
) -> list[tuple[Array, Array] | None]:
    if "cu_seqlens" not in held:
        return [None]
    N, _, _, T_dec, T_enc = arrangement.sizes
    ends = held["cu_seqlens"].astype(int).reshape(-1)
    key_ends = held.get("cu_seqlens_k", ends).astype(int).reshape(-1)
    for name, x, T in (("cu_seqlens", ends, T_dec), ("cu_seqlens_k", key_ends, T_enc)):
        if x.size < 2 or x[0] != 0 or (np.diff(x) < 0).any():
            raise ShapeError(f"{name} is {x.tolist()}, expected ends that begin at 0 and grow")
        if N != 1 or x[-1] > T:
            return [None]
    return [(ends, key_ends), None]


def _lengths(arrangement: Arrangement, held: Mapping[str, Array]) -> list[Array | None]:
    lengths = held.get("kv_lengths")
    if lengths is None:
        return [None]
    N, _, _, _, T_enc = arrangement.sizes
    own = lengths.astype(int).reshape(-1)
    fits = own.size in (1, N) and bool(((own >= 0) & (own <= T_enc)).all())
    return [own, None] if fits else [None]


def _places(
    arrangement: Arrangement,
    packing: tuple[Array, Array] | None,
    lengths: Array | None,
    align: str,
) -> Places:
    _, _, _, T_dec, T_enc = arrangement.sizes
    own = np.arange(T_dec)[None]
    start, stop = np.zeros_like(own), np.full_like(own, T_enc)
    last = align == "lower_right"
    if packing is not None:
        ends, key_ends = packing
        at = np.searchsorted(ends, own[0], side="right") - 1
        inside = at < len(ends) - 1
        at = np.minimum(at, len(ends) - 2)
        start = np.where(inside, key_ends[at], 0)[None]
        stop = np.where(inside, key_ends[at + 1], 0)[None]
        queries = np.diff(ends)[at]
        own = own - ends[at] + start + last * ((stop - start) - queries)
    elif lengths is not None:
        stop = np.broadcast_to(lengths[:, None], (len(lengths), T_dec))
        start = np.zeros_like(stop)
        own = own + last * (stop - T_dec) + 0 * stop
    else:
        own = own + last * (T_enc - T_dec)
    return Places(own, start, stop)
