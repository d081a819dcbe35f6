"""Regions of arrays on a disk, read and written by whichever process is given them."""

import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attncli.errors import AttnError, AttnWarning, DataError, FileError, ParameterError
from attncli.files import regions
from attncli.files.contents import open_tensors
from attncli.files.reading import Reading
from attncli.files.writing import save

ARRAY = np.random.default_rng(0).normal(size=(5, 7, 11)).astype(np.float32)


def described(path, name, reading=None):
    return pickle.loads(pickle.dumps(regions.describe(open_tensors(path, reading), name)))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    np.save(folder / "c.npy", ARRAY)
    np.save(folder / "fortran.npy", np.asfortranarray(ARRAY.astype(">f8")))
    np.savez(folder / "stored.npz", before=np.zeros(3), x=ARRAY)
    save(str(folder / "x.safetensors"), {"x": ARRAY, "y": np.arange(3)})
    save(str(folder / "x.zarr"), {"x": ARRAY, "y": np.arange(3)})
    names = {"c.npy": "", "fortran.npy": ""}
    return [described(str(folder / one), names.get(one, "x")) for one in sorted(os.listdir(folder))]


@given(ends=st.tuples(*(st.tuples(*[st.integers(0, n)] * 2) for n in ARRAY.shape)))
@settings(max_examples=40, deadline=None)
def test_any_region_of_any_format_is_read_and_lies_in_memory_of_its_own(files, ends):
    index = tuple(slice(min(one), max(one)) for one in ends)
    for region in files:
        part = regions.read(region, index)
        np.testing.assert_array_equal(part, ARRAY[index])
        assert part.dtype.isnative
        while part is not None:
            assert not isinstance(part, np.memmap)
            part = part.base


def test_half_precision_is_widened_as_where_a_file_is_read_whole(folder):
    raw = np.array([0x3F80, 0xC020], "<u2").view("V2")
    np.save("raw.npy", raw)
    region = described("raw.npy", "", Reading(as_dtype="bfloat16"))
    assert region.dtype == np.float32
    np.testing.assert_array_equal(regions.read(region, (slice(1, 2),)), [-2.5])


def test_what_would_have_to_be_unpacked_whole_is_no_region(folder):
    np.savez_compressed("x.npz", x=ARRAY)
    with pytest.raises(FileError, match="x cannot be read in parts"):
        regions.describe(open_tensors("x.npz"), "x")


@pytest.mark.parametrize("path", ["x.npy", "x.npz", "x.zarr"])
def test_a_file_that_changed_since_it_was_described_is_refused(folder, path):
    save(path, {"x": ARRAY})
    region = described(path, "" if path == "x.npy" else "x")
    save(path, {"x": ARRAY + 1}, force=True)
    with pytest.raises(FileError, match="has changed since"):
        regions.read(region)


def test_a_number_that_is_none_is_named_by_its_region(folder):
    np.save("x.npy", np.array([0, 1, np.nan]))
    region = described("x.npy", "")
    regions.read(region, (slice(0, 2),))
    with pytest.raises(DataError, match=r"\[1:3\] holds 1 non-finite value, .* at \[1\]"):
        regions.read(region, (slice(1, 3),))


# Outputs


def rows(start, stop):
    return (slice(None), slice(start, stop))


OUT = np.arange(2 * 13 * 3, dtype=np.float32).reshape(2, 13, 3)


def begin(path, **options):
    return regions.create(path, {"out": (OUT.shape, "f4", (2, 5, 3))}, {"block": 5}, **options)


@pytest.mark.parametrize("path", ["o.npy", "o.zarr"])
def test_an_output_appears_once_it_is_complete(folder, path):
    with begin(path) as output:
        region = pickle.loads(pickle.dumps(output.regions["out"]))
        for start in (10, 0, 5):
            regions.write(region, rows(start, start + 5), OUT[rows(start, start + 5)])
            assert not os.path.exists(path)
        output.finish()
    assert os.listdir() == [path]
    file = open_tensors(path)
    np.testing.assert_array_equal(file.numbers(next(iter(file))), OUT)


@pytest.mark.parametrize("path", ["o.npy", "o.zarr"])
def test_what_is_not_finished_leaves_nothing(folder, path):
    with begin(path) as output:
        regions.write(output.regions["out"], rows(0, 5), OUT[rows(0, 5)])
    assert os.listdir() == []


@pytest.mark.parametrize("path", ["o.npy", "o.zarr"])
def test_who_still_writes_to_what_was_given_up_makes_nothing_of_it(folder, path):
    """As a worker elsewhere does, which nobody can stop in the midst of a task."""
    with begin(path) as output:
        pass
    with pytest.raises(FileError, match="no such file"):
        regions.write(output.regions["out"], rows(0, 5), OUT[rows(0, 5)])
    assert os.listdir() == []


@pytest.mark.parametrize("path", ["o.npy", "o.zarr"])
def test_what_is_there_is_replaced_by_force_alone(folder, path):
    save(path, {"old": OUT[:1, 0, 0]})
    with pytest.raises(FileError, match="exists already"):
        begin(path)
    with begin(path, force=True) as output:
        regions.write(output.regions["out"], (), OUT)
        assert open_tensors(path).shape(next(iter(open_tensors(path)))) == (1,)
        output.finish()
    file = open_tensors(path)
    np.testing.assert_array_equal(file.numbers(next(iter(file))), OUT)
    assert os.listdir() == [path]


@pytest.mark.parametrize("path", ["o.npy", "o.zarr"])
def test_what_came_into_being_meanwhile_is_kept(folder, path):
    with begin(path) as output:
        regions.write(output.regions["out"], (), OUT)
        save(path, {"old": OUT[:1, 0, 0]})
        with pytest.raises(FileError, match="exists already"):
            output.finish()
    assert open_tensors(path).shape(next(iter(open_tensors(path)))) == (1,)
    assert os.listdir() == [path]


def test_two_never_write_one_chunk(folder):
    with begin("o.zarr") as output:
        for region in (rows(0, 4), rows(1, 5), rows(10, 12)):
            with pytest.raises(ValueError, match="not of whole chunks of 5"):
                regions.write(output.regions["out"], region, OUT[region])
        regions.write(output.regions["out"], rows(10, 13), OUT[rows(10, 13)])


def test_a_region_that_was_never_written_is_no_zeros(folder):
    with begin("o.zarr") as output:
        regions.write(output.regions["out"], rows(0, 10), OUT[rows(0, 10)])
        with pytest.raises(RuntimeError, match="c/0/2/0 was not written"):
            output.finish()
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("path", "said", "hint"),
    [
        ("o.npz", "cannot be filled in parts", "-o o.zarr"),
        ("o.safetensors", "cannot be filled in parts", "-o o.zarr"),
        ("o.dat", "expected one of .npz, .npy", "is o.npz meant?"),
    ],
)
def test_formats_that_are_written_in_one_go_are_refused(folder, path, said, hint):
    with pytest.raises(FileError, match=said) as error:
        begin(path)
    assert error.value.hint == hint


def test_an_npy_file_holds_one_array_and_says_nothing_of_what_is_done(folder):
    with pytest.raises(FileError, match="holds one array"):
        regions.create("o.npy", {"a": ((3,), "f4", (3,)), "b": ((3,), "f4", (3,))}, {})
    with pytest.raises(ParameterError, match="which rows are done"):
        begin("o.npy", resume=True)


@pytest.mark.parametrize("path", ["o.npy", "o.zarr"])
def test_a_full_disk_is_said_before_any_work(folder, path):
    huge = (1 << 20, 1 << 30)
    with pytest.raises(FileError, match=f"^{path}: (no space left on device|file too large)"):
        regions.create(path, {"out": (huge, "f4", (1, 1 << 20))}, {})
    assert os.listdir() == []


def test_an_unfinished_store_is_found_again_by_what_it_says(folder):
    first = begin("o.zarr", resume=True)
    regions.write(first.regions["out"], rows(5, 10), OUT[rows(5, 10)])
    with pytest.raises(FileError, match="another run is writing it"):
        begin("o.zarr", resume=True)
    first.release()  # as its end by a signal would
    with begin("o.zarr", resume=True) as again:
        region = again.regions["out"]
        assert again.temporary == first.temporary
        assert [regions.is_written(region, rows(n, n + 5)) for n in (0, 5, 10)] == [0, 1, 0]
    other = regions.create("p.zarr", {"out": (OUT.shape, "f4", (2, 5, 3))}, {"block": 5})
    other.release()
    with begin("o.zarr", resume=True) as fresh:  # another's name, or other attributes: not this one
        assert not regions.is_written(fresh.regions["out"], rows(5, 10))
    with (
        pytest.warns(AttnWarning, match=f"{other.temporary}: not gone on with"),
        regions.create(
            "p.zarr", {"out": (OUT.shape, "f4", (2, 5, 3))}, {"block": 6}, resume=True
        ) as fresh,
    ):
        assert fresh.temporary != other.temporary


@pytest.mark.parametrize("name", ["../x", "", "a//b", "__x", "out/x", "."])
def test_arrays_are_not_written_outside_or_into_each_other(folder, name):
    with pytest.raises(AttnError, match=r"o\.zarr"):
        regions.create("o.zarr", {"out": ((3,), "f4", (3,)), name: ((3,), "f4", (3,))}, {})
    assert os.listdir() == []
