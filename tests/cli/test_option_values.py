"""Any text given as a value, on the command line or in a run file: an answer, or one error line."""

import _thread
import json
import math

import click
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import run_attn

from attncli.cli.main import attn as group
from attncli.cli.options import Logits
from attncli.core import threads
from attncli.errors import AttnError
from attncli.files.contents import open_tensors
from attncli.memory import cores


def read(command, option, text):
    """Give what an option makes of a text; None where it refuses it."""
    with click.Context(command, info_name=command.name) as context:
        try:
            return option.process_value(context, (text,) if option.multiple else text)
        except (click.UsageError, AttnError):
            return None


def takes_numbers(command, option):
    if option.is_flag or isinstance(option.type, click.Choice):
        return False
    numbers = ("3", "3,3,3", "3x3", "a=3,3", "h[0,0]+=1")
    return read(command, option, "x") is None and any(read(command, option, x) for x in numbers)


def _numeric():
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        for option in command.params:
            if option.name == "arguments":  # theirs, for their code to judge
                continue
            if isinstance(option, click.Option) and takes_numbers(command, option):
                yield pytest.param(command, option, id=f"{name} {max(option.opts, key=len)}")


NUMERIC = list(_numeric())

# What Python reads as a number, and what looks like one.
DIGITS = st.text("0123456789", min_size=1, max_size=3) | st.sampled_from(
    ["9" * 19, "9" * 400, "9" * 5000, "0" * 5000 + "1", "2" * 40, "9223372036854775807"]
)
NUMBERS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "-", "+", " ", "_"]),
        DIGITS | st.sampled_from(["nan", "inf", "infinity", "１２", "²", "0x10", "1_0"]),
        st.sampled_from(["", ".5", "e5", "e400", "e-400", "GB", "\udcff"]),
    ),
)
VALUES = st.lists(NUMBERS, min_size=1, max_size=4).flatmap(
    lambda parts: st.sampled_from([",", ":", "/", "x", "=", ""]).map(lambda by: by.join(parts))
)


def numbers_in(value):
    if isinstance(value, (tuple, list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(part)
    elif isinstance(value, (int, float)):
        yield value


def test_the_command_tree_has_numeric_options():
    assert len(NUMERIC) > 150


def require_computable(command, option, text):
    for number in numbers_in(read(command, option, text)):
        if isinstance(number, float):
            is_no_sink = isinstance(option.type, Logits) and number == -math.inf
            assert math.isfinite(number) or is_no_sink
        else:
            assert -(2**63) <= number < 2**63


@pytest.mark.parametrize(("command", "option"), NUMERIC)
def test_no_text_becomes_a_number_that_nothing_can_compute_with(command, option):
    for text in ("nan", "-inf", "inf", "1e999", "9" * 400, "-" + "9" * 400, "9" * 5000):
        for form in ("{0}", "{0},{0}", "{0},{0},{0}", "{0}:", "{0}x{0}", "a={0}", "a[{0}]+={0}"):
            require_computable(command, option, form.format(text))


# Those that are read in the same way once.
KINDS = {
    (type(option.type), str(vars(option.type)), option.callback, option.multiple): one.values
    for one in NUMERIC
    for _, option in [one.values]
}


@given(st.sampled_from(list(KINDS.values())), VALUES)
@settings(max_examples=300)
def test_nor_does_any_other(kind, text):
    require_computable(*kind, text)


@pytest.mark.parametrize(("command", "option"), NUMERIC)
@pytest.mark.parametrize("text", ["nan", "9" * 5000])
def test_such_text_is_a_usage_error_before_any_work(folder, command, option, text):
    if isinstance(read(command, option, text), tuple):
        return  # it may be the name of a token
    result = run_attn(command.name, f"{max(option.opts, key=len)}={text}")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert max(map(len, result.err.splitlines())) < 1500


SIZED = [one for one in NUMERIC if one.values[0].name in ("forward", "show-mask")]


@pytest.mark.parametrize(("command", "option"), SIZED)
def test_the_largest_numbers_are_computed_with_or_refused(folder, command, option):
    for text in ("9223372036854775807", "0,9223372036854775807", "0"):
        words = [f"{max(option.opts, key=len)}={text}"]
        if command.name != "show-mask":
            words += ["--layer", "scaled-dot-product"]
        words += ["--rotary", "halves"] * option.name.startswith("rotary_")
        result = run_attn(command.name, *words)
        assert result.code in (0, 2), result.err
        assert len(result.err) < 1500


def test_as_many_threads_as_there_are_cores(monkeypatch):
    monkeypatch.setattr(threads, "_idle", [])
    before = _thread._count()
    few = cores()
    result = run_attn("forward", "--N", 50, "--T", 97, "--threads", 20000, "-q")
    assert result.err == f"warning: --threads 20000: there are {few} cores, one thread each\n"
    assert _thread._count() - before <= few
    assert run_attn("forward", "--threads", few).err == ""


def test_no_more_threads_than_some_a_core_from_python(monkeypatch):
    monkeypatch.setattr(threads, "_idle", [])
    before = _thread._count()
    done = []
    threads.run([lambda: done.append(1)] * 20000, 20000)
    assert len(done) == 20000
    assert _thread._count() - before < 8 * cores()


# The options that a file says it was computed with.

STATES = {"hs_enc": np.ones((2, 7, 5)), "hs_dec": np.ones((2, 3, 5))}


def as_npz(path, text):
    np.savez(path, **STATES, options=np.array(text))


def as_safetensors(path, text):
    save = pytest.importorskip("safetensors.numpy").save_file
    save(STATES, path, {"options": text})


def as_zarr(path, text):
    said = {"zarr_format": 3, "node_type": "group", "attributes": {"options": text}}
    run_attn("forward", "--N", 2, "-o", path, "-q", "--force")
    with open(f"{path}/zarr.json", "w") as file:
        json.dump(said, file)


STORED = {
    "seed": [-1, 2.5, True, "5", 10**30],
    "layer": [[], {}, 3, True],
    "scale": [[], "x", True, math.nan, -math.inf, 10**400],
    "softcap": [[1], math.inf, 10**400, False],
    "keep_prob": [math.nan, [0.5], "0.5"],
    "window": [1.5, math.nan, True, [1, 2.5], [[1]], 10**400, {}],
    "causal": [True, 1, ["upper_left"]],
    "align": [0, {}],
    "heads": [1.0, "2", [2], 10**400, math.inf],
    "kv_heads": [1.5, 10**30],
    "layout": [3, ["N", "T", "H"]],
    "rotary": [True, []],
    "rotary_base": [math.inf, "x", 10**400],
    "rotary_width": [2.0, 10**30],
    "inputs": [[], "x", 3],
    "scael": [1, None, []],
    "": [1],
    "no\u2028name\x1b": ["x"],
}
HOSTILE = [(name, value) for name, values in STORED.items() for value in values]


@pytest.mark.parametrize(("name", "value"), HOSTILE)
def test_an_option_that_no_run_writes_is_refused_by_its_name(folder, name, value):
    as_npz("x.npz", json.dumps({name: value}))
    for command in ("forward", "show-weights"):
        result = run_attn(command, "x.npz")
        assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
        assert result.err.startswith("error: x.npz: its options hold what no run writes: ")
        assert name.isalpha() <= (name in result.err)
        assert len(result.err) < 300


@pytest.mark.parametrize("write", [as_npz, as_safetensors, as_zarr])
def test_in_whatever_format_they_are(folder, write):
    path = "x." + write.__name__.removeprefix("as_")
    for text in ('{"scale": [1]}', '{"scale": NaN}', '{"sacle": 1}', '{"scale": 1, "scale": 2}'):
        write(path, text)
        result = run_attn("forward", path)
        assert (result.code, result.out, result.err.count("error: ")) == (2, "", 1)
        assert result.err.startswith(f"error: {path}: its options")
    write(path, '{"scale": 2, "attn": null}')
    assert run_attn("forward", path, "-q").code == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([10**400, 2**63, "halves", "upper_left", "luong"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)  # fmt: skip


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from([*STORED, "block", "attn", "item", "step"]), JSON))
def test_whatever_they_are_nothing_but_an_error_of_ours_comes_of_them(tmp_path_factory, options):
    path = tmp_path_factory.getbasetemp() / "any.npz"
    as_npz(path, json.dumps(options))
    file = open_tensors(str(path))
    try:
        given_back = file.options
    except AttnError:
        return
    assert given_back == {name: x for name, x in options.items() if x is not None}
    assert run_attn("forward", path, "-q").code in (0, 2)
