"""Modes: their flags, and the runs that each can read."""

import json
import shutil
from pathlib import Path

import pytest

from jaxlabs.labs.gpt import lab as gpt
from jaxlabs.labs.sparse_autoencoder import lab as sparse_autoencoder
from jaxlabs.runner import cli

STORED = Path(__file__).parents[1] / "fixtures" / "run_folders"
READING = ("sample", "evaluate", "export", "analyze")


@pytest.mark.parametrize("mode", READING)
@pytest.mark.parametrize("flag", ["--overwrite", "--lr_range_test", "--replay_step=2"])
def test_flag_of_another_mode_is_refused(flag, mode, refused, here):
    name = flag.split("=")[0]
    accepted = {"--overwrite": "train", "--lr_range_test": "lr_range", "--replay_step": "replay"}
    line = f"{name}: not accepted with --mode={mode}; --mode={accepted[name]}"
    assert refused(f"--mode={mode}", flag) == line
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--checkpoint=best"], "--checkpoint: 'best' is not accepted with --mode=train; latest"),
        (
            ["--checkpoint=best", "--mode=analyze"],
            "--checkpoint: 'best' is not accepted with --mode=analyze; latest",
        ),
        (
            ["--mode=replay", "--replay_step=2", "--overwrite"],
            "--overwrite: not accepted with --mode=replay; --mode=train",
        ),
        (
            ["--mode=lr_range", "--replay_step=2"],
            "--replay_step: not accepted with --mode=lr_range; --mode=replay",
        ),
        (["--mode=replay"], "--replay_step: missing with --mode=replay; the number of a step"),
        (
            ["--sweep=precision", "--checkpoint=best"],
            "--checkpoint: 'best' is not accepted with --mode=train; latest",
        ),
        *(
            (["--sweep=precision", *flags], f"--sweep: not accepted with --mode={mode}; ")
            for mode, flags in {
                "evaluate": ["--mode=evaluate"],
                "replay": ["--mode=replay", "--replay_step=1"],
                "lr_range": ["--mode=lr_range"],
            }.items()
        ),
    ],
)
def test_incompatible_flags_are_refused(flags, line, refused, here):
    assert refused(*flags).startswith(line)
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("flags", "mode", "line"),
    [
        (["--mode=analyse"], "analyze", "--mode=analyse is deprecated; use --mode=analyze"),
        (["--lr_range_test"], "lr_range", "--lr_range_test is deprecated; use --mode=lr_range"),
        (
            ["--replay_step=3"],
            "replay",
            "--replay_step=3 without a mode is deprecated; use --mode=replay --replay_step=3",
        ),
        (["--mode=replay", "--replay_step=3"], "replay", None),
        (["--mode=lr_range"], "lr_range", None),
        (["--nolr_range_test"], "train", None),
    ],
)
def test_earlier_spelling_of_a_mode_works_and_is_reported(flags, mode, line, capsys):
    invocation = cli.parse(gpt.LAB, [*flags, "--steps=4"])
    assert invocation.mode == mode
    assert invocation.replay_step == (3 if mode == "replay" else None)
    assert capsys.readouterr().err == (f"gpt: {line}\n" if line else "")


@pytest.mark.parametrize("mode", READING)
def test_run_of_another_lab_is_refused(mode, refused, here):
    folder = shutil.copytree(STORED / "char_rnn_carry", here / "run")
    line = refused(f"--mode={mode}", f"--workdir={folder}")
    assert line == f"--workdir: {folder} holds a run of char_rnn; another folder"


@pytest.mark.parametrize("mode", READING)
def test_folder_of_a_sweep_is_refused(mode, refused, here):
    stored = json.loads((STORED / "gpt_muon" / "config.json").read_text())
    (here / "config.json").write_text(json.dumps(stored | {"sweep": "precision"}))
    line = refused(f"--mode={mode}", f"--workdir={here}")
    assert line.startswith(
        f"--workdir: {here} holds the sweep precision; the folder of one of its runs"
    )


@pytest.mark.parametrize("mode", READING)
def test_config_of_another_program_is_refused(mode, refused, here):
    (here / "config.json").write_text('{"model_type": "bert"}')
    line = refused(f"--mode={mode}", f"--workdir={here}")
    assert line.startswith(f"{here}/config.json: ")


def test_preset_of_another_run_is_refused(refused, here):
    folder = shutil.copytree(STORED / "gpt_muon", here / "run")
    assert refused("--mode=sample", f"--workdir={folder}", "--preset=speedrun") == (
        f"--preset: speedrun differs from quick of the run in {folder}; leave it out"
    )


def test_sampled_arrays_are_plotted_into_a_folder_without_subfolders(here):
    folder = shutil.copytree(STORED / "sparse_autoencoder_lbfgs", here / "run")
    assert not (folder / "figures").exists()
    flags = ["--mode=sample", f"--workdir={folder}"]
    assert cli.run(sparse_autoencoder.LAB, flags) == 0
    assert (folder / "figures" / "samples.png").exists()
