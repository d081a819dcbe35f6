"""Results that a file brings along, held against ours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from attncli.arrays import Array
from attncli.reports import Agreement

# Those of torch.testing.assert_close.
_TOLERANCES = {"float16": (1e-3, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7)}


def compare_claims(
    claimed: Mapping[str, Array], results: Mapping[str, Array]
) -> tuple[Agreement, ...]:
    """Compare each result that the file brings along with ours, if ours was kept.

    Examples
    --------
    >>> compare_claims({"output": np.array([0.0, 0.5])}, {"out": np.zeros(2)})
    (Agreement(name='output', agrees=False, largest_difference=0.5),)
    """
    agreements = []
    for name, theirs in claimed.items():
        ours = results.get("out" if name == "output" else name)
        if ours is None:
            continue
        if ours.shape != theirs.shape:
            agreements.append(Agreement(name, False, float("inf")))
            continue
        coarser = min(ours.dtype, theirs.dtype, key=lambda dtype: dtype.itemsize)
        relative, absolute = _TOLERANCES.get(str(coarser), _TOLERANCES["float64"])
        difference = np.abs(ours.astype(np.float64) - theirs)
        agrees = np.all(difference <= absolute + relative * np.abs(theirs))
        agreements.append(Agreement(name, bool(agrees), float(difference.max(initial=0.0))))
    return tuple(agreements)
