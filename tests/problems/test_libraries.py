"""How libraries read causal order and windows: each row of the table against what it does."""

import numpy as np
import pytest

from attncli.cli import show_mask
from attncli.core.semantics import Semantics
from attncli.core.visibility import Visibility
from attncli.errors import ParameterError
from attncli.problems.libraries import LIBRARIES

T_DEC, T_ENC = 5, 11


def pattern(name, **options):
    semantics = LIBRARIES[name].read(name, Semantics(**options))
    return Visibility.of(semantics, T_DEC, T_ENC).pattern()


QUERY = np.zeros((1, 1, T_DEC, T_ENC), np.float32)
KEY = np.zeros((1, 1, T_ENC, T_ENC), np.float32)
VALUE = np.eye(T_ENC, dtype=np.float32)[None, None]  # so that the output is the weights


def test_the_command_line_offers_all_there_are():
    assert tuple(LIBRARIES) == show_mask.LIBRARIES


def test_torch_is_what_torch_does():
    torch = pytest.importorskip("torch")
    attend = torch.nn.functional.scaled_dot_product_attention
    out = attend(*map(torch.from_numpy, (QUERY, KEY, VALUE)), is_causal=True)
    assert np.array_equal(out[0, 0].numpy() > 0, pattern("torch", causal="upper_left"))


def test_onnx_is_what_onnx_does():
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    node = onnx.helper.make_node("Attention", ["Q", "K", "V"], ["Y"], is_causal=1)
    (out,) = reference.ReferenceEvaluator(node).run(None, {"Q": QUERY, "K": KEY, "V": VALUE})
    assert np.array_equal(out[0, 0] > 0, pattern("onnx", causal="upper_left"))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [None, 2, (3, 1), (0, 4)])
def test_jax_is_what_jax_does(causal, window):
    jax = pytest.importorskip("jax")
    arrays = (x.swapaxes(1, 2) for x in (QUERY, KEY, VALUE))
    out = jax.nn.dot_product_attention(*arrays, is_causal=causal, local_window_size=window)
    options = {"causal": "upper_left"} if causal else {}
    assert np.array_equal(np.asarray(out)[0, :, 0] > 0, pattern("jax", window=window, **options))


def test_flash_attention_is_as_its_documentation_says():
    """Keys [i + T_enc − T_dec − L, i + T_enc − T_dec + R], causal or not."""
    own = np.arange(T_DEC)[:, None] + T_ENC - T_DEC
    keys = np.arange(T_ENC)
    expected = (keys >= own - 3) & (keys <= own + 1)
    assert np.array_equal(pattern("flash-attention", window=(3, 1)), expected)
    causal = pattern("flash-attention", window=(3, 1), causal="upper_left")
    assert np.array_equal(causal, expected & (keys <= own))


@pytest.mark.parametrize("window", [1, 3])
def test_transformers_is_as_its_masks_are(window):
    """``kv > q − sliding_window and kv <= q``, where q counts on after the cache."""
    q, kv = np.arange(T_ENC - T_DEC, T_ENC)[:, None], np.arange(T_ENC)
    expected = (kv > q - window) & (kv <= q)
    assert np.array_equal(pattern("transformers", window=window, causal="upper_left"), expected)


def test_a_window_of_no_end_has_none_anywhere():
    assert pattern("transformers", window=-1).all()


@pytest.mark.parametrize(
    ("name", "window", "message", "hint"),
    [
        ("torch", 3, "torch has no window", "--convention jax or flash-attention or transformers"),
        ("transformers", (3, 0), "one number", "--window 4"),
        ("transformers", 0, "at least 1", "--window 1"),
    ],
)
def test_what_a_library_does_not_have_is_refused(name, window, message, hint):
    with pytest.raises(ParameterError, match=message) as refused:
        LIBRARIES[name].read(name, Semantics(window=window))
    assert refused.value.hint == hint
