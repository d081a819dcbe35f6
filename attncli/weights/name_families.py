"""Families of arrays by their names: which attention each is of, and what its numbers count.

Libraries name what they keep in ways of their own: ``layer_0``, ``encoder_attentions.3``,
``decoder.layers.2.encoder_attn.weights``, ``blocks.7.attn.hook_pattern``, ``step4_layer1``. The
words of a name say whose attention it is, and numbers that vary tell its members apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

Numbers = tuple[int, ...]

_ENCODER = {"encoder", "enc", "src", "source"}
_DECODER = {"decoder", "dec", "tgt", "trg", "target"}
_ATTENTION = {"attention", "attn", "att", "mha"}
_OWN = {"self", "intra", "masked"}
# An attention of a decoder called so looks at the encoder.
_ACROSS = {"context", "memory", "mem", "inter", "multihead"}
# Whatever else a name says, these are no weights.
_NEVER = {
    "hidden", "state", "states", "resid", "residual", "mlp", "ffn", "embed", "embeds", "embedding",
    "embeddings", "query", "queries", "key", "keys", "value", "values", "q", "k", "v", "z", "qkv",
    "kv", "past", "bias", "biases", "kernel", "proj", "fc", "dense", "ln", "layernorm",
    "ids", "id", "mask", "masks", "tokens", "label", "labels", "loss", "position", "grad",
    "positions", "seqlens", "lengths", "length", "segments", "options", "sequences", "features",
    "grads", "gradient", "gradients", "gamma", "beta", "lse",
    "rotary", "rope", "sin", "cos", "hs", "dhs", "dout", "keep", "sinks", "alibi", "slopes",
    "wq", "wk", "wv", "wo",
}  # fmt: skip
# These are none unless they name attention.
_ALONE = {"image", "images", "pixel", "pixels", "cache"}
# What is close to weights: looked at where there is nothing better.
_NEARLY = {
    "score", "scores", "logit", "logits", "raw", "dots", "energy", "energies", "pre", "norm",
    "norms", "weight",
}  # fmt: skip
_SURELY = {
    "pattern", "patterns", "prob", "probs", "probability", "probabilities", "weights", "softmax",
    "alpha", "alphas", "alignment", "alignments", "attentions", "attns",
}  # fmt: skip
# Names of this tool for something else.
_KNOWN = {"a", "h", "steps", "W_enc", "W_dec"}
_STEPS = {"step", "steps", "t", "time", "timestep", "timesteps", "tok", "token", "iter", "pos"}
_LAYERS = {"layer", "layers", "l", "lyr", "block", "blocks", "blk", "depth"}
_HEADS = {"head", "heads", "hd"}
_ITEMS = {
    "item", "items", "n", "b", "batch", "sample", "samples", "example", "ex", "sentence", "sent",
}  # fmt: skip
_COUNTERS = {"idx", "index", "no", "num", "nr"}
_GENERIC = {"arr", "array", "h", *_LAYERS, *_STEPS, *_HEADS, *_ITEMS, *_COUNTERS}

# A word that is two in one: encdec, enc2dec, crossattention, selfattn.
_WORD = re.compile(
    r"(?:encoders?|decoders?|enc|dec|self|cross|attentions?|attns?|att|weights?|probs|to)+"
)
_IN_WORD = re.compile(
    r"encoder|decoder|enc|dec|self|cross|attentions|attention|attns|attn|att|weights|weight|probs"
)
# TensorFlow's tutorial: within the decoder's layer, one block looks at itself, the next across.
_BLOCKS = (
    (re.compile(r"(?i)(dec\w*?layer_?[0-9]+)_?block_?1\b"), r"\1_self"),
    (re.compile(r"(?i)(dec\w*?layer_?[0-9]+)_?block_?2\b"), r"\1_cross"),
    (re.compile(r"(?i)(transformer_blocks\W[0-9]+\W)attn_?1\b"), r"\1self"),
    (re.compile(r"(?i)(transformer_blocks\W[0-9]+\W)attn_?2\b"), r"\1cross"),
    (re.compile(r"(?i)^encoder_?decoder(_?model)?[./]"), ""),
)
# Longer runs of digits are no numbers: Python makes none of more than 4300.
_NUMBER = re.compile(r"(?<!\d)(\d{1,18})(?!\d)")


@dataclass(frozen=True)
class Family:
    """Arrays whose names differ in nothing but numbers.

    Attributes
    ----------
    part : {"encoder", "decoder", "cross", ""}
        Whose attention the name says that it is.
    rank : int
        How much the name speaks for weights: 3 sure, 2 of attention, 1 of a layer or of anything, 0
        unknown, -1 of what is close to weights.
    words : set of str
        Those of the name.
    counts : tuple of str
        What each number that varies counts, as far as its word says: ``"layers"``, ``"steps"``,
        ``"heads"``, ``"N"``, else ``""``.
    members : dict of tuple of int to str
        The names by these numbers, ascending.
    twins : tuple of str
        The first two names of one number, as ``layer.01`` and ``layer.1``, if there are.
    """

    part: str
    rank: int
    words: frozenset[str]
    counts: tuple[str, ...]
    members: dict[Numbers, str]
    twins: tuple[str, ...] = ()


def families_of(names: Iterable[str]) -> list[Family]:
    """Put names that differ in nothing but numbers together, as far as they may be of weights.

    Examples
    --------
    >>> (one,) = families_of(["decoder.layers.10.self_attn", "decoder.layers.9.self_attn"])
    >>> one.part, one.counts, list(one.members)
    ('decoder', ('layers',), [(9,), (10,)])
    >>> families_of(["hidden_states.0", "input_ids", "tokens_enc"])
    []
    """
    alike: dict[tuple[str, ...], dict[Numbers, str]] = {}
    twins: dict[tuple[str, ...], tuple[str, ...]] = {}
    for name in names:
        plain = name
        for spelling, meant in _BLOCKS:
            plain = spelling.sub(meant, plain)
        pieces = _NUMBER.split(plain)
        texts, numbers = tuple(pieces[::2]), tuple(map(int, pieces[1::2]))
        other = alike.setdefault(texts, {}).setdefault(numbers, name)
        if other != name:
            twins.setdefault(texts, (other, name))
    return [
        replace(family, twins=twins.get(texts, ()))
        for texts, members in alike.items()
        if (family := _family(texts, members)) is not None
    ]


def _family(texts: tuple[str, ...], members: dict[Numbers, str]) -> Family | None:
    words = [word for text in texts for word in _words_of(text)]
    attends = _ATTENTION | _SURELY
    if _NEVER.intersection(words) or _is_result(words):
        return None
    if _ALONE.intersection(words) and not attends.intersection(words):
        return None
    if _KNOWN.intersection(members.values()):
        return None
    counts = [_count_of(text) for text in texts[:-1]]
    places = [
        place for place in range(len(counts)) if len({numbers[place] for numbers in members}) > 1
    ]
    if not any(counts[place] == "layers" for place in places):
        # The only one of its kind that was kept, or all that was kept is of one layer.
        alone = [place for place, count in enumerate(counts) if count == "layers"][-1:]
        if not places and not alone and counts and _is_of(texts[len(counts) - 1], _SURELY):
            alone = [len(counts) - 1]
        places = sorted({*places, *alone})
    rank = _rank(words, texts)
    if "h" in map(_last_word, texts[:-1]) and len(places) == 1 and counts[places[0]] == "heads":
        counts[places[0]] = "layers"  # GPT-2's layers are h.0, h.1 …
    return Family(
        _part_of(words), rank, frozenset(words), tuple(counts[place] for place in places),
        dict(sorted((tuple(numbers[place] for place in places), name)
                    for numbers, name in members.items())),
    )  # fmt: skip


def _words_of(text: str) -> list[str]:
    """Split a text into its words, small: at marks, capitals, and within what is two in one.

    Examples
    --------
    >>> _words_of("decoder.EncDecAttention"), _words_of("crossattention_probs")
    (['decoder', 'enc', 'dec', 'attention'], ['cross', 'attention', 'probs'])
    """
    parted = re.sub(r"([a-z])([A-Z])|([A-Z])(?=[A-Z][a-z])", r"\1\3 \2", text)
    found = []
    for word in re.findall(r"[^\W_]+", parted.lower()):
        found += _IN_WORD.findall(word) if _WORD.fullmatch(word) else [word]
    return found


def _is_of(text: str, words: set[str]) -> bool:
    return _last_word(text) in words


def _last_word(text: str) -> str:
    found = [word for word in _words_of(text) if word not in _COUNTERS]
    return found[-1] if found else ""


def _count_of(text: str) -> str:
    """Say what a number counts, by the word before it."""
    word = _last_word(text)
    kinds = {"layers": _LAYERS, "steps": _STEPS, "heads": {*_HEADS, "h"}, "N": _ITEMS}
    return next((count for count, kind in kinds.items() if word in kind), "")


def _is_result(words: list[str]) -> bool:
    """Whether it is what attention gives: attn_output, hook_attn_out."""
    return bool(words) and words[-1] in ("out", "output", "outputs")


def _rank(words: list[str], texts: tuple[str, ...]) -> int:
    kinds = set(words)
    if kinds & _NEARLY:
        return -1
    if kinds & _SURELY:
        return 3
    if kinds & {*_ATTENTION, "cross", "self"} or _part_of(words):
        return 2
    kinds -= {"h"}  # of heads; alone it is a state
    return 1 if kinds and kinds <= _GENERIC and len(texts) > 1 else 0


def _part_of(words: list[str]) -> str:
    """Say whose attention the words of a name mean.

    Examples
    --------
    >>> _part_of(["decoder", "layers", "encoder", "attn"]), _part_of(["enc", "self", "attn"])
    ('cross', 'encoder')
    """
    sides = ["encoder" if word in _ENCODER else "decoder"
             for word in words if word in _ENCODER | _DECODER]  # fmt: skip
    if {"cross", "xattn"} & {*words} or {*pairwise(words)} & {("x", one) for one in _ATTENTION}:
        return "cross"
    if sides and _OWN & {*words}:
        return sides[-1]
    if len({*sides}) == 2 or ("src", "attn") in pairwise(words):
        return "cross"
    if sides[:1] == ["encoder"]:
        return "encoder"
    attends = bool(_ATTENTION & {*words} or "attentions" in words)
    if _ACROSS & {*words} and attends and ("multihead" not in words or sides):
        return "cross"
    return sides[0] if sides else ""
