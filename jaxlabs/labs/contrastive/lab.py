"""Contrastive image-text pretraining with the CLIP or the SigLIP loss, on digits with captions.

The trained dual encoder classifies digits zero-shot, by text prompts.

Source    Radford et al. 2021 (CLIP); Zhai et al. 2023 (SigLIP); neither is about digits
Command   python -m experiments.contrastive --platform=cpu --loss=clip
Expect    quick: zero-shot accuracy of 98.9 % on the MNIST test digits, with prompts like "a seven"
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxlabs.config import ArgumentError, group, positive, runtime, setting
from jaxlabs.data import captions, images
from jaxlabs.data.dataset import DataModule, DataSpec
from jaxlabs.data.tokenizers import WordTokenizer
from jaxlabs.labs.contrastive import contrastive_optimum, plots, zero_shot
from jaxlabs.models import dual_encoder
from jaxlabs.models.image_classifier import check_divisible
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.lab import Lab
from jaxlabs.runner.sweep_plan import Sweep
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastiveRunConfig(RunConfig):
    """Settings of a run and of the model."""

    dataset: str = setting(
        "mnist", "the path of a folder of digits in sub-folders 0 to 9", path_unless=images.NAMES
    )
    num_eval_examples: int | None = positive(
        None,
        "number of test pairs per evaluation, the first ones; none: all",
        aliases=("test_pairs",),
        section="evaluation",
    )
    prompt: str = runtime("a heavy seven", "text of the nearest-caption query", section="sampling")
    model: dual_encoder.DualEncoderConfig = group(dual_encoder.DualEncoderConfig)

    def check(self) -> None:
        super().check()
        if self.batch_size < 2:
            raise ArgumentError(
                "batch_size",
                f"{self.batch_size} is not accepted; at least 2, since the other pairs are the"
                " negatives",
            )


QUICK = {
    "steps": 900,
    "batch_size": 256,
    "learning_rate": 3e-3,
    "lr_schedule": "cosine",
    "warmup_steps": 50,
    "weight_decay": 0.05,
    "eval_batch_size": 256,
    "eval_every": 300,
    "checkpoint_every": 900,
}

PRESETS = {
    "quick": QUICK,
    "best": {
        **QUICK,
        "steps": 6000,
        "eval_every": 1000,
        "checkpoint_every": 1000,
    },
}

SWEEP_PAIRS = 120_000
"""Training pairs of every run of the sweep over batch sizes."""


def scale_by_batch_size(point: Mapping[str, Any]) -> dict[str, Any]:
    """Returns steps and learning rate, by Adam's square-root scaling rule (Malladi et al. 2022)."""
    steps = SWEEP_PAIRS // point["batch_size"]
    rate = QUICK["learning_rate"] * math.sqrt(point["batch_size"] / QUICK["batch_size"])
    return {"steps": steps, "learning_rate": rate, "warmup_steps": steps // 20}


def load_data(config: ContrastiveRunConfig) -> DataModule:
    """Loads images of digits and their captions."""
    dataset = images.load(config.dataset, config.data_dir)
    data = captions.caption_data(dataset, config.model.context_length, config.num_eval_examples)
    check_divisible(data.data_spec["shape"])
    baselines = functools.partial(
        contrastive_optimum.baselines,
        config.model.loss,
        data.eval_sets["test"],
        config.eval_batch_size,
    )
    return dataclasses.replace(data, baselines=baselines)


def build_task(config: ContrastiveRunConfig, data_spec: DataSpec) -> Task:
    """Builds the model; raises UserError if the prompt has words outside of the vocabulary."""
    tokenizer = WordTokenizer.from_json(data_spec)
    captions.encode([config.prompt], tokenizer, config.model.context_length, "prompt")
    model = dual_encoder.DualEncoder(config.model.with_vocabulary(tokenizer.vocab.size))
    image, text = jnp.zeros((1, *data_spec["shape"]), jnp.float32), jnp.ones((1, 1), jnp.int32)
    init = functools.partial(model.init, images=image, tokens=text)
    return Task(model, init, dual_encoder.loss, dual_encoder.train_step, batch_coupled=True)


def sample(
    config: ContrastiveRunConfig, task: Task, data_spec: DataSpec, state: TrainState, key: jax.Array
) -> str:
    """Returns the captions nearest to the prompt."""
    return zero_shot.nearest_captions(zero_shot.trained(task, data_spec, state), config.prompt)


def analyze(
    config: ContrastiveRunConfig, task: Task, data: DataModule, state: TrainState, folder: RunFolder
) -> dict[str, float]:
    """Evaluates zero-shot classification, retrieval and calibration."""
    trained, test = zero_shot.trained(task, data.data_spec, state), data.eval_sets["test"]
    return zero_shot.measure(trained, test, config.eval_batch_size, folder)


SWEEP_METRICS = ("zero_shot_accuracy", "image_to_text_recall_at_1", "text_to_image_recall_at_5")

LAB = Lab(
    name="contrastive",
    description=__doc__,
    config_class=ContrastiveRunConfig,
    presets=PRESETS,
    load_data=load_data,
    build_task=build_task,
    sample=sample,
    analyze=analyze,
    plots={
        "similarity": plots.similarity,
        "retrieval": plots.retrieval,
        "reliability": plots.reliability,
    },
    main_metrics=("zero_shot_accuracy", "image_to_text_recall_at_1", "text_to_image_recall_at_1"),
    run_suffix=lambda config: "" if config.model.loss == "clip" else f"-{config.model.loss}",
    sweeps={
        "batch_size": Sweep(
            question="Accuracy by batch size, for the same pairs and square-root learning rates?",
            axes={"batch_size": (16, 64, 256, 1024), "loss": dual_encoder.LOSSES, "seed": (0, 1)},
            metrics=(*SWEEP_METRICS, "expected_pairs"),
            settings={"eval_every": 100_000, "checkpoint_every": 100_000},
            derived_settings=scale_by_batch_size,
        ),
        "temperature": Sweep(
            question="Accuracy of a fixed temperature?",
            axes={"init_temperature": (0.01, 0.03, 0.1, 0.3, 1.0), "loss": dual_encoder.LOSSES},
            metrics=(*SWEEP_METRICS, "calibration_error"),
            settings={"learn_temperature": False, "steps": SWEEP_PAIRS // QUICK["batch_size"]},
        ),
    },
)
