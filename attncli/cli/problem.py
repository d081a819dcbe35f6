"""What `forward` and `backward` are to compute: an operation and its tensors, drawn or read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from attncli import __version__
from attncli.arrays import Array, Tokens
from attncli.files.reading import Reading
from attncli.memory import require
from attncli.operations import OPERATIONS, Operation, Pass
from attncli.tensors import describe_shape, random_tensor

_DEFAULT_SIZES = {"N": 3, "T": 5, "H": 4}
_SIZE_ORDER = ("N", "heads", "T_dec", "T_enc", "H")
TOKEN_AXES = {"tokens_enc": "T_enc", "tokens_dec": "T_dec"}


@dataclass(frozen=True)
class Problem:
    """An operation and the tensors it is to be run on.

    Attributes
    ----------
    operation : Operation
    inputs : dict of str to ndarray
        One for each of the operation's inputs.
    masks : dict of str to ndarray
        mask, enc_mask and dec_mask, as far as there are any.
    dout : ndarray or None
        The incoming gradient, where a file has one.
    tokens : dict of str to ndarray of str
        ``tokens_enc`` and ``tokens_dec``, as far as there are any.
    origin : str
        Where the tensors come from.
    is_random : bool
        Whether the inputs were drawn.
    seed : int
        Of everything random.
    reading : Reading
        How files are read, and how much memory there is.
    unused : tuple of str
        What the file holds beside.
    """

    operation: Operation
    inputs: dict[str, Array]
    masks: dict[str, Array]
    dout: Array | None
    tokens: dict[str, Tokens]
    origin: str
    is_random: bool
    seed: int
    reading: Reading = field(default_factory=Reading)
    unused: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes that the inputs have."""
        found = self.operation.sizes(self.inputs)
        return {axis: found[axis] for axis in _SIZE_ORDER if axis in found}

    @property
    def axis_tokens(self) -> dict[str, Tokens]:
        """The tokens by the axis they label."""
        return {TOKEN_AXES[name]: texts for name, texts in self.tokens.items()}

    def forward(self) -> Pass:
        """Run forward, after making sure that the results fit into memory."""
        sizes = self.sizes
        if {"N", "T_dec", "T_enc"} <= set(sizes):
            shape = (sizes["N"], sizes["T_dec"], sizes["T_enc"])
            itemsize = max(array.dtype.itemsize for array in self.inputs.values())
            # They are kept by the layers, once more as the result, and in between once more.
            require(3 * prod(shape) * itemsize, f"weights {shape}", self.reading.max_memory)
        mask = self.operation.mask({**self.inputs, **self.masks})
        return self.operation.forward(self.inputs, mask, padding=self.masks.get("dec_mask"))

    def gradient_in(self, forward: Pass) -> Array:
        """Return dout: the file's, or a random one of the shape of the result."""
        result = forward.results[self.operation.result]
        if self.dout is not None:
            return self.dout
        return random_tensor("dout", result.shape, seed=self.seed, dtype=result.dtype)

    def options(self, command: str) -> dict[str, Any]:
        """Return what a run file says of the run beside its tensors."""
        return {
            "attn": __version__,
            "command": command,
            "layer": self.operation.name,
            "seed": self.seed,
            "source": self.origin,
        }


def random_problem(
    layer: str | None, sizes: Mapping[str, int], seed: int, dtype: str | None, reading: Reading
) -> Problem:
    """Draw the inputs of an operation at random.

    Raises
    ------
    MemoryLimitError
        If they do not fit.
    """
    operation = OPERATIONS[layer or "time-attention"]
    given = {**_DEFAULT_SIZES, **sizes}
    full = {
        "N": given["N"],
        "T_dec": given["T"],
        "T_enc": given.get("T_enc", given["T"]),
        "H": given["H"],
    }
    shapes = operation.shapes(full)
    for name, shape in shapes.items():
        axes = operation.axes(name, len(shape))
        what = f"random {name} {describe_shape(shape, axes)}"
        require(8 * prod(shape), what, reading.max_memory, hint="smaller --N, --T or --H")
    inputs = {
        name: random_tensor(name, shape, seed=seed, dtype=dtype or "float64")
        for name, shape in shapes.items()
    }
    return Problem(operation, inputs, {}, None, {}, f"random, seed {seed}", True, seed, reading)
