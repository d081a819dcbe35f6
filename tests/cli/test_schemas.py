"""JSON Schemas of what commands answer with under --json: real answers are held against them."""

import json
import os
import shlex
import signal
from unittest import mock

import jsonschema
import numpy as np
import pytest
from conftest import SAMPLES

from attncli.cli.guide import SCHEMAS
from attncli.cli.main import COMMANDS
from attncli.cli.main import attn as group

FOLDER = SAMPLES.parent / "attncli" / "guide" / "schemas"


def validate(name, told):
    schema = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(told)


def test_each_command_with_json_has_one_and_the_guide_shows_it(attn):
    with_json = set()
    for name in COMMANDS:
        options = group.get_command(None, name).params
        with_json |= {name for one in options if "--json" in one.opts}
    assert {*with_json, "error"} == {*SCHEMAS} == {path.stem for path in FOLDER.iterdir()}
    for name in SCHEMAS:
        shown = attn("guide", "json", "--schema", name)
        jsonschema.Draft202012Validator.check_schema(shown.json)
        assert shown.json == json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


ANSWERS = """
forward
forward dates.npz
forward dates.npz --engine reference
forward minilm_qkv.npz
forward --layer scaled-dot-product --rotary halves --heads 2,1 --layout N,T,heads,H --window 1,0
forward --softcap 2 --scale 3
forward --engine dask --dry-run --T 1000
forward --layer softmax
forward --layer weight-sum
forward --layer attention-weight
forward --layer attention --causal-align lower-right --window 1
forward --layer scaled-dot-product --keep-prob 0.5 --heads 2 --sinks 0 --alibi
forward --layer scaled-dot-product --cu-seqlens 0,2,5 --cu-seqlens-k 0,1,5 --N 1
forward --layer scaled-dot-product --segments 2,3 --kv-lengths 1,2,3 --seed 5 --threads 1
forward --layer luong --no-weights
forward nan.npz --allow-nonfinite
forward paraphrase.npz --weights --dtype float16
forward mask.npz
backward
backward minilm_qkv.npz
backward --layer multi-head --heads 2 --N 1 --T 2
backward --layer softmax
backward --layer attention --causal --scale 2
backward --layer scaled-dot-product --rotary halves --rotary-width 2 --rotary-base 9 --softcap 1
backward --layer scaled-dot-product --window 1,0 --heads 2,1 --layout N,T,heads,H --keep-prob 0.5
backward --layer scaled-dot-product --cu-seqlens 0,2,5 --cu-seqlens-k 0,1,5 --N 1
backward dates.npz --seed 2
backward paraphrase.npz
backward mask.npz
backward --engine dask --dry-run --workers 3 --block 2
gradcheck --layer softmax
gradcheck --segments 2,3 --T 5 --sinks 0 --causal --layer time-attention --N 1 --H 1
gradcheck empty.py exercise/wrong_1.py:Softmax --method central --tol 1e-3 --seed 2
check exercise/wrong_1.py:TimeAttention
check exercise/wrong_1.py:Softmax empty.py --dtype float32 --as softmax
check raises.py
check exercise/wrong_1.py:TimeAttention
check exercise/wrong_1.py:TimeAttention none.py empty.py
convention minilm_qkv.npz
convention minilm_qkv.npz --causal
convention minilm_qkv.npz dates.npz none.npz off.npz
convention off.npz
compare minilm_qkv.npz minilm_qkv.npz
compare minilm_qkv.npz off.npz --only output --budget minilm_qkv.npz
compare minilm_qkv.npz off.npz --atol 10 --rtol 1
compare x.npz y.npz
compare x.npz y.npz --equal-nan --ignore b --ignore c
compare x.npz y.npz --map b=c
compare dates.npz by_hand.npz
compare minilm_qkv.npz minilm_qkv.npz --only output --budget minilm_qkv.npz
show-weights minilm_heads.npz --layer 1 --head 2
show-weights minilm_heads.npz --layer 1 --head 2 --top 2 --rows 0:3
show-weights minilm_heads.npz --rollout
show-weights minilm_heads.npz --layer 1 --head 1 --grid 3x5
show-weights minilm_heads.npz --layer 1 --head 1 --threshold 0.1
show-weights minilm_heads.npz --layer 1 --head 1 --row 2
show-weights minilm_heads.npz --layer 1 --head 1 --diff minilm_heads.npz
show-weights minilm_heads.npz --mean heads --mean layers --renormalize
show-weights minilm_heads.npz --layer 1 --sort entropy --pool mean
show-weights minilm_heads.npz --layer 1 --merge-subwords --overlay
show-weights frames.npz --axes frames,N,dec,enc --frame 1
show-weights dates.npz
show-mask --T 3 --causal --kv-lengths 2,3 --against '--kv-lengths 1,3'
show-mask paraphrase.npz
show-mask mask.npz --full
show-mask --T 5 --segments 2,3/1,4 --item 0 --tile 2,3
show-mask --T 3 --T-enc 5 --causal --convention flash-attention
show-mask --T 4 --window 4 --against --causal
trace by_hand.npz
trace by_hand.npz --step 1
trace --layer multi-head --heads 2 --head 1 --item 1
trace --layer scaled-dot-product --window 1,0 --softcap 2 --scale 3 --keep-prob 0.5
trace --layer scaled-dot-product --rotary halves --rotary-base 9 --heads 2,1 --layout N,T,heads,H
trace --layer scaled-dot-product --segments 2,3 --sinks 0 --alibi --heads 2 --causal
trace --layer scaled-dot-product --cu-seqlens 0,2,5 --N 1
trace --causal-align lower-right --window 1 --forward --only scores
trace mask.npz --backward
trace nan.npz --allow-nonfinite
trace by_hand.npz --what-if hs_dec[0,1,1]+=0.1
bench --shapes 2,3,4 --repeat 1 --peers , --dtype float32 --causal
bench --shapes 2,3,4 --repeat 1 --peers , --dtype float64 --window 1 --segments 2 --accuracy
bench --scaling --shapes 1,8,2 --dtype float32
explain
explain scale-missing
exercise
exercise start
exercise start masks
exercise check
exercise check masks
exercise hint
exercise hint masks
exercise show masks
""".strip().splitlines()


@pytest.mark.parametrize("line", ANSWERS)
def test_an_answer_is_of_its_schema(attn, folder, monkeypatch, line):
    monkeypatch.setattr("attncli.benchmarks.measure._LAST_T", 16)
    for path in SAMPLES.iterdir():
        os.symlink(path, path.name)
    (folder / "empty.py").write_text("")
    np.savez("x.npz", a=np.array([1.0, np.nan]), b=np.ones(2))
    np.savez("y.npz", a=np.array([np.inf, 1.0]), c=np.ones(2))
    rng = np.random.default_rng(3)
    query, key = rng.normal(size=(2, 2, 5, 3))
    np.savez("nan.npz", hs_enc=np.where(key > 1, np.nan, key), hs_dec=query)
    np.savez("mask.npz", query=query, key=key, value=key, mask=rng.random((2, 5, 5)) < 0.6)
    np.savez("frames.npz", weights=rng.dirichlet(np.ones(7), size=(3, 2, 5)))
    with np.load("minilm_qkv.npz") as dump:
        np.savez("off.npz", **{**dump, "output": dump["output"] + (np.arange(32) == 5)})
    (folder / "raises.py").write_text("class Softmax:\n  def forward(self, x): return 1 / 0\n")
    if line.startswith(("exercise check", "exercise hint")):
        attn("exercise", "start", *line.split()[2:])
    result = attn(*shlex.split(line), "--json")
    assert result.json["schema"] == 1
    validate(line.split()[0], result.json)
    with pytest.raises(jsonschema.ValidationError):
        validate(line.split()[0], result.json | {"another": 1})


@pytest.mark.parametrize(
    "line",
    [
        "fwd", "forward --n 3", "forward --N x", "show-weights", "forward none.npz", "forward a b",
        "forward --force", "forward -o - ", "check none.py", "compare x.npz x.npz",
    ],
)  # fmt: skip
def test_an_error_is_one_object(attn, folder, line):
    result = attn(*line.split(), "--json")
    assert (result.code, result.out) == (2, "")
    told = json.loads(result.objects)
    validate("error", told)
    assert told["code"] == 2


def test_a_bug_and_an_interruption_are_objects_too(attn, monkeypatch):
    for error, code in ((ZeroDivisionError(), 70), (KeyboardInterrupt(), 128 + signal.SIGINT)):
        fail = mock.Mock(side_effect=error)
        monkeypatch.setattr("attncli.problems.problem.run", fail)
        result = attn("forward", "--json")
        told = json.loads(result.objects)
        validate("error", told)
        assert (result.code, result.out, told["code"]) == (code, "", code)
        assert ("traceback" in told) == (code == 70)


def test_what_code_of_ones_own_prints_is_a_note(attn, folder):
    (folder / "mine.py").write_text("print('hello')\nclass Softmax:\n    pass\n")
    result = attn("check", "mine.py", "--json")
    told = [json.loads(line) for line in result.objects.splitlines()]
    assert any("hello" in one.get("note", "") for one in told)


def test_warnings_are_objects(attn):
    result = attn("forward", "--T", 3, "--T-enc", 5, "--window", 0, "--causal-align", "upper-left",
                  "--kv-lengths", "0,5,5", "--json")  # fmt: skip
    (told,) = map(json.loads, result.objects.splitlines())
    assert list(told) == ["warning"]
