"""Weight sharing over time: gradient, number of parameters, and position-dependent tasks.

An unrolled RNN is a deep network whose layers share their weights. The gradient of the shared
weights is the sum of the gradients of the copies (Werbos 1990, "Backpropagation through time: what
it does and how to do it").
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxlabs import keys
from jaxlabs.analysis.toy_training import fit, stack
from jaxlabs.labs.rnn_dynamics import network as networks
from jaxlabs.labs.rnn_dynamics.network import Params, hidden_states, initial_params, output_layer
from jaxlabs.layers.rnn import zero_state

CELL = "rnn"
TIME, HIDDEN_SIZE, BATCH, LEARNING_RATE, CLIP_NORM = 16, 16, 16, 5e-3, 1.0

RULES = INDEPENDENT, DEPENDENT = ("position-independent", "position-dependent")
NETWORKS = SHARED, UNSHARED, POSITION_INPUT = ("shared", "unshared", "shared, position input")


def unrolled(copies: Params, inputs: jax.Array) -> jax.Array:
    """Returns h `[time, batch, hidden]` of a network with separate weights for every step.

    Args:
      copies: parameters as in `initial_params`, each array `[time, ...]`.
      inputs: [batch, time, inputs].
    """
    hidden_size = copies["recurrent_kernel"].shape[-2]
    (state,) = zero_state(CELL, hidden_size, 1, len(inputs), inputs.dtype)

    def step(state, step_inputs):
        weights, x = step_inputs
        layer = networks.recurrent_layer(CELL, weights)
        state = layer.apply({"params": weights}, x, state, method="step")
        return state, state[0]

    recurrent = {name: copies[name] for name in ("input_kernel", "bias", "recurrent_kernel")}
    return lax.scan(step, state, (recurrent, jnp.swapaxes(inputs, 0, 1)))[1]


def outputs(params: Params, inputs: jax.Array) -> jax.Array:
    """Returns the output of every step `[time, batch]`, with shared or unshared weights."""
    if params["recurrent_kernel"].ndim == 2:
        return output_layer(params, hidden_states(CELL, params, inputs))[..., 0].T
    return jax.vmap(output_layer)(params, unrolled(params, inputs))[..., 0]


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

        @jax.jit
        @jax.grad
        def gradient(params):
            return jnp.sum(jnp.square(outputs(params, inputs) - targets))

        per_step = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (TIME, *leaf.shape)), params)
        shared, copies = gradient(params), gradient(per_step)
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
    """Samples sequences of -1 and 1 `[batch, time]`, and the targets of a rule `[time, batch]`.

    The target is the product of the symbol, the previous symbol (1 at the first position) and the
    sign of the position, of `signs [time]`: all 1 for the position-independent rule.
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
    starts = {network: [_start(network, seed) for seed in seeds] for network in NETWORKS}
    train = functools.partial(_train, seeds=np.array(seeds, np.uint32), steps=steps)
    loss = [
        [train(stack(starts[network]), signs=signs, network=network) for network in NETWORKS]
        for signs in (np.stack([_signs(rule, seed) for seed in seeds]) for rule in RULES)
    ]
    return {
        "rules": np.array(RULES),
        "networks": np.array(NETWORKS),
        "parameters": np.array([_count(starts[network][0]) for network in NETWORKS]),
        "loss": np.array(loss),
        "chance": np.log(2),
    }


def metrics(gradients: Mapping[str, np.ndarray], rules: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the metrics of both studies by name; losses are means of the last tenth of steps."""
    named = {
        f"weight_sharing_{name}": gradients[name]
        for name in ("relative_difference", "shared_parameters", "unshared_parameters")
    }
    tenth = max(rules["loss"].shape[-1] // 10, 1)
    last = np.median(rules["loss"][..., -tenth:].mean(axis=-1), axis=-1)
    for (row, rule), (column, network) in itertools.product(enumerate(RULES), enumerate(NETWORKS)):
        name = f"loss_{network}_rule_{rule}".replace(",", "").replace(" ", "_").replace("-", "_")
        named[name] = last[row, column]
    return named


def _start(network: str, seed: int) -> dict[str, Any]:
    params = initial_params(CELL, 1 + TIME * (network == POSITION_INPUT), HIDDEN_SIZE, 1, seed)
    if network != UNSHARED:
        return params
    each = (initial_params(CELL, 1, HIDDEN_SIZE, 1, seed * TIME + step) for step in range(TIME))
    return stack(each)


def _signs(rule: str, seed: int) -> np.ndarray:
    if rule == INDEPENDENT:
        return np.ones(TIME, np.float32)
    return np.float32(np.random.default_rng([seed, 2]).choice([-1, 1], TIME))


def _inputs(symbols: jax.Array, network: str) -> jax.Array:
    """Returns `[batch, time, inputs]`: the symbols, and for POSITION_INPUT one-hot positions."""
    if network != POSITION_INPUT:
        return symbols[:, :, None]
    # Scaled by the root of the size: the initialization of the kernel assumes dense inputs.
    position = jnp.broadcast_to(jnp.eye(TIME)[None], (len(symbols), TIME, TIME))
    return jnp.concatenate([symbols[:, :, None], position], axis=-1) * TIME**0.5


@functools.partial(jax.jit, static_argnames=("network", "steps"))
def _train(params, seeds, signs, *, network, steps):
    """Returns the loss of every step, `[seed, step]`."""
    options = {"steps": steps, "learning_rate": LEARNING_RATE, "grad_clip_norm": CLIP_NORM}

    def train_one(params, seed, signs):
        def loss(params, key):
            symbols, targets = sample_batch(key, signs)
            logits = outputs(params, _inputs(symbols, network))
            return jnp.mean(-jax.nn.log_sigmoid(logits * targets))

        return fit(loss, params, keys.stream(seed, "data"), **options)[1]

    return jax.vmap(train_one)(params, seeds, signs)


def _count(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))
