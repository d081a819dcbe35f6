"""``attn show-weights --browse``: paging with the keys."""

import io
import os
import re
import shlex
import signal
import sys
import types

import numpy as np
import pytest
from conftest import SAMPLES
from rich.cells import cell_len
from rich.console import Console
from window import AS_BEFORE, IN_FULL, Window, on_posix, plain_lines, quiet_forks

from attncli.cli.keyboard import full_screen
from attncli.cli.weight_browse import Browser
from attncli.weights.selection import Chosen

pytestmark = quiet_forks

HEADS = SAMPLES / "minilm_heads.npz"
RIGHT, LEFT, DOWN, UP, NEXT, BACK = (f"\x1b[{end}" for end in ("C", "D", "B", "A", "6~", "5~"))


def browser(layers=2, items=2, heads=3):
    names = [
        {"layer": layer, "item": item, "head": head}
        for layer in range(layers)
        for item in range(items)
        for head in range(heads)
    ]
    every = [Chosen(one, one["item"], (1, 1), lambda cut: np.ones((1, 1))) for one in names]
    return Browser(every)


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ([], (0, 0, 0)),
        ([RIGHT, RIGHT], (0, 0, 2)),
        ([RIGHT, RIGHT, RIGHT], (0, 0, 0)),
        ([LEFT], (0, 0, 2)),
        ([DOWN, NEXT, RIGHT], (1, 1, 1)),
        ([UP, BACK], (1, 1, 0)),
        (["l", "j", "n", "h", "k", "p"], (0, 0, 0)),
        (["x", "\x1b[99~"], (0, 0, 0)),
    ],
)
def test_keys_move_along_the_axes_and_around(keys, place):
    pages = browser()
    assert all(pages.press(key) for key in keys)
    assert tuple(pages.current.names.values()) == place


def test_with_one_layer_up_and_down_page_through_items():
    pages = browser(layers=1)
    pages.press(DOWN)
    assert pages.current.names["item"] == 1
    assert pages.keys("←→↑↓") == "←→ head   ↑↓ item   v view   q quit"
    assert "page up/down item" in browser().keys("←→↑↓")


def test_quitting():
    assert not any(browser().press(key) for key in ("q", "\x1b", "\x04"))


COMMAND = (sys.executable, "-m", "attncli", "show-weights", str(HEADS), "--browse")


@on_posix
def test_on_a_terminal():
    window = Window(*COMMAND)
    assert window.until("q quit").count("\n") <= 24  # no line more than there are
    for keys, place in (
        (RIGHT * 2, "layer 0  item 0  head 2"),
        (DOWN, "layer 1  item 0  head 2"),
        ("v", "layer 1"),
        ("v", "→"),
    ):
        window.press(keys)
        assert place in window.until("q quit")
    window.press("q")
    window.until(AS_BEFORE)
    assert window.ends() == 0


@on_posix
def test_a_difference_names_both_files():
    window = Window(*COMMAND, "--diff", str(HEADS), columns=200)
    shown = "".join(plain_lines(window.until("q quit")))
    assert re.search(r"minilm_heads.npz − \S*minilm_heads.npz", shown)
    window.press("q")
    assert window.ends() == 0


@on_posix
def test_a_key_that_comes_in_pieces():
    window = Window(*COMMAND)
    window.until("q quit")
    for piece in RIGHT:
        window.press(piece)
    assert "head 1" in window.until("q quit")
    window.press("\x1b")  # alone it is a key of its own
    window.until(AS_BEFORE)
    assert window.ends() == 0


@on_posix
def test_a_resized_window_is_drawn_anew_at_once():
    window = Window(*COMMAND, columns=200)
    assert max(map(cell_len, plain_lines(window.until("q quit")))) > 100
    window.resize(60)
    assert 20 < max(map(cell_len, plain_lines(window.until("q quit")))) <= 60
    window.press("q")
    window.until(AS_BEFORE)
    assert window.ends() == 0


@on_posix
def test_a_long_name_and_the_keys_take_one_line_each(tmp_path):
    file = tmp_path / f"{'long' * 20}.npz"
    file.write_bytes(HEADS.read_bytes())
    window = Window(*COMMAND[:-2], str(file), "--browse", columns=30)
    lines = plain_lines(window.until("v vie"))
    assert "long" not in lines[1]
    assert len(lines[-1]) <= 30
    window.press("q")
    window.until(AS_BEFORE)
    assert window.ends() == 0


@on_posix
def test_stopped_it_gives_the_terminal_back_and_continued_it_takes_it_again():
    script = f"{shlex.join(COMMAND)}; echo; stty -a; echo stopped; read key; fg; echo over"
    window = Window("/bin/sh", "-m", "-c", script)
    window.until("q quit")
    window.press("\x1a")
    shell = window.until("\nstopped")
    assert AS_BEFORE in shell
    assert re.search(r"[^-]icanon", shell)  # lines
    assert re.search(r"[^-]echo\b", shell)
    window.press("\n")
    assert IN_FULL in window.until("q quit")
    window.press(RIGHT)  # keys, not lines
    assert "head 1" in window.until("q quit")
    window.press("q")
    assert AS_BEFORE in window.until("over")
    assert window.ends() == 0


@on_posix
def test_where_no_shell_could_continue_it_nothing_stops():
    window = Window(*COMMAND)
    window.until("q quit")
    window.press("\x1a")
    assert IN_FULL in window.until("q quit")
    window.press("q")
    window.until(AS_BEFORE)
    assert window.ends() == 0


@on_posix
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_ended_by_a_signal_it_gives_the_terminal_back(name):
    window = Window(*COMMAND)
    window.until("q quit")
    assert not window.is_as_before()
    number = getattr(signal, name)
    os.kill(window.program, number)
    window.until(AS_BEFORE)
    assert window.is_as_before()
    assert window.ends() == 128 + number


@on_posix
def test_a_bug_gives_the_terminal_back():
    script = """if True:
        import sys
        from attncli.cli import weight_browse
        from attncli.cli.main import run
        weight_browse._draw = lambda *a: 1 / 0
        sys.exit(run(sys.argv[1:]))"""
    window = Window(sys.executable, "-c", script, *COMMAND[3:])
    assert AS_BEFORE in window.until("this is a bug")
    assert window.is_as_before()
    assert window.ends() == 70


def test_keys_on_windows(monkeypatch):
    typed = iter(["\xe0", "M", "\x00", "Q", "\xe0", "?", "q", "\x03"])
    windows = types.SimpleNamespace(getwch=lambda: next(typed))
    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    screen = io.StringIO()
    with full_screen(Console(file=screen, force_terminal=True)) as read_keys:
        assert [read_keys() for _ in range(4)] == [[RIGHT], [NEXT], [""], ["q"]]
        with pytest.raises(KeyboardInterrupt):
            read_keys()
    assert screen.getvalue().startswith(IN_FULL)
    assert screen.getvalue().endswith(AS_BEFORE)


def test_without_a_terminal_there_is_nothing_to_browse(attn):
    for columns in (None, 80):
        result = attn("show-weights", HEADS, "--browse", columns=columns)
        assert (result.code, result.out) == (2, "")
        assert "--browse needs a terminal" in result.err
