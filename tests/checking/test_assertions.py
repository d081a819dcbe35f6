"""assert_correct and assert_gradients in the tests of others."""

import subprocess
import sys

import pytest

import attncli
from attncli.errors import TargetError
from attncli.layers import Attention, TimeAttention

TESTS = """
import unittest

import attncli
from attncli.layers import Attention

class Mine(Attention):
    def backward(self, dout):
        dhs, dh = super().backward(dout)
        return -dhs, dh

class TestMine(unittest.TestCase):
    def test_numbers(self):
        attncli.assert_correct(Mine, layer="attention")

    def test_gradients(self):
        attncli.assert_gradients(Mine)

    def test_right(self):
        attncli.assert_correct(Attention)
        attncli.assert_gradients(Attention)
        attncli.assert_close([1.0], [1.0])

    def test_close(self):
        attncli.assert_close([1.0], [2.0])
"""


class Negated(Attention):
    def backward(self, dout):
        dhs, dh = super().backward(dout)
        return -dhs, -dh


class Raising(Attention):
    def forward(self, hs, h):
        raise ValueError("not yet")


def test_what_is_right_passes_in_silence(capsys):
    attncli.assert_correct(TimeAttention)
    attncli.assert_gradients(TimeAttention)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["assert_correct", "assert_gradients"])
def test_what_is_wrong_raises_with_the_diagnosis(name):
    with pytest.raises(AssertionError) as raised:
        getattr(attncli, name)(Negated)
    first, _, rest = str(raised.value).partition("\n\n")
    assert first.startswith("Negated")
    assert rest.startswith("Negated")
    assert "the sign is reversed" in rest or "sign of the gradients reversed" in rest


def test_options_are_those_of_the_check():
    with pytest.raises(AssertionError, match="scale"):
        attncli.assert_correct(TimeAttention, scale=0.25)


@pytest.mark.parametrize("name", ["assert_correct", "assert_gradients"])
def test_code_that_fails_is_wrong_too(name):
    with pytest.raises(AssertionError, match="ValueError: not yet"):
        getattr(attncli, name)(Raising)


def test_a_question_that_makes_no_sense_is_no_failed_test():
    with pytest.raises(TargetError):
        attncli.assert_correct(3)


def run(folder, *command):
    (folder / "test_mine.py").write_text(TESTS)
    found = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, cwd=folder
    )
    assert found.returncode == 1
    return found.stdout + found.stderr


def test_under_pytest_the_failure_is_at_the_callers_line(folder):
    said = run(folder, "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py")
    assert "3 failed, 1 passed" in said
    assert "test_mine.py:14: AssertionError" in said
    assert "1 of 2 gradient tensors wrong" in said
    assert "attncli/checking" not in said


def test_under_unittest_it_is_a_failure_without_our_frames(folder):
    said = run(folder, "unittest", "test_mine")
    assert "FAILED (failures=3)" in said
    assert "1 of 2 gradient tensors wrong" in said
    assert "attncli/checking/assertions" not in said
