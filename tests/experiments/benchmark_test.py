"""The command of the benchmark: measurements, resumption, figures, bad flags."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

from jaxlabs.benchmark import suites, timing
from jaxlabs.benchmark.lab import STUDY
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli

FIELDS = {
    "suite",
    "variant",
    "framework",
    "precision",
    "seconds",
    "compile_seconds",
    "peak_memory_bytes",
    "flops_per_second",
    "matmul_flops_per_second",
    "ratio_to_best_peer",
    "ratio_to_best_peer_any",
}
PACE = "--repeats=1 --max_seconds=0.01"


def rows_of(folder):
    return json.loads((folder.path / "benchmark.json").read_text())["rows"]


def fake_measurements(seconds, stop_at=None):
    """Returns a fake `measure_group` with fixed durations; one suite is interrupted."""

    def measure_group(group, config, progress):
        rows = []
        for number, case in enumerate(group):
            progress(case)
            if case.suite == stop_at:
                raise KeyboardInterrupt
            row = timing._empty_row(case) | {"seconds": seconds + number, "repeats": [seconds]}
            row |= {"compile_seconds": 1.0, "flops_per_second": 1e9 / (seconds + number)}
            row |= {"peak_memory_bytes": 2**30, "base_memory_bytes": 2**28}
            rows.append(row)
        return rows

    return measure_group


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A real benchmark of jaxlabs only, with the fewest processes."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "benchmark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites.Bench, "has_pytorch", False)
        flags = f"--platform=cpu --suite=window_attention --max_length=1024 --workdir={folder.path}"
        assert cli.run(STUDY, [*flags.split(), *PACE.split()]) == 0
    return folder


def test_rows_have_the_measurements(measured):
    rows = rows_of(measured)
    assert [row["suite"] for row in rows] == ["matmul"] * 2 + ["window_attention"] * 2
    for row in rows:
        assert row.keys() >= FIELDS
        assert row["skipped"] == ""
        assert 0 < row["seconds"] < 60
        assert row["peak_memory_bytes"] > row["base_memory_bytes"] > 2**20
        assert row["flops_per_second"] > 0
        assert row["ratio_to_best_peer_any"] is None
    variants = [row["variant"] for row in rows[2:]]
    assert variants == ["window, 1024 tokens", "full_causal, 1024 tokens"]
    rate = max(row["flops_per_second"] for row in rows if row["precision"] == "highest")
    assert rows[2]["matmul_flops_per_second"] >= rows[0]["flops_per_second"]
    assert rows[2]["matmul_flops_per_second"] <= rate


def test_report_has_table_and_figure(measured):
    assert {path.stem for path in measured.figures.iterdir()} == {"window_attention"}
    assert "jaxlabs compiled highest" in measured.report.read_text()
    seconds = measured.read_summary()["metrics"]
    assert "window_attention_window_1024_tokens_compiled_highest_seconds" in seconds


def test_interrupted_benchmark_resumes(tmp_path, monkeypatch, capsys):
    folder = RunFolder(tmp_path)
    flags = ["--platform=cpu", "--suite=gpt_train,char_rnn", f"--workdir={tmp_path}"]
    monkeypatch.setattr(timing, "measure_group", fake_measurements(1.0, stop_at="char_rnn"))
    assert cli.run(STUDY, flags) == 130
    assert "run the same command to resume" in capsys.readouterr().err
    assert {row["suite"] for row in rows_of(folder)} == {"matmul", "gpt_train"}
    monkeypatch.setattr(timing, "measure_group", fake_measurements(2.0))
    assert cli.run(STUDY, flags) == 0
    rows = rows_of(folder)
    first = {row["suite"]: row["seconds"] for row in reversed(rows)}
    assert first == {"matmul": 2.0, "gpt_train": 1.0, "char_rnn": 2.0}
    # Rows of the first process keep the matmul rate of that process.
    rates = {row["suite"]: row["matmul_flops_per_second"] for row in reversed(rows)}
    assert rates == {"matmul": 0.5e9, "gpt_train": 1e9, "char_rnn": 0.5e9}
    assert cli.run(STUDY, flags) == 0
    assert "run already complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    "damage",
    ["", "null", "[]", "{}", '{"rows": 3}', '{"rows": [3]}', '{"rows": [{}]}', "\0"],
)
def test_damaged_measurements_are_named_and_kept(damage, measured, tmp_path, capsys):
    folder = RunFolder(shutil.copytree(measured.path, tmp_path / "run"))
    (folder.path / "summary.json").unlink()
    path = folder.path / "benchmark.json"
    path.write_text(damage)
    flags = f"--platform=cpu --suite=window_attention --max_length=1024 --workdir={folder.path}"
    assert cli.run(STUDY, [*flags.split(), *PACE.split()]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith(f"benchmark: {path}: ")
    assert line.endswith("; remove it to measure again")
    assert path.read_text() == damage


def test_every_entry_of_a_measurement_is_checked(measured):
    (row, *_) = rows_of(measured)
    timing.check_rows({"rows": [row]})
    for name in row:
        for changed in ({key: row[key] for key in row if key != name}, row | {name: {3: 4}}):
            if name in ("metrics", "repeats") and name in changed:
                continue
            with pytest.raises(ValueError, match=r"^row 0 (lacks an entry|has )"):
                timing.check_rows({"rows": [changed]})


def test_missing_pytorch_is_a_warning_of_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(suites.Bench, "has_pytorch", False)
    monkeypatch.setattr(timing, "measure_group", fake_measurements(1.0))
    flags = ["--platform=cpu", "--suite=gpt_train", f"--workdir={tmp_path}"]
    assert cli.run(STUDY, flags) == 0
    first_line = capsys.readouterr().err.splitlines()[0]
    assert first_line.startswith("PyTorch is not installed (pip install '.[peers]')")
    assert {row["framework"] for row in rows_of(RunFolder(tmp_path))} == {"jaxlabs"}


def test_ratios_are_plotted_if_there_are_peers(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(timing, "measure_group", fake_measurements(1.0))
    assert cli.run(STUDY, ["--platform=cpu", f"--workdir={tmp_path}"]) == 0
    folder = RunFolder(tmp_path)
    figures = {path.stem for path in folder.figures.iterdir()}
    assert figures == {"benchmark_ratios", "window_attention"}
    suites = {row["suite"] for row in rows_of(folder)}
    assert suites == {"matmul", *STUDY.config_class().suites()}


def test_sigterm_ends_the_command_with_its_workers(tmp_path):
    flags = f"--platform=cpu --suite=gpt_train --workdir={tmp_path}"
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.benchmark", *flags.split()],
        stderr=subprocess.PIPE,
        text=True,
    )

    def children():
        found = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(process.pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        return found.stdout.split()

    while not (workers := children()):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "benchmark: interrupted; run the same command to resume" in error
    # A worker that is still importing ends when its input is closed.
    for _ in range(600):
        alive = subprocess.run(["ps", "-p", ",".join(workers)], capture_output=True, check=False)
        if alive.returncode == 1:
            break
        time.sleep(0.1)
    assert alive.returncode == 1


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        ("--suite=gpt_trian", "--suite: 'gpt_trian' is not accepted; one of gpt_train, gpt_sample"),
        ("--suite=gpt_train,gru", "--suite: 'gru' is not accepted"),
        ("--suite=", "--suite: '' is not accepted"),
        ("--repeats=0", "--repeats: 0 is not accepted"),
        ("--max_length=100", "--max_length: 100 is not accepted"),
        ("--suites=all", "--suites: unknown flag; did you mean 'suite'?"),
    ],
)
def test_bad_flags_are_errors_of_one_line_without_a_run_folder(refused, flag, complaint):
    assert complaint in refused(STUDY, flag)


def test_misspelled_suite_gets_a_suggestion(tmp_path, capsys):
    cli.run(STUDY, [f"--workdir={tmp_path / 'run'}", "--suite=gpt_trian"])
    assert "did you mean 'gpt_train'?" in capsys.readouterr().err
