"""A small Transformer encoder, trained by masked-word prediction on ten short sentences.

After an unpublished course write-up of the Transformer encoder (Vaswani et al. 2017): sinusoidal
positions, multi-head attention with a padding mask, add and norm, feed-forward, add and norm. The
first sentence is from the write-up. It does not train the encoder; we do, because the attention of
an untrained encoder reflects only its random parameters.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.analysis.attention_demo import format_arrays, multi_head
from jaxlabs.analysis.attention_maps import attention_maps, checks, format_checks, rollout
from jaxlabs.analysis.toy_training import fit, init_params
from jaxlabs.data.tokenizers import UNKNOWN
from jaxlabs.data.vocab import PADDING
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
PAD, MASK = "<PAD>", "<MASK>"
HEADINGS = {
    "self_weights": "weights of self-attention, by head",
    "self_output": "output of multi-head self-attention",
    "cross_weights": "weights of cross-attention, by head",
    "cross_output": "output of multi-head cross-attention",
}
MASK_PROBABILITY, LEARNING_RATE = 0.2, 3e-3


class EncoderResult(NamedTuple):
    """Attention of the trained encoder for one sentence.

    Attributes:
      maps: `maps`, `labels` and `rollout` of the sentence, padding included.
      heads: self-attention and cross-attention to a second sentence, see
        `attention_demo.multi_head`, with `labels [time]` and `memory_labels [memory_time]`.
      metrics: metrics by name.
      text: tokens, vectors and weights as text.
    """

    maps: dict[str, np.ndarray]
    heads: dict[str, np.ndarray]
    metrics: dict[str, float]
    text: str


def train_and_show(
    sentence: str, *, embed_dim: int, num_heads: int, steps: int, seed: int
) -> EncoderResult:
    """Trains the encoder on the sentences, with this one first, and returns its attention.

    Args:
      sentence: at least one word.
      embed_dim: size of the embeddings.
      num_heads: number of attention heads, a divisor of `embed_dim`.
    """
    sentences = (sentence, *(other for other in SENTENCES if other != sentence))
    tokens, vocabulary = encode(sentences)
    model = build(tokens, vocabulary, embed_dim, num_heads)
    shapes = jax.eval_shape(model.init, keys.root(0), tokens)["params"]
    params, losses = train_masked(model, init_params(shapes, seed), tokens, seed=seed, steps=steps)
    vectors = np.asarray(jax.jit(model.apply)({"params": params}, tokens))
    labels = np.array([vocabulary[number] for number in tokens[0]])
    maps = attention_maps(model, params, tokens)
    leaks = checks(maps, causal=False, weights=tokens[0] != PADDING)
    words = labels[tokens[0] != PADDING]
    # The memory of cross-attention is the second sentence with its padding.
    memory_words = [vocabulary[number] for number in tokens[1]]
    attended = multi_head(
        vectors[0, : len(words)], vectors[1], np.float32(tokens[1] != PADDING), num_heads, seed
    )
    attended |= {"labels": words, "memory_labels": np.array(memory_words)}
    tenth = max(steps // 10, 1)
    metrics = {"masked_loss_before": losses[0], "masked_loss_after": losses[-tenth:].mean()}
    metrics |= {f"attention_{name}": value for name, value in leaks.items()}
    text = "\n\n".join(
        [
            f"mini encoder: {' '.join(labels)}\ntokens: {' '.join(map(str, tokens[0]))}",
            format_arrays({"vectors": vectors[0, : len(words)]}, {"vectors": "contextual vectors"}),
            f"loss per masked word: {losses[0]:.2f} nats untrained,"
            f" {metrics['masked_loss_after']:.2f} after {steps} steps",
            format_checks(leaks),
            f"multi-head attention: {' '.join(words)}, to itself and to {' '.join(memory_words)}",
            format_arrays(attended, HEADINGS),
        ]
    )
    return EncoderResult(
        {"maps": maps, "labels": labels, "rollout": rollout(maps)}, attended, metrics, text
    )


def words_of(sentence: str) -> list[str]:
    """Returns the words of a sentence, lower-cased and split at spaces."""
    return sentence.lower().split()


def encode(sentences: tuple[str, ...]) -> tuple[np.ndarray, list[str]]:
    """Returns tokens `[sentence, time]`, padded at the end, and the word of every token."""
    split = [words_of(sentence) for sentence in sentences]
    vocabulary = [PAD, MASK, *sorted({word for words in split for word in words})]
    tokens = np.full((len(split), max(map(len, split))), PADDING, np.int32)
    for row, words in zip(tokens, split, strict=True):
        row[: len(words)] = [vocabulary.index(word) for word in words]
    return tokens, vocabulary


def build(tokens: np.ndarray, vocabulary: list[str], embed_dim: int, num_heads: int) -> TextEncoder:
    """Returns the encoder: two post-norm blocks with sinusoidal positions."""
    return TextEncoder(
        TextEncoderConfig(
            vocab_size=len(vocabulary),
            context_length=tokens.shape[1],
            embed_dim=embed_dim,
            num_layers=2,
            num_heads=num_heads,
            mlp_dim=2 * embed_dim,
            positions="sinusoidal",
            pre_norm=False,
        )
    )


def train_masked(
    model: TextEncoder, params: Any, tokens: np.ndarray, *, seed: int, steps: int
) -> tuple[Any, np.ndarray]:
    """Trains the encoder by masked language modeling (Devlin et al. 2018).

    A fifth of the words are replaced by MASK. The logits are the scaled dot products of the output
    vectors with the word embeddings.

    Returns:
      The parameters, and the loss of every step in nats per masked word `[steps]`.
    """

    def loss(params: Any, key: jax.Array) -> jax.Array:
        masked = jax.random.bernoulli(key, jnp.float32(MASK_PROBABILITY), tokens.shape) & (
            tokens != PADDING
        )
        vectors = model.apply({"params": params}, jnp.where(masked, UNKNOWN, tokens))
        logits = vectors @ params["embedding"]["embedding"].T / vectors.shape[-1] ** 0.5
        return jnp.sum(cross_entropy(logits, tokens) * masked) / jnp.maximum(masked.sum(), 1)

    train = jax.jit(
        lambda params, key: fit(loss, params, key, steps=steps, learning_rate=LEARNING_RATE)[:2]
    )
    params, losses = train(params, keys.stream(seed, "data"))
    return params, np.asarray(losses)
