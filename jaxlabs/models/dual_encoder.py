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

from jaxlabs import keys
from jaxlabs.config import setting
from jaxlabs.data.vocab import PADDING
from jaxlabs.layers.convolution import Conv3x3, max_pool_2x2
from jaxlabs.layers.matmul import dot_general
from jaxlabs.losses import contrastive
from jaxlabs.losses.loss_output import Batch, LossOutput, Variables
from jaxlabs.models.image_classifier import NUM_POOLS, RELU, random_translate, to_float
from jaxlabs.models.text_encoder import TextEncoder, TextEncoderConfig, masked_mean
from jaxlabs.training.step import build_train_step

LOSSES = ("clip", "siglip")
TINY = 1e-12


@dataclasses.dataclass(frozen=True, kw_only=True)
class DualEncoderConfig(TextEncoderConfig):
    """Sizes of both encoders, and the loss; the Transformer settings are the text encoder's."""

    loss: str = setting(
        "clip",
        "contrastive loss: softmax over the batch (clip) or a sigmoid per combination (siglip)",
        choices=LOSSES,
    )
    projection_dim: int = setting(
        64, "size of the shared embedding space", minimum=1, aliases=("embedding_width",)
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
    channels: int = setting(
        16, "channels of the first convolution; the others have 2 and 3 times as many", minimum=1
    )
    max_translation: int = setting(
        2,
        "maximum random translation of an image in training, in pixels per axis",
        minimum=0,
        maximum=1000,
        aliases=("shift",),
    )
    context_length: int = setting(
        8, "maximum length of a caption, in tokens", minimum=1, maximum=65_536, aliases=("context",)
    )
    num_layers: int = setting(
        1, "number of blocks of the text encoder", minimum=1, maximum=1000, aliases=("layers",)
    )
    mlp_dim: int = setting(
        128, "hidden size of the feed-forward network", minimum=1, aliases=("ffn_width",)
    )

    @property
    def init_logit_scale(self) -> float:
        """The initial log of the logit scale."""
        if self.init_temperature is not None:
            return -math.log(self.init_temperature)
        return (
            contrastive.CLIP_LOGIT_SCALE if self.loss == "clip" else contrastive.SIGLIP_LOGIT_SCALE
        )


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
        multiply = dot_general(config.matmul_precision)
        project = functools.partial(
            nn.Dense, config.projection_dim, use_bias=False, dot_general=multiply
        )
        self.image_projection, self.text_projection = project(), project()
        if config.learn_temperature:
            self.log_scale = self.param(
                "log_scale", nn.initializers.constant(config.init_logit_scale), (), jnp.float32
            )
        if config.loss == "siglip":
            start = (
                contrastive.SIGLIP_BIAS
                if config.init_logit_bias is None
                else config.init_logit_bias
            )
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
            return LogitScale(
                contrastive.clamp_logit_scale(jnp.asarray(logit_scale)), jnp.zeros((), jnp.float32)
            )
        return LogitScale(jnp.exp(logit_scale), self.bias)


class ImageEncoder(nn.Module):
    """Three convolutions with max-pooling after the first two; the output is flattened."""

    config: DualEncoderConfig

    def setup(self):
        config = self.config
        options = {"kernel_init": RELU, "precision": config.matmul_precision}
        self.convolutions = [Conv3x3(config.channels * times, **options) for times in (1, 2, 3)]

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[batch, height / 4 * width / 4 * 3 * channels]` for pixels `x`."""
        for index, convolution in enumerate(self.convolutions):
            x = nn.relu(convolution(x))
            if index < NUM_POOLS:
                x = max_pool_2x2(x)
        return x.reshape(x.shape[0], -1)


def l2_normalize(x: jax.Array) -> jax.Array:
    """Returns `x [batch, features]` with unit norm, in at least float32; 0 stays 0."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + TINY)


def loss(
    model: DualEncoder,
    variables: Variables,
    batch: Batch,
    key: jax.Array,
    *,
    train: bool,
    axis_name: str | None = None,
    **_: Any,
) -> LossOutput:
    """Sums the contrastive loss of pairs, in nats; the other pairs of the batch are negatives.

    Pairs with equal captions are negatives of each other too, as in the papers.

    Args:
      batch: `images [batch, height, width, channels]` uint8, or floats in [0, 1]; `tokens
        [batch, time]`, `weights [batch]` and `example_index [batch]`; pairs of weight 0 are
        ignored.
      key: the step's key; those of the examples derive from it and `example_index`.
      train: whether random translation and dropout apply.
      axis_name: the mapped axis over which the batch is split.

    Returns:
      LossOutput whose `metric_sums` hold the logit `scale` and, for SigLIP, the `bias`.
    """
    config, images, dropout_keys = model.config, to_float(batch["images"]), None
    if train:
        dropout_keys = keys.per_example(key, batch["example_index"])
        translation_keys = jax.vmap(functools.partial(jax.random.fold_in, data=1))(dropout_keys)
        images = random_translate(images, translation_keys, config.max_translation)
    images, texts, (scale, bias) = model.apply(
        variables, images, batch["tokens"], dropout_keys=dropout_keys
    )
    weights = batch["weights"]
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
