"""How much noise there is at each time, and every figure that follows from it.

Times count from 0 to T - 1; a picture at time t is `sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t)
noise`. The paper's times are larger by one.
"""

import dataclasses
import functools
from typing import Any

import flax.struct
import numpy as np

from jaxlabs.config import Config, UserError, setting

EPSILON, V = "epsilon", "v"
MAX_BETA = 0.999
"""Above it the cosine schedule would end in steps that leave nothing of a picture."""

OFFSET = 0.008
"""Of the cosine schedule: its first betas would be too small for a network to tell (s in Nichol and
Dhariwal)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionConfig(Config):
    """How pictures become noise, and what a network is to say of it."""

    noise_schedule: str = setting(
        "linear",
        "betas that rise linearly (Ho et al. 2020), or cosine (Nichol and Dhariwal 2021)",
        choices=("linear", "cosine"),
    )
    num_timesteps: int = setting(
        1000,
        "times from a picture to noise",
        minimum=1,
        maximum=1_000_000,
        aliases=("diffusion_steps",),
    )
    beta_start: float = setting(
        1e-4, "first variance of the linear schedule", above=0, aliases=("first_beta",)
    )
    beta_end: float = setting(
        0.02, "last variance of the linear schedule", above=0, aliases=("last_beta",)
    )
    prediction_type: str = setting(
        EPSILON,
        "what the network's output means: the noise, or v (Salimans and Ho 2022)",
        choices=(EPSILON, V),
        aliases=("prediction",),
    )
    loss_weighting: str = setting(
        "uniform",
        "weight of the squared error against time: none, or min-SNR (Hang et al. 2023)",
        choices=("uniform", "min_snr"),
    )
    min_snr_gamma: float = setting(5.0, "where min-SNR cuts the signal-to-noise ratio", above=0)

    def check(self) -> None:
        if not self.beta_start <= self.beta_end < 1:
            raise UserError(
                f"--beta_end: {self.beta_end} is not accepted; a number of at least --beta_start"
                f" {self.beta_start} and below 1"
            )


@flax.struct.dataclass
class Schedule:
    """Every figure of a noise schedule, `[T]` each.

    Attributes:
      betas: variance of the noise that a step adds.
      alphas: 1 - betas.
      alphas_cumprod: share of a picture's variance that is left.
      alphas_cumprod_prev: that of the time before; 1 at time 0.
      sqrt_alpha_bars: factor of the picture.
      sqrt_one_minus_alpha_bars: factor of the noise.
      posterior_variance: of `q(x before | x, x0)`; 0 at time 0 (Ho et al. 2020, equation 7).
      posterior_log_variance: its logarithm, in which time 1 stands in for time 0.
      posterior_from_x0: factor of x0 in the posterior's mean.
      posterior_from_xt: factor of x in the posterior's mean.
      snr: signal-to-noise ratio, `alpha_bar / (1 - alpha_bar)`.
      log_snr: its natural logarithm.
    """

    betas: Any
    alphas: Any
    alphas_cumprod: Any
    alphas_cumprod_prev: Any
    sqrt_alpha_bars: Any
    sqrt_one_minus_alpha_bars: Any
    posterior_variance: Any
    posterior_log_variance: Any
    posterior_from_x0: Any
    posterior_from_xt: Any
    snr: Any
    log_snr: Any


def alphas_cumprod(config: DiffusionConfig) -> np.ndarray:
    """Returns the share of an image's variance that is left at each time, `[T]` float64.

    Example:
      >>> from jaxlabs.diffusion.noise_schedules import DiffusionConfig, alphas_cumprod
      >>> f"{alphas_cumprod(DiffusionConfig(num_timesteps=1000))[-1]:.2e}"
      '4.04e-05'
    """
    return np.cumprod(1 - _betas(config))


@functools.lru_cache
def make_schedule(config: DiffusionConfig, dtype: Any = np.float32) -> Schedule:
    """Returns all figures, computed in float64 and stored as read-only numpy arrays of `dtype`."""
    betas, left = _betas(config), alphas_cumprod(config)
    before, lost = np.append(1.0, left[:-1]), 1 - left
    variance = betas * (1 - before) / lost
    # A schedule of a single time has no other variance; its only step adds none.
    log_variance = np.log(np.append(variance[1:2], variance[1:]) if len(left) > 1 else betas)
    figures = {
        "betas": betas,
        "alphas": 1 - betas,
        "alphas_cumprod": left,
        "alphas_cumprod_prev": before,
        "sqrt_alpha_bars": np.sqrt(left),
        "sqrt_one_minus_alpha_bars": np.sqrt(lost),
        "posterior_variance": variance,
        "posterior_log_variance": log_variance,
        "posterior_from_x0": betas * np.sqrt(before) / lost,
        "posterior_from_xt": (1 - before) * np.sqrt(1 - betas) / lost,
        "snr": left / lost,
        "log_snr": np.log(left) - np.log(lost),
    }
    return Schedule(**{name: _frozen(values, dtype) for name, values in figures.items()})


def _betas(config: DiffusionConfig) -> np.ndarray:
    count = config.num_timesteps
    if config.noise_schedule == "linear":
        return np.linspace(config.beta_start, config.beta_end, count)
    angle = (np.arange(count + 1) / count + OFFSET) / (1 + OFFSET) * np.pi / 2
    left = np.cos(angle) ** 2
    return np.minimum(1 - left[1:] / left[:-1], MAX_BETA)


def _frozen(values: np.ndarray, dtype: Any) -> np.ndarray:
    array = values.astype(dtype)
    array.flags.writeable = False
    return array
