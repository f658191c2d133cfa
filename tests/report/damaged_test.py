"""The page skips damaged files, lists them, and shows everything else."""

import re

import numpy as np
import pytest

from jaxlabs import labs
from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.report.figures import COMMON_PLOTS
from jaxlabs.report.page import write_report
from jaxlabs.run_folder import RunFolder

ABOUT_DAMAGE = True


def damaged(folder, lab=LAB):
    """The files that the page lists as damaged."""
    (section,) = re.findall(
        r'id="damaged">.*?</section>', write_report(folder, lab).read_text(), re.S
    )
    return re.findall(r'<p class="note">([^ ]+): ', section)


def test_undamaged_run_lists_no_damaged_file(reported_run):
    assert 'id="damaged"' not in reported_run.report.read_text()


@pytest.mark.parametrize("name", labs.names())
def test_arrays_with_wrong_shapes_are_skipped_by_every_plot(name, fresh_run, caplog):
    lab = labs.load(name)
    files = [*lab.plots, *COMMON_PLOTS]
    for file in files:
        fresh_run.write_arrays(file, other=np.zeros((2, 3)))
    assert damaged(fresh_run, lab) == [f"arrays/{file}.npz" for file in files]
    assert len(caplog.messages) == len(files)
    assert not any(chr(10) in line for line in caplog.messages)


def test_invalid_archives_are_skipped(run):
    run.arrays("positions").write_bytes(b"PK")
    run.arrays("lr_range").write_bytes(run.arrays("lr_range").read_bytes()[:200])
    np.savez(run.arrays("attention_maps"), maps=np.array([{}], object))
    (run.samples / "final.npz").write_bytes(b"")
    (run.samples / "step-000250.txt").write_bytes(b"\xff")
    run.write_sample("step-000300", {"images": np.zeros(3)})
    run.write_sample("step-000400", {"images": np.zeros((2, 4, 4))})
    run.write_sample("step-000500", {"images": np.zeros((2, 4, 5))})
    assert damaged(run) == [
        "arrays/attention_maps.npz",
        "arrays/positions.npz",
        "arrays/lr_range.npz",
        "samples/final.npz",
        "samples/step-000300.npz",
        "samples/step-000500.npz",
        "samples/step-000250.txt",
    ]
    page = run.report.read_text()
    assert "step 500 &lt;b&gt;of" in page
    assert {path.stem for path in run.figures.glob("*.png")} >= {"loss", "samples_during_training"}


def test_unreadable_rows_are_counted(short_run):
    with open(short_run.metrics, "ab") as file:
        file.write(b"\0\0\n{}\n")
    assert damaged(short_run) == ["metrics.jsonl"]
    assert "metrics.jsonl: 2 unreadable lines" in short_run.report.read_text()


def test_unreadable_summary_is_skipped(short_run):
    (short_run.path / "summary.json").write_text("[]")
    assert damaged(short_run) == ["summary.json"]
    assert "Incomplete run" in short_run.report.read_text()


def test_invalid_summary_entries_are_skipped(short_run):
    summary = short_run.read_summary()
    for change in ({"groups": [{"runs": [3]}]}, {"results": [{}]}, {"baselines": {"a": "low"}}):
        short_run.write_summary(summary | change)
        assert any("summary.json" in file for file in damaged(short_run))
        assert "All 12 settings" in short_run.report.read_text()


def test_unrelated_files_in_samples_are_ignored(short_run):
    for name in ("step-000250 (good).txt", "step-notes.txt", "step-x.npz"):
        (short_run.samples / name).write_text("mine alone")
    assert "mine alone" not in write_report(short_run, LAB).read_text()


def test_damaged_rows_of_a_sweep_run_are_reported(short_run):
    for number in range(2):
        folder = RunFolder(short_run.runs / f"seed={number}")
        folder.create()
        folder.append_metrics([{"step": step, "split": "held_out", "loss": 2.0} for step in (1, 2)])
    with open(folder.metrics, "ab") as file:
        file.write(b"\0\n")
    figures = {"loss": {"values": [1.0, 2.0], "mean": 1.5, "std": 0.5}}
    group = {"settings": {}, "seeds": [0, 1], "metrics": figures, "runs": ["seed=0", "seed=1"]}
    short_run.write_config(short_run.read_config() | {"sweep": "s", "question": "Which?"})
    short_run.write_summary(short_run.read_summary() | {"groups": [group]})
    assert damaged(short_run) == ["runs/seed=1/metrics.jsonl"]
    assert (short_run.figures / "sweep_losses.png").exists()
