"""Files that are wrong in every way, to every command that reads: one line that says it, exit 2.

The rows of BAD_INPUTS, and where the others have their tests:

====== =====================================================================================
1-22   here; the readers alone in files/test_reading.py; any bytes in test_hostile_files.py
23, 24 test_little_memory.py
25     files/test_reading.py (mapped), test_show_weights.py, test_compare.py
26     test_show_weights.py, views/test_lazy.py, test_little_memory.py
27-29  files/test_atomic.py, test_outputs_are_checked_before_any_work here
30     test_full_disk.py, files/test_crash.py
31, 32 test_main.py (signals), files/test_crash.py (killed at every step)
33     files/test_atomic.py
34     test_forward.py, test_weight_export.py; test_outputs_are_checked_before_any_work here
35, 36 test_main.py
37-39  views/test_labels.py, views/test_pictures.py, test_weight_export.py
40-42  test_main.py (odd surroundings), test_screen.py
43-45  test_forward.py, test_main.py, test_show_weights.py
====== =====================================================================================
"""

import io
import os
import struct
import warnings
import zipfile

import numpy as np
import pytest

READERS = {
    "forward": ["forward", "@"],
    "backward": ["backward", "@", "--json"],
    "forward with a part": ["forward", "--hs-dec", "good.npz", "--hs-enc", "@"],
    "backward with dout": ["backward", "good.npz", "--dout", "@"],
    "trace": ["trace", "@"],
    "show-weights": ["show-weights", "@"],
    "show-weights as JSON": ["show-weights", "@", "--json"],
    "show-weights of a difference": ["show-weights", "good.npz", "--diff", "@"],
    "export": ["show-weights", "@", "-q", "--export", "out.csv", "--export", "out.html"],
    "compare A": ["compare", "@", "good.npz"],
    "compare B": ["compare", "good.npz", "@"],
    "compare within a budget": ["compare", "good.npz", "good.npz", "--budget", "@"],
    "convention": ["convention", "@"],
    "check a convention": ["check", "--convention", "@"],
}
# Those that read what makes weights, and nothing else.
WEIGHTS = ("forward", "backward", "trace", "show-weights", "show-weights as JSON", "export")

ENC, DEC = np.random.default_rng(0).normal(size=(2, 4, 3)), np.full((2, 3, 3), 0.5)


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def declared(shape, descr="<f8", data=b"", length=None):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}".encode()
    size = struct.pack("<I", len(text) if length is None else length)
    return b"\x93NUMPY\x02\x00" + size + text + data


def zipped(*members, method=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", method) as archive:
        warnings.simplefilter("ignore")  # of two members of one name
        for name, data in members:
            archive.writestr(name, data)
    return stream.getvalue()


def states(method=zipfile.ZIP_STORED, **changed):
    arrays = {"hs_enc": ENC, "hs_dec": DEC} | changed
    members = ((f"{name}.npy", npy(array)) for name, array in arrays.items())
    return zipped(*members, method=method)


def weights(array, **more):
    return zipped(*((f"{name}.npy", npy(x)) for name, x in {"weights": array, **more}.items()))


WRONG_CRC = bytearray(states())
WRONG_CRC[200:202] = b"\xff\xff"

# File name, bytes, message; every reader says it.
NO_FILE = {
    "row 1, empty": ("x.npz", b"", ".html or .csv file: it is empty"),
    "row 1, text": ("x.npz", b"hello world", "not an .npz, .npy, .safetensors, .zarr, .json"),
    "row 2, npz": ("x.npz", states()[:-30], "damaged or truncated archive"),
    "row 2, npy": ("x.npy", npy(ENC)[:-8], "declares float64 (2, 4, 3), 192 bytes, and holds 184"),
    "row 2, header": ("x.npy", npy(ENC)[:20], "truncated in its header"),
    "row 2, checksum": ("x.npz", bytes(WRONG_CRC), "hs_enc.npy: damaged or truncated archive"),
    "row 3, npy": ("x.npy", npy(np.array([1, None])), "holds Python objects (pickled)"),
    "row 3, npz": ("x.npz", states(hs_enc=np.array([None])), "hs_enc.npy: holds Python objects"),
    "row 4": ("x.npy", declared("(1000000, 1000000, 1000)"), "8000000000000000 bytes, and holds 0"),
    "row 5": ("x.npy", declared(f"({2**62}, {2**62})"), "damaged: declares float64 (4611"),
    "row 5, no bytes": ("x.npy", declared(f"({2**32}, {2**32}, 0)"), "damaged: declares float64"),
    "row 5, no text": ("x.npy", declared(f"({10**26}, 3)", "<U0"), "damaged: declares <U0"),
    "row 5, empty text": ("x.npy", declared(f"({10**12},)", "S0"), "damaged: declares |S0"),
    "row 5, negative": ("x.npy", declared("(-1, 3)", data=bytes(24)), "damaged header"),
    "row 5, 70 axes": ("x.npy", declared(f"({'2, ' * 70})"), "damaged header"),
    "row 6": ("x.npy", declared("(2,)", length=2**32 - 1), "declares a header of 4294967295 bytes"),
    "row 7": ("x.npy", declared("(" * 5000), "damaged header"),
    "row 6, no bytes": ("x.npy", declared("(3,)", "|V0"), "damaged header"),
    "row 6, no bytes in all": ("x.npy", declared("(0,)", "|V0"), "damaged header"),
    "row 6, no bytes in a member": ("x.npz", zipped(("a.npy", declared("()", "V0"))), "damaged"),
    "row 9": ("x.npz", zipped(("a.npy", npy(ENC)), ("a.npy", npy(ENC))), "2 members named a.npy"),
    "row 9, alias": ("x.npz", zipped(("q.npy", npy(ENC)), ("query.npy", npy(ENC))), "query is th"),
    "row 11, records": (
        "x.npz", states(hs_enc=np.zeros(2, [("a", "f8")])), "hs_enc.npy: holds records",
    ),
    "row 21, CSV": ("x.csv", b"a;b\n1,5;2\n3", "the rows differ in length: line 2 has 2"),
    "row 21, BOM": ("x.JSON", b'\xef\xbb\xbf{"a": 1, "a": 2}', "an object has the key 'a' twice"),
    "row 21, depth": ("x.json", b"[" * 100_000, "lists in lists, more than"),
    "row 22, .pkl": ("x.pkl", b"\x80\x02}q\x00.", "is a pickle, expected .npz"),
    "row 22, .pt": ("x.pt", zipped(("x/data.pkl", b"x")), "is a pickle, expected .npz"),
    "row 22, .h5": ("x.h5", b"\x89HDF\r\n\x1a\n" + bytes(50), "is an HDF5 file, expected .npz"),
}  # fmt: skip


def short_member(kept):
    """An archive whose first member unpacks to less than it and its header declare."""
    whole = npy(ENC)
    data = bytearray(zipped(("hs_enc.npy", whole[:kept]), ("hs_dec.npy", npy(DEC)),
                            method=zipfile.ZIP_DEFLATED))  # fmt: skip
    # The size of what is unpacked, in the member's own header and in the archive's list.
    for place in (22, data.index(b"PK\x01\x02") + 24):
        assert data[place : place + 4] == struct.pack("<I", kept)
        data[place : place + 4] = struct.pack("<I", len(whole))
    return bytes(data)


# What does not compute; readers of anything else are not concerned.
NO_NUMBERS = {
    "row 2, no numbers": (short_member(128), "hs_enc.npy: truncated"),
    "row 2, one number": (short_member(136), "hs_enc.npy: truncated"),
    "row 2, all but one": (short_member(312), "hs_enc.npy: truncated"),
    "row 8": (
        states(zipfile.ZIP_DEFLATED, hs_enc=np.zeros((1, 10**6, 3)), hs_dec=DEC[:1]),
        "hs_enc.npy would take 24.0 MB, there is 20.0 MB",
    ),
    "row 11, text": (states(hs_enc=np.full((2, 4, 3), "x")), "hs_enc is <U1 (text), expected real"),
    "row 11, dates": (states(hs_enc=np.zeros((2, 4, 3), "M8[s]")), "hs_enc is datetime64[s] (date"),
    "row 11, complex": (states(hs_dec=DEC * 1j), "hs_dec is complex128 (complex), expected real"),
    "row 12": (states(hs_enc=np.zeros((2, 4, 3), "V2")), "hs_enc is raw two-byte elements (V2)"),
    "row 14": (states(hs_enc=np.array(1.0)), "hs_enc is (), expected 3 axes: (N, T_enc, H)"),
    "row 15, N": (
        states(hs_enc=ENC[:1]), "hs_enc is (1, 4, 3), hs_dec is (2, 3, 3): N differs (1 and 2)",
    ),
    "row 15, H": (
        states(hs_dec=DEC[..., :2]), "hs_enc is (2, 4, 3), hs_dec is (2, 3, 2): H differs (3 and",
    ),
    "row 15, mask": (states(enc_mask=np.ones((2, 9), bool)), "enc_mask is (2, 9), expected (2, 4)"),
    "row 15, mask of ids": (
        states(enc_mask=np.arange(8).reshape(2, 4)),
        "enc_mask is int64 with other values than 0 and 1",
    ),
    "row 15, mask of counts": (
        states(mask=np.arange(12).reshape(3, 4)), "mask is int64 with other values than 0 and 1",
    ),
    "row 16": (states(hs_enc=ENC[:, :0]), "hs_enc is (2, 0, 3): T_enc = 0 leaves nothing to"),
    "row 17": (
        states(hs_enc=np.where(ENC > 1, np.nan, ENC)), "hs_enc holds 3 non-finite values, the firs",
    ),
    "row 17, infinity": (states(hs_dec=DEC + np.inf), "18 non-finite values, the first (inf) at"),
    "row 17, -infinity": (
        states(hs_enc=np.where(ENC > 1, -np.inf, ENC)), "hs_enc holds 3 non-finite values, the fir",
    ),
    "row 20": (states(tokens_enc=np.array(["a"])), "tokens_enc is (1,), expected one token a step"),
    "layer of a run": (states(options=np.array('{"layer": "x"}')), "its options name the layer x"),
    "option of a run": (states(options=np.array('{"window": -2}')), "its options: window is -2, e"),
    "type of a run": (states(options=np.array('{"scale": "x"}')), "its options hold what no run w"),
}  # fmt: skip


@pytest.fixture
def attn_on(attn, folder):
    """Run a reader on a file that is to be made first; nothing else in the folder may change."""
    (folder / "good.npz").write_bytes(states())

    def run(reader, name, data, *options):
        (folder / name).write_bytes(data)
        before = sorted(os.listdir())
        result = attn(*(name if text == "@" else text for text in READERS[reader]), *options)
        if result.code == 2:
            assert sorted(os.listdir()) == before
        return result

    return run


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", NO_FILE)
def test_what_is_no_file_of_tensors(attn_on, reader, kind):
    name, data, message = NO_FILE[kind]
    result = attn_on(reader, name, data)
    error, *hints = result.err.splitlines()
    assert (result.code, result.out) == (2, "")
    assert error.startswith(f"error: {name}: ")
    assert message in error
    assert len(error) < 300
    assert all(line.startswith("hint:  ") for line in hints)
    assert bool(hints) == any(f"row {row}" in kind for row in (3, 22))


@pytest.mark.parametrize("reader", WEIGHTS)
@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_is_no_attention(attn_on, reader, kind):
    data, message = NO_NUMBERS[kind]
    result = attn_on(reader, "x.npz", data, "--max-memory", "20MB")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[0].startswith("error: x.npz: ")
    assert message in result.err


@pytest.mark.parametrize("reader", WEIGHTS)
def test_row_10_members_that_are_no_arrays(attn_on, folder, reader):
    members = [("hs_enc.npy", npy(ENC)), ("hs_dec.npy", npy(DEC))]
    hostile = [("../up.npy", npy(DEC)), ("/up.npy", npy(DEC)), ("note.txt", b"hi")]
    result = attn_on(reader, "x.npz", zipped(*members, *hostile))
    assert result.code == 0
    for name, _ in hostile:
        assert result.err.count(f"x.npz: member {name} is no array and is ignored") == 1
    assert not (folder.parent / "up.npy").exists()


@pytest.mark.parametrize("reader", WEIGHTS)
def test_row_13_any_byte_and_memory_order(attn_on, reader):
    data = states(hs_enc=np.asfortranarray(ENC.astype(">f4")), hs_dec=DEC.astype(">f8"))
    assert attn_on(reader, "x.npz", data).code == 0


@pytest.mark.parametrize("reader", WEIGHTS)
@pytest.mark.parametrize("axis", ["N", "T_dec"])
def test_row_16_nothing_is_an_empty_result_with_a_warning(attn_on, reader, axis):
    data = states(hs_enc=ENC[:0], hs_dec=DEC[:0]) if axis == "N" else states(hs_dec=DEC[:, :0])
    result = attn_on(reader, "x.npz", data)
    if reader == "trace":
        assert result.code == 2
        assert result.err.endswith("there is none\n")
    else:
        assert result.code == 0
        assert result.err.count(f"{axis} is 0") == 1


def test_weights_of_nothing(attn_on):
    result = attn_on("show-weights", "x.npz", states(hs_enc=ENC[..., :0], hs_dec=DEC[..., :0]))
    assert result.err == "error: x.npz: hs_enc and hs_dec have H = 0: no weights follow\n"


@pytest.mark.parametrize("reader", [x for x in WEIGHTS if x != "trace"])
def test_row_18_masked_rows_are_counted_once(attn_on, reader):
    result = attn_on(reader, "x.npz", states(mask=np.array([[True] * 4, [False] * 4, [True] * 4])))
    assert result.code == 0
    assert result.err.count("every key masked") == 1


@pytest.mark.parametrize("reader", ["show-weights", "show-weights as JSON", "export"])
def test_row_19_weights_that_are_none_are_shown_with_warnings(attn_on, reader):
    result = attn_on(reader, "x.npz", weights(np.array([[0.5, 0.9], [-0.5, 1.5]])))
    assert result.code == 0
    assert result.err.count("1 row does not sum to 1: the worst, row 0, sums to 1.4") == 1
    assert result.err.count("weights are negative: the least, -0.5, is at [1, 0]") == 1


@pytest.mark.parametrize("reader", WEIGHTS)
def test_row_20_tokens_of_no_axis_are_left_out_aloud(attn_on, reader):
    result = attn_on(reader, "x.npz", states(tokens=np.array(["a"])))
    assert result.code == 0
    message = "tokens is (1,), one a step of neither T_dec = 3 nor T_enc = 4, and left out"
    assert result.err.count(message) == 1


@pytest.mark.parametrize("arguments", [["backward", "x.npz"], ["trace", "x.npz"]])
def test_row_15_dout_of_another_shape(attn, folder, arguments):
    (folder / "x.npz").write_bytes(states(dout=DEC[..., :2]))
    result = attn(*arguments)
    message = "x.npz: dout is (2, 3, 2), expected the shape of the result, (2, 3, 3)"
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: {message}")


def test_a_file_without_a_query_has_no_convention(attn, folder):
    (folder / "x.npz").write_bytes(states())
    assert attn("convention", "x.npz").err.startswith("error: x.npz: output is missing")


WRITERS = {
    "forward": ["forward", "in.npz", "-o", "@.npz"],
    "backward": ["backward", "in.npz", "-o", "@.safetensors"],
    "trace": ["trace", "in.npz", "-o", "@.npz"],
    **{
        kind: ["show-weights", "in.npz", "--export", f"@.{kind}"]
        for kind in ("csv", "md", "json", "svg", "html", "png")
    },
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("row", ["27", "28", "29", "34", "folder", "loop", "long"])
def test_outputs_are_checked_before_any_work(attn, folder, writer, row):
    """Nothing is read: the input is no file of tensors, which nobody notices."""
    (folder / "in.npz").write_bytes(b"what is never read")
    *command, given = WRITERS[writer]
    ending = given.removeprefix("@")
    (folder / f"there{ending}").write_bytes(b"old")
    os.link("in.npz", f"same{ending}")
    (folder / f"folder{ending}").mkdir()
    os.symlink(f"loop{ending}", f"loop{ending}")
    path, message, *options = {
        "27": (f"there{ending}", "exists already"),
        "28": (f"same{ending}", "is an input of this command", "--force"),
        "29": (f"missing/x{ending}", "the folder .*missing does not exist".replace(".*", "")),
        "34": ("x.dat", "the ending .dat, expected one of"),
        "folder": (f"folder{ending}", "is a folder, expected a file name", "--force"),
        "loop": (f"loop{ending}", "cannot be written: too many levels of symbolic links"),
        "long": (f"{'n' * 300}{ending}", "cannot be written: file name too long"),
    }[row]
    result = attn(*command, path, *options)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: {path}: ")
    assert all(part in result.err for part in message.split("the folder ")[-1:])
    assert (folder / f"there{ending}").read_bytes() == b"old"
    assert (folder / "in.npz").read_bytes() == b"what is never read"


def masked(value):
    mask = np.zeros((3, 4))
    mask[1, 2] = value
    return states(mask=mask)


@pytest.mark.parametrize("reader", WEIGHTS)
def test_row_17_a_float_mask_hides_with_minus_infinity(attn_on, reader):
    result = attn_on(reader, "x.npz", masked(-np.inf))
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("reader", WEIGHTS)
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_row_17_no_other_non_finite_number_is_taken_in_a_mask(attn_on, reader, value):
    result = attn_on(reader, "x.npz", masked(value))
    assert (result.code, result.out) == (2, "")
    message = f"x.npz: mask holds 1 non-finite value, the first ({value}) at [1, 2]"
    assert result.err.splitlines()[0] == f"error: {message}"
    assert "--allow-nonfinite" in result.err


def test_row_17_masks_beside_a_file_are_held_to_the_same(attn, folder):
    (folder / "x.npz").write_bytes(states())
    for value, code in ((-np.inf, 0), (np.inf, 2), (np.nan, 2)):
        mask = np.zeros((3, 4))
        mask[1, 2] = value
        np.save("mask.npy", mask)
        result = attn("forward", "x.npz", "--mask", "mask.npy")
        assert result.code == code
        assert ("at [1, 2]" in result.err) == (code == 2)


def test_matrices_without_rows_are_not_listed_for_ever(attn, folder):
    np.save("w.npy", np.zeros((10**6, 10**6, 0, 5)))
    result = attn("show-weights", "w.npy")
    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert "w.npy: damaged: declares float64 (1000000, 1000000, 0, 5)" in result.err
