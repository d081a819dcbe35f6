"""A fuzz target for what finds weights: any names and shapes give weights or an error of ours.

``python tests/fuzz/fuzz_weights.py -max_total_time=60`` (needs atheris).
"""

import importlib
import json
import pkgutil
import sys
import warnings
from typing import Any

import atheris

with atheris.instrument_imports(include=["attncli"]):
    import numpy as np

    import attncli.weights
    from attncli.errors import AttnError
    from attncli.files.contents import hold_tensors
    from attncli.files.reading import Reading
    from attncli.weights.finding import find_weights

    for found in pkgutil.iter_modules(attncli.weights.__path__, "attncli.weights."):
        importlib.import_module(found.name)

# What names are made of: words that mean something there, and what stands between them.
WORDS = """
weights a hs_enc hs_dec hs h query key value qkv q k v mask enc_mask dec_mask tokens tokens_enc
tokens_dec input_ids sinks alibi segments kv_lengths cu_seqlens keep out layer layers block head
heads step steps item batch time decoder encoder cross self attention attn attentions probs alphas
scores matrices options hidden_states W Wq 0 1 2 3 7 10 01 999999999999999999999 ² é . _ - / [
""".split()  # noqa: SIM905
SIZES = [0, 1, 1, 2, 3, 4, 5, 7]
KINDS = ["f4", "f8", "f2", "i8", "?", "V2", "U2", "c8"]
AXES = ["steps", "layers", "N", "heads", "T_dec"]
NAMES = ["layer", "causal", "window", "scale", "heads", "keep_prob", "mistyped", "inputs"]
VALUES = [None, 1, 0, -1, 2.5, "x", "upper_left", [1, 2], [], {}, True, 1e400, "time-attention"]


def arrays_of(data: Any) -> dict[str, np.ndarray]:
    """Draw what a file may hold."""
    arrays = {}
    for _ in range(data.ConsumeIntInRange(1, 9)):
        name = "".join(data.PickValueInList(WORDS) for _ in range(data.ConsumeIntInRange(0, 5)))
        shape = [data.PickValueInList(SIZES) for _ in range(data.ConsumeIntInRange(0, 6))]
        array = np.zeros(shape, data.PickValueInList(KINDS))
        some = data.ConsumeBytes(min(array.nbytes, 64))
        if array.dtype.kind not in "?U":
            array.reshape(-1).view("u1")[: len(some)] = list(some)
        arrays[name] = array
    if data.ConsumeBool():
        told = {data.PickValueInList(NAMES): data.PickValueInList(VALUES) for _ in range(3)}
        arrays["options"] = np.array(json.dumps(told))
    return arrays


def find(raw: bytes) -> None:
    """Find the weights in what the bytes stand for, and look at the first of each layer."""
    data = atheris.FuzzedDataProvider(raw)
    arrays = arrays_of(data)
    axes = None
    if data.ConsumeBool():
        axes = (*dict.fromkeys(data.PickValueInList(AXES) for _ in range(3)), "T_enc")
    part = data.PickValueInList([None, None, "encoder", "decoder", "cross"])
    try:
        source = find_weights(hold_tensors(arrays, "file", Reading(10_000_000)), axes, None, part)
        assert source.parts
        assert source.reading
        for one in source.parts.values():
            for layer in one.layers.values():
                look_at(layer)
    except AttnError:
        pass  # the command line prints it as one short line, whatever it says


def look_at(layer: Any) -> None:
    """Load a matrix of a layer, and a part of it."""
    head = layer.heads[0] if layer.heads else 0
    for item in [item for item in layer.items if layer.holds([item], head)][:1]:
        rows, columns = layer.size(item)
        whole = layer.load(item, head, (slice(0, rows), slice(0, columns)))
        assert whole.shape == (rows, columns), (whole.shape, layer.shape)
        part = layer.load(item, head, (slice(0, 1), slice(1, columns)))
        np.testing.assert_array_equal(part, whole[:1, 1:])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    atheris.Setup(sys.argv, find)
    atheris.Fuzz()
