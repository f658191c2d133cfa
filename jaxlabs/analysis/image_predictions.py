"""What a classifier of pictures says of a whole set, and where it errs."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxlabs.data.batches import Examples
from jaxlabs.models.image_classifier import ImageClassifier, read
from jaxlabs.run_folder import RunFolder

BATCH = 500
MAX_SHOWN = 100


def read_all(
    model: ImageClassifier, params: Any, images: np.ndarray, batch_size: int = BATCH
) -> tuple[np.ndarray, np.ndarray]:
    """Returns features `[count, feature_width]` and probabilities `[count, classes]`, float32.

    Args:
      model: the classifier.
      params: its parameters.
      images: [count, height, width, channels] uint8, any number of them.
      batch_size: pictures in a compiled call; the last ones are filled up.
    """
    found = []
    for first in range(0, len(images), batch_size):
        part = images[first : first + batch_size]
        empty = np.zeros((batch_size - len(part), *part.shape[1:]), part.dtype)
        both = read(model, params, jnp.asarray(np.concatenate([part, empty])))
        found.append([np.asarray(values)[: len(part)] for values in both])
    features, probabilities = (np.concatenate(values) for values in zip(*found, strict=True))
    return features, probabilities


def write_errors(
    model: ImageClassifier, params: Any, test: Examples, names: list[str], folder: RunFolder
) -> dict[str, float]:
    """Writes who is taken for whom and the pictures that are taken for another class.

    Args:
      model: the classifier.
      params: its parameters.
      test: pictures and labels.
      names: of the classes.
      folder: gets the arrays `confusion` and, where there are errors, `misclassified`.

    Returns:
      The number of `errors`, and the accuracy of the worst class.
    """
    images, labels = (np.asarray(test.arrays[name]) for name in ("images", "labels"))
    _, probabilities = read_all(model, params, images)
    taken = probabilities.argmax(axis=1)
    counts = np.zeros((len(names),) * 2, np.int64)
    np.add.at(counts, (labels, taken), 1)
    folder.write_arrays("confusion", counts=counts[None], splits=["test"], labels=names)
    wrong = np.flatnonzero(taken != labels)
    # The surest errors first: those are the ones to look at.
    wrong = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]
    if len(wrong):
        folder.write_arrays(
            "misclassified",
            images=images[wrong[:MAX_SHOWN]] / 255,
            labels=np.array(names)[labels[wrong[:MAX_SHOWN]]],
            taken=np.array(names)[taken[wrong[:MAX_SHOWN]]],
            errors=len(wrong),
            count=len(labels),
        )
    present = counts.sum(axis=1) > 0
    of_class = np.diagonal(counts)[present] / counts.sum(axis=1)[present]
    return {"errors": len(wrong), "worst_class_accuracy": float(of_class.min())}
