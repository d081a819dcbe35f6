"""The public names: there, lazily, and typed."""

import subprocess
import sys

import numpy as np
import pytest

import attncli


def test_every_public_name_is_there():
    for name in attncli.__all__:
        assert getattr(attncli, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = attncli.nothing


def test_attention_is_a_package_and_a_function():
    import attncli.attention.core

    x = np.eye(3)
    out, cache = attncli.attention(x, x, x, causal="upper_left")
    assert attncli.attention.attention(x, x, x, causal="upper_left")[0].tolist() == out.tolist()
    assert len(attncli.attention_backward(out, cache)) == 3


@pytest.mark.parametrize(
    "first", ["attncli.attention", "attncli.attention.core", "attncli.operations"]
)
def test_whatever_is_imported_first_both_names_work(first):
    code = f"import {first}, attncli, numpy; x = numpy.eye(2); attncli.attention(x, x, x)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_imports_nothing_large():
    code = "import attncli, sys; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
