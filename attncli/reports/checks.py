"""What a check of somebody's layer against the reference found."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "wrong", "note", "skipped"]
Part = Literal["forward", "backward", "contract"]


@dataclass(frozen=True)
class Finding:
    """One thing that holds or does not.

    Attributes
    ----------
    name : str
        The situation: "N = 1", "called twice" …
    part : {"forward", "backward", "contract"}
    status : {"ok", "wrong", "note", "skipped"}
        A note is worth knowing and no fault.
    detail : str
        What was found, in a sentence.
    """

    name: str
    part: Part
    status: Status
    detail: str = ""


@dataclass(frozen=True)
class NamedMistake:
    """A mistake from the catalogue.

    Attributes
    ----------
    name, meant, computed, why : str
        As `attncli.checking.diagnosing.mistakes.Mistake`.
    """

    name: str
    meant: str
    computed: str
    why: str


@dataclass(frozen=True)
class Diagnosis:
    """What reproduces the observed numbers.

    Attributes
    ----------
    mistakes : tuple of NamedMistake
        One, or a pair.
    explains : {"everything", "forward"}
        Whether the gradients are reproduced too.
    backward : str
        How backward goes with a wrong forward, in a sentence; empty where forward is right.
    distance : float
        The largest relative distance between the numbers it predicts and those observed.
    beside : bool
        Whether it is no rival explanation of the numbers, but what else was noticed.
    """

    mistakes: tuple[NamedMistake, ...]
    explains: Literal["everything", "forward"]
    backward: str
    distance: float
    beside: bool = False


@dataclass(frozen=True)
class Link:
    """One quantity along the calculation, as far as it can be seen from outside.

    Attributes
    ----------
    name : str
    status : {"right", "wrong", "not visible"}
    seen : str
        By what it was seen.
    """

    name: str
    status: Literal["right", "wrong", "not visible"]
    seen: str


@dataclass(frozen=True)
class CheckReport:
    """What holds of somebody's layer and what does not.

    Attributes
    ----------
    target : str
    layer : str
        The layer of ours that it is compared with.
    claims : str
        Scale, causal order and so on, where they were given.
    findings : tuple of Finding
    diagnoses : tuple of Diagnosis
        Best first; empty where it is right, or where nothing known matches.
    chain : tuple of Link
        Where it is wrong: what is right and what is not along the calculation.
    differs : bool
        Whether numbers are wrong: a mistake is looked for in those alone.
    no_gradients : str
        Why backward gave nothing to judge in any case; empty where it did.
    trace : tuple of str
        The traceback of a call that raised, of their code alone.
    """

    target: str
    layer: str
    claims: str
    findings: tuple[Finding, ...]
    diagnoses: tuple[Diagnosis, ...] = ()
    chain: tuple[Link, ...] = ()
    differs: bool = False
    no_gradients: str = ""
    trace: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return all(finding.status != "wrong" for finding in self.findings)

    @property
    def first_difference(self) -> str | None:
        """The first quantity along the calculation that is wrong, as far as it is visible."""
        return next((link.name for link in self.chain if link.status == "wrong"), None)
