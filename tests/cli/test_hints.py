"""Never a wall: of a command line that cannot be run the hint is one that can, and it is run."""

import shlex

import numpy as np
import pytest
from conftest import SAMPLES

# A wrong command line a line, of one kind a paragraph; "attn" stands before each.
LINES = """
fwd --N 2 --T 3 --H 2
forwrd --T 3
Forward --T 3
backwards --T 3
bwd --T 3
grad-check --layer softmax
grad_check --layer softmax
gradchek --layer softmax
show dates.npz
showweights dates.npz
show-weight dates.npz
show_weights dates.npz
weights dates.npz
plot dates.npz
mask --T 4 --causal
show-masks --T 4
tracee by_hand.npz
cheek right.py
conventions minilm_qkv.npz
compair dates.npz dates.npz
diff dates.npz dates.npz
benchmark --shapes 2,3,4 --repeat 1 --peers ,
explian
guid
docs
version
attn forward --T 3
--N 2 --T 3 --H 2
--T 3 forward
--verison

forward --n 2
forward --t 3
forward --N 2 --t-enc 7
forward --T_enc 7
forward --batchsize 2
forward --batch-size 2
forward --hidden-size 3
forward --hidden_size 3
forward --seqlen 3
forward --seq_len 3
forward -N 2
forward -N2 -T3
forward -T 3
forward --heds 2
forward --heads=2 --causl
forward --layr softmax
forward --sead 3
forward --dtpye float32
forward --windwo 2
forward --windowsize 2
forward --num-heads 2
forward --is-causal
forward --sliding-window 2
forward --colour never
forward --silent
forward --quite
forward --jsn
forward --hs_enc enc.npy --hs_dec dec.npy
forward --hsenc enc.npy --hsdec dec.npy
forward --n=2 --h=3
forward --precison 3
gradcheck --layers softmax
gradcheck --tolerance 1e-6
show-weights minilm_heads.npz --layers 1 --hed 1
show-weights dates.npz --topk 2
show-weights dates.npz --renormalize-rows
show-mask --T 4 --causal-algin lower-right
trace by_hand.npz --stp 1
trace by_hand.npz --steps 1
compare dates.npz dates.npz --rtool 1e-3
bench --shape 2,3,4 --repeat 1 --engines core --peers ,
check right.py --thorogh
check right.py --timelimit 30
convention minilm_qkv.npz --layuot N,heads,T,H
convention minilm_qkv.npz --skale 1

forward --layer sofmax
forward --layer scaled
forward --layer sdpa
forward --layer dotproduct
forward --layer multihed
forward --layer mha
forward --layer ScaledDotProductAttention
forward --dtype fp32
forward --dtype float
forward --dtype torch.float32
forward --dtype np.float64
forward --dtype half
forward --dtype flaot32
forward --engine tile
forward --engine naive
forward --causal --causal-align bottom-right
forward --causal --causal-align lower
forward --color no
forward --theme drak
forward --rotary half
forward --rotary interleave
gradcheck --method centrl
show-weights dates.npz --shade lin
show-weights minilm_heads.npz --sort entrop
show-weights dates.npz --pool average --pool maximum
show-mask --T 4 --convention pytorch
bench --shapes 2,3,4 --repeat 1 --engines cor --peers ,
trace by_hand.npz --only score
trace by_hand.npz --only scores,wieghts

forward --causal lower-right
forward dates.npz --causal lower-right
forward --engine float32
forward --dtype direct
forward --dtype tiled
forward --layer float32
forward --causal-align halves --causal
forward --rotary upper-left --causal
forward --causal=true
forward --causal true
forward --causal True --T 3
forward --causal False
forward --causal=false
forward causal
forward --T 3 causal
forward N=2 T=3 H=2
forward T=3
forward --T 3 --causal-align=bottomright --causal=1
forward float32
forward tiled --T 3
forward 2 3 4
forward 2 3
forward --N 2.0
forward --N 0
forward --N -3
forward --T 1e1
forward --T 1,000 --N 1 -q
forward --seed -1
forward --window 2 0
forward --window (2,0)
forward --window 2, 0
forward --kv-lengths 3 4 5
forward --sinks 0 --heads 2 1
forward --N
forward --dtype
forward --N --T 3
bench --shapes 2 3 4 --repeat 1 --engines core --peers ,
bench --shapes 2x3x4 --repeat 1 --engines core --peers ,
forward –N 2 –T 3
forward —causal
forward −−T 3
forward “dates.npz”

dates.npz
dates.npz --causal
right.py
minilm_qkv.npz
forward date.npz
forward dates.npy
forward dates
forward dats.npz --dtype float32
forward right.py
forward gradcheck
forward help
backward dates.npz minilm_qkv.npz
show-weights dates.npz by_hand.npz
show-weights right.py
show-weights miniml_heads.npz
show-weights
trace right.py:Softmax
check dates.npz
check rihgt.py
check right.ipynb
gradcheck dates.npz
convention
convention minilm_qvk.npz
compare
compare dates.npz date.npz
explain scale missing
explain scale-mising
guide getting started
guide semantic
guide wieghts
forward --hs-enc encs.npy --hs-dec dec.npy
forward --hs-enc enc.npy --hs-dec de.npy
forward q.npy k.npy v.npy
forward enc.npy dec.npy
forward enc.npy
show-weights dates.npz --diff dats.npz
forward sample_inputs/date.npz
forward sample_input/dates.npz
forward --outp begun.npz
trace --what-if 'foo[0,1,2]+=0.1'

forward encs.npz
forward both_wrong.npz
forward states.npz
forward hf.npz
forward q_and_k.npz
forward only_enc.npz
forward any_name.npz
forward dates.npz --rename hs_enc=hs_encs
backward states.npz
trace encs.npz
convention result.npz
compare encs.npz dates.npz --only hs_decs
compare dates.npz dates.npz --only hs_ecn
compare dates.npz dates.npz --map hs_enc=hs_emc
compare encs.npz decs.npz
show-mask maks.npz
show-weights probs.npz
forward steps_first.npz
forward nan.npz
forward --heads 2 --layer time-attention
forward --rotary-base 100
forward --T 3 --causal --layer softmax

compare dates.npz
compare minilm_qkv.npz
compare dates.npz dates.npz --only foo
compare dates.npz dates.npz --map foo=bar
compare dates.npz dates.npz --budget nothing.npz
compare nothing.npz nobody.npz
forward -o x.foo
forward -o x.npy.gz
show-weights dates.npz --export x.foo
check right.py --report x.foo
forward nothing.npz
forward nothing.npz --causal
forward nowhere/dates.npz
forward nowhere/x.npz
forward place/dates.npz
forward -o nowhere/deep/x.npz
forward -o place/x.npz
show-weights nowhere
show-weights dates.npz --export nowhere/x.svg
check right.py --report nowhere/x.xml
check nowhere
check nowhere/right.py
check foo
check foo.py:Softmax
gradcheck foo.py
checks
checks foo
forwrd foo.npz
trace --only foo
trace --step 99
trace --item -1
show-weights dates.npz --item 99
show-weights minilm_heads.npz --layer 99
show-weights minilm_heads.npz --layer 1 --head -1
show-weights dates.npz --item 0 --rows 99
show-weights dates.npz --part foo
show-weights dates.npz --tokens word.txt
show-weights dates.npz --diff nothing.npz
show-weights dates.npz --top x
show-mask --T 4 --kv-lengths 2,3 --item 7
forward --mask causal
forward --mask none
forward --mask lower-right
forward --N x
forward --window foo
forward --layer time-attention --layout N,T,heads,H
forward dates.npz --layout N,T,heads,H
check numpy:dot
check numpy:dot --as softmax
check numpy:dott
check numpy:dott --as softmax
check numpi:dot
check right.py:Sofmax --as attention
check right.py:Foo
check right.py:Sofmax
check right.py:Softmax --as attention
gradcheck right.py:Foo
check numpi:dot --as attention
check attncli:attnetion
bench --workers 1 --shapes 2,3,4
bench --engine dask --shapes 2,3,4 --peers , --repeat 1
bench --all --shapes 2,3,4 --peers , --repeat 1
exercise foo
exercise check foo
exercise show sofmax
exercise hint sofmax
completion foo
guide json --schema foo
forward --quiet --verbose
forward --causal -o
show-weights dates.npz --head
forward places
backward dates.npz -o dates.npz
exercise 3
forward --force
""".strip().splitlines()

JUDGES = ("check", "gradcheck", "compare", "convention", "explain", "exercise")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder as somebody has it: samples, and files whose arrays have names of their own."""
    place = tmp_path_factory.mktemp("desk")
    for name in ("dates.npz", "by_hand.npz", "minilm_qkv.npz", "minilm_heads.npz"):
        (place / name).write_bytes((SAMPLES / name).read_bytes())
    (place / "right.py").write_text(
        "import numpy as np\n\n\nclass Softmax:\n"
        "    def forward(self, x):\n        e = np.exp(x - x.max(-1, keepdims=True))\n"
        "        self.out = e / e.sum(-1, keepdims=True)\n        return self.out\n\n"
        "    def backward(self, dout):\n        dx = self.out * dout\n"
        "        return dx - self.out * dx.sum(-1, keepdims=True)\n"
    )
    rng = np.random.default_rng(5)
    enc, dec = rng.normal(size=(2, 7, 3)), rng.normal(size=(2, 5, 3))
    weights = rng.dirichlet(np.ones(7), size=5)
    with np.load(SAMPLES / "minilm_qkv.npz") as dump:
        result = {x: dump[x] for x in ("query", "key", "value")} | {"y": dump["output"]}
    files = {
        "encs": {"hs_encs": enc, "hs_dec": dec},
        "decs": {"hs_enc": enc, "hs_decs": dec},
        "both_wrong": {"hs_encs": enc, "hs_decs": dec},
        "states": {"encoder_states": enc, "decoder_states": dec},
        "hf": {"query_states": dec, "key_states": enc, "value_states": enc, "attn_output": dec},
        "q_and_k": {"q": dec, "k": enc},
        "only_enc": {"hs_enc": enc},
        "any_name": {"hs_dec": dec, "x": enc},
        "result": result,
        "maks": {"maks": rng.random((5, 7)) < 0.5},
        "probs": {"softmaxed": weights[None, None]},
        "steps_first": {"query": dec.swapaxes(0, 1), "key": enc.swapaxes(0, 1)}
        | {"value": enc.swapaxes(0, 1)},
        "nan": {"hs_enc": np.where(enc > 1, np.nan, enc), "hs_dec": dec},
    }
    for name, arrays in files.items():
        np.savez(place / f"{name}.npz", **arrays)
    (place / "places").mkdir()
    (place / "places" / "dates.npz").write_bytes((SAMPLES / "dates.npz").read_bytes())
    np.save(place / "mask.npy", np.ones((5, 5), bool))
    for name, array in {"enc": enc, "dec": dec, "q": dec, "k": enc, "v": enc}.items():
        np.save(place / f"{name}.npy", array)
    return place


@pytest.mark.parametrize("line", [line for line in LINES if line])
def test_the_hint_of_a_wrong_command_line_works(attn, desk, monkeypatch, line):
    if "dask" in line:
        pytest.importorskip("distributed")
    monkeypatch.chdir(desk)
    refused = attn(*shlex.split(line))
    assert (refused.code, refused.out) == (2, "")
    error, hint = refused.err.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint:  attn ")
    assert not hint.endswith("--help") or "help" in line
    command = shlex.split(hint)[2:]
    result = attn(*command)
    assert result.code in ((0, 1) if command[0] in JUDGES else (0,)), (hint, result.err)
    assert result.out or "-q" in command or "--quiet" in command


@pytest.mark.parametrize(
    ("line", "never"),
    [
        ("forward --gpu", "--output"),
        ("forward --forc -o run.npz", "--force"),
        ("forward --out run.npz", "--dout"),
        ("forward --sinks off", "--color"),
    ],
)
def test_what_was_not_meant_is_not_proposed(attn, folder, line, never):
    """Neither what replaces files nor what has nothing to do with what was asked for."""
    result = attn(*shlex.split(line))
    hint = result.err.splitlines()[-1]
    assert (result.code, hint[:12]) == (2, "hint:  attn ")
    assert never not in hint.split()
