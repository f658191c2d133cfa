"""An LSTM's memory from the inside: its gradient along the cell and around it, and its gates.

From `c_t = f_t c_{t-1} + i_t g_t` follows, unit by unit and exactly,

    dL/dc_{t-1} = f_t dL/dc_t  +  o_{t-1} (1 - tanh(c_{t-1})^2) dL/dh_{t-1}

with total derivatives on both sides. The first term is the path along the cell: alone, it makes
`dL/dc_t` the gradient at the end times the product of the forget gates in between (Hochreiter and
Schmidhuber 1997; the forget gate by Gers et al. 2000). The second is what goes through h, into the
gates and candidates of later steps.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.analysis.functional_rnn import Params, trace
from jaxlabs.analysis.dynamics import Loss, answer_loss, state_gradients
from jaxlabs.layers.rnn_cells import CELLS

GATES = {"lstm": ("input", "forget", "output"), "gru": ("reset", "update")}
"""The gates that are shown: those between 0 and 1."""


class Paths(NamedTuple):
    """The gradient of a loss by an LSTM's c, `[time, batch, hidden]` each.

    Attributes:
      total: by every c, through all that it leads to.
      product: the total of the last step times the forget gates between; the path along the cell.
    """

    total: jax.Array
    product: jax.Array


def cell_paths(
    params: Params, inputs: jax.Array, loss: Loss, *, stop_gate_gradients: bool = False
) -> Paths:
    """Differentiates a loss of the last h by every c, and multiplies the forget gates.

    Args:
      params: of an LSTM.
      inputs: `[batch, time, inputs]`, in the parameters' dtype.
      loss: see `state_gradients`.
      stop_gate_gradients: whether h counts as a constant where it makes gates and candidates. Then
        the total is the product.
    """
    (_, c), gates = trace("lstm", params, inputs)
    forget, output = (gates[CELLS["lstm"].gates.index(name)] for name in ("forget", "output"))
    by_h, by_c = state_gradients(
        "lstm", params, inputs, loss, stop_gate_gradients=stop_gate_gradients
    )
    total = by_c + by_h * output * (1 - jnp.square(jnp.tanh(c)))
    later = jnp.concatenate([forget[1:], jnp.ones_like(forget[:1])])
    return Paths(total, total[-1:] * jnp.cumprod(later[::-1], axis=0)[::-1])


def paths_study(
    networks: Mapping[str, Params], inputs: np.ndarray, targets: np.ndarray
) -> dict[str, np.ndarray]:
    """Measures both paths of LSTMs in float64, as the gradient of their last answer takes them.

    Args:
      networks: name -> parameters.
      inputs: `[batch, time, inputs]`.
      targets: `[batch]` of the answer.

    Returns:
      `names`; `total`, `product` and `others [network, time]`: the norm of the gradient by c, of
      its path along the cell and of what the other paths add, each as a share of the gradient by
      the last c, median over sequences; `forget [network]`, the mean forget gate; `held_error
      [network]`, the largest relative difference of total and product with gates held.
    """
    rows: dict[str, list] = {}
    with jax.enable_x64(True):
        inputs, targets = jnp.float64(inputs), jnp.float64(targets)

        @jax.jit
        def measure(params: Params):
            loss = answer_loss(params, targets)
            paths = cell_paths(params, inputs, loss)
            held = cell_paths(params, inputs, loss, stop_gate_gradients=True)
            gates = trace("lstm", params, inputs).gates
            others = paths.total - paths.product
            parts = {"total": paths.total, "product": paths.product, "others": others}
            norms = {name: jnp.linalg.norm(part, axis=-1) for name, part in parts.items()}
            shares = {
                name: jnp.median(norm / norms["total"][-1:], axis=1) for name, norm in norms.items()
            }
            errors = jnp.linalg.norm(held.total - held.product, axis=-1) / jnp.linalg.norm(
                held.product, axis=-1
            )
            forget = gates[CELLS["lstm"].gates.index("forget")]
            return shares | {"held_error": jnp.max(errors), "forget": jnp.mean(forget)}

        for params in networks.values():
            found = measure(jax.tree.map(jnp.float64, dict(params)))
            for name, value in found.items():
                rows.setdefault(name, []).append(np.asarray(value))
    return {"names": np.array(list(networks))} | {name: np.stack(row) for name, row in rows.items()}


def gate_pictures(
    networks: Mapping[str, tuple[str, Params]], inputs: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the gates of one sequence `inputs [1, time, inputs]` by `<name>_<gate>`.

    Each is `[hidden, time]`, the units in the order of their mean keeping (forget or update) gate.
    `marks` are the steps whose second input is 1, as the adding problem has them.
    """
    found = {"marks": np.flatnonzero(inputs[0, :, 1]), "names": np.array(list(networks))}
    for name, (cell, params) in networks.items():
        gates = jax.jit(lambda params, cell=cell: trace(cell, params, inputs).gates)(params)
        by_name = dict(zip(CELLS[cell].gates, np.asarray(gates)[:, :, 0], strict=False))
        keeping = by_name["forget" if cell == "lstm" else "update"]
        order = np.argsort(-keeping.mean(axis=0))
        found |= {f"{name}_{gate}": by_name[gate][:, order].T for gate in GATES[cell]}
    return found
