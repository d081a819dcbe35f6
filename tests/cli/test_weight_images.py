"""``attn show-weights --grid``: a row of keys as the image that they are."""

import base64
import json
import os
import re
import struct
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attncli.errors import ParameterError
from attncli.weights.images import fitting_grid
from attncli.weights.wanted import parse_grid


@pytest.fixture
def seen(folder):
    """Two heads of three rows that look at a word, 3 × 5 patches, and another word."""
    weights = np.random.default_rng(0).random((1, 2, 3, 17))
    weights[0, 1, 2, 1 + 2 * 5 + 3] = 7
    weights /= weights.sum(-1, keepdims=True)
    keys = ["<s>", *["<image>"] * 15, "what"]
    np.savez("w.npz", weights=weights, tokens_dec=np.array(["a", "Ġleft", "Ġcat"]),
             tokens_enc=np.array(keys))  # fmt: skip
    return weights[0, :, :, 1:16].reshape(2, 3, 3, 5)


GRID = ("show-weights", "w.npz", "--cols", "1:16", "--grid", "3x5")


def test_an_image_is_a_line_for_each_row_of_patches(attn, seen):
    out = attn(*GRID, "--head", 1, "--row", "cat").out.splitlines()
    assert out[2] == "item 0  head 1  row 2: cat"
    numbers = [[float(x) for x in line.split()] for line in out[3:6]]
    assert numbers == seen[1, 2].tolist()
    assert out[6:] == [""]


def test_every_row_and_head_is_an_image_of_its_own(attn, seen):
    result = attn(*GRID, "--row", "left", "--row", "cat", "--json").json["matrices"]
    assert [(one["head"], one["row"], one["word"]) for one in result] == [
        (0, 1, "left"), (0, 2, "cat"), (1, 1, "left"), (1, 2, "cat"),
    ]  # fmt: skip
    for one in result:
        assert one["weights"] == seen[one["head"], one["row"]].tolist()
        assert (one["shape"], one["columns"]) == ([3, 5], [*range(1, 16)])
        assert "statistics" not in one
    out = attn(*GRID, "--row", "left", "--row", "cat").out
    assert [line for line in out.splitlines() if "row" in line] == [
        "head 0  row 1: left", "head 0  row 2: cat", "head 1  row 1: left", "head 1  row 2: cat",
    ]  # fmt: skip


def test_the_mean_of_heads_as_an_image(attn, seen):
    (one,) = attn(*GRID, "--mean", "heads", "--row", 0, "--json").json["matrices"]
    np.testing.assert_allclose(one["weights"], seen[:, 0].mean(0))


@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize("side", [7, 14, 24, 41])
@pytest.mark.parametrize("colors", [None, "truecolor"])
def test_a_terminal_shows_it_square_on_one_screen(attn, folder, monkeypatch, side, columns, colors):
    monkeypatch.setenv("LINES", "30")
    np.save("w.npy", np.full((1, side * side), 1 / side**2))
    result = attn(
        "show-weights", "w.npy", "--grid", f"{side}x{side}", columns=columns, colors=colors
    )
    lines = re.sub("\x1b\\[[0-9;]*m", "", result.out).splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= columns
    top = next(place for place, line in enumerate(lines) if line.lstrip().startswith("0 "))
    bottom = next(
        place for place, line in enumerate(lines) if "1 patch =" in line or "= the" in line
    )
    while not lines[bottom].lstrip().startswith("0 "):
        bottom -= 1
    picture = [line[3:] for line in lines[top + 1 : bottom]]
    assert max(map(len, picture)) == pytest.approx(2 * len(picture), abs=2)
    assert "1 patch = 1 key" in result.out or side > 24 or columns == 40


def test_the_largest_is_named_with_its_place(attn, seen):
    out = attn(*GRID, "--head", 1, "--row", "cat", columns=100).out
    assert f"row 2: cat  largest {seen[1, 2].max():.2f}, in row 2, column 3 of patches" in out


def test_a_terminal_shows_several_beside_each_other(attn, seen):
    out = attn(*GRID, columns=100).out
    assert "H1 R2: cat" in out
    assert max(map(len, out.splitlines())) <= 100
    names = [line for line in out.splitlines() if "H0 R0" in line]
    assert names[0].count("H0") == 3


@pytest.mark.parametrize(
    ("keys", "words", "hint"),
    [
        (50, False, "50 keys may be an image: --row 0 --cols 1: --grid 7x7"),
        (64, False, "64 keys may be an image: --row 0 --grid 8x8"),
        (50, True, None),
        (48, False, None),
        (17, False, None),
    ],
)
def test_keys_that_may_be_an_image_are_said_on_a_terminal(attn, folder, keys, words, hint):
    tokens = {"tokens_enc": np.array(["word"] * keys)} if words else {}
    np.savez("w.npz", weights=np.full((1, 2, 3, keys), 1 / keys), **tokens)
    out = attn("show-weights", "w.npz", columns=100).out
    assert ("may be an image" in out) == (hint is not None)
    assert hint is None or hint in out
    assert "may be an image" not in attn("show-weights", "w.npz").out
    if hint is not None:
        assert attn("show-weights", "w.npz", *hint.split(": ", 1)[1].split()).code == 0


def test_more_images_than_a_screen_holds_are_said(attn, folder):
    np.save("w.npy", np.full((31, 4), 0.25))
    out = attn("show-weights", "w.npy", "--grid", "2x2", columns=100).out
    assert "7 more images not shown: --row and --head choose, --full shows all" in out
    full = attn("show-weights", "w.npy", "--grid", "2x2", "--full", columns=100).out
    assert "R30" in full
    assert "not shown" not in full


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["--grid", "3x6", "--cols", "1:16"],
         "--grid 3x6 is 18 patches (3 × 6): there are 15 keys left of 17", "--grid 3x5"),
        (["--grid", "3x5"], "is 15 patches (3 × 5): there are 17 keys", "--cols 1:16 --grid 3x5"),
        (["--grid", "4x4"], "is 16 patches (4 × 4): there are 17 keys", "--cols 1: --grid 4x4"),
        (["--grid", "9x9"], "is 81 patches (9 × 9): there are 17 keys", "--cols 1: --grid 4x4"),
        (["--grid", "3by5"], "'3by5' is not rows and columns of an image, such as 14x14", None),
        (["--grid", "0x5"], "'0x5' is not rows and columns", None),
        (["--grid", "3x5", "--top", "1"], "is a picture of its own: not with --top", None),
        (["--grid", "3x5", "--sort", "max"], "is a picture of its own: not with --sort", None),
    ],
)  # fmt: skip
def test_a_wrong_size_names_both(attn, seen, arguments, message, hint):
    result = attn("show-weights", "w.npz", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    hinted = result.err.splitlines()[1:]
    assert hint is None or set(hint.split()) <= set(hinted[0].split())


@given(st.integers(1, 40), st.integers(1, 40))
def test_a_hint_fits_what_is_there(rows, columns):
    assert parse_grid(f" {rows}x{columns} ") == (rows, columns)
    hint = fitting_grid(rows * columns)
    if hint is not None:
        down, across = parse_grid(hint.split()[-1])
        assert down * across == rows * columns - ("--cols 1:" in hint)


def test_a_grid_that_is_none():
    for text in ("7", "x7", "7x", "-7x7", "7x7x7", "1e3x2", ""):
        with pytest.raises(ParameterError, match="is not rows and columns"):
            parse_grid(text)


def test_exports_take_the_image_along(attn, seen):
    names = ["w.svg", "w.html", "w.csv", "w.md", "w.json"]
    exports = [text for name in names for text in ("--export", name)]
    assert attn(*GRID, "--head", 1, "--row", "cat", *exports, "--quiet").code == 0
    drawn = ET.parse("w.svg").getroot()
    cells = [one for one in drawn.iter("{http://www.w3.org/2000/svg}rect") if len(one)]
    assert len(cells) == 15
    assert {(one.get("width"), one.get("height")) for one in cells} == {("22", "22")}
    with open("w.csv", encoding="utf-8") as file:
        head, *lines = [line.split(",") for line in file.read().splitlines()]
    assert head[2] == "row"
    assert [float(line[-1]) for line in lines] == seen[1, 2].ravel().tolist()
    with open("w.json", encoding="utf-8") as file:
        assert json.load(file)["matrices"][0]["weights"] == seen[1, 2].tolist()


@pytest.mark.parametrize("ending", ["json", "csv", "html"])
def test_images_are_not_read_back_as_weights(attn, seen, ending):
    assert attn(*GRID, "--export", f"back.{ending}", "--quiet").code == 0
    result = attn("show-weights", f"back.{ending}")
    assert (result.code, result.out) == (2, "")
    assert f"back.{ending}: holds rows as images" in result.err
    assert "hint:  written without --grid" in result.err


def test_png_is_of_square_patches(attn, seen):
    pytest.importorskip("matplotlib")
    assert attn(*GRID, "--head", 1, "--row", "cat", "--export", "w.png", "--quiet").code == 0


def test_a_word_is_harmless_in_a_name(attn, folder):
    np.savez("w.npz", weights=np.full((1, 4), 0.25), tokens_dec=np.array(["\x1b[31mred"]))
    out = attn("show-weights", "w.npz", "--grid", "2x2").out
    assert "row 0: \\x1b[31mred" in out
    assert "\x1b" not in out


# Over a picture


def png(width=2, height=1, more=b""):
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IEND", b"")]
    return (
        b"\x89PNG\r\n\x1a\n"
        + more
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )


def jpeg(width=2, height=1):
    app = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF" + bytes(10)
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, height, width, 1) + bytes(3)
    return b"\xff\xd8" + app + b"\xff" + frame + b"\xff\xd9"  # segments may be padded


@pytest.mark.parametrize(
    ("content", "kind"), [(png(), "png"), (jpeg(), "jpeg")], ids=["png", "jpeg"]
)
def test_weights_lie_over_a_picture_in_a_page(attn, seen, content, kind):
    with open("photo.dat", "wb") as file:  # its name says nothing
        file.write(content)
    assert attn(*GRID, "--over", "photo.dat", "--export", "w.html", "--quiet").code == 0
    with open("w.html", encoding="utf-8") as file:
        page = file.read()
    data = json.loads(re.search('id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["over"] == f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    policy = re.search('Content-Security-Policy" content="(.*?)"', page)[1]
    assert policy.startswith("default-src 'none'")
    assert "img-src data:" in policy
    ET.parse("w.html")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither a PNG nor a JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "neither a PNG nor a JPEG"),
        (b"GIF89a" + bytes(50), "neither a PNG nor a JPEG"),
        (png()[:20], "neither a PNG nor a JPEG"),
        (png(more=b"\0\0\0\x01tEXta\0\0\0\0"), "neither a PNG nor a JPEG"),
        (jpeg()[:19], "neither a PNG nor a JPEG"),
        (b"\xff\xd8\xff\xe0\0\0" + bytes(30), "neither a PNG nor a JPEG"),
        (b"\xff\xd8" + b"\xff" * 99, "neither a PNG nor a JPEG"),
        (png(0, 5), "the picture is 0 × 5 pixels"),
        (png(30_000, 30_000), "the picture is 30000 × 30000 pixels"),
        (jpeg(65_535, 65_535), "the picture is 65535 × 65535 pixels"),
        (png() + bytes(3_000_000), "the picture is larger than 3 MB"),
        (None, "no such file"),
    ],
)
def test_what_is_no_picture_is_refused_before_anything_is_written(attn, seen, content, message):
    if content is not None:
        with open("photo.png", "wb") as file:
            file.write(content)
    exports = ["--export", "w.json", "--export", "w.html"]
    result = attn(*GRID, "--over", "photo.png", *exports)
    assert (result.code, result.out) == (2, "")
    assert f"photo.png: {message}" in result.err
    assert not os.path.exists("w.json")
    assert not os.path.exists("w.html")


def test_a_picture_needs_a_page_and_a_grid(attn, seen):
    result = attn(*GRID, "--over", "photo.png", "--export", "w.svg")
    assert (result.code, " --export page.html" in result.err) == (2, True)
    result = attn("show-weights", "w.npz", "--over", "photo.png", "--export", "w.html")
    assert (result.code, "--over lays a picture under --grid" in result.err) == (2, True)


def test_a_picture_is_not_overwritten(attn, seen):
    with open("photo.html", "wb") as file:
        file.write(png())
    result = attn(*GRID, "--over", "photo.html", "--export", "photo.html", "--force")
    assert result.code == 2
    with open("photo.html", "rb") as file:
        assert file.read() == png()
