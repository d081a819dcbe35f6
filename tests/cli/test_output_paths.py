"""Where the outputs of any command may go: refused before anything is read or computed."""

import os
import socket
from itertools import combinations

import click
import pytest

from attncli.cli.main import attn as group

# A command line of each that writes, on an input that nobody could read.
BEGUN = {
    "forward": ["in.npz"], "backward": ["in.npz"], "trace": ["in.npz"], "show-weights": ["in.npz"],
    "show-mask": ["in.npz"], "check": ["in.py"], "gradcheck": ["in.py"], "demo": [],
}  # fmt: skip
ENDINGS = {"--output": ".npz", "--export": ".csv", "--report": ".json"}


def _writing():
    context = click.Context(group)
    for name in group.list_commands(context):
        for param in group.get_command(context, name).params:
            option = max(param.opts, key=len)
            if option in ENDINGS:
                yield name, option


WRITING = list(_writing())
SEVERAL = [one for one in WRITING if one[1] != "--output"]


@pytest.fixture(autouse=True)
def unreadable(folder):
    for name in ("in.npz", "in.py"):
        (folder / name).write_bytes(b"1/0 \0 what is never read")


def test_every_command_that_writes_is_here():
    assert {name for name, _ in WRITING} == set(BEGUN)


def a_device(path):
    os.symlink("/dev/zero", path)


def a_loop(path):
    os.symlink(path, path)


def a_loop_of_two(path):
    os.symlink(f"other{path}", path)
    os.symlink(path, f"other{path}")


def a_link_to_a_folder(path):
    os.mkdir("folder")
    os.symlink("folder", path)


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path)


REFUSED = {
    a_device: "is a device, expected a file, a pipe or /dev/null",
    a_socket: "is a device, expected a file, a pipe or /dev/null",
    a_loop: "cannot be written: too many levels of symbolic links",
    a_loop_of_two: "cannot be written: too many levels of symbolic links",
    os.mkdir: "is a folder, expected a file name",
    a_link_to_a_folder: "is a folder, expected a file name",
}


@pytest.mark.parametrize(("command", "option"), WRITING)
@pytest.mark.parametrize("make", REFUSED)
def test_what_is_no_file(attn, command, option, make):
    path = f"x{ENDINGS[option]}"
    make(path)
    before = sorted(os.listdir())
    for forced in ([], ["--force"]):
        result = attn(command, *BEGUN[command], option, path, *forced)
        assert (result.code, result.out) == (2, "")
        assert result.err == f"error: {path}: {REFUSED[make]}\n"
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(("command", "option"), SEVERAL)
def test_two_names_of_one_file(attn, folder, command, option):
    ending = ENDINGS[option]
    names = [f"x{ending}", f"./x{ending}", f"{folder}//x{ending}", f"hard{ending}", f"soft{ending}"]
    (folder / names[0]).write_text("old")
    os.link(names[0], names[3])
    os.symlink(names[3], names[4])
    for one, other in combinations(names, 2):
        words = [option, one, option, other, "--force"]
        result = attn(command, *BEGUN[command], *words)
        assert (result.code, result.out) == (2, "")
        assert result.err.splitlines()[0] == f"error: {option} {one}: the same file is named twice"
    os.remove(names[0])
    os.remove(names[3])  # nothing is there, and the link leads to what would be
    result = attn(command, *BEGUN[command], option, names[4], option, names[3])
    assert result.err.splitlines()[0] == f"error: {option} {names[4]}: the same file is named twice"


@pytest.mark.parametrize("option", ["--tokens", "--tokens-enc", "--tokens-dec", "--diff"])
def test_no_file_that_is_read_is_written_to(attn, folder, option):
    (folder / "labels.json").write_text('["a"]')
    words = [option, "labels.json", "--export", "./labels.json", "--force"]
    result = attn("show-weights", "in.npz", *words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ./labels.json: is an input of this command")
    assert (folder / "labels.json").read_text() == '["a"]'
