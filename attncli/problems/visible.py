"""What is to be looked at by ``show-mask``: who sees whom, under one set of options or two."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array, Tokens
from attncli.core.extras import Extras
from attncli.core.semantics import Semantics
from attncli.core.visibility import Index, Visibility, read_mask
from attncli.errors import AttnWarning, DataError, ParameterError
from attncli.files.contents import TensorFile, open_tensors
from attncli.files.reading import Reading
from attncli.operations import OPERATIONS
from attncli.problems.beside import HIDING, extras_of
from attncli.problems.from_files import (
    in_file,
    problem_in,
    read_tokens,
    refuse_contradictions,
    semantics_in,
)
from attncli.problems.libraries import LIBRARIES
from attncli.problems.masks import MASKS, combine_masks
from attncli.problems.problem import TOKEN_AXES
from attncli.tensors import axes_of, describe_range

_DEFAULT_STEPS = 5
_MOST_SAID = 8


def _numbers(x: Any) -> str:
    """Write what an extra holds; of ids, how many follow each other."""
    if isinstance(x, tuple) and isinstance(x[0], np.ndarray):
        ends = (np.flatnonzero(np.diff(ids, prepend=-1, append=-1)) for ids in x)
        dec, enc = (_numbers(np.diff(one)) for one in ends)
        return dec if dec == enc else f"{dec}/{enc}"
    shown = ",".join(map(str, x[:_MOST_SAID]))
    return shown + ",…" * (len(x) > _MOST_SAID)


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
    """

    library: str
    semantics: Semantics
    extras: Extras
    visibility: Visibility

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
        extras = (f"{name} {_numbers(x)}" for name, x in self.extras.given().items())
        said = ", ".join(filter(None, (self.semantics.described(), *extras)))
        return said or "every key"

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
                raise ParameterError(message)
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
    file: str | None, sizes: Mapping[str, int], asked: Sequence[Asked], reading: Reading
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

    Raises
    ------
    AttnError
        If the file cannot be read, or says nothing of queries and keys.
    """
    if file is None:
        found = _without_file(sizes, [one.extras for one in asked])
    else:
        found = _find(open_tensors(file, reading))
        if found.sizes["T_dec"] == 1 and "T" in sizes:  # it holds for however many queries
            found.sizes["T_dec"] = sizes["T"]
        refuse_contradictions(sizes, found.sizes, found.source)
    sights = [_sight(one, found) for one in asked]
    if len(sights) > 1 and not any(one.semantics.orders for one in sights):
        _say_of_no_effect(asked)
    return Scene(found.source, found.arrays, found.sizes, found.axes, tuple(sights), found.tokens)


def _without_file(sizes: Mapping[str, int], extras: Sequence[Extras]) -> _Found:
    """Find how many steps and items there are: as asked, else as many as the numbers need."""
    N, dec, enc = 0, [0], [0]
    for one in extras:
        lengths = np.asarray([] if one.kv_lengths is None else one.kv_lengths)
        if one.segments is not None:
            dec.append(len(one.segments[0]))
            enc.append(len(one.segments[1]))
        elif one.cu_seqlens is not None:
            keys = one.cu_seqlens if one.cu_seqlens_k is None else one.cu_seqlens_k
            dec.append(np.asarray(one.cu_seqlens)[-1])
            enc.append(np.asarray(keys)[-1])
        elif len(lengths):
            enc.append(lengths.max())
        if one.cu_seqlens is None:
            N = max(N, len(lengths))
    T_dec = sizes.get("T") or int(max(dec)) or int(max(enc)) or _DEFAULT_STEPS
    T_enc = sizes.get("T_enc") or sizes.get("T") or int(max(enc)) or T_dec
    items = {"N": N} if N else {}
    return _Found("", {**items, "T_dec": T_dec, "T_enc": T_enc}, tuple(items))


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
    extras = Extras(**{**found.extras.given(), **asked.extras.given()})
    placed = extras.placed(tuple(sizes[axis] for axis in found.axes), T_dec, T_enc)
    visibility = Visibility.of(semantics, T_dec, T_enc, found.mask, placed)
    return Sight(asked.library, semantics, asked.extras, visibility)


def _find(file: TensorFile) -> _Found:
    """Find how many queries and keys a file has, and what it says of who sees whom."""
    masks = tuple(name for name in MASKS if name in file and name != "dec_mask")
    if "dec_mask" in file:
        warnings.warn(
            f"{file.label}: dec_mask not shown: its queries take no part, whatever they see",
            AttnWarning,
            stacklevel=3,
        )
    whole = any(one.of(file) for one in OPERATIONS.values() if not one.parameters)
    if whole or "layer" in file.options:
        problem = problem_in(file)
        axes = problem.operation.mask_axes(problem.inputs)
        if not axes:
            raise DataError(f"{file.label}: {problem.operation.name} has no keys to be seen")
        mask = problem.mask
        if "T_dec" not in axes and mask is not None:
            mask = problem.operation.core_mask(mask)
        sizes = {"T_dec": 1, **problem.sizes}
        tokens = problem.axis_tokens
        semantics = problem.semantics
    else:
        mask, sizes, axes = _masks_alone(file)
        tokens = {TOKEN_AXES[name]: x for name, x in _tokens(file, sizes).items()}
        semantics = semantics_in(file)
    return _Found(
        file.label,
        {name: size for name, size in sizes.items() if name in ("N", "heads", "T_dec", "T_enc")},
        axes[: -2 if "T_dec" in axes else -1],
        (*masks, *(name for name in HIDING if name in file)),
        mask,
        _extras_in(file),
        semantics,
        tokens,
    )


def _extras_in(file: TensorFile) -> Extras:
    """Read what a file holds of segments, sequences and lengths."""
    held = {name: file.numbers(name) for name in HIDING if name in file}
    with in_file(file.label):
        return extras_of(held)


def _tokens(file: TensorFile, sizes: Mapping[str, int]) -> dict[str, Tokens]:
    return read_tokens({name: (file, name) for name in file}, sizes)


def _masks_alone(file: TensorFile) -> tuple[Array | None, dict[str, int], tuple[str, ...]]:
    """Read the masks of a file that holds nothing to compute with."""
    masks = {}
    with in_file(file.label):
        for name in ("mask", "enc_mask"):
            if name in file or (name == "mask" and list(file) == [""]):
                array = file.numbers(name if name in file else "", known_as=name)
                masks[name] = read_mask(name, array)
        if not masks:
            held = ", ".join(file) or "nothing"
            raise DataError(
                f"expected a mask, or what a layer computes with; it holds {held}",
                hint="--rename mask=THEIRS reads an array under another name",
            )
        sizes: dict[str, int] = {}
        axes: tuple[str, ...] = ("N", "T_dec", "T_enc")
        if "mask" in masks:
            found = axes_of("mask", masks["mask"].ndim)
            if found is None or len(found) < 2:
                raise DataError(f"mask is {masks['mask'].shape}, expected (N, T_dec, T_enc)")
            axes = found
            sizes = dict(zip(axes, masks["mask"].shape, strict=True))
        if "enc_mask" in masks:
            N, T_enc = masks["enc_mask"].shape
            sizes = {"T_dec": T_enc, "T_enc": T_enc, **sizes}
            if "N" in axes:
                sizes["N"] = max(N, sizes.get("N", 1))
        mask = combine_masks(masks, axes, sizes)
    return mask, sizes, axes
