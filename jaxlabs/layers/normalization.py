"""Normalization: of every example by itself, or of every unit over the batch.

Statistics are taken in at least float32.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

NORMS = ("layernorm", "rmsnorm")
EPSILON = 1e-5


def build_norm(kind: str, use_bias: bool = True) -> nn.Module:
    """Returns a module that normalizes `x [..., width]` over its last axis.

    Args:
      kind: "layernorm" (Ba et al. 2016: linen's own, with `scale [width]`) or "rmsnorm" (without
        parameters).
      use_bias: whether the layer norm has a `bias [width]` as well.

    Raises:
      ValueError: `kind` is not one of NORMS.
    """
    if kind not in NORMS:
        raise ValueError(f"norm: {kind!r} is not one of {', '.join(NORMS)}")
    if kind == "rmsnorm":
        return RMSNorm()
    # The two-pass variance: the fast one cancels where the mean is large against the deviation.
    return nn.LayerNorm(epsilon=EPSILON, use_bias=use_bias, use_fast_variance=False)


def rms_norm(x: jax.Array) -> jax.Array:
    """Divides `x [..., width]` by its root mean square (Zhang and Sennrich 2019), no gain."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    return (wide * jax.lax.rsqrt(mean_square + EPSILON)).astype(x.dtype)


class RMSNorm(nn.Module):
    """`rms_norm` as a module."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return rms_norm(x)


class BatchStatistics(NamedTuple):
    """What a batch says of each of its units.

    Attributes:
      mean: the axes of `x` that were not averaged over, such as [width] or [channels].
      variance: likewise; the mean squared distance from `mean`, so divided by n.
      count: [] n, how many values went into each of them.
    """

    mean: jax.Array
    variance: jax.Array
    count: jax.Array


def batch_statistics(
    x: jax.Array,
    *,
    axes: tuple[int, ...] = (0,),
    weights: jax.Array | None = None,
    axis_name: str | None = None,
) -> BatchStatistics:
    """Averages over the batch, and over more axes of each example if asked to.

    Means are of the values that are there, on all devices together: devices that hold different
    numbers of real examples, or none, give what one device gives that holds all. The squares are
    summed after the mean is known, since their difference cancels where a mean is large.

    Args:
      x: [batch, ...].
      axes: what is averaged over: (0,) gives every entry of an example its own statistics,
        (0, 1, 2) every channel of pictures [batch, height, width, channels].
      weights: [batch]; examples of weight 0 do not count, all others count alike. None: all do.
      axis_name: the mapped axis of a step under `pmap`; None outside of one, and under `jit` on a
        mesh, where `x` is the whole batch.

    Raises:
      ValueError: `axes` leaves the batch out, or `weights` is not [batch].
    """
    axes = _over_the_batch(axes, x.ndim)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    real = jnp.ones(x.shape[:1], bool) if weights is None else weights != 0
    if real.shape != x.shape[:1]:
        raise ValueError(f"weights: {real.shape} is not accepted; {x.shape[:1]}, one an example")
    real = real.reshape(-1, *(1,) * (x.ndim - 1))
    values_each = math.prod(x.shape[axis] for axis in axes[1:])

    def over_devices(total: jax.Array) -> jax.Array:
        return total if axis_name is None else lax.psum(total, axis_name)

    count = over_devices(jnp.sum(real, dtype=wide.dtype) * values_each)
    divisor = jnp.maximum(count, 1)
    mean = over_devices(jnp.sum(wide, axes, where=real)) / divisor
    squares = jnp.square(wide - jnp.expand_dims(mean, axes))
    return BatchStatistics(mean, over_devices(jnp.sum(squares, axes, where=real)) / divisor, count)


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
      mean: the axes of `x` without `axes`; of the batch in training, else the running one.
      variance: likewise. Where it and `epsilon` are both 0, the result is `bias`, and no NaN.
      scale: likewise (gamma); None: 1.
      bias: likewise (beta); None: 0.
      axes: see `batch_statistics`.
      epsilon: at least 0.

    Raises:
      ValueError: `axes` leaves the batch out.
    """
    axes = _over_the_batch(axes, x.ndim)
    spread = variance + epsilon
    # Two choices, so that neither the root of 0 nor its slope is ever taken.
    factor = jnp.where(spread > 0, lax.rsqrt(jnp.where(spread > 0, spread, 1)), 0)
    if scale is not None:
        factor = factor * scale
    y = (x - jnp.expand_dims(mean, axes)) * jnp.expand_dims(factor, axes)
    if bias is not None:
        y = y + jnp.expand_dims(bias, axes)
    return y.astype(x.dtype)


class BatchNorm(nn.Module):
    """`batch_norm` with learned `scale` and `bias` and running statistics, equal to PyTorch's.

    Training normalizes by the batch's own mean and variance, divided by n, and moves the running
    ones in the collection `batch_stats` towards them; evaluation normalizes by the running ones.
    PyTorch divides by n - 1 in the variance that it keeps, though not in the one it normalizes by.
    `unbiased` does so too, and with it both modes equal PyTorch's; without it the running variance
    is the mean of those that training used (the convention of linen and TensorFlow; the paper
    divides by n - 1). A batch that cannot tell a variance (all padding, or a single value under
    `unbiased`) leaves the running one as it was; PyTorch refuses single values.

    linen's own would do but for three things: it averages the devices' means however many examples
    of weight 0 each holds (and is NaN where one holds nothing else), it keeps no unbiased variance,
    and with an epsilon of 0 a constant unit is NaN.

    A step in micro-batches normalizes every one by itself, and its running statistics move towards
    the average of theirs: an example's loss depends on the rest of its micro-batch, so that
    micro-batches, unlike devices, change the result.

    Attributes:
      axes: see `batch_statistics`; (0, 1, 2) for pictures.
      epsilon: added to the variance; at least 0.
      momentum: share that the newest batch has in the running statistics (PyTorch's meaning; in
        linen it is the share of the old ones).
      unbiased: whether the running variance is divided by n - 1.
    """

    axes: tuple[int, ...] = (0,)
    epsilon: float = EPSILON
    momentum: float = 0.1
    unbiased: bool = True

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
          train: whether to use, and to keep, the statistics of `x`.
          weights: see `batch_statistics`.
          axis_name: likewise.
        """
        axes = _over_the_batch(self.axes, x.ndim)
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
            freedom = count - self.unbiased
            kept = variance * count / jnp.maximum(freedom, 1)
            running_mean.value = self._moved(running_mean.value, mean, count > 0)
            running_variance.value = self._moved(running_variance.value, kept, freedom > 0)
        return batch_norm(x, mean, variance, scale, bias, axes=axes, epsilon=self.epsilon)

    def _moved(self, old: jax.Array, new: jax.Array, known: jax.Array) -> jax.Array:
        return old + jnp.where(known, self.momentum, 0) * lax.stop_gradient(new - old)


def _over_the_batch(axes: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    """Returns `axes` counted from the front; raises ValueError unless 0 is among them."""
    counted = tuple(sorted({axis % ndim for axis in axes}))
    if 0 not in counted:
        raise ValueError(f"axes: {axes} is not accepted; with 0, the batch, among them")
    return counted
