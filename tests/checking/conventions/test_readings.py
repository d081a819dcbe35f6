"""Finding the semantics that lead from inputs to results, on the whole of a file."""

import warnings

import ml_dtypes
import numpy as np
import pytest

from attncli.checking.conventions.readings import find_convention
from attncli.core import attention
from attncli.core.extras import standard_slopes
from attncli.core.rotary import rotary
from attncli.core.semantics import Semantics
from attncli.errors import DataError, ShapeError

N, HEADS, T, T_ENC, H = 2, 3, 11, 13, 8
LAYOUT = "layout (N, heads, T, H)"


def inputs(heads=(HEADS, HEADS), T_dec=T, T_enc=T, H=H, H_v=5, items=N, seed=2):
    rng = np.random.default_rng(seed)
    shapes = {
        "query": (items, heads[0], T_dec, H),
        "key": (items, heads[1], T_enc, H),
        "value": (items, heads[1], T_enc, H_v),
    }
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def computed(given=None, held=None, **options):
    """Inputs, what is held beside them, and the output by the core."""
    given = given or inputs()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "[0-9]+ of [0-9]+ queries see no key at all")
        out, cache = attention(**given, **options, **(held or {}))
    return {**given, **(held or {}), "out": out}, cache


def found(held, *args, **claims):
    report = find_convention(held, *args, claims=Semantics(**claims))
    assert report.passed, report.nearest
    return report.readings[0].described


@pytest.mark.parametrize(
    ("options", "described"),
    [
        ({}, f"scale 1/√H, {LAYOUT}"),
        ({"scale": 1.0}, f"scale 1, {LAYOUT}"),
        ({"scale": 8**0.5}, f"scale 2.82843 = √H, {LAYOUT}"),
        ({"scale": 5**-0.5}, f"scale 0.447214 = 1/√H_v, {LAYOUT}"),
        ({"scale": 24**-0.5}, f"scale 0.204124 = 1/√(heads·H), {LAYOUT}"),
        ({"scale": 19**-0.5}, f"scale 0.229416 = 1/√19, {LAYOUT}"),
        ({"scale": 0.2713}, f"scale 0.2713, {LAYOUT}"),
        ({"causal": "upper_left"}, f"causal, scale 1/√H, {LAYOUT}"),
        ({"window": (4, 2)}, f"window 4, 2, scale 1/√H, {LAYOUT}"),
        ({"window": 3}, f"window 3, scale 1/√H, {LAYOUT}"),
        ({"window": (-1, 2)}, f"window right 2, scale 1/√H, {LAYOUT}"),
        ({"window": (5, -1)}, f"window left 5, scale 1/√H, {LAYOUT}"),
        (
            {"causal": "upper_left", "window": 3},
            f"causal, window left 3 (right 0), scale 1/√H, {LAYOUT}",
        ),
        ({"softcap": 1.7}, f"scale 1/√H, softcap 1.7, {LAYOUT}"),
        (
            {"softcap": 2.3, "scale": 0.61, "causal": "upper_left"},
            f"causal, scale 0.61, softcap 2.3, {LAYOUT}",
        ),
        (
            {"sinks": np.zeros(HEADS)},
            f"scale 1/√H, sink 0 (an extra logit in the softmax), {LAYOUT}",
        ),
        ({"sinks": np.array([0.5, -1, 2])}, f"scale 1/√H, sinks 0.5, -1, 2, {LAYOUT}"),
    ],
)
def test_what_the_file_does_not_say_is_fitted(options, described):
    assert found(computed(**options)[0] | {}) == described


def test_a_scale_is_recognised_by_the_size_that_heads_are_padded_to():
    held, _ = computed(inputs(H=21), scale=32**-0.5)
    assert found(held).startswith("scale 0.176777 = 1/√32 (H padded to a power of two)")


@pytest.mark.parametrize("align", ["upper_left", "lower_right"])
@pytest.mark.parametrize(("T_dec", "T_enc"), [(5, 12), (9, 4)])
def test_alignments_are_told_apart_where_lengths_differ(align, T_dec, T_enc):
    words = align.replace("_", " ")
    held, _ = computed(inputs(T_dec=T_dec, T_enc=T_enc), causal=align)
    assert found(held).startswith(f"causal {words}, scale")
    held, _ = computed(inputs(T_dec=T_dec, T_enc=T_enc), window=2, align=align)
    assert found(held).startswith(f"window 2, aligned {words}, scale")


@pytest.mark.parametrize("order", [(0, 2, 1, 3), (2, 0, 1, 3)])
def test_the_order_of_axes_is_found(order):
    held, _ = computed(causal="upper_left")
    held = {name: x.transpose(order) for name, x in held.items()}
    names = "(" + ", ".join(np.array(["N", "heads", "T", "H"])[list(order)]) + ")"
    assert found(held) == f"causal, scale 1/√H, layout {names}"


def test_inputs_and_output_may_have_different_orders_of_axes():
    held, _ = computed()
    held["out"] = held["out"].swapaxes(1, 2)
    layouts = "layout of the inputs (N, heads, T, H), of the output (N, T, heads, H)"
    assert found(held) == f"scale 1/√H, {layouts}"
    held["out"] = held["out"].reshape(N, T, -1)
    layouts = "layout of the inputs (N, heads, T, H), of the output (N, T, heads·H)"
    assert found(held) == f"scale 1/√H, {layouts}"


def test_orders_that_the_shapes_do_not_tell_apart():
    given = {name: x[0] for name, x in inputs(heads=(7, 7), T_dec=7, T_enc=7, H_v=H).items()}
    out, _ = attention(**{name: x[None] for name, x in given.items()})
    given["query"], given["out"] = given["query"].swapaxes(0, 1), out[0].swapaxes(0, 1)
    layouts = "layout of query and output (T, heads, H), of key and value (heads, T, H)"
    assert found(given) == f"scale 1/√H, {layouts}"


def test_heads_that_lie_beside_each_other_are_counted():
    held, _ = computed(inputs(heads=(6, 2)))
    held = {name: x.swapaxes(1, 2).reshape(N, T, -1) for name, x in held.items()}
    assert found(held) == "scale 1/√H, groups repeated, layout (N, T, heads·H) of 6 heads"


def test_a_layout_in_which_there_is_one_key_is_no_reading():
    given = inputs(heads=(1, 1), items=1, H=16, H_v=16, T_dec=17, T_enc=17)
    held, _ = computed(given, causal="upper_left")
    held = {name: x.swapaxes(1, 2) for name, x in held.items()}
    report = find_convention({name: x.swapaxes(1, 2) for name, x in held.items()})
    assert [one.described for one in report.readings] == [f"causal, scale 1/√H, {LAYOUT}"]
    held["out"] = held["value"].copy()
    held["out"][:, 3:] *= 1.1
    assert not find_convention(held).passed


def test_groups_are_repeated_or_tiled():
    given = inputs(heads=(6, 2))
    assert found(computed(given)[0]) == f"scale 1/√H, groups repeated, {LAYOUT}"
    order = np.arange(6) % 2
    out, _ = attention(given["query"], given["key"][:, order], given["value"][:, order])
    assert found({**given, "out": out}) == f"scale 1/√H, groups tiled, {LAYOUT}"


@pytest.mark.parametrize("style", ["halves", "interleaved"])
def test_query_and_key_from_before_they_were_rotated(style):
    given = inputs()
    turned = {x: rotary(given[x], style=style) for x in ("query", "key")}
    out, _ = attention(**turned, value=given["value"], causal="upper_left")
    words = {"halves": "in halves", "interleaved": "interleaved"}[style]
    expected = f"causal, scale 1/√H, rotary {words}, base 10000, {LAYOUT}"
    assert found({**given, "out": out}) == expected


# Masks.


def masked():
    mask = np.random.default_rng(0).random((N, 1, T, T)) < 0.6
    mask[..., 0] = True
    return mask


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda mask: mask, "mask True = takes part"),
        (lambda mask: ~mask, "mask True = hidden"),
        (lambda mask: mask.astype(np.int32), "mask 1 = takes part"),
        (lambda mask: mask.swapaxes(-1, -2), "mask transposed True = takes part"),
        (lambda mask: np.where(mask, 0.0, -np.inf), "mask added"),
        (lambda mask: np.ones_like(mask), "mask ignored"),
    ],
)
def test_the_meaning_of_a_mask_is_found(read, words):
    mask = masked()
    options = {} if words == "mask ignored" else {"mask": mask}
    held, _ = computed(**options)
    held["mask"] = ~mask if words == "mask ignored" else read(mask)
    assert found(held) == f"scale 1/√H, {words}, {LAYOUT}"


def test_zeros_and_ones_may_have_been_added():
    added = masked().astype(np.float64)
    held, _ = computed(mask=added)
    assert found({**held, "mask": added}) == f"scale 1/√H, mask added, {LAYOUT}"


def test_a_padding_mask_that_says_something_of_one_item_alone():
    mask = np.ones((N, T), bool)
    mask[1, 8:] = False
    used, _ = computed(mask=mask[:, None, None, :])
    report = find_convention({**used, "enc_mask": mask})
    assert report.readings[0].described == f"scale 1/√H, enc_mask True = takes part, {LAYOUT}"
    assert report.notes == ("not enc_mask ignored: told apart by item 1",)
    unused, _ = computed()
    report = find_convention({**unused, "enc_mask": mask})
    assert report.readings[0].described == f"scale 1/√H, enc_mask ignored, {LAYOUT}"
    assert report.notes == ("not enc_mask True = takes part: told apart by item 1",)


def test_a_mask_that_hides_nothing_has_two_readings_and_that_is_said():
    held, _ = computed()
    report = find_convention({**held, "mask": np.ones((T, T), bool)})
    words = [one.options["mask"] for one in report.readings]
    assert words == ["mask True = takes part", "mask ignored"]
    assert report.notes == ("to tell them apart: a mask that hides keys with a large weight",)


def test_rows_that_see_no_key_may_hold_zeros_or_the_mean_of_all_values():
    mask = masked()
    mask[1, :, 4] = False
    held, _ = computed(mask=mask)
    assert found({**held, "mask": mask}) == f"scale 1/√H, mask True = takes part, {LAYOUT}"
    held["out"][1, :, 4] = held["value"][1].mean(axis=-2)
    words = "rows without a key hold the mean of all values"
    assert words in found({**held, "mask": mask})
    held["out"][1, :, 4] += 0.1
    assert not find_convention({**held, "mask": mask}).passed


# What else is in a file.


@pytest.mark.parametrize("heads", [1, 11])  # more heads than are looked at where all are alike
def test_every_head_has_a_sink_of_its_own(heads):
    sinks = np.round(np.random.default_rng(0).normal(size=heads), 2)
    (reading,) = find_convention(computed(inputs((heads, heads)), sinks=sinks)[0]).readings[:1]
    np.testing.assert_allclose(reading.options["sinks"], sinks if heads > 1 else sinks[0])


def test_of_a_scale_that_nothing_depends_on_it_is_said():
    assert "scale 1/√H (or any other: no weight depends on it)" in found(computed(window=0)[0])
    assert "or any other" not in found(computed(window=1)[0])


@pytest.mark.parametrize("used", ["cu_seqlens", "kv_lengths"])
def test_of_sequences_and_lengths_in_one_file_one_is_used(used):
    held = {"cu_seqlens": np.array([0, 4, 11]), "kv_lengths": np.array([9])}
    given = inputs(items=1)
    out = attention(**given, **{used: held[used]})[0]
    said = {"cu_seqlens": "cu_seqlens, cache_seqlens ignored"}
    said["kv_lengths"] = "cu_seqlens ignored, cache_seqlens"
    assert found({**given, **held, "out": out}) == f"scale 1/√H, {said[used]}, {LAYOUT}"


def test_sinks_and_slopes_of_the_file_are_used_or_not():
    values = np.array([0.4, -1.2, 2.0])
    assert found(computed(held={"sinks": values})[0]) == f"scale 1/√H, sinks, {LAYOUT}"
    held = {**computed()[0], "sinks": values}
    assert found(held) == f"scale 1/√H, sinks ignored, {LAYOUT}"


@pytest.mark.parametrize("align", ["upper_left", "lower_right"])
def test_alibi_has_a_sign_and_an_alignment(align):
    slopes = np.array([0.5, 0.25, 0.125])
    given = inputs(T_dec=5, T_enc=12)
    words = "upper left" if align == "upper_left" else "lower right (at the last query)"
    held, _ = computed(given, {"alibi": slopes}, align=align)
    assert found(held) == f"scale 1/√H, ALiBi, aligned {words}, {LAYOUT}"
    held, _ = computed(given, {"alibi": -slopes}, align=align)
    held["alibi"] = slopes
    reverse = f"ALiBi with the sign reversed, aligned {words}"
    assert found(held) == f"scale 1/√H, {reverse}, {LAYOUT}"


@pytest.mark.parametrize("causal", [None, "lower_right"])
def test_packed_sequences_keep_to_themselves_or_leak(causal):
    given = {name: x[0].swapaxes(0, 1) for name, x in inputs(T_dec=13, T_enc=13).items()}
    ends = np.array([0, 3, 8, 13])
    one = {name: x.swapaxes(0, 1)[None] for name, x in given.items()}
    words = "causal, " if causal else ""
    out, _ = attention(**one, cu_seqlens=ends, causal=causal)
    held = {**given, "cu_seqlens": ends, "out": out[0].swapaxes(0, 1)}
    assert found(held) == f"{words}scale 1/√H, cu_seqlens, layout (T, heads, H)"
    out, _ = attention(**one, causal=causal)
    held["out"] = out[0].swapaxes(0, 1)
    assert found(held) == f"{words}scale 1/√H, cu_seqlens ignored, layout (T, heads, H)"


def test_lengths_of_a_cache():
    held, _ = computed(inputs(T_dec=1, T_enc=8), {"kv_lengths": np.array([5, 8])})
    report = find_convention(held)
    assert report.readings[0].described == f"scale 1/√H, cache_seqlens, {LAYOUT}"
    assert report.notes == ("not cache_seqlens ignored: told apart by item 0",)


@pytest.mark.parametrize(
    ("factor", "words"), [(1, "lse natural"), (np.log2(np.e), "lse in base 2")]
)
def test_the_base_of_a_log_sum_exp(factor, words):
    held, cache = computed()
    held["lse"] = cache.logsumexp * factor
    assert found(held) == f"scale 1/√H, {words}, {LAYOUT}"
    held["lse"][1, 2, 3] += 0.1
    report = find_convention(held)
    assert report.nearest.fails == ({"items": [(1, 1)], "heads": [(2, 2)], "rows": [(3, 3)]},)


def test_a_log_sum_exp_or_weights_alone_are_enough():
    held, cache = computed(causal="upper_left", scale=0.31)
    names = ("query", "key")
    alone = {**{name: held[name] for name in names}, "lse": cache.logsumexp}
    assert found(alone) == f"causal, scale 0.31, lse natural, {LAYOUT}"
    alone = {**{name: held[name] for name in names}, "weights": cache.weights}
    assert found(alone) == f"causal, scale 0.31, {LAYOUT}"


# The whole file is judged.


@pytest.mark.parametrize(
    ("place", "fails"),
    [
        (np.s_[1], {"items": [(1, 1)], "heads": [(0, 2)], "rows": [(0, 10)]}),
        (np.s_[:, 2, 4:7], {"items": [(0, 1)], "heads": [(2, 2)], "rows": [(4, 6)]}),
        (np.s_[0, 1, 9], {"items": [(0, 0)], "heads": [(1, 1)], "rows": [(9, 9)]}),
    ],
)
@pytest.mark.parametrize("options", [{}, {"window": (3, 1)}, {"softcap": 1.5}])
def test_what_holds_for_a_part_alone_is_a_near_miss_and_says_where(options, place, fails):
    held, _ = computed(**options)
    held["out"][place] *= 1.1
    report = find_convention(held)
    assert report.readings == ()
    assert report.nearest.fails == (fails,)
    assert "scale 1/√H" in report.nearest.described


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_tolerance_is_that_of_the_dtype(dtype):
    held, _ = computed(inputs(T_dec=29, T_enc=29), causal="upper_left", scale=0.37)
    held = {name: x.astype(dtype) for name, x in held.items()}
    assert found(held) == f"causal, scale 0.37, {LAYOUT}"
    held["out"][1, 2, 17] *= held["out"].dtype.type(1.1)
    assert not find_convention(held).passed


def halved(held, dtype):
    """What is held, rounded to a half precision; as float32 holds it."""
    name = {"bfloat16": ml_dtypes.bfloat16}.get(dtype, dtype)
    return {x: a.astype(name).astype("f4") for x, a in held.items()}


@pytest.mark.parametrize("wrong", [{"factor": 1.02}, {"scale": 1.02}], ids=str)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_in_half_precision_an_item_that_is_a_little_off_throughout_is_a_near_miss(dtype, wrong):
    given = halved(inputs(T_dec=29, T_enc=31, H_v=23, items=3), dtype)
    right, _ = attention(**given)
    off, _ = attention(**given, scale=wrong.get("scale", 1) * H**-0.5)
    held = halved({**given, "out": right}, dtype)
    assert found(held, dtype) == f"scale 1/√H, {LAYOUT}"
    held["out"][1] = halved({"out": wrong.get("factor", 1) * off[1]}, dtype)["out"]
    report = find_convention(held, dtype)
    assert not report.passed
    assert report.nearest.described == f"scale 1/√H, {LAYOUT}"
    assert report.nearest.fails == ({"items": [(1, 1)], "heads": [(0, 2)], "rows": [(0, 28)]},)


def test_options_restrict_the_search():
    held, _ = computed(causal="upper_left", window=3)
    assert found(held, causal="upper_left", window=3).startswith("causal, window left 3")
    assert found(held, window=3).startswith("causal, window left 3")
    for wrong in ({"window": 4}, {"scale": 0.3}, {"softcap": 5.0}, {"window": (3, 1)}):
        claims = Semantics(**{"causal": "upper_left", "window": 3, **wrong})
        holds = wrong == {"window": (3, 1)}  # causal order leaves nothing of the 1
        assert find_convention(held, claims=claims).passed == holds, wrong
    assert not find_convention(held, claims=Semantics(window=(3, 1), align="lower_right")).passed


def test_dropout_that_was_left_on_is_no_reading_but_is_named():
    given = inputs(H_v=16)
    rng = np.random.default_rng(0)
    keep = rng.random((N, HEADS, T, T)) > 0.2
    held, _ = computed(given, {"keep": keep}, keep_prob=0.8)
    del held["keep"]
    report = find_convention(held)
    assert not report.passed
    assert "dropout was left on: rows are multiples of 1.25: " in report.notes[0]
    assert "at scale 1/√H" in report.notes[0]


def test_what_is_missing_or_does_not_fit_is_said():
    held, _ = computed()
    with pytest.raises(DataError, match="output is missing"):
        find_convention({name: x for name, x in held.items() if name != "out"})
    with pytest.raises(ShapeError, match="no layout fits the shapes"):
        find_convention({**held, "out": np.ones((2, 3))})
    with pytest.raises(DataError, match="empty"):
        find_convention({**held, "out": np.ones((0, 3, 11, 5))})
    with pytest.raises(DataError, match="there is one key"):
        find_convention(computed(inputs(T_dec=1, T_enc=1))[0])


# What a file may not say at all.


@pytest.mark.parametrize("base", [2, 10])
def test_a_log_sum_exp_may_be_in_base_2_or_10(base):
    held, cache = computed(causal="upper_left")
    held["lse"] = cache.logsumexp / np.log(base)
    assert found(held) == f"causal, scale 1/√H, lse in base {base}, {LAYOUT}"
    alone = {name: held[name] for name in ("query", "key", "lse")}
    assert found(alone) == f"causal, scale 1/√H, lse in base {base}, {LAYOUT}"


def test_a_log_sum_exp_that_is_off_says_by_how_much():
    held, cache = computed()
    held["lse"] = cache.logsumexp + 0.25
    report = find_convention(held)
    assert not report.passed
    assert "lse in no base (off by up to 0.25 if natural)" in report.nearest.described


@pytest.mark.parametrize("factor", [0.5, 1.02, -3.0])
def test_the_output_may_be_there_times_a_factor(factor):
    held, _ = computed(causal="upper_left", scale=0.31)
    held["out"] *= factor
    assert found(held) == f"causal, scale 0.31, the output times {factor:g}, {LAYOUT}"
    held["out"][1, 2, 7] *= 1.1
    assert not find_convention(held).passed


@pytest.mark.parametrize("causal", [None, "upper_left"])
def test_lengths_that_are_not_in_the_file(causal):
    lengths = np.array([7, 11, 3])
    held, _ = computed(inputs(items=3), {"kv_lengths": lengths}, causal=causal, scale=0.4)
    del held["kv_lengths"]
    words = f"{'causal, ' if causal else ''}scale 0.4, lengths 7, 11, 3 (not in the file)"
    assert found(held) == f"{words}, {LAYOUT}"
    held["out"][1, 2, 9] *= 1.1
    assert not find_convention(held).passed


@pytest.mark.parametrize(
    ("slopes", "words"),
    [
        (standard_slopes(HEADS), "ALiBi with the standard slopes"),
        (-standard_slopes(HEADS), "ALiBi with the standard slopes, and the sign reversed"),
        (np.array([0.4, 0.1, 0.3]), "ALiBi of slopes 0.4, 0.1, 0.3"),
    ],
)
@pytest.mark.parametrize("align", ["upper_left", "lower_right"])
def test_slopes_that_are_not_in_the_file(slopes, words, align):
    held, _ = computed(inputs(T_enc=T_ENC), {"alibi": slopes}, align=align)
    del held["alibi"]
    assert found(held) == f"scale 1/√H, {words}, aligned {align.replace('_', ' ')}, {LAYOUT}"
    held["out"][1, 2, 7] *= 1.1
    assert not find_convention(held).passed


@pytest.mark.parametrize(
    ("style", "base", "width"),
    [
        ("halves", 500000.0, None),
        ("interleaved", 1000000.0, 4),
        ("interleaved", 10000.0, 2),
    ],
)
def test_rotary_positions_of_a_part_of_the_features_and_by_other_bases(style, base, width):
    given = inputs()
    turned = {x: rotary(given[x], style=style, base=base, width=width) for x in ("query", "key")}
    out, _ = attention(**turned, value=given["value"], causal="upper_left")
    report = find_convention({**given, "out": out})
    options = [one.options["rotary"] for one in report.readings]
    words = {"halves": "rotary in halves", "interleaved": "rotary interleaved"}[style]
    words += f", base {base:g}" + (f", of the first {width} of 8 features" if width else "")
    if width == 2:  # one pair alone is turned, by the step itself: of any base, in either style
        words = "rotary in halves, base 10000, of the first 2 of 8 features"
    assert words in options
