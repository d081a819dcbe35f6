"""Connecting to a cluster: what is there, what is not, and what is there but does not suit."""

import http.server
import os
import shutil
import subprocess
import threading

import numpy
import pytest

pytest.importorskip("distributed", reason="the cluster extra is not installed")

from clusters import free_port, listener, scheduler, worker

from attncli.cluster.cluster_settings import Needs, Settings
from attncli.cluster.connecting import connect, parsed
from attncli.errors import AttnError, AttnWarning
from attncli.version import __version__


def refused(address, needs=lambda threads: Needs(), **settings):
    """Give what is said where no client comes about."""
    within = {"answer_within": 10, "workers_within": 60} | settings
    with (
        pytest.raises(AttnError) as caught,
        connect(Settings(scheduler=address, **within), needs),
    ):
        raise AssertionError("connected")
    return str(caught.value), caught.value.hint


def reached(address, needs=lambda threads: Needs(), **settings):
    with connect(Settings(scheduler=address, workers_within=60, **settings), needs) as client:
        return client.submit(pow, 7, 2).result()


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A scheduler with a dashboard, and no worker."""
    folder = tmp_path_factory.mktemp("scheduler")
    with scheduler(folder, "--dashboard-address", "127.0.0.1:0") as process:
        process.folder = folder
        yield process


# Addresses.


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("node7", "tcp://node7:8786"),
        ("node7:9000", "tcp://node7:9000"),
        ("10.0.0.7", "tcp://10.0.0.7:8786"),
        ("[::1]:9000", "tcp://[::1]:9000"),
        ("tcp://node7", "tcp://node7:8786"),
        ("tls://node7:9000", "tls://node7:9000"),
        ("ws://node7:9000", "ws://node7:9000"),
        ("wss://node7/", "wss://node7:8786"),
    ],
)
def test_every_form_of_an_address(text, meant):
    assert str(parsed(text)) == meant


@pytest.mark.parametrize(
    "text", ["", "http://node7:8787/status", "tcp://", "node7:port", "node7:99999", "inproc://1/2"]
)
def test_what_is_no_address_is_refused(text):
    assert "no address, expected tcp://HOST:PORT" in refused(text)[0]


def test_without_a_scheme_certificates_mean_tls():
    assert str(parsed("node7", encrypted=True)) == "tls://node7:8786"
    with pytest.raises(AttnError) as caught:
        parsed("tcp://node7", encrypted=True)
    assert caught.value.hint == "--scheduler tls://node7:8786"


@pytest.mark.parametrize("text", ["{}", "[", '{"address": 3}', '{"address": "here"}', "[]"])
def test_what_is_no_file_of_a_scheduler_is_refused(folder, text):
    (folder / "cluster.json").write_text(text)
    message, hint = refused("cluster.json")
    assert message == "--scheduler cluster.json: is not the file of a scheduler"
    assert hint == "dask scheduler --scheduler-file cluster.json"


def test_a_file_that_is_not_there(folder):
    assert refused("nowhere.json")[0] == "--scheduler nowhere.json: no such file or directory"


def test_the_environment_names_a_scheduler_unless_workers_are_asked_for(monkeypatch):
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://node7:8786")
    assert Settings().address == "tcp://node7:8786"
    assert Settings(scheduler="other").address == "other"
    assert Settings(workers=2).address is None
    assert Settings(worker_memory=10**9).address is None


# Who is there.


def test_nobody_listens():
    port = free_port()
    message, hint = refused(f"127.0.0.1:{port}")
    assert message == f"no scheduler at tcp://127.0.0.1:{port} (connection refused)"
    assert hint == f"dask scheduler --port {port}"


def test_no_such_host():
    message, _ = refused("tcp://no-such-host.invalid:8786", answer_within=5)
    assert message.startswith("no scheduler at tcp://no-such-host.invalid:8786 (")


def test_somebody_listens_and_says_nothing():
    with listener() as port:
        message, hint = refused(f"tcp://127.0.0.1:{port}", answer_within=0.5)
    there = f"tcp://127.0.0.1:{port} answers, but is not a Dask scheduler"
    assert message == f"{there} (nothing was said in time; the dashboard's port?)"
    assert hint == "--scheduler tcp://127.0.0.1:8786"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 64, b"\xff" * 64])
def test_somebody_answers_something_else(answer):
    """The first eight bytes are the length of a message: no memory is taken for it."""
    with listener(answer) as port:
        message, _ = refused(f"tcp://127.0.0.1:{port}", answer_within=0.5)
    assert message.startswith(f"tcp://127.0.0.1:{port} answers, but is not a Dask scheduler")


def test_a_server_of_http():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as s:
        threading.Thread(target=s.serve_forever).start()
        message, hint = refused(f"tcp://127.0.0.1:{s.server_port}", answer_within=0.5)
        s.shutdown()
    there = f"tcp://127.0.0.1:{s.server_port} answers, but is not a Dask scheduler"
    assert message.startswith(there)
    assert hint == "--scheduler tcp://127.0.0.1:8786"


def test_the_port_of_the_dashboard(there):
    port = there.said["services"]["dashboard"]
    for scheme in ("tcp", "ws"):
        message, hint = refused(f"{scheme}://127.0.0.1:{port}", answer_within=1)
        there = f"{scheme}://127.0.0.1:{port} answers, but is not a Dask scheduler"
        assert message.startswith(there)
        assert hint == f"--scheduler {scheme}://127.0.0.1:8786"


def test_no_worker(there):
    message, hint = refused(there.address, workers_within=0.3)
    assert message == f"{there.address} has no worker after 0.3 s"
    assert hint == f"dask worker {there.address} --nthreads 1 starts one"


def test_over_web_sockets(tmp_path):
    with scheduler(tmp_path, "--protocol", "ws") as process, worker(process.address, tmp_path):
        port = process.address.rpartition(":")[2]  # it listens everywhere
        assert reached(f"ws://127.0.0.1:{port}") == 49


# What does not suit.  Each worker is a process of its own that has something else than ours.


def test_a_worker_that_suits_however_the_scheduler_is_named(there, tmp_path, monkeypatch):
    data = tmp_path / "input.npy"
    data.write_bytes(b"12345")
    needs = Needs(
        task=1000, worker=100_000_000, inputs=(str(data),), output=str(tmp_path / "o.zarr")
    )
    seen = []

    def planned(threads):
        seen.append(threads)
        return needs

    bare = there.address.removeprefix("tcp://")
    with worker(there.address, tmp_path):
        for address in (there.address, bare, str(there.file)):
            assert reached(address, planned) == 49
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", bare)
        assert reached(None, planned) == 49
        with connect(Settings(scheduler=bare)) as client:
            (own,) = client.nthreads()
        message, hint = refused(own)
        assert message == f"{own} is a Dask worker, not a scheduler"
        assert hint == f"--scheduler {there.address}"
    assert seen == [1] * 4
    assert {path.name for path in tmp_path.iterdir()} == {"input.npy", "dask-scratch-space"}


OLD = """
import numpy, attncli.version
numpy.__version__ = '1.26.4'
attncli.version.__version__ = '0.1'
"""


def test_other_versions_of_what_results_hang_on(there, tmp_path):
    with worker(there.address, tmp_path, prelude=OLD):
        message, hint = refused(there.address)
    ours = __version__
    assert message.startswith(f"versions differ: attncli {ours} here, 0.1 on tcp://127.0.0.1:")
    assert f"; numpy {numpy.__version__} here, 1.26.4 on tcp://127.0.0.1:" in message
    assert hint == f"pip install 'attncli[cluster]=={ours}' numpy=={numpy.__version__} there"


OTHER = """
from importlib import metadata
import platform
version = metadata.version
metadata.version = lambda name: dict(zarr='2.18.0', dask='2024.1.0').get(name) or version(name)
platform.python_version = lambda: '3.99.1'
"""


def test_other_versions_of_what_results_do_not_hang_on(there, tmp_path):
    with worker(there.address, tmp_path, prelude=OTHER):
        with pytest.warns(
            AttnWarning, match=r"dask .* 2024\.1\.0 on .*; python .* 3\.99\.1"
        ) as said:
            assert reached(there.address) == 49
        assert "zarr" not in str(said[0].message)
        message, hint = refused(
            there.address, lambda threads: Needs(output=str(tmp_path / "o.zarr"))
        )
    assert message.startswith("versions differ: zarr ")
    assert " zarr==" in hint


def test_attncli_is_missing_on_a_worker(there, tmp_path):
    with worker(there.address, tmp_path, prelude="import sys; sys.modules['attncli'] = None"):
        message, hint = refused(there.address)
    assert message.startswith("attncli is not installed on tcp://127.0.0.1:")
    assert hint == f"pip install 'attncli[cluster]=={__version__}' there"


def test_attncli_is_missing_on_the_scheduler(tmp_path):
    """It takes tasks apart, and so has to know what they are made of."""
    with (
        scheduler(tmp_path, prelude="import sys; sys.modules['attncli'] = None") as process,
        worker(process.address, tmp_path),
    ):
        message, _ = refused(process.address)
    assert message == f"attncli is not installed on {process.address}"


def test_a_worker_with_little_memory_or_threads_of_its_own(there, tmp_path):
    """A judgement goes by the tasks that run at once: one alone would fit."""
    options = ["--memory-limit", "500MB", "--nthreads", "3"]
    needs = Needs(task=150_000_000, worker=100_000_000, block=8192)
    with worker(there.address, tmp_path, *options, OMP_NUM_THREADS=None):
        message, hint = refused(there.address, lambda threads: needs)
        assert message.endswith("has 500.0 MB of memory, its 3 tasks at once need 550.0 MB")
        assert hint == "--block 4096"
        machine = Needs(task=10**15)
        assert "memory" in refused(there.address, lambda threads: machine)[0]
        if os.cpu_count() > 1:
            with pytest.warns(AttnWarning, match="start workers with OMP_NUM_THREADS=1"):
                assert reached(there.address, lambda threads: Needs(task=100_000_000)) == 49


def test_a_worker_on_a_machine_that_shares_no_disk(there, tmp_path):
    """It has a folder of the same name, in which there is something else."""
    shared = tmp_path / "shared"
    shared.mkdir()
    mounting = f'mount -t tmpfs tmpfs {shared} && printf other > {shared}/a.npy && exec "$@"'
    apart = ["unshare", "-rm", "sh", "-c", mounting, "-"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"]).returncode:
        pytest.skip("a machine of its own cannot be made up here")
    for name in ("a.npy", "b.npy"):
        (shared / name).write_text("data")
    with worker(there.address, tmp_path, before=apart):
        another = refused(there.address, lambda threads: Needs(inputs=(f"{shared}/a.npy",)))
        missing = refused(there.address, lambda threads: Needs(inputs=(f"{shared}/b.npy",)))
        writing = refused(there.address, lambda threads: Needs(output=f"{shared}/out.zarr"))
    at = r"on tcp://127\.0\.0\.1:\d+"
    assert another[0].startswith(f"{shared}/a.npy: is another file on tcp://127.0.0.1:")
    assert missing[0].startswith(f"{shared}/b.npy: cannot be read on tcp://127.0.0.1:"), at
    assert missing[0].endswith("(no such file or directory)")
    assert writing[0].endswith("(what is written there is not seen)")
    assert [another[1], missing[1]] == ["put it into a folder that every machine sees"] * 2
    assert sorted(os.listdir(shared)) == ["a.npy", "b.npy"]


# Encryption.


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Two that know nothing of each other, each signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here, to make certificates with")
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("ours", "theirs"):
        making = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"]
        subprocess.run([*making, *files], cwd=folder, check=True, capture_output=True)
    return folder


def test_encrypted(there, certificates, tmp_path):
    ours, theirs = (
        {kind: str(certificates / f"{name}.{kind}") for kind in ("pem", "key")}
        for name in ("ours", "theirs")
    )
    options = ["--tls-ca-file", ours["pem"], "--tls-cert", ours["pem"], "--tls-key", ours["key"]]
    known = {"tls_ca": ours["pem"], "tls_cert": ours["pem"], "tls_key": ours["key"]}
    with scheduler(tmp_path, "--protocol", "tls", *options) as process:
        address = process.address
        with worker(address, tmp_path, *options):
            assert reached(address, **known) == 49
            assert reached(address.removeprefix("tls://"), **known) == 49
        stranger = known | {"tls_cert": theirs["pem"], "tls_key": theirs["key"]}
        assert refused(address, **stranger)[0] == f"{address} does not know us by --tls-cert"
        message, hint = refused(address, **(known | {"tls_ca": theirs["pem"]}))
        assert message.startswith(f"{address} is not known to --tls-ca (")
        plain = address.replace("tls", "tcp")
        message, hint = refused(plain)
        assert message == f"{plain} answers, but is not a Dask scheduler (it may ask for TLS)"
        assert hint == f"--scheduler {address}"
        message, hint = refused(address)
        assert message == f"{address} asks for certificates"
        assert hint == "--tls-ca CA.pem --tls-cert CERTIFICATE.pem --tls-key KEY.pem"
        assert refused(plain, **known)[1] == f"--scheduler {address}"
    secure = there.address.replace("tcp", "tls")
    message, hint = refused(secure, **known)
    assert message.startswith(f"{secure} answers, but is not a Dask scheduler (")
    if "and has no TLS" in message:  # how it hangs up is not always seen
        assert hint == f"--scheduler {there.address}"
    (tmp_path / "bad.pem").write_text("no certificate")
    bad = known | {"tls_cert": str(tmp_path / "bad.pem")}
    assert refused(secure, **bad)[0].startswith("--tls-ca, --tls-cert, --tls-key: ")
    missing = known | {"tls_key": "nowhere.key"}
    assert refused(secure, **missing)[0] == "nowhere.key: no such file or directory"
