"""Terms of the evidence lower bound (ELBO) and the importance-weighted bound.

Kingma and Welling 2013 ("Auto-Encoding Variational Bayes"), Burda, Grosse and Salakhutdinov 2015
("Importance Weighted Autoencoders"). Values are in nats, per example:

    ELBO(x)    = E_q(z|x)[log p(x|z)] - KL(q(z|x) || p(z))  <=  log p(x)
    bound_k(x) = E[log mean_k p(x, z_k) / q(z_k|x)],  which approaches log p(x) with k
"""

import math

import jax
import jax.numpy as jnp

from jaxlabs.layers.dtypes import at_least_float32

LOG_2PI = math.log(2 * math.pi)


def gaussian_kl(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """Returns `KL(N(mean, variance) || N(0, 1))` per dimension, in nats, `[..., latent_dim]`.

    `mean` and `log_variance` are `[..., latent_dim]`. The KL divergence of a diagonal posterior is
    the sum over dimensions (Kingma and Welling 2013, appendix B).
    """
    return (jnp.exp(log_variance) + jnp.square(mean) - 1 - log_variance) / 2


def bernoulli_log_likelihood(logits: jax.Array, x: jax.Array) -> jax.Array:
    """Returns `sum_i x_i log sigmoid(l_i) + (1 - x_i) log sigmoid(-l_i)`, in nats, `[...]`.

    Computed in at least float32; finite for all finite logits.

    Args:
      logits: [..., pixels].
      x: [..., pixels] in [0, 1]; for fractional x it is the expectation over pixels that are 1 with
        probability x.
    """
    logits = at_least_float32(logits)
    # Not optax's, which takes two log sigmoids for one:
    # log sigmoid(-l) = -max(l, 0) - log(1 + exp(-|l|)), and log sigmoid(l) = l + log sigmoid(-l).
    log_prob_zero = -jnp.maximum(logits, 0) - jnp.log1p(jnp.exp(-jnp.abs(logits)))
    return jnp.sum(x * logits + log_prob_zero, axis=-1)


def gaussian_log_likelihood(
    mean: jax.Array, x: jax.Array, log_scale: jax.Array | float
) -> jax.Array:
    """Returns `log N(x; mean, scale^2)` summed over the last axis, in nats, `[...]`.

    `mean` and `x` are `[..., pixels]`; `log_scale`, the log of the standard deviation, is [] or has
    the rank of x.
    """
    mean = at_least_float32(mean)
    return jnp.sum(
        -jnp.square((x - mean) * jnp.exp(-log_scale)) / 2 - log_scale - LOG_2PI / 2, axis=-1
    )


def importance_weighted_bound(log_weights: jax.Array) -> jax.Array:
    """Returns `log mean exp(log_weights)` over the first axis, in nats, `[...]`.

    The `log_weights [samples, ...]` are `log p(x, z) - log q(z|x)` at samples z of q. With a single
    sample this is the estimate of the ELBO (Burda et al. 2015, equation 8).
    """
    return jax.nn.logsumexp(at_least_float32(log_weights), axis=0) - math.log(log_weights.shape[0])
