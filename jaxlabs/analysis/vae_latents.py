"""What an autoencoder has learned: its codes, and the pictures at them and between them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.stats

from jaxlabs.analysis.vae_likelihood import likelihood
from jaxlabs.analysis.pca_baseline import against_pca
from jaxlabs.config import RUNTIME, Config, setting
from jaxlabs.data.dataset import Data
from jaxlabs.models import autoencoder
from jaxlabs.models.autoencoder import Autoencoder
from jaxlabs.run_folder import RunFolder
from jaxlabs.training.devices import data_parallel
from jaxlabs.training.loop import initial_state
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.run_steps import build_multi_step
from jaxlabs.training.task import Task

ACTIVE = 0.01
"""Variance of a unit's posterior mean over pictures above which it is active (Burda et al.)."""

SHOWN, GRID, STEPS, ROWS = 10, 18, 10, 2
"""Reconstructions; pictures on a side of the map; pictures on a line; rows of random codes."""

NEIGHBORS, MEASURED = 10_000, 500
"""Training pictures among which the nearest one is sought, and of how many pictures."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentConfig(Config):
    """What is measured of a trained autoencoder."""

    comparison_latent_dim: int | None = setting(
        None,
        "also train a plain and a variational model with so many latent units, for pictures side by"
        " side; none: no such comparison",
        minimum=1,
        kind=RUNTIME,
        aliases=("compare_latent",),
    )
    iwae_samples: int = setting(
        64,
        "samples of the importance-weighted bound on all pictures",
        minimum=1,
        maximum=1_000_000,
        kind=RUNTIME,
        aliases=("bound_samples",),
    )
    iwae_eval_samples: int = setting(
        5000,
        "samples of the tighter bound on some pictures",
        minimum=1,
        maximum=1_000_000,
        kind=RUNTIME,
        aliases=("tight_samples",),
    )
    iwae_eval_images: int = setting(
        0,
        "pictures of the tighter bound, drawn by the seed; 0: none",
        minimum=0,
        kind=RUNTIME,
        aliases=("tight_images",),
    )


def measure(
    model: Autoencoder, params: Any, data: Data, config: LatentConfig, folder: RunFolder, seed: int
) -> dict[str, float]:
    """Writes arrays for the report, and returns the figures of the model's kind.

    Of a variational model these are its `active_units` and its bounds (see `likelihood`), of a
    plain one those of `against_pca`.
    """
    test = data.evaluations[data.headline]
    images, labels = test.arrays["images"], test.arrays["labels"]
    figures = write_codes(model, params, images, labels, folder)
    if model.config.variational:
        places = np.random.default_rng(seed).permutation(test.count)[: config.iwae_eval_images]
        counts = config.iwae_samples, config.iwae_eval_samples
        return figures | likelihood(model, params, test, counts, places, seed)
    return against_pca(model, params, data.train.arrays["images"], images)


def train_fully(task: Task, data: Data, config: RunConfig) -> tuple[Autoencoder, Any]:
    """Returns the model and its parameters after all steps of a run that has no run folder.

    It uses one device of this process alone.
    """
    placement = data_parallel(jax.local_devices()[:1])
    state = initial_state(task, config, placement)
    run_steps = build_multi_step(task, config, placement)
    dataset, step = placement.replicate(data.train), -1
    while step < int(state.step) < config.steps:  # it stands still once the run has ended early
        step = int(state.step)
        count = min(config.steps_per_call, config.steps - step)
        state, _ = run_steps(state, dataset, np.int32(count), np.uint32(config.seed))
    return task.model, state.eval_params


def write_codes(
    model: Autoencoder, params: Any, images: np.ndarray, labels: np.ndarray, folder: RunFolder
) -> dict[str, float]:
    """Writes the map of codes, reconstructions and what each unit carries.

    Args:
      model: the model.
      params: its parameters.
      images: [count, height, width, channels] uint8.
      labels: [count] their classes.
      folder: gets the arrays `latent_map`, `reconstructions` and, where variational,
        `latent_units`.

    Returns:
      Where variational, the number of `active_units`.
    """
    mean, log_variance = autoencoder.encode(model, params, images)
    outputs = autoencoder.decode(model, params, mean[:SHOWN])
    folder.write_arrays("reconstructions", inputs=images[:SHOWN] / 255, outputs=outputs)
    mean = np.asarray(mean)
    plane, explained = _plane(mean)
    map_arrays = {"codes": plane, "labels": labels, "explained": explained}
    if model.config.latent_dim == 2:
        places = np.linspace(0.03, 0.97, GRID)
        axes = (
            np.tile(scipy.stats.norm.ppf(places), (2, 1))
            if model.config.variational
            else np.quantile(mean, places, axis=0).T
        )
        grid = np.stack(np.meshgrid(axes[0], axes[1][::-1]), axis=-1).reshape(-1, 2)
        map_arrays["pictures"] = autoencoder.decode(model, params, jnp.float32(grid))
    folder.write_arrays("latent_map", **map_arrays)
    if log_variance is None:
        return {}
    variance = mean.var(axis=0)
    divergence = np.asarray(autoencoder.gaussian_kl(mean, log_variance)).mean(axis=0)
    folder.write_arrays("latent_units", variance=variance, divergence=divergence, active=ACTIVE)
    return {"active_units": int((variance > ACTIVE).sum())}


def _plane(codes: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns codes `[count, 2]` in the plane of largest variance, and its share of all variance.

    Two units are that plane already, and stay as they are.
    """
    if codes.shape[1] <= 2:
        return np.pad(codes, ((0, 0), (0, 2 - codes.shape[1]))), 1.0
    centered = codes - codes.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centered, full_matrices=False)
    return centered @ axes[:2].T, float(np.sum(sizes[:2] ** 2) / np.sum(sizes**2))


def write_comparison(
    models: dict[str, tuple[Autoencoder, Any]], data: Data, folder: RunFolder, seed: int
) -> dict[str, float]:
    """Writes what models make of codes between pictures and of random codes.

    Random codes of a plain autoencoder, which has no prior, come from the normal distribution that
    has the mean and the covariance of its codes.

    Args:
      models: by name, a model and its parameters.
      data: the pictures.
      folder: gets the arrays `interpolations` and `random_codes`.
      seed: chooses pairs of pictures and random codes.

    Returns:
      By model, the mean squared distance from decoded pictures to the nearest training picture: for
      codes of pictures, codes halfway between two pictures, and random codes.
    """
    test = next(iter(data.evaluations.values())).arrays
    images, train_images = test["images"], data.train.arrays["images"]
    places = _one_of_each(test["labels"])
    random = np.random.default_rng(seed)
    pairs = random.choice(len(images), (2, MEASURED))
    lines, drawn, figures = {}, {}, {}
    for name, (model, params) in models.items():
        ends = images[places[0::2]], images[places[1::2]]
        lines[name] = autoencoder.interpolate(model, params, *ends, STEPS)
        between = autoencoder.interpolate(model, params, *images[pairs], 3)
        codes = _random_codes(model, params, train_images, random)
        decoded = autoencoder.decode(model, params, codes)
        drawn[name] = decoded[: ROWS * STEPS]
        for where, pictures in (
            ("at_codes", between[:, 0]),
            ("between_codes", between[:, 1]),
            ("random_codes", decoded),
        ):
            figures[f"{name}_distance_{where}"] = distance_to_nearest(pictures, train_images)
    folder.write_arrays("interpolations", **lines)
    folder.write_arrays("random_codes", **drawn)
    return figures


def _one_of_each(labels: np.ndarray) -> np.ndarray:
    """Returns the places of the first pictures of each class, an even number; or simply the first.

    Of one class alone there are no pairs of different ones.
    """
    _, places = np.unique(labels, return_index=True)
    if len(places) < 2:
        places = np.arange(min(SHOWN, len(labels)))
    return places[: len(places) // 2 * 2]


def _random_codes(
    model: Autoencoder, params: Any, images: np.ndarray, random: np.random.Generator
) -> jax.Array:
    normal = random.standard_normal((MEASURED, model.config.latent_dim))
    if not model.config.variational:
        codes = np.asarray(autoencoder.encode(model, params, images[:NEIGHBORS])[0], np.float64)
        spread = scipy.linalg.sqrtm(np.atleast_2d(np.cov(codes.T)))
        normal = codes.mean(axis=0) + normal @ np.real(spread)
    return jnp.float32(normal)


def distance_to_nearest(pictures: jax.Array, train_images: np.ndarray) -> float:
    """Returns the mean squared distance from pictures to their nearest among training pictures.

    Args:
      pictures: [count, ...] in [0, 1].
      train_images: [count, ...] uint8, of which the first 10,000 are compared.
    """
    known = np.asarray(train_images[:NEIGHBORS], np.float32) / 255
    known, rows = known.reshape(len(known), -1), np.asarray(pictures).reshape(len(pictures), -1)
    nearest = np.max(2 * rows @ known.T - np.square(known).sum(axis=1)[None], axis=1)
    return float(np.mean(np.square(rows).sum(axis=1) - nearest))
