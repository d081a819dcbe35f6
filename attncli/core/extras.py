"""The arrays beside query, key, value and mask that change what attention computes.

`Extras` holds them as a caller has them; `Extras.placed` checks them against one calculation and
gives each axes that broadcast to the scores', so that nobody after it has to know which of its
axes are items and which are heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.errors import DtypeError, ParameterError, ShapeError
from attncli.foreign import to_numpy

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Shape = tuple[int, ...]


class Placed(NamedTuple):
    """The extras of one calculation, checked; each is None where it was not given.

    Attributes
    ----------
    sinks, alibi, ids_dec, ids_enc, keep : ndarray or None
        Broadcastable to the scores, (…, T_dec, T_enc), with as many axes.
    lengths : ndarray or None
        How many keys there are: broadcastable to the scores too, or one number a sequence.
    sequences : (ndarray, ndarray) or None
        Where the sequences of packed queries and of packed keys begin, and the last ends.
    """

    sinks: Array | None = None
    alibi: Array | None = None
    ids_dec: Array | None = None
    ids_enc: Array | None = None
    keep: Array | None = None
    lengths: Array | None = None
    sequences: tuple[Array, Array] | None = None

    def split(self, split: Callable[[Array], Array]) -> Placed:
        """Return the same with `split` done to every array that has the axes of the scores."""
        done: dict[str, Any] = {
            name: split(x) for name, x in self._asdict().items()
            if isinstance(x, np.ndarray) and x.ndim > 1
        }  # fmt: skip
        return self._replace(**done)


NOTHING = Placed()


class Extras(NamedTuple):
    """Arrays beside query, key, value and mask, as they were given.

    Attributes
    ----------
    sinks : array_like, shape (heads,)
        One more logit for each query head in the softmax's sum, which leads to no value.
    alibi : array_like, shape (heads,)
        Slopes: −slope · |own position − key position| is added to the scores.
    segments : array_like, or a pair of them, shape (T,) or (N, T)
        Ids of the queries and of the keys; only equal ids see each other.
    cu_seqlens, cu_seqlens_k : array_like of int, shape (sequences + 1,)
        Where each sequence of packed queries (and keys, if elsewhere) begins; the last one's end.
    kv_lengths : array_like of int, shape (N,)
        Keys from there on are hidden; of packed tensors, one number a sequence.
    keep : array_like of bool
        Dropout: which weights stay; broadcastable to the weights.

    Examples
    --------
    >>> Extras(kv_lengths=[2, 3]).given()
    {'kv_lengths': [2, 3]}
    >>> Extras(sinks=[0.0, 1.0]).placed((5, 2), 3, 3).sinks.shape
    (1, 2, 1, 1)
    """

    sinks: ArrayLike | None = None
    alibi: ArrayLike | None = None
    segments: Any = None
    cu_seqlens: ArrayLike | None = None
    cu_seqlens_k: ArrayLike | None = None
    kv_lengths: ArrayLike | None = None
    keep: ArrayLike | None = None

    def given(self) -> dict[str, Any]:
        """Return those that there are, by name."""
        return {name: x for name, x in self._asdict().items() if x is not None}

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool([None for x in self if x is not None])

    def placed(self, lead: Shape, T_dec: int, T_enc: int) -> Placed:
        """Check them and give each the axes of the scores, (…, T_dec, T_enc).

        Raises
        ------
        ShapeError, DtypeError
            If one does not fit the scores, or has no such numbers.
        ParameterError
            If numbers are out of range or order, or one is missing that belongs to another.
        """
        if not self:
            return NOTHING
        ids_dec, ids_enc = self._ids(lead, T_dec, T_enc)
        sequences = self._sequences(T_dec, T_enc)
        return Placed(
            self._by_head("sinks", lead),
            self._by_head("alibi", lead),
            ids_dec,
            ids_enc,
            self._keep((*lead, T_dec, T_enc)),
            self._lengths(lead, T_enc, sequences),
            sequences,
        )

    def _by_head(self, name: str, lead: Shape) -> Array | None:
        given = getattr(self, name)
        if given is None:
            return None
        array = to_numpy(given)
        if array.dtype.kind in "iu":
            array = array.astype(np.float64)
        # Complex ones are the loop's, which is differentiated by complex steps.
        if array.dtype.kind not in "fc" and array.dtype.name != "bfloat16":
            raise DtypeError(f"{name} is {array.dtype}, expected real numbers")
        heads = lead[-1] if len(lead) > 1 else 1
        if not _fits(array.shape, lead if len(lead) > 1 else (1,)):
            raise ShapeError(
                f"{name} is {array.shape}, expected one number for each query head: ({heads},)"
            )
        # A sink of −inf is one that is not there.
        size = array.real
        if np.isnan(size).any() or (np.isinf(size) & ((size > 0) | (name == "alibi"))).any():
            raise ParameterError(f"{name} holds NaN or infinity, expected finite numbers")
        if len(lead) < 2:
            return array.reshape((1,) * (len(lead) + 2))
        return array.reshape((1,) * (len(lead) - array.ndim) + array.shape + (1, 1))

    def _ids(self, lead: Shape, T_dec: int, T_enc: int) -> tuple[Array | None, Array | None]:
        if self.segments is None:
            return None, None
        paired = isinstance(self.segments, tuple)
        if paired and len(self.segments) != 2:
            raise ParameterError(
                f"segments holds {len(self.segments)} arrays, expected ids of queries and of keys"
            )
        if not paired and T_dec != T_enc:
            raise ParameterError(
                f"segments is one array, and T_dec differs from T_enc ({T_dec} and {T_enc}): "
                "expected a pair, of queries and of keys"
            )
        dec, enc = self.segments if paired else (self.segments, self.segments)
        names = ("segments_dec", "segments_enc") if paired else ("segments", "segments")
        ids_dec = _by_item(names[0], dec, lead, (("T_dec", T_dec),), "iub")
        ids_enc = _by_item(names[1], enc, lead, (("T_enc", T_enc),), "iub")
        return ids_dec[..., :, None], ids_enc[..., None, :]

    def _sequences(self, T_dec: int, T_enc: int) -> tuple[Array, Array] | None:
        if self.cu_seqlens is None:
            if self.cu_seqlens_k is not None:
                raise ParameterError("cu_seqlens_k is there without cu_seqlens, its queries'")
            return None
        queries = _boundaries("cu_seqlens", self.cu_seqlens, T_dec, "queries")
        if self.cu_seqlens_k is None:
            return queries, _boundaries("cu_seqlens", self.cu_seqlens, T_enc, "keys")
        keys = _boundaries("cu_seqlens_k", self.cu_seqlens_k, T_enc, "keys")
        if len(keys) != len(queries):
            raise ShapeError(
                f"cu_seqlens_k is {keys.shape}, cu_seqlens is {queries.shape}: "
                "expected as many sequences"
            )
        return queries, keys

    def _lengths(
        self, lead: Shape, T_enc: int, sequences: tuple[Array, Array] | None
    ) -> Array | None:
        if self.kv_lengths is None:
            return None
        if sequences is None:
            lengths = _by_item("kv_lengths", self.kv_lengths, lead, (), "iu")[..., None, None]
            most = np.asarray(T_enc)
        else:  # the items are the sequences
            most = np.diff(sequences[1])
            lengths = _integers("kv_lengths", to_numpy(self.kv_lengths), "iu")
            if not _fits(lengths.shape, most.shape):
                raise ShapeError(
                    f"kv_lengths is {lengths.shape}, expected one number for each of the "
                    f"{len(most)} sequences of cu_seqlens"
                )
            lengths = np.broadcast_to(lengths, most.shape)
        if (lengths < 0).any() or (lengths > most).any():
            bad = lengths[(lengths < 0) | (lengths > most)][0]
            raise ParameterError(
                f"kv_lengths holds {bad}, expected 0 to the number of keys, {int(most.max())}"
            )
        return lengths

    def _keep(self, scores: Shape) -> Array | None:
        if self.keep is None:
            return None
        keep = to_numpy(self.keep)
        if keep.dtype != bool:
            if keep.dtype.kind not in "iuf" or not np.isin(keep, (0, 1)).all():
                raise DtypeError(
                    f"keep is {keep.dtype} with other values than 0 and 1, expected booleans"
                    if keep.dtype.kind in "iuf"
                    else f"keep is {keep.dtype}, expected booleans"
                )
            keep = keep.astype(bool)
        if not _fits(keep.shape, scores):
            raise ShapeError(f"keep is {keep.shape}, expected what fits the weights: {scores}")
        return keep.reshape((1,) * (len(scores) - keep.ndim) + keep.shape)


EXTRAS = Extras._fields
NO_EXTRAS = Extras()


def standard_slopes(heads: int) -> Array:
    """Return the slopes that the paper gives so many heads.

    For a power of two they are 2^(−8·i/heads), i from 1; other numbers take those of the next
    smaller power of two, and then every other one of the next larger.

    References
    ----------
    Press, Smith and Lewis, "Train short, test long: attention with linear biases enables input
    length extrapolation", 2022, arXiv:2108.12409, section 3, and the code beside it.

    Examples
    --------
    >>> standard_slopes(4)
    array([0.25      , 0.0625    , 0.015625  , 0.00390625])
    >>> standard_slopes(3)
    array([0.0625    , 0.00390625, 0.25      ])
    """
    lower = 1 << (max(heads, 1).bit_length() - 1)
    slopes = 2.0 ** (-8 / lower * np.arange(1, lower + 1))
    between = 2.0 ** (-4 / lower * np.arange(1, 2 * (heads - lower), 2))
    return np.concatenate([slopes, between])[:heads]


def _fits(shape: Shape, full: Shape) -> bool:
    """Tell whether an array of `shape` broadcasts to `full` without making it larger."""
    missing = len(full) - len(shape)
    return missing >= 0 and all(
        size in (1, whole) for size, whole in zip(shape, full[missing:], strict=True)
    )


def _integers(name: str, array: Array, kinds: str) -> Array:
    if array.dtype.kind not in kinds:
        raise DtypeError(f"{name} is {array.dtype}, expected integers")
    return array if array.dtype.kind == "b" else array.astype(np.int64, copy=False)


def _by_item(
    name: str, given: ArrayLike, lead: Shape, trailing: tuple[tuple[str, int], ...], kinds: str
) -> Array:
    """Return an array (…, trailing) with as many axes before them as `lead` has.

    It may be shared by all items, or have one entry for each: N is the first leading axis.
    """
    array = _integers(name, to_numpy(given), kinds)
    own = len(trailing)
    sizes = tuple(size for _, size in trailing)
    outer = array.shape[: array.ndim - own]
    inner_fits = array.ndim >= own and array.shape[array.ndim - own :] == sizes
    if not inner_fits or not (
        len(outer) == 0 or (len(outer) == 1 and lead and outer[0] in (1, lead[0]))
        or (len(outer) == len(lead) and _fits(outer, lead))
    ):  # fmt: skip
        axes = ", ".join(f"{axis} = {size}" for axis, size in trailing)
        items = f"N = {lead[0]}" if lead else ""
        forms = [f"({axes})" if axes else "one number", f"({items}{', ' if axes else ''}{axes})"]
        expected = " or ".join(forms if lead else forms[:1])
        raise ShapeError(f"{name} is {array.shape}, expected {expected}")
    if len(outer) == len(lead):
        return array
    return array.reshape((*outer, *(1,) * (len(lead) - len(outer)), *sizes))


def _boundaries(name: str, given: ArrayLike, T: int, what: str) -> Array:
    array = _integers(name, to_numpy(given), "iu")
    if array.ndim != 1 or len(array) < 2:
        raise ShapeError(f"{name} is {array.shape}, expected (sequences + 1,)")
    if array[0] != 0 or (np.diff(array) < 0).any():
        raise ParameterError(f"{name} is {_short(array)}, expected to begin at 0 and never fall")
    if array[-1] != T:
        raise ParameterError(f"{name} ends at {array[-1]}, expected the number of {what}, {T}")
    return array


def _short(array: Array) -> str:
    shown = ", ".join(map(str, array[:8].tolist()))
    return f"[{shown}{', …' if len(array) > 8 else ''}]"
