"""Whole layers as people write them: heads of their own, blocks, masks; gradients are right.

Their backward is the derivative of their forward by complex step, so that forward alone is in
question.
"""

import numpy as np
import pytest

from attncli.checking.diagnosing.examination import check
from attncli.checking.diagnosing.weighted import fitting
from attncli.checking.targets.loading import targets_of

WIDTH = 6


def softmax(s):
    e = np.exp(s - s.real.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Derived:
    """A layer that is `compute`d from its inputs and parameters."""

    def made(self, *shapes, zeros=()):
        rng = np.random.RandomState(3)
        self.params = [rng.standard_normal(shape) / 2 for shape in shapes]
        self.params += [np.zeros(shape) for shape in zeros]
        self.grads = [np.zeros_like(one) for one in self.params]

    def forward(self, x):
        self.given = x, {}
        return self.compute(self.params, x)

    def backward(self, dout):
        x, options = self.given
        points = [np.array(one, complex) for one in (x, *self.params)]
        found = []
        for point in points:
            gradient = np.zeros(point.shape)
            for index in np.ndindex(point.shape):
                point[index] += 1e-30j
                out = self.compute(points[1:], points[0], **options)
                gradient[index] = np.sum(dout * out.imag) / 1e-30
                point[index] -= 1e-30j
            found.append(gradient)
        for grad, one in zip(self.grads, found[1:], strict=True):
            grad[...] = one
        return found[0]


def attend(q, k, v, scale, seen=None):
    s = scale * q @ k.swapaxes(-1, -2)
    return softmax(s if seen is None else np.where(seen, s, -np.inf)) @ v


class Head(Derived):
    """One head of a width that is said outside; it never looks ahead."""

    scale = staticmethod(lambda width, size: size**-0.5)

    def __init__(self, head_size):
        self.made(*((WIDTH, head_size),) * 3)

    def compute(self, params, x):
        k, q, v = (x @ W for W in params)
        seen = np.tri(x.shape[1], dtype=bool)
        return attend(q, k, v, self.scale(x.shape[-1], q.shape[-1]), seen)


class OfTheWidth(Head):
    scale = staticmethod(lambda width, size: width**-0.5)

    def __init__(self, head_size):
        super().__init__(head_size)
        self.param_names = ["key", "query", "value"]


class ManyHeads(Derived):
    """Every head has matrices of its own; their results are joined and projected."""

    def __init__(self, num_heads, head_size):
        self.num_heads = num_heads
        self.made(*((WIDTH, head_size),) * 3 * num_heads, (num_heads * head_size, WIDTH))

    def compute(self, params, x):
        *own, Wo = params
        three = [(own[i], own[i + 1], own[i + 2]) for i in range(0, len(own), 3)]
        size = own[0].shape[1]
        heads = [attend(x @ k, x @ q, x @ v, size**-0.5) for q, k, v in three]
        return np.concatenate(heads, -1) @ Wo


class MaskedHead(Derived):
    """Self-attention that takes masks, in whichever sense and shape."""

    sense, items = "kept", slice(None)

    def __init__(self, H):
        self.made(*((H, H),) * 3)

    def forward(self, x, mask=None, key_padding_mask=None):
        self.given = x, {"mask": mask, "padding": key_padding_mask}
        return self.compute(self.params, *self.given[:1], **self.given[1])

    def compute(self, params, x, mask=None, padding=None):
        q, k, v = (x @ W for W in params)
        s = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
        if mask is not None:
            s = s.copy()
            s[self.items] = self.hidden(s, np.asarray(mask))[self.items]
        if padding is not None:
            s = np.where(padding[:, None], -np.inf, s)
        return softmax(s) @ v

    def hidden(self, s, mask):
        if self.sense == "kept":
            return np.where(mask == 0, -np.inf, s)
        return s + mask


class OfTheFirstItem(MaskedHead):
    items = slice(0, 1)


class Added(MaskedHead):
    sense = "added"


class Block(Derived):
    """A residual and a norm around attention."""

    def __init__(self, H):
        self.made(*((H, H),) * 3)
        self.params.append(np.ones(H))
        self.grads.append(np.zeros(H))

    def compute(self, params, x):
        *three, gain = params
        q, k, v = (x @ W for W in three)
        y = x + attend(q, k, v, q.shape[-1] ** -0.5)
        return gain * y / np.sqrt((y * y).mean(-1, keepdims=True) + 1e-5)


class Dense(Derived):
    """No attention at all."""

    def __init__(self, H):
        self.made((H, 4 * H), (4 * H, H))

    def compute(self, params, x):
        return np.tanh(x @ params[0]) @ params[1]


class AttentionWithoutItsBias(Derived):
    """The bias begins at 0, as mostly, and its gradient is that of a forward that adds it."""

    def __init__(self, H):
        self.made(*((H, H),) * 3, zeros=[(H,)])

    def compute(self, params, x):
        q, k, v = (x @ W for W in params[:3])
        return attend(q, k, v, q.shape[-1] ** -0.5) + 0 * params[3]


RIGHT = {Head: "one head", ManyHeads: "a matrix for each head", MaskedHead: "", Added: ""}


@pytest.mark.parametrize("layer", RIGHT)
def test_what_is_right_passes_in_whatever_form(layer):
    report = check(layer)
    assert report.passed, [one for one in report.findings if one.status == "wrong"]
    assert report.layer == "multi-head"
    assert RIGHT[layer] in report.claims


def test_in_which_sense_masks_are_taken_is_said():
    notes = {one.name: one.detail for one in check(Added).findings if one.status == "note"}
    assert notes["mask"] == "it is added to the scores: -inf hides a key"
    assert notes["key_padding_mask"] == "True hides a key"


@pytest.mark.usefixtures("unnamed")
def test_a_mask_that_bears_on_one_item_alone_does_not_pass():
    report = check(OfTheFirstItem)
    assert [one.name for one in report.findings if one.status == "wrong"] == ["mask"]


def test_the_scale_of_the_whole_width_is_named():
    report = check(OfTheWidth)
    assert not report.passed
    assert report.diagnoses[0].mistakes[0].name == "scale 1/√(heads·H)"
    assert check(OfTheWidth, scale=WIDTH**-0.5).passed


@pytest.mark.parametrize(("layer", "why"), [(Block, "params[3]"), (Dense, "--as multi-head")])
def test_what_is_more_than_attention_or_none_has_its_gradients_proved(layer, why):
    report = check(layer)
    assert report.passed
    (note,) = [one for one in report.findings if one.part == "forward"]
    assert note.status == "note"
    assert why in note.detail

    class Forgets(layer):
        def backward(self, dout):
            found = super().backward(dout)
            self.grads[0][-1, -1] *= 1.01
            return found

    wrong = [one.name for one in check(Forgets).findings if one.status == "wrong"]
    assert len(wrong) == 1
    assert "grads[0]" in wrong[0]


def test_what_it_is_meant_to_be_may_be_said():
    assert not check(Dense, layer="multi-head").passed
    assert check(Head, layer="multi-head").passed


def test_parameters_that_begin_at_zero_matter_all_the_same():
    assert not check(AttentionWithoutItsBias).passed


def test_a_constructor_says_other_widths_than_the_inputs_have():
    (target,) = targets_of(Head)
    trial = fitting(target, {"N": 2, "T_dec": 3, "T_enc": 5, "H": 4})
    assert [one.shape for one in (*trial.inputs, trial.out)] == [(2, 3, WIDTH), (2, 3, 4)]
