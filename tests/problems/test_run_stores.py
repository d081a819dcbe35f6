"""A run in a store says where its inputs are: beside it they are read, elsewhere only if named."""

import json
import os

import numpy as np
import pytest

from attncli.core.extras import Extras
from attncli.core.semantics import Semantics
from attncli.errors import FileError
from attncli.files import contents
from attncli.files.contents import open_tensors
from attncli.files.reading import Reading
from attncli.files.regions import create, write
from attncli.operations import Execution
from attncli.problems.from_files import problem_in, read_problem
from attncli.problems.request import Request

T, H = 5, 3
rng = np.random.default_rng(0)
INPUTS = {name: rng.normal(size=(1, T, H)) for name in ("query", "key", "value")}


def request_of(path, **parts):
    return Request(
        file=str(path), layer=None, dtype=None, execution=Execution(), semantics=Semantics(),
        extras=Extras(), heads={}, layout={}, rotary={}, sizes={}, seed=None,
        parts={name: str(one) for name, one in parts.items()}, reading=Reading(),
    )  # fmt: skip


def stored_run(path, source, **names):
    """Write a store as a run leaves it, whose inputs are in another file."""
    inputs = {name: {"path": str(source), "name": names.get(name, name)} for name in INPUTS}
    return store(path, inputs)


def store(path, inputs):
    options = {"attn": "0", "layer": "scaled-dot-product", "inputs": inputs}
    out = np.zeros((1, T, H))
    arrays = {"out": (out.shape, out.dtype, out.shape)}
    with create(str(path), arrays, {"options": json.dumps(options)}) as output:
        write(output.regions["out"], (), out)
        output.finish()
    return path


@pytest.fixture
def places(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        np.savez(folder / "in.npz", **INPUTS)
    return here, there


@pytest.mark.parametrize("absolute", [False, True])
def test_inputs_beside_a_run_are_those_of_the_run(absolute, places):
    here, _ = places
    run = stored_run(here / "run.zarr", here / "in.npz" if absolute else "in.npz")
    problem = read_problem(request_of(run))
    for name, array in INPUTS.items():
        np.testing.assert_array_equal(problem.inputs[name], array)
    assert problem_in(open_tensors(str(run))).inputs.keys() == INPUTS.keys()


def test_inputs_under_other_names_are_found(places):
    here, _ = places
    np.savez(here / "other.npz", a=INPUTS["query"], key=INPUTS["key"], value=INPUTS["value"])
    problem = read_problem(request_of(stored_run(here / "run.zarr", "other.npz", query="a")))
    np.testing.assert_array_equal(problem.inputs["query"], INPUTS["query"])


@pytest.mark.parametrize("way", ["absolute", "relative", "a link"])
def test_inputs_elsewhere_are_read_only_if_somebody_names_their_file(way, places):
    here, there = places
    (here / "link.npz").symlink_to(there / "in.npz")
    path = {"absolute": there / "in.npz", "relative": "../there/in.npz", "a link": "link.npz"}[way]
    run = stored_run(here / "run.zarr", path)
    for read in (lambda: read_problem(request_of(run)), lambda: problem_in(open_tensors(str(run)))):
        with pytest.raises(FileError, match=r"query is in .*, which is not in its folder") as told:
            read()
        assert told.value.hint == f"attn forward {run} --query {there / 'in.npz'}"
    problem = read_problem(request_of(run, query=there / "in.npz"))
    np.testing.assert_array_equal(problem.inputs["value"], INPUTS["value"])


def test_an_input_that_is_named_is_in_place_of_the_run_s(places):
    here, there = places
    np.save(here / "query.npy", 2 * INPUTS["query"])
    run = stored_run(here / "run.zarr", there / "in.npz")
    parts = {"query": here / "query.npy", "key": there / "in.npz"}
    problem = read_problem(request_of(run, **parts))
    np.testing.assert_array_equal(problem.inputs["query"], 2 * INPUTS["query"])
    np.testing.assert_array_equal(problem.inputs["value"], INPUTS["value"])


def test_what_is_beside_and_cannot_be_read_says_so(places):
    here, _ = places
    run = stored_run(here / "run.zarr", "gone.npz")
    assert "out" in open_tensors(str(run))
    with pytest.raises(FileError, match=r"gone.npz: no such file"):
        read_problem(request_of(run))


def test_runs_that_name_each_other_are_no_circle(places):
    here, _ = places
    stored_run(here / "a.zarr", "b.zarr")
    run = stored_run(here / "b.zarr", "a.zarr")
    with pytest.raises(FileError, match=r"a.zarr: query is missing"):
        read_problem(request_of(run))


@pytest.mark.parametrize("inputs", [3, {"query": 3}, {"query": {"path": "x\0"}}, [["query"]], None])
def test_inputs_that_are_none_are_none(inputs, places):
    assert open_tensors(str(store(places[0] / "run.zarr", inputs))).elsewhere == {}


def test_inputs_in_a_pipe_are_not_waited_for(places):
    os.mkfifo(places[0] / "pipe")
    with pytest.raises(FileError, match=r"query is in .*pipe, which is no file"):
        read_problem(request_of(stored_run(places[0] / "run.zarr", "pipe")))


def test_options_of_any_depth_are_an_error_of_ours(places):
    with create(str(places[0] / "run.zarr"), {}, {"options": '{"a":' * 5000}) as output:
        output.finish()
    with pytest.raises(FileError, match="its options: lists in lists, more than 1000 deep"):
        _ = open_tensors(str(places[0] / "run.zarr")).options


def test_a_file_that_many_inputs_are_in_is_opened_once(places, monkeypatch):
    here, opened = places[0], []
    run = store(here / "run.zarr", {f"x{n}": {"path": "in.npz", "name": "key"} for n in range(99)})
    once = contents.open_source

    def open_source(name, **how):
        opened.append(name)
        return once(name, **how)

    monkeypatch.setattr(contents, "open_source", open_source)
    assert "x98" in open_tensors(str(run))
    assert len(opened) == 1
