"""Writing: the old file or the new one, never half of one."""

import os
import shutil
import stat
import subprocess
import sys
import threading

import pytest

from attncli.errors import FileError
from attncli.files.atomic import check_output, replacing


def write(path, data, **options):
    with replacing(str(path), **options) as stream:
        stream.write(data)


def test_new_file_follows_the_umask(folder):
    old = os.umask(0o027)
    try:
        write(folder / "new", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((folder / "new").stat().st_mode) == 0o640
    assert os.listdir(folder) == ["new"]


def test_existing_file_is_refused_without_force_and_keeps_its_mode_with_it(folder):
    file = folder / "file"
    file.write_bytes(b"old")
    file.chmod(0o604)
    with pytest.raises(FileError, match="exists already"):
        write(file, b"new")
    assert file.read_bytes() == b"old"
    write(file, b"new", force=True)
    assert file.read_bytes() == b"new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o604


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, OSError(28, "full")])
def test_whatever_is_raised_the_old_file_stays_and_nothing_else(folder, error):
    file = folder / "file"
    file.write_bytes(b"old")

    def fail():
        with replacing(str(file), force=True) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises((FileError, ValueError, KeyboardInterrupt, SystemExit)):
        fail()
    assert file.read_bytes() == b"old"
    assert os.listdir(folder) == ["file"]


def test_symbolic_link_stays_and_its_target_is_replaced(folder):
    (folder / "data").mkdir()
    target = folder / "data" / "target"
    target.write_bytes(b"old")
    link = folder / "link"
    link.symlink_to(target)
    write(link, b"new", force=True)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert os.listdir(folder / "data") == ["target"]


def test_pipe_is_written_directly(folder):
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    got = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write(pipe, b"through")
    reader.join(10)
    assert got == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_file_that_appears_meanwhile_is_not_replaced(folder):
    file = folder / "file"

    def race():
        with replacing(str(file)) as stream:
            stream.write(b"ours")
            file.write_bytes(b"theirs")

    with pytest.raises(FileError, match="exists already"):
        race()
    assert file.read_bytes() == b"theirs"
    assert os.listdir(folder) == ["file"]


@pytest.mark.parametrize("force", [False, True])
def test_folder_that_goes_away_meanwhile(folder, force):
    (folder / "data").mkdir()

    def lose():
        with replacing("data/file", force=force) as stream:
            stream.write(b"ours")
            shutil.rmtree("data")

    with pytest.raises(FileError, match="data/file: cannot be written: no such file or directory"):
        lose()
    assert os.listdir(folder) == []


@pytest.mark.parametrize("force", [False, True])
def test_file_that_becomes_a_folder_meanwhile(folder, force):
    def turn():
        with replacing("file", force=force) as stream:
            stream.write(b"ours")
            os.mkdir("file")

    with pytest.raises(FileError, match=r"^file: (cannot be written: is a|exists already)"):
        turn()
    assert os.listdir(folder) == ["file"]
    assert os.listdir("file") == []


def test_full_disk_leaves_the_old_file(folder):
    """A limit on the size of files fails at a byte in the middle, as a full disk does."""
    (folder / "file").write_bytes(b"old")
    code = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
from attncli.errors import FileError
from attncli.files.atomic import replacing
try:
    with replacing({str(folder / "file")!r}, force=True) as stream:
        stream.write(b"x" * 100_000)
except FileError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot be written: file too large" in done.stdout
    assert (folder / "file").read_bytes() == b"old"
    assert os.listdir(folder) == ["file"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing/out", "the folder .* does not exist"),
        (".", "is a folder"),
        ("in", "is an input of this command"),
        ("link-to-in", "is an input of this command"),
        ("a\0b", "is not a file name"),
        ("", "is not a file name"),
    ],
)
def test_outputs_refused_before_any_work(folder, path, message):
    (folder / "in").write_bytes(b"input")
    (folder / "link-to-in").symlink_to("in")
    with pytest.raises(FileError, match=message):
        check_output(path, force=True, inputs=["in"])


def test_hard_link_to_an_input_is_an_input(folder):
    (folder / "in").write_bytes(b"input")
    os.link("in", "other")
    with pytest.raises(FileError, match="is an input"):
        check_output("other", force=True, inputs=["in"])


def test_read_only_folder_is_said(folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *args: False)  # root may write anywhere
    with pytest.raises(FileError, match="cannot be written to"):
        check_output("out")


@pytest.mark.parametrize("force", [False, True], ids=["new", "replaced"])
def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(
    folder, monkeypatch, force
):
    if force:
        (folder / "file").write_bytes(b"old")
    steps = []

    def noting(name):
        real = getattr(os, name)

        def call(*arguments, **options):
            if name == "fsync":
                what = os.fstat(arguments[0])
                kind = "folder" if stat.S_ISDIR(what.st_mode) else what.st_size
                steps.append(("fsync", what.st_ino, kind))
            else:
                steps.append(("name", os.stat(arguments[0]).st_ino, os.fspath(arguments[1])))
            return real(*arguments, **options)

        return call

    for name in ("fsync", "link", "rename", "replace"):
        monkeypatch.setattr(os, name, noting(name))
    write("file", b"x" * 1_009, force=force)
    inode = os.stat("file").st_ino
    assert steps == [
        ("fsync", inode, 1_009),
        ("name", inode, str(folder / "file")),
        ("fsync", os.stat(folder).st_ino, "folder"),
    ]
