"""Rotary position embedding: pairs of features turned by an angle that grows with the position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attncli.arrays import Array
from attncli.core.operands import dtypes_of
from attncli.core.semantics import LARGEST
from attncli.errors import DtypeError, ParameterError, ShapeError
from attncli.foreign import library_of, to_numpy

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

STYLES = ("halves", "interleaved")


@dataclass(frozen=True)
class Rotation:
    """How features are turned, checked in this one place.

    Attributes
    ----------
    style : {"halves", "interleaved"}
        Which features are a pair: i and i + width/2, or 2i and 2i + 1.
    base : float
        Pair i turns by position · base^(−2i/width).
    width : int or None
        How many features are turned, the first ones; None is all.

    Raises
    ------
    ParameterError
        If one is outside its range.

    Examples
    --------
    >>> Rotation("halves", width=3)
    Traceback (most recent call last):
    attncli.errors.ParameterError: rotary width is 3, expected an even number, 2 or more
    """

    style: str = "halves"
    base: float = 10000.0
    width: int | None = None

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ParameterError(f"rotary style is {self.style}, expected {' or '.join(STYLES)}")
        if not 1 <= self.base <= LARGEST:
            raise ParameterError(f"rotary base is {self.base}, expected a finite number, 1 or more")
        if self.width is not None and (self.width < 2 or self.width % 2 != 0):
            raise ParameterError(
                f"rotary width is {self.width}, expected an even number, 2 or more"
            )

    def pair(self, feature: int, width: int) -> tuple[int, int]:
        """Return the number of the pair that a feature belongs to, and the other feature in it.

        Examples
        --------
        >>> Rotation("halves").pair(3, 4), Rotation("interleaved").pair(3, 4)
        ((1, 1), (1, 2))
        """
        half = width // 2
        if self.style == "halves":
            return feature % half, (feature + half) % width
        return feature // 2, feature ^ 1

    def width_of(self, name: str, shape: tuple[int, ...]) -> int:
        """Return how many features of an array (…, H) are turned.

        Raises
        ------
        ShapeError
            If it does not have so many, or all of them are an odd number.
        """
        H = shape[-1]
        if self.width is not None:
            if self.width > H:
                raise ShapeError(
                    f"{name} is {shape}: H is {H}, expected at least the rotary width {self.width}"
                )
            return int(self.width)
        if H % 2:
            raise ShapeError(
                f"{name} is {shape}: H is {H}, expected an even number of features, or a rotary "
                "width of fewer"
            )
        return H


def rotary(
    x: ArrayLike,
    positions: ArrayLike | None = None,
    *,
    style: str = "halves",
    base: float = 10000.0,
    width: int | None = None,
    inverse: bool = False,
    cos: ArrayLike | None = None,
    sin: ArrayLike | None = None,
) -> Array:
    """Rotate query or key by their positions, so that scores depend on how far apart they are.

    ::

        angle = position · base^(−2i/width)             for pair i of width/2
        out_a = x_a · cos(angle) − x_b · sin(angle)
        out_b = x_b · cos(angle) + x_a · sin(angle)

    Parameters
    ----------
    x : array_like, shape (…, T, H)
        Real numbers.  float16 and bfloat16 are computed in float32 and cast back, integers in
        float64.  Never modified.
    positions : array_like, shape (T,) or (N, T), optional
        Integers or fractions; 0 … T − 1 if left out.  Of (N, T), N is the first axis of x, or 1;
        axes between it and T share them.
    style : {"halves", "interleaved"}, optional
        Which features are a pair (a, b): i and i + width/2, or 2i and 2i + 1.
    base : float, optional
        1 or more; has no part in it where there are tables.
    width : int, optional
        Even.  The first so many features are rotated, the others stay; all if left out.
    inverse : bool, optional
        Go back: the gradient with respect to x of what ``rotary(x, …)`` returned, from the gradient
        of that.
    cos, sin : array_like, optional
        Tables instead of angles, with width/2 numbers a position, one a pair, or with width, one
        a feature in the order of x.  Already gathered, (T, width/2), (N, T, width/2) or with as
        many axes as x, they are broadcast against it.  With `positions` beside them they are
        (steps, width/2), and positions are the steps, whole numbers.

    Returns
    -------
    ndarray, shape (…, T, H)
        In the dtype of x, or float64 for integers.

    Raises
    ------
    ShapeError
        Shapes that do not fit, or an odd number of features.
    DtypeError
        Anything that is not real; positions that are fractions beside tables.
    ParameterError
        Options outside their range, positions that are not finite or that a table does not have,
        one table without the other.

    Notes
    -----
    Angles are computed in float64 whatever the dtype of x: at position 100,000 those of float32
    are off by up to 0.004.  `inverse` multiplies by the transpose, which is the backward of
    any tables, and undoes the rotation where cos² + sin² is 1.

    References
    ----------
    Su et al., "RoFormer: enhanced transformer with rotary position embedding", 2021,
    arXiv:2104.09864, equation 34: its pairs are the interleaved ones.

    Examples
    --------
    >>> x = np.array([[1.0, 0.0], [1.0, 0.0]])
    >>> rotary(x, [0.0, np.pi / 2]).round(12)
    array([[1., 0.],
           [0., 1.]])
    >>> query, key = np.ones((2, 8)), np.ones((2, 8))
    >>> here = rotary(query, [3, 4]) @ rotary(key, [1, 2]).T
    >>> there = rotary(query, [103, 104]) @ rotary(key, [101, 102]).T
    >>> np.allclose(here, there)
    True
    >>> np.allclose(rotary(rotary(query), inverse=True), query)
    True
    """
    rotation = Rotation(style, base, width)
    library = library_of({"x": x})
    x = _real("x", x)
    if x.ndim < 2:
        raise ShapeError(f"x is {x.shape}, expected at least two axes: (…, T, H)")
    compute, dtype = dtypes_of(x.dtype)
    own_width = rotation.width_of("x", x.shape)
    if (cos is None) != (sin is None):
        one, other = ("cos", "sin") if sin is None else ("sin", "cos")
        raise ParameterError(f"{one} is given without {other}: expected both tables, or none")
    at = np.arange(x.shape[-2]) if positions is None else _positions(positions, x.shape)
    tables: list[Array] = []
    if cos is None or sin is None:
        tables += _tables(at, own_width, base, compute)
    for name, given in (("cos", cos), ("sin", sin)):
        if given is not None:
            table = _real(name, given)
            if positions is None:
                table = _gathered(name, table, x.shape, own_width)
            else:
                table = _looked_up(name, table, at, own_width)
            with np.errstate(over="ignore"):  # of wider numbers than are computed with
                tables.append(table.astype(compute, copy=False))
    tables = [_beside(table, x.ndim) for table in tables]
    turned = _turned(x.astype(compute, copy=False), tables[0], tables[1], own_width, style, inverse)
    turned = turned.astype(dtype, copy=False)
    return turned if library is None else library.result(turned)


def _turned(x: Array, cos: Array, sin: Array, width: int, style: str, inverse: bool) -> Array:
    """Turn the first `width` features by tables that broadcast against (…, T, half or width)."""
    pairs = _pairs(width, width, style)
    of_tables = _pairs(cos.shape[-1], width, style), _pairs(sin.shape[-1], width, style)
    cos_a, cos_b = (cos[..., part] for part in of_tables[0])
    sin_a, sin_b = (sin[..., part] for part in of_tables[1])
    if inverse:  # the transpose
        sin_a, sin_b = -sin_b, -sin_a
    a, b = (x[..., part] for part in pairs)
    out = np.empty(x.shape, x.dtype)
    out[..., pairs[0]] = a * cos_a - b * sin_a
    out[..., pairs[1]] = b * cos_b + a * sin_b
    out[..., width:] = x[..., width:]
    return out


def _pairs(size: int, width: int, style: str) -> tuple[slice, slice]:
    """Where the first and the second of each pair stand; a table of one a pair has both in one."""
    if size < width:
        return slice(None), slice(None)
    if style == "halves":
        return slice(0, width // 2), slice(width // 2, width)
    return slice(0, width, 2), slice(1, width, 2)


def _tables(positions: Array, width: int, base: float, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Cosine and sine (…, T, half) of the angles, which are wider than float32 in any case."""
    exact = np.result_type(np.float64, dtype)
    steps = np.arange(0, width, 2).astype(exact)
    angles = positions.astype(exact)[..., None] * exact.type(base) ** (-steps / width)
    return np.cos(angles).astype(dtype, copy=False), np.sin(angles).astype(dtype, copy=False)


def _beside(table: Array, ndim: int) -> Array:
    """Give a table (N, T, …) the axes that an array (N, …, T, H) has between N and T."""
    if table.ndim != 3 or ndim <= 3:
        return table
    return table.reshape(table.shape[0], *[1] * (ndim - 3), *table.shape[1:])


def _real(name: str, x: ArrayLike) -> Array:
    array = to_numpy(x)
    if array.dtype.kind not in "iubf" and array.dtype.name != "bfloat16":
        raise DtypeError(f"{name} is {array.dtype.name}, expected real numbers")
    return array


def _positions(positions: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Check positions against the shape (…, T, H) of what is rotated."""
    array = _real("positions", positions)
    if array.dtype == bool:
        raise DtypeError("positions is bool, expected numbers")
    T = shape[-2]
    fits = array.shape == (T,) or (
        array.ndim == 2 and len(shape) > 2 and array.shape in ((shape[0], T), (1, T))
    )
    if not fits:
        batched = f" or (N, T) = {(shape[0], T)}" if len(shape) > 2 else ""
        raise ShapeError(
            f"positions is {array.shape}, x is {shape}: expected (T,) = {(T,)}{batched}"
        )
    if array.dtype.kind not in "iu" and not np.isfinite(array.astype(np.float64)).all():
        raise ParameterError("positions hold NaN or infinity, expected finite numbers")
    return array


def _gathered(name: str, table: Array, shape: tuple[int, ...], width: int) -> Array:
    """Check a table that has the positions of (…, T, H) already."""
    _require_width(name, table, width)
    own = _beside(table, len(shape)).shape
    against = shape[:-1]
    axes = len(own) in (2, len(shape))
    if not axes or any(
        have not in (1, want) for have, want in zip(own[-2::-1], against[::-1], strict=False)
    ):
        hint = None
        if table.ndim == 2:
            hint = f"positions=np.arange({shape[-2]}) takes the first rows of tables of all steps"
        batched = " or (N, T, …)" if len(shape) > 2 else ""
        raise ShapeError(
            f"{name} is {table.shape}, x is {shape}: expected (T, …){batched}, with N and T of x",
            hint=hint,
        )
    return table


def _looked_up(name: str, table: Array, positions: Array, width: int) -> Array:
    """Take the rows that positions name from a table of all steps."""
    if table.ndim != 2:
        raise ShapeError(
            f"{name} is {table.shape}, expected (steps, half) where there are positions: tables "
            "that are gathered already need none"
        )
    _require_width(name, table, width)
    if positions.dtype.kind not in "iu":
        raise DtypeError(
            f"positions is {positions.dtype.name}, expected whole numbers: the rows of {name}"
        )
    steps = len(table)
    if positions.size and (positions.min() < 0 or positions.max() >= steps):
        outside = positions.min() if positions.min() < 0 else positions.max()
        raise ParameterError(
            f"positions hold {outside}, expected 0 to {steps - 1}: {name} is {table.shape}"
        )
    return table[positions]


def _require_width(name: str, table: Array, width: int) -> None:
    if table.ndim < 2 or table.shape[-1] not in (width // 2, width):
        raise ShapeError(
            f"{name} is {table.shape}, expected (…, T, half): {width // 2} numbers a position for "
            f"{width} features, or {width}"
        )
