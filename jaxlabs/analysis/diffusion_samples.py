"""Samples of a diffusion model: how they are drawn, and how they come out of noise."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.config import RUNTIME, Config, UserError, group, setting
from jaxlabs.diffusion.forward_process import q_sample
from jaxlabs.diffusion.noise_schedules import DiffusionConfig, make_schedule
from jaxlabs.diffusion.samplers import SamplerConfig, sample, sample_many, timesteps
from jaxlabs.models.ddpm import Denoiser, UNet, denormalize, normalize
from jaxlabs.run_folder import RunFolder
from jaxlabs.run_reader import AGAIN

CHUNK = 16
"""Pictures that one compiled call draws: on a CPU their activations stay in its caches."""

FORWARD_SHARES = (0.0, 0.25, 0.5, 0.999)
"""Of the way to noise: times 0, 250, 500 and 999 of 1000."""

BACKWARD_SHARES = (0.999, 0.9, 0.75, 0.5, 0.25, 0.1, 0.05, 0.0)
SHOWN, MAX_FRAMES = 8, 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureSamplingConfig(Config):
    """How samples are drawn."""

    num_samples: int = setting(64, "pictures to draw", minimum=1, maximum=10_000, kind=RUNTIME)
    class_label: int | None = setting(
        None,
        "number of the class to draw, with --class_conditional; none: all in turn",
        minimum=0,
        kind=RUNTIME,
        aliases=("digit",),
    )
    guidance_scale: float = setting(
        1.0,
        "how much a class counts: 1 as trained, above it more",
        minimum=0,
        maximum=1000,
        kind=RUNTIME,
        aliases=("guidance",),
    )
    sampler: SamplerConfig = group(SamplerConfig)


def require_drawable(config: PictureSamplingConfig, model: UNet) -> None:
    """Raises UserError unless the network can draw what is asked for; it names the flag."""
    timesteps(model.diffusion, config.sampler)
    told = model.config.class_conditional
    if not told and (config.class_label is not None or config.guidance_scale != 1):
        flag, value = (
            ("class_label", config.class_label)
            if config.class_label is not None
            else ("guidance_scale", None)
        )
        value = config.guidance_scale if value is None else value
        raise UserError(f"--{flag}: {value} is not accepted without --class_conditional")
    if config.class_label is not None and config.class_label >= model.classes:
        raise UserError(
            f"--class_label: {config.class_label} is not accepted; below {model.classes}"
        )


def draw(
    model: UNet,
    params: Any,
    config: PictureSamplingConfig,
    key: jax.Array,
    count: int | None = None,
    first: int = 0,
) -> np.ndarray:
    """Returns pictures `[count - first, height, width, channels]` in [-1, 1], about.

    Args:
      model: the network.
      params: its parameters.
      config: how to draw.
      key: of all noise.
      count: how many; None: as many as the configuration says.
      first: how many of them are left out, since they are there already.
    """
    count = config.num_samples if count is None else count
    denoise, given, labels = _network(model, params, config, count)
    return sample_many(
        denoise,
        given,
        key,
        count,
        batch_size=min(CHUNK, count),
        shape=model.shape,
        diffusion=model.diffusion,
        sampler=config.sampler,
        condition=labels,
        first=first,
    )


def _network(model: UNet, params: Any, config: PictureSamplingConfig, count: int) -> Any:
    """Returns what a sampler asks: the network, its parameters, and labels or None."""
    labels = None
    if model.config.class_conditional:
        turn = np.arange(count) % model.classes
        labels = (
            turn if config.class_label is None else np.full(count, config.class_label)
        ).astype(np.int32)
    denoise = Denoiser(model, guided=labels is not None and config.guidance_scale != 1)
    return denoise, (params, jnp.float32(config.guidance_scale)), labels


def write_trajectories(
    model: UNet,
    params: Any,
    config: PictureSamplingConfig,
    images: np.ndarray,
    folder: RunFolder,
    key: jax.Array,
) -> None:
    """Writes pictures on their way into noise and samples on their way out of it.

    Args:
      model: the network.
      params: its parameters.
      config: how samples are drawn.
      images: [at least 8, height, width, channels] uint8 pictures.
      folder: gets the arrays `forward_process`, `trajectory` and `animation`.
      key: of all noise.
    """
    noise_key, sample_key = jax.random.split(key)
    times = _times(FORWARD_SHARES, model.diffusion)
    pictures = forward(model.diffusion, normalize(images[:SHOWN]), times, noise_key)
    folder.write_arrays("forward_process", times=times, pictures=pictures)

    shown = _times(BACKWARD_SHARES, model.diffusion)
    visited = timesteps(model.diffusion, config.sampler)
    frames = visited[:: -(-len(visited) // MAX_FRAMES)]
    denoise, given, labels = _network(model, params, config, CHUNK)
    drawn = sample(
        denoise,
        given,
        sample_key,
        jnp.arange(CHUNK),
        shape=model.shape,
        diffusion=model.diffusion,
        sampler=config.sampler,
        snapshots=(*shown.tolist(), *frames.tolist()),
        condition=labels,
    )
    ways = np.asarray(drawn.snapshots)
    finished = np.asarray(drawn.images)[None]
    ways, frames = np.split(ways, [len(shown)])
    folder.write_arrays("trajectory", times=shown, pictures=ways[:, :SHOWN])
    folder.write_arrays("animation", pictures=np.concatenate([frames, finished]))


def forward(
    diffusion: DiffusionConfig, x0: jax.Array, times: np.ndarray, key: jax.Array
) -> np.ndarray:
    """Returns `x0 [count, ...]` at every time, with the same noise, `[times, count, ...]`."""
    noise, schedule = jax.random.normal(key, x0.shape, x0.dtype), make_schedule(diffusion)
    return np.stack(
        [q_sample(schedule, x0, jnp.full(len(x0), time, jnp.int32), noise) for time in times]
    )


def _times(shares: tuple[float, ...], diffusion: DiffusionConfig) -> np.ndarray:
    """Returns times at shares of the way to noise."""
    count = diffusion.num_timesteps
    return np.minimum(np.round(np.array(shares) * count), count - 1).astype(np.int32)


def read(folder: RunFolder, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the samples [count, *shape] of a run that has ended, in [-1, 1].

    Raises:
      UserError: there are none, or their file is damaged.
    """
    path = folder.samples / "final.npz"
    images = folder.read_arrays(path).get("images", np.empty(0))
    if images.shape[1:] != shape or images.dtype.kind != "f" or not len(images):
        raise UserError(f"{path}: holds no images of shape {list(shape)}; {AGAIN}")
    return 2 * images - 1


def as_samples(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what a run folder keeps as samples, `images` in [0, 1], of pictures in [-1, 1]."""
    return {"images": np.asarray(denormalize(jnp.asarray(pictures)))}
