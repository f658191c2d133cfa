"""Which digit is it? A small convolutional network, whose features also measure other pictures.

Source    none to compare with; LeCun et al. 1998 is where such networks of digits come from
Command   python -m experiments.mnist_classifier --platform=cpu
Expect    quick: two epochs, 99.3 % of MNIST's test digits right
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxlabs import command
from jaxlabs.analysis import image_predictions
from jaxlabs.config import UserError, group, setting
from jaxlabs.data import images
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.image_data import labeled_data
from jaxlabs.lab import Lab
from jaxlabs.models import image_classifier
from jaxlabs.run_folder import RunFolder
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageClassifierRun(RunConfig):
    """A run's settings and the model's."""

    dataset: str = setting(
        "mnist",
        "a folder of pictures of one size, whose sub-folders are the classes",
        path_unless=images.NAMES,
    )
    model: image_classifier.ImageClassifierConfig = group(image_classifier.ImageClassifierConfig)


EPOCH = 469  # batches of 128 that hold MNIST's 60,000 training digits
MUON = {"batch_size": 128, "eval_batch_size": 500, "learning_rate": 3e-3, "optimizer": "muon"}
MUON |= {"lr_schedule": "cosine", "warmup_steps": 50, "weight_decay": 0.05}
MUON |= {"eval_every": EPOCH, "checkpoint_every": EPOCH}

PRESETS = {
    "quick": MUON | {"steps": 2 * EPOCH},
    "best": MUON | {"steps": 20 * EPOCH, "ema_decay": 0.999},
}


def load_data(config: ImageClassifierRun) -> DataModule:
    """Reads pictures that have classes."""
    pictures = images.load(config.dataset, config.data_dir)
    if len(pictures.classes) < 2:
        raise UserError(
            f"--dataset: {config.dataset} has {len(pictures.classes)} classes; at least two, as"
            " sub-folders, are needed"
        )
    data = labeled_data(pictures)
    image_classifier.require_divisible(data.data_spec["shape"])
    chance = {"chance": math.log(len(pictures.classes))}
    return dataclasses.replace(data, baselines=lambda: chance)


def build_task(config: ImageClassifierRun, data_spec: Mapping[str, Any]) -> Task:
    """Makes the model for pictures of one shape."""
    model = image_classifier.ImageClassifier(config.model, len(data_spec["classes"]))
    init = functools.partial(model.init, x=jnp.zeros((1, *data_spec["shape"]), jnp.float32))
    random = config.model.dropout > 0 or config.model.max_translation > 0
    return Task(model, init, image_classifier.loss, image_classifier.train_step, random=random)


def nothing_to_draw(
    config: ImageClassifierRun,
    task: Task,
    data_spec: Mapping[str, Any],
    state: TrainState,
    key: jax.Array,
) -> str:
    """Returns what the network has to say without a picture."""
    return f"tells {len(data_spec['classes'])} classes apart: {', '.join(data_spec['classes'])}"


def analyze(
    config: ImageClassifierRun, task: Task, data: DataModule, state: TrainState, folder: RunFolder
) -> dict[str, float]:
    """Counts who is taken for whom; writes that and the errors for the report."""
    names, test = data.data_spec["classes"], data.eval_sets["test"]
    params = state.eval_params
    return image_predictions.write_errors(task.model, params, test, names, folder)


LAB = Lab(
    name="mnist_classifier",
    description=__doc__,
    config_class=ImageClassifierRun,
    presets=PRESETS,
    load_data=load_data,
    build_task=build_task,
    sample=nothing_to_draw,
    analyze=analyze,
)

if __name__ == "__main__":
    command.main(LAB)
