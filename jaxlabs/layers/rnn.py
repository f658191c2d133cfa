"""Layers of recurrent cells, forth or forth and back, over batches of padded sequences.

The cells' equations and the scan over time stand in `jaxlabs.layers.rnn_cells`. What the
input says to the gates is one product for all times, so that the scan multiplies by the recurrent
kernel alone. A layer has time as its first axis, the module around the layers has batches first.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs.layers.dropout import Dropout
from jaxlabs.layers.matmul import Initializer, matmul, within
from jaxlabs.layers.rnn_cells import CELLS, State, cell_step, rnn_scan

RECURRENT_INITS = ("uniform", "orthogonal")


def zero_state(
    cell: str, hidden_size: int, count: int, batch_size: int, dtype: Any = jnp.float32
) -> tuple[State, ...]:
    """Returns the states of `count` layers that have read nothing, a tuple of `State`."""
    zeros = jnp.zeros((batch_size, hidden_size), dtype)
    return ((zeros,) * len(CELLS[cell].state),) * count


class RecurrentLayer(nn.Module):
    """One cell with its parameters: `input_kernel`, `recurrent_kernel`, `bias`.

    A GRU also has `candidate_bias [hidden]`, which the reset gate multiplies.

    Attributes:
      cell: a name in `CELLS`.
      features: size of the input's last axis.
      hidden: size of the state.
      reverse: whether time runs from the last to the first.
      recurrent_init: how `recurrent_kernel` starts; see `Recurrent`.
      precision: see `jaxlabs.layers.matmul`.
    """

    cell: str
    features: int
    hidden_size: int
    reverse: bool = False
    recurrent_init: str = "uniform"
    precision: str = "default"

    def setup(self):
        width = len(CELLS[self.cell].gates) * self.hidden_size
        uniform = within(self.hidden_size**-0.5)
        orthogonal = functools.partial(_orthogonal_blocks, hidden_size=self.hidden_size)
        kernel_init = orthogonal if self.recurrent_init == "orthogonal" else uniform
        self.input_kernel = self.param("input_kernel", uniform, (self.features, width), jnp.float32)
        self.recurrent_kernel = self.param(
            "recurrent_kernel", kernel_init, (self.hidden_size, width), jnp.float32
        )
        bias_init = _forget_bias_init(uniform) if self.cell == "lstm" else uniform
        self.bias = self.param("bias", bias_init, (width,), jnp.float32)
        if self.cell == "gru":
            self.candidate_bias = self.param(
                "candidate_bias", uniform, (self.hidden_size,), jnp.float32
            )

    def __call__(
        self, x: jax.Array, state: State, mask: jax.Array | None = None
    ) -> tuple[jax.Array, State]:
        """Reads `x [time, batch, features]`; returns h after every step and the last state.

        Args:
          x: the input, time first.
          state: before the first step.
          mask: [time, batch] bool, False for padding; None: no padding.
        """
        return rnn_scan(
            self.cell,
            self.project(x),
            self.recurrent_kernel,
            self.recurrent_bias(),
            state,
            mask,
            reverse=self.reverse,
            precision=self.precision,
        )

    def step(self, x: jax.Array, state: State) -> State:
        """Reads `x [batch, features]`; returns the state after it."""
        projected = self.project(x[None])[0]
        kernel, bias = self.recurrent_kernel, self.recurrent_bias()
        cell = CELLS[self.cell]
        return cell_step(cell, self.precision, projected, None, kernel, bias, state)[0]

    def project(self, x: jax.Array) -> jax.Array:
        """Returns what `x [time, batch, features]` says to all gates, one product for all times."""
        return matmul(x, self.input_kernel, self.precision) + self.bias[None, None, :]

    def recurrent_bias(self) -> jax.Array | None:
        """The bias inside the reset gate's product, [gates * hidden]; None for other cells."""
        if self.cell != "gru":
            return None
        return jnp.pad(self.candidate_bias, (2 * self.hidden_size, 0))


class Recurrent(nn.Module):
    """Layers of cells, forth or forth and back, over batches of padded sequences.

    Attributes:
      cell: a name in `CELLS`.
      features: size of the input's last axis.
      hidden: size of each state.
      layers: how many stand on one another.
      bidirectional: every layer also reads from the last step to the first; outputs stand side by
        side, [..., 2 * hidden].
      dropout: rate on what a layer hands to the next.
      learn_initial_state: the first state is a parameter, and zero otherwise.
      recurrent_init: "uniform", within +-1 / sqrt(hidden) as in PyTorch and as all else, but for an
        LSTM's forget bias of 1 (Jozefowicz et al. 2015); "orthogonal", gate by gate.
      precision: see `jaxlabs.layers.matmul`.
    """

    cell: str
    features: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    dropout: float = 0.0
    learn_initial_state: bool = False
    recurrent_init: str = "uniform"
    precision: str = "default"

    def setup(self):
        directions = 1 + self.bidirectional
        self.stack = [
            RecurrentLayer(
                cell=self.cell,
                features=self.features if number < directions else directions * self.hidden_size,
                hidden_size=self.hidden_size,
                reverse=number % directions == 1,
                recurrent_init=self.recurrent_init,
                precision=self.precision,
            )
            for number in range(self.num_layers * directions)
        ]
        self.between = [Dropout(self.dropout) for _ in range(self.num_layers - 1)]
        if self.learn_initial_state:
            shape = (len(self.stack), len(CELLS[self.cell].state), self.hidden_size)
            self.first = self.param("first_state", nn.initializers.zeros_init(), shape, jnp.float32)

    def initial_state(self, batch_size: int, dtype: Any = jnp.float32) -> tuple[State, ...]:
        """Returns the states before anything is read, one for every layer and direction."""
        states = zero_state(self.cell, self.hidden_size, len(self.stack), batch_size, dtype)
        if not self.learn_initial_state:
            return states
        first = self.first.astype(dtype)
        rows = [[first[i, j][None, :] for j in range(len(s))] for i, s in enumerate(states)]
        return tuple(
            tuple(jnp.broadcast_to(row, (batch_size, self.hidden_size)) for row in layer)
            for layer in rows
        )

    def __call__(
        self,
        x: jax.Array,
        states: tuple[State, ...] | None = None,
        *,
        mask: jax.Array | None = None,
        dropout_keys: jax.Array | None = None,
    ) -> tuple[jax.Array, tuple[State, ...]]:
        """Reads whole sequences.

        A padded step leaves the state as it is and puts out 0; the way back thus begins at a
        sequence's last real step, wherever its padding lies.

        Args:
          x: [batch, time, features].
          states: before the first step, as this or `initial_state` returned them; None: the
            initial ones.
          mask: [batch, time] bool, False for padding; None: no padding.
          dropout_keys: [batch] PRNG keys; None switches dropout off.

        Returns:
          What the last layer puts out, [batch, time, directions * hidden], and the states after
          all steps.

        Raises:
          ValueError: there is no step to take.
        """
        if x.shape[1] == 0:
            raise ValueError("a sequence of length 0 has no state to return; at least 1 step")
        states = self.initial_state(x.shape[0], jnp.result_type(x)) if states is None else states
        directions = 1 + self.bidirectional
        mask = None if mask is None else mask.T
        x = jnp.swapaxes(x, 0, 1)
        after = []
        for number in range(self.num_layers):
            place = slice(number * directions, (number + 1) * directions)
            pairs = zip(self.stack[place], states[place], strict=True)
            outputs, last = zip(*(layer(x, state, mask) for layer, state in pairs), strict=True)
            after += last
            x = jnp.concatenate(outputs, axis=-1) if self.bidirectional else outputs[0]
            if mask is not None:
                x = jnp.where(mask[:, :, None], x, 0)
            if number < self.num_layers - 1:
                x = jnp.swapaxes(self.between[number](jnp.swapaxes(x, 0, 1), dropout_keys), 0, 1)
        return jnp.swapaxes(x, 0, 1), tuple(after)

    def step(self, x: jax.Array, states: tuple[State, ...]) -> tuple[jax.Array, tuple[State, ...]]:
        """Reads one step, `x [batch, features]`; forward in time only, without dropout.

        Returns:
          The output [batch, hidden] and the states after it.

        Raises:
          ValueError: the module reads backwards too.
        """
        if self.bidirectional:
            raise ValueError("a bidirectional network cannot go step by step")
        after = []
        for layer, state in zip(self.stack, states, strict=True):
            state = layer.step(x, state)
            x = state[0]
            after.append(state)
        return x, tuple(after)


def _forget_bias_init(init: Initializer) -> Initializer:
    """Returns the initializer of an LSTM's bias: 1 for the forget gate, `init` for the others."""

    def forget_one(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        quarter = shape[0] // 4
        return init(key, shape, dtype).at[quarter : 2 * quarter].set(1)

    return forget_one


def _orthogonal_blocks(
    key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32, *, hidden_size: int
) -> jax.Array:
    """Draws an orthogonal matrix for each gate (Saxe et al. 2014)."""
    # One by one: of a batch, a CPU's factorization waits for threads of the pool that runs it, and
    # two such layers side by side can wait for each other for ever.
    draw, gates = nn.initializers.orthogonal(), shape[1] // hidden_size
    blocks = [draw(k, (hidden_size, hidden_size), dtype) for k in jax.random.split(key, gates)]
    return jnp.concatenate(blocks, axis=1)
