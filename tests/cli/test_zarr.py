"""Every command takes a zarr store as it takes any file."""

import json
import os

import numpy as np
import pytest

from attncli.files.contents import open_tensors
from attncli.files.writing import save

COMMANDS = ["forward", "backward", "show-weights", "show-mask", "trace", "convention"]


@pytest.fixture
def run(attn, folder):
    """One run, as an archive and as a store."""
    for file in ("run.npz", "run.zarr"):
        assert (
            attn("forward", "--causal", "--seed", 3, "-o", file).err == f"wrote the run to {file}\n"
        )
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_a_store_says_what_the_same_archive_says(attn, run, command):
    of_archive, of_store = (attn(command, file, columns=80) for file in ("run.npz", "run.zarr"))
    assert of_store.code == of_archive.code == 0
    assert of_store.out == of_archive.out.replace("run.npz", "run.zarr")


def test_the_store_of_a_run_is_a_run(attn, run):
    file = open_tensors("run.zarr")
    assert (file.options["causal"], file.options["seed"]) == ("upper_left", 3)
    assert attn("backward", "run.zarr", "-o", "back.zarr").code == 0
    assert "dhs_enc" in open_tensors("back.zarr")
    assert attn("compare", "run.zarr", "run.npz").code == 0


def test_one_number_in_the_last_chunk_is_a_difference(attn, folder):
    array = np.zeros((3, 1100, 1300))
    save("a.zarr", {"out": array})
    array[-1, -1, -1] = 1
    save("b.zarr", {"out": array})
    assert len(os.listdir("a.zarr/out/c")) == 3
    assert attn("compare", "a.zarr", "a.zarr").code == 0
    result = attn("compare", "a.zarr", "b.zarr", "--json")
    assert result.code == 1
    assert result.json["tensors"][0]["outside"] == 1


def test_words_of_a_store_are_shown(attn, folder):
    words = np.array(["the", "猫", "[red]"])
    save("w.zarr", {"weights": np.full((1, 3, 3), 1 / 3), "tokens": words})
    assert "猫" in attn("show-weights", "w.zarr").out


def test_a_store_is_neither_replaced_without_force_nor_where_it_is_read(attn, run):
    for output, options in (("run.zarr", []), ("run.zarr", ["--force"])):
        result = attn("forward", "run.zarr", "-o", output, *options)
        assert (result.code, len(result.err.splitlines())) == (2, 2)
        assert "is an input of this command" in result.err
    result = attn("forward", "run.npz", "-o", "run.zarr")
    assert (result.code, result.err.splitlines()[0]) == (2, "error: run.zarr: exists already")
    assert attn("forward", "run.npz", "-o", "run.zarr", "--force").code == 0
    assert sorted(os.listdir()) == ["run.npz", "run.zarr"]


def claim(**changes):
    """Let an array of the store say something else of itself."""
    for file in ("run.zarr/hs_enc/zarr.json", "run.zarr/weights/zarr.json"):
        with open(file) as stream:
            told = json.load(stream)
        with open(file, "w") as stream:
            json.dump(told | changes, stream)


@pytest.mark.parametrize("command", ["forward", "show-weights", "trace"])
@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [10**6, 10**6, 1]},
        {"shape": [10**12, 5, 4]},
        {"codecs": [{"name": "numcodecs.pickle"}]},
        {"data_type": "string"},
        {"data_type": "complex64"},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [0, 0, 0]}}},
        {"fill_value": {"deep": [[]]}},
    ],
    ids=lambda changes: json.dumps(changes)[:30],
)
def test_a_hostile_store_is_one_line(attn, run, command, changes):
    claim(**changes)
    result = attn(command, "run.zarr", "--max-memory", "1GB")
    assert result.code == 2
    assert result.out == ""
    assert [line.partition(":")[0] for line in result.err.splitlines()] in (
        ["error"], ["error", "hint"],
    )  # fmt: skip
