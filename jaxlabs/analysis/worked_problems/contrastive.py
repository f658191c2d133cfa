"""InfoNCE's gradient, its signs and its temperature, and what SigLIP's does not depend on."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.analysis.worked_problems import closed_form
from jaxlabs.analysis.worked_problems.rows import Number, numbers
from jaxlabs.losses.contrastive import info_nce, pairwise_sigmoid, symmetric_info_nce
from jaxlabs.published import worked_problems as given

INFO_NCE, TEMPERATURE, SIGLIP = "InfoNCE", "temperature", "SigLIP"

COUNT = len(given.COSINES)
KEPT_SUM = (
    "The gradient by one s_ik keeps the loss's sum over i, which is gone once i is chosen: kept, it"
    " adds up the column, and every query gets the same gradient."
)
NO_BRACKETS = (
    "InfoNCE and the CLIP objective are printed without brackets, as -s_ii - log sum_k exp(s_ik),"
    " which turns the sign of the log term: it is -(s_ii - log sum_k exp(s_ik))."
)
SHOWN_COSINES = (0.8, 0.6, 0.3, -0.2)
"""Of one query, for the picture: first its own key, then three others."""


def problems() -> list[Number]:
    """Returns the numbers of all problems."""
    with jax.enable_x64(True):
        return _gradient() + _temperatures() + _siglip()


def info_nce_gradient(cosines: jax.Array, temperature: float) -> jax.Array:
    """Returns the gradient of the mean InfoNCE loss by the cosines `[queries, keys]`."""
    return jax.grad(lambda s: jnp.mean(info_nce(s / temperature)))(cosines)


def _gradient() -> list[Number]:
    logits = np.array(given.COSINES) / given.TEMPERATURE
    shares = [closed_form.softmax(row) for row in logits]
    own = np.eye(COUNT)
    exact = (np.array(shares) - own) / COUNT
    ours = info_nce_gradient(jnp.asarray(logits), 1.0)
    kept = np.broadcast_to(exact.sum(axis=0, keepdims=True), exact.shape)
    even = jnp.zeros((COUNT, COUNT))
    losses = {}
    for name, scores in {"queries": logits, "keys": logits.T}.items():
        pairs = np.diag(scores)
        logs = np.array([math.log(math.fsum(math.exp(s) for s in row)) for row in scores])
        losses[name] = {"exact": logs - pairs, "printed": -pairs - logs}
    both = {way: sum(of[way] for of in losses.values()) / 2 for way in ("exact", "printed")}
    return [
        *numbers(
            *(INFO_NCE, "loss of query", info_nce(jnp.asarray(logits))),
            *losses["queries"].values(),
            mark=NO_BRACKETS,
        ),
        *numbers(
            *(INFO_NCE, "CLIP's loss of pair", symmetric_info_nce(jnp.asarray(logits))),
            *both.values(),
            mark=NO_BRACKETS,
        ),
        *numbers(INFO_NCE, "loss at equal logits", jnp.mean(info_nce(even)), math.log(COUNT)),
        *numbers(INFO_NCE, "dL/ds", ours, exact, kept, mark=KEPT_SUM),
        *numbers(INFO_NCE, "sign of dL/ds", jnp.sign(ours), 1 - 2 * own),
        *numbers(INFO_NCE, "sum of dL/ds over keys, query", ours.sum(axis=1), np.zeros(COUNT)),
    ]


def _temperatures() -> list[Number]:
    """Follows the first query: what pulls its own key and pushes the nearest other one."""
    row, rows = given.COSINES[0], []
    nearest = max(range(1, COUNT), key=row.__getitem__)
    for temperature in given.TEMPERATURES:
        ours = info_nce_gradient(jnp.asarray(given.COSINES), temperature)[0]
        shares = closed_form.softmax([cosine / temperature for cosine in row])
        wrong = 1 - shares[0]
        name = f"temperature {temperature:g}"
        rows += numbers(
            *(TEMPERATURE, f"{name}: gradient of query 1's own cosine", ours[0]),
            -wrong / (COUNT * temperature),
        )
        rows += numbers(
            *(TEMPERATURE, f"{name}: share of its nearest negative in the push"),
            *(ours[nearest] / -ours[0], shares[nearest] / wrong),
        )
    return rows


def _siglip() -> list[Number]:
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
    before_and_after = [
        closed_form.softmax(s[query] / given.TEMPERATURE)[query] for s in (cosines, raised)
    ]
    changed = (before_and_after[1] - before_and_after[0]) / (COUNT * given.TEMPERATURE)
    info = [info_nce_gradient(jnp.asarray(s), given.TEMPERATURE) for s in (cosines, raised)]
    moved = f"s_{query + 1}{key + 1} raised by {given.RAISED_BY:g}"
    of = f"change of dL/ds_{query + 1}{query + 1}"
    apart = np.arange(COUNT**2) != query * COUNT + key
    untouched = jnp.abs(after - ours).ravel()[apart].max()
    return [
        *numbers(SIGLIP, "loss", siglip(jnp.asarray(cosines)), terms.sum() / COUNT),
        *numbers(SIGLIP, "dL/ds", ours, gradient),
        *numbers(SIGLIP, f"{moved}: {of}, SigLIP", after[other] - ours[other], 0.0),
        *numbers(SIGLIP, f"{moved}: {of}, InfoNCE", info[1][other] - info[0][other], changed),
        *numbers(SIGLIP, f"{moved}: largest change of any other dL/ds, SigLIP", untouched, 0.0),
    ]


def arrays() -> dict[str, np.ndarray]:
    """Returns the gradient of one query's cosines against the temperature.

    `temperatures`; `cosines [keys]`, the first of the query's own key; `gradients
    [temperatures, keys]`.
    """
    temperatures = np.geomspace(0.02, 2, 49)
    with jax.enable_x64(True):
        cosines = jnp.asarray(SHOWN_COSINES)[None]

        def one(temperature: jax.Array) -> jax.Array:
            return info_nce_gradient(cosines, temperature)[0]

        gradients = jax.jit(jax.vmap(one))(jnp.asarray(temperatures))
    found = {"temperatures": temperatures, "cosines": np.array(SHOWN_COSINES)}
    return found | {"gradients": np.asarray(gradients)}
