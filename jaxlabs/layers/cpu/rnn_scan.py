"""The scan of a recurrent cell with a custom VJP.

The backward pass reads the gates saved by the forward pass and computes the kernel's gradient in
one matmul over all timesteps, where autodiff accumulates it step by step.
"""

import functools

import jax
import jax.numpy as jnp

from jaxlabs.layers.cpu.matmul import kernel_gradient
from jaxlabs.layers.matmul import matmul
from jaxlabs.layers.rnn_cells import Gates, State, by_gate, cell_step, to_rows, where_valid


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def rnn_scan(
    cell: str,
    reverse: bool,
    precision: str,
    input_gates: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    state: State,
    mask: jax.Array | None,
) -> tuple[jax.Array, State]:
    """Returns h of every step, [time, batch, hidden_size], and the final state.

    The arguments are those of `jaxlabs.layers.rnn_cells.scan_cell`.
    """

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
    backward, to_hidden_gates = BACKWARD[cell]
    transposed = kernel.T
    prev_state = jax.tree.map(functools.partial(_shift, reverse=reverse), initial, states)

    def backward_step(gradient, inputs):
        d_h, state, prev_state, gates, valid = inputs
        gradient = (gradient[0] + d_h, *gradient[1:])
        step_gradient = where_valid(valid, gradient, jax.tree.map(jnp.zeros_like, gradient))
        d_input_gates, d_prev = backward(step_gradient, state, prev_state, gates)
        d_hidden_gates = to_hidden_gates(d_input_gates, gates)
        d_h = d_prev[0] + matmul(d_hidden_gates, transposed, precision)
        return where_valid(valid, (d_h, *d_prev[1:]), gradient), d_input_gates

    d_h, d_last = gradients
    inputs = (d_h, states, prev_state, gates, mask)
    d_initial, d_input_gates = jax.lax.scan(backward_step, d_last, inputs, reverse=not reverse)
    rows = to_rows(to_hidden_gates(d_input_gates, gates))
    d_kernel = kernel_gradient(to_rows(prev_state[0]), rows, precision)
    d_bias = None if bias is None else rows.sum(0)
    return d_input_gates, d_kernel, d_bias, d_initial, None


rnn_scan.defvjp(_rnn_scan_forward, _rnn_scan_backward)


def _shift(initial: jax.Array, states: jax.Array, *, reverse: bool) -> jax.Array:
    """Returns the previous state of each step, [time, batch, hidden_size]."""
    return jnp.concatenate([states[1:], initial[None]] if reverse else [initial[None], states[:-1]])


def rnn_backward(
    gradient: State, state: State, prev_state: State, gates: Gates
) -> tuple[jax.Array, State]:
    """Returns the gradients of `input_gates` and of the previous state.

    The latter excludes the path through `hidden_gates`. `gradient` and `state` are those of the new
    state, the gates are from `rnn_forward`. With d_y the gradient of y, in the equations of
    `jaxlabs.layers.rnn_cells`:

        d_a = d_h' (1 - h'^2)
    """
    (d_h,), (h,) = gradient, gates
    return d_h * (1 - h * h), (jnp.zeros_like(d_h),)


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
    minimum = by_gate(d_h, 0, 0, -1, 0)
    return d_gates * (joined - minimum) * (1 - joined), (jnp.zeros_like(d_h), d_c * f)


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


def same_hidden_gates(d_input_gates: jax.Array, gates: Gates) -> jax.Array:
    """Returns the gradient of `hidden_gates` where they are added to `input_gates`."""
    return d_input_gates


BACKWARD = {
    "rnn": (rnn_backward, same_hidden_gates),
    "lstm": (lstm_backward, same_hidden_gates),
    "gru": (gru_backward, gru_to_hidden_gates),
}
"""The gradient of each cell's elementwise part, and the map to the gradient of `hidden_gates`."""
