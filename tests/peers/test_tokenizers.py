"""The words that a tokenizer's file has for ids are those that its library has."""

import json

import numpy as np
import pytest

tokenizers = pytest.importorskip("tokenizers")

TEXT = ["the cat sat on the mat", "naïve cafés cost 3 €", "東京 😀 the theatre"] * 3
SPECIAL = ["<s>", "</s>", "[UNK]"]


def trained(kind):
    models, trainers = tokenizers.models, tokenizers.trainers
    model, trainer = {
        "BPE": (models.BPE(), trainers.BpeTrainer),
        "byte-level BPE": (models.BPE(), trainers.BpeTrainer),
        "WordPiece": (models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer),
        "WordLevel": (models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer),
        "Unigram": (models.Unigram(), trainers.UnigramTrainer),
    }[kind]
    made = tokenizers.Tokenizer(model)
    split = tokenizers.pre_tokenizers
    made.pre_tokenizer = split.ByteLevel() if kind == "byte-level BPE" else split.Whitespace()
    unknown = {"unk_token": "[UNK]"} if kind == "Unigram" else {}
    made.train_from_iterator(
        TEXT, trainer(vocab_size=90, special_tokens=SPECIAL, show_progress=False, **unknown)
    )
    made.add_tokens(["<added>"])
    return made


@pytest.mark.parametrize("kind", ["BPE", "byte-level BPE", "WordPiece", "WordLevel", "Unigram"])
def test_every_id_has_the_word_that_the_library_has_for_it(attn, folder, kind):
    tokenizer = trained(kind)
    tokenizer.save("tokenizer.json")
    ids = np.arange(tokenizer.get_vocab_size())
    np.savez("w.npz", weights=np.eye(len(ids)), input_ids=ids)
    result = attn("show-weights", "w.npz", "--tokens", "tokenizer.json", "--json")
    assert (result.code, result.err) == (0, "")
    (matrix,) = json.loads(result.out)["matrices"]
    assert matrix["tokens_enc"] == [tokenizer.id_to_token(one) for one in ids.tolist()]


def test_a_character_spread_over_tokens_stands_at_the_first_of_them(attn, folder):
    split = tokenizers.pre_tokenizers.ByteLevel
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = split()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=270, initial_alphabet=split.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.save("tokenizer.json")
    coded = tokenizer.encode("the 🦜 sat")
    np.savez("w.npz", weights=np.eye(len(coded.ids)), input_ids=np.array(coded.ids))
    result = attn("show-weights", "w.npz", "--tokens", "tokenizer.json", "--top", 1)
    rows = [line.split(" → ")[0].strip() for line in result.out.splitlines() if " → " in line]
    (place,) = (place for place, row in enumerate(rows) if "🦜" in row)
    assert [row[0] for row in rows[place : place + 4]] == ["🦜", "·", "·", "·"]
    assert "🦜" not in coded.tokens
