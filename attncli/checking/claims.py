"""What a calculation claims to be: the options under which it is compared with the formula."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from attncli.arrays import Array


@dataclass(frozen=True)
class Claims:
    """The options of an attention.

    Attributes
    ----------
    scale : float or None
        None is 1 for the book's layers and 1/√H for query, key and value.
    causal : {"upper_left", "lower_right"} or None
    softcap : float or None
    window : int or None
    """

    scale: float | None = None
    causal: str | None = None
    softcap: float | None = None
    window: int | None = None

    def visible(self, T_dec: int, T_enc: int) -> Array:
        """Give the (T_dec, T_enc) array of what causal order and window let each query see.

        Examples
        --------
        >>> Claims(causal="lower_right").visible(2, 3).astype(int)
        array([[1, 1, 0],
               [1, 1, 1]])
        """
        own = np.arange(T_dec)[:, None]
        if self.causal == "lower_right":
            own = own + (T_enc - T_dec)
        steps = np.arange(T_enc)
        seen = np.ones((T_dec, T_enc), bool)
        if self.causal is not None:
            seen &= steps <= own
        if self.window is not None:
            seen &= np.abs(steps - own) <= self.window
        return seen

    def described(self) -> str:
        """Say the options in words; empty where there are none.

        Examples
        --------
        >>> Claims(scale=0.5, causal="upper_left").described()
        'scale 0.5, causal upper_left'
        """
        given: dict[str, Any] = {
            "scale": None if self.scale is None else f"{self.scale:g}",
            "causal": self.causal,
            "softcap": None if self.softcap is None else f"{self.softcap:g}",
            "window": self.window,
        }
        return ", ".join(f"{name} {value}" for name, value in given.items() if value is not None)
