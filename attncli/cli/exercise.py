"""``attn exercise``: the layers with gaps, one after the other."""

from __future__ import annotations

import shlex
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from attncli.cli import options, streams
from attncli.cli.help_pages import command
from attncli.errors import FileError, ParameterError, TargetError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from attncli.checking.exercises import Answer, Exercise, Lesson
    from attncli.cli.screen import Screen

_ACTIONS = ("start", "check", "hint", "show")

_lesson = partial(options.option, group="The lesson")


class _Action(click.Choice[str]):
    """What is done with an exercise; what is none of them may be the exercise."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Take one of the words."""
        try:
            return super().convert(value, param, ctx)
        except click.UsageError:
            from attncli.checking.exercises import Lesson
            from attncli.spelling import nearest

            near = nearest(value, self.choices)
            meant = near or f"start {Lesson('').nearest(value).name}"
            raise ParameterError(
                f"attn exercise {value}: expected {', '.join(self.choices)}, or nothing",
                hint=f"attn exercise {meant}",
            ) from None


@command(
    "exercise",
    example="""\
attn exercise
attn exercise start
attn exercise show weight_sum""",
    first="--folder --force --time-limit --json --color -q -v",
)
@click.argument("action", required=False, type=_Action(_ACTIONS), metavar=f"[{'|'.join(_ACTIONS)}]")
@click.argument("name", required=False, metavar="[EXERCISE]")
@_lesson("--folder", metavar="FOLDER", help="Where your files are.  [default: attn_exercise]")
@_lesson("--force", is_flag=True, help="With start: begin anew, and lose what is in the file.")
@_lesson(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    default=5.0,
    show_default=True,
    help="How long each call of your code may take.",
)
@options.report_options
@click.pass_context
def exercise(
    ctx: click.Context,
    action: str | None,
    name: str | None,
    folder: str | None,
    force: bool,
    time_limit: float,
    screen: Screen,
) -> None:
    """Write the layers of attention yourself: each a file with gaps, and told what is wrong.

    start writes the next file, check says what is right and names mistakes (exit code 1 while
    something is wrong), hint says a little more each time, show prints the solution. Without any
    of them: how far you are. EXERCISE is a name or number; without it, the first that is not right
    yet. From the softmax and the layers of "Deep Learning from Scratch 2" to masks, several heads
    and the tiled softmax of flash-attention. Nothing is kept outside of the folder.
    """
    from attncli.checking.exercises import FOLDER, Lesson
    from attncli.views import exercise_report as views

    if force and action != "start":
        raise ParameterError(
            "--force has no meaning without start", hint="attn exercise start --force"
        )
    lesson = Lesson.read(FOLDER if folder is None else folder)
    if action is None:
        told, drawn = views.lesson_as_json, views.draw_lesson
        _show(screen, told(lesson, _next(lesson)), drawn(lesson, _next(lesson), screen.look))
        return
    try:
        chosen = lesson.chosen(name)
    except ParameterError as error:
        near = lesson.nearest(name or "")
        meant = action if action == "show" or lesson.has(near) else "start"
        raise ParameterError(str(error), hint=_command(meant, lesson, near)) from None
    if action == "start":
        new = lesson.begin(chosen, force=force)
        follows, path = _command("check", lesson, chosen), lesson.path(chosen)
        told_start = {"exercise": chosen.name, "file": path, "new": new, "task": chosen.task}
        drawn_start = views.draw_begun(chosen, path, follows, new=new, look=screen.look)
        _show(screen, {**told_start, "next": follows}, drawn_start)
    elif action == "show":
        if screen.as_json:
            _show(screen, {"exercise": chosen.name, "solution": chosen.solution}, "")
        else:  # code is never wrapped
            screen.show_lines(chosen.solution.splitlines())
    elif action == "hint":
        _hint(chosen, lesson, time_limit, screen)
    else:
        ctx.exit(_check(chosen, lesson, time_limit, screen))


def _check(exercise: Exercise, lesson: Lesson, seconds: float, screen: Screen) -> int:
    """Judge what is written, remember it, and give the exit code."""
    from attncli.cli.targets import show_trace
    from attncli.views.exercise_report import answer_as_json, draw_answer

    with screen.timed("checking"), streams.capped():
        answer = _answer(exercise, lesson, seconds, screen)
    state = lesson.state(exercise)
    lesson = lesson.remember(exercise, state._replace(right=answer.passed))
    if answer.passed:
        follows = _next(lesson)
    elif answer.fault is not None:  # which says what to do
        follows = _command("check", lesson, exercise)
    else:
        done = state.hints.get(answer.part, 0) > len(exercise.hints[answer.part])
        follows = _command("show" if done else "hint", lesson, exercise)
    if answer.fault is not None:
        show_trace(answer.fault.trace)
    elif answer.report is not None and not answer.gaps:
        show_trace(answer.report.trace)
    _show(screen, answer_as_json(answer, follows), draw_answer(answer, follows, screen.look))
    return 0 if answer.passed else 1


def _hint(exercise: Exercise, lesson: Lesson, seconds: float, screen: Screen) -> None:
    """Say a little more than the last time of what is to be looked at first."""
    from attncli.views.exercise_report import answer_as_json, draw_answer, draw_hint

    _require(exercise, lesson)
    answer = lesson.read_answer(exercise)
    if not answer.gaps:
        with streams.capped():
            answer = _answer(exercise, lesson, seconds, screen)
    if answer.passed:
        follows = _command("check", lesson, exercise)
        _show(screen, answer_as_json(answer, follows), draw_answer(answer, follows, screen.look))
        return
    part, state = answer.part, lesson.state(exercise)
    hints = exercise.hints[part]
    level = min(state.hints.get(part, 0), len(hints)) + 1
    lesson = lesson.remember(exercise, state._replace(hints={**state.hints, part: level}))
    formulas = exercise.formulas(part, answer.gaps) if level > len(hints) else []
    follows = _command("check", lesson, exercise)
    told = {
        "exercise": exercise.name,
        "part": part,
        "level": level,
        "hint": "\n".join(formulas) or hints[level - 1],
        "next": follows,
    }
    _show(screen, told, draw_hint(exercise, part, level, formulas, follows, screen.look))


def _answer(exercise: Exercise, lesson: Lesson, seconds: float, screen: Screen) -> Answer:
    """Hold the code against the reference, in a process of its own."""
    from attncli.checking.diagnosing.examination import check
    from attncli.cli.targets import Batch, load

    _require(exercise, lesson)
    answer, text = lesson.read_answer(exercise), f"{lesson.path(exercise)}:{exercise.target}"
    if answer.is_begun:
        return answer
    try:
        (target,) = load(text, Batch(seconds, None, 1), screen)
        try:
            answer = replace(answer, report=check(target, layer=exercise.layer))
            found = answer.report
            if found is not None and exercise.also and not (answer.missing or found.diagnoses):
                # What both hide is hidden, not what one does.
                both = check(target, layer=exercise.layer, causal=exercise.also)
                if not both.passed and (found.passed or both.diagnoses):
                    answer = replace(answer, report=both)
            return answer
        finally:
            target.end()
    except TargetError as fault:
        return replace(answer, fault=fault)


def _require(exercise: Exercise, lesson: Lesson) -> None:
    if not lesson.has(exercise):
        raise FileError(
            f"{lesson.path(exercise)}: is not there", hint=_command("start", lesson, exercise)
        )


def _next(lesson: Lesson) -> str:
    """The command that comes next."""
    current = lesson.current
    if current is None:
        return "attn guide lesson"
    return _command("check" if lesson.has(current) else "start", lesson, current)


def _command(action: str, lesson: Lesson, exercise: Exercise) -> str:
    """A command that can be typed as it is, no longer than it has to be."""
    from attncli.checking.exercises import FOLDER

    words = ["attn", "exercise", action]
    words += [] if exercise == lesson.current else [exercise.name]
    words += [] if lesson.folder == FOLDER else ["--folder", lesson.folder]
    return shlex.join(words)


def _show(screen: Screen, told: dict[str, Any], drawn: RenderableType) -> None:
    if screen.as_json:
        from attncli.views.report_json import headed

        screen.show_json(headed("exercise", told))
    else:
        screen.show(drawn)
