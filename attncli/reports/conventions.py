"""Under which convention somebody's output was computed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Convention:
    """One way in which attention can be computed from given arrays.

    Attributes
    ----------
    scale, causal, mask, layout, groups, softcap : str
        In words; empty where there is nothing to choose.
    distance : float
        The largest difference from the output, relative to its largest number.
    """

    scale: str
    causal: str
    mask: str
    layout: str
    groups: str
    softcap: str
    distance: float

    @property
    def described(self) -> str:
        """All of it in one line."""
        parts = (self.causal, self.scale, self.mask, self.layout, self.groups, self.softcap)
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class ConventionReport:
    """What a search for a convention found.

    Attributes
    ----------
    tried : int
        How many combinations.
    tolerance : float
        A combination of at most this distance reproduces the output.
    found : tuple of Convention
        Those that do, the simplest first.
    nearest : Convention or None
        The nearest of all.
    """

    tried: int
    tolerance: float
    found: tuple[Convention, ...]
    nearest: Convention | None

    @property
    def passed(self) -> bool:
        """Whether one reproduces the output."""
        return bool(self.found)
