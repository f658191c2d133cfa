"""Modes: the flags that belong to each, and the runs that each can read."""

import json
import shutil
from pathlib import Path

import pytest

from experiments import sparse_autoencoder
from jaxlabs import command

STORED = Path(__file__).parents[1] / "fixtures" / "run_folders"
READING = ("sample", "evaluate", "export", "analyze")


@pytest.mark.parametrize("mode", READING)
@pytest.mark.parametrize("flag", ["--overwrite", "--lr_range_test", "--replay_step=2"])
def test_flag_of_training_is_refused_by_other_modes(flag, mode, refused, here):
    name = flag.split("=")[0]
    assert refused(f"--mode={mode}", flag) == f"{name}: it goes with --mode=train, not with {mode}"
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--checkpoint=best"], "--checkpoint: a run resumes from its end; latest"),
        (
            ["--checkpoint=best", "--mode=analyze"],
            "--checkpoint: a run is analyzed at its end; latest",
        ),
        (
            ["--replay_step=2", "--overwrite"],
            "--overwrite: it does not go with --replay_step; leave one of them out",
        ),
        (
            ["--replay_step=2", "--lr_range_test"],
            "--lr_range_test: it does not go with --replay_step; leave one of them out",
        ),
        (["--sweep=precision", "--checkpoint=best"], "--checkpoint: a run resumes from its end"),
        (["--sweep=precision", "--mode=evaluate"], "--sweep: 'precision' trains; it goes with no"),
        (["--sweep=precision", "--replay_step=1"], "--sweep: 'precision' trains; it goes with no"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, line, refused, here):
    assert refused(*flags).startswith(line)
    assert not list(here.iterdir())


@pytest.mark.parametrize("mode", READING)
def test_run_of_another_lab_is_named(mode, refused, here):
    folder = shutil.copytree(STORED / "char_rnn_carry", here / "run")
    line = refused(f"--mode={mode}", f"--workdir={folder}")
    assert line == "--workdir: a run of char_rnn is there; another folder"


@pytest.mark.parametrize("mode", READING)
def test_folder_of_a_sweep_is_no_run(mode, refused, here):
    stored = json.loads((STORED / "gpt_muon" / "config.json").read_text())
    (here / "config.json").write_text(json.dumps(stored | {"sweep": "precision"}))
    line = refused(f"--mode={mode}", f"--workdir={here}")
    assert line.startswith("--workdir: the sweep precision is there; the folder of one of its runs")


@pytest.mark.parametrize("mode", READING)
def test_config_of_something_else_is_no_run(mode, refused, here):
    (here / "config.json").write_text('{"model_type": "bert"}')
    line = refused(f"--mode={mode}", f"--workdir={here}")
    assert line.startswith(f"{here}/config.json: ")


def test_preset_of_another_run_is_refused(refused, here):
    folder = shutil.copytree(STORED / "gpt_muon", here / "run")
    assert refused("--mode=sample", f"--workdir={folder}", "--preset=best") == (
        f"--preset: best differs from quick of the run in {folder}; leave the flag out"
    )


def test_arrays_are_drawn_into_a_folder_that_lacks_its_rooms(here):
    folder = shutil.copytree(STORED / "sparse_autoencoder_lbfgs", here / "run")
    assert not (folder / "figures").exists()
    flags = ["--mode=sample", f"--workdir={folder}"]
    assert command.run(sparse_autoencoder.LAB, flags) == 0
    assert (folder / "figures" / "drawn.png").exists()
