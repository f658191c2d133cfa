"""Autoencoders and variational autoencoders of handwritten digits.

Source    Kingma and Welling 2013; Burda, Grosse and Salakhutdinov 2015, table 1, VAE with k = 1
Command   python -m experiments.autoencoder --platform=cpu
Expect    quick: 20 seconds on two cores, a two-dimensional latent space of the digits
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from jaxlabs.config import ArgumentError, group, setting
from jaxlabs.data import images
from jaxlabs.data.dataset import DataModule, DataSpec
from jaxlabs.data.image_data import ImageDataConfig, image_data
from jaxlabs.labs.autoencoder import plots, published, vae_latents
from jaxlabs.models import autoencoder
from jaxlabs.report import images as images_plots
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.lab import Lab
from jaxlabs.runner.sweep_plan import Sweep
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderRunConfig(RunConfig):
    """Settings of a run, of the data, of the model and of the analysis."""

    dataset: str = setting(
        "mnist", "the path of a folder of images of one size", path_unless=images.NAMES
    )
    files: images.ImageFilesConfig = group(images.ImageFilesConfig, section="data")
    data: ImageDataConfig = group(ImageDataConfig, section="data")
    model: autoencoder.AutoencoderConfig = group(autoencoder.AutoencoderConfig)
    latents: vae_latents.LatentEvalConfig = group(
        vae_latents.LatentEvalConfig, section="evaluation"
    )

    def check(self) -> None:
        super().check()
        compared = self.latents.comparison_latent_dim
        if compared is not None and self.optimization.optimizer == "lbfgs":
            raise ArgumentError(
                "comparison_latent_dim",
                f"{compared} is not accepted with `optimizer` lbfgs: the loss of a VAE is random;"
                " none, or another optimizer",
            )


ADAM = {
    "steps": 3000,
    "batch_size": 100,
    "learning_rate": 2e-3,
    "lr_schedule": "cosine",
    "weight_decay": 0.0,
    "eval_batch_size": 500,
    "eval_every": 1000,
    "checkpoint_every": 5000,
}
DYNAMIC = {
    **ADAM,
    "binarization": "dynamic",
    "eval_every": 10_000,
    "iwae_eval_images": 1000,
}
GAUSSIAN_AE = {
    "objective": "ae",
    "binarization": "none",
    "likelihood": "gaussian",
    "activation": "relu",
}

PRESETS = {
    "quick": {
        **ADAM,
        "latent_dim": 2,
        "comparison_latent_dim": 32,
    },
    "ae": ADAM | {"objective": "ae"},
    # The 3,280 epochs of the paper in batches of 20; its learning rate decays in eight stages.
    "reference": {
        **DYNAMIC,
        "steps": 9_840_000,
        "batch_size": 20,
        "learning_rate": 1e-3,
        "end_lr_ratio": 0.1,
        "log_every": 1000,
        "iwae_eval_images": 10_000,
    },
    "best": {
        **DYNAMIC,
        "steps": 200_000,
        "beta_warmup_steps": 5000,
        "ema_decay": 0.999,
        "log_every": 200,
    },
    "linear": {
        **ADAM,
        **GAUSSIAN_AE,
        "num_hidden_layers": 0,
        "latent_dim": 10,
        "observation_std": 0.1,
        "optimizer": "lbfgs",
        "train_images": 5000,
        "batch_size": 5000,
        "steps": 1000,
        "eval_every": 100,
    },
}


def load_data(config: AutoencoderRunConfig) -> DataModule:
    """Loads and binarizes the images."""
    dataset = images.load(config.dataset, config.data_dir, files=config.files)
    return image_data(dataset, config.data, config.model.likelihood == "bernoulli")


def build_task(config: AutoencoderRunConfig, data_spec: DataSpec) -> Task:
    """Builds the model for images of one shape."""
    dynamic = config.data.binarization == "dynamic"
    model = autoencoder.Autoencoder(config.model, tuple(data_spec["shape"]), dynamic)
    init = functools.partial(model.init, x=jnp.zeros((1, math.prod(model.shape)), jnp.float32))
    return Task(model, init, autoencoder.loss, autoencoder.train_step)


def sample(
    config: AutoencoderRunConfig, task: Task, data_spec: DataSpec, state: TrainState, key: jax.Array
) -> dict[str, jax.Array]:
    """Returns images decoded from samples of the prior."""
    return {"images": autoencoder.sample_prior(task.model, state.eval_params, key, 100)}


def analyze(
    config: AutoencoderRunConfig, task: Task, data: DataModule, state: TrainState, folder: RunFolder
) -> dict[str, float]:
    """Evaluates latent codes and bound; compares the two objectives."""
    trained, settings = (task.model, state.eval_params), config.latents
    metrics = vae_latents.measure(*trained, data, settings, folder, config.seed)
    models = {config.model.objective: trained}
    for objective in autoencoder.OBJECTIVES if settings.comparison_latent_dim else ():
        changes = {"objective": objective, "latent_dim": settings.comparison_latent_dim}
        other = config.from_flat(config.flat() | changes)
        models[objective] = vae_latents.train_fully(build_task(other, data.data_spec), data, other)
    return metrics | vae_latents.write_comparison(models, data, folder, config.seed)


LAB = Lab(
    name="autoencoder",
    description=__doc__,
    config_class=AutoencoderRunConfig,
    presets=PRESETS,
    load_data=load_data,
    build_task=build_task,
    sample=sample,
    analyze=analyze,
    plots={
        "reconstructions": images_plots.reconstructions,
        "latent_map": plots.latent_map,
        "interpolations": plots.interpolations,
        "random_codes": plots.random_codes,
        "latent_units": plots.latent_units,
    },
    published=published.PUBLISHED_RESULTS,
    main_metrics=("test_loss", "iwae_64", "active_units"),
    sweeps={
        "latent_dim": Sweep(
            question="Reconstruction error by latent dimension, against PCA of as many components?",
            axes={"latent_dim": (1, 2, 4, 8, 16, 32, 64, 128, 256, 784, 1000)},
            metrics=("test_squared_error", "pca_squared_error"),
            settings=GAUSSIAN_AE
            | {
                "num_hidden_layers": 1,
                "hidden_size": 1000,
                "steps": 1000,
                "comparison_latent_dim": None,
            },
        ),
    },
)
