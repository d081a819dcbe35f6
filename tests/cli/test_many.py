"""Several targets in one command, and the reports that are written of them."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import xmlschema

RIGHT = "from attncli.layers import WeightSum as Right\nclass WeightSum(Right):\n    pass\n"
DOUBLED = RIGHT.replace(
    "    pass\n",
    "    def backward(self, dc):\n"
    "        dhs, da = super().backward(dc)\n"
    "        return dhs, 2 * da\n",
)
RAISES = RIGHT.replace("    pass\n", "    def forward(self, hs, a):\n        return hs.nothing\n")
ENDS = RIGHT.replace(
    "    pass\n", "    def forward(self, hs, a):\n        import os\n        os._exit(0)\n"
)


@pytest.fixture
def class_(folder):
    """The files of a class."""
    for name, text in {
        "ann": RIGHT,
        "bob": DOUBLED,
        "cem": "print('hello')\n" + RIGHT,
        "dan": "class WeightSum(\n",
        "eve": RAISES,
        "fay": ENDS,
    }.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def alone(*arguments, **more):
    """Start the command as a process of its own, as it is on the command line."""
    command = [sys.executable, "-m", "attncli", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


def run_alone(*arguments):
    process = alone(*arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


FILES = ("ann.py", "bob.py", "cem.py", "dan.py", "eve.py", "fay.py")


def test_each_is_judged_and_shown_in_order(attn, class_):
    result = attn("check", *FILES)
    assert result.code == 1
    headings = [line[:6] for line in result.out.splitlines() if line[3:6] == ".py"]
    assert headings == [*FILES, *FILES]  # the reports, and the summary
    assert result.out.endswith("\n2 right, 4 wrong\n")
    assert "cem.py prints: hello\n" in result.err


def test_beside_each_other_says_the_same_as_one_after_the_other(attn, class_):
    one_by_one = attn("check", *FILES)
    assert run_alone("check", *FILES, "--jobs", 3) == (
        one_by_one.code,
        one_by_one.out,
        one_by_one.err,
    )


def test_one_that_takes_long_is_shown_before_those_that_came_after_it(class_):
    (class_ / "slow.py").write_text("import time\ntime.sleep(2)\n" + RIGHT)
    code, out, _ = run_alone("check", "slow.py", "bob.py", "--jobs", 2)
    assert code == 1
    assert out.index("slow.py") < out.index("bob.py")


@pytest.mark.parametrize("command", ["check", "gradcheck"])
def test_who_is_not_there_is_said_and_the_others_are_judged(attn, class_, command):
    result = attn(command, "ann.py", "none.py", "bob.py:Nothing", "bob.py")
    assert result.code == 2
    assert result.err.count("error: ") == 2
    assert "error: none.py: no such file" in result.err
    assert "error: bob.py: holds nothing named Nothing; it holds WeightSum\n" in result.err
    assert f"hint:  attn {command} ann.py none.py bob.py bob.py\n" in result.err
    assert result.out.endswith("1 right, 1 wrong, 2 could not be judged\n")


def test_json_lists_the_targets_of_all(attn, class_):
    result = attn("check", "ann.py", "none.py", "dan.py", "bob.py", "--json")
    assert (result.code, result.json["passed"]) == (2, False)
    told = [(one["target"], one["passed"], one.get("verdict")) for one in result.json["targets"]]
    assert told == [
        ("ann.py:WeightSum", True, None),
        ("none.py", False, "not judged"),
        ("dan.py", False, "wrong"),
        ("bob.py:WeightSum", False, None),
    ]
    _, out, _ = run_alone("check", "ann.py", "none.py", "dan.py", "bob.py", "--json")
    assert json.loads(out) == result.json


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_summary_fits(attn, class_, columns):
    (class_ / f"{'long' * 9}.py").write_text(DOUBLED)
    result = attn("check", *FILES, f"{'long' * 9}.py", columns=columns)
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= columns
    summary = lines[max(number for number, line in enumerate(lines) if line[:6] == "ann.py") :]
    fault = next(n for n, line in enumerate(summary) if "last gradient off by a factor" in line)
    assert "bob.py" in summary[fault] + summary[fault - 1]
    assert "wrong" in summary[fault] + summary[fault - 1]
    assert summary[-1] == "2 right, 5 wrong"


def test_a_folder_is_all_that_it_holds(attn, class_):
    (class_ / "empty").mkdir()
    (class_ / "more" / "deep").mkdir(parents=True)
    (class_ / "more" / "deep" / "gil.py").write_text(RIGHT)
    (class_ / "more" / "test_gil.py").write_text("raise ValueError('this is not for us')")
    result = attn("check", "bob.py", "more", "empty", "--json")
    assert result.code == 2
    assert [one["target"] for one in result.json["targets"]] == [
        "bob.py:WeightSum", "more/deep/gil.py:WeightSum", "empty",
    ]  # fmt: skip
    assert "note: more: passed over test_gil.py (tests)\n" in result.err
    assert "error: empty: no Python file and no notebook in it holds a layer\n" in result.err
    assert "not for us" not in result.err


def test_how_far_it_is_stands_below_what_is_shown(attn, class_, monkeypatch):
    monkeypatch.setattr("attncli.cli.screen.ProgressBar._APPEARS_AFTER", -1.0)
    shown = attn("check", *FILES, columns=80, colors="truecolor")
    assert "checking 6 targets" in shown.err
    monkeypatch.setattr("attncli.cli.screen.ProgressBar._APPEARS_AFTER", float("inf"))
    assert shown.out == attn("check", *FILES, columns=80, colors="truecolor").out


SCHEMA = xmlschema.XMLSchema(Path(__file__).parent / "junit.xsd")


def suites(text):
    """Read JUnit, by the schema and by what a schema cannot say."""
    SCHEMA.validate(text)
    root = ET.fromstring(text)
    for number, suite in enumerate(root):
        assert int(suite.get("id")) == number
        cases = suite.findall("testcase")
        for count, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(count)) == len(suite.findall(f"testcase/{tag}"))
        assert int(suite.get("tests")) == len(cases)
        # Each took some time, and none of it is counted twice.
        times = [float(case.get("time")) for case in cases]
        if (whole := float(suite.get("time"))) > 0:
            assert min(times) > 0
            assert sum(times) <= whole + 0.001
    return list(root)


def by_name(path):
    return {suite.get("name"): suite for suite in suites(path.read_text("utf-8"))}


def test_junit_has_a_case_for_each_target_and_check(attn, class_):
    result = attn("check", *FILES, "none.py", "--report", "r.xml")
    assert result.code == 2
    assert "wrote the report to r.xml" in result.err
    found = by_name(class_ / "r.xml")
    assert list(found) == [
        "ann.py:WeightSum", "bob.py:WeightSum", "cem.py:WeightSum", "dan.py",
        "eve.py:WeightSum", "fay.py:WeightSum", "none.py",
    ]  # fmt: skip
    names = [case.get("name") for case in found["ann.py:WeightSum"].findall("testcase")]
    assert {"forward: different prime sizes", "contract: called twice"} <= set(names)
    wrong = {name for name, suite in found.items() if suite.find("testcase/failure") is not None}
    assert wrong == {"bob.py:WeightSum", "dan.py", "eve.py:WeightSum", "fay.py:WeightSum"}
    failure = found["bob.py:WeightSum"].find("testcase/failure")
    assert failure.get("type") == "last gradient off by a factor"
    assert "likely mistake: last gradient off by a factor" in failure.text
    assert "never closed" in found["dan.py"].find("testcase/failure").get("message")
    assert "AttributeError" in found["eve.py:WeightSum"].find("testcase/failure").text
    assert "ends its process" in found["fay.py:WeightSum"].find("testcase/failure").text
    assert "no such file" in found["none.py"].find("testcase/error").get("message")
    assert found["cem.py:WeightSum"].find("system-err").text == "cem.py prints: hello\n"


HOSTILE = RIGHT.replace(
    "    pass\n",
    "    def forward(self, hs, a):\n"
    "        print('out\\x00\\x1b[31m')\n"
    "        raise ValueError('\\x00\\x1b[2J ]]> & <b> \\ud800 \\uffff \\n```\\n@b #12')\n",
)


def test_reports_stay_whole_whatever_code_says(attn, folder):
    name = "=a&<b>|`@x`.py"
    (folder / name).write_text(HOSTILE)
    reports = ("r.xml", "r.csv", "r.md", "r.json")
    options = [option for report in reports for option in ("--report", report)]
    assert attn("check", name, name, *options).code == 1
    found = by_name(folder / "r.xml")
    failure = found[f"{name}:WeightSum"].find("testcase/failure")
    assert "]]> & <b> \\ud800" in failure.get("message")
    _, first, _ = csv.reader(io.StringIO((folder / "r.csv").read_text("utf-8")))
    assert first[0] == f"'{name}"
    text = (folder / "r.md").read_text("utf-8")
    assert "\x1b" not in text
    assert "\x00" not in text
    before, _, rest = text.partition("````text\n")  # there are three in what it raises
    assert "```" in rest
    assert rest.count("````") == 3  # the end of it, and all of the second
    assert "@<!-- -->x" in before  # nobody is called, and nothing is markup
    assert "<b>" not in before
    assert json.loads((folder / "r.json").read_text("utf-8"))["passed"] is False


def test_grades_have_a_row_for_each_target(attn, class_):
    (class_ / "two.py").write_text(RIGHT + DOUBLED.replace("class WeightSum", "class WeightSum2"))
    texts = (*FILES, "two.py", "none.py")
    assert attn("check", *texts, "--as", "weight-sum", "--report", "r.csv").code == 2
    rows = list(csv.DictReader(io.StringIO((class_ / "r.csv").read_text("utf-8"))))
    assert [row["target"] for row in rows] == list(texts)
    by_name = {row["target"]: row for row in rows}
    assert by_name["ann.py"]["verdict"] == "right"
    assert (by_name["two.py"]["layers"], by_name["two.py"]["points"]) == ("2", "1")
    assert by_name["bob.py"]["mistakes"] == "last gradient off by a factor"
    assert int(by_name["bob.py"]["hold"]) < int(by_name["bob.py"]["checks"])
    assert "AttributeError" in by_name["eve.py"]["wrong"]
    assert by_name["none.py"]["verdict"] == "not judged"


def test_markdown_has_a_row_for_each_and_what_is_wrong_below(attn, class_):
    assert attn("check", "ann.py", "bob.py", "--report", "r.md").code == 1
    text = (class_ / "r.md").read_text("utf-8")
    assert text.startswith("### attn check: 1 right, 1 wrong\n")
    assert "| bob.py | wrong | 0 of 1 | last gradient off by a factor |\n" in text
    assert "likely mistake: last gradient off by a factor\n" in text


def test_the_json_report_is_what_json_prints(attn, class_):
    result = attn("check", "ann.py", "bob.py", "--json", "--report", "r.json")
    assert json.loads((class_ / "r.json").read_text("utf-8")) == result.json


def test_gradients_are_reported_by_name(attn, class_):
    assert attn("gradcheck", "ann.py", "bob.py", "--report", "r.xml").code == 1
    found = by_name(class_ / "r.xml")
    cases = {case.get("name"): case for case in found["bob.py:WeightSum"].findall("testcase")}
    assert list(cases) == ["dhs", "da"]
    assert len(cases["dhs"]) == 0
    assert "off by the factor 2" in cases["da"].find("failure").text
    assert attn("gradcheck", "--layer", "softmax", "--report", "own.xml").code == 0
    (own,) = by_name(class_ / "own.xml")
    assert own == "softmax"


def test_a_report_of_one_target(attn, class_):
    result = attn("check", "cem.py:WeightSum", "--report", "r.xml")
    assert result.code == 0
    assert "cem.py prints: hello" in result.err
    assert "1 right" not in result.out
    assert list(by_name(class_ / "r.xml")) == ["cem.py:WeightSum"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--report", "r.txt"], "r.txt: the ending .txt, expected one of .xml, .json, .csv, .md"),
        (["--report", "there.xml"], "there.xml: exists already"),
        (["--report", "folder.xml"], "folder.xml: is a folder"),
        (["--report", "no/r.xml"], "the folder"),
        (["--report", "/dev/stdout"], "/dev/stdout: no ending, expected one of"),
        (["--report", "a.xml", "--report", "./a.xml"], "the same file is named twice"),
        (["--report", "link.csv", "--force"], "is an input of this command"),
        (["--report", "r.xml", "--convention", "x.npz"], "expected either a TARGET"),
        (["--force"], "--force has no meaning without --report"),
        (["--jobs", "0"], "'--jobs': 0, expected a whole number, 1 or more"),
    ],
)
def test_a_report_that_cannot_be_is_refused_before_any_work(attn, class_, options, says):
    (class_ / "there.xml").write_text("as it was")
    (class_ / "folder.xml").mkdir()
    (class_ / "link.csv").symlink_to("cem.py")
    result = attn("check", "cem.py", *options)
    assert (result.code, result.out) == (2, "")
    assert says in result.err
    assert "prints: hello" not in result.err
    assert (class_ / "there.xml").read_text() == "as it was"
    assert (class_ / "cem.py").read_text().startswith("print")


STUBBORN = """
import os, signal, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    open(f"pid{os.getpid()}", "w").close()
    time.sleep(1000)
os.kill(os.getppid(), signal.SIGSTOP)
open(f"pid{os.getpid()}", "w").close()
time.sleep(1000)
"""


def test_interrupted_it_ends_what_does_not_want_to_end(class_):
    """It ignores signals, has stopped the process that started it, and left one in the dark."""
    (class_ / "stubborn.py").write_text(STUBBORN)
    process = alone("gradcheck", "stubborn.py", "--time-limit", 600)
    while len(pids := list(class_.glob("pid*"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.split()) == (130, ["interrupted"])
    for pid in pids:
        is_gone(int(pid.name.removeprefix("pid")))


def test_a_report_is_replaced_if_one_says_so(attn, class_):
    (class_ / "there.xml").write_text("as it was")
    assert attn("check", "ann.py", "--report", "there.xml", "--force").code == 0
    assert by_name(class_ / "there.xml")


def test_a_convention_has_no_report(attn, class_):
    result = attn("check", "--convention", "x.npz", "--report", "r.xml")
    error = "error: --report has a meaning with TARGET only"
    assert (result.code, result.err.splitlines()[0]) == (2, error)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_writes_what_there_is(class_, number):
    (class_ / "slow.py").write_text(
        "import os, time\nopen(f'pid{os.getpid()}', 'w').close()\ntime.sleep(100)\n"
    )
    texts = ("ann.py", "slow.py", "bob.py", "slow.py", "cem.py")
    process = alone("check", *texts, "--jobs", 2, "--time-limit", 60, "--report", "r.xml")
    while len(pids := list(class_.glob("pid*"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert out.endswith("1 right, 1 wrong, 3 not run\n")
    found = suites((class_ / "r.xml").read_text("utf-8"))
    told = [(one.get("name"), one.get("failures"), one.get("skipped")) for one in found]
    assert [name for name, *_ in told] == [
        "ann.py:WeightSum", "slow.py", "bob.py:WeightSum", "slow.py", "cem.py",
    ]  # fmt: skip
    assert [skipped for *_, skipped in told] == ["0", "1", "0", "1", "1"]
    assert found[1].find("testcase/skipped").get("message") == "slow.py: not run: interrupted"
    for pid in pids:  # what it started has ended
        is_gone(int(pid.name.removeprefix("pid")))


FAILING = """
import os, signal, sys
from attncli.checking.diagnosing import examination
judge = examination.check
def check(target, **options):
    if "bob" in target.where:
        {fault}
    return judge(target, **options)
examination.check = check
from attncli.cli.main import main
main()
"""


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        ("1 / 0", 70, "ZeroDivisionError: division by zero\nerror: this is a bug in attn"),
        ("sys.stderr = None; os.close(1); raise SystemExit(3)", 70, "SystemExit: 3\nerror: this"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 2, "error: bob.py: judging it ends its process"),
    ],
)
def test_where_we_fail_at_one_the_others_are_judged(class_, fault, code, says):
    program = [sys.executable, "-c", FAILING.format(fault=fault)]
    arguments = ["check", "ann.py", "bob.py", "cem.py", "dan.py", "--report", "r.xml"]
    done = subprocess.run([*program, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == code
    assert says in done.stderr
    assert done.stdout.endswith("2 right, 1 wrong, 1 could not be judged\n")
    assert by_name(class_ / "r.xml")["bob.py"].find("testcase/error") is not None


def is_gone(pid):
    until = time.monotonic() + 10  # the system takes its time to be rid of a process
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    raise AssertionError(f"{pid} is still running")


def test_of_what_each_prints_the_beginning_is_shown_and_the_rest_is_counted(class_):
    (class_ / "much.py").write_text(f"print('y' * 100_000)\n{RIGHT}")
    code, out, err = run_alone("check", "much.py", "cem.py", "--json", "--report", "r.xml")
    assert code == 0
    assert 500 < err.count("y") < 1_500
    assert "92,001 more bytes are not shown" in err
    assert "cem.py prints: hello" in err
    assert "yyy" not in out
    assert json.loads(out)["passed"] is True
    by_name(class_ / "r.xml")
