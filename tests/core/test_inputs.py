"""Bad input: one line that names the axes and both values."""

import numpy as np
import pytest

from attncli.core import attention, attention_weights
from attncli.errors import DtypeError, MemoryLimitError, ParameterError, ShapeError

from .common import SHAPES, compute, tensors

MISFITS = {
    "H": (
        ((2, 5, 4), (2, 7, 3), (2, 7, 4)),
        "key is (2, 7, 3), query is (2, 5, 4): H differs (3 and 4)",
    ),
    "T_enc": (
        ((2, 5, 4), (2, 7, 4), (2, 6, 4)),
        "value is (2, 6, 4), key is (2, 7, 4): T_enc differs (6 and 7)",
    ),
    "N": (
        ((3, 5, 4), (2, 7, 4), (2, 7, 4)),
        "key is (2, 7, 4), query is (3, 5, 4): N differs (2 and 3)",
    ),
    "N of value": (
        ((3, 5, 4), (3, 7, 4), (2, 7, 4)),
        "value is (2, 7, 4), key is (3, 7, 4): N differs (2 and 3)",
    ),
    "N without query": (
        ((5, 4), (3, 7, 4), (2, 7, 4)),
        "value is (2, 7, 4), key is (3, 7, 4): N differs (2 and 3)",
    ),
    "N with heads": (
        ((3, 6, 5, 4), (2, 2, 7, 4), (2, 2, 7, 4)),
        "key is (2, 2, 7, 4), query is (3, 6, 5, 4): N differs (2 and 3)",
    ),
    "groups": (
        ((2, 8, 5, 4), (2, 3, 7, 4), (2, 3, 7, 4)),
        "key is (2, 3, 7, 4), query is (2, 8, 5, 4): "
        "8 query heads cannot be shared out among 3 key heads",
    ),
    "more key heads than query heads": (
        ((2, 2, 5, 4), (2, 6, 7, 4), (2, 6, 7, 4)),
        "key is (2, 6, 7, 4), query is (2, 2, 5, 4): the number of heads differs (6 and 2)",
    ),
    "key heads and value heads": (
        ((2, 8, 5, 4), (2, 4, 7, 4), (2, 2, 7, 4)),
        "value is (2, 2, 7, 4), key is (2, 4, 7, 4): the number of heads differs (2 and 4)",
    ),
    "outer axes": (
        ((3, 1, 2, 5, 4), (2, 1, 2, 7, 4), (2, 1, 2, 7, 4)),
        "key is (2, 1, 2, 7, 4), query is (3, 1, 2, 5, 4): axis -5 differs (2 and 3)",
    ),
    "too few axes": (
        ((4,), (7, 4), (7, 4)),
        "query is (4,), expected at least two axes: (…, T, H)",
    ),
    "no keys": (
        ((2, 5, 4), (2, 0, 4), (2, 0, 4)),
        "key is (2, 0, 4): T_enc is 0, and a softmax over no keys has no value",
    ),
    "no H": (((5, 0), (7, 0), (7, 4)), "query is (5, 0): H is 0, so there is nothing to score by"),
}


@pytest.mark.parametrize(("shapes", "message"), MISFITS.values(), ids=list(MISFITS))
def test_shapes_that_do_not_fit_name_the_axis_and_both_values(shapes, message):
    with pytest.raises(ShapeError) as caught:
        attention(*map(np.ones, shapes))
    assert str(caught.value) == message


MASK_MISFITS = {
    "T_enc": (
        (5, 6),
        "mask is (5, 6), the array of scores is (2, 5, 11): T_enc differs (6 and 11)",
    ),
    "T_dec": (
        (4, 11),
        "mask is (4, 11), the array of scores is (2, 5, 11): T_dec differs (4 and 5)",
    ),
    "N": ((3, 1, 1), "mask is (3, 1, 1), the array of scores is (2, 5, 11): N differs (3 and 2)"),
    "axes": (
        (1, 2, 5, 11),
        "mask is (1, 2, 5, 11), which has more axes than the scores: (2, 5, 11)",
    ),
}


@pytest.mark.parametrize(("shape", "message"), MASK_MISFITS.values(), ids=list(MASK_MISFITS))
def test_a_mask_that_does_not_fit_names_the_axis_and_both_values(shape, message):
    with pytest.raises(ShapeError) as caught:
        attention(*tensors(SHAPES["(N, T, H)"]), mask=np.ones(shape, bool))
    assert str(caught.value) == message


@pytest.mark.parametrize("dtype", [complex, object, "U3", "M8[s]"])
@pytest.mark.parametrize("place", range(3))
def test_values_that_are_not_real_are_refused(dtype, place):
    arrays = [np.ones((2, 3)) for _ in range(3)]
    arrays[place] = np.zeros((2, 3), dtype)
    with pytest.raises(DtypeError, match="expected real numbers"):
        attention(*arrays)


@pytest.mark.parametrize("mask", [np.full((5, 11), 2), np.ones((5, 11), complex), [None] * 11])
def test_a_mask_of_another_kind_is_refused(mask):
    with pytest.raises(DtypeError, match=r"^mask is .* expected bool .* or floating$"):
        attention(*tensors(SHAPES["(N, T, H)"]), mask=mask)


@pytest.mark.parametrize(
    "option",
    [
        {"causal": True},
        {"causal": "left"},
        {"scale": np.nan},
        {"scale": np.inf},
        {"softcap": 0},
        {"softcap": -1.0},
        {"softcap": np.inf},
        {"softcap": np.nan},
        {"window": -2},
        {"window": 1.5},
        {"threads": 0},
        {"threads": -2},
        {"threads": 1.5},
    ],
    ids=str,
)
def test_options_out_of_range_say_what_they_are_and_what_was_expected(option):
    name, value = next(iter(option.items()))
    with pytest.raises(ParameterError, match=rf"^{name} is .*{value}.*, expected "):
        attention(*tensors(SHAPES["(N, T, H)"]), **option)


@pytest.mark.parametrize("engine", ["", "fast"])
def test_an_unknown_engine_is_refused(engine):
    with pytest.raises(ParameterError, match="expected one of"):
        compute(*tensors(SHAPES["(N, T, H)"]), engine=engine)


def test_tiles_are_of_the_tiled_engine_alone():
    with pytest.raises(ParameterError, match=r"^tile is \(2, 3\), but the direct engine computes"):
        compute(*tensors(SHAPES["(N, T, H)"]), engine="direct", tile=(2, 3))


@pytest.mark.parametrize("tile", [(0, 5), (5, -1)])
def test_an_empty_tile_is_refused(tile):
    with pytest.raises(ParameterError, match=r"^tile is "):
        compute(*tensors(SHAPES["(N, T, H)"]), engine="tiled", tile=tile)


def test_weights_that_do_not_fit_memory_are_refused_before_they_are_allocated():
    x = np.broadcast_to(np.float32(0), (1 << 22, 8)).copy()
    for what, call in (
        ("the weights", lambda: attention(x, x, x, weights=True)),
        ("the weights", lambda: attention_weights(x, x)),
        ("the weights of whole pairs", lambda: attention(x, x, x, engine="direct")),
    ):
        with pytest.raises(MemoryLimitError, match=rf"^{what} would take 70\.4 TB") as caught:
            call()
        assert "tiled" in caught.value.hint
