"""A backward that keeps nothing is given again what its arguments are called."""

import pytest

HEAD = "import numpy as np\n"
ATTENTION = """
def softmax(scores):
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)

def forward(q, k, v):
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    top = scores.max(axis=-1, keepdims=True)
    lse = top + np.log(np.exp(scores - top).sum(axis=-1, keepdims=True))
    return np.exp(scores - lse) @ v, lse

def gradients(dout, q, k, v, w):
    dw = dout @ v.swapaxes(-1, -2)
    ds = w * (dw - (w * dw).sum(axis=-1, keepdims=True)) / np.sqrt(q.shape[-1])
    return ds @ k, ds.swapaxes(-1, -2) @ q, w.swapaxes(-1, -2) @ dout

def weights(q, k, lse):
    return np.exp(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]) - lse)
"""
SDPA = ("--as", "scaled-dot-product")

FORMS = {
    "the result": (
        "def softmax_forward(x):\n"
        "    e = np.exp(x - x.max(axis=-1, keepdims=True))\n"
        "    return e / e.sum(axis=-1, keepdims=True)\n"
        "def softmax_backward(dout, {0}):\n"
        "    return {0} * (dout - ({0} * dout).sum(axis=-1, keepdims=True))\n",
        ("y", "out", "probs"),
        ("--as", "softmax"),
    ),
    "the inputs": (
        "def weight_sum(hs, a):\n"
        "    return (hs * a[:, :, None]).sum(axis=1)\n"
        "def weight_sum_backward(dc, {0}):\n"
        "    return dc[:, None] * a[:, :, None], (dc[:, None] * hs).sum(axis=2)\n",
        ("hs, a", "a, hs"),
        (),
    ),
    "inputs and results": (
        ATTENTION + "def attend(q, k, v):\n"
        "    return forward(q, k, v)\n"
        "def attend_backward({0}):\n"
        "    assert np.isfinite(o).all() and o.shape == do.shape and lse.shape[-1] == 1\n"
        "    return gradients(do, q, k, v, weights(q, k, lse))\n",
        ("do, q, k, v, o, lse", "q, k, v, o, lse, do", "do, o, lse, q, k, v"),
        SDPA,
    ),
    "a cache": (
        ATTENTION + "class Attend:\n"
        "    @staticmethod\n"
        "    def forward(q, k, v):\n"
        "        out, lse = forward(q, k, v)\n"
        "        return out, {{'inputs': (q, k, v), 'w': weights(q, k, lse)}}\n"
        "    @staticmethod\n"
        "    def backward(dout, {0}):\n"
        "        return gradients(dout, *{0}['inputs'], {0}['w'])\n",
        ("cache", "saved"),
        SDPA,
    ),
    "results by name": (
        ATTENTION + "class Attend:\n"
        "    def forward(self, query, key, value):\n"
        "        out, lse = forward(query, key, value)\n"
        "        return {{'output': out, 'lse': lse, 'w': weights(query, key, lse)}}\n"
        "    def backward(self, dout, {0}):\n"
        "        return gradients(dout, query, key, value, w)\n",
        ("query, key, value, w", "w, value, query, key"),
        SDPA,
    ),
    "all that was given beside": (
        ATTENTION + "def attend(q, k, v):\n"
        "    out, lse = forward(q, k, v)\n"
        "    return out, q, k, v, weights(q, k, lse)\n"
        "def attend_backward(dout, {0}):\n"
        "    return gradients(dout, *{0})\n",
        ("kept",),
        SDPA,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("form", "arguments"), [(form, one) for form in FORMS for one in FORMS[form][1]]
)
def test_it_is_given_them_and_judged(attn, folder, form, arguments):
    source, _, options = FORMS[form]
    name = "Attend" if "Attend" in source else "attend" if "attend" in source else ""
    text = f"mine.py:{name}" if name else "mine.py"
    (folder / "mine.py").write_text(HEAD + source.format(arguments))
    right = attn("check", text, *options)
    assert (right.code, right.err) == (0, "")
    assert attn("gradcheck", text).code == 0
    wrong = source.format(arguments).replace("    return gradients(", "    return gradients(2 * ")
    wrong = wrong.replace("return dc[", "return 2 * dc[").replace("* (dout - (", "* (2 * dout - (")
    (folder / "mine.py").write_text(HEAD + wrong)
    assert attn("check", text, *options).code == 1


def test_a_cache_that_forward_does_not_give_is_missing(attn, folder):
    source = (
        "def weight_sum(hs, a): return hs[:, 0]\ndef weight_sum_backward(dc, cache): return dc\n"
    )
    (folder / "mine.py").write_text(HEAD + source)
    result = attn("check", "mine.py", columns=200)
    assert result.code == 1
    assert "backward takes cache, and forward gives ndarray: expected (out, cache)" in (result.out)


def test_an_argument_that_nothing_says_is_named(attn, folder):
    source = (
        "def weight_sum(hs, a): return hs[:, 0]\n"
        "def weight_sum_backward(dc, hs, a, other): return dc\n"
    )
    (folder / "mine.py").write_text(HEAD + source)
    result = attn("check", "mine.py", columns=200)
    assert result.code == 1
    assert "backward takes other, which is none of forward's arguments" in result.out
