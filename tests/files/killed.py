"""``python killed.py PATH new|replaced``: writes to PATH, killed at one step after another.

What is there after each is a line; the last child finishes, though all that the others left is
still in its way.
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

from attncli.files import atomic
from attncli.files.contents import open_tensors
from attncli.files.writing import save

# Where each of the steps that writing takes is looked up.
STEPS = {
    os: "open fdopen fsync link unlink close rename replace stat mkdir rmdir",
    Path: "replace unlink chmod",
    np.lib.format: "write_array",
    atomic: "_exchange",
}


def dying(function, left):
    """Give a function that ends this process instead of `function` when no step is left."""

    def call(*arguments, **options):
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    return call


def write(path, step, replaced):
    left = iter(range(step - 1, -1000, -1))
    for place, names in STEPS.items():
        for name in names.split():
            setattr(place, name, dying(getattr(place, name), left))
    save(path, {name: np.full(1000, 2.0) for name in "abc"}, force=replaced)


def main(path, how):
    for step in range(1, 200):
        if how == "replaced":
            save(path, {"a": np.full(10, 1.0)}, force=True)
        if (child := os.fork()) == 0:
            write(path, step, how == "replaced")
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        there = open_tensors(path) if os.path.exists(path) else {}
        held = {name: np.unique(there.numbers(name)).tolist() for name in there}
        print(json.dumps(held))
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        if how == "new":
            Path(path).unlink(missing_ok=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
