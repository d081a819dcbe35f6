"""What fits on the screen."""

import pytest

from attncli.cli.screen import Screen


def test_what_does_not_fit_is_cut_with_a_line_that_says_so(capsys):
    screen = Screen(as_json=False, color="never", quiet=False, verbose=False)
    screen.show_at_most(4, "a\nb\nc\nd\ne", last="keys")
    assert capsys.readouterr().out.splitlines() == [
        "a",
        "b",
        "3 more lines: a taller window shows them",
        "keys",
    ]
    screen.show_at_most(4, "a\nb\nc", last="keys")
    assert capsys.readouterr().out.splitlines() == ["a", "b", "c", "keys"]


@pytest.mark.parametrize("columns", [0, 1, 20, 10**11])
def test_terminals_of_any_width(attn, columns):
    result = attn("forward", columns=columns)
    assert (result.code, result.err) == (0, "")
    assert max(map(len, result.out.splitlines())) < 200
