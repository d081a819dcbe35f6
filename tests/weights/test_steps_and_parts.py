"""Steps of generating, parts of a model and stacks: one right matrix a layer and head of each."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import Attn
from hypothesis import given
from hypothesis import strategies as st

from attncli.errors import AttnWarning, DataError, DtypeError, ShapeError
from attncli.files.contents import hold_tensors
from attncli.files.entries import Entry
from attncli.files.reading import Reading
from attncli.weights.at_hand import name_weights
from attncli.weights.choosing import select_weights
from attncli.weights.finding import find_weights
from attncli.weights.wanted import Wanted

HEADS, LAYERS, SOURCE = 2, 3, 11
WHOLE = slice(None), slice(None)


def weights_of(*shape, seed=0, causal=False):
    exps = np.exp(np.random.default_rng(seed).normal(size=shape))
    exps = np.tril(exps) if causal else exps
    return (exps / exps.sum(axis=-1, keepdims=True)).astype(np.float32)


def found_in(arrays, axes=None, part=None):
    return find_weights(hold_tensors(arrays, "w.npz", Reading()), axes, part=part)


def matrix(source, part, layer, head, item=0):
    return source.parts[part].layers[layer].load(item, head, WHOLE)


def steps_of(layers, prompt, at_once, *, cache):
    """Give what generate() does: of each step its layers."""
    ends = range(prompt, layers[0].shape[-1] + 1, at_once)
    return [
        [one[:, :, (max(0, end - at_once) if end > prompt else 0) if cache else 0 : end, :end]
         for one in layers]
        for end in ends
    ]  # fmt: skip


# Steps and layers, parts and spellings


@given(
    spelling=st.sampled_from([
        "step{t}_layer{l}", "steps.{t}.layer.{l}", "attentions.{t}.{l}", "t{t}.l{l}.attn",
        "layer{l}_step{t}", "attn_{l}_{t}", "{t:03d}/{l:02d}", "gen.step_{t}.block_{l}.probs",
    ]),
    prompt=st.integers(1, 5), at_once=st.sampled_from([1, 2, 3]), count=st.integers(3, 12),
    cache=st.booleans(),
)  # fmt: skip
def test_steps_and_layers_become_one_matrix_a_layer(spelling, prompt, at_once, count, cache):
    T = prompt + at_once * (count - 1)
    layers = [weights_of(1, HEADS, T, T, seed=n, causal=True) for n in range(LAYERS)]
    steps = steps_of(layers, prompt, at_once, cache=cache)
    source = found_in(
        {
            spelling.format(t=t, l=n): one
            for t, step in enumerate(steps)
            for n, one in enumerate(step)
        }
    )
    assert [*source.parts[""].layers] == [*range(LAYERS)]
    for n, layer in enumerate(layers):
        for head in range(HEADS):
            np.testing.assert_array_equal(matrix(source, "", n, head), layer[0, head])


@given(
    dots=st.sampled_from(["{}.{}.{}", "{}_{}_{}", "{}/{}/{}"]), layer_first=st.booleans(),
    steps=st.integers(2, 7), names=st.sampled_from([
        ("decoder_attentions", "cross_attentions"), ("dec_self_attn", "dec_enc_attn"),
        ("decoder", "encdec"), ("tgt_self", "cross"), ("decoderAttn", "crossAttn"),
    ]),
)  # fmt: skip
def test_the_decoder_tells_in_which_order_the_numbers_of_cross_attention_are(
    dots, layer_first, steps, names
):
    own = [weights_of(1, HEADS, steps, steps, seed=n, causal=True) for n in range(LAYERS)]
    across = [weights_of(1, HEADS, steps, SOURCE, seed=n + 9) for n in range(LAYERS)]
    arrays = {}
    for t in range(steps):
        for n in range(LAYERS):
            numbers = (n, t) if layer_first else (t, n)
            arrays[dots.format(names[0], *numbers)] = own[n][:, :, t : t + 1, : t + 1]
            arrays[dots.format(names[1], *numbers)] = across[n][:, :, t : t + 1]
    source = found_in(arrays)
    assert [*source.parts] == ["decoder", "cross"]
    for n in range(LAYERS):
        np.testing.assert_array_equal(matrix(source, "decoder", n, 1), own[n][0, 1])
        np.testing.assert_array_equal(matrix(source, "cross", n, 1), across[n][0, 1])


@given(
    st.sets(st.integers(0, 40), min_size=2, max_size=6),
    st.sampled_from(
        ["encoder_layer_{}", "enc.{}.self_attn", "EncoderAttention{:03d}", "encoder{}"]
    ),
    st.sampled_from(["x/{}", "model.1.{}.h2", "{}"]),
)
def test_only_the_number_that_varies_counts_and_gaps_stay(numbers, spelling, within):
    arrays = {within.format(spelling.format(n)): weights_of(1, 2, 5, 5, seed=n) for n in numbers}
    source = found_in({**arrays, "hidden_states.3": np.zeros((1, 5, 5))})
    assert [*source.parts["encoder"].layers] == sorted(numbers)
    for n in numbers:
        np.testing.assert_array_equal(
            matrix(source, "encoder", n, 1), weights_of(1, 2, 5, 5, seed=n)[0, 1]
        )


def test_each_part_has_the_words_of_its_own_side_where_lengths_are_equal(attn: Attn, folder):
    kinds = {"encoder": "abcde", "decoder": "vwxyz", "cross": "vwxyz"}
    arrays = {f"{kind}_attentions_{n}": weights_of(1, 2, 5, 5) for kind in kinds for n in range(2)}
    np.savez("w.npz", **arrays, tokens_enc=list("abcde"), tokens_dec=list("vwxyz"))
    matrices = attn("show-weights", "w.npz", "--json").json["matrices"]
    assert {(one["part"], one["layer"]) for one in matrices} == {
        (kind, n) for kind in kinds for n in range(2)
    }
    for one in matrices:
        rows, keys = kinds[one["part"]], "vwxyz" if one["part"] == "decoder" else "abcde"
        assert ("".join(one["tokens_dec"]), "".join(one["tokens_enc"])) == (rows, keys)


@pytest.mark.parametrize(
    ("own", "across", "keys"),
    [
        ("attentions.{}", "cross_attentions.{}", 5),
        ("self_attn.{}", "encoder_attn.{}", 5),
        ("self_attn.{}", "encoder_attn.{}", 7),
        ("encoder_decoder.x{}.decoder", "encoder_decoder.x{}.cross", 7),
        ("enc_dec_net.x{}.decoder_self", "enc_dec_net.x{}.cross", 7),
        ("dec_layer{}_block1", "dec_layer{}_block2", 7),
    ],
)
def test_what_stands_beside_tells_whose_attention_it_is(own, across, keys):
    named = {own.format(n): weights_of(1, 2, 5, 5, seed=n) for n in range(2)}
    named |= {across.format(n): weights_of(1, 2, 5, keys, seed=n + 2) for n in range(2)}
    source = found_in(named)
    assert [*source.parts] == ["decoder", "cross"]
    first = min(source.parts["cross"].layers)
    np.testing.assert_array_equal(matrix(source, "cross", first, 1), named[across.format(0)][0, 1])


def test_of_several_parts_each_is_described_on_a_line_of_its_own(attn: Attn, folder):
    sides = {"encoder": (5, 5), "cross": (3, 5), "decoder": (3, 3)}
    np.savez("x.npz", **{f"{part}_attentions.0": weights_of(1, 2, *T) for part, T in sides.items()})
    assert attn("show-weights", "x.npz").out.splitlines()[:4] == [
        "x.npz",
        "  encoder  encoder_attentions.0 (1, 2, 5, 5) = (N, heads, T_dec, T_enc)",
        "  decoder  decoder_attentions.0 (1, 2, 3, 3) = (N, heads, T_dec, T_enc)",
        "  cross    cross_attentions.0 (1, 2, 3, 5) = (N, heads, T_dec, T_enc)",
    ]


def test_a_part_that_is_not_there_is_refused_by_naming_those_that_are(attn: Attn, folder):
    np.savez("w.npz", **{f"{side}.{n}": weights_of(1, 2, 5, 5) for side in ("enc", "dec")
                         for n in range(2)})  # fmt: skip
    refused = attn("show-weights", "w.npz", "--part", "cross")
    assert refused.code == 2
    assert "it holds encoder and decoder" in refused.err
    np.savez("w.npz", layer0=weights_of(1, 2, 5, 5))
    assert "does not say of which part" in attn("show-weights", "w.npz", "--part", "cross").err


def test_weights_beside_the_states_of_both_sides_lead_from_one_to_the_other(attn: Attn, folder):
    weights, states = weights_of(3, 7, 7), np.zeros((3, 7, 2))
    words = {"tokens_enc": list("abcdefg"), "tokens_dec": list("tuvwxyz")}
    np.savez("w.npz", hs_enc=states, hs_dec=states, weights=weights, **words)
    for one in attn("show-weights", "w.npz", "--part", "cross", "--json").json["matrices"]:
        assert (one["tokens_dec"], one["tokens_enc"]) == (words["tokens_dec"], words["tokens_enc"])
        np.testing.assert_array_equal(one["weights"], weights[one["item"]].tolist())


def test_the_rows_of_a_model_that_writes_have_their_words_and_sum_to_1(attn: Attn, folder):
    layers = [weights_of(1, HEADS, 7, 7, seed=n, causal=True) for n in range(LAYERS)]
    named = {
        f"attentions.{t}.{n}": one
        for t, step in enumerate(steps_of(layers, 3, 1, cache=True))
        for n, one in enumerate(step)
    }
    np.savez("w.npz", **named, tokens=list("abcdefgh"))  # the last was written, and never read
    written = attn("show-weights", "w.npz", "--layer", 1, "--head", 0, "--rows", "3:", "--json")
    assert written.err == ""
    (one,) = written.json["matrices"]
    assert (one["tokens_dec"], one["tokens_enc"]) == (list("defg"), list("abcdefg"))
    np.testing.assert_array_equal(one["weights"], layers[1][0, 0, 3:].tolist())


def test_rows_of_what_began_elsewhere_are_the_last_of_the_words(attn: Attn, folder):
    rows = {f"step{t}": weights_of(1, 2, 1, 7 + t, seed=t) for t in range(3)}
    np.savez("w.npz", **rows, tokens=list("abcdefghi"))
    one = attn("show-weights", "w.npz", "--head", 1, "--json").json["matrices"][0]
    assert (one["tokens_dec"], one["shape"]) == (list("ghi"), [3, 9])
    assert one["weights"][1] == [*rows["step1"][0, 1, 0].tolist(), 0]


# What else steps look like


def test_keys_of_a_window_that_moves_along_stand_where_they_were():
    sizes = [(3, 3), (1, 4), (1, 4), (1, 4)]
    arrays = {f"arr_{t}": weights_of(1, 2, *size, seed=t) for t, size in enumerate(sizes)}
    whole = matrix(found_in(arrays), "", 0, 1)
    assert whole.shape == (6, 6)
    for t, first in ((1, 0), (2, 1), (3, 2)):
        expected = np.zeros(6)
        expected[first : first + 4] = arrays[f"arr_{t}"][0, 1, 0]
        np.testing.assert_allclose(whole[t + 2], expected)


def test_beams_share_the_prompt_before_they_part():
    arrays = {"step0": weights_of(2, 1, 3, 3), "step1": weights_of(6, 1, 1, 4, seed=1)}
    source = found_in(arrays)
    assert source.parts[""].layers[0].shape == (6, 1, 4, 4)
    for beam in range(6):
        whole = matrix(source, "", 0, 0, item=beam)
        np.testing.assert_array_equal(whole[:3, :3], arrays["step0"][beam // 3, 0])
        np.testing.assert_array_equal(whole[3], arrays["step1"][beam, 0, 0])


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("filling", [0, np.nan])
def test_a_stack_of_steps_is_filled_up_where_steps_are_shorter(cache, filling):
    layers = [weights_of(1, HEADS, 7, 7, seed=n, causal=True) for n in range(LAYERS)]
    steps = steps_of(layers, 3, 1, cache=cache)
    rows = max(one.shape[2] for step in steps for one in step)
    stack = np.full((len(steps), LAYERS, 1, HEADS, rows, 7), filling, np.float32)
    for t, step in enumerate(steps):
        for n, one in enumerate(step):
            stack[t, n, ..., : one.shape[2], : one.shape[3]] = one
    source = found_in({"decoder_attentions": stack})
    for n in range(LAYERS):
        np.testing.assert_array_equal(matrix(source, "decoder", n, 1), layers[n][0, 1])


def test_what_is_no_number_within_a_step_is_no_filling(attn: Attn, folder):
    stack = weights_of(3, 2, 1, 2, 1, 5)
    stack[1, 0, 0, 0, 0, 2] = np.nan
    np.savez("w.npz", cross_attentions=stack)
    assert attn("show-weights", "w.npz", "--layer", 1).code == 0
    assert "holds 1 non-finite value" in attn("show-weights", "w.npz", "--layer", 0).err


@pytest.mark.parametrize(
    ("sizes", "layers"),
    [
        ([(7, 7), (7, 7), (7, 7)], 3),
        ([(4, 4), (8, 8), (16, 16)], 3),  # of a U-Net, whose layers grow as well
        ([(16, 16), (8, 8), (4, 4)], 3),
        ([(49, 7), (28, 7), (7, 7)], 3),
        ([(7, 3), (7, 5), (7, 9)], 3),
        ([(2, 2), (1, 3), (1, 4)], 1),
        ([(5, 11), (1, 11), (1, 11)], 1),
        ([(1, 11), (2, 11), (3, 11)], 1),
    ],
)
def test_layers_and_steps_are_told_by_how_arrays_grow(sizes, layers):
    named = {f"attn_{n}": weights_of(1, 2, *size) for n, size in enumerate(sizes)}
    assert len(found_in(named).parts[""].layers) == layers


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("step{}", {100: (1, 2, 7, 7), 200: (1, 2, 7, 7)}),  # of a training
        ("layer{}", {0: (1, 2, 3, 3), 2: (1, 2, 5, 5)}),  # of two sentences
        ("attn{}", {1: (2, 7, 3), 2: (2, 7, 5), 3: (2, 7, 9)}),
    ],
)
def test_numbers_stay_where_arrays_do_not_grow_by_what_was_written(name, shapes):
    source = found_in({name.format(n): weights_of(*shape) for n, shape in shapes.items()})
    assert {n: layer.shape[2:] for n, layer in source.parts[""].layers.items()} == {
        n: shape[-2:] for n, shape in shapes.items()
    }


def test_one_row_a_step_without_the_axis_of_rows():
    whole = weights_of(HEADS, 5, 5, causal=True)
    arrays = {f"attn_{t}": whole[:, t, : t + 1] for t in range(5)}
    np.testing.assert_array_equal(matrix(found_in(arrays), "", 0, 1), whole[1])


def test_a_stack_of_one_row_each_is_of_steps_where_keys_are_filled_up():
    whole = weights_of(5, HEADS, 5, 5, causal=True)
    grown = whole.transpose(2, 0, 1, 3)[..., None, :]
    assert len(found_in({"attns": grown}).parts[""].layers) == 1
    np.testing.assert_array_equal(matrix(found_in({"attns": grown}), "", 0, 1, 3), whole[3, 1])
    assert len(found_in({"attns": weights_of(5, 1, HEADS, 1, 5)}).parts[""].layers) == 5


def test_what_nothing_tells_is_said_with_the_option_that_reads_it_otherwise(attn: Attn, folder):
    rows = {f"cross_{n}": weights_of(1, 2, 1, 7, seed=n) for n in range(3)}
    np.savez("w.npz", **rows)
    said = attn("show-weights", "w.npz", "--json")
    assert {one["layer"] for one in said.json["matrices"]} == {0, 1, 2}
    axes = "steps,N,heads,dec,enc"
    assert f"--axes {axes} reads them otherwise" in said.err
    read = attn("show-weights", "w.npz", "--axes", axes, "--head", 1, "--json")
    assert read.err == ""
    assert read.json["matrices"][0]["weights"] == [one[0, 1, 0].tolist() for one in rows.values()]
    np.savez("w.npz", **rows, tokens_dec=list("xyz"))  # one a step
    assert attn("show-weights", "w.npz", "--json").json["matrices"][0]["shape"] == [3, 7]


# Stacks


@given(st.permutations(["layers", "N", "heads", "T_dec", "T_enc"]), st.integers(2, 5))
def test_a_stack_is_read_in_any_order_of_its_axes(order, count):
    axes = tuple(order[-count:])
    if "T_enc" not in axes:
        axes = (*axes[:-1], "T_enc")
    sizes = {"layers": 2, "N": 3, "heads": 5, "T_dec": 7, "T_enc": 11}
    stack = np.random.default_rng(0).random([sizes[axis] for axis in axes])
    part = found_in({"attns": stack}, axes).parts[""]
    whole = [axis if axis in axes else None for axis in sizes]
    right = stack.transpose([axes.index(axis) for axis in sizes if axis in axes])
    right = right[tuple(slice(None) if axis else None for axis in whole)]
    assert [len(part.layers), *part.layers[0].shape] == [*right.shape]
    last = [size - 1 for size in right.shape[:3]]
    found = part.layers[last[0]].load(last[1], last[2], WHOLE)
    np.testing.assert_array_equal(found, right[tuple(last)])


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((3, 5, 2, 7, 7), "N,layers,heads,dec,enc"),
        ((3, 2, 7, 7), "layers,heads,dec,enc"),
        ((3, 7, 7), "heads,dec,enc"),
    ],
)
def test_a_stack_that_may_be_meant_otherwise_says_so(attn: Attn, folder, shape, axes):
    np.save("w.npy", weights_of(*shape))
    said = attn("show-weights", "w.npy", "--json")
    assert f"--axes {axes} reads it otherwise" in said.err
    assert attn("show-weights", "w.npy", "--axes", axes, "--json").err == ""
    assert attn("show-weights", "w.npy", "--item", 1, "--json").err == ""  # which has been said
    items = shape[1] if len(shape) == 5 else shape[0]
    np.savez("w.npz", attns=weights_of(*shape), attention_mask=np.ones((items, 7)))
    assert attn("show-weights", "w.npz", "--json").err == ""


@pytest.mark.parametrize("filling", [0, np.nan])
def test_heads_that_a_layer_does_not_have_are_not_drawn(attn: Attn, folder, filling):
    stack = weights_of(3, 1, 5, 7, 7)
    stack[1, :, 2:], stack[2, :, 0] = filling, filling
    stack[0, 0, 3, 0] = 0  # a row that sees nothing is no reason
    np.savez("w.npz", attentions=stack)
    shown = attn("show-weights", "w.npz", "--json").json["matrices"]
    there = {0: [0, 1, 2, 3, 4], 1: [0, 1], 2: [1, 2, 3, 4]}
    assert [(one["layer"], one["head"]) for one in shown] == [
        (layer, head) for layer, heads in there.items() for head in heads
    ]
    refused = attn("show-weights", "w.npz", "--layer", 2, "--head", 0)
    assert refused.code == 2
    assert "layer 2 of w.npz has no such head" in refused.err
    assert "there are 4: 1, 2, 3, 4" in refused.err


def test_numbers_of_samples_and_heads_in_names(attn: Attn, folder):
    arrays = {
        f"sample{item}_layer{layer}_head{head}": weights_of(5 + item, 5 + item, seed=item + head)
        for item in range(2) for layer in range(2) for head in range(3)
    }  # fmt: skip
    np.savez("w.npz", **arrays)
    shown = attn("show-weights", "w.npz", "--json").json["matrices"]
    assert len(shown) == 12
    for one in shown:
        whole = arrays[f"sample{one['item']}_layer{one['layer']}_head{one['head']}"]
        T = len(whole)
        np.testing.assert_array_equal(np.array(one["weights"])[:T, :T], whole)


# What is not read


def counting(arrays):
    """Hold arrays that count how often each is read."""
    read = dict.fromkeys(arrays, 0)

    def entry(name):
        def load(max_memory):
            read[name] += 1
            return np.asarray(arrays[name])

        return Entry(np.shape(arrays[name]), np.asarray(arrays[name]).dtype, load)

    held = hold_tensors({}, "w.npz", Reading())
    held.entries.update({name: entry(name) for name in arrays})
    return held, read


def test_nothing_is_read_that_is_not_looked_at():
    arrays = {
        f"{kind}_attentions.{t}.{n}": weights_of(1, 2, 1, t + 1 if kind == "decoder" else 7)
        for kind in ("decoder", "cross") for t in range(5) for n in range(3)
    }  # fmt: skip
    arrays |= {f"encoder_attentions.{n}": weights_of(1, 2, 7, 7) for n in range(3)}
    arrays |= {f"hidden_states.{n}": np.zeros((1, 7, 7)) for n in range(4)}
    held, read = counting(arrays)
    selection = select_weights(held, Wanted(part="cross", layer=(1,)))
    assert not any(read.values())
    for _ in range(2):
        for one in selection.matrices:
            one.load(selection.cut(one))
    # Of the one layer every step, and it once for both heads and both times.
    assert {name: count for name, count in read.items() if count} == {
        f"cross_attentions.{t}.1": 1 for t in range(5)
    }


def test_rows_are_read_from_the_steps_that_have_them():
    held, read = counting({f"step{t}": weights_of(1, 2, 1, t + 1, seed=t) for t in range(7)})
    layer = find_weights(held).parts[""].layers[0]
    layer.load(0, 1, (slice(4, 6), slice(None)))
    assert [name for name, count in read.items() if count] == ["step4", "step5"]


def test_arrays_that_are_left_over_are_told_and_those_of_no_weights_are_not():
    arrays = {f"attentions.{n}": weights_of(1, 2, 5, 5) for n in range(3)}
    others = {
        "hidden_states.0": (1, 5, 5), "logits": (1, 5, 9), "attention_mask": (1, 5),
        "value_norms.0": (1, 2, 5, 5), "decoder.q_proj.weight": (5, 5), "attn_out": (1, 5, 5),
    }  # fmt: skip
    zeros = {name: np.zeros(shape) for name, shape in others.items()}
    assert [*found_in({**arrays, **zeros}).parts[""].layers] == [0, 1, 2]
    with pytest.warns(AttnWarning, match=r"last_attention .*; --rename weights=last_att"):
        found_in({**arrays, "last_attention": weights_of(1, 2, 5, 5)})
    with pytest.raises(DataError, match="no weights"):
        found_in(zeros)


# What a program has at hand


def test_what_a_model_returns_is_shown_by_its_parts():
    def layers(T_dec, T_enc):
        return tuple(weights_of(1, 2, T_dec, T_enc, seed=n) for n in range(3))

    output = SimpleNamespace(
        encoder_attentions=layers(7, 7),
        cross_attentions=tuple(layers(1, 7) for _ in range(5)),
        decoder_attentions=tuple(layers(1, t + 1) for t in range(5)),
        past_key_values=object(),
    )
    named = name_weights(output, None, "mine", None)
    source = found_in(named)
    assert {name: part.layers[2].shape for name, part in source.parts.items()} == {
        "encoder": (1, 2, 7, 7), "decoder": (1, 2, 5, 5), "cross": (1, 2, 5, 7),
    }  # fmt: skip
    again = found_in(name_weights(vars(output), None, "mine", None))
    assert [*again.parts] == [*source.parts]
    steps = found_in(name_weights(output.decoder_attentions, None, "mine", None))
    np.testing.assert_array_equal(matrix(steps, "", 2, 1), matrix(source, "decoder", 2, 1))
    output.cross_attentions = (None, None)
    with pytest.raises(DtypeError, match="cross_attentions, a tuple of None") as caught:
        name_weights(output, None, "mine", None)
    assert "attn_implementation='eager'" in caught.value.hint


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(1, 2, 1, 3), (1, 3, 1, 4)], "2 and 3 heads of one layer"),
        ([(3, 2, 1, 3), (0, 2, 1, 4)], "3 and 0 items of one layer"),
    ],
)
def test_steps_whose_heads_differ_are_refused(shapes, message):
    arrays = {f"step{n}_layer0": np.ones(shape) for n, shape in enumerate(shapes)}
    with pytest.raises(ShapeError, match=message):
        find_weights(hold_tensors(arrays, "x.npz"))


def test_steps_of_nothing_are_found():
    arrays = {f"step{n}_layer0": np.ones((0, 2, 3, 3)) for n in range(3)}
    assert find_weights(hold_tensors(arrays, "x.npz")).shape[0] == 0


def test_a_number_that_is_called_weights_is_no_matrix():
    axes = ("T_dec", "steps", "N", "T_enc")
    with pytest.raises(ShapeError, match=r"is \(\): --axes names 4"):
        find_weights(hold_tensors({"batch_enc10weights2": np.ones(())}, "x.npz"), axes)


def test_the_words_of_a_matrix_are_found_without_a_look_at_every_layer():
    arrays = {f"layer{n}": np.eye(3) for n in range(300)}
    selection = select_weights(
        hold_tensors({**arrays, "tokens": np.array(list("abc"))}, "x.npz"), Wanted()
    )
    words, calls = [], []
    sys.setprofile(lambda frame, event, argument: calls.append(event))
    try:
        words = [selection.tokens(one, "T_enc") for one in selection.matrices[:100]]
    finally:
        sys.setprofile(None)
    assert words == [list("abc")] * 100
    assert len(calls) < 3000
