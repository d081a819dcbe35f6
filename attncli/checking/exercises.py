"""The exercises: layers with gaps, one after the other, in a folder of the learner's.

Each is made from one source, ``attncli/guide/exercise/``: a solution in which ``#:`` marks a line
whose right-hand side is a gap, with what is said of it there.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import NamedTuple

from attncli.errors import ParameterError, TargetError
from attncli.files.atomic import replacing
from attncli.files.source import refused
from attncli.reports import CheckReport
from attncli.spelling import nearest
from attncli.translation import translated

FOLDER = "attn_exercise"
"""The folder that a learner's files are in unless another is named."""

_PROGRESS = "progress.txt"
_ABOUT = "# What attn exercise remembers, an exercise a line; without its line one begins anew.\n"
_LINE = re.compile(r"(\w+): (right|open)(?:; hints:((?: \w+ \d+,?)+))?\s*")
_MARKED = re.compile(r"( *)([^=\n]+) = ([^\n]+?)  #:([^\n]*)")
# What is said in it: its first line, and its comments.
_SAID = re.compile(r'(?<=^""").+(?="""$)|(?<=# ).+|(?<=#: ).+', re.MULTILINE)
_GAP = re.compile(r"[^#=]*[^#=<>!]=\s*\.\.\.\s*(?:#.*)?")


@dataclass(frozen=True)
class Exercise:
    """One layer that is to be written.

    Attributes
    ----------
    name : str
        As one types it.
    target : str
        The class.
    layer : str
        What it is held against.
    task : str
    hints : mapping of str to tuple of str
        For forward and backward, each says more than the one before.
    needs : tuple of str
        The cases of the check without which it is not solved.
    also : str
        The causal order with which all of it has to be right as well.
    """

    name: str
    target: str
    layer: str
    task: str
    hints: Mapping[str, tuple[str, str, str]]
    needs: tuple[str, ...] = ()
    also: str = ""

    @property
    def number(self) -> int:
        """Its place among all of them, from 1."""
        return list(EXERCISES).index(self.name) + 1

    @property
    def file_name(self) -> str:
        """What its file is called."""
        return f"{self.number}_{self.name}.py"

    @property
    def source(self) -> str:
        """The solution, its gaps marked."""
        page = files("attncli") / "guide" / "exercise" / f"{self.file_name}.txt"
        return _SAID.sub(lambda found: translated(found[0]), page.read_text("utf-8"))

    @property
    def solution(self) -> str:
        """The file as it should become."""
        return _MARKED.sub(lambda found: _commented(found, found[3]), self.source)

    @property
    def gapped(self) -> str:
        """The file as it is begun."""
        return _MARKED.sub(lambda found: _commented(found, "..."), self.source)

    def formulas(self, part: str, gaps: tuple[Gap, ...]) -> list[str]:
        """Give the lines of forward or backward that fill the first of the gaps, or else all."""
        marked = list(_lines(self.source, "#:"))
        own = [one for one in marked if one.part == part] or marked
        lines = [_MARKED.sub(r"\2 = \3", one.line) for one in own]
        first = next((gap.line.split(" = ")[0] for gap in gaps if gap.part == part), None)
        return [line for line in lines if line.split(" = ")[0] == first] or lines


def _commented(found: re.Match[str], right: str) -> str:
    comment = f"  #{found[4]}" if found[4] else ""
    return f"{found[1]}{found[2]} = {right}{comment}"


class Gap(NamedTuple):
    """A line that is still to be written.

    Attributes
    ----------
    number : int
        From 1.
    line : str
    part : {"forward", "backward"}
    """

    number: int
    line: str
    part: str


def gaps(text: str) -> tuple[Gap, ...]:
    r"""Find what is still to be written, in however unfinished a file.

    Examples
    --------
    >>> gaps("def forward(x):\n    y = ...  # the sum\n    return y == ...")
    (Gap(number=2, line='y = ...', part='forward'),)
    """
    return tuple(
        one._replace(line=one.line.split("#")[0].rstrip())
        for one in _lines(text, "...")
        if _GAP.fullmatch(one.line)
    )


def _lines(text: str, mark: str) -> Iterator[Gap]:
    """Give the lines that hold a mark; what other methods do, forward needs."""
    where = "forward"
    for number, line in enumerate(text.splitlines(), start=1):
        if found := re.match(r"\s*def (\w+)", line):
            where = "backward" if found[1] == "backward" else "forward"
        if mark in line:
            yield Gap(number, line.strip(), where)


@dataclass(frozen=True)
class Answer:
    """What somebody has written, judged.

    Attributes
    ----------
    exercise : Exercise
    gaps : tuple of Gap
        What is still to be written.
    report : CheckReport or None
    fault : TargetError or None
        Why there is no report: the code cannot be run.
    parses : bool
        Whether it is Python, as far as it goes.
    """

    exercise: Exercise
    gaps: tuple[Gap, ...]
    report: CheckReport | None = None
    fault: TargetError | None = None
    parses: bool = True

    @property
    def is_begun(self) -> bool:
        """Whether there is nothing to be run yet: forward is not written."""
        return self.parses and bool(self.gaps) and self.gaps[0].part == "forward"

    @property
    def missing(self) -> tuple[str, ...]:
        """The cases that the code does not take, and should."""
        held = {} if self.report is None else {x.name: x.status for x in self.report.findings}
        return tuple(name for name in self.exercise.needs if held.get(name) in (None, "skipped"))

    @property
    def passed(self) -> bool:
        """Whether it is right: nothing is left to write, and every check holds."""
        return bool(self.report) and not self.gaps and not self.missing

    @property
    def part(self) -> str:
        """What is to be looked at first, forward or backward."""
        if self.gaps:
            return self.gaps[0].part
        found = () if self.report is None else self.report.findings
        wrong = [x.part for x in found if x.status == "wrong"]
        return "backward" if wrong and "forward" not in wrong else "forward"


class State(NamedTuple):
    """How far somebody is with an exercise.

    Attributes
    ----------
    right : bool
    hints : mapping of str to int
        How many were given for forward and backward.
    """

    right: bool = False
    hints: Mapping[str, int] = {}


@dataclass(frozen=True)
class Lesson:
    """The exercises in somebody's folder.

    Attributes
    ----------
    folder : str
    states : mapping of str to State
        Of what was begun.
    """

    folder: str
    states: Mapping[str, State] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: str) -> Lesson:
        """Read how far somebody is; lines that say nothing are passed over.

        Raises
        ------
        FileError
        """
        path = os.path.join(folder, _PROGRESS)
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                found = [match for match in map(_LINE.fullmatch, file) if match]
        except FileNotFoundError:
            found = []
        except OSError as error:
            raise refused(f"{path}: cannot be read", error) from None
        states = dict[str, State]()
        for match in found:
            hints = re.findall(r"(forward|backward) (\d{1,3})", match[3] or "")
            states[match[1]] = State(match[2] == "right", {part: int(n) for part, n in hints})
        return cls(folder, {name: states[name] for name in EXERCISES if name in states})

    @property
    def current(self) -> Exercise | None:
        """The first that is not right yet; None where all are."""
        return next((x for x in EXERCISES.values() if not self.state(x).right), None)

    def chosen(self, name: str | None) -> Exercise:
        """The exercise of that name, or the one that it is the turn of; the last where all are.

        Raises
        ------
        ParameterError
        """
        if name is None:
            return self.current or list(EXERCISES.values())[-1]
        wanted = re.sub(r"^\d+|\.py$|[\W_]", "", os.path.basename(name)).lower()
        for one in EXERCISES.values():
            if name == str(one.number) or wanted in (one.name.replace("_", ""), one.target.lower()):
                return one
        raise ParameterError(f"no exercise {name}: there is {', '.join(EXERCISES)}")

    def nearest(self, name: str) -> Exercise:
        """Give the exercise that may be meant by a name; else the one that it is the turn of."""
        known = [word for one in EXERCISES.values() for word in (one.name, one.target)]
        with suppress(ParameterError):
            return self.chosen(name)
        return self.chosen(nearest(name, known))

    def state(self, exercise: Exercise) -> State:
        """How far somebody is with an exercise."""
        return self.states.get(exercise.name, State())

    def path(self, exercise: Exercise) -> str:
        """Where the file of an exercise is."""
        return os.path.join(self.folder, exercise.file_name)

    def has(self, exercise: Exercise) -> bool:
        """Whether the file of an exercise is there."""
        return os.path.exists(self.path(exercise))

    def begin(self, exercise: Exercise, *, force: bool) -> bool:
        """Write the file of an exercise, and tell whether that was needed.

        What somebody has written is replaced with `force` alone.

        Raises
        ------
        FileError
        """
        if self.has(exercise) and not force:
            return False
        try:
            os.makedirs(self.folder, exist_ok=True)
        except OSError as error:
            raise refused(f"{self.folder}: cannot be made a folder", error) from None
        with replacing(self.path(exercise), force=force) as stream:
            stream.write(exercise.gapped.encode())
        self.remember(exercise, State())
        return True

    def read_answer(self, exercise: Exercise) -> Answer:
        """Read what is written, and what is still to be; it is not run.

        Raises
        ------
        FileError
        """
        path = self.path(exercise)
        try:
            with open(path, encoding="utf-8-sig", errors="replace") as file:
                text = file.read()
        except OSError as error:
            raise refused(f"{path}: cannot be read", error) from None
        try:
            ast.parse(text)
        except (SyntaxError, ValueError):
            return Answer(exercise, gaps(text), parses=False)
        return Answer(exercise, gaps(text))

    def remember(self, exercise: Exercise, state: State) -> Lesson:
        """Write down how far somebody is with an exercise.

        Raises
        ------
        FileError
        """
        states = {**self.states, exercise.name: state}
        with replacing(os.path.join(self.folder, _PROGRESS), force=True) as stream:
            stream.write(_ABOUT.encode())
            for name in EXERCISES:
                if name in states:
                    stream.write(_written(name, states[name]).encode())
        return replace(self, states=states)


def _written(name: str, state: State) -> str:
    hints = ", ".join(f"{part} {count}" for part, count in state.hints.items())
    return f"{name}: {'right' if state.right else 'open'}{f'; hints: {hints}' * bool(hints)}\n"


EXERCISES: Mapping[str, Exercise] = {
    one.name: one
    for one in (
        Exercise(
            "softmax",
            "Softmax",
            "softmax",
            "The softmax makes weights of scores: none is negative, each row sums to 1, and a "
            "larger score gets a larger weight. Write it, and the way its gradient takes back.",
            {
                "forward": (
                    "exp makes every number positive, and dividing by a sum makes numbers sum to "
                    "1.",
                    "exps is as large as x. Each row of it is divided by the sum of that row: "
                    "which axis is summed over?",
                    "np.exp(x), and exps.sum(axis=1, keepdims=True): with keepdims the sum stays "
                    "(N, 1), and divides row by row.",
                ),
                "backward": (
                    "Every weight of a row hangs on every score of it: what one wins, the others "
                    "lose. So dx is not dout times something of the same element alone.",
                    "Take off dout what it is on average, weighted: a row in which dout is the "
                    "same everywhere has the gradient 0, since the weights sum to 1.",
                    "The average is (out * dout).sum(axis=1, keepdims=True). What is left of dout, "
                    "times out, is dx.",
                ),
            },
        ),
        Exercise(
            "weight_sum",
            "WeightSum",
            "weight-sum",
            "The weighted sum takes hs (N, T, H) and a weight for each of its steps, a (N, T), and "
            "gives the mean of the states, weighted: c (N, H).",
            {
                "forward": (
                    "Each state hs[n, t] is multiplied by its one weight a[n, t], and the states "
                    "are added up.",
                    "To multiply hs by a, a needs the axis H that it lacks: once for every hidden "
                    "unit, (N, T, H).",
                    "a.reshape(N, T, 1).repeat(H, axis=2); then a product; then a sum over the "
                    "steps, which are axis 1.",
                ),
                "backward": (
                    "Go back in the order opposite to forward: the sum, the product, the "
                    "repetition.",
                    "The gradient of a sum is repeated, that of a repetition is summed, and of a "
                    "product each factor gets the gradient times the other factor.",
                    "dt is dc, once for every step: (N, T, H). dhs is dt times ar, dar is dt times "
                    "hs; and a was repeated over H, which is axis 2.",
                ),
            },
        ),
        Exercise(
            "attention_weight",
            "AttentionWeight",
            "attention-weight",
            "The weights say how well each encoder state in hs (N, T, H) fits the decoder's "
            "state h (N, H): the dot product of the two is a score, the softmax of the scores is "
            "a (N, T).",
            {
                "forward": (
                    "A dot product is a product, element by element, and then a sum.",
                    "h is compared with every step of hs, so it is repeated over T; the sum is "
                    "over the hidden units.",
                    "h.reshape(N, 1, H).repeat(T, axis=1); the sum has axis=2; self.softmax has a "
                    "forward.",
                ),
                "backward": (
                    "Go back in the order opposite to forward: softmax, sum, product, repetition.",
                    "ds is as large as s, (N, T), and dt as large as t, (N, T, H). h was repeated "
                    "over T: the gradients of all its copies add up.",
                    "self.softmax.backward(da); ds.reshape(N, T, 1).repeat(H, axis=2); each factor "
                    "gets dt times the other; dh is a sum with axis=1.",
                ),
            },
        ),
        Exercise(
            "attention",
            "Attention",
            "attention",
            "Attention is both layers in a row: where to look, and what is found there.",
            {
                "forward": (
                    "Both layers are there already, as self.attention_weight_layer and "
                    "self.weight_sum_layer.",
                    "The first takes hs and h and gives a; the second takes hs and a.",
                    "layer.forward(hs, h) of the first, layer.forward(hs, a) of the second.",
                ),
                "backward": (
                    "The layer that came last in forward comes first in backward.",
                    "The weighted sum gives two gradients back, of hs and of a; the one of a goes "
                    "into the other layer, which gives those of hs and h.",
                    "hs was used by both layers: its gradient is the sum of dhs0 and dhs1.",
                ),
            },
        ),
        Exercise(
            "time_attention",
            "TimeAttention",
            "time-attention",
            "Every decoder step in hs_dec (N, T_dec, H) looks at all encoder steps in hs_enc "
            "(N, T_enc, H). Each looks with an Attention of its own.",
            {
                "forward": (
                    "What Attention does for one decoder step happens in the loop for step t.",
                    "A layer remembers in forward what its backward needs. With one layer for all "
                    "steps it would remember the last step's alone.",
                    "layer = Attention() stands inside the loop; step t of hs_dec is hs_dec[:, "
                    "t, :].",
                ),
                "backward": (
                    "Step t goes back through the layer that it came through, self.layers[t].",
                    "Each step has its own hs_dec[:, t, :], but all steps share hs_enc.",
                    "A step's gradient of hs_enc is added to those before it; its gradient of h is "
                    "put at dhs_dec[:, t, :].",
                ),
            },
        ),
        Exercise(
            "scaled_dot_product",
            "ScaledDotProduct",
            "scaled-dot-product",
            "The same without a loop, as transformers have it: what asks (query), what is asked "
            "(key) and what is given (value) are three arrays, and the scores are scaled.",
            {
                "forward": (
                    "All dot products of the rows of two matrices are one product of matrices, the "
                    "second transposed.",
                    "Numbers of about 1 give dot products of about the root of H: the scale takes "
                    "that out. The last axis of query is H.",
                    "1 / np.sqrt(H); query @ key with its last two axes swapped; weights @ value.",
                ),
                "backward": (
                    "Of C = A @ B the gradients are dA = dC @ Bᵀ and dB = Aᵀ @ dC.",
                    "Which product gives an array of the right shape? dweights is as large as "
                    "weights, (..., T_dec, T_enc), and dkey as large as key.",
                    "x.swapaxes(-1, -2) transposes. The scores were multiplied by scale, so the "
                    "gradients of query and key are too.",
                ),
            },
        ),
        Exercise(
            "masks",
            "MaskedAttention",
            "scaled-dot-product",
            "A mask hides keys: where it is False, the key has no part. With causal a query sees "
            "no key later than itself. And a query that sees nothing at all must give 0, not NaN.",
            {
                "forward": (
                    "What has the score −inf gets the weight exp(−inf) = 0: hiding comes before "
                    "the softmax, not after it.",
                    "mask and causal can both be given: a key is seen where both let it be. A "
                    "row of −inf alone has the largest score −inf, and −inf − (−inf) is NaN.",
                    "seen & mask; np.tri(T_dec, T_enc, dtype=bool) is True up to the diagonal; "
                    "np.where(seen, scores, −np.inf); an infinite largest score is replaced by "
                    "0, and a sum of 0 by 1.",
                ),
                "backward": (
                    "Nothing is to be written here: a weight of 0 lets no gradient through.",
                    "If backward is wrong, look at the weights that forward keeps: they must be 0 "
                    "where a key is hidden, and never NaN.",
                    "A row that sees nothing has the sum 0: divide by 1 there, np.where(total == "
                    "0, 1, total).",
                ),
            },
            needs=("boolean mask", "row with every key masked", "causal"),
            also="upper_left",
        ),
        Exercise(
            "multi_head",
            "MultiHeadAttention",
            "multi-head",
            "Several heads look for something else each: Wq, Wk and Wv project query, key and "
            "value, each head gets its part of the features, and Wo takes what all of them found.",
            {
                "forward": (
                    "Each head gets D / heads features that stand next to each other. The heads "
                    "become an axis, and then nothing is new.",
                    "(N, T, D) becomes (N, T, heads, D / heads) first, by a reshape, and the "
                    "axes of T and heads are swapped after it. A reshape straight to (N, heads, "
                    "T, ...) would mix steps and heads.",
                    "merge swaps first and reshapes then, to heads * size features. The scale is "
                    "1 / np.sqrt of what one head has, q.shape[-1].",
                ),
                "backward": (
                    "Of y = x @ W the gradients are dx = dy @ Wᵀ and dW = xᵀ @ dy.",
                    "W is the same for all items and steps, so dW sums over both; dx has one for "
                    "each.",
                    'np.einsum("ntd,nth->dh", found, dout) sums over n and t; dq @ Wq.T has the '
                    "shape of query.",
                ),
            },
        ),
        Exercise(
            "tiled_softmax",
            "TiledAttention",
            "scaled-dot-product",
            "Flash-attention never has a whole row of scores: keys come in tiles of TILE, and "
            "the softmax is put together from what has been seen so far. When a larger score "
            "comes, what was added up before has to be corrected.",
            {
                "forward": (
                    "total and out are sums of exp(score − largest). If largest grows, all that "
                    "was added before was too large by the same factor.",
                    "That factor is exp(largest − new): 1 if largest stays. It belongs to total "
                    "and to out alike, before the tile's own share is added.",
                    "np.maximum(largest, the tile's largest); correction * total + the sum of "
                    "exps; correction * out + exps @ the tile's values; at the end out is "
                    "divided by total, and the log-sum-exp is largest + log(total).",
                ),
                "backward": (
                    "The weights are not kept: with the log-sum-exp of a row each can be computed "
                    "again, tile by tile.",
                    "exp(score) / Σ exp(scores) is exp(score − logsumexp). And Σ weights · "
                    "dweights over all keys is what dout · out is, since out = weights @ value.",
                    "(dout * out).sum(axis=-1, keepdims=True); np.exp(scores − logsumexp); every "
                    "tile adds scale * (dscores @ k) to dquery.",
                ),
            },
        ),
    )
}
"""All of them, in their order."""
