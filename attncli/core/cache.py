"""What forward leaves for backward, and for whoever wants to look."""

from __future__ import annotations

import _thread
import warnings
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.core import products
from attncli.core.blocks import log
from attncli.core.operands import Operands
from attncli.core.visibility import Alibi, Entry, Mask
from attncli.errors import AttnWarning
from attncli.foreign import Library

Engine = Literal["direct", "tiled"]

# Queries at a time whose keys are looked through.
_ROWS = 256

# Bytes up to which an array is remembered whole.
_SMALL = 32_768
_GOLDEN = 0.6180339887498949  # its multiples, less what is whole, all differ


class Beside(NamedTuple):
    """The gradients of what is neither query, key nor value."""

    biases: list[Array | None]  # as visibility.entries
    sinks: Array | None


@dataclass(slots=True, repr=False)
class Cache:
    """One forward calculation: its operands, its options and what backward needs of it.

    The inputs are referred to, not copied, wherever their layout allows; one that is changed in
    place between forward and backward is an error there.  Several threads may use a cache: they
    take turns, and each finds the gradients of its own backward in it.

    Attributes
    ----------
    engine : str
        Which code ran: ``"direct"``, whole (batch, head) pairs, or ``"tiled"``, tiles.
    threads : int
        How many threads it used; backward uses as many.
    weights : ndarray, shape (…, T_dec, T_enc), or None
        The weights in the compute dtype, before dropout, to be read alone as backward needs them;
        None where they were not kept.
    logsumexp : ndarray, shape (…, T_dec)
        log Σ exp(score) per query, over the keys and the sink if there is one, in the compute
        dtype; −inf for a row that sees nothing.
    dmask : ndarray or None
        After backward, this thread's or else the last one: the gradient of a float mask, in the
        mask's own shape and the compute dtype.  It is the gradient of the scores summed over the
        axes on which the mask was broadcast.  None before backward, without a mask and for a
        boolean one.
    dsinks, dalibi : ndarray or None
        After backward: the gradients of the sinks and of the slopes, in their own shapes and the
        compute dtype.  None before backward, and where there are none.
    """

    operands: Operands
    engine: Engine
    threads: int
    # In the engines' own shapes, with heads split; None where the engine has no use for them.
    shift: Array  # per row: what was subtracted from the scores, and
    total: Array  # the sum of the exponentials that remained; 0 if the query sees no key
    # exp(score − shift) as (…, T_dec, T_enc), or as (…, tile, T_dec, keys of a tile), and
    kept: Array | None = None
    normalised: bool = False  # whether they are divided by the total already
    out: Array | None = None
    tile: tuple[int, int] = (0, 0)  # of the tiled engine
    moderate: Array | None = None  # per row: whether no reference had to be subtracted
    # For who changes what is below, or normalises the weights.
    lock: Any = field(default_factory=_thread.allocate_lock)
    bias_gradients: list[Array | None] = field(default_factory=list)  # while backward computes
    delta: Array | None = None  # per row, where sinks need it: rowsum(weights ⊙ dweights)
    beside: dict[int, Beside] = field(default_factory=dict)  # by thread, the latest last
    library: Library | None = None  # of which the results are, where it is not NumPy
    imprints: dict[str, bytes] = field(default_factory=dict)  # of the inputs, as they were

    def __getstate__(self) -> dict[str, Any]:
        return {x.name: getattr(self, x.name) for x in fields(self) if x.name != "lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        remembered = state.pop("imprints")
        self.__init__(**state)  # type: ignore[misc]  # with a lock that is free
        if remembered:  # a copy's arrays may lie otherwise, and add up otherwise
            self.remember()

    def remember(self) -> None:
        """Remember what the inputs are, so that a change is noticed."""
        self.imprints = self._imprints()

    def changed(self) -> str:
        """Name an input that was changed in place since, or nothing."""
        if self.library is not None and (name := self.library.changed()):
            return name
        now = self._imprints() if self.imprints else {}
        return next((name for name, then in self.imprints.items() if now[name] != then), "")

    def _imprints(self) -> dict[str, bytes]:
        operands = self.operands
        found = {"query": _imprint(operands.query), "key": _imprint(operands.key)}
        if operands.value is not operands.key:
            found["value"] = _imprint(operands.value)
        for entry in operands.visibility.entries:
            if isinstance(entry, Mask):
                found["mask"] = _imprint_of_mask(entry.array)
            elif isinstance(entry, Alibi):
                found["alibi"] = _imprint(entry.slopes)
        for name, array in (("sinks", operands.sinks), ("keep", operands.keep)):
            if array is not None:
                found[name] = _imprint(array)
        return found

    def __repr__(self) -> str:
        shape = (
            *self.operands.public_lead,
            self.operands.query.shape[-2],
            self.operands.key.shape[-2],
        )
        return (
            f"<Cache of {shape} weights, {self.operands.query.dtype}, {self.engine}, "
            f"{'kept' if self.kept is not None else 'computed again'}>"
        )

    @property
    def weights(self) -> Array | None:  # noqa: D102 - documented with the class
        kept, total, tiled = self.kept, self.total[..., None], self.engine == "tiled"
        if kept is None:
            return None
        with self.lock:
            if not self.normalised:  # when first asked for, and in place: they may be large
                total = np.where(total == 0, 1, total)
                kept /= total[..., None, :, :] if tiled else total
                self.normalised = True
        if tiled:
            kept = np.moveaxis(kept, -3, -2)
            *rows, count, step = kept.shape
            kept = kept.reshape(*rows, count * step)[..., : self.operands.key.shape[-2]]
        seen = kept.reshape(*self.operands.public_lead, *kept.shape[-2:]).view()
        seen.flags.writeable = not self.imprints  # backward reads them
        return self._as_given(seen)

    @property
    def dmask(self) -> Array | None:  # noqa: D102 - documented with the class
        return self._bias_gradient("mask", Mask)

    @property
    def dalibi(self) -> Array | None:  # noqa: D102 - documented with the class
        return self._bias_gradient("alibi", Alibi)

    @property
    def dsinks(self) -> Array | None:  # noqa: D102 - documented with the class
        found = self._found()
        return None if found is None else self._shaped("sinks", found.sinks)

    def keep_gradients(self, sinks: Array | None) -> None:
        """Keep what this thread's backward found beside the gradients that it returns."""
        self.beside.pop(_thread.get_ident(), None)
        self.beside[_thread.get_ident()] = Beside(self.bias_gradients, sinks)

    def _found(self) -> Beside | None:
        """The gradients of this thread's last backward, else of the last that there was."""
        mine = self.beside.get(_thread.get_ident())
        return mine if mine is not None else next(reversed(self.beside.copy().values()), None)

    def _bias_gradient(self, name: str, kind: type[Entry]) -> Array | None:
        found = self._found()
        if found is None:
            return None
        return self._shaped(name, self.operands.visibility.gradient_of(kind, found.biases))

    def _shaped(self, name: str, gradient: Array | None) -> Array | None:
        """Give a gradient the shape in which its input came."""
        if gradient is None:
            return None
        return self._as_given(gradient.reshape(self.operands.given_shapes[name]))

    def _as_given(self, array: Array) -> Array:
        """Give an array to look at as those are that came in, in the dtype that is computed in."""
        return array if self.library is None else self.library.back(array, rounded=False)

    @property
    def logsumexp(self) -> Array:  # noqa: D102 - documented with the class
        rows = self.shift.shape[-1]
        found = (self.shift + log(self.total)).reshape(*self.operands.public_lead, rows)
        return self._as_given(found)

    @property
    def blind(self) -> Array:
        """Which queries see no key at all, as booleans (…, T_dec)."""
        visibility, sinks = self.operands.visibility, self.operands.sinks
        if not visibility or sinks is None:
            blind: Array = self.total == 0
        else:
            # Their sum is their sink's alone, or nearly that of others whose sink is large.
            with np.errstate(invalid="ignore"):
                blind = self.total == np.exp(sinks - self.shift)
            every = slice(0, visibility.T_enc)
            for index in np.ndindex(blind.shape[:-1]):
                for start in range(0, visibility.T_dec, _ROWS):
                    rows = slice(start, min(start + _ROWS, visibility.T_dec))
                    if (alone := blind[(*index, rows)]).any():
                        seen = visibility.tile(rows, every, index)[1]
                        alone &= False if seen is None else ~seen.any(axis=-1)
        return blind.reshape(*self.operands.public_lead, blind.shape[-1])

    def warn_of_masked_rows(self, stacklevel: int) -> None:
        """Warn once, with their number, of queries that see no key at all."""
        if not self.operands.visibility:
            return
        count = np.count_nonzero(self.blind)
        if not count:
            return
        warnings.warn(
            f"{count} of {self.total.size} queries see no key at all; "
            "their weights, output and gradients are 0",
            AttnWarning,
            stacklevel=stacklevel + 1,
        )


def _imprint(array: Array) -> bytes:
    """Tell an array from what it was: whole if it is small, else by its sums along T.

    Each step counts in them with a weight of its own, so that another order gives other sums; what
    rounds away in a sum changes no gradient that can be told from the right one.
    """
    if array.nbytes <= _SMALL or array.ndim < 2:
        return array.tobytes()
    steps = np.arange(array.shape[-2]) * _GOLDEN % 1 + 0.5
    with np.errstate(all="ignore"):
        sums = products.weighted_sums(steps.astype(array.dtype.char.replace("?", "f")), array)
    return sums.tobytes()


def _imprint_of_mask(mask: Array) -> bytes:
    """Do so with its bits too: infinities hide in a sum what changes beside them."""
    if mask.dtype == bool or mask.itemsize > 8 or mask.nbytes <= _SMALL:
        return _imprint(mask)
    bits = mask.view(f"u{mask.itemsize}")
    odd = (2 * np.arange(mask.shape[-2]) + 1).astype(bits.dtype)
    return _imprint(mask) + products.weighted_sums(odd, bits).tobytes()
