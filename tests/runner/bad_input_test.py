"""Invalid input: one line on stderr, status 2, and no file written."""

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest

import jaxlabs
from jaxlabs.config import ArgumentError, UserError
from jaxlabs.labs.gpt.lab import LAB, PRESETS
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli

pytestmark = pytest.mark.usefixtures("reused_executables")


def contents(path):
    """Returns the bytes of every file below a folder."""
    return {
        str(found.relative_to(path)): found.read_bytes() if found.is_file() else None
        for found in path.rglob("*")
    }


NUMBER = "is not accepted; an integer"
FLAG_ERRORS = {
    "--widht=3": "--widht: unknown flag; did you mean 'embed_dim'?",
    "--xyzzy=3": "--xyzzy: unknown flag; --help lists all flags",
    "--preset=quik": "--preset: 'quik' is not accepted; one of {presets}; did you mean 'quick'?",
    "--mode=trian": "--mode: 'trian' is not accepted; one of train, sample, evaluate, analyze, "
    "export, lr_range, replay, plan; did you mean 'train'?",
    "--checkpoint=worst": "--checkpoint: 'worst' is not accepted; one of latest, best",
    "--platform=cup": "--platform: 'cup' is not accepted; one of auto, cpu, gpu, tpu; "
    "did you mean 'cpu'?",
    "--activation=rleu": "--activation: 'rleu' is not accepted; one of ",
    "--embed_dim=-3": f"--embed_dim: -3 {NUMBER} of at least 1",
    "--context_length=0": f"--context_length: 0 {NUMBER} of at least 1",
    "--batch_size=0": f"--batch_size: 0 {NUMBER} of at least 1",
    "--steps=-1": f"--steps: -1 {NUMBER} of at least 0",
    "--seed=4294967296": f"--seed: 4294967296 {NUMBER} of at least 0 and of at most 4294967295",
    "--learning_rate=0": "--learning_rate: 0.0 is not accepted; a number above 0",
    "--learning_rate=nan": "--learning_rate: nan is not accepted; a number above 0",
    "--temperature=-1": "--temperature: -1.0 is not accepted; a number of at least 0",
    "--embed_dim=many": f"--embed_dim: 'many' {NUMBER}",
    "--embed_dim=1.5": f"--embed_dim: '1.5' {NUMBER}",
    "--embed_dim=none": f"--embed_dim: 'none' {NUMBER}",
    "--embed_dim=": f"--embed_dim: '' {NUMBER}",
    "--grad_clip_norm=much": "--grad_clip_norm: 'much' is not accepted; a number or none",
    "--bias=perhaps": "--bias: 'perhaps' is not accepted; true or false",
    "--overwrite=perhaps": "--overwrite: 'perhaps' is not accepted; true or false",
    "--prompt=": "--prompt: '' is not accepted; one character or more",
    "--num_heads=5": "--num_heads: 5 does not divide --embed_dim 16; a divisor",
    "--batch_size=6": "--batch_size: 6 does not divide over 4 devices x 1 micro-batches; "
    "a multiple of 4",
    "--grad_accum_steps=3": "--batch_size: 4 does not divide over 4 devices x 3 micro-batches; "
    "a multiple of 12",
    "--eval_batch_size=3": "--eval_batch_size: 3 does not divide over 4 devices",
    "--lr_schedule=cosine --warmup_steps=99": "--warmup_steps: 99 is not accepted with a cosine "
    "schedule of --steps 4; an integer below the number of steps",
    "--num_processes=2": "--coordinator: missing with --num_processes 2; ",
    "--process_id=1": "--process_id: 1 is not accepted; below --num_processes 1",
    "--vocab_size=3": "--vocab_size: 3 is too few for the data; at least 2",
    "--prompt=ROΩEO☃": "--prompt: unknown characters 'Ω', '☃'; the 2",
    "--attention_text=king|ROΩEO": "--attention_text: unknown characters 'Ω'; the 2",
    "--attention_text=king|": "--attention_text: 'king|' is not accepted; texts of at least one",
    "--mode=replay --replay_step=0": "--replay_step: 0 is not accepted; a step from 1 to 4",
    "--mode=replay --replay_step=5": "--replay_step: 5 is not accepted; a step from 1 to 4",
    "train": "unexpected argument 'train'; use --name=value",
    "--embed_dim=16 16": "unexpected argument '16'; use --name=value",
    "--seed": "Missing value for flag --seed",
    "--dataset=shakespeare": "--dataset: no data set or file 'shakespeare'; accepted are "
    "tiny_shakespeare, python_reference, markov, toy_words or the path to a UTF-8 text file, "
    "or a folder of them; did you mean 'tiny_shakespeare'?",
    "--dataset=": "--dataset: no data set or file ''; ",
    "--workdir=": "--workdir: '' is not accepted; ",
}


@pytest.mark.parametrize("flags", FLAG_ERRORS)
def test_invalid_flag_gives_one_line_with_the_accepted_values(flags, refused, tiny_flags, here):
    line = refused(*tiny_flags, "--steps=4", *flags.split())
    assert line.startswith(FLAG_ERRORS[flags].format(presets=", ".join(PRESETS)))
    assert contents(here) == {}


def test_argument_of_the_library_has_dashes_where_it_is_a_flag_of_the_lab():
    assert cli.error_line(LAB, ArgumentError("num_heads", "3 is not accepted")) == (
        "--num_heads: 3 is not accepted"
    )
    assert cli.error_line(LAB, ArgumentError("replay_step", "9")) == "--replay_step: 9"
    assert cli.error_line(LAB, ArgumentError("mask", "of rank 2")) == "mask: of rank 2"
    assert cli.error_line(LAB, UserError("book.txt: empty")) == "book.txt: empty"


FILES = {
    "empty": (b"", "the file is empty; a UTF-8 text file is needed"),
    "latin-1": ("Größe und Maß".encode("latin-1"), "not UTF-8 (byte 0xf6 at offset 2); save it as"),
    "binary": (b"\x00\x01\xff", "not UTF-8 (byte 0xff at offset 2)"),
}


@pytest.mark.parametrize("name", FILES)
def test_dataset_file_that_is_not_text_is_refused(name, refused, tiny_flags, tmp_path):
    content, reason = FILES[name]
    path = tmp_path / "book.txt"
    path.write_bytes(content)
    assert refused(*tiny_flags, f"--dataset={path}").startswith(f"{path}: {reason}")
    assert contents(tmp_path) == {"book.txt": content}


def test_text_shorter_than_one_context_is_refused_with_both_numbers(refused, tiny_flags, tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("ab" * 80)
    line = refused(*tiny_flags, f"--dataset={path}")
    assert line.startswith("--context_length=16: the text (or its held-out part) has 16 tokens")
    assert line.endswith("at least 17")
    assert list(contents(tmp_path)) == ["book.txt"]
    path.write_text("ab" * 85)
    LAB.load_data(cli.parse(LAB, [*tiny_flags, f"--dataset={path}"]).config())


def test_missing_file_and_folder_as_data_set_are_named(refused, tiny_flags, tmp_path):
    missing = tmp_path / "missing.txt"
    assert f"no data set or file '{missing}'" in refused(*tiny_flags, f"--dataset={missing}")
    line = refused(*tiny_flags, f"--dataset={tmp_path}")
    assert line.startswith(f"{tmp_path}: the folder has no text; a UTF-8 text file is needed")
    assert contents(tmp_path) == {}
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n{"content": "x"}\n')
    line = refused(*tiny_flags, f"--dataset={tmp_path}")
    assert line.startswith(f"--text_key: 'text' is not in {tmp_path / 'a.jsonl'}, line 2; its keys")


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
        f"--workdir: {nowhere} holds no config.json; the folder of a trained run is needed"
    )
    assert not nowhere.exists()
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(trained / "config.json", run)
    assert refused(f"--mode={mode}", f"--workdir={run}") == (
        f"--workdir: {run} holds no checkpoint yet; train first"
    )
    assert list(contents(run)) == ["config.json"]


def test_reading_mode_refuses_flags_that_contradict_the_run(refused, trained):
    before = contents(trained)
    assert refused("--mode=sample", f"--workdir={trained}", "--embed_dim=32", "--seed=0") == (
        f"--embed_dim: 32 differs from 16 of the run in {trained}; leave it out"
    )
    line = refused("--mode=sample", f"--workdir={trained}", "--prompt=ROMEO? Ω")
    assert line.startswith("--prompt: unknown characters '?', 'Ω'; the 2")
    assert contents(trained) == before


def test_resuming_with_other_settings_names_them(refused, tiny_flags, trained):
    before = contents(trained)
    flags = [*tiny_flags, f"--workdir={trained}", "--steps=5", "--seed=1", "--log_every=1"]
    assert refused(*flags) == (
        f"--workdir: the run in {trained} has different settings: seed (stored 0, given 1), "
        "steps (stored 4, given 5); use the same ones, another --workdir, or --overwrite"
    )
    assert contents(trained) == before


def test_resuming_on_another_text_is_refused(refused, tiny_flags, trained, play, tmp_path):
    (tmp_path / "play.txt").write_text(play.read_text() + "ROMEO:")
    for mode in ("train", "evaluate"):
        flags = [*tiny_flags, "--steps=4", f"--workdir={trained}", f"--mode={mode}"]
        line = refused(*flags, f"--dataset={tmp_path / 'play.txt'}")
        assert "different settings: the data set's contents; use the same" in line


def test_second_writer_is_refused_and_deletes_nothing(refused, tiny_flags, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    before = contents(run)
    with RunFolder(run).writer():
        for more in (
            [],
            ["--overwrite"],
            ["--mode=lr_range"],
            ["--mode=replay", "--replay_step=1"],
        ):
            line = refused(*tiny_flags, "--steps=4", f"--workdir={run}", *more)
            assert line.startswith(f"--workdir: {run} is being written by another run; wait")
    assert contents(run) == before


def test_overwriting_a_folder_without_a_run_is_refused(refused, tiny_flags, tmp_path):
    holiday = tmp_path / "holiday" / "photo.png"
    holiday.parent.mkdir()
    holiday.write_bytes(b"irreplaceable")
    line = refused(*tiny_flags, f"--workdir={holiday.parent}", "--overwrite", "--steps=4")
    assert line.startswith(f"--overwrite: {holiday.parent} is not a run folder and not empty")
    assert contents(tmp_path) == {"holiday": None, "holiday/photo.png": b"irreplaceable"}


@pytest.mark.parametrize("config", ['{"model_type": "bert"}', "[]", "no JSON"])
def test_overwriting_a_folder_with_another_config_is_refused(refused, tiny_flags, tmp_path, config):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(config)
    line = refused(*tiny_flags, f"--workdir={tmp_path / 'model'}", "--overwrite")
    assert line.startswith(f"--overwrite: {tmp_path / 'model'} is not a run folder and not empty")
    assert contents(tmp_path) == {"model": None, "model/config.json": config.encode()}


def test_overwriting_keeps_other_files(tiny_flags, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "thesis.tex").write_text("mine")
    assert cli.run(LAB, [*tiny_flags, "--steps=0", f"--workdir={run}", "--overwrite"]) == 0
    assert (run / "thesis.tex").read_text() == "mine"


def test_overwriting_starts_over_with_other_settings(tiny_flags, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "samples" / "stale.txt").write_text("old")
    flags = [*tiny_flags, "--steps=0", "--seed=3", f"--workdir={run}", "--overwrite"]
    assert cli.run(LAB, flags) == 0
    assert RunFolder(run).read_config()["settings"]["seed"] == 3
    assert RunFolder(run).read_summary()["steps"] == 0
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["0"]
    assert not (run / "samples" / "stale.txt").exists()
    assert [row["step"] for row in RunFolder(run).read_metrics()] == [0, 0, 0]


def test_unavailable_platform_gives_one_line(tiny_flags, tmp_path, executables):
    flags = [*tiny_flags, "--platform=tpu", f"--workdir={tmp_path / 'run'}"]
    result = subprocess.run(
        [sys.executable, "-m", "experiments.gpt", *flags],
        cwd=os.path.dirname(os.path.dirname(jaxlabs.__file__)),
        env=os.environ | {"JAX_PLATFORMS": ""},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        "gpt: --platform: 'tpu' is not available on this machine; cpu always is\n"
    )
    assert contents(tmp_path) == {}


def test_missing_tracker_is_refused_before_the_folder_is_made(refused, tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "trackio" else find_spec(name)
    )
    line = refused("--track=trackio", "--dataset=markov", f"--workdir={tmp_path / 'run'}")
    assert line == "--track: trackio is not installed; pip install 'jaxlabs[trackio]'"
    assert not (tmp_path / "run").exists()
    wrong = "--track: 'trackoi' is not accepted; one of none, trackio; did you mean 'trackio'?"
    assert refused("--track=trackoi") == wrong
