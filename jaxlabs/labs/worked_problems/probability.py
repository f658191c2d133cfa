"""Worked problems of probability: softmax of scaled logits, Bayes' rule, and the ELBO."""

import functools
import math
from collections.abc import Iterator
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.labs.worked_problems import closed_form, rows
from jaxlabs.labs.worked_problems import published as given
from jaxlabs.labs.worked_problems.rows import Value
from jaxlabs.losses.cross_entropy import cross_entropy
from jaxlabs.losses.elbo import gaussian_kl, gaussian_log_likelihood

WRONG_SIGN = "The last line has -KL instead of +KL: log p(x) is the ELBO plus the divergence."


def problems() -> list[Value]:
    """Returns the values of all problems."""
    with jax.enable_x64(True):
        return [*_softmax(), *_bayes(), *_elbo()]


def _softmax() -> Iterator[Value]:
    for factor, printed in given.PRINTED_SHARES.items():
        logits = [factor * logit for logit in given.LOGITS]
        exact = closed_form.softmax(logits)
        classes = jnp.arange(len(logits))
        ours = jnp.exp(-cross_entropy(jnp.tile(jnp.asarray(logits, float), (3, 1)), classes))
        name = f"softmax of [{', '.join(map(str, logits))}]"
        erratum = f"The {name} is [{', '.join(f'{p:.4f}' for p in exact)}]."
        yield from rows.compare("softmax", name, ours, exact, printed, erratum=erratum)


def _bayes() -> list[Value]:
    classes = [NormalDist(*pair) for pair in zip(given.MEANS, given.DEVIATIONS, strict=True)]
    likelihoods = [one.pdf(given.OBSERVED) for one in classes]
    joint = [prior * p for prior, p in zip(given.PRIORS, likelihoods, strict=True)]
    means, scales = jnp.asarray(given.MEANS), jnp.log(jnp.asarray(given.DEVIATIONS))
    x = jnp.asarray([given.OBSERVED])
    log_likelihoods = jax.vmap(gaussian_log_likelihood, (0, None, 0))(means[:, None], x, scales)
    log_joint = jnp.log(jnp.asarray(given.PRIORS)) + log_likelihoods
    evidence = math.fsum(joint)
    compare = functools.partial(rows.compare, "Bayes' rule")
    by_class = functools.partial(compare, labels=[["class 1", "class 2"]])
    return [
        *by_class("prior", given.PRIORS, [1 - given.PRIORS[1], given.PRIORS[1]]),
        *by_class("likelihood p(x|c)", jnp.exp(log_likelihoods), likelihoods),
        *compare("evidence p(x)", jnp.exp(jax.nn.logsumexp(log_joint)), evidence),
        *by_class("posterior p(c|x)", jax.nn.softmax(log_joint), [p / evidence for p in joint]),
    ]


def _elbo() -> Iterator[Value]:
    x, noise = given.ELBO_OBSERVED, given.NOISE
    mean, deviation = given.POSTERIOR_GUESS
    guess = NormalDist(mean, deviation)
    evidence = NormalDist(0, math.sqrt(1 + noise**2))
    posterior = NormalDist(x / (1 + noise**2), noise / math.sqrt(1 + noise**2))
    exact = {
        "E_q[log p(x|z)]": -((x - mean) ** 2 + deviation**2) / (2 * noise**2)
        - math.log(noise * math.sqrt(2 * math.pi)),
        "KL(q(z|x) || p(z))": _divergence(guess, NormalDist()),
        "KL(q(z|x) || p(z|x))": _divergence(guess, posterior),
        "log p(x)": math.log(evidence.pdf(x)),
    }
    # Gauss-Hermite quadrature is exact for the quadratic log-likelihood.
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    z = mean + deviation * jnp.asarray(nodes)
    likelihoods = gaussian_log_likelihood(z[:, None], jnp.asarray([[x]]), math.log(noise))
    # The divergence is invariant to standardizing z by the posterior.
    shift = (mean - posterior.mean) / posterior.stdev
    log_ratio = 2 * math.log(deviation / posterior.stdev)
    likelihood = jnp.asarray(weights / weights.sum()) @ likelihoods
    prior = gaussian_kl(jnp.asarray(mean), jnp.log(jnp.asarray(deviation)) * 2)
    gap = gaussian_kl(jnp.asarray(shift), jnp.asarray(log_ratio))
    log_p = gaussian_log_likelihood(jnp.zeros(1), jnp.asarray([x]), math.log(evidence.stdev))
    compare = functools.partial(rows.compare, "the ELBO")
    for (name, value), ours in zip(exact.items(), (likelihood, prior, gap, log_p), strict=True):
        yield from compare(name, ours, value)
    elbo = likelihood - prior
    bound = exact["log p(x)"] - exact["KL(q(z|x) || p(z|x))"]
    yield from compare("ELBO = E_q[log p(x|z)] - KL(q(z|x) || p(z))", elbo, bound)
    yield from compare(
        "log p(x) from the ELBO",
        elbo + gap,
        exact["log p(x)"],
        float(elbo - gap),
        erratum=WRONG_SIGN,
    )


def _divergence(q: NormalDist, p: NormalDist) -> float:
    """Returns `KL(q || p)` of two normal densities, in nats."""
    squares = (q.variance + (q.mean - p.mean) ** 2) / p.variance
    return (squares - 1) / 2 + math.log(p.stdev / q.stdev)
