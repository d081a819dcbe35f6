"""The catalogue as documentation: a mistake, how it shows, and an example that is computed."""

from collections.abc import Iterator
from difflib import SequenceMatcher, get_close_matches
from itertools import chain, product
from typing import NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import near
from attncli.checking.comparing.places import count_along_axes, patterns, places
from attncli.checking.diagnosing.cases import Case, Suite, beside_largest
from attncli.checking.diagnosing.mistakes import KINDS, MISTAKES, Mistake
from attncli.checking.diagnosing.mistakes.in_parameters import PARAMETERS
from attncli.checking.diagnosing.observing import predict
from attncli.core.extras import Extras
from attncli.core.semantics import Semantics
from attncli.errors import ParameterError
from attncli.operations import OPERATIONS
from attncli.operations.steps import QKV, Steps
from attncli.reports import Explanation, Known, MistakeExample, slug
from attncli.tensors import axes_of, random_tensor
from attncli.translation import Sentence, joined

_CLAIMS = (
    Semantics(),
    Semantics(causal="upper_left"),
    Semantics(causal="lower_right"),
    Semantics(causal="upper_left", window=1),
    Semantics(softcap=2.0),
    Semantics(causal="upper_left", softcap=2.0),
)
# The fewest numbers that show it: by inputs of every size at its own, else where some are equal.
_SIZES = (
    {"N": 1, "T_dec": 2, "T_enc": 3, "H": 2},
    {"N": 2, "T_dec": 2, "T_enc": 3, "H": 2},
    {"N": 2, "T_dec": 2, "T_enc": 2, "H": 2},
    {"N": 1, "T_dec": 3, "T_enc": 5, "H": 2},
)
# Names that have so much in common may have been meant.
_ALIKE = 0.5
_VISIBLE = beside_largest(1e-3)
_DIFFERENT = beside_largest(1e-8)


def known() -> tuple[Known, ...]:
    """List the catalogue: each mistake with its kind."""
    return tuple(
        Known(mistake.name, mistake.slug, kind, generally(mistake, mistake.computed))
        for kind, mistakes in KINDS.items()
        for mistake in mistakes
    )


def explain(name: str) -> Explanation:
    """Explain a mistake of the catalogue.

    Parameters
    ----------
    name : str
        As it is named, or as it can be typed (``scale-missing``).

    Returns
    -------
    Explanation

    Raises
    ------
    ParameterError
        If there is none of that name; it names the nearest.

    Examples
    --------
    >>> found = explain("scale missing")
    >>> found.computed, found.example.layer
    ('scores = query · keyᵀ', 'scaled-dot-product')
    """
    mistake = _named(name)
    example = mistake.example
    found = next(_differing(mistake, example.steps), None) if example.steps else None
    return Explanation(
        mistake.name,
        next(kind for kind, mistakes in KINDS.items() if mistake in mistakes),
        generally(mistake, mistake.meant),
        generally(mistake, mistake.computed),
        generally(mistake, mistake.why),
        mistake.remedy,
        (_symptom(mistake),) if mistake.symptom else tuple(_shows(mistake)),
        found,
    )


def generally(mistake: Mistake, text: str) -> str:
    """Give one of its texts as it reads whatever the numbers are."""
    value = f"{mistake.choices[0]}" if mistake.choices else "x"
    words = {"value": value, "scale": "scale", "cap · ln 2": "cap · ln 2"}
    words |= {"right": "dx = dq · Wqᵀ", "astray": "dx = dq · Wkᵀ"}
    words |= {"which": "grads[0]", "other": "grads[1]", "share": "1/N"}
    return Sentence(text, **words)


def _named(name: str) -> Mistake:
    by_slug = {mistake.slug: mistake for mistake in MISTAKES}
    typed = slug(name)
    if typed in by_slug:
        return by_slug[typed]
    begun = [known for known in by_slug if typed and typed in known]
    close = begun or _nearest(typed)
    if not close:
        raise ParameterError(Sentence("no mistake {name} is known", name=name), hint="attn explain")
    nearest = " or ".join(by_slug[one].name for one in close[:3])
    raise ParameterError(
        Sentence("no mistake {name} is known: did you mean {nearest}?", name=name, nearest=nearest),
        hint=f"attn explain {close[0]}",
    )


def _nearest(typed: str) -> list[str]:
    """The slugs of mistakes with these words in their names, or else in what they say."""
    words = [word for word in typed.split("-") if len(word) > 2] or [typed]

    def nearness(mistake: Mistake) -> tuple[int, float]:
        said = slug(f"{mistake.meant} {mistake.computed} {mistake.why}").split("-")
        named = mistake.slug.split("-")
        hits = [
            2 if get_close_matches(word, named, 1, 0.75) else any(x.startswith(word) for x in said)
            for word in words
        ]
        return sum(hits), SequenceMatcher(None, typed, mistake.slug).ratio()

    ranked = sorted(((*nearness(one), one.slug) for one in MISTAKES), reverse=True)
    return [one for hits, alike, one in ranked if hits or alike > _ALIKE][:3]


class _Situation(NamedTuple):
    """An operation on inputs so small that all of them can be shown."""

    layer: str
    claims: Semantics
    inputs: dict[str, Array]
    mask: Array | None = None
    extras: Extras = Extras()

    @property
    def case(self) -> Case:
        """The same as a case of a check."""
        inputs = list(self.inputs.values())
        return Case("", self.layer, inputs, self.claims, self.mask, self.extras)


def _situations(mistake: Mistake) -> Iterator[_Situation]:
    """The situations in which it may show, those with the fewest numbers first."""
    layers = [
        layer for layer in (QKV, "time-attention", "attention", "attention-weight", "weight-sum",
                            "softmax") if mistake.fits(layer)
    ]  # fmt: skip
    for sizes, layer in product(_SIZES, layers):
        for claims in _CLAIMS if layer == QKV else _CLAIMS[:1]:
            yield _Situation(layer, claims, _inputs(layer, sizes))
    for sizes in _SIZES:
        if QKV in layers:
            T_dec, T_enc = sizes["T_dec"], sizes["T_enc"]
            hides = np.ones((T_dec, T_enc), bool)
            hides[0, 1:] = False
            nothing = hides.copy()
            nothing[0] = False
            inputs = _inputs(QKV, sizes)
            for mask in (hides, hides.astype(float), nothing):
                yield _Situation(QKV, Semantics(), inputs, mask)
            by_item = np.stack([hides, hides[::-1]])[:, None]
            yield _Situation(QKV, Semantics(), _inputs(QKV, {**sizes, "N": 2}, 2), by_item)
            yield _Situation(QKV, Semantics(), _inputs(QKV, sizes, 2))
            yield _Situation(QKV, Semantics(), _inputs(QKV, sizes, 3))
            yield _Situation(QKV, Semantics(), _inputs(QKV, sizes, 4, 2))
            wide = _inputs(QKV, sizes)
            wide["value"] = np.concatenate([wide["value"], wide["value"][..., :1] - 1], axis=-1)
            yield _Situation(QKV, Semantics(), wide)
    if QKV in layers:
        inputs = _inputs(QKV, _SIZES[2], 2)
        for extras in (
            Extras(sinks=np.array([0.0, 1.0])),
            Extras(alibi=np.array([0.5, 0.25])),
            Extras(kv_lengths=np.array([1, 2])),
            Extras(segments=np.array([0, 1])),
        ):
            yield _Situation(QKV, Semantics(), inputs, extras=extras)
    for layer in layers:
        large = {name: 60 * array for name, array in _inputs(layer, _SIZES[0]).items()}
        yield _Situation(layer, Semantics(), large)
        if layer == QKV:
            large["query"], large["key"] = np.abs(large["query"]), -np.abs(large["key"])
            yield _Situation(layer, Semantics(), large)


def _inputs(
    layer: str, sizes: dict[str, int], heads: int = 0, kv_heads: int = 0
) -> dict[str, Array]:
    shapes: dict[str, tuple[int, ...]] = {"scores": (sizes["N"], sizes["T_enc"])}
    if layer != "softmax":
        shapes = OPERATIONS[layer].shapes(sizes)
    if layer == QKV:
        lead = {"query": heads, "key": kv_heads or heads, "value": kv_heads or heads}
        shapes = {
            name: (sizes["N"], *([lead[name]] if heads else []), *shape[-2:])
            for name, shape in shapes.items()
        }
    return {name: random_tensor(name, shape).round(1) for name, shape in shapes.items()}


def _differing(mistake: Mistake, steps: Steps) -> Iterator[MistakeExample]:
    """Examples in which what is computed is not what is meant, seen by the eye or, at last, not."""
    found = list[MistakeExample]()
    for situation in _situations(mistake):
        one = _example(situation, steps)
        if one is not None and any(np.isfinite(array).any() for array in one.computed.values()):
            if any(not near(one.computed[x], one.meant[x], _VISIBLE).agrees for x in one.meant):
                yield one
            found.append(one)
    yield from found


def _example(situation: _Situation, steps: Steps) -> MistakeExample | None:
    case = situation.case
    try:
        dout = case.dout.round(1)
    except ValueError:
        return None
    results = []
    with np.errstate(all="ignore"):
        for replaced in ({}, steps):
            given = predict(situation.layer, case, dout, replaced, backward="formulas")
            if given is None or given[2] is None:
                return None
            names = OPERATIONS[situation.layer].gradients
            weights = {} if given[1] is None else {"weights": given[1]}
            results.append({**weights, "out": given[0], **dict(zip(names, given[2], strict=True))})
    meant, computed = results
    differing = [name for name in meant if not near(computed[name], meant[name], _DIFFERENT).agrees]
    if not differing:
        return None
    # Where forward is wrong, what backward makes of it is no news.
    forward = [name for name in differing if not name.startswith("d")]
    differing = forward or differing
    inputs = dict(situation.inputs)
    if situation.mask is not None:
        inputs["mask"] = situation.mask
    inputs |= situation.extras.given()
    if not forward:
        inputs["dout"] = dout
    return MistakeExample(
        situation.layer,
        situation.claims.described(),
        inputs,
        {name: meant[name] for name in differing},
        {name: np.asarray(computed[name].real) for name in differing},
    )


def _symptom(mistake: Mistake) -> str:
    if mistake in PARAMETERS:
        return "attn check, or gradcheck, of a layer whose params are not empty"
    return Sentence("attn check: the line {symptom}", symptom=mistake.symptom)


def _shows(mistake: Mistake) -> Iterator[str]:
    """Say in which situations of a check it shows, and by what, where it shows at all."""
    steps = mistake.example.steps
    stages = chain(
        ((QKV, claims) for claims in (Semantics(), Semantics(None, "upper_left", None, 2, 2.0))),
        ((layer, Semantics()) for layer in ("time-attention", "attention", "weight-sum")),
    )
    for layer, claims in stages:
        if not mistake.fits(layer):
            continue
        options = dict.fromkeys(("mask", "sinks", "alibi", "kv_lengths", "segments"))
        suite = Suite(layer, claims, options, 4 if layer == QKV else 3)
        wrong = {}
        for case in suite.cases():
            if looks := list(_look(case, steps)):
                wrong[case.name] = looks
        if wrong:
            layer = f"{layer}{', ' * bool(claims.described())}{claims.described()}"
            if len(wrong) > 6:
                yield Sentence("{layer}: nearly everywhere", layer=layer)
            else:
                yield Sentence("{layer}: in {cases}", layer=layer, cases=joined(wrong))
            yield from next(iter(wrong.values()))
            return


def _look(case: Case, steps: Steps) -> Iterator[str]:
    """Say what is wrong in a case, and how that looks."""
    truth = case.truth
    with np.errstate(all="ignore"):
        given = predict(case.layer, case, truth.dout, steps, backward="formulas")
    if given is None or given[2] is None:
        return
    names = ("out", *OPERATIONS[case.layer].gradients)
    right = (truth.results["out"], *truth.gradients)
    for name, observed, expected in zip(names, (given[0], *given[2]), right, strict=True):
        if observed.shape != expected.shape:
            yield Sentence(
                "{name} is {shape}, expected {expected}",
                name=name,
                shape=observed.shape,
                expected=expected.shape,
            )
        elif not near(observed, expected, _DIFFERENT).agrees:
            how = joined(_how(name, observed, expected))
            yield Sentence("{name}: {how}", name=name, how=how)


def _how(name: str, observed: Array, expected: Array) -> tuple[str, ...]:
    if not np.isfinite(observed).all():
        return (Sentence("NaN or infinite"),)
    found = patterns(observed, expected)
    if found:
        return found
    wrong = ~np.isclose(observed, expected, rtol=1e-6, atol=1e-9)
    where = places(count_along_axes(wrong), axes_of(name, observed.ndim))
    return where or (Sentence("wrong all over"),)
