"""Sampling from a diffusion model, and trajectories of the forward and reverse process."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.config import ArgumentError, Config, UserError, group, runtime
from jaxlabs.diffusion.forward_process import q_sample
from jaxlabs.diffusion.noise_schedules import make_schedule
from jaxlabs.diffusion.samplers import SamplerConfig, sample, sample_many, timesteps
from jaxlabs.models.ddpm import GuidedDenoiser, UNet, normalize
from jaxlabs.run_folder import RunFolder
from jaxlabs.run_folder.reader import REWRITE

CHUNK = 16
"""Images per compiled call; on a CPU the activations then fit its caches."""

FORWARD_FRACTIONS = (0.0, 0.25, 0.5, 0.999)
"""Fractions of the forward process: timesteps 0, 250, 500 and 999 of 1000."""

REVERSE_FRACTIONS = (0.999, 0.9, 0.75, 0.5, 0.25, 0.1, 0.05, 0.0)
SHOWN, MAX_FRAMES = 8, 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageSamplingConfig(Config):
    """Options of sampling from a diffusion model."""

    num_samples: int = runtime(64, "images to sample", minimum=1, maximum=10_000)
    class_label: int | None = runtime(
        None,
        "class of all samples, with `class_conditional`; none: every class in turn",
        minimum=0,
        aliases=("digit",),
    )
    guidance_scale: float = runtime(
        1.0,
        "classifier-free guidance scale; 1: no guidance",
        minimum=0,
        maximum=1000,
        aliases=("guidance",),
    )
    sampler: SamplerConfig = group(SamplerConfig)


def require_compatible(config: ImageSamplingConfig, model: UNet) -> None:
    """Raises a UserError that names the flag if the network does not support the options."""
    timesteps(model.diffusion, config.sampler)
    label, scale = config.class_label, config.guidance_scale
    if not model.config.class_conditional:
        for flag, value, neutral in (("class_label", label, None), ("guidance_scale", scale, 1)):
            if value != neutral:
                raise ArgumentError(flag, f"{value} is not accepted without `class_conditional`")
    elif scale != 1 and model.config.class_dropout == 0:
        raise ArgumentError("guidance_scale", f"{scale} is not accepted with `class_dropout` 0; 1")
    elif label is not None and label >= model.num_classes:
        raise ArgumentError("class_label", f"{label} is not accepted; below {model.num_classes}")


def sample_images(
    model: UNet,
    params: Any,
    config: ImageSamplingConfig,
    key: jax.Array,
    count: int | None = None,
    first: int = 0,
) -> np.ndarray:
    """Returns images `[count - first, height, width, channels]`, approximately in [-1, 1].

    Of `count` samples, by default `config.num_samples`, those before `first` are left out.
    """
    count = config.num_samples if count is None else count
    network, options = _sampler(model, params, config, count)
    options |= {"batch_size": min(CHUNK, count), "first": first}
    return sample_many(*network, key, count, **options)


def _sampler(model, params, config, count):
    """Returns the arguments of a sampler: the network and its inputs, and options."""
    labels = None
    if model.config.class_conditional:
        labels = np.arange(count, dtype=np.int32) % model.num_classes
        if config.class_label is not None:
            labels = np.full(count, config.class_label, np.int32)
    denoise = GuidedDenoiser(model, guided=labels is not None and config.guidance_scale != 1)
    options = {"shape": model.shape, "diffusion": model.diffusion, "sampler": config.sampler}
    inputs = params, jnp.float32(config.guidance_scale)
    return (denoise, inputs), options | {"condition": labels}


def write_trajectories(
    model: UNet,
    params: Any,
    config: ImageSamplingConfig,
    images: np.ndarray,
    folder: RunFolder,
    key: jax.Array,
) -> None:
    """Writes the arrays `forward_process`, `trajectory` and `animation`.

    The forward process is that of the first of `images [at least 8, height, width, channels]`,
    uint8.
    """
    noise_key, sample_key = jax.random.split(key)
    times, schedule = _timesteps(FORWARD_FRACTIONS, model.diffusion), make_schedule(model.diffusion)
    x0 = normalize(images[:SHOWN])
    noise = jax.random.normal(noise_key, x0.shape, x0.dtype)
    noised = [q_sample(schedule, x0, jnp.full(len(x0), t, jnp.int32), noise) for t in times]
    folder.write_arrays("forward_process", timesteps=times, images=np.stack(noised))

    times = _timesteps(REVERSE_FRACTIONS, model.diffusion)
    sampled = timesteps(model.diffusion, config.sampler)
    frames = sampled[:: -(-len(sampled) // MAX_FRAMES)]
    network, options = _sampler(model, params, config, CHUNK)
    options["snapshots"] = (*times.tolist(), *frames.tolist())
    samples = sample(*network, sample_key, jnp.arange(CHUNK), **options)
    trajectory, frames = np.split(np.asarray(samples.snapshots), [len(times)])
    folder.write_arrays("trajectory", timesteps=times, images=trajectory[:, :SHOWN])
    frames = np.concatenate([frames, np.asarray(samples.images)[None]])
    folder.write_arrays("animation", images=frames)


def _timesteps(fractions, diffusion):
    """Returns the timesteps at fractions of the forward process."""
    count = diffusion.num_timesteps
    return np.minimum(np.round(np.array(fractions) * count), count - 1).astype(np.int32)


def load_samples(folder: RunFolder, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the samples [count, *shape] of a finished run, in [-1, 1].

    Raises:
      UserError: the file of samples is missing or damaged.
    """
    path = folder.samples / "final.npz"
    images = folder.read_arrays(path).get("images", np.empty(0))
    if images.shape[1:] != shape or images.dtype.kind != "f" or not len(images):
        raise UserError(f"{path}: holds no images of shape {list(shape)}; {REWRITE}")
    return 2 * images - 1
