"""What zarr-python writes is read, and what is written here zarr-python reads."""

import numpy as np
import pytest

from attncli.files import regions
from attncli.files.contents import open_tensors
from attncli.files.writing import save

zarr = pytest.importorskip("zarr", minversion="3.1", reason="the cluster extra is not installed")
numcodecs = pytest.importorskip("numcodecs")
codecs = pytest.importorskip("zarr.codecs")

ARRAY = np.random.default_rng(0).normal(size=(5, 7, 11)) * 50
BOTH = {"shape": ARRAY.shape, "chunks": (2, 7, 3), "fill_value": 1}
PACKED_2 = {
    "plain": None,
    "blosc": numcodecs.Blosc("zstd", shuffle=2),
    "zstd": numcodecs.Zstd(1),
    "gzip": numcodecs.GZip(1),
    "zlib": numcodecs.Zlib(1),
    "lz4": numcodecs.LZ4(),
    "bz2": numcodecs.BZ2(1),
}
PACKED_3 = {
    "plain": None,
    "blosc": codecs.BloscCodec(),
    "zstd": codecs.ZstdCodec(),
    "gzip": codecs.GzipCodec(),
    "checked": codecs.Crc32cCodec(),
    "gzip, checked": [codecs.GzipCodec(), codecs.Crc32cCodec()],
}


def held(array):
    """Open what zarr-python wrote of an array, and see that it is that."""
    file = open_tensors("x.zarr")
    read = file.numbers("")
    assert read.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(read, array)
    part = (slice(1, 4), slice(6, 7), slice(2, 10))
    np.testing.assert_array_equal(regions.read(regions.describe(file, ""), part), array[part])
    np.testing.assert_array_equal(file.numbers("", (3, np.array([6, 0]))), array[3, [6, 0]])


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", ">i4", "|u1", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("packed", PACKED_2)
def test_version_2(folder, packed, order, dtype):
    array = (ARRAY > 0 if dtype == "?" else ARRAY).astype(dtype)
    filters = [numcodecs.Shuffle(array.itemsize)] if packed in ("zlib", "lz4") else None
    zarr.create_array(
        "x.zarr", zarr_format=2, dtype=dtype, order=order, filters=filters,
        compressors=PACKED_2[packed], **BOTH,
    )[...] = array  # fmt: skip
    held(array)


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<f2", "<i4", "|u1", "?"])
@pytest.mark.parametrize("turned", [None, (2, 0, 1)])
@pytest.mark.parametrize("packed", PACKED_3)
def test_version_3(folder, packed, turned, dtype):
    array = (ARRAY > 0 if dtype == "?" else ARRAY).astype(dtype)
    zarr.create_array(
        "x.zarr", dtype=dtype, compressors=PACKED_3[packed],
        filters=[codecs.TransposeCodec(order=turned)] if turned else None,
        serializer=codecs.BytesCodec(endian="big" if array.itemsize == 8 else "little"), **BOTH,
    )[...] = array  # fmt: skip
    held(array)


@pytest.mark.parametrize("place", ["start", "end"])
@pytest.mark.parametrize("packed", PACKED_3)
def test_shards(folder, packed, place):
    array = np.array(ARRAY)
    array[3:] = 0  # of whose chunks there are none
    zarr.create_array(
        "x.zarr", shape=array.shape, chunks=(1, 7, 3), dtype="f8", compressors=PACKED_3[packed],
        shards={"shape": (4, 7, 6), "index_location": place},
    )[...] = array  # fmt: skip
    held(array)


@pytest.mark.filterwarnings("ignore:Combining a `sharding_indexed` codec")
def test_shards_that_are_turned_and_hold_turned_chunks(folder):
    inner = [codecs.TransposeCodec(order=(1, 0, 2)), codecs.BytesCodec(), codecs.GzipCodec()]
    zarr.create_array(
        "x.zarr", shape=ARRAY.shape, chunks=(4, 8, 12), dtype="f8", compressors=None,
        filters=[codecs.TransposeCodec(order=(2, 0, 1))],
        serializer=codecs.ShardingCodec(chunk_shape=(2, 4, 4), codecs=inner),
    )[...] = ARRAY  # fmt: skip
    held(ARRAY)


def test_no_axes_and_no_elements(folder):
    for version in (2, 3):
        for array in (np.array(3.5), np.zeros((0, 3)), np.zeros((3, 0, 2))):
            made = zarr.create_array(
                "x.zarr", shape=array.shape, dtype="f8", zarr_format=version, overwrite=True
            )
            made[...] = array
            read = open_tensors("x.zarr").numbers("")
            assert (read.shape, read.tolist()) == (array.shape, array.tolist())


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.filterwarnings("ignore:.*does not have a Zarr V3 specification")
def test_words(folder, version):
    words = np.array([["the", "猫"], ["", "x"]])
    made = zarr.open_group("x.zarr", mode="w", zarr_format=version)
    made.create_array("tokens", data=words)
    np.testing.assert_array_equal(open_tensors("x.zarr").tokens("tokens"), words)


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "f2", "f4", ">f8", "i8"])
def test_what_is_written_here_is_read_there(folder, dtype):
    array = ARRAY.astype(dtype)
    save("x.zarr", {"a": array, "deep/b": array.T, "c": array[0, 0, 0], "d": array[:0]})
    read = zarr.open_group("x.zarr", mode="r")
    for name, expected in (("a", array), ("deep/b", array.T), ("d", array[:0])):
        np.testing.assert_array_equal(read[name][...], expected)
        assert read[name].dtype == array.dtype.newbyteorder("=")
    assert read["c"][()] == array[0, 0, 0]


def test_a_run_file_is_a_store_as_any(attn, folder):
    assert attn("forward", "--causal", "--seed", 3, "-o", "run.zarr", "-q").code == 0
    run = zarr.open_group("run.zarr", mode="r")
    assert np.triu(run["weights"][0], 1).max() == 0
    assert '"causal"' in run.attrs["options"]
