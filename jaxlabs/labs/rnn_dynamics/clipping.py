"""Training of an RNN with exploding gradients, with and without clipping by global norm.

Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural networks", section
3.2: a single step with an exploding gradient can undo training; clipping keeps the direction of the
gradient and limits its norm.
"""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxlabs import keys
from jaxlabs.analysis.toy_training import stack
from jaxlabs.data import memory_tasks
from jaxlabs.labs.rnn_dynamics.network import hidden_states, initial_params, output_layer

LENGTH, HIDDEN_SIZE, BATCH = 20, 32, 16
RADIUS, RATE, CLIP_NORM = 1.2, 0.15, 0.5
"""A tanh RNN whose recurrent matrix is 1.2 times an orthogonal matrix, trained by SGD."""

MAX_LOSS = 10.0
"""A run diverged if its loss exceeds this multiple of the baseline or is not finite."""


def study(steps: int, seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """Trains on the adding problem by SGD without and with clipping, from the same seeds.

    Returns:
      `loss` and `norm [clipping, seed, step]`, without clipping first: the mean squared error of
      each batch before its update, and the gradient norm before clipping; `baseline`,
      `grad_clip_norm`, `rate`, `radius`, `length`, `divergence_threshold`.
    """
    params = stack(initial_params("rnn", 2, HIDDEN_SIZE, 1, seed) for seed in seeds)
    params["recurrent_kernel"] *= RADIUS
    limits = np.array([np.inf, CLIP_NORM], np.float32)
    loss, norm = _train(params, np.array(seeds, np.uint32), limits, steps=steps)
    result = {
        "loss": loss,
        "norm": norm,
        "rate": RATE,
        "radius": RADIUS,
        "length": LENGTH,
        "grad_clip_norm": CLIP_NORM,
        "baseline": memory_tasks.ADDING_BASELINE,
        "divergence_threshold": MAX_LOSS,
    }
    return {name: np.asarray(value) for name, value in result.items()}


def metrics(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the number of diverged runs and the median final loss, by name."""
    named, baseline = {}, arrays["baseline"]
    for name, losses in zip(("without", "with"), arrays["loss"], strict=True):
        worst = np.nan_to_num(losses / baseline, nan=np.inf).max(axis=-1)
        named[f"runs_diverged_{name}_clipping"] = int((worst > MAX_LOSS).sum())
        last = losses[:, -max(losses.shape[-1] // 10, 1) :].mean(axis=-1)
        named[f"final_loss_over_baseline_{name}_clipping"] = float(np.median(last / baseline))
    return named


@functools.partial(jax.jit, static_argnames="steps")
def _train(params, seeds, limits, *, steps):
    def run(limit, params, seed):
        key = keys.stream(seed, "data")

        def loss(params, index):
            inputs, targets = memory_tasks.adding(jax.random.fold_in(key, index), BATCH, LENGTH)
            predictions = output_layer(params, hidden_states("rnn", params, inputs)[:, -1])[:, 0]
            return jnp.mean(jnp.square(predictions - targets))

        optimizer = optax.chain(optax.clip_by_global_norm(limit), optax.sgd(RATE))

        def step(carry, index):
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params, index)
            updates, state = optimizer.update(gradient, state)
            params = optax.apply_updates(params, updates)
            return (params, state), (value, optax.tree.norm(gradient))

        return lax.scan(step, (params, optimizer.init(params)), jnp.arange(steps))[1]

    return jax.vmap(jax.vmap(run, (None, 0, 0)), (0, None, None))(limits, params, seeds)
