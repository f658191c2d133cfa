"""The command of sequence models: every task, resumption, files and bad input."""

import numpy as np
import pytest

from jaxlabs.data.sequence_data import GRAMMARS
from jaxlabs.labs.sequence_patterns.lab import LAB, PRESETS, SequencePatternsRunConfig
from jaxlabs.models.sequence_classifier import BACKBONES
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli

pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")

SMALL = (
    "--train_sentences=200 --test_sentences=20 --embed_dim=8 --num_layers=1 --num_heads=2"
    " --mlp_dim=8"
)
SMALL += " --batch_size=16 --eval_batch_size=20 --warmup_steps=0 --beam_size=2 --optimizer=adamw"
PACE = "--steps=6 --eval_every=3 --checkpoint_every=3 --log_every=3"
BACKBONE = {
    "next_word": "lstm",
    "sentiment": "rnn",
    "tagging": "gru",
    "translation": "transformer",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """`run(task) -> (run folder, flags)`: short runs, each trained once."""
    trained = {}

    def run(task):
        if task not in trained:
            folder = RunFolder(tmp_path_factory.mktemp(task) / "run")
            flags = f"--task={task} --backbone={BACKBONE[task]} {SMALL} {PACE}".split()
            assert cli.run(LAB, [*flags, f"--workdir={folder.path}"]) == 0
            trained[task] = folder, flags
        return trained[task]

    return run


SCORES = {
    "next_word": {"accuracy", "expected_accuracy", "relative_score"},
    "sentiment": {"accuracy", "relative_score"},
    "tagging": {"accuracy", "span_f1", "relative_score"},
    "translation": {
        "exact_match",
        "greedy_bleu",
        "beam_bleu",
        "beam_exact_match",
        "relative_score",
    },
}
FIGURES = {"tagging": {"tagged_words.png"}, "translation": {"alignment.png"}}


@pytest.mark.parametrize("task", GRAMMARS)
def test_outputs_are_scores_of_both_lengths_figures_and_samples(runs, task):
    folder, _ = runs(task)
    summary = folder.read_summary()
    for split in ("test", "long"):
        assert {f"{split}_{name}" for name in SCORES[task]} <= set(summary["metrics"])
        assert any(name.startswith(f"{split}_optimal") for name in summary["baselines"])
    assert {row["split"] for row in folder.read_metrics()} == {"train", "test"}
    figures = {path.name for path in folder.figures.iterdir()}
    assert {"sequence_pattern.png"} | FIGURES.get(task, set()) <= figures
    assert (folder.samples / "final.txt").read_text().count("(target: ") == 3
    if task == "translation":
        metrics = summary["metrics"]
        assert metrics["test_exact_match"] == pytest.approx(metrics["test_greedy_exact_match"])
        with np.load(folder.arrays("alignment")) as arrays:
            np.testing.assert_allclose(arrays["maps"].sum(axis=-1), 1, atol=1e-5)
    if task == "tagging":
        metrics = summary["metrics"]
        # After six steps the argmax is sometimes a special token, which the analysis masks.
        assert metrics["test_span_f1"] == pytest.approx(metrics["test_relative_score"], abs=0.05)


def test_finished_run_can_be_rerun_evaluated_and_analyzed(runs, rerun):
    rerun(LAB, runs("tagging")[0])


PROMPTS = {
    "next_word": ("every dog", "every dog "),
    "sentiment": ("the film is not good .", "positive 0."),
    "tagging": ("we met jordan .", " jordan/"),
    "translation": ("the dog sees the moon", "  "),
}


@pytest.mark.parametrize("task", GRAMMARS)
def test_prediction_for_a_prompt(runs, task, capsys):
    folder, _ = runs(task)
    prompt, answer = PROMPTS[task]
    flags = ["--mode=sample", f"--workdir={folder.path}"]
    capsys.readouterr()  # output of the training
    assert cli.run(LAB, [*flags, f"--prompt={prompt}"]) == 0
    output = capsys.readouterr().out
    assert output.startswith(f"{prompt}\n")
    assert answer in output
    if task == "translation":
        assert len(output.splitlines()) == 3  # the prompt and two beams


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("the zork film blimp zork", "--prompt: unknown words 'zork', 'blimp'; the vocabulary is "),
        ("", "--prompt: 0 words in ''; 1 to "),
    ],
)
def test_prompt_with_unknown_words_or_none_is_an_error(runs, bad, message, capsys):
    folder, _ = runs("sentiment")
    flags = ["--mode=sample", f"--workdir={folder.path}", f"--prompt={bad}"]
    assert cli.run(LAB, flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_interrupted_run_resumes_to_the_same_end(runs, cut_off, require_same_end):
    unbroken, flags = runs("sentiment")
    folder = cut_off(unbroken)
    assert cli.run(LAB, [*flags, f"--workdir={folder.path}"]) == 0
    require_same_end(folder, unbroken)


@pytest.mark.slow
def test_training_on_a_file_of_tags_has_no_optimum(tmp_path, capsys):
    path = tmp_path / "mine.conll"
    blocks = [f"we{i}\tO\n10\u00a0000\tO\nNew York\tB-PER\n" for i in range(12)]
    blocks[1] = blocks[2]
    path.write_text("\n".join(blocks))
    folder = RunFolder(tmp_path / "run")
    flags = f"--task=tagging --backbone=gru {SMALL} --steps=2 --eval_every=2".split()
    assert cli.run(LAB, [*flags, f"--dataset={path}", f"--workdir={folder.path}"]) == 0
    summary = folder.read_summary()
    assert "test_span_f1" in summary["metrics"]
    assert not [name for name in summary["metrics"] if "optimum" in name]
    assert not [name for name in summary["baselines"] if "optimal" in name]
    output = capsys.readouterr().err
    assert f"{path}: 1 of 12 sentences are duplicates and are ignored\n" in output
    prompt = "we3 New\u00a0York 10\u00a0000"
    assert cli.run(LAB, ["--mode=sample", f"--workdir={folder.path}", f"--prompt={prompt}"]) == 0
    assert "New\u00a0York/" in capsys.readouterr().out


@pytest.mark.slow
def test_perfect_short_translations_have_the_maximum_bleu(tmp_path):
    words = {f"w{i}": f"t{i}" for i in range(4)}
    pairs = [f"{a} {b}\t{words[a]} {words[b]}" for a in words for b in words]
    path = tmp_path / "mine.tsv"
    path.write_text("\n".join(pairs))
    folder = RunFolder(tmp_path / "run")
    flags = f"--task=translation --backbone=gru {SMALL} --steps=2 --eval_every=2".split()
    assert cli.run(LAB, [*flags, f"--dataset={path}", f"--workdir={folder.path}"]) == 0
    baselines = folder.read_summary()["baselines"]
    assert baselines["test_word_for_word_exact_match"] == 1
    assert baselines["test_word_for_word_bleu"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--beam_size=0", "--beam_size: 0 is not accepted; an integer of at least 1"),
        ("--backbone=lsmt", "--backbone: 'lsmt' is not accepted"),
        ("--task=tags", "--task: 'tags' is not accepted; one of next_word, sentiment, tagging"),
        ("--dataset=nowhere.tsv", "--dataset: no data set or file 'nowhere.tsv'"),
        ("--prompt=zork", "--prompt: unknown words 'zork'"),
    ],
)
def test_bad_input_is_an_error_of_one_line_without_a_run_folder(flag, message, refused):
    assert message in refused(LAB, *SMALL.split(), flag)


def test_wrong_number_of_columns_is_named_with_the_line(tmp_path, refused):
    path = tmp_path / "mine.conll"
    path.write_text("We PRP O\nmet O\n")
    error = refused(LAB, "--task=tagging", f"--dataset={path}")
    assert f"{path}, line 2: 2 columns; 3 as in most lines are needed" in error


def test_sweep_compares_all_backbones():
    points = LAB.sweeps["backbones"].points()
    assert [point["backbone"] for point in points if point["seed"] == 0] == list(BACKBONES)
    quick = [PRESETS["quick"] | {"backbone": backbone} for backbone in BACKBONES]
    depths = [SequencePatternsRunConfig.from_flat(settings).model.depth for settings in quick]
    assert depths == [2, 2, 2, 4]
