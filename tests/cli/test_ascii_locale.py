"""A locale that has ASCII alone gets no more than that, unless Python is told what to write."""

import os
import subprocess
import sys

import pytest
from conftest import SAMPLES

NAMES = ("LC_ALL", "LC_CTYPE", "LANG", "PYTHONUTF8", "PYTHONIOENCODING")


def printed(*arguments, **said):
    surroundings = {name: text for name, text in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-m", "attncli", *arguments],
        env={**surroundings, **said}, capture_output=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("said", "ascii_alone"),
    [
        ({"LC_ALL": "C"}, True),
        ({"LANG": "C"}, True),
        ({"LC_ALL": "POSIX", "LANG": "C.UTF-8"}, True),
        ({"PYTHONIOENCODING": "ascii"}, True),
        ({"LC_ALL": "C", "PYTHONUTF8": "1"}, False),
        ({"LC_ALL": "C", "PYTHONIOENCODING": "utf-8"}, False),
        ({"LC_ALL": "C.UTF-8", "LANG": "C"}, False),
        ({}, False),
    ],
)
def test_the_locale_or_python_says_what_is_written(said, ascii_alone):
    help_page = printed("forward", "--help-all", **said)
    assert help_page.isascii() == ascii_alone
    assert help_page.isascii() or "1/√H" in help_page.decode()


def test_every_stream_keeps_to_it():
    trace = printed("trace", str(SAMPLES / "by_hand.npz"), LC_ALL="C")
    error = printed("bench", "--shapes", "1,2,3", "--max-memory", "9", LC_ALL="C")
    assert trace.isascii()
    assert b"T x T" in error
    assert error.isascii()
