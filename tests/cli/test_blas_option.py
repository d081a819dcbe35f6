"""``--blas``: who multiplies matrices."""

import numpy as np
import pytest

from attncli.core import mkl, products

COMPUTING = ("forward", "backward", "trace", "gradcheck", "bench")
INSTALL = "hint:  pip install 'attncli[mkl]'"


@pytest.fixture(autouse=True)
def _not_installed(monkeypatch):
    monkeypatch.setattr(mkl, "find", lambda: None)
    yield
    products.choose("numpy")


@pytest.mark.parametrize("by", ["option", "variable"])
@pytest.mark.parametrize("command", COMPUTING)
def test_one_that_is_not_installed_is_said_with_what_installs_it(attn, monkeypatch, command, by):
    option = ("--blas", "mkl") if by == "option" else ()
    monkeypatch.setenv("ATTN_BLAS", "mkl" if by == "variable" else "")
    result = attn(command, *option)
    error = "error: mkl, which is to multiply, is not installed"
    assert (result.code, result.out, result.err.splitlines()) == (2, "", [error, INSTALL])


@pytest.mark.parametrize("command", ["show-mask", "compare", "explain", "guide"])
def test_commands_that_compute_nothing_ask_for_none(attn, monkeypatch, command):
    monkeypatch.setenv("ATTN_BLAS", "mkl")
    assert "mkl, which" not in attn(command).err
    assert attn(command, "--blas", "numpy").code == 2


@pytest.mark.parametrize("blas", ["auto", "numpy"])
@pytest.mark.parametrize("command", ["forward", "backward", "gradcheck"])
def test_who_multiplied_is_told(attn, command, blas):
    assert "blas: numpy\n" in attn(command, "--blas", blas, "-v").err


def test_the_command_line_comes_before_the_environment(attn, monkeypatch):
    monkeypatch.setenv("ATTN_BLAS", "mkl")
    assert attn("forward", "--blas", "numpy").code == 0


def test_mkl_multiplies_where_it_is_asked_for(attn, monkeypatch):
    """A stand-in that only counts: what MKL itself gives is another test's."""
    used = []

    def matmul(first, second, out=None):
        used.append(first.shape)
        return np.matmul(first, second, out=out)

    monkeypatch.setattr(mkl, "find", lambda: "there")
    monkeypatch.setattr(mkl, "load", lambda: mkl.Mkl({}, {}, False))
    monkeypatch.setattr(mkl, "matmul", matmul)
    monkeypatch.setattr(products, "LARGE", 0)
    sizes = ("--N", 2, "--T", 5, "--H", 3, "--threads", 1)
    results = {
        blas: attn("backward", *sizes, "--blas", blas, "--json").json["tensors"]
        for blas in ("numpy", "mkl")
    }
    assert len(used) == 6
    assert results["mkl"] == results["numpy"]
    assert "threads: 1, blas: mkl\n" in attn("backward", *sizes, "--blas", "mkl", "-v").err


def test_where_it_has_no_effect_that_is_said(attn):
    reference = attn("forward", "--engine", "reference", "--blas", "numpy")
    assert "--blas has no effect: time-attention is not computed by the core" in reference.err
    target = attn("gradcheck", "sample_inputs/exercise/wrong_1.py", "--blas", "numpy")
    assert (target.code, "--blas is for the layers of attn" in target.err) == (2, True)


def test_bench_measures_with_it_and_says_so(attn):
    small = ("bench", "--shapes", "2,5,3", "--repeat", 1, "--threads", 1, "--engines", "core")
    assert attn(*small, "--blas", "numpy", "--json").json["blas"] == "numpy"
    assert "\nblas: numpy\n" in attn(*small, "--blas", "numpy").out
