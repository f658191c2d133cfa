"""The command of the speech classifier, and its presets."""

import jax
import numpy as np
import pytest

from jaxlabs import keys
from jaxlabs.data import speeches
from jaxlabs.labs.speech_classifier import lab as speech_classifier
from jaxlabs.labs.speech_classifier.lab import LAB, PRESETS, SpeechClassifierRunConfig
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli
from jaxlabs.training.state import count_parameters

pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")

WORDS = {"kind": "words", "words": [f"{number:04}" for number in range(5636)]}
STEPS = 330


# Presets


def parameters(preset):
    config = SpeechClassifierRunConfig.from_flat(PRESETS[preset])
    task = speech_classifier.build_task(config, WORDS)
    return count_parameters(jax.eval_shape(task.init, keys.stream(0, "init"))["params"])


def test_reference_has_the_settings_of_the_write_up():
    settings = SpeechClassifierRunConfig.from_flat(PRESETS["reference"]).flat()
    write_up = {
        **{"dataset": "speeches", "vocab_size": 5755, "context_length": 32, "batch_size": 16},
        **{
            "embed_dim": 64,
            "num_layers": 4,
            "num_heads": 2,
            "mlp_dim": 256,
            "hidden_size": 100,
            "num_classes": 3,
        },
        **{"positions": "learned", "pre_norm": True, "activation": "relu", "class_weights": False},
        **{"embedding_init_std": 1.0, "dropout": 0.0, "word_dropout": 0.0, "head_dropout": 0.0},
        **{"label_smoothing": 0.0, "ngram_hash_buckets": 0, "min_count": 1, "ema_decay": 0.0},
        **{"steps": 15 * 131, "optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.0},
        **{"lr_schedule": "constant", "warmup_steps": 0, "validation_fraction": 0.0},
    }
    assert {name: settings[name] for name in write_up} == write_up
    assert parameters("reference") == 576_467


@pytest.mark.parametrize("preset", ["quick", "best"])
def test_preset_has_no_more_parameters_than_the_reference(preset):
    assert parameters(preset) <= 576_467
    config = SpeechClassifierRunConfig.from_flat(PRESETS[preset])
    assert config.model.vocab_size is None  # the actual vocabulary size
    assert (
        config.validation_fraction == 0
    )  # hyperparameters were selected with it; the run trains on all sentences


# The command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(run folder, flags) of a run on synthetic sentences."""
    folder = RunFolder(tmp_path_factory.mktemp("speech_classifier") / "run")
    pace = f"--steps={STEPS} --eval_every=110 --checkpoint_every=110 --validation_fraction=0.2"
    model = "--context_length=12 --embed_dim=16 --ngram_hash_buckets=2000 --label_smoothing=0.01"
    flags = f"--dataset=speaker_grammar {pace} {model}".split()
    assert cli.run(LAB, [*flags, f"--workdir={folder.path}"]) == 0
    return folder, flags


def test_finished_run_can_be_rerun_evaluated_and_analyzed(run, rerun):
    rerun(LAB, run[0])


def test_accuracy_is_close_to_the_bayes_accuracy_and_not_above(run):
    summary = run[0].read_summary()
    metrics, baselines = summary["metrics"], summary["baselines"]
    count = 750
    optimum = baselines["bayes_accuracy"]
    standard_error = (optimum * (1 - optimum) / count) ** 0.5
    assert optimum - 0.06 < metrics["test_accuracy"] < optimum + 3 * standard_error
    assert metrics["test_loss"] > baselines["bayes_loss"] - 0.05
    assert baselines["constant_accuracy"] < 0.4


def test_outputs_are_confusion_matrices(run):
    folder, _ = run
    metrics = folder.read_summary()["metrics"]
    with np.load(folder.arrays("confusion")) as arrays:
        counts, splits = arrays["counts"], arrays["splits"].tolist()
    assert splits == ["test", "test_unseen"]
    assert counts[0].sum() == 750
    assert np.trace(counts[0]) / 750 == pytest.approx(metrics["test_accuracy"])
    assert np.trace(counts[1]) / counts[1].sum() == pytest.approx(metrics["test_unseen_accuracy"])
    for number, speaker in enumerate(speeches.SPEAKERS):
        own = counts[0][number, number] / counts[0][number].sum()
        assert metrics[f"test_{speaker}_accuracy"] == pytest.approx(own)
    assert {"confusion.png", "loss.png"} <= {path.name for path in folder.figures.iterdir()}
    assert metrics["attention_row_sum_error"] < 1e-5
    assert "validation" in {row["split"] for row in folder.read_metrics()}
    sample = (folder.samples / "final.txt").read_text().splitlines()
    assert len(sample) == 6
    assert "(label: Obama)" in sample[0]


def test_prediction_for_a_prompt(run, capsys):
    folder, _ = run
    flags = ["--mode=sample", f"--workdir={folder.path}"]
    assert cli.run(LAB, [*flags, "--prompt=tonight we choose peace."]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(": tonight we choose peace.")
    assert line.partition(":")[0] in speeches.SPEAKERS.values()
    for prompt, message in [
        ("zork blimp", "--prompt: all words of 'zork blimp' are out of vocabulary;"),
        (" ", "--prompt: ' ' has no word; at least one is needed"),
    ]:
        assert cli.run(LAB, [*flags, f"--prompt={prompt}"]) == 2
        assert message in capsys.readouterr().err


def test_interrupted_run_resumes_to_the_same_end(run, cut_off, require_same_end):
    unbroken, flags = run
    folder = cut_off(unbroken)
    assert cli.run(LAB, [*flags, f"--workdir={folder.path}"]) == 0
    require_same_end(folder, unbroken)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--num_heads=3", "--num_heads: 3 does not divide --embed_dim"),
        ("--dataset=speches", "did you mean 'speeches'"),
        ("--validation_fraction=1", "--validation_fraction: 1.0 is not accepted; "),
        ("--vocab_size=7", "--vocab_size: 7 is too few for the data; at least 46"),
        ("--prompt=zork", "--prompt: all words of 'zork' are"),
    ],
)
def test_bad_input_is_an_error_of_one_line_without_a_run_folder(flag, message, refused):
    assert message in refused(LAB, "--dataset=speaker_grammar", flag)


def test_malformed_file_is_named_with_the_line(tmp_path, refused):
    folder = tmp_path / "speeches"
    folder.mkdir()
    for name in speeches.FILES:
        (folder / name).write_text("0\tYes.\n5\tNo.\n")
    error = refused(LAB, f"--dataset={folder}")
    assert f"{folder / 'train_CLS.tsv'}, line 2: label '5' is not accepted; 0, 1, 2" in error
