"""Importance-weighted (IWAE) bounds on the negative log-likelihood of a VAE."""

import functools
from typing import Any

import jax
import numpy as np

from jaxlabs import keys
from jaxlabs.data.batches import Examples, eval_batch, num_batches
from jaxlabs.models import autoencoder
from jaxlabs.models.autoencoder import Autoencoder

BATCH = 100


def bounds(
    model: Autoencoder, params: Any, examples: Examples, samples: int, seed: int
) -> np.ndarray:
    """Returns the importance-weighted bound on `log p(x)` of every example, in nats, `[count]`."""
    size = min(BATCH, examples.count)
    key = keys.stream(seed, f"bound {samples}")
    batch_at = jax.jit(functools.partial(eval_batch, batch_size=size))
    values = []
    for index in range(num_batches(examples, size)):
        batch = batch_at(examples, index), jax.random.fold_in(key, index)
        values.append(autoencoder.iwae_bound(model, params, *batch, samples=samples))
    return np.concatenate(values)[: examples.count]


def likelihood(
    model: Autoencoder,
    params: Any,
    examples: Examples,
    samples: tuple[int, int],
    indices: np.ndarray,
    seed: int,
) -> dict[str, float]:
    """Returns upper bounds on the negative log-likelihood of images, in nats per image.

    The tighter bound is computed for some images only, as a control variate: the mean difference of
    the two bounds on these images is added to the mean of the other bound on all images. The
    difference varies far less between images than the bound.

    Args:
      model: a variational autoencoder.
      params: its parameters.
      examples: the images.
      samples: importance samples of the bound on all images, and of the tighter bound.
      indices: [some] random indices of the images of the tighter bound; may be empty.
      seed: of the posterior samples.

    Returns:
      `iwae_<samples>`, an upper bound of -log p(x); for the tighter one also
      `iwae_<samples>_stderr`, the standard error from the choice of images, 0 if all are used, and
      `iwae_<samples>_images`.
    """
    from scipy.stats import sem

    num_samples, tight_samples = samples
    all_bounds = -bounds(model, params, examples, num_samples, seed)
    metrics = {f"iwae_{num_samples}": float(all_bounds.mean())}
    count = len(indices)
    if count:
        subset = examples.take(indices)
        difference = -bounds(model, params, subset, tight_samples, seed) - all_bounds[indices]
        correction = (1 - count / examples.count) ** 0.5  # finite population
        error = correction * sem(difference) if count > 1 else float("nan")
        name = f"iwae_{tight_samples}"
        metrics[name] = float(all_bounds.mean() + difference.mean())
        metrics |= {f"{name}_stderr": float(error), f"{name}_images": count}
    return metrics
