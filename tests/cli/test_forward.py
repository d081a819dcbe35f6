"""``attn forward``."""


def test_random_tensors_of_the_given_sizes(attn):
    result = attn("forward", "--N", 2, "--T", 5, "--T-enc", 7, "--H", 3, "--seed", 1, "--json")
    assert (result.code, result.err) == (0, "")
    shapes = {name: tensor["shape"] for name, tensor in result.json["tensors"].items()}
    assert shapes == {
        "hs_enc": [2, 7, 3],
        "hs_dec": [2, 5, 3],
        "out": [2, 5, 3],
        "weights": [2, 5, 7],
    }
    assert result.json["seed"] == 1
