"""Hold somebody's layer against the reference: numbers, contract, and the likely mistake."""

import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import near, outside
from attncli.checking.comparing.places import count_along_axes, patterns, places
from attncli.checking.comparing.rounding import UNITS, beyond
from attncli.checking.derivatives.boundaries import (
    SECONDS,
    Boundary,
    Sizes,
    boundary,
    within,
    work,
)
from attncli.checking.diagnosing.cases import (
    FLOATING_MASK,
    Case,
    Suite,
    beside_largest,
    dtypes_for,
)
from attncli.checking.diagnosing.diagnosis import diagnose
from attncli.checking.diagnosing.first_difference import first_difference
from attncli.checking.diagnosing.logsumexp import judge_logsumexp
from attncli.checking.diagnosing.observing import Observation, observe, rounded_at_the_end
from attncli.checking.diagnosing.repeating import UNCOMPUTED, repeated, reused
from attncli.checking.diagnosing.senses import TAKES_PART, Sense, senses_for
from attncli.checking.diagnosing.untried import untried
from attncli.checking.diagnosing.weighted import check_weighted
from attncli.checking.targets.arguments import likeliest, neutral
from attncli.checking.targets.arranging import (
    TABLES,
    arranged,
    holds_all,
    takes_tables,
    turning,
    usual_layouts,
)
from attncli.checking.targets.given import Given, Shapes
from attncli.checking.targets.loading import as_named, reports_on, targets_of
from attncli.checking.targets.target import Layer, Target, layer_named, real_array, same
from attncli.checking.targets.unfilled import describe_unfilled
from attncli.core.semantics import Semantics
from attncli.errors import CodeError, NoLayerError, ParameterError, TargetError
from attncli.operations import OPERATIONS, WITH_WEIGHTS
from attncli.operations.layout import ALL, SIDE_BY_SIDE, written
from attncli.operations.steps import QKV
from attncli.reports import CheckReport, CheckReports, Finding, Part, Status
from attncli.tensors import axes_of
from attncli.translation import Sentence, joined

# To call it right but for its precision, float64 results must agree to this.
_FLOAT32_AGREEMENT = beside_largest(1e-5)
# Elements that are further off than this are told apart, to say where they are.
_RIGHT = beside_largest(1e-9)
# Other layouts than ours.
_LAYOUTS: tuple[Mapping[str, tuple[str, ...]], ...] = (
    {ALL: ("T", "N", "H")}, {ALL: ("N", "T", "heads", "H")}, {"out": ("N", "T", "heads", "H")},
    {ALL: ("T", "N", "heads", "H")}, {ALL: ("N", "T", SIDE_BY_SIDE)},
    {ALL: ("T", "N", SIDE_BY_SIDE)},
)  # fmt: skip
# What code for accelerators wants steps and head sizes to be multiples of.
_BLOCKS: tuple[Sizes, ...] = (
    {"T_dec": 16, "T_enc": 16}, {"H": 16}, {"T_dec": 16, "T_enc": 16, "H": 16},
    {"T_dec": 64, "T_enc": 64, "H": 64}, {"T_dec": 128, "T_enc": 128, "H": 64},
    {"T_dec": 128, "T_enc": 128, "H": 128},
)  # fmt: skip
# Sizes that no calculation takes any time for.
_LEAST = {"N": 1, "T_dec": 2, "T_enc": 2, "H": 2}
# So many sizes that are right tell one mistake from another.
_TELLING = 4
_LINE = 72
# How often what may be drawn at random is drawn again.
_DRAWS = 20
_START_SIZES = {"N": 2, "T_dec": 3, "T_enc": 5, "H": 4}
# What there is a reference for.
_KNOWN = tuple(name for name in OPERATIONS if name not in WITH_WEIGHTS)


def check(
    thing: Any,
    *,
    layer: str | None = None,
    scale: float | None = None,
    causal: str | None = None,
    align: str | None = None,
    window: int | tuple[int, int] | None = None,
    softcap: float | None = None,
    arguments: Mapping[str, Any] | None = None,
    inputs: Shapes | None = None,
    layout: str | Mapping[str, tuple[str, ...]] | None = None,
    dtype: str | None = None,
    thorough: bool = False,
) -> CheckReport:
    """Check a layer against the reference, and name the likely mistake where it differs.

    Parameters
    ----------
    thing : class, instance, function, pair of functions, str, or path
        ``"file.py:Name"`` or ``"package.module:Name"`` names one in a file, which runs in a process
        of its own; ``"file.py"`` names every layer in it.  What is given as an object runs in this
        one, with nothing between: what it changes, prints or ends is yours.
    layer : str, optional
        ``"softmax"``, ``"weight-sum"``, ``"attention-weight"``, ``"attention"``,
        ``"time-attention"``, ``"scaled-dot-product"``, ``"luong"``, ``"bahdanau"`` or
        ``"multi-head"``; default: what names and arguments say.
    scale, causal, align, window, softcap
        What it is meant to compute, as `attncli.operations.Semantics` has them.
    arguments : mapping of str to object, optional
        What the constructor is given, or forward, where names do not say it.
    inputs : mapping of str to tuple of int, optional
        The shapes of random arrays for the constructor.
    layout : str, optional
        In which order the axes of its tensors come, as ``"N,T,heads,H"``; default: as in this
        package.
    dtype : {"float64", "float32", "float16", "bfloat16"}, optional
        What it is meant to compute in: inputs are rounded to it first, and its results are held
        to what it can give.  A target that refuses it is given what it takes, which is said.
        Default: float64, or float32 where code of torch or JAX is right to that alone.
    thorough : bool, default False
        Whether sizes are tried up to T = 1,025, H = 257 and 40 heads: longer than a moment.

    Returns
    -------
    CheckReport
        ``bool(report)`` is the verdict, ``report.diagnoses`` the mistakes, best first.  Of several
        layers it holds the ``reports`` on each, is true if all are, and broken code is one of them.

    Raises
    ------
    CodeError
        If loading it fails, or it lacks a method.
    TargetError
        If there is no such thing, it cannot be called, or it is not clear which layer it is.

    Examples
    --------
    >>> from attncli.layers import WeightSum
    >>> class Mine(WeightSum):
    ...     def forward(self, hs, a):
    ...         return super().forward(hs, a) / a.shape[1]
    >>> report = check(Mine, layer="weight-sum")
    >>> report.passed, report.diagnoses[0].mistakes[0].name
    (False, 'mean instead of sum over T')
    """
    claims = Semantics(scale, causal, align, window, softcap)
    if dtype is not None and dtype not in UNITS:
        raise ParameterError(
            Sentence(
                "dtype is {dtype}, expected one of {names}",
                dtype=repr(dtype),
                names=", ".join(UNITS),
            )
        )

    def judge(target: Target) -> CheckReport:
        return _judged(target, claims, layer=layer, dtype=dtype, thorough=thorough)

    thing = as_named(thing)
    targets = targets_of(thing, Given.of(arguments, inputs, layout))
    if len(targets) > 1:
        return CheckReports.of(thing, claims.described(), reports_on(thing, targets, judge))
    try:
        return judge(targets[0])
    finally:
        if isinstance(thing, str):
            targets[0].end()


def _judged(
    target: Target, claims: Semantics, *, layer: str | None, dtype: str | None, thorough: bool
) -> CheckReport:
    target = target.claiming(claims.given())
    if target.fault is not None:
        raise target.fault
    if layer not in (None, *OPERATIONS):
        raise ParameterError(
            Sentence("no layer {layer}: there is {names}", layer=layer, names=", ".join(OPERATIONS))
        )
    if layer in WITH_WEIGHTS or (layer is None and _has_weights(target)):
        if (report := _with_weights(target, claims, layer)) is not None:
            return report
        if layer is not None:
            target.start({**_START_SIZES, **target.sizes_said})
            raise NoLayerError(
                Sentence(
                    "{where}: it has no weights that {layer} could have",
                    where=target.where,
                    layer=layer,
                )
            )
    chosen, target = _as_layer(target, layer)
    with np.errstate(all="ignore"):  # their numbers may be anything
        return _Check(target, chosen, claims, dtype=dtype, thorough=thorough).report()


def _as_layer(target: Target, layer: str | None) -> tuple[str, Target]:
    """Say which layer a target is, and give it with its inputs in the order of that layer's.

    Raises
    ------
    TargetError
        If nothing says it, or that layer takes other inputs.
    """
    chosen = layer or guess_layer(target)
    if len(target.inputs) == len(OPERATIONS[chosen].inputs):
        target = target.in_order(OPERATIONS[chosen].inputs)
    elif not (chosen == QKV and holds_all(target)):
        raise NoLayerError(
            Sentence(
                "{where}: forward takes {names}; {chosen} takes {expected}",
                where=target.where,
                names=", ".join(target.inputs),
                chosen=chosen,
                expected=", ".join(OPERATIONS[chosen].inputs),
            ),
            hint=_as_another(target),
        )
    return chosen, target


def lacks(target: Target, layer: str | None) -> str | None:
    """Give the option that must be said, or said otherwise, before a target can be judged."""
    try:
        if target.fault is None and layer not in WITH_WEIGHTS and not _has_weights(target):
            _as_layer(target, layer)
    except NoLayerError as error:
        return error.hint
    except TargetError:  # said where it is judged
        pass
    return None


def _has_weights(target: Target) -> bool:
    """Whether it has weights of its own.

    Raises
    ------
    TargetError
        If nothing says what its constructor is to be given.
    """
    try:
        return bool(target.start({**_START_SIZES, **target.sizes_said}).parameters)
    except CodeError:  # what is wrong is said case by case
        return False


def _with_weights(target: Target, claims: Semantics, kind: str | None) -> CheckReport | None:
    """Check a layer with weights of its own, if it is one that can be run."""
    try:
        with np.errstate(all="ignore"):
            return check_weighted(target, claims, kind)
    except TargetError:  # what is wrong is said by the check of every other layer
        return None


def guess_layer(target: Target) -> str:
    """Say which layer a target is: by its name, else by what its inputs are called.

    Raises
    ------
    TargetError
        If neither says it.
    """
    if holds_all(target):
        return QKV
    named = layer_named(target.name)
    if named is not None and len(OPERATIONS[named].inputs) == len(target.inputs):
        return named
    # (hs, h) is also what AttentionWeight takes, but that has it in its name.
    among = {x: OPERATIONS[x].inputs for x in _KNOWN if x != "attention-weight"}
    if (found := likeliest(target.inputs, among)) is not None:
        return found
    if len(target.inputs) == 3 and named in (None, "attention"):
        return QKV
    target.start({**_START_SIZES, **target.sizes_said})  # what it raises is what should be said
    raise NoLayerError(
        Sentence(
            "{where}: forward takes {names}: which layer is it?",
            where=target.where,
            names=", ".join(target.inputs),
        ),
        hint=_as_another(target),
    )


def _as_another(target: Target) -> str | None:
    """Say as which layer it could be checked: the last that takes as much as it does."""
    count = len(target.inputs)
    fitting = [name for name in _KNOWN if len(OPERATIONS[name].inputs) == count]
    return f"--as {fitting[-1]}" if fitting else None


class _Verdict(NamedTuple):
    """What is wrong with a part in a case, in a sentence, and which arrays hold other numbers."""

    fault: str = ""
    off: tuple[str, ...] = ()


class _Findings(list[Finding]):
    """Findings one after the other, each of which took the time since the one before.

    Those that come in a list were found together, and share it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begin()

    def begin(self) -> None:
        """Count from now on."""
        self._last = time.perf_counter()

    def append(self, finding: Finding) -> None:
        """Add one that was found by now."""
        self.extend([finding])

    def extend(self, findings: Iterable[Finding]) -> None:
        """Add more; what gives them one by one finds them as it is asked."""
        if not isinstance(findings, list):
            for one in findings:
                self.append(one)
            return
        now = time.perf_counter()
        share = (now - self._last) / max(len(findings), 1)
        self._last = now
        super().extend(one if one.seconds else replace(one, seconds=share) for one in findings)


class _Check:
    def __init__(
        self, target: Target, layer: str, claims: Semantics, *, dtype: str | None,
        thorough: bool,
    ) -> None:  # fmt: skip
        self.layer, self.claims = layer, claims
        self.dtype, self.asked, self.thorough = dtype or "float64", dtype is not None, thorough
        self.names = OPERATIONS[layer].inputs
        self.plain = target
        self.target = arranged(target, target.given.layout, self.names)
        self.findings = _Findings()
        self.trace: tuple[str, ...] = ()
        self.is_lost = False  # its process ended in a case that it has to take
        self.alone = ""  # why backward is not judged
        self.differs = False  # whether numbers are wrong, and not only calls
        # What memory holds that is never filled, where there is such: the same in every call.
        self.memory: float | None = None
        self.repeated = _Findings()
        self.seen: list[Observation] = []
        self.changed: dict[str, str] = {}  # an input that forward changes, and in which case first

    def report(self) -> CheckReport:
        suite = self._fitting()
        self._align(suite)
        self._say_given(suite)
        # Some code runs where sizes are equal alone.
        for case in (suite.ordinary(), suite.square()):
            if self.memory is None:
                self._find_unfilled(case)
        if not self.is_lost:  # it would be again, which takes as long
            self._repeat(suite)
        self.findings.begin()
        with self.target.calls.under(memory=self.memory):
            report = self._report(suite)
        if not report.passed:
            self._refuse_weights(suite.ordinary())
        return report

    def _repeat(self, suite: Suite) -> None:
        """Call it several times, in a process that nobody has called yet."""
        fresh = self.target.anew()
        with fresh.calls.under(memory=self.memory, seed=0):
            self.repeated.begin()
            self.repeated.extend(repeated(fresh, suite.ordinary(), self.names))
            self.repeated.extend(reused(fresh, suite))
        if fresh.end != self.target.end:  # it is a process of its own
            fresh.end()

    def _fitting(self) -> Suite:
        """The suite in which the target is right, else the first that it takes.

        What a framework's code computes may be right to float32 alone, whatever it is given.
        """
        suite = self._turned() if takes_tables(self.target) else self._suite()
        found = self._laid_out(suite)
        if found or self.asked or not suite.framework or suite.precision != "float64":
            return found or suite
        target, findings = self.target, self.findings
        self.findings, self.dtype = _Findings(), "float32"
        found = self._laid_out(self._suite())
        if found is not None:
            detail = "results are right to float32 alone: so is every case, and the tolerance"
            self.findings.append(Finding("float64 inputs", "contract", "note", detail))
            return found
        self.target, self.findings, self.dtype = target, findings, "float64"
        return suite

    def _ask_senses(self, suite: Suite) -> None:
        """Find in which sense masks are taken, by what they hide, whatever else may be wrong."""

        def hides(name: str, sense: Sense) -> bool:
            pairs = [
                [_results(self.target.start(case.sizes), case, None)[0] for case in pair]
                for pair in suite.hidden(name, sense)
            ]
            return all(a is not None and same(a, b) for a, b in pairs)

        for name in suite.masks:
            senses = senses_for(name, published=self.target.published)
            sense = next((one for one in senses if hides(name, one)), TAKES_PART)
            if sense is not TAKES_PART:
                suite.senses[name] = sense
                detail = f"{name}: {sense.words}"
                self.findings.append(Finding("mask", "contract", "note", detail))

    def _judge_alone(self, seen: Observation) -> None:
        """Leave backward out where a framework has none of what forward gives."""
        self.alone = seen.layer.facts.alone if seen.layer is not None else ""
        if self.alone:
            self.target = replace(self.target, has_backward=False)
        layer = seen.layer if self.target.frameworks else None
        if layer is not None and layer.held("training") is False:
            detail = "the module is judged in eval mode"
            self.findings.append(Finding("mode", "contract", "note", detail))

    def _refuse_weights(self, case: Case) -> None:
        """Say of a layer with weights that the reference, which has none, is no measure of it."""
        try:
            count = len(self.target.start(case.sizes).parameters)
        except TargetError:  # reported already
            return
        if count:
            arrays = "array" if count == 1 else "arrays"
            raise TargetError(
                Sentence(
                    "{where}: this layer has weights of its own ({count} {arrays} in params), "
                    "and {layer} has none to compare them with",
                    where=self.target.where,
                    count=count,
                    arrays=arrays,
                    layer=self.layer,
                ),
                hint="attn gradcheck proves its gradients",
            )

    def _find_unfilled(self, case: Case) -> None:
        def run() -> list[Any] | None:
            seen = self._observe(case)
            usable = seen.out is not None and not seen.forward_fault
            return [seen.out, *(seen.gradients or [])] if usable else None

        detail = describe_unfilled(
            self.target.calls, run, ["out", *(f"d{name}" for name in self.names)]
        )
        if detail:
            self.memory = 0.0
            self.findings.append(Finding("every element filled", "contract", "wrong", detail))

    def _report(self, suite: Suite) -> CheckReport:
        observations, elsewhere = [], False
        for case in suite.cases():
            seen = self._as_read(self._observe(case))
            observations.append(seen)
            before, self.differs = self.differs, False
            self._judge(seen)
            # What is wrong where a row sees no key says nothing of sizes.
            elsewhere = elsewhere or (self.differs and _every_row_sees(case))
            self.differs = self.differs or before
        if not elsewhere:  # else they would show the same mistake again
            observations += self._judge_large(suite)
        ordinary = observations[0]
        if ordinary.out is not None and not ordinary.forward_fault:
            self.findings.extend(self._contract(ordinary.case, ordinary))
            self.findings.extend(self._untried(ordinary.case))
        self.findings.extend(judge_logsumexp(self.seen))
        self.findings.extend(self.repeated)
        if not self.target.has_backward:
            detail = Sentence(
                "{reason}: forward is judged alone", reason=self.alone or "there is none"
            )
            self.findings.append(Finding("backward", "contract", "note", detail))
        failed = [f.name for f in self.findings if f.status == "wrong" and f.part == "contract"]
        passed = all(finding.status != "wrong" for finding in self.findings)
        usable = [o for o in observations if o.out is not None and not o.forward_fault]
        silent = usable and all(o.gradients is None for o in usable)
        empty = usable and not any(o.out.any() for o in usable if o.out is not None)
        uncomputed = [name for name in failed if name in UNCOMPUTED]
        if empty or uncomputed:
            observations, self.differs = [], False  # nothing can be told by such numbers
            failed = uncomputed or failed
        elif self.memory is not None:  # said already, and what is not written may have a reason
            failed.remove("every element filled")
        diagnoses = () if passed else diagnose(self.layer, observations, failed, self.claims)
        # Where the mistake is known, what follows from it along the chain is no news.
        explained = any((silent or d.explains == "everything") and not d.beside for d in diagnoses)
        look_inside = self.differs and not passed and not explained
        return CheckReport(
            self.target.where,
            self.layer,
            self.claims.described(),
            tuple(self.findings),
            diagnoses,
            first_difference(self._observe, suite, self.layer) if look_inside else (),
            self.differs,
            usable[0].backward_fault if silent else "",
            self.trace,
        )

    def _suite(self, like: Suite | None = None, *, in_blocks: bool = True) -> Suite:
        """The suite in what the target takes: as many axes, the dtype, sizes that are said.

        Sizes that are whole blocks, which take longer, are what some kernels want.
        """
        refusal = like.refusal if like is not None else ""
        suites: list[Suite] = []
        all_axes = (4, 3, 2) if self.layer == QKV else (3,)
        sizes: list[tuple[Sizes, Sizes]] = [({}, {})]
        sizes += [(said, {}) for said in filter(None, [self.target.sizes_said])]
        in_blocks = in_blocks and bool(self.target.frameworks)
        sizes += [({}, blocks) for blocks in (_BLOCKS if in_blocks else ())]
        dtypes = list(dtypes_for(self.dtype))
        if like is not None and like.is_taken:
            sizes, dtypes = [(like.said, like.blocks)], [(like.precision, like.dtype)]
        for said, blocks in sizes:
            for precision, dtype in dtypes:
                raised = True
                for axes in all_axes:
                    suite = Suite(
                        self.layer, self.claims, self.target.options, axes,
                        precision=precision, dtype=dtype, said=said,
                        blocks={**self.target.blocks, **blocks},
                        alike=self.target.is_alike,
                    )  # fmt: skip
                    suites.append(suite)
                    for case in (suite.ordinary(), suite.square()):
                        seen = self._observe(case)
                        if seen.out is not None and not seen.forward_fault:
                            self._say_taken(suite, refusal)
                            suite.is_taken, suite.refusal = True, refusal
                            self._judge_alone(seen)
                            layer = seen.layer
                            suite.framework = bool(layer is not None and layer.facts.framework)
                            suite.throughout = not rounded_at_the_end(seen)
                            self._ask_senses(suite)
                            return suite
                        refusal = refusal or seen.forward_fault
                        raised = raised and seen.error is not None
                if not raised:  # it is taken, and something else comes out
                    break
        return next(suite for suite in suites if suite.axes == 3)

    def _turned(self) -> Suite:
        """The suite with cosines and sines in the form in which the target is right, if in any."""
        given, taken = self.target, None
        for in_blocks, tables in product((False, True), TABLES):
            if in_blocks and taken is not None:
                break
            self.target = turning(given, tables)
            suite = self._suite(in_blocks=in_blocks)
            if self._right(suite.ordinary()):
                detail = Sentence(
                    "are given as {described}, query and key turned back by them",
                    described=tables.described,
                )
                self.findings.append(Finding("cos and sin", "contract", "note", detail))
                return suite
            if suite.is_taken and taken is None:
                taken = self.target, suite
        self.target, suite = taken or (self.target, suite)
        return suite

    def _laid_out(self, suite: Suite) -> Suite | None:
        """The suite if the target is right in it, else in another layout, which is said."""
        said, usual = self.plain.given.layout, usual_layouts(self.plain)
        if self._right(suite.ordinary()):
            if usual and not said:
                detail = Sentence("arrays are {described}", described=_described(usual[0]))
                self.findings.append(Finding("layout", "contract", "note", detail))
            return suite
        given, findings = self.target, self.findings
        for layout in [{ALL: words} for words in usual] or _LAYOUTS:
            ((where, words),) = layout.items()
            headed = bool({"heads", SIDE_BY_SIDE} & {*words})
            if layout == given.given.layout or (headed and self.layer != QKV):
                continue
            self.target, self.findings = arranged(self.plain, layout, self.names), _Findings()
            found = self._suite(suite)
            if found.axes == 3 + headed and self._right(found.ordinary()):
                taken = _described(words)
                meant = written(said) or ("(N, heads, T, H)" if headed else "(N, T, H)")
                if where:
                    taken = Sentence(
                        "{meant}, and {where} as {taken}", meant=meant, where=where, taken=taken
                    )
                detail = Sentence(
                    "arrays are taken and given as {taken}, expected {meant}",
                    taken=taken,
                    meant=meant,
                )
                option = Sentence(
                    "--layout {written} if they are meant so", written=written(layout)
                )
                said_so = Finding(
                    "layout",
                    "contract",
                    "wrong",
                    Sentence("{detail}: {option}", detail=detail, option=option),
                )
                if not said and (usual or self.target.published):
                    said_so = replace(
                        said_so, status="note", detail=Sentence("arrays are {taken}", taken=taken)
                    )
                self.findings.append(said_so)
                return found
        self.target, self.findings = given, findings
        return None

    def _right(self, case: Case) -> bool:
        seen = self._observe(case)
        return not any(verdict.fault for verdict in self._verdicts(seen).values())

    def _align(self, suite: Suite) -> None:
        """Let what nobody says the alignment of be aligned as the code does it."""
        if self.claims.causal is not None or self.claims.align is not None:
            return
        right = {}
        for align in ("lower_right", "upper_left"):
            suite.align = align
            seen = [self._observe(case) for case in suite.banded()]
            right[align] = sum(not self._verdicts(one)["forward"].fault for one in seen)
        if right["lower_right"] > right["upper_left"]:
            suite.align = "lower_right"
            detail = (
                "causal order and windows are aligned at the end: the last query is at the last key"
            )
            self.findings.append(Finding("lower right", "contract", "note", detail))

    def _say_given(self, suite: Suite) -> None:
        """Say which options have a default that does something, and are turned off."""
        options = self.target.options
        for name, value in neutral(options, suite.usual).items():
            if options[name] is not ...:
                detail = Sentence(
                    "{name}={value} is given: its default is {options}",
                    name=name,
                    value=value,
                    options=options[name],
                )
                self.findings.append(Finding(name, "contract", "note", detail))

    def _say_taken(self, suite: Suite, refusal: str) -> None:
        if suite.blocks != self.target.blocks:
            sizes = joined(
                Sentence("{axis} of {size}", axis=axis, size=size)
                for axis, size in suite.blocks.items()
            )
            detail = Sentence(
                "multiples in every case, {sizes}: others are refused ({refusal})",
                sizes=sizes,
                refusal=refusal,
            )
            self.findings.append(Finding("sizes", "contract", "note", detail))
        if suite.said:
            sizes = ", ".join(f"{axis} = {size}" for axis, size in suite.said.items())
            detail = Sentence(
                "{sizes} in every case, as its arguments say: others are refused", sizes=sizes
            )
            self.findings.append(Finding("sizes", "contract", "note", detail))
            return
        taken = suite.dtype.name
        if taken == self.dtype:
            return
        if suite.precision == self.dtype:
            taken = Sentence("{taken} that holds numbers of {dtype}", taken=taken, dtype=self.dtype)
        said = {"dtype": self.dtype, "refusal": refusal, "taken": taken}
        detail = Sentence("{dtype} is refused ({refusal}): every case is in {taken}", **said)
        if suite.precision != self.dtype:
            also = (
                "{dtype} is refused ({refusal}): every case is in {taken}, and so is the tolerance"
            )
            detail = Sentence(also, **said)
        self.findings.append(
            Finding(Sentence("{dtype} inputs", dtype=self.dtype), "contract", "note", detail)
        )

    def _observe(self, case: Case) -> Observation:
        with self.target.calls.under(seed=0):
            seen = observe(self.target, case, self.names)
        if seen.error is not None and not self.is_lost:
            if case.optional:
                # What it need not take may have cost its process, as memory that is not its own.
                self.target.revive()
            else:  # its process ended, for which there is no traceback: it would again
                self.is_lost = not seen.error.trace
        return seen

    def _as_read(self, seen: Observation) -> Observation:
        """What was observed; of a floating mask that is read as 0 and not 0, beside that."""
        mask, name = seen.case.mask, FLOATING_MASK
        if seen.case.name != name or mask is None or seen.not_taken:
            return seen
        read = replace(seen, case=replace(seen.case, mask=mask != 0))
        if not _any_fault(self._verdicts(seen)) or _any_fault(self._verdicts(read)):
            return seen
        detail = "it is read as 0 and not 0, and not added to the scores"
        self.findings.append(Finding(name, "contract", "note", detail))
        return read

    def _judge(self, seen: Observation, since: Mapping[Part, Boundary] = {}) -> None:
        """Say of forward and of backward whether they are as they should be, or since when not."""
        case = seen.case
        self.seen.append(seen)
        for i in seen.changed:
            if i < len(self.names):
                self.changed.setdefault(self.names[i], case.name)
        if seen.error is not None and not case.optional:
            self.trace = self.trace or seen.error.trace
        if seen.not_taken:
            detail = _shortened(
                Sentence("not taken: {forward_fault}", forward_fault=seen.forward_fault)
            )
            self.findings.append(Finding(case.name, "forward", "skipped", detail))
            return
        found = list[Finding]()
        for part, verdict in self._verdicts(seen).items():
            self.differs = self.differs or (bool(verdict.off) and not self._lenient(case))
            fault = verdict.fault
            if part in since:
                what = ", ".join(verdict.off) or fault
                fault = Sentence("{what}: {since}", what=what, since=since[part].said)
            status: Status = "ok"
            if fault:
                status = "note" if self._lenient(case) else "wrong"
            found.append(Finding(case.name, part, status, fault))
        self.findings.extend(found)

    def _verdicts(self, seen: Observation) -> "dict[Part, _Verdict]":
        """Say of forward and of backward what is wrong."""
        if seen.forward_fault:
            return {"forward": _Verdict(seen.forward_fault)}
        truth, case = seen.case.truth, seen.case
        forward = _compared(
            case, "out", seen.out, truth.results["out"], truth.rounding.results["out"]
        )
        if not self.target.has_backward:
            return {"forward": forward}
        backward = _Verdict(seen.backward_fault)
        if seen.gradients is not None:
            arrays = zip(seen.gradients, truth.gradients, truth.rounding.gradients, strict=True)
            pairs = zip(self.names, arrays, strict=True)
            backward = _together(_compared(case, f"d{name}", *three) for name, three in pairs)
        return {"forward": forward, "backward": backward}

    def _judge_large(self, suite: Suite) -> list[Observation]:
        """Judge the sizes that cross tiles; give what tells of a mistake that shows there alone."""
        since: dict[Part, Boundary] = {}
        telling: list[Observation] = []
        grouped = all(
            finding.status != "skipped" for finding in self.findings if "grouped" in finding.name
        )
        beside: float | None = None  # seconds that a call takes beside its products
        pace = np.inf  # seconds for each product to add up, where there is least to do beside
        for asked in suite.large(thorough=self.thorough, grouped=grouped):
            assert asked.resized is not None
            sizes = within(
                asked.sizes, SECONDS / pace if np.isfinite(pace) else np.inf, suite.usual
            )
            case = asked if sizes is asked.sizes else asked.resized(sizes)
            if case is not asked:
                detail = Sentence(
                    "{asked}: more than {limit} s, so it is {case}",
                    asked=asked.name,
                    limit=f"{SECONDS:g}",
                    case=case.name,
                )
                self.findings.append(Finding("large sizes", "contract", "note", detail))
            if beside is None:  # what is compiled, and the like: no size makes it longer
                began = time.monotonic()
                self._observe(suite.sized("least", {**suite.usual, **_LEAST}))
                beside = time.monotonic() - began
            began = time.monotonic()
            seen = self._observe(case)
            taken = time.monotonic() - began
            if beside > taken / 2:
                taken = max(taken - beside, taken / 8)
            pace = min(pace, taken / case.work)
            here: dict[Part, Boundary] = {}
            for part, verdict in self._verdicts(seen).items():
                if seen.not_taken or not verdict.fault or not _every_row_sees(case):
                    continue
                found = since.get(part)
                if found is None or case.sizes[found.axis] < found.wrong:
                    tried: list[Observation] = []
                    wrong = partial(self._is_wrong, part, tried, case)
                    found = boundary(wrong, case.sizes, suite.usual)
                    if found is not None:
                        telling += _telling(tried, found)
                if found is not None:
                    since[part] = here[part] = found
            self._judge(seen, here)
        return telling

    def _is_wrong(self, part: Part, tried: list[Observation], case: Case, sizes: Sizes) -> bool:
        assert case.resized is not None
        tried.append(self._observe(replace(case.resized(sizes), probe=True)))
        verdict = self._verdicts(tried[-1]).get(part)
        return verdict is not None and bool(verdict.fault)

    def _lenient(self, case: Case) -> bool:
        """Whether a difference is worth a note: what no key is seen by, packages differ in."""
        if case.lenient or not self.target.published:
            return case.lenient
        weights = case.truth.results.get("weights")
        return weights is not None and not weights.any(axis=-1).all()

    def _untried(self, case: Case) -> Iterator[Finding]:
        tried = {name for seen in self.seen if not seen.not_taken for name in seen.case.options}

        def results(options: Mapping[str, Any]) -> Any:
            layer = self.target.start(case.sizes)
            with self.target.calls.under(seed=0):
                return _results(layer, replace(case, options={**case.options, **options}), None)

        yield from untried(self.target.options, tried, results, case.sizes)

    # What a layer does beside computing.

    def _contract(self, case: Case, first: Observation) -> Iterator[Finding]:
        forward = self._observe_plainly(case, forward_alone=True)
        again = self._observe_plainly(case)
        deterministic = same(again, self._observe_plainly(case)) and all(
            same(forward, self._observe_plainly(case, forward_alone=True))
            for _ in range(_DRAWS - 1)
        )
        yield self._finding(
            "deterministic", deterministic, "the same input gives different results"
        )
        yield from self._unchanged(case)
        if deterministic:
            yield self._finding(
                "called twice",
                self._twice(case, first),
                "a second forward and backward of the same instance gives others",
            )
            yield self._finding(
                "two instances at once",
                self._two_instances(case, first),
                "an instance gives others after a second one has run",
            )
        # Where out is wrong, wrong weights are a part of that, and not another fault.
        results, far = case.truth.results, case.truth.rounding.results
        right = not _compared(case, "out", first.out, results["out"], far["out"]).fault
        if right and "weights" in results and self.layer != QKV:
            name = "attention_weights" if self.layer == "time-attention" else "attention_weight"
            yield self._weights(first, name)
        wrong = any(finding.status == "wrong" for finding in self.findings)
        if wrong and case.precision == "float64":
            yield from self._precision(case, first)
        yield self._lists(first)

    def _finding(self, name: str, holds: bool, otherwise: str) -> Finding:
        return Finding(name, "contract", "ok" if holds else "wrong", "" if holds else otherwise)

    def _observe_plainly(self, case: Case, *, forward_alone: bool = False) -> tuple[Any, ...]:
        """What forward and backward give, without a seed."""
        layer = self.target.start(case.sizes)
        return _results(layer, case, None if forward_alone else case.dout)

    def _unchanged(self, case: Case) -> Iterator[Finding]:
        layer = self.target.start(case.sizes)
        dout_changed = False
        try:
            layer.forward(*case.inputs, **case.options)
            layer.backward(case.dout)
            dout_changed = bool(layer.facts.changed)
        except TargetError:
            pass  # reported already
        names, where = ", ".join(self.changed), {*self.changed.values()} - {case.name}
        changed = Sentence("{names} is changed", names=names)
        if where:
            changed = Sentence("{names} is changed ({where})", names=names, where=joined(where))
        yield self._finding("inputs unchanged", not self.changed, changed)
        yield self._finding("dout unchanged", not dout_changed, "backward changes it")

    def _twice(self, case: Case, first: Observation) -> bool:
        layer = self.target.start(case.sizes)
        other = replace(case, inputs=[array[::-1] + 1 for array in case.inputs])
        _results(layer, other, first.dout)
        return same(_results(layer, case, first.dout), self._observe_plainly(case))

    def _two_instances(self, case: Case, first: Observation) -> bool:
        """Run one forward, another one forward on other inputs, then the first one backward."""
        one = self.target.start(case.sizes)
        try:
            out = one.forward(*case.inputs, **case.options)
            two = self.target.start(case.sizes)
            two.forward(*(array[::-1] + 1 for array in case.inputs), **case.options)
            gradients = one.backward(first.dout)
        except TargetError:
            return True  # reported already
        return same((out, gradients), self._observe_plainly(case))

    def _weights(self, first: Observation, name: str) -> Finding:
        assert first.layer is not None
        held = first.layer.held(name)
        if first.weights is not None:
            expected, far = (
                x.results["weights"] for x in (first.case.truth, first.case.truth.rounding)
            )
            off = _compared(first.case, name, first.weights, expected, far).fault
            return self._finding(
                "weights right", not off, Sentence("{name} holds other numbers", name=name)
            )
        if held is None:
            # Code that never had the name has no use for it.
            status: Status = "wrong" if name in first.layer.names() else "note"
            detail = Sentence("{name} is not filled by forward", name=name)
            return Finding("weights kept", "contract", status, detail)
        shape = np.shape(held) if real_array(held) is not None else type(held).__name__
        form = "one (N, T_enc) for every decoder step" if name.endswith("s") else "(N, T_enc)"
        return self._finding(
            "weights kept",
            False,
            Sentence("{name} holds {shape}, expected {form}", name=name, shape=shape, form=form),
        )

    def _precision(self, case: Case, first: Observation) -> Iterator[Finding]:
        """Tell a wrong result from one that is right to seven digits."""
        truth = case.truth
        pairs = [
            (first.out, truth.results["out"]),
            *zip(first.gradients or [], truth.gradients, strict=False),
        ]
        found = [near(np.asarray(a), b, _FLOAT32_AGREEMENT) for a, b in pairs]
        farthest = max(one.relative for one in found)
        if all(one.agrees for one in found) and farthest > case.tolerance.relative:
            yield self._finding(
                "float64 precision",
                False,
                Sentence("right to {farthest} only, as float32 is", farthest=f"{farthest:.0e}"),
            )

    def _lists(self, first: Observation) -> Finding:
        """``params`` and ``grads`` are lists of one length, as optimisers expect."""
        assert first.layer is not None
        held = {name: first.layer.held(name) for name in ("params", "grads")}
        lists = [one for one in held.values() if isinstance(one, list)]
        if len(lists) == 2:
            same = len(lists[0]) == len(lists[1])
            return self._finding("params and grads", same, "they are not of one length")
        if lists:
            (missing,) = (name for name, one in held.items() if not isinstance(one, list))
            alike = get_close_matches(missing, set(first.layer.names()) - set(held), 1)
            meant = Sentence(": is {alike} meant to be it?", alike=alike[0]) if alike else ""
            return self._finding(
                "params and grads",
                False,
                Sentence("there is no list {missing}{meant}", missing=missing, meant=meant),
            )
        return Finding(
            "params and grads", "contract", "note", "the book's optimisers expect both as lists"
        )


def _described(words: tuple[str, ...]) -> str:
    """Say in which order axes come, and what that is.

    Examples
    --------
    >>> _described(("T", "N", "H")), _described(("N", "T", "heads", "H"))
    ('(T, N, H), time first', '(N, T, heads, H), time before the heads')
    """
    where = ""
    if words[0] == "T":
        where = ", time first"
    elif "total" in words:
        where = ", items one behind the other"
    elif "heads" in words and words.index("T") < words.index("heads"):
        where = ", time before the heads"
    return f"({', '.join(words)}){where}"


def _shortened(text: str) -> str:
    """What is no fault need not be read to the end."""
    return textwrap.shorten(text, _LINE, placeholder=" …")


def _results(layer: Layer, case: Case, dout: Array | None) -> tuple[Any, ...]:
    try:
        out = layer.forward(*case.inputs, **case.options)
        out = np.array(out) if real_array(out) is not None else out
        return out, None if dout is None else layer.backward(dout)
    except TargetError:
        return (None, None)


def _telling(tried: list[Observation], found: Boundary) -> list[Observation]:
    """The smallest sizes that are wrong, and some of those up to which it is right."""
    sizes = {one.case.sizes[found.axis]: one for one in tried if one.case.work <= work(found.sizes)}
    right = sorted(size for size in sizes if size <= found.right)[-_TELLING:]
    return [sizes[size] for size in (*right, found.wrong) if size in sizes]


def _compared(case: Case, name: str, observed: Any, right: Array, far: Array) -> _Verdict:
    """Compare what was observed with what is right, beside rounding."""
    tolerance = case.tolerance_of(name, right)
    found = near(beyond(np.asarray(observed), right, far), right, tolerance)
    return (
        _Verdict()
        if found.agrees
        else _Verdict(_how(observed, right, name, found.relative), (name,))
    )


def _every_row_sees(case: Case) -> bool:
    weights = case.truth.results.get("weights")
    return weights is None or bool(weights.any(-1).all())


def _any_fault(verdicts: Mapping["Part", _Verdict]) -> bool:
    return any(verdict.fault for verdict in verdicts.values())


def _together(verdicts: Iterable[_Verdict]) -> _Verdict:
    wrong = [verdict for verdict in verdicts if verdict.fault]
    return _Verdict(
        joined((x.fault for x in wrong), "; ") if wrong else "",
        tuple(name for x in wrong for name in x.off),
    )


def _how(observed: Array, expected: Array, name: str, far: float) -> str:
    """Say how an array differs: a pattern, a place, or by how much."""
    if observed.shape != expected.shape:
        return Sentence(
            "{name} is {shape}, expected {expected}",
            name=name,
            shape=observed.shape,
            expected=expected.shape,
        )
    bad = int((~np.isfinite(observed)).sum())
    if bad and np.isfinite(expected).all():
        return Sentence(
            "{name}: {bad} of {size} elements are NaN or infinite",
            name=name,
            bad=bad,
            size=observed.size,
        )
    found = patterns(observed, expected)
    if not found:
        wrong = outside(observed, expected, _RIGHT)
        if not wrong.all():
            found = places(count_along_axes(wrong), axes_of(name, observed.ndim))
    if not found:
        found = (Sentence("off by {far} of the largest element", far=f"{far:.1e}"),)
    return Sentence("{name}: {how}", name=name, how=joined(found))
