"""How libraries read the options that hide keys by their step: one table, which the guide shows.

The same ``causal`` and ``window`` mean other keys in each of them wherever T_dec and T_enc differ,
or a window counts a query's own token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

from attncli.core.semantics import Semantics
from attncli.errors import ParameterError


class Library(NamedTuple):
    """How a library reads causal order and windows.

    Attributes
    ----------
    align : {"upper_left", "lower_right"}
        Where the own key of a query stands.
    window : {"beside", "included"} or None
        Whether the own token counts as one of the window's, or beside it; None: it has no windows.
    names : str
        What the options are called there.

    Examples
    --------
    >>> asked = Semantics(causal="upper_left", window=4)
    >>> LIBRARIES["transformers"].read("transformers", asked).described()
    'causal lower_right, window 3'
    """

    align: Literal["upper_left", "lower_right"]
    window: Literal["beside", "included"] | None
    names: str

    def read(self, name: str, asked: Semantics) -> Semantics:
        """Give what these options mean there.

        Raises
        ------
        ParameterError
            If it has no such option.
        """
        if asked.window is not None and self.window is None:
            having = " or ".join(x for x, one in LIBRARIES.items() if one.window is not None)
            raise ParameterError(
                f"--convention {name} with --window: {name} has no window",
                hint=f"--convention {having}",
            )
        window = asked.window
        if self.window == "included" and window is not None:
            if isinstance(window, tuple):
                raise ParameterError(
                    f"--convention {name} with --window {window[0]},{window[1]}: its window is one "
                    "number, of tokens with a query's own",
                    hint=f"--window {max(1, window[0] + 1)}",
                )
            if window == 0:
                raise ParameterError(
                    f"--convention {name} with --window 0: a window that counts a query's own "
                    "token has at least 1",
                    hint="--window 1",
                )
            window = max(window - 1, -1)
        if asked.causal is None:
            return replace(asked, align=self.align, window=window)
        return replace(asked, causal=self.align, align=None, window=window)


LIBRARIES: Mapping[str, Library] = {
    "torch": Library("upper_left", None, "scaled_dot_product_attention(is_causal=True)"),
    "jax": Library(
        "upper_left", "beside", "dot_product_attention(is_causal=True, local_window_size=(L, R))"
    ),
    "onnx": Library("upper_left", None, "Attention, is_causal=1, without a cache"),
    "flash-attention": Library(
        "lower_right", "beside", "flash_attn_func(causal=True, window_size=(L, R)), since 2.1"
    ),
    "flash-attention-2.0": Library("upper_left", None, "flash_attn_func(causal=True), before 2.1"),
    "transformers": Library(
        "lower_right", "included", "sliding_window=W, with the keys of a cache before"
    ),
}
"""By the name that ``--convention`` takes."""
