"""Tests of jaxlabs/run_folder.py: atomic files, locking, and removal at resume."""

import errno
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


CONFIG = {"experiment": "gpt", "preset": "quick", "settings": {}}
SUMMARY = {"experiment": "gpt", "preset": "quick", "metrics": {"loss": 1.5}, "seconds": 1.0}
SUMMARY |= {"comparison": [], "environment": {}}


def rows(*steps, split="train"):
    return [{"step": step, "split": split, "loss": float(step)} for step in steps]


def files(path: pathlib.Path) -> set[str]:
    return {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}


def test_constructor_does_not_access_the_disk(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert not folder.exists()
    assert folder.read_metrics() == []
    assert list(tmp_path.iterdir()) == []


def test_create_makes_every_subfolder_and_leaves_no_probe(folder):
    assert {path.name for path in folder.path.iterdir()} == {
        "arrays",
        "checkpoints",
        "figures",
        "samples",
    }
    assert folder.arrays("maps") == folder.path / "arrays" / "maps.npz"
    folder.create()  # a second time is harmless


def test_folder_below_a_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError) as caught:
        RunFolder(tmp_path / "file" / "run").create()
    assert str(caught.value) == (
        f"workdir: cannot write {tmp_path}/file/run (Not a directory); "
        "a writable folder with space is needed"
    )


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="no permission is needed to write"
)
def test_folder_without_permission_is_refused_in_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=r"^workdir: cannot write .* \(Permission denied\); a"):
        RunFolder(tmp_path / "run").create()


def test_tilde_is_expanded():
    assert RunFolder("~/runs/x").path == pathlib.Path.home() / "runs" / "x"


def test_run_exists_with_its_config_and_is_complete_with_its_summary(folder):
    assert (folder.exists(), folder.is_complete()) == (False, False)
    config = CONFIG | {"settings": {"embed_dim": 3}}
    folder.write_config(config)
    assert (folder.exists(), folder.is_complete()) == (True, False)
    folder.write_summary(SUMMARY)
    assert (folder.exists(), folder.is_complete()) == (True, True)
    assert folder.read_config() == config
    assert folder.read_summary() == SUMMARY


OTHERS = ["{}", "[]", "null", '"gpt"', '{"experiment": "gpt"}', '{"experiment": 1, "settings": {}}']
OTHERS += ['{"experiment": "gpt", "settings": []}']
OTHERS += ['{"experiment": "gpt", "settings": {}, "dataset": "text"}']


@pytest.mark.parametrize("text", OTHERS)
def test_invalid_config_is_no_run(folder, text):
    (folder.path / "config.json").write_text(text)
    assert not folder.exists()
    with pytest.raises(UserError, match=r"config\.json"):
        folder.require_own()


def test_writing_creates_a_missing_subfolder(folder):
    folder.figures.rmdir()
    folder.write_bytes(folder.figures / "samples.png", b"png")
    assert (folder.figures / "samples.png").read_bytes() == b"png"


@pytest.mark.parametrize("name", ["config", "summary"])
def test_missing_or_invalid_json_gives_one_line(folder, name):
    read = getattr(folder, f"read_{name}")
    with pytest.raises(UserError) as caught:
        read()
    assert str(caught.value) == (
        f"workdir: {folder.path} holds no {name}.json; the folder of a trained run is needed"
    )
    (folder.path / f"{name}.json").write_text('{"half": ')
    with pytest.raises(UserError, match=rf"{name}\.json: not valid JSON \(Expecting value"):
        read()


def test_failed_write_keeps_the_old_file_and_removes_the_partial_one(folder, monkeypatch):
    folder.write_config(CONFIG)
    before = files(folder.path)
    write_bytes = pathlib.Path.write_bytes

    def half(path, content):
        write_bytes(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pathlib.Path, "write_bytes", half)
    with pytest.raises(UserError) as caught:
        folder.write_config(CONFIG | {"preset": "new"})
    assert str(caught.value) == (
        f"workdir: cannot write {folder.path}/config.json (the disk is full); "
        "a writable folder with space is needed"
    )
    assert folder.read_config() == CONFIG
    assert files(folder.path) == before


def test_killed_write_keeps_the_old_file(folder, monkeypatch):
    folder.write_config(CONFIG)

    def killed(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.write_config(CONFIG | {"preset": "new"})
    assert folder.read_config() == CONFIG


class SharingViolation(PermissionError):
    winerror = 32


@pytest.mark.parametrize("failures", [1, 2, 99])
def test_file_that_windows_keeps_open_is_replaced_later(folder, monkeypatch, failures):
    left, replace = [SharingViolation("in use")] * failures, os.replace

    def fail_first(source, target):
        if left:
            raise left.pop()
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_first)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    if failures == 99:
        with pytest.raises(UserError, match="cannot write"):
            folder.write_config(CONFIG)
        assert files(folder.path) == set()
    else:
        folder.write_config(CONFIG)
        assert folder.read_config() == CONFIG


def test_lines_of_metrics_end_with_a_line_feed(folder, monkeypatch):
    monkeypatch.setattr(os, "linesep", "\r\n")
    folder.append_metrics(rows(1, 2))
    assert folder.metrics.read_bytes().count(b"\n") == 2
    assert b"\r" not in folder.metrics.read_bytes()


def test_appended_metrics_round_trip(folder):
    folder.append_metrics(rows(1, 2))
    folder.append_metrics([])
    folder.append_metrics(rows(2, split="held_out"))
    assert folder.read_metrics() == rows(1, 2) + rows(2, split="held_out")


def test_non_finite_metrics_become_null(folder):
    folder.append_metrics([{"step": 1, "a": np.nan, "b": float("inf"), "c": -np.inf, "d": 0.5}])
    assert folder.metrics.read_text() == '{"step": 1, "a": null, "b": null, "c": null, "d": 0.5}\n'


def test_summary_with_non_finite_metrics_is_strict_json(folder):
    folder.write_summary({"metrics": {"loss": float("nan")}, "comparison": [{"ours": np.inf}]})

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    text = (folder.path / "summary.json").read_text()
    assert json.loads(text, parse_constant=refuse) == {
        "metrics": {"loss": None},
        "comparison": [{"ours": None}],
    }


def test_incomplete_last_line_is_skipped(folder):
    folder.append_metrics(rows(1, 2))
    text = folder.metrics.read_text()
    for cut in range(len(text.split("\n")[0]) + 1, len(text)):
        folder.metrics.write_text(text[:cut])
        assert folder.read_metrics() == rows(1)


def test_resume_removes_rows_and_samples_past_the_step(folder):
    folder.append_metrics(rows(1, 2, 3) + rows(3, split="held_out") + rows(4))
    with open(folder.metrics, "a") as file:
        file.write('{"step": 5, "spl')
    for name in ("step-000002", "step-000003", "step-000004", "final"):
        folder.write_sample(name, name)
    folder.drop_after(3)
    folder.append_metrics(rows(4))
    assert folder.read_metrics() == rows(1, 2, 3) + rows(3, split="held_out") + rows(4)
    assert files(folder.samples) == {"step-000002.txt", "step-000003.txt", "final.txt"}


def test_start_from_step_0_removes_the_first_evaluation(folder):
    folder.append_metrics(rows(0, split="held_out") + rows(1))
    folder.write_sample("step-000000", "noise")
    folder.drop_after(0)
    assert folder.read_metrics() == []
    assert files(folder.samples) == set()


def test_only_samples_of_the_run_are_removed(folder):
    folder.write_sample("step-000004", "noise")
    folder.write_sample("step-1000000", {"images": np.zeros(1)})
    kept = {
        "step-000004 (good).txt",
        "step-notes.txt",
        "step-4.txt",
        "step-000004.png",
        "step-0000004.txt",
        "step-000004.txt.bak",
        "step-000004",
    }
    for name in kept:
        (folder.samples / name).write_text("mine")
    for step in (3, 0):
        folder.drop_after(step)
        assert files(folder.samples) == kept


def test_samples_are_text_or_arrays(folder):
    path = folder.write_sample("step-000010", "ROMEO: é\n")
    assert path == folder.samples / "step-000010.txt"
    assert path.read_text() == "ROMEO: é\n"
    path = folder.write_sample("step-000010", {"images": np.arange(6).reshape(2, 3)})
    assert path == folder.samples / "step-000010.npz"
    with np.load(path) as arrays:
        np.testing.assert_array_equal(arrays["images"], np.arange(6).reshape(2, 3))


REFUSED = r"^workdir: .*run is being written by another run; wait for it or choose another folder$"


def test_sample_with_a_lone_surrogate_is_written(folder):
    assert folder.write_sample("a", "peace \udcff").read_text() == "peace \\udcff"


def test_second_writer_is_refused_until_the_first_is_closed(folder):
    with folder.writer():
        with pytest.raises(UserError, match=REFUSED), RunFolder(folder.path).writer():
            pass
        assert folder.read_metrics() == []  # reading needs no lock
    with RunFolder(folder.path).writer():
        pass


def test_lock_ends_with_a_killed_process(folder):
    script = (
        "import sys, time; from jaxlabs.run_folder import RunFolder\n"
        "with RunFolder(sys.argv[1]).writer(): print('held', flush=True); time.sleep(60)"
    )
    root = pathlib.Path(__file__).parents[2]
    command = [sys.executable, "-c", script, str(folder.path)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=REFUSED), folder.writer():
            pass
        holder.kill()
    with folder.writer():
        pass


def test_operating_system_errors_name_the_file(folder, monkeypatch):
    folder.metrics.mkdir()
    message = f"workdir: cannot write {folder.metrics} (Is a directory); "
    with pytest.raises(UserError, match=re.escape(message)):
        folder.append_metrics(rows(1))
