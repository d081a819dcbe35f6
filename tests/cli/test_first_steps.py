"""What is typed first, in a folder with a file or two: it is answered, or told what to type."""

import shlex

import numpy as np
import pytest

STEPS = {
    0: """
        attn | attn help | attn --help | attn -h | attn --version | attn -V | attn demo
        attn forward | attn forward --N 3 --T 5 --H 4 | attn forward input.npz | attn backward
        attn forward input.npz -o run.npz | attn show-weights input.npz | attn show-weights w.npy
        attn show-weights sample_inputs/dates.npz | attn gradcheck --layer softmax | attn trace
        attn gradcheck layer.py | attn guide | attn guide getting-started | attn explain
        attn show-mask --causal | attn completion | attn completion bash | attn help help
        attn help forward | attn exercise
    """,
    2: """
        attn show-weights | attn check | attn convention | attn show w.npy | attn forward --n 3
        attn check layer | attn help foward | attn input.npz | attn foo | attn demo --sped 2
        attn guide nothing | attn show-weights --layer 3
    """,
}
TYPED = [
    (code, step.strip())
    for code, steps in STEPS.items()
    for line in steps.strip().splitlines()
    for step in line.split(" | ")
]
LAYER = """
class Double:
    def forward(self, x):
        return 2 * x

    def backward(self, dout):
        return 2 * dout
"""


@pytest.mark.parametrize(("code", "step"), TYPED, ids=lambda one: str(one))
def test_a_first_step(attn, folder, monkeypatch, code, step):
    monkeypatch.setattr("attncli.demo.translator.STEPS", 4)
    (folder / "layer.py").write_text(LAYER)
    np.savez("input.npz", hs_enc=np.ones((2, 5, 3)), hs_dec=np.ones((2, 7, 3)))
    np.save("w.npy", np.full((5, 5), 0.2))
    result = attn(*shlex.split(step)[1:])
    assert result.code == code, result.err
    if code == 2:
        error, hint = result.err.splitlines()
        assert error.startswith("error: ")
        assert hint.startswith("hint:  attn ")
        assert "Traceback" not in result.err
    else:
        assert result.out
        assert "error:" not in result.err
