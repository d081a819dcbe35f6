"""A calculation on a cluster is the one in process, whatever is asked for and however it is cut."""

import os
import signal
import warnings

import numpy as np
import pytest

pytest.importorskip("distributed")
pytest.importorskip("zarr")


from attncli.cluster import Settings, attention, attention_backward, run
from attncli.cluster import dask as engine
from attncli.cluster.connecting import connect
from attncli.core.extras import standard_slopes
from attncli.core.progress import watching
from attncli.core.semantics import Semantics
from attncli.errors import AttnError, AttnWarning, ParameterError
from attncli.problems.from_files import read_problem

from .posed import asked, files_of, in_process, job_of, on_cluster

N, HEADS, KV_HEADS, T_DEC, T_ENC, H, H_V = 1, 2, 1, 7, 11, 3, 5
BLOCK = 4
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two workers, which all tests share."""
    with connect(Settings(workers=2)) as client:
        yield Settings(scheduler=client.scheduler.address)


def general(**more):
    shapes = {
        "query": (N, HEADS, T_DEC, H),
        "key": (N, KV_HEADS, T_ENC, H),
        "value": (N, KV_HEADS, T_ENC, H_V),
        "dout": (N, HEADS, T_DEC, H_V),
    }
    return {name: rng.normal(size=shape) for name, shape in shapes.items()} | more


def packed(**more):
    return general(cu_seqlens=np.array([0, 3, T_DEC]), cu_seqlens_k=np.array([0, 6, T_ENC]), **more)


def book(**more):
    shapes = {"hs_enc": (2, T_ENC, H), "hs_dec": (2, T_DEC, H), "dout": (2, T_DEC, H)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()} | more


LONG = 61


def rounded(**more):
    """What shows in which order it is added up."""
    shapes = {"query": (LONG, H), "key": (LONG, H), "value": (LONG, H), "dout": (LONG, H)}
    drawn = {name: 3 * rng.normal(size=shape) for name, shape in shapes.items()} | more
    return {name: x[None].astype(np.float32) for name, x in drawn.items()}


HIDES_A_ROW = np.arange(T_ENC) < np.arange(T_DEC)[:, None]  # the first, and what lies behind
FLOAT_MASK = np.where(rng.random((T_DEC, T_ENC)) < 0.8, rng.normal(size=(T_DEC, T_ENC)), -np.inf)

CASES = {
    "plain": (general(), {}),
    "causal": (general(), {"semantics": Semantics(causal="upper_left")}),
    "causal, aligned at the end": (general(), {"semantics": Semantics(causal="lower_right")}),
    "window": (general(), {"semantics": Semantics(window=(2, 1), align="lower_right")}),
    "softcap and scale": (general(), {"semantics": Semantics(softcap=0.7, scale=2.0)}),
    "sinks under a window": (
        general(sinks=np.array([0.5, -1.0])),
        {"semantics": Semantics(causal="lower_right", window=1)},
    ),
    "slopes": (
        general(alibi=standard_slopes(HEADS)),
        {"semantics": Semantics(align="lower_right")},
    ),
    "segments": (
        general(segments_dec=np.array([0, 0, 1, 1, 1, 2, 9]), segments_enc=np.arange(T_ENC) // 4),
        {},
    ),
    "packed": (packed(), {"semantics": Semantics(causal="lower_right")}),
    "lengths": (general(kv_lengths=np.array([5])), {"semantics": Semantics(causal="lower_right")}),
    "boolean mask": (general(mask=HIDES_A_ROW), {}),
    "floating mask": (general(mask=FLOAT_MASK), {}),
    "floating mask, each key one": (general(mask=FLOAT_MASK[:1]), {}),
    "floating mask, each query one": (general(mask=FLOAT_MASK[:, :1]), {}),
    "floating mask of each head": (
        general(mask=rng.normal(size=(HEADS, T_DEC, T_ENC)), enc_mask=np.arange(T_ENC)[None] < 9),
        {},
    ),
    "mask of integers": (general(mask=HIDES_A_ROW.astype(int)), {}),
    "dropout": (
        general(keep=rng.random((N, HEADS, T_DEC, T_ENC)) < 0.7),
        {"semantics": Semantics(keep_prob=0.7)},
    ),
    "gradient of logsumexp": (general(dlogsumexp=rng.normal(size=(N, HEADS, T_DEC))), {}),
    "turned by positions": (
        {name: x[..., :2] if x.shape[-1] == H else x for name, x in general().items()},
        {"rotary": {"rotary": "halves"}, "semantics": Semantics(causal="lower_right")},
    ),
    "large scores": (general(query=300 * rng.normal(size=(N, HEADS, T_DEC, H))), {}),
    "the book's": (book(), {}),
    "the book's, padded": (
        book(
            enc_mask=np.arange(T_ENC) < np.array([[T_ENC], [6]]),
            dec_mask=np.arange(T_DEC) < np.array([[T_DEC], [5]]),
        ),
        {},
    ),
    "the book's, one step": (
        {
            "hs": rng.normal(size=(2, T_ENC, H)), "h": rng.normal(size=(2, H)),
            "dout": rng.normal(size=(2, H)),
        },
        {"layer": "attention"},
    ),
    "heads behind steps": (
        {name: np.moveaxis(x, 1, 2) for name, x in general().items()},
        {"layout": {"": ("N", "T", "heads", "H")}},
    ),
    "packed without items": (
        {name: np.moveaxis(x[0], 0, 1) for name, x in general().items()}
        | {"cu_seqlens": np.array([0, 3, T_DEC]), "cu_seqlens_k": np.array([0, 6, T_ENC])},
        {"layout": {"": ("total", "heads", "H")}, "semantics": Semantics(causal="lower_right")},
    ),
    "steps first": (
        {
            "query": rng.normal(size=(T_DEC, 2, 6)), "key": rng.normal(size=(T_ENC, 2, 3)),
            "value": rng.normal(size=(T_ENC, 2, 4)), "dout": rng.normal(size=(T_DEC, 2, 8)),
        },
        {"layout": {"": ("T", "N", "H")}, "heads": {"heads": 2, "kv_heads": 1}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_option_is_as_in_process(case, cluster, tmp_path):
    arrays, options = CASES[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttnWarning)
        found = on_cluster(job_of(tmp_path, arrays, BLOCK, **options), cluster)
    expected = in_process(tmp_path, **options)
    results = {name for name in expected if name.startswith("d") or name in ("out", "logsumexp")}
    assert results - {"dec_mask", "dout", "dlogsumexp"} <= found.keys()
    for name in results & found.keys():
        np.testing.assert_allclose(
            found[name], expected[name], rtol=1e-12, atol=1e-12, err_msg=name
        )


def test_half_precision_is_walked_back_as_exactly_as_in_process(cluster, tmp_path):
    arrays = {name: x.astype(np.float16) for name, x in general().items()}
    found = on_cluster(job_of(tmp_path, arrays, BLOCK), cluster)
    for name, expected in in_process(tmp_path).items():
        if name in found:
            assert found[name].dtype == expected.dtype == np.float16
            np.testing.assert_allclose(found[name], expected, rtol=2e-3, atol=1e-4)


def test_forward_alone_into_an_npy_file(cluster, tmp_path):
    run(job_of(tmp_path, general(), BLOCK, command="forward", out="out.npy"), cluster)
    expected = in_process(tmp_path, "forward")["out"]
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-12)


@pytest.mark.parametrize("beside", [{}, {"sinks": np.array([0.3, -2.0])}])
def test_rows_that_see_nothing_are_counted(beside, cluster, tmp_path):
    job = job_of(tmp_path, general(mask=HIDES_A_ROW, **beside), BLOCK)
    with pytest.warns(AttnWarning, match="2 of 14 rows have every key masked"):
        run(job, cluster)


@pytest.mark.parametrize("zero", ["value", "query"])
def test_rows_whose_sink_outweighs_all_that_they_see_are_not(zero, cluster, tmp_path):
    # What is seen comes to nothing: values that are 0, or weights that are, beside exp(900).
    arrays = general(sinks=np.array([30.0 if zero == "value" else 900.0] * HEADS))
    arrays[zero] *= 0
    job = job_of(tmp_path, arrays, BLOCK, semantics=Semantics(causal="upper_left"))
    with warnings.catch_warnings(action="error"):
        run(job, cluster)


def test_a_mask_of_other_numbers_than_0_and_1_is_refused(cluster, tmp_path):
    mask = np.ones((T_DEC, T_ENC), int)
    mask[-1, -1] = 2  # in the last tile
    job = job_of(tmp_path, general(mask=mask), BLOCK)
    with pytest.raises(AttnError, match="int64 with other values than 0 and 1"):
        run(job, cluster)


def test_a_mask_of_0_and_1_is_said_to_be_read_as_boolean(tmp_path):
    np.savez(tmp_path / "in.npz", **general(mask=np.ones((T_DEC, T_ENC), int)))
    with pytest.warns(AttnWarning, match="mask is int64, read as boolean"):
        read_problem(asked(tmp_path / "in.npz", "dask"))


def test_sinks_whose_gradient_is_no_number_are_told(cluster, tmp_path):
    arrays = general(sinks=np.array([0.5, -1.0]))
    arrays["dout"] *= 1e300
    arrays["value"] *= 1e30
    with pytest.warns(AttnWarning) as told:
        run(job_of(tmp_path, arrays, BLOCK), cluster)
    said = [str(warning.message) for warning in told]
    assert any("2 of 2 values of dsinks are not finite" in line for line in said)


def test_nothing_to_compute_is_said(tmp_path):
    arrays = {
        name: x[:, :, :0] if name in ("query", "dout") else x for name, x in general().items()
    }
    with pytest.raises(ParameterError, match=r"in.npz: T_dec is 0: there is nothing") as told:
        job_of(tmp_path, arrays, BLOCK).plan(2)
    assert told.value.hint == "--engine auto"


def test_progress_is_told_in_products_of_what_is_seen(cluster, tmp_path):
    told = []
    job = job_of(tmp_path, general(), BLOCK, semantics=Semantics(causal="upper_left"))
    with watching(lambda done, total: told.append((done, total))):
        run(job, cluster)
    products = (2 + 5) * HEADS * T_DEC * (T_DEC + 1) // 2  # forward and backward
    assert told[-1] == (products, products)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_who_is_at_work_and_what_was_moved_is_told(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("attncli.cluster.dask._TELL_EVERY", 0)
    told = []
    job = job_of(tmp_path, general(), BLOCK)
    run(job, cluster, lambda plan, workers, moved: told.append((plan.block, workers, moved)))
    assert {(block, workers) for block, workers, _ in told} == {((BLOCK, BLOCK), 2)}
    moved = [bytes_ for *_, bytes_ in told]
    assert moved[0] == 0
    assert moved == sorted(moved)


@pytest.mark.parametrize("way", ["_forward", "_Backward"])
def test_at_most_three_rows_or_bands_are_in_flight(way, cluster, tmp_path, monkeypatch):
    """So what is pending of them stays small; unless they are too few to go round."""
    flying, most = set(), []

    def counted(units):
        for unit in units:
            if unit is None or not unit.tiles:
                yield unit
                continue

            def done(written, unit=unit):
                flying.discard(unit.last)
                unit.done(written)

            flying.add(unit.last)
            most.append(len(flying))
            yield unit._replace(done=done)

    if way == "_forward":
        original = engine._forward
        monkeypatch.setattr(engine, way, lambda *given: counted(original(*given)))
    else:
        units = engine._Backward.units
        monkeypatch.setattr(engine._Backward, "units", lambda backward: counted(units(backward)))
    for at_least, expected in ((0, 3), (4, 4)):
        monkeypatch.setattr(engine, "PARTS_A_THREAD", at_least)
        run(job_of(tmp_path, rounded(), 16, out=f"{at_least}.zarr"), cluster)
        assert max(most) <= expected
        assert max(most) >= min(expected, 3)


def test_nothing_is_left_beside_the_results(cluster, tmp_path):
    run(job_of(tmp_path, general(), BLOCK), cluster)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npz", "out.zarr"]


def test_bytes_do_not_depend_on_who_computes_them(tmp_path):
    """On three workers, of which one is killed on the way, on two and on one."""
    arrays, stores = rounded(), []

    def computed(settings):
        out = f"{len(stores)}.zarr"
        run(job_of(tmp_path, arrays, 8, out=out, semantics=Semantics(softcap=3.0)), settings)
        stores.append(files_of(tmp_path / out))

    lost = pytest.warns(AttnWarning, match="1 worker lost")
    with lost, connect(Settings(workers=3)) as client:
        settings = Settings(scheduler=client.scheduler.address)
        computed(settings)
        victims = list(client.run(os.getpid).values())

        def kill(done, total):
            if done > total * 0.6 and victims:
                os.kill(victims.pop(), signal.SIGKILL)
                victims.clear()

        with watching(kill), pytest.warns(AttnWarning, match="1 worker lost"):
            computed(settings)
        for number in (2, 1):
            client.wait_for_workers(number + 1)  # the lost one's successor is there
            client.retire_workers(sorted(client.nthreads())[number:])
            computed(settings)
            assert len(client.nthreads()) == number
    assert len(stores) == 4
    for store in stores[1:]:
        assert store == stores[0]


class GivenUpError(Exception):
    """What somebody says who watches."""


def give_up(done, total):
    if done > total * 0.3:
        raise GivenUpError


def test_rows_that_are_there_are_kept_when_a_run_is_taken_up_again(cluster, tmp_path):
    arrays = rounded()
    resuming = Settings(scheduler=cluster.scheduler, resume=True)

    with pytest.raises(GivenUpError), watching(give_up):
        run(job_of(tmp_path, arrays, 8), resuming)
    (unfinished,) = tmp_path.glob(".out.zarr.*.tmp")
    kept = {path.name: path.stat().st_ino for path in (unfinished / "out").rglob("*")}
    assert len(kept) > 3
    told = []
    with watching(lambda done, total: told.append(done)):
        run(job_of(tmp_path, arrays, 8), resuming)
    there = {path.name: path.stat().st_ino for path in (tmp_path / "out.zarr" / "out").rglob("*")}
    assert {name: there[name] for name in kept} == kept
    run(job_of(tmp_path, arrays, 8, out="whole.zarr"), cluster)
    assert files_of(tmp_path / "out.zarr") == files_of(tmp_path / "whole.zarr")
    assert not list(tmp_path.glob(".*"))


def test_a_run_that_is_given_up_leaves_nothing(cluster, tmp_path):
    with pytest.raises(GivenUpError), watching(give_up):
        run(job_of(tmp_path, rounded(), 8), cluster)
    assert [path.name for path in tmp_path.iterdir()] == ["in.npz"]


def test_what_is_wrong_with_the_numbers_is_said_by_their_name(cluster, tmp_path):
    arrays = general()
    arrays["key"][0, 0, 9, 1] = np.nan
    with pytest.raises(AttnError, match=r"in.npz: key\[.*8:11.*\] holds 1 non-finite value"):
        run(job_of(tmp_path, arrays, BLOCK), cluster)
    assert [path.name for path in tmp_path.iterdir()] == ["in.npz"]


@pytest.mark.parametrize("other", ["block", "input"])
def test_another_block_or_input_is_another_run(other, cluster, tmp_path):
    """So nothing of an unfinished one is taken for it."""
    arrays, block = rounded(), 16
    resuming = Settings(scheduler=cluster.scheduler, resume=True)
    with pytest.raises(GivenUpError), watching(give_up):
        run(job_of(tmp_path, arrays, block), resuming)
    if other == "block":
        block = 32
    else:
        np.savez(tmp_path / "in.npz", **arrays | {"value": arrays["value"] + 1})
    with pytest.warns(AttnWarning, match="not gone on with"):
        found = on_cluster(job_of(tmp_path, arrays, block), resuming)
    expected = in_process(tmp_path)["out"]
    np.testing.assert_allclose(found["out"], expected, rtol=1e-4, atol=1e-5)


def test_who_has_a_client_computes_arrays_of_dask_there(cluster):
    import dask
    import dask.array as da
    from distributed import Client

    query = da.from_array(rng.normal(size=(2, T_DEC, H)), chunks=(1, 3, H))
    key = da.from_array(rng.normal(size=(1, T_ENC, H)), chunks=(1, 4, H))
    out, cache = attention(query, key, key, causal="lower_right", sinks=0.5)
    laid_out = out, cache.logsumexp, *attention_backward(out, cache), cache.dsinks
    here = dask.compute(*laid_out, scheduler="synchronous")
    with Client(cluster.scheduler):
        there = dask.compute(*laid_out)
    assert [x.tobytes() for x in there] == [x.tobytes() for x in here]
