"""From noise to pictures: ancestral sampling, DDIM and DPM-Solver++(2M), each a single scan.

A network's output says what picture x0 it sees in x. All three samplers then take the same step,

    x of the next time = a x + b x0 + c (x0 of the step before) + s noise,

and differ only in a, b, c and s, which the noise schedule alone decides. These are computed in
float64 before anything is compiled. The last step goes to x0 itself.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.config import RUNTIME, Config, UserError, setting
from jaxlabs.diffusion.noise_schedules import (
    EPSILON,
    DiffusionConfig,
    alphas_cumprod,
    make_schedule,
)

ANCESTRAL, DDIM, DPM_SOLVER = SAMPLERS = ("ancestral", "ddim", "dpm_solver")
SPACINGS = ("trailing", "leading", "linspace", "log_snr")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerConfig(Config):
    """Which way leads from noise to pictures, and in how many steps."""

    sampler: str = setting(
        ANCESTRAL,
        "ancestral (Ho et al. 2020), ddim (Song et al. 2021), dpm_solver (DPM-Solver++(2M), Lu et"
        " al. 2022); all step to the next time visited, where diffusers' DDIM steps from t to"
        " t - num_timesteps // sampler_steps",
        choices=SAMPLERS,
        kind=RUNTIME,
    )
    sampler_steps: int = setting(
        1000, "evaluations of the network, at most --num_timesteps", minimum=1, kind=RUNTIME
    )
    timestep_spacing: str = setting(
        "trailing",
        "which times are visited: every so many, with the last (trailing) or with the first"
        " (leading); evenly, with both (linspace); or evenly in the log-SNR, with both (log_snr)."
        " The first three are the times of diffusers' DDIM and DDPM; its DPM-Solver has the same"
        " trailing, and other times under the other two names",
        choices=SPACINGS,
        kind=RUNTIME,
        aliases=("spacing",),
    )
    eta: float = setting(
        0.0, "noise of ddim as a share of ancestral sampling's", minimum=0, maximum=1, kind=RUNTIME
    )
    variance_type: str = setting(
        "posterior",
        "of ancestral sampling's noise",
        choices=("posterior", "beta"),
        kind=RUNTIME,
        aliases=("variance",),
    )
    clip_sample: bool = setting(
        True,
        "what the network sees as x0 is cut to [-1, 1] at every step; ddim takes its noise from the"
        " cut x0, as diffusers' does with use_clipped_model_output=True",
        kind=RUNTIME,
        aliases=("clip_x0",),
    )


class Samples(NamedTuple):
    """What a sampler returns.

    Attributes:
      images: [batch, ...].
      snapshots: [snapshots, batch, ...], noisy pictures along the way.
    """

    images: jax.Array
    snapshots: jax.Array


class _Coefficients(NamedTuple):
    """Of the steps, `[steps]` float64 each; `x0 = from_x * x + from_output * output`."""

    from_x: np.ndarray
    from_output: np.ndarray
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    s: np.ndarray


def timesteps(diffusion: DiffusionConfig, sampler: SamplerConfig) -> np.ndarray:
    """Returns the times that a sampler visits, falling, `[steps]` int32.

    Three spacings are named as in Lin et al. 2024, table 2. `trailing` starts at the last time,
    where x is noise and nothing else, as a sampler's start is; `leading` starts up to one stride
    below it, where the network expects to see something of a picture, which shows in few steps;
    `linspace` ends in a stride to time 0 that is long in the log-SNR, and solvers of higher order
    overshoot there. `log_snr` makes all strides alike in it (Lu et al. 2022), as far as times are
    whole numbers.

    These three are also the times of diffusers' DDIM and DDPM, with their `steps_offset` of 0. Its
    DPM-Solver has the same `trailing`; for `leading` and `linspace` it takes the times of one step
    more and leaves out the last, time 0. Only a time halfway between two whole ones may be rounded
    to the other there, which happens for some numbers of steps (48 of 1000, but not 10, 20 or 50).

    Raises:
      UserError: there are fewer times than steps.
    """
    count, steps = diffusion.num_timesteps, sampler.sampler_steps
    if steps > count:
        raise UserError(
            f"--sampler_steps: {steps} is not accepted; a whole number of at most --num_timesteps"
            f" {count}"
        )
    rising = np.arange(steps)
    if sampler.timestep_spacing == "leading":
        times = (count // steps) * rising
    elif sampler.timestep_spacing == "trailing":
        times = np.round(count - rising[::-1] * (count / steps)) - 1
    elif sampler.timestep_spacing == "linspace" or steps == 1:
        times = np.round(np.linspace(count - 1, 0, steps))[::-1]
    else:
        log_snr = make_schedule(diffusion, np.float64).log_snr
        even = np.linspace(log_snr[0], log_snr[-1], steps)
        times = np.round(np.interp(-even, -log_snr, np.arange(count)))
        # Where whole times are further apart than a stride, each of them is visited once.
        times = np.maximum.accumulate(times - rising) + rising
        times = np.minimum(times, count - steps + rising)
    return times[::-1].astype(np.int32)


def coefficients(diffusion: DiffusionConfig, sampler: SamplerConfig) -> _Coefficients:
    """Returns the factors of every step, see above."""
    left = alphas_cumprod(diffusion)
    now = left[timesteps(diffusion, sampler)]
    after = np.append(now[1:], 1.0)
    if diffusion.prediction_type == EPSILON:
        predict_x0 = 1 / np.sqrt(now), -np.sqrt((1 - now) / now)
    else:
        predict_x0 = np.sqrt(now), -np.sqrt(1 - now)
    make = {ANCESTRAL: _ancestral, DDIM: _ddim, DPM_SOLVER: _dpm_solver}[sampler.sampler]
    return _Coefficients(*predict_x0, *make(now, after, sampler))


def _ancestral(now: np.ndarray, after: np.ndarray, sampler: SamplerConfig) -> tuple:
    """The posterior's mean and either variance (Ho et al. 2020, section 3.2).

    The last step adds no noise. With the variance beta, diffusers' DDPM adds noise in it wherever
    time 0 is not visited.
    """
    beta = 1 - now / after
    share = (1 - after) / (1 - now)
    variance = beta * share if sampler.variance_type == "posterior" else np.append(beta[:-1], 0)
    b = np.sqrt(after) * beta / (1 - now)
    return np.sqrt(1 - beta) * share, b, np.zeros_like(now), np.sqrt(variance)


def _ddim(now: np.ndarray, after: np.ndarray, sampler: SamplerConfig) -> tuple:
    """Song et al. 2021, equations 12 and 16, with the noise that x and the x0 in use leave.

    A step ends at the next time visited, the last one at x0. That of diffusers ends at
    t - T // steps, for T times, or at x0 where this is below 0. Both are the same for `leading`,
    and for `trailing` where the steps divide T.
    """
    variance = sampler.eta**2 * (1 - after) / (1 - now) * (1 - now / after)
    a = np.sqrt((1 - after - variance) / (1 - now))
    return a, np.sqrt(after) - a * np.sqrt(now), np.zeros_like(now), np.sqrt(variance)


def _dpm_solver(now: np.ndarray, after: np.ndarray, sampler: SamplerConfig) -> tuple:
    """Lu et al. 2022, algorithm 2: x0 is carried on along a line in half the log-SNR.

    The first step has no step before, and the last one ends where the log-SNR is infinite: both are
    of first order.
    """
    a = np.sqrt((1 - after) / (1 - now))
    b = np.sqrt(after) - a * np.sqrt(now)
    half_log_snr = (np.log(now) - np.log(1 - now)) / 2
    c = np.zeros_like(now)
    stride = np.diff(half_log_snr)
    c[1:-1] = -b[1:-1] * stride[1:] / (2 * stride[:-1])
    return a, b - c, c, np.zeros_like(now)


Denoiser = Callable[[Any, jax.Array, jax.Array, Any], jax.Array]
"""`denoise(params, x [batch, ...], t [batch], condition) -> output [batch, ...]`."""


@functools.partial(
    jax.jit, static_argnames=("denoise", "shape", "diffusion", "sampler", "snapshots")
)
def sample(
    denoise: Denoiser,
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
    """Draws pictures; one compiled call.

    Args:
      denoise: the network, hashable by value, so that an equal one compiles nothing anew.
      params: what it gets first.
      key: of all noise; a picture's noise derives from it and the picture's row.
      rows: [batch] numbers of the pictures among all that are drawn from this key. A picture does
        not depend on which others are drawn with it.
      shape: of a picture.
      diffusion: the noise schedule, and what the network's output means.
      sampler: see `SamplerConfig`.
      snapshots: times of which the noisy pictures are returned as well: the first state whose time
        is that one or an earlier one, where the finished picture is earlier than all.
      condition: what the network gets last, such as labels `[batch]`.
      start: `[batch, *shape]` to start from; None draws it from the standard normal distribution.

    Raises:
      UserError: there are fewer times than steps.
    """
    times = timesteps(diffusion, sampler)
    row_keys = keys.per_example(key, rows)
    if start is None:
        start = _noise(row_keys, diffusion.num_timesteps, shape, jnp.float32)
    factors = coefficients(diffusion, sampler)
    noisy = bool(factors.s.any())

    def step(carry, now):
        x, seen_before, held = carry
        time, factor, hold = now
        held = jnp.where(_column(hold, x.ndim + 1), x[None], held)
        output = denoise(params, x, jnp.full(rows.shape, time), condition)
        seen = factor.from_x * x + factor.from_output * output.astype(x.dtype)
        if sampler.clip_sample:
            seen = jnp.clip(seen, -1, 1)
        x = factor.a * x + factor.b * seen + factor.c * seen_before
        if noisy:
            x = x + factor.s * _noise(row_keys, time, shape, x.dtype)
        return (x, seen, held), None

    places = np.array([_first_at_most(times, t) for t in snapshots], int)
    holds = np.arange(len(times))[:, None] == places[None, :]
    held = jnp.zeros((len(snapshots), *start.shape), start.dtype)
    factors = jax.tree.map(lambda values: jnp.asarray(values, start.dtype), factors)
    scanned = (jnp.asarray(times), factors, jnp.asarray(holds))
    (x, _, held), _ = jax.lax.scan(step, (start, jnp.zeros_like(start), held), scanned)
    finished = jnp.asarray(places == len(times))
    return Samples(x, jnp.where(_column(finished, x.ndim + 1), x[None], held))


def _first_at_most(times: np.ndarray, t: int) -> int:
    """Returns the place of the first of falling times that is at most t, or their number."""
    return int((times > t).sum())


def _column(values: jax.Array, dimensions: int) -> jax.Array:
    return values.reshape(values.shape + (1,) * (dimensions - 1))


def _noise(row_keys: jax.Array, time: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Returns the noise that rows draw at one time; the start's time is one past the last."""
    draw = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, time), shape, dtype))
    return draw(row_keys)


def sample_many(
    denoise: Denoiser,
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
    """Draws rows `first` to `count` - 1 in batches of one size, `[rows, *shape]`; see `sample`.

    `condition` holds arrays `[count, ...]`. A row does not depend on those drawn with it.
    """
    drawn = []
    for start in range(first, count, batch_size):
        rows = np.arange(start, start + batch_size, dtype=np.int32)
        places = np.minimum(rows, count - 1)
        part = jax.tree.map(lambda leaf, places=places: jnp.asarray(leaf)[places], condition)
        setup = {"shape": shape, "diffusion": diffusion, "sampler": sampler}
        found = sample(denoise, params, key, jnp.asarray(rows), condition=part, **setup)
        drawn.append(np.asarray(found.images))
    return np.concatenate(drawn)[: count - first]
