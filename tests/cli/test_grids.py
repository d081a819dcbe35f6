"""Many pieces of work on a cluster: the same report as in process, whoever does what when."""

import pickle

import numpy as np
import pytest
from conftest import SAMPLES

from attncli.cluster.cluster_settings import Settings

RIGHT = "from attncli.layers import WeightSum as Right\nclass WeightSum(Right):\n    pass\n"
DOUBLED = RIGHT.replace(
    "    pass\n",
    "    def backward(self, dc):\n"
    "        dhs, da = super().backward(dc)\n"
    "        return dhs, 2 * da\n",
)


@pytest.fixture
def class_(folder):
    (folder / "sub").mkdir()
    (folder / "a.py").write_text(RIGHT)
    (folder / "sub" / "b.py").write_text(DOUBLED)
    (folder / "c.py").write_text("class WeightSum(\n")
    return folder


@pytest.fixture
def far(monkeypatch):
    """A cluster of no worker but this process, which does the last thing first."""
    asked = []

    def each(function, items, settings, resources=None):
        asked.append((settings, resources, len(items)))
        for number in reversed(range(len(items))):
            travelled = pickle.loads(pickle.dumps((function, items[number])))
            yield number, travelled[0](travelled[1])

    monkeypatch.setattr("attncli.cluster.map", each)
    monkeypatch.setattr("attncli.cli.cluster_options.find_spec", lambda name: True)
    return asked


TARGETS = ("a.py", "sub", "c.py:WeightSum", "none.py")


def test_targets_far_away_are_reported_as_here(attn, class_, far):
    cluster = ("--engine", "dask", "--workers", 2)
    there = attn("gradcheck", *TARGETS, *cluster, "--report", "there.csv")
    here = attn("gradcheck", *TARGETS, "--report", "here.csv")
    assert (there.code, there.out) == (here.code, here.out)
    said = there.err.replace("there.csv", "here.csv")
    assert said.replace(" --engine dask --workers 2", "") == here.err
    assert (class_ / "there.csv").read_text() == (class_ / "here.csv").read_text()
    assert "sub/b.py" in there.out
    assert far == [(Settings(workers=2), None, 4)]


def test_mistakes_far_away_are_named_as_here(attn, class_, far):
    there = attn("check", "sub", "c.py", "--json", "--engine", "dask")
    assert there == attn("check", "sub", "c.py", "--json")
    assert [one["passed"] for one in there.json["targets"]] == [False, False]


def test_files_beside_travel_with_those_that_import_them(attn, class_, far, monkeypatch):
    (class_ / "sub" / "common.py").write_text("import further\nRight = further.Right\n")
    (class_ / "sub" / "further.py").write_text("from attncli.layers import WeightSum as Right\n")
    (class_ / "sub" / "c.py").write_text("from common import Right\nclass WeightSum(Right): pass\n")
    # No worker sees our disk.
    monkeypatch.setattr("attncli.cluster.errands._is_there", lambda folder, files: False)
    there = attn("gradcheck", "sub/c.py", "--engine", "dask")
    assert (there.code, "sub/c.py:WeightSum" in there.out) == (0, True)


def test_how_many_are_judged_at_a_time_is_for_the_workers_to_say(attn, class_, far):
    result = attn("check", "a.py", "--engine", "dask", "--jobs", 2)
    assert (result.code, far) == (2, [])
    assert result.err.splitlines()[1] == "hint:  attn check a.py --engine dask"


def test_our_own_layers_are_proved_far_away(attn, far):
    own = ("gradcheck", "--layer", "weight-sum", "--method", "central")
    assert attn(*own, "--scheduler", "node:1").out == attn(*own).out
    assert len(far) == 1


@pytest.mark.parametrize("how", [("--sort", "monotonic"), ("--json", "--sort", "name")])
def test_the_statistics_of_a_dump_are_those_of_here(attn, far, monkeypatch, how):
    dump = ("show-weights", SAMPLES / "minilm_heads.npz", "--layer", "1,4", *how)
    monkeypatch.setattr("attncli.cli.show_weights._WORTH_ONE", 10 * 8 * 15 * 15)
    there, here = attn(*dump, "--engine", "dask"), attn(*dump)
    if "--json" not in how:
        assert there == here  # piped: the table of all heads, to the last digit
    else:
        assert "weights" not in there.json["matrices"][0]
        for mine, one in zip(there.json["matrices"], here.json["matrices"], strict=True):
            assert mine == {name: x for name, x in one.items() if name in mine}
            assert mine["statistics"]["monotonic"] is not None
    ((_, _, errands),) = far
    assert errands == 3


def test_what_is_odd_in_a_dump_is_counted_over_all_workers(attn, far, folder, monkeypatch):
    monkeypatch.setattr("attncli.cli.show_weights._WORTH_ONE", 0)
    weights = np.full((2, 2, 5, 7), 1 / 7)
    weights[1, 1] *= 2
    np.savez("x.npz", **{"layer0": weights[:1], "layer1": weights[1:]})
    there = attn("show-weights", "x.npz", "--engine", "dask")
    assert "in 1 of 4 heads rows do not sum to 1" in there.err
    assert there == attn("show-weights", "x.npz", "--sort", "entropy")


@pytest.mark.parametrize(
    "option",
    [["--view", "table"], ["--top", 3], ["--browse"], ["--export", "x.svg"], ["--overlay"]],
)
def test_pictures_of_weights_are_not_drawn_far_away(attn, far, folder, option):
    np.savez("x.npz", layer0=np.full((2, 3, 5, 7), 1 / 7))
    result = attn("show-weights", "x.npz", "--engine", "dask", *option)
    assert (result.code, f"not with {option[0]}" in result.err) == (2, True)
    assert result.err.splitlines()[1] == "hint:  attn show-weights x.npz --engine dask"


def test_a_dump_that_a_worker_does_not_see_is_said(attn, far, folder, monkeypatch):
    np.savez("x.npz", layer0=np.full((2, 3, 5, 7), 1 / 7))

    def gone(function, items, settings, resources=None):
        (folder / "x.npz").unlink()
        yield 0, function(items[0])

    monkeypatch.setattr("attncli.cluster.map", gone)
    result = attn("show-weights", "x.npz", "--engine", "dask")
    assert (result.code, "x.npz: no such file" in result.err) == (2, True)


def test_times_are_measured_on_a_machine_of_their_own(attn, far, monkeypatch):
    monkeypatch.setattr("attncli.benchmarks.contenders.is_installed", lambda name: False)
    result = attn("bench", "--engine", "dask")
    assert (result.code, "spoil each other's times" in result.err) == (2, True)
    sizes = ("--shapes", "1,7,5", "--shapes", "2,5,3", "--dtype", "float32", "--causal")
    few = ("--engines", "core", "--repeat", 1, "--threads", 1, "--json")
    found = attn("bench", *sizes, *few, "--scheduler", "node").json["measurements"]
    here = attn("bench", *sizes, *few).json["measurements"]
    told = ("N", "T", "H", "dtype", "causal", "contender")
    assert [[x[name] for name in told] for x in found] == [[x[n] for n in told] for x in here]
    # What is hidden is compared with what is not: both on one machine.
    ((settings, resources, machines),) = far
    assert (settings.scheduler, resources, machines) == ("node", {"bench": 1}, 2)
