"""Reading files that may be anything."""

import io
import json
import os
import resource
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from conftest import SAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st

from attncli.errors import (
    AttnError,
    AttnWarning,
    DataError,
    DtypeError,
    FileError,
    MemoryLimitError,
)
from attncli.files.contents import open_tensors, run_arrays
from attncli.files.reading import Reading
from attncli.files.writing import save


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npy_with_header(header: str | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    text = header.encode("latin-1") if isinstance(header, str) else header
    size = len(text) if length is None else length
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", size) + text + data


def header(descr="<f8", shape="(2,)", order="False"):
    return f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}}}"


def npz(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return stream.getvalue()


def put(folder, name, data):
    (folder / name).write_bytes(data)
    return name


# Round trips


@pytest.mark.parametrize("ending", ["npz", "safetensors", "zarr"])
def test_what_is_saved_is_loaded(folder, ending):
    arrays = {
        "hs_enc": np.random.default_rng(0).normal(size=(2, 7, 5)),
        "weights": np.float32([[0.25, 0.75]]),
        "enc_mask": np.array([[True, False]]),
        "empty": np.zeros((0, 3)),
    }
    tokens = {"tokens_enc": np.array([["a", "日本", "\x1b[31m"]])}
    save(f"run.{ending}", run_arrays({"seed": 3}, arrays, tokens))
    file = open_tensors(f"run.{ending}")
    for name, array in arrays.items():
        loaded = file.numbers(name)
        assert loaded.dtype == array.dtype
        np.testing.assert_array_equal(loaded, array)
    np.testing.assert_array_equal(file.tokens("tokens_enc"), tokens["tokens_enc"])
    assert file.options == {"seed": 3}


def test_of_a_file_that_holds_one_array_it_is_said_which(folder):
    arrays = {"out": np.zeros(3), "weights": np.ones(5)}
    assert save("one.npy", arrays, main="weights") == "weights"
    np.testing.assert_array_equal(np.load("one.npy"), np.ones(5))
    assert save("all.npz", arrays, main="weights") is None
    assert save("only.npy", {"out": np.zeros(3)}, main="out") is None


def test_one_position_along_an_axis_is_a_file_of_the_others(folder):
    whole = np.random.default_rng(0).normal(size=(2, 3, 5, 7))
    save("run.npz", {"weights": whole, "out": np.ones(3)})
    for axis in range(4):
        one = open_tensors("run.npz").at("weights", axis, 1)
        expected = whole.take(1, axis)
        assert one.shape("weights") == expected.shape
        np.testing.assert_array_equal(one.numbers("weights"), expected)
        np.testing.assert_array_equal(one.numbers("out"), np.ones(3))


def test_numpy_reads_our_npz_and_equal_arrays_give_equal_bytes(folder):
    arrays = {"file": np.arange(3.0)}  # the name that numpy.savez itself cannot take
    save("a.npz", arrays)
    save("b.npz", arrays)
    assert (folder / "a.npz").read_bytes() == (folder / "b.npz").read_bytes()
    with np.load("a.npz") as loaded:
        np.testing.assert_array_equal(loaded["file"], arrays["file"])


@pytest.mark.parametrize("dtype", [">f8", "<f4", ">i2", "?", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_byte_and_memory_order_are_made_native(folder, dtype, order):
    array = np.asarray(np.arange(6).reshape(2, 3), dtype=dtype, order=order)
    put(folder, "x.npz", npz(x=npy(array)))
    loaded = open_tensors("x.npz").numbers("x")
    np.testing.assert_array_equal(loaded, array)
    assert loaded.dtype.isnative


def test_large_stored_members_and_npy_files_are_mapped(folder):
    array = np.arange(2_500_000.0).reshape(50, -1)
    np.savez("big.npz", before=np.zeros(3), big=array)
    np.save("big.npy", array)
    for file, name in (("big.npz", "big"), ("big.npy", "")):
        loaded = open_tensors(file, Reading(max_memory=1000)).numbers(name, (3,))
        assert isinstance(loaded, np.memmap)
        np.testing.assert_array_equal(loaded, array[3])


def test_compressed_members_are_read(folder):
    np.savez_compressed("x.npz", x=np.arange(1000.0))
    np.testing.assert_array_equal(open_tensors("x.npz").numbers("x"), np.arange(1000.0))


@pytest.mark.parametrize("ending", ["raw", "safetensors"])
def test_bfloat16(folder, ending):
    array = np.array([1.0, -2.5, 3e38, 1e-40], dtype=ml_dtypes.bfloat16)
    if ending == "raw":
        save("x.npz", {"x": array.view("V2")})
        with pytest.raises(DtypeError, match="raw two-byte elements") as caught:
            open_tensors("x.npz").numbers("x")
        assert "--as-dtype bfloat16" in caught.value.hint
        loaded = open_tensors("x.npz", Reading(as_dtype="bfloat16")).numbers("x")
    else:
        (folder / "x.safetensors").write_bytes(safetensors.numpy.save({"x": array}))
        loaded = open_tensors("x.safetensors").numbers("x")
    np.testing.assert_array_equal(loaded, array.astype(np.float32))


def test_names_are_renamed_and_short_ones_known(folder):
    np.savez("x.npz", q=np.zeros(1), enc=np.ones(2))
    file = open_tensors("x.npz", Reading(rename={"hs_enc": "enc"}))
    assert sorted(file) == ["hs_enc", "query"]
    with pytest.raises(FileError, match=r"no array named nothing to rename \(it holds: q, enc\)"):
        open_tensors("x.npz", Reading(rename={"hs_enc": "nothing"}))
    np.savez("y.npz", q=np.zeros(1), query=np.ones(2))
    with pytest.raises(FileError, match="query is there twice"):
        open_tensors("y.npz")
    with pytest.raises(FileError, match="query is there twice"):
        open_tensors("y.npz", Reading(rename={"query": "q"}))
    swapped = open_tensors("y.npz", Reading(rename={"query": "q", "key": "query"}))
    assert swapped.shape("key") == (2,)
    assert "query" in open_tensors("x.npz", Reading(rename={"q": "enc", "value": "q"}))


def test_tokens_of_other_kinds(folder):
    np.savez("x.npz", bytes=np.array([b"a", b"\xff"]), ids=np.array([101, 7]), bad=np.zeros(2))
    file = open_tensors("x.npz")
    assert file.tokens("bytes").tolist() == ["a", "\\xff"]
    assert file.tokens("ids").tolist() == ["101", "7"]
    with pytest.raises(DtypeError, match="expected text or token ids"):
        file.tokens("bad")


def test_nonfinite_values_are_counted_and_placed(folder):
    array = np.zeros((3, 5))
    array[1, 2], array[2, 0] = np.nan, np.inf
    np.savez("x.npz", x=array, mask=np.array([0.0, -np.inf]))
    with pytest.raises(
        DataError, match=r"x holds 2 non-finite values, the first .nan. at \[1, 2\]"
    ):
        open_tensors("x.npz").numbers("x")
    np.savez("long.npz", x=np.full((2, 9), np.nan))
    with pytest.raises(DataError, match=r"x\[1, \[0, 1, \.\.\., 7, 8\]\] holds 9 non-finite"):
        open_tensors("long.npz").numbers("x", (1, np.arange(9)))
    assert open_tensors("x.npz", Reading(allow_nonfinite=True)).numbers("x").shape == (3, 5)
    assert open_tensors("x.npz").numbers("mask")[1] == -np.inf


@pytest.mark.parametrize("order", ["C", "F"])
def test_nonfinite_values_are_found_in_any_memory_order_without_a_copy(folder, order):
    array = np.zeros((3000, 2000), order=order)
    array[7, 1], array[2000, 0], array[7, 1999] = np.nan, np.inf, -np.inf
    np.save("x.npy", array)
    file = open_tensors("x.npy")
    tracemalloc.start()
    with pytest.raises(DataError, match=r"3 non-finite values, the first .nan. at \[7, 1\]"):
        file.numbers("")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < array.nbytes / 4


@pytest.mark.parametrize("ending", ["npz", "npy", "safetensors", "zarr"])
def test_writing_takes_no_copy_of_what_is_written(folder, ending):
    array = np.zeros((3000, 4000))
    tracemalloc.start()
    save(f"x.{ending}", {"x": array})
    save(f"y.{ending}", {"x": array.T})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < array.nbytes / 2


def test_standard_input_is_held_once(folder):
    code = """
import tracemalloc
from attncli.files.source import open_source
tracemalloc.start()
source = open_source("-")
print(source.size, tracemalloc.get_traced_memory()[1])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=bytes(30_000_000), capture_output=True, check=True
    )
    size, peak = map(int, done.stdout.split())
    assert (size, peak < 1.5 * size) == (30_000_000, True)


@pytest.mark.parametrize("dtype", [">f8", "V2"])
def test_what_has_to_be_copied_is_asked_for(folder, dtype):
    np.save("x.npy", np.zeros((1000, 8), dtype))
    with pytest.raises(MemoryLimitError, match=r"x\.npy: the array (in this machine's|as float32)"):
        open_tensors("x.npy", Reading(max_memory=10_000, as_dtype="bfloat16")).numbers("")
    written = ml_dtypes.bfloat16 if dtype == "V2" else "f8"
    (folder / "x.safetensors").write_bytes(
        safetensors.numpy.save({"x": np.zeros((1000, 8), written)})
    )
    file = open_tensors("x.safetensors", Reading(max_memory=10_000))
    if dtype == "V2":
        with pytest.raises(MemoryLimitError, match=r"x\.safetensors: x as float32 would take 32"):
            file.numbers("x")
    else:
        assert file.numbers("x").shape == (1000, 8)  # mapped


@pytest.mark.parametrize("name", ["options", "tokens"])
def test_text_that_is_no_unicode(folder, name):
    text = npy_with_header(header("<U2", "()"), struct.pack("<II", 0x7B, 0x7FFFFFFF))
    put(folder, "x.npz", npz(**{name: text}))
    file = open_tensors("x.npz")
    with pytest.raises(DataError, match=r"^x\.npz: (options is not|tokens holds what is no)"):
        _ = file.options if name == "options" else file.tokens(name)


# What is refused


DAMAGED = {
    "empty": (
        b"",
        ".safetensors, .zarr, .json, .html or .csv file: it is empty",
    ),
    "text": (b"hello world", "not an .npz, .npy, .safetensors, .zarr, .json, .html or .csv file"),
    "pickle": (b"\x80\x04\x95", "is a pickle"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
    "magic alone": (b"\x93NUMPY", "not an npy array"),
    "npy version": (b"\x93NUMPY\x09\x00\x00\x00", "npy format 9.0"),
    "npy cut in its header": (npy(np.zeros(3))[:50], "truncated in its header"),
    "npy cut in its data": (npy(np.zeros(30))[:-1], "holds 239"),
    "header of 4 GB": (npy_with_header("{}", length=2**32 - 1), "a header of 4294967295 bytes"),
    "nested header": (npy_with_header("(" * 5000), "damaged header"),
    "header is no dict": (npy_with_header("[1, 2]"), "damaged header"),
    "header with a call": (npy_with_header("__import__('os')"), "damaged header"),
    "negative shape": (npy_with_header(header(shape="(-1,)")), "damaged header"),
    "shape of bools": (npy_with_header(header(shape="(True,)")), "damaged header"),
    "shape is a list": (npy_with_header(header(shape="[2]")), "damaged header"),
    "1e15 elements": (npy_with_header(header(shape=f"({10**15},)")), "truncated or damaged"),
    "shape over 64 bits": (
        npy_with_header(header(shape=f"({2**40}, {2**40})")),
        "truncated or damaged",
    ),
    "objects": (npy_with_header(header(descr="|O")), "Python objects"),
    "records": (
        npy_with_header("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}"),
        "records",
    ),
    "unknown dtype": (npy_with_header(header(descr="zz")), "damaged header"),
    "too many axes": (npy_with_header(header(shape=str((1,) * 65))), "damaged header"),
    "not quite utf-8": (npy_with_header(b"\xff\xfe").replace(b"\x02", b"\x03", 1), "damaged"),
    "zip cut": (npz(x=npy(np.zeros(100)))[:400], "damaged or truncated archive"),
    "torch": (b"", "is a pickle"),
    "two of one name": (b"", "2 members named x.npy"),
    "member that is no npy": (npz(x=b"not numpy"), "x.npy: not an npy array"),
    "member cut": (npz(x=npy(np.zeros(100))[:500]), "x.npy: truncated or damaged"),
}


def damaged_bytes(kind):
    data, _ = DAMAGED[kind]
    stream = io.BytesIO()
    if kind == "torch":
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("model/data.pkl", b"\x80\x02")
        return stream.getvalue()
    if kind == "two of one name":
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("x.npy", npy(np.zeros(2)))
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr("x.npy", npy(np.zeros(2)))
        return stream.getvalue()
    return data


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_file_is_refused_in_one_line(folder, kind):
    put(folder, "bad.npz", damaged_bytes(kind))
    with pytest.raises(FileError) as caught:
        open_tensors("bad.npz").numbers("x")
    message = str(caught.value)
    assert DAMAGED[kind][1] in message
    assert message.startswith("bad.npz: ")
    assert "\n" not in message
    assert "allow_pickle" not in message + (caught.value.hint or "")


@pytest.mark.parametrize("size", [101, 3_001])  # read with its header, and behind it
@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_wrong_checksum_is_damage(folder, size, write):
    write("bad.npz", x=np.random.default_rng(0).integers(7, size=size))
    data = bytearray((folder / "bad.npz").read_bytes())
    with zipfile.ZipFile("bad.npz") as archive:
        at = archive.start_dir + 16  # of the checksum in the directory
    data[at : at + 4] = bytes(4)
    put(folder, "bad.npz", bytes(data))
    with pytest.raises(FileError, match=r"x\.npy: damaged or truncated archive .*CRC"):
        open_tensors("bad.npz").numbers("x")


def test_pickles_come_with_their_conversion(folder):
    put(folder, "model.pt", b"\x80\x02")
    with pytest.raises(FileError) as caught:
        open_tensors("model.pt")
    says, line = caught.value.hint.splitlines()[-2:]
    assert says == "this line writes model.npz:"
    assert line.startswith("python -c 'import sys, ")
    assert line.endswith("' model.pt model.npz")


@pytest.mark.parametrize(
    ("name", "message"),
    [(".", "is a folder"), ("missing.npz", "no such file"), ("a\0b", "null")],
)
def test_what_is_no_file(folder, name, message):
    with pytest.raises(FileError, match=message):
        open_tensors(name)


def test_zip_bomb_is_refused_by_what_it_declares(folder):
    with zipfile.ZipFile("bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy(np.zeros(4_000_000)))
    assert (folder / "bomb.npz").stat().st_size < 100_000
    with pytest.raises(MemoryLimitError, match=r"x\.npy would take 32\.0 MB, there is 1\.0 MB"):
        open_tensors("bomb.npz", Reading(max_memory=1_000_000)).numbers("x")


def test_members_that_are_no_arrays_are_ignored_aloud(folder):
    with zipfile.ZipFile("x.npz", "w") as archive:
        archive.writestr("../evil.npy", npy(np.zeros(1)))
        archive.writestr("notes.txt", "hello")
        archive.writestr("x.npy", npy(np.ones(1)))
    with pytest.warns(AttnWarning, match="is ignored") as caught:
        file = open_tensors("x.npz")
    assert len(caught) == 2
    assert list(file) == ["x"]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array(["a"]), "text"),
        (np.array([1j]), "complex"),
        (np.array(["2020-01-01"], "datetime64[D]"), "dates"),
        (np.zeros(2, "V3"), "expected real numbers"),
    ],
)
def test_values_that_are_no_numbers(folder, array, message):
    np.savez("x.npz", x=array)
    with pytest.raises(DtypeError, match=f"x.npz: x is .*{message}"):
        open_tensors("x.npz").numbers("x")


def test_more_bytes_than_the_array_are_warned_of(folder):
    put(folder, "x.npy", npy(np.zeros(3)) + b"more")
    with pytest.warns(AttnWarning, match="the 4 bytes behind the array"):
        open_tensors("x.npy")


def test_options_that_no_run_wrote(folder):
    np.savez("x.npz", options=np.array("[1]"))
    with pytest.raises(DataError, match="options is not the JSON object"):
        _ = open_tensors("x.npz").options


def test_safetensors_without_its_library(folder, monkeypatch):
    (folder / "x.safetensors").write_bytes(safetensors.numpy.save({"x": np.zeros(2)}))
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(FileError, match="need the safetensors package") as caught:
        open_tensors("x.safetensors")
    assert caught.value.hint == "pip install 'attncli[safetensors]'"


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 70)
        + json.dumps({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 10**15]}})
        .encode()
        .ljust(70),
        b"",
        b"\xff" * 50,
    ],
)
def test_damaged_safetensors(folder, data):
    put(folder, "x.safetensors", data)
    with pytest.raises(FileError, match=r"^x\.safetensors: "):
        open_tensors("x.safetensors")


# Any bytes: an error of ours or an array, and nothing else

SEEDS = {
    "npy": npy(np.arange(12.0).reshape(3, 4)),
    "npz": npz(hs_enc=npy(np.ones((1, 2, 3))), tokens=npy(np.array(["a", "b"]))),
    "safetensors": safetensors.numpy.save({"x": np.ones((2, 3), np.float32)}, {"tokens": '["a"]'}),
}


@st.composite
def mutated(draw):
    data = bytearray(SEEDS[draw(st.sampled_from(sorted(SEEDS)))])
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        action = draw(st.sampled_from(["flip", "cut", "insert", "splice"]))
        if action == "flip" and data:
            data[place] = draw(st.integers(0, 255))
        elif action == "cut":
            del data[place : place + draw(st.integers(1, 64))]
        elif action == "insert":
            data[place:place] = draw(st.binary(max_size=16))
        else:
            other = SEEDS[draw(st.sampled_from(sorted(SEEDS)))]
            data[place:] = other[draw(st.integers(0, len(other))) :]
    return bytes(data)


@pytest.mark.filterwarnings("ignore::attncli.errors.AttnWarning")
@settings(max_examples=400, deadline=None, derandomize=True)
@given(data=mutated())
def test_any_bytes_give_arrays_or_an_error_of_ours(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.bin"
    path.write_bytes(data)
    try:
        file = open_tensors(str(path), Reading(max_memory=10_000_000))
        for name in file:
            (file.tokens if name.startswith("tokens") else file.numbers)(name)
        _ = file.options
    except AttnError as error:
        message = str(error)
    else:
        message = ""
    assert len(message) < 600
    assert "\n" not in message


def test_stdin_larger_than_memory_is_refused():
    code = """
from attncli.errors import FileError
from attncli.files.contents import open_tensors
from attncli.files.reading import Reading
try:
    open_tensors("-", Reading(max_memory=3_000_000))
except FileError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=b"1,2\n" * 1_000_000, capture_output=True, check=True
    )
    assert done.stdout.decode() == "standard input: a stream of more than 3.0 MB\n"


def test_samples_are_read():
    for sample in SAMPLES.glob("*.npz"):
        file = open_tensors(str(sample))
        for name in file:
            (file.tokens if name.startswith("tokens") else file.numbers)(name)


def test_one_array_under_two_names(folder, attn):
    np.savez("x.npz", states=np.ones((2, 3)), q=np.ones((2, 3)))
    file = open_tensors("x.npz", Reading(rename={"key": "states", "v": "states"}))
    assert list(file) == ["key", "value", "query"]
    assert attn("forward", "x.npz", "--rename", "k=states", "--rename", "v=states").code == 0


@pytest.mark.skipif(np.longdouble(0).itemsize == 8, reason="long doubles are doubles here")
def test_safetensors_knows_no_long_doubles(folder):
    with pytest.raises(FileError, match=r"^x\.safetensors: out is \w+, which .* do not know"):
        save("x.safetensors", {"out": np.zeros(2, np.longdouble)})
    assert list(folder.iterdir()) == []


def test_the_library_reads_what_is_written_without_it(folder):
    arrays = {
        "odd": np.array([True, False, True]),
        "single": np.array(2.5, np.float32),
        "large": np.arange(6.0).reshape(2, 3).T,
        "big": np.arange(3, dtype=">i4"),
        "none": np.zeros((0, 3)),
        "tokens": np.array(["a", "é"]),
    }
    save("x.safetensors", arrays)
    read = safetensors.numpy.load_file("x.safetensors")
    for name in read:
        np.testing.assert_array_equal(read[name], arrays[name])
    assert set(read) == set(arrays) - {"tokens"}
    assert open_tensors("x.safetensors").tokens("tokens").tolist() == ["a", "é"]


def test_trouble_of_the_system_is_no_damage(folder, monkeypatch):
    np.savez("x.npz", x=np.ones(2))

    def fail(stream):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(zipfile, "ZipFile", fail)
    with pytest.raises(FileError, match=r"^x\.npz: too many open files$"):
        open_tensors("x.npz")


def test_a_folder_of_npy_files_is_a_file_of_their_arrays(folder):
    (folder / "dump").mkdir()
    arrays = {f"layer_{n}": np.full((2, n + 1), n, np.float32) for n in range(11)}
    for name, array in arrays.items():
        np.save(f"dump/{name}.npy", array)
    put(folder, "dump/notes.txt", b"what else lies there")
    file = open_tensors("dump")
    assert set(file) == set(arrays)
    for name, array in arrays.items():
        assert file.shape(name) == array.shape
        np.testing.assert_array_equal(file.numbers(name), array)


def test_no_file_of_a_folder_stays_open(folder):
    for n in range(67):
        np.save(f"layer_{n}.npy", np.zeros(2))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 13, files[1]))
    try:
        file = open_tensors(".")
        assert [file.numbers(name).sum() for name in file] == [0] * 67
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, files)


def test_a_damaged_file_in_a_folder_is_named(folder):
    np.save("layer_0.npy", np.zeros(2))
    put(folder, "layer_1.npy", b"\x93NUMPY\x01")
    with pytest.raises(FileError, match=r"layer_1\.npy: "):
        open_tensors(".")
