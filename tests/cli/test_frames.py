"""``attn show-weights`` of a training run: weights at several steps, in one file."""

import sys

import numpy as np
import pytest
from rich.cells import cell_len
from window import AS_BEFORE, IN_FULL, Window, on_posix, plain_lines, quiet_forks

from attncli.cli.weight_film import Player

STEPS = [0, 30, 60, 90, 120, 121]
LOSS = [2.302585, 1.5, 0.75, np.nan, 0.125, 0.03125]
RIGHT, LEFT = "\x1b[C", "\x1b[D"
TOKENS = {"tokens_dec": list("kaz"), "tokens_enc": list("mount")}


@pytest.fixture
def frames(folder):
    """Six frames of two items, whose diagonal sharpens."""
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(6, 2, 3, 5)) / 2 + np.arange(6)[:, None, None, None] * 2 * np.eye(
        3, 5
    )
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.savez("run.npz", weights=weights, steps=STEPS, loss=LOSS, **TOKENS)
    return weights


def shown(result):
    assert (result.code, result.err) == (0, "")
    return result.json["matrices"]


def test_without_a_word_it_is_the_last_frame(attn, frames):
    matrices = shown(attn("show-weights", "run.npz", "--json"))
    assert [(one["frame"], one["step"], one["item"]) for one in matrices] == [
        (5, 121, 0),
        (5, 121, 1),
    ]
    np.testing.assert_array_equal(matrices[1]["weights"], frames[5, 1])
    assert matrices[0]["tokens_enc"] == TOKENS["tokens_enc"]
    heading = attn("show-weights", "run.npz").out.splitlines()[0]
    assert heading == (
        "run.npz  weights (2, 3, 5) = (N, T_dec, T_enc), the last of 6 frames: step 121, "
        "loss 0.03125; --frames shows all"
    )


@pytest.mark.parametrize("number", [0, 3, 5])
def test_a_frame_by_its_number(attn, frames, number):
    options = ["--frame", number, "--item", 1]
    (matrix,) = shown(attn("show-weights", "run.npz", *options, "--json"))
    assert (matrix["frame"], matrix["step"]) == (number, STEPS[number])
    np.testing.assert_array_equal(matrix["weights"], frames[number, 1])
    said = attn("show-weights", "run.npz", *options).out.splitlines()
    loss = "" if number == 3 else f", loss {LOSS[number]:.4g}"
    assert said[0].endswith(f", frame {number} of 6: step {STEPS[number]}{loss}")
    assert said[2] == f"frame {number}  step {STEPS[number]}  item 1"


def test_all_frames_as_json(attn, frames):
    result = attn("show-weights", "run.npz", "--frames", "--item", 0, "--json")
    assert [one["step"] for one in shown(result)] == STEPS
    np.testing.assert_array_equal([one["weights"] for one in shown(result)], frames[:, 0])
    loss = ["NaN" if np.isnan(one) else one for one in LOSS]
    assert result.json["frames"] == {"steps": STEPS, "loss": loss}
    assert "frames" in attn("show-weights", "run.npz", "--json").json


def test_all_frames_in_full(attn, frames):
    """Every number, where it was asked for."""
    lines = attn("show-weights", "run.npz", "--frames", "--full", "--item", 0).out.splitlines()
    headings = [line for line in lines if line.startswith("frame ")]
    assert headings == [f"frame {number}  step {step}  item 0" for number, step in enumerate(STEPS)]
    assert repr(float(frames[2, 0, 1, 4])) in "\n".join(lines)


def test_one_frame_is_exported(attn, frames):
    attn("show-weights", "run.npz", "--frame", 2, "--item", 1, "--export", "x.json")
    exported = attn("show-weights", "run.npz", "--frame", 2, "--item", 1, "--json").out
    with open("x.json", encoding="utf-8") as file:
        assert file.read() == exported


def test_parts_and_differences_are_those_of_the_frame(attn, frames):
    np.savez("before.npz", weights=frames[:2] / 2, steps=STEPS[:2])
    (matrix,) = shown(
        attn("show-weights", "run.npz", "--frame", 1, "--item", 0, "--rows", "1:", "--json")
    )
    np.testing.assert_array_equal(matrix["weights"], frames[1, 0, 1:])
    result = attn("show-weights", "run.npz", "--diff", "before.npz", "--json")
    assert result.code == 0
    for item in (0, 1):  # of each file its last
        matrix = result.json["matrices"][item]
        np.testing.assert_allclose(matrix["weights"], frames[5, item] - frames[1, item] / 2)


def test_which_axis_is_that_of_frames_can_be_said(attn, folder):
    weights = np.random.default_rng(3).dirichlet(np.ones(7), size=(2, 3, 5))
    np.save("w.npy", weights)
    options = ["--axes", "heads,frames,dec,enc", "--frame", 1, "--head", 0]
    (matrix,) = shown(attn("show-weights", "w.npy", *options, "--json"))
    assert (matrix["frame"], matrix["step"]) == (1, 1)
    np.testing.assert_array_equal(matrix["weights"], weights[0, 1])


def test_axes_are_those_of_a_frame(attn, frames):
    (first, *_) = shown(attn("show-weights", "run.npz", "--axes", "heads,dec,enc", "--json"))
    assert (first["frame"], first["head"]) == (5, 0)
    np.testing.assert_array_equal(first["weights"], frames[5, 0])


def test_steps_that_are_no_frames(attn, folder):
    np.savez("x.npz", weights=np.full((3, 5, 7), 1 / 7), steps=np.arange(2))
    assert "frame" not in shown(attn("show-weights", "x.npz", "--json"))[0]


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        (["--frame", 6], "--frame 6: run.npz has no such frame; there are 6, 0 to 5: steps 0", ""),
        (["--frame", -1], "--frame -1: run.npz has no such frame; there are 6, 0 to 5", ""),
        (["--frame", 90], "--frame 90: run.npz has no such frame", "--frame 3\n"),
        (["--frame", 1, "--frames"], "--frames shows all of them: not with --frame 1", ""),
        (["--frames", "--browse"], "--frames shows all of them: not with --browse", ""),
        (["--axes", "frames,dec,enc"], "--axes frames,T_dec,T_enc: run.npz: weights is (6, 2,", ""),
    ],
)  # fmt: skip
def test_frames_that_are_not_there(attn, frames, options, message, hint):
    result = attn("show-weights", "run.npz", *options)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: {message}")
    assert hint in result.err


@pytest.mark.parametrize("option", [["--frames"], ["--frame", 0]])
def test_a_file_of_one_step(attn, folder, option):
    np.savez("w.npz", weights=np.full((3, 5), 0.2))
    result = attn("show-weights", "w.npz", *option)
    assert (result.code, result.out) == (2, "")
    said = " ".join(map(str, option))
    assert result.err.startswith(f"error: {said}: w.npz holds the weights of one step alone\n")
    assert "--axes frames," in result.err


def test_no_frames_at_all(attn, folder):
    np.savez("w.npz", weights=np.ones((0, 3, 5)), steps=np.ones(0))
    result = attn("show-weights", "w.npz")
    assert (result.code, result.err) == (2, "error: w.npz: weights is (0, 3, 5): frames = 0\n")


def test_piped_all_frames_are_a_strip(attn, frames):
    lines = attn("show-weights", "run.npz", "--frames", "--item", 0).out.splitlines()
    assert lines[0] == (
        "run.npz  weights (2, 3, 5) = (N, T_dec, T_enc), 6 frames: step 0, loss 2.303, "
        "to step 121, loss 0.03125"
    )
    assert lines[2].split() == [word for step in STEPS for word in ("step", str(step))]
    assert lines[-3].split() == ["2.3", "1.5", "0.75", "0.125", "0.0312"]  # and one unknown
    # All have the same scale: where weights were alike it is grey, and later a diagonal.
    begin = lines[2].index("step")
    first, last = ([line[at : at + 5] for line in lines[3:6]] for at in (begin, begin + 5 * 9))
    assert "".join(first).count("█") == 0
    assert [line.rstrip() for line in last] == ["█", " █", "  █"]
    assert lines[-2].startswith("frames 0, 1, 2, 3, 4, 5 of 6, shaded from 0 to ")
    assert lines[-1] == "--frame I shows one, --frames --full all their numbers"


def test_a_strip_of_many_frames_has_a_few_evenly_chosen(attn, folder):
    weights = np.full((97, 13, 3, 5), 0.2)
    np.savez("run.npz", weights=weights, steps=np.arange(97) * 10)
    said = attn("show-weights", "run.npz", "--frames").out
    assert "frames 0, 14, 27, 41, 55, 69, 82, 96 of 97" in said
    assert "loss" not in said
    assert "1 more of each: --layer, --item, --head choose" in said


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
@pytest.mark.parametrize("colors", [None, "truecolor"])
def test_a_strip_fits_every_terminal(attn, frames, columns, colors):
    """Where there is no keyboard it is drawn on a terminal too."""
    said = attn("show-weights", "run.npz", "--frames", columns=columns, colors=colors).out
    assert max(cell_len(line) for line in plain_lines(said)) <= columns
    assert "step" in said


def test_a_player_goes_on_by_itself_until_the_last_frame():
    player = Player(3)
    seen = []
    while not player.over:
        seen.append(player.at)
        player.go_on([])
    assert seen == [0, 1, 2]


def test_a_player_stops_steps_and_goes_on_with_keys():
    player = Player(3)
    for keys, at, plays in (
        ([" "], 0, False), ([], 0, False), ([RIGHT], 1, False), ([LEFT, LEFT], 2, False),
        ([" "], 2, True), ([LEFT], 1, False), ([" "], 1, True), ([], 2, True),
    ):  # fmt: skip
        player.go_on(keys)
        assert (player.at, player.plays, player.over) == (at, plays, False)
    player.go_on(["q"])
    assert player.over


@pytest.mark.parametrize(("count", "seconds"), [(1, 0.5), (40, 8.0), (1000, 50.0)])
def test_a_film_takes_a_few_seconds(count, seconds):
    assert count * Player(count).delay == pytest.approx(seconds)


PLAY = (sys.executable, "-m", "attncli", "show-weights", "run.npz", "--frames", "--item", "0")


@on_posix
@quiet_forks
def test_frames_are_played_on_a_terminal(frames):
    window = Window(*PLAY)
    shown, strip = window.until("all their numbers").split(AS_BEFORE)
    assert IN_FULL in shown
    assert "step 60" in strip  # what stays
    places = [shown.index(f"frame {number} of 6  ") for number in range(6)]
    assert places == sorted(places)
    assert window.is_as_before()
    assert window.ends() == 0


@on_posix
@quiet_forks
def test_interrupted_it_leaves_the_screen_as_it_was(frames):
    window = Window(*PLAY)
    window.until("frame 1 of 6")
    window.press("\x03")
    window.until(AS_BEFORE)
    assert window.is_as_before()
    assert window.ends() == 130
