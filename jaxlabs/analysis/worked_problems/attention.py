"""Attention by hand: one head, two heads, the scale of the scores, and what a dot is not."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg

from jaxlabs.analysis.attention_demo import sharpness
from jaxlabs.analysis.worked_problems import closed_form
from jaxlabs.analysis.worked_problems.rows import Number, numbers
from jaxlabs.layers.attention import attention_parts
from jaxlabs.layers.multi_head_attention import MultiHeadAttention
from jaxlabs.published import worked_problems as given

THEME = "attention"

DIMS = tuple(2**power for power in range(11))
DRAWS = 512

NOT_A_COSINE = (
    "The dot Q K^T is called a cosine similarity; it is one only of vectors of length 1, and"
    " [1, 1] is longer."
)
DENOMINATOR = (
    "This weight is written with the denominator e^(1/√2) + e^(1/√2); its printed value 0.330 is"
    " right, and is that of 1 / (e^(1/√2) + 1)."
)
WHY_THE_ROOT = (
    "The reason given for √d_k is that each norm grows as √d_k. Their product grows as d_k; what"
    " grows as √d_k, for independent entries of mean 0 and variance 1, is the standard deviation of"
    " the dot product."
)


def problems() -> list[Number]:
    """Returns the numbers of all problems."""
    with jax.enable_x64(True):
        return [
            *_one_head(),
            *_not_a_cosine(),
            *_two_heads(),
            *_sharpness(),
            *_unscaled(),
            *_deviation_of_the_dot(),
        ]


def _one_head() -> list[Number]:
    scale = 1 / math.sqrt(len(given.QUERY[0]))
    found = _attend(scale=scale)
    exact = closed_form.attention(given.QUERY, given.KEY, given.VALUE, scale)
    printed = {"scores": given.PRINTED_SCORES, "weights": given.PRINTED_WEIGHTS}
    printed |= {"output": given.PRINTED_OUTPUT}
    names = {"scores": "Q K^T", "weights": "weights A", "output": "output A V"}
    power = math.exp(scale)
    return [
        *(
            row
            for key, name in names.items()
            for row in numbers(THEME, name, found[key], exact[key], printed[key])
        ),
        *numbers(
            *(THEME, "weights A [2, 2], as a fraction", found["weights"][1, 1], 1 / (power + 1)),
            1 / (power + power),
            mark=DENOMINATOR,
        ),
    ]


def _attend(scale: float) -> dict[str, np.ndarray]:
    """Attends as the layers do, with scores times `scale` in place of 1 / sqrt(d_k)."""
    query, key, value = (
        jnp.asarray(matrix, jnp.float64)[None, None]
        for matrix in (given.QUERY, given.KEY, given.VALUE)
    )
    root = math.sqrt(query.shape[-1])
    parts = attention_parts(query * (scale * root), key, value, precision="highest")
    found = {"scores": parts.scores / scale, "weights": parts.weights, "output": parts.output}
    return {name: np.asarray(array)[0, 0] for name, array in found.items()}


def _not_a_cosine() -> list[Number]:
    query, key = (jnp.asarray(matrix, jnp.float64) for matrix in (given.QUERY, given.KEY))
    ours = optax.cosine_similarity(query[:, None], key[None, :])
    exact = [
        [closed_form.dot(q, k) / math.hypot(*q) / math.hypot(*k) for k in given.KEY]
        for q in given.QUERY
    ]
    dots = closed_form.product(given.QUERY, closed_form.transposed(given.KEY))
    name = "cosine of query and key"
    return numbers(THEME, name, ours, exact, dots, mark=NOT_A_COSINE)


def _two_heads() -> list[Number]:
    embed_dim, heads = len(given.TWO_HEADS_INPUT[0]), len(given.TWO_HEADS)
    joined = embed_dim * heads
    # The layer cuts its embed_dim into heads; the input's other features are 0, and so are their
    # rows.
    x = np.zeros((1, len(given.TWO_HEADS_INPUT), joined))
    x[0, :, :embed_dim] = given.TWO_HEADS_INPUT
    params = {"out": {"kernel": np.eye(joined)}}
    for part, name in enumerate(("query", "key", "value")):
        kernel = np.zeros((joined, joined))
        kernel[:embed_dim] = np.concatenate([head[part] for head in given.TWO_HEADS], axis=1)
        params[f"{name}_kernel"] = kernel
    layer = MultiHeadAttention(
        embed_dim=joined, num_heads=heads, length=x.shape[1], out_bias=False, precision="highest"
    )
    ours = layer.apply({"params": jax.tree.map(jnp.asarray, params)}, jnp.asarray(x))[0]
    exact = np.concatenate([_head(*head) for head in given.TWO_HEADS], axis=1)
    return numbers(THEME, "two heads, joined", ours, exact, given.PRINTED_TWO_HEADS)


def _head(*projections: Sequence[Sequence[float]]) -> list[list[float]]:
    parts = [closed_form.product(given.TWO_HEADS_INPUT, matrix) for matrix in projections]
    return closed_form.attention(*parts, scale=1 / math.sqrt(len(parts[0][0])))["output"]


def _sharpness() -> list[Number]:
    rows = []
    for name, (shares, printed) in given.SHARPNESS.items():
        logits = jnp.asarray([math.log(share) if share else -1e4 for share in shares])
        rows += _spread(f"{name} weights", logits, shares, printed)
    return rows


def _unscaled() -> list[Number]:
    """Sets the second query's weights with and without the division beside each other."""
    rows = []
    for name, scale in (("with 1/sqrt(d_k)", 1 / math.sqrt(len(given.KEY[0]))), ("without", 1.0)):
        exact = closed_form.attention(given.QUERY, given.KEY, given.VALUE, scale)
        found = _attend(scale)
        row = f"query 2 {name}"
        rows += numbers(THEME, f"{row}: weight", found["weights"][1], exact["weights"][1])
        logits = jnp.asarray(found["scores"][1] * scale)
        rows += _spread(row, logits, exact["weights"][1])
    deviation = math.sqrt(given.LARGE_D_K)
    for name, score in (("with 1/sqrt(d_k)", 1.0), ("without", deviation)):
        scores = [score] + [0.0] * (given.KEYS - 1)
        name = f"d_k = {given.LARGE_D_K}, one key a deviation ahead, {name}"
        rows += _spread(name, jnp.asarray(scores), closed_form.softmax(scores))
    return rows


def _deviation_of_the_dot() -> list[Number]:
    """Compares dot products with norms where entries are +-1, so that both are exact.

    The keys are the rows of a Hadamard matrix and their opposites: over these, any two entries are
    uncorrelated, with mean 0 and variance 1.
    """
    embed_dim = given.LARGE_D_K
    rows = scipy.linalg.hadamard(embed_dim)
    keys = jnp.asarray(np.concatenate([rows, -rows]), jnp.float64)
    query = jnp.where(jnp.arange(embed_dim) % 3 == 0, 1.0, -1.0)
    scores = attention_parts(
        *(query[None, None, None], keys[None, None], keys[None, None]), precision="highest"
    ).scores
    norms = jnp.linalg.norm(query) * jnp.linalg.norm(keys, axis=-1).mean()
    name = f"d_k = {embed_dim}, entries ±1"
    return [
        *numbers(THEME, f"{name}: product of the norms", norms, float(embed_dim)),
        *numbers(
            *(THEME, f"{name}: standard deviation of the dot product"),
            *(jnp.std(scores) * math.sqrt(embed_dim), math.sqrt(embed_dim), float(embed_dim)),
            mark=WHY_THE_ROOT,
        ),
        *numbers(THEME, f"{name}: standard deviation of the scores", jnp.std(scores), 1.0),
    ]


def _spread(
    name: str, logits: jax.Array, shares: Sequence[float], printed: str | None = None
) -> list[Number]:
    """Returns variance, entropy and gradient of the softmax of `logits [keys]`."""
    entropies, norms = sharpness(logits[None])
    variance = closed_form.mean_and_variance(shares)[1]
    ours = jnp.var(jax.nn.softmax(logits))
    mark = f"These weights have the variance {variance:.4f}." if printed is not None else ""
    exact = closed_form.entropy(shares), closed_form.softmax_jacobian_norm(shares)
    return [
        *numbers(THEME, f"{name}: variance", ours, variance, printed, mark=mark),
        *numbers(THEME, f"{name}: entropy", entropies[0], exact[0]),
        *numbers(THEME, f"{name}: gradient by the scores", norms[0], exact[1]),
    ]


def arrays(seed: int) -> dict[str, np.ndarray]:
    """Measures the softmax of random scores with and without the division by sqrt(d_k).

    Returns:
      `dims`; per kind "raw" and "scaled" `<kind>_variance` and `<kind>_gradient [dims, 3]`, the
      10 %, 50 % and 90 % quantiles over the draws of the variance of four weights, and of the
      norm of their gradient by the scores; `one_hot`, the largest variance that there is.
    """
    random = np.random.default_rng(seed)
    query = np.float32(random.standard_normal((DRAWS, max(DIMS))))
    key = np.float32(random.standard_normal((DRAWS, given.KEYS, max(DIMS))))
    found = {"dims": np.array(DIMS)}
    for kind in ("raw", "scaled"):
        variances, norms = [], []
        for dim in DIMS:
            scores = np.einsum("nd,nkd->nk", query[:, :dim], key[..., :dim])
            scores = jnp.asarray(scores / dim**0.5 if kind == "scaled" else scores)
            variances.append(np.quantile(jnp.var(jax.nn.softmax(scores), axis=-1), (0.1, 0.5, 0.9)))
            norms.append(np.quantile(sharpness(scores)[1], (0.1, 0.5, 0.9)))
        found |= {f"{kind}_variance": np.array(variances), f"{kind}_gradient": np.array(norms)}
    one_hot = [1.0] + [0.0] * (given.KEYS - 1)
    return found | {"one_hot": np.array(closed_form.mean_and_variance(one_hot)[1])}
