"""What a comparison of tensors found."""

from dataclasses import dataclass


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
class Budget:
    """How far the candidate may be from the exact result.

    Attributes
    ----------
    allowed : float
        Twice the largest error of a straightforward evaluation in the candidate's own dtype.
    straightforward : float
        That error.
    candidate : float
        The largest error of the candidate, A.
    other : float
        The largest error of B, for information.
    exact_dtype : str
        What the exact result was computed in.
    """

    allowed: float
    straightforward: float
    candidate: float
    other: float
    exact_dtype: str

    @property
    def passed(self) -> bool:
        """Whether the candidate keeps within the budget."""
        return self.candidate <= self.allowed


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
    """

    name: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    dtypes: tuple[str, str]
    elements: int = 0
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

    @property
    def passed(self) -> bool:
        """Whether the two agree."""
        if self.problem is not None:
            return False
        return self.budget.passed if self.budget is not None else self.outside == 0


@dataclass(frozen=True)
class Agreement:
    """How one of our results compares with the one that a file brings along.

    Attributes
    ----------
    name : str
    agrees : bool
        Within the tolerance of the coarser dtype; those of ``torch.testing.assert_close``.
    largest_difference : float
        Infinity where the shapes differ.
    """

    name: str
    agrees: bool
    largest_difference: float


@dataclass(frozen=True)
class CompareReport:
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

    @property
    def passed(self) -> bool:
        """Whether all tensors agree, and none is missing on either side."""
        alone = self.only_a or self.only_b
        return not alone and all(tensor.passed for tensor in self.tensors)
