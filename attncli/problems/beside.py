"""The arrays beside query, key, value and mask: as files hold them, and as options ask for them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.core.extras import EXTRAS, Extras, standard_slopes
from attncli.errors import DataError, ParameterError

_PAIR = ("segments_dec", "segments_enc")
_MOST_SAID = 8

BESIDE = (*EXTRAS, *_PAIR)
"""Their names in a file."""

# What others write beside, and what computes with it here: an option, or a name of ours.
_OPTIONS = {
    **dict.fromkeys(("causal", "is_causal"), "causal"),
    **dict.fromkeys(("scale", "softmax_scale", "sm_scale"), "scale"),
    **dict.fromkeys(("window", "window_size"), "window"),
    **dict.fromkeys(("softcap", "logit_cap", "logits_soft_cap"), "softcap"),
    **dict.fromkeys(("cos", "sin", "positions", "position_ids"), "rotary"),
    **dict.fromkeys(("dropout_p", "keep_prob"), "keep_prob"),
}
SPELLINGS = {
    **dict.fromkeys(("bias", "attn_bias", "attn_mask"), "mask"),
    **dict.fromkeys(("attention_mask", "key_padding_mask"), "enc_mask"),
    **dict.fromkeys(("sink", "s_aux", "attention_sinks"), "sinks"),
    **dict.fromkeys(("slopes",), "alibi"),
    **dict.fromkeys(("segment_ids",), "segments"),
    **dict.fromkeys(("q_segment_ids",), "segments_dec"),
    **dict.fromkeys(("kv_segment_ids",), "segments_enc"),
    **dict.fromkeys(("cu_seqlens_kv",), "cu_seqlens_k"),
    **dict.fromkeys(
        ("key_value_seq_lengths", "nonpad_kv_seqlen", "seqlens", "seqlens_k"), "kv_lengths"
    ),
    **dict.fromkeys(("dropout_mask",), "keep"),
    **dict.fromkeys(("softmax_lse",), "lse"),
}
ELSEWHERE = (*_OPTIONS, *SPELLINGS, "query_seq_lengths", "block_table")
"""Names under which others write what bears on the answer, and which are not read by themselves."""

HIDING = tuple(name for name in BESIDE if name not in ("sinks", "alibi", "keep"))
"""Those that hide keys."""


def extras_of(arrays: Mapping[str, Array]) -> Extras:
    """Put together what a file holds of them.

    Raises
    ------
    DataError
        If of the ids of queries and keys one is missing, or they are there twice.
    """
    extras: dict[str, Any] = {name: array for name, array in arrays.items() if name in EXTRAS}
    pair = [name for name in _PAIR if name in arrays]
    if pair and "segments" in arrays:
        raise DataError(f"segments and {pair[0]} are both there, expected one of them")
    if len(pair) == 1:
        (missing,) = {*_PAIR} - {*pair}
        raise DataError(
            f"{pair[0]} is there without {missing}",
            hint=f"--rename {missing}={pair[0]} reads the same ids for both",
        )
    if pair:
        extras["segments"] = tuple(arrays[name] for name in _PAIR)
    return Extras(**extras)


def computing_with(
    name: str, array: Array, held: Container[str], takes: Container[str], given: Container[str]
) -> str | None:
    """Say by which option an array of `ELSEWHERE` would be computed with.

    Parameters
    ----------
    name : str
    array : ndarray
    held : container of str
        What the file holds.
    takes : container of str
        The options that the operation takes.
    given : container of str
        Those that were given, by the name of the option or of the array that they stand for.

    Returns
    -------
    str or None
        The option, finished; empty where there is none, None where nothing is left to be said.

    Examples
    --------
    >>> computing_with("softmax_scale", np.array(0.3), (), ("scale",), ())
    '--scale 0.3'
    >>> computing_with("sink", np.zeros(3), ("sink",), ("sinks",), ())
    '--rename sinks=sink'
    """
    ours = SPELLINGS.get(name) or _OPTIONS.get(name, "")
    if ours in given:
        return None
    if name in _OPTIONS:
        said = _OPTION_FOR[ours](name, array)
        if said is None or ours not in takes:
            return said and ""
        if ours == "keep_prob" and "keep" not in held:
            masks = [
                theirs for theirs in SPELLINGS if SPELLINGS[theirs] == "keep" and theirs in held
            ]
            return f"--rename keep={masks[0]} {said}" if masks else ""
        return said
    if ours not in takes and ours.removesuffix("_dec").removesuffix("_enc") not in takes:
        return ""
    pair = [theirs for theirs in SPELLINGS if SPELLINGS[theirs] in _PAIR and theirs in held]
    renamed = pair if name in pair else [name]
    taken = any(SPELLINGS[theirs] in held for theirs in renamed)
    return "" if taken else " ".join(f"--rename {SPELLINGS[x]}={x}" for x in renamed)


def _number_as(option: str, off: Callable[[Array], bool], most: int = 1) -> Callable[..., Any]:
    """Return what writes so many numbers as an option: None where it is `off` anyway."""

    def said(name: str, array: Array) -> str | None:
        if array.dtype.kind not in "biuf" or not 1 <= array.size <= most:
            return ""
        if off(array):
            return None
        number = 1 - array if name == "dropout_p" else array
        return f"{option} {','.join(str(x).removesuffix('.0') for x in number.flat)}"

    return said


_OPTION_FOR: Mapping[str, Callable[[str, Array], str | None]] = {
    "causal": lambda name, x: ("--causal" if x.any() else None) if x.size == 1 else "",
    "scale": _number_as("--scale", lambda x: False),
    "window": _number_as("--window", lambda x: bool((x == -1).all()), most=2),
    "softcap": _number_as("--softcap", lambda x: not x.any()),
    "rotary": lambda name, x: "--rotary halves",
    "keep_prob": _number_as("--keep-prob", lambda x: not x.any()),
}


def sizes_beside(arrays: Mapping[str, Array]) -> dict[str, int]:
    """Return what they tell of query's sizes: ``heads``, and ``total`` of packed ones.

    Examples
    --------
    >>> sizes_beside({"sinks": np.zeros(6), "cu_seqlens": np.array([0, 3, 7])})
    {'heads': 6, 'total': 7}
    """
    found = {}
    for name in ("sinks", "alibi"):
        if name in arrays and arrays[name].ndim == 1:
            found["heads"] = len(arrays[name])
    ends = arrays.get("cu_seqlens")
    if ends is not None and ends.ndim == 1 and ends.size and ends.dtype.kind in "iu":
        found["total"] = int(ends[-1])
    return found


def tensors_of(extras: Extras) -> dict[str, Array]:
    """Name them as a file has them: the inverse of `extras_of`.

    Examples
    --------
    >>> list(tensors_of(Extras(sinks=[0.0], segments=([0, 0], [0, 1]))))
    ['sinks', 'segments_dec', 'segments_enc']
    """
    given = extras.given()
    if isinstance(given.get("segments"), tuple):
        given |= zip(_PAIR, given.pop("segments"), strict=True)
    return {name: np.asarray(x) for name, x in given.items()}


def described(extras: Extras) -> list[str]:
    """Say in short what there is; of ids, how many follow each other.

    Examples
    --------
    >>> ids = np.array([0, 0, 1])
    >>> described(Extras(sinks=[0.0, 1.5], segments=(ids, ids), keep=np.ones((3, 3), bool)))
    ['sinks 0,1.5', 'segments 2,1', 'keep']
    """
    return [f"{name} {_in_short(x)}".rstrip() for name, x in extras.given().items()]


def _in_short(given: Any) -> str:
    if isinstance(given, str):
        return given
    if isinstance(given, tuple) and np.ndim(given[0]):
        if any(np.ndim(ids) != 1 for ids in given):
            return ""
        ends = (np.flatnonzero(np.diff(ids, prepend=-1, append=-1)) for ids in given)
        dec, enc = (_in_short(np.diff(one)) for one in ends)
        return dec if dec == enc else f"{dec}/{enc}"
    numbers = np.asarray(given)
    if numbers.ndim != 1:
        return ""
    shown = ",".join(f"{x:.4g}" for x in numbers[:_MOST_SAID].tolist())
    return shown + ",…" * (len(numbers) > _MOST_SAID)


def each(extras: Extras, change: Callable[[str, Array], Array]) -> Extras:
    """Return the extras with every array changed; `change` takes its name in `Extras` too."""
    changed: dict[str, Any] = {}
    for name, given in extras.given().items():
        pair = isinstance(given, tuple)
        arrays = [change(name, np.asarray(one)) for one in (given if pair else (given,))]
        changed[name] = tuple(arrays) if pair else arrays[0]
    return extras._replace(**changed)


def of_item(extras: Extras, n: int, weights_shape: tuple[int, ...]) -> Extras:
    """Return what belongs to one item of the batch.

    Examples
    --------
    >>> of_item(Extras(sinks=[0.0, 1.0], kv_lengths=[2, 3]), 1, (2, 2, 3, 3))
    Extras(sinks=array([0., 1.]), alibi=None, segments=None, cu_seqlens=None, cu_seqlens_k=None, \
kv_lengths=array([3]), keep=None)
    """
    # How many axes an array has that is the same for all items.
    shared = {"sinks": 1, "alibi": 1, "segments": 1, "keep": len(weights_shape) - 1}
    packed = extras.cu_seqlens is not None
    shared |= dict.fromkeys(("cu_seqlens", "cu_seqlens_k"), 1) | {"kv_lengths": int(packed)}

    def cut(name: str, x: Array) -> Array:
        own = x.ndim > shared[name] and len(x) == weights_shape[0]
        return x[n : n + 1] if own else x

    return each(extras, cut)


def in_dtype(extras: Extras, dtype: str | None) -> Extras:
    """Return the extras whose numbers are floating in this dtype; as they are for None."""

    def cast(name: str, x: Array) -> Array:
        with np.errstate(over="ignore"):  # what became infinite is found where they are placed
            return x.astype(dtype) if name in ("sinks", "alibi") else x

    return extras if dtype is None else each(extras, cast)


# What options ask for, where they say it in short: filled in, or said what would have fitted.

Sizes = Mapping[str, int]


def implied_sizes(asked: Extras, usual: Sizes) -> dict[str, int]:
    """Say which sizes random tensors have for the options to fit, instead of the usual ones.

    Examples
    --------
    >>> ids = np.array([0, 0, 0, 1, 1, 1, 1])
    >>> implied_sizes(Extras(kv_lengths=(5, 8), segments=(ids, ids)), {"N": 3, "T": 5, "H": 4})
    {'N': 2, 'T': 7, 'H': 4, 'T_enc': 7}
    >>> implied_sizes(Extras(kv_lengths=(5, 8)), {"N": 3, "T": 5, "H": 4})
    {'N': 2, 'T': 8, 'H': 4}
    """
    sizes = dict(usual)
    lengths = () if asked.kv_lengths is None else np.asarray(asked.kv_lengths)
    if asked.cu_seqlens is not None:
        keys = asked.cu_seqlens if asked.cu_seqlens_k is None else asked.cu_seqlens_k
        sizes |= {"N": 1, "T": int(np.max(asked.cu_seqlens)), "T_enc": int(np.max(keys))}
    elif len(lengths):
        N = {"N": len(lengths)} if len(lengths) > 1 else {}
        axis = "T_enc" if "T_enc" in usual else "T"
        sizes |= {**N, axis: max(usual[axis], int(max(lengths)))}
    if asked.segments is not None:
        sizes |= zip(("T", "T_enc"), map(len, asked.segments), strict=True)
    return {name: size or usual["T"] for name, size in sizes.items()}


def fitted(asked: Extras, sizes: Sizes) -> Extras:
    """Return the arrays that options ask for, whole.

    Parameters
    ----------
    asked : Extras
        As options have it: ``alibi`` may be ``"standard"``, and one of ``sinks`` or ``kv_lengths``
        stands for all.
    sizes : mapping of str to int
        Those of the problem.

    Raises
    ------
    ParameterError
        If one does not fit the sizes.

    Examples
    --------
    >>> fitted(Extras(sinks=(0.0,), alibi="standard"), {"T_dec": 3, "T_enc": 3, "heads": 2}).given()
    {'sinks': array([0., 0.]), 'alibi': array([0.0625    , 0.00390625])}
    """
    whole = {name: _FITTED[name](given, sizes, asked) for name, given in asked.given().items()}
    return Extras(**whole)


def _sinks(given: Sequence[float], sizes: Sizes, asked: Extras) -> Array:
    heads = sizes.get("heads", 1)
    if len(given) not in (1, heads):
        expected = f"expected one number, or one for each head: {heads}"
        raise _refused("sinks", _listed(given), expected, _listed(given[:1]))
    return np.broadcast_to(np.array(given, np.float64), heads).copy()


def _alibi(given: str, sizes: Sizes, asked: Extras) -> Array:
    return standard_slopes(sizes.get("heads", 1))


def _segments(given: tuple[Array, Array], sizes: Sizes, asked: Extras) -> tuple[Array, Array]:
    axes = {"T_dec": sizes.get("T_dec", 1), "T_enc": sizes["T_enc"]}
    runs = [np.bincount(ids).tolist() for ids in given]
    fitting = [_runs_of(T, one) for T, one in zip(axes.values(), runs, strict=True)]
    if runs != fitting:
        said, would = ("/".join(dict.fromkeys(map(_listed, x))) for x in (runs, fitting))
        steps = " and ".join(f"{axis} = {T}" for axis, T in axes.items())
        raise _refused("segments", said, f"expected as many steps: {steps}", would)
    return given


def _runs_of(T: int, runs: Sequence[int]) -> list[int]:
    """Return the runs that end at T: cut, or one more behind."""
    inside = [int(end) for end in np.cumsum(runs) if end < T]
    lengths: list[int] = np.diff([0, *inside, T]).tolist()
    return lengths


def lengths_that_fit(extras: Extras, sizes: Sizes) -> str | None:
    """Give the option that stands for the lengths of a file, as far as they fit; None if all do.

    Examples
    --------
    >>> lengths_that_fit(Extras(kv_lengths=[3, 9]), {"N": 2, "T_enc": 7})
    '--kv-lengths 3,7'
    """
    lengths = np.asarray(extras.kv_lengths)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not lengths.size:
        return None
    try:
        _kv_lengths(lengths.tolist(), sizes, extras)
    except ParameterError as error:
        return error.hint
    return None


def _boundaries(name: str, axis: str) -> Callable[..., Array]:
    option = name.replace("_", "-")

    def fit(given: Sequence[int], sizes: Sizes, asked: Extras) -> Array:
        T = sizes.get(axis, 1)
        if list(given) != sorted(given) or given[0] != 0 or given[-1] != T or len(given) < 2:
            inside = sorted(step for step in given if 0 < step < T)
            expected = f"expected numbers from 0 that never fall, to {T} ({axis})"
            raise _refused(name, _listed(given), expected, _listed([0, *inside, T]))
        T_enc, queries = sizes["T_enc"], list(given)
        if asked.cu_seqlens is not None:
            queries = np.asarray(asked.cu_seqlens).tolist()
        if asked.cu_seqlens_k is None and T_enc != T:
            keys = [0, *(min(step, T_enc) for step in given[1:-1]), T_enc]
            raise ParameterError(
                f"--{option} {_listed(given)}: holds for keys too, and T_enc is {T_enc}",
                hint=f"--{option} {_listed(given)} --{option}-k {_listed(keys)}",
            )
        if len(queries) != len(given):
            inside = [min(step, T) for step in queries[1:-1]]
            expected = f"expected as many sequences as --cu-seqlens has: {len(queries) - 1}"
            raise _refused(name, _listed(given), expected, _listed([0, *inside, T]))
        return np.array(given)

    return fit


def _kv_lengths(given: Sequence[int], sizes: Sizes, asked: Extras) -> Array:
    ends = asked.cu_seqlens if asked.cu_seqlens_k is None else asked.cu_seqlens_k
    of, most = "sequence", [] if ends is None else np.diff(ends).tolist()
    if ends is None:
        of, most = "item", [sizes["T_enc"]] * sizes.get("N", 1)
    lengths = list(given) * (len(most) if len(given) == 1 else 1)
    fitting = [max(0, min(pair)) for pair in zip([*lengths, *most], most, strict=False)]
    if lengths != fitting:
        expected = f"expected one number, or one for each {of}: {_listed(most)} at most"
        raise _refused("kv_lengths", _listed(given), expected, _listed(fitting))
    return np.array(lengths)


_FITTED: Mapping[str, Callable[[Any, Sizes, Extras], Any]] = {
    "sinks": _sinks,
    "alibi": _alibi,
    "segments": _segments,
    "cu_seqlens": _boundaries("cu_seqlens", "T_dec"),
    "cu_seqlens_k": _boundaries("cu_seqlens_k", "T_enc"),
    "kv_lengths": _kv_lengths,
}


def _refused(name: str, given: str, expected: str, fitting: str) -> ParameterError:
    option = f"--{name.replace('_', '-')}"
    return ParameterError(f"{option} {given}: {expected}", hint=f"{option} {fitting}")


def _listed(numbers: Iterable[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)
