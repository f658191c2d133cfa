"""Zero-shot classification, retrieval and calibration of a dual encoder.

An image is classified by the nearest class prompt ("a seven"). Retrieval uses the 90 full captions
(digit, slant, weight) in their first wording; every image has exactly one, which it shares with
other images. An image's caption is retrieved at k if fewer than k of the other 89 captions have at
least its similarity. A caption's image is retrieved at k if fewer than k of the images that it does
not describe have at least the similarity of the nearest one that it does. Ties count as errors.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.special import expit, softmax

from jaxlabs.data.batches import Examples
from jaxlabs.data.captions import encode
from jaxlabs.data.grammars import digit_captions
from jaxlabs.data.grammars.digit_captions import DIGITS, SLANTS, UNSAID, WEIGHTS, Claim
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
    Claim(7, 2, 2),
    Claim(2, 0, 0),
    Claim(4, 1, 0),
    Claim(8, None, 2),
    Claim(1, 2),
    Claim(5),
)
"""Captions whose nearest images are plotted."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained dual encoder and its tokenizer."""

    model: DualEncoder
    params: Any
    tokenizer: WordTokenizer

    def images(self, images: np.ndarray) -> np.ndarray:
        """Returns embeddings `[count, projection_dim]` of images, any count."""
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
            padded = np.concatenate(
                [batch, np.zeros((BATCH - len(batch), *batch.shape[1:]), batch.dtype)]
            )
            batches.append(
                np.asarray(embed(self.model, self.params, jnp.asarray(padded)))[: len(batch)]
            )
        return np.concatenate(batches)


def trained(task: Task, vocabulary: Mapping[str, Any], state: TrainState) -> Trained:
    """Returns the trained encoders of a run's state."""
    return Trained(task.model, state.eval_params, WordTokenizer.from_json(vocabulary))


def measure(
    trained: Trained, test: Examples, batch_size: int, folder: RunFolder
) -> dict[str, float]:
    """Evaluates the encoders on test pairs and writes arrays for the report.

    Args:
      trained: the encoders.
      test: `images`, `tokens`, `truths` and `claims`, see `data.captions`.
      batch_size: pairs per batch for the calibration of pair probabilities.
      folder: run folder of the arrays `similarity`, `retrieval` and `reliability`.
    """
    pixels, tokens, truths = (np.asarray(test.arrays[n]) for n in ("images", "tokens", "truths"))
    images = trained.images(pixels)
    scale, bias = dual_encoder.logit_scale(trained.model, trained.params)
    claims = digit_captions.full_claims()
    cosines = images @ trained.texts([digit_captions.wordings(claim)[0] for claim in claims]).T
    own = np.ravel_multi_index(tuple(truths.T), (len(DIGITS), len(SLANTS), len(WEIGHTS)))
    metrics, classes = _zero_shot(trained, images, truths, scale)
    metrics |= recalls(cosines, own)
    logits = [
        scale * images[start : start + batch_size] @ text.T + bias
        for start in range(0, len(images), batch_size)
        for text in [trained.tokens(tokens[start : start + batch_size])]
    ]
    pairs = pair_probabilities(logits, trained.model.config.loss)
    bins = {"classes": reliability(*classes), "pairs": reliability(*pairs)}
    folder.write_arrays(
        "reliability",
        names=list(bins),
        **{
            name: np.stack([kind[name] for kind in bins.values()])
            for name in ("confidence", "share", "count")
        },
    )
    probabilities, hits = pairs
    metrics |= {
        "calibration_error": bins["classes"]["gap"].sum() / len(images),
        "pair_calibration_error": bins["pairs"]["gap"].sum() / len(images),
        "expected_pairs": probabilities.sum() / hits.sum(),
        "final_scale": scale,
        "final_bias": bias,
    }
    folder.write_arrays("similarity", **_similarity(pixels, cosines, own))
    folder.write_arrays("retrieval", **_retrieved(trained, pixels, images, truths))
    return {name: float(value) for name, value in metrics.items()}


def _zero_shot(
    trained: Trained, images: np.ndarray, truths: np.ndarray, scale: float
) -> tuple[dict[str, float], tuple[np.ndarray, np.ndarray]]:
    """Returns accuracies, and confidence and correctness of each top-1 class."""
    digits = range(len(DIGITS))
    wordings = np.array([digit_captions.wordings(Claim(digit)) for digit in digits])
    prompts = trained.texts(wordings.ravel().tolist()).reshape(*wordings.shape, -1)
    labels, slants, weights = truths.T
    cosines = images @ prompts[:, 0].T
    correct = cosines.argmax(axis=1) == labels
    ensemble = prompts.mean(axis=1)
    ensemble_cosines = images @ (ensemble / np.linalg.norm(ensemble, axis=1, keepdims=True)).T
    metrics = {
        "zero_shot_accuracy": correct.mean(),
        "prompt_ensemble_accuracy": (ensemble_cosines.argmax(axis=1) == labels).mean(),
    }
    for name, level, words in (("slant", slants, SLANTS), ("weight", weights, WEIGHTS)):
        texts = [
            digit_captions.wordings(Claim(digit, **{name: index}))[0]
            for digit in digits
            for index in range(len(words))
        ]
        embeddings = trained.texts(texts).reshape(len(DIGITS), len(words), -1)
        level_cosines = np.einsum("nd,nkd->nk", images, embeddings[labels])
        metrics[f"{name}_accuracy"] = (level_cosines.argmax(axis=1) == level).mean()
    confidence = softmax(scale * cosines.astype(np.float64), axis=1).max(axis=1)
    return metrics, (confidence, correct)


def recalls(cosines: np.ndarray, own: np.ndarray) -> dict[str, float]:
    """Returns recall at 1 and 5 in both directions, see the module docstring.

    Args:
      cosines: [images, captions].
      own: [images] index of each image's caption; captions without images are distractors.
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
    logits = [batch.astype(np.float64) for batch in logits]
    probabilities = [softmax(batch, axis=1) if loss == "clip" else expit(batch) for batch in logits]
    hits = [np.eye(len(batch), dtype=bool) for batch in logits]
    return tuple(
        np.concatenate([batch.ravel() for batch in batches]) for batches in (probabilities, hits)
    )


def reliability(probabilities: np.ndarray, hits: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the reliability diagram of predictions, in ten bins of equal width.

    Args:
      probabilities: [predictions] confidences in [0, 1].
      hits: [predictions] whether each prediction is correct.

    Returns:
      For each bin, `[BINS]`: the mean `confidence` and the accuracy `share`, NaN for empty bins;
      the `count`; and `gap`, the difference of expected and actual number of hits.
    """
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    count, expected, true = (
        np.bincount(bins, weights, minlength=BINS) for weights in (None, probabilities, hits)
    )
    nonempty = np.where(count > 0, count, np.nan)
    return {
        "confidence": expected / nonempty,
        "share": true / nonempty,
        "count": count,
        "gap": np.abs(expected - true),
    }


def _similarity(pixels: np.ndarray, cosines: np.ndarray, own: np.ndarray) -> dict[str, Any]:
    """Returns similarities of one image per digit to their captions, and means over all images."""
    captions = [digit_captions.wordings(claim)[0] for claim in digit_captions.full_claims()]
    digits = own // (len(SLANTS) * len(WEIGHTS))
    shown = [np.flatnonzero(digits == digit)[0] for digit in np.unique(digits)]
    means = [
        cosines[own == text].mean(axis=0) if (own == text).any() else np.full(len(captions), np.nan)
        for text in range(len(captions))
    ]
    return {
        "images": pixels[shown] / 255,
        "captions": np.array(captions)[own[shown]],
        "cosines": cosines[np.ix_(shown, own[shown])],
        "means": np.stack(means),
    }


def _retrieved(
    trained: Trained, pixels: np.ndarray, images: np.ndarray, truths: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the nearest images of some captions, and whether the captions are true of them."""
    texts = [digit_captions.wordings(query)[0] for query in QUERIES]
    nearest = np.argsort(-trained.texts(texts) @ images.T, axis=1, kind="stable")[:, :SHOWN]
    claims = np.array(
        [[UNSAID if value is None else value for value in query] for query in QUERIES]
    )
    relevant = np.take_along_axis(caption_matches(claims, truths).T, nearest, axis=1)
    return {"texts": np.array(texts), "images": pixels[nearest] / 255, "relevant": relevant}


def nearest_wordings(trained: Trained, prompt: str, count: int = 6) -> str:
    """Returns the prompt and its nearest captions, one per line.

    Raises:
      UserError: the prompt has unknown words, no words, or too many.
    """
    embedding = trained.texts([prompt])[0]
    others = [words for words in digit_captions.all_wordings() if words != prompt]
    cosines = trained.texts(others) @ embedding
    nearest = np.argsort(-cosines, kind="stable")[:count]
    return "\n".join([prompt, *(f"{cosines[index]:7.3f}  {others[index]}" for index in nearest)])
