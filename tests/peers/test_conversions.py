"""Files that are refused come with a line for a shell; followed word for word, it converts them."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

T, LAYERS = 5, 3
A = [torch.softmax(torch.randn(1, 2, T, T, generator=torch.Generator()), -1) for _ in range(LAYERS)]
STEPS = tuple(
    tuple(torch.softmax(torch.randn(1, 2, 3 if t == 0 else 1, 3 + t), -1) for _ in range(LAYERS))
    for t in range(T - 2)
)
ROWS = [torch.cat([step[layer][0, 1, -1:] if t else step[layer][0, 1] for t, step in
        enumerate([[torch.nn.functional.pad(x, (0, T - x.shape[-1])) for x in one]
                   for one in STEPS])]) for layer in range(LAYERS)]  # fmt: skip


def refused(attn, name):
    result = attn("show-weights", name)
    assert (result.code, result.out) == (2, "")
    hints = [line.removeprefix("hint:  ") for line in result.err.splitlines()[1:]]
    return result.err.splitlines()[0], hints


def follow(attn, name):
    """Do what the hint says, in a shell, with this Python, and give what it writes."""
    error, hints = refused(attn, name)
    assert error.startswith(f"error: {name}: is a")
    assert hints[-1].startswith("python -c '")
    before = {*Path().iterdir()}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    packages = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        hints[-1], shell=True, capture_output=True, text=True,
        env={**os.environ, "PATH": path, "PYTHONPATH": packages},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (written,) = {*Path().iterdir()} - before
    return written.name


def matrices(attn, file, *options):
    result = attn("show-weights", file, *options, "--json")
    assert result.code == 0, result.err
    return json.loads(result.out)["matrices"]


def weights_of(matrix):
    return np.asarray(matrix["weights"])


LISTS = {
    "list": A,
    "tuple": tuple(A),
    "bfloat16": [x.bfloat16() for x in A],
    "float16": [x.half() for x in A],
    "dict": {"attentions": A},
    "nested": {"output": {"attentions": tuple(A), "loss": None, "name": "x"}},
    "flat": {f"layer{number}": x for number, x in enumerate(A)},
    "by number": dict(enumerate(A)),
    "requires grad": [x.clone().requires_grad_() for x in A],
    "parameters": [torch.nn.Parameter(x) for x in A],
    "numpy": {"attentions": [x.numpy() for x in A]},
    "words beside": {"attentions": A, "tokens": list("abcde"), "input_ids": torch.arange(T)[None]},
}


@pytest.mark.parametrize(("form", "old"), [*((form, False) for form in LISTS), ("bfloat16", True)])
def test_layers_that_torch_saved(attn, folder, form, old):
    torch.save(LISTS[form], "a.pt", _use_new_zipfile_serialization=not old)
    (matrix,) = matrices(attn, follow(attn, "a.pt"), "--layer", 1, "--head", 1)
    exact = LISTS[form][1][0, 1] if form in ("bfloat16", "float16") else A[1][0, 1]
    np.testing.assert_array_equal(weights_of(matrix), exact.detach().double())
    if form == "words beside":
        assert matrix["tokens_dec"] == list("abcde")


@pytest.mark.parametrize("form", ["tuple", "bfloat16", "numpy"])
def test_layers_that_were_pickled(attn, folder, form):
    Path("a.pkl").write_bytes(pickle.dumps(LISTS[form]))
    (matrix,) = matrices(attn, follow(attn, "a.pkl"), "--layer", 1, "--head", 1)
    np.testing.assert_allclose(weights_of(matrix), A[1][0, 1].detach(), atol=4e-3)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_every_protocol_of_pickle(attn, folder, protocol):
    Path("a.pkl").write_bytes(pickle.dumps([x.numpy() for x in A], protocol))
    assert len(matrices(attn, follow(attn, "a.pkl"))) == 2 * LAYERS


@pytest.mark.parametrize("dtype", ["float8_e4m3fn"])
def test_eight_bits(attn, folder, dtype):
    narrow = A[0].to(getattr(torch, dtype))
    torch.save(narrow, "a.pt")
    matrix = matrices(attn, follow(attn, "a.pt"))[1]
    np.testing.assert_array_equal(weights_of(matrix), narrow.float()[0, 1])


def test_one_tensor(attn, folder):
    torch.save(A[0].clone().requires_grad_(), "a.pt")
    matrix = matrices(attn, follow(attn, "a.pt"), "--head", 1)[0]
    np.testing.assert_array_equal(weights_of(matrix), A[0][0, 1])


@pytest.mark.parametrize("form", ["tuple", "dict"])
def test_what_generating_gives_reads_as_steps(attn, folder, form):
    torch.save(STEPS if form == "tuple" else {"attentions": STEPS}, "a.pt")
    (matrix,) = matrices(attn, follow(attn, "a.pt"), "--layer", 2, "--head", 1)
    np.testing.assert_array_equal(weights_of(matrix), ROWS[2])


def test_lists_of_numbers(attn, folder):
    Path("a.pkl").write_bytes(pickle.dumps(A[0][0, 1].tolist()))
    (matrix,) = matrices(attn, follow(attn, "a.pkl"))
    np.testing.assert_array_equal(weights_of(matrix), A[0][0, 1])


def test_an_array_of_objects(attn, folder):
    array = np.empty(2, object)
    array[:] = [A[0].numpy(), A[1].numpy()[..., :3]]
    Path("a.pkl").write_bytes(pickle.dumps({"attentions": array}))
    (matrix,) = matrices(attn, follow(attn, "a.pkl"), "--layer", 1, "--head", 1)
    np.testing.assert_array_equal(weights_of(matrix), A[1][0, 1, :, :3])


@pytest.mark.parametrize(
    "name", ["it's here.pt", 'a "b".pth', "-dash.pt", "$HOME.bin", "日本.ckpt"]
)
def test_any_name_is_quoted(attn, folder, name):
    torch.save(A[0], name)
    file = f"./{name}" if name.startswith("-") else name
    assert Path(follow(attn, file)).stem == Path(name).stem


def test_a_file_that_is_there_is_not_replaced(attn, folder):
    torch.save(A[0], "a.pt")
    np.savez("a.npz", weights=np.eye(2))
    assert follow(attn, "a.pt") == "a.pt.npz"


def test_what_a_library_returns_runs_code_which_is_said(attn, folder):
    outputs = pytest.importorskip("transformers.modeling_outputs")
    torch.save(outputs.BaseModelOutput(A[0][0, 0], attentions=tuple(A)), "a.pt")
    assert any(
        hint.startswith("opening it runs code (transformers.modeling_outputs.BaseModelOutput")
        for hint in refused(attn, "a.pt")[1]
    )
    (matrix,) = matrices(attn, follow(attn, "a.pt"), "--layer", 1, "--head", 1)
    np.testing.assert_array_equal(weights_of(matrix), A[1][0, 1])


class _Evil:
    def __reduce__(self):
        return (os.mkdir, ("evil",))


@pytest.mark.parametrize("save", [torch.save, lambda x, f: Path(f).write_bytes(pickle.dumps(x))])
def test_what_a_pickle_would_run_is_named_and_not_run(attn, folder, save):
    save({"a": A[0], "b": _Evil()}, "a.pt")
    hints = refused(attn, "a.pt")[1]
    assert "posix.mkdir" in hints[0]
    assert not Path("evil").exists()


def test_tensors_alone_are_loaded_as_such(attn, folder):
    torch.save(A, "a.pt")
    hints = refused(attn, "a.pt")[1]
    assert "weights_only=True" in hints[-1]
    assert not any("runs code" in hint for hint in hints)


def test_matlab(attn, folder):
    io = pytest.importorskip("scipy.io")
    io.savemat("a.mat", {"weights": A[0].numpy()})
    (matrix,) = matrices(attn, follow(attn, "a.mat"), "--head", 1)
    np.testing.assert_array_equal(weights_of(matrix), A[0][0, 1])


def test_hdf5(attn, folder):
    h5py = pytest.importorskip("h5py")
    with h5py.File("a.h5", "w") as file:
        for number, x in enumerate(A):
            file[f"attentions/{number}"] = x.numpy()
        file["tokens"] = list("abcde")
    (matrix,) = matrices(attn, follow(attn, "a.h5"), "--layer", 1, "--head", 1)
    np.testing.assert_array_equal(weights_of(matrix), A[1][0, 1])
    assert matrix["tokens_dec"] == list("abcde")


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.h5", b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        ("a", b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        ("a.mat", b"MATLAB 7.3 MAT-file", "an HDF5 file"),
        ("a.mat", b"MATLAB 5.0 MAT-file", "a MATLAB file"),
        ("a.parquet", b"PAR1\x15\x00", "a Parquet file"),
        ("a.joblib", b"\x80\x04\x95", "a joblib file"),
        ("a.pkl", b"(lp0\n.", "a pickle"),
        ("a.txt", b"\x80\x04.", "a pickle"),
    ],
)
def test_kinds_are_told_by_their_bytes_or_their_name(attn, folder, name, data, kind):
    Path(name).write_bytes(data)
    error, hints = refused(attn, name)
    assert f"is {kind}, expected" in error
    assert hints[-1].startswith("python -c ")
    compile(hints[-1].split("'")[1], "hint", "exec")


def test_what_comes_through_a_pipe_is_to_be_saved_first(folder):
    torch.save(A[0], "a.pt")
    with open("a.pt", "rb") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "attncli", "show-weights", "-"],
            stdin=stream, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 2
    assert "hint:  save it as a file first" in done.stderr
