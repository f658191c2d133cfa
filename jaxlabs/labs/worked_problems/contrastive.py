"""Worked problems of contrastive losses: gradients of InfoNCE and SigLIP, and temperature."""

import functools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.labs.worked_problems import closed_form, rows
from jaxlabs.labs.worked_problems import published as given
from jaxlabs.labs.worked_problems.rows import Value
from jaxlabs.losses.contrastive import info_nce, pairwise_sigmoid, symmetric_info_nce

COUNT = len(given.COSINES)
SUM_OVER_QUERIES = (
    "The derivative with respect to one s_ik keeps the sum over i of the loss. This sums over the"
    " column and gives every query the same gradient."
)
NO_BRACKETS = (
    "InfoNCE and the CLIP objective are printed without brackets, as -s_ii - log sum_k exp(s_ik),"
    " which flips the sign of the log term: it is -(s_ii - log sum_k exp(s_ik))."
)
PLOTTED_COSINES = (0.8, 0.6, 0.3, -0.2)
"""Cosines of the plotted query: first its positive key, then three negatives."""


def problems() -> list[Value]:
    """Returns the values of all problems."""
    with jax.enable_x64(True):
        return [*_gradient(), *_temperatures(), *_siglip()]


def info_nce_gradient(cosines: jax.Array, temperature: float) -> jax.Array:
    """Returns the gradient of the mean InfoNCE loss with respect to cosines `[queries, keys]`."""
    return jax.grad(lambda s: jnp.mean(info_nce(s / temperature)))(cosines)


def _gradient() -> list[Value]:
    logits = np.array(given.COSINES) / given.TEMPERATURE
    own = np.eye(COUNT)
    exact = (np.array([closed_form.softmax(row) for row in logits]) - own) / COUNT
    ours = info_nce_gradient(jnp.asarray(logits), 1.0)
    column_sums = np.broadcast_to(exact.sum(axis=0, keepdims=True), exact.shape)
    by_query, by_key = (_losses(scores) for scores in (logits, logits.T))
    by_pair = (by_query + by_key) / 2
    queries, clip = (loss(jnp.asarray(logits)) for loss in (info_nce, symmetric_info_nce))
    equal = jnp.mean(info_nce(jnp.zeros((COUNT, COUNT))))
    compare = functools.partial(rows.compare, "InfoNCE")
    return [
        *compare("loss of query", queries, *by_query, erratum=NO_BRACKETS),
        *compare("CLIP's loss of pair", clip, *by_pair, erratum=NO_BRACKETS),
        *compare("loss at equal logits", equal, math.log(COUNT)),
        *compare("dL/ds", ours, exact, column_sums, erratum=SUM_OVER_QUERIES),
        *compare("sign of dL/ds", jnp.sign(ours), 1 - 2 * own),
        *compare("sum of dL/ds over keys, query", ours.sum(axis=1), np.zeros(COUNT)),
    ]


def _losses(scores: np.ndarray) -> np.ndarray:
    """Returns the losses `[2, rows]` of the rows: correct, and as printed, without brackets."""
    own = np.diag(scores)
    logs = np.array([math.log(math.fsum(math.exp(s) for s in row)) for row in scores])
    return np.stack([logs - own, -own - logs])


def _temperatures() -> Iterator[Value]:
    """Compares the gradients of the first query's positive and of its nearest negative."""
    row = given.COSINES[0]
    compare = functools.partial(rows.compare, "temperature")
    nearest = max(range(1, COUNT), key=row.__getitem__)
    for temperature in given.TEMPERATURES:
        ours = info_nce_gradient(jnp.asarray(given.COSINES), temperature)[0]
        probabilities = closed_form.softmax([cosine / temperature for cosine in row])
        negatives = 1 - probabilities[0]
        name = f"temperature {temperature:g}"
        yield from compare(
            f"{name}: gradient of query 1's positive cosine",
            ours[0],
            -negatives / (COUNT * temperature),
        )
        yield from compare(
            f"{name}: fraction of the nearest negative in the repulsion",
            ours[nearest] / -ours[0],
            probabilities[nearest] / negatives,
        )


def _siglip() -> list[Value]:
    cosines = np.array(given.COSINES)
    raised = cosines.copy()
    raised[given.RAISED] += given.RAISED_BY
    signs = 2 * np.eye(COUNT) - 1
    scale, bias = given.SIGLIP_SCALE, given.SIGLIP_BIAS

    def siglip(s: jax.Array) -> jax.Array:
        return jnp.mean(pairwise_sigmoid(scale * s + bias))

    margins = signs * (scale * cosines + bias)
    terms = np.logaddexp(0, -margins)
    gradient = -scale * signs / (1 + np.exp(margins)) / COUNT
    ours, after = (jax.grad(siglip)(jnp.asarray(s)) for s in (cosines, raised))
    query, key = given.RAISED
    before, now = (
        closed_form.softmax(s[query] / given.TEMPERATURE)[query] for s in (cosines, raised)
    )
    expected = (now - before) / (COUNT * given.TEMPERATURE)
    info = [info_nce_gradient(jnp.asarray(s), given.TEMPERATURE) for s in (cosines, raised)]
    change = info[1][query, query] - info[0][query, query]
    moved = f"s_{query + 1}{key + 1} raised by {given.RAISED_BY:g}"
    of = f"{moved}: change of dL/ds_{query + 1}{query + 1}"
    others = np.delete(jnp.abs(after - ours), query * COUNT + key)
    largest = f"{moved}: largest change of any other dL/ds, SigLIP"
    compare = functools.partial(rows.compare, "SigLIP")
    return [
        *compare("loss", siglip(jnp.asarray(cosines)), terms.sum() / COUNT),
        *compare("dL/ds", ours, gradient),
        *compare(f"{of}, SigLIP", after[query, query] - ours[query, query], 0.0),
        *compare(f"{of}, InfoNCE", change, expected),
        *compare(largest, others.max(), 0.0),
    ]


def arrays() -> dict[str, np.ndarray]:
    """Returns the gradient with respect to one query's cosines by temperature.

    `temperatures`; `cosines [keys]`, that of the positive key first; `gradients [temperatures,
    keys]`.
    """
    temperatures = np.geomspace(0.02, 2, 49)
    with jax.enable_x64(True):
        cosines = jnp.asarray(PLOTTED_COSINES)[None]
        by_temperature = jax.jit(jax.vmap(functools.partial(info_nce_gradient, cosines)))
        gradients = np.asarray(by_temperature(jnp.asarray(temperatures))[:, 0])
    cosines = np.array(PLOTTED_COSINES)
    return {"gradients": gradients, "temperatures": temperatures, "cosines": cosines}
