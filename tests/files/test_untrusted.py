"""Files that are made to mislead: streams without end, shapes of nothing, names that are twins."""

import io
import json
import os
import signal
import struct
import sys
import threading
import time
import unicodedata
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attncli.errors import AttnError, FileError
from attncli.files import npy, source
from attncli.files.contents import open_tensors
from attncli.files.entries import refuse_twins

WEIGHTS = np.full((2, 3), 1 / 3)
HUGE = 10**12


def saved(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def header(text, data=b""):
    """An .npy file with this header."""
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text.encode("latin-1") + data


def declared(shape="(2, 3)", descr="'<f8'", data=bytes(48)):
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}", data)


def packed(members, method=zipfile.ZIP_STORED, comment=b""):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.comment = comment
    return stream.getvalue()


def says(path, data):
    """What is wrong with a file."""
    path.write_bytes(data)
    message = wrong_with(path)
    assert message
    assert "\n" not in message
    return message


def wrong_with(path):
    try:
        for name in (file := open_tensors(path.name)):
            file.numbers(name)
    except AttnError as error:
        return str(error)
    return ""


# Streams.


class Endless(io.RawIOBase):
    """Some bytes again and again, and how many were taken."""

    def __init__(self, again, start=b""):
        self.again, self.start, self.taken = again, start, 0

    def read(self, size=-1):
        assert size > 0, "is read to an end that it has not"
        self.taken += size
        first, self.start = self.start[:size], self.start[size:]
        return first + self.again * ((size - len(first)) // len(self.again))


@pytest.fixture
def endless(monkeypatch):
    """Let standard input have no end."""

    def make(again, start=b""):
        stream = Endless(again, start)
        monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": stream}))
        return stream

    return make


@pytest.mark.parametrize("again", [b"\0", b"y\n", b"\xff", b"word "])
def test_a_stream_that_is_no_file_of_ours_is_refused_by_its_beginning(endless, again):
    stream = endless(again)
    with pytest.raises(FileError, match=r"not an \.npz"):
        open_tensors("-")
    assert stream.taken <= 4096


@pytest.mark.parametrize(
    "start", [b"1,2\n", b"[", b"PK\x03\x04", b"<!DOCTYPE html>", saved(WEIGHTS)]
)
def test_a_stream_that_looks_like_one_is_read_up_to_a_bound(endless, start, monkeypatch):
    monkeypatch.setattr(source, "_MOST_OF_A_STREAM", 5_000_000)
    stream = endless(b"1,2\n", start)
    with pytest.raises(FileError, match=r"a stream of more than 5\.0 MB") as caught:
        open_tensors("-")
    assert stream.taken < 7_000_000
    assert caught.value.hint.startswith("--max-memory 8GB ")


def test_a_device_is_refused_by_its_beginning(attn):
    assert attn("show-weights", "/dev/zero").err.startswith("error: /dev/zero: not an .npz, ")


def test_a_pipe_is_read_as_a_file_is(folder, attn):
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: (folder / "pipe").write_bytes(saved(WEIGHTS)))
    writer.start()
    result = attn("show-weights", "pipe", "--json")
    writer.join()
    assert result.json["matrices"][0]["weights"] == WEIGHTS.tolist()


def test_a_pipe_without_a_writer_is_waited_for_aloud_until_ctrl_c(folder, attn, monkeypatch):
    monkeypatch.setattr("attncli.cli.screen.ProgressBar._APPEARS_AFTER", 0.0)
    monkeypatch.setattr(source, "opened", None)
    os.mkfifo("pipe")

    def interrupt():
        while source.opened is None:  # the command has not begun
            time.sleep(0.01)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    result = attn("show-weights", "pipe", columns=80, colors="truecolor")
    thread.join()
    assert (result.code, result.out) == (130, "")
    assert "waiting for somebody who writes to pipe\r\x1b[K" in result.err


# What .npy headers say.


@pytest.mark.parametrize(
    "descr",
    ["'(3,)f4'", "'3f4'", "'f8,f8'", "'f4,'", "'2b1'", "[('a', '<f4')]", "[('a', '<f4', (3,))]"],
)
def test_elements_of_several_numbers_are_refused(folder, descr):
    assert says(folder / "x.npy", declared(descr=descr)) == (
        "x.npy: holds records (structured dtype), expected plain numbers"
    )


@pytest.mark.parametrize("descr", ["'?S'", "'(0,)f4'", "'V0'", "None", "7", "'f8;'"])
def test_elements_of_no_dtype_are_refused(folder, descr):
    assert says(folder / "x.npy", declared(descr=descr)).startswith("x.npy: ")


@pytest.mark.parametrize(
    "shape",
    ["(2.0, 3)", "(True, 6)", "(-2, -3)", "[2, 3]", "6", "None", "('2', 3)", "(6,), 'x': 1"],
)
def test_sizes_that_are_none_are_refused(folder, shape):
    assert says(folder / "x.npy", declared(shape)) == "x.npy: damaged header"


@pytest.mark.parametrize("again", ["'shape': (6,)", "'descr': '<f8'", "'fortran_order': False"])
def test_a_key_that_is_there_twice_is_refused(folder, again):
    fields = f"{{{again}, 'descr': '<f8', 'fortran_order': False, 'shape': (2, 3)}}"
    assert says(folder / "x.npy", header(fields, bytes(48))) == "x.npy: damaged header"


@pytest.mark.parametrize("deep", ["(" * 9000, "{" * 9000, "-" * 9000 + "1", "[1," * 3000])
def test_headers_that_are_nested_deep_are_refused(folder, deep):
    assert says(folder / "x.npy", header(deep)) == "x.npy: damaged header"


# Shapes of nothing.

NOTHING = [(HUGE, 0), (0, HUGE, 5), (1, HUGE, 0), (HUGE, 1, 0), (2, 2, HUGE, 0), (1, 0, HUGE)]
SOME_OF_NOTHING = [(0, 4), (5, 0), (0, 5, 3), (1, 0, 3), (1, 5, 0), (7, 5, 0), (2, 3, 0, 7)]


def nothing_npz(shape):
    return packed({f"{name}.npy": declared(str(shape), data=b"") for name in ("weights", "out")})


def nothing_of_states(shape):
    names = ("query", "key", "value", "hs_enc", "hs_dec", "out")
    return packed({f"{name}.npy": declared(str(shape), data=b"") for name in names})


def nothing_safetensors(shape):
    fields = {"weights": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}
    text = json.dumps(fields).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize("make", [nothing_npz, nothing_of_states, nothing_safetensors])
@pytest.mark.parametrize("shape", NOTHING + SOME_OF_NOTHING)
def test_no_command_counts_through_what_is_of_no_size(folder, attn, make, shape):
    (folder / "x").write_bytes(make(shape))
    exports = ("--export", "x.svg", "--export", "x.html", "--export", "x.csv", "--force")
    for command in (
        ("forward", "x"), ("trace", "x", "--backward"), ("compare", "x", "x"), ("show-mask", "x"),
        ("show-weights", "x"), ("show-weights", "x", "-q", *exports),
        ("forward", "x", "--layer", "softmax", "--rename", "scores=out", "--json"),
    ):  # fmt: skip
        result = attn(*command)
        assert result.code in ((2,) if shape in NOTHING else (0, 2)), (command, result.err)
        assert len(result.out) < 10_000


@pytest.mark.parametrize("size", [2**63, 2**64, 10**40])
def test_a_size_that_no_array_can_have_is_refused(folder, size):
    for data in (declared(f"({size}, 0)", data=b""), nothing_safetensors((size, 0))):
        assert "damaged" in says(folder / "x", data)


ONE = '"weights": {"dtype": "F64", "shape": [1, 1], "data_offsets": [0, 8]}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'{{"__metadata__": null, {ONE}}}', "x: damaged header"),
        (f"{{{ONE}, {ONE}}}", "x: an object has the key 'weights' twice"),
    ],
)
def test_what_the_library_lets_pass_in_a_header_is_refused(folder, text, message):
    pytest.importorskip("safetensors")
    data = struct.pack("<Q", len(text)) + text.encode() + bytes(8)
    assert says(folder / "x", data) == message


def test_scores_of_states_without_features_are_refused(folder, attn):
    np.savez("x.npz", query=np.ones((1, 2, 0)), key=np.ones((1, 3, 0)), value=np.ones((1, 3, 5)))
    for command in ("forward", "backward", "trace"):
        assert attn(command, "x.npz").err.endswith("(1, 2, 0): H = 0 leaves nothing to score by\n")


# Archives.


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_byte_that_was_changed_in_a_member_is_noticed_or_changes_nothing(folder, method):
    array = np.random.default_rng(5).integers(0, 9, (7, 11)).astype(np.float64)
    members = {"before.npy": saved(WEIGHTS), "weights.npy": saved(array)}
    whole = packed(members, method)
    begin = zipfile.ZipFile(io.BytesIO(whole)).getinfo("weights.npy").header_offset + 41
    end, noticed = whole.index(b"PK\x01\x02"), 0
    for place in range(begin, end, 1 if method == zipfile.ZIP_LZMA else 3):
        data = bytearray(whole)
        data[place] ^= 0x55
        (folder / "x.npz").write_bytes(data)
        if message := wrong_with(folder / "x.npz"):
            noticed += 1
            assert message.startswith("x.npz: weights.npy: ")
        else:  # bits behind the end of what is packed
            np.testing.assert_array_equal(open_tensors("x.npz").numbers("weights"), array)
    assert noticed > 20


@pytest.mark.parametrize("behind", [b"", b"some bytes more"])
def test_bytes_behind_an_array_in_an_archive_are_checked_too(folder, behind):
    data = bytearray(packed({"weights.npy": saved(WEIGHTS) + behind}))
    (folder / "x.npz").write_bytes(data)
    np.testing.assert_array_equal(open_tensors("x.npz").numbers("weights"), WEIGHTS)
    data[data.index(struct.pack("<d", 1 / 3)) + 2] ^= 1
    assert "damaged" in says(folder / "x.npz", data)


def test_a_comment_of_an_archive_is_harmless(folder):
    (folder / "x.npz").write_bytes(packed({"weights.npy": saved(WEIGHTS)}, comment=b"hi" * 30_000))
    np.testing.assert_array_equal(open_tensors("x.npz").numbers("weights"), WEIGHTS)


def test_an_archive_that_is_encrypted_split_or_of_two_sizes_is_damaged_at_a_member(folder):
    whole = packed({"a.npy": saved(WEIGHTS), "weights.npy": saved(WEIGHTS)})
    directory = whole.rindex(b"PK\x01\x02")
    for place, value in ((8, 1), (34, 3), (24, 77)):  # flags, its part, its size unpacked
        data = bytearray(whole)
        data[directory + place] = value
        message = says(folder / "x.npz", data)
        assert message.startswith("x.npz: weights.npy: ")
        assert "damaged" in message
    assert "damaged" in says(folder / "x.npz", b"PK\x07\x08" + whole[4:-30])
    end = whole.rindex(b"PK\x05\x06")
    part = whole[: end + 4] + b"\1\0\1\0" + whole[end + 8 :]
    assert "a part of a split archive" in says(folder / "x.npz", part)


# Names.

FORMS = ("NFC", "NFD", "NFKC", "NFKD")


@given(name=st.text(min_size=1, max_size=8), form=st.sampled_from(FORMS), ours=st.booleans())
def test_two_spellings_of_one_name_are_refused(name, form, ours):
    twin = unicodedata.normalize(form, name.upper() if ours else name.lower())
    if twin != name and "\0" not in name:
        with pytest.raises(FileError, match="two of one name"):
            refuse_twins([name, "other than all", twin], "x")


@given(st.sets(st.text("abcxyz0123456789_.-", max_size=9), max_size=20))
def test_names_that_differ_are_not(names):
    refuse_twins({f"{name}!" for name in names}, "x")


@pytest.mark.parametrize("twins", [("x", "x.npy"), ("é", "e\u0301"), ("W", "w"), ("a", "b\0c")])
@pytest.mark.parametrize("kind", ["npz", "safetensors", "json", "folder"])
def test_twins_are_refused_in_every_format(folder, twins, kind):
    place = f"x.{kind}"
    if kind == "npz":
        # The library that writes archives stops at a NUL.
        members = dict.fromkeys((name.replace("\0", "%") for name in twins), saved(WEIGHTS))
        (folder / place).write_bytes(packed(members).replace(b"b%c", b"b\0c"))
    elif kind == "safetensors":
        save_file = pytest.importorskip("safetensors.numpy").save_file
        save_file(dict.fromkeys(twins, WEIGHTS), place)
    elif kind == "json":
        (folder / place).write_text(json.dumps(dict.fromkeys(twins, WEIGHTS.tolist())))
    else:
        if "\0" in twins[1]:
            return  # no file is called so
        (folder / place).mkdir()
        for name in twins:
            (folder / place / f"{name}.npy").write_bytes(saved(WEIGHTS))
    with pytest.raises(FileError, match=r"two of one name|has a NUL in its name"):
        open_tensors(place)


# Files that change.


@pytest.fixture
def changed(folder, monkeypatch):
    """Do something to a file as soon as it has been mapped."""
    np.save("x.npy", np.full((3, 7, 7), 1 / 7))
    real = npy.map_array

    def during(change):
        def mapped(*arguments):
            array = real(*arguments)
            change(folder / "x.npy")
            return array

        monkeypatch.setattr(npy, "map_array", mapped)

    return during


def rewrite(path):
    with path.open("r+b") as stream:
        stream.seek(200)
        stream.write(b"changed")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))  # the clock of files is coarse


def replace(path):
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[::-1])


def test_a_file_that_is_written_to_while_it_is_read_is_told(attn, changed, folder):
    changed(rewrite)
    result = attn("show-weights", "x.npy")
    assert result.code == 2
    assert result.err.endswith("error: x.npy: has changed while it was read\n")
    result = attn("show-weights", "x.npy", "-q", "--export", "out.csv")
    assert result.code == 2
    assert sorted(os.listdir()) == ["x.npy"]


def test_a_file_that_is_replaced_meanwhile_is_read_as_it_was(attn, changed):
    changed(replace)
    result = attn("show-weights", "x.npy", "--json")
    assert (result.code, result.json["matrices"][0]["weights"][0][0]) == (0, 1 / 7)


def test_a_file_that_gives_rise_to_many_warnings_is_told_of_by_some(folder, attn):
    names = {f"note{n}.txt": b"hi" for n in range(2000)}
    (folder / "x.npz").write_bytes(packed({"weights.npy": saved(WEIGHTS), **names}))
    result = attn("show-weights", "x.npz")
    assert (result.code, len(result.err.splitlines())) == (0, 31)
    assert result.err.endswith("warning: there are more, which are not shown\n")


def test_an_error_as_json_is_as_short_as_in_words(folder, attn):
    np.savez("x.npz", **{f"word{chr(97 + n // 26)}{chr(97 + n % 26)}": WEIGHTS for n in range(600)})
    assert len(attn("show-weights", "x.npz", "--json").objects) < 2000


def test_the_work_grows_as_the_number_of_arrays_does(folder, attn):
    """Each of them is looked at as often as if there were a hundred."""
    counts = []
    for count in (40, 160):
        np.savez("x.npz", tokens=list("abc"), **{f"layer{n}": np.eye(3) for n in range(count)})
        calls = 0

        def count_calls(frame, event, argument):
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count_calls)
        try:
            for command in (("show-weights", "x.npz", "--json"), ("compare", "x.npz", "x.npz")):
                attn(*command)
        finally:
            sys.setprofile(None)
        counts.append(calls)
    assert counts[1] < 5 * counts[0]
