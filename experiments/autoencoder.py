"""Autoencoders of handwritten digits: plain and variational ones of the same shapes.

Source    Kingma and Welling 2013; Burda, Grosse and Salakhutdinov 2015, table 1, VAE with k = 1
Command   python -m experiments.autoencoder --platform=cpu
Expect    quick: 20 seconds on two cores, a map of the digits in two latent units
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxlabs import command
from jaxlabs.analysis import vae_latents
from jaxlabs.config import group, setting
from jaxlabs.data import images
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.image_data import ImageDataConfig, image_data
from jaxlabs.lab import Lab
from jaxlabs.models import autoencoder
from jaxlabs.run_folder import RunFolder
from jaxlabs.sweep_plan import Sweep
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderRun(RunConfig):
    """A run's settings, the model's, and those of what is measured."""

    dataset: str = setting("mnist", "a folder of pictures of one size", path_unless=images.NAMES)
    pictures: ImageDataConfig = group(ImageDataConfig, section="data")
    model: autoencoder.AutoencoderConfig = group(autoencoder.AutoencoderConfig)
    latents: vae_latents.LatentEvalConfig = group(
        vae_latents.LatentEvalConfig, section="evaluation"
    )


ADAM = {"batch_size": 100, "eval_batch_size": 500, "weight_decay": 0.0, "lr_schedule": "cosine"}
ADAM |= {"steps": 3000, "learning_rate": 2e-3, "eval_every": 1000, "checkpoint_every": 5000}
LONG = ADAM | {"binarization": "dynamic", "eval_every": 10_000, "iwae_eval_images": 1000}
GRAY = {"objective": "ae", "binarization": "none", "likelihood": "gaussian", "activation": "relu"}
LINEAR = (
    ADAM
    | GRAY
    | {"num_hidden_layers": 0, "latent": 10, "observation_std": 0.1, "optimizer": "lbfgs"}
)
LINEAR |= {"train_images": 5000, "batch_size": 5000, "steps": 1000, "eval_every": 100}
PRESETS = {
    "quick": ADAM | {"latent": 2, "comparison_latent_dim": 32},
    "ae": ADAM | {"objective": "ae"},
    # The paper's 3,280 passes in batches of 20; its rate falls in eight stages, this one smoothly.
    "reference": LONG
    | {"batch_size": 20, "steps": 9_840_000, "learning_rate": 1e-3, "end_lr_ratio": 0.1}
    | {"log_every": 1000, "iwae_eval_images": 10_000},
    "best": LONG
    | {"steps": 200_000, "beta_warmup_steps": 5000, "ema_decay": 0.999, "log_every": 200},
    "linear": LINEAR,
}


def load_data(config: AutoencoderRun) -> DataModule:
    """Reads the pictures and binarizes them."""
    pictures = images.load(config.dataset, config.data_dir)
    return image_data(pictures, config.pictures, config.model.likelihood == "bernoulli")


def build_task(config: AutoencoderRun, data_spec: Mapping[str, Any]) -> Task:
    """Makes the model for pictures of one shape."""
    redraw = config.pictures.binarization == "dynamic"
    model = autoencoder.Autoencoder(config.model, tuple(data_spec["shape"]), redraw)
    init = functools.partial(model.init, x=jnp.zeros((1, math.prod(model.shape)), jnp.float32))
    random = config.model.variational or config.pictures.binarization == "dynamic"
    return Task(model, init, autoencoder.loss, autoencoder.train_step, random=random)


def draw_samples(
    config: AutoencoderRun, task: Task, data_spec: Any, state: TrainState, key: jax.Array
) -> dict[str, jax.Array]:
    """Returns pictures of codes drawn from the prior."""
    return {"images": autoencoder.sample_prior(task.model, state.eval_params, key, 100)}


def analyze(
    config: AutoencoderRun, task: Task, data: DataModule, state: TrainState, folder: RunFolder
) -> dict[str, float]:
    """Measures codes and bound; writes what the report draws, the two objectives side by side."""
    trained, settings = (task.model, state.eval_params), config.latents
    figures = vae_latents.measure(*trained, data, settings, folder, config.seed)
    models = {config.model.objective: trained}
    for objective in autoencoder.OBJECTIVES if settings.comparison_latent_dim else ():
        of_rival = {"objective": objective, "latent": settings.comparison_latent_dim}
        rival = config.from_flat(config.flat() | of_rival)
        models[objective] = vae_latents.train_fully(build_task(rival, data.data_spec), data, rival)
    return figures | vae_latents.write_comparison(models, data, folder, config.seed)


LAB = Lab(
    name="autoencoder",
    description=__doc__,
    config_class=AutoencoderRun,
    presets=PRESETS,
    load_data=load_data,
    build_task=build_task,
    sample=draw_samples,
    analyze=analyze,
    sweeps={
        "code_width": Sweep(
            question="What does a narrow code cost, and what as many principal components?",
            axes={"latent": (1, 2, 4, 8, 16, 32, 64, 128, 256, 784, 1000)},
            metrics=("test_squared_error", "pca_squared_error"),
            settings=GRAY
            | {
                "num_hidden_layers": 1,
                "hidden_size": 1000,
                "steps": 1000,
                "comparison_latent_dim": None,
            },
        ),
    },
)

if __name__ == "__main__":
    command.main(LAB)
