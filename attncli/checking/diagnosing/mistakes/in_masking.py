"""Mistakes in what is hidden from whom."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.diagnosing.mistakes.in_weights import softmax_over
from attncli.checking.diagnosing.mistakes.mistake import SCORED, STEPPED, Mistake, Value
from attncli.core.visibility import Band, Visibility, own_key
from attncli.operations.steps import QKV, STEPS, Calculation, seen_and_biased


def _hidden_get(value: float) -> dict[str, Any]:
    """What is hidden gets the value: all of it, or by the mask alone and not by causal order."""

    def mask(c: Calculation, scores: Array) -> Array:
        seen, biased = seen_and_biased(c, scores)
        return np.where(seen, biased, value)

    def beside(c: Calculation, scores: Array) -> Any:
        if c.mask is None or c.mask.dtype != bool:
            return STEPS["mask"](c, scores)
        return np.where(c("band"), np.where(c.mask, scores, value), -np.inf)

    return {"steps": {"mask": mask}, "variants": ({"mask": beside},)}


def _band_alone(c: Calculation, scores: Array) -> Any:
    if c.mask is None or c.mask.dtype != bool:
        return STEPS["mask"](c, scores)
    return np.where(c("band"), scores, -np.inf)


def _times_mask(c: Calculation, weights: Array) -> Array:
    return weights if c.mask is None or c.mask.dtype != bool else weights * c.mask


def _scores_times_mask(c: Calculation, scores: Array) -> Array:
    return np.where(c("band"), scores if c.mask is None else scores * c.mask, -np.inf)


def _with_mask(change: Any) -> Any:
    """Mask as the reference does, by another mask."""

    def mask(c: Calculation, scores: Array) -> Any:
        given = c.mask
        if given is None:
            return STEPS["mask"](c, scores)
        c.mask = change(given)
        result = STEPS["mask"](c, scores)
        c.mask = given
        return result

    return mask


def _multiplied(c: Calculation, scores: Array) -> Array:
    if c.mask is None or c.mask.dtype == bool:
        return np.where(seen_and_biased(c, scores)[0], scores, -np.inf)
    return np.where(c("band"), scores * c.mask, -np.inf)


def _ordered(low: int | None, high: int | None) -> Any:
    """The band in which causal order sees from `low` to `high` steps after a query's own key."""

    def band(c: Calculation) -> Array:
        if c.semantics.causal is None:
            return np.asarray(STEPS["band"](c))
        own = own_key(c.semantics, c.T_dec, c.T_enc)
        order = Band(None if low is None else own + low, None if high is None else own + high)
        # The window alone, on both sides.
        before, after = replace(c.semantics, causal=None).reach
        near = Band(
            None if before is None else own - before, None if after is None else own + after
        )
        return Visibility((order, near), c.T_dec, c.T_enc).pattern()

    return band


def _claimed(**changes: Callable[[Any], Any]) -> Any:
    """The band of other claims; a function of the claims gives the new value."""

    def band(c: Calculation) -> Array:
        new = {name: change(getattr(c.semantics, name)) for name, change in changes.items()}
        claims = replace(c.semantics, **new)
        return Visibility.of(claims, c.T_dec, c.T_enc, extras=c.extras).pattern()

    return band


def _wider(window: Any, by: int) -> Any:
    """A window wider by some steps on each side that is limited; none is narrower than 0."""
    if window is None:
        return None
    sides = window if isinstance(window, tuple) else (window, window)
    return tuple(side if side == -1 else max(0, side + by) for side in sides)


def _exchanged(value: float) -> Any:
    def mask(c: Calculation, scores: Array) -> Array:
        seen, biased = seen_and_biased(c, scores)
        return biased if seen.all() else np.where(seen, value, biased)

    return {"mask": mask}


def _hidden_lowered(by: Any) -> dict[str, Any]:
    """A finite number is added where a key is hidden, by all or by the mask alone."""

    def mask(c: Calculation, scores: Array) -> Array:
        seen, biased = seen_and_biased(c, scores)
        return np.where(seen, biased, biased + by)

    def by_mask(c: Calculation, scores: Array) -> Any:
        if c.mask is None or c.mask.dtype != bool:
            return STEPS["mask"](c, scores)
        return np.where(c("band"), np.where(c.mask, scores, scores + by), -np.inf)

    return {"steps": {"mask": mask}, "variants": ({"mask": by_mask},)}


def _put_in(value: Value) -> dict[str, Any]:
    def mask(c: Calculation, scores: Array) -> Array:
        seen, biased = seen_and_biased(c, scores)
        return np.where(seen, biased, value(c))

    return {"mask": mask}


def _of_other_items(order: Callable[[int, int], Array], hidden: float = -np.inf) -> Any:
    """A mask of (N, 1, …) that meets batch and heads folded into one axis in another order."""

    def mask(c: Calculation, scores: Array) -> Any:
        given = c.mask
        if given is None or scores.ndim != 4 or given.ndim != 4 or len(given) == 1:
            return STEPS["mask"](c, scores)
        N, heads = scores.shape[:2]
        items = order(N, heads)
        c.mask = given[items, np.arange(heads) % given.shape[1]]
        seen, biased = seen_and_biased(c, scores)
        c.mask = given
        return np.where(seen, biased, hidden)

    return {"mask": mask}


def _repeated(N: int, heads: int) -> Array:
    return np.arange(N * heads).reshape(heads, N).T // heads


def _tiled(N: int, heads: int) -> Array:
    return np.arange(N * heads).reshape(N, heads) % N


def _another_window(value: Value) -> dict[str, Any]:
    def band(c: Calculation) -> Array:
        claims = replace(c.semantics, window=value(c))
        return Visibility.of(claims, c.T_dec, c.T_enc, extras=c.extras).pattern()

    return {"band": band}


def _but(T: int, *, first: int = 0, last: int = 0) -> slice:
    return slice(first, T - last)


def _whole_blocks(T: int, *, size: int) -> slice:
    return slice(0, T if size >= T else T - T % size)


def _every(T: int, *, start: int, size: int) -> slice:
    return slice(start, T - 1 if start < size else T, size)


_SIZES = (2, 4, 8, 16, 32, 64, 128)
_KEPT: dict[str, Callable[[int], slice]] = {
    "the last key": partial(_but, last=1),
    "the first key": partial(_but, first=1),
    "the last two keys": partial(_but, last=2),
    "every second key": lambda T: slice(0, T, 2),
    **{
        f"what is left beyond whole blocks of {size}": partial(_whole_blocks, size=size)
        for size in _SIZES
    },
}
_TWICE: dict[str, Callable[[int], slice]] = {
    "the last key": lambda T: slice(T - 1, T),
    "the first key": lambda T: slice(0, 1),
    **{
        f"the {which} key of every tile of {size} but the {which}": partial(
            _every, start=size - (which == "last"), size=size
        )
        for size in _SIZES[2:]
        for which in ("first", "last")
    },
}


def from_on(size: int) -> str:
    """The keys beyond so many, in words."""
    return f"the keys from {size} on"


def kept(T: int, left_out: str) -> Array:
    """Which of T keys are left when some are not, in words."""
    left = np.zeros(T, bool)
    beyond = left_out.removeprefix("the keys from ").removesuffix(" on")
    left[slice(0, int(beyond)) if beyond.isdigit() else _KEPT[left_out](T)] = True
    return left


LEFT_OUT = (*_KEPT, *map(from_on, (16, 32, 64, 128, 256)))
"""Keys that a loop may leave out, in words."""


def _left_out(value: Value) -> dict[str, Any]:
    def band(c: Calculation) -> Array:
        return np.asarray(STEPS["band"](c) & kept(c.T_enc, value(c)))

    return {"band": band}


def _counted_twice(value: Value) -> dict[str, Any]:
    def mask(c: Calculation, scores: Array) -> Any:
        T = scores.shape[-1]
        more = np.zeros(T)
        more[_TWICE[value(c)](T)] = np.log(2.0)
        return STEPS["mask"](c, scores + more)

    return {"mask": mask}


def _reversed_bias(c: Calculation) -> Any:
    bias = STEPS["alibi"](c)
    return None if bias is None else -bias


def _without(*extras: str) -> Any:
    """The band as it is without one of the arrays that hide keys."""

    def band(c: Calculation) -> Array:
        left = c.extras._replace(**dict.fromkeys(extras))
        return Visibility.of(c.semantics, c.T_dec, c.T_enc, extras=left).pattern()

    return band


def _sloped(value: Value) -> dict[str, Any]:
    def mask(c: Calculation, scores: Array) -> Any:
        own = own_key(c.semantics, c.T_dec, c.T_enc)
        distance = np.abs(np.arange(c.T_dec)[:, None] + own - np.arange(c.T_enc))
        return STEPS["mask"](c, scores - value(c) * distance)

    return {"mask": mask}


_OTHER = {"upper_left": "lower_right", "lower_right": "upper_left"}


_MASKED = "scores = scores where the mask is True, else −∞"

MASKING: tuple[Mistake, ...] = (
    Mistake(
        "slopes ignored",
        "scores = scores − slope · |own position − key position|",
        "scores = scores",
        "The linear bias of the slopes makes no difference.",
        {"alibi": lambda c: None},
        remedy="scores = scores - slopes[:, None, None] * abs(own - np.arange(T_enc))",
        layers=(QKV,),
    ),
    Mistake(
        "sign of the linear bias reversed",
        "scores = scores − slope · |own position − key position|",
        "scores = scores + slope · |own position − key position|",
        "The bias grows with the distance: what is far away is looked at most.",
        {"alibi": _reversed_bias},
        remedy="scores = scores - slopes[:, None, None] * abs(own - np.arange(T_enc))",
        layers=(QKV,),
    ),
    Mistake(
        "sinks ignored",
        "weights = exp(scores) / (exp(sink) + Σ over T_enc)",
        "weights = exp(scores) / Σ over T_enc",
        "The sink of each head takes no part in the sum.",
        {"sink": lambda c: None},
        remedy="total = e.sum(axis=-1, keepdims=True) + np.exp(sinks[:, None, None] - m)",
        layers=(QKV,),
    ),
    Mistake(
        "lengths ignored",
        "keys from kv_lengths on are hidden",
        "all keys are seen",
        "What lies behind the end of a shorter item is looked at like anything else.",
        {"band": _without("lengths")},
        remedy="seen = seen & (np.arange(T_enc) < kv_lengths[:, None, None, None])",
        layers=(QKV,),
    ),
    Mistake(
        "segments ignored",
        "only queries and keys of one segment see each other",
        "all keys are seen",
        "Packed sequences leak into each other.",
        {"band": _without("ids_dec", "ids_enc")},
        remedy="seen = seen & (segments[:, None, :, None] == segments[:, None, None, :])",
        layers=(QKV,),
    ),
    Mistake(
        "linear bias where none is meant",
        "scores = scale · query · keyᵀ",
        "scores = scale · query · keyᵀ − slope · |own position − key position|, slope {value}",
        "A bias that falls with the distance (ALiBi) is added: slope {value}.",
        remedy="scores = query @ key.swapaxes(-1, -2) * scale",
        family=_sloped,
        starts=(0.25, 0.03, 1.0, -0.25),
        by_head=True,
        layers=(QKV,),
    ),
    Mistake(
        "mask ignored",
        _MASKED,
        "scores = scores",
        "The mask makes no difference.",
        {"mask": _with_mask(lambda mask: None)},
        remedy="scores = np.where(mask, scores, -np.inf)",
    ),
    Mistake(
        "mask polarity reversed",
        _MASKED,
        "scores = −∞ where the mask is True, else scores",
        "True is read as hidden, as in some libraries' padding masks; here True = takes part.",
        {"mask": _with_mask(lambda mask: ~mask if mask.dtype == bool else mask)},
        remedy="scores = np.where(mask, scores, -np.inf)  # else ~mask",
    ),
    Mistake(
        "mask after the softmax",
        "weights = softmax(masked scores)",
        "weights = softmax(scores) · mask",
        "Hidden keys were part of the sum, so the weights that are left sum to less than 1.",
        {
            "mask": lambda c, scores: seen_and_biased(c, scores)[1],
            "after_softmax": lambda c, weights: weights * seen_and_biased(c, weights)[0],
        },
        variants=({"mask": _band_alone, "after_softmax": _times_mask},),
        remedy="weights = softmax(np.where(mask, scores, -np.inf))",
    ),
    Mistake(
        "masked with 0 instead of −∞",
        "scores = −∞ where hidden",
        "scores = 0 where hidden",
        "exp(0) = 1, so a hidden key still gets a weight: scores * mask is not a mask.",
        **_hidden_get(0.0),
        remedy="scores = np.where(mask, scores, -np.inf)",
    ),
    Mistake(
        "scores multiplied by the mask",
        "scores = −∞ where the mask is False, or scores + a floating mask",
        "scores = scores · mask",
        "exp(0) = 1, so a hidden key still gets a weight; and a floating mask is a bias.",
        {"mask": _scores_times_mask},
        remedy="scores = np.where(mask, scores, -np.inf)  # a floating mask is added",
    ),
    Mistake(
        "masked with −1e9 instead of −∞",
        "scores = −∞ where hidden",
        "scores = −1e9 where hidden",
        "It makes no difference until every key of a row is hidden: then the row attends to all "
        "of them alike, where its weights should be 0.",
        **_hidden_get(-1e9),
        remedy="a = np.where(seen.any(axis=-1, keepdims=True), a, 0)  # or -np.inf",
    ),
    Mistake(
        "a fully masked row gives NaN",
        "weights = 0 where every key is hidden",
        "weights = exp(−∞ − (−∞)) = NaN",
        "The largest score of such a row is −∞, and −∞ − (−∞) is not a number.",
        {"softmax": softmax_over((-1,))},
        remedy="m = np.where(np.isfinite(m), m, 0); total = np.where(total == 0, 1, total)",
    ),
    Mistake(
        "boolean mask added to the scores",
        _MASKED,
        "scores = scores + mask (True counts as 1)",
        "A boolean mask selects. Only a floating mask is added.",
        {"mask": _with_mask(lambda mask: mask.astype(np.float64))},
        remedy="s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask",
    ),
    Mistake(
        "floating mask multiplied instead of added",
        "scores = scores + mask",
        "scores = scores · mask",
        "A floating mask is a bias.",
        {"mask": _multiplied},
        remedy="scores = scores + mask",
    ),
    Mistake(
        "mask transposed",
        "mask is (…, T_dec, T_enc): rows are queries",
        "mask is read as (…, T_enc, T_dec)",
        "Rows and columns of the mask changed places: it fits only where T_dec and T_enc are "
        "equal.",
        {"mask": _with_mask(lambda mask: mask.swapaxes(-1, -2))},
        remedy="mask.shape == (..., T_dec, T_enc)  # no swapaxes",
    ),
    Mistake(
        "causal order missing",
        "query t sees no later keys",
        "query t sees all keys",
        "Nothing is hidden from the future.",
        {"band": _claimed(causal=lambda causal: None)},
        layers=STEPPED,
        remedy="seen = np.arange(T_enc) <= np.arange(T_dec)[:, None]",
    ),
    Mistake(
        "causal order where none is meant",
        "every query sees all keys",
        "query t sees the keys ≤ t",
        "If it is meant to be causal, --causal says so.",
        {"band": _claimed(causal=lambda causal: causal or "upper_left")},
        layers=STEPPED,
        remedy="seen = np.ones((T_dec, T_enc), bool)  # or attn check --causal",
    ),
    Mistake(
        "causal order, aligned lower-right, where none is meant",
        "every query sees all keys",
        "the last query sees all keys, the one before all but one, …",
        "If it is meant to be so, --causal --causal-align lower-right says it.",
        {"band": _claimed(causal=lambda causal: causal or "lower_right")},
        layers=STEPPED,
        remedy="seen = np.ones((T_dec, T_enc), bool)  # or --causal --causal-align lower-right",
    ),
    Mistake(
        "causal order off by one: its own step hidden",
        "query t sees the keys ≤ t",
        "query t sees the keys < t",
        "np.tril(…, k=−1), or np.triu(…) without k=1: the own step is hidden too.",
        {"band": _ordered(None, -1)},
        layers=STEPPED,
        remedy="seen = np.tril(np.ones((T_dec, T_enc), bool))",
    ),
    Mistake(
        "causal order off by one: one step ahead seen",
        "query t sees the keys ≤ t",
        "query t sees the keys ≤ t + 1",
        "np.tril(…, k=1), or np.triu(…, k=2): one future step leaks.",
        {"band": _ordered(None, 1)},
        layers=STEPPED,
        remedy="seen = np.tril(np.ones((T_dec, T_enc), bool))",
    ),
    Mistake(
        "causal order reversed",
        "query t sees the keys ≤ t",
        "query t sees the keys ≥ t",
        "np.triu where np.tril is meant, or the other way round: only the future is seen.",
        {"band": _ordered(0, None)},
        layers=STEPPED,
        remedy="seen = np.tril(np.ones((T_dec, T_enc), bool))",
    ),
    Mistake(
        "causal diagonal aligned at the other corner",
        "upper-left: query t sees keys ≤ t; lower-right: the last query sees all keys",
        "the diagonal begins at the other corner",
        "It makes no difference where T_dec and T_enc are equal. torch and JAX align upper-left, "
        "flash-attention lower-right.",
        {"band": _claimed(causal=_OTHER.get)},
        layers=STEPPED,
        remedy="seen = j <= i  # upper left; lower right: j <= i + T_enc - T_dec",
    ),
    Mistake(
        "window missing",
        "query t sees keys at most w steps away",
        "query t sees keys however far away",
        "The window makes no difference.",
        {"band": _claimed(window=lambda window: None)},
        layers=STEPPED,
        remedy="seen = seen & (j >= i - left) & (j <= i + right)",
    ),
    Mistake(
        "window and causal order missing",
        "query t sees the w keys before it and its own",
        "query t sees all keys",
        "Neither window nor causal order makes a difference.",
        {"band": _claimed(window=lambda window: None, causal=lambda causal: None)},
        layers=STEPPED,
        remedy="seen = (j <= i) & (j >= i - left)",
    ),
    Mistake(
        "window off by one: too narrow",
        "|key − query| ≤ w",
        "|key − query| < w",
        "A window of w counts the steps away from the own one, not the keys.",
        {"band": _claimed(window=lambda window: _wider(window, -1))},
        layers=STEPPED,
        remedy="seen = abs(j - i) <= w",
    ),
    Mistake(
        "window off by one: too wide",
        "|key − query| ≤ w",
        "|key − query| ≤ w + 1",
        "One key too many on the window's edge.",
        {"band": _claimed(window=lambda window: _wider(window, 1))},
        layers=STEPPED,
        remedy="seen = abs(j - i) <= w  # of W keys with the own one: w = W - 1",
    ),
    Mistake(
        "what is hidden and what is shown exchanged",
        "scores = scores where seen, else −∞",
        "scores = −1e9 where seen, else scores",
        "The branches of where() are the wrong way round: what is to be hidden is what is shown.",
        _exchanged(-1e9),
        remedy="s = np.where(seen, s, -np.inf)",
        variants=(_exchanged(-np.inf), _exchanged(-1e4), _exchanged(0.0)),
    ),
    Mistake(
        "a finite number added instead of −∞",
        "scores = −∞ where hidden",
        "scores = scores − 10000 where hidden",
        "It makes no difference until every key of a row is hidden: all are lowered alike then, "
        "and the row attends to them as if nothing were hidden, where its weights should be 0.",
        **_hidden_lowered(-1e4),
        remedy="s = np.where(mask, s, -np.inf)  # and weights 0 where a row has no key",
    ),
    Mistake(
        "a small number in place of −∞",
        "scores = −∞ where hidden",
        "scores = {value} where hidden",
        "exp({value}) is not 0, so a hidden key still gets a weight.",
        remedy="s = np.where(mask, s, -np.inf)",
        family=_put_in,
        starts=(-1.0, -3.0, -10.0, -20.0, 1.0),
    ),
    Mistake(
        "mask repeated in the wrong order",
        "row (n, head) is hidden from by mask[n]",
        "batch and heads are folded in one order, the mask is repeated in the other",
        "np.repeat(mask, heads, axis=0) belongs to (N, heads) folded into one axis, np.tile to "
        "(heads, N): items meet each other's masks.",
        _of_other_items(_repeated),
        remedy="s = np.where(mask[:, None], s, -np.inf)  # (N, heads, …), not folded",
        variants=(
            _of_other_items(_tiled),
            _of_other_items(_repeated, hidden=-1e9),
            _of_other_items(_tiled, hidden=-1e9),
        ),
    ),
    Mistake(
        "another window",
        "keys from `left` steps before the own one to `right` after it",
        "a window of {value} (left, right)",
        "The window is {value}. It counts steps away from the own key: of W keys with the own one, "
        "left is W − 1.",
        remedy="seen = (j >= i - left) & (j <= i + right)",
        family=_another_window,
        layers=STEPPED,
        choices=tuple(
            (left, right)
            for left in (*range(9), -1)
            for right in (0, *range(1, 9), -1)
            if (left, right) != (-1, -1)
        ),
        claim="window",
    ),
    Mistake(
        "keys left out",
        "Σ over all T_enc keys",
        "Σ without {value}",
        "Dropped is {value}: no query looks there.",
        remedy="for start in range(0, T_enc, block): k = key[start : start + block]",
        family=_left_out,
        layers=SCORED,
        choices=LEFT_OUT,
        sized=("T_enc", from_on),
    ),
    Mistake(
        "a key counted twice",
        "Σ over all T_enc keys",
        "Σ with {value} twice",
        "Two blocks overlap: {value} has twice its weight.",
        remedy="for start in range(0, T_enc, block): k = key[start : start + block]",
        family=_counted_twice,
        layers=SCORED,
        choices=tuple(_TWICE),
    ),
)
