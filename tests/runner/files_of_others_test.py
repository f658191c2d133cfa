"""No command overwrites or deletes files that belong to no run."""

import shutil

import pytest

from jaxlabs.labs.gpt import lab as gpt
from jaxlabs.labs.worked_problems import lab as worked_problems
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli, reproduce
from jaxlabs.runner.run_context import open_run

COMMANDS = ["train", "lr_range", "replay", "sweep", "study", "suite"]
FILES = {
    "config.json": '{"model_type": "bert"}',
    "metrics.jsonl": "mine",
    "summary.json": "mine",
    "report.html": "mine",
    "results.md": "mine",
    "benchmark.json": "mine",
    "parameters.safetensors": "mine",
    "samples/step-notes.txt": "mine",
    "checkpoints/best.pt": "mine",
    "arrays/mine.npz": "mine",
    "figures/holiday.png": "mine",
    "runs/2024/log.txt": "mine",
    "tensorboard/events": "mine",
    "profile/trace": "mine",
    "samples": "a file where the folder should be",
}


def contents(path):
    return {
        str(found.relative_to(path)): found.read_text() if found.is_file() else None
        for found in path.rglob("*")
    }


def put(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def start(tiny_flags, capsys):
    """`start(kind, folder, *flags) -> (status, lines on stderr)` of one of COMMANDS."""
    more = {"lr_range": ["--mode=lr_range"], "replay": ["--mode=replay", "--replay_step=1"]}
    more |= {"sweep": ["--sweep=precision"]}

    def run(kind, folder, *flags):
        lab, given = gpt.LAB, [*tiny_flags, "--steps=4", *more.get(kind, [])]
        if kind == "study":
            lab, given = worked_problems.STUDY, []
        elif kind == "suite":
            lab = reproduce.suite({"worked_problems": worked_problems.STUDY})
            given = []
        capsys.readouterr()
        status = cli.run(lab, [*given, f"--workdir={folder}", *flags])
        return status, capsys.readouterr().err.splitlines()

    return run


@pytest.mark.parametrize("name", FILES)
def test_training_into_a_folder_with_other_files_is_refused(name, start, here):
    put(here / "mine", name, FILES[name])
    before = contents(here)
    status, (line,) = start("train", here / "mine")
    assert status == 2
    existing = name.split("/")[0]
    assert line.startswith(
        f"gpt: --workdir: {here}/mine holds {existing}, which a run would overwrite, but no"
    ) or (existing == "config.json" and f"{here}/mine/config.json" in line)
    assert contents(here) == before


@pytest.mark.parametrize("kind", COMMANDS)
def test_every_writing_command_refuses_a_folder_with_other_files(kind, start, here):
    for name in ("config.json", "report.html", "samples/step-notes.txt"):
        put(here / "mine", name, FILES[name])
    before = contents(here)
    status, (line,) = start(kind, here / "mine")
    assert status == 2
    assert "config.json" in line
    assert contents(here) == before


def test_run_of_a_suite_keeps_other_files_in_its_folder(start, here):
    path = here / "all" / "runs" / "worked_problems" / "seed=0"
    put(
        here / "all",
        "config.json",
        '{"experiment": "reproduce", "settings": {}, "preset": "quick"}',
    )
    put(path, "report.html", "mine")
    status, lines = start("suite", here / "all")
    assert status == 1
    assert "seed=0 holds report.html, which a run would overwrite" in lines[-1]
    assert contents(path) == {"report.html": "mine"}


@pytest.fixture
def started(tiny_flags):
    """`started(path, *flags) -> RunFolder`: the folder of a run before its first step."""

    def start(path, *flags):
        invocation = cli.parse(gpt.LAB, [*tiny_flags, f"--workdir={path}", *flags])
        with open_run(invocation, invocation.config()) as folder:
            return folder

    return start


def test_run_starts_beside_unrelated_files(started, here):
    folder = RunFolder(here / "mine")
    folder.create()  # a start that was killed before config.json was written
    mine = {"notes.txt": "mine", "data/a.txt": "mine", ".lock": "mine", ".writable": "mine"}
    for name, text in mine.items():
        put(folder.path, name, text)
    started(folder.path)
    assert mine.items() <= contents(folder.path).items()
    assert folder.exists()


def test_folder_of_a_killed_start_may_be_overwritten(started, here):
    folder = RunFolder(here / "run")
    folder.create()
    (folder.path / ".lock").touch()
    (folder.path / ".config.json.partial").write_text("{")
    assert started(folder.path, "--overwrite").exists()


def test_interrupted_overwriting_leaves_a_run_folder(started, here, monkeypatch):
    """Whatever was deleted before the interruption, the same command works again."""
    rmtree, deleted = shutil.rmtree, []

    def interrupted(path):
        if deleted:
            raise KeyboardInterrupt
        deleted.append(path)
        rmtree(path)

    folder = started(here / "run")
    for name in ("checkpoints/4/state", "arrays/maps.npz", "samples/final.txt", "report.html"):
        put(folder.path, name, "old")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            started(folder.path, "--overwrite", "--seed=1")
    assert deleted
    started(folder.path, "--overwrite", "--seed=1")
    assert folder.read_config()["settings"]["seed"] == 1
    assert folder.contents() == ["config.json"]
