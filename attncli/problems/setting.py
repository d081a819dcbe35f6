"""How tensors lie and how many heads they have: as it was asked for, else as the run had it."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attncli.core.rotary import Rotation
from attncli.errors import AttnWarning, DataError, ParameterError
from attncli.operations import Operation
from attncli.operations.layout import (
    ALL,
    PACKED,
    Layout,
    Words,
    packed_words,
    parse_layout,
    readings,
    unpacked,
)

if TYPE_CHECKING:
    from attncli.arrays import Array

_ROTARY = {"rotary": "style", "rotary_base": "base", "rotary_width": "width"}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Setting:
    """What is said of tensors before anybody looks at them.

    Attributes
    ----------
    origin : str
        Where they come from.
    words, heads, rotary : dict
        As `Request` has them.
    is_asked, is_run : bool
        Whether anybody asked for some of it; whether a run wrote the tensors.
    """

    origin: str
    words: Mapping[str, Words]
    heads: Mapping[str, int]
    rotary: Mapping[str, Any]
    is_asked: bool = True
    is_run: bool = False

    @classmethod
    def of(
        cls,
        options: Mapping[str, Any],
        origin: str,
        *,
        layout: Mapping[str, Words] | None = None,
        heads: Mapping[str, int] | None = None,
        rotary: Mapping[str, Any] | None = None,
    ) -> Setting:
        """Read it from the options of a run; what is asked for, as `Request` has it, goes before.

        Raises
        ------
        DataError
            If the options hold what no run writes.
        """
        its_heads: dict[str, int] = {
            name: options[name] for name in ("heads", "kv_heads") if name in options
        }
        for name, number in its_heads.items():
            if number < 1:
                raise DataError(f"{origin}: its options: {name} is {number}, expected 1 or more")
        try:
            words = parse_layout(options["layout"]) if "layout" in options else {}
        except ParameterError as error:
            raise DataError(f"{origin}: its options: {error}") from None
        layout, heads, rotary = layout or {}, heads or {}, rotary or {}
        return cls(
            origin,
            {**({} if ALL in layout else words), **layout},
            {**({} if "heads" in heads else its_heads), **heads},
            {**{name: options[name] for name in _ROTARY if name in options}, **rotary},
            bool(layout or heads or rotary),
            bool(options),
        )

    def applied(
        self, operation: Operation, ndims: Mapping[str, int] | None = None
    ) -> tuple[Operation, Layout]:
        """Return the operation that is meant, and the layout of its inputs.

        Parameters
        ----------
        operation : Operation
        ndims : mapping of str to int, optional
            How many axes the inputs have; None if they are still to be drawn.

        Raises
        ------
        ParameterError, DataError
            If the operation cannot have it, asked for or in the options of a run.
        """
        if ndims is not None and operation.heads is not None and "heads" not in self.heads:
            raise DataError(
                f"{self.origin}: nothing says how many heads {operation.name} has",
                hint=f"--heads {operation.heads}",
            )
        try:
            operation = with_rotary(_with_heads(operation, self.heads), self.rotary)
            return operation, Layout.of(operation, self.words, self.heads, ndims)
        except ParameterError as error:
            if self.is_asked:
                raise
            raise DataError(f"{self.origin}: its options: {error}") from None

    def unpacked(self, qkv: Array) -> tuple[dict[str, Array], Setting]:
        """Return query, key and value out of one array, and how they lie then.

        Warns
        -----
        AttnWarning
            What its axes were taken for, if nobody says so.
        """
        words = self.words.get("qkv") or self.words.get(ALL)
        if words is None:
            words = packed_words(qkv.shape)
            self._tell(
                f"qkv {qkv.shape} was read as ({', '.join(words)}), as by --layout "
                f"{','.join(words)}; any other --layout reads it otherwise"
            )
        parts = unpacked(qkv, words, self.heads)
        own = {name: x for name, x in self.words.items() if name not in ("qkv", ALL)}
        apart = {ALL: tuple(word for word in words if word != PACKED)}
        return parts, dataclasses.replace(self, words={**apart, **own})

    def tell_of_reading(
        self,
        operation: Operation,
        shapes: Mapping[str, Shape],
        known: Mapping[str, int] | None = None,
    ) -> str | None:
        """Say how query, key and value are read where nobody says how they lie.

        Parameters
        ----------
        operation : Operation
        shapes : mapping of str to tuple of int
        known : mapping of str to int, optional
            Sizes that other arrays tell: ``heads`` and ``total``.

        Returns
        -------
        str or None
            The layout that is likely meant, as an option, if they do not fit as they are read.

        Warns
        -----
        AttnWarning
            If they fit in another layout as well.
        """
        if not operation.is_whole or operation.one_step or self.words or self.is_run:
            return None
        query, key, value = (shapes[name] for name in operation.operands)
        usual, others = readings(query, key, value, known or {})
        if not others:
            return None
        option = f"--layout {','.join(others[0])}"
        if usual is not None and operation.layer is None:  # the book says how its own lie
            self._tell(
                f"query {shapes['query']} was read as ({', '.join(usual)}); {option} reads it "
                "otherwise"
            )
        return option if usual is None else None

    def _tell(self, message: str) -> None:
        warnings.warn(f"{self.origin}: {message}", AttnWarning, stacklevel=2)


def _with_heads(operation: Operation, heads: Mapping[str, int]) -> Operation:
    """Return the operation that has so many heads; those of the general one are in a layout."""
    if not heads:
        return operation
    if "heads" not in operation.options:
        raise ParameterError(
            f"--heads has no meaning for {operation.name}: it has one head",
            hint="--layer scaled-dot-product",
        )
    if "heads" not in heads:
        raise ParameterError("--kv-heads has no meaning without --heads")
    if operation.layer is not None:
        if "kv_heads" in heads:
            raise ParameterError(f"--heads A,B has no meaning for {operation.name}: B is A")
        return dataclasses.replace(operation, heads=heads["heads"])
    query, shared = heads["heads"], heads.get("kv_heads", heads["heads"])
    if query % shared:
        raise ParameterError(
            f"--heads {query},{shared}: expected a divisor, so that every key head serves as many "
            "query heads"
        )
    return operation


def with_rotary(operation: Operation, rotary: Mapping[str, Any]) -> Operation:
    """Return the operation whose query and key are turned by their positions, if that is asked for.

    Raises
    ------
    ParameterError
        If it takes no such option, or one is outside its range.

    Examples
    --------
    >>> from attncli.operations import OPERATIONS
    >>> rotated = with_rotary(OPERATIONS["scaled-dot-product"], {"rotary": "halves"})
    >>> rotated.rotation
    Rotation(style='halves', base=10000.0, width=None)
    """
    if not rotary:
        return operation
    if "rotary" not in operation.options:
        raise ParameterError(
            f"--rotary has no meaning for {operation.name}: it turns query and key",
            hint="--layer scaled-dot-product",
        )
    if "rotary" not in rotary:
        option = next(iter(rotary)).replace("_", "-")
        raise ParameterError(f"--{option} has no meaning without --rotary", hint="--rotary halves")
    rotation = Rotation(**{_ROTARY[name]: value for name, value in rotary.items()})
    return dataclasses.replace(operation, rotation=rotation)


def rotary_of(operation: Operation) -> dict[str, Any]:
    """Return the options that `with_rotary` makes the same operation of."""
    if operation.rotation is None:
        return {}
    found = {name: getattr(operation.rotation, own) for name, own in _ROTARY.items()}
    return {name: value for name, value in found.items() if value is not None}
