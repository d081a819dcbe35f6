"""Nested lists in JSON as arrays: what people post, and what ``attn`` writes itself.

An object's arrays go by the keys that lead to them, joined by dots; a bare list is an array without
a name, as in an .npy file.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import numpy as np

from attncli.arrays import Array
from attncli.errors import AttnWarning, DataError, FileError
from attncli.files.entries import Entry
from attncli.files.exported import Matrix, arrays_of, refuse_image
from attncli.files.source import Source
from attncli.files.texts import decoded, entries_of, words_array

# What stands for numbers that JSON does not have.
_NOT_FINITE = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
_KINDS = {
    str: "text", bool: "true or false", type(None): "null", dict: "an object", list: "a list",
    int: "a number", float: "a number",
}  # fmt: skip
# Axes of the attention of one step: layers, N, heads, queries, keys.
_OF_A_STEP = 5
_FEWEST_OF_A_FAMILY = 3

# What pages that draw attention call their views of it, and whose the words at both sides are.
_VIEWS = {
    "encoder": ("encoder_attentions", "tokens_enc", None),
    "inp_inp": ("encoder_attentions", "tokens_enc", None),
    "decoder": ("decoder_attentions", "tokens_dec", None),
    "out_out": ("decoder_attentions", "tokens_dec", None),
    "cross": ("cross_attentions", "tokens_dec", "tokens_enc"),
    "out_inp": ("cross_attentions", "tokens_dec", "tokens_enc"),
    "all": ("attentions", "tokens_dec", "tokens_enc"),
}
_ROWS, _KEYS = ("left_text", "top_text"), ("right_text", "bot_text")


class _RaggedError(Exception):
    """Lists of different lengths where one array was expected."""


def list_entries(source: Source) -> dict[str, Entry]:
    """Describe every array of the file by its name; all of them are read."""
    return entries_of(_Reader(source).arrays(parse_json(decoded(source), source.label)))


def parse_json(text: str, label: str) -> Any:
    """Parse JSON, believing none of it.

    Raises
    ------
    FileError
        With line and column; also where an object has a key twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
            raise FileError(f"{label}: an object has the key {twice!r} twice")
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise FileError(f"{label}: {where}: no JSON: {error.msg.lower()}") from None
    except RecursionError:
        raise FileError(f"{label}: lists in lists, more than {_deepest()} deep") from None
    except ValueError:  # more digits than Python makes a number of
        raise FileError(f"{label}: holds a number of more than 4300 digits") from None


def _deepest() -> int:
    import sys

    return sys.getrecursionlimit()


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source, self.label = source, source.label

    def arrays(self, tree: Any) -> dict[str, Array]:
        """Find every array in what was parsed."""
        if isinstance(tree, list) and any(isinstance(one, dict) for one in tree):
            tree = {"attention": tree}
        if isinstance(tree, list):
            return self._array_or_family(tree, "")
        if not isinstance(tree, dict):
            raise FileError(f"{self.label}: is {_KINDS[type(tree)]}, expected lists of numbers")
        if isinstance(tree.get("matrices"), list) and "attn" in tree:
            return self._exported(tree)
        found: dict[str, Array] = {}
        for path, value in self._lists("", tree):
            for name, array in self._array_or_family(value, path).items():
                if name in found:
                    raise FileError(f"{self.label}: two arrays are called {name}")
                found[name] = array
        return found

    def _lists(self, path: str, value: Any) -> Iterator[tuple[str, list[Any]]]:
        """Find the lists that may be arrays, with the keys that lead to them."""
        if isinstance(value, list) and any(isinstance(one, dict) for one in value):
            named = {_view_of(one): one for one in value}
            if len(named) < len(value):  # no views: things of one kind
                named = {str(number): one for number, one in enumerate(value)}
                own = {_numbers_of(one): one for one in value}
                named = own if len(own) == len(value) and "" not in own else named
            value = named
        if isinstance(value, list):
            if value:
                yield path, value
        elif isinstance(value, dict) and set(value) >= {"data", "shape", "dtype"}:
            yield path, value["data"]  # a tensor as `--json` has it
        elif isinstance(value, dict):
            if (heads := _by_number("head", value)) is not None:
                yield path, [heads]  # of one item
                return
            views = {name: one for name, one in value.items() if _matrix_of(one)}
            if _matrix_of(value) and not value.keys().isdisjoint((*_ROWS, *_KEYS)):
                views = {"all": value}
            if not _VIEWS.keys().isdisjoint(views):
                yield from self._of_views(views)
                return
            for key, one in value.items():
                # Of what `attn` writes these only say what is in them.
                inside = path in ("", "tensors", "backward", "tokens")
                plain = key if inside or not path else f"{path}.{key}"
                if plain.isdecimal():
                    plain = f"layer{key}"
                yield from self._lists(plain, one)

    def _of_views(self, views: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
        """Name what pages draw: each part of a model, or all of it, and whose the words are."""
        known = [view for view in _VIEWS if view in views]
        used = [view for view in known if view != "all"] or known
        if others := [view for view in views if view not in used]:
            message = f"{self.label}: {', '.join(used)} is read, and not {', '.join(others)}"
            warnings.warn(message, AttnWarning, stacklevel=2)
        sides: dict[str, list[Any]] = {}
        for view in used:
            name, rows, keys = _VIEWS[view]
            one = views[view]
            weights = one[_matrix_of(one)]
            # Pages draw one item, and have (layers, heads, rows, keys) or one layer of these.
            axes = len(_shape(weights))
            yield name, [[layer] for layer in weights] if axes == 4 else [weights]
            for side, texts in ((rows, _ROWS), (keys, _KEYS)):
                for text in texts:
                    if side is not None and text in one:
                        sides.setdefault(side, one[text])
        yield from sides.items()

    def _array_or_family(self, value: Any, path: str) -> dict[str, Array]:
        """Read one array; or, where those in a list are of different shapes, each of them."""
        try:
            return {path: self._array(value, path)}
        except _RaggedError as ragged:
            family = self._family(value, path)
            if family is not None:
                return family
            if path and _numbers_in(value) == {int}:  # no weights: places in a text, …
                message = f"{self.label}: {ragged}: it is no array and is ignored"
                warnings.warn(message, AttnWarning, stacklevel=2)
                return {}
            raise DataError(f"{self.label}: {ragged}") from None

    def _family(self, value: list[Any], path: str) -> dict[str, Array] | None:
        """Read layers, or steps of layers, that differ in shape."""
        sizes = [_shape(one) for one in value]
        axes = min(map(len, sizes))
        if axes < _FEWEST_OF_A_FAMILY or len(set(sizes)) == 1:
            return None
        found = {}
        for number, one in enumerate(value):
            where = f"{path}[{number}]"
            if axes < _OF_A_STEP:
                found[f"{path}.{number}" if path else f"arr_{number}"] = self._array(one, where)
                continue
            for layer, weights in enumerate(one):
                name = f"{path}.{number}.{layer}" if path else f"step{number}_layer{layer}"
                found[name] = self._array(weights, f"{where}[{layer}]")
        return found

    def _array(self, value: Any, path: str) -> Array:
        """Make an array of nested lists that are as long as each other."""
        shape = _shape(value)
        rows = [value] if len(shape) == 1 else []
        if len(shape) > 1:
            self._collect(value, shape, path, rows)
        kinds = {kind for row in rows for kind in set(map(type, row))}
        if kinds <= {str} and not all(text in _NOT_FINITE for row in rows for text in row):
            return words_array(rows, self.label, self.source.max_memory).reshape(shape)
        if kinds > {str}:
            rows = [[_NOT_FINITE.get(one, one) if type(one) is str else one for one in row]
                    for row in rows]  # fmt: skip
            kinds = {kind for row in rows for kind in set(map(type, row))}
        if not kinds <= {int, float} and kinds != {bool}:
            self._refuse(rows, shape, path)
        try:
            dtype: type = float if float in kinds or not kinds else int if int in kinds else bool
            return np.array(rows, dtype).reshape(shape)
        except OverflowError:
            return self._large(rows, path).reshape(shape)

    def _large(self, rows: list[list[Any]], path: str) -> Array:
        """Make floats of integers that are too large for one."""
        try:
            return np.array(rows, float)
        except OverflowError:
            raise DataError(f"{self.label}: {path or 'a list'} holds an integer that no float "
                            "can take") from None  # fmt: skip

    def _collect(
        self, value: Any, shape: tuple[int, ...], path: str, rows: list[list[Any]]
    ) -> None:
        """Gather the innermost lists, each as long as the first."""
        size, *inner = shape
        if not isinstance(value, list):
            what = "numbers" if not inner else "lists"
            raise _RaggedError(f"{path} is {_KINDS[type(value)]}, expected a list of {size} {what}")
        if len(value) != size:
            raise _RaggedError(
                f"the rows differ in length: {path} has {len(value)}, those before {size}"
            )
        if not inner:
            rows.append(value)
            return
        for number, one in enumerate(value):
            self._collect(one, tuple(inner), f"{path}[{number}]", rows)

    def _refuse(self, rows: list[list[Any]], shape: tuple[int, ...], path: str) -> NoReturn:
        """Say where the first is that is no number."""
        for count, row in enumerate(rows):
            for place, one in enumerate(row):
                if type(one) not in (int, float):
                    outer = np.unravel_index(count, shape[:-1]) if shape[1:] else ()
                    where = path + "".join(f"[{number}]" for number in (*outer, place))
                    said = f" {json.dumps(one)[:40]}" if isinstance(one, str) else ""
                    raise DataError(
                        f"{self.label}: {where} is {_KINDS[type(one)]}{said}, expected a number"
                    )
        raise AssertionError(path)

    def _exported(self, tree: Mapping[str, Any]) -> dict[str, Array]:
        matrices = []
        steps = self._steps(tree.get("frames"))
        for number, one in enumerate(tree["matrices"]):
            where = f"matrices[{number}]"
            if not isinstance(one, dict) or not isinstance(one.get("weights"), list):
                raise DataError(f"{self.label}: {where} has no weights")
            refuse_image(one, self.label)
            if "strongest" in one:
                raise DataError(
                    f"{self.label}: {where} has the strongest keys of every row alone",
                    hint="written without --top and --threshold, it has all weights",
                )
            try:
                weights = self._array(one["weights"], f"{where}.weights")
            except _RaggedError as ragged:
                raise DataError(f"{self.label}: {ragged}") from None
            if weights.ndim != 2 or weights.dtype.kind not in "biuf":
                raise DataError(f"{self.label}: {where}.weights is no matrix of numbers")
            words = (
                self._labels(one, where, "tokens_dec", "rows", weights.shape[0]),
                self._labels(one, where, "tokens_enc", "columns", weights.shape[1]),
            )
            frame = one.get("frame")
            step = {"step": steps[frame]} if type(frame) is int and 0 <= frame < len(steps) else {}
            matrices.append(Matrix({**one, **step}, words, weights))
        return arrays_of(matrices, self.label)

    def _steps(self, frames: Any) -> list[Any]:
        steps = frames.get("steps") if isinstance(frames, dict) else None
        return steps if isinstance(steps, list) else []

    def _labels(
        self, one: Mapping[str, Any], where: str, name: str, places: str, size: int
    ) -> list[str] | None:
        """Give the words along an axis; of a part without words, the places that it was cut at."""
        words = one.get(name) or [str(place) for place in one.get(places) or ()] or None
        if words is None:
            return None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise DataError(f"{self.label}: {where}.{name} is no list of words")
        if len(words) != size:
            raise DataError(f"{self.label}: {where}.{name} has {len(words)}, its weights {size}")
        return words


def _shape(value: Any) -> tuple[int, ...]:
    """The lengths of the first list, of the first in it, and so on."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _by_number(word: str, lists: Mapping[str, Any]) -> list[Any] | None:
    """Give as a list what an object has by numbered keys, ``head0``, ``head1`` and so on."""
    found = {}
    for key, value in lists.items():
        match = re.fullmatch(rf"{word}[ _.-]?(\d{{1,6}})", key.lower())
        if match is None or not isinstance(value, list):
            return None
        found[int(match[1])] = value
    numbers = sorted(found)
    whole = bool(found) and numbers == list(range(len(found)))
    return [found[number] for number in numbers] if whole else None


def _matrix_of(view: Any) -> str:
    """The key under which a view has its weights."""
    names = ("attn", "att", "attention", "attentions", "weights")
    held = view if isinstance(view, dict) else {}
    return next((name for name in names if isinstance(held.get(name), list)), "")


def _numbers_of(one: Any) -> str:
    """Name one of several by what it says of itself: its layer, its head."""
    said = one if isinstance(one, dict) else {}
    numbers = {kind: said.get(kind) for kind in ("layer", "head")}
    return ".".join(f"{kind}{at}" for kind, at in numbers.items() if type(at) is int and at >= 0)


def _view_of(view: Any) -> str:
    """What a view in a list is called; one without a name is all there is."""
    name = view.get("name") if isinstance(view, dict) else None
    return str(name or "all").lower()


def _numbers_in(value: Any) -> set[type]:
    """The types of all that is in nested lists."""
    kinds: set[type] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting.extend(one)
        else:
            kinds.add(type(one))
    return kinds
