"""A denoising diffusion model: a U-Net that predicts the noise in an image.

Ho, Jain and Abbeel 2020 ("Denoising Diffusion Probabilistic Models"). Shapes with the reference
sizes, for images of 28x28:

    x_t                                [28, 28, 1]
    time embedding: MLP of sinusoids   [128]         2 * (128 * 128 + 128)           =    33,024
    conv 3x3                           [28, 28, 64]  9 * 64 + 64                     =       640
    block down_0                       [28, 28, 64]                                  =    82,368
    max pool, block down_1             [14, 14, 128]                                 =   246,784
    max pool, block middle             [7, 7, 128]                                   =   312,192
    upsample, concat with down_1       [14, 14, 256]
    block up_1                         [14, 14, 64]                                  =   209,408
    upsample, concat with down_0       [28, 28, 128]
    block up_0                         [28, 28, 64]                                  =   127,488
    conv 1x1: noise, or v              [28, 28, 1]   64 + 1                          =        65
                                                     total                             1,011,969
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs import keys
from jaxlabs.config import ArgumentError, positive, setting
from jaxlabs.diffusion import forward_process
from jaxlabs.diffusion.noise_schedules import DiffusionConfig, make_schedule
from jaxlabs.layers import positions
from jaxlabs.layers.convolution import Conv3x3, ResidualBlock, max_pool_2x2, upsample_2x_bilinear
from jaxlabs.layers.cpu import dispatch
from jaxlabs.layers.dtypes import cast
from jaxlabs.layers.initializers import PYTORCH
from jaxlabs.layers.matmul import dot_general
from jaxlabs.layers.remat import rematerialize
from jaxlabs.losses.loss_output import Batch, Key, LossOutput, Variables
from jaxlabs.models.model_config import ModelConfig, remat_setting
from jaxlabs.training.step import build_train_step

NUM_POOLS = 2
"""How many times the network downsamples, see `image_classifier.check_divisible`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNetConfig(ModelConfig):
    """Sizes of the network; the defaults are the reference."""

    base_channels: int = positive(
        64, "channels at full resolution; twice as many at lower ones", aliases=("width",)
    )
    num_groups: int = positive(
        8, "groups of the group norms; divides `base_channels`", aliases=("groups",)
    )
    time_embed_dim: int = setting(
        128, "size of the timestep embedding", minimum=2, aliases=("time_width",)
    )
    class_conditional: bool = setting(False, "condition the network on the class of each image")
    class_dropout: float = setting(
        0.1,
        "probability of dropping a label in training, for classifier-free guidance",
        minimum=0,
        maximum=1,
        aliases=("label_dropout",),
    )
    zero_init_output: bool = setting(False, "initialize the last convolution at zero")
    remat: str = remat_setting()

    def check(self) -> None:
        if self.base_channels % self.num_groups:
            raise ArgumentError(
                "num_groups",
                f"{self.num_groups} does not divide `base_channels` {self.base_channels}",
            )


class UNet(nn.Module):
    """Maps noisy images and timesteps to the noise, or v."""

    config: UNetConfig
    diffusion: DiffusionConfig  #: the noise schedule and the prediction type
    shape: tuple[int, int, int]  #: (height, width, channels) of an image
    num_classes: int = 0  #: number of classes; used if `class_conditional`

    def setup(self):
        config = self.config
        low, high = config.base_channels, 2 * config.base_channels
        size = config.time_embed_dim
        self.time_hidden, self.time_output = self._dense(size, size), self._dense(size, size)
        if config.class_conditional:
            # The last row is the null class of classifier-free guidance.
            self.class_embedding = nn.Embed(self.num_classes + 1, config.time_embed_dim)
        self.input = Conv3x3(low, precision=config.matmul_precision, dtype=config.dtype)
        self.down_0, self.down_1 = self._block(low), self._block(high)
        self.middle = self._block(high)
        self.up_1, self.up_0 = self._block(low), self._block(low)
        zeros = {"kernel_init": nn.initializers.zeros_init()}
        self.output = nn.Dense(
            self.shape[-1],
            dot_general=dot_general(config.output_precision),
            **(zeros if config.zero_init_output else PYTORCH.dense(low)),
        )

    def _block(self, features: int) -> ResidualBlock:
        config = self.config
        block = rematerialize(ResidualBlock, config.remat)
        return block(features, config.num_groups, config.matmul_precision, config.dtype)

    def _dense(self, fan_in: int, features: int) -> nn.Dense:
        multiply = dot_general(self.config.matmul_precision)
        options = {"dtype": self.config.dtype, "dot_general": multiply}
        return nn.Dense(features, **options, **PYTORCH.dense(fan_in))

    def __call__(self, x: jax.Array, t: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        """Returns noise or v, `[batch, height, width, channels]`, in at least float32.

        Args:
          x: [batch, height, width, channels] noisy images.
          t: [batch] int32 timesteps.
          labels: [batch] int32 classes, `num_classes` for unconditional; ignored unless
            `class_conditional`.
        """
        time_emb = self._embed(t, labels)
        full = self.down_0(self.input(x), time_emb)
        half = self.down_1(max_pool_2x2(full), time_emb)
        quarter = self.middle(max_pool_2x2(half), time_emb)
        half = self.up_1(jnp.concatenate([upsample_2x_bilinear(quarter), half], axis=-1), time_emb)
        full = self.up_0(jnp.concatenate([upsample_2x_bilinear(half), full], axis=-1), time_emb)
        return self.output(full)

    def _embed(self, t: jax.Array, labels: jax.Array | None) -> jax.Array:
        """Returns the conditioning embedding of the blocks, `[batch, time_embed_dim]`."""
        table = positions.sinusoidal_embedding(
            self.diffusion.num_timesteps, self.config.time_embed_dim
        )
        time_emb = self.time_output(nn.silu(self.time_hidden(jnp.asarray(table)[t])))
        if self.config.class_conditional:
            labels = jnp.full(t.shape, self.num_classes) if labels is None else labels
            time_emb = time_emb + cast(self.class_embedding(labels), self.config.dtype)
        return time_emb


def normalize(images: jax.Array) -> jax.Array:
    """Maps images from 0..255 to [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1


def denormalize(images: jax.Array) -> jax.Array:
    """Maps images from [-1, 1] to [0, 1], clipped."""
    return jnp.clip((images + 1) / 2, 0, 1)


def loss(
    model: UNet, variables: Variables, batch: Batch, key: Key, *, train: bool, **_: Any
) -> LossOutput:
    """Sums each image's mean squared error per pixel at a uniformly sampled timestep.

    Ho et al. 2020, equation 14, with the configured loss weighting; the metric `squared_error` is
    unweighted. The batch holds `images` uint8 [batch, height, width, channels], `labels` and
    `example_index` [batch] int32, `weights [batch]`; images of weight 0 are ignored. An image's
    timestep and noise depend on `key` and its `example_index`. In training labels are dropped at
    random.
    """
    x0 = normalize(batch["images"])
    example_keys = keys.per_example(key, batch["example_index"])
    time_keys, noise_keys, label_keys = jax.vmap(jax.random.split, (0, None), 1)(example_keys, 3)
    num_timesteps = model.diffusion.num_timesteps
    t = jax.vmap(lambda key: jax.random.randint(key, (), 0, num_timesteps, jnp.int32))(time_keys)
    noise = jax.vmap(lambda key: jax.random.normal(key, model.shape, x0.dtype))(noise_keys)
    labels = batch["labels"]
    if train and model.config.class_conditional:
        keep_rate = jnp.float32(1 - model.config.class_dropout)
        keep = jax.vmap(jax.random.bernoulli, (0, None))(label_keys, keep_rate)
        labels = jnp.where(keep, labels, model.num_classes)

    schedule = make_schedule(model.diffusion)
    x = forward_process.q_sample(schedule, x0, t, noise)
    output = model.apply(variables, x, t, labels)
    target = forward_process.target(schedule, x0, noise, t, model.diffusion.prediction_type)
    squared_error = jnp.square(output - target).mean(axis=(1, 2, 3))
    time_weight = jnp.asarray(forward_process.loss_weights(model.diffusion))[t]
    weights = batch["weights"]
    return LossOutput(
        loss_sum=jnp.sum(squared_error * time_weight * weights),
        weight_sum=jnp.sum(weights),
        metric_sums={"squared_error": jnp.sum(squared_error * weights)},
    )


train_step = build_train_step(loss)


CPU_CHUNKS = (8, 7, 6, 5, 4)
"""Images per chunk in sampling on CPUs; chunks of 8 are 1.5 times as fast as a batch of 64."""


@dataclasses.dataclass(frozen=True)
class GuidedDenoiser:
    """A `jaxlabs.diffusion.samplers.DenoiseFn`; equal instances share a compilation.

    Its parameters are `(params, guidance_scale)`. With guidance scale w the output is
    `uncond + w (cond - uncond)` (Ho and Salimans 2022, "Classifier-Free Diffusion Guidance", whose
    w is smaller by one).
    """

    model: UNet  #: the network
    guided: bool = False  #: whether the guidance scale is not 1, which takes two passes

    def __call__(
        self, params: Any, x: jax.Array, t: jax.Array, labels: jax.Array | None
    ) -> jax.Array:
        """Returns the output `[batch, height, width, channels]` for `x` at `t [batch]`."""
        params, guidance_scale = params
        if not self.guided:
            return self._apply(params, x, t, labels)
        null = jnp.full_like(labels, self.model.num_classes)
        x, t, labels = (jnp.concatenate(pair) for pair in ((x, x), (t, t), (labels, null)))
        cond, uncond = jnp.split(self._apply(params, x, t, labels), 2)
        return uncond + guidance_scale * (cond - uncond)

    def _apply(self, params: Any, *inputs: jax.Array | None) -> jax.Array:
        """Applies the network; on CPUs to chunks of the batch, which fit into the cache."""

        def whole(params, *inputs):
            return self.model.apply({"params": params}, *inputs)

        def in_chunks(params, *inputs):
            chunks = jax.tree.map(lambda array: array.reshape(-1, size, *array.shape[1:]), inputs)
            outputs = jax.lax.map(lambda chunk: whole(params, *chunk), chunks)
            return outputs.reshape(batch, *self.model.shape)

        batch = inputs[0].shape[0]
        size = next(size for size in (*CPU_CHUNKS, batch) if batch % size == 0)
        return dispatch.by_platform(params, *inputs, cpu=in_chunks, default=whole)
