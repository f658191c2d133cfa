"""Run folders of an earlier version stay readable: the same logits, losses and samples.

`tests/fixtures/run_folders/` was written by the code of commit e7569bf: `gpt` with dropout and a
moving average of the parameters, the same run killed at step 6 of 8, `gpt` with Muon, `char_rnn`
with a carry, `sparse_autoencoder` with L-BFGS. `expected.npz` holds the outputs of each model for
fixed inputs. No lab has batch statistics.
"""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxlabs.labs.char_rnn import lab as char_rnn
from jaxlabs.labs.gpt import lab as gpt
from jaxlabs.labs.sparse_autoencoder import lab as sparse_autoencoder
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli, modes
from jaxlabs.runner.restore import restore
from jaxlabs.training import devices

STORED = Path(__file__).parents[1] / "fixtures" / "run_folders"
LABS = {
    "gpt_dropout_ema": gpt.LAB,
    "gpt_muon": gpt.LAB,
    "char_rnn_carry": char_rnn.LAB,
    "sparse_autoencoder_lbfgs": sparse_autoencoder.LAB,
}
TOLERANCE = 1e-4  # of another processor

pytestmark = pytest.mark.usefixtures("reused_executables")


@pytest.fixture
def stored(here, monkeypatch):
    """`stored(name) -> folder`: a copy of a stored run and its text, on one device.

    The batches do not divide over more devices.
    """
    one_device = devices.data_parallel(jax.devices()[:1])
    monkeypatch.setattr(devices, "mesh_sharding", lambda mesh: one_device)

    def copy(name):
        shutil.copy(STORED / "play.txt", here)
        return RunFolder(shutil.copytree(STORED / name, here / name))

    return copy


def require_equal(found, stored):
    """Compares the metrics that earlier versions had; those since are standard errors and bits."""
    later = [name for name in found if name.endswith(("_stderr", "_bits_per_byte"))]
    assert found.keys() - later <= stored.keys()
    for name in found.keys() - later:
        assert found[name] == pytest.approx(stored[name], abs=2 * TOLERANCE), name


@pytest.mark.parametrize("name", LABS)
def test_stored_parameters_give_the_stored_outputs(stored, name):
    invocation = cli.parse(LABS[name], ["--mode=sample", f"--workdir={stored(name).path}"])
    restored = restore(invocation)
    expected = np.load(STORED / name / "expected.npz")
    variables = {"params": restored.state.eval_params}
    outputs = restored.task.model.apply(variables, expected["inputs"])
    for number, output in enumerate(jax.tree.leaves(outputs)):
        np.testing.assert_allclose(output, expected[f"output_{number}"], atol=TOLERANCE)


@pytest.mark.parametrize("name", LABS)
def test_stored_run_evaluates_to_its_own_metrics(stored, name, capsys):
    folder = stored(name)
    assert cli.run(LABS[name], ["--mode=evaluate", f"--workdir={folder.path}"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    metrics = folder.read_summary()["metrics"]
    found = {metric.replace("/", "_"): float(value) for metric, value in lines}
    assert found
    require_equal(found, metrics)


@pytest.mark.parametrize("name", ["gpt_dropout_ema", "char_rnn_carry"])
def test_stored_run_is_analyzed_to_its_own_metrics(stored, name, monkeypatch):
    """The analysis samples with the key of the end of the training, so its samples are the same."""
    monkeypatch.setattr(modes, "write_report", lambda folder, lab: folder.report)
    folder = stored(name)
    metrics = folder.read_summary()["metrics"]
    assert any(metric.startswith("sample_longest_copy") for metric in metrics)
    assert cli.run(LABS[name], ["--mode=analyze", f"--workdir={folder.path}"]) == 0
    require_equal(folder.read_summary()["metrics"], metrics)


@pytest.mark.parametrize("name", LABS)
def test_stored_files_are_read_under_present_names(stored, name):
    folder = stored(name)
    assert folder.read_config()["not_comparable_reason"].startswith("trained on ")
    comparison = folder.read_summary()["comparison"]
    assert all({"quantity", "not_comparable_reason"} <= row.keys() for row in comparison)


@pytest.mark.parametrize("name", LABS)
def test_stored_run_is_sampled_and_exported(stored, name):
    folder = stored(name)
    for mode in ("sample", "export"):
        assert cli.run(LABS[name], [f"--mode={mode}", f"--workdir={folder.path}"]) == 0
    assert (folder.path / "parameters.safetensors").exists()


def test_stored_run_that_was_killed_resumes_to_the_unbroken_result(stored, tiny_flags):
    killed, whole = stored("gpt_interrupted"), stored("gpt_dropout_ema")
    flags = [*tiny_flags, "--dataset=play.txt", "--steps=8", "--dropout=0.2", "--ema_decay=0.9"]
    assert cli.run(gpt.LAB, [*flags, f"--workdir={killed.path}"]) == 0
    require_equal(killed.read_summary()["metrics"], whole.read_summary()["metrics"])
    steps = [[row["step"] for row in run.read_metrics()] for run in (killed, whole)]
    assert steps[0] == steps[1]
