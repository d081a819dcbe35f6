"""Weights under the names that libraries, hooks and tutorials give them."""

import json

import numpy as np
import pytest

ITEMS, HEADS, SOURCE, TARGET = 2, 3, 7, 5
LAYERS = 4


def weights_of(*shape, causal=False):
    exps = np.exp(np.random.default_rng(7).normal(size=shape))
    exps = np.tril(exps) if causal else exps
    return (exps / exps.sum(axis=-1, keepdims=True)).astype(np.float32)


OWN = weights_of(LAYERS, ITEMS, HEADS, SOURCE, SOURCE)
ENCODER = weights_of(2, 1, HEADS, SOURCE, SOURCE)
DECODER = weights_of(2, 1, HEADS, TARGET, TARGET, causal=True)
CROSS = weights_of(2, 1, HEADS, TARGET, SOURCE)


def shown(attn, file, *options):
    """Every matrix that is shown, by part, layer, item and head."""
    result = attn("show-weights", file, *options, "--json")
    assert result.code == 0, result.err
    return {
        (m["part"] or "", m["layer"] or 0, m["item"] or 0, m["head"] or 0): np.array(m["weights"])
        for m in result.json["matrices"]
    }


def given(layers, part=""):
    return {
        (part, number, item, head): matrix
        for number, layer in (layers.items() if isinstance(layers, dict) else enumerate(layers))
        for item, heads in enumerate(layer)
        for head, matrix in enumerate(heads)
    }


def assert_the_same(found, right):
    assert found.keys() == right.keys()
    for place, matrix in right.items():
        np.testing.assert_array_equal(found[place], matrix, err_msg=str(place))


@pytest.mark.parametrize(
    ("spelling", "part"),
    [
        ("layer{}", ""), ("layer_{:02}", ""), ("arr_{}", ""), ("{}", ""), ("attentions.{}", ""),
        ("attentions/{}", ""), ("attn_layer_{}", ""), ("attention_weights_{}", ""),
        ("blocks.{}.attn.hook_pattern", ""), ("blocks.{}.attn.softmax", ""),
        ("blocks.{}.attn.attn_drop", ""), ("model.layers.{}.self_attn", ""),
        ("transformer.h.{}.attn", ""), ("bert.encoder.layer.{}.attention.self", "encoder"),
        ("intermediates/encoderblock_{}/MultiHeadDotProductAttention_0/attention_weights/0", ""),
    ],
)  # fmt: skip
def test_numbers_in_names_are_layers(attn, folder, spelling, part):
    numbers = (0, 2, 3, 10)
    np.savez("w.npz", **{spelling.format(n): x for n, x in zip(numbers, OWN, strict=True)})
    assert_the_same(shown(attn, "w.npz"), given(dict(zip(numbers, OWN, strict=True)), part))


THREE_PARTS = {
    "fields": ("encoder_attentions_{}", "decoder_attentions_{}", "cross_attentions_{}"),
    "words": ("encoder.{}", "decoder.{}", "cross.{}"),
    "fairseq": (
        "encoder.layers.{}.self_attn", "decoder.layers.{}.self_attn",
        "decoder.layers.{}.encoder_attn",
    ),
    "T5": (
        "encoder.block.{}.layer.0.SelfAttention", "decoder.block.{}.layer.0.SelfAttention",
        "decoder.block.{}.layer.1.EncDecAttention",
    ),
    "annotated": (
        "encoder.layers.{}.self_attn.attn", "decoder.layers.{}.self_attn.attn",
        "decoder.layers.{}.src_attn.attn",
    ),
    "short": ("ENC_ATTN_L{}", "DEC_ATTN_L{}", "X_ATTN_L{}"),
    "TensorFlow": (
        "encoder_layer{}_block1", "decoder_layer{}_block1", "decoder_layer{}_block2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("library", THREE_PARTS)
def test_names_say_whose_attention_it_is(attn, folder, library):
    parts = dict(zip(("encoder", "decoder", "cross"), (ENCODER, DECODER, CROSS), strict=True))
    spelled = zip(THREE_PARTS[library], parts.values(), strict=True)
    np.savez(
        "w.npz", **{name.format(n): x for name, layers in spelled for n, x in enumerate(layers)}
    )
    right = {}
    for part, layers in parts.items():
        right |= given(layers, part)
        assert_the_same(shown(attn, "w.npz", "--part", part), given(layers, part))
    assert_the_same(shown(attn, "w.npz"), right)


@pytest.mark.parametrize("names", [("attn.layer.01", "attn.layer.1"), ("layer1", "layer١")])
def test_two_arrays_of_one_number_are_refused_by_their_names(attn, folder, names):
    np.savez("x.npz", **{names[0]: OWN[0], names[1]: OWN[1], names[0].replace("1", "2"): OWN[2]})
    result = attn("show-weights", "x.npz")
    assert (result.code, result.out) == (2, "")
    assert result.err == f"error: x.npz: {names[0]} and {names[1]} are two of one number\n"


@pytest.mark.parametrize("name", ["attn.h.{}", "step{}_layer0", "layer{}"])
def test_more_digits_than_a_number_has_are_none(attn, folder, name):
    (folder / "x.json").write_text(json.dumps({name.format("9" * 5000): OWN[0].tolist()}))
    assert_the_same(shown(attn, "x.json"), given(OWN[:1]))


def test_what_else_a_model_gave_is_left_out(attn, folder):
    states = np.zeros((1, SOURCE, 12))
    kept = {"hook_embed": states, "ln_final.hook_scale": states[..., :1]}
    for number, layer in enumerate(OWN[:, :1]):
        block = f"blocks.{number}."
        kept |= {block + name: states for name in ("hook_resid_pre", "hook_attn_out")}
        kept |= {block + f"attn.hook_{name}": np.zeros((1, SOURCE, 3, 4)) for name in "qkvz"}
        kept[block + "attn.hook_attn_scores"] = np.log(layer)
        kept[block + "attn.hook_pattern"] = layer
    np.savez("cache.npz", **kept)
    assert_the_same(shown(attn, "cache.npz"), given(OWN[:, :1]))


@pytest.mark.parametrize("spelling", ["layer{}_head{}", "L{}H{}", "layers.{}.heads.{}"])
def test_one_matrix_a_head(attn, folder, spelling):
    np.savez(
        "w.npz",
        **{spelling.format(n, h): x[0, h] for n, x in enumerate(OWN) for h in range(HEADS)},
    )
    assert_the_same(shown(attn, "w.npz"), given(OWN[:, :1]))


STEPS = range(TARGET, SOURCE)  # the prompt first, then a token at a time


def grown(layer, step=None):
    """What a step of generating gave of a layer; the first is the prompt's."""
    rows = slice(0, TARGET) if step is None else slice(step, step + 1)
    return layer[:, :, rows, : rows.stop]


@pytest.mark.parametrize(
    "spelling", ["{}_{}", "step{}_layer{}", "token_{:03}/layer_{:02}", "attentions_{}_{}"]
)
def test_steps_and_layers_in_names_are_put_together(attn, folder, spelling):
    layers = weights_of(2, ITEMS, HEADS, SOURCE, SOURCE, causal=True)
    np.savez(
        "w.npz",
        **{
            spelling.format(number, n): grown(layer, step)
            for number, step in enumerate([None, *STEPS])
            for n, layer in enumerate(layers)
        },
    )
    assert_the_same(shown(attn, "w.npz"), given(layers))


@pytest.mark.parametrize("named", [False, True])
def test_one_stack_of_layers_a_step(attn, folder, named):
    layers = weights_of(2, 1, HEADS, SOURCE, SOURCE, causal=True)
    steps = [np.stack([grown(layer, step) for layer in layers]) for step in [None, *STEPS]]
    if named:
        np.savez("w.npz", **{f"step_{n}": step for n, step in enumerate(steps)})
    else:
        np.savez("w.npz", *steps)
    assert_the_same(shown(attn, "w.npz"), given(layers))


def test_a_list_of_sentences_each_of_its_own_length(attn, folder):
    matrices = [weights_of(rows, keys) for rows, keys in ((3, 5), (4, 7), (6, 6))]
    np.savez("w.npz", *matrices)
    found = shown(attn, "w.npz")
    assert [x.shape for x in found.values()] == [x.shape for x in matrices]
    for one, right in zip(found.values(), matrices, strict=True):
        np.testing.assert_array_equal(one, right)


def test_scores_are_looked_at_where_there_is_nothing_better(attn, folder):
    np.savez("w.npz", attention_scores=CROSS[0])
    assert_the_same(shown(attn, "w.npz"), given(CROSS[:1]))
    np.savez("w.npz", attention_scores=np.log(CROSS[0]), attention_weights=CROSS[0])
    assert_the_same(shown(attn, "w.npz"), given(CROSS[:1]))


def test_a_stack_of_layers_a_step_is_read_in_the_order_of_generate(attn, folder):
    """Of the attention across each step has one row, and no more keys than the last."""
    stacks = {f"cross_attentions_{n}": CROSS[:, :, :, n : n + 1] for n in range(TARGET)}
    np.savez("w.npz", **stacks)
    assert_the_same(shown(attn, "w.npz"), given(CROSS, "cross"))
    result = attn("show-weights", "w.npz", "--json")
    assert "cross_attentions_4 are read as steps,layers; --axes layers,steps," in result.err
    otherwise = shown(attn, "w.npz", "--axes", "layers,steps,N,heads,dec,enc")
    assert otherwise["cross", 4, 0, 2].shape == (2, SOURCE)


def test_a_layer_of_what_may_be_a_stack_of_them_is_asked_for_by_its_axes(attn, folder):
    np.savez("w.npz", attns=OWN[:, 0])
    refused = attn("show-weights", "w.npz", "--layer", 2)
    assert refused.code == 2
    option = refused.err.partition("hint:")[2].split()[1]
    assert option == "layers,heads,dec,enc"
    found = shown(attn, "w.npz", "--layer", 2, "--axes", option)
    assert_the_same(found, given({2: OWN[2, :1]}))


def test_as_many_words_as_steps_tell_them_from_layers(attn, folder):
    rows = {f"cross_{n}_{m}": CROSS[m, :, :, n : n + 1] for n in range(TARGET) for m in range(2)}
    np.savez("w.npz", **rows, tokens_dec=list("abcde"))
    assert_the_same(shown(attn, "w.npz"), given(CROSS, "cross"))
    assert attn("show-weights", "w.npz", "--json").err == ""


def test_stacks_of_layers_beside_each_other_are_said_to_be_in_doubt(attn, folder):
    """Of as many layers each; that does not make them two arrays of the items of a batch."""
    np.savez("w.npz", encoder_attentions=ENCODER[:, 0], decoder_attentions=DECODER[:, 0])
    assert "--axes layers,heads,dec,enc" in attn("show-weights", "w.npz", "--json").err


def test_an_overview_of_parts_says_how_to_choose_one(attn, folder):
    np.savez("w.npz", encoder_attentions=ENCODER, decoder_attentions=DECODER)
    out = attn("show-weights", "w.npz", "--sort", "entropy", "--color", "always").out
    assert "--part, --layer" in " ".join(out.split())
    np.savez("w.npz", decoder_attentions=DECODER)
    assert "--part" not in attn("show-weights", "w.npz", "--sort", "entropy").out


def test_records_are_of_the_layer_and_head_that_they_say(attn, folder):
    layers = {number: ENCODER[n].astype(float) for n, number in enumerate((7, 3))}
    records = [
        {"layer": number, "head": head, "attention": one[0, head].tolist()}
        for number, one in layers.items()
        for head in range(HEADS)
    ]
    (folder / "w.json").write_text(json.dumps(records))
    assert_the_same(shown(attn, "w.json"), given(layers))


def test_three_axes_of_what_is_called_heads_begin_with_them(attn, folder):
    np.savez("w.npz", **{f"layers.{n}.heads": one[0] for n, one in enumerate(OWN)})
    assert_the_same(shown(attn, "w.npz"), given(OWN[:, :1]))


@pytest.mark.parametrize("far", ["item{}_layer1", "layer1_head{}"])
def test_items_and_heads_that_are_not_there_are_not_counted_through(attn, folder, far):
    np.savez("w.npz", **{far.format(0): np.eye(3), far.format(10**17): np.eye(3)})
    result = attn("show-weights", "w.npz")
    assert (result.code, result.out) == (2, "")
    assert f"{far.format(10**17)} stand far apart: to list" in result.err
