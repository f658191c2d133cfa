"""Batch norm, with statistics in at least float32 over the valid examples of all devices."""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxlabs.layers.dtypes import at_least_float32
from jaxlabs.layers.normalization import EPSILON


class BatchStatistics(NamedTuple):
    """Statistics of each feature over a batch."""

    mean: jax.Array  #: the axes of `x` that are not averaged over, such as [features] or [channels]
    variance: jax.Array  #: likewise; the biased variance, divided by n
    count: jax.Array  #: [] n, the number of values in each average


def batch_statistics(
    x: jax.Array,
    *,
    axes: tuple[int, ...] = (0,),
    weights: jax.Array | None = None,
    axis_name: str | None = None,
) -> BatchStatistics:
    """Returns mean and variance over the batch of `x [batch, ...]`, and over further axes.

    Averages are over the valid examples of all devices: devices with different numbers of valid
    examples, or none, give the result of one device with all examples. The variance takes a second
    pass, since E[x^2] - E[x]^2 cancels where a mean is large.

    Args:
      x: examples.
      axes: the axes to average over: (0,) gives statistics per entry of an example, (0, 1, 2) per
        channel of images [batch, height, width, channels].
      weights: [batch]; examples of weight 0 are ignored, all others have equal weight. None:
        none is ignored.
      axis_name: the mapped axis under `pmap`; None otherwise, also under `jit` on a mesh, where `x`
        is the global batch.

    Raises:
      ValueError: `axes` does not contain the batch axis, or `weights` is not [batch].
    """
    axes = _check_axes(axes, x.ndim)
    wide = at_least_float32(x)
    valid = jnp.ones(x.shape[:1], bool) if weights is None else weights != 0
    if valid.shape != x.shape[:1]:
        raise ValueError(f"weights: {valid.shape} is not accepted; {x.shape[:1]}, one an example")
    valid = valid.reshape(-1, *(1,) * (x.ndim - 1))
    values_per_example = math.prod(x.shape[axis] for axis in axes[1:])

    def sum_over_devices(total: jax.Array) -> jax.Array:
        return total if axis_name is None else lax.psum(total, axis_name)

    count = sum_over_devices(jnp.sum(valid, dtype=wide.dtype) * values_per_example)
    divisor = jnp.maximum(count, 1)
    mean = sum_over_devices(jnp.sum(wide, axes, where=valid)) / divisor
    squares = jnp.square(wide - jnp.expand_dims(mean, axes))
    variance = sum_over_devices(jnp.sum(squares, axes, where=valid)) / divisor
    return BatchStatistics(mean, variance, count)


def batch_norm(
    x: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    axes: tuple[int, ...] = (0,),
    epsilon: float = EPSILON,
) -> jax.Array:
    """Returns `(x - mean) / sqrt(variance + epsilon) * scale + bias` (Ioffe and Szegedy 2015).

    Args:
      x: [batch, ...].
      mean: the axes of `x` without `axes`; the batch mean in training, else the running mean.
      variance: likewise. Where it and `epsilon` are both 0, the result is `bias` and not NaN.
      scale: likewise (gamma); None: 1.
      bias: likewise (beta); None: 0.
      axes: see `batch_statistics`.
      epsilon: at least 0.

    Raises:
      ValueError: `axes` does not contain the batch axis.
    """
    axes = _check_axes(axes, x.ndim)
    shifted = variance + epsilon
    # Double where: neither rsqrt(0) nor its gradient is evaluated.
    factor = jnp.where(shifted > 0, lax.rsqrt(jnp.where(shifted > 0, shifted, 1)), 0)
    if scale is not None:
        factor = factor * scale
    y = (x - jnp.expand_dims(mean, axes)) * jnp.expand_dims(factor, axes)
    if bias is not None:
        y = y + jnp.expand_dims(bias, axes)
    return y.astype(x.dtype)


class BatchNorm(nn.Module):
    """`batch_norm` with learned `scale` and `bias` and running statistics, as PyTorch's.

    Training normalizes by the batch mean and the biased batch variance and updates the running
    statistics in the collection `batch_stats`; evaluation normalizes by the running statistics.
    PyTorch's running variance is unbiased (divided by n - 1), though training normalizes by the
    biased one. With `unbiased` both modes equal PyTorch's; without it the running variance averages
    biased variances (the convention of linen and TensorFlow; the paper divides by n - 1). A batch
    without a variance (all padding, or a single value under `unbiased`) leaves the running variance
    unchanged; PyTorch raises an error on single values.

    linen's BatchNorm differs in three points: it averages the devices' means without regard to
    examples of weight 0 (and is NaN where a device holds no others), it has no unbiased variance,
    and with an epsilon of 0 a constant feature is NaN.

    With gradient accumulation every micro-batch is normalized by itself, and the running statistics
    move towards the average over micro-batches. An example's loss depends on the rest of its
    micro-batch, so the number of micro-batches, unlike that of devices, changes the result.
    """

    axes: tuple[int, ...] = (0,)  #: see `batch_statistics`; (0, 1, 2) for images
    epsilon: float = EPSILON  #: added to the variance; at least 0
    #: weight of the new batch in the running statistics (PyTorch's convention; linen's is the
    #: weight of the old ones)
    momentum: float = 0.1
    unbiased: bool = True  #: whether the running variance is divided by n - 1

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool,
        weights: jax.Array | None = None,
        axis_name: str | None = None,
    ) -> jax.Array:
        """Returns `x [batch, ...]` normalized; apply with `mutable=["batch_stats"]` in training.

        Args:
          x: examples.
          train: whether to normalize by the statistics of `x` and to update the running ones.
          weights: see `batch_statistics`.
          axis_name: likewise.
        """
        axes = _check_axes(self.axes, x.ndim)
        shape = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
        scale = self.param("scale", nn.initializers.ones_init(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), shape, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_variance = self.variable("batch_stats", "variance", jnp.ones, shape, jnp.float32)
        mean, variance = running_mean.value, running_variance.value
        if train:
            axis_name = None if self.is_initializing() else axis_name
            mean, variance, count = batch_statistics(
                x, axes=axes, weights=weights, axis_name=axis_name
            )
        if train and not self.is_initializing():
            ddof_count = count - self.unbiased
            unbiased = variance * count / jnp.maximum(ddof_count, 1)
            running_mean.value = self._ema(running_mean.value, mean, count > 0)
            running_variance.value = self._ema(running_variance.value, unbiased, ddof_count > 0)
        return batch_norm(x, mean, variance, scale, bias, axes=axes, epsilon=self.epsilon)

    def _ema(self, old: jax.Array, new: jax.Array, valid: jax.Array) -> jax.Array:
        return old + jnp.where(valid, self.momentum, 0) * lax.stop_gradient(new - old)


def _check_axes(axes: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    """Returns nonnegative `axes`; raises ValueError unless the batch axis 0 is among them."""
    normalized = tuple(sorted({axis % ndim for axis in axes}))
    if 0 not in normalized:
        raise ValueError(f"axes: {axes} is not accepted; with 0, the batch, among them")
    return normalized
