"""Worked problems of optimization: SGD and momentum updates, a ravine, the two-step network.

Polyak 1964, "Some methods of speeding up the convergence of iteration methods": on a quadratic
with curvatures from m to L and k = L / m, the optimal rate is `4 / (sqrt(L) + sqrt(m))^2` and the
optimal momentum `((sqrt(k) - 1) / (sqrt(k) + 1))^2`; the distance decreases by the square root of
the momentum per step. Without momentum, the optimal rate is `2 / (L + m)`, with a factor of
`(k - 1) / (k + 1)` per step.
"""

import functools
import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxlabs.analysis import two_step_rnn
from jaxlabs.labs.worked_problems import published as given
from jaxlabs.labs.worked_problems import rows
from jaxlabs.labs.worked_problems.rows import Value

CURVATURES = np.array(given.RAVINE_CURVATURES)
LOW, HIGH = math.sqrt(min(CURVATURES)), math.sqrt(max(CURVATURES))
BEST_RATE = 4 / (HIGH + LOW) ** 2
BEST_MOMENTUM = ((HIGH - LOW) / (HIGH + LOW)) ** 2
PLAIN_RATE = 2 / (HIGH**2 + LOW**2)
METHODS = {
    "plain, best rate": (PLAIN_RATE, 0.0),
    "momentum 0.9": (BEST_RATE, given.MOMENTUM),
    "best momentum": (BEST_RATE, BEST_MOMENTUM),
}
"""Name -> (rate, momentum)."""


def problems() -> list[Value]:
    """Returns the values of all problems."""
    with jax.enable_x64(True):
        return [*_two_updates(), *_ravine(), *_network()]


def _two_updates() -> list[Value]:
    sgd, _ = _apply_updates(optax.sgd(given.RATE))
    momentum, velocities = _apply_updates(optax.sgd(given.RATE, momentum=given.MOMENTUM))
    first, second = given.GRADIENTS
    velocity = -given.RATE * first
    exact_velocities = [velocity, given.MOMENTUM * velocity - given.RATE * second]
    exact_sgd = [given.START - given.RATE * first, given.START - given.RATE * (first + second)]
    exact = [given.START + velocity, given.START + sum(exact_velocities)]
    compare = functools.partial(rows.compare, "optimization", labels=[["after 1", "after 2"]])
    return [
        *compare("theta by SGD", sgd, exact_sgd, given.PRINTED_SGD),
        *compare("velocity", velocities, exact_velocities, given.PRINTED_VELOCITIES),
        *compare("theta by momentum", momentum, exact, given.PRINTED_MOMENTUM),
    ]


def _apply_updates(
    optimizer: optax.GradientTransformation,
) -> tuple[list[float], list[float]]:
    """Returns the parameter after every given gradient, and the updates."""
    theta = jnp.asarray(given.START)
    state, thetas, updates = optimizer.init(theta), [], []
    for gradient in given.GRADIENTS:
        update, state = optimizer.update(jnp.asarray(gradient), state)
        theta = optax.apply_updates(theta, update)
        thetas.append(float(theta))
        updates.append(float(update))
    return thetas, updates


def _ravine() -> Iterator[Value]:
    import scipy.optimize

    compare = functools.partial(rows.compare, "a ravine")
    factor = functools.partial(convergence_factor, BEST_RATE)
    searched = scipy.optimize.minimize_scalar(
        factor, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-12}
    )
    yield from compare("best momentum, by numerical search", searched.x, BEST_MOMENTUM)
    for (name, (rate, momentum)), path in zip(METHODS.items(), trajectories(), strict=True):
        exact = [_closed_form(rate, momentum, axis) for axis in range(len(CURVATURES))]
        position = f"{name}: position after {given.RAVINE_STEPS} steps"
        yield from compare(position, path[-1], exact, labels=[["along", "across"]])
        ours = convergence_factor(rate, momentum)
        factor = math.sqrt(momentum) if momentum else 1 - rate * LOW**2
        yield from compare(f"{name}: factor per step", ours, factor)


def convergence_factor(rate: float, momentum: float) -> float:
    """Returns the asymptotic factor of the distance per step of optax, in the ravine.

    It is the spectral radius of the step, which is linear in position and velocity.
    """
    matrix = jax.jacfwd(lambda joined: _step(joined, rate, momentum))(jnp.zeros(4))
    return float(np.abs(np.linalg.eigvals(np.asarray(matrix))).max())


def _step(joined: jax.Array, rate: jax.Array | float, momentum: jax.Array | float) -> jax.Array:
    """Takes one step; `joined [4]` is the position and the momentum trace of optax."""
    optimizer = optax.sgd(rate, momentum=momentum)
    position, trace = jnp.split(joined, 2)
    _, rest = optimizer.init(position)
    gradient = jnp.asarray(CURVATURES) * position
    updates, (trace, _) = optimizer.update(gradient, (optax.TraceState(trace), rest))
    return jnp.concatenate([optax.apply_updates(position, updates), trace.trace])


@jax.jit
def _descend(rate: float, momentum: float) -> jax.Array:
    """Returns the positions `[step, 2]`, initial and after each step."""
    start = jnp.concatenate([jnp.asarray(given.RAVINE_START), jnp.zeros(2)])

    def step(joined, _):
        return _step(joined, rate, momentum), joined[:2]

    last, positions = lax.scan(step, start, length=given.RAVINE_STEPS)
    return jnp.concatenate([positions, last[None, :2]])


def trajectories() -> np.ndarray:
    """Returns the positions `[method, step, 2]` of every method, initial and after each step."""
    with jax.enable_x64(True):
        return np.stack([np.asarray(_descend(*setting)) for setting in METHODS.values()])


def _closed_form(rate: float, momentum: float, axis: int) -> float:
    """Returns the position after the last step along one axis, from the linear recurrence.

    `x_(t+1) = (1 + momentum - rate c) x_t - momentum x_(t-1)` has the solutions `a r^t + b s^t`
    with the roots r and s of `z^2 - (1 + momentum - rate c) z + momentum`, and `(a + b t) r^t` if r
    = s.
    """
    start, steps = given.RAVINE_START[axis], given.RAVINE_STEPS
    shrink = 1 - rate * CURVATURES[axis]
    if momentum == 0:
        return start * shrink**steps
    half = (shrink + momentum) / 2
    square = half**2 - momentum
    if abs(square) < 1e-12:
        return start * (1 + (shrink / half - 1) * steps) * half**steps
    root = np.sqrt(complex(square))
    r, s = half + root, half - root
    a = (shrink - s) / (r - s)
    return float((start * (a * r**steps + (1 - a) * s**steps)).real)


def _network() -> Iterator[Value]:
    compare = functools.partial(rows.compare, "a two-step network")
    weight, minimum, curvature = two_step_rnn.START, two_step_rnn.BEST, two_step_rnn.CURVATURE
    gradient = curvature * (weight - minimum)
    rates, printed = zip(*given.PRINTED_UPDATES.items(), strict=True)
    result = two_step_rnn.study(given.UPDATES, rates)
    yield from compare("loss", result["loss"], curvature * (weight - minimum) ** 2 / 2)
    yield from compare("gradient", result["gradient"], gradient, given.PRINTED_GRADIENT)
    yield from compare(
        "weight after 1 update",
        result["weights"][:, 1],
        [weight - rate * gradient for rate in rates],
        printed,
        labels=[[f"rate {rate:g}" for rate in rates]],
    )
    for last, rate in zip(result["weights"][:, -1], rates, strict=True):
        name = f"distance from the best after {given.UPDATES} updates, rate {rate:g}"
        exact = abs(1 - curvature * rate) ** given.UPDATES * abs(weight - minimum)
        yield from compare(name, abs(last - minimum), exact)
    for first, printed in ((0.0, given.PRINTED_SLOPE), (given.OTHER_FIRST_STATE, None)):
        ours = jax.grad(two_step_rnn.last_state)(jnp.asarray(weight), first)
        exact = weight * first + two_step_rnn.INPUT_TERMS[0] + weight * first
        yield from compare(f"dh2/dw_h from h0 = {first:g}", ours, exact, printed)


def arrays() -> dict[str, Sequence | np.ndarray]:
    """Returns `paths [method, step, 2]`, their `names`, `rates`, `momenta`, and `curvatures`."""
    rates, momenta = zip(*METHODS.values(), strict=True)
    return {
        "paths": trajectories(),
        "names": list(METHODS),
        "curvatures": CURVATURES,
        "rates": rates,
        "momenta": momenta,
    }
