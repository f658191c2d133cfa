"""Recurrent cells: one step, its hand-written gradient, and the masked scan over time.

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

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs.layers.matmul import kernel_gradient, matmul

State = tuple[jax.Array, ...]
"""State of one layer: `(h,)`, or `(h, c)` for an LSTM, each [batch, hidden_size]."""

Gates = tuple[jax.Array, ...]
"""Residuals of a cell's `forward`: the gates in the order of the kernel's columns, in one array or
several, [batch, hidden_size] for each gate; last a GRU's `hidden_n`."""


class Cell(NamedTuple):
    """The elementwise part of a step and its gradient.

    Attributes:
      gates: names of the gates, in the order of a kernel's columns.
      state: names of the arrays in the state.
      forward: `(input_gates, hidden_gates, state) -> (state, gates)`; see `rnn_forward`.
      backward: `(gradient, state, prev_state, gates) -> (d_input_gates, d_prev_state)`; see
        `rnn_backward`.
      to_hidden_gates: `(d_input_gates, gates) -> d_hidden_gates`, for one timestep or all.
    """

    gates: tuple[str, ...]
    state: tuple[str, ...]
    forward: Callable[[jax.Array, jax.Array, State], tuple[State, Gates]]
    backward: Callable[[State, State, State, Gates], tuple[jax.Array, State]]
    to_hidden_gates: Callable[[jax.Array, Gates], jax.Array] = lambda d_input_gates, gates: (
        d_input_gates
    )


def rnn_forward(
    input_gates: jax.Array, hidden_gates: jax.Array, state: State
) -> tuple[State, Gates]:
    """Returns the next state and the gates, all [batch, hidden_size].

    Args:
      input_gates: [batch, gates * hidden_size] from the input, with the bias.
      hidden_gates: [batch, gates * hidden_size] from the state's h.
      state: previous state.
    """
    h = jnp.tanh(input_gates + hidden_gates)
    return (h,), (h,)


def rnn_backward(
    gradient: State, state: State, prev_state: State, gates: Gates
) -> tuple[jax.Array, State]:
    """Returns the gradients of `input_gates` and of the previous state.

    The latter excludes the path through `hidden_gates`. With d_y the gradient of y, in the
    equations of the module docstring:

        d_a = d_h' (1 - h'^2)

    Args:
      gradient: of the new state.
      state: new state.
      prev_state: previous state.
      gates: from `rnn_forward`.
    """
    (d_h,), (h,) = gradient, gates
    return d_h * (1 - h * h), (jnp.zeros_like(d_h),)


def lstm_forward(
    input_gates: jax.Array, hidden_gates: jax.Array, state: State
) -> tuple[State, Gates]:
    """See `rnn_forward`; the gates are i, f, g and o, in one array [batch, 4 * hidden_size]."""
    # One tanh for all gates, since many small operations are slow on CPUs:
    # sigmoid(a) = (1 + tanh(a / 2)) / 2, with an absolute error of up to 1e-7.
    scale = _by_gate(state[0], 0.5, 0.5, 1, 0.5)
    joined = (1 - scale) + scale * jnp.tanh(scale * (input_gates + hidden_gates))
    i, f, g, o = jnp.split(joined, 4, axis=-1)
    c = f * state[1] + i * g
    return (o * jnp.tanh(c), c), (joined,)


def lstm_backward(
    gradient: State, state: State, prev_state: State, gates: Gates
) -> tuple[jax.Array, State]:
    """See `rnn_backward`.

    d_c' gains d_h' o (1 - tanh(c')^2); then d_a_i = d_c' g i (1 - i), d_a_f = d_c' c f (1 - f),
    d_a_g = d_c' i (1 - g^2), d_a_o = d_h' tanh(c') o (1 - o), and d_c = d_c' f. Both derivatives
    are (y - minimum) (1 - y): the minimum is 0 for a sigmoid and -1 for tanh.
    """
    (d_h, d_c), (joined,) = gradient, gates
    i, f, g, o = jnp.split(joined, 4, axis=-1)
    tanh_c = jnp.tanh(state[1])
    d_c = d_c + d_h * o * (1 - tanh_c * tanh_c)
    d_gates = jnp.concatenate([d_c, d_c, d_c, d_h], axis=-1)
    d_gates *= jnp.concatenate([g, prev_state[1], i, tanh_c], axis=-1)
    minimum = _by_gate(d_h, 0, 0, -1, 0)
    return d_gates * (joined - minimum) * (1 - joined), (jnp.zeros_like(d_h), d_c * f)


def _by_gate(like: jax.Array, *values: float) -> jax.Array:
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


def gru_backward(
    gradient: State, state: State, prev_state: State, gates: Gates
) -> tuple[jax.Array, State]:
    """See `rnn_backward`.

    d_a_n = d_h' (1 - z) (1 - n^2), d_a_z = d_h' (h - n) z (1 - z), d_a_r = d_a_n hidden_n
    r (1 - r), and d_h = d_h' z.
    """
    (d_h,), (r_z, n, hidden_n) = gradient, gates
    _, z = jnp.split(r_z, 2, axis=-1)
    d_n = d_h * (1 - z) * (1 - n * n)
    d_r_z = jnp.concatenate([d_n * hidden_n, d_h * (prev_state[0] - n)], axis=-1)
    return jnp.concatenate([d_r_z * r_z * (1 - r_z), d_n], axis=-1), (d_h * z,)


def gru_to_hidden_gates(d_input_gates: jax.Array, gates: Gates) -> jax.Array:
    """Returns the gradient of `hidden_gates`; the candidate passes the reset gate."""
    d_r, d_z, d_n = jnp.split(d_input_gates, 3, axis=-1)
    r, _ = jnp.split(gates[0], 2, axis=-1)
    return jnp.concatenate([d_r, d_z, d_n * r], axis=-1)


CELLS = {
    "rnn": Cell(("candidate",), ("h",), rnn_forward, rnn_backward),
    "lstm": Cell(
        ("input", "forget", "candidate", "output"), ("h", "c"), lstm_forward, lstm_backward
    ),
    "gru": Cell(
        ("reset", "update", "candidate"), ("h",), gru_forward, gru_backward, gru_to_hidden_gates
    ),
}
"""Cells by their name in the settings."""


def rnn_scan(
    cell: str,
    input_gates: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    state: State,
    mask: jax.Array | None = None,
    *,
    reverse: bool = False,
    precision: str = "default",
) -> tuple[jax.Array, State]:
    """Scans a cell over time.

    A custom VJP: the backward pass reads the gates saved by the forward pass and computes the
    kernel's gradient in one matmul over all timesteps, where autodiff accumulates it step by step.

    Args:
      cell: a name in `CELLS`.
      input_gates: [time, batch, gates * hidden_size], the input times its kernel, with its bias.
      kernel: [hidden_size, gates * hidden_size], the recurrent kernel.
      bias: [gates * hidden_size] added to the hidden gates, or None; for a GRU's candidate.
      state: initial state, [batch, hidden_size] each.
      mask: [time, batch] bool, False for padding, which keeps the state; None: no padding.
      reverse: whether to scan backward in time.
      precision: see `jaxlabs.layers.matmul`.

    Returns:
      h of every step, [time, batch, hidden_size], and the final state.
    """
    return _rnn_scan(CELLS[cell], reverse, precision, input_gates, kernel, bias, state, mask)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _rnn_scan(cell, reverse, precision, input_gates, kernel, bias, state, mask):
    def forward_step(state, inputs):
        state, _ = cell_step(cell, precision, *inputs, kernel, bias, state)
        return state, state[0]

    last, h = jax.lax.scan(forward_step, state, (input_gates, mask), reverse=reverse)
    return h, last


def _rnn_scan_forward(cell, reverse, precision, input_gates, kernel, bias, state, mask):
    def forward_step(state, inputs):
        state, gates = cell_step(cell, precision, *inputs, kernel, bias, state)
        return state, (state, gates)

    last, (states, gates) = jax.lax.scan(forward_step, state, (input_gates, mask), reverse=reverse)
    return (states[0], last), (kernel, bias, state, mask, states, gates)


def _rnn_scan_backward(cell, reverse, precision, residuals, gradients):
    kernel, bias, initial, mask, states, gates = residuals
    transposed = kernel.T
    prev_state = jax.tree.map(functools.partial(_shift, reverse=reverse), initial, states)

    def backward_step(gradient, inputs):
        d_h, state, prev_state, gates, valid = inputs
        gradient = (gradient[0] + d_h, *gradient[1:])
        step_gradient = _where(valid, gradient, jax.tree.map(jnp.zeros_like, gradient))
        d_input_gates, d_prev = cell.backward(step_gradient, state, prev_state, gates)
        d_hidden_gates = cell.to_hidden_gates(d_input_gates, gates)
        d_h = d_prev[0] + matmul(d_hidden_gates, transposed, precision)
        return _where(valid, (d_h, *d_prev[1:]), gradient), d_input_gates

    d_h, d_last = gradients
    inputs = (d_h, states, prev_state, gates, mask)
    d_initial, d_input_gates = jax.lax.scan(backward_step, d_last, inputs, reverse=not reverse)
    rows = cell.to_hidden_gates(d_input_gates, gates).reshape(-1, kernel.shape[1])
    d_kernel = kernel_gradient(prev_state[0], rows, precision)
    d_bias = None if bias is None else rows.sum(0)
    return d_input_gates, d_kernel, d_bias, d_initial, None


_rnn_scan.defvjp(_rnn_scan_forward, _rnn_scan_backward)


def cell_step(
    cell: Cell,
    precision: str,
    input_gates: jax.Array,
    valid: jax.Array | None,
    kernel: jax.Array,
    bias: jax.Array | None,
    state: State,
) -> tuple[State, Gates]:
    """Takes one step with `input_gates [batch, gates * hidden_size]` where `valid [batch]`."""
    hidden_gates = matmul(state[0], kernel, precision)
    hidden_gates = hidden_gates if bias is None else hidden_gates + bias[None, :]
    new, gates = cell.forward(input_gates, hidden_gates, state)
    return _where(valid, new, state), gates


def _where(valid: jax.Array | None, new: State, old: State) -> State:
    """Returns the rows of `new` where `valid [batch]`, those of `old` elsewhere."""
    if valid is None:
        return new
    return jax.tree.map(lambda a, b: jnp.where(valid[:, None], a, b), new, old)


def _shift(initial: jax.Array, states: jax.Array, *, reverse: bool) -> jax.Array:
    """Returns the previous state of each step, [time, batch, hidden_size]."""
    return jnp.concatenate([states[1:], initial[None]] if reverse else [initial[None], states[:-1]])
