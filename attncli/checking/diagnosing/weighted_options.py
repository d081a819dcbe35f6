"""What forward of a layer with weights of its own can be asked for: masks, lengths, causal order.

The form in which it is right without is right with them as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import near
from attncli.checking.derivatives.trial import Trial
from attncli.checking.diagnosing.cases import beside_largest
from attncli.checking.diagnosing.forms import Form, masked
from attncli.checking.diagnosing.senses import ADDED, HIDES, TAKES_PART, TIMES, Sense
from attncli.checking.diagnosing.untried import untried
from attncli.checking.targets.arguments import beside
from attncli.checking.targets.target import Target, real_array
from attncli.errors import TargetError
from attncli.reports import Finding
from attncli.tensors import random_tensor
from attncli.translation import Sentence

_AGREES = beside_largest(1e-6)
# No two alike, and heads are none of them.
_SIZES = {"N": 3, "T_dec": 4, "T_enc": 7, "H": 8}
_NUMBERS = Sense("", lambda m: np.where(m, 1.0, 0.0))
_FINITE = Sense("it is added to the scores: a large negative number hides a key",
                lambda m: np.where(m, 0.0, -1e9))  # fmt: skip


class _Asked(NamedTuple):
    """What an option is given, what that means for the scores, and in which sense."""

    value: Any
    mask: Array
    sense: str = ""


def judge_options(
    target: Target, make: Callable[[Target, Mapping[str, int]], Trial], form: Form
) -> Iterator[Finding]:
    """Judge forward with each option that is known, by the form in which it is right.

    Parameters
    ----------
    target : Target
    make : callable
        ``make(target, sizes)`` makes a trial.
    form : Form
    """
    if not target.options:
        return
    try:
        trial = make(target, {**_SIZES, **target.sizes_said})
    except TargetError:  # sizes may be its own affair
        return
    tried = set()
    for name in target.options:
        outcomes = [(asked, _holds(trial, form, name, asked)) for asked in _asked(trial, name)]
        taken = [(asked, holds) for asked, holds in outcomes if holds is not None]
        if not taken:
            continue
        tried.add(name)
        right = next((asked for asked, holds in taken if holds), None)
        if right is None:
            detail = Sentence(
                "with {name} out is another, in whichever sense and shape it is taken", name=name
            )
            yield Finding(name, "forward", "wrong", detail)
            continue
        yield Finding(name, "forward", "ok")
        if right.sense:
            yield Finding(name, "contract", "note", right.sense)

    def results(given: Mapping[str, Any]) -> Any:
        try:
            return trial.forward(trial.fresh(), trial.inputs, **given)
        except TargetError:
            return None

    options = {name: value for name, value in target.options.items() if value is not ...}
    yield from untried(options, tried, results, trial.sizes)


def _holds(trial: Trial, form: Form, name: str, asked: _Asked) -> bool | None:
    """Whether out is right with an option; None where it is not taken."""
    try:
        out = real_array(trial.forward(trial.fresh(), trial.inputs, **{name: asked.value}))
    except TargetError:
        return None
    if out is None or out.shape != trial.out.shape:
        return None
    expected = form.forward(trial.inputs, trial.parameters, masked(asked.mask))
    return near(out, np.asarray(expected), _AGREES).agrees


def _asked(trial: Trial, name: str) -> Iterator[_Asked]:
    """What an option may be given, by what its name means."""
    meaning = beside(name)
    N, T_dec, T_enc = _scores(trial)
    whole = partial(np.broadcast_to, shape=(N, T_dec, T_enc))
    if meaning in ("mask", "padding"):
        seen = np.random.RandomState(7).random_sample((N, T_dec, T_enc)) < 0.6
        seen[..., 0] = True
        items, steps = seen[:, -1], seen[0]
        shaped = [(items, whole(items[:, None])), (items[:, None], whole(items[:, None])),
                  (items[:, None, None], whole(items[:, None]))]  # fmt: skip
        if meaning == "mask":
            shaped += [(steps, whole(steps)), (seen, seen), (seen[:, None], seen)]
        for sense in (TAKES_PART, _NUMBERS, HIDES, ADDED, _FINITE, TIMES):
            yield from (_Asked(sense.of(given), mask, sense.words) for given, mask in shaped)
    elif meaning == "bias":
        bias = random_tensor("bias", (N, T_dec, T_enc))
        for given, mask in ((bias[0], whole(bias[0])), (bias, bias), (bias[:, None], bias)):
            yield _Asked(given, mask)
    elif meaning == "kv_lengths":
        lengths = np.linspace(1, T_enc, N).astype(np.int64)
        yield _Asked(lengths, whole((np.arange(T_enc) < lengths[:, None])[:, None]))
    elif meaning == "causal":
        for align in (0, T_enc - T_dec):
            yield _Asked(True, whole(np.tri(T_dec, T_enc, align, dtype=bool)))


def _scores(trial: Trial) -> tuple[int, int, int]:
    """How many items, queries and keys there are."""
    ours = dict(zip(map(trial.target.known_as, trial.target.inputs), trial.inputs, strict=True))
    longest = max((x.shape[1] for x in trial.inputs if x.ndim == 3), default=1)
    shortest = min((x.shape[1] if x.ndim == 3 else 1 for x in trial.inputs), default=1)
    first = next(iter(ours.values()))
    return first.shape[0], shortest, longest
