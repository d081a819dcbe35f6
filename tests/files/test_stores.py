"""Zarr stores: folders that may hold anything, and say anything of it."""

import copy
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attncli.errors import AttnError, AttnWarning, DtypeError, FileError, MemoryLimitError
from attncli.files import chunks, regions
from attncli.files.atomic import check_output
from attncli.files.contents import open_tensors
from attncli.files.reading import Reading
from attncli.files.writing import check_target, save

WEIGHTS = np.random.default_rng(0).dirichlet(np.ones(5), size=(2, 3, 7)).astype("<f4")
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
GZIP = {"name": "gzip", "configuration": {"level": 1}}


def named(name, **how):
    return {"name": name, "configuration": how}


def grid(*sizes):
    return {"chunk_grid": named("regular", chunk_shape=list(sizes))}


def sharded(**how):
    inner = {"chunk_shape": [1, 3, 7, 5], "codecs": [BYTES], "index_codecs": [BYTES]}
    return {"codecs": [named("sharding_indexed", **inner | how)], **grid(2, 3, 7, 5)}


VERSION_3 = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [2, 3, 7, 5],
    "data_type": "float32",
    **grid(1, 3, 7, 5),
    "chunk_key_encoding": named("default", separator="/"),
    "fill_value": 0.0,
    "codecs": [BYTES],
    "attributes": {},
}
VERSION_2 = {
    "zarr_format": 2,
    "shape": [2, 3, 7, 5],
    "chunks": [1, 3, 7, 5],
    "dtype": "<f4",
    "compressor": None,
    "filters": None,
    "fill_value": 0.0,
    "order": "C",
}
CHUNKS = [one.tobytes() for one in WEIGHTS]


def put(metadata, chunks=CHUNKS, *, path="w.zarr", name="weights"):
    """Write a store of one array in a group, as plainly as can be; text is written as it is."""
    old = isinstance(metadata, dict) and metadata.get("zarr_format") == 2
    folder = os.path.join(path, name)
    os.makedirs(folder)
    for place, text in {
        os.path.join(path, ".zgroup" if old else "zarr.json"): {
            "zarr_format": 2 if old else 3, **({} if old else {"node_type": "group"})
        },
        os.path.join(folder, ".zarray" if old else "zarr.json"): metadata,
    }.items():  # fmt: skip
        with open(place, "wb") as file:
            file.write(text if isinstance(text, bytes) else json.dumps(text).encode())
    for number, data in enumerate(chunks):
        key = f"{number}.0.0.0" if old else f"c/{number}/0/0/0"
        os.makedirs(os.path.dirname(os.path.join(folder, key)), exist_ok=True)
        with open(os.path.join(folder, key), "wb") as file:
            file.write(data)
    return path


def said_of(path, *, max_memory=50_000_000):
    """What is said of the weights in a store that is refused, in one line."""
    with pytest.raises(AttnError) as error:
        open_tensors(path, Reading(max_memory=max_memory)).numbers("weights")
    assert type(error.value) in (FileError, DtypeError, MemoryLimitError)
    assert "\n" not in str(error.value)
    return str(error.value)


# What is read


@pytest.mark.parametrize("metadata", [VERSION_2, VERSION_3], ids=["2", "3"])
def test_either_version_is_read(folder, metadata):
    np.testing.assert_array_equal(open_tensors(put(metadata)).numbers("weights"), WEIGHTS)


@pytest.mark.parametrize("given", [{}, {"elementsize": 4}, {"elementsize": 2}])
def test_shuffled_bytes_are_put_back_by_fours_unless_another_size_is_given(folder, given):
    size = given.get("elementsize", 4)
    shuffled = [one.reshape(-1).view(np.uint8).reshape(-1, size).T.tobytes() for one in WEIGHTS]
    put(VERSION_2 | {"filters": [{"id": "shuffle"} | given]}, shuffled)
    np.testing.assert_array_equal(open_tensors("w.zarr").numbers("weights"), WEIGHTS)


def test_a_chunk_is_on_the_disk_before_it_has_its_name(folder, monkeypatch):
    steps, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda of: [steps.append(os.fstat(of).st_size), sync(of)])
    monkeypatch.setattr(os, "replace", lambda *of: [steps.append(of[1]), replace(*of)])
    chunks.put(".", "c/0", b"x" * 1_009)
    assert steps == [1_009, os.path.join(".", "c", "0")]


def test_a_chunk_that_cannot_be_given_its_name_leaves_nothing(folder):
    os.makedirs("c/0")
    with pytest.raises(OSError, match="c/0"):
        chunks.put(".", "c/0", b"x")
    assert os.listdir("c") == ["0"]


def test_names_are_the_paths_in_the_group(folder):
    put(VERSION_3, name="decoder")
    put(VERSION_3, path="w.zarr/model", name="layer_1")
    put(VERSION_2, path="w.zarr/model/old", name="layer_0")
    assert list(open_tensors("w.zarr")) == ["decoder", "model/layer_1", "model/old/layer_0"]


def test_a_single_array_has_no_name(folder):
    put(VERSION_3)
    file = open_tensors("w.zarr/weights")
    np.testing.assert_array_equal(file.numbers(""), WEIGHTS)


def test_of_a_large_array_only_the_chunks_that_are_asked_for_are_read(folder):
    """The others are damaged, and nobody is told."""
    put(VERSION_3 | grid(1, 1, 7, 5), path="w.zarr")
    for item, head in np.ndindex(2, 3):
        file = f"w.zarr/weights/c/{item}/{head}/0/0"
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "wb") as stream:
            stream.write(WEIGHTS[item, head].tobytes() if (item, head) == (1, 2) else b"?")
    file = open_tensors("w.zarr")
    for rows in (slice(None), slice(2, 6, 3), np.array([5, 2, 5])):
        part = file.numbers("weights", (1, 2, rows))
        np.testing.assert_array_equal(part, WEIGHTS[1, 2][rows])
    with pytest.raises(FileError, match="chunk c/0/2/0/0: damaged: 1 bytes, expected 140"):
        file.numbers("weights", (0, 2))


def test_a_missing_chunk_is_the_fill_value_and_said_where_there_is_none(folder):
    put(VERSION_3 | {"fill_value": 0.5}, CHUNKS[:1])
    np.testing.assert_array_equal(
        open_tensors("w.zarr").numbers("weights"), [WEIGHTS[0], np.full((3, 7, 5), 0.5)]
    )
    put(VERSION_3, [], path="none.zarr")
    file = open_tensors("none.zarr")
    with pytest.warns(AttnWarning, match="weights: holds no chunk: all of it is the fill"):
        file.numbers("weights", (0, 1))
    file.numbers("weights", (1, 1))  # once is enough


@pytest.mark.parametrize(
    ("value", "filled"),
    [(None, 0), ("NaN", np.nan), ("-Infinity", -np.inf), ("0x3f800000", 1), (7, 7)],
)
def test_fill_values_in_every_spelling(folder, value, filled):
    put(VERSION_3 | {"fill_value": value}, CHUNKS[:1])
    file = open_tensors("w.zarr", Reading(allow_nonfinite=True))
    np.testing.assert_array_equal(file.numbers("weights", (1, 2, 3)), [np.float32(filled)] * 5)


def test_bfloat16_is_widened(folder):
    halves = np.array([[0x3F80, 0xC020]], "<u2")
    put(VERSION_3 | {"shape": [1, 2], "data_type": "bfloat16", "fill_value": 1} | grid(1, 2), [])
    os.makedirs("w.zarr/weights/c/0")
    halves.tofile("w.zarr/weights/c/0/0")
    file = open_tensors("w.zarr")
    loaded = file.numbers("weights")
    np.testing.assert_array_equal(loaded, np.float32([[1, -2.5]]))
    assert file.stored_dtype("weights", loaded) == "bfloat16"
    np.testing.assert_array_equal(regions.read(regions.describe(file, "weights")), loaded)
    shutil.rmtree("w.zarr/weights/c")
    with pytest.warns(AttnWarning, match="fill value"):
        np.testing.assert_array_equal(open_tensors("w.zarr").numbers("weights"), [[1, 1]])


def test_what_is_said_of_all_arrays_in_one_place_is_not_believed(folder):
    put(VERSION_3)
    lies = {"weights": VERSION_3 | {"shape": [9, 9]}, "ghost": VERSION_3}
    group = {"zarr_format": 3, "node_type": "group", "consolidated_metadata": {"metadata": lies}}
    (folder / "w.zarr/zarr.json").write_text(json.dumps(group))
    file = open_tensors("w.zarr")
    assert {name: file.shape(name) for name in file} == {"weights": (2, 3, 7, 5)}


# What is refused

PICKLED = "holds Python objects (the codec pickle)"
BAD = {
    "12 digits of elements": ({"shape": [10**6, 10**6, 1, 1]}, "would take 4.0 TB"),
    "more than 64 bits": ({"shape": [10**9] * 4}, "damaged metadata: declares float32"),
    "negative": ({"shape": [-2, 3, 7, 5]}, "are no sizes"),
    "a float": ({"shape": [2.0, 3, 7, 5]}, "are no sizes"),
    "many axes": ({"shape": [1] * 65} | grid(*[1] * 65), "65 axes"),
    "no shape": ({"shape": None}, "None is no list"),
    "chunks of zero": (grid(0, 3, 7, 5), "its chunks are (0, 3, 7, 5)"),
    "chunks of other axes": (grid(3, 7, 5), "its chunks are (3, 7, 5)"),
    "chunks larger than memory": (grid(10**12, 3, 7, 5), "would take 840.0 TB"),
    "chunks of one": (
        {"shape": [1, 1, 7000, 7000], "data_type": "bool", "fill_value": False} | grid(1, 1, 1, 1),
        "49000000 chunks",
    ),
    "another grid": ({"chunk_grid": named("rectilinear")}, "in a rectilinear grid"),
    "another naming": ({"chunk_key_encoding": named("x")}, "names its chunks by x"),
    "a path as separator": (
        {"chunk_key_encoding": named("default", separator="/../")}, "the separator '/../'"
    ),
    "a pickle": ({"codecs": [named("numcodecs.pickle")]}, PICKLED),
    "a pickle in shards": (sharded(codecs=[named("numcodecs.pickle")]), PICKLED),
    "vlen text": ({"data_type": "string", "codecs": [named("vlen-utf8")]}, "by vlen-utf8"),
    "an unknown codec": ({"codecs": [BYTES, named("evil")]}, "is encoded by evil, expected one"),
    "no codec": ({"codecs": []}, "no codec where bytes or sharding_indexed is expected"),
    "codecs that are none": ({"codecs": [7]}, "7 has no name"),
    "packed twice": ({"codecs": [BYTES, GZIP, GZIP]}, "is packed twice, by gzip and gzip"),
    "axes turned into each other": (
        {"codecs": [named("transpose", order=[0, 0, 1, 2]), BYTES]}, "has the order [0, 0, 1, 2]"
    ),
    "shards of no chunks": (sharded(chunk_shape=[0, 3, 7, 5]), "are cut into chunks of (0, 3"),
    "shards that do not divide": (sharded(chunk_shape=[1, 2, 7, 5]), "cut into chunks of (1, 2"),
    "a shard of more chunks than bytes": (sharded(chunk_shape=[1, 1, 1, 1]), "is no shard of"),
    "an index that is packed": (sharded(index_codecs=[BYTES, GZIP]), "around its shards"),
    "records": ({"data_type": named("struct")}, "of type struct, expected numbers"),
    "dates": ({"data_type": named("numpy.datetime64", unit="s")}, "of type numpy.datetime64"),
    "a type without a name": ({"data_type": 7}, "7 has no name"),
    "a fill value of another kind": ({"fill_value": {}}, "the fill value '{}' of float32"),
    "a fill value of many digits": ({"fill_value": 10**400}, "too large"),
    "transformers": ({"storage_transformers": [{}]}, "has storage transformers"),
    "another version": ({"zarr_format": 4}, "zarr's version 4"),
    "another kind of node": ({"node_type": "dragon"}, "dragon of zarr's version 3"),
}  # fmt: skip
BAD_2 = {
    "a pickle": ({"dtype": "|O", "filters": [{"id": "pickle"}]}, PICKLED),
    "a pickle as compressor": ({"compressor": {"id": "pickle"}}, PICKLED),
    "json": ({"dtype": "|O", "filters": [{"id": "json2"}]}, "is encoded by json2"),
    "objects": ({"dtype": "|O"}, "holds Python objects"),
    "records": ({"dtype": [["a", "<f4"]]}, "holds records"),
    "records in short": ({"dtype": "f4,f4"}, "dtype 'f4,f4'"),
    "four in one": ({"dtype": "4f4"}, "dtype '4f4'"),
    "no dtype": ({"dtype": "<f3"}, "'<f3' not understood"),
    "elements of many bytes": ({"dtype": "|V99999999999"}, "not understood"),
    "a filter that is none": ({"filters": [3]}, "has no name"),
    "a compressor that is none": ({"compressor": "gzip"}, "has no name"),
    "another order": ({"order": "K"}, "order 'K'"),
    "another separator": ({"dimension_separator": ".."}, "the separator '..'"),
    "elements of no size": ({"filters": [{"id": "shuffle", "elementsize": -1}]}, "of -1 bytes"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_an_array_says_of_itself_is_not_believed(folder, kind):
    change, said = BAD[kind]
    assert said in said_of(put(VERSION_3 | change))


@pytest.mark.parametrize("kind", BAD_2)
def test_what_an_array_of_version_2_says_of_itself_is_not_believed(folder, kind):
    change, said = BAD_2[kind]
    assert said in said_of(put(VERSION_2 | change))


@pytest.mark.parametrize(
    ("dtype", "said"), [("<c8", "(complex)"), ("<U2", "(text)"), ("<M8[s]", "(dates)")]
)
def test_numbers_that_are_not_real_are_refused(folder, dtype, said):
    array = np.zeros((2, 3, 7, 5), dtype)
    put(VERSION_2 | {"dtype": dtype, "fill_value": None}, [one.tobytes() for one in array])
    assert said in said_of("w.zarr")


TEXTS = {
    "empty": (b"", "no JSON"),
    "half": (b'{"zarr_format": 3,', "no JSON"),
    "no text": (b"\xff\xfe", "is no text in UTF-8"),
    "a list": (b"[]", "is no JSON object"),
    "deep": (b"[" * 10_000 + b"]" * 10_000, "lists in lists"),
    "a key twice": (b'{"shape": [1], "shape": [2]}', "the key 'shape' twice"),
    "many digits": (b'{"shape": [' + b"9" * 5000 + b"]}", "more than 4300 digits"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_metadata_that_are_none_are_refused(folder, kind):
    text, said = TEXTS[kind]
    assert said in said_of(put(text))


def test_metadata_in_great_numbers_are_not_read(folder):
    put(VERSION_3)
    with open("w.zarr/weights/zarr.json", "r+b") as file:
        file.truncate(10**12)
    assert "bytes of metadata" in said_of("w.zarr")


def blosc(size):
    numbers = (size, 0, 30)
    return b"\2\1\x21\1" + b"".join(n.to_bytes(4, "little") for n in numbers) + b"?" * 14


ENDLESS = b"\x28\xb5\x2f\xfd\0\x70" + b"\2\0\x10z" * 1000 + b"\3\0\x10z"  # zstd: runs of 128 KiB
CHUNK = {
    "short": ([], CHUNKS[0][:-1], "419 bytes, expected 420"),
    "long": ([], CHUNKS[0] + b"?", "421 bytes, expected 420"),
    "empty": ([], b"", "0 bytes, expected 420"),
    "no gzip": ([GZIP], b"?" * 40, "gzip: Error"),
    "half a gzip": ([GZIP], gzip.compress(CHUNKS[0])[:-9], "does not end with 420 bytes"),
    "a bomb": ([GZIP], gzip.compress(bytes(10**7)), "does not end with 420 bytes"),
    "bombs in a row": ([GZIP], gzip.compress(bytes(400)) * 100, "does not end with 420 bytes"),
    "a large bomb": ([GZIP], bytes(10**6), "1000000 bytes, expected at most 66008"),
    "a bomb of zstd": ([named("zstd")], ENDLESS, "zstd: "),
    "a bomb of blosc": ([named("blosc")], blosc(2**31 - 20), "declares other than 420 bytes"),
    "no blosc": ([named("blosc")], blosc(420), "blosc: "),
    "half a blosc": ([named("blosc")], blosc(420)[:-1], "blosc declares other than 29 bytes"),
    "a bomb of lz4": ([named("numcodecs.lz4")], b"\xff\xff\xff\x7f???", "declares other than 420"),
    "another checksum": ([named("crc32c")], CHUNKS[0] + b"????", "its checksum is another"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHUNK)
def test_a_damaged_chunk_is_refused_and_takes_no_more_than_it_should(folder, kind):
    codecs, data, said = CHUNK[kind]
    if any(one["name"] not in ("gzip",) for one in codecs):
        pytest.importorskip("numcodecs", reason="the cluster extra is not installed")
        open_tensors(put(VERSION_3 | {"codecs": [BYTES, *codecs]}, path="first.zarr"))
        with pytest.raises(FileError):  # once before, so that its libraries are there
            open_tensors("first.zarr").numbers("weights")
    put(VERSION_3 | {"codecs": [BYTES, *codecs]}, [data])
    tracemalloc.start()
    assert said in said_of("w.zarr")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000


def index(*numbers):
    return np.array(numbers, "<u8").tobytes()


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ((0, 420, 420, 10**9), "lies behind the shard's end"),
        ((0, 420, 2**63, 2**63), "lies behind the shard's end"),
        ((0, 420, 0, 419), "419 bytes, expected 420"),
        ((0,), "truncated: is no shard of (2, 1, 1, 1) chunks"),
    ],
)
def test_a_shard_that_lies_about_its_chunks_is_refused(folder, places, said):
    data = b"".join(CHUNKS) if len(places) > 1 else b""
    assert said in said_of(put(VERSION_3 | sharded(), [data + index(*places)]))


def test_chunks_of_a_shard_are_found_by_its_index(folder):
    put(VERSION_3 | sharded(), [CHUNKS[1] + index(2**64 - 1, 2**64 - 1, 0, 420)])
    file = open_tensors("w.zarr")
    np.testing.assert_array_equal(file.numbers("weights"), [WEIGHTS[0] * 0, WEIGHTS[1]])


def link_chunk():
    os.unlink("w.zarr/weights/c/1/0/0/0")
    os.symlink(os.path.abspath("other.zarr/weights/c/1/0/0/0"), "w.zarr/weights/c/1/0/0/0")


def link_folder():
    shutil.rmtree("w.zarr/weights/c/1")
    os.symlink(os.path.abspath("other.zarr/weights/c/1"), "w.zarr/weights/c/1")


def link_array():
    shutil.rmtree("w.zarr/weights")
    os.symlink(os.path.abspath("other.zarr/weights"), "w.zarr/weights")


def link_round():
    os.symlink(".", "w.zarr/weights_again")


@pytest.mark.parametrize("link", [link_chunk, link_folder, link_array, link_round])
def test_links_are_not_followed(folder, link):
    put(VERSION_3)
    put(VERSION_3, path="other.zarr")
    link()
    assert "is or lies behind a link" in said_of("w.zarr")


def test_a_store_may_be_found_by_a_link(folder):
    put(VERSION_3)
    os.symlink("w.zarr", "link.zarr")
    np.testing.assert_array_equal(open_tensors("link.zarr").numbers("weights"), WEIGHTS)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
@pytest.mark.parametrize("file", ["zarr.json", "c/1/0/0/0"])
def test_what_is_no_file_is_not_waited_for(folder, make, file):
    put(VERSION_3)
    os.unlink(f"w.zarr/weights/{file}")
    make(f"w.zarr/weights/{file}")
    assert "is no file" in said_of("w.zarr")


def test_groups_in_groups_have_an_end(folder):
    path = "w.zarr"
    for _ in range(100):
        put(VERSION_3, [], path=path)
        path += "/g"
    assert "more than 64 deep" in said_of("w.zarr")


def test_what_is_no_store_is_refused(folder):
    (folder / "file.zarr").write_bytes(b"?")
    (folder / "empty.zarr").mkdir()
    put(VERSION_3)
    with zipfile.ZipFile("packed.zarr.zip", "w") as archive:
        archive.write("w.zarr/zarr.json", "zarr.json")
    said = {
        "file.zarr": "is a file, expected the folder",
        "empty.zarr": "no zarr store",
        "packed.zarr.zip": "is a zarr store in an archive",
        "https://example.org/w.zarr": "is an address, and nothing is fetched",
        "s3://bucket/w.zarr": "is an address, and nothing is fetched",
    }
    assert {path: text in said_of(path) for path, text in said.items()} == dict.fromkeys(said, True)
    with pytest.raises(FileError) as error:
        open_tensors("packed.zarr.zip")
    assert error.value.hint == "python3 -m zipfile -e packed.zarr.zip packed.zarr"


def test_what_is_not_used_is_not_in_the_way(folder):
    put(VERSION_3)
    put(VERSION_2 | {"dtype": "|O", "filters": [{"id": "pickle"}]}, name="odd", path="w.zarr/x")
    np.testing.assert_array_equal(open_tensors("w.zarr").numbers("weights"), WEIGHTS)


def test_packed_chunks_without_the_library_say_what_is_missing(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "numcodecs.zstd", None)
    put(VERSION_3 | {"codecs": [BYTES, named("zstd")]})
    with pytest.raises(FileError, match="by zstd, which needs the zarr package") as error:
        open_tensors("w.zarr").numbers("weights")
    assert error.value.hint == "pip install 'attncli[cluster]'"


# Anything


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 9), st.sampled_from([2**31, 2**63, 10**30, 0.5]),
    st.sampled_from(["", "bytes", "NaN", "C", "/", "<f4", "int8", "crc32c", "gzip", "transpose"]),
    st.just([]), st.just({}), st.lists(st.integers(0, 8), max_size=5),
)  # fmt: skip


def places(tree, path=()):
    """Every place in a tree."""
    yield path
    keys = tree if isinstance(tree, dict) else range(len(tree) if isinstance(tree, list) else 0)
    for key in keys:
        yield from places(tree[key], (*path, key))


@pytest.mark.parametrize(
    "metadata",
    [VERSION_3, VERSION_2, VERSION_3 | sharded()],
    ids=["3", "2", "shards"],
)
@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore::attncli.errors.AttnWarning")
def test_whatever_stands_in_metadata_gives_numbers_or_an_error_of_ours(folder, metadata, data):
    shutil.rmtree("w.zarr", ignore_errors=True)
    tree = copy.deepcopy(metadata)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from([one for one in places(tree) if one]))
        inside = tree
        for step in path[:-1]:
            inside = inside[step]
        inside[path[-1]] = data.draw(ODD)
    put(tree)
    try:
        file = open_tensors("w.zarr", Reading(max_memory=100_000, allow_nonfinite=True))
        for name in file:
            assert file.numbers(name).nbytes <= 100_000
            regions.read(regions.describe(file, name))
    except AttnError:
        pass  # printed as one short line, whatever it says


# Writing


@pytest.mark.parametrize("made", ["a file", "a folder of another's"])
def test_nothing_but_a_store_is_replaced_by_one(folder, made):
    if made == "a file":
        (folder / "o.zarr").write_text("mine")
    else:
        (folder / "o.zarr").mkdir()
        (folder / "o.zarr/mine").write_text("mine")
    for check in (check_target, lambda path, force: save(path, {"x": WEIGHTS}, force=force)):
        with pytest.raises(FileError, match="is no zarr store, and only such are replaced"):
            check("o.zarr", force=True)
    assert len(os.listdir()) == 1


def test_an_input_is_never_replaced(folder):
    put(VERSION_3)
    put(VERSION_3, path="w.zarr/inner.zarr")
    os.symlink("w.zarr", "link.zarr")
    for name, output in (
        ("w.zarr", "w.zarr"), ("w.zarr", "w.zarr/"), ("w.zarr", "link.zarr"),
        ("w.zarr/weights", "w.zarr"), ("w.zarr", "w.zarr/inner.zarr"), ("w.zarr", "w.zarr/n.zarr"),
    ):  # fmt: skip
        with pytest.raises(FileError, match="is an input of this command"):
            check_target(output, force=True, inputs=(name,))
    with pytest.raises(FileError, match="is an input of this command"):
        check_output("w.zarr/zarr.json", force=True, inputs=("w.zarr",))
    check_target("other.zarr", inputs=("w.zarr", "-", "\0"))


def test_folders_change_places_where_the_system_cannot_do_it_at_once(folder, monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", None)
    for value in (1.0, 2.0):
        save("run.zarr", {"a": np.full(3, value)}, force=True)
        assert open_tensors("run.zarr").numbers("a").tolist() == [value] * 3
    assert os.listdir() == ["run.zarr"]


def test_a_store_that_is_replaced_keeps_its_mode(folder):
    save("run.zarr", {"a": np.zeros(3)})
    os.chmod("run.zarr", 0o701)
    save("run.zarr", {"a": np.ones(3)}, force=True)
    assert os.stat("run.zarr").st_mode & 0o777 == 0o701


def test_a_file_that_may_not_be_so_large_leaves_nothing(folder):
    save("run.zarr", {"a": np.zeros(3)})
    limited = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from attncli.cli.main import run
import attncli.cli.posing
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
sys.exit(run(["forward", "--T", "30", "--H", "30", "-o", "run.zarr", "--force", "-q"]))
"""
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: run.zarr: file too large\n")
    assert open_tensors("run.zarr").numbers("a").tolist() == [0] * 3
    assert os.listdir() == ["run.zarr"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_write_that_is_interrupted_leaves_nothing(folder, number):
    code = f"""
import os
from attncli.cli.main import main
import attncli.files.chunks as chunks
once = chunks.put
def put(*given):
    once(*given)
    if given[1].startswith("c/"):
        os.kill(os.getpid(), {int(number)})
chunks.put = put
import sys
sys.argv = ["attn", "forward", "-o", "run.zarr", "-q"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 128 + number
    assert os.listdir() == []
