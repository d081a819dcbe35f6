"""Who multiplies: NumPy, or MKL where it is there, and that both give the same."""

import os
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

import attncli
from attncli.core import mkl, products
from attncli.errors import ParameterError

from . import formula
from .common import TOLERANCE
from .drawn import LARGE, PRIMES, drawn
from .test_combinations import LARGE_CASES, SMALL_CASES, WAYS, assert_same, everything

INSTALL = "pip install 'attncli[mkl]'"


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    monkeypatch.delenv("ATTN_BLAS", raising=False)
    yield
    monkeypatch.undo()
    for function in (mkl.find, mkl.load):
        function.cache_clear()
    products.choose("numpy")


def laid_out(x):
    """Give the same matrices as they may lie: turned, in gaps, backwards, not aligned."""
    yield "as they are", x
    yield "turned", np.ascontiguousarray(x.mT).mT
    room = np.zeros((*x.shape[:-2], x.shape[-2] + 2, x.shape[-1] + 3), x.dtype)
    room[..., 1:-1, 2:-1] = x
    yield "within larger ones", room[..., 1:-1, 2:-1]
    turned = np.ascontiguousarray(room.mT).mT
    yield "within larger ones, turned", turned[..., 1:-1, 2:-1]
    yield "with gaps both ways", np.repeat(np.repeat(x, 3, axis=-1), 2, axis=-2)[..., ::2, ::3]
    yield "backwards", np.ascontiguousarray(x[..., ::-1, ::-1])[..., ::-1, ::-1]
    raw = np.zeros(x.nbytes + 1, np.uint8)[1:]
    odd = raw.view(x.dtype).reshape(x.shape)
    odd[...] = x
    yield "not aligned", odd


LEADS = {
    "none": ((), ()), "one": ((3,), (3,)), "two": ((2, 3), (2, 3)), "of the first": ((2, 3), ()),
    "of the second": ((), (3,)), "crossed": ((1, 3), (2, 1)), "empty": ((0, 3), (0, 3)),
}  # fmt: skip
SIZES = [(5, 7, 11), (1, 7, 11), (5, 1, 11), (5, 7, 1), (1, 1, 1), (0, 3, 2), (3, 0, 2), (3, 2, 0)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "longdouble", ">f8"])
@pytest.mark.parametrize("leads", LEADS)
@pytest.mark.usefixtures("by_mkl")
def test_mkl_gives_what_numpy_gives_of_any_matrices(leads, dtype):
    rng = np.random.default_rng(0)
    tolerance = TOLERANCE[np.dtype(dtype).newbyteorder("=").name.replace("float128", "longdouble")]
    for m, k, n in SIZES:
        first = rng.standard_normal((*LEADS[leads][0], m, k)).astype(dtype)
        second = rng.standard_normal((*LEADS[leads][1], k, n)).astype(dtype)
        expected = np.matmul(first, second)
        found = {}
        for (how, x), (by, y) in product(laid_out(first), laid_out(second)):
            found[f"{how} by {by}"] = products.matmul(x, y)
        for how, out in laid_out(np.full_like(expected, np.nan)):
            found[f"out {how}"] = products.matmul(first, second, out=out)
            assert found[f"out {how}"] is out
        for how, x in found.items():
            assert x.dtype == expected.dtype, how
            np.testing.assert_allclose(x, expected, atol=20 * tolerance, err_msg=f"{m, k, n} {how}")


@pytest.mark.usefixtures("by_mkl")
def test_it_is_mkl_that_multiplies(monkeypatch):
    monkeypatch.setattr(np, "matmul", None)
    first, second = np.ones((2, 5, 7), np.float32), np.ones((2, 7, 3), np.float32)
    assert (products.matmul(first[0], second[0]) == 7).all()
    assert (products.matmul(first, second, out=np.empty((2, 3, 5), np.float32).mT) == 7).all()


@pytest.mark.usefixtures("by_mkl")
def test_a_result_may_lie_where_an_operand_does_and_shapes_must_fit():
    x = np.random.default_rng(0).standard_normal((7, 7))
    expected = x @ x
    np.testing.assert_allclose(products.matmul(x, x, out=x), expected)
    with pytest.raises(ValueError, match="mismatch in its core dimension"):
        products.matmul(np.ones((2, 3)), np.ones((2, 3)))


@pytest.mark.parametrize("seed", [*SMALL_CASES[::7], LARGE_CASES[8]])
@pytest.mark.filterwarnings("ignore::attncli.errors.AttnWarning")
@pytest.mark.usefixtures("by_mkl")
def test_any_options_together_give_what_the_formulas_give(seed):
    _, arrays, options = drawn(seed, LARGE if seed in LARGE_CASES else PRIMES)
    wanted = formula.attention(**arrays, **options)
    for engine, kept in WAYS:
        tile = (5, 7) if engine == "tiled" else None
        assert_same(everything(arrays, options, engine, kept, tile, threads=2), wanted, kept)


FORKED = """
import os
import numpy as np
from attncli import attention, attention_backward
from attncli.core import products
rng = np.random.default_rng(0)
query, key, value = (rng.standard_normal((599, 64)) for _ in range(3))
def both(threads):
    out, cache = attention(query, key, value, threads=threads)
    return out, *attention_backward(value, cache)
before = both(2)
assert products.told() == TOLD, products.told()
child = os.fork()
if not child:
    os._exit(int(any(abs(x - y).max() > 1e-12 for x, y in zip(before, both(2)))))
raise SystemExit(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.usefixtures("by_mkl")
def test_a_fork_goes_on_after_mkl_has_multiplied_on_several_threads():
    script = FORKED.replace("TOLD", "'mkl'")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], timeout=120, capture_output=True, text=True,
        env={**os.environ, "ATTN_BLAS": "mkl", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


# Where it is not there, or not whole.


def wheel(folder, monkeypatch, **files):
    """Make what a wheel of MKL leaves: each library with what it holds, and the bytes it had."""
    (folder / "mkl-9.dist-info").mkdir()
    lines = []
    for name, (content, size) in files.items():
        path = folder / f"libmkl_{name}.so.9"
        if content is not None:
            path.write_bytes(content)
        lines.append(f"{path.name},sha256=x,{size}\n")
    (folder / "mkl-9.dist-info" / "RECORD").write_text("".join(lines))
    monkeypatch.setattr(sys, "path", [str(folder)])
    for function in (mkl.find, mkl.load):
        function.cache_clear()


def absent(monkeypatch):
    monkeypatch.setattr(mkl, "find", lambda: None)


def other_library():
    """The bytes of a library that loads, and is not MKL."""
    with open(np._core._multiarray_umath.__file__, "rb") as file:
        content = file.read()
    return content, len(content)


LIBRARY = b"\x7fELF" + bytes(96)
DAMAGED = {
    "garbage": ({"rt": (b"garbage", 7)}, "cannot be loaded"),
    "empty": ({"rt": (b"", 0)}, "cannot be loaded"),
    "cut off": ({"rt": (LIBRARY, 5000)}, "has 100 bytes, not 5000 as installed: it is damaged"),
    "of a library it loads": (
        {"rt": (LIBRARY, 100), "core": (LIBRARY[:50], 100)}, "50 bytes, not 100 as installed",
    ),
    "overwritten": ({"rt": (LIBRARY, 100), "core": (bytes(100), 100)}, "some are damaged"),
    "one is gone": ({"rt": (LIBRARY, 100), "avx512": (None, 100)}, "No such file"),
    "a name alone": ({"core": (LIBRARY, 100)}, "names no library"),
    "another library": ({"rt": other_library()}, "it is not the MKL that is known here"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_cannot_be_loaded_is_an_error_only_where_it_is_asked_for(kind, tmp_path, monkeypatch):
    files, says = DAMAGED[kind]
    wheel(tmp_path, monkeypatch, **files)
    monkeypatch.setattr(products, "LARGE", 0)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    with pytest.raises(ParameterError, match="mkl, which is to multiply, cannot be load") as caught:
        products.choose("mkl")
    assert says in str(caught.value)
    assert caught.value.hint == "--blas numpy"
    products.choose("auto")
    assert products.matmul(np.ones((2, 3)), np.ones((3, 2))).tolist() == [[3, 3], [3, 3]]
    assert products.told().startswith("numpy (mkl cannot be loaded: ")
    assert says in products.told()


def test_where_it_is_not_installed_numpy_multiplies_unless_it_is_asked_for(monkeypatch):
    absent(monkeypatch)
    products.choose("auto")
    assert (products.told(), products.matmul) == ("numpy", np.matmul)
    with pytest.raises(ParameterError, match="mkl, which is to multiply, is not inst") as caught:
        products.choose("mkl")
    assert caught.value.hint == INSTALL


def at_first(monkeypatch):
    """Bring back what there is before the first product."""
    monkeypatch.setattr(products, "matmul", products._at_first)
    monkeypatch.setattr(products, "_asked", None)


def test_the_environment_is_read_when_the_first_product_comes(monkeypatch):
    absent(monkeypatch)
    at_first(monkeypatch)
    x = np.ones((2, 3))
    monkeypatch.setenv("ATTN_BLAS", "mlk")
    with pytest.raises(ParameterError, match="'mlk', expected auto, numpy or mkl") as caught:
        attncli.attention(x, x, x)
    assert caught.value.hint == "ATTN_BLAS=auto"
    monkeypatch.setenv("ATTN_BLAS", "mkl")
    with pytest.raises(ParameterError, match="is not installed") as caught:
        attncli.attention(x, x, x)
    assert caught.value.hint == INSTALL
    monkeypatch.setenv("ATTN_BLAS", "")
    assert (attncli.attention(x, x, x)[0] == 1).all()
    assert products.told() == "numpy"


@pytest.mark.parametrize(
    ("tuned", "threads", "told"),
    [
        (True, "1", "mkl"),
        (False, "1", "numpy (mkl has no code of its own for this processor)"),
        (True, "2", "numpy (mkl only where OPENBLAS_NUM_THREADS=1 holds this to one thread too)"),
    ],
)
def test_auto_is_mkl_where_that_is_the_faster(monkeypatch, tmp_path, tuned, threads, told):
    used = []
    monkeypatch.setattr(mkl, "find", lambda: tmp_path)
    monkeypatch.setattr(mkl, "load", lambda: mkl.Mkl({}, {}, tuned))
    monkeypatch.setattr(mkl, "matmul", lambda x, y, out: used.append(x.shape) or np.matmul(x, y))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", threads)
    at_first(monkeypatch)
    small, large = np.ones((157, 157)), np.ones((163, 163))
    products.matmul(small, small)
    assert products.told() == (told if threads == "2" else "numpy (mkl is for larger products)")
    for x in (large, small):
        assert (products.matmul(x, x) == len(x)).all()
    assert products.told() == told
    assert used == ([(163, 163)] if told == "mkl" else [])


def test_nothing_is_loaded_for_small_products(monkeypatch, tmp_path):
    monkeypatch.setattr(mkl, "find", lambda: tmp_path)
    monkeypatch.setattr(mkl, "load", lambda: pytest.fail("loaded"))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    at_first(monkeypatch)
    x = np.ones((5, 4))
    attncli.attention(x, x, x)
