"""``attncli.show``: a picture of weights, from whatever a library hands over."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from notebook import Notebook

import attncli
from attncli.errors import AttnError, DataError, DtypeError, ParameterError, ShapeError
from attncli.layers import TimeAttention

RNG = np.random.default_rng(5)


def weights_of(*shape):
    return RNG.dirichlet(np.ones(shape[-1]), size=shape[:-1])


ONE, ITEMS = weights_of(5, 7), weights_of(2, 5, 7)


def shown(capsys, *arguments, **options):
    """Show weights, and give what was printed."""
    attncli.show(*arguments, **options)
    return capsys.readouterr().out


def test_it_prints_what_the_command_prints(attn, folder, capsys):
    weights = weights_of(2, 3, 5, 7)
    tokens = list("kazes"), list("mountai")
    np.savez("attncli.show", weights=weights, tokens_dec=tokens[0], tokens_enc=tokens[1])
    command = attn("show-weights", "attncli.show.npz", "--item", 1, "--head", 2).out
    said = shown(capsys, weights, tokens, item=1, head=2)
    assert said == command.replace("attncli.show.npz", "attncli.show")
    assert said.splitlines()[0] == ("attncli.show  weights (2, 3, 5, 7) = (N, heads, T_dec, T_enc)")


@pytest.mark.parametrize(
    ("shape", "reading"),
    [
        ((5, 7), "(T_dec, T_enc)"),
        ((2, 5, 7), "(N, T_dec, T_enc)"),
        ((2, 3, 5, 7), "(N, heads, T_dec, T_enc)"),
        ((2, 2, 3, 5, 7), "(layers, N, heads, T_dec, T_enc)"),
    ],
)
def test_one_array(capsys, shape, reading):
    assert f"weights {shape} = {reading}" in shown(capsys, weights_of(*shape))


def test_a_tuple_of_layers(capsys):
    layers = tuple(weights_of(2, 3, 5, 7) for _ in range(3))
    said = shown(capsys, layers, layer=2, item=1, head=0)
    assert "layer0 to layer2 (2, 3, 5, 7) = (N, heads, T_dec, T_enc)" in said
    assert repr(float(layers[2][1, 0, 4, 6])) in said


def test_sets_images_overlays_and_words_are_arguments(capsys):
    weights = weights_of(1, 5, 3, 4)
    heads_of_item = ["item 0  head 1", "item 0  head 3"]
    for heads in ([1, 3], "1,3", range(1, 4, 2)):
        said = shown(capsys, weights, head=heads)
        assert [line for line in said.splitlines() if "head " in line] == heads_of_item
    for grid in ("2x2", (2, 2)):
        said = shown(capsys, weights, head=2, row="1", grid=grid).splitlines()
        numbers = [[float(x) for x in line.split()] for line in said[3:5]]
        np.testing.assert_array_equal(numbers, weights[0, 2, 1].reshape(2, 2))
    assert "b = head 3" in shown(capsys, weights, head="1,3", overlay=True)
    picture = attncli.show(weights, head="1,3", overlay=True)
    assert "colours mix by weight" in picture._repr_html_()
    words = (["un", "##do", "it"], list("abcd"))
    assert "undo" in shown(capsys, weights, words, head=0, merge_subwords=True)


def test_nested_lists(capsys):
    assert "0.25" in shown(capsys, [[0.25, 0.75], [1.0, 0.0]])


def test_the_steps_of_the_books_layer(capsys):
    """A list of (N, T_enc), one a decoder step, is no list of layers."""
    layer = TimeAttention()
    layer.forward(RNG.normal(size=(2, 7, 3)), RNG.normal(size=(2, 5, 3)))
    said = shown(capsys, layer.attention_weights, (list("kazes"), list("mountai")), item=1)
    assert "weights (2, 5, 7) = (N, T_dec, T_enc)" in said
    assert repr(float(layer.attention_weights[4][1, 6])) in said


@pytest.mark.parametrize(
    ("count", "shape", "tokens", "reading"),
    [
        (5, (2, 7), None, "weights (2, 5, 7) = (N, T_dec, T_enc)"),
        (3, (7, 7), None, "layer0 to layer2 (7, 7) = (T_dec, T_enc)"),
        (3, (5, 7), (list("kazes"), list("mountai")), "layer0 to layer2 (5, 7)"),
        (5, (7, 7), (list("kazes"), list("mountai")), "weights (7, 5, 7)"),
    ],
)
def test_what_a_list_of_matrices_is(capsys, count, shape, tokens, reading):
    """Squares are layers, anything else the steps of the book, unless tokens say otherwise."""
    assert reading in shown(capsys, [weights_of(*shape) for _ in range(count)], tokens)


def test_axes_say_what_a_list_is(capsys):
    said = shown(capsys, [weights_of(7, 7)] * 3, axes="heads,dec,enc", head=2)
    assert "weights (3, 7, 7) = (heads, T_dec, T_enc)" in said


def test_a_mapping_is_read_as_a_file_is(capsys):
    query, key = RNG.normal(size=(2, 5, 3))
    assert "computed from query and key" in shown(capsys, {"q": query, "k": key})


def test_a_file(capsys, folder):
    np.savez("w.npz", weights=weights_of(5, 7))
    assert "w.npz  weights (5, 7)" in shown(capsys, "w.npz")
    assert "w.npz  weights (5, 7)" in shown(capsys, folder / "w.npz")


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_tensors_of_torch(capsys, dtype):
    torch = pytest.importorskip("torch")
    scores = torch.randn(2, 3, 5, 7, requires_grad=True)
    weights = torch.softmax(scores, -1).to(getattr(torch, dtype))
    said = shown(capsys, (weights, weights), layer=1, item=1, head=2)
    assert "layer0 to layer1 (2, 3, 5, 7)" in said
    numbers = map(float, re.findall(r"\d+\.\d+(?:e-\d+)?", said))
    assert pytest.approx(weights[1, 2, 4, 6].item(), rel=4e-3) in [*numbers]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_arrays_of_jax(capsys, dtype):
    jax = pytest.importorskip("jax")
    weights = jax.nn.softmax(jax.numpy.ones((2, 4, 4), dtype), -1)
    assert "0.25" in shown(capsys, weights, item=0)


@pytest.mark.parametrize(
    "tokens",
    [
        list("abcde"), ("a", "b", "c", "d", "e"), np.array(list("abcde")),
        (list("abcde"), list("abcde")), [list("abcde")] * 2,
    ],
)  # fmt: skip
def test_tokens_of_both_axes(capsys, tokens):
    said = shown(capsys, weights_of(2, 5, 5), tokens, item=1).splitlines()
    assert said[3].split() == [*"abcde", "sum"]
    assert [line.split()[0] for line in said[4:9]] == list("abcde")


def test_tokens_of_an_axis_are_those_of_its_length(capsys):
    said = shown(capsys, weights_of(5, 7), list("mountai")).splitlines()
    assert said[2].split() == [*"mountai", "sum"]
    assert [line.split()[0] for line in said[3:8]] == list("01234")


def test_ids_are_tokens(capsys):
    assert shown(capsys, weights_of(2, 2), [101, 2023]).splitlines()[2].split()[0] == "101"


@pytest.mark.filterwarnings("ignore:.*(sum to 1|not finite)")
def test_numbers_that_are_not_finite_are_shown(capsys):
    assert "nan" in shown(capsys, [[np.nan, 1.0], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("error", "arguments", "options", "message", "hint"),
    [
        (
            ParameterError,
            (ITEMS,),
            {"item": 2},
            "item=2: attncli.show has no such item; there are",
            "",
        ),
        (ParameterError, (ITEMS,), {"head": 1}, "head=1: attncli.show has", 'axes="heads,dec,enc"'),
        (
            ParameterError,
            ([ONE, ONE.T],),
            {"layer": 2},
            "has no such layer; there are 2, 0 to 1",
            "",
        ),
        (ParameterError, (ONE,), {"axes": "dec,what"}, "'dec,what' is not a list such as", ""),
        (
            ParameterError,
            (ONE,),
            {"top": 2, "view": "cells"},
            "top makes a list: not with view",
            "",
        ),
        (TypeError, (ONE,), {"hed": 2}, "unexpected keyword argument 'hed'", ""),
        (TypeError, (ONE,), {"export": ("x.svg",)}, "unexpected keyword argument 'export'", ""),
        (ShapeError, (ONE, list("abcd")), {}, "one a step of neither T_dec = 5 nor T_enc = 7", ""),
        (ShapeError, (ONE, (list("abcd"), None)), {}, "tokens_dec is (4,), expected one token", ""),
        (ParameterError, (ONE, "a b c"), {}, "tokens is one text, expected", "tokens.split()"),
        (DtypeError, (ONE, [["a"], ["b", "c"]]), {}, "tokens is no list of tokens", ""),
        (DtypeError, (None,), {}, "weights is None", "output_attentions=True"),
        (DtypeError, ((None, None),), {}, "weights is a tuple of None", "output_attentions=True"),
        (DtypeError, ([[0.5], [0.5, 0.5]],), {}, "weights is no array of numbers", ""),
        (DtypeError, (["a", "b"],), {}, "weights is <U1 (text), expected real numbers", ""),
        (ShapeError, (np.ones((1,) * 6),), {}, "(1, 1, 1, 1, 1, 1), expected (T_dec, T_enc)", ""),
        (DataError, ({"x": ONE},), {}, "no weights: expected weights, layer0 …", ""),
    ],
)
def test_what_cannot_be_shown(capsys, error, arguments, options, message, hint):
    with pytest.raises(error) as caught:
        attncli.show(*arguments, **options)
    assert message in str(caught.value)
    assert "--" not in str(caught.value)
    assert hint in (getattr(caught.value, "hint", None) or "")
    assert capsys.readouterr().out == ""


def test_on_a_terminal_it_fits(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm-256color")
    said = shown(capsys, weights_of(29, 29))
    assert "\x1b[" in said
    monkeypatch.setenv("NO_COLOR", "1")
    lines = shown(capsys, weights_of(29, 29)).splitlines()
    assert max(map(len, lines)) <= 40


def test_the_picture_is_a_value(capsys):
    weights = weights_of(2, 5, 7)
    picture = attncli.show(weights, item=0)
    assert str(picture) == capsys.readouterr().out.rstrip("\n")
    assert repr(picture) == "<1 picture: weights (2, 5, 7) = (N, T_dec, T_enc)>"
    with pytest.raises(AttributeError):
        picture.selection = None


def test_the_picture_as_html_is_a_drawing_on_a_ground_of_its_own():
    tokens = [f"<b>{name}</b>" for name in "kazes"], [f'"&{name}' for name in "mountai"]
    html = attncli.show(weights_of(5, 7), tokens)._repr_html_()
    root = ET.fromstring(html)  # nothing in it is taken for an element
    texts = {element.text for element in root.iter()}
    assert {*tokens[0], *tokens[1]} <= texts
    assert "@media (prefers-color-scheme:dark)" in html
    assert "<script" not in html


@pytest.mark.parametrize("options", [{"top": 1}, {"full": True}, {"sort": "entropy"}])
def test_what_is_no_drawing_is_text_in_html_too(options):
    html = attncli.show(weights_of(2, 5, 7), (["<b>", *"azes"], None), **options)._repr_html_()
    assert html.startswith("<pre")
    assert "<b>" not in html
    assert ("&lt;b&gt;" in html) == ("sort" not in options)


def test_a_picture_of_many_heads_is_small():
    html = attncli.show([weights_of(1, 12, 64, 64) for _ in range(12)])._repr_html_()
    assert len(html) < 2_000_000


def test_frames_as_html_are_rows_of_small_pictures_on_one_scale(folder):
    weights = np.stack([np.full((5, 5), 0.2), *[np.eye(5)] * 24])
    np.savez("run.npz", weights=weights, steps=np.arange(25))
    root = ET.fromstring(attncli.show("run.npz", frames=True)._repr_html_())
    images = [element for element in root.iter() if element.tag.endswith("image")]
    assert len({element.get("y") for element in images}) == 3  # rows
    assert len({element.get("href") for element in images}) == 2
    alone = ET.fromstring(attncli.show("run.npz", frame=0)._repr_html_())
    assert sum("fill" in element.attrib for element in alone.iter()) > 25


def test_in_a_notebook_it_is_shown_once_wherever_in_a_cell(monkeypatch, capsys):
    notebook = Notebook(monkeypatch)
    picture = attncli.show(weights_of(5, 7))
    assert notebook.displayed == [
        [{"text/plain": str(picture), "text/html": picture._repr_html_()}]
    ]
    notebook.end_with(picture)
    assert len(notebook.displayed) == 1
    notebook.end_with(picture)  # another cell
    assert len(notebook.displayed) == 2
    assert capsys.readouterr().out == ""


def test_ipython_in_a_terminal_is_a_terminal(monkeypatch, capsys):
    notebook = Notebook(monkeypatch, kernel=False)
    assert "weights (5, 7)" in shown(capsys, weights_of(5, 7))
    assert notebook.displayed == []


def test_a_script_that_shows_imports_no_click():
    code = "import attncli, sys; attncli.show([[1.0]]); sys.exit('click' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_odd_weights_are_shown_with_a_warning(capsys):
    with pytest.warns(UserWarning, match="1 row does not sum to 1"):
        attncli.show([[0.5, 0.25], [0.5, 0.5]])
    assert issubclass(ShapeError, AttnError)
