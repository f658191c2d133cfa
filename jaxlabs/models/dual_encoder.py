"""A contrastive dual encoder of images and texts.

CLIP (Radford et al. 2021) and SigLIP (Zhai et al. 2023) at a small scale. Shapes with the default
sizes:

    images: pixels in [0, 1]          [batch, 28, 28, 1]
    convolution, relu, max-pool       [batch, 14, 14, 16]    9 * 1 * 16 + 16         =     160
    convolution, relu, max-pool       [batch, 7, 7, 32]      9 * 16 * 32 + 32        =   4,640
    convolution, relu                 [batch, 7, 7, 48]      9 * 32 * 48 + 48        =  13,872
    projection, L2-normalized         [batch, 64]            7 * 7 * 48 * 64         = 150,528

    tokens                            [batch, 8]
    Transformer encoder, 1 block      [batch, 8, 64]         see `text_encoder`
    mean over valid tokens            [batch, 64]
    projection, L2-normalized         [batch, 64]            64 * 64                 =   4,096

    logits                            [batch, batch]         scale * cosine + bias: 1, or 2
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs.config import positive, setting
from jaxlabs.data.vocab import PADDING
from jaxlabs.layers.dtypes import at_least_float32
from jaxlabs.layers.matmul import dot_general
from jaxlabs.losses import contrastive
from jaxlabs.losses.loss_output import Batch, Key, LossOutput, Variables
from jaxlabs.models.image_classifier import augment, build_convolutions, convolve, to_float
from jaxlabs.models.model_config import (
    channels_setting,
    max_translation_setting,
    mlp_dim_setting,
    num_layers_setting,
)
from jaxlabs.models.text_encoder import TextEncoder, TextEncoderConfig, masked_mean
from jaxlabs.training.step import build_train_step

LOSSES = ("clip", "siglip")
TINY = 1e-12


@dataclasses.dataclass(frozen=True, kw_only=True)
class DualEncoderConfig(TextEncoderConfig):
    """Sizes of both encoders, and the loss; the Transformer settings are the text encoder's."""

    loss: str = setting(
        "clip",
        "contrastive loss: softmax over the batch (clip) or a sigmoid per image-text pair (siglip)",
        choices=LOSSES,
    )
    projection_dim: int = positive(
        64, "size of the shared embedding space", aliases=("embedding_width",)
    )
    init_temperature: float | None = setting(
        None,
        "initial temperature, the inverse of the logit scale; none: the paper's",
        above=0,
        aliases=("temperature",),
    )
    learn_temperature: bool = setting(True, "whether the temperature is learned")
    init_logit_bias: float | None = setting(
        None, "initial bias of SigLIP's logits; none: the paper's -10", aliases=("bias",)
    )
    channels: int = channels_setting(16)
    max_translation: int = max_translation_setting(2)
    context_length: int = positive(
        8, "maximum length of a caption, in tokens", maximum=65_536, aliases=("context",)
    )
    num_layers: int = num_layers_setting(1, "number of blocks of the text encoder")
    mlp_dim: int = mlp_dim_setting(128)

    @property
    def init_logit_scale(self) -> float:
        """The initial log of the logit scale."""
        if self.init_temperature is not None:
            return -math.log(self.init_temperature)
        scales = {"clip": contrastive.CLIP_LOGIT_SCALE, "siglip": contrastive.SIGLIP_LOGIT_SCALE}
        return scales[self.loss]


class LogitScale(NamedTuple):
    """Scale and bias of the logits `scale * cosine + bias`, [] each."""

    scale: jax.Array
    bias: jax.Array


class DualEncoder(nn.Module):
    """Maps images and texts to a shared embedding space."""

    config: DualEncoderConfig

    def setup(self):
        config = self.config
        self.image_encoder = ImageEncoder(config)
        self.text_encoder = TextEncoder(config)
        multiply = dot_general(config.output_precision)
        options = {"use_bias": False, "dot_general": multiply}
        self.image_projection = nn.Dense(config.projection_dim, **options)
        self.text_projection = nn.Dense(config.projection_dim, **options)
        if config.learn_temperature:
            start = nn.initializers.constant(config.init_logit_scale)
            self.log_scale = self.param("log_scale", start, (), jnp.float32)
        if config.loss == "siglip":
            start = config.init_logit_bias
            start = contrastive.SIGLIP_BIAS if start is None else start
            self.bias = self.param("bias", nn.initializers.constant(start), (), jnp.float32)

    def __call__(
        self, images: jax.Array, tokens: jax.Array, *, dropout_keys: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array, LogitScale]:
        """Returns embeddings of images and texts, `[batch, projection_dim]`, and the logit scale.

        Args:
          images: see `embed_images`.
          tokens: see `embed_texts`.
          dropout_keys: [batch] PRNG keys of the examples; None: no dropout.
        """
        texts = self.embed_texts(tokens, dropout_keys=dropout_keys)
        return self.embed_images(images), texts, self.logit_scale()

    def embed_images(self, images: jax.Array) -> jax.Array:
        """Returns unit embeddings of `images [batch, height, width, channels]` in [0, 1]."""
        return l2_normalize(self.image_projection(self.image_encoder(images)))

    def embed_texts(self, tokens: jax.Array, *, dropout_keys: jax.Array | None = None) -> jax.Array:
        """Returns unit embeddings of `tokens [batch, time]`; 0 is padding."""
        vectors = self.text_encoder(tokens, dropout_keys=dropout_keys)
        return l2_normalize(self.text_projection(masked_mean(vectors, tokens != PADDING)))

    def logit_scale(self) -> LogitScale:
        """Returns scale and bias of the logits; CLIP's scale is clamped, its bias 0."""
        learned = self.config.learn_temperature
        logit_scale = self.log_scale if learned else self.config.init_logit_scale
        if self.config.loss == "clip":
            scale = contrastive.clamp_logit_scale(jnp.asarray(logit_scale))
            return LogitScale(scale, jnp.zeros((), jnp.float32))
        return LogitScale(jnp.exp(logit_scale), self.bias)


class ImageEncoder(nn.Module):
    """Three convolutions with max-pooling after the first two; the output is flattened."""

    config: DualEncoderConfig

    def setup(self):
        self.convolutions = build_convolutions(self.config)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[batch, height / 4 * width / 4 * 3 * channels]` for pixels `x`."""
        return convolve(self.convolutions, x)


def l2_normalize(x: jax.Array) -> jax.Array:
    """Returns `x [batch, features]` with unit norm, in at least float32; 0 stays 0."""
    x = at_least_float32(x)
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + TINY)


def loss(
    model: DualEncoder,
    variables: Variables,
    batch: Batch,
    key: Key,
    *,
    train: bool,
    axis_name: str | None = None,
    **_: Any,
) -> LossOutput:
    """Sums the contrastive loss of pairs, in nats; the other pairs of the batch are negatives.

    Pairs with equal captions are negatives of each other too, as in the papers. The batch holds
    `images [batch, height, width, channels]` uint8, or floats in [0, 1]; `tokens [batch, time]`,
    `weights [batch]` and `example_index [batch]`; pairs of weight 0 are ignored. Negatives are over
    all devices of `axis_name`. The metrics are the logit `scale` and, for SigLIP, the `bias`.
    """
    config, weights = model.config, batch["weights"]
    images, dropout_keys = augment(config, batch, key, train=train)
    images, texts, (scale, bias) = model.apply(
        variables, images, batch["tokens"], dropout_keys=dropout_keys
    )
    count, sums = weights.sum(), {"scale": scale}
    if config.loss == "clip":
        values = contrastive.clip_loss(images, texts, scale, weights, axis_name=axis_name)
    else:
        values = contrastive.siglip_loss(images, texts, scale, bias, weights, axis_name=axis_name)
        sums["bias"] = bias
    sums = {name: value * count for name, value in sums.items()}
    return LossOutput(loss_sum=jnp.sum(values * weights), weight_sum=count, metric_sums=sums)


train_step = build_train_step(loss)


@functools.partial(jax.jit, static_argnames="model")
def embed_images(model: DualEncoder, params: Any, images: jax.Array) -> jax.Array:
    """Returns embeddings `[batch, projection_dim]` of images, see `loss`."""
    return model.apply({"params": params}, to_float(images), method="embed_images")


@functools.partial(jax.jit, static_argnames="model")
def embed_texts(model: DualEncoder, params: Any, tokens: jax.Array) -> jax.Array:
    """Returns embeddings `[batch, projection_dim]` of `tokens [batch, time]`."""
    return model.apply({"params": params}, tokens, method="embed_texts")


def logit_scale(model: DualEncoder, params: Any) -> tuple[float, float]:
    """Returns scale and bias of the logits."""
    scale, bias = model.apply({"params": params}, method="logit_scale")
    return float(scale), float(bias)
