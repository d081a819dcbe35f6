"""``attn trace``."""

import json
import shlex

import numpy as np
import pytest
from conftest import SAMPLES

BY_HAND, QKV, PARAPHRASE = (
    SAMPLES / f"{name}.npz" for name in ("by_hand", "minilm_qkv", "paraphrase")
)


def test_the_sample_reads_like_a_worked_example(attn):
    result = attn("trace", BY_HAND, "--step", 0, "--only", "s,weights,ds", columns=64)
    assert (result.code, result.err) == (0, "")
    lines = [line.rstrip() for line in result.out.splitlines()]
    assert lines[lines.index("Forward") :] == [
        "Forward",
        "",
        " 1  scores = scale · query · keyᵀ",
        "    how well each key fits the query",
        "    (2,) = (T_enc,)  float64  from query, key  in the book: s",
        "           0       1",
        "      0.0000  1.0986",
        "",
        "    scores[0] = 1 · (1 · 0 + 0 · 1.0986) = 0",
        "    scores[1] = 1 · (0 · 0 + 1 · 1.0986) = 1.0986",
        "",
        " 2  weights = exps / total",
        "    how much this step looks at each key: the softmax of the",
        "    scores",
        "    (2,) = (T_enc,)  float64  from exps, total  in the book: a",
        "           0       1",
        "      0.2500  0.7500",
        "",
        "    weights[0] = 0.33333 / 1.3333 = 0.25",
        "    weights[1] = 1 / 1.3333 = 0.75",
        "",
        "Backward",
        "",
        " 3  dscores = weights ⊙ (dweights − rowsum)",
        "    back through the softmax: weights sum to 1, so only",
        "    differences count",
        "    (2,) = (T_enc,)  float64  from weights, dweights, rowsum  in",
        "    the book: ds",
        "            0        1",
        "       0.1875  -0.1875",
        "",
        "    dscores[0] = 0.25 · (1 − 0.25) = 0.1875",
        "    dscores[1] = 0.75 · (0 − 0.25) = -0.1875",
        "",
    ]


def test_json_has_every_intermediate_in_full(attn):
    trace = attn("trace", BY_HAND, "--step", 1, "--json").json
    at = {one["name"]: one for one in trace["trace"]}
    assert at["weights"]["data"] == [0.5, 0.5]
    assert at["dhs_enc"]["data"] == [[0.0, 1.0], [0.0, 1.0]]  # dscores · 0 + weights · dout
    assert at["dscores"]["from"] == ["weights", "dweights", "rowsum"]
    assert at["dkey"]["axes"] == ["T_enc", "H"]
    assert (trace["command"], trace["step"], trace["layer"]) == ("trace", 1, "time-attention")


@pytest.mark.parametrize(
    ("arguments", "place", "index"),
    [
        ([QKV, "--softcap", 2, "--causal"], ["--step", 9, "--head", 5], (0, 5, 9)),
        ([PARAPHRASE], ["--item", 2, "--step", 4], (2, 4)),
        (["--layer", "attention", "--seed", 3], ["--item", 1], (1,)),
        (
            ["--layer", "scaled-dot-product", "--heads", 2, "--H", 6],
            ["--item", 2, "--step", 3, "--head", 1],
            (2, 3, slice(3, 6)),  # the heads stand beside each other in the last axis
        ),
    ],
)
def test_it_agrees_with_backward(attn, arguments, place, index):
    traced = attn("trace", *arguments, *place, "--json").json["trace"]
    whole = attn("backward", *arguments, "--json").json["tensors"]
    at = {one["name"]: np.array(one["data"]) for one in traced}
    query = "dquery" if "dquery" in whole else "dhs_dec" if "dhs_dec" in whole else "dh"
    for ours, theirs in (("out", "out"), ("dout", "dout"), ("dquery", query)):
        np.testing.assert_allclose(at[ours], np.array(whole[theirs]["data"])[index], atol=1e-5)


def test_directions(attn):
    names = {
        direction: [one["name"] for one in attn("trace", BY_HAND, *options, "--json").json["trace"]]
        for direction, options in {
            "both": [],
            "forward": ["--forward"],
            "backward": ["--backward"],
            "again": ["--forward", "--backward"],
        }.items()
    }
    assert names["forward"] + names["backward"] == names["both"] == names["again"]
    assert names["forward"][:4] == ["query", "key", "value", "scores"]
    assert names["backward"][0] == "dout"


def test_a_trace_file_holds_every_array_by_name(attn, folder):
    result = attn("trace", BY_HAND, "--step", 0, "-o", "trace.npz", "-q")
    assert result.code == 0
    with np.load("trace.npz") as held:
        assert held["weights"].tolist() == [0.25, 0.75]
        assert {"scores", "exps", "total", "dvalue", "rowsum", "dkey", "dhs_enc"} <= {*held}
        assert json.loads(str(held["options"]))["step"] == 0
    shown = attn("show-weights", "trace.npz", columns=80)
    assert "0.25  0.75  1.00" in shown.out


@pytest.mark.parametrize("ending", ["npz", "safetensors", "zarr"])
def test_a_trace_file_reads_back_with_its_tokens_and_single_numbers(attn, folder, ending):
    if ending == "safetensors":
        pytest.importorskip("safetensors", reason="the safetensors extra is not installed")
    file = f"trace.{ending}"
    result = attn("trace", PARAPHRASE, "--step", 2, "--only", "out", "-o", file)
    assert result.err.splitlines()[-1] == f"wrote the trace to {file}"
    traced = attn("trace", PARAPHRASE, "--step", 2, "--json").json["trace"]
    assert attn("compare", file, file).code == 0
    (matrix,) = attn("show-weights", file, "--json").json["matrices"]
    assert matrix["weights"] == [next(one["data"] for one in traced if one["name"] == "weights")]
    assert len(matrix["tokens_enc"]) == len(matrix["weights"][0])
    attn("trace", PARAPHRASE, "--step", 2, "-q", "-o", "other.npz")
    assert attn("compare", file, "other.npz").code == 0  # shapes of () are still ()


def test_what_o_writes_is_said(attn, folder):
    text = " ".join(attn("trace", "--help").out.split())
    assert "-o, --output FILE Write a trace file: every intermediate in full" in text
    assert "run file" not in text.split("Output:")[1]
    assert "-o - and --json would both" in attn("trace", BY_HAND, "-o", "-", "--json").err
    assert "an .npy file holds one array" in attn("trace", BY_HAND, "-o", "x.npy").err


@pytest.mark.parametrize("name", ["scores", "weights", "out", "dvalue", "dweights", "dquery"])
@pytest.mark.parametrize("sizes", [(2, 2, 50), (2, 50, 2), (50, 2, 2)])
def test_no_wall_of_terms_whatever_is_shown(attn, folder, name, sizes):
    T, H, H_v = sizes
    ones = {"query": np.ones((1, 2, H)), "key": np.ones((1, T, H)), "value": np.ones((1, T, H_v))}
    np.savez("wide.npz", **ones)
    result = attn("trace", "wide.npz", "--only", name)
    assert result.code == 0
    assert f"{name}[0" not in result.out
    assert result.out.count(" · ") < 8  # in the headline and the formula


def test_large_ones_are_summed_up_and_fit(attn):
    from rich.cells import cell_len

    for columns in (20, 40, 80, 200):
        result = attn("trace", QKV, "--step", 3, "--causal", "--softcap", 3, columns=columns)
        assert result.code == 0
        assert max(map(cell_len, result.out.splitlines())) <= columns
    assert "of 480 numbers shown" in result.out
    assert "[CLS]" in result.out
    assert attn("trace", QKV, "--full").out.count("\n") > 100


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_formulas_in_poor_encodings(attn, encoding):
    result = attn("trace", BY_HAND, "--softcap", 1, columns=80, encoding=encoding)
    assert result.code == 0
    assert "dkey = scale * dscores^T * query" in result.out
    assert "\\u" not in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([BY_HAND, "--step", 2], "--step 2: {} has no such step; there are 2, 0 to 1"),
        ([BY_HAND, "--item", 1], "--item 1: {} has no such item; there is only 0"),
        ([BY_HAND, "--head", 1], "--head 1: {} has no such head; there is only 0"),
        ([BY_HAND, "--only", "scores,wights"], "--only wights: no such intermediate; there is"),
        (["--layer", "softmax"], "softmax has no trace: it is a part of attention alone"),
    ],
)
def test_bad_input(attn, arguments, message):
    result = attn("trace", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message.format(arguments[0]) in result.err.splitlines()[0]
    hint = result.err.splitlines()[-1].removeprefix("hint:  attn ")
    assert attn(*shlex.split(hint)).code == 0


def test_an_engine_has_no_say(attn):
    assert "--engine has no effect" in attn("trace", BY_HAND, "--engine", "tiled").err


def test_compare_understands_traces(attn, folder):
    for name, options in (("a", []), ("b", []), ("c", ["--causal"])):
        attn("trace", BY_HAND, *options, "-o", f"{name}.npz", "-q")
    assert attn("compare", "a.npz", "b.npz").code == 0
    assert attn("compare", "c.npz", "c.npz").code == 0  # hidden scores are −∞ in both
    differs = attn("compare", "a.npz", "c.npz")
    assert differs.code == 1
    assert "weights" in differs.out


@pytest.mark.parametrize("option", [["--engine", "tiled"], ["--weights"], ["--no-weights"]])
def test_options_that_a_trace_does_not_go_by_are_said_to_have_no_effect(attn, option):
    result = attn("trace", *option)
    assert result.code == 0
    assert result.err.startswith(f"warning: {option[0]} has no effect: a trace is computed by")


def test_the_steps_together_are_the_run(attn):
    whole = attn("backward", PARAPHRASE, "--json").json["tensors"]
    traced = attn("trace", PARAPHRASE, "--item", 1, "--json").json
    assert traced["step"] is None
    at = {one["name"]: np.array(one["data"]) for one in traced["trace"]}
    for name in ("out", "dout", "dhs_enc", "dhs_dec"):
        np.testing.assert_allclose(at[name], np.array(whole[name]["data"])[1], atol=1e-4)
    shares = next(one for one in traced["trace"] if one["name"] == "dhs_enc")["norm_of_each_step"]
    assert len(shares) == len(at["dhs_dec"])


def test_what_the_steps_add_up_to_is_shown_with_each_of_its_terms(attn):
    result = attn("trace", BY_HAND, "--only", "dhs_enc", columns=80)
    assert "hs_enc was used twice, as keys and values; what all decoder steps" in result.out
    assert "    dhs_enc[0, 1] = (0.20599 + 0) + (0 + 1) = 1.206" in result.out
    sizes = ["--N", 1, "--T", 3, "--H", 5]
    parts = attn("trace", *sizes, "--only", "dhs_enc", "--json").json["trace"][0]["data"]
    steps = [
        attn("trace", *sizes, "--step", t, "--only", "dhs_enc", "--json").json["trace"][0]["data"]
        for t in range(3)
    ]
    np.testing.assert_allclose(np.sum(steps, axis=0), parts)
    shown = attn("trace", *sizes, "--only", "dhs_enc", columns=80).out
    assert [shown.count(f"share of step {t}") for t in range(4)] == [1, 1, 1, 0]


def test_many_steps_need_no_room_for_each_share(attn):
    result = attn("trace", "--N", 1, "--T", 67, "--H", 61, "--only", "dkey", "--max-memory", "3MB")
    assert (result.code, result.err) == (0, "")
    assert "norm of each step's share" in result.out
    refused = attn("trace", "--N", 1, "--T", 509, "--H", 2, "--max-memory", "3MB")
    assert (refused.code, refused.err.splitlines()[-1]) == (
        2,
        "hint:  attn trace --N 1 --T 509 --H 2 --max-memory 3MB --step 0",
    )


class TestWhatIf:
    def test_it_says_which_numbers_change_and_what_the_gradient_predicted(self, attn):
        result = attn("trace", BY_HAND, "--what-if", "hs_dec[0,1,0]+=0.1", columns=80)
        assert (result.code, result.err) == (0, "")
        assert "hs_dec[0, 1, 0]  0 → 0.1" in result.out
        assert "weights     2 of 4  [0, 1, 0]  0.5 → 0.52498" in result.out
        assert "  dhs_dec[0, 1, 0] · 0.1 = -0.5 · 0.1 = -0.05" in result.out

    @pytest.mark.parametrize(
        ("arguments", "change"),
        [
            ([BY_HAND], "hs_enc[0,1,1]-=0.001"),
            ([PARAPHRASE, "--seed", 3], "hs_enc[2,1,5]+=0.01"),
            ([QKV], "value[0,3,2,1]=0.5"),
            ([QKV, "--causal", "--softcap", 3], "key[0,3,2,1]*=1.01"),
            (["--layer", "multi-head", "--heads", 2, "--H", 6, "--T", 3], "Wo[1,2]+=0.3"),
            (["--layer", "attention", "--T", 3], "h[1,2]+=0.001"),
            (["--layer", "softmax", "--T", 3], "scores[1,2,0]+=0.001"),
            (["--layout", "T,N,H", "--T", 7, "--N", 2], "hs_dec[6,1,2]+=0.001"),
        ],
        ids=str,
    )
    def test_the_gradient_is_the_slope_of_what_comes(self, attn, arguments, change):
        told = attn("trace", *arguments, "--what-if", change, "--json").json
        whole, part = told["slopes"]
        (moved,) = told["moved"]
        assert moved["gradient"] != 0
        assert whole["predicted"] == pytest.approx(
            moved["gradient"] * (moved["after"] - moved["before"])
        )
        loss = told["loss"]
        assert whole["came"] == pytest.approx(loss["after"] - loss["before"])
        assert part["came"] == pytest.approx(part["predicted"], rel=0.02)
        off = [abs(one["came"] / one["predicted"] - 1) for one in (whole, part)]
        assert off[1] <= 0.2 * off[0] + 1e-8
        assert all(0 < one["changed"] <= one["size"] for one in told["effects"][:1])

    def test_what_a_number_has_no_part_in_does_not_change(self, attn):
        told = attn("trace", PARAPHRASE, "--what-if", "hs_dec[1,3,0]+=1", "--json").json
        out, weights = (
            next(one for one in told["effects"] if one["name"] == name)
            for name in ("out", "weights")
        )
        assert out["index"][:2] == weights["index"][:2] == [1, 3]
        assert out["changed"] <= 384

    def test_changes_come_one_after_the_other(self, attn):
        changes = ["--what-if", "hs_dec[0,1,0]+=2", "--what-if", "hs_dec[0, 1, 0] *= 3"]
        (moved,) = attn("trace", BY_HAND, *changes, "--json").json["moved"]
        assert (moved["before"], moved["after"]) == (0, 6)

    @pytest.mark.parametrize(
        ("change", "message", "hint"),
        [
            ("hs_dek[0,1,1]+=0.1", "has no input hs_dek; there is hs_enc", "hs_dec[0,1,1]+=0.1"),
            ("hs_dec[0,1,2]+=0.1", "hs_dec has no H 2; there are 2, 0 to 1", "hs_dec[0,1,1]+=0.1"),
            ("hs_dec[0,-1,0]=3", "hs_dec has no T_dec -1; there are 2, 0 to 1", "hs_dec[0,0,0]=3"),
            ("hs_dec[0,1]*=2", "(N, T_dec, H), and takes 3 numbers", "hs_dec[0,1,0]*=2"),
            ("hs_dec[0,:,1]+=1", "expected a number of an input", "hs_dec[0,0,0]+=0.1"),
            ("hs_dec[0,0,1]+=nan", "expected a number of an input", "hs_dec[0,0,0]+=0.1"),
            ("h=3", "expected a number of an input", "hs_dec[0,0,0]+=0.1"),
            ("hs_dec", "expected a number of an input", "hs_dec[0,0,0]+=0.1"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_changed_is_a_finished_hint(self, attn, change, message, hint):
        result = attn("trace", BY_HAND, "--what-if", change)
        assert (result.code, result.out) == (2, "")
        assert message in result.err
        assert result.err.splitlines()[-1].endswith(f" --what-if '{hint}'")
        assert attn("trace", BY_HAND, "--what-if", hint).code == 0

    @pytest.mark.parametrize("other", [["--step", 0], ["--only", "out"], ["-o", "x.npz"]])
    def test_what_shows_something_else_contradicts_it(self, attn, folder, other):
        result = attn("trace", BY_HAND, "--what-if", "hs_dec[0,0,0]+=1", *other)
        assert result.code == 2
        assert f"{other[0]} has no meaning with --what-if" in result.err

    @pytest.mark.parametrize("columns", [40, 80])
    def test_it_fits(self, attn, columns):
        from rich.cells import cell_len

        change = ["--what-if", "key[0,0,0,0]+=1"]
        result = attn("trace", QKV, *change, columns=columns, encoding="ascii")
        assert "\\u" not in result.out
        assert max(map(cell_len, result.out.splitlines())) <= columns


def test_a_misspelt_intermediate_is_a_finished_hint(attn):
    result = attn("trace", BY_HAND, "--only", "dhs_e")
    assert (result.code, result.err.splitlines()[-1]) == (
        2,
        f"hint:  attn trace {BY_HAND} --only dhs_enc",
    )


@pytest.mark.parametrize("kind", [bool, float])
@pytest.mark.parametrize("step", [0, 6])
def test_a_mask_that_hides_from_one_step_alone_is_shown_of_all(attn, folder, kind, step):
    rng = np.random.default_rng(3)
    mask = np.ones((7, 5), bool)
    mask[step, 2] = False
    mask = mask if kind is bool else np.where(mask, 0.0, -np.inf)
    np.savez("x.npz", hs_enc=rng.normal(size=(2, 5, 3)), hs_dec=rng.normal(size=(2, 7, 3)),
             mask=mask)  # fmt: skip
    result = attn("trace", "x.npz", "--json")
    at = {one["name"]: one for one in result.json["trace"]}
    assert (result.code, np.shape(at["masked"]["data"])) == (0, (7, 5))
    assert [at["masked"]["data"][t][2] == "-Infinity" for t in range(7)] == [
        t == step for t in range(7)
    ]
