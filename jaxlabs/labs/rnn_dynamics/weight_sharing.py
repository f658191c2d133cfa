"""Weight sharing over time: gradient, number of parameters, and position-dependent tasks.

An unrolled RNN is a deep network whose layers share their weights. The gradient of the shared
weights is the sum of the gradients of the copies (Werbos 1990, "Backpropagation through time: what
it does and how to do it").
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxlabs import keys
from jaxlabs.analysis.toy_training import fit, stack
from jaxlabs.labs.rnn_dynamics.network import (
    Params,
    hidden_states,
    initial_params,
    output_layer,
    recurrent_layer,
)
from jaxlabs.layers.rnn import zero_state

CELL = "rnn"
TIME, HIDDEN_SIZE, BATCH, LEARNING_RATE, CLIP_NORM = 16, 16, 16, 5e-3, 1.0

RULES = ("position-independent", "position-dependent")
NETWORKS = ("shared", "unshared", "shared, position input")


def unrolled(copies: Params, inputs: jax.Array) -> jax.Array:
    """Returns h `[time, batch, hidden]` of a network with separate weights for every step.

    Args:
      copies: parameters as in `initial_params`, each array `[time, ...]`.
      inputs: `[batch, time, inputs]`.
    """
    hidden_size = copies["recurrent_kernel"].shape[-2]
    (state,) = zero_state(CELL, hidden_size, 1, len(inputs), inputs.dtype)

    def step(state, step_inputs):
        weights, x = step_inputs
        layer = recurrent_layer(CELL, weights)
        state = layer.apply({"params": weights}, x, state, method="step")
        return state, state[0]

    recurrent = {name: copies[name] for name in ("input_kernel", "bias", "recurrent_kernel")}
    return lax.scan(step, state, (recurrent, jnp.swapaxes(inputs, 0, 1)))[1]


def outputs(params: Params, inputs: jax.Array) -> jax.Array:
    """Returns the output of every step `[time, batch]`, with shared or unshared weights."""
    if params["recurrent_kernel"].ndim == 2:
        return output_layer(params, hidden_states(CELL, params, inputs))[..., 0].T
    return jax.vmap(output_layer)(params, unrolled(params, inputs))[..., 0]


def copy_per_step(params: Params, time: int) -> dict[str, jax.Array]:
    """Returns a copy of all weights for every step, `[time, ...]`."""
    return {
        name: jnp.broadcast_to(jnp.asarray(leaf)[None], (time, *leaf.shape))
        for name, leaf in params.items()
    }


def gradient_study(seed: int) -> dict[str, np.ndarray]:
    """Compares the sum of the copies' gradients with the shared weights' gradient, in float64.

    Returns:
      `copies [time]`, the gradient norm of each copy; `sum` and `shared`, the norm of their sum and
      of the gradient by backpropagation through time; `relative_difference` of these two;
      `shared_parameters` and `unshared_parameters`, the numbers of parameters.
    """
    rng = np.random.default_rng([seed, 1])  # independent of the parameters, of the seed itself
    params = initial_params(CELL, 1, HIDDEN_SIZE, 1, seed)
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.float64, params)
        inputs = jnp.asarray(rng.standard_normal((BATCH, TIME, 1)))
        targets = jnp.asarray(rng.standard_normal((TIME, BATCH)))
        gradient = jax.jit(
            jax.grad(lambda params: jnp.sum(jnp.square(outputs(params, inputs) - targets)))
        )
        shared, copies = gradient(params), gradient(copy_per_step(params, TIME))
        summed = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), copies)
        difference = optax.tree.norm(jax.tree.map(jnp.subtract, shared, summed))
        result = {
            "copies": jax.vmap(optax.tree.norm)(copies),
            "sum": optax.tree.norm(summed),
            "shared": optax.tree.norm(shared),
            "relative_difference": difference / optax.tree.norm(shared),
            "shared_parameters": _count(shared),
            "unshared_parameters": _count(copies),
        }
        return {name: np.asarray(value) for name, value in result.items()}


def sample_batch(key: jax.Array, signs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Samples sequences of -1 and 1, and the targets of a rule.

    Args:
      signs: `[time]` sign of each position, all 1 for the position-independent rule.

    Returns:
      Inputs `[batch, time]`, and targets `[time, batch]`: the product of the symbol, the previous
      symbol (1 at the first position) and the sign of the position.
    """
    symbols = jax.random.rademacher(key, (BATCH, len(signs)), jnp.float32)
    previous = jnp.concatenate([jnp.ones_like(symbols[:, :1]), symbols[:, :-1]], axis=1)
    return symbols, (symbols * previous * signs[None, :]).T


def rules_study(seeds: Sequence[int], steps: int) -> dict[str, np.ndarray]:
    """Trains shared and unshared networks on the position-independent and the dependent rule.

    Every step has new sequences, so the training loss is a loss on unseen data. The signs of the
    second rule are sampled once for each seed.

    Returns:
      `rules`, `networks`; `loss [rule, network, seed, step]` in nats per output, before each
      update; `parameters [network]`; `chance`, the loss of a uniform guess.
    """
    result: dict[str, Any] = {"rules": np.array(RULES), "networks": np.array(NETWORKS)}
    starts = {network: [_start(network, seed) for seed in seeds] for network in NETWORKS}
    result["parameters"] = np.array([_count(starts[network][0]) for network in NETWORKS])
    loss = np.empty((len(RULES), len(NETWORKS), len(seeds), steps), np.float32)
    for column, network in enumerate(NETWORKS):
        params = stack(starts[network])
        for row, rule in enumerate(RULES):
            signs = np.stack([_signs(rule, seed) for seed in seeds])
            loss[row, column] = _train(
                params, np.array(seeds, np.uint32), signs, network=network, steps=steps
            )
    return result | {"loss": loss, "chance": np.log(2)}


def metrics(gradients: Mapping[str, np.ndarray], rules: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the metrics of both studies by name; losses are means of the last tenth of steps."""
    named = {
        f"weight_sharing_{name}": gradients[name]
        for name in ("relative_difference", "shared_parameters", "unshared_parameters")
    }
    steps = rules["loss"].shape[-1]
    last = rules["loss"][..., -max(steps // 10, 1) :].mean(axis=-1)
    for row, rule in enumerate(RULES):
        for column, network in enumerate(NETWORKS):
            name = f"loss_{network}_rule_{rule}".translate(
                str.maketrans({",": None, " ": "_", "-": "_"})
            )
            named[name] = np.median(last[row, column])
    return named


def _start(network: str, seed: int) -> dict[str, Any]:
    params = initial_params(CELL, 1 + TIME * (network == NETWORKS[2]), HIDDEN_SIZE, 1, seed)
    if network != "unshared":
        return params
    return stack(
        initial_params(CELL, 1, HIDDEN_SIZE, 1, seed * TIME + step) for step in range(TIME)
    )


def _signs(rule: str, seed: int) -> np.ndarray:
    if rule == RULES[0]:
        return np.ones(TIME, np.float32)
    return np.float32(np.random.default_rng([seed, 2]).choice([-1, 1], TIME))


def _inputs(symbols: jax.Array, network: str) -> jax.Array:
    """Returns `[batch, time, inputs]`: the symbols, and for NETWORKS[2] one-hot positions."""
    if network != NETWORKS[2]:
        return symbols[:, :, None]
    # Scaled by the root of the size: the initialization of the kernel assumes dense inputs.
    position = jnp.broadcast_to(jnp.eye(TIME)[None], (len(symbols), TIME, TIME))
    return jnp.concatenate([symbols[:, :, None], position], axis=-1) * TIME**0.5


@functools.partial(jax.jit, static_argnames=("network", "steps"))
def _train(
    params: Any, seeds: jax.Array, signs: jax.Array, *, network: str, steps: int
) -> jax.Array:
    """Returns the loss of every step, `[seed, step]`."""

    def train_one(params, seed, signs):
        data = keys.stream(seed, "data")

        def loss(params, key):
            symbols, targets = sample_batch(key, signs)
            logits = outputs(params, _inputs(symbols, network))
            return jnp.mean(-jax.nn.log_sigmoid(logits * targets))

        options = {"steps": steps, "learning_rate": LEARNING_RATE, "grad_clip_norm": CLIP_NORM}
        return fit(loss, params, data, **options)[1]

    return jax.vmap(train_one)(params, seeds, signs)


def _count(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))
