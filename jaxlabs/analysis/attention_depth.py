"""Does depth train? Transformer stacks with and without residual connections and LayerNorm.

The task is to say a row of symbols backwards, which one layer of attention can do: depth is not
needed, it is only in the way of the gradient.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxlabs import keys
from jaxlabs.analysis.toy_training import draw_params, fit
from jaxlabs.layers.feed_forward import FeedForward
from jaxlabs.layers.multi_head_attention import MultiHeadAttention
from jaxlabs.layers.normalization import build_norm
from jaxlabs.losses.cross_entropy import cross_entropy

SYMBOLS, LENGTH, BATCH = 8, 6, 16
WIDTH, HEADS, FFN_WIDTH = 16, 2, 32
RATES = (1e-3, 8e-3)
"""Peak learning rates that every variant tries at every depth."""

VARIANTS = {
    "residual + LayerNorm": (True, True),
    "residual only": (True, False),
    "LayerNorm only": (False, True),
    "neither": (False, False),
}
"""Name -> (has residual connections, has LayerNorm)."""

Progress = Callable[[Sequence[Any], str], Iterable[Any]]
"""`(what is gone through, its name) -> the same`, which shows how far it has come."""


class Block(nn.Module):
    """The pre-norm `EncoderBlock`, whose residual connections and norms can be switched off.

    The switches are arrays, so that one compiled program serves all variants.
    """

    def setup(self):
        self.attention_norm, self.ffn_norm = build_norm("layernorm"), build_norm("layernorm")
        self.attention = MultiHeadAttention(embed_dim=WIDTH, num_heads=HEADS, length=LENGTH)
        self.ffn = FeedForward(FFN_WIDTH)

    def __call__(self, x: jax.Array, residual: jax.Array, normed: jax.Array) -> jax.Array:
        """Returns `[batch, time, embed_dim]`; `residual` and `normed` are booleans `[]`."""
        x = residual * x + self.attention(jnp.where(normed, self.attention_norm(x), x))
        return residual * x + self.ffn(jnp.where(normed, self.ffn_norm(x), x))


def depth_study(
    depths: Sequence[int], seeds: Sequence[int], steps: int, progress: Progress
) -> dict[str, np.ndarray]:
    """Trains every variant at every depth, and every rate of RATES, from several seeds.

    Args:
      depths: numbers of blocks, in rising order.
      seeds: of the runs of each kind.
      steps: of training, each on `BATCH` fresh sequences.
      progress: goes through the depths.

    Returns:
      `depths`; `variants`, their names; `final_loss [variant, depth, seed]`, nats per symbol, mean
      of the last tenth of the steps, at the rate with the best mean; `gradient_norm` likewise, of
      the first block before training; `chance`, the loss of a guess.
    """
    models = [
        (place, np.uint32(seed), residual, normed, np.float32(rate))
        for rate in RATES
        for residual, normed in VARIANTS.values()
        for place, seed in enumerate(seeds)
    ]
    kinds = tuple(np.array(column) for column in zip(*models, strict=True))
    starts = [initial_params(seed, max(depths)) for seed in seeds]
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *starts)
    losses, norms = [], []
    for depth in progress(depths, "depth"):
        loss, norm = _train(params, depth, kinds, steps=steps)
        shape = (len(RATES), len(VARIANTS), len(seeds))
        losses.append(_best_rate(np.asarray(loss).reshape(shape)))
        norms.append(np.asarray(norm).reshape(shape)[0])
    return {
        "depths": np.array(depths),
        "variants": np.array(list(VARIANTS)),
        "final_loss": np.stack(losses, axis=1),
        "gradient_norm": np.stack(norms, axis=1),
        "chance": np.log(SYMBOLS),
    }


def figures(found: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns medians over seeds of `depth_study` at its largest depth, by name."""
    named = {}
    for index, variant in enumerate(found["variants"].tolist()):
        place = f"{variant.replace('+', 'and').replace(' ', '_').lower()}_{found['depths'][-1]}"
        for name in ("final_loss", "gradient_norm"):
            named[f"{name}_{place}_blocks"] = np.median(found[name][index, -1])
    return named


def initial_params(seed: int, depth: int) -> Any:
    """Returns embeddings, the head, and `depth` blocks whose leaves are stacked in front."""
    x = jnp.zeros((1, LENGTH, WIDTH))
    block = jax.eval_shape(Block().init, keys.root(0), x, True, True)["params"]
    blocks = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((depth, *leaf.shape), leaf.dtype), block
    )
    others = {"embedding": (SYMBOLS, WIDTH), "place": (LENGTH, WIDTH), "kernel": (WIDTH, SYMBOLS)}
    shapes = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in others.items()}
    return draw_params(shapes | {"blocks": blocks}, seed)


def reversal_loss(
    params: Any, key: jax.Array, depth: jax.Array, residual: jax.Array, normed: jax.Array
) -> jax.Array:
    """Returns the mean cross-entropy `[]` of saying random symbols backwards, in nats.

    Args:
      params: from `initial_params`.
      key: draws the symbols.
      depth: how many of the blocks are used, from the first on.
      residual: whether blocks have residual connections.
      normed: whether they have LayerNorm.
    """
    symbols = jax.random.randint(key, (BATCH, LENGTH), 0, SYMBOLS, jnp.int32)
    x = params["embedding"][symbols] + params["place"][None]

    def step(x, numbered):
        index, block = numbered
        # A branch, and not a choice between results: blocks past the depth take no time.
        apply = lambda x: Block().apply({"params": block}, x, residual, normed)  # noqa: E731
        return lax.cond(index < depth, apply, lambda x: x, x), None

    blocks = params["blocks"]
    x, _ = lax.scan(step, x, (jnp.arange(len(jax.tree.leaves(blocks)[0])), blocks))
    return jnp.mean(cross_entropy(x @ params["kernel"], symbols[:, ::-1]))


@functools.partial(jax.jit, static_argnames="steps")
def _train(
    params: Any, depth: jax.Array, kinds: tuple[jax.Array, ...], *, steps: int
) -> tuple[jax.Array, jax.Array]:
    """Returns final losses and norms of the first gradient of the first block, both `[models]`.

    Args:
      params: of every seed, stacked in front.
      depth: [], of all models.
      kinds: place among the seeds, seed, residual, normed and learning rate, each `[models]`.
      steps: of training.
    """

    def train(kind: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        place, seed, residual, normed, rate = kind
        loss = functools.partial(reversal_loss, depth=depth, residual=residual, normed=normed)
        start = jax.tree.map(lambda leaf: leaf[place], params)
        _, losses, norms = fit(
            loss, start, keys.stream(seed, "data"), steps=steps, learning_rate=rate, watch=first
        )
        return jnp.mean(losses[-max(steps // 10, 1) :]), norms[0]

    def first(gradient: Any) -> jax.Array:
        return optax.tree.norm(jax.tree.map(lambda leaf: leaf[0], gradient["blocks"]))

    # One after the other, so that the branch of `reversal_loss` stays one.
    return lax.map(train, kinds)


def _best_rate(losses: np.ndarray) -> np.ndarray:
    """Returns `[variant, seed]` of the best rate of each variant, from `[rate, variant, seed]`."""
    best = np.nan_to_num(losses.mean(axis=-1), nan=np.inf).argmin(axis=0)
    return losses[best, np.arange(losses.shape[1])]
