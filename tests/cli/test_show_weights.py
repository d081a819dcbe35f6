"""``attn show-weights``."""

import numpy as np
import pytest
from conftest import SAMPLES

DATES, PARAPHRASE, HEADS, QKV = (
    SAMPLES / f"{name}.npz" for name in ("dates", "paraphrase", "minilm_heads", "minilm_qkv")
)


def weights_of(*shape, seed=0):
    scores = np.random.default_rng(seed).normal(size=shape)
    exps = np.exp(scores)
    return exps / exps.sum(axis=-1, keepdims=True)


def test_weights_computed_from_states(attn):
    result = attn("show-weights", PARAPHRASE, "--item", 0, "--top", 1, columns=80)
    assert (result.code, result.err) == (0, "")
    assert "kitten → cat 1.00" in result.out
    assert "timber → wooden 1.00" in result.out


def test_weights_of_a_run(attn, folder):
    attn("forward", "--N", 2, "--T", 3, "--T-enc", 7, "-o", "run.npz", "-q")
    result = attn("show-weights", "run.npz", "--json")
    stored = np.load("run.npz")["weights"]
    assert [matrix["item"] for matrix in result.json["matrices"]] == [0, 1]
    for matrix, weights in zip(result.json["matrices"], stored, strict=True):
        np.testing.assert_array_equal(matrix["weights"], weights)


def test_weights_from_queries_and_keys_are_the_models_own(attn, folder):
    with np.load(QKV) as model:
        np.savez("qk.npz", query=model["query"], key=model["key"], tokens=model["tokens"])
        expected = model["weights"]
    result = attn("show-weights", "qk.npz", "--head", 5, "--json")
    (matrix,) = result.json["matrices"]
    np.testing.assert_allclose(matrix["weights"], expected[0, 5], atol=1e-6)
    assert "computed from query and key" in result.json["reading"]


def test_grouped_queries_share_a_key_head(attn, folder):
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(1, 6, 3, 5)), rng.normal(size=(1, 2, 7, 5))
    np.savez("x.npz", query=query, key=key, enc_mask=np.arange(7)[None] < 5)
    (matrix,) = attn("show-weights", "x.npz", "--head", 4, "--json").json["matrices"]
    scores = query[0, 4] @ key[0, 1, :5].T / np.sqrt(5)
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.array(matrix["weights"])[:, :5], expected, rtol=1e-12)
    assert (np.array(matrix["weights"])[:, 5:] == 0).all()


def test_layers_as_transformer_libraries_dump_them(attn):
    result = attn("show-weights", HEADS, "--layer", 3, "--head", 5, "--json")
    (matrix,) = result.json["matrices"]
    assert (matrix["layer"], matrix["item"], matrix["head"]) == (3, 0, 5)
    with np.load(HEADS) as model:
        np.testing.assert_array_equal(matrix["weights"], model["layer3"][0, 5])
        assert matrix["tokens_enc"] == model["tokens"].tolist()


def test_many_heads_open_as_a_table_of_them(attn):
    result = attn("show-weights", HEADS, columns=100)
    lines = result.out.splitlines()
    header = lines.index(
        "layer  head  entropy   max  on first  on diagonal  on previous  dead rows"
    )
    assert len(lines) <= 2 * 24  # two screens
    listed = len(lines) - header - 4
    assert lines[-2].startswith(f"{72 - listed} more heads not shown: --sort entropy --full lists")
    assert [line for line in lines if line.startswith("layer 3")]  # the grid
    everything = attn("show-weights", HEADS, "--sort", "entropy", "--full", columns=100).out
    piped = attn("show-weights", HEADS).out
    for out in (everything, piped):
        (start,) = [n for n, line in enumerate(out.splitlines()) if " dead rows" in line]
        assert len(out.splitlines()) == start + 1 + 72 + 2


def test_single_step_weights(attn, folder):
    attn("forward", "--layer", "attention-weight", "-o", "run.npz", "-q")
    result = attn("show-weights", "run.npz", "--json")
    assert [matrix["shape"] for matrix in result.json["matrices"]] == [[1, 5]] * 3


@pytest.mark.parametrize(
    ("shape", "reading", "matrices"),
    [
        ((3, 5), "(3, 5) = (T_dec, T_enc)", 1),
        ((2, 3, 5), "(2, 3, 5) = (N, T_dec, T_enc)", 2),
        ((2, 2, 3, 5), "(2, 2, 3, 5) = (N, heads, T_dec, T_enc)", 4),
    ],
)
def test_how_the_axes_were_read_is_said(attn, folder, shape, reading, matrices):
    np.save("w.npy", weights_of(*shape))
    result = attn("show-weights", "w.npy", "--json")
    assert reading in result.json["reading"]
    assert len(result.json["matrices"]) == matrices
    assert reading in attn("show-weights", "w.npy").out.splitlines()[0]


def test_piped_table_has_every_digit_and_the_row_sums(attn, folder):
    weights = weights_of(3, 40)
    np.save("w.npy", weights)
    out = attn("show-weights", "w.npy").out
    for number in weights.ravel():
        assert str(number) in out
    assert out.splitlines()[2].split()[-1] == "sum"


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
@pytest.mark.parametrize("file", [DATES, PARAPHRASE], ids=["dates", "paraphrase"])
def test_every_line_fits_the_terminal(attn, columns, file):
    from rich.cells import cell_len

    result = attn("show-weights", file, columns=columns)
    assert result.code == 0
    assert max(map(cell_len, result.out.splitlines())) <= columns


def test_no_row_or_column_is_lost_on_a_narrow_terminal(attn, folder):
    np.save("w.npy", np.eye(100))
    out = attn("show-weights", "w.npy", "--view", "cells", columns=40).out
    assert sum(line.count("█") for line in out.splitlines() if line[:3].strip().isdigit()) == 100
    assert "of 100" in out


def test_rows_beyond_what_a_terminal_takes_are_said(attn, folder):
    np.save("w.npy", np.full((2000, 2), 0.5))
    shown = attn("show-weights", "w.npy", "--view", "table", columns=80).out
    assert "1500 more rows not shown; --full shows all" in shown
    assert len(attn("show-weights", "w.npy", "--full", columns=80).out.splitlines()) > 2000
    assert len(attn("show-weights", "w.npy").out.splitlines()) > 2000  # a pipe takes all


def test_colour_by_what_the_terminal_can(attn):
    arguments = ("show-weights", PARAPHRASE, "--item", 1)
    assert "\x1b[" in attn(*arguments, columns=120, colors="truecolor").out
    assert "\x1b[" not in attn(*arguments, columns=120).out
    assert "\x1b[" not in attn(*arguments).out
    assert "\x1b[" in attn(*arguments, "--color", "always").out
    never = attn(*arguments, "--color", "never", columns=120, colors="truecolor")
    assert "\x1b[" not in never.out


def test_no_color_is_honoured(attn, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    out = attn("show-weights", PARAPHRASE, columns=120, colors="truecolor").out
    assert "\x1b[" not in out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_poor_encodings_degrade(attn, folder, encoding):
    np.savez("x.npz", weights=np.eye(3), tokens=np.array(["日本", "é", "a"]))
    result = attn("show-weights", "x.npz", columns=80, encoding=encoding)
    assert result.code == 0
    assert "\\u65e5\\u672c" in result.out
    assert attn("show-weights", "x.npz", columns=20, encoding=encoding).code == 0


def test_precision(attn):
    out = attn("show-weights", PARAPHRASE, "--item", 1, "--precision", 3, columns=200).out
    assert " 0.434 " in out


def test_long_tokens_are_short_on_screen_and_whole_in_json(attn, folder):
    token = "antidisestablishmentarianism"
    np.savez("x.npz", weights=np.eye(2), tokens=np.array([token, "a"]))
    assert token not in attn("show-weights", "x.npz", columns=60).out
    assert "…" in attn("show-weights", "x.npz", columns=60).out
    assert attn("show-weights", "x.npz", "--json").json["matrices"][0]["tokens_enc"][0] == token


def test_odd_weights_are_shown_with_a_warning(attn, folder):
    np.save("w.npy", np.array([[0.5, 0.5], [0.9, 0.3], [1.5, -0.5]]))
    result = attn("show-weights", "w.npy")
    assert result.code == 0
    assert "1 row does not sum to 1: the worst, row 1, sums to 1.2" in result.err
    assert "weights are negative: the least, -0.5, is at [2, 1]" in result.err


def test_a_masked_row_is_not_odd(attn, folder):
    np.save("w.npy", np.array([[0.5, 0.5], [0.0, 0.0]]))
    assert attn("show-weights", "w.npy").err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([DATES, "--item", "4"], "--item 4: {} has no such item; there are 4, 0 to 3"),
        ([DATES, "--head", "1"], "--head 1: {} has no such head; there is only 0"),
        ([HEADS, "--layer", "9"], "--layer 9: {} has no such layer; there are 6, 0 to 5"),
        ([DATES, "--top", "0"], "'--top': 0, expected a whole number, 1 or more"),
        (["nothing.npz"], "nothing.npz: no weights: expected weights, layer0 …"),
        (["six.npz"], "expected (T_dec, T_enc), (N, T_dec, T_enc), (N, heads, T_dec, T_enc) or"),
        (["tokens.npz"], "tokens.npz: tokens_enc is (5,), expected one token a step"),
        (["nan.npz"], "weights[0] holds 1 non-finite value, the first (nan) at [1, 1]"),
        (["text.npz"], "text.npz: weights is <U1 (text), expected real numbers"),
        (["heads.npz"], "query has 3 heads, key has 2: expected a divisor"),
    ],
)
def test_bad_input(attn, folder, arguments, message):
    nan = np.eye(2)[None].copy()
    nan[0, 1, 1] = np.nan
    np.savez("nothing.npz", x=np.ones(3))
    np.savez("six.npz", weights=np.ones((1, 1, 1, 1, 2, 2)))
    np.savez("tokens.npz", weights=np.full((3, 3), 1 / 3), tokens_enc=np.array(list("abcde")))
    np.savez("nan.npz", weights=nan)
    np.savez("text.npz", weights=np.array([["a"]]))
    np.savez("heads.npz", query=np.ones((1, 3, 2, 4)), key=np.ones((1, 2, 2, 4)))
    result = attn("show-weights", *arguments)
    assert result.code == 2
    assert message.format(arguments[0]) in result.err.splitlines()[0]


def test_nothing_in_the_batch(attn, folder):
    np.save("w.npy", np.zeros((0, 2, 3)))
    result = attn("show-weights", "w.npy")
    assert result.code == 0
    assert "no weights: N is 0" in result.err


def test_only_the_chosen_head_is_read(attn, folder):
    """A mapped file larger than the limit is no problem; the same, computed whole, would be."""
    np.save("w.npy", np.broadcast_to(np.full((64, 64), 1 / 64), (8, 16, 64, 64)))
    result = attn("show-weights", "w.npy", "--item", 3, "--head", 5, "--max-memory", "300KB", "-q")
    assert result.code == 0


def test_only_the_rows_that_are_shown_are_read_and_checked(attn, folder):
    weights = weights_of(3, 7, 11)
    weights[1, 2, 5], weights[1, 4] = np.nan, weights[1, 4] * 2
    np.save("w.npy", weights)
    for rows in ("0:2", "5:", "-1:"):
        result = attn("show-weights", "w.npy", "--item", 1, "--rows", rows)
        assert (result.code, result.err) == (0, "")
    assert attn("show-weights", "w.npy", "--item", 1, "--row", "0", "--row", "6").err == ""
    bad = attn("show-weights", "w.npy", "--item", 1, "--rows", "1:4").err
    assert "the array[1, 1:4] holds 1 non-finite value, the first (nan) at [1, 5]" in bad
    bad = attn("show-weights", "w.npy", "--item", 1, "--row", "0", "--row", "2").err
    assert "the array[1, [0, 2]] holds 1 non-finite value, the first (nan) at [1, 5]" in bad
    odd = attn("show-weights", "w.npy", "--item", 1, "--rows", "3:5").err
    assert "1 row does not sum to 1: the worst, row 4, sums to 2" in odd


def test_with_cols_only_these_are_read_and_row_sums_are_not_judged(attn, folder):
    weights = weights_of(7, 11)
    weights[2, 5], weights[4, 8] = np.nan, -0.25
    np.save("w.npy", weights)
    result = attn("show-weights", "w.npy", "--cols", "0:5")
    assert (result.code, result.err) == (0, "")
    assert (
        "the array[0:7, 4:6] holds 1 non-finite"
        in attn("show-weights", "w.npy", "--cols", "4:6").err
    )
    negative = attn("show-weights", "w.npy", "--rows", "3:", "--cols", "7:10").err
    assert negative == ("warning: w.npy: weights are negative: the least, -0.25, is at [4, 8]\n")


@pytest.mark.parametrize(
    "axes", ["heads,dec,enc", "heads,enc,dec", "enc,heads,dec", "dec,enc,heads"]
)
@pytest.mark.parametrize(
    ("options", "rows", "columns"),
    [
        (["--rows", "1:3"], [1, 2], slice(None)),
        (["--row", "0", "--row", "4", "--cols", "2:"], [0, 4], slice(2, None)),
        (["--drop-sink", "--rows=-2:", "--renormalise"], [3, 4], slice(1, None)),
    ],
)
def test_a_part_is_the_part_of_the_whole(attn, folder, axes, options, rows, columns):
    weights = weights_of(3, 5, 7)  # heads, dec, enc
    order = [["heads", "dec", "enc"].index(name) for name in axes.split(",")]
    np.save("w.npy", weights.transpose(order))
    parts = weights[:, rows][:, :, columns]
    if "--renormalise" in options:
        parts = parts / parts.sum(axis=-1, keepdims=True)
    how = ["--axes", axes, *options, "--json"]
    for chosen, expected in (
        ([], parts),
        (["--head", 1], parts[1:2]),
        (["--max", "heads"], weights[:, rows][:, :, columns].max(axis=0)[None]),
    ):
        if chosen == ["--max", "heads"] and "--renormalise" in options:
            expected = expected / expected.sum(axis=-1, keepdims=True)
        shown = attn("show-weights", "w.npy", *how, *chosen).json["matrices"]
        np.testing.assert_allclose([one["weights"] for one in shown], expected, rtol=1e-12)


def test_a_difference_of_what_is_left_is_renormalised_before(attn, folder):
    ours, theirs = weights_of(2, 3, 5)
    np.save("a.npy", ours)
    np.save("b.npy", theirs)
    options = ("--diff", "b.npy", "--drop-sink", "--renormalise", "--json")
    (matrix,) = attn("show-weights", "a.npy", *options).json["matrices"]
    one, other = (x[:, 1:] / x[:, 1:].sum(axis=1, keepdims=True) for x in (ours, theirs))
    np.testing.assert_allclose(matrix["weights"], one - other, atol=1e-12)


def test_masks_of_every_kind_hide_keys_of_queries(attn, folder):
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 7, 5))
    seen = np.ones((2, 7), bool)
    seen[:, 5:] = False
    grid = rng.random((2, 3, 7)) > 0.3
    for enc_mask in (seen, seen.astype(int), seen.astype(float)):
        for more in ({}, {"mask": grid}, {"mask": np.where(grid, 0.1, -np.inf)}):
            np.savez("x.npz", query=query, key=key, enc_mask=enc_mask, **more)
            result = attn("show-weights", "x.npz", "--json").json
            weights = np.array([matrix["weights"] for matrix in result["matrices"]])
            assert (weights[..., 5:] == 0).all()
            if more:
                assert (weights[~grid] == 0).all()
            assert "weights (2, 3, 7) = (N, T_dec, T_enc)" in result["reading"]


def test_padded_queries_have_no_weights(attn, folder):
    rng = np.random.default_rng(0)
    dec_mask = np.array([[1, 1, 0], [1, 1, 1]])
    np.savez(
        "x.npz", query=rng.normal(size=(2, 3, 5)), key=rng.normal(size=(2, 7, 5)), dec_mask=dec_mask
    )
    first, second = attn("show-weights", "x.npz", "--json").json["matrices"]
    assert np.array(first["weights"])[2].tolist() == [0.0] * 7
    assert np.all(second["weights"])
    assert "masked" in attn("show-weights", "x.npz", "--top", 1).out


def test_a_vector_is_one_row(attn, folder):
    np.savez("x.npz", scores=np.array([0.0, 1.0, 2.0]))
    attn("forward", "x.npz", "-o", "run.npz", "-q")
    (matrix,) = attn("show-weights", "run.npz", "--json").json["matrices"]
    assert matrix["shape"] == [1, 3]


def test_layers_of_different_lengths(attn, folder):
    np.savez(
        "x.npz", layer0=weights_of(1, 2, 3, 3), layer2=weights_of(1, 2, 5, 5), tokens=list("abc")
    )
    result = attn("show-weights", "x.npz")
    assert result.code == 0
    assert "layer0, layer2" in result.out.splitlines()[0]


@pytest.mark.parametrize(
    ("shape", "code", "message"),
    [
        ((1, 0, 2, 2), 0, "no weights: heads is 0"),
        ((1, 0, 3), 0, "no weights: T_dec is 0"),
        ((1, 3, 0), 2, "T_enc = 0, no keys"),
    ],
)
def test_empty_weights(attn, folder, shape, code, message):
    np.save("w.npy", np.zeros(shape))
    result = attn("show-weights", "w.npy")
    assert result.code == code
    assert message in result.err


def test_nothing_is_shown_of_what_cannot_be_loaded(attn, folder):
    np.save("w.npy", np.full((2, 2), np.nan))
    result = attn("show-weights", "w.npy")
    assert (result.code, result.out) == (2, "")
    allowed = attn("show-weights", "w.npy", "--allow-nonfinite")
    assert "2 rows do not sum to 1" in allowed.err


def test_digits_on_request_come_in_blocks(attn, folder):
    np.save("w.npy", weights_of(2, 30))
    out = attn("show-weights", "w.npy", "--precision", 3, columns=60).out
    assert out.count("0.") >= 60
    assert max(map(len, out.splitlines())) <= 60


def test_computed_weights_respect_the_memory_limit(attn, folder):
    np.savez("x.npz", query=np.ones((1, 400, 2)), key=np.ones((1, 400, 2)))
    result = attn("show-weights", "x.npz", "--max-memory", "100KB")
    assert result.code == 2
    assert "weights (400, 400) would take 1.3 MB, there is 100.0 KB" in result.err


def test_a_row_that_some_items_have(attn):
    result = attn("show-weights", PARAPHRASE, "--row", "kitten", "--top", 1)
    assert (result.code, "kitten → cat 1" in result.out) == (0, True)
    assert result.err == "warning: 2 of 3 matrices have no such row and are left out\n"
    nobody = attn("show-weights", PARAPHRASE, "--row", "zebra")
    assert (nobody.code, nobody.out) == (2, "")


def test_tokens_that_fit_no_axis_are_said(attn, folder):
    np.savez("x.npz", weights=weights_of(4, 5), tokens=np.array(list("abcdefg")))
    result = attn("show-weights", "x.npz")
    assert result.code == 0
    assert "tokens is (7,), one a step of neither T_dec = 4 nor T_enc = 5" in result.err


def test_quiet_draws_nothing(attn, folder, monkeypatch):
    np.save("w.npy", np.eye(3))
    monkeypatch.setattr("attncli.views.weights_report.draw_weights", lambda *a, **k: 1 / 0)
    assert attn("show-weights", "w.npy", "-q").code == 0


def test_a_picture_of_nothing(attn, folder):
    pytest.importorskip("matplotlib", reason="PNG needs the plot extra")
    np.save("w.npy", np.zeros((0, 3, 3)))
    assert attn("show-weights", "w.npy", "--export", "w.png").code == 0


def test_odd_options(attn, folder):
    np.save("w.npy", weights_of(2, 3, 3))
    assert attn("show-weights", "w.npy", "--threshold", "nan").code == 2
    assert "--axes heads,dec,enc" in attn("show-weights", "w.npy", "--head", 1).err
    assert attn("trace", SAMPLES / "by_hand.npz", "--only", "dout", "--forward").code == 2


@pytest.mark.parametrize("how", [["--json"], ["--full"], ["--top", "1"]])
def test_a_later_head_that_cannot_be_read_leaves_no_half_of_a_result(attn, folder, how):
    weights = np.full((3, 200, 100), 0.01)  # more text than is printed at a time
    weights[2, 1, 3] = np.nan
    np.save("w.npy", weights)
    result = attn("show-weights", "w.npy", *how)
    assert (result.code, result.out) == (2, "")
    assert "w.npy: the array[2] holds 1 non-finite value, the first (nan) at [1, 3]" in result.err


def test_every_oddity_is_said_once(attn, folder):
    np.save("w.npy", np.full((3, 2, 4), 0.5))
    axes = ("--axes", "heads,dec,enc")
    assert attn("show-weights", "w.npy", "--json", *axes).err == (
        "warning: w.npy: in 3 of 3 heads rows do not sum to 1: the worst, head 0 row 0, "
        "sums to 2.000\n"
    )


def test_one_step_is_no_steps(attn, folder):
    np.save("w.npy", np.ones((1, 1)))
    assert "--row x: is none of 1 step\n" in attn("show-weights", "w.npy", "--row", "x").err
    np.save("two.npy", np.ones((2, 1, 1)))
    assert (
        "w.npy has 1 matrix, two.npy 2: N differs (1 and 2)"
        in attn("show-weights", "w.npy", "--diff", "two.npy").err
    )
    assert "1 step, all left out" in attn("show-weights", "w.npy", "--drop-sink").err
