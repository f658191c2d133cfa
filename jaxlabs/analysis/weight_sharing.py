"""One set of weights for all steps: how its gradient is made, what it saves, what it finds hard.

Unrolled, a recurrent network is a deep one whose layers are copies of each other; the gradient of
the weights that they share is the sum of the gradients of the copies (Werbos 1990,
"Backpropagation through time: what it does and how to do it").
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
from jaxlabs.analysis.functional_rnn import (
    Params,
    hidden_states,
    initial_params,
    read_out,
    zero_state,
)
from jaxlabs.analysis.toy_training import fit
from jaxlabs.layers.matmul import matmul
from jaxlabs.layers.rnn_cells import CELLS, cell_step

CELL = "rnn"
TIME, HIDDEN, BATCH, LEARNING_RATE, CLIP_NORM = 16, 16, 16, 5e-3, 1.0

RULES = ("the same everywhere", "its own at every position")
NETWORKS = ("shared", "unshared", "shared, told the position")


def unrolled(copies: Params, inputs: jax.Array) -> jax.Array:
    """Returns h `[time, batch, hidden]` of a network with weights of its own for every step.

    Args:
      copies: as `initial_params` names them, with `time` in front of every array.
      inputs: `[batch, time, inputs]`.
    """
    state = zero_state(CELL, inputs, len(inputs), copies["recurrent_kernel"].shape[-2])

    def step(state, given):
        weights, x = given
        projected = matmul(x, weights["input_kernel"]) + weights["bias"][None, :]
        state, _ = cell_step(
            CELLS[CELL], "default", projected, None, weights["recurrent_kernel"], None, state
        )
        return state, state[0]

    recurrent = {name: copies[name] for name in ("input_kernel", "bias", "recurrent_kernel")}
    return lax.scan(step, state, (recurrent, jnp.swapaxes(inputs, 0, 1)))[1]


def answers(params: Params, inputs: jax.Array) -> jax.Array:
    """Returns what is read out after every step, `[time, batch]`, of shared or unshared weights."""
    if params["recurrent_kernel"].ndim == 2:
        return read_out(params, hidden_states(CELL, params, inputs))[..., 0]
    return jax.vmap(read_out)(params, unrolled(params, inputs))[..., 0]


def copied(params: Params, time: int) -> dict[str, jax.Array]:
    """Returns one copy of all weights for every step, stacked in front."""
    return {
        name: jnp.broadcast_to(jnp.asarray(leaf)[None], (time, *leaf.shape))
        for name, leaf in params.items()
    }


def gradient_study(seed: int) -> dict[str, np.ndarray]:
    """Adds up, in float64, the gradients of the copies and sets them against the shared weights'.

    Returns:
      `copies [time]`, norms of the gradient of each copy; `sum` and `shared`, norms of their sum
      and of the gradient by backpropagation through time; `relative_difference` of these two;
      `shared_parameters` and `unshared_parameters`, their numbers.
    """
    random = np.random.default_rng([seed, 1])  # the parameters are drawn from the seed itself
    params = initial_params(CELL, 1, HIDDEN, 1, seed)
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.float64, params)
        inputs = jnp.asarray(random.standard_normal((BATCH, TIME, 1)))
        targets = jnp.asarray(random.standard_normal((TIME, BATCH)))
        gradient = jax.jit(
            jax.grad(lambda params: jnp.sum(jnp.square(answers(params, inputs) - targets)))
        )
        shared, copies = gradient(params), gradient(copied(params, TIME))
        summed = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), copies)
        difference = optax.tree.norm(jax.tree.map(jnp.subtract, shared, summed))
        found = {
            "copies": jax.vmap(optax.tree.norm)(copies),
            "sum": optax.tree.norm(summed),
            "shared": optax.tree.norm(shared),
            "relative_difference": difference / optax.tree.norm(shared),
            "shared_parameters": _count(shared),
            "unshared_parameters": _count(copies),
        }
        return {name: np.asarray(value) for name, value in found.items()}


def draw(key: jax.Array, signs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draws rows of -1 and 1, and what a rule makes of each: itself times the position's sign.

    Args:
      key: of the draw.
      signs: `[time]`, 1 throughout for the rule that is the same everywhere.

    Returns:
      inputs `[batch, time]`, and targets `[time, batch]`: the product of the symbol and of the one
      before it (nothing before the first counts as 1), times the position's sign.
    """
    symbols = jax.random.rademacher(key, (BATCH, len(signs)), jnp.float32)
    before = jnp.concatenate([jnp.ones_like(symbols[:, :1]), symbols[:, :-1]], axis=1)
    return symbols, (symbols * before * signs[None, :]).T


def rules_study(seeds: Sequence[int], steps: int) -> dict[str, np.ndarray]:
    """Trains shared and unshared networks on a rule without and a rule with positions.

    Every network sees fresh rows at every step, so its loss there is its loss on unseen ones. The
    signs of the second rule are drawn once for each seed.

    Returns:
      `rules`, `networks`; `loss [rule, network, seed, step]` in nats per answer, before each
      update; `parameters [network]`; `chance`, the loss of a guess.
    """
    found: dict[str, Any] = {"rules": np.array(RULES), "networks": np.array(NETWORKS)}
    starts = {network: [_start(network, seed) for seed in seeds] for network in NETWORKS}
    found["parameters"] = np.array([_count(starts[network][0]) for network in NETWORKS])
    loss = np.empty((len(RULES), len(NETWORKS), len(seeds), steps), np.float32)
    for column, network in enumerate(NETWORKS):
        params = jax.tree.map(lambda *leaves: np.stack(leaves), *starts[network])
        for row, rule in enumerate(RULES):
            signs = np.stack([_signs(rule, seed) for seed in seeds])
            loss[row, column] = _train(
                params, np.array(seeds, np.uint32), signs, network=network, steps=steps
            )
    return found | {"loss": loss, "chance": np.log(2)}


def figures(gradients: Mapping[str, np.ndarray], rules: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the figures of both studies by name; losses are means of the last tenth of steps."""
    named = {
        f"weight_sharing_{name}": gradients[name]
        for name in ("relative_difference", "shared_parameters", "unshared_parameters")
    }
    steps = rules["loss"].shape[-1]
    last = rules["loss"][..., -max(steps // 10, 1) :].mean(axis=-1)
    for row, rule in enumerate(RULES):
        for column, network in enumerate(NETWORKS):
            name = f"loss_{network}_rule_{rule}".replace(", ", "_").replace(" ", "_")
            named[name] = np.median(last[row, column])
    return named


def _start(network: str, seed: int) -> dict[str, Any]:
    params = initial_params(CELL, 1 + TIME * (network == NETWORKS[2]), HIDDEN, 1, seed)
    if network != "unshared":
        return params
    drawn = [initial_params(CELL, 1, HIDDEN, 1, seed * TIME + step) for step in range(TIME)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)


def _signs(rule: str, seed: int) -> np.ndarray:
    if rule == RULES[0]:
        return np.ones(TIME, np.float32)
    return np.float32(np.random.default_rng([seed, 2]).choice([-1, 1], TIME))


def _inputs(symbols: jax.Array, network: str) -> jax.Array:
    """Returns `[batch, time, inputs]`: the symbols, and for one network their positions as well."""
    if network != NETWORKS[2]:
        return symbols[:, :, None]
    # Times the root of its size, since the kernel's deviation expects all inputs to be on.
    place = jnp.broadcast_to(jnp.eye(TIME)[None], (len(symbols), TIME, TIME))
    return jnp.concatenate([symbols[:, :, None], place], axis=-1) * TIME**0.5


@functools.partial(jax.jit, static_argnames=("network", "steps"))
def _train(
    params: Any, seeds: jax.Array, signs: jax.Array, *, network: str, steps: int
) -> jax.Array:
    """Returns the loss of every step, `[seed, step]`."""

    def of_one(params, seed, signs):
        data = keys.stream(seed, "data")

        def loss(params, key):
            symbols, targets = draw(key, signs)
            said = answers(params, _inputs(symbols, network))
            return jnp.mean(-jax.nn.log_sigmoid(said * targets))

        options = {"steps": steps, "learning_rate": LEARNING_RATE, "grad_clip_norm": CLIP_NORM}
        return fit(loss, params, data, **options)[1]

    return jax.vmap(of_one)(params, seeds, signs)


def _count(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))
