"""``attn compare``."""

import numpy as np
import pytest
from conftest import SAMPLES


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
    assert result.out.endswith("4 tensors compared: all agree\n")


def test_what_differs_is_told_in_full(attn, runs):
    result = attn("compare", "b.npz", "a.npz", columns=100)
    assert result.code == 1
    assert "off" not in result.out.split("weights")[0]
    for line in (
        "  tolerance  |a - b| ≤ 1e-07 + 1e-07 · |b| (torch's assert_close default)",
        "  outside    15 of 30 elements",
        "  where      only at item 1 of 2",
        "1 of 4 tensors differs",
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
        "3 tensors compared; 1 in one file alone (--ignore leaves them out)\n"
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
        (["a.npz", "b.npz", "--budget", "empty.npz"], "empty.npz: query is missing"),
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


def test_budget_allows_twice_the_error_of_a_straightforward_evaluation(attn, folder):
    sizes = ("--N", 4, "--T", 31, "--H", 16)  # enough elements for the largest to be no accident
    attn("forward", *sizes, "--dtype", "float32", "-o", "half.npz")
    attn("forward", *sizes, "-o", "exact.npz")
    command = ("compare", "half.npz", "exact.npz", "--only", "out", "--budget", "half.npz")
    result = attn(*command, "--json")
    budget = result.json["tensors"][0]["budget"]
    assert (result.code, budget["passed"]) == (0, True)
    assert budget["allowed"] == 2 * budget["straightforward"]
    assert "budget" in attn(*command).out
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
    assert result.err == f"error: {message}\n"


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


def test_exactly_twice_the_error_of_a_straightforward_evaluation_passes(attn, folder):
    inputs = even([1, 2.0**-24])  # 0.5 + 2^-25 lies in the middle of two float32
    below = np.nextafter(np.float32(0.5), np.float32(0))
    passed, budget = judged(attn, inputs, np.array([[below]]))
    assert passed
    assert budget["straightforward"] == 2.0**-25
    assert budget["candidate"] == budget["allowed"] == 2.0**-24
    beyond = np.nextafter(below, np.float32(0))
    passed, budget = judged(attn, inputs, np.array([[beyond]]))
    assert (passed, budget["candidate"]) == (False, 1.5 * 2.0**-24)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_where_nothing_need_be_rounded_the_budget_is_zero(attn, folder, dtype):
    right = np.array([[2.0]], dtype)
    passed, budget = judged(attn, even([1, 3], dtype), right)
    assert (passed, budget["allowed"], budget["candidate"]) == (True, 0.0, 0.0)
    passed, budget = judged(attn, even([1, 3], dtype), np.nextafter(right, right + 1))
    assert (passed, budget["allowed"]) == (False, 0.0)


def test_the_budget_decides_and_not_the_tolerance(attn, folder):
    near = np.array([[2.0000002]], np.float32)
    assert judged(attn, even([1, 3]), near, "--rtol", 1)[0] is False
    far = np.array([[9.0]], np.float32)
    passed, budget = judged(attn, even([1, 3]), np.array([[2.0]], "f4"), other=far)
    assert (passed, budget["other"]) == (True, 7.0)


def test_bfloat16_is_rounded_to_the_nearest_and_of_two_to_the_even_one(attn, folder):
    # 1 + 2^-8 is rounded to 1, and 1 + 3 · 2^-8 to 1 + 2^-6; their mean needs no rounding.
    inputs = even([1 + 2.0**-8, 1 + 3 * 2.0**-8])
    mean = np.array([[0x3F81]], np.uint16).view("V2")  # 1 + 2^-7
    passed, budget = judged(attn, inputs, mean, "--as", "bfloat16")
    assert (passed, budget["straightforward"], budget["candidate"]) == (True, 0.0, 0.0)
    above = np.array([[0x3F82]], np.uint16).view("V2")
    passed, budget = judged(attn, inputs, above, "--as", "bfloat16")
    assert (passed, budget["candidate"]) == (False, 2.0**-7)
    # A little more than the middle is rounded up, a little less down.
    inputs = even([1 + 2.0**-8 + 2.0**-20, 1 + 2.0**-8 - 2.0**-20])
    passed, budget = judged(attn, inputs, mean, "--as", "bfloat16")
    assert budget["straightforward"] == 2.0**-8


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_as_far_as_can_be(attn, folder, value):
    inputs, right = even([1, 2.0**-24]), np.array([[0.5]], np.float32)
    passed, budget = judged(attn, inputs, np.array([[value]], np.float32), other=right)
    assert (passed, budget["candidate"], budget["other"]) == (False, "Infinity", 2.0**-25)
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


def test_a_budget_without_end_judges_nothing_and_is_an_error(attn, folder):
    # In float16 the products overflow, so that a straightforward evaluation gives no number.
    inputs = {"query": np.full((1, 2), 300, "f2"), "key": np.full((3, 2), 300, "f2"),
              "value": np.ones((3, 1), "f2")}  # fmt: skip
    np.savez("in.npz", **inputs)
    for value in (np.nan, 7.0, 1.0):
        np.savez("a.npz", out=np.array([[value]], "f2"))
        result = attn("compare", "a.npz", "a.npz", "--budget", "in.npz")
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith(
            "error: in.npz: out: a straightforward evaluation in float16 gives numbers that are "
            "not finite, and so no budget\n"
        )
