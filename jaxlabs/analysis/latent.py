"""What an autoencoder has learned: its codes, the pictures between them, how tight its bound is."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.stats

from jaxlabs import keys
from jaxlabs.config import RUNTIME, Config, setting
from jaxlabs.data.batches import Examples, num_batches, ordered_batch
from jaxlabs.data.splits import Data
from jaxlabs.models import autoencoder
from jaxlabs.models.autoencoder import Autoencoder
from jaxlabs.run_folder import RunFolder
from jaxlabs.training.devices import data_parallel
from jaxlabs.training.loop import initial_state
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.run_steps import build_run_steps
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task

ACTIVE = 0.01
"""Variance of a unit's posterior mean over pictures above which it is active (Burda et al.)."""

SHOWN, GRID, STEPS, ROWS = 10, 18, 10, 2
"""Reconstructions; pictures on a side of the map; pictures on a line; rows of random codes."""

NEIGHBOURS, COMPARED, PAIRS = 10, 10_000, 500
"""Training pictures that vote on what a picture shows, of how many, for how many pictures."""

BATCH = 100
"""Pictures in a batch of the importance-weighted bound."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentConfig(Config):
    """What is measured of a trained autoencoder."""

    compare_objectives: bool = setting(
        False, "also train with the other objective, for pictures side by side", kind=RUNTIME
    )
    bound_samples: int = setting(
        64, "samples of the importance-weighted bound on all pictures", minimum=1, kind=RUNTIME
    )
    tight_samples: int = setting(
        5000, "samples of the tighter bound on some pictures", minimum=1, kind=RUNTIME
    )
    tight_images: int = setting(
        0, "pictures of the tighter bound, drawn by the seed; 0: none", minimum=0, kind=RUNTIME
    )


def train_fully(task: Task, data: Data, config: RunConfig) -> TrainState:
    """Takes all steps of a run, without a run folder, on one device of this process."""
    placement = data_parallel(jax.local_devices()[:1])
    state = initial_state(task, config, placement)
    run_steps = build_run_steps(task, config, placement)
    dataset, step = placement.replicate(data.train), -1
    while step < int(state.step) < config.steps:  # it stands still once the run has ended early
        step = int(state.step)
        count = min(config.steps_per_call, config.steps - step)
        state, _ = run_steps(state, dataset, np.int32(count), np.uint32(config.seed))
    return state


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
    if model.config.latent == 2:
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
    centred = codes - codes.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    return centred @ axes[:2].T, float(np.sum(sizes[:2] ** 2) / np.sum(sizes**2))


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
      By model, how clearly the pictures halfway between codes show one class: which share of their
      nearest training pictures is of the class that most of them are of; and as much for the
      reconstructions at the codes.
    """
    test = next(iter(data.evaluations.values())).arrays
    images, labels = test["images"], test["labels"]
    places = _one_of_each(labels)
    first, last = images[places[0::2]], images[places[1::2]]
    random = np.random.default_rng(seed)
    pairs = random.choice(len(images), (2, PAIRS))
    pairs = pairs[:, labels[pairs[0]] != labels[pairs[1]]]
    lines, drawn, figures = {}, {}, {}
    for name, (model, params) in models.items():
        lines[name] = autoencoder.interpolate(model, params, first, last, STEPS)
        codes = _random_codes(model, params, data.train.arrays["images"], random)
        drawn[name] = autoencoder.decode(model, params, codes)
        if pairs.size:
            steps = autoencoder.interpolate(model, params, *images[pairs], 3)
            for place, where in ((0, "at_codes"), (1, "between_codes")):
                figures[f"{name}_clear_{where}"] = clearness(steps[:, place], data.train)
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
    count, latent = ROWS * STEPS, model.config.latent
    normal = random.standard_normal((count, latent))
    if not model.config.variational:
        codes = np.asarray(autoencoder.encode(model, params, images[:COMPARED])[0], np.float64)
        covariance = np.atleast_2d(np.cov(codes.T))
        normal = codes.mean(axis=0) + normal @ np.real(scipy.linalg.sqrtm(covariance))
    return jnp.float32(normal)


def clearness(pictures: jax.Array, train: Examples) -> float:
    """Returns which share of a picture's nearest training pictures agree on its class, on average.

    Args:
      pictures: [count, ...] in [0, 1].
      train: `images` uint8 and `labels`.
    """
    known = np.asarray(train.arrays["images"][:COMPARED], np.float32) / 255
    known, rows = known.reshape(len(known), -1), np.asarray(pictures).reshape(len(pictures), -1)
    distances = np.sum(known**2, axis=1)[None] - 2 * rows @ known.T
    nearest = np.argpartition(distances, min(NEIGHBOURS, len(known)) - 1, axis=1)[:, :NEIGHBOURS]
    votes = np.asarray(train.arrays["labels"])[nearest]
    counts = np.apply_along_axis(np.bincount, 1, votes, minlength=votes.max() + 1)
    return float(counts.max(axis=1).mean() / votes.shape[1])


def bounds(
    model: Autoencoder, params: Any, examples: Examples, samples: int, seed: int
) -> np.ndarray:
    """Returns the importance-weighted bound on `log p(x)` of every example, in nats, `[count]`."""
    size = min(BATCH, examples.count)
    key = keys.stream(seed, f"bound {samples}")
    values = [
        autoencoder.iwae_bound(
            model,
            params,
            ordered_batch(examples, index, size),
            jax.random.fold_in(key, index),
            samples=samples,
        )
        for index in range(num_batches(examples, size))
    ]
    return np.concatenate(values)[: examples.count]


def likelihood(
    model: Autoencoder, params: Any, examples: Examples, config: LatentConfig, seed: int
) -> dict[str, float]:
    """Returns bounds on the negative log-likelihood of pictures, in nats a picture.

    The tighter bound is taken on `tight_images` of them only. How much it gains there over the
    other bound is added to the other bound's mean over all pictures: the gain varies a hundred
    times less from picture to picture than the bound itself, and so does the error of the result.

    Returns:
      `bound_<samples>`; for the tighter one also `bound_<samples>_error`, the standard error that
      stems from taking some pictures and not all, 0 for all, and `bound_<samples>_images`.
    """
    all_pictures = -bounds(model, params, examples, config.bound_samples, seed)
    figures = {f"bound_{config.bound_samples}": float(all_pictures.mean())}
    count = min(config.tight_images, examples.count)
    if count:
        places = np.random.default_rng(seed).permutation(examples.count)[:count]
        some = Examples({name: values[places] for name, values in examples.arrays.items()})
        gain = -bounds(model, params, some, config.tight_samples, seed) - all_pictures[places]
        rest = (1 - count / examples.count) ** 0.5  # of a finite set
        error = rest * scipy.stats.sem(gain) if count > 1 else float("nan")
        name = f"bound_{config.tight_samples}"
        figures[name] = float(all_pictures.mean() + gain.mean())
        figures |= {f"{name}_error": float(error), f"{name}_images": count}
    return figures


def against_pca(
    model: Autoencoder, params: Any, train: np.ndarray, test: np.ndarray
) -> dict[str, float]:
    """Sets a plain autoencoder against principal components, as many as its code has units.

    Args:
      model: a plain autoencoder.
      params: its parameters.
      train: [count, ...] uint8 pictures, whose components are taken.
      test: [count, ...] uint8 pictures, whose error is measured.

    Returns:
      `pca_squared_error`, the sum over a test picture's pixels; and for a linear autoencoder
      `pca_angle`, the largest angle between the two subspaces, in degrees (Bourlard and Kamp 1988:
      its best subspace is that of the components).
    """
    train, test = (rows.reshape(len(rows), -1).astype(np.float64) / 255 for rows in (train, test))
    components = principal_components(train, model.config.latent)
    centred = test - train.mean(axis=0)
    missed = centred - centred @ components.T @ components
    figures = {"pca_squared_error": float(np.square(missed).sum(axis=1).mean())}
    if model.config.hidden_layers == 0:
        decoder = np.asarray(params["output"]["kernel"], np.float64)
        angles = scipy.linalg.subspace_angles(decoder.T, components.T)
        figures["pca_angle"] = float(np.degrees(angles.max()))
    return figures


def principal_components(rows: np.ndarray, count: int) -> np.ndarray:
    """Returns the first `count` components of rows `[examples, values]`, orthonormal, as rows."""
    centred = rows - rows.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return axes.T[::-1][:count]
