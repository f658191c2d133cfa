"""Trainability of deep Transformer stacks with and without residual connections and LayerNorm.

The task is to reverse a sequence of symbols. One attention layer can solve it, so additional depth
only makes the gradient harder to propagate.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxlabs import keys
from jaxlabs.analysis.toy_training import fit, init_params, progress, stack
from jaxlabs.layers.feed_forward import FeedForward
from jaxlabs.layers.multi_head_attention import MultiHeadAttention
from jaxlabs.layers.normalization import build_norm
from jaxlabs.losses.cross_entropy import cross_entropy

SYMBOLS, LENGTH, BATCH = 8, 6, 16
EMBED_DIM, NUM_HEADS, MLP_DIM = 16, 2, 32
LEARNING_RATES = (1e-3, 8e-3)
"""Peak learning rates; every variant is trained with each of them at every depth."""

VARIANTS = {
    "residual + LayerNorm": (True, True),
    "residual only": (True, False),
    "LayerNorm only": (False, True),
    "neither": (False, False),
}
"""Name -> (has residual connections, has LayerNorm)."""


class Block(nn.Module):
    """A pre-norm `EncoderBlock` whose residual connections and norms can be switched off.

    The switches are arrays, so one compiled function serves all variants.
    """

    def setup(self):
        self.attention_norm, self.ffn_norm = build_norm("layernorm"), build_norm("layernorm")
        self.attention = MultiHeadAttention(embed_dim=EMBED_DIM, num_heads=NUM_HEADS, length=LENGTH)
        self.ffn = FeedForward(MLP_DIM)

    def __call__(self, x: jax.Array, residual: jax.Array, normed: jax.Array) -> jax.Array:
        """Returns `[batch, time, embed_dim]`; `residual` and `normed` are booleans `[]`."""
        x = residual * x + self.attention(jnp.where(normed, self.attention_norm(x), x))
        return residual * x + self.ffn(jnp.where(normed, self.ffn_norm(x), x))


def depth_study(depths: Sequence[int], seeds: Sequence[int], steps: int) -> dict[str, np.ndarray]:
    """Trains every variant at every depth and every rate of LEARNING_RATES, from several seeds.

    The numbers of blocks are ascending. Every training step has BATCH new sequences.

    Returns:
      `depths`; `variants`, their names; `final_loss [variant, depth, seed]` in nats per symbol, the
      mean over the last tenth of the steps at the best learning rate; `gradient_norm [variant,
      depth, seed]` of the first block before training; `chance`, the loss of a uniform guess.
    """
    models = [
        (index, np.uint32(seed), residual, normed, np.float32(rate))
        for rate in LEARNING_RATES
        for residual, normed in VARIANTS.values()
        for index, seed in enumerate(seeds)
    ]
    kinds = tuple(np.array(column) for column in zip(*models, strict=True))
    shape = len(LEARNING_RATES), len(VARIANTS), len(seeds)
    params = stack(initial_params(seed, max(depths)) for seed in seeds)
    losses, norms = [], []
    for depth in progress(depths, "depth"):
        loss, norm = _train(params, depth, kinds, steps=steps)
        losses.append(_best_rate(np.reshape(loss, shape)))
        norms.append(np.reshape(norm, shape)[0])
    return {
        "depths": np.array(depths),
        "variants": np.array(list(VARIANTS)),
        "final_loss": np.stack(losses, axis=1),
        "gradient_norm": np.stack(norms, axis=1),
        "chance": np.log(SYMBOLS),
    }


def metrics(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns medians over seeds of `depth_study` at its largest depth, by name."""
    named = {}
    for index, variant in enumerate(arrays["variants"].tolist()):
        variant = variant.replace("+", "and").replace(" ", "_").lower()
        for name in ("final_loss", "gradient_norm"):
            median = np.median(arrays[name][index, -1])
            named[f"{name}_{variant}_{arrays['depths'][-1]}_blocks"] = median
    return named


def initial_params(seed: int, depth: int) -> Any:
    """Returns embeddings, output kernel, and `depth` blocks with leaves `[depth, ...]`."""
    x = jnp.zeros((1, LENGTH, EMBED_DIM))
    block = jax.eval_shape(Block().init, keys.root(0), x, True, True)["params"]
    shapes = {
        "embedding": jax.ShapeDtypeStruct((SYMBOLS, EMBED_DIM), jnp.float32),
        "position_embedding": jax.ShapeDtypeStruct((LENGTH, EMBED_DIM), jnp.float32),
        "kernel": jax.ShapeDtypeStruct((EMBED_DIM, SYMBOLS), jnp.float32),
        "blocks": jax.tree.map(lambda leaf: leaf.update(shape=(depth, *leaf.shape)), block),
    }
    return init_params(shapes, seed)


def reversal_loss(
    params: Any, key: jax.Array, depth: jax.Array, residual: jax.Array, normed: jax.Array
) -> jax.Array:
    """Returns the mean cross-entropy `[]` of reversing random symbols, in nats.

    The first `depth` blocks are applied; `residual` and `normed` are booleans `[]`.
    """
    symbols = jax.random.randint(key, (BATCH, LENGTH), 0, SYMBOLS, jnp.int32)
    x = params["embedding"][symbols] + params["position_embedding"][None]

    def step(x, numbered):
        index, block = numbered

        def apply(x):
            return Block().apply({"params": block}, x, residual, normed)

        # `lax.cond` and not `jnp.where`: blocks beyond the depth are not computed.
        return lax.cond(index < depth, apply, lambda x: x, x), None

    blocks = params["blocks"]
    x, _ = lax.scan(step, x, (jnp.arange(len(jax.tree.leaves(blocks)[0])), blocks))
    return jnp.mean(cross_entropy(x @ params["kernel"], symbols[:, ::-1]))


@functools.partial(jax.jit, static_argnames="steps")
def _train(params, depth, kinds, *, steps):
    """Returns final losses, and norms of the first block's first gradient, both `[models]`.

    `kinds` are the index of the seed, seed, residual, normed and learning rate, each `[models]`.
    """

    def norm_of_first(gradient):
        return optax.tree.norm(jax.tree.map(lambda leaf: leaf[0], gradient["blocks"]))

    def train(kind):
        index, seed, residual, normed, rate = kind
        loss = functools.partial(reversal_loss, depth=depth, residual=residual, normed=normed)
        start = jax.tree.map(lambda leaf: leaf[index], params)
        options = {"steps": steps, "learning_rate": rate, "grad_metric": norm_of_first}
        _, losses, norms = fit(loss, start, keys.stream(seed, "data"), **options)
        return jnp.mean(losses[-max(steps // 10, 1) :]), norms[0]

    # `lax.map` and not `vmap`, which would turn the `lax.cond` of `reversal_loss` into a select.
    return lax.map(train, kinds)


def _best_rate(losses):
    """Returns the losses `[variant, seed]` at each best rate, from `[rate, variant, seed]`."""
    best = np.nan_to_num(losses.mean(axis=-1), nan=np.inf).argmin(axis=0)
    return losses[best, np.arange(losses.shape[1])]
