"""Micro-batches and evaluation batches of a preset are a CPU's; an accelerator has its own."""

import functools

import jax
import numpy as np
import pytest

from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli, run_context
from jaxlabs.training import device_settings
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.task import Task

CONFIG = RunConfig.from_flat({"batch_size": 64, "grad_accum_steps": 4, "eval_batch_size": 16})


def task(*, batch_coupled=False, collections=("params",)):
    variables = {name: {"x": np.zeros(2)} for name in collections}
    return Task(None, lambda key: variables, None, None, batch_coupled=batch_coupled)


def test_accelerator_takes_a_batch_at_once_and_evaluates_as_many_examples():
    for platform in ("gpu", "tpu"):
        found = device_settings.resolve(CONFIG, task(), (), None, platform)
        assert found == {"grad_accum_steps": 1, "eval_batch_size": 64}
    assert device_settings.resolve(CONFIG, task(), (), None, "cpu") == {}


def test_given_settings_are_kept():
    found = device_settings.resolve(CONFIG, task(), ["grad_accum_steps"], None, "gpu")
    assert found == {"eval_batch_size": 64}


@pytest.mark.parametrize(
    "options", [{"batch_coupled": True}, {"collections": ("params", "batch_stats")}]
)
def test_losses_that_depend_on_the_micro_batch_keep_the_preset(options):
    assert device_settings.resolve(CONFIG, task(**options), (), None, "gpu") == {}


def test_resumed_run_keeps_what_it_has_stored():
    stored = {"grad_accum_steps": 1, "matmul_precision": "highest"}
    for platform in ("cpu", "gpu"):
        found = device_settings.resolve(CONFIG, task(), (), stored, platform)
        assert found == {"grad_accum_steps": 1}
        assert device_settings.resolve(CONFIG, task(), ["grad_accum_steps"], stored, platform) == {}


def test_run_without_results_is_replaced_and_resolves_again(tmp_path):
    """As one that was killed on a CPU, before its first step, and is started on a GPU."""
    folder, flag = RunFolder(tmp_path / "run"), f"--workdir={tmp_path / 'run'}"
    folder.create()
    stored = {"experiment": "gpt", "preset": "quick", "settings": {}}
    folder.write_config(stored | {"tuned": {"grad_accum_steps": 2}})
    assert run_context.stored_tuned(cli.parse(LAB, [flag])) is None
    folder.write_summary({})
    assert run_context.stored_tuned(cli.parse(LAB, [flag])) == {"grad_accum_steps": 2}
    assert run_context.stored_tuned(cli.parse(LAB, [flag, "--overwrite"])) is None


def test_run_of_an_accelerator_is_resumed_on_a_cpu_with_its_micro_batches(
    tiny_flags, tmp_path, monkeypatch, capsys
):
    """The preset has 16 micro-batches, which do not divide this batch on several devices."""
    kept = [flag for flag in tiny_flags if not flag.startswith("--grad_accum_steps")]
    flags = [*kept, f"--batch_size={2 * jax.device_count()}", f"--workdir={tmp_path / 'run'}"]
    assert cli.run(LAB, [*flags, "--steps=0"]) == 2
    assert "does not divide over" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        on_gpu = functools.partial(device_settings.resolve, platform="gpu")
        patch.setattr(device_settings, "resolve", on_gpu)
        assert cli.run(LAB, [*flags, "--steps=0"]) == 0
    stored = RunFolder(tmp_path / "run").read_config()
    assert stored["tuned"]["grad_accum_steps"] == 1
    assert stored["settings"]["grad_accum_steps"] == 16
    assert cli.run(LAB, [*flags, "--steps=0"]) == 0
    assert cli.run(LAB, ["--mode=evaluate", flags[-1]]) == 0
