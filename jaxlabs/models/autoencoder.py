"""An autoencoder, plain or variational: two networks of the same shapes, two objectives.

Kingma and Welling 2013 ("Auto-Encoding Variational Bayes"), in the sizes of Burda, Grosse and
Salakhutdinov 2015 ("Importance Weighted Autoencoders", section 5). Shapes with these sizes:

    x: pixels in [0, 1]                  [batch, 784]
    encoder: tanh x 2                    [batch, 200]   784 * 200 + 200 + 200 * 200 + 200 = 197,200
    mean and log variance of q(z|x)      [batch, 50]    2 * (200 * 50 + 50)               =  20,100
    z = mean + deviation * noise         [batch, 50]    plain: z = mean
    decoder: tanh x 2                    [batch, 200]   50 * 200 + 200 + 200 * 200 + 200  =  50,400
    logits (or means) of p(x|z)          [batch, 784]   200 * 784 + 784                   = 157,584
                                                        all                                 425,284
    plain:       -log p(x|z)
    variational: -log p(x|z) + beta KL(q(z|x) || N(0, 1))
"""

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs import keys
from jaxlabs.config import Config, setting
from jaxlabs.layers.matmul import PRECISIONS, Dense
from jaxlabs.losses.elbo import (
    bernoulli_log_likelihood,
    gaussian_kl,
    gaussian_log_likelihood,
    importance_weighted_bound,
)
from jaxlabs.losses.loss_output import LossOutput
from jaxlabs.training.state import TrainState
from jaxlabs.training.step import build_train_step

OBJECTIVES = PLAIN, VARIATIONAL = ("ae", "vae")
ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid}
MAX_ROWS = 1000
"""Decoder rows in a chunk of the importance-weighted bound: few enough to stay in a cache."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(Config):
    """Sizes and the objective; the defaults are the sizes of Burda et al."""

    objective: str = setting(
        VARIATIONAL,
        "reconstruction alone (ae), or the negative evidence lower bound (vae)",
        choices=OBJECTIVES,
    )
    latent_dim: int = setting(
        50, "latent units: the width of the code", minimum=1, aliases=("latent",)
    )
    hidden_size: int = setting(200, "units of each hidden layer", minimum=1, aliases=("hidden",))
    num_hidden_layers: int = setting(
        2,
        "hidden layers of encoder and of decoder; 0: both are linear",
        minimum=0,
        maximum=1000,
        aliases=("hidden_layers",),
    )
    activation: str = setting("tanh", "of the hidden layers", choices=tuple(ACTIVATIONS))
    likelihood: str = setting(
        "bernoulli",
        "of a pixel: 1 with probability sigmoid(output), or normal around the output",
        choices=("bernoulli", "gaussian"),
    )
    observation_std: float | None = setting(
        1.0,
        "standard deviation of a gaussian pixel; none: one for all, learned",
        above=0,
        aliases=("scale",),
    )
    beta: float = setting(1.0, "weight of the divergence; 1 makes the loss a bound", minimum=0)
    beta_warmup_steps: int = setting(
        0, "steps over which the weight of the divergence rises from 0 to beta", minimum=0
    )
    free_bits: float = setting(
        0.0,
        "nats per unit and example below which the divergence is not lowered further",
        minimum=0,
    )
    matmul_precision: str = setting(
        "default",
        "float32 (highest), the platform's own (default), bfloat16 with float32 sums (bfloat16)",
        choices=PRECISIONS,
        value_aliases={"fast": "bfloat16"},
    )

    @property
    def variational(self) -> bool:
        """Whether codes are distributions."""
        return self.objective == VARIATIONAL


class Autoencoder(nn.Module):
    """Pictures in, their codes and their reconstructions out.

    Attributes:
      config: see `AutoencoderConfig`.
      shape: (height, width, channels) of a picture.
      redraw: whether training is on pixels that are 1 with their gray value's probability, drawn at
        every step (Salakhutdinov and Murray 2008).
    """

    config: AutoencoderConfig
    shape: tuple[int, int, int]
    redraw: bool = False

    def setup(self):
        config = self.config
        self.encoder = [self._dense(config.hidden_size) for _ in range(config.num_hidden_layers)]
        self.code_mean = self._dense(config.latent_dim)
        if config.variational:
            self.code_log_variance = self._dense(config.latent_dim)
        self.decoder = [self._dense(config.hidden_size) for _ in range(config.num_hidden_layers)]
        self.output = self._dense(math.prod(self.shape))
        if config.likelihood == "gaussian" and config.observation_std is None:
            self.log_scale = self.param("log_scale", nn.initializers.zeros_init(), (), jnp.float32)

    def _dense(self, features: int) -> Dense:
        init = nn.initializers.glorot_uniform()
        return Dense(features, kernel_init=init, precision=self.config.matmul_precision)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the output `[batch, pixels]` for the mean code of `x [batch, pixels]`."""
        return self.decode(self.encode(x)[0])

    def encode(self, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Returns mean and log variance `[..., latent]` of `q(z|x)`; a plain code has no second."""
        for layer in self.encoder:
            x = ACTIVATIONS[self.config.activation](layer(x))
        return self.code_mean(x), self.code_log_variance(x) if self.config.variational else None

    def decode(self, z: jax.Array) -> jax.Array:
        """Returns logits, or gaussian means, `[..., pixels]` for codes `[..., latent]`."""
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

    def pixels(self, output: jax.Array) -> jax.Array:
        """Returns the expected pixels of an output."""
        return jax.nn.sigmoid(output) if self.config.likelihood == "bernoulli" else output


def loss(
    params: Any, batch: dict[str, jax.Array], key: jax.Array, state: TrainState, train: bool
) -> LossOutput:
    """Sums the objective over the real pictures of a batch, in nats.

    One sample of each picture's posterior, with noise from the picture's own key, estimates the
    expectation in the bound (Kingma and Welling 2013, equation 10). Free bits (after Kingma et al.
    2016, section "Improving optimization") put a floor under the divergence of every unit in every
    example; it is theirs without the mean over the batch, so that slices of a batch add up.

    Args:
      params: the model's parameters.
      batch: `images [batch, height, width, channels]` uint8, 255 is bright, or in [0, 1] as floats;
        `weights [batch]`, pictures of weight 0 do not count; `example [batch]`.
      key: the step's key; those of the examples derive from it and `example`.
      state: holds the model, and the step that the warm-up of beta has got to.
      train: whether pixels are redrawn, beta is warming up and free bits count.

    Returns:
      LossOutput whose `sums` hold `reconstruction`, the `squared_error` summed over the pixels,
      and, where variational, the divergence `kl`. The loss in evaluation is `reconstruction` + beta
      `kl`: with beta 1 the negative evidence lower bound.
    """
    model, config = state.model, state.model.config
    apply = functools.partial(model.apply, {"params": params})
    x, weights = to_float(batch["images"]), batch["weights"]
    example_keys = keys.per_example(key, batch["example"])
    if train and model.redraw:
        x = _redrawn(x, example_keys)
    code, log_variance = apply(x, method="encode")
    if config.variational:
        noise = _noise(example_keys, (config.latent_dim,), code.dtype)
        divergence = gaussian_kl(code, log_variance)
        code = code + jnp.exp(log_variance / 2) * noise
    output = apply(code, method="decode")
    reconstruction = -apply(output, x, method="log_likelihood")
    error = jnp.square(apply(output, method="pixels") - x).sum(axis=-1)
    sums = {"reconstruction": reconstruction @ weights, "squared_error": error @ weights}
    total = sums["reconstruction"]
    if config.variational:
        sums["kl"] = divergence.sum(axis=-1) @ weights
        beta = config.beta
        if train and config.beta_warmup_steps:
            beta *= jnp.minimum(1.0, (state.step + 1) / config.beta_warmup_steps)
        if train and config.free_bits:
            divergence = jnp.maximum(divergence, config.free_bits)
        total = total + beta * (divergence.sum(axis=-1) @ weights)
    return LossOutput(total=total, weight=weights.sum(), sums=sums)


def to_float(images: jax.Array) -> jax.Array:
    """Returns pictures `[batch, ...]` as rows `[batch, pixels]` of values in [0, 1]."""
    rows = images.reshape(images.shape[0], -1)
    return rows.astype(jnp.float32) / 255 if jnp.issubdtype(rows.dtype, jnp.integer) else rows


def _redrawn(x: jax.Array, example_keys: jax.Array) -> jax.Array:
    """Returns pixels that are 1 with probability x; those that are 0 or 1 stay."""

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.uniform(jax.random.fold_in(key, 1), x.shape[1:], jnp.float32)

    return (jax.vmap(draw)(example_keys) < x).astype(x.dtype)


def _noise(example_keys: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(example_keys)


train_step = build_train_step(loss)


@functools.partial(jax.jit, static_argnames="model")
def encode(model: Autoencoder, params: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns mean and log variance `[batch, latent]` of the codes of pictures; see `loss`."""
    return model.apply({"params": params}, to_float(images), method="encode")


@functools.partial(jax.jit, static_argnames="model")
def decode(model: Autoencoder, params: Any, codes: jax.Array) -> jax.Array:
    """Returns the expected pictures `[..., height, width, channels]` in [0, 1] of codes."""
    bound = model.bind({"params": params})
    pixels = jnp.clip(bound.pixels(bound.decode(codes)), 0, 1)
    return pixels.reshape(*codes.shape[:-1], *model.shape)


def sample_prior(model: Autoencoder, params: Any, key: jax.Array, count: int) -> jax.Array:
    """Returns the expected pictures `[count, ...]` of codes drawn from the prior N(0, 1).

    A plain autoencoder has no prior: what it makes of such codes is undefined.
    """
    return decode(
        model, params, jax.random.normal(key, (count, model.config.latent_dim), jnp.float32)
    )


def interpolate(
    model: Autoencoder, params: Any, first: jax.Array, last: jax.Array, count: int
) -> jax.Array:
    """Returns pictures `[pairs, count, ...]` of codes on straight lines between mean codes.

    Args:
      model: the model.
      params: its parameters.
      first: [pairs, ...] pictures whose codes the lines start from.
      last: [pairs, ...] pictures whose codes they end at.
      count: codes on each line, its ends included.
    """
    start, end = (encode(model, params, images)[0] for images in (first, last))
    share = jnp.linspace(0, 1, count)[None, :, None]
    return decode(model, params, start[:, None] * (1 - share) + end[:, None] * share)


@functools.partial(jax.jit, static_argnames=("model", "samples"))
def iwae_bound(
    model: Autoencoder, params: Any, batch: dict[str, jax.Array], key: jax.Array, *, samples: int
) -> jax.Array:
    """Returns the importance-weighted bound on `log p(x)` of every picture, in nats, `[batch]`.

    The samples are taken in chunks, so memory does not grow with their number.

    Args:
      model: a variational autoencoder.
      params: its parameters.
      batch: see `loss`.
      key: of all noise; a picture's noise derives from it and `example`.
      samples: of the posterior, for each picture.
    """
    bound = model.bind({"params": params})
    x = to_float(batch["images"])
    mean, log_variance = bound.encode(x)
    most = max(1, MAX_ROWS // x.shape[0])
    chunk = max(size for size in range(1, most + 1) if samples % size == 0)
    example_keys = keys.per_example(key, batch["example"])

    def add(total, index):
        chunk_keys = jax.vmap(jax.random.fold_in, (0, None))(example_keys, index)
        noise = _noise(chunk_keys, (chunk, mean.shape[1]), mean.dtype).swapaxes(0, 1)
        z = mean[None] + jnp.exp(log_variance / 2)[None] * noise
        # log p(z) - log q(z|x): the normalizing constants cancel, and so does the noise's spread.
        prior = jnp.sum(jnp.square(noise) - jnp.square(z) + log_variance[None], axis=-1) / 2
        everywhere = jnp.broadcast_to(x[None], (chunk, *x.shape))
        log_weights = bound.log_likelihood(bound.decode(z), everywhere) + prior
        return jnp.logaddexp(total, importance_weighted_bound(log_weights)), None

    chunks = samples // chunk
    start = jnp.full(x.shape[:1], -jnp.inf, mean.dtype)
    total, _ = jax.lax.scan(add, start, jnp.arange(chunks))
    return total - math.log(chunks)
