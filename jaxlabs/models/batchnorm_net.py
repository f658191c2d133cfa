"""An image classifier with batch norm, layer norm or no normalization.

Two networks, each with any number of hidden layers. Shapes with the default sizes:

    mlp   x: pixels in [0, 1]             [batch, 784]
          5 x (dense, norm, relu)         [batch, 64]
          logits                          [batch, 10]          67,850 parameters with batch norms

    cnn   x: pixels in [0, 1]             [batch, 28, 28, 1]
          5 x (convolution, norm, relu)   [batch, 7, 7, 8]     max-pool after the first two
          logits                          [batch, 10]          6,386 parameters with batch norms

The norm precedes the nonlinearity, as in Ioffe and Szegedy (2015), and replaces the bias, which it
would cancel or duplicate.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs.config import positive, setting
from jaxlabs.layers.batch_norm import BatchNorm
from jaxlabs.layers.convolution import conv3x3, max_pool_2x2
from jaxlabs.layers.dtypes import at_least_float32, cast
from jaxlabs.layers.matmul import dot_general, matmul
from jaxlabs.layers.normalization import build_norm
from jaxlabs.losses.cross_entropy import cross_entropy_output
from jaxlabs.losses.loss_output import Batch, Key, LossOutput, Variables
from jaxlabs.models.image_classifier import NUM_POOLS, check_divisible, to_float
from jaxlabs.models.model_config import ModelConfig, num_layers_setting
from jaxlabs.training.step import build_train_step

NETWORKS = ("mlp", "cnn")
NORMS = ("none", "batch", "layer")
DEFAULT_SIZES = {"mlp": 64, "cnn": 8}


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormNetConfig(ModelConfig):
    """Architecture and sizes of the network; the norm is an attribute of the model."""

    network: str = setting(
        "mlp", "architecture: dense layers (mlp) or convolutions (cnn)", choices=NETWORKS
    )
    num_layers: int = num_layers_setting(5, "number of hidden layers")
    hidden_size: int | None = positive(
        None, "units (mlp) or channels (cnn) of a hidden layer; none: 64 or 8", aliases=("width",)
    )
    init_gain: float = setting(
        1.0,
        "factor on the He initialization (He et al. 2015) of the kernels",
        above=0,
        aliases=("gain",),
    )


class NormNet(nn.Module):
    """Maps images to class logits."""

    config: NormNetConfig
    num_classes: int  #: number of classes
    norm: str  #: normalization of the hidden layers, one of NORMS

    def setup(self):
        self.hidden = [HiddenLayer(self.config, self.norm) for _ in range(self.config.num_layers)]
        # Zeros, so that all networks start at the loss of uniform predictions.
        zeros = nn.initializers.zeros_init()
        self.head = nn.Dense(
            self.num_classes,
            kernel_init=zeros,
            dot_general=dot_general(self.config.output_precision),
        )

    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool = False,
        weights: jax.Array | None = None,
        axis_name: str | None = None,
    ) -> jax.Array:
        """Returns logits `[batch, classes]` for pixels `x [batch, height, width, channels]`.

        The pixels are in [0, 1]. In training batch norm uses and updates with the statistics of
        the images whose `weights [batch]` are not 0, over all devices of `axis_name`; then apply
        with `mutable=["batch_stats"]`.
        """
        convolve = self.config.network == "cnn"
        if convolve:
            check_divisible(x.shape[1:])
        else:
            x = x.reshape(x.shape[0], -1)
        for index, layer in enumerate(self.hidden):
            x = layer(x, train=train, weights=weights, axis_name=axis_name)
            if convolve and index < NUM_POOLS:
                x = max_pool_2x2(x)
        return self.head(x.reshape(x.shape[0], -1))


class HiddenLayer(nn.Module):
    """A linear map, a norm and a ReLU; the input and output of the norm are sown."""

    config: NormNetConfig
    #: one of NORMS; "layer" averages over the last axis, for images over the channels of each
    #: pixel, "batch" over images and pixels
    norm: str

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, weights: jax.Array | None, axis_name: str | None
    ) -> jax.Array:
        """Returns `[batch, hidden_size]` (mlp) or `[batch, height, width, hidden_size]` (cnn)."""
        config = self.config
        size = config.hidden_size or DEFAULT_SIZES[config.network]
        dense = config.network == "mlp"
        shape = (x.shape[-1], size) if dense else (3, 3, x.shape[-1], size)
        init = nn.initializers.variance_scaling(2.0 * config.init_gain**2, "fan_in", "normal")
        linear = matmul if dense else conv3x3
        kernel = self.param("kernel", init, shape, jnp.float32)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=config.dtype)
        z = linear(x, kernel, config.matmul_precision)
        self.sow("intermediates", "linear", at_least_float32(z))
        if self.norm == "batch":
            norm = BatchNorm(axes=tuple(range(z.ndim - 1)), name="norm")
            z = norm(z, train=train, weights=weights, axis_name=axis_name)
        elif self.norm == "layer":
            z = build_norm("layernorm", dtype=config.dtype)(z)
        else:
            bias = self.param("bias", nn.initializers.zeros_init(), (size,), jnp.float32)
            z = z + cast(bias, config.dtype).reshape((1,) * (z.ndim - 1) + (-1,))
        self.sow("intermediates", "normalized", at_least_float32(z))
        return nn.relu(z)


def loss(
    model: NormNet,
    variables: Variables,
    batch: Batch,
    key: Key,
    *,
    train: bool,
    axis_name: str | None = None,
    **_: Any,
) -> LossOutput:
    """Sums the cross-entropy of the class labels, in nats, and the top-1 `accuracy`.

    The batch holds `images [batch, height, width, channels]` uint8, or floats in [0, 1]; `labels
    [batch]` and `weights [batch]`; images of weight 0 are ignored. In training with batch norm the
    output has `new_batch_stats`, the new running statistics, over all devices of `axis_name`.
    """
    logits, updated = model.apply(
        variables,
        to_float(batch["images"]),
        train=train,
        weights=batch["weights"],
        axis_name=axis_name,
        mutable=["batch_stats"] if train else [],
    )
    output = cross_entropy_output(logits, batch["labels"], batch["weights"])
    return output._replace(new_batch_stats=updated.get("batch_stats"))


train_step = build_train_step(loss)
