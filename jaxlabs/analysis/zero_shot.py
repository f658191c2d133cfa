"""What two encoders that share a space can do unasked: classify, find, and know how sure they are.

A class is named by a prompt ("a seven") and a picture belongs to the prompt that it is nearest to.
Retrieval is over the 90 full descriptions (digit, slant, weight), each in its plainest wording:
every picture has exactly one, and pictures with the same one share it. So an image's own text is
among the first k when fewer than k of the other 89 are at least as near, and a text is found when
an image that it describes stands before all but fewer than k of the images that it does not. A tie
counts against the model.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.special import expit, softmax

from jaxlabs.analysis.contrastive_optimum import true_of
from jaxlabs.data.batches import Examples
from jaxlabs.data.captions import encode
from jaxlabs.data.grammars import digit_captions
from jaxlabs.data.grammars.digit_captions import DIGITS, SLANTS, UNSAID, WEIGHTS, Claim
from jaxlabs.data.tokenizers import WordTokenizer
from jaxlabs.models import dual_encoder
from jaxlabs.models.dual_encoder import DualEncoder
from jaxlabs.run_folder import RunFolder
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task

BATCH, BINS, FIRST = 500, 10, (1, 5)
SHOWN = 8
QUERIES = (
    Claim(7, 2, 2),
    Claim(2, 0, 0),
    Claim(4, 1, 0),
    Claim(8, None, 2),
    Claim(1, 2),
    Claim(5),
)
"""Descriptions whose nearest pictures are shown."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained pair of encoders and what turns words into tokens."""

    model: DualEncoder
    params: Any
    tokenizer: WordTokenizer

    def images(self, images: np.ndarray) -> np.ndarray:
        """Returns points `[count, projection_dim]` of any number of images."""
        return self._in_batches(dual_encoder.embed_images, images)

    def tokens(self, tokens: np.ndarray) -> np.ndarray:
        """Returns points `[count, projection_dim]` of any number of rows of tokens."""
        return self._in_batches(dual_encoder.embed_texts, tokens)

    def texts(self, texts: list[str], flag: str = "prompt") -> np.ndarray:
        """Returns points `[count, projection_dim]` of texts; a UserError names the flag."""
        return self.tokens(encode(texts, self.tokenizer, self.model.config.context_length, flag))

    def _in_batches(self, embed, values: np.ndarray) -> np.ndarray:
        found = []
        for first in range(0, len(values), BATCH):
            part = values[first : first + BATCH]
            filled = np.concatenate(
                [part, np.zeros((BATCH - len(part), *part.shape[1:]), part.dtype)]
            )
            found.append(
                np.asarray(embed(self.model, self.params, jnp.asarray(filled)))[: len(part)]
            )
        return np.concatenate(found)


def trained(task: Task, vocabulary: Mapping[str, Any], state: TrainState) -> Trained:
    """Returns the encoders of a run's state."""
    return Trained(task.model, state.eval_params, WordTokenizer.from_json(vocabulary))


def measure(
    trained: Trained, test: Examples, batch_size: int, folder: RunFolder
) -> dict[str, float]:
    """Measures encoders on test pairs and writes what the report draws.

    Args:
      trained: the encoders.
      test: `images`, `tokens`, `truths` and `claims`, see `data.captions`.
      batch_size: pairs among which a text is told to be an image's own, for the pairs' calibration.
      folder: gets the arrays `similarity`, `retrieval` and `reliability`.
    """
    pixels, tokens, truths = (np.asarray(test.arrays[n]) for n in ("images", "tokens", "truths"))
    images = trained.images(pixels)
    scale, bias = dual_encoder.scaling(trained.model, trained.params)
    claims = digit_captions.full_claims()
    cosines = images @ trained.texts([digit_captions.wordings(claim)[0] for claim in claims]).T
    own = np.ravel_multi_index(tuple(truths.T), (len(DIGITS), len(SLANTS), len(WEIGHTS)))
    figures, classes = _zero_shot(trained, images, truths, scale)
    figures |= recalls(cosines, own)
    logits = [
        scale * images[start : start + batch_size] @ part.T + bias
        for start in range(0, len(images), batch_size)
        for part in [trained.tokens(tokens[start : start + batch_size])]
    ]
    pairs = pair_probabilities(logits, trained.model.config.loss)
    found = {"classes": reliability(*classes), "pairs": reliability(*pairs)}
    folder.write_arrays(
        "reliability",
        names=list(found),
        **{
            name: np.stack([one[name] for one in found.values()])
            for name in ("confidence", "share", "count")
        },
    )
    probabilities, hits = pairs
    figures |= {
        "calibration_error": found["classes"]["gap"].sum() / len(images),
        "pair_calibration_error": found["pairs"]["gap"].sum() / len(images),
        "expected_pairs": probabilities.sum() / hits.sum(),
        "final_scale": scale,
        "final_bias": bias,
    }
    folder.write_arrays("similarity", **_similarity(pixels, cosines, own))
    folder.write_arrays("retrieval", **_retrieved(trained, pixels, images, truths))
    return {name: float(value) for name, value in figures.items()}


def _zero_shot(
    trained: Trained, images: np.ndarray, truths: np.ndarray, scale: float
) -> tuple[dict[str, float], tuple[np.ndarray, np.ndarray]]:
    """Returns accuracies, and how sure each choice of a class was and whether it was right."""
    digits = range(len(DIGITS))
    wordings = np.array([digit_captions.wordings(Claim(digit)) for digit in digits])
    prompts = trained.texts(wordings.ravel().tolist()).reshape(*wordings.shape, -1)
    labels, slants, weights = truths.T
    cosines = images @ prompts[:, 0].T
    right = cosines.argmax(axis=1) == labels
    ensemble = prompts.mean(axis=1)
    several = images @ (ensemble / np.linalg.norm(ensemble, axis=1, keepdims=True)).T
    figures = {
        "zero_shot_accuracy": right.mean(),
        "prompt_ensemble_accuracy": (several.argmax(axis=1) == labels).mean(),
    }
    for name, level, words in (("slant", slants, SLANTS), ("weight", weights, WEIGHTS)):
        texts = [
            digit_captions.wordings(Claim(digit, **{name: place}))[0]
            for digit in digits
            for place in range(len(words))
        ]
        points = trained.texts(texts).reshape(len(DIGITS), len(words), -1)
        near = np.einsum("nd,nkd->nk", images, points[labels])
        figures[f"{name}_accuracy"] = (near.argmax(axis=1) == level).mean()
    sure = softmax(scale * cosines.astype(np.float64), axis=1).max(axis=1)
    return figures, (sure, right)


def recalls(cosines: np.ndarray, own: np.ndarray) -> dict[str, float]:
    """Returns recall at 1 and 5 both ways, see the module's first lines.

    Args:
      cosines: [images, descriptions].
      own: [images] the description of each image; those of no image are only in the way.
    """
    of_own = np.take_along_axis(cosines, own[:, None], axis=1)
    image_ranks = (cosines >= of_own).sum(axis=1) - 1
    text_ranks = []
    for text in np.unique(own):
        described = own == text
        best = cosines[described, text].max()
        text_ranks.append((cosines[~described, text] >= best).sum())
    ranks = {"image_to_text": image_ranks, "text_to_image": np.array(text_ranks)}
    return {
        f"{way}_recall_at_{first}": float((of_way < first).mean())
        for way, of_way in ranks.items()
        for first in FIRST
    }


def pair_probabilities(logits: list[np.ndarray], loss: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the probabilities that two are a pair, and whether they are, both `[all couples]`.

    CLIP's is that of the text among those of the batch; SigLIP's knows no batch.

    Args:
      logits: [images, texts] of each batch, its pairs on the diagonal.
      loss: "clip" or "siglip".
    """
    logits = [one.astype(np.float64) for one in logits]
    of_batch = [softmax(one, axis=1) if loss == "clip" else expit(one) for one in logits]
    hits = [np.eye(len(one), dtype=bool) for one in logits]
    return tuple(np.concatenate([one.ravel() for one in ones]) for ones in (of_batch, hits))


def reliability(probabilities: np.ndarray, hits: np.ndarray) -> dict[str, np.ndarray]:
    """Sorts predictions into ten bins of equal width by how sure they were.

    Args:
      probabilities: [predictions] in [0, 1].
      hits: [predictions] whether each came true.

    Returns:
      By bin, `[BINS]`: the mean `confidence` and the `share` that came true, nan where there are
      none, their `count`, and `gap`, by how many the expected and the true hits differ.
    """
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    count, expected, true = (
        np.bincount(bins, weights, minlength=BINS) for weights in (None, probabilities, hits)
    )
    full = np.where(count > 0, count, np.nan)
    return {
        "confidence": expected / full,
        "share": true / full,
        "count": count,
        "gap": np.abs(expected - true),
    }


def _similarity(pixels: np.ndarray, cosines: np.ndarray, own: np.ndarray) -> dict[str, Any]:
    """Returns one picture of each digit against their descriptions, and means over all pictures."""
    plain = [digit_captions.wordings(claim)[0] for claim in digit_captions.full_claims()]
    digits = own // (len(SLANTS) * len(WEIGHTS))
    shown = [np.flatnonzero(digits == digit)[0] for digit in np.unique(digits)]
    means = [
        cosines[own == text].mean(axis=0) if (own == text).any() else np.full(len(plain), np.nan)
        for text in range(len(plain))
    ]
    return {
        "images": pixels[shown] / 255,
        "captions": np.array(plain)[own[shown]],
        "cosines": cosines[np.ix_(shown, own[shown])],
        "means": np.stack(means),
    }


def _retrieved(
    trained: Trained, pixels: np.ndarray, images: np.ndarray, truths: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the nearest pictures to some descriptions, and of which these are true."""
    texts = [digit_captions.wordings(query)[0] for query in QUERIES]
    nearest = np.argsort(-trained.texts(texts) @ images.T, axis=1, kind="stable")[:, :SHOWN]
    claims = np.array([[UNSAID if part is None else part for part in query] for query in QUERIES])
    right = np.take_along_axis(true_of(claims, truths).T, nearest, axis=1)
    return {"texts": np.array(texts), "images": pixels[nearest] / 255, "right": right}


def nearest_wordings(trained: Trained, prompt: str, count: int = 6) -> str:
    """Returns the prompt and the other descriptions that are nearest to it, a line each.

    Raises:
      UserError: the prompt has words that are not known, none, or too many.
    """
    point = trained.texts([prompt])[0]
    others = [words for words in digit_captions.all_wordings() if words != prompt]
    cosines = trained.texts(others) @ point
    first = np.argsort(-cosines, kind="stable")[:count]
    return "\n".join([prompt, *(f"{cosines[place]:7.3f}  {others[place]}" for place in first)])
