"""Updates by hand, heavy-ball momentum in a ravine, and the two-step network's learning rates.

Polyak 1964, "Some methods of speeding up the convergence of iteration methods": on a quadratic
whose curvatures lie between m and L, with k = L / m, the rate `4 / (sqrt(L) + sqrt(m))^2` and the
momentum `((sqrt(k) - 1) / (sqrt(k) + 1))^2` are the best, and shrink the distance by the root of
that momentum per step. Without momentum it is the rate `2 / (L + m)` and `(k - 1) / (k + 1)`.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from jax import lax

from jaxlabs.analysis import two_step_rnn
from jaxlabs.analysis.worked_problems.rows import Number, numbers
from jaxlabs.published import worked_problems as given

UPDATES, RAVINE, NETWORK = "optimization", "a ravine", "a two-step network"

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


def problems() -> list[Number]:
    """Returns the numbers of all problems."""
    with jax.enable_x64(True):
        return _two_updates() + _ravine() + _network()


def _two_updates() -> list[Number]:
    sgd, _ = _follow(optax.sgd(given.RATE))
    momentum, velocities = _follow(optax.sgd(given.RATE, momentum=given.MOMENTUM))
    first, second = given.GRADIENTS
    exact_velocities = [-given.RATE * first]
    exact_velocities.append(given.MOMENTUM * exact_velocities[0] - given.RATE * second)
    exact_sgd = [given.START - given.RATE * first, given.START - given.RATE * (first + second)]
    exact = [given.START + exact_velocities[0], given.START + sum(exact_velocities)]
    steps = [["after 1", "after 2"]]
    return [
        *numbers(UPDATES, "theta by SGD", sgd, exact_sgd, given.PRINTED_SGD, labels=steps),
        *numbers(
            *(UPDATES, "velocity", velocities, exact_velocities, given.PRINTED_VELOCITIES),
            labels=steps,
        ),
        *numbers(
            UPDATES, "theta by momentum", momentum, exact, given.PRINTED_MOMENTUM, labels=steps
        ),
    ]


def _follow(optimizer: optax.GradientTransformation) -> tuple[list[float], list[float]]:
    """Returns the parameter after every given gradient, and the updates."""
    theta = jnp.asarray(given.START)
    state, thetas, updates = optimizer.init(theta), [], []
    for gradient in given.GRADIENTS:
        update, state = optimizer.update(jnp.asarray(gradient), state)
        theta = optax.apply_updates(theta, update)
        thetas.append(float(theta))
        updates.append(float(update))
    return thetas, updates


def _ravine() -> list[Number]:
    found = scipy.optimize.minimize_scalar(
        lambda momentum: shrinkage(BEST_RATE, momentum),
        *(None, (0.0, 1.0)),
        method="bounded",
        options={"xatol": 1e-12},
    )
    rows = numbers(RAVINE, "best momentum, by search", found.x, BEST_MOMENTUM)
    for (name, (rate, momentum)), path in zip(METHODS.items(), trajectories(), strict=True):
        exact = [_closed_form(rate, momentum, axis) for axis in range(len(CURVATURES))]
        rows += numbers(
            *(RAVINE, f"{name}: place after {given.RAVINE_STEPS} steps", path[-1], exact),
            labels=[["along", "across"]],
        )
        factor = math.sqrt(momentum) if momentum else 1 - rate * LOW**2
        rows += numbers(RAVINE, f"{name}: factor per step", shrinkage(rate, momentum), factor)
    return rows


def shrinkage(rate: float, momentum: float) -> float:
    """Returns by how much a step of optax shrinks the distance in the long run, in the ravine.

    It is the largest eigenvalue of the step, which is linear in place and velocity.
    """
    matrix = jax.jacfwd(lambda joined: _step(joined, rate, momentum))(jnp.zeros(4))
    return float(np.abs(np.linalg.eigvals(np.asarray(matrix))).max())


def _step(joined: jax.Array, rate: jax.Array, momentum: jax.Array) -> jax.Array:
    """Takes one step; `joined [4]` is the place, then the sum of gradients that optax keeps."""
    optimizer = optax.sgd(rate, momentum=momentum)
    place, trace = jnp.split(joined, 2)
    _, rest = optimizer.init(place)
    gradient = jnp.asarray(CURVATURES) * place
    updates, (trace, _) = optimizer.update(gradient, (optax.TraceState(trace), rest))
    return jnp.concatenate([optax.apply_updates(place, updates), trace.trace])


@jax.jit
def _descend(rate: jax.Array, momentum: jax.Array) -> jax.Array:
    start = jnp.concatenate([jnp.asarray(given.RAVINE_START), jnp.zeros(2)])

    def step(joined, _):
        return _step(joined, rate, momentum), joined[:2]

    last, before = lax.scan(step, start, length=given.RAVINE_STEPS)
    return jnp.concatenate([before, last[None, :2]])


def trajectories() -> np.ndarray:
    """Returns the places `[method, step, 2]` of every method, at the start and after each step."""
    with jax.enable_x64(True):
        return np.stack([np.asarray(_descend(*setting)) for setting in METHODS.values()])


def _closed_form(rate: float, momentum: float, axis: int) -> float:
    """Returns the place after the last step along one axis, where steps are a recurrence.

    `x_(t+1) = (1 + momentum - rate c) x_t - momentum x_(t-1)` with the roots r and s of
    `z^2 - (1 + momentum - rate c) z + momentum` has the solutions `a r^t + b s^t`, and
    `(a + b t) r^t` where the roots are one.
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


def _network() -> list[Number]:
    weight = two_step_rnn.START
    rates = list(given.PRINTED_UPDATES)
    found = two_step_rnn.study(given.UPDATES, rates)
    bottom, curvature = two_step_rnn.BEST, two_step_rnn.CURVATURE
    slope = curvature * (weight - bottom)
    labels = [[f"rate {rate:g}" for rate in rates]]
    rows = numbers(NETWORK, "loss", found["loss"], curvature * (weight - bottom) ** 2 / 2)
    rows += numbers(NETWORK, "gradient", found["gradient"], slope, given.PRINTED_GRADIENT)
    rows += numbers(
        *(NETWORK, "weight after 1 update", found["weights"][:, 1]),
        [weight - rate * slope for rate in rates],
        list(given.PRINTED_UPDATES.values()),
        labels=labels,
    )
    for row, rate in enumerate(rates):
        rows += numbers(
            *(NETWORK, f"distance from the best after {given.UPDATES} updates, rate {rate:g}"),
            abs(found["weights"][row, -1] - bottom),
            abs(1 - curvature * rate) ** given.UPDATES * abs(weight - bottom),
        )
    for first, printed in ((0.0, given.PRINTED_SLOPE), (given.OTHER_FIRST_STATE, None)):
        ours = jax.grad(two_step_rnn.last_state)(jnp.asarray(weight), first)
        exact = weight * first + two_step_rnn.INPUT_TERMS[0] + weight * first
        rows += numbers(NETWORK, f"dh2/dw_h from h0 = {first:g}", ours, exact, printed)
    return rows


def arrays() -> dict[str, Sequence | np.ndarray]:
    """Returns `paths [method, step, 2]`, their `names`, `rates`, `momenta`, and `curvatures`."""
    rates, momenta = zip(*METHODS.values(), strict=True)
    found = {"paths": trajectories(), "names": list(METHODS), "curvatures": CURVATURES}
    return found | {"rates": rates, "momenta": momenta}
