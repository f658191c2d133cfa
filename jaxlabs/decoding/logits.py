"""Sampling of the next token from its logits: temperature, top-k, top-p.

All three are traced scalars, so that a new value does not recompile. They apply in this order: the
temperature, then top-k, then top-p to the renormalized top-k distribution.
"""

import jax
import jax.numpy as jnp

from jaxlabs.layers.dtypes import at_least_float32

ROUNDING = 8
"""Tolerance of a cumulative sum of probabilities, in machine epsilons; the measured error for up to
50,000 equal tokens is at most 5."""


def sample_token(
    keys: jax.Array,
    logits: jax.Array,
    temperature: jax.Array | float,
    top_k: jax.Array | int,
    top_p: jax.Array | float,
) -> jax.Array:
    """Samples one token per row, `[batch]` int32.

    The noise is per token, not per rank: with the same key, truncation changes a row's token only
    if that token is truncated.

    Args:
      keys: [batch] typed keys, one per row, so that rows are independent.
      logits: [batch, vocabulary], any float dtype; computed in at least float32.
      temperature: [] >= 0; 0 takes the argmax (the lowest id among ties).
      top_k: [] number of candidate tokens (Fan et al. 2018, "Hierarchical Neural Story
        Generation", section 5.2); 0: all.
      top_p: [] in [0, 1], probability mass of the candidates; see `top_k_top_p_mask`. 1: all.
    """
    logits = at_least_float32(logits)
    # The largest logit becomes 0, so that a tiny temperature overflows to -inf and not to NaN.
    logits = logits - jnp.max(logits, axis=-1, keepdims=True)
    greedy = jnp.argmax(logits, axis=-1)
    scaled = logits / jnp.where(temperature > 0, temperature, 1.0)
    truncated = jax.lax.cond(
        (top_k > 0) | (top_p < 1),
        lambda: jnp.where(top_k_top_p_mask(scaled, top_k, top_p), scaled, -jnp.inf),
        lambda: scaled,
    )
    sampled = jax.vmap(jax.random.categorical)(keys, truncated)
    return jnp.where(temperature > 0, sampled, greedy).astype(jnp.int32)


def top_k_top_p_mask(
    logits: jax.Array, top_k: jax.Array | int, top_p: jax.Array | float
) -> jax.Array:
    """Returns the mask of tokens kept by top-k and top-p, `[batch, vocabulary]` bool.

    Tokens are ranked by logit, ties by id, the lower first. Top-k keeps the first k (0: all).
    Top-p, the nucleus of Holtzman et al. 2020 ("The Curious Case of Neural Text Degeneration",
    section 3.1), then keeps the shortest prefix whose probability among those reaches p, up to
    rounding (1: all). The first token is always kept. Ties at the border are thus broken by id, and
    at most k tokens are kept.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxlabs.decoding.logits import top_k_top_p_mask
      >>> top_k_top_p_mask(jnp.array([[2.0, 0.0, 1.0]]), top_k=2, top_p=1.0).tolist()
      [[True, False, True]]
    """
    ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
    negated, ranked_ids = jax.lax.sort((-logits, ids), dimension=1, is_stable=True, num_keys=1)

    rank = ids
    within_k = (rank < top_k) | (top_k <= 0)
    probabilities = jax.nn.softmax(jnp.where(within_k, -negated, -jnp.inf), axis=-1)
    # Shifted, not `cumsum(p) - p`, which would lose precision.
    prev_mass = jnp.pad(jnp.cumsum(probabilities, axis=-1), ((0, 0), (1, 0)))[:, :-1]
    # With a tolerance: of 3 equal tokens 2 reach p = 2/3, but their rounded sum may be below it.
    below_p = prev_mass < top_p * (1 - ROUNDING * jnp.finfo(prev_mass.dtype).eps)
    # The rounded cumulative sum can reach 1 before the last token, hence the separate "off".
    within_p = below_p | (top_p >= 1)
    kept = jnp.sum((rank == 0) | (within_k & within_p), axis=-1, keepdims=True)

    # The kept tokens are a prefix of the ranking, so a comparison with the last one replaces a
    # second sort back to the order of the ids.
    last_negated = jnp.take_along_axis(negated, kept - 1, axis=1)
    last_id = jnp.take_along_axis(ranked_ids, kept - 1, axis=1)
    return (-logits < last_negated) | ((-logits == last_negated) & (ids <= last_id))
