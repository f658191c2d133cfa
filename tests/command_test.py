"""Bad input ends in one line on stderr and status 2, and leaves nothing behind."""

import errno
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from experiments.gpt import LAB, PRESETS
from jaxlabs import command, config, modes, run_folder
from jaxlabs.run_folder import RunFolder
from jaxlabs.summary import describe
from jaxlabs.training import precision

pytestmark = pytest.mark.usefixtures("reused_executables")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test starts in an empty folder of its own, so that `runs/` would be seen there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tiny_flags, reused_executables, tmp_path_factory):
    """The folder of a run that has ended; tests read it only."""
    path = tmp_path_factory.mktemp("trained") / "run"
    assert command.run(LAB, [*tiny_flags, "--steps=4", f"--workdir={path}"]) == 0
    return path


@pytest.fixture
def refused(capsys):
    """`refused(*flags) -> line`: holds one command line to status 2 and one line on stderr."""

    def refuse(*flags):
        capsys.readouterr()
        status = command.run(LAB, flags)
        out, err = capsys.readouterr()
        assert status == 2, err
        assert out == ""
        assert err.startswith("gpt: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1, err
        return err.removeprefix("gpt: ").removesuffix("\n")

    return refuse


def contents(path):
    """Every file below a folder, with its bytes."""
    return {
        str(found.relative_to(path)): found.read_bytes() if found.is_file() else None
        for found in path.rglob("*")
    }


NUMBER = "is not accepted; a whole number"
FLAG_ERRORS = {
    "--widht=3": "--widht: no such flag; did you mean 'width'?",
    "--xyzzy=3": "--xyzzy: no such flag; --help lists them",
    "--preset=quik": "--preset: 'quik' is not accepted; one of {presets}; did you mean 'quick'?",
    "--mode=trian": "--mode: 'trian' is not accepted; one of train, sample, evaluate, analyse, "
    "export; did you mean 'train'?",
    "--checkpoint=worst": "--checkpoint: 'worst' is not accepted; one of latest, best",
    "--platform=cup": "--platform: 'cup' is not accepted; one of auto, cpu, gpu, tpu; "
    "did you mean 'cpu'?",
    "--activation=rleu": "--activation: 'rleu' is not accepted; one of ",
    "--width=-3": f"--width: -3 {NUMBER} of at least 1",
    "--context=0": f"--context: 0 {NUMBER} of at least 1",
    "--batch_size=0": f"--batch_size: 0 {NUMBER} of at least 1",
    "--steps=-1": f"--steps: -1 {NUMBER} of at least 0",
    "--seed=4294967296": f"--seed: 4294967296 {NUMBER} of at least 0 and of at most 4294967295",
    "--learning_rate=0": "--learning_rate: 0.0 is not accepted; a number above 0",
    "--learning_rate=nan": "--learning_rate: nan is not accepted; a number above 0",
    "--temperature=-1": "--temperature: -1.0 is not accepted; a number of at least 0",
    "--width=many": f"--width: 'many' {NUMBER}",
    "--width=1.5": f"--width: '1.5' {NUMBER}",
    "--width=none": f"--width: 'none' {NUMBER}",
    "--width=": f"--width: '' {NUMBER}",
    "--clip_norm=much": "--clip_norm: 'much' is not accepted; a number or none",
    "--bias=perhaps": "--bias: 'perhaps' is not accepted; true or false",
    "--overwrite=perhaps": "--overwrite: 'perhaps' is not accepted; true or false",
    "--prompt=": "--prompt: '' is not accepted; one character or more",
    "--heads=5": "--heads: 5 does not divide --width 16; a divisor",
    "--batch_size=6": "--batch_size: 6 does not divide over 4 devices x 1 micro-batches; "
    "a multiple of 4",
    "--micro_batches=3": "--batch_size: 4 does not divide over 4 devices x 3 micro-batches; "
    "a multiple of 12",
    "--eval_batch_size=3": "--eval_batch_size: 3 does not divide over 4 devices",
    "--schedule=cosine --warmup_steps=99": "--warmup_steps: 99 is not accepted with a cosine "
    "schedule of --steps 4; a whole number below the number of steps",
    "--num_processes=2": "--coordinator: missing with --num_processes 2; ",
    "--process_id=1": "--process_id: 1 is not accepted; below --num_processes 1",
    "--vocabulary_size=3": "--vocabulary_size: 3 is too few for the data; at least 2",
    "--prompt=ROΩEO☃": "--prompt: unknown characters 'Ω', '☃'; the 2",
    "--shown_text=king|ROΩEO": "--shown_text: unknown characters 'Ω'; the 2",
    "--shown_text=king|": "--shown_text: 'king|' is not accepted; texts of at least one",
    "--replay_step=0": "--replay_step: 0 is not accepted; a step from 1 to 4",
    "--replay_step=5": "--replay_step: 5 is not accepted; a step from 1 to 4",
    "train": "'train' is no flag; settings are given as --name=value",
    "--width=16 16": "'16' is no flag; settings are given as --name=value",
    "--seed": "Missing value for flag --seed",
    "--dataset=shakespeare": "--dataset: no data set or file 'shakespeare'; accepted are "
    "tiny_shakespeare, python_reference, markov, toy_words or the path to a UTF-8 text file; "
    "did you mean 'tiny_shakespeare'?",
    "--dataset=": "--dataset: no data set or file ''; ",
    "--workdir=": "--workdir: '' is not accepted; ",
}


@pytest.mark.parametrize("flags", FLAG_ERRORS)
def test_bad_flag_is_one_line_that_says_what_is_accepted(flags, refused, tiny_flags, here):
    line = refused(*tiny_flags, "--steps=4", *flags.split())
    assert line.startswith(FLAG_ERRORS[flags].format(presets=", ".join(PRESETS)))
    assert contents(here) == {}


FILES = {
    "empty": (b"", "the file is empty; a UTF-8 text file is needed"),
    "latin-1": ("Größe und Maß".encode("latin-1"), "not UTF-8 (byte 0xf6 at offset 2); save it as"),
    "binary": (b"\x00\x01\xff", "not UTF-8 (byte 0xff at offset 2)"),
}


@pytest.mark.parametrize("name", FILES)
def test_file_that_is_no_text_is_named(name, refused, tiny_flags, tmp_path):
    content, reason = FILES[name]
    path = tmp_path / "book.txt"
    path.write_bytes(content)
    assert refused(*tiny_flags, f"--dataset={path}").startswith(f"{path}: {reason}")
    assert contents(tmp_path) == {"book.txt": content}


def test_text_shorter_than_one_context_is_refused_with_both_numbers(refused, tiny_flags, tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("ab" * 80)
    line = refused(*tiny_flags, f"--dataset={path}")
    assert line.startswith("--context=16: the text (or its held-out part) has 16 tokens")
    assert line.endswith("at least 17")
    assert list(contents(tmp_path)) == ["book.txt"]
    path.write_text("ab" * 85)
    LAB.load_data(command.parse(LAB, [*tiny_flags, f"--dataset={path}"]).config())


def test_missing_file_and_folder_as_data_set_are_named(refused, tiny_flags, tmp_path):
    missing = tmp_path / "missing.txt"
    assert f"no data set or file '{missing}'" in refused(*tiny_flags, f"--dataset={missing}")
    line = refused(*tiny_flags, f"--dataset={tmp_path}")
    assert line.startswith(f"--dataset: '{tmp_path}' is a folder; accepted are tiny_shakespeare")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("mode", ["train", "sample", "evaluate", "export"])
@pytest.mark.parametrize("below", ["", "/runs/mine"])
def test_run_folder_cannot_be_a_file_or_below_one(mode, below, refused, tiny_flags, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    line = refused(*tiny_flags, f"--mode={mode}", f"--workdir={file}{below}")
    expected = "cannot write" if mode == "train" else f"{file}{below} holds no config.json"
    assert line.startswith("--workdir: ")
    assert expected in line
    if mode == "train":
        assert "cannot write" in refused(*tiny_flags, f"--workdir={file}{below}", "--overwrite")
    assert contents(tmp_path) == {"file": b"mine"}


@pytest.mark.parametrize("mode", ["sample", "evaluate", "export"])
def test_reading_mode_needs_a_run_and_a_checkpoint(mode, refused, trained, tmp_path):
    nowhere = tmp_path / "nowhere"
    assert refused(f"--mode={mode}", f"--workdir={nowhere}") == (
        f"--workdir: {nowhere} holds no config.json; a folder of a trained run is needed"
    )
    assert not nowhere.exists()
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(trained / "config.json", run)
    assert refused(f"--mode={mode}", f"--workdir={run}") == (
        f"--workdir: {run} holds no checkpoint yet; train first"
    )
    assert list(contents(run)) == ["config.json"]


def test_reading_mode_refuses_flags_that_would_make_it_another_run(refused, trained):
    before = contents(trained)
    assert refused("--mode=sample", f"--workdir={trained}", "--width=32", "--seed=0") == (
        f"--width: 32 differs from 16 of the run in {trained}; leave the flag out"
    )
    line = refused("--mode=sample", f"--workdir={trained}", "--prompt=ROMEO? Ω")
    assert line.startswith("--prompt: unknown characters '?', 'Ω'; the 2")
    assert contents(trained) == before


def test_resuming_with_other_settings_names_the_fields(refused, tiny_flags, trained):
    before = contents(trained)
    flags = [*tiny_flags, f"--workdir={trained}", "--steps=5", "--seed=1", "--log_every=1"]
    assert refused(*flags) == (
        "--workdir: the run there has other settings: seed (0 there, 1 here), steps (4 there, "
        "5 here); use the same ones, another --workdir, or --overwrite"
    )
    assert contents(trained) == before


def test_resuming_on_another_text_under_the_same_name_is_refused(
    refused, tiny_flags, trained, play, tmp_path
):
    run = shutil.copytree(trained, tmp_path / "run")
    stored = json.loads((run / "config.json").read_text())
    stored["dataset"]["sha256"] = "0" * 64
    (run / "config.json").write_text(json.dumps(stored))
    for mode in ("train", "evaluate"):
        flags = [*tiny_flags, "--steps=4", f"--workdir={run}", f"--mode={mode}"]
        assert "other settings: the data set's contents; use the same" in refused(*flags)


def test_second_writer_is_refused_and_throws_nothing_away(refused, tiny_flags, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    before = contents(run)
    with RunFolder(run).writer():
        for more in ([], ["--overwrite"], ["--lr_range_test"], ["--replay_step=1"]):
            line = refused(*tiny_flags, "--steps=4", f"--workdir={run}", *more)
            assert line.startswith(f"--workdir: {run} is being written by another run; wait")
    assert contents(run) == before


def test_overwriting_what_is_no_run_is_refused_and_deletes_nothing(refused, tiny_flags, tmp_path):
    holiday = tmp_path / "holiday" / "photo.png"
    holiday.parent.mkdir()
    holiday.write_bytes(b"irreplaceable")
    line = refused(*tiny_flags, f"--workdir={holiday.parent}", "--overwrite", "--steps=4")
    assert line.startswith(f"--overwrite: {holiday.parent} is not a run folder and not empty")
    assert contents(tmp_path) == {"holiday": None, "holiday/photo.png": b"irreplaceable"}


@pytest.mark.parametrize("config", ['{"model_type": "bert"}', "[]", "no JSON"])
def test_overwriting_a_folder_with_a_config_of_others_is_refused(
    refused, tiny_flags, tmp_path, config
):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(config)
    line = refused(*tiny_flags, f"--workdir={tmp_path / 'model'}", "--overwrite")
    assert line.startswith(f"--overwrite: {tmp_path / 'model'} is not a run folder and not empty")
    assert contents(tmp_path) == {"model": None, "model/config.json": config.encode()}


def test_overwriting_keeps_what_no_run_wrote(tiny_flags, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "thesis.tex").write_text("mine")
    assert command.run(LAB, [*tiny_flags, "--steps=0", f"--workdir={run}", "--overwrite"]) == 0
    assert (run / "thesis.tex").read_text() == "mine"


def test_overwriting_starts_anew_with_other_settings(tiny_flags, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "samples" / "stale.txt").write_text("old")
    flags = [*tiny_flags, "--steps=0", "--seed=3", f"--workdir={run}", "--overwrite"]
    assert command.run(LAB, flags) == 0
    assert RunFolder(run).read_config()["settings"]["seed"] == 3
    assert RunFolder(run).read_summary()["steps"] == 0
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["0"]
    assert not (run / "samples" / "stale.txt").exists()
    assert [row["step"] for row in RunFolder(run).read_metrics()] == [0, 0, 0]


def test_platform_that_this_machine_lacks_is_one_line(tiny_flags, tmp_path, executables):
    flags = [*tiny_flags, "--platform=tpu", f"--workdir={tmp_path / 'run'}"]
    result = subprocess.run(
        [sys.executable, "-m", "experiments.gpt", *flags],
        cwd=os.path.dirname(os.path.dirname(command.__file__)),
        env=os.environ | {"JAX_PLATFORMS": ""},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        "gpt: --platform: 'tpu' is not available on this machine; auto or cpu always are\n"
    )
    assert contents(tmp_path) == {}


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
FILES_OF_A_RUN = {
    "config.json": [],
    "metrics.jsonl": [],
    "step-000000.txt": [],
    "lr_range.npz": ["--lr_range_test"],
}
FILES_OF_ITS_END = ["final.txt", "attention_maps.npz", "summary.json", "loss.png", "report.html"]


def fill_disk_at(name, monkeypatch):
    """Makes the disk full when the file of that name is to be put in its place."""
    replace = os.replace

    def full(source, target):
        if os.path.basename(target) == name:
            raise FULL
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)


def said_by_the_runner(capsys):
    """What stderr holds beside the progress of the run."""
    return [
        line
        for line in capsys.readouterr().err.splitlines()
        if not line.startswith(("step ", "resuming"))
    ]


@pytest.mark.parametrize("name", FILES_OF_A_RUN)
def test_disk_that_is_full_at_the_start_is_one_line(
    name, tiny_flags, tmp_path, monkeypatch, capsys
):
    fill_disk_at(name, monkeypatch)
    run = tmp_path / "run"
    flags = [*tiny_flags, "--steps=4", f"--workdir={run}", *FILES_OF_A_RUN[name]]
    assert command.run(LAB, flags) == 2
    (line,) = said_by_the_runner(capsys)
    assert line.startswith(f"gpt: --workdir: cannot write {run}/")
    assert line.endswith(f"{name} (the disk is full); a writable folder with space is needed")
    assert not list(run.rglob("*.partial"))


@pytest.mark.parametrize("name", FILES_OF_ITS_END)
def test_disk_that_is_full_at_the_end_is_one_line_and_the_run_can_be_ended_later(
    name, tiny_flags, trained, tmp_path, monkeypatch, capsys
):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "summary.json").unlink()
    flags = [*tiny_flags, "--steps=4", f"--workdir={run}"]
    with monkeypatch.context() as patch:
        fill_disk_at(name, patch)
        capsys.readouterr()
        assert command.run(LAB, flags) == 2
    (line,) = said_by_the_runner(capsys)
    assert line.endswith(f"{name} (the disk is full); a writable folder with space is needed")
    assert command.run(LAB, flags) == 0
    ours, theirs = (RunFolder(path).read_summary() for path in (run, trained))
    assert ours["parameters_sha256"] == theirs["parameters_sha256"]
    assert ours["metrics"] == theirs["metrics"]


def test_disk_that_fills_up_while_training_is_one_line(tiny_flags, tmp_path, monkeypatch, capsys):
    def full_when_appending(path, mode="r", **options):
        if mode == "a":
            raise FULL
        return open(path, mode, **options)

    monkeypatch.setattr(run_folder, "open", full_when_appending, raising=False)
    run = tmp_path / "run"
    assert command.run(LAB, [*tiny_flags, "--steps=4", f"--workdir={run}"]) == 2
    assert said_by_the_runner(capsys) == [
        f"gpt: --workdir: cannot write {run}/metrics.jsonl (the disk is full); "
        "a writable folder with space is needed"
    ]


def test_checkpoint_that_does_not_fit_on_the_disk_is_one_line(
    tiny_flags, trained, tmp_path, monkeypatch, capsys
):
    usage = shutil.disk_usage(tmp_path)
    run = tmp_path / "run"
    flags = [*tiny_flags, "--steps=4", f"--workdir={run}"]
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**20))
        assert command.run(LAB, flags) == 2
    assert said_by_the_runner(capsys) == [
        f"gpt: --workdir: cannot write {run}/checkpoints (the disk is full); "
        "a writable folder with space is needed"
    ]
    assert command.run(LAB, flags) == 0
    ours, theirs = (RunFolder(path).read_summary() for path in (run, trained))
    assert ours["parameters_sha256"] == theirs["parameters_sha256"]


def test_unforeseen_disk_error_and_interrupt_are_one_line(tiny_flags, monkeypatch, capsys):
    ends = {
        OSError(errno.EIO, "Input/output error", "/mnt/disk"): (
            2,
            "gpt: /mnt/disk: Input/output error",
        ),
        KeyboardInterrupt(): (130, "gpt: interrupted; the same command goes on"),
    }
    for error, (status, line) in ends.items():

        def fail(request, error=error):
            raise error

        monkeypatch.setattr(modes, "carry_out", fail)
        assert command.run(LAB, tiny_flags) == status
        assert capsys.readouterr().err == line + "\n"


def test_losses_that_are_not_finite_at_the_end_are_shown_as_such(
    tiny_flags, trained, tmp_path, capsys
):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "summary.json").unlink()
    rows = [row | {"loss": None} for row in RunFolder(run).read_metrics()]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert command.run(LAB, [*tiny_flags, "--steps=4", f"--workdir={run}"]) == 0
    assert "held_out_loss nan\n" in capsys.readouterr().out
    assert RunFolder(run).read_summary()["metrics"]["held_out_loss"] is None


def test_finished_run_is_analysed_again_for_another_text(trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "again")
    before = RunFolder(run).read_summary()
    flags = ["--mode=analyse", "--shown_text=the king", f"--workdir={run}"]
    assert command.run(LAB, flags) == 0
    assert "attention_future_weight 0.0000" in capsys.readouterr().out
    with np.load(RunFolder(run).arrays("attention_maps")) as arrays:
        assert any("".join(labels) == "the king" for labels in arrays.values() if labels.ndim == 1)
    after = RunFolder(run).read_summary()
    assert after.keys() == before.keys()
    assert after["parameters_sha256"] == before["parameters_sha256"]
    assert command.run(LAB, ["--mode=analyse", f"--workdir={tmp_path / 'nothing'}"]) == 2


def test_damaged_newest_checkpoint_is_reported_and_the_one_before_it_sampled(
    tiny_flags, tmp_path, capsys, caplog
):
    run = tmp_path / "run"
    flags = [*tiny_flags, "--steps=4", f"--workdir={run}", "--checkpoint_every=2"]
    assert command.run(LAB, flags) == 0
    shutil.rmtree(run / "checkpoints" / "4" / "facts")
    assert command.run(LAB, ["--mode=export", f"--workdir={run}"]) == 0
    assert "parameters of step 2" in capsys.readouterr().out
    assert "checkpoint of step 4 is damaged" in caplog.text
    shutil.rmtree(run / "checkpoints" / "2" / "facts")
    assert command.run(LAB, ["--mode=export", f"--workdir={run}"]) == 2
    assert "no checkpoint" in capsys.readouterr().err


def test_reading_mode_does_not_take_over_the_machine_of_the_training(trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    stored = json.loads((run / "config.json").read_text())
    stored["settings"] |= {"num_processes": 2, "process_id": 1, "coordinator": "nowhere:1"}
    (run / "config.json").write_text(json.dumps(stored))
    assert command.run(LAB, ["--mode=export", f"--workdir={run}"]) == 0
    assert "parameters of step 4" in capsys.readouterr().out


def test_help_names_every_setting_with_its_value_in_each_preset(capsys):
    assert command.run(LAB, ["--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    for name, field in config.settings(LAB.config_class):
        values = [
            LAB.config_class.from_flat(preset).flat()[name] for preset in LAB.presets.values()
        ]
        shown = {None: "none", True: "true", False: "false"}
        words = [
            shown[one] if one is None or one is True or one is False else str(one) for one in values
        ]
        told = words[0] if len(set(words)) == 1 else " | ".join(words)
        place = lines.index(f"  --{name}={told}")
        assert lines[place + 1].strip().startswith(field.metadata["help"])
    for name in ("preset", "mode", "overwrite", "lr_range_test", "replay_step", "checkpoint"):
        assert any(line.startswith(f"  --{name}=") for line in lines)
    assert LAB.description.splitlines()[0] in out


def test_short_help_flag_wins_over_everything_but_bad_flags(capsys, refused):
    assert command.run(LAB, ["-h", "--steps=3"]) == 0
    assert "usage: python -m experiments.gpt" in capsys.readouterr().out
    assert "no such flag" in refused("--help", "--stepz=3")


def test_flag_wins_over_preset_and_preset_over_default():
    request = command.parse(LAB, ["--preset=reference", "--steps=7", "--nobias", "--clip_norm=2"])
    assert request.config().flat() == LAB.config_class().flat() | PRESETS["reference"] | {
        "steps": 7,
        "bias": False,
        "clip_norm": 2.0,
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_can_be_tried_for_a_few_steps(preset):
    request = command.parse(LAB, [f"--preset={preset}", "--steps=1"])
    assert request.config().steps == 1


def test_first_preset_is_the_default_and_names_the_folder():
    first = next(iter(PRESETS))
    request = command.parse(LAB, [])
    assert request.config().flat() == LAB.config_class.from_flat(PRESETS[first]).flat()
    assert str(request.folder().path) == f"runs/gpt-{first}"
    other = command.parse(LAB, ["--preset=reference", "--demo_unmasked"])
    assert str(other.folder().path) == "runs/gpt-reference-unmasked"
    given = command.parse(LAB, ["--workdir=mine", "--demo_unmasked"])
    assert str(given.folder().path) == "mine"


def test_optional_setting_can_be_switched_off_by_none():
    lab = command.Lab(
        **{field: getattr(LAB, field) for field in LAB.__dataclass_fields__}
        | {"presets": {"quick": {"clip_norm": 1.0, "attention_window": 8}}}
    )
    request = command.parse(lab, ["--clip_norm=none", "--attention_window=none"])
    assert request.config().optimization.clip_norm is None
    assert request.config().model.attention_window is None
    assert command.parse(lab, []).config().optimization.clip_norm == 1.0


def test_command_that_is_recorded_can_be_given_again(tiny_flags, tmp_path):
    flags = [*tiny_flags, "--steps=0", "--prompt=the king", f"--workdir={tmp_path / 'my run'}"]
    request = command.parse(LAB, flags)
    config = request.config()
    recorded = describe(request, config, LAB.load_data(config))["command"]
    assert recorded.startswith("python -m experiments.gpt --dataset=")
    assert "'--prompt=the king'" in recorded
    assert f"'--workdir={tmp_path / 'my run'}'" in recorded


def test_reader_that_hangs_up_is_no_error(tiny_flags):
    """`... --help | head -1` ends quietly."""
    result = subprocess.run(
        f"set -o pipefail; {sys.executable} -m experiments.gpt --help | head -1",
        shell=True,
        executable="/bin/bash",
        cwd=os.path.dirname(os.path.dirname(command.__file__)),
        capture_output=True,
        text=True,
    )
    assert result.stderr == ""
    assert result.stdout.startswith("A character GPT")


def test_what_fast_came_to_is_kept_by_the_run(tiny_flags, tmp_path, monkeypatch, capsys):
    measured = {"fast": 2e-3, "default": 1e-3}
    monkeypatch.setattr(precision, "measure", lambda: measured)
    flags = [*tiny_flags, "--steps=0", "--matmul_precision=fast", f"--workdir={tmp_path / 'run'}"]
    assert command.run(LAB, flags) == 0
    assert "fast 2.0 ms, default 1.0 ms; default is used" in capsys.readouterr().err
    kept = RunFolder(tmp_path / "run").read_config()
    assert kept["tuned"] == {"matmul_precision": "default"}
    assert kept["settings"]["matmul_precision"] == "fast"
    measured["fast"] = 1e-4  # on another machine, say
    assert command.run(LAB, [*flags, "--mode=sample"]) == 0
    assert capsys.readouterr().err == ""
