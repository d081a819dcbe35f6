"""Numbers said as formulas: 0.25 is 1/√H where H is 16."""

from collections.abc import Iterator, Mapping
from math import e, gcd, isclose, isqrt, log, prod
from typing import NamedTuple

# Integers up to here are looked for under a root, and as multiples of the usual.
_UNDER_ROOT = 1 << 14
_MULTIPLES = 9
_LEAST = 1e-9
# What a scale is the root of when somebody takes the wrong size for the head's.
_TOGETHER = (("H",), ("H_v",), ("heads", "H"), ("kv_heads", "H"), ("T_enc",))
_SIZES = (*_TOGETHER, ("heads",), ("kv_heads",), ("T_dec",))
_PADDED = (8, 16, 32, 64, 128)


class Reading(NamedTuple):
    """A number that was found, and the sizes at which it was found.

    Attributes
    ----------
    value : float
    sizes : mapping of str to int
        H, H_v, heads and so on: those that there are.
    given : float or None
        The number that was asked for.
    """

    value: float
    sizes: Mapping[str, int]
    given: float | None = None


def formula_of(*readings: Reading, rtol: float = 1e-6) -> str | None:
    """Say which formula gives every reading its number: the simplest; None where none does.

    Examples
    --------
    >>> formula_of(Reading(0.25, {"H": 16}))
    '1/√H'
    >>> formula_of(Reading(0.125, {"H": 40})), formula_of(Reading(18**-0.5, {"H": 16}))
    ('1/√64 (H padded to a power of two)', '1/√18')
    >>> formula_of(Reading(8**-0.5, {"H": 7}), Reading(8**-0.5, {"H": 3}))
    '1/√(H padded to a multiple of 8)'
    >>> formula_of(Reading(1 / 6, {"H": 16})), formula_of(Reading(0.3141, {"H": 16}))
    ('2/3 · 1/√H', None)
    """
    known = [dict(_formulas(one, alone=len(readings) == 1)) for one in readings]
    for text in known[0]:
        if all(
            text in named and isclose(named[text], reading.value, rel_tol=rtol)
            for named, reading in zip(known, readings, strict=True)
        ):
            return text
    return None


def said(*readings: Reading, rtol: float = 1e-6) -> str:
    """Say a number with the formula that it is, if it is one.

    Examples
    --------
    >>> said(Reading(0.25, {"H": 16})), said(Reading(0.3141, {"H": 16}))
    ('0.25 = 1/√H', '0.3141')
    >>> said(Reading(0.5, {"H": 4}), Reading(1 / 3, {"H": 9}))
    '1/√H'
    """
    formula = formula_of(*readings, rtol=rtol)
    values = {f"{reading.value:.6g}" for reading in readings}
    number = values.pop() if len(values) == 1 else ""
    if formula is None:
        return number or " … ".join(sorted({f"{reading.value:.6g}" for reading in readings}))
    return f"{number} = {formula}" if number and number != formula else formula


def _formulas(reading: Reading, *, alone: bool) -> Iterator[tuple[str, float]]:
    """Formulas and the numbers that they are at these sizes, the simplest first."""
    sizes, given = reading.sizes, reading.given
    yield from (("1", 1.0), ("0", 0.0), ("−1", -1.0))
    if given is not None:
        yield f"the given {given:g}", given
        yield f"the given {given:g}, squared", given**2
        yield f"1/{given:g}", 1 / given if given else 0.0
        if given > 0:
            yield f"√{given:g}", given**0.5
            yield f"1/√{given:g}", given**-0.5
    yield from _of_sizes(sizes, _SIZES, alone=alone)
    if "H" in sizes:
        usual = sizes["H"] ** -0.5
        if given is not None:
            yield f"{given:g} · 1/√H", given * usual
        for bottom in range(1, _MULTIPLES + 1):
            for top in range(1, _MULTIPLES + 1):
                if gcd(top, bottom) == 1 and top != bottom:
                    share = f"{top}/{bottom}" if bottom > 1 else f"{top}"
                    yield f"{share} · 1/√H", top / bottom * usual
    yield from _plain(reading.value)


def _of_sizes(
    sizes: Mapping[str, int], together: tuple[tuple[str, ...], ...], *, alone: bool
) -> Iterator[tuple[str, float]]:
    for names in together:
        if all(name in sizes for name in names):
            size = prod(sizes[name] for name in names)
            text = "·".join(names)
            root = f"√({text})" if len(names) > 1 else f"√{text}"
            over = f"1/({text})" if len(names) > 1 else f"1/{text}"
            yield from ((f"1/{root}", size**-0.5), (over, 1 / size), (root, size**0.5))
            if names == ("H",):
                yield from _of_head_size(size, alone=alone)


def usual_scales(sizes: Mapping[str, int]) -> dict[str, float]:
    """Give the scales that are in use at some sizes, by their formulas, the usual one first.

    Examples
    --------
    >>> found = usual_scales({"H": 84, "H_v": 16})
    >>> found["1/√H_v"], found["1/√128 (H padded to a power of two)"] == 128**-0.5
    (0.25, True)
    """
    found = dict(_of_sizes(sizes, _TOGETHER, alone=True))
    # Where nothing tells one from another, that counts which comes first.
    return {"1/√H": sizes["H"] ** -0.5, "1": 1.0, **found}


def _of_head_size(H: int, *, alone: bool) -> Iterator[tuple[str, float]]:
    """What becomes of 1/√H where H is padded, or the base of the exponential is another."""
    padded = [("a power of two", 1 << (H - 1).bit_length())]
    padded += [(f"a multiple of {unit}", H + -H % unit) for unit in _PADDED]
    for what, size in padded:
        if size != H or not alone:
            where = f"1/√{size} (H padded to {what})" if alone else f"1/√(H padded to {what})"
            yield where, size**-0.5
    yield from (("log2(e)/√H", H**-0.5 / log(2)), ("ln(2)/√H", H**-0.5 * log(2)))


def _plain(value: float) -> Iterator[tuple[str, float]]:
    """A number for itself: 1/√18, 1/12, 3/4, ln 2."""
    if abs(value) > _LEAST:
        under = round(min(1 / value**2, 2.0 * _UNDER_ROOT))
        if value > 0 and 1 < under <= _UNDER_ROOT:
            root = isqrt(under)
            yield (f"1/{root}" if root**2 == under else f"1/√{under}"), under**-0.5
        over = round(min(abs(1 / value), 2.0 * _UNDER_ROOT))
        if value > 0 and 1 < over <= _UNDER_ROOT:
            yield f"1/{over}", 1 / over
    yield from (("ln(2)", log(2)), ("log2(e)", 1 / log(2)), ("e", e))
