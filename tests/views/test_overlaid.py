"""Several heads in one picture: colours, letters, legend, on a terminal and in files."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.color import Color

from attncli.files.contents import open_tensors
from attncli.files.reading import Reading
from attncli.views.gallery import Gallery
from attncli.views.look import Look
from attncli.views.overlaid import MOST, Mixture, draw
from attncli.views.rendering import lines
from attncli.views.scales import Scale
from attncli.views.shades import takes_black
from attncli.weights.choosing import select_weights
from attncli.weights.wanted import Wanted

SVG = "{http://www.w3.org/2000/svg}"


def mixture(*heads):
    return Mixture([f"head {n}" for n in range(len(heads))], np.array(heads), Scale("linear", 1.0))


@pytest.mark.parametrize("light", [False, True])
def test_a_cell_has_the_colour_of_the_head_that_looks_there(light):
    heads = np.zeros((MOST, 1, MOST + 1))
    heads[range(MOST), 0, range(MOST)] = 1
    one = mixture(*heads)
    colors = one.colors(light=light)[0].astype(int)
    hues = [[hue >> 16, hue >> 8 & 255, hue & 255] for hue in one.hues(light=light)]
    assert colors[:-1].tolist() == hues
    assert len({tuple(hue) for hue in hues}) == MOST
    nothing = colors[-1]
    assert (nothing.max() < 20) if not light else (nothing.min() > 240)


def test_a_cell_mixes_by_weight_and_fades_with_the_strongest():
    one = mixture([[1.0, 0.5, 0.25, 0.0]], [[1.0, 0.5, 0.75, 0.5]])
    first, half, mixed, alone = one.colors()[0].astype(float)
    hues = np.array([[hue >> 16, hue >> 8 & 255, hue & 255] for hue in one.hues()])
    nothing = np.array([0x0B, 0x04, 0x05])
    np.testing.assert_allclose(first, hues.mean(0), atol=1)
    np.testing.assert_allclose(half, (hues.mean(0) + nothing) / 2, atol=1)
    expected = nothing + (hues.T @ [0.25, 0.75] - nothing) * 0.75
    np.testing.assert_allclose(mixed, expected, atol=1)
    np.testing.assert_allclose(alone, (hues[1] + nothing) / 2, atol=1)


def test_a_letter_names_the_strongest_and_a_capital_is_strong():
    one = mixture([[0.6, 0.2, 0.05, np.nan]], [[0.4, 0.5, 0.09, 0.3]])
    assert one.named.tolist() == [["A", "B", " ", "b"]]


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_a_letter_can_be_read_on_any_colour(color):
    def luminance(rgb):
        parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
        return sum(a * b for a, b in zip(parts, (0.2126, 0.7152, 0.0722), strict=True))

    lower, upper = sorted([luminance(color), 0.0 if takes_black(Color.from_rgb(*color)) else 1.0])
    assert (upper + 0.05) / (lower + 0.05) >= 4.5


# The command


@pytest.fixture
def heads(folder):
    weights = np.zeros((1, 3, 2, 3))
    weights[0, 0] = [[0.9, 0.1, 0.0], [0.2, 0.2, 0.0]]
    weights[0, 1] = [[0.1, 0.0, 0.0], [0.3, 0.2, 0.0]]
    weights[0, 2] = [[0.0, 0.9, 0.0], [0.5, 0.6, 0.0]]
    words = {"tokens_dec": np.array(["le", "chat"]), "tokens_enc": np.array(["the", "cat", "."])}
    np.savez("w.npz", weights=weights, **words)
    return weights[0]


def test_piped_it_says_which_head_is_the_strongest(attn, heads):
    out = attn("show-weights", "w.npz", "--overlay").out.splitlines()
    assert out[2:6] == ["item 0", "a = head 0", "b = head 1", "c = head 2"]
    assert [line.split() for line in out[6:9]] == [
        ["the", "cat", "."],
        ["le", "a", "0.9", "c", "0.9", "0.0"],
        ["chat", "c", "0.5", "c", "0.6", "0.0"],
    ]


@pytest.mark.parametrize("colors", [None, "truecolor", "256"])
@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        (
            40,
            [["le", "a", "0.90", "b", "0.90", "0.00"], ["chat", "b", "0.50", "b", "0.60", "0.00"]],
        ),
        (20, [["le", "A", "B"], ["chat", "B", "B"]]),
    ],
)
def test_a_terminal_has_letters_and_a_legend(attn, heads, colors, columns, rows):
    arguments = ("show-weights", "w.npz", "--overlay", "--head", "0,2")
    result = attn(*arguments, columns=columns, colors=colors)
    lines = re.sub("\x1b\\[[0-9;]*m", "", result.out).splitlines()
    cells = [line.split() for line in lines if line.lstrip().startswith(("le ", "chat "))]
    assert cells == rows
    for letter, head in (("a", 0), ("b", 2)):
        assert [letter, "head", str(head)] in [line.split() for line in lines]
    assert ("a capital from 0.45" in " ".join(" ".join(lines).split())) == (columns == 20)
    assert max(map(len, lines)) <= columns
    assert ("\x1b[" in result.out) == (colors is not None)


def test_few_colours_are_those_of_the_strongest(attn, folder):
    heads = np.zeros((1, 8, 1, 9))
    heads[0, range(8), 0, range(8)] = 1
    np.save("w.npy", heads)
    look = Look.terminal(100, color=True, few_colors=True)
    selection = select_weights(open_tensors("w.npy", Reading()), Wanted(overlay=True))
    out = "\n".join(line for part in draw(Gallery(selection, look)) for line in lines(look, part))
    assert "mix" not in out
    backgrounds = re.findall("\x1b\\[30;(\\d+)m", out)
    assert backgrounds[:8] == backgrounds[8:]  # in the picture, and in the legend
    assert len(set(backgrounds)) == 8


def test_a_large_overlay_shares_cells_and_says_so(attn, folder):
    weights = np.full((2, 300, 400), 1e-3)
    weights[1, 150, 200] = 0.9
    np.save("w.npy", weights)
    out = attn("show-weights", "w.npy", "--axes", "heads,dec,enc", "--overlay", columns=80).out
    assert "1 cell = the maximum of " in " ".join(out.split())
    assert out.count("B") == 1
    assert len(out.splitlines()) <= 40
    assert max(map(len, out.splitlines())) <= 80


def test_items_and_parts_are_overlaid_each_for_itself(attn, folder):
    exps = np.random.default_rng(0).random((2, 2, 3, 3))
    np.savez("w.npz", weights=exps / exps.sum(-1, keepdims=True))
    out = attn("show-weights", "w.npz", "--overlay").out
    assert [line for line in out.splitlines() if line.startswith("item")] == ["item 0", "item 1"]
    assert out.count("a = head 0") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--overlay: 9 heads are more than the 8 that colours tell apart"),
        (["--head", "0:2", "--top", "1"], "--overlay is a picture of its own: not with --top"),
        (["--head", "0:2", "--grid", "1x2"], "is a picture of its own: not with --overlay"),
        (["--head", "0:2", "--browse"], "--overlay is a picture of its own: not with --browse"),
    ],
)
def test_what_cannot_be_overlaid(attn, folder, arguments, message):
    np.save("w.npy", np.full((1, 9, 2, 2), 0.5))
    result = attn("show-weights", "w.npy", "--overlay", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_a_drawing_says_the_weights_of_all_heads(attn, heads):
    exports = [text for name in ("w.svg", "w.html") for text in ("--export", name)]
    assert attn("show-weights", "w.npz", "--overlay", *exports, "--quiet").code == 0
    drawing = ET.parse("w.svg").getroot()
    page = ET.parse("w.html").getroot()
    for root in (drawing, page):
        says = [one.text for one in root.iter(f"{SVG}title")]
        assert "le → the: head 0 0.90, head 1 0.10, head 2 0.00" in says
        texts = [one.text for one in root.iter(f"{SVG}text")]
        assert {"head 0", "head 1", "head 2", "A", "C"} <= set(texts)


def test_a_large_drawing_is_one_image(attn, folder):
    np.save("w.npy", np.full((1, 2, 97, 89), 1 / 89))
    assert attn("show-weights", "w.npy", "--overlay", "--export", "w.svg", "--quiet").code == 0
    (image,) = ET.parse("w.svg").getroot().iter(f"{SVG}image")
    assert image.get("href").startswith("data:image/png;base64,")


def test_a_bitmap(attn, heads):
    pytest.importorskip("matplotlib")
    assert attn("show-weights", "w.npz", "--overlay", "--export", "w.png", "--quiet").code == 0
