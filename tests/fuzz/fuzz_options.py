"""A fuzz target for the options that run files bring along, in every format that has any.

``python tests/fuzz/fuzz_options.py -max_total_time=60 [CORPUS]`` (needs atheris).
"""

import importlib
import json
import pkgutil
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["attncli"]):
    import numpy as np
    from safetensors.numpy import save

    import attncli.files
    import attncli.problems
    from attncli.errors import AttnError
    from attncli.files.contents import open_tensors
    from attncli.problems.from_files import layout_of, problem_in, semantics_in

    # What is imported where it is needed: too late to be instrumented.
    for package in (attncli.files, attncli.problems):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(found.name)

FOLDER = Path(tempfile.mkdtemp())
SEEDS = (
    {"attn": "0.1.0", "command": "forward", "layer": "time-attention", "seed": 0, "source": "x"},
    {"layer": "scaled-dot-product", "scale": 0.5, "causal": "upper_left", "window": [2, -1]},
    {"heads": 2, "kv_heads": 1, "layout": "N,T,heads,H", "rotary": "halves", "rotary_base": 1e4},
    {"align": "lower_right", "softcap": 1.5, "keep_prob": 0.5, "rotary_width": 2, "window": 3},
    {"engine": "dask", "block": [4, 4], "inputs": {"hs_enc": {"path": "any.npz", "name": "x"}}},
    {"item": 0, "head": 1, "step": None, "scale": 10**400},
)
STATES = {
    "hs_enc": np.ones((1, 3, 4)), "hs_dec": np.ones((1, 2, 4)), "query": np.ones((1, 2, 2, 4)),
    "key": np.ones((1, 2, 3, 4)), "value": np.ones((1, 2, 3, 4)),
}  # fmt: skip


def write(text: str, which: int) -> Path:
    """Write a file whose options are a text."""
    if which == 0:
        path = FOLDER / "any.npz"
        np.savez(path, **STATES, options=np.array(text))
    elif which == 1:
        path = FOLDER / "any.safetensors"
        path.write_bytes(save(STATES, {"options": text}))
    else:
        path = FOLDER / "any.zarr"
        path.mkdir(exist_ok=True)
        group = {"zarr_format": 3, "node_type": "group", "attributes": {"options": text}}
        (path / "zarr.json").write_text(json.dumps(group))
    return path


def read_all(data: bytes) -> None:
    """Read the options that the bytes are, and what is made of them."""
    text = data[1:].decode(errors="replace").replace("\0", "")
    path = write(text, data[0] % 3 if data else 0)
    try:
        file = open_tensors(str(path))
        for name, value in file.options.items():
            assert isinstance(name, str)
            assert value is not None
        semantics_in(file)
        layout_of(file)
        if data[0] % 3 < 2:
            problem_in(file)
    except AttnError:
        pass  # the command line prints it as one short line, whatever it says


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    for number, options in enumerate(SEEDS * 3):
        (corpus / str(number)).write_bytes(bytes([number % 3]) + json.dumps(options).encode())
    atheris.Setup([*sys.argv, str(corpus)], read_all)
    atheris.Fuzz()
