"""A deterministic or variational autoencoder: the same networks, two objectives.

Kingma and Welling 2013 ("Auto-Encoding Variational Bayes"), in the sizes of Burda, Grosse and
Salakhutdinov 2015 ("Importance Weighted Autoencoders", section 5). Shapes with these sizes:

    x: pixels in [0, 1]                  [batch, 784]
    encoder: tanh x 2                    [batch, 200]   784 * 200 + 200 + 200 * 200 + 200 = 197,200
    mean and log variance of q(z|x)      [batch, 50]    2 * (200 * 50 + 50)               =  20,100
    z = mean + deviation * noise         [batch, 50]    ae: z = mean
    decoder: tanh x 2                    [batch, 200]   50 * 200 + 200 + 200 * 200 + 200  =  50,400
    logits (or means) of p(x|z)          [batch, 784]   200 * 784 + 784                   = 157,584
                                                        total                               425,284
    ae:  -log p(x|z)
    vae: -log p(x|z) + beta KL(q(z|x) || N(0, 1))
"""

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs import keys
from jaxlabs.config import positive, setting
from jaxlabs.layers.matmul import dot_general
from jaxlabs.losses.elbo import (
    bernoulli_log_likelihood,
    gaussian_kl,
    gaussian_log_likelihood,
    importance_weighted_bound,
)
from jaxlabs.losses.loss_output import Batch, Key, LossOutput, Variables
from jaxlabs.models import image_classifier
from jaxlabs.models.model_config import ModelConfig
from jaxlabs.training.step import build_train_step

OBJECTIVES = AE, VAE = ("ae", "vae")
ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid}
MAX_ROWS = 1000
"""Decoder rows in a chunk of the importance-weighted bound: activations that fit into the cache."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(ModelConfig):
    """Sizes and objective; the defaults are the sizes of Burda et al."""

    objective: str = setting(
        VAE,
        "objective: the reconstruction loss (ae) or the negative evidence lower bound (vae)",
        choices=OBJECTIVES,
    )
    latent_dim: int = positive(50, "size of the latent code", aliases=("latent",))
    hidden_size: int = positive(200, "size of each hidden layer", aliases=("hidden",))
    num_hidden_layers: int = setting(
        2,
        "hidden layers of the encoder and of the decoder; 0: both are linear",
        minimum=0,
        maximum=1000,
        aliases=("hidden_layers",),
    )
    activation: str = setting("tanh", "activation of the hidden layers", choices=tuple(ACTIVATIONS))
    likelihood: str = setting(
        "bernoulli",
        "likelihood of a pixel: bernoulli with logit output, or gaussian with mean output",
        choices=("bernoulli", "gaussian"),
    )
    observation_std: float | None = setting(
        1.0,
        "standard deviation of the gaussian likelihood; none: one learned value",
        above=0,
        aliases=("scale",),
    )
    beta: float = setting(1.0, "weight of the KL divergence; 1 makes the loss a bound", minimum=0)
    beta_warmup_steps: int = setting(
        0, "steps over which the weight of the KL divergence rises from 0 to beta", minimum=0
    )
    free_bits: float = setting(
        0.0,
        "nats per latent unit and example below which the KL divergence is not penalized",
        minimum=0,
    )

    @property
    def variational(self) -> bool:
        """Whether the encoder outputs a distribution."""
        return self.objective == VAE


class Autoencoder(nn.Module):
    """Maps images to latent codes and reconstructions."""

    config: AutoencoderConfig
    shape: tuple[int, int, int]  #: (height, width, channels) of an image
    #: whether training pixels are sampled at every step from Bernoulli distributions with the gray
    #: values as means (Salakhutdinov and Murray 2008)
    sample_binary: bool = False

    def setup(self):
        config = self.config
        self.encoder = [self._dense(config.hidden_size) for _ in range(config.num_hidden_layers)]
        self.z_mean = self._output(config.latent_dim)
        if config.variational:
            self.z_log_var = self._output(config.latent_dim)
        self.decoder = [self._dense(config.hidden_size) for _ in range(config.num_hidden_layers)]
        self.output = self._output(math.prod(self.shape))
        if config.likelihood == "gaussian" and config.observation_std is None:
            self.log_scale = self.param("log_scale", nn.initializers.zeros_init(), (), jnp.float32)

    def _dense(self, features: int) -> nn.Dense:
        init = nn.initializers.glorot_uniform()
        multiply = dot_general(self.config.matmul_precision)
        return nn.Dense(features, dtype=self.config.dtype, kernel_init=init, dot_general=multiply)

    def _output(self, features: int) -> nn.Dense:
        """Returns a layer whose result is in at least float32."""
        init = nn.initializers.glorot_uniform()
        multiply = dot_general(self.config.output_precision)
        return nn.Dense(features, kernel_init=init, dot_general=multiply)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the decoder output `[batch, pixels]` at the mean code of `x [batch, pixels]`."""
        return self.decode(self.encode(x)[0])

    def encode(self, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Returns mean and log variance `[..., latent_dim]` of `q(z|x)`; None for ae."""
        for layer in self.encoder:
            x = ACTIVATIONS[self.config.activation](layer(x))
        return self.z_mean(x), self.z_log_var(x) if self.config.variational else None

    def decode(self, z: jax.Array) -> jax.Array:
        """Returns logits or gaussian means `[..., pixels]` for codes `[..., latent_dim]`."""
        for layer in self.decoder:
            z = ACTIVATIONS[self.config.activation](layer(z))
        return self.output(z)

    def log_likelihood(self, output: jax.Array, x: jax.Array) -> jax.Array:
        """Returns `log p(x|z)` in nats `[...]`, given the decoder's output for z."""
        if self.config.likelihood == "bernoulli":
            return bernoulli_log_likelihood(output, x)
        learned = self.config.observation_std is None
        log_scale = self.log_scale if learned else math.log(self.config.observation_std)
        return gaussian_log_likelihood(output, x, log_scale)

    def decode_mean(self, output: jax.Array) -> jax.Array:
        """Returns the mean of `p(x|z)`, given the decoder's output for z."""
        return jax.nn.sigmoid(output) if self.config.likelihood == "bernoulli" else output


def loss(
    model: Autoencoder,
    variables: Variables,
    batch: Batch,
    key: Key,
    *,
    train: bool,
    step: int | jax.Array = 0,
    **_: Any,
) -> LossOutput:
    """Sums the objective over the valid images of a batch, in nats.

    One posterior sample per image, with noise from the image's own key, estimates the expectation
    in the bound (Kingma and Welling 2013, equation 10). Free bits (after Kingma et al. 2016,
    section "Improving optimization") clamp the KL divergence of every latent unit in every example
    from below; theirs clamp the mean over the batch, which would not add up over micro-batches.

    The batch holds `images [batch, height, width, channels]` uint8, or floats in [0, 1]; `weights
    [batch]`, images of weight 0 are ignored; `example_index [batch]`. In training `sample_binary`,
    the warm-up of beta by `step` and free bits apply.

    The metrics are `reconstruction`, the `squared_error` summed over pixels and, if variational,
    the KL divergence `kl`. The evaluation loss is `reconstruction` + beta `kl`: with beta 1 the
    negative evidence lower bound.
    """
    config = model.config
    apply = functools.partial(model.apply, variables)
    x, weights = to_float(batch["images"]), batch["weights"]
    example_keys = keys.per_example(key, batch["example_index"])
    if train and model.sample_binary:
        x = _sample_binary(x, example_keys)
    z, log_variance = apply(x, method="encode")
    if config.variational:
        noise = _noise(example_keys, (config.latent_dim,), z.dtype)
        kl = gaussian_kl(z, log_variance)
        z = z + jnp.exp(log_variance / 2) * noise
    output = apply(z, method="decode")
    reconstruction = -apply(output, x, method="log_likelihood")
    error = jnp.square(apply(output, method="decode_mean") - x).sum(axis=-1)
    sums = {"reconstruction": reconstruction @ weights, "squared_error": error @ weights}
    total = sums["reconstruction"]
    if config.variational:
        sums["kl"] = kl.sum(axis=-1) @ weights
        beta = config.beta
        if train and config.beta_warmup_steps:
            beta *= jnp.minimum(1.0, (step + 1) / config.beta_warmup_steps)
        if train and config.free_bits:
            kl = jnp.maximum(kl, config.free_bits)
        total = total + beta * (kl.sum(axis=-1) @ weights)
    return LossOutput(loss_sum=total, weight_sum=weights.sum(), metric_sums=sums)


def to_float(images: jax.Array) -> jax.Array:
    """Flattens images `[batch, ...]` to floats in [0, 1], `[batch, pixels]`."""
    return image_classifier.to_float(images.reshape(images.shape[0], -1))


def _sample_binary(x: jax.Array, example_keys: jax.Array) -> jax.Array:
    """Samples pixels that are 1 with probability x."""

    def uniform(key: jax.Array) -> jax.Array:
        return jax.random.uniform(jax.random.fold_in(key, 1), x.shape[1:], jnp.float32)

    return (jax.vmap(uniform)(example_keys) < x).astype(x.dtype)


def _noise(example_keys: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(example_keys)


train_step = build_train_step(loss)


@functools.partial(jax.jit, static_argnames="model")
def encode(
    model: Autoencoder, params: Any, images: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    """Returns mean and log variance `[batch, latent_dim]` of the codes of images; see `loss`.

    A deterministic autoencoder has no log variance: None.
    """
    return model.apply({"params": params}, to_float(images), method="encode")


@functools.partial(jax.jit, static_argnames="model")
def decode(model: Autoencoder, params: Any, codes: jax.Array) -> jax.Array:
    """Returns mean images `[..., height, width, channels]` in [0, 1] for codes."""
    bound = model.bind({"params": params})
    pixels = jnp.clip(bound.decode_mean(bound.decode(codes)), 0, 1)
    return pixels.reshape(*codes.shape[:-1], *model.shape)


@functools.partial(jax.jit, static_argnames=("model", "count"))
def sample_prior(model: Autoencoder, params: Any, key: jax.Array, count: int) -> jax.Array:
    """Returns mean images `[count, ...]` for codes sampled from the prior N(0, 1).

    A deterministic autoencoder has no prior, so its images for such codes are arbitrary.
    """
    codes = jax.random.normal(key, (count, model.config.latent_dim), jnp.float32)
    return decode(model, params, codes)


def interpolate(
    model: Autoencoder, params: Any, first: jax.Array, last: jax.Array, count: int
) -> jax.Array:
    """Returns images `[pairs, count, ...]` for codes on straight lines between mean codes.

    The lines lead from the codes of `first [pairs, ...]` to those of `last [pairs, ...]`.
    """
    start, end = (encode(model, params, images)[0] for images in (first, last))
    share = jnp.linspace(0, 1, count)[None, :, None]
    return decode(model, params, start[:, None] * (1 - share) + end[:, None] * share)


@functools.partial(jax.jit, static_argnames=("model", "samples"))
def iwae_bound(
    model: Autoencoder, params: Any, batch: dict[str, jax.Array], key: jax.Array, *, samples: int
) -> jax.Array:
    """Returns the importance-weighted bound on `log p(x)` of every image, in nats, `[batch]`.

    The model is variational. `samples` posterior samples per image, whose noise derives from `key`
    and `example_index`, are computed in chunks, so memory does not grow with their number.
    """
    bound = model.bind({"params": params})
    x = to_float(batch["images"])
    mean, log_variance = bound.encode(x)
    most = max(1, MAX_ROWS // x.shape[0])
    chunk = max(size for size in range(1, most + 1) if samples % size == 0)
    example_keys = keys.per_example(key, batch["example_index"])

    def add(total, index):
        chunk_keys = jax.vmap(jax.random.fold_in, (0, None))(example_keys, index)
        noise = _noise(chunk_keys, (chunk, mean.shape[1]), mean.dtype).swapaxes(0, 1)
        z = mean[None] + jnp.exp(log_variance / 2)[None] * noise
        # log p(z) - log q(z|x): the normalizing constants cancel.
        prior = jnp.sum(jnp.square(noise) - jnp.square(z) + log_variance[None], axis=-1) / 2
        repeated = jnp.broadcast_to(x[None], (chunk, *x.shape))
        log_weights = bound.log_likelihood(bound.decode(z), repeated) + prior
        return jnp.logaddexp(total, importance_weighted_bound(log_weights)), None

    chunks = samples // chunk
    start = jnp.full(x.shape[:1], -jnp.inf, mean.dtype)
    total, _ = jax.lax.scan(add, start, jnp.arange(chunks))
    return total - math.log(chunks)
