"""A sparse autoencoder of image patches.

Ng 2011 ("Sparse autoencoder", CS294A lecture notes). Shapes with the reference sizes:

    x: patches in [0.1, 0.9]          [batch, 64]
    a2 = sigmoid(x W1 + b1)           [batch, 25]        64 * 25 + 25 = 1,625
    a3 = sigmoid(a2 W2 + b2)          [batch, 64]        25 * 64 + 64 = 1,664
                                                         total          3,289
    cost = 1/2 mean |a3 - x|^2  +  lambda/2 (|W1|^2 + |W2|^2)  +  beta sum_j KL(rho || mean a2_j)

A tied kernel counts once in the penalty.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs.config import ArgumentError, positive, setting
from jaxlabs.layers.matmul import matmul
from jaxlabs.losses.loss_output import Batch, Key, LossOutput, Variables
from jaxlabs.losses.sparsity import k_sparse, kl_sparsity
from jaxlabs.models.model_config import ModelConfig, matmul_precision_setting
from jaxlabs.training.step import build_train_step


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseAutoencoderConfig(ModelConfig):
    """Sizes and weights of the cost; the defaults are those of the lecture notes."""

    patch_size: int = positive(8, "side length of a square patch, in pixels")
    hidden_size: int = positive(25, "number of hidden units", aliases=("hidden",))
    sparsity_rho: float = setting(
        0.01, "rho: target mean activation", above=0, maximum=0.999, aliases=("sparsity_target",)
    )
    sparsity_weight: float = setting(3.0, "beta: weight of the sparsity term", minimum=0)
    l2_penalty: float = setting(
        1e-4, "lambda: weight of the L2 penalty", minimum=0, aliases=("weight_penalty",)
    )
    tied: bool = setting(False, "use the transposed encoder kernel as the decoder kernel")
    k_sparse: int | None = positive(
        None,
        "number of largest hidden units that are kept per example; none: all",
        aliases=("top_k",),
    )
    matmul_precision: str = matmul_precision_setting("highest")

    def check(self) -> None:
        if self.k_sparse is not None and self.k_sparse > self.hidden_size:
            raise ArgumentError(
                "k_sparse",
                f"{self.k_sparse} is not accepted; at most `hidden_size` {self.hidden_size}",
            )

    @property
    def visible(self) -> int:
        """Number of pixels of a patch."""
        return self.patch_size**2


class SparseAutoencoder(nn.Module):
    """Maps patches to codes and reconstructions."""

    config: SparseAutoencoderConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns codes `[batch, hidden_size]` and reconstructions `[batch, visible]` of `x`."""
        config = self.config
        visible, hidden = config.visible, config.hidden_size
        zeros = nn.initializers.zeros_init()
        kernel = self.param("encoder_kernel", _uniform, (visible, hidden), jnp.float32)
        z = matmul(x, kernel, config.output_precision)
        z = nn.sigmoid(z + self.param("encoder_bias", zeros, (hidden,), jnp.float32)[None, :])
        if config.k_sparse is not None:
            z = k_sparse(z, config.k_sparse)
        if config.tied:
            decoder_kernel = kernel.T
        else:
            decoder_kernel = self.param("decoder_kernel", _uniform, (hidden, visible), jnp.float32)
        output = matmul(z, decoder_kernel, config.output_precision)
        bias = self.param("decoder_bias", zeros, (visible,), jnp.float32)
        return z, nn.sigmoid(output + bias[None, :])


def _uniform(key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
    """Samples uniformly from +-sqrt(6 / (in + out + 1)), as in the lecture notes."""
    limit = (6 / (sum(shape) + 1)) ** 0.5
    return jax.random.uniform(key, shape, dtype, -limit, limit)


def loss(
    model: SparseAutoencoder,
    variables: Variables,
    batch: Batch,
    key: Key,
    *,
    train: bool,
    axis_name: str | None = None,
    **_: Any,
) -> LossOutput:
    """Sums the cost over the patches of a batch; the mean is the cost above.

    The mean activations are over the whole batch on all devices of `axis_name`, which micro-batches
    do not allow: this loss needs `grad_accum_steps=1`. The batch holds `patches [batch, visible]`
    and `weights [batch]`; patches of weight 0 are ignored. The metrics are the three terms
    `reconstruction`, `weight_term` and `sparsity_term`, the `l1_error` summed over the pixels, and
    the `mean_activation`.
    """
    config, patches, weights = model.config, batch["patches"], batch["weights"]
    z, output = model.apply(variables, patches)
    weight = weights.sum()
    mean_activation = _mean_over_batch(z, weights, axis_name)
    kernels = [leaf for name, leaf in variables["params"].items() if name.endswith("kernel")]
    squares = (jnp.sum(jnp.square(kernel)) for kernel in kernels)
    terms = {
        "reconstruction": jnp.sum(jnp.square(output - patches).sum(axis=-1) * weights) / 2,
        "weight_term": weight * config.l2_penalty / 2 * sum(squares),
        "sparsity_term": weight
        * config.sparsity_weight
        * kl_sparsity(mean_activation, config.sparsity_rho).sum(),
    }
    metrics = {
        "l1_error": jnp.sum(jnp.abs(output - patches).sum(axis=-1) * weights),
        "mean_activation": weight * mean_activation.mean(),
    }
    return LossOutput(loss_sum=sum(terms.values()), weight_sum=weight, metric_sums=terms | metrics)


def _mean_over_batch(x: jax.Array, weights: jax.Array, axis_name: str | None) -> jax.Array:
    """Returns the weighted mean `[units]` of `x [batch, units]`, over all devices."""
    total, weight = jnp.sum(x * weights[:, None], axis=0), weights.sum()
    if axis_name is not None:
        total, weight = jax.lax.psum((total, weight), axis_name)
    return total / jnp.maximum(weight, 1)


train_step = build_train_step(loss)
