"""The traces of what does something of its own before the scores: layers with weights, rotation.

In between a step is what it is elsewhere, so each of these is a `StepTrace` that says how its
scores come about, and what becomes of their gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from attncli.arrays import Array
from attncli.core.semantics import Semantics
from attncli.core.visibility import positions
from attncli.operations.operation import Operation, turned
from attncli.operations.steps import PRODUCTS, Steps
from attncli.operations.tracing import StepTrace, Write, products

_Named = tuple[str, Array]  # an array, and what a formula calls it
_OF_PARAMETER = "the gradient of a parameter"
_STATES = "what each encoder step answers to, and has to give"
_STATE = "what the decoder says"


class _LayerTrace(StepTrace):
    """What they have in common: parameters among the inputs, and products with them."""

    def _own(self, name: str) -> Array:
        """What an input holds for this step."""
        own: Array = self.inputs[name][self.place.item, self.place.step]
        return own

    def _states(self, name: str) -> Array:
        """What an input holds for every key: nothing where NaN or infinity is hidden."""
        return self._seen(self.inputs[name][self.place.item])

    def _parameter(self, name: str) -> Array:
        """What of a parameter has a part in this step."""
        return self.inputs[name]

    def _input(
        self, name: str, array: Array, axes: tuple[str, ...], meaning: str, source: str = ""
    ) -> None:
        """Add an input; `source` is what it is called by whoever gives it."""
        source = source or name
        where = f", item {self.place.item}"
        if array.ndim == 1:
            where += f", step {self.place.step}"
        self._take(name, source + where, meaning, axes, array, source)

    def _add_parameters(self, where: str = "", also: Mapping[str, str] | None = None) -> None:
        for name in self.operation.parameters:
            axes = tuple((also or {}).get(axis, axis) for axis in self.operation.input_axes(name))
            self._take(name, name + where, "a parameter", axes, self._parameter(name), name)

    def _times(
        self,
        name: str,
        left: _Named,
        right: _Named,
        meaning: str,
        axes: tuple[str, ...],
        *,
        back: bool = False,
        shared: bool = False,
    ) -> Array:
        """Add left · right."""
        (of_left, one), (of_right, other) = left, right

        def work(index: tuple[int, ...], write: Write) -> str:
            row = one[index[0]] if one.ndim > 1 else one
            return products(row, other[:, index[-1]] if other.ndim > 1 else other, write)

        made_of = (of_left.removesuffix("ᵀ"), of_right.removesuffix("ᵀ"))
        return self._add(
            name, f"{of_left} · {of_right}", meaning, axes, made_of, work,
            "backward" if back else "forward", one @ other, shared=shared,
        )  # fmt: skip

    def _outer(self, name: str, left: _Named, right: _Named, axes: tuple[str, ...]) -> Array:
        """Add leftᵀ · right of two rows: the gradient of a matrix between them."""
        (of_left, one), (of_right, other) = left, right
        return self._back(
            name, f"{of_left}ᵀ · {of_right}", _OF_PARAMETER, axes, (of_left, of_right),
            lambda i, write: f"{write(one[i[0]])} · {write(other[i[1]])}",
            array=one[:, None] * other, shared=True,
        )  # fmt: skip


class LuongTrace(_LayerTrace):
    """W makes the query of the decoder's state; then as in `TimeAttention`."""

    names: ClassVar = ("query", "hs_enc", "hs_enc", "out")

    def _operands(self) -> tuple[Array, Array, Array]:
        hs_enc = self.inputs["hs_enc"]
        return self.inputs["hs_dec"] @ self.inputs["W"], hs_enc, hs_enc

    def _inputs(self) -> None:
        self._input("hs_enc", self.key, ("T_enc", "H"), _STATES)
        self._input("hs_dec", self._own("hs_dec"), ("H_dec",), _STATE)
        self._add_parameters()

    def _scored(self) -> Array:
        state, W = ("hs_dec", self._own("hs_dec")), ("W", self.inputs["W"])
        self._times("query", state, W, "what this step looks for", ("H",))
        return super()._scored()

    def _scored_back(self, dscores: Array, dvalue: Array) -> None:
        dquery, dkey = self._operands_back(dscores)
        self._outer("dW", ("hs_dec", self._own("hs_dec")), ("dquery", dquery), ("H_dec", "H"))
        transposed = ("Wᵀ", self.inputs["W"].T)
        self._times(
            "dhs_dec", ("dquery", dquery), transposed, "back through W", ("H_dec",), back=True
        )
        self._states_back("hs_enc", dkey, dvalue)


class BahdanauTrace(_LayerTrace):
    """Both states meet in a hidden layer, and v makes scores of it."""

    names: ClassVar = ("dec", "enc", "hs_enc", "out")

    def _operands(self) -> tuple[Array, Array, Array]:
        hs_enc, hs_dec, W_enc, W_dec, _ = (self.inputs[name] for name in self.operation.inputs)
        return hs_dec @ W_dec, hs_enc @ W_enc, hs_enc

    def _steps(self) -> Steps:
        v = self.inputs["v"]
        return {
            **PRODUCTS,
            "query_key": lambda c: np.tanh(c.key[..., None, :, :] + c.query[..., None, :]) @ v,
            "query_key_back": lambda c, dscores: (None, None),  # `_scored_back` knows more
        }

    def _inputs(self) -> None:
        self._input("hs_enc", self._states("hs_enc"), ("T_enc", "H"), _STATES)
        self._input("hs_dec", self._own("hs_dec"), ("H_dec",), _STATE)
        self._add_parameters()

    def _scored(self) -> Array:
        states, state = ("hs_enc", self._states("hs_enc")), ("hs_dec", self._own("hs_dec"))
        W_enc, W_dec, v = ((name, self.inputs[name]) for name in self.operation.parameters)
        enc = self._times("enc", states, W_enc, "the encoder's part", ("T_enc", "A"), shared=True)
        dec = self._times("dec", state, W_dec, "the decoder's part", ("A",))
        self.met = self._add(
            "met", "tanh(enc + dec)", "where both meet, between −1 and 1",
            ("T_enc", "A"), ("enc", "dec"),
            lambda i, write: f"tanh({write(enc[i])} + {write(dec[i[1]])})",
            array=np.tanh(enc + dec),
        )  # fmt: skip
        meaning = "how well each key fits the query"
        return self._times("scores", ("met", self.met), v, meaning, ("T_enc",))

    def _scored_back(self, dscores: Array, dvalue: Array) -> None:
        states, state, met = self._states("hs_enc"), self._own("hs_dec"), self.met
        W_enc, W_dec, v = (self.inputs[name] for name in self.operation.parameters)
        meaning = _OF_PARAMETER
        self._times(
            "dv", ("dscores", dscores), ("met", met), meaning, ("A",), back=True, shared=True
        )
        dsum = self._back(
            "dsum", "dscoresᵀ · v ⊙ (1 − met²)", "back through the tanh: of enc + dec",
            ("T_enc", "A"), ("dscores", "v", "met"),
            lambda i, write: f"{write(dscores[i[0]])} · {write(v[i[1]])} · (1 − {write(met[i])}²)",
            array=dscores[:, None] * v * (1 - met**2),
        )  # fmt: skip
        ddec = self._back(
            "ddec", "Σ dsum", "every key met the same dec", ("A",), ("dsum",),
            lambda i, write: " + ".join(map(write, dsum[:, i[0]])), array=dsum.sum(axis=0),
        )  # fmt: skip
        transposed = ("hs_encᵀ", states.T)
        self._times(
            "dW_enc", transposed, ("dsum", dsum), meaning, ("H", "A"), back=True, shared=True
        )
        self._outer("dW_dec", ("hs_dec", state), ("ddec", ddec), ("H_dec", "A"))
        meaning = "back through W_dec"
        self._times("dhs_dec", ("ddec", ddec), ("W_decᵀ", W_dec.T), meaning, ("H_dec",), back=True)
        self._back(
            "dhs_enc", "dvalue + dsum · W_encᵀ",
            "hs_enc was used twice, as values and in the scores",
            ("T_enc", "H"), ("dvalue", "dsum", "W_enc"),
            lambda i, write: f"{write(dvalue[i])} + {products(dsum[i[0]], W_enc[i[1]], write)}",
            array=dvalue + dsum @ W_enc.T, shared=True,
        )  # fmt: skip


class MultiHeadTrace(_LayerTrace):
    """One head: its part of the projections, attention, and its share of the output."""

    names: ClassVar = ("q", "k", "v", "found")
    gradients: ClassVar = ("dq", "dk", "dv")
    width: ClassVar = "D/heads"

    @property
    def _H_v(self) -> str:
        return self.width

    @property
    def _sources(self) -> tuple[str, str, str]:
        """Which inputs are query, key and value."""
        key = "key" if "key" in self.inputs else "query"
        return "query", key, "value" if "value" in self.inputs else key

    def _operands(self) -> tuple[Array, Array, Array]:
        q, k, v = (
            self.inputs[name] @ self.inputs[W]
            for name, W in zip(self._sources, self.operation.parameters, strict=False)
        )
        heads = self.operation.heads or 1
        q, k, v = (x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2) for x in (q, k, v))
        return q, k, v

    def _scale(self, semantics: Semantics, H: int) -> float:
        return float(H**-0.5)

    def _parameter(self, name: str) -> Array:
        whole, lead = self.inputs[name], name == "Wo"
        size = whole.shape[0 if lead else 1] // (self.operation.heads or 1)
        own = slice(self.place.head * size, (self.place.head + 1) * size)
        part: Array = whole[own] if lead else whole[:, own]
        return part

    @property
    def _given(self) -> tuple[Array, Array, Array]:
        """Query, key and value before they are projected."""
        query, key, value = self._sources
        return self._own(query), self._states(key), self._states(value)

    def _inputs(self) -> None:
        for name, array, source, meaning in zip(
            ("query", "key", "value"), self._given, self._sources,
            ("what this step says", "what each key says", "what each value says"), strict=True,
        ):  # fmt: skip
            axes = ("H",) if name == "query" else ("T_enc", "H")
            self._input(name, array, axes, meaning, source)
        self._add_parameters(f", head {self.place.head}", {"D": self.width})

    def _scored(self) -> Array:
        query, key, value = self._given
        for name, given, W, meaning, axes in (
            ("q", ("query", query), "Wq", "what this head looks for", ()),
            ("k", ("key", key), "Wk", "what each key answers to in this head", ("T_enc",)),
            ("v", ("value", value), "Wv", "what each value has to give to this head", ("T_enc",)),
        ):
            parameter = (W, self._parameter(W))
            self._times(name, given, parameter, meaning, (*axes, self.width), shared=bool(axes))
        return super()._scored()

    def _summed(self, weights: Array) -> None:
        super()._summed(weights)
        self.found = self.trace[-1].array
        meaning = "this head's share of the output: those of all heads are added"
        self._times("out", ("found", self.found), ("Wo", self._parameter("Wo")), meaning, ("H",))

    def _received(self, dout: Array) -> Array:
        dout = self._back(
            "dout", "given", "the gradient of the loss with respect to out", ("H",), (),
            array=dout[self.place.item, self.place.step],
        )  # fmt: skip
        self._outer("dWo", ("found", self.found), ("dout", dout), (self.width, "H"))
        transposed = ("Woᵀ", self._parameter("Wo").T)
        return self._times(
            "dfound", ("dout", dout), transposed, "back through Wo", (self.width,), back=True
        )

    def _scored_back(self, dscores: Array, dvalue: Array) -> None:
        query, key, value = self._given
        dq, dk = self._operands_back(dscores)
        axes = ("H", self.width)
        self._outer("dWq", ("query", query), ("dq", dq), axes)
        for name, transposed, gradient in (
            ("dWk", ("keyᵀ", key.T), ("dk", dk)),
            ("dWv", ("valueᵀ", value.T), ("dv", dvalue)),
        ):
            self._times(name, transposed, gradient, _OF_PARAMETER, axes, back=True, shared=True)
        share = "this head's share"
        for name, gradient, W, lead in (
            ("dquery", ("dq", dq), "Wq", ()),
            ("dkey", ("dk", dk), "Wk", ("T_enc",)),
            ("dvalue", ("dv", dvalue), "Wv", ("T_enc",)),
        ):
            transposed = (f"{W}ᵀ", self._parameter(W).T)
            axes = (*lead, "H")
            self._times(name, gradient, transposed, share, axes, back=True, shared=bool(lead))


class RotatedTrace(StepTrace):
    """Query and key are turned by their positions; then as in any."""

    names: ClassVar = ("rotated_query", "rotated_key", "value", "out")
    gradients: ClassVar = ("drotated_query", "drotated_key", "dvalue")

    def _operands(self) -> tuple[Array, Array, Array]:
        query, key, value = super()._operands()
        return *self.operation.rotated(query, key, self.semantics), value

    @property
    def _given(self) -> tuple[Array, Array, Array]:
        return self._here(*super()._operands())

    def _scored(self) -> Array:
        query, key, _ = self._given
        self._turned("rotated_query", ("query", query), self.query)
        self._turned("rotated_key", ("key", key), self.key)
        return super()._scored()

    def _scored_back(self, dscores: Array, dvalue: Array) -> None:
        dquery, dkey = self._operands_back(dscores)
        self._turned("dquery", ("drotated_query", dquery))
        self._turned("dkey", ("drotated_key", dkey))

    def _turned(self, name: str, source: _Named, array: Array | None = None) -> None:
        """Add `source` turned by its positions: forward to `array`, or back from its gradient."""
        rotation, (of_source, x) = self.operation.rotation, source
        assert rotation is not None
        own, at = positions(self.semantics, *self.T, self.placed)
        t = self.place.step
        own = own if own.ndim == 1 else own[self.place.item]
        places = at if x.ndim > 1 else own[t : t + 1]
        back = array is None
        if array is None:
            array = turned(rotation, np.atleast_2d(x), places, inverse=True).reshape(x.shape)
        width = rotation.width_of(of_source, x.shape)

        def work(index: tuple[int, ...], write: Write) -> str:
            *row, i = index
            if i >= width:
                return write(x[index])
            pair, other = rotation.pair(i, width)
            angle = float(places[row[0] if row else 0] * rotation.base ** (-2 * pair / width))
            sign = "−" if (other > i) != back else "+"
            turn = write(angle)
            return f"{write(x[index])} · cos({turn}) {sign} {write(x[(*row, other)])} · sin({turn})"

        self._add(
            name,
            f"{of_source} turned {'back ' * back}by position · base^(−2i/width)",
            "where it stands decides by how much each pair of features is turned",
            ("T_enc", "H") if x.ndim > 1 else ("H",), (of_source,), work,
            "backward" if back else "forward", array, shared=x.ndim > 1,
        )  # fmt: skip


def trace_of(operation: Operation) -> type[StepTrace]:
    """Return how an operation is traced."""
    return TRACES.get(operation.name, StepTrace if operation.rotation is None else RotatedTrace)


TRACES: Mapping[str, type[StepTrace]] = {
    "luong": LuongTrace,
    "bahdanau": BahdanauTrace,
    "multi-head": MultiHeadTrace,
}
"""How each layer with weights of its own is traced."""
