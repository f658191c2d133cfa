"""What are many heads for? One head against several at equal parameters, on several look-ups.

Every position has to name the symbols that stand OFFSETS places before it. One layer of attention
answers, read out linearly. A head makes one weighted mean of the values, so one head can only mix
what it looks up; several heads can each fetch one symbol. The number of parameters is the same for
any number of heads, which are `WIDTH / heads` wide.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.analysis.toy_training import draw_params, fit
from jaxlabs.layers import masks
from jaxlabs.layers.multi_head_attention import MultiHeadAttention
from jaxlabs.losses.cross_entropy import cross_entropy

SYMBOLS, LENGTH, BATCH, WIDTH = 8, 16, 16, 32
OFFSETS = (1, 3, 5)
LEARNING_RATE = 1e-2
MEASURED = 256
"""Sequences that trained models are measured on."""

Progress = Callable[[Sequence[Any], str], Iterable[Any]]
"""`(what is gone through, its name) -> the same`, which shows how far it has come."""


def heads_study(
    heads: Sequence[int], seeds: Sequence[int], steps: int, progress: Progress
) -> dict[str, np.ndarray]:
    """Trains one layer of attention with every number of heads from several seeds.

    Args:
      heads: numbers of heads; each divides WIDTH.
      seeds: of the models of each kind.
      steps: of training, each on BATCH fresh sequences.
      progress: goes through the numbers of heads.

    Returns:
      `heads`; `offsets`; `parameters [heads]`; `chance`, the loss of a guess; `loss [heads, seed]`,
      nats per look-up; and per number of heads h, with look-ups and offsets last: `profiles_<h>
      [seed, head, offset]` and `costs_<h> [seed, head, lookup]`, see `offset_profiles` and
      `removal_costs`; `specialization [heads, seed]`, the mean over heads of `specialization`.
    """
    found = {"heads": np.array(heads), "offsets": np.array(OFFSETS), "chance": np.log(SYMBOLS)}
    losses, scores, sizes = [], [], []
    for count in progress(heads, "heads"):
        starts = [initial_params(seed, count) for seed in seeds]
        params = jax.tree.map(lambda *leaves: np.stack(leaves), *starts)
        loss, profiles, costs = _train(
            params, np.array(seeds, np.uint32), num_heads=count, steps=steps
        )
        losses.append(loss)
        scores.append(specialization(np.asarray(profiles)).mean(axis=-1))
        sizes.append(sum(leaf.size for leaf in jax.tree.leaves(starts[0])))
        found |= {f"profiles_{count}": np.asarray(profiles), f"costs_{count}": np.asarray(costs)}
    return found | {
        "loss": np.stack(losses),
        "specialization": np.stack(scores),
        "parameters": np.array(sizes),
    }


def figures(found: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns means over seeds of `heads_study` for every number of heads, by name."""
    return {
        f"{name}_of_{count}_heads": found[key][index].mean()
        for name, key in (("lookup_loss", "loss"), ("specialization", "specialization"))
        for index, count in enumerate(found["heads"])
    }


def initial_params(seed: int, num_heads: int) -> Any:
    """Returns symbol and place vectors, the attention's parameters and the read-out kernel."""
    attention = jax.eval_shape(
        _attention(num_heads).init, keys.root(0), jnp.zeros((1, LENGTH, WIDTH))
    )["params"]
    others = {
        "embedding": (SYMBOLS, WIDTH),
        "place": (LENGTH, WIDTH),
        "kernel": (WIDTH, len(OFFSETS) * SYMBOLS),
    }
    shapes = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in others.items()}
    return draw_params(shapes | {"attention": attention}, seed)


def offset_profiles(weights: jax.Array) -> jax.Array:
    """Returns the mean weight that heads give to what stands so many places before the query.

    Args:
      weights: [batch, heads, time, time], causal.

    Returns:
      [heads, offset] for offsets from 0 to `max(OFFSETS) + 1`, mean over the batch and over those
      queries that have all these offsets before them.
    """
    offsets = range(max(OFFSETS) + 2)
    first = len(offsets) - 1
    diagonals = [jnp.diagonal(weights, -offset, 2, 3)[..., first - offset :] for offset in offsets]
    return jnp.stack([diagonal.mean(axis=(0, 2)) for diagonal in diagonals], axis=-1)


def specialization(profiles: np.ndarray) -> np.ndarray:
    """Tells how far heads keep to one offset: 1 for one alone, 0 for all offsets alike.

    It is `1 - entropy / log(offsets)` of the profile as a distribution, from `[..., offset]` to
    `[...]`. Weight outside of the profile's offsets is left out.
    """
    shares = profiles / profiles.sum(axis=-1, keepdims=True)
    entropy = -np.sum(shares * np.log(np.maximum(shares, np.finfo(shares.dtype).tiny)), axis=-1)
    return 1 - entropy / np.log(profiles.shape[-1])


def lookup_losses(params: Any, num_heads: int, symbols: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the mean loss of each look-up `[offset]`, in nats, and the attention weights.

    Only positions that have all OFFSETS before them count.

    Args:
      params: from `initial_params`.
      heads: number of heads.
      symbols: [batch, time] below SYMBOLS.
    """
    x = params["embedding"][symbols] + params["place"][None]
    x, sown = _attention(num_heads).apply(
        {"params": params["attention"]}, x, masks.causal(LENGTH), mutable=["intermediates"]
    )
    first = max(OFFSETS)
    logits = (x @ params["kernel"]).reshape(*symbols.shape, len(OFFSETS), SYMBOLS)[:, first:]
    targets = [symbols[:, first - offset : LENGTH - offset] for offset in OFFSETS]
    losses = cross_entropy(logits, jnp.stack(targets, axis=-1))
    return losses.mean(axis=(0, 1)), sown["intermediates"]["weights"][0]


def removal_costs(params: Any, num_heads: int, symbols: jax.Array) -> jax.Array:
    """Returns by how much each look-up's loss rises when a head is silenced, `[head, lookup]`."""
    whole, _ = lookup_losses(params, num_heads, symbols)
    kernel = params["attention"]["out"]["kernel"]
    rows = jnp.arange(WIDTH) // (WIDTH // num_heads)  # which head writes which row's input

    def without(head: jax.Array) -> jax.Array:
        silenced = jnp.where((rows == head)[:, None], 0, kernel)
        out = params["attention"]["out"] | {"kernel": silenced}
        attention = params["attention"] | {"out": out}
        return lookup_losses(params | {"attention": attention}, num_heads, symbols)[0] - whole

    return jax.vmap(without)(jnp.arange(num_heads))


@functools.partial(jax.jit, static_argnames=("num_heads", "steps"))
def _train(
    params: Any, seeds: jax.Array, *, num_heads: int, steps: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns loss `[seed]`, offset profiles and removal costs of trained models, on new data."""

    def train(params: Any, seed: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        def draw(key: jax.Array, count: int) -> jax.Array:
            return jax.random.randint(key, (count, LENGTH), 0, SYMBOLS, jnp.int32)

        def loss(params: Any, key: jax.Array) -> jax.Array:
            return lookup_losses(params, num_heads, draw(key, BATCH))[0].mean()

        key = keys.stream(seed, "data")
        params, _, _ = fit(loss, params, key, steps=steps, learning_rate=LEARNING_RATE)
        symbols = draw(keys.stream(seed, "measure"), MEASURED)
        losses, weights = lookup_losses(params, num_heads, symbols)
        return losses.mean(), offset_profiles(weights), removal_costs(params, num_heads, symbols)

    return jax.vmap(train)(params, seeds)


def _attention(num_heads: int) -> MultiHeadAttention:
    return MultiHeadAttention(embed_dim=WIDTH, num_heads=num_heads, length=LENGTH)
