"""Kernels that compute in float16 throughout: right ones pass, wrong ones are named."""

import numpy as np
import pytest

from attncli.checking.diagnosing.examination import check


class Plain:
    """Scores, weights and sums are float16; what differs is overridden."""

    def scores(self, query, key):
        return (query @ key.swapaxes(-1, -2)) * query.dtype.type(query.shape[-1] ** -0.5)

    def largest(self, s):
        return s.max(axis=-1, keepdims=True)

    def exp(self, s):
        return np.exp(s)

    def seen(self, key):
        return key

    def forward(self, query, key, value):
        key, value = self.seen(key), self.seen(value)
        s = self.scores(query, key)
        e = self.exp(s - self.largest(s))
        total = e.sum(axis=-1, keepdims=True, dtype=e.dtype)
        total = self.positive(total)
        self.out, self.cache = (e @ value) / total, (query, key, value, e / total)
        return self.out

    def positive(self, total):
        return total

    def delta(self, p, dp, dout):
        return (p * dp).sum(axis=-1, keepdims=True, dtype=p.dtype)

    def backward(self, dout):
        query, key, value, p = self.cache
        dp = dout @ value.swapaxes(-1, -2)
        ds = p * (dp - self.delta(p, dp, dout)) * dout.dtype.type(query.shape[-1] ** -0.5)
        return ds @ key, ds.swapaxes(-1, -2) @ query, p.swapaxes(-1, -2) @ dout


class ScaledQuery(Plain):
    def scores(self, query, key):
        return (query * query.dtype.type(query.shape[-1] ** -0.5)) @ key.swapaxes(-1, -2)


class Base2(Plain):
    def scores(self, query, key):
        scale = query.dtype.type(query.shape[-1] ** -0.5 / np.log(2))
        return (query @ key.swapaxes(-1, -2)) * scale

    def exp(self, s):
        return np.exp2(s)


class Delta(Plain):
    def delta(self, p, dp, dout):
        return (self.out * dout).sum(axis=-1, keepdims=True, dtype=p.dtype)


class Online(Plain):
    def forward(self, query, key, value):
        super().forward(query, key, value)
        largest = query.dtype.type(-np.inf)
        total, out = query.dtype.type(0), query.dtype.type(0)
        for start in range(0, key.shape[-2], 16):
            s = self.scores(query, key[..., start : start + 16, :])
            larger = np.maximum(largest, self.largest(s))
            e, alpha = np.exp(s - larger), np.exp(largest - larger)
            total = alpha * total + e.sum(axis=-1, keepdims=True, dtype=e.dtype)
            out, largest = alpha * out + e @ value[..., start : start + 16, :], larger
        return out / total


class ZeroStart(Plain):
    def positive(self, total):
        return np.where(total == 0, total.dtype.type(1), total)

    def largest(self, s):
        return np.maximum(super().largest(s), 0)


class NoMaximum(Plain):
    def largest(self, s):
        return s.dtype.type(0)


class NoScale(Plain):
    def scores(self, query, key):
        return query @ key.swapaxes(-1, -2)


class NoRowSum(Plain):
    def delta(self, p, dp, dout):
        return p.dtype.type(0)


class WholeTiles(Plain):
    def seen(self, key):
        return key[..., : max(16, key.shape[-2] // 16 * 16), :]

    def backward(self, dout):
        raise NotImplementedError


class FarStart(ZeroStart):
    """Computes in float32, so that its scores may be further from 0 than those of float16."""

    start = -5e4

    def forward(self, query, key, value):
        wide = (x.astype(np.float32) for x in (query, key, value))
        return super().forward(*wide).astype(np.float16)

    def largest(self, s):
        return np.maximum(s.max(axis=-1, keepdims=True), self.start)

    def backward(self, dout):
        return tuple(x.astype(np.float16) for x in super().backward(dout.astype(np.float32)))


class InFloat32(FarStart):
    start = -np.inf


RIGHT = (Plain, ScaledQuery, Base2, Delta, Online, InFloat32)


def judged(layer):
    with np.errstate(all="ignore"):
        return check(layer, layer="scaled-dot-product", dtype="float16")


@pytest.mark.parametrize("layer", RIGHT)
def test_what_is_as_right_as_float16_can_be_passes(layer):
    report = judged(layer)
    assert report.passed, [f for f in report.findings if f.status == "wrong"]


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (NoScale, "scale missing"),
        (NoMaximum, "maximum not subtracted"),
        (NoRowSum, "softmax backward without Σ"),
        (WholeTiles, "keys left out"),
        (FarStart, "the running maximum begins at a number"),
    ],
)
def test_what_is_wrong_in_float16_is_named(layer, name):
    report = judged(layer)
    assert not report.passed
    assert report.diagnoses[0].mistakes[0].name == name


def test_rows_of_zeros_are_wrong_however_far_below_0_the_scores():
    wrong = {f.name for f in judged(ZeroStart).findings if f.status == "wrong"}
    assert {"negative scores", "large negative scores"} < wrong
