"""Somebody's code in a process of its own: whatever it does, it is said, and the rest is judged."""

import json
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


def limits(act):
    """On a busy machine a second may be too short for what ends by itself."""
    loops = "does not end" in ENDS[act] or "sleep" in act
    return "--time-limit", 1 if loops else 20, "--max-memory", "100MB"


HEAD = "import os, signal, sys, threading, time\nimport numpy as np\n"


@pytest.mark.parametrize("act", ENDS)
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_what_ends_a_call_is_said_and_other_layers_are_judged(attn, folder, act, where):
    spoilt = RIGHT.format(**{"forward": "pass", "backward": "pass", where: act})
    (folder / "mine.py").write_text(HEAD + spoilt + OTHER)
    result = attn("check", "mine.py", "--as", "weight-sum", *limits(act), "--json")
    first, second = result.json["targets"]
    assert (result.code, first["passed"], second["passed"]) == (1, False, True)
    details = {f["detail"] for f in first["findings"] if f["status"] == "wrong"}
    assert any(ENDS[act] in detail for detail in details), details
    assert first["diagnoses"] == []


@pytest.mark.parametrize("act", ENDS)
def test_what_ends_loading_is_said(attn, folder, act):
    (folder / "mine.py").write_text(f"{HEAD}{act}\n{OTHER}")
    result = attn("check", "mine.py", *limits(act))
    said = ENDS[act] if "exits" not in ENDS[act] else "if __name__ == '__main__'"
    assert result.code == 1
    assert said in " ".join(result.out.split())
    assert "nothing could be checked" in result.out
    (told,) = attn("check", "mine.py", *limits(act), "--json").json["targets"]
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


# What code may do to be believed or heard, or to outlive us; by what is said of it.
FORGED = """
def send(text, more=b""):
    import socket, struct
    for number in range(3, 50):
        try:
            there = socket.socket(fileno=os.dup(number))
            there.getpeername()
        except OSError:
            continue
        there.setblocking(True)
        there.sendall(struct.pack(">II", len(text), len(more)) + text.encode() + more)
        time.sleep(1000)
"""
MINE = "class Mine(Exception):\n    "
MESSAGE = "writes into the channel"
UNTRUE = '{"value": {"is": "plain", "value": []}, "facts": [[], [], 0, "", ""]}'
ACTS = {
    "Exits": (f"{MINE}def __str__(self): os._exit(0)", "raise Mine", "exit code 0"),
    "Leaves": (f"{MINE}def __str__(self): sys.exit(0)", "raise Mine", "cannot be read"),
    "Loud": (f"{MINE}__notes__ = ['n' * 10**6]", "raise Mine('m' * 10**6)", "mmm … mmm"),
    "Named": ("Mine = type('M' * 10**6, (Exception,), {})", "raise Mine", "MMM … MMM"),
    "Lines": ("", "raise ValueError('line\\n' * 10**5)", "line line line"),
    "Forged": ("", """send('[{"value": 1}, []]')""", MESSAGE),
    "Untrue": ("", f"send('[{UNTRUE}, []]')", MESSAGE),
    "Absurd": ("", "send('[' * 10**5)", MESSAGE),
    "Typed": ("", "return type('T' * 10**6, (), {})()", "TTT … TTT"),
    "Traced": ("def trace(*a): os._exit(0)", "sys.settrace(trace)", "exit code 0"),
    "Collected": ("import gc", "gc.callbacks.append(lambda *a: os._exit(0))", "exit code 0"),
}
# What is odd, and no fault of what is computed.
HARMLESS = """
import atexit, contextlib, gc, resource
class Deleted:
    def __del__(self): sys.exit(3)
Deleted()
self.deleted = Deleted()
atexit.register(time.sleep, 1000)
gc.disable()
os.umask(0o777)
os.chdir("/")
os.environ.clear()
sys.settrace(lambda *a: None)
with contextlib.suppress(OSError):
    print('{"passed": false}', flush=True)
np.testing.assert_allclose = np.allclose = np.asarray = np.frombuffer = np.dtype = None
os.closerange(1, 3)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
"""


def test_nothing_that_it_does_is_believed_and_all_of_it_is_judged(attn, folder):
    """And little is said of it."""
    layers = [HEAD, FORGED]
    for name, (before, act, _) in ACTS.items():
        layer = before + RIGHT.format(forward=act, backward="pass")
        layers.append(layer.replace("WeightSum", name).replace("Mine", f"{name}Error"))
    harmless = "\n        ".join(HARMLESS.strip().splitlines())
    layers += [RIGHT.format(forward="pass", backward=harmless).replace("WeightSum", "Harmless")]
    (folder / "mine.py").write_text("\n".join(layers))
    result = attn("check", "mine.py", "--as", "weight-sum", "--json", "--time-limit", 5)
    assert result.code == 1
    assert len(result.objects) <= 8192
    assert len(result.out) <= 500_000
    *ends, harmless = result.json["targets"]
    assert harmless["passed"], harmless
    for told, (name, (_, _, says)) in zip(ends, ACTS.items(), strict=True):
        assert not told["passed"]
        assert says in json.dumps(told, ensure_ascii=False), (name, told)


@pytest.mark.parametrize(
    "source",
    [
        "x = (" + "1," * 100_000,
        "x = " + "é" * 1_000_000 + " 7 7\n",
        "x = " + "(" * 100_000,
        "x = " + "-" * 100_000 + "1\nraise KeyError(x)",
        "raise SyntaxError('m' * 10**6, ('f' * 10**6, 1, 1, 't' * 10**6))",
    ],
)
def test_source_that_is_no_source_is_a_few_lines(attn, folder, source):
    (folder / "mine.py").write_text(source)
    result = attn("check", "mine.py")
    assert (result.code, "nothing could be checked" in result.out) == (1, True)
    assert len(result.err.encode()) + len(result.out.encode()) <= 8192


SPEAKS = RIGHT.format(forward="print('\\x1b[2J' + 'x' * 200_000)", backward="pass")


def test_what_it_prints_is_capped_and_harmless(attn, folder):
    (folder / "mine.py").write_text(HEAD + SPEAKS)
    result = attn("check", "mine.py", "--json")
    assert (result.code, result.json["passed"]) == (0, True)
    assert result.err.startswith("mine.py:WeightSum prints: \\x1b[2Jxxx")
    assert "more bytes are not shown)" in result.err
    assert len(result.err.encode()) <= 8192


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
    result = attn("check", "mine.py", "--as", "weight-sum", *limits("while True: pass"), *option)
    assert (result.code, (folder / "calls").read_text()) == (1, "x")
    assert "does not end within 1 s" in result.out
