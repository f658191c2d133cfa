"""A small convolutional network that tells classes of pictures apart.

Its features also measure how like real pictures others are. Shapes with the default sizes:

    x: pixels in [0, 1]            [batch, 28, 28, 1]
    convolution, relu, max-pool    [batch, 14, 14, 16]     9 * 1 * 16 + 16        =     160
    convolution, relu, max-pool    [batch, 7, 7, 32]       9 * 16 * 32 + 32       =   4,640
    convolution, relu              [batch, 7, 7, 48]       9 * 32 * 48 + 48       =  13,872
    features: dense, relu          [batch, 64]             7 * 7 * 48 * 64 + 64   = 150,592
    logits                         [batch, 10]             64 * 10 + 10           =     650
                                                           all                      169,914
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.config import Config, UserError, setting
from jaxlabs.layers.convolution import Conv3x3, max_pool
from jaxlabs.layers.dropout import Dropout
from jaxlabs.layers.matmul import PRECISIONS, Dense
from jaxlabs.losses.cross_entropy import scored
from jaxlabs.losses.loss_output import LossOutput
from jaxlabs.training.state import TrainState
from jaxlabs.training.step import build_train_step

NUM_POOLS = 2
RELU = nn.initializers.he_normal()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageClassifierConfig(Config):
    """Sizes of the network, and what training does to pictures."""

    channels: int = setting(
        16, "of the first convolution; the others have two and three times as many", minimum=1
    )
    feature_width: int = setting(64, "units of the last hidden layer", minimum=1)
    dropout: float = setting(
        0.3,
        "share of features that training leaves out",
        minimum=0,
        maximum=0.99,
        aliases=("feature_dropout",),
    )
    max_translation: int = setting(
        2,
        "pixels by which training moves a picture at most, along either axis",
        minimum=0,
        maximum=1000,
        aliases=("shift",),
    )
    matmul_precision: str = setting(
        "default",
        "float32 (highest), the platform's own (default), bfloat16 with float32 sums (bfloat16)",
        choices=PRECISIONS,
        value_aliases={"fast": "bfloat16"},
    )


class ImageClassifier(nn.Module):
    """Pictures in, logits of their classes out.

    Attributes:
      config: see `ImageClassifierConfig`.
      classes: how many there are.
    """

    config: ImageClassifierConfig
    classes: int

    def setup(self):
        config = self.config
        options = {"kernel_init": RELU, "precision": config.matmul_precision}
        self.convolutions = [Conv3x3(config.channels * times, **options) for times in (1, 2, 3)]
        self.hidden = Dense(config.feature_width, **options)
        self.dropout = Dropout(config.dropout)
        self.head = Dense(self.classes, precision=config.matmul_precision)

    def __call__(self, x: jax.Array, *, dropout_keys: jax.Array | None = None) -> jax.Array:
        """Returns logits `[batch, classes]` for pixels `x [batch, height, width, channels]`.

        Args:
          x: in [0, 1].
          dropout_keys: [batch] PRNG keys of the examples; None switches dropout off.
        """
        return self.head(self.dropout(self.features(x), dropout_keys))

    def features(self, x: jax.Array) -> jax.Array:
        """Returns the last hidden layer `[batch, feature_width]`, none of it negative."""
        for number, convolution in enumerate(self.convolutions):
            x = nn.relu(convolution(x))
            if number < NUM_POOLS:
                x = max_pool(x)
        return nn.relu(self.hidden(x.reshape(x.shape[0], -1)))


def require_divisible(shape: tuple[int, ...]) -> None:
    """Raises UserError unless pictures `(height, width, channels)` can be halved often enough."""
    factor = 2**NUM_POOLS
    if shape[0] % factor or shape[1] % factor:
        raise UserError(
            f"--dataset: pictures of {shape[0]}x{shape[1]} are not accepted; height and width must"
            f" be multiples of {factor}, since the network halves them {NUM_POOLS} times"
        )


def to_float(images: jax.Array) -> jax.Array:
    """Returns uint8 pictures as numbers in [0, 1]; others are that already."""
    if not jnp.issubdtype(images.dtype, jnp.integer):
        return images
    return images.astype(jnp.float32) / 255


def shifted(x: jax.Array, example_keys: jax.Array, most: int) -> jax.Array:
    """Moves every picture by whole pixels, at most `most` along either axis.

    What comes in is of the image's ground, the median of its outermost pixels.

    Args:
      x: [batch, height, width, channels].
      example_keys: [batch] PRNG keys.
      most: of all moves of so many pixels each is as likely as any other.
    """
    ends = np.array([0, -1])
    border = jnp.concatenate([x[:, ends], x[:, 1:-1, ends].swapaxes(1, 2)], axis=2)
    ground = jnp.median(border, axis=(1, 2), keepdims=True)
    padded = jnp.pad(x, ((0, 0), (most, most), (most, most), (0, 0)))
    inside = np.pad(
        np.ones((1, *x.shape[1:3], 1), bool), ((0, 0), (most,) * 2, (most,) * 2, (0, 0))
    )
    padded = jnp.where(inside, padded, ground)

    def move(picture, key):
        down, right = jax.random.randint(key, (2,), 0, 2 * most + 1, jnp.int32)
        return jax.lax.dynamic_slice(picture, (down, right, jnp.int32(0)), x.shape[1:])

    return jax.vmap(move)(padded, example_keys)


def loss(
    params: Any, batch: dict[str, jax.Array], key: jax.Array, state: TrainState, train: bool
) -> LossOutput:
    """Sums the cross-entropy of the pictures' classes, in nats.

    Args:
      params: the model's parameters.
      batch: `images [batch, height, width, channels]` uint8, or in [0, 1] as floats; `labels
        [batch]`, `weights [batch]` and `example [batch]`; pictures of weight 0 do not count.
      key: the step's key; those of the examples derive from it and `example`.
      state: holds the model.
      train: whether pictures are moved and dropout acts.

    Returns:
      LossOutput whose `sums` hold `accuracy`: how often the likeliest class is the right one.
    """
    config, x = state.model.config, to_float(batch["images"])
    dropout_keys = None
    if train:
        dropout_keys = keys.per_example(key, batch["example"])
        x = shifted(
            x,
            jax.vmap(functools.partial(jax.random.fold_in, data=1))(dropout_keys),
            config.max_translation,
        )
    logits = state.model.apply({"params": params}, x, dropout_keys=dropout_keys)
    return scored(logits, batch["labels"], batch["weights"])


train_step = build_train_step(loss)


@functools.partial(jax.jit, static_argnames="model")
def read(model: ImageClassifier, params: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns features `[batch, feature_width]` and class probabilities `[batch, classes]`.

    Args:
      model: the classifier.
      params: its parameters.
      images: see `loss`.
    """
    bound = model.bind({"params": params})
    features = bound.features(to_float(images))
    return features, jax.nn.softmax(bound.head(features), axis=-1)
