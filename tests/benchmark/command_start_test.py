"""Tests of jaxlabs/benchmark/command_start.py: a command is stopped after its first step."""

import pytest

from jaxlabs.benchmark.command_start import start


def test_command_is_stopped_after_its_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    work = start("gpt", "quick", "cpu", None, cached=True)
    work.run()
    (scratch,) = tmp_path.iterdir()
    assert not (scratch / "run" / "summary.json").exists()
    assert list((scratch / "compiled").iterdir())
    work.extra_metrics()
    assert not scratch.exists()


def test_error_of_the_command_is_that_of_the_workload(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    work = start("gpt", "quik", "cpu", None, cached=False)
    with pytest.raises(RuntimeError, match="--preset: 'quik' is not accepted"):
        work.run()
