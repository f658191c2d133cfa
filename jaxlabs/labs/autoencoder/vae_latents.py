"""Latent space of an autoencoder: latent map, active units, reconstructions, interpolations."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.config import ArgumentError, Config, runtime
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.image_stream import sample
from jaxlabs.labs.autoencoder.pca_baseline import compare_with_pca
from jaxlabs.labs.autoencoder.vae_likelihood import likelihood
from jaxlabs.models import autoencoder
from jaxlabs.models.autoencoder import Autoencoder
from jaxlabs.run_folder import RunFolder
from jaxlabs.training.advance import MAX_SKIPPED, Advance
from jaxlabs.training.devices import data_parallel
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.task import Task

ACTIVE_VARIANCE = 0.01
"""A unit is active if the variance of its posterior mean exceeds this value (Burda et al.)."""

SHOWN, GRID, STEPS, ROWS = 10, 18, 10, 2
"""Reconstructions; grid size of the latent map; interpolation steps; rows of random samples."""

NUM_REFERENCE, NUM_QUERIES = 10_000, 500
"""Training images of the nearest-neighbor search, and images whose distance is measured."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentEvalConfig(Config):
    """Options of the evaluation of an autoencoder."""

    comparison_latent_dim: int | None = runtime(
        None,
        "latent dimension of an autoencoder and a VAE that are also trained, for a side-by-side"
        " comparison; none: no comparison",
        minimum=1,
        aliases=("compare_latent",),
    )
    iwae_samples: int = runtime(
        64,
        "importance samples of the IWAE bound on all test images",
        minimum=1,
        maximum=1_000_000,
        aliases=("bound_samples",),
    )
    iwae_eval_samples: int = runtime(
        5000,
        "importance samples of the tighter IWAE bound on `iwae_eval_images`",
        minimum=1,
        maximum=1_000_000,
        aliases=("tight_samples",),
    )
    iwae_eval_images: int = runtime(
        0,
        "number of random test images of the tighter IWAE bound; 0: none",
        minimum=0,
        aliases=("tight_images",),
    )


def measure(
    model: Autoencoder,
    params: Any,
    data: DataModule,
    config: LatentEvalConfig,
    folder: RunFolder,
    seed: int,
) -> dict[str, float]:
    """Writes arrays for the report, and returns metrics.

    For a VAE these are `active_units` and the IWAE bounds (see `likelihood`), for a deterministic
    autoencoder those of `compare_with_pca`.
    """
    test = data.eval_sets[data.monitor]
    images, labels = test.arrays["images"], test.arrays["labels"]
    metrics = write_latents(model, params, images, labels, folder)
    if model.config.variational:
        indices = np.random.default_rng(seed).permutation(test.count)[: config.iwae_eval_images]
        counts = config.iwae_samples, config.iwae_eval_samples
        return metrics | likelihood(model, params, test, counts, indices, seed)
    return compare_with_pca(model, params, sample(data.train.arrays["images"]), images)


def train_fully(task: Task, data: DataModule, config: RunConfig) -> tuple[Autoencoder, Any]:
    """Trains a model on one device, without a run folder; returns it with its final parameters.

    Raises:
      ArgumentError: the training diverged.
    """
    from jaxlabs.training.trainer import initial_state  # needs Orbax, which `--help` does not

    placement = data_parallel(jax.local_devices()[:1])
    advance = Advance(task, config, placement, data.train)
    state, _ = advance(initial_state(task, config, placement, weights={}), config.steps)
    if int(state.skipped) >= MAX_SKIPPED:
        objective, size = config.model.objective, config.model.latent_dim
        raise ArgumentError(
            "comparison_latent_dim",
            f"the {objective} of {size} latent dimensions diverged; none leaves it out",
        )
    return task.model, state.eval_params


def write_latents(
    model: Autoencoder, params: Any, images: np.ndarray, labels: np.ndarray, folder: RunFolder
) -> dict[str, float]:
    """Writes the arrays `latent_map`, `reconstructions` and, for a VAE, `latent_units`.

    The images are `[count, height, width, channels]` uint8, their `labels [count]` classes.

    Returns:
      For a VAE, the number of `active_units`.
    """
    mean, log_variance = autoencoder.encode(model, params, images)
    outputs = autoencoder.decode(model, params, mean[:SHOWN])
    folder.write_arrays("reconstructions", inputs=images[:SHOWN] / 255, outputs=outputs)
    mean = np.asarray(mean)
    plane, explained = _project_to_plane(mean)
    map_arrays = {"codes": plane, "labels": labels, "explained": explained}
    if model.config.latent_dim == 2:
        map_arrays["images"] = autoencoder.decode(model, params, _grid(mean, model))
    folder.write_arrays("latent_map", **map_arrays)
    if log_variance is None:
        return {}
    variance = mean.var(axis=0)
    divergence = np.asarray(autoencoder.gaussian_kl(mean, log_variance)).mean(axis=0)
    units = {"variance": variance, "divergence": divergence, "active": ACTIVE_VARIANCE}
    folder.write_arrays("latent_units", **units)
    return {"active_units": int((variance > ACTIVE_VARIANCE).sum())}


def _grid(codes, model):
    """Returns a grid over the plane, spaced by quantiles of the prior or of the codes."""
    from scipy.stats import norm

    quantiles = np.linspace(0.03, 0.97, GRID)
    x, y = np.quantile(codes, quantiles, axis=0).T
    if model.config.variational:
        x = y = norm.ppf(quantiles)
    return jnp.float32(np.stack(np.meshgrid(x, y[::-1]), axis=-1).reshape(-1, 2))


def _project_to_plane(codes):
    """Returns the first two principal components `[count, 2]`, and their fraction of the variance.

    Codes of at most two dimensions are returned unchanged, padded to two.
    """
    if codes.shape[1] <= 2:
        return np.pad(codes, ((0, 0), (0, 2 - codes.shape[1]))), 1.0
    centered = codes - codes.mean(axis=0)
    _, singular_values, axes = np.linalg.svd(centered, full_matrices=False)
    squares = singular_values**2
    return centered @ axes[:2].T, float(np.sum(squares[:2]) / np.sum(squares))


def write_comparison(
    models: dict[str, tuple[Autoencoder, Any]], data: DataModule, folder: RunFolder, seed: int
) -> dict[str, float]:
    """Writes the arrays `interpolations` and `random_codes`, decoded by several models.

    Random codes of a VAE are sampled from the prior, those of a deterministic autoencoder from a
    Gaussian with the mean and covariance of its codes.

    Returns:
      For each model, the mean squared distance from decoded images to the nearest training image:
      for codes of images, for midpoints of two codes, and for random codes.
    """
    test = next(iter(data.eval_sets.values())).arrays
    images, train_images = test["images"], data.train.arrays["images"]
    indices = _one_per_class(test["labels"])
    rng = np.random.default_rng(seed)
    pairs = rng.choice(len(images), (2, NUM_QUERIES))
    interpolations, samples, metrics = {}, {}, {}
    for name, (model, params) in models.items():
        ends = images[indices[0::2]], images[indices[1::2]]
        interpolations[name] = autoencoder.interpolate(model, params, *ends, STEPS)
        midpoints = autoencoder.interpolate(model, params, *images[pairs], 3)
        codes = _random_codes(model, params, train_images, rng)
        decoded = autoencoder.decode(model, params, codes)
        samples[name] = decoded[: ROWS * STEPS]
        outputs = {"at": midpoints[:, 0], "between": midpoints[:, 1], "random": decoded}
        for kind, images_of_kind in outputs.items():
            distance = distance_to_nearest(images_of_kind, train_images)
            metrics[f"{name}_distance_{kind}_codes"] = distance
    folder.write_arrays("interpolations", **interpolations)
    folder.write_arrays("random_codes", **samples)
    return metrics


def _one_per_class(labels):
    """Returns an even number of indices: the first image of each class, or of a single class."""
    _, indices = np.unique(labels, return_index=True)
    if len(indices) < 2:
        indices = np.arange(min(SHOWN, len(labels)))
    return indices[: len(indices) // 2 * 2]


def _random_codes(model, params, images, rng):
    from scipy.linalg import sqrtm

    normal = rng.standard_normal((NUM_QUERIES, model.config.latent_dim))
    if not model.config.variational:
        codes = np.asarray(autoencoder.encode(model, params, images[:NUM_REFERENCE])[0], np.float64)
        root = sqrtm(np.atleast_2d(np.cov(codes.T)))
        normal = codes.mean(axis=0) + normal @ np.real(root)
    return jnp.float32(normal)


def distance_to_nearest(images: jax.Array, train_images: np.ndarray) -> float:
    """Returns the mean squared distance from images to their nearest training image.

    Args:
      images: [count, ...] in [0, 1].
      train_images: [other count, ...] uint8, of which the first NUM_REFERENCE are compared.
    """
    reference = np.asarray(train_images[:NUM_REFERENCE], np.float32) / 255
    reference = reference.reshape(len(reference), -1)
    rows = np.asarray(images).reshape(len(images), -1)
    nearest = np.max(2 * rows @ reference.T - np.square(reference).sum(axis=1)[None, :], axis=1)
    return float(np.mean(np.square(rows).sum(axis=1) - nearest))
