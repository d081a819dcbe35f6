"""Finding the convention under which an output was computed."""

import numpy as np
import pytest

from attncli.checking.diagnosing.convention_search import find_convention
from attncli.core import attention
from attncli.core.semantics import Semantics
from attncli.errors import DataError, ShapeError


def tensors(heads=(3, 3), layout=(0, 1, 2, 3), mask=None, T_enc=7, **options):
    rng = np.random.default_rng(2)
    query, key, value = (
        rng.normal(size=(2, h, t, 4))
        for h, t in ((heads[0], 5), (heads[1], T_enc), (heads[1], T_enc))
    )
    output, _ = attention(query, key, value, mask=mask, **options)
    named = {"query": query, "key": key, "value": value, "output": output}
    return {name: x.transpose(layout) for name, x in named.items()}


def best(given, **options):
    report = find_convention(given, **options)
    assert report.passed
    return report.found[0].described


@pytest.mark.parametrize(
    ("options", "described"),
    [
        ({}, "scale 1/√H, layout (N, heads, T, H)"),
        ({"scale": 1.0}, "scale 1, layout (N, heads, T, H)"),
        ({"scale": 0.25}, "scale 1/H, layout (N, heads, T, H)"),
        ({"causal": "upper_left"}, "causal upper_left, scale 1/√H, layout (N, heads, T, H)"),
        (
            {"causal": "lower_right", "layout": (0, 2, 1, 3)},
            "causal lower_right, scale 1/√H, layout (N, T, heads, H)",
        ),
        ({"softcap": 20.0}, "scale 1/√H, layout (N, heads, T, H), softcap 20"),
        (
            {"heads": (6, 2)},
            "scale 1/√H, layout (N, heads, T, H), groups repeated",
        ),
        ({"layout": (2, 0, 1, 3)}, "scale 1/√H, layout (T, N, heads, H)"),
    ],
)
def test_each_choice_is_recognised(options, described):
    assert best(tensors(**options)) == described


def test_where_both_alignments_are_one_it_is_called_upper_left():
    report = find_convention(tensors(T_enc=5, causal="lower_right"))
    assert {one.causal for one in report.found} == {"causal upper_left"}


def test_with_one_head_items_and_heads_have_one_order():
    report = find_convention(tensors(heads=(1, 1)))
    assert {one.layout for one in report.found} == {"layout (N, heads, T, H)"}


def test_tiled_groups_are_recognised():
    given = tensors(heads=(6, 2))
    order = np.arange(6) % 2
    given["output"], _ = attention(given["query"], given["key"][:, order], given["value"][:, order])
    assert best(given) == "scale 1/√H, layout (N, heads, T, H), groups tiled"


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda mask: mask, "mask True = takes part"),
        (lambda mask: ~mask, "mask True = hidden"),
        (lambda mask: mask.swapaxes(-1, -2), "mask transposed True = takes part"),
        (lambda mask: np.where(mask, 0.0, -np.inf), "mask added"),
    ],
)
def test_the_reading_of_the_mask_is_recognised(read, words):
    mask = np.random.default_rng(0).random((2, 1, 5, 7)) < 0.6
    mask[..., 0] = True
    given = tensors(mask=mask)
    given["mask"] = read(mask)
    assert f", {words}, " in best(given)


def test_a_padding_mask_of_the_keys():
    mask = np.ones((2, 7), bool)
    mask[:, 5:] = False
    given = tensors(mask=mask[:, None, None, :])
    given["enc_mask"] = mask
    assert ", mask True = takes part, " in best(given)


def test_without_heads_or_items():
    given = {name: x[:, 0] for name, x in tensors().items()}
    assert best(given) == "scale 1/√H, layout (N, T, H)"
    assert best({name: x[0] for name, x in given.items()}) == "scale 1/√H, layout (T, H)"


def test_float32_is_enough():
    given = {name: x.astype(np.float32) for name, x in tensors(causal="upper_left").items()}
    assert best(given).startswith("causal upper_left")


def test_an_unusual_scale_can_be_suggested():
    given = tensors(scale=0.37)
    report = find_convention(given)
    assert not report.passed
    assert report.nearest.distance > report.tolerance
    assert best(given, claims=Semantics(scale=0.37)).startswith("scale 0.37")


def test_of_a_long_sequence_some_rows_are_enough():
    rng = np.random.default_rng(0)
    given = {x: rng.normal(size=(1, 2, 500, 8)) for x in ("query", "key", "value")}
    given["output"], _ = attention(**given, causal="upper_left")
    assert best(given) == "causal upper_left, scale 1/√H, layout (N, heads, T, H)"


def test_what_is_missing_is_said():
    given = tensors()
    del given["output"]
    with pytest.raises(DataError, match="output is missing"):
        find_convention(given)
    with pytest.raises(ShapeError, match="no layout fits the shapes"):
        find_convention({**given, "output": np.ones((2, 3))})
