"""How far the statistics of a mini-batch are from those of all pictures, and what that costs."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.data.batches import Examples
from jaxlabs.models.batchnorm_net import NormalizedNetwork
from jaxlabs.models.image_classifier import to_float
from jaxlabs.training.state import TrainState


def study(
    state: TrainState, train: Examples, test: Examples, *, batch_size: int, seed: int
) -> dict[str, np.ndarray]:
    """Measures a trained network with batch norms.

    Args:
      state: the network's.
      train: pictures whose statistics are taken: of all at once, of mini-batches of them.
      test: pictures that are classified by the statistics of the batch that they come in.
      batch_size: the one that training used.
      seed: shuffles both sets.

    Returns:
      `sizes [size]`, pictures in a batch, so that each set has at least two; `batch_size`;
      `pictures`, how many are all. `mean_error [layer, size]`, distance of a batch's means from
      those of all pictures, in deviations of the unit, root mean square over units and batches;
      `variance_error [layer, size]`, likewise of the unbiased variance, as a share of the unit's;
      `running_mean_error` and `running_variance_error [layer]`, of the statistics that training has
      kept; `accuracy [size]` on test pictures by the statistics of their batch, `running_accuracy
      []` by the kept ones.
    """
    sizes = [4**power for power in range(1, 9) if 2 * 4**power <= min(train.count, test.count)]
    random = np.random.default_rng(seed)
    train_images, _ = _shuffled(train, random)
    test_images, labels = _shuffled(test, random)
    layers = _inputs_of_norms(state, train_images)
    running = [
        (np.asarray(kept["norm"]["mean"]), np.asarray(kept["norm"]["variance"]))
        for kept in (state.batch_stats[f"hidden_{number}"] for number in range(len(layers)))
    ]
    errors = [[_errors(z, _grouped(z, size)) for size in sizes] for z in layers]
    mean_error, variance_error = np.moveaxis(np.array(errors), -1, 0)
    kept = [_errors(z, kept) for z, kept in zip(layers, running, strict=True)]
    running_mean_error, running_variance_error = np.array(kept).T
    variables = state.variables(state.params)
    accuracy = [
        float(_accuracy(state.model, variables, _cut(test_images, size), _cut(labels, size)))
        for size in sizes
    ]
    logits = state.model.apply(variables, to_float(test_images))
    return {
        "sizes": np.array(sizes),
        "batch_size": np.array(batch_size),
        "pictures": np.array(train.count),
        "mean_error": mean_error,
        "variance_error": variance_error,
        "running_mean_error": running_mean_error,
        "running_variance_error": running_variance_error,
        "accuracy": np.array(accuracy),
        "running_accuracy": np.mean(np.argmax(logits, axis=-1) == labels),
    }


def figures(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the errors at the size nearest to that of training, and the accuracies."""
    sizes = arrays["sizes"]
    at = int(np.argmin(np.abs(np.log(sizes / arrays["batch_size"]))))
    named = {
        f"{name}_at_{sizes[at]}": arrays[name][:, at].mean()
        for name in ("mean_error", "variance_error")
    }
    named |= {
        f"running_{name}": arrays[f"running_{name}"].mean()
        for name in ("mean_error", "variance_error", "accuracy")
    }
    named |= {
        f"accuracy_by_statistics_of_{size}": accuracy
        for size, accuracy in zip(sizes, arrays["accuracy"], strict=True)
    }
    return {name: float(value) for name, value in named.items()}


def _shuffled(pictures: Examples, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    order = random.permutation(pictures.count)
    return tuple(np.asarray(pictures.arrays[name])[order] for name in ("images", "labels"))


def _cut(array: np.ndarray, size: int) -> np.ndarray:
    """Returns `[batch, size, ...]` of `[count, ...]`; what does not fill a batch is left out."""
    count = len(array) // size
    return array[: count * size].reshape(count, size, *array.shape[1:])


def _inputs_of_norms(state: TrainState, images: np.ndarray) -> list[np.ndarray]:
    """Returns what goes into each norm, `[count, values, units]`, all pictures being one batch."""
    _, sown = state.model.apply(
        state.variables(state.params),
        to_float(images),
        train=True,
        mutable=["batch_stats", "intermediates"],
    )
    layers = [
        sown["intermediates"][f"hidden_{number}"]["linear"][0]
        for number in range(state.model.config.num_layers)
    ]
    return [np.float64(z).reshape(len(z), -1, z.shape[-1]) for z in layers]


def _grouped(z: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns means and unbiased variances `[batch, units]` of batches of `size` pictures."""
    batches = _cut(z, size).reshape(len(z) // size, -1, z.shape[-1])
    return batches.mean(axis=1), batches.var(axis=1, ddof=1)


def _errors(z: np.ndarray, statistics: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    """Returns how far means and variances `[..., units]` are from those of all of `z`."""
    (mean,), (variance,) = _grouped(z, len(z))
    live = variance > 1e-12 * variance.max()  # of a constant unit there is nothing to estimate
    means, variances = (np.atleast_2d(values)[:, live] for values in statistics)
    mean, variance = mean[None, live], variance[None, live]
    return (
        float(np.sqrt(np.mean((means - mean) ** 2 / variance))),
        float(np.sqrt(np.mean((variances / variance - 1) ** 2))),
    )


@functools.partial(jax.jit, static_argnames="model")
def _accuracy(
    model: NormalizedNetwork, variables: Any, images: np.ndarray, labels: np.ndarray
) -> jax.Array:
    """Returns how many of `labels [batch, size]` are right by the statistics of their batch."""

    def correct(images: jax.Array, labels: jax.Array) -> jax.Array:
        logits, _ = model.apply(variables, to_float(images), train=True, mutable=["batch_stats"])
        return jnp.mean(jnp.argmax(logits, axis=-1) == labels)

    return jax.vmap(correct)(images, labels).mean()
