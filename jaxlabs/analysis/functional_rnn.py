"""One recurrent layer and its read-out as a dict of arrays, open to measurement at every step."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax import lax

from jaxlabs.layers.matmul import matmul
from jaxlabs.layers.rnn_cells import CELLS, State, rnn_scan

Params = Mapping[str, Any]

RETENTION_GATES = {"forget": 1.0, "update": 0.0}
"""The gates that keep the state, and the bias that they start with."""


def initial_params(
    cell: str, inputs: int, hidden_size: int, outputs: int, seed: int, *, span: int | None = None
) -> dict[str, np.ndarray]:
    """Draws the parameters of a network: one layer, and a linear read-out of its h.

    Kernels of the state are orthogonal, gate by gate; those of the input normal with a deviation of
    `inputs ** -0.5`; biases 0, but for the forget gate's 1.

    Args:
      cell: a name in `CELLS`.
      inputs: numbers that come in at every step.
      hidden: size of the state.
      outputs: numbers that are read out.
      seed: of the draw.
      span: steps over which gates are to remember from the start, at least 3: their biases spread
        evenly over the times up to it (Tallec and Ollivier 2018, "Can recurrent neural networks
        warp time?"); None: as above.

    Returns:
      `input_kernel [inputs, gates * hidden]`, `bias [gates * hidden]`, `recurrent_kernel [hidden,
      gates * hidden]`, `head_kernel [hidden, outputs]` and `head_bias [outputs]`, all float32.
    """
    random = np.random.default_rng(seed)
    gates = CELLS[cell].gates
    bias = {gate: np.full(hidden_size, RETENTION_GATES.get(gate, 0.0)) for gate in gates}
    if span is not None:
        times = np.log(random.uniform(1, span - 1, hidden_size))
        bias |= {gate: times for gate in RETENTION_GATES if gate in gates}
        bias |= {gate: -times for gate in ("input",) if gate in gates}
    orthogonal = scipy.stats.ortho_group(hidden_size, random)
    params = {
        "input_kernel": random.normal(0, inputs**-0.5, (inputs, len(gates) * hidden_size)),
        "bias": np.concatenate([bias[gate] for gate in gates]),
        "recurrent_kernel": np.concatenate([orthogonal.rvs() for _ in gates], axis=1),
        "head_kernel": random.normal(0, hidden_size**-0.5, (hidden_size, outputs)),
        "head_bias": np.zeros(outputs),
    }
    return {name: np.float32(array) for name, array in params.items()}


def zero_state(cell: str, like: jax.Array, batch: int, hidden_size: int) -> State:
    """Returns a state of zeros, `[batch, hidden]` each, in the dtype of `like`."""
    return tuple(jnp.zeros((batch, hidden_size), like.dtype) for _ in CELLS[cell].state)


def project(params: Params, inputs: jax.Array) -> jax.Array:
    """Returns what inputs `[batch, time, inputs]` say to each gate, `[time, batch, gates ...]`."""
    bias = params["bias"][None, None, :]
    return jnp.swapaxes(matmul(inputs, params["input_kernel"]) + bias, 0, 1)


def hidden_states(cell: str, params: Params, inputs: jax.Array) -> jax.Array:
    """Returns h after every step `[time, batch, hidden]` for inputs `[batch, time, inputs]`."""
    kernel = params["recurrent_kernel"]
    state = zero_state(cell, inputs, len(inputs), len(kernel))
    return rnn_scan(cell, project(params, inputs), kernel, None, state)[0]


def read_out(params: Params, h: jax.Array) -> jax.Array:
    """Returns `[..., outputs]` of the head for h `[..., hidden]`."""
    bias = params["head_bias"].reshape((1,) * (h.ndim - 1) + (-1,))
    return matmul(h, params["head_kernel"]) + bias


class Trace(NamedTuple):
    """What happened at every step.

    Attributes:
      states: h, and c of an LSTM, after every step; `[time, batch, hidden]` each.
      gates: in the order of the kernel's columns, `[time, batch, hidden]` each; then a GRU's
        `recurrent_n`.
    """

    states: State
    gates: list[jax.Array]


def trace(
    cell: str,
    params: Params,
    inputs: jax.Array,
    perturbations: State | None = None,
    *,
    stop_gate_gradients: bool = False,
) -> Trace:
    """Steps through inputs `[batch, time, inputs]` and keeps everything.

    Args:
      cell: a name in `CELLS`.
      params: from `initial_params`.
      inputs: in the dtype of the parameters.
      perturbations: added to each state after its step, `[time, batch, hidden]` each. A loss's
        gradient by them, at zero, is its gradient by the states.
      stop_gate_gradients: whether gates count as constants in differentiation, as far as h makes
        them.
    """
    kernel = params["recurrent_kernel"]
    state = zero_state(cell, inputs, len(inputs), len(kernel))
    if perturbations is None:
        perturbations = zero_perturbations(cell, inputs, len(kernel))

    def step(state: State, given: tuple[jax.Array, State]) -> tuple[State, Trace]:
        projected, nudge = given
        h = lax.stop_gradient(state[0]) if stop_gate_gradients else state[0]
        state, gates = CELLS[cell].forward(projected, matmul(h, kernel), state)
        state = jax.tree.map(jnp.add, state, nudge)
        joined = jnp.concatenate(gates, axis=-1)
        return state, Trace(state, jnp.split(joined, joined.shape[-1] // len(kernel), axis=-1))

    return lax.scan(step, state, (project(params, inputs), perturbations))[1]


def zero_perturbations(cell: str, inputs: jax.Array, hidden_size: int) -> State:
    """Returns the perturbations of `trace` that change nothing."""
    batch, time, _ = inputs.shape
    return tuple(jnp.zeros((time, batch, hidden_size), inputs.dtype) for _ in CELLS[cell].state)
