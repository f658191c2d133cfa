"""Tests of the benchmark's timing: interleaving, failures, worker processes and comparison."""

import functools
import os
import signal
import time

import pytest

from jaxlabs.benchmark import timing
from jaxlabs.benchmark.format import duration, metrics, table
from jaxlabs.benchmark.timing import Case, MeasuringConfig, compare, measure_group
from jaxlabs.benchmark.worker import Job, Work, Worker, WorkerError
from jaxlabs.training import signals

FAST = MeasuringConfig(repeats=2, max_seconds=0.01, timeout=60.0)


@pytest.fixture(autouse=True)
def light_packages(monkeypatch):
    """Workers of these tests need no framework."""
    monkeypatch.setattr(timing, "PACKAGES", dict.fromkeys(timing.PACKAGES, "math"))


NOTHING = functools.partial(time.sleep, 0.0)


def case(framework="jaxlabs", precision="highest", run=NOTHING, **facts):
    build = functools.partial(Work, run, **facts.pop("work", {}))
    fields = {"suite": "any", "variant": "one", "unit": "call", "size": "small"} | facts
    return Case(framework=framework, precision=precision, build=build, **fields)


def row(framework, precision, seconds, **facts):
    kind = timing.CLASSES.get(precision, precision)
    fields = {"suite": "any", "variant": "one", "mode": "eager", "unit": "step", "size": "small"}
    fields |= {"framework": framework, "precision": precision, "precision_class": kind}
    fields |= {"seconds": seconds, "flops_per_second": None, "skipped": "", "metrics": {}}
    fields |= {"compile_seconds": 0.0, "peak_memory_bytes": 2**21, "base_memory_bytes": 2**20}
    return fields | facts


def test_cases_are_timed_interleaved(tmp_path):
    log = tmp_path / "log"
    runs = {
        name: functools.partial(os.system, f"echo {name} >> {log}; sleep 0.01") for name in "ab"
    }
    group = [
        case("jaxlabs", run=runs["a"], work={"units": 1000, "flops": 100.0}),
        case("pytorch", "float32", run=runs["b"]),
    ]
    progress = []
    ours, theirs = measure_group(group, FAST, lambda case: progress.append(case.framework))
    assert progress == ["jaxlabs", "pytorch"]
    # Two warm-up calls per case, one case after the other; then interleaved repeats of one call.
    assert log.read_text().split() == [*"aabb", *"abab"]
    assert 0.01 <= theirs["seconds"] < 5
    assert 1e-5 <= ours["seconds"] < 5e-3  # of one unit
    assert len(ours["repeats"]) == len(theirs["repeats"]) == 2
    assert ours["flops_per_second"] == 100 / ours["seconds"]
    assert theirs["flops_per_second"] == 100 / theirs["seconds"]  # the same work
    assert ours["peak_memory_bytes"] >= ours["base_memory_bytes"] > 2**20


def test_custom_repeat_is_used():
    run = functools.partial(time.sleep, 0.02)
    (row,) = measure_group([case("jaxlabs", run=run, work={"repeat": time.sleep})], FAST)
    assert 0.9 < row["seconds"] < 5  # one call, which sleeps for a second


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (functools.partial(int, "x"), "ValueError: invalid literal for int() with base 10: 'x'"),
        (functools.partial(os._exit, 3), "the process ended with status 3"),
        (functools.partial(time.sleep, 60), "no answer within 5 s"),
    ],
    ids=["raises", "dies", "hangs"],
)
def test_failed_case_records_the_reason_and_others_continue(run, reason):
    config = MeasuringConfig(repeats=1, max_seconds=0.01, timeout=5.0)
    failed, other = measure_group([case(run=run), case("pytorch", "float32")], config)
    assert failed["skipped"] == reason
    assert failed["seconds"] is None
    assert other["seconds"] is not None
    assert other["skipped"] == ""
    assert reason in table(compare([failed, other]))


def test_case_too_large_for_memory_is_skipped():
    (one,) = measure_group([case(expected_bytes=1e15)], FAST)
    assert one["skipped"].startswith("needs about 931323 GiB of memory; ")


def test_skipped_case_is_not_measured():
    (one,) = measure_group([case(skipped="no compiler")], FAST)
    assert (one["skipped"], one["seconds"]) == ("no compiler", None)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interruption_kills_workers_and_their_children(tmp_path, number):
    noted = tmp_path / "child"
    run = functools.partial(os.system, f"sleep 60 & echo $! > {noted}; wait")
    started = []

    def be_interrupted():
        with signals.listening(), timing.workers() as start:
            started.append(start(Job(functools.partial(Work, run), "math"), 60.0))
            while not (noted.exists() and noted.read_text()):
                time.sleep(0.02)
            os.kill(os.getpid(), number)
            time.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        be_interrupted()
    (worker,) = started
    assert worker._process.returncode == -signal.SIGKILL
    for _ in range(200):  # the orphaned child is reaped by init
        if not alive(int(noted.read_text())):
            break
        with open(f"/proc/{int(noted.read_text())}/stat") as stat:
            if stat.read().split()[2] == "Z":
                break
        time.sleep(0.02)
    else:
        pytest.fail("the worker's child is still running")


def test_worker_without_a_parent_exits():
    worker = Worker(Job(functools.partial(Work, functools.partial(time.sleep, 0)), "math"), 60.0)
    try:
        worker.ask()
        worker._process.stdin.close()
        assert worker._process.wait(timeout=30) == 0
    finally:
        worker.close()


def test_library_output_does_not_disturb_the_protocol():
    run = functools.partial(os.system, "echo noise")
    worker = Worker(Job(functools.partial(Work, functools.partial(print, "more")), "math"), 60.0)
    noisy = Worker(Job(functools.partial(Work, run), "math"), 60.0)
    try:
        for one in (worker, noisy):
            assert one.ask()["ready"]
            assert one.ask({"calls": 2})["seconds"] > 0
    finally:
        worker.close(), noisy.close()


def test_import_error_is_reported_in_one_line():
    worker = Worker(Job(functools.partial(Work, None), "no_such_library"), 60.0)
    try:
        with pytest.raises(WorkerError, match="No module named 'no_such_library'"):
            worker.ask()
    finally:
        worker.close()


def test_ratios_are_relative_to_the_fastest_peer():
    rows = [
        row("jaxlabs", "highest", 6.0),
        row("jaxlabs", "bfloat16", 3.0),
        row("pytorch", "float32", 8.0),
        row("pytorch", "float32", 10.0),
        row("pytorch", "bfloat16", 5.0),
        row("pytorch", "bfloat16", None, skipped="no compiler"),
        row("jaxlabs", "highest", 1.0, variant="other"),
    ]
    strict, bfloat16, float32, *_, alone = compare(rows)
    assert strict["ratio_to_best_peer"] == 6 / 8
    assert strict["ratio_to_best_peer_any"] == 6 / 5
    assert bfloat16["ratio_to_best_peer"] == bfloat16["ratio_to_best_peer_any"] == 3 / 5
    assert float32["ratio_to_best_peer"] == 1
    assert alone["ratio_to_best_peer"] is alone["ratio_to_best_peer_any"] is None
    values = metrics(compare(rows))
    assert values["any_one_eager_bfloat16_ratio_to_best_peer"] == 3 / 5
    assert values["any_other_eager_highest_seconds"] == 1.0


def test_rates_are_relative_to_the_peak_matmul_rate():
    rows = [
        row("jaxlabs", "highest", 1.0, suite="matmul", flops_per_second=100.0),
        row("pytorch", "float32", 1.0, suite="matmul", flops_per_second=200.0),
        row("pytorch", "bfloat16", 1.0, suite="matmul", flops_per_second=900.0),
        row("jaxlabs", "highest", 1.0, flops_per_second=50.0),
        row("jaxlabs", "bfloat16", 1.0, flops_per_second=90.0),
        row("numpy", "float64", 1.0, flops_per_second=90.0),
        row("jaxlabs", "default", 1.0, suite="matmul", flops_per_second=400.0),
        row("jaxlabs", "default", 1.0, flops_per_second=100.0),
    ]
    fractions = [one["matmul_fraction"] for one in compare(rows)]
    assert fractions == [0.5, 1.0, 1.0, 0.25, 0.1, None, 1.0, 0.25]


def test_table_notes_bfloat16_that_resolved_to_float32():
    rows = [row("jaxlabs", "bfloat16", 0.5, metrics={"bfloat16_matmuls": 0.0})]
    peers = [row("pytorch", "float32", 1.0), row("pytorch", "bfloat16", 2.0)]
    assert compare([*rows, *peers])[0]["ratio_to_best_peer"] == 0.5
    text = table(compare(rows))
    assert "500 ms" in text
    assert "bfloat16 was not faster" in text
    assert "not faster" not in table(compare([row("jaxlabs", "bfloat16", 0.5)]))


def test_durations_have_units():
    shown = {12.345: "12.3 s", 1234: "1,234 s", 0.9997: "1 s", 0.5: "500 ms", 2e-5: "20 µs"}
    assert [duration(x) for x in shown] == list(shown.values())
