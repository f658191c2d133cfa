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

    Args:
      depths: numbers of blocks, ascending.
      steps: number of training steps, each on `BATCH` new sequences.

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
    params = stack(initial_params(seed, max(depths)) for seed in seeds)
    losses, norms = [], []
    for depth in progress(depths, "depth"):
        loss, norm = _train(params, depth, kinds, steps=steps)
        shape = (len(LEARNING_RATES), len(VARIANTS), len(seeds))
        losses.append(_best_rate(np.asarray(loss).reshape(shape)))
        norms.append(np.asarray(norm).reshape(shape)[0])
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
        suffix = f"{variant.replace('+', 'and').replace(' ', '_').lower()}_{arrays['depths'][-1]}"
        for name in ("final_loss", "gradient_norm"):
            named[f"{name}_{suffix}_blocks"] = np.median(arrays[name][index, -1])
    return named


def initial_params(seed: int, depth: int) -> Any:
    """Returns embeddings, output kernel, and `depth` blocks with leaves `[depth, ...]`."""
    x = jnp.zeros((1, LENGTH, EMBED_DIM))
    block = jax.eval_shape(Block().init, keys.root(0), x, True, True)["params"]
    blocks = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((depth, *leaf.shape), leaf.dtype), block
    )
    others = {
        "embedding": (SYMBOLS, EMBED_DIM),
        "position_embedding": (LENGTH, EMBED_DIM),
        "kernel": (EMBED_DIM, SYMBOLS),
    }
    shapes = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in others.items()}
    return init_params(shapes | {"blocks": blocks}, seed)


def reversal_loss(
    params: Any, key: jax.Array, depth: jax.Array, residual: jax.Array, normed: jax.Array
) -> jax.Array:
    """Returns the mean cross-entropy `[]` of reversing random symbols, in nats.

    Args:
      params: from `initial_params`.
      key: PRNG key of the symbols.
      depth: number of blocks that are applied, counted from the first.
      residual: whether blocks have residual connections `[]`.
      normed: whether blocks have LayerNorm `[]`.
    """
    symbols = jax.random.randint(key, (BATCH, LENGTH), 0, SYMBOLS, jnp.int32)
    x = params["embedding"][symbols] + params["position_embedding"][None]

    def step(x, numbered):
        index, block = numbered
        # `lax.cond` and not `jnp.where`: blocks beyond the depth are not computed.
        apply = lambda x: Block().apply({"params": block}, x, residual, normed)  # noqa: E731
        return lax.cond(index < depth, apply, lambda x: x, x), None

    blocks = params["blocks"]
    x, _ = lax.scan(step, x, (jnp.arange(len(jax.tree.leaves(blocks)[0])), blocks))
    return jnp.mean(cross_entropy(x @ params["kernel"], symbols[:, ::-1]))


@functools.partial(jax.jit, static_argnames="steps")
def _train(
    params: Any, depth: jax.Array, kinds: tuple[jax.Array, ...], *, steps: int
) -> tuple[jax.Array, jax.Array]:
    """Returns final losses, and norms of the first block's first gradient, both `[models]`.

    `kinds` are the index of the seed, seed, residual, normed and learning rate, each `[models]`.
    """

    def train(kind: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        index, seed, residual, normed, rate = kind
        loss = functools.partial(reversal_loss, depth=depth, residual=residual, normed=normed)
        start = jax.tree.map(lambda leaf: leaf[index], params)
        _, losses, norms = fit(
            loss,
            start,
            keys.stream(seed, "data"),
            steps=steps,
            learning_rate=rate,
            grad_metric=norm_of_first,
        )
        return jnp.mean(losses[-max(steps // 10, 1) :]), norms[0]

    def norm_of_first(gradient: Any) -> jax.Array:
        return optax.tree.norm(jax.tree.map(lambda leaf: leaf[0], gradient["blocks"]))

    # `lax.map` and not `vmap`, which would turn the `lax.cond` of `reversal_loss` into a select.
    return lax.map(train, kinds)


def _best_rate(losses: np.ndarray) -> np.ndarray:
    """Returns the losses `[variant, seed]` at each best rate, from `[rate, variant, seed]`."""
    best = np.nan_to_num(losses.mean(axis=-1), nan=np.inf).argmin(axis=0)
    return losses[best, np.arange(losses.shape[1])]
