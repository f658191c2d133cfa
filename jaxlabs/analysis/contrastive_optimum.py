"""What contrastive losses cost at best, where the chances of every description are known.

The best logit of an image and a text is the logarithm of how much likelier the text is for this
image than for any (van den Oord et al. 2018, equation 6); for SigLIP less the logarithm of how many
negatives there are to a pair. A description that is true of a share s of all pictures is 1 / s
times as likely for those, and impossible for the others. The losses are written in numpy here,
apart from those that train.
"""

import math

import numpy as np
from scipy.special import logsumexp

from jaxlabs.data.batches import Examples
from jaxlabs.data.grammars.digit_captions import UNSAID

IMPOSSIBLE = -1e4


def true_of(claims: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Tells which claims `[texts, 3]` are true of which pictures `[images, 3]`: `[images, texts]`.

    What is not said is true of all.
    """
    same = claims[None, :, :] == truths[:, None, :]
    return (same | (claims[None, :, :] == UNSAID)).all(axis=-1)


def optimum(loss: str, claims: np.ndarray, truths: np.ndarray, batch_size: int) -> float:
    """Returns the mean loss of pairs for who knows everything but which text was drawn, in nats.

    Args:
      loss: "clip" or "siglip".
      claims: [pairs, 3] what each description says.
      truths: [pairs, 3] what is true of each picture.
      batch_size: pairs whose others are the negatives; they are taken in their order, and what is
        left over makes a smaller batch.
    """
    distinct, places = np.unique(claims, axis=0, return_inverse=True)
    share = true_of(distinct, truths).mean(axis=0)[places.ravel()]
    total = 0.0
    for start in range(0, len(claims), batch_size):
        part = slice(start, start + batch_size)
        gains = -np.log(share[part])
        logits = np.where(true_of(claims[part], truths[part]), gains[None, :], IMPOSSIBLE)
        total += _cost(loss, logits).sum()
    return float(total / len(claims))


def _cost(loss: str, logits: np.ndarray) -> np.ndarray:
    """Returns the losses of the pairs on the diagonal, `[batch]`."""
    own, count = np.diagonal(logits), len(logits)
    if loss == "clip":
        return (logsumexp(logits, axis=0) + logsumexp(logits, axis=1)) / 2 - own
    if count == 1:
        return np.zeros(1)
    logits = logits - math.log(count - 1)
    signs = 1 - 2 * np.eye(count)
    return np.logaddexp(0, signs * logits).sum(axis=1)


def chance(loss: str, batch_size: int) -> float:
    """Returns the least loss of logits that are all alike, in nats per pair.

    CLIP's is log N. SigLIP's is N times the entropy of a coin that shows a pair once in N throws.
    """
    if loss == "clip" or batch_size == 1:
        return math.log(batch_size)
    others = batch_size - 1
    return math.log(batch_size) + others * math.log(batch_size / others)


def baselines(loss: str, test: Examples, batch_size: int) -> dict[str, float]:
    """Returns what pairs cost with perfect knowledge and with none, in nats, by name."""
    best = optimum(loss, test.arrays["claims"], test.arrays["truths"], batch_size)
    return {"perfect knowledge": best, "chance": chance(loss, batch_size)}
