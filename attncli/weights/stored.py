"""Weights that a file holds as arrays: which axis is which, and a matrix when it is looked at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from attncli.arrays import Array
from attncli.errors import ShapeError
from attncli.files.contents import TensorFile
from attncli.tensors import axes_of, describe_shape
from attncli.weights.weight_source import FOUR, Layer, Part, Region, short

STACK = ("layers", *FOUR)


def stored_part(
    file: TensorFile,
    names: dict[int, str],
    given: tuple[str, ...] | None,
    *,
    numbered: bool = False,
) -> Part:
    """Read arrays that hold weights, by the number of their layer.

    Raises
    ------
    ShapeError
        If they have other axes than weights have, or than those given.
    """
    layers: dict[int, Layer] = {}
    axes: tuple[str, ...] = ()
    for number, name in names.items():
        shape = file.shape(name)
        axes = weight_axes(file.label, name, shape, given)
        sizes = dict(zip(axes, shape, strict=True))
        if sizes["T_enc"] == 0:
            raise ShapeError(f"{file.label}: {name or 'the array'} is {shape}: T_enc = 0, no keys")
        four = (
            sizes.get("N", 1),
            sizes.get("heads", 1),
            sizes.get("T_dec", 1),
            sizes.get("T_enc", 1),
        )
        if "layers" in sizes:
            if numbered:
                raise ShapeError(
                    f"{file.label}: {name} {shape} is one layer, and cannot have an axis of them"
                )
            for layer in range(sizes["layers"]):
                layers[layer] = Layer(name, four, _loader(file, name, axes, layer))
            numbered = True
        else:
            layers[number] = Layer(name, four, _loader(file, name, axes))
    if not layers:
        raise ShapeError(f"{file.label}: {name or 'the array'} is {shape}: layers = 0")
    first = layers[min(layers)]
    shape = file.shape(first.name)
    what = first.name or "weights"
    if len(names) > 1:
        last = max(layers)
        whole = len(layers) == last - min(layers) + 1
        what = f"{first.name} to layer{last}" if whole else ", ".join(names.values())
    reading = f"{what} {describe_shape(shape, axes)}"
    if len({layer.shape for layer in layers.values()}) > 1:
        reading += " and other shapes"
    return Part("", reading, layers, numbered, axes)


def weight_axes(
    label: str, name: str, shape: tuple[int, ...], given: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    """Name the axes of stored weights: as they were given, else as their number implies.

    Raises
    ------
    ShapeError
        If there are others.
    """
    what = f"{label}: {name or 'the array'}"
    if given is not None:
        if len(given) != len(shape):
            raise ShapeError(f"{what} is {shape}: --axes names {len(given)}, {', '.join(given)}")
        return given
    if len(shape) == len(STACK):
        return STACK
    found = axes_of("a" if name == "a" else "weights", len(shape))
    if found is None:
        raise ShapeError(
            f"{what} is {shape}, expected (T_dec, T_enc), (N, T_dec, T_enc), "
            "(N, heads, T_dec, T_enc) or (layers, N, heads, T_dec, T_enc)",
            hint="--axes frames,layers,N,heads,dec,enc says what other axes are",
        )
    return found


def _loader(
    file: TensorFile, name: str, axes: tuple[str, ...], layer: int = 0
) -> Callable[[int, int, Region], Array]:
    steps = [axis for axis in axes if axis in ("T_dec", "T_enc")]

    def load(item: int, head: int, region: Region) -> Array:
        rows, columns = region
        at = {"layers": layer, "N": item, "heads": head, "T_dec": rows, "T_enc": columns}
        index = short([at[axis] for axis in axes], file.shape(name))
        matrix = np.atleast_2d(file.numbers(name, index))
        return matrix.T if steps == ["T_enc", "T_dec"] else matrix

    return load
