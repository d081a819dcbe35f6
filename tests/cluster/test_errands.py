"""An errand is run in a process of its own, beside its files, wherever it is run."""

import os
import time
from functools import partial

import pytest

from attncli.cluster.errands import Errand, run_errand
from attncli.errors import FileError
from attncli.files.source import open_source


def test_it_runs_where_its_files_are(folder):
    (folder / "a.txt").write_bytes(b"here")
    errand = Errand(partial(os.path.abspath, "a.txt"), str(folder), {"a.txt": b"here"})
    assert run_errand(errand) == str(folder / "a.txt")


def test_files_that_are_not_there_travel(folder):
    errand = Errand(partial(os.path.abspath, "x/a.txt"), str(folder), {"x/a.txt": b"there"})
    place = run_errand(errand)
    assert not place.startswith(str(folder))
    assert not os.path.exists(place)  # nothing of it stays
    assert run_errand(errand._replace(function=partial(os.path.getsize, "x/a.txt"))) == 5


def test_a_file_that_is_another_there_travels_too(folder):
    (folder / "a.txt").write_bytes(b"another")
    errand = Errand(partial(os.path.getsize, "a.txt"), str(folder), {"a.txt": b"mine"})
    assert run_errand(errand) == 4
    assert (folder / "a.txt").read_bytes() == b"another"


@pytest.mark.parametrize("path", ["../a.txt", "x/../../a.txt", "/nowhere/a.txt"])
def test_nothing_is_written_outside_of_the_folder_that_travels(folder, path):
    with pytest.raises(FileError, match="outside of the folder"):
        run_errand(Errand(os.getpid, str(folder), {path: b"x"}))


def test_each_is_another_process(folder):
    found = {run_errand(Errand(os.getpid, str(folder))) for _ in range(2)}
    assert len(found | {os.getpid()}) == 3


def test_one_that_ends_its_process_says_so(folder):
    with pytest.raises(RuntimeError, match="ended before it was done"):
        run_errand(Errand(partial(os._exit, 0), str(folder)))


def test_one_that_fails_gives_its_traceback(folder):
    with pytest.raises(RuntimeError, match=r"Traceback(.|\n)*FileNotFoundError"):
        run_errand(Errand(partial(os.path.getsize, "nothing"), str(folder)))


def test_what_is_wrong_with_what_it_was_given_is_said_as_here(folder):
    with pytest.raises(FileError, match="nothing") as raised:
        run_errand(Errand(partial(open_source, "nothing.npz"), str(folder)))
    assert (raised.value.hint, raised.value.path) == (None, "nothing.npz")


def test_one_that_nobody_waits_for_ends(folder):
    from attncli.processes import Process

    with Process("attncli.cluster.errands") as process:
        import pickle

        sleeping = pickle.dumps(partial(time.sleep, 600))
        process.channel.send({"folder": str(folder)}, [sleeping])
        process.channel.close()
        assert process.process.wait(60) == 1
