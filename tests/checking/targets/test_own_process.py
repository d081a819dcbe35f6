"""Somebody's code in a process of its own: whatever it does, it is said, and the rest is judged."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

import attncli

RIGHT = """
class WeightSum:
    def __init__(self):
        self.params, self.grads = [], []

    def forward(self, hs, a):
        {forward}
        self.cache = hs, a
        return (hs * a[:, :, None]).sum(axis=1)

    def backward(self, dc):
        {backward}
        hs, a = self.cache
        return dc[:, None, :] * a[:, :, None], (dc[:, None, :] * hs).sum(axis=2)
"""
OTHER = RIGHT.format(forward="pass", backward="pass").replace("WeightSum", "OtherWeightSum")

# What code may do, and what is said of it.
ENDS = {
    "os._exit(0)": "ends its process (exit code 0)",
    "sys.exit(0)": "it exits, and a layer must not",
    "raise KeyboardInterrupt": "raises KeyboardInterrupt",
    "raise SystemExit(143)": "raises SystemExit",
    "while True: pass": "does not end within 1 s",
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(100)": "does not end within 1 s",
    "os.kill(os.getpid(), signal.SIGSTOP)": "does not end within 1 s",
    "os.kill(os.getppid(), signal.SIGKILL); time.sleep(100)": "ends the process that started it",
    "os.kill(os.getppid(), signal.SIGKILL); os._exit(0)": "ends the process that started it",
    "os.abort()": "ends its process by SIGABRT",
    "os.closerange(3, 100)": "closes the channel",
    "f = lambda: f(); f()": "it calls itself without end",
    "input('name: ')": "it asks for input",
    "held = np.ones(20_000_000)": "--max-memory allows more",
    "held = [bytearray(10**7) for i in range(15)]": "--max-memory allows more",
    "raise ValueError('not yet')": "raises ValueError: not yet",
}
LIMITS = "--time-limit", 1, "--max-memory", "100MB"
HEAD = "import os, signal, sys, threading, time\nimport numpy as np\n"


@pytest.mark.parametrize("act", ENDS)
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_what_ends_a_call_is_said_and_other_layers_are_judged(attn, folder, act, where):
    spoilt = RIGHT.format(**{"forward": "pass", "backward": "pass", where: act})
    (folder / "mine.py").write_text(HEAD + spoilt + OTHER)
    result = attn("check", "mine.py", "--as", "weight-sum", *LIMITS, "--json")
    first, second = result.json["targets"]
    assert (result.code, first["passed"], second["passed"]) == (1, False, True)
    details = {f["detail"] for f in first["findings"] if f["status"] == "wrong"}
    assert any(ENDS[act] in detail for detail in details), details
    assert first["diagnoses"] == []


@pytest.mark.parametrize("act", ENDS)
def test_what_ends_loading_is_said(attn, folder, act):
    (folder / "mine.py").write_text(f"{HEAD}{act}\n{OTHER}")
    result = attn("check", "mine.py", *LIMITS)
    said = ENDS[act] if "exits" not in ENDS[act] else "if __name__ == '__main__'"
    assert result.code == 1
    assert said in " ".join(result.out.split())
    assert "nothing could be checked" in result.out
    (told,) = attn("check", "mine.py", *LIMITS, "--json").json["targets"]
    assert said in f"{told['error']}: {told.get('hint')}"


def test_what_has_a_gap_is_a_no_of_gradcheck_and_what_has_no_backward_is_nothing_to_prove(
    attn, folder
):
    gap = RIGHT.format(forward="return ...", backward="pass")
    (folder / "mine.py").write_text(HEAD + gap + OTHER)
    result = attn("gradcheck", "mine.py")
    assert result.code == 1
    assert "WRONG: forward returns a gap (...)" in result.out
    assert "mine.py:OtherWeightSum" in result.out
    (folder / "alone.py").write_text("def attend(q, k, v):\n    return v\n")
    result = attn("gradcheck", "alone.py")
    assert (result.code, result.out) == (2, "")
    assert "has no backward that could be proved" in result.err
    assert "hint:  attn check alone.py:attend" in result.err


@pytest.mark.parametrize("command", ["check", "gradcheck"])
def test_gradcheck_says_no_as_well(attn, folder, command):
    broken = RIGHT.format(forward="os._exit(0)", backward="pass")
    (folder / "mine.py").write_text(HEAD + broken + OTHER)
    result = attn(command, "mine.py")
    assert result.code == 1
    assert "forward ends its process (exit code 0)" in " ".join(result.out.split())
    assert "mine.py:OtherWeightSum" in result.out


LIES = """
class Same:
    def __eq__(self, other): return True
    def __getattr__(self, name): return lambda *a, **k: True

print("all tests passed")
for name in ("allclose", "array_equal", "isclose", "array_equiv", "abs", "isfinite"):
    setattr(np, name, lambda *a, **k: np.bool_(True))
np.testing.assert_allclose = lambda *a, **k: None
import attncli.checking.comparing.agreement as ours
ours.near = ours.errors = Same()
import attncli.checking.diagnosing.examination as also
also.near = Same()
sys.exit = os._exit
"""


def test_the_verdict_is_from_the_numbers_and_not_from_what_code_says_of_itself(attn, folder):
    wrong = OTHER.replace("return (hs", "return 1.5 * (hs")
    (folder / "mine.py").write_text(HEAD + LIES + wrong)
    result = attn("check", "mine.py", "--json")
    assert (result.code, result.json["passed"]) == (1, False)
    assert "factor 1.5" in str(result.json)
    assert result.err == (
        "mine.py prints: all tests passed\nnote: mine.py: passed over Same (no forward)\n"
    )


CHANGES = """
os.environ["HOME"] = "elsewhere"
os.chdir("/")
sys.path.clear()
np.zeros = None
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.setrecursionlimit(50_000)
sys.stdout = sys.stderr = None
threading.Thread(target=time.sleep, args=(1000,)).start()
if os.fork() == 0:
    time.sleep(1000)
"""


def test_nothing_of_it_reaches_this_process_or_the_next_target(attn, folder):
    before = os.getcwd(), dict(os.environ), sys.path[:], np.zeros, sys.getrecursionlimit()
    interrupted = signal.getsignal(signal.SIGINT)
    (folder / "mine.py").write_text(HEAD + OTHER + "def change():\n" + "\n".join(
        f"    {line}" for line in CHANGES.strip().splitlines()
    ) + "\n" + RIGHT.format(forward="change()", backward="pass"))  # fmt: skip
    result = attn("check", "mine.py", "--json", "--as", "weight-sum")
    assert [one["passed"] for one in result.json["targets"]] == [True, True]
    after = os.getcwd(), dict(os.environ), sys.path[:], np.zeros, sys.getrecursionlimit()
    assert after == before
    assert signal.getsignal(signal.SIGINT) is interrupted
    assert "mine" not in sys.modules


def test_files_of_one_name_are_told_apart_in_one_process(folder):
    for name, scale in (("a", 1), ("b", 2)):
        (folder / name).mkdir()
        (folder / name / "helper.py").write_text(f"scale = {scale}\n")
        scaled = OTHER.replace("return (hs", "return scale * (hs")
        (folder / name / "mine.py").write_text("from helper import scale\n" + scaled)
    targets = [f"{name}/mine.py:OtherWeightSum" for name in "ab"]
    assert [attncli.check(one).passed for one in targets] == [True, False]
    assert [attncli.check(one).passed for one in targets[::-1]] == [False, True]


def test_what_is_given_as_an_object_runs_here():
    here = []

    class WeightSum(attncli.layers.WeightSum):
        def forward(self, hs, a):
            here.append(os.getpid())
            return super().forward(hs, a)

    assert attncli.check(WeightSum).passed
    assert set(here) == {os.getpid()}


def test_more_memory_may_be_allowed(attn, folder):
    source = RIGHT.format(forward="held = np.empty(50_000_000)", backward="pass")
    (folder / "mine.py").write_text(HEAD + source)
    assert attn("check", "mine.py", "--max-memory", "300MB").code == 1
    assert attn("check", "mine.py").code == 0
    twice = source.replace("50_000_000", "250_000_000")
    (folder / "mine.py").write_text(HEAD + twice)
    assert attn("check", "mine.py").code == 1


SPEAKS = RIGHT.format(forward="print('\\x1b[2J' + 'x' * 200_000)", backward="pass")


def test_what_it_prints_is_capped_and_harmless(attn, folder):
    (folder / "mine.py").write_text(HEAD + SPEAKS)
    result = attn("check", "mine.py", "--json")
    assert (result.code, result.json["passed"]) == (0, True)
    assert result.err.startswith("mine.py:WeightSum prints: \\x1b[2Jxxx")
    assert "more bytes are not shown)" in result.err
    assert len(result.err) < 70_000


def test_a_pair_of_numbers_as_a_default_is_known_in_every_process(attn, folder):
    source = RIGHT.format(forward="assert blocks == (64, 64)", backward="pass")
    source = source.replace("hs, a):", "hs, a, blocks=(64, 64)):")
    (folder / "mine.py").write_text(source + source.replace("WeightSum", "OtherWeightSum"))
    assert attn("check", "mine.py", "--as", "weight-sum").code == 0


def test_calls_that_end_each_and_never_together_are_ended(attn, folder, monkeypatch):
    monkeypatch.setattr("attncli.checking.targets.loading._TOGETHER", 0.05)
    (folder / "mine.py").write_text(
        "import time\n"
        "from attncli.layers import WeightSum as Right\n"
        "class WeightSum(Right):\n"
        "    def forward(self, hs, a):\n"
        "        time.sleep(0.1)\n"
        "        return super().forward(hs, a)\n"
    )
    result = attn("check", "mine.py", "--time-limit", 10)
    assert result.code == 1
    assert "does not end: all calls together take more than 0.5 s" in result.out


GROUPED = """
import os
import numpy as np

def attention(query, key, value):
    if query.ndim > 3 and query.shape[1] != key.shape[1]:
        os.abort()  # as one that writes into memory that is not its own
    scores = query @ np.swapaxes(key, -1, -2) / np.sqrt(query.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return {factor} * weights / weights.sum(-1, keepdims=True) @ value
"""


@pytest.mark.parametrize(("factor", "right"), [("1", True), ("(1 + (len(query) == 1))", False)])
def test_what_need_not_be_taken_may_cost_the_process_and_the_rest_is_judged(
    folder: Path, factor: str, right: bool
) -> None:
    (folder / "kernel.py").write_text(GROUPED.replace("{factor}", factor))
    report = attncli.check("kernel.py:attention")
    assert report.passed == right, report
    skipped = [finding.detail for finding in report.findings if finding.status == "skipped"]
    assert any("forward ends its process by SIGABRT" in detail for detail in skipped)


@pytest.mark.parametrize("option", [(), ("--thorough",)])
def test_what_never_ends_costs_one_time_limit(attn, folder, option):
    loop = "open('calls', 'a').write('x')\n        while True: pass"
    (folder / "mine.py").write_text(HEAD + RIGHT.format(forward=loop, backward="pass"))
    result = attn("check", "mine.py", "--as", "weight-sum", *LIMITS, *option)
    assert (result.code, (folder / "calls").read_text()) == (1, "x")
    assert "does not end within 1 s" in result.out
