"""Worked problems of attention: one head, two heads, score scaling, dot product and cosine."""

import functools
import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlabs.analysis.attention_demo import scaling_study, softmax_sharpness
from jaxlabs.labs.worked_problems import closed_form, rows
from jaxlabs.labs.worked_problems import published as given
from jaxlabs.labs.worked_problems.rows import Value
from jaxlabs.layers.attention import attention_output
from jaxlabs.layers.multi_head_attention import MultiHeadAttention

compare = functools.partial(rows.compare, "attention")

DIMS, SAMPLES = tuple(2**power for power in range(11)), 512
SCALES = {"with 1/sqrt(d_k)": 1 / math.sqrt(len(given.KEY[0])), "without": 1.0}

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
    scale, _ = SCALES.values()
    result = _attend(scale)
    exact = closed_form.attention(given.QUERY, given.KEY, given.VALUE, scale)
    power = math.exp(scale)
    return [
        *compare("Q K^T", result["scores"], exact["scores"], given.PRINTED_SCORES),
        *compare("weights A", result["weights"], exact["weights"], given.PRINTED_WEIGHTS),
        *compare("output A V", result["output"], exact["output"], given.PRINTED_OUTPUT),
        *compare(
            "weights A [2, 2], as a fraction",
            result["weights"][1, 1],
            1 / (power + 1),
            1 / (power + power),
            erratum=DENOMINATOR,
        ),
    ]


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
    return compare(
        "cosine of query and key", ours, exact, dot_products, erratum=DOT_PRODUCT_OR_COSINE
    )


def _two_heads() -> list[Value]:
    embed_dim, heads = len(given.TWO_HEADS_INPUT[0]), len(given.TWO_HEADS)
    total_dim = embed_dim * heads
    # The layer splits its features into heads; the other input features and their rows are 0.
    x = np.zeros((1, len(given.TWO_HEADS_INPUT), total_dim))
    x[0, :, :embed_dim] = given.TWO_HEADS_INPUT
    params = {"out": {"kernel": np.eye(total_dim)}}
    for name, *projections in zip(("query", "key", "value"), *given.TWO_HEADS, strict=True):
        kernel = np.zeros((total_dim, total_dim))
        kernel[:embed_dim] = np.concatenate(projections, axis=1)
        params[f"{name}_kernel"] = kernel
    layer = MultiHeadAttention(
        embed_dim=total_dim, num_heads=heads, length=x.shape[1], out_bias=False, precision="highest"
    )
    ours = layer.apply({"params": jax.tree.map(jnp.asarray, params)}, jnp.asarray(x))[0]
    exact = np.concatenate([_head(*head) for head in given.TWO_HEADS], axis=1)
    return compare("two heads, concatenated", ours, exact, given.PRINTED_TWO_HEADS)


def _head(*projections: closed_form.Matrix) -> list[list[float]]:
    query, key, value = (
        closed_form.product(given.TWO_HEADS_INPUT, matrix) for matrix in projections
    )
    return closed_form.attention(query, key, value, scale=1 / math.sqrt(len(query[0])))["output"]


def _sharpness() -> Iterator[Value]:
    for name, (probabilities, printed) in given.SHARPNESS.items():
        logits = jnp.asarray([math.log(p) if p else -1e4 for p in probabilities])
        yield from _softmax_statistics(f"{name} weights", logits, probabilities, printed)


def _unscaled() -> Iterator[Value]:
    """Compares the second query's weights with and without scaling."""
    for name, scale in SCALES.items():
        exact = closed_form.attention(given.QUERY, given.KEY, given.VALUE, scale)["weights"][1]
        result = _attend(scale)
        yield from compare(f"query 2 {name}: weight", result["weights"][1], exact)
        logits = jnp.asarray(result["scores"][1] * scale)
        yield from _softmax_statistics(f"query 2 {name}", logits, exact)
    for name, score in zip(SCALES, (1.0, math.sqrt(given.LARGE_D_K)), strict=True):
        scores = [score] + [0.0] * (given.KEYS - 1)
        name = f"d_k = {given.LARGE_D_K}, one score a standard deviation above the others, {name}"
        yield from _softmax_statistics(name, jnp.asarray(scores), closed_form.softmax(scores))


def _dot_product_std() -> list[Value]:
    """Compares dot products with norms for entries of +-1, for which both are exact.

    The keys are the rows of a Hadamard matrix and their negatives: over these, the entries are
    uncorrelated with mean 0 and variance 1.
    """
    import scipy.linalg

    d_k = given.LARGE_D_K
    hadamard = scipy.linalg.hadamard(d_k)
    keys = jnp.asarray(np.concatenate([hadamard, -hadamard]), jnp.float64)[None, None]
    query = jnp.where(jnp.arange(d_k) % 3 == 0, 1.0, -1.0)
    scores = attention_output(query[None, None, None], keys, keys, precision="highest").scores
    norms = jnp.linalg.norm(query) * jnp.linalg.norm(keys, axis=-1).mean()
    deviation, root = jnp.std(scores), math.sqrt(d_k)
    name = f"d_k = {d_k}, entries ±1"
    return [
        *compare(f"{name}: product of the norms", norms, float(d_k)),
        *compare(
            f"{name}: standard deviation of the dot product",
            deviation * root,
            root,
            float(d_k),
            erratum=SCALE_DERIVATION,
        ),
        *compare(f"{name}: standard deviation of the scores", deviation, 1.0),
    ]


def _softmax_statistics(
    name: str, logits: jax.Array, probabilities: Sequence[float], printed: str | None = None
) -> list[Value]:
    """Returns variance, entropy and gradient norm of the softmax of `logits [keys]`."""
    (entropy,), (norm,) = softmax_sharpness(logits[None])
    variance = closed_form.mean_and_variance(probabilities)[1]
    ours = jnp.var(jax.nn.softmax(logits))
    erratum = f"The variance of these weights is {variance:.4f}." if printed is not None else ""
    exact_norm = closed_form.softmax_jacobian_norm(probabilities)
    return [
        *compare(f"{name}: variance", ours, variance, printed, erratum=erratum),
        *compare(f"{name}: entropy", entropy, closed_form.entropy(probabilities)),
        *compare(f"{name}: gradient by the scores", norm, exact_norm),
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
