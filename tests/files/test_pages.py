"""Pages that attn has written, read back; and others, or damaged ones."""

import base64
import json

import numpy as np
import pytest

from attncli.errors import AttnError, AttnWarning
from attncli.files.contents import open_tensors
from attncli.files.reading import Reading

WEIGHTS = np.array([[0.25, 0.75, 0.0], [0.5, 0.25, 0.25]])
LABELS = [["un", "chat"], ["a", "cat", "</s>"], ["0", "1"], ["0", "2", "5"]]


def page(dtype="<f8", **changes):
    matrix = {
        "names": {"part": "cross", "layer": 3, "head": 0},
        "by": [1, 1],
        "shape": [2, 3],
        "dtype": dtype,
        "unit": 1.0,
        "weights": base64.b64encode(WEIGHTS.astype(dtype).tobytes()).decode(),
        "tokens_dec": 0,
        "tokens_enc": 1,
        "rows": 2,
        "columns": 3,
        **changes,
    }
    return {"matrices": [matrix], "labels": LABELS}


@pytest.fixture
def read(tmp_path):
    def _read(tree):
        text = json.dumps(tree).replace("<", "\\u003c")
        script = f'<script type="application/json" id="data">{text}</script>'
        (tmp_path / "x.html").write_text(f"<!DOCTYPE html>\n<html>{script}</html>")
        return open_tensors(str(tmp_path / "x.html"), Reading(allow_nonfinite=True))

    return _read


@pytest.mark.parametrize("dtype", ["<f8", "<f4"])
def test_numbers_and_words_of_a_page(read, dtype):
    file = read(page(dtype))
    assert {*file} == {"cross_attentions.3", "tokens_dec", "tokens_enc"}
    np.testing.assert_array_equal(file.numbers("cross_attentions.3"), WEIGHTS[None, None])
    assert file.tokens("tokens_enc").tolist() == LABELS[1]


@pytest.mark.parametrize(
    ("codes", "unit"),
    [
        (np.array([[-1, 3, 0], [2, 1, -32768]], "<i2"), 0.25),
        (np.array([[-4, 0, 8], [2, 6, -128]], "|i1"), 0.0625),
    ],
)
def test_rounded_numbers_are_multiples_of_a_unit_which_is_said(read, codes, unit):
    stored = base64.b64encode(codes.tobytes()).decode()
    with pytest.warns(AttnWarning, match="were rounded"):
        file = read(page(codes.dtype.str, unit=unit, weights=stored))
    found = file.numbers("cross_attentions.3")[0, 0]
    squares = [[-1.0, 0.0, 4.0], [0.25, 2.25, np.nan]]
    right = squares if codes.itemsize == 1 else [[-0.25, 0.75, 0.0], [0.5, 0.25, np.nan]]
    np.testing.assert_array_equal(found, right)


def test_without_words_the_places_that_it_was_cut_at(read):
    file = read(page(tokens_dec=None, tokens_enc=None))
    assert "tokens_dec" not in file  # all rows from 0 on
    assert file.tokens("tokens_enc").tolist() == LABELS[3]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([], "without the numbers that attn show-weights --export writes"),
        ({"matrices": 3}, "without the numbers that attn show-weights --export writes"),
        ({"matrices": [5]}, "matrices[0] has no names"),
        ({**page(), "image": True}, "holds rows as images"),
        (page(by=[2, 1]), "matrices[0] has one number for 2 × 1 weights"),
        (page(by=[1]), "matrices[0] has one number for several weights"),
        (page(shape=[3, 3]), "matrices[0].weights are no <f8 of shape [3, 3]"),
        (page(shape=[6]), "matrices[0].weights are no <f8 of shape [6]"),
        (page(shape="x"), "matrices[0].weights are no <f8 of shape x"),
        (page(weights="@"), "matrices[0].weights are no <f8"),
        (page(weights=7), "matrices[0].weights are no <f8"),
        (page("<f4") | {"labels": 5}, "matrices[0] has no tokens_dec"),
        (page(tokens_enc=9), "matrices[0] has no tokens_enc"),
        (page(tokens_enc="a"), "matrices[0] has no tokens_enc"),
        (page(tokens_dec=1), "matrices[0].tokens_dec are no 2 words"),
        (page(unit="1"), "matrices[0].weights are no <f8"),
    ],
)
def test_what_is_no_page_of_weights_is_refused_by_its_place(read, tree, message):
    with pytest.raises(AttnError) as caught:
        read(tree)
    assert message in str(caught.value)


def test_a_page_of_objects_is_refused(tmp_path):
    tree = page()
    tree["matrices"][0]["dtype"] = "|O"
    (tmp_path / "x.html").write_text(
        f'<!DOCTYPE html><script type="application/json" id="data">{json.dumps(tree)}</script>'
    )
    with pytest.raises(AttnError, match=r"no \|O of shape"):
        open_tensors(str(tmp_path / "x.html"))
