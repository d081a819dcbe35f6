"""Many targets, one after the other or several at the same time: shown, counted, written."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from attncli.checking.targets.sources import is_there
from attncli.cli import streams
from attncli.cli.mending import Mender
from attncli.cli.targets import Batch, Examination, Judged, alone, judge
from attncli.errors import AttnError, NoFileError, NoLayerError
from attncli.processes import Channel, EndedError, Fork, ForkServer, Limits
from attncli.views.report_files import REPORTS, write_report
from attncli.views.report_json import failed_as_json
from attncli.views.verdicts import (
    NOT_JUDGED,
    NOT_RUN,
    RIGHT,
    SKIPPED,
    WRONG,
    Submission,
    draw_summary,
    verdict,
)

if TYPE_CHECKING:
    from attncli.cli.screen import Screen
    from attncli.cluster.cluster_settings import Settings

SAID_NO, REFUSED, BUG = 1, 2, 70
# Of a judge, which is ours: what it runs has limits of its own.
_UNLIMITED = Limits(seconds=1e6, memory=1 << 40, processes=1 << 20)


def go_through(
    texts: Sequence[str],
    examination: Examination,
    batch: Batch,
    screen: Screen,
    optional: Mapping[str, str] = {},
    cluster: Settings | None = None,
) -> int:
    """Judge what each text names, show it in their order, and write the reports.

    Parameters
    ----------
    texts : sequence of str
    examination : Examination
    batch : Batch
    screen : Screen
    optional : mapping of str to str
        The texts that may well name no layer, as `attncli.cli.targets.listed` gives them.
    cluster : Settings, optional
        The cluster on which they are judged, each by itself.

    Returns
    -------
    int
        The exit code: 1 if something is wrong with a target, 2 if one could not be judged.

    Raises
    ------
    FileError
        If a report cannot be written; before any work, if that can be known.
    """
    if batch.reports:
        from attncli.files.writing import check_outputs

        inputs = [name for one in texts for name in (one, one.rpartition(":")[0]) if name]
        check_outputs("--report", batch.reports, REPORTS, force=batch.force, inputs=inputs)
    several = len(texts) > 1
    found: list[Judged | None] = [None] * len(texts)
    work = partial(
        judge,
        examination=examination,
        screen=screen,
        aside=several or bool(batch.reports) or cluster is not None,
        optional=optional,
    )
    stopped: BaseException | None = None
    shown = 0
    with screen.progress(f"checking {len(texts)} targets") as progress:
        try:
            judging = _judge_all(texts, work, batch.jobs, screen, cluster)
            for done, (number, judged) in enumerate(judging, 1):
                found[number] = judged
                while shown < len(texts) and (next_one := found[shown]) is not None:
                    with progress.aside():
                        _show(next_one, screen, first=not shown)
                    shown += 1
                if several:
                    progress(done, len(texts))
        except (KeyboardInterrupt, SystemExit) as stop:
            stopped = stop
    for judged in filter(None, found[shown:]):
        _show(judged, screen, first=False)
    submissions = [
        judged.submission if judged is not None else _not_run(text)
        for text, judged in zip(texts, found, strict=True)
    ]
    if all(one.verdict == SKIPPED for one in submissions):
        raise NoLayerError("no layer found in any of these files")
    code = _exit_code(submissions, [judged for judged in found if judged is not None])
    report = _report(submissions, examination, code)
    if screen.as_json:
        if several or any(verdict(told) in (RIGHT, WRONG) for told in report["targets"]):
            screen.show_json(report)
    elif several:
        screen.show("", draw_summary(submissions, screen.look))
    for path in batch.reports:
        write_report(path, report, submissions, force=batch.force)
        screen.note(f"wrote the report to {path}")
    if stopped is not None:
        raise stopped
    return code


def _report(
    submissions: Sequence[Submission], examination: Examination, code: int
) -> dict[str, Any]:
    from attncli.version import __version__

    head = {"attn": __version__, "command": examination.command, "passed": code == 0}
    targets = [told for one in submissions for told in one.targets]
    return {**head, **examination.more, "targets": targets}


def _exit_code(submissions: Sequence[Submission], found: Sequence[Judged]) -> int:
    if any(judged.bug for judged in found):
        return BUG
    if any(judged.refused for judged in found):
        return REFUSED
    return 0 if all(one.verdict in (RIGHT, SKIPPED) for one in submissions) else SAID_NO


def _show(judged: Judged, screen: Screen, *, first: bool) -> None:
    sys.stderr.write(judged.submission.said)
    screen.show_lines([*([] if first or not judged.lines else [""]), *judged.lines])
    for says, given in judged.refused:
        hint = given
        if (mender := _mender()) is not None:
            hint = mender.finished(given, judged.submission.text) or (
                None
                if is_there(text := judged.submission.text)
                else mender.hint(NoFileError(says, text))
            )
        streams.say_error(says, hint)
    if judged.bug:
        streams.say_bug(judged.bug)


def _mender() -> Mender | None:
    context = click.get_current_context(silent=True)
    root = context and context.find_root()
    if root is None or not isinstance(root.command, click.Group):
        return None
    return Mender(root.command, root.obj or ())


def _not_run(text: str) -> Submission:
    return Submission(
        text, (failed_as_json(text, f"{text}: not run: interrupted", verdict=NOT_RUN),)
    )


def _judge_all(
    texts: Sequence[str],
    work: Callable[[str], Judged],
    jobs: int,
    screen: Screen,
    cluster: Settings | None,
) -> Iterator[tuple[int, Judged]]:
    """Give what became of each, as it becomes known."""
    if cluster is not None:
        from attncli import cluster as engine
        from attncli.cluster.errands import Errand, run_errand

        assert screen.look is not None  # which travels with it
        errands = [Errand(partial(_judged, work, x), os.getcwd(), _files(x)) for x in texts]
        for number, answer in engine.map(run_errand, errands, cluster):
            yield number, _unpacked(answer)
        return
    if len(texts) == 1 or not alone():
        yield from ((number, work(text)) for number, text in enumerate(texts))
        return
    assert screen.look is not None  # known before copies are made, whose output is nowhere
    todo, answers = queue.SimpleQueue[int](), queue.SimpleQueue[tuple[int, Judged]]()
    for number in range(len(texts)):
        todo.put(number)

    def serve(channel: Channel) -> None:
        while True:
            number, _ = channel.receive()
            channel.send(None, [_judged(work, texts[number])])

    def keep_busy(server: ForkServer) -> None:
        fork: Fork | None = None
        with contextlib.suppress(queue.Empty):
            while True:
                number = todo.get_nowait()
                try:
                    fork = fork or Fork(server, _UNLIMITED)
                    _, (answer,) = fork.ask(number)
                    answers.put((number, _unpacked(answer)))
                except (EndedError, ChildProcessError) as ended:
                    bug = fork.printed.take() if fork is not None else ""
                    answers.put((number, _lost(texts[number], f"judging it {ended}", bug)))
                    fork = None

    with ForkServer(serve) as server:
        for _ in range(min(jobs, len(texts))):
            threading.Thread(target=keep_busy, args=(server,), daemon=True).start()
        for _ in texts:
            yield answers.get()


def _judged(work: Callable[[str], Judged], text: str) -> bytes:
    return _packed(_careful(work, text))


def _files(text: str) -> dict[str, bytes]:
    """Give the source that a text names, and the files beside it that it imports, by their paths.

    What is not there is said by who judges.
    """
    import ast

    from attncli.checking.targets.sources import source_of
    from attncli.files.source import open_source

    found = dict[str, bytes]()
    with contextlib.suppress(AttnError):
        source = source_of(text)
        paths = [] if source.kind == "module" else [source.place]
        while paths:
            path = paths.pop()
            with open_source(path).open() as stream:
                found[path] = stream.read()
            with contextlib.suppress(SyntaxError, ValueError):
                for node in ast.walk(ast.parse(found[path])):
                    names = [alias.name for alias in getattr(node, "names", ())]
                    names = [getattr(node, "module", None) or "", *names]
                    beside = [os.path.join(os.path.dirname(path), f"{name}.py") for name in names]
                    paths += [x for x in beside if x not in (*found, *paths) and os.path.isfile(x)]
    return found


def _careful(work: Callable[[str], Judged], text: str) -> Judged:
    """Judge it; that we fail at one is no reason not to judge the others."""
    try:
        return work(text)
    except Exception:
        import traceback

        return _lost(text, "a bug in attn: it could not be judged", traceback.format_exc())


def _lost(text: str, why: str, bug: str = "") -> Judged:
    told = failed_as_json(text, f"{text}: {why}", verdict=NOT_JUDGED)
    return Judged(Submission(text, (told,)), [], [] if bug else [(told["error"], None)], bug)


def _packed(judged: Judged) -> bytes:
    return json.dumps([vars(judged.submission), *judged[1:]]).encode()


def _unpacked(answer: bytes | bytearray) -> Judged:
    submission, lines, refused, bug = json.loads(answer)
    submission["targets"] = tuple(submission["targets"])
    return Judged(Submission(**submission), lines, [tuple(one) for one in refused], bug)
