"""Text from files, escaped for where it goes; what is written stays readable by its own reader."""

import csv
import io
import json
import re

import numpy as np
import pytest
from running import run_attn

from attncli.files.contents import open_tensors

KINDS = {
    "surrogates": ["\udcff", "a\ud800", "x"],
    "separators": ["a\u2028b", "\u2029", "\x85\x0b\x0c"],
    "bidi": ["\u202e\u2066abc", "\u200f", "\u200b"],
    "links": ["https://e.com/x", "WWW.x.org", "a@b.com"],
    "markup": ["[a](http://x)", "|`*_~#\\", "<b>"],
    "formulas": ["＝1+1", "=1", "\ufeff@SUM(A1)"],
    "more formulas": ["＋1", "\u3000－1", "\t=1"],
    "scripts": ["</script><script>alert(1)</script>", "<!--", "-->]]>"],
    "controls": ["a\x00b", "\x1b[31m", "\x7f\ufffe"],
    "marks": ["a" + "\u0301" * 10**5, "b" + "\u200d\u0300" * 10**4, "x"],
}
ENDINGS = ("csv", "md", "json", "svg", "html")


@pytest.fixture(params=KINDS)
def tokens(request, folder):
    """Words of a kind, and a file that has them at three decoder and encoder steps."""
    words = KINDS[request.param]
    (folder / "x.json").write_text(json.dumps({"weights": [[1 / 3] * 3] * 3, "tokens": words}))
    return words


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_export_is_read_back(folder, tokens, ending):
    assert run_attn("show-weights", "x.json", "-q", "--export", f"y.{ending}").code == 0
    back = open_tensors(f"y.{ending}")
    weights = next(name for name in back if not name.startswith("tokens"))
    assert np.allclose(back.numbers(weights), 1 / 3)
    assert run_attn("show-weights", f"y.{ending}", "-q").code == 0


def read_rows(path):
    csv.field_size_limit(10**8)
    return csv.reader(io.StringIO(path.read_text()))


def test_nothing_is_run_or_followed(folder, tokens):
    for ending in ENDINGS:
        run_attn("show-weights", "x.json", "-q", "--export", f"y.{ending}")
    page = (folder / "y.html").read_text()
    assert len(re.findall("<script", page)) == len(re.findall("</script", page)) == 2
    drawn = (folder / "y.md").read_text().split("<!-- attn-data")[0]
    bare = re.sub(r"\\.|@<!-- -->", "", drawn)  # what stands without a backslash
    assert not re.search(r"(?i)www\.|://|\w@\w|<(?!!-- -->)|\[", bare)
    for row in read_rows(folder / "y.csv"):
        assert not re.match(r"[\s\ufeff]*[=+\-@＝＋－＠]", row[1])


def test_the_screen_has_lines_of_ours_alone(tokens):
    result = run_attn("show-weights", "x.json", columns=80)
    assert result.code == 0
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", result.out
    )


def test_a_picture_draws_no_million_accents(folder):
    pytest.importorskip("matplotlib")
    words = ["a" + "\u0301" * 10**5, "b"]
    (folder / "x.json").write_text(json.dumps({"weights": [[0.5] * 2] * 2, "tokens": words}))
    assert run_attn("show-weights", "x.json", "-q", "--export", "y.png").code == 0
