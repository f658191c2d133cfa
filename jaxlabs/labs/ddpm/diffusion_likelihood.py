"""Stratified estimate of the variational bound of a diffusion model, in bits per dimension.

The bound is a sum over timesteps of KL divergences, each of which takes one evaluation of the
network (Ho et al. 2020, equation 5; conventions of Nichol and Dhariwal 2021, "Improved Denoising
Diffusion Probabilistic Models", and their code). One timestep is sampled per stratum and image. The
estimate is unbiased; its standard error follows from the spread over images.
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
from jaxlabs.config import ArgumentError, Config, runtime
from jaxlabs.diffusion import forward_process
from jaxlabs.diffusion.noise_schedules import DiffusionConfig, make_schedule
from jaxlabs.diffusion.samplers import FIXED_LARGE, FIXED_SMALL, DenoiseFn
from jaxlabs.models import ddpm
from jaxlabs.run_folder import RunFolder

HALF_STEP = 1 / 255
"""Half the distance between neighboring pixel values in [-1, 1]."""

MIN_PROBABILITY = 1e-12
"""Lower limit of the probability of a pixel value, so that single pixels do not dominate."""

BATCH = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class NLLConfig(Config):
    """Sizes of the estimate of the negative log-likelihood bound."""

    nll_images: int = runtime(
        256,
        "test images of the negative log-likelihood bound; 0: no estimate",
        minimum=0,
        aliases=("bound_images",),
    )
    nll_strata: int = runtime(
        50,
        "timesteps per image of the negative log-likelihood bound, one in each stratum",
        minimum=2,
        maximum=1_000_000,
        aliases=("bound_strata",),
    )
    nll_variance_type: str = runtime(
        FIXED_LARGE,
        "reverse-step variance of the negative log-likelihood bound, see `variance_type`",
        choices=(FIXED_SMALL, FIXED_LARGE),
        aliases=("bound_variance",),
        value_aliases={"posterior": FIXED_SMALL, "beta": FIXED_LARGE},
    )

    def check(self) -> None:
        if self.nll_images == 1:  # it has no standard error
            raise ArgumentError("nll_images", "1 is not accepted; 0, or an integer of at least 2")


class Bound(NamedTuple):
    """The bound in bits per dimension, a mean over images, and its terms.

    Attributes:
      bits: the bound.
      standard_error: standard error of `bits` over images and sampled timesteps.
      prior: KL term of the prior.
      decoder: negative log-likelihood of the pixels at timestep 0.
      timesteps: [strata] the middle of each stratum.
      bits_by_timestep: [strata] mean term of one timestep of the stratum.
      squared_error: [strata] mean squared error of the network's output.
    """

    bits: float
    standard_error: float
    prior: float
    decoder: float
    timesteps: np.ndarray
    bits_by_timestep: np.ndarray
    squared_error: np.ndarray


def measure(
    model: ddpm.UNet,
    params: Any,
    images: np.ndarray,
    config: NLLConfig,
    folder: RunFolder,
    key: jax.Array,
) -> dict[str, float]:
    """Estimates the bound on the first images and writes the arrays `loss_by_timestep`.

    The images are `[count, height, width, channels]` uint8. A class-conditional network is
    evaluated without class labels.
    """
    if not config.nll_images:
        return {}
    images = images[: config.nll_images]
    bound = estimate(
        ddpm.GuidedDenoiser(model),
        (params, 1.0),
        images,
        key,
        diffusion=model.diffusion,
        variance_type=config.nll_variance_type,
        strata=config.nll_strata,
    )
    by_timestep = {"bits": bound.bits_by_timestep, "squared_error": bound.squared_error}
    folder.write_arrays("loss_by_timestep", timesteps=bound.timesteps, **by_timestep)
    return {
        "bits_per_dimension": bound.bits,
        "bits_per_dimension_stderr": bound.standard_error,
        "bits_per_dimension_images": len(images),
        "prior_bits": bound.prior,
        "decoder_bits": bound.decoder,
    }


def estimate(
    denoise: DenoiseFn,
    params: Any,
    images: np.ndarray,
    key: jax.Array,
    *,
    diffusion: DiffusionConfig,
    variance_type: str,
    strata: int,
    batch_size: int = BATCH,
) -> Bound:
    """Estimates the bound for uint8 images `[count, height, width, channels]`, at least two.

    The network is that of `jaxlabs.diffusion.samplers.sample`, without condition; `variance_type`,
    `fixed_small` or `fixed_large`, that of the reverse steps. The key of an image is folded in from
    its index.
    """
    edges = stratify_timesteps(diffusion.num_timesteps, strata)
    batches = []
    for start in range(0, len(images), batch_size):
        indices = np.arange(start, start + batch_size, dtype=np.int32)
        batch = jnp.asarray(images[np.minimum(indices, len(images) - 1)])
        found = terms(
            denoise,
            params,
            batch,
            indices,
            key,
            diffusion=diffusion,
            variance_type=variance_type,
            edges=tuple(edges.tolist()),
        )
        valid = len(images) - start
        batches.append([np.asarray(values, np.float64)[..., :valid] for values in found])
    bits, squared_error, prior = map(np.hstack, zip(*batches, strict=True))
    totals = prior + np.diff(edges) @ bits
    return Bound(
        bits=float(totals.mean()),
        standard_error=float(totals.std(ddof=1) / math.sqrt(len(totals))),
        prior=float(prior.mean()),
        decoder=float(bits[0].mean()),
        timesteps=(edges[:-1] + edges[1:] - 1) / 2,
        bits_by_timestep=bits.mean(axis=1),
        squared_error=squared_error.mean(axis=1),
    )


def stratify_timesteps(count: int, strata: int) -> np.ndarray:
    """Returns the edges `[strata + 1]` of strata; timestep 0, with the largest term, has its own.

    With fewer timesteps than strata, each timestep is a stratum.
    """
    strata = min(strata, count)
    return np.append(0, np.linspace(1, count, strata).round()).astype(np.int32)


@functools.partial(jax.jit, static_argnames=("denoise", "diffusion", "variance_type", "edges"))
def terms(
    denoise: DenoiseFn,
    params: Any,
    images: jax.Array,
    indices: jax.Array,
    key: jax.Array,
    *,
    diffusion: DiffusionConfig,
    variance_type: str,
    edges: tuple[int, ...],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the terms of images `[batch, ...]` uint8 at one timestep of each stratum.

    The term of the bound and the mean squared error of the network's output at this timestep, both
    `[strata, batch]`, and the KL divergence from the prior at the last timestep `[batch]`, in bits
    per dimension.
    """
    schedule, kind = make_schedule(diffusion), diffusion.prediction_type
    x0 = images / np.float32(127.5) - 1
    image_keys = keys.per_example(key, indices)
    log_variance = schedule.posterior_log_variance
    if variance_type == FIXED_LARGE:
        log_variance = np.append(log_variance[:1], np.log(schedule.betas[1:]))

    def in_stratum(_, stratum):
        number, low, high = stratum
        stratum_keys = jax.vmap(jax.random.fold_in, (0, None))(image_keys, number)
        t_keys, noise_keys = jax.vmap(jax.random.split, out_axes=1)(stratum_keys)
        t = jax.vmap(lambda key: jax.random.randint(key, (), low, high, jnp.int32))(t_keys)
        noise = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:], x0.dtype))(noise_keys)
        x = forward_process.q_sample(schedule, x0, t, noise)
        output = denoise(params, x, t, None)
        target = forward_process.target(schedule, x0, noise, t, kind)
        x0_pred = jnp.clip(forward_process.predict_x0(schedule, x, t, output, kind), -1, 1)
        nats = _step_nats(schedule, jnp.asarray(log_variance), x0, x0_pred, x, t)
        return None, (nats / math.log(2), _mean(jnp.square(output - target)))

    numbers = jnp.arange(len(edges) - 1)
    strata = (numbers, jnp.array(edges[:-1], jnp.int32), jnp.array(edges[1:], jnp.int32))
    _, (bits, squared_error) = jax.lax.scan(in_stratum, None, strata)
    signal = schedule.alphas_cumprod[-1]
    prior = (signal * jnp.square(x0) - signal - jnp.log1p(-signal)) / 2
    return bits, squared_error, _mean(prior) / math.log(2)


def _step_nats(schedule, log_variance, x0, x0_pred, x, t):
    """Returns nats per dimension `[batch]`: KL of a step, or pixel likelihood at timestep 0."""
    tables = schedule.posterior_mean_coef_x0, schedule.posterior_log_variance, log_variance
    coef_x0, true_log_var, model_log_var = (
        forward_process.extract(table, t, x) for table in tables
    )
    # Only the terms of the means that differ; the others would cancel.
    mean_difference = coef_x0 * (x0 - x0_pred)
    kl = (
        model_log_var
        - true_log_var
        - 1
        + jnp.exp(true_log_var - model_log_var)
        + jnp.square(mean_difference) * jnp.exp(-model_log_var)
    ) / 2
    mean = forward_process.posterior_mean(schedule, x0_pred, x, t)
    nll = -pixel_log_likelihood(x0, mean, jnp.exp(model_log_var / 2))
    return jnp.where(t == 0, _mean(nll), _mean(kl))


def pixel_log_likelihood(x0: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Returns the log probability of 8-bit pixels under a discretized Gaussian, in nats.

    The bin of a value extends half a step to both sides, those of the smallest and the largest to
    infinity (Ho et al. 2020, equation 13). Probabilities are at least MIN_PROBABILITY.
    """
    centered = x0 - mean
    below = ndtr((centered + HALF_STEP) / std)  # up to the upper edge of the bin
    above = ndtr((HALF_STEP - centered) / std)
    # By symmetry computed on the lower side, where the difference of CDFs is accurate.
    lower = -jnp.abs(centered)
    inside = ndtr((lower + HALF_STEP) / std) - ndtr((lower - HALF_STEP) / std)
    probability = jnp.where(x0 < -0.999, below, jnp.where(x0 > 0.999, above, inside))
    return jnp.log(jnp.maximum(probability, MIN_PROBABILITY))


def _mean(values):
    return values.mean(axis=tuple(range(1, values.ndim)))
