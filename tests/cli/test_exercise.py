"""``attn exercise``: the whole lesson, as a learner walks it."""

from pathlib import Path

import pytest

from attncli.checking.exercises import EXERCISES, FOLDER


def solve(name, folder=FOLDER, **changes):
    """Write the solution of an exercise, with some lines changed."""
    exercise = EXERCISES[name]
    text = exercise.solution
    for old, new in changes.items():
        text = text.replace(old, new)
    path = Path(folder) / exercise.file_name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_whole_lesson(attn, folder):
    assert "next:  attn exercise start" in attn("exercise").out
    for number, (name, exercise) in enumerate(EXERCISES.items(), start=1):
        begun = attn("exercise", "start")
        assert (begun.code, begun.err) == (0, "")
        assert f"exercise {number} of 9 · {exercise.target}" in begun.out
        assert begun.out.endswith("next:  attn exercise check\n")
        unwritten = attn("exercise", "check")
        assert (unwritten.code, unwritten.err) == (1, "")
        assert "not written yet: " in unwritten.out
        assert unwritten.out.endswith("next:  attn exercise hint\n")
        solve(name)
        right = attn("exercise", "check")
        assert (right.code, right.err) == (0, ""), right.out
        assert f"{exercise.target} is right." in right.out
        last = number == len(EXERCISES)
        follows = "attn guide lesson" if last else "attn exercise start"
        assert right.out.endswith(f"next:  {follows}\n")
    stands = attn("exercise")
    assert stands.out.count("right  attn_exercise/") == 9
    assert "All of them are right." in stands.out
    assert sorted(path.name for path in folder.rglob("*.*")) == sorted(
        [*(one.file_name for one in EXERCISES.values()), "progress.txt"]
    )


def test_forward_is_judged_while_backward_is_unwritten(attn, folder):
    attn("exercise", "start", "weight_sum")
    path = solve("weight_sum", axis_1="")
    text = EXERCISES["weight_sum"].solution.replace("dhs = dt * ar", "dhs = ...")
    path.write_text(text, encoding="utf-8")
    result = attn("exercise", "check", "weight_sum")
    assert (result.code, result.err) == (1, "")
    assert "not written yet: line 23: dhs = ...\nforward   right" in result.out
    assert "likely mistake" not in result.out
    path.write_text(text.replace("np.sum(t, axis=1)", "np.mean(t, axis=1)"), encoding="utf-8")
    assert (
        "likely mistake: mean instead of sum over T" in attn("exercise", "check", "weight_sum").out
    )


def test_a_mistake_is_named_and_a_hint_goes_to_the_part_that_is_wrong(attn, folder):
    attn("exercise", "start")
    solve("softmax", **{"out * (dout - (": "out * (dout + ("})
    wrong = attn("exercise", "check")
    assert wrong.code == 1
    assert "forward   right" in wrong.out
    assert "backward  WRONG in" in wrong.out
    assert "likely mistake: softmax backward with the wrong sign" in wrong.out
    assert "backward, hint 1 of 4" in attn("exercise", "hint").out
    solve("softmax")
    assert "Softmax is right." in attn("exercise", "hint").out


def test_each_hint_says_more_and_the_last_is_the_formula(attn, folder):
    attn("exercise", "start")
    exercise = EXERCISES["softmax"]
    for level, hint in enumerate((*exercise.hints["forward"], "exps = np.exp(x)"), start=1):
        for _ in range(1 + (level == 4)):  # there is none behind it
            told = attn("exercise", "hint").out
            assert f"forward, hint {level} of 4" in told
            assert hint in told
    assert attn("exercise", "check").out.endswith("next:  attn exercise show\n")
    assert "softmax: open; hints: forward 4" in Path(FOLDER, "progress.txt").read_text("utf-8")
    shown = attn("exercise", "show", columns=40)
    assert shown.out == exercise.solution


def test_what_somebody_has_written_is_not_replaced(attn, folder):
    attn("exercise", "start")
    path = solve("softmax")
    again = attn("exercise", "start")
    assert (again.code, path.read_text("utf-8")) == (0, EXERCISES["softmax"].solution)
    assert "is there already" in again.out
    attn("exercise", "check")
    assert attn("exercise", "start", "softmax", "--force").code == 0
    assert path.read_text("utf-8") == EXERCISES["softmax"].gapped
    assert "1  Softmax             begun" in attn("exercise").out


def test_what_was_right_and_is_no_more_is_open_again(attn, folder):
    attn("exercise", "start")
    path = solve("softmax")
    assert attn("exercise", "check").code == 0
    path.write_text(EXERCISES["softmax"].gapped, encoding="utf-8")
    assert attn("exercise", "check", "1").code == 1
    assert "next:  attn exercise check" in attn("exercise").out


def test_a_folder_of_ones_own_is_in_every_command(attn, folder):
    where = ["--folder", "my work"]
    begun = attn("exercise", "start", *where)
    assert "next:  attn exercise check --folder 'my work'" in begun.out
    solve("softmax", "my work")
    assert attn("exercise", "check", *where).code == 0
    assert not Path(FOLDER).exists()


_LAYER = "class Softmax:\n    def forward(self, x): return y\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class Softmax:\n    def forward(self, x:\n", "SyntaxError"),
        ("class Softmaks:\n    def forward(self, x): return x\n", "holds nothing named Softmax"),
        (f"{_LAYER}    def backward(self, dout): return dout\n", "NameError: name 'y'"),
        (_LAYER, "has no backward"),
        ("", "holds nothing named Softmax"),
        ("import nowhere_to_be_found\n", "No module named"),
    ],
)
def test_what_cannot_be_run_is_a_wrong_answer(attn, folder, text, says):
    attn("exercise", "start")
    Path(FOLDER, "1_softmax.py").write_text(text, encoding="utf-8")
    result = attn("exercise", "check")
    assert result.code == 1
    assert says in result.out
    assert "Traceback" not in result.out
    assert "backward  is looked at" in result.out or result.out.endswith("exercise check\n")


def test_an_endless_loop_ends(attn, folder):
    attn("exercise", "start")
    solve("softmax", **{"exps = np.exp(x)": "exps = np.exp(x)\n        while True: pass"})
    result = attn("exercise", "check", "--time-limit", "0.5")
    assert result.code == 1
    assert "does not end" in result.out


def test_a_mask_that_is_no_more_taken_is_missed(attn, folder):
    attn("exercise", "start", "masks")
    solve("masks", **{", causal=False": "", "if causal:": "if False:"})
    result = attn("exercise", "check", "masks")
    assert result.code == 1
    assert "WRONG: forward does not take what this case needs: causal" in result.out


def test_a_mask_that_causal_order_takes_the_place_of_is_wrong(attn, folder):
    attn("exercise", "start", "masks")
    solve("masks", **{"seen = seen & earlier": "seen = earlier"})
    result = attn("exercise", "check", "masks")
    assert result.code == 1
    assert "likely mistake: mask ignored" in result.out


@pytest.mark.parametrize("mark", ["\ufeff", "\r\n"])
def test_files_of_any_editor_are_read(attn, folder, mark):
    attn("exercise", "start")
    path = Path(FOLDER, "1_softmax.py")
    gapped = EXERCISES["softmax"].gapped
    text = mark + gapped if mark == "\ufeff" else gapped.replace("\n", mark)
    path.write_bytes(text.encode())
    result = attn("exercise", "check")
    assert (result.code, result.err) == (1, "")
    assert "WRONG" not in result.out


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["check"], "attn_exercise/1_softmax.py: is not there", "attn exercise start"),
        (["hint", "masks"], "attn_exercise/7_masks.py: is not there", "attn exercise start masks"),
        (["start", "sofmax"], "no exercise sofmax: there is", "attn exercise start"),
        (["show", "sofmaxx"], "no exercise sofmaxx: there is", "attn exercise show"),
        (["check", "multihed"], "no exercise multihed: there is", "attn exercise start multi_head"),
        (["chek"], "attn exercise chek: expected start, check", "attn exercise check"),
        (["softmax"], "attn exercise softmax: expected", "attn exercise start softmax"),
        (["TimeAttention"], "expected start", "attn exercise start time_attention"),
        (["sofmax"], "expected start", "attn exercise start softmax"),
        (["over"], "expected start, check, hint, show, or nothing", "attn exercise start softmax"),
        (["check", "--force"], "--force has no meaning", "attn exercise start --force"),
    ],
)  # fmt: skip
def test_errors_are_finished_commands(attn, folder, arguments, message, hint):
    result = attn("exercise", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert result.err.splitlines()[-1] == f"hint:  {hint}"


def test_a_file_in_place_of_the_folder_is_said(attn, folder):
    Path(FOLDER).write_text("mine", encoding="utf-8")
    result = attn("exercise", "start")
    assert (result.code, result.out) == (2, "")
    assert FOLDER in result.err


def test_json(attn, folder):
    assert attn("exercise", "start", "--json").json["next"] == "attn exercise check"
    told = attn("exercise", "check", "--json")
    assert (told.code, told.json["passed"]) == (1, False)
    assert told.json["gaps"][0] == {"number": 13, "line": "exps = ...", "part": "forward"}
    assert attn("exercise", "hint", "--json").json["level"] == 1
    solve("softmax")
    told = attn("exercise", "check", "--json").json
    assert (told["passed"], told["report"]["layer"]) == (True, "softmax")
    listed = attn("exercise", "--json").json["exercises"]
    assert [one["state"] for one in listed] == ["right", *["open"] * 8]


@pytest.mark.parametrize("columns", [40, 80])
def test_it_fits(attn, folder, columns):
    from rich.cells import cell_len

    attn("exercise", "start")
    solve("softmax", **{"out * (dout - (": "out * (dout + ("})
    for action in ([], ["start"], ["check"], ["hint"]):
        out = attn("exercise", *action, columns=columns).out
        assert max(map(cell_len, out.splitlines())) <= columns


def test_an_ascii_terminal_is_enough(attn, folder):
    for name in EXERCISES:
        for action in ("start", "hint", "hint", "hint", "hint"):
            result = attn("exercise", action, name, columns=80, encoding="ascii")
            assert result.code == 0
            assert "\\u" not in result.out
    assert attn("exercise", columns=80, encoding="ascii").code == 0


def test_a_folder_that_cannot_be_written_is_said(attn, folder):
    Path(FOLDER, "progress.txt").mkdir(parents=True)
    result = attn("exercise", "start")
    assert (result.code, result.out) == (2, "")
    assert "progress.txt" in result.err
