"""The gradient of an LSTM along its cell state and along other paths, and its gate activations.

From `c_t = f_t c_{t-1} + i_t g_t` follows exactly, for each unit,

    dL/dc_{t-1} = f_t dL/dc_t  +  o_{t-1} (1 - tanh(c_{t-1})^2) dL/dh_{t-1}

with total derivatives on both sides. The first term is the path along the cell state: alone, it
makes `dL/dc_t` the final gradient times the product of the forget gates in between (Hochreiter and
Schmidhuber 1997; the forget gate by Gers et al. 2000). The second term is the path through h, into
the gates and candidates of later steps.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.analysis.toy_training import stack
from jaxlabs.labs.rnn_dynamics.dynamics import Loss, final_output_loss, state_gradients
from jaxlabs.labs.rnn_dynamics.network import Params, trace
from jaxlabs.layers.rnn_cells import CELLS

GATES = {"lstm": ("input", "forget", "output"), "gru": ("reset", "update")}
"""Gates in the plots: those with values between 0 and 1."""


class Paths(NamedTuple):
    """The gradient of a loss with respect to every c of an LSTM, `[batch, time, hidden]` each.

    The total derivative, and the path along the cell state: the final gradient times the product of
    the forget gates.
    """

    total: jax.Array
    product: jax.Array


def cell_paths(
    params: Params, inputs: jax.Array, loss: Loss, *, stop_gate_gradients: bool = False
) -> Paths:
    """Returns the gradient of a loss with respect to every c, and its path along the cell state.

    The arguments are those of `state_gradients`. With `stop_gate_gradients`, without the gradient
    from gates and candidates to h, the total equals the product.
    """
    (_, c), (_, forget, _, output) = trace("lstm", params, inputs)
    options = {"stop_gate_gradients": stop_gate_gradients}
    by_h, by_c = state_gradients("lstm", params, inputs, loss, **options)
    total = by_c + by_h * output * (1 - jnp.square(jnp.tanh(c)))
    later = jnp.concatenate([forget[:, 1:], jnp.ones_like(forget[:, :1])], axis=1)
    return Paths(total, total[:, -1:] * jnp.cumprod(later[:, ::-1], axis=1)[:, ::-1])


def paths_study(
    networks: Mapping[str, Params], inputs: np.ndarray, targets: np.ndarray
) -> dict[str, np.ndarray]:
    """Measures both gradient paths of LSTMs for the final output's loss, in float64.

    Args:
      networks: parameters by name.
      inputs: [batch, time, inputs].
      targets: [batch], of the final output.

    Returns:
      `names`; `total`, `product` and `others [network, time]`: the gradient norm with respect to c,
      of its path along the cell state and of the other paths, relative to that of the last c,
      median over sequences; `forget [network]`, the mean forget gate; `stop_gradient_error
      [network]`, the largest relative difference of total and product with stopped gate gradients.
    """

    @jax.jit
    def measure(params: Params) -> dict[str, jax.Array]:
        loss = final_output_loss(params, targets)
        total, product = cell_paths(params, inputs, loss)
        norm = functools.partial(jnp.linalg.norm, axis=-1)
        paths = {"total": total, "product": product, "others": total - product}
        last = norm(total)[:, -1:]
        relative = {name: jnp.median(norm(path) / last, axis=0) for name, path in paths.items()}
        stopped = cell_paths(params, inputs, loss, stop_gate_gradients=True)
        errors = norm(stopped.total - stopped.product) / norm(stopped.product)
        _, forget, *_ = trace("lstm", params, inputs).gates
        return relative | {"stop_gradient_error": jnp.max(errors), "forget": jnp.mean(forget)}

    with jax.enable_x64(True):
        inputs, targets = jnp.float64(inputs), jnp.float64(targets)
        rows = [measure(jax.tree.map(jnp.float64, dict(params))) for params in networks.values()]
        return {"names": np.array(list(networks))} | stack(rows)


def gate_activations(
    networks: Mapping[str, tuple[str, Params]], inputs: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the gates of one sequence `inputs [1, time, inputs]` by `<name>_<gate>`.

    Each is `[hidden, time]`, with units sorted by the mean of their forget or update gate.
    `markers` are the steps whose second input is 1, the markers of the adding problem.
    """
    arrays = {"markers": np.flatnonzero(inputs[0, :, 1]), "names": np.array(list(networks))}
    for name, (cell, params) in networks.items():
        gates = jax.jit(lambda params, cell=cell: trace(cell, params, inputs).gates)(params)
        by_name = dict(zip(CELLS[cell].gates, np.asarray(gates)[:, 0], strict=False))
        retention = by_name["forget" if cell == "lstm" else "update"].mean(axis=0)
        order = np.argsort(-retention)
        arrays |= {f"{name}_{gate}": by_name[gate][:, order].T for gate in GATES[cell]}
    return arrays
