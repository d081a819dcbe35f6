"""What runs on a worker: parts of a calculation, read from files, computed, and written to files.

All of it are functions of modules and plain data, so that no code travels.  A task that is run
again, because its worker was lost, does the same again: what it reads is not changed, and what it
writes is put in place at once, or lies in chunks that are its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.cluster.plan import Box, Tile
from attncli.core.blocks import sum_to
from attncli.core.operands import Shape
from attncli.core.parts import Part, Partial, Whole, backward_part, forward_part, merge_parts
from attncli.core.rotary import Rotation
from attncli.core.tiles import blocks_of
from attncli.core.visibility import as_mask, own_key, positions, read_mask
from attncli.files.regions import Region, is_written, read, write
from attncli.operations.layout import Order
from attncli.operations.operation import turned

Place = tuple[str, tuple[tuple[int, int], ...]]
"""An array by its name, and where in it, as starts and stops."""


@dataclass(frozen=True)
class Stored:
    """An array in a file, seen in the axes that are computed in.

    Attributes
    ----------
    region : Region
    order : Order or None
        How its axes lie; None if they are those already.
    read_as : dtype or None
        What is read of it, if that is another one than there is.
    """

    region: Region
    order: Order | None = None
    read_as: np.dtype[Any] | None = None

    @property
    def shape(self) -> Shape:
        """In the axes that are computed in."""
        if self.order is None:
            return self.region.shape
        shape: Shape = self.order.to_own(np.broadcast_to(False, self.region.shape)).shape
        return shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is read."""
        return self.read_as or self.region.dtype

    def _given(self, place: Box) -> tuple[Order | None, Box]:
        """Return the order of a place alone, and where it is in the file."""
        if self.order is None:
            return None, place
        own, heads = dict(zip(self.order.own, place, strict=True)), self.order.heads
        if heads is None:
            return self.order, tuple(own[axis] for axis in self.order.axes)
        head, size = place[1], self.shape[-1]
        own[self.order.own[-1]] = slice(head.start * size, head.stop * size)
        return (
            replace(self.order, heads=head.stop - head.start),
            tuple(own[axis] for axis in self.order.axes),
        )

    def read(self, place: Box) -> Array:
        """Read what lies at a place."""
        order, given = self._given(place)
        array = read(self.region, given)
        if self.read_as is not None and self.read_as.kind == "b":
            array = read_mask(f"{self.region.name or 'mask'} of numbers", array)
        elif self.read_as is not None:
            with np.errstate(over="ignore"):
                array = array.astype(self.read_as, copy=False)
        return array if order is None else order.to_own(array)

    def nonfinite(self, array: Array) -> int:
        """Count what cannot be written as a number."""
        with np.errstate(over="ignore"):
            array = array.astype(self.dtype, copy=False)
        return int(array.size - np.count_nonzero(np.isfinite(array)))

    def is_written(self, place: Box) -> bool:
        """Tell whether what lies at a place was written, by this run or the one it resumes."""
        return is_written(self.region, self._given(place)[1])

    def write_zeros(self) -> None:
        """Write zeros where nothing was written."""
        shape, chunk = self.region.shape, self.region.chunk or self.region.shape
        cuts = [
            list(blocks_of(0, size, max(step, 1))) for size, step in zip(shape, chunk, strict=True)
        ]
        for place in product(*cuts):
            if not is_written(self.region, place):
                zeros = np.zeros([at.stop - at.start for at in place], self.dtype)
                write(self.region, place, zeros)

    def write(self, place: Box, array: Array) -> None:
        """Write what lies at a place."""
        order, given = self._given(place)
        array = array if order is None else order.to_given(array)
        with np.errstate(over="ignore"):  # is told
            array = array.astype(self.dtype, copy=False)
        write(self.region, given, array)


@dataclass(frozen=True)
class Calculation:
    """What is computed: for whoever computes a part of it.

    Attributes
    ----------
    whole : Whole
    inputs : dict of str to Stored
        query, key and value; keep, segments_dec, segments_enc, dout, dlogsumexp where they are.
    masks : tuple of Stored
        What each query sees beside what goes by steps: all of them are to allow it.
    padding : Stored or None
        Which queries take part; that one is among the masks too.
    results : dict of str to Stored
        out and logsumexp; ``kept-out`` and ``kept-logsumexp``, as exact as they are computed;
        gradients, dkey and dvalue as ``dkey+dvalue`` where one input is both.
    rotation : Rotation or None
    folder : str
        Where what is carried lies.
    """

    whole: Whole
    inputs: Mapping[str, Stored]
    masks: tuple[Stored, ...]
    padding: Stored | None
    results: Mapping[str, Stored]
    rotation: Rotation | None
    folder: str

    def arrays(self, part: Part) -> dict[str, Array]:
        """Read what is needed of the inputs for a part."""
        regions = self.whole.regions(part)
        found = {name: x.read(regions[name]) for name, x in self.inputs.items() if name in regions}
        if self.rotation is not None:
            own, at = self._positions(part)
            found["query"] = turned(self.rotation, found["query"], own)
            found["key"] = turned(self.rotation, found["key"], at)
        if self.masks:
            found["mask"] = self._mask(part)
        return found

    def _mask(self, part: Part) -> Array:
        bias = seen = None
        for stored in self.masks:
            mask = stored.read(_broadcast((*part.lead, part.rows, part.keys), stored.shape))
            if mask.dtype != bool:
                bias = mask
            else:
                seen = mask if seen is None else seen & mask
        combined = as_mask(bias, seen)
        assert combined is not None
        return combined

    def takes_part(self, part: Part) -> Array | None:
        """Tell which queries take part, (…, rows)."""
        if self.padding is None:
            return None
        place = _broadcast((*part.lead, part.rows, slice(0, 1)), self.padding.shape)
        return self.padding.read(place)[..., 0]

    def _positions(self, part: Part) -> tuple[Array, Array]:
        whole, (T_dec, T_enc) = self.whole, self.whole.sizes
        extras = whole.extras
        if extras.sequences is None and extras.lengths is None:
            first = own_key(whole.semantics, T_dec, T_enc)
            own = np.arange(part.rows.start, part.rows.stop) + first
            return own, np.arange(part.keys.start, part.keys.stop)
        own, at = positions(whole.semantics, T_dec, T_enc, extras)
        if own.ndim > 1:
            own = own[part.lead[0]]
        return own[..., part.rows], at[part.keys]

    def turned_back(self, name: str, part: Part, gradient: Array) -> Array:
        """Return a gradient of what was turned by its positions as that of what it was before."""
        if self.rotation is None or name not in ("dquery", "dkey"):
            return gradient
        own, at = self._positions(part)
        by = own if name == "dquery" else at
        return turned(self.rotation, gradient, by, inverse=True)

    def place(self, name: str, part: Part) -> Place:
        """Return where a part's contribution to a gradient belongs."""
        if name == "dmask":
            box = _broadcast((*part.lead, part.rows, part.keys), self.results[name].shape)
        else:
            box = self.whole.regions(part)[name[1:]]
        return name, tuple((at.start, at.stop) for at in box)

    @property
    def rows(self) -> tuple[str, ...]:
        """The results that a block of rows has; what shows that all are there comes last."""
        names = ("kept-out", "kept-logsumexp", "logsumexp", "out")
        return tuple(name for name in names if name in self.results)

    @property
    def gradients(self) -> tuple[str, ...]:
        """The results of walking back."""
        return tuple(name for name in self.results if name not in self.rows)

    @property
    def carried(self) -> tuple[str, ...]:
        """The gradients to which more than one band contributes."""
        names = ["dquery"]
        if "dmask" in self.results and not self._own_mask:
            names.append("dmask")
        return tuple(names)

    @property
    def _own_mask(self) -> bool:
        """Whether every pair has a number of its own in the mask."""
        return self.results["dmask"].shape == (*self.whole.lead, *self.whole.sizes)


def _broadcast(place: Box, shape: Shape) -> Box:
    """Return a place for an array of `shape` in which an axis of size 1 stands for all."""
    at = place[len(place) - len(shape) :]
    return tuple(slice(0, 1) if n == 1 else one for n, one in zip(shape, at, strict=True))


def part_of(tile: Tile) -> Part:
    """Return a tile as the core calls it."""
    return Part(tile.box, tile.rows, tile.keys)


def attend(calculation: Calculation, tile: Tile) -> Partial:
    """Compute what a tile's queries attend to among its keys."""
    part = part_of(tile)
    return forward_part(calculation.whole.operands(part, calculation.arrays(part)))


def merge(partials: Sequence[Partial]) -> Partial:
    """Put partial results of the same queries together."""
    return merge_parts(*partials, more=True)


class Written(NamedTuple):
    """What is said of what is written.

    Attributes
    ----------
    nonfinite : dict of str to int
        How many numbers of an array are NaN or infinite.
    blind : int
        How many queries see no key.
    small : dict of place to ndarray
        What is still to be added to the gradients of sinks and slopes.
    """

    nonfinite: dict[str, int]
    blind: int = 0
    small: Mapping[Place, Array] = {}


def finish(calculation: Calculation, partials: Sequence[Partial], tile: Tile) -> Written:
    """Write the results of a block of rows, whose keys are all in."""
    out, logsumexp, blind = merge_parts(*partials)
    part, results = part_of(tile), calculation.results
    takes_part = calculation.takes_part(part)
    if takes_part is not None:
        blind &= takes_part
        logsumexp = np.where(takes_part, logsumexp, -np.inf)
    rows = calculation.whole.regions(part)
    for name in calculation.rows:
        what = name.removeprefix("kept-")
        results[name].write(rows[what], {"out": out, "logsumexp": logsumexp}[what])
    return Written({"out": results["out"].nonfinite(out)}, int(blind.sum()))


class Gradients(NamedTuple):
    """What tiles with the same keys contribute to gradients.

    Attributes
    ----------
    large : dict of place to ndarray
        Of keys and values.
    small : dict of place to ndarray
        Of sinks and slopes.
    """

    large: dict[Place, Array]
    small: dict[Place, Array]


def walk_back(calculation: Calculation, tile: Tile, number: int) -> Gradients:
    """Compute a tile's contributions; those that are carried from band to band are put aside."""
    part = part_of(tile)
    regions, results, inputs = (
        calculation.whole.regions(part),
        calculation.results,
        calculation.inputs,
    )
    kept = "kept-" if "kept-out" in results else ""
    out = results[f"{kept}out"].read(regions["out"])
    logsumexp = results[f"{kept}logsumexp"].read(regions["logsumexp"])
    dout = inputs["dout"].read(regions["out"])
    dlogsumexp = None
    if "dlogsumexp" in inputs:
        dlogsumexp = np.where(
            np.isneginf(logsumexp), 0, inputs["dlogsumexp"].read(regions["logsumexp"])
        )
    if (takes_part := calculation.takes_part(part)) is not None:
        dout = np.where(takes_part[..., None], dout, dout.dtype.type(0))
        logsumexp = np.where(takes_part, logsumexp, 0)  # they see nothing, whatever it is
    operands = calculation.whole.operands(part, calculation.arrays(part))
    found = backward_part(dout, out, logsumexp, operands, dlogsumexp)._asdict()
    del operands, out, dout
    if "dmask" in results:
        place = calculation.place("dmask", part)
        found["dmask"] = _summed(found["dmask"], tuple(stop - start for start, stop in place[1]))
        if "dmask" not in calculation.carried:
            results["dmask"].write(_slices(place), found["dmask"])
    for name in calculation.carried:
        put_aside(calculation, calculation.place(name, part), number, found[name])
    large: dict[Place, Array] = {}
    for name in ("dkey", "dvalue"):
        gradient = calculation.turned_back(name, part, found[name])
        into = "dkey+dvalue" if "dkey+dvalue" in results else name
        place = into, calculation.place(name, part)[1]
        large[place] = large[place] + gradient if place in large else gradient
    small = {
        calculation.place(name, part): found[name]
        for name in ("dsinks", "dalibi")
        if name in results and found[name] is not None
    }
    return Gradients(large, small)


def _summed(gradient: Array, shape: Shape) -> Array:
    """Return a gradient of the scores as that of a mask of `shape`, which was broadcast to them."""
    missing = gradient.ndim - len(shape)
    return sum_to(gradient, (1,) * missing + shape).reshape(shape)


def _slices(place: Place) -> Box:
    return tuple(slice(*at) for at in place[1])


def add(some: Sequence[Gradients]) -> Gradients:
    """Add contributions up, in the order in which they are given."""
    total, own = Gradients({}, {}), set[Place]()
    for one in some:
        for sums, new in zip(total, one, strict=True):
            for place, gradient in new.items():
                if place in own:
                    sums[place] += gradient
                elif place in sums:  # what came in is others' too
                    sums[place] = sums[place] + gradient
                    own.add(place)
                else:
                    sums[place] = gradient
    return total


def finish_band(calculation: Calculation, some: Sequence[Gradients]) -> Written:
    """Write the gradients of some keys and values."""
    total = add(some)
    nonfinite: dict[str, int] = {}
    for place, gradient in total.large.items():
        stored = calculation.results[place[0]]
        stored.write(_slices(place), gradient)
        nonfinite[place[0]] = nonfinite.get(place[0], 0) + stored.nonfinite(gradient)
    return Written(nonfinite, small=total.small)


# What is carried from band to band lies in files: a sum in memory would have to be computed again
# from its first band on where its worker is lost.


def _aside(calculation: Calculation, place: Place, what: str) -> str:
    name, at = place
    where = "-".join(str(start) for start, _ in at)
    return os.path.join(calculation.folder, f"{name}-{where}.{what}")


def put_aside(calculation: Calculation, place: Place, what: int | str, gradient: Array) -> None:
    """Put a contribution into a file of its own, which is there at once."""
    path = _aside(calculation, place, str(what))
    temporary = f"{path}.{os.urandom(4).hex()}"
    np.ascontiguousarray(gradient).tofile(temporary)
    os.replace(temporary, path)


def _aside_at(calculation: Calculation, place: Place, what: int | str) -> Array:
    shape = tuple(stop - start for start, stop in place[1])
    found = np.fromfile(_aside(calculation, place, str(what)), calculation.whole.compute)
    return found.reshape(shape)


def carry(
    calculation: Calculation, tile: Tile, place: Place, numbers: Sequence[int], before: int | None,
    last: bool,
) -> Written:  # fmt: skip
    """Add contributions to what is carried; write it where these are the last.

    Parameters
    ----------
    calculation : Calculation
    tile : Tile
        One of those that contributed.
    place : Place
    numbers : sequence of int
        Of the contributions.
    before : int or None
        The last one that is added already.
    last : bool
    """
    whats: list[int | str] = [*numbers]
    if before is not None:
        whats.insert(0, f"to-{before}")
    total = _aside_at(calculation, place, whats[0])
    for what in whats[1:]:
        total += _aside_at(calculation, place, what)
    if not last:
        put_aside(calculation, place, f"to-{numbers[-1]}", total)
        return Written({})
    total = calculation.turned_back(place[0], part_of(tile), total)
    stored = calculation.results[place[0]]
    stored.write(_slices(place), total)
    return Written({place[0]: stored.nonfinite(total)})


def forget(
    calculation: Calculation, place: Place, numbers: Sequence[int], before: int | None
) -> None:
    """Take away what is added up."""
    whats: list[int | str] = [*numbers, *([] if before is None else [f"to-{before}"])]
    for what in whats:
        os.unlink(_aside(calculation, place, str(what)))
