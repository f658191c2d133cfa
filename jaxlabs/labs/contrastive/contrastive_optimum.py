"""Minimum contrastive loss of caption data with a known distribution.

The optimal logit of an image and a text is the log density ratio `log p(text | image) / p(text)`
(van den Oord et al. 2018, equation 6); for SigLIP minus the log of the number of negatives per
pair. A caption that is true of a fraction s of all images has density ratio 1 / s for those and 0
for the others. The losses are implemented in numpy, independently of the training losses.
"""

import math

import numpy as np

from jaxlabs.data.batches import Examples
from jaxlabs.data.grammars.digit_captions import NOT_MENTIONED

IMPOSSIBLE = -1e4


def caption_matches(mentioned: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns `[images, texts]`, whether every mentioned attribute is that of the image.

    Args:
      mentioned: [texts, 3]; NOT_MENTIONED matches every image.
      labels: [images, 3].
    """
    same = mentioned[None, :, :] == labels[:, None, :]
    return (same | (mentioned[None, :, :] == NOT_MENTIONED)).all(axis=-1)


def optimum(loss: str, mentioned: np.ndarray, labels: np.ndarray, batch_size: int) -> float:
    """Returns the mean loss of pairs with the optimal logits, in nats.

    The attributes of the captions are `mentioned [pairs, 3]`, those of the images `labels [pairs,
    3]`. The other pairs of a batch, in order, are the negatives; the last batch may be smaller.
    """
    distinct, indices = np.unique(mentioned, axis=0, return_inverse=True)
    log_ratios = -np.log(caption_matches(distinct, labels).mean(axis=0))[indices.ravel()]
    total = 0.0
    for start in range(0, len(mentioned), batch_size):
        batch = slice(start, start + batch_size)
        matches = caption_matches(mentioned[batch], labels[batch])
        logits = np.where(matches, log_ratios[None, batch], IMPOSSIBLE)
        total += _losses(loss, logits).sum()
    return float(total / len(mentioned))


def _losses(loss, logits):
    """Returns the losses `[batch]` of the pairs on the diagonal."""
    from scipy.special import logsumexp

    positives, count = np.diagonal(logits), len(logits)
    if loss == "clip":
        return (logsumexp(logits, axis=0) + logsumexp(logits, axis=1)) / 2 - positives
    if count == 1:
        return np.zeros(1)
    logits = logits - math.log(count - 1)
    signs = 1 - 2 * np.eye(count)
    return np.logaddexp(0, signs * logits).sum(axis=1)


def chance_loss(loss: str, batch_size: int) -> float:
    """Returns the minimum loss of constant logits, in nats per pair.

    It is log N for CLIP, and N times the entropy of a Bernoulli variable with mean 1 / N for
    SigLIP.
    """
    if loss == "clip" or batch_size == 1:
        return math.log(batch_size)
    others = batch_size - 1
    return math.log(batch_size) + others * math.log(batch_size / others)


def baselines(loss: str, test: Examples, batch_size: int) -> dict[str, float]:
    """Returns the losses of the optimal and of constant logits, in nats, by name."""
    mentioned, labels = test.arrays["mentioned_attributes"], test.arrays["attribute_labels"]
    best, count = optimum(loss, mentioned, labels, batch_size), len(mentioned)
    sizes = [min(batch_size, count - start) for start in range(0, count, batch_size)]
    chance = sum(size * chance_loss(loss, size) for size in sizes) / count
    return {"optimal": best, "chance": chance}
