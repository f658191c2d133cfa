"""One attention head against several with equal parameters, on look-ups at several offsets.

Every position has to predict the symbols OFFSETS positions earlier, with one attention layer and a
linear output. A head returns one weighted mean of the values, so a single head can only average
over the offsets, while several heads can each attend to one. Heads have size `EMBED_DIM /
num_heads`, so the number of parameters does not depend on the number of heads.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.analysis.toy_training import fit, init_params, progress, stack
from jaxlabs.layers import masks
from jaxlabs.layers.multi_head_attention import MultiHeadAttention
from jaxlabs.losses.cross_entropy import cross_entropy

SYMBOLS, LENGTH, BATCH, EMBED_DIM = 8, 16, 16, 32
OFFSETS = (1, 3, 5)
LEARNING_RATE = 1e-2
EVAL_SEQUENCES = 256


def heads_study(heads: Sequence[int], seeds: Sequence[int], steps: int) -> dict[str, np.ndarray]:
    """Trains one attention layer with every number of heads, from several seeds.

    Each number divides EMBED_DIM. Every training step has BATCH new sequences.

    Returns:
      `heads`; `offsets`; `parameters [heads]`; `chance`, the loss of a uniform guess; `loss [heads,
      seed]` in nats per symbol; for each number of heads h `profiles_<h> [seed, head, offset]` and
      `costs_<h> [seed, head, lookup]`, see `offset_profiles` and `ablation_costs`;
      `specialization [heads, seed]`, the mean over heads of `specialization`.
    """
    result = {"heads": np.array(heads), "offsets": np.array(OFFSETS), "chance": np.log(SYMBOLS)}
    rows = []
    for count in progress(heads, "heads"):
        starts = stack(initial_params(seed, count) for seed in seeds)
        trained = _train(starts, np.array(seeds, np.uint32), num_heads=count, steps=steps)
        loss, profiles, costs = map(np.asarray, trained)
        size = sum(leaf[0].size for leaf in jax.tree.leaves(starts))
        rows.append((loss, specialization(profiles).mean(axis=-1), size))
        result |= {f"profiles_{count}": profiles, f"costs_{count}": costs}
    columns = map(np.array, zip(*rows, strict=True))
    return result | dict(zip(("loss", "specialization", "parameters"), columns, strict=True))


def metrics(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns means over seeds of `heads_study` for every number of heads, by name."""
    return {
        f"{name}_of_{count}_heads": arrays[key][index].mean()
        for name, key in (("lookup_loss", "loss"), ("specialization", "specialization"))
        for index, count in enumerate(arrays["heads"])
    }


def initial_params(seed: int, num_heads: int) -> Any:
    """Returns symbol and position embeddings, attention parameters and the output kernel."""
    x, outputs = jnp.zeros((1, LENGTH, EMBED_DIM)), len(OFFSETS) * SYMBOLS
    shapes = {
        "embedding": jax.ShapeDtypeStruct((SYMBOLS, EMBED_DIM), jnp.float32),
        "position_embedding": jax.ShapeDtypeStruct((LENGTH, EMBED_DIM), jnp.float32),
        "kernel": jax.ShapeDtypeStruct((EMBED_DIM, outputs), jnp.float32),
        "attention": jax.eval_shape(_attention(num_heads).init, keys.root(0), x)["params"],
    }
    return init_params(shapes, seed)


def offset_profiles(weights: jax.Array) -> jax.Array:
    """Returns the mean attention weight of each head by the offset from query to key.

    For causal weights `[batch, heads, time, time]` it returns `[heads, offset]` for offsets 0 to
    `max(OFFSETS) + 1`, the mean over the batch and over the queries for which all these offsets lie
    inside the sequence.
    """
    offsets = range(max(OFFSETS) + 2)
    first = len(offsets) - 1
    diagonals = [jnp.diagonal(weights, -offset, 2, 3)[..., first - offset :] for offset in offsets]
    return jnp.stack([diagonal.mean(axis=(0, 2)) for diagonal in diagonals], axis=-1)


def specialization(profiles: np.ndarray) -> np.ndarray:
    """Returns `1 - entropy / log(offsets)` `[...]` of normalized profiles `[..., offset]`.

    It is 1 for a head that attends to one offset and 0 for a head that attends to all equally.
    Weight outside of the profile's offsets is not counted.
    """
    weights = profiles / profiles.sum(axis=-1, keepdims=True)
    entropy = -np.sum(weights * np.log(np.maximum(weights, np.finfo(weights.dtype).tiny)), axis=-1)
    return 1 - entropy / np.log(profiles.shape[-1])


def lookup_losses(params: Any, num_heads: int, symbols: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the mean loss `[offset]` of each offset, in nats, and the attention weights.

    Of `symbols [batch, time]`, only positions for which all OFFSETS lie inside the sequence count.
    """
    x = params["embedding"][symbols] + params["position_embedding"][None]
    x, sown = _attention(num_heads).apply(
        {"params": params["attention"]}, x, masks.causal(LENGTH), mutable=["intermediates"]
    )
    first = max(OFFSETS)
    logits = (x @ params["kernel"]).reshape(*symbols.shape, len(OFFSETS), SYMBOLS)[:, first:]
    targets = [symbols[:, first - offset : LENGTH - offset] for offset in OFFSETS]
    losses = cross_entropy(logits, jnp.stack(targets, axis=-1))
    return losses.mean(axis=(0, 1)), sown["intermediates"]["weights"][0]


def ablation_costs(params: Any, num_heads: int, symbols: jax.Array) -> jax.Array:
    """Returns the increase `[head, lookup]` of each offset's loss when a head is ablated."""
    intact, _ = lookup_losses(params, num_heads, symbols)
    kernel = params["attention"]["out"]["kernel"]
    rows = jnp.arange(EMBED_DIM) // (EMBED_DIM // num_heads)  # head of each input row

    def without(head):
        ablated = jnp.where((rows == head)[:, None], 0, kernel)
        out = params["attention"]["out"] | {"kernel": ablated}
        attention = params["attention"] | {"out": out}
        return lookup_losses(params | {"attention": attention}, num_heads, symbols)[0] - intact

    return jax.vmap(without)(jnp.arange(num_heads))


@functools.partial(jax.jit, static_argnames=("num_heads", "steps"))
def _train(params, seeds, *, num_heads, steps):
    """Returns loss `[seed]`, offset profiles and ablation costs of trained models on new data."""

    def sample(key, count):
        return jax.random.randint(key, (count, LENGTH), 0, SYMBOLS, jnp.int32)

    def loss(params, key):
        return lookup_losses(params, num_heads, sample(key, BATCH))[0].mean()

    def train(params, seed):
        key = keys.stream(seed, "data")
        params, _, _ = fit(loss, params, key, steps=steps, learning_rate=LEARNING_RATE)
        symbols = sample(keys.stream(seed, "measure"), EVAL_SEQUENCES)
        losses, weights = lookup_losses(params, num_heads, symbols)
        return losses.mean(), offset_profiles(weights), ablation_costs(params, num_heads, symbols)

    return jax.vmap(train)(params, seeds)


def _attention(num_heads: int) -> MultiHeadAttention:
    return MultiHeadAttention(embed_dim=EMBED_DIM, num_heads=num_heads, length=LENGTH)
