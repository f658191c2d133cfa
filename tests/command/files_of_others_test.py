"""No command writes over or deletes files that no run of this project has written."""

import pytest

from experiments import gpt, reproduce, worked_problems
from jaxlabs import command
from jaxlabs.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("reused_executables")

COMMANDS = ["train", "lr_range_test", "replay", "sweep", "study", "collection"]
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
    more = {"lr_range_test": ["--lr_range_test"], "replay": ["--replay_step=1"]}
    more |= {"sweep": ["--sweep=precision"]}

    def run(kind, folder, *flags):
        lab, given = gpt.LAB, [*tiny_flags, "--steps=4", *more.get(kind, [])]
        if kind == "study":
            lab, given = worked_problems.STUDY, []
        elif kind == "collection":
            lab, given = reproduce.collection(), ["--labs=worked_problems"]
        capsys.readouterr()
        status = command.run(lab, [*given, f"--workdir={folder}", *flags])
        return status, capsys.readouterr().err.splitlines()

    return run


@pytest.mark.parametrize("name", FILES)
def test_training_into_files_of_others_is_refused_and_names_them(name, start, here):
    put(here / "mine", name, FILES[name])
    before = contents(here)
    status, (line,) = start("train", here / "mine")
    assert status == 2
    held = name.split("/")[0]
    assert line == (
        f"gpt: --workdir: {here}/mine holds {held}, which a run would overwrite, but no config.json"
        " of a run; restore that file, or choose another --workdir"
    )
    assert contents(here) == before


@pytest.mark.parametrize("kind", COMMANDS)
def test_every_command_that_writes_refuses_a_folder_of_others(kind, start, here):
    for name in ("config.json", "report.html", "samples/step-notes.txt"):
        put(here / "mine", name, FILES[name])
    before = contents(here)
    status, (line,) = start(kind, here / "mine")
    assert status == 2
    assert "mine holds config.json, report.html, samples, which a run would overwrite" in line
    assert contents(here) == before


def test_run_of_a_collection_leaves_files_of_others_in_its_place_alone(start, here):
    place = here / "all" / "runs" / "worked_problems" / "seed=0"
    put(
        here / "all",
        "config.json",
        '{"experiment": "reproduce", "settings": {}, "preset": "quick"}',
    )
    put(place, "report.html", "mine")
    status, lines = start("collection", here / "all")
    assert status == 1
    assert "seed=0 holds report.html, which a run would overwrite" in lines[-1]
    assert contents(place) == {"report.html": "mine"}


def test_run_starts_beside_files_that_it_does_not_touch(tiny_flags, here):
    folder = RunFolder(here / "mine")
    folder.create()  # where a first start was killed before it wrote its settings
    mine = {"notes.txt": "mine", "data/a.txt": "mine", ".lock": "mine", ".writable": "mine"}
    for name, text in mine.items():
        put(folder.path, name, text)
    flags = [*tiny_flags, "--steps=0", f"--workdir={folder.path}"]
    assert command.run(gpt.LAB, flags) == 0
    assert mine.items() <= contents(folder.path).items()


def test_folder_where_a_first_start_was_killed_may_be_overwritten(tiny_flags, here):
    folder = RunFolder(here / "run")
    folder.create()
    (folder.path / ".lock").touch()
    (folder.path / ".config.json.partial").write_text("{")
    flags = [*tiny_flags, "--steps=0", f"--workdir={folder.path}", "--overwrite"]
    assert command.run(gpt.LAB, flags) == 0


def test_overwriting_that_is_interrupted_leaves_a_run(start, trained, monkeypatch, tmp_path):
    """Whatever is deleted when it is interrupted, the same command can be given again."""
    import shutil

    deleted = []
    rmtree = shutil.rmtree

    def interrupted(path, *options, **more):
        if len(deleted) == 2:
            raise KeyboardInterrupt
        deleted.append(path)
        rmtree(path, *options, **more)

    run = shutil.copytree(trained, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        assert start("train", run, "--overwrite", "--seed=1", "--steps=0")[0] == 130
    assert len(deleted) == 2
    status, _ = start("train", run, "--overwrite", "--seed=1", "--steps=0")
    assert status == 0
    assert RunFolder(run).read_config()["settings"]["seed"] == 1
