"""A classifier of pictures whose hidden layers are normalized over the batch, by themselves or not.

Two networks, each with any number of hidden layers. Shapes with the default sizes:

    mlp   x: pixels in [0, 1]             [batch, 784]
          5 x (dense, norm, relu)         [batch, 64]
          logits                          [batch, 10]          67,850 parameters with batch norms

    cnn   x: pixels in [0, 1]             [batch, 28, 28, 1]
          5 x (convolution, norm, relu)   [batch, 7, 7, 8]     max-pool after the first two
          logits                          [batch, 10]          6,386 parameters with batch norms

The norm stands before the nonlinearity, where Ioffe and Szegedy (2015) put it, and takes the place
of the bias, which it would undo or repeat.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs.config import Config, setting
from jaxlabs.layers.conv3x3 import conv3x3
from jaxlabs.layers.convolution import max_pool
from jaxlabs.layers.matmul import PRECISIONS, Dense, matmul
from jaxlabs.layers.normalization import BatchNorm, build_norm
from jaxlabs.losses.cross_entropy import scored
from jaxlabs.losses.loss_output import LossOutput
from jaxlabs.models.image_classifier import NUM_POOLS, require_divisible, to_float
from jaxlabs.training.state import TrainState
from jaxlabs.training.step import build_train_step

NETWORKS = ("mlp", "cnn")
NORMS = ("none", "batch", "layer")
WIDTHS = {"mlp": 64, "cnn": 8}


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormalizedNetworkConfig(Config):
    """Kind and sizes of the network; whether it is normalized is the model's own attribute."""

    network: str = setting("mlp", "dense layers (mlp) or convolutions (cnn)", choices=NETWORKS)
    num_layers: int = setting(5, "hidden layers", minimum=1, maximum=1000, aliases=("layers",))
    hidden_size: int | None = setting(
        None,
        "units (mlp) or channels (cnn) of a hidden layer; none: 64 or 8",
        minimum=1,
        aliases=("width",),
    )
    init_gain: float = setting(
        1.0,
        "first kernels are this many times as large as He et al. (2015) draw them",
        above=0,
        aliases=("gain",),
    )
    matmul_precision: str = setting(
        "default",
        "float32 (highest), the platform's own (default), bfloat16 with float32 sums (bfloat16)",
        choices=PRECISIONS,
        value_aliases={"fast": "bfloat16"},
    )


class NormalizedNetwork(nn.Module):
    """Pictures in, logits of their classes out.

    Attributes:
      config: see `NormalizedNetworkConfig`.
      classes: how many there are.
      norm: of the hidden layers, one of NORMS.
    """

    config: NormalizedNetworkConfig
    classes: int
    norm: str

    def setup(self):
        self.hidden = [HiddenLayer(self.config, self.norm) for _ in range(self.config.num_layers)]
        # Zeros, so that all kinds start from the same loss, that of a guess.
        zeros = nn.initializers.zeros_init()
        self.head = Dense(self.classes, kernel_init=zeros, precision=self.config.matmul_precision)

    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool = False,
        weights: jax.Array | None = None,
        axis_name: str | None = None,
    ) -> jax.Array:
        """Returns logits `[batch, classes]` for pixels `x [batch, height, width, channels]`.

        Args:
          x: in [0, 1].
          train: whether a batch norm uses, and keeps, the statistics of these pictures; then apply
            with `mutable=["batch_stats"]`.
          weights: [batch]; pictures of weight 0 do not count in statistics.
          axis_name: the mapped axis, see `jaxlabs.layers.normalization.batch_statistics`.
        """
        convolve = self.config.network == "cnn"
        if convolve:
            require_divisible(x.shape[1:])
        else:
            x = x.reshape(x.shape[0], -1)
        for number, layer in enumerate(self.hidden):
            x = layer(x, train=train, weights=weights, axis_name=axis_name)
            if convolve and number < NUM_POOLS:
                x = max_pool(x)
        return self.head(x.reshape(x.shape[0], -1))


class HiddenLayer(nn.Module):
    """A linear map, a norm and a relu; what goes in and out of the norm is sown for analyses.

    Attributes:
      config: of the network.
      norm: one of NORMS; "layer" averages over the last axis, so in pictures over the channels of
        every place, "batch" over pictures and places.
    """

    config: NormalizedNetworkConfig
    norm: str

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, weights: jax.Array | None, axis_name: str | None
    ) -> jax.Array:
        """Returns `[batch, width]` for `x [batch, in]`, or `[batch, height, width, channels]`."""
        config = self.config
        width = config.hidden_size or WIDTHS[config.network]
        dense = config.network == "mlp"
        shape = (x.shape[-1], width) if dense else (3, 3, x.shape[-1], width)
        init = nn.initializers.variance_scaling(2.0 * config.init_gain**2, "fan_in", "normal")
        linear = matmul if dense else conv3x3
        z = linear(x, self.param("kernel", init, shape, jnp.float32), config.matmul_precision)
        self.sow("intermediates", "linear", z)
        if self.norm == "batch":
            norm = BatchNorm(axes=tuple(range(z.ndim - 1)), name="norm")
            z = norm(z, train=train, weights=weights, axis_name=axis_name)
        elif self.norm == "layer":
            z = build_norm("layernorm")(z)
        else:
            bias = self.param("bias", nn.initializers.zeros_init(), (width,), jnp.float32)
            z = z + bias.reshape((1,) * (z.ndim - 1) + (-1,))
        self.sow("intermediates", "normalized", z)
        return nn.relu(z)


def loss(
    params: Any, batch: dict[str, jax.Array], key: jax.Array, state: TrainState, train: bool
) -> LossOutput:
    """Sums the cross-entropy of the pictures' classes, in nats.

    Args:
      params: the model's parameters.
      batch: `images [batch, height, width, channels]` uint8, or in [0, 1] as floats; `labels
        [batch]` and `weights [batch]`; pictures of weight 0 count nowhere.
      key: not used: nothing is random.
      state: holds the model, its running statistics and the mapped axis.
      train: whether a batch norm uses the statistics of this batch, or the running ones.

    Returns:
      LossOutput whose `sums` hold `accuracy`, and whose `updates` are new running statistics in
      training with a batch norm, else None.
    """
    logits, updated = state.model.apply(
        state.variables(params),
        to_float(batch["images"]),
        train=train,
        weights=batch["weights"],
        axis_name=state.axis_name,
        mutable=["batch_stats"] if train else [],
    )
    parts = scored(logits, batch["labels"], batch["weights"])
    return parts._replace(updates=updated.get("batch_stats"))


train_step = build_train_step(loss)
