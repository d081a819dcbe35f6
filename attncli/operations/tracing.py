"""Every intermediate of one decoder step, forward and backward, as the mathematics names them.

Plain products on the vectors of one step, so that each line can be checked by hand; tested against
the reference engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from attncli.arrays import Array
from attncli.core.semantics import Semantics
from attncli.core.visibility import Visibility
from attncli.errors import ParameterError
from attncli.operations.operation import Operation, computable
from attncli.operations.whole import WholeAttention

Direction = Literal["inputs", "forward", "backward"]
Write = Callable[[float], str]
Work = Callable[[tuple[int, ...], Write], str]


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
    """

    name: str
    direction: Direction
    formula: str
    meaning: str
    axes: tuple[str, ...]
    array: Array
    made_of: tuple[str, ...]
    work: Work | None = None


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
    padding : ndarray of bool (N, T_dec), optional
        False where a decoder step takes no part.
    semantics : Semantics, optional

    Raises
    ------
    ParameterError
        If the operation is a part of attention alone.
    """

    def __init__(
        self,
        operation: Operation,
        inputs: dict[str, Array],
        place: Place,
        *,
        mask: Array | None = None,
        padding: Array | None = None,
        semantics: Semantics | None = None,
    ) -> None:
        if not isinstance(operation, WholeAttention):
            raise ParameterError(
                f"{operation.name} has no trace: it is a part of attention alone",
                hint="--layer time-attention, attention or scaled-dot-product",
            )
        self.operation: WholeAttention = operation
        self.place = place
        self.semantics = semantics or Semantics()
        operands = operation.to_core([computable(inputs[name]) for name in operation.inputs])
        query, key, value = operands
        self.lead, self.T_dec, self.T_enc = query.shape[:-2], query.shape[-2], key.shape[-2]
        self.scale = operation.scale(self.semantics, query.shape[-1])
        self.out_shape = (*query.shape[:-1], value.shape[-1])
        self.index = (place.item, place.head)[: len(self.lead)]
        shared = self.index
        if len(self.lead) == 2:  # of grouped queries several share a key head
            shared = (place.item, place.head * key.shape[-3] // query.shape[-3])
        self.query, self.key, self.value = query[self.index][place.step], key[shared], value[shared]
        self.seen, self.bias = self._hidden(mask, padding)
        if self.seen is not None:  # NaN and infinity where nobody looks must not leak
            self.key, self.value = (
                np.where(self.seen[:, None] | np.isfinite(x), x, x.dtype.type(0))
                for x in (self.key, self.value)
            )
        self.trace: list[Intermediate] = []

    def _hidden(
        self, mask: Array | None, padding: Array | None
    ) -> tuple[Array | None, Array | None]:
        """Which keys this step sees, None for all; and what is added to its scores."""
        step = self.place.step
        if mask is not None:
            mask = self.operation.core_mask(mask)
            mask = np.broadcast_to(mask, (*self.lead, self.T_dec, self.T_enc))[self.index]
        visibility = Visibility.of(self.semantics, self.T_dec, self.T_enc, mask)
        bias, seen = visibility.row(step)
        if bias is not None:
            bias = np.where(bias == -np.inf, 0, bias)
        if padding is not None and not padding[self.place.item, step]:
            seen = np.zeros(self.T_enc, bool)
        return seen, bias

    @property
    def _H_v(self) -> str:
        return "H_v" if "value" in self.operation.inputs else "H"

    def forward(self) -> list[Intermediate]:
        """Return the inputs of the step and every intermediate up to its output."""
        self.trace = []
        query, key, value = self.query, self.key, self.value
        self._inputs()
        scale, before = self.scale, "scores"

        def scored(index: tuple[int, ...], write: Write) -> str:
            return f"{write(scale)} · ({_products(key[index[0]], query, write)})"

        scores = self._add(
            "scores", "scale · query · keyᵀ", "how well each key fits the query",
            ("T_enc",), scale * (key @ query), ("query", "key"), scored,
        )  # fmt: skip
        cap = self.semantics.softcap
        if cap is not None:
            before, uncapped = "capped", scores
            scores = self._add(
                "capped", "softcap · tanh(scores / softcap)", f"bounded smoothly to ± {cap:g}",
                ("T_enc",), cap * np.tanh(scores / cap), ("scores",),
                lambda i, write: f"{write(cap)} · tanh({write(uncapped[i])} / {write(cap)})",
            )  # fmt: skip
        if self.bias is not None:
            bias, unbiased = self.bias, scores
            scores = self._add(
                "biased", f"{before} + mask", "the floating mask is added",
                ("T_enc",), scores + bias, (before, "mask"),
                lambda i, write: f"{write(unbiased[i])} + {write(bias[i])}",
            )  # fmt: skip
            before = "biased"
        if self.seen is not None:
            scores = self._add(
                "masked", f"{before} where the key is seen, else −∞",
                "what is hidden (mask, causal order, window) can get no weight",
                ("T_enc",), np.where(self.seen, scores, -np.inf), (before,),
            )  # fmt: skip
            before = "masked"
        largest = self._add(
            "largest", f"max({before})", "taken off for numerical stability alone",
            (), np.max(scores), (before,),
        )  # fmt: skip
        # A step that sees no key has no largest score; −∞ − (−∞) would make it NaN.
        base = np.where(largest == -np.inf, scores.dtype.type(0), largest)
        final = scores
        exps = self._add(
            "exps", f"exp({before} − largest)", "above 0, at most 1",
            ("T_enc",), np.exp(scores - base), (before, "largest"),
            lambda i, write: f"exp({write(final[i])} − {write(float(base))})",
        )  # fmt: skip
        total = self._add(
            "total", "Σ exps", "what makes the weights sum to 1", (), np.sum(exps), ("exps",),
            lambda i, write: " + ".join(map(write, exps)),
        )  # fmt: skip
        meaning = "how much this step looks at each key: the softmax of the scores"
        if total == 0:
            meaning = "this step sees no key: all its weights are 0"
        self.weights = weights = self._add(
            "weights", "exps / total", meaning,
            ("T_enc",), exps / (total if total != 0 else 1), ("exps", "total"),
            lambda i, write: f"{write(exps[i])} / {write(float(total))}",
        )  # fmt: skip
        self._add(
            "out", "weights · value", "the mean of the values, weighted",
            (self._H_v,), weights @ value, ("weights", "value"),
            lambda i, write: _products(weights, value[:, i[0]], write),
        )  # fmt: skip
        return list(self.trace)

    def backward(self, dout: Array) -> list[Intermediate]:
        """Return every intermediate from `dout`, the gradient of all outputs, to the inputs'.

        The gradients of keys and values are this step's share; those of a run sum over the steps.
        """
        if not self.trace:
            self.forward()
        past = len(self.trace)
        weights, query, key, value = self.weights, self.query, self.key, self.value
        incoming = computable(self.operation.core_dout(dout))[self.index][self.place.step]
        dout = self._back(
            "dout", "given", "the gradient of the loss with respect to out",
            (self._H_v,), incoming, (),
        )  # fmt: skip
        dvalue = self._back(
            "dvalue", "weightsᵀ · dout", "each value by the weight it had",
            ("T_enc", self._H_v), np.outer(weights, dout), ("weights", "dout"),
            lambda i, write: f"{write(weights[i[0]])} · {write(dout[i[1]])}",
        )  # fmt: skip
        dweights = self._back(
            "dweights", "dout · valueᵀ", "what more weight on a key would do",
            ("T_enc",), value @ dout, ("dout", "value"),
            lambda i, write: _products(dout, value[i[0]], write),
        )  # fmt: skip
        rowsum = self._back(
            "rowsum", "Σ weights ⊙ dweights", "what more weight on all keys alike would do",
            (), np.sum(weights * dweights), ("weights", "dweights"),
            lambda i, write: _products(weights, dweights, write),
        )  # fmt: skip
        cap, name = (
            self.semantics.softcap,
            "dscores" if self.semantics.softcap is None else "dcapped",
        )
        dscores = self._back(
            name, "weights ⊙ (dweights − rowsum)",
            "back through the softmax: weights sum to 1, so only differences count",
            ("T_enc",), weights * (dweights - rowsum), ("weights", "dweights", "rowsum"),
            lambda i, write: (
                f"{write(weights[i])} · ({write(dweights[i])} − {write(float(rowsum))})"
            ),
        )  # fmt: skip
        if self.bias is not None:
            self._back(
                "dmask", name, "the mask was added: its gradient is that of the scores",
                ("T_enc",), dscores, (name,),
            )  # fmt: skip
        if cap is not None:
            (capped,) = (one.array for one in self.trace if one.name == "capped")
            outer = dscores
            dscores = self._back(
                "dscores", "dcapped ⊙ (1 − (capped / softcap)²)", "back through the tanh",
                ("T_enc",), outer * (1 - (capped / cap) ** 2), ("dcapped", "capped"),
                lambda i, write: (
                    f"{write(outer[i])} · (1 − ({write(capped[i])} / {write(cap)})²)"
                ),
            )  # fmt: skip
        scale, inner = self.scale, dscores
        dquery = self._back(
            "dquery", "scale · dscores · key", "which way the query should have pointed",
            ("H",), scale * (inner @ key), ("dscores", "key"),
            lambda i, write: f"{write(scale)} · ({_products(inner, key[:, i[0]], write)})",
        )  # fmt: skip
        dkey = self._back(
            "dkey", "scale · dscoresᵀ · query", "this step's share of the keys' gradient",
            ("T_enc", "H"), scale * np.outer(inner, query), ("dscores", "query"),
            lambda i, write: f"{write(scale)} · {write(inner[i[0]])} · {write(query[i[1]])}",
        )  # fmt: skip
        if "value" not in self.operation.inputs:
            states, state = self.operation.inputs
            self._back(
                f"d{state}", "dquery", f"the query was {state} itself", ("H",), dquery, ("dquery",)
            )
            self._back(
                f"d{states}", "dkey + dvalue",
                f"{states} was used twice, as keys and values; this step's share",
                ("T_enc", "H"), dkey + dvalue, ("dkey", "dvalue"),
                lambda i, write: f"{write(dkey[i])} + {write(dvalue[i])}",
            )  # fmt: skip
        return self.trace[past:]

    def _inputs(self) -> None:
        place = self.place
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
            ("query", ("H",), self.query, where + one_step, "what this step looks for"),
            ("key", ("T_enc", "H"), self.key, where, "what each encoder step answers to"),
            ("value", ("T_enc", self._H_v), self.value, where, "what each has to give"),
        ):
            formula = f"{names[name]}" + (f", {at.removeprefix(', ')}" if at else "")
            self.trace.append(
                Intermediate(name, "inputs", formula, meaning, axes, array, (names[name],))
            )

    def _add(
        self,
        name: str,
        formula: str,
        meaning: str,
        axes: tuple[str, ...],
        array: Array,
        made_of: tuple[str, ...],
        work: Work | None = None,
        direction: Direction = "forward",
    ) -> Array:
        array = np.asarray(array)
        self.trace.append(
            Intermediate(name, direction, formula, meaning, axes, array, made_of, work)
        )
        return array

    def _back(
        self,
        name: str,
        formula: str,
        meaning: str,
        axes: tuple[str, ...],
        array: Array,
        made_of: tuple[str, ...],
        work: Work | None = None,
    ) -> Array:
        return self._add(name, formula, meaning, axes, array, made_of, work, "backward")


def _products(one: Array, other: Array, write: Write) -> str:
    return " + ".join(f"{write(x)} · {write(y)}" for x, y in zip(one, other, strict=True))
