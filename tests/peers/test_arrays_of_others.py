"""Numbers as torch and JAX hold them, as NumPy's arrays."""

import numpy as np
import pytest

from attncli.foreign import as_array

NUMBERS = [[0.25, 0.75], [-2.5, 448.0]]  # exact in every precision


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "float8_e4m3fn", "int64"])
def test_a_tensor_of_any_precision(dtype):
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(NUMBERS).to(getattr(torch, dtype))
    array = as_array(tensor)
    widened = dtype in ("bfloat16", "float8_e4m3fn")
    assert array.dtype.name == ("float32" if widened else dtype)
    np.testing.assert_array_equal(array, tensor.double().numpy())


def test_a_tensor_in_the_middle_of_a_graph_keeps_its_memory():
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(NUMBERS, requires_grad=True) * 2
    array = as_array(tensor)
    assert array.ctypes.data == tensor.data_ptr()
    assert tensor.requires_grad


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_array_of_jax(dtype):
    jnp = pytest.importorskip("jax.numpy")
    array = as_array(jnp.asarray(NUMBERS, dtype))
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, NUMBERS)
