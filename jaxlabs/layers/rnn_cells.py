"""Recurrent cells: one step, its gradient written out, and the masked scan over time.

A step takes what the input says (`projected`, the input times its kernel, for all times at once)
and what the state says (`recurrent`, the state h times its kernel), and makes the next state:

    rnn     h' = tanh(a)                                                 a: the sum of the two
    lstm    i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o);  g = tanh(a_g)
            c' = f * c + i * g;  h' = o * tanh(c')
    gru     r, z = sigmoid(a_r), sigmoid(a_z);  n = tanh(projected_n + r * recurrent_n)
            h' = (1 - z) * n + z * h

Elman 1990; Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000; Cho et al.
2014 with the reset gate behind the product, as PyTorch and cuDNN have it. Kernels hold their gates
side by side in the order of `CELLS[...].gates`, which is PyTorch's.

Inside the functions time is the first axis, since a scan reads and writes it in that order; the
module takes and gives batches first.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs.layers.matmul import kernel_gradient, matmul

State = tuple[jax.Array, ...]
"""Of one layer: `(h,)`, or `(h, c)` for an LSTM, each [batch, hidden]."""

Gates = tuple[jax.Array, ...]
"""What a cell's `backward` needs of its `forward`: the gates in the order of the kernel's columns,
in one array or several, [batch, hidden] for each gate; last a GRU's `recurrent_n`."""


class Cell(NamedTuple):
    """The element by element part of a step, and its gradient written out.

    Attributes:
      gates: names of the gates, in the order of a kernel's columns.
      state: names of what the state holds.
      forward: `(projected, recurrent, state) -> (state, gates)`; see `rnn_forward`.
      backward: `(gradient, state, before, gates) -> (projected's, before's)`; see `rnn_backward`.
      to_recurrent: `(projected's gradient, gates) -> recurrent's gradient`, at one time or at all.
    """

    gates: tuple[str, ...]
    state: tuple[str, ...]
    forward: Callable[[jax.Array, jax.Array, State], tuple[State, Gates]]
    backward: Callable[[State, State, State, Gates], tuple[jax.Array, State]]
    to_recurrent: Callable[[jax.Array, Gates], jax.Array] = lambda gradient, gates: gradient


def rnn_forward(projected: jax.Array, recurrent: jax.Array, state: State) -> tuple[State, Gates]:
    """Returns the next state and the gates, all [batch, hidden].

    Args:
      projected: [batch, gates * hidden] from the input, bias included.
      recurrent: [batch, gates * hidden] from the state's h.
      state: before the step.
    """
    h = jnp.tanh(projected + recurrent)
    return (h,), (h,)


def rnn_backward(
    gradient: State, state: State, before: State, gates: Gates
) -> tuple[jax.Array, State]:
    """Returns the gradients of `projected` and of the state before the step.

    The latter leaves out what goes through `recurrent`. With d_y the gradient of y, in the
    equations at this module's head:

        d_a = d_h' (1 - h'^2)

    Args:
      gradient: of the state after the step.
      state: after the step.
      before: the state before it.
      gates: as `rnn_forward` returned them.
    """
    (d_h,), (h,) = gradient, gates
    return d_h * (1 - h * h), (jnp.zeros_like(d_h),)


def lstm_forward(projected: jax.Array, recurrent: jax.Array, state: State) -> tuple[State, Gates]:
    """See `rnn_forward`; the gates are i, f, g and o, in one array [batch, 4 * hidden]."""
    # All in one pass, since many small ones are slow on CPUs: sigmoid(a) = (1 + tanh(a / 2)) / 2.
    # It errs by up to 1e-7 however small the gate is.
    scale = _by_gate(state[0], 0.5, 0.5, 1, 0.5)
    joined = (1 - scale) + scale * jnp.tanh(scale * (projected + recurrent))
    i, f, g, o = jnp.split(joined, 4, axis=-1)
    c = f * state[1] + i * g
    return (o * jnp.tanh(c), c), (joined,)


def lstm_backward(
    gradient: State, state: State, before: State, gates: Gates
) -> tuple[jax.Array, State]:
    """See `rnn_backward`.

    d_c' gains d_h' o (1 - tanh(c')^2); then d_a_i = d_c' g i (1 - i), d_a_f = d_c' c f (1 - f),
    d_a_g = d_c' i (1 - g^2), d_a_o = d_h' tanh(c') o (1 - o), and d_c = d_c' f. Both slopes are
    (y - lowest) (1 - y): lowest is 0 for a sigmoid and -1 for tanh.
    """
    (d_h, d_c), (joined,) = gradient, gates
    i, f, g, o = jnp.split(joined, 4, axis=-1)
    tanh_c = jnp.tanh(state[1])
    d_c = d_c + d_h * o * (1 - tanh_c * tanh_c)
    d_gates = jnp.concatenate([d_c, d_c, d_c, d_h], axis=-1)
    d_gates *= jnp.concatenate([g, before[1], i, tanh_c], axis=-1)
    lowest = _by_gate(d_h, 0, 0, -1, 0)
    return d_gates * (joined - lowest) * (1 - joined), (jnp.zeros_like(d_h), d_c * f)


def _by_gate(like: jax.Array, *values: float) -> jax.Array:
    """Returns [1, gates * hidden]: each value in all columns of its gate, as wide as `like`."""
    return jnp.repeat(jnp.asarray(values, like.dtype), like.shape[-1])[None, :]


def gru_forward(projected: jax.Array, recurrent: jax.Array, state: State) -> tuple[State, Gates]:
    """See `rnn_forward`; r and z are in one array [batch, 2 * hidden], then n, `recurrent_n`."""
    both = 2 * state[0].shape[-1]
    projected_n, recurrent_n = projected[:, both:], recurrent[:, both:]
    r_z = nn.sigmoid(projected[:, :both] + recurrent[:, :both])
    r, z = jnp.split(r_z, 2, axis=-1)
    n = jnp.tanh(projected_n + r * recurrent_n)
    return (n + z * (state[0] - n),), (r_z, n, recurrent_n)


def gru_backward(
    gradient: State, state: State, before: State, gates: Gates
) -> tuple[jax.Array, State]:
    """See `rnn_backward`.

    d_a_n = d_h' (1 - z) (1 - n^2), d_a_z = d_h' (h - n) z (1 - z), d_a_r = d_a_n recurrent_n
    r (1 - r), and d_h = d_h' z.
    """
    (d_h,), (r_z, n, recurrent_n) = gradient, gates
    _, z = jnp.split(r_z, 2, axis=-1)
    d_n = d_h * (1 - z) * (1 - n * n)
    d_r_z = jnp.concatenate([d_n * recurrent_n, d_h * (before[0] - n)], axis=-1)
    return jnp.concatenate([d_r_z * r_z * (1 - r_z), d_n], axis=-1), (d_h * z,)


def gru_to_recurrent(d_projected: jax.Array, gates: Gates) -> jax.Array:
    """Returns the gradient of `recurrent`, whose candidate goes through the reset gate."""
    d_r, d_z, d_n = jnp.split(d_projected, 3, axis=-1)
    r, _ = jnp.split(gates[0], 2, axis=-1)
    return jnp.concatenate([d_r, d_z, d_n * r], axis=-1)


CELLS = {
    "rnn": Cell(("candidate",), ("h",), rnn_forward, rnn_backward),
    "lstm": Cell(
        ("input", "forget", "candidate", "output"), ("h", "c"), lstm_forward, lstm_backward
    ),
    "gru": Cell(
        ("reset", "update", "candidate"), ("h",), gru_forward, gru_backward, gru_to_recurrent
    ),
}
"""By the name that settings give them."""


def rnn_scan(
    cell: str,
    projected: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    state: State,
    mask: jax.Array | None = None,
    *,
    reverse: bool = False,
    precision: str = "default",
) -> tuple[jax.Array, State]:
    """Takes a cell through time.

    Differentiated by hand: the way back reads the gates that the way forth has left, and sums over
    time once, in one product of matrices, what autodiff adds up into the kernel's gradient step by
    step.

    Args:
      cell: a name in `CELLS`.
      projected: [time, batch, gates * hidden] the input times its kernel, with its bias.
      kernel: [hidden, gates * hidden] of h.
      bias: [gates * hidden] added to what the state says, or None; a GRU's candidate needs one.
      state: before the first step; [batch, hidden] each.
      mask: [time, batch] bool, False for padding, which leaves the state as it is; None: no
        padding.
      reverse: from the last time to the first.
      precision: see `jaxlabs.layers.matmul`.

    Returns:
      h [time, batch, hidden] after every step, and the state after all of them.
    """
    return _recur(CELLS[cell], reverse, precision, projected, kernel, bias, state, mask)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _recur(cell, reverse, precision, projected, kernel, bias, state, mask):
    def advance(state, inputs):
        state, _ = cell_step(cell, precision, *inputs, kernel, bias, state)
        return state, state[0]

    last, h = jax.lax.scan(advance, state, (projected, mask), reverse=reverse)
    return h, last


def _recur_forward(cell, reverse, precision, projected, kernel, bias, state, mask):
    def advance(state, inputs):
        state, gates = cell_step(cell, precision, *inputs, kernel, bias, state)
        return state, (state, gates)

    last, (states, gates) = jax.lax.scan(advance, state, (projected, mask), reverse=reverse)
    return (states[0], last), (kernel, bias, state, mask, states, gates)


def _recur_backward(cell, reverse, precision, residuals, gradients):
    kernel, bias, first, mask, states, gates = residuals
    transposed = kernel.T
    before = jax.tree.map(functools.partial(_shift, reverse=reverse), first, states)

    def retreat(gradient, inputs):
        d_h, state, before, gates, present = inputs
        gradient = (gradient[0] + d_h, *gradient[1:])
        through = _where(present, gradient, jax.tree.map(jnp.zeros_like, gradient))
        d_projected, past = cell.backward(through, state, before, gates)
        d_recurrent = cell.to_recurrent(d_projected, gates)
        d_h = past[0] + matmul(d_recurrent, transposed, precision)
        return _where(present, (d_h, *past[1:]), gradient), d_projected

    d_h, d_last = gradients
    inputs = (d_h, states, before, gates, mask)
    d_first, d_projected = jax.lax.scan(retreat, d_last, inputs, reverse=not reverse)
    rows = cell.to_recurrent(d_projected, gates).reshape(-1, kernel.shape[1])
    d_kernel = kernel_gradient(before[0], rows, precision)
    d_bias = None if bias is None else rows.sum(0)
    return d_projected, d_kernel, d_bias, d_first, None


_recur.defvjp(_recur_forward, _recur_backward)


def cell_step(
    cell: Cell,
    precision: str,
    projected: jax.Array,
    present: jax.Array | None,
    kernel: jax.Array,
    bias: jax.Array | None,
    state: State,
) -> tuple[State, Gates]:
    """Takes one step with `projected [batch, gates * hidden]`, see `rnn_scan`, where `present`."""
    recurrent = matmul(state[0], kernel, precision)
    recurrent = recurrent if bias is None else recurrent + bias[None, :]
    new, gates = cell.forward(projected, recurrent, state)
    return _where(present, new, state), gates


def _where(present: jax.Array | None, chosen: State, other: State) -> State:
    """Returns rows of `chosen` where `present [batch]`, of `other` elsewhere."""
    if present is None:
        return chosen
    return jax.tree.map(lambda a, b: jnp.where(present[:, None], a, b), chosen, other)


def _shift(first: jax.Array, states: jax.Array, *, reverse: bool) -> jax.Array:
    """Returns the state before each step from that after it, [time, batch, hidden]."""
    parts = [states[1:], first[None]] if reverse else [first[None], states[:-1]]
    return jnp.concatenate(parts)
