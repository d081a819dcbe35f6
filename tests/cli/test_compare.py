"""``attn compare``."""

import numpy as np
import pytest
from conftest import SAMPLES

from attncli.core import attention
from attncli.problems import pairing


@pytest.fixture
def runs(attn, folder):
    attn("forward", "--N", 2, "--T", 3, "--T-enc", 5, "--H", 4, "-o", "a.npz")
    with np.load("a.npz") as held:
        tensors = dict(held)
    tensors["weights"] = tensors["weights"].copy()
    tensors["weights"][1] *= 2
    np.savez("b.npz", **tensors)
    return tensors


def test_a_file_agrees_with_itself(attn, runs):
    result = attn("compare", "a.npz", "a.npz")
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith("5 tensors compared: all agree\n")


def test_what_differs_is_told_in_full(attn, runs):
    result = attn("compare", "b.npz", "a.npz", columns=100)
    assert result.code == 1
    assert "off" not in result.out.split("weights")[0]
    for line in (
        "  tolerance  |a - b| ≤ 1e-07 + 1e-07 · |b| (torch's assert_close default)",
        "  outside    15 of 30 elements",
        "  where      only at item 1 of 2",
        "1 of 5 tensors differs",
    ):
        assert line in result.out.splitlines()


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal(attn, runs, columns):
    result = attn("compare", "b.npz", "a.npz", columns=columns)
    assert max(map(len, result.out.splitlines())) <= columns


def test_json_holds_the_whole_report(attn, runs):
    result = attn("compare", "b.npz", "a.npz", "--only", "weights", "--json")
    assert result.code == 1
    (tensor,) = result.json["tensors"]
    assert result.json["passed"] is tensor["passed"] is False
    assert tensor["worst_absolute"]["a"] == 2 * tensor["worst_absolute"]["b"]
    assert tensor["places"] == ["only at item 1 of 2"]


def test_tolerances_decide(attn, runs):
    assert attn("compare", "b.npz", "a.npz", "--rtol", 1.01).code == 0
    assert attn("compare", "b.npz", "a.npz", "--atol", 0.001).code == 1


def test_only_ignore_and_map_choose(attn, runs):
    assert attn("compare", "b.npz", "a.npz", "--ignore", "weights").code == 0
    assert attn("compare", "b.npz", "a.npz", "--only", "out").code == 0
    np.savez("c.npz", theirs=runs["out"], extra=runs["out"])
    result = attn("compare", "a.npz", "c.npz", "--map", "out=theirs", "--json")
    assert (result.code, result.json["only_b"]) == (1, ["extra"])
    assert len(result.json["tensors"]) == 1
    assert attn("compare", "a.npz", "c.npz", "--map", "out=theirs", "--only", "out").code == 0


def test_what_one_file_alone_holds_is_a_difference(attn, runs):
    np.savez("less.npz", **{k: v for k, v in runs.items() if k != "weights"})
    np.savez("more.npz", **runs, note=np.array("text is no tensor"))
    result = attn("compare", "less.npz", "more.npz")
    assert result.code == 1
    assert "only in B: weights" in result.out
    assert result.out.endswith(
        "4 tensors compared; 1 in one file alone (--ignore leaves them out)\n"
    )
    assert "only in A: weights" in attn("compare", "more.npz", "less.npz").out
    assert attn("compare", "less.npz", "more.npz", "--ignore", "weights").code == 0
    assert attn("compare", "less.npz", "more.npz", "--only", "out").code == 0


def test_an_npy_file_is_called_after_itself(attn, runs):
    np.save("out.npy", runs["out"])
    np.save("other.npy", runs["out"] + 1)
    assert attn("compare", "out.npy", "a.npz").code == 0
    assert attn("compare", "out.npy", "other.npy").code == 1


def test_nan_can_be_looked_for(attn, folder):
    np.savez("a.npz", out=np.array([1.0, np.nan]))
    result = attn("compare", "a.npz", "a.npz", "--json")
    assert (result.code, result.json["tensors"][0]["nonfinite"][0]["a"]) == (1, "NaN")
    assert attn("compare", "a.npz", "a.npz").code == 1
    assert attn("compare", "a.npz", "a.npz", "--equal-nan").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.npz", "none.npz"], "none.npz: no such file"),
        (["a.npz", "b.npz", "--only", "nothing"], "--only nothing: a.npz holds hs_enc"),
        (["a.npz", "b.npz", "--map", "out=nothing"], "--map nothing: b.npz holds"),
        (["a.npz", "b.npz", "--map", "out"], "'out' is not A=B"),
        (["a.npz", "b.npz", "--causal"], "causal upper_left: has a meaning with --budget only"),
        (
            ["a.npz", "b.npz", "--budget", "empty.npz"],
            "empty.npz: expected hs_enc and hs_dec; query, key and value",
        ),
        (["a.npz", "empty.npz"], "no tensor in common"),
    ],
)
def test_what_cannot_be_compared_is_one_line(attn, runs, arguments, message):
    np.savez("empty.npz", x=np.ones(2))
    result = attn("compare", *arguments)
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert message in result.err
    assert "Traceback" not in result.err


def test_budget_allows_twice_the_error_of_the_plain_formula_and_a_unit_in_the_last_place(
    attn, folder
):
    sizes = ("--N", 4, "--T", 31, "--H", 16)
    attn("forward", *sizes, "--dtype", "float32", "-o", "half.npz")
    attn("forward", *sizes, "-o", "exact.npz")
    command = ("compare", "half.npz", "exact.npz", "--only", "out", "--budget", "half.npz")
    result = attn(*command, "--json")
    budget = result.json["tensors"][0]["budget"]
    assert (result.code, budget["passed"], budget["outside"]) == (0, True, 0)
    assert 0 < budget["allowed"] - 2 * budget["straightforward"] < 1e-6
    assert "budget     0 of 1984 elements outside\n" in attn(*command).out
    assert attn(*command, "--scale", 2).code == 1


def test_the_budget_takes_options_and_masks_from_the_run(attn, folder):
    rng = np.random.default_rng(0)
    names = ("query", "key", "value")
    given = {name: rng.normal(size=(2, 4, 31, 16)).astype(np.float32) for name in names}
    given["enc_mask"] = np.arange(31) < np.array([[31], [20]])
    np.savez("in.npz", **given)
    assert attn("forward", "in.npz", "--causal", "--softcap", 2, "-o", "run.npz").code == 0
    command = ("compare", "run.npz", "run.npz", "--only", "out", "--budget", "run.npz", "--json")
    assert attn(*command).code == 0
    assert attn(*command, "--softcap", 3).code == 1


def test_bfloat16_has_its_own_tolerance(attn, folder):
    from ml_dtypes import bfloat16
    from safetensors.numpy import save_file

    x = np.linspace(1, 2, 50, dtype=np.float32)
    save_file({"out": x.astype(bfloat16)}, "half.safetensors")
    np.savez("exact.npz", out=x)
    np.savez("raw.npz", out=x.astype(bfloat16).view("V2"))
    for arguments in (["half.safetensors"], ["raw.npz", "--as", "bfloat16"]):
        result = attn("compare", *arguments[:1], "exact.npz", *arguments[1:], "--json")
        (tensor,) = result.json["tensors"]
        assert result.code == 0
        assert tensor["dtypes"] == ["bfloat16", "float32"]
        assert tensor["rtol"] == 1.6e-2
        assert tensor["ulps"][-1] == [1.0, 0.0]


def test_names_from_files_are_harmless(attn, folder):
    name = "[red]\x1b[31m"
    np.savez("a.npz", **{name: np.ones(2)})
    result = attn("compare", "a.npz", "a.npz")
    assert "\x1b" not in result.out
    assert "[red]\\x1b[31m" in result.out


def test_a_large_mapped_file_is_walked_through(attn, folder):
    x = np.zeros((5_000_000,), np.float32)
    np.save("a.npy", x)
    x[4_999_999] = 1
    np.save("b.npy", x)
    result = attn("compare", "b.npy", "a.npy", "--json")
    assert result.json["tensors"][0]["worst_absolute"]["index"] == [4_999_999]


def test_a_dout_of_another_shape_has_no_budget(attn, folder):
    attn("backward", SAMPLES / "by_hand.npz", "-o", "run.npz", "-q")
    with np.load("run.npz") as run:
        np.savez("inputs.npz", **{**run, "dout": run["dout"][:, :1]})
    result = attn("compare", "run.npz", "run.npz", "--budget", "inputs.npz")
    assert (result.code, result.out) == (2, "")
    message = "inputs.npz: dout is (1, 1, 2), expected the shape of the result, (1, 2, 2)"
    assert result.err.startswith(f"error: {message}")


def test_rename_is_of_the_candidate_alone(attn, folder):
    x = np.arange(5.0)
    np.savez("a.npz", theirs=x)
    np.savez("b.npz", out=x, theirs=x + 1)
    result = attn("compare", "a.npz", "b.npz", "--rename", "out=theirs", "--only", "out")
    assert (result.code, result.err) == (0, "")
    result = attn("compare", "a.npz", "b.npz", "--rename", "out=theirs", "--json")
    assert (result.code, result.json["only_b"]) == (1, ["theirs"])


@pytest.mark.parametrize(("steps", "passes"), [(1, True), (2, True), (3, False)])
def test_the_tolerance_of_bfloat16_to_the_edge(attn, folder, steps, passes):
    raw = np.array([0x3F80, 0x3F80 + steps], np.uint16)  # 1, and so many steps beyond
    np.savez("a.npz", out=raw.view("V2"))
    np.savez("b.npz", out=np.ones(2, np.float32))
    result = attn("compare", "a.npz", "b.npz", "--as", "bfloat16", "--json")
    (tensor,) = result.json["tensors"]
    assert (result.code, tensor["outside"]) == (0 if passes else 1, 0 if passes else 1)
    assert tensor["ulps"][-1] == [1.0, steps]


# Budgets whose every number can be worked by hand: with queries of zeros all weights are equal.


def even(value, dtype="f4"):
    """Inputs of one query that sees all values alike; half of each of two."""
    value = np.asarray(value, dtype)[:, None]
    return {"query": np.zeros((1, 2), dtype), "key": np.zeros((len(value), 2), dtype),
            "value": value}  # fmt: skip


def judged(attn, inputs, candidate, *options, other=None):
    np.savez("in.npz", **inputs)
    np.savez("a.npz", out=candidate)
    np.savez("b.npz", out=candidate if other is None else other)
    result = attn("compare", "a.npz", "b.npz", "--budget", "in.npz", *options, "--json")
    assert (result.code, result.err) == (0 if result.json["passed"] else 1, "")
    return result.json["passed"], result.json["tensors"][0]["budget"]


@pytest.mark.parametrize(("dtype", "digits"), [("f2", 11), ("f4", 24), ("f8", 53)])
def test_the_next_number_is_within_and_one_far_beyond_what_is_allowed_is_not(
    attn, folder, dtype, digits
):
    right = np.array([[2.001]], dtype)
    inputs = even([1, 3 + 0.002], dtype)
    passed, budget = judged(attn, inputs, np.nextafter(right, right + 1), other=right)
    assert (passed, budget["dtype"]) == (
        True,
        {"f2": "float16", "f4": "float32"}.get(dtype, "float64"),
    )
    assert 2.0 ** (2 - digits) < budget["allowed"] < 40 * 2.0 ** (2 - digits)
    beyond = (right + 1.5 * budget["allowed"]).astype(dtype)
    passed, budget = judged(attn, inputs, beyond, other=right)
    assert (passed, budget["outside"]) == (False, 1)
    assert budget["worst"]["index"] == [0, 0]
    assert budget["worst"]["a"] == float(beyond[0, 0])


def test_the_budget_decides_and_not_the_tolerance(attn, folder):
    inputs = even([1.1, 3.1])
    off = np.array([[2.1001]], np.float32)
    assert judged(attn, inputs, off, "--rtol", 1)[0] is False
    far = np.array([[9.0]], np.float32)
    passed, budget = judged(attn, inputs, np.array([[2.1]], "f4"), other=far)
    assert passed
    assert abs(budget["other"] - 6.9) < 1e-6


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_widened_numbers_are_judged_as_what_they_were(attn, folder, dtype):
    import ml_dtypes

    inputs = even([1, 3 - 2.0**-6])
    half = np.array([[2.0 - 2.0**-7]]).astype(getattr(ml_dtypes, dtype, dtype))
    right = half.astype("f4")
    for options, assumed in (([], True), (["--as-dtype", dtype], False), (["--as", dtype], False)):
        passed, budget = judged(attn, inputs, right, *options)
        assert passed
        if assumed:  # what bfloat16 holds, float16 holds as well
            assert (budget["dtype"], budget["assumed"]) == ("bfloat16", True)
        else:
            assert (budget["dtype"], budget["assumed"]) == (dtype, False)
    said = attn("compare", "a.npz", "b.npz", "--budget", "in.npz").out
    assert "every number of A fits bfloat16: taken for what was computed in it" in said
    off = right + np.float32(1e-4)  # no half precision holds it
    passed, budget = judged(attn, inputs, off, other=right)
    assert (passed, budget["dtype"]) == (False, "float32")
    assert judged(attn, inputs, off, "--as-dtype", dtype, other=right)[0] is True


def test_raw_elements_are_read_as_what_they_are(attn, folder):
    inputs, half = even([1, 3]), np.array([[2.0]], "f2")
    passed, budget = judged(attn, inputs, half.view("V2"), "--as-dtype", "float16", other=half)
    assert (passed, budget["candidate"], budget["dtype"]) == (True, 0.0, "float16")


def test_packed_heads_are_those_of_the_run(attn, folder):
    rng = np.random.default_rng(0)
    names = ("query", "key", "value")
    packed = {name: rng.normal(size=(2, 7, 12)).astype("f4") for name in names}
    np.savez("in.npz", **packed)
    assert attn("backward", "in.npz", "--heads", 3, "-o", "run.npz", "-q").code == 0
    command = ("compare", "run.npz", "run.npz", "--budget", "run.npz", "--json")
    result = attn(*command, *(x for y in ("out", "weights", "dkey") for x in ("--only", y)))
    assert (result.code, [t["budget"]["passed"] for t in result.json["tensors"]]) == (0, [True] * 3)
    with np.load("run.npz") as run:
        wrong = dict(run)
    wrong["out"][1, 3, 4:8] *= 1.001  # a row of head 1
    np.savez("wrong.npz", **wrong)
    result = attn(
        "compare", "wrong.npz", "run.npz", "--only", "out", "--budget", "run.npz", "--json"
    )
    budget = result.json["tensors"][0]["budget"]
    assert (result.code, budget["worst"]["index"][:2]) == (1, [1, 3])
    assert budget["places"][:2] == ["only at item 1 of 2", "only at decoder step 3 of 7"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_as_far_as_can_be(attn, folder, value):
    inputs, right = even([1, 2.0**-23]), np.array([[0.5 + 2.0**-24]], np.float32)
    passed, budget = judged(attn, inputs, np.array([[value]], np.float32), other=right)
    assert (passed, budget["candidate"], budget["other"]) == (False, "Infinity", 0)
    passed, budget = judged(attn, inputs, right, other=np.array([[value]], np.float32))
    assert (passed, budget["other"]) == (True, "Infinity")


@pytest.mark.parametrize("names", [["dquery"], ["dquery", "scores"], ["mine"]])
def test_a_budget_that_leads_to_none_of_the_tensors_is_an_error(attn, folder, names):
    np.savez("in.npz", **even([1, 3]))
    np.savez("a.npz", **{name: np.ones((1, 1), "f4") for name in (*names, "more")})
    result = attn("compare", "a.npz", "a.npz", "--budget", "in.npz")
    assert (result.code, result.out) == (2, "")
    named = ", ".join((*names, "more"))
    assert result.err.startswith("error: in.npz: leads to none of the tensors compared")
    assert named in result.err


def test_tensors_that_the_inputs_do_not_lead_to_keep_their_tolerance(attn, folder):
    np.savez("in.npz", **even([1, 3]))
    out = np.array([[2.0]], np.float32)
    np.savez("a.npz", mine=out, out=out, weights=np.eye(3))
    np.savez("b.npz", mine=out + 1, out=out, weights=np.eye(3))
    command = ("compare", "a.npz", "b.npz", "--budget", "in.npz", "--json")
    result = attn(*command)
    verdicts = {t["name"]: (t["passed"], t["budget"] is None) for t in result.json["tensors"]}
    assert result.code == 1
    assert verdicts == {
        "mine": (False, True), "out": (True, False), "weights": (True, True),
    }  # fmt: skip
    assert attn(*command, "--atol", 1).code == 0


@pytest.mark.parametrize(("value", "code"), [(np.nan, 1), (np.inf, 1), (7, 1), (1, 0)])
def test_where_the_plain_formula_overflows_there_is_a_budget(attn, folder, value, code):
    inputs = {"query": np.full((1, 2), 300, "f2"), "key": np.full((3, 2), 300, "f2"),
              "value": np.ones((3, 1), "f2")}  # fmt: skip
    np.savez("in.npz", **inputs)
    np.savez("a.npz", out=np.array([[value]], "f2"))
    np.savez("b.npz", out=np.ones((1, 1)))
    assert attn("compare", "a.npz", "b.npz", "--budget", "in.npz").code == code


def test_a_result_that_is_not_finite_has_no_budget_and_that_is_said(attn, folder):
    np.savez("in.npz", **even([1, 1], "f8"), dout=np.full((1, 1), 1e200))
    with np.load("in.npz") as held:
        np.savez(
            "in.npz", **{**held, "key": np.full((2, 2), 1e200), "query": np.full((1, 2), 1e200)}
        )
    np.savez("a.npz", out=np.ones((1, 1), "f4"))
    result = attn("compare", "a.npz", "a.npz", "--budget", "in.npz")
    assert (result.code, result.out) == (2, "")
    assert "the exact result is not finite, and so there is no budget" in result.err


def test_a_layer_with_weights_of_its_own_has_no_budget(attn, folder):
    attn("forward", "--layer", "luong", "-o", "run.npz", "-q")
    result = attn("compare", "run.npz", "run.npz", "--budget", "run.npz")
    assert (result.code, result.out) == (2, "")
    assert "no budget for luong: it is a layer with weights of its own" in result.err


def test_a_tolerance_that_is_blind_is_said_to_be(attn, folder):
    rng = np.random.default_rng(3)
    b = rng.uniform(0.5, 1, (2, 7, 5))
    np.savez("a.npz", out=rng.uniform(0.5, 1, (2, 7, 5)))
    np.savez("b.npz", out=b)
    result = attn("compare", "a.npz", "b.npz", "--atol", 0.5, "--rtol", 0.2)
    assert result.code == 0
    assert result.err == (
        "warning: out: at this tolerance one constant, the mean of all rows, rows exchanged, "
        "another item's result would agree as well; --budget allows what rounding explains\n"
    )
    report = attn("compare", "a.npz", "b.npz", "--atol", 0.5, "--rtol", 0.2, "--json").json
    assert report["tensors"][0]["blind"][0] == "one constant"
    assert attn("compare", "b.npz", "b.npz", "--atol", 1e-3).err == ""
    assert attn("compare", "b.npz", "b.npz").err == ""


def test_two_empty_tensors_agree_and_that_is_said(attn, folder):
    np.savez("a.npz", out=np.zeros((2, 0, 5)))
    np.savez("b.npz", out=np.zeros((2, 0, 7)))
    result = attn("compare", "a.npz", "a.npz")
    assert (result.code, "both are empty: there is nothing that could" in result.out) == (0, True)
    assert attn("compare", "a.npz", "b.npz").code == 1


def test_comparing_nothing_is_no_agreement(attn, folder):
    np.savez("a.npz", out=np.ones(3))
    np.savez("none.npz", text=np.array("none"))
    for arguments in (("a.npz", "--ignore", "out"), ("none.npz",)):
        result = attn("compare", "a.npz", *arguments)
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith("error: ")
    result = attn("compare", "a.npz", "a.npz", "--ignore", "out")
    assert result.err == "error: nothing is left to compare: a.npz holds out\n"


def test_where_no_query_sees_a_key_nothing_is_judged(attn, folder):
    inputs = {**even([1, 3]), "mask": np.zeros((1, 2), bool)}
    np.savez("in.npz", **inputs)
    np.savez("a.npz", out=np.zeros((1, 1), "f4"))
    result = attn("compare", "a.npz", "a.npz", "--budget", "in.npz")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: in.npz: no query sees any key: there is nothing to judge")


def test_empty_tensors_need_no_budget(attn, folder):
    shapes = {"query": (0, 3, 2), "key": (0, 5, 2), "value": (0, 5, 7)}
    np.savez("in.npz", **{name: np.zeros(shape) for name, shape in shapes.items()})
    np.savez("a.npz", out=np.zeros((0, 3, 7)))
    result = attn("compare", "a.npz", "a.npz", "--budget", "in.npz")
    assert (result.code, "both are empty" in result.out) == (0, True)


@pytest.mark.parametrize(
    ("at", "factor", "said"),
    [
        (np.s_[:], 1.0, ()),
        (np.s_[:], 1.02, ("2 % too large",)),
        (np.s_[:], 0.985, ("1.5 % too small",)),
        (np.s_[1:], 1.02, ("2 % too large", "only at item 1 of 2")),
        (np.s_[:, 1], 1.02, ("2 % too large", "only at head 1 of 2")),
        (np.s_[0, 1, 32:48], 1.02, ("item 0 of 2", "head 1 of 2", "decoder step 32 to 47 of 61")),
    ],
)
def test_a_factor_throughout_differs_though_each_element_may_be_so_far_off(
    attn, folder, at, factor, said
):
    rng = np.random.default_rng(1)
    # Numbers of bfloat16: the lower half of their 32 bits is 0.
    query, key, value = (
        (rng.standard_normal((2, 2, 61, 32)).astype(np.float32).view(np.uint32) & 0xFFFF0000)
        .view(np.float32)
        for _ in range(3)
    )  # fmt: skip
    right, _ = attention(*(x.astype(np.float64) for x in (query, key, value)))
    wrong = right.copy()
    wrong[at] *= factor
    out = ((wrong.astype(np.float32).view(np.uint32) + 0x8000) & 0xFFFF0000).view(np.float32)
    np.savez("in.npz", query=query, key=key, value=value)
    np.savez("a.npz", out=out)
    np.savez("b.npz", out=right)
    result = attn("compare", "a.npz", "b.npz", "--budget", "in.npz", "--as-dtype", "bfloat16")
    assert result.code == bool(said)
    assert "0 of 7808 elements outside" in result.out
    assert ("DIFFERS" in result.out) == ("throughout" in result.out) == bool(said)
    assert all(words in result.out for words in said)
    np.savez("run.npz", query=query, key=key, value=value, out=out)
    result = attn("forward", "run.npz", "--as-dtype", "bfloat16")
    assert result.code == bool(said)
    assert all(words in result.out for words in said)


def test_under_quiet_the_verdict_is_the_same_and_nothing_else_computed(attn, folder, monkeypatch):
    """The distribution of distances takes as long again; JSON is read though it is quiet."""
    np.savez("a.npz", a=np.ones(7))
    np.savez("b.npz", a=np.ones(7) + 1e-3)
    asked = []
    compare = pairing.compare_tensors

    def watched(*arguments, statistics, **more):
        asked.append(statistics)
        return compare(*arguments, statistics=statistics, **more)

    monkeypatch.setattr(pairing, "compare_tensors", watched)
    for other, code in (("a.npz", 0), ("b.npz", 1)):
        assert [attn("compare", "a.npz", other, *quiet).code for quiet in ((), ("-q",))] == [
            code
        ] * 2
    assert attn("compare", "a.npz", "b.npz", "-q", "--json").json["tensors"]
    assert asked == [True, False, True, False, True]
