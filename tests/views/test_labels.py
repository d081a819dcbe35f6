"""Text from files is harmless, stays on its line, and still reads well."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from attncli.views.labels import safe, shorten
from attncli.views.look import Look

ASCII = Look(unicode=False, encoding="ascii")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("kitten", "kitten"),
        ("[/INST]", "[/INST]"),
        ("[red]", "[red]"),
        (":heart:", ":heart:"),
        ("日本語", "日本語"),
        ("Ġthe", "Ġthe"),
        (" the", "␣the"),
        ("  ", "␣␣"),
        ("", "''"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b31m", "\\x9b31m"),
        ("a\nb\tc\0", "a\\nb\\tc\\x00"),
        ("\u202egnp", "\\u202egnp"),
        ("\u2028", "\\u2028"),
        ("\ud800", "\\ud800"),
        ("\u0301", "◌\u0301"),
        ("e\u0301", "e\u0301"),
    ],
)
def test_label(text, shown):
    assert safe(text) == shown


def test_labels_fit_an_ascii_output():
    assert safe("日本 é", ASCII) == "\\u65e5\\u672c \\xe9"
    assert safe(" a", ASCII) == "_a"
    assert shorten("researchers", 5, ASCII) == "rese~"


@settings(max_examples=500, derandomize=True, deadline=None)
@given(text=st.text(), encoding=st.sampled_from(["utf-8", "ascii", "latin-1", "cp1252"]))
def test_any_text_is_one_printable_line(text, encoding):
    shown = safe(text, Look(unicode=encoding == "utf-8", encoding=encoding))
    assert shown
    assert "\n" not in shown
    shown.encode(encoding)
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in shown)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(text=st.text(alphabet="aé日本語w", max_size=30), width=st.integers(2, 12))
def test_shortened_text_fits(text, width):
    short = shorten(text, width)
    assert cell_len(short) <= width
    assert short == text or short.endswith("…")


@pytest.mark.parametrize(
    ("width", "short"),
    [
        (2, "…"),
        (3, "\U0001f1ef\U0001f1f5…"),
        (4, "\U0001f1ef\U0001f1f5…"),
        (5, "\U0001f1ef\U0001f1f5\U0001f1eb\U0001f1f7…"),
        (6, "\U0001f1ef\U0001f1f5\U0001f1eb\U0001f1f7\U0001f1e9\U0001f1ea"),
    ],
)
def test_a_row_of_flags_is_cut_between_flags(width, short):
    flags = "\U0001f1ef\U0001f1f5\U0001f1eb\U0001f1f7\U0001f1e9\U0001f1ea"  # jp, fr, de
    assert shorten(flags, width) == short


def test_a_letter_after_a_flag_and_a_half_of_a_flag_are_on_their_own():
    flag, half = "\U0001f1ef\U0001f1f5", "\U0001f1eb"
    assert shorten(f"{flag}abc", 4) == f"{flag}a…"
    assert shorten(f"{flag}{half}abc", 4) == f"{flag}{half}…"
    assert shorten(f"ab{flag}", 3) == "ab…"
