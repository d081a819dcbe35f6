"""A fuzz target for the readers: any bytes give arrays or an error of ours, and nothing else.

``python tests/fuzz/fuzz_readers.py -max_total_time=60 [CORPUS]`` (needs atheris).
"""

import importlib
import io
import json
import pkgutil
import struct
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["attncli", "zipfile", "json"]):
    import numpy as np

    import attncli.files
    from attncli.errors import AttnError
    from attncli.files.contents import open_tensors
    from attncli.files.reading import Reading

    # The module of a format is imported when it is needed: too late to be instrumented.
    for found in pkgutil.iter_modules(attncli.files.__path__, "attncli.files."):
        importlib.import_module(found.name)

FOLDER = Path(tempfile.mkdtemp())
LIMIT = 1_000_000  # bytes: what a file may make the readers allocate


def read_all(data: bytes) -> None:
    """Read everything that the bytes hold."""
    path = FOLDER / "any"
    if data.startswith(b'{"zarr_format": '):  # a folder, of which these are the metadata
        version_2 = data[16:17] == b"2"
        path = FOLDER / ("any2.zarr" if version_2 else "any3.zarr")
        (path / "c" / "0").mkdir(parents=True, exist_ok=True)
        for chunk in ("c/0/0", "0.0"):
            (path / chunk).write_bytes(bytes(range(24)))
        (path / (".zarray" if version_2 else "zarr.json")).write_bytes(data)
    else:
        path.write_bytes(data)
    try:
        file = open_tensors(str(path), Reading(max_memory=LIMIT, as_dtype="bfloat16"))
        for name in file:
            array = file.tokens(name) if name.startswith("tokens") else file.numbers(name)
            assert array.nbytes <= 2 * LIMIT + len(data)
        _ = file.options
    except AttnError:
        pass  # the command line prints it as one short line, whatever it says


def seeds() -> None:
    """Write a corpus of valid files of every format."""
    arrays = {"hs_enc": np.ones((1, 2, 3)), "tokens": np.array(["a", "b"])}
    npy, npz, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, arrays["hs_enc"])
    np.savez(npz, **arrays)
    np.savez_compressed(packed, **arrays)
    from safetensors.numpy import save

    corpus = FOLDER / "corpus"
    corpus.mkdir()
    tensors = save({"hs_enc": arrays["hs_enc"]}, {"tokens": '["a"]', "options": "{}"})
    files = (npy.getvalue(), npz.getvalue(), packed.getvalue(), tensors)
    matrix = {
        "names": {"layer": 3, "head": 1}, "by": [1, 1], "shape": [1, 1], "dtype": "<f4",
        "unit": 1.0, "weights": "AAAAAA==", "tokens_dec": 0, "rows": 0, "columns": 0,
    }  # fmt: skip
    carried = json.dumps({"matrices": [matrix], "labels": [["a"]]})
    files += tuple(
        text.encode()
        for text in (
            '{"tokens": ["a", "b"], "attentions": {"head_0": [[1, 0], [0.5, NaN]]}}',
            '{"attention": [{"name": "Cross", "attn": [[[1]]], "left_text": ["a"]}, {}], "n": 1e9}',
            '{"attn": "0", "matrices": [{"layer": 3, "item": 1, "weights": [[1]], "rows": [4]}]}',
            ",the,cat\nthe,0.5,0.5\n\n# b\n,the,cat\n'a,1,0\n",
            "layer,dec,dec_label,enc,enc_label,weight\n0,0,'=a,0,b,1e-3\n",
            f'<svg xmlns="x"/>\n<!-- attn-data {carried} -->',
            f'<!DOCTYPE html><script type="application/json" id="data">{carried}</script>',
        )
    )
    plain = {"name": "bytes", "configuration": {"endian": "little"}}
    shard = {"chunk_shape": [1, 2], "codecs": [plain], "index_codecs": [plain]}
    grid = {"name": "regular", "configuration": {"chunk_shape": [2, 3]}}
    version_3 = {
        "zarr_format": 3, "node_type": "array", "shape": [2, 3], "data_type": "float32",
        "chunk_grid": grid, "chunk_key_encoding": {"name": "default"}, "fill_value": "NaN",
    }  # fmt: skip
    version_2 = {
        "zarr_format": 2, "shape": [2, 3], "chunks": [2, 3], "dtype": "<f4", "order": "F",
        "compressor": {"id": "zlib"}, "filters": [{"id": "shuffle", "elementsize": 4}],
    }  # fmt: skip
    turned = {"name": "transpose", "configuration": {"order": [1, 0]}}
    for codecs in ([plain], [turned, plain, {"name": "gzip"}]):
        files += (json.dumps(version_3 | {"codecs": codecs}).encode(),)
    shards = [{"name": "sharding_indexed", "configuration": shard}]
    files += (json.dumps(version_3 | {"codecs": shards}).encode(), json.dumps(version_2).encode())
    packed_in = struct.pack(">I", len(carried) + 10) + b"tEXtattn-data\0" + carried.encode()
    files += (b"\x89PNG\r\n\x1a\n" + packed_in + bytes(4), b"\xff\xfe" + "1\t0".encode("utf-16-le"))
    for number, data in enumerate(files):
        (corpus / str(number)).write_bytes(data)
    with zipfile.ZipFile(corpus / "text", "w") as archive:
        archive.writestr("options.npy", npy.getvalue()[:60])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    seeds()
    arguments = [*sys.argv, str(FOLDER / "corpus")]
    atheris.Setup(arguments, read_all)
    atheris.Fuzz()
