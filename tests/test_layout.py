"""The order of axes: seen from our own axes and back, without a copy."""

from itertools import permutations

import numpy as np
import pytest

from attncli.errors import ParameterError
from attncli.operations import OPERATIONS
from attncli.operations.layout import Layout, parse_layout, unpacked, written

GENERAL = OPERATIONS["scaled-dot-product"]
SIZES = {"N": 2, "T": 5, "total": 5, "heads": 3, "H": 7}
WORDS = [
    words
    for names in ({"N", "T", "heads", "H"}, {"N", "T", "H"}, {"total", "heads", "H"}, {"T", "H"})
    for words in permutations(sorted(names))
]


@pytest.mark.parametrize("words", WORDS, ids=",".join)
def test_every_order_is_turned_and_turned_back_as_a_view(words):
    x = np.arange(np.prod([SIZES[word] for word in words])).reshape([SIZES[w] for w in words])
    layout = Layout.of(GENERAL, {"": words})
    own = layout.to_own("query", x)
    sizes = [SIZES[word] if word in words or word == "T" else 1 for word in ("N", "T", "H")]
    if "heads" in words:
        sizes.insert(1, SIZES["heads"])
    assert own.shape == tuple(sizes)
    steps = "total" if "total" in words else "T"
    letters = "".join({"N": "n", "heads": "h", steps: "t", "H": "d"}[word] for word in words)
    ours = "".join(letter for letter in "nhtd" if letter in letters)
    np.testing.assert_array_equal(own.reshape(-1), np.einsum(f"{letters}->{ours}", x).reshape(-1))
    assert np.shares_memory(own, x)
    back = layout.to_given("dquery", own)
    np.testing.assert_array_equal(back, x)
    assert np.shares_memory(back, x)


@pytest.mark.parametrize("words", [("N", "T", "H"), ("T", "N", "H"), ("T", "H")], ids=",".join)
def test_heads_that_lie_beside_each_other_are_told_apart(words):
    heads = {"heads": 6, "kv_heads": 2}
    sizes = [{"N": 2, "T": 5, "H": 42}[word] for word in words]
    x = np.arange(np.prod(sizes)).reshape(sizes)
    layout = Layout.of(GENERAL, {"": words}, heads)
    own = layout.to_own("query", x)
    assert own.shape == (2 if "N" in words else 1, 6, 5, 7)
    item = x if "N" not in words else np.moveaxis(x, words.index("N"), 0)[1]
    np.testing.assert_array_equal(own[-1, 4], item[:, 28:35])
    np.testing.assert_array_equal(layout.to_given("out", own), x)
    assert layout.to_own("key", x).shape[1:] == (2, 5, 21)
    assert layout.axes("dkey", 3)[-1] == "kv_heads·H"


def test_what_one_array_holds_of_all_three():
    whole = np.arange(2 * 5 * 3 * 4 * 7).reshape(2, 5, 3, 4, 7)
    parts = unpacked(whole, ("N", "T", "3", "heads", "H"), {})
    for n, part in enumerate(parts.values()):
        np.testing.assert_array_equal(part, whole[:, :, n])
    beside = np.arange(2 * 10 * 7).reshape(2, 10, 7)  # T,heads,H
    parts = unpacked(beside, ("T", "heads", "H"), {"heads": 6, "kv_heads": 2})
    assert [part.shape for part in parts.values()] == [(2, 6, 7), (2, 2, 7), (2, 2, 7)]
    np.testing.assert_array_equal(parts["key"], beside[:, 6:8])


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("N,T,heads,H", "N,T,heads,H"),
        ("b, s, heads, d", "N,T,heads,H"),
        ("query=T,N,H,k=N,T,H,output=N,T,H", "query=T,N,H,key=N,T,H,out=N,T,H"),
        ("total,3,heads,H", "total,3,heads,H"),
    ],
)
def test_a_layout_is_read_and_written(text, again):
    assert written(parse_layout(text)) == again


@pytest.mark.parametrize(
    "text",
    [
        "",
        "N",
        "N,T",
        "N,H",
        "N,T,T,H",
        "T,total,H",
        "N,T,h,H",
        "query=",
        "query=N,T",
        "x",
        "N,,T,H",
    ],
)
def test_what_is_no_layout(text):
    with pytest.raises(ParameterError, match="is not a layout such as N,T,heads,H"):
        parse_layout(text)


def test_a_name_that_is_there_twice():
    with pytest.raises(ParameterError, match="query is there twice"):
        parse_layout("query=N,T,H,q=T,N,H")
