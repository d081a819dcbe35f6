"""``attn show-weights --export``: pictures, pages and sheets that stand alone."""

import base64
import csv
import html
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import SAMPLES

HEADS, PARAPHRASE = SAMPLES / "minilm_heads.npz", SAMPLES / "paraphrase.npz"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# What would break a page, a drawing, a sheet or a table that believed it.
NASTY = [
    "</script><script>alert(1)</script>",
    "<!--",
    "]]>",
    "&amp;",
    "\"'",
    "\x1b[31m",
    "\x00",
    "\u202e",
    "\ufffe",
    "{{data}}",
    "a|b",
    "[x](y)",
    "=1+1",
    "日本",
    "line\nbreak",
    "",
    "${x}`",
]


@pytest.fixture
def nasty(folder):
    size = len(NASTY)
    weights = np.random.default_rng(0).random((2, size, size))
    weights /= weights.sum(axis=-1, keepdims=True)
    np.savez("nasty.npz", weights=weights, tokens=np.array(NASTY))
    return weights


def test_every_kind_of_file_is_written(attn, folder):
    files = [f"x.{ending}" for ending in ("svg", "html", "csv", "md", "json")]
    options = [text for file in files for text in ("--export", file)]
    result = attn("show-weights", PARAPHRASE, "--item", 1, *options)
    assert result.code == 0
    assert result.err.splitlines() == [f"wrote {file}" for file in files]
    assert "item 1" in result.out  # and shown as well
    assert all((folder / file).stat().st_size > 500 for file in files)


@pytest.mark.parametrize("kind", ["svg", "html"])
@pytest.mark.parametrize("options", [[], ["--shade", "log"], ["--shade", "row"], ["--diff"]])
def test_pictures_are_well_formed_with_any_token(attn, nasty, folder, kind, options):
    options = ["--diff", "nasty.npz"] if options == ["--diff"] else options
    attn("show-weights", "nasty.npz", *options, "-q", "--export", f"x.{kind}")
    text = (folder / f"x.{kind}").read_text(encoding="utf-8")
    ET.fromstring(text)
    assert not re.search(r"( src=| href=|url\(|@import)", text)  # nothing from elsewhere
    assert {*re.findall(r"https?://[^\"'\s]+", text)} <= {
        "http://www.w3.org/1999/xhtml",
        "http://www.w3.org/2000/svg",
    }
    assert "<script>alert" not in text
    assert "\x1b" not in text


def test_a_drawing_says_every_weight(attn, folder):
    attn("show-weights", PARAPHRASE, "--item", 1, "-q", "--export", "x.svg")
    root = ET.parse(folder / "x.svg").getroot()
    titles = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len([title for title in titles if " → " in title]) == 14 * 12


@pytest.mark.parametrize("shape", [(1, 1), (1, 2003), (2003, 1), (29, 503), (503, 5), (307, 503)])
def test_drawings_and_pages_of_any_shape_have_the_words_there_is_room_for(attn, folder, shape):
    tokens = [
        [f"{side}{place}<" for place in range(size)] for side, size in zip("qk", shape, strict=True)
    ]
    weights = np.full(shape, 1 / shape[1])
    np.savez("w.npz", weights=weights, tokens_dec=tokens[0], tokens_enc=tokens[1])
    attn("show-weights", "w.npz", "-q", "--export", "x.svg", "--export", "x.html")
    ET.parse(folder / "x.html")
    texts = [e.text for e in ET.parse(folder / "x.svg").getroot().iter() if e.tag.endswith("text")]
    for words in tokens:
        assert [text for text in texts if text in words] == (words if len(words) <= 60 else [])


def test_large_weights_are_pooled_in_a_drawing_which_says_so(attn, folder):
    np.save("w.npy", np.full((500, 500), 1 / 500))
    attn("show-weights", "w.npy", "-q", "--export", "x.svg", "--export", "x.html")
    assert "the maximum of 3 × 3 weights" in (folder / "x.svg").read_text(encoding="utf-8")
    assert (folder / "x.svg").stat().st_size < 200_000


def test_many_heads_become_small_pictures_in_a_grid(attn, folder):
    attn("show-weights", HEADS, "-q", "--export", "x.svg")
    texts = [e.text for e in ET.parse(folder / "x.svg").getroot().iter() if e.tag.endswith("text")]
    assert [text for text in texts if re.fullmatch(r"L\d H\d+", text)][12] == "L1 H0"


def test_csv_reads_back_to_the_last_digit(attn, nasty, folder):
    attn("show-weights", "nasty.npz", "-q", "--export", "x.csv")
    with open("x.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["weight"]) for line in lines] == nasty.ravel().tolist()
    assert lines[0]["dec_label"] == NASTY[0]
    assert lines[NASTY.index("=1+1")]["enc_label"] == "'=1+1"
    assert {line["item"] for line in lines} == {"0", "1"}


@pytest.mark.parametrize("label", ["=cmd|' /C calc'!A0", "+1", "-ing", "@SUM(1)", "\t=1", "\r=1"])
def test_no_label_in_csv_is_a_formula(attn, folder, label):
    np.savez("w.npz", weights=np.eye(2), tokens=np.array([label, "a=b"]))
    attn("show-weights", "w.npz", "-q", "--export", "x.csv")
    with open("x.csv", newline="", encoding="utf-8") as file:
        labels = {line["dec_label"] for line in csv.DictReader(file)}
    assert not any(text.startswith(("=", "+", "-", "@", "\t", "\r")) for text in labels)
    assert "a=b" in labels  # what is harmless is as it was


def test_markdown_has_a_cell_for_each_weight_whatever_the_tokens(attn, nasty, folder):
    attn("show-weights", "nasty.npz", "-q", "--item", 0, "--export", "x.md")
    table = [line for line in (folder / "x.md").read_text().splitlines() if line.startswith("|")]
    assert len(table) == len(NASTY) + 2
    for line in table:
        assert len(re.findall(r"(?<!\\)\|", line)) == len(NASTY) + 2


def test_json_is_what_the_screen_would_say(attn, folder):
    attn("show-weights", HEADS, "--layer", 1, "-q", "--export", "x.json")
    said = attn("show-weights", HEADS, "--layer", 1, "--json").json
    assert json.loads((folder / "x.json").read_text()) == said


def test_png_with_the_extra(attn, nasty, folder):
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    result = attn("show-weights", "nasty.npz", "-q", "--export", "x.png")
    assert (result.code, result.err) == (0, "")
    assert (folder / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_png_says_what_a_cell_stands_for(attn, folder, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure", reason="the plot extra is not installed")
    said = []
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, *a, **k: said.append(texts_of(self)))
    np.save("large.npy", np.full((2, 1, 2000), 1 / 2000))
    np.save("many.npy", np.full((13, 1, 2000), 1 / 2000))
    np.save("small.npy", np.full((13, 2, 2), 1 / 2))
    for file in ("large", "many", "small"):
        attn("show-weights", f"{file}.npy", "-q", "--export", f"{file}.png")
    large, many, small = said
    assert large.count("1 cell = the maximum of 1 × 3 weights") == 2  # in the title of each
    assert many.count("1 cell = the maximum of 1 × 16 weights") == 1  # under all of them
    assert "1 cell" not in small


def texts_of(figure):
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_png_without_the_extra_says_which(attn, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = attn("show-weights", PARAPHRASE, "-q", "--export", "x.png")
    assert result.code == 2
    assert "hint:  pip install 'attncli[plot]', or export .svg" in result.err
    assert not (folder / "x.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--export", "x.pdf"], "x.pdf: the ending .pdf, expected one of .svg, .html"),
        (["--export", "x"], "x: no ending, expected one of"),
        (["--export", "old.svg"], "old.svg: exists already"),
        (["--export", "no/x.svg"], "does not exist"),
        (["--force"], "--force has no meaning without --export"),
    ],
)
def test_exports_that_cannot_be(attn, folder, options, message):
    (folder / "old.svg").write_text("old")
    result = attn("show-weights", PARAPHRASE, *options)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert (folder / "old.svg").read_text() == "old"
    assert attn("show-weights", PARAPHRASE, "--export", "old.svg", "--force", "-q").code == 0


def data_of(path):
    """Read the data of a page as another program would: by the parser that Python has for HTML."""

    class Parser(HTMLParser):
        inside, text = False, ""

        def handle_starttag(self, tag, attrs):
            self.inside = tag == "script" and ("id", "data") in attrs

        def handle_endtag(self, tag):
            self.inside = False

        def handle_data(self, text):
            self.text += text if self.inside else ""

    parser = Parser()
    parser.feed(path.read_text(encoding="utf-8"))
    return json.loads(parser.text)


def numbers_of(one):
    stored = np.frombuffer(base64.b64decode(one["weights"]), one["dtype"]).reshape(one["shape"])
    if stored.dtype.kind == "f":
        return stored
    codes = stored.astype(float)
    values = (codes * np.abs(codes) if stored.itemsize == 1 else codes) * one["unit"]
    return np.where(stored == np.iinfo(stored.dtype).min, np.nan, values)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_page_holds_every_number_and_word(attn, folder, dtype):
    weights = np.random.default_rng(0).dirichlet(np.ones(7), (2, 3, 5)).astype(dtype)
    weights[1, 2, 4, 6] = np.nan
    words = {"tokens_dec": NASTY[:5], "tokens_enc": NASTY[7:14]}
    np.savez("w.npz", weights=weights, **words)
    attn("show-weights", "w.npz", "--allow-nonfinite", "-q", "--export", "x.html")
    data = data_of(folder / "x.html")
    names = [one["names"] for one in data["matrices"]]
    assert names[4] == {"item": 1, "head": 1}
    for one in data["matrices"]:
        np.testing.assert_array_equal(
            numbers_of(one), weights[one["names"]["item"], one["names"]["head"]]
        )
        for name, texts in words.items():
            assert data["labels"][one[name]] == texts
    of_file, of_page = (
        attn("show-weights", file, "--allow-nonfinite", "--json").json["matrices"]
        for file in ("w.npz", "x.html")
    )
    assert of_page == of_file


def test_a_page_says_what_of_it_is_not_exact_and_how_to_have_it(attn, folder, monkeypatch):
    weights = np.random.default_rng(0).dirichlet(np.ones(101), (13, 101))
    weights[3, 50, 60] = np.nan
    np.savez("w.npz", weights=weights, tokens=[f"w{i}" for i in range(101)])
    command = ["show-weights", "w.npz", "--allow-nonfinite", "-q", "--export", "x.html", "--force"]
    count = weights.size
    for room, said, within in (
        (8 * count, "", 0),
        (7 * count, "weights are rounded to 7 digits", 1e-7),
        (3 * count, "weights are rounded to 1/32767 of its largest", 2e-5),
        (count, "weights are rounded to two digits", 4e-3),
    ):
        monkeypatch.setattr("attncli.views.page._MOST_BYTES", room)
        result = attn(*command)
        not_exact = [line for line in result.err.splitlines() if "not exact" in line]
        assert len(not_exact) == (said != "")
        if said:
            assert said in not_exact[0]
            assert "--head" in not_exact[0]
        for one, right in zip(data_of(folder / "x.html")["matrices"], weights, strict=True):
            np.testing.assert_allclose(numbers_of(one), right, rtol=0, atol=within)
            assert one["legend"][2:] == [said] * (said != "")

    monkeypatch.setattr("attncli.views.page._MOST_BYTES", count / 2)
    result = attn(*command)
    assert "1 cell = the maximum of 2 × 2 weights" in result.err
    pooled = data_of(folder / "x.html")["matrices"][2]
    assert (pooled["shape"], pooled["by"], pooled["tokens_dec"]) == ([51, 51], [2, 2], None)
    assert numbers_of(pooled)[30, 7] == pytest.approx(weights[2, 60:62, 14:16].max(), abs=4e-3)


def test_more_matrices_than_a_page_can_hold_are_refused(attn, folder):
    np.save("w.npy", np.full((10_007, 1, 1, 1), 1.0))
    result = attn("show-weights", "w.npy", "-q", "--export", "x.html")
    assert result.code == 2
    assert "10007 matrices are too many for one page" in result.err
    assert not (folder / "x.html").exists()


in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@in_a_browser
def test_the_page_works_in_a_browser_from_a_file(attn, folder):
    attn("show-weights", HEADS, "-q", "--export", "x.html")
    with np.load(HEADS) as model:
        weights, tokens = model["layer1"][0, 2], model["tokens"].tolist()

    page = browse(folder, "head=14&row=8&column=5")
    assert text_of(page, "h2", "name") == "layer 1  head 2"
    said = text_of(page, "output", "hover")
    assert said == f"{tokens[8]} → {tokens[5]} {weights[8, 5]:.3g}"
    heads = buttons(page, "nav", "heads")
    assert len(heads) == 72
    assert [number for number, head in enumerate(heads) if 'aria-pressed="true"' in head] == [14]
    keys = buttons(page, "div", "columns-of-row")
    highlighted = [float(re.search(r'data-weight="([^"]+)"', one)[1]) for one in keys]
    np.testing.assert_array_equal(np.float32(highlighted), weights[8])
    grounds = [re.search(r"background: rgb\(([^)]+)\)", one)[1] for one in keys]
    darkest = min(grounds, key=lambda rgb: sum(map(int, rgb.split(","))))
    assert grounds.index(darkest) == int(weights[8].argmax())

    strongest = text_of(browse(folder, "head=14&row=8"), "output", "hover")
    assert strongest.startswith(f"{tokens[8]} → {tokens[int(weights[8].argmax())]} ")


@in_a_browser
def test_no_token_runs_as_a_script(attn, nasty, folder):
    attn("show-weights", "nasty.npz", "-q", "--export", "x.html")
    page = browse(folder, "head=1&row=0&column=13")
    assert "日本" in text_of(page, "output", "hover")
    assert len(buttons(page, "div", "rows-of-column")) == len(NASTY)


@in_a_browser
def test_one_strong_column_of_many_is_seen_in_every_thumbnail(attn, folder):
    weights = np.full((7, 499, 499), 0.1 / 498, np.float32)
    strong = [41 * head + 97 for head in range(7)]
    for head, column in enumerate(strong):
        weights[head, :, column] = 0.9
    np.save("w.npy", weights)
    attn("show-weights", "w.npy", "--axes", "heads,dec,enc", "-q", "--export", "x.html")
    script = """<script>
      const darkest = (canvas) => {
        const { width, height } = canvas;
        const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
        const column = (x) => Array.from({ length: height }, (_, y) => pixels[4 * (y * width + x)]);
        const lights = Array.from({ length: width }, (_, x) => Math.max(...column(x)));
        return lights.indexOf(Math.min(...lights)) / width;
      };
      const canvases = document.querySelectorAll("#heads canvas, #map");
      document.title = JSON.stringify([...canvases].map(darkest));
    </script></body>"""
    page = folder / "x.html"
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", script), encoding="utf-8")
    *small, large = json.loads(re.search(r"<title>([^<]*)</title>", browse(folder, "head=5"))[1])
    np.testing.assert_allclose(small, np.array(strong) / 499, atol=1 / 72)
    assert large == pytest.approx(strong[5] / 499, abs=1 / 300)


def browse(folder, fragment):
    """Open the page in a headless browser and return what its script made of it."""
    quiet = [
        "gpu", "quic", "background-networking", "component-update", "sync", "dev-shm-usage"
    ]  # fmt: skip
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--no-first-run",
            *(f"--disable-{one}" for one in quiet),
            f"--user-data-dir={folder / 'profile'}",
            "--dump-dom",
            f"{(folder / 'x.html').as_uri()}#{fragment}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def part_of(page, tag, name):
    return re.search(rf'<{tag}[^>]* id="{name}"[^>]*>(.*?)</{tag}>', page, re.DOTALL)[1]


def text_of(page, tag, name):
    return html.unescape(re.sub(r"<[^>]*>", "", part_of(page, tag, name)))


def buttons(page, tag, name):
    return part_of(page, tag, name).split("<button")[1:]


def test_the_picture_of_the_readme_is_what_the_tool_draws(attn, folder):
    """If not: the command below writes it anew, into .github/weights.svg with --force."""
    options = ["--item", 0, "--drop-special", "-q"]
    attn("show-weights", PARAPHRASE, *options, "--export", "x.svg")
    kept = SAMPLES.parent / ".github" / "weights.svg"
    ours, theirs = (
        [
            (element.tag, element.get("x"), element.get("y"), element.get("width"))
            for element in ET.parse(path).getroot().iter()
        ]
        for path in (folder / "x.svg", kept)
    )
    assert ours[1:] == theirs[1:]  # the last digit of a weight may differ between machines


@pytest.mark.parametrize("other", ["x.csv", "./x.csv", "link.csv"])
def test_one_file_is_not_written_twice(attn, folder, other):
    (folder / "link.csv").symlink_to("x.csv")
    result = attn("show-weights", PARAPHRASE, "--export", "x.csv", "--export", other, "--force")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[0] == "error: --export x.csv: the same file is named twice"
    assert not (folder / "x.csv").exists()


def test_a_drawing_of_many_heads_has_a_row_for_each_layer(attn, folder):
    rng = np.random.default_rng(0)
    sizes = []
    for count in (4, 7):
        layers = {f"layer{i}": rng.dirichlet(np.ones(5), size=(1, 5, 5)) for i in range(count)}
        np.savez("x.npz", **layers)
        attn("show-weights", "x.npz", "--export", "x.svg", "--force", "-q")
        root = ET.parse(folder / "x.svg").getroot()
        sizes.append([float(number) for number in root.get("viewBox").split()[2:]])
    (width, height), (width_of_more, height_of_more) = sizes
    assert width == width_of_more
    assert height_of_more > 1.4 * height
