"""How much memory there is, and whether something fits."""

import pytest

from attncli import memory
from attncli.errors import MemoryLimitError


def test_available_memory_is_a_plausible_number_of_bytes():
    available = memory.available_memory()
    if available is None:
        pytest.skip("this system does not tell")
    assert 1 << 20 < available < 1 << 50


def test_the_least_of_machine_group_and_process_counts(monkeypatch):
    files = {
        "/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  8000 kB\n",
        "/sys/fs/cgroup/memory.max": "5000000\n",
        "/sys/fs/cgroup/memory.current": "1000000\n",
    }
    monkeypatch.setattr(memory, "read_system", lambda path: files.get(path, ""))
    assert memory.available_memory() == 4_000_000
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert memory.available_memory() == 8_192_000


def test_what_does_not_fit_is_said_with_both_sizes(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 10_000_000)
    memory.require(10_000_000, "weights", None)
    with pytest.raises(MemoryLimitError, match=r"^weights would take 10\.0 MB, there is 10\.0 MB"):
        memory.require(10_000_001, "weights", None)
    with pytest.raises(MemoryLimitError) as caught:
        memory.require(2 * 10**18, "weights", None, hint="--no-weights")
    assert "would take 2.0 EB" in str(caught.value)
    assert caught.value.hint == "--no-weights"


def test_a_limit_of_ones_own_counts_to_the_byte():
    memory.require(100, "x", 100)
    with pytest.raises(MemoryLimitError):
        memory.require(101, "x", 100)
