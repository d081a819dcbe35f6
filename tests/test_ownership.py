"""One reader, one writer, one way of text to the screen: nobody else opens, saves or loads.

What is checked before it is believed, and written whole or not at all, is so only as long as every
command goes through `attncli.files`; this walks through the source and finds who does not.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

import attncli

PACKAGE = Path(attncli.__file__).parent

REGIONS = ("files/chunks.py", "files/regions.py")
# What each may do that nobody else does, and why it is theirs.
OWNERS = {
    "np.memmap": {"files/npy.py"},
    "np.lib.format.write_array": {"files/npy.py", "files/npz.py"},
    "zipfile.ZipFile": {"files/npz.py"},
    "open to write": {
        "files/atomic.py",  # the writer
        "cli/streams.py",  # a standard stream that the shell closed becomes the null device
        "processes.py",  # standard output of a fork becomes what is read of it
        "benchmarks/worker.py",  # Linux's switch that forgets the peak of its memory
        *REGIONS,  # of an output that is not in place yet
    },
    "open to read": {
        "memory.py",  # what the system says of its memory, and of the process
        "checking/targets/notebooks.py",  # their code, which is run
        "checking/targets/sources.py",  # whether it names what compiles
        "cli/completing.py",  # a file of code that is being named
        "checking/exercises.py",  # a learner's file, which is their own code too
        "cluster/connecting.py",  # the scheduler's own file; whether a certificate is there
        "files/headers.py",  # what there is, for who is still typing
        *REGIONS,
        "files/zarr.py",  # what is read in parts, and not mapped
    },
    "pickle.loads": {"cluster/errands.py"},  # from the process that started this one
    "exec": {"checking/targets/importing.py"},  # the cells of their notebook
    # Parts of the package: the frame of a page, the pages of the guide, the source it measures.
    "read_text": {
        "views/page.py", "cli/guide.py", "checking/exercises.py", "translation.py",
        "benchmarks/profiling.py",
    },
    "json.load": {"cluster/connecting.py"},  # the scheduler's own file
    # What a run puts aside for itself, in a folder that goes with it.
    "np.save": {"cluster/jobs.py"},
    "tofile": {"cluster/tasks.py"},
    "np.fromfile": {"cluster/tasks.py"},
    "os.replace": {"cluster/tasks.py", "files/chunks.py"},
    "tempfile.NamedTemporaryFile": {"cluster/connecting.py"},  # whether a worker may write
    # Of a fork: standard input and output become the null device.
    "os.open": {"files/source.py", "files/atomic.py", "cli/streams.py", "processes.py"},
    "os.fdopen": {"files/source.py", "files/atomic.py"},
}  # fmt: skip
NOBODY = {
    "np.load", "np.savez", "np.savez_compressed", "np.savetxt", "np.loadtxt",
    "np.genfromtxt", "np.lib.format.open_memmap", "np.lib.format.read_array",
    "pickle.load", "json.dump", "shutil.move", "shutil.copy", "tempfile.mkstemp", "os.rename",
    "write_text", "write_bytes", "read_bytes", "savefig to a path",
    "os.system", "eval",
}  # fmt: skip
METHODS = {"write_text", "write_bytes", "read_text", "read_bytes", "tofile"}


@cache
def uses(tree):
    """Give what a module calls, by the names that the tables have for it, and the line."""
    return [*_uses(tree)]


def _uses(tree):
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).replace("numpy.", "np.")
        last = name.rpartition(".")[2]
        if last in METHODS and not name.startswith("formatter."):  # which writes help
            yield last, node.lineno
        elif last == "savefig":
            # To a stream, whose bytes then go through the writer.
            if not (isinstance(node.args[0], ast.Name) and node.args[0].id in ("file", "stream")):
                yield "savefig to a path", node.lineno
        elif name == "open":
            mode = next((x for x in node.args[1:2]), None)
            mode = next((x.value for x in node.keywords if x.arg == "mode"), mode)
            reads = mode is None or (
                isinstance(mode, ast.Constant) and not set(mode.value) & set("wax+")
            )
            yield f"open to {'read' if reads else 'write'}", node.lineno
        else:
            yield name, node.lineno


def misuses(tree, module):
    for use, line in uses(tree):
        if use in NOBODY or module not in OWNERS.get(use, {module}):
            yield f"{module}:{line}: {use}"


@cache
def modules():
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def test_files_are_opened_where_they_are_checked_and_nowhere_else():
    found = modules()
    assert len(found) > 100
    assert [text for name, tree in found.items() for text in misuses(tree, name)] == []


def test_no_owner_is_named_in_vain():
    found = {name: {use for use, _ in uses(tree)} for name, tree in modules().items()}
    for use, owners in OWNERS.items():
        assert {name for name in owners if use not in found[name]} == set(), use


@pytest.mark.parametrize(
    "line",
    [
        "np.load(path)",
        "numpy.load(path, allow_pickle=True)",
        "np.savez(path, a=a)",
        "np.fromfile(path)",
        "np.memmap(path)",
        "open(path, 'w')",
        "open(path, mode='ab')",
        "open(path, mode)",
        "open(path)",
        "Path(path).write_text(text)",
        "array.tofile(file)",
        "figure.savefig(path)",
        "figure.savefig('x.png')",
        "json.dump(value, file)",
    ],
)
def test_the_walk_finds(line):
    assert list(misuses(ast.parse(line), "views/some.py"))


def test_pickles_are_never_allowed():
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), name
                assert node.value.value is False, name
