"""Denoising diffusion (DDPM) with a U-Net on images of digits.

Source    Ho, Jain and Abbeel 2020; an unpublished course write-up of diffusion on MNIST
Command   python -m experiments.ddpm --platform=cpu
Expect    quick: FID 20, real images 5; best: FID 1.6, real images 0.7, one to two hours of
          training; reference: 1,011,969 parameters, ten epochs, one to three hours; evaluation of
          its samplers takes three to eleven more, --fid_samples=1000 a tenth of that
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.config import ArgumentError, group, positive, setting
from jaxlabs.data import images
from jaxlabs.data.dataset import DataModule, DataSpec
from jaxlabs.data.image_data import labeled_data
from jaxlabs.diffusion.noise_schedules import DiffusionConfig
from jaxlabs.labs.ddpm import diffusion_likelihood, diffusion_samples, fid_eval, plots, published
from jaxlabs.models import ddpm
from jaxlabs.models.image_classifier import check_divisible
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.lab import Lab
from jaxlabs.runner.sweep_plan import precision_sweep
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDPMRunConfig(RunConfig):
    """Settings of a run, of the network, of sampling and of the evaluation."""

    dataset: str = setting(
        "mnist", "the path of a folder of images of one size", path_unless=images.NAMES
    )
    files: images.ImageFilesConfig = group(images.ImageFilesConfig, section="data")
    num_eval_examples: int = positive(
        1000,
        "number of test images per evaluation during training",
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

    def check(self) -> None:
        super().check()
        most, available = max(self.quality.steps()), self.diffusion.num_timesteps
        if self.quality.fid_samples and most > available:
            raise ArgumentError(
                "fid_steps", f"{most} is not accepted; at most `num_timesteps` {available}"
            )
        always_labeled = self.model.class_conditional and self.model.class_dropout == 0
        if always_labeled and self.bound.nll_images:
            raise ArgumentError(
                "nll_images",
                f"{self.bound.nll_images} is not accepted with `class_dropout` 0; 0, since the"
                " bound is that of images without labels",
            )


STEPS_PER_EPOCH = 469
"""Steps of an epoch of 60,000 digits in batches of 128."""

REFERENCE = {
    "steps": 10 * STEPS_PER_EPOCH,
    "batch_size": 128,
    "grad_accum_steps": 16,
    "learning_rate": 2e-4,
    "eval_batch_size": 16,
    "eval_every": STEPS_PER_EPOCH,
    "checkpoint_every": 100,
    "log_every": 1,
}
# Later than the paper, at no cost: cosine schedules, v-prediction, EMA and Muon.
MODERN = {
    "optimizer": "muon",
    "lr_schedule": "cosine",
    "warmup_steps": 100,
    "ema_decay": 0.999,
    "zero_init_output": True,
    "prediction_type": "v_prediction",
    "noise_schedule": "cosine",
}
FAST_SAMPLER = {
    "sampler": "dpm_solver",
    "sampler_steps": 20,
}

PRESETS = {
    "quick": {
        **MODERN,
        **FAST_SAMPLER,
        "base_channels": 32,
        "class_conditional": True,
        "guidance_scale": 2.0,
        "steps": 750,
        "batch_size": 32,
        "grad_accum_steps": 2,
        "learning_rate": 2e-3,
        "ema_decay": 0.99,
        "eval_batch_size": 64,
        "eval_every": 250,
        "fid_samples": 500,
    },
    "reference": {
        **REFERENCE,
        "fid_samplers": "ancestral,dpm_solver",
        "fid_steps": "10,20,50,100,250,1000",
        "num_samples": 16,
    },
    # A smaller time embedding offsets the class embedding: fewer parameters than the reference.
    "best": {
        **REFERENCE,
        **MODERN,
        **FAST_SAMPLER,
        "class_conditional": True,
        "time_embed_dim": 96,
        "guidance_scale": 1.1,
        "steps": 6000,
        "batch_size": 64,
        "grad_accum_steps": 8,
        "learning_rate": 2e-3,
        "eval_every": 1000,
        "log_every": 10,
    },
}


def load_data(config: DDPMRunConfig) -> DataModule:
    """Loads the images."""
    dataset = images.load(config.dataset, config.data_dir, files=config.files)
    check_divisible(dataset.train.images.shape[1:], ddpm.NUM_POOLS)
    if config.model.class_conditional and not dataset.classes:
        raise ArgumentError(
            "class_conditional",
            f"{config.dataset} has no classes; put images into a sub-folder by class, or pass"
            " --noclass_conditional --guidance_scale=1",
        )
    data = labeled_data(dataset, config.num_eval_examples)
    fid_eval.load_feature_extractor(config.quality, data.dataset)  # raises before the training
    return data


def build_task(config: DDPMRunConfig, data_spec: DataSpec) -> Task:
    """Builds the network for images of one shape."""
    shape, classes = tuple(data_spec["shape"]), len(data_spec["classes"])
    model = ddpm.UNet(config.model, config.diffusion, shape, classes)
    diffusion_samples.require_compatible(config.sampling, model)
    image, timestep = jnp.zeros((1, *shape), jnp.float32), jnp.zeros(1, jnp.int32)
    init = functools.partial(model.init, x=image, t=timestep)
    return Task(model, init, ddpm.loss, ddpm.train_step)


def sample(
    config: DDPMRunConfig, task: Task, data_spec: DataSpec, state: TrainState, key: jax.Array
) -> dict[str, np.ndarray]:
    """Returns samples of the diffusion model."""
    samples = diffusion_samples.sample_images(task.model, state.eval_params, config.sampling, key)
    return {"images": np.asarray(ddpm.denormalize(jnp.asarray(samples)))}


def analyze(
    config: DDPMRunConfig, task: Task, data: DataModule, state: TrainState, folder: RunFolder
) -> dict[str, float]:
    """Evaluates the samples and the variational bound."""
    model, params = task.model, state.eval_params
    trajectory_key, fid_key, nll_key = jax.random.split(keys.stream(config.seed, "analysis"), 3)
    test = fid_eval.whole_test(data).arrays["images"]
    diffusion_samples.write_trajectories(
        model, params, config.sampling, test, folder, trajectory_key
    )
    samples = diffusion_samples.load_samples(folder, test.shape[1:])
    metrics = mean_losses(folder.read_metrics(), -(-data.train.count // config.batch_size))
    metrics |= fid_eval.write_neighbors(samples, data, folder)
    metrics |= diffusion_likelihood.measure(model, params, test, config.bound, folder, nll_key)
    return metrics | fid_eval.measure(
        model, params, config.sampling, config.quality, data, folder, fid_key
    )


def mean_losses(rows: Sequence[Mapping[str, Any]], steps: int) -> dict[str, float]:
    """Returns `epoch_<number>_loss`, the mean training loss over each whole epoch, by name.

    The rows are those of metrics.jsonl, `steps` is the number per epoch. Epochs with unlogged steps
    are excluded.
    """
    by_epoch: dict[int, list[float]] = {}
    for row in rows:
        if row["split"] == "train" and row["loss"] is not None:
            by_epoch.setdefault(-(-row["step"] // steps), []).append(row["loss"])
    return {
        f"epoch_{epoch}_loss": sum(losses) / steps
        for epoch, losses in by_epoch.items()
        if len(losses) == steps
    }


LAB = Lab(
    name="ddpm",
    description=__doc__,
    config_class=DDPMRunConfig,
    presets=PRESETS,
    load_data=load_data,
    build_task=build_task,
    sample=sample,
    analyze=analyze,
    plots={
        "forward_process": plots.forward_process,
        "trajectory": plots.trajectory,
        "animation": plots.animation,
        "fid_by_steps": plots.fid_by_steps,
        "class_histogram": plots.class_histogram,
        "neighbors": plots.neighbors,
        "loss_by_timestep": plots.loss_by_timestep,
    },
    published=published.PUBLISHED_RESULTS,
    main_metrics=("dpm_solver_20_fid", "dpm_solver_20_prediction_entropy", "bits_per_dimension"),
    inputs={"fid_classifier": "mnist_classifier"},
    loss_unit="squared error",
    sweeps={
        "precision": precision_sweep(
            "test_loss",
            "training_images_loss",
            steps=300,
            eval_every=300,
            fid_samples=0,
            nll_images=0,
        )
    },
)
