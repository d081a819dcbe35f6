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

from attncli.cli.keyboard import PAGE_DOWN, RIGHT, full_screen
from attncli.cli.weight_browse import Browser
from attncli.weights.selection import Chosen

pytestmark = quiet_forks

HEADS = SAMPLES / "minilm_heads.npz"
AT_HOME = "\x1b[H"  # where every picture begins


def browser(layers=2, items=2, heads=3, shape=(7, 5)):
    names = [
        {"layer": layer, "item": item, "head": head}
        for layer in range(layers)
        for item in range(items)
        for head in range(heads)
    ]
    every = [Chosen(one, one["item"], shape, lambda cut: np.ones(shape)) for one in names]
    return Browser(every)


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ("", (0, 0, 0)),
        ("hh", (0, 0, 2)),
        ("hhh", (0, 0, 0)),
        ("H", (0, 0, 2)),
        ("lih", (1, 1, 1)),
        ("LI", (1, 1, 0)),
        ("hliHLI", (0, 0, 0)),
        (["x", "\x1b[99~", "p", "f"], (0, 0, 0)),
    ],
)
def test_keys_go_to_the_next_head_layer_and_item_and_around(keys, place):
    pages = browser()
    assert all(pages.press(key) for key in keys)
    assert tuple(pages.current.names.values()) == place


def test_parts_of_other_layers_and_layers_of_other_heads_are_met_at_the_nearest_place():
    names = [
        {"part": part, "layer": layer, "head": head}
        for part, layers in (("encoder", {0: 3, 1: 1}), ("cross", {1: 3, 5: 2}))
        for layer, heads in layers.items()
        for head in range(heads)
    ]
    pages = Browser([Chosen(one, 0, (1, 1), np.ones, one["part"]) for one in names])
    seen = []
    for key in ("h", "h", "p", "l", "L", "p", "l"):
        pages.press(key)
        seen.append(tuple(pages.current.names.values()))
    assert seen == [
        ("encoder", 0, 1),
        ("encoder", 0, 2),
        ("cross", 1, 2),
        ("cross", 5, 0),
        ("cross", 1, 0),
        ("encoder", 1, 0),
        ("encoder", 0, 0),
    ]
    assert pages.keys()[:3] == ["h head", "l layer", "p part"]
    pages.press("l")
    assert pages.keys()[:2] == ["l layer", "p part"]  # of one head there is no next


def test_quitting():
    assert not any(browser().press(key) for key in ("q", "\x1b", "\x04"))


COMMAND = (sys.executable, "-m", "attncli", "show-weights", str(HEADS), "--browse")


@on_posix
def test_on_a_terminal():
    window = Window(*COMMAND)
    assert window.until("q quit").count("\n") == 23  # no line more than there are
    for keys, place in (
        ("hh", "layer 0  head 2"),
        ("l", "layer 1  head 2"),
        ("z", "sum"),
        ("z", "→"),
        ("zz", "1 cell = 1 weight"),
        ("?", "other orders of heads"),
        ("x", "layer 1  head 2"),
    ):
        window.press(keys)
        assert place in window.until("any key" if keys == "?" else "q quit")
    window.press("q")
    window.until(AS_BEFORE)
    assert window.ends() == 0


def screens(file, keys, *options, columns=100, lines=30):
    """Press one key after the other; give the lines of the screen after each."""
    window = Window(*COMMAND[:-2], str(file), "--browse", *options, columns=columns, lines=lines)
    seen = [plain_lines(window.until("q quit").rpartition(AT_HOME)[2])]
    for key in keys:
        window.press(key)
        text = window.until("Escape leaves it" if key == "/" else "q quit")
        seen.append(plain_lines(text.rpartition(AT_HOME)[2]))
    window.press("q")
    window.until(AS_BEFORE)
    assert window.ends() == 0
    assert all(len(screen) <= lines for screen in seen)
    assert all(cell_len(line) <= columns for screen in seen for line in screen)
    return seen


def rows_of(screen):
    """Give the words at the left of a screen."""
    return [line.split()[0] for line in screen if line.strip()]


@pytest.fixture
def tall(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"r{place}" for place in range(199)]
    rows[170] = rows[31] = "needle"
    columns = ["a", "日本", "needles", "d", "e"]
    weights = rng.dirichlet(np.ones(5), (2, 199))
    np.savez(tmp_path / "tall.npz", weights=weights, tokens_dec=rows, tokens_enc=columns)
    return tmp_path / "tall.npz"


@on_posix
@pytest.mark.parametrize(("columns", "lines"), [(40, 10), (100, 30), (200, 60)])
def test_every_row_of_many_is_reached_and_each_is_beside_its_word(tall, columns, lines):
    key = PAGE_DOWN
    start, *pages, end, first = screens(
        tall, [*[key] * (700 // lines), "G", "g"], columns=columns, lines=lines
    )
    assert "r0" in rows_of(start)
    assert "r198" in rows_of(end)
    assert rows_of(first) == rows_of(start)
    seen = {word for page in (start, *pages) for word in rows_of(page)}
    assert seen >= {f"r{place}" for place in range(199) if place not in (31, 170)}
    assert {"needle[31]", "needle[170]"} <= seen


@on_posix
@pytest.mark.parametrize("zoom", ["cells", "table", "list"])
def test_rows_and_columns_go_on_one_by_one_and_by_screens_however_close(tmp_path, zoom):
    weights = np.random.default_rng(0).dirichlet(np.ones(97), 101)
    np.savez(tmp_path / "w.npz", weights=weights)
    keys = ["j", "j", "\x1b[A", " ", "b", "\x1b[C", ">", "<"]
    seen = screens(tmp_path / "w.npz", keys, "--view", zoom)
    rows, columns = (
        [re.search(rf"{axis}s (\d+)-(\d+)", " ".join(screen)) for screen in seen]
        for axis in ("row", "column")
    )
    shown = int(rows[0][2])
    assert [int(one[1]) for one in rows[:6]] == [0, 1, 2, 1, 2 + shown, 1]
    if zoom != "list":  # of all the keys
        wide = int(columns[0][2])
        assert [int(one[1]) for one in columns[6:]] == [1, 2 + wide, 1]


@on_posix
def test_a_word_is_found_at_each_of_its_places(tall):
    keys = ["/", *"NEEDLX", "\x7f", "e\r", "n", "n", "n", "N"]
    seen = screens(tall, [keys[0], "".join(keys[1:-4]), *keys[-4:]])
    said = [re.search(r"NEEDLe: (\w+ \d+, \d of 3)", screen[1])[1] for screen in seen[2:]]
    places = ["row 31, 1 of 3", "row 170, 2 of 3", "column 2, 3 of 3"]
    assert said == [*places, places[0], places[2]]
    assert ">needle[31]" in rows_of(seen[2])
    missing = screens(tall, ["/", "nowhere\r"])[-1]
    assert "nowhere is not here" in missing[1]


@on_posix
def test_every_word_of_a_wide_matrix_is_reached(tmp_path):
    weights = np.random.default_rng(0).dirichlet(np.ones(1499), 5)
    words = [f"w{place}" for place in range(1499)]
    np.savez(tmp_path / "wide.npz", weights=weights, tokens_dec=list("abcde"), tokens_enc=words)
    whole, cells, end, found = screens(
        tmp_path / "wide.npz", [">", "\x1bOF", "/" + "w777\r"], columns=80, lines=24
    )
    assert "columns" not in whole[1]  # all of them, some sharing a cell
    assert "columns 0-" in cells[1]
    assert "-1498 of 1499" in end[1]
    assert "w777: column 777" in found[1]


@on_posix
def test_heads_are_sorted_and_gone_through_in_that_order(tmp_path):
    weights = np.stack([np.eye(5), np.full((5, 5), 0.2), np.eye(5) * 0.5 + 0.1])
    np.savez(tmp_path / "w.npz", weights=weights[None])
    unsorted, *by_entropy = screens(tmp_path / "w.npz", ["s", "h", "h", "h"])
    assert "head 0" in unsorted[1]
    said = [
        re.search(r"head (\d)  (\d) of 3 by entropy", screen[1]).groups() for screen in by_entropy
    ]
    assert said == [("0", "1"), ("2", "2"), ("1", "3"), ("0", "1")]


@on_posix
def test_frames_are_gone_through_from_the_last(tmp_path):
    weights = np.random.default_rng(0).dirichlet(np.ones(5), (3, 2, 7))
    np.savez(tmp_path / "run.npz", weights=weights, steps=[0, 10, 20], loss=[3.0, 2.0, 1.0])
    seen = screens(tmp_path / "run.npz", ["F", "f", "f"])
    assert [re.search(r"step (\d+)", screen[1])[1] for screen in seen] == ["20", "10", "20", "0"]


@on_posix
def test_only_what_is_looked_at_is_loaded(tmp_path):
    script = """if True:
        import sys
        from attncli.cli.main import run
        from attncli.weights import choosing
        load, loaded = choosing.load_weights, []
        def noted(source, part, layer, item, head, cut):
            loaded.append((layer, head))
            return load(source, part, layer, item, head, cut)
        choosing.load_weights = noted
        code = run(sys.argv[1:])
        print(f"loaded {loaded}")
        sys.exit(code)"""
    window = Window(sys.executable, "-c", script, *COMMAND[3:])
    for key in ("h", "z", "j", "l", "q"):
        window.until("q quit")
        window.press(key)
    assert "loaded [(0, 0), (0, 1), (1, 1)]" in window.until("]")
    assert window.ends() == 0


@on_posix
def test_the_background_is_asked_for_once():
    window = Window(*COMMAND)
    texts = [window.until("q quit")]
    for key in ("h", "h"):
        window.press(key)
        texts.append(window.until("q quit"))
    window.press("q")
    window.until(AS_BEFORE)
    assert window.ends() == 0
    assert [text.count("\x1b]11;?") for text in texts] == [1, 0, 0]


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
    window.press("z")
    assert "columns 0-" in window.until("q quit")
    for piece in RIGHT:
        window.press(piece)
    assert "columns 1-" in window.until("q quit")
    window.press("\x1b")  # alone it is a key of its own
    window.until(AS_BEFORE)
    assert window.ends() == 0


@on_posix
def test_a_resized_window_is_drawn_anew_at_once():
    window = Window(*COMMAND, "--view", "table", columns=200)
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
    lines = plain_lines(window.until("q quit"))
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
    window.press("h")  # keys, not lines
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
        weight_browse._Stage.draw = lambda *a: 1 / 0
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
        assert [read_keys() for _ in range(4)] == [[RIGHT], [PAGE_DOWN], [""], ["q"]]
        with pytest.raises(KeyboardInterrupt):
            read_keys()
    assert screen.getvalue().startswith(IN_FULL)
    assert screen.getvalue().endswith(AS_BEFORE)


def test_without_a_terminal_there_is_nothing_to_browse(attn):
    for columns in (None, 80):
        result = attn("show-weights", HEADS, "--browse", columns=columns)
        assert (result.code, result.out) == (2, "")
        assert "--browse needs a terminal" in result.err
