"""The group: help, exit codes, streams, signals."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import warnings

import click
import numpy as np
import pytest
from conftest import SAMPLES
from running import run_copies

from attncli import __version__
from attncli.cli import main

ATTN = [sys.executable, "-m", "attncli"]
COMMANDS = list(main.COMMANDS)


def test_version(attn):
    assert attn("--version").out == f"attn {__version__}\n"
    done = subprocess.run([*ATTN, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"attn {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_has_help_and_an_example(attn, command):
    result = attn(command, "--help")
    assert result.code == 0
    assert f"attn {command} " in result.out.split("Examples:")[1]
    instance = main.attn.get_command(click.Context(main.attn), command)
    for parameter in instance.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
    assert main.COMMANDS[command][1] in attn("--help").out


@pytest.mark.parametrize(
    "arguments", [[], ["-V"], ["--help"], ["forward", "--help"], ["show-weights", "-h"]]
)
def test_help_imports_neither_numpy_nor_rich(arguments):
    code = f"""
import sys
from attncli.cli.main import run
run({arguments!r})
loaded = {{name.split(".")[0] for name in sys.modules}} & {{"numpy", "rich"}}
sys.exit(f"loaded {{loaded}}" if loaded else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["foward"], "error: no command foward"),
        (["xyz"], "error: no command xyz"),
        (["--nope"], "error: no such option '--nope'"),
        (["show-weights"], "error: missing argument 'FILE'"),
    ],
)
def test_usage_errors(attn, arguments, message):
    result = attn(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[0].startswith(message)
    assert result.err.splitlines()[1].startswith("hint:  attn")


def test_names_from_the_command_line_do_no_harm(attn):
    result = attn("forward", "\x1b[31m\nred.npz")
    assert result.code == 2
    assert "\x1b[31m" not in result.err
    assert [line[:6] for line in result.err.splitlines()] == ["error:", "hint: "]


def test_a_bug_shows_its_traceback_and_is_no_verdict(attn, monkeypatch):
    monkeypatch.setattr("attncli.problems.problem.run", lambda *a, **k: 1 / 0)
    result = attn("forward")
    assert result.code == main.BUG
    assert "ZeroDivisionError" in result.err
    assert "this is a bug in attn" in result.err


def test_a_warning_that_is_not_ours_is_shown_as_python_shows_it(attn, monkeypatch):
    def warn(*_arguments, **_options):
        warnings.warn("odd", DeprecationWarning, stacklevel=1)
        raise MemoryError

    monkeypatch.setattr("attncli.problems.problem.run", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        result = attn("forward")
    assert result.code == 2
    first, source, error, hint = result.err.splitlines()
    assert first.startswith(__file__)
    assert first.endswith(": DeprecationWarning: odd")
    assert source.startswith('  warnings.warn("odd"')
    assert (error, hint) == ("error: not enough memory", "hint:  smaller sizes need less")


CLOSED = """
import os
there, here = os.pipe()
os.close(there)
os.dup2(here, 1)
"""


def test_closed_pipe_ends_quietly():
    dates, weights = SAMPLES / "dates.npz", SAMPLES / "minilm_heads.npz"
    commands = [
        ["forward", dates, "--full"],
        ["backward", "--N", "50", "--T", "30", "--full"],
        ["gradcheck"],
        ["show-weights", dates],
        ["show-weights", weights, "--full"],
        ["trace", dates],
        ["check", SAMPLES / "by_hand.npz", "--help"],
        ["convention", SAMPLES / "minilm_qkv.npz"],
        ["compare", dates, dates],
        ["bench", "--shapes", "2,5,3", "--repeat", "1", "--peers", ","],
        ["forward", "-o", "-"],
        [],
        ["--help"],
        ["forward", "--help"],
        ["--version"],
    ]
    for command, done in zip(commands, run_copies(commands, CLOSED), strict=True):
        assert (done.code, done.err) == (0, ""), command


def test_closed_pipe_leaves_the_output_file_whole(folder):
    process = subprocess.Popen(
        [*ATTN, "forward", str(SAMPLES / "dates.npz"), "--full", "-o", "run.npz"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip
    process.stdout.close()
    process.communicate(timeout=60)
    with np.load("run.npz") as run:
        assert run["weights"].shape == (4, 10, 29)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_full_standard_output_is_an_error():
    dates = SAMPLES / "dates.npz"
    commands = [
        ["forward"],
        ["forward", "--json"],
        ["forward", "-o", "-"],
        ["backward"],
        ["gradcheck", "--layer", "softmax"],
        ["show-weights", dates],
        ["show-weights", dates, "--json"],
        ["trace"],
        ["convention", SAMPLES / "minilm_qkv.npz"],
        ["compare", dates, dates],
        ["bench", "--shapes", "2,5,3", "--repeat", "1", "--engines", "core", "--peers", ","],
        ["--help"],
        ["--version"],
    ]
    message = "standard output: cannot be written: no space left on device"
    told = {"error": message, "hint": None, "code": 2}
    first = "import os\nos.dup2(os.open('/dev/full', os.O_WRONLY), 1)"
    for command, done in zip(commands, run_copies(commands, first), strict=True):
        expected = json.dumps(told) if "--json" in command else f"error: {message}"
        assert (done.code, done.err) == (2, f"{expected}\n"), command


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_leave_nothing_half_written(folder, number, code):
    (folder / "run.npz").write_bytes(b"old")
    states = io.BytesIO()
    np.savez(states, hs_enc=np.zeros((64, 900, 64)), hs_dec=np.zeros((64, 900, 64)))
    process = subprocess.Popen(
        [*ATTN, "forward", "-", "-o", "run.npz", "--force", "--engine", "reference"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdin.write(states.getvalue())  # returns when nearly all of it has been read
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"Traceback" not in err
    assert err.strip() == (b"interrupted" if number == signal.SIGINT else b"")
    assert os.listdir(folder) == ["run.npz"]
    assert (folder / "run.npz").read_bytes() == b"old"


@pytest.mark.parametrize(
    "environment",
    [
        {"COLUMNS": "0"},
        {"COLUMNS": "1"},
        {"COLUMNS": "20"},
        {"COLUMNS": "99999999999"},
        {"TERM": "dumb"},
        {"TERM": None},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
        {"HOME": None},
    ],
)
def test_odd_surroundings(environment):
    surroundings = {k: v for k, v in (os.environ | environment).items() if v is not None}
    done = subprocess.run(
        [*ATTN, "show-weights", str(SAMPLES / "paraphrase.npz")],
        env=surroundings,
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_deleted_working_directory(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f"cd {gone} && rmdir {gone} && {sys.executable} -P -m attncli forward --N 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_closed_streams():
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m attncli forward >&- 2>&-"], capture_output=True
    )
    assert done.returncode == 0


def test_run_file_is_not_written_to_a_terminal(attn):
    result = attn("forward", "-o", "-", columns=80)
    assert result.code == 2
    assert "standard output is a terminal" in result.err


def test_closed_standard_error_changes_no_verdict(folder):
    np.save("w.npy", np.array([[0.5, 0.9]]))
    for arguments, code in ((["show-weights", "w.npy"], 0), (["forward", "missing.npz"], 2)):
        process = subprocess.Popen(
            [*ATTN, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, bufsize=0
        )
        process.stderr.close()
        assert process.wait(60) == code


def test_a_verdict_on_code_that_prints_stays_where_nobody_hears_it(folder):
    (folder / "mine.py").write_text("print('x' * 5000)\nclass WeightSum(\n")
    for command in ("check", "gradcheck"):
        process = subprocess.Popen(
            [*ATTN, command, "mine.py"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        process.stderr.close()
        assert process.wait(60) == 1


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no such signal here")
def test_what_nohup_starts_outlives_its_terminal():
    ignoring = ["sh", "-c", 'trap "" HUP; exec "$@"', "-", *ATTN, "show-weights", "-"]
    process = subprocess.Popen(
        ignoring, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    weights = io.BytesIO()
    np.save(weights, np.full((300, 500), 1 / 500))
    process.stdin.write(weights.getvalue())  # returns when most of it has been read
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, b"0.002" in out) == (0, True)


def test_closed_standard_input_is_empty():
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m attncli show-weights - <&-"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "standard input: not an .npz, .npy, .safetensors, .zarr, .json" in done.stderr


@pytest.mark.parametrize("target", ["/dev/null", ">(cat > through.npz)", "/dev/stdout"])
def test_run_file_through_devices_and_pipes(folder, target):
    command = f"{sys.executable} -m attncli forward -q -o {target} | cat > piped; sleep 0.3"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    written = {"/dev/stdout": "piped", "/dev/null": None}.get(target, "through.npz")
    if written is not None:
        with np.load(written) as run:
            assert run["out"].shape == (3, 5, 4)


def test_own_standard_input_is_not_overwritten(folder, states):
    np.savez("in.npz", **states)
    command = f"{sys.executable} -m attncli forward - -o in.npz --force < in.npz"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 2
    assert "in.npz: is an input of this command" in done.stderr


def test_standard_error_has_colour_only_where_it_is_wanted(attn, monkeypatch):
    coloured = attn("forward", "missing.npz", columns=80, colors="truecolor")
    assert "\x1b[31m" in coloured.err
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in attn("forward", "missing.npz", columns=80, colors="truecolor").err
    monkeypatch.delenv("NO_COLOR")
    never = attn("forward", "missing.npz", "--color", "never", columns=80, colors="truecolor")
    assert "\x1b[" not in never.err


def test_a_very_long_name_makes_a_short_message(attn, folder):
    np.savez("x.npz", **{"n" * 5000: np.ones(1)})
    result = attn("forward", "x.npz")
    assert result.code == 2
    assert len(result.err) < 1200


def test_layers_and_engines_of_the_options_are_those_there_are():
    from attncli.cli import options
    from attncli.operations import ENGINES, OPERATIONS, WITH_WEIGHTS

    assert {*options.LAYERS, *options.WITH_WEIGHTS} == set(OPERATIONS)
    assert options.WITH_WEIGHTS == WITH_WEIGHTS
    assert set(options.ENGINES) == {*ENGINES, "dask"}  # which is run from elsewhere


def test_quiet_and_verbose_contradict(attn):
    result = attn("forward", "-q", "-v")
    assert (result.code, "contradict each other" in result.err) == (2, True)


def test_quiet_json_is_still_printed(attn):
    assert attn("gradcheck", "--layer", "softmax", "-q", "--json").json["passed"] is True


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "ours.txt"),
        PermissionError(errno.EACCES, "Permission denied", "ours.txt"),
        OSError(errno.ENOSPC, "No space left on device", "ours.txt"),
        OSError("no number"),
        OSError(),
    ],
    ids=["missing file", "forbidden file", "full file", "text alone", "nothing"],
)
def test_an_error_of_the_system_that_is_not_of_the_output_is_a_bug(attn, monkeypatch, error):
    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr("attncli.problems.problem.run", fail)
    result = attn("forward")
    assert (result.code, result.out) == (main.BUG, "")
    assert result.err.startswith("Traceback")
    assert "this is a bug in attn" in result.err


BLAS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
SHOW_ENVIRONMENT = f"""
import os, runpy, sys
sys.argv = ["attn", "--version"]
try:
    runpy.run_module("attncli", run_name="__main__")
finally:
    print(*(os.environ[name] for name in {BLAS}))
"""


@pytest.mark.parametrize("given", [(), BLAS[:1], BLAS[1:], BLAS])
def test_threads_of_the_blas_are_one_unless_the_user_says_otherwise(given):
    surroundings = {name: value for name, value in os.environ.items() if name not in BLAS}
    done = subprocess.run(
        [sys.executable, "-c", SHOW_ENVIRONMENT],
        env=surroundings | dict.fromkeys(given, "3"), capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    expected = ["3" if name in given else "1" for name in BLAS]
    assert done.stdout.splitlines()[-1].split() == expected
