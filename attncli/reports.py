"""What a check found: frozen values that the table, the JSON and a test all read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.errors import TargetError
from attncli.shown import Several, Shown

# What a check of somebody's layer against the reference found.


Status = Literal["ok", "wrong", "note", "skipped"]
Part = Literal["forward", "backward", "contract"]


def gradient_name(name: str) -> str:
    """Say what the gradient of an input or parameter is called.

    Examples
    --------
    >>> gradient_name("hs"), gradient_name("layer.params[0]")
    ('dhs', 'layer.grads[0]')
    """
    return name.replace("params[", "grads[") if "params[" in name else f"d{name}"


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
    seconds : float
        What it took to find that; 0 where that was not measured.
    """

    name: str
    part: Part
    status: Status
    detail: str = ""
    seconds: float = field(default=0.0, compare=False, metadata={"json": False})


@dataclass(frozen=True)
class NamedMistake:
    """A mistake from the catalogue.

    Attributes
    ----------
    name : str
        As a noun phrase.
    meant, computed : str
        The line of mathematics that is meant, and the one that is computed instead.
    why : str
        What goes wrong, and often why, to somebody who made it.
    """

    name: str
    meant: str
    computed: str
    why: str

    @property
    def slug(self) -> str:
        """Its name as it is typed: `attn explain scale-1-sqrt-h`."""
        return slug(self.name)


_SPELT = {"√": " sqrt ", "−": "-", "∞": "inf", "Σ": "sum"}


def slug(name: str) -> str:
    """Give a name in letters, digits and dashes alone.

    Examples
    --------
    >>> slug("masked with −1e9 instead of −∞"), slug("scale 1/√(heads·H)")
    ('masked-with-1e9-instead-of-inf', 'scale-1-sqrt-heads-h')
    """
    for sign, spelt in _SPELT.items():
        name = name.replace(sign, spelt)
    return "-".join(re.findall("[a-z0-9]+", name.replace("'", "").lower()))


class Known(NamedTuple):
    """A line of the catalogue.

    Attributes
    ----------
    name, slug : str
        As it is called, and as it can be typed.
    kind : str
    computed : str
        The line of mathematics that is computed.
    """

    name: str
    slug: str
    kind: str
    computed: str


@dataclass(frozen=True)
class MistakeExample:
    """A small calculation with a mistake and without.

    Attributes
    ----------
    layer, claims : str
        The operation, and its options.
    inputs : dict of str to ndarray
    meant, computed : dict of str to ndarray
        The results that differ.
    """

    layer: str
    claims: str
    inputs: dict[str, Any]
    meant: dict[str, Any]
    computed: dict[str, Any]


@dataclass(frozen=True)
class Explanation:
    """A mistake of the catalogue, explained.

    Attributes
    ----------
    name, kind : str
    meant, computed : str
        The line of mathematics that is meant, and the one that is computed instead.
    why : str
    remedy : str
        What to write instead, in code.
    shows : tuple of str
        Where it shows in a check, and how that looks.
    example : MistakeExample or None
        None where numbers do not tell.
    """

    name: str
    kind: str
    meant: str
    computed: str
    why: str
    remedy: str
    shows: tuple[str, ...]
    example: MistakeExample | None


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


@dataclass(frozen=True, repr=False)
class CheckReport(Shown):
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
        """Whether something was judged, and nothing is wrong."""
        found = {finding.status for finding in self.findings}
        return "ok" in found and "wrong" not in found

    @property
    def first_difference(self) -> str | None:
        """The first quantity along the calculation that is wrong, as far as it is visible."""
        return next((link.name for link in self.chain if link.status == "wrong"), None)

    @property
    def line(self) -> str:
        """What it was held against, how many checks fail, and the likely mistake."""
        wrong = sum(finding.status == "wrong" for finding in self.findings)
        judged = wrong + sum(finding.status == "ok" for finding in self.findings)
        names = " + ".join(one.name for found in self.diagnoses[:1] for one in found.mistakes)
        count = f"{wrong} of {judged} checks" if wrong else f"{judged} checks"
        return f"{self.target} against {self.layer}, {count}{names and ', likely '}{names}"


@dataclass(frozen=True, repr=False)
class FailedReport(Shown):
    """Why something could not be examined: its code fails or lacks something, or we lack a word.

    Attributes
    ----------
    target : str
    error : TargetError
    """

    target: str
    error: TargetError

    @property
    def passed(self) -> bool:
        """No."""
        return False

    @property
    def line(self) -> str:
        """What failed."""
        return str(self.error)


@dataclass(frozen=True, repr=False)
class CheckReports(Several, CheckReport):
    """What holds of each layer in a file, in order; findings and diagnoses are those of all.

    Attributes
    ----------
    reports : tuple of CheckReport or FailedReport
    """

    reports: tuple[CheckReport | FailedReport, ...] = ()

    @classmethod
    def of(
        cls, target: str, claims: str, reports: tuple[CheckReport | FailedReport, ...]
    ) -> CheckReports:
        """Put together the reports on what a text names."""
        whole = [one for one in reports if isinstance(one, CheckReport)]
        return cls(
            target,
            ", ".join(dict.fromkeys(one.layer for one in whole)),
            claims,
            tuple(finding for one in whole for finding in one.findings),
            tuple(diagnosis for one in whole for diagnosis in one.diagnoses),
            reports=reports,
        )


# What a comparison of tensors found.


@dataclass(frozen=True)
class Element:
    """One element of two tensors.

    Attributes
    ----------
    index : tuple of int
    a, b : float
        The two values there; whole numbers beyond 2**53 are int, so as not to be rounded.
    """

    index: tuple[int, ...]
    a: float
    b: float


@dataclass(frozen=True)
class Drift:
    """By what a result is off throughout, as roundings that differ do not come to.

    Attributes
    ----------
    kind : {"factor", "scale"}
        The result itself is too large, or it is as the scale of scores would have it.
    value : float
        How many times what it should be.
    allowed : float
        How far from 1 that may be there.
    places : tuple of str
        Where, in words; empty if everywhere.
    """

    kind: Literal["factor", "scale"]
    value: float
    allowed: float
    places: tuple[str, ...] = ()

    @property
    def described(self) -> str:
        """In words, but for where.

        Examples
        --------
        >>> Drift("factor", 1.02, 0.004).described
        '2 % too large; roundings explain 0.4 %'
        """
        by = f"{100 * abs(self.value - 1):.2g} % too {'large' if self.value > 1 else 'small'}"
        by = by if self.kind == "factor" else f"as by a scale {by}"
        return f"{by}; roundings explain {100 * self.allowed:.2g} %"


@dataclass(frozen=True)
class Budget:
    """How far the candidate may be from the exact result, in every row of every head.

    The numbers are those of the place where the candidate is farthest beside what is allowed there.

    Attributes
    ----------
    dtype : str
        What the candidate is taken to be computed in.
    exact_dtype : str
        What the exact result was computed in.
    allowed : float
        Twice the error of the plain formula in `dtype`, and a unit in the last place.
    straightforward : float
        That error.
    candidate : float
        The error of the candidate, A; infinite where it is NaN or infinite.
    other : float
        The error of B, for information.
    outside : int
        How many elements of A are farther off than they may be.
    worst : Element
        The place; b is the exact result.
    places : tuple of str
        Where the elements outside lie, in words.
    assumed : bool
        Whether A is held in a wider dtype, and taken for `dtype` because that holds its numbers.
    drift : Drift or None
        What is wrong throughout, although each element may be so far off.
    """

    dtype: str
    exact_dtype: str
    allowed: float
    straightforward: float
    candidate: float
    other: float
    outside: int
    worst: Element
    places: tuple[str, ...] = ()
    assumed: bool = False
    drift: Drift | None = None

    @property
    def passed(self) -> bool:
        """Whether the candidate keeps within the budget, everywhere and throughout."""
        return not self.outside and self.drift is None


@dataclass(frozen=True)
class TensorComparison:
    """How far two tensors are apart.

    Differences are taken over the elements that are finite in both.

    Attributes
    ----------
    name : str
    shapes : pair of tuple of int
    dtypes : pair of str
    elements : int
    axes : tuple of str or None
        What the axes of A are called, where that is known.
    problem : str or None
        Why they could not be compared; then nothing below has a meaning.
    rtol, atol : float
        An element passes if |a − b| ≤ atol + rtol · |b|.
    torch_defaults : bool
        Whether they are those of ``torch.testing.assert_close`` for the dtypes.
    outside : int
        How many elements do not pass.
    max_absolute, mean_absolute, max_relative, mean_relative : float
        Of |a − b|, and of |a − b| / |b|.
    worst_absolute, worst_relative : Element or None
        Where the two largest are.
    ulp_dtype : str
        The coarser of the two dtypes: the distances below are counted in its steps.
    ulps : tuple of (float, float)
        Quantiles of the distance: (share of elements, at most so many steps); above 128 steps
        to within one percent.
    histogram : tuple of (int or None, int)
        How many elements differ by 10^k ≤ |a − b| < 10^(k+1), for every k there is; None stands
        for no difference.  What is less than one percent below a power of ten may be counted
        with it.
    nan_a, nan_b, nan_both : int
        How many elements are NaN in A alone, in B alone, in both.
    infinite : int
        How many are infinite in one and not the same in the other.
    nonfinite : tuple of Element
        The first few of those.
    places : tuple of str
        Where the elements outside the tolerance lie, in words.
    needed_atol, needed_rtol : float
        The smallest of each that would pass with the other as it is; infinite where none would.
    budget : Budget or None
        If set, it decides instead of the tolerances.
    blind : tuple of str
        What nobody would call right, and would agree with B at the tolerance that was chosen: all
        zeros, one constant …
    """

    name: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    dtypes: tuple[str, str]
    elements: int = 0
    axes: tuple[str, ...] | None = None
    problem: str | None = None
    rtol: float = 0.0
    atol: float = 0.0
    torch_defaults: bool = False
    outside: int = 0
    max_absolute: float = 0.0
    mean_absolute: float = 0.0
    max_relative: float = 0.0
    mean_relative: float = 0.0
    worst_absolute: Element | None = None
    worst_relative: Element | None = None
    ulp_dtype: str = ""
    ulps: tuple[tuple[float, float], ...] = ()
    histogram: tuple[tuple[int | None, int], ...] = ()
    nan_a: int = 0
    nan_b: int = 0
    nan_both: int = 0
    infinite: int = 0
    nonfinite: tuple[Element, ...] = ()
    places: tuple[str, ...] = ()
    needed_atol: float = 0.0
    needed_rtol: float = 0.0
    budget: Budget | None = None
    blind: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the two agree."""
        if self.problem is not None:
            return False
        return self.budget.passed if self.budget is not None else self.outside == 0

    @property
    def largest_difference(self) -> float:
        """The largest |a − b|: infinite where shapes differ, or two that are not finite do."""
        return float("inf") if self.problem is not None or self.nonfinite else self.max_absolute


@dataclass(frozen=True, repr=False)
class CompareReport(Shown):
    """How far two sets of tensors are apart.

    Attributes
    ----------
    tensors : tuple of TensorComparison
    only_a, only_b : tuple of str
        The tensors that one side alone has: a difference, as long as nobody left them out.
    """

    tensors: tuple[TensorComparison, ...]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()
    words = ("agrees", "DIFFERS")

    @property
    def passed(self) -> bool:
        """Whether all tensors agree, and none is missing on either side."""
        alone = self.only_a or self.only_b
        return not alone and all(tensor.passed for tensor in self.tensors)

    @property
    def line(self) -> str:
        """How many tensors were compared, and those that differ."""
        names = [tensor.name for tensor in self.tensors if not tensor.passed]
        names += [f"{name} in {side} alone" for side, x in self._alone() for name in x]
        count = "1 tensor" if len(self.tensors) == 1 else f"{len(self.tensors)} tensors"
        return f"{count}{': ' if names else ''}{', '.join(names)}"

    def _alone(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return ("A", self.only_a), ("B", self.only_b)


# Under which convention somebody's output was computed.


Ranges = list[tuple[int, int]]


@dataclass(frozen=True)
class ConventionReading:
    """One way in which results follow from inputs.

    Attributes
    ----------
    described : str
        In words.
    options : dict of str to Any
        The same by name: scale, causal, window, softcap, sinks, mask, layout …
    distance : float
        The largest difference from the results, in the output's unit.
    fails : tuple of dict of str to list of pairs
        Where it does not hold: first and last of the ``items``, ``heads`` and ``rows``; empty for
        a reading of the whole.
    holds_for : float
        The share of the rows that it holds for.
    command : str or None
        The options by which ``attn forward`` computes the same; None if it does not.
    shape : tuple of int
        Items, heads and rows of the whole.
    """

    described: str
    options: dict[str, Any]
    distance: float
    fails: tuple[dict[str, Ranges], ...]
    holds_for: float
    command: str | None
    shape: tuple[int, ...]


@dataclass(frozen=True, repr=False)
class ConventionReport(Shown):
    """Which semantics lead from the inputs in a file to its results.

    Attributes
    ----------
    tried : int
        How many combinations were fitted.
    dtype : str
        The precision by which it was judged.
    readings : tuple of ConventionReading
        Those that hold for the whole file, the simplest first.
    nearest : ConventionReading or None
        What comes nearest of those that do not.
    notes : tuple of str
        What tells readings apart, and what else was noticed.
    file : str or None
        Which, if it was one.
    """

    tried: int
    dtype: str
    readings: tuple[ConventionReading, ...]
    nearest: ConventionReading | None
    notes: tuple[str, ...] = ()
    file: str | None = None
    words = ("found", "NO READING")

    @property
    def passed(self) -> bool:
        """Whether a reading holds for the whole file."""
        return bool(self.readings)

    @property
    def line(self) -> str:
        """The first reading, or the nearest."""
        if self.readings:
            return self.readings[0].described
        near = "" if self.nearest is None else f"; the nearest: {self.nearest.described}"
        return f"{self.tried} combinations{near}"


# What a gradient check found.


Method = Literal["complex", "central"]


@dataclass(frozen=True)
class GradientElement:
    """One element of a gradient.

    Attributes
    ----------
    index : tuple of int
    backward, derivative : float
        What the backward pass gave, and what it is.
    relative_error : float
    """

    index: tuple[int, ...]
    backward: float
    derivative: float
    relative_error: float


@dataclass(frozen=True)
class InputCheck:
    """The check of the gradient with respect to one input.

    Attributes
    ----------
    layer, engine, input : str
        What was checked: the gradient of which operation, by which engine, to which input.
    elements : int
        How many elements were checked: all there are.
    absolute_error : float
        The largest |backward − derivative|.
    relative_error : float
        The largest |backward − derivative| / scale, where scale is the larger of |derivative|, a
        hundredth of the tensor's largest |derivative|, and 0.01.
    worst : tuple of int
        The index of the element with the largest relative error.
    backward, derivative : float
        The two values there.
    passed : bool
    worst_elements : tuple of GradientElement
        Of a check that failed, the worst few.
    patterns : tuple of str
        What the errors have in common, in words.
    not_differentiable : int
        How many elements lie where forward has no derivative; they are not judged.
    jacobian_error : float or None
        The largest relative error over the whole Jacobian, where it was small enough to check.
    errors : ndarray or None
        Of a check that failed, the relative error of every element.
    tolerance : float
        The largest relative error that passes.
    """

    layer: str
    engine: str
    input: str
    elements: int
    absolute_error: float
    relative_error: float
    worst: tuple[int, ...]
    backward: float
    derivative: float
    passed: bool
    worst_elements: tuple[GradientElement, ...] = ()
    patterns: tuple[str, ...] = ()
    not_differentiable: int = 0
    jacobian_error: float | None = None
    errors: Any = field(default=None, compare=False, repr=False)
    tolerance: float = 0.0


@dataclass(frozen=True, repr=False)
class GradcheckReport(Shown):
    """What a gradient check found.

    Attributes
    ----------
    method : {"complex", "central"}
    tolerance : float
        The largest relative error that passes: of the gradients' tolerances the largest.
    seed : int
    checks : tuple of InputCheck
    target : str
        What was checked.
    dtype : str
        What was computed in.
    problems : tuple of str
        What is wrong beside single gradients: calls that differ, inputs that are changed …
    notes : tuple of str
        What should be known of how it was checked.
    sizes : dict of str to int
        N, T_dec, T_enc and H, where the element by element check was.
    """

    method: Method
    tolerance: float
    seed: int
    checks: tuple[InputCheck, ...]
    target: str
    dtype: str = "float64"
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether there are checks, every one passed, and there is no problem beside."""
        right = not self.problems and all(check.passed for check in self.checks)
        return right and self.judged > 0

    @property
    def judged(self) -> int:
        """How many elements were judged; where there are none, nothing has been shown."""
        return sum(check.elements - check.not_differentiable for check in self.checks)

    @property
    def worst(self) -> InputCheck:
        """The check with the largest relative error."""
        return max(self.checks, key=lambda check: check.relative_error)

    @property
    def line(self) -> str:
        """How many gradients were checked, those that are wrong, and what else is."""
        wrong = [f"d{check.input}" for check in self.checks if not check.passed]
        said = f"{self.target}, {len(self.checks)} gradients"
        if self.checks and not wrong:
            said += f", worst relative error {self.worst.relative_error:.1e}"
        faults = [", ".join(dict.fromkeys(wrong)), *self.problems]
        return "; ".join([said, *filter(None, faults)])


@dataclass(frozen=True, repr=False)
class GradcheckReports(Several, GradcheckReport):
    """What gradient checks of each layer in a file found; its checks are those of all.

    Attributes
    ----------
    reports : tuple of GradcheckReport or FailedReport
    """

    reports: tuple[GradcheckReport | FailedReport, ...] = ()

    @classmethod
    def of(
        cls, target: str, reports: tuple[GradcheckReport | FailedReport, ...]
    ) -> GradcheckReports:
        """Put together the reports on what a text names."""
        whole = [one for one in reports if isinstance(one, GradcheckReport)]
        first = whole[0] if whole else cls("complex", 0.0, 0, (), target)
        return cls(
            first.method,
            max((one.tolerance for one in whole), default=0.0),
            first.seed,
            tuple(check for one in whole for check in one.checks),
            target,
            first.dtype,
            tuple(f"{one.target}: {text}" for one in whole for text in one.problems),
            tuple(f"{one.target}: {text}" for one in whole for text in one.notes),
            first.sizes,
            reports,
        )


# What measuring found.


class Cell(NamedTuple):
    """A calculation that is measured.

    Attributes
    ----------
    N, T, H : int
        T decoder and T encoder steps.
    dtype : str
    causal : bool
    window : (int, int) or None
        Steps seen before and after a query's own, −1 for no limit.
    segments : int
        Of how many equal segments, that do not see each other, T consists.
    """

    N: int
    T: int
    H: int
    dtype: str
    causal: bool = False
    window: tuple[int, int] | None = None
    segments: int = 1

    @property
    def hides(self) -> bool:
        """Whether some keys are hidden."""
        return self.causal or self.window is not None or self.segments > 1

    @property
    def unmasked(self) -> Cell:
        """The same calculation with nothing hidden."""
        return Cell(self.N, self.T, self.H, self.dtype)

    def ids(self) -> Array:
        """Return which segment each step belongs to."""
        return np.arange(self.T) * self.segments // self.T

    def pairs(self) -> int:
        """Return how many pairs of a query and a key that it sees there are.

        Examples
        --------
        >>> Cell(1, 5, 4, "float32", causal=True).pairs()
        15
        >>> Cell(1, 5, 4, "float32", window=(1, 0)).pairs(), Cell(1, 6, 4, "f", segments=2).pairs()
        (9, 18)
        """
        t = np.arange(self.T)
        ids = self.ids()
        first, last = np.searchsorted(ids, ids), np.searchsorted(ids, ids, side="right") - 1
        left, right = self.window or (-1, -1)
        if left >= 0:
            first = np.maximum(first, t - left)
        if right >= 0:
            last = np.minimum(last, t + right)
        if self.causal:
            last = np.minimum(last, t)
        return int((last - first + 1).sum())


@dataclass(frozen=True)
class Measurement:
    """One contender on one cell.

    Attributes
    ----------
    cell : Cell
    contender : str
    forward : float or None
        Median seconds of forward alone.
    both : float or None
        Median seconds of forward and backward; None where there is no backward.
    memory : int or None
        The most bytes that a run took beside its inputs; None where the system does not tell.
    error : float or None
        The largest error against float64, relative to each tensor's largest number.
    """

    cell: Cell
    contender: str
    forward: float | None
    both: float | None
    memory: int | None
    error: float | None

    def gflops(self) -> float | None:
        """Billions of operations a second of forward's two products: 4 · N · H for each pair."""
        if self.forward is None:
            return None
        cell = self.cell
        return 4 * cell.N * cell.pairs() * cell.H / self.forward / 1e9


@dataclass(frozen=True)
class Profile:
    """Where the time of one contender on one cell goes.

    Attributes
    ----------
    cell : Cell
    contender : str
    engine : str
    weights_kept : bool
    parts : dict
        Of ``"forward"``, ``"backward"`` and ``"both"``: ``seconds`` of processor time in all,
        ``bare_seconds`` of its products alone, the ``multiplications`` in these, and the seconds of
        each of its `KINDS`: ``overhead`` is what a run without the timer takes beside the others.
    """

    cell: Cell
    contender: str
    engine: str
    weights_kept: bool
    parts: dict[str, dict[str, float]]

    KINDS: ClassVar = ("products", "softmax", "masks", "copies", "overhead")

    def shares(self, part: str) -> dict[str, float]:
        """Return what each kind takes of a part's time."""
        whole = sum(self.parts[part][kind] for kind in self.KINDS) or 1.0
        return {kind: self.parts[part][kind] / whole for kind in self.KINDS}

    def of_bare(self, part: str) -> float | None:
        """Return a part's time over that of its products alone."""
        bare = self.parts[part]["bare_seconds"]
        return self.parts[part]["seconds"] / bare if bare else None

    def whole_products(self, part: str) -> float:
        """Return how many products of N · T · T · H its products come to."""
        cell = self.cell
        return self.parts[part]["multiplications"] / (cell.N * cell.T**2 * cell.H)


@dataclass(frozen=True)
class BenchReport:
    """What measuring found.

    Attributes
    ----------
    threads, repeat : int
    measurements : tuple of Measurement
    failures : dict of str to str
        Contenders that could not run some cell, and why.
    blas : str
        Who multiplied for the core.
    profiles : tuple of Profile
        Where the time goes, if that was asked for.
    """

    threads: int
    repeat: int
    measurements: tuple[Measurement, ...]
    failures: dict[str, str]
    blas: str = ""
    profiles: tuple[Profile, ...] = ()

    def cells(self) -> list[Cell]:
        """The cells in the order in which they were measured."""
        return list(dict.fromkeys(one.cell for one in self.measurements))

    def of(self, cell: Cell) -> list[Measurement]:
        """The measurements of one cell."""
        return [one for one in self.measurements if one.cell == cell]

    def shares(self, one: Measurement) -> tuple[float | None, float | None]:
        """Return the seconds, forward and both, over the same contender's with nothing hidden."""
        whole = [x for x in self.of(one.cell.unmasked) if x.contender == one.contender]
        if not one.cell.hides or not whole:
            return None, None
        pairs = (one.forward, whole[0].forward), (one.both, whole[0].both)
        forward, both = (x / y if x is not None and y else None for x, y in pairs)
        return forward, both
