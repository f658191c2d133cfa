"""Noise schedules and the tables derived from them.

Timesteps are 0..T - 1; a noisy image at timestep t is `sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t)
noise`. The timesteps of the paper are larger by one.
"""

import dataclasses
import functools
from typing import Any

import flax.struct
import numpy as np

from jaxlabs.config import ArgumentError, Config, positive, setting

EPSILON, V = "epsilon", "v_prediction"
MAX_BETA = 0.999
"""Upper bound of the betas of the cosine schedule (Nichol and Dhariwal 2021)."""

COSINE_S = 0.008
"""Offset s of the cosine schedule, which keeps the first betas from being too small (Nichol and
Dhariwal 2021)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionConfig(Config):
    """Noise schedule, prediction type and loss weighting."""

    noise_schedule: str = setting(
        "linear",
        "noise schedule: linear betas (Ho et al. 2020) or cosine (Nichol and Dhariwal 2021)",
        choices=("linear", "cosine"),
    )
    num_timesteps: int = positive(
        1000, "number of diffusion timesteps", maximum=1_000_000, aliases=("diffusion_steps",)
    )
    beta_start: float = setting(
        1e-4, "first beta of the linear schedule", above=0, aliases=("first_beta",)
    )
    beta_end: float = setting(
        0.02, "last beta of the linear schedule", above=0, aliases=("last_beta",)
    )
    prediction_type: str = setting(
        EPSILON,
        "what the network predicts: the noise (epsilon) or v (v_prediction; Salimans and Ho 2022)",
        choices=(EPSILON, V),
        aliases=("prediction",),
        value_aliases={"v": V},
    )
    loss_weighting: str = setting(
        "uniform",
        "loss weighting by timestep: uniform, or min-SNR (Hang et al. 2023)",
        choices=("uniform", "min_snr"),
    )
    min_snr_gamma: float = setting(
        5.0, "gamma of min-SNR: upper bound of the signal-to-noise ratio", above=0
    )

    def check(self) -> None:
        if not self.beta_start <= self.beta_end < 1:
            raise ArgumentError(
                "beta_end",
                f"{self.beta_end} is not accepted; a number of at least `beta_start`"
                f" {self.beta_start} and below 1",
            )


@flax.struct.dataclass
class Schedule:
    """The tables of a noise schedule, `[T]` each."""

    betas: Any  #: variance of the noise added by a step
    alphas_cumprod: Any  #: cumulative product of the alphas (alpha_bar), the variance of the signal
    sqrt_alphas_cumprod: Any  #: coefficient of the image
    sqrt_one_minus_alphas_cumprod: Any  #: coefficient of the noise
    #: of `q(x_{t-1} | x_t, x0)` (Ho et al. 2020, equation 7), clipped: the value of timestep 1 at
    #: timestep 0.
    posterior_log_variance: Any
    posterior_mean_coef_x0: Any  #: coefficient of x0 in the posterior mean
    posterior_mean_coef_xt: Any  #: coefficient of x_t in the posterior mean
    log_snr: Any  #: logarithm of the signal-to-noise ratio, `alpha_bar / (1 - alpha_bar)`


def alphas_cumprod(config: DiffusionConfig) -> np.ndarray:
    """Returns the cumulative product of the alphas, `[T]` float64.

    Example:
      >>> from jaxlabs.diffusion.noise_schedules import DiffusionConfig, alphas_cumprod
      >>> f"{alphas_cumprod(DiffusionConfig(num_timesteps=1000))[-1]:.2e}"
      '4.04e-05'
    """
    return np.cumprod(1 - _betas(config))


@functools.lru_cache
def make_schedule(config: DiffusionConfig, dtype: Any = np.float32) -> Schedule:
    """Returns all tables, computed in float64 and stored as read-only numpy arrays of `dtype`."""
    betas, alpha_bar = _betas(config), alphas_cumprod(config)
    prev, noise = np.append(1.0, alpha_bar[:-1]), 1 - alpha_bar
    variance = betas * (1 - prev) / noise
    # With a single timestep there is no timestep 1 to take the log variance from.
    log_variance = np.log(np.append(variance[1:2], variance[1:]) if len(alpha_bar) > 1 else betas)
    tables = {
        "betas": betas,
        "alphas_cumprod": alpha_bar,
        "sqrt_alphas_cumprod": np.sqrt(alpha_bar),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(noise),
        "posterior_log_variance": log_variance,
        "posterior_mean_coef_x0": betas * np.sqrt(prev) / noise,
        "posterior_mean_coef_xt": (1 - prev) * np.sqrt(1 - betas) / noise,
        "log_snr": np.log(alpha_bar) - np.log(noise),
    }
    return Schedule(**{name: _frozen(values, dtype) for name, values in tables.items()})


def _betas(config: DiffusionConfig) -> np.ndarray:
    count = config.num_timesteps
    if config.noise_schedule == "linear":
        return np.linspace(config.beta_start, config.beta_end, count)
    angle = (np.arange(count + 1) / count + COSINE_S) / (1 + COSINE_S) * np.pi / 2
    alpha_bar = np.cos(angle) ** 2
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], MAX_BETA)


def _frozen(values: np.ndarray, dtype: Any) -> np.ndarray:
    array = values.astype(dtype)
    array.flags.writeable = False
    return array
