"""A small Transformer encoder, trained by masked-word prediction on ten short sentences.

After an unpublished course write-up of the Transformer encoder (Vaswani et al. 2017): sinusoidal
positions, multi-head attention with a padding mask, add and norm, feed-forward, add and norm. The
first sentence is from the write-up. It does not train the encoder; we do, because the attention of
an untrained encoder reflects only its random parameters.
"""

import functools
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
      metrics: by name.
      text: tokens, vectors and weights.
    """

    maps: dict[str, np.ndarray]
    heads: dict[str, np.ndarray]
    metrics: dict[str, float]
    text: str


def train_and_show(
    sentence: str, *, embed_dim: int, num_heads: int, steps: int, seed: int
) -> EncoderResult:
    """Trains the encoder on the sentences, with this one first, and returns its attention.

    The sentence has at least one word; `num_heads` is a divisor of `embed_dim`.
    """
    tokens, vocabulary = encode((sentence, *(other for other in SENTENCES if other != sentence)))
    model = build(tokens, vocabulary, embed_dim, num_heads)
    shapes = jax.eval_shape(model.init, keys.root(0), tokens)["params"]
    params, losses = train_masked(model, init_params(shapes, seed), tokens, seed=seed, steps=steps)
    before, after = losses[0], losses[-max(steps // 10, 1) :].mean()
    valid = tokens != PADDING
    maps = attention_maps(model, params, tokens)
    leaks = checks(maps, causal=False, weights=valid[0])
    # The memory of cross-attention is the second sentence with its padding.
    vectors = np.asarray(jax.jit(model.apply)({"params": params}, tokens))
    queries, memory = vectors[0, valid[0]], vectors[1]
    labels, memory_labels = (np.array([vocabulary[n] for n in row]) for row in tokens[:2])
    words = labels[valid[0]]
    attended = multi_head(queries, memory, np.float32(valid[1]), num_heads, seed)
    text = [
        f"mini encoder: {' '.join(labels)}\ntokens: {' '.join(map(str, tokens[0]))}",
        format_arrays({"vectors": queries}, {"vectors": "contextual vectors"}),
        f"loss per masked word: {before:.2f} nats untrained, {after:.2f} after {steps} steps",
        format_checks(leaks),
        f"multi-head attention: {' '.join(words)}, to itself and to {' '.join(memory_labels)}",
        format_arrays(attended, HEADINGS),
    ]
    metrics = {"masked_loss_before": before, "masked_loss_after": after}
    return EncoderResult(
        maps={"maps": maps, "labels": labels, "rollout": rollout(maps)},
        heads=attended | {"labels": words, "memory_labels": memory_labels},
        metrics=metrics | {f"attention_{name}": value for name, value in leaks.items()},
        text="\n\n".join(text),
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
    sizes = {"vocab_size": len(vocabulary), "context_length": tokens.shape[1], "num_layers": 2}
    sizes |= {"embed_dim": embed_dim, "num_heads": num_heads, "mlp_dim": 2 * embed_dim}
    return TextEncoder(TextEncoderConfig(**sizes, positions="sinusoidal", pre_norm=False))


def train_masked(
    model: TextEncoder, params: Any, tokens: np.ndarray, *, seed: int, steps: int
) -> tuple[Any, np.ndarray]:
    """Trains the encoder by masked language modeling (Devlin et al. 2018).

    A fifth of the words are replaced by MASK. The logits are the scaled dot products of the output
    vectors with the word embeddings.

    Returns:
      The parameters, and the loss of every step in nats per masked word `[steps]`.
    """

    def loss(params, key):
        masked = jax.random.bernoulli(key, jnp.float32(MASK_PROBABILITY), tokens.shape)
        masked &= tokens != PADDING
        vectors = model.apply({"params": params}, jnp.where(masked, UNKNOWN, tokens))
        logits = vectors @ params["embedding"]["embedding"].T / vectors.shape[-1] ** 0.5
        return jnp.sum(cross_entropy(logits, tokens) * masked) / jnp.maximum(masked.sum(), 1)

    train = functools.partial(fit, loss, steps=steps, learning_rate=LEARNING_RATE)
    params, losses, _ = jax.jit(train)(params, keys.stream(seed, "data"))
    return params, np.asarray(losses)
