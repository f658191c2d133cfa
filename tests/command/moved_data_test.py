"""A data set counts by its contents: not by how its path is spelled, nor by where it lies."""

import shutil
from pathlib import Path

import pytest

from experiments import ddpm, gpt, reproduce
from jaxlabs import command, config, modes
from jaxlabs.run_folder import RunFolder
from jaxlabs.summary import describe
from jaxlabs.training.run_config import differing

pytestmark = pytest.mark.usefixtures("reused_executables")

STORED = Path(__file__).parents[1] / "fixtures" / "run_folders"
MODES = ("evaluate", "analyse", "sample", "export")


@pytest.fixture(autouse=True)
def nothing_drawn(monkeypatch):
    monkeypatch.setattr(modes, "write_report", lambda folder: folder.report)


@pytest.fixture
def run(tiny_flags, play, here, monkeypatch):
    """(folder, flags) of a run on `play.txt` in the working directory; the test is elsewhere."""
    for name in ("first", "second"):
        (here / name).mkdir()
    shutil.copy(play, here / "first" / "play.txt")
    monkeypatch.chdir(here / "first")
    flags = [flag for flag in tiny_flags if not flag.startswith("--dataset")]
    flags += ["--steps=4", f"--workdir={here / 'run'}"]
    assert command.run(gpt.LAB, [*flags, "--dataset=play.txt"]) == 0
    monkeypatch.chdir(here / "second")
    return RunFolder(here / "run"), flags


def test_run_is_read_and_continued_from_another_working_directory(run, trained):
    folder, flags = run
    for mode in MODES:
        assert command.run(gpt.LAB, [f"--mode={mode}", f"--workdir={folder.path}"]) == 0
    assert command.run(gpt.LAB, [*flags, "--dataset=../first/play.txt"]) == 0
    ours, theirs = folder.read_summary(), RunFolder(trained).read_summary()
    assert ours["parameters_sha256"] == theirs["parameters_sha256"]  # of the same text elsewhere


def test_run_is_read_and_continued_where_its_data_have_moved(run, here, refused):
    folder, flags = run
    shutil.move(here / "first" / "play.txt", here / "second" / "moved.txt")
    for mode in ("evaluate", "analyse"):
        assert refused(f"--mode={mode}", f"--workdir={folder.path}") == (
            f"--dataset: '{here}/first/play.txt', on which the run in {folder.path} was trained, is"
            " not there; give the path that it has now"
        )
    moved = "--dataset=moved.txt"
    for mode in MODES:
        assert command.run(gpt.LAB, [f"--mode={mode}", f"--workdir={folder.path}", moved]) == 0
    assert command.run(gpt.LAB, [*flags, moved]) == 0


def test_other_contents_are_refused_whatever_the_path(run, here, refused):
    folder, flags = run
    (here / "second" / "play.txt").write_text((here / "first" / "play.txt").read_text() + " king")
    for mode in MODES:
        line = refused(f"--mode={mode}", f"--workdir={folder.path}", "--dataset=play.txt")
        assert "other settings: the data set's contents; use the same" in line
    assert "the data set's contents" in refused(*flags, "--dataset=play.txt")
    for name in ("gone.txt", "markov"):
        line = refused("--mode=sample", f"--workdir={folder.path}", f"--dataset={name}")
        assert "no data set or file 'gone.txt'" in line or "the data set's contents" in line


def test_run_that_holds_a_relative_path_says_which_flag_to_give(here, capsys):
    folder = shutil.copytree(STORED / "gpt_muon", here / "run")
    flags = ["--mode=evaluate", f"--workdir={folder}"]
    assert command.run(gpt.LAB, flags) == 2
    assert capsys.readouterr().err == (
        f"gpt: --dataset: 'play.txt', on which the run in {folder} was trained, is not there; give"
        " the path that it has now\n"
    )
    assert command.run(gpt.LAB, [*flags, f"--dataset={STORED / 'play.txt'}"]) == 0


@pytest.mark.parametrize("name", [name for name, _ in reproduce.labs()])
def test_every_data_set_that_is_a_path_is_known_as_one(name):
    lab = dict(reproduce.labs())[name]
    fields = dict(config.settings(lab.config_class))
    given = {"data_dir": "data", "dataset": "my/data", "classifier": "runs/mine"}
    given = {setting: value for setting, value in given.items() if setting in fields}
    assert config.paths(lab.config_class, given) == given
    for preset in lab.presets.values():
        assert config.paths(lab.config_class, lab.config_class.from_flat(preset).flat()) == {}


def test_paths_are_kept_such_that_they_hold_everywhere(here):
    flags = ["--data_dir=data", "--classifier=runs/mine", "--dataset=~/digits"]
    request = command.parse(ddpm.LAB, flags)
    settings = describe(request, request.config(), None)["settings"]
    assert settings["data_dir"] == str(here / "data")
    assert settings["classifier"] == str(here / "runs" / "mine")
    assert settings["dataset"] == str(Path.home() / "digits")
    default = command.parse(ddpm.LAB, [])
    kept = describe(default, default.config(), None)["settings"]
    assert kept == default.config().flat()


def test_same_numbers_that_are_used_otherwise_are_other_contents():
    def run(dataset, **facts):
        return {"settings": {"dataset": dataset}, "dataset": {"sha256": "0"} | facts}

    lab = dict(reproduce.labs())["sparse_autoencoder"]
    whitened = run("a.mat", whitened=True)
    assert differing(lab.config_class, whitened, run("b.mat", whitened=True)) == []
    assert differing(lab.config_class, whitened, run("b.mat", whitened=False)) == [
        "the data set's contents"
    ]
    untold = {"settings": {"dataset": "b.mat"}}
    assert differing(lab.config_class, whitened, untold) == ["dataset (a.mat there, b.mat here)"]
