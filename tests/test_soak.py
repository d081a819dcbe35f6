"""Random calculations in great number: every engine agrees, and memory does not grow.

``ATTN_SOAK_ROUNDS`` sets how many; .ci/run takes more than a test run on the way.
"""

import os
import warnings

import numpy as np
import pytest

from attncli.core.semantics import Semantics
from attncli.errors import AttnWarning
from attncli.operations import OPERATIONS, Execution, run
from attncli.operations.layout import Layout
from attncli.problems.masks import combine_masks

ROUNDS = int(os.environ.get("ATTN_SOAK_ROUNDS", "400"))
WARM_UP = 20  # rounds after which all that is kept for later is there
GROWTH = 60_000_000  # bytes; a leak of one tensor a round would pass this soon


def resident():
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        pytest.skip("this system does not tell how much memory a process has")


def combined(operation, inputs, masks):
    return combine_masks(masks, operation.mask_axes(inputs), operation.sizes(inputs))


def draw_case(rng):
    """Draw an operation, its inputs, its options and a mask."""
    N, T_dec, T_enc, H, H_v = (int(n) for n in rng.integers(1, [4, 40, 40, 9, 9]))
    kind = rng.choice(["states", "plain", "grouped", "packed"])
    operation = OPERATIONS["time-attention" if kind == "states" else "scaled-dot-product"]
    shared = int(rng.integers(1, 3))
    heads = shared * int(rng.integers(1, 4))
    shapes = {
        "states": {"hs_enc": (N, T_enc, H), "hs_dec": (N, T_dec, H)},
        "plain": {"query": (N, T_dec, H), "key": (N, T_enc, H), "value": (N, T_enc, H_v)},
        "grouped": {
            "query": (N, heads, T_dec, H),
            "key": (N, shared, T_enc, H),
            "value": (N, shared, T_enc, H_v),
        },
        "packed": {
            "query": (N, T_dec, heads * H),
            "key": (N, T_enc, shared * H),
            "value": (N, T_enc, shared * H_v),
        },
    }[kind]
    size = 10.0 ** rng.integers(-2, 2)
    inputs = {name: size * rng.normal(size=shape) for name, shape in shapes.items()}
    if kind == "packed":  # views whose heads lie beside each other
        inputs = Layout.of(operation, {}, {"heads": heads, "kv_heads": shared}).read(inputs)
    semantics = Semantics(
        scale=rng.choice([None, 0.5, -1.3]),
        causal=rng.choice([None, "upper_left", "lower_right"]),
        window=rng.choice([None, 0, 3]),
        softcap=rng.choice([None, 2.0]),
    )
    weights = operation.weights_shape(inputs)
    mask = None
    match rng.choice(["none", "bool", "float", "enc"]):
        case "bool":
            mask = combined(operation, inputs, {"mask": rng.random(weights) > 0.3})
        case "float":
            bias = np.where(rng.random(weights[-2:]) > 0.2, rng.normal(size=weights[-2:]), -np.inf)
            mask = combined(operation, inputs, {"mask": bias})
        case "enc":
            mask = combined(operation, inputs, {"enc_mask": rng.random((N, T_enc)) > 0.3})
    return operation, inputs, semantics, mask


def test_random_calculations_agree_and_memory_does_not_grow():
    rng = np.random.default_rng(0)
    after_warm_up = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttnWarning)  # masked rows are part of it
        for number in range(WARM_UP + ROUNDS):
            if number == WARM_UP:
                after_warm_up = resident()
            operation, inputs, semantics, mask = draw_case(rng)
            tile = tuple(int(n) for n in rng.integers(1, 30, size=2))
            executions = [
                Execution("reference"),
                *(
                    Execution(engine, int(rng.integers(1, 4)), its_tile, weights)
                    for engine, its_tile in (("direct", None), ("tiled", tile))
                    for weights in (True, False)
                ),
            ]
            passes = [
                run(operation, inputs, mask, semantics=semantics, execution=execution)
                for execution in executions
            ]
            dout = rng.normal(size=passes[0].results["out"].shape)
            gradients = [one.backward(dout) for one in passes]
            expected = {**passes[0].results, **gradients[0]}
            for one, gradient in zip(passes[1:], gradients[1:], strict=True):
                for name, array in {**one.results, **gradient}.items():
                    largest = max(1.0, float(np.abs(expected[name]).max(initial=0)))
                    np.testing.assert_allclose(
                        array, expected[name], rtol=0, atol=1e-11 * largest,
                        err_msg=f"round {number}: {name} of {operation}, {semantics}, {one.engine}",
                    )  # fmt: skip
    assert resident() - after_warm_up < GROWTH
