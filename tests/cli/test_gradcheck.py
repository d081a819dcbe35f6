"""``attn gradcheck``."""

import dataclasses

import pytest

from attncli import operations
from attncli.checking.targets.operation_target import ENGINES

EACH = 1 + len(ENGINES)  # times is attention as a whole computed


def test_all_layers_pass(attn):
    result = attn("gradcheck", columns=100)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == ("attn · complex step · N=3 T_dec=5 T_enc=7 H=4 · float64 · seed 0")
    assert sum(line.rstrip().endswith(" ok") for line in lines) == 5 + 7 * EACH
    assert lines[2].split()[:3] == ["layer", "engine", "gradient"]
    named = [line.split()[:3] for line in lines]
    assert all(["time-attention", engine, "dhs_dec"] in named for engine in ("reference", *ENGINES))
    assert lines[-1].startswith(f"{306 + 510 * EACH} gradients right: worst relative error ")


def test_one_layer_as_json(attn):
    result = attn(
        "gradcheck",
        "--layer",
        "time-attention",
        "--N",
        2,
        "--T",
        3,
        "--T-enc",
        4,
        "--H",
        5,
        "--json",
    )
    assert result.code == 0
    assert result.json["passed"] is True
    assert result.json["sizes"] == {"N": 2, "T_dec": 3, "T_enc": 4, "H": 5}
    (report,) = result.json["targets"]
    assert (report["target"], report["tolerance"]) == ("time-attention", 1e-12)
    assert [check["elements"] for check in report["checks"]] == [40, 30] * EACH


def keys(value):
    """The names at every level; of lists, those of all their members."""
    if isinstance(value, dict):
        return {name: keys(held) for name, held in value.items()}
    if isinstance(value, list):
        return [held for held in map(keys, value) if held]
    return None


def test_our_layers_and_anybodys_have_the_same_json(attn):
    file = operations.__file__.replace("operations/__init__", "layers")
    ours = attn("gradcheck", "--layer", "weight-sum", "--json").json
    theirs = attn("gradcheck", f"{file}:WeightSum", "--json").json
    assert keys(ours) == keys(theirs)
    assert list(ours) == ["schema", "attn", "command", "passed", "sizes", "options", "targets"]
    every = attn("gradcheck", "--json").json
    (report,) = every["targets"]
    assert keys(report["checks"][0]) == keys(ours["targets"][0]["checks"][0])
    assert len(report["checks"]) == 5 + 7 * EACH


def test_central_differences(attn):
    result = attn("gradcheck", "--method", "central", "--json")
    assert result.code == 0
    (report,) = result.json["targets"]
    assert (report["method"], report["tolerance"]) == ("central", 1e-6)


@pytest.fixture
def wrong_softmax(monkeypatch):
    softmax = operations.OPERATIONS["softmax"]

    class Wrong(softmax.layer):
        def backward(self, dweights):
            return self.out * dweights  # without Σ

    wrong = dict(operations.OPERATIONS, softmax=dataclasses.replace(softmax, layer=Wrong))
    monkeypatch.setattr(operations, "OPERATIONS", wrong)


def test_a_wrong_gradient_exits_with_1_and_is_shown(attn, wrong_softmax):
    result = attn("gradcheck", "--layer", "softmax", columns=100)
    assert result.code == 1
    assert result.err == ""
    assert "WRONG" in result.out
    assert "reference: dscores" in result.out
    assert "1 of 1 gradient tensors wrong: tolerance 1e-12" in result.out


def test_a_wrong_gradient_in_json(attn, wrong_softmax):
    result = attn("gradcheck", "--layer", "softmax", "--json")
    assert result.code == 1
    assert result.json["passed"] is False
    (check,) = result.json["targets"][0]["checks"]
    assert check["backward"] != check["derivative"]


def test_quiet_leaves_the_exit_code(attn, wrong_softmax):
    result = attn("gradcheck", "--layer", "softmax", "-q")
    assert (result.code, result.out, result.err) == (1, "", "")


@pytest.mark.parametrize("tolerance", ["0", "-1", "nan", "inf", "small"])
def test_tolerance_must_be_a_positive_number(attn, tolerance):
    result = attn("gradcheck", "--tol", tolerance)
    assert result.code == 2
    assert "'--tol'" in result.err


def test_a_tighter_tolerance_than_rounding_fails(attn):
    assert attn("gradcheck", "--layer", "attention-weight", "--tol", "1e-20").code == 1


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_every_line_fits_the_terminal(attn, columns):
    lines = attn("gradcheck", columns=columns).out.splitlines()
    assert max(map(len, lines)) <= columns


def test_sizes_beyond_memory_are_said(attn):
    result = attn("gradcheck", "--N", 10**10)
    assert result.code == 2
    assert "hint:  a gradient is checked as well on small sizes" in result.err


@pytest.mark.parametrize("options", [
    ("--causal", "--window", "2,0", "--heads", "2", "--sinks", "0", "--alibi"),
    ("--kv-lengths", "3,5", "--causal", "--causal-align", "lower-right", "--softcap", "2"),
    ("--cu-seqlens", "0,2,5", "--cu-seqlens-k", "0,3,7", "--rotary", "halves"),
    ("--layer", "time-attention", "--segments", "2,3/4,3", "--scale", "0.3"),
    ("--layer", "attention", "--keep-prob", "0.6", "--sinks", "1"),
    ("--heads", "2", "--keep-prob", "0.7"),
])  # fmt: skip
def test_options_are_proved_with_every_engine(attn, options):
    given = attn("gradcheck", *options, "--json").json
    for option, value in {"--window": [2, 0], "--kv-lengths": [3, 5], "--scale": 0.3}.items():
        if option in options:
            assert given["options"][option.strip("-").replace("-", "_")] == value
    (report,) = given["targets"]
    assert report["passed"]
    assert {check["engine"] for check in report["checks"]} == {"reference", *ENGINES}
    beside = {f"d{name}" for name in ("sinks", "alibi") if f"--{name}" in options}
    assert beside <= {f"d{check['input']}" for check in report["checks"]}


def test_what_a_layer_takes_no_option_of_and_what_is_not_ours_is_refused(attn):
    assert "luong takes no --sinks" in attn("gradcheck", "--layer", "luong", "--sinks", "0").err
    yours = attn("gradcheck", "mine.py", "--kv-lengths", "3")
    assert (yours.code, "--kv-lengths is for the layers of attn" in yours.err) == (2, True)


def test_layers_with_weights_are_proved_under_causal_order(attn):
    report = attn("gradcheck", "--layer", "luong", "--causal", "--window", "1", "--json").json
    (luong,) = report["targets"]
    assert luong["passed"]
    assert {check["input"] for check in luong["checks"]} == {"hs_enc", "hs_dec", "W"}
