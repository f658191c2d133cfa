"""Cross-entropy of class logits."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import lax

from jaxlabs.layers.dtypes import at_least_float32
from jaxlabs.losses.loss_output import LossOutput


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns `-log softmax(logits)[label]` for every label, in nats, `[...]`, unreduced.

    Computed in at least float32; finite for all finite logits. The label's logit is selected by a
    masked sum, whose gradient on CPUs is much cheaper than the scatter of optax's gather.

    Args:
      logits: [..., classes].
      labels: [...] integers in [0, classes); a label outside yields `logsumexp`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxlabs.losses.cross_entropy import cross_entropy
      >>> round(float(cross_entropy(jnp.zeros((1, 4)), jnp.array([2]))[0]), 4)  # log 4
      1.3863
    """
    logits = at_least_float32(logits)
    classes = lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    label_logit = jnp.where(classes == labels[..., None], logits, 0).sum(axis=-1)
    return jax.nn.logsumexp(logits, axis=-1) - label_logit


def is_top1(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns whether every label is the argmax, `[...]` bool; ties go to the lowest class.

    By reductions: over thousands of classes an argmax takes XLA several times as long on CPUs (jax
    0.10). The label's logit is compared with all others and not with their maximum, which XLA may
    recompute with other rounding.

    Args:
      logits: [..., classes].
      labels: [...] integers in [0, classes).
    """
    classes = lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    labels = labels[..., None]
    label_logit = jnp.where(classes == labels, logits, 0).sum(axis=-1, keepdims=True)
    wins = jnp.where(classes < labels, label_logit > logits, label_logit >= logits)
    return (wins | (classes == labels)).all(axis=-1)


def cross_entropy_output(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> LossOutput:
    """Returns the sums of the cross-entropy, in nats, and of the top-1 `accuracy`.

    Args:
      logits: [..., classes].
      labels: [...] integers in [0, classes).
      weights: [...] weight of each label; 0: masked.
    """
    return LossOutput(
        loss_sum=jnp.sum(cross_entropy(logits, labels) * weights),
        weight_sum=jnp.sum(weights),
        metric_sums={"accuracy": jnp.sum(weights * is_top1(logits, labels).astype(weights.dtype))},
    )


def perplexity(metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns `perplexity`, the exponential of the mean `loss` in nats per token."""
    return {"perplexity": math.exp(min(metrics["loss"], 700.0))}  # e^710 overflows float64
