"""Samplers: ancestral sampling, DDIM and DPM-Solver++(2M), each a single scan.

The network's output for x determines a prediction of x0. All three samplers take the same step,

    x_next = a x + b x0 + c x0_prev + s noise,

and differ in the coefficients a, b, c and s, which depend on the noise schedule alone. They are
computed in float64 outside the compiled call. The last step ends at x0.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.config import ArgumentError, Config, runtime
from jaxlabs.diffusion.noise_schedules import (
    EPSILON,
    DiffusionConfig,
    alphas_cumprod,
    make_schedule,
)

ANCESTRAL, DDIM, DPM_SOLVER = SAMPLERS = ("ancestral", "ddim", "dpm_solver")
FIXED_SMALL, FIXED_LARGE = "fixed_small", "fixed_large"
SPACINGS = ("trailing", "leading", "linspace", "log_snr")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerConfig(Config):
    """The sampler and its steps."""

    sampler: str = runtime(
        ANCESTRAL,
        "sampler: ancestral (Ho et al. 2020), ddim (Song et al. 2021), dpm_solver "
        "(DPM-Solver++(2M), Lu et al. 2022); all step to the next timestep of the sequence, where "
        "diffusers' DDIM steps from t to t - num_timesteps // sampler_steps",
        choices=SAMPLERS,
    )
    sampler_steps: int = runtime(
        1000,
        "number of sampler steps, each one network evaluation; at most `num_timesteps`",
        minimum=1,
    )
    timestep_spacing: str = runtime(
        "trailing",
        "spacing of the timesteps: uniform with the last one (trailing) or the first one (leading);"
        " uniform with both (linspace); or uniform in the log-SNR with both (log_snr). The first"
        " three equal those of diffusers' DDIM and DDPM; its DPM-Solver has the same trailing, and"
        " other timesteps under the other two names",
        choices=SPACINGS,
        aliases=("spacing",),
    )
    eta: float = runtime(
        0.0,
        "eta of ddim: 0 is deterministic, 1 has the noise of ancestral sampling",
        minimum=0,
        maximum=1,
    )
    variance_type: str = runtime(
        FIXED_SMALL,
        "variance of the noise of ancestral sampling: that of the posterior (fixed_small) or beta"
        " (fixed_large)",
        choices=(FIXED_SMALL, FIXED_LARGE),
        aliases=("variance",),
        value_aliases={"posterior": FIXED_SMALL, "beta": FIXED_LARGE},
    )
    clip_sample: bool = runtime(
        True,
        "clip the predicted x0 to [-1, 1] at every step; ddim derives its noise from the clipped"
        " x0, as diffusers' does with use_clipped_model_output=True",
        aliases=("clip_x0",),
    )


class Samples(NamedTuple):
    """Result of a sampler."""

    images: jax.Array  #: [batch, ...]
    snapshots: jax.Array  #: [snapshots, batch, ...], intermediate noisy images


class _Coefficients(NamedTuple):
    """Coefficients per step, `[steps]` float64; `x0 = from_x * x + from_output * output`."""

    from_x: np.ndarray
    from_output: np.ndarray
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    s: np.ndarray


def timesteps(diffusion: DiffusionConfig, sampler: SamplerConfig) -> np.ndarray:
    """Returns the timesteps of a sampler, decreasing, `[steps]` int32.

    Three spacings are named as in Lin et al. 2024, table 2. `trailing` starts at the last timestep,
    whose distribution matches the initial noise; `leading` starts up to one stride below it, a
    mismatch that matters with few steps; `linspace` ends with a stride to timestep 0 that is long
    in the log-SNR, where higher-order solvers overshoot. `log_snr` has uniform strides in the
    log-SNR (Lu et al. 2022), rounded to integers.

    The three equal the timesteps of diffusers' DDIM and DDPM with `steps_offset` 0. Its DPM-Solver
    has the same `trailing`; its `leading` and `linspace` are those of one step more without
    timestep 0. A timestep halfway between two integers may be rounded differently there, which
    happens for some numbers of steps (48 of 1000, but not 10, 20 or 50).

    Raises:
      UserError: there are fewer timesteps than steps.
    """
    count, steps = diffusion.num_timesteps, sampler.sampler_steps
    if steps > count:
        raise ArgumentError(
            "sampler_steps",
            f"{steps} is not accepted; an integer of at most `num_timesteps` {count}",
        )
    increasing = np.arange(steps)
    if sampler.timestep_spacing == "leading":
        times = (count // steps) * increasing
    elif sampler.timestep_spacing == "trailing":
        times = np.round(count - increasing[::-1] * (count / steps)) - 1
    elif sampler.timestep_spacing == "linspace" or steps == 1:  # one step: diffusers has 0
        times = np.round(np.linspace(count - 1, 0, steps))[::-1]
    else:
        log_snr = make_schedule(diffusion, np.float64).log_snr
        uniform = np.linspace(log_snr[0], log_snr[-1], steps)
        times = np.round(np.interp(-uniform, -log_snr, np.arange(count)))
        # Where integer timesteps are further apart than a stride, each of them is used once.
        times = np.maximum.accumulate(times - increasing) + increasing
        times = np.minimum(times, count - steps + increasing)
    return times[::-1].astype(np.int32)


def coefficients(diffusion: DiffusionConfig, sampler: SamplerConfig) -> _Coefficients:
    """Returns the coefficients of every step, see the module docstring."""
    alpha_bar = alphas_cumprod(diffusion)[timesteps(diffusion, sampler)]
    next_alpha_bar = np.append(alpha_bar[1:], 1.0)
    if diffusion.prediction_type == EPSILON:
        predict_x0 = 1 / np.sqrt(alpha_bar), -np.sqrt((1 - alpha_bar) / alpha_bar)
    else:
        predict_x0 = np.sqrt(alpha_bar), -np.sqrt(1 - alpha_bar)
    make = {ANCESTRAL: _ancestral, DDIM: _ddim, DPM_SOLVER: _dpm_solver}[sampler.sampler]
    return _Coefficients(*predict_x0, *make(alpha_bar, next_alpha_bar, sampler))


def _ancestral(alpha_bar: np.ndarray, next_alpha_bar: np.ndarray, sampler: SamplerConfig) -> tuple:
    """The posterior's mean and either variance (Ho et al. 2020, section 3.2).

    The last step adds no noise. With `fixed_large`, diffusers' DDPM adds noise in it unless it
    is at timestep 0.
    """
    beta = 1 - alpha_bar / next_alpha_bar
    noise_ratio = (1 - next_alpha_bar) / (1 - alpha_bar)
    posterior = sampler.variance_type == FIXED_SMALL
    variance = beta * noise_ratio if posterior else np.append(beta[:-1], 0)
    b = np.sqrt(next_alpha_bar) * beta / (1 - alpha_bar)
    return np.sqrt(1 - beta) * noise_ratio, b, np.zeros_like(alpha_bar), np.sqrt(variance)


def _ddim(alpha_bar: np.ndarray, next_alpha_bar: np.ndarray, sampler: SamplerConfig) -> tuple:
    """Song et al. 2021, equations 12 and 16, with the noise derived from x and the (clipped) x0.

    A step ends at the next timestep of the sequence, the last one at x0. In diffusers it ends at
    t - T // steps, for T timesteps, or at x0 where this is negative. Both are equal for `leading`,
    and for `trailing` if the number of steps divides T.
    """
    variance = sampler.eta**2 * (1 - next_alpha_bar) / (1 - alpha_bar)
    variance *= 1 - alpha_bar / next_alpha_bar
    a = np.sqrt((1 - next_alpha_bar - variance) / (1 - alpha_bar))
    b = np.sqrt(next_alpha_bar) - a * np.sqrt(alpha_bar)
    return a, b, np.zeros_like(alpha_bar), np.sqrt(variance)


def _dpm_solver(alpha_bar: np.ndarray, next_alpha_bar: np.ndarray, sampler: SamplerConfig) -> tuple:
    """Lu et al. 2022, algorithm 2: x0 is extrapolated linearly in half the log-SNR.

    The first step has no previous x0, and the last one ends at infinite log-SNR: both are of first
    order.
    """
    a = np.sqrt((1 - next_alpha_bar) / (1 - alpha_bar))
    b = np.sqrt(next_alpha_bar) - a * np.sqrt(alpha_bar)
    half_log_snr = (np.log(alpha_bar) - np.log(1 - alpha_bar)) / 2
    c = np.zeros_like(alpha_bar)
    stride = np.diff(half_log_snr)
    c[1:-1] = -b[1:-1] * stride[1:] / (2 * stride[:-1])
    return a, b - c, c, np.zeros_like(alpha_bar)


DenoiseFn = Callable[[Any, jax.Array, jax.Array, Any], jax.Array]
"""`denoise(params, x [batch, ...], t [batch], condition) -> output [batch, ...]`."""


@functools.partial(
    jax.jit, static_argnames=("denoise", "shape", "diffusion", "sampler", "snapshots")
)
def sample(
    denoise: DenoiseFn,
    params: Any,
    key: jax.Array,
    rows: jax.Array,
    *,
    shape: tuple[int, ...],
    diffusion: DiffusionConfig,
    sampler: SamplerConfig,
    snapshots: tuple[int, ...] = (),
    condition: Any = None,
    start: jax.Array | None = None,
) -> Samples:
    """Samples images in one compiled call.

    Args:
      denoise: the network; static and hashable, equal ones share a compilation.
      params: its parameters.
      key: PRNG key of all noise; an image's noise depends on it and the image's row.
      rows: [batch] indices of the images among all that are sampled with this key. An image does
        not depend on the others in the batch.
      shape: of an image.
      diffusion: the noise schedule and the prediction type.
      sampler: see `SamplerConfig`.
      snapshots: timesteps at which the noisy images are returned too: the first state at or below
        that timestep, where the final image is below all.
      condition: last argument of `denoise`, such as labels `[batch]`.
      start: `[batch, *shape]` initial noise; None: sampled from the standard normal distribution.

    Raises:
      UserError: there are fewer timesteps than steps.
    """
    steps = timesteps(diffusion, sampler)
    row_keys = keys.per_example(key, rows)
    if start is None:
        start = _noise(row_keys, diffusion.num_timesteps, shape, jnp.float32)
    coefs = coefficients(diffusion, sampler)
    stochastic = bool(coefs.s.any())

    def step(carry, inputs):
        x, x0_prev, images = carry
        t, coef, is_snapshot = inputs
        images = jnp.where(_expand_dims(is_snapshot, x.ndim + 1), x[None], images)
        output = denoise(params, x, jnp.full(rows.shape, t), condition)
        x0_pred = coef.from_x * x + coef.from_output * output.astype(x.dtype)
        if sampler.clip_sample:
            x0_pred = jnp.clip(x0_pred, -1, 1)
        x = coef.a * x + coef.b * x0_pred + coef.c * x0_prev
        if stochastic:
            x = x + coef.s * _noise(row_keys, t, shape, x.dtype)
        return (x, x0_pred, images), None

    # Of the first of the decreasing timesteps that is at most t, or their number.
    indices = np.array([(steps > t).sum() for t in snapshots], int)
    is_snapshot = np.arange(len(steps))[:, None] == indices[None, :]
    images = jnp.zeros((len(snapshots), *start.shape), start.dtype)
    coefs = jax.tree.map(lambda values: jnp.asarray(values, start.dtype), coefs)
    scanned = (jnp.asarray(steps), coefs, jnp.asarray(is_snapshot))
    (x, _, images), _ = jax.lax.scan(step, (start, jnp.zeros_like(start), images), scanned)
    is_final = jnp.asarray(indices == len(steps))
    return Samples(x, jnp.where(_expand_dims(is_final, x.ndim + 1), x[None], images))


def _expand_dims(values: jax.Array, ndim: int) -> jax.Array:
    """Appends axes to `values [n]` up to rank `ndim`."""
    return values.reshape(values.shape + (1,) * (ndim - 1))


def _noise(row_keys: jax.Array, t: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Returns the noise of all rows at timestep t; the initial noise has t = num_timesteps."""
    normal = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, t), shape, dtype))
    return normal(row_keys)


def sample_many(
    denoise: DenoiseFn,
    params: Any,
    key: jax.Array,
    count: int,
    *,
    batch_size: int,
    shape: tuple[int, ...],
    diffusion: DiffusionConfig,
    sampler: SamplerConfig,
    condition: Any = None,
    first: int = 0,
) -> np.ndarray:
    """Samples rows `first` to `count` - 1 in batches of equal size, `[rows, *shape]`; see `sample`.

    `condition` holds arrays `[count, ...]`. A row does not depend on the others.
    """
    batches = []
    for start in range(first, count, batch_size):
        rows = np.arange(start, start + batch_size, dtype=np.int32)
        clipped = np.minimum(rows, count - 1)
        conditions = jax.tree.map(lambda leaf, rows=clipped: jnp.asarray(leaf)[rows], condition)
        samples = sample(
            denoise,
            params,
            key,
            jnp.asarray(rows),
            shape=shape,
            diffusion=diffusion,
            sampler=sampler,
            condition=conditions,
        )
        batches.append(np.asarray(samples.images))
    return np.concatenate(batches)[: count - first]
