"""``attn show-mask``: what each query sees, and where two readings differ."""

import csv
import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from conftest import SAMPLES

from attncli.core import attention_weights
from attncli.core.semantics import Semantics
from attncli.core.visibility import Visibility
from attncli.errors import AttnWarning

SIDES = ["--T", 3, "--T-enc", 5, "--causal"]
TWO_LIBRARIES = ["--convention", "torch", "--convention", "flash-attention"]


def pattern(place, T_enc):
    """The pattern that the runs of keys of a place stand for."""
    keys = np.arange(T_enc)
    return np.array(
        [
            np.any([(first <= keys) & (keys <= last) for first, last in runs] or [keys < 0], axis=0)
            for runs in place["keys"]
        ]
    )


def rows(text):
    """The cells of the lines of a picture, by the label at their left."""
    return dict(re.findall(r"^ *(\d+) ([·░▒▓█+.:\-=*#%@!]+)(?= )", text, re.MULTILINE))


def test_a_picture_has_a_row_for_each_query_and_the_count_beside(attn):
    lines = attn("show-mask", "--T", 3, "--causal").out.splitlines()
    assert lines[0] == "show-mask · T_dec=3 T_enc=3 · causal upper_left"
    assert lines[2:7] == [
        "  0 1 2  keys",
        "0 ██····    1",
        "1 ████··    2",
        "2 ██████    3",
        "· hidden  █ seen",
    ]
    assert lines[8:10] == [
        "  seen   share  keys a query  see nothing   tiles",
        "6 of 9  66.7 %           1–3            0  1 of 1",
    ]


def test_two_libraries_side_by_side(attn):
    out = attn("show-mask", *SIDES, *TWO_LIBRARIES).out
    assert "A  torch: causal upper_left\nB  flash-attention: causal lower_right\n" in out
    assert re.search(r"^0 ██········    1 +██\+\+\+\+····    3$", out, re.MULTILINE)
    assert out.endswith(
        "6 of 15 pairs differ, in 3 of 3 queries; the first is query 0: B alone sees keys 1–2\n"
    )


def test_a_window_with_and_without_the_own_token(attn):
    options = ["--T", 7, "--causal", "--window", 3]
    two = ["--convention", "flash-attention", "--convention", "transformers"]
    found = attn("show-mask", *options, *two, "--json").json
    assert [one["options"]["window"] for one in found["readings"]] == [3, 2]
    assert found["differences"] == [
        {
            "pairs": 4,
            "alone": [4, 0],
            "queries": [3, 4, 5, 6],
            "first": {"query": 3, "alone": [[[0, 0]], []]},
        }
    ]


def test_a_second_set_of_options_as_text(attn):
    found = attn(
        "show-mask", "--T", 7, "--window", 2, "--against", "--causal --window 2", "--json"
    ).json
    ours, theirs = (pattern(one["places"][0], 7) for one in found["readings"])
    assert np.array_equal(ours, Visibility.of(Semantics(window=2), 7, 7).pattern())
    assert np.array_equal(theirs, np.tril(ours))
    assert found["differences"][0]["alone"] == [int((ours & ~theirs).sum()), 0]


def test_what_is_the_same_has_no_difference(attn):
    out = attn("show-mask", "--T", 5, "--window", 4, "--against", "").out
    assert out.endswith("no difference\n")


def test_items_differ_by_their_lengths(attn):
    options = ["--kv-lengths", "2,3", "--T", 2, "--T-enc", 3, "--causal"]
    against = "--kv-lengths 2,3 --causal --causal-align lower-right"
    result = attn("show-mask", *options, "--against", against)
    assert result.out.splitlines()[-2:] == [
        "item 0: no difference",
        "item 1: 2 of 6 pairs differ, in 2 of 2 queries; the first is query 0: B alone sees keys 1",
    ]
    one = attn("show-mask", *options, "--item", 1, "--json").json["readings"][0]["places"]
    assert [place["item"] for place in one] == [1]


@pytest.mark.parametrize(
    ("options", "T", "T_enc", "seen"),
    [
        (["--segments", "2,3"], 5, 5, 13),
        (["--segments", "2,3/1,1"], 5, 2, 5),
        (["--cu-seqlens", "0,2,5", "--causal"], 5, 5, 9),
        (["--cu-seqlens", "0,2,5", "--cu-seqlens-k", "0,3,4"], 5, 4, 9),
        (["--kv-lengths", "2,5"], 5, 5, 10),
        (["--T", 1, "--kv-lengths", "2,5", "--T-enc", 7], 1, 7, 2),
    ],
)
def test_what_lengths_and_segments_leave(attn, options, T, T_enc, seen):
    found = attn("show-mask", *options, "--json").json
    assert (found["sizes"]["T_dec"], found["sizes"]["T_enc"]) == (T, T_enc)
    place = found["readings"][0]["places"][0]
    assert (place["seen"], place["pairs"]) == (seen, T * T_enc)
    assert pattern(place, T_enc).sum() == seen


def test_what_a_run_hid_is_shown(attn, folder):
    query, key = (np.random.default_rng(x).normal(size=(2, 3, 5, 4)) for x in range(2))
    mask = np.random.default_rng(3).random((2, 3, 5, 5)) < 0.6
    np.savez("inputs.npz", query=query, key=key, value=key, mask=mask)
    attn("forward", "inputs.npz", "--window", "2,1", "-o", "run.npz", "-q")
    found = attn("show-mask", "run.npz", "--json").json
    assert found["arrays"] == ["mask"]
    assert found["readings"][0]["options"] == {"window": [2, 1]}
    with pytest.warns(AttnWarning, match="see no key"):
        weights = attention_weights(query, key, mask=mask, window=(2, 1))
    for place in found["readings"][0]["places"]:
        expected = weights[place["item"], place["head"]] > 0
        assert np.array_equal(pattern(place, 5), expected)
        assert place["see_nothing"] == np.flatnonzero(~expected.any(axis=1)).tolist()


def test_lengths_and_segments_of_a_run_are_its_own(attn, folder):
    options = ["--T", 5, "--kv-lengths", "2,5", "--segments", "3,2"]
    attn("forward", *options, "-o", "run.npz", "-q")
    for source in (["run.npz"], options):
        places = attn("show-mask", *source, "--json").json["readings"][0]["places"]
        assert [one["counts"] for one in places] == [[2, 2, 2, 0, 0], [3, 3, 3, 2, 2]]


@pytest.mark.parametrize(
    ("shape", "options", "sizes"),
    [
        ((7, 3, 4), ["--layout", "total,heads,H"], {"N": 1, "heads": 3, "T_dec": 7, "T_enc": 7}),
        ((7, 2, 4), ["--layout", "T,N,H"], {"N": 2, "T_dec": 7, "T_enc": 7}),
        ((2, 7, 12), ["--heads", 3], {"N": 2, "heads": 3, "T_dec": 7, "T_enc": 7}),
    ],
)
def test_the_axes_of_a_file_are_read_as_asked_for(attn, folder, shape, options, sizes):
    np.savez("x.npz", **{name: np.ones(shape) for name in ("query", "key", "value")})
    assert attn("show-mask", "x.npz", *options, "--json").json["sizes"] == sizes


def test_query_key_and_value_in_one_array(attn, folder):
    np.savez("x.npz", qkv=np.ones((2, 7, 3, 5, 4)))
    result = attn("show-mask", "x.npz", "--layout", "N,T,3,heads,H", "--json")
    assert result.json["sizes"] == {"N": 2, "heads": 5, "T_dec": 7, "T_enc": 7}


def test_options_stand_in_the_place_of_those_of_a_run(attn, folder):
    attn("forward", "--T", 3, "--T-enc", 5, "--causal", "-o", "run.npz", "-q")
    against = "--causal --causal-align lower-right"
    found = attn("show-mask", "run.npz", "--against", against, "--json").json
    causal = [one["options"]["causal"] for one in found["readings"]]
    assert causal == ["upper_left", "lower_right"]


@pytest.mark.parametrize("name", ["mask.npy", "mask.npz"])
def test_a_file_of_a_mask_alone(attn, folder, name):
    mask = np.array([[1, 0, 1], [0, 0, 0]], bool)
    np.save(name, mask) if name == "mask.npy" else np.savez(name, mask=mask)
    out = attn("show-mask", name).out
    assert rows(out) == {"0": "██··██", "1": "······"}
    assert "2 of 6" in out


def test_masks_of_items_and_arrays_of_a_file(attn, folder):
    np.savez(
        "masks.npz",
        enc_mask=np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool),
        segments=np.array([[0, 0, 1, 1, 1], [4, 4, 4, 4, 7]]),
    )
    found = attn("show-mask", "masks.npz", "--json").json
    assert found["arrays"] == ["enc_mask", "segments"]
    assert [place["seen"] for place in found["readings"][0]["places"]] == [7, 17]


def test_a_mask_that_all_queries_share_holds_for_as_many_as_are_asked_for(attn, folder):
    np.savez("mask.npz", mask=np.array([[True, False, True]]))
    assert attn("show-mask", "mask.npz", "--T", 7, "--T-enc", 3).out.count("██··██") == 7


def test_tokens_label_the_steps(attn):
    out = attn("show-mask", SAMPLES / "minilm_qkv.npz", columns=80).out
    assert " animal ██████" in out


def test_padding_of_queries_is_not_hidden_in_silence(attn):
    result = attn("show-mask", SAMPLES / "paraphrase.npz", "-q")
    assert "dec_mask not shown" in result.err


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("colors", [None, "truecolor"])
@pytest.mark.parametrize("T", [5, 61, 3001])
def test_it_fits_the_terminal(attn, columns, colors, T):
    options = ["--T", T, "--causal", "--against", "--window 3"]
    out = attn("show-mask", *options, columns=columns, colors=colors).out
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in out.splitlines()]
    assert max(map(len, lines)) <= columns


def test_where_cells_stand_for_several_pairs_it_says_so(attn):
    out = attn("show-mask", "--T", 3001, "--causal", columns=80).out
    down, across = map(int, re.search(r"1 cell = (\d+) × (\d+) pairs", out).groups())
    cells = rows(out)
    assert len(cells) == -(-3001 // down)
    assert {len(row) for row in cells.values()} == {-(-3001 // across)}
    assert f" 1–{down}\n" in out  # how many the first queries see
    assert f"{3001 * 3002 // 2} of {3001**2}" in out


def test_a_single_hidden_pair_is_never_lost_in_a_large_picture(attn, folder):
    mask = np.ones((997, 997), bool)
    mask[701, 303] = False
    np.savez("mask.npz", mask=mask)
    out = attn("show-mask", "mask.npz", columns=80).out
    partly = [(row, cells) for row, cells in rows(out).items() if set(cells) != {"█"}]
    assert len(partly) == 1
    assert set(partly[0][1]) == {"█", "▓"}
    assert "> 99.9 %" in out
    np.savez("mask.npz", mask=~mask)
    out = attn("show-mask", "mask.npz", columns=80).out
    assert sum("░" in cells for cells in rows(out).values()) == 1
    assert "< 0.1 %" in out


def test_a_single_pair_that_differs_is_marked_in_a_large_picture(attn, folder):
    attn_options = ["--T", 997, "--window", "300,-1"]
    out = attn("show-mask", *attn_options, "--against", "--window 995,-1", columns=80).out
    assert "+" in out.split("· hidden")[0]
    out = attn("show-mask", "--T", 997, "--window", "995,-1", "--against", "", columns=80).out
    picture = out.split("· hidden")[0]
    assert picture.count("+") == 1
    assert "1 of 994009 pairs differ, in 1 of 997 queries; the first is query 996" in out


def test_piped_it_is_the_same_picture_whole(attn):
    out = attn("show-mask", "--T", 300, "--causal").out
    assert rows(out)["299"] == "██" * 300
    assert "1 cell" not in out


def test_ascii_and_no_color(attn, monkeypatch):
    out = attn("show-mask", *SIDES, *TWO_LIBRARIES, columns=60, encoding="ascii").out
    assert out.isascii()
    assert "@@!!!!....    3" in out
    assert "! seen here alone" in out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in attn("show-mask", *SIDES, columns=60, colors="truecolor").out


def test_with_colours_two_rows_share_a_line(attn):
    out = attn("show-mask", "--T", 100, "--causal", columns=80, colors="truecolor").out
    assert "▀" in out
    assert "\x1b[" in out


def test_tiles_that_an_engine_visits(attn):
    options = ["--T", 2048, "--causal", "--window", 256, "--json"]
    tiles = attn("show-mask", *options).json["readings"][0]["places"][0]["tiles"]
    assert tiles == {
        "size": [512, 512],
        "visited": 7,
        "of": 16,
        "of_queries": [[[0, 0]], [[0, 1]], [[1, 2]], [[2, 3]]],
    }
    tiles = attn("show-mask", *options, "--tile", "1024,256").json["readings"][0]["places"][0]
    assert tiles["tiles"]["of_queries"] == [[[0, 3]], [[3, 7]]]
    assert "tiles: of 1024 × 256" in attn("show-mask", *options[:-1], "--tile", "1024,256").out


def test_more_places_than_are_drawn_are_said_to_be_there(attn):
    options = ["show-mask", "--kv-lengths", "1,2,3,4,5"]
    out = attn(*options, columns=80).out
    assert out.count("· hidden") == 3
    assert "2 more not drawn: --item shows one, --full all" in out
    many = attn(*options[:-1], ",".join(["3"] * 30), columns=80).out
    assert "27 more not drawn" in many
    assert "6 more not counted: --full counts all" in many
    for all_of_them in (attn(*options, "--full", columns=80).out, attn(*options).out):
        assert all_of_them.count("· hidden") == 5
        assert "not drawn" not in all_of_them


def test_queries_that_see_nothing_are_counted(attn):
    out = attn("show-mask", "--T", 5, "--T-enc", 3, "--causal", "--causal-align", "lower-right").out
    assert re.search(r"0–3 +2 +1 of 1", out)


def test_json_is_whole(attn):
    found = attn("show-mask", "--T", 3, "--causal", "--json").json
    assert found["source"] is None
    assert found["readings"][0]["places"] == [
        {
            "seen": 6,
            "pairs": 9,
            "share": 6 / 9,
            "counts": [1, 2, 3],
            "see_nothing": [],
            "tiles": {"size": [512, 512], "visited": 1, "of": 1, "of_queries": [[[0, 0]]]},
            "keys": [[[0, 0]], [[0, 1]], [[0, 2]]],
        }
    ]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--against", "--windw 3"], "--windw"),
        (["--against", "--window"], "--window"),
        (["--against", "'"], "quotation"),
        (["--against", "x.npz"], "x.npz"),
        (["--convention", "torch"] * 3, "3 readings"),
        ([*TWO_LIBRARIES, "--against", "--causal"], "3 readings"),
        (["--convention", "tensorflow"], "tensorflow"),
        (["--convention", "torch", "--window", 2], "torch has no window"),
        (["--item", 0, "--head", 3], "--head 3"),
        (["--heads", 2], "--heads has no meaning here"),
        (["--layout", "T,N,H"], "--layout has no meaning here"),
        (["--tile", "0"], "--tile"),
        (["--tile", "1,2,3"], "--tile"),
        (["--segments", "3,x"], "3,x"),
        (["--segments", "3,4", "--T", 5], "--segments 3,4"),
        (["--cu-seqlens", "0,3", "--T", 5], "--cu-seqlens 0,3"),
        (["--kv-lengths", "9", "--T", 5], "--kv-lengths 9"),
        (["--T", 10**12], "would take 8.0 TB"),
        (["--T", 10**9], "to count 1,953,125 × 1,953,125 tiles would take"),
    ],
)
def test_what_cannot_be_is_an_error_in_one_line(attn, options, message):
    result = attn("show-mask", *options)
    assert (result.code, result.out) == (2, "")
    assert message in result.err.splitlines()[0]


@pytest.mark.parametrize(
    ("arrays", "sizes", "seen"),
    [
        ({"segments": [0, 0, 1]}, {"T_dec": 3, "T_enc": 3}, [5]),
        ({"segments": [[0, 0, 1], [2, 3, 3]]}, {"N": 2, "T_dec": 3, "T_enc": 3}, [5, 5]),
        ({"segments_dec": [0, 1], "segments_enc": [1, 1, 0]}, {"T_dec": 2, "T_enc": 3}, [3]),
        ({"cu_seqlens": [0, 2, 5]}, {"T_dec": 5, "T_enc": 5}, [13]),
        ({"cu_seqlens": [0, 1, 3], "cu_seqlens_k": [0, 5, 7]}, {"T_dec": 3, "T_enc": 7}, [9]),
        ({"cache_seqlens": [2, 3]}, {"N": 2, "T_dec": 3, "T_enc": 3}, [6, 9]),
        ({"mask": [True, False, True]}, {"T_dec": 1, "T_enc": 3}, [2]),
        ({"mask": np.ones((2, 3, 5, 7), bool)},
         {"N": 2, "heads": 3, "T_dec": 5, "T_enc": 7}, [35] * 6),
        ({"mask": [[True] * 3] * 2, "enc_mask": [[1, 0, 0], [1, 1, 0]]},
         {"N": 2, "T_dec": 2, "T_enc": 3}, [2, 4]),
    ],
)  # fmt: skip
def test_what_a_file_of_such_arrays_alone_says(attn, folder, arrays, sizes, seen):
    np.savez("x.npz", **{name: np.array(x) for name, x in arrays.items()})
    found = attn("show-mask", "x.npz", "--json").json
    assert found["sizes"] == sizes
    assert [place["seen"] for place in found["readings"][0]["places"]] == seen


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mask": np.ones((1, 1, 2, 3, 3), bool)}, "expected at most (N, heads, T_dec, T_enc)"),
        ({"enc_mask": np.ones((2, 3, 5), bool)}, "expected at most (N, T_enc)"),
        ({"mask": np.ones((0, 3), bool)}, "T_dec is 0: there is nothing to be seen"),
        ({"mask": np.ones((3, 0), bool)}, "T_enc is 0: there is nothing to be seen"),
        ({"mask": np.ones((0, 3, 3), bool)}, "N is 0: there is nothing to be seen"),
        ({"mask": np.array([[0, 2]])}, "other values than 0 and 1"),
        ({"mask": np.array([[0, np.nan]])}, "non-finite"),
        ({"mask": np.ones((2, 3), bool), "enc_mask": np.ones((2, 5), bool)}, "enc_mask is (2, 5)"),
        ({"mask": np.ones((3, 3), bool), "kv_lengths": np.array([2, 9])}, "kv_lengths holds 9"),
        ({"cu_seqlens": np.array([0, 5, 2])}, "never fall"),
    ],
)
def test_arrays_that_do_not_fit_are_an_error_that_names_the_file_once(
    attn, folder, arrays, message
):
    np.savez("x.npz", **arrays)
    result = attn("show-mask", "x.npz")
    line = result.err.splitlines()[0]
    assert (result.code, result.out) == (2, "")
    assert line.startswith("error: x.npz: ")
    assert line.count("x.npz") == 1
    assert message in line


def test_lengths_in_a_file_hold_for_as_many_steps_as_are_asked_for(attn, folder):
    np.savez("x.npz", kv_lengths=np.array([2, 5]))
    found = attn("show-mask", "x.npz", "--T", 1, "--T-enc", 7, "--json").json
    assert [place["counts"] for place in found["readings"][0]["places"]] == [[2], [5]]


def test_options_stand_in_the_place_of_arrays_of_a_file(attn, folder):
    np.savez("x.npz", cu_seqlens=np.array([0, 2, 3]), cu_seqlens_k=np.array([0, 1, 3]))
    found = attn("show-mask", "x.npz", "--against", "--cu-seqlens 0,2,3", "--json").json
    ours, theirs = (one["places"][0]["counts"] for one in found["readings"])
    assert (ours, theirs) == ([1, 1, 2], [2, 2, 1])


def test_a_file_with_neither_masks_nor_inputs(attn):
    result = attn("show-mask", SAMPLES / "minilm_heads.npz")
    assert result.code == 2
    assert "minilm_heads.npz: expected a mask" in result.err


def test_sizes_that_contradict_the_file(attn):
    result = attn("show-mask", SAMPLES / "dates.npz", "--T-enc", 7)
    assert result.code == 2
    assert "--T-enc 7 contradicts" in result.err


def test_a_convention_without_effect_is_said_to_have_none(attn):
    result = attn("show-mask", *TWO_LIBRARIES)
    assert "--convention has no effect" in result.err


def exported(attn, name, *options):
    result = attn("show-mask", *options, "-q", "--export", name)
    assert (result.code, result.out) == (0, "")


def test_json_is_exported_as_it_is_printed(attn, folder):
    exported(attn, "x.json", *SIDES, *TWO_LIBRARIES)
    printed = attn("show-mask", *SIDES, *TWO_LIBRARIES, "--json").json
    assert json.loads((folder / "x.json").read_text(encoding="utf-8")) == printed


def test_a_sheet_has_a_line_for_each_pair_of_each_reading_and_what_one_alone_sees(attn, folder):
    exported(attn, "x.csv", *SIDES, *TWO_LIBRARIES)
    with (folder / "x.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    seen = {
        name: np.array([float(x["weight"]) for x in lines if x["reading"] == name]).reshape(3, 5)
        for name in dict.fromkeys(x["reading"] for x in lines)
    }
    left = np.tril(np.ones((3, 5)))
    right = np.tril(np.ones((3, 5)), 2)
    assert list(seen) == ["A torch", "B flash-attention", "A alone", "B alone"]
    expected = left, right, np.zeros((3, 5)), right - left
    for found, wanted in zip(seen.values(), expected, strict=True):
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("name", ["x.svg", "x.html"])
@pytest.mark.parametrize("T", [7, 3001])
def test_pictures_are_written_of_any_size(attn, folder, name, T):
    exported(attn, name, "--T", T, "--causal")
    text = (folder / name).read_text(encoding="utf-8")
    ET.fromstring(text)
    assert "show-mask: causal upper_left" in text
    assert ("1 cell = 13 × 13 pairs" in text) == (T == 3001)


def test_a_sheet_of_many_steps_has_the_share_of_each_cell(attn, folder):
    exported(attn, "x.csv", "--T", 2039, "--causal")
    with (folder / "x.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    pairs = {"2–3": 4, "2038–2038": 1}  # the last cell has one step
    for label, count in pairs.items():
        (found,) = [x for x in lines if x["dec_label"] == x["enc_label"] == label]
        assert float(found["weight"]) == {4: 0.75, 1: 1.0}[count]


def test_items_and_tokens_are_exported(attn, folder):
    exported(attn, "x.md", SAMPLES / "paraphrase.npz", "--item", 1)
    text = (folder / "x.md").read_text(encoding="utf-8")
    assert text.count("###") == 1
    assert "**scientists**" in text


def test_no_file_is_replaced_unasked(attn, folder):
    exported(attn, "x.md")
    result = attn("show-mask", "--export", "x.md")
    assert (result.code, result.out) == (2, "")
    assert "exists already" in result.err
    assert attn("show-mask", "--export", "x.md", "--force").code == 0
    assert attn("show-mask", "--force").code == 2
    assert attn("show-mask", "--export", "x.doc").code == 2
