"""The forward process, its posterior, and the ways to say what is noise in a picture.

Everywhere `schedule` holds figures by time, `t [batch]` are times from 0 to T - 1, and pictures are
`[batch, ...]` with data in [-1, 1].
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.diffusion.noise_schedules import EPSILON, DiffusionConfig, Schedule, alphas_cumprod


def at(table: np.ndarray | jax.Array, t: jax.Array, like: jax.Array) -> jax.Array:
    """Returns `table [T]` at the times `t [batch]`, shaped and typed to multiply `like`."""
    values = jnp.asarray(table)[t].astype(like.dtype)
    return values.reshape(values.shape + (1,) * (like.ndim - 1))


def q_sample(schedule: Schedule, x0: jax.Array, t: jax.Array, noise: jax.Array) -> jax.Array:
    """Returns the pictures x0 at times t (Ho et al. 2020, equation 4)."""
    signal = at(schedule.sqrt_alpha_bars, t, x0)
    return signal * x0 + at(schedule.sqrt_one_minus_alpha_bars, t, x0) * noise


def posterior(
    schedule: Schedule, x0: jax.Array, x: jax.Array, t: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the mean of `q(x before | x, x0)`, its variance and log variance `[batch]`.

    Ho et al. 2020, equations 6 and 7. The log variance at time 0 is that of time 1.
    """
    mean = at(schedule.posterior_from_x0, t, x0) * x0 + at(schedule.posterior_from_xt, t, x) * x
    tables = schedule.posterior_variance, schedule.posterior_log_variance
    variance, log_variance = (jnp.asarray(table)[t].astype(x.dtype) for table in tables)
    return mean, variance, log_variance


def target(
    schedule: Schedule, x0: jax.Array, noise: jax.Array, t: jax.Array, prediction_type: str
) -> jax.Array:
    """Returns what a network should say of `q_sample(schedule, x0, t, noise)`.

    That is the noise, or `v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x0` (Salimans and Ho
    2022, appendix D).
    """
    if prediction_type == EPSILON:
        return noise
    signal = at(schedule.sqrt_alpha_bars, t, x0)
    return signal * noise - at(schedule.sqrt_one_minus_alpha_bars, t, x0) * x0


def predict_x0(
    schedule: Schedule, x: jax.Array, t: jax.Array, output: jax.Array, prediction_type: str
) -> jax.Array:
    """Returns the pictures that an output (noise or v) means, given x at times t."""
    signal = at(schedule.sqrt_alpha_bars, t, x)
    spread = at(schedule.sqrt_one_minus_alpha_bars, t, x)
    if prediction_type == EPSILON:
        return (x - spread * output) / signal
    return signal * x - spread * output


def predict_eps(
    schedule: Schedule, x: jax.Array, t: jax.Array, output: jax.Array, prediction_type: str
) -> jax.Array:
    """Returns the noise that an output (noise or v) means, given x at times t."""
    if prediction_type == EPSILON:
        return output
    signal = at(schedule.sqrt_alpha_bars, t, x)
    return signal * output + at(schedule.sqrt_one_minus_alpha_bars, t, x) * x


def loss_weights(config: DiffusionConfig) -> np.ndarray:
    """Returns the weight of the squared error of the network's output at each time, `[T]` float32.

    Min-SNR (Hang et al. 2023) weighs the error in x0 by `min(SNR, gamma)`. An error in epsilon is
    one in x0 times the root of SNR, and one in v times the root of SNR + 1.
    """
    left = alphas_cumprod(config)
    if config.loss_weighting == "uniform":
        return np.ones(len(left), np.float32)
    snr = left / (1 - left)
    of_output = snr if config.prediction_type == EPSILON else snr + 1
    return (np.minimum(snr, config.min_snr_gamma) / of_output).astype(np.float32)
