"""Choosing the next token from its logits: temperature, top-k, top-p.

All three knobs are traced scalars, so that turning one compiles nothing new. They act in the order
in which they are listed: the temperature first, then top-k, then top-p on what top-k has left.
"""

import jax
import jax.numpy as jnp

ROUNDING = 8
"""Relative error, in machine epsilons, that is granted to a running sum of probabilities; of up to
50,000 equal tokens it was at most 5."""


def sample_token(
    keys: jax.Array,
    logits: jax.Array,
    temperature: jax.Array | float,
    top_k: jax.Array | int,
    top_p: jax.Array | float,
) -> jax.Array:
    """Draws one token for each row, `[batch]` int32.

    The noise belongs to the token, not to its rank: with the same key, cutting off the tail
    changes a row's token only when that token lay in the tail.

    Args:
      keys: `[batch]` typed keys, one for each row, so that no row's token depends on another row.
      logits: `[batch, vocabulary]`, any float type; the work is done in at least float32.
      temperature: [] >= 0; 0 takes the most likely token (the lowest id among equals).
      top_k: [] how many tokens may be drawn (Fan et al. 2018, "Hierarchical Neural Story
        Generation", section 5.2); 0 means all.
      top_p: [] in 0..1, the probability mass that may be drawn; see `top_k_top_p_mask`. 1 means
        all.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    # The best logit becomes 0, so that the smallest temperature overflows to -inf and never to NaN.
    logits = logits - jnp.max(logits, axis=-1, keepdims=True)
    greedy = jnp.argmax(logits, axis=-1)
    scaled = logits / jnp.where(temperature > 0, temperature, 1.0)
    truncated = jax.lax.cond(
        (top_k > 0) | (top_p < 1),
        lambda: jnp.where(top_k_top_p_mask(scaled, top_k, top_p), scaled, -jnp.inf),
        lambda: scaled,
    )
    drawn = jax.vmap(jax.random.categorical)(keys, truncated)
    return jnp.where(temperature > 0, drawn, greedy).astype(jnp.int32)


def top_k_top_p_mask(
    logits: jax.Array, top_k: jax.Array | int, top_p: jax.Array | float
) -> jax.Array:
    """Returns which tokens survive top-k and top-p, `[batch, vocabulary]` bool.

    Tokens are ranked by logit, equal logits by id, the lower first. Top-k keeps the first k
    (0: all). Top-p, the nucleus of Holtzman et al. 2020 ("The Curious Case of Neural Text
    Degeneration", section 3.1), then keeps the shortest prefix whose probability among those
    reaches p, up to rounding (1: all). The first token always stays. Equal logits at the border are
    thus cut by id, and never more than k tokens survive.

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
    # Shifted, not `cumsum(p) - p`: the subtraction would lose the last digit.
    mass_before = jnp.pad(jnp.cumsum(probabilities, axis=-1), ((0, 0), (1, 0)))[:, :-1]
    # Of 3 equal tokens 2 reach p = 2/3, though rounding may leave their sum just short of it.
    short_of_p = mass_before < top_p * (1 - ROUNDING * jnp.finfo(mass_before.dtype).eps)
    # Rounding lets the running sum reach 1 before the last token, hence the separate "off".
    within_p = short_of_p | (top_p >= 1)
    kept = jnp.sum((rank == 0) | (within_k & within_p), axis=-1, keepdims=True)

    # What survives is a prefix of the ranking, so its last member tells all others in or out
    # without a second sort to get back to the order of the ids.
    last_negated = jnp.take_along_axis(negated, kept - 1, axis=1)
    last_id = jnp.take_along_axis(ranked_ids, kept - 1, axis=1)
    return (-logits < last_negated) | ((-logits == last_negated) & (ids <= last_id))
