"""Words that an option gives: one after the other, in a file, or a vocabulary that ids look up."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from attncli.arrays import Array, Tokens
from attncli.errors import AttnWarning, DataError, FileError, NoFileError
from attncli.files.contents import TensorFile
from attncli.files.entries import Entry
from attncli.files.json_arrays import parse_json
from attncli.files.source import open_source
from attncli.files.texts import decoded, words_array
from attncli.weights.wanted import Wanted
from attncli.weights.words_beside import GIVEN, side_of_ids

Vocabulary = Mapping[int, str]


def with_given_words(file: TensorFile, wanted: Wanted) -> TensorFile:
    """Put the words that options give into a file, or words into the places of its ids.

    Raises
    ------
    AttnError
        If they cannot be read, or are a vocabulary for which there are no ids.
    """
    for option, given in (
        ("--tokens", wanted.tokens),
        ("--tokens-enc", wanted.tokens_enc),
        ("--tokens-dec", wanted.tokens_dec),
    ):
        if given is not None:
            entries = _Given(option, given, file).entries()
            file = TensorFile(file.label, {**file.entries, **entries}, file.reading)
    return file


class _Given:
    """What an option gives.

    It is the name of a file if there is one of that name; else words with commas between them,
    or a JSON list of them.
    """

    def __init__(self, option: str, text: str, file: TensorFile) -> None:
        self.option, self.text, self.file = option, text, file
        self.ids = {
            name: file.entries[name]
            for name in file
            if (side := side_of_ids(file, name)) is not None
            and option in (GIVEN + "tokens", GIVEN + side.replace("_", "-"))
        }

    def entries(self) -> dict[str, Entry]:
        """Give the entries that have these words, by the names of the option or of the ids."""
        found = self._read()
        if isinstance(found, list):
            size = max((entry.shape[-1] for entry in self.ids.values()), default=0)
            largest = max((self._ids(name).max(initial=-1) for name in self.ids), default=-1)
            if not self.ids or len(found) <= max(size, largest):  # no vocab.txt
                return {self.option: _entry(self._words(found))}
            found = dict(enumerate(found))
        if not self.ids:
            raise DataError(
                f"{self.option} {self.text}: is a vocabulary, and {self.file.label} has no ids of "
                "its words",
                hint=f"{self.option} FILE with the words, one a line",
            )
        return {name: _entry(self._looked_up(name, found)) for name in self.ids}

    def _ids(self, name: str) -> Array:
        return self.file.numbers(name)

    def _looked_up(self, name: str, vocabulary: Vocabulary) -> Tokens:
        ids = self._ids(name)
        words = [vocabulary.get(one, str(one)) for one in ids.ravel().tolist()]
        unknown = sorted({one for one in ids.ravel().tolist() if one not in vocabulary})
        if unknown:
            named = ", ".join(map(str, unknown[:3])) + (", …" if unknown[3:] else "")
            warnings.warn(
                f"{self.text}: has no word for {len(unknown)} of the ids in {name}: {named}",
                AttnWarning,
                stacklevel=2,
            )
        return np.array(words, dtype=np.str_).reshape(ids.shape)

    def _read(self) -> Any:
        text = self.text
        if text != "-" and not os.path.isfile(text):
            if text.startswith("[") and text.rstrip().endswith('"]'):
                return self._in_tree(parse_json(text, self.option))
            if "," not in text:
                says = f"{self.option} {text}: no such file, and words have commas between them"
                raise NoFileError(says, text)
            apart = ", " if text.count(",") == text.count(", ") else ","
            return text.split(apart)
        source = open_source(text, max_memory=self.file.reading.max_memory)
        self.source = source
        content = decoded(source)
        if content.lstrip()[:1] in ("{", "["):
            try:
                return self._in_tree(parse_json(content, source.label))
            except FileError:
                if text.endswith(".json"):
                    raise
        lines = content.split("\n")
        if lines[-1] == "":
            lines.pop()
        if lines and all(line.endswith("\r") for line in lines[:-1]) and lines[1:]:
            lines = [line.removesuffix("\r") for line in lines]
        return lines

    def _in_tree(self, tree: Any) -> Any:
        """Give the words, lists of words or the vocabulary that JSON holds."""
        if isinstance(tree, dict) and isinstance(tree.get("tokens"), list):
            tree = tree["tokens"]
        if isinstance(tree, list):
            return tree
        vocabulary = vocabulary_in(tree)
        if not vocabulary:
            raise DataError(
                f"{self.option} {self.text}: no words: expected a list of them, or the vocabulary "
                "of a tokenizer.json"
            )
        return vocabulary

    def _words(self, words: list[Any]) -> Tokens:
        """Make an array of words, or of a list of them for each item."""
        what = f"{self.option} {self.text}"
        lists = words if words and all(isinstance(one, list) for one in words) else [words]
        sizes = {len(one) for one in lists}
        if len(sizes) > 1:
            raise DataError(f"{what}: its lists have {min(sizes)} to {max(sizes)} words")
        for some in lists:
            for one in some:
                if not isinstance(one, str) and type(one) is not int:
                    raise DataError(f"{what}: {one!r:.40} is no word")
        texts = [[str(one) for one in some] for some in lists]
        return words_array(texts if lists is words else texts[0], what, None)


def vocabulary_in(tree: Any) -> dict[int, str]:
    """Read the words of a tokenizer by their ids: a ``tokenizer.json``, or a ``vocab.json``.

    Of a ``tokenizer.json`` the model has the pieces: as an object with their ids (BPE, WordPiece,
    WordLevel), or as a list of pairs with their scores in the order of ids (Unigram); and words
    that were added have theirs.

    Examples
    --------
    >>> vocabulary_in({"the": 0, "cat": 7})
    {0: 'the', 7: 'cat'}
    >>> vocabulary_in({"model": {"vocab": [["▁the", -3.5]]}, "added_tokens": [{"id": 5,
    ...     "content": "</s>"}]})
    {0: '▁the', 5: '</s>'}
    """
    if not isinstance(tree, dict):
        return {}
    model = tree.get("model")
    pieces = model.get("vocab") if isinstance(model, dict) else tree
    found: dict[int, str] = {}
    if isinstance(pieces, dict):
        found = {number: text for text, number in pieces.items() if type(number) is int}
    elif isinstance(pieces, list):
        found = {
            number: one[0]
            for number, one in enumerate(pieces)
            if isinstance(one, list) and one and isinstance(one[0], str)
        }
    added = tree.get("added_tokens")
    for one in added if isinstance(added, list) else ():
        if (
            isinstance(one, dict)
            and type(one.get("id")) is int
            and isinstance(one.get("content"), str)
        ):
            found[one["id"]] = one["content"]
    return found


def _entry(words: Tokens) -> Entry:
    return Entry(words.shape, words.dtype, lambda max_memory: words)
