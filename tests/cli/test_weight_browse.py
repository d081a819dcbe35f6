"""``attn show-weights --browse``: paging with the keys."""

import os
import sys

import numpy as np
import pytest
from conftest import SAMPLES

from attncli.cli.weight_browse import Browser
from attncli.cli.weight_choice import Chosen

HEADS = SAMPLES / "minilm_heads.npz"
RIGHT, LEFT, DOWN, UP, NEXT, BACK = (f"\x1b[{end}" for end in ("C", "D", "B", "A", "6~", "5~"))


def browser(layers=2, items=2, heads=3):
    every = [
        Chosen({"layer": layer, "item": item, "head": head}, item, (1, 1), lambda: np.ones((1, 1)))
        for layer in range(layers)
        for item in range(items)
        for head in range(heads)
    ]
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


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal(tmp_path):
    import pty
    import select
    import termios

    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
        command = [sys.executable, "-m", "attncli", "show-weights", str(HEADS), "--browse"]
        os.execv(sys.executable, command)
    termios.tcsetwinsize(terminal, (24, 80))

    def until(text):
        seen = b""
        while text.encode() not in seen:
            assert select.select([terminal], [], [], 30)[0], seen.decode()
            seen += os.read(terminal, 65536)
        return seen.decode()

    assert until("quit").count("\n") <= 24  # no line more than there are
    for keys, place in (
        (RIGHT * 2, "layer 0  item 0  head 2"),
        (DOWN, "layer 1  item 0  head 2"),
        ("v", "layer 1"),
        ("v", "→"),
    ):
        os.write(terminal, keys.encode())
        assert place in until("quit")
    os.write(terminal, b"q")
    until("\x1b[?1049l")  # the screen as it was before
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(terminal)


def test_without_a_terminal_there_is_nothing_to_browse(attn):
    for columns in (None, 80):
        result = attn("show-weights", HEADS, "--browse", columns=columns)
        assert (result.code, result.out) == (2, "")
        assert "--browse needs a terminal" in result.err
