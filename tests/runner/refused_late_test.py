"""A setting that is refused late does not block the corrected command."""

from pathlib import Path

import pytest

from jaxlabs.config import UserError
from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli
from jaxlabs.runner.run_context import open_run
from jaxlabs.training.trainer import Trainer

STORED = Path(__file__).parents[1] / "fixtures" / "run_folders"


@pytest.mark.parametrize("flags", [[], ["--mode=replay", "--replay_step=2"]])
def test_optimizer_incompatible_with_the_data_creates_no_folder(flags, refused, tiny_flags, here):
    line = refused(*tiny_flags, "--steps=4", "--optimizer=lbfgs", *flags)
    assert line == "--optimizer: lbfgs needs a finite set of examples; adamw or muon"
    assert not list(here.iterdir())


def test_run_without_training_is_replaced(refused, tiny_flags, here, monkeypatch):
    def late(*arguments):
        raise UserError("--seed: refused late")

    flags = [*tiny_flags, "--steps=0", f"--workdir={here / 'run'}"]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", late)
        assert refused(*flags) == "--seed: refused late"
    invocation = cli.parse(LAB, [*flags, "--seed=1"])
    with open_run(invocation, invocation.config(), LAB.load_data(invocation.config())) as folder:
        assert folder.read_config()["settings"]["seed"] == 1


@pytest.mark.parametrize("result", ["row", "checkpoint", "array", "summary"])
def test_run_with_any_result_is_not_replaced(result, refused, tiny_flags, here):
    run, whole = RunFolder(here / "run"), RunFolder(STORED / "gpt_dropout_ema")
    run.create()
    run.write_config(whole.read_config())
    first = [row for row in whole.read_metrics() if row["step"] == 0]
    run.append_metrics(first)
    assert first
    assert not run.has_results()
    if result == "row":
        run.append_metrics([row for row in whole.read_metrics() if row["step"] == 2])
    elif result == "checkpoint":
        (run.checkpoints / "4").mkdir()
    elif result == "array":
        run.write_arrays("attention_maps", loss=[1.0])
    else:
        run.write_summary(whole.read_summary())
    flags = [*tiny_flags, "--steps=4", "--seed=1", f"--workdir={run.path}"]
    assert "seed (stored 0, given 1)" in refused(*flags)
