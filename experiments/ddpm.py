"""Diffusion: a network learns to see the noise in a picture, and noise turns into digits.

Source    Ho, Jain and Abbeel 2020; an unpublished course write-up of diffusion on MNIST
Command   python -m experiments.ddpm --platform=cpu
Expect    quick: a Frechet distance of 20, real digits have 5; best: 1.6, real digits have 0.7, an
          hour of training or two; reference: 1,011,969 parameters, ten epochs, one to three hours;
          its samplers at 0.08 to 0.29 s a step of 64 pictures would take three to eleven more to
          measure, --fid_samples=1000 a tenth of that
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import command, keys
from jaxlabs.analysis import diffusion_likelihood, diffusion_samples, fid_eval
from jaxlabs.analysis.epoch_means import mean_losses
from jaxlabs.config import UserError, group, setting
from jaxlabs.data import images
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.image_data import labeled_data
from jaxlabs.diffusion.noise_schedules import DiffusionConfig
from jaxlabs.lab import Lab
from jaxlabs.models import ddpm
from jaxlabs.run_folder import RunFolder
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDPMConfig(RunConfig):
    """A run's settings, the network's, and those of sampling and of what is measured."""

    dataset: str = setting("mnist", "a folder of pictures of one size", path_unless=images.NAMES)
    num_eval_examples: int = setting(
        1000,
        "test pictures that evaluations during training read",
        minimum=1,
        aliases=("evaluated_images",),
        section="evaluation",
    )
    model: ddpm.UNetConfig = group(ddpm.UNetConfig)
    diffusion: DiffusionConfig = group(DiffusionConfig)
    sampling: diffusion_samples.ImageSamplingConfig = group(diffusion_samples.ImageSamplingConfig)
    quality: fid_eval.FIDConfig = group(fid_eval.FIDConfig, section="evaluation")
    bound: diffusion_likelihood.NLLConfig = group(
        diffusion_likelihood.NLLConfig, section="evaluation"
    )


EPOCH = 469
"""Steps in which 60,000 digits are seen once, in batches of 128."""

REFERENCE = {"steps": 10 * EPOCH, "batch_size": 128, "grad_accum_steps": 16, "eval_batch_size": 16}
REFERENCE |= {"learning_rate": 2e-4, "eval_every": EPOCH, "checkpoint_every": 100, "log_every": 1}
# What came after the paper, all of it free: a rate that falls, an average of the weights, another
# target, less noise in the middle, and steps of one size in every direction of a kernel.
MODERN = {
    "lr_schedule": "cosine",
    "warmup_steps": 100,
    "zero_init_output": True,
    "prediction_type": "v",
}
MODERN |= {"noise_schedule": "cosine", "optimizer": "muon", "ema_decay": 0.999}
FEW = {"sampler": "dpm_solver", "sampler_steps": 20}
QUICK = {
    "base_channels": 32,
    "steps": 750,
    "batch_size": 32,
    "grad_accum_steps": 2,
    "eval_batch_size": 64,
}
QUICK |= {"learning_rate": 2e-3, "ema_decay": 0.99, "eval_every": 250, "fid_samples": 500}
# Told the class; a narrower embedding of time pays for it: fewer parameters than the reference.
BEST = {
    "class_conditional": True,
    "time_embed_dim": 96,
    "guidance_scale": 1.1,
    "learning_rate": 2e-3,
}
BEST |= {
    "steps": 6000,
    "batch_size": 64,
    "grad_accum_steps": 8,
    "eval_every": 1000,
    "log_every": 10,
}
PRESETS = {
    "quick": MODERN | FEW | QUICK | {"class_conditional": True, "guidance_scale": 2.0},
    "reference": REFERENCE
    | {"fid_samplers": "ancestral,dpm_solver", "fid_steps": "10,20,50,100,250,1000"}
    | {"num_samples": 16},
    "best": REFERENCE | MODERN | FEW | BEST,
}


def load_data(config: DDPMConfig) -> DataModule:
    """Reads the pictures."""
    pictures = images.load(config.dataset, config.data_dir)
    ddpm.check_divisible(pictures.train.images.shape[1:])
    if config.model.class_conditional and not pictures.classes:
        raise UserError(
            f"--class_conditional: {config.dataset} has no classes; sub-folders would be classes,"
            " and --noclass_conditional --guidance_scale=1 needs none"
        )
    data = labeled_data(pictures, config.num_eval_examples)
    fid_eval.load_feature_extractor(config.quality, data.dataset)  # says so before it trains
    return data


def build_task(config: DDPMConfig, data_spec: Mapping[str, Any]) -> Task:
    """Makes the network for pictures of one shape."""
    shape, classes = tuple(data_spec["shape"]), len(data_spec["classes"])
    model = ddpm.UNet(config.model, config.diffusion, shape, classes)
    diffusion_samples.require_compatible(config.sampling, model)
    init = functools.partial(
        model.init, x=jnp.zeros((1, *shape), jnp.float32), t=jnp.zeros(1, jnp.int32)
    )
    return Task(model, init, ddpm.loss, ddpm.train_step, random=True)


def draw_samples(
    config: DDPMConfig, task: Task, data_spec: Mapping[str, Any], state: TrainState, key: jax.Array
) -> dict[str, np.ndarray]:
    """Returns pictures drawn from noise."""
    drawn = diffusion_samples.sample_images(task.model, state.eval_params, config.sampling, key)
    return diffusion_samples.as_samples(drawn)


def analyze(
    config: DDPMConfig, task: Task, data: DataModule, state: TrainState, folder: RunFolder
) -> dict[str, float]:
    """Measures samples and the bound; writes what the report draws."""
    network = task.model, state.eval_params
    way_key, quality_key, bound_key = jax.random.split(keys.stream(config.seed, "analysis"), 3)
    test = fid_eval.whole_test(data).arrays["images"]
    diffusion_samples.write_trajectories(*network, config.sampling, test, folder, way_key)
    drawn = diffusion_samples.load_samples(folder, test.shape[1:])
    figures = mean_losses(folder.read_metrics(), -(-data.train.count // config.batch_size))
    figures |= fid_eval.write_neighbors(drawn, data, folder)
    figures |= diffusion_likelihood.measure(*network, test, config.bound, folder, bound_key)
    return figures | fid_eval.measure(
        *network, config.sampling, config.quality, data, folder, quality_key
    )


LAB = Lab(
    name="ddpm",
    description=__doc__,
    config_class=DDPMConfig,
    presets=PRESETS,
    load_data=load_data,
    build_task=build_task,
    sample=draw_samples,
    analyze=analyze,
    loss_unit="squared error",
)

if __name__ == "__main__":
    command.main(LAB)
