"""How likely a variational autoencoder takes pictures to be, by importance-weighted bounds."""

import functools
from typing import Any

import jax
import numpy as np
import scipy.stats

from jaxlabs import keys
from jaxlabs.data.batches import Examples, eval_batch, num_batches
from jaxlabs.models import autoencoder
from jaxlabs.models.autoencoder import Autoencoder

BATCH = 100
"""Pictures taken at once."""


def bounds(
    model: Autoencoder, params: Any, examples: Examples, samples: int, seed: int
) -> np.ndarray:
    """Returns the importance-weighted bound on `log p(x)` of every example, in nats, `[count]`."""
    size = min(BATCH, examples.count)
    key = keys.stream(seed, f"bound {samples}")
    batch = jax.jit(functools.partial(eval_batch, batch_size=size))
    values = [
        autoencoder.iwae_bound(
            model,
            params,
            batch(examples, index),
            jax.random.fold_in(key, index),
            samples=samples,
        )
        for index in range(num_batches(examples, size))
    ]
    return np.concatenate(values)[: examples.count]


def likelihood(
    model: Autoencoder,
    params: Any,
    examples: Examples,
    samples: tuple[int, int],
    places: np.ndarray,
    seed: int,
) -> dict[str, float]:
    """Returns upper bounds on the negative log-likelihood of pictures, in nats a picture.

    The tighter bound is taken at some places only. How much it gains there over the other bound is
    added to the other bound's mean over all pictures: the gain varies far less from picture to
    picture than the bound itself, and so does the error of the result.

    Args:
      model: a variational autoencoder.
      params: its parameters.
      examples: the pictures.
      samples: of the bound on all pictures, and of the tighter one.
      places: [some] where to take the tighter bound, drawn at random; of length 0: nowhere.
      seed: of all noise.

    Returns:
      `bound_<samples>`; for the tighter one also `bound_<samples>_error`, the standard error that
      stems from taking some pictures and not all, 0 for all, and `bound_<samples>_images`.
    """
    few, many = samples
    all_pictures = -bounds(model, params, examples, few, seed)
    figures = {f"bound_{few}": float(all_pictures.mean())}
    count = len(places)
    if count:
        some = Examples({name: values[places] for name, values in examples.arrays.items()})
        gain = -bounds(model, params, some, many, seed) - all_pictures[places]
        rest = (1 - count / examples.count) ** 0.5  # of a finite set
        error = rest * scipy.stats.sem(gain) if count > 1 else float("nan")
        name = f"bound_{many}"
        figures[name] = float(all_pictures.mean() + gain.mean())
        figures |= {f"{name}_error": float(error), f"{name}_images": count}
    return figures
