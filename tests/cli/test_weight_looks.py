"""``attn show-weights``: what the picture of large, many and odd weights says, and on what."""

import math
import re
import sys

import numpy as np
import pytest
from crossing import crossed
from rich.cells import cell_len
from window import Window, on_posix, quiet_forks

from attncli.views.background import _give_back, typed_meanwhile

WIDTHS = [40, 80, 120, 200]
BACKGROUND = re.compile(r"\x1b\[[\d;]*?48;2;(\d+);(\d+);(\d+)m")


def weights_of(*shape, seed=0, spread=1.0):
    return np.random.default_rng(seed).dirichlet(np.full(shape[-1], spread), shape[:-1])


def plain(text):
    return [re.sub(r"\x1b\[[\d;]*m", "", line) for line in text.splitlines()]


def first_background(text):
    """Give the colour of the first shade, as red, green and blue."""
    return tuple(map(int, BACKGROUND.search(text).groups()))


@pytest.fixture
def tall_window(monkeypatch):
    monkeypatch.setenv("LINES", "30")


# Few rows or few columns


@pytest.mark.parametrize("colors", [None, "truecolor"])
@pytest.mark.parametrize("columns", WIDTHS)
def test_few_rows_of_many_keys_have_a_line_each_with_their_word_and_strongest_key(
    attn, folder, tall_window, columns, colors
):
    weights = np.full((23, 1009), 1e-4)
    places = [(row * 397 + 5) % 1009 for row in range(23)]
    weights[range(23), places] = 0.5 + np.arange(23) / 100
    weights[7] = 0
    words = [f"word{row}" for row in range(22)] + ["日本"]
    np.savez("w.npz", weights=weights, tokens_dec=words)
    result = attn("show-weights", "w.npz", "--threshold", "0", "--view", "heatmap",
                  columns=columns, colors=colors)  # fmt: skip
    lines = plain(result.out)
    assert len(lines) <= 40
    assert max(map(cell_len, lines)) <= columns
    shown = [line for line in lines if line.split(" ")[-1] not in ("", "120") and line.split()]
    rows = [line for line in shown if line.split()[0] in words]
    assert [line.split()[0] for line in rows] == words
    said = [" ".join(line.split()[-2:]) for line in rows]
    expected = [f"{place} {0.5 + row / 100:.2f}" for row, place in enumerate(places)]
    assert [x for row, x in enumerate(said) if row != 7] == [*expected[:7], *expected[8:]]
    assert said[7].endswith("masked")


def test_the_strongest_key_is_that_of_the_weights_and_not_of_the_cells(attn, folder):
    weights = np.zeros((3, 1000))
    weights[:, 500:600] = 0.009  # the cells around it have the larger mean
    weights[1, 77] = 0.1
    np.savez("w.npz", weights=weights, tokens_enc=[f"k{key}" for key in range(1000)])
    lines = attn("show-weights", "w.npz", "--pool", "mean", columns=80).out.splitlines()
    (row,) = [line for line in lines if line.startswith("1 ")]
    assert row.endswith(" k77 0.10")


@pytest.mark.parametrize("columns", WIDTHS)
def test_few_keys_of_many_rows_have_their_words_and_strongest_rows(
    attn, folder, tall_window, columns
):
    weights = np.full((1013, 11), 0.01)
    for key in range(11):
        weights[key * 89 + 13, key] = 0.3 + key / 50
    words = [f"k{chr(97 + key)}" for key in range(11)]
    rows = [f"r{row}" for row in range(1013)]
    np.savez("w.npz", weights=weights, tokens_enc=words, tokens_dec=rows)
    lines = attn("show-weights", "w.npz", columns=columns).out.splitlines()
    assert len(lines) <= 36
    assert max(map(cell_len, lines)) <= columns
    text = " ".join(" ".join(lines).split())
    for key, word in enumerate(words):
        assert f"r{key * 89 + 13} → {word} {0.3 + key / 50:.2f}" in text


# Many heads


@pytest.mark.parametrize(
    **crossed(
        shapes={
            "one": [(13, 17)],
            "alike": [(12, 7)] * 12,
            "different": [(3, 5), (11, 5), (1, 5)],
            "many": [(25, 3)] * 40,
            "few": [(7, 19)],
        },
        columns=WIDTHS,
        colors=[None, "truecolor"],
    )
)
def test_many_heads_take_two_screens_and_each_is_named(
    attn, folder, tall_window, shapes, columns, colors
):
    layers = [1, 2, 5, *range(7, 50)]
    arrays = {
        f"layer{layer}": weights_of(1, heads, T, T)
        for layer, (heads, T) in zip(layers, shapes, strict=False)
    }
    np.savez("w.npz", **arrays)
    lines = plain(attn("show-weights", "w.npz", columns=columns, colors=colors).out)
    assert len(lines) <= 60
    assert max(map(cell_len, lines)) <= columns
    text = "\n".join(lines)
    named = re.findall(r"\d+", "\n".join(line for line in lines if "head" in line))
    if len(shapes) == 1:
        assert {str(head) for head in range(shapes[0][0])} <= set(named)
    for layer in layers[: len(shapes)]:
        said = re.search(rf"(?m)^ *layer {layer}\b", text)
        assert said or len(shapes) == 1 or "more rows are not shown" in " ".join(text.split())


def test_heads_that_are_not_there_are_not_drawn(attn, folder):
    uneven = {f"layer{layer}": weights_of(1, heads, 5, 5) for layer, heads in enumerate((3, 1, 7))}
    np.savez("few.npz", **uneven)
    lines = attn("show-weights", "few.npz", columns=120).out.splitlines()
    numbers = [re.findall(r"\d\.\d\d", line) for line in lines if re.match(r" +\d\.\d\d", line)]
    assert [len(line) for line in numbers][:3] == [3, 1, 7]
    many = {f"layer{n}": weights_of(1, 23 if n else 5, 3, 3) for n in range(19)}
    np.savez("many.npz", **many)
    lines = attn("show-weights", "many.npz", columns=120).out.splitlines()
    cells = {
        int(match[1]): len(match[2])
        for match in (re.match(r" *layer (\d+) (.*)$", line) for line in lines)
        if match
    }
    assert cells[0] == 2 * 5
    assert len({*cells.values()}) > 1


def test_an_overview_says_of_which_layer_it_is(attn, folder):
    np.savez("w.npz", **{f"layer{n}": weights_of(1, 13, 5, 5) for n in range(2)})
    out = attn("show-weights", "w.npz", "--layer", 1, columns=100).out
    assert "13 heads of layer 1, sorted by entropy" in out


def test_full_shows_every_table_however_long(attn, folder):
    np.save("w.npy", weights_of(1, 13, 31, 5))
    lines = attn("show-weights", "w.npy", "--full", columns=80).out.splitlines()
    assert sum(line.startswith("item 0  head ") for line in lines) == 13
    assert len([line for line in lines if line.endswith(" 1.00")]) == 13 * 31


# Repeated words


@pytest.mark.parametrize("columns", [None, 40, 80, 200])
@pytest.mark.parametrize("view", ["table", "cells", "list"])
def test_a_word_that_is_there_twice_has_its_position(attn, folder, view, columns):
    words = ["the", "cat", "saw", "the", "other", "cat"]
    np.savez("w.npz", weights=weights_of(6, 6), tokens=words)
    out = attn("show-weights", "w.npz", "--view", view, columns=columns).out
    lines = [line for line in out.splitlines() if line.split() and ("→" in line or view != "list")]
    starts = [line.split()[0] for line in lines]
    rows = ["the[0]", "cat[1]", "saw", "the[3]", "other", "cat[5]"]
    assert [start for start in starts if start in rows][-6:] == rows


def test_positions_are_those_of_the_sequence_and_not_of_what_is_left(attn, folder):
    words = ["[CLS]", "a", "b", "a", "c", "b"]
    np.savez("w.npz", weights=np.eye(6), tokens=words)
    out = attn("show-weights", "w.npz", "--rows", "3:", "--drop-special", "--top", 1).out
    assert "a[3] → a[3] 1.0\n   c → c 1.0\nb[5] → b[5] 1.0" in out


def test_data_keeps_words_as_they_are(attn, folder):
    np.savez("w.npz", weights=np.eye(3), tokens=["a", "b", "a"])
    result = attn("show-weights", "w.npz", "--json", "--export", "w.csv")
    assert result.json["matrices"][0]["tokens_dec"] == ["a", "b", "a"]
    assert "[2]" not in (folder / "w.csv").read_text()
    attn("show-weights", "w.npz", "--export", "w.svg", "--export", "w.md")
    assert "a[2] → a[0]" in (folder / "w.svg").read_text()
    assert r"a\[2\]" in (folder / "w.md").read_text()


def test_words_that_run_right_to_left_turn_nothing_else_around(attn, folder):
    words = ["שלום", "מה", "b"]
    np.savez("w.npz", weights=np.eye(3), tokens=words)
    shown = attn("show-weights", "w.npz", "--view", "table", columns=80).out
    assert all(f"{word}\u200e" in shown for word in words[:2])
    assert all(f"{word}\u200e" not in attn("show-weights", "w.npz").out for word in words)


# A range that is given


def files_of_two_models():
    flat, peaked = np.full((5, 5), 0.2), np.eye(5)
    peaked[0, 0], peaked[0, 1:] = 0.2, 0.2
    np.savez("flat.npz", weights=flat)
    np.savez("peaked.npz", weights=peaked)


@pytest.mark.parametrize("view", ["cells", "table"])
@pytest.mark.parametrize("options", [("--vmin", 0, "--vmax", 1), ("--vmax", 0.5)])
def test_a_number_has_one_colour_in_a_range_that_is_given(attn, folder, view, options):
    files_of_two_models()

    def shade(file, *options):
        arguments = ("show-weights", f"{file}.npz", "--view", view, *options)
        return first_background(attn(*arguments, columns=80, colors="truecolor").out)

    assert shade("flat", *options) == shade("peaked", *options)
    assert shade("flat") != shade("peaked")


def test_the_legend_says_the_range_and_how_many_weights_lie_beyond(attn, folder):
    weights = np.full((7, 11), 0.05)
    weights[2, 3], weights[6, 10], weights[0, 1] = 0.31, 0.9, 0.01
    np.save("w.npy", weights)
    told = ("--view", "cells", "--vmin", 0.02, "--vmax", 0.3)
    lines = attn("show-weights", "w.npy", *told, columns=80).out.splitlines()
    assert lines[-2].split("1 cell")[0].strip() == "0.02  ░▒▓█ 0.3  beyond: 1 smaller, 2 larger"
    within = attn("show-weights", "w.npy", "--view", "cells", "--vmax", 0.9, columns=80).out
    assert "beyond" not in within


def test_weights_and_not_cells_are_counted_beyond(attn, folder):
    weights = np.zeros((300, 300))
    weights[7, 100:150] = 0.7  # in few cells
    np.save("w.npy", weights)
    out = attn("show-weights", "w.npy", "--vmax", 0.5, columns=80).out
    assert "beyond: 50 larger" in out
    attn("show-weights", "w.npy", "--vmax", 0.5, "--export", "w.svg", "--export", "w.html")
    assert "beyond: 50 larger" in (folder / "w.svg").read_text(encoding="utf-8")
    assert "beyond: 50 larger" in (folder / "w.html").read_text(encoding="utf-8")


def test_an_overview_has_one_range_and_counts_in_all_heads(attn, folder):
    weights = np.full((1, 13, 5, 5), 0.1)
    weights[0, [0, 12], 4, 4] = 0.6
    np.save("w.npy", weights)
    out = " ".join(attn("show-weights", "w.npy", "--vmax", 0.5, columns=100).out.split())
    assert "shaded from 0 to 0.5, beyond: 2 larger" in out


def test_heads_over_each_other_have_one_range_and_count_in_all(attn, folder):
    weights = np.full((1, 3, 5, 40), 0.02)
    weights[0, [0, 2], 4, 39] = 0.6
    np.save("w.npy", weights)
    shown = ("show-weights", "w.npy", "--overlay", "--vmax", 0.5)
    lines = plain(attn(*shown, columns=100, colors="truecolor").out)
    assert "full at 0.50, beyond: 2 larger" in " ".join(" ".join(lines).split())


def test_a_difference_keeps_0_in_the_middle_of_any_range(attn, folder):
    files_of_two_models()
    shown = ("show-weights", "peaked.npz", "--diff", "flat.npz", "--view", "cells")
    quiet = {
        ends: BACKGROUND.findall(attn(*shown, *ends, columns=80, colors="truecolor").out)[0]
        for ends in [(), ("--vmax", 0.5), ("--vmin", -0.1, "--vmax", 0.9), ("--vmin", -0.3)]
    }
    assert len({*quiet.values()}) == 1  # 0.2 − 0.2
    assert "-0.5" in attn(*shown, "--vmax", 0.5, columns=80).out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--vmin", 1, "--vmax", 0), "--vmin 1 is not below --vmax 0"),
        (("--vmin", 0.5, "--vmax", 0.5), "--vmin 0.5 is not below --vmax 0.5"),
        (("--vmax", 0), "--vmin 0, as it is unless given, is not below --vmax 0"),
        (("--vmin", "nan"), "'--vmin': nan is not a finite number"),
        (("--vmax", "inf"), "'--vmax': inf is not a finite number"),
        (("--shade", "row", "--vmax", 1), "--vmax 1: --shade row gives every row a range"),
        (("--shade", "log", "--vmin", 0), "--vmin 0: --shade log runs between numbers above 0"),
        (("--diff", "w.npy", "--vmin", 0), "--vmin 0: with --diff the middle shade is 0"),
    ],
)
def test_a_range_that_is_none(attn, folder, options, said):
    np.save("w.npy", np.eye(3))
    result = attn("show-weights", "w.npy", *options)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


# The background


@pytest.mark.parametrize("view", ["table", "cells", "heatmap", "overview"])
@pytest.mark.parametrize(("theme", "strong"), [("light", (40, 25, 47)), ("dark", (222, 245, 229))])
def test_what_is_strong_is_loud_on_the_background_there_is(attn, folder, theme, strong, view):
    np.save("w.npy", np.eye(7))
    how = ("--sort", "max") if view == "overview" else ("--view", view)
    out = attn("show-weights", "w.npy", "--theme", theme, *how, columns=80, colors="truecolor").out
    shades = {tuple(map(int, x)) for x in re.findall(r"[34]8;2;(\d+);(\d+);(\d+)", out)}
    assert strong in shades
    if view == "cells":
        assert first_background(out) == strong


@pytest.mark.parametrize(
    ("variables", "light"),
    [
        ({}, False),
        ({"COLORFGBG": "0;15"}, True),
        ({"COLORFGBG": "15;0"}, False),
        ({"COLORFGBG": "0;default;15"}, True),
        ({"COLORFGBG": "odd"}, False),
        ({"ATTN_THEME": "light"}, True),
        ({"ATTN_THEME": "dark", "COLORFGBG": "0;15"}, False),
        ({"ATTN_THEME": "auto", "COLORFGBG": "0;7"}, True),
    ],
)
def test_the_background_is_as_the_environment_says(attn, folder, monkeypatch, variables, light):
    for name in ("COLORFGBG", "ATTN_THEME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    np.save("w.npy", np.eye(3))
    out = attn("show-weights", "w.npy", "--view", "cells", columns=80, colors="truecolor").out
    assert first_background(out) == ((40, 25, 47) if light else (222, 245, 229))


ASKED = "\x1b]11;?\x1b\\"
WHITE, BLACK, KNOWN = "\x1b]11;rgb:ffff/ffff/ffff\x1b\\", "\x1b]11;rgb:00/00/00\x07", "\x1b[?62;22c"


@pytest.fixture
def eye(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORTERM", "truecolor")
    np.save(tmp_path / "w.npy", np.eye(3))
    command = (sys.executable, "-m", "attncli", "show-weights", str(tmp_path / "w.npy"))
    return (*command, "--view", "cells")


@on_posix
@quiet_forks
@pytest.mark.parametrize(
    ("answer", "light"),
    [(WHITE + KNOWN, True), (BLACK + KNOWN, False), (KNOWN, False), ("", False)],
)
def test_a_terminal_is_asked_for_its_background_and_is_then_as_before(eye, answer, light):
    window = Window(*eye)
    window.until(ASKED)
    window.press(answer)
    shown = window.until("1 cell = 1 weight")
    assert first_background(shown) == ((40, 25, 47) if light else (222, 245, 229))
    assert window.is_as_before()
    assert window.ends() == 0


@on_posix
@quiet_forks
def test_what_was_typed_before_stays_typed_and_nothing_is_asked(eye):
    import termios

    delayed = "import os, sys, time; time.sleep(1); os.execv(sys.argv[1], sys.argv[1:])"
    window = Window(sys.executable, "-c", delayed, *eye)
    window.press("next")  # as one types while a command runs
    assert ASKED not in window.until("1 cell = 1 weight")
    mode = termios.tcgetattr(window.descriptor)
    mode[3] &= ~termios.ICANON
    termios.tcsetattr(window.descriptor, termios.TCSANOW, mode)
    assert window.ends() == 0


@on_posix
def test_what_is_typed_while_the_terminal_is_asked_is_kept_where_it_cannot_be_put_back(monkeypatch):
    import fcntl

    def refused(*arguments):
        raise OSError

    monkeypatch.setattr(fcntl, "ioctl", refused)
    _give_back(0, b"\x1b[Cq")
    assert (typed_meanwhile(), typed_meanwhile()) == (b"\x1b[Cq", b"")


@on_posix
@quiet_forks
@pytest.mark.parametrize("name", ["CI", "SSH_CONNECTION", "COLORFGBG"])
def test_nothing_is_asked_where_nobody_answers_in_time_or_the_answer_is_known(
    eye, monkeypatch, name
):
    monkeypatch.setenv(name, "0;15")
    window = Window(*eye)
    assert ASKED not in window.until("1 cell = 1 weight")
    assert window.ends() == 0


@pytest.mark.parametrize("options", [("--json",), (), ("--color", "always")])
def test_nothing_is_asked_in_a_pipe(attn, folder, options):
    np.save("w.npy", np.eye(3))
    assert ASKED not in attn("show-weights", "w.npy", *options).out


# What weights never are


def test_warnings_are_counted_and_name_the_worst(attn, folder):
    weights = weights_of(3, 1, 5, 7, 11)
    weights[2, 0, 3] *= 1.01
    weights[1, 0, 4, 6] *= 1.5  # the worst, in a row where sampling would miss it
    weights[0, 0, 0, 0, 5] = -0.001
    np.savez("w.npz", **{f"layer{layer}": weights[layer] for layer in range(3)})
    for options in ((), ("--json",), ("--top", 1), ("--export", "w.svg"), ("--full",)):
        err = attn("show-weights", "w.npz", *options).err
        lines = [line for line in err.splitlines() if line.startswith("warning")]
        assert len(lines) == 2, options
        assert "in 1 of 15 heads weights are negative: the worst, layer 0 head 0 row 0" in lines[0]
        assert (
            "in 3 of 15 heads rows do not sum to 1: the worst, layer 1 head 4 row 6, sums to 1.500"
            in lines[1]
        )


@pytest.mark.parametrize("heads", [7, 29])
def test_no_number_of_heads_makes_more_than_three_lines(attn, folder, heads):
    weights = np.random.default_rng(0).normal(size=(1, heads, 5, 5)) * 3
    weights[0, 1, 2, 3] = np.nan
    np.save("w.npy", weights)
    err = attn("show-weights", "w.npy", "--allow-nonfinite").err.splitlines()
    assert len(err) == 3
    assert f"in 1 of {heads} heads weights are not finite: the worst, head 1 has 1" in err[0]
    assert "as scores are before the softmax" in err[1]


def test_dropout_marked_by_its_sign_is_said(attn, folder):
    weights = weights_of(1, 5, 7, 7)
    weights[:, :, ::2, 3] *= -1
    np.save("w.npy", weights)
    err = attn("show-weights", "w.npy").err
    assert "in 5 of 5 heads weights are negative" in err
    assert "their sizes sum to 1, as where the sign marks dropout" in err


def test_a_row_of_zeros_is_odd_only_among_rows_that_are(attn, folder):
    right, dropped = weights_of(1, 5, 7, 7), weights_of(1, 5, 7, 7)
    right[:, :, 3] = 0  # masked
    np.save("right.npy", right)
    assert attn("show-weights", "right.npy").err == ""
    dropped *= np.random.default_rng(0).random(dropped.shape) > 0.3
    dropped[0, 4, 6] = 0
    np.save("dropped.npy", dropped / 0.7)
    assert "the worst, head 4 row 6, sums to 0.000" in attn("show-weights", "dropped.npy").err


def test_frames_are_counted_together_and_named(attn, folder):
    frames = weights_of(3, 2, 5, 5)
    frames[1, 1, 4] *= 2
    np.savez("w.npz", weights=frames, steps=[0, 10, 20])
    err = attn("show-weights", "w.npz", "--frames", "--json").err
    assert err.splitlines()[-1].endswith(
        "in 1 of 6 heads rows do not sum to 1: the worst, frame 1 item 1 row 4, sums to 2.000"
    )


# Much text


def test_much_text_in_a_pipe_is_said_before_with_a_way_to_less(attn, folder):
    np.save("w.npy", weights_of(701, 709))
    result = attn("show-weights", "w.npy")
    size = re.search(r"w.npy: 497,009 numbers, about (\d+) MB of text; --top 3 ", result.err)
    assert math.isclose(int(size[1]), len(result.out) / 1e6, abs_tol=1)
    assert all(option in result.err for option in ("--rows 0:20", "--export weights.html"))
    for less in (("--top", 3), ("--rows", "0:20"), ("--json",), ("-q",)):
        assert attn("show-weights", "w.npy", *less).err == ""


@pytest.mark.parametrize("columns", [80, 100])
def test_a_few_large_heads_share_three_screens(attn, folder, tall_window, columns):
    np.save("w.npy", weights_of(1, 4, 401, 397))
    lines = attn("show-weights", "w.npy", columns=columns).out.splitlines()
    assert len(lines) <= 90
    assert sum(line.startswith("item 0  head") for line in lines) == 4
