"""Diffusion: a network learns to see the noise in a picture, and noise turns into digits.

Source    Ho, Jain and Abbeel 2020; an unpublished course write-up of diffusion on MNIST
Command   python -m experiments.ddpm --platform=cpu
Expect    quick: about 3 minutes of training on two cores, digits that one can read
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxlabs import command
from jaxlabs.analysis import picture_samples
from jaxlabs.config import group, setting
from jaxlabs.data import images
from jaxlabs.data.pictures import labelled_data
from jaxlabs.data.splits import Data
from jaxlabs.diffusion.schedules import DiffusionConfig
from jaxlabs.lab import Lab
from jaxlabs.models import ddpm
from jaxlabs.run_folder import RunFolder
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDPMConfig(RunConfig):
    """A run's settings, the network's, and those of sampling."""

    dataset: str = setting(
        "mnist", f"one of {', '.join(images.NAMES)}, or a folder of pictures of one size"
    )
    evaluated_images: int = setting(2000, "pictures that an evaluation reads", minimum=1)
    model: ddpm.UNetConfig = group(ddpm.UNetConfig)
    diffusion: DiffusionConfig = group(DiffusionConfig)
    sampling: picture_samples.PictureSamplingConfig = group(picture_samples.PictureSamplingConfig)


EPOCH = 469
"""Steps in which 60,000 digits are seen once, in batches of 128."""

REFERENCE = {"steps": 10 * EPOCH, "batch_size": 128, "micro_batches": 16, "eval_batch_size": 16}
REFERENCE |= {"learning_rate": 2e-4, "eval_every": EPOCH, "checkpoint_every": 200}
REFERENCE |= {"log_every": 1, "evaluated_images": 1000, "sampler_steps": 50, "sampler": "ddim"}
PRESETS = {"quick": REFERENCE, "reference": REFERENCE, "best": REFERENCE}


def load_data(config: DDPMConfig) -> Data:
    """Reads the pictures."""
    pictures = images.load(config.dataset, config.data_dir)
    ddpm.require_halves(pictures.train.images.shape[1:])
    return labelled_data(pictures, config.evaluated_images)


def build_task(config: DDPMConfig, vocabulary: Mapping[str, Any]) -> Task:
    """Makes the network for pictures of one shape."""
    shape, classes = tuple(vocabulary["shape"]), len(vocabulary["classes"])
    model = ddpm.UNet(config.model, config.diffusion, shape, classes)
    init = functools.partial(model.init, x=jnp.zeros((1, *shape)), t=jnp.zeros(1, jnp.int32))
    return Task(model, init, ddpm.loss, ddpm.train_step, random=True)


def draw_samples(
    config: DDPMConfig, task: Task, vocabulary: Mapping[str, Any], state: TrainState, key: jax.Array
) -> dict[str, jax.Array]:
    """Returns pictures drawn from noise."""
    return {
        "images": picture_samples.draw(task.model, state.evaluation_params, config.sampling, key)
    }


def analyse(
    config: DDPMConfig, task: Task, data: Data, state: TrainState, folder: RunFolder
) -> dict[str, float]:
    """Measures the samples and the bound; writes what the report draws."""
    return {}


LAB = Lab(
    name="ddpm",
    description=__doc__,
    config_class=DDPMConfig,
    presets=PRESETS,
    load_data=load_data,
    build_task=build_task,
    sample=draw_samples,
    analyse=analyse,
    loss_unit="squared error",
)

if __name__ == "__main__":
    command.main(LAB)
