"""What people have that executes code or needs another library: told apart, and how to convert it.

Nothing here opens such a file: the conversion is a line for a shell, run where its library is.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

from attncli.files.source import Source

# What is loaded, X, becomes arrays by the names that lead to them: W. Lists are layers, lists in
# lists steps of them. NumPy has no bfloat16 and no float8; text and numbers in lists stay one.
_ARRAYS = (
    "s = isinstance; C = lambda x: s(x, (list, tuple)); "
    "R = lambda x: all(map(R, x)) if C(x) else s(x, (str, int, float)); "
    "T = lambda x: (x.float() if x.is_floating_point() and str(x.dtype)[6:] not in "
    '("float16", "float32", "float64") else x).detach().cpu().numpy(); '
    'N = lambda p: ".".join(map(str, p)) if any(s(i, str) for i in p) else "_".join('
    'a + str(i) for a, i in zip(("layer",) if len(p) < 2 else ("step", "layer", "", ""), p)); '
    'W = lambda x, *p: {N(p) or "weights": T(x)} if hasattr(x, "detach") else W(x.tolist(), *p) '
    'if str(getattr(x, "dtype", "")) == "object" else {N(p) or "weights": n.asarray(x)} '
    'if hasattr(x, "dtype") or C(x) and R(x) else {k: a for i, y in (x.items() '
    'if hasattr(x, "items") else enumerate(x) if C(x) else vars(x).items() '
    'if hasattr(x, "__dataclass_fields__") else ()) for k, a in W(y, *p, i).items()}; '
    "n.savez(o, **W("
)
_START = "import sys, numpy as n, {}; f, o = sys.argv[1:]; "


def _loads(modules: str, expression: str) -> str:
    return f"{_START.format(modules)}{_ARRAYS}{expression}))"


class Foreign(NamedTuple):
    """A kind of file that is not read.

    Attributes
    ----------
    begins : tuple of bytes
        What it begins with.
    endings : tuple of str
        What its name ends in, where the bytes do not tell.
    needs : str
        The library that the conversion needs.
    program : str
        What converts a file `f` to a file `o` in Python.
    """

    begins: tuple[bytes, ...]
    endings: tuple[str, ...]
    needs: str
    program: str


_TORCH = _loads("torch", 'torch.load(f, map_location="cpu", weights_only={})')
_PLAIN = _loads("pickle", 'pickle.load(open(f, "rb"))')
# What a file of torch begins with that is no archive: a pickle of this number, before all others.
_OLD_TORCH = b"l\xfc\x9cF\xf9 j\xa8P\x19."

FOREIGN = {
    "a pickle": Foreign((b"\x80",), (".pkl", ".pickle"), "", _PLAIN),
    "a joblib file": Foreign((), (".joblib",), "joblib", _loads("joblib", "joblib.load(f)")),
    "an HDF5 file": Foreign(
        (b"\x89HDF", b"MATLAB 7.3"), (".h5", ".hdf5"), "h5py",
        _START.format("h5py")
        + "w = {}; h5py.File(f).visititems(lambda k, v: w.update({k.replace(\"/\", \".\"): "
        'n.asarray(v.asstr()[()], "U") if v.dtype.kind == "O" else v[()]}) '
        'if hasattr(v, "dtype") else None); n.savez(o, **w)',
    ),
    "a MATLAB file": Foreign(
        (b"MATLAB 5.0",), (".mat",), "scipy",
        _START.format("scipy.io")
        + 'n.savez(o, **{k: v for k, v in scipy.io.loadmat(f).items() if k[:2] != "__"})',
    ),
    "a Parquet file": Foreign(
        (b"PAR1",), (".parquet",), "pandas",
        _START.format("pandas") + "n.savez(o, weights=pandas.read_parquet(f)"
        '.select_dtypes("number").to_numpy())',
    ),
}  # fmt: skip

# What weights_only=True of torch builds: tensors, numbers, text, and what they are in.
_HARMLESS = ("torch", "torch._utils", "torch.storage", "torch._tensor", "collections", "_codecs")
READ_OF_A_PICKLE = 1 << 22


def kind_of(beginning: bytes, ending: str) -> str | None:
    """Name the kind of a foreign file by its first bytes, or by what its name ends in."""
    for kind, one in FOREIGN.items():
        if beginning.startswith(one.begins) and (kind != "a pickle" or ending != ".joblib"):
            return kind
    return next((kind for kind, one in FOREIGN.items() if ending in one.endings), None)


def conversion(kind: str, source: Source, inside: bytes | None = None) -> str:
    """Say in one line for a shell how a file becomes one that is read, and what that needs.

    What an archive has inside is the beginning of a pickle that torch made.
    """
    foreign = FOREIGN[kind]
    needs, program, doubt = foreign.needs, foreign.program, ""
    if kind == "a pickle":
        of_torch = inside is not None
        if inside is None:
            with source.open() as stream:
                inside = stream.read(READ_OF_A_PICKLE)
            of_torch = _OLD_TORCH in inside[:32]
        names = set(_names_in(inside))
        doubtful = sorted(name for name in names if not _is_harmless(name))
        if any(name.startswith("joblib.") for name in doubtful):
            needs, program = "joblib", FOREIGN["a joblib file"].program
        elif of_torch:
            needs, program = "torch", _TORCH.replace("only={}", f"only={not doubtful}")
        elif any(name.startswith("torch.") for name in names):
            needs = "torch"
        if doubtful or not of_torch:
            named = ", ".join(doubtful[:3]) + (", …" if doubtful[3:] else "")
            doubt = f"opening it runs code{f' ({named})' if named else ''}: only where you trust it"
    name = source.label
    if not os.path.isfile(name):  # it came through a pipe
        return f"save it as a file first: attn show-weights {name_of_kind(kind)} then says how"
    target = os.path.splitext(name)[0] + ".npz"
    if os.path.exists(target):
        target = f"{name}.npz"
    line = shlex.join(["python", "-c", program, name, target])
    where = f", where {needs} is installed" if needs else ""
    return "\n".join(filter(None, (doubt, f"this line writes {target}{where}:", line)))


def name_of_kind(kind: str) -> str:
    """Give a name that such a file could have."""
    return f"weights{FOREIGN[kind].endings[0]}"


def _is_harmless(name: str) -> bool:
    module, _, last = name.rpartition(".")
    if module == "builtins":
        return last in ("set", "frozenset", "bytearray", "complex")
    return module in _HARMLESS or name == "torch.nn.parameter.Parameter"


def _names_in(data: bytes) -> Iterator[str]:
    """Name what a pickle would call, without opening it; several may follow each other."""
    import pickletools  # a large table, that hardly any run needs

    at = 0
    while at < len(data):
        pushed: list[object] = [None, None]
        kept: dict[int, object] = {}
        try:
            value: Any
            for code, value, place in pickletools.genops(data[at:]):
                if code.name == "GLOBAL":
                    yield str(value).replace(" ", ".")
                elif code.name == "STACK_GLOBAL":
                    yield ".".join(map(str, pushed[-2:]))
                elif code.name == "MEMOIZE":
                    kept[len(kept)] = pushed[-1]
                elif code.name.endswith("BINPUT"):
                    kept[value] = pushed[-1]
                elif code.name.endswith("BINGET"):
                    pushed = [pushed[-1], kept.get(value)]
                else:
                    pushed = [pushed[-1], value if isinstance(value, str) else None]
                if code.name == "STOP":
                    at += (place or 0) + 1
        except (ValueError, IndexError, EOFError, UnicodeDecodeError, OverflowError):
            return
