"""Scaled dot-product attention in numbers, and what the scale is for.

Vaswani et al. 2017, section 3.2.1: the dot of two random vectors of `d_k` numbers has a deviation
of `sqrt(d_k)`, which pushes the softmax to where it has hardly any gradient; hence the division.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.analysis.toy_training import draw_params
from jaxlabs.layers import masks
from jaxlabs.layers.attention import attention_parts
from jaxlabs.layers.multi_head_attention import MultiHeadAttention

KEYS, DRAWS = 16, 256
"""Keys that a query chooses among, and random queries with keys for each d_k."""

STEP = {
    "query": "Q",
    "key": "K",
    "value": "V",
    "raw_scores": "raw scores, Q K^T",
    "scaled_scores": "scaled scores, Q K^T / sqrt(d_k)",
    "raw_weights": "softmax of the raw scores",
    "weights": "weights: softmax of the scaled scores",
    "output": "output: weights V",
}
"""What `scaled_dot_product` returns -> how it is called in print."""


def scaled_dot_product(seed: int, tokens: int = 4, head_dim: int = 8) -> dict[str, np.ndarray]:
    """Attends once from random queries to random keys and values, by `attention_parts`.

    Returns:
      `query`, `key`, `value` and `output [tokens, head_dim]`; `raw_scores`, `scaled_scores`,
      `raw_weights` (softmax of the raw ones) and `weights [tokens, tokens]`.
    """
    random = np.random.default_rng(seed)
    query, key, value = np.float32(random.standard_normal((3, 1, 1, tokens, head_dim)))
    parts = attention_parts(jnp.asarray(query), jnp.asarray(key), jnp.asarray(value))
    raw_scores = parts.scores * head_dim**0.5
    found = {"query": query, "key": key, "value": value, "raw_scores": raw_scores}
    found |= {"scaled_scores": parts.scores, "raw_weights": jax.nn.softmax(raw_scores, axis=-1)}
    found |= {"weights": parts.weights, "output": parts.output}
    return {name: np.asarray(array)[0, 0] for name, array in found.items()}


def scaling_study(dims: Sequence[int], seed: int) -> dict[str, np.ndarray]:
    """Measures the softmax of raw and of scaled scores of random vectors against their size.

    Returns:
      `dims`; per kind "raw" and "scaled": `<kind>_entropy [dims]`, mean entropy of the weights in
      nats, at most `log(KEYS)`; `<kind>_gradient [dims, 3]`, the 10 %, 50 % and 90 % quantiles of
      the norm of the weights' gradient by the scores (Frobenius norm of the Jacobian).
    """
    random = np.random.default_rng(seed)
    query = np.float32(random.standard_normal((DRAWS, max(dims))))
    key = np.float32(random.standard_normal((DRAWS, KEYS, max(dims))))
    found: dict[str, Any] = {"dims": np.array(dims), "keys": KEYS}
    for kind in ("raw", "scaled"):
        entropies, norms = [], []
        for dim in dims:
            scores = np.einsum("nd,nkd->nk", query[:, :dim], key[..., :dim])
            entropy, norm = sharpness(scores / dim**0.5 if kind == "scaled" else scores)
            entropies.append(np.mean(entropy))
            norms.append(np.quantile(norm, [0.1, 0.5, 0.9]))
        found |= {f"{kind}_entropy": np.array(entropies), f"{kind}_gradient": np.array(norms)}
    return found


def figures(scaling: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns entropy and median gradient of `scaling_study` at the largest size, by name."""
    found = {}
    for kind in ("raw", "scaled"):
        found[f"{kind}_entropy_at_{scaling['dims'][-1]}"] = scaling[f"{kind}_entropy"][-1]
        found[f"{kind}_gradient_at_{scaling['dims'][-1]}"] = scaling[f"{kind}_gradient"][-1, 1]
    return found


@jax.jit
def sharpness(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns entropy in nats and Jacobian norm of the softmax of `scores [draws, keys]`."""
    log_weights = jax.nn.log_softmax(scores, axis=-1)
    entropy = -jnp.sum(jnp.exp(log_weights) * log_weights, axis=-1)
    jacobian = jax.vmap(jax.jacrev(jax.nn.softmax))(scores)
    return entropy, jnp.sqrt(jnp.sum(jnp.square(jacobian), axis=(1, 2)))


def multi_head(
    x: np.ndarray, memory: np.ndarray, memory_weights: np.ndarray, num_heads: int, seed: int
) -> dict[str, np.ndarray]:
    """Attends with random parameters from a sequence to itself, and to another one.

    Args:
      x: [time, embed_dim], the queries, and the keys and values of self-attention.
      memory: [memory_time, embed_dim], the keys and values of cross-attention.
      memory_weights: [memory_time], 0 where the memory is padding.
      heads: number of heads.
      seed: of the parameters.

    Returns:
      `self_weights [heads, time, time]`, `cross_weights [heads, time, memory_time]`, and the
      outputs `self_output` and `cross_output [time, embed_dim]`.
    """
    layer = MultiHeadAttention(embed_dim=x.shape[1], num_heads=num_heads, length=len(x))
    shapes = jax.eval_shape(layer.init, keys.root(0), x[None])["params"]
    params = draw_params(shapes, seed)
    found = {}
    for kind, options in {
        "self": {},
        "cross": {"memory": memory[None], "mask": masks.padding(jnp.asarray(memory_weights)[None])},
    }.items():
        attend = functools.partial(layer.apply, mutable=["intermediates"])
        output, sown = jax.jit(attend)({"params": params}, x[None], **options)
        found[f"{kind}_weights"] = np.asarray(sown["intermediates"]["weights"][0])[0]
        found[f"{kind}_output"] = np.asarray(output)[0]
    return found


def in_words(found: Mapping[str, np.ndarray], names: Mapping[str, str]) -> str:
    """Returns matrices as text, each below its name and shape; `names` maps keys to headings."""
    parts = []
    for key, heading in names.items():
        array = np.asarray(found[key])
        shape = " x ".join(map(str, array.shape))
        shown = np.array2string(
            array,
            precision=3,
            suppress_small=True,
            floatmode="fixed",
            max_line_width=96,
            threshold=600,
        )
        parts.append(f"{heading} [{shape}]\n{shown}")
    return "\n\n".join(parts)
