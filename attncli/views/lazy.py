"""What is drawn piece by piece: large tensors are never there as text, or as styles, as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar, overload

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment

T = TypeVar("T")


class Rows(Sequence[T]):
    """Rows that are made each time they are asked for.

    Parameters
    ----------
    count : int
        How many there are.
    make : callable
        Makes a row from its number.

    Examples
    --------
    >>> rows = Rows(3, lambda row: [row] * 2)
    >>> len(rows), rows[1], list(rows)
    (3, [1, 1], [[0, 0], [1, 1], [2, 2]])
    """

    def __init__(self, count: int, make: Callable[[int], T]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        """Return how many there are."""
        return self._count

    @overload
    def __getitem__(self, row: int) -> T: ...

    @overload
    def __getitem__(self, row: slice) -> Sequence[T]: ...

    def __getitem__(self, row: int | slice) -> T | Sequence[T]:
        """Make a row."""
        if isinstance(row, slice):
            return [self._make(number) for number in range(*row.indices(self._count))]
        if not 0 <= row < self._count:
            raise IndexError(row)
        return self._make(row)


class OneByOne:
    """Renderables below each other, each made when the one before has been printed.

    Parameters
    ----------
    make : callable
        Gives them all; it is called each time they are printed.
    """

    def __init__(self, make: Callable[[], Iterable[RenderableType]]) -> None:
        self.make = make

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give one after the other."""
        yield from self.make()


class Indented:
    """A renderable moved to the right, the lines that it wraps into included.

    rich's own Padding does the same with all lines at once.
    """

    def __init__(self, renderable: RenderableType, by: int) -> None:
        self.renderable, self.by = renderable, by

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give line after line."""
        narrower = options.update_width(max(1, options.max_width - self.by))
        for line in Segment.split_lines(console.render(self.renderable, narrower)):
            yield Segment(" " * self.by)
            yield from line
            yield Segment.line()
