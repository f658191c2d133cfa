"""Recurrent cells and the scan over time.

A step adds two gate pre-activations, `input_gates` (the input times its kernel, for all timesteps
at once) and `hidden_gates` (the state h times the recurrent kernel), and computes the next state:

    rnn     h' = tanh(a)                                                 a: the sum of the two
    lstm    i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o);  g = tanh(a_g)
            c' = f * c + i * g;  h' = o * tanh(c')
    gru     r, z = sigmoid(a_r), sigmoid(a_z);  n = tanh(input_n + r * hidden_n)
            h' = (1 - z) * n + z * h

Elman 1990; Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000; Cho et al.
2014 with the reset gate applied after the matmul, as in PyTorch and cuDNN. The columns of a kernel
are grouped by gate in the order of `CELLS[...].gates`, which is PyTorch's.

These functions are time-major, as `jax.lax.scan` is; `jaxlabs.layers.rnn.Recurrent` is batch-major.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxlabs.layers.matmul import matmul

State = tuple[jax.Array, ...]
"""State of one layer: `(h,)`, or `(h, c)` for an LSTM, each [batch, hidden_size]."""

Gates = tuple[jax.Array, ...]
"""The gates in the order of the kernel's columns, in one array or several, [batch, hidden_size] for
each gate; last a GRU's `hidden_n`."""


class Cell(NamedTuple):
    """The elementwise part of a step."""

    gates: tuple[str, ...]  #: names of the gates, in the order of a kernel's columns
    state: tuple[str, ...]  #: names of the arrays in the state
    #: `(input_gates, hidden_gates, state) -> (state, gates)`; see `rnn_forward`
    forward: Callable[[jax.Array, jax.Array, State], tuple[State, Gates]]


def to_rows(x: jax.Array) -> jax.Array:
    """Flattens `x [time, batch, features]` to `[rows, features]`, the operand of one matmul.

    Each device's rows are contiguous, so that a mesh that splits the batch splits the rows.
    """
    time, batch, features = x.shape
    parts = math.gcd(batch, jax.device_count())
    x = x.reshape(time, parts, batch // parts, features).swapaxes(0, 1)
    return x.reshape(time * batch, features)


def from_rows(rows: jax.Array, time: int, batch: int) -> jax.Array:
    """Reverses `to_rows`: returns `[time, batch, features]`."""
    parts = math.gcd(batch, jax.device_count())
    x = rows.reshape(parts, time, batch // parts, rows.shape[1]).swapaxes(0, 1)
    return x.reshape(time, batch, rows.shape[1])


def rnn_forward(
    input_gates: jax.Array, hidden_gates: jax.Array, state: State
) -> tuple[State, Gates]:
    """Returns the next state and the gates, all [batch, hidden_size].

    The pre-activations are [batch, gates * hidden_size]: those from the input, with the bias, and
    those from the h of the previous state.
    """
    h = jnp.tanh(input_gates + hidden_gates)
    return (h,), (h,)


def lstm_forward(
    input_gates: jax.Array, hidden_gates: jax.Array, state: State
) -> tuple[State, Gates]:
    """See `rnn_forward`; the gates are i, f, g and o, in one array [batch, 4 * hidden_size]."""
    # One tanh for all gates, since many small operations are slow on CPUs:
    # sigmoid(a) = (1 + tanh(a / 2)) / 2, with an absolute error of up to 1e-7.
    scale = by_gate(state[0], 0.5, 0.5, 1, 0.5)
    joined = (1 - scale) + scale * jnp.tanh(scale * (input_gates + hidden_gates))
    i, f, g, o = jnp.split(joined, 4, axis=-1)
    c = f * state[1] + i * g
    return (o * jnp.tanh(c), c), (joined,)


def by_gate(like: jax.Array, *values: float) -> jax.Array:
    """Returns [1, gates * hidden_size]: one value per gate, repeated over its columns."""
    return jnp.repeat(jnp.asarray(values, like.dtype), like.shape[-1])[None, :]


def gru_forward(
    input_gates: jax.Array, hidden_gates: jax.Array, state: State
) -> tuple[State, Gates]:
    """See `rnn_forward`; r and z are in one array [batch, 2 * hidden_size], then n, `hidden_n`."""
    both = 2 * state[0].shape[-1]
    input_n, hidden_n = input_gates[:, both:], hidden_gates[:, both:]
    r_z = nn.sigmoid(input_gates[:, :both] + hidden_gates[:, :both])
    r, z = jnp.split(r_z, 2, axis=-1)
    n = jnp.tanh(input_n + r * hidden_n)
    return (n + z * (state[0] - n),), (r_z, n, hidden_n)


CELLS = {
    "rnn": Cell(("candidate",), ("h",), rnn_forward),
    "lstm": Cell(("input", "forget", "candidate", "output"), ("h", "c"), lstm_forward),
    "gru": Cell(("reset", "update", "candidate"), ("h",), gru_forward),
}
"""Cells by their name in the settings."""


def cell_step(
    cell: str,
    precision: str,
    input_gates: jax.Array,
    valid: jax.Array | None,
    kernel: jax.Array,
    bias: jax.Array | None,
    state: State,
    h: jax.Array | None = None,
) -> tuple[State, Gates]:
    """Takes one step with `input_gates [batch, gates * hidden_size]` where `valid [batch]`.

    The gates read `h [batch, hidden_size]`; None: that of the state.
    """
    hidden_gates = matmul(state[0] if h is None else h, kernel, precision)
    hidden_gates = hidden_gates if bias is None else hidden_gates + bias[None, :]
    new, gates = CELLS[cell].forward(input_gates, hidden_gates, state)
    return where_valid(valid, new, state), gates


def where_valid(valid: jax.Array | None, new: State, old: State) -> State:
    """Returns the rows of `new` where `valid [batch]`, those of `old` elsewhere."""
    if valid is None:
        return new
    return jax.tree.map(lambda a, b: jnp.where(valid[:, None], a, b), new, old)


class Trace(NamedTuple):
    """States and gates after every step."""

    states: State  #: [time, batch, hidden_size] each
    #: in the order of the kernel's columns, [time, batch, hidden_size] each; then a GRU's
    #: `hidden_n`
    gates: list[jax.Array]


def scan_cell(
    cell: str,
    input_gates: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    state: State,
    mask: jax.Array | None = None,
    *,
    reverse: bool = False,
    precision: str = "default",
    perturbations: State | None = None,
    stop_gate_gradients: bool = False,
) -> Trace:
    """Scans a cell over time and returns all states and gates.

    Args:
      cell: a name in `CELLS`.
      input_gates: [time, batch, gates * hidden_size], the input times its kernel, with its bias.
      kernel: [hidden_size, gates * hidden_size], the recurrent kernel.
      bias: [gates * hidden_size] added to the hidden gates, or None; for a GRU's candidate.
      state: initial state, [batch, hidden_size] each.
      mask: [time, batch] bool, False for padding, which keeps the state; None: no padding.
      reverse: whether to scan backward in time.
      precision: see `jaxlabs.layers.matmul`.
      perturbations: added to the states after each step, [time, batch, hidden_size] each. The
        gradient of a loss with respect to them, at zero, is that with respect to the states.
      stop_gate_gradients: whether to stop the gradient from the gates to the previous h.
    """

    def step(state: State, inputs: tuple[jax.Array, jax.Array | None, State | None]):
        input_gates, valid, perturbation = inputs
        h = lax.stop_gradient(state[0]) if stop_gate_gradients else state[0]
        state, gates = cell_step(cell, precision, input_gates, valid, kernel, bias, state, h)
        if perturbation is not None:
            state = jax.tree.map(jnp.add, state, perturbation)
        joined = jnp.concatenate(gates, axis=-1)
        return state, Trace(state, jnp.split(joined, joined.shape[-1] // len(kernel), axis=-1))

    return lax.scan(step, state, (input_gates, mask, perturbations), reverse=reverse)[1]
