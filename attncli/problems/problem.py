"""What `forward` and `backward` are to compute: an operation and its tensors, drawn or read."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from attncli.arrays import Array, Tokens
from attncli.core import products
from attncli.core.blocks import sum_to
from attncli.core.engines import KEPT_LIMIT, KEPT_PAIR_LIMIT
from attncli.core.extras import Extras, Placed
from attncli.core.semantics import Semantics
from attncli.core.visibility import Visibility
from attncli.errors import AttnWarning, DataError, MemoryLimitError, ParameterError, ShapeError
from attncli.memory import readable, require
from attncli.operations import Operation, Pass, run
from attncli.operations.layout import Layout, written
from attncli.problems.beside import of_item, tensors_of
from attncli.problems.masks import combine_masks
from attncli.problems.request import Request
from attncli.problems.setting import rotary_of
from attncli.tensors import describe_shape, random_tensor
from attncli.version import __version__

if TYPE_CHECKING:
    from attncli.checking.comparing.budget import Budgets
    from attncli.files.regions import Region
    from attncli.reports import TensorComparison

TOKEN_AXES = {"tokens_enc": "T_enc", "tokens_dec": "T_dec"}

_SIZE_ORDER = ("N", "heads", "kv_heads", "T_dec", "T_enc", "H", "H_v", "H_dec", "A", "D")


class Claim(NamedTuple):
    """A result that somebody else put into the file.

    Attributes
    ----------
    name, result : str
        Its name, and that of our result which it is compared with.
    array : ndarray
    dtype : str
        What its numbers are in the file.
    """

    name: str
    result: str
    array: Array
    dtype: str


@dataclass(frozen=True)
class Problem:
    """An operation and the tensors it is to be run on.

    Attributes
    ----------
    request : Request
        What was asked for.
    operation : Operation
    inputs : dict of str to ndarray
        One for each of the operation's inputs, in our axes.
    origin : str
        Where the tensors come from.
    semantics : Semantics
        The options that change the result: those asked for, else those of the run that is read.
    layout : Layout
        The axes of inputs and results as they are in files, and are shown.
    masks : dict of str to ndarray
        mask, enc_mask and dec_mask, as far as there are any.
    extras : Extras
        Sinks, slopes, segments, sequences, lengths and dropout.
    dout, dlogsumexp : ndarray or None
        The incoming gradients, where a file has them, as the results are given.
    tokens : dict of str to ndarray of str
        ``tokens_enc`` and ``tokens_dec``, as far as there are any.
    claims : tuple of Claim
        Results that somebody else put into the file, to compare ours with.
    unused : tuple of str
        What the file holds beside.
    stored_seed : int
        The seed of the run that is read.
    regions : dict of str to Region
        Where tensors lie that are not read here: what stands in for them has their shape alone.
    """

    request: Request
    operation: Operation
    inputs: dict[str, Array]
    origin: str
    semantics: Semantics
    layout: Layout
    masks: dict[str, Array] = field(default_factory=dict)
    extras: Extras = Extras()  # noqa: RUF009 (it is frozen)
    dout: Array | None = None
    dlogsumexp: Array | None = None
    tokens: dict[str, Tokens] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    unused: tuple[str, ...] = ()
    stored_seed: int = 0
    regions: Mapping[str, Region] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """The seed of everything random: the one asked for, else the run's."""
        return self.stored_seed if self.request.seed is None else self.request.seed

    def item(self, n: int) -> Problem:
        """Return the problem of one item of the batch alone."""
        N = self.sizes["N"]

        def cut(name: str, x: Array) -> Array:
            # A mask may have no batch axis, or one that stands for all; a parameter has none.
            batched = name not in self.operation.parameters
            if name == "mask":
                batched = x.ndim == len(self._weights_axes) and len(x) == N
            return x[n : n + 1] if batched else x

        return dataclasses.replace(
            self,
            inputs={name: cut(name, x) for name, x in self.inputs.items()},
            masks={name: cut(name, x) for name, x in self.masks.items()},
            extras=of_item(self.extras, n, self.weights_shape),
        )

    def steps(self, rows: slice | Array) -> Problem:
        """Return the problem of some decoder steps alone: none depends on another."""
        mask = self.visibility.of_rows(rows).as_mask()
        keep = self.placed.keep
        if keep is not None and keep.shape[-2] > 1:
            keep = keep[..., rows, :]
        masks = {} if mask is None else {"mask": mask}
        if "dec_mask" in self.masks:
            masks["dec_mask"] = self.masks["dec_mask"][:, rows]
        inputs = {**self.inputs, "hs_dec": self.inputs["hs_dec"][:, rows]}
        return dataclasses.replace(
            self,
            inputs=inputs,
            masks=masks,
            extras=Extras(sinks=self.extras.sinks, keep=keep),
            semantics=self.semantics.of_scores(),
            dout=None,
            dlogsumexp=None,
            tokens={},
        )

    @cached_property
    def mask(self) -> Array | None:
        """Mask and enc_mask as the one mask that the operation takes."""
        return combine_masks(self.masks, self._weights_axes, self.sizes) if self.masks else None

    @cached_property
    def placed(self) -> Placed:
        """The extras, checked, with the axes of the core's scores.

        Raises
        ------
        ShapeError, DtypeError, ParameterError
            If one does not fit.
        """
        if not self.extras:
            return Placed()
        lead = self.weights_shape[: -1 if self.operation.one_step else -2]
        T_dec, T_enc = self.sizes.get("T_dec", 1), self.sizes["T_enc"]
        return self.operation.core_extras(self.extras).placed(lead, T_dec, T_enc)

    @cached_property
    def visibility(self) -> Visibility:
        """What each query sees, in the axes of the core."""
        mask = None if self.mask is None else self.operation.core_mask(self.mask)
        T_dec, T_enc = self.sizes.get("T_dec", 1), self.sizes["T_enc"]
        return Visibility.of(self.semantics, T_dec, T_enc, mask, self.placed)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The sizes that the inputs have."""
        found = self.operation.sizes(self.inputs)
        return {axis: found[axis] for axis in _SIZE_ORDER if axis in found}

    @cached_property
    def _weights_axes(self) -> tuple[str, ...]:
        return self.operation.mask_axes(self.inputs)

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """The shape of the weights; empty where there are none."""
        return tuple(self.sizes[axis] for axis in self._weights_axes)

    @property
    def weights_nbytes(self) -> int:
        """How many bytes the weights take."""
        return prod(self.weights_shape) * max(x.dtype.itemsize for x in self.inputs.values())

    @property
    def axis_tokens(self) -> dict[str, Tokens]:
        """The tokens by the axis they label."""
        return {TOKEN_AXES[name]: texts for name, texts in self.tokens.items()}

    @property
    def described_result(self) -> tuple[str, tuple[int, ...], np.dtype[Any]]:
        """The name of the result, and the shape and the dtype that it will have."""
        name, dtype = self.operation.result, self.operation.result_dtype(self.inputs)
        own = np.broadcast_to(np.zeros((), dtype), self.operation.result_shape(self.inputs))
        return name, self.layout.to_given(name, own).shape, dtype

    def forward(self, out: Array | None = None) -> Run:
        """Run forward, after making sure that what it needs fits into memory.

        If `out` is given, it holds the result afterwards, whichever engine computed it.
        """
        self.require_memory()
        place = None if out is None else self.layout.to_own(self.operation.result, out)
        done = run(
            self.operation,
            self.inputs,
            self.mask,
            extras=self.extras,
            padding=self.masks.get("dec_mask"),
            semantics=self.semantics,
            execution=dataclasses.replace(self.request.execution, out=place),
        )
        result = done.results[self.operation.result]
        if place is not None and not np.may_share_memory(result, place):
            place[...] = result
        return Run(self, done)

    def budgets(self) -> Budgets:
        """Say how exact what is computed from it can be expected to be.

        Raises
        ------
        DataError
            If it is not attention as a whole, or dout does not have the shape of the result.
        """
        from attncli.checking.comparing.budget import Budgets

        if not self.operation.is_whole:
            raise DataError(
                f"{self.origin}: no budget for {self.operation.name}: {self.operation.not_whole}"
            )
        both = ("enc_mask", "dec_mask")
        mask = combine_masks(self.masks, self._weights_axes, self.sizes, both)
        incoming = {}
        if self.dout is not None:
            incoming["dout"] = self.layout.to_own(self.operation.result, self.incoming())
        if (rows := self.gradient_of_rows(self.weights_shape[:-1])) is not None:
            incoming["dlogsumexp"] = self.layout.to_own("logsumexp", rows)
        return Budgets(
            self.operation,
            {**self.inputs, **incoming},
            self.semantics,
            layout=self.layout,
            mask=mask,
            extras=self.extras,
            max_memory=self.request.reading.max_memory,
        )

    def incoming(self) -> Array:
        """Return dout as it is given: the file's, or a random one of the shape of the result."""
        _, shape, dtype = self.described_result
        described = describe_shape(shape, self.layout.axes("dout", len(shape)))
        if self.dout is None:
            draw = self.request.draw
            if draw is random_tensor:
                size = prod(shape) * dtype.itemsize
                require(size, f"random dout {described}", self.request.reading.max_memory)
            return draw("dout", shape, seed=self.seed, dtype=dtype)
        if self.dout.shape != shape:
            raise ShapeError(
                f"{self.origin}: dout is {self.dout.shape}, expected the shape of the result, "
                f"{described}"
            )
        return self.dout

    def gradient_of_rows(self, shape: tuple[int, ...] | None, engine: str = "") -> Array | None:
        """Return dlogsumexp, if there is one, where it fits a logsumexp of this shape.

        Raises
        ------
        ParameterError, ShapeError
            If that is None, or another shape.
        """
        given = self.dlogsumexp
        if given is not None and shape is None:
            by = f" by the {engine} engine" if self.operation.is_whole else ""
            raise ParameterError(
                f"{self.origin}: dlogsumexp has no meaning here: {self.operation.name}{by} has no "
                "logsumexp",
                hint="--engine auto" if by else None,
            )
        if given is not None and shape is not None:
            unread = np.broadcast_to(np.float32(0), shape)
            shape = self.layout.to_given("logsumexp", unread).shape
        if given is not None and shape is not None and given.shape != shape:
            axes = self.layout.axes("logsumexp", len(shape))
            raise ShapeError(
                f"{self.origin}: dlogsumexp is {given.shape}, expected the shape of logsumexp, "
                f"{describe_shape(shape, axes)}"
            )
        return given

    @property
    def rotary(self) -> dict[str, Any]:
        """How query and key are turned, by the names of the options; empty where they are not."""
        return rotary_of(self.operation)

    def options(self, command: str) -> dict[str, Any]:
        """Return what a run file says of the run beside its tensors."""
        heads = self.layout.heads
        if self.operation.heads is not None:
            heads = {"heads": self.operation.heads}
        layout = {"layout": written(self.layout.words)} if self.layout.words else {}
        return {
            "attn": __version__,
            "command": command,
            "layer": self.operation.name,
            "seed": self.seed,
            "source": self.origin.encode("utf-8", "backslashreplace").decode(),
            **heads,
            **layout,
            **self.rotary,
            **self.semantics.given(),
        }

    def require_memory(self, *, beside: int = 0) -> None:
        """Raise if the weights that will be there do not fit, before any of it is computed.

        Nor if they do not fit `beside` so many bytes that are still to be drawn.
        """
        execution, limit = self.request.execution, self.request.reading.max_memory
        if self.operation.rotation is not None:
            turned = sum(self.inputs[name].nbytes for name in ("query", "key"))
            require(turned, "query and key, turned by their positions,", limit)
            beside += turned
        if execution.engine == "dask":  # which keeps none, and says itself what it needs
            return
        shape, nbytes = self.weights_shape, self.weights_nbytes
        what = f"weights {describe_shape(shape)}"
        if beside and nbytes:
            what += f" beside the {readable(beside)} of the inputs"
        if execution.engine == "reference" or not self.operation.is_whole:
            # Every step keeps its own, they are gathered, and in between there are copies; under a
            # mask every step also has two copies of what it may see.
            hides = bool(self.masks or self.extras) or self.semantics.orders
            copies = 3 + 2 * self.sizes.get("H", 0) * hides
            copies += 3 * sum(self.sizes[axis] for axis in self.operation.spread)
            in_core = self.operation.is_whole
            hint = "--engine tiled --no-weights computes the same without ever having them"
            require(copies * nbytes + beside, what, limit, hint=hint if in_core else None)
        elif execution.weights:
            hint = "--no-weights computes without ever having them"
            require(nbytes + beside, what, limit, hint=hint)
        elif execution.weights is None and self.request.is_random:
            # What is drawn can be drawn smaller; so many scores would take days.
            hint = "--no-weights computes without ever having them, at length"
            require(nbytes + beside, what, limit, hint=hint)
        elif execution.engine == "direct" and nbytes:
            head = self.sizes.get("T_dec", 1) * shape[-1]
            heads = min(execution.threads, prod(shape) // head)
            what = f"weights {describe_shape(shape)}, whole heads of them at a time,"
            hint = "--engine tiled computes without ever having them"
            require(nbytes // (prod(shape) // head) * heads + beside, what, limit, hint=hint)


@dataclass(frozen=True)
class Run:
    """What came of a problem.

    Attributes
    ----------
    problem : Problem
    done : Pass
        The forward that was run.
    gradients : dict of str to ndarray
        dout and dlogsumexp, then the gradients, if it was walked back.
    """

    problem: Problem
    done: Pass
    gradients: dict[str, Array] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """The command that does the same."""
        return "backward" if self.gradients else "forward"

    @property
    def options(self) -> dict[str, Any]:
        """What its file says of it beside its tensors."""
        return self.problem.options(self.command)

    @property
    def results(self) -> dict[str, Array]:
        """The results by name, as they are given."""
        rows, layout = self.done.logsumexp, self.problem.layout
        found = self.done.results | ({} if rows is None else {"logsumexp": rows})
        return {name: layout.to_given(name, x) for name, x in found.items()}

    @property
    def tensors(self) -> dict[str, Array]:
        """All there is: inputs, masks, results, gradients."""
        problem = self.problem
        inputs = {name: problem.layout.to_given(name, x) for name, x in problem.inputs.items()}
        beside = {**problem.masks, **tensors_of(problem.extras)}
        incoming = {"dout": problem.dout, "dlogsumexp": problem.dlogsumexp}
        given = {name: x for name, x in incoming.items() if x is not None}
        return {**inputs, **beside, **given, **self.results, **self.gradients}

    @property
    def told(self) -> str:
        """Who computed, and what became of the weights."""
        done, execution, weights = self.done, self.problem.request.execution, ""
        if done.in_core:
            weights = ", weights kept" if done.has_weights else ", weights computed again"
            if execution.weights is None:
                weights += (
                    f" (they take {readable(self.problem.weights_nbytes)}, kept up to "
                    f"{readable(KEPT_LIMIT)}, {readable(KEPT_PAIR_LIMIT)} a head)"
                )
        blas = f", blas: {products.told()}" if done.in_core else ""
        return f"engine: {done.engine}{weights}, threads: {execution.threads}{blas}"

    @property
    def lost(self) -> str:
        """What to say where the weights were too many to be kept, and nobody asked for that."""
        done, problem = self.done, self.problem
        asked = problem.request.execution.weights is not None
        if asked or done.has_weights or not done.in_core:
            return ""
        size = readable(problem.weights_nbytes)
        return (
            f"weights {problem.weights_shape} not kept: they would take {size}; "
            "--weights keeps them"
        )

    def arrays(self) -> dict[str, Array]:
        """Return what its file holds."""
        from attncli.files.contents import run_arrays

        return run_arrays(self.options, self.tensors, self.problem.tokens)

    def backward(self) -> Run:
        """Walk back from dout: the file's, or a random one."""
        problem, layout = self.problem, self.problem.layout
        incoming = {"dout": problem.incoming()}
        logsumexp = self.done.logsumexp
        shape = None if logsumexp is None else logsumexp.shape
        if (rows := problem.gradient_of_rows(shape, self.done.engine)) is not None:
            incoming["dlogsumexp"] = rows
        own = {name: layout.to_own(name, x) for name, x in incoming.items()}
        gradients = self.done.backward(own["dout"], own.get("dlogsumexp"))
        if "dmask" in gradients:  # of the mask as it was given, without enc_mask
            whole, mask = gradients["dmask"], problem.masks["mask"]
            given = (1,) * (whole.ndim - mask.ndim) + mask.shape
            gradients["dmask"] = sum_to(whole, given).reshape(mask.shape)
        found = {name: layout.to_given(name, x) for name, x in gradients.items()}
        return dataclasses.replace(self, gradients=incoming | found)

    def compare_claims(self, *, equal_nan: bool = False) -> tuple[TensorComparison, ...]:
        """Compare the results that the file brings along with ours, as far as they were kept.

        Those of half precision are judged by what it can be expected to give.
        """
        origin, claims = self.problem.origin, []
        for claim in self.problem.claims:
            if claim.result in self.results:
                claims.append(claim)
            else:
                what = f"{origin}: {claim.name} not compared: this run has no {claim.result}"
                warnings.warn(what, AttnWarning, stacklevel=2)
        if not claims:
            return ()
        from attncli.checking.comparing.comparison import compare_tensors

        pairs = {claim.name: (claim.array, self.results[claim.result]) for claim in claims}

        def compared(pairs: Mapping[str, tuple[Array, Array]]) -> list[TensorComparison]:
            found = [
                compare_tensors(
                    claim.name,
                    *pairs[claim.name],
                    dtypes=(claim.dtype, self.results[claim.result].dtype.name),
                    axes=self.problem.layout.axes(claim.result, claim.array.ndim),
                    equal_nan=equal_nan,
                )
                for claim in claims
            ]
            return self._within_budget(found, pairs)

        found = compared(pairs)
        if all(one.passed or not _is_logarithm(one.name) for one in found):
            return tuple(found)
        natural = {
            name: (a * np.log(2) if _is_logarithm(name) else a, b) for name, (a, b) in pairs.items()
        }
        said = ("it agrees in base 2, where a natural logarithm is meant",)
        return tuple(
            dataclasses.replace(one, places=said, budget=None)
            if turned.passed and not one.passed
            else one
            for one, turned in zip(found, compared(natural), strict=True)
        )

    def _within_budget(
        self, compared: list[TensorComparison], pairs: Mapping[str, tuple[Array, Array]]
    ) -> list[TensorComparison]:
        """Give comparisons with a budget, if the results were computed in half precision."""
        from attncli.checking.comparing.budget import HALVES, widened

        problem, halves = self.problem, {one.dtypes[0] for one in compared} & {*HALVES}
        asked = problem.request.reading.as_dtype
        held = [*problem.inputs.values(), *(a for a, _ in pairs.values())]
        single = all(x.dtype == np.float32 for x in held)
        if not problem.operation.is_whole or not (asked or halves or (single and widened(held))):
            return compared
        try:
            budgets = dataclasses.replace(problem, dout=None, dlogsumexp=None).budgets()
            return budgets.judge_all(compared, pairs, asked or next(iter(halves), None))
        except (DataError, MemoryLimitError) as error:
            warnings.warn(f"{error}: tolerances decide", AttnWarning, stacklevel=3)
            return compared


def _is_logarithm(name: str) -> bool:
    return name in ("lse", "logsumexp")
