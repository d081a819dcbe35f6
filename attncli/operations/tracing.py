"""Every intermediate of one decoder step, forward and backward, as the mathematics names them.

The numbers are those that the step-by-step calculation takes note of; each is given here what a
reader needs beside it: formula, meaning, and the work of a single element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from attncli.arrays import Array
from attncli.core.extras import Extras, Placed
from attncli.core.semantics import Semantics
from attncli.core.visibility import Visibility, own_keys, tile_of
from attncli.errors import ParameterError
from attncli.operations.operation import Operation, computable
from attncli.operations.steps import PRODUCTS, QKV, Calculation, Steps
from attncli.translation import Sentence

Direction = Literal["inputs", "forward", "backward"]
Write = Callable[[float], str]
_QUIETLY = np.errstate(over="ignore", invalid="ignore")  # a trace shows what comes of it
Work = Callable[[tuple[int, ...], Write], str]
WORKED_STEPS = 4
"""Up to so many decoder steps are worked out in numbers together."""
# Shares of a sum are kept as long as they are no more numbers than these.
_SMALL = 256


@dataclass(frozen=True)
class Intermediate:
    """One array on the way.

    Attributes
    ----------
    name : str
    direction : {"inputs", "forward", "backward"}
    formula : str
        The right-hand side.
    meaning : str
        What it says, in words.
    axes : tuple of str
    array : ndarray
    made_of : tuple of str
        The names of what it was computed from.
    work : callable or None
        ``work(index, write)`` writes the formula of one element with its numbers.
    shared : bool
        Whether it is the same for every decoder step; a gradient is what all of them add up to.
    book : str
        What "Deep Learning from Scratch 2" calls it, where it has a name there.
    shares : ndarray or None
        Of a gradient that is added up over the steps, how large each step's share is: its norm.
    terms : tuple of ndarray
        These shares, where they are small.
    """

    name: str
    direction: Direction
    formula: str
    meaning: str
    axes: tuple[str, ...]
    array: Array
    made_of: tuple[str, ...]
    work: Work | None = None
    shared: bool = False
    book: str = ""
    shares: Array | None = None
    terms: tuple[Array, ...] = ()


BOOK = {
    "query": "h", "key": "hs", "value": "hs", "scores": "s", "weights": "a", "out": "c",
    "dout": "dc", "dvalue": "dhs0", "dweights": "da", "dscores": "ds", "dquery": "dh",
    "dkey": "dhs1",
}  # fmt: skip
"""What the book's `Attention` and the layers in it call what has a name in the mathematics."""


@dataclass(frozen=True)
class Place:
    """Which step of which item and head.

    Attributes
    ----------
    step, item, head : int
    """

    step: int = 0
    item: int = 0
    head: int = 0


class StepTrace:
    """One decoder step of an operation that is attention as a whole.

    Parameters
    ----------
    operation : Operation
    inputs : dict of str to ndarray
    place : Place
        Within the sizes of the inputs.
    mask : ndarray, optional
        Broadcastable to the weights.
    extras : Extras, optional
        Sinks, slopes, segments, sequences, lengths and dropout.
    padding : ndarray of bool (N, T_dec), optional
        False where a decoder step takes no part.
    semantics : Semantics, optional

    Raises
    ------
    ParameterError
        If the operation is a part of attention alone.
    """

    @_QUIETLY
    def __init__(
        self,
        operation: Operation,
        inputs: dict[str, Array],
        place: Place,
        *,
        mask: Array | None = None,
        extras: Extras = Extras(),  # noqa: B008 (it is frozen)
        padding: Array | None = None,
        semantics: Semantics | None = None,
    ) -> None:
        if not (operation.is_whole or operation.parameters):
            raise ParameterError(
                f"{operation.name} has no trace: {operation.not_whole}",
                hint="--layer time-attention",
            )
        self.operation, self.place = operation, place
        self.semantics = semantics = semantics or Semantics()
        operation.require_options(semantics, extras)
        self.inputs = {name: computable(inputs[name]) for name in operation.inputs}
        query, key, value = self._operands()
        self.lead, (T_dec, T_enc) = query.shape[:-2], (query.shape[-2], key.shape[-2])
        self.T = T_dec, T_enc
        self.scale = self._scale(semantics, query.shape[-1])
        self.softcap = semantics.softcap
        self.index = (place.item, place.head)[: len(self.lead)]
        self.shared = self.index
        if len(self.lead) == 2:  # of grouped queries several share a key head
            self.shared = (place.item, place.head * key.shape[-3] // query.shape[-3])

        whole = None if mask is None else operation.core_mask(mask)
        placed = operation.core_extras(extras).placed(self.lead, T_dec, T_enc)
        self.placed = placed
        visibility = Visibility.of(semantics, T_dec, T_enc, whole, placed)
        bias, seen = visibility.row(place.step, self.index)
        if padding is not None and not padding[place.item, place.step]:
            seen = np.zeros(T_enc, bool)
        self.hides = seen is not None or bool(visibility.by_step)
        self.hides |= padding is not None and not padding[place.item].all()
        if whole is not None:  # a step has what any of them has, to be put together with them
            self.hides |= bool((~whole if whole.dtype == bool else np.isneginf(whole)).any())
        row = np.broadcast_to(True if seen is None else seen, T_enc)
        self.row = None if seen is None else row
        self.query, self.key, self.value = self._here(query, key, value)
        # What is added; −∞ hides, and is not seen in `row`.
        self.bias = None
        if bias is not None:
            self.bias = np.broadcast_to(np.where(bias == -np.inf, bias.dtype.type(0), bias), T_enc)
        self.added = [
            name
            for name, there in (
                ("mask", whole is not None and whole.dtype != bool),
                ("alibi", placed.alibi is not None),
            )
            if there
        ]
        self.distance = np.abs(
            np.arange(T_enc) - own_keys(semantics, T_dec, T_enc, placed, self.index)[place.step]
        )
        sink = self._at(placed.sinks)
        self.sink = None if sink is None else float(sink.item())
        keep = self._at(placed.keep)
        self.keep = None if keep is None else np.broadcast_to(keep, (1, T_enc))[0]
        self.keep_prob = semantics.keep_prob or 1.0
        self.calculation = Calculation(
            QKV,
            (self.query[None, None], self.key[None], self.value[None]),
            replace(semantics.of_scores(), scale=self.scale),
            self.bias,
            {**self._steps(), "band": lambda c: row},
            extras=Placed(
                sinks=None if sink is None else sink.astype(self.query.dtype), keep=self.keep
            ),
        )
        self.trace: list[Intermediate] = []

    @property
    def _H_v(self) -> str:
        return "H_v" if "value" in self.operation.inputs else "H"

    def _here(self, query: Array, key: Array, value: Array) -> tuple[Array, Array, Array]:
        """What of the core's query, key and value has a part in this step."""
        keys, values = (self._seen(x[self.shared]) for x in (key, value))
        return query[self.index][self.place.step], keys, values

    def _at(self, extra: Array | None) -> Array | None:
        """What this step has of an extra, (1, keys)."""
        if extra is None:
            return None
        t = self.place.step
        return tile_of(extra, slice(t, t + 1), slice(0, self.T[1]), self.index)

    def _seen(self, x: Array) -> Array:
        """What the step sees: NaN and infinity where nobody looks must not leak."""
        if self.row is None:
            return x
        return np.where(self.row[:, None] | np.isfinite(x), x, x.dtype.type(0))

    # What other layers do in another way.

    names: ClassVar = ("query", "key", "value", "out")
    """What query, key, value and what the weights lead to are called."""
    gradients: ClassVar = ("dquery", "dkey", "dvalue")
    width: ClassVar = "H"
    """The axis of query and key."""

    def _operands(self) -> tuple[Array, Array, Array]:
        """Query, key and value as the core has them."""
        return self.operation.to_core(self.inputs)

    @property
    def _given(self) -> tuple[Array, Array, Array]:
        """Query, key and value as they were given."""
        return self.query, self.key, self.value

    def _scale(self, semantics: Semantics, H: int) -> float:
        return self.operation.scale(semantics, H)

    def _steps(self) -> Steps:
        """The steps by which the calculation differs."""
        return PRODUCTS

    def _scored(self) -> Array:
        """Add what leads to the scores; return these."""
        query, key, scale = self.query, self.key, self.scale
        of_query, of_key, *_ = self.names

        def scored(index: tuple[int, ...], write: Write) -> str:
            return f"{write(scale)} · ({products(key[index[0]], query, write)})"

        return self._add(
            "scores", f"scale · {of_query} · {of_key}ᵀ", "how well each key fits the query",
            ("T_enc",), (of_query, of_key), scored,
        )  # fmt: skip

    @property
    def _left(self) -> str:
        """What the weights are called after dropout."""
        return "weights" if self.keep is None else "dropped"

    def _named(self, name: str) -> Array:
        (found,) = (one.array for one in self.trace if one.name == name)
        return found

    def _summed(self, weights: Array) -> None:
        """Add what the weights lead to."""
        value, (*_, of_value, out) = self.value, self.names
        weights = self._named(self._left)
        self._add(
            out, f"{self._left} · {of_value}", "the mean of the values, weighted",
            (self._H_v,), (self._left, of_value),
            lambda i, write: products(weights, value[:, i[0]], write),
            noted="out",
        )  # fmt: skip

    def _received(self, dout: Array) -> Array:
        """Add dout; return the gradient of what the weights lead to."""
        incoming: Array = self.operation.core_dout(dout)[self.index][self.place.step]
        self._back(
            "dout", "given", "the gradient of the loss with respect to out", (self._H_v,), (),
            array=incoming,
        )  # fmt: skip
        return incoming

    def _scored_back(self, dscores: Array, dvalue: Array) -> None:
        """Add what comes of the gradient of the scores."""
        dquery, dkey = self._operands_back(dscores)
        if "value" not in self.operation.inputs:
            states, state = self.operation.inputs
            self._back(
                f"d{state}", "dquery", Sentence("the query was {name} itself", name=state), ("H",),
                ("dquery",), array=dquery,
            )  # fmt: skip
            self._states_back(states, dkey, dvalue)

    def _operands_back(self, dscores: Array) -> tuple[Array, Array]:
        query, key, scale = self.query, self.key, self.scale
        of_query, of_key, *_ = self.names
        width = self.width
        dquery = self._back(
            self.gradients[0], f"scale · dscores · {of_key}",
            "which way the query should have pointed", (width,), ("dscores", of_key),
            lambda i, write: f"{write(scale)} · ({products(dscores, key[:, i[0]], write)})",
            noted="dquery",
        )  # fmt: skip
        dkey = self._back(
            self.gradients[1], f"scale · dscoresᵀ · {of_query}",
            "which way each key should have pointed", ("T_enc", width), ("dscores", of_query),
            lambda i, write: f"{write(scale)} · {write(dscores[i[0]])} · {write(query[i[1]])}",
            noted="dkey", shared=True,
        )  # fmt: skip
        return dquery, dkey

    def _states_back(self, states: str, dkey: Array, dvalue: Array) -> None:
        self._back(
            f"d{states}", "dkey + dvalue",
            Sentence("{name} was used twice, as keys and values", name=states),
            ("T_enc", "H"), ("dkey", "dvalue"),
            lambda i, write: f"{write(dkey[i])} + {write(dvalue[i])}",
            array=dkey + dvalue, shared=True,
        )  # fmt: skip

    # The way forward and back, as all of them go it.

    @_QUIETLY
    def forward(self) -> list[Intermediate]:
        """Return the inputs of the step and every intermediate up to its output."""
        self.trace = []
        self.calculation.forward()
        self._inputs()
        scores = self._scored()
        before, cap = "scores", self.softcap
        if cap is not None:
            uncapped = scores
            scores = self._add(
                "capped", "softcap · tanh(scores / softcap)",
                Sentence("bounded smoothly to ± {cap}", cap=f"{cap:g}"), ("T_enc",), ("scores",),
                lambda i, write: f"{write(cap)} · tanh({write(uncapped[i])} / {write(cap)})",
            )  # fmt: skip
            before = "capped"
        if self.bias is not None:
            bias, unbiased = self.bias, scores
            terms = {"mask": "+ mask", "alibi": "− slope · |own position − key position|"}
            meanings = {"mask": "the floating mask is added", "alibi": "far keys count for less"}
            scores = self._add(
                "biased", " ".join([before, *(terms[name] for name in self.added)]),
                "; ".join(meanings[name] for name in self.added),
                ("T_enc",), (before, *self.added),
                lambda i, write: f"{write(unbiased[i])} + {write(bias[i])}",
            )  # fmt: skip
            before = "biased"
        if self.hides:
            scores = self._add(
                "masked", f"{before} where the key is seen, else −∞",
                "what is hidden (by mask, order, window, length or segment) can get no weight",
                ("T_enc",), (before,),
            )  # fmt: skip
            before = "masked"
        sink, too = self.sink, "" if self.sink is None else ", sink"
        beside = () if sink is None else ("sinks",)
        largest = self._add(
            "largest", f"max({before}{too})", "taken off for numerical stability alone", (),
            (before, *beside),
        )  # fmt: skip
        base, final = (0.0 if largest == -np.inf else float(largest)), scores
        exps = self._add(
            "exps", f"exp({before} − largest)", "above 0, at most 1",
            ("T_enc",), (before, "largest"),
            lambda i, write: f"exp({write(final[i])} − {write(base)})",
        )  # fmt: skip
        total = self._add(
            "total", "Σ exps" if sink is None else "Σ exps + exp(sink − largest)",
            "what makes the weights sum to 1" if sink is None
            else "the sink takes part in the sum, and leads to no value",
            (), ("exps", *beside),
            lambda i, write: " + ".join([
                *map(write, exps),
                *([] if sink is None else [f"exp({write(sink)} − {write(base)})"]),
            ]),
        )  # fmt: skip
        meaning = "how much this step looks at each key: the softmax of the scores"
        if total == 0:
            meaning = "this step sees no key: all its weights are 0"
        weights = self._add(
            "weights", "exps / total", meaning, ("T_enc",), ("exps", "total"),
            lambda i, write: f"{write(exps[i])} / {write(float(total))}",
        )  # fmt: skip
        if self.keep is not None:
            self._dropped("dropped", "weights", "dropout: these weights stay, and grow for it")
        self._summed(weights)
        return list(self.trace)

    def _dropped(self, name: str, of: str, meaning: str, direction: Direction = "forward") -> Array:
        """Add weights, or their gradient, after dropout."""
        keep, share = self.keep, self.keep_prob
        assert keep is not None
        before = self._named(of)
        divided = f" / {share:g}" if share != 1 else ""
        return self._add(
            name, f"{of} ⊙ keep{divided}", meaning, ("T_enc",), (of, "keep"),
            lambda i, write: f"{write(before[i])} · {int(keep[i])}{divided}",
            direction, np.asarray(before * keep / before.dtype.type(share)),
        )  # fmt: skip

    @_QUIETLY
    def backward(self, dout: Array, dlogsumexp: Array | None = None) -> list[Intermediate]:
        """Return every intermediate from `dout`, the gradient of all outputs, to the inputs'.

        What is shared by the steps has this step's share of its gradient; `added_up` adds them.
        """
        if not self.trace:
            self.forward()
        past = len(self.trace)
        value, (*_, of_value, out) = self.value, self.names
        weights, left = self._named("weights"), self._named(self._left)
        dout = self._received(computable(dout))
        change = None
        if dlogsumexp is not None:
            rows = dlogsumexp[:, None] if self.operation.one_step else dlogsumexp
            change = float(rows[(*self.index, self.place.step)])
        self.calculation.backward(
            dout[None, None], None if change is None else np.full((1, 1), change, dout.dtype)
        )
        dvalue = self._back(
            self.gradients[2], f"{self._left}ᵀ · d{out}", "each value by the weight it had",
            ("T_enc", self._H_v), (self._left, f"d{out}"),
            lambda i, write: f"{write(left[i[0]])} · {write(dout[i[1]])}",
            noted="dvalue", shared=True,
        )  # fmt: skip
        of_left = "dweights" if self.keep is None else "ddropped"
        dweights = self._back(
            of_left, f"d{out} · {of_value}ᵀ", "what more weight on a key would do",
            ("T_enc",), (f"d{out}", of_value),
            lambda i, write: products(dout, value[i[0]], write),
            noted="dweights",
        )  # fmt: skip
        if self.keep is not None:
            dweights = self._dropped(
                "dweights", of_left, "only weights that stayed lead to anything", "backward"
            )
        rowsum = self._back(
            "rowsum", "Σ weights ⊙ dweights", "what more weight on all keys alike would do",
            (), ("weights", "dweights"),
            lambda i, write: products(weights, dweights, write),
        )  # fmt: skip
        cap = self.softcap
        name = "dscores" if cap is None else "dcapped"
        more = "" if change is None else " + dlogsumexp"
        outer = dscores = self._back(
            name, f"weights ⊙ (dweights − rowsum{more})",
            "back through the softmax: weights sum to 1, so only differences count",
            ("T_enc",), ("weights", "dweights", "rowsum", *(["dlogsumexp"] if more else [])),
            lambda i, write: (
                f"{write(weights[i])} · ({write(dweights[i])} − {write(float(rowsum))}"
                + ("" if change is None else f" + {write(change)}") + ")"
            ),
        )  # fmt: skip
        self._beside_back(name, outer, float(rowsum), change)
        if cap is not None:
            (capped,) = (one.array for one in self.trace if one.name == "capped")
            dscores = self._back(
                "dscores", "dcapped ⊙ (1 − (capped / softcap)²)", "back through the tanh",
                ("T_enc",), ("dcapped", "capped"),
                lambda i, write: (
                    f"{write(outer[i])} · (1 − ({write(capped[i])} / {write(cap)})²)"
                ),
            )  # fmt: skip
        self._scored_back(dscores, dvalue)
        return self.trace[past:]

    def _beside_back(self, name: str, dscores: Array, rowsum: float, change: float | None) -> None:
        """Add the gradients of what was added to the scores, and of the sink."""
        if "mask" in self.added:
            self._back(
                "dmask", name, "the mask was added: its gradient is that of the scores",
                ("T_enc",), (name,), array=dscores,
            )  # fmt: skip
        distance, sink = self.distance.astype(dscores.dtype), self.sink
        if "alibi" in self.added:
            self._back(
                "dalibi", f"−Σ {name} ⊙ |own position − key position|",
                "what a steeper slope would do", (), (name,),
                lambda i, write: "−(" + products(dscores, distance, write) + ")",
                np.asarray(-(dscores * distance).sum()), shared=True,
            )  # fmt: skip
        if sink is None:
            return
        largest, total = float(self._named("largest")), float(self._named("total"))
        loss = (change or 0.0) - rowsum
        more = "" if change is None else "dlogsumexp "
        self._back(
            "dsinks", f"exp(sink − largest) / total · ({more}− rowsum)",
            "what a larger sink would do", (), ("sinks", "largest", "total", "rowsum"),
            lambda i, write: (
                f"exp({write(sink)} − {write(largest)}) / {write(total)} · {write(loss)}"
            ),
            np.asarray(np.exp(sink - largest) / total * loss), shared=True,
        )  # fmt: skip

    def _inputs(self) -> None:
        place, (query, key, value) = self.place, self._given
        step, several = place.step, len(self.lead) == 2
        if "value" in self.operation.inputs:
            names = {"query": "query", "key": "key", "value": "value"}
            where = (
                ""
                if not self.lead
                else f"item {place.item}" + (f", head {place.head}" if several else "")
            )
        else:
            states, state = self.operation.inputs
            names, where = {"query": state, "key": states, "value": states}, f"item {place.item}"
        comma = ", " if where else ""
        one_step = "" if "h" in self.operation.inputs else f"{comma}step {step}"
        for name, axes, array, at, meaning in (
            ("query", ("H",), query, where + one_step, "what this step looks for"),
            ("key", ("T_enc", "H"), key, where, "what each encoder step answers to"),
            ("value", ("T_enc", self._H_v), value, where, "what each has to give"),
        ):
            formula = f"{names[name]}" + (f", {at.removeprefix(', ')}" if at else "")
            self._take(name, formula, meaning, axes, array, names[name])

    def _take(
        self, name: str, formula: str, meaning: str, axes: tuple[str, ...], array: Array,
        source: str,
    ) -> None:  # fmt: skip
        """Add an input: what has no row for each key or feature is the step's own."""
        shared, book = name not in ("query", "hs_dec"), self._book(name)
        self.trace.append(
            Intermediate(
                name, "inputs", formula, meaning, axes, array, (source,), None, shared, book
            )
        )

    def _book(self, name: str) -> str:
        """What the book calls it, whose layers have states alone."""
        states = "value" not in self.operation.inputs and not self.operation.parameters
        return BOOK.get(name, "") if states else ""

    def _add(
        self,
        name: str,
        formula: str,
        meaning: str,
        axes: tuple[str, ...],
        made_of: tuple[str, ...],
        work: Work | None = None,
        direction: Direction = "forward",
        array: Array | None = None,
        noted: str | None = None,
        shared: bool = False,
    ) -> Array:
        """Add what the calculation took note of under a name, or an array that follows from it."""
        if array is None:
            found = self.calculation.noted[noted or name]
            array = (
                found.reshape(found.shape[found.ndim - len(axes) :]) if axes else found.squeeze()
            )
        book = self._book(name)
        self.trace.append(
            Intermediate(
                name, direction, formula, meaning, axes, array, made_of, work, shared, book
            )
        )
        return array

    def _back(
        self,
        name: str,
        formula: str,
        meaning: str,
        axes: tuple[str, ...],
        made_of: tuple[str, ...],
        work: Work | None = None,
        array: Array | None = None,
        noted: str | None = None,
        shared: bool = False,
    ) -> Array:
        return self._add(
            name, formula, meaning, axes, made_of, work, "backward", array, noted, shared
        )


def added_up(traces: Iterable[Sequence[Intermediate]]) -> list[Intermediate]:
    """Put the traces of all decoder steps together, a row for each.

    What the steps share is there once, and their shares of its gradient are added up.

    Parameters
    ----------
    traces : iterable of sequence of Intermediate
        Of each step, in their order; none is kept whole.

    Returns
    -------
    list of Intermediate
    """
    together: list[_Together] = []
    for steps in traces:
        together = together or [_Together(one) for one in steps]
        for whole, one in zip(together, steps, strict=True):
            whole.take(one)
    return [whole.made() for whole in together]


class _Together:
    """What the steps before make together of one intermediate."""

    def __init__(self, first: Intermediate) -> None:
        self.first, self.is_sum = first, first.shared and first.direction == "backward"
        self.arrays: list[Array] = []
        self.works: list[Work] = []
        self.norms: list[float] = []

    def take(self, one: Intermediate) -> None:
        """Add what one more step has."""
        if self.is_sum:
            self.norms.append(float(np.linalg.norm(one.array)))
        if self.is_sum and len(self.norms) * one.array.size > _SMALL:
            self.arrays = [np.asarray(sum(self.arrays, start=one.array))]
        elif self.is_sum or not self.first.shared:
            self.arrays.append(one.array)
        if one.work is not None and len(self.works) <= WORKED_STEPS:
            self.works.append(one.work)

    def made(self) -> Intermediate:
        """Give the whole."""
        first, arrays, works = self.first, self.arrays, self.works
        if first.shared and not self.is_sum:
            return first
        worked = 0 < len(works) <= WORKED_STEPS
        if not self.is_sum:
            return replace(
                first,
                formula=first.formula.partition(", step ")[0],
                axes=("T_dec", *first.axes),
                array=np.stack(arrays),
                work=(lambda i, write: works[i[0]](i[1:], write)) if worked else None,
            )

        def terms(index: tuple[int, ...], write: Write) -> str:
            return " + ".join(f"({one(index, write)})" for one in works)

        return replace(
            first,
            array=np.asarray(sum(arrays[1:], start=arrays[0])),
            work=terms if worked else None,
            shares=np.array(self.norms),
            terms=tuple(arrays) if len(arrays) == len(self.norms) else (),
        )


def products(one: Array, other: Array, write: Write) -> str:
    """Write the sum of products of two rows."""
    return " + ".join(f"{write(x)} · {write(y)}" for x, y in zip(one, other, strict=True))
