"""A scalar RNN with one weight and two time steps, whose gradient descent has a closed form.

`h_1 = w h_0 + 2` and `h_2 = w h_1 + 0.5` from `h_0 = 0`, then `y = 2 h_2 = 4 w + 1`; with the
target 3 the loss `(y - 3)^2 / 2` is the parabola `8 (w - 0.5)^2`. Its curvature is 16 everywhere,
so a gradient step multiplies the distance from 0.5 by `1 - 16 rate`.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

INPUT_TERMS = (2.0, 0.5)
"""Input term of each step; h_1 = 2 since h_0 = 0."""

OUTPUT_WEIGHT, OUTPUT_BIAS, TARGET = 2.0, 0.0, 3.0
BEST, CURVATURE = 0.5, 16.0
"""The minimizer of the loss, and its second derivative."""

START = 0.3
RATES = (0.0625, 0.1, 0.125, 1.0, 3.0)


def last_state(weight: jax.Array, initial_state: float = 0.0) -> jax.Array:
    """Returns `h_2 []` of the network unrolled over its two steps from `h_0 = initial_state`."""
    state = initial_state
    for term in INPUT_TERMS:
        state = weight * state + term
    return state


def loss(weight: jax.Array) -> jax.Array:
    """Returns half the squared error `[]`."""
    return 0.5 * jnp.square(OUTPUT_WEIGHT * last_state(weight) + OUTPUT_BIAS - TARGET)


def closed_form(rates: np.ndarray, steps: int) -> np.ndarray:
    """Returns the weights `[rates, steps + 1]` of gradient descent from the closed form."""
    factors = 1 - CURVATURE * np.asarray(rates)
    return BEST + factors[:, None] ** np.arange(steps + 1)[None] * (START - BEST)


def study(steps: int, rates: Sequence[float] = RATES) -> dict[str, np.ndarray]:
    """Trains the network in float64 at several rates, numerically and in closed form.

    Returns:
      `rates`; `weights [rate, step]` before every update and after the last, from `jax.grad` and
      `optax.sgd`; `expected [rate, step]` from the closed form; `loss`, `gradient` and `curvature`
      `[]` at the initial weight.
    """
    with jax.enable_x64(True):
        start = jnp.array(START)
        result = {
            "rates": rates,
            "weights": jax.jit(jax.vmap(lambda rate: _descend(rate, steps)))(jnp.array(rates)),
            "expected": closed_form(np.array(rates), steps),
            "loss": loss(start),
            "gradient": jax.grad(loss)(start),
            "curvature": jax.grad(jax.grad(loss))(start),
        }
        return {name: np.asarray(value) for name, value in result.items()}


def _descend(rate: jax.Array, steps: int) -> jax.Array:
    optimizer = optax.sgd(rate)

    def step(carry, _):
        weight, state = carry
        updates, state = optimizer.update(jax.grad(loss)(weight), state)
        return (optax.apply_updates(weight, updates), state), weight

    start = jnp.array(START)
    (last, _), weights = lax.scan(step, (start, optimizer.init(start)), length=steps)
    return jnp.append(weights, last)


def verdict(rate: float) -> str:
    """Returns the behavior of gradient descent at a rate above 0, from the factor `1 - 16 rate`."""
    factor = 1 - CURVATURE * rate
    if factor == 0:
        return "converges in one step"
    if abs(factor) == 1:
        return "oscillates"
    if abs(factor) > 1:
        return "diverges"
    return "converges" if factor > 0 else "overshoots, converges"


def format_table(result: Mapping[str, np.ndarray]) -> str:
    """Returns a table of the two-step network: weights, closed form and behavior by rate."""
    steps = result["weights"].shape[1] - 1
    lines = [
        f"two-step scalar RNN at w = {START}: loss {result['loss']:.4g}, gradient "
        f"{result['gradient']:.4g}, curvature {result['curvature']:.4g}",
        f"{'rate':>7} {'factor':>7} {'w after 1':>10} {'expected':>10} {f'w after {steps}':>12} "
        f"{'expected':>12}",
    ]
    columns = (result[name] for name in ("rates", "weights", "expected"))
    for rate, weights, expected in zip(*columns, strict=True):
        lines.append(
            f"{rate:7g} {1 - CURVATURE * rate:7g} {weights[1]:10.6g} {expected[1]:10.6g} "
            f"{weights[-1]:12.6g} {expected[-1]:12.6g}  {verdict(rate)}"
        )
    return "\n".join(lines)
