"""``attncli.watch``: the weights of a training, kept within a bound and drawn as they come."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from notebook import Notebook
from rich.cells import cell_len
from window import Window, on_posix, plain_lines, quiet_forks

import attncli
from attncli.errors import (
    AttnError,
    DtypeError,
    FileError,
    MemoryLimitError,
    ParameterError,
    ShapeError,
)  # fmt: skip
from attncli.views import watching
from attncli.weights.recording import Kept, Memory, Recording

RNG = np.random.default_rng(7)


def weights_of(*shape):
    return RNG.dirichlet(np.ones(shape[-1]), size=shape[:-1])


ONE, ITEMS = weights_of(5, 7), weights_of(2, 5, 7)


def train(count, **options):
    """Watch so many steps, and give what the file holds."""
    with attncli.watch("run.npz", force=True, **options) as watch:
        for step in range(count):
            watch.update(np.full((3, 5), 0.2) * step, step=10 * step, loss=1 / (step + 1))
    return saved()


def saved():
    with np.load("run.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def test_what_a_run_holds(folder):
    tokens = list("kaz"), list("mount")
    given = weights_of(4, 2, 3, 5)
    with attncli.watch("run.npz", tokens=tokens) as watch:
        for step, weights in enumerate(given):
            watch.update(weights, step=step * 30, loss=2.0 - step / 4)
    run = saved()
    np.testing.assert_array_equal(run["weights"], given)
    assert run["steps"].tolist() == [0, 30, 60, 90]
    assert run["loss"].tolist() == [2.0, 1.75, 1.5, 1.25]
    assert run["tokens_dec"].tolist() == tokens[0]
    assert run["tokens_enc"].tolist() == tokens[1]
    assert set(run) == {"weights", "steps", "loss", "tokens_dec", "tokens_enc"}


def test_it_is_shown_as_frames(attn, folder):
    given = weights_of(4, 2, 5, 5)
    with attncli.watch("run.npz", tokens=list("kazes")) as watch:
        for weights in given:
            watch.update(weights)
    result = attn("show-weights", "run.npz", "--frame", 2, "--item", 1, "--json")
    (matrix,) = result.json["matrices"]
    assert (matrix["frame"], matrix["step"]) == (2, 2)
    assert matrix["tokens_dec"] == list("kazes")
    np.testing.assert_array_equal(matrix["weights"], given[2, 1])


def test_without_a_loss_there_is_none(folder):
    with attncli.watch("run.npz") as watch:
        watch.update(np.eye(3))
    assert set(saved()) == {"weights", "steps"}


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 10, 64, 137, 1000])
@pytest.mark.parametrize("most", [2, 3, 8])
@pytest.mark.parametrize("every", [1, 10])
def test_frames_are_thinned_evenly_and_the_first_and_the_last_stay(folder, count, most, every):
    run = train(count, max_frames=most, every=every)
    updates = (run["steps"] // 10).tolist()
    assert updates[0] == 0
    assert updates[-1] == count - 1
    assert len(updates) <= most
    gaps = set(np.diff(updates[:-1] if len(updates) > 2 else updates))  # the last comes as it may
    assert len(gaps) <= 1
    due = 1 + (count - 1) // every + ((count - 1) % every > 0)
    assert len(updates) >= min(due, most // 2)
    for update, weights, loss in zip(updates, run["weights"], run["loss"], strict=True):
        np.testing.assert_array_equal(weights, 0.2 * np.full((3, 5), update))
        assert loss == 1 / (update + 1)


def test_frames_are_bounded_by_bytes(folder):
    run = train(50, max_bytes=6 * 15 * 8)
    assert len(run["steps"]) <= 6
    assert run["steps"][[0, -1]].tolist() == [0, 490]
    with pytest.raises(MemoryLimitError, match=r"one frame .* is 120 B, and two of them are more"):
        train(1, max_bytes=2 * 15 * 8 - 1)


@pytest.mark.parametrize("every", [1, 4])
def test_what_is_written_into_later_is_kept_as_it_was(folder, every):
    buffer = np.empty((3, 5))
    loss = np.empty(())
    with attncli.watch("run.npz", every=every) as watch:
        for step in range(6):
            buffer[:], loss[...] = step, step
            watch.update(buffer, loss=loss)
        buffer[:], loss[...] = -1, -1
    run = saved()
    np.testing.assert_array_equal(run["weights"][:, 0, 0], run["steps"])
    np.testing.assert_array_equal(run["loss"], run["steps"])


@pytest.mark.parametrize("end", [KeyboardInterrupt, ValueError, SystemExit])
def test_whatever_ends_it_it_is_written_and_the_exception_passes_on(folder, end):
    with pytest.raises(end), attncli.watch("run.npz") as watch:  # noqa: PT012
        for step in range(7):
            watch.update(np.eye(3), loss=step)
            if step == 4:
                raise end
    assert saved()["steps"].tolist() == [0, 1, 2, 3, 4]


def test_what_cannot_be_written_hides_no_exception(folder):
    (folder / "gone").mkdir()
    with pytest.raises(ZeroDivisionError) as caught, attncli.watch("gone/run.npz") as watch:  # noqa: PT012
        watch.update(np.eye(3))
        (folder / "gone").rmdir()
        _ = 1 / 0
    assert "gone" in caught.value.__notes__[0]
    (folder / "gone").mkdir()
    with pytest.raises(FileError, match="gone"), attncli.watch("gone/run.npz") as watch:  # noqa: PT012
        watch.update(np.eye(3))
        (folder / "gone").rmdir()


def test_no_update_no_file(folder):
    with attncli.watch("run.npz"):
        pass
    assert list(folder.iterdir()) == []


def test_the_file_is_where_it_was_asked_for(folder):
    (folder / "other").mkdir()
    with attncli.watch("run.npz") as watch:
        watch.update(np.eye(3))
        os.chdir("other")
    assert (folder / "run.npz").exists()


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        ("old.npz", "old.npz: exists already", "force=True"),
        ("run.npy", "run.npy: the ending .npy, expected one of .npz", ""),
        ("no/run.npz", "does not exist", ""),
    ],
)
def test_a_file_that_could_not_be_written_is_said_before_any_work(folder, path, message, hint):
    (folder / "old.npz").write_bytes(b"old")
    with pytest.raises(FileError, match=message) as caught, attncli.watch(path):
        pytest.fail("work")
    assert hint in (caught.value.hint or "")
    assert (folder / "old.npz").read_bytes() == b"old"


def test_force_replaces(folder):
    (folder / "run.npz").write_bytes(b"old")
    assert len(train(3)["steps"]) == 3


@pytest.mark.parametrize(
    ("given", "choice", "shape", "axes"),
    [
        (weights_of(5, 7), {}, (5, 7), "(T_dec, T_enc)"),
        (weights_of(2, 5, 7), {}, (2, 5, 7), "(N, T_dec, T_enc)"),
        (weights_of(2, 5, 7), {"item": 1}, (5, 7), "(T_dec, T_enc)"),
        (weights_of(2, 3, 5, 7), {}, (2, 3, 5, 7), "(N, heads, T_dec, T_enc)"),
        (weights_of(2, 3, 5, 7), {"item": 1}, (1, 3, 5, 7), "(N, heads, T_dec, T_enc)"),
        (weights_of(2, 3, 5, 7), {"head": 2}, (2, 5, 7), "(N, T_dec, T_enc)"),
        (weights_of(2, 3, 5, 7), {"item": 1, "head": 2}, (5, 7), "(T_dec, T_enc)"),
        (weights_of(3, 5, 7), {"axes": "heads,dec,enc"}, (1, 3, 5, 7), "(N, heads, T_dec, T_enc)"),
        (weights_of(3, 5, 7), {"axes": "heads,enc,dec"}, (1, 3, 7, 5), "(N, heads, T_dec, T_enc)"),
        ([weights_of(2, 3, 5, 7)] * 4, {}, (4, 2, 3, 5, 7), "(layers, N, heads, T_dec, T_enc)"),
        ([weights_of(2, 3, 5, 7)] * 4, {"layer": 3}, (2, 3, 5, 7), "(N, heads, T_dec, T_enc)"),
        (weights_of(4, 2, 3, 5, 7), {"layer": 3, "item": 0, "head": 0}, (5, 7), "(T_dec, T_enc)"),
        ([weights_of(2, 5, 5)] * 4, {}, (4, 2, 1, 5, 5), "(layers, N, heads, T_dec, T_enc)"),
        ([weights_of(2, 7)] * 5, {"item": 0}, (5, 7), "(T_dec, T_enc)"),  # the book's
    ],
)
def test_a_part_is_kept_in_the_axes_that_are_read_back(attn, folder, given, choice, shape, axes):
    with attncli.watch("run.npz", **choice) as watch:
        watch.update(given)
        watch.update(given)
    assert saved()["weights"].shape == (2, *shape)
    assert f"weights {shape} = {axes}" in attn("show-weights", "run.npz", "--frames").out
    at = {"layer": slice(None), "item": slice(None), "head": slice(None), **choice}
    array = np.array(given)
    if choice.get("axes", "").endswith("enc,dec"):
        array = array.swapaxes(1, 2)
    if isinstance(given, list) and given[0].ndim == 2:
        array = array.swapaxes(0, 1)
    names = {3: ["item"], 4: ["item", "head"], 5: ["layer", "item", "head"]}.get(array.ndim, [])
    if isinstance(given, list) and array.ndim == 4:
        names = ["layer", "item"]
    if "axes" in choice:
        names = ["head"]
    np.testing.assert_array_equal(
        saved()["weights"][1].ravel(), array[tuple(at[name] for name in names)].ravel()
    )


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_tensors_of_torch(folder, dtype):
    torch = pytest.importorskip("torch")
    scores = torch.randn(2, 3, 5, 7, requires_grad=True)
    given = []
    with attncli.watch("run.npz", every=2) as watch:
        for step in range(4):
            weights = torch.softmax(scores * step, -1).to(getattr(torch, dtype))
            given.append(weights.detach().double().clone().numpy())
            watch.update((weights, weights), loss=(weights**2).sum().float())
            weights.detach().zero_()
    run = saved()
    assert run["steps"].tolist() == [0, 2, 3]
    assert run["weights"].dtype.name == dtype.replace("bfloat16", "float32")
    np.testing.assert_array_equal(run["weights"][:, 1], np.array(given)[[0, 2, 3]])


@pytest.mark.parametrize("step", [7, 0.5, np.int64(7), np.array(7)])
def test_a_step_is_a_number(folder, step):
    with attncli.watch("run.npz") as watch:
        watch.update(ONE, step=step)
        with pytest.raises(DtypeError, match="step is <U5"):
            watch.update(ONE, step="first")
    assert saved()["steps"].tolist() == [step]


def test_the_graph_of_a_loss_is_not_kept(folder):
    torch = pytest.importorskip("torch")
    import weakref

    with attncli.watch("run.npz", every=10) as watch:
        for _ in range(2):
            leaf = torch.randn(3, 3, requires_grad=True)
            middle = leaf * 2
            watch.update(torch.softmax(middle, -1), loss=middle.sum())
            gone = weakref.ref(middle)
            del middle
            assert gone() is None


def test_arrays_of_jax(folder):
    jax = pytest.importorskip("jax")
    with attncli.watch("run.npz", every=2) as watch:
        for step in range(4):
            watch.update(jax.nn.softmax(jax.numpy.eye(3) * step, -1), loss=jax.numpy.float32(step))
    assert saved()["loss"].tolist() == [0, 2, 3]


def test_tokens_of_the_item_that_is_kept(attn, folder):
    tokens = [list("kazes"), list("mount")]
    with attncli.watch("run.npz", tokens=tokens, item=1) as watch:
        watch.update(weights_of(2, 5, 5))
    (matrix,) = attn("show-weights", "run.npz", "--json").json["matrices"]
    assert matrix["tokens_enc"] == list("mount")


@pytest.mark.parametrize(
    ("error", "options", "updates", "message"),
    [
        (ShapeError, {}, [ITEMS, ITEMS[:, :, :5]], "update 1: weights are (2, 5, 5) = (N, T_dec,"),
        (ShapeError, {"every": 10}, [ITEMS, ITEMS[:1]], "update 1: weights are (1, 5, 7)"),
        (ShapeError, {}, [ITEMS, ONE], "update 1: weights are (5, 7) = (T_dec, T_enc), and were"),
        (ShapeError, {}, [[ONE[:, :5], ONE[:3, :3]]], "layers differ: (5, 5) = (T_dec, T_enc) and"),
        (ParameterError, {"item": 2}, [ITEMS], "item=2: attncli.watch has no such item; there are"),
        (ParameterError, {"head": 0}, [ITEMS], "no such head; weights is (2, 5, 7) = (N, T_dec,"),
        (ParameterError, {"layer": 0}, [ITEMS], "no such layer; weights is (2, 5, 7) = (N, T_dec,"),
        (ParameterError, {"layer": 2}, [[ONE, ONE.T]], "layer=2: attncli.watch has no such layer"),
        (ShapeError, {"tokens": list("abcd")}, [ONE], "tokens is (4,), one a step of neither"),
        (ShapeError, {"tokens": (list("abcd"), None)}, [ONE], "tokens_dec is (4,), expected one"),
        (DtypeError, {}, [None], "weights is None"),
        (DtypeError, {}, [{"query": ONE}], "weights is a mapping"),
        (DtypeError, {}, [np.array([["a"]])], "weights is <U1"),
        (ShapeError, {}, [np.ones((1,) * 6)], "expected (T_dec, T_enc)"),
    ],
)
def test_updates_that_make_no_frame(folder, error, options, updates, message):
    with pytest.raises(error) as caught, attncli.watch("run.npz", **options) as watch:  # noqa: PT012
        for weights in updates:
            watch.update(weights)
    assert message in str(caught.value)
    assert "--" not in str(caught.value)
    assert (folder / "run.npz").exists() == (len(updates) > 1)  # what there was before


def test_a_loss_is_one_number(folder):
    with attncli.watch("run.npz") as watch:
        watch.update(ONE, loss=np.ones((1, 1)))
        with pytest.raises(ShapeError, match=r"loss is \(3,\), expected one number"):
            watch.update(ONE, loss=np.ones(3))
    assert saved()["loss"].tolist() == [1.0]


def test_a_batch_of_another_shape_is_no_matter_where_one_item_is_kept(folder):
    with attncli.watch("run.npz", item=0) as watch:
        watch.update(weights_of(4, 5, 7))
        watch.update(weights_of(3, 5, 7))
    assert saved()["weights"].shape == (2, 5, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every is 0, expected at least 1"),
        ({"max_frames": 1}, "max_frames is 1, expected at least 2"),
        ({"axes": "dec,what"}, "is not a list such as"),
        ({"tokens": "a b"}, "tokens is one text"),
    ],
)
def test_bad_options(folder, options, message):
    with pytest.raises(AttnError, match=message):
        attncli.watch("run.npz", **options)


def test_it_is_used_within_a_with_statement(folder):
    watch = attncli.watch("run.npz")
    with pytest.raises(ParameterError, match="update is for within"):
        watch.update(np.eye(3))
    with watch:
        watch.update(np.eye(3))
    with pytest.raises(ParameterError, match="update is for within"):
        watch.update(np.eye(3))


def test_updates_of_several_threads_are_all_counted(folder):
    def work():
        for _ in range(50):
            watch.update(np.eye(3))

    with attncli.watch("run.npz", max_frames=1000) as watch:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert saved()["steps"].tolist() == list(range(200))


def test_piped_nothing_is_drawn_and_no_thread_started(folder, capsys):
    before = threading.active_count()
    with attncli.watch("run.npz") as watch:
        watch.update(np.eye(3))
        assert threading.active_count() == before
        assert "rich.live" not in vars(watch)
    assert capsys.readouterr() == ("", "")


SCRIPT = """
import sys, time, threading, numpy as np, attncli
count, seconds, shape = int(sys.argv[1]), float(sys.argv[2]), eval(sys.argv[3])
names = ([f"d{i}" for i in range(shape[-2])], [f"e{i}" for i in range(shape[-1])])
with attncli.watch("run.npz", tokens=names, force=True) as watch:
    for step in range(count):
        scores = step / 4 * np.eye(*shape[-2:]) + np.zeros(shape)
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        watch.update(weights, step=step, loss=2 / (1 + step))
        if step == 3:
            print("[bold]a line of theirs")
        time.sleep(seconds)
    assert threading.active_count() == 1
print("over")
"""


def run_in_window(*arguments, **options):
    return Window(sys.executable, "-c", SCRIPT, *map(str, arguments), **options)


@on_posix
@quiet_forks
@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 29, 31), (300, 300)])
def test_on_a_terminal_it_is_drawn_within_its_width(folder, columns, shape):
    window = run_in_window(8, 0.15, shape, columns=columns)
    seen = window.until("\nover")
    assert window.is_as_before()
    assert window.ends() == 0
    lines = plain_lines(seen)
    assert max(map(cell_len, lines)) <= columns
    name = "run.npz  item 0  step" if len(shape) > 2 else "run.npz  step"
    drawn = [line for line in lines if line.startswith(name)]
    assert 2 <= len(drawn) <= 12
    assert "step 7  loss 0.25" in drawn[-1]
    assert "[bold]a line of theirs" in lines
    assert any("8 frames" in line for line in lines)
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h") == 1  # the cursor is back


@on_posix
@quiet_forks
def test_it_is_not_drawn_more_often_than_ten_times_a_second(folder):
    window = run_in_window(100, 0.01, (5, 7))
    lines = plain_lines(window.until("\nover"))
    assert 2 <= sum(line.startswith("run.npz  step") for line in lines) <= 14
    window.ends()


@on_posix
@quiet_forks
def test_interrupted_on_a_terminal_the_cursor_is_back_and_the_run_is_kept(folder):
    window = run_in_window(1000, 0.05, (5, 7))
    window.until("step 3")
    window.press("\x03")
    seen = window.until("KeyboardInterrupt")
    assert "\x1b[?25h" in seen
    assert window.is_as_before()
    window.ends()
    assert saved()["steps"][0] == 0
    assert len(saved()["steps"]) > 3


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_interrupted_without_a_terminal_the_run_is_kept(folder):
    command = [sys.executable, "-c", SCRIPT, "1000", "0.05", "(5, 7)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        program.stdout.read(1)  # it is at step 3
        program.send_signal(signal.SIGINT)
        out, err = program.communicate()
    assert program.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in err
    assert b"\x1b" not in out
    assert len(saved()["steps"]) >= 4


@on_posix
@quiet_forks
def test_no_colour_where_none_is_wanted(folder, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    window = run_in_window(4, 0.15, (5, 7))
    assert "\x1b[38" not in window.until("\nover")
    window.ends()


def test_asked_for_and_piped_the_last_is_printed(folder, capsys):
    with attncli.watch("run.npz", live=True) as watch:
        for step in range(3):
            watch.update(np.eye(3), step=step, loss=1.0)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "step" in line] == ["run.npz  step 2  loss 1  ▁▁▁"]


def test_what_is_too_many_to_be_drawn_is_said(folder, capsys):
    with attncli.watch("run.npz", live=True) as watch:
        watch.update([weights_of(2, 7, 3, 5)] * 5)
    assert "11 more: layer= and head= choose" in capsys.readouterr().out


def test_in_a_notebook_nothing_is_drawn_unless_asked_for_and_then_in_place(folder, monkeypatch):
    notebook = Notebook(monkeypatch)
    for live in (None, True):
        with attncli.watch("run.npz", force=True, live=live) as watch:
            for step in range(3):
                watch.update(np.eye(3), step=step, loss=1 / 8)
                time.sleep(0.11)
    ((first, *_, last),) = notebook.displayed
    assert "step 0, loss 0.125" in first["text/html"]
    assert "step 2, loss 0.125" in last["text/html"]


def test_drawing_that_fails_does_not_end_a_training(folder, monkeypatch):
    stream = sys.stdout
    monkeypatch.setattr(stream, "isatty", lambda: True)
    with attncli.watch("run.npz") as watch:
        monkeypatch.setattr(stream, "write", fail)
        for _ in range(3):
            watch.update(np.eye(3))
            time.sleep(0.11)
        monkeypatch.undo()
        assert len(failed) == 1  # and it is not tried again
    assert len(np.load(folder / "run.npz")["steps"]) == 3


failed = []


def fail(text):
    failed.append(text)
    raise OSError("the terminal is gone")


@pytest.mark.parametrize(("seconds", "most"), [(0.0001, 300), (0.05, 6)])
def test_drawing_takes_no_more_than_a_hundredth_of_the_time(monkeypatch, seconds, most):
    clock = [1.0]
    monkeypatch.setattr("attncli.views.watching.time.perf_counter", lambda: clock[0])

    class Display(watching.Display):
        drawn = 0

        def show(self):
            self.drawn += 1
            clock[0] += seconds

    display = Display(None, "run.npz")
    while clock[0] < 31:
        clock[0] += 0.02
        display.update()
    assert most / 2 < display.drawn <= most + 2  # the first is on the house


@pytest.mark.parametrize("layers", [0, 3])
def test_memory_that_is_used_again_belongs_to_no_frame_that_is_kept(layers):
    recording = Recording(Kept(), None, every=3, max_frames=5, max_bytes=1 << 20)
    weights = np.empty((2, 7, 7))
    for step in range(101):
        weights[...] = step / 101
        recording.add([weights] * layers if layers else weights, step, None)
        for moment in recording.moments:
            assert (moment.frame == moment.step / 101).all()
    places = {moment.frame.__array_interface__["data"][0] for moment in recording.moments}
    assert len(places) == len(recording.moments)


def test_what_is_dropped_is_used_again_and_not_taken_anew(monkeypatch):
    recording = Recording(Kept(), None, every=1, max_frames=8, max_bytes=1 << 20)
    taken = []
    monkeypatch.setattr(Memory, "_MOST", 2)
    monkeypatch.setattr(
        np, "empty", lambda shape, *rest, of=np.empty: taken.append(shape) or of(shape, *rest)
    )
    for step in range(200):
        recording.add(np.full((7, 7), 0.5), step, None)
    assert 8 <= 2 * len([shape for shape in taken if shape == (2, 7, 7)]) <= 12
