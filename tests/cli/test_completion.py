"""Completion: what is offered, in shells that are really there, and of files that wish us ill."""

import io
import os
import pty
import re
import select
import shlex
import shutil
import struct
import subprocess
import sys
import time
import zipfile

import click
import numpy as np
import pytest
from conftest import SAMPLES
from window import quiet_forks

from attncli.checking.exercises import EXERCISES
from attncli.cli import main
from attncli.cli.completing import TRACED, known_to_complete
from attncli.cli.shells import SHELLS
from attncli.files.headers import shapes_at_a_glance
from attncli.files.writing import save

GROUP = click.Context(main.attn, info_name="attn")
ATTN = [sys.executable, "-m", "attncli"]
HEADS = "sample_inputs/minilm_heads.npz"  # of layers 0 to 5, each of twelve heads


def test_commands_are_offered_with_what_they_are_for():
    found = [(item.value, item.help) for item in main.attn.shell_complete(GROUP, "co")]
    assert found == [(n, main.COMMANDS[n][1]) for n in ("convention", "compare", "completion")]


@pytest.fixture
def offered(folder, monkeypatch):
    """What is offered behind a line, as bash is told of it: the kind and the value of each."""

    def ask(line):
        monkeypatch.setenv("_ATTN_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_BREAKS", " \t\n\"'><=;|&(:")
        answer = SHELLS["bash"](main.attn, {}, "attn", "_ATTN_COMPLETE").complete()
        return [tuple(one.split(",", 1)) for one in answer.splitlines()]

    return ask


def values(found):
    return [value for _, value in found]


def test_every_command_is_offered_and_none_imported(offered, monkeypatch):
    monkeypatch.setattr(main, "importlib", None)
    assert values(offered("attn ")) == list(main.COMMANDS)
    assert values(offered("attn sh")) == ["show-weights", "show-mask"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("attn show-weights --la", ["--layer", "--layout"]),
        ("attn forward --engine t", ["tiled"]),
        ("attn forward --engine=t", ["tiled"]),
        ("attn guide sem", ["semantics"]),
        ("attn help gr", ["gradcheck"]),
        ("attn completion z", ["zsh"]),
        ("attn trace --only dqu", ["dquery"]),
        ("attn trace sample_inputs/by_hand.npz --only scores,wei", ["scores,weights"]),
        ("attn exercise start ma", ["masks"]),
        ("attn exercise show ", [*EXERCISES]),
        ("attn explain scale-missing-", ["scale-missing-in-backward"]),
        (f"attn show-weights {HEADS} --layer ", ["0", "1", "2", "3", "4", "5"]),
        (f"attn show-weights {HEADS} --layer 4,", [f"4,{layer}" for layer in range(6)]),
        (f"attn show-weights {HEADS} --head 1", ["1", "10", "11"]),
        ("attn show-weights sample_inputs/dates.npz --item ", ["0", "1", "2", "3"]),
        ("attn convention x.npz --rename outp", ["output="]),
        ("attn convention sample_inputs/minilm_qkv.npz --rename output=w", ["weights"]),
        ("attn compare sample_inputs/dates.npz sample_inputs/by_hand.npz --only d", ["dout"]),
        ("attn compare sample_inputs/dates.npz sample_inputs/by_hand.npz --map hs_enc=d", ["dout"]),
        ("attn check sample_inputs/exercise/wrong_1.py:At", ["AttentionWeight", "Attention"]),
        ("attn nonsense ", []),
        ("attn forward --nonsense ", []),
        ("attn forward --N ", []),
    ],
)  # fmt: skip
def test_what_is_offered(offered, line, expected):
    assert values(offered(line)) == expected


def test_files_are_those_that_the_command_takes(offered, folder):
    for name in ("a.npz", "b c.npz", "layer.py", "x.txt", ".hidden.npz", "line\nbreak.npz"):
        (folder / name).touch()
    (folder / "more").mkdir()
    assert offered("attn forward ") == [("file", "a.npz"), ("file", "b c.npz"), ("dir", "more")]
    assert offered("attn check ") == [("file", "layer.py"), ("dir", "more")]
    assert offered("attn show-weights a.npz --tokens ") == [("dir", "more"), ("file", "x.txt")]
    assert offered("attn forward .h") == [("file", ".hidden.npz")]
    (folder / "more" / "d.npy").touch()
    assert offered("attn forward more/") == [("file", "more/d.npy")]
    assert ("file", "sample_inputs/dates.npz") in offered("attn forward sample_inputs/")


@pytest.mark.parametrize("command", main.COMMANDS)
def test_of_every_parameter_it_is_known_what_it_takes(command):
    """A new one is a choice, a number, a flag, one that completes, or free text named here."""
    free = {
        "window", "segments", "cu_seqlens", "cu_seqlens_k", "kv_lengths", "sinks", "heads",
        "shapes",
        "layout", "max_memory", "scheduler", "worker_memory", "arguments", "device", "axes", "rows",
        "cols", "row", "col", "grid", "against", "tile", "what_if", "engines", "peers",
    }  # fmt: skip
    by_itself = {"mistake", "topic", "command"}
    for param in main.attn.get_command(GROUP, command).params:
        kinds = (click.Choice, click.IntRange, click.FloatRange)
        typed = isinstance(param.type, kinds) or param.type in (click.INT, click.FLOAT)
        flag = getattr(param, "is_flag", False) or getattr(param, "hidden", False)
        assert typed or flag or known_to_complete(param) or param.name in free | by_itself, param


def test_the_intermediates_that_are_offered_are_those_of_a_trace(attn):
    named = set()
    for layer in ("time-attention", "scaled-dot-product"):
        named |= {one["name"] for one in attn("trace", "--layer", layer, "--json").json["trace"]}
    assert set(TRACED) == named


def with_names(path, *names):
    save(str(path), {name: np.ones((2, 3)) for name in names})


def test_a_name_that_a_shell_would_run_is_not_offered(offered, folder):
    with_names(folder / "x.npz", "good", "$(touch run)", "a;b", "two words", "`id`", "új")
    found = offered("attn compare x.npz x.npz --only ")
    assert values(found) == ["good", "új"]


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_names_and_shapes_are_those_that_are_read(folder, ending):
    arrays = {"hs_enc": np.ones((2, 7, 5)), "hs_dec": np.ones((2, 3, 5)), "h": np.ones(11)}
    save(f"x.{ending}", arrays)
    assert shapes_at_a_glance(f"x.{ending}") == {x: one.shape for x, one in arrays.items()}


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_names_and_shapes_in_archives_of_numpy(folder, write):
    arrays = {"a": np.ones(()), "b": np.ones((2, 3), order="F"), "c": np.ones(0)}
    write("x.npz", **arrays)
    assert shapes_at_a_glance("x.npz") == {x: one.shape for x, one in arrays.items()}
    np.save("x.npy", np.ones((5, 7)))
    assert shapes_at_a_glance("x.npy") == {"": (5, 7)}


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.npz")), ids=lambda path: path.name)
def test_names_and_shapes_in_the_samples(sample):
    with np.load(sample) as arrays:
        assert shapes_at_a_glance(str(sample)) == {x: one.shape for x, one in arrays.items()}


def archive(*, count=None, length=None):
    """An archive whose end lies about what is in it."""
    data = io.BytesIO()
    np.savez(data, a=np.ones(3))
    data = bytearray(data.getvalue())
    end = data.rindex(b"PK\x05\x06")
    if count is not None:
        struct.pack_into("<H", data, end + 10, count)
    if length is not None:
        struct.pack_into("<I", data, end + 12, length)
    return bytes(data)


def bomb():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", bytes(50_000_000))
    return data.getvalue()


HOSTILE = {
    "empty": b"",
    "no end": archive()[:-30],
    "more members than there are": archive(count=60_000),
    "a directory of four gigabytes": archive(length=2**32 - 1),
    "a bomb": bomb(),
    "a header of any size": struct.pack("<Q", 2**63) + b"{",
    "nested": struct.pack("<Q", 200_000) + b'{"a":' + b"[" * 199_995,
    "no object": struct.pack("<Q", 4) + b"[[]]",
    "no shape": struct.pack("<Q", 8) + b'{"a": 1}',
    "a shape of words": struct.pack("<Q", 20) + b'{"a":{"shape":"abc"}}'[:20],
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_what_wishes_us_ill_offers_nothing(offered, folder, data):
    (folder / "x.npz").write_bytes(data)
    assert offered("attn compare x.npz x.npz --only ") in ([], [("plain", "a")])
    assert offered("attn show-weights x.npz --layer ") == []


@pytest.mark.parametrize("cut", range(1, 400, 37))
def test_damage_anywhere_offers_at_most_what_is_there(folder, cut):
    (folder / "x.npz").write_bytes(archive()[:cut] + archive()[cut + 1 :])
    assert set(shapes_at_a_glance("x.npz")) <= {"a"}


def test_a_pipe_is_not_waited_for(offered, folder):
    os.mkfifo("x.npz")
    os.mkfifo("x.py")
    assert offered("attn show-weights x.npz --layer ") == []
    assert offered("attn check x.py:") == []


@pytest.mark.parametrize(
    "line", [f"attn show-weights {HEADS} --layer ", "attn check ", "attn convention x --rename h"]
)
def test_completion_imports_neither_numpy_nor_rich(folder, line):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *ATTN[1:]],
        env=os.environ | {"_ATTN_COMPLETE": "bash_complete", "COMP_WORDS": line},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "attncli.cli.completing" in loaded
    assert not {"numpy", "rich"} & loaded


@pytest.fixture
def on_path(folder):
    """A folder with an `attn` in it, which is this one, and files to complete."""
    bin_ = folder / "bin"
    bin_.mkdir()
    (bin_ / "attn").write_text(f'#!/bin/sh\nexec {shlex.join(ATTN)} "$@"\n')
    (bin_ / "attn").chmod(0o755)
    os.makedirs("work/deep")
    for name in ("my run.npz", "other.txt", "deep/d.npz"):
        (folder / "work" / name).touch()
    shutil.copy(SAMPLES / "minilm_qkv.npz", "work/qkv.npz")
    shutil.copy(SAMPLES / "exercise" / "wrong_1.py", "work/layer.py")
    path = os.pathsep.join((str(bin_), os.environ["PATH"]))
    return os.environ | {"PATH": path, "HOME": str(folder), "TERM": "dumb", "PS1": "$ "}


def shown(raw):
    """What stands on the terminal: shells go back and write over what they wrote."""
    lines = []
    for line in re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", raw).split("\n"):
        cells, at = [], 0
        for character in line:
            if character == "\b":
                at -= 1
            elif character == "\r":
                at = 0
            else:
                cells[at:] = [character, *cells[at + 1 :]]
                at += 1
        lines.append("".join(cells))
    return "\n".join(lines)


class Shell:
    """A shell on a terminal, which is typed to."""

    def __init__(self, command, environment):
        self.child, self.terminal = pty.fork()
        if not self.child:
            os.chdir("work")
            os.execvpe(command[0], command, environment)
        self.raw = ""

    def type(self, text, expected):
        """Type, and wait for what the shell then shows."""
        os.write(self.terminal, text.encode())
        self.raw, end = "", time.monotonic() + 60
        while expected not in shown(self.raw):
            ready, _, _ = select.select([self.terminal], [], [], max(0, end - time.monotonic()))
            assert ready, (expected, self.raw)
            self.raw += os.read(self.terminal, 4096).decode("utf-8", "replace")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.terminal)
        os.waitpid(self.child, 0)


def completed_in(shell):
    """Type what is to be completed, and then what shows where the cursor is."""
    for typed, becomes in (
        ("attn show-w", "attn show-weights Q"),
        ("attn show-weights my", r"attn show-weights my\ run.npz Q"),
        ("attn show-weights de", "attn show-weights deep/Q"),
        ("attn check layer.py:Ti", "attn check layer.py:TimeAttention Q"),
        ("attn convention qkv.npz --rename outp", "--rename output=Q"),
        ("attn convention qkv.npz --rename output=wei", "--rename output=weights Q"),
    ):
        shell.type(f"{typed}\tQ", becomes)
        shell.type("\x15echo done\r", "done\n")


needs = {
    name: pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name} here")
    for name in SHELLS
}


@quiet_forks
@needs["bash"]
def test_in_a_real_bash(on_path):
    with Shell(["bash", "--norc", "--noprofile", "-i"], on_path) as shell:
        shell.type(
            'eval "$(attn completion bash)"; bind "set bell-style none"; echo re""ady\r', "ready"
        )
        completed_in(shell)


@quiet_forks
@pytest.mark.shell
@needs["zsh"]
def test_in_a_real_zsh(on_path):
    with Shell(["zsh", "-f", "-i"], on_path) as shell:
        shell.type("autoload -Uz compinit; compinit -u -D; unsetopt beep; PS1='$ '\r", "$ ")
        shell.type('eval "$(attn completion zsh)"; echo re""ady\r', "ready\n")
        completed_in(shell)


@pytest.mark.shell
@needs["fish"]
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("attn show-w", ["show-weights"]),
        ("attn show-weights my", ["my run.npz"]),
        ("attn show-weights de", ["deep/"]),
        ("attn check layer.py:Ti", ["layer.py:TimeAttention"]),
        ("attn convention qkv.npz --rename output=wei", ["output=weights"]),
    ],
)
def test_in_a_real_fish(on_path, line, expected):
    done = subprocess.run(
        ["fish", "--no-config", "-c", f'attn completion fish | source; complete -C "{line}"'],
        env=on_path, cwd="work", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert [one.partition("\t")[0] for one in done.stdout.splitlines()] == expected


@pytest.mark.parametrize("own", SHELLS)
def test_the_line_that_installs_it_is_said(attn, monkeypatch, own):
    monkeypatch.setenv("SHELL", f"/usr/bin/{own}")
    lines = attn("completion").out.splitlines()
    assert len(lines) == len(SHELLS)
    assert f"attn completion {own}" in lines[0]
    there = attn("completion", own, columns=80)
    assert there.err == f"hint:  {lines[0]}\n"
    assert attn("completion", own).out == there.out


@quiet_forks
@needs["bash"]
def test_the_line_installs_it(on_path, folder):
    line = subprocess.run(
        ["attn", "completion"], env=on_path | {"SHELL": "bash"}, capture_output=True, text=True
    ).stdout.splitlines()[0]
    subprocess.run(["bash", "-c", line], env=on_path, check=True)
    with Shell(["bash", "--noprofile", "-i"], on_path) as shell:
        shell.type("attn show-w\tQ", "attn show-weights Q")
