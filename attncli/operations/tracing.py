"""Every intermediate of one decoder step, forward and backward, as the mathematics names them.

The numbers are those that the step-by-step calculation takes note of; each is given here what a
reader needs beside it: formula, meaning, and the work of a single element.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from attncli.arrays import Array
from attncli.core.semantics import Semantics
from attncli.core.visibility import Visibility
from attncli.errors import ParameterError
from attncli.operations.operation import Operation, computable
from attncli.operations.steps import PRODUCTS, QKV, Calculation, Steps

Direction = Literal["inputs", "forward", "backward"]
Write = Callable[[float], str]
_QUIETLY = np.errstate(over="ignore", invalid="ignore")  # a trace shows what comes of it
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

    @_QUIETLY
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
        if not (operation.is_whole or operation.parameters):
            raise ParameterError(
                f"{operation.name} has no trace: {operation.not_whole}",
                hint="--layer time-attention, attention or scaled-dot-product",
            )
        self.operation, self.place = operation, place
        self.semantics = semantics = semantics or Semantics()
        operation.require_options(semantics)
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
        visibility = Visibility.of(semantics, T_dec, T_enc, whole)
        bias, seen = visibility.row(place.step, self.index)
        if padding is not None and not padding[place.item, place.step]:
            seen = np.zeros(T_enc, bool)
        self.hides = seen is not None or bool(visibility.by_step)
        row = np.broadcast_to(True if seen is None else seen, T_enc)
        self.row = None if seen is None else row
        self.query, self.key, self.value = self._here(query, key, value)
        # What is added; −∞ hides, and is not seen in `row`.
        self.bias = None
        if bias is not None:
            self.bias = np.broadcast_to(np.where(bias == -np.inf, bias.dtype.type(0), bias), T_enc)
        self.calculation = Calculation(
            QKV,
            (self.query[None, None], self.key[None], self.value[None]),
            replace(semantics.of_scores(), scale=self.scale),
            self.bias,
            {**self._steps(), "band": lambda c: row},
        )
        self.trace: list[Intermediate] = []

    @property
    def _H_v(self) -> str:
        return "H_v" if "value" in self.operation.inputs else "H"

    def _here(self, query: Array, key: Array, value: Array) -> tuple[Array, Array, Array]:
        """What of the core's query, key and value has a part in this step."""
        keys, values = (self._seen(x[self.shared]) for x in (key, value))
        return query[self.index][self.place.step], keys, values

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

    def _summed(self, weights: Array) -> None:
        """Add what the weights lead to."""
        value, (*_, of_value, out) = self.value, self.names
        self._add(
            out, f"weights · {of_value}", "the mean of the values, weighted",
            (self._H_v,), ("weights", of_value),
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
                f"d{state}", "dquery", f"the query was {state} itself", ("H",), ("dquery",),
                array=dquery,
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
            "this step's share of the keys' gradient", ("T_enc", width), ("dscores", of_query),
            lambda i, write: f"{write(scale)} · {write(dscores[i[0]])} · {write(query[i[1]])}",
            noted="dkey",
        )  # fmt: skip
        return dquery, dkey

    def _states_back(self, states: str, dkey: Array, dvalue: Array) -> None:
        self._back(
            f"d{states}", "dkey + dvalue",
            f"{states} was used twice, as keys and values; this step's share",
            ("T_enc", "H"), ("dkey", "dvalue"),
            lambda i, write: f"{write(dkey[i])} + {write(dvalue[i])}",
            array=dkey + dvalue,
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
                "capped", "softcap · tanh(scores / softcap)", f"bounded smoothly to ± {cap:g}",
                ("T_enc",), ("scores",),
                lambda i, write: f"{write(cap)} · tanh({write(uncapped[i])} / {write(cap)})",
            )  # fmt: skip
            before = "capped"
        if self.bias is not None:
            bias, unbiased = self.bias, scores
            scores = self._add(
                "biased", f"{before} + mask", "the floating mask is added",
                ("T_enc",), (before, "mask"),
                lambda i, write: f"{write(unbiased[i])} + {write(bias[i])}",
            )  # fmt: skip
            before = "biased"
        if self.hides:
            scores = self._add(
                "masked", f"{before} where the key is seen, else −∞",
                "what is hidden (mask, causal order, window) can get no weight",
                ("T_enc",), (before,),
            )  # fmt: skip
            before = "masked"
        largest = self._add(
            "largest", f"max({before})", "taken off for numerical stability alone", (), (before,),
        )  # fmt: skip
        base, final = (0.0 if largest == -np.inf else float(largest)), scores
        exps = self._add(
            "exps", f"exp({before} − largest)", "above 0, at most 1",
            ("T_enc",), (before, "largest"),
            lambda i, write: f"exp({write(final[i])} − {write(base)})",
        )  # fmt: skip
        total = self._add(
            "total", "Σ exps", "what makes the weights sum to 1", (), ("exps",),
            lambda i, write: " + ".join(map(write, exps)),
        )  # fmt: skip
        meaning = "how much this step looks at each key: the softmax of the scores"
        if total == 0:
            meaning = "this step sees no key: all its weights are 0"
        weights = self._add(
            "weights", "exps / total", meaning, ("T_enc",), ("exps", "total"),
            lambda i, write: f"{write(exps[i])} / {write(float(total))}",
        )  # fmt: skip
        self._summed(weights)
        return list(self.trace)

    @_QUIETLY
    def backward(self, dout: Array) -> list[Intermediate]:
        """Return every intermediate from `dout`, the gradient of all outputs, to the inputs'.

        The gradients of keys and values are this step's share; those of a run sum over the steps.
        """
        if not self.trace:
            self.forward()
        past = len(self.trace)
        value, (*_, of_value, out) = self.value, self.names
        (weights,) = (one.array for one in self.trace if one.name == "weights")
        dout = self._received(computable(dout))
        self.calculation.backward(dout[None, None])
        dvalue = self._back(
            self.gradients[2], f"weightsᵀ · d{out}", "each value by the weight it had",
            ("T_enc", self._H_v), ("weights", f"d{out}"),
            lambda i, write: f"{write(weights[i[0]])} · {write(dout[i[1]])}",
            noted="dvalue",
        )  # fmt: skip
        dweights = self._back(
            "dweights", f"d{out} · {of_value}ᵀ", "what more weight on a key would do",
            ("T_enc",), (f"d{out}", of_value),
            lambda i, write: products(dout, value[i[0]], write),
        )  # fmt: skip
        rowsum = self._back(
            "rowsum", "Σ weights ⊙ dweights", "what more weight on all keys alike would do",
            (), ("weights", "dweights"),
            lambda i, write: products(weights, dweights, write),
        )  # fmt: skip
        cap = self.softcap
        name = "dscores" if cap is None else "dcapped"
        outer = dscores = self._back(
            name, "weights ⊙ (dweights − rowsum)",
            "back through the softmax: weights sum to 1, so only differences count",
            ("T_enc",), ("weights", "dweights", "rowsum"),
            lambda i, write: (
                f"{write(weights[i])} · ({write(dweights[i])} − {write(float(rowsum))})"
            ),
        )  # fmt: skip
        if self.bias is not None:
            self._back(
                "dmask", name, "the mask was added: its gradient is that of the scores",
                ("T_enc",), (name,), array=outer,
            )  # fmt: skip
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
            self.trace.append(
                Intermediate(name, "inputs", formula, meaning, axes, array, (names[name],))
            )

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
    ) -> Array:
        """Add what the calculation took note of under a name, or an array that follows from it."""
        if array is None:
            found = self.calculation.noted[noted or name]
            array = (
                found.reshape(found.shape[found.ndim - len(axes) :]) if axes else found.squeeze()
            )
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
        made_of: tuple[str, ...],
        work: Work | None = None,
        array: Array | None = None,
        noted: str | None = None,
    ) -> Array:
        return self._add(name, formula, meaning, axes, made_of, work, "backward", array, noted)


def products(one: Array, other: Array, write: Write) -> str:
    """Write the sum of products of two rows."""
    return " + ".join(f"{write(x)} · {write(y)}" for x, y in zip(one, other, strict=True))
