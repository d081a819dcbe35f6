"""The public names: there, lazily, and typed."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
import typed_caller

import attncli
from attncli.layers import TimeAttention


def test_every_public_name_is_there():
    for name in attncli.__all__:
        assert getattr(attncli, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = attncli.nothing


def test_functions_are_functions_with_every_option_in_their_signature():
    signature = inspect.signature(attncli.attention)
    for option in (
        "mask", "causal", "scale", "softcap", "window", "threads", "engine", "weights"
    ):  # fmt: skip
        assert signature.parameters[option].kind is inspect.Parameter.KEYWORD_ONLY
        assert f"    {option} : " in attncli.attention.__doc__
    assert inspect.isfunction(attncli.attention_backward)
    assert inspect.isfunction(attncli.attention_weights)


def test_a_caller_with_types_runs():
    """Whether its types are right, mypy says, which checks it beside the package."""
    query, key, value = np.random.default_rng(0).normal(size=(3, 5, 4))
    mask = np.ones((5, 5), bool)
    shapes = [x.shape for x in typed_caller.attend(query, key, value, mask)]
    assert shapes == [(5, 4)] * 5 + [(5, 5)] * 2
    assert typed_caller.judge(TimeAttention, query, key, value) == [True] * 7


def test_a_caller_with_types_looks_at_weights(tmp_path):
    assert "0.25  0.75" in typed_caller.look(np.array([[0.25, 0.75], [1, 0]]), f"{tmp_path}/x.npz")


def test_dir_shows_the_public_names_and_nothing_else():
    import attncli.core.functions  # a sub-package that is loaded is not one of them

    assert dir(attncli) == sorted(attncli.__all__)


@pytest.mark.parametrize("first", ["attncli.core", "attncli.core.functions", "attncli.operations"])
def test_whatever_is_imported_first_the_names_work(first):
    code = f"import {first}, attncli, numpy; x = numpy.eye(2); attncli.attention(x, x, x)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_imports_nothing_large():
    code = "import attncli, sys; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
