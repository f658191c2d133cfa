"""A recurrent layer with a linear output: its initialization, states and outputs."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.layers.matmul import matmul
from jaxlabs.layers.rnn import RecurrentLayer, zero_state
from jaxlabs.layers.rnn_cells import CELLS, State, Trace

Params = Mapping[str, Any]

RETENTION_GATES = {"forget": 1.0, "update": 0.0}
"""Gates that retain the state, and their initial bias."""


def initial_params(
    cell: str, inputs: int, hidden_size: int, outputs: int, seed: int, *, span: int | None = None
) -> dict[str, np.ndarray]:
    """Initializes a recurrent layer and a linear output layer for its h.

    Recurrent kernels are orthogonal for each gate, input kernels normal with a standard deviation
    of `inputs ** -0.5`. Biases are 0, except for the forget gate's, which is 1. With `span`, the
    maximum time scale, at least 3, the gate biases have chrono initialization (Tallec and Ollivier
    2018, "Can recurrent neural networks warp time?").

    Returns:
      `input_kernel [inputs, gates * hidden]`, `bias [gates * hidden]`, `recurrent_kernel [hidden,
      gates * hidden]`, `head_kernel [hidden, outputs]` and `head_bias [outputs]`, all float32.
    """
    from scipy.stats import ortho_group

    rng = np.random.default_rng(seed)
    gates = CELLS[cell].gates
    bias = {gate: np.full(hidden_size, RETENTION_GATES.get(gate, 0.0)) for gate in gates}
    if span is not None:
        times = np.log(rng.uniform(1, span - 1, hidden_size))
        bias |= {"forget": times, "update": times, "input": -times}
    orthogonal = ortho_group(hidden_size, rng)
    params = {
        "input_kernel": rng.normal(0, inputs**-0.5, (inputs, len(gates) * hidden_size)),
        "bias": np.concatenate([bias[gate] for gate in gates]),
        "recurrent_kernel": np.concatenate([orthogonal.rvs() for _ in gates], axis=1),
        "head_kernel": rng.normal(0, hidden_size**-0.5, (hidden_size, outputs)),
        "head_bias": np.zeros(outputs),
    }
    return {name: np.float32(array) for name, array in params.items()}


def recurrent_layer(cell: str, params: Params) -> RecurrentLayer:
    """Returns the layer of `initial_params`; apply it with `{"params": params}`."""
    features, hidden_size = len(params["input_kernel"]), len(params["recurrent_kernel"])
    return RecurrentLayer(cell, features, hidden_size, candidate_bias=False)


def hidden_states(cell: str, params: Params, inputs: jax.Array) -> jax.Array:
    """Returns h after every step `[batch, time, hidden]` for inputs `[batch, time, inputs]`."""
    layer = recurrent_layer(cell, params)
    (state,) = zero_state(cell, layer.hidden_size, 1, len(inputs), inputs.dtype)
    h, _ = layer.apply({"params": params}, jnp.swapaxes(inputs, 0, 1), state)
    return jnp.swapaxes(h, 0, 1)


def trace(
    cell: str, params: Params, inputs: jax.Array, perturbations: State | None = None, **options: Any
) -> Trace:
    """Returns all states and gates for inputs `[batch, time, inputs]`, in the parameters' dtype.

    See `RecurrentLayer.trace`.
    """
    layer = recurrent_layer(cell, params)
    return layer.apply({"params": params}, inputs, perturbations, method="trace", **options)


def zero_perturbations(cell: str, params: Params, inputs: jax.Array) -> State:
    """Returns zero perturbations for `trace`, `[batch, time, hidden]` each."""
    shape = (*inputs.shape[:2], len(params["recurrent_kernel"]))
    return tuple(jnp.zeros(shape, inputs.dtype) for _ in CELLS[cell].state)


def output_layer(params: Params, h: jax.Array) -> jax.Array:
    """Returns outputs `[..., outputs]` for h `[..., hidden]`."""
    bias = jnp.expand_dims(params["head_bias"], range(h.ndim - 1))
    return matmul(h, params["head_kernel"]) + bias
