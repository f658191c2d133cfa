"""A small convolutional image classifier.

Its features also serve the FID of generated images. Shapes with the default sizes:

    x: pixels in [0, 1]            [batch, 28, 28, 1]
    convolution, relu, max-pool    [batch, 14, 14, 16]     9 * 1 * 16 + 16        =     160
    convolution, relu, max-pool    [batch, 7, 7, 32]       9 * 16 * 32 + 32       =   4,640
    convolution, relu              [batch, 7, 7, 48]       9 * 32 * 48 + 48       =  13,872
    features: dense, relu          [batch, 64]             7 * 7 * 48 * 64 + 64   = 150,592
    logits                         [batch, 10]             64 * 10 + 10           =     650
                                                           total                    169,914
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.config import ArgumentError, positive
from jaxlabs.layers.convolution import Conv3x3, max_pool_2x2
from jaxlabs.layers.dropout import Dropout
from jaxlabs.layers.dtypes import at_least_float32
from jaxlabs.layers.matmul import dot_general
from jaxlabs.losses.cross_entropy import cross_entropy_output
from jaxlabs.losses.loss_output import Batch, Key, LossOutput, Variables
from jaxlabs.models.model_config import (
    ModelConfig,
    channels_setting,
    dropout_setting,
    max_translation_setting,
)
from jaxlabs.training.step import build_train_step

NUM_POOLS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageClassifierConfig(ModelConfig):
    """Sizes of the network, and the augmentation in training."""

    channels: int = channels_setting(16)
    feature_dim: int = positive(64, "size of the last hidden layer", aliases=("feature_width",))
    dropout: float = dropout_setting(
        0.3, "dropout rate of the last hidden layer", aliases=("feature_dropout",)
    )
    max_translation: int = max_translation_setting(2)


class ImageClassifier(nn.Module):
    """Maps images to class logits."""

    config: ImageClassifierConfig
    num_classes: int  #: number of classes

    def setup(self):
        config = self.config
        self.convolutions = build_convolutions(config)
        multiply, he_normal = dot_general(config.matmul_precision), nn.initializers.he_normal()
        options = {"dtype": config.dtype, "kernel_init": he_normal, "dot_general": multiply}
        self.hidden = nn.Dense(config.feature_dim, **options)
        self.dropout = Dropout(config.dropout)
        self.head = nn.Dense(self.num_classes, dot_general=dot_general(config.output_precision))

    def __call__(self, x: jax.Array, *, dropout_keys: jax.Array | None = None) -> jax.Array:
        """Returns logits `[batch, classes]` for pixels `x [batch, height, width, channels]`.

        Args:
          x: in [0, 1].
          dropout_keys: [batch] PRNG keys of the examples; None: no dropout.
        """
        return self.head(self.dropout(self.features(x), dropout_keys))

    def features(self, x: jax.Array) -> jax.Array:
        """Returns the activations of the last hidden layer, `[batch, feature_dim]`."""
        return nn.relu(self.hidden(convolve(self.convolutions, x)))


def build_convolutions(config: Any) -> list[Conv3x3]:
    """Returns three convolutions with one, two and three times `config.channels` channels."""
    options = {
        "kernel_init": nn.initializers.he_normal(),
        "precision": config.matmul_precision,
        "dtype": config.dtype,
    }
    return [Conv3x3(config.channels * times, **options) for times in (1, 2, 3)]


def convolve(convolutions: Sequence[Conv3x3], x: jax.Array) -> jax.Array:
    """Applies convolutions with ReLU, the first ones with max-pooling; flattens `[batch, ...]`."""
    for index, convolution in enumerate(convolutions):
        x = nn.relu(convolution(x))
        if index < NUM_POOLS:
            x = max_pool_2x2(x)
    return x.reshape(x.shape[0], -1)


def check_divisible(shape: tuple[int, ...], num_pools: int = NUM_POOLS) -> None:
    """Raises UserError unless `num_pools` poolings halve height and width without a rest."""
    factor = 2**num_pools
    if shape[0] % factor or shape[1] % factor:
        raise ArgumentError(
            "dataset",
            f"images of {shape[0]}x{shape[1]} are not accepted; height and width must"
            f" be multiples of {factor}, since the network downsamples {num_pools} times",
        )


def to_float(images: jax.Array) -> jax.Array:
    """Scales uint8 images to floats in [0, 1]; returns floats unchanged."""
    if not jnp.issubdtype(images.dtype, jnp.integer):
        return images
    return images.astype(jnp.float32) / 255


def random_translate(x: jax.Array, example_keys: jax.Array, max_translation: int) -> jax.Array:
    """Translates images by uniformly sampled numbers of pixels, up to the maximum, on either axis.

    The fill value is the median of the image's border pixels.

    Args:
      x: [batch, height, width, channels].
      example_keys: [batch] PRNG keys.
      max_translation: in pixels.
    """
    if max_translation == 0:
        return x
    edges = np.array([0, -1])
    border = jnp.concatenate([x[:, edges], x[:, 1:-1, edges].swapaxes(1, 2)], axis=2)
    background = jnp.median(border, axis=(1, 2), keepdims=True)
    padding = ((0, 0), (max_translation,) * 2, (max_translation,) * 2, (0, 0))
    padded = jnp.pad(x, padding)
    inside = np.pad(np.ones((1, *x.shape[1:3], 1), bool), padding)
    padded = jnp.where(inside, padded, background)

    def crop(image, key):
        row, column = jax.random.randint(key, (2,), 0, 2 * max_translation + 1, jnp.int32)
        return jax.lax.dynamic_slice(image, (row, column, jnp.int32(0)), x.shape[1:])

    return jax.vmap(crop)(padded, example_keys)


def augment(
    config: Any, batch: Batch, key: Key, *, train: bool
) -> tuple[jax.Array, jax.Array | None]:
    """Returns float images, in training randomly translated, and the keys of dropout or None.

    An image's translation and dropout derive from `key` and its `example_index`.
    """
    images = to_float(batch["images"])
    if not train:
        return images, None
    dropout_keys = keys.per_example(key, batch["example_index"])
    translation_keys = jax.vmap(functools.partial(jax.random.fold_in, data=1))(dropout_keys)
    return random_translate(images, translation_keys, config.max_translation), dropout_keys


def loss(
    model: ImageClassifier, variables: Variables, batch: Batch, key: Key, *, train: bool, **_: Any
) -> LossOutput:
    """Sums the cross-entropy of the class labels, in nats, and the top-1 `accuracy`.

    The batch holds `images [batch, height, width, channels]` uint8, or floats in [0, 1]; `labels`,
    `weights` and `example_index`, each `[batch]`; images of weight 0 are ignored.
    """
    x, dropout_keys = augment(model.config, batch, key, train=train)
    logits = model.apply(variables, x, dropout_keys=dropout_keys)
    return cross_entropy_output(logits, batch["labels"], batch["weights"])


train_step = build_train_step(loss)


@functools.partial(jax.jit, static_argnames="model")
def predict(model: ImageClassifier, params: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns features `[batch, feature_dim]` and class probabilities `[batch, classes]`.

    Both are in at least float32.
    """
    bound = model.bind({"params": params})
    features = at_least_float32(bound.features(to_float(images)))
    return features, jax.nn.softmax(bound.head(features), axis=-1)
