"""A recurrent layer with a linear output as pure functions, with access to every state and gate."""

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
"""Gates that retain the state, and their initial bias."""


def initial_params(
    cell: str, inputs: int, hidden_size: int, outputs: int, seed: int, *, span: int | None = None
) -> dict[str, np.ndarray]:
    """Initializes a recurrent layer and a linear output layer for its h.

    Recurrent kernels are orthogonal for each gate, input kernels normal with a standard deviation
    of `inputs ** -0.5`. Biases are 0, except for the forget gate's, which is 1.

    Args:
      cell: a name in `CELLS`.
      inputs: number of input features.
      hidden_size: size of the state.
      outputs: number of output features.
      span: maximum time scale, at least 3, of the chrono initialization of gate biases (Tallec and
        Ollivier 2018, "Can recurrent neural networks warp time?"); None: biases as above.

    Returns:
      `input_kernel [inputs, gates * hidden]`, `bias [gates * hidden]`, `recurrent_kernel [hidden,
      gates * hidden]`, `head_kernel [hidden, outputs]` and `head_bias [outputs]`, all float32.
    """
    rng = np.random.default_rng(seed)
    gates = CELLS[cell].gates
    bias = {gate: np.full(hidden_size, RETENTION_GATES.get(gate, 0.0)) for gate in gates}
    if span is not None:
        times = np.log(rng.uniform(1, span - 1, hidden_size))
        bias |= {gate: times for gate in RETENTION_GATES if gate in gates}
        bias |= {gate: -times for gate in ("input",) if gate in gates}
    orthogonal = scipy.stats.ortho_group(hidden_size, rng)
    params = {
        "input_kernel": rng.normal(0, inputs**-0.5, (inputs, len(gates) * hidden_size)),
        "bias": np.concatenate([bias[gate] for gate in gates]),
        "recurrent_kernel": np.concatenate([orthogonal.rvs() for _ in gates], axis=1),
        "head_kernel": rng.normal(0, hidden_size**-0.5, (hidden_size, outputs)),
        "head_bias": np.zeros(outputs),
    }
    return {name: np.float32(array) for name, array in params.items()}


def zero_state(cell: str, like: jax.Array, batch: int, hidden_size: int) -> State:
    """Returns a state of zeros, `[batch, hidden]` each, in the dtype of `like`."""
    return tuple(jnp.zeros((batch, hidden_size), like.dtype) for _ in CELLS[cell].state)


def project(params: Params, inputs: jax.Array) -> jax.Array:
    """Returns the gates' input terms `[time, batch, gates ...]`, from `[batch, time, inputs]`."""
    bias = params["bias"][None, None, :]
    return jnp.swapaxes(matmul(inputs, params["input_kernel"]) + bias, 0, 1)


def hidden_states(cell: str, params: Params, inputs: jax.Array) -> jax.Array:
    """Returns h after every step `[time, batch, hidden]` for inputs `[batch, time, inputs]`."""
    kernel = params["recurrent_kernel"]
    state = zero_state(cell, inputs, len(inputs), len(kernel))
    return rnn_scan(cell, project(params, inputs), kernel, None, state)[0]


def output_layer(params: Params, h: jax.Array) -> jax.Array:
    """Returns outputs `[..., outputs]` for h `[..., hidden]`."""
    bias = params["head_bias"].reshape((1,) * (h.ndim - 1) + (-1,))
    return matmul(h, params["head_kernel"]) + bias


class Trace(NamedTuple):
    """States and gates of every step.

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
    """Runs the layer over inputs `[batch, time, inputs]` and returns all states and gates.

    Args:
      cell: a name in `CELLS`.
      params: from `initial_params`.
      inputs: in the dtype of the parameters.
      perturbations: added to each state after its step, `[time, batch, hidden]` each. The gradient
        of a loss with respect to them, at zero, is its gradient with respect to the states.
      stop_gate_gradients: whether to stop the gradient from gates and candidates to h.
    """
    kernel = params["recurrent_kernel"]
    state = zero_state(cell, inputs, len(inputs), len(kernel))
    if perturbations is None:
        perturbations = zero_perturbations(cell, inputs, len(kernel))

    def step(state: State, inputs: tuple[jax.Array, State]) -> tuple[State, Trace]:
        projected, perturbation = inputs
        h = lax.stop_gradient(state[0]) if stop_gate_gradients else state[0]
        state, gates = CELLS[cell].forward(projected, matmul(h, kernel), state)
        state = jax.tree.map(jnp.add, state, perturbation)
        joined = jnp.concatenate(gates, axis=-1)
        return state, Trace(state, jnp.split(joined, joined.shape[-1] // len(kernel), axis=-1))

    return lax.scan(step, state, (project(params, inputs), perturbations))[1]


def zero_perturbations(cell: str, inputs: jax.Array, hidden_size: int) -> State:
    """Returns zero perturbations for `trace`."""
    batch, time, _ = inputs.shape
    return tuple(jnp.zeros((time, batch, hidden_size), inputs.dtype) for _ in CELLS[cell].state)
