"""Defaults in the environment: one variable for every option, named after it."""

import click
import pytest
from conftest import SAMPLES

from attncli.cli.main import COMMANDS
from attncli.cli.main import attn as group

QKV = SAMPLES / "minilm_qkv.npz"


def of(attn, monkeypatch, *arguments, **variables):
    for name, value in variables.items():
        monkeypatch.setenv(f"ATTN_{name}", value)
    return attn(*arguments)


def test_every_option_of_every_command_is_read_from_a_variable_of_its_name():
    names = {}
    for name in COMMANDS:
        command = group.get_command(None, name)
        context = click.Context(
            command, info_name=name, parent=click.Context(group, auto_envvar_prefix="ATTN")
        )
        for option in command.params:
            if isinstance(option, click.Option):
                variable = f"{context.auto_envvar_prefix}_{option.variable}"
                assert names.setdefault(variable, (name, option)) == (name, option)
                with pytest.MonkeyPatch.context() as patch:
                    patch.setenv(variable, "what")
                    assert option.resolve_envvar_value(context) == "what"
    assert {"ATTN_FORWARD_DTYPE", "ATTN_SHOW_WEIGHTS_TOKENS", "ATTN_CHECK_AS"} < set(names)


def test_what_a_command_is_given_comes_before_what_the_environment_has(attn, monkeypatch):
    told = of(attn, monkeypatch, "forward", "--json", FORWARD_DTYPE="float32", FORWARD_N="2").json
    assert (told["tensors"]["out"]["dtype"], told["sizes"]["N"]) == ("float32", 2)
    told = attn("forward", "--json", "--dtype", "float16").json
    assert told["tensors"]["out"]["dtype"] == "float16"
    assert attn("backward", "--json").json["tensors"]["out"]["dtype"] == "float64"


@pytest.mark.parametrize(
    ("value", "causal"), [("1", True), ("true", True), ("0", False), ("", False)]
)
def test_flags_are_on_or_off_and_what_is_empty_is_not_there(attn, monkeypatch, value, causal):
    told = of(attn, monkeypatch, "forward", "--json", FORWARD_CAUSAL=value, FORWARD_DTYPE="").json
    assert ("causal" in told) == causal


def test_a_flag_with_two_names_and_one_that_stands_for_a_value(attn, monkeypatch):
    told = of(attn, monkeypatch, "forward", "--json", FORWARD_WEIGHTS="0", FORWARD_ALIBI="standard")
    assert {"weights", "alibi"} & set(told.json["tensors"]) == {"alibi"}


def test_what_may_be_given_several_times_has_spaces_between(attn, monkeypatch):
    both = "query=key key=query"
    told = of(attn, monkeypatch, "forward", QKV, "--json", FORWARD_RENAME=both).json
    plain = of(attn, monkeypatch, "forward", QKV, "--json", FORWARD_RENAME="").json
    assert told["tensors"]["query"]["data"] == plain["tensors"]["key"]["data"]


def test_json_by_the_environment_makes_objects_of_errors_too(attn, monkeypatch):
    assert of(attn, monkeypatch, "forward", FORWARD_JSON="1").json["command"] == "forward"
    assert attn("forward", "--n", 3).err.startswith('{"error"')


@pytest.mark.parametrize(
    ("command", "variable", "value", "message", "hint"),
    [
        ("forward", "FORWARD_DTYPE", "fp32", "'fp32' is not", "ATTN_FORWARD_DTYPE=float32 attn"),
        ("forward", "FORWARD_N", "many", "expected a whole number", "env -u ATTN_FORWARD_N attn"),
        ("forward", "FORWARD_N", "0", "whole number, 1 or more", "ATTN_FORWARD_N=1 attn forward"),
        ("forward", "THEME", "drak", "'drak' is not one of", "ATTN_THEME=dark attn forward"),
        ("forward", "FORWARD_HS_ENC", "no.npy", "no.npy: no such", "env -u ATTN_FORWARD_HS_ENC"),
        ("forward", "FORWARD_FORCE", "1", "--force has no", "env -u ATTN_FORWARD_FORCE attn"),
    ],
)  # fmt: skip
def test_a_bad_value_is_blamed_by_its_name(
    attn, monkeypatch, folder, command, variable, value, message, hint
):
    result = of(attn, monkeypatch, command, **{variable: value})
    error, hinted = result.err.splitlines()
    assert (result.code, result.out) == (2, "")
    assert error.startswith(f"error: ATTN_{variable}: ")
    assert message in error
    assert hinted.startswith(f"hint:  {hint}")


def test_a_variable_that_is_not_to_blame_is_not_blamed(attn, monkeypatch):
    result = of(attn, monkeypatch, "forward", "--dtype", "fp32", FORWARD_DTYPE="float32")
    assert result.err.startswith("error: invalid value for '--dtype'")


@pytest.mark.parametrize(
    ("variable", "value", "hint"), [("BLAS", "2", "auto"), ("LANG", "xx", "en")]
)
def test_a_bad_value_for_all_commands_is_blamed_by_its_name_too(
    attn, monkeypatch, variable, value, hint
):
    result = of(attn, monkeypatch, "forward", "--N", 2, **{variable: value})
    error, hinted = result.err.splitlines()
    assert (result.code, result.out) == (2, "")
    assert error.startswith(f"error: ATTN_{variable} is '{value}', expected ")
    assert hinted == f"hint:  ATTN_{variable}={hint} attn forward --N 2"
