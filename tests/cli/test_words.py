"""``attn show-weights``: the words of the steps, where they come from, and which are padding."""

import json

import numpy as np
import pytest

WORDS = ["<s>", "two words", "a,b", "", "ß", "東京", "#"]
T = len(WORDS)
rng = np.random.default_rng(7)


def weights(*shape):
    array = rng.random(shape)
    return array / array.sum(axis=-1, keepdims=True)


@pytest.fixture
def shown(attn, folder):
    """Save arrays, and give the matrices that show-weights prints, and what it says beside."""

    def _shown(arrays, *options):
        np.savez("w.npz", **arrays)
        result = attn("show-weights", "w.npz", *options, "--json")
        assert result.code == 0, result.err
        return json.loads(result.out)["matrices"], result.err

    return _shown


def words(matrix):
    return matrix.get("tokens_dec"), matrix.get("tokens_enc")


SPELLINGS = {
    "tokens": (["tokens"], [], []),
    "words": (["words"], [], []),
    "all_tokens": (["all_tokens"], [], []),
    "str_tokens": (["str_tokens"], [], []),
    "sides": ([], ["tokens_dec"], ["tokens_enc"]),
    "source and target": ([], ["target"], ["source"]),
    "src and tgt": ([], ["tgt_tokens"], ["src_tokens"]),
    "of a page": ([], ["left_text"], ["right_text"]),
    "sides behind": ([], ["tokens_target"], ["tokens_source"]),
    "camels": ([], ["decoderTokens"], ["encoderTokens"]),
    "queries and keys": ([], ["query_tokens"], ["key_tokens"]),
}


@pytest.mark.parametrize("case", SPELLINGS)
@pytest.mark.parametrize("batched", [False, True])
def test_words_are_found_by_any_usual_name(shown, case, batched):
    both, dec, enc = SPELLINGS[case]
    rows, keys = WORDS, WORDS if both else list("abcde")
    arrays = {name: np.array(rows) for name in (*both, *dec)}
    arrays |= {name: np.array(keys) for name in enc}
    if batched:
        arrays = {name: array[None] for name, array in arrays.items()}
    (matrix,), err = shown({"weights": weights(1, T, len(keys)), **arrays})
    assert words(matrix) == (rows, keys)
    assert err == ""


@pytest.mark.parametrize("name", ["token_type_ids", "position_ids", "attention_mask", "label_ids"])
def test_numbers_of_something_else_are_no_words(shown, name):
    (matrix,), err = shown({"weights": weights(1, T, T), name: np.ones((1, T), int)})
    assert (words(matrix), err) == ((None, None), "")


@pytest.mark.parametrize("name", ["tokens", "input_ids", "token_ids", "ids"])
def test_ids_stand_for_words_and_the_way_to_these_is_said(shown, name):
    ids = np.arange(100, 100 + T)[None]
    (matrix,), err = shown({"weights": weights(1, T, T), name: ids})
    assert words(matrix) == (list(map(str, ids[0].tolist())),) * 2
    assert err.count("\n") == 1
    assert f"w.npz: {name} is of ids: --tokens FILE gives their words" in err


def test_words_are_better_than_ids(shown):
    arrays = {"input_ids": np.arange(T), "weights": weights(T, T), "tokens": np.array(WORDS)}
    (matrix,), err = shown(arrays)
    assert (words(matrix), err) == ((WORDS, WORDS), "")


def test_each_item_has_its_own_words(shown):
    each = [["a", "b", "c"], ["d", "e", "f"]]
    matrices, _ = shown({"weights": weights(2, 3, 3), "words": np.array(each)})
    assert [words(one) for one in matrices] == [(some, some) for some in each]


def test_each_part_has_the_words_of_its_own_side_however_long_they_are(shown):
    src, tgt = list("abc"), list("xyz")
    arrays = {
        "source": np.array(src), "target": np.array(tgt),
        **{f"{part}_attentions.0": weights(1, 1, 3, 3) for part in ("encoder", "decoder", "cross")},
    }  # fmt: skip
    matrices, _ = shown(arrays)
    found = {one["part"]: words(one) for one in matrices}
    assert found == {"encoder": (src, src), "decoder": (tgt, tgt), "cross": (tgt, src)}


def test_what_goes_into_a_model_of_two_parts_is_the_encoder_s(shown):
    arrays = {
        "input_ids": np.array([[1, 2, 3]]), "sequences": np.array([[0, 7, 8, 9]]),
        "encoder_attentions.0": weights(1, 1, 3, 3), "cross_attentions.0": weights(1, 1, 3, 3),
    }  # fmt: skip
    matrices, _ = shown(arrays)
    found = {one["part"]: words(one) for one in matrices}
    # The last that was generated did not go in again.
    assert found["cross"] == (["0", "7", "8"], ["1", "2", "3"])
    assert found["encoder"] == (["1", "2", "3"],) * 2


def test_words_that_fit_nothing_are_no_error_under_a_name_of_others(shown):
    (matrix,), err = shown({"weights": weights(T, T), "sentence": np.array(["a", "b"])})
    assert (words(matrix), err) == ((None, None), "")


# Given by options

GIVEN = {
    "w.txt": "\n".join(WORDS),
    "end.txt": "\n".join(WORDS) + "\n",
    "crlf.txt": "\r\n".join(WORDS) + "\r\n",
    "bom.txt": "\ufeff" + "\n".join(WORDS),
    "w.json": json.dumps(WORDS),
    "w.list": "\n " + json.dumps({"tokens": WORDS}, ensure_ascii=False),
}


@pytest.mark.parametrize("name", GIVEN)
def test_words_in_a_file(shown, folder, name):
    (folder / name).write_bytes(GIVEN[name].encode())
    (matrix,), err = shown({"weights": weights(T, T), "tokens": np.arange(T)}, "--tokens", name)
    assert (words(matrix), err) == ((WORDS, WORDS), "")


@pytest.mark.parametrize("text", ["a,b,c", "a, b, c", '["a", "b", "c"]'])
def test_words_on_the_command_line(shown, text):
    (matrix,), _ = shown({"weights": weights(3, 3)}, "--tokens", text)
    assert words(matrix) == (list("abc"), list("abc"))


def test_a_bracket_begins_a_word_as_well(shown):
    (matrix,), _ = shown({"weights": weights(3, 3)}, "--tokens", "[CLS],a,[SEP]")
    assert words(matrix)[0] == ["[CLS]", "a", "[SEP]"]


def test_a_list_for_each_item(shown, folder):
    (folder / "w.json").write_text('[["a", "b"], ["c", "d"]]')
    matrices, _ = shown({"weights": weights(2, 2, 2)}, "--tokens", "w.json")
    assert [words(one)[0] for one in matrices] == [["a", "b"], ["c", "d"]]


def test_a_side_by_itself(shown, folder):
    (folder / "enc.txt").write_text("a\nb\n")
    given = ("--tokens-enc", "enc.txt", "--tokens-dec", "x,y,z")
    (matrix,), _ = shown({"weights": weights(3, 2)}, *given)
    assert words(matrix) == (["x", "y", "z"], ["a", "b"])


def test_one_side_given_leaves_the_other_as_the_file_has_it(shown):
    arrays = {"weights": weights(3, 2), "tokens_enc": np.array(["a", "b"])}
    (matrix,), _ = shown(arrays, "--tokens-dec", "x,y,z")
    assert words(matrix) == (["x", "y", "z"], ["a", "b"])


VOCABULARY = {"<s>": 0, "Ġtwo": 1, "words": 2, "</s>": 9}
TOKENIZERS = {
    "bpe.json": {"model": {"type": "BPE", "vocab": VOCABULARY, "merges": []}},
    "wordpiece.json": {"model": {"type": "WordPiece", "vocab": VOCABULARY}},
    "unigram.json": {
        "model": {"type": "Unigram", "vocab": [["<s>", 0], ["Ġtwo", -1.5], ["words", -2]]},
        "added_tokens": [{"id": 9, "content": "</s>", "special": True}],
    },
    "added.json": {
        "model": {"vocab": {"Ġtwo": 1, "words": 2}},
        "added_tokens": [{"id": 0, "content": "<s>"}, {"id": 9, "content": "</s>"}],
    },
    "vocab.json": VOCABULARY,
}


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("ids", ["tokens", "input_ids"])
def test_a_tokenizer_has_the_words_for_ids(shown, folder, name, ids):
    (folder / name).write_text(json.dumps(TOKENIZERS[name]))
    arrays = {"weights": weights(1, 4, 4), ids: np.array([[0, 1, 2, 9]])}
    (matrix,), err = shown(arrays, "--tokens", name)
    assert (words(matrix)[0], err) == (["<s>", "Ġtwo", "words", "</s>"], "")


def test_a_vocabulary_a_line_is_told_from_words_by_the_ids(shown, folder):
    (folder / "vocab.txt").write_text("[PAD]\n[CLS]\nthe\ncat\n##s\n")
    arrays = {"weights": weights(3, 3), "input_ids": np.array([1, 3, 4])}
    (matrix,), _ = shown(arrays, "--tokens", "vocab.txt")
    assert words(matrix)[0] == ["[CLS]", "cat", "##s"]


def test_a_tokenizer_a_side(shown, folder):
    (folder / "a.json").write_text(json.dumps({"a": 0, "b": 1}))
    (folder / "x.json").write_text(json.dumps({"x": 0, "y": 1}))
    arrays = {
        "weights": weights(2, 2), "input_ids": np.array([[0, 1]]),
        "decoder_input_ids": np.array([[1, 0]]),
    }  # fmt: skip
    given = ("--tokens-enc", "a.json", "--tokens-dec", "x.json")
    (matrix,), _ = shown(arrays, *given)
    assert words(matrix) == (["y", "x"], ["a", "b"])


def test_ids_without_a_word_are_said_and_stay(shown, folder):
    (folder / "v.json").write_text(json.dumps(VOCABULARY))
    arrays = {"weights": weights(3, 3), "input_ids": np.array([0, -100, 7])}
    (matrix,), err = shown(arrays, "--tokens", "v.json")
    assert words(matrix)[0] == ["<s>", "-100", "7"]
    assert "v.json: has no word for 2 of the ids in input_ids: -100, 7" in err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--tokens", "a,b"], "--tokens has 2 words, and w.npz T_dec = 5 and T_enc = 3: expected"),
        (["--tokens-enc", "a,b"], "--tokens-enc has 2 words, and w.npz T_enc = 3"),
        (["--tokens-dec", "a,b,c"], "--tokens-dec has 3 words, and w.npz T_dec = 5"),
        (["--tokens", "two.json"], "--tokens has 2 lists of 5 words"),
        (["--tokens", "nowhere.txt"], "--tokens nowhere.txt: no such file"),
        (["--tokens", "ragged.json"], "--tokens ragged.json: its lists have 1 to 2 words"),
        (["--tokens", "odd.json"], "--tokens odd.json: 0.5 is no word"),
        (["--tokens", "v.json"], "is a vocabulary, and w.npz has no ids of its words"),
        (["--tokens", "config.json"], "--tokens config.json: no words: expected a list of them"),
        (["--tokens", "bad.json"], "bad.json: line 1, column 6: no JSON"),
        (["--tokens", "latin.txt"], "latin.txt: line 2: byte 0xe9 is no UTF-8"),
    ],
)
def test_words_that_cannot_be_those_of_the_steps(attn, folder, given, message):
    np.savez("w.npz", weights=weights(5, 3))
    for name, text in {
        "two.json": '[["a", "b", "c", "d", "e"], ["a", "b", "c", "d", "e"]]',
        "ragged.json": '[["a"], ["b", "c"]]',
        "odd.json": '["a", 0.5]',
        "v.json": '{"a": 0}',
        "config.json": '{"name": "x"}',
        "bad.json": '["a" "b"]',
    }.items():
        (folder / name).write_text(text)
    (folder / "latin.txt").write_bytes(b"a\n\xe9")
    result = attn("show-weights", "w.npz", *given)
    assert (result.code, result.out) == (2, "")
    assert message in result.err.splitlines()[0]


# Padding

PADDED = np.zeros((2, 1, 4, 4))
PADDED[0, 0, :3, :3] = 1 / 3
PADDED[1, 0, 1:, 1:] = 1 / 3  # at the left
MASK = np.array([[1, 1, 1, 0], [0, 1, 1, 1]])
KEPT = [[0, 1, 2], [1, 2, 3]]


def kept(matrices):
    return [one["rows"] for one in matrices], [one["columns"] for one in matrices]


@pytest.mark.parametrize(
    "beside",
    [
        {"attention_mask": MASK},
        {"attention_mask": MASK.astype(bool)},
        {"enc_mask": MASK, "dec_mask": MASK},
        {"key_padding_mask": MASK == 0},
        {"attention_mask": np.where(MASK, 0.0, -1e9)},
        {"tokens": np.array([["a", "b", "c", "[PAD]"], ["<pad>", "a", "b", "c"]])},
        {},  # rows of zeros
    ],
)
def test_padding_is_left_out_by_whatever_tells_it(shown, beside):
    # A head that looks at padding all the same, where a mask or words say what it is.
    looks = PADDED if not beside else np.full_like(PADDED, 0.25)
    matrices, _ = shown({"weights": looks, **beside}, "--drop-pad")
    assert kept(matrices) == (KEPT, KEPT)


def test_a_mask_knows_padding_that_words_do_not(shown):
    tokens = np.array([["a", "b", "c", "<|endoftext|>"]])
    arrays = {"weights": weights(1, 4, 4), "tokens": tokens, "attention_mask": MASK[:1]}
    assert kept(shown(arrays, "--drop-pad")[0]) == (KEPT[:1], KEPT[:1])


def test_masks_of_both_sides(shown):
    arrays = {
        "cross_attentions": weights(1, 1, 1, 4, 3), "attention_mask": np.array([[1, 1, 0]]),
        "decoder_attention_mask": np.array([[0, 1, 1, 1]]),
    }  # fmt: skip
    assert kept(shown(arrays, "--drop-pad")[0]) == ([[1, 2, 3]], [[0, 1]])


def test_a_decoder_starts_with_what_is_padding_elsewhere(shown):
    tokens = np.array(["<pad>", "Das", "<pad>"])
    arrays = {"decoder_attentions": weights(1, 1, 1, 3, 3), "tokens_dec": tokens}
    assert kept(shown(arrays, "--drop-pad")[0]) == ([[0, 1]], [[0, 1]])


def test_a_key_between_others_that_nobody_looks_at_is_no_padding(shown):
    array = np.zeros((1, 3, 5))
    array[..., [0, 2]] = 0.5  # keys 3 and 4 are at the end
    assert kept(shown({"weights": array}, "--drop-pad")[0]) == ([[0, 1, 2]], [[0, 1, 2]])


@pytest.mark.parametrize("beside", [{}, {"input_ids": np.arange(4)}])
def test_where_nothing_says_what_is_padding_nothing_is_left_out(attn, folder, beside):
    np.savez("w.npz", weights=np.full((4, 4), 0.25), **beside)
    result = attn("show-weights", "w.npz", "--drop-pad")
    assert result.code == 2
    assert "no words, no attention_mask and no rows of zeros" in result.err


def test_a_mask_of_other_numbers_is_refused(attn, folder):
    np.savez("w.npz", weights=np.full((4, 4), 0.25), attention_mask=np.arange(4))
    result = attn("show-weights", "w.npz", "--drop-pad")
    assert (result.code, "attention_mask holds other values than 0 and 1" in result.err) == (
        2,
        True,
    )
