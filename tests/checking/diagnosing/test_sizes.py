"""What is right for small sizes alone: found, and from which size on it is wrong."""

from types import SimpleNamespace

import numpy as np
import pytest
from checking.book import BOOK, changed

import attncli
from attncli.checking.diagnosing import examination
from attncli.checking.diagnosing.cases import Suite
from attncli.core.semantics import Semantics

CAUSAL = Semantics(causal="upper_left")


class Kernel:
    """Attention in tiles, each part of which a test may get wrong beyond its first tile."""

    def keys(self, T_enc):
        return slice(0, T_enc)

    def channels(self, H):
        return slice(0, H)

    def heads(self, key):
        return key

    def seen(self, i, j):
        return j <= i

    def rescaled(self, factor):
        return factor

    def summed(self, total, part):
        return total + part

    def forward(self, query, key, value, causal=False):
        scale, T_enc = query.shape[-1] ** -0.5, key.shape[-2]
        narrow, kept = self.channels(query.shape[-1]), self.keys(T_enc)
        key, value = self.heads(key)[..., kept, :], value[..., kept, :]
        s = query[..., narrow] @ key[..., narrow].swapaxes(-1, -2) * scale
        if causal:
            seen = self.seen(np.arange(query.shape[-2])[:, None], np.arange(s.shape[-1]))
            s = np.where(seen, s, -np.inf)
        top = np.full((*s.shape[:-1], 1), -np.inf)
        total, out = np.zeros_like(top), np.zeros((*s.shape[:-1], value.shape[-1]))
        for start in range(0, s.shape[-1], 64):
            tile = slice(start, start + 64)
            new = np.maximum(top, s[..., tile].max(-1, keepdims=True))
            e, old = np.exp(s[..., tile] - new), self.rescaled(np.exp(top - new))
            total, out = total * old + e.sum(-1, keepdims=True), out * old + e @ value[..., tile, :]
            top = new
        self.saved = query, key, value, np.exp(s - top) / total, scale
        return out / total

    def backward(self, dout):
        query, key, value, p, scale = self.saved
        dp = dout @ value.swapaxes(-1, -2)
        ds = p * (dp - (p * dp).sum(-1, keepdims=True)) * scale
        dkey, dvalue = 0, 0
        for start in range(0, query.shape[-2], 16):
            rows = np.s_[..., start : start + 16, :]
            dkey = self.summed(dkey, ds[rows].swapaxes(-1, -2) @ query[rows])
            dvalue = self.summed(dvalue, p[rows].swapaxes(-1, -2) @ dout[rows])
        return ds @ key, dkey, dvalue


def whole_blocks(self, T_enc):
    return slice(0, T_enc if T_enc <= 32 else T_enc // 32 * 32)


# What is wrong, in which part, and from which size on.
FAULTS = {
    "keys left over beyond whole blocks of 32": (
        {"keys": whole_blocks}, "forward", "right up to T_enc = 32, wrong from 33 on",
    ),
    "keys from 128 on": (
        {"keys": lambda self, T_enc: slice(0, 128)},
        "forward", "right up to T_enc = 128, wrong from 129 on",
    ),
    "no rescaling": (
        {"rescaled": lambda self, factor: 1.0},
        "forward", "right up to T_enc = 64, wrong from 65 on",
    ),
    "channels from 64 on": (
        {"channels": lambda self, H: slice(0, 64)},
        "forward", "right up to H = 64, wrong from 65 on",
    ),
    "heads from 8 on": (
        {"heads": lambda self, key: np.where(np.arange(key.shape[-3])[:, None, None] < 8, key, 0)},
        "forward", "right up to heads = 8, wrong from 9 on",
    ),
    "the diagonal of the second tile": (
        {"seen": lambda self, i, j: (j <= i) | ((i >= 64) & (j // 64 <= i // 64))},
        "forward", "right up to T_enc = 65, wrong from 66 on (T_dec = 131)",
    ),
    "assigned instead of added": (
        {"summed": lambda self, total, part: part},
        "backward", "right up to T_dec = 16, wrong from 17 on",
    ),
}  # fmt: skip


def said(report):
    return {f.part: f.detail.split(": ", 1)[1] for f in report.findings if f.status == "wrong"}


def test_tiles_that_are_right_pass():
    report = attncli.check(Kernel, layer="scaled-dot-product")
    assert said(report) == {}
    names = {finding.name for finding in report.findings}
    assert {"T_enc = 257", "T_dec = 257", "H = 136", "causal, T_dec = 257, T_enc = 131"} < names


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.usefixtures("unnamed")
def test_what_is_wrong_beyond_a_tile_is_found_and_from_which_size_on(name):
    methods, part, since = FAULTS[name]
    report = attncli.check(type("Kernel", (Kernel,), methods), layer="scaled-dot-product")
    assert not report.passed
    assert said(report)[part] == since


@pytest.mark.usefixtures("unnamed")
def test_backward_is_not_blamed_for_a_part_that_is_right():
    methods, *_ = FAULTS["assigned instead of added"]
    report = attncli.check(type("Kernel", (Kernel,), methods), layer="scaled-dot-product")
    details = {f.detail for f in report.findings if f.status == "wrong"}
    assert all(detail.startswith(("dkey, dvalue: ", "dvalue: ")) for detail in details)


@pytest.mark.parametrize(
    ("change", "since"),
    [
        (("for t in range(T):\n            layer = Attention()",
          "for t in range(min(T, 128)):\n            layer = Attention()"), "T_dec = 128"),
        (("s = np.sum(t, axis=2)", "s = np.sum(t[:, :, :100], axis=2)"), "H = 100"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("unnamed")
def test_the_layers_of_the_book_are_tried_in_large_sizes_too(change, since):
    names = {}
    exec(changed(BOOK, *change), names)
    report = attncli.check(names["TimeAttention"])
    assert any(since in f.detail for f in report.findings if f.status == "wrong")


def test_the_list_of_sizes_is_fixed_and_longer_if_that_is_asked_for():
    suite = Suite("scaled-dot-product", CAUSAL, {}, 4)
    usual, thorough = (suite.large(thorough=more) for more in (False, True))
    for cases, largest in ((usual, (257, 136, 26)), (thorough, (1025, 257, 40))):
        for axis, size in zip(("T_enc", "H", "heads"), largest, strict=True):
            assert max(case.sizes[axis] for case in cases) == size
    assert any(case.sizes["heads"] == 13 for case in usual)
    crossing = [case for case in usual if min(case.sizes["T_dec"], case.sizes["T_enc"]) > 64]
    assert {case.sizes["T_dec"] < case.sizes["T_enc"] for case in crossing} == {True, False}
    assert [case.name for case in usual] == [case.name for case in suite.large()]


def test_slow_code_is_given_smaller_sizes_and_that_is_said(monkeypatch):
    clock = [0.0]

    class Slow(Kernel):
        def forward(self, query, key, value):
            clock[0] += 1e-4 * query.size * key.shape[-2]
            return super().forward(query, key, value)

    monkeypatch.setattr(
        examination,
        "time",
        SimpleNamespace(monotonic=lambda: clock[0], perf_counter=lambda: clock[0]),
    )
    report = attncli.check(Slow, layer="scaled-dot-product")
    assert report.passed
    notes = [finding.detail for finding in report.findings if finding.name == "large sizes"]
    assert "T_enc = 257: more than 3 s, so it is T_enc = 129" in notes
    assert "T_enc = 129" in {finding.name for finding in report.findings}


@pytest.mark.parametrize("kept", [32, None])
def test_what_a_row_without_keys_gives_hides_no_fault_of_sizes(kept):
    def attention(query, key, value, mask=None):
        mask = None if mask is None else np.broadcast_to(mask, (*mask.shape[:-1], key.shape[-2]))
        key, value = key[..., :kept, :], value[..., :kept, :]
        s = query @ key.swapaxes(-1, -2) * query.shape[-1] ** -0.5
        if mask is not None:
            s = np.where(mask[..., :kept] == 0, -np.inf, s)
        e = np.exp(s - s.max(-1, keepdims=True))  # NaN where no key is seen
        return e / e.sum(-1, keepdims=True) @ value

    report = attncli.check(attention)
    text = str(report)
    assert "NaN" in text
    assert ("right up to T_enc = 32, wrong from 33 on" in text) == (kept == 32)
    # Read as 0 and not 0, as it is meant: said, and no fault.
    assert "it is read as 0 and not 0" in text
    wrong = [finding.name for finding in report.findings if finding.status == "wrong"]
    assert "floating mask" not in wrong
    assert kept == 32 or {*wrong} == {"row with every key masked"}
