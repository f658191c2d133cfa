"""Baselines of language models: n-gram losses in nats per token."""

import math

import numpy as np

from jaxlabs.data.windows import Tokens

# Absolute discounting needs a positive discount even if no count is 1.
DISCOUNT_WITHOUT_SINGLETONS = 0.5


MAX_TRAIN_TOKENS, MAX_HELD_OUT_TOKENS = 2_000_000, 500_000
"""Tokens that are counted and scored; of a longer text some evenly spaced pieces are.

The counts take about 100 bytes per token, 250 MB for the largest sample.
"""

SAMPLE_PIECES = 100
"""Pieces of a sample; the few n-grams across their borders are counted as if they were text."""


def ngram_baselines(
    train_tokens: Tokens, held_out_tokens: Tokens, vocab_size: int
) -> dict[str, float]:
    """Returns held-out losses by model name: "uniform", "unigram", "bigram" and "5-gram".

    They are the mean negative log-probability over the held-out tokens, in nats. Of more than
    `MAX_TRAIN_TOKENS` training tokens or `MAX_HELD_OUT_TOKENS` held-out ones a sample is read, so
    that memory is bounded; the names of models that are trained on a sample say so, such as "5-gram
    of 2,000,000 tokens".

    Args:
      train_tokens: `[length]` integers below `vocab_size` that are counted.
      held_out_tokens: `[held_out]` tokens that are scored, at least one; the first ones have
        shorter contexts.
      vocab_size: number of possible tokens, seen or unseen.
    """
    suffix = f" of {MAX_TRAIN_TOKENS:,} tokens" if len(train_tokens) > MAX_TRAIN_TOKENS else ""
    train_tokens = _sample(train_tokens, MAX_TRAIN_TOKENS)
    held_out_tokens = _sample(held_out_tokens, MAX_HELD_OUT_TOKENS)
    grams = _ngram_ids(np.concatenate([train_tokens, held_out_tokens]), vocab_size, 5)
    losses = {"uniform": math.log(vocab_size)}
    for name, order in [("unigram", 1), ("bigram", 2), ("5-gram", 5)]:
        probabilities = _probabilities(grams, len(train_tokens), vocab_size, order)
        losses[name + suffix] = float(-np.log(probabilities).mean())
    return losses


def _sample(tokens: Tokens, count: int) -> np.ndarray:
    """Returns all tokens, or `count` in evenly spaced pieces."""
    if len(tokens) <= count:
        return tokens[:]
    length = count // SAMPLE_PIECES
    start = np.arange(SAMPLE_PIECES) * (len(tokens) - length) // (SAMPLE_PIECES - 1)
    return np.concatenate([tokens[one : one + length] for one in start.tolist()])


def ngram_probabilities(
    train_tokens: np.ndarray, held_out_tokens: np.ndarray, vocab_size: int, order: int
) -> np.ndarray:
    """Returns the n-gram probability `[held_out]` of each held-out token given its context.

    Interpolated Kneser-Ney smoothing (Chen and Goodman 1999, "An empirical study of smoothing
    techniques for language modeling", equation 24), with one discount for each order:

        P(w | h) = (max(c(hw) - D, 0) + D * followers(h) * P(w | h')) / c(h)

    where h' is h without its oldest token, c is the count at the highest order and the continuation
    count (the number of different preceding tokens) at lower orders, and D = n1 / (n1 + 2 n2) with
    the numbers of n-grams that are counted once and twice (Ney et al. 1994). The recursion ends at
    the uniform distribution. An unseen h backs off to h'. `order >= 1` counts the tokens of an
    n-gram including the predicted one; the other arguments are those of `ngram_baselines`.
    """
    grams = _ngram_ids(np.concatenate([train_tokens, held_out_tokens]), vocab_size, order)
    return _probabilities(grams, len(train_tokens), vocab_size, order)


def _probabilities(grams: list[np.ndarray], split: int, vocab_size: int, order: int) -> np.ndarray:
    """Returns the n-gram probability of each token from `split` on; see `_ngram_ids`."""
    probabilities = np.full(len(grams[0]) - split, 1.0 / vocab_size)
    for n in range(1, order + 1):
        gram, context = grams[n], _previous(grams[n - 1])
        # An n-gram belongs to the training text if all of it lies inside.
        counts = np.bincount(gram[n - 1 : split], minlength=gram.max() + 1)
        if n < order:
            higher = np.bincount(grams[n + 1][n:split], minlength=grams[n + 1].max() + 1)
            suffix = np.zeros(len(higher), gram.dtype)
            suffix[grams[n + 1][n:]] = gram[n:]
            counts = np.bincount(suffix[higher > 0], minlength=len(counts))
        context_of = np.zeros(len(counts), context.dtype)
        context_of[gram[n - 1 :]] = context[n - 1 :]
        contexts = grams[n - 1].max() + 1
        context_counts = np.bincount(context_of, counts, minlength=contexts)
        followers = np.bincount(context_of, counts > 0, minlength=contexts)

        once, twice = (counts == 1).sum(), (counts == 2).sum()
        discount = once / (once + 2 * twice) if once else DISCOUNT_WITHOUT_SINGLETONS

        # Held-out tokens with n - 1 preceding held-out tokens.
        scored = slice(split + n - 1, None)
        lower_order = probabilities[n - 1 :]
        in_context = context_counts[context[scored]]
        own = np.maximum(counts[gram[scored]] - discount, 0)
        rest = discount * followers[context[scored]] * lower_order
        known = in_context > 0
        lower_order[known] = (own[known] + rest[known]) / in_context[known]
    return probabilities


def _ngram_ids(tokens: np.ndarray, vocab_size: int, order: int) -> list[np.ndarray]:
    """Returns for n = 0..order the id `[length]` int32 of the n-gram that ends at each token.

    Equal n-grams have equal ids, counted from 0. The first n - 1 ids are meaningless. Ids are
    compacted at each order, so no vocabulary size or order overflows an integer.
    """
    grams = [np.zeros(len(tokens), np.int32)]
    for _ in range(order):
        pairs = _previous(grams[-1]).astype(np.int64)
        pairs *= vocab_size
        pairs += tokens
        grams.append(_ranks(pairs))
    return grams


def _ranks(values: np.ndarray) -> np.ndarray:
    """Returns for each value how many different ones are smaller, `[length]` int32."""
    size = int(values.max()) + 1
    if size > 4 * len(values):
        return np.unique(values, return_inverse=True)[1].astype(np.int32)
    seen = np.zeros(size, bool)  # much faster than sorting
    seen[values] = True
    return (np.cumsum(seen, dtype=np.int32) - 1)[values]


def _previous(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, values.dtype), values[:-1]])
