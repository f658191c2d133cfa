"""Error of mini-batch statistics relative to those of the whole set, and its effect on accuracy."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.data.batches import Examples
from jaxlabs.models.image_classifier import to_float
from jaxlabs.training.state import TrainState


def study(
    state: TrainState, train: Examples, test: Examples, *, batch_size: int, seed: int
) -> dict[str, np.ndarray]:
    """Measures the noise of the batch statistics of a trained network with batch norm.

    The statistics are those of the training images, of the whole set and of mini-batches; the test
    images are classified with the statistics of their own batch. `batch_size` is that of the
    training.

    Returns:
      `sizes [size]`, batch sizes for which each set has at least two batches; `batch_size`;
      `num_images`, size of the training set; `mean_error [layer, size]`, difference of batch mean
      and mean of the whole set in standard deviations of the unit, root mean square over units and
      batches; `variance_error [layer, size]`, relative difference of the unbiased variances;
      `running_mean_error` and `running_variance_error [layer]`, those of the running statistics;
      `accuracy [size]` on test images with batch statistics, `running_accuracy []` with the running
      statistics.
    """
    sizes = [4**power for power in range(1, 9) if 2 * 4**power <= min(train.count, test.count)]
    rng = np.random.default_rng(seed)
    train_images, _ = _shuffled(train, rng)
    test_images, labels = _shuffled(test, rng)
    layers = _norm_inputs(state, train_images)
    errors, running_errors = [], []
    for number, z in enumerate(layers):
        running = state.batch_stats[f"hidden_{number}"]["norm"]
        running_errors.append(_errors(z, (running["mean"], running["variance"])))
        errors.append([_errors(z, _batch_statistics(z, size)) for size in sizes])
    result = {"sizes": sizes, "batch_size": batch_size, "num_images": train.count}
    for index, name in enumerate(("mean_error", "variance_error")):
        result[name] = np.array(errors)[..., index]
        result[f"running_{name}"] = np.array(running_errors)[:, index]
    variables = state.variables(state.params)
    accuracy = [
        _accuracy(state.model, variables, _batched(test_images, size), _batched(labels, size))
        for size in sizes
    ]
    logits = state.model.apply(variables, to_float(test_images))
    result["running_accuracy"] = np.mean(np.argmax(logits, axis=-1) == labels)
    result["accuracy"] = np.array(accuracy, float)
    return {name: np.asarray(value) for name, value in result.items()}


def metrics(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns errors at the size nearest to the training batch size, and accuracies, by name."""
    sizes = arrays["sizes"]
    nearest = int(np.argmin(np.abs(np.log(sizes / arrays["batch_size"]))))
    named = {}
    for name in ("mean_error", "variance_error"):
        named[f"{name}_at_{sizes[nearest]}"] = arrays[name][:, nearest].mean()
    for name in ("running_mean_error", "running_variance_error", "running_accuracy"):
        named[name] = arrays[name].mean()
    for size, accuracy in zip(sizes, arrays["accuracy"], strict=True):
        named[f"accuracy_by_statistics_of_{size}"] = accuracy
    return {name: float(value) for name, value in named.items()}


def _shuffled(examples, rng):
    order = rng.permutation(examples.count)
    return tuple(np.asarray(examples.arrays[name])[order] for name in ("images", "labels"))


def _batched(array, size):
    """Returns `[batch, size, ...]` of `[count, ...]`; drops an incomplete last batch."""
    count = len(array) // size
    return array[: count * size].reshape(count, size, *array.shape[1:])


def _norm_inputs(state, images):
    """Returns the inputs `[count, positions, units]` of each norm, with all images as one batch."""
    options = {"train": True, "mutable": ["batch_stats", "intermediates"]}
    _, sown = state.model.apply(state.variables(state.params), to_float(images), **options)
    names = [f"hidden_{number}" for number in range(state.model.config.num_layers)]
    layers = [sown["intermediates"][name]["linear"][0] for name in names]
    return [np.float64(z).reshape(len(z), -1, z.shape[-1]) for z in layers]


def _batch_statistics(z, size):
    """Returns means and unbiased variances `[batch, units]` of batches of `size` images."""
    batches = _batched(z, size).reshape(len(z) // size, -1, z.shape[-1])
    return batches.mean(axis=1), batches.var(axis=1, ddof=1)


def _errors(z, statistics):
    """Returns RMS errors of means and variances `[..., units]` relative to those of all of `z`."""
    mean, variance = _batch_statistics(z, len(z))
    active = variance[0] > 1e-12 * variance.max()  # constant units are excluded
    means, variances = (np.atleast_2d(values)[:, active] for values in statistics)
    mean, variance = mean[:, active], variance[:, active]
    errors = (means - mean) ** 2 / variance, (variances / variance - 1) ** 2
    return [float(np.sqrt(np.mean(error))) for error in errors]


@functools.partial(jax.jit, static_argnames="model")
def _accuracy(model, variables, images, labels):
    """Returns the accuracy on `labels [batch, size]` with the statistics of their batch."""

    def correct(images, labels):
        logits, _ = model.apply(variables, to_float(images), train=True, mutable=["batch_stats"])
        return jnp.mean(jnp.argmax(logits, axis=-1) == labels)

    return jax.vmap(correct)(images, labels).mean()
