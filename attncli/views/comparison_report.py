"""A comparison of tensors on the screen."""

from collections.abc import Callable, Iterator
from math import inf, log10

from rich.console import Group, RenderableType
from rich.text import Text

from attncli.reports import Budget, CompareReport, Element, TensorComparison
from attncli.tensors import axes_of, describe_shape
from attncli.views.labels import safe
from attncli.views.look import Look
from attncli.views.numbers import format_error
from attncli.views.records import Column, draw_records

_BAR = 30
# With more tensors than this, only those that differ are described in detail on a terminal.
_DETAILED = 4


def draw_comparison(report: CompareReport, look: Look, *, verbose: bool = False) -> RenderableType:
    """Draw one line for each tensor, then what is to be said about each, then the verdict."""
    number = _writer(look)
    parts: list[RenderableType] = [_table(report, look, number), ""]
    every = verbose or look.plain or len(report.tensors) <= _DETAILED
    for tensor in report.tensors:
        if every or not tensor.passed:
            parts += [*_details(tensor, look, number), ""]
    for side, names in (("A", report.only_a), ("B", report.only_b)):
        if names:
            held = ", ".join(safe(name, look) for name in names)
            parts.append(Text(f"only in {side}: {held}", "bold red"))
    return Group(*parts, _verdict(report))


def _writer(look: Look) -> Callable[[float], str]:
    """How errors are written: to the last digit when piped, as magnitudes on a terminal."""
    if look.precision is not None:
        return lambda value: f"{value:.{look.precision}e}"
    return repr if look.plain else format_error


def _table(report: CompareReport, look: Look, number: Callable[[float], str]) -> RenderableType:
    tensors = report.tensors
    verdicts = ["agrees" if tensor.passed else "DIFFERS" for tensor in tensors]

    def cells(text: str, tensor: TensorComparison) -> str:
        return "" if tensor.problem is not None else text

    columns = [
        Column("tensor", [safe(tensor.name, look) for tensor in tensors]),
        Column("shape", [str(tensor.shapes[0]) for tensor in tensors]),
        Column("max abs", [cells(number(t.max_absolute), t) for t in tensors], right=True),
        Column("max rel", [cells(number(t.max_relative), t) for t in tensors], right=True),
        Column("outside", [cells(str((t.budget or t).outside), t) for t in tensors], right=True),
        Column(
            "verdict",
            verdicts,
            styles=["green" if tensor.passed else "bold red" for tensor in tensors],
        ),
    ]
    return draw_records(columns, look)


def _details(
    tensor: TensorComparison, look: Look, number: Callable[[float], str]
) -> Iterator[Text]:
    name, shape = safe(tensor.name, look), tensor.shapes[0]
    ours, theirs = tensor.dtypes
    dtypes = ours if ours == theirs else f"{ours} beside {theirs}"
    heading = Text(name, "bold")
    described = describe_shape(shape, tensor.axes or axes_of(tensor.name, len(shape)))
    yield heading.append(f"  {described}  {dtypes}", "not bold dim")
    if tensor.problem is not None:
        yield _fact("problem", safe(tensor.problem, look), "bold red")
        return
    if tensor.budget is not None:
        yield from _budget(tensor.budget, tensor.elements)
        yield from _differences(tensor, number)
        yield from _nonfinite(tensor)
        yield from _histogram(tensor, look)
        return
    if not tensor.elements:
        yield _fact("note", "both are empty: there is nothing that could differ")
        return
    default = " (torch's assert_close default)" if tensor.torch_defaults else ""
    within = f"|a - b| ≤ {tensor.atol:g} + {tensor.rtol:g} · |b|{default}"
    yield _fact("tolerance", within, look=look)
    style = "" if tensor.passed else "bold red"
    yield _fact("outside", f"{tensor.outside} of {tensor.elements} elements", style)
    yield from _differences(tensor, number)
    yield from _nonfinite(tensor)
    for place in tensor.places:
        yield _fact("where", place, "bold")
    if tensor.needed_atol:
        yield _fact("would pass", _passing(tensor))
    yield from _histogram(tensor, look)


def _differences(tensor: TensorComparison, number: Callable[[float], str]) -> Iterator[Text]:
    for kind, largest, mean, worst in (
        ("abs", tensor.max_absolute, tensor.mean_absolute, tensor.worst_absolute),
        ("rel", tensor.max_relative, tensor.mean_relative, tensor.worst_relative),
    ):
        at = f" at {_where(worst)}" if worst is not None and largest > 0 else ""
        yield _fact(f"max {kind}", f"{number(largest)}{at}; mean {number(mean)}")
    if tensor.ulps and tensor.max_absolute:
        shares = {0.5: "half at most", 0.9: "90 %", 0.99: "99 %", 1.0: "all"}
        steps = ", ".join(f"{shares[share]} {value:.6g}" for share, value in tensor.ulps)
        yield _fact("ulp", f"{steps} (steps of {tensor.ulp_dtype})")


def _nonfinite(tensor: TensorComparison) -> Iterator[Text]:
    counts = {
        "NaN in A alone": tensor.nan_a,
        "NaN in B alone": tensor.nan_b,
        "NaN in both": tensor.nan_both,
        "infinite in one, not the same in the other": tensor.infinite,
    }
    for what, count in counts.items():
        if count:
            yield _fact("nonfinite", f"{count} {what}", "bold red" if tensor.nonfinite else "")
    for element in tensor.nonfinite:
        yield _fact("", _where(element))


def _budget(budget: Budget, elements: int) -> Iterator[Text]:
    if budget.assumed:
        said = f"every number of A fits {budget.dtype}: taken for what was computed in it"
        yield _fact("dtype", said)
    style = "green" if budget.passed else "bold red"
    yield _fact("budget", f"{budget.outside} of {elements} elements outside", style)
    yield _fact(
        "farthest",
        f"{format_error(budget.candidate)} from the exact result at {_where(budget.worst)}; "
        f"allowed there {format_error(budget.allowed)}: twice the "
        f"{format_error(budget.straightforward)} of the plain formula in {budget.dtype}, and one "
        f"unit in the last place (B: {format_error(budget.other)})",
    )
    if (drift := budget.drift) is not None:
        yield _fact("throughout", drift.described, "bold red")
    for place in (budget if drift is None else drift).places:
        yield _fact("where", place, "bold")


def _histogram(tensor: TensorComparison, look: Look) -> Iterator[Text]:
    """Draw how many elements differ by which power of ten."""
    if not tensor.max_absolute:
        return
    block = "█" if look.unicode else "#"
    most = max(count for _, count in tensor.histogram)
    label = "|a - b|"
    for decade, count in tensor.histogram:
        size = (
            "0" if decade is None else f"1e{decade:+03d}…" if look.unicode else f"1e{decade:+03d}"
        )
        bar = max(1, round(_BAR * count / most))
        if look.width < 60:
            bar = max(1, bar * 10 // _BAR)
        line = Text().append(f"  {label:<10} ", "dim").append(f"{size:>6} ")
        yield line.append(block * bar, "cyan").append(f" {count}", "dim")
        label = ""


def _verdict(report: CompareReport) -> Text:
    failed = sum(not tensor.passed for tensor in report.tensors)
    total = len(report.tensors)
    tensors = "tensor" if total == 1 else "tensors"
    if report.only_a or report.only_b:
        alone = len(report.only_a) + len(report.only_b)
        differing = f", {failed} of them {'differs' if failed == 1 else 'differ'}" if failed else ""
        return Text(
            f"{total} {tensors} compared{differing}; {alone} in one file alone "
            "(--ignore leaves them out)",
            "bold red",
        )
    if not failed:
        return Text(f"{total} {tensors} compared: all agree", "green")
    verb = "differs" if failed == 1 else "differ"
    return Text(f"{failed} of {total} {tensors} {verb}", "bold red")


def _passing(tensor: TensorComparison) -> str:
    if tensor.needed_atol == inf:
        return "at no tolerance"
    relative = "" if tensor.needed_rtol == inf else f", or at --rtol {tensor.needed_rtol:g}"
    return f"at --atol {tensor.needed_atol:g}{relative}"


def _where(element: Element) -> str:
    a, b = _short(element.a, element.b)
    return f"{list(element.index)}: {a}, expected {b}"


def _short(a: float, b: float) -> tuple[str, str]:
    """Write two numbers to the digits in which they differ, and two more."""
    size, distance = max(abs(a), abs(b)), abs(a - b)
    if isinstance(a, int) or isinstance(b, int) or not (0 < distance < inf and 0 < size < inf):
        return repr(a), repr(b)
    digits = min(17, 3 + max(0, round(log10(size / distance))))
    return f"{a:.{digits}g}", f"{b:.{digits}g}"


def _fact(name: str, text: str, style: str = "", look: Look | None = None) -> Text:
    if look is not None and not look.unicode:
        text = text.replace("≤", "<=").replace("·", "*")
    return Text().append(f"  {name:<10} ", "dim").append(text, style)
