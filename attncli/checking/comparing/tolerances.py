"""How far numbers of a dtype may differ: the defaults of ``torch.testing.assert_close``."""

from collections.abc import Mapping

TOLERANCES: Mapping[str, tuple[float, float]] = {
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
    "longdouble": (1e-7, 1e-7),
}
"""(rtol, atol) of each floating dtype; integers and booleans must be equal."""


def default_tolerances(*dtypes: str) -> tuple[float, float]:
    """Give (rtol, atol) for tensors of these dtypes: of each the largest.

    Examples
    --------
    >>> default_tolerances("float64", "float16"), default_tolerances("int64")
    ((0.001, 1e-05), (0.0, 0.0))
    """
    pairs = [TOLERANCES.get(dtype, (0.0, 0.0)) for dtype in dtypes]
    return max(rtol for rtol, _ in pairs), max(atol for _, atol in pairs)
