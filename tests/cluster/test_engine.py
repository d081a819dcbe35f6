"""A calculation on a cluster is the one in process, whatever is asked for and however it is cut."""

import warnings

import numpy as np
import pytest

pytest.importorskip("distributed")
pytest.importorskip("zarr")


from attncli.cluster import Settings, run
from attncli.cluster.connecting import connect
from attncli.core.extras import standard_slopes
from attncli.core.progress import watching
from attncli.core.semantics import Semantics
from attncli.errors import AttnWarning

from .posed import in_process, job_of, on_cluster

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


HIDES_A_ROW = np.arange(T_ENC) < np.arange(T_DEC)[:, None]  # and all keys behind
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


def test_rows_that_see_nothing_are_counted(cluster, tmp_path):
    job = job_of(tmp_path, general(mask=HIDES_A_ROW), BLOCK)
    with pytest.warns(AttnWarning, match="2 of 14 rows have every key masked"):
        run(job, cluster)


def test_progress_is_told_in_pairs_that_are_seen(cluster, tmp_path):
    told = []
    job = job_of(tmp_path, general(), BLOCK, semantics=Semantics(causal="upper_left"))
    with watching(lambda done, total: told.append((done, total))):
        run(job, cluster)
    pairs = 2 * HEADS * T_DEC * (T_DEC + 1) // 2  # forward and backward
    assert told[-1] == (pairs, pairs)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_nothing_is_left_beside_the_results(cluster, tmp_path):
    run(job_of(tmp_path, general(), BLOCK), cluster)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npz", "out.zarr"]
