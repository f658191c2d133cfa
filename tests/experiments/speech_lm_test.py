"""The command of the word language model, and its presets."""

import functools
import json
import math

import jax
import numpy as np
import optax
import pytest

from jaxlabs import keys
from jaxlabs.data import speeches
from jaxlabs.labs.speech_lm import lab as speech_lm
from jaxlabs.labs.speech_lm.lab import LAB, PRESETS, SpeechLMRunConfig
from jaxlabs.layers.cpu import dispatch
from jaxlabs.models import transformer_lm
from jaxlabs.run_folder import RunFolder
from jaxlabs.run_folder.files import SEPARATOR
from jaxlabs.runner import cli
from jaxlabs.training import gradient_check
from jaxlabs.training.state import count_parameters, create_state

pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")

WORDS = {"kind": "words", "words": sorted(f"word{number:03}" for number in range(60))}
SPLITS = ("train_text", *speeches.SPEAKERS)
TINY = {"context_length": 8, "embed_dim": 16, "mlp_dim": 12, "num_layers": 1}
STEPS = 60


def tiny(**options):
    """Config and task of the `window` preset at a small size."""
    small = {"vocab_size": 62, "attention_window": 3} | TINY
    config = SpeechLMRunConfig.from_flat(PRESETS["window"] | small | options)
    return config, speech_lm.build_task(config, WORDS)


def batch_of(size=4, time=8):
    tokens = np.random.default_rng(0).integers(2, 62, (size, time + 1), np.int32)
    return {
        "inputs": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "weights": np.ones((size, time), np.float32),
        "example_index": np.arange(size, dtype=np.int32),
    }


# Presets


def parameters(preset, words):
    config = SpeechLMRunConfig.from_flat(PRESETS[preset])
    task = speech_lm.build_task(config, {"kind": "words", "words": words})
    return count_parameters(jax.eval_shape(task.init, keys.stream(0, "init"))["params"])


def test_reference_has_the_settings_of_the_write_up():
    settings = SpeechLMRunConfig.from_flat(PRESETS["reference"]).flat()
    write_up = {
        **{"dataset": "speeches", "vocab_size": 5755, "context_length": 32, "batch_size": 16},
        **{"embed_dim": 64, "num_layers": 4, "num_heads": 2, "mlp_dim": 100, "activation": "relu"},
        **{"positions": "learned", "qkv_bias": False, "bias": True, "tie_embeddings": False},
        **{"init": "pytorch", "attention_window": None, "pre_norm": True, "norm": "layernorm"},
        **{"steps": 500, "optimizer": "adamw", "learning_rate": 1e-3, "lr_schedule": "constant"},
        **{"weight_decay": 0.0, "dropout": 0.0, "grad_clip_norm": None, "ema_decay": 0.0},
    }
    assert {name: settings[name] for name in write_up} == write_up
    window = SpeechLMRunConfig.from_flat(PRESETS["window"]).flat()
    differing = {name: value for name, value in window.items() if value != settings[name]}
    assert differing == {"attention_window": 8}


def test_best_has_the_parameter_and_step_budget_of_the_reference():
    words = [f"{number:04}" for number in range(5636)]  # the vocabulary size of the speeches
    assert parameters("reference", words) == parameters("window", words) == 863_243
    assert parameters("best", words) <= 863_243
    best = SpeechLMRunConfig.from_flat(PRESETS["best"])
    assert (best.steps, best.batch_size, best.model.context_length) == (500, 16, 32)


# The command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(run folder, flags) of a run on synthetic sentences."""
    folder = RunFolder(tmp_path_factory.mktemp("speech_lm") / "run")
    pace = "--steps=60 --eval_every=30 --checkpoint_every=30 --log_every=10 --sliding_stride=8"
    model = " ".join(f"--{name}={value}" for name, value in TINY.items())
    flags = f"--preset=window --dataset=speaker_grammar {pace} {model} --vocab_size=128"
    flags = f"{flags} --attention_window=3 --learning_rate=1e-2 --max_new_tokens=12".split()
    assert cli.run(LAB, [*flags, f"--workdir={folder.path}"]) == 0
    return folder, flags


def test_summary_has_perplexities_in_both_conventions_and_baselines(run):
    summary = run[0].read_summary()
    metrics = summary["metrics"]
    for split in SPLITS:
        for name in (split, f"{split}_sliding"):
            expected = math.exp(metrics[f"{name}_loss"])
            assert metrics[f"{name}_perplexity"] == pytest.approx(expected)
    for speaker in speeches.SPEAKERS:
        assert metrics[f"{speaker}_unknown"] == 0  # all words of the grammar occur in training
        assert metrics[f"{speaker}_loss"] < summary["baselines"]["unigram"]
        assert metrics[f"{speaker}_loss"] > summary["baselines"]["entropy_rate"]
    assert metrics["attention_future_weight"] == metrics["attention_weight_beyond_window"] == 0
    rows = run[0].read_metrics()
    assert {row["step"] for row in rows if "perplexity" in row} == {0, 30, 60}


def test_finished_run_can_be_rerun_evaluated_and_analyzed(run, rerun):
    rerun(LAB, run[0])


def test_samples_continue_a_prompt_of_known_words(run, capsys):
    folder, _ = run
    word = speeches.load("speaker_grammar").train_text.split()[0]
    flags = ["--mode=sample", f"--workdir={folder.path}", "--num_samples=2"]
    hot = ["--temperature=5", "--max_new_tokens=30"]  # padding rows of the vocabulary would show
    assert cli.run(LAB, [*flags, *hot, f"--prompt={word} {word}"]) == 0
    samples = capsys.readouterr().out.removesuffix("\n").split(SEPARATOR)
    assert len(samples) == 2
    for sample in samples:
        assert sample.lower().startswith(f"{word} {word}".lower())
        assert len(sample.split()) > 20  # some of the 32 are punctuation
    for prompt, message in [
        (f"{word} zork blimp", "--prompt: unknown words 'zork', 'blimp'; words of the training"),
        (" ", "--prompt: ' ' is not accepted; one word or more"),
    ]:
        assert cli.run(LAB, [*flags, f"--prompt={prompt}"]) == 2
        assert message in capsys.readouterr().err


def test_interrupted_run_resumes_to_the_same_end(run, cut_off, require_same_end):
    unbroken, flags = run
    folder = cut_off(unbroken)
    assert cli.run(LAB, [*flags, f"--workdir={folder.path}"]) == 0
    require_same_end(folder, unbroken)
    assert (folder.samples / "final.txt").read_text() == (
        unbroken.samples / "final.txt"
    ).read_text()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--attention_window=0", "--attention_window: 0 is not accepted; an integer of at"),
        ("--dataset=speches", "did you mean 'speeches'"),
        ("--validation_fraction=1", "--validation_fraction: 1.0 is not accepted"),
        ("--context_length=100000", "--context_length=100000: the text"),
    ],
)
def test_bad_input_is_an_error_of_one_line_without_a_run_folder(flag, message, refused):
    assert message in refused(LAB, "--dataset=speaker_grammar", flag)


def test_sweeps_compare_windows_with_full_attention():
    for sweep in LAB.sweeps.values():
        points = sweep.points()
        assert points[0] == {"attention_window": None, "seed": 0}
        assert {"attention_window": 8, "seed": 4} in points
        assert all(name.endswith("_perplexity") for name in sweep.metrics)
        assert json.dumps(points)


# The step


@pytest.fixture(scope="module")
def start():
    """`start(tx, **options) -> state`: a new state with fixed initial parameters."""
    _, task = tiny()
    params = jax.device_get(jax.jit(task.init)(keys.stream(0, "init"))["params"])

    def begin(tx, **options):
        _, other = tiny(**options)
        return create_state(other.model, {"params": jax.tree.map(np.array, params)}, tx)

    return begin


def test_overfits_one_batch(start):
    state, batch = start(optax.adam(1e-2)), batch_of()
    for step in range(100):
        state, metrics = transformer_lm.train_step(state, batch, keys.stream(step, "step"))
    assert float(metrics["loss"]) < 0.05


def test_four_devices_take_the_step_of_one(start):
    # The update of SGD with learning rate 1 is the gradient.
    states = [start(optax.sgd(1.0), dropout=0.3) for _ in range(2)]
    key, batch = keys.stream(0, "step"), batch_of()
    one, metrics = transformer_lm.train_step(states[0], batch, key)
    step = functools.partial(transformer_lm.train_step, axis_name="batch")
    mapped = jax.pmap(step, "batch", in_axes=(None, 0, None), devices=jax.devices()[:4])
    split = {name: leaf[:, None] for name, leaf in batch.items()}
    four, spread = mapped(states[1], split, key)
    np.testing.assert_allclose(spread["loss"], float(metrics["loss"]), rtol=1e-6)
    for theirs, ours in zip(*map(jax.tree.leaves, (four.params, one.params)), strict=True):
        np.testing.assert_allclose(theirs[3], ours, atol=1e-6)


def test_gradient_of_the_loss_through_the_band_in_float64(start, monkeypatch):
    monkeypatch.setattr(dispatch, "MIN_BLOCK_LOCAL", 1)
    monkeypatch.setattr(dispatch, "WINDOWS_PER_SEQUENCE", 1)
    state, batch = start(optax.identity(), attention_window=2), batch_of(size=2)
    batch["weights"][1, 5:] = 0
    assert dispatch.prefer_block_local(2, batch["inputs"].shape[1])

    def total(params):
        return transformer_lm.loss(
            state.model, {"params": params}, batch, keys.stream(0, "x"), train=False
        ).loss_sum

    result = gradient_check.check(total, state.params, key=jax.random.key(0), directions=4)
    assert result.worst.relative_difference < 1e-6, str(result)
