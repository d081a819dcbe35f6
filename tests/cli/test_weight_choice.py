"""``attn show-weights``: several layers, heads and items, and layers of different heads as one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attncli.errors import ParameterError
from attncli.weights.choosing import choose
from attncli.weights.wanted import as_numbers, parse_numbers


def weights_of(*shape, seed=0):
    exps = np.exp(np.random.default_rng(seed).normal(size=shape))
    return exps / exps.sum(axis=-1, keepdims=True)


def places(attn, *arguments):
    matrices = attn("show-weights", *arguments, "--json").json["matrices"]
    return [(one["layer"], one["item"], one["head"]) for one in matrices]


@pytest.fixture
def gaps(folder):
    """Layers 0, 1, 3 and 7, of two items and five heads."""
    arrays = {layer: weights_of(2, 5, 3, 3, seed=layer) for layer in (0, 1, 3, 7)}
    np.savez("w.npz", **{f"layer{layer}": array for layer, array in arrays.items()})
    return arrays


@pytest.mark.parametrize(
    ("layer", "layers"),
    [
        ("3", [3]),
        ("3,7", [3, 7]),
        ("7, 3", [3, 7]),  # in the order of the file
        ("0:3", [0, 1]),
        ("0:4,7", [0, 1, 3, 7]),
        ("-2:", [3, 7]),
        (":-1", [0, 1, 3]),
        ("1:,1", [1, 3, 7]),
        (" 0 : 2 ", [0, 1]),
    ],
)
def test_layers_are_chosen_by_the_files_own_numbers(attn, gaps, layer, layers):
    found = places(attn, "w.npz", "--layer", layer, "--item", "1", "--head", "4")
    assert found == [(layer, 1, 4) for layer in layers]


def test_several_layers_items_and_heads(attn, gaps):
    result = attn("show-weights", "w.npz", "--layer", "1,7", "--head", "0:2,4", "--json").json
    names = [(one["layer"], one["item"], one["head"]) for one in result["matrices"]]
    assert names == [(x, y, z) for x in (1, 7) for y in (0, 1) for z in (0, 1, 4)]
    for (layer, item, head), one in zip(names, result["matrices"], strict=True):
        np.testing.assert_array_equal(one["weights"], gaps[layer][item, head])


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--layer", "2", "--layer 2: w.npz has no such layer; there are 4: 0, 1, 3, 7"),
        ("--layer", "0,2,9", "--layer 2,9: w.npz has no such layer; there are 4: 0, 1, 3, 7"),
        ("--layer", "4:7", "--layer 4:7: w.npz has no such layer"),
        ("--head", "2,5", "--head 5: w.npz has no such head; there are 5, 0 to 4"),
        ("--head", "9:12", "--head 9:12: w.npz has no such head"),
        ("--item", "0,2", "--item 2: w.npz has no such item; there are 2, 0 to 1"),
        ("--head", "1,,2", "'1,,2' is not a number, nor a set such as 0:2,7"),
        ("--head", "all", "'all' is not a number, nor a set such as 0:2,7"),
        ("--head", "1:2:3", "'1:2:3' is not a number, nor a set such as 0:2,7"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(attn, gaps, option, text, message):
    result = attn("show-weights", "w.npz", option, text)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


@given(
    st.lists(st.integers(0, 30), unique=True, min_size=1).map(sorted),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=3),
)
def test_a_set_is_the_union_of_its_ranges(there, spans):
    text = ",".join(f"{first}:{last}" for first, last in spans)
    expected = [x for x in there if any(first <= x < last for first, last in spans)]
    if all(any(first <= x < last for x in there) for first, last in spans):
        assert choose("layer", parse_numbers(text), there, "w.npz") == expected
    else:
        with pytest.raises(ParameterError, match="no such layer"):
            choose("layer", parse_numbers(text), there, "w.npz")


@given(st.integers(1, 20), st.integers(-25, 25), st.integers(-25, 25))
def test_a_range_is_that_of_a_slice(count, first, last):
    expected = list(range(count))[first:last]
    wanted = as_numbers(f"{first}:{last}")
    if expected:
        assert choose("head", wanted, range(count), "w.npz") == expected
    else:
        with pytest.raises(ParameterError, match="no such head"):
            choose("head", wanted, range(count), "w.npz")


def test_the_mean_over_those_that_are_chosen(attn, gaps):
    for options, expected in (
        (["--layer", "3", "--head", "0,4", "--mean", "heads"], gaps[3][0, [0, 4]].mean(0)),
        (["--layer", "1,7", "--head", "2", "--max", "layers"],
         np.maximum(gaps[1][0, 2], gaps[7][0, 2])),
    ):  # fmt: skip
        (one,) = attn("show-weights", "w.npz", "--item", 0, *options, "--json").json["matrices"]
        np.testing.assert_allclose(one["weights"], expected, rtol=1e-12)


# Layers of different numbers of heads


@pytest.fixture
def pruned(folder):
    """Three layers of 2, 1 and 3 heads, 5 steps."""
    layers = [weights_of(1, heads, 5, 5, seed=heads) for heads in (2, 1, 3)]
    np.savez("pruned.npz", **{f"layer{number}": layer for number, layer in enumerate(layers)})
    return [layer[0] for layer in layers]


def flow_through(layers):
    flow = np.eye(5)
    for layer in layers:
        flow = (layer + np.eye(5)) / 2 @ flow
    return flow


def only(attn, *arguments):
    (matrix,) = attn("show-weights", *arguments, "--json").json["matrices"]
    return np.array(matrix["weights"])


def test_rollout_averages_the_heads_of_each_layer_first(attn, pruned):
    expected = flow_through([layer.mean(0) for layer in pruned])
    np.testing.assert_allclose(only(attn, "pruned.npz", "--rollout"), expected)
    np.testing.assert_allclose(expected.sum(1), 1)


def test_rollout_through_the_layers_and_heads_that_are_chosen(attn, pruned):
    expected = flow_through([pruned[0].mean(0), pruned[2].mean(0)])
    found = only(attn, "pruned.npz", "--rollout", "--layer", "0,2")
    np.testing.assert_allclose(found, expected)
    expected = flow_through([pruned[0][1], pruned[2][1:].mean(0)])
    found = only(attn, "pruned.npz", "--rollout", "--layer", "0,2", "--head", "1:")
    np.testing.assert_allclose(found, expected)


def test_the_mean_of_layers_is_that_of_the_means_of_their_heads(attn, pruned):
    found = only(attn, "pruned.npz", "--mean", "heads", "--mean", "layers")
    np.testing.assert_allclose(found, np.mean([layer.mean(0) for layer in pruned], axis=0))
    result = attn("show-weights", "pruned.npz", "--mean", "layers")
    assert result.code == 2
    assert " --mean heads\n" in result.err


def test_a_head_that_some_layers_have_is_shown_of_these(attn, pruned):
    assert places(attn, "pruned.npz", "--head", "1,2") == [(0, 0, 1), (2, 0, 1), (2, 0, 2)]
    assert len(places(attn, "pruned.npz")) == 6
    result = attn("show-weights", "pruned.npz", "--head", "1", "--rollout")
    assert (result.code, "layer 1 has none of these heads" in result.err) == (2, True)


def test_the_overview_draws_no_head_that_is_not_there(attn, pruned):
    out = attn("show-weights", "pruned.npz", "--sort", "file", columns=80).out
    assert "6 heads, in the order of the file" in out
    places = [line.split()[:2] for line in out.splitlines()[-8:-2]]
    assert places == [["0", "0"], ["0", "1"], ["1", "0"], ["2", "0"], ["2", "1"], ["2", "2"]]


def test_layers_of_different_steps_have_no_rollout(attn, folder):
    np.savez("w.npz", layer0=weights_of(1, 2, 5, 5), layer1=weights_of(1, 2, 3, 3))
    result = attn("show-weights", "w.npz", "--rollout")
    assert result.code == 2
    assert "layer 0 has (N, heads, T_dec, T_enc) = (1, 2, 5, 5), layer 1 (1, 2, 3, 3)" in result.err


def test_a_set_in_the_difference_of_two_files(attn, gaps):
    np.savez("v.npz", **{f"layer{layer}": array / 2 for layer, array in gaps.items()})
    arguments = ("w.npz", "--diff", "v.npz", "--layer", "0,7", "--head", "1", "--json")
    for one in attn("show-weights", *arguments).json["matrices"]:
        expected = gaps[one["layer"]][one["item"], one["head"]] / 2
        np.testing.assert_allclose(one["weights"], expected)
    assert places(attn, *arguments[:-1]) == [(0, 0, 1), (0, 1, 1), (7, 0, 1), (7, 1, 1)]


# Orders of heads


def order_of(out):
    lines = out.splitlines()
    start = next(n for n, line in enumerate(lines) if " head " in f" {line} ")
    place = lines[start].split().index("head")
    return [int(line.split()[place]) for line in lines[start + 1 : lines.index("", start)]]


def test_an_alignment_comes_first_of_those_that_rise(attn, folder):
    heads = weights_of(1, 3, 7, 23)
    heads[0, 1] = 0.01
    heads[0, 1, range(7), range(1, 23, 3)[:7]] = 1
    heads /= heads.sum(-1, keepdims=True)
    np.savez("w.npz", weights=heads)
    for sort in ("monotonic", "diagonal"):
        result = attn("show-weights", "w.npz", "--sort", sort)
        assert (result.code, order_of(result.out)[0], result.err) == (0, 1, "")
        assert "on previous" not in result.out
    shown = attn("show-weights", "w.npz", "--sort", "monotonic", columns=80).out
    assert "under each: monotonic" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 80


def test_a_head_that_looks_at_what_followed_comes_first(attn, folder):
    words = ["<s>", "The", "Ġcat", "Ġsat", "Ġ.", "ĠThe", "Ġcat", "Ġsat"]
    heads = np.tril(weights_of(1, 3, 8, 8))
    heads[0, 2, 5:] = 0
    heads[0, 2, [5, 6, 7], [2, 3, 4]] = 1  # "The" is there with and without its mark
    np.savez("w.npz", weights=heads / heads.sum(-1, keepdims=True), tokens=np.array(words))
    assert order_of(attn("show-weights", "w.npz", "--sort", "induction").out)[0] == 2
    found = attn("show-weights", "w.npz", "--head", "2", "--json").json["matrices"][0]
    assert found["statistics"]["induction"] == 1


@pytest.mark.parametrize(
    ("shape", "words", "sort", "message", "hint"),
    [
        ((5, 7), None, "previous", "rows and keys are two sequences, of (5, 7) steps", "monotonic"),
        ((5, 5), None, "induction", "w.npz has no words, which say", "--tokens FILE"),
        ((5, 5), "abcde", "induction", "no word comes again", "--sort previous"),
        ((5, 5), "aabcd", "induction", "no word comes again", "--sort previous"),
        ((1, 5), None, "monotonic", "one row or one key, of (1, 5)", "--sort entropy"),
    ],
)
def test_no_order_is_one_of_noise(attn, folder, shape, words, sort, message, hint):
    tokens = {} if words is None else {"tokens": np.array(list(words))}
    np.savez("w.npz", weights=weights_of(1, 3, *shape), **tokens)
    result = attn("show-weights", "w.npz", "--sort", sort)
    assert (result.code, result.out) == (2, "")
    assert f"--sort {sort}: w.npz" in result.err
    assert message in result.err
    assert hint in result.err.splitlines()[1]


def test_a_head_for_which_an_order_means_nothing_comes_last(attn, folder):
    np.savez("w.npz", layer0=weights_of(1, 1, 5, 7), layer1=weights_of(1, 2, 5, 5))
    out = attn("show-weights", "w.npz", "--sort", "previous").out
    assert order_of(out) in ([0, 1, 0], [1, 0, 0])
    assert out.splitlines()[-3].split()[7] == "–"


def test_json_has_heads_in_the_order_that_is_asked_for(attn, folder):
    heads = weights_of(1, 3, 5, 5)
    heads[0, 2] = np.eye(5, k=-1)
    heads[0, 2, 0, 0] = 1
    np.savez("w.npz", weights=heads)
    result = attn("show-weights", "w.npz", "--sort", "previous", "--json")
    values = [one["statistics"]["previous"] for one in result.json["matrices"]]
    assert values == sorted(values, reverse=True)
    assert result.json["matrices"][0]["head"] == 2
    result = attn("show-weights", "w.npz", "--sort", "file", "--json")
    assert [one["head"] for one in result.json["matrices"]] == [0, 1, 2]
    refused = attn("show-weights", "w.npz", "--sort", "induction", "--json")
    assert (refused.code, refused.out) == (2, "")


def test_heads_by_name_and_as_the_file_has_them(attn, pruned):
    out = attn("show-weights", "pruned.npz", "--sort", "name").out
    assert "6 heads, sorted by name" in out
    assert order_of(out) == [0, 1, 0, 0, 1, 2]


# Rows and columns by their words


@pytest.fixture
def cats(folder):
    weights = np.tril(weights_of(1, 2, 7, 7))
    words = ["the", "Ġcat", "Ġsaw", "Ġthe", "Ġother", "Ġcat", "Ġ3"]
    np.savez("w.npz", weights=weights / weights.sum(-1, keepdims=True), tokens=np.array(words))
    return weights[0] / weights[0].sum(-1, keepdims=True)


@pytest.mark.parametrize(
    ("words", "places"),
    [
        (["cat"], [1, 5]),
        (["Ġcat"], [1, 5]),
        (["the"], [0, 3]),
        (["Ġthe"], [3]),
        (["cat[5]"], [5]),
        (["Ġcat[1]"], [1]),
        (["saw", "cat"], [1, 2, 5]),
        (["3"], [6]),  # a word before a number
        (["4"], [4]),
        (["0", "other"], [0, 4]),
        (["Ġsaw", "saw"], [2]),
    ],
)
def test_rows_and_columns_are_found_by_words_and_numbers(attn, cats, words, places):
    for option, name, axis in (("--row", "rows", 0), ("--col", "columns", 1)):
        given_words = [text for word in words for text in (option, word)]
        result = attn("show-weights", "w.npz", "--head", 1, *given_words, "--json")
        (one,) = result.json["matrices"]
        assert one[name] == places
        np.testing.assert_allclose(one["weights"], cats[1].take(places, axis))
        assert result.err == ""


def test_a_piece_of_a_word_is_found_with_and_without_its_mark(attn, folder):
    tokens = np.array(["Quil", "##ter", "ter"])
    np.savez("w.npz", weights=weights_of(3, 3), tokens=tokens)
    for word, places in (("##ter", [1]), ("-ter", [1]), ("ter", [1, 2])):
        (one,) = attn("show-weights", "w.npz", "--row", word, "--json").json["matrices"]
        assert one["rows"] == places


def test_who_looks_at_a_word(attn, cats):
    out = attn("show-weights", "w.npz", "--head", "0", "--col", "saw", "--precision", 3).out
    for word, weight in (("saw", cats[0, 2, 2]), ("other", cats[0, 4, 2]), ("3", cats[0, 6, 2])):
        assert [word, f"{weight:.3f}"] in [line.split() for line in out.splitlines()]
    assert "sum" not in out  # of one column it says nothing
    result = attn("show-weights", "w.npz", "--head", "0", "--col", "cat", "--top", 1)
    assert result.out.splitlines()[-2].lstrip().startswith("3 → cat[5] 0.27")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["--col", "dog"], "--col dog: is no encoder token here", None),
        (["--col", "cut"], "--col cut: is no encoder token here", "w.npz --col cat"),
        (["--col", "cat[2]"], "--col cat[2]: is no encoder token here", "w.npz --col cat"),
        (["--col", "cat", "--col", "7"], "--col 7: is no encoder token here", None),
        (["--row", "dog"], "--row dog: is no decoder token here", None),
        (["--col", "cat", "--cols", "1:"], "--col and --cols contradict each other", None),
    ],
)
def test_a_word_that_is_not_there_is_named(attn, cats, arguments, message, hint):
    result = attn("show-weights", "w.npz", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert hint is None or hint in result.err


def test_a_column_of_a_file_without_words(attn, folder):
    weights = weights_of(3, 5)
    np.save("w.npy", weights)
    (one,) = attn("show-weights", "w.npy", "--col", "4", "--col", "0", "--json").json["matrices"]
    assert one["columns"] == [0, 4]
    np.testing.assert_array_equal(one["weights"], weights[:, [0, 4]])
    result = attn("show-weights", "w.npy", "--col", "5")
    assert (result.code, "--col 5: is none of 5 steps" in result.err) == (2, True)


def test_a_column_that_some_items_have(attn, folder):
    tokens = np.array([["a", "cat", "sat"], ["a", "dog", "sat"]])
    np.savez("w.npz", weights=weights_of(2, 3, 3), tokens=tokens)
    result = attn("show-weights", "w.npz", "--col", "cat", "--json")
    assert [one["item"] for one in result.json["matrices"]] == [0]
    assert "1 of 2 matrices have no such column and are left out" in result.err


def test_a_column_goes_into_exports(attn, cats):
    assert attn("show-weights", "w.npz", "--head", 1, "--col", "cat", "--export", "w.csv").code == 0
    with open("w.csv", encoding="utf-8") as file:
        lines = [line.split(",") for line in file.read().splitlines()]
    assert {(line[4], line[5]) for line in lines[1:]} == {("1", "Ġcat"), ("5", "Ġcat")}


# Words out of pieces


PIECES = ["[CLS]", "un", "##bear", "##ably", "slow", "photo", "##copier", "[SEP]"]
MERGED = ["[CLS]", "unbearably", "slow", "photocopier", "[SEP]"]
FIRST = [0, 1, 4, 5, 7]


def merge(weights):
    added = np.add.reduceat(weights, FIRST, axis=-1)
    return np.stack([one.mean(-2) for one in np.split(added, FIRST[1:], axis=-2)], axis=-2)


@pytest.fixture
def pieces(folder):
    layers = [weights_of(1, 2, 8, 8, seed=seed) for seed in (1, 2)]
    arrays = {f"layer{number}": layer for number, layer in enumerate(layers)}
    np.savez("w.npz", **arrays, tokens=np.array(PIECES))
    return [layer[0] for layer in layers]


def test_words_out_of_pieces_whatever_becomes_of_the_heads(attn, pieces):
    first, second = pieces
    for options, expected in (
        (["--layer", 1, "--head", 0], merge(second[0])),
        (["--layer", 0, "--mean", "heads"], merge(first.mean(0))),
        (["--layer", 0, "--max", "heads"], np.maximum(*merge(first))),
        (["--rollout"], merge(
            (second.mean(0) + np.eye(8)) / 2 @ (first.mean(0) + np.eye(8)) / 2
        )),
    ):  # fmt: skip
        arguments = ("show-weights", "w.npz", "--merge-subwords", *options, "--json")
        (one,) = attn(*arguments).json["matrices"]
        assert one["tokens_dec"] == one["tokens_enc"] == MERGED
        np.testing.assert_allclose(one["weights"], expected)
        if "--max" not in options:
            np.testing.assert_allclose(np.sum(one["weights"], axis=1), 1)


def test_words_are_rows_and_columns_like_others(attn, pieces):
    arguments = ("show-weights", "w.npz", "--layer", 1, "--head", 0, "--merge-subwords")
    whole = merge(pieces[1][0])
    for options, rows, columns in (
        (["--row", "unbearably", "--col", "photocopier"], [1], [3]),
        (["--rows", "2:", "--cols", "1:4"], [2, 3, 4], [1, 2, 3]),
        (["--drop-special"], [1, 2, 3], [1, 2, 3]),
    ):
        (one,) = attn(*arguments, *options, "--json").json["matrices"]
        assert (one["rows"], one["columns"]) == (rows, columns)
        np.testing.assert_allclose(one["weights"], whole[np.ix_(rows, columns)])
    out = attn(*arguments, "--top", 1).out
    place = whole[3].argmax()
    assert f"photocopier → {MERGED[place]} {whole[3, place]:.4f}"[:-1] in out
    assert attn(*arguments, "--row", "un").code == 2


def test_words_of_both_sequences_and_of_one(attn, folder):
    weights = weights_of(3, 8)
    np.savez("w.npz", weights=weights, tokens_enc=np.array(PIECES))
    (one,) = attn("show-weights", "w.npz", "--merge-subwords", "--json").json["matrices"]
    assert (one["shape"], one.get("tokens_dec")) == ([3, 5], None)
    np.testing.assert_allclose(one["weights"], np.add.reduceat(weights, FIRST, axis=1))


def test_words_differ_from_item_to_item(attn, folder):
    tokens = np.array([["un", "##do", "it"], ["go", "##es", "##on"]])
    np.savez("w.npz", weights=weights_of(2, 3, 3), tokens=tokens)
    matrices = attn("show-weights", "w.npz", "--merge-subwords", "--json").json["matrices"]
    assert [one["tokens_dec"] for one in matrices] == [["undo", "it"], ["goeson"]]
    assert [one["shape"] for one in matrices] == [[2, 2], [1, 1]]


def test_where_there_is_nothing_to_merge_it_is_said(attn, folder):
    np.savez("plain.npz", weights=weights_of(3, 3), tokens=np.array(["a", "b", "c"]))
    result = attn("show-weights", "plain.npz", "--merge-subwords")
    assert (result.code, "finds no pieces of words to merge" in result.err) == (0, True)
    np.savez("bare.npz", weights=weights_of(3, 3))
    result = attn("show-weights", "bare.npz", "--merge-subwords")
    assert (result.code, result.out) == (2, "")
    assert "--merge-subwords: bare.npz has no words\nhint:  --tokens FILE" in result.err


def test_an_oddity_is_at_the_step_where_it_is(attn, folder):
    weights = weights_of(8, 8)
    weights[3, 0] += 0.5
    np.savez("w.npz", weights=weights, tokens=np.array(PIECES))
    assert "row 3, sums to 1.5" in attn("show-weights", "w.npz", "--merge-subwords").err
    weights[6, 5] = -3
    np.savez("w.npz", weights=weights, tokens=np.array(PIECES))
    result = attn("show-weights", "w.npz", "--merge-subwords", "--row", "photocopier")
    assert "the least, -3, is at [6, 5]" in result.err
    narrow = attn("show-weights", "w.npz", "--merge-subwords", "--col", "photocopier")
    assert "the least, -3, is at [6, 5]" in narrow.err
