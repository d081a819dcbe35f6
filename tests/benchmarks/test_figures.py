"""What ``attn bench`` makes of the times, the memory and the errors that it is given."""

import pytest
from rich.text import Text

from attncli.reports import Cell

GREEN = 2  # of a terminal's sixteen colours
CELL = ("--shapes", "2,5,3", "--dtype", "float32")


def bench(attn, *options, repeat=3):
    result = attn("bench", *CELL, "--repeat", repeat, "--json", *options)
    assert (result.code, result.err) == (0, "")
    return result.json


def of(report, contender, **cell):
    (one,) = [
        one
        for one in report["measurements"]
        if one["contender"] == contender and cell.items() <= one.items()
    ]
    return one


@pytest.mark.parametrize(
    ("seconds", "median"),
    [
        ([0.5], 0.5),
        ([0.5, 0.25, 8.0], 0.5),
        ([0.25, 0.25, 0.25, 0.5, 8.0], 0.25),
        ([0.25, 0.5, 1.0, 8.0], 0.75),
    ],
)
def test_seconds_are_the_median_of_the_rounds(attn, machine, seconds, median):
    machine.seconds["core", "forward"] = seconds
    machine.seconds["core", "both"] = [2 * s for s in seconds]
    one = of(bench(attn, repeat=len(seconds)), "core")
    assert one["forward_seconds"] == pytest.approx(median, rel=1e-12)
    assert one["both_seconds"] == pytest.approx(2 * median, rel=1e-12)


def test_neither_what_warms_a_contender_nor_the_first_runs_of_a_turn_count(attn, machine):
    for runs in (0.5, 0.03, 0.001):
        machine.seconds["core", "forward"] = [runs] * 3
        assert of(bench(attn), "core")["forward_seconds"] == pytest.approx(runs, rel=1e-12)


@pytest.mark.parametrize(
    ("short", "counted"), [(0.001, 10), (0.002, 10), (0.004, 5), (0.009, 2), (0.03, 1)]
)
def test_as_many_short_runs_of_a_turn_count_as_fit_up_to_ten(attn, machine, short, counted):
    machine.seconds["core", "forward"] = lambda cell: [short] + [0.5] * rest
    rest = counted - 1
    if rest:
        found = of(bench(attn, repeat=1 + rest), "core")["forward_seconds"]
        assert found == pytest.approx(short, rel=1e-12)
    rest = counted
    found = of(bench(attn, repeat=1 + rest), "core")["forward_seconds"]
    assert found == pytest.approx((short + 0.5) / 2, rel=1e-12)
    rest = counted + 1
    found = of(bench(attn, repeat=1 + rest), "core")["forward_seconds"]
    assert found == pytest.approx(0.5, rel=1e-12)


def test_operations_a_second_are_those_of_the_two_products_of_forward(attn, machine):
    for name in ("core", "torch"):
        machine.seconds[name, "forward"] = [0.5]
        machine.seconds[name, "both"] = [7.0]
    report = bench(attn, "--causal", repeat=1)
    for name in ("core", "torch"):
        whole, causal = (of(report, name, causal=causal)["gflops"] for causal in (False, True))
        assert whole == pytest.approx(4 * 2 * (5 * 5) * 3 / 0.5 / 1e9, rel=1e-12)
        assert causal == pytest.approx(4 * 2 * (5 + 4 + 3 + 2 + 1) * 3 / 0.5 / 1e9, rel=1e-12)


def test_memory_is_the_most_that_any_run_took(attn, machine):
    machine.memory["core", "forward"] = [100, 300, 200]
    machine.memory["core", "both"] = [50, 60, 70]
    machine.memory["loop", "forward"] = [100, 300, 200]
    machine.memory["loop", "both"] = [500, 900, 700]
    machine.memory["torch", "forward"] = machine.memory["torch", "both"] = [None] * 3
    machine.memory["products", "forward"] = [None, 5, None]
    report = bench(attn)
    found = {one["contender"]: one["memory_bytes"] for one in report["measurements"]}
    assert found == {"core": 300, "loop": 900, "torch": None, "products": 5}


def test_who_is_judged_against_float64(attn, machine):
    machine.errors = {"core": 1e-7, "torch": 3e-7}
    report = bench(attn, "--accuracy")
    assert machine.judged == ["core", "torch"]  # not the loop, and not what has no softmax
    found = {one["contender"]: one["error"] for one in report["measurements"]}
    assert found == {"core": 1e-7, "loop": None, "torch": 3e-7, "products": None}
    machine.judged.clear()
    assert {one["error"] for one in bench(attn)["measurements"]} == {None}
    assert machine.judged == []


def test_nobody_always_comes_after_the_same_one(attn, machine):
    bench(attn, "--engines", "core", repeat=7)
    runs = [("core", "forward"), ("torch", "forward"), ("products", "forward")]
    runs += [("core", "both"), ("torch", "both")]
    expected = []
    for first in (0, 1, 2, 3, 4, 0, 1):
        expected += runs[first:] + runs[:first]
    assert machine.turns == expected


def test_every_contender_has_the_cells_that_it_can_bear(attn, machine):
    report = bench(attn, "--shapes", "1,8192,64", "--causal", repeat=1)
    given = {(name, cell.T, cell.causal) for name, cell in machine.cells}
    every = {(name, T, causal) for name in ("core", "torch") for T in (5, 8192)
             for causal in (False, True)}  # fmt: skip
    # No loop and no products under a mask; no loop where one run would take 4 s and more.
    assert given == every | {("loop", 5, False), ("products", 5, False), ("products", 8192, False)}
    measured = {(one["contender"], one["T"], one["causal"]) for one in report["measurements"]}
    assert measured == given


def test_the_loop_bears_as_little_of_many_items_as_of_long_ones(attn, machine):
    bench(attn, "--shapes", "1,1000,1600", "--shapes", "2,1000,1600", repeat=1)
    assert [cell.N for name, cell in machine.cells if (name, cell.T) == ("loop", 1000)] == [1]
    assert [cell.N for name, cell in machine.cells if (name, cell.T) == ("core", 1000)] == [1, 2]


def test_all_installed_peers_are_measured_unless_they_are_chosen(attn, machine):
    assert bench(attn)["not_installed"] == ["jax", "onnxruntime"]
    chosen = bench(attn, "--peers", "jax", "--engines", "core")
    assert chosen["not_installed"] == ["jax"]
    assert [one["contender"] for one in chosen["measurements"]] == ["core", "products"]


@pytest.mark.parametrize("what", ["cell", "forward", "both"])
def test_who_cannot_run_a_cell_is_named_and_measured_on_the_others(attn, machine, what):
    machine.failing["core", what] = lambda cell, turn: cell.T == 5
    report = bench(attn, "--shapes", "2,7,3")
    assert report["failures"] == {"core": "MemoryError: too large"}
    measured = {(one["contender"], one["T"]) for one in report["measurements"]}
    names = ("core", "loop", "torch", "products")
    assert measured == {(name, T) for name in names for T in (5, 7)} - {("core", 5)}


def test_a_run_that_fails_later_is_no_sample(attn, machine):
    machine.seconds["core", "forward"] = [0.5, 8.0, 0.25]
    machine.failing["core", "forward"] = lambda cell, turn: turn == 2
    machine.failing["core", "both"] = lambda cell, turn: turn > 0
    one = of(bench(attn), "core")
    assert one["forward_seconds"] == pytest.approx((0.5 + 0.25) / 2, rel=1e-12)
    assert one["both_seconds"] is None


# What is drawn of it


def squeezed(line):
    return " ".join(line.split())


def test_ratios_are_to_the_fastest_and_to_the_products(attn, machine):
    for name, forward, both, memory in (
        ("core", 0.25, 4.0, 2_000_000),
        ("loop", 0.75, 2.0, 7_000_000),
        ("torch", 0.5, 3.0, 1_000_000),
        ("products", 0.125, None, 3_000),
    ):
        machine.seconds[name, "forward"] = [forward]
        machine.seconds[name, "both"] = [both]
        machine.memory[name, "forward"] = [memory]
    result = attn("bench", *CELL, "--repeat", 1, "--threads", 2, columns=120)
    lines = [line.rstrip() for line in result.out.splitlines()]
    assert lines[0] == "bench · 2 threads each · medians of 1 interleaved rounds"
    assert lines[2] == "N=2 T=5 H=3  float32"
    assert [squeezed(line) for line in lines[3:8]] == [
        "forward ×best ×products GFLOP/s with backward ×best memory",
        "core 250 ms 1.00 2.00 0.0 4000 ms 2.00 2.0 MB",
        "loop 750 ms 3.00 6.00 0.0 2000 ms 1.00 7.0 MB",
        "torch 500 ms 2.00 4.00 0.0 3000 ms 1.50 1.0 MB",
        "products 125 ms 1.00 0.0 3.0 KB",  # no contender: no ratio to the fastest
    ]
    assert lines[-1] == "not installed: jax, onnxruntime"


def test_the_fastest_is_green_forward_and_backward_apart(attn, machine):
    for name, forward, both in (("core", 0.25, 4.0), ("loop", 0.75, 2.0), ("torch", 0.5, 3.0)):
        machine.seconds[name, "forward"], machine.seconds[name, "both"] = [forward], [both]
    out = attn("bench", *CELL, "--repeat", 1, columns=120, colors="truecolor").out
    green = []
    for line in map(Text.from_ansi, out.splitlines()):
        green += [
            (line.plain.split()[0], line.plain[span.start : span.end].strip())
            for span in line.spans
            if span.style.color is not None and span.style.color.number == GREEN
        ]
    assert green == [("core", "1.00"), ("loop", "1.00")]
    core, loop = (line for line in out.splitlines() if "4000 ms" in line or "2000 ms" in line)
    assert core.index("1.00") < core.index("4000 ms")
    assert loop.index("2000 ms") < loop.index("1.00")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0004567, "0.457 ms"), (0.0045678, "4.57 ms"), (0.0456789, "45.7 ms"), (4.5678, "4568 ms")],
)
def test_times_have_three_digits(attn, machine, seconds, text):
    machine.seconds["core", "forward"] = [seconds]
    out = attn("bench", *CELL, "--engines", "core", "--repeat", 1, columns=120).out
    (line,) = [line for line in out.splitlines() if line.startswith("core ")]
    assert line.split()[1:3] == text.split()


def test_the_largest_error_is_the_last_column(attn, machine):
    machine.errors = {"core": 1.25e-7, "torch": 0.0}
    out = attn("bench", *CELL, "--accuracy", "--repeat", 1, columns=120).out
    last = {line.split()[0]: line.split()[-1] for line in out.splitlines() if " ms" in line}
    assert (last["core"], last["torch"]) == ("1.2e-07", "0")
    assert last["loop"] == last["products"] == "KB"  # the column before it


def test_a_failure_is_said_below_the_table(attn, machine):
    machine.failing["torch", "cell"] = lambda cell, turn: True
    lines = attn("bench", *CELL, "--repeat", 1, columns=120).out.splitlines()
    assert [line for line in lines if "torch" in line] == ["torch failed: MemoryError: too large"]


def test_scaling_says_how_time_grows_as_t_doubles(attn, machine):
    machine.seconds["core", "forward"] = lambda cell: [cell.T / 1e5]
    machine.seconds["core", "both"] = lambda cell: [{16384: 2.0, 32768: 5.0, 65536: 25.0}[cell.T]]
    machine.memory["core", "both"] = lambda cell: [cell.T * 1000]
    options = ("bench", "--scaling", "--shapes", "1,16384,2", "--threads", 2)
    result = attn(*options, columns=120)
    lines = [line.rstrip() for line in result.out.splitlines()]
    assert lines[0] == "bench, scaling in T · N=1 H=2  float32 · threads 2"
    # 4 · N · T² · H / seconds of forward = 8e5 · T
    assert [squeezed(line) for line in lines[2:6]] == [
        "T forward with backward grown GFLOP/s memory",
        "16384 164 ms 2000 ms 13.1 16.4 MB",
        "32768 328 ms 5000 ms 2.50 26.2 32.8 MB",
        "65536 655 ms 25000 ms 5.00 52.4 65.5 MB",
    ]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, (2, -1), (0, 3), (1, 1), (9, 9)])
@pytest.mark.parametrize("segments", [1, 2, 3, 7])
def test_operations_are_counted_for_the_pairs_that_are_seen(causal, window, segments):
    cell = Cell(1, 7, 3, "float64", causal, window, segments)
    left, right = window or (-1, -1)
    seen = [
        (t, s) for t in range(7) for s in range(7)
        if (not causal or s <= t) and (left < 0 or s >= t - left) and (right < 0 or s <= t + right)
        and t * segments // 7 == s * segments // 7
    ]  # fmt: skip
    assert cell.pairs() == len(seen)


def test_what_is_hidden_is_measured_beside_the_same_with_nothing_hidden(attn, machine):
    def hides(cell):
        return cell.causal or cell.window or cell.segments > 1

    machine.seconds["core", "forward"] = lambda cell: [0.25 if hides(cell) else 0.5] * 9
    machine.seconds["core", "both"] = lambda cell: [0.75 if hides(cell) else 1.0] * 9
    report = bench(attn, "--causal", "--window", "2", "--segments", "2", repeat=1)
    ours = [one for one in report["measurements"] if one["contender"] == "core"]
    assert [(one["causal"], one["window"], one["segments"]) for one in ours] == [
        (False, None, 1), (True, None, 1), (True, [2, 2], 1), (False, None, 2),
    ]  # fmt: skip
    shares = [one["of_unmasked"] for one in ours]
    assert shares == [{"forward": None, "both": None}] + 3 * [{"forward": 0.5, "both": 0.75}]
    # Whoever hides no work takes no part.
    others = {one["contender"] for one in report["measurements"] if one["window"]}
    assert others == {"core"}


def test_what_doubles_hides_what_is_asked_for(attn, machine):
    bench(attn, "--scaling", "--window", "3,0", "--segments", "2", repeat=1)
    assert {(cell.window, cell.segments) for _, cell in machine.cells} == {((3, 0), 2)}
