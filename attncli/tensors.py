"""The named tensors: what axes each has, and how a random one is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any
from zlib import crc32

import numpy as np

from attncli.arrays import Array
from attncli.errors import ParameterError, ShapeError

_AXES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "hs_enc": (("N", "T_enc", "H"),),
    "hs_dec": (("N", "T_dec", "H"),),
    "hs": (("N", "T_enc", "H"),),
    "h": (("N", "H"),),
    "a": (("N", "T_enc"),),
    "scores": (
        ("N", "T_dec", "T_enc"),
        ("T_enc",),
        ("T_dec", "T_enc"),
        ("N", "heads", "T_dec", "T_enc"),
    ),
    "query": (("N", "T_dec", "H"), ("T_dec", "H"), ("N", "heads", "T_dec", "H")),
    "key": (("N", "T_enc", "H"), ("T_enc", "H"), ("N", "kv_heads", "T_enc", "H")),
    "value": (("N", "T_enc", "H_v"), ("T_enc", "H_v"), ("N", "kv_heads", "T_enc", "H_v")),
    "out": (("N", "T_dec", "H_v"), ("T_dec", "H_v"), ("N", "heads", "T_dec", "H_v")),
    "enc_mask": (("N", "T_enc"),),
    "dec_mask": (("N", "T_dec"),),
    "logsumexp": (("N", "T_dec"), ("T_dec",), ("N", "heads", "T_dec")),
    "sinks": (("heads",),),
    "alibi": (("heads",),),
    "segments": (("N", "T"), ("T",)),
    "segments_dec": (("N", "T_dec"), ("T_dec",)),
    "segments_enc": (("N", "T_enc"), ("T_enc",)),
    "kv_lengths": (("N",),),
    "tokens": (("N", "T"), ("T",)),
    "tokens_enc": (("N", "T_enc"), ("T_enc",)),
    "tokens_dec": (("N", "T_dec"), ("T_dec",)),
}
# The same axes under another name.
_ALIASES = {"weights": "scores", "mask": "scores", "keep": "scores", "output": "out"}


_HALF, _LOW_HALF = np.uint64(32), np.uint64(2**32 - 1)
_GAMMA = 0x9E3779B97F4A7C15  # what SplitMix64 adds at every step
_CHUNK = 1 << 20


def axes_of(name: str, ndim: int) -> tuple[str, ...] | None:
    """Name the axes of a tensor with a known name; ``dX`` has those of ``X``.

    Returns
    -------
    tuple of str or None
        None where the name is not known, or not with so many axes.

    Examples
    --------
    >>> axes_of("dhs_enc", 3)
    ('N', 'T_enc', 'H')
    >>> axes_of("weights", 4)
    ('N', 'heads', 'T_dec', 'T_enc')
    >>> axes_of("weights", 5) is None
    True
    """
    name = _ALIASES.get(name, name)
    readings = _AXES.get(name) or _AXES.get(_ALIASES.get(name[1:], name[1:]), ())
    return next((axes for axes in readings if len(axes) == ndim), None)


def default_axes(name: str) -> tuple[str, ...]:
    """Name the axes that a tensor has unless its number of axes says otherwise.

    Examples
    --------
    >>> default_axes("scores")
    ('N', 'T_dec', 'T_enc')
    """
    return _AXES[_ALIASES.get(name, name)][0]


def random_tensor(
    name: str,
    shape: tuple[int, ...],
    *,
    seed: int = 0,
    dtype: str | np.dtype[Any] = "float64",
    out: Array | None = None,
) -> Array:
    """Draw the random tensor of a name: nearly standard normal; ``a`` is normalised to weights.

    Every name has a stream of its own, so drawing one tensor more or fewer never changes another.
    Each number is the sum of twelve uniform ones less six: mean 0, variance 1, within ±6.  Only
    integer and exact floating-point arithmetic is involved, no logarithm of anybody's library, so
    the same name, shape and seed give the same bits on every machine and with every NumPy.

    Parameters
    ----------
    name : str
        The tensor's name, for example ``"hs_enc"``.
    shape : tuple of int
        Its shape.
    seed : int, default 0
        Not negative.
    dtype : dtype, default float64
        The numbers are drawn in float64 and then rounded to it.
    out : ndarray, `shape`, `dtype`, optional
        Where to draw it, in one piece: a file, for what memory does not hold.  Not ``a``.

    Returns
    -------
    ndarray, `shape`, `dtype`

    Raises
    ------
    ParameterError
        If the seed is negative.

    References
    ----------
    Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: the
    generator SplitMix64.

    Examples
    --------
    >>> random_tensor("hs_enc", (1, 2), seed=0).round(3)
    array([[0.998, 0.097]])
    >>> random_tensor("a", (1, 3), seed=0).sum().round(12)
    np.float64(1.0)
    """
    if seed < 0:
        raise ParameterError(f"seed is {seed}, expected 0 or more")
    count = prod(shape)
    start = _start(name, seed)
    # The halves of six words are twelve uniform integers below 2³²; a chunk at a time, so that
    # drawing takes little more memory than the tensor.
    if out is None:
        out = np.empty(shape, np.uint64 if name == "a" else dtype)
    drawn = out.reshape(-1)
    for first in range(0, count, _CHUNK):
        twelve = np.zeros(min(_CHUNK, count - first), np.uint64)
        for word in range(6):
            words = splitmix64(start + (word * count + first) * _GAMMA, twelve.size)
            twelve += (words >> _HALF) + (words & _LOW_HALF)
        part = drawn[first : first + _CHUNK]
        part[:] = twelve if name == "a" else (twelve.astype(np.float64) + 6.0) / 2.0**32 - 6.0
    if name != "a":
        return out
    # Integers add up exactly in any order, so this too is the same everywhere.
    values: Array = out / out.sum(axis=-1, keepdims=True)
    return values.astype(dtype, copy=False)


def random_keep(shape: tuple[int, ...], probability: float, *, seed: int = 0) -> Array:
    """Draw the mask of dropout, ``keep``: each weight stays with this probability.

    Examples
    --------
    >>> keep = random_keep((100, 100), 0.8)
    >>> keep.dtype, round(float(keep.mean()), 2)
    (dtype('bool'), 0.81)
    """
    count, start = prod(shape), _start("keep", seed)
    keep = np.empty(count, bool)
    for first in range(0, count, _CHUNK):
        part = keep[first : first + _CHUNK]
        part[:] = splitmix64(start + first * _GAMMA, part.size) >> _HALF < probability * 2.0**32
    return keep.reshape(shape)


def _start(name: str, seed: int) -> int:
    """Mix twice, so that neighbouring seeds and names start far from each other."""
    return int(splitmix64(int(splitmix64(seed, 1)[0]) ^ crc32(name.encode()), 1)[0])


def splitmix64(start: int, count: int) -> Array:
    """Give the first `count` words of the SplitMix64 stream that a number starts.

    Returns
    -------
    uint64 ndarray (count,)

    Examples
    --------
    >>> [hex(word) for word in splitmix64(0, 2).tolist()]
    ['0xe220a8397b1dcdaf', '0x6e789e6aa1b965f4']
    """
    word = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GAMMA)
    word += np.uint64(start % 2**64)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def describe_shape(shape: tuple[int, ...], axes: tuple[str, ...] | None = None) -> str:
    """Write a shape, with the names of its axes where they are known.

    Examples
    --------
    >>> describe_shape((3, 5), ("N", "T_enc"))
    '(3, 5) = (N, T_enc)'
    >>> describe_shape((7,))
    '(7,)'
    """
    if axes is None or len(axes) != len(shape):
        return str(shape)
    names = ", ".join(axes) + ("," if len(axes) == 1 else "")
    return f"{shape} = ({names})"


def agreed_sizes(
    tensors: Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]],
) -> dict[str, tuple[int, str]]:
    """Return the size of every axis, and a tensor that has it, of tensors by name: axes and shape.

    Raises
    ------
    ShapeError
        If two disagree.

    Examples
    --------
    >>> agreed_sizes({"h": (("N", "H"), (2, 3)), "a": (("N", "T_enc"), (2, 5))})
    {'N': (2, 'h'), 'H': (3, 'h'), 'T_enc': (5, 'a')}
    """
    owners: dict[str, tuple[int, str]] = {}
    for name, (axes, shape) in tensors.items():
        for axis, size in zip(axes, shape, strict=True):
            known, owner = owners.setdefault(axis, (size, name))
            if size != known:
                raise ShapeError(
                    f"{owner} is {tensors[owner][1]}, {name} is {shape}: "
                    f"{axis} differs ({known} and {size})"
                )
    return owners


def describe_range(count: int) -> str:
    """Write which indices an axis of this size has.

    Examples
    --------
    >>> describe_range(12), describe_range(1), describe_range(0)
    ('there are 12, 0 to 11', 'there is only 0', 'there is none')
    """
    if count > 1:
        return f"there are {count}, 0 to {count - 1}"
    return "there is only 0" if count else "there is none"


def describe_numbers(there: Sequence[int]) -> str:
    """Write which numbers there are, some between perhaps being not there.

    Examples
    --------
    >>> describe_numbers(range(12)), describe_numbers([0, 1, 3, 7]), describe_numbers([4])
    ('there are 12, 0 to 11', 'there are 4: 0, 1, 3, 7', 'there is only 4')
    """
    if [*there] == [*range(len(there))]:
        return describe_range(len(there))
    if len(there) == 1:
        return f"there is only {there[0]}"
    return f"there are {len(there)}: {', '.join(map(str, there))}"
