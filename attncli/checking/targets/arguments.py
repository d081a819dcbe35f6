"""What somebody's arguments mean, by their names: of forward, and of a constructor."""

from __future__ import annotations

import ast
import copy
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from inspect import Parameter
from itertools import permutations
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from attncli.checking.targets.given import Given, Sizes
from attncli.checking.targets.wire import decode, encode
from attncli.errors import TargetError
from attncli.tensors import random_tensor

Parameters = tuple[Parameter, ...]

_HEADS = 2
"""How many a constructor is given: more than one, so that mixing them up shows."""


def _spelled(**names: str) -> dict[str, str]:
    """Every spelling of a table, without case and underscores, and what it means."""
    return {name: meaning for meaning, known in names.items() for name in known.split()}


# The tensors that forward takes.  What is said of encoder and decoder may be all steps or one.
_TENSORS = _spelled(
    query="q query queries querystates qstates querylayer xq x xs input inputs inp hiddenstates "
    "embeddings",
    key="k key keys keystates kstates keylayer xk",
    value="v value values valuestates vstates valuelayer xv",
    hs_enc="hsenc enchs hsencoder encoderhs enc encout encoutput encoutputs encoderout "
    "encoderoutput encoderoutputs encoderhiddenstates encoderstates encstates memory memories "
    "memorybank annotations source src",
    hs_dec="hsdec dechs hsdecoder decoderhs dec decout decoutput decoutputs decoderout "
    "decoderoutput decoderoutputs decoderhiddenstates decoderstates decstates target tgt",
    hs="hs",
    h="h hidden hiddenstate dechidden hdec decoderhidden decoderhiddenstate decoderstate decstate "
    "state prevhidden lasthidden s",
    a="a alpha alphas",
    scores="scores score logits",
    qkv="qkv qkvpacked packedqkv mixedqkv",
)
_ONE_OF = {
    "query": ("query", "hs_dec", "h"),
    "key": ("key", "hs_enc", "hs"),
    "value": ("value", "hs_enc", "hs"),
    "hs_enc": ("hs_enc", "hs"),
    "hs_dec": ("hs_dec", "h"),
    "h": ("h", "hs_dec"),
}

# What forward takes beside, or a constructor.
_BESIDE = _spelled(
    mask="mask attnmask attentionmask",
    padding="encmask srcmask keymask paddingmask keypaddingmask memorymask",
    bias="bias attnbias attentionbias relposbias relativepositionbias positionbias scoresbias",
    scale="scale scaling softmaxscale smscale qkscale scorescale attnscale scalefactor",
    causal="causal iscausal usecausalmask causalmask masked autoregressive",
    align="align",
    softcap="softcap logitcap logitsoftcap logitssoftcap attnlogitsoftcapping softcapping",
    window="window windowsize localwindowsize localwindow slidingwindow slidingwindowsize",
    window_left="windowleft windowsizeleft leftwindow",
    window_right="windowright windowsizeright rightwindow",
    sinks="sinks sink saux attentionsinks attnsink attnsinks",
    alibi="alibi alibislopes slopes",
    kv_lengths="kvlengths cacheseqlens keyvalueseqlengths sequsedk kvlens kvlen seqlensk validlens "
    "validlen validlengths validlength lengths lens seqlens seqlengths sequencelengths keylengths "
    "keylens klens srclengths srclens sourcelengths encoderlengths enclengths enclens inputlengths "
    "memorylengths memorylens memorysequencelength memorysequencelengths contextlengths xlens",
    segments="segments segmentids",
    keep="keep keepmask dropoutmask",
    hidden_queries="querypaddingmask qpaddingmask decmask querymask qmask",
    dropout="dropout dropoutp dropoutrate dropoutprob pdropout pdrop dropoutratio dropprob "
    "attnpdrop attndropout attentiondropout residpdrop",
    training="training istraining train trainflg",
    deterministic="deterministic",
    returns="needweights returnweights returnattn returnattnprobs returnattention outputattentions "
    "returnattentionweights returnlse returnsoftmax returnsoftmaxlse averageattnweights",
    grouped="enablegqa",
    heads="heads numheads nheads nhead numattentionheads attentionheads",
    kv_heads="kvheads numkvheads nkvheads numkeyvalueheads",
    cu_seqlens="cuseqlensq cuseqlens qcuseqlens cuseqlensquery cuseqlenq cuseqlen",
    cu_seqlens_k="cuseqlensk cuseqlenskv kcuseqlens kvcuseqlens cuseqlenskey cuseqlenk",
    cos="cos cosine cosines cosq rotarycos cosemb coscached",
    sin="sin sine sines sinq rotarysin sinemb sincached",
    max_seqlen="maxseqlenq maxseqlen maxseqlensq maxqlen",
    max_seqlen_k="maxseqlenk maxseqlenkv maxseqlensk maxkvlen maxklen",
    module="module",
)
_DROPOUT = re.compile(r"dropout(prob|rate|p)?$|p?drop$")
# Of windows, those whose length counts the query's own position, and that end there.
_WITH_OWN = ("slidingwindow", "slidingwindowsize")

_SIZES = _spelled(
    N="n batch batchsize",
    T_enc="tenc encseqlen srclen sourcelength encoderlength keylength",
    T_dec="tdec decseqlen tgtlen targetlength decoderlength querylength",
    T="t timesize timesteps seqlen seqlength sequencelength",
    T_max="blocksize maxlen maxlength maxseqlen maxseqlength maxsequencelength contextlength "
    "contextsize contextwindow nctx ctxlen npositions maxpositionembeddings maxt",
    H="h hidden hiddensize hiddendim hiddenunits nhidden numhiddens nhid hid d dim dmodel "
    "modeldim modelsize embeddim embeddingdim embedsize embeddingsize embdim embsize emb nembd "
    "nemb units nunits inputdim inputsize insize indim infeatures din outputdim outputsize "
    "outdim outfeatures dout qdim kdim vdim querydim querysize keydim keysize valuedim "
    "valuesize encdim decdim enchiddim dechiddim enchiddensize dechiddensize enchidden "
    "dechidden encoderdim decoderdim attndim attentiondim attnsize attentionsize width channels "
    "features nfeatures wordvecsize",
    head="dk dv dq headdim headsize dhead dimhead dimheads dkey dvalue",
    heads="heads numheads nheads nhead numattentionheads attentionheads nattentionheads",
    kv_heads="kvheads numkvheads nkvheads numkeyvalueheads",
)
_ARRAYS = (
    (re.compile(r"(w_?(qkv|in_?proj)|(qkv|in_proj)_?(w|weight)?|c_attn)", re.I), (1, 3)),
    (re.compile(r"(b(ias)?_?qkv|qkv_?(b|bias))", re.I), (3,)),
    (
        re.compile(
            r"W_?\w{0,6}|w_?[a-z0-9]?|(w|weights?)(_[a-z0-9]{1,6})?|U_?\w?|[a-z]{1,3}_(w|weight)"
        ),
        (1, 1),
    ),
    (re.compile(r"b_?[a-z0-9]?|bias_[a-z0-9]{1,6}|v|v_?a"), (1,)),
)
_CONFIGURATIONS = ("config", "cfg", "conf", "configuration", "hparams", "hps", "opt", "opts")


def plain(name: str) -> str:
    """A name without case and underscores."""
    return name.lower().replace("_", "")


def beside(name: str) -> str:
    """Say what an argument beside the tensors means, "" where its name does not say it.

    Examples
    --------
    >>> beside("is_causal"), beside("sm_scale"), beside("depth")
    ('causal', 'scale', '')
    """
    short = plain(name)
    return _BESIDE.get(short, "dropout" if _DROPOUT.search(short) else "")


def meanings(name: str) -> tuple[str, ...]:
    """Say which of our tensors a name may be meant to be, the likeliest first.

    Examples
    --------
    >>> meanings("encoder_outputs"), meanings("Q")[0], meanings("depth")
    (('hs_enc', 'hs'), 'query', ())
    """
    known = _TENSORS.get(plain(name))
    return () if known is None else _ONE_OF.get(known, (known,))


def order_of(names: Sequence[str], ours: Sequence[str]) -> tuple[int, ...] | None:
    """Say which of these names is meant to be which of ours; None if they do not say it.

    Examples
    --------
    >>> order_of(("hidden", "encoder_outputs"), ("hs", "h")), order_of(("a", "b"), ("hs", "h"))
    ((1, 0), None)
    >>> order_of(("values", "keys", "query"), ("query", "key", "value"))
    (2, 1, 0)
    """
    orders = [] if len(names) != len(ours) else permutations(range(len(names)))
    fitting = [(far, order) for order in orders if (far := _far(names, ours, order)) is not None]
    return min(fitting)[1] if fitting else None


def _far(names: Sequence[str], ours: Sequence[str], order: Sequence[int]) -> int | None:
    """How far from the likeliest it is that they are meant so; None if they are not."""
    known = [meanings(names[i]) for i in order]
    fits = all(our in found for our, found in zip(ours, known, strict=True))
    return sum(map(tuple.index, known, ours)) if fits else None


def likeliest(names: Sequence[str], among: Mapping[str, Sequence[str]]) -> str | None:
    """Say of which of these the names are most likely meant to be; None if of none.

    Examples
    --------
    >>> among = {"attention": ("hs", "h"), "time-attention": ("hs_enc", "hs_dec")}
    >>> likeliest(("query", "keys"), among), likeliest(("encoder_outputs", "hidden"), among)
    ('time-attention', 'attention')
    """
    found = {
        one: _far(names, ours, order)
        for one, ours in among.items()
        if (order := order_of(names, ours)) is not None
    }
    return min(found, key=lambda one: found[one] or 0) if found else None


def parameters_of(function: Callable[..., Any], *, bound: bool = False) -> Parameters:
    """Give the parameters of a function, without that of the instance where it is not bound yet.

    Raises
    ------
    ValueError, TypeError
        If nothing says them.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:
        signature = documented_signature(function)
    return tuple(signature.parameters.values())[1 if bound else 0 :]


def documented_signature(function: Any) -> inspect.Signature:
    """What a function without Python code takes, as its documentation begins with it.

    Raises
    ------
    ValueError
        If it does not.

    Examples
    --------
    >>> class Function:
    ...     __name__, __doc__ = "add", "add(input, other, *, alpha=1) -> Tensor"
    >>> documented_signature(Function())
    <Signature (input, other, *, alpha=1)>
    """
    text = " ".join((function.__doc__ or "").split("\n\n")[0].split())
    found = re.match(rf"{re.escape(function.__name__)}\((?P<arguments>.*?)\)( ->.*)?$", text)
    if found is None:
        raise ValueError("its documentation does not begin with its arguments")
    try:
        (made,) = ast.parse(f"def _({found['arguments']}): ...").body
        told = cast(ast.FunctionDef, made).args
        plain, named = [*told.posonlyargs, *told.args], told.kwonlyargs
        defaults = [Parameter.empty] * (len(plain) - len(told.defaults))
        defaults += [*map(ast.literal_eval, told.defaults)]
        defaults += [
            Parameter.empty if x is None else ast.literal_eval(x) for x in told.kw_defaults
        ]
    except SyntaxError as error:
        raise ValueError(str(error)) from None
    kinds = [Parameter.POSITIONAL_OR_KEYWORD] * len(plain) + [Parameter.KEYWORD_ONLY] * len(named)
    return inspect.Signature(
        [
            Parameter(argument.arg, kind, default=default)
            for argument, kind, default in zip([*plain, *named], kinds, defaults, strict=True)
        ]
    )


def told(parameters: Parameters, parts: list[Any]) -> list[Any]:
    """Describe parameters in JSON, for another process.

    Examples
    --------
    >>> def forward(q, k=None): ...
    >>> read(told(parameters_of(forward), parts := []), parts) == parameters_of(forward)
    True
    """
    return [
        [one.name, _KINDS.index(one.kind), encode(... if _is_required(one) else one.default, parts)]
        for one in parameters
    ]


def read(described: Any, parts: Sequence[Any]) -> Parameters:
    """Read what `told` gives."""
    return tuple(
        Parameter(
            name,
            _KINDS[kind],
            default=Parameter.empty if (value := decode(default, parts)) is ... else value,
        )
        for name, kind, default in described
    )


_KINDS = (
    Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.VAR_POSITIONAL,
    Parameter.KEYWORD_ONLY, Parameter.VAR_KEYWORD,
)  # fmt: skip


def _is_required(one: Parameter) -> bool:
    return one.default is Parameter.empty


def parted(parameters: Parameters, given: Given) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Part what forward takes into arrays and options, by name with their defaults.

    Options that it must be given, and whose meaning is known, have the default ``...``.

    Examples
    --------
    >>> def forward(q, k, v, mask, *, sm_scale=None): ...
    >>> parted(parameters_of(forward), Given())
    (('q', 'k', 'v'), {'mask': Ellipsis, 'sm_scale': None})
    """
    inputs, options = [], {}
    for one in parameters:
        required = _is_required(one)
        if one.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            continue
        if one.name in given.arguments:
            continue
        if one.name in given.shapes:
            inputs.append(one.name)
        elif beside(one.name):
            options[one.name] = ... if required else one.default
        elif required or (one.default is None and meanings(one.name)[:1] in (("key",), ("value",))):
            inputs.append(one.name)
        else:
            options[one.name] = one.default
    return tuple(inputs), options


def neutral(options: Mapping[str, Any], sizes: Sizes) -> dict[str, Any]:
    """Give what lets options do nothing: those that have no default, or one that does something.

    Examples
    --------
    >>> neutral({"causal": True, "sm_scale": ..., "dropout_p": 0.1, "softcap": 0.0}, {"H": 4})
    {'causal': False, 'sm_scale': 0.5, 'dropout_p': 0.0}
    """
    return {
        name: _NEUTRAL[meaning](sizes)
        for name, default in options.items()
        if (meaning := beside(name)) in _NEUTRAL
        and (default is ... or (meaning in _OFF and bool(default)))
    }


def nothing(parameters: Parameters) -> dict[str, None]:
    """Give None for what hides or adds and has to be given, where its annotation allows that.

    Examples
    --------
    >>> def forward(q, k, v, attention_mask: "Tensor | None", bias): ...
    >>> nothing(parameters_of(forward))
    {'attention_mask': None}
    """
    return {
        one.name: None
        for one in parameters
        if _is_required(one) and beside(one.name) in ("mask", "padding", "bias")
        and re.search("None|Optional", str(one.annotation))
    }  # fmt: skip


_NEUTRAL: Mapping[str, Callable[[Sizes], Any]] = {
    "mask": lambda sizes: np.ones((sizes["T_dec"], sizes["T_enc"]), bool),
    "padding": lambda sizes: np.ones((sizes["N"], sizes["T_enc"]), bool),
    "kv_lengths": lambda sizes: np.full(sizes["N"], sizes["T_enc"]),
    "bias": lambda sizes: np.zeros((sizes["T_dec"], sizes["T_enc"])),
    "scale": lambda sizes: sizes["H"] ** -0.5,
    "causal": lambda sizes: False,
    "softcap": lambda sizes: 0.0,
    "window": lambda sizes: None,
    "window_left": lambda sizes: -1,
    "window_right": lambda sizes: -1,
    "dropout": lambda sizes: 0.0,
    "training": lambda sizes: False,
    "deterministic": lambda sizes: True,
    "returns": lambda sizes: False,
    "heads": lambda sizes: sizes.get("heads", _HEADS),
    "kv_heads": lambda sizes: sizes.get("kv_heads", sizes.get("heads", _HEADS)),
    # As functions of transformers expect the module that they compute for.
    "module": lambda sizes: SimpleNamespace(
        training=False, is_causal=False, num_key_value_groups=1
    ),
}
# Which of them are turned off also where they have a default.
_OFF = ("causal", "dropout", "training")


def as_options(options: Mapping[str, Any], claims: Mapping[str, Any]) -> dict[str, Any]:
    """Say what is asked for, as `Semantics.given` has it, in options of these names and defaults.

    Examples
    --------
    >>> flash = {"softmax_scale": None, "causal": False, "window_size": (-1, -1)}
    >>> as_options(flash, {"causal": "lower_right", "window": 2})
    {'causal': True, 'window_size': (2, 2)}
    >>> as_options({"is_causal": ..., "sliding_window": None}, {"window": (2, 0), "scale": 1})
    {'sliding_window': 3}
    """
    found: dict[str, Any] = {}
    left, right = _sides(claims.get("window"))
    sides = {"window_left": left, "window_right": right}
    for name, default in options.items():
        meaning = beside(name)
        value = {**claims, **(sides if "window" in claims else {})}.get(meaning)
        if value is None:
            continue
        if meaning == "causal" and (name != "causal" or default is not None):
            value = True
        elif meaning == "window":
            value = {"both": value, "each": (left, right), "own": left + 1}[windows(name, default)]
        found[name] = value
    return found


def _sides(window: Any) -> tuple[int, int]:
    return window if isinstance(window, tuple) else (window or 0, window or 0)


def windows(name: str, default: Any) -> str:
    """Say what the window of an option means.

    "both": so many steps on both sides; "each": a pair; "own": so many, one's own the last.
    """
    if plain(name) in _WITH_OWN:
        return "own"
    return "each" if np.size(default) == 2 else "both"


# Constructors.


def constructed(
    parameters: Parameters, sizes: Sizes, given: Given, seed: int
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Give the arguments of a constructor, and the names of those that nothing says.

    Examples
    --------
    >>> class Layer:
    ...     def __init__(self, embed_dim, num_heads, depth, dropout=0.1): ...
    >>> constructed(parameters_of(Layer), {"H": 4}, Given(), 0)
    ({'embed_dim': 4, 'num_heads': 2, 'dropout': 0.0}, ('depth',))
    """
    found: dict[str, Any] = {}
    missing = []
    say = _Saying({one.name for one in parameters}, sizes, given, seed)
    for one in parameters:
        if one.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            continue
        try:
            if _is_required(one) or say.is_said(one.name):
                found[one.name] = say(one.name)
            elif beside(one.name) == "dropout" and one.default:
                found[one.name] = 0.0
        except LookupError:
            missing.append(one.name)
    return {**(given.arguments if takes_any(parameters) else {}), **found}, tuple(missing)


def takes_any(parameters: Parameters) -> bool:
    """Whether arguments of any name are taken."""
    return any(one.kind is Parameter.VAR_KEYWORD for one in parameters)


def require_known(made_of: Parameters, takes: Parameters, given: Given) -> None:
    """Raise if something is said of an argument that neither constructor nor forward has.

    Raises
    ------
    TargetError
    """
    names = {one.name for one in (*made_of, *takes)}
    held = any(plain(name) in _CONFIGURATIONS for name in names)  # its names are not known
    said = {**dict.fromkeys(given.shapes, "--input"), **dict.fromkeys(given.arguments, "--arg")}
    for name, option in () if held or takes_any((*made_of, *takes)) else said.items():
        if name in names:
            continue
        parts = (("the constructor", made_of), ("forward", takes))
        there = "; ".join(
            f"{what} takes {', '.join(one.name for one in parameters) or 'none'}"
            for what, parameters in parts
        )
        value = given.arguments.get(name, ",".join(map(str, given.shapes.get(name, ()))))
        alike = get_close_matches(name, names, 1)
        hint = f"{option} {alike[0]}={value}" if alike else None
        raise TargetError(f"there is no argument {name}: {there}", hint=hint)


class _Saying:
    """Says what an argument of a constructor, of which these are the names, should be."""

    def __init__(self, names: Iterable[str], sizes: Sizes, given: Given, seed: int) -> None:
        self.names, self.sizes, self.given, self.seed = {*names}, sizes, given, seed

    def is_said(self, name: str) -> bool:
        return name in self.given.arguments or name in self.given.shapes

    def __call__(self, name: str) -> Any:
        if name in self.given.arguments:
            return copy.deepcopy(self.given.arguments[name])
        if name in self.given.shapes:
            return random_tensor(name, self.given.shapes[name], seed=self.seed)
        short, sizes = plain(name), self.sizes
        heads = [_SIZES.get(plain(other)) for other in self.names - {name}]
        if short == "h" and "H" in heads and "heads" not in heads:
            return _NEUTRAL["heads"](sizes)
        axis = _SIZES.get(short)
        if axis in ("heads", "kv_heads"):
            return _NEUTRAL[axis](sizes)
        if axis in ("T", "T_max"):
            return max(sizes["T_enc"], sizes["T_dec"])
        if axis == "head":  # smaller than what it is a part of, so that the one shows as the other
            whole = {"heads", "H"} & {*heads}
            return sizes["H"] // sizes.get("heads", _HEADS) if whole else sizes["H"]
        if axis is not None:
            return sizes[axis]
        meaning = beside(name)
        if meaning in ("causal", "dropout", "training", "deterministic", "scale", "returns"):
            return _NEUTRAL[meaning](sizes)
        if short in ("bias", "usebias", "qkvbias", "addbias"):
            return False
        for spelling, times in _ARRAYS:
            if spelling.fullmatch(name):
                shape = (*(sizes["H"],) * (len(times) - 1), sizes["H"] * times[-1])
                return random_tensor(name, shape, seed=self.seed)
        if short in _CONFIGURATIONS:
            return Configuration(self)
        raise LookupError(name)


def takes_heads(made_of: Parameters, given: Given) -> bool:
    """Whether a constructor is told how many heads there are, and nobody has said it.

    Examples
    --------
    >>> class Layer:
    ...     def __init__(self, d_model, num_heads): ...
    >>> takes_heads(parameters_of(Layer), Given()), takes_heads((), Given())
    (True, False)
    """
    names = {plain(one.name) for one in made_of if one.name not in given.arguments}
    known = {_SIZES.get(name) for name in names}
    return "heads" in known or bool(names & {*_CONFIGURATIONS}) or ("h" in names and "H" in known)


def sizes_said(arguments: Mapping[str, Any]) -> dict[str, int]:
    """Give the sizes that arguments say.

    Examples
    --------
    >>> sizes_said({"embed_dim": 8, "time_size": 3, "num_heads": 2, "hidden": "large"})
    {'H': 8, 'T_dec': 3, 'T_enc': 3}
    """
    found: dict[str, int] = {}
    for name, value in arguments.items():
        axis = _SIZES.get(plain(name), "")
        if axis in ("N", "T", "T_enc", "T_dec", "H") and isinstance(value, int):
            found |= dict.fromkeys(("T_dec", "T_enc") if axis == "T" else (axis,), value)
    return found


class Configuration:
    """Stands for somebody's object that holds the arguments of a constructor, by their names."""

    def __init__(self, say: _Saying) -> None:
        say.names |= {"num_heads"}  # which is what it may be asked for as well
        self._say = say

    def __getattr__(self, name: str) -> Any:
        try:
            return self._say(name)
        except LookupError:
            raise AttributeError(f"nothing says what {name} is: --arg {name}=4 does") from None

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)
