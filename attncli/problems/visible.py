"""What is to be looked at by ``show-mask``: who sees whom, under one set of options or two."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array, Tokens
from attncli.core.extras import Extras
from attncli.core.semantics import Semantics
from attncli.core.visibility import Index, Visibility, read_mask
from attncli.errors import AttnWarning, DataError, ParameterError, ShapeError
from attncli.files.contents import TensorFile, open_tensors
from attncli.files.reading import Reading
from attncli.operations import OPERATIONS
from attncli.problems.beside import HIDING, described, extras_of, fitted, implied_sizes
from attncli.problems.from_files import (
    in_file,
    layers_in,
    problem_in,
    read_tokens,
    refuse_contradictions,
    semantics_in,
)
from attncli.problems.libraries import LIBRARIES
from attncli.problems.masks import MASKS, combine_masks
from attncli.problems.problem import TOKEN_AXES
from attncli.spelling import renames
from attncli.tensors import describe_range

_DEFAULT_STEPS = 5
_AXES = ("N", "heads", "T_dec", "T_enc")


class Asked(NamedTuple):
    """One set of options.

    Attributes
    ----------
    semantics : Semantics
    extras : Extras
        Segments, sequences and lengths.
    library : str
        Whose reading of them it is; empty for ours.
    """

    semantics: Semantics
    extras: Extras = Extras()
    library: str = ""


@dataclass(frozen=True)
class Sight:
    """Who sees whom under one set of options.

    Attributes
    ----------
    library : str
        Whose reading it is; empty for ours.
    semantics : Semantics
        What it is for us.
    extras : Extras
        What was asked for beside.
    visibility : Visibility
    arrays : tuple of str
        What of a file has a part in it.
    """

    library: str
    semantics: Semantics
    extras: Extras
    visibility: Visibility
    arrays: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """What it is called beside another one."""
        return self.library or self._ours

    @property
    def described(self) -> str:
        """Say what it is, and what that is for us."""
        return f"{self.library}: {self._ours}" if self.library else self._ours

    @property
    def _ours(self) -> str:
        said = ", ".join(filter(None, (self.semantics.described(), *described(self.extras))))
        return said or ("as the file has it" if self.arrays else "every key")

    @property
    def options(self) -> dict[str, Any]:
        """Its options by name."""
        extras = self.extras.given()
        if "segments" in extras:
            extras["segments"] = [x.tolist() for x in extras["segments"]]
        return {**self.semantics.given(), **extras}


@dataclass(frozen=True)
class Place:
    """An item, and a head, that sees something of its own.

    Attributes
    ----------
    names : dict of str to int
        Those of ``item`` and ``head`` that make a difference.
    index : tuple
        The place on the leading axes.
    """

    names: dict[str, int]
    index: Index

    @property
    def heading(self) -> str:
        """Its names in one line."""
        return "  ".join(f"{name} {number}" for name, number in self.names.items())


@dataclass(frozen=True)
class Scene:
    """Queries, keys, and who sees whom in one or two readings.

    Attributes
    ----------
    source : str
        The file; empty without one.
    arrays : tuple of str
        The arrays of the file that have a part in it.
    sizes : dict of str to int
    axes : tuple of str
        What the leading axes are: none, N, or N and heads.
    sights : tuple of Sight
        One, or two of the same sizes.
    tokens : dict of str to ndarray of str
        By axis.
    wanted : dict of str to int
        The ``item`` or ``head`` that is looked at alone.
    """

    source: str
    arrays: tuple[str, ...]
    sizes: dict[str, int]
    axes: tuple[str, ...]
    sights: tuple[Sight, ...]
    tokens: dict[str, Tokens] = field(default_factory=dict)
    wanted: dict[str, int] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """How many queries and keys there are."""
        return self.sizes["T_dec"], self.sizes["T_enc"]

    @property
    def pairs(self) -> int:
        """How many pairs of a query and a key there are."""
        T_dec, T_enc = self.shape
        return T_dec * T_enc

    @property
    def lead(self) -> tuple[int, ...]:
        """The sizes of the axes before the last two, 1 where nothing differs along them."""
        return np.broadcast_shapes(*(one.visibility.lead for one in self.sights))

    def only(self, **wanted: int | None) -> Scene:
        """Return the scene of one ``item``, one ``head``, or both.

        Raises
        ------
        ParameterError
            If there is no such one.
        """
        chosen = {name: number for name, number in wanted.items() if number is not None}
        for name, number in chosen.items():
            axis = {"item": "N", "head": "heads"}[name]
            count = self.sizes.get(axis, 1)
            if not 0 <= number < count:
                message = f"--{name} {number}: there is no such {name}; {describe_range(count)}"
                hint = f"--{name} {min(max(number, 0), count - 1)}"
                raise ParameterError(message, hint=hint)
        return replace(self, wanted=chosen)

    @property
    def places(self) -> list[Place]:
        """The items and heads in which different pairs are seen; one where all are the same."""
        lead, found = self.lead, []
        words = [{"N": "item", "heads": "head"}[axis] for axis in self.axes[-len(lead) :]]
        for index in np.ndindex(lead):
            at = zip(words, index, lead, strict=False)
            names = {word: number for word, number, size in at if size > 1}
            if all(self.wanted.get(name, number) == number for name, number in names.items()):
                found.append(Place(names, index))
        return found

    def labels(self, axis: str, place: Place) -> list[str] | None:
        """Give the tokens along an axis, if there are some."""
        tokens = self.tokens.get(axis)
        if tokens is None:
            return None
        row = (
            tokens
            if tokens.ndim == 1
            else tokens[place.names.get("item", self.wanted.get("item", 0))]
        )
        return [str(token) for token in row]


def scene_of(
    file: str | None,
    sizes: Mapping[str, int],
    asked: Sequence[Asked],
    reading: Reading,
    told: Mapping[str, Any] | None = None,
) -> Scene:
    """Put together who sees whom: in a file, or with so many steps.

    Parameters
    ----------
    file : str or None
    sizes : mapping of str to int
        ``T`` and ``T_enc``, as far as they were given.
    asked : sequence of Asked
        One set of options, or two; what a run had counts where they say nothing.
    reading : Reading
    told : mapping of str to object, optional
        The ``heads`` and the ``layout`` of query, key and value in the file.

    Raises
    ------
    AttnError
        If the file cannot be read, or says nothing of queries and keys.
    """
    told = {name: value for name, value in (told or {}).items() if value}
    if file is None:
        _refuse(told)
        found = _without_file(sizes, [one.extras for one in asked])
    else:
        found = _find(open_tensors(file, reading), sizes, told)
        refuse_contradictions(sizes, found.sizes, found.source)
        empty = [axis for axis, size in found.sizes.items() if size == 0]
        if empty:
            raise DataError(f"{found.source}: {empty[0]} is 0: there is nothing to be seen")
    sights = [_sight(one, found) for one in asked]
    if len(sights) > 1 and not any(one.semantics.orders for one in sights):
        _say_of_no_effect(asked)
    return Scene(found.source, found.arrays, found.sizes, found.axes, tuple(sights), found.tokens)


def _without_file(asked: Mapping[str, int], extras: Sequence[Extras]) -> _Found:
    """Find how many steps and items there are: as asked, else as many as the numbers need."""
    sizes = {"T": _DEFAULT_STEPS}
    for one in extras:
        sizes = implied_sizes(one, sizes)
    if "T" in asked:
        sizes.pop("T_enc", None)
    sizes |= asked
    items = {"N": sizes["N"]} if sizes.get("N", 1) > 1 else {}
    steps = {"T_dec": sizes["T"], "T_enc": sizes.get("T_enc", sizes["T"])}
    return _Found("", {**items, **steps}, tuple(items))


def _say_of_no_effect(asked: Sequence[Asked]) -> None:
    if any(one.library for one in asked):
        warnings.warn(
            "--convention has no effect: nothing here goes by a query's own position",
            AttnWarning,
            stacklevel=2,
        )


class _Found(NamedTuple):
    """What there is to be seen before any option."""

    source: str
    sizes: dict[str, int]
    axes: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()
    mask: Array | None = None
    extras: Extras = Extras()
    semantics: Semantics = Semantics()
    tokens: dict[str, Tokens] = {}  # noqa: RUF012 (nobody writes to it)


def _sight(asked: Asked, found: _Found) -> Sight:
    semantics = found.semantics.of_order().overridden(asked.semantics)
    if asked.library:
        semantics = LIBRARIES[asked.library].read(asked.library, semantics)
    sizes = found.sizes
    T_dec, T_enc = sizes["T_dec"], sizes["T_enc"]
    extras = found.extras._replace(**fitted(asked.extras, sizes).given())
    if asked.extras.cu_seqlens is not None:  # of keys too
        extras = extras._replace(cu_seqlens_k=asked.extras.cu_seqlens_k)
    with in_file(found.source) if found.source else nullcontext():
        placed = extras.placed(tuple(sizes[axis] for axis in found.axes), T_dec, T_enc)
    visibility = Visibility.of(semantics, T_dec, T_enc, found.mask, placed)
    return Sight(asked.library, semantics, asked.extras, visibility, found.arrays)


def _refuse(told: Mapping[str, Any]) -> None:
    """Raise if something is told of query and key where there are none."""
    for name in told:
        raise ParameterError(f"--{name} has no meaning here: there is no query, and no key")


def _find(file: TensorFile, asked: Mapping[str, int], told: Mapping[str, Any]) -> _Found:
    """Find how many queries and keys a file has, and what it says of who sees whom."""
    arrays = tuple(name for name in (*MASKS, *HIDING) if name in file and name != "dec_mask")
    if "dec_mask" in file:
        warnings.warn(
            f"{file.label}: dec_mask not shown: its queries take no part, whatever they see",
            AttnWarning,
            stacklevel=3,
        )
    computes = [one.of(file) for one in OPERATIONS.values() if not one.parameters]
    if not any(computes) and "qkv" not in file and "layer" not in file.options:
        _refuse(told)
        return _alone(file, arrays, asked)
    # Heads are all that a layer's weights do not say; who sees whom is the same without them.
    layers = [name for name in layers_in(file.entries) if OPERATIONS[name].heads is None]
    layer = None if "layer" in file.options else next(iter(layers), None)
    problem = problem_in(file, layer=layer, **told)
    operation, sizes = problem.operation, {"T_dec": 1, **problem.sizes}
    axes = operation.mask_axes(problem.inputs)
    if not axes:
        raise DataError(f"{file.label}: {operation.name} has no keys to be seen")
    return _Found(
        file.label,
        {axis: sizes[axis] for axis in _AXES if axis in sizes},
        axes[: -1 if operation.one_step else -2],
        arrays,
        None if problem.mask is None else operation.core_mask(problem.mask),
        Extras(**{name: x for name, x in problem.extras.given().items() if name in HIDING}),
        problem.semantics,
        problem.axis_tokens,
    )


def _alone(file: TensorFile, arrays: tuple[str, ...], asked: Mapping[str, int]) -> _Found:
    """Read a file that holds nothing to compute with: of masks, segments, lengths alone."""
    held = {name: file.numbers(name) for name in arrays}
    if list(file) == [""]:
        arrays, held = ("mask",), {"mask": file.numbers("", known_as="mask")}
    if not held:
        there = ", ".join(file) or "nothing"
        raise DataError(
            f"{file.label}: expected a mask, or what a layer computes with; it holds {there}",
            hint=renames(["mask"], file)
            or "--rename mask=THEIRS reads an array under another name",
        )
    with in_file(file.label):
        masks = {name: read_mask(name, x) for name, x in held.items() if name in MASKS}
        extras = extras_of({name: x for name, x in held.items() if name in HIDING})
        sizes = _sizes_of(masks, extras, asked)
        axes = tuple(axis for axis in _AXES if axis in sizes)
        mask = combine_masks(masks, axes, sizes) if masks else None
    tokens = read_tokens({name: (file, name) for name in file}, sizes)
    return _Found(
        file.label,
        sizes,
        axes[:-2],
        arrays,
        mask,
        extras,
        semantics_in(file),
        {TOKEN_AXES[name]: x for name, x in tokens.items()},
    )


def _sizes_of(
    masks: Mapping[str, Array], extras: Extras, asked: Mapping[str, int]
) -> dict[str, int]:
    """Give the sizes of what is there by itself, the largest where they broadcast.

    Raises
    ------
    ShapeError
        If an array has more axes than there are.
    """
    ids = extras.segments if isinstance(extras.segments, tuple) else (extras.segments,) * 2
    ends = extras.cu_seqlens, extras.cu_seqlens_k
    named: list[tuple[str, Any, tuple[str, ...]]] = [
        ("mask", masks.get("mask"), _AXES),
        ("enc_mask", masks.get("enc_mask"), ("N", "T_enc")),
        ("segments", ids[0], ("N", "T_dec")),
        ("segments", ids[1], ("N", "T_enc")),
        ("kv_lengths", extras.kv_lengths if ends[0] is None else None, ("N",)),
    ]
    sizes: dict[str, int] = {}
    for name, array, axes in named:
        shape = np.shape(array) if array is not None else ()
        if len(shape) > len(axes):
            raise ShapeError(f"{name} is {shape}, expected at most ({', '.join(axes)})")
        # Of three axes the first is N; else they are counted from the last.
        own = ("N", *axes[-2:]) if len(shape) == len(axes) - 1 == 3 else axes[-len(shape) :]
        for axis, size in zip(own, shape, strict=False):
            sizes[axis] = size if sizes.get(axis, 1) == 1 else sizes[axis]
    for axis, end in (("T_dec", ends[0]), ("T_enc", ends[0] if ends[1] is None else ends[1])):
        if end is not None:
            sizes[axis] = int(np.max(end, initial=0))
    least = int(np.max(extras.kv_lengths, initial=1)) if extras.kv_lengths is not None else 1
    T_enc = sizes.get("T_enc", asked.get("T_enc", asked.get("T", least)))
    T_dec = sizes.get("T_dec", 1)
    if T_dec == 1:  # what is there holds for however many queries
        T_dec = asked.get("T", T_dec if "mask" in masks else T_enc)
    sizes |= {"T_dec": T_dec, "T_enc": T_enc}
    return {axis: sizes[axis] for axis in _AXES if axis in sizes}
