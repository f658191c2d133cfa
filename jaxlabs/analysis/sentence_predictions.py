"""What a sentence classifier says: of sentences one by one, and who is taken for whom."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxlabs.data.batches import Examples, eval_batch, num_batches
from jaxlabs.data.speech_data import encode_prompt, pad
from jaxlabs.data.tokenizers import WordTokenizer
from jaxlabs.models.text_encoder import TextClassifier, predict


def require_known(prompt: str | None, vocabulary: Mapping[str, Any]) -> None:
    """Raises UserError unless the vocabulary has a word of the prompt; asked before a run."""
    if prompt is not None:
        encode_prompt(WordTokenizer.from_json(vocabulary), prompt)


def told(
    model: TextClassifier, params: Any, vocabulary: Mapping[str, Any], prompt: str | None
) -> str:
    """Returns one line for each sentence: whose it is thought to be, and all probabilities.

    Args:
      model: the classifier.
      params: its parameters.
      vocabulary: the tokenizer as JSON with `speakers`, the names of the classes, and `shown`,
        rows of a class and a sentence.
      prompt: a sentence of the user's own; None for those of `shown`, whose speakers are known.
    """
    tokenizer, speakers = WordTokenizer.from_json(vocabulary), vocabulary["speakers"]
    shown = vocabulary["shown"] if prompt is None else [(None, prompt)]
    rows = pad(tokenizer, [sentence for _, sentence in shown], model.config.context_length)
    probabilities = np.asarray(jax.jit(functools.partial(predict, model))(params, rows))
    lines = []
    for (label, sentence), row in zip(shown, probabilities, strict=True):
        figures = ", ".join(f"{name} {p:.2f}" for name, p in zip(speakers, row, strict=True))
        truth = "" if label is None else f" (it is {speakers[label]})"
        lines.append(f"{speakers[row.argmax()]}{truth}: {figures}: {sentence}")
    return "\n".join(lines)


def confusion_counts(
    model: TextClassifier, params: Any, examples: Examples, batch_size: int
) -> np.ndarray:
    """Returns how often each class (rows) is taken for each (columns), `[classes, classes]`."""
    likeliest = jax.jit(lambda params, tokens: predict(model, params, tokens).argmax(axis=-1))
    counts = np.zeros((model.config.classes,) * 2, np.int64)
    for index in range(num_batches(examples, batch_size)):
        batch = eval_batch(examples, index, batch_size)
        taken = likeliest(params, batch["inputs"])
        real = np.asarray(batch["weights"]) > 0
        np.add.at(counts, (np.asarray(batch["labels"])[real], np.asarray(taken)[real]), 1)
    return counts


def class_accuracies(counts: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Returns the share of each class's examples that is taken for it, nan without examples."""
    with np.errstate(invalid="ignore"):
        shares = np.diagonal(counts) / counts.sum(axis=1)
    return dict(zip(names, shares.tolist(), strict=True))
