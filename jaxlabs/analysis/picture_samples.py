"""Samples of a diffusion model: how they are drawn."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.config import RUNTIME, Config, group, setting
from jaxlabs.diffusion.samplers import SamplerConfig, sample_many
from jaxlabs.models.ddpm import Denoiser, UNet, to_unit

CHUNK = 16
"""Pictures that one compiled call draws: on a CPU their activations stay in its caches."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureSamplingConfig(Config):
    """How samples are drawn."""

    num_samples: int = setting(64, "pictures to draw", minimum=1, kind=RUNTIME)
    digit: int | None = setting(
        None, "class to draw, for --class_conditional; none: all in turn", minimum=0, kind=RUNTIME
    )
    guidance: float = setting(
        1.0, "how much a class counts: 1 as trained, above it more", minimum=0, kind=RUNTIME
    )
    sampler: SamplerConfig = group(SamplerConfig)


def draw(model: UNet, params: Any, config: PictureSamplingConfig, key: jax.Array) -> np.ndarray:
    """Returns pictures `[num_samples, height, width, channels]` in [0, 1]."""
    labels, guided = None, False
    if model.config.class_conditional:
        one = config.digit
        labels = (
            np.arange(config.num_samples) % model.classes
            if one is None
            else np.full(config.num_samples, one)
        )
        guided = config.guidance != 1
    drawn = sample_many(
        Denoiser(model, guided),
        (params, jnp.float32(config.guidance)),
        key,
        config.num_samples,
        batch_size=min(CHUNK, config.num_samples),
        shape=model.shape,
        diffusion=model.diffusion,
        sampler=config.sampler,
        condition=labels,
    )
    return np.asarray(to_unit(drawn))
