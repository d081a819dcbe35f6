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
    as_bfloat16 : bool
        Read raw two-byte elements as bfloat16.
    rename : mapping of str to str
        Our name of a tensor to the name that the file has for it.
    """

    max_memory: int | None = None
    allow_nonfinite: bool = False
    as_bfloat16: bool = False
    rename: Mapping[str, str] = field(default_factory=dict)
