"""Numbers in JSON and CSV, as people post and save them."""

import json

import numpy as np
import pytest

from attncli.errors import AttnError, AttnWarning, MemoryLimitError
from attncli.files.contents import open_tensors
from attncli.files.reading import Reading

ROWS = [[0.25, 0.75, 0.0], [0.5, 0.25, 0.25]]
WORDS = ["the", "cat", "sat"]


@pytest.fixture
def read(tmp_path):
    """Write a file and give everything in it; text is that of JSON or CSV, as its name says."""

    def _read(name, text, encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        file = open_tensors(str(path), Reading(allow_nonfinite=True))
        return {
            name: (file.tokens(name) if name.startswith(("tokens", "left", "right", "all"))
                   else file.numbers(name)).tolist()
            for name in file
        }  # fmt: skip

    return _read


def refused(read, name, text, encoding="utf-8"):
    with pytest.raises(AttnError) as caught:
        read(name, text, encoding)
    message = str(caught.value)
    assert "\n" not in message
    return message.partition(f"{name}: ")[2]


@pytest.mark.parametrize("depth", range(1, 6))
def test_a_bare_list_is_an_array_without_a_name(read, depth):
    array = np.random.default_rng(depth).random((2, 3, 5, 7, 11)[-depth:])
    assert read("x.json", json.dumps(array.tolist())) == {"": array.tolist()}


JSON = {
    "words beside": (
        {"tokens": WORDS, "attentions": ROWS, "model": "x", "n": None},
        {"tokens": WORDS, "attentions": ROWS},
    ),
    "a layer a key": ({"layer_0": ROWS, "layer_10": ROWS}, {"layer_0": ROWS, "layer_10": ROWS}),
    "a number a key": ({"0": ROWS, "3": ROWS}, {"layer0": ROWS, "layer3": ROWS}),
    "heads by name": (
        {"attention": {"layer0": {"head_1": ROWS[:1], "head_0": ROWS[1:]}}},
        {"attention.layer0": [[ROWS[1:], ROWS[:1]]]},
    ),
    "heads with a gap": ({"head_0": ROWS, "head_2": ROWS}, {"head_0": ROWS, "head_2": ROWS}),
    "objects in a list": (
        [{"weights": ROWS}, {"weights": ROWS}],
        {"attention.0.weights": ROWS, "attention.1.weights": ROWS},
    ),
    "layers of different sizes": (
        [[[ROWS]], [[ROWS, ROWS]]],
        {"arr_0": [[ROWS]], "arr_1": [[ROWS, ROWS]]},
    ),
    "steps of layers": (
        [[[[[[1.0]]]]], [[[[[0.5, 0.5]]]]]],
        {"step0_layer0": [[[[1.0]]]], "step1_layer0": [[[[0.5, 0.5]]]]},
    ),
    "what is not finite": (
        {"weights": [["NaN", 0.5], ["-Infinity", "Infinity"]]},
        {"weights": [[pytest.approx(np.nan, nan_ok=True), 0.5], [-np.inf, np.inf]]},
    ),
    "words of a page": (
        {"attention": [[ROWS, ROWS]], "left_text": ["a", "b"], "right_text": WORDS},
        {"attentions": [[[ROWS, ROWS]]], "tokens_dec": ["a", "b"], "tokens_enc": WORDS},
    ),
    "views of a page": (
        {"attention": [
            {"name": "Encoder", "attn": [ROWS], "left_text": ["e"], "right_text": ["e"]},
            {"name": "Cross", "attn": [ROWS], "left_text": ["d"], "right_text": ["e"]},
        ]},
        {"encoder_attentions": [[ROWS]], "cross_attentions": [[ROWS]],
         "tokens_enc": ["e"], "tokens_dec": ["d"]},
    ),
    "the one view of a page": (
        {"attention": {"all": {"att": [ROWS], "top_text": ["d"], "bot_text": ["e"]}}},
        {"attentions": [[ROWS]], "tokens_dec": ["d"], "tokens_enc": ["e"]},
    ),
    "a run as --json has it": (
        {"attn": "0", "command": "forward", "tokens": {"tokens_enc": WORDS},
         "tensors": {"weights": {"shape": [2, 3], "axes": None, "dtype": "f", "data": ROWS}}},
        {"tokens_enc": WORDS, "weights": ROWS},
    ),
    "integers too large for one": ({"weights": [[10**30, 1]]}, {"weights": [[1e30, 1.0]]}),
}  # fmt: skip


@pytest.mark.parametrize("case", JSON)
def test_json_as_it_is_posted(read, case):
    given, expected = JSON[case]
    assert read("x.json", json.dumps(given)) == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["x.json", "x.csv"])
def test_a_mark_at_the_beginning_says_the_encoding(read, name, encoding):
    text = '{"tokens": ["é", "東"], "": [[1, 0], [0, 1]]}' if name == "x.json" else "é,東\n1,0\n0,1"
    found = read(name, text, encoding)
    assert found == {"tokens": ["é", "東"], "": [[1, 0], [0, 1]]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": [[[1, 0], [1, 0]], [[1, 0], [0.5]]]}', "the rows differ in length: a[1][1] has 1"),
        ('{"a": [[1.5], [0, 1.5]]}', "the rows differ in length: a[1] has 2, those before 1"),
        ("[[1, 0], [0]]", "the rows differ in length: [1] has 1, those before 2"),
        ('{"a": [[1, 0.5], 3]}', "a[1] is a number, expected a list of 2 numbers"),
        ('{"a": [[1, 0.5], [[1], 3]]}', "a[1][0] is a list, expected a number"),
        ('{"a": [[1, 0.5], [3, "0.5"]]}', 'a[1][1] is text "0.5", expected a number'),
        ("[[1, 0.5], [null, 3]]", "[1][0] is null, expected a number"),
        ("[[1, 0.5], [true, 3]]", "[1][0] is true or false, expected a number"),
        ("[[1, 0.5],\n [3 4]]", "line 2, column 5: no JSON: expecting ',' delimiter"),
        ("[1, 2] [3]", "line 1, column 8: no JSON: extra data"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "an object has the key 'c' twice"),
        ("[" * 10_000 + "]" * 10_000, "lists in lists, more than"),
        (f"[{'9' * 5000}]", "holds a number of more than 4300 digits"),
        (f"[{'9' * 400}]", "a list holds an integer that no float can take"),
        (b'["\xe9"]', "line 1: byte 0xe9 is no UTF-8"),
        ('"text"', "is text, expected lists of numbers"),
        ('{"attn": "0", "matrices": [{"weights": [1]}]}', "matrices[0].weights is no matrix of"),
        ('{"attn": "0", "matrices": [{"weights": [[1, 2], [3]]}]}', "the rows differ in length"),
        ('{"attn": "0", "matrices": [7]}', "matrices[0] has no weights"),
        ('{"attn": "0", "matrices": [{"weights": [[1.0]], "strongest": [[0]]}]}', "matrices[0] ha"),
        ('{"attn": "0", "matrices": [{"weights": [[1.0]], "tokens_enc": ["a", "b"]}]}',
         "matrices[0].tokens_enc has 2, its weights 1"),
    ],
)  # fmt: skip
def test_json_that_is_no_array_is_refused_by_its_place(read, text, message):
    assert refused(read, "x.json", text).startswith(message)


def test_lists_that_are_no_weights_are_left_out_aloud(read):
    with pytest.warns(AttnWarning, match=r"spans\[1\] has 1, .* is ignored"):
        found = read("x.json", json.dumps({"attentions": ROWS, "spans": [[0, 2], [1]]}))
    assert found == {"attentions": ROWS}


def test_views_that_are_not_read_are_named(read):
    views = {name: {"attn": ROWS, "left_text": WORDS[:2]} for name in ("all", "aa")}
    with pytest.warns(AttnWarning, match="all is read, and not aa"):
        found = read("x.json", json.dumps({"attention": views}))
    assert found == {"attentions": [ROWS], "tokens_dec": WORDS[:2]}


HEAD = ",the,cat,sat\n"
BODY = "the,0.25,0.75,0.0\ncat,0.5,0.25,0.25\n"
BARE = "0.25,0.75,0.0\n0.5,0.25,0.25\n"
CSV = {
    "bare numbers": (BARE, {"": ROWS}),
    "a header": ("the,cat,sat\n" + BARE, {"": ROWS, "tokens_enc": WORDS}),
    "words at the left": (BODY, {"": ROWS, "tokens_dec": WORDS[:2]}),
    "both": (HEAD + BODY, {"": ROWS, "tokens_dec": WORDS[:2], "tokens_enc": WORDS}),
    "no corner": (HEAD[1:] + BODY, {"": ROWS, "tokens_dec": WORDS[:2], "tokens_enc": WORDS}),
    "a named corner": (
        "token" + HEAD + BODY, {"": ROWS, "tokens_dec": WORDS[:2], "tokens_enc": WORDS},
    ),
    "numbers for words": (",0,1,2\n0,0.25,0.75,0.0\n1,0.5,0.25,0.25\n", {"": ROWS}),
    "a word in brackets": ("[CLS],b\n1,0\n0,1\n", {"": [[1, 0], [0, 1]], "tokens": ["[CLS]", "b"]}),
    "semicolons": (BARE.replace(",", ";"), {"": ROWS}),
    "tabs": ((HEAD + BODY).replace(",", "\t"),
             {"": ROWS, "tokens_dec": WORDS[:2], "tokens_enc": WORDS}),
    "spaces": (BARE.replace(",", " "), {"": ROWS}),
    "a space behind the comma": (
        ("the,cat,sat\n" + BARE).replace(",", ", "), {"": ROWS, "tokens_enc": WORDS},
    ),
    "lines of Windows": (BARE.replace("\n", "\r\n"), {"": ROWS}),
    "comments": ("# layer 3, head 2, mean\n#\n" + BARE, {"": ROWS}),
    "a header in a comment": ("# the,cat,sat\n" + BARE, {"": ROWS, "tokens_enc": WORDS}),
    "a word that is #": ("#,0.5,0.5\nx,1,0\n", {"": [[0.5, 0.5], [1, 0]], "tokens": ["#", "x"]}),
    "words that are numbers": (
        ",1972,was\n1972,0.5,0.5\nwas,1,0\n",
        {"": [[0.5, 0.5], [1, 0]], "tokens_dec": ["1972", "was"], "tokens_enc": ["1972", "was"]},
    ),
    "quotes": (
        '"a,b","say ""no""\nand go"\n1,0\n0,1\n',
        {"": [[1, 0], [0, 1]], "tokens": ["a,b", 'say "no"\nand go']},
    ),
    "a column too much": (BARE.replace("\n", ",\n"), {"": ROWS}),
    "tables below each other": (BARE + "\n" + BARE, {"": [ROWS, ROWS]}),
    "tables with comments between": ("# 0\n" + BARE + "# 1\n" + BARE, {"": [ROWS, ROWS]}),
    "empty lines between all": (BARE.replace("\n", "\n\n"), {"": ROWS}),
    "one line": ("0.25,0.75\n", {"": [[0.25, 0.75]]}),
    "decimal commas": (
        (HEAD + BODY).replace(",", ";").replace(".", ","),
        {"": ROWS, "tokens_dec": WORDS[:2], "tokens_enc": WORDS},
    ),
    "exponents": ("2.5e-1 +.75\n1 0\n", {"": [[0.25, 0.75], [1, 0]]}),
}  # fmt: skip


@pytest.mark.parametrize("case", CSV)
def test_csv_as_it_is_saved(read, case):
    text, expected = CSV[case]
    assert read("x.csv", text) == expected


def test_json_is_told_by_what_it_is_without_its_ending(read):
    assert read("x", "\n" + json.dumps(ROWS)) == {"": ROWS}


@pytest.mark.parametrize("case", [case for case in CSV if not CSV[case][0].startswith("# 0\n")])
def test_csv_is_told_by_its_first_line_without_its_ending(read, case):
    text, expected = CSV[case]
    assert read("x", text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.1,0.9\n0.5\n", "the rows differ in length: line 1 has 2 fields, line 2 1"),
        ("0.1,0.9\n0.5\n1,0\n", "the rows differ in length: line 2 has 1 fields, line 3 2"),
        ("0.1,0.9\n\n0.5,0.5\n1,0\n", "line 3: a table (2, 2) behind one (1, 2)"),
        ("0.1,0.9\n0.5,x\n", "line 2, column 2: 'x', expected a number"),
        ("0.1,x\n0.5,0.5\n", "line 1, column 2: 'x', expected a number"),
        ("0.1,0.9\nx,0.5\n0,1\n", "line 2, column 1: 'x', expected a number"),
        ("0.1,0.9\n0.5,\n", "line 2, column 2: an empty field, expected a number"),
        ("0.1,0.9\n1_0,0.5\n", "line 2, column 1: '1_0', expected a number"),
        ("0,1;0,9\n0.5;0.5\n", "line 1, column 1: 0,1 has a decimal comma, expected a point"),
        ("\n\n", "holds no numbers"),
        (b"\xe9,b\n0.1,0.9\n", "line 1: byte 0xe9 is no UTF-8"),
        (b"a,b\n0.1,\xff\n", "line 2: byte 0xff is no UTF-8"),
        ("dec,dec_label,enc,enc_label,weight\n0,a,0,b\n", "the rows differ in length: line 2"),
        ("dec,dec_label,enc,enc_label,weight\n0,a,x,b,1\n", "line 2: '0', 'x' are no places"),
        ("dec,dec_label,enc,enc_label,weight\n0,a,0,b,x\n", "line 2, column 5: 'x', expected"),
        (
            "dec,dec_label,enc,enc_label,weight\n" + "0,a,0,b,1\n" * 2,
            "line 3: the weight at [0, 0]",
        ),
        (
            "dec,dec_label,enc,enc_label,weight\n0,a,0,b,1\n1,a,1,b,1\n",
            "line 3: 2 weights of",
        ),
        ("dec,dec_label,enc,enc_label,weight\n", "holds no numbers"),
    ],
)
def test_csv_that_is_no_array_is_refused_by_its_line(read, text, message):
    assert refused(read, "x.csv", text).startswith(message)


@pytest.mark.parametrize("name", ["x.json", "x.csv"])
def test_text_larger_than_memory_is_refused_before_it_is_read(tmp_path, name):
    path = tmp_path / name
    path.write_text("[" + "0," * 100_000 + "0]" if name == "x.json" else "0,1\n" * 50_000)
    with pytest.raises(MemoryLimitError, match="as text, would take"):
        open_tensors(str(path), Reading(max_memory=1_000_000))


def test_one_long_word_among_many_takes_no_more_memory_than_there_is(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"tokens": ["x" * 100_000, *"a" * 10_000]}))
    with pytest.raises(MemoryLimitError, match="10001 words would take"):
        open_tensors(str(path), Reading(max_memory=100_000_000))
