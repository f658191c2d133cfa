"""The smallest recurrent network that can be trained: one weight, two steps, exact answers.

`h_1 = w h_0 + 2` and `h_2 = w h_1 + 0.5` from `h_0 = 0`, then `y = 2 h_2 = 4 w + 1`; with the
target 3 the loss `(y - 3)^2 / 2` is the parabola `8 (w - 0.5)^2`. Its curvature is 16 everywhere,
so a gradient step of any rate multiplies the distance from 0.5 by `1 - 16 rate`.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

INPUT_TERMS = (2.0, 0.5)
"""What the input adds to the state at each step; the first makes h_1 = 2, since h_0 = 0."""

READOUT, BIAS, TARGET = 2.0, 0.0, 3.0
BEST, CURVATURE = 0.5, 16.0
"""The weight at the parabola's bottom, and the loss's second derivative."""

START = 0.3
RATES = (0.0625, 0.1, 0.125, 1.0, 3.0)


def last_state(weight: jax.Array, first_state: float = 0.0) -> jax.Array:
    """Returns `h_2 []` of the network unrolled over its two steps from `h_0 = first_state`."""
    state = first_state
    for term in INPUT_TERMS:
        state = weight * state + term
    return state


def loss(weight: jax.Array) -> jax.Array:
    """Returns half the squared error `[]`."""
    return 0.5 * jnp.square(READOUT * last_state(weight) + BIAS - TARGET)


def closed_form(rates: np.ndarray, steps: int) -> np.ndarray:
    """Returns the weight `[rates, steps + 1]` that gradient descent has after every step."""
    factors = 1 - CURVATURE * np.asarray(rates)
    return BEST + factors[:, None] ** np.arange(steps + 1)[None] * (START - BEST)


def study(steps: int, rates: Sequence[float] = RATES) -> dict[str, np.ndarray]:
    """Trains the network in float64 at several rates, by differentiating it and by the formula.

    Returns:
      `rates`; `weights [rate, step]` before every update and after the last, from `jax.grad` and
      `optax.sgd`; `expected` likewise, from the closed form; at the start `loss`, `gradient` and
      `curvature`, all `[]`.
    """
    with jax.enable_x64(True):
        weights = jax.jit(jax.vmap(lambda rate: _descend(rate, steps)))(jnp.array(rates))
        start = jnp.array(START)
        found = {
            "rates": np.array(rates),
            "weights": np.asarray(weights),
            "expected": closed_form(np.array(rates), steps),
            "loss": np.asarray(loss(start)),
            "gradient": np.asarray(jax.grad(loss)(start)),
            "curvature": np.asarray(jax.grad(jax.grad(loss))(start)),
        }
    return found


def _descend(rate: jax.Array, steps: int) -> jax.Array:
    optimizer = optax.sgd(rate)

    def step(carry, _):
        weight, state = carry
        updates, state = optimizer.update(jax.grad(loss)(weight), state)
        return (optax.apply_updates(weight, updates), state), weight

    start = jnp.array(START)
    (last, _), before = lax.scan(step, (start, optimizer.init(start)), length=steps)
    return jnp.append(before, last)


def verdict(rate: float) -> str:
    """Says what many steps of a rate above 0 come to, from the factor `1 - 16 rate` alone."""
    factor = 1 - CURVATURE * rate
    if factor == 0:
        return "there in one step"
    if abs(factor) == 1:
        return "swings for ever"
    if abs(factor) > 1:
        return "diverges"
    return "converges" if factor > 0 else "overshoots, converges"


def in_words(found: Mapping[str, np.ndarray]) -> str:
    """Returns the table of the two-step network: per rate, both answers and what becomes of it."""
    steps = found["weights"].shape[1] - 1
    lines = [
        f"two-step scalar RNN at w = {START}: loss {found['loss']:.4g}, gradient "
        f"{found['gradient']:.4g}, curvature {found['curvature']:.4g}",
        f"{'rate':>7} {'factor':>7} {'w after 1':>10} {'exactly':>10} {f'w after {steps}':>12} "
        f"{'exactly':>12}",
    ]
    for rate, weights, expected in zip(
        found["rates"].tolist(), found["weights"], found["expected"], strict=True
    ):
        lines.append(
            f"{rate:7g} {1 - CURVATURE * rate:7g} {weights[1]:10.6g} {expected[1]:10.6g} "
            f"{weights[-1]:12.6g} {expected[-1]:12.6g}  {verdict(rate)}"
        )
    return "\n".join(lines)
