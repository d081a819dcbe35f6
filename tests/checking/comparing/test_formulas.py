"""Formulas are worth the numbers that they stand for."""

import re
from math import e, log, sqrt

import pytest

from attncli.checking.comparing.formulas import Reading, formula_of, said, usual_scales

SIZES = {"H": 6, "H_v": 10, "heads": 3, "kv_heads": 7, "T_enc": 22, "T_dec": 13}


def worth(text):
    """The number that a formula is at these sizes."""
    text = text.split(" (")[0].replace("·", "*").replace("log2(e)", "(1/ln(2))")
    text = re.sub(r"√(\(.*?\)|[\w.]+)", r"sqrt(\1)", text)
    return eval(text, {"sqrt": sqrt, "ln": log, "e": e}, SIZES)


def test_every_usual_scale_is_worth_its_formula():
    found = usual_scales(SIZES)
    assert list(found)[:2] == ["1/√H", "1"]
    assert {"1/√H_v", "1/(heads·H)", "√(kv_heads·H)", "1/T_enc"} <= found.keys()
    assert "1/√128 (H padded to a multiple of 128)" in found
    for text, value in found.items():
        assert value == pytest.approx(worth(text), rel=1e-15), text


@pytest.mark.parametrize("text", [
    "1", "0", "1/√H", "1/H", "√H", "1/√H_v", "1/(heads·H)", "√(kv_heads·H)", "1/T_enc", "√T_enc",
    "1/√T_dec", "1/heads", "√kv_heads", "1/√16 (H padded to a multiple of 16)",
    "1/√8 (H padded to a power of two)", "log2(e)/√H", "ln(2)/√H", "2/9 · 1/√H", "8 · 1/√H",
    "1/√19", "1/12", "1/√16383", "ln(2)", "log2(e)", "e",
])  # fmt: skip
def test_a_number_is_named_by_its_formula(text):
    assert formula_of(Reading(worth(text), SIZES)) == text
    assert formula_of(Reading(worth(text) + 0.001, SIZES)) != text


def test_minus_one_and_what_was_given_have_names():
    assert formula_of(Reading(-1.0, SIZES)) == "−1"
    named = {0.7: "the given 0.7", 0.49: "the given 0.7, squared", 1 / 0.7: "1/0.7"}
    named |= {0.7**0.5: "√0.7", 0.7**-0.5: "1/√0.7", 0.7 / sqrt(6): "0.7 · 1/√H"}
    for value, text in named.items():
        assert formula_of(Reading(value, SIZES, given=0.7)) == text


def test_one_formula_is_of_all_readings():
    readings = [Reading(1 / sqrt(H), {"H": H}) for H in (6, 10)]
    assert said(*readings) == "1/√H"
    assert said(readings[0], Reading(0.3141, {"H": 10})) == "0.3141 … 0.408248"
    padded = [Reading(1 / sqrt(16), {"H": H}) for H in (9, 13)]
    assert formula_of(*padded) == "1/√(H padded to a power of two)"
    padded = [Reading(1 / sqrt(up), {"H": H}) for H, up in ((9, 16), (17, 24))]
    assert formula_of(*padded) == "1/√(H padded to a multiple of 8)"
