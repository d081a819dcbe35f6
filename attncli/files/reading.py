"""How files are to be read."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reading:
    """How files are to be read.

    Attributes
    ----------
    max_memory : int or None
        The most bytes one array may take when it is read; None: what there is.
    allow_nonfinite : bool
        Let NaN and Inf through.
    as_dtype : str or None
        ``bfloat16`` or ``float16``: what raw two-byte elements are, and what numbers that are held
        in a wider dtype were computed in.
    rename : mapping of str to str
        Our name of a tensor to the name that the file has for it.
    """

    max_memory: int | None = None
    allow_nonfinite: bool = False
    as_dtype: str | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
