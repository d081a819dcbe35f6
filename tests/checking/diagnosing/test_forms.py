"""What a layer does with weights of its own is found, in whatever order and orientation."""

import numpy as np
import pytest

from attncli.checking.derivatives.trial import Trial
from attncli.checking.diagnosing.weighted import explain_weighted
from attncli.checking.targets.loading import targets_of
from attncli.core.semantics import Semantics

SIZES = (
    {"N": 2, "T_dec": 3, "T_enc": 5, "H": 4},
    {"N": 3, "T_dec": 2, "T_enc": 7, "H": 6},
    {"N": 1, "T_dec": 1, "T_enc": 1, "H": 4},
)


def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q, k, v, scale=1.0, causal=False):
    s = scale * q @ k.swapaxes(-1, -2)
    return softmax(np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf) if causal else s) @ v


def heads(q, k, v, n, causal=False):
    d = q.shape[-1] // n
    q, k, v = (x.reshape(*x.shape[:2], -1, d).swapaxes(1, 2) for x in (q, k, v))
    k, v = (np.repeat(x, n // x.shape[1], axis=1) for x in (k, v))
    out = attention(q, k, v, d**-0.5, causal).swapaxes(1, 2)
    return out.reshape(*out.shape[:2], -1)


def layer(taken, shapes, forward, **held):
    """A class whose forward is `forward(parameters, inputs)`; its backward gives zeros."""

    class Weighted:
        def __init__(self, H):
            rng = np.random.RandomState(3)
            self.params = [rng.standard_normal([int(x * H) or 1 if x < 9 else x for x in shape]) / 2
                           for shape in shapes]  # fmt: skip
            self.grads = [np.zeros_like(one) for one in self.params]
            vars(self).update(held)

        def backward(self, dout):
            return tuple(map(np.zeros_like, self.inputs))

    def run(self, *inputs):
        self.inputs = inputs
        return forward(self.params, *inputs)

    names = {"run": run}
    exec(f"def forward(self, {taken}): return run(self, {taken})", names)
    Weighted.forward = names["forward"]
    return Weighted


def form_of(made, claims=Semantics()):  # noqa: B008
    (target,) = targets_of(made)
    with np.errstate(all="ignore"):
        trials = [Trial(target, sizes, {}, 0, "float64") for sizes in SIZES]
        form, _ = explain_weighted(trials, claims)
    return form


Q, V, TWO = (1, 1), (1,), {"heads": 2}
SEEN = "hs_enc, hs_dec"

FORMS = {
    "scores = (hs · W) · h": layer(SEEN, [Q], lambda p, m, h: attention(h @ p[0].T, m, m)),
    "scores = (h · W + b) · hs": layer(
        "hidden, encoder_outputs", [Q, V],
        lambda p, h, m: attention((h @ p[0] + p[1])[:, None], m, m)[:, 0]),
    "out = tanh([c, h] · Wc)": layer(
        SEEN, [Q, (2, 1)],
        lambda p, m, h: np.tanh(np.concatenate((attention(h, m @ p[0], m), h), -1) @ p[1])),
    "out = ([h, c] · Wc)": layer(
        SEEN, [(1, 2), Q],
        lambda p, m, h: np.concatenate((h, attention(h, m @ p[1], m)), -1) @ p[0].T),
    "tanh(hs · W + h · U + b), its weights transposed": layer(
        SEEN, [(9, 1), (9,), (9, 1), (0, 9)],
        lambda p, m, h: softmax((np.tanh(
            (h @ p[0].T)[:, :, None] + (m @ p[2].T)[:, None] + p[1]) @ p[3].T)[..., 0]) @ m),
    "scores = v · tanh(hs · W + h · U + b)": layer(
        "h, hs", [(2, 9), (9,), (9,)],
        lambda p, h, m: np.einsum("nt,nth->nh", softmax(np.tanh(np.concatenate(
            (np.broadcast_to(h[:, None], m.shape), m), -1) @ p[0] + p[2]) @ p[1]), m)),
    "2 heads, Wqkv in one": layer(
        "x", [(1, 3), Q], lambda p, x: heads(*np.split(x @ p[0], 3, -1), 2) @ p[1], **TWO),
    "2 heads, Wqkv in one by heads, weights (out, in), biases": layer(
        "x", [(3, 1), (3,), Q, V],
        lambda p, x: heads(*np.moveaxis((x @ p[0].T + p[1]).reshape(*x.shape[:2], 2, 3, -1), 3, 0)
                           .reshape(3, *x.shape), 2) @ p[2].T + p[3], **TWO),
    "2 heads, Wkv in one": layer(
        "query, memory", [Q, (1, 2), Q],
        lambda p, q, m: heads(q @ p[0], *np.split(m @ p[1], 2, -1), 2) @ p[2], **TWO),
    "2 heads, parameters in the order Wk, Wv, Wq, Wo": layer(
        "query, key, value", [Q] * 4,
        lambda p, q, k, v: heads(q @ p[2], k @ p[0], v @ p[1], 2) @ p[3], **TWO),
    "one head, parameters in the order Wv, Wk, Wq, no projection of out": layer(
        "x", [Q] * 3, lambda p, x: heads(x @ p[2], x @ p[1], x @ p[0], 1), heads=1),
    "2 heads, biases": layer(
        "x", [Q] * 4 + [V] * 4,
        lambda p, x: heads(*(x @ p[i] + p[4 + i] for i in range(3)), 2) @ p[3] + p[7], **TWO),
    "2 heads, weights (out, in), biases": layer(
        "x", [Q] * 4 + [V], lambda p, x: heads(*(x @ p[i].T for i in range(3)), 2) @ p[3].T + p[4],
        n_head=2),
    "2 heads, causal, added to its input": layer(
        "x", [Q] * 4, lambda p, x: x + heads(*(x @ p[i] for i in range(3)), 2, True) @ p[3], **TWO),
    "2 heads": layer(
        "x", [Q, (1, 0.5), (1, 0.5), Q],
        lambda p, x: heads(*(x @ p[i] for i in range(3)), 2) @ p[3], **TWO),
}  # fmt: skip


@pytest.mark.parametrize("words", FORMS)
def test_the_form_of_a_right_layer_is_found_and_said(words):
    form = form_of(FORMS[words])
    assert form is not None
    assert form.words.endswith(words)
    assert len(form.names) == len(FORMS[words](4).params)


@pytest.mark.parametrize(
    ("taken", "shapes", "forward"),
    [
        ("x", [Q] * 3, lambda p, x: 1.01 * heads(*(x @ one for one in p), 1)),
        ("x", [Q] * 3, lambda p, x: heads(x @ p[0], x @ p[1], x @ p[1], 1)),
        ("x", [(1, 3), Q], lambda p, x: heads(*np.split(x @ p[0], 3, -1), 2) @ p[1] - x),
        (SEEN, [Q, V], lambda p, m, h: attention(h @ p[0] + 2 * p[1], m, m)),
        (SEEN, [Q], lambda p, m, h: attention(h @ p[0], m, m) + h),
    ],
)
def test_what_has_no_form_is_given_none(taken, shapes, forward):
    assert form_of(layer(taken, shapes, forward, heads=2 if len(shapes) == 2 else 1)) is None


def test_what_is_said_to_be_causal_has_no_form_that_is_not():
    plain = layer("x", [Q] * 3, lambda p, x: heads(*(x @ one for one in p), 1))
    assert form_of(plain, Semantics(causal="upper_left")) is None
    assert form_of(plain) is not None
