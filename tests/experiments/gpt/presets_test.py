"""The presets of the character GPT: settings, initial loss, and overfitting one batch."""

import math

import jax
import numpy as np
import pytest

from jaxlabs import keys
from jaxlabs.data.tokenizers import CharTokenizer
from jaxlabs.labs.gpt import lab as gpt
from jaxlabs.labs.gpt.lab import LAB, PRESETS, GPTRunConfig
from jaxlabs.training import devices
from jaxlabs.training.initial_state import initial_state
from jaxlabs.training.state import count_parameters

pytestmark = pytest.mark.usefixtures("reused_executables")

SIXTY_FIVE = CharTokenizer("".join(map(chr, range(65, 130)))).to_json()


def parameters(preset):
    config = GPTRunConfig.from_flat(PRESETS[preset])
    task = gpt.build_task(config, SIXTY_FIVE)
    return count_parameters(jax.eval_shape(task.init, keys.stream(0, "init"))["params"])


def test_reference_has_the_settings_of_the_write_ups():
    settings = GPTRunConfig.from_flat(PRESETS["reference"]).flat()
    write_up = {
        "dataset": "tiny_shakespeare",
        "context_length": 256,
        "embed_dim": 384,
        "num_layers": 6,
        "num_heads": 6,
        "mlp_dim": 1536,
        "activation": "relu",
        "dropout": 0.2,
        "positions": "sinusoidal",
        "qkv_bias": False,
        "bias": True,
        "norm": "layernorm",
        "attention_window": None,
        "no_causal_mask": False,
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "lr_schedule": "constant",
        "warmup_steps": 0,
        "batch_size": 64,
        "steps": 2000,
    }
    assert {name: settings[name] for name in write_up} == write_up
    assert parameters("reference") == 10_690_625


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_has_no_more_parameters_than_the_reference(preset):
    assert parameters(preset) <= 10_690_625


@pytest.mark.parametrize(
    "preset",
    [
        "quick",
        *(pytest.param(p, marks=pytest.mark.slow) for p in ("reference", "speedrun")),
    ],
)
def test_initial_loss_is_ln_65(preset):
    """Random weights raise the mean loss by up to 1.8 %, and single samples by more than 2 %."""
    config = GPTRunConfig.from_flat(PRESETS[preset] | {"context_length": 32})
    task = gpt.build_task(config, SIXTY_FIVE)
    init, batch = jax.jit(task.init), random_batch(64, 32, 65)

    @jax.jit
    def initial_loss(params):
        key = keys.stream(0, "x")
        parts = task.loss(task.model, {"params": params}, batch, key, train=False)
        return parts.loss_sum / parts.weight_sum

    losses = [float(initial_loss(init(keys.stream(seed, "init"))["params"])) for seed in range(8)]
    assert np.mean(losses) == pytest.approx(math.log(65), rel=0.02)
    assert np.max(losses) < 1.03 * math.log(65)


@pytest.mark.parametrize(
    ("name", "setting", "first"),
    [
        ("matmul_precision", "matmul_precision", "highest"),
        ("precision", "compute_dtype", "float32"),
    ],
)
def test_precision_sweeps_pair_bfloat16_and_float32_by_seed(name, setting, first):
    sweep = LAB.sweeps[name]
    points = [PRESETS["reference"] | sweep.settings | point for point in sweep.points()]
    runs = [GPTRunConfig.from_flat(point).flat() for point in points]
    assert [run[setting] for run in runs] == 3 * [first] + 3 * ["bfloat16"]
    assert [run["seed"] for run in runs] == [0, 1, 2, 0, 1, 2]
    assert {run["steps"] for run in runs} == {300}


def random_batch(size, context, vocabulary):
    tokens = np.random.default_rng(0).integers(0, vocabulary, (size, context + 1), np.int32)
    return {
        "inputs": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "weights": np.ones((size, context), np.float32),
        "example_index": np.arange(size, dtype=np.int32),
    }


def test_overfits_one_batch():
    flags = {
        "context_length": 16,
        "embed_dim": 32,
        "mlp_dim": 64,
        "num_layers": 1,
        "num_heads": 2,
        "dropout": 0.0,
    }
    config = GPTRunConfig.from_flat(flags | {"learning_rate": 1e-2, "steps": 200})
    task = gpt.build_task(config, SIXTY_FIVE)
    state = initial_state(task, config, devices.data_parallel())
    batch = random_batch(4, 16, 65)
    for step in range(config.steps):
        state, metrics = task.train_step(state, batch, keys.stream(step, "step"))
    assert float(metrics["loss"]) < 0.05
