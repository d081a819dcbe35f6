"""A caller with types, as a user may have one: `mypy --strict` accepts it, and it runs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

import attncli

Floats = NDArray[np.float64]


def look(weights: Floats, path: str) -> str:
    """Pictures of weights, and frames of them."""
    with attncli.watch(path, tokens=["a", "b"], every=2, max_frames=8, live=False) as watch:
        watch.update(weights, step=1, loss=0.5)
    return str(attncli.show(path, (["a", "b"], None), frame=0, precision=2))


def attend(query: Floats, key: Floats, value: Floats, mask: NDArray[np.bool_]) -> list[Floats]:
    """Every option once, and what comes back."""
    out, cache = attncli.attention(
        query,
        key,
        value,
        mask=mask,
        causal="lower_right",
        scale=0.5,
        softcap=30.0,
        window=2,
        threads=1,
        engine="tiled",
        weights=True,
    )
    dquery, dkey, dvalue = attncli.attention_backward(np.ones_like(out), cache)
    weights = attncli.attention_weights(query, key, mask=mask, causal="lower_right", window=2)
    kept: Floats | None = cache.weights
    positions = np.arange(len(key))
    turned: Floats = attncli.rotary(
        key, positions, style="interleaved", base=500.0, width=2, inverse=True, cos=None, sin=None
    )
    return [turned, out, dquery, dkey, dvalue, weights, *([] if kept is None else [kept])]


def judge(layer: type[Any], q: Floats, k: Floats, v: Floats) -> list[bool]:
    """The checks, and what their reports have."""
    report = attncli.check(layer, layer="time-attention", scale=1.0)
    names: list[str] = [mistake.name for found in report.diagnoses for mistake in found.mistakes]
    gradients = attncli.gradcheck(layer, seed=1)
    worst: float = gradients.worst.relative_error
    out, _ = attncli.attention(q, k, v)
    compared = attncli.compare({"out": out}, {"out": out}, atol=0.0)
    convention = attncli.convention(q=q, k=k, v=v, out=out)
    attncli.assert_correct(layer)
    attncli.assert_gradients(layer)
    attncli.assert_close(out, out)
    whole: dict[str, Any] = report.to_dict()
    verdicts = [bool(one) for one in (report, gradients, compared, convention)]
    return [*verdicts, not names, worst < 1e-9, whole["passed"]]
