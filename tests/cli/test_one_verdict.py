"""``attn forward`` on a file that claims a result, and ``attn compare``: one verdict."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

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
    assert forward.code == 0
    assert f"agrees with {name}" in forward.out or f"DIFFERS from {name}" in forward.out
    compared = attn("compare", "ours.npz", "theirs.npz", *options)
    assert compared.code == ("DIFFERS" in compared.out)
    return (
        f"agrees with {name}" in forward.out,
        agreement["agreement"][name]["agrees"],
        "DIFFERS" not in compared.out,
        attn("compare", "ours.npz", "theirs.npz", "--json", *options).json["passed"],
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


@pytest.mark.parametrize(("off", "agrees"), [(0.01, True), (0.05, False)])
def test_a_claim_in_bfloat16_is_judged_as_such(attn, folder, off, agrees):
    inputs = {name: x.astype("f4") for name, x in problem([1.0, -2.0]).items()}
    output = (claim_of([1.0, -2.0]) * (1 + off)).astype(ml_dtypes.bfloat16)
    save_file({**inputs, "output": output}, "claiming.safetensors")
    save_file({"output": output}, "theirs.safetensors")
    np.savez("ours.npz", output=claim_of([1.0, -2.0]).astype("f4"))
    forward = attn("forward", "claiming.safetensors", "--json")
    assert forward.json["agreement"]["output"]["agrees"] == agrees
    compared = attn("compare", "ours.npz", "theirs.safetensors", "--json")
    assert compared.json["passed"] == agrees


def test_nan_in_what_a_file_claims_is_judged_without_being_asked_for(attn, folder):
    np.savez("claiming.npz", **problem([1.5, -2.0]), output=claim_of([nan, -2.0]))
    result = attn("forward", "claiming.npz")
    assert result.code == 0
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
