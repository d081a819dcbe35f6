"""``attn backward``."""

import numpy as np
import pytest

from attncli.files.contents import open_tensors
from attncli.layers import TimeAttention
from attncli.tensors import random_tensor


@pytest.mark.parametrize(
    ("layer", "gradients"),
    [
        ("softmax", ["dscores"]),
        ("weight-sum", ["dhs", "da"]),
        ("attention-weight", ["dhs", "dh"]),
        ("attention", ["dhs", "dh"]),
        ("time-attention", ["dhs_enc", "dhs_dec"]),
    ],
)
def test_every_layer(attn, layer, gradients):
    result = attn("backward", "--layer", layer, "--json")
    assert result.code == 0
    assert list(result.json["tensors"])[-len(gradients) - 1 :] == ["dout", *gradients]


def test_gradients_are_those_of_the_layer_under_a_dout_from_the_seed(attn):
    tensors = attn(
        "backward", "--N", 2, "--T", 3, "--H", 5, "--seed", 4, "--engine", "reference",
        "--json",
    ).json["tensors"]  # fmt: skip
    arrays = {name: np.array(tensor["data"]) for name, tensor in tensors.items()}
    np.testing.assert_array_equal(arrays["dout"], random_tensor("dout", (2, 3, 5), seed=4))
    layer = TimeAttention()
    layer.forward(arrays["hs_enc"], arrays["hs_dec"])
    dhs_enc, dhs_dec = layer.backward(arrays["dout"])
    np.testing.assert_array_equal(arrays["dhs_enc"], dhs_enc)
    np.testing.assert_array_equal(arrays["dhs_dec"], dhs_dec)


def test_dout_of_the_file_is_used(attn, folder, states):
    dout = np.random.default_rng(2).normal(size=(2, 3, 5))
    np.savez("x.npz", **states, dout=dout)
    result = attn("backward", "x.npz", "--json")
    np.testing.assert_array_equal(result.json["tensors"]["dout"]["data"], dout)
    np.save("ones.npy", np.ones((2, 3, 5)))
    np.savez("y.npz", **states)
    result = attn("backward", "y.npz", "--dout", "ones.npy", "--json")
    assert result.json["tensors"]["dout"]["data"] == np.ones((2, 3, 5)).tolist()


def test_a_forward_run_is_continued(attn, folder):
    attn("forward", "--N", 2, "--T", 3, "--T-enc", 7, "--H", 5, "-o", "run.npz")
    result = attn("backward", "run.npz", "-o", "back.npz")
    assert result.code == 0
    assert result.out.splitlines()[0] == (
        "time-attention backward · run.npz · dout random, seed 0 · N=2 T_dec=3 T_enc=7 H=5"
    )
    back = open_tensors("back.npz")
    assert {"hs_enc", "hs_dec", "out", "weights", "dout", "dhs_enc", "dhs_dec"} <= set(back)
    again = attn("backward", "back.npz", "--json").json["tensors"]
    np.testing.assert_array_equal(again["dhs_enc"]["data"], back.numbers("dhs_enc"))


def test_only_dout_and_the_gradients_are_shown(attn):
    titles = [line.split()[0] for line in attn("backward").out.splitlines() if "float64" in line]
    assert titles == ["dout", "dhs_enc", "dhs_dec"]


def test_float32_gradients(attn):
    tensors = attn("backward", "--dtype", "float32", "--json").json["tensors"]
    assert {tensor["dtype"] for tensor in tensors.values()} == {"float32"}


def test_one_array_cannot_hold_the_gradients(attn, folder):
    result = attn("backward", "-o", "x.npy")
    assert result.code == 2
    assert result.err.startswith("error: x.npy: an .npy file holds one array")
    assert not (folder / "x.npy").exists()


def test_dout_of_another_shape(attn, folder, states):
    np.savez("x.npz", **states, dout=np.ones((2, 3, 4)))
    result = attn("backward", "x.npz")
    assert result.code == 2
    assert result.err == (
        "error: x.npz: dout is (2, 3, 4), expected the shape of the result, "
        "(2, 3, 5) = (N, T_dec, H)\n"
    )


def test_a_dout_that_would_not_fit_is_not_drawn(attn, folder):
    np.save("enc.npy", np.ones((1, 2, 500)))
    np.save("dec.npy", np.ones((1, 300, 500)))
    command = ["backward", "--hs-enc", "enc.npy", "--hs-dec", "dec.npy", "-q"]
    result = attn(*command, "--max-memory", "1MB")
    assert (result.code, result.out) == (2, "")
    assert (
        "random dout (1, 300, 500) = (N, T_dec, H) would take 1.2 MB, there is 1.0 MB" in result.err
    )
    assert attn(*command, "--max-memory", "2MB").code == 0
