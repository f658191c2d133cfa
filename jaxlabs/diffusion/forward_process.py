"""The forward process, its posterior, and conversions between prediction types.

`schedule` holds tables by timestep, `t [batch]` are timesteps in 0..T - 1, and images are
`[batch, ...]` with data in [-1, 1].
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.diffusion.noise_schedules import EPSILON, DiffusionConfig, Schedule, alphas_cumprod


def extract(table: np.ndarray | jax.Array, t: jax.Array, like: jax.Array) -> jax.Array:
    """Returns `table [T]` at timesteps `t [batch]`, with the rank and dtype of `like`."""
    values = jnp.asarray(table)[t].astype(like.dtype)
    return values.reshape(values.shape + (1,) * (like.ndim - 1))


def q_sample(schedule: Schedule, x0: jax.Array, t: jax.Array, noise: jax.Array) -> jax.Array:
    """Returns noisy images at timesteps t (Ho et al. 2020, equation 4)."""
    signal = extract(schedule.sqrt_alphas_cumprod, t, x0)
    return signal * x0 + extract(schedule.sqrt_one_minus_alphas_cumprod, t, x0) * noise


def posterior_mean(schedule: Schedule, x0: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
    """Returns the mean of `q(x_{t-1} | x_t, x0)` (Ho et al. 2020, equation 7)."""
    return (
        extract(schedule.posterior_mean_coef_x0, t, x0) * x0
        + extract(schedule.posterior_mean_coef_xt, t, x) * x
    )


def target(
    schedule: Schedule, x0: jax.Array, noise: jax.Array, t: jax.Array, prediction_type: str
) -> jax.Array:
    """Returns the training target for the input `q_sample(schedule, x0, t, noise)`.

    The noise, or `v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x0` (Salimans and Ho 2022,
    appendix D).
    """
    if prediction_type == EPSILON:
        return noise
    signal = extract(schedule.sqrt_alphas_cumprod, t, x0)
    return signal * noise - extract(schedule.sqrt_one_minus_alphas_cumprod, t, x0) * x0


def predict_x0(
    schedule: Schedule, x: jax.Array, t: jax.Array, output: jax.Array, prediction_type: str
) -> jax.Array:
    """Returns x0, given the network output (noise or v) for x at timesteps t."""
    signal = extract(schedule.sqrt_alphas_cumprod, t, x)
    noise_scale = extract(schedule.sqrt_one_minus_alphas_cumprod, t, x)
    if prediction_type == EPSILON:
        return (x - noise_scale * output) / signal
    return signal * x - noise_scale * output


def loss_weights(config: DiffusionConfig) -> np.ndarray:
    """Returns the loss weight at each timestep, `[T]` float32.

    Min-SNR (Hang et al. 2023) weights the squared error in x0 by `min(SNR, gamma)`. The squared
    error in epsilon is that in x0 times SNR, that in v is that in x0 times SNR + 1.
    """
    alpha_bar = alphas_cumprod(config)
    if config.loss_weighting == "uniform":
        return np.ones(len(alpha_bar), np.float32)
    snr = alpha_bar / (1 - alpha_bar)
    x0_to_output = snr if config.prediction_type == EPSILON else snr + 1
    return (np.minimum(snr, config.min_snr_gamma) / x0_to_output).astype(np.float32)
