"""Settings that are refused early, or late: then they do not block the corrected command."""

import dataclasses
from pathlib import Path

import pytest

from jaxlabs.config import UserError
from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli
from jaxlabs.runner.description import describe
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


@pytest.fixture
def stored_run(tiny_flags, here):
    """`stored_run(**settings) -> path`: writes a run with a result."""

    def store(**settings):
        folder = RunFolder(here / "run")
        folder.create()
        invocation = cli.parse(LAB, [*tiny_flags, "--steps=4"])
        content = describe(invocation, invocation.config(), None, None)
        content["settings"] |= settings
        folder.write_config(content)
        folder.write_arrays("attention_maps", loss=[1.0])
        return folder.path

    return store


@pytest.mark.parametrize(
    ("stored", "flags", "line"),
    [
        ({}, ["--seed=1"], "seed (stored 0, given 1)"),
        (
            {"tokenizer": "bpe:1000"},
            ["--tokenizer=bpe:900"],
            "tokenizer (stored bpe:1000, given bpe:900)",
        ),
    ],
)
def test_other_settings_are_refused_before_the_data_are_read(
    stored, flags, line, stored_run, tiny_flags, capsys
):
    folder = stored_run(**stored)
    lab = dataclasses.replace(LAB, load_data=None)  # it is not called
    assert cli.run(lab, [*tiny_flags, "--steps=4", f"--workdir={folder}", *flags]) == 2
    assert line in capsys.readouterr().err


def test_moved_files_are_compared_by_their_contents(stored_run, tiny_flags, refused, here):
    folder = stored_run(dataset=str(here / "gone.txt"), tokenizer=str(here / "gone.json"))
    flags = [*tiny_flags, "--steps=4", f"--workdir={folder}"]
    assert refused(*flags, "--tokenizer=moved.json").startswith("moved.json: cannot be read")
