"""Multi-layer RNNs, unidirectional or bidirectional, over batches of padded sequences.

The cells' equations and the scan over time are in `jaxlabs.layers.rnn_cells`. The input projection
is one matmul for all timesteps, so that the scan multiplies by the recurrent kernel alone. Not
`nn.RNN`, which takes 1.2 to 1.5 times as long on CPUs and has no access to single states.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxlabs.layers.cpu import dispatch
from jaxlabs.layers.cpu.rnn_scan import rnn_scan
from jaxlabs.layers.dropout import Dropout
from jaxlabs.layers.dtypes import at_least_float32, cast, output_precision
from jaxlabs.layers.initializers import Initializer, uniform_init
from jaxlabs.layers.matmul import matmul
from jaxlabs.layers.rnn_cells import (
    CELLS,
    State,
    Trace,
    cell_step,
    from_rows,
    scan_cell,
    to_rows,
)

RECURRENT_INITS = ("uniform", "orthogonal")


def zero_state(
    cell: str, hidden_size: int, count: int, batch_size: int, dtype: Any = jnp.float32
) -> tuple[State, ...]:
    """Returns the zero states of `count` layers, a tuple of `State`."""
    zeros = jnp.zeros((batch_size, hidden_size), dtype)
    return ((zeros,) * len(CELLS[cell].state),) * count


class RecurrentLayer(nn.Module):
    """One cell with its parameters: `input_kernel`, `recurrent_kernel`, `bias`.

    Time-major, as `jax.lax.scan` is, except for `trace`.
    """

    cell: str  #: a name in `CELLS`
    features: int  #: input size
    hidden_size: int  #: size of the state
    reverse: bool = False  #: whether the scan runs backward in time
    recurrent_init: str = "uniform"  #: initialization of `recurrent_kernel`; see `Recurrent`
    #: whether a GRU also has `candidate_bias [hidden_size]`, which its reset gate multiplies, as
    #: PyTorch's has
    candidate_bias: bool = True
    precision: str = "default"  #: see `jaxlabs.layers.matmul`
    #: of the operands of matmuls; gates and states are in at least float32, as sums over time. See
    #: `jaxlabs.layers.dtypes`
    dtype: DTypeLike | None = None

    def setup(self):
        self.matmul_precision = output_precision(self.precision, self.dtype)
        gates_size = len(CELLS[self.cell].gates) * self.hidden_size
        uniform = uniform_init(self.hidden_size**-0.5)
        orthogonal = functools.partial(_orthogonal_blocks, hidden_size=self.hidden_size)
        kernel_init = orthogonal if self.recurrent_init == "orthogonal" else uniform
        shape = (self.features, gates_size)
        self.input_kernel = self.param("input_kernel", uniform, shape, jnp.float32)
        shape = (self.hidden_size, gates_size)
        self.recurrent_kernel = self.param("recurrent_kernel", kernel_init, shape, jnp.float32)
        bias_init = _forget_bias_init(uniform) if self.cell == "lstm" else uniform
        self.bias = self.param("bias", bias_init, (gates_size,), jnp.float32)
        self.recurrent_bias = None
        if self.cell == "gru" and self.candidate_bias:
            bias = self.param("candidate_bias", uniform, (self.hidden_size,), jnp.float32)
            self.recurrent_bias = jnp.pad(bias, (2 * self.hidden_size, 0))

    def __call__(
        self,
        x: jax.Array,
        state: State,
        mask: jax.Array | None = None,
        tokens: jax.Array | None = None,
    ) -> tuple[jax.Array, State]:
        """Scans over `x [time, batch, features]`; returns h of every step and the final state.

        The states are [batch, hidden_size] each. The mask is [time, batch] bool, False for padding;
        None: no padding. With tokens [time, batch], x is a table; see `project_rows`.
        """

        def on_cpu(*operands):
            return rnn_scan(self.cell, self.reverse, self.matmul_precision, *operands)

        def plain(*operands):
            options = {"reverse": self.reverse, "precision": self.matmul_precision}
            states = scan_cell(self.cell, *operands, **options).states
            return states[0], tuple(each[0 if self.reverse else -1] for each in states)

        input_gates = self.project_inputs(x) if tokens is None else self.project_rows(x, tokens)
        operands = input_gates, self.recurrent_kernel, self.recurrent_bias, state, mask
        return dispatch.by_platform(*operands, cpu=on_cpu, default=plain)

    def trace(
        self, x: jax.Array, perturbations: State | None = None, *, stop_gate_gradients: bool = False
    ) -> Trace:
        """Returns all states and gates from the zero state, `[batch, time, hidden_size]` each.

        The input is `x [batch, time, features]`, the `perturbations` of `scan_cell` are `[batch,
        time, hidden_size]` each; None: zeros.
        """
        (state,) = zero_state(self.cell, self.hidden_size, 1, len(x), at_least_float32(x).dtype)
        trace = scan_cell(
            self.cell,
            self.project_inputs(jnp.swapaxes(x, 0, 1)),
            self.recurrent_kernel,
            self.recurrent_bias,
            state,
            reverse=self.reverse,
            precision=self.matmul_precision,
            perturbations=jax.tree.map(lambda each: jnp.swapaxes(each, 0, 1), perturbations),
            stop_gate_gradients=stop_gate_gradients,
        )
        return jax.tree.map(lambda each: jnp.swapaxes(each, 0, 1), trace)

    def step(self, x: jax.Array, state: State) -> State:
        """Takes one step with `x [batch, features]`; returns the new state."""
        input_gates = self.project_inputs(x[None])[0]
        operands = input_gates, None, self.recurrent_kernel, self.recurrent_bias, state
        return cell_step(self.cell, self.matmul_precision, *operands)[0]

    def project_inputs(self, x: jax.Array) -> jax.Array:
        """Returns the part of `x [time, batch, features]` in all gates, `[..., gates * hidden]`."""
        return _project(x, self.input_kernel, self.bias, precision=self.matmul_precision)

    def project_rows(self, table: jax.Array, tokens: jax.Array) -> jax.Array:
        """Returns `project_inputs` of the rows of `table [count, features]` at `[time, batch]`.

        On CPUs a table with far fewer rows than tokens is projected as a whole.
        """
        project = functools.partial(_project, precision=self.matmul_precision)

        def whole_table(table, *parameters):
            gates = project(cast(table, self.dtype)[None], *parameters)[0]
            return jnp.take(gates, tokens, axis=0)

        def rows(table, *parameters):
            return project(cast(jnp.take(table, tokens, axis=0), self.dtype), *parameters)

        cpu = whole_table if dispatch.projects_table(len(table), *tokens.shape) else rows
        operands = table, self.input_kernel, self.bias
        return dispatch.by_platform(*operands, cpu=cpu, default=rows)


def _project(x: jax.Array, kernel: jax.Array, bias: jax.Array, *, precision: str) -> jax.Array:
    gates = matmul(to_rows(x), kernel, precision)
    return from_rows(gates, *x.shape[:2]) + bias[None, None, :]


class Recurrent(nn.Module):
    """A multi-layer RNN, unidirectional or bidirectional, over batches of padded sequences."""

    cell: str  #: a name in `CELLS`
    features: int  #: input size
    hidden_size: int  #: size of each state
    num_layers: int = 1  #: number of stacked layers
    #: whether every layer also scans backward; the outputs of both directions are concatenated,
    #: [..., 2 * hidden_size]
    bidirectional: bool = False
    dropout: float = 0.0  #: dropout rate between layers
    #: "uniform", within +-1 / sqrt(hidden_size) as in PyTorch; "orthogonal", gate by gate. All
    #: other parameters are uniform, except an LSTM's forget bias of 1 (Jozefowicz et al. 2015)
    recurrent_init: str = "uniform"
    precision: str = "default"  #: see `jaxlabs.layers.matmul`
    #: of the output and of the operands of matmuls; the states are in at least float32
    dtype: DTypeLike | None = None

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
                dtype=self.dtype,
            )
            for number in range(self.num_layers * directions)
        ]
        self.between = [Dropout(self.dropout) for _ in range(self.num_layers - 1)]

    def __call__(
        self,
        x: jax.Array,
        states: tuple[State, ...] | None = None,
        *,
        tokens: jax.Array | None = None,
        mask: jax.Array | None = None,
        dropout_keys: jax.Array | None = None,
    ) -> tuple[jax.Array, tuple[State, ...]]:
        """Computes all layers over whole sequences.

        A padded step keeps the state and has the output 0, so the backward direction starts at a
        sequence's last valid step, wherever its padding is.

        Args:
          x: [batch, time, features]; with tokens, an embedding table [count, features] in float32.
          tokens: [batch, time] integers, the rows of the table that are the input.
          states: initial states of every layer and direction, from `zero_state` or a previous call;
            None: zeros.
          mask: [batch, time] bool, False for padding; None: no padding.
          dropout_keys: [batch] PRNG keys; None switches dropout off.

        Returns:
          The output of the last layer, [batch, time, directions * hidden_size], and the final
          states.

        Raises:
          ValueError: the sequences have length 0, or x is not a table although there are tokens.
        """
        if tokens is not None and x.ndim != 2:
            raise ValueError(f"tokens select rows of a table [count, features]; found {x.shape}")
        batch, time = x.shape[:2] if tokens is None else tokens.shape
        if time == 0:
            raise ValueError("a sequence of length 0 has no state to return; at least 1 step")
        if states is None:
            layers, dtype = len(self.stack), at_least_float32(x).dtype
            states = zero_state(self.cell, self.hidden_size, layers, batch, dtype)
        directions = 1 + self.bidirectional
        mask = None if mask is None else mask.T
        tokens = None if tokens is None else tokens.T
        x = jnp.swapaxes(x, 0, 1) if tokens is None else x
        final_states = []
        for number in range(self.num_layers):
            layer_slice = slice(number * directions, (number + 1) * directions)
            pairs = zip(self.stack[layer_slice], states[layer_slice], strict=True)
            results = (layer(x, state, mask, tokens) for layer, state in pairs)
            outputs, last = zip(*results, strict=True)
            tokens = None
            final_states += last
            x = jnp.concatenate(outputs, axis=-1) if self.bidirectional else outputs[0]
            x = cast(x, self.dtype)
            if mask is not None:
                x = jnp.where(mask[:, :, None], x, 0)
            if number < self.num_layers - 1:
                x = jnp.swapaxes(self.between[number](jnp.swapaxes(x, 0, 1), dropout_keys), 0, 1)
        return jnp.swapaxes(x, 0, 1), tuple(final_states)

    def step(self, x: jax.Array, states: tuple[State, ...]) -> tuple[jax.Array, tuple[State, ...]]:
        """Takes one step with `x [batch, features]`, without dropout.

        Returns:
          The output [batch, hidden_size] and the new states.

        Raises:
          ValueError: the module is bidirectional.
        """
        if self.bidirectional:
            raise ValueError("a bidirectional network cannot decode step by step")
        new_states = []
        for layer, state in zip(self.stack, states, strict=True):
            new_states.append(layer.step(x, state))
            x = cast(new_states[-1][0], self.dtype)
        return x, tuple(new_states)


def _forget_bias_init(init: Initializer) -> Initializer:
    """Returns the initializer of an LSTM's bias: 1 for the forget gate, `init` for the others."""

    def forget_bias_init(key: jax.Array, shape: tuple[int], dtype: Any = jnp.float32) -> jax.Array:
        quarter = shape[0] // 4
        return init(key, shape, dtype).at[quarter : 2 * quarter].set(1)

    return forget_bias_init


def _orthogonal_blocks(
    key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32, *, hidden_size: int
) -> jax.Array:
    """Samples an orthogonal matrix for each gate (Saxe et al. 2014)."""
    # One at a time: a batched QR on CPUs waits for threads of the pool that it runs on, and two of
    # them at the same time can deadlock.
    init, gates = nn.initializers.orthogonal(), shape[1] // hidden_size
    blocks = [init(k, (hidden_size, hidden_size), dtype) for k in jax.random.split(key, gates)]
    return jnp.concatenate(blocks, axis=1)
