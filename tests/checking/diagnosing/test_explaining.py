"""Every mistake can be explained, with an example in which it makes a difference."""

import numpy as np
import pytest

from attncli.checking.diagnosing.explaining import explain, known
from attncli.checking.diagnosing.mistakes import MISTAKES
from attncli.errors import ParameterError


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_explained_with_what_differs(mistake):
    found = explain(mistake.slug)
    assert found.name == mistake.name
    assert found.remedy
    assert "{" not in found.meant + found.computed + found.why
    assert found.shows
    if mistake.symptom:
        assert found.example is None
        return
    example = found.example
    assert example.computed.keys() == example.meant.keys() != set()
    for name, meant in example.meant.items():
        computed = example.computed[name]
        assert computed.shape != meant.shape or not np.array_equal(computed, meant)


def test_names_are_found_as_they_are_said_and_as_they_are_typed():
    for name in ("scale 1/√H", "SCALE 1/√H", "scale-1-sqrt-h"):
        assert explain(name).name == "scale 1/√H"


def test_no_two_mistakes_are_typed_alike():
    slugs = [one.slug for one in known()]
    assert len(set(slugs)) == len(slugs) == len(MISTAKES) > 150


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("softcp missing", "attn explain softcap-missing"),
        ("polarity", "attn explain mask-polarity-reversed"),
        ("keys dropped", "attn explain keys-left-out"),
        ("lse", "attn explain log-sum-exp-halved"),
        ("sofmax", "attn explain softmax-missing"),
    ],
)
def test_the_nearest_name_is_suggested(typed, nearest):
    with pytest.raises(ParameterError, match="did you mean") as raised:
        explain(typed)
    assert raised.value.hint == nearest


def test_where_nothing_is_near_the_list_is_named():
    with pytest.raises(ParameterError) as raised:
        explain("xyzzy")
    assert raised.value.hint == "attn explain"
