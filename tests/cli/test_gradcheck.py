"""``attn gradcheck``."""

import dataclasses

import pytest

from attncli import operations


def test_all_layers_pass(attn):
    result = attn("gradcheck", columns=100)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == ("gradcheck · complex step · N=3 T_dec=5 T_enc=7 H=4 · float64 · seed 0")
    assert sum(line.rstrip().endswith(" ok") for line in lines) == 26
    assert lines[-1].startswith("1836 gradients right: worst relative error ")


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
    assert result.json["tolerance"] == 1e-12
    assert result.json["sizes"] == {"N": 2, "T_dec": 3, "T_enc": 4, "H": 5}
    assert [check["elements"] for check in result.json["checks"]] == [40, 30] * 3


def test_central_differences(attn):
    result = attn("gradcheck", "--method", "central", "--json")
    assert result.code == 0
    assert result.json["method"] == "central"
    assert result.json["tolerance"] == 1e-6


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
    assert "softmax, reference: dscores[" in result.out
    assert "1 gradient tensor is wrong: worst relative error " in result.out


def test_a_wrong_gradient_in_json(attn, wrong_softmax):
    result = attn("gradcheck", "--layer", "softmax", "--json")
    assert result.code == 1
    assert result.json["passed"] is False
    (check,) = result.json["checks"]
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
    assert attn("gradcheck", "--tol", "1e-20").code == 1


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_every_line_fits_the_terminal(attn, columns):
    lines = attn("gradcheck", columns=columns).out.splitlines()
    assert max(map(len, lines)) <= columns


@pytest.mark.parametrize("size", ["99999999999999999999", "10000000000"])
def test_sizes_beyond_memory_are_said(attn, size):
    result = attn("gradcheck", "--N", size)
    assert result.code == 2
    assert "hint:  a gradient is checked as well on small sizes" in result.err
