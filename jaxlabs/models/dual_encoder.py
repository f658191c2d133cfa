"""An image encoder and a text encoder that meet in one space: pairs close, all else apart.

Radford et al. 2021 (CLIP) and Zhai et al. 2023 (SigLIP), small. Shapes with the default sizes:

    images: pixels in [0, 1]          [batch, 28, 28, 1]
    convolution, relu, max-pool       [batch, 14, 14, 16]    9 * 1 * 16 + 16         =     160
    convolution, relu, max-pool       [batch, 7, 7, 32]      9 * 16 * 32 + 32        =   4,640
    convolution, relu                 [batch, 7, 7, 48]      9 * 32 * 48 + 48        =  13,872
    projection, to length 1           [batch, 64]            7 * 7 * 48 * 64         = 150,528

    tokens                            [batch, 8]
    Transformer encoder, 1 block      [batch, 8, 64]         see `text_encoder`
    mean over real tokens             [batch, 64]
    projection, to length 1           [batch, 64]            64 * 64                 =   4,096

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
from jaxlabs.data.tokenizers import PADDING
from jaxlabs.layers.convolution import Conv3x3, max_pool
from jaxlabs.layers.matmul import Dense
from jaxlabs.losses import contrastive
from jaxlabs.losses.loss_output import LossOutput
from jaxlabs.models.image_classifier import NUM_POOLS, RELU, shifted, to_float
from jaxlabs.models.text_encoder import TextEncoder, TextEncoderConfig, masked_mean
from jaxlabs.training.state import TrainState
from jaxlabs.training.step import build_train_step

LOSSES = ("clip", "siglip")
TINY = 1e-12


@dataclasses.dataclass(frozen=True, kw_only=True)
class DualEncoderConfig(TextEncoderConfig):
    """Sizes of both encoders, and the loss; embed_dim, layers and heads are the text encoder's."""

    loss: str = setting(
        "clip",
        "each picks its own among all (clip), or every two are judged (siglip)",
        choices=LOSSES,
    )
    projection_dim: int = setting(
        64, "size of the space in which both meet", minimum=1, aliases=("embedding_width",)
    )
    init_temperature: float | None = setting(
        None,
        "one over the scale of the cosine at the start; none: the paper's",
        above=0,
        aliases=("temperature",),
    )
    learn_temperature: bool = setting(True, "whether the scale is learned, or stays")
    init_logit_bias: float | None = setting(
        None, "of SigLIP's logits at the start; none: the paper's -10", aliases=("bias",)
    )
    channels: int = setting(
        16, "of the first convolution; the others have two and three times as many", minimum=1
    )
    max_translation: int = setting(
        2,
        "pixels by which training moves a picture at most, along either axis",
        minimum=0,
        maximum=1000,
        aliases=("shift",),
    )
    context_length: int = setting(
        8, "tokens of a description at most", minimum=1, maximum=65_536, aliases=("context",)
    )
    num_layers: int = setting(
        1, "blocks of the text encoder", minimum=1, maximum=1000, aliases=("layers",)
    )
    mlp_dim: int = setting(
        128, "size of the feed-forward network's hidden layer", minimum=1, aliases=("ffn_width",)
    )

    @property
    def log_scale(self) -> float:
        """The logarithm of the scale at the start."""
        if self.init_temperature is not None:
            return -math.log(self.init_temperature)
        return contrastive.CLIP_LOG_SCALE if self.loss == "clip" else contrastive.SIGLIP_LOG_SCALE


class LogitScale(NamedTuple):
    """What makes logits out of cosines: `scale * cosine + bias`, [] each."""

    scale: jax.Array
    bias: jax.Array


class DualEncoder(nn.Module):
    """Pictures and texts in, points of one space out.

    Attributes:
      config: see `DualEncoderConfig`.
    """

    config: DualEncoderConfig

    def setup(self):
        config = self.config
        self.image_encoder = ImageEncoder(config)
        self.text_encoder = TextEncoder(config)
        project = functools.partial(
            Dense, config.projection_dim, use_bias=False, precision=config.matmul_precision
        )
        self.image_projection, self.text_projection = project(), project()
        if config.learn_temperature:
            self.log_scale = self.param(
                "log_scale", nn.initializers.constant(config.log_scale), (), jnp.float32
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
        """Returns embeddings of images and of texts, `[batch, projection_dim]`, and the scaling.

        Args:
          images: see `embed_images`.
          tokens: see `embed_texts`.
          dropout_keys: [batch] PRNG keys of the examples; None switches dropout off.
        """
        texts = self.embed_texts(tokens, dropout_keys=dropout_keys)
        return self.embed_images(images), texts, self.scaling()

    def embed_images(self, images: jax.Array) -> jax.Array:
        """Returns points of length 1 for `images [batch, height, width, channels]` in [0, 1]."""
        return unit(self.image_projection(self.image_encoder(images)))

    def embed_texts(self, tokens: jax.Array, *, dropout_keys: jax.Array | None = None) -> jax.Array:
        """Returns points of length 1 for `tokens [batch, time]`; 0 is padding."""
        vectors = self.text_encoder(tokens, dropout_keys=dropout_keys)
        return unit(self.text_projection(masked_mean(vectors, tokens != PADDING)))

    def scaling(self) -> LogitScale:
        """Returns how cosines become logits; CLIP's scale is limited and has no bias."""
        log_scale = self.log_scale if self.config.learn_temperature else self.config.log_scale
        if self.config.loss == "clip":
            return LogitScale(
                contrastive.clamp_logit_scale(jnp.asarray(log_scale)), jnp.zeros((), jnp.float32)
            )
        return LogitScale(jnp.exp(log_scale), self.bias)


class ImageEncoder(nn.Module):
    """Three convolutions, the first two halved by max-pooling; a picture's pixels as one vector.

    Attributes:
      config: see `DualEncoderConfig`.
    """

    config: DualEncoderConfig

    def setup(self):
        config = self.config
        options = {"kernel_init": RELU, "precision": config.matmul_precision}
        self.convolutions = [Conv3x3(config.channels * times, **options) for times in (1, 2, 3)]

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[batch, height / 4 * width / 4 * 3 * channels]` for pixels `x`."""
        for number, convolution in enumerate(self.convolutions):
            x = nn.relu(convolution(x))
            if number < NUM_POOLS:
                x = max_pool(x)
        return x.reshape(x.shape[0], -1)


def unit(x: jax.Array) -> jax.Array:
    """Returns `x [batch, embed_dim]` at length 1, in at least float32; 0 stays 0."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + TINY)


def loss(
    params: Any, batch: dict[str, jax.Array], key: jax.Array, state: TrainState, train: bool
) -> LossOutput:
    """Sums the contrastive loss of pairs, in nats; the batch's other pairs are the negatives.

    Two pairs whose descriptions say the same are each other's negatives too, as in the papers.

    Args:
      params: the model's parameters.
      batch: `images [batch, height, width, channels]` uint8, or in [0, 1] as floats; `tokens
        [batch, time]`, `weights [batch]` and `example [batch]`; pairs of weight 0 are not there.
      key: the step's key; those of the examples derive from it and `example`.
      state: holds the model, and the axis whose devices share the batch.
      train: whether pictures are moved and dropout acts.

    Returns:
      LossOutput whose `sums` hold the `scale` of the cosine and, for SigLIP, the `bias`.
    """
    config, images, dropout_keys = state.model.config, to_float(batch["images"]), None
    if train:
        dropout_keys = keys.per_example(key, batch["example"])
        moves = jax.vmap(functools.partial(jax.random.fold_in, data=1))(dropout_keys)
        images = shifted(images, moves, config.max_translation)
    images, texts, (scale, bias) = state.model.apply(
        {"params": params}, images, batch["tokens"], dropout_keys=dropout_keys
    )
    weights, axis_name = batch["weights"], state.axis_name
    count, sums = weights.sum(), {"scale": scale}
    if config.loss == "clip":
        values = contrastive.clip_loss(images, texts, scale, weights, axis_name=axis_name)
    else:
        values = contrastive.siglip_loss(images, texts, scale, bias, weights, axis_name=axis_name)
        sums["bias"] = bias
    sums = {name: value * count for name, value in sums.items()}
    return LossOutput(total=jnp.sum(values * weights), weight=count, sums=sums)


train_step = build_train_step(loss)


@functools.partial(jax.jit, static_argnames="model")
def embed_images(model: DualEncoder, params: Any, images: jax.Array) -> jax.Array:
    """Returns points `[batch, projection_dim]` for images, see `loss`."""
    return model.apply({"params": params}, to_float(images), method="embed_images")


@functools.partial(jax.jit, static_argnames="model")
def embed_texts(model: DualEncoder, params: Any, tokens: jax.Array) -> jax.Array:
    """Returns points `[batch, projection_dim]` for `tokens [batch, time]`."""
    return model.apply({"params": params}, tokens, method="embed_texts")


def scaling(model: DualEncoder, params: Any) -> tuple[float, float]:
    """Returns the scale and the bias that make logits out of cosines."""
    found = model.apply({"params": params}, method="scaling")
    return float(found.scale), float(found.bias)
