"""Worked problems of contrastive losses: gradients of InfoNCE and SigLIP, and temperature."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.labs.worked_problems import closed_form
from jaxlabs.labs.worked_problems import published as given
from jaxlabs.labs.worked_problems.rows import Value, compare
from jaxlabs.losses.contrastive import info_nce, pairwise_sigmoid, symmetric_info_nce

INFO_NCE, TEMPERATURE, SIGLIP = "InfoNCE", "temperature", "SigLIP"

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
        return _gradient() + _temperatures() + _siglip()


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
    pairs = (by_query + by_key) / 2
    queries, clip = (loss(jnp.asarray(logits)) for loss in (info_nce, symmetric_info_nce))
    equal = jnp.mean(info_nce(jnp.zeros((COUNT, COUNT))))
    return [
        *compare(INFO_NCE, "loss of query", queries, *by_query, erratum=NO_BRACKETS),
        *compare(INFO_NCE, "CLIP's loss of pair", clip, *pairs, erratum=NO_BRACKETS),
        *compare(INFO_NCE, "loss at equal logits", equal, math.log(COUNT)),
        *compare(INFO_NCE, "dL/ds", ours, exact, column_sums, erratum=SUM_OVER_QUERIES),
        *compare(INFO_NCE, "sign of dL/ds", jnp.sign(ours), 1 - 2 * own),
        *compare(INFO_NCE, "sum of dL/ds over keys, query", ours.sum(axis=1), np.zeros(COUNT)),
    ]


def _losses(scores: np.ndarray) -> np.ndarray:
    """Returns the losses `[2, rows]` of the rows: correct, and as printed, without brackets."""
    own = np.diag(scores)
    logs = np.array([math.log(math.fsum(math.exp(s) for s in row)) for row in scores])
    return np.stack([logs - own, -own - logs])


def _temperatures() -> list[Value]:
    """Returns the gradients of the first query's positive and of its nearest negative."""
    row, rows = given.COSINES[0], []
    nearest = max(range(1, COUNT), key=row.__getitem__)
    for temperature in given.TEMPERATURES:
        ours = info_nce_gradient(jnp.asarray(given.COSINES), temperature)[0]
        probabilities = closed_form.softmax([cosine / temperature for cosine in row])
        wrong = 1 - probabilities[0]
        name = f"temperature {temperature:g}"
        positive = f"{name}: gradient of query 1's positive cosine"
        rows += compare(TEMPERATURE, positive, ours[0], -wrong / (COUNT * temperature))
        fraction = f"{name}: fraction of the nearest negative in the repulsion"
        exact = probabilities[nearest] / wrong
        rows += compare(TEMPERATURE, fraction, ours[nearest] / -ours[0], exact)
    return rows


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
    other = (query, query)
    probabilities = [
        closed_form.softmax(s[query] / given.TEMPERATURE)[query] for s in (cosines, raised)
    ]
    expected_change = (probabilities[1] - probabilities[0]) / (COUNT * given.TEMPERATURE)
    info = [info_nce_gradient(jnp.asarray(s), given.TEMPERATURE) for s in (cosines, raised)]
    moved = f"s_{query + 1}{key + 1} raised by {given.RAISED_BY:g}"
    of = f"change of dL/ds_{query + 1}{query + 1}"
    unchanged = np.arange(COUNT**2) != query * COUNT + key
    largest_change = jnp.abs(after - ours).ravel()[unchanged].max()
    largest = f"{moved}: largest change of any other dL/ds, SigLIP"
    change = info[1][other] - info[0][other]
    return [
        *compare(SIGLIP, "loss", siglip(jnp.asarray(cosines)), terms.sum() / COUNT),
        *compare(SIGLIP, "dL/ds", ours, gradient),
        *compare(SIGLIP, f"{moved}: {of}, SigLIP", after[other] - ours[other], 0.0),
        *compare(SIGLIP, f"{moved}: {of}, InfoNCE", change, expected_change),
        *compare(SIGLIP, largest, largest_change, 0.0),
    ]


def arrays() -> dict[str, np.ndarray]:
    """Returns the gradient with respect to one query's cosines by temperature.

    `temperatures`; `cosines [keys]`, that of the positive key first; `gradients [temperatures,
    keys]`.
    """
    temperatures = np.geomspace(0.02, 2, 49)
    with jax.enable_x64(True):
        cosines = jnp.asarray(PLOTTED_COSINES)[None]
        gradients = jax.jit(
            jax.vmap(lambda temperature: info_nce_gradient(cosines, temperature)[0])
        )
        result = {"gradients": np.asarray(gradients(jnp.asarray(temperatures)))}
    return result | {"temperatures": temperatures, "cosines": np.array(PLOTTED_COSINES)}
