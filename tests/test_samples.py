"""The samples: found from anywhere, in a checkout and where the package was installed."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLES

from attncli.files import source

ROOT = SAMPLES.parent


def test_a_sample_is_found_from_any_folder(attn, folder):
    assert Path(source.SAMPLES) == SAMPLES
    there = attn("show-weights", "sample_inputs/dates.npz", "--json")
    assert there.json == attn("show-weights", SAMPLES / "dates.npz", "--json").json | {
        "source": "sample_inputs/dates.npz"
    }


def test_a_file_of_ones_own_of_that_name_is_what_is_read(attn, folder):
    (folder / "sample_inputs").mkdir()
    np.savez(folder / "sample_inputs" / "dates.npz", weights=np.eye(3))
    (matrix,) = attn("show-weights", "sample_inputs/dates.npz", "--json").json["matrices"]
    assert matrix["weights"] == np.eye(3).tolist()


def test_a_sample_that_there_is_not_is_missing_by_its_own_name(attn, folder):
    result = attn("show-weights", "sample_inputs/nothing.npz")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: sample_inputs/nothing.npz: no such file")


@pytest.fixture
def installed(tmp_path):
    """The package as its wheel lays it out, in a folder of its own."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = told["tool"]["hatch"]["build"]["targets"]["wheel"]
    leave = shutil.ignore_patterns("__pycache__")
    for package in wheel["packages"]:
        shutil.copytree(ROOT / package, tmp_path / "site" / package, ignore=leave)
    for inside, place in wheel["force-include"].items():
        shutil.copytree(ROOT / inside, tmp_path / "site" / place, ignore=leave)
    return tmp_path / "site"


def test_the_wheel_brings_the_samples_and_their_code_is_somebody_elses(installed, folder):
    code = (
        "import sys, attncli; from attncli.cli.main import run; "
        f"assert attncli.__file__.startswith({str(installed)!r}); "
        "sys.exit(run(['check', 'sample_inputs/exercise/wrong_1.py:TimeAttention']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    assert "one Attention object shared by all steps" in done.stdout
    assert "compared with itself" not in done.stdout
