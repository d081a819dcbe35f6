"""What is said of a target beside its name: by options, or in Python by keywords."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attncli.checking.targets.wire import decode, encode
from attncli.operations.layout import Words, parse_layout

Sizes = Mapping[str, int]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Given:
    """What is said of a target beside its name.

    Attributes
    ----------
    arguments : mapping of str to object
        What its constructor is given, or its forward where that has an argument of the name.
    shapes : mapping of str to tuple of int
        Of inputs, and of arrays for the constructor, that their names do not say.
    device : str or None
        Where its inputs are moved.
    layout : mapping of str to tuple of str
        In which order its tensors' axes come, as `attncli.operations.layout` reads it.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    shapes: Shapes = field(default_factory=dict)
    device: str | None = None
    layout: Mapping[str, Words] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        arguments: Mapping[str, Any] | None,
        inputs: Shapes | None,
        layout: str | Mapping[str, Words] | None,
    ) -> Given:
        """Take what Python's functions are given by keyword.

        Raises
        ------
        ParameterError
            If the layout is none.
        """
        layout = parse_layout(layout) if isinstance(layout, str) else layout
        return cls(arguments or {}, inputs or {}, None, layout or {})

    def __bool__(self) -> bool:
        """Whether anything is said."""
        return any((self.arguments, self.shapes, self.device, self.layout))

    def told(self, parts: list[Any]) -> dict[str, Any]:
        """Describe it in JSON, for the process that the target runs in; the layout is our affair.

        Examples
        --------
        >>> given = Given({"scale": 0.5}, {"W": (4, 4)})
        >>> Given.read(given.told(parts := []), parts) == given
        True
        """
        arguments = {name: encode(value, parts) for name, value in self.arguments.items()}
        return {"arguments": arguments, "shapes": dict(self.shapes), "device": self.device}

    @classmethod
    def read(cls, told: Any, parts: list[Any]) -> Given:
        """Read what `told` gives."""
        arguments = {name: decode(value, parts) for name, value in told["arguments"].items()}
        shapes = {name: tuple(shape) for name, shape in told["shapes"].items()}
        return cls(arguments, shapes, told["device"])
