"""One training run twice: as it is, and with its gradients clipped to a global norm.

Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural networks", section
3.2: where gradients explode, a single step can undo all that was learned; its direction is still
good, so only its length is cut.
"""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxlabs import keys
from jaxlabs.analysis.functional_rnn import hidden_states, initial_params, read_out
from jaxlabs.data import memory_tasks

LENGTH, HIDDEN, BATCH = 20, 32, 16
RADIUS, RATE, CLIP_NORM = 1.2, 0.15, 0.5
"""A plain network whose recurrent matrix is 1.2 times an orthogonal one, trained by plain SGD."""

BLOWN_UP = 10.0
"""A loss of so many times the baseline, or one that is not finite, counts as a run blown up."""


def study(steps: int, seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """Trains on the adding problem with SGD, without and with clipping, from the same seeds.

    Returns:
      `loss` and `norm [clipping, seed, step]`, without first: the squared error of every step's
      batch before its update, and the gradient's norm before clipping; `baseline`,
      `grad_clip_norm`, `rate`, `radius`, `length`.
    """
    params = [initial_params("rnn", 2, HIDDEN, 1, seed) for seed in seeds]
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *params)
    params["recurrent_kernel"] *= RADIUS
    limits = np.array([np.inf, CLIP_NORM], np.float32)
    loss, norm = _train(params, np.array(seeds, np.uint32), limits, steps=steps)
    named = {"baseline": memory_tasks.ADDING_BASELINE, "grad_clip_norm": CLIP_NORM, "rate": RATE}
    named |= {"radius": RADIUS, "length": LENGTH, "blown_up": BLOWN_UP}
    found = {"loss": loss, "norm": norm} | named
    return {name: np.asarray(value) for name, value in found.items()}


def figures(found: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns, by name, how many runs blew up, and the median of the last losses."""
    named = {}
    for row, name in enumerate(("without", "with")):
        worst = np.nan_to_num(found["loss"][row] / found["baseline"], nan=np.inf).max(axis=-1)
        named[f"runs_blown_up_{name}_clipping"] = int((worst > BLOWN_UP).sum())
        last = found["loss"][row][:, -max(found["loss"].shape[-1] // 10, 1) :]
        named[f"final_loss_over_baseline_{name}_clipping"] = float(
            np.median(last.mean(axis=-1) / found["baseline"])
        )
    return named


@functools.partial(jax.jit, static_argnames="steps")
def _train(params, seeds, limits, *, steps):
    def run(limit, params, seed):
        key = keys.stream(seed, "data")

        def loss(params, index):
            inputs, targets = memory_tasks.adding(jax.random.fold_in(key, index), BATCH, LENGTH)
            answers = read_out(params, hidden_states("rnn", params, inputs)[-1])[:, 0]
            return jnp.mean(jnp.square(answers - targets))

        optimizer = optax.chain(optax.clip_by_global_norm(limit), optax.sgd(RATE))

        def step(carry, index):
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params, index)
            updates, state = optimizer.update(gradient, state)
            measured = value, optax.tree.norm(gradient)
            return (optax.apply_updates(params, updates), state), measured

        return lax.scan(step, (params, optimizer.init(params)), jnp.arange(steps))[1]

    return jax.vmap(jax.vmap(run, (None, 0, 0)), (0, None, None))(limits, params, seeds)
