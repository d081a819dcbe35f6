"""Jobs out of arrays: what a file holds is computed on a cluster, and in process."""

import warnings

import numpy as np

from attncli.cluster import run
from attncli.cluster.jobs import Job
from attncli.core.extras import Extras
from attncli.core.semantics import Semantics
from attncli.errors import AttnWarning
from attncli.files.contents import open_tensors
from attncli.files.reading import Reading
from attncli.operations import Execution
from attncli.problems.from_files import read_problem
from attncli.problems.request import Request


def asked(path, engine, **options):
    nothing = {
        "layer": None, "dtype": None, "execution": Execution(engine=engine),
        "semantics": Semantics(), "extras": Extras(), "heads": {}, "layout": {}, "rotary": {},
        "sizes": {}, "seed": None, "parts": {}, "reading": Reading(),
    }  # fmt: skip
    return Request(str(path), **nothing | options)


def job_of(folder, arrays, block, *, command="backward", out="out.zarr", **options):
    """Give the job of arrays that lie in a file, and where that is."""
    source = folder / "in.npz"
    if not source.exists():
        np.savez(source, **arrays)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttnWarning)
        problem = read_problem(asked(source, "dask", **options))
    return Job(problem, command, str(folder / out), block=block)


def in_process(folder, command="backward", **options):
    """Compute the same in process; give all that came of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttnWarning)
        done = read_problem(asked(folder / "in.npz", "auto", **options)).forward()
        return done.tensors if command == "forward" else done.backward().tensors


def results_of(path):
    file = open_tensors(str(path))
    return {name: file.numbers(name, allow_nonfinite=True) for name in file if name != "options"}


def files_of(folder):
    """All that a store holds, byte by byte, but for what says which run it was."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def on_cluster(job, settings):
    run(job, settings)
    return results_of(job.path)
