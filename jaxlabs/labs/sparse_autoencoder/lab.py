"""A sparse autoencoder of natural image patches, whose hidden units learn edge filters.

Source    Ng 2011, CS294A lecture notes "Sparse autoencoder", and write-ups of its exercise
Command   python -m experiments.sparse_autoencoder --platform=cpu
Expect    quick: seconds of L-BFGS on two cores, cost about 0.40, most filters are oriented edges
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.config import ArgumentError, group, positive, setting
from jaxlabs.data import natural_images
from jaxlabs.data.dataset import DataModule, DataSpec
from jaxlabs.labs.sparse_autoencoder import plots, published, sae_features
from jaxlabs.models import sparse_autoencoder
from jaxlabs.report import images
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.lab import Lab
from jaxlabs.runner.sweep_plan import Sweep
from jaxlabs.training import capacity
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseAutoencoderRunConfig(RunConfig):
    """Settings of a run and of the model."""

    dataset: str = setting(
        "natural_images",
        "the path of a folder of images or of an IMAGES.mat",
        path_unless=natural_images.NAMES,
    )
    patches: int = positive(10_000, "number of training patches", section="data")
    model: sparse_autoencoder.SparseAutoencoderConfig = group(
        sparse_autoencoder.SparseAutoencoderConfig
    )

    def check(self) -> None:
        super().check()
        if self.eval_batch_size < self.patches:
            raise ArgumentError(
                "eval_batch_size",
                f"{self.eval_batch_size} is not accepted; at least `patches` {self.patches}, since"
                " the sparsity term is of the mean over all of them",
            )


BYTES_PER_PIXEL = 32
"""Memory per pixel of a patch during cutting and normalization in float64."""

LBFGS = {
    "optimizer": "lbfgs",
    "steps": 2000,
    "batch_size": 10_000,
    "eval_batch_size": 10_000,
    "eval_every": 25,
    "checkpoint_every": 500,
    "log_every": 1,
}

PRESETS = {
    "quick": LBFGS | {"steps": 400},
    "reference": LBFGS,
    "best": LBFGS | {"steps": 5000},
    "adam": {
        "steps": 6000,
        "batch_size": 500,
        "learning_rate": 3e-3,
        "lr_schedule": "cosine",
        "weight_decay": 0.0,
        "eval_batch_size": 10_000,
        "eval_every": 500,
        "log_every": 20,
    },
}


def load_data(config: SparseAutoencoderRunConfig) -> DataModule:
    """Loads and whitens the images, and samples patches."""
    pixels = config.patches * config.model.visible
    capacity.require_host(pixels * BYTES_PER_PIXEL, "cutting patches")
    photographs = natural_images.load(config.dataset, config.data_dir)
    return natural_images.patch_data(
        photographs, config.patches, config.model.patch_size, config.seed
    )


def build_task(config: SparseAutoencoderRunConfig, data_spec: DataSpec) -> Task:
    """Builds the model."""
    model = sparse_autoencoder.SparseAutoencoder(config.model)
    init = functools.partial(model.init, x=jnp.zeros((1, config.model.visible), jnp.float32))
    return Task(
        model, init, sparse_autoencoder.loss, sparse_autoencoder.train_step, batch_coupled=True
    )


def sample(
    config: SparseAutoencoderRunConfig,
    task: Task,
    data_spec: DataSpec,
    state: TrainState,
    key: jax.Array,
) -> dict[str, np.ndarray]:
    """Returns the encoder filters as images."""
    filters = sae_features.filters(state.eval_params, config.model.patch_size)
    return {"images": sae_features.as_images(filters)}


def analyze(
    config: SparseAutoencoderRunConfig,
    task: Task,
    data: DataModule,
    state: TrainState,
    folder: RunFolder,
) -> dict[str, float]:
    """Fits Gabor functions to the filters; writes the cost terms and the activations."""
    photographs = natural_images.load(config.dataset, config.data_dir)
    costs = sae_features.write_cost_terms(folder, data.monitor, photographs)
    patches = data.train.arrays["patches"]
    activations = sae_features.write_activations(task.model, state.eval_params, patches, folder)
    return costs | activations


LAB = Lab(
    name="sparse_autoencoder",
    description=__doc__,
    config_class=SparseAutoencoderRunConfig,
    presets=PRESETS,
    load_data=load_data,
    build_task=build_task,
    sample=sample,
    analyze=analyze,
    plots={
        "filters": images.filters,
        "activations": plots.activations,
        "cost_terms": plots.cost_terms,
        "gabors": plots.gabors,
        "reconstructions": images.reconstructions,
        "whitening": images.whitening,
    },
    published=published.PUBLISHED_RESULTS,
    main_metrics=("training_patches_loss", "gabor_variance_explained"),
    loss_unit="cost",
    sweeps={
        "sparsity": Sweep(
            question="Reconstruction error by sparsity weight and number of hidden units?",
            axes={"sparsity_weight": (0.0, 0.3, 1.0, 3.0, 10.0), "hidden_size": (25, 100, 400)},
            metrics=("training_patches_reconstruction", "active_share", "gabor_variance_explained"),
            settings={"steps": 400, "log_every": 50},
        ),
        "seeds": Sweep(
            question="Variance of cost and filters over seeds?",
            axes={"seed": (0, 1, 2, 3, 4)},
            metrics=("training_patches_loss", "gabor_variance_explained"),
        ),
    },
)
