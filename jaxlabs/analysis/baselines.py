"""What a text gives away without a neural network: n-gram losses and entropies, in nats a token."""

import math

import numpy as np

# Absolute discounting needs something to give to unseen tokens even when no count is 1.
DISCOUNT_WITHOUT_SINGLETONS = 0.5


def ngram_baselines(
    train_tokens: np.ndarray, held_out_tokens: np.ndarray, vocabulary_size: int
) -> dict[str, float]:
    """Returns held-out losses by model name: "uniform", "unigram", "bigram" and "5-gram".

    Args:
      train_tokens: `[length]` integers below `vocabulary_size`, where the counts come from.
      held_out_tokens: `[held_out]` tokens that are scored, every one of them; the first few have
        shorter contexts. At least one.
      vocabulary_size: all tokens that could occur, seen or not.

    Returns:
      The mean negative log-probability over the held-out tokens, in nats.
    """
    losses = {"uniform": math.log(vocabulary_size)}
    for name, order in [("unigram", 1), ("bigram", 2), ("5-gram", 5)]:
        probabilities = ngram_probabilities(train_tokens, held_out_tokens, vocabulary_size, order)
        losses[name] = float(-np.log(probabilities).mean())
    return losses


def ngram_probabilities(
    train_tokens: np.ndarray, held_out_tokens: np.ndarray, vocabulary_size: int, order: int
) -> np.ndarray:
    """Returns what an n-gram model gives each held-out token after those before it, `[held_out]`.

    Interpolated Kneser-Ney smoothing (Chen and Goodman 1999, "An empirical study of smoothing
    techniques for language modeling", equation 24), with one discount for each order:

        P(w | h) = (max(c(hw) - D, 0) + D * followers(h) * P(w | h')) / c(h)

    where h' is h without its oldest token, c counts occurrences at the highest order and, below
    it, different tokens in front (so that a token known from one phrase only is not expected
    everywhere), and D = n1 / (n1 + 2 n2) from how many n-grams are counted once and twice (Ney et
    al. 1994). The recursion ends at the uniform distribution. An unknown h leaves it to h'.

    Args:
      train_tokens: as in `ngram_baselines`.
      held_out_tokens: as in `ngram_baselines`.
      vocabulary_size: as in `ngram_baselines`.
      order: >= 1, tokens of an n-gram, the predicted one included.
    """
    split = len(train_tokens)
    tokens = np.concatenate([train_tokens, held_out_tokens]).astype(np.int64)
    grams = _number_ngrams(tokens, vocabulary_size, order)

    probabilities = np.full(len(held_out_tokens), 1.0 / vocabulary_size)
    for n in range(1, order + 1):
        gram, context = grams[n], _previous(grams[n - 1])
        # An n-gram belongs to the training text when it ends inside it and does not start before.
        counts = np.bincount(gram[n - 1 : split], minlength=gram.max() + 1)
        if n < order:
            longer = np.bincount(grams[n + 1][n:split], minlength=grams[n + 1].max() + 1)
            suffix = np.zeros(len(longer), np.int64)
            suffix[grams[n + 1][n:]] = gram[n:]
            counts = np.bincount(suffix[longer > 0], minlength=len(counts))
        context_of = np.zeros(len(counts), np.int64)
        context_of[gram[n - 1 :]] = context[n - 1 :]
        contexts = grams[n - 1].max() + 1
        context_counts = np.bincount(context_of, counts, minlength=contexts)
        followers = np.bincount(context_of, counts > 0, minlength=contexts)

        once, twice = (counts == 1).sum(), (counts == 2).sum()
        discount = once / (once + 2 * twice) if once else DISCOUNT_WITHOUT_SINGLETONS

        # Tokens of the held-out text that have n - 1 others before them there.
        scored = slice(split + n - 1, None)
        shorter = probabilities[n - 1 :]
        in_context = context_counts[context[scored]]
        own = np.maximum(counts[gram[scored]] - discount, 0)
        rest = discount * followers[context[scored]] * shorter
        known = in_context > 0
        shorter[known] = (own[known] + rest[known]) / in_context[known]
    return probabilities


def empirical_entropies(tokens: np.ndarray) -> dict[str, float]:
    """Returns the entropies of the tokens' own frequencies, in nats.

    "unigram_entropy" is that of one token, "bigram_entropy" that of a token given the one before.
    No model of that order without knowledge from outside can have a lower loss on this very text.
    """
    tokens = np.asarray(tokens).astype(np.int64)
    pairs = tokens[:-1] * (tokens.max() + 1) + tokens[1:]
    return {
        "unigram_entropy": _entropy(tokens),
        "bigram_entropy": _entropy(pairs) - _entropy(tokens[:-1]),
    }


def _entropy(values: np.ndarray) -> float:
    counts = np.unique(values, return_counts=True)[1]
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _number_ngrams(tokens: np.ndarray, vocabulary_size: int, order: int) -> list[np.ndarray]:
    """Returns for n = 0..order the number `[length]` of the n-gram that ends at each token.

    Equal n-grams have equal numbers, counted from 0. The first n - 1 numbers mean nothing. They
    are renumbered from order to order, so that no vocabulary or order overflows an integer.
    """
    grams = [np.zeros(len(tokens), np.int64)]
    for _ in range(order):
        pairs = _previous(grams[-1]) * vocabulary_size + tokens
        grams.append(np.unique(pairs, return_inverse=True)[1])
    return grams


def _previous(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], values[:-1]])
