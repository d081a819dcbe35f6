"""What ``attn show-weights --export`` writes is read back: the same numbers, words and names."""

import json
import re

import numpy as np
import pytest

rng = np.random.default_rng(11)
WORDS = [
    "=SUM(A1)",
    "'s",
    "'=x",
    "-->",
    "</script>",
    "a,b",
    'say "no"',
    "",
    "Ġé",
    "two\nlines",
    "ß",
]
ENDINGS = ["json", "csv", "md", "html", "svg"]


def weights(*shape, dtype=float):
    array = rng.random(shape)
    return (array / array.sum(axis=-1, keepdims=True)).astype(dtype)


def names(matrix):
    called = {name: matrix[name] for name in ("part", "layer", "item", "head")}
    return {**called, **{name: matrix.get(name) for name in ("tokens_dec", "tokens_enc")}}


@pytest.fixture
def back(attn, folder):
    """Export what is saved, and read it again: the matrices of both."""

    def _back(ending, arrays, *options):
        np.savez("w.npz", **arrays)
        first = attn("show-weights", "w.npz", *options, "--json", "--export", f"x.{ending}")
        assert first.code == 0, first.err
        again = attn("show-weights", f"x.{ending}", "--json")
        assert again.code == 0, again.err
        return json.loads(first.out)["matrices"], json.loads(again.out)["matrices"]

    return _back


def same(pair):
    first, again = pair
    assert [names(one) for one in again] == [names(one) for one in first]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(np.array(other["weights"]), np.array(one["weights"]))


T = len(WORDS)
CASES = {
    "one matrix": ({"weights": weights(3, 5)}, []),
    "half precision": ({"weights": weights(3, 5, dtype="f2")}, []),
    "single precision": ({"layer0": weights(1, 2, 3, 5, dtype="f4")}, []),
    "any words": ({"weights": weights(2, T, T), "tokens": np.array(WORDS)}, []),
    "words of each item": (
        {"layer3": weights(2, 1, 2, 2), "tokens": np.array([["a", "b"], ["c", "d"]])}, [],
    ),
    "layers with a gap": ({"layer1": weights(1, 2, 3, 3), "layer7": weights(1, 2, 3, 3)}, []),
    "one head of several": ({"layer1": weights(1, 5, 3, 3)}, ["--head", "3"]),
    "heads with a gap": ({"layer1": weights(1, 5, 3, 3)}, ["--head", "1,4"]),
    "items with a gap": ({"layer1": weights(3, 2, 3, 3)}, ["--item", "0,2"]),
    "parts": (
        {
            "encoder_attentions": weights(2, 1, 2, 3, 3), "tokens_enc": np.array(list("abc")),
            "cross_attentions": weights(2, 1, 2, 2, 3), "tokens_dec": np.array(["x", "y"]),
        },
        [],
    ),
    "one part": (
        {"cross_attentions": weights(2, 1, 2, 2, 3), "decoder_attentions": weights(2, 1, 2, 2, 2),
         "tokens_dec": np.array(["x", "y"])},
        ["--part", "cross", "--layer", "1"],
    ),
    "some rows": ({"weights": weights(5, 5), "tokens": np.array(list("abcde"))}, ["--rows", "2:4"]),
    "items of different lengths": (
        {"weights": weights(2, 3, 3), "tokens": np.array([["a", "b", "c"], ["d", "e", "[PAD]"]])},
        ["--drop-pad"],
    ),
    "layers of different heads": (
        {"layer0": weights(1, 3, 2, 2), "layer1": weights(1, 1, 2, 2)}, [],
    ),
    "what is not finite": ({"weights": np.array([[np.nan, np.inf], [0.5, 0.5]])},
                           ["--allow-nonfinite"]),
}  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("case", [case for case in CASES if case != "what is not finite"])
def test_every_kind_of_file_reads_back(back, case, ending):
    arrays, options = CASES[case]
    same(back(ending, arrays, *options))


def test_a_png_reads_back(back):
    pytest.importorskip("matplotlib")
    arrays, options = CASES["any words"]
    same(back("png", arrays, *options))


def test_places_stand_for_words_where_there_are_none(back):
    first, (again,) = back("json", {"weights": weights(5, 5)}, "--rows", "2:4")
    assert again["tokens_dec"] == ["2", "3"]
    assert again["weights"] == first[0]["weights"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_frames_read_back(attn, folder, ending):
    np.savez("w.npz", weights=weights(3, 2, 2, 2), steps=np.array([0, 10, 20]))
    attn("show-weights", "w.npz", "--frames", "-q", "--export", f"x.{ending}")
    every = attn("show-weights", f"x.{ending}", "--frames", "--json")
    assert every.code == 0, every.err
    given = json.loads(attn("show-weights", "w.npz", "--frames", "--json").out)
    found = json.loads(every.out)
    assert found["frames"]["steps"] == given["frames"]["steps"]
    assert [one["weights"] for one in found["matrices"]] == [
        one["weights"] for one in given["matrices"]
    ]


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_other_commands_read_exports_too(attn, folder, ending):
    np.savez("w.npz", layer0=weights(1, 2, 3, 3))
    attn("show-weights", "w.npz", "-q", "--export", f"x.{ending}")
    assert attn("compare", "w.npz", f"x.{ending}").code == 0


def test_many_numbers_make_no_drawing_large_and_are_missed_when_it_is_read(attn, folder):
    np.save("w.npy", np.full((700, 700), 1 / 700))
    attn("show-weights", "w.npy", "-q", "--export", "x.svg")
    assert (folder / "x.svg").stat().st_size < 300_000
    result = attn("show-weights", "x.svg")
    assert (result.code, result.out) == (2, "")
    assert "x.svg: a drawing or table without the numbers that attn" in result.err
    assert "hint:  drawn again with --export page.json, it has every number" in result.err


def test_lists_of_the_strongest_keys_are_no_matrices(attn, folder):
    np.save("w.npy", weights(3, 3))
    attn("show-weights", "w.npy", "--top", 1, "-q", "--export", "x.json")
    result = attn("show-weights", "x.json")
    assert result.code == 2
    assert "has the strongest keys of every row alone" in result.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<svg xmlns='x'></svg>", "a drawing or table without the numbers that attn"),
        ("**x** `table`", "a drawing or table without the numbers that attn"),
        ('<svg ><!-- attn-data {"matrices": 7} -->', "a drawing or table without the numbers"),
        ("<svg ><!-- attn-data { -->", "line 1, column 2: no JSON"),
        ('<svg ><!-- attn-data {"matrices": [3]} -->', "matrices[0] has no names"),
    ],
)
def test_what_is_no_export_of_ours_is_refused(attn, folder, text, message):
    (folder / "x.svg").write_text(text)
    result = attn("show-weights", "x.svg")
    assert (result.code, result.out) == (2, "")
    assert message in result.err.splitlines()[0]


@pytest.mark.parametrize(
    "table",
    ["7", '"x"', "[7]", '[{"layer": -1}]', '[{"layer": "a"}]', '[{"part": "x"}]', "[{}, {}, {}]"],
)
def test_a_table_of_matrices_is_believed_in_nothing(attn, folder, table):
    np.savez(
        "w.npz", matrices=np.array(table), **{"matrices.0": np.eye(2), "matrices.1": np.eye(2)}
    )
    result = attn("show-weights", "w.npz")
    assert (result.code, result.out) == (2, "")
    assert re.match(r"error: w\.npz: (matrices is no table|two matrices have)", result.err)


@pytest.mark.parametrize("ending", ["json", "md", "html"])
def test_an_export_without_a_matrix_holds_no_weights(attn, folder, ending):
    np.save("w.npy", np.eye(2))
    assert attn("show-weights", "w.npy", "-q", "--export", f"x.{ending}").code == 0
    text = (folder / f"x.{ending}").read_text(encoding="utf-8")
    place = text.index('"matrices": [') + len('"matrices": ')
    _, end = json.JSONDecoder().raw_decode(text, place)
    (folder / f"x.{ending}").write_text(f"{text[:place]}[]{text[end:]}", encoding="utf-8")
    result = attn("show-weights", f"x.{ending}")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: x.{ending}: no weights: ")
