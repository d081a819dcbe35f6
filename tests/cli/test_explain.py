"""``attn explain``: the list, one mistake, and what leads there."""

import pytest
from running import run_attn

from attncli.checking.diagnosing.mistakes import KINDS, MISTAKES
from attncli.views.gradient_report import EXPLAINED

WRONG = """
import numpy as np


def attend(query, key, value):
    s = query @ key.swapaxes(-1, -2)
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    a = e / e.sum(axis=-1, keepdims=True)
    return a @ value, (query, key, value, a)


def attend_backward(dout, cache):
    query, key, value, a = cache
    da = dout @ value.swapaxes(-1, -2)
    ds = a * (da - np.sum(a * da, axis=-1, keepdims=True))
    return ds @ key, ds.swapaxes(-1, -2) @ query, a.swapaxes(-1, -2) @ dout
"""


def test_the_list_names_every_mistake_by_kind():
    lines = run_attn("explain").out.splitlines()
    assert [line.split("  ")[1] for line in lines if line.startswith("  ")] == [
        mistake.name for mistake in MISTAKES
    ]
    for kind, members in KINDS.items():
        assert f"{kind} ({len(members)})" in lines


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_list_has_a_line_for_each_on_every_terminal(columns):
    lines = run_attn("explain", columns=columns).out.splitlines()
    names = {mistake.name for mistake in MISTAKES if len(mistake.name) < columns - 4}
    begun = {line.strip().split("  ")[0] for line in lines}
    assert names <= begun


def test_one_mistake_has_formulas_a_remedy_and_numbers():
    result = run_attn("explain", "scale-missing")
    assert result.code == 0
    for part in ("meant", "computed", "np.sqrt", "what it looks like", "out meant", "out computed"):
        assert part in result.out


def test_json_holds_the_example_in_numbers():
    found = run_attn("explain", "scale missing", "--json").json
    assert found["name"] == "scale missing"
    assert found["example"]["meant"]["out"] != found["example"]["computed"]["out"]
    listed = run_attn("explain", "--json").json["mistakes"]
    assert [one["name"] for one in listed] == [mistake.name for mistake in MISTAKES]


def test_a_name_that_is_nearly_right_is_an_error_with_the_right_command():
    result = run_attn("explain", "scale mising")
    assert result.code == 2
    assert "hint:  attn explain scale-missing" in result.err


def test_a_diagnosis_ends_with_the_command_that_explains_it(tmp_path):
    (tmp_path / "mine.py").write_text(WRONG)
    out = run_attn("check", f"{tmp_path}/mine.py:attend", "--as", "scaled-dot-product").out
    (command,) = [line.strip() for line in out.splitlines() if "attn explain" in line]
    assert run_attn(*command.split()[1:]).out.startswith("scale missing")


def test_what_a_gradient_check_names_is_in_the_catalogue():
    assert set(EXPLAINED.values()) <= {mistake.slug for mistake in MISTAKES}


def test_a_gradient_check_ends_with_the_command_that_explains(tmp_path):
    (tmp_path / "mine.py").write_text(WRONG.replace("return ds @ key", "return -ds @ key"))
    out = run_attn("gradcheck", f"{tmp_path}/mine.py:attend").out
    assert "attn explain sign-of-the-gradients-reversed" in out
