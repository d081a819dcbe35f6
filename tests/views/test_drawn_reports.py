"""Reports in Python: the verdict, a line, the command's text, HTML, and what --json prints."""

import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import attncli
from attncli.layers import Attention, TimeAttention

WRONG = """
from attncli.layers import Attention as Right
class Attention(Right):
    def backward(self, dout):
        dhs, dh = super().backward(dout)
        return -dhs, -dh
"""
EVIL = "</pre><script>alert('&amp;')</script>"


@pytest.fixture
def wrong(folder):
    (folder / "wrong.py").write_text(WRONG)
    return "wrong.py:Attention"


def plain(value):
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("command", ["check", "gradcheck"])
def test_a_report_on_a_target_says_what_the_command_prints(attn, wrong, command):
    report = getattr(attncli, command)(wrong)
    assert not report
    assert f"{report}\n" == attn(command, wrong).out
    assert plain(report.to_dict()) == attn(command, wrong, "--json").json["targets"][0]


def test_a_comparison_says_what_the_command_prints(attn, folder):
    a, b = {"out": np.arange(3.0)}, {"out": np.array([0, 1, 2.5]), "more": np.zeros(2)}
    np.savez("a.npz", **a)
    np.savez("b.npz", **b)
    report = attncli.compare(a, b)
    assert f"{report}\n" == attn("compare", "a.npz", "b.npz").out
    told = attn("compare", "a.npz", "b.npz", "--json").json
    assert plain(report.to_dict()).items() <= told.items()


def test_a_report_is_its_verdict_and_a_line(wrong):
    assert attncli.check(TimeAttention)
    assert not attncli.gradcheck(wrong)
    assert not attncli.compare([1.0], [2.0])
    lines = [repr(report) for report in (
        attncli.check(Attention), attncli.check(wrong), attncli.gradcheck(Attention),
        attncli.gradcheck(wrong), attncli.compare([1.0], [1.0]), attncli.compare([1.0], [2.0]),
    )]  # fmt: skip
    assert [re.sub(r"\d[\d.e-]*", "#", line) for line in lines] == [
        "<CheckReport ok: Attention against attention, # checks>",
        "<CheckReport WRONG: wrong.py:Attention against attention, # of # checks, "
        "likely sign of the gradients reversed>",
        "<GradcheckReport ok: Attention, # gradients, worst relative error #>",
        "<GradcheckReport WRONG: wrong.py:Attention, # gradients; dhs, dh>",
        "<CompareReport agrees: # tensor>",
        "<CompareReport DIFFERS: # tensor: array>",
    ]


def test_a_line_harms_no_terminal():
    report = attncli.compare({"a\x1b[2J": [1.0]}, {"a\x1b[2J": [2.0]})
    assert "\x1b" not in repr(report) + str(report)


def test_a_report_cannot_be_changed():
    report = attncli.compare([1.0], [2.0])
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.tensors = ()


class Balanced(HTMLParser):
    """Reads HTML of which every element is closed, and nothing harms."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.text = [], ""

    def handle_starttag(self, tag, attributes):
        assert tag in ("pre", "span")
        assert {name for name, _ in attributes} <= {"style"}
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        assert self.open
        self.text += data


def read(report):
    parser = Balanced()
    parser.feed(report._repr_html_())
    parser.close()
    assert parser.open == []
    return parser.text


def test_html_is_balanced_and_what_is_written_in_it_is_escaped():
    class Mine(Attention):
        def forward(self, hs, h):
            raise ValueError(EVIL)

    Mine.__qualname__ = Mine.__name__ = EVIL
    reports = (
        attncli.check(Mine, layer="attention"),
        attncli.compare({EVIL: [1.0]}, {EVIL: [2.0]}),
        attncli.compare({"a": [1.0], EVIL: [1.0]}, {"a": [1.0]}),
    )
    for report in reports:
        assert EVIL in read(report)


def test_html_shows_what_a_terminal_does(attn, wrong):
    shown = attn("check", wrong, columns=100).out
    lines = [line.rstrip() for line in read(attncli.check(wrong)).splitlines()]
    assert lines == shown.splitlines()


def luminance(color):
    parts = [int(color[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return sum(x * weight for x, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def test_html_can_be_read_on_light_and_on_dark_pages(wrong):
    """What has a colour of its own stands out from both."""
    html = attncli.check(wrong)._repr_html_()
    assert "background" not in html
    colors = set(re.findall(r"(?<![-\w])color: #([0-9a-f]{6})", html))
    assert len(colors) >= 4
    for color in colors:
        light = 1.05 / (luminance(color) + 0.05)
        dark = (luminance(color) + 0.05) / (luminance("111111") + 0.05)
        assert min(light, dark) > 4
