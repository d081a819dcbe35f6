"""What a layer with weights of its own may compute: every form that its parameters fit.

Which matrix is on which side, transposed or not, in which order, in one array with others, how many
heads there are, whether there are biases or a projection of the result: all of that is the layer's
own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, permutations, product
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.checking.derivatives.trial import Trial
from attncli.checking.targets.arguments import order_of
from attncli.core.semantics import Semantics
from attncli.operations.steps import PRODUCTS, QKV, Calculation, Steps

_HEADS = ("heads", "num_heads", "n_heads", "n_head", "nhead", "num_attention_heads", "h")

# Whose projection a matrix is, in its name: query, k_proj, to_v, W_q, Wk.
_LETTER = re.compile(r"(?:^|_|^w_?|^linear_?)([qkv])(?=$|_|uer(?:y|ies)|eys?$|ey_|alues?|proj)")

Arrays = Sequence[Array]


class Astray(NamedTuple):
    """A mistake in backward alone.

    Attributes
    ----------
    name : str
    forward : callable
        As that of a form: the same results, and by complex step the gradients that it gives.
    texts : mapping of str to str
        What is said of it.
    """

    name: str
    forward: Callable[[Arrays, Arrays, Steps], Array]
    texts: Mapping[str, str] = {}


@dataclass(frozen=True)
class Form:
    """What a layer with these parameters may compute.

    Attributes
    ----------
    kind : str
    words : str
    names : tuple of str
        Of the parameters.
    forward : callable
        ``forward(inputs, parameters, steps)`` gives the result.
    mistake : str
        The mistake that it is; empty where it is right.
    back : callable
        Gives the mistakes in its backward, the likeliest first.
    usual : bool
        Whether it is looked for among known mistakes as well.
    """

    kind: str
    words: str
    names: tuple[str, ...]
    forward: Callable[[Arrays, Arrays, Steps], Array]
    mistake: str = ""
    back: Callable[[], Iterable[Astray]] = tuple
    usual: bool = True


def forms(trial: Trial, claims: Semantics) -> Iterator[Form]:
    """Every form that the inputs and parameters fit, the usual ones first."""
    matrices = [i for i, one in enumerate(trial.parameters) if one.ndim == 2 and min(one.shape) > 1]
    vectors = [i for i in range(len(trial.parameters)) if i not in matrices]
    if any(one.ndim > 2 for one in trial.parameters):
        return
    if len(trial.inputs) in (2, 3) and len(matrices) in (1, 2):
        yield from _general_scores(trial, matrices, vectors, claims)
    if len(trial.inputs) in (2, 3) and len(matrices) in (1, 2) and vectors:
        yield from _additive_scores(trial, matrices, vectors, claims)
    yield from _projected(trial, matrices, vectors, claims)


def _sides(trial: Trial) -> list[tuple[int, int]]:
    """Which inputs are the states that are looked at, and which those that look."""
    if len(trial.inputs) == 3:  # whose values are given beside
        order = order_of(trial.target.inputs, ("key", "query", "value"))
        return [] if order is None else [(order[0], order[1])]
    for ours in (("hs", "h"), ("hs_enc", "hs_dec")):
        if (order := order_of(trial.target.inputs, ours)) is not None:
            return [(order[0], order[1])]
    return [(0, 1), (1, 0)]


def _attend(
    query: Array, key: Array, value: Array, claims: Semantics, steps: Steps, scale: float
) -> Array:
    semantics = claims if claims.scale is not None else replace(claims, scale=scale)
    chain = Calculation(QKV, (query, key, value), semantics, None, {**PRODUCTS, **steps})
    return chain.forward()["out"]


def masked(mask: Array) -> Steps:
    """Steps in which keys are hidden, or scores added to, by a mask of (N, T_dec, T_enc)."""

    def operands(c: Calculation, *three: Any) -> Any:
        c.mask = mask if three[0].ndim < 4 else mask[:, None]
        return three

    return {"operands": operands}


def _times(x: Array, W: Array, back: Array | None) -> Array:
    """Give x · W; what is differentiated by x goes back through another matrix, if one is given."""
    return x @ W if back is None else x @ W + 1j * (x.imag @ (back - W).real)


def _untransposed(forward: Callable[..., Array]) -> Astray:
    return Astray("a matrix not transposed in backward", forward)


def _crossed(forward: Callable[..., Array], ways: Iterable[tuple[str, str, str, str]]) -> Astray:
    """Gradients that go back through other matrices: of what, from where, by whose, by which."""
    right = ", ".join(f"{dx} = {dy} · {own}ᵀ" for dx, dy, own, _ in ways)
    astray = ", ".join(f"{dx} = {dy} · {other}ᵀ" for dx, dy, _, other in ways)
    name = "gradient goes back through another projection's matrix"
    return Astray(name, forward, {"right": right, "astray": astray})


def _seen(inputs: Arrays, sides: tuple[int, int]) -> tuple[Array, Array, bool]:
    """The states that are looked at, those that look, and whether these are of one step."""
    hs, h = (inputs[side] for side in sides)
    one = h.ndim == 2
    return hs, h[:, None] if one else h, one


def _values(inputs: Arrays, sides: tuple[int, int]) -> Array:
    """What is summed: the states that are looked at, or what is given beside."""
    return inputs[3 - sum(sides) if len(inputs) == 3 else sides[0]]


def _general_scores(
    trial: Trial, matrices: Sequence[int], vectors: Sequence[int], claims: Semantics
) -> Iterator[Form]:
    """Scores of Luong: hs · W · h; the weights are for hs; what comes out may be joined with h."""
    if len(vectors) > len(matrices):
        return

    def forward(
        sides: tuple[int, int], turned: bool, asked: bool, order: Sequence[int], joined: int,
        values: bool, inputs: Arrays, parameters: Arrays, steps: Steps, *, astray: bool = False,
    ) -> Any:  # fmt: skip
        hs, h, one = _seen(inputs, sides)
        of = dict(zip(matrices, (parameters[i] for i in vectors), strict=False))
        W = parameters[order[0]].T if turned else parameters[order[0]]
        b = of.get(order[0], 0.0)
        back = W.T if astray else None
        key, query = (hs, _times(h, W, back) + b) if asked else (_times(hs, W, back) + b, h)
        summed = key if values else _values(inputs, sides)
        out = _attend(query, key, summed, claims, steps, 1.0)
        if joined:
            both = np.concatenate((out, h) if joined % 2 else (h, out), axis=-1)
            Wc = parameters[order[1]]
            out = both @ (Wc if len(Wc) == both.shape[-1] else Wc.T) + of.get(order[1], 0.0)
            out = np.tanh(out) if joined > 2 else out
        return out[:, 0] if one else out

    b = " + b" if vectors else ""
    every = product(
        _sides(trial), (False, True), (False, True), permutations(matrices),
        (0,) if len(matrices) == 1 else (3, 4, 1, 2),
    )  # fmt: skip
    for sides, turned, asked, order, joined in every:
        W = f"W{'ᵀ' * turned}"
        words = f"scores = (h · {W}{b}) · hs" if asked else f"scores = (hs · {W}{b}) · h"
        if joined:
            words += f", out = {'tanh' * (joined > 2)}([{'c, h' if joined % 2 else 'h, c'}] · Wc)"
        names = _named(
            {**dict.fromkeys(vectors, "b"), **dict(zip(order, ("W", "Wc"), strict=False))}
        )
        usual = not asked and not joined and sides == (0, 1)
        form = partial(forward, sides, turned, asked, order, joined)
        run = partial(form, False)
        back = partial(tuple, [_untransposed(partial(run, astray=True))])
        yield Form("luong", words, names, run, usual=usual, back=back)
        if usual:
            mistake = "the projected states as values"
            yield Form("luong", words, names, partial(form, True), mistake)


def _additive_scores(
    trial: Trial, matrices: Sequence[int], vectors: Sequence[int], claims: Semantics
) -> Iterator[Form]:
    """Scores of Bahdanau: v · tanh(hs · W + h · U), with W and U in one array perhaps."""

    def forward(
        form: _Additive, bent: Callable[[Array], Array], inputs: Arrays, parameters: Arrays,
        steps: Steps, *, astray: str = "",
    ) -> Any:  # fmt: skip
        hs, h, one = _seen(inputs, form.sides)
        W, U, v, b = form.parts(parameters, hs.shape[-1])
        of_hs, of_h = (
            _times(x, own, other if side in astray else None)
            for side, x, own, other in (("W", hs, W, U), ("U", h, U, W))
        )
        scores = bent(of_hs[:, None] + of_h[:, :, None] + b) @ v
        summed = _values(inputs, form.sides)
        out = _attend(h, hs, summed, claims, {**steps, "query_key": lambda c: scores}, 1.0)
        return out[:, 0] if one else out

    orders = list(permutations(matrices)) if len(matrices) == 2 else [(matrices[0],)] * 2
    every = product(_sides(trial), enumerate(orders), (False, True), vectors)
    for sides, (number, order), turned, v in every:
        biases = tuple(i for i in vectors if i != v and trial.parameters[i].size > 1)
        form = _Additive(sides, order, turned, number == 1, v, biases)
        named = dict(zip(order, ("W", "U") if len(order) == 2 else ("WU",), strict=True))
        named |= {**dict.fromkeys(vectors, "b"), v: "v"}
        words = f"scores = v · tanh(hs · W + h · U{' + b' * bool(biases)})"
        words += ", its weights transposed" * turned
        run = partial(forward, form, np.tanh)
        back = (
            Astray(
                "derivative of tanh taken of what is already activated",
                partial(forward, form, partial(_tanh, lambda u: 1 - np.tanh(u) ** 2)),
            ),
            Astray(
                "derivative of tanh missing", partial(forward, form, partial(_tanh, np.ones_like))
            ),
            *(
                _crossed(partial(run, astray="".join(x[2] for x in ways)), ways)
                for ways in (_ADDED[:1], _ADDED[1:], _ADDED)
            ),
        )
        plain = not biases and not turned and len(order) == 2
        plain = plain and (sides == (0, 1) or len(trial.inputs) == 3)
        names = _named(named)
        yield Form("bahdanau", words, names, run, usual=plain, back=partial(tuple, back))
        if plain:
            mistake = "tanh missing from the scores"
            yield Form("bahdanau", words, names, partial(forward, form, np.asarray), mistake)


# Of additive scores: what goes back from where by which matrix, and by which other.
_ADDED = (("dhs", "du", "W", "U"), ("dh", "du", "U", "W"))


def _tanh(slope: Callable[[Array], Array], x: Array) -> Array:
    """Tanh with another derivative, made of what it gives."""
    u = np.tanh(x.real)
    return np.asarray(u + 1j * slope(u) * x.imag)


@dataclass(frozen=True)
class _Additive:
    """Where among the parameters those of additive scores are."""

    sides: tuple[int, int]
    order: tuple[int, ...]
    turned: bool
    query_first: bool
    v: int
    biases: tuple[int, ...]

    def parts(self, parameters: Arrays, width: int) -> tuple[Array, Array, Array, Any]:
        """W, U, v and the biases."""
        found = [parameters[i].T if self.turned else parameters[i] for i in self.order]
        if len(found) == 1:
            at = len(found[0]) - width if self.query_first else width
            found = np.split(found[0], [at])
            found = found[::-1] if self.query_first else found
        W, U = found
        return W, U, parameters[self.v].reshape(-1), sum(parameters[i] for i in self.biases)


# Of how many matrices each is how many of Wq, Wk, Wv and Wo in one.
_FUSED: Mapping[int, tuple[tuple[int, ...], ...]] = {
    4: ((1, 1, 1, 1),), 3: ((1, 1, 1), (1, 2, 1)), 2: ((3, 1), (1, 2)), 1: ((3,),),
}  # fmt: skip


@dataclass(frozen=True)
class _Projections:
    """Where among the parameters the projections are.

    Attributes
    ----------
    matrices, biases : tuple of (tuple of int, int)
        The numbers of those that lie side by side, one for each head, or of the one, and how many
        of query, key, value and result it holds; biases belong to the first matrices or the last.
    last : bool
    turned : bool
        Whether matrices are (out, in).
    heads : int
    by_head : bool
        Whether what is in one array lies side by side for each head.
    order : tuple of int
        Which of them are those of query, key, value and result.
    """

    matrices: tuple[tuple[tuple[int, ...], int], ...]
    biases: tuple[tuple[tuple[int, ...], int], ...]
    last: bool
    turned: bool
    heads: int
    by_head: bool
    order: tuple[int, ...]

    def parts(self, parameters: Arrays) -> Iterator[tuple[Array, Any]]:
        """Every matrix and its bias, in order."""
        matrices: list[Any] = []
        for which, count in self.matrices:
            matrices += self._parted(
                np.concatenate(
                    [parameters[i].T if self.turned else parameters[i] for i in which], axis=-1
                ),
                count,
            )
        biases: list[Any] = []
        for which, count in self.biases:
            biases += self._parted(np.concatenate([parameters[i] for i in which]), count)
        missing = [0.0] * (len(matrices) - len(biases))
        biases = [*missing, *biases] if self.last else [*biases, *missing]
        for i in self.order:
            yield matrices[i], biases[i]

    def _parted(self, x: Array, count: int) -> list[Array]:
        if not self.by_head or count == 1:
            return np.split(x, count, axis=-1)
        x = x.reshape(*x.shape[:-1], self.heads, count, -1)
        return [x[..., i, :].reshape(*x.shape[:-3], -1) for i in range(count)]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters."""
        letters = dict(zip(self.order, "qkvo", strict=False))
        named: dict[int, str] = {}
        for letter, held in (("W", self.matrices), ("b", self.biases)):
            whole, own = sum(n for _, n in self.matrices), sum(n for _, n in held)
            start = whole - own if self.last else 0
            for which, count in held:
                name = letter + "".join(letters[start + j] for j in range(count))
                parts = [f"{name}[{head}]" for head in range(len(which))]
                named |= dict(zip(which, parts if len(which) > 1 else (name,), strict=True))
                start += count
        return _named(named)

    @property
    def words(self) -> str:
        """What is not as it is written most often."""
        said = [f"{self.heads} heads" if self.heads > 1 else "one head"]
        apart = any(len(which) > 1 for which, _ in self.matrices)
        said += ["a matrix for each head"] * apart
        fused = [] if apart else [x for x in self.names if x.startswith("W") and len(x) > 2]
        said += [f"{name} in one{' by heads' * self.by_head}" for name in fused]
        said += ["weights (out, in)"] * self.turned
        if self.order != tuple(range(len(self.order))):
            said.append(f"parameters in the order {', '.join(self.names)}")
        said += ["biases"] * bool(self.biases) + ["no projection of out"] * (len(self.order) < 4)
        return ", ".join(said)


def _projected(
    trial: Trial, matrices: Sequence[int], vectors: Sequence[int], claims: Semantics
) -> Iterator[Form]:
    """Query, key and value are projected, and mostly the result: with heads, or as one."""

    def forward(
        form: _Projections, sides: tuple[int, ...], semantics: Semantics, cut: bool, joined: bool,
        residual: bool, of_model: bool, inputs: Arrays, parameters: Arrays, steps: Steps,
        *, astray: Mapping[int, int] = {},
    ) -> Any:  # fmt: skip
        parts = list(form.parts(parameters))

        def projected(x: Array, i: int) -> Array:
            W, b = parts[i]
            j = astray.get(i)
            back = None if j is None else W.T if i == j else parts[j][0]
            return np.asarray(_times(x, W, back) + b)

        q, k, v = (projected(inputs[side], i) for i, side in enumerate(sides))
        if q.shape[-1] % form.heads:
            raise ValueError("it does not fit")
        d = q.shape[-1] // form.heads
        kv_heads = k.shape[-1] // d
        if not kv_heads or v.shape[-1] % kv_heads:
            raise ValueError("it does not fit")
        q, k, v = (_split(x, y, cut) for x, y in ((q, d), (k, d), (v, v.shape[-1] // kv_heads)))
        width = inputs[sides[0]].shape[-1] if of_model else d
        out = _merge(_attend(q, k, v, semantics, steps, width**-0.5), joined)
        if len(parts) > 3:
            out = projected(out, 3)
        return out + inputs[sides[0]] if residual else out

    alone = len(trial.inputs) == 1 and claims.causal is None
    for form, sides in product(_projections(trial, matrices, vectors), _three(trial)):
        usual = form.order == (_named_order(trial, form) or tuple(range(len(form.order))))
        for causal, residual in product((False, True)[: 1 + alone], (False, True)):
            plain = usual and not (causal or residual)
            semantics = replace(claims, causal="upper_left") if causal else claims
            words = form.words + ", causal" * causal + ", added to its input" * residual
            make = partial(Form, "multi-head", words, form.names, usual=plain)
            run = partial(forward, form, sides, semantics)
            right = partial(run, True, True, residual, False)
            yield make(right, back=partial(_by_other_matrices, right, len(form.order)))
            if plain:
                yield make(partial(run, True, True, residual, True), "scale 1/√(heads·H)")
            mistaken = ((False, False), (False, True), (True, False)) if form.heads > 1 else ()
            for cut, joined in mistaken if plain else ():
                name = f"heads {'merged' if cut else 'split'} without a transpose"
                yield make(partial(run, cut, joined, residual, False), name)


def _by_other_matrices(forward: Callable[..., Array], count: int) -> Iterator[Astray]:
    """Gradients that go back through a projection's own matrix untransposed, or another's."""
    for n in range(1, count + 1):
        for slots in combinations(range(count), n):
            yield _untransposed(partial(forward, astray=dict(zip(slots, slots, strict=True))))
            for others in product(range(count), repeat=n) if n < 3 else ():
                if all(i != j for i, j in zip(slots, others, strict=True)):
                    astray = dict(zip(slots, others, strict=True))
                    ways = [
                        ("dc", "dout", "Wo", f"W{'qkvo'[j]}")
                        if i == 3
                        else ("dx", f"d{'qkvo'[i]}", f"W{'qkvo'[i]}", f"W{'qkvo'[j]}")
                        for i, j in astray.items()
                    ]
                    yield _crossed(partial(forward, astray=astray), ways)


def _projections(
    trial: Trial, matrices: Sequence[int], vectors: Sequence[int]
) -> Iterator[_Projections]:
    named = (trial.layer.held(name) for name in _HEADS)
    known = next((int(x) for x in named if isinstance(x, (int, np.integer)) and x > 0), None)
    every = []
    for counts in _FUSED.get(len(matrices), ()):
        fused = max(counts) > 1
        for last in (False, True)[: 1 + (0 < len(vectors) < len(matrices))]:
            of = counts[-len(vectors) :] if last else counts
            if len(vectors) > len(matrices):
                continue
            biases = tuple(zip(_alone(vectors), of, strict=False))
            held = tuple(zip(_alone(matrices), counts, strict=True))
            for turned, heads, by_head, order in product(
                (False, True),
                (known,) if known else (1, 2, 4),
                (False, True)[: 1 + fused],
                permutations(range(sum(counts))),
            ):
                if not fused or order == tuple(sorted(order)):
                    every.append(_Projections(held, biases, last, turned, heads, by_head, order))
    heads = len(matrices) // 3
    for side_by_side in (True, False) if heads > 1 and len(matrices) % 3 < 2 else ():
        groups = _by_kind(matrices, heads, side_by_side)
        of_biases = _by_kind(vectors, heads, side_by_side)
        if len(vectors) not in (0, len(matrices), 3 * heads, len(matrices) - 3 * heads):
            continue
        if len(vectors) < 3 * heads:
            of_biases = _alone(vectors)
        held = tuple((group, 1) for group in groups)
        biases = tuple((group, 1) for group in of_biases)
        last = len(vectors) == 1
        for turned, order in product((False, True), permutations(range(3))):
            order = (*order, *range(3, len(groups)))
            every.append(_Projections(held, biases, last, turned, heads, False, order))
    yield from sorted(every, key=lambda form: form.order)


def _named_order(trial: Trial, form: _Projections) -> tuple[int, ...]:
    """Which matrices are those of query, key, value and result by their names; else empty."""
    found = []
    for which, count in form.matrices:
        parts = trial.parameter_names[which[0]].lower().removesuffix(".weight").split(".")
        letters = {match[1] for part in parts for match in _LETTER.finditer(part)}
        found.append(letters.pop() if count == 1 and len(letters) == 1 else "")
    order = [found.index(letter) for letter in "qkv" if found.count(letter) == 1]
    rest = [i for i in range(len(found)) if i not in order]
    return (*order, *rest) if len(order) == 3 else ()


def _alone(numbers: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    return tuple((i,) for i in numbers)


def _by_kind(numbers: Sequence[int], heads: int, side_by_side: bool) -> tuple[tuple[int, ...], ...]:
    """Those of query, key and value, where each head has its own, and what is behind them.

    They come head by head, or kind by kind.
    """
    first, rest = numbers[: 3 * heads], numbers[3 * heads :]
    kinds = [first[i::3] if side_by_side else first[i * heads : (i + 1) * heads] for i in range(3)]
    return (*map(tuple, kinds), *_alone(rest))


def _three(trial: Trial) -> list[tuple[int, ...]]:
    """Which inputs are query, key and value."""
    if len(trial.inputs) == 2:
        return [(h, hs, hs) for hs, h in _sides(trial)[::-1]]
    if len(trial.inputs) == 3:
        return [order_of(trial.target.inputs, ("query", "key", "value")) or (0, 1, 2)]
    return [(0, 0, 0)]


def _split(x: Array, d: int, transposed: bool) -> Array:
    N, T, D = x.shape
    heads = D // d
    return x.reshape(N, T, heads, d).swapaxes(1, 2) if transposed else x.reshape(N, heads, T, d)


def _merge(x: Array, transposed: bool) -> Array:
    N, heads, T, d = x.shape
    return (x.swapaxes(1, 2) if transposed else x).reshape(N, T, heads * d)


def _named(names: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(names.get(i, "") for i in range(max(names) + 1))
