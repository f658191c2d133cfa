"""Contrastive losses of image-text pairs, in nats: CLIP and SigLIP.

CLIP's (Radford et al. 2021, "Learning Transferable Visual Models From Natural Language
Supervision", figure 3) classifies each image's text among all texts of the batch, and each text's
image among all images. SigLIP's (Zhai et al. 2023, "Sigmoid Loss for Language Image
Pre-Training", algorithm 1) is a binary classification of every image-text combination.

Values are per example; the mean over a batch of N is the papers' loss. In SigLIP this is the 1/N
in front of N * N terms: an image has one positive and N - 1 negative terms, which are summed. A
pair of weight 0 is masked: its loss is 0, and it is no negative. Two pairs with the same text are
still negatives of each other, as in both papers: pairs are identified by their batch index alone.

    images, texts   [batch, features]    embeddings of unit length
    logits          [batch, batch]    scale * images @ texts.T + bias

With several devices each holds its shard of the batch, and `axis_name` names the mapped axis. A
device returns the losses of its own examples, with the negatives of all devices. Under `jax.pmap`,
or `jax.shard_map` with `check_vma=False`, the gradients of the devices' sums add up to the
gradient of the sum over the whole batch.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxlabs.layers.dtypes import at_least_float32
from jaxlabs.losses.cross_entropy import cross_entropy

CLIP_LOGIT_SCALE = math.log(1 / 0.07)
"""Initial log of CLIP's logit scale: the temperature is 0.07."""

MAX_LOGIT_SCALE = 100.0
"""Upper bound of CLIP's logit scale."""

SIGLIP_LOGIT_SCALE, SIGLIP_BIAS = math.log(10), -10.0
"""SigLIP's initial log scale and bias: initially no combination is predicted to be a pair."""


def similarity_logits(
    images: jax.Array, texts: jax.Array, scale: jax.Array | float, bias: jax.Array | float = 0.0
) -> jax.Array:
    """Returns `scale * images @ texts.T + bias`, `[images, texts]`, in at least float32.

    `images [images, features]` and `texts [texts, features]` are embeddings; `scale` and `bias` are
    []. The matmul has the full precision of its dtype on every platform: the scale, the inverse
    temperature, amplifies errors.
    """
    images, texts = at_least_float32(images), at_least_float32(texts)
    return scale * jnp.dot(images, texts.T, precision=lax.Precision.HIGHEST) + bias


def clamp_logit_scale(logit_scale: jax.Array) -> jax.Array:
    """Returns `min(exp(logit_scale), MAX_LOGIT_SCALE)`, `[]`.

    The gradient above the limit is that at the limit and not 0, so that the scale can decrease.
    """
    limit = math.log(MAX_LOGIT_SCALE)
    return jnp.exp(logit_scale - lax.stop_gradient(jnp.maximum(logit_scale - limit, 0)))


def info_nce(
    logits: jax.Array, positives: jax.Array | None = None, key_weights: jax.Array | None = None
) -> jax.Array:
    """Returns `-log softmax(logits)[positive]` of every query, in nats, `[queries]`.

    One direction of CLIP's loss (van den Oord et al. 2018, "Representation Learning with
    Contrastive Predictive Coding", equation 4). The gradient of the mean over N queries is
    `(softmax(logits) - 1[key is the positive]) / N`.

    Args:
      logits: [queries, keys].
      positives: [queries] index of each query's positive key; None: key i for query i.
      key_weights: [keys], 0 for masked keys; None: no key is masked. The loss of a query whose
        positive is masked is finite and has no meaning.
    """
    if positives is None:
        positives = jnp.arange(logits.shape[0])
    if key_weights is not None:
        # Finite, and small enough that its softmax is 0.
        masked = jnp.finfo(logits.dtype).min / 4
        logits = jnp.where(key_weights[None, :] > 0, logits, masked)
    return cross_entropy(logits, positives)


def symmetric_info_nce(logits: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Returns the mean of `info_nce` over both directions for every pair, in nats, `[batch]`.

    The pairs are on the diagonal of `logits [batch, batch]`. `weights [batch]` are 0 for masked
    pairs, whose loss is 0; None: no pair is masked.
    """
    both = info_nce(logits, key_weights=weights) + info_nce(logits.T, key_weights=weights)
    return both / 2 if weights is None else jnp.where(weights > 0, both / 2, 0)


def pairwise_sigmoid(
    logits: jax.Array, weights: jax.Array | None = None, *, paired: bool = True
) -> jax.Array:
    """Returns `-sum_j log sigmoid(z_ij * logits_ij)` of every image i, in nats, `[images]`.

    z is 1 for a pair and -1 otherwise, so every term depends on its own logit alone.

    Args:
      logits: [images, texts].
      weights: [texts], 0 for masked texts; None: no text is masked.
      paired: whether image i and text i are a pair; else all combinations are negatives.
    """
    logits = at_least_float32(logits)
    signed = jnp.where(jnp.eye(*logits.shape, dtype=bool), logits, -logits) if paired else -logits
    terms = -jax.nn.log_sigmoid(signed)
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
    """Returns CLIP's loss of every pair, in nats, `[batch]`; log N at equal logits.

    Under a mapped axis all embeddings are gathered, so each device has two `[local, global]` logit
    matrices.

    Args:
      images: [batch, features] of unit length.
      texts: [batch, features] of unit length.
      scale: [] inverse temperature.
      weights: [batch], 0 for masked pairs.
      axis_name: the mapped axis over whose devices the batch is sharded, or None.
    """
    if axis_name is None:
        return symmetric_info_nce(similarity_logits(images, texts, scale), weights)
    all_images, all_texts, all_weights = lax.all_gather(
        (images, texts, weights), axis_name, tiled=True
    )
    local = images.shape[0]
    positives = lax.axis_index(axis_name) * local + jnp.arange(local)
    image_loss = info_nce(similarity_logits(images, all_texts, scale), positives, all_weights)
    text_loss = info_nce(similarity_logits(texts, all_images, scale), positives, all_weights)
    return jnp.where(weights > 0, (image_loss + text_loss) / 2, 0)


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

    Under a mapped axis the texts are permuted around a ring of devices (section 3.3 of the paper),
    so that each device computes `[local, local]` logits at a time; the backward pass recomputes
    them. Without one, under `jit` on a mesh as in the training loop, the compiler partitions the
    `[batch, batch]` logits.

    Args:
      images: [batch, features] of unit length.
      texts: [batch, features] of unit length.
      scale: [] inverse temperature.
      bias: [] added to every logit.
      weights: [batch], 0 for masked pairs.
      axis_name: the mapped axis over whose devices the batch is sharded, or None.
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

    def body(carry, _):
        total, *remote = carry
        remote = lax.ppermute(remote, axis_name, ring)
        return (total + negatives(*remote), *remote), None

    (total, *_), _ = lax.scan(body, (own, texts, weights), length=devices - 1)
    return jnp.where(weights > 0, total, 0)
