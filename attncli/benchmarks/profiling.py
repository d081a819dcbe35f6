"""Where the time of a calculation goes: products, softmax, masks, copies, and the rest.

Every line of the core is timed while it runs, and counted as what it does; the products that came
by are then done again alone.  All on one thread and in its processor time, so that others on the
machine do not count.  Nothing in the core knows of it, and nothing is slower for it where nobody
asks.
"""

from __future__ import annotations

import ast
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

import attncli.core
from attncli.arrays import Array
from attncli.core import attention, attention_backward, products
from attncli.core.engines import WAYS

KINDS = ("products", "softmax", "masks", "copies")

_CORE = str(Path(attncli.core.__file__).parent)
_MASKS = {"copyto", "dropped", "where"}
_HIDING = {"seen", "keep", "bias"}
_SOFTMAX = {
    "exp", "exp2", "log", "tanh", "square", "maximum", "minimum", "reduce", "subtract", "multiply",
    "divide", "vecdot", "row_sums", "sum_of_squares", "in_range", "isfinite",
}  # fmt: skip
_COPIES = {
    "add", "empty", "zeros", "zeros_like", "full_like", "together", "copy", "astype", "array",
    "ascontiguousarray", "reshape", "sum_to",
}  # fmt: skip


def profiled(
    name: str, tensors: tuple[Array, Array, Array, Array], options: dict[str, Any], repeat: int
) -> dict[str, Any]:
    """Measure the core on query, key, value and dout: forward, backward, and both together.

    Returns
    -------
    dict
        ``engine``, ``weights_kept``; and for each part its ``seconds``, the ``bare_seconds`` of its
        products alone, the ``multiplications`` in these, and seconds by kind; medians of `repeat`
        rounds, in which everything has its turn.
    """
    *operands, dout = tensors
    engine, weights = ("auto", None) if name == "core" else WAYS[name]
    forward = partial(attention, *operands, **options, engine=engine, weights=weights)
    _, kept = forward()
    parts: dict[str, Callable[[], Any]] = {
        "forward": forward,
        "backward": lambda: attention_backward(dout, kept),
    }
    alone = {part: _recorded(run) for part, run in parts.items()}
    times = {part: _many(run) for part, run in parts.items()}
    rounds: list[dict[str, dict[str, float]]] = []
    for _ in range(repeat + 1):  # the first does not count: caches, clock and memory are cold
        one: dict[str, dict[str, float]] = {}
        for part, run in parts.items():
            seconds = _seconds(run, times[part])
            bare = _seconds(partial(_again, alone[part]), times[part])
            by_kind = _by_kind(run, times[part], seconds)
            one[part] = {"seconds": seconds, "bare_seconds": bare, **by_kind}
        rounds.append(one)
    found = {
        part: {what: median(one[part][what] for one in rounds[1:]) for what in rounds[0][part]}
        for part in parts
    }
    for part, each in found.items():
        each["multiplications"] = sum(math.prod(x.shape) * y.shape[-1] for x, y, _ in alone[part])
    found["both"] = {what: sum(each[what] for each in found.values()) for what in found["forward"]}
    return {"engine": kept.engine, "weights_kept": kept.kept is not None, "parts": found}


_clock = time.thread_time


def _seconds(run: Callable[[], Any], times: int) -> float:
    start = _clock()
    for _ in range(times):
        run()
    return (_clock() - start) / times


def _many(run: Callable[[], Any]) -> int:
    """Return how often something short is to be run in one round: so often as fits 10 ms."""
    return max(1, min(1000, int(0.01 / max(_seconds(run, 1), 1e-9))))


Products = list[tuple[Array, Array, Array]]


def _recorded(run: Callable[[], Any]) -> Products:
    """Run, and give what was multiplied, and where the product came to lie."""
    found: Products = []
    multiply = products.matmul

    def record(first: Array, second: Array, out: Array | None = None) -> Array:
        result = multiply(first, second, out=out)
        found.append((first, second, result))
        return result

    products.matmul = record
    try:
        run()
    finally:
        products.matmul = multiply
    return found


def _again(alone: Products) -> None:
    for first, second, out in alone:
        products.matmul(first, second, out=out)


def _by_kind(run: Callable[[], Any], times: int, whole: float) -> dict[str, float]:
    """Run so often, and give the seconds that each kind took of a run that takes `whole` alone.

    What all lines take more than that is the timer's, the same for each time that it looks.
    """
    lines = _by_line(run, times)
    looks = sum(count for count, _ in lines.values())
    timer = max(0.0, sum(seconds for _, seconds in lines.values()) - times * whole) / max(looks, 1)
    found = dict.fromkeys(KINDS, 0.0)
    for (path, line), (count, seconds) in lines.items():
        if (kind := kinds(path).get(line)) is not None:
            found[kind] += max(0.0, seconds - count * timer) / times
    return {**found, "overhead": max(0.0, whole - sum(found.values()))}


def _by_line(run: Callable[[], Any], times: int) -> dict[tuple[str, int], tuple[int, float]]:
    """Run, and give how often each line of the core was come to, and the seconds it took in all."""
    counts = defaultdict[tuple[str, int], int](int)
    seconds = defaultdict[tuple[str, int], float](float)
    callers: list[tuple[str, int]] = []
    at = elsewhere = ("", 0)
    since = _clock()

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal at, since
        counts[at] += 1
        seconds[at] += _clock() - since
        if event == "call":
            callers.append(at)
        at = callers.pop() if event == "return" else (frame.f_code.co_filename, frame.f_lineno)
        since = _clock()
        return trace

    def begin(frame: FrameType, event: str, arg: Any) -> Any:
        return trace(frame, event, arg) if frame.f_code.co_filename.startswith(_CORE) else None

    before = sys.gettrace()
    sys.settrace(begin)
    try:
        for _ in range(times):
            run()
    finally:
        sys.settrace(before)
    return {line: (count, seconds[line]) for line, count in counts.items() if line != elsewhere}


@cache
def kinds(path: str) -> dict[int, str]:
    """Tell of which kind the lines of a file are, where they are of any."""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    always = {"mkl.py": "products", "visibility.py": "masks", "extras.py": "masks"}
    found: dict[int, str | None] = {}
    for start, stop, node in _statements(tree):
        kind = kind_of(node) or always.get(Path(path).name)
        found.update(dict.fromkeys(range(start, stop + 1), kind))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in _SOFTMAX:
            found.update(dict.fromkeys(range(node.lineno, (node.end_lineno or 0) + 1), "softmax"))
    return {line: kind for line, kind in found.items() if kind is not None}


def _statements(tree: ast.AST) -> Iterator[tuple[int, int, ast.AST]]:
    """Yield every statement and the lines it takes; of one that holds others, its head alone."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt) or isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        body = getattr(node, "body", None)
        if not body:
            yield node.lineno, node.end_lineno or node.lineno, node
            continue
        heads = [x for _, x in ast.iter_fields(node) if isinstance(x, ast.expr)]
        heads += [item.context_expr for item in getattr(node, "items", [])]
        yield (
            node.lineno,
            max(node.lineno, body[0].lineno - 1),
            ast.Module([ast.Expr(x) for x in heads], []),
        )


def kind_of(statement: ast.AST) -> str | None:
    """Tell what a statement does, by what it calls and how it assigns.

    Examples
    --------
    >>> lines = "np.exp(x, out=x)", "x[~seen] = 0", "y = x * 2", "n = len(x)"
    >>> [kind_of(ast.parse(line)) for line in lines]
    ['softmax', 'masks', 'copies', None]
    """
    nodes = list(ast.walk(statement))
    names = {x.attr for x in nodes if isinstance(x, ast.Attribute)}
    names |= {x.id for x in nodes if isinstance(x, ast.Name)}
    keywords = {x.arg for x in nodes if isinstance(x, ast.keyword)}
    in_place = {type(x.op) for x in nodes if isinstance(x, ast.AugAssign)}
    placed = any(
        isinstance(target, ast.Subscript)
        for x in nodes
        if isinstance(x, ast.Assign)
        for target in x.targets
    )
    if "matmul" in names:
        return "products"
    if in_place & {ast.Sub, ast.Mult, ast.Div}:
        return "softmax"
    if names & _MASKS or "where" in keywords or ((in_place or placed) and names & _HIDING):
        return "masks"
    if names & _SOFTMAX:
        return "softmax"
    scaled = any(isinstance(x, ast.BinOp) and isinstance(x.op, ast.Mult | ast.Div) for x in nodes)
    return "copies" if in_place or placed or scaled or names & _COPIES else None
