"""Trains tiny models on made-up tasks, for experiments that take seconds."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

Loss = Callable[[Any, jax.Array], jax.Array]


def fit(
    loss: Loss,
    params: Any,
    key: jax.Array,
    *,
    steps: int,
    learning_rate: float | jax.Array,
    grad_clip_norm: float | None = None,
    watch: Callable[[Any], jax.Array] = optax.tree.norm,
) -> tuple[Any, jax.Array, jax.Array]:
    """Minimizes a loss with Adam; pure, so it can be compiled and mapped over models.

    The rate rises over the first tenth of the steps and falls to 0 as a cosine over the rest.

    Args:
      loss: `(params, key) -> []`, on a batch that it draws from the key.
      params: where to start.
      key: of all batches; step n draws from `fold_in(key, n)`.
      steps: how many, at least 1.
      learning_rate: its peak; may be traced.
      grad_clip_norm: largest global norm of a gradient; None: no clipping.
      watch: what to measure of every gradient before clipping; its global norm by default.

    Returns:
      The parameters after the last step, the loss `[steps]` of every step before its update, and
      what was watched `[steps]`.
    """
    rise = max(steps // 10, 1)
    schedule = optax.warmup_cosine_decay_schedule(1 / rise, 1.0, rise, max(steps, rise + 1))
    clip = optax.identity() if grad_clip_norm is None else optax.clip_by_global_norm(grad_clip_norm)
    optimizer = optax.chain(clip, optax.scale_by_adam(b2=0.99), optax.scale_by_schedule(schedule))
    # As one vector, the parameters need one update and not one for every leaf to be compiled.
    vector, unravel = ravel_pytree(params)

    def step(carry, index):
        vector, state = carry
        value, gradient = jax.value_and_grad(lambda vector, key: loss(unravel(vector), key))(
            vector, jax.random.fold_in(key, index)
        )
        updates, state = optimizer.update(gradient, state)
        measured = value, watch(unravel(gradient))
        return (vector - learning_rate * updates, state), measured

    (vector, _), (losses, watched) = lax.scan(
        step, (vector, optimizer.init(vector)), jnp.arange(steps)
    )
    return unravel(vector), losses, watched


def draw_params(shapes: Any, seed: int) -> Any:
    """Returns numpy parameters of the shapes of a tree, drawn by what their names say.

    A `scale` is 1, a `bias` is 0; all else is normal, a `kernel [..., in, out]` with a deviation of
    `in ** -0.5` and the rest with 1. Drawn on the host, because compiling linen's initializers
    takes longer than training such a model.
    """
    random = np.random.default_rng(seed)

    def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = jax.tree_util.keystr(path[-1:], simple=True)
        if name in ("scale", "bias"):
            return np.full(leaf.shape, float(name == "scale"), np.float32)
        deviation = leaf.shape[-2] ** -0.5 if name.endswith("kernel") else 1.0
        return np.float32(random.normal(0, deviation, leaf.shape))

    return jax.tree_util.tree_map_with_path(draw, shapes)
