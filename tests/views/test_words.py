"""Words out of pieces, and what becomes of the weights to and from them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attncli.weights.cutting import Cut
from attncli.weights.words import words_of


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        # WordPiece
        ("[CLS] run ##ning , ##fast [SEP]", "[CLS] running ,fast [SEP]"),
        ("[CLS] ##a b", "[CLS] a b"),
        ("C ## F ##orm", "C ## Form"),
        # SentencePiece
        ("<s> ▁W under bar ▁! ▁ge sung en . </s>", "<s> Wunderbar ! gesungen . </s>"),
        ("▁ <0xF0> <0x9F> <0x98> <0x80> ▁ok", "😀 ok"),
        ("▁caf <0xC3> <0xA9> s", "cafés"),
        ("▁x - ray", "x - ray"),
        ("▁a <0xF0> <0x9F> ▁b", "a \ufffd b"),  # a character that never ends
        ("▁a <0xC3>", "a \ufffd"),
        ("▁हि न् दी", "हिन्दी"),
        ("▁日本 語 。", "日本語 。"),
        ("▁is <image> <image> a", "is <image> <image> a"),
        ("▁❤ \ufe0f ▁👍 \U0001f3fd ▁👩 \u200d 🚀 ▁x", "❤\ufe0f 👍\U0001f3fd 👩\u200d🚀 x"),
        # byte-level
        ("So Ġtoken ization Ġð Ł ĺ Ģ Ġhelps !", "So tokenization 😀 helps !"),
        ("The Ġcaf Ã © s", "The cafés"),
        ("caf Ã © ðŁ ĺ Ģ", "café 😀"),  # without a space
        ("I Ġdon 't Ġ( yes )", "I don't ( yes )"),
        ("<|endoftext|> Hel lo Ġx", "<|endoftext|> Hello x"),
        ("a Ġb <|endoftext|> c d", "a b <|endoftext|> cd"),
        # the end of a word, the end of a piece, a space at its beginning
        ("<s> low er</w> !</w>", "<s> lower !"),
        ("das@@ selbe Haus@@ tier ist", "dasselbe Haustier ist"),
    ],
)
def test_words_are_put_together_as_tokenizers_part_them(tokens, words):
    tokens = tokens.split(" ")
    found = words_of(tokens)
    assert found.texts == words.split(" ")
    assert (found.edges[0], found.edges[-1]) == (0, len(tokens))


def test_a_space_may_be_the_mark_of_a_word():
    found = words_of([" Mister", " Quil", "ter", " is", "."])
    assert (found.texts, found.edges.tolist()) == (
        ["Mister", "Quilter", "is", "."],
        [0, 1, 3, 4, 5],
    )


def test_words_without_marks_stay_as_they_are():
    for tokens in (["a", "b", "a"], [], ["##"], ["", " "], ["1248", "9907"]):
        found = words_of(tokens)
        assert (found.texts, found.edges.tolist()) == (tokens, [*range(len(tokens) + 1)])


@given(st.lists(st.sampled_from(
    ["Ġa", "b", "'s", "Ġ", "ðŁ", "ĺ", "Ģ", "Ã", "©", ".", "<s>", "Ċ", "日", ""]
), max_size=9))  # fmt: skip
def test_every_piece_is_in_one_word(tokens):
    found = words_of(tokens)
    assert len(found.texts) == len(found.edges) - 1
    assert found.edges.tolist() == sorted({0, *found.edges.tolist(), len(tokens)})
    for place, token in enumerate(tokens):
        if token == "<s>":  # which is a word of its own
            assert {place, place + 1} <= set(found.edges.tolist())


def weights_of(*shape):
    exps = np.exp(np.random.default_rng(0).normal(size=shape))
    return exps / exps.sum(axis=-1, keepdims=True)


def edges_of(sizes):
    return np.cumsum([0, *sizes])


SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=6)


@given(SIZES, SIZES, st.data())
@settings(max_examples=60, deadline=None)
def test_weights_to_a_word_are_added_and_those_from_it_averaged(down, across, data):
    weights = weights_of(sum(down), sum(across))
    rows, columns = edges_of(down), edges_of(across)
    expected = np.array([
        [weights[i:j, k:m].sum(axis=1).mean() for k, m in pairwise(columns)]
        for i, j in pairwise(rows)
    ])  # fmt: skip
    np.testing.assert_allclose(expected.sum(axis=1), 1)
    kept = [
        np.array(sorted(data.draw(st.sets(st.integers(0, len(sizes) - 1), min_size=1))))
        for sizes in (down, across)
    ]
    for narrow in (False, True):
        cut = Cut(*kept, narrow=narrow, row_edges=rows, column_edges=columns)
        np.testing.assert_allclose(cut.apply(weights), expected[np.ix_(*kept)])
    alone = Cut(np.arange(len(weights)), kept[1], narrow=True, column_edges=columns)
    merged = np.add.reduceat(weights, columns[:-1], axis=1)
    np.testing.assert_allclose(alone.apply(weights), merged[:, kept[1]])


def test_half_precision_is_added_in_double():
    weights = np.full((2, 4096), 1 / 4096, np.float16)
    cut = Cut(np.arange(1), np.arange(1), row_edges=edges_of([2]), column_edges=edges_of([4096]))
    assert cut.apply(weights).tolist() == [[1.0]]
