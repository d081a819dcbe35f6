"""``attn show-weights``: which weights, which part of them, in which view."""

import json
import re

import numpy as np
import pytest
from conftest import SAMPLES
from crossing import crossed
from rich.cells import cell_len

DATES, PARAPHRASE, HEADS = (
    SAMPLES / f"{name}.npz" for name in ("dates", "paraphrase", "minilm_heads")
)


def weights_of(*shape, seed=0):
    exps = np.exp(np.random.default_rng(seed).normal(size=shape))
    return exps / exps.sum(axis=-1, keepdims=True)


@pytest.fixture
def layers():
    with np.load(HEADS) as model:
        return np.stack([model[f"layer{layer}"][0] for layer in range(6)])


def only(attn, *arguments):
    (matrix,) = attn("show-weights", *arguments, "--json").json["matrices"]
    return matrix, np.array(matrix["weights"])


def test_mean_and_maximum_over_heads_and_layers(attn, layers):
    for options, expected, names in (
        (["--layer", 3, "--mean", "heads"], layers[3].mean(0), (3, "mean")),
        (["--head", 5, "--max", "layers"], layers[:, 5].max(0), ("max", 5)),
        (["--mean", "heads", "--max", "layers"], layers.mean(1).max(0), ("max", "mean")),
        (["--mean", "heads", "--mean", "layers"], layers.mean((0, 1)), ("mean", "mean")),
    ):
        matrix, weights = only(attn, HEADS, *options)
        np.testing.assert_allclose(weights, expected, atol=1e-6)
        assert (matrix["layer"], matrix["head"]) == names


def test_rollout(attn, layers):
    flow = np.eye(15)
    for layer in layers.mean(axis=1, dtype=np.float64):
        mixed = (layer + np.eye(15)) / 2
        flow = mixed / mixed.sum(1, keepdims=True) @ flow
    matrix, weights = only(attn, HEADS, "--rollout")
    np.testing.assert_allclose(weights, flow, atol=1e-6)
    assert (matrix["layer"], matrix["head"]) == ("rollout", "mean")
    assert only(attn, HEADS, "--rollout", "--head", 3)[0]["head"] == 3


@pytest.mark.parametrize(
    ("axes", "order"),
    [
        ("N,heads,dec,enc", (0, 1, 2, 3)),
        ("heads,N,dec,enc", (1, 0, 2, 3)),
        ("N,dec,enc,heads", (0, 2, 3, 1)),
        ("enc,dec,heads,N", (3, 2, 1, 0)),
        ("layers,heads,dec,enc", None),
    ],
)
def test_axes_as_they_are_said(attn, folder, axes, order):
    weights = weights_of(2, 3, 5, 7)
    np.save("w.npy", weights if order is None else weights.transpose(order))
    result = attn("show-weights", "w.npy", "--axes", axes, "--json").json
    names = ("layer", "head") if order is None else ("item", "head")
    for matrix in result["matrices"]:
        expected = weights[tuple(matrix[name] for name in names)]
        np.testing.assert_array_equal(matrix["weights"], expected)
    assert len(result["matrices"]) == 6
    first = axes.split(",")[0]
    assert f"= ({'T_enc' if first == 'enc' else first}," in result["reading"]


def test_axes_of_a_single_steps_weights_as_they_are_said(attn, folder):
    np.savez("a.npz", a=weights_of(2, 3, 5))
    result = attn("show-weights", "a.npz", "--axes", "heads,dec,enc", "--json")
    assert (result.code, result.err) == (0, "")
    assert [(m["head"], m["shape"]) for m in result.json["matrices"]] == [(0, [3, 5]), (1, [3, 5])]


def test_the_books_weights_have_the_decoder_step_first(attn, folder):
    weights = weights_of(4, 3, 7)  # np.array(TimeAttention.attention_weights): (T_dec, N, T_enc)
    np.save("w.npy", weights)
    result = attn("show-weights", "w.npy", "--axes", "dec,N,enc", "--item", 2, "--json").json
    np.testing.assert_array_equal(result["matrices"][0]["weights"], weights[:, 2])


def test_rows_columns_and_tokens(attn):
    whole = only(attn, PARAPHRASE, "--item", 0)[1]
    matrix, part = only(attn, PARAPHRASE, "--item", 0, "--rows", "2:5", "--cols", "-3:")
    np.testing.assert_array_equal(part, whole[2:5, -3:])
    assert (matrix["rows"], matrix["columns"]) == ([2, 3, 4], [9, 10, 11])
    assert matrix["tokens_dec"] == ["aged", "timber", "seat"]
    matrix, part = only(attn, PARAPHRASE, "--item", 0, "--row", "kitten", "--row", "12")
    np.testing.assert_array_equal(part, whole[[8, 12]])
    assert matrix["tokens_dec"] == ["kitten", "[SEP]"]
    assert only(attn, PARAPHRASE, "--item", 0, "--rows", "3")[0]["rows"] == [3]


def test_a_row_is_found_however_its_accent_is_written(attn, folder):
    np.savez("w.npz", weights=weights_of(2, 3), tokens_dec=np.array(["cafe\u0301", "\u00e9"]))
    for text, row in (("caf\u00e9", 0), ("cafe\u0301", 0), ("e\u0301", 1)):
        assert only(attn, "w.npz", "--row", text)[0]["rows"] == [row]


def test_dropping_special_padding_and_sink(attn):
    whole, weights = only(attn, PARAPHRASE, "--item", 0)
    special = [token.startswith("[") for token in whole["tokens_enc"]]
    matrix, part = only(attn, PARAPHRASE, "--item", 0, "--drop-special")
    assert "[CLS]" not in matrix["tokens_enc"] + matrix["tokens_dec"]
    keep = [not token.startswith("[") for token in whole["tokens_dec"]]
    np.testing.assert_array_equal(part, weights[keep][:, ~np.array(special)])
    matrix, _ = only(attn, PARAPHRASE, "--item", 0, "--drop-pad")
    assert "[CLS]" in matrix["tokens_dec"]
    assert "[PAD]" not in matrix["tokens_dec"]
    matrix, part = only(attn, PARAPHRASE, "--item", 0, "--drop-sink", "--renormalise", "--drop-pad")
    assert matrix["columns"] == [*range(1, 12)]
    np.testing.assert_allclose(part.sum(axis=1), 1, atol=1e-6)


def test_dropping_where_one_axis_has_tokens(attn, folder):
    tokens, weights = np.array(["[CLS]", "a", "b", "[SEP]", "[PAD]"]), weights_of(4, 5)
    np.savez("enc.npz", weights=weights, tokens_enc=tokens)
    np.savez("dec.npz", weights=weights.T, tokens_dec=tokens)
    np.savez("self.npz", weights=weights_of(5, 5), tokens=tokens)
    for file, rows, columns in (
        ("enc.npz", [0, 1, 2, 3], [1, 2]),
        ("dec.npz", [1, 2], [0, 1, 2, 3]),
        ("self.npz", [1, 2], [1, 2]),
    ):
        matrix, _ = only(attn, file, "--drop-special")
        assert (matrix["rows"], matrix["columns"]) == (rows, columns)


def test_a_row_that_some_items_have_in_a_difference(attn):
    result = attn("show-weights", PARAPHRASE, "--diff", PARAPHRASE, "--row", "kitten", "--json")
    assert (result.code, len(result.json["matrices"])) == (0, 1)


def test_the_difference_of_two_files(attn, folder):
    ours, theirs = weights_of(2, 3, 5), weights_of(2, 3, 5, seed=1)
    np.save("a.npy", ours)
    np.save("b.npy", theirs)
    result = attn("show-weights", "a.npy", "--diff", "b.npy", "--json").json
    assert result["minus"] == "b.npy"
    np.testing.assert_array_equal([m["weights"] for m in result["matrices"]], ours - theirs)
    assert "statistics" not in result["matrices"][0]
    drawn = attn("show-weights", "a.npy", "--diff", "b.npy", columns=80).out
    assert drawn.startswith("a.npy − b.npy")
    assert "sum" not in drawn
    cells = attn("show-weights", "a.npy", "--diff", "b.npy", "--view", "cells", columns=80).out
    assert "≣≡=- ░▒▓█" in cells
    assert "no difference" in attn("show-weights", "a.npy", "--diff", "a.npy").out


def test_thresholds(attn, folder):
    np.savez(
        "w.npz", weights=np.array([[0.6, 0.3, 0.1], [0.4, 0.35, 0.25]]), tokens_enc=list("abc")
    )
    listed = attn("show-weights", "w.npz", "--threshold", 0.3, columns=80).out.splitlines()
    assert listed[2:4] == ["0 → a 0.60, b 0.30", "1 → a 0.40, b 0.35"]
    none = attn("show-weights", "w.npz", "--threshold", 0.5, "--top", 2, columns=80).out
    assert "1 → nothing from 0.5" in none
    drawn = attn("show-weights", "w.npz", "--threshold", 0.3, "--view", "table", columns=80).out
    assert "0.60  0.30  0.00" in drawn
    assert "weights below 0.3 are shown as 0" in drawn
    (matrix,) = attn("show-weights", "w.npz", "--threshold", 0.3, "--json").json["matrices"]
    assert matrix["strongest"] == [[0, 1], [0, 1]]
    assert attn("show-weights", "w.npz", "--view", "list", columns=80).out.count(",") >= 4


def test_a_list_leaves_nothing_out_when_piped_and_says_so_on_a_terminal(attn, folder):
    weights = np.array([[0.4, 0.3, 0.0, 0.2, 0.1], [0.0, 0.0, 0.0, 0.0, 1.0]])
    np.savez("w.npz", weights=weights, tokens_enc=list("abcde"))
    piped = attn("show-weights", "w.npz", "--view", "list").out.splitlines()
    assert piped[2:4] == ["0 → a 0.4, b 0.3, d 0.2, e 0.1", "1 → e 1.0"]
    shown = attn("show-weights", "w.npz", "--view", "list", columns=80).out.splitlines()
    assert shown[2] == "0 → a 0.40, b 0.30, d 0.20"
    assert shown[-1] == "the 3 strongest of 5 keys; --top K lists K"
    asked = attn("show-weights", "w.npz", "--view", "list", "--top", 2, columns=80).out
    assert "strongest of" not in asked
    matrix, values = only(attn, "w.npz", "--view", "list")
    assert matrix["strongest"] == [[0, 1, 3, 4, 2], [4, 0, 1, 2, 3]]
    np.testing.assert_array_equal(values, -np.sort(-weights))


@pytest.mark.parametrize(
    **crossed(
        view=["table", "cells", "heatmap", "list"],
        columns=[20, 40, 80, 200],
        colors={"plain": None, "truecolor": "truecolor", "few": ""},
    )
)
def test_every_view_fits_every_terminal(attn, folder, view, columns, colors, monkeypatch):
    tokens = [*"abc", "日本語", "a long token of this", "[/INST]", ":heart:", "\x1b[31m", "\u202e"]
    np.savez("w.npz", weights=weights_of(2, 70, 90), tokens_enc=np.array(tokens * 10))
    options = ["--head", 0, "--axes", "heads,dec,enc", "--view", view, "--color", "always"]
    options = options[:-2] if colors is None else options
    result = attn("show-weights", "w.npz", *options, columns=columns, colors=colors)
    assert result.code == 0
    assert "\x1b[31m" not in result.out
    assert "\u202e" not in result.out
    lines = re.sub(r"\x1b\[[\d;]*m", "", result.out).splitlines()
    assert max(map(cell_len, lines)) <= columns


def test_a_heatmap_is_one_screen_and_says_its_factor(attn, folder):
    np.save("w.npy", np.eye(300))
    for colors in (None, "truecolor"):
        out = attn("show-weights", "w.npy", columns=80, colors=colors).out
        assert len(out.splitlines()) <= 24
        assert "the maximum of" in out
    assert "× 4 weights" in out
    assert "the mean of" in attn("show-weights", "w.npy", "--pool", "mean", columns=80).out


def test_pieces_of_words_and_raw_tokens(attn, folder):
    tokens = np.array(["Hello", "Ġworld", "s", "[/INST]"])
    np.savez("w.npz", weights=np.eye(4), tokens=tokens)
    shown = attn("show-weights", "w.npz", columns=80).out
    assert "world" in shown
    assert "-s" in shown
    assert "Ġ" not in shown
    assert "Ġworld" in attn("show-weights", "w.npz", "--raw-tokens", columns=80).out
    assert "Ġworld" in attn("show-weights", "w.npz", "--json").out.encode().decode("unicode_escape")
    assert attn("show-weights", "w.npz", "--row", "world", "--json").code == 0


@pytest.mark.parametrize("shade", ["linear", "log", "row"])
def test_the_legend_says_which_scale(attn, shade):
    out = attn("show-weights", DATES, "--item", 0, "--shade", shade, columns=80).out
    expected = {"linear": "0  ░▒▓█ 1.00  1", "log": "1.00 log", "row": "the row's largest"}
    assert expected[shade] in out


def test_sorting_heads(attn, layers):
    out = attn("show-weights", HEADS, "--sort", "previous").out.splitlines()
    header = next(n for n, line in enumerate(out) if line.startswith("layer"))
    first = out[header + 1].split()
    assert [int(x) for x in first[:3]] == [0, 0, 2]
    file = attn("show-weights", HEADS, "--sort", "file").out.splitlines()
    assert [line.split()[:3] for line in file[header + 1 : header + 3]] == [
        ["0", "0", "0"],
        ["0", "0", "1"],
    ]
    items = attn("show-weights", DATES, "--sort", "max", columns=80).out
    assert "on previous" not in items  # which means nothing between two sequences
    assert "4 items, sorted by max" in items
    assert "shaded by its item's largest" in items


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([HEADS, "--mean", "heads", "--max", "heads"], "--mean and --max of heads contradict"),
        ([HEADS, "--mean", "heads", "--head", 1], "--mean heads and --head 1 contradict"),
        ([HEADS, "--max", "layers", "--layer", 1], "--max layers and --layer 1 contradict"),
        ([HEADS, "--rollout", "--max", "heads"], "--rollout goes through layers and heads"),
        ([HEADS, "--top", 2, "--view", "cells"], "--top makes a list: not with --view cells"),
        ([HEADS, "--diff", HEADS, "--shade", "log"], "--diff has a scale of its own"),
        ([HEADS, "--sort", "max", "--top", 1], "--sort gives an overview of heads: not with --top"),
        ([HEADS, "--row", "a", "--rows", "1:2"], "--row and --rows contradict"),
        ([DATES, "--mean", "layers"], "--mean layers: {} has one layer"),
        ([DATES, "--rollout"], "--rollout: {} has one layer"),
        ([DATES, "--axes", "N,dec,enc"], "--axes has no meaning for {}"),
        ([HEADS, "--axes", "N,dec,enc"], "--axes names 3, N, T_dec, T_enc"),
        ([HEADS, "--axes", "layers,heads,dec,enc"], "is one layer, and cannot have an axis"),
        ([HEADS, "--axes", "N,N,dec,enc"], "is not a list such as N,heads,dec,enc"),
        ([HEADS, "--rows", "a:b"], "'a:b' is not a range such as 3:8"),
        ([HEADS, "--rows", "20:30"], "--rows 20:30 leaves nothing: there are 15, 0 to 14"),
        ([HEADS, "--row", "animl"], "--row animl: is no decoder token here"),
        (["w.npy", "--row", "9"], "--row 9: is none of 5 steps"),
        (["w.npy", "--drop-pad"], "--drop-pad: w.npy has no words, no attention_mask and no"),
        (
            [HEADS, "--diff", DATES],
            f"{HEADS} has 72 matrices, {DATES} 4: layers differs (6 and 1), N differs (1 and 4)",
        ),
        (
            ["w.npy", "--diff", "v.npy"],
            "w.npy is (5, 7), v.npy (5, 6): T_enc differs (7 and 6)",
        ),
        (
            ["two.npy", "--diff", "three.npy", "--axes", "N,dec,enc"],
            "two.npy item 0 is (5, 7), three.npy item 0 (3, 6): "
            "T_dec differs (5 and 3) and T_enc differs (7 and 6)",
        ),
        (
            ["odd.npz", "--diff", "even.npz"],
            "odd.npz has 2 matrices, even.npz 2: layers differs (1, 3 and 0, 2)",
        ),
        (["deep.npy"], "(3, 1, 2, 2, 5, 7), expected (T_dec, T_enc), (N, T_dec, T_enc), (N"),
        (["pads.npz", "--drop-pad"], "nothing is left of T_dec: 5 steps, all left out"),
        (["twos.npz", "--mean", "layers"], "= (1, 2, 5, 5), layer 1 (1, 3, 5, 5): they"),
        (["sizes.npz", "--mean", "layers"], "= (1, 2, 5, 5), layer 1 (1, 2, 3, 3): they"),
    ],
)
def test_bad_input(attn, folder, arguments, message):
    np.save("w.npy", weights_of(5, 7))
    np.save("v.npy", weights_of(5, 6))
    np.save("two.npy", weights_of(2, 5, 7))
    np.save("three.npy", weights_of(2, 3, 6))
    for name, first in (("odd", 1), ("even", 0)):
        layers = {f"layer{layer}": weights_of(1, 1, 3, 3) for layer in (first, first + 2)}
        np.savez(f"{name}.npz", **layers)
    np.save("deep.npy", weights_of(3, 1, 2, 2, 5, 7))
    np.savez("pads.npz", weights=weights_of(5, 5), tokens=np.array(["[PAD]"] * 5))
    np.savez("twos.npz", layer0=weights_of(1, 2, 5, 5), layer1=weights_of(1, 3, 5, 5))
    np.savez("sizes.npz", layer0=weights_of(1, 2, 5, 5), layer1=weights_of(1, 2, 3, 3))
    result = attn("show-weights", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message.format(arguments[0]) in result.err.splitlines()[0]


def test_five_axes_are_a_stack_of_layers(attn, folder):
    stack = weights_of(2, 3, 5, 7, 11)
    np.save("stack.npy", stack)
    found = attn("show-weights", "stack.npy", "--layer", 1, "--item", 2, "--head", 3, "--json").json
    assert found["reading"] == "weights (2, 3, 5, 7, 11) = (layers, N, heads, T_dec, T_enc)"
    np.testing.assert_array_equal(found["matrices"][0]["weights"], stack[1, 2, 3])


def test_hints_say_how_to_go_on(attn, folder):
    np.save("deep.npy", weights_of(3, 1, 2, 2, 5, 7))
    assert "--axes frames,layers,N,heads,dec,enc" in attn("show-weights", "deep.npy").err
    axes = "frames,layers,N,heads,dec,enc"
    done = attn("show-weights", "deep.npy", "--axes", axes, "--json")
    assert len(done.json["matrices"]) == 4
    assert "--row animal" in attn("show-weights", HEADS, "--row", "animl").err


def test_more_heads_than_pictures_are_a_map_of_their_numbers(attn, folder):
    np.save("w.npy", weights_of(24, 18, 3, 3))  # 432 heads
    axes = ["--axes", "layers,heads,dec,enc"]
    lines = attn("show-weights", "w.npy", *axes, columns=80).out.splitlines()
    assert len([line for line in lines if line.startswith((" layer 0", "layer 23"))]) == 2
    assert any("1 cell = the entropy of 1 head" in line for line in lines)
    assert "more heads not shown" in " ".join(lines)
    assert len(lines) <= 2 * 24
    assert (
        "dead rows of 1 head"
        in attn("show-weights", "w.npy", *axes, "--sort", "dead", columns=80).out
    )


@pytest.mark.parametrize(
    "options", [["--json"], ["--view", "heatmap"], ["--sort", "max"], ["--top", 3], ["--top", 20]]
)
@pytest.mark.parametrize("shade", ["linear", "log", "row"])
def test_what_is_not_finite_is_shown_on_request(attn, folder, options, shade):
    weights = weights_of(30, 30)
    weights[3, 4], weights[5, 5], weights[5, 6] = np.nan, np.inf, -np.inf
    np.save("w.npy", weights)
    files = [f"{shade}.{ending}" for ending in ("svg", "html", "csv", "json")]
    exports = [text for file in files for text in ("--export", file)]
    result = attn(
        "show-weights", "w.npy", "--allow-nonfinite", "--shade", shade, *options, *exports
    )
    assert result.code == 0
    assert "2 rows do not sum to 1" in result.err
    assert "RuntimeWarning" not in result.err
    assert "#ff00ff" in (folder / f"{shade}.svg").read_text(encoding="utf-8")


def test_the_mean_of_a_block_in_every_picture(attn, folder):
    np.save("w.npy", np.eye(500))
    attn("show-weights", "w.npy", "--pool", "mean", "-q", "--export", "x.svg")
    assert "the mean of 3 × 3 weights" in (folder / "x.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("how", ["max", "mean"])
def test_small_pictures_say_what_a_cell_stands_for(attn, folder, how):
    np.save("w.npy", np.broadcast_to(np.eye(100), (14, 100, 100)))
    options = ["--axes", "heads,dec,enc", "--pool", how, "--export", "x.svg"]
    out = attn("show-weights", "w.npy", *options, columns=80).out
    word = {"max": "maximum", "mean": "mean"}[how]
    # 80 columns have room for pictures of 5 by 3 cells.
    assert f"1 cell = the {word} of 34 × 20 weights" in " ".join(out.split())
    small = (folder / "x.svg").read_text(encoding="utf-8")
    assert f"1 cell = the {word} of 3 × 3 weights" in small
    np.save("v.npy", np.broadcast_to(np.eye(3), (14, 3, 3)))
    tiny = attn("show-weights", "v.npy", *options[:-2], columns=80).out
    assert "1 cell = 1 weight, shaded by" in tiny


def test_small_pictures_say_what_is_not_finite(attn, folder):
    weights = np.broadcast_to(np.eye(4), (14, 4, 4)).copy()
    weights[3, 1, 2] = np.nan
    np.save("w.npy", weights)
    options = ["--axes", "heads,dec,enc", "--allow-nonfinite", "--export", "x.svg"]
    assert "? not finite" in attn("show-weights", "w.npy", *options, columns=200).out
    assert "magenta: not finite" in (folder / "x.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["states", "queries"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"causal": "upper_left"},
        {"causal": "lower_right", "window": 2},
        {"window": 1, "softcap": 3.0, "scale": 0.7},
    ],
)
@pytest.mark.parametrize("masked", ["", "bool", "float", "enc", "dec"])
def test_some_rows_of_computed_weights_are_those_of_the_whole(attn, folder, kind, options, masked):
    rng = np.random.default_rng(0)
    if kind == "states":
        arrays = {"hs_dec": rng.normal(size=(2, 6, 4)), "hs_enc": rng.normal(size=(2, 9, 4))}
    else:
        arrays = {"query": rng.normal(size=(2, 6, 4)), "key": rng.normal(size=(2, 9, 4))}
    grid = rng.random((2, 6, 9)) > 0.3
    arrays |= {
        "bool": {"mask": grid},
        "float": {"mask": np.where(grid, 0.5, -np.inf)},
        "enc": {"enc_mask": rng.random((2, 9)) > 0.3},
        "dec": {"dec_mask": np.array([[True] * 5 + [False], [False] + [True] * 5])},
    }.get(masked, {})
    np.savez("x.npz", **arrays, options=np.array(json.dumps(options)))
    whole = attn("show-weights", "x.npz", "--json").json["matrices"]
    for some, rows in ((["--rows", "1:4"], [1, 2, 3]), (["--row", 0, "--row", 5], [0, 5])):
        parts = attn("show-weights", "x.npz", "--json", *some).json["matrices"]
        for one, part in zip(whole, parts, strict=True):
            assert part["rows"] == rows
            np.testing.assert_allclose(part["weights"], np.array(one["weights"])[rows], rtol=1e-12)


@pytest.mark.parametrize("names", [("hs_dec", "hs_enc"), ("query", "key")])
def test_no_more_rows_are_computed_than_shown(attn, folder, names):
    states = np.random.default_rng(0).normal(size=(1, 3000, 2))
    np.savez("x.npz", **dict.fromkeys(names, states))
    limit = ("--max-memory", "20MB")
    assert "would take" in attn("show-weights", "x.npz", *limit).err
    result = attn("show-weights", "x.npz", "--rows", "2990:2993", "--view", "heatmap", *limit)
    assert (result.code, result.err) == (0, "")


def test_a_threshold_goes_by_the_size_of_a_difference(attn, folder):
    np.savez("a.npz", weights=np.array([[0.5, 0.1, 0.4]]), tokens_enc=list("abc"))
    np.savez("b.npz", weights=np.array([[0.1, 0.6, 0.3]]), tokens_enc=list("abc"))
    options = ("a.npz", "--diff", "b.npz", "--threshold", 0.4)
    listed = attn("show-weights", *options, columns=80).out.splitlines()
    assert listed[2] == "0 → b -0.50, a 0.40"
    (matrix,) = attn("show-weights", *options, "--json").json["matrices"]
    assert matrix["strongest"] == [[1, 0]]
    drawn = attn("show-weights", *options, "--view", "table", columns=80).out
    assert "0.40  -0.50   0.00" in drawn
    none = attn("show-weights", "a.npz", "--diff", "b.npz", "--threshold", 0.6, columns=80).out
    assert "0 → nothing from 0.6" in none


FLAT, DIAGONAL, FIRST = np.full((5, 5), 0.2), np.eye(5), np.eye(5)[[0] * 5]
PREVIOUS = np.eye(5)[[0, 0, 1, 2, 3]]


def flattened(weights):
    return 0.75 * weights + 0.25 * FLAT


def dead_rows(count):
    return np.where(np.arange(5)[:, None] < count, 0, FLAT)


@pytest.mark.parametrize(
    ("by", "heads", "order"),
    [
        ("entropy", [FLAT, DIAGONAL, flattened(DIAGONAL)], [1, 2, 0]),
        ("max", [FLAT, flattened(DIAGONAL), DIAGONAL], [2, 1, 0]),
        ("first", [flattened(FIRST), FLAT, FIRST], [2, 0, 1]),
        ("diagonal", [flattened(DIAGONAL), FLAT, DIAGONAL], [2, 0, 1]),
        ("previous", [flattened(PREVIOUS), FLAT, PREVIOUS], [2, 0, 1]),
        ("dead", [dead_rows(1), dead_rows(0), dead_rows(3)], [2, 0, 1]),
        ("file", [FLAT, DIAGONAL, flattened(DIAGONAL)], [0, 1, 2]),
    ],
)
def test_heads_come_in_the_order_of_what_stands_out(attn, folder, by, heads, order):
    np.save("w.npy", np.stack(heads))
    out = attn("show-weights", "w.npy", "--axes", "heads,dec,enc", "--sort", by).out.splitlines()
    start = next(n for n, line in enumerate(out) if line.lstrip().startswith("head "))
    assert [int(line.split()[0]) for line in out[start + 1 : start + 4]] == order


@pytest.mark.parametrize("number", [-1, -2, -3, 2, 3])
@pytest.mark.parametrize("axis", ["item", "head", "layer"])
def test_no_item_head_or_layer_is_counted_from_the_end(attn, folder, axis, number):
    np.savez("w.npz", layer0=weights_of(2, 2, 3, 5), layer1=weights_of(2, 2, 3, 5))
    result = attn("show-weights", "w.npz", f"--{axis}", number)
    assert (result.code, result.out) == (2, "")
    message = f"error: --{axis} {number}: w.npz has no such {axis}; there "
    assert result.err.startswith(message)
    assert attn("show-weights", "w.npz", f"--{axis}", 1, "--json").code == 0


@pytest.mark.parametrize(
    ("span", "steps"),
    [
        ("-1", [6]),
        ("-3", [4]),
        ("-3:", [4, 5, 6]),
        ("-3:-1", [4, 5]),
        (":-5", [0, 1]),
        ("-7:1", [0]),
        ("-99:2", [0, 1]),
        ("5:99", [5, 6]),
    ],
)
def test_rows_and_columns_are_counted_from_the_end(attn, folder, span, steps):
    weights = weights_of(7, 7)
    np.save("w.npy", weights)
    matrix, part = only(attn, "w.npy", f"--rows={span}")
    assert matrix["rows"] == steps
    np.testing.assert_array_equal(part, weights[steps])
    matrix, part = only(attn, "w.npy", f"--cols={span}")
    assert matrix["columns"] == steps
    np.testing.assert_array_equal(part, weights[:, steps])


@pytest.mark.parametrize("span", ["-8", "7", "-2:-3", "-99:-8", "3:3"])
@pytest.mark.parametrize("option", ["--rows", "--cols"])
def test_a_span_of_nothing_is_refused(attn, folder, option, span):
    np.save("w.npy", weights_of(7, 7))
    result = attn("show-weights", "w.npy", f"{option}={span}")
    assert (result.code, result.out) == (2, "")
    assert f"{option} " in result.err
    assert " leaves nothing: there are 7, 0 to 6" in result.err


def test_a_row_by_its_number_is_not_counted_from_the_end(attn, folder):
    np.save("w.npy", weights_of(7, 7))
    result = attn("show-weights", "w.npy", "--row=-1")
    assert (result.code, result.out) == (2, "")
    assert "--row -1: is none of 7 steps" in result.err


def test_layers_come_in_the_order_of_their_numbers(attn, folder):
    np.savez("x.npz", layer10=weights_of(3, 3), layer9=weights_of(3, 3), layer2=weights_of(3, 3))
    matrices = attn("show-weights", "x.npz", "--json").json["matrices"]
    assert [matrix["layer"] for matrix in matrices] == [2, 9, 10]


def test_a_difference_is_not_rounded_to_the_precision_of_the_files(attn, folder):
    a, b = (np.array([[x, 1 - x]], np.float16) for x in (0.7, 0.0003))
    np.save("a.npy", a)
    np.save("b.npy", b)
    (matrix,) = attn("show-weights", "a.npy", "--diff", "b.npy", "--json").json["matrices"]
    assert matrix["weights"] == (a.astype(float) - b).tolist()
    assert matrix["weights"] != (a - b).tolist()
