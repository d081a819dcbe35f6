"""What a calculation claims to be: the options under which it is compared with the formula."""

import numpy as np

from attncli.arrays import Array
from attncli.operations import Semantics


def visible(claims: Semantics, T_dec: int, T_enc: int) -> Array:
    """Give the (T_dec, T_enc) array of what causal order and window let each query see.

    Examples
    --------
    >>> visible(Semantics(causal="lower_right"), 2, 3).astype(int)
    array([[1, 1, 0],
           [1, 1, 1]])
    """
    own = np.arange(T_dec)[:, None]
    if claims.causal == "lower_right":
        own = own + (T_enc - T_dec)
    steps = np.arange(T_enc)
    seen = np.ones((T_dec, T_enc), bool)
    if claims.causal is not None:
        seen &= steps <= own
    if claims.window is not None:
        seen &= np.abs(steps - own) <= claims.window
    return seen


def described(claims: Semantics) -> str:
    """Say the options in words; empty where there are none.

    Examples
    --------
    >>> described(Semantics(scale=0.5, causal="upper_left"))
    'scale 0.5, causal upper_left'
    """
    values = claims.given().items()
    return ", ".join(f"{x} {v:g}" if isinstance(v, float) else f"{x} {v}" for x, v in values)
