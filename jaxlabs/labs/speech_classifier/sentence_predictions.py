"""Predictions of a sentence classifier: probabilities for sentences, and the confusion matrix."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxlabs.data.batches import Examples, eval_batch, num_batches
from jaxlabs.data.speech_data import encode_prompt
from jaxlabs.data.tokenizers import WordTokenizer
from jaxlabs.data.vocab import pad
from jaxlabs.models.text_encoder import TextClassifier, predict


def require_known(prompt: str | None, data_spec: Mapping[str, Any]) -> None:
    """Raises UserError if no word of the prompt is known; checked before a run starts."""
    if prompt is not None:
        encode_prompt(WordTokenizer.from_json(data_spec), prompt)


def format_predictions(
    model: TextClassifier, params: Any, data_spec: Mapping[str, Any], prompt: str | None
) -> str:
    """Returns one line for each sentence: predicted speaker and probabilities of all speakers.

    The sentence is the prompt, or those of `examples` in `data_spec`, whose speakers are known.
    """
    tokenizer, speakers = WordTokenizer.from_json(data_spec), data_spec["speakers"]
    sentences = data_spec["examples"] if prompt is None else [(None, prompt)]
    tokens = [tokenizer.encode(sentence) for _, sentence in sentences]
    rows = pad(tokens, model.config.context_length)
    probabilities = np.asarray(jax.jit(functools.partial(predict, model))(params, rows))
    lines = []
    for (label, sentence), row in zip(sentences, probabilities, strict=True):
        values = ", ".join(f"{name} {p:.2f}" for name, p in zip(speakers, row, strict=True))
        truth = "" if label is None else f" (label: {speakers[label]})"
        lines.append(f"{speakers[row.argmax()]}{truth}: {values}: {sentence}")
    return "\n".join(lines)


def confusion_counts(
    model: TextClassifier, params: Any, examples: Examples, batch_size: int
) -> np.ndarray:
    """Returns the confusion matrix `[classes, classes]`, true classes in rows."""
    top1 = jax.jit(lambda params, tokens: predict(model, params, tokens).argmax(axis=-1))
    counts = np.zeros((model.config.num_classes,) * 2, np.int64)
    for index in range(num_batches(examples, batch_size)):
        batch = eval_batch(examples, index, batch_size)
        predicted = top1(params, batch["inputs"])
        valid = np.asarray(batch["weights"]) > 0
        np.add.at(counts, (np.asarray(batch["labels"])[valid], np.asarray(predicted)[valid]), 1)
    return counts


def class_accuracies(counts: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Returns the accuracy of each class, NaN without examples."""
    with np.errstate(invalid="ignore"):
        accuracies = np.diagonal(counts) / counts.sum(axis=1)
    return dict(zip(names, accuracies.tolist(), strict=True))
