"""torch's attention in half precision, by each of its backends on the CPU, and what it is not."""

import itertools

import pytest

from attncli.checking.comparing.budget import Budgets
from attncli.core.semantics import Semantics
from attncli.operations import OPERATIONS

torch = pytest.importorskip("torch")
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.nn.functional import scaled_dot_product_attention  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # what torch warns of is its business

HALVES = ["float16", "bfloat16"]
SIZES = {
    "small": (2, 3, 5, 7, 11),
    "square": (1, 2, 61, 61, 32),
    "one query": (2, 2, 1, 131, 16),
    "across tiles": (1, 2, 67, 257, 40),
    "long": (1, 1, 37, 523, 64),
}
GRID = [
    pytest.param(*case, id="-".join(map(str, case)))
    for case in itertools.product(HALVES, SIZES, [0.25, 4.0], [False, True])
    if not case[3] or SIZES[case[1]][2] == SIZES[case[1]][3]
]
NAMES = ("out", "dquery", "dkey", "dvalue")


def drawn(half, sizes, scale):
    """Query, key, value and dout; `scale` is what scores are of the usual ones."""
    N, heads, T_dec, T_enc, H = SIZES[sizes]
    generator = torch.Generator().manual_seed(T_enc)
    shapes = {"query": T_dec, "key": T_enc, "value": T_enc, "dout": T_dec}
    inputs = {name: torch.randn(N, heads, T, H, generator=generator) for name, T in shapes.items()}
    inputs["query"] *= scale
    return {name: x.to(getattr(torch, half)) for name, x in inputs.items()}


def budgets_of(inputs, causal):
    arrays = {name: x.double().numpy() for name, x in inputs.items()}
    semantics = Semantics(causal="upper_left" if causal else None)
    return Budgets(OPERATIONS["scaled-dot-product"], arrays, semantics)


def by_backend(backend):
    def attend(query, key, value, causal):
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(query, key, value, is_causal=causal)

    return attend


def by_formula(rounded):
    """The formula with float32 inside, its weights `rounded` or not."""

    def attend(query, key, value, causal):
        scores = query.float() @ key.float().mT * query.shape[-1] ** -0.5
        if causal:
            seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
            scores = scores.masked_fill(~seen, -torch.inf)
        weights = scores.softmax(-1)
        weights = weights.to(query.dtype).float() if rounded else weights
        return (weights @ value.float()).to(query.dtype)

    return attend


def plain(query, key, value, causal):
    scores = query @ key.mT * query.shape[-1] ** -0.5
    if causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        scores = scores.masked_fill(~seen, -torch.inf)
    return scores.softmax(-1) @ value


WAYS = {
    "math": by_backend(SDPBackend.MATH),
    "flash": by_backend(SDPBackend.FLASH_ATTENTION),
    "rounded weights": by_formula(rounded=True),
    "float32 inside": by_formula(rounded=False),
    "plain": plain,
}


@pytest.mark.parametrize(("half", "sizes", "scale", "causal"), GRID)
def test_every_way_agrees_forward_and_backward(half, sizes, scale, causal):
    inputs = drawn(half, sizes, scale)
    budgets = budgets_of(inputs, causal)
    for way, attend in WAYS.items():
        leaves = [inputs[name].clone().requires_grad_() for name in ("query", "key", "value")]
        out = attend(*leaves, causal)
        out.backward(inputs["dout"])
        results = (out.detach(), *(leaf.grad for leaf in leaves))
        for name, result in zip(NAMES, results, strict=True):
            array = result.double().numpy()
            found = budgets.judge(name, array, array, half)
            assert found.passed, (way, name, found)


def a_key_dropped(attend, inputs, causal):
    query, key, value = (inputs[name] for name in ("query", "key", "value"))
    scores = query.double() @ key.double().mT * query.shape[-1] ** -0.5
    at = int(scores.softmax(-1).amax(dim=(0, 1, 2)).argmax())  # one that some query looks at
    at = key.shape[2] // 2 if causal else at
    kept = [n for n in range(key.shape[2]) if n != at]
    if not causal:
        return attend(query, key[:, :, kept], value[:, :, kept], causal)
    out = attend(query, key, value, causal)
    # Queries before it do not see it; those after it see one fewer.
    out[:, :, at + 1 :] = attend(query[:, :, kept], key[:, :, kept], value[:, :, kept], causal)[
        :, :, at:
    ]
    return out


def rows_exchanged(attend, inputs, causal):
    out = attend(*(inputs[name] for name in ("query", "key", "value")), causal)
    out[-1, -1, [0, -1]] = out[-1, -1, [-1, 0]]
    return out


def a_head_set_to_zero(attend, inputs, causal):
    out = attend(*(inputs[name] for name in ("query", "key", "value")), causal)
    out[0, -1] = 0
    return out


FAULTS = [a_key_dropped, rows_exchanged, a_head_set_to_zero]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize(("half", "sizes", "scale", "causal"), GRID)
def test_what_is_wrong_differs(half, sizes, scale, causal, fault):
    if fault is rows_exchanged and sizes == "one query":
        fault = a_head_set_to_zero  # one row cannot be exchanged
    inputs = drawn(half, sizes, scale)
    budgets = budgets_of(inputs, causal)
    for way in ("flash", "rounded weights"):
        wrong = fault(WAYS[way], inputs, causal).double().numpy()
        assert not budgets.judge("out", wrong, wrong, half).passed, way


PARTS = {
    "everything": (slice(None),),
    "an item": (slice(1, None),),
    "a head": (slice(None), slice(1, None)),
    "a head of an item": (slice(1, None), slice(1, None)),
    "a block of rows of a head of an item": (slice(1, None), slice(1, None), slice(16, 48)),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("factor", [0.98, 1.02])
@pytest.mark.parametrize("half", HALVES)
def test_what_is_a_little_too_large_throughout_differs(half, factor, part):
    generator = torch.Generator().manual_seed(3)
    inputs = {
        name: torch.randn(2, 2, T, 40, generator=generator).to(getattr(torch, half))
        for name, T in {"query": 67, "key": 257, "value": 257, "dout": 67}.items()
    }
    budgets = budgets_of(inputs, causal=False)
    out = WAYS["flash"](*(inputs[name] for name in ("query", "key", "value")), False)
    assert budgets.judge("out", out.double().numpy(), out.double().numpy(), half).passed
    out[PARTS[part]] = (out[PARTS[part]].float() * factor).to(out.dtype)
    wrong = out.double().numpy()
    found = budgets.judge("out", wrong, wrong, half)
    assert not found.passed
    if half == "bfloat16":  # no element tells
        assert (found.outside, found.drift.kind) == (0, "factor")
        assert found.drift.value == pytest.approx(factor, abs=0.006)
        words = {"item": "item 1 of 2", "head": "head 1 of 2", "block": "decoder step"}
        for word, place in words.items():
            assert (place in str(found.drift.places)) == (word in part)


@pytest.mark.parametrize("half", HALVES)
def test_and_so_does_a_scale_that_is(half):
    inputs = drawn(half, "across tiles", 2.0)
    budgets = budgets_of(inputs, causal=False)
    query, key, value = (inputs[name] for name in ("query", "key", "value"))
    out = scaled_dot_product_attention(query, key, value, scale=1.02 * 40**-0.5).double().numpy()
    found = budgets.judge("out", out, out, half)
    assert not found.passed
    if half == "bfloat16":
        assert (found.outside, found.drift.kind) == (0, "scale")
        assert found.drift.value == pytest.approx(1.02, abs=0.005)
