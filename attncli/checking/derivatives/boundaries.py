"""Sizes that cross tiles: which they are, and from which on something is wrong."""

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import NamedTuple

from attncli.translation import Sentence

Sizes = Mapping[str, int]

LARGE: tuple[Sizes, ...] = (
    {"H": 136}, {"T_enc": 257}, {"T_dec": 257}, {"N": 1, "T_dec": 67, "T_enc": 131, "H": 71},
)  # fmt: skip
"""The sizes that are not as usual: few, and each cheap for code that loops over an axis."""

HEADED: tuple[Sizes, ...] = (
    {"N": 17, "heads": 8, "H": 32},
    {"N": 1, "heads": 13, "T_dec": 37, "T_enc": 67, "H": 41},
    {"N": 1, "heads": 26, "kv_heads": 13, "T_enc": 67},
)
"""The same for what has heads: many items and heads, at last heads in groups."""

SECONDS = 3.0
"""What would take longer is given smaller sizes."""

# In the order in which they are looked at.
_AXES = ("T_enc", "T_dec", "H", "heads", "N")


class Boundary(NamedTuple):
    """From which size on something is wrong.

    Attributes
    ----------
    axis : str
    right, wrong : int
        The largest size up to which it is right, and the next.
    beside : str
        Which other sizes have to be large as well.
    sizes : mapping of str to int
        The smallest that are wrong.
    """

    axis: str
    right: int
    wrong: int
    beside: str
    sizes: Sizes
    only: str = ""

    @property
    def said(self) -> Sentence:
        """Since when it is wrong."""
        since = Sentence("wrong where {only}", only=self.only)
        if not self.only:
            since = Sentence(
                "right up to {axis} = {right}, wrong from {wrong} on",
                axis=self.axis, right=self.right, wrong=self.wrong,
            )  # fmt: skip
        if self.beside:
            return Sentence("{since} ({beside})", since=since, beside=self.beside)
        return since


def boundary(wrong: Callable[[Sizes], bool], large: Sizes, usual: Sizes) -> Boundary | None:
    """Find from which size on something is wrong that is right in the usual sizes; None if it is.

    One axis is looked at: the first that makes it wrong by itself, else the first that it is not
    wrong without, the others as large as they are.

    Examples
    --------
    >>> usual = {"T_dec": 3, "T_enc": 5}
    >>> large = {"T_dec": 67, "T_enc": 131}
    >>> print(boundary(lambda sizes: sizes["T_enc"] > 64, large, usual).said)
    right up to T_enc = 64, wrong from 65 on
    >>> print(boundary(lambda sizes: min(sizes.values()) > 64, large, usual).said)
    right up to T_enc = 64, wrong from 65 on (T_dec = 67)
    >>> print(boundary(lambda sizes: sizes["T_enc"] % 64 == 0, {"T_enc": 256}, usual).said)
    wrong where T_enc is a multiple of 64
    """
    axes = [axis for axis in _AXES if large.get(axis, 0) > usual.get(axis, 0)]
    if "kv_heads" in large:  # which have to divide them
        axes.remove("heads")
    small = {**large, **{axis: usual[axis] for axis in axes}}

    def telling() -> Iterator[tuple[str, Sizes]]:
        yield from ((x, small) for x in axes if wrong({**small, x: large[x]}))
        yield from ((x, large) for x in axes if not wrong({**large, x: small[x]}))

    axis, others = next(telling(), ("", small))
    if not axis or wrong({**others, axis: small[axis]}):
        return None
    low, high = small[axis], large[axis]
    while high - low > 1:
        middle = (low + high) // 2
        if high - low > 2:
            # Odd where that is wrong: in whole tiles what is left beyond them would not show.
            middle += (middle ^ high) & 1
        if wrong({**others, axis: middle}):
            high = middle
        else:
            low = middle
    beside = ", ".join(f"{x} = {others[x]}" for x in axes if x != axis and others is large)
    only = ""
    if high % 2 == 0 and not wrong({**others, axis: high + 1}):  # whole tiles alone may be
        while high // 2 > small[axis] and wrong({**others, axis: high // 2}):
            high //= 2
        many = wrong({**others, axis: 2 * high})
        only, low = f"{axis} {'is a multiple of' if many else '='} {high}", high - 1
    return Boundary(axis, low, high, beside, {**others, axis: high}, only)


def within(sizes: Sizes, most: float, usual: Sizes) -> Sizes:
    """Halve sizes until there is no more work to do than so much.

    Examples
    --------
    >>> within({"N": 1, "T_enc": 257, "H": 71}, 5000, {"N": 2, "T_enc": 5, "H": 7})
    {'N': 1, 'T_enc': 129, 'H': 35}
    """
    while work(sizes) > most and any(sizes[axis] > usual[axis] for axis in sizes if axis in usual):
        sizes = {
            axis: max(size // 2 | 1, min(size, usual[axis])) if axis in usual else size
            for axis, size in sizes.items()
        }
    return sizes


def work(sizes: Sizes) -> int:
    """How many products there are to be added up.

    Examples
    --------
    >>> work({"N": 2, "heads": 6, "kv_heads": 3, "T_dec": 3, "T_enc": 5, "H": 7})
    1260
    """
    return prod(size for axis, size in sizes.items() if axis != "kv_heads")
