"""Autoencoders of handwritten digits: plain and variational ones of the same shapes.

Source    Kingma and Welling 2013; Burda, Grosse and Salakhutdinov 2015, table 1, VAE with k = 1
Command   python -m experiments.autoencoder --platform=cpu
Expect    quick: about a minute on two cores, a map of the digits in two latent units
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import command
from jaxlabs.analysis import latent
from jaxlabs.config import UserError, group, setting
from jaxlabs.data import images
from jaxlabs.data.pictures import PictureConfig, picture_data
from jaxlabs.data.splits import Data
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

    dataset: str = setting(
        "mnist", f"one of {', '.join(images.NAMES)}, or a folder of pictures of one size"
    )
    pictures: PictureConfig = group(PictureConfig)
    model: autoencoder.AutoencoderConfig = group(autoencoder.AutoencoderConfig)
    latents: latent.LatentConfig = group(latent.LatentConfig)

    def check(self) -> None:
        super().check()
        if self.pictures.binarisation == "redrawn" and self.model.likelihood != "bernoulli":
            raise UserError("--binarisation: redrawn needs --likelihood bernoulli; static or none")


ADAM = {"batch_size": 100, "eval_batch_size": 500, "weight_decay": 0.0, "schedule": "cosine"}
ADAM |= {"steps": 3000, "learning_rate": 2e-3, "eval_every": 1000, "checkpoint_every": 1000}
GREY = {"objective": "ae", "binarisation": "none", "likelihood": "gaussian"}
PRESETS = {
    "quick": ADAM | {"latent": 2, "compare_objectives": True},
    "ae": ADAM | {"latent": 2, "objective": "ae", "compare_objectives": True},
    # The paper's 3,280 passes in batches of 20; its rate falls in eight stages, this one smoothly.
    "reference": ADAM
    | {"binarisation": "redrawn", "batch_size": 20, "steps": 9_840_000, "learning_rate": 1e-3}
    | {"final_rate_fraction": 0.1, "eval_every": 100_000, "checkpoint_every": 100_000}
    | {"log_every": 1000, "tight_images": 10_000},
    "best": ADAM
    | {"binarisation": "redrawn", "steps": 200_000, "beta_warmup_steps": 5000, "ema_decay": 0.999}
    | {"eval_every": 10_000, "checkpoint_every": 5000, "log_every": 200, "tight_images": 1000},
    "linear": ADAM
    | GREY
    | {"hidden_layers": 0, "latent": 10, "optimizer": "lbfgs", "train_images": 5000}
    | {"batch_size": 5000, "steps": 1000, "eval_every": 100},
}


def load_data(config: AutoencoderRun) -> Data:
    """Reads the pictures and binarises them."""
    return picture_data(images.load(config.dataset, config.data_dir), config.pictures)


def build_task(config: AutoencoderRun, vocabulary: Mapping[str, Any]) -> Task:
    """Makes the model for pictures of one shape."""
    redraw = config.pictures.binarisation == "redrawn"
    model = autoencoder.Autoencoder(config.model, tuple(vocabulary["shape"]), redraw)
    init = functools.partial(model.init, x=jnp.zeros((1, int(np.prod(model.shape)))))
    return Task(model, init, autoencoder.loss, autoencoder.train_step)


def draw_samples(
    config: AutoencoderRun, task: Task, vocabulary: Any, state: TrainState, key: jax.Array
) -> dict[str, np.ndarray]:
    """Returns pictures of codes drawn from the prior."""
    drawn = autoencoder.sample_prior(task.model, state.evaluation_params, key, 100)
    return {"images": np.asarray(drawn)}


def analyse(
    config: AutoencoderRun, task: Task, data: Data, state: TrainState, folder: RunFolder
) -> dict[str, float]:
    """Measures codes and bound; writes what the report draws, the other objective beside it."""
    model, params, seed = task.model, state.evaluation_params, config.seed
    test = data.evaluations[data.headline]
    shown = test.arrays["images"], test.arrays["labels"]
    figures = latent.write_codes(model, params, *shown, folder)
    if config.model.variational:
        figures |= latent.likelihood(model, params, test, config.latents, seed)
    else:
        figures |= latent.against_pca(model, params, data.train.arrays["images"], shown[0])
    models = {config.model.objective: (model, params)}
    if config.latents.compare_objectives:
        changed = dataclasses.replace(config.model, objective=config.model.other_objective)
        other = build_task(dataclasses.replace(config, model=changed), data.vocabulary)
        trained = latent.train_fully(other, data, config)
        models[changed.objective] = other.model, trained.evaluation_params
    return figures | latent.write_comparison(models, data, folder, seed)


LAB = Lab(
    name="autoencoder",
    description=__doc__,
    config_class=AutoencoderRun,
    presets=PRESETS,
    load_data=load_data,
    build_task=build_task,
    sample=draw_samples,
    analyse=analyse,
    sweeps={
        "code_width": Sweep(
            question="How wide must a plain autoencoder's code be, and what do PCA's parts lose?",
            axes={"latent": (1, 2, 4, 8, 16, 32, 64, 128, 256, 784, 1000)},
            metrics=("test_squared_error", "pca_squared_error"),
            settings=GREY | {"hidden_layers": 1, "hidden": 1000, "compare_objectives": False},
        ),
    },
)

if __name__ == "__main__":
    command.main(LAB)
