"""Zero-shot classification, retrieval and calibration of a dual encoder.

An image is classified by the nearest class prompt ("a seven"). Retrieval uses the 90 full captions
(digit, slant, weight) in their plainest wording; every image has exactly one, which it shares with
other images. An image's caption is retrieved at k if fewer than k of the other 89 captions have at
least its similarity. A caption's image is retrieved at k if fewer than k of the images that it does
not describe have at least the similarity of the nearest one that it does. Ties count as errors.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxlabs.analysis.toy_training import stack
from jaxlabs.data.batches import Examples
from jaxlabs.data.captions import encode
from jaxlabs.data.grammars import digit_captions
from jaxlabs.data.grammars.digit_captions import DIGITS, SLANTS, WEIGHTS, CaptionAttributes
from jaxlabs.data.tokenizers import WordTokenizer
from jaxlabs.labs.contrastive.contrastive_optimum import caption_matches
from jaxlabs.models import dual_encoder
from jaxlabs.models.dual_encoder import DualEncoder
from jaxlabs.run_folder import RunFolder
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task

BATCH, BINS, RECALL_AT = 500, 10, (1, 5)
SHOWN = 8
QUERIES = (
    CaptionAttributes(7, 2, 2),
    CaptionAttributes(2, 0, 0),
    CaptionAttributes(4, 1, 0),
    CaptionAttributes(8, None, 2),
    CaptionAttributes(1, 2),
    CaptionAttributes(5),
)
"""Captions whose nearest images are plotted."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained dual encoder and its tokenizer."""

    model: DualEncoder
    params: Any
    tokenizer: WordTokenizer

    def images(self, images: np.ndarray) -> np.ndarray:
        """Returns embeddings `[count, projection_dim]` of images, any number of them."""
        return self._in_batches(dual_encoder.embed_images, images)

    def tokens(self, tokens: np.ndarray) -> np.ndarray:
        """Returns embeddings `[count, projection_dim]` of tokens `[count, time]`, any count."""
        return self._in_batches(dual_encoder.embed_texts, tokens)

    def texts(self, texts: list[str], flag: str = "prompt") -> np.ndarray:
        """Returns embeddings `[count, projection_dim]` of texts; a UserError names the flag."""
        return self.tokens(encode(texts, self.tokenizer, self.model.config.context_length, flag))

    def _in_batches(self, embed, values: np.ndarray) -> np.ndarray:
        batches = []
        for start in range(0, len(values), BATCH):
            batch = values[start : start + BATCH]
            padding = [(0, BATCH - len(batch)), *[(0, 0)] * (batch.ndim - 1)]
            padded = jnp.asarray(np.pad(batch, padding))
            batches.append(np.asarray(embed(self.model, self.params, padded))[: len(batch)])
        return np.concatenate(batches)


def trained(task: Task, data_spec: Mapping[str, Any], state: TrainState) -> Trained:
    """Returns the trained encoders of a run's state."""
    return Trained(task.model, state.eval_params, WordTokenizer.from_json(data_spec))


def measure(
    trained: Trained, test: Examples, batch_size: int, folder: RunFolder
) -> dict[str, float]:
    """Evaluates the encoders; writes the arrays `similarity`, `retrieval` and `reliability`.

    The test set has `images`, `tokens` and `attribute_labels`, see `data.captions`; `batch_size` is
    that of the calibration of pair probabilities.
    """
    names = ("images", "tokens", "attribute_labels")
    pixels, tokens, labels = (np.asarray(test.arrays[name]) for name in names)
    images = trained.images(pixels)
    scale, bias = dual_encoder.logit_scale(trained.model, trained.params)
    captions = _plainest(digit_captions.full_attributes())
    cosines = images @ trained.texts(captions).T
    own = np.ravel_multi_index(tuple(labels.T), (len(DIGITS), len(SLANTS), len(WEIGHTS)))
    metrics, classes = _zero_shot(trained, images, labels, scale)
    logits = []
    for start in range(0, len(images), batch_size):
        batch = slice(start, start + batch_size)
        logits.append(scale * images[batch] @ trained.tokens(tokens[batch]).T + bias)
    probabilities, matches = pair_probabilities(logits, trained.model.config.loss)
    bins = {"classes": reliability(*classes), "pairs": reliability(probabilities, matches)}
    columns = stack(bins.values())
    gaps = dict(zip(bins, columns.pop("gap").sum(axis=1), strict=True))
    folder.write_arrays("reliability", names=list(bins), **columns)
    folder.write_arrays("similarity", **_similarity(pixels, captions, cosines, own))
    folder.write_arrays("retrieval", **_retrieved(trained, pixels, images, labels))
    metrics |= recalls(cosines, own) | {
        "calibration_error": gaps["classes"] / len(images),
        "pair_calibration_error": gaps["pairs"] / len(probabilities),
        "expected_pairs": probabilities.sum() / matches.sum(),
        "final_scale": scale,
        "final_bias": bias,
    }
    return {name: float(value) for name, value in metrics.items()}


def _plainest(attributes: Iterable[CaptionAttributes]) -> list[str]:
    return [digit_captions.paraphrases(each)[0] for each in attributes]


def _zero_shot(trained, images, labels, scale):
    """Returns accuracies, and confidence and correctness of each top-1 class."""
    from scipy.special import softmax

    digits = range(len(DIGITS))
    texts = np.array([digit_captions.paraphrases(CaptionAttributes(digit)) for digit in digits])
    prompts = trained.texts(texts.ravel().tolist()).reshape(*texts.shape, -1)
    digit_labels, slants, weights = labels.T
    cosines = images @ prompts[:, 0].T
    correct = cosines.argmax(axis=1) == digit_labels
    ensemble = prompts.mean(axis=1)
    ensemble_cosines = images @ (ensemble / np.linalg.norm(ensemble, axis=1, keepdims=True)).T
    metrics = {
        "zero_shot_accuracy": correct.mean(),
        "prompt_ensemble_accuracy": (ensemble_cosines.argmax(axis=1) == digit_labels).mean(),
    }
    for name, level, words in (("slant", slants, SLANTS), ("weight", weights, WEIGHTS)):
        levels = range(len(words))
        attributes = [CaptionAttributes(d, **{name: index}) for d in digits for index in levels]
        embeddings = trained.texts(_plainest(attributes)).reshape(len(DIGITS), len(words), -1)
        level_cosines = np.einsum("nd,nkd->nk", images, embeddings[digit_labels])
        metrics[f"{name}_accuracy"] = (level_cosines.argmax(axis=1) == level).mean()
    confidence = softmax(scale * cosines.astype(np.float64), axis=1).max(axis=1)
    return metrics, (confidence, correct)


def recalls(cosines: np.ndarray, own: np.ndarray) -> dict[str, float]:
    """Returns recall at 1 and 5 in both directions, see the module docstring.

    Args:
      cosines: [images, captions]; captions without images are distractors.
      own: [images] index of each image's caption.
    """
    positive = np.take_along_axis(cosines, own[:, None], axis=1)
    image_ranks = (cosines >= positive).sum(axis=1) - 1
    text_ranks = []
    for text in np.unique(own):
        described = own == text
        best = cosines[described, text].max()
        text_ranks.append((cosines[~described, text] >= best).sum())
    ranks = {"image_to_text": image_ranks, "text_to_image": np.array(text_ranks)}
    return {
        f"{direction}_recall_at_{k}": float((values < k).mean())
        for direction, values in ranks.items()
        for k in RECALL_AT
    }


def pair_probabilities(logits: list[np.ndarray], loss: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the probability that an image and a text match, and whether they do, both `[all]`.

    For CLIP, it is the softmax over the texts of the batch; for SigLIP, the sigmoid.

    Args:
      logits: [images, texts] of each batch, its pairs on the diagonal.
      loss: "clip" or "siglip".
    """
    from scipy.special import expit, softmax

    logits = [batch.astype(np.float64) for batch in logits]
    probabilities = [softmax(batch, axis=1) if loss == "clip" else expit(batch) for batch in logits]
    matches = [np.eye(len(batch), dtype=bool) for batch in logits]
    return tuple(np.concatenate([*map(np.ravel, each)]) for each in (probabilities, matches))


def reliability(probabilities: np.ndarray, correct: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the reliability diagram of predictions, in ten bins of equal width.

    Args:
      probabilities: [predictions] confidences in [0, 1].
      correct: [predictions] whether each prediction is correct.

    Returns:
      For each bin, `[BINS]`: the mean `confidence` and the `accuracy`, NaN for empty bins; the
      `count`; and `gap`, the difference of expected and actual number of correct predictions.
    """
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    count, expected, true = (
        np.bincount(bins, weights, minlength=BINS) for weights in (None, probabilities, correct)
    )
    nonempty = np.where(count > 0, count, np.nan)
    return {
        "confidence": expected / nonempty,
        "accuracy": true / nonempty,
        "count": count,
        "gap": np.abs(expected - true),
    }


def _similarity(pixels, captions, cosines, own):
    """Returns similarities of one image per digit to their captions, and means over all images."""
    digits = own // (len(SLANTS) * len(WEIGHTS))
    shown = [np.flatnonzero(digits == digit)[0] for digit in np.unique(digits)]
    absent = np.full(len(captions), np.nan)
    means = [
        cosines[own == text].mean(axis=0) if text in own else absent
        for text in range(len(captions))
    ]
    return {
        "images": pixels[shown] / 255,
        "captions": np.array(captions)[own[shown]],
        "cosines": cosines[np.ix_(shown, own[shown])],
        "means": np.stack(means),
    }


def _retrieved(trained, pixels, images, labels):
    """Returns the nearest images of some captions, and whether the captions are true of them."""
    texts = _plainest(QUERIES)
    nearest = np.argsort(-trained.texts(texts) @ images.T, axis=1, kind="stable")[:, :SHOWN]
    absent = digit_captions.NOT_MENTIONED
    mentioned = np.array([[absent if x is None else x for x in query] for query in QUERIES])
    relevant = np.take_along_axis(caption_matches(mentioned, labels).T, nearest, axis=1)
    return {"texts": np.array(texts), "images": pixels[nearest] / 255, "relevant": relevant}


def nearest_captions(trained: Trained, prompt: str, count: int = 6) -> str:
    """Returns the prompt and its nearest captions, one per line.

    Raises:
      UserError: the prompt has unknown words, no words, or too many.
    """
    embedding = trained.texts([prompt])[0]
    others = [words for words in digit_captions.all_captions() if words != prompt]
    cosines = trained.texts(others) @ embedding
    nearest = np.argsort(-cosines, kind="stable")[:count]
    return "\n".join([prompt, *(f"{cosines[index]:7.3f}  {others[index]}" for index in nearest)])
