"""Scaled dot-product attention step by step, and the effect of the scale on the softmax.

Vaswani et al. 2017, section 3.2.1: the dot product of two random vectors of size `d_k` has a
standard deviation of `sqrt(d_k)`. Unscaled, it saturates the softmax, whose gradient vanishes.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.analysis.toy_training import init_params
from jaxlabs.layers import masks
from jaxlabs.layers.attention import attention_output
from jaxlabs.layers.decoder_block import CrossAttention
from jaxlabs.layers.multi_head_attention import MultiHeadAttention

KEYS, SAMPLES = 16, 256
"""Keys per query, and random queries for each d_k, by default."""

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
"""Key of the result of `scaled_dot_product` -> heading in the printed text."""


def scaled_dot_product(seed: int, tokens: int = 4, head_dim: int = 8) -> dict[str, np.ndarray]:
    """Computes attention from random queries to random keys and values.

    Returns:
      `query`, `key`, `value` and `output [tokens, head_dim]`; `raw_scores`, `scaled_scores`,
      `raw_weights` (softmax of the raw scores) and `weights [tokens, tokens]`.
    """
    rng = np.random.default_rng(seed)
    query, key, value = np.float32(rng.standard_normal((3, 1, 1, tokens, head_dim)))
    attended = attention_output(jnp.asarray(query), jnp.asarray(key), jnp.asarray(value))
    raw_scores = attended.scores * head_dim**0.5
    raw_weights = jax.nn.softmax(raw_scores, axis=-1)
    arrays = {
        "query": query,
        "key": key,
        "value": value,
        "raw_scores": raw_scores,
        "scaled_scores": attended.scores,
        "raw_weights": raw_weights,
        "weights": attended.weights,
        "output": attended.output,
    }
    return {name: np.asarray(array)[0, 0] for name, array in arrays.items()}


def scaling_study(
    dims: Sequence[int], seed: int, *, num_keys: int = KEYS, samples: int = SAMPLES
) -> dict[str, np.ndarray]:
    """Measures the softmax of raw and of scaled scores of random vectors against `d_k`.

    Returns:
      `dims`; for each kind, "raw" and "scaled": `<kind>_entropy [dims]`, the mean entropy of the
      weights in nats, at most `log(num_keys)`; `<kind>_variance` and `<kind>_gradient [dims, 3]`,
      the 10 %, 50 % and 90 % quantiles of the variance of the weights, and of the Frobenius norm of
      their Jacobian with respect to the scores.
    """
    rng = np.random.default_rng(seed)
    query = np.float32(rng.standard_normal((samples, max(dims))))
    key = np.float32(rng.standard_normal((samples, num_keys, max(dims))))
    result: dict[str, Any] = {"dims": np.array(dims), "keys": num_keys}
    for kind in ("raw", "scaled"):
        rows = []
        for dim in dims:
            scores = np.einsum("nd,nkd->nk", query[:, :dim], key[..., :dim])
            scores = jnp.asarray(scores / dim**0.5 if kind == "scaled" else scores)
            entropy, norm = softmax_sharpness(scores)
            variance = jnp.var(jax.nn.softmax(scores), axis=-1)
            spreads = (np.quantile(values, (0.1, 0.5, 0.9)) for values in (norm, variance))
            rows.append((np.mean(entropy), *spreads))
        names = (f"{kind}_entropy", f"{kind}_gradient", f"{kind}_variance")
        result |= zip(names, map(np.array, zip(*rows, strict=True)), strict=True)
    return result


def metrics(scaling: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns entropy and median gradient of `scaling_study` at the largest `d_k`, by name."""
    result = {}
    for kind in ("raw", "scaled"):
        result[f"{kind}_entropy_at_{scaling['dims'][-1]}"] = scaling[f"{kind}_entropy"][-1]
        result[f"{kind}_gradient_at_{scaling['dims'][-1]}"] = scaling[f"{kind}_gradient"][-1, 1]
    return result


@jax.jit
def softmax_sharpness(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns entropy in nats and Jacobian norm of the softmax of `scores [samples, keys]`."""
    log_weights = jax.nn.log_softmax(scores, axis=-1)
    entropy = -jnp.sum(jnp.exp(log_weights) * log_weights, axis=-1)
    jacobian = jax.vmap(jax.jacrev(jax.nn.softmax))(scores)
    return entropy, jnp.sqrt(jnp.sum(jnp.square(jacobian), axis=(1, 2)))


def multi_head(
    x: np.ndarray, memory: np.ndarray, memory_weights: np.ndarray, num_heads: int, seed: int
) -> dict[str, np.ndarray]:
    """Computes self-attention and cross-attention with random parameters.

    The queries are `x [time, embed_dim]`, the keys and values of cross-attention `memory
    [memory_time, embed_dim]`, of which `memory_weights [memory_time]` are 0 where it is padding.
    Returns `self_weights [heads, time, time]`, `cross_weights [heads, time, memory_time]`, and the
    outputs `self_output` and `cross_output [time, embed_dim]`.
    """
    sizes = {"embed_dim": x.shape[1], "num_heads": num_heads, "length": len(x)}
    layers = {"self": MultiHeadAttention(**sizes), "cross": CrossAttention(**sizes)}
    padding = masks.padding(jnp.asarray(memory_weights)[None])
    arguments = {"self": (x[None],), "cross": (x[None], memory[None], padding)}
    shapes = jax.eval_shape(layers["self"].init, keys.root(0), x[None])["params"]
    params = init_params(shapes, [seed, 1])  # not those of the network that made `x`
    result = {}
    for kind, layer in layers.items():
        attend = functools.partial(layer.apply, mutable=["intermediates"])
        output, sown = jax.jit(attend)({"params": params}, *arguments[kind])
        result[f"{kind}_weights"] = np.asarray(sown["intermediates"]["weights"][0])[0]
        result[f"{kind}_output"] = np.asarray(output)[0]
    return result


def format_arrays(arrays: Mapping[str, np.ndarray], headings: Mapping[str, str]) -> str:
    """Returns arrays as text, each below its heading and shape; `headings` is by key."""
    style = {"precision": 3, "suppress": True, "floatmode": "fixed", "linewidth": 1000}
    with np.printoptions(threshold=600, **style):
        return "\n\n".join(
            f"{heading} [{' x '.join(map(str, arrays[key].shape))}]\n{arrays[key]}"
            for key, heading in headings.items()
        )
