"""Losses that bring the two halves of a pair together and hold all else apart, in nats.

CLIP's (Radford et al. 2021, "Learning Transferable Visual Models From Natural Language
Supervision", figure 3) picks each image's own text out of all texts of the batch, and each text's
image out of all images. SigLIP's (Zhai et al. 2023, "Sigmoid Loss for Language Image
Pre-Training", algorithm 1) asks of every image and every text by themselves: are they a pair?

Values are per example; the mean over a batch of N is the papers' loss. In SigLIP's that is the 1/N
in front of N * N terms: an image has one positive term and N - 1 negative ones, all summed. A pair
of weight 0 is not there: it has value 0 and is nobody's negative. Two pairs with the same text are
each other's negatives all the same, as in both papers: the losses know pairs by their place alone.

    images, texts   [batch, width]    embeddings of unit length
    logits          [batch, batch]    scale * images @ texts.T + bias

Over several devices each holds its own rows, and `axis_name` tells the mapped axis. What a device
then returns belongs to its own examples, with the negatives of all. Under `jax.pmap`, or
`jax.shard_map` with `check_vma=False`, the gradients of the devices' sums add up to the gradient of
the whole batch's sum.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxlabs.losses.cross_entropy import cross_entropy

CLIP_LOG_SCALE = math.log(1 / 0.07)
"""CLIP's logits start at 1 / 0.07 times the cosine."""

MAX_SCALE = 100.0
"""And are never more than 100 times the cosine."""

SIGLIP_LOG_SCALE, SIGLIP_BIAS = math.log(10), -10.0
"""SigLIP's logits start at 10 times the cosine minus 10: no two things are taken for a pair."""


def similarity_logits(
    images: jax.Array, texts: jax.Array, scale: jax.Array | float, bias: jax.Array | float = 0.0
) -> jax.Array:
    """Returns `scale * images @ texts.T + bias`, `[images, texts]`, in at least float32.

    The product is exact to its dtype on every platform, since the scale magnifies its errors.

    Args:
      images: [images, width].
      texts: [texts, width].
      scale: [] one over the temperature.
      bias: [].
    """
    images, texts = (x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in (images, texts))
    return scale * jnp.dot(images, texts.T, precision=lax.Precision.HIGHEST) + bias


def clamp_logit_scale(log_scale: jax.Array) -> jax.Array:
    """Returns `exp(log_scale)` or `MAX_SCALE`, whichever is less, `[]`.

    At the limit the slope is that of the limit and not 0, so that the scale can come down again.
    """
    limit = math.log(MAX_SCALE)
    return jnp.exp(log_scale - lax.stop_gradient(jnp.maximum(log_scale - limit, 0)))


def info_nce(
    logits: jax.Array,
    positives: jax.Array | None = None,
    key_weights: jax.Array | None = None,
) -> jax.Array:
    """Returns `-log softmax(logits)[positive]` of every query, in nats, `[queries]`.

    One direction of CLIP's loss (van den Oord et al. 2018, "Representation Learning with
    Contrastive Predictive Coding", equation 4). The gradient of the mean over N queries is
    `(softmax(logits) - 1[key is the positive]) / N`.

    Args:
      logits: [queries, keys].
      positives: [queries] the place of each query's own key; None: query i's key is key i.
      key_weights: [keys], 0 for keys that are not there; None: all are. Where a query's own key is
        not there, its value is finite and means nothing.
    """
    if positives is None:
        positives = jnp.arange(logits.shape[0])
    if key_weights is not None:
        # Finite, and small enough to be no part of any softmax.
        nothing = jnp.finfo(logits.dtype).min / 4
        logits = jnp.where(key_weights[None, :] > 0, logits, nothing)
    return cross_entropy(logits, positives)


def symmetric_info_nce(logits: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Returns the mean of both directions' `info_nce` for every pair, in nats, `[batch]`.

    Args:
      logits: [batch, batch] of images and texts; the pairs are on the diagonal.
      weights: [batch], 0 for pairs that are not there; None: all are.
    """
    both = info_nce(logits, key_weights=weights) + info_nce(logits.T, key_weights=weights)
    return both / 2 if weights is None else jnp.where(weights > 0, both / 2, 0)


def pairwise_sigmoid(
    logits: jax.Array, weights: jax.Array | None = None, *, paired: bool = True
) -> jax.Array:
    """Returns `-sum_j log sigmoid(z_ij * logits_ij)` of every image i, in nats, `[images]`.

    z is 1 for a pair and -1 for all else, so every term depends on its own logit alone.

    Args:
      logits: [images, texts].
      weights: [texts], 0 for texts that are not there; None: all are.
      paired: whether image i and text i are a pair; else no two are.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if paired:
        logits = jnp.where(jnp.eye(*logits.shape, dtype=bool), logits, -logits)
    else:
        logits = -logits
    terms = -jax.nn.log_sigmoid(logits)
    if weights is not None:
        terms = jnp.where(weights[None, :] > 0, terms, 0)
    return terms.sum(axis=1)


def clip_loss(
    images: jax.Array,
    texts: jax.Array,
    scale: jax.Array | float,
    weights: jax.Array,
    *,
    axis_name: str | None = None,
) -> jax.Array:
    """Returns CLIP's loss of every pair, in nats, `[batch]`; at equal logits it is log N.

    Over several devices all embeddings are gathered, so each device's logits are
    `[local, global]`, twice.

    Args:
      images: [batch, width] of unit length.
      texts: [batch, width] likewise.
      scale: [] one over the temperature.
      weights: [batch], 0 for pairs that are not there.
      axis_name: the mapped axis whose devices hold the rest of the batch, or None.
    """
    if axis_name is None:
        return symmetric_info_nce(similarity_logits(images, texts, scale), weights)
    all_images, all_texts, all_weights = lax.all_gather(
        (images, texts, weights), axis_name, tiled=True
    )
    local = images.shape[0]
    positives = lax.axis_index(axis_name) * local + jnp.arange(local)
    of_images = info_nce(similarity_logits(images, all_texts, scale), positives, all_weights)
    of_texts = info_nce(similarity_logits(texts, all_images, scale), positives, all_weights)
    return jnp.where(weights > 0, (of_images + of_texts) / 2, 0)


def siglip_loss(
    images: jax.Array,
    texts: jax.Array,
    scale: jax.Array | float,
    bias: jax.Array | float,
    weights: jax.Array,
    *,
    axis_name: str | None = None,
) -> jax.Array:
    """Returns SigLIP's loss of every image, in nats, `[batch]`.

    Under a mapped axis the texts go around in a ring (section 3.3 of the paper): a device holds its
    images against one device's texts at a time and passes those on. Its logits are `[local,
    local]`, also on the way back, where they are computed anew. Without one, under `jit` on a mesh
    as the training loop runs it, the compiler shares the `[batch, batch]` logits out.

    Args:
      images: [batch, width] of unit length.
      texts: [batch, width] likewise.
      scale: [] one over the temperature.
      bias: [] what is added to every logit.
      weights: [batch], 0 for pairs that are not there.
      axis_name: the mapped axis whose devices hold the rest of the batch, or None.
    """
    own = pairwise_sigmoid(similarity_logits(images, texts, scale, bias), weights)
    if axis_name is None:
        return jnp.where(weights > 0, own, 0)
    devices = lax.axis_size(axis_name)
    ring = [(device, (device + 1) % devices) for device in range(devices)]

    @jax.checkpoint
    def negatives(texts: jax.Array, text_weights: jax.Array) -> jax.Array:
        logits = similarity_logits(images, texts, scale, bias)
        return pairwise_sigmoid(logits, text_weights, paired=False)

    def turn(carry, _):
        total, *traveling = carry
        traveling = lax.ppermute(traveling, axis_name, ring)
        return (total + negatives(*traveling), *traveling), None

    (total, *_), _ = lax.scan(turn, (own, texts, weights), length=devices - 1)
    return jnp.where(weights > 0, total, 0)
