"""A recurrent character model: an RNN, LSTM or GRU that learns to write, its state carried along.

Source    an unpublished course write-up on recurrent networks; karpathy/char-rnn
Command   python -m experiments.char_rnn --platform=cpu
Expect    quick: TODO
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxlabs import command
from jaxlabs.analysis import text_samples
from jaxlabs.analysis.baselines import ngram_baselines
from jaxlabs.config import RUNTIME, group, setting
from jaxlabs.data import datasets
from jaxlabs.data.language import language_data, streamed_data
from jaxlabs.data.splits import Data
from jaxlabs.data.tokenizers import CharTokenizer
from jaxlabs.lab import Lab
from jaxlabs.models import char_rnn
from jaxlabs.run_folder import RunFolder
from jaxlabs.sweep_plan import Sweep
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task

TEMPERATURES = (0.7, 1.0, 1.2)
HEADING = "===== temperature "
"""Stands before the samples of each temperature."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig(text_samples.SamplingConfig):
    """How samples are drawn."""

    num_samples: int = setting(1, "samples at each temperature", minimum=1, kind=RUNTIME)
    temperature: float | None = setting(
        None, "0 takes the likeliest character; none: 0.7, 1.0 and 1.2", minimum=0, kind=RUNTIME
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CharRNNRun(RunConfig):
    """A run's settings, the model's, and those of samples."""

    dataset: str = setting(
        "tiny_shakespeare", f"one of {', '.join(datasets.NAMES)}, or the path of a UTF-8 text"
    )
    model: char_rnn.CharRNNConfig = group(char_rnn.CharRNNConfig)
    sampling: SamplingConfig = group(SamplingConfig)


# An epoch of tiny Shakespeare in 64 streams of 128 characters is 121 steps.
EPOCHS = {"eval_every": 121, "checkpoint_every": 121}
ADAM = {"learning_rate": 2e-3, "weight_decay": 0.0, "clip_norm": 1.0}

PRESETS = {
    "quick": ADAM | EPOCHS | {"steps": 1210},
    "reference": ADAM | EPOCHS | {"steps": 2420},
    "best": ADAM | EPOCHS | {"steps": 2420, "hidden": 512, "layers": 2, "dropout": 0.4},
}


def load_data(config: CharRNNRun) -> Data:
    """Reads the text, to be read from end to end, or in windows where no state is carried."""
    dataset = datasets.load(config.dataset, config.data_dir)
    context, rest = config.model.context, (config.seed, ngram_baselines)
    if config.model.carry_state:
        return streamed_data(dataset, context, config.batch_size, *rest)
    return language_data(dataset, context, *rest)


def build_task(config: CharRNNRun, vocabulary: Mapping[str, Any]) -> Task:
    """Makes the model for a text's characters, in which the prompt must be written."""
    text_samples.require_known(config.sampling.prompt, vocabulary)
    size = CharTokenizer.from_json(vocabulary).vocabulary_size
    settings = config.model.with_vocabulary(size)
    model = char_rnn.CharRNN(settings)
    init = functools.partial(model.init, tokens=jnp.zeros((1, 1), jnp.int32))
    return Task(
        model,
        init,
        char_rnn.loss,
        char_rnn.train_step,
        derive=lambda means: {"perplexity": math.exp(means["loss"])},
        init_carry=lambda batch_size: (
            char_rnn.initial_states(settings, batch_size) if settings.carry_state else None
        ),
    )


def draw_samples(
    config: CharRNNRun, task: Task, vocabulary: Mapping[str, Any], state: TrainState, key: jax.Array
) -> str:
    """Returns samples that go on from the prompt, at each temperature under a heading."""
    size = CharTokenizer.from_json(vocabulary).vocabulary_size
    params, wanted = state.evaluation_params, config.sampling.temperature
    generate = functools.partial(char_rnn.sample, task.model, params, tokens=size)
    sections = []
    for temperature in TEMPERATURES if wanted is None else (wanted,):
        sampling = dataclasses.replace(config.sampling, temperature=temperature)
        drawn = text_samples.draw(generate, sampling, vocabulary, key)
        sections.append(f"{HEADING}{temperature}\n{drawn}")
    return "\n".join(sections)


def analyse(
    config: CharRNNRun, task: Task, data: Data, state: TrainState, folder: RunFolder
) -> dict[str, float]:
    """Measures the samples, at each temperature."""
    drawn = (folder.samples / "final.txt").read_bytes().decode()  # line ends as drawn
    figures = {}
    for section in drawn.split(HEADING)[1:]:
        temperature, _, samples = section.partition("\n")
        measured = text_samples.measure(samples.removesuffix("\n"), config.sampling, data)
        figures |= {
            f"{name}_at_{temperature}" if name.startswith("sample") else name: value
            for name, value in measured.items()
        }
    return figures


LAB = Lab(
    name="char_rnn",
    description=__doc__,
    config_class=CharRNNRun,
    presets=PRESETS,
    load_data=load_data,
    build_task=build_task,
    sample=draw_samples,
    analyse=analyse,
    variant=lambda config: "" if config.model.cell == "gru" else f"-{config.model.cell}",
    sweeps={
        "cells": Sweep(
            question="Which cell predicts best after the same number of steps?",
            axes={"cell": tuple(char_rnn.CELLS), "seed": (0,)},
            metrics=("held_out_loss", "held_out_perplexity", "train_windows_loss"),
        )
    },
)

if __name__ == "__main__":
    command.main(LAB)
