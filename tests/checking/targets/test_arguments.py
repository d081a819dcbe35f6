"""What forward and a constructor take is known by its name, in whatever spelling people have."""

import numpy as np
import pytest

from attncli.checking.derivatives.proof import gradcheck
from attncli.checking.diagnosing.examination import check
from attncli.checking.targets.arguments import as_options, neutral
from attncli.checking.targets.given import Given
from attncli.checking.targets.loading import targets_of
from attncli.errors import CodeError, TargetError
from attncli.layers import TimeAttention

SIZES = {"N": 2, "T_dec": 3, "T_enc": 5, "H": 4}

# Attention under names of its own: {query}, {key}, {value} and what comes behind them.
FUNCTION = """\
import numpy as np
def attend({taken}):
    q, k, v = {query}, {key}, {value}
    scale, causal, align, mask, sides = {scale}, {causal}, {align!r}, {mask}, {sides}
    s = (q @ k.swapaxes(-1, -2)) * (q.shape[-1] ** -0.5 if scale is None else scale)
    T, S = s.shape[-2:]
    at = np.arange(T)[:, None] + (S - T if align == "lower_right" else 0)
    seen = np.ones((T, S), bool)
    if causal: seen &= np.arange(S) <= at
    if sides is not None and sides[0] >= 0: seen &= np.arange(S) >= at - sides[0]
    if sides is not None and sides[1] >= 0: seen &= np.arange(S) <= at + sides[1]
    if mask is not None and mask.dtype == bool: seen = seen & mask
    elif mask is not None: s = s + mask
    s = np.where(seen, s, -np.inf)
    e = np.exp(s - np.maximum(s.max(-1, keepdims=True), -1e300)) * seen
    total = e.sum(-1, keepdims=True)
    p = e / np.where(total > 0, total, 1)
    if {dropout}: p = p * (np.random.rand(*p.shape) > {dropout})
    return p @ v
"""


def attend(taken, query="q", key="k", value="v", **names):
    usual = {"scale": None, "causal": False, "align": "upper_left", "mask": None, "sides": None}
    names = {**usual, "dropout": 0.0, **names}
    module: dict = {}
    exec(FUNCTION.format(taken=taken, query=query, key=key, value=value, **names), module)
    module["attend"].__module__ = __name__
    return module["attend"]


@pytest.mark.parametrize(
    ("taken", "names"),
    [
        ("Q, K, V", {"query": "Q", "key": "K", "value": "V"}),
        ("values, keys, queries", {"query": "queries", "key": "keys", "value": "values"}),
        ("q, k, v, is_causal=False", {"causal": "is_causal"}),
        ("q, k, v, is_causal=True", {"causal": "is_causal"}),
        ("*, q, k, v, causal=False", {"causal": "causal"}),
        ("q, k, v, mask", {"mask": "mask"}),
        ("q, k, v, causal, sm_scale", {"causal": "causal", "scale": "sm_scale"}),
        ("q, k, v, dropout_p=0.5", {"dropout": "dropout_p"}),
        ("q, k, v, *args, softmax_scale=None, **kwargs", {"scale": "softmax_scale"}),
        ("q, k=None, v=None, attn_bias=None", {"mask": "attn_bias"}),
        (
            "q, k, v, causal=False, window_size=(-1, -1)",
            {"causal": "causal", "sides": "window_size", "align": "lower_right"},
        ),
        ("q, k, v, local_window_size=None",
         {"sides": "(None if local_window_size is None else 2 * (local_window_size,))"}),
        ("q, k, v, causal=False, sliding_window=None",
         {"sides": "(None if sliding_window is None else (sliding_window - 1, -1))",
          "causal": "causal"}),
        ("q, k, v, window_left=-1, window_right=-1", {"sides": "(window_left, window_right)"}),
    ],
)  # fmt: skip
def test_right_code_passes_whatever_its_arguments_are_called(taken, names):
    report = check(attend(taken, **names), layer="scaled-dot-product")
    assert report.passed, [x for x in report.findings if x.status == "wrong"]


@pytest.mark.parametrize(
    ("taken", "names", "claims", "said"),
    [
        # Where the option is told of what is asked, dropping it shows.
        ("q, k, v, is_causal=False", {}, {"causal": "upper_left"}, "different prime sizes"),
        ("q, k, v, sm_scale=None", {}, {}, "scale 0.3"),
        ("q, k, v, window_size=(-1, -1)", {}, {}, "window 1"),
        ("q, k, v, bias=None", {}, {}, "bias"),
        ("q, k, v, softmax_scale", {"scale": "2 * softmax_scale"}, {}, "different prime sizes"),
        ("q, k, v, causal, window_size=(-1, -1)",
         {"causal": "causal", "sides": "window_size", "align": "lower_right"},
         {"causal": "upper_left"}, "different prime sizes"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("unnamed")
def test_an_option_that_is_dropped_or_bent_is_wrong(taken, names, claims, said):
    report = check(attend(taken, **names), layer="scaled-dot-product", **claims)
    assert not report.passed
    assert any(said in x.name for x in report.findings if x.status == "wrong")


def test_what_is_turned_off_and_how_what_nobody_asked_for_is_aligned_are_said():
    turned = check(attend("q, k, v, causal=True", causal="causal"), layer="scaled-dot-product")
    assert "causal=False is given: its default is True" in {x.detail for x in turned.findings}
    flash = attend("q, k, v, causal=False", causal="causal", align="lower_right")
    notes = [
        x.name for x in check(flash, layer="scaled-dot-product").findings if x.status == "note"
    ]
    assert "lower right" in notes
    upper = attend("q, k, v, causal=False", causal="causal")
    assert "lower right" not in {x.name for x in check(upper, layer="scaled-dot-product").findings}


def test_what_a_window_that_nobody_asked_for_leaves_without_a_key_is_the_codes_own_affair():
    sides = "(None if local_window_size is None else 2 * (local_window_size,))"
    made = attend("q, k, v, local_window_size=None", sides=sides)

    def of_all(q, k, v, local_window_size=None):
        """As with a finite number in place of −∞: who sees nothing looks at all alike."""
        out = made(q, k, v, local_window_size=local_window_size)
        return np.where(out.any(-1, keepdims=True), out, v.mean(-2, keepdims=True))

    of_all.__module__ = __name__
    assert check(of_all, layer="scaled-dot-product").passed
    assert not check(of_all, layer="scaled-dot-product", window=0, align="lower_right").passed


def test_an_option_of_the_constructor_is_told_as_well():
    class Attention:
        def __init__(self, is_causal=False):
            self.is_causal = is_causal

        def forward(self, query, key, value):
            return attend("q, k, v, causal", causal="causal")(query, key, value, self.is_causal)

    assert check(Attention, layer="scaled-dot-product", causal="upper_left").passed
    assert check(Attention, layer="scaled-dot-product").passed


@pytest.mark.parametrize("names", ["hs_encoder, hs_decoder", "enc_out, dec_out", "keys, query",
    "query, memory", "x, encoder_outputs", "*args"])  # fmt: skip
def test_states_of_encoder_and_decoder_are_known_by_their_names_in_either_order(names):
    first, _, second = names.partition(", ")
    hs_enc, hs_dec = (second, first) if first in ("query", "x") else (first, second)
    hs_enc, hs_dec = (hs_enc, hs_dec) if second else ("args[0]", "args[1]")
    source = f"""\
class TimeAttention(Right):
    def forward(self, {names}):
        return super().forward({hs_enc}, {hs_dec})
    def backward(self, dout):
        gradients = super().backward(dout)
        return gradients{"[::-1]" if first in ("query", "x") else ""}
"""
    module = {"Right": TimeAttention, "__name__": __name__}
    exec(source, module)
    assert check(module["TimeAttention"]).passed
    assert gradcheck(module["TimeAttention"]).passed


# Constructors.

CONSTRUCTORS = {
    "H": "H=4", "hidden_size, depth=3": "hidden_size=4 depth=3", "W": "W=(4, 4)",
    "W1, W2, v": "W1=(4, 4) W2=(4, 4) v=(4,)", "W_qkv, b_qkv": "W_qkv=(4, 12) b_qkv=(12,)",
    "embed_dim, num_heads": "embed_dim=4 num_heads=2", "h, d_model": "h=2 d_model=4",
    "n_head, d_model, d_k, dropout": "n_head=2 d_model=4 d_k=2 dropout=0.0",
    "d_in, d_out, context_length, p=1, dropout=0.5":
        "d_in=4 d_out=4 context_length=5 p=1 dropout=0.0",
    "batch_size, T_dec, causal, bias": "batch_size=2 T_dec=3 causal=False bias=False",
    "*args, dim, **kwargs": "dim=4",
}  # fmt: skip


def layer_of(taken):
    names = [name.split("=")[0] for name in taken.split(", ") if "*" not in name]
    source = f"""\
class Layer:
    def __init__(self, {taken}):
        self.params, self.grads = [], []
        self.held = {{{", ".join(f"{name!r}: {name}" for name in names)}}}
    def forward(self, hs, a):
        return hs
    def backward(self, dout):
        return dout, None
"""
    module: dict = {"__name__": __name__}
    exec(source, module)
    return module["Layer"]


def held(taken, **said):
    layer = targets_of(layer_of(taken), Given(**said))[0].start(SIZES)
    return " ".join(f"{x}={np.shape(y) or y}" for x, y in layer.instance.held.items())


@pytest.mark.parametrize("taken", CONSTRUCTORS)
def test_a_constructor_is_given_what_the_names_of_its_arguments_say(taken):
    assert held(taken) == CONSTRUCTORS[taken]


def test_what_is_said_goes_before_what_a_name_says():
    assert held("H, table, depth=3", arguments={"H": 8, "depth": 2}, shapes={"table": (2, 3)}) == (
        "H=8 table=(2, 3) depth=2"
    )
    weights = np.ones((2, 2))
    layer = targets_of(layer_of("W"), Given({"W": weights}))[0].start(SIZES)
    assert layer.instance.held["W"] is not weights  # each instance has its own


def test_a_constructor_may_take_an_object_that_holds_its_arguments():
    class Layer:
        def __init__(self, config):
            assert config.n_embd % config.n_head == 0
            self.held = config.n_embd, config.block_size, config["depth"], config.attn_pdrop
            self.missing = getattr(config, "nothing", "default")

        def forward(self, hs, a):
            return hs

        backward = forward

    target = targets_of(Layer, Given({"depth": 3}))[0]
    instance = target.start(SIZES).instance
    assert (instance.held, instance.missing) == ((4, 5, 3, 0.0), "default")
    with pytest.raises(CodeError, match="nothing says what depth is: --arg depth=4 does"):
        targets_of(Layer)[0].start(SIZES)


def test_what_nothing_says_is_named_with_the_option_that_says_it():
    with pytest.raises(TargetError, match="nothing says what table and mode should be") as error:
        held("table, H, mode")
    assert error.value.hint is not None
    assert "--arg table=4 --arg mode=4" in error.value.hint
    assert "--arg table=random:4,4" in error.value.hint


def test_a_wrong_name_is_refused_with_the_names_that_there_are():
    with pytest.raises(TargetError, match="no argument hiden: the constructor takes hidden; forw"):
        held("hidden", arguments={"hiden": 3})
    with pytest.raises(TargetError) as error:
        held("hidden", shapes={"hiden": (3, 2)})
    assert error.value.hint == "--input hidden=3,2"
    assert held("**kwargs", arguments={"hiden": 3}) == ""


def test_an_argument_may_be_forwards_own():
    def scaled(q, k, v, temperature):
        assert temperature == 2
        return attend("q, k, v")(q, k, v)

    assert check(scaled, layer="scaled-dot-product", arguments={"temperature": 2}).passed
    with pytest.raises(TargetError, match="temperature"):
        check(scaled, layer="scaled-dot-product")


def test_sizes_that_arguments_say_are_those_of_every_case_where_others_are_refused():
    class TimeOfEight(TimeAttention):
        def __init__(self, hidden):
            super().__init__()
            self.hidden = hidden

        def forward(self, hs_enc, hs_dec):
            assert hs_enc.shape[-1] == self.hidden
            return super().forward(hs_enc, hs_dec)

    given = {"layer": "time-attention", "arguments": {"hidden": 8}}
    report = check(TimeOfEight, **given)
    assert report.passed
    assert "H = 8 in every case, as its arguments say: others are refused" in {
        x.detail for x in report.findings
    }
    assert {"T_enc = 257", "large scores"} <= {x.name for x in report.findings}
    assert "H = 136" not in {x.name for x in report.findings}

    class Anything(TimeOfEight):
        def forward(self, hs_enc, hs_dec):
            return TimeAttention.forward(self, hs_enc, hs_dec)

    assert "H = 136" in {x.name for x in check(Anything, **given).findings}


# How what is asked is said.


def test_neutral_values_are_given_where_they_have_to_be():
    given = neutral({"mask": ..., "key_padding_mask": ..., "bias": None, "training": True}, SIZES)
    assert given["mask"].shape == (3, 5)
    assert given["key_padding_mask"].all()
    assert (given["training"], "bias" in given) == (False, False)


def test_options_of_ours_are_said_in_theirs():
    asked = {"causal": "lower_right", "window": (4, 0), "softcap": 3.0}
    assert as_options({"causal": None, "align": None, "softcap": 0.0}, asked) == {
        "causal": "lower_right",
        "softcap": 3.0,
    }
    assert as_options({"window_size_left": -1, "right_window": -1}, asked) == {
        "window_size_left": 4,
        "right_window": 0,
    }
