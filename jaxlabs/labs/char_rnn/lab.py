"""A language model, by default of characters, with an RNN, LSTM or GRU: truncated BPTT.

Source    an unpublished course write-up on recurrent networks; karpathy/char-rnn
Command   python -m experiments.char_rnn --platform=cpu
Expect    quick: held-out loss about 1.54 nats; best: 1.487
"""

import dataclasses
import functools

import jax.numpy as jnp

from jaxlabs import keys
from jaxlabs.analysis import text_sampling
from jaxlabs.analysis.baselines import ngram_baselines
from jaxlabs.config import group, setting
from jaxlabs.data import texts, tokenizers
from jaxlabs.data.dataset import DataModule, DataSpec
from jaxlabs.data.lm_data import bptt_data, lm_data
from jaxlabs.labs.char_rnn import published
from jaxlabs.layers.rnn_cells import CELLS
from jaxlabs.losses.cross_entropy import perplexity
from jaxlabs.models import char_rnn
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.lab import Lab
from jaxlabs.runner.sweep_plan import Sweep, precision_sweep
from jaxlabs.training.run_config import TextRunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class CharRNNRunConfig(TextRunConfig):
    """Settings of a run, of the model and of sampling."""

    dataset: str = setting("tiny_shakespeare", texts.PATH, path_unless=texts.NAMES)
    files: texts.TextFilesConfig = group(texts.TextFilesConfig, section="data")
    tokenizer: str = setting("char", tokenizers.HELP, path_unless=tokenizers.NAMES, section="data")
    model: char_rnn.CharRNNConfig = group(char_rnn.CharRNNConfig)
    sampling: text_sampling.TemperedSamplingConfig = group(text_sampling.TemperedSamplingConfig)

    def check(self) -> None:
        super().check()
        tokenizers.parse(self.tokenizer)


STEPS_PER_EPOCH = 121
"""Steps of an epoch of tiny Shakespeare in 64 streams of 128 characters."""

COMMON = {
    "grad_clip_norm": 1.0,
    "weight_decay": 0.0,
    "eval_every": STEPS_PER_EPOCH,
    "checkpoint_every": STEPS_PER_EPOCH,
}
MUON = {
    "optimizer": "muon",
    "learning_rate": 3e-3,
    "lr_schedule": "linear",
    "recurrent_init": "orthogonal",
}

PRESETS = {
    "quick": {
        **COMMON,
        **MUON,
        "steps": 7 * STEPS_PER_EPOCH,
        "decay_steps": 600,
    },
    "reference": {
        **COMMON,
        "learning_rate": 2e-3,
        "steps": 20 * STEPS_PER_EPOCH,
    },
    "best": {
        **COMMON,
        **MUON,
        "hidden_size": 512,
        "num_layers": 2,
        "dropout": 0.25,
        "batch_size": 32,
        "steps": 14 * STEPS_PER_EPOCH,
        "decay_steps": 1200,
        "eval_every": 2 * STEPS_PER_EPOCH,
        "checkpoint_every": 2 * STEPS_PER_EPOCH,
    },
}


def load_data(config: CharRNNRunConfig) -> DataModule:
    """Loads the text as contiguous streams, or as random windows for a stateless model."""
    dataset = texts.load(config.dataset, config.data_dir, files=config.files)
    context, rest = config.model.bptt_length, (config.seed, ngram_baselines)
    tokens = {
        "tokenizer": config.tokenizer,
        "data_dir": config.data_dir,
        "eval_tokens": config.eval_tokens,
    }
    if config.model.stateful:
        return bptt_data(dataset, context, config.batch_size, *rest, **tokens)
    return lm_data(dataset, context, *rest, argument="bptt_length", **tokens)


def build_task(config: CharRNNRunConfig, data_spec: DataSpec) -> Task:
    """Builds the model; raises if the prompt has characters or words outside the vocabulary."""
    tokenizer = tokenizers.load(data_spec)
    config.sampling.encode_prompt(tokenizer)
    settings = config.model.with_vocabulary(tokenizer.vocab_size)
    model = char_rnn.CharRNN(settings)
    init = functools.partial(model.init, tokens=jnp.zeros((1, 1), jnp.int32))
    return Task(
        model,
        init,
        char_rnn.loss,
        char_rnn.train_step,
        derived_metrics=perplexity,
        init_carry=lambda batch_size: (
            char_rnn.initial_states(settings, batch_size) if settings.stateful else None
        ),
    )


sample = text_sampling.sampler(char_rnn.sample)


def analyze(
    config: CharRNNRunConfig, task: Task, data: DataModule, state: TrainState, folder: RunFolder
) -> dict[str, float]:
    """Evaluates the samples at each temperature."""
    key = keys.at_step(config.seed, "sample", state.step)
    samples = sample(config, task, data.data_spec, state, key)
    return text_sampling.measure(samples, config.sampling, data)


LAB = Lab(
    name="char_rnn",
    description=__doc__,
    config_class=CharRNNRunConfig,
    presets=PRESETS,
    load_data=load_data,
    build_task=build_task,
    sample=sample,
    analyze=analyze,
    published=published.PUBLISHED_RESULTS,
    main_metrics=("held_out_loss", "held_out_windows_loss"),
    run_suffix=lambda config: "" if config.model.cell == "gru" else f"-{config.model.cell}",
    sweeps={
        "cells": Sweep(
            question="Which cell has the lowest loss after the same number of steps?",
            axes={"cell": tuple(CELLS)},
            metrics=("held_out_loss", "held_out_perplexity", "train_windows_loss"),
        ),
        "precision": precision_sweep(
            "held_out_loss", "train_windows_loss", steps=300, eval_every=300
        ),
    },
)
