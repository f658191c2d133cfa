"""What keeps the hidden units of a sparse autoencoder silent most of the time."""

import jax
import jax.numpy as jnp


def kl_sparsity(mean_activation: jax.Array, target: float) -> jax.Array:
    """Returns `KL(target || mean activation)` of each unit, in nats, `[units]`; nothing is reduced.

    The divergence between two coins, one that is 1 with probability `target` and one that is 1 as
    often as the unit is active (Ng 2011, "Sparse autoencoder", section 3). A unit that is always
    off or always on makes the value large but finite.

    Args:
      mean_activation: [units], of sigmoid units over all examples, in [0, 1].
      target: the wanted mean activation, in (0, 1).
    """
    tiny = jnp.finfo(mean_activation.dtype).tiny
    on, off = jnp.maximum(mean_activation, tiny), jnp.maximum(1 - mean_activation, tiny)
    return target * (jnp.log(target) - jnp.log(on)) + (1 - target) * (
        jnp.log1p(-target) - jnp.log(off)
    )


def k_sparse(x: jax.Array, count: int) -> jax.Array:
    """Returns `x [..., units]` with all but the `count` largest units of each row set to 0.

    The k-sparse autoencoder's selection (Makhzani and Frey 2014). Units that tie with the smallest
    one kept are kept too; a count of all units or more changes nothing.
    """
    if count >= x.shape[-1]:
        return x
    threshold = jax.lax.top_k(x, count)[0][..., -1:]
    return jnp.where(x >= threshold, x, 0)
