"""``attn forward`` on a file that claims a result, and ``attn compare``: one verdict."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import attncli

nan, inf = np.nan, np.inf
TINY = np.finfo("f8").smallest_subnormal

# What value is, what the file claims as output, whether they agree, and with --equal-nan.
CASES = {
    "the same": ([1.5, -2.0], [1.5, -2.0], True, True),
    "within the tolerance": ([1.5, -2.0], [1.5 + 1e-7, -2.0], True, True),
    "outside the tolerance": ([1.5, -2.0], [1.5 + 1e-6, -2.0], False, False),
    "NaN in both": ([nan, -2.0], [nan, -2.0], False, True),
    "NaN in the claim": ([1.5, -2.0], [nan, -2.0], False, False),
    "NaN in ours": ([nan, -2.0], [1.5, -2.0], False, False),
    "NaN in other places": ([nan, -2.0], [1.5, nan], False, False),
    "the same infinities": ([inf, -inf], [inf, -inf], True, True),
    "infinities of another sign": ([inf, -inf], [inf, inf], False, False),
    "infinity in the claim": ([1.5, -2.0], [inf, -2.0], False, False),
    "infinity in ours": ([inf, -2.0], [1.5, -2.0], False, False),
    "infinities in other places": ([inf, -2.0], [1.5, inf], False, False),
    "infinity beside NaN": ([inf, -2.0], [nan, -2.0], False, False),
    "the same infinity, and another number": ([inf, -2.0], [inf, -2.1], False, False),
    "zeros of another sign": ([0.0, -2.0], [-0.0, -2.0], True, True),
    "subnormal numbers": ([TINY, 7 * TINY], [3 * TINY, 0.0], True, True),
    "differences beyond the largest number": ([1.7e308, 1.0], [-1.7e308, 1.0], False, False),
    "nothing": (np.zeros((0, 1, 2)), np.zeros((0, 3, 2)), True, True),
    "a shape that would broadcast": ([1.5, -2.0], np.array([[[1.5, -2.0]]]), False, False),
    "a number that would broadcast": ([1.5, 1.5], np.array(1.5), False, False),
    "float32": ([1.1, -2.1], np.array([1.1, -2.1], "f4"), True, True),
    "float32, outside": ([1.1, -2.1], np.array([1.1001, -2.1], "f4"), False, False),
    "float16": ([1.1, -2.1], np.array([1.1, -2.1], "f2"), True, True),
    "float16, outside": ([1.1, -2.1], np.array([1.2, -2.1], "f2"), False, False),
    "longdouble": ([1.1, -2.1], np.array([1.1, -2.1], np.longdouble), True, True),
    "whole numbers": ([1.0, -2.0], np.array([1, -2]), True, True),
    "whole numbers, outside": ([1.1, -2.1], np.array([1, -2]), False, False),
    "booleans": ([1.0, 0.0], np.array([True, False]), True, True),
}


def problem(value):
    """Inputs of which the output is `value` at each of three decoder steps: there is one key."""
    value = np.asarray(value)
    if value.ndim == 1:
        value = value.reshape(1, 1, -1)
    N = len(value)
    return {"query": np.zeros((N, 3, 2)), "key": np.zeros((N, 1, 2)), "value": value}


def claim_of(values, N=1):
    values = np.asarray(values)
    return np.broadcast_to(values, (N, 3, 2)).copy() if values.ndim == 1 else values


def verdicts(attn, claimed, *options, name="output"):
    """What both commands say of the tensor `name`, in words and in JSON."""
    np.savez("theirs.npz", **{name: claimed[name]})
    forward = attn("forward", "claiming.npz", "--allow-nonfinite", *options)
    agreement = attn("forward", "claiming.npz", "--allow-nonfinite", "--json", *options).json
    assert forward.code == ("DIFFERS" in forward.out)
    assert agreement["passed"] == agreement["agreement"][name]["agrees"]
    assert f"agrees with {name}" in forward.out or f"DIFFERS from {name}" in forward.out
    compared = attn("compare", "theirs.npz", "ours.npz", *options)
    assert compared.code == ("DIFFERS" in compared.out)
    return (
        f"agrees with {name}" in forward.out,
        agreement["agreement"][name]["agrees"],
        "DIFFERS" not in compared.out,
        attn("compare", "theirs.npz", "ours.npz", "--json", *options).json["passed"],
    )


@pytest.mark.filterwarnings("ignore:.*not finite", "ignore:.*the result is empty")
@pytest.mark.parametrize("equal_nan", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_claimed_output_is_judged_as_compare_judges_it(attn, folder, case, equal_nan):
    value, claim, agrees, with_nan = CASES[case]
    inputs = problem(value)
    claimed = {"output": claim_of(claim)}
    np.savez("inputs.npz", **inputs)
    attn("forward", "inputs.npz", "--allow-nonfinite", "-o", "run.npz")
    with np.load("run.npz") as run:
        np.savez("ours.npz", output=run["out"])
    np.savez("claiming.npz", **inputs, **claimed)
    options = ["--equal-nan"] if equal_nan else []
    expected = with_nan if equal_nan else agrees
    assert verdicts(attn, claimed, *options) == (expected,) * 4


@pytest.mark.parametrize("spoilt", [None, nan, inf, 0.9])
def test_claimed_weights_are_judged_as_compare_judges_them(attn, folder, spoilt):
    inputs = problem([1.5, -2.0])
    weights = np.ones((1, 3, 1))
    np.savez("ours.npz", weights=weights)
    claimed = {"weights": weights.copy()}
    if spoilt is not None:
        claimed["weights"][0, 1] = spoilt
    np.savez("claiming.npz", **inputs, **claimed)
    assert verdicts(attn, claimed, name="weights") == (spoilt is None,) * 4


def half_problem(dtype, widened=False):
    """Inputs in half precision, and their exact output, logsumexp and weights."""
    rng = np.random.default_rng(5)
    wide = {"query": (1, 2, 7, 5), "key": (1, 2, 11, 5), "value": (1, 2, 11, 3)}
    half = {name: rng.normal(size=shape).astype(dtype) for name, shape in wide.items()}
    out, cache = attncli.attention(*(x.astype("f8") for x in half.values()), weights=True)
    inputs = {name: x.astype("f4") for name, x in half.items()} if widened else half
    return inputs, {"output": out, "lse": cache.logsumexp, "weights": cache.weights}


@pytest.mark.parametrize("name", ["output", "lse", "weights"])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("held", ["as it is", "widened", "widened and said"])
def test_a_claim_in_half_precision_is_judged_by_what_that_can_give(attn, folder, dtype, held, name):
    inputs, exact = half_problem(dtype, held != "as it is")
    right = exact[name].astype(dtype)
    wrong = right.copy()
    wrong[0, 1, 3] = right[0, 1, 2]  # a row that is another's
    save = dict.fromkeys(("right", "wrong"))
    for which, claim in zip(save, (right, wrong), strict=True):
        claim = claim.astype("f4") if held != "as it is" else claim
        save_file({**inputs, name: claim}, f"{which}.safetensors")
    options = ["--as-dtype", np.dtype(dtype).name] if "said" in held else []
    agrees = attn("forward", "right.safetensors", *options)
    said = f"within what rounding to {np.dtype(dtype).name}"
    assert (agrees.code, agrees.err, said in agrees.out) == (0, "", True)
    assert ("which holds every number" in agrees.out) == (held == "widened")
    differs = attn("forward", "wrong.safetensors", *options)
    assert (differs.code, "beyond what rounding to" in differs.out) == (1, True)
    assert "only at head 1 of 2; only at decoder step 3 of 7" in differs.out
    assert attn("forward", "wrong.safetensors", *options, "--json").json["passed"] is False


def test_a_kernel_of_half_precision_may_save_its_logsumexp_in_single(attn, folder):
    inputs, exact = half_problem(ml_dtypes.bfloat16)
    rows = (exact["lse"] + 1e-3).astype("f4")  # of scores that were stored in bfloat16
    out = exact["output"].astype(ml_dtypes.bfloat16)
    save_file({**inputs, "out": out, "lse": rows}, "x.safetensors")
    assert attn("forward", "x.safetensors").code == 0
    save_file({**inputs, "out": out, "lse": rows + 1}, "x.safetensors")
    assert attn("forward", "x.safetensors").code == 1
    single = {name: x.astype("f4") for name, x in inputs.items()}
    save_file({**single, "out": exact["output"].astype("f4"), "lse": rows}, "x.safetensors")
    assert attn("forward", "x.safetensors").code == 1


@pytest.mark.parametrize("name", ["lse", "logsumexp"])
def test_a_logsumexp_in_base_2_is_said_to_be_that(attn, folder, name):
    inputs, exact = half_problem("f4")
    for claim, code in ((exact["lse"], 0), (exact["lse"] / np.log(2), 1), (exact["lse"] / 2, 1)):
        np.savez("x.npz", **inputs, **{name: claim.astype("f4")})
        result = attn("forward", "x.npz")
        assert result.code == code
        in_base_2 = "it agrees in base 2, where a natural logarithm is meant"
        assert (in_base_2 in result.out) == np.array_equal(claim, exact["lse"] / np.log(2))
        assert result.err == ("hint:  attn convention x.npz\n" if code else "")


def test_out_is_a_claim_in_what_no_run_wrote(attn, folder):
    inputs, exact = half_problem("f4")
    np.savez("x.npz", **inputs, out=exact["output"].astype("f4") + 1)
    assert "DIFFERS from out in the file" in attn("forward", "x.npz").out
    assert attn("forward", "x.npz", "-o", "run.npz", "-q").code == 1
    again = attn("forward", "run.npz", "--causal")  # its results are its own
    assert (again.code, "the file" in again.out) == (0, False)


def test_a_claim_that_differs_is_an_exit_of_1_wherever_the_run_goes(attn, folder):
    inputs, exact = half_problem("f4")
    np.savez("my run.npz", **inputs, theirs=exact["output"].astype("f4") + 1)
    for command in ("forward", "backward"):
        result = attn(command, "my run.npz", "--rename", "output=theirs", "-q")
        assert (result.code, result.out, result.err) == (1, "", "")
        result = attn(command, "my run.npz", "--rename", "output=theirs")
        assert result.code == 1
        hint = "hint:  attn convention 'my run.npz' --rename output=theirs\n"
        assert result.err == hint
        assert attn("convention", "my run.npz", "--rename", "output=theirs").code == 1


def test_nan_in_what_a_file_claims_is_judged_without_being_asked_for(attn, folder):
    np.savez("claiming.npz", **problem([1.5, -2.0]), output=claim_of([nan, -2.0]))
    result = attn("forward", "claiming.npz")
    assert result.code == 1
    assert "DIFFERS from output in the file by up to inf" in result.out
    assert json.loads(attn("forward", "claiming.npz", "--json").out)["agreement"]["output"] == {
        "agrees": False,
        "largest_difference": "Infinity",
    }
    assert "DIFFERS from output" in attn("backward", "claiming.npz").out


def test_backward_takes_equal_nan_too(attn, folder):
    np.savez("claiming.npz", **problem([nan, 1.0]), output=claim_of([nan, 1.0]))
    plain = attn("backward", "claiming.npz", "--allow-nonfinite")
    assert "DIFFERS from output" in plain.out
    equal = attn("backward", "claiming.npz", "--allow-nonfinite", "--equal-nan")
    assert "agrees with output" in equal.out


@pytest.mark.parametrize(
    ("name", "options"),
    [("weights", ["--no-weights"]), ("lse", ["--layer", "luong", "--engine", "reference"])],
)
def test_a_claim_that_cannot_be_judged_is_said_to_be(attn, folder, name, options):
    inputs, exact = half_problem("f4")
    states = {"hs_enc": np.ones((1, 3, 2)), "hs_dec": np.ones((1, 2, 2)), "W": np.eye(2)}
    np.savez("x.npz", **(states if "luong" in options else inputs), **{name: exact[name]})
    result = attn("forward", "x.npz", *options)
    assert result.code == 0
    assert f"warning: x.npz: {name} not compared: " in result.err


def test_where_no_convention_is_searched_none_is_hinted_at(attn, folder):
    np.savez("x.npz", hs=np.ones((1, 3, 2)), h=np.ones((1, 2)), out=np.zeros((1, 2)))
    result = attn("forward", "x.npz")
    assert (result.code, "DIFFERS from out" in result.out, result.err) == (1, True, "")


@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_where_a_claim_differs_is_said_in_the_words_of_its_layout(attn, folder, dtype):
    inputs, exact = half_problem(dtype)
    out = exact["output"].astype(dtype)
    out[0, 1, 3] += 1
    turned = {name: x.swapaxes(1, 2) for name, x in {**inputs, "out": out}.items()}
    np.savez("x.npz", **turned)
    said = attn("forward", "x.npz", "--layout", "N,T,heads,H").out.splitlines()[1]
    assert said.startswith("DIFFERS from out in the file by up to 1.0e+00")
    where = [part for part in said.split("; ") if part.startswith("only at ")]
    assert where == ["only at decoder step 3 of 7", "only at head 1 of 2"]
    np.savez("a.npz", output=turned["out"])
    np.savez("b.npz", output=exact["output"].swapaxes(1, 2))
    command = ("compare", "a.npz", "b.npz", "--budget", "x.npz", "--layout", "N,T,heads,H")
    (tensor,) = attn(*command, "--json").json["tensors"]
    assert tensor["places"] == tensor["budget"]["places"] == where
