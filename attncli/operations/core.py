"""The core's engines, under the operations that are attention as a whole."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from attncli.arrays import Array
from attncli.core import attention_backward, compute
from attncli.core.semantics import Semantics
from attncli.errors import AttnWarning
from attncli.operations.execution import Execution
from attncli.operations.forward import Forward, Gradients

if TYPE_CHECKING:
    from attncli.operations.whole import WholeAttention


def run_core(
    operation: WholeAttention,
    inputs: list[Array],
    mask: Array | None,
    semantics: Semantics,
    execution: Execution,
) -> Forward:
    """Run attention in the core."""
    query, key, value = operation.to_core(inputs)
    semantics = replace(semantics, scale=operation.scale(semantics, query.shape[-1]))
    out = None
    if execution.out is not None and execution.out.dtype == np.result_type(query, key, value):
        out = operation.core_dout(execution.out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttnWarning)  # the operation counts: it knows of padding
        out, cache = compute(
            query,
            key,
            value,
            mask=None if mask is None else operation.core_mask(mask),
            semantics=semantics,
            threads=execution.threads,
            engine=execution.engine,
            tile=execution.tile,
            out=out,
        )

    def backward(dout: Array) -> tuple[Gradients, Array | None]:
        dquery, dkey, dvalue = attention_backward(operation.core_dout(dout), cache)
        dmask = None if cache.dmask is None or mask is None else cache.dmask.reshape(mask.shape)
        return operation.from_core(dquery, dkey, dvalue), dmask

    hides = mask is not None or semantics.causal is not None or semantics.window is not None
    blind: Array | None = np.isneginf(cache.logsumexp) if hides else None
    return Forward(operation.core_results(out, cache.weights), backward, cache.engine, blind)
