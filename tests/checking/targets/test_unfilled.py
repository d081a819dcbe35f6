"""Memory that is allocated and never filled."""

import sys
import types

import numpy as np
import pytest

from attncli.checking.targets.calling import Calls, fresh_memory
from attncli.checking.targets.unfilled import describe_unfilled


@pytest.fixture
def learner(monkeypatch):
    module = types.ModuleType("learner")
    monkeypatch.setitem(sys.modules, "learner", module)
    source = "from numpy import empty, empty_like as alike\nkept = empty"
    exec(compile(source, "learner.py", "exec"), vars(module))
    return module


def test_numpys_functions_are_found_under_any_name_of_any_module(learner):
    with fresh_memory(2.0):
        assert learner.empty(1) == learner.kept(1) == learner.alike([0.5]) == np.empty(1) == [2.0]
    assert learner.empty is learner.kept is np.empty
    assert learner.alike is np.empty_like


def test_they_are_given_back_when_the_code_raises(learner):
    before = np.empty, learner.alike
    with pytest.raises(ValueError, match="theirs"), fresh_memory(0.0):
        raise ValueError("theirs")
    assert (np.empty, learner.alike) == before


def test_what_is_never_filled_is_found_though_empty_like_was_imported_by_itself(learner):
    calls = Calls()

    def run():
        with calls.circumstanced():
            return compute()

    def compute():
        dh = learner.alike(np.zeros((3, 4)))
        dh[:-1] = 1.0
        return [dh]

    assert "dh (only at item 2 of 3)" in describe_unfilled(calls, run, ["dh"])
