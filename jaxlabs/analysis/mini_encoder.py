"""The mini encoder of a course: ten short sentences, post-norm blocks, words that read each other.

After an unpublished course write-up of the Transformer encoder (Vaswani et al. 2017): sinusoidal
positions, multi-head attention under a padding mask, add and norm, feed-forward, add and norm. The
sentences but the first are our own. Training it to fill gaps is our addition, since the attention
of an untrained encoder shows nothing but its random parameters.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.analysis.attention_demo import in_words, multi_head
from jaxlabs.analysis.attention_maps import attention_maps, check_lines, checks, rollout
from jaxlabs.analysis.toy_training import draw_params, fit
from jaxlabs.data.tokenizers import PADDING, UNKNOWN
from jaxlabs.losses.cross_entropy import cross_entropy
from jaxlabs.models.text_encoder import TextEncoder, TextEncoderConfig

SENTENCES = (
    "the cat sat on the mat",
    "the dog sat on the rug",
    "a cat chased the small mouse",
    "the dog chased a red ball",
    "birds sing in the old tree",
    "a bird sat in the tree",
    "the mouse hid under the old mat",
    "the children threw the red ball to the dog",
    "rain fell on the roof",
    "we sat under the tree",
)
PAD, GAP = "<PAD>", "<GAP>"
CROSSED = {
    "self_weights": "weights of self-attention, by head",
    "self_output": "output of multi-head self-attention",
    "cross_weights": "weights of cross-attention, by head",
    "cross_output": "output of multi-head cross-attention",
}
HIDDEN_SHARE, LEARNING_RATE = 0.2, 3e-3


class Reading(NamedTuple):
    """What the encoder makes of a sentence.

    Attributes:
      maps: `maps`, `labels` and `rollout` of the sentence, padding included, for the report.
      heads: its heads over itself and over another sentence: see `attention_demo.multi_head`, and
        `labels [time]` and `memory_labels [memory_time]`.
      metrics: figures by name.
      text: tokens, vectors and weights.
    """

    maps: dict[str, np.ndarray]
    heads: dict[str, np.ndarray]
    metrics: dict[str, float]
    text: str


def read(sentence: str, *, embed_dim: int, num_heads: int, steps: int, seed: int) -> Reading:
    """Trains the encoder on the toy sentences, this one first, and shows how it reads it.

    Args:
      sentence: at least one word.
      embed_dim: size of a word's vector.
      heads: attention heads, which divide the embed_dim.
      steps: of training.
      seed: of parameters and gaps.
    """
    sentences = (sentence, *(other for other in SENTENCES if other != sentence))
    tokens, vocabulary = encode(sentences)
    model = build(tokens, vocabulary, embed_dim, num_heads)
    shapes = jax.eval_shape(model.init, keys.root(0), tokens)["params"]
    params, losses = fill_gaps(model, draw_params(shapes, seed), tokens, seed=seed, steps=steps)
    vectors = np.asarray(jax.jit(model.apply)({"params": params}, tokens))
    labels = np.array([vocabulary[number] for number in tokens[0]])
    maps = attention_maps(model, params, tokens)
    leaks = checks(maps, causal=False, weights=tokens[0] != PADDING)
    words = labels[tokens[0] != PADDING]
    # The memory of cross-attention is the second sentence, and padding for all to see.
    memory_words = [vocabulary[number] for number in tokens[1]]
    crossed = multi_head(
        vectors[0, : len(words)], vectors[1], np.float32(tokens[1] != PADDING), num_heads, seed
    )
    crossed |= {"labels": words, "memory_labels": np.array(memory_words)}
    tenth = max(steps // 10, 1)
    metrics = {"gap_loss_before": losses[0], "gap_loss_after": losses[-tenth:].mean()}
    metrics |= {f"attention_{name}": value for name, value in leaks.items()}
    text = "\n\n".join(
        [
            f"mini encoder: {' '.join(labels)}\ntokens: {' '.join(map(str, tokens[0]))}",
            in_words({"vectors": vectors[0, : len(words)]}, {"vectors": "contextual vectors"}),
            f"loss per hidden word: {losses[0]:.2f} nats untrained,"
            f" {metrics['gap_loss_after']:.2f} after {steps} steps",
            check_lines(leaks),
            f"multi-head: {' '.join(words)}, on itself and on {' '.join(memory_words)}",
            in_words(crossed, CROSSED),
        ]
    )
    return Reading(
        {"maps": maps, "labels": labels, "rollout": rollout(maps)}, crossed, metrics, text
    )


def words_of(sentence: str) -> list[str]:
    """Returns a sentence's words: lower-cased and split at spaces."""
    return sentence.lower().split()


def encode(sentences: tuple[str, ...]) -> tuple[np.ndarray, list[str]]:
    """Returns tokens `[sentence, time]`, padded at the end, and the word of every number."""
    split = [words_of(sentence) for sentence in sentences]
    vocabulary = [PAD, GAP, *sorted({word for words in split for word in words})]
    tokens = np.full((len(split), max(map(len, split))), PADDING, np.int32)
    for row, words in zip(tokens, split, strict=True):
        row[: len(words)] = [vocabulary.index(word) for word in words]
    return tokens, vocabulary


def build(tokens: np.ndarray, vocabulary: list[str], embed_dim: int, num_heads: int) -> TextEncoder:
    """Returns the encoder: two post-norm blocks and sinusoidal positions."""
    return TextEncoder(
        TextEncoderConfig(
            vocabulary_size=len(vocabulary),
            context_length=tokens.shape[1],
            embed_dim=embed_dim,
            num_layers=2,
            num_heads=num_heads,
            mlp_dim=2 * embed_dim,
            positions="sinusoidal",
            pre_norm=False,
        )
    )


def fill_gaps(
    model: TextEncoder, params: Any, tokens: np.ndarray, *, seed: int, steps: int
) -> tuple[Any, np.ndarray]:
    """Trains the encoder to name words that were hidden from it (Devlin et al. 2018).

    A fifth of the words give way to GAP; the logits are the dots of a gap's vector with all word
    vectors, over the root of their size.

    Returns:
      The parameters, and the loss of every step in nats per hidden word `[steps]`.
    """

    def loss(params: Any, key: jax.Array) -> jax.Array:
        hidden = jax.random.bernoulli(key, jnp.float32(HIDDEN_SHARE), tokens.shape) & (
            tokens != PADDING
        )
        vectors = model.apply({"params": params}, jnp.where(hidden, UNKNOWN, tokens))
        logits = vectors @ params["embedding"]["embedding"].T / vectors.shape[-1] ** 0.5
        return jnp.sum(cross_entropy(logits, tokens) * hidden) / jnp.maximum(hidden.sum(), 1)

    train = jax.jit(
        lambda params, key: fit(loss, params, key, steps=steps, learning_rate=LEARNING_RATE)[:2]
    )
    params, losses = train(params, keys.stream(seed, "data"))
    return params, np.asarray(losses)
