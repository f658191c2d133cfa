"""Worked problems of attention: one head, two heads, score scaling, dot product and cosine."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg

from jaxlabs.analysis.attention_demo import scaling_study, softmax_sharpness
from jaxlabs.labs.worked_problems import closed_form
from jaxlabs.labs.worked_problems import published as given
from jaxlabs.labs.worked_problems.rows import Value, compare
from jaxlabs.layers.attention import attention_output
from jaxlabs.layers.multi_head_attention import MultiHeadAttention

THEME = "attention"

DIMS, SAMPLES = tuple(2**power for power in range(11)), 512

DOT_PRODUCT_OR_COSINE = (
    "The dot product Q K^T is called a cosine similarity, which holds only for unit vectors;"
    " [1, 1] is not one."
)
DENOMINATOR = (
    "This weight is written with the denominator e^(1/√2) + e^(1/√2); its printed value 0.330 is"
    " correct, and equals 1 / (e^(1/√2) + 1)."
)
SCALE_DERIVATION = (
    "The reason given for √d_k is that each norm grows as √d_k. Their product grows as d_k; what"
    " grows as √d_k, for independent entries of mean 0 and variance 1, is the standard deviation of"
    " the dot product."
)


def problems() -> list[Value]:
    """Returns the values of all problems."""
    with jax.enable_x64(True):
        return [
            *_one_head(),
            *_cosine(),
            *_two_heads(),
            *_sharpness(),
            *_unscaled(),
            *_dot_product_std(),
        ]


def _one_head() -> list[Value]:
    scale = 1 / math.sqrt(len(given.QUERY[0]))
    result = _attend(scale=scale)
    exact = closed_form.attention(given.QUERY, given.KEY, given.VALUE, scale)
    rows = []
    for key, name, printed in (
        ("scores", "Q K^T", given.PRINTED_SCORES),
        ("weights", "weights A", given.PRINTED_WEIGHTS),
        ("output", "output A V", given.PRINTED_OUTPUT),
    ):
        rows += compare(THEME, name, result[key], exact[key], printed)
    power, name = math.exp(scale), "weights A [2, 2], as a fraction"
    formula = 1 / (power + power)
    ours, exact = result["weights"][1, 1], 1 / (power + 1)
    return rows + compare(THEME, name, ours, exact, formula, erratum=DENOMINATOR)


def _attend(scale: float) -> dict[str, np.ndarray]:
    """Computes attention by `attention_output`, with `scale` instead of 1 / sqrt(d_k)."""
    query, key, value = (
        jnp.asarray(matrix, jnp.float64)[None, None]
        for matrix in (given.QUERY, given.KEY, given.VALUE)
    )
    root = math.sqrt(query.shape[-1])
    attended = attention_output(query * (scale * root), key, value, precision="highest")
    result = {
        "scores": attended.scores / scale,
        "weights": attended.weights,
        "output": attended.output,
    }
    return {name: np.asarray(array)[0, 0] for name, array in result.items()}


def _cosine() -> list[Value]:
    query, key = (jnp.asarray(matrix, jnp.float64) for matrix in (given.QUERY, given.KEY))
    ours = optax.cosine_similarity(query[:, None], key[None, :])
    exact = [
        [closed_form.dot(q, k) / math.hypot(*q) / math.hypot(*k) for k in given.KEY]
        for q in given.QUERY
    ]
    dot_products = closed_form.product(given.QUERY, closed_form.transposed(given.KEY))
    name = "cosine of query and key"
    return compare(THEME, name, ours, exact, dot_products, erratum=DOT_PRODUCT_OR_COSINE)


def _two_heads() -> list[Value]:
    embed_dim, heads = len(given.TWO_HEADS_INPUT[0]), len(given.TWO_HEADS)
    total_dim = embed_dim * heads
    # The layer splits its features into heads; the other input features and their rows are 0.
    x = np.zeros((1, len(given.TWO_HEADS_INPUT), total_dim))
    x[0, :, :embed_dim] = given.TWO_HEADS_INPUT
    params = {"out": {"kernel": np.eye(total_dim)}}
    for index, name in enumerate(("query", "key", "value")):
        kernel = np.zeros((total_dim, total_dim))
        kernel[:embed_dim] = np.concatenate([head[index] for head in given.TWO_HEADS], axis=1)
        params[f"{name}_kernel"] = kernel
    layer = MultiHeadAttention(
        embed_dim=total_dim, num_heads=heads, length=x.shape[1], out_bias=False, precision="highest"
    )
    ours = layer.apply({"params": jax.tree.map(jnp.asarray, params)}, jnp.asarray(x))[0]
    exact = np.concatenate([_head(*head) for head in given.TWO_HEADS], axis=1)
    return compare(THEME, "two heads, concatenated", ours, exact, given.PRINTED_TWO_HEADS)


def _head(*projections: Sequence[Sequence[float]]) -> list[list[float]]:
    query, key, value = (
        closed_form.product(given.TWO_HEADS_INPUT, matrix) for matrix in projections
    )
    return closed_form.attention(query, key, value, scale=1 / math.sqrt(len(query[0])))["output"]


def _sharpness() -> list[Value]:
    rows = []
    for name, (probabilities, printed) in given.SHARPNESS.items():
        logits = jnp.asarray([math.log(p) if p else -1e4 for p in probabilities])
        rows += _softmax_statistics(f"{name} weights", logits, probabilities, printed)
    return rows


def _unscaled() -> list[Value]:
    """Compares the second query's weights with and without scaling."""
    rows = []
    for name, scale in (("with 1/sqrt(d_k)", 1 / math.sqrt(len(given.KEY[0]))), ("without", 1.0)):
        exact = closed_form.attention(given.QUERY, given.KEY, given.VALUE, scale)
        result = _attend(scale)
        row = f"query 2 {name}"
        rows += compare(THEME, f"{row}: weight", result["weights"][1], exact["weights"][1])
        logits = jnp.asarray(result["scores"][1] * scale)
        rows += _softmax_statistics(row, logits, exact["weights"][1])
    deviation = math.sqrt(given.LARGE_D_K)
    for name, score in (("with 1/sqrt(d_k)", 1.0), ("without", deviation)):
        scores = [score] + [0.0] * (given.KEYS - 1)
        name = f"d_k = {given.LARGE_D_K}, one score a standard deviation above the others, {name}"
        rows += _softmax_statistics(name, jnp.asarray(scores), closed_form.softmax(scores))
    return rows


def _dot_product_std() -> list[Value]:
    """Compares dot products with norms for entries of +-1, for which both are exact.

    The keys are the rows of a Hadamard matrix and their negatives: over these, the entries are
    uncorrelated with mean 0 and variance 1.
    """
    d_k = given.LARGE_D_K
    rows = scipy.linalg.hadamard(d_k)
    keys = jnp.asarray(np.concatenate([rows, -rows]), jnp.float64)
    query = jnp.where(jnp.arange(d_k) % 3 == 0, 1.0, -1.0)
    keys = keys[None, None]
    scores = attention_output(query[None, None, None], keys, keys, precision="highest").scores
    norms = jnp.linalg.norm(query) * jnp.linalg.norm(keys, axis=-1).mean()
    deviation, root = jnp.std(scores), math.sqrt(d_k)
    name = f"d_k = {d_k}, entries ±1"
    dots = f"{name}: standard deviation of the dot product"
    return [
        *compare(THEME, f"{name}: product of the norms", norms, float(d_k)),
        *compare(THEME, dots, deviation * root, root, float(d_k), erratum=SCALE_DERIVATION),
        *compare(THEME, f"{name}: standard deviation of the scores", deviation, 1.0),
    ]


def _softmax_statistics(
    name: str, logits: jax.Array, probabilities: Sequence[float], printed: str | None = None
) -> list[Value]:
    """Returns variance, entropy and gradient norm of the softmax of `logits [keys]`."""
    entropies, norms = softmax_sharpness(logits[None])
    variance = closed_form.mean_and_variance(probabilities)[1]
    ours = jnp.var(jax.nn.softmax(logits))
    erratum = f"The variance of these weights is {variance:.4f}." if printed is not None else ""
    exact = closed_form.entropy(probabilities), closed_form.softmax_jacobian_norm(probabilities)
    return [
        *compare(THEME, f"{name}: variance", ours, variance, printed, erratum=erratum),
        *compare(THEME, f"{name}: entropy", entropies[0], exact[0]),
        *compare(THEME, f"{name}: gradient by the scores", norms[0], exact[1]),
    ]


def arrays(seed: int) -> dict[str, np.ndarray]:
    """Measures the softmax of random scores with and without the division by sqrt(d_k).

    Returns:
      The arrays of `scaling_study` for four keys, and `one_hot`, the variance of one-hot weights,
      the maximum.
    """
    one_hot = [1.0] + [0.0] * (given.KEYS - 1)
    study = scaling_study(DIMS, seed, num_keys=given.KEYS, samples=SAMPLES)
    return study | {"one_hot": np.array(closed_form.mean_and_variance(one_hot)[1])}
