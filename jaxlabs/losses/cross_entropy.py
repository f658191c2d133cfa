"""Cross-entropy of class logits."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import lax

from jaxlabs.losses.loss_output import LossOutput


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns `-log softmax(logits)[label]` for every label, in nats, `[...]`; nothing is reduced.

    Computed in at least float32, finite at logits of any finite size. The label's logit is taken by
    a masked sum: on a CPU its gradient is much cheaper than that of a gather, which is a scatter.

    Args:
      logits: [..., classes].
      labels: [...] integers in [0, classes); one outside has no logit and yields `logsumexp`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxlabs.losses.cross_entropy import cross_entropy
      >>> round(float(cross_entropy(jnp.zeros((1, 4)), jnp.array([2]))[0]), 4)  # log 4
      1.3863
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    classes = lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    of_label = jnp.where(classes == labels[..., None], logits, 0).sum(axis=-1)
    return jax.nn.logsumexp(logits, axis=-1) - of_label


def is_top1(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns whether every label is the likeliest, `[...]` bool; of equals the first one is.

    Plain reductions: over thousands of classes an argmax takes XLA several times as long on CPUs
    (jax 0.10). A label's logit is compared with all others and never with a maximum, which XLA may
    compute anew with another rounding.

    Args:
      logits: [..., classes].
      labels: [...] integers in [0, classes).
    """
    classes = lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    labels = labels[..., None]
    own = jnp.where(classes == labels, logits, 0).sum(axis=-1, keepdims=True)
    beaten = jnp.where(classes < labels, own > logits, own >= logits)
    return (beaten | (classes == labels)).all(axis=-1)


def scored(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> LossOutput:
    """Returns the summed cross-entropy and, as `accuracy`, how often the likeliest label is right.

    Args:
      logits: [..., classes].
      labels: [...] integers in [0, classes).
      weights: [...] how much each label counts; 0: it is not there.
    """
    return LossOutput(
        total=jnp.sum(cross_entropy(logits, labels) * weights),
        weight=jnp.sum(weights),
        sums={"accuracy": jnp.sum(weights * is_top1(logits, labels).astype(weights.dtype))},
    )


def perplexity(figures: Mapping[str, float]) -> dict[str, float]:
    """Returns `perplexity`, the exponential of `loss` in `figures`, a mean in nats per token.

    It is among how many equal chances the model is torn.
    """
    return {"perplexity": math.exp(min(figures["loss"], 700.0))}  # e^710 is no float64
