"""Pictures and words in one space: CLIP's and SigLIP's losses on digits and their descriptions.

Trained on pairs, two encoders are asked what nobody taught them: which digit is it, by prompts?

Source    Radford et al. 2021 (CLIP); Zhai et al. 2023 (SigLIP); neither is about digits
Command   python -m experiments.contrastive --platform=cpu --loss=clip
Expect    quick: 98.9 % of the MNIST test digits right by the prompt "a seven" and its like
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxlabs import command
from jaxlabs.analysis import contrastive_optimum, zero_shot
from jaxlabs.config import UserError, group, setting
from jaxlabs.data import captions, images
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.tokenizers import WordTokenizer
from jaxlabs.lab import Lab
from jaxlabs.models import dual_encoder
from jaxlabs.models.image_classifier import require_divisible
from jaxlabs.run_folder import RunFolder
from jaxlabs.sweep_plan import Sweep
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastiveRun(RunConfig):
    """A run's settings and the model's."""

    dataset: str = setting(
        "mnist", "a folder of digits in sub-folders 0 to 9", path_unless=images.NAMES
    )
    num_eval_examples: int | None = setting(
        None,
        "test pairs that evaluations read, the first ones; none: all",
        minimum=1,
        aliases=("test_pairs",),
        section="evaluation",
    )
    prompt: str = setting(
        "a heavy seven", "text whose nearest others are shown", kind="runtime", section="sampling"
    )
    model: dual_encoder.DualEncoderConfig = group(dual_encoder.DualEncoderConfig)

    def check(self) -> None:
        super().check()
        if self.batch_size < 2:
            told = "at least 2, since the other pairs are what a pair is told from"
            raise UserError(f"--batch_size: {self.batch_size} is not accepted; {told}")
        if (count := self.optimization.grad_accum_steps) > 1:
            told = "1, since slices would not be each other's negatives"
            raise UserError(f"--grad_accum_steps: {count} is not accepted; {told}")


QUICK = {"batch_size": 256, "steps": 900, "learning_rate": 3e-3, "lr_schedule": "cosine"}
QUICK |= {"warmup_steps": 50, "weight_decay": 0.05, "eval_batch_size": 256}
QUICK |= {"eval_every": 300, "checkpoint_every": 900}
PRESETS = {
    "quick": QUICK,
    "best": QUICK | {"steps": 6000, "eval_every": 1000, "checkpoint_every": 1000},
}
SEEN = 120_000
"""Pairs that every run of a sweep over batch sizes sees."""


def same_pairs_seen(point: Mapping[str, Any]) -> dict[str, Any]:
    """Returns steps and rate for a batch size; Adam's rate goes with its root (Malladi 2022)."""
    steps = SEEN // point["batch_size"]
    rate = QUICK["learning_rate"] * math.sqrt(point["batch_size"] / QUICK["batch_size"])
    return {"steps": steps, "learning_rate": rate, "warmup_steps": steps // 20}


def load_data(config: ContrastiveRun) -> DataModule:
    """Reads pictures of digits and describes them."""
    pictures = images.load(config.dataset, config.data_dir)
    data = captions.caption_data(pictures, config.model.context_length, config.num_eval_examples)
    require_divisible(data.data_spec["shape"])
    known = config.model.loss, data.eval_sets["test"], config.eval_batch_size
    return dataclasses.replace(data, baselines=lambda: contrastive_optimum.baselines(*known))


def build_task(config: ContrastiveRun, data_spec: Mapping[str, Any]) -> Task:
    """Makes the model for pictures of one shape and the words of the descriptions."""
    words = WordTokenizer.from_json(data_spec).vocabulary_size
    model = dual_encoder.DualEncoder(config.model.with_vocabulary(words))
    picture, text = jnp.zeros((1, *data_spec["shape"]), jnp.float32), jnp.ones((1, 1), jnp.int32)
    init = functools.partial(model.init, images=picture, tokens=text)
    random = config.model.max_translation > 0 or config.model.dropout > 0
    return Task(model, init, dual_encoder.loss, dual_encoder.train_step, random=random)


def show_nearest(
    config: ContrastiveRun, task: Task, data_spec: Any, state: TrainState, key: jax.Array
) -> str:
    """Returns the descriptions that mean about the same as the prompt to the model."""
    return zero_shot.nearest_wordings(zero_shot.trained(task, data_spec, state), config.prompt)


def analyze(
    config: ContrastiveRun, task: Task, data: DataModule, state: TrainState, folder: RunFolder
) -> dict[str, float]:
    """Classifies, retrieves and looks at how sure the model is; writes what the report draws."""
    trained, test = zero_shot.trained(task, data.data_spec, state), data.eval_sets["test"]
    return zero_shot.measure(trained, test, config.eval_batch_size, folder)


FOUND = ("zero_shot_accuracy", "image_to_text_recall_at_1", "text_to_image_recall_at_5")
LAB = Lab(
    name="contrastive",
    description=__doc__,
    config_class=ContrastiveRun,
    presets=PRESETS,
    load_data=load_data,
    build_task=build_task,
    sample=show_nearest,
    analyze=analyze,
    run_suffix=lambda config: "" if config.model.loss == "clip" else f"-{config.model.loss}",
    sweeps={
        "batch_size": Sweep(
            question="Is SigLIP indifferent to the batch size? (As many pairs, rate by its root.)",
            axes={"batch_size": (16, 64, 256, 1024), "loss": dual_encoder.LOSSES, "seed": (0, 1)},
            metrics=(*FOUND, "expected_pairs"),
            settings={"eval_every": 100_000, "checkpoint_every": 100_000},
            follow=same_pairs_seen,
        ),
        "temperature": Sweep(
            question="What does a temperature cost that is not learned?",
            axes={"init_temperature": (0.01, 0.03, 0.1, 0.3, 1.0), "loss": dual_encoder.LOSSES},
            metrics=(*FOUND, "calibration_error"),
            settings={"learn_temperature": False, "steps": SEEN // QUICK["batch_size"]},
        ),
    },
)

if __name__ == "__main__":
    command.main(LAB)
