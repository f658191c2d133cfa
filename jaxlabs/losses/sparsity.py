"""Sparsity of a sparse autoencoder: the KL penalty and the k-sparse activation."""

import jax
import jax.numpy as jnp


def kl_sparsity(mean_activation: jax.Array, target: float) -> jax.Array:
    """Returns `KL(rho || mean activation)` of each unit, in nats, `[units]`, without reduction.

    The KL divergence between Bernoulli distributions with means `target` and `mean_activation` (Ng
    2011, "Sparse autoencoder", section 3). It is finite also for units that are always 0 or 1.

    Args:
      mean_activation: [units] mean of sigmoid units over all examples, in [0, 1].
      target: rho, the target mean activation, in (0, 1).
    """
    tiny = jnp.finfo(mean_activation.dtype).tiny
    on, off = jnp.maximum(mean_activation, tiny), jnp.maximum(1 - mean_activation, tiny)
    return target * (jnp.log(target) - jnp.log(on)) + (1 - target) * (
        jnp.log1p(-target) - jnp.log(off)
    )


def k_sparse(x: jax.Array, count: int) -> jax.Array:
    """Returns `x [..., units]` with all but the `count` largest units of each row set to 0.

    The activation of the k-sparse autoencoder (Makhzani and Frey 2014). Ties with the smallest kept
    unit are kept too; a count of at least the number of units returns x.
    """
    if count >= x.shape[-1]:
        return x
    threshold = jax.lax.top_k(x, count)[0][..., -1:]
    return jnp.where(x >= threshold, x, 0)
