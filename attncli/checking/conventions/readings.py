"""The search: which setting, band and numbers lead from a file's inputs to its results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.budget import PRECISIONS
from attncli.checking.comparing.formulas import usual_scales
from attncli.checking.conventions.arrangements import Arrangement, arrangements, of_rows, of_weights
from attncli.checking.conventions.dropout import left_on
from attncli.checking.conventions.fitting import SPREADS, Band, Fit, Limits, cost_of, fit, survey
from attncli.checking.conventions.lengths import with_lengths
from attncli.checking.conventions.naming import (
    close,
    failures,
    named_scale,
    place,
    shortest,
)
from attncli.checking.conventions.rows import Knobs, Rows
from attncli.checking.conventions.settings import BASES, Setting, settings
from attncli.checking.conventions.whole import LSE_BASES, Results, Verdict, judge
from attncli.core.extras import standard_slopes
from attncli.core.semantics import Semantics
from attncli.errors import DataError
from attncli.operations.layout import ALL, Words, written
from attncli.reports import ConventionReading, ConventionReport
from attncli.spelling import renames

_ROUGH = {"float64": 1e-8, "float32": 2e-4, "float16": 2e-2, "bfloat16": 8e-2}
"""How near, in units of the values, a fit is to come to be judged on the whole."""
_PRECISE = {"float64": 1e-7, "float32": 2e-6, "float16": 1e-3, "bfloat16": 4e-3}
"""How far a scale may be from the formula it is, relative, beside what fitting leaves open."""
_PAIRS, _STEPS = 8, 12
_JUDGED = 24
_FITTED = 6
_NEAR = 0.5  # of what is to be explained, what is off is to be less than
_BY_HEAD = ("sinks", "alibi", "enc_mask", "kv_lengths", "cu_seqlens", "segments")


# Scores that are no larger than this are none: that the mean comes out has no other reason.
_FLAT = 1e-6


@dataclass(frozen=True)
class Candidate:
    """A setting with what fits it best."""

    setting: Setting
    fit: Fit
    fits: str
    size: float

    @property
    def cost(self) -> float:
        """The misfit in units of the values."""
        return self.fit.cost / self.size


@dataclass
class Judged:
    """A candidate with its numbers named, and the verdict on the whole file."""

    candidate: Candidate
    knobs: Knobs
    formula: str
    verdict: Verdict
    sinks: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)


def find_convention(
    held: Mapping[str, Array],
    dtype: str = "",
    claims: Semantics = Semantics(),  # noqa: B008
    layout: Mapping[str, Words] | None = None,
) -> ConventionReport:
    """Find the semantics that lead from the inputs in a file to its results, all of them.

    Parameters
    ----------
    held : mapping of str to ndarray
        ``query``, ``key``, and ``value`` with ``out``, ``lse`` or ``weights``; ``mask``,
        ``enc_mask``, ``sinks``, ``alibi``, ``segments``, ``cu_seqlens``, ``cu_seqlens_k`` and
        ``kv_lengths`` as far as there are any.
    dtype : str, optional
        The precision that they were computed in; default: the coarsest among them.
    claims : Semantics, optional
        What is known already: it is not searched for.
    layout : mapping of str to tuple of str, optional
        The axes of tensors, as far as they are known.

    Returns
    -------
    ConventionReport

    Raises
    ------
    DataError
        If something is missing, or there is nothing to be judged.
    ShapeError
        If no layout fits their shapes.

    Examples
    --------
    >>> from attncli.core import attention
    >>> from attncli.tensors import random_tensor
    >>> held = {x: random_tensor(x, (2, 3, 7, 4)) for x in ("query", "key", "value")}
    >>> held["out"], _ = attention(**held, causal="upper_left", scale=0.7)
    >>> find_convention(held).readings[0].described
    'causal, scale 0.7, layout (N, heads, T, H)'
    """
    with np.errstate(all="ignore"):  # a wrong reading may give any numbers
        return _Search(held, dtype or _coarsest(held), claims, layout or {}).report()


def _coarsest(held: Mapping[str, Array]) -> str:
    names = [held[x].dtype.name for x in ("query", "key", "value", "out") if x in held]
    order = ("bfloat16", "float16", "float32")
    return next((one for one in order if one in names), "float64")


class _Stage(NamedTuple):
    """Where to look.

    Attributes
    ----------
    candidates : callable
    is_far : bool
        Whether it would change every row.
    """

    candidates: Callable[[], list[Candidate]]
    is_far: bool


class _Search:
    def __init__(
        self,
        held: Mapping[str, Array],
        dtype: str,
        claims: Semantics,
        layout: Mapping[str, Words],
    ) -> None:
        self.claims, self.dtype = claims, dtype
        self.held = dict(held)
        self.results = Results(held.get("lse"), held.get("weights"), dtype)
        require(held)
        tensors = {x: held[x].astype(np.float64) for x in ("query", "key") if x in held}
        if "value" in held:
            tensors["value"] = np.nan_to_num(held["value"].astype(np.float64), posinf=0, neginf=0)
        else:
            tensors["value"] = np.zeros_like(tensors["key"])
        if "out" in held:
            tensors["out"] = held["out"].astype(np.float64)
        by_head = any(name in held for name in _BY_HEAD)
        by_head |= "mask" in held and any(size > 1 for size in held["mask"].shape[:-2])
        found = arrangements(tensors, by_head=by_head, layout=layout)
        if (
            all(one.key.shape[2] == 1 for one in found)
            and "sinks" not in held
            and "lse" not in held
        ):
            raise DataError("there is one key: every output is its value, whatever was computed")
        # The most of what the file holds has to have a meaning, by the fewest layouts.
        idle = {id(one): _without_meaning(settings(one, self.held)) for one in found}
        least = min((idle[id(one)], one.kinds) for one in found)
        self.first = [one for one in found if (idle[id(one)], one.kinds) == least]
        self.rest = [one for one in found if one not in self.first and idle[id(one)] == least[0]]
        self.tried = 0
        self.rough = _ROUGH.get(dtype, _ROUGH["float32"])

    def report(self) -> ConventionReport:
        """Go through the stages until a reading holds for the whole file."""
        candidates: list[Candidate] = []
        judged: list[Judged] = []
        for stage in self._stages():
            if stage.is_far and any(one.verdict.fails.mean() <= 0.5 for one in judged):
                continue  # what holds for half the rows is not wrong in what concerns them all
            found = sorted(stage.candidates(), key=lambda one: one.cost)
            candidates += found
            near = [one for one in found if one.cost <= max(self.rough, 0)][:_JUDGED]
            judged += [self._judged(one) for one in near]
            if any(one.verdict.holds for one in judged):
                break
        holding = [one for one in judged if one.verdict.holds]
        flat = self.claims.scale is None and any(map(_is_flat, holding))
        holding = _worth([one for one in holding if not flat or not _is_flat(one)])
        missed = [one for one in judged if not one.verdict.holds]
        if not holding and not missed and candidates:
            best = sorted(candidates, key=lambda one: one.cost)[:3]
            judged = [self._judged(one) for one in best]
            missed = [one for one in judged if not one.verdict.holds]
        missed.sort(key=lambda one: (one.verdict.fails.mean(), _assumed(one), one.verdict.distance))
        notes = list(_apart(holding, missed))
        if flat:
            notes.append("every key that is seen counts the same: no scale leads to the results")
        if not holding:
            notes += left_on(self.first, self.held, self.dtype)
        return ConventionReport(
            tried=self.tried,
            dtype=self.dtype,
            readings=tuple(map(self._reading, holding)),
            nearest=self._reading(missed[0]) if missed else None,
            notes=tuple(notes),
        )

    def _stages(self) -> Iterator[_Stage]:
        """Yield where to look, that of the fewest assumptions first."""
        plain = [one for a in self.first for one in settings(a, self.held)]
        bands, windows = self._bands(), self._windows()
        own_sinks = ("", "sinks")[: 1 + ("sinks" not in self.held)]
        for some in (bands, windows):
            for fits in own_sinks:
                yield _Stage(partial(self._fits, plain, some, fits=fits), is_far=bool(fits))
        if "kv_lengths" not in self.held:
            yield _Stage(partial(self._with_lengths, plain, bands), is_far=False)
        if "alibi" not in self.held:
            yield _Stage(partial(self._fits, plain, bands, fits="slopes"), is_far=True)
        if self.results.weights is None and "out" in self.held:
            yield _Stage(partial(self._fits, plain, bands, fits="factor"), is_far=True)
        mixed = [one for a in self.rest for one in settings(a, self.held)]
        for ways in (mixed, list(_rotations(plain, _widths)), list(_rotations(mixed))):
            for some in (bands, windows):
                yield _Stage(partial(self._fits, ways, some), is_far=True)

    def _with_lengths(self, plain: list[Setting], bands: list[Band]) -> list[Candidate]:
        """Fit lengths, and then all else; what does not hold then is none."""
        found = []
        for setting, band in product(plain, bands):
            square = setting.align_is_moot or (setting.align == "upper_left")
            if setting.arrangement.output is None or "packing" in setting.says or not square:
                continue
            spread = np.std(setting.arrangement.query) * np.std(setting.arrangement.key)
            known = self._formulas(setting).values()
            scales = [*known, *(SPREADS / (spread or 1.0))]
            scales = scales if self.claims.scale is None else [self.claims.scale]
            for one in with_lengths(setting, band, scales):
                for fitted in self._fits([one], [band]):
                    again = next(with_lengths(setting, band, [fitted.fit.knobs.scale]), None)
                    found.append(fitted)
                    if again is not None and again.says != one.says:
                        found += self._fits([again], [band])
        return [one for one in found if one.cost <= self.rough and self._judged(one).verdict.holds]

    def _bands(self) -> list[Band]:
        """Give the bands that need no fitting."""
        claims = self.claims
        if claims.window is not None:
            low, high = _bounds(claims)
            ways = [Band(low, high)]
            if claims.causal is None and not isinstance(claims.window, tuple):
                ways.append(Band(low, 0))
            return ways
        return [Band(None, 0)] if claims.causal is not None else [Band(), Band(None, 0)]

    def _windows(self) -> list[Band]:
        """Give what is known of the bands that are to be fitted."""
        if self.claims.window is not None:
            return []
        if self.claims.causal is not None:
            return [Band(None, 0, (False, True))]
        return [Band(None, None, (False, False))]

    def _fits(
        self, ways: Iterable[Setting], bands: list[Band], *, fits: str = ""
    ) -> list[Candidate]:
        found, looked = [], []
        side, unit = self.claims.causal or self.claims.align, PRECISIONS[self.dtype].unit
        for setting in ways:
            if setting.arrangement.key.shape[2] == 0 or setting.arrangement.query.size == 0:
                raise DataError("there is nothing to judge: a tensor is empty")
            if side is not None and setting.align != side and not setting.align_is_moot:
                continue
            turned = setting.rotated()
            by_head = fits in ("sinks", "slopes")
            pairs = _some_pairs(setting.arrangement, every_head=by_head)
            slopes = standard_slopes(setting.arrangement.sizes[1])
            begins = [slopes, -slopes] if fits == "slopes" else [None]
            for target, begin in product(self._targets(setting, pairs, turned), begins):
                size = float(np.sqrt(np.mean(target.value**2))) or 1.0
                if target.lse is not None:
                    size = 1.0
                limits = Limits(
                    self.claims.scale,
                    self.claims.softcap,
                    setting.sinks,
                    fits,
                    begin,
                    size,
                    min(self.rough, max(2e-4, 6 * unit)) * size,
                    unit,
                )
                for band in bands:
                    if not self._is_idle(setting, band, by_step=fits == "slopes"):
                        self.tried += 1
                        looked.append((setting, size, survey(target, limits, band)))
        looked.sort(key=lambda one: one[2].cost / one[1])
        best = looked[0][2].cost / looked[0][1] if looked else 0.0
        for number, (setting, size, look) in enumerate(looked):
            # Where none comes near, all are about as far off.
            near = look.cost <= _NEAR * cost_of(look.rows.target[0])
            if number >= _FITTED and (not near or look.cost / size > 2 * best):
                break
            one = fit(look)
            if not all(look.band.fixed) and (one.low, one.high) in ((None, None), (None, 0)):
                continue  # without a window: it was tried before
            found.append(Candidate(setting, one, fits, size))
        return found

    def _is_idle(self, setting: Setting, band: Band, *, by_step: bool) -> bool:
        """Whether a band hides nothing, or an alignment has nothing to go by."""
        own, start, stop = setting.places
        if not all(band.fixed):
            return False
        hides = False
        if band.high is not None:
            hides |= bool((stop - 1 - own > band.high).any())
        if band.low is not None:
            hides |= bool((own - start > -band.low).any())
        asked = self.claims.causal is not None or self.claims.window is not None
        if band == Band() or asked:
            by_step |= setting.by_step
            moved = setting.align == "lower_right" and not (by_step or hides)
            return moved and not (
                (asked and self.claims.align is not None) or self.claims.causal == "lower_right"
            )
        return not hides

    def _targets(
        self, setting: Setting, pairs: Array, turned: tuple[Array, Array]
    ) -> Iterator[Rows]:
        """Give the rows that are fitted, with the result that they are fitted to."""
        arrangement = setting.arrangement
        N, heads, _, T_dec, T_enc = arrangement.sizes
        rows = setting.rows(pairs, _some_steps(setting), turned)
        if arrangement.output is not None:
            yield rows
            return
        steps = _some_steps(setting)
        if self.results.weights is not None:
            weights = of_weights(self.results.weights.astype(np.float64), (N, heads, T_dec, T_enc))
            if weights is not None:
                eye = np.broadcast_to(np.eye(T_enc), (len(pairs), T_enc, T_enc))
                yield replace(rows, value=eye, output=weights[pairs[:, 0], pairs[:, 1]][:, steps])
            return
        assert self.results.lse is not None
        lse = of_rows(self.results.lse.astype(np.float64), (N, heads, T_dec))
        if lse is not None:
            own = lse[pairs[:, 0], pairs[:, 1]][:, steps]
            for unit in LSE_BASES.values():
                yield replace(rows, lse=own * unit)

    def _judged(self, candidate: Candidate) -> Judged:
        """Name the numbers, and judge the reading on the whole file."""
        knobs, formula = self._named(candidate)
        fit = candidate.fit
        if (name := candidate.fits) in ("sinks", "slopes"):
            own, heads = getattr(knobs, name), candidate.setting.arrangement.sizes[1]
            own = np.resize(own, heads) if len(own) < heads else own
            knobs = knobs._replace(sinks=own) if name == "sinks" else knobs._replace(slopes=own)
        tried = [(knobs, formula)]
        if self.claims.scale is None:
            tried += self._beside(candidate, knobs)
        found = []
        for knobs, formula in tried:
            verdict = judge(candidate.setting, knobs, fit.low, fit.high, self.results)
            found.append(Judged(candidate, knobs, formula, verdict))
            if verdict.holds:
                break
        holding = [one for one in found if one.verdict.holds]
        usual = [one for one in found if one.formula and one.verdict.fails.mean() <= 0.5]
        return min(holding or usual or found, key=lambda one: one.verdict.fails.sum())

    def _beside(self, candidate: Candidate, knobs: Knobs) -> Iterator[tuple[Knobs, str]]:
        """Give the scales that may be meant where the one that is named does not hold throughout.

        Rows that were computed in another way draw the fit aside in half precision.
        """
        near = 10 * PRECISIONS[self.dtype].unit
        for formula, scale in self._formulas(candidate.setting).items():
            if 0 < abs(scale - knobs.scale) < near * scale:
                yield knobs._replace(scale=scale), formula
                break
        if knobs.scale != candidate.fit.knobs.scale:
            yield candidate.fit.knobs, ""

    def _formulas(self, setting: Setting) -> dict[str, float]:
        """Give the scales in use, at these sizes."""
        arrangement = setting.arrangement
        _, heads, kv_heads, _, T_enc = arrangement.sizes
        H, H_v = (x.shape[-1] for x in (arrangement.query, arrangement.value))
        return usual_scales(
            {"H": H, "H_v": H_v, "heads": heads, "kv_heads": kv_heads, "T_enc": T_enc}
        )

    def _named(self, candidate: Candidate) -> tuple[Knobs, str]:
        known = self._formulas(candidate.setting)
        knobs, errors = candidate.fit.knobs, candidate.fit.errors or (0.0, 0.0)
        precise = _PRECISE.get(self.dtype, 2e-6)
        if self.claims.scale is not None:
            words = next((w for w, x in known.items() if abs(x - knobs.scale) < 1e-6 * abs(x)), "")
            scale, formula = knobs.scale, words
        else:
            scale, formula = named_scale(
                knobs.scale, 5 * errors[0] + precise * abs(knobs.scale), known
            )
        bend = knobs.bend
        if bend > 0 and self.claims.softcap is None:
            cap = bend**-0.5
            cap = shortest(cap, 5 * errors[1] * cap**3 / 2 + precise * cap)
            bend = cap**-2.0
        sinks, slopes, factor = knobs.sinks, knobs.slopes, knobs.factor
        room = 5 * max(errors[2:], default=0.0) + 10 * precise
        if candidate.fits == "sinks" and sinks is not None and np.ptp(sinks) <= 2 * room:
            sinks = np.full_like(
                sinks, shortest(float(sinks.mean()), room) if abs(sinks.mean()) > room else 0.0
            )
        if candidate.fits == "slopes" and slopes is not None:
            standard = standard_slopes(len(slopes))
            near = next(
                (x for x in (standard, -standard) if np.abs(x - slopes).max() <= room), None
            )
            slopes = slopes if near is None else near
        if candidate.fits == "factor":
            factor = shortest(factor, room * abs(factor))
        return Knobs(scale, bend, sinks, slopes, factor), formula

    def _reading(self, one: Judged) -> ConventionReading:
        words, options = _described(one)
        return ConventionReading(
            described=", ".join(words),
            options=options,
            distance=one.verdict.distance,
            fails=tuple(failures(one.verdict.fails)),
            holds_for=float(1 - one.verdict.fails.mean()),
            command=_command(one),
            shape=one.verdict.fails.shape,
        )


def _without_meaning(ways: list[Setting]) -> int:
    """How much of what a file holds can only be ignored."""
    names = {name for one in ways for name in one.says}
    return sum(all("ignored" in one.says[name] for one in ways) for name in names)


def require(held: Mapping[str, Array], unused: Iterable[str] = ()) -> None:
    """Raise if there is nothing to judge; what is missing may be among the `unused`.

    Raises
    ------
    DataError
    """
    names = [x for x in ("query", "key") if x not in held]
    if not {"out", "lse", "weights"} & set(held):
        names.append("output")
    elif "out" in held and "value" not in held:
        names.append("value")
    if names:
        there = ", ".join(held) or "nothing"
        raise DataError(
            f"{names[0]} is missing: expected query, key, value and output, and there is {there}",
            hint=renames(names, unused)
            or f"--rename {names[0]}=THEIRS reads an array under another name",
        )
    for name in ("query", "key", "value", "out", "lse", "weights"):
        if name in held and not held[name].size:
            raise DataError(f"{name} is {held[name].shape}: empty, and nothing to judge")
    results = [x for x in ("out", "lse", "weights") if x in held]
    if not any((np.isfinite(held[x]) & (held[x] != 0)).any() for x in results):
        nothing = f"{results[0]} holds no finite number but 0"
        raise DataError(f"{nothing}, as where no query sees a key: nothing to judge")


def _is_flat(one: Judged) -> bool:
    """Whether its scale alone makes its scores 0, so that it says nothing of query and key."""
    arrangement = one.candidate.setting.arrangement
    query, key = (
        float(np.linalg.norm(x, axis=-1).max(initial=0))
        for x in (arrangement.query, arrangement.key)
    )
    return abs(one.knobs.scale) * query * key < _FLAT < query * key


def _assumed(one: Judged) -> int:
    """How much a reading assumes beside the usual."""
    fit, setting = one.candidate.fit, one.candidate.setting
    return (
        len(setting.unusual)
        + (one.formula != "1/√H")
        + 2 * (not one.formula)
        + 2 * bool(one.candidate.fits)
        + (one.knobs.bend > 0)
        + (fit.low is not None)
        + (fit.high is not None)
        + setting.arrangement.kinds
    )


def _bounds(claims: Semantics) -> tuple[int | None, int | None]:
    left, right = claims.reach
    return (None if left is None else -left), right


def _some_pairs(arrangement: Arrangement, *, every_head: bool) -> Array:
    N, heads, _, _, _ = arrangement.sizes
    if every_head:
        return np.stack([np.arange(heads) % N, np.arange(heads)], axis=1)
    items = np.unique(np.linspace(0, N - 1, min(N, 4)).astype(int))
    own = np.unique(np.linspace(0, heads - 1, min(heads, max(1, _PAIRS // len(items)))).astype(int))
    return np.stack(np.meshgrid(items, own, indexing="ij"), axis=-1).reshape(-1, 2)


def _some_steps(setting: Setting) -> Array:
    T_dec = setting.places.own.shape[1]
    steps = set(np.linspace(0, T_dec - 1, min(T_dec, _STEPS)).astype(int).tolist())
    steps |= {min(1, T_dec - 1), max(0, T_dec - 2)}
    starts = setting.places.start[0]
    moves = np.flatnonzero(np.diff(starts)) + 1  # where a packed sequence begins
    for at in moves[:4].tolist():
        steps |= {at - 1, at}
    return np.array(sorted(steps))


def _rotations(
    ways: list[Setting], widths: Callable[[int], Iterator[int | None]] | None = None
) -> Iterator[Setting]:
    for one in ways:
        H = one.arrangement.query.shape[-1]
        some = [None] * (H % 2 == 0) if widths is None else widths(H)
        for width, style, base in product(some, ("halves", "interleaved"), BASES):
            words = "rotary in halves" if style == "halves" else "rotary interleaved"
            words += f", base {base:g}"
            words += f", of the first {width} of {H} features" if width is not None else ""
            yield one.chosen("rotary", words, usual=False, rotation=(style, base, width))


def _widths(H: int) -> Iterator[int | None]:
    """Give how many features may be turned: all, or a usual part of them."""
    if H % 2 == 0:
        yield None
    yield from (
        width for width in (H // 2, H // 4, 3 * H // 4, 2 * H // 5) if width and width % 2 == 0
    )


def _worth(holding: list[Judged]) -> list[Judged]:
    """Keep the readings that no other explains clearly better, the simplest first."""
    if not holding:
        return []
    best = min(one.verdict.square for one in holding)
    kept = [one for one in holding if one.verdict.square <= 4 * best + 1e-300]
    kept.sort(key=lambda one: (_assumed(one), len(", ".join(_described(one)[0]))))
    found: list[Judged] = []
    for one in kept:
        if not any(_says_less(other, one) for other in found):
            found.append(one)
    return found


def _says_less(other: Judged, one: Judged) -> bool:
    """Whether a reading is another with something added that has no effect."""
    a, b = other.candidate, one.candidate
    differing = {
        x
        for x in {*a.setting.says, *b.setting.says}
        if a.setting.says.get(x) != b.setting.says.get(x)
    }
    signed = differing == {"alibi"} and b.setting.slanted == "offset"
    same_band = (a.fit.low, a.fit.high) == (b.fit.low, b.fit.high)
    if signed and same_band:
        return True
    if differing:
        return False
    layout = a.setting.arrangement.orders == b.setting.arrangement.orders
    more = bool(b.fits) > bool(a.fits) or (one.knobs.bend > 0) > (other.knobs.bend > 0)
    aligned = a.setting.align != b.setting.align and same_band and layout
    return layout and (more or aligned)


def _described(one: Judged) -> tuple[list[str], dict[str, Any]]:
    """Say a reading in words, and as options."""
    setting, fit, knobs = one.candidate.setting, one.candidate.fit, one.knobs
    low, high = fit.low, fit.high
    words, options = [], dict[str, Any]()
    square = setting.align_is_moot
    side = "" if square else f" {setting.align.replace('_', ' ')}"
    if high == 0:
        words.append(f"causal{side}")
        options["causal"] = setting.align
    elif (low is not None or high is not None or setting.by_step) and not square:
        options["align"] = setting.align
    if low is not None or (high is not None and high != 0):
        left, right = (-1 if low is None else -low), (-1 if high is None else high)
        options["window"] = [left, right]
        if high == 0:
            words.append(f"window left {left} (right 0)")
        elif low is None:
            words.append(f"window right {right}")
        elif high is None:
            words.append(f"window left {left}")
        else:
            words.append(f"window {left}" if left == right else f"window {left}, {right}")
        if high != 0 and side:
            words[-1] += f", aligned{side}"
        if low is None and high and setting.align == "upper_left" and side:
            words[-1] += f" (causal after {high} keys that came before)"
    formula = one.formula
    number = close(knobs.scale)
    told = "scale " + (number if not formula or formula == "1" else f"{number} = {formula}")
    words.append(f"scale {formula}" if formula == "1/√H" else told)
    if fit.errors and np.isinf(fit.errors[0]):
        words[-1] += " (or any other: no weight depends on it)"
    options["scale"] = knobs.scale
    if formula:
        options["formula"] = formula
    if knobs.bend > 0:
        cap = float(knobs.bend**-0.5)
        cap = shortest(cap, 1e-12 * cap)
        words.append(f"softcap {close(cap)}")
        options["softcap"] = cap
    if one.candidate.fits == "sinks" and knobs.sinks is not None:
        if np.ptp(knobs.sinks) == 0:
            words.append(f"sink {close(float(knobs.sinks[0]))} (an extra logit in the softmax)")
            options["sinks"] = float(knobs.sinks[0])
        else:
            words.append("sinks " + ", ".join(map(close, knobs.sinks.tolist())))
            options["sinks"] = knobs.sinks.tolist()
    if one.candidate.fits == "slopes" and knobs.slopes is not None:
        kind = _of_slopes(knobs.slopes)
        words.append(
            f"ALiBi {kind}"
            if kind
            else "ALiBi of slopes " + ", ".join(map(close, knobs.slopes.tolist()))
        )
        words[-1] += "" if square else f", aligned {setting.align.replace('_', ' ')}"
        options["alibi"] = knobs.slopes.tolist()
    if one.candidate.fits == "factor":
        words.append(f"the output times {close(knobs.factor)}")
        options["factor"] = knobs.factor
    for what, said in setting.says.items():
        if what == "alibi" and not square and "ignored" not in said:
            said += f", aligned {setting.align.replace('_', ' ')}" + (
                " (at the last query)" if setting.align == "lower_right" else ""
            )
        words.append(said)
        options[what] = said
    for what, said in one.verdict.says.items():
        words.append(said)
        options[what] = said
    words.append(setting.arrangement.described)
    options["layout"] = setting.arrangement.described.removeprefix("layout ")
    return words, options


def _of_slopes(slopes: Array) -> str:
    """Say which slopes these are, if they are known."""
    standard = standard_slopes(len(slopes))
    if np.array_equal(slopes, standard):
        return "with the standard slopes"
    reverse = "with the standard slopes, and the sign reversed"
    return reverse if np.array_equal(slopes, -standard) else ""


_EXPRESSED = ("rotary", "lengths", "kv_lengths")  # by options, unusual as they are


def _command(one: Judged) -> str | None:
    """Give the options by which ``attn forward`` computes the same; None if it cannot."""
    setting, fit, knobs, says = (
        one.candidate.setting,
        one.candidate.fit,
        one.knobs,
        one.verdict.says,
    )
    if {*setting.unusual} - {*_EXPRESSED} or "empty" in says or one.candidate.fits == "factor":
        return None
    slopes = knobs.slopes
    if slopes is not None and not np.array_equal(slopes, standard_slopes(len(slopes))):
        return None
    if "lengths" in setting.unusual and "kv_lengths" not in setting.unusual:
        return None  # those of the file are ignored
    if says.get("lse", "lse natural") != "lse natural":
        return None  # its own would be another
    given = []
    if one.formula != "1/√H":
        given.append(f"--scale {knobs.scale!r}")
    if fit.high == 0:
        given.append("--causal")
    if setting.align == "lower_right" and (
        fit.high is not None or fit.low is not None or setting.by_step or knobs.slopes is not None
    ):
        given.append("--causal-align lower-right")
    if fit.low is not None or fit.high not in (None, 0):
        left, right = (-1 if fit.low is None else -fit.low), (-1 if fit.high is None else fit.high)
        given.append(f"--window {left}" if fit.high == 0 else f"--window {left},{right}")
    if knobs.bend > 0:
        cap = float(knobs.bend**-0.5)
        given.append(f"--softcap {shortest(cap, 1e-12 * cap)!r}")
    if one.candidate.fits == "sinks" and knobs.sinks is not None:
        sinks = knobs.sinks[:1] if np.ptp(knobs.sinks) == 0 else knobs.sinks
        given.append("--sinks=" + ",".join(map(repr, sinks.tolist())))
    if setting.rotation is not None:
        style, base, width = setting.rotation
        given.append(f"--rotary {style}")
        given += [f"--rotary-base {base:g}"] * (base != BASES[0])
        given += [f"--rotary-width {width}"] * (width is not None)
    if "kv_lengths" in setting.unusual:
        given.append("--kv-lengths " + ",".join(map(str, setting.places.stop[:, 0].tolist())))
    given += ["--alibi"] * (slopes is not None)
    given += _axes(setting.arrangement, packed="packing" in setting.says)
    return " ".join(given)


def _axes(arrangement: Arrangement, *, packed: bool) -> Iterator[str]:
    """Give the options that say how axes lie, where that is not as usual."""
    orders = {*arrangement.orders}
    if "·" in "".join(orders):
        _, heads, kv_heads, _, _ = arrangement.sizes
        yield f"--heads {heads}" if heads == kv_heads else f"--heads {heads},{kv_heads}"
    if len(orders) > 1 or not orders <= {"N heads T H", "N T H", "N T heads·H", "T H"}:
        axes = arrangement.axes if len(orders) > 1 else {ALL: arrangement.axes["query"]}
        yield "--layout " + written(
            {
                name: tuple("total" if packed and axis == "T" else axis for axis in words)
                for name, words in axes.items()
                if name != "out" or arrangement.output is not None
            }
        )


_TELLING = ("mask", "enc_mask", "lengths", "packing", "segments", "groups")


def _apart(holding: list[Judged], missed: list[Judged]) -> Iterator[str]:
    """Say what tells readings apart, or would."""
    told = set[str]()
    for one in missed if holding else []:
        best, other = holding[0].candidate, one.candidate
        differing = [x for x in _TELLING if best.setting.says.get(x) != other.setting.says.get(x)]
        alike = best.setting.arrangement is other.setting.arrangement
        if len(differing) != 1 or not alike or one.verdict.fails.all():
            continue
        said = other.setting.says.get(differing[0], "")
        if said and said not in told:
            told.add(said)
            where = failures(one.verdict.fails)
            places = "; ".join(place(x, one.verdict.fails.shape) for x in where[:3])
            more = f" and {len(where) - 3} more" if len(where) > 3 else ""
            yield f"not {said}: told apart by {places}{more}"
    if len(holding) > 1:
        yield "to tell them apart: " + _would_tell(holding[0], holding[1])


def _would_tell(a: Judged, b: Judged) -> str:
    ours, theirs = a.candidate.setting, b.candidate.setting
    if ours.arrangement.orders != theirs.arrangement.orders:
        return "sizes that all differ"
    for what, words in (
        ("mask", "a mask that hides keys with a large weight"),
        ("enc_mask", "a mask that hides keys with a large weight"),
        ("alibi", "T_enc other than T_dec"),
        ("groups", "keys that differ from head to head"),
        ("lengths", "an item of another length"),
        ("packing", "several sequences"),
        ("sinks", "sinks that are larger"),
        ("rotary", "longer sequences"),
    ):
        if ours.says.get(what) != theirs.says.get(what):
            return words
    if ours.align != theirs.align:
        return "T_enc other than T_dec"
    return "longer sequences and larger scores"
