"""What the terminal shows, as plain text at fixed widths."""

import io
import re

import numpy as np
import pytest
from rich.color import Color
from rich.console import Console

from attncli.views.clusters import clusters
from attncli.views.heads import Head, draw_heads
from attncli.views.labels import shorten
from attncli.views.look import Look
from attncli.views.matrix import Matrix
from attncli.views.overview import Overview
from attncli.views.picture import WeightMatrix
from attncli.views.records import Column, draw_records
from attncli.views.scales import Scale
from attncli.views.shades import colors as colors_of
from attncli.views.shades import hole_color, luminance, shade_styles
from attncli.views.tensor_tables import draw_tensor
from attncli.views.ways import draw_weights
from attncli.weights.statistics import head_statistics

WEIGHTS = np.array([[0.75, 0.25, 0.0], [0.0, 0.5, 0.5]])
PICTURE = WeightMatrix("item 0", WEIGHTS, ["cat", "sat"], ["the", "日本", "kitten"])


def render(renderable, look, color=None):
    text = io.StringIO()
    console = Console(
        file=text,
        width=look.width,
        color_system=color,
        force_terminal=color is not None,
        markup=False,
        highlight=False,
        emoji=False,
        _environ={},
    )
    console.print(renderable)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def terminal(width, **more):
    return Look.terminal(width, color=False, **more)


def test_weights_as_a_table_where_it_fits():
    assert render(draw_weights(PICTURE, terminal(80)), terminal(80)) == [
        "item 0",
        "        the    日本  kitten   sum",
        "cat    0.75    0.25    0.00  1.00",
        "sat    0.00    0.50    0.50  1.00",
        "",
    ]


def test_weights_in_a_tight_table():
    assert render(draw_weights(PICTURE, terminal(25)), terminal(25)) == [
        "item 0",
        "     the 日本 kit…  sum",
        "cat 0.75 0.25 0.00 1.00",
        "sat 0.00 0.50 0.50 1.00",
        "",
    ]


def test_weights_as_shaded_cells_where_no_table_fits():
    assert render(draw_weights(PICTURE, terminal(20)), terminal(20)) == [
        "item 0",
        "             n",
        "            e",
        "           t",
        "      e   t",
        "     h 本i",
        "    t 日k",
        "cat ██░░",
        "sat   ▓▓▓▓",
        "    0  ░▒▓█ 0.75",
        "1 cell = 1 weight",
        "",
    ]


def test_a_letter_and_its_accents_stand_in_one_place():
    words = ["cafe\u0301", "nai\u0308ve", "o"]
    picture = WeightMatrix("", np.eye(3), ["a", "b", "c"], words)
    look = terminal(20)
    assert render(draw_weights(picture, look, view="cells"), look)[:5] == [
        "        e",
        "     e\u0301 v",
        "    f i\u0308",
        "   a a",
        "  c n o",
    ]
    several = ["a\u0301\u0302b", "\U0001f44d\U0001f3fdc", "\U0001f1ef\U0001f1f5d", "e\ufe0ff"]
    assert [len(clusters(text)) for text in several] == [2, 2, 2, 2]
    downwards = WeightMatrix("", np.eye(9)[:1], ["a"], ["e\u0301a"] * 9)
    assert render(draw_weights(downwards, terminal(20), view="cells"), look)[:2] == [
        "  " + "e\u0301 " * 8 + "e\u0301",
        "  " + "a " * 8 + "a",
    ]
    assert shorten("xe\u0301\u0302yz", 3) == "xe\u0301\u0302…"


def test_headings_are_numbers_where_cells_are_too_narrow_for_them():
    picture = WeightMatrix("", np.eye(10)[:1], ["cat"], ["日本"] * 10, column_numbers=range(3, 13))
    assert render(draw_weights(picture, terminal(20)), terminal(20))[:4] == [
        "           111",
        "    3456789012",
        "cat █",
        "    0  ░▒▓█ 1.00",
    ]


def test_cells_wrap_into_blocks_and_lose_no_column():
    weights = np.eye(30)[:2]
    picture = WeightMatrix("", weights, ["0", "1"], [str(i) for i in range(30)])
    assert render(draw_weights(picture, terminal(24), view="cells"), terminal(24)) == [
        "columns 0 to 21 of 30",
        "            111111111122",
        "  0123456789012345678901",
        "0 █",
        "1  █",
        "columns 22 to 29 of 30",
        "  22222222",
        "  23456789",
        "0",
        "1",
        "  0  ░▒▓█ 1.00",
        "  1 cell = 1 weight",
        "",
    ]


def test_a_heatmap_where_cells_do_not_fit():
    labels = [str(i) for i in range(60)]
    picture = WeightMatrix("head 2", np.eye(60), labels, labels)
    assert render(draw_weights(picture, terminal(24, height=12)), terminal(24)) == [
        "head 2",
        "   0         30",
        " 0 ███",
        "     ████",
        "        ███",
        "           ███",
        "             ████",
        "40              ███",
        "                   ███",
        "                     ██",
        "   0  ░▒▓█ 1.00",
        "1 cell = the maximum of",
        "8 × 3 weights",
        "",
    ]


def test_half_blocks_put_two_rows_on_a_line():
    look = Look.terminal(24, color=True, height=30)
    labels = [str(i) for i in range(40)]
    picture = WeightMatrix("", np.eye(40)[:, :20], labels, labels[:20])
    lines = render(draw_weights(picture, look, view="heatmap"), look)  # without its colours
    assert len(lines) == 1 + 20 + 3 + 1
    assert lines[1:3] == [" 0 ▀▀", "     ▀▀"]


@pytest.mark.parametrize("shade", ["linear", "diverging"])
def test_old_terminals_get_their_16_colours(shade):
    look = Look.terminal(80, color=True, few_colors=True)
    for view in ("table", "cells", "heatmap"):
        picture = WeightMatrix("", WEIGHTS - (shade == "diverging") / 2, "ab", "xyz", shade)
        lines = render(draw_weights(picture, look, view=view), look, color="standard")
        codes = {
            int(code)
            for found in re.findall(r"\x1b\[([\d;]+)m", "\n".join(lines))
            for code in found.split(";")
        }
        assert 44 in codes | {code + 10 for code in codes}  # blue
        assert codes <= {0, 1, 2, 3, *range(30, 38), *range(40, 48), *range(90, 108)}


@pytest.mark.parametrize("shade", ["linear", "diverging"])
def test_256_colours_are_of_the_table_and_get_lighter(shade):
    look = Look.terminal(80, color=True, indexed=True)
    picture = WeightMatrix("", np.linspace(-1, 1, 80)[None], ["a"], ["x"] * 80, shade)
    (_, row, *_) = render(draw_weights(picture, look, view="heatmap"), look, color="256")
    used = [int(number) for number in re.findall(r"8;5;(\d+)", row)]
    lights = [luminance(Color.from_ansi(number)) for number in used]
    if shade == "linear":
        assert len({*used}) == 13
        assert lights == sorted(lights)
    else:
        middle = lights.index(min(lights))
        assert lights[:middle] == sorted(lights[:middle], reverse=True)
        assert lights[middle:] == sorted(lights[middle:])


def test_text_on_the_16_colours_can_be_read():
    look = Look.terminal(80, color=True, few_colors=True)
    for shade, dark_on in (("linear", "cyan white bright_white"), ("diverging", "cyan yellow")):
        styles = shade_styles(look, Scale.of(WEIGHTS, shade))
        for style in styles:
            expected = "black" if style.bgcolor.name in dark_on.split() else "bright_white"
            assert style.color.name == expected


HOLES = np.array([[0.5, np.nan, 0.0], [-np.inf, 0.25, np.nan]])


@pytest.mark.parametrize(("unicode", "key"), [("utf-8", " ░▒▓█"), ("ascii", " .:-=+*#%@")])
@pytest.mark.parametrize("view", ["cells", "heatmap"])
def test_what_is_not_finite_is_no_shade(view, unicode, key):
    look = terminal(80, encoding=unicode)
    picture = WeightMatrix("", HOLES, ["a", "b"], ["x", "y", "z"])
    lines = render(draw_weights(picture, look, view=view), look)
    full = key[-1] * 2
    assert lines[1].endswith(f" {full}??")
    assert lines[2].endswith(f" ??{key[len(key) // 2] * 2}??")
    assert lines[3] == f"  0 {key} 0.50  ? not finite  1 cell = 1 weight"


@pytest.mark.parametrize("colors", [{}, {"few_colors": True}, {"indexed": True}])
@pytest.mark.parametrize("shade", ["linear", "log", "row", "diverging"])
@pytest.mark.parametrize("view", ["table", "cells", "heatmap"])
def test_what_is_not_finite_has_a_colour_of_its_own(view, shade, colors):
    look = Look.terminal(80, color=True, **colors)
    picture = WeightMatrix("", HOLES, ["a", "b"], ["x", "y", "z"], shade)
    console = Console(width=80, file=io.StringIO(), force_terminal=True)
    segments = list(console.render(draw_weights(picture, look, view=view)))
    hole = hole_color(look)
    shown = [text for text, style, _ in segments if style and hole in (style.color, style.bgcolor)]
    assert len("".join(shown).replace(" ", "")) >= (7 if view == "table" else 0)
    assert len(shown) >= (3 if view == "heatmap" else 4)  # the key is one of them
    assert hole not in colors_of(look, Scale.of(HOLES, shade))
    assert any("not finite" in text for text, _, _ in segments)


def test_the_key_of_what_is_not_finite_is_shown_only_where_there_is_any():
    assert not any("finite" in x for x in render(draw_weights(PICTURE, terminal(80)), terminal(80)))


@pytest.mark.parametrize("size", [33, 50, 97])
def test_the_overview_pools_once(size):
    weights = np.random.default_rng(0).random((size, size))
    overview = Overview([("layer 0", "head 0")], Look.terminal(80, color=True))
    picture = WeightMatrix("", weights, [""] * size, [""] * size, pool="mean")
    overview.add(("layer 0", "head 0"), picture, "")
    one = overview.at["layer 0", "head 0"]
    down, across = one.by
    for row, column in np.ndindex(one.weights.shape):
        block = weights[row * down : (row + 1) * down, column * across : (column + 1) * across]
        assert one.weights[row, column] == pytest.approx(block.mean(), rel=1e-12)


def test_heads_on_a_narrow_terminal_say_which_they_are_and_what_they_are_sorted_by():
    heads = [Head({"part": "cross", "layer": 3, "head": 5}, head_statistics(np.eye(2)))]
    assert render(draw_heads(heads, terminal(40), "previous"), terminal(40)) == [
        "part   layer  head  on previous  entropy",
        "cross      3     5         0.00     0.00",
    ]
    assert render(draw_heads(heads, terminal(25), "max"), terminal(25)) == [
        "part   layer  head   max",
        "cross      3     5  1.00",
    ]


def test_an_overview_of_heads():
    places = [(f"layer {layer}", f"head {head}") for layer in range(2) for head in range(2)]
    overview = Overview(places, terminal(24))
    for place in places:
        weights = np.eye(8)[:, ::-1] if place[1] == "head 1" else np.eye(8)
        overview.add(place, WeightMatrix("", weights, [""] * 8, [""] * 8), "1.5")
    lines = render(overview, terminal(24))
    assert lines == [
        "        head 0  head 1",
        "layer 0 █          █",
        "         █        █",
        "          █      █",
        "           █    █",
        "        1.5     1.5",
        "layer 1 █          █",
        "         █        █",
        "          █      █",
        "           █    █",
        "        1.5     1.5",
    ]


def test_ascii_has_its_own_shades():
    picture = WeightMatrix("", WEIGHTS, ["cat", "sat"], ["the", "a", "kitten"])
    look = terminal(20, encoding="ascii")
    lines = render(draw_weights(picture, look), look)
    assert lines[-6:-3] == ["cat @@--", "sat   ****", "    0  .:-=+*#%@"]
    assert "".join(lines).isascii()


def test_piped_weights_are_never_cut():
    picture = WeightMatrix("", np.full((1, 400), 1 / 3), ["row"], ["long heading " * 3] * 400)
    lines = render(draw_weights(picture, Look.piped()), Look.piped())
    assert lines[1].count("0.3333333333333333") == 400


def test_colours_shade_the_cells():
    look = Look.terminal(80, color=True)
    (_, _, row, *_) = render(draw_weights(PICTURE, look), look, color="truecolor")
    assert "\x1b[" in row
    assert "48;2;222;245;229" in row  # the largest weight has the last colour


def test_a_long_list_goes_on_under_itself():
    picture = WeightMatrix("", np.full((1, 7), 1 / 7), ["kitten"], ["日本", *"abcdef"])
    assert render(draw_weights(picture, terminal(30), view="list", top=7), terminal(30)) == [
        "kitten → 日本 0.14, a 0.14,",
        "         b 0.14, c 0.14,",
        "         d 0.14, e 0.14,",
        "         f 0.14",
        "",
    ]
    (piped, _) = render(draw_weights(picture, Look.piped(), view="list"), Look.piped())
    assert piped.count("0.142") == 7


def test_strongest_keys_as_a_list():
    assert render(draw_weights(PICTURE, terminal(80), view="list", top=2), terminal(80)) == [
        "item 0",
        "cat → the 0.75, 日本 0.25",
        "sat → 日本 0.50, kitten 0.50",
        "",
    ]


@pytest.mark.parametrize("light", [False, True])
@pytest.mark.parametrize("shade", ["linear", "log", "row", "diverging"])
@pytest.mark.parametrize("colors", [{}, {"indexed": True}, {"few_colors": True}])
def test_nothing_is_quiet_and_strong_is_loud_on_a_background_dark_or_light(light, shade, colors):
    look = Look.terminal(80, color=True, light=light, **colors)
    styles = shade_styles(look, Scale(shade, 1.0))
    shades = [luminance(style.bgcolor) for style in styles]
    quiet, louds = shades[0], [shades[-1]]
    if shade == "diverging":
        middle = len(shades) // 2
        quiet, louds = shades[middle], [shades[0], shades[-1]]
        halves = [shades[middle - 1 :: -1], shades[middle:]]
    else:
        halves = [shades]
    if light:
        assert quiet >= 0.8
        assert max(louds) <= 0.35
        assert all(half == sorted(half, reverse=True) for half in halves)
    else:
        assert quiet <= 0.02
        assert min(louds) >= (0.15 if shade == "diverging" else 0.75)
        assert all(half == sorted(half) for half in halves)


@pytest.mark.parametrize("light", [False, True])
@pytest.mark.parametrize("shade", ["linear", "diverging"])
@pytest.mark.parametrize("colors", [{}, {"indexed": True}])
def test_digits_can_be_read_on_every_shade(light, shade, colors):
    look = Look.terminal(80, color=True, light=light, **colors)
    for style in shade_styles(look, Scale(shade, 1.0)):
        low, high = sorted((luminance(style.color), luminance(style.bgcolor)))
        assert (high + 0.05) / (low + 0.05) >= 4.5


# Tensors


def test_small_tensor_in_full():
    array = np.array([[[1.0, -2.5], [0.0, 3.0]]])
    drawn = draw_tensor(
        "hs_enc",
        array,
        ("N", "T_enc", "H"),
        terminal(80),
        tokens={"T_enc": np.array([["the", "[cat]"]])},
    )
    assert render(drawn, terminal(80)) == [
        "hs_enc  (1, 2, 2) = (N, T_enc, H)  float64",
        "item 0        0        1",
        "   the   1.0000  -2.5000",
        " [cat]   0.0000   3.0000",
        "",
    ]


def test_large_tensor_is_summed_up():
    array = np.arange(1000.0).reshape(10, 100)
    assert render(draw_tensor("h", array, ("N", "H"), terminal(80)), terminal(80)) == [
        "h  (10, 100) = (N, H)  float64",
        "  min 0.0000  max 999.0000  mean 499.5000  norm 18243.7249",
        "  [:3, :4]         0         1         2         3",
        "         0    0.0000    1.0000    2.0000    3.0000",
        "         1  100.0000  101.0000  102.0000  103.0000",
        "         2  200.0000  201.0000  202.0000  203.0000",
        "  12 of 1000 numbers shown; --full shows all",
        "",
    ]


def test_full_shows_everything():
    lines = render(draw_tensor("h", np.zeros((10, 100)), None, Look.piped(full=True)), Look.piped())
    assert len(lines) == 13
    assert lines[2].count("0.0") == 100


def test_wide_tensor_in_blocks_on_a_narrow_terminal():
    lines = render(draw_tensor("h", np.ones((1, 5)), ("N", "H"), terminal(24)), terminal(24))
    assert lines[:2] == ["h  (1, 5) = (N, H)", "float64"]
    assert lines[2:] == [
        "N       0       1",
        "0  1.0000  1.0000",
        "",
        "N       2       3",
        "0  1.0000  1.0000",
        "",
        "N       4",
        "0  1.0000",
        "",
        "",
    ]


def test_empty_tensor_says_so():
    assert render(draw_tensor("h", np.zeros((0, 3)), ("N", "H"), terminal(80)), terminal(80)) == [
        "h  (0, 3) = (N, H)  float64",
        "  empty",
        "",
    ]


def test_vector_is_one_row():
    lines = render(draw_tensor("x", np.array([0.5, 1.5]), None, terminal(80)), terminal(80))
    assert lines[:3] == ["x  (2,)  float64", "       0       1", "  0.5000  1.5000"]


# Matrices and records


def test_matrix_that_fits_nowhere_becomes_a_list():
    matrix = Matrix(
        "item 0", ["a long row label"], ["0", "1"], [["1.0000", "2.0000"]], None, ("sum", "3")
    )
    assert render(matrix.draw(terminal(20)), terminal(20)) == [
        "item 0 a long row l…",
        "  0 1.0000",
        "  1 2.0000",
        "  sum 3",
    ]


def test_records_as_a_table_or_as_blocks():
    columns = [
        Column("layer", ["softmax", "attention"]),
        Column("elements", ["105", "84"], right=True),
        Column("verdict", ["ok", "WRONG"], styles=["green", "red"]),
    ]
    assert render(draw_records(columns, terminal(80)), terminal(80)) == [
        "layer      elements  verdict",
        "softmax         105  ok",
        "attention        84  WRONG",
    ]
    assert render(draw_records(columns, terminal(20)), terminal(20)) == [
        "softmax",
        "  elements  105",
        "  verdict   ok",
        "attention",
        "  elements  84",
        "  verdict   WRONG",
    ]


def test_a_table_of_heads():
    previous = np.eye(4, k=-1)
    heads = [Head({"head": 0}, head_statistics(previous))]
    assert render(draw_heads(heads, terminal(80)), terminal(80)) == [
        "head  entropy   max  on first  on diagonal  on previous  dead rows",
        "   0     0.00  1.00      0.33         0.00         1.00          1",
    ]


def test_look_of_narrow_and_unknown_terminals():
    assert (Look.terminal(0, color=False).width, Look.terminal(7, color=False).width) == (80, 20)
    ascii_look = Look.terminal(80, color=False, encoding="ascii")
    assert (ascii_look.unicode, ascii_look.arrow, ascii_look.ellipsis) == (False, "->", "~")
    assert Look.terminal(80, color=False, encoding="no such encoding").unicode is False
