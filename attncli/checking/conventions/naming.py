"""Numbers and ranges in words: a scale as a formula, failures as items, heads and rows."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import numpy as np

from attncli.arrays import Array

_LARGEST_ROOT = 4096


def named_scale(scale: float, error: float, formulas: dict[str, float]) -> tuple[float, str]:
    """Return the scale that is meant, and its formula if it is one.

    Examples
    --------
    >>> known = {"1/√H": 0.25}
    >>> named_scale(0.24999999, 1e-7, known), named_scale(0.2357022, 1e-7, known)
    ((0.25, '1/√H'), (0.23570226039551584, '1/√18'))
    >>> named_scale(0.37000001, 1e-7, known)
    (0.37, '')
    """
    for words, value in formulas.items():
        if abs(scale - value) <= error:
            return value, words
    root = round(scale**-2) if scale > 1e-3 else 0
    # The roots have to be far apart beside the error: or one would always be near.
    if 0 < root <= _LARGEST_ROOT and error < 0.05 * scale / root:
        value = root**-0.5
        if abs(scale - value) <= error:
            whole = isqrt(root) ** 2 == root
            return value, f"1/{isqrt(root)}" if whole and root > 100 else f"1/√{root}"
    return shortest(scale, error), ""


def shortest(number: float, error: float) -> float:
    """Return the number of the fewest digits within the error.

    Examples
    --------
    >>> shortest(29.999993, 1e-4), shortest(0.123456, 0.0)
    (30.0, 0.123456)
    """
    for digits in range(1, 17):
        rounded = float(f"{number:.{digits}g}")
        if abs(rounded - number) <= error:
            return rounded
    return number


def close(number: float) -> str:
    """Write a number with six digits.

    Examples
    --------
    >>> close(0.08838834764831845), close(30.0)
    ('0.0883883', '30')
    """
    return f"{number:.6g}"


Ranges = list[tuple[int, int]]


def ranges(indices: Sequence[int]) -> Ranges:
    """Gather indices that follow each other.

    Examples
    --------
    >>> ranges([0, 1, 2, 5])
    [(0, 2), (5, 5)]
    """
    found: Ranges = []
    for index in indices:
        if found and index == found[-1][1] + 1:
            found[-1] = (found[-1][0], index)
        else:
            found.append((index, index))
    return found


def written(one: Ranges, most: int = 6) -> str:
    """Write ranges.

    Examples
    --------
    >>> written([(0, 2), (5, 5)])
    '0-2, 5'
    """
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in one]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def failures(fails: Array) -> list[dict[str, Ranges]]:
    """Gather where something fails: the rows of each item and head, those that are alike at once.

    Examples
    --------
    >>> fails = np.zeros((3, 2, 10), bool)
    >>> fails[2, :, 6:] = True
    >>> failures(fails)
    [{'items': [(2, 2)], 'heads': [(0, 1)], 'rows': [(6, 9)]}]
    """
    N, heads, _ = fails.shape
    same: dict[bytes, dict[bytes, list[int]]] = {}
    for n in range(N):
        by_rows: dict[bytes, list[int]] = {}
        for head in range(heads):
            if fails[n, head].any():
                by_rows.setdefault(fails[n, head].tobytes(), []).append(head)
        for rows, which in by_rows.items():
            of_heads = np.asarray(which, np.int64).tobytes()
            same.setdefault(rows, {}).setdefault(of_heads, []).append(n)
    return [
        {
            "items": ranges(items),
            "heads": ranges(np.frombuffer(of_heads, np.int64).tolist()),
            "rows": ranges(np.flatnonzero(np.frombuffer(rows, bool)).tolist()),
        }
        for rows, by_heads in same.items()
        for of_heads, items in by_heads.items()
    ]


def place(failure: dict[str, Ranges], shape: tuple[int, int, int]) -> str:
    """Say where something fails; an axis that all of is concerned is left out.

    Examples
    --------
    >>> place({"items": [(2, 2)], "heads": [(0, 1)], "rows": [(6, 9)]}, (3, 2, 10))
    'item 2, rows 6-9'
    """
    parts = []
    for (axis, found), size in zip(failure.items(), shape, strict=True):
        if found == [(0, size - 1)]:
            continue
        one = len(found) == 1 and found[0][0] == found[0][1]
        parts.append(f"{axis[:-1] if one else axis} {written(found)}")
    return ", ".join(parts) or "everything"
