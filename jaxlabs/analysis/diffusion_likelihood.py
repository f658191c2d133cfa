"""How many bits a picture costs under a diffusion model: the variational bound, estimated.

The bound is the sum over all times of a divergence that one evaluation of the network gives (Ho et
al. 2020, equation 5; conventions of Nichol and Dhariwal 2021, "Improved Denoising Diffusion
Probabilistic Models", and their code). Times are drawn in strata, one in each for every picture, so
that the sum is estimated without bias and pictures, which are independent, tell its error.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from jaxlabs import keys
from jaxlabs.config import RUNTIME, Config, setting
from jaxlabs.diffusion import forward_process
from jaxlabs.diffusion.noise_schedules import DiffusionConfig, Schedule, make_schedule
from jaxlabs.diffusion.samplers import Denoiser
from jaxlabs.models import ddpm
from jaxlabs.run_folder import RunFolder

HALF_STEP = 1 / 255
"""Half the distance of neighboring gray values in [-1, 1]."""

MIN_PROBABILITY = 1e-12
"""Probability below which a gray value is not let fall: one hopeless pixel is not everything."""

BATCH = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoundConfig(Config):
    """How closely the bound on a picture's bits is estimated."""

    nll_images: int = setting(
        256,
        "test pictures of the likelihood bound; 0: it is not estimated",
        minimum=0,
        kind=RUNTIME,
        aliases=("bound_images",),
    )
    nll_strata: int = setting(
        50,
        "times at which each of them is looked at",
        minimum=2,
        maximum=1_000_000,
        kind=RUNTIME,
        aliases=("bound_strata",),
    )
    nll_variance_type: str = setting(
        "beta",
        "of a reverse step, see --variance_type",
        choices=("posterior", "beta"),
        kind=RUNTIME,
        aliases=("bound_variance",),
    )


class Terms(NamedTuple):
    """What pictures cost, in bits per dimension.

    Attributes:
      bits: [strata, batch] of the time that was drawn.
      squared_error: [strata, batch] mean over the network's output there.
      prior: [batch] of what is left of the picture at the last time.
    """

    bits: jax.Array
    squared_error: jax.Array
    prior: jax.Array


class Bound(NamedTuple):
    """The bound in bits per dimension, a mean over pictures, and where it comes from.

    Attributes:
      bits: all of it.
      standard_error: of `bits`, by the spread over pictures and times.
      prior: the part of the last time, without a network.
      decoder: the part of time 0, from nearly clean pictures to gray values.
      times: [strata] the middle of each.
      bits_by_time: [strata] what a single time costs there.
      squared_error: [strata] mean squared error of the network's output.
    """

    bits: float
    standard_error: float
    prior: float
    decoder: float
    times: np.ndarray
    bits_by_time: np.ndarray
    squared_error: np.ndarray


def measure(
    model: ddpm.UNet,
    params: Any,
    images: np.ndarray,
    config: BoundConfig,
    folder: RunFolder,
    key: jax.Array,
) -> dict[str, float]:
    """Estimates the bound on the first pictures and writes the arrays `loss_by_time`.

    Args:
      model: the network; one that knows classes is not told them.
      params: its parameters.
      images: [count, height, width, channels] uint8.
      config: see `BoundConfig`.
      folder: gets the arrays.
      key: of times and noise.
    """
    if not config.nll_images:
        return {}
    bound = estimate(
        ddpm.Denoiser(model),
        (params, 1.0),
        images[: config.nll_images],
        key,
        diffusion=model.diffusion,
        variance_type=config.nll_variance_type,
        strata=config.nll_strata,
    )
    folder.write_arrays(
        "loss_by_time",
        times=bound.times,
        bits=bound.bits_by_time,
        squared_error=bound.squared_error,
    )
    return {
        "bits_per_dimension": bound.bits,
        "bits_per_dimension_error": bound.standard_error,
        "bits_per_dimension_images": min(config.nll_images, len(images)),
        "prior_bits": bound.prior,
        "decoder_bits": bound.decoder,
    }


def estimate(
    denoise: Denoiser,
    params: Any,
    images: np.ndarray,
    key: jax.Array,
    *,
    diffusion: DiffusionConfig,
    variance_type: str,
    strata: int,
    batch_size: int = BATCH,
) -> Bound:
    """Estimates the bound.

    Args:
      denoise: the network, as for `jaxlabs.diffusion.samplers.sample`; its condition is None.
      params: what it gets first.
      images: [count, height, width, channels] uint8, at least two.
      key: of times and noise; a picture's derive from it and the picture's place.
      diffusion: the noise schedule, and what the network's output means.
      variance: of the model's reverse steps, "posterior" or "beta".
      strata: into which the times are cut, at most as many as there are.
      batch_size: pictures in a compiled call.
    """
    edges = cut_times(diffusion.num_timesteps, strata)
    setup = {"diffusion": diffusion, "variance_type": variance_type, "edges": tuple(edges.tolist())}
    parts = []
    for first in range(0, len(images), batch_size):
        places = np.arange(first, first + batch_size, dtype=np.int32)
        batch = jnp.asarray(images[np.minimum(places, len(images) - 1)])
        found = terms(denoise, params, batch, places, key, **setup)
        real = min(batch_size, len(images) - first)
        parts.append([np.asarray(values, np.float64)[..., :real] for values in found])
    bits, squared_error, prior = (np.concatenate(part, -1) for part in zip(*parts, strict=True))
    totals = prior + np.diff(edges) @ bits
    return Bound(
        bits=float(totals.mean()),
        standard_error=float(totals.std(ddof=1) / math.sqrt(len(totals))),
        prior=float(prior.mean()),
        decoder=float(bits[0].mean()),
        times=(edges[:-1] + edges[1:] - 1) / 2,
        bits_by_time=bits.mean(axis=1),
        squared_error=squared_error.mean(axis=1),
    )


def cut_times(count: int, strata: int) -> np.ndarray:
    """Returns the edges `[strata + 1]` of strata; time 0, which costs the most, is one by itself.

    Where there are fewer times than strata, each is one.
    """
    strata = min(strata, count)
    return np.append(0, np.linspace(1, count, strata).round()).astype(np.int32)


@functools.partial(jax.jit, static_argnames=("denoise", "diffusion", "variance_type", "edges"))
def terms(
    denoise: Denoiser,
    params: Any,
    images: jax.Array,
    places: jax.Array,
    key: jax.Array,
    *,
    diffusion: DiffusionConfig,
    variance_type: str,
    edges: tuple[int, ...],
) -> Terms:
    """Returns what pictures `[batch, ...]` uint8 cost at one time of each stratum."""
    schedule = make_schedule(diffusion)
    x0 = images / np.float32(127.5) - 1
    picture_keys = keys.per_example(key, places)
    log_variance = schedule.posterior_log_variance
    if variance_type == "beta":
        log_variance = np.append(log_variance[:1], np.log(schedule.betas[1:]))

    def in_stratum(_, stratum):
        number, low, high = stratum
        stratum_keys = jax.vmap(jax.random.fold_in, (0, None))(picture_keys, number)
        t_keys, noise_keys = jax.vmap(jax.random.split, out_axes=1)(stratum_keys)
        t = jax.vmap(lambda key: jax.random.randint(key, (), low, high, jnp.int32))(t_keys)
        noise = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:], x0.dtype))(noise_keys)
        x = forward_process.q_sample(schedule, x0, t, noise)
        output = denoise(params, x, t, None)
        target = forward_process.target(schedule, x0, noise, t, diffusion.prediction_type)
        seen = jnp.clip(
            forward_process.predict_x0(schedule, x, t, output, diffusion.prediction_type), -1, 1
        )
        nats = _step_nats(schedule, jnp.asarray(log_variance), x0, seen, x, t)
        return None, (nats / math.log(2), _mean(jnp.square(output - target)))

    numbers = jnp.arange(len(edges) - 1)
    strata = (numbers, jnp.array(edges[:-1], jnp.int32), jnp.array(edges[1:], jnp.int32))
    _, (bits, squared_error) = jax.lax.scan(in_stratum, None, strata)
    left = schedule.alphas_cumprod[-1]
    prior = (left * jnp.square(x0) - left - jnp.log1p(-left)) / 2
    return Terms(bits, squared_error, _mean(prior) / math.log(2))


def _step_nats(
    schedule: Schedule,
    log_variance: jax.Array,
    x0: jax.Array,
    seen: jax.Array,
    x: jax.Array,
    t: jax.Array,
) -> jax.Array:
    """Returns nats per dimension `[batch]`: of a step's divergence, or at time 0 of gray values."""
    # Of the two means only what differs, since the rest would cancel.
    apart = forward_process.at(schedule.posterior_from_x0, t, x) * (x0 - seen)
    true, ours = (
        forward_process.at(table, t, x) for table in (schedule.posterior_log_variance, log_variance)
    )
    divergence = (ours - true - 1 + jnp.exp(true - ours) + jnp.square(apart) * jnp.exp(-ours)) / 2
    mean, _, _ = forward_process.posterior(schedule, seen, x, t)
    gray = -gray_log_likelihood(x0, mean, jnp.exp(ours / 2))
    return jnp.where(t == 0, _mean(gray), _mean(divergence))


def gray_log_likelihood(x0: jax.Array, mean: jax.Array, deviation: jax.Array) -> jax.Array:
    """Returns the log probability in nats of 8-bit gray values under a normal distribution.

    A value owns what lies within half a step of it, the least and the largest all beyond as well
    (Ho et al. 2020, equation 13); not less than the logarithm of 1e-12.
    """
    centered = x0 - mean
    below = ndtr((centered + HALF_STEP) / deviation)  # of all up to the value's upper edge
    above = ndtr((HALF_STEP - centered) / deviation)
    # The bin is symmetric; on the lower side the normal distribution's tail keeps its digits.
    lower = -jnp.abs(centered)
    inside = ndtr((lower + HALF_STEP) / deviation) - ndtr((lower - HALF_STEP) / deviation)
    share = jnp.where(x0 < -0.999, below, jnp.where(x0 > 0.999, above, inside))
    return jnp.log(jnp.maximum(share, MIN_PROBABILITY))


def _mean(values: jax.Array) -> jax.Array:
    return values.mean(axis=tuple(range(1, values.ndim)))
