"""Frames: the weights of one model at several steps of its training, in one file."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from attncli.errors import DataError, ParameterError
from attncli.files.contents import TensorFile
from attncli.tensors import describe_range
from attncli.weights.wanted import Wanted


@dataclass(frozen=True)
class Frames:
    """The frames of a file.

    Attributes
    ----------
    file : TensorFile
    name : str
        The array that has them.
    axis : int
        The axis that they are.
    axes : tuple of str or None
        The others, where they were given.
    steps : sequence of int or float
        The step of each; its number where the file does not say.
    loss : sequence of float
        The loss of each; NaN where the file does not say.
    """

    file: TensorFile
    name: str
    axis: int
    axes: tuple[str, ...] | None
    steps: Sequence[float]
    loss: Sequence[float]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.steps)

    def __getitem__(self, number: int) -> TensorFile:
        """Give the file as if it held this frame alone."""
        return self.file.at(self.name, self.axis, number)

    def chosen(self, wanted: Wanted) -> Sequence[int]:
        """Give the numbers of those that are wanted: without a word the last, to browse all.

        Raises
        ------
        ParameterError
            If there is no such frame.
        """
        count, number = len(self), wanted.frame
        if wanted.frames or (wanted.browse and number is None):
            return range(count)
        if number is None:
            return [count - 1]
        if 0 <= number < count:
            return [number]
        hint = (
            f"--frame {self.steps.index(number)} is step {number}" if number in self.steps else None
        )
        raise ParameterError(
            f"--frame {number}: {self.file.label} has no such frame; {describe_range(count)}: "
            f"steps {self.steps[0]:g} to {self.steps[-1]:g}",
            hint=hint,
        )

    def described(self, number: int) -> str:
        """Say at which step a frame was taken, and the loss.

        Examples
        --------
        >>> held = TensorFile("run.npz", {}, None)
        >>> frames = Frames(held, "weights", 0, None, [0, 480], [2.3026, math.nan])
        >>> frames.described(0), frames.described(1)
        ('step 0, loss 2.303', 'step 480')
        """
        loss = self.loss[number]
        return f"step {self.steps[number]:g}" + ("" if math.isnan(loss) else f", loss {loss:.4g}")


def frames_in(file: TensorFile, axes: tuple[str, ...] | None) -> Frames | None:
    """Find the frames of a file: the first axis of its weights, where `steps` has one for each.

    Parameters
    ----------
    file : TensorFile
    axes : tuple of str, optional
        What the axes are; one of them may be ``frames``, whatever `steps` says.

    Raises
    ------
    DataError
        If there are none along that axis.
    ParameterError
        If the axes name frames of what is not there.
    """
    name = "" if "" in file else "weights"
    shape = file.shape(name) if name in file else ()
    axis, others = 0, axes
    if axes is not None and "frames" in axes:
        if len(shape) != len(axes):
            held = f"{name} is {shape}" if shape else "holds no array weights"
            raise ParameterError(f"--axes {','.join(axes)}: {file.label}: {held}")
        axis, others = axes.index("frames"), tuple(one for one in axes if one != "frames")
    elif (
        "steps" not in file
        or len(shape) < 3
        or file.shape("steps") != shape[:1]
        or (axes is not None and len(axes) == len(shape))
    ):
        return None
    count = shape[axis]
    if count == 0:
        raise DataError(f"{file.label}: weights is {shape}: frames = 0")
    told = {
        one: file.numbers(one, allow_nonfinite=True).tolist()
        for one in ("steps", "loss")
        if one in file and file.shape(one) == (count,)
    }
    steps, loss = told.get("steps", list(range(count))), told.get("loss", [math.nan] * count)
    # What is beside the frames is that of all, and read once.
    entries = {
        one: entry if one == name else replace(entry, load=functools.cache(entry.load))
        for one, entry in file.entries.items()
    }
    return Frames(replace(file, entries=entries), name, axis, others, steps, loss)
