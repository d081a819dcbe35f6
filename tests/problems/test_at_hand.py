"""compare and convention in Python: files, and tensors at hand."""

import json
from pathlib import Path

import numpy as np
import pytest

import attncli
from attncli.errors import AttnError, AttnWarning, FileError, ParameterError


@pytest.fixture
def dump(folder):
    """A calculation, at hand and in a file."""
    rng = np.random.default_rng(5)
    q, k, v = (
        rng.normal(size=(2, 3, 7, 5)),
        rng.normal(size=(2, 3, 11, 5)),
        rng.normal(size=(2, 3, 11, 2)),
    )
    out, _ = attncli.attention(q, k, v, causal="lower_right", scale=0.3, window=(3, 0))
    tensors = {"q": q, "k": k, "v": v, "out": out}
    np.savez("dump.npz", **tensors)
    return tensors


def test_a_convention_is_found_in_tensors_mappings_and_files_alike(dump):
    with np.load("dump.npz") as loaded:
        reports = [
            attncli.convention(**dump), attncli.convention(dump), attncli.convention(loaded),
            attncli.convention("dump.npz"), attncli.convention(Path("dump.npz")),
        ]  # fmt: skip
    for report in reports:
        assert report
        options = report.readings[0].options
        assert (options["causal"], options["scale"]) == ("lower_right", 0.3)
        assert report.readings == reports[0].readings
        assert repr(report) == f"<ConventionReport found: {report.readings[0].described}>"


def test_a_convention_report_says_what_the_command_prints(attn, dump):
    report = attncli.convention("dump.npz")
    assert f"{report}\n" == attn("convention", "dump.npz").out
    told = attn("convention", "dump.npz", "--json").json
    assert json.loads(json.dumps(report.to_dict())).items() <= told.items()
    assert "attn forward FILE " in str(attncli.convention(dump))


def test_one_wrong_row_is_no_reading(dump):
    dump["out"][1, 2, 4] *= 1.1
    report = attncli.convention(**dump)
    assert not report
    assert repr(report).startswith("<ConventionReport NO READING: ")
    assert report.nearest.fails[0]["rows"] == [(4, 4)]


def test_what_is_known_already_leaves_readings_out(dump):
    assert attncli.convention(dump, scale=0.3)
    assert not attncli.convention(dump, causal="upper_left")


def test_names_may_be_others(dump):
    dump["theirs"] = dump.pop("out")
    with pytest.raises(AttnError):
        attncli.convention(dump)
    assert attncli.convention(dump, rename={"out": "theirs"})


def test_a_file_and_tensors_beside_it_are_a_contradiction(dump):
    with pytest.raises(ParameterError, match="out: expected a file, or tensors, not both"):
        attncli.convention("dump.npz", out=dump["out"])


def test_nothing_is_no_question():
    with pytest.raises(AttnError, match="query"):
        attncli.convention()


def test_files_are_compared_as_the_command_does(attn, dump):
    np.savez("other.npz", **{**dump, "out": dump["out"] + 1})
    report = attncli.compare("dump.npz", Path("other.npz"))
    assert not report
    assert [tensor.name for tensor in report.tensors if not tensor.passed] == ["out"]
    assert f"{report}\n" == attn("compare", "dump.npz", "other.npz").out
    with pytest.warns(AttnWarning, match="at this tolerance"):
        assert attncli.compare("dump.npz", "other.npz", atol=1.5)


def test_a_file_is_compared_with_what_is_at_hand(dump):
    np.save("out.npy", dump["out"])
    assert attncli.compare("dump.npz", dump)
    assert attncli.compare(dump["out"], "out.npy")
    assert not attncli.compare("out.npy", dump["out"] * 1.01)


def test_a_file_that_is_not_there_is_said():
    with pytest.raises(FileError, match=r"nowhere\.npz"):
        attncli.compare("nowhere.npz", {"a": [1.0]})
