"""Data sets are compared by contents, not by path."""

import dataclasses
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxlabs import config, labs
from jaxlabs.labs.ddpm import lab as ddpm
from jaxlabs.labs.gpt import lab as gpt
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli, modes
from jaxlabs.runner.description import describe
from jaxlabs.training.run_config import differing

pytestmark = pytest.mark.usefixtures("reused_executables")

# Compiling sampling and analysis would dominate the time.
LAB = dataclasses.replace(
    gpt.LAB, sample=lambda *arguments: "a sample", analyze=lambda *arguments: {}
)
STORED = Path(__file__).parents[1] / "fixtures" / "run_folders"
MODES = ("evaluate", "analyze", "sample", "export")


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    monkeypatch.setattr(modes, "write_report", lambda folder, lab: folder.report)


@pytest.fixture
def moved(here):
    """(folder, flags) of a run whose text was moved to `moved.txt` in the working directory."""
    folder = RunFolder(shutil.copytree(STORED / "gpt_muon", here / "run"))
    stored = folder.read_config()
    words = [word.removeprefix("--").split("=") for word in shlex.split(stored["command"])[3:-1]]
    given = config.canonical(LAB.config_class, dict(words))
    flags = [f"--workdir={folder.path}", *(f"--{name}={value}" for name, value in given.items())]
    stored["settings"]["dataset"] = str(here / "play.txt")
    (folder.path / "config.json").write_text(json.dumps(stored))
    shutil.copy(STORED / "play.txt", here / "moved.txt")
    return folder, [flag for flag in flags if not flag.startswith("--dataset")]


def test_run_is_read_and_resumed_from_another_working_directory(moved, here, monkeypatch, capsys):
    folder, flags = moved
    (here / "moved.txt").rename(here / "play.txt")
    monkeypatch.chdir(here / "run")
    assert cli.run(LAB, ["--mode=evaluate", f"--workdir={folder.path}"]) == 0
    capsys.readouterr()
    assert cli.run(LAB, [*flags, "--dataset=../play.txt"]) == 0
    assert "run already complete (8 steps)" in capsys.readouterr().out


def test_run_is_read_and_resumed_with_moved_data(moved, here, refused, capsys):
    folder, flags = moved
    for mode in ("evaluate", "analyze"):
        assert refused(f"--mode={mode}", f"--workdir={folder.path}") == (
            f"--dataset: '{here}/play.txt', the data of the run in {folder.path}, is missing; give"
            " its present path"
        )
    for mode in MODES:
        given = [f"--mode={mode}", f"--workdir={folder.path}", "--dataset=moved.txt"]
        assert cli.run(LAB, given) == 0
    capsys.readouterr()
    assert cli.run(LAB, [*flags, "--dataset=moved.txt"]) == 0
    assert "run already complete (8 steps)" in capsys.readouterr().out


def test_other_contents_are_refused_for_any_path(moved, here, refused):
    folder, flags = moved
    (here / "play.txt").write_text((here / "moved.txt").read_text() + " king")
    for mode in MODES:
        line = refused(f"--mode={mode}", f"--workdir={folder.path}", "--dataset=play.txt")
        assert "different settings: the data set's contents; use the same" in line
    assert "the data set's contents" in refused(*flags, "--dataset=play.txt")
    line = refused("--mode=sample", f"--workdir={folder.path}", "--dataset=gone.txt")
    assert "no data set or file 'gone.txt'" in line


def test_data_do_not_depend_on_their_path(play, here):
    shutil.copy(play, here / "other.txt")
    ours, theirs = (
        gpt.load_data(gpt.GPTRunConfig(dataset=str(path))) for path in (play, "other.txt")
    )
    np.testing.assert_array_equal(ours.train.tokens, theirs.train.tokens)
    assert ours.data_spec == theirs.data_spec
    assert ours.dataset["sha256"] == theirs.dataset["sha256"]


def test_run_with_a_relative_path_names_the_flag(here, capsys):
    folder = shutil.copytree(STORED / "gpt_muon", here / "run")
    flags = ["--mode=evaluate", f"--workdir={folder}"]
    assert cli.run(LAB, flags) == 2
    assert capsys.readouterr().err == (
        f"gpt: --dataset: 'play.txt', the data of the run in {folder}, is missing; give its present"
        " path\n"
    )
    assert cli.run(LAB, [*flags, f"--dataset={STORED / 'play.txt'}"]) == 0


@pytest.mark.parametrize("name", labs.names())
def test_every_path_setting_is_declared_as_a_path(name):
    lab = labs.load(name)
    fields = dict(config.settings(lab.config_class))
    given = {"data_dir": "data", "dataset": "my/data", "fid_classifier": "runs/mine"}
    given = {setting: value for setting, value in given.items() if setting in fields}
    assert config.path_settings(lab.config_class, given) == given
    for preset in lab.presets.values():
        assert (
            config.path_settings(lab.config_class, lab.config_class.from_flat(preset).flat()) == {}
        )


def test_paths_are_stored_as_absolute_paths(here):
    flags = ["--data_dir=data", "--fid_classifier=runs/mine", "--dataset=~/digits"]
    invocation = cli.parse(ddpm.LAB, flags)
    settings = describe(invocation, invocation.config(), None, None)["settings"]
    assert settings["data_dir"] == str(here / "data")
    assert settings["fid_classifier"] == str(here / "runs" / "mine")
    assert settings["dataset"] == str(Path.home() / "digits")
    default = cli.parse(ddpm.LAB, [])
    kept = describe(default, default.config(), None, None)["settings"]
    assert kept == default.config().flat()


def test_same_file_with_other_preprocessing_has_other_contents():
    def run(dataset, **contents):
        return {"settings": {"dataset": dataset}, "dataset": {"sha256": "0"} | contents}

    lab = labs.load("sparse_autoencoder")
    whitened = run("a.mat", whitened=True)
    assert differing(lab.config_class, whitened, run("b.mat", whitened=True)) == []
    assert differing(lab.config_class, whitened, run("b.mat", whitened=False)) == [
        "the data set's contents"
    ]
    unknown = {"settings": {"dataset": "b.mat"}}
    assert differing(lab.config_class, whitened, unknown) == ["dataset (stored a.mat, given b.mat)"]
