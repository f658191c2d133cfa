"""Commands on a complete run."""

import json
import shutil

import numpy as np
import pytest

from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli
from jaxlabs.training import precision

pytestmark = pytest.mark.usefixtures("reused_executables")


def test_non_finite_final_losses_are_printed_as_nan(tiny_flags, trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "summary.json").unlink()
    rows = [row | {"loss": None} for row in RunFolder(run).read_metrics()]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli.run(LAB, [*tiny_flags, "--steps=4", f"--workdir={run}"]) == 0
    assert "held_out_loss nan\n" in capsys.readouterr().out
    assert RunFolder(run).read_summary()["metrics"]["held_out_loss"] is None


def test_complete_run_is_analyzed_again_for_another_text(trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "again")
    before = RunFolder(run).read_summary()
    flags = ["--mode=analyze", "--attention_text=the king", f"--workdir={run}"]
    assert cli.run(LAB, flags) == 0
    assert "attention_future_weight 0.0000" in capsys.readouterr().out
    with np.load(RunFolder(run).arrays("attention_maps")) as arrays:
        assert any("".join(labels) == "the king" for labels in arrays.values() if labels.ndim == 1)
    after = RunFolder(run).read_summary()
    assert after.keys() == before.keys()
    assert after["parameters_sha256"] == before["parameters_sha256"]
    assert cli.run(LAB, ["--mode=analyze", f"--workdir={tmp_path / 'nothing'}"]) == 2


def test_analysis_compares_with_the_published_results_of_the_preset_of_the_run(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "again")
    for name in ("config.json", "summary.json"):
        content = json.loads((run / name).read_text())
        (run / name).write_text(json.dumps(content | {"preset": "reference"}))
    assert cli.run(LAB, ["--mode=analyze", f"--workdir={run}"]) == 0
    compared = {row["quantity"] for row in RunFolder(run).read_summary()["comparison"]}
    assert "training loss after 2000 steps" in compared


def test_damaged_newest_checkpoint_is_reported_and_the_previous_one_used(
    tiny_flags, tmp_path, capsys, caplog
):
    run = tmp_path / "run"
    flags = [*tiny_flags, "--steps=4", f"--workdir={run}", "--checkpoint_every=2"]
    assert cli.run(LAB, flags) == 0
    shutil.rmtree(run / "checkpoints" / "4" / "facts")
    assert cli.run(LAB, ["--mode=export", f"--workdir={run}"]) == 0
    assert "parameters of step 2" in capsys.readouterr().out
    assert "checkpoint of step 4 is damaged" in caplog.text
    shutil.rmtree(run / "checkpoints" / "2" / "facts")
    assert cli.run(LAB, ["--mode=export", f"--workdir={run}"]) == 2
    assert "no checkpoint" in capsys.readouterr().err


def test_run_older_than_a_setting_has_its_default(tiny_flags, trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    stored = json.loads((run / "config.json").read_text())
    del stored["settings"]["short_conv_width"]
    (run / "config.json").write_text(json.dumps(stored))
    again = [*tiny_flags, "--steps=4", f"--workdir={run}"]
    for flags in ([f"--workdir={run}", "--mode=evaluate"], again):
        assert cli.run(LAB, flags) == 0
    assert cli.run(LAB, [*again, "--short_conv_width=2"]) == 2
    assert "different settings: short_conv_width (stored 1, given 2);" in capsys.readouterr().err


def test_reading_mode_does_not_inherit_the_machine_settings(trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    stored = json.loads((run / "config.json").read_text())
    stored["settings"] |= {"num_processes": 2, "process_id": 1, "coordinator": "nowhere:1"}
    (run / "config.json").write_text(json.dumps(stored))
    assert cli.run(LAB, ["--mode=export", f"--workdir={run}"]) == 0
    assert "parameters of step 4" in capsys.readouterr().out


def test_resolved_matmul_precision_is_kept_by_the_run(tiny_flags, tmp_path, monkeypatch, capsys):
    measured = {"bfloat16": 2e-3, "default": 1e-3}
    monkeypatch.setattr(precision, "measure", lambda: measured)
    flags = [
        *tiny_flags,
        "--steps=0",
        "--matmul_precision=bfloat16",
        f"--workdir={tmp_path / 'run'}",
    ]
    assert cli.run(LAB, flags) == 0
    assert "bfloat16 matmul: 2.0 ms, float32: 1.0 ms; using float32" in capsys.readouterr().err
    stored = RunFolder(tmp_path / "run").read_config()
    assert stored["tuned"] == {"matmul_precision": "default", "compute_dtype": "float32"}
    assert stored["settings"]["matmul_precision"] == "bfloat16"
    measured["bfloat16"] = 1e-4  # as on another machine
    assert cli.run(LAB, [*flags, "--mode=sample"]) == 0
    assert capsys.readouterr().err == ""
