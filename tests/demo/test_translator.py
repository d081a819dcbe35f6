"""The model of ``attn demo``: its language, its gradients, and that it learns where to look."""

import numpy as np
import pytest

from attncli.demo import phrases
from attncli.demo.translator import GRU, STEPS, Adam, Translator, learn

RNG = np.random.default_rng
SENTENCES = phrases.draw(RNG(3), 997)


def in_french(sentence):
    return " ".join(phrases.FRENCH[word] for word in phrases.translated(phrases.read(sentence))[0])


@pytest.mark.parametrize(
    ("english", "french"),
    [
        ("the young fox follows my white rabbit", "le jeune renard suit mon lapin blanc"),
        ("a black cat sees every big dog", "un chat noir voit chaque grand chien"),
        ("this green duck paints our red pig", "ce canard vert peint notre cochon rouge"),
    ],
)
def test_french_puts_colours_behind_their_noun(english, french):
    assert in_french(english) == french


def test_a_word_and_its_source_mean_the_same():
    found = np.take_along_axis(SENTENCES, phrases.sources(SENTENCES), axis=1)
    np.testing.assert_array_equal(found, phrases.translated(SENTENCES))
    assert (np.sort(phrases.sources(SENTENCES), axis=1) == range(phrases.LENGTH)).all()


def test_what_is_kept_back_is_never_learned_from():
    unseen = phrases.draw(RNG(4), 997, unseen=True)
    seen = {sentence.tobytes() for sentence in SENTENCES}
    assert not seen & {sentence.tobytes() for sentence in [*unseen, *phrases.SHOWN]}


def test_every_word_is_drawn():
    assert {*SENTENCES.ravel()} == {*range(len(phrases.ENGLISH))}


def test_the_gradients_are_those_of_the_loss():
    """Each parameter along a direction of its own: what backward says, and what the loss does."""
    model, rng = Translator(RNG(0), D=3, H=5), RNG(1)
    english = phrases.draw(rng, 11)
    french = phrases.translated(english)
    model.params[0] *= 10  # where nothing is looked at alike
    model.forward(english, french)
    model.backward()
    for param, grad in zip(model.params, [one.copy() for one in model.grads], strict=True):
        direction, before = rng.normal(size=param.shape), param.copy()
        losses = []
        for sign in (1, -1):
            param[...] = before + sign * 1e-5 * direction
            losses.append(model.forward(english, french))
        param[...] = before
        measured = (losses[0] - losses[1]) / 2e-5
        assert measured == pytest.approx(np.vdot(grad, direction), rel=1e-5, abs=1e-9)


def test_the_gru_is_the_formula():
    rng = RNG(2)
    Wx, Wh, b, xs = (rng.normal(size=s) for s in ((3, 15), (5, 15), (15,), (2, 7, 3)))
    h = np.zeros((2, 5))
    for t, out in enumerate(GRU(Wx, Wh, b).forward(xs).swapaxes(0, 1)):
        ax, ah = np.split(xs[:, t] @ Wx + b, 3, axis=1), np.split(Wh, 3, axis=1)
        z, r = (1 / (1 + np.exp(-(ax[i] + h @ ah[i]))) for i in (0, 1))
        h = (1 - z) * h + z * np.tanh(ax[2] + (r * h) @ ah[2])
        np.testing.assert_allclose(out, h)


def test_adam_goes_a_whole_step_down_at_first():
    param, grad = np.zeros(3), np.array([1e-3, -20.0, 0.0])
    Adam([param], [grad], rate=0.1).update()
    np.testing.assert_allclose(param, [-0.1, 0.1, 0], rtol=1e-2)


@pytest.mark.parametrize("seed", [1, 2**63 - 1])
def test_it_learns_to_translate_and_looks_at_what_it_translates(seed):
    every = list(learn(seed, STEPS))
    assert [learned.step for learned in every] == list(range(STEPS + 1))
    unseen = phrases.draw(RNG(5), 199, unseen=True)
    model = every[-1].model
    assert (model.translate(unseen) == phrases.translated(unseen)).all(axis=1).mean() > 0.98
    looks = model.attention_weight.argmax(axis=2)
    assert (looks == phrases.sources(unseen)).mean() > 0.98


def test_the_seed_says_all():
    first, again, other = ([one.loss for one in learn(seed, 5)] for seed in (0, 0, 1))
    assert first == again != other
