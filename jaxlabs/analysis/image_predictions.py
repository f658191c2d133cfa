"""Predictions of an image classifier on a whole set: confusion matrix and errors."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxlabs.data.batches import Examples
from jaxlabs.models.image_classifier import ImageClassifier, predict
from jaxlabs.run_folder import RunFolder

BATCH = 500
MAX_SHOWN = 100


def predict_all(
    model: ImageClassifier, params: Any, images: np.ndarray, batch_size: int = BATCH
) -> tuple[np.ndarray, np.ndarray]:
    """Returns features `[count, features]` and probabilities `[count, classes]`, float32.

    Args:
      images: [count, height, width, channels] uint8, any count.
      batch_size: images per compiled call; the last batch is padded.
    """
    batches = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        padding = np.zeros((batch_size - len(batch), *batch.shape[1:]), batch.dtype)
        outputs = predict(model, params, jnp.asarray(np.concatenate([batch, padding])))
        batches.append([np.asarray(values)[: len(batch)] for values in outputs])
    features, probabilities = (np.concatenate(values) for values in zip(*batches, strict=True))
    return features, probabilities


def write_errors(
    model: ImageClassifier, params: Any, test: Examples, names: list[str], folder: RunFolder
) -> dict[str, float]:
    """Writes the arrays `confusion` and, if there are errors, `misclassified`.

    Returns:
      The number of `errors`, and the accuracy of the worst class.
    """
    images, labels = (np.asarray(test.arrays[name]) for name in ("images", "labels"))
    _, probabilities = predict_all(model, params, images)
    predicted = probabilities.argmax(axis=1)
    counts = np.zeros((len(names),) * 2, np.int64)
    np.add.at(counts, (labels, predicted), 1)
    folder.write_arrays("confusion", counts=counts[None], splits=["test"], labels=names)
    wrong = np.flatnonzero(predicted != labels)
    # Most confident errors first.
    wrong = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]
    if len(wrong):
        shown, classes = wrong[:MAX_SHOWN], np.array(names)
        folder.write_arrays(
            "misclassified",
            images=images[shown] / 255,
            labels=classes[labels[shown]],
            predicted=classes[predicted[shown]],
            errors=len(wrong),
            count=len(labels),
        )
    with np.errstate(invalid="ignore"):  # a class may have no examples
        worst = np.nanmin(np.diagonal(counts) / counts.sum(axis=1))
    return {"errors": len(wrong), "worst_class_accuracy": float(worst)}
