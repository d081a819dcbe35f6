"""Sizes that cross tiles: how large they may be for slow code, and from which on it is wrong."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from attncli.checking.diagnosing.cases import Case

Sizes = Mapping[str, int]

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
    case : Case
        The smallest that is wrong.
    """

    axis: str
    right: int
    wrong: int
    beside: str
    case: Case

    def __str__(self) -> str:
        since = f"right up to {self.axis} = {self.right}, wrong from {self.wrong} on"
        return f"{since} ({self.beside})" if self.beside else since


def boundary(wrong: Callable[[Case], bool], case: Case, usual: Sizes) -> Boundary | None:
    """Find from which size on a case is wrong that is right in the usual sizes; None if it is not.

    One axis is looked at: the first that makes it wrong by itself, else the first that it is not
    wrong without, the others as large as they are.

    Examples
    --------
    >>> from attncli.checking.diagnosing.cases import Suite
    >>> from attncli.core.semantics import Semantics
    >>> suite = Suite("attention", Semantics(), {})
    >>> (case,) = (case for case in suite.large() if case.name == "T_enc = 257")
    >>> print(boundary(lambda case: case.sizes["T_enc"] > 64, case, suite.usual))
    right up to T_enc = 64, wrong from 65 on
    """
    assert case.resized is not None
    large = case.sizes
    axes = [axis for axis in _AXES if large.get(axis, 0) > usual.get(axis, 0)]
    if "kv_heads" in large:  # which have to divide them
        axes.remove("heads")
    small = {**large, **{axis: usual[axis] for axis in axes}}

    def wrong_at(sizes: Sizes) -> bool:
        assert case.resized is not None
        return wrong(case.resized(sizes))

    def telling() -> Iterator[tuple[str, Sizes]]:
        yield from ((x, small) for x in axes if wrong_at({**small, x: large[x]}))
        yield from ((x, large) for x in axes if not wrong_at({**large, x: small[x]}))

    axis, others = next(telling(), ("", small))
    if not axis or wrong_at({**others, axis: small[axis]}):
        return None
    low, high = small[axis], large[axis]
    while high - low > 1:
        middle = (low + high) // 2
        if high - low > 2:
            middle |= 1  # in whole tiles what is left beyond them would not show
        if wrong_at({**others, axis: middle}):
            high = middle
        else:
            low = middle
    beside = ", ".join(f"{x} = {others[x]}" for x in axes if x != axis and others is large)
    return Boundary(axis, low, high, beside, case.resized({**others, axis: high}))


def within(case: Case, most: float, usual: Sizes) -> Case:
    """Halve the sizes of a case until there is no more work to do than so much.

    Examples
    --------
    >>> from attncli.checking.diagnosing.cases import Suite
    >>> from attncli.core.semantics import Semantics
    >>> suite = Suite("attention", Semantics(), {})
    >>> [within(case, 1000, suite.usual).name for case in suite.large()]
    ['H = 17', 'T_enc = 17']
    """
    assert case.resized is not None
    sizes = dict(case.sizes)
    while case.work > most and any(sizes[axis] > usual[axis] for axis in usual):
        for axis in usual.keys() - {"heads"}:
            sizes[axis] = max(sizes[axis] // 2 | 1, min(sizes[axis], usual[axis]))
        case = case.resized(sizes) if case.resized is not None else case
    return case
